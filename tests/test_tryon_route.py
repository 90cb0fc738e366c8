"""The try-on routes: every way to send a request, the seed's words in every answer, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from main import create_app
from service.auth import SERVICE_OWNER
from service.errors import NotFoundError, WarpFailedError
from service.jobs import Jobs
from service.tryon import TryOn
from service.tryon_jobs import TryOnTools
from tests import drawn_garments as drawn
from tests.conftest import encoded, settings_in
from tests.given_poses import dressing_mannequins, mannequin_tryon
from tests.servers import wait_for
from tests.test_fetch import picture_server, whole
from tryon_pipeline import STAGES
from tryon_quality import TERMS

ROUTE = "/api/tryon"
SEED_STATUS_KEYS = {
    "job_id", "status", "result_image_url", "quality_score", "retry_count", "created_at", "completed_at",
}  # fmt: skip


@pytest.fixture(scope="module")
def person() -> bytes:
    return encoded(Image.fromarray(drawn.mannequin()[0]))


@pytest.fixture(scope="module")
def garment() -> bytes:
    return encoded(Image.fromarray(drawn.top("tshirt")))


@pytest.fixture(scope="module")
def tools(app_client: TestClient) -> Iterator[TryOnTools]:
    with dressing_mannequins(app_client) as tools:
        yield tools


@pytest.fixture
def client(app_client: TestClient, tools: TryOnTools) -> TestClient:
    assert tools
    return app_client


@pytest.fixture
def files(person: bytes, garment: bytes) -> dict[str, Any]:
    return {"user_image": ("person.jpg", person), "product_image": ("shirt", garment)}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def picture(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def finished(client: TestClient, accepted: Any) -> dict[str, Any]:
    """The status of a job that was handed in, once it has finished."""
    assert accepted.status_code == 202, accepted.text
    url = f"{ROUTE}/status/{accepted.json()['job_id']}"
    wait_for(lambda: client.get(url).json()["status"] in {"DONE", "FAILED", "CANCELLED"})
    status: dict[str, Any] = client.get(url).json()
    return status


# ---- a draft at once ----------------------------------------------------------------------------------------------


def test_a_draft_is_answered_at_once_with_every_term_of_its_score(client: TestClient, files: dict[str, Any]) -> None:
    answer = client.post(ROUTE, files=files, data={"garment_type": "tshirt"})
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["status"], body["mode"], body["garment_type"]) == ("DONE", "draft", "tshirt")
    assert (body["width"], body["height"]) == drawn.SIZE
    assert body["quality_score"] == body["quality"]["score"] > 0.7
    assert body["quality"]["terms"].keys() == TERMS.keys()
    assert all(
        {"value", "score", "weight", "good", "bad", "gate"} <= term.keys() for term in body["quality"]["terms"].values()
    )
    assert body["retry_count"] == len(body["attempts"]) - 1
    assert body["timings_ms"].keys() == set(STAGES)
    assert "alignment;dur=" in answer.headers["Server-Timing"]
    stored = client.get(body["result_image_url"])
    assert picture(stored.content).shape == (*drawn.SIZE[::-1], 3)
    assert client.delete(body["result_image_url"]).json() == {"success": True}


def test_accept_gives_the_picture_itself_and_stores_nothing(
    client: TestClient, files: dict[str, Any], service_folder: Path
) -> None:
    before = sorted((service_folder / "outputs").iterdir())
    answer = client.post(ROUTE, files=files, headers={"Accept": "image/webp"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    assert float(answer.headers["X-Quality-Score"]) > 0.7
    assert sorted((service_folder / "outputs").iterdir()) == before


def test_files_base64_json_and_urls_give_the_same_bytes(client: TestClient, person: bytes, garment: bytes) -> None:
    accept = {"Accept": "image/png"}
    texts = {"user_image": f"data:image/png;base64,{text(person)}", "product_image": text(garment)}
    bodies: list[dict[str, Any]] = [
        {"files": {"user_image": person, "product_image": garment}},
        {"json": texts},
        {"files": {"user_image": person}, "data": {"product_image": texts["product_image"]}},
    ]
    answers = [client.post(ROUTE, headers=accept, **body) for body in bodies]
    assert {answer.status_code for answer in answers} == {200}, [answer.text[:200] for answer in answers]
    assert len({answer.content for answer in answers}) == 1


def test_a_form_sends_empty_what_was_not_filled_in(client: TestClient, files: dict[str, Any]) -> None:
    empty = {"user_image_url": "", "garment_type": "", "mode": "draft", "realism_level": "", "format": ""}
    answer = client.post(ROUTE, files=files, data=empty, headers={"Accept": "image/jpeg"})
    assert answer.status_code == 200, answer.text


def test_a_transparent_person_stands_on_white_and_a_transparent_garment_is_cut_by_its_alpha(
    client: TestClient, person: bytes, garment: bytes
) -> None:
    cut = Image.open(io.BytesIO(garment)).convert("RGBA")
    cut.putalpha(Image.fromarray(drawn.top_mask("tshirt")))
    body = {"user_image": encoded(Image.open(io.BytesIO(person)).convert("RGBA")), "product_image": encoded(cut)}
    assert client.post(ROUTE, files=body, headers={"Accept": "image/png"}).status_code == 200


def test_large_photos_come_back_in_a_bounded_size(client: TestClient, garment: bytes) -> None:
    photo = Image.fromarray(drawn.mannequin()[0]).resize((2400, 3440))
    body = client.post(ROUTE, files={"user_image": encoded(photo, "JPEG"), "product_image": garment}).json()
    assert (body["width"], body["height"]) == (2143, 3072)
    client.delete(body["result_image_url"])


# ---- jobs ---------------------------------------------------------------------------------------------------------


def test_submit_status_and_result_speak_the_seeds_words(client: TestClient, files: dict[str, Any]) -> None:
    accepted = client.post(f"{ROUTE}/submit", files=files, data={"garment_type": "tshirt", "mode": "draft"})
    assert accepted.json().keys() == {"job_id", "status", "message"}
    assert (accepted.json()["status"], accepted.json()["message"]) == ("QUEUED", "Job submitted successfully")
    status = finished(client, accepted)
    assert status.keys() >= SEED_STATUS_KEYS
    assert (status["status"], status["error_code"], status["retry_count"]) == ("DONE", None, 0)
    assert status["completed_at"] >= status["created_at"]
    assert status["quality"]["terms"].keys() == TERMS.keys()
    assert status["details"]["timings_ms"].keys() == {*STAGES, "storage"}
    result = client.get(status["result_image_url"])
    assert (result.status_code, result.headers["content-type"]) == (200, "image/png")
    at_once = client.post(ROUTE, files=files, data={"garment_type": "tshirt"}, headers={"Accept": "image/png"})
    assert result.content == at_once.content
    assert (
        client.get(f"{ROUTE}/result/{status['job_id']}", headers={"If-None-Match": result.headers["ETag"]}).status_code
        == 304
    )


def test_what_a_job_kept_can_be_looked_at_and_goes_with_it(client: TestClient, files: dict[str, Any]) -> None:
    status = finished(client, client.post(f"{ROUTE}/submit", files=files, data={"mode": "draft"}))
    kept = client.get(status["artifacts_url"])
    assert kept.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(kept.content)) as archive:
        assert sorted(archive.namelist()) == sorted(status["details"]["artifacts"])
        assert {
            "person_mask.png",
            "torso_mask.png",
            "garment_mask.png",
            "draft_composite.png",
            "keypoints.json",
        } <= set(archive.namelist())
        draft = picture(archive.read("draft_composite.png"))
        keypoints = json.loads(archive.read("keypoints.json"))
    assert (draft == picture(client.get(status["result_image_url"]).content)).all()
    assert keypoints["left_shoulder"] == [370.0, 240.0, 1.0]
    assert client.delete(f"{ROUTE}/{status['job_id']}").json()["outcome"] == "deleted"
    for what in ("status", "result", "artifacts"):
        assert client.get(f"{ROUTE}/{what}/{status['job_id']}").json()["code"] == "NOT_FOUND"


def test_final_without_an_image_model_gives_the_draft_and_says_so(client: TestClient, files: dict[str, Any]) -> None:
    status = finished(client, client.post(f"{ROUTE}/submit", files=files))
    assert (status["status"], status["provider_fallback"]) == ("DONE", True)
    assert (status["details"]["mode"], status["details"]["provider_fallback_reason"]) == ("final", "NO_KEY")
    assert "NANO_BANANA_API_KEY" in status["details"]["provider_fallback_detail"]
    refused = client.post(f"{ROUTE}/submit", files=files, data={"allow_fallback": "false"})
    assert (refused.status_code, refused.json()["code"]) == (503, "NANO_API_ERROR")


def test_the_same_key_gives_the_same_job(client: TestClient, files: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    first = client.post(f"{ROUTE}/submit", files=files, data={"mode": "draft"}, headers=headers)
    again = client.post(f"{ROUTE}/submit", files=files, data={"mode": "draft"}, headers=headers)
    assert again.json()["job_id"] == first.json()["job_id"]
    other = client.post(f"{ROUTE}/submit", files=files, data={"mode": "draft", "seed": "1"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    finished(client, first)


def test_what_cannot_be_dressed_fails_in_the_job_with_the_seeds_code(client: TestClient, garment: bytes) -> None:
    nobody = encoded(Image.new("RGB", (600, 600), (120, 130, 140)))
    status = finished(client, client.post(f"{ROUTE}/submit", files={"user_image": nobody, "product_image": garment}))
    assert (status["status"], status["error_code"]) == ("FAILED", "SEGMENTATION_FAILED")
    assert status["error_message"]
    assert status["result_image_url"] is status["quality"] is status["details"] is None
    result = client.get(f"{ROUTE}/result/{status['job_id']}")
    assert (result.status_code, result.json()["code"]) == (409, "JOB_FAILED")


@pytest.mark.parametrize("code", ["UNSUPPORTED_IMAGE", "IMAGE_UNREADABLE"])
def test_codes_of_other_routes_are_translated_in_the_status(client: TestClient, code: str) -> None:
    jobs: Jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
    broken = {
        "UNSUPPORTED_IMAGE": b"no picture",
        "IMAGE_UNREADABLE": encoded(Image.new("RGB", (99, 99)), "JPEG")[:300],
    }[code]
    job = jobs.submit(
        "tryon", owner=SERVICE_OWNER, inputs={"request": {"user_image": "", "product_image": ""}},
        files={"user_image": broken, "product_image": broken},
    )  # fmt: skip
    wait_for(lambda: client.get(f"{ROUTE}/status/{job.id}").json()["status"] == "FAILED")
    assert client.get(f"{ROUTE}/status/{job.id}").json()["error_code"] == "INVALID_IMAGE_FORMAT"


def test_a_draft_that_must_be_good_and_is_not_fails(app_client: TestClient, person: bytes) -> None:
    """No draft of a picture that isn't a garment reaches a threshold of 1."""
    body = {"user_image": person, "product_image": encoded(Image.fromarray(drawn.top("jacket")))}
    strict = {"require_quality": "true", "max_retries": "1", "garment_type": "jacket"}
    with dressing_mannequins(app_client):
        settings = app_client.app.state.service.settings  # type: ignore[attr-defined]
        object.__setattr__(settings, "quality_threshold", 1.0)
        try:
            at_once = app_client.post(ROUTE, files=body, data=strict)
            status = finished(
                app_client, app_client.post(f"{ROUTE}/submit", files=body, data=strict | {"mode": "draft"})
            )
            best = app_client.post(ROUTE, files=body, data=strict | {"require_quality": "false"}).json()
        finally:
            object.__setattr__(settings, "quality_threshold", 0.7)
    assert (at_once.status_code, at_once.json()["code"]) == (422, "QUALITY_CHECK_FAILED")
    assert (status["status"], status["error_code"]) == ("FAILED", "QUALITY_CHECK_FAILED")
    kept = app_client.app.state.service.storage.find_artifacts(UUID(status["job_id"]))  # type: ignore[attr-defined]
    assert app_client.get(f"{ROUTE}/artifacts/{status['job_id']}").status_code == 200, "a failed job can be looked at"
    app_client.delete(f"{ROUTE}/{status['job_id']}")
    with pytest.raises(NotFoundError):
        app_client.app.state.service.storage.read(kept)  # type: ignore[attr-defined]
    assert (best["quality"]["passed"], best["retry_count"]) == (False, 1)
    assert best["quality"]["score"] == max(attempt["score"] for attempt in best["attempts"])


