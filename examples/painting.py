"""A small painter: smooth shapes, soft shading and tapered brush strokes on a float canvas.

Points are (N, 2) arrays of x, y in pixels of the finished page. The canvas itself is `SUPERSAMPLING` times larger, and
reducing it at the end is what smooths every edge. Colours are "#rrggbb".
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Points: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.float32]
"""HxW float32, 0..1, at the canvas's own (supersampled) size."""

SUPERSAMPLING = 2
_SUBPIXEL_BITS = 4


def rgb(color: str) -> NDArray[np.float32]:
    """The three channels of "#rrggbb" as 0..1."""
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


def mix(first: str, second: str, share: float) -> str:
    """The colour `share` (0..1) of the way from the first to the second."""
    blended = rgb(first) * (1 - share) + rgb(second) * share
    return "#" + "".join(f"{round(float(channel) * 255):02x}" for channel in blended)


def points(*coordinates: Sequence[float]) -> Points:
    """(x, y) pairs as one (N, 2) array."""
    return np.array(coordinates, np.float32)


def smooth(control: ArrayLike, *, closed: bool, steps: int = 16) -> Points:
    """A Catmull-Rom curve through the control points: (N, 2) -> (M, 2)."""
    knots = np.asarray(control, np.float32)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([ends[0], knots, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[:, None]
    pieces = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        cubic = 3 * (start - end) + after - before
        square = 2 * before - 5 * start + 4 * end - after
        pieces.append(start + 0.5 * t * ((end - before) + t * (square + t * cubic)))
    if not closed:
        pieces.append(knots[-1:])
    return np.concatenate(pieces)


def ellipse(center: Sequence[float], radii: Sequence[float], degrees: float = 0.0) -> Points:
    """The outline of an ellipse turned clockwise by `degrees`: (96, 2)."""
    t = np.linspace(0, 2 * np.pi, 96, endpoint=False, dtype=np.float32)
    turn = np.deg2rad(degrees)
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    return np.stack(
        [center[0] + x * np.cos(turn) - y * np.sin(turn), center[1] + x * np.sin(turn) + y * np.cos(turn)], axis=1
    ).astype(np.float32)


class Canvas:
    """A square page in the making."""

    def __init__(self, size: int, top: str, bottom: str) -> None:
        """Start from a vertical gradient."""
        self.size = size
        height = size * SUPERSAMPLING
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        self._pixels = np.broadcast_to(rgb(top) * (1 - ramp) + rgb(bottom) * ramp, (height, height, 3)).copy()

    @classmethod
    def over(cls, picture: NDArray[np.uint8]) -> Canvas:
        """Start from a square picture: HxHx3 RGB."""
        canvas = cls(len(picture), "#000000", "#000000")
        size = canvas._pixels.shape[1::-1]
        canvas._pixels = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.float32) / 255
        return canvas

    def copy(self) -> Canvas:
        """The same picture, to be painted on separately."""
        canvas = copy(self)
        canvas._pixels = self._pixels.copy()
        return canvas

    def mask(self, outline: Points, *, blur: float = 0.0, inside: Mask | None = None) -> Mask:
        """Coverage of a closed outline, its edge softened by a Gaussian of `blur` pixels, kept within another mask."""
        canvas = np.zeros(self._pixels.shape[:2], np.uint8)
        fixed = np.round(outline * SUPERSAMPLING * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        coverage = soften(_coverage(canvas), blur)
        return coverage if inside is None else coverage * inside

    def limb(self, path: ArrayLike, widths: Sequence[float]) -> Mask:
        """Coverage of a round-ended limb along a smoothed path; `widths` in pixels, evenly spread along it."""
        line = smooth(path, closed=False) * SUPERSAMPLING
        width = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(widths)), widths) * SUPERSAMPLING
        canvas = np.zeros(self._pixels.shape[:2], np.uint8)
        fixed = np.round(line * 2**_SUBPIXEL_BITS).astype(np.int32)
        for start, end, thickness in zip(fixed, fixed[1:], width[1:], strict=False):
            across = max(1, round(float(thickness)))
            cv2.line(canvas, start.tolist(), end.tolist(), 255, across, cv2.LINE_AA, _SUBPIXEL_BITS)
        return _coverage(canvas)

    def paint(self, coverage: Mask, color: str, opacity: float = 1.0) -> None:
        """Lay a colour over what is there."""
        x, y, width, height = cv2.boundingRect((coverage > 1 / 512).astype(np.uint8))
        if not width:
            return
        window = np.s_[y : y + height, x : x + width]
        alpha = coverage[window][..., None] * opacity
        self._pixels[window] += (rgb(color) - self._pixels[window]) * alpha

    def fill(
        self, outline: Points, color: str, *, opacity: float = 1.0, blur: float = 0.0, inside: Mask | None = None
    ) -> Mask:
        """Paint a closed outline and return its coverage, for shading within it."""
        coverage = self.mask(outline, blur=blur, inside=inside)
        self.paint(coverage, color, opacity)
        return coverage

    def shade(self, shape: Mask, color: str, offset: Sequence[float], blur: float, opacity: float) -> None:
        """Give a shape volume: colour the side that `offset` (pixels) points away from, fading inwards.

        With offset (-20, -20) the light comes from the upper left and the lower right edge takes the colour.
        """
        shift = np.array([[1, 0, offset[0] * SUPERSAMPLING], [0, 1, offset[1] * SUPERSAMPLING]], np.float32)
        height, width = shape.shape
        lit = soften(np.asarray(cv2.warpAffine(shape, shift, (width, height)), np.float32), blur)
        self.paint(shape * (1 - lit), color, opacity)

    def stroke(
        self,
        path: ArrayLike,
        width: float,
        color: str,
        *,
        taper: tuple[float, float] = (0.0, 0.0),
        opacity: float = 1.0,
        blur: float = 0.0,
        inside: Mask | None = None,
    ) -> None:
        """A brush stroke along a smoothed path, `width` pixels at its middle.

        `taper` is the share of that width left at the start and at the end.
        """
        line = smooth(path, closed=False)
        direction = np.gradient(line, axis=0)
        normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        along = np.linspace(0, 1, len(line), dtype=np.float32)
        swell = np.sin(np.pi * along)
        ends = taper[0] * (1 - along) + taper[1] * along
        half = (width / 2 * (ends + (1 - ends) * swell))[:, None]
        outline = np.concatenate([line + normal * half, (line - normal * half)[::-1]])
        self.paint(self.mask(outline, blur=blur, inside=inside), color, opacity)

    def trace(self, outline: Points, width: float, color: str) -> None:
        """An even ink line along a closed outline."""
        canvas = np.zeros(self._pixels.shape[:2], np.uint8)
        fixed = np.round(outline * SUPERSAMPLING * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(canvas, [fixed], True, 255, round(width * SUPERSAMPLING), cv2.LINE_AA, _SUBPIXEL_BITS)
        self.paint(_coverage(canvas), color)

    def glow(self, center: Sequence[float], radius: float, color: str, opacity: float) -> None:
        """Light that falls off around a point, to about a third at `radius` pixels."""
        axis = np.arange(self._pixels.shape[0], dtype=np.float32) / SUPERSAMPLING
        squared = (axis[None, :] - center[0]) ** 2 + (axis[:, None] - center[1]) ** 2
        self.paint(np.exp(-squared / radius**2), color, opacity)

    def finish(self) -> NDArray[np.uint8]:
        """The page: HxWx3 uint8 RGB."""
        page = cv2.resize(self._pixels, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.asarray(np.clip(page * 255 + 0.5, 0, 255), np.uint8)


def _coverage(drawn: NDArray[np.uint8]) -> Mask:
    return np.multiply(drawn, 1 / 255, dtype=np.float32)


def grown(coverage: Mask, rim: float) -> Mask:
    """The shape with a rim of that many page pixels around it."""
    size = 2 * round(rim * SUPERSAMPLING) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(coverage, disc), np.float32)


def soften(coverage: Mask, blur: float) -> Mask:
    """A Gaussian of `blur` page pixels, computed on a reduced copy where it is wide."""
    sigma = blur * SUPERSAMPLING
    if sigma <= 0:
        return coverage
    step = max(1, int(sigma // 6))
    if step == 1:
        return np.asarray(cv2.GaussianBlur(coverage, (0, 0), sigma), np.float32)
    height, width = coverage.shape
    small = cv2.resize(coverage, (width // step, height // step), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
