"""Clothes, hats and braids of the painted children."""

from __future__ import annotations

import numpy as np

from examples.child import Head
from examples.painting import Canvas, ellipse, mix, smooth


def dungarees(canvas: Canvas) -> None:
    outline = [
        (300, 765),
        (395, 715),
        (472, 735),
        (548, 715),
        (645, 765),
        (715, 900),
        (735, 1100),
        (210, 1100),
        (232, 900),
    ]
    shirt = canvas.fill(smooth(outline, closed=True), "#f4e6c8")
    for level in range(740, 1040, 44):
        canvas.stroke(
            [(190, level + 22), (472, level + 44), (750, level + 22)], 17, "#d9614f", taper=(1, 1), inside=shirt
        )
    canvas.shade(shirt, "#7a3a3a", (-30, -26), 30, 0.55)
    bib = canvas.fill(
        smooth([(365, 855), (472, 868), (580, 855), (618, 980), (640, 1100), (305, 1100), (328, 980)], closed=True),
        "#4472a8",
    )
    canvas.shade(bib, "#1f3766", (-24, -18), 26, 0.8)
    for side in (-1, 1):
        canvas.stroke(
            [(472 + side * 92, 875), (472 + side * 98, 800), (472 + side * 78, 722)], 32, "#3a639a", taper=(1, 1)
        )
        button = canvas.fill(ellipse((472 + side * 90, 880), (14, 14)), "#f4c65a")
        canvas.shade(button, "#8a5a20", (-4, -4), 4, 0.8)


def explorer_shirt(canvas: Canvas) -> None:
    outline = smooth(
        [(330, 770), (430, 722), (505, 745), (590, 715), (690, 765), (770, 910), (790, 1100), (240, 1100), (262, 905)],
        closed=True,
    )
    shirt = canvas.fill(outline, "#d8b878")
    canvas.shade(shirt, "#7d5a34", (-30, -24), 22, 0.75)
    ink = "#24120f"
    canvas.trace(outline, 6, ink)
    for collar in ([(430, 722), (470, 800), (505, 770), (500, 742)], [(590, 715), (560, 795), (512, 770), (512, 742)]):
        flap = canvas.fill(np.array(collar, np.float32), "#e8cd94")
        canvas.shade(flap, "#9a7444", (-6, -8), 6, 0.7)
        canvas.trace(np.array(collar, np.float32), 5, ink)
    scarf_outline = smooth([(438, 742), (508, 768), (578, 738), (556, 800), (508, 866), (466, 804)], closed=True)
    scarf = canvas.fill(scarf_outline, "#c8413a")
    canvas.shade(scarf, "#6a1420", (-10, -10), 10, 0.8)
    canvas.trace(scarf_outline, 5, ink)
    for x in (385, 640):
        pocket = canvas.fill(
            smooth([(x - 52, 890), (x + 52, 884), (x + 50, 985), (x, 1000), (x - 50, 985)], closed=True), "#cda968"
        )
        canvas.shade(pocket, "#7d5a34", (-6, -8), 8, 0.7)
        canvas.stroke([(x - 52, 892), (x, 915), (x + 52, 886)], 5, ink, taper=(0.6, 0.6))
    for y in (900, 960):
        canvas.fill(ellipse((508, y), (8, 8)), "#6a4526")


def sun_hat(canvas: Canvas, head: Head) -> None:
    ink = head.look.ink
    shadow = head.shape((-1.1, -0.7), (0.0, -0.45), (1.1, -0.7), (0.9, -0.35), (0.0, -0.2), (-0.95, -0.35))
    canvas.fill(shadow, head.look.shadow, opacity=0.55, blur=head.px(0.06))
    crown_outline = head.shape(
        (-0.95, -0.7),
        (-0.92, -1.3),
        (-0.55, -1.72),
        (0.0, -1.8),
        (0.55, -1.72),
        (0.9, -1.3),
        (0.95, -0.7),
        (0.0, -0.62),
    )
    crown = canvas.fill(crown_outline, "#e6c27a")
    canvas.shade(crown, "#94672f", (-22, -16), 24, 0.85)
    band = canvas.fill(
        head.shape((-0.97, -0.66), (-0.96, -0.94), (0.0, -0.86), (0.96, -0.94), (0.97, -0.66), (0.0, -0.58)),
        "#a8362f",
        inside=crown,
    )
    canvas.shade(band, "#4f0f16", (-16, -4), 14, 0.7)
    canvas.trace(crown_outline, 6, ink)
    brim_outline = head.shape(
        (-1.75, -0.62),
        (-1.1, -0.86),
        (0.0, -0.76),
        (1.1, -0.86),
        (1.75, -0.62),
        (1.2, -0.46),
        (0.0, -0.4),
        (-1.2, -0.46),
    )
    brim = canvas.fill(brim_outline, "#edcd8a")
    canvas.shade(brim, "#a0743a", (-6, -12), 9, 0.85)
    canvas.trace(brim_outline, 6, ink)


def coat(canvas: Canvas) -> None:
    coat = canvas.fill(
        smooth(
            [
                (350, 790),
                (450, 745),
                (540, 765),
                (635, 745),
                (730, 790),
                (810, 930),
                (830, 1100),
                (250, 1100),
                (270, 930),
            ],
            closed=True,
        ),
        "#a83a4a",
    )
    canvas.shade(coat, "#44102c", (26, -20), 30, 0.8)
    canvas.stroke([(545, 790), (548, 940), (545, 1060)], 9, "#5f1730", taper=(1, 1), opacity=0.7)
    for y in (900, 975):
        toggle = canvas.fill(ellipse((548, y), (26, 9)), "#e8c088")
        canvas.shade(toggle, "#7a4a26", (-3, -4), 4, 0.8)


