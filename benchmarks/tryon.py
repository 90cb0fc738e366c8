"""A try-on's draft beside the usual recipe: pose, GrabCut at half size, one thin-plate warp, and a blend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
from PIL import Image
from scipy.interpolate import RBFInterpolator

from benchmarks.inputs import PROJECT
from benchmarks.table import Row, alternate
from body_pose import BodyPoses, Joint
from face_landmarks import FaceLandmarks
from garment_anchors import measure
from garment_cutout import cut_out
from tryon_pipeline import TryOnEngines, TryOnOptions, draft
from utils import RGBImage, as_float

FOLDER = PROJECT / "examples" / "try-on"
HEIGHTS = {1024: "<= 400 ms", 1536: "<= 1.2 s"}
"""Heights of the 3:4 photo in pixels, and the design's target for each."""
_ANCHORS = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP)
_GRID = 8


def rows(landmarks: FaceLandmarks, runs: int) -> list[Row]:
    """The bundled person in the bundled shirt, in this process; decoding is not counted."""
    poses = BodyPoses(pool_size=1)
    beside = ThreadPoolExecutor(1)
    engines = TryOnEngines(poses, landmarks.person_mask, beside=beside)
    shirt = np.asarray(Image.open(FOLDER / "shirt.png").convert("RGB"))
    found = []
    for height, target in HEIGHTS.items():
        photo = person(height)
        ours, usual = alternate(
            partial(draft, photo, shirt, TryOnOptions(), engines=engines),
            partial(recipe, photo, shirt, poses, landmarks),
            runs=runs,
        )
        what = f"try-on draft, {photo.shape[1]}x{height}"
        found.append(Row(what, f"{ours:.0f} ms", target, f"one thin-plate warp, GrabCut {usual:.0f} ms", usual / ours))
    beside.shutdown()
    poses.close()
    return found


def person(height: int) -> RGBImage:
    """The bundled person's photo as 3:4 of this height."""
    whole = np.asarray(Image.open(FOLDER / "person.png").convert("RGB"))
    side = whole.shape[1] * 3 // 4
    start = (whole.shape[1] - side) // 2
    cropped = np.ascontiguousarray(whole[:, start : start + side])
    return np.asarray(cv2.resize(cropped, (height * 3 // 4, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def recipe(photo: RGBImage, shirt: RGBImage, poses: BodyPoses, landmarks: FaceLandmarks) -> RGBImage:
    """What the public classical drafts do: no parts, no occlusion, no repair, no score."""
    height, width = photo.shape[:2]
    pose = poses.find(photo)
    assert pose is not None
    mask = cv2.resize(landmarks.person_mask(photo), (width // 2, height // 2))
    labels = np.where(mask > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[mask > 0.95], labels[mask < 0.05] = cv2.GC_FGD, cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(cv2.resize(photo, (width // 2, height // 2)), labels, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    inside = cv2.resize((labels & 1).astype(np.float32), (width, height))
    garment = measure(*cut_out(shirt), "auto")
    names = ("shoulder_right", "shoulder_left", "hem_right", "hem_left")
    onto = np.stack([pose.at(joint) for joint in _ANCHORS])
    back = RBFInterpolator(onto, np.stack([garment.at(name) for name in names]), kernel="thin_plate_spline")
    y, x = np.mgrid[: height // _GRID + 1, : width // _GRID + 1] * _GRID
    coarse = as_float(back(np.stack([x.ravel(), y.ravel()], axis=1))).reshape(*x.shape, 2)
    place = cv2.resize(coarse, (x.shape[1] * _GRID, x.shape[0] * _GRID))[:height, :width]
    warped = cv2.remap(garment.rgb, place, None, cv2.INTER_LINEAR)
    alpha = cv2.remap(garment.alpha, place, None, cv2.INTER_LINEAR)[..., None] / 255 * inside[..., None]
    return np.asarray(photo + alpha * (warped.astype(np.float32) - photo), np.uint8)
