"""Starts the service on a free port for as long as a block runs; the demo and the benchmarks talk to that."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from config import load_settings

PROJECT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 180.0  # PyTorch alone takes a slow machine long


@dataclass(frozen=True, slots=True)
class LocalService:
    """A running service: where it answers, its process, and the seconds from start to ready."""

    url: str
    pid: int
    ready_s: float


def credentials() -> dict[str, str]:
    """The header that a service with this machine's settings asks for; none where it is open."""
    keys = load_settings().api_key
    return {"Authorization": f"Bearer {keys[0].get_secret_value()}"} if keys else {}


@contextmanager
def local_service(*program: str, **settings: str) -> Iterator[LocalService]:
    """Run `python main.py`, or what `program` names instead, with these settings beside the environment's.

    Its pictures and its database lie in a folder that is removed afterwards.
    Raises RuntimeError with the service's own last words where it doesn't become ready.
    """
    with tempfile.TemporaryDirectory(prefix="personalizer-") as folder:
        port = _free_port()
        environment = {
            **os.environ,
            "API_HOST": "127.0.0.1",
            "API_PORT": str(port),
            "UPLOAD_DIR": f"{folder}/uploads",
            "OUTPUT_DIR": f"{folder}/outputs",
            "DATABASE_URL": f"sqlite:///{folder}/data/service.db",
            "AUTO_DOWNLOAD_MODELS": "false",
            "RATE_LIMIT": "off",
            **settings,
        }
        environment.pop("PORT", None)  # another name of API_PORT
        log = Path(folder, "service.log")
        start = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *(program or ("main.py",))],
                cwd=PROJECT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(url, process, log)
            yield LocalService(url, process.pid, time.perf_counter() - start)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.get(f"{url}/health/ready").is_success:
                    return
            except httpx.TransportError:
                pass  # nothing listens yet
            time.sleep(0.02)
    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RuntimeError(f"The service did not become ready. It said:\n{last_words}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
