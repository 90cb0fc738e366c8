"""A page drawn by diffusion, on tiny models with random weights: what reaches the page, and what the options change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from diffusion_models import PipelineFiles, PipelineOptions
from face_detector import FaceDetector, MediaPipeDetector, Recogniser
from face_landmarks import FaceLandmarks
from generation import Generator
from identity_diffusion import IdentityFiles, IdentityPipeline, IdentityRequest
from instant_id_styler import InstantIdStyler, StylerOptions, face_vector
from personalizer import PersonalizedPage, PersonalizeOptions, Personalizer
from service.errors import ModelUnavailableError
from tests.diffusion_folders import make_face_adapter, make_plus_face
from tests.drawn_pages import PAGE_NAMES, drawn_page
from tests.face_packs import load, write_pack
from utils import FloatArray, RGBImage, as_float

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DEFAULT = PersonalizeOptions()
OPTIONS = StylerOptions(size=128, steps=4, candidates=3)


class Recognising(MediaPipeDetector):
    """The embedded detector, and an embedding that is the face's colours, coarsely."""

    recogniser = Recogniser("colours", 48, None, "made for this test", "0" * 64)  # type: ignore[assignment]

    def _embeddings(self, faces: Any) -> list[FloatArray]:
        return [self._colours(*face) for face in faces]

    @staticmethod
    def _colours(image_rgb: RGBImage, kps: FloatArray) -> FloatArray:
        (x1, y1), (x2, y2) = kps.min(axis=0).astype(int), kps.max(axis=0).astype(int) + 1
        face = image_rgb[max(y1, 0) : y2, max(x1, 0) : x2]
        rows = [part.mean(axis=(0, 1)) for row in np.array_split(face, 4) for part in np.array_split(row, 4, axis=1)]
        return as_float(np.concatenate(rows) - np.mean(rows))


@dataclass
class Atelier:
    """A personaliser with a diffusion styler, and how it was asked."""

    personalizer: Personalizer
    styler: InstantIdStyler
    asked: list[IdentityRequest]

    def draw(self, name: str = "kite_hill", **options: Any) -> PersonalizedPage:
        page = drawn_page(name)
        return self.personalizer.personalize(
            self.child,
            page,
            self.personalizer.find_slots(page),
            options=replace(DEFAULT, **options),
            engine="diffusion",
        )

    def __post_init__(self) -> None:
        self.child = self.personalizer.prepare_identity(data.astronaut())
        self.classic = {
            name: self.personalizer.personalize(
                self.child, drawn_page(name), self.personalizer.find_slots(drawn_page(name)), options=DEFAULT
            )
            for name in PAGE_NAMES
        }


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory, landmarks: FaceLandmarks) -> FaceDetector:
    return load(write_pack(tmp_path_factory.mktemp("packs") / "antelopev2", dimension=512), landmarks)


def atelier(landmarks: FaceLandmarks, detector: FaceDetector, files: IdentityFiles, pack: FaceDetector) -> Atelier:
    asked: list[IdentityRequest] = []

    class Listening(IdentityPipeline):
        def check(self, request: IdentityRequest) -> list[str]:
            asked.append(request)
            return super().check(request)

    worker = Generator(lambda: Listening.load(files, PipelineOptions(device="cpu")), batch=4, max_queue=4)
    styler = InstantIdStyler(worker, replace(OPTIONS, kind=files.kind), faces=lambda: pack)
    return Atelier(Personalizer(detector=detector, landmarks=landmarks, diffusion=styler), styler, asked)


@pytest.fixture(scope="module")
def instantid(diffusion_models: Path, sdxl: Path, landmarks: FaceLandmarks, pack: FaceDetector) -> Iterator[Atelier]:
    folder = diffusion_models / "styler-instantid"
    files = IdentityFiles("instantid", PipelineFiles(sdxl), make_face_adapter(folder, sdxl))
    made = atelier(landmarks, Recognising(landmarks, det_threshold=0.35, missing_pack="buffalo_l"), files, pack)
    yield made
    made.styler.worker.close()


@pytest.fixture(scope="module")
def plus_face(diffusion_models: Path, sdxl: Path, landmarks: FaceLandmarks) -> Iterator[Atelier]:
    files = IdentityFiles("ip-adapter", PipelineFiles(sdxl), make_plus_face(diffusion_models / "styler-face", sdxl))
    embedded = MediaPipeDetector(landmarks, det_threshold=0.35, missing_pack="buffalo_l")
    made = atelier(landmarks, embedded, files, embedded)
    yield made
    made.styler.worker.close()


@pytest.mark.parametrize("mode", ["face", "head"])
@pytest.mark.parametrize("name", PAGE_NAMES)
def test_the_head_is_drawn_anew_and_the_page_around_it_stays_bit_for_bit(
    instantid: Atelier, name: str, mode: str
) -> None:
    result, page = instantid.draw(name, mode=mode), drawn_page(name)
    assert result.engine == "diffusion"
    np.testing.assert_array_equal(result.image_rgb[result.mask == 0], page[result.mask == 0])
    classic = instantid.classic[name].image_rgb
    assert np.abs(result.image_rgb.astype(int) - classic)[result.mask > 0].mean() > 3
    assert {"diffusion", "blend"} <= result.timings_ms.keys()


