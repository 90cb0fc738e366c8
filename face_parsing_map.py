"""Label maps of face parsers: which class is which part, in which order, at which resolution, on which side.

A map is HxW uint8, one class per pixel, and covers the whole photo at any size. Its left and right classes are not
believed, since parsers trained with mirrored pictures confuse them: the sides come from the landmarks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from types import MappingProxyType
from typing import Literal, TypeAlias

import cv2
import numpy as np
import shapely

from contour_geometry import Points, consecutive
from service.errors import InvalidValueError
from utils import AnyArray, GrayImage

LabelScheme: TypeAlias = Literal["auto", "celebamask19", "parsing11"]


class Part(IntEnum):
    """What a pixel shows. Parsers' two classes of a pair both start as the right one."""

    OTHER = 0
    SKIN = 1
    NOSE = 2
    MOUTH = 3
    LIP_UPPER = 4
    LIP_LOWER = 5
    GLASSES = 6
    BROW_RIGHT = 7
    BROW_LEFT = 8
    EYE_RIGHT = 9
    EYE_LEFT = 10
    EAR_RIGHT = 11
    EAR_LEFT = 12
    NECK = 13
    HAIR = 14


FACE_PARTS = frozenset(range(Part.SKIN, Part.EYE_LEFT + 1))
PAIRS = MappingProxyType({Part.BROW_RIGHT: "brow", Part.EYE_RIGHT: "eye", Part.EAR_RIGHT: "eye"})
"""The right one of each pair, and the feature of the mesh that tells which side is nearer."""

_BROW, _EYE, _EAR = Part.BROW_RIGHT, Part.EYE_RIGHT, Part.EAR_RIGHT
SCHEMES: Mapping[str, tuple[Part, ...]] = MappingProxyType({
    # background, skin, brows, eyes, glasses, ears, earring, nose, mouth, lips, neck, necklace, cloth, hair, hat
    "celebamask19": (
        Part.OTHER, Part.SKIN, _BROW, _BROW, _EYE, _EYE, Part.GLASSES, _EAR, _EAR, _EAR, Part.NOSE, Part.MOUTH,
        Part.LIP_UPPER, Part.LIP_LOWER, Part.NECK, Part.NECK, Part.OTHER, Part.HAIR, Part.OTHER,
    ),
    "parsing11": (
        Part.OTHER, Part.SKIN, _BROW, _BROW, _EYE, _EYE, Part.NOSE, Part.LIP_UPPER, Part.MOUTH, Part.LIP_LOWER,
        Part.HAIR,
    ),
})  # fmt: skip
"""The part that each class number means. celebamask19 is the order of the public BiSeNet parsers."""

LEAST_SIDE = 16
_LEAST_OVERLAP = 0.2  # of a feature in the map and in the mesh; true maps reach 0.5 to 0.9, other class orders 0
_LEAST_FACE_OVERLAP = 0.3
_WORKING_FACE = 900  # pixels of a face's longer side: finer maps are thinned, which costs a thousandth of the face
_MOST_ELSEWHERE = 2  # features that a map may show in a wrong place (an eye for a lens) before its order is doubted
_BETWEEN = 3  # of the way between both of a pair: how far up and down they might meet
_COUNTED = 200  # pixels along the face's box that are counted: they tell enough of what overlaps
_FIRST_FEATURE = 2  # 0 is around the face, 1 in it
_FEATURES = {
    "nose": (Part.NOSE,),
    "lips": (Part.MOUTH, Part.LIP_UPPER, Part.LIP_LOWER),
    "eye_right": (Part.EYE_RIGHT,),
    "eye_left": (Part.EYE_RIGHT,),
    "brow_right": (Part.BROW_RIGHT,),
    "brow_left": (Part.BROW_RIGHT,),
}
"""The parts of each feature, pairs before they are split."""
_TWINS = np.array([0, 1, 3, 2, 5, 4])  # the other one of a pair, among the features


