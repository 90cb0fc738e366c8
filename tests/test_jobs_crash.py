"""Jobs outlive what happens to processes and databases. Each trap that was measured of the job engine is a test here.

Real processes are killed, and a real PostgreSQL is stopped as a power cut would stop it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.database import DatabaseSetupError, open_database
from service.job_runs import MAX_ATTEMPTS
from tests.job_process import CONCURRENT, Client, JobProcess, job_process
from tests.servers import Postgres, wait_for
from tests.test_hostile_inputs import Server, serving

JOBS = 20


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of the kind that the test's mark says."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/service.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("url", ["postgresql"], indirect=True)
on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
"""The same code is to do the same on both."""


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[Client]:
    """Hands in jobs to the processes on `url`."""
    client = Client(url, tmp_path)
    yield client
    client.database.close()


@on_both
def test_kill_9_in_the_middle_of_20_jobs_loses_none_and_stores_no_result_twice(
    client: Client, url: str, tmp_path: Path
) -> None:
    ids = [client.submit() for _ in range(JOBS)]
    with job_process(url, tmp_path) as process:
        wait_for(lambda: len(client.lines("done")) >= 5 and client.in_flight())
        process.kill()
    done, in_flight = client.results(), client.in_flight()
    assert len(done) < JOBS
    with job_process(url, tmp_path):
        client.wait_until_finished()
        wait_for(lambda: not list((tmp_path / "uploads").iterdir()))  # what the jobs were given is gone
    assert {client.job(job_id).status for job_id in ids} == {"completed"}
    assert set(client.lines("done")) == {str(job_id) for job_id in ids}
    results = client.results()
    assert len(results) == JOBS
    assert done.items() <= results.items()
    assert all(client.job(UUID(job_id)).attempts == 2 for job_id in in_flight)
    assert sum(client.job(job_id).attempts for job_id in ids) <= JOBS + CONCURRENT


@on_sqlite
def test_a_job_that_ends_its_process_fails_and_takes_no_other_with_it(client: Client, url: str, tmp_path: Path) -> None:
    poison = client.submit("poison", seconds=0.4)
    others = [client.submit(seconds=0.6) for _ in range(CONCURRENT - 1)]
    starts = 0
    while client.job(poison).status != "failed":
        starts += 1
        with job_process(url, tmp_path) as process:
            wait_for(partial(ended_or_failed, process, client, poison))
            if process.process.poll() is None:
                client.wait_until_finished()
    assert starts == MAX_ATTEMPTS + 1
    assert client.lines("begun").count(str(poison)) == MAX_ATTEMPTS
    assert client.job(poison).error_code == "JOB_CRASHED"
    assert {client.job(job_id).status for job_id in others} == {"completed"}


@on_both
def test_sigterm_hands_jobs_back_and_does_not_count_as_a_crash(client: Client, url: str, tmp_path: Path) -> None:
    running = client.submit(seconds=1.5)
    with job_process(url, tmp_path) as process:
        wait_for(lambda: str(running) in client.lines("begun"))
        assert process.stop() == 0
    assert (client.job(running).status, client.job(running).attempts) == ("pending", 0)
    with job_process(url, tmp_path):
        client.wait_until_finished()
    assert (client.job(running).status, client.job(running).attempts) == ("completed", 1)


@on_sqlite
def test_other_code_takes_up_what_the_former_version_left(client: Client, url: str, tmp_path: Path) -> None:
    """Unpinned, DBOS's version is a hash of the code, and a job of the former version is never done."""
    job_id = client.submit(seconds=0.5)
    with job_process(url, tmp_path) as process:
        wait_for(lambda: str(job_id) in client.lines("begun"))
        process.kill()
    with job_process(url, tmp_path, module="tests.job_process_updated"):
        client.wait_until_finished()
    assert client.job(job_id).status == "completed"


@on_sqlite
def test_a_second_process_on_a_sqlite_file_refuses_to_start_and_says_why(url: str, tmp_path: Path) -> None:
    with job_process(url, tmp_path) as process:
        with pytest.raises(DatabaseSetupError, match=r"another process uses .*service\.db.*PostgreSQL"):
            open_database(url)
        process.kill()
        open_database(url).close()  # the lock goes with the process, however it ends


