"""The face mesh as curves for contours: which points are a face, smooth outlines, and the crop that stands upright.

Points are x, y in pixels of the upright photo, where pixel (i, j) covers [i, i + 1) x [j, j + 1). "Right" and "left"
are the subject's own sides, as in MediaPipe's numbering: 33 is the right eye's outer corner, 263 the left one's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import TypeAlias, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray

from face_geometry import FACE_OVAL, LIPS, HeadPose, mean_shape, mirrored_index, pose_of_rotation
from service.errors import InvalidValueError
from utils import AnyArray, smoothstep

Points: TypeAlias = NDArray[np.float64]
"""(N, 2) float64: x, y in pixels."""
Scalar = TypeVar("Scalar", bound=np.generic)
Ring: TypeAlias = tuple[Points, Sequence[int]]
"""The points of a closed line, and those of them at which it may bend sharply."""


def bernstein(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, N): the weights of a cubic curve's four control points at t (N,), 0..1."""
    weights: NDArray[np.float64] = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return weights


MESH_SIZES = (468, 478)
LEAST_FACE_PX = 8.0
"""Longer side of the points' box: below, the regions are smaller than the pixels."""
_NORMALISED_REACH = 1.5  # a mesh in fractions of the picture stays within -0.5 to 1.5; no face in pixels is that small
_MOST_MISFIT = 0.1  # rms over the face's size; real meshes with any expression stay below 0.05, random points above 0.2
_LEAST_WIDTH = 0.15  # narrowest over widest spread: a profile has 0.4
_LEAST_INSIDE = 0.5  # share of the points that lie in the photo
_SAMPLES = 3  # points that stand for the curve between two points of the mesh
_SAMPLING = bernstein(np.arange(_SAMPLES) / _SAMPLES)
_WIDENING = 0.1  # of the oval's radius: a map's face may be that much wider than the mesh
_LEAST_OPENING = 0.012  # of the mouth's width; the mesh of closed lips gapes by up to 0.007
_OUTSIDE = 0.01  # of the face's size
_MIDDLE_CM = 0.3
_CROP_FACE = 0.62  # longer side of the face oval over the crop's side
_CROP_CENTRE = np.array([0.5, 0.52])  # where the oval's centre lies in the crop

_EYE_UPPER = (246, 161, 160, 159, 158, 157, 173)
_EYE_LOWER = (7, 163, 144, 145, 153, 154, 155)
_BROW_UPPER = (70, 63, 105, 66, 107)
_BROW_LOWER = (46, 53, 52, 65, 55)
LIP_SEAM_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LIP_SEAM_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
RIGHT_IRIS, LEFT_IRIS = 468, 473
_EYE_CORNERS = (33, 133)
_NOSE = (
    168, 193, 245, 188, 174, 236, 198, 209, 49, 48, 64, 98, 97,
    2, 326, 327, 294, 278, 279, 429, 420, 456, 399, 412, 465, 417,
)  # fmt: skip
_CHEEK = (116, 31, 228, 229, 230, 100, 142, 203, 206, 216, 212, 214, 192, 147, 123)  # reaches up behind the eye's zone
_UNDER_EYE = (243, 244, 128, 121, 120, 119, 118, 117, 111, 226)  # from the inner corner around to the outer one
_T_SIDE = (104, 103)  # the bar of the T, from the brow up
_BRIDGE = (108, 107, 55, 193, 122, 196, 3)  # from the bar down into the nose
_CHIN = (32, 171, 148, 152, 377, 396, 262, 418, 421, 200, 201, 194)
_CHIN_EDGE = slice(1, 6)  # those on the jaw
_CHIN_CENTRE = 200
_JAW = (454, 361, 397, 379, 400, 152, 176, 150, 172, 132, 234)  # from ear to ear
_TEMPLE = (127, 162, 21, 139, 156, 70, 46)
_HAIRLINE = (162, 21, 54, 103, 67, 109, 10)  # the oval's upper half, to the middle


