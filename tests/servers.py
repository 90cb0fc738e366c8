"""A real PostgreSQL and a real Redis, from Debian's packages, and moto's S3, started for the tests and gone after them.

Where a program is missing its tests are skipped, and say so; with REQUIRE_SERVERS set, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.s3_server import S3Server

POSTGRES_USER = "postgres"
START_S = 30


class Postgres:
    """A PostgreSQL server in a folder of its own. It runs as the user postgres where the tests run as root."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        self._run_as = POSTGRES_USER if os.getuid() == 0 else None
        if self._run_as:
            shutil.chown(folder, self._run_as)
        self._call("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        self._call(
            "pg_ctl", "start", "-w", "-D", str(self._folder / "data"), "-l", str(self._folder / "log"), "-o", options
        )

    def stop(self) -> None:
        """Stop it as a power cut would: open connections and transactions are gone."""
        self._call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._folder / "data"))

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _call(self, program: str, *arguments: str) -> None:
        # Its output goes to a file: a pipe would stay open as long as the server runs.
        with (self._folder / f"{program}.log").open("w") as log:
            subprocess.run(
                [self._programs / program, *arguments], check=True, timeout=60, cwd=self._folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._run_as,
            )  # fmt: skip


class Redis:
    """A Redis server that keeps nothing."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [self._program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        wait_for(lambda: _listens(self._port))

    def stop(self) -> None:
        """Stop it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], *, seconds: float = START_S) -> None:
    """Until it is true; fails when it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests; each takes a database of its own."""
    programs = _postgres_programs()
    if programs is None:
        missing("PostgreSQL", "postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not pytest's: its parents are closed to the user postgres
    server = Postgres(folder, programs)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One server for all tests that leaves nothing behind."""
    program = shutil.which("redis-server")
    if program is None:
        missing("Redis", "redis-server")
    server = Redis(program)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def session_s3_server() -> Iterator[S3Server]:
    """Never started: take `s3_server`."""
    from tests.s3_server import S3Server  # a second that few tests need

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3_server(session_s3_server: S3Server) -> S3Server:
    """One server for all tests, running and without faults; each takes a bucket of its own."""
    session_s3_server.start()
    session_s3_server.faults.clear()
    session_s3_server.requests.clear()
    return session_s3_server


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis) -> str:
    """The URL of a running Redis that keeps nothing."""
    return redis_server.url


def _postgres_programs() -> Path | None:
    """The folder of the newest installed PostgreSQL; Debian keeps each version in its own, outside PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    return max(found, key=lambda path: int(path.parent.name), default=Path(on_path).parent if on_path else None)


def missing(name: str, package: str) -> NoReturn:
    """Skip the test, or fail it where everything has to be there."""
    sentence = f"{name} is not installed (apt-get install {package})"
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
