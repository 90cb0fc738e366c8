"""The regions of a face, as areas that share their borders.

Every line that bounds anything (borders of the label map, outlines of the mesh, edges of the zones between features) is
laid into one drawing. Where lines cross they are cut, which divides the picture into cells. A region is a set of cells,
chosen by what the cell shows and in which zones it lies. So two regions that touch share their border exactly, and each
piece of border is made smooth once, for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import shapely

from contour_curves import Curve, fit_curves, flatten, signed_areas
from contour_drawing import Border, Drawing, Flags, draw
from contour_geometry import Points, Similarity, apply, consecutive
from contour_tracing import shared_borders
from face_parsing_map import FACE_PARTS, Part, PartMap

Source: TypeAlias = Literal["map", "landmarks", "both"]
"""(cells,) bool."""

REGIONS: Mapping[str, str] = MappingProxyType({
    "face_oval": "Face",
    "face_mask": "Facial skin",
    "forehead": "Forehead",
    "t_zone": "T-zone",
    "nose": "Nose",
    "cheek_right": "Right cheek",
    "cheek_left": "Left cheek",
    "under_eye_right": "Right under-eye area",
    "under_eye_left": "Left under-eye area",
    "eye_right": "Right eye",
    "eye_left": "Left eye",
    "brow_right": "Right eyebrow",
    "brow_left": "Left eyebrow",
    "lips": "Mouth",
    "lip_upper": "Upper lip",
    "lip_lower": "Lower lip",
    "mouth_inner": "Mouth opening",
    "chin": "Chin",
    "jawline": "Jawline",
    "neck": "Neck",
    "ear_right": "Right ear",
    "ear_left": "Left ear",
    "hair": "Hair",
    "glasses": "Glasses",
})  # fmt: skip
"""Every region's id and name; right and left are the subject's own. `jawline` is a line, the others are areas."""

MAP_ONLY: Mapping[str, tuple[Part, ...]] = MappingProxyType({
    "neck": (Part.NECK,),
    "ear_right": (Part.EAR_RIGHT,),
    "ear_left": (Part.EAR_LEFT,),
    "hair": (Part.HAIR,),
    "glasses": (Part.GLASSES,),
})  # fmt: skip
_CORNERS = (33, 133, 263, 362, 61, 291)  # of the eyes and the mouth
_FACE_PARTS = np.isin(np.arange(len(Part)), list(FACE_PARTS))  # by part
_DIGITS = 2  # of a coordinate on the canvas
_LEAST_CELL = 1e-4  # of the face's area: what two nearly equal lines leave between them
_LEAST_AREA = 5e-4  # of the face's area: a smaller piece of a region, or hole in it, is none
_REACH = 0.014  # of the face's size: the length over which a border's direction is judged


@dataclass(frozen=True)
class Region:
    """One region of a face on the canvas.

    rings: closed curves in hundredths of a pixel; the even-odd rule says what is inside. An area lies to the left of
        its rings, y upwards. The jawline's are open.
    source: where the border is from; None where the region isn't available, for the `reason` given.
    """

    id: str
    rings: tuple[Curve, ...]
    source: Source | None
    reason: str | None

    @property
    def label(self) -> str:
        """Its name."""
        return REGIONS[self.id]

    @property
    def is_line(self) -> bool:
        """Whether it is an open line, as the jawline is."""
        return self.id == "jawline"

    @property
    def nodes(self) -> int:
        """The curves' nodes."""
        return sum(len(ring) + self.is_line for ring in self.rings)

    @property
    def area(self) -> float:
        """Square pixels inside the curves, holes left out."""
        return 0.0 if self.is_line else float(signed_areas(self.rings).sum())

    @cached_property
    def flat_rings(self) -> list[Points]:
        """The rings as polylines (N, 2) within a tenth of a pixel; closed ones end where they begin."""
        return [flatten(ring) for ring in self.rings]

    @cached_property
    def geometry(self) -> shapely.Geometry:
        """A valid MultiPolygon, or the MultiLineString of a line."""
        lines = shapely.multilinestrings([shapely.linestrings(ring) for ring in self.flat_rings])
        return lines if self.is_line else shapely.build_area(lines if lines.is_simple else shapely.node(lines))