def test_the_best_of_several_is_kept_and_can_be_had_again_by_its_seed(instantid: Atelier) -> None:
    result = instantid.draw(seed=5)
    assert result.diffusion is not None
    assert (result.diffusion.candidates, result.diffusion.identity, result.diffusion.steps) == (3, "instantid", 2)
    options = replace(instantid.styler.options, candidates=1)
    single = InstantIdStyler(instantid.styler.worker, options, faces=instantid.styler._faces)
    detector, landmarks = instantid.personalizer._detector, instantid.personalizer._landmarks
    alone = Personalizer(detector=detector, landmarks=landmarks, diffusion=single)
    page = drawn_page("kite_hill")
    similarities = {}
    for seed in (5, 6, 7):
        again = alone.personalize(
            instantid.child, page, alone.find_slots(page), options=PersonalizeOptions(seed=seed), engine="diffusion"
        )
        assert again.diffusion is not None
        assert again.diffusion.similarity is not None
        similarities[seed] = again.diffusion.similarity
        if seed == result.diffusion.seed:
            assert np.abs(again.image_rgb.astype(int) - result.image_rgb).max() <= 2
    assert len(set(similarities.values())) == 3
    assert similarities[result.diffusion.seed] == max(similarities.values())
    assert result.diffusion.similarity == pytest.approx(max(similarities.values()), abs=0.001)
    alone.close()


@pytest.mark.parametrize("change", [{"seed": 9}, {"strength": 1.0}, {"likeness": 0.1}, {"style": "comic"}])
def test_seed_strength_likeness_and_style_have_an_effect(instantid: Atelier, change: dict[str, Any]) -> None:
    base, changed = instantid.draw().image_rgb, instantid.draw(**change).image_rgb
    assert np.abs(base.astype(int) - changed).max() > 5
    np.testing.assert_array_equal(instantid.draw().image_rgb, base)


def test_the_model_is_told_who_where_and_how(instantid: Atelier) -> None:
    instantid.draw(likeness=0.64, strength=0.75)
    request = instantid.asked[-1]
    assert request.prompt.startswith("portrait of a young man, children's picture book illustration, ink outlines")
    assert request.identity_scale == pytest.approx(0.8)
    assert (request.strength, request.n, request.side) == (0.75, 3, 128)
    assert request.keypoints is not None
    inside = request.mask > 0
    colours = {tuple(colour) for colour in request.keypoints[inside].tolist()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)} <= colours
    np.testing.assert_array_equal(request.person, face_vector(instantid.styler._faces(), instantid.child))
    assert np.linalg.norm(request.person) != pytest.approx(1, abs=0.01)  # InstantID wants the vector's own length


def test_without_a_recogniser_one_picture_of_the_photo_is_drawn(plus_face: Atelier) -> None:
    result = plus_face.draw()
    assert result.diffusion is not None
    assert (result.diffusion.identity, result.diffusion.candidates) == ("ip-adapter", 1)
    assert result.diffusion.similarity is None
    assert result.quality["identity_similarity"] is None
    request = plus_face.asked[-1]
    assert request.keypoints is None
    assert request.person.shape == (448, 448, 3)
    assert request.prompt.startswith("portrait of a child, ")
    assert np.abs(result.image_rgb.astype(int) - plus_face.classic["kite_hill"].image_rgb).max() > 5


def test_without_strength_the_page_is_the_classical_one_nearly(instantid: Atelier) -> None:
    result = instantid.draw(strength=0.0)
    page = drawn_page("kite_hill")
    classic = instantid.personalizer.personalize(
        instantid.child, page, instantid.personalizer.find_slots(page), options=replace(DEFAULT, strength=0.0)
    )
    assert np.abs(result.image_rgb.astype(int) - classic.image_rgb)[result.mask > 0].mean() < 12
    assert result.diffusion is not None
    assert result.diffusion.steps == 0


def test_progress_is_told_in_the_callers_thread_and_can_end_the_work(
    instantid: Atelier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instant_id_styler.POLL_S", 0.001)
    page, told = drawn_page("kite_hill"), []

    class GivenUpError(Exception):
        pass

    def draw(progress: Any) -> PersonalizedPage:
        personalizer = instantid.personalizer
        return personalizer.personalize(
            instantid.child, page, personalizer.find_slots(page), options=DEFAULT, engine="diffusion", progress=progress
        )

    def note(done: float) -> None:
        told.append((done, threading.current_thread()))

    draw(note)
    assert told
    assert {thread for _, thread in told} == {threading.current_thread()}
    assert all(0 <= done <= 1 for done, _ in told)

    def give_up(_: float) -> None:
        raise GivenUpError

    with pytest.raises(GivenUpError):
        draw(give_up)
    assert instantid.draw().engine == "diffusion"


def test_a_recogniser_that_instantid_does_not_read_is_refused(
    instantid: Atelier, landmarks: FaceLandmarks, tmp_path: Path
) -> None:
    other = load(write_pack(tmp_path / "other"), landmarks)
    with pytest.raises(ModelUnavailableError, match="DIFFUSION_FACE_MODEL=antelopev2"):
        face_vector(other, instantid.child)


def test_without_a_styler_diffusion_is_not_pretended(landmarks: FaceLandmarks) -> None:
    detector = MediaPipeDetector(landmarks, det_threshold=0.35, missing_pack="buffalo_l")
    personalizer = Personalizer(detector=detector, landmarks=landmarks)
    page = drawn_page("kite_hill")
    child = personalizer.prepare_identity(data.astronaut())
    with pytest.raises(ModelUnavailableError):
        personalizer.personalize(child, page, personalizer.find_slots(page), options=DEFAULT, engine="diffusion")
    personalizer.close()
