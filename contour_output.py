"""Facial contours as files: an SVG document, JSON, and PNG pixels. The same contours give the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from contour_curves import Curve
from contour_geometry import Points, Similarity
from contour_regions import REGIONS, Region
from contour_svg import FaceContours
from face_crops import Halved
from service.errors import InvalidValueError
from utils import AnyArray, FloatArray, GrayImage, RGBImage, as_float

SCHEMA = "facial-contours/1"
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
PALETTE: Mapping[str, str] = {
    "face_oval": "#f4c7a1", "face_mask": "#f7d9c0", "forehead": "#8fb8de", "t_zone": "#6fa3d8", "nose": "#f2a65a",
    "cheek_right": "#e58fa6", "cheek_left": "#d977a8", "under_eye_right": "#9c89d6", "under_eye_left": "#7d6fcf",
    "eye_right": "#2f9e8f", "eye_left": "#1f8a9e", "brow_right": "#8a5a3c", "brow_left": "#a06b3f",
    "lips": "#d94a4a", "lip_upper": "#d94a64", "lip_lower": "#c2334d", "mouth_inner": "#5c1a2b", "chin": "#7fb77e",
    "jawline": "#3b6ea5", "neck": "#e0b48c", "ear_right": "#caa04d", "ear_left": "#b58a35", "hair": "#4d4a63",
    "glasses": "#66737f",
}  # fmt: skip
"""A colour for each region, apart from its neighbours'."""
_COVERED_BY: Mapping[str, tuple[str, ...]] = {
    "face_oval": ("face_mask",), "lips": ("lip_upper", "lip_lower"), "t_zone": ("forehead", "nose"),
}  # fmt: skip
"""Regions that are not filled where those that make them up are drawn as well."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_WHOLE = re.compile(r"\.0(?![0-9])")  # of whole numbers
_ROWS = 4  # scan lines per pixel of a raster
_STRIP = 256  # rows of a raster that are worked on at once: a large canvas takes no more memory


@dataclass(frozen=True, slots=True)
class ContourStyle:
    """How regions are drawn: `palette` (a colour each), `none`, or one colour as #rrggbb; widths in canvas pixels."""

    fill: str = "palette"
    fill_opacity: float = 0.35
    stroke: str = "palette"
    stroke_width: float = 1.5

    def check(self) -> None:
        """Raises InvalidValueError for what can't be drawn."""
        for name in ("fill", "stroke"):
            value = getattr(self, name)
            if value not in ("palette", "none") and not _COLOUR.fullmatch(value):
                raise InvalidValueError(f"{name}: palette, none, or a colour as #rrggbb.")
        if not 0 <= self.fill_opacity <= 1 or not 0 <= self.stroke_width <= 100:
            raise InvalidValueError("fill_opacity: 0 to 1; stroke_width: 0 to 100 pixels.")

    def fill_of(self, region: Region, drawn: frozenset[str]) -> str:
        """The fill's colour, or none."""
        covered = self.fill == "palette" and any(part in drawn for part in _COVERED_BY.get(region.id, ()))
        return "none" if region.is_line or covered else _colour(self.fill, region.id)

    def stroke_of(self, region: Region) -> str:
        """The outline's colour, or none."""
        return _colour(self.stroke, region.id)


def _colour(choice: str, region: str) -> str:
    return PALETTE[region] if choice == "palette" else choice.lower()


# ---- documents -------------------------------------------------------------------------------------------------------


