"""How a pack's detector is led over a picture: two sizes under one suppression, a closer look, and settled points."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from face_crops import Halved
from face_detector import NOT_ASKED_FOR, Face, FaceDetector
from face_points import FirstSight, settled
from utils import AnyArray, FloatArray, RGBImage

FINE_SIDE = 640
"""Side in pixels of the main pass: what InsightFace's packs are published and measured at."""
CLOSE_LOOK_SIDE = 1280
"""Side of the pass over a large picture in which nothing was found: its faces may be a few pixels wide at 640."""
SECOND_LOOK_THRESHOLD = 0.3
"""A face that is looked at a second time is known to be there: it needs less confidence than one that isn't."""
MOST_SECOND_LOOKS = 50
"""In a crowd only so many faces, the largest, get a second look: it bounds the time of one picture."""
NMS_OVERLAP = 0.4
"""Boxes of two faces that overlap more are one face; insightface's value."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a detector found in one picture: unclipped boxes (N, 5) x1, y1, x2, y2, score, and points (N, 5, 2)."""

    boxes: FloatArray
    kps: FloatArray

    def scaled(self, factors: AnyArray) -> Candidates:
        """With x and y multiplied by `factors` (2,)."""
        factors = factors.astype(np.float32)
        boxes = np.hstack((self.boxes[:, :4] * np.tile(factors, 2), self.boxes[:, 4:]))
        return Candidates(boxes, self.kps * factors)


class SearchingDetector(FaceDetector):
    """A detector that looks at a picture in several sizes.

    Attributes:
        coarse_side: side in pixels of the second pass, which finds faces that fill the frame and are too large for the
            model in the main pass.
        fixed_side: the only size that the model takes, or None: then there is one pass, and no second look.
        det_threshold: least confidence where a call gives none.
    """

    coarse_side: int
    fixed_side: int | None = None
    det_threshold: float

    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        found = self._search(image_rgb, self.det_threshold if threshold is None else threshold)
        height, width = image_rgb.shape[:2]
        corners = np.clip(found.boxes[:, :4], 0, np.array([width, height, width, height], np.float32))
        areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        order = [int(i) for i in np.argsort(-areas, kind="stable") if areas[i] > 0]
        scale = FINE_SIDE / max(height, width)
        faces = []
        for rank, i in enumerate(order):
            sight = FirstSight(corners[i], found.kps[i], float(found.boxes[i, 4]), scale)
            looks_again = self.fixed_side is None and rank < MOST_SECOND_LOOKS
            kps = settled(image_rgb, sight, self._see) if looks_again else sight.kps
            faces.append(Face(sight.box, kps, sight.score, unavailable=NOT_ASKED_FOR))
        return faces

    def _search(self, image_rgb: RGBImage, least: float) -> Candidates:
        """The picture's faces. A large picture gets a closer look only if nothing was found."""
        if self.fixed_side is not None:
            return self._look(image_rgb, (self.fixed_side,), least)
        found = self._look(image_rgb, (FINE_SIDE, self.coarse_side), least)
        if not len(found.boxes) and max(image_rgb.shape[:2]) > FINE_SIDE:
            return self._look(image_rgb, (CLOSE_LOOK_SIDE,), least)
        return found

    def _look(self, image_rgb: RGBImage, sides: Sequence[int], threshold: float) -> Candidates:
        """Passes over the picture scaled to `sides` on its longer edge, under one non-maximum suppression."""
        # Resized sample for sample as insightface does, so that boxes and points are its own; where that would miss
        # most of the pixels, from a halved picture.
        seen, _ = Halved(image_rgb).at_least((sides[0] + 0.5) / max(image_rgb.shape[:2]))
        width, height = seen.shape[1::-1]
        passes = []
        for side in sides:
            size = (max(1, side * width // max(height, width)), max(1, side * height // max(height, width)))
            found = self._run_detector(cv2.resize(seen, size), side, threshold)
            passes.append(found.scaled(self._factors((width, height), size)))
        boxes = np.vstack([found.boxes for found in passes])
        sizes = np.hstack((boxes[:, :2], boxes[:, 2:4] - boxes[:, :2]))
        keep = np.asarray(cv2.dnn.NMSBoxes(sizes.tolist(), boxes[:, 4].tolist(), 0.0, NMS_OVERLAP), np.intp)
        found = Candidates(boxes[keep], np.vstack([found.kps for found in passes])[keep])
        return found.scaled(np.divide(image_rgb.shape[1::-1], (width, height)))

    def _see(self, crop_rgb: RGBImage) -> tuple[FloatArray, FloatArray]:
        found = self._run_detector(crop_rgb, max(crop_rgb.shape[:2]), SECOND_LOOK_THRESHOLD)
        return found.boxes[:, 4], found.kps

    def _factors(self, picture: tuple[int, int], scaled: tuple[int, int]) -> AnyArray:
        """What x and y of the scaled picture are multiplied by; both sizes are (width, height)."""
        return np.divide(picture, scaled)

    @abstractmethod
    def _run_detector(self, scaled_rgb: AnyArray, side: int, threshold: float) -> Candidates:
        """Candidates, overlapping ones included, in pixels of `scaled_rgb`, whose longer edge is at most `side`."""