@dataclass(frozen=True, slots=True)
class Similarity:
    """A turn, a scale and a shift from the photo to a canvas of width x height pixels.

    matrix: (2, 3) float64, photo to canvas. roll_deg: how far the head was turned clockwise; 0 where it was left as is.
    space: what the canvas shows: the photo as it is, the whole photo turned upright, or the face cut out.
    """

    matrix: NDArray[np.float64]
    width: int
    height: int
    roll_deg: float
    space: str

    @property
    def inverse(self) -> NDArray[np.float64]:
        """(2, 3): canvas to photo."""
        linear = self.matrix[:, :2].T / self.scale**2
        return np.column_stack([linear, -linear @ self.matrix[:, 2]])

    @property
    def scale(self) -> float:
        """Canvas pixels per pixel of the photo."""
        return float(np.hypot(*self.matrix[:, 0]))


def consecutive(array: NDArray[Scalar], sizes: Sequence[int]) -> list[NDArray[Scalar]]:
    """The array in pieces of those sizes: `np.split` takes ten times as long for many small ones."""
    ends = list(accumulate(sizes, initial=0))
    return [array[start:stop] for start, stop in pairwise(ends)]


def apply(matrix: NDArray[np.float64], points: Points) -> Points:
    """Points (..., 2) through a 2x3 matrix."""
    moved: Points = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def check_mesh(points: Points, width: int, height: int) -> tuple[Points, HeadPose]:
    """The mesh (468 or 478, 2) in pixels of a photo of width x height, and its pose; or what is wrong with it.

    Where all values lie in 0..1 (the reach is a little wider, for faces that the photo's border cuts) they are taken
    as fractions of the photo's width and height.

    Raises:
        InvalidValueError: another number of points, values that are no numbers, points outside the photo, on one line,
            mirrored, or not in the order of MediaPipe's mesh.
    """
    if len(points) not in MESH_SIZES:
        raise InvalidValueError(
            f"landmarks: {len(points)} points. Send the 468 or 478 of MediaPipe's face mesh, or none at all: "
            "then they are found in the photo."
        )
    if not np.isfinite(points).all():
        raise InvalidValueError("landmarks: every x and y must be a finite number.")
    if np.abs(points - 0.5).max() <= _NORMALISED_REACH - 0.5:
        points = points * [width, height]
    inside = (points == points.clip(0, [width, height])).all(axis=1).mean()
    margin = max(width, height)
    if inside < _LEAST_INSIDE or points.min() < -margin or points.max() > 2 * margin:
        raise InvalidValueError(
            f"landmarks: they lie outside the photo, which has {width} x {height} pixels. Send pixels of the photo "
            "as it is shown upright, or fractions of its width and height."
        )
    if np.ptp(points, axis=0).max() < LEAST_FACE_PX:
        raise InvalidValueError(f"landmarks: the face is smaller than {LEAST_FACE_PX:g} pixels. Send a larger photo.")
    wide, narrow = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if narrow < _LEAST_WIDTH * wide:
        raise InvalidValueError("landmarks: the points lie on one line. Send the mesh of a face that shows.")
    rotation, misfit = _fit_mean_face(points)
    if misfit > _MOST_MISFIT:
        raise InvalidValueError(
            "landmarks: the points do not form a face in the order of MediaPipe's mesh. Send all of its 468 or 478 "
            "points, in its own order."
        )
    if rotation[2, 2] < 0:
        raise InvalidValueError(
            "landmarks: the points are mirrored. Point 33 is the outer corner of the subject's right eye, which lies "
            "on the left in a photo; y grows downwards. Mirror the photo too, or neither."
        )
    return points, pose_of_rotation(rotation.astype(np.float32))


@cache
def _mean_face_inverse() -> NDArray[np.float64]:
    """(4, 468): solves for the affine view of the mean face that lies nearest to flat points."""
    return np.linalg.pinv(np.column_stack([mean_shape(), np.ones(len(mean_shape()))]))


def _fit_mean_face(points: Points) -> tuple[NDArray[np.float64], float]:
    """Rotation (3, 3) of the mean face onto flat points, and how far they lie from its affine view (rms over size).

    Tomasi and Kanade's scaled orthography: the two rows of the affine view, made orthonormal, are two rows of the
    rotation, and the third is their cross product.
    """
    flat = points[: len(mean_shape())]
    affine = _mean_face_inverse() @ flat
    residual = flat - (mean_shape() @ affine[:3] + affine[3])
    u, _, vt = np.linalg.svd(affine[:3].T, full_matrices=False)
    rows = u @ vt
    (a, b, c), (d, e, f) = rows.tolist()
    rotation = np.array([[a, b, c], [d, e, f], [b * f - c * e, c * d - a * f, a * e - b * d]])
    return rotation, float(np.linalg.norm(residual)) / (np.sqrt(len(flat)) * np.ptp(flat, axis=0).max())


