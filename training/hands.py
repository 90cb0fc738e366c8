"""Hands and arms drawn at random over drawn faces, with the mask of where they are."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from examples.child import Head, Look
from examples.painting import SUPERSAMPLING, Canvas, Mask, Points, ellipse, grown, mix, smooth, soften
from training.faces import MIDDLE, SIZE, UNIT, Random, any_colour, pick
from utils import AnyArray, GrayImage, RGBImage

_PALM = ((-0.3, 0.02), (-0.42, -0.35), (-0.42, -0.7), (-0.36, -0.93), (0, -1.04), (0.38, -0.95), (0.42, -0.6),
         (0.36, -0.2), (0.28, 0.02))  # fmt: skip
"""In palm lengths: the wrist at the origin, fingers towards -y, the thumb at +x."""

# Knuckle, length, width, and how far each finger spreads.
_FINGERS = (
    ((-0.31, -0.86), 0.62, 0.20, -1.6),
    ((-0.11, -0.97), 0.80, 0.23, -0.5),
    ((0.10, -1.00), 0.88, 0.24, 0.5),
    ((0.30, -0.92), 0.78, 0.23, 1.5),
)
_THUMBS = (((0.28, -0.25), (0.55, -0.55), (0.62, -0.85)), ((0.35, -0.3), (0.35, -0.62), (0.05, -0.72)))


@dataclass(frozen=True, slots=True)
class Style:
    """How the hands of one picture are drawn: ink line (pixels, 0 for none), its colour, and shades 0..1.

    inside: width of the lines between fingers, over that of the outline. light: offset of the shade, in palm lengths.
    """

    line: float
    ink: str
    opacity: float
    inside: float
    skin: str
    shade: float
    rim: float
    cast: float
    blur: float
    light: tuple[float, float]


def add_hands(canvas: Canvas, head: Head, random: Random) -> tuple[RGBImage, GrayImage]:
    """The picture with one or two hands, most of them over the face, and their mask (HxW 0..255)."""
    canvas, style = canvas.copy(), _style(head.look, random)
    if random.random() < 0.15:
        targets = [MIDDLE + UNIT * random.uniform((0.4, 0.2), (1.3, 1.9)) * (random.choice([-1, 1]), 1)]
    elif random.random() < 0.2:
        targets = [MIDDLE + UNIT * random.uniform((0.2, -0.3), (0.95, 1.1)) * (side, 1) for side in (-1, 1)]
    else:
        count = random.choice([1, 1, 1, 2])
        targets = [MIDDLE + UNIT * random.uniform((-1.0, -0.7), (1.0, 1.25)) for _ in range(count)]
    mask = np.maximum.reduce([_draw(canvas, head.look, random, style, target) for target in targets])
    small = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return canvas.finish(), np.round(small * 255).astype(np.uint8)


def _style(look: Look, random: Random) -> Style:
    lined, tone = random.random() < 0.6, random.normal(0.04, 0.08)
    line = random.uniform(0.35, 2.0) if lined else 0.0
    ink = pick(random, look.ink, mix(look.shadow, look.ink, random.uniform(0, 0.8)), mix(look.shadow, "#000000", 0.2))
    if lined and look.outline and random.random() < 0.7:
        line, ink = look.outline, look.ink
    return Style(
        line=line,
        ink=ink,
        opacity=random.uniform(0.6, 1),
        inside=random.uniform(0.3, 1),
        skin=mix(look.skin, look.shadow if tone > 0 else "#ffffff", abs(tone)),
        shade=max(0, random.uniform(-0.9, 0.9)) if lined else random.uniform(0.3, 0.95),
        rim=0.0 if lined else random.uniform(0, 0.6),
        cast=max(0, random.uniform(-0.6, 0.6)) if lined else random.uniform(0.1, 0.7),
        blur=max(0, random.uniform(-1.0, 0.6)),
        light=(random.normal(-0.05, 0.04), random.normal(-0.05, 0.03)),
    )


def _draw(canvas: Canvas, look: Look, random: Random, style: Style, target: AnyArray) -> Mask:
    """A hand with its arm that reaches `target` (page pixels), or an arm alone; its coverage, sleeve and all."""
    palm = UNIT * random.uniform(0.38, 0.78)
    if random.random() < 0.12:
        away = np.array([random.choice([-1, 1]), random.uniform(-0.1, 0.9)]) * random.uniform(60, 140)
        bend = target + away / 2 + random.normal(0, 3, 2)
        arm = canvas.limb(np.stack([target, bend, target + away]), [palm * 0.55, palm * 0.75, palm * 0.9])
        return _paint(canvas, look, style, palm, [arm], [])
    # Most arms come from below, some from the sides, few from above.
    angle = np.deg2rad(random.choice([random.normal(0, 35), random.normal(0, 75), random.uniform(-130, 130)]))
    along = np.array([np.sin(angle), -np.cos(angle)])
    across = np.array([np.cos(angle), np.sin(angle)]) * random.choice([-1, 1])
    wrist = target - along * palm * random.uniform(0.2, 1.6)

    def place(*local: tuple[float, float]) -> Points:
        return np.array([wrist + palm * (x * across - y * along) for x, y in local], np.float32)

    fingers = _fingers(random)
    elbow = wrist - palm * (along * random.uniform(2.5, 5) + across * random.normal(0, 1))
    arm_path = np.stack([elbow, wrist - palm * (1.5 * along + across * random.normal(0, 0.2)), place((0, 0.15))[0]])
    parts = [canvas.limb(arm_path, [palm * 0.85, palm * 0.7, palm * 0.58])]
    parts += [canvas.limb(place(*path), [palm * width, palm * width * 0.8]) for path, width in fingers]
    parts.append(canvas.mask(smooth(place(*_PALM), closed=True)))
    thumb = random.integers(3)
    if thumb < 2:
        parts.append(canvas.limb(place(*_THUMBS[thumb]), [palm * 0.3, palm * 0.26, palm * 0.2]))
    # Where parts join there is no line.
    thin = 2 * style.line
    joints = [canvas.limb(place((0, 0), (0, -0.8)), [palm * 0.4, palm * 0.4])]
    if palm * 0.58 > thin + 2:
        joints.append(canvas.limb(np.stack([arm_path[1], place((0, -0.35))[0]]), [palm * 0.58 - thin] * 2))
    for path, width in fingers if random.random() < 0.8 else ():
        if palm * width > thin + 1.5:
            knuckle = (0.9 * path[0][0], 0.9 * path[0][1])
            joints.append(canvas.limb(place(knuckle, path[0], path[1]), [palm * width - thin] * 2))
    mask = _paint(canvas, look, style, palm, parts, joints)
    if random.random() < 0.25:
        for path, width in fingers:
            nail = ellipse(place(path[-1])[0], (palm * width * 0.28,) * 2)
            canvas.fill(nail, mix(look.skin, look.blush, 0.5), opacity=0.7)
    return np.maximum(
        mask, _sleeve(canvas, random, style, palm, wrist - palm * along * random.uniform(0.2, 1.6), elbow)
    )


def _fingers(random: Random) -> list[tuple[list[tuple[float, float]], float]]:
    """The fingers' paths in palm lengths, and their widths: stretched, curled, pointing, or all in one as a mitten."""
    kind = pick(random, "open", "open", "open", "fist", "point", "half", "together")
    spread, lean = random.uniform(0, 0.28), random.normal(0, 0.15)
    long, wide = random.uniform(0.75, 1.15), random.uniform(0.8, 1.25)
    if kind == "together":
        return [([(0, -0.5), (lean, -1.1), (2 * lean, -1.5 * long)], 0.85)]
    fingers = []
    for index, ((x, y), length, width, share) in enumerate(_FINGERS):
        stretched = long * length
        if kind == "fist" or (kind == "point" and index < 3):
            stretched *= random.uniform(0.12, 0.3)
        elif kind == "half":
            stretched *= random.uniform(0.35, 0.8)
        first = share * spread + lean + random.normal(0, 0.04)
        second = first + random.normal(0, 0.25)
        middle = x + np.sin(first) * stretched / 2, y - np.cos(first) * stretched / 2
        tip = middle[0] + np.sin(second) * stretched / 2, middle[1] - np.cos(second) * stretched / 2
        root = x - np.sin(first) / 4, y + np.cos(first) / 4
        fingers.append(([root, middle, tip], wide * width))
    return fingers if random.random() < 0.5 else fingers[::-1]


