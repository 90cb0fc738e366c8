"""Where a garment belongs on a body: each of its parts as a map from garment pixels to photo pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from garment_anchors import OUTLINE, Garment, Limb, Part
from person_parts import SIDES, Body, PersonParts, Side
from utils import AnyArray, FloatArray, GrayImage, as_float

PartMap: TypeAlias = Callable[[FloatArray], FloatArray]
"""(N, 2) garment pixels to (N, 2) photo pixels."""

_LEVELS = 9
_SHOULDER_TIP = 0.10  # of the shoulder distance: the garment's shoulder lies outside the joint ...
_SHOULDER_UP = 0.10  # ... and above it
_NECK_BASE, _NECK_UP = 0.24, 0.27  # the neck's foot beside the middle and above the joints
_ARMPIT_OUT = 0.02
_ARMPIT_DOWN = (0.26, 0.38)  # of the trunk
_WORN = 0.94  # a worn garment is rounder than one laid flat, and looks narrower
_EASE = 0.02  # cloth lies outside the body
_HEMS: dict[str, tuple[float, float]] = {  # of the trunk, from the shoulder joints to the hem
    "tshirt": (1.0, 1.2),
    "shirt": (1.0, 1.3),
    "longsleeve": (1.0, 1.2),
    "hoodie": (1.0, 1.25),
    "jacket": (0.9, 1.5),
    "dress": (1.45, 3.2),
}
_CROPPED = 0.8  # of the trunk: a top that is shorter is meant to be
_LOOSEST: dict[str, float] = {"jacket": 1.4, "hoodie": 1.35}  # garment width over body width
_ARM_WIDTHS = (0.17, 0.14, 0.11, 0.11)  # half widths at shoulder, elbow, wrist, hand
_LEG_WIDTHS = (0.28, 0.2, 0.13, 0.13)
_HANG = 0.7  # of a sleeve's spare width, to the inner side
_CROTCH_DOWN = (0.32, 0.6)  # below the hip joints


@dataclass(frozen=True, slots=True)
class Fit:
    """The target of a garment on a body.

    maps: one per part. handles: garment anchors that must land on photo points, by name. scale: photo pixels per
    garment pixel. bare, covered: for each arm, or leg, the line (N, 2) along what the garment leaves
    uncovered of it, and along the rest.
    """

    maps: dict[Part, PartMap]
    handles: dict[str, FloatArray]
    scale: float
    bare: dict[Side, FloatArray]
    covered: dict[Side, FloatArray]


def fit(garment: Garment, body: Body, parts: PersonParts, *, looseness: float = 1.0) -> Fit:
    """Plan where each part of a garment goes. `looseness` scales how far the garment may hang beyond the body."""
    if garment.kind == "legs":
        return _fit_legs(garment, body, parts)
    if garment.kind == "skirt":
        return _fit_skirt(garment, body, parts)
    return _fit_top(garment, body, parts, looseness)


# ---- tops and dresses ----------------------------------------------------------------------------------------------


def _fit_top(garment: Garment, body: Body, parts: PersonParts, looseness: float) -> Fit:
    unit, trunk = body.unit, body.trunk
    at = garment.at
    shoulders_g = float(at("shoulder_right")[0] - at("shoulder_left")[0])
    armpits_g = float(at("armpit_right")[0] - at("armpit_left")[0])
    ratios = [(1 + 2 * _ARMPIT_OUT) * unit / armpits_g]
    if garment.limbs:
        ratios.append((1 + 2 * _SHOULDER_TIP) * unit / shoulders_g)
    scale = float(np.mean(ratios))

    neck_y = float(at("neck_left")[1] + at("neck_right")[1]) / 2
    armpit_y = float(at("armpit_left")[1] + at("armpit_right")[1]) / 2
    hem_y = float(at("hem_left")[1] + at("hem_right")[1]) / 2
    middle_g = float(at("neck_left")[0] + at("neck_right")[0] + at("armpit_left")[0] + at("armpit_right")[0]) / 4

    torso = _Torso(body, parts)
    neck_half = float(np.clip(scale * (at("neck_right")[0] - at("neck_left")[0]) / 2, 0.2 * unit, 0.5 * unit))
    neck_row = -torso.slope(neck_half)
    armpit_row = float(
        np.clip(neck_row + scale * (armpit_y - neck_y), _ARMPIT_DOWN[0] * trunk, _ARMPIT_DOWN[1] * trunk)
    )
    hem_row = neck_row + scale * (hem_y - neck_y)
    low, high = _HEMS[garment.garment_type]
    if hem_row > _CROPPED * trunk:
        hem_row = float(np.clip(hem_row, low * trunk, high * trunk))
    if garment.kind == "top":
        worn = torso.hem_of_upper()
        if worn is not None and hem_row < worn + 0.03 * unit < hem_row + 0.2 * trunk:
            hem_row = worn + 0.03 * unit  # a hem just above the worn one's would show a rim of it

    rows_g = np.linspace(armpit_y, hem_y - 0.01 * (hem_y - armpit_y), _LEVELS)
    rows = np.linspace(armpit_row, hem_row, _LEVELS)
    half_g = _half_widths(garment.parts["body"], rows_g, middle_g)
    loosest = _LOOSEST.get(garment.garment_type, 1.22) * looseness
    half, shift = np.zeros(_LEVELS, np.float32), np.zeros(_LEVELS, np.float32)
    for level, row in enumerate(rows):
        extent, shift[level] = torso.extent(row)
        natural = _WORN * scale * half_g[level]
        ceiling = np.inf if garment.kind == "dress" and row > 1.0 * trunk else max(extent * loosest, 0.5 * unit)
        half[level] = np.clip(natural, extent + _EASE * unit, ceiling)
    ratio = _smoothed(half / np.maximum(half_g, 1.0))
    shift = _smoothed(_smoothed(shift))
    top_ratio = ((1 + 2 * _SHOULDER_TIP) * unit / shoulders_g) if garment.limbs else ratio[0]
    rungs = _Rungs(
        body,
        garment_rows=np.concatenate([[neck_y], rows_g]),
        rows=np.concatenate([[neck_row], rows]),
        ratios=np.concatenate([[top_ratio], ratio]),
        shifts=np.concatenate([[0.0], shift]),
        middle_g=middle_g,
    )
    handles: dict[str, FloatArray] = {}
    shoulder_half = 0.5 * unit + _SHOULDER_TIP * unit if garment.limbs else scale * shoulders_g / 2
    for side, sign in (("left", -1), ("right", 1)):
        handles[f"neck_{side}"] = torso.point(sign * neck_half, -torso.slope(neck_half))
        handles[f"shoulder_{side}"] = torso.point(sign * shoulder_half, -torso.slope(shoulder_half))
        for share in OUTLINE:
            beside = (1 - share) * neck_half + share * shoulder_half
            handles[f"outline_{share}_{side}"] = torso.point(sign * beside, -torso.slope(beside))
        for name in (f"armpit_{side}", f"hem_{side}"):
            handles[name] = rungs(garment.at(name)[None])[0]
    maps: dict[Part, PartMap] = {"body": rungs}
    bare, covered = dict[Side, FloatArray](), dict[Side, FloatArray]()
    for side in SIDES:
        bare[side] = np.concatenate([body.arm(side), body.hand(side)[1:]])
        if side in garment.limbs:
            armhole = (handles[f"shoulder_{side}"] + handles[f"armpit_{side}"]) / 2
            root = (armhole + body.arm(side)[0]) / 2
            line = np.concatenate([root[None], body.arm(side)[1:], body.hand(side)[1:]])
            maps[side], bare[side], covered[side] = _limb_map(
                garment.limbs[side],
                line,
                _ARM_WIDTHS,
                scale,
                body,
                parts.person,
                snap=(0.88, 1.25),
                root_half=float(np.linalg.norm(handles[f"shoulder_{side}"] - handles[f"armpit_{side}"])) / 2,
            )
    return Fit(maps, handles, scale, bare, covered)


class _Torso:
    """The trunk under the clothes: rows are pixels below the shoulder joints along the trunk."""

    def __init__(self, body: Body, parts: PersonParts) -> None:
        self.body = body
        self.origin = body.shoulders.mean(axis=0)
        clothes = np.clip(np.maximum(parts.upper, parts.lower), 0, 1)
        self.clothes = as_float(clothes)
        self.upper, self.lower = parts.upper, parts.lower
        # Trousers and skirts fit closer than tops: under a loose top, the hips say how wide the waist may be.
        self.hips = 0.7 * body.unit
        self.hips = float(np.clip(max(self._reach(self.lower, 1.12 * body.trunk)), 0.45 * body.unit, 0.85 * body.unit))
        self.waist = 0.25 * body.unit + 0.5 * self.hips
        self.top = as_float(np.clip(parts.person - parts.head, 0, 1))

    def point(self, beside: float, row: float) -> FloatArray:
        """The photo point so far beside the middle line and below the shoulder joints."""
        return as_float(self.origin + self.body.down * row + self.body.across * beside)

    def slope(self, beside: float) -> float:
        """How far the shoulder's outline lies above the joints' line at a distance from the middle, both sides."""
        unit = self.body.unit
        expected = np.interp(
            beside, [_NECK_BASE * unit, (0.5 + _SHOULDER_TIP) * unit], [_NECK_UP * unit, _SHOULDER_UP * unit]
        )
        rows = np.arange(-0.5 * unit, 0.3 * unit, 1.0)
        found = []
        for sign in (-1, 1):
            profile = self._sample(self.top, np.full_like(rows, sign * beside), rows)
            inside = np.flatnonzero(profile > 0.5)
            if len(inside) and abs(-rows[inside[0]] - expected) < 0.1 * unit:
                found.append(-rows[inside[0]])
        return float(np.mean([expected, *found, *found]))

    def extent(self, row: float) -> tuple[float, float]:
        """Half the trunk's width at a row, and how far its middle lies beside the line of shoulders and hips."""
        unit = self.body.unit
        share = row / self.body.trunk
        widest = np.interp(share, [0.25, 0.6, 1.0, 1.3], [0.52 * unit, self.waist, self.hips, 1.1 * self.hips])
        least = unit * np.interp(share, [0.25, 0.6, 1.0], [0.44, 0.32, 0.36])
        reach = [float(np.clip(each, least, widest)) for each in self._reach(self.clothes, row)]
        return (reach[0] + reach[1]) / 2, float(np.clip((reach[1] - reach[0]) / 2, -0.1 * unit, 0.1 * unit))

    def _reach(self, mask: FloatArray, row: float) -> list[float]:
        """How far a mask goes to the left and to the right in a row; a whole shoulder distance where it has no end."""
        beside = np.arange(0, self.body.unit, 1.0)
        reach = []
        for sign in (-1, 1):
            profile = self._sample(mask, sign * beside, np.full_like(beside, row))
            outside = np.flatnonzero((profile < 0.5) & (beside > 0.2 * self.body.unit))
            reach.append(float(beside[outside[0]]) if len(outside) else self.body.unit)
        return reach

    def hem_of_upper(self) -> float | None:
        """The row at which the worn top ends in the middle; None where it has no end above the thighs."""
        rows = np.arange(0.6 * self.body.trunk, 1.35 * self.body.trunk, 1.0)
        columns = [
            self._sample(self.upper, np.full_like(rows, beside * self.body.unit), rows) for beside in (-0.2, 0, 0.2)
        ]
        outside = np.flatnonzero(np.median(columns, axis=0) < 0.5)
        return float(rows[outside[0]]) if len(outside) else None

    def top_of_lower(self) -> float | None:
        """The row at which trousers or skirt begin in the middle; None where that isn't seen."""
        rows = np.arange(0.5 * self.body.trunk, 1.3 * self.body.trunk, 1.0)
        columns = [
            self._sample(self.lower, np.full_like(rows, beside * self.body.unit), rows) for beside in (-0.2, 0, 0.2)
        ]
        inside = np.flatnonzero(np.median(columns, axis=0) > 0.5)
        return float(rows[inside[0]]) if len(inside) else None

    def _sample(self, mask: FloatArray, beside: AnyArray, rows: AnyArray) -> FloatArray:
        points = as_float(self.origin + rows[:, None] * self.body.down[None] + beside[:, None] * self.body.across[None])
        line = cv2.remap(
            mask, points[None, :, 0], points[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return as_float(line[0])


class _Rungs:
    """A ruled map: each row of the garment goes to a straight line across the body."""

    def __init__(
        self,
        body: Body,
        *,
        garment_rows: AnyArray,
        rows: AnyArray,
        ratios: AnyArray,
        shifts: AnyArray,
        middle_g: float,
    ) -> None:
        self.body, self.middle_g = body, middle_g
        self.garment_rows, self.rows, self.ratios, self.shifts = garment_rows, rows, ratios, shifts
        hips = body.hips[1] - body.hips[0]
        self.hips_across = hips / max(float(np.linalg.norm(hips)), 1e-6)

    def __call__(self, points: FloatArray) -> FloatArray:
        x, y = points[:, 0] - self.middle_g, points[:, 1]
        rows = _extended(y, self.garment_rows, self.rows)
        ratios = np.interp(y, self.garment_rows, self.ratios)
        shifts = np.interp(y, self.garment_rows, self.shifts)
        blend = np.clip(rows / self.body.trunk, 0, 1)[:, None]
        across = self.body.across * (1 - blend) + self.hips_across * blend
        across = across / np.linalg.norm(across, axis=1, keepdims=True)
        origin = self.body.shoulders.mean(axis=0)
        return as_float(origin + rows[:, None] * self.body.down + (ratios * x + shifts)[:, None] * across)


def _extended(y: AnyArray, known: AnyArray, values: AnyArray) -> FloatArray:
    """Linear interpolation, continued beyond both ends with the mean slope."""
    slope = (values[-1] - values[0]) / (known[-1] - known[0])
    inner = np.interp(y, known, values)
    return as_float(inner + slope * (np.minimum(y - known[0], 0) + np.maximum(y - known[-1], 0)))


def _half_widths(mask: GrayImage, rows: AnyArray, middle: float) -> FloatArray:
    """Half the width of the run around the middle in each row of a mask."""
    widths = []
    for row in rows:
        inside = np.flatnonzero(mask[int(np.clip(round(float(row)), 0, mask.shape[0] - 1))])
        runs = np.split(inside, np.flatnonzero(np.diff(inside) > 3) + 1) if len(inside) else []
        run = min(runs, key=lambda run: max(run[0] - middle, middle - run[-1], 0), default=np.zeros(1))
        widths.append((run[-1] - run[0]) / 2)
    return as_float(np.array(widths))


def _smoothed(values: AnyArray) -> FloatArray:
    padded = np.pad(values, 1, mode="edge")
    return as_float(0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:])


# ---- sleeves and legs ----------------------------------------------------------------------------------------------


def _limb_map(
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
    ratios = _smoothed(half / np.maximum(own_half, 1.0))
    # Wide cloth lies on the limb's outer side and hangs from it on the inner one.
    spare = inward * hang * _smoothed(np.maximum(half - body_half, 0)) * np.minimum(1, 3 * along)

    def place(points: FloatArray) -> FloatArray:
        t, across = source.project(points)
        share = t / limb.length
        return target.at(
            t * stretch, as_float(across * np.interp(share, along, ratios) + np.interp(share, along, spare))
        )

    rest = target.points[target.t > length]
    hidden = target.points[target.t <= 0.9 * length]
    return place, rest if len(rest) > 1 else target.points[-2:], hidden if len(hidden) > 1 else target.points[:2]


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

    def at(self, t: AnyArray, across: AnyArray) -> FloatArray:
        """(N, 2) points; before the start and after the end the path goes straight on."""
        inside = np.clip(t, 0, self.t[-1])
        points = np.stack([np.interp(inside, self.t, self.points[:, axis]) for axis in (0, 1)], axis=1)
        tangent = np.stack([np.interp(inside, self.t, self.tangents[:, axis]) for axis in (0, 1)], axis=1)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-6)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        return as_float(points + tangent * (t - inside)[:, None] + normal * across[:, None])

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
        shift, half = _smoothed(as_float(shift)), _smoothed(as_float(half))
    shift = shift * np.minimum(1, 5 * t / max(float(t[-1]), 1e-6))
    sign = -1 if outer == 0 else 1
    dense = np.interp(path.t, t, sign * shift)
    return _Path(path.at(path.t, as_float(dense))), as_float(half), -sign


# ---- trousers and skirts -------------------------------------------------------------------------------------------


def _fit_skirt(garment: Garment, body: Body, parts: PersonParts) -> Fit:
    torso = _Torso(body, parts)
    waist_row = _waist_row(torso)
    waist_y = float(garment.at("waist_left")[1] + garment.at("waist_right")[1]) / 2
    hem_y = float(garment.at("hem_left")[1] + garment.at("hem_right")[1]) / 2
    middle_g = float(garment.at("waist_left")[0] + garment.at("waist_right")[0]) / 2
    waist_g = float(garment.at("waist_right")[0] - garment.at("waist_left")[0])
    waist_half, _ = torso.extent(waist_row)
    scale = 2 * (waist_half + _EASE * body.unit) / waist_g
    rows_g = np.linspace(waist_y, hem_y, _LEVELS)
    rows = waist_row + scale * (rows_g - waist_y)
    half_g = _half_widths(garment.parts["body"], np.maximum(rows_g, waist_y + 3), middle_g)
    half, shift = np.zeros(_LEVELS, np.float32), np.zeros(_LEVELS, np.float32)
    for level, row in enumerate(rows):
        extent, shift[level] = torso.extent(min(row, 1.3 * body.trunk))
        half[level] = max(scale * half_g[level], extent + _EASE * body.unit)
    rungs = _Rungs(
        body,
        garment_rows=rows_g,
        rows=rows,
        ratios=_smoothed(half / np.maximum(half_g, 1.0)),
        shifts=_smoothed(_smoothed(shift)),
        middle_g=middle_g,
    )
    names = ("waist_left", "waist_right", "hem_left", "hem_right")
    handles = {name: rungs(garment.at(name)[None])[0] for name in names}
    return Fit({"body": rungs}, handles, scale, {side: body.leg(side) for side in SIDES}, {})


def _fit_legs(garment: Garment, body: Body, parts: PersonParts) -> Fit:
    torso = _Torso(body, parts)
    unit, trunk = body.unit, body.trunk
    waist_row = _waist_row(torso)
    waist_y = float(garment.at("waist_left")[1] + garment.at("waist_right")[1]) / 2
    crotch_x, crotch_y = (float(value) for value in garment.at("crotch"))
    seat_half, _ = torso.extent(trunk)
    seat_g = _half_widths(garment.parts["body"], np.array([(waist_y + crotch_y) / 2]), crotch_x)[0]
    rise = (crotch_y - waist_y) * (seat_half + _EASE * unit) / max(float(seat_g), 1.0)
    highest, lowest = (trunk + down * unit for down in _CROTCH_DOWN)
    crotch_row = float(np.clip(waist_row + rise, highest, lowest))
    rows_g = np.linspace(waist_y + 2, crotch_y, _LEVELS)
    rows = np.linspace(waist_row, crotch_row, _LEVELS)
    middle_g = (float(garment.at("waist_left")[0] + garment.at("waist_right")[0]) / 2 + crotch_x) / 2
    half_g = _half_widths(garment.parts["body"], np.minimum(rows_g, crotch_y - 3), middle_g)
    half, shift = np.zeros(_LEVELS, np.float32), np.zeros(_LEVELS, np.float32)
    for level, row in enumerate(rows):
        extent, shift[level] = torso.extent(row)
        half[level] = extent + _EASE * unit
    scale = float(np.median(half / np.maximum(half_g, 1.0)))
    half = np.maximum(half, scale * half_g * 0.95)
    rungs = _Rungs(
        body,
        garment_rows=rows_g,
        rows=rows,
        ratios=_smoothed(half / np.maximum(half_g, 1.0)),
        shifts=_smoothed(_smoothed(shift)),
        middle_g=middle_g,
    )
    maps: dict[Part, PartMap] = {"body": rungs}
    handles = {name: rungs(garment.at(name)[None])[0] for name in ("waist_left", "waist_right", "crotch")}
    bare, covered = {side: body.leg(side) for side in SIDES}, dict[Side, FloatArray]()
    for side in SIDES:
        if side in garment.limbs:
            root = rungs(garment.limbs[side].axis[:1])
            line = np.concatenate([root, body.leg(side)[1:], _beyond(body.leg(side))])
            maps[side], bare[side], covered[side] = _limb_map(
                garment.limbs[side],
                line,
                _LEG_WIDTHS,
                scale,
                body,
                parts.person,
                snap=(0.85, 1.3),
                root_half=float(half[-1] / max(half_g[-1], 1.0) * garment.limbs[side].widths[0] / 2),
                hang=0.0,
            )
    return Fit(maps, handles, scale, bare, covered)


def _beyond(leg: FloatArray) -> FloatArray:
    """(1, 2) a point below the ankle, where the leg would go on."""
    return as_float(leg[2:] + 0.2 * (leg[2:] - leg[1:2]))


def _waist_row(torso: _Torso) -> float:
    trunk, unit = torso.body.trunk, torso.body.unit
    seen = torso.top_of_lower()
    default = trunk - 0.2 * unit
    return float(np.clip(default if seen is None else min(seen, default), 0.68 * trunk, trunk))
