"""Draws a person and a shirt for the Studio's try-on: `python -m examples.draw_tryon` writes them.

Everything on them is drawn by this code, so they may be used for anything.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from examples.child import Head, Look, paint_face, paint_hair, paint_neck
from examples.painting import Canvas, Mask, ellipse, mix, points, smooth

SIZE = 1024
FOLDER = Path(__file__).parent / "try-on"
MIDDLE = 512.0


def person() -> Canvas:
    """Someone in a plain tee and jeans, standing, seen from the front, from the head to above the knees."""
    canvas = Canvas(SIZE, "#e9e3d6", "#d3cbbb")
    canvas.glow((380, 260), 420, "#fff8ea", 0.7)
    look = Look(
        skin="#c98f68", shadow="#8a5439", blush="#c9705a", lips="#a9524a", hair="#2b1c18", iris="#5a3a22", ink="#231310"
    )
    head = Head(center=(MIDDLE, 176), radius=74, look=look)
    back = [(0, -1.5), (-0.8, -1.35), (-1.25, -0.7), (-1.3, 0.3), (-1.15, 1.0), (-0.5, 1.2),
            (0.5, 1.2), (1.15, 1.0), (1.3, 0.3), (1.25, -0.7), (0.8, -1.35)]  # fmt: skip
    paint_hair(canvas, head, back, [[(s * 0.9, -0.6), (s * 1.1, 0.2), (s * 1.0, 0.9)] for s in (-1, 1)], seed=4)
    jeans(canvas)
    tee(canvas)
    shoulders = smooth(
        [(480, 268), (544, 268), (554, 300), (588, 330), (512, 352), (436, 330), (470, 300)], closed=True
    )
    canvas.fill(shoulders, mix(look.skin, look.shadow, 0.25))
    paint_neck(canvas, head, (MIDDLE, 318))
    neckline(canvas)
    for side in (-1, 1):
        arm(canvas, look, side)
    paint_face(canvas, head)
    fringe = [(0, -1.5), (-0.75, -1.35), (-1.18, -0.8), (-1.2, -0.1), (-1.04, 0.12), (-0.98, -0.35), (-0.6, -0.78),
              (0.1, -0.86), (0.62, -0.7), (0.98, -0.35), (1.04, 0.12), (1.2, -0.1),
              (1.18, -0.8), (0.75, -1.35)]  # fmt: skip
    locks = [[(0.2, -1.4), (x * 0.8, -1.1), (x, -0.72)] for x in (-0.9, -0.6, -0.3, 0.1, 0.5, 0.9)]
    paint_hair(canvas, head, fringe, locks, seed=5)
    return canvas


def tee(canvas: Canvas) -> None:
    """The plain tee that is worn."""
    for side in (-1, 1):
        upper_arm = [(MIDDLE + side * 122, 384), (MIDDLE + side * 152, 430), (MIDDLE + side * 166, 468)]
        sleeve = canvas.limb(upper_arm, [80, 92, 92])
        cloth(canvas, sleeve, "#e4e0da", "#8c8478")
    trunk = [(448, 312), (512, 322), (576, 312), (640, 338), (664, 396), (646, 520), (636, 640), (640, 736),
             (512, 748), (384, 736), (388, 640), (378, 520), (360, 396), (384, 338)]  # fmt: skip
    body = canvas.fill(smooth(trunk, closed=True), "#efece6")
    canvas.shade(body, "#8c8478", (-20, -12), 26, 0.75)
    for x, sway in ((420, 14), (470, -10), (575, 12), (615, -14)):
        canvas.stroke(
            [(x, 600), (x + sway, 670), (x + sway * 0.4, 735)], 16, "#b9b2a6", opacity=0.4, blur=5, inside=body
        )
    for side in (-1, 1):
        armpit = [(MIDDLE + side * 128, 430), (MIDDLE + side * 112, 500), (MIDDLE + side * 118, 560)]
        canvas.stroke(armpit, 12, "#a49c8f", opacity=0.6, blur=4, inside=body)


def neckline(canvas: Canvas) -> None:
    """The worn tee's collar, over the neck."""
    collar = [(444, 312), (474, 342), (512, 354), (550, 342), (580, 312)]
    canvas.stroke(collar, 16, "#f4f1eb", taper=(0.9, 0.9))
    canvas.stroke([(x, y + 9) for x, y in collar], 3, "#b9b2a6", taper=(0.8, 0.8), opacity=0.8)


