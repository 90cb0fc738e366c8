"""Faces drawn at random, in as many ways as a few hundred lines can: what hands are drawn over for training.

A picture is `SIZE` pixels square and shows one head; half its face is `UNIT` pixels wide.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import skimage.data

from examples.child import Head, Look, paint_face, paint_hair, paint_neck
from examples.painting import Canvas, Mask, Points, ellipse, mix, points, smooth

SIZE, UNIT = 160, 41.0
MIDDLE = (80.0, 72.0)
"""Between the eyes."""

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
_BEARD = ((-0.97, 0.1), (-0.9, 0.62), (-0.67, 0.95), (-0.34, 1.12), (0, 1.17), (0.34, 1.12), (0.67, 0.95), (0.9, 0.62),
          (0.97, 0.1), (0.8, 0.35), (0.5, 0.6), (0, 0.6), (-0.5, 0.6), (-0.8, 0.35))  # fmt: skip
_WRINKLES = (((0.22, 0.5), (0.36, 0.66), (0.38, 0.85)), ((0.3, 0.26), (0.5, 0.3), (0.62, 0.24)),
             ((0.72, 0), (0.85, 0.06)), ((0.55, 0.75), (0.62, 0.9), (0.6, 1.0)))  # fmt: skip

Random = np.random.Generator


def pick(random: Random, *choices: str) -> str:
    """One of several words or colours."""
    return choices[int(random.integers(len(choices)))]


def any_colour(random: Random) -> str:
    return _hsv(random.random(), random.uniform(0, 0.9), random.uniform(0.1, 1))


def random_face(random: Random) -> tuple[Canvas, Head]:
    """One head in front of something, without hands."""
    look = _look(random)
    head = Head(
        center=(MIDDLE[0] + random.normal(0, 1.5), MIDDLE[1] + random.normal(0, 1.5)),
        radius=UNIT * random.uniform(0.93, 1.07),
        look=look,
        roll=random.normal(0, 5),
        yaw=float(np.clip(random.normal(0, 14), -32, 32)),
    )
    canvas = _background(random)
    _hair_behind(canvas, head, random)
    neck_first = random.random() < 0.5
    for part in (_neck, _shoulders) if neck_first else (_shoulders, _neck):
        part(canvas, head, random)
    face = paint_face(canvas, head) if random.random() < 0.4 else _flat_face(canvas, head, random)
    _peculiarities(canvas, head, random, face)
    _hair_in_front(canvas, head, random)
    return canvas, head


def _hsv(hue: float, saturation: float, value: float) -> str:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _skin_and_shadow(random: Random) -> tuple[str, str]:
    value, hue = random.uniform(0.25, 1.0), random.normal(0.065, 0.018)
    saturation = float(np.clip(random.normal(0.32 + 0.35 * (1 - value), 0.1), 0.05, 0.8))
    if random.random() < 0.06:  # grey, or from another planet
        hue, saturation, value = random.random(), random.uniform(0.05, 0.7), random.uniform(0.4, 1)
    shadow = _hsv(
        hue - random.uniform(0, 0.03), saturation * random.uniform(1.1, 1.6) + 0.05, value * random.uniform(0.5, 0.8)
    )
    return _hsv(hue, saturation, value), shadow


def _look(random: Random) -> Look:
    skin, shadow = _skin_and_shadow(random)
    ink = pick(random, "#000000", "#2a1512", "#3a1d18", "#20202a", "#5a3020")
    hair = pick(random, "#2a1a12", "#b5532a", "#d9a040", "#111114", "#7a4a2a", "#e8d090")
    blush = pick(random, "#ef6d5c", "#e04060", "#ff8a70", "#c05a40")
    lips = pick(random, "#c04050", "#a05040", "#d06a6a", "#803030")
    return Look(
        skin=skin,
        shadow=shadow,
        blush=mix(skin, blush, random.uniform(0.3, 0.9)),
        lips=mix(skin, lips, random.uniform(0.3, 1)),
        hair=any_colour(random) if random.random() < 0.3 else mix(hair, "#888888", random.uniform(0, 0.25)),
        iris=any_colour(random),
        ink=mix(ink, skin, random.uniform(0, 0.3)),
        outline=0 if random.random() < 0.4 else random.uniform(0.5, 2.2),
    )


def _background(random: Random) -> Canvas:
    """A photo of something, or a gradient with blots on it; some of them in the colours of skin."""
    if random.random() < 0.25:
        photo = getattr(skimage.data, pick(random, "coffee", "chelsea", "rocket"))()
        side = int(random.integers(SIZE, min(photo.shape[:2])))
        y, x = (int(random.integers(0, length - side + 1)) for length in photo.shape[:2])
        return Canvas.over(photo[y : y + SIZE, x : x + SIZE])
    colours = [any_colour(random) if random.random() < 0.7 else _skin_and_shadow(random)[0] for _ in range(2)]
    canvas = Canvas(SIZE, *colours)
    for _ in range(int(random.integers(0, 9))):
        colour = any_colour(random) if random.random() < 0.75 else _skin_and_shadow(random)[0]
        corners = random.uniform(0, SIZE, 2) + random.normal(0, random.uniform(8, 45), (6, 2))
        blot = smooth(corners, closed=True)
        canvas.fill(blot, colour, opacity=random.uniform(0.3, 1), blur=random.choice([0, 0, 1, 5]))
        if random.random() < 0.3:
            canvas.trace(blot, random.uniform(0.5, 2), "#201010")
    return canvas


def _outlined(canvas: Canvas, outline: Points, colour: str, look: Look) -> Mask:
    if look.outline:
        canvas.trace(outline, 2 * look.outline, look.ink)
    return canvas.fill(outline, colour)


def _shoulders(canvas: Canvas, head: Head, random: Random) -> None:
    far, near = random.uniform(60, 85), random.uniform(40, 60)
    low, high = random.uniform(135, 150), random.uniform(124, 134)
    half = [(-far, 175), (-near, low), (-20, high)]
    outline = smooth([(80 + s * x, y) for s, side in ((1, half), (-1, half[::-1])) for x, y in side], closed=True)
    body = _outlined(canvas, outline, head.look.skin if random.random() < 0.25 else any_colour(random), head.look)
    canvas.shade(body, "#101020", (-3, -3), 4, random.uniform(0, 0.6))


def _neck(canvas: Canvas, head: Head, random: Random) -> None:
    look, half = head.look, random.uniform(10, 19)
    if random.random() < 0.5:
        paint_neck(canvas, head, (MIDDLE[0] + random.normal(0, 3), 132))
        return
    x = MIDDLE[0]
    outline = smooth(points((x - half, 100), (x + half, 100), (x + half, 140), (x - half, 140)), closed=True)
    neck = _outlined(canvas, outline, mix(look.skin, look.shadow, max(0.0, random.uniform(-0.6, 0.8))), look)
    if random.random() < 0.5:
        chin = ellipse((x, 113), (1.1 * half, random.uniform(5, 14)))
        canvas.fill(chin, look.shadow, opacity=random.uniform(0.2, 0.8), blur=random.choice([0, 0, 2]), inside=neck)


def _flat_face(canvas: Canvas, head: Head, random: Random) -> Mask:
    """A face as comics, toddlers' books and logos draw it."""
    look, px = head.look, head.px
    wide, long = random.uniform(0.92, 1.08), random.uniform(0.93, 1.07)
    for side in (-1, 1):
        if side * head.yaw < 15 and random.random() < 0.85:
            ear = head.at([(side * 1.0, random.uniform(0.1, 0.3))])[0]
            _outlined(canvas, ellipse(ear, (px(0.17), px(0.28))), look.skin, look)
            canvas.fill(ellipse(ear, (px(0.08), px(0.15))), look.shadow, opacity=random.uniform(0, 1))
    right = [(x * wide, y * long) for x, y in _OUTLINE]
    contour = [*right, (0.0, 1.15 * long), *((-x, y) for x, y in right[:0:-1])]
    face = _outlined(canvas, head.shape(*contour), look.skin, look)
    _shadows(canvas, head, random, face)
    for side in (-1, 1):
        cheek = ellipse(head.at([(side * 0.58, 0.5)])[0], (px(random.uniform(0.12, 0.28)), px(0.15)))
        soft = px(random.choice([0, 0.03, 0.12]))
        canvas.fill(cheek, look.blush, opacity=max(0, random.uniform(-0.5, 0.9)), blur=soft, inside=face)
    _flat_eyes(canvas, head, random)
    _flat_nose(canvas, head, random)
    _flat_mouth(canvas, head, random)
    return face


