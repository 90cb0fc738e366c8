"""The draft on a drawn mannequin, whose pose is given, and on real photos where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import tryon_pipeline
from body_pose import BodyPose, BodyPoses, Joint
from face_landmarks import FaceLandmarks
from garment_anchors import GarmentType
from service.errors import (
    CancelledError,
    GarmentSegmentationError,
    NoPersonError,
    PersonTooSmallError,
    PoseFailedError,
    SeatedPersonError,
    SeveralPeopleError,
    TurnedPersonError,
    WornGarmentError,
)
from tests import drawn_garments as drawn
from tryon_pipeline import MOST_RETRIES, STAGES, TryOnDraft, TryOnEngines, TryOnOptions, draft
from tryon_quality import TERMS, grade
from utils import AnyArray, FloatArray, RGBImage

DATA = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data")) / "tryon"
GARMENTS: dict[GarmentType, RGBImage] = {
    "tshirt": drawn.top("tshirt"),
    "shirt": drawn.top("longsleeve"),
    "longsleeve": drawn.top("longsleeve"),
    "hoodie": drawn.top("longsleeve"),
    "jacket": drawn.top("jacket"),
    "dress": drawn.top("dress"),
    "pants": drawn.trousers("pants"),
    "shorts": drawn.trousers("shorts"),
    "skirt": drawn.skirt(),
}


class GivenPose:
    """The mannequin's pose for the mannequin, nobody on anything else."""

    def __init__(self, pose: BodyPose | None) -> None:
        self.pose = pose

    def find(self, image_rgb: RGBImage) -> BodyPose | None:
        if self.pose is None or self.pose.mask is None or image_rgb.shape[:2] != self.pose.mask.shape:
            return None
        return self.pose


def engines(pose: BodyPose | None) -> TryOnEngines:
    def masks(image_rgb: RGBImage, /) -> FloatArray:
        if pose is None or pose.mask is None:
            return np.zeros(image_rgb.shape[:2], np.float32)
        return pose.mask

    return TryOnEngines(GivenPose(pose), masks)


def dressed(garment: RGBImage, moved: dict[str, tuple[float, float]] | None = None, **options: Any) -> TryOnDraft:
    photo, pose = drawn.mannequin(**(moved or {}))
    return draft(photo, garment, TryOnOptions(**options), engines=engines(pose), keep_debug=True)


def like(image: RGBImage, colour: tuple[int, int, int], tolerance: int = 30) -> AnyArray:
    close: AnyArray = np.abs(image.astype(int) - colour).max(axis=2) < tolerance
    return close


# ---- what the picture must show -------------------------------------------------------------------------------------


@pytest.mark.parametrize("garment_type", GARMENTS)
def test_every_type_dresses_the_mannequin(garment_type: GarmentType) -> None:
    photo, _ = drawn.mannequin()
    result = dressed(GARMENTS[garment_type], garment_type=garment_type)
    assert result.image_rgb.shape == photo.shape
    assert result.garment_type == garment_type
    assert result.passed, result.quality
    assert set(result.quality.terms) == set(TERMS)
    assert result.quality.terms["fold"] < 0.03
    assert result.quality.terms["cover"] < 0.05


@pytest.mark.parametrize("garment_type", ["tshirt", "longsleeve", "dress", "pants", "skirt"])
def test_untouched_pixels_are_untouched(garment_type: GarmentType) -> None:
    photo, pose = drawn.mannequin()
    result = dressed(GARMENTS[garment_type], garment_type=garment_type)
    same = (result.image_rgb == photo).all(axis=2)
    assert same[result.changed == 0].all()
    assert same[:190].all(), "the head"
    assert pose.mask is not None
    assert result.debug is not None
    shown = (pose.mask > 0.1) | (result.debug.images["warped_garment"].max(axis=2) > 0)
    assert same[cv2.dilate(shown.astype(np.uint8), np.ones((41, 41), np.uint8)) == 0].all(), "the background"