def test_a_try_on_that_takes_too_long_is_given_up(app_client: TestClient, files: dict[str, Any]) -> None:
    state = app_client.app.state.service  # type: ignore[attr-defined]
    with dressing_mannequins(app_client, tryon=mannequin_tryon(state.landmarks, timeout_s=0)):
        at_once = app_client.post(ROUTE, files=files)
        status = finished(app_client, app_client.post(f"{ROUTE}/submit", files=files))
    assert (at_once.status_code, at_once.json()["code"]) == (503, "TIMEOUT")
    assert "Retry-After" in at_once.headers
    assert (status["status"], status["error_code"]) == ("FAILED", "TIMEOUT")


def test_a_running_job_is_cancelled_at_its_next_stage(app_client: TestClient, files: dict[str, Any]) -> None:
    state = app_client.app.state.service  # type: ignore[attr-defined]

    class Slow(TryOn):
        def draft(self, *_: Any, **options: Any) -> Any:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                options["on_stage"]("alignment")
                time.sleep(0.02)
            raise WarpFailedError("nobody cancelled it")

    tryon = mannequin_tryon(state.landmarks)
    slow = Slow(tryon._engines, tryon._landmarks, max_pixels=20_000_000, timeout_s=60)
    with dressing_mannequins(app_client, tryon=slow):
        accepted = app_client.post(f"{ROUTE}/submit", files=files).json()
        url = f"{ROUTE}/status/{accepted['job_id']}"
        wait_for(lambda: app_client.get(url).json()["stage"] == "alignment")
        assert app_client.get(url).json()["status"] == "PROCESSING"
        removed = app_client.delete(f"{ROUTE}/{accepted['job_id']}")
        assert (removed.status_code, removed.json()["outcome"]) == (202, "cancelling")
        wait_for(lambda: app_client.get(url).json()["status"] == "CANCELLED")
    result = app_client.get(f"{ROUTE}/result/{accepted['job_id']}")
    assert (result.status_code, result.json()["code"]) == (409, "JOB_FAILED")