@dataclass(frozen=True, slots=True)
class PartMap:
    """A label map made ready for one face.

    parts: HxW uint8 of `Part`, a window of the map, thinned to the resolution that it really has.
    scale: pixels of the photo per pixel of `parts`, in x and in y. origin: where the window begins in the photo.
    scheme: the class order. shown: the features whose border the map knows better than the mesh. sides: for the right
    part of each pair a point halfway between both, and the way from the right to the left one.
    """

    parts: GrayImage
    scale: Points
    origin: Points
    scheme: str
    shown: frozenset[str]
    sides: Mapping[Part, tuple[Points, Points]]

    def to_photo(self, points: Points) -> Points:
        """Points (N, 2) of the map in pixels of the photo."""
        moved: Points = points * self.scale + self.origin
        return moved

    def at(self, points: Points) -> GrayImage:
        """The part at each point (N, 2) of the photo, on the side where it lies; OTHER outside the window."""
        return self.on_its_side(self.unsided(points), points)

    def unsided(self, points: Points) -> GrayImage:
        """As `at`, pairs as they stand in the map."""
        column, row = np.floor((points - self.origin) / self.scale).astype(int).T
        height, width = self.parts.shape
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        found: GrayImage = self.parts[row.clip(0, height - 1), column.clip(0, width - 1)] * inside
        return found

    def on_its_side(self, parts: GrayImage, points: Points) -> GrayImage:
        """Parts (N,) at points (N, 2), those of pairs as the one whose place in the mesh is nearer; changes `parts`."""
        for right, (middle, across) in self.sides.items():
            parts[(parts == right) & ((points - middle) @ across > 0)] = right + 1
        return parts

    def has(self, *parts: Part) -> bool:
        """Whether the scheme has a class for one of the parts."""
        return not set(parts).isdisjoint(SCHEMES[self.scheme])


def prepare_map(
    labels: GrayImage,
    *,
    scheme: LabelScheme,
    photo_size: tuple[int, int],
    window: AnyArray,
    shapes: Mapping[str, shapely.Geometry],
) -> PartMap:
    """Read a map as the parts of one face.

    Args:
        labels: HxW uint8 classes.
        scheme: the class order; auto chooses the one that agrees with the mesh.
        photo_size: width, height.
        window: (4,) x1, y1, x2, y2 of the photo: what lies outside is not looked at.
        shapes: the mesh's features (`contour_geometry.mesh_areas`).

    Raises:
        InvalidValueError: a map that is tiny or empty, holds classes that the scheme has not, or does not fit the face;
            a mesh in which a feature has no area.
    """
    most = _check_content(labels)
    cut, scale, origin = _cut(labels, photo_size, window, shapes["face"])
    raw = PartMap(cut, scale, origin, "", frozenset(), {})
    counts = _count(raw, shapes)
    agreement = {name: _overlaps(counts, name) for name in _fitting_schemes(labels, most, scheme)}
    name, overlaps = max(agreement.items(), key=lambda each: sum(each[1].values()))
    _check_fit(counts, name, overlaps)
    parts = cv2.LUT(cut, _table(name))
    shown = frozenset(feature for feature, overlap in overlaps.items() if overlap >= _LEAST_OVERLAP)
    part_map = PartMap(parts, scale, origin, name, shown, _sides(shapes))
    _part_what_meets(part_map)
    return part_map


def _check_content(labels: GrayImage) -> int:
    """The highest class number of a map that can show something."""
    if min(labels.shape) < LEAST_SIDE:
        height, width = labels.shape
        raise InvalidValueError(
            f"segmentation_map: {width} x {height} pixels are too few to show a face. Send at least {LEAST_SIDE} each "
            "way."
        )
    most = int(labels.max())
    if most == 0:
        raise InvalidValueError("segmentation_map: every pixel is background. Send a map that shows the face, or none.")
    return most


