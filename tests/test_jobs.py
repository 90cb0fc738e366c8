"""Jobs as clients meet them, and the rules of one run; test_jobs_crash has what processes and databases do to them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from main import create_app
from routes import jobs as jobs_route
from service import jobs as jobs_module
from service.auth import SERVICE_OWNER
from service.database import create_engine, open_database, upgrade
from service.errors import (
    BusyError,
    ConflictError,
    DatabaseUnavailableError,
    InvalidValueError,
    StorageFullError,
    StorageUnavailableError,
)
from service.job_runs import REPORT_INTERVAL_S, JobInterruptedError, JobResult, JobRun
from service.jobs import DbosQueue, Jobs
from service.middleware import StartError
from service.running_jobs import opened_database
from service.shutdown import set_when_told_to_stop
from service.storage import OUTPUTS, UPLOADS
from service.tables import Job, utc_now
from tests.conftest import settings_in
from tests.job_process import ENDING, OWNER, new_jobs
from tests.servers import Postgres, wait_for

ANYBODY = SERVICE_OWNER
FINISHED = {"completed", "failed", "cancelled"}


class Held:
    """A kind of job that runs until it is let go, and tells when it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, run: JobRun) -> JobResult:
        self.begun.set()
        while not self.go.wait(0.01):
            run.progress("held", 0.5)
        return made(run)


def made(run: JobRun) -> JobResult:
    return JobResult(run.store(lambda file: file.write(b"made of " + run.id.bytes), ending=ENDING), {"pages": 1})


def refused(_: JobRun) -> JobResult:
    raise InvalidValueError("page 2: this is wrong")


