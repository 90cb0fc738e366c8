"""Facial contours: the regions of a face as smooth, exact areas, from landmarks, a label map, or both.

`facial_contours` finds the regions and turns them onto the canvas: the photo as it is, turned upright, or the face cut
out. `contour_output` writes them as SVG, JSON and PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import shapely

from contour_curves import Curve, signed_area
from contour_geometry import Points, Similarity, align, apply, bernstein, check_mesh, head_pose, mesh_shapes
from contour_regions import REGIONS, Region, face_regions
from face_geometry import HeadPose
from face_parsing_map import LabelScheme, prepare_map
from service.errors import InvalidValueError
from utils import GrayImage

DEFAULT_SIZE, LEAST_SIZE, MOST_SIZE = 1024, 64, 4096
"""Pixels of a crop's side."""
SMALL_FACE_PX = 200
"""Longer side of a face oval in the photo below which its regions are told to be coarse."""
FRONTAL_DEG = 25.0
"""A head turned further hides a cheek: the seed's shapes are meant for a face that looks at the camera."""
_DIGITS = 2  # of a coordinate in pixels of the canvas
_FLATNESS = 0.1  # pixels of the canvas by which a polygon may leave its curve
_TOLERANCE = 8e-4  # of the face's size: half of what the mesh's own points scatter
_MAP_TOLERANCE = 0.45  # pixels of the label map: less would follow its stairs
_SMOOTHING_RANGE = 4.0  # smoothing 0 divides the tolerance by it, 1 multiplies


@dataclass(frozen=True, slots=True)
class ContourOptions:
    """What is wanted.

    regions: ids of `REGIONS`; all of them by default. label_scheme: the class order of the label map.
    autorotate: level the eyes. crop: cut the face out, `size` pixels square; otherwise the canvas is the whole photo.
    smoothing: 0 follows every bend of the borders, 1 keeps only the large ones.
    """

    regions: tuple[str, ...] = tuple(REGIONS)
    label_scheme: LabelScheme = "auto"
    autorotate: bool = True
    crop: bool = True
    size: int = DEFAULT_SIZE
    smoothing: float = 0.5


@dataclass(frozen=True)
class CanvasRegion:
    """A region on the canvas. See `Region`; coordinates are rounded to hundredths of a pixel."""

    id: str
    label: str
    rings: tuple[Curve, ...]
    source: str | None
    reason: str | None

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
        """Square pixels of the canvas inside the curves, holes left out."""
        return 0.0 if self.is_line else sum(signed_area(ring) for ring in self.rings)

    @cached_property
    def flat_rings(self) -> list[Points]:
        """The rings as polylines (N, 2) within a tenth of a pixel; closed ones end where they begin."""
        return [flatten(ring) for ring in self.rings]

    @cached_property
    def geometry(self) -> shapely.Geometry:
        """A valid MultiPolygon, or the MultiLineString of a line."""
        lines = shapely.multilinestrings([shapely.linestrings(ring) for ring in self.flat_rings])
        return lines if self.is_line else shapely.build_area(lines if lines.is_simple else shapely.node(lines))


@dataclass(frozen=True, slots=True)
class FaceContours:
    """The regions of one face on a canvas, in the order of `REGIONS`.

    alignment: the photo's way onto the canvas. scheme: of the label map; None without one.
    face_px: the longer side of the face oval in the photo. warnings: sentences for people.
    """

    regions: tuple[CanvasRegion, ...]
    alignment: Similarity
    pose: HeadPose
    face_px: float
    scheme: str | None
    warnings: tuple[str, ...] = field(default=())

    @property
    def is_frontal(self) -> bool:
        """Whether the face looks at the camera."""
        return abs(self.pose.yaw) <= FRONTAL_DEG and abs(self.pose.pitch) <= FRONTAL_DEG


