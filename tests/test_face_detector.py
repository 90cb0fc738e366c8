from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from insightface.app import FaceAnalysis
from insightface.utils import face_align

from face_detector import Face, FaceDetector, MediaPipeDetector, sight
from face_landmarks import FaceLandmarks
from face_points import arcface_points, similarity
from insightface_pack import GPU_BATCH, InsightFaceDetector, RunPolicy
from service.errors import InvalidValueError, ModelUnavailableError
from service.model_store import load_manifest
from tests.face_packs import (
    BOX,
    EMBEDDING_SIZE,
    SQUARE,
    brightness_genderage,
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

    def test_only_what_is_asked_for_is_recognised(self, detector: FaceDetector) -> None:
        image = squares((320, 288))
        ((face,),) = detector.recognise([(image, detector.detect(image))], attributes=False)
        assert face.embedding is not None
        assert (face.gender, face.age) == (None, None)
        assert set(face.unavailable) == {"gender", "age"}

    def test_64_different_pictures_at_once_each_get_their_own_answer(self, detector: FaceDetector) -> None:
        rng = np.random.default_rng(1)
        places = [(int(x) * 32, int(y) * 32) for x, y in rng.integers(4, 16, (64, 2))]
        pictures = [
            squares(place) // 255 * rng.integers(180, 256, 3).astype(np.uint8) for place in places
        ]  # each of its own colour
        alone = [detector.analyze(picture)[0] for picture in pictures]
        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(lambda picture: detector.analyze(picture)[0], pictures))
        assert len({face.embedding.tobytes() for face in alone if face.embedding is not None}) > 60
        for a, b, place in zip(alone, together, places, strict=True):
            assert b.bbox.tolist() == a.bbox.tolist()
            assert b.kps[2] == pytest.approx(place, abs=2)
            assert b.embedding == pytest.approx(a.embedding, abs=1e-6)
            assert (b.gender, b.age) == (a.gender, a.age)

    @pytest.mark.filterwarnings("ignore:.*estimate.* is deprecated:FutureWarning")
    def test_insightfaces_own_application_gives_the_same(self, tmp_path: Path, landmarks: FaceLandmarks) -> None:
        pack = write_pack(tmp_path / "models" / "tiny")
        theirs = FaceAnalysis(name="tiny", root=str(tmp_path), providers=["CPUExecutionProvider"])
        theirs.prepare(ctx_id=-1)
        image = squares((320, 288), (128, 480)) // 255 * np.array([250, 220, 240], np.uint8)
        image[200:280] = image[200:280] // 4 * 3
        image = image[:569, :600]
        ours = sorted(load(pack, landmarks).analyze(image), key=lambda face: face.bbox[0])
        expected = sorted(theirs.get(np.ascontiguousarray(image[:, :, ::-1])), key=lambda face: face.bbox[0])
        assert len(ours) == len(expected) == 2
        for face, other in zip(ours, expected, strict=True):
            assert face.bbox == pytest.approx(np.clip(other.bbox, 0, [600, 569] * 2), abs=0.01)
            assert face.kps == pytest.approx(other.kps, abs=0.01)
            assert face.embedding is not None
            assert float(face.embedding @ other.normed_embedding) > 0.9999
            assert (face.gender, face.age) == ("FM"[other.gender], other.age)


def test_the_age_comes_with_the_spread_of_its_estimates(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    pack = write_pack(tmp_path / "p", genderage=False)
    onnx.save(brightness_genderage(), pack / "c.onnx")
    (face,) = load(pack, landmarks).analyze(squares((320, 288)))
    # The square fills (96 / 210)^2 of the model's crop, and more or less of a tighter or a wider one.
    age = 100 * (SQUARE / BOX / 1.5) ** 2
    assert face.age == pytest.approx(age, abs=1)
    assert face.age_range == pytest.approx((age / 1.1**2, age / 0.9**2), abs=1.5)
    assert face.gender == "F"
    assert face.gender_probability == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)


def test_an_embedding_belongs_to_weights_and_their_threshold(
    tmp_path: Path, landmarks: FaceLandmarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = write_pack(tmp_path / "mine")
    unknown = load(pack, landmarks).recogniser
    assert unknown is not None
    assert unknown.sha256 == hashlib.sha256((pack / "b.onnx").read_bytes()).hexdigest()
    assert unknown.threshold is None
    assert "FACE_MATCH_THRESHOLD" in unknown.threshold_source
    known = replace(load_manifest()["buffalo_l"], files={"x.onnx": unknown.sha256})
    monkeypatch.setattr("service.model_store.load_manifest", lambda: {"buffalo_l": known})
    published = load(pack, landmarks).recogniser
    assert published is not None
    assert (published.model, published.threshold) == ("mine", known.threshold)
    assert published.threshold_source == known.threshold_source
    own = load(pack, landmarks, match_threshold=0.3).recogniser
    assert own is not None
    assert (own.threshold, own.threshold_source) == (0.3, "FACE_MATCH_THRESHOLD")


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("CPUExecutionProvider", [(384, 640), (128, 128), (736, 1280)]),
        ("CUDAExecutionProvider", [(640, 640), (128, 128), (1280, 1280)]),
    ],
)
def test_a_picture_is_seen_in_two_sizes_and_closely_if_nothing_is_found(
    tmp_path: Path, landmarks: FaceLandmarks, provider: str, expected: list[tuple[int, int]]
) -> None:
    detector = load(write_pack(tmp_path / "p"), landmarks)
    assert isinstance(detector, InsightFaceDetector)
    detector.provider = provider
    seen: list[tuple[int, ...]] = []
    forward = detector._detector.forward

    def recording(canvas_bgr: RGBImage, threshold: float) -> Any:
        seen.append(canvas_bgr.shape[:2])
        return forward(canvas_bgr, threshold)

    detector._detector.forward = recording
    image = np.zeros((720, 1280, 3), np.uint8)
    assert detector.detect(image) == []
    assert seen == expected
    seen.clear()
    image[288:480, 480:672] = 255
    assert len(detector.detect(image)) == 1
    assert seen == expected[:2]


