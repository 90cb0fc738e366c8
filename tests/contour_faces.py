"""Faces for the contour tests: the mean face's mesh in any pose, and label maps painted from it."""

from __future__ import annotations

import cv2
import numpy as np
import shapely

from contour_geometry import Points, mesh_areas
from face_geometry import LEFT_BROW, LEFT_EYE, LIPS, MOUTH_OPENING, RIGHT_BROW, RIGHT_EYE, mean_shape
from utils import GrayImage

PHOTO = (640, 720)
"""Width and height of the photos that the faces stand in."""
NOSE = (168, 193, 245, 188, 174, 236, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 456, 399, 412)
UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78)
CLASSES = {
    # skin, brows as seen in the picture, eyes, nose, upper lip, mouth, lower lip, hair
    "parsing11": (1, (2, 3), (4, 5), 6, 7, 8, 9, 10),
    "celebamask19": (1, (2, 3), (4, 5), 10, 12, 11, 13, 17),
}


def mesh(
    *,
    roll: float = 0,
    yaw: float = 0,
    pitch: float = 0,
    px_per_cm: float = 20,
    centre: Points | None = None,
    iris: bool = True,
    mouth: float = 0.8,
) -> Points:
    """The mean face (478 or 468, 2) in a photo of `PHOTO`; angles in degrees, the mouth's opening in centimetres."""
    shape = mean_shape().astype(np.float64)
    if iris:
        eyes = [shape[list(ring)].mean(axis=0) for ring in (LEFT_EYE, RIGHT_EYE)]
        shape = np.concatenate([shape, *([eye] * 5 for eye in eyes)])
    lower = [14, 17, 84, 181, 91, 146, 87, 178, 88, 95, 314, 405, 321, 375, 317, 402, 318, 324]
    shape[lower, 1] += mouth - (shape[14, 1] - shape[13, 1])
    for angle, (i, j) in ((yaw, (0, 2)), (pitch, (1, 2)), (roll, (0, 1))):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        shape[:, [i, j]] = shape[:, [i, j]] @ np.array([[c, s], [-s, c]])
    middle = np.array([PHOTO[0] / 2, PHOTO[1] / 2 + 40]) if centre is None else centre
    return np.asarray(shape[:, :2] * px_per_cm + middle)


def label_map(
    points: Points,
    scheme: str = "celebamask19",
    *,
    size: tuple[int, int] = PHOTO,
    hairline_cm: float = 11,
    swap: bool = False,
) -> GrayImage:
    """A map painted from a mesh, with skin up to a hairline that far above the eyes, and hair around.

    `swap` exchanges the classes of both sides, as parsers do that were trained with mirrored pictures.
    """
    skin, brows, eyes, nose, upper, mouth, lower, hair = CLASSES[scheme]
    scale = np.array(size) / PHOTO
    labels = np.zeros((size[1], size[0]), np.uint8)

    def paint(ring: Points, value: int) -> None:
        cv2.fillPoly(labels, [np.round((ring * scale - 0.5) * 16).astype(np.int32)], value, shift=4)

    up = (points[10] - points[152]) / np.linalg.norm(points[10] - points[152])
    px_per_cm = np.linalg.norm(points[10] - points[152]) / 16.8
    eye_level = points[[33, 263]].mean(axis=0)
    across = np.array([-up[1], up[0]])
    paint(eye_level + np.array([[9, 0], [9, 13], [-9, 13], [-9, 0]]) @ np.stack([across, up]) * px_per_cm, hair)
    forehead = np.array([[6, 0], [6, hairline_cm], [-6, hairline_cm], [-6, 0]])
    paint(eye_level + forehead @ np.stack([across, up]) * px_per_cm, skin)
    for part in shapely.get_parts(mesh_areas(points)[0]["face"]):
        paint(shapely.get_coordinates(part.exterior), skin)
    sides = ((LEFT_BROW, LEFT_EYE), (RIGHT_BROW, RIGHT_EYE))
    for (brow, eye), index in zip(sides, (1, 0) if swap else (0, 1), strict=True):
        paint(points[list(brow)], brows[index])
        paint(points[list(eye)], eyes[index])
    paint(points[list(NOSE)], nose)
    paint(points[list(LIPS)], lower)
    paint(points[list(UPPER_LIP)], upper)
    paint(points[list(MOUTH_OPENING)], mouth)
    return labels
