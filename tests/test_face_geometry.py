"""The mesh as geometry: what is known exactly of a rotated average face, a linear field or a filled square."""

from __future__ import annotations

import numpy as np
import pytest

import face_geometry as geometry
from face_landmarks import five_points
from tests.heads import posed, rotation
from utils import FloatArray

POSES = [
    (20, 0, 0),
    (-35, 0, 0),
    (0, 15, 0),
    (0, -20, 0),
    (0, 0, 30),
    (0, 0, -120),
    (25, -10, 0),
    (25, -10, 90),
    (-20, 15, 179),
]


@pytest.mark.parametrize(("yaw", "pitch", "roll"), POSES)
def test_head_pose_gives_back_the_degrees_of_the_turn(yaw: float, pitch: float, roll: float) -> None:
    pose = geometry.head_pose(posed(yaw, pitch, roll))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((yaw, pitch, roll), abs=0.5)


def test_head_pose_signs_follow_the_nose_in_the_image() -> None:
    straight = posed()
    right, down = posed(yaw=30), posed(pitch=20)
    assert right[1, 0] > straight[1, 0]
    assert geometry.head_pose(right).yaw > 0
    assert down[1, 1] > straight[1, 1]
    assert geometry.head_pose(down).pitch > 0
    left_eye, right_eye = five_points(posed(roll=20))[:2]
    assert right_eye[1] > left_eye[1]


def test_similarity_recovers_scale_rotation_and_shift_and_never_reflects() -> None:
    target = posed(25, 10, 40, scale=7)
    scale, turn, shift = geometry.similarity_3d(geometry.mean_shape(), target)
    assert scale == pytest.approx(7, rel=1e-3)
    np.testing.assert_allclose(turn, rotation(25, 10, 40), atol=1e-3)
    np.testing.assert_allclose(scale * geometry.mean_shape() @ turn.T + shift, target, atol=0.02)
    mirrored = geometry.mean_shape() * np.array([1, 1, -1], np.float32)
    assert np.linalg.det(geometry.similarity_3d(geometry.mean_shape(), mirrored)[1]) == pytest.approx(1, abs=1e-3)


def test_mirroring_twice_gives_the_mesh_back_and_once_turns_the_other_way() -> None:
    mesh = posed(yaw=25, roll=10)
    mirrored = geometry.mirror_mesh(mesh, 640)
    np.testing.assert_allclose(geometry.mirror_mesh(mirrored, 640), mesh, atol=1e-3)
    pose, flipped = geometry.head_pose(mesh), geometry.head_pose(mirrored)
    assert (flipped.yaw, flipped.roll) == pytest.approx((-pose.yaw, -pose.roll), abs=1.5)
    left_eye, right_eye = five_points(mirrored)[:2]
    assert left_eye[0] < right_eye[0]


def child_shape() -> FloatArray:
    """A face that differs from the average one: wider eyes' distance, shorter nose, in another pose and size."""
    shape = geometry.mean_shape() * np.array([1.1, 0.95, 1], np.float32)
    return (11 * shape @ rotation(15, 5, -12).T + [80, 90, 0]).astype(np.float32)


def test_likeness_zero_keeps_the_pages_shape() -> None:
    page = posed(10, 0, 5)
    np.testing.assert_allclose(geometry.blend_shapes(child_shape(), page, 0.0), page, atol=1e-4)


def test_full_likeness_leaves_the_oval_and_moves_the_features_only_by_proportions() -> None:
    page = posed(10, 0, 5)
    blended = geometry.blend_shapes(child_shape(), page, 1.0)
    oval = list(geometry.FACE_OVAL)
    np.testing.assert_allclose(blended[oval], page[oval], atol=1e-3)
    moved = np.linalg.norm((blended - page)[:, :2], axis=1)
    assert 2 < moved.max() < 0.2 * np.ptp(page[:, 1])
    same = geometry.blend_shapes(posed(-20, 8, 30, scale=9), page, 1.0)
    np.testing.assert_allclose(same, page, atol=0.1)  # the pose of the photo is not carried over


@pytest.mark.parametrize("roll", [0, 35, -90, 180])
def test_average_face_laid_on_its_own_five_points_is_itself(roll: float) -> None:
    mesh = posed(roll=roll)
    np.testing.assert_allclose(geometry.mean_mesh_at(five_points(mesh))[:, :2], mesh[:, :2], atol=0.05)


