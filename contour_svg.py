"""Facial contours: the regions of a face as smooth, exact areas, from landmarks, a label map, or both.

`facial_contours` finds the regions and turns them onto the canvas: the photo as it is, turned upright, or the face cut
out. `contour_output` writes them as SVG, JSON and PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import shapely

from contour_geometry import Points, Similarity, align, apply, check_mesh, mesh_areas
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


@dataclass(frozen=True, slots=True)
class FaceContours:
    """The regions of one face on a canvas, in the order of `REGIONS`.

    alignment: the photo's way onto the canvas. scheme: of the label map; None without one.
    face_px: the longer side of the face oval in the photo. warnings: sentences for people.
    """

    regions: tuple[Region, ...]
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
    points, pose = check_mesh(np.asarray(points, np.float64), width, height)
    shapes, zones = mesh_areas(points)
    if shapes["face"].area < 1:
        raise InvalidValueError("landmarks: the face has no area. Send the mesh as found.")
    alignment = align(points, width, height, autorotate=options.autorotate, crop=options.size if options.crop else None)
    canvas = np.array([[0, 0], [alignment.width, 0], [alignment.width, alignment.height], [0, alignment.height]])
    clip = shapely.clip_by_rect(shapely.Polygon(apply(alignment.inverse, canvas)), 0, 0, width, height)
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
    found = face_regions(points, shapes, zones, part_map, clip, alignment, tolerance=tolerance)
    contours = FaceContours(
        regions=tuple(region for region in found if region.id in options.regions),
        alignment=alignment,
        pose=pose,
        face_px=float(np.ptp(shapely.get_coordinates(shapes["face"]), axis=0).max()),
        scheme=None if part_map is None else part_map.scheme,
    )
    return replace(contours, warnings=tuple(_warnings(contours, photo_size, labels)))


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
