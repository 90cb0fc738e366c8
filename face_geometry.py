"""The face mesh as geometry: pose, proportions, regions, and the map that bends one face into another's place."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from face_landmarks import five_points, mesh_edges
from utils import AnyArray, FloatArray, GrayImage, as_float, smoothstep

# Rings of MediaPipe's mesh, in drawing order (published with the model as FACEMESH_FACE_OVAL and so on).
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
EYE_CORNERS = ((33, 133), (362, 263))  # left and right eye, each from left to right in the image
LEFT_BROW = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
RIGHT_BROW = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
MOUTH_OPENING = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
NOSTRILS = (98, 97, 2, 326, 327, 294, 278, 4, 48, 64)
LEFT_CHEEK = (116, 117, 118, 100, 142, 203, 206, 216, 192, 147, 123)
RIGHT_CHEEK = (345, 346, 347, 329, 371, 423, 426, 436, 416, 376, 352)
LOWER_FACE = (*FACE_OVAL[8:29], 70, 63, 105, 66, 107, 9, 336, 296, 334, 293, 300)  # from the brows down
NOSE_BRIDGE = (168, 122, 196, 3, 51, 45, 4, 275, 281, 248, 419, 351)

_MESH = 468
_DEPTH_ROUNDS = 20  # brings a yaw of 35 degrees back from a flat mesh
_RING_SCALE = 1.3  # the mesh continued beyond the oval, so that filters near its border see plausible pixels


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Degrees: roll > 0 tilts clockwise in the image; with the roll undone, yaw > 0 looks right and pitch > 0 down."""

    yaw: float
    pitch: float
    roll: float


def head_pose(points: FloatArray) -> HeadPose:
    """Head pose of a mesh (478 or 468, 3), by the rotation that best carries the mean face onto it."""
    _, rotation, _ = similarity_3d(mean_shape(), points[:_MESH])
    return pose_of_rotation(rotation)


def pose_of_rotation(rotation: FloatArray) -> HeadPose:
    """Head pose of the rotation (3, 3) that carries the mean face onto a face."""
    # The mean face looks along -z; its forward and right axes, rotated, give the angles directly.
    forward, right = -rotation[:, 2], rotation[:, 0]
    across, down = right[:2] / max(float(np.hypot(*right[:2])), 1e-6)
    forward_x, forward_y = across * forward[0] + down * forward[1], across * forward[1] - down * forward[0]
    return HeadPose(
        yaw=float(np.degrees(np.arctan2(forward_x, -forward[2]))),
        pitch=float(np.degrees(np.arcsin(np.clip(forward_y, -1, 1)))),
        roll=float(np.degrees(np.arctan2(down, across))),
    )


def eye_distance(points: FloatArray) -> float:
    """Between the eyes' centres (the means of their corners) of a mesh (N, 3), in space, in the mesh's unit."""
    left, right = (points[list(corners)].mean(axis=0) for corners in EYE_CORNERS)
    return float(np.linalg.norm(right - left))


def upright_length(points: FloatArray) -> float:
    """How long the face of a mesh (478 or 468, 3) would be if it looked upright into the camera, in the mesh's unit."""
    scale, _, _ = similarity_3d(mean_shape(), points[:_MESH])
    return scale * float(np.ptp(mean_shape()[:, 1]))


def frontal(points: FloatArray) -> FloatArray:
    """The mesh (478 or 468, 3) turned and scaled back into the mean face's frame: upright, looking along -z, in its cm.

    A centimetre is that of an average adult: 6.3 of them lie between the eyes of the mean face.
    """
    scale, rotation, shift = similarity_3d(mean_shape(), points[:_MESH])
    return as_float((points - shift) @ rotation / scale)


def similarity_3d(source: FloatArray, target: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Least-squares scale, rotation (3, 3) and shift (3,) from source to target points (N, 3).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred_source, centred_target = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(centred_target.T @ centred_source)
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / max(float((centred_source**2).sum()), 1e-9))
    shift = target_mean - scale * rotation @ source_mean
    return scale, rotation.astype(np.float32), shift.astype(np.float32)


def blend_shapes(child: FloatArray, page: FloatArray, likeness: float) -> FloatArray:
    """The child's features in the page's pose, inside the page's outline: (468, 3).

    The child's mesh is turned in 3D onto the page's, so that its proportions and not its pose are carried over.
    `likeness` 0 keeps the drawing's proportions, 1 takes the child's; towards the oval the page's outline always wins,
    since hair, ears and background around it stay where they are.
    """
    scale, rotation, shift = similarity_3d(child[:_MESH], page[:_MESH])
    posed = scale * child[:_MESH] @ rotation.T + shift
    weight = (likeness * inner_weight())[:, None]
    return (page[:_MESH] + weight * (posed - page[:_MESH])).astype(np.float32)


