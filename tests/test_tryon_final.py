"""Final try-ons: which pictures of an image model are believed, what of them is taken, and what a job makes of it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from body_pose import BodyPoses
from face_landmarks import FaceBox, FaceLandmarks
from main import create_app
from tests import drawn_garments as drawn
from tests.conftest import encoded, settings_in
from tests.fake_image_model import (
    KEY,
    Answer,
    FakeImageModel,
    blocked_prompt,
    fails,
    held,
    no_picture,
    picture,
    say,
    serving,
)
from tests.given_poses import dressing_mannequins
from tests.servers import wait_for
from tryon_final import FinalPicture
from tryon_pipeline import TryOnDraft, TryOnEngines, TryOnOptions, draft
from utils import RGBImage

ROUTE = "/api/tryon"
GARMENT = drawn.top("tshirt", colour=(40, 150, 90))
PHOTO, POSE = drawn.mannequin()


MOVED = {"the face is not where it is in the photo", "the person stands otherwise than in the photo"}
"""Which of both is said depends on what is seen of a drawn figure."""


@pytest.fixture(scope="module")
def engines(landmarks: FaceLandmarks) -> Iterator[TryOnEngines]:
    """The real ones: what they see of a drawn figure is enough to compare it with another."""
    poses = BodyPoses(pool_size=1)
    yield TryOnEngines(poses, landmarks.person_mask)
    poses.close()


@pytest.fixture(scope="module")
def made(engines: TryOnEngines) -> TryOnDraft:
    return draft(PHOTO, GARMENT, TryOnOptions(), engines=engines)


@pytest.fixture(scope="module")
def final(made: TryOnDraft, engines: TryOnEngines, landmarks: FaceLandmarks) -> FinalPicture:
    return FinalPicture(PHOTO, GARMENT, made, TryOnOptions(), engines, landmarks)


def like_a_model(image: RGBImage, gain: tuple[float, float, float] = (1.05, 1.0, 0.96)) -> RGBImage:
    """The picture as a model gives it back: compressed, softer, and a little otherwise exposed."""
    file = io.BytesIO(encoded(Image.fromarray(image), "JPEG", quality=80))
    soft = cv2.GaussianBlur(np.asarray(Image.open(file)), (0, 0), 0.7)
    exposed: RGBImage = np.clip(soft * np.array(gain), 0, 255).astype(np.uint8)
    return exposed


def moved(image: RGBImage, right: float, down: float = 0, scale: float = 1) -> RGBImage:
    """Shifted by shares of the width and height, and enlarged."""
    height, width = image.shape[:2]
    matrix = np.array([[scale, 0, right * width], [0, scale, down * height]], np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def before_another_wall(image: RGBImage) -> RGBImage:
    assert POSE.mask is not None
    share = POSE.mask[..., None]
    return (image * share + np.array([60, 110, 60]) * (1 - share)).astype(np.uint8)


def with_another_face(image: RGBImage) -> RGBImage:
    changed = image.copy()
    changed[75:165, 262:338] = changed[75:165, 262:338][::-1]
    return changed


# ---- which pictures are believed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [(1.0, 1.0, 1.0), (1.06, 1.0, 0.95), (0.88, 0.88, 0.88)])
def test_the_draft_drawn_anew_is_believed(final: FinalPicture, made: TryOnDraft, gain: Any) -> None:
    assert final.fault(like_a_model(made.image_rgb, gain)) is None


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (lambda _: like_a_model(PHOTO), {"the person wears the clothes of the photo"}),
        (before_another_wall, {"its background is not the photo's"}),
        (lambda draft: moved(draft, 0.05), MOVED),
        (lambda draft: moved(draft, -0.1, -0.1, 1.2), MOVED),
        (lambda draft: np.full_like(draft, 128), {"it shows nobody"}),
        (lambda draft: np.ascontiguousarray(draft[::-1]), MOVED | {"it shows nobody"}),
        (lambda draft: np.hstack([draft[:, 150:450], draft[:, 150:450]]), {"it shows several people"}),
    ],
    ids=["old clothes", "another place", "shifted", "enlarged", "nobody", "upside down", "two"],
)
def test_another_picture_is_not(
    final: FinalPicture, made: TryOnDraft, change: Callable[[RGBImage], RGBImage], reasons: set[str]
) -> None:
    assert final.fault(change(made.image_rgb)) in reasons


def test_another_face_is_not(final: FinalPicture, made: TryOnDraft) -> None:
    assert final.fault(with_another_face(made.image_rgb)) in {
        "it shows another face", "the face is not where it is in the photo", "its face can't be found",
    }  # fmt: skip


# ---- what is taken of them ----------------------------------------------------------------------------------------


def test_face_and_background_are_the_photos_own_pixels(final: FinalPicture, made: TryOnDraft) -> None:
    result = final.restore(like_a_model(made.image_rgb))
    same = (result == PHOTO).all(axis=2)
    assert POSE.mask is not None
    near = cv2.dilate(((POSE.mask > 0.05) | (made.changed > 0)).astype(np.uint8), np.ones((91, 91), np.uint8)) > 0
    assert same[~near].all()
    assert (~near).mean() > 0.2
    assert same[95:150, 280:320].all(), "eyes to mouth"
    trunk = result[300:440, 260:340].astype(int)
    assert (trunk[..., 1] > trunk[..., 0] + 20).mean() > 0.9, "the green garment"


def test_what_need_not_be_preserved_is_the_models(
    made: TryOnDraft, engines: TryOnEngines, landmarks: FaceLandmarks
) -> None:
    options = TryOnOptions(preserve_face=False, preserve_background=False)
    final = FinalPicture(PHOTO, GARMENT, made, options, engines, landmarks)
    answer = like_a_model(made.image_rgb)
    assert (final.restore(answer) == answer).all()
    assert "face" not in final.prompt.partition("Keep ")[2].partition("exactly")[0]


def test_the_exposure_becomes_the_photos(final: FinalPicture, made: TryOnDraft) -> None:
    dark = np.clip(made.image_rgb * 0.9, 0, 255).astype(np.uint8)
    trunk = (slice(300, 440), slice(260, 340))
    before = abs(float(dark[trunk].mean()) - float(made.image_rgb[trunk].mean()))
    after = abs(float(final.restore(dark)[trunk].mean()) - float(made.image_rgb[trunk].mean()))
    assert after < 0.2 * before


class NoFaces:
    """Finds none."""

    def detect(self, _: RGBImage) -> list[FaceBox]:
        return []


def test_a_photo_without_a_face_is_no_obstacle(made: TryOnDraft, engines: TryOnEngines) -> None:
    """Product photos end at the mouth."""
    final = FinalPicture(PHOTO, GARMENT, made, TryOnOptions(), engines, NoFaces())
    answer = like_a_model(made.image_rgb)
    assert final.fault(answer) is None
    assert (final.restore(answer)[:10] == PHOTO[:10]).all()


def test_the_model_is_asked_for_the_draft_first_and_told_how_freely(
    final: FinalPicture, made: TryOnDraft, engines: TryOnEngines, landmarks: FaceLandmarks
) -> None:
    assert [image.shape for image in final.images] == [PHOTO.shape, GARMENT.shape, PHOTO.shape]
    assert (final.images[0] == made.image_rgb).all()
    prompts = {
        FinalPicture(PHOTO, GARMENT, made, TryOnOptions(realism_level=level), engines, landmarks).prompt
        for level in (1, 2, 3, 4, 5)
    }
    assert len(prompts) == 5
    assert all("tshirt" in prompt for prompt in prompts)


# ---- jobs ---------------------------------------------------------------------------------------------------------


@contextmanager
def service(tmp_path: Path, server: FakeImageModel, **changes: Any) -> Iterator[TestClient]:
    """The application with an image model on this machine."""
    settings = settings_in(
        tmp_path, nano_banana_api_key=KEY, nano_banana_api_url=server.url, nano_banana_models="first-image", **changes
    )
    with TestClient(create_app(settings)) as client, dressing_mannequins(client):
        yield client


@pytest.fixture
def server() -> Iterator[FakeImageModel]:
    with serving() as fake:
        yield fake


def submit(client: TestClient, **fields: Any) -> str:
    files = {"user_image": encoded(Image.fromarray(PHOTO)), "product_image": encoded(Image.fromarray(GARMENT))}
    accepted = client.post(f"{ROUTE}/submit", files=files, data={"garment_type": "tshirt", **fields})
    assert accepted.status_code == 202, accepted.text
    job_id: str = accepted.json()["job_id"]
    return job_id


def status_of(client: TestClient, job_id: str) -> dict[str, Any]:
    status: dict[str, Any] = client.get(f"{ROUTE}/status/{job_id}").json()
    return status


def finished(client: TestClient, job_id: str) -> dict[str, Any]:
    wait_for(lambda: status_of(client, job_id)["status"] in {"DONE", "FAILED", "CANCELLED"})
    return status_of(client, job_id)


def result_of(client: TestClient, job_id: str) -> RGBImage:
    return np.asarray(Image.open(io.BytesIO(client.get(f"{ROUTE}/result/{job_id}").content)).convert("RGB"))


def test_a_final_try_on_is_the_models_picture_with_the_photos_face_and_background(
    tmp_path: Path, server: FakeImageModel
) -> None:
    with service(tmp_path, server) as client:
        job = submit(client, seed="7")
        status = finished(client, job)
        result = result_of(client, job)
        assert 'tryons_total{outcome="generated"}' in client.get("/metrics").text
    assert (status["status"], status["provider_fallback"]) == ("DONE", False), status
    details = status["details"]
    assert details["generated_by"]["model"] == "first-image"
    assert details["generated_by"]["attempts"] == 1
    assert {"generation", "storage"} <= details["timings_ms"].keys()
    red = np.abs(result.astype(int) - (220, 20, 20)).max(axis=2) < 30
    assert red[410:450, 290:310].mean() > 0.9, "the model's square"
    assert (result[:10] == PHOTO[:10]).all(), "the wall above"
    (request,) = server.requests
    assert len(request.pictures) == 3
    assert request.body["generationConfig"]["seed"] == 7


NO_PICTURE: dict[str, tuple[list[Answer], str]] = {
    "blocked": ([blocked_prompt()], "CONTENT_BLOCKED"),
    "words": ([no_picture("STOP", "I can't do that")], "NO_IMAGE"),
    "quota": ([fails(429, "RESOURCE_EXHAUSTED", "limit: 0")], "QUOTA_EXHAUSTED"),
    "rubbish": ([say(200, b"<html>")], "BAD_RESPONSE"),
    "nobody": ([picture(lambda image: Image.new("RGB", image.size, (90, 90, 90)))], "CHECK_FAILED"),
    "elsewhere": ([picture(lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM))], "CHECK_FAILED"),
}


@pytest.mark.parametrize("case", NO_PICTURE)
def test_without_a_picture_that_can_be_used_the_draft_is_given_and_says_why(
    tmp_path: Path, server: FakeImageModel, case: str
) -> None:
    answers, reason = NO_PICTURE[case]
    # The mannequin's poses are given and fit every picture of its shape: here the real ones must look.
    settings = settings_in(
        tmp_path, nano_banana_api_key=KEY, nano_banana_api_url=server.url, nano_banana_models="first-image"
    )
    server.answers.extend(answers * 2)
    with TestClient(create_app(settings)) as client:
        job = submit(client, max_retries="0")
        status = finished(client, job)
        draft = finished(client, submit(client, mode="draft"))
        assert (result_of(client, job) == result_of(client, draft["job_id"])).all()
        strict = finished(client, submit(client, max_retries="0", allow_fallback="false"))
        assert f'tryons_total{{outcome="{reason}"}} 1' in client.get("/metrics").text
    assert (status["status"], status["provider_fallback"]) == ("DONE", True)
    assert status["details"]["provider_fallback_reason"] == reason
    assert status["details"]["provider_fallback_detail"]
    assert (strict["status"], strict["error_code"]) == ("FAILED", "NANO_API_ERROR")
    assert strict["error_message"]


def test_what_the_operator_forbids_is_never_sent(tmp_path: Path, server: FakeImageModel) -> None:
    with service(tmp_path, server, allow_external_image_api=False) as client:
        status = finished(client, submit(client))
    assert status["details"]["provider_fallback_reason"] == "FORBIDDEN"
    assert server.connections == 0


def test_a_draft_is_never_sent(tmp_path: Path, server: FakeImageModel) -> None:
    with service(tmp_path, server) as client:
        finished(client, submit(client, mode="draft"))
        files = {"user_image": encoded(Image.fromarray(PHOTO)), "product_image": encoded(Image.fromarray(GARMENT))}
        assert client.post(ROUTE, files=files).status_code == 200
    assert server.connections == 0


def test_a_cancelled_job_closes_its_connection(tmp_path: Path, server: FakeImageModel) -> None:
    never = threading.Event()
    server.answers.append(held(never))
    with service(tmp_path, server) as client:
        job = submit(client)
        wait_for(lambda: server.requests)
        wait_for(lambda: status_of(client, job)["stage"] == "generation")
        assert client.delete(f"{ROUTE}/{job}").json()["outcome"] == "cancelling"
        assert finished(client, job)["status"] == "CANCELLED"
        never.set()
        wait_for(lambda: server.open_connections == 0)
