"""The shape of a face from its mesh: proportions, symmetry, and the 68 points of the iBUG scheme.

Lengths are taken with the head's pose undone, in the plane that faces the viewer. The points' numbers stand in
docs/face-analysis.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import face_geometry as geometry
from utils import FloatArray, as_float

IBUG_68 = (
    127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356,  # 0-16 jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # 17-26 brows
    168, 197, 5, 1, 98, 97, 2, 326, 327,  # 27-35 nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # 36-47 eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # 48-59 outer lips
    78, 81, 13, 311, 308, 402, 14, 178,  # 60-67 inner lips
)  # fmt: skip
"""The mesh's point for each of iBUG's 68 (300 Faces in the Wild), left as seen in the image."""

_FACE_SIDES, _FACE_ENDS = (234, 454), (10, 152)
_JAW_CORNERS, _NOSE_WINGS, _MOUTH_CORNERS = (172, 397), (64, 294), (61, 291)
_INNER_EYE_CORNERS = (133, 362)
_GLABELLA, _NASION, _SUBNASALE, _CHIN = 9, 168, 2, 152


@dataclass(frozen=True, slots=True)
class Proportions:
    """Ratios of lengths in the face. Width is between the cheekbones, height from the mesh's top to the chin."""

    face_width_height_ratio: float
    eye_spacing_face_width: float
    jawline_width_face_width: float
    nose_width_face_width: float
    mouth_width_face_width: float
    inner_eye_distance_face_width: float
    nose_length_face_height: float
    midface_face_height: float
    lower_face_face_height: float


def proportions(frontal: FloatArray) -> Proportions:
    """Ratios of a mesh whose pose is undone (`face_geometry.frontal`)."""

    def between(pair: tuple[int, int]) -> float:
        return float(np.hypot(*(frontal[pair[1], :2] - frontal[pair[0], :2])))

    width, height = between(_FACE_SIDES), between(_FACE_ENDS)
    left, right = (frontal[list(corners), :2].mean(axis=0) for corners in geometry.EYE_CORNERS)
    return Proportions(
        face_width_height_ratio=width / height,
        eye_spacing_face_width=float(np.hypot(*(right - left))) / width,
        jawline_width_face_width=between(_JAW_CORNERS) / width,
        nose_width_face_width=between(_NOSE_WINGS) / width,
        mouth_width_face_width=between(_MOUTH_CORNERS) / width,
        inner_eye_distance_face_width=between(_INNER_EYE_CORNERS) / width,
        nose_length_face_height=between((_NASION, _SUBNASALE)) / height,
        midface_face_height=between((_GLABELLA, _SUBNASALE)) / height,
        lower_face_face_height=between((_SUBNASALE, _CHIN)) / height,
    )


def symmetry(frontal: FloatArray) -> float:
    """1 minus the mean distance between each point and its mirrored partner, in distances between the eyes.

    `frontal` is a mesh whose pose is undone by means of the average, symmetric face: its middle is x = 0, and what is
    left is the shape's asymmetry.
    """
    shape = frontal[: len(geometry.mirrored_index()), :2]
    mirrored = shape[geometry.mirrored_index()] * np.array([-1, 1], np.float32)
    distance = float(np.linalg.norm(shape - mirrored, axis=1).mean())
    return max(0.0, 1 - distance / geometry.eye_distance(frontal))


def landmarks_68(points: FloatArray) -> FloatArray:
    """(68, 2) float32: iBUG's points, in the mesh's (478 or 468, 3) own pixels."""
    return as_float(points[list(IBUG_68), :2])
