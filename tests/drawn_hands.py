"""Bare hands in a drawn child's own skin colour, in poses and styles of picture books, painted over a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.child import Head, Look
from examples.painting import Canvas, Mask, Points, grown, smooth, soften
from face_slots import FaceSlot
from utils import FloatArray, RGBImage, rgb8_from_lab

_PALM = ((-0.4, -0.25), (-0.42, -0.7), (-0.36, -0.93), (0.0, -1.02), (0.38, -0.95), (0.42, -0.6), (0.36, -0.2), (0, 0))
_THUMB = ((0.28, -0.25), (0.55, -0.55), (0.62, -0.85))
_THUMB_OF_A_FIST = ((0.35, -0.3), (0.35, -0.62), (0.05, -0.72))
# Knuckle, angle in degrees, length and width, from the little finger to the first, in palm lengths.
_FINGERS = (
    ((-0.31, -0.86), -11.0, 0.62, 0.20),
    ((-0.11, -0.97), -3.5, 0.80, 0.23),
    ((0.10, -1.00), 3.5, 0.88, 0.24),
    ((0.30, -0.92), 10.0, 0.78, 0.23),
)


class Hand(NamedTuple):
    """Wrist and elbow in head coordinates (see `Head`), the way the fingers point (degrees clockwise from up), the
    palm's length in half face widths, how many fingers are stretched out, and on which side the thumb is.
    """

    wrist: tuple[float, float]
    elbow: tuple[float, float]
    degrees: float
    palm: float
    stretched: int
    thumb: int


POSES = {
    "on the cheek": (Hand((0.7, 1.35), (0.7, 2.6), -6, 0.62, 4, -1),),
    "over the mouth": (Hand((0.72, 1.38), (1.3, 2.7), -48, 0.6, 4, 1),),
    "a finger on the lips": (Hand((0.22, 1.72), (0.9, 2.9), -8, 0.58, 1, -1),),
    "over an eye": (Hand((-0.75, 1.2), (-1.2, 2.6), 12, 0.66, 4, 1),),
    "before both eyes": (
        Hand((1.0, 0.92), (1.6, 2.4), -20, 0.58, 4, 1),
        Hand((-1.0, 0.92), (-1.6, 2.4), 20, 0.58, 4, -1),
    ),
    "a fist at the chin": (Hand((0.15, 1.55), (0.6, 2.8), -4, 0.62, 0, -1),),
}
BESIDE = (Hand((1.75, 1.1), (1.8, 2.6), 10, 0.6, 4, 1),)


@dataclass(frozen=True, slots=True)
class Style:
    """line: width over the palm's. shade and cast: 0..1, of the hand's own side and of the shadow it throws."""

    line: float
    shade: float
    cast: float


STYLES = {"inked": Style(0.06, 0.3, 0), "fine lines": Style(0.025, 0, 0), "painted": Style(0, 0.75, 0.45)}


def head_of(slot: FaceSlot) -> Head:
    """Where the drawn head of a slot stands, and the colours to draw its hands with."""
    assert slot.skin_lab is not None
    eyes, mouth = slot.kps[:2].mean(axis=0), slot.kps[3:].mean(axis=0)
    radius = float(np.hypot(*(mouth - eyes))) / 0.705
    lab = np.array(slot.skin_lab, np.float32)
    skin, shadow, ink = (_hex(lab * factor) for factor in ((1, 1, 1), (0.72, 1.2, 1.15), (0.25, 0.6, 0.6)))
    look = Look(skin, shadow, blush=skin, lips=skin, hair=ink, iris=ink, ink=ink)
    x, y = eyes - 0.05 * radius * np.array([0, 1])
    return Head((float(x), float(y)), radius, look, roll=slot.roll_deg)


def with_hands(
    page_rgb: RGBImage, head: Head, hands: Sequence[Hand], style: Style
) -> tuple[RGBImage, NDArray[np.bool_]]:
    """The square page with hands painted over it, and where they are (HxW)."""
    canvas = Canvas.over(page_rgb)
    covered = np.maximum.reduce([_paint(canvas, head, hand, style) for hand in hands])
    size = page_rgb.shape[1::-1]
    return canvas.finish(), cv2.resize(covered, size, interpolation=cv2.INTER_AREA) > 0.5


def _paint(canvas: Canvas, head: Head, hand: Hand, style: Style) -> Mask:
    look, size = head.look, head.px(hand.palm)
    line, limbs = style.line * size, _limbs(canvas, head, hand)
    whole = np.maximum.reduce(list(limbs.values()))
    if style.cast:
        moved = cv2.warpAffine(
            whole, np.array([[1, 0, 0.16 * size], [0, 1, 0.22 * size]], np.float32), whole.shape[::-1]
        )
        canvas.paint(soften(np.asarray(moved, np.float32), 0.08 * size) * (1 - whole), look.shadow, style.cast)
    covered = grown(whole, line / 2) if line else whole
    if line:
        canvas.paint(covered, look.ink)
    for limb in limbs.values():
        if line and limb is not limbs["arm"]:
            canvas.paint(grown(limb, line / 2) * whole, look.ink)
        canvas.paint(limb, look.skin)
        canvas.shade(limb, look.shadow, (-0.06 * size, -0.05 * size), 0.09 * size, style.shade)
    inner = canvas.limb(_placed(head, hand, (0, 0.3), (0, -0.5), (0, -0.85)), [0.45 * size, 0.5 * size, 0.4 * size])
    canvas.paint(inner, look.skin)  # no line where fingers and arm join the palm
    return covered


def _limbs(canvas: Canvas, head: Head, hand: Hand) -> dict[str, Mask]:
    size = head.px(hand.palm)
    arm = np.concatenate([_flat(head, hand.elbow), _placed(head, hand, (0, 0.1))])
    limbs = {"arm": canvas.limb(arm, [0.85 * size, 0.6 * size])}
    for number, ((x, y), degrees, length, width) in enumerate(_FINGERS):
        curled = number < len(_FINGERS) - hand.stretched
        reach, angle = 0.16 if curled else length, np.deg2rad(degrees)
        tip = x + reach * np.sin(angle), y - reach * np.cos(angle)
        root = x - 0.25 * np.sin(angle), y + 0.25 * np.cos(angle)
        limbs[f"finger {number}"] = canvas.limb(_placed(head, hand, root, tip), [width * size, 0.85 * width * size])
    limbs["palm"] = canvas.mask(smooth(_placed(head, hand, *_PALM), closed=True))
    thumb = _THUMB if hand.stretched == len(_FINGERS) else _THUMB_OF_A_FIST
    limbs["thumb"] = canvas.limb(_placed(head, hand, *thumb), [0.3 * size, 0.26 * size, 0.2 * size])
    return limbs


def _placed(head: Head, hand: Hand, *local: tuple[float, float]) -> Points:
    """Points of a hand, in palm lengths from its wrist, on the page."""
    angle = np.deg2rad(hand.degrees)
    x, y = hand.palm * np.array(local).T * np.array([[hand.thumb], [1]])
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)
    return _flat(head, *(turned + np.array(hand.wrist)))


def _flat(head: Head, *where: Sequence[float]) -> Points:
    """Head coordinates on the page, on a plane before the face that rolls with it and doesn't turn."""
    roll, (x, y) = np.deg2rad(head.roll), np.array(where).T
    rolled = np.stack([x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)], axis=1)
    return np.asarray(rolled * head.radius + np.array(head.center), np.float32)


def _hex(lab: FloatArray) -> str:
    red, green, blue = rgb8_from_lab(lab.reshape(1, 1, 3).astype(np.float32))[0, 0]
    return f"#{red:02x}{green:02x}{blue:02x}"
