"""Garments and a mannequin of known geometry: their anchors and the pose are exact, since they are what is drawn."""

from __future__ import annotations

import cv2
import numpy as np

from body_pose import BodyPose, Joint
from utils import AnyArray, FloatArray, GrayImage, RGBImage

WIDTH, HEIGHT = 600, 800

Outline = dict[str, tuple[float, float]]

# Corners of the right half (as seen), from the neck around to the hem; the left half mirrors them about x = 300.
_TOP: Outline = {"neck": (350, 90), "shoulder": (408, 112)}
_SLEEVES: dict[str, list[tuple[float, float]]] = {
    "short": [(520, 240), (468, 282), (412, 222)],
    "long": [(560, 520), (506, 536), (412, 222)],
    "none": [(396, 160), (412, 222)],
}
_HEMS: dict[str, list[tuple[float, float]]] = {
    "tshirt": [(414, 560)],
    "longsleeve": [(414, 580)],
    "tank": [(414, 560)],
    "jacket": [(420, 600)],
    "dress": [(392, 380), (470, 780)],
}
_KINDS = {"tshirt": "short", "longsleeve": "long", "tank": "none", "jacket": "long", "dress": "none"}


def top(name: str, colour: tuple[int, int, int] = (60, 110, 170), ground: int = 245) -> RGBImage:
    """A striped top or dress before a plain ground: tshirt, longsleeve, tank, jacket or dress."""
    return _painted(top_mask(name), colour, ground)


def top_mask(name: str) -> GrayImage:
    """Its true mask, 255 inside."""
    right = [_TOP["neck"], _TOP["shoulder"], *_SLEEVES[_KINDS[name]], *_HEMS[name]]
    opening = [(300 + dx, 90 + 34 * (1 - (dx / 50) ** 2)) for dx in range(50, -51, -10)]
    ring = [*right, *((600 - x, y) for x, y in reversed(right)), *reversed(opening[1:-1])]
    return _filled([ring])


def top_anchors(name: str) -> dict[str, tuple[float, float]]:
    """The true anchors that are corners of the drawing."""
    armpit = _SLEEVES[_KINDS[name]][-1]
    hem = _HEMS[name][-1]
    right = {"neck_right": _TOP["neck"], "armpit_right": armpit, "hem_right": hem}
    return right | {name.replace("right", "left"): (600 - x, y) for name, (x, y) in right.items()}


def trousers(name: str, colour: tuple[int, int, int] = (120, 70, 60), ground: int = 245) -> RGBImage:
    """Striped pants or shorts before a plain ground."""
    return _painted(trousers_mask(name), colour, ground)


def trousers_mask(name: str) -> GrayImage:
    hem = {"pants": [(424, 700), (348, 700)], "shorts": [(432, 350), (316, 356)]}[name]
    right = [(384, 60), (412, 150), *hem]
    ring = [*right, CROTCH, *((600 - x, y) for x, y in reversed(right))]
    return _filled([ring])


CROTCH = (300.0, 190.0)


def skirt(colour: tuple[int, int, int] = (150, 60, 90), ground: int = 245) -> RGBImage:
    """A striped skirt before a plain ground."""
    return _painted(_filled([[(370, 80), (450, 480), (150, 480), (230, 80)]]), colour, ground)


def _filled(rings: list[list[tuple[float, float]]]) -> GrayImage:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(ring) * 16).astype(np.int32) for ring in rings], 255, cv2.LINE_AA, shift=4)
    return mask


