"""One face at a standard size: the pixels that quality and skin tone are measured on, and the zones of the skin.

What is measured there does not depend on how many pixels the face has in its photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

import face_geometry as geometry
from face_crops import Halved
from face_regions import Frame, longer_side
from utils import FloatArray, GrayImage, RGBImage, as_float, lab_from_rgb

Value = TypeVar("Value")

SAMPLE_PX = 112
"""The face's length in a sample: what recognisers see of a face."""
_MARGIN = 0.08  # of its box: filters near the oval's border see what is really there
_CHEEKS = ((117, 118, 119, 100, 142, 36, 205, 50), (346, 347, 348, 329, 371, 266, 425, 280))
"""Left and right in the image: from the eye socket's lower rim to the nose's wings, above where beards grow."""
_FOREHEAD = (69, 109, 10, 338, 299, 296, 336, 9, 107, 66)
_ZONE_INSET = 0.01  # of the face's length: away from brows, lashes and the shade beside the nose
LEAST_ZONE_PX = 12
_LEAST_VISIBLE = 0.2


class Unmeasurable(Exception):  # noqa: N818 - not an error: the honest answer to a measurement
    """What was asked of a face can't be known from this picture; the text says why."""


class Findings:
    """Collects measurements: `unavailable` holds the reason for each field that couldn't be measured."""

    def __init__(self) -> None:
        self.unavailable: dict[str, str] = {}

    def take(self, measure: Callable[[], Value], *fields: str) -> Value | None:
        """What `measure` returns; where it raises `Unmeasurable`, None, and the reason is kept for `fields`."""
        try:
            return measure()
        except Unmeasurable as reason:
            self.unavailable |= dict.fromkeys(fields, str(reason))
            return None


@dataclass(frozen=True)
class FaceSample:
    """A face cut out of its picture, its length brought to `SAMPLE_PX`.

    rgb: HxWx3 uint8. points: (N, 3) the mesh in the sample's pixels. inside: HxW bool, the face's oval.
    length: of the face in the sample's pixels.
    """

    rgb: RGBImage
    points: FloatArray
    inside: NDArray[np.bool_]
    length: float

    @classmethod
    def of(cls, image_rgb: RGBImage, points: FloatArray) -> FaceSample:
        """Sample the face under a mesh (468 or 478 points, 3) of an HxWx3 picture."""
        length = geometry.upright_length(points)
        frame, rgb = _cut(image_rgb, points, length)
        placed = frame.place(points)
        inside = geometry.fill((geometry.FACE_OVAL,), placed, rgb.shape[:2]) > 128
        return cls(rgb, placed, inside, length * frame.scale)

    @classmethod
    def of_box(cls, image_rgb: RGBImage, bbox: FloatArray) -> FaceSample:
        """Sample the ellipse in a box x1, y1, x2, y2 of a face that has no mesh: there are no points and no zones."""
        corners = np.array([[bbox[0], bbox[1], 0], [bbox[2], bbox[3], 0]], np.float32)
        length = longer_side(corners)
        frame, rgb = _cut(image_rgb, corners, length)
        (x1, y1), (x2, y2) = frame.place(corners)[:, :2]
        inside = np.zeros(rgb.shape[:2], np.uint8)
        box = ((float(x1 + x2) / 2, float(y1 + y2) / 2), (float(x2 - x1), float(y2 - y1)), 0.0)
        cv2.ellipse(inside, box, 255, cv2.FILLED)
        return cls(rgb, np.zeros((0, 3), np.float32), inside > 0, length * frame.scale)

    @cached_property
    def luma(self) -> FloatArray:
        """HxW float32 0..255 (ITU-R BT.601)."""
        return as_float(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY))

    @cached_property
    def lab(self) -> FloatArray:
        """HxWx3 float32 CIE Lab (D65)."""
        return lab_from_rgb(self.rgb)

    @cached_property
    def cheeks(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """HxW bool: the left and the right cheek as seen in the image."""
        left, right = (self.zone(ring, _ZONE_INSET) for ring in _CHEEKS)
        return left, right

    @cached_property
    def forehead(self) -> NDArray[np.bool_]:
        """HxW bool, from the brows to the hairline of an average face."""
        return self.zone(_FOREHEAD, _ZONE_INSET)

    @cached_property
    def core(self) -> NDArray[np.bool_]:
        """HxW bool: cheeks and the nose's bridge, which hats, fringes and beards leave bare."""
        return self.cheeks[0] | self.cheeks[1] | self.zone(geometry.NOSE_BRIDGE)

    def gradient_energy(self, luma: FloatArray) -> float:
        """Mean squared gradient inside the face of a picture (HxW) of this sample's shape."""
        dx, dy = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
        return float((dx * dx + dy * dy)[self.inside].mean())

    def zone(self, ring: tuple[int, ...], inset: float = 0.0) -> NDArray[np.bool_]:
        """HxW bool: inside a ring of mesh points, `inset` (of the face's length) from it; empty where it faces away."""
        if self._visible_share(ring) < _LEAST_VISIBLE:
            return np.zeros(self.inside.shape, bool)
        mask: GrayImage = geometry.fill((ring,), self.points, self.rgb.shape[:2])
        return geometry.grow(mask, -inset * self.length) > 128

    def _visible_share(self, ring: tuple[int, ...]) -> float:
        """Its area beside the one that it has on a face seen from the front; negative where it is seen from behind."""
        frontal = geometry.mean_shape()
        zoom = self.length / float(np.ptp(frontal[:, 1]))
        areas = [cv2.contourArea(mesh[list(ring), :2], oriented=True) for mesh in (self.points, frontal)]
        return float(areas[0] / (areas[1] * zoom**2))


def _cut(image_rgb: RGBImage, points: FloatArray, length: float) -> tuple[Frame, RGBImage]:
    scale = SAMPLE_PX / max(length, longer_side(points) / 2, 1.0)  # a mesh gone wrong has no length
    frame = Frame.around(points, _MARGIN, image_rgb.shape, scale)
    # Areas are averaged at any ratio: with `Frame.cut`'s interpolation sharpness would depend on the photo's size.
    halved, _ = Halved(image_rgb[frame.region]).at_least(2 * scale)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return frame, cv2.resize(halved, frame.shape[::-1], interpolation=interpolation)
