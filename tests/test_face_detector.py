from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from insightface.utils import face_align

from face_detector import FaceDetector, MediaPipeDetector
from face_landmarks import FaceLandmarks
from face_points import arcface_points, similarity
from insightface_pack import InsightFaceDetector
from service.errors import InvalidValueError, ModelUnavailableError
from tests.face_packs import (
    BOX,
    EMBEDDING_SIZE,
    SQUARE,
    colour_recogniser,
    landmark_model,
    load,
    square_detector,
    write_pack,
)
from utils import RGBImage


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
    assert similarity(kps, arcface_points(size)) == pytest.approx(expected, rel=1e-3, abs=1e-2)


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