def _shadows(canvas: Canvas, head: Head, random: Random, face: Mask) -> None:
    """Soft shade, the hard shadow of a side light, the shadow below hair or a hat: none of them is a hand."""
    look, px = head.look, head.px
    if random.random() < 0.6:
        light = random.normal(0, px(0.14)), random.normal(-px(0.05), px(0.08))
        canvas.shade(face, look.shadow, light, px(random.uniform(0.01, 0.2)), random.uniform(0.2, 0.9))
    if random.random() < 0.35:
        x, side = random.uniform(-0.3, 0.6), random.choice([-1, 1])
        border = [(side * (x + random.normal(0, 0.15)), y) for y in (-1.3, -0.3, 0.3, 0.9, 1.3)]
        shaded = head.shape(*border, (side * 1.4, 1.3), (side * 1.4, -1.3))
        soft = px(random.choice([0, 0, 0.02, 0.06]))
        canvas.fill(shaded, look.shadow, opacity=random.uniform(0.2, 0.7), blur=soft, inside=face)
    if random.random() < 0.25:
        border = [(x, random.uniform(-0.7, -0.2)) for x in (-1.1, 0, 1.1)]
        shaded = head.shape((-1.2, -1.4), *border, (1.2, -1.4))
        soft = px(random.choice([0, 0.03, 0.1]))
        canvas.fill(shaded, look.shadow, opacity=random.uniform(0.2, 0.6), blur=soft, inside=face)