def face_regions(
    points: Points,
    shapes: Mapping[str, shapely.Geometry],
    zones: Mapping[str, shapely.Geometry],
    part_map: PartMap | None,
    clip: shapely.Polygon,
    alignment: Similarity,
    *,
    tolerance: float,
) -> list[Region]:
    """All regions of a face, in the order of `REGIONS`.

    Args:
        points: the mesh (468 or 478, 2), checked.
        shapes, zones: its features and what lies between them (`contour_geometry.mesh_areas`).
        part_map: what the label map shows of it, if there is one.
        clip: the part of the photo that the canvas shows.
        alignment: the photo's way onto the canvas.
        tolerance: how far curves may leave the traced borders, in pixels of the photo.
    """
    zones = dict(zones)
    between_ears = zones.pop("reach_between_ears")
    if part_map is not None and not part_map.has(Part.EAR_RIGHT):
        zones["reach"] = between_ears
    view = _View(shapes, zones, part_map)
    drawing = draw(view.lines(clip))
    places = shapely.get_coordinates(shapely.point_on_surface(drawing.cells))
    members = view.members(places) & shapely.contains_xy(clip, places)
    face_area = view.shapes["face"].area
    _absorb_slivers(drawing, members, _LEAST_CELL * face_area)
    borders = _borders(drawing, members, shapely.contains_xy(view.zones["jaw"], places))
    size = float(np.ptp(points, axis=0).max())
    lines = [border.line for border in borders]
    curves = fit_curves(lines, points[list(_CORNERS)], tolerance=tolerance, reach=_REACH * size)
    curves = _on_canvas(curves, clip, alignment)
    least_area = _LEAST_AREA * face_area * alignment.scale**2
    rings: dict[str, list[Curve]] = {name: [] for name in REGIONS}
    chains = [(name, chain) for name, ways in _outlines(borders, curves, members).items() for chain in _chained(ways)]
    closed = [_closed(chain) for _, chain in chains]
    for (name, chain), ring, area in zip(chains, closed, signed_areas(closed).tolist(), strict=True):
        if name == "jawline":
            rings[name].append(chain)
        elif abs(area) >= least_area:  # no speck and no pinhole
            rings[name].append(ring)
    return [
        Region(name, tuple(found), *((view.source(name), None) if found else (None, view.reason(name))))
        for name, found in rings.items()
    ]


def _on_canvas(curves: list[Curve], clip: shapely.Polygon, alignment: Similarity) -> list[Curve]:
    """The curves in canvas pixels. One may swing beyond the border along which its ends lie: that is undone."""
    if not curves:
        return []
    x1, y1, x2, y2 = shapely.bounds(clip)
    inside = np.clip(np.concatenate(curves), [x1, y1], [x2, y2])
    placed = np.clip(apply(alignment.matrix, inside), 0, [alignment.width, alignment.height])
    return consecutive(np.round(placed, _DIGITS), [len(curve) for curve in curves])