@on_postgresql
def test_processes_on_one_postgresql_share_the_queue_and_do_nothing_twice(
    client: Client, url: str, tmp_path: Path
) -> None:
    with job_process(url, tmp_path), job_process(url, tmp_path):
        ids = {str(client.submit()) for _ in range(JOBS)}
        client.wait_until_finished()
    assert sorted(client.lines("begun")) == sorted(ids)
    assert len(set(client.pids().values())) == 2


@on_postgresql
def test_a_survivor_takes_over_what_a_dead_process_had(client: Client, url: str, tmp_path: Path) -> None:
    ids = [client.submit(seconds=0.4) for _ in range(JOBS)]
    with job_process(url, tmp_path) as victim, job_process(url, tmp_path):
        wait_for(lambda: str(victim.process.pid) in client.pids().values())
        victim.kill()
        begun = client.lines("begun")
        client.wait_until_finished()
    assert {client.job(job_id).status for job_id in ids} == {"completed"}
    assert len(client.lines("begun")) > len(begun)


@on_postgresql
def test_a_process_that_was_only_held_up_stores_nothing_of_a_job_that_was_taken_over(
    client: Client, url: str, tmp_path: Path
) -> None:
    job_id = client.submit(seconds=0.6)
    with job_process(url, tmp_path) as held_up:
        wait_for(lambda: str(job_id) in client.lines("begun"))
        held_up.process.send_signal(signal.SIGSTOP)
        with job_process(url, tmp_path):
            client.wait_until_finished()
            finished = client.job(job_id)
            results = client.results()
            held_up.process.send_signal(signal.SIGCONT)
            wait_for(lambda: "job lost" in held_up.errors.read_text())
    after = client.job(job_id)
    assert (after.finished_at, after.attempts, client.results()) == (finished.finished_at, 2, results)


@on_postgresql
def test_a_database_that_stops_for_five_seconds_loses_nothing(
    postgres: Postgres, client: Client, url: str, tmp_path: Path
) -> None:
    ids = [client.submit(seconds=0.5) for _ in range(JOBS)]
    with job_process(url, tmp_path), job_process(url, tmp_path):
        wait_for(lambda: len(client.lines("done")) >= 3)
        postgres.stop()
        time.sleep(5)
        postgres.start()
        client.wait_until_finished()
    assert {client.job(job_id).status for job_id in ids} == {"completed"}
    assert len(client.results()) == JOBS


@on_sqlite
def test_a_book_is_finished_after_the_service_was_killed(url: str, tmp_path: Path, photo: bytes, page: bytes) -> None:
    """The whole service over HTTP, with its real engines."""
    start = partial(serving, tmp_path, DB_USE_DATABASE="true", DATABASE_URL=url)
    with start() as server, http_client(server) as client:
        template = client.post("/upload-illustration-template", files={"file": page}).json()
        order: dict[str, Any] = {
            "files": {"child_photo": photo},
            "data": {"template_ids": [template["template_id"]] * 6},
        }
        accepted = [client.post("/personalize/book", **order) for _ in range(2)]
        assert [answer.status_code for answer in accepted] == [202] * 2
        jobs = [answer.json()["status_url"] for answer in accepted]
        wait_for(lambda: client.get(jobs[0]).json()["status"] == "processing")
        os.kill(server.pid, signal.SIGKILL)
    uploads = tmp_path / "upload"
    assert len(list(uploads.glob("*_job_*"))) == 2
    with start() as server, http_client(server) as client:
        wait_for(lambda: all(client.get(job).json()["status"] == "completed" for job in jobs))
        wait_for(lambda: not list(uploads.glob("*_job_*")))
    assert len(list((tmp_path / "output").glob("[!.]*"))) == 2


def http_client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30, trust_env=False)


def ended_or_failed(process: JobProcess, client: Client, job_id: UUID) -> bool:
    return process.process.poll() is not None or client.job(job_id).status == "failed"
