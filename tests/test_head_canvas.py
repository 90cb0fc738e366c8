"""What a diffusion model is shown of a page: the square, the mask, the keypoints, the words."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from skimage import data

import face_geometry as geometry
from face_drawing import DrawnPage, FaceDrawing, PersonalizeOptions
from face_landmarks import FaceLandmarks, five_points
from face_regions import longer_side
from face_slots import slot_mesh
from hands_in_front import HandsInFront
from head_canvas import NEGATIVE_PROMPT, HeadCanvas, Person, describe, draw_keypoints, page_words
from personalizer import Personalizer
from tests.drawn_pages import PAGE_NAMES, drawn_page, embedded_engines
from utils import FloatArray, GrayImage, Stopwatch, as_float

SIZE = 256
KPS = np.array([[90, 100], [160, 110], [130, 140], [100, 180], [150, 185]], np.float32)


def face_at(x: float, y: float, size: float) -> FloatArray:
    """An average face (468, 3) whose five points have their middle there; `size` between the eyes."""
    points = np.array([[-50, -40], [50, -40], [0, 10], [-40, 60], [40, 60]], np.float32) * size / 100
    return geometry.mean_mesh_at(as_float(points + np.array([x, y], np.float32)))


def oval(mesh: FloatArray, shape: tuple[int, int]) -> GrayImage:
    return geometry.fill((geometry.FACE_OVAL,), mesh, shape)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((600, 800), (400, 300, 60)),
        ((600, 800), (40, 560, 90)),
        ((300, 900), (880, 20, 150)),
        ((120, 90), (45, 60, 40)),
    ],
)
def test_the_canvas_shows_the_head_and_gives_it_back_in_its_place(
    shape: tuple[int, int], place: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (shape[0] // 30 + 1, shape[1] // 30 + 1, 3), np.uint8)
    page = tiles.repeat(30, axis=0).repeat(30, axis=1)[: shape[0], : shape[1]]
    mesh = face_at(*place)
    mask = oval(mesh, shape)
    canvas = HeadCanvas.around(mesh, mask, size=SIZE)
    shown = canvas.show(page)
    assert shown.shape == (SIZE, SIZE, 3)
    assert canvas.mask(mask).shape == (SIZE, SIZE)
    assert canvas.on_page(shown).shape[:2] == canvas.frame.shape
    np.testing.assert_array_equal(canvas.on_page(shown), canvas.frame.cut(page))
    outside = mask.copy()
    outside[canvas.frame.region] = 0
    assert not outside.any()  # all that is drawn can be seen
    assert 0.3 <= longer_side(canvas.frame.place(mesh)) / SIZE <= 0.55


def test_a_masks_latents_are_whole_and_cover_it() -> None:
    mesh = face_at(300, 300, 80)
    page_mask = oval(mesh, (600, 600))
    canvas = HeadCanvas.around(mesh, page_mask, size=SIZE)
    mask = canvas.mask(page_mask)
    cells = mask.reshape(SIZE // 8, 8, SIZE // 8, 8)
    assert (cells.max(axis=(1, 3)) == cells.min(axis=(1, 3))).all()
    assert (mask[canvas.show(np.dstack([page_mask] * 3))[..., 0] > 128] == 255).all()
    assert 0.05 < (mask > 0).mean() < 0.5


def test_keypoints_lie_at_the_faces_points_in_their_colours() -> None:
    mesh = face_at(300, 260, 80)
    canvas = HeadCanvas.around(mesh, oval(mesh, (600, 600)), size=SIZE)
    picture = canvas.keypoints(mesh)
    for (x, y), colour in zip(
        five_points(canvas.frame.place(mesh)) + np.array([canvas.left, canvas.top]),
        [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)],
        strict=True,
    ):
        assert tuple(picture[int(y), int(x)]) == colour


def test_keypoints_are_joined_to_the_nose_by_darker_lines_on_black() -> None:
    picture = draw_keypoints(KPS * 4, 1024)
    x, y = (KPS[0] + KPS[2]) * 2  # half way from the left eye to the nose
    assert tuple(picture[int(y), int(x)]) == (153, 0, 0)
    assert (picture.any(axis=2)).mean() < 0.02
    red = np.argwhere((picture == (255, 0, 0)).all(axis=2))
    assert np.ptp(red, axis=0) == pytest.approx([20, 20], abs=2)


def test_keypoints_beyond_the_canvas_are_cut_off() -> None:
    assert draw_keypoints(KPS - 120, 256).any()
    assert not draw_keypoints(KPS + 5000, 256).any()


@pytest.mark.parametrize(
    ("person", "words"),
    [
        (Person(), "a child"),
        (Person(None, "F"), "a young girl"),
        (Person(2, "M"), "a toddler boy"),
        (Person(7, "F"), "a young girl"),
        (Person(15, "M"), "a teenage boy"),
        (Person(30, "F"), "a young woman"),
        (Person(50, None), "a middle-aged person"),
        (Person(80, "M"), "an elderly man"),
    ],
)
def test_age_and_gender_are_said_when_they_are_known(person: Person, words: str) -> None:
    assert describe(drawn_page("kite_hill"), style="storybook", person=person).startswith(f"portrait of {words}, ")


def test_the_words_are_the_pages() -> None:
    said = {name: describe(drawn_page(name), style="storybook", person=Person()) for name in PAGE_NAMES}
    assert "sky blue" in said["kite_hill"]
    assert "navy blue" in said["snowy_night"]
    assert "teal" in said["treasure_island"]
    assert all("ink outlines" in words for words in said.values())
    assert all(len(words.replace(",", " ,").split()) < 60 for words in (*said.values(), NEGATIVE_PROMPT))
    assert "pencil" in describe(drawn_page("kite_hill"), style="pencil", person=Person())


def test_lines_surface_and_light_are_measured() -> None:
    flat = np.full((300, 300, 3), 240, np.uint8)
    dark = np.full((300, 300, 3), 20, np.uint8)
    lined = flat.copy()
    lined[::20] = 0
    rough = np.clip(flat - 40 + np.random.default_rng(0).normal(0, 15, flat.shape), 0, 255).astype(np.uint8)
    assert page_words(flat)[:3] == ["soft painted shapes", "smooth flat colors", "bright daylight"]
    assert page_words(dark)[2] == "dark scene"
    assert page_words(lined)[0] == "ink outlines"
    assert page_words(rough)[1] == "textured paper"
    assert page_words(flat)[3] == "muted palette of white"


# ---- what comes back is put into the page as the photo is


class Easel:
    """A child drawn into each page, ready for another picture of it."""

    def __init__(self, personalizer: Personalizer, landmarks: FaceLandmarks) -> None:
        child = personalizer.prepare_identity(data.astronaut())
        self.drawings: dict[tuple[str, str], tuple[FaceDrawing, DrawnPage]] = {}
        hands = HandsInFront()
        with ThreadPoolExecutor(1) as beside:
            for name, mode in product(PAGE_NAMES, ("face", "head")):
                page = drawn_page(name)
                mesh = slot_mesh(personalizer.find_slots(page)[0])
                options = PersonalizeOptions(mode=mode)  # type: ignore[arg-type]
                drawing = FaceDrawing(
                    child, page, mesh, options, person=landmarks.person_mask, hands=hands.matte, beside=beside,
                    watch=Stopwatch(),
                )  # fmt: skip
                self.drawings[name, mode] = drawing, drawing.draw()


@pytest.fixture(scope="module")
def easel() -> Iterator[Easel]:
    with embedded_engines() as engines:
        yield Easel(*engines)


@pytest.mark.parametrize("name", PAGE_NAMES)
@pytest.mark.parametrize("mode", ["face", "head"])
def test_a_picture_of_the_page_itself_changes_little_and_any_other_only_what_is_redrawn(
    easel: Easel, name: str, mode: str
) -> None:
    drawing, drawn = easel.drawings[name, mode]
    redrawn = drawing.redrawn(drawn)
    canvas = HeadCanvas.around(drawing.outline, redrawn, size=512)
    same = drawing.draw_picture(canvas.on_page(canvas.show(drawn.image_rgb)), canvas.frame)
    difference = np.abs(same.image_rgb.astype(int) - drawn.image_rgb)
    assert difference[redrawn > 0].mean() < 5
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    other = drawing.draw_picture(canvas.on_page(noise), canvas.frame)
    np.testing.assert_array_equal(other.image_rgb[redrawn == 0], drawn.image_rgb[redrawn == 0])
    np.testing.assert_array_equal(other.image_rgb[other.mask == 0], drawn.image_rgb[other.mask == 0])
    assert (other.image_rgb != drawn.image_rgb).any(axis=2)[redrawn > 0].mean() > 0.6