def test_the_job_of_another_kind_and_none_are_not_found(client: TestClient) -> None:
    jobs: Jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
    other = jobs.submit("nobody-does-this", owner=SERVICE_OWNER, inputs={}, files={})
    for job_id in (other.id, uuid4()):
        for what in ("status/", "result/", "artifacts/", ""):
            answer = client.request("GET" if what else "DELETE", f"{ROUTE}/{what}{job_id}")
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_job_is_its_owners_alone(tmp_path: Path, files: dict[str, Any]) -> None:
    settings = settings_in(tmp_path, auth_required=True, auth_secret_key="k8Jq2Zr5Xv9Lm4Tn7Bw1Yc6Hs3Df0Gp8")
    with TestClient(create_app(settings)) as client, dressing_mannequins(client):
        tokens = []
        for name in ("ada@example.com", "eve@example.com"):
            user = {"username": name, "password": "correct horse battery", "full_name": "A B"}
            client.post("/api/v1/auth/register", json=user)
            tokens.append(client.post("/api/v1/auth/login", json=user).json()["access_token"])
        ada, eve = ({"Authorization": f"Bearer {token}"} for token in tokens)
        assert client.post(f"{ROUTE}/submit", files=files).status_code == 401
        job = client.post(f"{ROUTE}/submit", files=files, data={"mode": "draft"}, headers=ada).json()["job_id"]
        wait_for(lambda: client.get(f"{ROUTE}/status/{job}", headers=ada).json()["status"] == "DONE")
        for what in ("status", "result", "artifacts"):
            assert client.get(f"{ROUTE}/{what}/{job}", headers=eve).status_code == 404
            assert client.get(f"{ROUTE}/{what}/{job}", headers=ada).status_code == 200
        assert client.delete(f"{ROUTE}/{job}", headers=eve).status_code == 404


