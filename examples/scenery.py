"""What stands around the child on a page: sky, land, sea and things. Positions and sizes are in page pixels."""

from __future__ import annotations

import numpy as np

from examples.painting import Canvas, Points, ellipse, mix, points, smooth


def sun(canvas: Canvas, center: tuple[float, float], radius: float) -> None:
    canvas.glow(center, radius * 2.2, "#fff3b8", 0.8)
    canvas.fill(ellipse(center, (radius, radius)), "#ffe27a")
    canvas.fill(
        ellipse((center[0] - radius * 0.2, center[1] - radius * 0.2), (radius * 0.6,) * 2),
        "#fff6cf",
        opacity=0.8,
        blur=radius * 0.2,
    )


def cloud(canvas: Canvas, x: float, y: float, size: float) -> None:
    puffs = ((-95, 12, 55), (-40, -22, 68), (35, -30, 76), (95, 8, 58), (0, 22, 80))
    cloud = np.max(
        [canvas.mask(ellipse((x + dx * size, y + dy * size), (r * size, r * 0.72 * size))) for dx, dy, r in puffs],
        axis=0,
    )
    canvas.paint(cloud, "#ffffff", 0.94)
    canvas.shade(cloud, "#a9c6e2", (0, -26 * size), 22 * size, 0.8)


def hill(canvas: Canvas, ridge: list[tuple[float, float]], light: str, dark: str) -> None:
    outline = np.concatenate([smooth(ridge, closed=False), points((1064, 1100), (-40, 1100))])
    hill = canvas.fill(outline, light)
    lower = outline + points((0, 60))
    canvas.fill(lower, dark, opacity=0.7, blur=60, inside=hill)
    canvas.shade(hill, mix(light, "#ffffff", 0.5), (0, 14), 7, 0.6)


def tree(canvas: Canvas, x: float, y: float, size: float) -> None:
    canvas.stroke([(x, y - 60 * size), (x + 2, y), (x, y + 45 * size)], 17 * size, "#7a5136", taper=(0.6, 1.2))
    crown = np.max(
        [
            canvas.mask(ellipse((x + dx * size, y - dy * size), (r * size, r * size)))
            for dx, dy, r in ((-34, 70, 40), (30, 74, 44), (0, 118, 48), (0, 66, 44))
        ],
        axis=0,
    )
    canvas.paint(crown, "#6fae54")
    canvas.shade(crown, "#2f6b3c", (-16 * size, -18 * size), 15 * size, 0.9)


def fir(canvas: Canvas, x: float, y: float, size: float) -> None:
    for tier in range(4):
        top, half = y - (190 - tier * 45) * size, (26 + tier * 15) * size
        bough = canvas.fill(
            points((x, top), (x + half, top + 82 * size), (x, top + 70 * size), (x - half, top + 82 * size)), "#24406a"
        )
        canvas.shade(bough, "#c9d6f5", (10 * size, 12 * size), 5 * size, 0.75)