def _painted(mask: GrayImage, colour: tuple[int, int, int], ground: int) -> RGBImage:
    """Stripes of two shades, so that what a warp does can be seen."""
    stripes = (np.arange(HEIGHT) // 14 % 2 == 0)[:, None, None]
    cloth = np.where(stripes, np.array(colour), np.array(colour) * 0.6 + 90)
    share = (mask / 255)[..., None]
    return np.round(cloth * share + ground * (1 - share)).astype(np.uint8)


SKIN, SHIRT, SHORTS, WALL = (205, 150, 120), (190, 60, 50), (50, 60, 120), (225, 226, 228)

_POINTS: dict[Joint, tuple[float, float]] = {
    Joint.NOSE: (300, 120),
    Joint.LEFT_EYE: (318, 100),
    Joint.RIGHT_EYE: (282, 100),
    Joint.LEFT_EAR: (340, 108),
    Joint.RIGHT_EAR: (260, 108),
    Joint.MOUTH_LEFT: (315, 145),
    Joint.MOUTH_RIGHT: (285, 145),
    Joint.LEFT_SHOULDER: (370, 240),
    Joint.RIGHT_SHOULDER: (230, 240),
    Joint.LEFT_ELBOW: (410, 360),
    Joint.RIGHT_ELBOW: (190, 360),
    Joint.LEFT_WRIST: (425, 470),
    Joint.RIGHT_WRIST: (175, 470),
    Joint.LEFT_INDEX: (428, 510),
    Joint.RIGHT_INDEX: (172, 510),
    Joint.LEFT_PINKY: (434, 508),
    Joint.RIGHT_PINKY: (166, 508),
    Joint.LEFT_THUMB: (420, 500),
    Joint.RIGHT_THUMB: (180, 500),
    Joint.LEFT_HIP: (342, 450),
    Joint.RIGHT_HIP: (258, 450),
    Joint.LEFT_KNEE: (346, 630),
    Joint.RIGHT_KNEE: (254, 630),
    Joint.LEFT_ANKLE: (350, 790),
    Joint.RIGHT_ANKLE: (250, 790),
    Joint.LEFT_HEEL: (350, 805),
    Joint.RIGHT_HEEL: (250, 805),
    Joint.LEFT_FOOT: (360, 815),
    Joint.RIGHT_FOOT: (240, 815),
}
SIZE = (600, 860)


def mannequin(**moved: tuple[float, float]) -> tuple[RGBImage, BodyPose]:
    """A standing figure in a red tee and blue shorts, and its pose. Joints move by name: left_wrist=(320, 380)."""
    at = {joint: np.array(moved.get(joint.name.lower(), point), np.float64) for joint, point in _POINTS.items()}
    inner = {Joint.LEFT_EYE_INNER: Joint.LEFT_EYE, Joint.RIGHT_EYE_INNER: Joint.RIGHT_EYE}
    outer = {Joint.LEFT_EYE_OUTER: Joint.LEFT_EYE, Joint.RIGHT_EYE_OUTER: Joint.RIGHT_EYE}
    at |= {joint: at[like] for joint, like in (inner | outer).items()}
    person = np.zeros(SIZE[::-1], np.uint8)
    picture = np.full((*SIZE[::-1], 3), WALL, np.uint8)

    def limb(joints: list[Joint], width: int, colour: tuple[int, int, int]) -> None:
        points = [np.round(np.array([at[joint] for joint in joints])).astype(np.int32)]
        for canvas, value in ((picture, colour), (person, 255)):
            cv2.polylines(canvas, points, False, value, width, cv2.LINE_AA)

    def area(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        ring = [np.round(np.array(points)).astype(np.int32)]
        cv2.fillPoly(picture, ring, colour, cv2.LINE_AA)
        cv2.fillPoly(person, ring, 255)

    for side in ("LEFT", "RIGHT"):
        hip, knee, ankle, foot = (Joint[f"{side}_{name}"] for name in ("HIP", "KNEE", "ANKLE", "FOOT"))
        limb([hip, knee, ankle, foot], 46, SKIN)
    area([(228, 430), (372, 430), (380, 570), (308, 575), (300, 520), (292, 575), (220, 570)], SHORTS)
    area([(270, 150), (330, 150), (335, 225), (265, 225)], SKIN)
    area([(265, 208), (335, 208), (385, 226), (376, 300), (368, 470), (232, 470), (224, 300), (215, 226)], SHIRT)
    for canvas, colour in ((picture, SKIN), (person, 255)):
        cv2.ellipse(canvas, (300, 110), (44, 62), 0, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(picture, (300, 70), (46, 34), 0, 180, 360, (50, 35, 30), -1, cv2.LINE_AA)
    for x in (282, 318):
        cv2.circle(picture, (x, 100), 6, (60, 40, 30), -1, cv2.LINE_AA)
        cv2.line(picture, (x - 10, 84), (x + 10, 84), (70, 45, 35), 5)
    cv2.line(picture, (285, 146), (315, 146), (160, 70, 70), 6)
    for side in ("LEFT", "RIGHT"):
        shoulder, elbow, wrist, index = (Joint[f"{side}_{name}"] for name in ("SHOULDER", "ELBOW", "WRIST", "INDEX"))
        limb([shoulder, elbow, wrist, index], 36, SKIN)
        sleeve = [at[shoulder] + (0, 2), at[shoulder] * 0.4 + at[elbow] * 0.6]
        cv2.polylines(picture, [np.round(np.array(sleeve)).astype(np.int32)], False, SHIRT, 44, cv2.LINE_AA)
        cv2.polylines(person, [np.round(np.array(sleeve)).astype(np.int32)], False, 255, 44)
    noise = np.random.default_rng(1).normal(0, 2, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    points = np.zeros((33, 3), np.float32)
    for joint, point in at.items():
        points[joint, :2] = point
    mask = cv2.GaussianBlur(person, (0, 0), 2).astype(np.float32) / 255
    return picture, BodyPose(points, np.ones(33, np.float32), mask, np.array([[220, 40, 380, 460]], np.float32))


def stretched(points: AnyArray, scale: float) -> FloatArray:
    """Points of a picture that was resized by `scale`."""
    return np.asarray(points, np.float32) * scale