def broken(_: JobRun) -> JobResult:
    raise KeyError("a secret of the inside")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Jobs in memory, one at a time."""
    database = open_database(None)
    jobs = new_jobs(database, tmp_path, concurrent=1, max_jobs=5)
    for kind, handler in {"make": made, "refuse": refused, "break": broken}.items():
        jobs.register(kind, handler)
    jobs.start()
    yield jobs
    jobs.close()
    database.close()


def submit(jobs: Jobs, kind: str = "make", **changes: Any) -> Job:
    return jobs.submit(kind, **({"owner": OWNER, "inputs": {}, "files": {"photo": b"photo"}} | changes))


def finished(jobs: Jobs, job: Job) -> Job:
    wait_for(lambda: jobs.store.get(job.id, job.owner).status in FINISHED)
    return jobs.store.get(job.id, job.owner)


def write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def files(jobs: Jobs) -> list[str]:
    stored = (file for folder in (UPLOADS, OUTPUTS) for file in jobs.storage.store.list(folder))
    return sorted(file.key.rpartition("/")[2] for file in stored)


# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_finished_job_has_its_result_and_keeps_nothing_it_was_given(jobs: Jobs) -> None:
    job = finished(jobs, submit(jobs))
    assert (job.status, job.progress, job.attempts) == ("completed", 1.0, 1)
    assert job.result == {"download_url": f"/download/{job.id}", "pages": 1}
    wait_for(lambda: files(jobs) == [f"{job.id}{ENDING}"])


def test_an_expected_failure_is_the_jobs_and_an_unexpected_one_tells_nothing(jobs: Jobs) -> None:
    job = finished(jobs, submit(jobs, "refuse"))
    assert (job.status, job.error_code, job.error) == ("failed", "INVALID_VALUE", "page 2: this is wrong")
    job = finished(jobs, submit(jobs, "break"))
    assert (job.status, job.error_code) == ("failed", "INTERNAL_ERROR")
    assert "secret" not in (job.error or "")
    job = finished(jobs, submit(jobs, "nobody does this"))
    assert job.error_code == "UNKNOWN_JOB_KIND"
    wait_for(lambda: files(jobs) == [])


def test_a_job_that_waits_for_space_says_so_and_can_be_cancelled(jobs: Jobs) -> None:
    def full(_: JobRun) -> JobResult:
        time.sleep(REPORT_INTERVAL_S)
        raise StorageFullError("full")

    jobs.register("full", full)
    job = submit(jobs, "full")
    wait_for(lambda: jobs.store.get(job.id, OWNER).stage == "waiting for storage")
    jobs.cancel_or_delete(job.id, OWNER)
    assert finished(jobs, job).status == "cancelled"


def test_what_prevents_a_run_leaves_the_job_to_the_next_process(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_: UUID) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(jobs.store, "begin", bug)
    job = submit(jobs)
    with pytest.raises(JobInterruptedError):
        jobs._runner.run(job.id)
    assert jobs.store.get(job.id, OWNER).status == "pending"


@pytest.mark.parametrize(
    "failure",
    [StorageFullError("full"), StorageUnavailableError(), DatabaseUnavailableError("away"), OSError(28, "full")],
)
def test_a_job_waits_for_a_full_disk_and_a_database_instead_of_failing(jobs: Jobs, failure: Exception) -> None:
    tries: list[int] = []

    def full_twice(run: JobRun) -> JobResult:
        tries.append(1)
        if len(tries) < 3:
            raise failure
        return made(run)

    jobs.register("full twice", full_twice)
    assert finished(jobs, submit(jobs, "full twice")).status == "completed"
    assert len(tries) == 3


def test_what_was_made_before_the_storage_went_away_is_stored_without_being_made_again(jobs: Jobs) -> None:
    made_so_far: list[str] = []

    def make(run: JobRun) -> JobResult:
        made_so_far.append("picture")
        tries = iter([StorageUnavailableError(), StorageFullError("full"), None])

        def store() -> str:
            if (failure := next(tries)) is not None:
                raise failure
            return jobs.storage.save_generated(b"picture", kind="image", suffix="png", file_id=run.id).key

        key = run.until_stored(store)
        return JobResult(run.store(partial(write, b"list"), ending="_images.json"), {}, [key])

    jobs.register("images", make)
    job = finished(jobs, submit(jobs, "images"))
    assert (job.status, made_so_far) == ("completed", ["picture"])
    wait_for(lambda: files(jobs) == sorted([f"{job.id}_images.json", f"image_{job.id.hex}.png"]))
    jobs.cancel_or_delete(job.id, OWNER)
    assert files(jobs) == []


def test_a_result_is_stored_once_however_often_a_job_is_done(jobs: Jobs) -> None:
    job_id = uuid4()
    for content in (b"first", b"second"):
        file = jobs.storage.save_job_result(job_id, partial(write, content), ending=ENDING)
        assert jobs.storage.read(file) == b"first"
    assert files(jobs) == [f"{job_id}{ENDING}"]


def test_a_run_that_is_no_longer_the_jobs_can_not_finish_it(jobs: Jobs) -> None:
    begun, go = threading.Event(), threading.Event()

    def deaf(run: JobRun) -> JobResult:
        begun.set()
        go.wait(10)
        return made(run)

    jobs.register("deaf", deaf)
    job = submit(jobs, "deaf")
    assert begun.wait(10)
    taken_over = jobs.store.begin(job.id)
    assert taken_over is not None
    go.set()
    wait_for(lambda: f"{job.id}{ENDING}" in files(jobs))
    assert jobs.store.get(job.id, OWNER).status == "processing"
    jobs.store.finish(taken_over, "completed", result={"by": "the other run"})
    assert jobs.store.get(job.id, OWNER).result == {"by": "the other run"}


def test_jobs_compute_in_the_inference_pool(jobs: Jobs) -> None:
    seen: list[Callable[[], Any]] = []

    def compute(call: Callable[[], Any]) -> Any:
        seen.append(call)
        return call()

    jobs._runner.compute = compute
    jobs.register("compute", lambda run: made(run) if run.compute(max, 1, 2) == 2 else refused(run))
    assert finished(jobs, submit(jobs, "compute")).status == "completed"
    assert len(seen) == 1


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_running_job_stops_at_its_next_step_and_a_waiting_one_at_once(jobs: Jobs) -> None:
    held = Held()
    jobs.register("held", held)
    running, waiting = submit(jobs, "held"), submit(jobs)
    assert held.begun.wait(10)
    cancelled = jobs.cancel_or_delete(waiting.id, OWNER)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    asked = jobs.cancel_or_delete(running.id, OWNER)
    assert asked is not None
    assert (asked.status, asked.cancel_requested) == ("processing", True)
    assert finished(jobs, running).status == "cancelled"
    wait_for(lambda: files(jobs) == [])
    assert jobs.store.get(waiting.id, OWNER).attempts == 0


def test_a_finished_job_is_deleted_with_its_result(jobs: Jobs) -> None:
    job = finished(jobs, submit(jobs))
    assert jobs.cancel_or_delete(job.id, OWNER) is None
    wait_for(lambda: files(jobs) == [])
    assert jobs.store.list(OWNER, kind=None, status=None, after=None, limit=9) == []


# --- handing in -------------------------------------------------------------------------------------------------------


def test_the_same_key_and_request_give_the_same_job_and_another_request_a_conflict(jobs: Jobs) -> None:
    first = submit(jobs, idempotency_key="order-1")
    assert submit(jobs, idempotency_key="order-1").id == first.id
    for change in ({"inputs": {"a": 1}}, {"files": {"photo": b"other"}}, {"webhook_url": "https://a.example"}):
        with pytest.raises(ConflictError):
            submit(jobs, **change, idempotency_key="order-1")
    assert submit(jobs, owner="somebody else", idempotency_key="order-1").id != first.id
    assert submit(jobs).id != first.id


def test_the_same_request_sent_many_times_at_once_is_one_job(jobs: Jobs) -> None:
    with ThreadPoolExecutor(8) as threads:
        sent = [threads.submit(submit, jobs, idempotency_key="order-1") for _ in range(8)]
    assert len({future.result().id for future in sent}) == 1
    finished(jobs, sent[0].result())
    wait_for(lambda: len(files(jobs)) == 1)


def test_one_job_too_many_is_refused_and_nothing_of_it_kept(jobs: Jobs) -> None:
    held = Held()
    jobs.register("held", held)
    accepted = [submit(jobs, "held") for _ in range(jobs.max_jobs)]
    before = files(jobs)
    with pytest.raises(BusyError) as refusal:
        submit(jobs)
    assert refusal.value.retry_after_s
    assert files(jobs) == before
    held.go.set()
    assert {finished(jobs, job).status for job in accepted} == {"completed"}
    assert finished(jobs, submit(jobs)).status == "completed"


def test_a_full_disk_keeps_nothing_of_the_job(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFullError("full")

    monkeypatch.setattr(jobs.store, "add", full)
    with pytest.raises(StorageFullError):
        submit(jobs)
    assert files(jobs) == []


# --- what is left over ------------------------------------------------------------------------------------------------


def test_expired_jobs_and_files_that_a_crash_left_are_removed(jobs: Jobs, tmp_path: Path) -> None:
    job = finished(jobs, submit(jobs))
    assert jobs.store.delete_expired(before=utc_now() - timedelta(hours=1)) == 0
    held = Held()
    jobs.register("held", held)
    running = submit(jobs, "held")
    assert held.begun.wait(10)
    jobs.storage.save_job_input(job.id, "photo", b"left by a crash after its end")
    young, old = uuid4(), uuid4()
    for orphan in (young, old):
        jobs.storage.save_job_input(orphan, "photo", b"left by a crash before its row")
    os.utime(tmp_path / "uploads" / f"{old}_job_photo", (0, 0))
    jobs._tidy(jobs._queue)  # type: ignore[arg-type] # it has one: it was started
    assert set(jobs.storage.jobs_with_inputs()) == {running.id, young}
    assert jobs.storage.sweep(retention_hours=1e-9) == 1  # the result; inputs of jobs are no uploads that expire
    held.go.set()
    finished(jobs, running)
    assert jobs.store.delete_expired(before=utc_now() + timedelta(hours=1)) == 2


def test_the_job_engine_forgets_runs_that_ended_long_ago(service_jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = service_jobs._queue
    assert isinstance(queue, DbosQueue)
    old, new = (finished(service_jobs, submit(service_jobs)) for _ in range(2))

    def known() -> set[str]:
        return {run.workflow_id for run in queue._dbos.list_workflows(status="SUCCESS")}

    wait_for(lambda: {str(old.id), str(new.id)} <= known())
    queue.tidy()
    assert {str(old.id), str(new.id)} <= known()
    monkeypatch.setattr(jobs_module, "ENDED_RUNS_KEPT", -timedelta(hours=1))
    queue.tidy()
    assert known() == set()


# --- over HTTP, on SQLite and DBOS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service_jobs(app_client: TestClient) -> Jobs:
    """The jobs of the running application, with kinds for these tests."""
    jobs: Jobs = app_client.app.state.service.jobs  # type: ignore[attr-defined]
    jobs.register("make", made)
    jobs.register("refuse", refused)
    return jobs


@pytest.fixture
def held(service_jobs: Jobs) -> Iterator[Held]:
    held = Held()
    service_jobs.register("held", held)
    yield held
    held.go.set()


def answer_of(client: TestClient, job: Job | UUID, tail: str = "") -> Any:
    return client.get(f"/api/v1/jobs/{job.id if isinstance(job, Job) else job}{tail}")


def ended(client: TestClient, job: Job) -> dict[str, Any]:
    wait_for(lambda: answer_of(client, job).json()["status"] in FINISHED)
    body: dict[str, Any] = answer_of(client, job).json()
    return body


def test_status_and_result_of_a_job(app_client: TestClient, service_jobs: Jobs, held: Held) -> None:
    job = submit(service_jobs, "held", owner=ANYBODY)
    assert held.begun.wait(10)
    wait_for(lambda: answer_of(app_client, job).json()["stage"] == "held")
    body = answer_of(app_client, job).json()
    assert (body["status"], body["progress"], body["result_url"], body["error"]) == ("processing", 0.5, None, None)
    early = answer_of(app_client, job, "/result")
    assert (early.status_code, early.json()["code"]) == (409, "JOB_NOT_FINISHED")
    assert int(early.headers["retry-after"]) > 0
    held.go.set()
    body = ended(app_client, job)
    assert (body["status"], body["progress"], body["result"]["pages"]) == ("completed", 1.0, 1)
    result = app_client.get(body["result_url"])
    assert (result.status_code, result.content) == (200, b"made of " + job.id.bytes)
    assert result.headers["content-type"] == "application/zip"
    again = app_client.get(body["result_url"], headers={"If-None-Match": result.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert app_client.delete(body["status_url"]).json()["outcome"] == "deleted"
    assert answer_of(app_client, job).json()["code"] == "NOT_FOUND"


def test_the_result_of_a_failed_job_is_its_error(app_client: TestClient, service_jobs: Jobs) -> None:
    job = submit(service_jobs, "refuse", owner=ANYBODY)
    assert ended(app_client, job)["error"] == {"code": "INVALID_VALUE", "detail": "page 2: this is wrong"}
    answer = answer_of(app_client, job, "/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "JOB_FAILED")
    assert answer.json()["detail"] == "page 2: this is wrong"


def test_cancelling_over_http(app_client: TestClient, service_jobs: Jobs, held: Held) -> None:
    running = submit(service_jobs, "held", owner=ANYBODY)
    assert held.begun.wait(10)
    waiting = submit(service_jobs, "make", owner=ANYBODY)
    first = app_client.delete(f"/api/v1/jobs/{waiting.id}")
    assert (first.status_code, first.json()["outcome"]) == (200, "cancelled")
    second = app_client.delete(f"/api/v1/jobs/{running.id}")
    assert (second.status_code, second.json()["outcome"]) == (202, "cancelling")
    assert ended(app_client, running)["status"] == "cancelled"
    assert answer_of(app_client, running, "/result").json()["code"] == "JOB_FAILED"


def test_events_tell_each_change_and_end_with_the_job(app_client: TestClient, service_jobs: Jobs, held: Held) -> None:
    job = submit(service_jobs, "held", owner=ANYBODY)
    assert held.begun.wait(10)
    threading.Timer(1.2, held.go.set).start()
    events: list[tuple[str, dict[str, Any]]] = []
    with app_client.stream("GET", f"/api/v1/jobs/{job.id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                events.append((name, json.loads(value)))
    assert [event for event, _ in events][-1] == "completed"
    assert "processing" in {event for event, _ in events}
    assert all(event == data["status"] for event, data in events)
    assert events[-1][1] == answer_of(app_client, job).json()


def test_events_end_when_the_service_is_told_to_stop(app_client: TestClient, service_jobs: Jobs, held: Held) -> None:
    job = submit(service_jobs, "held", owner=ANYBODY)
    assert held.begun.wait(10)
    closing: asyncio.Event = app_client.app.state.service.closing  # type: ignore[attr-defined]
    assert app_client.portal is not None
    app_client.portal.call(closing.set)
    try:
        assert "event: " in answer_of(app_client, job, "/events").text
    finally:
        app_client.portal.call(closing.clear)
    assert answer_of(app_client, job).json()["status"] not in FINISHED


def test_a_signal_sets_the_event_and_reaches_the_server() -> None:
    reached: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: reached.append(number))

    async def stop() -> bool:
        closing = asyncio.Event()
        with set_when_told_to_stop(closing):
            signal.raise_signal(signal.SIGTERM)
            await closing.wait()
        return closing.is_set()

    try:
        assert asyncio.run(stop())
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert reached == [signal.SIGTERM] * 2


def test_streams_of_events_are_bounded(
    app_client: TestClient, service_jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(service_jobs, owner=ANYBODY)
    monkeypatch.setattr(jobs_route, "MAX_WATCHERS", 0)
    answer = answer_of(app_client, job, "/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "BUSY")
    assert service_jobs.watchers == 0


def test_the_list_is_newest_first_by_pages_and_filters(app_client: TestClient, service_jobs: Jobs) -> None:
    made_ones = [submit(service_jobs, owner=ANYBODY) for _ in range(3)]
    refused_one = submit(service_jobs, "refuse", owner=ANYBODY)
    for job in (*made_ones, refused_one):
        ended(app_client, job)
    pages: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        body = app_client.get("/api/v1/jobs", params={"limit": 2} | ({"after": after} if after else {})).json()
        pages.append([job["job_id"] for job in body["jobs"]])
        after = body["next"]
    listed = [job_id for page in pages for job_id in page]
    assert all(len(page) == 2 for page in pages[:-1])
    assert listed[:4] == [str(job.id) for job in (refused_one, *reversed(made_ones))]
    assert len(set(listed)) == len(listed)
    by_kind = app_client.get("/api/v1/jobs", params={"kind": "refuse", "status": "failed"}).json()["jobs"]
    assert str(refused_one.id) in {job["job_id"] for job in by_kind}
    assert {(job["kind"], job["status"]) for job in by_kind} == {("refuse", "failed")}


def test_a_job_of_someone_else_is_not_there(app_client: TestClient, service_jobs: Jobs) -> None:
    job = submit(service_jobs, owner="user:someone")
    finished(service_jobs, job)
    for tail in ("", "/result", "/events"):
        assert answer_of(app_client, job, tail).json()["code"] == "NOT_FOUND"
    assert app_client.delete(f"/api/v1/jobs/{job.id}").status_code == 404
    listed = app_client.get("/api/v1/jobs", params={"limit": 100}).json()["jobs"]
    assert str(job.id) not in {shown["job_id"] for shown in listed}
    assert app_client.get("/api/v1/jobs", params={"after": str(job.id)}).status_code == 404
    assert service_jobs.cancel_or_delete(job.id, "user:someone") is None


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "status=done", "after=1", "after=%00", "kind=%00", f"kind={'k' * 41}"]
)
def test_questions_that_make_no_sense_are_refused(app_client: TestClient, query: str) -> None:
    answer = app_client.get(f"/api/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("key", ["", "two words", "k" * 256, "caf\u00e9"])
def test_idempotency_keys_that_are_none_are_refused(app_client: TestClient, photo: bytes, key: str) -> None:
    answer = app_client.post(
        "/personalize/book", files={"child_photo": photo}, data={"template_ids": str(uuid4())},
        headers={b"Idempotency-Key": key.encode("latin-1")},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("identifier", ["..%2f..%2fetc%2fpasswd", "%00", "x" * 10_000, "-1", str(UUID(int=1))])
def test_ids_that_are_none_reach_no_job(app_client: TestClient, identifier: str) -> None:
    for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events")):
        answer = app_client.request(method, f"/api/v1/jobs/{identifier}{tail}")
        assert answer.status_code in {404, 422}
        assert "request_id" in answer.json()


def test_health_counts_jobs_and_names_the_database(app_client: TestClient, service_jobs: Jobs) -> None:
    ended(app_client, submit(service_jobs, owner=ANYBODY))
    wait_for(lambda: app_client.get("/health").json()["jobs"]["completed"] > 0)
    body = app_client.get("/health").json()
    assert body["database"] == {"kind": "sqlite", "state": "ready"}
    assert set(body["jobs"]) == {"pending", "processing", *FINISHED, "max_jobs"}


# --- other ways to run it ---------------------------------------------------------------------------------------------


def test_a_second_service_on_the_same_file_says_why_it_does_not_start(
    app_client: TestClient, service_folder: Path
) -> None:
    async def start() -> None:
        async with opened_database(settings_in(service_folder, db_use_database=True)):
            pass

    assert app_client.get("/health/live").status_code == 200
    with pytest.raises(StartError, match=r"another process uses .*service\.db"):
        asyncio.run(start())


def test_a_service_without_a_database_does_jobs_as_well(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path))) as client:
        jobs: Jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
        jobs.register("make", made)
        body = ended(client, submit(jobs, owner=ANYBODY))
        assert client.get(body["result_url"]).status_code == 200
        assert client.get("/health").json()["database"]["kind"] == "memory"


def test_while_the_database_is_away_jobs_answer_503_and_the_rest_goes_on(
    postgres: Postgres, tmp_path: Path, photo: bytes
) -> None:
    url = migrated(postgres)
    settings = settings_in(tmp_path, db_use_database=True, database_url=url, role="api")
    with TestClient(create_app(settings)) as client:
        jobs: Jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
        job = submit(jobs, owner=ANYBODY)
        postgres.stop()
        try:
            for answer in (answer_of(client, job), client.get("/api/v1/jobs"), answer_of(client, job, "/events")):
                assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
                assert int(answer.headers["retry-after"]) > 0
            with pytest.raises(DatabaseUnavailableError):
                submit(jobs)
            assert client.post("/detect-face", files={"file": photo}).status_code == 200
            wait_for(lambda: client.get("/health").json()["status"] == "degraded")
            assert client.get("/health").json()["database"]["state"] == "unreachable"
            assert client.get("/health/ready").status_code == 200
        finally:
            postgres.start()
        wait_for(lambda: client.get("/health").json()["status"] == "healthy")
        assert answer_of(client, job).json()["status"] == "pending"  # this process takes jobs, and runs none
        assert len(list((tmp_path / "uploads").glob("*_job_*"))) == 1


def test_a_worker_answers_health_checks_only(postgres: Postgres, tmp_path: Path) -> None:
    app = create_app(settings_in(tmp_path, db_use_database=True, database_url=migrated(postgres), role="worker"))
    client = TestClient(app)  # not started: its routes are what is asked for
    assert client.get("/health/live").status_code == 200
    for method, path in (("POST", "/personalize"), ("GET", "/api/v1/jobs"), ("GET", "/models")):
        assert client.request(method, path).status_code == 404


def migrated(postgres: Postgres) -> str:
    url = postgres.new_database()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    upgrade(engine)
    engine.dispose()
    return url
