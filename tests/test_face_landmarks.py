"""The embedded engine on a real photo, on the example pages and on pictures without a face."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from face_landmarks import FaceBox, FaceLandmarks, FaceMesh, five_points, frame_kps
from tests.conftest import PAGES
from utils import FloatArray, RGBImage

SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
FACES = sorted((SHARED / "faces").glob("*.jpg"))
TEMPLATES = sorted((SHARED / "templates").glob("*.png"))
SIZES = [(40, 1280, 720), (40, 1920, 1080), (40, 3000, 2000), (24, 640, 480)]
TURNS = [-150, -90, -45, 20, 60, 90, 135, 180]


@pytest.fixture(scope="module")
def landmarks() -> Iterator[FaceLandmarks]:
    engine = FaceLandmarks(pool_size=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def astronaut(landmarks: FaceLandmarks) -> tuple[RGBImage, FaceBox]:
    photo: RGBImage = data.astronaut()
    return photo, landmarks.detect(photo)[0]


def load(path: Path) -> RGBImage:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def placed(
    photo: RGBImage, face: FaceBox, px: float, size: tuple[int, int], degrees: float = 0
) -> tuple[RGBImage, FloatArray]:
    """The photo with its face `px` wide, turned, off the middle of a grey picture (width, height); and its kps."""
    zoom = px / float(face.bbox[2] - face.bbox[0])
    x, y = (face.bbox[:2] + face.bbox[2:]) / 2
    to_picture = cv2.getRotationMatrix2D((float(x), float(y)), degrees, zoom)
    to_picture[:, 2] += np.array([0.4 * size[0], 0.45 * size[1]]) - [x, y]
    small = cv2.GaussianBlur(photo, (0, 0), 0.35 / zoom) if zoom < 0.7 else photo
    picture = cv2.warpAffine(small, to_picture, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(120, 120, 120))
    return picture, cv2.transform(face.kps[None], to_picture)[0]


def error(found: FloatArray, expected: FloatArray) -> float:
    """Mean distance of the five points over the distance of the eyes."""
    return float(np.linalg.norm(found - expected, axis=1).mean() / np.hypot(*(expected[1] - expected[0])))


def landscape() -> RGBImage:
    """Sky, sun, hills, trees and a house, with round and paired shapes as faces have."""
    image = np.full((700, 1000, 3), (170, 210, 240), np.uint8)
    cv2.circle(image, (800, 130), 70, (250, 220, 110), -1, cv2.LINE_AA)
    for x, colour in ((150, (90, 150, 90)), (560, (70, 130, 80)), (930, (110, 165, 95))):
        cv2.ellipse(image, (x, 720), (420, 300), 0, 0, 360, colour, -1, cv2.LINE_AA)
    for x in (120, 260, 700):
        cv2.rectangle(image, (x - 8, 430), (x + 8, 540), (95, 65, 45), -1)
        cv2.circle(image, (x, 390), 62, (55, 105, 60), -1, cv2.LINE_AA)
    cv2.rectangle(image, (400, 400), (560, 540), (220, 190, 160), -1)
    for x in (440, 520):
        cv2.rectangle(image, (x - 16, 430), (x + 16, 462), (60, 70, 110), -1)
    cv2.rectangle(image, (462, 480), (498, 540), (120, 60, 50), -1)
    return image


def pictures_without_a_face() -> dict[str, RGBImage]:
    rng = np.random.default_rng(7)
    blobs = cv2.GaussianBlur(rng.normal(size=(480, 640, 3)), (0, 0), 15)
    textures = {name: np.dstack([getattr(data, name)()] * 3) for name in ("brick", "grass", "gravel")}
    return textures | {
        "flat": np.full((300, 400, 3), 128, np.uint8),
        "noise": rng.integers(0, 256, (480, 640, 3), dtype=np.uint8),
        "blobs": cv2.normalize(blobs, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8),
        "coffee": data.coffee(),
        "landscape": landscape(),
    }


WITHOUT_A_FACE = pictures_without_a_face()


def test_points_come_as_eyes_nose_and_mouth_corners_from_left_to_right(astronaut: tuple[RGBImage, FaceBox]) -> None:
    (left, right, nose, mouth_left, mouth_right), box = astronaut[1].kps, astronaut[1].bbox
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    assert (box[:2] < astronaut[1].kps.min(axis=0)).all()
    assert (box[2:] > astronaut[1].kps.max(axis=0)).all()


@pytest.mark.parametrize(("px", "width", "height"), SIZES)
def test_small_faces_are_found_in_large_pictures(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox], px: int, width: int, height: int
) -> None:
    picture, expected = placed(*astronaut, px, (width, height))
    (face,) = landmarks.detect(picture)
    assert error(face.kps, expected) < 0.15


@pytest.mark.parametrize("degrees", TURNS)
def test_turned_faces_are_found_once_and_keep_the_persons_order_of_points(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox], degrees: int
) -> None:
    picture, expected = placed(*astronaut, 150, (700, 600), degrees)
    (face,) = landmarks.detect(picture)
    assert error(face.kps, expected) < 0.15


@pytest.mark.parametrize("margin", [0.0, 0.08, 0.15])
def test_close_ups_that_fill_the_frame_are_found(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox], margin: float
) -> None:
    photo, face = astronaut
    inset = margin * (face.bbox[2:] - face.bbox[:2])
    (x1, y1), (x2, y2) = (face.bbox[:2] + inset).astype(int), (face.bbox[2:] - inset).astype(int)
    close_up = cv2.resize(photo[y1:y2, x1:x2], None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    (found,) = landmarks.detect(close_up)
    assert error(found.kps, (face.kps - [x1, y1]) * 6) < 0.15


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.png")), ids=lambda path: path.stem)
@pytest.mark.parametrize("turns", [0, 2])
def test_drawn_faces_are_found_alone_on_their_page_upright_and_upside_down(
    landmarks: FaceLandmarks, page: Path, turns: int
) -> None:
    (face,) = landmarks.detect(np.ascontiguousarray(np.rot90(load(page), turns)), thorough=True)
    assert (face.kps[0, 0] < face.kps[1, 0]) == (turns == 0)


@pytest.mark.parametrize("name", WITHOUT_A_FACE)
def test_nothing_is_found_where_there_is_no_face(landmarks: FaceLandmarks, name: str) -> None:
    assert landmarks.detect(WITHOUT_A_FACE[name], thorough=True) == []


def test_a_large_face_does_not_hide_a_small_one_and_comes_first(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]
) -> None:
    large, _ = placed(*astronaut, 260, (700, 900))
    small, expected = placed(*astronaut, 36, (700, 900))
    faces = landmarks.detect(np.concatenate([large, small], axis=1), thorough=True)
    assert len(faces) == 2
    assert error(faces[1].kps, expected + np.array([700, 0], np.float32)) < 0.2


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 2000), (37, 5)])
def test_pictures_too_small_for_a_face_hold_none(landmarks: FaceLandmarks, shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    assert landmarks.detect(picture, thorough=True) == []
    assert landmarks.person_mask(picture).shape == shape


def test_threshold_leaves_out_faces_that_are_less_sure(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]
) -> None:
    assert landmarks.detect(astronaut[0], threshold=0.999) == []


def test_mesh_follows_any_roll_and_size(landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]) -> None:
    photo, face = astronaut
    upright = landmarks.mesh(photo, face.kps)
    assert upright is not None
    for px, degrees in ((40, 0), (300, 70), (120, 180)):
        picture, kps = placed(photo, face, px, (600, 600), degrees)
        mesh = landmarks.mesh(picture, kps)
        assert mesh is not None
        assert mesh.points.shape == (478, 3)
        assert mesh.presence > 0.9
        assert error(five_points(mesh.points), kps) < 0.12
        depth = np.ptp(mesh.points[:468, 2]) / np.ptp(upright.points[:468, 2])
        assert depth == pytest.approx(px / float(face.bbox[2] - face.bbox[0]), rel=0.25)


@pytest.mark.parametrize("name", ["flat", "noise", "brick", "landscape"])
def test_mesh_presence_is_low_where_there_is_no_face(landmarks: FaceLandmarks, name: str) -> None:
    picture = WITHOUT_A_FACE[name]
    mesh = landmarks.mesh(picture, frame_kps(np.array([80, 60, 230, 240], np.float32)))
    assert mesh is None or mesh.presence < 0.5


def test_certainty_is_high_for_a_face_and_low_for_none(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]
) -> None:
    mesh = landmarks.mesh(astronaut[0], astronaut[1].kps)
    assert mesh is not None
    assert landmarks.certainty(astronaut[0], mesh) > 0.8
    assert landmarks.certainty(np.full_like(astronaut[0], 128), mesh) < 0.3


def test_person_mask_covers_the_person_and_not_the_background(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]
) -> None:
    mask = landmarks.person_mask(astronaut[0])
    x, y = astronaut[1].kps[2].astype(int)
    assert mask.shape == astronaut[0].shape[:2]
    assert mask[y, x] > 0.9
    assert mask[60:120, 5:30].mean() < 0.2


def test_concurrent_calls_each_get_their_own_answer(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]
) -> None:
    scenes = [placed(*astronaut, 60 + 7 * (i % 8), (400 + 20 * (i // 8), 420)) for i in range(32)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda scene: landmarks.detect(scene[0]), scenes))
    for faces, (_, expected) in zip(answers, scenes, strict=True):
        assert len(faces) == 1
        assert error(faces[0].kps, expected) < 0.12


def test_engine_serves_on_after_a_call_that_failed(astronaut: tuple[RGBImage, FaceBox]) -> None:
    engine = FaceLandmarks(pool_size=1)
    photo, face = astronaut
    wrong: Any = photo.astype(np.float32)
    for call in (lambda: engine.detect(wrong), lambda: engine.mesh(wrong, face.kps), lambda: engine.person_mask(wrong)):
        with pytest.raises(TypeError):
            call()
    assert len(engine.detect(photo)) == 1
    assert engine.mesh(photo, face.kps) is not None
    engine.close()


def test_the_same_picture_gives_the_same_answer_whatever_came_before(
    landmarks: FaceLandmarks, astronaut: tuple[RGBImage, FaceBox]
) -> None:
    landmarks.detect(landscape(), thorough=True)
    (again,) = landmarks.detect(astronaut[0])
    np.testing.assert_array_equal(again.kps, astronaut[1].kps)


@pytest.mark.parametrize("path", [None, *FACES], ids=lambda path: path.stem if path else "astronaut")
def test_a_refit_mesh_is_the_same_whatever_its_first_frame_was(landmarks: FaceLandmarks, path: Path | None) -> None:
    photo = data.astronaut() if path is None else load(path)
    found = landmarks.detect(photo)[0]
    by_points = landmarks.mesh(photo, found.kps)
    assert found.mesh is not None
    assert by_points is not None

    def furthest(first: FaceMesh, second: FaceMesh) -> float:
        moved = np.linalg.norm((first.points - second.points)[:468, :2], axis=1)
        return float(moved.max() / np.ptp(first.points[:, 1]))

    refits = landmarks.refit(photo, found.mesh), landmarks.refit(photo, by_points)
    assert furthest(*refits) < 0.02
    if path is None:  # she smiles
        assert furthest(*refits) < 0.5 * furthest(found.mesh, by_points)


@pytest.mark.skipif(not FACES, reason=f"no real photos in {SHARED / 'faces'}")
@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_real_faces_are_found_small_and_upside_down(landmarks: FaceLandmarks, path: Path) -> None:
    photo = load(path)
    reference = landmarks.detect(photo)[0]
    for px, size, degrees in ((40, (1280, 720), 0), (200, (900, 900), 180), (200, (900, 900), 90)):
        picture, expected = placed(photo, reference, px, size, degrees)
        (face,) = landmarks.detect(picture)
        assert error(face.kps, expected) < 0.2


@pytest.mark.skipif(not TEMPLATES, reason=f"no real pages in {SHARED / 'templates'}")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_drawn_children_of_real_books_are_found(landmarks: FaceLandmarks, path: Path) -> None:
    (face,) = landmarks.detect(load(path))
    assert 40 < face.bbox[2] - face.bbox[0] < 100