def align(points: Points, width: int, height: int, *, autorotate: bool, crop: int | None) -> Similarity:
    """One similarity that turns the face upright and cuts it out.

    Args:
        points: the mesh (468 or 478, 2).
        width, height: of the photo.
        autorotate: level the eyes (the irises' centres, or the eyes' corners in a mesh without irises).
        crop: the side of a square around the face; None keeps the whole photo, at its own scale.
    """
    right, left = _eye_centres(points)
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0])) if autorotate else 0.0
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if crop is None:
        box = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn.T
        low, high = box.min(axis=0), box.max(axis=0)
        canvas = np.ceil(high - low - 1e-6).astype(int)
        matrix = np.column_stack([turn, (canvas - (low + high)) / 2])
        space = "rotated" if autorotate else "source"
        return Similarity(matrix, int(canvas[0]), int(canvas[1]), float(np.degrees(angle)), space)
    oval = points[list(FACE_OVAL)] @ turn.T
    low, high = oval.min(axis=0), oval.max(axis=0)
    scale = _CROP_FACE * crop / float((high - low).max())
    shift = _CROP_CENTRE * crop - scale * (low + high) / 2
    return Similarity(np.column_stack([scale * turn, shift]), crop, crop, float(np.degrees(angle)), "crop")


def _eye_centres(points: Points) -> tuple[Points, Points]:
    if len(points) > RIGHT_IRIS:
        return points[RIGHT_IRIS], points[LEFT_IRIS]
    corners = list(_EYE_CORNERS)
    return points[corners].mean(axis=0), points[mirrored_index()[corners]].mean(axis=0)


def _smooth(rings: Collection[Ring]) -> tuple[Points, AnyArray]:
    """Closed curves through the rings' points (N, 2), as polylines (3 N, 2) one after the other; and each point's ring.

    Centripetal Catmull-Rom (Yuksel, Schaefer, Keyser, "Parameterization and applications of Catmull-Rom curves", 2011):
    it neither loops nor overshoots between points that are unevenly far apart. All rings at once: they are short.
    """
    sizes = [len(points) for points, _ in rings]
    after = np.cumsum(sizes)
    starts = after - sizes
    following, preceding = np.arange(after[-1]) + 1, np.arange(after[-1]) - 1
    following[after - 1], preceding[starts] = starts, after - 1
    corners = [start + number for start, (_, at) in zip(starts.tolist(), rings, strict=True) for number in at]

    points = np.concatenate([points for points, _ in rings]).view(complex).ravel()
    gap = points[following] - points
    step = np.maximum(np.sqrt(np.abs(gap)), 1e-6)
    slope = gap / step
    before = slope[preceding]
    tangent = before + slope - (gap + gap[preceding]) / (step[preceding] + step)
    leaving, arriving = tangent.copy(), tangent
    leaving[corners], arriving[corners] = slope[corners], before[corners]
    end = points[following]
    control = np.stack([points, points + leaving * step / 3, end - arriving[following] * step / 3, end])
    curves = (control.T @ _SAMPLING).view(np.float64).reshape(-1, 2)
    return curves, np.repeat(np.arange(len(sizes)), _SAMPLES * np.array(sizes))


