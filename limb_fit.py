"""Limbs as they are seen, and where sleeves and trouser legs go: along them, turned as a whole where they are short."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np

from garment_anchors import Limb
from person_parts import Body
from utils import AnyArray, FloatArray, as_float

PartMap: TypeAlias = Callable[[FloatArray], FloatArray]
"""(N, 2) garment pixels to (N, 2) photo pixels."""

_SHORT = 0.85  # of the upper arm or thigh
_ACROSS = 0.22  # shoulder distances to each side of a limb's line in which its skin is looked for
_HANG = 0.7  # of a sleeve's spare width, to the inner side


def limb_map(
    limb: Limb,
    line: FloatArray,
    widths: tuple[float, ...],
    scale: float,
    body: Body,
    person: FloatArray,
    *,
    snap: tuple[float, float],
    root_half: float,
    hang: float = _HANG,
) -> tuple[PartMap, FloatArray, FloatArray]:
    """A sleeve along an arm, a leg along a leg: distance along the axis and across it are kept. And the lines (N, 2) of
    what it leaves uncovered and of what it covers.

    line: (4, 2) root, elbow or knee, wrist or ankle, and the end of hand or foot. snap: a length between these
    multiples of root to wrist is taken for one that ends there.
    """
    reach = float(np.linalg.norm(np.diff(line[:3], axis=0), axis=1).sum())
    length = limb.length * scale
    if snap[0] * reach < length < snap[1] * reach:
        length = 1.0 * reach
    length = min(length, 1.08 * reach)
    source = _Path(_rounded(limb.axis, 0.25 * limb.length))
    along = np.linspace(0, 1, 13)
    joints = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    typical = as_float(np.interp(along * length, joints, np.array(widths) * body.unit))
    target, body_half, inward = _centred(_Path(_rounded(line, 0.24 * body.unit)), along * length, typical, person, body)
    stretch = length / limb.length
    own_half = np.interp(along, [0, 0.5, 1], limb.widths / 2)
    half = np.clip(scale * own_half, body_half * 1.08 + 0.01 * body.unit, body_half * 1.7)
    half[0] = root_half
    ratios = smoothed(half / np.maximum(own_half, 1.0))
    # Wide cloth lies on the limb's outer side and hangs from it on the inner one.
    spare = inward * hang * smoothed(np.maximum(half - body_half, 0)) * np.minimum(1, 3 * along)

    lengths = np.linalg.norm(np.diff(line[:3], axis=0), axis=1)
    onto = target
    if length < _SHORT * lengths[0]:
        # What ends well above elbow or knee turns as a whole; only what reaches farther bends.
        source = _Path(limb.axis[[0, 2]])
        onto = _Path(target.at(np.array([0.0, length]), np.zeros(2)))
        stretch = onto.t[-1] / source.t[-1]
        end = float(ratios[-3:].mean())
        ratios = as_float(np.linspace(end if hang else float(ratios[0]), end, len(along)))

    def place(points: FloatArray) -> FloatArray:
        t, across = source.project(points)
        share = t / limb.length
        return onto.bent(
            t * stretch, as_float(across * np.interp(share, along, ratios) + np.interp(share, along, spare))
        )

    rest = target.points[target.t > length]
    hidden = target.points[target.t <= 0.9 * length]
    return place, rest if len(rest) > 1 else target.points[-2:], hidden if len(hidden) > 1 else target.points[:2]


def seen_edges(line: FloatArray, skin: FloatArray, usual: float, unit: float) -> tuple[FloatArray, AnyArray]:
    """(2, N, 2) both edges of a limb along `line` (M, 2), where its skin is seen or would be seen to go on; and (N-1,)
    between which of them the limb is hidden from its root on.

    skin: HxW, 0..1. usual: half the limb's width in shoulder distances of `unit` pixels, where nothing is seen.
    """
    path = _evenly(line, 0.05 * unit)
    tangent = np.gradient(path, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    across = np.linspace(-_ACROSS, _ACROSS, 31)
    x, y = np.moveaxis(as_float(path[:, None] + unit * across[:, None] * normal[:, None]), 2, 0)
    found = cv2.remap(skin, x, y, cv2.INTER_LINEAR)
    half = found.mean(axis=1) * _ACROSS
    seen = half > 0.6 * usual
    aside, reach = np.zeros(len(path)), np.full(len(path), usual)
    # Hems lie aslant: of the skin beside one a part is hidden.
    whole = np.flatnonzero(cv2.erode(seen.view(np.uint8), np.ones((3, 1), np.uint8))[:, 0])
    if len(whole):
        at = np.arange(len(path))
        middle = (found[whole] @ across) / found[whole].sum(axis=1)
        aside = np.interp(at, [whole[0] / 2 - 1, *whole], [0, *middle])
        reach = np.interp(at, whole, half[whole])
    reach = np.clip(reach, 0.7 * usual, 1.4 * usual)
    edges = [path + unit * _averaged(aside + side * reach)[:, None] * normal for side in (-1, 1)]
    # Old clothes hide a limb from its root on; what isn't seen farther on is behind something, or past the hand.
    return as_float(np.stack(edges)), np.logical_and.accumulate(~(seen[:-1] & seen[1:]))


def _evenly(line: FloatArray, step: float) -> FloatArray:
    """(M, 2) points of a polyline about `step` apart; at least three."""
    t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, t[-1], max(3, round(float(t[-1]) / step)))
    return as_float(np.stack([np.interp(at, t, line[:, axis]) for axis in (0, 1)], axis=1))


def _averaged(values: AnyArray) -> AnyArray:
    """(N,) a moving average over seven."""
    return np.convolve(np.pad(values, 3, mode="edge"), np.full(7, 1 / 7), "valid")


def _rounded(line: FloatArray, radius: float) -> FloatArray:
    """(M, 2) a polyline with its corners rounded: a moving average over `radius` along it; the ends stay."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    step = max(lengths[-1] / 60, 1e-3)
    t = np.arange(0, lengths[-1] + step / 2, step)
    dense = np.stack([np.interp(t, lengths, line[:, axis]) for axis in (0, 1)], axis=1)
    window = max(1, round(radius / step / 2))
    padded = np.concatenate([2 * dense[:1] - dense[window:0:-1], dense, 2 * dense[-1:] - dense[-2 : -window - 2 : -1]])
    kernel = np.ones(2 * window + 1) / (2 * window + 1)
    return as_float(np.stack([np.convolve(padded[:, axis], kernel, "valid") for axis in (0, 1)], axis=1))


