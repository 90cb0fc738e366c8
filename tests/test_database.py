"""The database's failures have names, and its transactions are whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from service.database import Database, DatabaseSetupError, create_engine, open_database
from service.errors import DatabaseUnavailableError, StorageFullError
from service.tables import JobWorker
from tests.servers import free_port


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/data/service.db"


def count(database: Database) -> int:
    with database.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(JobWorker)) or 0


def add(database: Database, name: str | None = None) -> None:
    with database.session() as session:
        session.add(JobWorker(id=name or str(uuid4()), seen_at=datetime.now(UTC)))


@pytest.fixture(params=["memory", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database = open_database(None if request.param == "memory" else sqlite_url(tmp_path))
    assert database.kind == request.param
    yield database
    database.close()


def test_a_block_that_raises_changes_nothing(database: Database) -> None:
    def fail() -> None:
        with database.session() as session:
            session.add(JobWorker(id="a", seen_at=datetime.now(UTC)))
            session.flush()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert count(database) == 0


def test_many_threads_write_at_once(database: Database) -> None:
    def add_ten() -> None:
        for _ in range(10):
            add(database)

    threads = [threading.Thread(target=add_ten) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 80


def test_moments_come_back_in_utc_whatever_zone_they_had(database: Database) -> None:
    moment = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=2)))
    with database.session() as session:
        session.add(JobWorker(id="a", seen_at=moment))
    with database.session() as session:
        worker = session.get(JobWorker, "a")
        assert worker is not None
        assert (worker.seen_at, worker.seen_at.utcoffset()) == (moment, timedelta(0))


def test_what_memory_holds_is_gone_with_it() -> None:
    for _ in range(2):
        database = open_database(None)
        assert count(database) == 0
        add(database)
        database.close()


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    """SQLite may not have another page, which to it is a disk that is full."""
    database = open_database(sqlite_url(tmp_path))
    add(database, "first")

    @sa.event.listens_for(database.engine, "begin")
    def no_more_pages(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        with database.session() as session:
            session.add_all(JobWorker(id=str(uuid4()), seen_at=datetime.now(UTC)) for _ in range(1000))

    with pytest.raises(StorageFullError):
        fill()
    assert count(database) == 1
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    database.close()


def test_a_server_that_does_not_answer_is_a_503_and_not_a_wait() -> None:
    database = Database(create_engine(f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/x"))
    with pytest.raises(DatabaseUnavailableError) as failure:
        count(database)
    assert failure.value.retry_after_s
    assert "secret" not in failure.value.message


def test_a_server_that_does_not_answer_stops_the_start_with_one_sentence() -> None:
    with pytest.raises(DatabaseSetupError) as failure:
        open_database(f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/x")
    assert str(failure.value).startswith("DATABASE_URL: PostgreSQL can't be reached:")
    assert "secret" not in str(failure.value)


def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "service.db").write_bytes(b"something else" * 1000)
    with pytest.raises(DatabaseSetupError, match=r"service\.db can't be used"):
        open_database(f"sqlite:///{tmp_path}/service.db")


def test_a_place_that_can_not_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseSetupError, match="can't be written"):
        open_database(f"sqlite:///{tmp_path}/file/service.db")


def test_a_closed_database_can_be_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        database = open_database(sqlite_url(tmp_path))
        with pytest.raises(DatabaseSetupError, match="another process"):
            open_database(sqlite_url(tmp_path))
        database.close()