def mesh_areas(points: Points) -> tuple[dict[str, shapely.Geometry], dict[str, shapely.Geometry]]:
    """What the mesh says of the features, and the zones between them: valid polygons by name.

    Features are MediaPipe's published contours, and a ring of the nose drawn on photographs; `mouth_inner` is empty
    where the lips touch. On a turned head the oval's far side runs inside the cheek that hides it: the face is then the
    oval and the far half's hull.

    Zones overlap the features, the hair and each other. What a zone shares with a feature that is cut out of it (the
    brow's upper edge, the lower lid) is the feature's own edge, since the zone's runs hidden through the feature's
    middle. `reach` bounds the face in a label map: a little wider than the mesh, and far higher, for the hairline;
    `reach_between_ears` is not wider beside the ears, for maps that call them skin. `jaw` is a band along the outline
    from ear to ear.
    """
    lips = _mouth_edges(points)
    features = _feature_rings(points, *lips)
    areas = _polygons({**features, **_zone_rings(points, (lips[0] + lips[1]) / 2)})
    far = _far_halves(points)
    if far:
        areas["face"] = shapely.union_all([areas["face"], *_hulls(far)])
        # The hull once more as far up as the face may reach.
        raised = _hulls([np.concatenate([half, half + 1.3 * (points[10] - points[9])]) for half in far])
        for name in ("reach", "reach_between_ears"):
            areas[name] = shapely.union_all([areas[name], *raised])
    zones = {name: areas.pop(name) for name in list(areas) if name not in features}
    if "mouth_inner" not in areas or areas["mouth_inner"].area < _LEAST_OPENING * areas["lips"].area:
        areas["mouth_inner"] = shapely.Polygon()
    return areas, zones


def _feature_rings(points: Points, upper_lip: Points, lower_lip: Points) -> dict[str, Ring]:
    rings: dict[str, Ring] = {
        "face": (points[list(FACE_OVAL)], ()),
        "nose": (points[list(_NOSE)], ()),
        "lips": (points[list(LIPS)], (0, 10)),
    }
    if (upper_lip != lower_lip).any():
        rings["mouth_inner"] = np.concatenate([upper_lip, lower_lip[-2:0:-1]]), (0, 10)
    for side, mesh in _sides(points):
        rings[f"eye_{side}"] = mesh[[33, *_EYE_LOWER, 133, *_EYE_UPPER[::-1]]], (0, 8)
        rings[f"brow_{side}"] = mesh[[*_BROW_LOWER, *_BROW_UPPER[::-1]]], (0, 4, 5, 9)
    return rings


def _zone_rings(points: Points, seam: Points) -> dict[str, Ring]:
    """seam: the line (11, 2) between the lips."""
    left, up, centre = mirrored_index(), points[10] - points[9], points[9]
    brows = {side: _middle(mesh, _BROW_UPPER, _BROW_LOWER) for side, mesh in _sides(points)}
    between_brows = np.concatenate([brows["right"], points[9:10], brows["left"][::-1]])
    hairline = [*_HAIRLINE, *left[list(_HAIRLINE[-2::-1])]]
    above = points[hairline][::-1] + 1.5 * up
    outer = np.array([_outermost(mesh, centre) for _, mesh in reversed(_sides(points))])
    t_side = list(_T_SIDE)
    chin = points[list(_CHIN)]
    chin[_CHIN_EDGE] += 0.4 * (chin[_CHIN_EDGE] - points[_CHIN_CENTRE])
    jaw, middle = points[list(_JAW)], points[list(FACE_OVAL)].mean(axis=0)
    jaw_band = np.concatenate([middle + 1.25 * (jaw - middle), (middle + 0.75 * (jaw - middle))[::-1]])
    above_seam = np.concatenate([points[[61]], seam, points[[291]], points[[291, 61]] + up])
    t_bar = np.concatenate([between_brows[2:-2], points[left[t_side]], above[4:-4], points[t_side[::-1]]])
    rings: dict[str, Ring] = {
        "forehead": (np.concatenate([between_brows, outer[:1], outer + 4 * up, outer[1:]]), ()),
        "t_bar": (t_bar, ()),
        "bridge": (np.concatenate([points[list(_BRIDGE)], points[left[list(_BRIDGE[::-1])]]]), ()),
        "chin": (chin, ()),
        "reach": (_reach(points, ears_are_skin=False), ()),
        "reach_between_ears": (_reach(points, ears_are_skin=True), ()),
        "jaw": (jaw_band, (0, 10, 11, 21)),
        "upper_lip": (above_seam, (0, 12, 13, 14)),
    }
    for side, mesh in _sides(points):
        rings[f"cheek_{side}"] = mesh[list(_CHEEK)], ()
        lid = np.concatenate([mesh[[33]], _middle(mesh, _EYE_UPPER, _EYE_LOWER), mesh[[133]]])
        rings[f"under_eye_{side}"] = np.concatenate([lid, mesh[list(_UNDER_EYE)]]), ()
    return rings