@pytest.mark.parametrize("garment_type", ["tshirt", "dress", "pants", "skirt"])
def test_far_from_the_garments_nothing_matters(garment_type: GarmentType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft looks at a window of the photo: the whole of it gives the same picture, but for the rounding of blurs."""
    near = dressed(GARMENTS[garment_type], garment_type=garment_type, realism_level=5)
    height, width = near.image_rgb.shape[:2]
    monkeypatch.setattr(tryon_pipeline, "affected", lambda *_: np.s_[0:height, 0:width])
    whole = dressed(GARMENTS[garment_type], garment_type=garment_type, realism_level=5)
    difference = np.abs(near.image_rgb.astype(int) - whole.image_rgb)
    assert difference.max() <= 3
    assert near.quality.score == pytest.approx(whole.quality.score, abs=0.01)


@pytest.mark.parametrize("garment_type", ["tshirt", "longsleeve"])
def test_nothing_of_the_old_top_shows(garment_type: GarmentType) -> None:
    photo, _ = drawn.mannequin()
    before, after = like(photo, drawn.SHIRT), like(dressed(GARMENTS[garment_type]).image_rgb, drawn.SHIRT)
    assert after.sum() < 0.01 * before.sum()


def test_without_repair_the_old_top_looks_out() -> None:
    plain = dressed(drawn.top("tank"), realism_level=1)
    mended = dressed(drawn.top("tank"), realism_level=2)
    assert like(plain.image_rgb, drawn.SHIRT).sum() > 5 * like(mended.image_rgb, drawn.SHIRT).sum()
    assert plain.quality.terms["residue"] > mended.quality.terms["residue"]


def test_the_trunk_is_covered_and_stripes_lie_level() -> None:
    result = dressed(drawn.top("tshirt", colour=(60, 110, 170)))
    trunk = result.image_rgb[300:440, 250:350].astype(int)
    assert (trunk[..., 2] > trunk[..., 0] + 15).mean() > 0.98
    rows = trunk.mean(axis=2)
    tilt = [np.argmax(np.correlate(rows[20:-20, 15], rows[20 + s : 120 + s, 85])) for s in (0,)]
    assert tilt == [0]
    profile = rows - rows.mean()
    shifts = [float((profile[10:-10, 20] * profile[10 + s : 130 + s, 80]).sum()) for s in range(-8, 9)]
    assert abs(int(np.argmax(shifts)) - 8) <= 1


def test_anchors_land_where_the_body_is() -> None:
    """The garment's seen edges, found again in the picture, against the mannequin's joints."""
    result = dressed(drawn.top("tshirt"))
    assert result.debug is not None
    warped = result.debug.images["warped_garment"].max(axis=2) > 0
    shoulder_row = np.flatnonzero(warped[:, 362])[0]
    assert abs(shoulder_row - 226) < 14, "the shoulder line"
    hem = np.flatnonzero(warped[:, 300])[-1]
    assert 440 < hem < 520, "a tee ends around the hips"
    sleeve = np.flatnonzero(warped[290])
    assert abs((sleeve[0] + sleeve[-1]) / 2 - 300) < 6, "symmetric"


def test_long_sleeves_end_at_the_wrists_and_short_ones_do_not() -> None:
    rows = {}
    for name in ("tshirt", "longsleeve"):
        result = dressed(drawn.top(name), garment_type=name)
        assert result.debug is not None
        warped = result.debug.images["warped_garment"].max(axis=2) > 0
        rows[name] = np.flatnonzero(warped[:, 395:440].any(axis=1))[-1]
    assert 440 < rows["longsleeve"] < 500
    assert rows["tshirt"] < 360


def test_a_hand_before_the_trunk_stays_in_front() -> None:
    moved = {"left_wrist": (330.0, 400.0), "left_index": (290.0, 392.0), "left_pinky": (292.0, 402.0)}
    photo, _ = drawn.mannequin(**moved)
    result = dressed(drawn.top("tshirt"), moved)
    hand = (slice(385, 405), slice(298, 328))
    assert like(photo[hand], drawn.SKIN).mean() > 0.8
    assert like(result.image_rgb[hand], drawn.SKIN).mean() > 0.75


def test_trousers_stay_under_the_top_that_is_worn() -> None:
    result = dressed(drawn.trousers("pants"))
    assert like(result.image_rgb, drawn.SHORTS, 25).sum() < 0.02 * like(drawn.mannequin()[0], drawn.SHORTS, 25).sum()
    assert like(result.image_rgb[300:400, 260:340], drawn.SHIRT).mean() > 0.95


def test_the_neck_stands_before_the_back_of_the_collar() -> None:
    image = drawn.top("tshirt")
    cv2.fillPoly(image, [np.array([[250, 90], [350, 90], [340, 108], [300, 124], [260, 108]])], (20, 20, 20))
    result = dressed(image)
    neck = result.image_rgb[195:222, 285:315]
    assert like(neck, (20, 20, 20), 60).mean() < 0.2


def test_arms_that_the_old_sleeves_hid_become_skin_and_nothing_beside_them() -> None:
    photo, pose = drawn.mannequin()
    result = dressed(drawn.top("tank"))
    assert pose.mask is not None
    upper_arm = (slice(285, 300), slice(388, 402))
    assert like(photo[upper_arm], drawn.SHIRT).all(), "the old sleeve"
    assert like(result.image_rgb[upper_arm], drawn.SKIN, 70).mean() > 0.9
    beside = cv2.dilate((pose.mask > 0.1).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert like(result.image_rgb, drawn.WALL, 16)[150:][beside[150:]].all()


@pytest.mark.parametrize("off", [-10, 10])
def test_a_bared_arm_goes_on_where_it_is_seen_and_not_where_the_pose_expects_it(off: int) -> None:
    photo, pose = drawn.mannequin()
    points = pose.points.copy()
    points[[Joint.LEFT_ELBOW, Joint.LEFT_WRIST], 0] += off
    result = draft(photo, drawn.top("tank"), TryOnOptions(), engines=engines(replace(pose, points=points)))
    arm = like(result.image_rgb, drawn.SKIN, 70)[300:345, 380:]  # the old sleeve ends in the middle of it
    edges = np.array([[np.flatnonzero(row)[0], np.flatnonzero(row)[-1]] for row in arm])
    assert np.abs(edges[6:] - edges[:-6]).max() <= 6


def test_a_short_sleeve_turns_as_a_whole() -> None:
    """Its stripes, level in the product photo, stay straight lines across the arm."""
    result = dressed(drawn.top("tshirt"))
    assert result.debug is not None
    sleeve = result.debug.images["warped_garment"][:, 385:445]
    outer = np.array([np.flatnonzero(row.max(axis=1) > 0).max(initial=-1) for row in sleeve[262:312]])
    outer = outer[outer >= 0]
    assert len(outer) > 30
    line = np.polyval(np.polyfit(np.arange(len(outer)), outer, 1), np.arange(len(outer)))
    assert np.abs(outer - line).max() < 4


# ---- options --------------------------------------------------------------------------------------------------------


def test_same_input_options_and_seed_give_the_same_bytes() -> None:
    first, again, other = (dressed(drawn.top("tank"), seed=seed) for seed in (3, 3, 4))
    assert (first.image_rgb == again.image_rgb).all()
    assert (first.image_rgb != other.image_rgb).any()


def test_each_realism_level_adds_something() -> None:
    pictures = [dressed(drawn.top("tshirt"), realism_level=level).image_rgb for level in range(1, 6)]
    assert all((first != second).any() for first, second in pairwise(pictures))


def test_background_and_face_may_be_given_up() -> None:
    kept, given = (dressed(drawn.top("tank"), preserve_background=value) for value in (True, False))
    assert (kept.changed > 0).sum() < (given.changed > 0).sum()
    photo, _ = drawn.mannequin()
    high = drawn.top("tshirt")
    cv2.rectangle(high, (255, 10), (345, 110), (60, 110, 170), -1)
    face = (slice(85, 155), slice(275, 325))
    assert (dressed(high, preserve_face=True).image_rgb[face] == photo[face]).all()


def test_a_large_photo_keeps_its_size_and_its_pixels() -> None:
    photo, pose = drawn.mannequin()
    scale = 2
    large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    result = draft(large, drawn.top("tshirt"), TryOnOptions(work_image_size=860), engines=engines(pose))
    assert result.image_rgb.shape == large.shape
    assert (result.image_rgb == large).all(axis=2)[result.changed == 0].all()
    assert (result.changed == 0).mean() > 0.6
    small = dressed(drawn.top("tshirt"))
    again = cv2.resize(result.image_rgb, small.image_rgb.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(again - small.image_rgb)[small.changed > 0].mean() < 1, "the same picture, twice as large"


def test_a_thread_beside_changes_nothing() -> None:
    photo, pose = drawn.mannequin()
    alone = dressed(drawn.top("tshirt"))
    with ThreadPoolExecutor(1) as beside, ThreadPoolExecutor(3) as callers:
        finder = replace(engines(pose), beside=beside)

        def helped(garment: RGBImage) -> TryOnDraft:
            return draft(photo, garment, TryOnOptions(), engines=finder)

        drafts = list(callers.map(helped, [drawn.top("tshirt")] * 6))
        assert all((each.image_rgb == alone.image_rgb).all() for each in drafts)
        assert {each.quality.score for each in drafts} == {alone.quality.score}
        with pytest.raises(GarmentSegmentationError):
            helped(np.full((400, 300, 3), 250, np.uint8))
        with pytest.raises(NoPersonError):  # and what was begun for nobody is not in anyone's way
            draft(photo, drawn.top("tshirt"), TryOnOptions(), engines=replace(engines(None), beside=beside))
        assert (helped(drawn.top("tshirt")).image_rgb == alone.image_rgb).all()


def test_a_retry_changes_something_and_the_best_attempt_is_kept() -> None:
    result = dressed(drawn.top("tshirt"), quality_threshold=1.01, max_retries=MOST_RETRIES)
    assert len(result.attempts) == 1 + MOST_RETRIES
    assert len({attempt.change for attempt in result.attempts}) == len(result.attempts)
    assert len({tuple(attempt.quality.terms.values()) for attempt in result.attempts}) == len(result.attempts)
    assert result.quality.score == max(attempt.quality.score for attempt in result.attempts)
    assert not result.passed
    assert len(dressed(drawn.top("tshirt"), quality_threshold=1.01, max_retries=0).attempts) == 1


def test_a_retry_that_makes_no_draft_is_left_out() -> None:
    """Cut out more strictly, a garment close to its background's colour is nothing."""
    shades = drawn.top("tshirt").astype(np.int16)
    faint: RGBImage = np.clip(245 + (shades - 245) // 12, 0, 255).astype(np.uint8)
    result = dressed(faint, quality_threshold=1.01, max_retries=MOST_RETRIES)
    assert "the garment cut out more strictly" not in {attempt.change for attempt in result.attempts}
    assert 1 < len(result.attempts) <= MOST_RETRIES


def test_a_network_replaces_the_embedded_person_mask() -> None:
    photo, pose = drawn.mannequin()
    asked: list[str] = []

    def embedded(image_rgb: RGBImage, /) -> FloatArray:
        asked.append("embedded")
        return np.zeros(image_rgb.shape[:2], np.float32)

    def network(image_rgb: RGBImage, /) -> FloatArray:
        asked.append("network")
        assert pose.mask is not None
        assert pose.mask.shape == image_rgb.shape[:2]
        return pose.mask

    finder = TryOnEngines(GivenPose(pose), embedded, fine_person_mask=network)
    assert draft(photo, drawn.top("tshirt"), TryOnOptions(), engines=finder).passed
    assert asked == ["network"]


def test_a_network_finds_a_garment_before_any_background() -> None:
    photo, pose = drawn.mannequin()
    mask = drawn.top_mask("tshirt")
    busy = np.random.default_rng(0).integers(0, 255, (*mask.shape, 3), dtype=np.uint8)
    garment = np.where(mask[..., None] > 127, drawn.top("tshirt"), busy)
    refused(GarmentSegmentationError, photo, pose, garment)
    finder = replace(engines(pose), garment_mask=lambda _, /: np.asarray(mask / 255, np.float32))
    assert draft(photo, garment, TryOnOptions(), engines=finder).passed


def test_stages_are_told_in_order_and_cancelling_stops_between_them() -> None:
    photo, pose = drawn.mannequin()
    told: list[str] = []
    draft(photo, drawn.top("tshirt"), TryOnOptions(), engines=engines(pose), on_stage=told.append)
    assert tuple(told) == STAGES
    told.clear()
    with pytest.raises(CancelledError):
        draft(
            photo,
            drawn.top("tshirt"),
            TryOnOptions(),
            engines=engines(pose),
            on_stage=told.append,
            cancelled=lambda: len(told) == 3,
        )
    assert tuple(told) == STAGES[:3]


def test_debug_artifacts_are_there_on_demand() -> None:
    photo, pose = drawn.mannequin()
    result = dressed(drawn.top("tshirt"))
    assert result.debug is not None
    assert {"person_mask", "torso_mask", "arms_mask", "garment_mask", "warped_garment", "draft_composite"} <= set(
        result.debug.images
    )
    assert result.debug.keypoints["left_shoulder"][:2] == pose.at(Joint.LEFT_SHOULDER).tolist()
    assert draft(photo, drawn.top("tshirt"), TryOnOptions(), engines=engines(pose)).debug is None


# ---- what is refused ------------------------------------------------------------------------------------------------


def refused(error: type[Exception], photo: RGBImage, pose: BodyPose | None, garment: RGBImage | None = None) -> None:
    with pytest.raises(error):
        draft(photo, drawn.top("tshirt") if garment is None else garment, TryOnOptions(), engines=engines(pose))


def test_nobody() -> None:
    refused(NoPersonError, drawn.mannequin()[0], None)


def test_several_people() -> None:
    photo, pose = drawn.mannequin()
    boxes = np.array([[220, 40, 380, 460], [420, 40, 580, 460]], np.float32)
    refused(SeveralPeopleError, photo, replace(pose, boxes=boxes))


@pytest.mark.parametrize(
    ("moved", "error"),
    [
        ({"left_knee": (470.0, 470.0), "right_knee": (130.0, 470.0)}, SeatedPersonError),
        ({"left_shoulder": (300.0, 240.0), "right_shoulder": (285.0, 240.0)}, TurnedPersonError),
        ({"left_shoulder": (230.0, 240.0), "right_shoulder": (370.0, 240.0)}, TurnedPersonError),
    ],
    ids=["seated", "from the side", "from behind"],
)
def test_unfit_poses(moved: dict[str, tuple[float, float]], error: type[Exception]) -> None:
    refused(error, *drawn.mannequin(**moved))


@pytest.mark.parametrize("garment_type", ["pants", "shorts", "skirt"])
def test_a_photo_that_ends_at_the_hips_gets_no_trousers(garment_type: GarmentType) -> None:
    photo, pose = drawn.mannequin()
    end = 470  # 20 below the hips
    assert pose.mask is not None
    with pytest.raises(PoseFailedError, match="thighs"):
        draft(
            photo[:end], GARMENTS[garment_type], TryOnOptions(garment_type=garment_type),
            engines=engines(replace(pose, mask=pose.mask[:end])),
        )  # fmt: skip


def test_hidden_hips() -> None:
    photo, pose = drawn.mannequin()
    pose.visibility[[Joint.LEFT_HIP, Joint.RIGHT_HIP]] = 0.1
    refused(PoseFailedError, photo, pose)


def test_a_small_photo_and_a_small_person() -> None:
    photo, pose = drawn.mannequin()
    refused(PersonTooSmallError, photo[:100], pose)
    assert pose.mask is not None
    wide = np.pad(photo, ((0, 2600), (0, 2600), (0, 0)), mode="edge")
    small = replace(pose, points=pose.points * 0.25, mask=np.pad(pose.mask, ((0, 2600), (0, 2600))))
    with pytest.raises(PersonTooSmallError):
        draft(wide, drawn.top("tshirt"), TryOnOptions(work_image_size=4000), engines=engines(small))


def test_a_garment_that_is_worn() -> None:
    photo, pose = drawn.mannequin()
    refused(WornGarmentError, photo, pose, photo)


def test_a_garment_that_is_worn_before_a_motley_wall() -> None:
    """That it is worn helps more than that it can't be cut out."""
    photo, pose = drawn.mannequin()
    assert pose.mask is not None
    motley = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    refused(WornGarmentError, photo, pose, np.where(pose.mask[..., None] > 0.1, photo, motley))


def test_a_garment_that_does_not_stand_out() -> None:
    photo, pose = drawn.mannequin()
    refused(GarmentSegmentationError, photo, pose, np.full((400, 300, 3), 250, np.uint8))


def askew(image: RGBImage) -> RGBImage:
    shear = np.array([[1, 0.5, -150], [0, 1, 0]], np.float64)
    sheared: RGBImage = cv2.warpAffine(image, shear, image.shape[1::-1], borderValue=(245, 245, 245))
    return sheared


@pytest.mark.parametrize(
    ("garment", "garment_type", "term"),
    [
        (drawn.top("dress")[::-1], "dress", "square"),
        (drawn.trousers("shorts"), "tshirt", "mistaken"),
        (drawn.skirt(), "dress", "mistaken"),
        (
            cv2.warpAffine(
                drawn.skirt(), np.array([[1, 0.5, -150], [0, 1, 0]], float), (600, 800), borderValue=(245,) * 3
            ),
            "skirt",
            "lopsided",
        ),
    ],
    ids=["upside down", "shorts as a tee", "a skirt as a dress", "askew"],
)
def test_unfit_garments_fail_the_draft(garment: RGBImage, garment_type: GarmentType, term: str) -> None:
    result = dressed(np.ascontiguousarray(garment), garment_type=garment_type, max_retries=0)
    assert not result.passed
    assert term in result.quality.failed


# ---- the score ------------------------------------------------------------------------------------------------------


def test_a_failed_gate_caps_the_score() -> None:
    good = {name: term.good for name, term in TERMS.items()}
    assert grade(good).score == 1
    for name, term in TERMS.items():
        worse = grade(good | {name: term.bad})
        mean = 1 - term.weight / sum(each.weight for each in TERMS.values())
        assert worse.score == pytest.approx(min(0.49, mean / 2) if term.gate else mean / 2, abs=1e-3)
        assert worse.failed == ((name,) if term.gate else ())


# ---- real photos ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_engines() -> Iterator[TryOnEngines]:
    poses, landmarks = BodyPoses(pool_size=1), FaceLandmarks(pool_size=1)
    yield TryOnEngines(poses, landmarks.person_mask)
    poses.close()
    landmarks.close()


def real(name: str) -> RGBImage:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {path}: real photos are not part of the repository")
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("garment", ["garment_02_striped_threequarter_sleeve.jpg", "garment_05_dress_short_sleeve.jpg"])
@pytest.mark.parametrize("person", ["person_01_shortsleeve_front.jpg", "person_05_man_full_body.png"])
def test_real_pairs_pass(real_engines: TryOnEngines, person: str, garment: str) -> None:
    photo = real(person)
    result = draft(photo, real(garment), TryOnOptions(), engines=real_engines)
    assert result.passed, result.quality
    assert (result.image_rgb == photo).all(axis=2)[result.changed == 0].all()
    assert (result.changed == 0).mean() > 0.45


def test_a_photo_cut_at_the_mouth_is_enough(real_engines: TryOnEngines) -> None:
    photo = real("person_01_shortsleeve_front.jpg")[115:]
    assert draft(photo, drawn.top("tshirt"), TryOnOptions(), engines=real_engines).passed


def test_real_unfit_photos_are_refused(real_engines: TryOnEngines) -> None:
    with pytest.raises(SeatedPersonError):
        draft(real("person_fashn_model.webp"), drawn.top("tshirt"), TryOnOptions(), engines=real_engines)
    with pytest.raises(WornGarmentError):
        draft(real("person_01_shortsleeve_front.jpg"), real("garment_fashn.webp"), TryOnOptions(), engines=real_engines)
    pair = np.hstack([real("person_01_shortsleeve_front.jpg"), real("person_03_hand_over_torso.jpg")])
    with pytest.raises(SeveralPeopleError):
        draft(pair, drawn.top("tshirt"), TryOnOptions(), engines=real_engines)