def arm(canvas: Canvas, look: Look, side: int) -> None:
    """A bare arm, hanging down beside the body."""
    limb = canvas.limb(
        [
            (MIDDLE + side * 168, 470),
            (MIDDLE + side * 184, 560),
            (MIDDLE + side * 190, 640),
            (MIDDLE + side * 188, 712),
        ],
        [66, 60, 52, 40],
    )
    lower = canvas.mask(points((0, 494), (SIZE, 494), (SIZE, SIZE), (0, SIZE)))
    skin(canvas, limb * lower, look)
    for end, widths in (((182, 800), [44, 40, 22]), ((170, 786), [30, 26, 16]), ((196, 790), [26, 22, 14])):
        hand = canvas.limb(
            [(MIDDLE + side * 188, 716), (MIDDLE + side * 187, 752), (MIDDLE + side * end[0], end[1])], widths
        )
        skin(canvas, hand, look)


def skin(canvas: Canvas, shape: Mask, look: Look) -> None:
    canvas.paint(shape, look.skin)
    canvas.shade(shape, look.shadow, (-12, -4), 12, 0.75)


def jeans(canvas: Canvas) -> None:
    for side in (-1, 1):
        leg = canvas.limb(
            [(MIDDLE + side * 66, 730), (MIDDLE + side * 74, 860), (MIDDLE + side * 78, 1080)], [128, 118, 104]
        )
        cloth(canvas, leg, "#3e5a86", "#1b2a4a")
    seat = canvas.fill(
        smooth([(386, 700), (512, 712), (638, 700), (646, 800), (512, 850), (378, 800)], closed=True), "#3e5a86"
    )
    canvas.shade(seat, "#1b2a4a", (-16, -8), 22, 0.6)
    canvas.stroke([(512, 740), (516, 800), (512, 850)], 5, "#22355c", taper=(1, 1))


def cloth(canvas: Canvas, shape: Mask, color: str, shadow: str) -> None:
    canvas.paint(shape, color)
    canvas.shade(shape, shadow, (-18, -10), 20, 0.75)


SHIRT = [
    (454, 204), (480, 226), (512, 233), (544, 226), (570, 204), (676, 232), (826, 372), (752, 452), (668, 376),
    (660, 560), (664, 832), (360, 832), (364, 560), (356, 376), (272, 452), (198, 372), (348, 232),
]  # fmt: skip


def shirt() -> Canvas:
    """A striped tee, laid flat before a plain ground."""
    canvas = Canvas(SIZE, "#f6f4f0", "#f6f4f0")
    body = canvas.fill(points(*SHIRT), "#f7efe0")
    for level in range(250, 840, 58):
        canvas.stroke([(120, level), (512, level + 8), (900, level)], 25, "#1f6f78", taper=(1, 1), inside=body)
    badge = canvas.fill(ellipse((596, 352), (34, 34)), "#e2542e")
    canvas.shade(badge, "#8a2a14", (-5, -5), 6, 0.6)
    star = [
        (596, 330),
        (602, 346),
        (618, 347),
        (605, 357),
        (610, 373),
        (596, 364),
        (582, 373),
        (587, 357),
        (574, 347),
        (590, 346),
    ]
    canvas.fill(points(*star), "#fdeee2")
    canvas.shade(body, "#6d7f78", (-12, -10), 16, 0.45)
    for side in (-1, 1):
        seam = [(MIDDLE + side * 164, 226), (MIDDLE + side * 150, 300), (MIDDLE + side * 156, 376)]
        canvas.stroke(seam, 4, "#17525a", taper=(1, 1), opacity=0.5)
    collar = [(450, 208), (480, 234), (512, 242), (544, 234), (574, 208)]
    canvas.stroke(collar, 18, "#1f6f78", taper=(1, 1), inside=body)
    canvas.stroke(
        [(362, 818), (512, 822), (662, 818)], 5, mix("#1f6f78", "#000000", 0.2), taper=(1, 1), opacity=0.5, inside=body
    )
    return canvas


PICTURES = {"person.png": person, "shirt.png": shirt}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        Image.fromarray(draw().finish()).save(FOLDER / name, optimize=True)


if __name__ == "__main__":
    main()
