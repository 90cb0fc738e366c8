"""POST /api/v1/frontal/crop/submit and the status of its job: the same bytes as the synchronous route."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.auth import SERVICE_OWNER
from service.jobs import Jobs
from service.tables import Job, utc_now
from tests.conftest import encoded
from tests.contour_faces import PHOTO, label_map, mesh
from tests.servers import wait_for
from tests.test_contours_route import BAD_LANDMARKS, BAD_MAPS

CROP = "/api/v1/frontal/crop"
POINTS = mesh(roll=15)
SEEDS_WORDS = {"pending", "processing", "completed", "failed"}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    """A request with everything."""
    return {
        "image": text(encoded(Image.new("RGB", PHOTO, (180, 150, 130)), "JPEG")),
        "landmarks": [{"x": x, "y": y} for x, y in POINTS.tolist()],
        "segmentation_map": text(encoded(Image.fromarray(label_map(POINTS)))),
    }


def finished(client: TestClient, answer: Any) -> dict[str, Any]:
    """The status of a job that was handed in, once it has one that lasts."""
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"job_id", "status"}
    assert answer.json()["status"] in SEEDS_WORDS
    url = f"{CROP}/status/{answer.json()['job_id']}"
    wait_for(lambda: client.get(url).json()["status"] in {"completed", "failed"})
    body: dict[str, Any] = client.get(url).json()
    return body


@pytest.mark.parametrize(
    "options", [{}, {"output": "png", "png": "overlay", "size": 300}, {"output": "json", "regions": ["nose"]}], ids=str
)
def test_a_job_gives_the_bytes_of_the_synchronous_route(
    app_client: TestClient, everything: dict[str, Any], options: dict[str, Any]
) -> None:
    body = everything | options
    status = finished(app_client, app_client.post(f"{CROP}/submit", json=body))
    at_once = app_client.post(CROP, json=body).json()
    assert (status["status"], status["progress"], status["error"]) == ("completed", 1.0, None)
    assert (status["result"], status["media_type"]) == (at_once["result"], at_once["media_type"])
    job = app_client.get(f"/api/v1/jobs/{status['job_id']}").json()
    assert (job["kind"], job["result"]["output"]) == ("contours", at_once["output"])
    file = app_client.get(job["result_url"])
    assert file.content == base64.b64decode(status["result"])
    assert file.headers["content-type"].partition(";")[0] == status["media_type"]
    if at_once["output"] != "json":
        assert job["result"]["contours"] == at_once["contours"]


def test_the_seeds_request_needs_a_photo_only_and_keeps_none(
    app_client: TestClient, service_folder: Path, photo: bytes
) -> None:
    answer = app_client.post(f"{CROP}/submit", files={"image": ("photo.jpg", photo)})
    status = finished(app_client, answer)
    assert base64.b64decode(status["result"]).startswith(b"<?xml")
    wait_for(lambda: not list((service_folder / "uploads").glob(f"{status['job_id']}*")))


def test_what_can_not_be_used_is_refused_at_once_and_nothing_kept(
    app_client: TestClient, service_folder: Path, everything: dict[str, Any]
) -> None:
    before = sorted((service_folder / "uploads").iterdir())
    faceless = {"image": everything["image"]}
    assert app_client.post(f"{CROP}/submit", json=faceless).json()["code"] == "NO_FACE_DETECTED"
    for landmarks in BAD_LANDMARKS.values():
        answer = app_client.post(f"{CROP}/submit", json=everything | {"landmarks": landmarks})
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")
    for build, status, code in BAD_MAPS.values():
        answer = app_client.post(f"{CROP}/submit", json=everything | {"segmentation_map": text(build())})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    webhook = app_client.post(f"{CROP}/submit", json=everything | {"webhook_url": "https://shop.example/"})
    assert (webhook.status_code, webhook.json()["code"]) == (422, "INVALID_VALUE")  # there is no WEBHOOK_SECRET
    assert app_client.post(CROP, json=everything | {"webhook_url": "https://shop.example/"}).status_code == 422
    assert sorted((service_folder / "uploads").iterdir()) == before


def test_the_same_key_gives_the_same_job(app_client: TestClient, everything: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    first = app_client.post(f"{CROP}/submit", json=everything, headers=headers)
    again = app_client.post(f"{CROP}/submit", json=everything, headers=headers)
    assert again.json()["job_id"] == first.json()["job_id"]
    other = app_client.post(f"{CROP}/submit", json=everything | {"size": 99}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    finished(app_client, first)


def test_a_failed_and_a_cancelled_job_say_why_in_the_seeds_words(app_client: TestClient) -> None:
    jobs: Jobs = app_client.app.state.service.jobs  # type: ignore[attr-defined]
    request = {"request": {"image": "", "landmarks": [[0, 0]] * 468}, "files": ["image"]}
    broken = jobs.submit("contours", owner=SERVICE_OWNER, inputs=request, files={"image": b"no picture"})
    wait_for(lambda: app_client.get(f"{CROP}/status/{broken.id}").json()["status"] == "failed")
    status = app_client.get(f"{CROP}/status/{broken.id}").json()
    assert (status["error_code"], status["result"]) == ("UNSUPPORTED_IMAGE", None)
    assert status["error"]
    jobs.store.add(other := waiting(), max_jobs=1000)
    assert app_client.delete(f"/api/v1/jobs/{other.id}").json()["outcome"] == "cancelled"
    status = app_client.get(f"{CROP}/status/{other.id}").json()
    assert (status["status"], status["error_code"]) == ("failed", "CANCELLED")


def waiting() -> Any:
    """A job of contours that nobody runs."""
    now = utc_now()
    return Job(
        id=uuid4(), kind="contours", owner=SERVICE_OWNER, status="pending", progress=0.0, inputs={}, attempts=0,
        cancel_requested=False, request_hash="", created_at=now, updated_at=now, queued_at=now, webhook_attempts=0,
    )  # fmt: skip


def test_the_status_of_another_kind_of_job_and_of_none_is_not_found(app_client: TestClient) -> None:
    jobs: Jobs = app_client.app.state.service.jobs  # type: ignore[attr-defined]
    other = jobs.submit("nobody-does-this", owner=SERVICE_OWNER, inputs={}, files={})
    for job_id in (other.id, uuid4()):
        assert app_client.get(f"{CROP}/status/{job_id}").json()["code"] == "NOT_FOUND"
    assert app_client.get(f"{CROP}/status/1").status_code == 422
