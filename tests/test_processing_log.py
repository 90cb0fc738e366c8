"""What was done, and how long it took, can be read without Prometheus."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from main import create_app
from service.database import Database, open_database
from service.errors import DatabaseUnavailableError
from service.processing_log import MAX_WAITING, ProcessingLog
from service.tables import ProcessingMetric, utc_now
from tests.conftest import settings_in


def an_hour(log: ProcessingLog, kind: str | None = None) -> list[tuple[str, int, int, float | None]]:
    found = log.summaries(since=utc_now() - timedelta(hours=1), kind=kind)
    return [(each.kind, each.count, each.failed, each.median_ms) for each in found]


def test_work_is_summed_up_by_kind_without_the_failed() -> None:
    log = ProcessingLog(open_database(None))
    for ms in (10, 20, 30):
        log.note("page", failed=False, total_ms=ms, stages={"decode": ms / 10})
    log.note("page", failed=True, total_ms=5000, stages={})
    log.note("face", failed=True, total_ms=1, stages={})
    assert an_hour(log) == [("page", 4, 1, 20.0), ("face", 1, 1, None)]
    assert an_hour(log, "face") == [("face", 1, 1, None)]
    (page, _) = log.summaries(since=utc_now() - timedelta(hours=1), kind=None)
    assert page.p95_ms == pytest.approx(29)
    assert page.stages_ms == {"decode": 2.0}
    assert [each.total_ms for each in page.recent] == [5000, 30, 20, 10]


def test_old_work_is_forgotten() -> None:
    database = open_database(None)
    log = ProcessingLog(database)
    log.note("page", failed=False, total_ms=10, stages={})
    log.flush()
    with database.session() as session:
        session.execute(sa.update(ProcessingMetric).values(at=utc_now() - timedelta(hours=3)))
    assert an_hour(log) == []
    assert log.sweep(keep=timedelta(hours=2)) == 1


def test_what_a_database_does_not_take_waits_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ProcessingLog(open_database(None))

    def away(_: Database) -> None:
        raise DatabaseUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "session", away)
        for number in range(MAX_WAITING + 5):
            log.note("page", failed=False, total_ms=number, stages={})
        log.flush()
    ((_, count, _, median),) = an_hour(log)
    assert count == MAX_WAITING
    assert median == pytest.approx(MAX_WAITING / 2 + 4.5)  # the first five were given up


def test_requests_that_did_work_are_noted_by_route(tmp_path: Path, photo: bytes) -> None:
    with TestClient(create_app(settings_in(tmp_path))) as client:
        client.post("/detect-face", files={"file": photo}).raise_for_status()
        client.get("/models")
        answer = client.get("/api/v1/processing", params={"hours": 1}).json()
        assert [(each["kind"], each["count"], each["failed"]) for each in answer["kinds"]] == [("/detect-face", 1, 0)]
        assert {"decode", "faces", "store"} <= set(answer["kinds"][0]["stages_ms"])
        for hours in ("0", "-1", "NaN", "inf", "x"):
            assert client.get("/api/v1/processing", params={"hours": hours}).status_code == 422