def _reach(points: Points, *, ears_are_skin: bool) -> Points:
    """The ring that bounds the face: the oval, widened outwards and raised far above the brows."""
    oval = points[list(FACE_OVAL)]
    beside_ears, lift = _reach_of_oval()
    widening = (_WIDENING - (_WIDENING - 0.01) * beside_ears * ears_are_skin)[:, None]
    reach: Points = oval + widening * (oval - oval.mean(axis=0)) + lift[:, None] * (points[10] - points[9])
    return reach


@cache
def _reach_of_oval() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each point of the oval: how much it lies beside an ear, 0..1, and how far it is raised, in foreheads."""
    height = mean_shape()[list(FACE_OVAL), 1]  # centimetres, downwards; the ears reach from -3 to 3
    beside_ears = 1 - smoothstep((height - 2.5) / 3)
    lift = 1.3 * smoothstep((-3.5 - height) / 2.5)
    return beside_ears.astype(np.float64), lift.astype(np.float64)


def _far_halves(points: Points) -> list[Points]:
    """The halves of the mesh that stick out of the oval: of a turned head the far one."""
    oval = shapely.Polygon(points[list(FACE_OVAL)])
    across = mean_shape()[:, 0]
    outside = np.flatnonzero(~shapely.contains_xy(oval, points[: len(across)]))
    distance = shapely.distance(oval, shapely.points(points[outside]))
    sticking_out = np.zeros(len(across), bool)
    sticking_out[outside] = distance > _OUTSIDE * float(np.ptp(points, axis=0).max())
    if not sticking_out.any():
        return []
    halves = [across <= _MIDDLE_CM, across >= -_MIDDLE_CM]
    return [points[: len(across)][half] for half in halves if (sticking_out & half).any()]


def _hulls(clouds: Sequence[Points]) -> list[shapely.Geometry]:
    return [shapely.MultiPoint(cloud).convex_hull for cloud in clouds]


def _outermost(mesh: Points, centre: Points) -> Points:
    """Beside the right temple, at the brow's height, and outside of the face."""
    across = mesh[33] - mesh[263]
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    reach = float(((mesh[list(_TEMPLE)] - centre) @ across).max())
    height = mesh[139] - centre
    beside: Points = centre + (height - (height @ across) * across) + 1.25 * reach * across
    return beside


def _sides(points: Points) -> tuple[tuple[str, Points], tuple[str, Points]]:
    """The mesh for each side, so that the right side's indices serve for both."""
    return ("right", points), ("left", points[mirrored_index()])


def _middle(mesh: Points, upper: Sequence[int], lower: Sequence[int]) -> Points:
    """The line halfway between two rows of points, outermost first."""
    middle: Points = (mesh[list(upper)] + mesh[list(lower)]) / 2
    return middle


def _mouth_edges(points: Points) -> tuple[Points, Points]:
    """The inner edges of both lips (11, 2), corners included; one line for both where the lips touch."""
    upper, lower = points[list(LIP_SEAM_UPPER)], points[list(LIP_SEAM_LOWER)]
    gap = (lower - upper) @ (points[152] - points[10])
    width = float(np.linalg.norm(points[61] - points[291]))
    closed = float(np.linalg.norm(lower - upper, axis=1).max()) < _LEAST_OPENING * width
    touching = ((gap <= 0) | closed)[:, None]
    seam = (upper + lower) / 2
    return np.where(touching, seam, upper), np.where(touching, seam, lower)


def _polygons(rings: Mapping[str, Ring]) -> dict[str, shapely.Geometry]:
    """The smooth rings as valid areas: a turned head's rings cross themselves."""
    points, ring = _smooth(rings.values())
    areas = shapely.polygons(shapely.linearrings(points, indices=ring))
    crossed = ~shapely.is_valid(areas)
    areas[crossed] = shapely.make_valid(areas[crossed], method="structure", keep_collapsed=False)
    return dict(zip(rings, areas, strict=True))
