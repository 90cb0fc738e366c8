"""A product photo of a garment: cut from its background, its kind, its parts and its anchors.

Left and right are as seen in the picture: the garment's left sleeve is worn on the person's right arm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import cv2
import numpy as np

from garment_neckline import inner_back
from service.errors import GarmentSegmentationError
from utils import FloatArray, GrayImage, RGBImage, as_float, as_mask, shrink

GarmentType: TypeAlias = Literal[
    "tshirt", "shirt", "longsleeve", "hoodie", "jacket", "dress", "pants", "shorts", "skirt", "auto"
]
Kind: TypeAlias = Literal["top", "dress", "legs", "skirt"]
Part: TypeAlias = Literal["body", "left", "right"]
"""The trunk of a top, dress or skirt or the seat of trousers, and the two sleeves or legs."""

OUTLINE = (0.25, 0.5, 0.75)
"""Where between neck and shoulder a top's upper outline has anchors."""

KINDS: dict[str, Kind] = {"dress": "dress", "pants": "legs", "shorts": "legs", "skirt": "skirt"}

_ANALYSIS_SIDE = 512  # pixels of the longer side in which shapes are measured
_ARMPIT_DEPTH = 0.035  # of the longer side
_CROTCH_DEPTH = 0.06
_ARMHOLE_LEAN = 13.0  # degrees, of a sleeve that hangs straight down
_LONG_SLEEVE = 0.62  # sleeve over body length: beyond, it ends below the elbow
_DRESS_LENGTH = 2.4  # length over width at the armpits
_PANTS_LENGTH = 1.15  # inner leg over waist width


@dataclass(frozen=True, slots=True)
class Limb:
    """A sleeve or trouser leg: the axis from its root to its end, in pixels, and how wide it is there.

    axis: (3, 2) root, middle, end. widths: (3,) across the axis at those points. length: along the axis.
    """

    axis: FloatArray
    widths: FloatArray

    @property
    def length(self) -> float:
        return float(np.linalg.norm(np.diff(self.axis, axis=0), axis=1).sum())


@dataclass(frozen=True, slots=True)
class Garment:
    """A garment, cropped to itself and a margin.

    rgb: HxWx3. alpha: HxW uint8, 255 inside. parts: HxW uint8 masks that together cover alpha.
    anchors: (x, y) by name. Tops and dresses have neck_left/right, outline_SHARE_left/right (on the upper
    outline, from neck to shoulder), shoulder_left/right, armpit_left/right, hem_left/right;
    skirts and trousers have waist_left/right, hem_left/right, and trousers have crotch.
    looks_like: what its outline alone says.
    limbs: sleeves or legs, empty for sleeveless garments and skirts.
    inside: HxW uint8, 255 where the garment's inner back is seen through the neck opening.
    """

    rgb: RGBImage
    alpha: GrayImage
    garment_type: GarmentType
    kind: Kind
    looks_like: Kind
    anchors: dict[str, FloatArray]
    limbs: dict[Part, Limb]
    parts: dict[Part, GrayImage]
    inside: GrayImage

    def at(self, name: str) -> FloatArray:
        """(2,) x, y of an anchor in pixels."""
        return self.anchors[name]


def measure(rgb: RGBImage, alpha: GrayImage, garment_type: GarmentType) -> Garment:
    """Find kind, parts and anchors of a garment that was cut out.

    Raises:
        GarmentSegmentationError: the outline has not the parts that the type needs.
    """
    scale = _ANALYSIS_SIDE / max(alpha.shape)
    size = (round(alpha.shape[1] * scale), round(alpha.shape[0] * scale))
    mask = as_mask(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) >= 128)
    shape = _Outline(mask)
    seen = _recognise(shape)
    found = seen if garment_type == "auto" else garment_type
    kind = KINDS.get(found, "top")
    if kind == "legs":
        anchors, limbs, parts = _measure_legs(shape)
    elif kind == "skirt":
        anchors, limbs, parts = _measure_skirt(shape)
    else:
        anchors, limbs, parts = _measure_top(shape)
        if garment_type == "longsleeve" and not limbs:
            raise GarmentSegmentationError(
                "No sleeves can be told from the garment's trunk. Use a photo from the front with a gap between trunk "
                "and sleeves, or set garment_type to tshirt if it has none."
            )
        if garment_type == "auto" and found == "tshirt" and limbs and _sleeve_share(anchors, limbs) > _LONG_SLEEVE:
            found = "longsleeve"
    small_rgb = shrink(rgb, size)
    inside = inner_back(small_rgb, mask, shape.top(), anchors) if kind in ("top", "dress") else np.zeros_like(mask)
    full = (alpha.shape[1], alpha.shape[0])
    return Garment(
        rgb=rgb,
        alpha=alpha,
        garment_type=found,
        kind=kind,
        looks_like=KINDS.get(seen, "top"),
        anchors={name: as_float(point / scale) for name, point in anchors.items()},
        limbs={
            part: replace(limb, axis=as_float(limb.axis / scale), widths=as_float(limb.widths / scale))
            for part, limb in limbs.items()
        },
        parts={part: cv2.resize(each, full, interpolation=cv2.INTER_NEAREST) for part, each in parts.items()},
        inside=cv2.resize(inside, full, interpolation=cv2.INTER_LINEAR),
    )


