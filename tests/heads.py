"""Heads whose pose, colours and proportions are known exactly: the average face turned, projected and painted."""

from __future__ import annotations

import cv2
import numpy as np

import face_geometry as geometry
from face_landmarks import FaceMesh
from utils import FloatArray, RGBImage, blur

SIZE = (500, 600)
"""Height and width of the picture that `posed` heads lie on."""
SKIN, FEATURES, BACKGROUND = (205, 160, 135), (70, 45, 40), (120, 130, 140)


def rotation(yaw: float, pitch: float, roll: float) -> FloatArray:
    """(3, 3): a head that nods down, turns to the image's right, then tilts clockwise (degrees); y is down, z away."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians([yaw, pitch, roll])), np.sin(np.radians([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


def posed(
    yaw: float = 0,
    pitch: float = 0,
    roll: float = 0,
    *,
    scale: float = 20,
    distance_cm: float | None = None,
    shape: FloatArray | None = None,
) -> FloatArray:
    """A face (468, 3), the average one or `shape` in its centimetres, turned and moved onto a picture.

    Seen from infinitely far, or from `distance_cm`: then what is nearer is larger, and z is as deep as it really is.
    """
    turned = (geometry.mean_shape() if shape is None else shape) @ rotation(yaw, pitch, roll).T
    if distance_cm is not None:
        turned[:, :2] *= distance_cm / (distance_cm + turned[:, 2:])
    return (scale * turned + [SIZE[1] / 2, SIZE[0] / 2, 0]).astype(np.float32)


def as_mesh(points: FloatArray, presence: float = 1.0) -> FaceMesh:
    """With ten iris points in the middles of the eyes."""
    eyes = [points[list(corners)].mean(axis=0) for corners in geometry.EYE_CORNERS]
    return FaceMesh(np.concatenate([points, np.repeat(eyes, 5, axis=0)]).astype(np.float32), presence)


def painted(
    points: FloatArray, skin: tuple[int, int, int] = SKIN, *, features: tuple[int, int, int] = FEATURES
) -> RGBImage:
    """A picture of a face under `points`: even skin with a little grain; dark eyes, brows, nostrils and lips."""
    image = np.full((*SIZE, 3), BACKGROUND, np.uint8)
    cv2.fillConvexPoly(image, cv2.convexHull(np.round(points[:, :2]).astype(np.int32)), skin)
    parts = (geometry.LEFT_EYE, geometry.RIGHT_EYE, geometry.LEFT_BROW, geometry.RIGHT_BROW, geometry.LIPS)
    image[geometry.fill(parts, points, SIZE) > 128] = features
    grain = np.random.default_rng(0).normal(0, 3, SIZE)[..., None]
    return np.clip(blur(image, 1.0) + grain, 0, 255).astype(np.uint8)


def lit_sideways(image: RGBImage, points: FloatArray, darkest: float, *, from_right: bool = True) -> RGBImage:
    """Linear light falling from one of the face's edges to the other, down to `darkest` of itself."""
    left, right = points[:, 0].min(), points[:, 0].max()
    across = np.clip((np.arange(image.shape[1]) - left) / (right - left), 0, 1)
    return relit(image, (darkest + (1 - darkest) * (across if from_right else 1 - across))[None, :, None])


def relit(image: RGBImage, gain: FloatArray | float) -> RGBImage:
    """Linear light times `gain`."""
    return np.clip(255 * ((image / 255) ** 2.2 * gain) ** (1 / 2.2), 0, 255).astype(np.uint8)


def flattened(image: RGBImage, share: float) -> RGBImage:
    """Mixed with its own mean, as by haze."""
    return np.asarray(image * (1 - share) + image.mean() * share, np.uint8)


def resized(image: RGBImage, points: FloatArray, factor: float) -> tuple[RGBImage, FloatArray]:
    """The picture and its mesh at another size."""
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    smaller = points * np.float32(factor)
    smaller[:, :2] += (factor - 1) / 2
    return cv2.resize(image, size, interpolation=interpolation), smaller
