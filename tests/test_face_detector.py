from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from insightface.utils import face_align

from face_detector import FaceDetector, MediaPipeDetector, load_face_detector
from face_landmarks import FaceLandmarks
from insightface_pack import InsightFaceDetector, _arcface_points, _similarity
from service.errors import InvalidValueError, ModelUnavailableError
from tests.face_packs import (
    BOX,
    EMBEDDING_SIZE,
    SQUARE,
    colour_recogniser,
    landmark_model,
    square_detector,
    write_pack,
)
from utils import FloatArray, RGBImage

SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
TINY_PACK = SHARED / "models" / "tiny-pack"
needs_tiny_pack = pytest.mark.skipif(
    not (TINY_PACK.is_dir() and (SHARED / "faces").is_dir()), reason=f"no tiny-pack and faces in {SHARED}"
)


@pytest.fixture(scope="module")
def landmarks() -> Iterator[FaceLandmarks]:
    landmarks = FaceLandmarks(pool_size=1)
    yield landmarks
    landmarks.close()


def load(model: Path | str, landmarks: FaceLandmarks, **changes: Any) -> FaceDetector:
    options: dict[str, Any] = {
        "engine": "auto",
        "det_threshold": 0.5,
        "device": "cpu",
        "models_dir": Path("nowhere"),
        "threads": 2,
    }
    return load_face_detector(model=str(model), landmarks=landmarks, **(options | changes))


def squares(*centres: tuple[int, int], size: int = SQUARE) -> RGBImage:
    """White squares on a black 640x640 picture."""
    image = np.zeros((640, 640, 3), np.uint8)
    for x, y in centres:
        top_left, bottom_right = (x - size // 2, y - size // 2), (x + size // 2, y + size // 2)
        image[max(0, top_left[1]) : bottom_right[1], max(0, top_left[0]) : bottom_right[0]] = 255
    return image


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory, landmarks: FaceLandmarks) -> FaceDetector:
    return load(write_pack(tmp_path_factory.mktemp("packs") / "tiny"), landmarks)


class TestBuiltPack:
    """The whole engine on models built here."""

    def test_models_are_told_apart_by_what_they_take_and_give(self, detector: FaceDetector) -> None:
        assert (detector.engine, detector.model, detector.provider) == ("insightface", "tiny", "CPUExecutionProvider")
        assert detector.recogniser is not None
        assert (detector.recogniser.model, detector.recogniser.dimension) == ("tiny", EMBEDDING_SIZE)

    def test_a_face_has_its_box_where_it_is_and_all_attributes(self, detector: FaceDetector) -> None:
        (face,) = detector.analyze(squares((320, 288)))
        assert face.bbox == pytest.approx([320 - BOX / 2, 288 - BOX / 2, 320 + BOX / 2, 288 + BOX / 2], abs=1)
        assert face.kps.shape == (5, 2)
        assert face.embedding is not None
        assert face.embedding.shape == (EMBEDDING_SIZE,)
        assert face.embedding.dtype == np.float32
        assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)
        assert (face.gender, face.age, face.age_range) == ("M", 31, (31, 31))
        assert face.gender_probability == pytest.approx(np.exp(1) / (np.exp(1) + np.exp(-1)))
        assert not face.unavailable

    def test_a_picture_without_a_face_gives_an_empty_list(self, detector: FaceDetector) -> None:
        assert detector.analyze(squares()) == []
        assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []

    def test_extreme_shapes_do_not_break_it(self, detector: FaceDetector) -> None:
        assert detector.detect(np.zeros((1, 5000, 3), np.uint8)) == []
        assert detector.detect(np.zeros((5000, 1, 3), np.uint8)) == []

    def test_faces_come_largest_first_and_inside_the_picture(self, detector: FaceDetector) -> None:
        faces = detector.detect(squares((32, 320), (320, 288), (544, 576)))
        areas = [float(np.prod(face.bbox[2:] - face.bbox[:2])) for face in faces]
        assert len(faces) == 3
        assert areas == sorted(areas, reverse=True)
        assert all(face.bbox.min() >= 0 and face.bbox.max() <= 640 for face in faces)

    def test_the_threshold_of_a_call_is_that_calls_own(self, detector: FaceDetector) -> None:
        image = squares((320, 288), size=60)
        assert detector.detect(image) == []
        assert len(detector.detect(image, threshold=0.35)) == 1
        assert detector.detect(image) == []

    def test_detect_does_not_embed_and_says_so(self, detector: FaceDetector) -> None:
        (face,) = detector.detect(squares((320, 288)))
        assert face.embedding is None
        assert set(face.unavailable) == {"embedding", "gender", "age"}

    def test_points_in_one_place_are_refused(self, detector: FaceDetector) -> None:
        with pytest.raises(InvalidValueError):
            detector.embed(squares((320, 288)), np.full((5, 2), 7, np.float32))
        with pytest.raises(InvalidValueError):
            detector.embed(squares((320, 288)), np.full((5, 2), np.nan, np.float32))