# ---- the outline ---------------------------------------------------------------------------------------------------


class _Outline:
    """A mask's outer contour and the notches in it."""

    def __init__(self, mask: GrayImage) -> None:
        smooth = cv2.GaussianBlur(mask, (0, 0), 1)
        self.mask = mask
        contours, _ = cv2.findContours((smooth >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = max(contours, key=cv2.contourArea)
        self.x, self.y, self.width, self.height = cv2.boundingRect(contour)
        self.side = max(self.width, self.height)
        inside = (mask > 0).astype(np.float32)
        counts = inside.sum(axis=1)
        self.middle = float(
            np.median((inside @ np.arange(mask.shape[1], dtype=np.float32))[counts > 0] / counts[counts > 0])
        )
        hull = np.sort(cv2.convexHull(contour, returnPoints=False).ravel())[::-1]
        notches = cv2.convexityDefects(contour, np.ascontiguousarray(hull[:, None], np.int32))
        self.notches: list[tuple[float, FloatArray, FloatArray, FloatArray]] = []
        """depth, deepest point, the unit vector in which it opens, and the contour between its two ends."""
        for start, end, far, depth in [] if notches is None else notches[:, 0]:
            points = np.roll(contour[:, 0], -start, axis=0)[: (end - start) % len(contour) + 1]
            mouth = (contour[start, 0] + contour[end, 0]) / 2 - contour[far, 0]
            opening = mouth / max(float(np.linalg.norm(mouth)), 1e-6)
            self.notches.append((depth / 256, as_float(contour[far, 0]), as_float(opening), as_float(points)))

    def top(self) -> FloatArray:
        """(W,) the first row of the mask in each column; the mask's height where there is none."""
        rows = np.where(self.mask.any(axis=0), np.argmax(self.mask > 0, axis=0), self.mask.shape[0])
        return as_float(rows)

    def armpits(self) -> dict[str, FloatArray]:
        """The deepest notch that opens downward on each side, where there is one."""
        found: dict[str, tuple[float, FloatArray]] = {}
        for depth, point, opening, flank in self.notches:
            side = "left" if point[0] < self.middle else "right"
            aside = abs(point[0] - self.middle) > 0.1 * self.width
            high = self.y + 0.06 * self.height < point[1] < self.y + 0.75 * self.height
            outward = (opening[0] < 0.35) if side == "left" else (opening[0] > -0.35)
            armpit = self._above_waist(point, flank)
            deep = depth > _ARMPIT_DEPTH * self.side and self._sleeve_above(armpit, side)
            if aside and high and outward and opening[1] > 0.3 and deep:
                found[side] = max(found.get(side, (0.0, armpit)), (depth, armpit), key=lambda each: each[0])
        return {side: point for side, (_, point) in found.items()}

    def _sleeve_above(self, armpit: FloatArray, side: str) -> bool:
        """Whether cloth reaches far beyond a notch close above it: a sleeve, not the side of a narrow waist."""
        rows = self.mask[max(0, round(float(armpit[1]) - 0.05 * self.side)) : round(float(armpit[1])) + 1]
        columns = np.flatnonzero(rows.any(axis=0))
        beyond = armpit[0] - columns[0] if side == "left" else columns[-1] - armpit[0]
        return bool(beyond > 0.05 * self.side)

    def _above_waist(self, point: FloatArray, flank: FloatArray) -> FloatArray:
        """In a notch whose deepest point is a narrow waist, the corner above it where the sleeve begins."""
        start = flank[0] if flank[0][1] < flank[-1][1] else flank[-1]
        upper = flank[flank[:, 1] <= point[1]]
        chord = (point - start) / max(float(np.linalg.norm(point - start)), 1e-6)
        inward = np.array([chord[1], -chord[0]]) * (1 if chord[0] > 0 else -1)
        height = (upper - start) @ inward if len(upper) else np.zeros(1)
        return as_float(upper[int(np.argmax(height))]) if height.max() > 0.02 * self.side else point

    def crotch(self) -> FloatArray | None:
        """The deepest notch between two legs."""
        legs = [
            (depth, point)
            for depth, point, opening, _ in self.notches
            if opening[1] > 0.8
            and depth > _CROTCH_DEPTH * self.height
            and abs(point[0] - (self.x + self.width / 2)) < 0.2 * self.width
        ]
        return max(legs, key=lambda leg: leg[0])[1] if legs else None

    def span(self, row: float) -> tuple[float, float]:
        """The first and last column of the run around the middle in a row; the middle twice where there is none."""
        y = int(np.clip(round(row), 0, self.mask.shape[0] - 1))
        inside = np.flatnonzero(self.mask[y])
        if len(inside) == 0:
            return self.middle, self.middle
        runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
        best = min(runs, key=lambda run: max(run[0] - self.middle, self.middle - run[-1], 0) - 1e-3 * len(run))
        return float(best[0]), float(best[-1])


def _recognise(shape: _Outline) -> GarmentType:
    """The type that an outline shows: shirts, hoodies and jackets look like tops with long or short sleeves."""
    armpits, crotch = shape.armpits(), shape.crotch()
    if crotch is not None and len(armpits) < 2:
        left, right = shape.span(shape.y + 0.04 * shape.height)
        inner_leg = shape.y + shape.height - crotch[1]
        return "pants" if inner_leg > _PANTS_LENGTH * (right - left) else "shorts"
    if len(armpits) == 2:
        width = armpits["right"][0] - armpits["left"][0]
        return "dress" if shape.height > _DRESS_LENGTH * width else "tshirt"
    top = shape.top()
    left, right = shape.span(shape.y + 0.5 * shape.height)
    upper = top[round(left + 0.1 * (right - left)) : round(right - 0.1 * (right - left))]
    dip = float(top[round(shape.middle)] - upper.min())
    upmost = np.flatnonzero(shape.mask[round(shape.y + 0.015 * shape.height)])
    waistband = len(upmost) > 0.8 * (upmost[-1] - upmost[0]) and upmost[-1] - upmost[0] > 0.3 * shape.width
    if dip < 0.05 * shape.side and waistband:
        return "skirt"
    return "dress" if shape.height > 0.95 * _DRESS_LENGTH * (right - left) else "tshirt"


# ---- tops and dresses ----------------------------------------------------------------------------------------------

_Measures: TypeAlias = tuple[dict[str, FloatArray], dict[Part, Limb], dict[Part, GrayImage]]


def _measure_top(shape: _Outline) -> _Measures:
    top, armpits = shape.top(), shape.armpits()
    anchors: dict[str, FloatArray] = {}
    if len(armpits) == 1:
        raise GarmentSegmentationError(
            "Only one sleeve can be told from the garment's trunk. Use a photo of the whole garment, straight from the "
            "front, with a gap between trunk and sleeves."
        )
    sleeved = len(armpits) == 2
    if not sleeved:
        armpits = _sleeveless_armpits(shape)
    row = (armpits["left"][1] + armpits["right"][1]) / 2
    middle = (armpits["left"][0] + armpits["right"][0]) / 2
    for side, sign in (("left", -1), ("right", 1)):
        anchors[f"armpit_{side}"] = armpits[side]
        shoulder = armpits[side][0]
        if not sleeved:  # the strap's outer end
            columns = np.flatnonzero(shape.mask[: round(row * 0.6 + shape.y * 0.4)].any(axis=0))
            shoulder = columns[0] + 2 if side == "left" else columns[-1] - 2
        anchors[f"shoulder_{side}"] = np.array([shoulder, top[round(shoulder)]], np.float32)
        anchors[f"neck_{side}"] = _neck_point(top, anchors[f"shoulder_{side}"], middle, sign)
    hem = _hem_row(shape, row)
    left, right = shape.span(hem - 0.01 * shape.height)
    anchors["hem_left"], anchors["hem_right"] = np.array([[left, hem], [right, hem]], np.float32)
    parts, limbs = dict[Part, GrayImage](), dict[Part, Limb]()
    if sleeved:
        _, limbs = _sleeves(shape, anchors)
        for side, limb in limbs.items():
            anchors[f"shoulder_{side}"] = _armhole_top(top, anchors[f"armpit_{side}"], limb)
        parts, limbs = _sleeves(shape, anchors)
    for side in ("left", "right"):
        neck, shoulder = anchors[f"neck_{side}"], anchors[f"shoulder_{side}"]
        for share in OUTLINE:
            column = round(float((1 - share) * neck[0] + share * shoulder[0]))
            anchors[f"outline_{share}_{side}"] = np.array([column, top[column]], np.float32)
    body = shape.mask.copy()
    for each in parts.values():
        body[each > 0] = 0
    parts["body"] = body
    return anchors, limbs, parts


def _sleeveless_armpits(shape: _Outline) -> dict[str, FloatArray]:
    """Where the armholes end: the outermost point below the notch in each side's upper half."""
    armpits = {}
    for side, sign in (("left", -1), ("right", 1)):
        rows = range(round(shape.y + 0.1 * shape.height), round(shape.y + 0.5 * shape.height))
        edge = np.array([shape.span(row)[(sign + 1) // 2] for row in rows], np.float32)
        # Where the outline turns from the armhole into the side: farthest outside the chord of both ends.
        chord = np.linspace(edge[0], edge[-1], len(edge), dtype=np.float32)
        turn = int(np.argmax((edge - chord) * sign))
        armpits[side] = np.array([edge[turn], rows[turn]], np.float32)
    return armpits


def _armhole_top(top: FloatArray, armpit: FloatArray, limb: Limb) -> FloatArray:
    """The upper end of the armhole: above the armpit, and farther out the more the sleeve hangs."""
    axis = limb.axis[2] - limb.axis[0]
    hanging = max(0.0, float(axis[1])) / max(float(np.linalg.norm(axis)), 1e-6)
    lean = float(np.sign(axis[0])) * np.tan(np.radians(_ARMHOLE_LEAN * hanging))
    column = float(armpit[0])
    for _ in range(3):
        column = float(np.clip(armpit[0] + lean * (armpit[1] - top[round(column)]), 0, len(top) - 1))
    return np.array([column, top[round(column)]], np.float32)


def _neck_point(top: FloatArray, shoulder: FloatArray, middle: float, sign: int) -> FloatArray:
    """The corner of the upper outline between shoulder and neck opening (where a hood begins, the notch)."""
    inner = middle + sign * 0.06 * abs(shoulder[0] - middle)
    columns = np.arange(round(min(shoulder[0], inner)), round(max(shoulder[0], inner)) + 1)
    rows = top[columns]
    centre = float(top[round(inner)])
    share = (columns - inner) / (float(shoulder[0]) - inner)
    chord = centre + share * (float(shoulder[1]) - centre)
    above = as_float(chord - rows)
    hooded = centre < shoulder[1] - 0.5 * abs(shoulder[0] - middle)
    best = int(np.argmin(above) if hooded else np.argmax(above))
    return np.array([columns[best], rows[best]], np.float32)


def _hem_row(shape: _Outline, armpit_row: float) -> float:
    """The last row where the trunk is still more than six tenths as wide as at half its length."""
    bottom = shape.y + shape.height
    left, right = shape.span((armpit_row + bottom) / 2)
    for row in range(bottom - 1, round(armpit_row), -1):
        start, end = shape.span(row)
        if end - start > 0.6 * (right - left):
            return float(row)
    return float(bottom - 1)


def _sleeves(shape: _Outline, anchors: dict[str, FloatArray]) -> tuple[dict[Part, GrayImage], dict[Part, Limb]]:
    parts, limbs = dict[Part, GrayImage](), dict[Part, Limb]()
    sides: tuple[Part, Part] = ("left", "right")
    for side in sides:
        shoulder, armpit = anchors[f"shoulder_{side}"], anchors[f"armpit_{side}"]
        sleeve = _beyond_line(shape.mask, shoulder, armpit, outward=-1 if side == "left" else 1)
        limb = limb_of(sleeve, as_float((shoulder + armpit) / 2), float(np.linalg.norm(shoulder - armpit)))
        if limb is not None:
            parts[side], limbs[side] = sleeve, limb
    return parts, limbs


def _beyond_line(mask: GrayImage, shoulder: FloatArray, armpit: FloatArray, *, outward: int) -> GrayImage:
    """The part of a mask that hangs on the outer side of the line from shoulder to armpit."""
    cut = mask.copy()
    above = shoulder + (shoulder - armpit) * 2
    cv2.line(cut, tuple(np.round(above).astype(int)), tuple(np.round(armpit).astype(int)), 0, 2, cv2.LINE_4)
    beside = armpit + np.array([outward * 3, 1])
    _, labels = cv2.connectedComponents(cut, connectivity=4)
    middle = (shoulder + armpit) / 2 + np.array([outward * 4, 0])
    x, y = np.clip(np.round(middle).astype(int), 0, np.array(mask.shape[::-1]) - 1)
    if labels[y, x] == 0:
        return np.zeros_like(mask)
    sleeve = as_mask(labels == labels[y, x])
    inner = slice(round(float(beside[0])) + 1, None) if outward < 0 else slice(None, max(0, round(float(beside[0]))))
    sleeve[: round(float(armpit[1])), inner] = 0
    return sleeve


def limb_of(mask: GrayImage, root: FloatArray, root_width: float) -> Limb | None:
    """The axis and widths of a sleeve's or leg's mask that hangs on `root`; None where there is next to nothing."""
    found = cv2.findNonZero(mask)
    if found is None or len(found) < 30:
        return None
    points = found[:, 0].astype(np.float32)
    reach = np.linalg.norm(points - root, axis=1)
    end = points[reach >= np.percentile(reach, 97)].mean(axis=0)
    direction = (end - root) / max(float(np.linalg.norm(end - root)), 1e-6)
    along = (points - root) @ direction
    length = float(np.percentile(along, 99.5))

    def section(at: float) -> tuple[FloatArray, float]:
        slab = points[np.abs(along - at) < max(2.0, 0.05 * length)]
        if len(slab) == 0:
            return as_float(root + direction * at), root_width
        across = (slab - root) @ np.array([-direction[1], direction[0]], np.float32)
        low, high = np.percentile(across, [1, 99])
        normal = np.array([-direction[1], direction[0]], np.float32)
        return as_float(root + direction * at + normal * (low + high) / 2), float(high - low)

    middle, middle_width = section(0.5 * length)
    cuff, cuff_width = section(0.96 * length)
    cuff_width = max(cuff_width, section(0.8 * length)[1])  # a slanting end is cut short by a slab across the axis
    return Limb(
        np.stack([root, middle, cuff + direction * 0.04 * length]).astype(np.float32),
        np.array([root_width, middle_width, cuff_width], np.float32),
    )


def _sleeve_share(anchors: dict[str, FloatArray], limbs: dict[Part, Limb]) -> float:
    """Sleeve length over body length."""
    body = (anchors["hem_left"] + anchors["hem_right"])[1] / 2 - (anchors["neck_left"] + anchors["neck_right"])[1] / 2
    return float(np.mean([limb.length for limb in limbs.values()]) / max(body, 1.0))


# ---- trousers and skirts -------------------------------------------------------------------------------------------


def _measure_skirt(shape: _Outline) -> _Measures:
    waist = shape.y + 0.02 * shape.height
    left, right = shape.span(waist)
    hem = shape.y + 0.97 * shape.height
    hem_left, hem_right = shape.span(hem)
    corners = np.array([[left, shape.y], [right, shape.y], [hem_left, hem], [hem_right, hem]], np.float32)
    names = ("waist_left", "waist_right", "hem_left", "hem_right")
    return dict(zip(names, corners, strict=True)), {}, {"body": shape.mask}


def _measure_legs(shape: _Outline) -> _Measures:
    crotch = shape.crotch()
    if crotch is None:
        raise GarmentSegmentationError(
            "The garment's two legs can't be told apart. Use a photo of the trousers from the front with a gap "
            "between the legs, or set garment_type to skirt."
        )
    left, right = shape.span(shape.y + 0.02 * shape.height)
    anchors: dict[str, FloatArray] = {
        "waist_left": np.array([left, shape.y], np.float32),
        "waist_right": np.array([right, shape.y], np.float32),
        "crotch": crotch,
    }
    parts, limbs = dict[Part, GrayImage](), dict[Part, Limb]()
    row = round(float(crotch[1]))
    seat_left, seat_right = shape.span(row - 2)
    sides: tuple[tuple[Part, float], ...] = (("left", seat_left), ("right", seat_right))
    for side, outer in sides:
        leg = np.zeros_like(shape.mask)
        columns = slice(None, round(float(crotch[0]))) if side == "left" else slice(round(float(crotch[0])), None)
        leg[row:, columns] = shape.mask[row:, columns]
        root = np.array([(outer + crotch[0]) / 2, row], np.float32)
        limb = limb_of(leg, root, abs(outer - float(crotch[0])))
        if limb is not None:
            parts[side], limbs[side] = leg, limb
            anchors[f"hem_{side}"] = limb.axis[2]
    body = shape.mask.copy()
    for each in parts.values():
        body[each > 0] = 0
    parts["body"] = body
    return anchors, limbs, parts
