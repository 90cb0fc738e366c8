"""`mode=head`: the drawn hair goes and the child's comes, and the rest of the page stays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import get_args

import cv2
import numpy as np
import pytest
from skimage import data

import face_geometry as geometry
from face_landmarks import FaceLandmarks
from head_transplant import _skull_map
from illustration_styler import Blend, Style
from personalizer import FaceSlot, Identity, PersonalizeOptions, Personalizer
from service.errors import InvalidValueError
from tests.drawn_pages import PAGE_NAMES, drawn_page, embedded_engines
from utils import FloatArray, RGBImage, as_float, lab_from_rgb, shrink

SIDE = 512  # of the pages here: heads are cut out at one size anyway
ASTRONAUTS_HAIR = np.s_[20:60, 210:250]


class Salon:
    """The engines, small pages and two children: one with short brown hair, one with a hat over dark braids."""

    def __init__(self, personalizer: Personalizer, landmarks: FaceLandmarks) -> None:
        self.personalizer, self.landmarks = personalizer, landmarks
        self.pages = {name: shrink(drawn_page(name), (SIDE, SIDE)) for name in PAGE_NAMES}
        self.slots = {name: personalizer.find_slots(page) for name, page in self.pages.items()}
        self.child = personalizer.prepare_identity(data.astronaut())

    def draw(self, name: str, child: Identity | None = None, options: PersonalizeOptions | None = None) -> RGBImage:
        options = options or PersonalizeOptions(mode="head")
        page, slots = self.pages[name], self.slots[name]
        result = self.personalizer.personalize(child or self.child, page, slots, options=options)
        np.testing.assert_array_equal(result.image_rgb[result.mask == 0], page[result.mask == 0])
        return result.image_rgb


@pytest.fixture(scope="module")
def salon() -> Iterator[Salon]:
    with embedded_engines() as engines:
        yield Salon(*engines)


@pytest.fixture(scope="module")
def drawn(salon: Salon) -> dict[str, RGBImage]:
    """Every page with the astronaut's head in it."""
    return {name: salon.draw(name) for name in PAGE_NAMES}


def colour(picture: RGBImage) -> FloatArray:
    return as_float(np.median(lab_from_rgb(picture).reshape(-1, 3), axis=0))


def beside_the_eyes(slot: FaceSlot, reach: tuple[float, float], rows: float = 0.06) -> list[tuple[slice, slice]]:
    """Left and right of the face at the height of the eyes; all in units of the face's width."""
    x1, _, x2, _ = slot.bbox
    width, y = float(x2 - x1), float(slot.kps[:2, 1].mean())
    high = slice(round(y - rows * width), round(y + rows * width))
    columns = [(x1 - reach[1] * width, x1 - reach[0] * width), (x2 + reach[0] * width, x2 + reach[1] * width)]
    return [(high, slice(max(0, round(float(a))), round(float(b)))) for a, b in columns]


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_outside_the_mask_the_page_stays_bit_for_bit(salon: Salon, name: str) -> None:
    styles: Iterator[Style] = cycle(get_args(Style))
    blends: tuple[Blend, ...] = get_args(Blend)
    for blend, keep_skin_tone in zip(blends, (False, True, False), strict=True):
        options = PersonalizeOptions(mode="head", style=next(styles), blend=blend, keep_skin_tone=keep_skin_tone)
        salon.draw(name, options=options)  # compares


def test_the_same_input_gives_the_same_bytes(salon: Salon, drawn: dict[str, RGBImage]) -> None:
    np.testing.assert_array_equal(salon.draw("snowy_night"), drawn["snowy_night"])


def test_the_drawn_hair_above_the_child_is_gone(salon: Salon, drawn: dict[str, RGBImage]) -> None:
    """The red fringe of the drawing gives way to the colour of the photo's hair."""
    x1, y1, x2, _ = salon.slots["kite_hill"][0].bbox
    width = x2 - x1
    above = np.s_[round(y1 - 0.3 * width) : round(y1 - 0.1 * width), round(x1 + 0.2 * width) : round(x2 - 0.2 * width)]
    was, now = colour(salon.pages["kite_hill"][above]), colour(drawn["kite_hill"][above])
    photo = colour(data.astronaut()[ASTRONAUTS_HAIR])
    assert np.linalg.norm((now - was)[1:]) > 15
    assert np.linalg.norm((now - photo)[1:]) < 0.5 * np.linalg.norm((was - photo)[1:])


def test_the_hat_is_gone_and_hair_is_there(salon: Salon, drawn: dict[str, RGBImage]) -> None:
    """The red brim of the woollen hat lies above the drawn face; the child's hair does now."""
    page = salon.pages["snowy_night"]
    brim = (lab_from_rgb(page)[..., 1] > 35) & (np.mgrid[0:SIDE, 0:SIDE][0] < 240) & (np.mgrid[0:SIDE, 0:SIDE][0] > 180)
    assert brim.sum() > 1500
    still_red = lab_from_rgb(drawn["snowy_night"])[..., 1][brim] > 35
    assert still_red.mean() < 0.02


def test_long_drawn_hair_beside_the_neck_is_gone(salon: Salon, drawn: dict[str, RGBImage]) -> None:
    """Light and shaded strands alike, down to the shoulders."""
    page, (x1, _, x2, y2) = salon.pages["kite_hill"], salon.slots["kite_hill"][0].bbox.round().astype(int)
    around = np.s_[y2 - 40 : y2 + 12, x1 - 25 : x2 + 25]
    was, now = (lab_from_rgb(picture[around]) for picture in (page, drawn["kite_hill"]))
    hair = (was[..., 1] > 22) & (was[..., 2] > 25) & (was[..., 0] < 60)
    assert hair.sum() > 1000
    assert ((now[..., 1] > 22) & (now[..., 2] > 25) & (now[..., 0] < 60))[hair].mean() < 0.05