def _fitting_schemes(labels: GrayImage, most: int, scheme: LabelScheme) -> list[str]:
    """The schemes that have all the classes that occur."""
    asked = list(SCHEMES) if scheme == "auto" else [scheme]
    fitting = [name for name in asked if most < len(SCHEMES[name])]
    if not fitting:
        known = max(len(SCHEMES[name]) for name in asked)
        unknown = [number for number in np.unique(labels).tolist() if number >= known]
        listed = ", ".join(map(str, unknown[:10])) + (" and more" if len(unknown) > 10 else "")
        raise InvalidValueError(
            f"segmentation_map: class numbers that {' and '.join(asked)} do not have: {listed}. Each pixel must hold "
            f"its class, 0 to {known - 1}; a picture of the map in colours can't be read."
        )
    return fitting


def _table(scheme: str) -> GrayImage:
    """(256,) the part of every class number."""
    table = np.zeros(256, np.uint8)
    parts = SCHEMES[scheme]
    table[: len(parts)] = parts
    return table


def _cut(
    labels: GrayImage, photo_size: tuple[int, int], window: AnyArray, face: shapely.Geometry
) -> tuple[GrayImage, Points, Points]:
    """The window of the map at the resolution that it really has, its scale and its origin in the photo."""
    height, width = labels.shape
    scale = np.array(photo_size, np.float64) / (width, height)
    low = np.clip(np.floor(window[:2] / scale).astype(int), 0, [width - 1, height - 1])
    high = np.clip(np.ceil(window[2:] / scale).astype(int), low + 1, [width, height])
    x, y, columns, rows = cv2.boundingRect(labels[low[1] : high[1], low[0] : high[0]])
    low += (x, y)
    high = np.maximum(low + np.array([columns, rows]), low + 1)
    cut = labels[low[1] : high[1], low[0] : high[0]]
    box = shapely.bounds(face)
    face_px = float(((box[2:] - box[:2]) / scale).max())
    x1, y1, x2, y2 = np.clip((box.reshape(2, 2) / scale - low).astype(int), 0, None).ravel()
    thinning = np.maximum(_enlargement(cut[y1:y2, x1:x2]), face_px / _WORKING_FACE)
    if (thinning <= 1).all():
        return cut, scale, low * scale
    size = np.maximum(np.round((high - low) / thinning), 1).astype(int)
    across, down = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(size, high - low, strict=True))
    return cut[np.ix_(down, across)], scale * (high - low) / size, low * scale


def _enlargement(labels: GrayImage) -> Points:
    """(2,) how many columns, and rows, stand for one: a map enlarged to the photo's size has stairs and no detail.

    Borders between classes are then that far apart, or a multiple.
    """
    factors = []
    for along, across in ((1, 0), (0, 1)):
        unlike = labels[:, 1:] ^ labels[:, :-1] if along else labels[1:] ^ labels[:-1]
        changes = np.flatnonzero(unlike.max(axis=across, initial=0))
        gaps = np.diff(changes)
        median = float(np.median(gaps)) if len(gaps) >= LEAST_SIDE else 1.0
        factors.append(float(gaps[gaps < 1.6 * median].mean()) if median >= 2 else 1.0)
    return np.array(factors)


def _sides(shapes: Mapping[str, shapely.Geometry]) -> dict[Part, tuple[Points, Points]]:
    ends = [shapes[f"{anchor}_{side}"] for anchor in PAIRS.values() for side in ("right", "left")]
    right, left = shapely.get_coordinates(shapely.centroid(ends)).reshape(-1, 2, 2).swapaxes(0, 1)
    return dict(zip(PAIRS, zip((right + left) / 2, left - right, strict=True), strict=True))


def _part_what_meets(part_map: PartMap) -> None:
    """Parts the two of a pair in the map itself where they meet between the sides; elsewhere a point tells its side."""
    parts = part_map.parts
    middles, across = (np.array(each)[:, None] for each in zip(*part_map.sides.values(), strict=True))
    steps = int(_BETWEEN * np.abs(across / part_map.scale).max()) + 1
    along = np.linspace(-_BETWEEN / 2, _BETWEEN / 2, steps)[:, None] * [-1, 1]
    between = part_map.unsided((middles + along * across[..., ::-1]).reshape(-1, 2)).reshape(-1, steps)
    for right, found in zip(part_map.sides, between, strict=True):
        if (found == right).any():
            rows, columns = np.nonzero(parts == right)
            places = part_map.to_photo(np.stack([columns, rows], axis=1).astype(np.float64) + 0.5)
            parts[rows, columns] = part_map.on_its_side(parts[rows, columns], places)


