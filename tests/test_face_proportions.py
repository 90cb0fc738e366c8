"""Ratios, symmetry and the 68 points on heads whose shape is known."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

import face_geometry as geometry
from face_proportions import landmarks_68, proportions, symmetry
from tests.heads import posed
from utils import FloatArray, as_float

NEAR_FRONTAL = [(0, 0, 0), (9, 0, 0), (-9, 15, 0), (5, -15, 30), (0, 0, -140)]


def crooked(share: float) -> FloatArray:
    """The average face with the right half stretched away from the middle."""
    shape = geometry.mean_shape().copy()
    shape[:, :2] *= np.where(shape[:, :1] > 0, 1 + share, 1)
    return shape


def stretched(x: float = 1, y: float = 1) -> FloatArray:
    return as_float(geometry.mean_shape() * np.array([x, y, 1], np.float32))


def test_ratios_are_those_of_the_lengths_they_are_named_for() -> None:
    shape = np.zeros((468, 3), np.float32)
    for (left, right), width in {(234, 454): 14, (172, 397): 11, (64, 294): 3.5, (61, 291): 5.6}.items():
        shape[left, 0], shape[right, 0] = -width / 2, width / 2
    for (left, right), inner in {(33, 263): 4.6, (133, 362): 1.6}.items():
        shape[left, 0], shape[right, 0] = -inner, inner
    for point, y in {10: -8, 9: -3, 168: -2, 2: 3, 152: 9}.items():
        shape[point, 1] = y
    assert asdict(proportions(shape)) == pytest.approx(
        {
            "face_width_height_ratio": 14 / 17,
            "eye_spacing_face_width": 6.2 / 14,
            "jawline_width_face_width": 11 / 14,
            "nose_width_face_width": 3.5 / 14,
            "mouth_width_face_width": 5.6 / 14,
            "inner_eye_distance_face_width": 3.2 / 14,
            "nose_length_face_height": 5 / 17,
            "midface_face_height": 6 / 17,
            "lower_face_face_height": 6 / 17,
        }
    )


@pytest.mark.parametrize(("yaw", "pitch", "roll"), NEAR_FRONTAL)
@pytest.mark.parametrize("distance_cm", [200, None])
def test_ratios_do_not_follow_the_pose(yaw: float, pitch: float, roll: float, distance_cm: float | None) -> None:
    straight = asdict(proportions(geometry.mean_shape()))
    seen = posed(yaw, pitch, roll, distance_cm=distance_cm)
    # What is nearer than the cheekbones looks larger beside them the nearer the camera is.
    tolerance = 0.005 if distance_cm is None else 0.03
    assert asdict(proportions(geometry.frontal(seen))) == pytest.approx(straight, abs=tolerance)


def test_a_wider_face_has_a_larger_ratio_of_width_to_height() -> None:
    ratios = [proportions(stretched(x=width)).face_width_height_ratio for width in (0.9, 1.0, 1.1)]
    assert ratios == pytest.approx([ratios[1] * 0.9, ratios[1], ratios[1] * 1.1])


@pytest.mark.parametrize(("yaw", "pitch", "roll"), NEAR_FRONTAL)
def test_the_average_face_is_symmetric_in_any_pose(yaw: float, pitch: float, roll: float) -> None:
    assert symmetry(geometry.frontal(posed(yaw, pitch, roll))) > 0.999
    assert symmetry(geometry.frontal(posed(yaw, pitch, roll, distance_cm=60))) > 0.985


def test_a_warped_half_lowers_the_symmetry_the_more_the_further_it_is_warped() -> None:
    scores = [symmetry(geometry.frontal(posed(roll=10, shape=crooked(share)))) for share in (0, 0.05, 0.1, 0.2)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[1] > 0.01
    assert scores[-1] < 0.95


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15])
def test_the_mirrored_face_is_as_symmetric(share: float) -> None:
    mesh = posed(yaw=6, pitch=-4, roll=12, shape=crooked(share))
    mirrored = geometry.mirror_mesh(mesh, 600)
    assert symmetry(geometry.frontal(mirrored)) == pytest.approx(symmetry(geometry.frontal(mesh)), abs=1e-3)


def test_the_68_points_lie_where_ibug_has_them() -> None:
    points = landmarks_68(posed())
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    x, y = points.T
    jaw, left_brow, right_brow, bridge, nostrils = (
        points[a:b] for a, b in ((0, 17), (17, 22), (22, 27), (27, 31), (31, 36))
    )
    for row in (jaw, left_brow, right_brow, nostrils):
        assert (np.diff(row[:, 0]) > 0).all()
    assert (np.diff(bridge[:, 1]) > 0).all()
    assert y.argmax() == 8
    assert {int(x.argmin()), int(x.argmax())} <= {0, 1, 2, 14, 15, 16}
    for corners, upper, lower in (((36, 39), (37, 38), (40, 41)), ((42, 45), (43, 44), (46, 47))):
        assert x[corners[0]] < x[corners[1]]
        assert y[list(upper)].max() < y[list(lower)].min()
    # Lips go round clockwise from the left corner, the outer ring around the inner one.
    assert x[48] == x[48:68].min()
    assert x[54] == x[48:68].max()
    assert y[51] < y[62] <= y[66] < y[57]


def test_the_68_points_are_symmetric() -> None:
    points = landmarks_68(geometry.mean_shape())
    pairs = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)] + [(31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (48, 54), (49, 53), (50, 52)]
    pairs += [(59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for left, right in pairs:
        np.testing.assert_allclose(points[left] * [-1, 1], points[right], atol=0.05)
    on_the_midline = points[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0]
    assert np.abs(on_the_midline).max() < 0.05
