"""Draws the storybook pages of the demo: `python -m examples.draw_pages` writes them, with their face slots.

Everything on them is drawn by this code, so they may be used for anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from examples.child import Head, Look, paint_face, paint_hair, paint_neck
from examples.outfits import braids, coat, curls, dungarees, explorer_shirt, scarf, sun_hat, woolly_hat
from examples.painting import Canvas, ellipse, points, smooth
from examples.scenery import cloud, fir, grass, hill, kite, lantern, palm, ship, sun, tree

PAGE_SIZE = 1024
PAGES_DIR = Path(__file__).parent / "pages"


def kite_hill() -> tuple[Canvas, Head]:
    """A red-haired child with a fringe, seen from the front, flies a kite on a summer hill."""
    canvas = Canvas(PAGE_SIZE, "#5fb4e5", "#fdebc8")
    sun(canvas, (845, 150), 62)
    for x, y, size in ((190, 150, 1.0), (560, 95, 0.65), (930, 330, 0.75)):
        cloud(canvas, x, y, size)
    hill(canvas, [(-40, 640), (180, 560), (430, 620), (700, 540), (1064, 640)], "#9fc9a0", "#5f9a8a")
    hill(canvas, [(-40, 760), (250, 690), (560, 740), (820, 670), (1064, 740)], "#93c572", "#4d8a4c")
    for x, y, size in ((95, 655, 0.8), (165, 640, 1.0), (905, 632, 1.1), (970, 655, 0.8)):
        tree(canvas, x, y, size)
    hill(canvas, [(-40, 900), (240, 850), (520, 870), (800, 830), (1064, 890)], "#7db457", "#3f7a3a")
    grass(canvas, top=880, seed=3)
    kite(canvas)

    look = Look(
        skin="#f7cfae", shadow="#cf8a6c", blush="#ef8d7c", lips="#d9716c", hair="#b5532a", iris="#4f8a5b", ink="#3a1d18"
    )
    head = Head(center=(470, 500), radius=146, look=look)
    back = [(0, -1.5), (-0.75, -1.35), (-1.2, -0.75), (-1.27, 0.1), (-1.22, 0.8), (-1.3, 1.35), (-0.7, 1.5),
            (0.7, 1.5), (1.3, 1.35), (1.22, 0.8), (1.27, 0.1), (1.2, -0.75), (0.75, -1.35)]  # fmt: skip
    sides = [
        [(s * x, -0.5), (s * (x + 0.04), 0.3), (s * (x - 0.06), 0.9), (s * x, 1.4)]
        for s in (-1, 1)
        for x in (0.72, 0.92, 1.12)
    ]
    paint_hair(canvas, head, back, sides, seed=1)
    dungarees(canvas)
    paint_neck(canvas, head, (472, 735))
    paint_face(canvas, head)
    fringe = [(0, -1.5), (-0.75, -1.35), (-1.16, -0.8), (-1.2, -0.1), (-1.06, 0.28), (-0.95, -0.22), (-0.74, -0.5),
              (-0.55, -0.42), (-0.3, -0.55), (-0.05, -0.44), (0.22, -0.56), (0.5, -0.44), (0.76, -0.52),
              (0.96, -0.22), (1.06, 0.28), (1.2, -0.1), (1.16, -0.8), (0.75, -1.35)]  # fmt: skip
    locks = [[(0.05, -1.42), (x * 0.6, -1.0), (x, -0.45)] for x in np.linspace(-0.8, 0.8, 9)]
    locks += [[(s * 0.3, -1.38), (s * 1.0, -0.9), (s * 1.1, 0.1)] for s in (-1, 1)]
    paint_hair(canvas, head, fringe, locks, seed=2)
    return canvas, head


def treasure_island() -> tuple[Canvas, Head]:
    """A young explorer in a sun hat, three-quarter view with a tilted head, in ink and flat colour."""
    canvas = Canvas(PAGE_SIZE, "#7fd3d8", "#fff1c9")
    sun(canvas, (170, 165), 70)
    for x, y, size in ((430, 110, 0.7), (880, 180, 0.95)):
        cloud(canvas, x, y, size)
    sea = canvas.fill(points((-10, 560), (1034, 560), (1034, 1034), (-10, 1034)), "#2f9fb3")
    canvas.shade(sea, "#14637f", (0, -160), 90, 0.9)
    random = np.random.default_rng(5)
    for _ in range(60):
        left, level, length = random.uniform(0, 1024), random.uniform(580, 900), random.uniform(20, 80)
        wave = [(left, level), (left + length / 2, level - 5), (left + length, level)]
        canvas.stroke(wave, 4, "#d8f5ef", taper=(0.0, 0.0), opacity=0.55)
    ship(canvas, (205, 520))
    beach = canvas.fill(
        smooth([(-60, 1100), (-40, 880), (260, 830), (640, 850), (1064, 790), (1080, 1100)], closed=True), "#f2d591"
    )
    canvas.shade(beach, "#c99a55", (0, -30), 40, 0.7)
    palm(canvas, (900, 850))

    look = Look(
        skin="#d9a06f", shadow="#9a5b3c", blush="#cf6a4e", lips="#b5554c", hair="#2f1c18", iris="#5b3a22",
        ink="#24120f", outline=6.0,
    )  # fmt: skip
    head = Head(center=(520, 500), radius=140, look=look, roll=-9, yaw=19)
    back = [
        (0, -1.3),
        (-0.9, -1.2),
        (-1.3, -0.5),
        (-1.34, 0.2),
        (-1.2, 0.75),
        (-0.8, 0.95),
        (0.7, 0.9),
        (1.0, 0.4),
        (1.06, -0.6),
    ]
    paint_hair(
        canvas,
        head,
        back,
        [[(-1.15, -0.6), (-1.2, 0.1), (-1.05, 0.7)], [(-0.95, -0.5), (-1.0, 0.2), (-0.9, 0.8)]],
        seed=6,
    )
    explorer_shirt(canvas)
    paint_neck(canvas, head, (505, 735))
    paint_face(canvas, head)
    sideburn = [(-1.12, -0.8), (-1.16, 0.0), (-1.02, 0.42), (-0.92, 0.0), (-0.86, -0.35), (-0.6, -0.62), (-0.4, -0.9)]
    paint_hair(canvas, head, sideburn, [[(-0.7, -0.8), (-0.95, -0.4), (-1.03, 0.3)]], seed=7)
    wisp = [(0.2, -0.95), (0.62, -0.62), (0.86, -0.28), (0.95, 0.1), (1.0, -0.35), (0.95, -0.8)]
    paint_hair(canvas, head, wisp, [[(0.4, -0.8), (0.8, -0.5), (0.94, 0.0)]], seed=8)
    sun_hat(canvas, head)
    return canvas, head


def snowy_night() -> tuple[Canvas, Head]:
    """A child with a woolly hat and a lantern looks up into a snowy, moonlit night."""
    canvas = Canvas(PAGE_SIZE, "#101a44", "#4a5c9c")
    canvas.glow((180, 180), 210, "#a9b8ec", 0.5)
    moon = canvas.fill(ellipse((180, 180), (82, 82)), "#fdf3d0")
    canvas.shade(moon, "#d9b98a", (-22, -14), 20, 0.6)
    random = np.random.default_rng(11)
    for _ in range(70):
        x, y, size = random.uniform(0, 1024), random.uniform(0, 560), random.uniform(1.2, 3.2)
        canvas.fill(ellipse((x, y), (size, size)), "#fff8dc", opacity=random.uniform(0.4, 1.0))
    hill(canvas, [(-40, 700), (220, 610), (520, 680), (800, 600), (1064, 680)], "#7f90c8", "#4c5c9e")
    for x, y, size in ((70, 690, 1.2), (160, 665, 0.9), (800, 660, 1.0), (905, 675, 1.5), (990, 690, 1.0)):
        fir(canvas, x, y, size)
    hill(canvas, [(-40, 870), (260, 820), (560, 850), (820, 800), (1064, 850)], "#dfe6fa", "#8d9bd0")

    look = Look(
        skin="#8a5436", shadow="#4a2416", blush="#a8503a", lips="#8f4038", hair="#1d1113", iris="#3a2114", ink="#160b0a"
    )
    head = Head(center=(540, 520), radius=144, look=look, roll=6, yaw=-13)
    braids(canvas, head)
    coat(canvas)
    paint_neck(canvas, head, (540, 760))
    paint_face(canvas, head)
    curls(canvas, head)
    woolly_hat(canvas, head)
    scarf(canvas)
    canvas.glow((150, 850), 280, "#ffb54a", 0.45)
    lantern(canvas, (150, 850))
    for _ in range(120):
        x, y, size = random.uniform(0, 1024), random.uniform(0, 1024), random.uniform(2, 6)
        if np.hypot(x - 540, y - 530) > 190:
            canvas.fill(ellipse((x, y), (size, size)), "#ffffff", opacity=0.8, blur=1.0)
    return canvas, head


PAGES = {"kite_hill.png": kite_hill, "treasure_island.png": treasure_island, "snowy_night.png": snowy_night}


def main() -> None:
    PAGES_DIR.mkdir(exist_ok=True)
    lines = []
    for name, draw in PAGES.items():
        canvas, head = draw()
        path = PAGES_DIR / name
        Image.fromarray(canvas.finish()).save(path, optimize=True)
        lines.append(f" {json.dumps(name)}: {json.dumps([face_slot(head)])}")
        print(f"{path}: {path.stat().st_size // 1024} kB")
    (PAGES_DIR / "slots.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def face_slot(head: Head) -> dict[str, Any]:
    """Where the drawn face is, as the API takes it: the box and five points in page pixels."""
    kps = [[round(float(value), 1) for value in point] for point in head.kps()]
    return {"bbox": [round(value, 1) for value in head.bbox()], "kps": kps}


if __name__ == "__main__":
    main()