def svg_document(contours: FaceContours, style: ContourStyle, facts: Mapping[str, Any]) -> bytes:
    """An SVG: one path with the region's id for each region that there is, and everything known in `<metadata>`.

    `facts` go into the metadata beside the transform and the pose: the source's hash, the generator's version.
    """
    style.check()
    width, height = contours.alignment.width, contours.alignment.height
    root = ET.Element(
        "svg",
        {
            "xmlns": SVG_NAMESPACE, "viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height),
            "role": "img", "aria-labelledby": "contour-title contour-desc",
        },
    )  # fmt: skip
    shown = [region for region in contours.regions if region.rings]
    ET.SubElement(root, "title", id="contour-title").text = "Facial contour"
    names = ", ".join(region.label.lower() for region in shown)
    ET.SubElement(root, "desc", id="contour-desc").text = f"Regions of one face as outlines: {names}."
    metadata = {"schema": SCHEMA, **facts, **_frame(contours)}
    ET.SubElement(root, "metadata").text = json.dumps(metadata, separators=(",", ":"))
    group = ET.SubElement(
        root,
        "g",
        {
            "id": "regions", "fill-rule": "evenodd", "fill-opacity": _number(style.fill_opacity),
            "stroke-width": _number(style.stroke_width), "stroke-linejoin": "round", "stroke-linecap": "round",
        },
    )  # fmt: skip
    drawn = frozenset(region.id for region in shown)
    for region in shown:
        measure = {} if region.is_line else {"data-area": _number(region.area)}
        ET.SubElement(
            group,
            "path",
            {
                "id": region.id, "class": "region", "data-label": region.label, "data-source": str(region.source),
                **measure, "fill": style.fill_of(region, drawn), "stroke": style.stroke_of(region),
                "d": path_data(region),
            },
        )  # fmt: skip
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def path_data(region: Region) -> str:
    """The region as SVG path data: absolute moves, lines and cubic curves."""
    parts = []
    for ring in region.rings:
        parts.append(f"M{ring[0, 0].tolist()}")
        for numbers, straight in zip(ring.reshape(-1, 8).tolist(), _is_straight(ring).tolist(), strict=True):
            parts.append(f"L{numbers[6:]}" if straight else f"C{numbers[2:]}")
        if not region.is_line:
            parts.append("Z")
    # Lists print their numbers several times faster than a format does.
    text = "".join(parts).replace("[", "").replace("]", "").replace(",", "")
    return _WHOLE.sub("", text)


def _is_straight(ring: Curve) -> NDArray[np.bool_]:
    """(S,) whether a piece lies within a hundredth of a pixel of its chord."""
    chord = ring[:, 3] - ring[:, 0]
    length = np.maximum(np.hypot(*chord.T), 1e-9)[:, None]
    offset = ring[:, 1:3] - ring[:, :1]
    across = np.abs(offset[..., 0] * chord[:, None, 1] - offset[..., 1] * chord[:, None, 0]) / length
    return np.asarray((across <= 0.01).all(axis=1))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def json_document(contours: FaceContours, facts: Mapping[str, Any], *, polygons: bool = True) -> dict[str, Any]:
    """Everything as JSON takes it; with `polygons=False` without outlines."""
    return {
        "schema": SCHEMA,
        **facts,
        **_frame(contours),
        "regions": [_region(region, polygons=polygons) for region in contours.regions],
        "warnings": list(contours.warnings),
    }


def _frame(contours: FaceContours) -> dict[str, Any]:
    """What the canvas is."""
    alignment, pose = contours.alignment, contours.pose
    return {
        "width": alignment.width,
        "height": alignment.height,
        "coordinate_space": alignment.space,
        "transform": {
            "source_to_canvas": _matrix(alignment.matrix),
            "canvas_to_source": _matrix(alignment.inverse),
            "roll_deg": round(alignment.roll_deg, 3),
            "scale": round(alignment.scale, 6),
        },
        "pose": {
            "yaw_deg": round(pose.yaw, 2), "pitch_deg": round(pose.pitch, 2), "roll_deg": round(pose.roll, 2),
            "frontal": contours.is_frontal,
        },
        "face_px": round(contours.face_px, 1),
        "label_scheme": contours.scheme,
    }  # fmt: skip


def _matrix(matrix: NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(value), 8) for value in row] for row in matrix]


