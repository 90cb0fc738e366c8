"""Which face is meant, and cosine similarity at the edges of what a float holds."""

from __future__ import annotations

import numpy as np
import pytest

from face_detector import Face
from face_matching import FaceChoice, choose_face, cosine_similarity
from service.errors import InvalidValueError
from utils import FloatArray


def face(x1: float, y1: float, x2: float, y2: float) -> Face:
    return Face(np.array([x1, y1, x2, y2], np.float32), np.zeros((5, 2), np.float32), 0.9)


LARGE_LEFT, MIDDLE, SMALL_RIGHT = face(0, 0, 60, 60), face(80, 30, 120, 70), face(170, 10, 190, 30)


@pytest.mark.parametrize(("choice", "index"), [("largest", 0), ("center", 1), (0, 0), (1, 1), (2, 2)])
def test_the_face_that_is_meant(choice: FaceChoice, index: int) -> None:
    assert choose_face([LARGE_LEFT, MIDDLE, SMALL_RIGHT], choice, (200, 100)) == index


def test_a_number_beyond_the_last_face_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="no face 3: 3 found"):
        choose_face([LARGE_LEFT, MIDDLE, SMALL_RIGHT], 3, (200, 100))


@pytest.mark.parametrize(
    ("a", "b", "cosine"),
    [
        ([1, 0], [1, 0], 1),
        ([1, 0], [0, 3], 0),
        ([2, 0], [-1, 0], -1),
        ([1, 1], [1, 0], 0.5**0.5),
        ([1e308, 1e308], [1e-308, 1e-308], 1),
        ([5e-324, 0], [5e-324, 5e-324], 0.5**0.5),
        ([1e308, -1e308], [1e308, 1e308], 0),
    ],
)
def test_similarity_is_the_cosine_however_large_the_numbers_are(a: list[float], b: list[float], cosine: float) -> None:
    assert cosine_similarity(np.array(a), np.array(b)) == pytest.approx(cosine, abs=1e-12)


def test_similarity_stays_within_its_range() -> None:
    rng = np.random.default_rng(0)
    for vector in rng.normal(size=(200, 512)):
        assert -1 <= cosine_similarity(vector, vector * 3) <= 1
        assert -1 <= cosine_similarity(vector, -vector) <= 1


def test_float32_vectors_are_taken_as_well() -> None:
    vector: FloatArray = np.arange(1, 9, dtype=np.float32)
    assert cosine_similarity(vector, vector) == pytest.approx(1)


def test_a_zero_vector_has_no_similarity() -> None:
    with pytest.raises(ValueError, match="no direction"):
        cosine_similarity(np.zeros(3), np.ones(3))