@dataclass(frozen=True, slots=True)
class _View:
    """What mesh and map say of the face."""

    shapes: Mapping[str, shapely.Geometry]
    zones: Mapping[str, shapely.Geometry]
    part_map: PartMap | None

    def shown(self, feature: str) -> bool:
        """Whether the map gives a feature's border."""
        return self.part_map is not None and feature in self.part_map.shown

    def lines(self, clip: shapely.Geometry) -> list[shapely.Geometry]:
        """Everything that may bound a region."""
        areas = [clip]
        for name, shape in self.shapes.items():
            feature = "lips" if name == "mouth_inner" else name
            if not (self.shown(feature) or (name == "face" and self.part_map is not None)):
                areas.append(shape)
        for name, zone in self.zones.items():
            needed = {"reach": self.part_map is not None, "upper_lip": not self.shown("lips")}.get(name, True)
            if needed:
                areas.append(zone)
        if self.part_map is None:
            return list(shapely.boundary(areas))
        points, line = shared_borders(self.part_map.parts)
        return [*shapely.boundary(areas), *shapely.linestrings(self.part_map.to_photo(points), indices=line)]

    def members(self, places: Points) -> Flags:
        """(regions, cells): which cells belong to each region, by a point inside each cell."""
        areas = np.array([*self.zones.values(), *self.shapes.values()])
        shapely.prepare(areas)
        inside = shapely.contains_xy(areas[:, None], *places.T)
        zone = dict(zip(self.zones, inside, strict=False))
        mesh = dict(zip(self.shapes, inside[len(self.zones) :], strict=True))
        none = np.zeros(len(places), bool)
        if self.part_map is None:
            part = np.zeros(len(places), np.uint8)
            face = np.logical_or.reduce([mesh["face"], mesh["nose"], zone["cheek_right"], zone["cheek_left"]])
        else:
            part = self.part_map.at(places)
            face = zone["reach"] & _FACE_PARTS[part]

        shows = part == np.arange(len(Part))[:, None]

        def feature(name: str, *parts: Part) -> Flags:
            found: Flags = face & shows[list(parts)].any(axis=0) if self.shown(name) else mesh[name]
            return found

        is_ = {name: shows[codes[0]] for name, codes in MAP_ONLY.items()}
        for side, eye, brow in (("right", Part.EYE_RIGHT, Part.BROW_RIGHT), ("left", Part.EYE_LEFT, Part.BROW_LEFT)):
            is_[f"eye_{side}"] = feature(f"eye_{side}", eye)
            is_[f"brow_{side}"] = feature(f"brow_{side}", brow) & ~is_[f"eye_{side}"]
        eyes, brows = is_["eye_right"] | is_["eye_left"], is_["brow_right"] | is_["brow_left"]
        is_["nose"] = feature("nose", Part.NOSE) & ~eyes
        is_["lips"] = feature("lips", Part.MOUTH, Part.LIP_UPPER, Part.LIP_LOWER) & ~is_["nose"]
        if self.shown("lips"):
            is_["mouth_inner"], upper = is_["lips"] & shows[Part.MOUTH], shows[Part.LIP_UPPER]
        else:
            is_["mouth_inner"], upper = is_["lips"] & mesh["mouth_inner"], zone["upper_lip"]
        is_["lip_upper"] = is_["lips"] & ~is_["mouth_inner"] & upper
        is_["lip_lower"] = is_["lips"] & ~is_["mouth_inner"] & ~upper
        face = face | eyes | brows | is_["nose"] | is_["lips"]
        is_["face_oval"] = face
        is_["face_mask"] = face & ~(eyes | brows | is_["lips"] | is_["glasses"])
        skin = face & ~(eyes | brows | is_["lips"])
        is_["forehead"] = skin & zone["forehead"] & ~is_["nose"]
        is_["t_zone"] = skin & (zone["t_bar"] | zone["bridge"] | is_["nose"])
        is_["chin"] = skin & zone["chin"]
        for side in ("right", "left"):
            is_[f"under_eye_{side}"] = skin & zone[f"under_eye_{side}"] & ~is_["nose"]
            is_[f"cheek_{side}"] = skin & zone[f"cheek_{side}"] & ~is_["nose"] & ~is_[f"under_eye_{side}"]
        return np.array([is_.get(name, none) for name in REGIONS])

    def source(self, name: str) -> Source:
        """Where the border of a region is from."""
        if self.part_map is None:
            return "landmarks"
        if name in MAP_ONLY:
            return "map"
        feature = "lips" if name.startswith(("lip_", "mouth_")) else name
        if feature in self.shapes and feature != "face":
            return "map" if self.shown(feature) else "landmarks"
        return "both"

    def reason(self, name: str) -> str:
        """Why a region has no area."""
        if name in MAP_ONLY and self.part_map is None:
            return "Only a label map shows it, and none was sent."
        if name in MAP_ONLY and self.part_map is not None and not self.part_map.has(*MAP_ONLY[name]):
            return f"A label map of the scheme {self.part_map.scheme} has no class for it."
        if name in MAP_ONLY:
            return "The label map shows none."
        if name == "mouth_inner":
            return "The mouth is closed."
        return "It is hidden, or lies outside the picture."


# ---- the borders -----------------------------------------------------------------------------------------------------


