"""Where a garment belongs on a body: each of its parts as a map from garment pixels to photo pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import cv2
import numpy as np

from garment_anchors import OUTLINE, Garment, Part
from limb_fit import PartMap, limb_map, smoothed
from person_parts import SIDES, Body, PersonParts, Side
from utils import AnyArray, FloatArray, GrayImage, Window, as_float

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
_CROTCH_DOWN = (0.32, 0.6)  # below the hip joints


@dataclass(frozen=True, slots=True)
class Fit:
    """The target of a garment on a body.

    maps: one per part. handles: garment anchors that must land on photo points, by name. scale: photo pixels per
    garment pixel. bare, covered: for each arm, or leg, the line (N, 2) along what the garment leaves
    uncovered of it, and along the rest. shoulder_line: (2, N) in shoulder widths, how far beside the middle and how far
    above the joints the shoulders' outline lies; empty below the waist.
    """

    maps: dict[Part, PartMap]
    handles: dict[str, FloatArray]
    scale: float
    bare: dict[Side, FloatArray]
    covered: dict[Side, FloatArray]
    shoulder_line: FloatArray = field(default_factory=lambda: np.zeros((2, 0), np.float32))

    def cut(self, window: Window) -> Fit:
        """The same target in a window of the photo."""
        corner = np.array([window[1].start, window[0].start], np.float32)
        return replace(
            self,
            maps={part: partial(_moved, own, -corner) for part, own in self.maps.items()},
            handles={name: point - corner for name, point in self.handles.items()},
            bare={side: line - corner for side, line in self.bare.items()},
            covered={side: line - corner for side, line in self.covered.items()},
        )


def _moved(own: PartMap, by: FloatArray, points: FloatArray) -> FloatArray:
    return own(points) + by


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
    ratio = smoothed(half / np.maximum(half_g, 1.0))
    shift = smoothed(smoothed(shift))
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
            maps[side], bare[side], covered[side] = limb_map(
                garment.limbs[side],
                line,
                _ARM_WIDTHS,
                scale,
                body,
                parts.person,
                snap=(0.88, 1.25),
                root_half=float(np.linalg.norm(handles[f"shoulder_{side}"] - handles[f"armpit_{side}"])) / 2,
            )
    asides = np.linspace(_NECK_BASE, 0.5 + _SHOULDER_TIP, 7).tolist()
    line = as_float(np.array([asides, [torso.slope(aside * unit) / unit for aside in asides]]))
    return Fit(maps, handles, scale, bare, covered, line)


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
        ratios=smoothed(half / np.maximum(half_g, 1.0)),
        shifts=smoothed(smoothed(shift)),
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
        ratios=smoothed(half / np.maximum(half_g, 1.0)),
        shifts=smoothed(smoothed(shift)),
        middle_g=middle_g,
    )
    maps: dict[Part, PartMap] = {"body": rungs}
    handles = {name: rungs(garment.at(name)[None])[0] for name in ("waist_left", "waist_right", "crotch")}
    bare, covered = {side: body.leg(side) for side in SIDES}, dict[Side, FloatArray]()
    for side in SIDES:
        if side in garment.limbs:
            root = rungs(garment.limbs[side].axis[:1])
            line = np.concatenate([root, body.leg(side)[1:], _beyond(body.leg(side))])
            maps[side], bare[side], covered[side] = limb_map(
                garment.limbs[side],
                line,
                _LEG_WIDTHS,
                scale,
                body,
                as_float(parts.person * (1 - parts.arms)),
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
