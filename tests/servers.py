"""A real Redis, from Debian's packages, started for the tests and gone after them.

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
from typing import NoReturn

import pytest

START_S = 30


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
def redis_server() -> Iterator[Redis]:
    """One server for all tests that leaves nothing behind."""
    program = shutil.which("redis-server")
    if program is None:
        _missing("Redis", "redis-server")
    server = Redis(program)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis) -> str:
    """The URL of a running Redis that keeps nothing."""
    return redis_server.url


def _missing(name: str, package: str) -> NoReturn:
    sentence = f"{name} is not installed (apt-get install {package})"
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