def mean_mesh_at(kps: FloatArray) -> FloatArray:
    """(468, 3): the average face laid on five points (5, 2) by a similarity of the plane."""
    shape = mean_shape()
    own = five_points(shape)
    source, target = own - own.mean(axis=0), kps - kps.mean(axis=0)
    # The least-squares rotation and scale of the plane, as one complex number.
    plane = np.array([1, 1j])
    turn = np.vdot(source @ plane, target @ plane) / max(float((source**2).sum()), 1e-9)
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    xy = (shape[:, :2] - own.mean(axis=0)) @ rotation.T + kps.mean(axis=0)
    return np.concatenate([xy, shape[:, 2:] * abs(turn)], axis=1).astype(np.float32)


def with_depth(points: FloatArray) -> FloatArray:
    """(468, 3): a flat mesh (468, 2) with the depth that the average face has in the same pose and size.

    Pose and depth each follow from the other: fitted in turns, from the frontal depth on, until both stand.
    """
    mesh = np.concatenate([points, mean_mesh_at(five_points(points))[:, 2:]], axis=1).astype(np.float32)
    for _ in range(_DEPTH_ROUNDS):
        scale, rotation, shift = similarity_3d(mean_shape(), mesh)
        mesh[:, 2] = (scale * mean_shape() @ rotation.T + shift)[:, 2]
    return mesh


@cache
def inside_cm() -> FloatArray:
    """(468,) float32: how far each point of the mean face lies inside the face oval, in centimetres."""
    xy = mean_shape()[:, :2]
    distance: FloatArray = np.linalg.norm(xy[:, None] - xy[list(FACE_OVAL)][None], axis=2).min(axis=1)
    return distance


@cache
def inner_weight() -> FloatArray:
    """(468,) float32: 0 on the face oval, rising smoothly to 1 over the features, some 3 cm inside."""
    return smoothstep(inside_cm() / 3.0)


@cache
def detail_weight() -> FloatArray:
    """(468,) float32: how much of a photo's detail may show; 0 on the oval, where hair, ears and background begin.

    It rises over 2.8 cm at the forehead and the temples, where hair hangs, and over 9 mm at the jaw, where a beard has
    to stay whole.
    """
    at_jaw = smoothstep((mean_shape()[:, 1] - 3.0) / 3.0)
    return smoothstep(inside_cm() / (2.8 - 1.9 * at_jaw))


@cache
def strand_zone() -> FloatArray:
    """(468,) float32: 1 on the forehead and the temples down to the cheekbones, where a photo's hair may hang."""
    x, y, _ = mean_shape().T
    brows = mean_shape()[list(LEFT_BROW + RIGHT_BROW)]
    above_brows = smoothstep((brows[:, 1].mean() - 0.3 - y) / 0.8)
    temples = smoothstep((np.abs(x) - 4.6) / 0.9) * smoothstep((3.5 - y) / 2.0)
    return as_float(np.maximum(above_brows, temples))


def _mesh_data() -> dict[str, list[list[float]]]:
    data: dict[str, list[list[float]]] = json.loads((Path(__file__).parent / "face_mesh.json").read_text())
    return data


@cache
def mean_shape() -> FloatArray:
    """(468, 3) float32: an average, symmetric face in centimetres; x right, y down, z away from the viewer.

    Our own mean of meshes fitted to photographs of five adults, scaled to 6.3 cm between the eyes' centres.
    """
    return np.array(_mesh_data()["mean_shape_cm"], np.float32)


@cache
def mirrored_index() -> AnyArray:
    """(468,) int: the point on the other side of the face for each point."""
    return np.array(_mesh_data()["mirror"], np.int32)


@cache
def mesh_triangles() -> AnyArray:
    """(898, 3) int: the mesh's faces, eyes and mouth closed."""
    neighbours: dict[int, set[int]] = {}
    for a, b in mesh_edges():
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    cliques = {tuple(sorted((a, b, c))) for a, b in mesh_edges() for c in neighbours[a] & neighbours[b]}
    shared = Counter(edge for clique in cliques for edge in combinations(clique, 2))
    # Three edges around a vertex of degree three form a clique that is no face: all its edges have two faces already.
    faces = [clique for clique in cliques if any(shared[edge] <= 2 for edge in combinations(clique, 2))]
    for ring in (LEFT_EYE, RIGHT_EYE, MOUTH_OPENING):
        faces += _close_ring(ring)
    return np.array(sorted(faces), np.int32)