def test_the_head_is_laid_so_that_it_meets_the_face() -> None:
    """At the oval both go to the same place of the photo, however far the drawn head is turned."""
    photo = geometry.mean_shape() * 20 + 300
    turn = np.radians(35)
    turned = photo @ np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    target = as_float(turned - turned.mean(axis=0) + 200)[:, :2]
    map_x, map_y = _skull_map(target, as_float(photo[:, :2]), 1.0, (400, 400))
    oval = list(geometry.FACE_OVAL)
    x, y = np.round(target[oval, :2]).astype(int).T
    reached = np.stack([map_x[y, x], map_y[y, x]], axis=1)
    assert np.linalg.norm(reached - photo[oval, :2], axis=1).max() < 0.02 * np.ptp(photo[:, 1])


def test_a_fair_page_keeps_its_background_beside_the_new_hair(salon: Salon, drawn: dict[str, RGBImage]) -> None:
    """Where the drawn hair stood out and the child's does not reach, the surroundings are painted on."""
    page = salon.pages["kite_hill"]
    hair = lab_from_rgb(page)[..., 1] > 18
    result = drawn["kite_hill"]
    for rows, columns in beside_the_eyes(salon.slots["kite_hill"][0], (0.02, 0.25)):
        assert hair[rows, columns].mean() > 0.2
        # Red hair is what the drawing had; the photo's is brown, the hills are green.
        assert (lab_from_rgb(result[rows, columns])[..., 1] > 24).mean() < 0.1


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_body_and_background_far_away_stay(salon: Salon, drawn: dict[str, RGBImage], name: str) -> None:
    page, result = salon.pages[name], drawn[name]
    for place in (np.s_[400:512, 0:512], np.s_[0:90, 0:512], np.s_[0:512, 0:90], np.s_[0:512, 430:512]):
        np.testing.assert_array_equal(result[place], page[place])
    changed = (result != page).any(axis=2)
    assert changed.mean() > 0.05


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_the_face_is_still_the_childs_in_the_pages_place(salon: Salon, drawn: dict[str, RGBImage], name: str) -> None:
    slot = salon.slots[name][0]
    mesh = salon.landmarks.mesh(drawn[name], slot.kps)
    assert mesh is not None
    eye_distance = np.linalg.norm(slot.kps[1] - slot.kps[0])
    assert np.linalg.norm(mesh.kps - slot.kps, axis=1)[:3].mean() < 0.08 * eye_distance


def test_head_and_face_are_two_modes(salon: Salon, drawn: dict[str, RGBImage]) -> None:
    face = salon.draw("kite_hill", options=PersonalizeOptions(mode="face"))
    head_only = (drawn["kite_hill"] != salon.pages["kite_hill"]).any(axis=2)
    face_only = (face != salon.pages["kite_hill"]).any(axis=2)
    assert head_only.sum() > 1.5 * face_only.sum()


def test_hair_follows_the_photo(salon: Salon) -> None:
    """The same head with its hair turned blue gives a page with blue hair."""
    photo = data.astronaut()
    lab = lab_from_rgb(photo[:140, 150:320])
    mesh = salon.landmarks.mesh(photo, salon.landmarks.detect(photo)[0].kps)
    assert mesh is not None
    y, x = np.mgrid[0:140, 0:170]
    polygon = cv2.convexHull(as_float(mesh.points[:, :2] - [150, 0])).astype(np.int32)
    inside = cv2.fillPoly(np.zeros(lab.shape[:2], np.uint8), [polygon], 1)
    hair = (inside == 0) & (lab[..., 0] < 62) & (np.hypot(x - 75, y - 85) < 85)
    blue = photo.copy()
    blue[:140, 150:320][hair] = (photo[:140, 150:320][hair] * [0.35, 0.5, 1.3]).clip(0, 255)
    picture = salon.draw("kite_hill", salon.personalizer.prepare_identity(blue))
    x1, y1, x2, _ = salon.slots["kite_hill"][0].bbox.round().astype(int)
    above = np.s_[y1 - 35 : y1 - 5, x1 + 20 : x2 - 20]
    usual = salon.draw("kite_hill")
    assert colour(picture[above])[2] < colour(usual[above])[2] - 15


@pytest.mark.parametrize("top", [30, 70])
def test_a_photo_that_ends_in_the_hair_or_at_the_forehead_is_refused(salon: Salon, top: int) -> None:
    """It would give a head with a flat top; the face alone still goes into the page."""
    child = salon.personalizer.prepare_identity(np.ascontiguousarray(data.astronaut()[top:330, 100:370]))
    with pytest.raises(InvalidValueError, match="cuts it off at the top"):
        salon.draw("kite_hill", child)


def test_a_five_point_slot_takes_a_head_too(salon: Salon) -> None:
    page = np.full((300, 300, 3), (150, 200, 240), np.uint8)
    points = np.array([[120, 130], [180, 130], [150, 158], [128, 182], [172, 182]], np.float32)
    slot = salon.personalizer.slot_from_points(page, points)
    options = PersonalizeOptions(mode="head", keep_skin_tone=False)
    result = salon.personalizer.personalize(salon.child, page, [slot], options=options)
    np.testing.assert_array_equal(result.image_rgb[result.mask == 0], page[result.mask == 0])
    above = result.image_rgb[70:95, 130:170].reshape(-1, 3)
    assert (np.abs(above.astype(int) - [150, 200, 240]).max(axis=1) > 20).mean() > 0.8  # hair where sky was
