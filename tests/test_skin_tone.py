"""A child's skin tone carried onto the drawn child, and nothing else of the page."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from face_landmarks import FaceLandmarks
from skin_tone import exposure, skin_reflectance, with_skin_tone
from tests.drawn_pages import drawn_page
from utils import FloatArray, GrayImage, RGBImage, lab_from_rgb


def mesh_of(landmarks: FaceLandmarks, picture: RGBImage) -> FloatArray:
    mesh = landmarks.mesh(picture, landmarks.detect(picture, threshold=0.35)[0].kps)
    assert mesh is not None
    return mesh.points[:468]


def toned(landmarks: FaceLandmarks, photo: RGBImage, page: RGBImage) -> tuple[RGBImage, GrayImage] | None:
    return with_skin_tone(
        photo,
        mesh_of(landmarks, photo),
        exposure(photo),
        page,
        mesh_of(landmarks, page),
        person=landmarks.person_mask,
    )


def lightness(picture: RGBImage, place: tuple[slice, slice]) -> float:
    return float(lab_from_rgb(picture[place])[..., 0].mean())


# Squares of kite_hill (rows, columns) that show one thing each.
FACE = {"left cheek": np.s_[560:590, 375:405], "right cheek": np.s_[560:590, 535:565], "neck": np.s_[690:730, 440:500]}
OTHER = {
    "fringe": np.s_[330:400, 380:560],
    "hair beside the neck": np.s_[640:700, 300:365],
    "shirt": np.s_[770:1000, 230:330],
    "sky": np.s_[0:250, 0:700],
    "sun": np.s_[100:200, 800:890],
    "tree trunk": np.s_[620:680, 160:175],
}


def test_exposure_is_that_of_the_bright_parts() -> None:
    assert exposure(np.zeros((50, 50, 3), np.uint8)) == 0
    assert exposure(np.full((50, 50, 3), 255, np.uint8)) == pytest.approx(1, abs=1e-3)
    lamp = np.zeros((200, 200, 3), np.uint8)
    lamp[:60, :60] = 255
    assert exposure(lamp) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["kite_hill", "snowy_night"])
def test_a_darker_exposure_of_a_face_is_no_darker_skin(landmarks: FaceLandmarks, name: str) -> None:
    page = drawn_page(name)
    dimmed = (255 * (page / 255) * 0.8).astype(np.uint8)
    mesh = mesh_of(landmarks, page)
    np.testing.assert_allclose(
        skin_reflectance(dimmed, mesh, exposure(dimmed)), skin_reflectance(page, mesh, exposure(page)), rtol=0.06
    )


def test_reflectance_is_that_of_the_skin(landmarks: FaceLandmarks) -> None:
    fair, dark = (
        skin_reflectance(page, mesh_of(landmarks, page), exposure(page))
        for page in (drawn_page("kite_hill"), drawn_page("snowy_night"))
    )
    assert (fair > 2 * dark).all()
    assert fair[0] > fair[1] > fair[2] > 0


def test_a_dark_child_darkens_face_and_neck_of_a_fair_page_and_nothing_else(landmarks: FaceLandmarks) -> None:
    page = drawn_page("kite_hill")
    answer = toned(landmarks, drawn_page("snowy_night"), page)
    assert answer is not None
    picture, mask = answer
    for name, place in FACE.items():
        assert lightness(picture, place) < lightness(page, place) - 15, name
    for name, place in OTHER.items():
        difference = np.abs(lab_from_rgb(picture[place]) - lab_from_rgb(page[place])).max(axis=2)
        assert difference.mean() < 1, name
    np.testing.assert_array_equal(picture[mask == 0], page[mask == 0])
    assert not mask[0:250].any()


def test_a_fair_child_lightens_a_dark_page(landmarks: FaceLandmarks) -> None:
    page = drawn_page("snowy_night")
    answer = toned(landmarks, data.astronaut(), page)
    assert answer is not None
    picture, mask = answer
    for place in (np.s_[560:590, 430:460], np.s_[560:590, 610:640], np.s_[700:730, 490:560]):  # cheeks, neck
        assert lightness(picture, place) > lightness(page, place) + 15
    for place in (np.s_[380:430, 420:700], np.s_[760:840, 400:680], np.s_[0:200, 0:1024]):  # brim, scarf, sky
        assert np.abs(picture[place].astype(int) - page[place]).mean() < 1
    np.testing.assert_array_equal(picture[mask == 0], page[mask == 0])


def test_a_background_of_skin_colour_beside_the_face_is_no_skin(landmarks: FaceLandmarks) -> None:
    page = drawn_page("treasure_island")
    page[440:760, 650:1000] = (205, 140, 100)
    answer = toned(landmarks, drawn_page("snowy_night"), page)
    assert answer is not None
    cheek, sand = np.s_[560:600, 600:630], np.s_[500:640, 670:760]
    assert lightness(answer[0], cheek) < lightness(page, cheek) - 8
    np.testing.assert_array_equal(answer[0][sand], page[sand])


def test_shading_survives_a_change_of_tone(landmarks: FaceLandmarks) -> None:
    """The neck is in the chin's shadow before and after, and the hue stays that of skin."""
    page = drawn_page("kite_hill")
    answer = toned(landmarks, drawn_page("snowy_night"), page)
    assert answer is not None
    cheek, neck = FACE["left cheek"], FACE["neck"]
    assert lightness(answer[0], neck) < lightness(answer[0], cheek) - 4
    a, b = lab_from_rgb(answer[0][cheek])[..., 1:].reshape(-1, 2).mean(axis=0)
    assert a > 5
    assert b > 5


def test_the_same_tone_leaves_the_page(landmarks: FaceLandmarks) -> None:
    assert toned(landmarks, data.astronaut(), drawn_page("kite_hill")) is None
    assert toned(landmarks, drawn_page("snowy_night"), drawn_page("snowy_night")) is None


def test_fair_skin_on_a_dark_page_leaves_the_curls_dark(landmarks: FaceLandmarks) -> None:
    """The curls under the woolly hat's brim are nearly as dark as the drawn skin, and hair all the same."""
    page = drawn_page("snowy_night")
    result = toned(landmarks, data.astronaut(), page)
    assert result is not None
    brim = np.s_[438:495, 410:690]
    was, now = lab_from_rgb(page[brim]), lab_from_rgb(result[0][brim])
    curls = (was[..., 0] > 4) & (was[..., 0] < 19) & (was[..., 2] > 2)
    assert curls.sum() > 500
    assert np.median(now[curls] - was[curls], axis=0) == pytest.approx([0, 0, 0], abs=2)


def test_no_rim_outshines_what_it_lies_between(landmarks: FaceLandmarks) -> None:
    """Pixels where a brightened neck meets a bright scarf are mixed of both."""
    page = drawn_page("snowy_night")
    answer = toned(landmarks, data.astronaut(), page)
    assert answer is not None
    border = np.s_[700:800, 470:620]
    now, was = (lab_from_rgb(picture[border])[..., 0] for picture in (answer[0], page))
    brightened = now - was > 3
    without_specks = cv2.morphologyEx(now, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    assert brightened.sum() > 2000
    assert not (brightened & (now - without_specks > 20)).any()
