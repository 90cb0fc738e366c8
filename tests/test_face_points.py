"""Settling a face's five points, with a detector whose faults are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from face_points import (
    ARCFACE_POINTS,
    FirstSight,
    arcface_crop,
    roll_degrees,
    settled,
    square_crop,
)
from utils import FloatArray, RGBImage

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))


def face(degrees: float, *, scale: float = 2.0) -> tuple[RGBImage, FloatArray, FloatArray]:
    """A face of five coloured dots in the middle of 600x600 px, its points and its box."""
    turn = cv2.getRotationMatrix2D((0, 0), -degrees, scale)[:, :2]
    kps = ((ARCFACE_POINTS - ARCFACE_POINTS.mean(axis=0)) @ turn.T + 300).astype(np.float32)
    image = np.full((600, 600, 3), 60, np.uint8)
    for (x, y), colour in zip(kps, COLOURS, strict=True):
        cv2.circle(image, (round(float(x)), round(float(y))), round(6 * scale), colour, -1)
    half = 56 * scale
    return image, kps, np.array([300 - half, 300 - half, 300 + half, 300 + half], np.float32)


def dots(crop_rgb: RGBImage) -> FloatArray | None:
    """Where the dots are, left eye first as the person stands."""
    found = []
    for colour in COLOURS:
        near = np.argwhere(np.abs(crop_rgb.astype(int) - colour).max(axis=2) < 60)
        if not len(near):
            return None
        found.append(near.mean(axis=0)[::-1])
    return np.array(found, np.float32)


class Detector:
    """Sees the dots of upright faces; of others it says, less surely, that they stand upright where they are."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, crop_rgb: RGBImage) -> tuple[FloatArray, FloatArray]:
        self.looks += 1
        points = dots(crop_rgb)
        if points is None:
            return np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        if abs(roll_degrees(points)) < 50:
            return np.array([0.9], np.float32), points[None]
        size = float(np.linalg.norm(points[1] - points[0])) / 35.2
        upright = (ARCFACE_POINTS - ARCFACE_POINTS.mean(axis=0)) * size + points.mean(axis=0)
        return np.array([0.6], np.float32), upright[None].astype(np.float32)


def first_sight(box: FloatArray, kps: FloatArray, score: float, *, scale: float = 1.0) -> FirstSight:
    return FirstSight(box, kps.astype(np.float32), score, scale)


def test_an_upright_face_keeps_the_points_of_the_first_sight() -> None:
    image, kps, box = face(10)
    rough = kps + np.float32(3)
    see = Detector()
    assert settled(image, first_sight(box, rough, 0.9), see).tolist() == rough.tolist()
    assert see.looks == 0
    assert settled(image, first_sight(box, rough, 0.6), see).tolist() == rough.tolist()
    assert see.looks == 1


@pytest.mark.parametrize(("degrees", "scale"), [(35, 1.0), (-35, 1.0), (0, 0.1)])
def test_tilted_and_small_faces_are_looked_at_again(degrees: float, scale: float) -> None:
    image, kps, box = face(degrees)
    rough = kps + np.float32(4)
    found = settled(image, first_sight(box, rough, 0.9, scale=scale), Detector())
    assert np.abs(found - kps).max() < 2


@pytest.mark.parametrize("degrees", [90, 135, 180, -120, -90])
def test_wrong_points_of_a_face_upside_down_are_put_right(degrees: float) -> None:
    image, kps, box = face(degrees)
    wrong = (ARCFACE_POINTS - ARCFACE_POINTS.mean(axis=0)) * 2 + 300
    found = settled(image, first_sight(box, wrong, 0.8), Detector())
    assert np.abs(found - kps).max() < 2


def test_where_nothing_is_seen_again_the_first_sight_stands() -> None:
    image, kps, box = face(0)

    def blind(crop_rgb: RGBImage) -> tuple[FloatArray, FloatArray]:
        assert crop_rgb.shape == (160, 160, 3)
        return np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)

    assert settled(image, first_sight(box, kps, 0.5), blind).tolist() == kps.tolist()


def test_a_neighbour_in_the_crop_is_another_face() -> None:
    image, kps, box = face(0)

    def neighbour(_: RGBImage) -> tuple[FloatArray, FloatArray]:
        return np.array([0.95], np.float32), (ARCFACE_POINTS * np.float32(0.25))[None]

    assert settled(image, first_sight(box, kps, 0.5), neighbour).tolist() == kps.tolist()


@pytest.mark.parametrize("scale", [1.5, 5.0])
@pytest.mark.parametrize("degrees", [0, 70, 180])
def test_a_crop_has_the_points_where_the_recogniser_expects_them(degrees: float, scale: float) -> None:
    image, kps, _ = face(degrees, scale=min(scale, 4.0))
    points = dots(arcface_crop(image, kps, 112))
    assert points is not None
    assert np.abs(points - ARCFACE_POINTS).max() < 1.5


def test_a_much_smaller_crop_averages_every_pixel() -> None:
    checks = np.kron(np.indices((500, 500)).sum(axis=0) % 2, np.ones((4, 4))).astype(np.uint8) * 255
    image = np.repeat(checks[:, :, None], 3, axis=2)
    kps = ((ARCFACE_POINTS - 56) * 14 + 1000).astype(np.float32)
    assert np.ptp(arcface_crop(image, kps, 112)) < 16


def test_a_square_crop_stands_upright() -> None:
    image, kps, box = face(120)
    points = dots(square_crop(image, box, 96, margin=1.5, roll_deg=roll_degrees(kps)))
    assert points is not None
    assert abs(roll_degrees(points)) < 3
    assert points.mean(axis=0) == pytest.approx([48, 48], abs=1.5)