def facial_contours(
    points: Points, photo_size: tuple[int, int], labels: GrayImage | None, options: ContourOptions
) -> FaceContours:
    """All asked regions of a face.

    Args:
        points: 468 or 478 points (N, 2) of MediaPipe's mesh in pixels of the upright photo, or in fractions of it.
        photo_size: width, height.
        labels: HxW uint8 classes of a face parser, at any size; None where there is no map.
        options: what is wanted.

    Raises:
        InvalidValueError: landmarks, map or options that can't be used; the sentence says why.
    """
    _check_options(options)
    width, height = photo_size
    points = check_mesh(np.asarray(points, np.float64), width, height)
    alignment = align(points, width, height, autorotate=options.autorotate, crop=options.size if options.crop else None)
    canvas = np.array([[0, 0], [alignment.width, 0], [alignment.width, alignment.height], [0, alignment.height]])
    clip = shapely.box(0, 0, width, height).intersection(shapely.Polygon(apply(alignment.inverse, canvas)))
    shapes = mesh_shapes(points)
    if clip.intersection(shapes["face"]).area < 0.5 * shapes["face"].area:
        raise InvalidValueError("landmarks: most of the face lies outside the photo.")
    part_map = None
    if labels is not None:
        part_map = prepare_map(
            labels, scheme=options.label_scheme, photo_size=photo_size, window=shapely.bounds(clip), shapes=shapes
        )
    size = float(np.ptp(points, axis=0).max())
    grain = 0.0 if part_map is None else float(part_map.scale.max())
    tolerance = max(_TOLERANCE * size, _MAP_TOLERANCE * grain) * _SMOOTHING_RANGE ** (2 * options.smoothing - 1)
    found = face_regions(points, shapes, part_map, clip, tolerance=tolerance)
    pose = head_pose(points)
    contours = FaceContours(
        regions=tuple(_on_canvas(found[name], alignment, photo_size) for name in REGIONS if name in options.regions),
        alignment=alignment,
        pose=pose,
        face_px=float(np.ptp(shapely.get_coordinates(shapes["face"]), axis=0).max()),
        scheme=None if part_map is None else part_map.scheme,
    )
    return replace(contours, warnings=tuple(_warnings(contours, photo_size, labels)))


def flatten(curve: Curve) -> Points:
    """A curve as a polyline (N, 2) within a tenth of a pixel, nodes included."""
    # How far a cubic leaves its chord is bounded by its second differences: Wang, 1984.
    second = np.abs(np.diff(curve, 2, axis=1)).max(axis=(1, 2))
    counts = np.maximum(np.ceil(np.sqrt(0.75 * second / _FLATNESS)), 1).astype(int)
    piece = np.repeat(np.arange(len(curve)), counts)
    t = (np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[piece]
    points = np.einsum("kn,nkd->nd", bernstein(t), curve[piece])
    return np.concatenate([points, curve[-1:, 3]])


def _check_options(options: ContourOptions) -> None:
    unknown = [name for name in options.regions if name not in REGIONS]
    if unknown:
        listed = ", ".join(repr(name[:40]) for name in unknown[:5])
        raise InvalidValueError(f"regions: there is no {listed}. There are: {', '.join(REGIONS)}.")
    if not options.regions:
        raise InvalidValueError("regions: name at least one, or leave the field out for all.")
    if not LEAST_SIZE <= options.size <= MOST_SIZE:
        raise InvalidValueError(f"size: {LEAST_SIZE} to {MOST_SIZE} pixels.")
    if not 0 <= options.smoothing <= 1:
        raise InvalidValueError("smoothing: 0 to 1.")


def _on_canvas(region: Region, alignment: Similarity, photo_size: tuple[int, int]) -> CanvasRegion:
    """The region in canvas pixels. A curve may swing beyond the border along which its ends lie: that is undone."""
    canvas_size = alignment.width, alignment.height
    inside = (np.clip(ring, 0, photo_size) for ring in region.rings)
    placed = (np.clip(apply(alignment.matrix, ring), 0, canvas_size) for ring in inside)
    rings = tuple(np.round(ring, _DIGITS) for ring in placed)
    return CanvasRegion(region.id, REGIONS[region.id], rings, region.source, region.reason)


def _warnings(contours: FaceContours, photo_size: tuple[int, int], labels: GrayImage | None) -> Sequence[str]:
    warnings = []
    if not contours.is_frontal:
        warnings.append("The head is turned far from the camera: regions on its far side are foreshortened or hidden.")
    if contours.face_px < SMALL_FACE_PX:
        warnings.append(f"The face is only {contours.face_px:.0f} pixels tall in the photo: its regions are coarse.")
    if labels is not None:
        height, width = labels.shape
        shape = (width / height) / (photo_size[0] / photo_size[1])
        if not 0.98 < shape < 1.02:
            warnings.append("Map and photo have different proportions: the map was stretched over the whole photo.")
    return warnings