# ---- URLs ---------------------------------------------------------------------------------------------------------


def test_urls_are_read_where_the_operator_allows_their_addresses(tmp_path: Path, person: bytes, garment: bytes) -> None:
    with picture_server() as server, TestClient(create_app(settings_in(tmp_path, fetch_allow_private=True))) as client:
        server.answers |= {"/person": whole(person), "/garment": whole(garment)}
        urls = {"user_image_url": server.url("/person"), "product_image_url": server.url("/garment")}
        with dressing_mannequins(client):
            at_once = client.post(ROUTE, json=urls, headers={"Accept": "image/png"})
            status = finished(client, client.post(f"{ROUTE}/submit", data=urls | {"mode": "draft"}))
            assert client.get(status["result_image_url"]).content == at_once.content
        missing = client.post(f"{ROUTE}/submit", data=urls | {"user_image_url": server.url("/picture?none")})
    assert (missing.status_code, missing.json()["code"]) == (422, "URL_NOT_FETCHED")
    assert missing.json()["detail"].startswith("user_image_url: ")


def test_urls_into_the_network_are_refused_before_anything_is_kept(
    client: TestClient, garment: bytes, service_folder: Path
) -> None:
    before = sorted((service_folder / "uploads").iterdir())
    with picture_server() as server:
        for url in (server.url(), "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"):
            for route in (ROUTE, f"{ROUTE}/submit"):
                answer = client.post(route, data={"user_image_url": url}, files={"product_image": garment})
                assert (answer.status_code, answer.json()["code"]) == (422, "URL_NOT_ALLOWED")
        assert server.seen == []
    assert sorted((service_folder / "uploads").iterdir()) == before


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [ROUTE, f"{ROUTE}/submit"])
@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"garment_type": "hat"}, 422, "VALIDATION_ERROR"),
        ({"realism_level": 0}, 422, "VALIDATION_ERROR"),
        ({"realism_level": 6}, 422, "VALIDATION_ERROR"),
        ({"realism_level": "NaN"}, 422, "VALIDATION_ERROR"),
        ({"max_retries": 4}, 422, "VALIDATION_ERROR"),
        ({"seed": 2**31}, 422, "VALIDATION_ERROR"),
        ({"seed": -1}, 422, "VALIDATION_ERROR"),
        ({"preserve_face": "perhaps"}, 422, "VALIDATION_ERROR"),
        ({"mode": "sketch"}, 422, "VALIDATION_ERROR"),
        ({"format": "gif"}, 422, "VALIDATION_ERROR"),
        ({"colour": "red"}, 422, "VALIDATION_ERROR"),
        ({"user_image_url": "https://example.com/" + "a" * 2100}, 422, "VALIDATION_ERROR"),
        ({"user_image_url": "https://example.com/a.jpg"}, 400, "BAD_REQUEST"),
        ({"product_image": "aGVs!!"}, 400, "BAD_REQUEST"),
    ],
    ids=str,
)
def test_fields_that_are_wrong_are_refused(
    client: TestClient, files: dict[str, Any], route: str, fields: dict[str, Any], status: int, code: str
) -> None:
    answer = client.post(route, files=files, data=fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()


def test_pictures_that_are_missing_or_broken_are_named(client: TestClient, person: bytes) -> None:
    missing = client.post(ROUTE, files={"user_image": person})
    assert (missing.status_code, missing.json()["code"]) == (400, "BAD_REQUEST")
    assert "product_image" in missing.json()["detail"]
    broken = client.post(f"{ROUTE}/submit", files={"user_image": person, "product_image": b"no picture"})
    assert (broken.status_code, broken.json()["code"]) == (415, "INVALID_IMAGE_FORMAT")
    assert broken.json()["detail"].startswith("product_image: ")
    not_base64 = client.post(ROUTE, json={"user_image": "aGVs!!", "product_image": "aGVs"})
    assert (not_base64.status_code, not_base64.json()["code"]) == (422, "INVALID_BASE64")


def test_a_final_picture_is_no_matter_of_a_request(client: TestClient, files: dict[str, Any]) -> None:
    assert client.post(ROUTE, files=files, data={"mode": "final"}).status_code == 422
    assert client.post(ROUTE, files=files, data={"webhook_url": "https://shop.example/"}).status_code == 422


def test_the_documentation_names_the_seeds_codes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    submit, now = paths[f"{ROUTE}/submit"]["post"], paths[ROUTE]["post"]
    described = json.dumps([submit["responses"], now["responses"]])
    for code in ("INVALID_IMAGE_FORMAT", "IMAGE_TOO_LARGE", "SEGMENTATION_FAILED", "POSE_FAILED", "WARP_FAILED",
                 "QUALITY_CHECK_FAILED", "NANO_API_ERROR", "TIMEOUT", "STORAGE_ERROR", "URL_NOT_ALLOWED"):  # fmt: skip
        assert f"`{code}`" in described, code
    form = submit["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["user_image"]["format"] == "binary"
    assert all("description" in field for field in form.values())


def test_try_ons_are_counted_and_their_times_kept(client: TestClient, files: dict[str, Any]) -> None:
    client.post(ROUTE, files=files, headers={"Accept": "image/png"})
    assert 'tryons_total{outcome="draft"}' in client.get("/metrics").text
    kinds = {each["kind"]: each for each in client.get("/api/v1/processing").json()["kinds"]}
    assert "alignment" in kinds[ROUTE]["stages_ms"]