def _flat_eyes(canvas: Canvas, head: Head, random: Random) -> None:
    look, px, kind = head.look, head.px, random.integers(5)
    x, y, size = random.uniform(0.36, 0.46), random.uniform(-0.02, 0.1), random.uniform(0.1, 0.24)
    closed, wide = random.choice([-0.1, 0.1]), random.uniform(0.8, 1.1)
    look_x, look_y = random.normal(0, 0.02, 2)
    for side in (-1, 1):
        center = head.at([(side * x, y)])[0]
        if kind == 0:
            canvas.fill(ellipse(center, (px(size * 0.5), px(size * 0.7))), look.ink)
        elif kind == 1:
            lid = [(side * (x - 0.17), y + 0.03), (side * x, y + closed), (side * (x + 0.17), y + 0.03)]
            canvas.stroke(head.at(lid), px(0.05), look.ink)
        else:
            ball = ellipse(center, (px(size * wide), px(size)))
            white = canvas.fill(ball, "#fbf8f4")
            canvas.trace(ball, random.uniform(0.2, 1.5), look.ink)
            iris = head.at([(side * x + look_x, y + look_y)])[0]
            canvas.fill(ellipse(iris, (px(size * 0.62), px(size * 0.7))), look.iris, inside=white)
            canvas.fill(ellipse(iris, (px(size * 0.35), px(size * 0.4))), "#101010", inside=white)
            canvas.fill(ellipse(iris - px(0.035), (px(0.03), px(0.03))), "#ffffff")
            lid = [(side * (x - size), y), (side * x, y - 1.05 * size), (side * (x + size), y)]
            canvas.stroke(head.at(lid), px(random.uniform(0.01, 0.08)), look.ink)
        brow = [(side * (x - 0.2), -0.3), (side * x, -0.37), (side * (x + 0.24), -0.28 + random.normal(0, 0.05))]
        colour = mix(look.hair, look.ink, 0.4)
        canvas.stroke(head.at(brow), px(random.uniform(0.01, 0.1)), colour, taper=(0.5, 0.2))


