"""The skin's colour on faces painted in known colours, with what hides it painted over, and on real photos."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.color import lab2rgb

import face_geometry as geometry
from face_landmarks import FaceLandmarks
from face_quality import illumination_uniformity
from face_sample import FaceSample, Unmeasurable
from skin_measurement import MONK_TONES, SkinTone, measure_skin_tone, skin_pixels, typology_angle
from tests.heads import BACKGROUND, SIZE, SKIN, lit_sideways, painted, posed, relit
from utils import FloatArray, RGBImage, lab_from_rgb

SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
HAIR, FRAMES, MASK = (60, 42, 30), (25, 25, 28), (110, 160, 200)


def tone_of(image: RGBImage, points: FloatArray) -> SkinTone:
    sample = FaceSample.of(image, points)
    return measure_skin_tone(sample, illumination_uniformity(sample))


def lab_of(rgb: tuple[int, ...]) -> FloatArray:
    lab: FloatArray = lab_from_rgb(np.array([[rgb]], np.uint8))[0, 0]
    return lab


def rgb_of(hex_colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(hex_colour.removeprefix("#"))
    return red, green, blue


def with_fringe(image: RGBImage, points: FloatArray) -> RGBImage:
    """Hair from the mesh's top to just above the brows."""
    covered = image.copy()
    top, brows = points[10, 1] - 40, points[[66, 296], 1].min() - 8
    cv2.rectangle(covered, (0, round(float(top))), (SIZE[1], round(float(brows))), HAIR, cv2.FILLED)
    return covered


def with_glasses(image: RGBImage, points: FloatArray) -> RGBImage:
    """Frames around both eyes, whose lower rims cross the cheeks, and a bright reflection in each lens."""
    covered = image.copy()
    for corners in geometry.EYE_CORNERS:
        x, y = points[list(corners), :2].mean(axis=0)
        lens = (round(float(x)) - 48, round(float(y)) - 35), (round(float(x)) + 48, round(float(y)) + 42)
        cv2.rectangle(covered, *lens, FRAMES, 9)
        cv2.circle(covered, (round(float(x)) + 25, round(float(y)) + 25), 9, (250, 250, 250), cv2.FILLED)
    return covered


def with_beard(image: RGBImage, points: FloatArray) -> RGBImage:
    """Hair from the nose's wings down."""
    covered = image.copy()
    below = np.zeros(SIZE, np.uint8)
    below[round(float(points[2, 1])) :] = 255
    face = geometry.fill((geometry.FACE_OVAL,), points, SIZE)
    covered[(below & face) > 128] = HAIR
    return covered


def with_highlights(image: RGBImage, points: FloatArray) -> RGBImage:
    """Gloss on the forehead and both cheeks."""
    covered = image.copy()
    for point in (151, 50, 280):
        x, y = np.round(points[point, :2]).astype(int).tolist()
        cv2.circle(covered, (x, y), 11, (255, 250, 245), cv2.FILLED)
    return covered


def with_shadows(image: RGBImage, points: FloatArray) -> RGBImage:
    """A hat's shade on the forehead, and that of the cheeks' folds."""
    covered = image.copy()
    shade = np.zeros(SIZE, np.uint8)
    cv2.rectangle(shade, (0, 0), (SIZE[1], round(float(points[9, 1])) - 25), 255, cv2.FILLED)
    for point in (205, 425):
        cv2.circle(shade, np.round(points[point, :2]).astype(int).tolist(), 14, 255, cv2.FILLED)
    covered[shade > 0] = relit(image, 0.2)[shade > 0]
    return covered


@pytest.mark.parametrize("tone", range(1, 11))
def test_a_face_in_a_monk_tone_has_that_tone(tone: int) -> None:
    points = posed(roll=20)
    colour = rgb_of(MONK_TONES[tone - 1])
    found = tone_of(painted(points, colour, features=(8, 5, 5)), points)
    assert found.monk_tone == tone
    assert found.monk_distance < 1.5
    assert found.monk_range[0] <= tone <= found.monk_range[1]
    np.testing.assert_allclose(rgb_of(found.hex), colour, atol=3)
    np.testing.assert_allclose(found.dominant_color_lab, lab_of(colour), atol=1.5)


@pytest.mark.parametrize("points", [posed(), posed(yaw=20, roll=-30), posed(scale=4), posed(pitch=-15, scale=27)])
def test_colour_lab_hex_and_angle_agree_at_any_size_and_pose(points: FloatArray) -> None:
    found = tone_of(painted(points), points)
    lab = np.array(found.dominant_color_lab, np.float32)
    np.testing.assert_allclose(lab, lab_of(SKIN), atol=1.5)
    np.testing.assert_allclose(rgb_of(found.hex), 255 * lab2rgb(lab[None, None])[0, 0], atol=0.6)
    assert found.ita == pytest.approx(typology_angle(lab_of(SKIN)), abs=3)
    assert found.confidence is not None
    assert found.confidence > 0.9


def test_typology_angle_is_that_of_its_definition() -> None:
    assert typology_angle(np.array([70, 9, 20], np.float32)) == pytest.approx(45)
    assert typology_angle(np.array([30, 9, 20], np.float32)) == pytest.approx(-45)
    assert typology_angle(np.array([80, 0, 0], np.float32)) == pytest.approx(90)


