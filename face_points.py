"""The five points of a face: the crops that are cut by them, and a second look at those that one sight gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from face_crops import similarity_2d, warp_area
from service.errors import InvalidValueError
from utils import FloatArray, RGBImage

ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where ArcFace-style recognisers are trained to have the points, in a crop of 112 px."""
EVERY_PIXEL_BELOW = 1 / 6
"""Crops scaled down further are averaged over every pixel. Above, they are insightface's own, sample for sample:
averaging would move embeddings by up to 0.015 in cosine. Beyond six times the samples miss most of the pixels: for a
face scaled down by 7.5, JPEG at quality 60 changed the embedding by 0.023, and by 0.006 with averaging."""

SURE_SCORE = 0.85
"""Where a first sight is believed: no face upside down was seen above 0.82, most upright ones lie above."""
SURE_LOOK = 0.73
"""The same on the upright crop, where right points scored 0.74 to 0.92, and wrong ones that moved little 0.715."""
SAME_POINTS = 0.2
"""How far, in eye distances, the points may move on average and be the same: right ones moved by up to 0.12, wrong ones
that still looked sure by 0.26 and more."""
MOST_ROLL_DEG = 30
"""Beyond, the points of a first sight are rough: at 40 degrees two photos of one person fell from 0.73 to 0.59."""
LEAST_EYE_DISTANCE = 10
"""In pixels of the first sight; below, the points are rough: at 7 px the same photos fell to 0.51."""

LOOK_SIDE = 160
"""Side of the upright crop of the second look: measured best among 128, 160, 192, 256."""
LOOK_FACE_SHARE = 0.42
"""Share of that crop which ArcFace's own 112 px crop would take."""
LOOK_TOLERANCE = 0.15
"""How far, as a share of the crop, a face may lie off and still be the one that is looked at."""
GUESS_FACE_SHARE = 0.9
"""Side of ArcFace's crop as a share of the box's longer side."""

See: TypeAlias = Callable[[RGBImage], tuple[FloatArray, FloatArray]]
"""A detector on one crop: scores (N,) and points (N, 5, 2) of what may be a face there."""


@dataclass(frozen=True, slots=True)
class FirstSight:
    """A detected face before its points are settled.

    Attributes:
        box: (4,) x1, y1, x2, y2 in pixels of the picture.
        kps: (5, 2) in pixels of the picture.
        score: the detector's confidence, 0..1.
        scale: pixels of what the detector saw per pixel of the picture.
    """

    box: FloatArray
    kps: FloatArray
    score: float
    scale: float


def settled(image_rgb: RGBImage, face: FirstSight, see: See) -> FloatArray:
    """The five points (5, 2), found again on an upright crop where one sight is not enough.

    Points of tilted and small faces are rough at first sight, and those of faces upside down are wrong: a detector
    trained on upright faces puts the eyes on top. On eight photos, the least cosine of two photos of one person rose
    from 0 to 0.71 when they were tilted by 50 degrees. The points of upright faces stay those of insightface.
    """
    rough = abs(roll_degrees(face.kps)) > MOST_ROLL_DEG or face.scale * _eye_distance(face.kps) < LEAST_EYE_DISTANCE
    if face.score >= SURE_SCORE and not rough:
        return face.kps
    score, kps = _look(image_rgb, face.kps, see)
    moved = float(np.linalg.norm(kps - face.kps, axis=1).mean()) / max(_eye_distance(kps), 1e-3)
    if score >= SURE_LOOK and moved < SAME_POINTS:
        return kps if rough else face.kps
    looks = [(score, kps), *(_look(image_rgb, guess, see) for guess in _turned_guesses(face.box))]
    # Upright at last, right points score higher than at the first look; wrong ones don't.
    best = [_look(image_rgb, points, see) for _, points in sorted(looks, key=_score)[-2:]]
    score, kps = max(best, key=_score)
    return kps if score > 0 else face.kps


def _score(look: tuple[float, FloatArray]) -> float:
    return look[0]