def _region(region: Region, *, polygons: bool) -> dict[str, Any]:
    """A region's facts; lengths and places in canvas pixels."""
    facts: dict[str, Any] = {
        "id": region.id, "label": region.label, "color": PALETTE[region.id], "available": bool(region.rings),
        "reason": region.reason, "source": region.source, "nodes": region.nodes, "area": None, "length": None,
        "centroid": None, "bbox": None, "holes": 0,
    }  # fmt: skip
    geometry = region.geometry if region.rings else None
    if geometry is not None and not geometry.is_empty:
        centre = geometry.centroid
        measure = {"length": geometry.length} if region.is_line else {"area": region.area}
        facts |= {name: round(value, 2) for name, value in measure.items()}
        facts["centroid"] = [round(centre.x, 2), round(centre.y, 2)]
        facts["bbox"] = [round(value, 2) for value in geometry.bounds]
        if not region.is_line:
            facts["holes"] = sum(len(polygon.interiors) for polygon in shapely.get_parts(geometry))
    if polygons:
        facts["path"] = path_data(region) if region.rings else None
        facts["polygons"] = _polygons(geometry, region)
        facts["lines"] = [_coordinates(ring) for ring in region.flat_rings] if region.is_line else []
    return facts


def _polygons(geometry: shapely.Geometry | None, region: Region) -> list[dict[str, Any]]:
    if geometry is None or region.is_line:
        return []
    return [
        {
            "exterior": _coordinates(shapely.get_coordinates(polygon.exterior)),
            "holes": [_coordinates(shapely.get_coordinates(ring)) for ring in polygon.interiors],
        }
        for polygon in shapely.get_parts(geometry)
    ]


def _coordinates(points: Points) -> list[list[float]]:
    rounded: list[list[float]] = np.round(points, 2).tolist()
    return rounded


# ---- pixels ----------------------------------------------------------------------------------------------------------


def mask_indices(contours: FaceContours) -> GrayImage:
    """HxW uint8: for each pixel of the canvas the number of its region in `REGIONS`, from 1; 0 is none.

    Where regions overlap, the later of `REGIONS` wins; regions that others make up are left out where those are there.
    """
    numbers = {name: number for number, name in enumerate(REGIONS, start=1)}
    drawn = frozenset(region.id for region in contours.regions if region.rings)
    mask = np.zeros((contours.alignment.height, contours.alignment.width), np.uint8)
    for region in contours.regions:
        if region.is_line:
            cv2.polylines(mask, _fixed(region), isClosed=False, color=numbers[region.id], thickness=1, shift=_SHIFT)
        elif region.rings and not any(part in drawn for part in _COVERED_BY.get(region.id, ())):
            for window, share in coverage(region, mask.shape):
                mask[window][share >= 0.5] = numbers[region.id]
    return mask


def mask_palette() -> list[tuple[int, int, int]]:
    """The colours of `mask_indices`; 0 is black."""
    return [(0, 0, 0), *(_rgb(PALETTE[name]) for name in REGIONS)]


def canvas_photo(image_rgb: RGBImage, alignment: Similarity) -> tuple[RGBImage, GrayImage]:
    """The photo on the canvas, and its alpha: 0 where the canvas reaches beyond the photo."""
    size = (alignment.width, alignment.height)
    if alignment.space == "source":
        return image_rgb, np.full(image_rgb.shape[:2], 255, np.uint8)
    source, level = Halved(image_rgb).at_least(min(1.0, alignment.scale))
    # OpenCV counts from the middle of a pixel, the matrix from its corner.
    matrix = alignment.matrix.copy()
    matrix[:, :2] /= level
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    flags = cv2.INTER_CUBIC if alignment.scale / level >= 1 else cv2.INTER_LINEAR
    photo = cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.full(source.shape[:2], 255, np.uint8), matrix, size, flags=cv2.INTER_LINEAR)
    return photo, alpha


def overlay(photo: RGBImage, contours: FaceContours, style: ContourStyle) -> RGBImage:
    """The regions drawn over the photo on the canvas."""
    style.check()
    drawn = frozenset(region.id for region in contours.regions if region.rings)
    canvas = photo.copy()
    for region in contours.regions:
        if not region.rings:
            continue
        if (fill := style.fill_of(region, drawn)) != "none" and style.fill_opacity > 0:
            for window, share in coverage(region, canvas.shape):
                canvas[window] = _blended(canvas[window], style.fill_opacity * share, _rgb(fill))
        if (stroke := style.stroke_of(region)) != "none" and style.stroke_width > 0:
            rows, columns, share = _line(region, canvas.shape, style.stroke_width)
            canvas[rows, columns] = _blended(canvas[rows, columns], share, _rgb(stroke))
    return canvas