def test_a_gpu_sees_only_two_shapes_of_batch(tmp_path: Path, landmarks: FaceLandmarks) -> None:
    detector = load(write_pack(tmp_path / "p"), landmarks)
    assert isinstance(detector, InsightFaceDetector)
    image = squares((320, 288)) // 255 * np.array([250, 220, 240], np.uint8)
    faces = detector.detect(image)
    detector.batch = GPU_BATCH
    shapes: list[int] = []
    run = detector._arcface.session.run

    def recording(names: Any, feed: dict[str, Any]) -> Any:
        shapes.extend(len(blob) for blob in feed.values())
        return run(names, feed)

    detector._arcface.session.run = recording
    for count, expected in ((1, [1]), (2, [GPU_BATCH]), (GPU_BATCH + 1, [1, GPU_BATCH])):
        shapes.clear()
        known = detector.recognise([(image, faces)] * count, attributes=False)
        assert sorted(shapes) == expected
        vectors = [face.embedding for (face,) in known]
        assert len(vectors) == count
        assert all(vector == pytest.approx(vectors[0], abs=1e-6) for vector in vectors)


class UprightOnly(FaceDetector):
    """Finds a red eye with a green one to its right, and nothing else."""

    engine, model, provider, recogniser, missing = "test", "test", "CPU", None, {}

    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        del threshold
        eyes = [np.argwhere(image_rgb[:, :, channel] == 255) for channel in (0, 1)]
        (red_y, red_x), (green_y, green_x) = (eye.mean(axis=0) + 0.5 for eye in eyes)
        if green_x - red_x < 20:
            return []
        nose = ((red_x + green_x) / 2, red_y + 20)
        kps = np.array([(red_x, red_y), (green_x, green_y), nose, nose, nose], np.float32)
        box = np.array([red_x - 10, red_y - 10, green_x + 10, red_y + 50], np.float32)
        return [Face(box, kps, 0.9)]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_picture_without_a_face_is_turned_until_there_is_one(rotation: int) -> None:
    upright = np.zeros((120, 200, 3), np.uint8)
    upright[30:34, 60:64, 0] = upright[30:34, 100:104, 1] = 255
    (expected,) = UprightOnly().detect(upright)
    turns = rotation // 90  # so that a turn by `rotation` clockwise makes it upright
    picture = np.ascontiguousarray(np.rot90(upright, turns))
    seen = sight(UprightOnly(), picture)
    assert seen.rotation_applied == rotation
    (face,) = seen.faces
    assert np.argwhere(picture[:, :, 0] == 255).mean(axis=0)[::-1] + 0.5 == pytest.approx(face.kps[0])
    assert np.argwhere(picture[:, :, 1] == 255).mean(axis=0)[::-1] + 0.5 == pytest.approx(face.kps[1])
    sides, expected_sides = (sorted(box[2:] - box[:2]) for box in (face.bbox, expected.bbox))
    assert sides == pytest.approx(expected_sides)
    assert (face.kps >= face.bbox[:2]).all()
    assert (face.kps <= face.bbox[2:]).all()


def test_a_large_picture_on_its_side_has_its_faces_in_its_own_pixels() -> None:
    upright = np.zeros((1200, 2000, 3), np.uint8)
    upright[300:340, 600:640, 0] = upright[300:340, 1000:1040, 1] = 255
    seen = sight(UprightOnly(), np.ascontiguousarray(np.rot90(upright)))
    assert seen.rotation_applied == 90
    assert seen.faces[0].kps[0] == pytest.approx([320, 2000 - 620])


def test_nothing_found_in_any_turn_is_no_face(detector: FaceDetector) -> None:
    seen = sight(detector, squares())
    assert (seen.faces, seen.rotation_applied) == ([], 0)


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


@pytest.mark.parametrize(("cores", "threads", "runs"), [(1, 1, 1), (2, 2, 2), (4, 4, 2), (6, 4, 2), (16, 4, 5)])
def test_one_run_more_than_fills_the_cores_is_let_in(cores: int, threads: int, runs: int) -> None:
    assert RunPolicy.of(cores) == RunPolicy(threads, runs)
