"""Which face of a picture is meant, and how alike two faces are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from face_detector import Face
from service.errors import InvalidValueError
from utils import AnyArray

FaceChoice: TypeAlias = Literal["largest", "center"] | int
"""The largest face, the one nearest to the picture's centre, or the number of one, 0 being the largest."""


def choose_face(faces: Sequence[Face], choice: FaceChoice, image_size: tuple[int, int]) -> int:
    """The index of the face that is meant.

    Args:
        faces: at least one, largest first.
        choice: which of them.
        image_size: width and height in pixels of the picture that the boxes are in.

    Raises:
        InvalidValueError: there is no face of that number.
    """
    if choice == "largest":
        return 0
    if choice == "center":
        centre = np.array(image_size) / 2
        return int(np.argmin([np.linalg.norm((face.bbox[:2] + face.bbox[2:]) / 2 - centre) for face in faces]))
    if choice >= len(faces):
        raise InvalidValueError(f"There is no face {choice}: {len(faces)} found, numbered from 0, the largest.")
    return choice


def cosine_similarity(a: AnyArray, b: AnyArray) -> float:
    """The cosine of the angle between two vectors (D,) of any length but zero: -1..1, and 1 for the same direction.

    It is computed in float64 after scaling by the largest component, so that neither huge nor tiny numbers overflow.

    Raises:
        ValueError: one of them is all zeros.
    """
    unit_a, unit_b = _unit(a), _unit(b)
    return float(np.clip(unit_a @ unit_b, -1, 1))


def _unit(vector: AnyArray) -> AnyArray:
    largest = np.abs(vector).max()
    if largest == 0:
        raise ValueError("a zero vector has no direction")
    scaled = vector.astype(np.float64) / largest
    unit: AnyArray = scaled / np.linalg.norm(scaled)
    return unit
