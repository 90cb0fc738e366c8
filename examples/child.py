"""A painted child's head: a face on a turned ellipsoid, with hair and ears, in proportions that a face mesh recognises.

The head has its own coordinates: x to the right and y down as seen from the front, in half face widths, with the origin
between the eyes. `Head.at` carries them onto the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from examples.painting import Canvas, Mask, Points, ellipse, mix, points, smooth

# One half of the face's outline, from the hairline to the chin.
_OUTLINE = (
    (0.0, -1.12),
    (0.5, -1.05),
    (0.84, -0.74),
    (0.97, -0.24),
    (0.99, 0.2),
    (0.9, 0.58),
    (0.67, 0.9),
    (0.34, 1.1),
)
_CHIN = (0.0, 1.15)
_EYE = (0.41, 0.05)
_NOSE_TIP = (0.0, 0.46)
_MOUTH_CORNER = (0.265, 0.755)
_EAR_HIDDEN_FROM = 12.0  # degrees of yaw from which the cheek covers the far ear


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of one child."""

    skin: str
    shadow: str
    blush: str
    lips: str
    hair: str
    iris: str
    ink: str
    outline: float = 0.0
    """Width of the ink line around face and hair, in pixels; 0 paints without one."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a head stands on the page.

    `radius` is half the face's width in pixels; `roll` turns it clockwise and `yaw` towards the right, in degrees.
    """

    center: tuple[float, float]
    radius: float
    look: Look
    roll: float = 0.0
    yaw: float = 0.0
    _turn: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turn", (np.cos(np.deg2rad(self.yaw)), np.sin(np.deg2rad(self.yaw))))

    def at(self, where: ArrayLike, *, lift: float = 0.0) -> Points:
        """Head coordinates (N, 2) -> page pixels (N, 2). `lift` raises a point off the face, as the nose is."""
        x, y = np.asarray(where, np.float32).reshape(-1, 2).T
        depth = np.sqrt(np.clip(1 - (x / 1.06) ** 2 - (y / 1.9) ** 2, 0, None)) + lift
        cos_yaw, sin_yaw = self._turn
        turned = x * cos_yaw + (depth - 0.5) * sin_yaw
        roll = np.deg2rad(self.roll)
        page_x = turned * np.cos(roll) - y * np.sin(roll)
        page_y = turned * np.sin(roll) + y * np.cos(roll)
        return np.asarray(np.stack([page_x, page_y], axis=1) * self.radius + np.array(self.center), np.float32)

    def px(self, length: float) -> float:
        """A length of the head in pixels."""
        return length * self.radius

    def shape(self, *where: Sequence[float]) -> Points:
        """A smooth closed outline through points of the head."""
        return smooth(self.at(where), closed=True)

    def kps(self) -> Points:
        """The five points of a face slot: (5, 2) left eye, right eye, nose, left and right mouth corner as seen."""
        flat = self.at([mirrored(_EYE, -1), _EYE])
        mouth = self.at([mirrored(_MOUTH_CORNER, -1), _MOUTH_CORNER])
        return np.concatenate([flat, self.at([_NOSE_TIP], lift=0.2), mouth])

    def bbox(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of the face from brow to chin, as face detectors frame it."""
        face = self.at([(-0.92, -0.62), (0.92, -0.62), (-0.95, 0.2), (0.95, 0.2), (-0.5, 1.1), (0.5, 1.1), _CHIN])
        left, top = face.min(axis=0)
        right, bottom = face.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def mirrored(point: Sequence[float], side: int) -> tuple[float, float]:
    """The point on the right (1) or the left (-1) half of the face."""
    return (side * point[0], point[1])


def paint_face(canvas: Canvas, head: Head) -> Mask:
    """Ears, face and features. Returns the face's coverage."""
    for side in (-1, 1):
        if side * head.yaw < _EAR_HIDDEN_FROM:
            _ear(canvas, head, side)
    contour = [*(mirrored(p, 1) for p in _OUTLINE), _CHIN, *(mirrored(p, -1) for p in _OUTLINE[:0:-1])]
    face = canvas.fill(head.shape(*contour), head.look.skin)
    _model_skin(canvas, head, face)
    for side in (-1, 1):
        _eye(canvas, head, side)
        _brow(canvas, head, side)
    _nose(canvas, head, face)
    _mouth(canvas, head, face)
    if head.look.outline:
        canvas.stroke(head.at(contour[3:-3]), head.look.outline, head.look.ink, taper=(0.2, 0.2), opacity=0.85)
    return face


def paint_neck(canvas: Canvas, head: Head, base: tuple[float, float]) -> None:
    """A neck from under the chin to `base` (page pixels), shaded by the chin."""
    half = head.px(0.36)
    top = head.at([(0.0, 0.8)])[0]
    sides = points(
        (top[0] - half, top[1]),
        (top[0] + half, top[1]),
        (base[0] + half * 1.05, base[1]),
        (base[0] - half * 1.05, base[1]),
    )
    outline = smooth(sides, closed=True)
    if head.look.outline:
        canvas.trace(outline, head.look.outline, head.look.ink)
    neck = canvas.fill(outline, mix(head.look.skin, head.look.shadow, 0.35))
    canvas.paint(
        canvas.mask(head.shape((-0.7, 0.8), (0.7, 0.8), (0.4, 1.5), (-0.4, 1.5)), blur=head.px(0.08), inside=neck),
        head.look.shadow,
        0.75,
    )


def _ear(canvas: Canvas, head: Head, side: int) -> None:
    center = head.at([(side * 1.0, 0.2)])[0]
    ear = canvas.fill(ellipse(center, (head.px(0.17), head.px(0.28)), head.roll - side * 8), head.look.skin)
    canvas.shade(ear, head.look.shadow, (-head.px(0.05) * side, -head.px(0.06)), head.px(0.07), 0.8)
    inner = ellipse(center, (head.px(0.08), head.px(0.16)), head.roll - side * 8)
    canvas.fill(inner, mix(head.look.shadow, head.look.blush, 0.4), opacity=0.55, blur=head.px(0.03))


def _model_skin(canvas: Canvas, head: Head, face: Mask) -> None:
    """Light from the upper left: shaded rim, eye sockets and jaw, warm cheeks, a lit forehead."""
    look, px = head.look, head.px
    canvas.shade(face, look.shadow, (-px(0.16), -px(0.1)), px(0.2), 0.8)
    canvas.shade(face, look.shadow, (px(0.05), -px(0.04)), px(0.12), 0.35)
    for side in (-1, 1):
        socket = head.shape(
            *((side * x, y) for x, y in ((0.16, -0.1), (0.4, -0.2), (0.68, -0.06), (0.6, 0.15), (0.3, 0.17)))
        )
        canvas.fill(socket, look.shadow, opacity=0.3, blur=px(0.08), inside=face)
        cheek = ellipse(head.at([(side * 0.58, 0.5)])[0], (px(0.26), px(0.2)), head.roll)
        canvas.fill(cheek, look.blush, opacity=0.5, blur=px(0.14), inside=face)
        glow = ellipse(head.at([(side * 0.5, 0.36)])[0], (px(0.16), px(0.08)), head.roll - side * 20)
        canvas.fill(glow, "#ffffff", opacity=0.16, blur=px(0.07), inside=face)
    canvas.fill(
        ellipse(head.at([(-0.1, -0.55)])[0], (px(0.42), px(0.22)), head.roll),
        "#ffffff",
        opacity=0.16,
        blur=px(0.16),
        inside=face,
    )
    canvas.fill(
        ellipse(head.at([(0.0, 1.0)])[0], (px(0.16), px(0.09)), head.roll),
        "#ffffff",
        opacity=0.12,
        blur=px(0.06),
        inside=face,
    )


def _eye(canvas: Canvas, head: Head, side: int) -> None:
    look, px = head.look, head.px

    def local(*offsets: Sequence[float]) -> list[tuple[float, float]]:
        return [(side * (_EYE[0] + x), _EYE[1] + y) for x, y in offsets]

    upper = local((-0.215, 0.06), (-0.13, -0.085), (0.0, -0.15), (0.13, -0.105), (0.225, 0.02))
    lower = local((0.145, 0.115), (0.0, 0.15), (-0.13, 0.12))
    white = canvas.fill(head.shape(*upper, *lower), "#fbf7f2")
    center = head.at(local((0.0, 0.005)))[0]
    canvas.fill(ellipse(center, (px(0.152), px(0.158))), mix(look.iris, "#000000", 0.55), inside=white)
    canvas.fill(ellipse(center, (px(0.13), px(0.136))), look.iris, inside=white)
    canvas.fill(
        ellipse((center[0], center[1] + px(0.055)), (px(0.08), px(0.055))),
        "#ffffff",
        opacity=0.35,
        blur=px(0.02),
        inside=white,
    )
    canvas.fill(ellipse(center, (px(0.07), px(0.074))), "#120c0a", inside=white)
    lid_shadow = head.shape(*upper, *local((0.14, -0.03), (0.0, -0.08), (-0.13, -0.03)))
    canvas.fill(lid_shadow, mix(look.shadow, "#201018", 0.5), opacity=0.55, blur=px(0.015), inside=white)
    canvas.fill(ellipse((center[0] - px(0.045), center[1] - px(0.05)), (px(0.034), px(0.034))), "#ffffff", inside=white)
    canvas.fill(
        ellipse((center[0] + px(0.05), center[1] + px(0.055)), (px(0.016), px(0.016))),
        "#ffffff",
        opacity=0.8,
        inside=white,
    )
    canvas.stroke(head.at([*upper, *local((0.235, 0.045))]), px(0.045), look.ink, taper=(0.2, 0.3))
    canvas.stroke(head.at([*local((0.225, 0.03)), *lower, *local((-0.205, 0.075))]), px(0.018), look.ink, opacity=0.4)
    crease = local((-0.18, -0.08), (-0.05, -0.21), (0.12, -0.19), (0.25, -0.08))
    canvas.stroke(head.at(crease), px(0.022), mix(look.shadow, look.ink, 0.4), opacity=0.7)
    canvas.fill(ellipse(head.at(local((-0.2, 0.07)))[0], (px(0.022), px(0.018))), look.blush, opacity=0.6, inside=white)


def _brow(canvas: Canvas, head: Head, side: int) -> None:
    arch = [(side * x, y) for x, y in ((0.2, -0.28), (0.35, -0.345), (0.53, -0.345), (0.68, -0.255))]
    color = mix(head.look.hair, head.look.ink, 0.35)
    canvas.stroke(head.at(arch), head.px(0.065), color, taper=(0.5, 0.05), opacity=0.9, blur=head.px(0.008))


def _nose(canvas: Canvas, head: Head, face: Mask) -> None:
    look, px = head.look, head.px
    shadow_side = [(0.07, -0.05), (0.12, 0.2), (0.19, 0.48), (0.1, 0.56), (0.07, 0.35)]
    canvas.fill(
        smooth(head.at(shadow_side, lift=0.08), closed=True), look.shadow, opacity=0.5, blur=px(0.045), inside=face
    )
    canvas.fill(
        head.shape((-0.2, 0.56), (0.0, 0.6), (0.2, 0.56), (0.12, 0.66), (-0.12, 0.66)),
        look.shadow,
        opacity=0.45,
        blur=px(0.04),
        inside=face,
    )
    canvas.fill(
        ellipse(head.at([_NOSE_TIP], lift=0.2)[0], (px(0.13), px(0.11))),
        look.blush,
        opacity=0.35,
        blur=px(0.06),
        inside=face,
    )
    ridge = head.at([(-0.02, 0.0), (-0.025, 0.2), (-0.02, 0.4)], lift=0.12)
    canvas.stroke(ridge, px(0.075), "#ffffff", opacity=0.22, blur=px(0.03), inside=face)
    canvas.fill(
        ellipse(head.at([(-0.035, 0.45)], lift=0.2)[0], (px(0.045), px(0.035))),
        "#ffffff",
        opacity=0.4,
        blur=px(0.02),
        inside=face,
    )
    line = mix(look.shadow, look.ink, 0.45)
    for side in (-1, 1):
        nostril = [(side * x, y) for x, y in ((0.045, 0.56), (0.09, 0.535), (0.13, 0.56))]
        canvas.stroke(head.at(nostril, lift=0.1), px(0.036), line, opacity=0.8, blur=px(0.006))
        wing = [(side * x, y) for x, y in ((0.155, 0.42), (0.2, 0.49), (0.175, 0.565))]
        canvas.stroke(head.at(wing, lift=0.06), px(0.022), line, opacity=0.55, blur=px(0.006))


def _mouth(canvas: Canvas, head: Head, face: Mask) -> None:
    look, px = head.look, head.px
    left, right = mirrored(_MOUTH_CORNER, -1), _MOUTH_CORNER
    seam = [left, (-0.14, 0.82), (0.0, 0.835), (0.14, 0.82), right]
    bow = [right, (0.09, 0.755), (0.0, 0.772), (-0.09, 0.755), left]
    below = [right, (0.14, 0.87), (0.0, 0.9), (-0.14, 0.87), left]
    canvas.fill(
        head.shape((-0.18, 0.91), (0.0, 0.925), (0.18, 0.91), (0.1, 0.98), (-0.1, 0.98)),
        look.shadow,
        opacity=0.45,
        blur=px(0.035),
        inside=face,
    )
    upper = np.concatenate([smooth(head.at(seam), closed=False), smooth(head.at(bow), closed=False)])
    canvas.fill(upper, mix(look.lips, look.shadow, 0.3), inside=face)
    lower = np.concatenate([smooth(head.at(seam), closed=False), smooth(head.at(below), closed=False)])
    lip = canvas.fill(lower, look.lips, inside=face)
    canvas.fill(
        ellipse(head.at([(-0.03, 0.86)])[0], (px(0.08), px(0.016)), head.roll),
        "#ffffff",
        opacity=0.35,
        blur=px(0.015),
        inside=lip,
    )
    line = mix(look.lips, look.ink, 0.65)
    canvas.stroke(head.at(seam), px(0.034), line, taper=(0.4, 0.4), opacity=0.9)
    for side in (-1, 1):
        dimple = [(side * x, y) for x, y in ((0.285, 0.715), (0.305, 0.75), (0.29, 0.79))]
        canvas.stroke(head.at(dimple), px(0.026), line, opacity=0.6, blur=px(0.006))


def paint_hair(
    canvas: Canvas, head: Head, outline: ArrayLike, locks: Sequence[Sequence[Sequence[float]]], *, seed: int
) -> Mask:
    """A mass of hair: its closed outline and, within it, strands that follow the given locks (head coordinates)."""
    look, px = head.look, head.px
    mass = canvas.fill(smooth(head.at(outline), closed=True), look.hair)
    canvas.shade(mass, mix(look.hair, "#0a0410", 0.6), (-px(0.14), -px(0.16)), px(0.16), 0.75)
    random = np.random.default_rng(seed)
    for lock in locks:
        path = head.at(lock)
        for _ in range(26):
            strand = path + random.normal(0, px(0.075), 2) + random.normal(0, px(0.02), path.shape)
            light = random.random() < 0.45
            color = mix(look.hair, "#fff0d0", 0.3) if light else mix(look.hair, "#08040c", 0.45)
            canvas.stroke(strand, px(random.uniform(0.012, 0.04)), color, opacity=random.uniform(0.2, 0.5), inside=mass)
    if look.outline:
        canvas.trace(smooth(head.at(outline), closed=True), look.outline, look.ink)
    return mass
