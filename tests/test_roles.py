"""One process takes requests, another runs the jobs: real services on one PostgreSQL, one folder and one model."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from skimage import data

from examples.local_service import PROJECT, local_service
from tests.conftest import encoded
from tests.servers import Postgres, wait_for

SUBMIT = "/v1/images/generations/submit"
FOX = {"prompt": "a fox", "seed": 5, "n": 2}


@dataclass(frozen=True, slots=True)
class Processes:
    """Clients of the two."""

    api: httpx.Client
    worker: httpx.Client


@pytest.fixture(scope="module")
def processes(postgres: Postgres, sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """An api without the image model, and a worker that has it."""
    folder = tmp_path_factory.mktemp("shared")
    shared = {
        "DATABASE_URL": postgres.new_database(), "UPLOAD_DIR": str(folder / "uploads"),
        "OUTPUT_DIR": str(folder / "outputs"), "IMAGE_SIZES": "64x64", "GENERATION_STEPS": "2", "DEVICE": "cpu",
    }  # fmt: skip
    migrate = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(migrate, check=True, cwd=PROJECT, env=os.environ | shared, capture_output=True)
    with (
        local_service(ROLE="api", HF_HOME=str(folder / "no-models"), **shared) as api,
        local_service(ROLE="worker", MODEL_PATH=str(sdxl), **shared) as worker,
        httpx.Client(base_url=api.url, timeout=30) as asked,
        httpx.Client(base_url=worker.url, timeout=30) as working,
    ):
        yield Processes(asked, working)


def finished(api: httpx.Client, submitted: httpx.Response) -> dict[str, Any]:
    assert submitted.status_code == 202, submitted.text
    url = f"/api/v1/jobs/{submitted.json()['job_id']}"
    wait_for(lambda: api.get(url).json()["status"] not in {"pending", "processing"}, seconds=60)
    status: dict[str, Any] = api.get(url).json()
    return status


def test_what_is_handed_in_at_the_api_is_made_by_the_worker_and_fetched_at_the_api(processes: Processes) -> None:
    api = processes.api
    photo = encoded(Image.fromarray(data.astronaut()), "JPEG")
    job = finished(api, api.post("/api/v1/frontal/crop/submit", files={"image": ("photo.jpg", photo, "image/jpeg")}))
    assert job["status"] == "completed", job
    assert api.get(job["result_url"]).content.startswith(b"<")


def test_the_api_takes_jobs_for_a_model_that_only_the_worker_has(processes: Processes) -> None:
    api = processes.api
    refused = api.post("/v1/images/generations", json=FOX)
    assert (refused.status_code, refused.json()["code"]) == (503, "MODEL_UNAVAILABLE")
    job = finished(api, api.post(SUBMIT, json=FOX))
    assert job["status"] == "completed", job
    pictures = [api.get(entry["url"]) for entry in job["result"]["data"]]
    assert [Image.open(io.BytesIO(picture.content)).size for picture in pictures] == [(64, 64)] * 2


def test_a_worker_says_how_it_is_and_takes_no_requests(processes: Processes) -> None:
    worker = processes.worker
    assert worker.get("/health").json()["models"]["image_generation"]["state"] in {"idle", "loading", "ready"}
    for path in (SUBMIT, "/personalize", "/api/v1/verify-face"):
        assert worker.post(path).status_code == 404