def _paint(canvas: Canvas, look: Look, style: Style, palm: float, parts: list[Mask], joints: list[Mask]) -> Mask:
    whole = np.maximum.reduce(parts)
    if style.cast:
        x, y = -np.array(style.light) * UNIT * SUPERSAMPLING
        moved = cv2.warpAffine(whole, np.array([[1, 0, x], [0, 1, y]], np.float32), whole.shape[::-1])
        canvas.paint(soften(np.asarray(moved, np.float32), 0.04 * UNIT) * (1 - whole), look.shadow, style.cast)
    covered = grown(whole, style.line / 2) if style.line else whole
    canvas.paint(covered * (style.line > 0), style.ink, style.opacity)
    light_x, light_y = style.light[0] * palm, style.light[1] * palm
    for number, part in enumerate(parts):
        if style.line and number:
            canvas.paint(grown(part, style.line * style.inside / 2) * whole, style.ink, 0.9)
        soft = soften(part, style.blur)
        canvas.paint(soft, style.skin)
        if style.shade:
            canvas.shade(soft, look.shadow, (light_x, light_y), 0.09 * palm, style.shade)
        if style.rim:
            canvas.shade(soft, look.shadow, (-0.7 * light_x, -0.7 * light_y), 0.07 * palm, style.rim)
    for joint in joints:
        canvas.paint(joint, style.skin)
    return covered


def _sleeve(canvas: Canvas, random: Random, style: Style, palm: float, cuff: AnyArray, elbow: AnyArray) -> Mask:
    if random.random() > 0.45:
        return np.zeros((1, 1), np.float32)
    sleeve = canvas.limb(np.stack([cuff, (cuff + elbow) / 2, elbow]), [palm * 0.8, palm * 0.95, palm * 1.1])
    canvas.paint(grown(sleeve, style.line) * (style.line > 0), style.ink)
    canvas.paint(sleeve, any_colour(random))
    canvas.shade(sleeve, "#101020", (-2, -2), 3, 0.4)
    return sleeve
