"""Frames, skin, features and what lies in front of a face, on drawn pages and on made-up pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

import face_geometry as geometry
from face_landmarks import FaceLandmarks
from face_regions import Frame, bare_face, bare_skin, feature_mask, longer_side, skin_core, skin_likelihood
from tests.drawn_pages import PAGE_NAMES, drawn_page
from utils import FloatArray, RGBImage, as_float, lab_from_rgb


def face_of(landmarks: FaceLandmarks, picture: RGBImage) -> tuple[RGBImage, FloatArray]:
    """The picture around its face, at a face size of 96 pixels, and the mesh there."""
    mesh = landmarks.mesh(picture, landmarks.detect(picture, threshold=0.35)[0].kps)
    assert mesh is not None
    points = mesh.points[:468]
    frame = Frame.around(points, 0.3, picture.shape, 96 / longer_side(points))
    return frame.cut(picture), frame.place(points)


def skin_of(crop: RGBImage, points: FloatArray) -> FloatArray:
    return skin_likelihood(lab_from_rgb(crop), skin_core(points, crop.shape[:2]))


# ---- frames


@pytest.mark.parametrize("scale", [0.23, 0.5, 1.0, 2.0, 3.7])
def test_points_and_pixels_of_a_frame_agree(scale: float) -> None:
    """A blob in the image is, in the cut, where `place` says."""
    y, x = np.mgrid[0:300, 0:260].astype(np.float32)
    centre = np.array([[141.3, 120.8, 0]], np.float32)
    blob = 255 * np.exp(-((x - centre[0, 0]) ** 2 + (y - centre[0, 1]) ** 2) / (2 * 12**2))
    frame = Frame(71, 33, 140, 171, scale)
    cut = frame.cut(np.dstack([blob] * 3).astype(np.uint8))[..., 0].astype(float)
    assert cut.shape == frame.shape
    rows, columns = np.mgrid[0 : cut.shape[0], 0 : cut.shape[1]]
    found = np.array([(columns * cut).sum(), (rows * cut).sum()]) / cut.sum()
    np.testing.assert_allclose(found, frame.place(centre)[0, :2], atol=0.6)


def test_depth_is_placed_in_the_frames_unit() -> None:
    placed = Frame(10, 20, 50, 50, 2.0).place(np.array([[30, 40, -7]], np.float32))
    np.testing.assert_allclose(placed, [[40.5, 40.5, -14]])


@pytest.mark.parametrize("scales", [(0.3, 1.0), (0.3, 3.0), (0.8, 0.4), (1.0, 1.0)])
def test_values_move_between_frames_to_the_same_place(scales: tuple[float, float]) -> None:
    """A ramp of image coordinates, carried from one frame onto another, still says where each pixel is."""
    coarse, fine = Frame(20, 30, 200, 180, scales[0]), Frame(61, 72, 90, 80, scales[1])

    def image_x(frame: Frame) -> FloatArray:
        rows, columns = frame.shape
        return as_float(np.tile((np.arange(columns) + 0.5) / frame.scale - 0.5 + frame.x, (rows, 1)))

    np.testing.assert_allclose(coarse.onto(fine, image_x(coarse)), image_x(fine), atol=0.2)


@pytest.mark.parametrize(
    "corners", [[[10, 20], [50, 60]], [[-80, -90], [30, 20]], [[90, 70], [300, 400]], [[200, 200], [260, 230]]]
)
def test_a_frame_lies_inside_the_image(corners: list[list[float]]) -> None:
    """Also around points that lie partly or wholly outside."""
    frame = Frame.around(np.array(corners, np.float32), 0.5, (80, 100, 3), 1.5)
    assert 0 <= frame.x < frame.x + frame.width <= 100
    assert 0 <= frame.y < frame.y + frame.height <= 80
    assert frame.cut(np.zeros((80, 100, 3), np.uint8)).shape[:2] == frame.shape


def test_a_frames_margin_is_a_share_of_the_longer_side() -> None:
    frame = Frame.around(np.array([[400, 400], [500, 450]], np.float32), 0.25, (1000, 1000, 3), 1.0)
    assert (frame.x, frame.y, frame.width, frame.height) == (375, 375, 151, 101)


def test_a_cut_at_full_size_is_a_copy() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    Frame(2, 2, 10, 10, 1.0).cut(image)[:] = 255
    assert not image.any()


# ---- skin and features


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_features_are_masked_and_cheeks_are_not(landmarks: FaceLandmarks, name: str) -> None:
    crop, points = face_of(landmarks, drawn_page(name))
    features, core = feature_mask(points, crop.shape[:2]), skin_core(points, crop.shape[:2])
    for ring in (geometry.LEFT_EYE, geometry.RIGHT_EYE, geometry.LEFT_BROW, geometry.RIGHT_BROW, geometry.LIPS):
        column, row = points[list(ring), :2].mean(axis=0).round().astype(int)
        assert features[row, column] == 255
    for cheek in (geometry.LEFT_CHEEK, geometry.RIGHT_CHEEK):
        column, row = points[list(cheek), :2].mean(axis=0).round().astype(int)
        assert (features[row, column], core[row, column]) == (0, 255)


@pytest.mark.parametrize("name", [*PAGE_NAMES, "a photo"])
def test_skin_is_told_from_hair_eyes_and_background(landmarks: FaceLandmarks, name: str) -> None:
    crop, points = face_of(landmarks, data.astronaut() if name == "a photo" else drawn_page(name))
    shape, skin = crop.shape[:2], skin_of(crop, points)
    assert np.median(skin[skin_core(points, shape) > 128]) > 0.7
    pupils = points[[159, 145, 386, 374], :2].reshape(2, 2, 2).mean(axis=1).round().astype(int)
    assert max(skin[row, column] for column, row in pupils) < 0.1
    outside = geometry.grow(geometry.fill((geometry.FACE_OVAL,), points, shape), 6) == 0
    assert np.median(skin[outside]) < 0.2


def test_skin_without_samples_is_nowhere() -> None:
    lab = lab_from_rgb(np.full((20, 20, 3), 180, np.uint8))
    assert not skin_likelihood(lab, np.zeros((20, 20), np.uint8)).any()


def test_bare_skin_leaves_out_features_and_the_rim(landmarks: FaceLandmarks) -> None:
    crop, points = face_of(landmarks, drawn_page("kite_hill"))
    bare = bare_skin(lab_from_rgb(crop), points)
    oval = geometry.fill((geometry.FACE_OVAL,), points, crop.shape[:2])
    assert not bare[feature_mask(points, crop.shape[:2]) > 10].any()
    assert not bare[oval == 0].any()
    assert bare[oval > 0].mean() > 0.3


# ---- what lies in front


def test_a_drawn_fringe_is_not_face(landmarks: FaceLandmarks) -> None:
    crop, points = face_of(landmarks, drawn_page("kite_hill"))
    face = bare_face(crop, points, skin_of(crop, points))
    oval = geometry.grow(geometry.fill((geometry.FACE_OVAL,), points, crop.shape[:2]), -2) > 128
    red_hair = oval & (lab_from_rgb(crop)[..., 0] < 55)
    red_hair &= np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]][0] < points[[65, 295], 1].min() - 4  # above the brows
    assert red_hair.sum() > 50
    assert face[red_hair].mean() < 0.1
    skin = oval & (skin_of(crop, points) > 0.5)
    assert face[skin].mean() > 0.97


def test_a_hand_over_the_chin_is_not_face_but_the_neck_below_a_face_is(landmarks: FaceLandmarks) -> None:
    crop, points = face_of(landmarks, drawn_page("kite_hill"))
    column, chin = points[152, :2].round().astype(int)
    neck = np.s_[chin + 4 : chin + 9, column - 5 : column + 6]
    assert bare_face(crop, points, skin_of(crop, points))[neck].mean() > 0.9
    mitten = np.s_[chin - 7 : chin + 12, column - 12 : column + 13]
    crop[mitten] = (190, 30, 40)
    face = bare_face(crop, points, skin_of(crop, points))
    assert face[mitten].mean() < 0.1
    nose = points[4, :2].round().astype(int)
    assert face[nose[1], nose[0]]


def test_the_answer_does_not_depend_on_what_drew_random_numbers_before(landmarks: FaceLandmarks) -> None:
    crop, points = face_of(landmarks, drawn_page("treasure_island"))
    skin = skin_of(crop, points)
    answers = []
    for seed in (1, 2, 3):
        cv2.setRNGSeed(seed)
        answers.append(bare_face(crop, points, skin))
    assert (answers[0] == answers[1]).all()
    assert (answers[0] == answers[2]).all()


def test_a_face_with_nothing_around_it_is_its_oval(landmarks: FaceLandmarks) -> None:
    """One flat colour: all of it is skin, and the oval is all that is known."""
    _, points = face_of(landmarks, drawn_page("kite_hill"))
    crop = np.full((150, 150, 3), (220, 180, 150), np.uint8)
    oval = geometry.fill((geometry.FACE_OVAL,), points, crop.shape[:2]) > 128
    np.testing.assert_array_equal(bare_face(crop, points, np.ones((150, 150), np.float32)), oval)