def _close_ring(ring: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Zigzag triangles between the lower and the upper half of a ring that starts in a corner."""
    last = len(ring)
    lower, upper = ring[: last // 2 + 1], (ring[0], *reversed(ring[last // 2 :]))
    strip = []
    for i in range(last // 2):
        strip += [(lower[i], lower[i + 1], upper[i]), (lower[i + 1], upper[i + 1], upper[i])]
    return [triangle for triangle in strip if len(set(triangle)) == 3]


def mirror_mesh(points: FloatArray, width: int) -> FloatArray:
    """The mesh (468, 3) of the horizontally flipped image."""
    flipped = points[:_MESH][mirrored_index()].copy()
    flipped[:, 0] = width - 1 - flipped[:, 0]
    return flipped


def with_outer_ring(points: FloatArray) -> FloatArray:
    """(468 + 36, 3): the mesh and its oval once more, scaled about the oval's centre."""
    oval = points[list(FACE_OVAL)]
    center = oval.mean(axis=0)
    return np.concatenate([points[:_MESH], center + _RING_SCALE * (oval - center)]).astype(np.float32)


@cache
def ringed_triangles() -> AnyArray:
    """(898 + 72, 3) int: the mesh's triangles and those of the strip between the oval and the outer ring."""
    count = len(FACE_OVAL)
    strip = []
    for i, inner in enumerate(FACE_OVAL):
        following = (i + 1) % count
        strip += [(inner, FACE_OVAL[following], _MESH + i), (FACE_OVAL[following], _MESH + following, _MESH + i)]
    return np.concatenate([np.array(strip, np.int32), mesh_triangles()])


class MeshRaster:
    """Which triangle of a ringed target mesh covers each pixel; carries any value of the mesh's points to pixels.

    Nearer triangles are painted over farther ones, so a nose hides the cheek behind it.
    """

    def __init__(self, target: FloatArray, shape: tuple[int, int]) -> None:
        """`target`: ringed mesh (504, 3) in pixels of an image of `shape` (height, width)."""
        triangles = ringed_triangles()
        depth = target[:, 2][triangles].mean(axis=1)
        depth[: 2 * len(FACE_OVAL)] = np.inf  # the ring lies behind everything
        corners = np.round(target[:, :2][triangles] * 16).astype(np.int32)
        label = np.full(shape, -1, np.int32)
        for index in np.argsort(-depth, kind="stable"):
            cv2.fillConvexPoly(label, corners[index], int(index), shift=4)
        self._label = label
        self._target = target[:, :2][triangles].astype(np.float64)

    def interpolate(self, values: FloatArray) -> FloatArray:
        """Values of the points (504, C) at every pixel: CxHxW float32, linear in each triangle, -1 outside."""
        affines = _triangle_affines(self._target, values[ringed_triangles()]).transpose(1, 2, 0)
        inside = np.flatnonzero(self._label.ravel() >= 0)
        triangle = self._label.ravel()[inside]
        y, x = (axis.astype(np.float32) for axis in np.divmod(inside, self._label.shape[1]))
        image = np.full((len(affines), self._label.size), -1, np.float32)
        for channel, (by_x, by_y, offset) in zip(image, affines, strict=True):
            channel[inside] = by_x[triangle] * x + by_y[triangle] * y + offset[triangle]
        return image.reshape(-1, *self._label.shape)


def _triangle_affines(target: AnyArray, values: FloatArray) -> FloatArray:
    """(T, C, 3): for each triangle the affine from pixel coordinates (T, 3, 2) to the values at its corners."""
    homogeneous = np.concatenate([target, np.ones((*target.shape[:2], 1))], axis=2)
    homogeneous[np.abs(np.linalg.det(homogeneous)) < 1e-6] += np.eye(3) * 1e-3  # edge-on: covers no pixel anyway
    return np.swapaxes(np.linalg.solve(homogeneous, values.astype(np.float64)), 1, 2).astype(np.float32)


def ringed(values: FloatArray, outside: float) -> FloatArray:
    """Values of the 468 points (468, C) continued to the outer ring with a constant: (504, C)."""
    return np.concatenate([values, np.full((len(FACE_OVAL), values.shape[1]), outside, np.float32)]).astype(np.float32)


def fill(rings: tuple[tuple[int, ...], ...], points: FloatArray, shape: tuple[int, int]) -> GrayImage:
    """HxW uint8 mask, 255 inside the given rings of mesh points."""
    mask = np.zeros(shape, np.uint8)
    for ring in rings:
        cv2.fillPoly(mask, [np.round(points[list(ring), :2] * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return mask


def grow(mask: GrayImage, radius: float) -> GrayImage:
    """Dilate (radius > 0) or erode (radius < 0) by a disc of that many pixels."""
    size = 2 * round(abs(radius)) + 1
    if size == 1:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    grown: GrayImage = cv2.dilate(mask, kernel) if radius > 0 else cv2.erode(mask, kernel)
    return grown