def _absorb_slivers(drawing: Drawing, members: Flags, least: float) -> None:
    """Gives each tiny cell to the regions of the neighbour with which it shares most of its border; changes `members`.

    Not those that belong to the same regions as a neighbour: they are a corner of something larger.
    """
    areas = shapely.area(drawing.cells)
    tiny = np.flatnonzero(areas < least)
    for cell in tiny[np.argsort(areas[tiny], kind="stable")].tolist():
        left, right = drawing.beside
        around = np.flatnonzero((left == cell) != (right == cell))
        neighbours = left[around] + right[around] - cell
        around, neighbours = around[neighbours < len(areas)], neighbours[neighbours < len(areas)]
        alike = (members[:, neighbours] == members[:, [cell]]).all(axis=0)
        if len(neighbours) and not alike.any():
            shared = np.bincount(neighbours, drawing.lengths[around])
            members[:, cell] = members[:, shared.argmax()]


def _borders(drawing: Drawing, members: Flags, in_jaw: Flags) -> list[Border]:
    """The lines that bound a region. Those from ear to ear, the jawline, are marked."""
    left, right = drawing.beside
    with_outside = np.column_stack([members, np.zeros(len(members), bool)])
    differs = (with_outside[:, left] != with_outside[:, right]).any(axis=0)
    face = with_outside[list(REGIONS).index("face_oval")]
    band = np.append(in_jaw, False)
    return drawing.borders(differs, (face[left] != face[right]) & band[left] & band[right])


# ---- rings -----------------------------------------------------------------------------------------------------------


_Way: TypeAlias = tuple[int, int, Curve]
"""A curve, after the numbers of the places from which and to which it leads."""


def _outlines(borders: list[Border], curves: list[Curve], members: Flags) -> dict[str, list[_Way]]:
    """The curves around each region, which lies to their left; of the jawline, those from ear to ear."""
    there = [(border.start, border.stop, curve) for border, curve in zip(borders, curves, strict=True)]
    back = [(stop, start, curve[::-1, ::-1]) for start, stop, curve in there]
    cells = np.array([(border.left, border.right) for border in borders], int).reshape(-1, 2)
    left, right = np.column_stack([members, np.zeros(len(members), bool)])[:, cells.T].swapaxes(0, 1)
    outlines: dict[str, list[_Way]] = {name: [] for name in REGIONS}
    names = list(REGIONS)
    face, jawline = names.index("face_oval"), names.index("jawline")
    is_jaw = [border.is_marked for border in borders]
    left[jawline], right[jawline] = left[face] & is_jaw, right[face] & is_jaw
    for ways, ahead in ((there, left & ~right), (back, right & ~left)):
        for region, number in np.argwhere(ahead).tolist():
            outlines[names[region]].append(ways[number])
    return outlines


def _chained(ways: list[_Way]) -> list[Curve]:
    """Curves from place to place, joined; where several leave a place, by the sharpest turn to the left."""
    leaving: dict[int, list[tuple[int, Curve]]] = {}
    for start, stop, curve in ways:
        leaving.setdefault(start, []).append((stop, curve))
    arriving = {stop for _, stop, _ in ways}
    chains = []
    # Lines that nothing leads to are begun first, so that they are whole.
    for start in sorted(leaving, key=arriving.__contains__):
        while leaving[start]:
            here, curve = leaving[start].pop()
            chain = [curve]
            while here != start and (options := leaving.get(here)):
                turns = [_turn(chain[-1], option) for _, option in options] if len(options) > 1 else [0.0]
                here, curve = options.pop(turns.index(max(turns)))
                chain.append(curve)
            chains.append(np.concatenate(chain))
    return chains


def _closed(chain: Curve) -> Curve:
    """The chain, led back to its start where noding has lost a step in the noise of a map."""
    start, end = chain[0, 0], chain[-1, 3]
    if start.tolist() == end.tolist():
        return chain
    back = np.stack([end, end + (start - end) / 3, start - (start - end) / 3, start])
    return np.concatenate([chain, back[None]])


def _turn(before: Curve, after: Curve) -> float:
    """The angle from one curve's end into the next one's start, -pi..pi, to the left of y upwards."""
    a, b = before[-1, 3] - before[-1, 2], after[0, 1] - after[0, 0]
    return math.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1])
