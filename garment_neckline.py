"""Where a garment's inner back is seen through its neck opening: the wearer's neck stands before it."""

from __future__ import annotations

import cv2
import numpy as np

from face_geometry import grow
from utils import FloatArray, GrayImage, RGBImage, as_float, smoothstep

_LEAST_NECKLINE = 1.5  # Lab
_BAND = 14.0  # Lab: what lies farther from a collar's band is no longer it
_MOTLEY = 8.0  # Lab: the spread of colours along a line that is no longer one collar's
_CLEAR = (1.5, 0.05)  # Lab: the least change at a front neckline that is surely seen, and more of it on bright cloth


def inner_back(rgb: RGBImage, mask: GrayImage, top: FloatArray, anchors: dict[str, FloatArray]) -> GrayImage:
    """255 between the back of the collar and the front neckline, where that can be seen; else nothing.

    The front neckline is the arc between both sides of the neck opening, pointed or round, along which colours change
    most evenly above a collar of one colour.
    """
    inside = np.zeros_like(mask)
    neck_left, neck_right = anchors["neck_left"][0], anchors["neck_right"][0]
    width = float(neck_right - neck_left)
    if width < 24:
        return inside
    lab = cv2.GaussianBlur(cv2.cvtColor(as_float(rgb) / 255, cv2.COLOR_RGB2LAB), (0, 0), 1)
    u = np.linspace(-0.9, 0.9, 42, dtype=np.float32)
    interior = grow(mask, -4)
    found: list[tuple[float, FloatArray]] = []
    for slide in (-0.08, -0.04, 0.0, 0.04, 0.08, 0.12):
        arcs = _Arcs(neck_left - slide * width, neck_right + slide * width, top)
        upper, lower = _beside(lab, *arcs.at(u))
        change = np.minimum(np.linalg.norm(upper - lower, axis=3), 25)
        parts = change.reshape(*change.shape[:2], 6, -1).mean(axis=3)
        motley = np.linalg.norm(lower.std(axis=2), axis=2)
        even = parts.min(axis=2) / np.maximum(parts.mean(axis=2), 1e-6)
        scores = parts.mean(axis=2) * smoothstep(even * 2) * np.exp(-motley / _MOTLEY)
        x, y = (axis.reshape(-1, len(u)) for axis in arcs.at(u))
        within = cv2.remap(interior, x, y, cv2.INTER_LINEAR)
        scores *= within.reshape(*scores.shape, -1).mean(axis=2) > 0.75 * 255  # not along the outline
        # The back collar's own lower edge may be as clear; the front neckline lies lower.
        scores *= 0.7 + 0.3 * smoothstep((arcs.depths[:, None] / width - 0.09) / 0.06)
        # At the back of the collar the background shines in: only a maximum below it counts.
        peaks = np.zeros_like(scores, bool)
        peaks[3:-1] = (scores[3:-1] >= scores[2:-2]) & (scores[3:-1] > scores[4:]) & (scores[3:-1] > _LEAST_NECKLINE)
        x, y = arcs.at(np.linspace(-1, 1, 81, dtype=np.float32))
        found += [
            (float(scores[peak]), np.stack([x[peak], y[peak]], axis=1)) for peak in zip(*np.nonzero(peaks), strict=True)
        ]
    if not found:
        return inside
    score, arc = max(found, key=lambda each: each[0])
    if score < _CLEAR[0] + _CLEAR[1] * float(np.median(lab[..., 0][mask > 0])):
        # A collar that lies open over its stand has no such line: what is surely inside is the stand's middle.
        arc = as_float((arc - arc.mean(axis=0)) * (0.7, 1) + arc.mean(axis=0))
    else:
        arc = _above_band(lab, arc, width)
    ring = np.concatenate([arc, [[arc[-1, 0], 0], [arc[0, 0], 0]]])
    cv2.fillPoly(inside, [np.round(ring * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return np.minimum(inside, grow(mask, 3))


def _above_band(lab: FloatArray, arc: FloatArray, width: float) -> FloatArray:
    """The upper edge of a collar's band of one colour and thickness, if `arc` is its lower edge; else `arc`."""
    tangent = np.gradient(arc, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    steps = np.arange(2.0, max(0.11 * width, 6), 0.5)
    x, y = np.moveaxis(as_float(arc[:, None] + steps[:, None] * normal[:, None]), 2, 0)
    colours = cv2.remap(lab, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[8:-8]
    other = np.linalg.norm(colours - np.median(colours[:, 1:4], axis=(0, 1)), axis=2) > _BAND
    ends = np.where(other.any(axis=1), steps[np.argmax(other, axis=1)], np.inf)
    thickness = float(np.median(ends))
    if not 0.02 * width < thickness < np.inf or (np.abs(ends - thickness) < 0.4 * thickness).mean() < 0.6:
        return arc
    return as_float(arc + thickness * normal)


class _Arcs:
    """All arcs from one column of the upper outline to another: (D, P) by depth and by how pointed they are."""

    powers = np.array([1.0, 1.5, 2.0, 3.0], np.float32)

    def __init__(self, left: float, right: float, top: FloatArray) -> None:
        columns = np.clip(np.round([left, right]).astype(int), 0, len(top) - 1)
        self.left, self.right = left, right
        self.ends = top[columns]
        width = right - left
        between = top[columns[0] : columns[1] + 1]
        back = float(np.max(between - np.linspace(float(self.ends[0]), float(self.ends[1]), len(between))))
        self.depths = np.arange(max(back, 0) + 0.02 * width, 1.1 * width, 1.0, dtype=np.float32)

    def at(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """x and y (D, P, N) where u (N,) runs from -1 to 1."""
        sag = 1 - np.abs(u) ** self.powers[:, None]
        line = self.ends[0] + (self.ends[1] - self.ends[0]) * (u + 1) / 2
        y = line + self.depths[:, None, None] * sag
        x = self.left + (self.right - self.left) * (u + 1) / 2
        return as_float(np.broadcast_to(x, y.shape)), as_float(y)


def _beside(lab: FloatArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Colours (D, P, N, 3) two pixels above and below arcs (D, P, N)."""
    tangent = np.stack([np.gradient(x, axis=2), np.gradient(y, axis=2)])
    normal = 2 * np.stack([-tangent[1], tangent[0]]) / np.maximum(np.linalg.norm(tangent, axis=0), 1e-6)
    flat = (-1, x.shape[2])
    above, below = (
        cv2.remap(
            lab,
            as_float(x - sign * normal[0]).reshape(flat),
            as_float(y - sign * normal[1]).reshape(flat),
            cv2.INTER_LINEAR,
        ).reshape(*x.shape, 3)
        for sign in (-1, 1)
    )
    return above, below