@pytest.mark.parametrize("cover", [with_fringe, with_glasses, with_beard, with_highlights, with_shadows])
@pytest.mark.parametrize("skin", [SKIN, (95, 62, 48), (235, 205, 190)])
def test_what_lies_over_the_skin_does_not_colour_it(cover: type, skin: tuple[int, int, int]) -> None:
    points = posed()
    image = cover(painted(points, skin), points)
    found = tone_of(image, points)
    np.testing.assert_allclose(found.dominant_color_lab, lab_of(skin), atol=2.5)


@pytest.mark.parametrize("cover", [with_fringe, with_glasses])
def test_hair_and_frames_are_not_sampled(cover: type) -> None:
    points = posed()
    sample = FaceSample.of(cover(painted(points), points), points)
    sampled = sample.lab[skin_pixels(sample)]
    assert len(sampled) > 100
    assert np.abs(sampled - lab_of(SKIN)).max(axis=1).mean() < 4
    assert (np.linalg.norm(sampled - lab_of(SKIN), axis=1) > 35).mean() < 0.01


def test_light_from_one_side_costs_confidence_and_widens_the_range() -> None:
    points = posed()
    image = painted(points)
    even, uneven = tone_of(image, points), tone_of(lit_sideways(image, points, 0.15), points)
    assert even.confidence is not None
    assert uneven.confidence is not None
    assert uneven.confidence < even.confidence - 0.2
    assert uneven.monk_range[1] - uneven.monk_range[0] > even.monk_range[1] - even.monk_range[0]


@pytest.mark.parametrize("tint", [(0.4, 0.8, 1.3), (0.6, 1.4, 0.6)])
def test_coloured_light_costs_confidence(tint: tuple[float, float, float]) -> None:
    points = posed()
    image = painted(points, (185, 140, 115))
    lit = relit(image, np.array(tint, np.float32))
    assert (tone_of(lit, points).confidence or 0) < (tone_of(image, points).confidence or 0) - 0.2


def test_the_dark_and_the_burnt_out_have_no_colour_to_measure() -> None:
    points = posed()
    for gain in (0.001, 30):
        with pytest.raises(Unmeasurable, match="black or burnt out"):
            tone_of(relit(painted(points), gain), points)


def test_a_picture_without_colour_has_no_skin_tone() -> None:
    points = posed()
    grey = cv2.cvtColor(cv2.cvtColor(painted(points), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    with pytest.raises(Unmeasurable, match="no colour"):
        tone_of(grey, points)


def test_the_darkest_monk_tone_is_not_taken_for_a_picture_without_colour() -> None:
    points = posed()
    assert tone_of(painted(points, rgb_of(MONK_TONES[-1]), features=(8, 5, 5)), points).monk_tone == 10


def test_a_face_in_profile_or_outside_the_picture_shows_what_it_shows() -> None:
    profile = posed(yaw=60)
    sample = FaceSample.of(painted(profile), profile)
    tone = measure_skin_tone(sample, None)
    np.testing.assert_allclose(tone.dominant_color_lab, lab_of(SKIN), atol=2.5)
    assert tone.confidence is None
    outside = posed() + np.array([900, 0, 0], np.float32)
    with pytest.raises(Unmeasurable):
        skin_pixels(FaceSample.of(np.full((*SIZE, 3), BACKGROUND, np.uint8), outside))


# ---- real photos


def sample_of(landmarks: FaceLandmarks, photo: RGBImage) -> FaceSample:
    mesh = landmarks.detect(photo)[0].mesh
    assert mesh is not None
    return FaceSample.of(photo, landmarks.refit(photo, mesh).points)


def test_the_astronauts_fringe_is_not_skin(landmarks: FaceLandmarks) -> None:
    sample = sample_of(landmarks, data.astronaut())
    skin = skin_pixels(sample)
    rows = np.flatnonzero(skin.any(axis=1))
    brows = sample.points[list(geometry.LEFT_BROW), 1].max()
    assert rows.min() > brows  # her fringe reaches down to the brows: the forehead is left out
    tone = measure_skin_tone(sample, illumination_uniformity(sample))
    assert 75 < tone.dominant_color_lab[0] < 90
    assert tone.monk_range[1] <= 5


def test_tones_of_real_photos_are_in_the_order_of_their_skin(landmarks: FaceLandmarks) -> None:
    names = (
        "faces/img5.jpg",
        "faces/img17.jpg",
        "tryon/person_01_shortsleeve_front.jpg",
        "tryon/person_03_hand_over_torso.jpg",
    )
    files = [SHARED / name for name in names]
    if not all(file.is_file() for file in files):
        pytest.skip(f"no photos in {SHARED} (set SHARED_DATA_DIR)")
    tones = []
    for file in files:
        with Image.open(file) as image:
            sample = sample_of(landmarks, np.array(image.convert("RGB")))
        tones.append(measure_skin_tone(sample, illumination_uniformity(sample)))
    angles = [tone.ita for tone in tones]
    assert angles == sorted(angles, reverse=True)
    assert [tone.monk_tone for tone in tones] == sorted(tone.monk_tone for tone in tones)
    assert tones[0].monk_tone < tones[-1].monk_tone