class _Path:
    """A dense polyline with coordinates along and across it."""

    def __init__(self, points: FloatArray) -> None:
        self.points = points
        steps = np.diff(points, axis=0)
        lengths = np.maximum(np.linalg.norm(steps, axis=1), 1e-6)
        self.t = np.concatenate([[0], np.cumsum(lengths)])
        tangents = steps / lengths[:, None]
        self.tangents = np.concatenate([tangents, tangents[-1:]])
        angle = np.unwrap(np.arctan2(self.tangents[:, 1], self.tangents[:, 0]))
        self.curvature = np.gradient(angle, self.t) if len(points) > 2 else np.zeros(len(points))

    def at(self, t: AnyArray, across: AnyArray) -> FloatArray:
        """(N, 2) points; before the start and after the end the path goes straight on."""
        inside = np.clip(t, 0, self.t[-1])
        points = np.stack([np.interp(inside, self.t, self.points[:, axis]) for axis in (0, 1)], axis=1)
        tangent = np.stack([np.interp(inside, self.t, self.tangents[:, axis]) for axis in (0, 1)], axis=1)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-6)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        return as_float(points + tangent * (t - inside)[:, None] + normal * across[:, None])

    def bent(self, t: AnyArray, across: AnyArray) -> FloatArray:
        """Like `at`; on the inner side of a bend cloth crowds together short of its centre, instead of folding over."""
        curvature = np.interp(t, self.t, self.curvature, left=0, right=0)
        inner = np.maximum(across * curvature, 0)
        return self.at(t, across * np.where(inner > 1e-6, np.tanh(inner) / np.maximum(inner, 1e-6), 1.0))

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coordinates along and across, (N,) each, of the nearest place on the path."""
        offsets = points[:, None] - self.points[None]
        nearest = np.argmin((offsets**2).sum(axis=2), axis=1)
        rest = offsets[np.arange(len(points)), nearest]
        tangent = self.tangents[nearest]
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        return as_float(self.t[nearest] + (rest * tangent).sum(axis=1)), as_float((rest * normal).sum(axis=1))

    def reach(self, t: AnyArray, mask: FloatArray, farthest: float) -> FloatArray:
        """(N, 2) how far a mask goes from the path on its negative and positive side; at most `farthest`."""
        across = np.arange(0, farthest, 1.0, dtype=np.float32)
        found = np.full((len(t), 2), farthest, np.float32)
        for column, sign in enumerate((-1, 1)):
            points = self.at(np.repeat(t, len(across)), np.tile(sign * across, len(t)))
            x, y = (np.ascontiguousarray(points[:, axis]).reshape(len(t), -1) for axis in (0, 1))
            outside = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) < 0.5
            ended = outside.any(axis=1)
            found[ended, column] = across[np.argmax(outside[ended], axis=1)]
        return found


def _centred(
    path: _Path, t: AnyArray, typical: AnyArray, person: FloatArray, body: Body
) -> tuple[_Path, FloatArray, int]:
    """The path in the middle of the limb that is seen, half the limb's width at each t, and the sign of its inner side.

    Where the limb touches the trunk, its free edge and its typical width say where it lies.
    """
    farthest = 0.5 * body.unit
    reach = path.reach(t, person, farthest)
    places, tangents = path.at(t, np.zeros_like(t)), path.at(t, np.ones_like(t))
    outward = ((tangents - places) * (places - body.hips.mean(axis=0))).sum()
    outer = 1 if outward > 0 else 0
    free, other = reach[:, outer], reach[:, 1 - outer]
    both = reach.sum(axis=1) < 3 * typical
    half = np.where(both, reach.sum(axis=1) / 2, np.minimum(1.1 * typical, free + 0.5 * typical))
    half = np.clip(half, 0.7 * typical, 1.35 * typical)
    shift = np.where(both, (free - other) / 2, free - half)
    shift = np.where(free >= farthest, 0, np.clip(shift, -0.12 * body.unit, 0.2 * body.unit))
    for _ in range(4):  # sleeves don't follow every bump of an outline
        shift, half = smoothed(as_float(shift)), smoothed(as_float(half))
    shift = shift * np.minimum(1, 5 * t / max(float(t[-1]), 1e-6))
    sign = -1 if outer == 0 else 1
    dense = np.interp(path.t, t, sign * shift)
    return _Path(path.at(path.t, as_float(dense))), as_float(half), -sign


def smoothed(values: AnyArray) -> FloatArray:
    """(N,) values averaged with their neighbours: 1, 2, 1."""
    padded = np.pad(values, 1, mode="edge")
    return as_float(0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:])