def _look(image_rgb: RGBImage, kps: FloatArray, see: See) -> tuple[float, FloatArray]:
    """Score and points of the face on the crop in which `kps` stand upright; 0 and `kps` where there is none."""
    expected = (ARCFACE_POINTS - 56) * (LOOK_FACE_SHARE * LOOK_SIDE / 112) + LOOK_SIDE / 2
    matrix = similarity(kps, expected)
    scores, found = see(warp_area(image_rgb, matrix, LOOK_SIDE))
    # The crop may hold a neighbour: only a face where this one was expected counts.
    distances = np.linalg.norm(found - expected, axis=2).mean(axis=1)
    scores = np.where(distances < LOOK_SIDE * LOOK_TOLERANCE, scores, 0)
    if not scores.any():
        return 0.0, kps
    back = cv2.invertAffineTransform(matrix)
    points = found[scores.argmax()] @ back[:, :2].T + back[:, 2]
    return float(scores.max()), np.asarray(points, np.float32)


def _turned_guesses(box: FloatArray) -> list[FloatArray]:
    """Where the five points (5, 2) of the face in `box` lie if its head points right, down or left."""
    x1, y1, x2, y2 = (float(v) for v in box[:4])
    centred = ARCFACE_POINTS - ARCFACE_POINTS.mean(axis=0)
    centred *= GUESS_FACE_SHARE * max(x2 - x1, y2 - y1) / 112
    centre = np.array([x1 + x2, y1 + y2]) / 2
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    turns = (np.linalg.matrix_power(quarter_turn, n) for n in (1, 2, 3))
    return [np.asarray(centred @ turn + centre, np.float32) for turn in turns]


def arcface_crop(image_rgb: RGBImage, kps: FloatArray, size: int) -> RGBImage:
    """The `size` x `size` crop in which the five points (5, 2) lie where ArcFace expects them.

    Raises:
        InvalidValueError: the points don't span a face.
    """
    return crop(image_rgb, similarity(kps, arcface_points(size)), size)


def arcface_points(size: int) -> FloatArray:
    """`ARCFACE_POINTS` at another crop size, as insightface's `face_align.estimate_norm` has them.

    Sizes that are a multiple of 128 carry the 112 px frame in their middle, 8 px further right.
    """
    if size % 112 == 0:
        return np.asarray(ARCFACE_POINTS * (size / 112), np.float32)
    return np.asarray((ARCFACE_POINTS + np.array([8.0, 0.0])) * (size / 128), np.float32)


def square_crop(image_rgb: RGBImage, box: FloatArray, size: int, *, margin: float, roll_deg: float = 0.0) -> RGBImage:
    """The square around a box (4,), `margin` times its longer side, turned upright and scaled to `size` pixels."""
    x1, y1, x2, y2 = (float(v) for v in box[:4])
    scale = size / (max(x2 - x1, y2 - y1, 1.0) * margin)
    a, b = scale * np.cos(np.radians(roll_deg)), scale * np.sin(np.radians(roll_deg))
    turn = np.array([[a, b], [-b, a]])
    shift = size / 2 - turn @ np.array([x1 + x2, y1 + y2]) / 2
    return crop(image_rgb, np.column_stack((turn, shift)).astype(np.float32), size)


def crop(image_rgb: RGBImage, matrix: FloatArray, size: int) -> RGBImage:
    """Warp by a (2, 3) similarity into `size` x `size` pixels, black outside the picture."""
    if np.hypot(matrix[0, 0], matrix[1, 0]) < EVERY_PIXEL_BELOW:
        return warp_area(image_rgb, matrix, size)
    return np.asarray(cv2.warpAffine(image_rgb, matrix, (size, size), borderValue=0.0), np.uint8)


def similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """As `face_crops.similarity_2d`, of points that come from outside.

    Raises:
        InvalidValueError: the points are not finite or all in one place.
    """
    spread = float(source.astype(np.float64).var(axis=0).sum())
    if not np.isfinite(spread) or spread < 1e-6:
        raise InvalidValueError("The five points of the face lie in one place or are not numbers.")
    return similarity_2d(source, target)


def roll_degrees(kps: FloatArray) -> float:
    """How far the eyes' line is turned clockwise from level, -180..180."""
    x, y = kps[1] - kps[0]
    return float(np.degrees(np.arctan2(y, x)))


def _eye_distance(kps: FloatArray) -> float:
    return float(np.hypot(*(kps[1] - kps[0])))