def scarf(canvas: Canvas) -> None:
    wrap = canvas.fill(
        smooth(
            [
                (395, 740),
                (470, 748),
                (540, 757),
                (610, 748),
                (685, 735),
                (700, 800),
                (620, 840),
                (540, 850),
                (460, 842),
                (385, 802),
            ],
            closed=True,
        ),
        "#f0c04a",
    )
    for x in range(390, 710, 34):
        canvas.stroke([(x, 735), (x + 10, 790), (x + 2, 852)], 11, "#e2803a", taper=(1, 1), inside=wrap)
    canvas.shade(wrap, "#6a2f1c", (14, -22), 20, 0.65)
    tail = canvas.fill(smooth([(610, 820), (672, 815), (690, 985), (622, 995)], closed=True), "#f0c04a")
    for y in range(850, 990, 34):
        canvas.stroke([(600, y), (655, y + 8), (700, y)], 11, "#e2803a", taper=(1, 1), inside=tail)
    canvas.shade(tail, "#6a2f1c", (12, -16), 16, 0.65)


def woolly_hat(canvas: Canvas, head: Head) -> None:
    canvas.fill(
        head.shape((-1.0, -0.6), (0.0, -0.4), (1.0, -0.6), (0.8, -0.3), (0.0, -0.24), (-0.8, -0.3)),
        head.look.shadow,
        opacity=0.6,
        blur=head.px(0.07),
    )
    crown = canvas.fill(
        head.shape(
            (-1.08, -0.6),
            (-1.06, -1.15),
            (-0.7, -1.7),
            (0.0, -1.92),
            (0.7, -1.7),
            (1.06, -1.15),
            (1.08, -0.6),
            (0.0, -0.5),
        ),
        "#3f8f96",
    )
    for x in np.linspace(-1.0, 1.0, 13):
        canvas.stroke(
            head.at([(x * 1.02, -0.5), (x * 0.95, -1.2), (x * 0.35, -1.88)]),
            head.px(0.05),
            "#24606e",
            opacity=0.6,
            taper=(1, 0.3),
            inside=crown,
        )
    canvas.stroke(
        head.at([(-1.1, -1.18), (0.0, -1.12), (1.1, -1.18)]), head.px(0.2), "#f4ead2", taper=(1, 1), inside=crown
    )
    canvas.shade(crown, "#10304a", (24, -18), 28, 0.8)
    cuff = canvas.fill(
        head.shape(
            (-1.17, -0.46),
            (-1.16, -0.86),
            (-0.6, -0.96),
            (0.0, -0.94),
            (0.6, -0.96),
            (1.16, -0.86),
            (1.17, -0.46),
            (0.6, -0.52),
            (0.0, -0.5),
            (-0.6, -0.52),
        ),
        "#e8604c",
    )
    for x in np.linspace(-1.1, 1.1, 25):
        canvas.stroke(
            head.at([(x, -0.45), (x * 1.005, -0.7), (x, -0.97)]),
            head.px(0.03),
            "#8f2430",
            opacity=0.6,
            taper=(0.8, 0.8),
            inside=cuff,
        )
    canvas.shade(cuff, "#5c1428", (16, -10), 16, 0.7)
    random = np.random.default_rng(17)
    tip = head.at([(0.0, -2.02)])[0]
    canvas.fill(ellipse(tip, (head.px(0.18),) * 2), "#e6dac0")
    for _ in range(130):
        angle, reach = random.uniform(0, 2 * np.pi), random.uniform(0.12, 0.34) * head.radius
        end = tip + reach * np.array((np.cos(angle), np.sin(angle)))
        color = mix("#c9b58f", "#fffaf0", random.uniform(0, 1))
        canvas.stroke(
            np.array([tip + (end - tip) * 0.3, (tip + end) / 2, end]), 9, color, taper=(1.0, 0.3), opacity=0.9
        )


def braids(canvas: Canvas, head: Head) -> None:
    for side in (-1, 1):
        for step in range(9):
            center = head.at([(side * (1.0 + 0.035 * step), 0.1 + step * 0.21)])[0]
            plait = canvas.fill(
                ellipse(center, (head.px(0.17), head.px(0.15)), side * (25 if step % 2 else -25)), "#2a191a"
            )
            canvas.shade(plait, "#050203", (6, -7), 7, 0.9)
            canvas.shade(plait, "#6a4a44", (-8, 9), 6, 0.5)
        bow = head.at([(side * 1.34, 2.0)])[0]
        canvas.fill(ellipse(bow, (15, 12)), "#f0c04a")


def curls(canvas: Canvas, head: Head) -> None:
    random = np.random.default_rng(23)
    for x in np.linspace(-0.9, 0.9, 19):
        for row in (0.0, 0.1):
            center = head.at([(x + random.normal(0, 0.02), -0.58 + row + 0.25 * x**4 + random.normal(0, 0.02))])[0]
            curl = canvas.fill(ellipse(center, (head.px(0.075), head.px(0.07))), "#1d1113")
            canvas.shade(curl, "#7a5248", (-5, 6), 4, 0.55)