def _check_fit(counts: AnyArray, scheme: str, overlaps: Mapping[str, float]) -> None:
    """Refuses a map of another face, or in another order."""
    total = counts.sum(axis=0)
    shown, expected = total[_classes(scheme, FACE_PARTS)].sum(), counts[1:].sum()
    both = counts[1:, _classes(scheme, FACE_PARTS)].sum()
    if both <= _LEAST_FACE_OVERLAP * (shown + expected - both):
        raise InvalidValueError(
            "segmentation_map: its face does not lie where the landmarks are. Send map and landmarks of this very "
            "photo, upright and uncropped; the map may be of any size."
        )
    elsewhere = [
        feature
        for feature, parts in _FEATURES.items()
        if overlaps[feature] == 0 and total[_classes(scheme, parts)].any()
    ]
    if len(elsewhere) >= _MOST_ELSEWHERE:
        raise InvalidValueError(
            f"segmentation_map: read as {scheme}, these are not where the face has them: {', '.join(elsewhere)}. "
            "Another parser's class order? The orders that are read are in docs/contours.md."
        )


def _classes(scheme: str, parts: Collection[int]) -> list[int]:
    """The class numbers that stand for some parts."""
    return [number for number, part in enumerate(SCHEMES[scheme]) if part in parts]


def _overlaps(counts: AnyArray, scheme: str) -> dict[str, float]:
    """For each feature intersection over union of its classes with its place in the mesh, 0..1."""
    found = counts @ _class_table(scheme)
    places, number = found[_FIRST_FEATURE:], np.arange(len(_FEATURES))
    inside, elsewhere = places[number, number], found.sum(axis=0) - places[number, number]
    # What lies in the other one of a pair is that one's.
    elsewhere -= np.where(number == _TWINS, 0, places[_TWINS, number])
    overlaps = inside / np.maximum(elsewhere + counts[_FIRST_FEATURE:].sum(axis=1), 1)
    return dict(zip(_FEATURES, overlaps.tolist(), strict=True))


@cache
def _class_table(scheme: str) -> AnyArray:
    """(256, features) 1 where a class number stands for a feature."""
    table = np.zeros((256, len(_FEATURES)), int)
    for feature, parts in enumerate(_FEATURES.values()):
        table[_classes(scheme, parts), feature] = 1
    return table


def _count(raw: PartMap, shapes: Mapping[str, shapely.Geometry]) -> AnyArray:
    """(8, 256) pixels of each class around the face, in it, and in each of `_FEATURES`: of a sample, evenly spread."""
    box = (shapely.bounds(shapes["face"]).reshape(2, 2) - raw.origin) / raw.scale
    margin = (box[1] - box[0]) / 2
    limit = np.array(raw.parts.shape[::-1])
    low = np.clip(np.floor(box[0] - margin), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(box[1] + margin), low + 1, limit).astype(int)
    step = max(1, int((high - low).max()) // _COUNTED)
    found = raw.parts[low[1] : high[1] : step, low[0] : high[0] : step]
    place = np.zeros(found.shape, np.uint8)
    polygons, number = shapely.get_parts([shapes[name] for name in ("face", *_FEATURES)], return_index=True)
    if shapely.is_empty(polygons).any():
        raise InvalidValueError("landmarks: an eye, a brow, the nose or the mouth has no area. Send the mesh as found.")
    vertices, ring = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    vertices = np.round(((vertices - raw.origin) / raw.scale - low - step / 2) / step * 16).astype(np.int32)
    for value, outline in zip(number + 1, consecutive(vertices, np.bincount(ring).tolist()), strict=False):
        cv2.fillPoly(place, [outline], int(value), shift=4)
    shape = [_FIRST_FEATURE + len(_FEATURES), 256]
    counts = cv2.calcHist([place, np.ascontiguousarray(found)], [0, 1], None, shape, [0, shape[0], 0, shape[1]])
    return np.asarray(counts, int)