def _flat_nose(canvas: Canvas, head: Head, random: Random) -> None:
    look, px, kind = head.look, head.px, random.integers(5)
    line, width = mix(look.shadow, look.ink, random.random()), px(random.uniform(0.025, 0.05))
    ball = ellipse(head.at([(0, 0.42)], lift=0.15)[0], (px(random.uniform(0.08, 0.22)), px(random.uniform(0.07, 0.18))))
    if kind == 0:
        canvas.stroke(head.at([(-0.07, 0.45), (0, 0.5), (0.07, 0.45)], lift=0.1), width, line)
    elif kind == 1:
        canvas.stroke(head.at([(0.03, 0.1), (0.12, 0.42), (-0.02, 0.47)], lift=0.1), width, line)
    elif kind == 2:
        canvas.fill(ball, mix(look.skin, look.blush, 0.6))
    elif kind == 3:
        canvas.trace(ball, random.uniform(0.5, 1.5), line)
        canvas.fill(ball, look.skin)
    else:
        for side in (-1, 1):
            canvas.fill(ellipse(head.at([(side * 0.07, 0.5)], lift=0.1)[0], (px(0.03), px(0.02))), line)


def _flat_mouth(canvas: Canvas, head: Head, random: Random) -> None:
    look, px, kind = head.look, head.px, random.integers(4)
    wide, y = random.uniform(0.15, 0.34), 0.76
    if kind == 0:
        smile = head.at([(-wide, y - 0.04), (0, y + 0.06), (wide, y - 0.04)])
        canvas.stroke(smile, px(random.uniform(0.03, 0.05)), look.ink)
    elif kind == 1:
        low = random.uniform(0.12, 0.22)
        open_mouth = head.shape(
            (-wide, y - 0.06), (0, y - 0.03), (wide, y - 0.06), (wide * 0.6, y + 0.12), (0, y + low),
            (-wide * 0.6, y + 0.12),
        )  # fmt: skip
        mouth = canvas.fill(open_mouth, "#7a2028")
        canvas.trace(open_mouth, random.uniform(0.4, 1.2), look.ink)
        teeth = head.shape((-wide, y - 0.06), (0, y - 0.04), (wide, y - 0.06), (wide * 0.6, y + 0.02), (0, y + 0.03))
        canvas.fill(teeth, "#ffffff", opacity=random.choice([0, 1]), inside=mouth)
    elif kind == 2:
        canvas.fill(head.shape((-wide, y), (-0.06, y - 0.06), (0.06, y - 0.06), (wide, y), (0, y + 0.1)), look.lips)
        canvas.stroke(head.at([(-wide, y), (0, y + 0.02), (wide, y)]), px(0.03), mix(look.lips, look.ink, 0.6))
    else:
        canvas.fill(ellipse(head.at([(0, y)])[0], (px(0.07), px(0.09))), "#6a2028")


def _peculiarities(canvas: Canvas, head: Head, random: Random, face: Mask) -> None:
    """Freckles, beards, wrinkles, glasses, and coloured things in front."""
    look, px = head.look, head.px
    line = mix(look.shadow, look.ink, random.uniform(0, 0.8))
    if random.random() < 0.15:
        for x, y in random.uniform((-0.8, 0.15), (0.8, 0.7), (40, 2)):
            canvas.fill(ellipse(head.at([(x, y)])[0], (0.7, 0.6)), mix(look.skin, look.shadow, 0.8), inside=face)
    if random.random() < 0.2:
        colour, soft = pick(random, look.hair, "#dddddd", "#6a6a6a"), px(random.choice([0.01, 0.03, 0.08]))
        canvas.fill(head.shape(*_BEARD), colour, opacity=random.uniform(0.2, 1), blur=soft)
        canvas.fill(head.shape((-0.25, 0.755), (0, 0.71), (0.25, 0.755), (0, 0.88)), look.lips)
    if random.random() < 0.2:
        for side in (-1, 1):
            for wrinkle in _WRINKLES:
                path = head.at([(side * x, y) for x, y in wrinkle])
                canvas.stroke(path, px(random.uniform(0.0, 0.05)), line, opacity=random.uniform(0.3, 1))
        for y in (-0.7, -0.6, -0.5):
            canvas.stroke(head.at([(-0.5, y), (0, y - 0.05), (0.5, y)]), px(random.uniform(0, 0.03)), line)
    if random.random() < 0.1:
        _glasses(canvas, head, any_colour(random), random.uniform(0.8, 2.5))
    if random.random() < 0.1:
        corners = head.at([random.uniform(-1.2, 1.2, 2)]) + random.normal(0, px(0.4), (7, 2))
        canvas.fill(smooth(corners, closed=True), any_colour(random))