def grass(canvas: Canvas, *, top: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(150):
        x, y, height = random.uniform(0, 1024), random.uniform(top, 1030), random.uniform(18, 42)
        color = mix("#3f7a3a", "#b6d96a", random.uniform(0, 1))
        canvas.stroke(
            [(x, y), (x + random.uniform(-4, 4), y - height / 2), (x + random.uniform(-14, 14), y - height)],
            5,
            color,
            taper=(1.0, 0.0),
            opacity=0.8,
        )
    for _ in range(28):
        x, y = random.uniform(0, 1024), random.uniform(top + 10, 1010)
        color = str(random.choice(["#f7e36b", "#f38ba0", "#ffffff", "#c79be8"]))
        for angle in range(0, 360, 72):
            turn = np.deg2rad(angle)
            canvas.fill(ellipse((x + 6 * np.cos(turn), y + 6 * np.sin(turn)), (5, 5)), color)
        canvas.fill(ellipse((x, y), (4, 4)), "#e8a33a")


def kite(canvas: Canvas) -> None:
    center = np.array((800.0, 330.0))
    corners = center + points((0, -105), (72, -8), (0, 120), (-72, -8)) @ rotation(24)
    canvas.stroke([tuple(corners[2]), (740, 560), (712, 760)], 3, "#6b4a3a", taper=(1, 1))
    colors = ("#e8574a", "#f4b942", "#4a90c2", "#f7e2b0")
    for index, color in enumerate(colors):
        part = canvas.fill(np.array([center, corners[index], corners[(index + 1) % 4]], np.float32), color)
        canvas.shade(part, "#40202a", (-10, -12), 12, 0.35)
    tail = [tuple(corners[2]), (720, 470), (760, 520), (700, 570), (735, 620)]
    canvas.stroke(tail, 4, "#e8574a", taper=(1, 1))
    for x, y in ((725, 470), (752, 522), (706, 568)):
        canvas.fill(points((x, y), (x - 20, y - 11), (x - 18, y + 11)), "#f4b942")
        canvas.fill(points((x, y), (x + 20, y - 11), (x + 18, y + 11)), "#4a90c2")


def ship(canvas: Canvas, at: tuple[float, float]) -> None:
    offset = points(at)
    hull = canvas.fill(
        smooth(points((-105, 20), (-80, 75), (70, 75), (110, 10), (0, 28)) + offset, closed=True), "#8a4b30"
    )
    canvas.shade(hull, "#4a2018", (-8, -14), 10, 0.8)
    canvas.stroke(points((0, 30), (2, -60), (0, -150)) + offset, 9, "#5a3222", taper=(1, 1))
    for low, high, reach in ((10, -70, 78), (-78, -142, 56)):
        sail = canvas.fill(
            smooth(
                points(
                    (-8, low), (-reach * 0.9, low - 12), (-reach * 0.6, high), (reach * 0.6, high), (reach, low - 12)
                )
                + offset,
                closed=True,
            ),
            "#fff6e4",
        )
        canvas.shade(sail, "#c9a98a", (-12, -10), 12, 0.7)
    canvas.fill(points((0, -150), (46, -166), (0, -182)) + offset, "#d8443a")


def palm(canvas: Canvas, base: tuple[float, float]) -> None:
    x, y = base
    trunk = [(x, y + 40), (x - 8, y - 130), (x - 40, y - 300), (x - 75, y - 420)]
    canvas.stroke(trunk, 46, "#5c3a26", taper=(1.0, 0.6))
    canvas.stroke(trunk, 36, "#a8744a", taper=(1.0, 0.55))
    for step in range(14):
        level = y + 20 - step * 32
        canvas.stroke(
            [(x - 24 - step * 5.5, level), (x - 2 - step * 5.6, level + 8), (x + 20 - step * 5.5, level)],
            4,
            "#6f452c",
            opacity=0.7,
        )
    top = (x - 75, y - 420)
    for angle, length in ((-168, 215), (-135, 200), (-100, 175), (-62, 190), (-25, 200), (8, 190), (165, 205)):
        turn = np.deg2rad(angle)
        tip = (top[0] + length * np.cos(turn), top[1] + length * np.sin(turn) + 70)
        bend = (top[0] + length * 0.55 * np.cos(turn), top[1] + length * 0.55 * np.sin(turn) - 26)
        canvas.stroke([top, bend, tip], 58, "#1d5a38", taper=(0.1, 0.0))
        canvas.stroke([top, bend, tip], 46, "#3f9a54", taper=(0.1, 0.0))
        canvas.stroke([top, bend, tip], 5, "#bfe08a", taper=(1.0, 0.0), opacity=0.8)
    for dx, dy in ((-16, 22), (14, 26)):
        nut = canvas.fill(ellipse((top[0] + dx, top[1] + dy), (19, 20)), "#7a4a2c")
        canvas.shade(nut, "#2f1810", (-6, -6), 6, 0.8)


def lantern(canvas: Canvas, at: tuple[float, float]) -> None:
    x, y = at
    canvas.fill(ellipse((x + 12, y + 86), (92, 14)), "#5c5f8a", opacity=0.5, blur=8)
    canvas.stroke(
        [(x - 34, y - 70), (x - 30, y - 118), (x, y - 132), (x + 30, y - 118), (x + 34, y - 70)],
        8,
        "#3a2a2a",
        taper=(1, 1),
    )
    glass = canvas.fill(points((x - 46, y - 62), (x + 46, y - 62), (x + 56, y + 62), (x - 56, y + 62)), "#ffcf6a")
    canvas.fill(ellipse((x, y + 12), (30, 44)), "#fffbe0", opacity=0.95, blur=14, inside=glass)
    for dx in (-46, 0, 46):
        canvas.stroke([(x + dx, y - 62), (x + dx * 1.1, y), (x + dx * 1.2, y + 62)], 8, "#3a2a2a", taper=(1, 1))
    for half, level, height in ((56, -74, 22), (66, 62, 24)):
        bar = canvas.fill(
            points(
                (x - half, y + level),
                (x + half, y + level),
                (x + half, y + level + height),
                (x - half, y + level + height),
            ),
            "#4a3434",
        )
        canvas.shade(bar, "#e0a860", (0, 6), 3, 0.6)


def rotation(degrees: float) -> Points:
    """The 2x2 matrix that turns row vectors clockwise on the page."""
    turn = np.deg2rad(degrees)
    return points((np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn)))