def coverage(region: Region, shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, slice], FloatArray]]:
    """How much of each pixel a region covers, 0..1, in windows of a canvas of `shape` (height, width), top to bottom.

    Exact along x, at four scan lines per pixel along y: each edge of an outline adds, to the right of where it crosses
    a line, what lies inside.
    """
    (top, left), (bottom, right) = _window(region, shape, margin=1)
    start = np.concatenate([ring[:-1] for ring in region.flat_rings])
    stop = np.concatenate([ring[1:] for ring in region.flat_rings])
    # Scan line k lies at (k + 0.5) / _ROWS; an edge crosses those between its ends.
    first, last = (np.ceil(end[:, 1] * _ROWS - 0.5).astype(int) for end in (start, stop))
    count = np.abs(last - first)
    edge = np.repeat(np.arange(len(count)), count)
    line = np.minimum(first, last)[edge] + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    way = ((line + 0.5) / _ROWS - start[edge, 1]) / (stop[edge, 1] - start[edge, 1])
    x = np.clip(start[edge, 0] + way * (stop[edge, 0] - start[edge, 0]) - left, 0, right - left)
    row, column, partly = line // _ROWS, np.floor(x).astype(int), np.mod(x, 1)
    weight = np.sign(first - last)[edge] / _ROWS  # the area lies to the left of its rings as y upwards sees it
    columns = right - left + 2
    for begin in range(top, bottom, _STRIP):
        end = min(begin + _STRIP, bottom)
        here = (row >= begin) & (row < end)
        at = (row[here] - begin) * columns + column[here]
        change = np.bincount(at, weight[here] * (1 - partly[here]), (end - begin) * columns)
        change += np.bincount(at + 1, weight[here] * partly[here], (end - begin) * columns)
        covered = np.cumsum(change.reshape(-1, columns), axis=1)[:, : right - left]
        yield (slice(begin, end), slice(left, right)), as_float(np.clip(covered, 0, 1))


def _line(region: Region, shape: tuple[int, ...], stroke_width: float) -> tuple[AnyArray, AnyArray, FloatArray]:
    """Rows and columns of the pixels on a region's outlines, and how much of each is covered."""
    thickness = max(1, round(stroke_width))
    (top, left), (bottom, right) = _window(region, shape, margin=thickness + 1)
    drawn = np.zeros((bottom - top, right - left), np.uint8)
    outlines = _fixed(region, (left, top))
    cv2.polylines(drawn, outlines, not region.is_line, 255, thickness, cv2.LINE_AA, _SHIFT)
    rows, columns = np.nonzero(drawn)
    share = as_float(drawn[rows, columns]) * (min(1.0, stroke_width) / 255)
    return rows + top, columns + left, share


def _window(region: Region, shape: tuple[int, ...], margin: int) -> tuple[list[int], list[int]]:
    """Top and left, bottom and right of the pixels that a region may touch, on a canvas of `shape` (height, width)."""
    corners = np.concatenate(region.flat_rings)[:, ::-1]
    limit = np.array(shape[:2])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin, 0, limit - 1)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + margin, low + 1, limit)
    return low.tolist(), high.tolist()


_SHIFT = 4  # bits of a pixel's fraction in OpenCV's drawing


def _fixed(region: Region, origin: tuple[int, int] = (0, 0)) -> list[NDArray[np.int32]]:
    """Outlines as OpenCV draws them: from the middle of a pixel, in sixteenths; `origin` (x, y) becomes 0, 0."""
    return [np.round((ring - 0.5 - origin) * 2**_SHIFT).astype(np.int32) for ring in region.flat_rings]


def _blended(pixels: RGBImage, share: FloatArray, colour: tuple[int, int, int]) -> RGBImage:
    """Pixels (..., 3) with a share (...) of a colour over each."""
    values = as_float(pixels)
    return np.round(values + share[..., None] * (np.array(colour, np.float32) - values)).astype(np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
