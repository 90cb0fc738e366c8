"""The whole service over HTTP, with its real engines: try-ons outlast a killed process, and leave no memory behind."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests import drawn_garments as drawn
from tests.conftest import encoded
from tests.servers import wait_for
from tests.test_hostile_inputs import MIB, Server, serving

WARM, MORE = 6, 50
MOST_GROWTH_MIB = 32
"""A draft of this size takes some 60 MiB while it is made: less than one of them may stay after many."""


def client_of(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30, trust_env=False)


def order(size: tuple[int, int] = drawn.SIZE) -> dict[str, Any]:
    photo = Image.fromarray(drawn.mannequin()[0]).resize(size)
    files = {"user_image": encoded(photo), "product_image": encoded(Image.fromarray(drawn.top("tshirt")))}
    return {"files": files, "data": {"mode": "draft", "garment_type": "tshirt"}}


def status_of(client: httpx.Client, job: str) -> str:
    status: str = client.get(f"/api/tryon/status/{job}").json()["status"]
    return status


def all_done(client: httpx.Client, jobs: list[str]) -> bool:
    """Asked seldom: the service has other things to do."""
    time.sleep(0.2)
    return all(status_of(client, job) == "DONE" for job in jobs)


def test_try_ons_are_finished_after_the_service_was_killed(tmp_path: Path) -> None:
    start = partial(
        serving, tmp_path, DB_USE_DATABASE="true", DATABASE_URL=f"sqlite:///{tmp_path}/service.db",
        SAVE_DEBUG_ARTIFACTS="true",
    )  # fmt: skip
    large = order((1000, 1433))
    with start() as server, client_of(server) as client:
        jobs = [client.post("/api/tryon/submit", **large).json()["job_id"] for _ in range(2)]
        wait_for(lambda: status_of(client, jobs[0]) == "PROCESSING")
        os.kill(server.pid, signal.SIGKILL)
    assert len(list((tmp_path / "upload").glob("*_job_*"))) == 2 * len(jobs)
    with start() as server, client_of(server) as client:
        wait_for(lambda: all_done(client, jobs), seconds=60)
        attempts = [client.get(f"/api/v1/jobs/{job}").json()["attempts"] for job in jobs]
        results = {client.get(f"/api/tryon/result/{job}").content for job in jobs}
        wait_for(lambda: not list((tmp_path / "upload").glob("*_job_*")))
    assert attempts[0] == 2
    assert len(results) == 1
    stored = sorted(path.name[36:] for path in (tmp_path / "output").iterdir())
    assert stored == ["_artifacts.zip"] * 2 + ["_tryon.png"] * 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_many_jobs_leave_the_memory_where_it_was(tmp_path: Path) -> None:
    one = order()
    with serving(tmp_path) as server, client_of(server) as client:

        def run(number: int) -> None:
            jobs = [client.post("/api/tryon/submit", **one).json()["job_id"] for _ in range(number)]
            wait_for(lambda: all_done(client, jobs), seconds=120)
            for job in jobs:
                client.delete(f"/api/tryon/{job}")

        run(WARM)
        before = server.rss()
        run(MORE)
        assert server.rss() - before < MOST_GROWTH_MIB * MIB
