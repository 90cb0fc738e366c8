"""Facial contours beside tracing the label map: time, nodes, and how well both cover the map."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import cv2
import numpy as np

from contour_geometry import Points
from contour_output import coverage, mask_indices
from contour_regions import REGIONS
from contour_svg import ContourOptions, FaceContours, facial_contours
from face_landmarks import FaceLandmarks
from utils import GrayImage, RGBImage

WARM_UP_RUNS = 3
IN_THE_PHOTO = ContourOptions(autorotate=False, crop=False)
CLASSES = {"brow_right": 2, "brow_left": 3, "eye_right": 4, "eye_left": 5, "nose": 10, "lip_upper": 12, "lip_lower": 13}
"""celebamask19's numbers of the regions that are compared."""
SKIN, MOUTH, HAIR = 1, 11, 17
HAIR_PX = 90


@dataclass(frozen=True, slots=True)
class Comparison:
    """milliseconds: median for all regions. nodes and IoU of the compared regions, ours and traced."""

    milliseconds: float
    nodes: int
    iou: float
    traced_nodes: int
    traced_iou: float


def compare(landmarks: FaceLandmarks, portrait: RGBImage, runs: int) -> Comparison:
    """All regions of the portrait's face from landmarks and a map of its size; decoding is not counted."""
    mesh = landmarks.detect(portrait)[0].mesh
    assert mesh is not None
    points, size = mesh.points[:, :2].astype(np.float64), (portrait.shape[1], portrait.shape[0])
    labels = draw_map(points, size)
    times = []
    for _ in range(WARM_UP_RUNS + runs):
        start = time.perf_counter()
        facial_contours(points, size, labels, ContourOptions())
        times.append((time.perf_counter() - start) * 1000)
    found = facial_contours(points, size, labels, IN_THE_PHOTO)
    ours, traced, ours_iou, traced_iou = 0, 0, [], []
    for region in found.regions:
        if region.id in CLASSES:
            truth = (labels == CLASSES[region.id]).astype(np.uint8)
            drawn = np.zeros_like(truth)
            for window, share in coverage(region, truth.shape):
                drawn[window] = share >= 0.5
            outlines, _ = cv2.findContours(truth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            outlined = cv2.fillPoly(np.zeros_like(truth), outlines, 1)
            ours, traced = ours + region.nodes, traced + sum(map(len, outlines))
            ours_iou.append(iou(drawn, truth))
            traced_iou.append(iou(np.asarray(outlined), truth))
    median = statistics.median(times[WARM_UP_RUNS:])
    return Comparison(median, ours, min(ours_iou), traced, min(traced_iou))


def draw_map(points: Points, size: tuple[int, int]) -> GrayImage:
    """A label map as a parser would give it: the mesh's own regions in pixels, and hair around them."""
    found: FaceContours = facial_contours(points, size, None, IN_THE_PHOTO)
    mask = mask_indices(found)
    table = np.full(256, SKIN, np.uint8)
    table[0] = 0
    for number, name in enumerate(REGIONS, start=1):
        table[number] = CLASSES.get(name, MOUTH if name == "mouth_inner" else SKIN)
    labels: GrayImage = table[mask]
    around = cv2.dilate((labels > 0).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=HAIR_PX) > 0
    around[int(points[168, 1]) :] = False
    labels[around & (labels == 0)] = HAIR
    return labels


def iou(one: GrayImage, other: GrayImage) -> float:
    """Intersection over union of two masks."""
    return float(((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum())
