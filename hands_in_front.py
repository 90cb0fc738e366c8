"""Where bare hands and arms lie over a drawn face: skin on skin, which no colour tells apart.

A small network of our own answers, taught by the pictures that `training/` draws: 0.34 MB, 2.3 ms on one core.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import face_geometry as geometry
from face_crops import frame_from_kps, warp_area
from face_landmarks import five_points
from face_regions import Frame, skin_core, skin_likelihood
from onnx_session import cpu_session
from utils import FloatArray, GrayImage, RGBImage, as_float, lab_from_rgb, smoothstep

MODEL = Path(__file__).parent / "hands_in_front.onnx"
INPUT_PX = 128
CROP_SCALE = 1.7  # crop side over the face's: room for the wrist that tells a hand from a cheek
_SEEN = 0.35  # the network's answer; a hand cut short shows more than a rim too much
_SKIN = 0.1  # likelihood: hats are told by their colour elsewhere
_RIM_PX = 4  # a mesh may lie that far beside the drawn jaw
_LEAST_PX = 16
_LEAST_BESIDE = 0.3  # of what lies over the face: a hand has a wrist, a highlight or a fringe has none


class HandsInFront:
    """Finds hands in front of drawn faces. Thread-safe: a run keeps nothing."""

    def __init__(self) -> None:
        self._session = cpu_session(MODEL)

    def matte(self, page_rgb: RGBImage, points: FloatArray, frame: Frame) -> FloatArray | None:
        """HxW 0..1 in the frame's pixels: hands and arms that reach over the face of the mesh (468, 3, page pixels).

        None where there are none.
        """
        to_crop = frame_from_kps(five_points(points)).to_crop(CROP_SCALE, INPUT_PX)
        crop = warp_area(page_rgb, to_crop, INPUT_PX)
        placed = points.copy()
        placed[:, :2] = points[:, :2] @ to_crop[:, :2].T + to_crop[:, 2]
        oval = geometry.fill((geometry.FACE_OVAL,), placed, crop.shape[:2])
        inside, outside = geometry.grow(oval, -_RIM_PX) > 128, geometry.grow(oval, _RIM_PX) < 128
        skin = skin_likelihood(lab_from_rgb(crop), skin_core(placed, crop.shape[:2]))
        if (skin[outside] > _SKIN).sum() < _LEAST_PX:
            return None
        probability = self._session.run(None, {"image": crop})[0]
        hands = _reaching_in(probability > _SEEN, inside, outside, skin > _SKIN)
        if not hands.any():
            return None
        # Up to the drawn contour, which belongs to the hand.
        soft = cv2.ximgproc.guidedFilter(crop, as_float(probability * geometry.grow(hands, 1)), radius=2, eps=60.0)
        eyes = geometry.fill((geometry.LEFT_EYE, geometry.RIGHT_EYE), placed, crop.shape[:2])
        # Surer at the eyes: scraps of the drawn ones between the fingers would show.
        soft = smoothstep((soft - 0.1 - 0.25 * (geometry.grow(eyes, 3) / np.float32(255))) / 0.4)
        frame_to_page = np.diag([1 / frame.scale, 1 / frame.scale, 1])
        frame_to_page[:2, 2] = 0.5 / frame.scale - 0.5 + np.array([frame.x, frame.y])
        frame_to_crop = to_crop @ frame_to_page
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matte: FloatArray = cv2.warpAffine(soft, frame_to_crop, frame.shape[::-1], flags=flags)
        return matte


def _reaching_in(
    hands: NDArray[np.bool_], inside: NDArray[np.bool_], outside: NDArray[np.bool_], skin: NDArray[np.bool_]
) -> GrayImage:
    """The parts of `hands` (HxW) that come from outside the face, reach well into it and are bare, as 0 and 1."""
    _, parts = cv2.connectedComponents(hands.astype(np.uint8))
    count = parts.max() + 1
    over, beside, bare = (np.bincount(parts[where], minlength=count) for where in (inside, outside, inside & skin))
    kept = (over >= _LEAST_PX) & (beside >= np.maximum(_LEAST_PX, _LEAST_BESIDE * over)) & (bare >= 0.5 * over)
    kept[0] = False
    chosen: GrayImage = kept[parts].astype(np.uint8)
    return chosen