def test_average_face_keeps_its_proportions_on_skewed_points() -> None:
    kps = five_points(posed()) * np.array([1, 1.3], np.float32)
    mesh = geometry.mean_mesh_at(kps)
    ratio = np.ptp(mesh, axis=0) / np.ptp(geometry.mean_shape(), axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    np.testing.assert_allclose(five_points(mesh).mean(axis=0), kps.mean(axis=0), atol=0.1)


def test_depth_of_a_flat_frontal_mesh_is_the_average_faces() -> None:
    mesh = posed(roll=25)
    deep = geometry.with_depth(mesh[:, :2])
    np.testing.assert_allclose(np.ptp(deep[:, 2]), np.ptp(mesh[:, 2]), rtol=0.02)
    np.testing.assert_array_equal(deep[:, :2], mesh[:, :2])
    assert deep[1, 2] < deep[234, 2]  # the nose is nearer than the ear's side


def test_triangles_close_the_mesh() -> None:
    triangles = geometry.mesh_triangles()
    assert triangles.shape == (898, 3)
    assert set(triangles.ravel()) == set(range(468))
    assert len({tuple(sorted(triangle)) for triangle in triangles.tolist()}) == 898


def test_weights_are_zero_on_the_oval_and_one_in_the_middle() -> None:
    oval = list(geometry.FACE_OVAL)
    for weight in (geometry.inner_weight(), geometry.detail_weight()):
        assert weight[oval].max() == 0
        assert weight[[1, 4, 195]].min() > 0.99
    assert geometry.strand_zone()[[10, 151]].min() > 0.9
    assert geometry.strand_zone()[[1, 13, 152]].max() == 0


def test_raster_carries_linear_fields_exactly() -> None:
    ringed = geometry.with_outer_ring(posed(15, 5, 10, scale=12))
    x, y = ringed[:, 0], ringed[:, 1]
    field = np.stack([x, y, 3 * x - 2 * y + 7], axis=1)
    image = geometry.MeshRaster(ringed, (500, 600)).interpolate(field)
    rows, columns = np.nonzero(image[0] != -1)
    assert len(rows) > 20_000
    expected = np.stack([columns, rows, 3 * columns - 2 * rows + 7])
    assert np.abs(image[:, rows, columns] - expected).max() < 0.05
    assert (image[:, 0, 0] == -1).all()


def test_near_triangles_hide_far_ones() -> None:
    mesh = geometry.with_outer_ring(posed(yaw=65))
    depth = geometry.MeshRaster(mesh, (500, 600)).interpolate(mesh[:, 2:])[0]
    x, y = np.round(mesh[1, :2]).astype(int)
    assert depth[y, x - 2] == pytest.approx(mesh[1, 2], abs=12)  # the nose, and not the far cheek behind it
    for i in (345, 352):  # the far cheek, behind the nose and the near cheek
        x, y = np.round(mesh[i, :2]).astype(int)
        assert depth[y, x] < mesh[i, 2]


def test_values_continue_to_the_outer_ring_with_the_given_constant() -> None:
    values = np.arange(468, dtype=np.float32)[:, None]
    ringed = geometry.ringed(values, -1)
    np.testing.assert_array_equal(ringed[:468], values)
    assert (ringed[468:] == -1).all()
    assert geometry.with_outer_ring(posed()).shape == (468 + len(geometry.FACE_OVAL), 3)


def test_fill_covers_the_ring_and_nothing_else() -> None:
    mask = geometry.fill((geometry.FACE_OVAL,), posed(), (500, 600))
    nose, (left, top), (right, bottom) = posed()[1], posed()[:, :2].min(axis=0), posed()[:, :2].max(axis=0)
    assert mask[round(float(nose[1])), round(float(nose[0]))] == 255
    rows, columns = np.nonzero(mask)
    assert (columns.min(), rows.min()) == pytest.approx((left, top), abs=2)
    assert (columns.max(), rows.max()) == pytest.approx((right, bottom), abs=2)


def test_grow_dilates_erodes_and_leaves_alone() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[20:40, 20:40] = 255
    assert geometry.grow(mask, 4)[30, 16] == 255
    assert geometry.grow(mask, 4)[30, 15] == 0
    assert geometry.grow(mask, -4)[30, 24] == 255
    assert geometry.grow(mask, -4)[30, 23] == 0
    np.testing.assert_array_equal(geometry.grow(mask, 0.2), mask)


@pytest.mark.parametrize("yaw", [-35, -15, 0, 20])
def test_depth_of_a_flat_mesh_turns_with_the_head(yaw: float) -> None:
    turned = posed(yaw, 5, 10)
    deep = geometry.with_depth(turned[:, :2])
    np.testing.assert_array_equal(deep[:, :2], turned[:, :2])
    assert geometry.head_pose(deep).yaw == pytest.approx(yaw, abs=3)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), POSES)
def test_frontal_undoes_pose_size_and_place(yaw: float, pitch: float, roll: float) -> None:
    seen = posed(yaw, pitch, roll, scale=7)
    np.testing.assert_allclose(geometry.frontal(seen), geometry.mean_shape(), atol=0.02)
    assert geometry.upright_length(seen) == pytest.approx(7 * np.ptp(geometry.mean_shape()[:, 1]), rel=1e-3)
    assert geometry.eye_distance(seen) == pytest.approx(7 * 6.3, rel=0.02)