def _glasses(canvas: Canvas, head: Head, colour: str, width: float) -> None:
    for side in (-1, 1):
        canvas.trace(ellipse(head.at([(side * 0.43, 0.06)])[0], (head.px(0.32), head.px(0.28))), width, colour)
        canvas.stroke(head.at([(side * 0.74, 0.0), (side * 1.0, -0.03)]), head.px(0.06), colour)
    canvas.stroke(head.at([(-0.12, 0.0), (0, -0.03), (0.12, 0.0)]), head.px(0.06), colour)


def _hair_behind(canvas: Canvas, head: Head, random: Random) -> None:
    top, long = random.uniform(-1.6, -1.3), float(random.choice([0.2, 0.5, 1.0, 1.6]))
    half = [(0.75, top + 0.1), (1.22, -0.7), (1.25, 0.1), (1.2, long * 0.7), (1.0, long)]
    outline = [(0, top), *((-x, y) for x, y in half), *half[::-1]]
    locks: Sequence[Sequence[Sequence[float]]] = ()
    if random.random() < 0.4:
        locks = [[(side * 0.6, -1.2), (side * 1.1, -0.5), (side * 1.1, long * 0.8)] for side in (-1, 1)]
    if random.random() < 0.85:
        paint_hair(canvas, head, outline, locks, seed=int(random.integers(10**6)))


def _hair_in_front(canvas: Canvas, head: Head, random: Random) -> None:
    """A fringe with or without strands across the face, a hat, or nothing."""
    top, dip, side = random.uniform(-1.6, -1.3), random.uniform(-0.95, -0.35), random.uniform(-0.3, 0.6)
    kind = random.integers(5)
    if kind == 0:
        half = [(0.9, -1.7), (1.25, -0.9), (1.3, -0.55)]
        brim = smooth(head.at([(0, -2), *((-x, y) for x, y in half), (0, dip), *half[::-1]]), closed=True)
        canvas.shade(_outlined(canvas, brim, any_colour(random), head.look), "#000010", (-4, -4), 4, 0.4)
    elif kind > 1:
        bend = random.choice([-0.25, 0.25, 0.25])
        edge = [
            (x, dip + random.normal(0, 0.08) + bend * x * x)
            for x in np.linspace(-0.85, 0.85, int(random.integers(4, 8)))
        ]
        half = [(0.75, top + 0.12), (1.18, -0.8), (1.16, side * 0.5), (1.0, side)]
        locks = [[(0, top + 0.1), (x * 0.6, -1.1), (x, dip - 0.1)] for x in np.linspace(-0.8, 0.8, 5)]
        outline = [(0, top), *((-x, y) for x, y in half), *edge, *half[::-1]]
        paint_hair(canvas, head, outline, locks if random.random() < 0.5 else [], seed=int(random.integers(10**6)))
        for _ in range(int(random.integers(2, 9)) if random.random() < 0.3 else 0):
            x = random.uniform(-1, 1)
            strand = [
                (x * 0.5, -1.1),
                (x, random.normal(-0.6, 0.1)),
                (random.normal(x, 0.15), random.uniform(-0.4, 0.6)),
            ]
            width = head.px(random.uniform(0.015, 0.08))
            canvas.stroke(head.at(strand), width, head.look.hair, opacity=random.uniform(0.5, 1), taper=(0.8, 0.1))
