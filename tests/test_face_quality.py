"""Each component answers to its own fault, monotonically, and hardly to the others; none to the photo's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import cv2
import numpy as np
import pytest

import face_geometry as geometry
from face_quality import Quality, measure_quality, sharpness
from face_sample import FaceSample, Findings, Unmeasurable
from tests.heads import BACKGROUND, SIZE, SKIN, flattened, lit_sideways, painted, posed, relit, resized
from utils import FloatArray, RGBImage

Picture = tuple[RGBImage, FloatArray]

LENGTH = float(geometry.upright_length(posed()))
HARDLY = 0.1
DARK_SKIN = (95, 62, 48)


def quality_of(picture: Picture) -> Quality:
    image, points = picture
    findings = Findings()
    quality = measure_quality(FaceSample.of(image, points), points, geometry.head_pose(points), findings)
    assert not findings.unavailable
    return quality


def frontal_photo(skin: tuple[int, int, int] = SKIN) -> Picture:
    points = posed()
    # Hairs, pores and lashes: what a sharp photo has.
    image = painted(points, skin).astype(np.float32)
    detail = np.random.default_rng(1).normal(0, 1, SIZE).astype(np.float32)
    detail = cv2.GaussianBlur(detail, (0, 0), LENGTH / 250)
    return np.clip(image * (1 + 0.12 * detail / detail.std())[..., None], 0, 255).astype(np.uint8), points


def blurred(share: float) -> Picture:
    image, points = frontal_photo()
    return cv2.GaussianBlur(image, (0, 0), share * LENGTH), points


def lit_from_the_right(darkest: float) -> Picture:
    image, points = frontal_photo()
    return lit_sideways(image, points, darkest), points


def darkened(gain: float) -> Picture:
    image, points = frontal_photo()
    return relit(image, gain), points


def hazy(share: float) -> Picture:
    image, points = frontal_photo()
    return flattened(image, share), points


def shrunk(factor: float) -> Picture:
    return resized(*frontal_photo(), factor)


def turned(yaw: float) -> Picture:
    points = posed(yaw=yaw)
    return painted(points), points


FAULTS: dict[str, tuple[Callable[[float], Picture], tuple[float, ...]]] = {
    "blur_score": (blurred, (0.004, 0.012, 0.025, 0.05)),
    "illumination": (lit_from_the_right, (0.9, 0.6, 0.3, 0.1)),
    "exposure": (darkened, (1, 0.03, 0.01, 0.004)),
    "contrast": (hazy, (0.3, 0.6, 0.8, 0.95)),
    "resolution": (shrunk, (1, 0.7, 0.4, 0.2)),
    "pose": (turned, (0, 15, 30, 40)),
}


def test_a_sharp_evenly_lit_frontal_photo_lacks_nothing() -> None:
    assert all(score > 0.9 for score in asdict(quality_of(frontal_photo())).values())


@pytest.mark.parametrize("component", FAULTS)
def test_a_component_falls_with_its_own_fault_and_takes_the_overall_score_with_it(component: str) -> None:
    spoil, steps = FAULTS[component]
    qualities = [quality_of(spoil(step)) for step in steps]
    scores = [getattr(quality, component) for quality in qualities]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) >= 3
    assert scores[0] - scores[-1] > 0.3
    assert qualities[-1].overall == scores[-1]


# The strength at which a fault is plain to see and its own component has clearly fallen.
PLAIN = {"blur_score": 0.025, "illumination": 0.3, "exposure": 0.03, "contrast": 0.6, "resolution": 0.2, "pose": 30.0}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_component_hardly_moves_under_the_faults_of_the_others(fault: str) -> None:
    spoil, _ = FAULTS[fault]
    # A turned face is painted without the detail of the photo, so it is compared with such a one from the front.
    before = quality_of(turned(0) if fault == "pose" else frontal_photo())
    after = quality_of(spoil(PLAIN[fault]))
    for component in FAULTS:
        moved = getattr(before, component) - getattr(after, component)
        assert component == fault or abs(moved) < HARDLY, component


def test_overall_is_the_smallest_component() -> None:
    scores = asdict(quality_of(lit_from_the_right(0.3)))
    overall = scores.pop("overall")
    assert overall == min(scores.values())


@pytest.mark.parametrize("factor", [3.0, 1.5, 0.7, 0.5, 0.36, 0.2])
@pytest.mark.parametrize("blur", [0, 0.012, 0.025])
def test_sharpness_does_not_depend_on_the_photos_size(factor: float, blur: float) -> None:
    picture = blurred(blur) if blur else frontal_photo()
    assert quality_of(resized(*picture, factor)).blur_score == pytest.approx(quality_of(picture).blur_score, abs=0.08)


@pytest.mark.parametrize("roll", [30, 90, 180])
def test_nothing_depends_on_the_roll(roll: float) -> None:
    upright, points = painted(posed()), posed()
    rolled = posed(roll=roll)
    for name, score in asdict(quality_of((painted(rolled), rolled))).items():
        assert score == pytest.approx(asdict(quality_of((upright, points)))[name], abs=0.05), name


def test_dark_skin_is_judged_like_light_skin() -> None:
    light, dark = frontal_photo(), frontal_photo(DARK_SKIN)
    for spoil in (lambda image, _: image, lambda image, points: lit_sideways(image, points, 0.5)):
        a, b = (quality_of((spoil(image, points), points)) for image, points in (light, dark))
        for component in ("blur_score", "illumination", "exposure"):
            assert getattr(a, component) == pytest.approx(getattr(b, component), abs=0.08), component


def test_uniformity_is_the_overlap_of_the_cheeks_histograms_to_the_power_of_0_3() -> None:
    points = posed()
    image = painted(points)
    for ring, other in ((geometry.LEFT_CHEEK, 160), (geometry.RIGHT_CHEEK, 220)):
        cheek = geometry.fill((ring,), points, SIZE) > 128
        rows = np.flatnonzero(cheek.any(axis=1))
        lower = np.cumsum(cheek.sum(axis=1)) > cheek.sum() / 2
        image[rows.min() - 9 : rows.max() + 9][
            :, points[list(ring), 0].min().astype(int) - 9 : points[list(ring), 0].max().astype(int) + 9
        ] = 100
        image[cheek & lower[:, None]] = other
    assert quality_of((image, points)).illumination == pytest.approx(0.5**0.3, abs=0.03)


def test_cheeks_that_differ_by_little_are_evenly_lit() -> None:
    points = posed()
    image = painted(points)
    left = geometry.fill((geometry.LEFT_CHEEK,), points, SIZE) > 128
    image[left] += 4
    assert (quality_of((image, points)).illumination or 0) > 0.9


def test_even_light_is_even_on_a_small_face() -> None:
    points = posed(scale=2.4)
    assert (quality_of((painted(points), points)).illumination or 0) > 0.93


@pytest.mark.parametrize(("yaw", "pitch"), [(20, 0), (0, 20), (-15, -25)])
def test_pose_is_the_squared_cosine_of_both_turns(yaw: float, pitch: float) -> None:
    points = posed(yaw, pitch, roll=40)
    expected = (np.cos(np.radians(yaw)) * np.cos(np.radians(pitch))) ** 2
    assert quality_of((painted(points), points)).pose == pytest.approx(expected, abs=0.01)


def test_resolution_is_half_at_70_pixels_between_the_eyes_turned_or_not() -> None:
    for yaw in (0, 30):
        points = posed(yaw=yaw, roll=30, scale=70 / geometry.eye_distance(geometry.mean_shape()))
        assert quality_of((painted(points), points)).resolution == pytest.approx(0.5, abs=0.02)


def test_burnt_out_skin_is_badly_exposed() -> None:
    image, points = frontal_photo()
    assert (quality_of((relit(image, 4), points)).exposure or 0) < 0.2


def test_one_cheek_in_profile_leaves_the_light_and_the_overall_score_open() -> None:
    points = posed(yaw=60)
    findings = Findings()
    quality = measure_quality(FaceSample.of(painted(points), points), points, geometry.head_pose(points), findings)
    assert quality.illumination is None
    assert quality.overall is None
    assert set(findings.unavailable) == {"quality.illumination", "quality.overall"}
    assert quality.pose is not None
    assert quality.pose < 0.35


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_a_flat_patch_has_no_sharpness(colour: int) -> None:
    image = np.full((*SIZE, 3), colour, np.uint8)
    with pytest.raises(Unmeasurable, match="flat"):
        sharpness(FaceSample.of(image, posed()))


def test_sharpness_of_a_box_is_that_of_the_face_in_it() -> None:
    image, points = frontal_photo()
    soft = cv2.GaussianBlur(image, (0, 0), 0.025 * LENGTH)
    box = np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
    for picture in (image, soft):
        by_mesh, by_box = sharpness(FaceSample.of(picture, points)), sharpness(FaceSample.of_box(picture, box))
        assert by_box == pytest.approx(by_mesh, abs=0.1)


@pytest.mark.parametrize("box", [(-900, -900, -700, -700), (5000, 5000, 5300, 5300), (10, 10, 10, 10)])
def test_a_box_without_pixels_has_no_sharpness(box: tuple[float, ...]) -> None:
    image = np.full((*SIZE, 3), BACKGROUND, np.uint8)
    with pytest.raises(Unmeasurable):
        sharpness(FaceSample.of_box(image, np.array(box, np.float32)))


def test_a_mesh_gone_wrong_makes_no_large_sample() -> None:
    points = np.random.default_rng(0).uniform(0, 2000, (468, 3)).astype(np.float32)
    assert geometry.upright_length(points) < 400
    sample = FaceSample.of(np.zeros((2000, 2000, 3), np.uint8), points)
    assert max(sample.rgb.shape) < 400
