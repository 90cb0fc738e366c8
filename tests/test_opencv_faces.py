"""The permissively licensed engine: OpenCV's own classes run YuNet and SFace models that are built here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from face_detector import FaceDetector
from face_landmarks import FaceLandmarks
from face_points import arcface_crop
from main import create_app
from opencv_faces import OpenCVDetector
from service.errors import InvalidValueError, ModelUnavailableError
from tests.conftest import encoded, settings_in
from tests.face_packs import BOX, SFACE_SIZE, SQUARE, load, write_opencv_pack, write_pack
from utils import RGBImage


def squares(*centres: tuple[int, int], colour: tuple[int, int, int] = (255, 255, 255)) -> RGBImage:
    image = np.zeros((640, 640, 3), np.uint8)
    half = SQUARE // 2
    for x, y in centres:
        image[y - half : y + half, x - half : x + half] = colour
    return image


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory, landmarks: FaceLandmarks) -> FaceDetector:
    return load(write_opencv_pack(tmp_path_factory.mktemp("packs") / "free"), landmarks)


def test_auto_runs_a_pack_of_yunet_and_sface_in_opencv(detector: FaceDetector) -> None:
    assert isinstance(detector, OpenCVDetector)
    assert (detector.engine, detector.model, detector.provider) == ("opencv", "free", "OpenCV DNN CPU")
    assert detector.recogniser is not None
    assert (detector.recogniser.model, detector.recogniser.dimension) == ("free", SFACE_SIZE)


def test_a_face_has_its_box_its_points_and_its_embedding(detector: FaceDetector) -> None:
    (face,) = detector.analyze(squares((320, 288)))
    assert face.bbox == pytest.approx([320 - BOX / 2, 288 - BOX / 2, 320 + BOX / 2, 288 + BOX / 2], abs=1)
    assert face.kps[:2] == pytest.approx(np.array([[300, 268], [340, 268]]), abs=1)
    assert face.det_score == pytest.approx(1, abs=0.01)
    assert face.embedding is not None
    assert face.embedding.shape == (SFACE_SIZE,)
    assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)
    assert (face.gender, face.age) == (None, None)
    assert set(face.unavailable) == {"gender", "age"}


def test_the_embedding_is_what_opencv_gives_for_its_own_crop(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    pack = write_opencv_pack(tmp_path / "free")
    image = squares((320, 288), colour=(200, 120, 40))
    image[280:300] //= 2
    detector = load(pack, landmarks)
    kps = np.array([[300, 270], [342, 266], [322, 290], [306, 308], [338, 306]], np.float32)
    sface = cv2.FaceRecognizerSF.create(str(pack / "b.onnx"), "")
    row = np.hstack(([0, 0, 0, 0], kps.ravel(), [1])).astype(np.float32)
    image_bgr = np.ascontiguousarray(image[:, :, ::-1])
    aligned = sface.alignCrop(image_bgr, row[None])
    ours = arcface_crop(image, kps, 112)[:, :, ::-1]
    assert np.abs(ours.astype(int) - aligned).mean() < 0.5
    vector = sface.feature(aligned)[0]
    assert float(detector.embed(image, kps) @ vector) / np.linalg.norm(vector) > 0.9999


def test_the_threshold_and_the_size_of_a_call_are_that_calls_own(detector: FaceDetector) -> None:
    dim = squares((320, 288), colour=(110, 110, 110))
    assert detector.detect(dim) == []
    assert len(detector.detect(dim, threshold=0.35)) == 1
    assert detector.detect(dim[:300, :500]) == []
    assert len(detector.detect(squares((320, 288))[:480])) == 1


def test_64_pictures_at_once_each_get_their_own_answer(detector: FaceDetector) -> None:
    rng = np.random.default_rng(0)
    places = [(int(x) * 32, int(y) * 32) for x, y in rng.integers(4, 16, (64, 2))]
    colours = [tuple(int(v) for v in row) for row in rng.integers(150, 256, (64, 3))]
    pictures = [squares(place, colour=colour) for place, colour in zip(places, colours, strict=True)]  # type: ignore[arg-type]
    alone = [detector.analyze(picture, threshold=0.3)[0] for picture in pictures]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda picture: detector.analyze(picture, threshold=0.3)[0], pictures))
    for a, b, place in zip(alone, together, places, strict=True):
        assert b.bbox.tolist() == a.bbox.tolist()
        assert b.bbox.reshape(2, 2).mean(axis=0) == pytest.approx(place, abs=2)
        assert a.embedding is not None
        assert b.embedding is not None
        assert float(a.embedding @ b.embedding) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_extreme_shapes_do_not_break_it(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_a_face_on_a_wide_picture_is_where_it_is(detector: FaceDetector) -> None:
    image = np.zeros((300, 1280, 3), np.uint8)
    image[96:288, 992:1184] = 255
    (face,) = detector.detect(image)
    assert face.kps[2] == pytest.approx([1088, 192], abs=4)


def test_the_profile_serves_the_api(tmp_path: Path) -> None:
    write_opencv_pack(tmp_path / "models" / "permissive")
    image = squares((320, 288), colour=(240, 200, 180))
    photo = encoded(Image.fromarray(image))
    with TestClient(create_app(settings_in(tmp_path, face_model="permissive"))) as client:
        engines = client.get("/health").json()["models"]
        answer = client.post("/api/v1/extract-embedding", files={"file": photo}).json()
    for name in ("face_detector", "face_recognizer"):
        assert (engines[name]["state"], engines[name]["engine"]) == ("ready", "opencv")
        assert engines[name]["provider"] == "OpenCV DNN CPU"
    assert len(answer["embedding"]) == SFACE_SIZE
    assert (answer["model"], answer["threshold"]) == ("permissive", None)
    # The weights are not SFace's: its threshold doesn't hold for them.
    assert "FACE_MATCH_THRESHOLD" in answer["threshold_source"]


def test_points_in_one_place_are_refused(detector: FaceDetector) -> None:
    with pytest.raises(InvalidValueError):
        detector.embed(squares((320, 288)), np.full((5, 2), 7, np.float32))


def test_without_sface_there_is_a_reason_instead_of_an_embedding(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    detector = load(write_opencv_pack(tmp_path / "p", recogniser=False), landmarks)
    (face,) = detector.analyze(squares((320, 288)))
    assert detector.recogniser is None
    assert set(face.unavailable) == {"embedding", "gender", "age"}
    with pytest.raises(ModelUnavailableError, match="no recognition model"):
        detector.embed(squares((320, 288)), face.kps)


def test_what_contradicts_itself_is_refused(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    free, own = write_opencv_pack(tmp_path / "free"), write_pack(tmp_path / "own")
    with pytest.raises(ModelUnavailableError, match="no YuNet"):
        load(own, landmarks, engine="opencv")
    with pytest.raises(ModelUnavailableError, match="no SCRFD"):
        load(free, landmarks, engine="insightface")
    with pytest.raises(ModelUnavailableError, match="DEVICE=cuda"):
        load(free, landmarks, device="cuda")
    with pytest.raises(ModelUnavailableError, match="models pull permissive"):
        load("permissive", landmarks, engine="opencv", models_dir=tmp_path)


def test_a_file_that_opencv_cannot_run_is_named(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    pack = write_opencv_pack(tmp_path / "p")
    whole = (pack / "a.onnx").read_bytes()
    (pack / "a.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnavailableError, match=r"a\.onnx can't be read"):
        load(pack, landmarks)
