"""Face slots: found on drawn pages, given by hand, written and read, and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import face_geometry as geometry
from face_landmarks import FaceLandmarks, five_points
from face_slots import FaceSlot, find_slots, slot_from_box, slot_from_points, slot_mesh
from service.errors import InvalidValueError
from tests.conftest import PAGES
from utils import FloatArray, RGBImage

GIVEN = json.loads((PAGES / "slots.json").read_text(encoding="utf-8"))
MEADOW = (120, 170, 120)
FUR = {"bear": ((140, 95, 60), (205, 165, 120)), "dog": ((200, 160, 110), (245, 225, 195))}


@pytest.fixture(scope="module")
def landmarks() -> Iterator[FaceLandmarks]:
    engine = FaceLandmarks(pool_size=2)
    yield engine
    engine.close()


def page(name: str) -> RGBImage:
    with Image.open(PAGES / name) as image:
        return np.array(image.convert("RGB"))


def animal(kind: str, side: int) -> RGBImage:
    """The head of a bear or a dog on a meadow: ears, eyes, brows, a muzzle with nose and smile."""
    size, (fur, muzzle), ink = 4 * side, FUR[kind], (35, 25, 20)
    image = Image.new("RGB", (size, size), MEADOW)
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, rx: float, ry: float, fill: tuple[int, int, int], line: float = 0) -> None:
        box = [(x - rx) * size, (y - ry) * size, (x + rx) * size, (y + ry) * size]
        draw.ellipse(box, fill=fill, outline=ink if line else None, width=round(line * size))

    for x in (0.2, 0.8):
        if kind == "bear":
            ellipse(x, 0.18, 0.13, 0.13, fur)
            ellipse(x, 0.18, 0.08, 0.08, muzzle)
    ellipse(0.5, 0.52, 0.4, 0.4, fur)
    ellipse(0.5, 0.67, 0.21, 0.18, muzzle)
    for x in (0.37, 0.63):
        ellipse(x, 0.42, 0.065, 0.075, (255, 255, 255), line=0.008)
        ellipse(x, 0.43, 0.04, 0.045, (70, 45, 25))
        ellipse(x, 0.43, 0.022, 0.025, (10, 8, 8))
        brow = [(x - 0.09) * size, 0.27 * size, (x + 0.09) * size, 0.39 * size]
        draw.arc(brow, 200, 340, fill=ink, width=round(0.018 * size))
        if kind == "dog":
            ellipse(0.5 + (x - 0.5) * 2.85, 0.45, 0.1, 0.26, (120, 80, 50))
    ellipse(0.5, 0.58, 0.05, 0.03, ink)
    draw.line([(0.5 * size, 0.6 * size), (0.5 * size, 0.7 * size)], fill=ink, width=round(0.008 * size))
    draw.chord([0.38 * size, 0.64 * size, 0.62 * size, 0.8 * size], 10, 170, fill=(150, 50, 50))
    return np.array(image.resize((side, side), Image.Resampling.LANCZOS))


def beside(child: RGBImage, other: RGBImage) -> RGBImage:
    """The page with a second picture in a meadow on its right."""
    height = child.shape[0]
    wide = np.concatenate([child, np.full((height, other.shape[1] + 40, 3), MEADOW, np.uint8)], axis=1)
    top, left = (height - other.shape[0]) // 2, child.shape[1] + 20
    wide[top : top + other.shape[0], left : left + other.shape[1]] = other
    return wide


def mesh_at(yaw: float = 0, roll: float = 0, scale: float = 14) -> FloatArray:
    """(468, 3): the average face on a page, turned to the right and clockwise."""
    (cy, cr), (sy, sr) = np.cos(np.radians([yaw, roll])), np.sin(np.radians([yaw, roll]))
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    return np.asarray(scale * geometry.mean_shape() @ turn.T + [470, 540, 0], np.float32)


def overlap(a: FloatArray, b: FloatArray) -> float:
    common = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))


@pytest.mark.parametrize("name", GIVEN)
def test_drawn_child_is_found_where_the_page_has_it(landmarks: FaceLandmarks, name: str) -> None:
    (slot,) = find_slots(landmarks, page(name))
    given = GIVEN[name][0]
    assert overlap(slot.bbox, np.array(given["bbox"])) > 0.6
    eyes = np.hypot(*np.subtract(given["kps"][1], given["kps"][0]))
    assert np.linalg.norm(slot.kps - given["kps"], axis=1).mean() < 0.2 * eyes
    assert slot.score > 0.4
    assert slot.landmarks is not None
    assert slot.landmarks.shape == (478, 3)


@pytest.mark.parametrize("kind", FUR)
@pytest.mark.parametrize("side", [600, 760])
def test_larger_animal_does_not_come_before_the_child(landmarks: FaceLandmarks, kind: str, side: int) -> None:
    wide = beside(page("kite_hill.png"), animal(kind, side))
    slots = find_slots(landmarks, wide)
    assert len(slots) == 2, "the detectors must take the animal for a face, or this shows nothing"
    child, other = slots
    assert child.bbox[2] < 1024 < other.bbox[0]
    assert np.ptp(other.bbox[::2]) > 1.25 * np.ptp(child.bbox[::2])
    assert child.score > other.score


def test_larger_of_two_children_comes_first(landmarks: FaceLandmarks) -> None:
    child = page("treasure_island.png")
    small = np.array(Image.fromarray(child).resize((512, 512), Image.Resampling.LANCZOS))
    slots = find_slots(landmarks, beside(child, small), thorough=True)
    assert [slot.bbox[0] < 1024 for slot in slots] == [True, False]


def test_page_without_a_face_has_no_slot(landmarks: FaceLandmarks) -> None:
    assert find_slots(landmarks, np.full((400, 300, 3), MEADOW, np.uint8), thorough=True) == []


def test_palette_and_skin_are_the_drawn_faces_own(landmarks: FaceLandmarks) -> None:
    (slot,) = find_slots(landmarks, page("snowy_night.png"))
    assert len(slot.palette) == 8
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in slot.palette)
    assert slot.skin_lab is not None
    lightness, a, b = slot.skin_lab
    assert 20 < lightness < 98
    assert a > 0
    assert b > 0
    assert find_slots(landmarks, page("snowy_night.png"))[0].palette == slot.palette


def test_tilt_of_a_drawing_is_told(landmarks: FaceLandmarks) -> None:
    rolls = {name: find_slots(landmarks, page(name))[0].roll_deg for name in GIVEN}
    for name, roll in rolls.items():
        x, y = np.subtract(GIVEN[name][0]["kps"][1], GIVEN[name][0]["kps"][0])
        assert roll == pytest.approx(np.degrees(np.arctan2(y, x)), abs=6)


@pytest.mark.parametrize("name", GIVEN)
def test_rough_box_finds_the_mesh_of_the_face_in_it(landmarks: FaceLandmarks, name: str) -> None:
    box = np.array(GIVEN[name][0]["bbox"], np.float32) + np.array([-25, -30, 15, 20], np.float32)
    slot = slot_from_box(landmarks, page(name), box)
    assert slot.landmarks is not None
    assert slot.score == 1
    assert overlap(slot.bbox, np.array(GIVEN[name][0]["bbox"])) > 0.6


def test_box_without_a_face_becomes_an_upright_face_that_fills_it(landmarks: FaceLandmarks) -> None:
    blank = np.full((500, 600, 3), MEADOW, np.uint8)
    box = np.array([200, 100, 360, 290], np.float32)
    slot = slot_from_box(landmarks, blank, box)
    assert slot.landmarks is None
    assert overlap(slot.bbox, box) > 0.6
    assert abs(slot.roll_deg) < 1


def test_box_partly_outside_the_page_keeps_its_place(landmarks: FaceLandmarks) -> None:
    blank = np.full((500, 600, 3), MEADOW, np.uint8)
    slot = slot_from_box(landmarks, blank, np.array([-40, 100, 120, 290], np.float32))
    assert slot.kps[:, 0].mean() == pytest.approx(40, abs=8)
    json.dumps(slot.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "box",
    [
        [100, 100, 100, 200],
        [200, 200, 100, 100],
        [700, 100, 900, 300],
        [-90, -90, -10, -10],
        [595, 100, 800, 300],
        [float("nan"), 100, 200, 200],
        [100, 100, float("inf"), 200],
    ],
)
def test_boxes_that_hold_no_face_of_the_page_are_refused(landmarks: FaceLandmarks, box: list[float]) -> None:
    with pytest.raises(InvalidValueError):
        slot_from_box(landmarks, np.full((500, 600, 3), MEADOW, np.uint8), np.array(box, np.float32))


@pytest.mark.parametrize("roll", [0, 25, -40, 90, 180])
def test_five_points_give_the_average_face_at_their_tilt(roll: float) -> None:
    mesh = mesh_at(roll=roll)
    slot = slot_from_points(page("kite_hill.png"), five_points(mesh))
    assert slot.landmarks is None
    assert slot.roll_deg == pytest.approx(roll, abs=0.5) or abs(slot.roll_deg) == pytest.approx(roll, abs=0.5)
    np.testing.assert_allclose(slot_mesh(slot)[:, :2], mesh[:, :2], atol=0.1)


@pytest.mark.parametrize("count", [468, 478])
def test_flat_mesh_given_by_hand_gets_the_depth_of_a_face(count: int) -> None:
    mesh = mesh_at(roll=15)
    irises = np.repeat(five_points(mesh)[:2], 5, axis=0)
    points = np.concatenate([mesh[:, :2], irises])[:count].astype(np.float32)
    slot = slot_from_points(page("kite_hill.png"), points)
    assert slot.landmarks is not None
    assert slot.landmarks.shape == (478, 3)
    deep = slot_mesh(slot)
    np.testing.assert_allclose(deep[:, :2], mesh[:, :2], atol=1e-3)
    assert np.ptp(deep[:, 2]) == pytest.approx(np.ptp(mesh[:, 2]), rel=0.1)
    assert slot.roll_deg == pytest.approx(15, abs=1)
    assert np.linalg.norm(slot.landmarks[468:473, :2].mean(axis=0) - five_points(mesh)[0]) < 2


def test_flat_landmarks_of_a_stored_slot_get_depth_when_they_are_used() -> None:
    mesh = mesh_at()
    slot = slot_from_points(page("kite_hill.png"), mesh)
    stored = slot.to_json()
    stored["landmarks"] = [point[:2] for point in stored["landmarks"]]
    assert np.ptp(slot_mesh(FaceSlot.from_json(stored))[:, 2]) == pytest.approx(np.ptp(mesh[:, 2]), rel=0.1)


def wrong_points() -> dict[str, Any]:
    kps = five_points(mesh_at())
    return {
        "too few": kps[:4],
        "neither 5 nor 468": mesh_at()[:100],
        "outside": kps + 2000,
        "one spot": np.full((5, 2), 300),
        "eyes swapped": kps[[1, 0, 2, 3, 4]],
        "left and right swapped": kps[[1, 0, 2, 4, 3]],
        "mouth first": kps[[3, 4, 2, 0, 1]],
        "not a number": np.full((5, 2), np.nan),
        "infinite": np.where(np.arange(10).reshape(5, 2) == 3, np.inf, kps),
        "one column": kps[:, :1],
        "mesh in a random order": np.random.default_rng(0).permutation(mesh_at()),
    }


@pytest.mark.parametrize("name", wrong_points())
def test_points_that_span_no_face_of_the_page_are_refused(name: str) -> None:
    with pytest.raises(InvalidValueError):
        slot_from_points(page("kite_hill.png"), np.asarray(wrong_points()[name], np.float32))


@pytest.mark.parametrize("with_mesh", [True, False])
def test_slot_written_as_json_is_read_back(landmarks: FaceLandmarks, with_mesh: bool) -> None:
    image = page("treasure_island.png")
    kps = np.array(GIVEN["treasure_island.png"][0]["kps"], np.float32)
    slot = find_slots(landmarks, image)[0] if with_mesh else slot_from_points(image, kps)
    read = FaceSlot.from_json(json.loads(json.dumps(slot.to_json(), allow_nan=False)))
    np.testing.assert_allclose(read.bbox, slot.bbox, atol=0.006)
    np.testing.assert_allclose(read.kps, slot.kps, atol=0.006)
    assert (read.landmarks is None) == (slot.landmarks is None)
    np.testing.assert_allclose(slot_mesh(read), slot_mesh(slot), atol=0.05)
    assert read.palette == slot.palette
    assert (read.score, read.roll_deg, read.yaw_deg) == pytest.approx(
        (slot.score, slot.roll_deg, slot.yaw_deg), abs=0.01
    )
    assert read.skin_lab == pytest.approx(slot.skin_lab, abs=0.01)
    assert read.to_json() == slot.to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bbox", None),
        ("bbox", [1, 2, 3]),
        ("kps", [[1, 2]] * 4),
        ("kps", "five points"),
        ("landmarks", [[1, 2]] * 477),
        ("landmarks", [[1, 2, 3, 4]] * 478),
        ("landmarks", [[1]] * 478),
        ("score", float("nan")),
        ("roll_deg", [1]),
        ("yaw_deg", {}),
        ("skin_lab", [1, 2]),
        ("palette", 5),
        ("palette", ["red", "#12345"]),
    ],
)
def test_field_of_a_stored_slot_that_is_wrong_is_named(field: str, value: Any) -> None:
    slot = slot_from_points(page("kite_hill.png"), five_points(mesh_at())).to_json()
    with pytest.raises(InvalidValueError, match=field):
        FaceSlot.from_json(slot | {field: value})
