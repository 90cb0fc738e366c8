"""Migrations and tables agree, on SQLite and on a real PostgreSQL, by the commands that an operator types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.database import DatabaseSetupError, create_engine, open_database
from service.tables import Base
from tests.servers import Postgres

PROJECT = Path(__file__).resolve().parents[1]
URLS = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


def url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder}/service.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments], cwd=PROJECT, env={**os.environ, "DATABASE_URL": url},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def tables(url: str) -> set[str]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        return set(sa.inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


@URLS
def test_upgrade_makes_what_the_tables_say_and_downgrade_takes_it_away(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = url_of(kind, request, tmp_path)
    for arguments in (("upgrade", "head"), ("check",)):
        run = alembic(url, *arguments)
        assert run.returncode == 0, run.stderr
    assert tables(url) == set(Base.metadata.tables)
    assert alembic(url, "downgrade", "base").returncode == 0
    assert tables(url) == set()
    assert alembic(url, "check").returncode != 0


def test_sqlite_is_brought_up_to_date_by_the_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/service.db"
    for _ in range(2):  # the second start finds nothing to do
        open_database(url).close()
        assert tables(url) == set(Base.metadata.tables)


def test_postgresql_is_not_touched_by_the_start_which_says_what_to_do(postgres: Postgres) -> None:
    url = postgres.new_database().replace("postgresql://", "postgresql+psycopg://")
    with pytest.raises(DatabaseSetupError, match=r"revision none.*`alembic upgrade head`"):
        open_database(url)
    assert tables(url) == set()


def test_the_migrations_can_be_read_as_sql(postgres: Postgres) -> None:
    run = alembic(postgres.new_database(), "upgrade", "head", "--sql")
    assert run.returncode == 0
    assert "CREATE TABLE jobs" in run.stdout
