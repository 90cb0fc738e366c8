"""What a face does: a model's seven expressions where one is installed, else what can be measured on the mesh.

An expression is what is seen, not what is felt. Definitions and limits are in docs/face-analysis.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import face_geometry as geometry
from face_points import arcface_crop
from onnx_session import OnnxClassifier
from service.model_store import locate_pack
from utils import FloatArray, RGBImage

LABELS = ("angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised")
"""Of the model's seven outputs, in their order."""
_INPUT_PX = 112

_LIDS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))  # left, right eye: upper, lower
_BROWS = ((105, 66, 52, 65, 63, 107), (334, 296, 282, 295, 293, 336))
_MOUTH_CORNERS, _INNER_LIPS, _SUBNASALE = (61, 291), (13, 14), 2

# Where each measure begins and ends, in distances between the eyes (lids: in widths of the eye). Set on 29 photographs.
_SHUT_LIDS, _OPEN_LIDS = 0.05, 0.25
_WIDE_OPEN_MOUTH = 0.6
_RESTING_MOUTH, _BROAD_SMILE = 0.6, 0.9
_RESTING_BROW, _BROW_TRAVEL = 0.325, 0.1

_SMILING, _AT_REST = 0.6, 0.3
_RAISED_BROW, _CLOSED_EYES = 0.8, 0.6


@dataclass(frozen=True, slots=True)
class MeshExpression:
    """Measured on the mesh; left and right as seen in the image.

    smile: 0 mouth at rest, 1 a broad smile. mouth_open: 0 closed, 1 the gap is 0.6 of the distance between the eyes.
    brow_raise: -1 lowered, 0 where most people's brows rest, 1 raised.
    eye_closure: 0 open, 1 shut, the mean of both eyes.
    """

    smile: float
    mouth_open: float
    brow_raise: float
    eye_closure: float
    eye_closure_left: float
    eye_closure_right: float

    @property
    def name(self) -> Literal["smiling", "neutral"] | None:
        """What these measures can say; None where the face does something that they have no word for."""
        if self.smile >= _SMILING:
            return "smiling"
        still = max(self.smile, self.mouth_open) <= _AT_REST and abs(self.brow_raise) <= _RAISED_BROW
        return "neutral" if still and self.eye_closure <= _CLOSED_EYES else None


def mesh_expression(frontal: FloatArray) -> MeshExpression:
    """Measure a mesh whose pose is undone (`face_geometry.frontal`)."""
    unit = geometry.eye_distance(frontal)
    corners = frontal[list(_MOUTH_CORNERS)]
    width = float(np.linalg.norm(corners[1] - corners[0])) / unit
    # A smile widens the mouth and lifts its corners out of the middle between the lips and the nose.
    middle = frontal[[*_INNER_LIPS, _SUBNASALE, _SUBNASALE], 1].mean()
    lift = 2 * float(middle - corners[:, 1].mean()) / unit
    gap = float(np.linalg.norm(frontal[_INNER_LIPS[1]] - frontal[_INNER_LIPS[0]])) / unit
    brows = frontal[list(_BROWS[0] + _BROWS[1]), 1].mean()
    eyes = frontal[list(geometry.EYE_CORNERS[0] + geometry.EYE_CORNERS[1]), 1].mean()
    left, right = (
        _closure(frontal, lids, eye_corners) for lids, eye_corners in zip(_LIDS, geometry.EYE_CORNERS, strict=True)
    )
    return MeshExpression(
        smile=_between(width + lift, _RESTING_MOUTH, _BROAD_SMILE),
        mouth_open=_between(gap, 0, _WIDE_OPEN_MOUTH),
        brow_raise=float(np.clip((float(eyes - brows) / unit - _RESTING_BROW) / _BROW_TRAVEL, -1, 1)),
        eye_closure=(left + right) / 2,
        eye_closure_left=left,
        eye_closure_right=right,
    )


def _closure(frontal: FloatArray, lids: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> float:
    """1 minus the eye's aspect ratio (Soukupova and Cech, 2016), between those of an open and of a shut eye."""
    upper, lower = frontal[[pair[0] for pair in lids]], frontal[[pair[1] for pair in lids]]
    opening = float(np.linalg.norm(upper - lower, axis=1).mean())
    width = max(float(np.linalg.norm(frontal[corners[1]] - frontal[corners[0]])), 1e-6)
    return 1 - _between(opening / width, _SHUT_LIDS, _OPEN_LIDS)


def _between(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0, 1))


PROFILE = "facial_expression"
"""The model's name in models.toml and its folder's in MODELS_DIR."""
_HOW_TO_GET = f"Remove its folder and get it again with `python main.py models pull {PROFILE}`."


def load_expression_model(models_dir: Path) -> ExpressionModel | None:
    """The installed expression model; None where there is none.

    Raises:
        ModelUnavailableError: what is installed is broken or another kind of model.
    """
    folder = locate_pack(PROFILE, models_dir)
    return None if folder is None else ExpressionModel(min(folder.glob("*.onnx")))


class ExpressionModel(OnnxClassifier):
    """An ONNX classifier of seven expressions: 1x3x112x112 RGB in -1..1, aligned as for ArcFace, to 1x7 scores.

    Thread-safe. It runs on one CPU core in some 5 ms a face: too little for a GPU or more threads to gain anything.
    """

    def __init__(self, file: Path) -> None:
        """Load `file` and run it once.

        Raises:
            ModelUnavailableError: it is broken, or another kind of model.
        """
        super().__init__(file, side=_INPUT_PX, classes=len(LABELS), kind="an expression model", how_to_get=_HOW_TO_GET)

    def emotions(self, image_rgb: RGBImage, kps: FloatArray) -> Mapping[str, float]:
        """Probability of each label; they sum to 1.

        Args:
            image_rgb: HxWx3 uint8.
            kps: (5, 2) left eye, right eye, nose, left and right mouth corner as seen in the image.

        Raises:
            InvalidValueError: the points don't span a face.
        """
        crop = arcface_crop(image_rgb, kps, _INPUT_PX)
        return dict(zip(LABELS, self.probabilities(crop).tolist(), strict=True))