def test_a_pack_without_recogniser_gives_reasons_instead_of_numbers(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    detector = load(write_pack(tmp_path / "p", recogniser=False, genderage=False), landmarks)
    (face,) = detector.analyze(squares((320, 288)))
    assert not detector.embeds
    assert (face.embedding, face.gender, face.age) == (None, None, None)
    assert set(face.unavailable) == {"embedding", "gender", "age"}
    with pytest.raises(ModelUnavailableError, match="no recognition model"):
        detector.embed(squares((320, 288)), face.kps)


def test_a_detector_of_fixed_size_and_a_recogniser_of_batch_one_serve_too(
    tmp_path: Path, landmarks: FaceLandmarks
) -> None:
    pack = write_pack(tmp_path / "fixed", detector=False, recogniser=False)
    onnx.save(square_detector(side=640), pack / "x.onnx")
    onnx.save(colour_recogniser(batch=1), pack / "y.onnx")
    faces = load(pack, landmarks).analyze(squares((96, 96), (320, 416)))
    assert len(faces) == 2
    assert all(face.embedding is not None for face in faces)


def test_landmark_models_of_a_pack_stay_unloaded(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    pack = write_pack(tmp_path / "p")
    onnx.save(landmark_model(), pack / "0.onnx")
    assert len(load(pack, landmarks).analyze(squares((320, 288)))) == 1


@pytest.mark.parametrize("content", [b"", b"this is no model", None])
def test_a_broken_model_file_is_named(tmp_path: Path, landmarks: FaceLandmarks, content: bytes | None) -> None:
    pack = write_pack(tmp_path / "p")
    whole = (pack / "b.onnx").read_bytes()
    (pack / "b.onnx").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModelUnavailableError, match=r"b\.onnx can't be read"):
        load(pack, landmarks)


def test_a_pack_without_detector_is_refused(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    with pytest.raises(ModelUnavailableError, match="no SCRFD detection model"):
        load(write_pack(tmp_path / "p", detector=False), landmarks)


def test_insightface_without_a_pack_names_the_folder_and_the_command(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    with pytest.raises(ModelUnavailableError) as refusal:
        load("buffalo_l", landmarks, engine="insightface", models_dir=tmp_path)
    assert str(tmp_path) in refusal.value.message
    assert "python main.py models pull buffalo_l" in refusal.value.message


def test_auto_takes_the_embedded_engine_until_the_pack_is_there(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    assert isinstance(load("mine", landmarks, models_dir=tmp_path), MediaPipeDetector)
    write_pack(tmp_path / "mine")
    assert isinstance(load("mine", landmarks, models_dir=tmp_path), InsightFaceDetector)
    assert isinstance(load("mine", landmarks, models_dir=tmp_path, engine="mediapipe"), MediaPipeDetector)


def test_cuda_that_does_not_run_is_an_error_and_auto_says_cpu(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    pack = write_pack(tmp_path / "p")
    if load(pack, landmarks, device="auto").provider == "CUDAExecutionProvider":
        pytest.skip("CUDA runs here")
    with pytest.raises(ModelUnavailableError, match="DEVICE=cuda"):
        load(pack, landmarks, device="cuda")
    with pytest.raises(ModelUnavailableError, match="CPU only"):
        load("none", landmarks, device="cuda", models_dir=tmp_path)


def test_the_embedded_engine_invents_nothing(landmarks: FaceLandmarks) -> None:
    detector = load("buffalo_l", landmarks, engine="mediapipe")
    assert not detector.embeds
    assert detector.analyze(np.zeros((64, 64, 3), np.uint8)) == []
    with pytest.raises(ModelUnavailableError, match="models pull buffalo_l"):
        detector.embed(np.zeros((64, 64, 3), np.uint8), np.zeros((5, 2), np.float32))


@pytest.mark.filterwarnings("ignore:.*estimate.* is deprecated:FutureWarning")
@pytest.mark.parametrize("size", [112, 224, 128])
def test_alignment_is_insightfaces_own(size: int) -> None:
    kps = np.array([[210, 305], [290, 310], [247, 352], [215, 400], [281, 404]], np.float32)
    expected = face_align.estimate_norm(kps, size)
    assert _similarity(kps, _arcface_points(size)) == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_one_session_per_model_never_takes_more_threads_than_it_was_given(
    tmp_path: Path, landmarks: FaceLandmarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[int] = []
    original = onnxruntime.InferenceSession.__init__

    def counting(self: Any, *args: Any, sess_options: Any = None, **kwargs: Any) -> None:
        created.append(sess_options.intra_op_num_threads)
        original(self, *args, sess_options=sess_options, **kwargs)

    monkeypatch.setattr(onnxruntime.InferenceSession, "__init__", counting)
    load(write_pack(tmp_path / "p"), landmarks, threads=2).analyze(squares((320, 288)))
    assert created == [2, 2, 2]


# Real photos, with a real pack and with the embedded engine.

IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float64)


def photo(name: str) -> RGBImage:
    image = cv2.imread(str(SHARED / "faces" / name))
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def photo_names() -> list[str]:
    return sorted(file.name for file in (SHARED / "faces").glob("*.jpg"))


def moved(points: FloatArray, matrix: Any) -> FloatArray:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def turned(image: RGBImage, box: FloatArray, degrees: float) -> tuple[RGBImage, Any]:
    """The picture turned about the face, which comes to lie in the middle, on grey."""
    side = int(np.hypot(*image.shape[:2]))
    centre = box.reshape(2, 2).mean(axis=0)
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), degrees, 1.0)
    matrix[:, 2] += side / 2 - centre
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderValue=(120, 120, 120)), np.uint8), matrix


def with_small_face(image: RGBImage, box: FloatArray, face_width: int, shape: tuple[int, int]) -> tuple[RGBImage, Any]:
    """The picture shrunk until its face is `face_width` px wide, in a corner of a grey picture of `shape`."""
    scale = face_width / float(box[2] - box[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((*shape, 3), 120, np.uint8)
    canvas[50 : 50 + small.shape[0], 70 : 70 + small.shape[1]] = small
    return canvas, np.array([[scale, 0, 70], [0, scale, 50]])


def close_up(image: RGBImage, box: FloatArray) -> tuple[RGBImage, Any]:
    x1, y1, x2, y2 = (int(v) for v in box)
    return np.ascontiguousarray(image[y1:y2, x1:x2]), np.array([[1.0, 0, -x1], [0, 1, -y1]])


@pytest.fixture(scope="module")
def real(landmarks: FaceLandmarks) -> FaceDetector:
    return load(TINY_PACK, landmarks)


@pytest.fixture(scope="module")
def embedded(landmarks: FaceLandmarks) -> FaceDetector:
    return load(TINY_PACK, landmarks, engine="mediapipe")


@needs_tiny_pack
class TestRealPhotos:
    def test_all_pairs_are_told_apart(self, real: FaceDetector) -> None:
        embeddings = {name: real.analyze(photo(name))[0].embedding for name in photo_names()}
        with (SHARED / "faces" / "pairs.csv").open() as file:
            pairs = list(csv.DictReader(file))
        same: list[float] = []
        different: list[float] = []
        for pair in pairs:
            a, b = embeddings[pair["file_x"]], embeddings[pair["file_y"]]
            assert a is not None
            assert b is not None
            (same if pair["same"] == "yes" else different).append(float(a @ b))
        assert len(same) + len(different) == 28
        # 0.49 is the pack's published operating point; measured here: at least 0.75 and at most 0.20.
        assert min(same) > 0.49 > max(different)
        assert min(same) - max(different) > 0.5

    @pytest.mark.parametrize("degrees", [30, -60, 90, 135, 180])
    def test_a_tilted_head_has_the_same_points_and_is_still_the_same_person(
        self, real: FaceDetector, degrees: float
    ) -> None:
        image = photo("img11.jpg")
        (upright,) = real.analyze(image)
        tilted, matrix = turned(image, upright.bbox, degrees)
        face = real.analyze(tilted)[0]
        eye_distance = np.linalg.norm(upright.kps[0] - upright.kps[1])
        assert np.linalg.norm(face.kps - moved(upright.kps, matrix), axis=1).max() < 0.2 * eye_distance
        assert face.embedding is not None
        assert upright.embedding is not None
        assert float(face.embedding @ upright.embedding) > 0.85

    @pytest.mark.parametrize("shape", [(480, 640), (720, 1280), (2000, 3000)])
    @pytest.mark.parametrize("name", ["img5.jpg", "img16.jpg", "img21.jpg"])
    def test_a_face_of_40_px_is_found(self, real: FaceDetector, name: str, shape: tuple[int, int]) -> None:
        image = photo(name)
        reference = real.detect(image)[0]
        picture, matrix = with_small_face(image, reference.bbox, 40, shape)
        (face,) = real.detect(picture)
        assert face.kps == pytest.approx(moved(reference.kps, matrix), abs=4)

    @pytest.mark.parametrize("engine", ["real", "embedded"])
    @pytest.mark.parametrize("name", ["img5.jpg", "img16.jpg", "img20.jpg", "img21.jpg"])
    def test_a_close_up_that_fills_the_frame_is_found(
        self, request: pytest.FixtureRequest, real: FaceDetector, engine: str, name: str
    ) -> None:
        image = photo(name)
        reference = real.detect(image)[0]
        picture, matrix = close_up(image, reference.bbox)
        (face,) = request.getfixturevalue(engine).detect(picture)
        eye_distance = float(np.linalg.norm(reference.kps[0] - reference.kps[1]))
        assert face.kps == pytest.approx(moved(reference.kps, matrix), abs=0.25 * eye_distance)

    @pytest.mark.parametrize("degrees", [0, 45, -60])
    def test_the_embedded_engine_finds_the_same_points(
        self, real: FaceDetector, embedded: FaceDetector, degrees: float
    ) -> None:
        image = photo("img22.jpg")
        reference = real.detect(image)[0]
        picture, matrix = turned(image, reference.bbox, degrees)
        (face,) = embedded.detect(picture)
        eye_distance = float(np.linalg.norm(reference.kps[0] - reference.kps[1]))
        assert face.kps == pytest.approx(moved(reference.kps, matrix), abs=0.25 * eye_distance)

    def test_64_calls_at_once_each_get_their_own_answer(self, real: FaceDetector) -> None:
        photos = {name: photo(name) for name in photo_names()}
        expected = {name: real.analyze(image)[0] for name, image in photos.items()}
        names = [name for _ in range(8) for name in photos]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda name: real.analyze(photos[name])[0], names))
        for name, face in zip(names, answers, strict=True):
            assert face.bbox == pytest.approx(expected[name].bbox, abs=0.5)
            assert face.embedding == pytest.approx(expected[name].embedding, abs=0.01)
