"""A process that runs jobs and nothing else, for tests that kill it: `python -m tests.job_process URL FOLDER`.

Its jobs tell what they do in FOLDER/log, one line each: `begun ID`, `done ID`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from service.database import Database, create_engine, open_database, upgrade
from service.job_runs import JobResult, JobRun
from service.job_store import ACTIVE
from service.jobs import Jobs
from service.logs import configure_logging
from service.storage import local_storage
from service.tables import Job
from tests.servers import wait_for

PROJECT = Path(__file__).resolve().parents[1]
CONCURRENT = 4
WORKER_TIMEOUT_S = 2.0
ENDING = "_book.zip"
OWNER = "test"


def new_jobs(database: Database, folder: Path, **changes: Any) -> Jobs:
    """Jobs with files under `folder`, computed where they are called."""
    storage = local_storage(upload_dir=folder / "uploads", output_dir=folder / "outputs")
    options: dict[str, Any] = {
        "compute": lambda call: call(), "concurrent": CONCURRENT, "max_jobs": 100,
        "worker_timeout_s": WORKER_TIMEOUT_S, "retention_hours": 1,
    }  # fmt: skip
    return Jobs(database, storage, **(options | changes))


def slow(run: JobRun) -> JobResult:
    """Takes `seconds`, in small steps; the result is its own, so that a second one would be seen."""
    tell(run, "begun")
    until = time.monotonic() + run.inputs["seconds"]
    while time.monotonic() < until:
        run.progress("working", 0.5)
        time.sleep(0.02)
    file = run.store(lambda out: out.write(uuid4().bytes), ending=ENDING)
    tell(run, "done")
    return JobResult(file)


def poison(run: JobRun) -> JobResult:
    """Ends its process as the system does where memory runs out."""
    tell(run, "begun")
    time.sleep(run.inputs["seconds"])  # long enough for others to be in the middle
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def tell(run: JobRun, what: str) -> None:
    """One line of the log, written at once."""
    with Path(os.environ["JOB_LOG"]).open("a") as log:
        log.write(f"{what} {run.id} {os.getpid()}\n")


class JobProcess:
    """Such a process, seen from the test."""

    def __init__(self, url: str, folder: Path, *, module: str = "tests.job_process") -> None:
        self.log = folder / "log"
        self.errors = folder / "errors"
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, url, str(folder)], cwd=PROJECT, stdout=subprocess.PIPE, stderr=errors,
                env={**os.environ, "JOB_LOG": str(self.log)}, start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Until it runs jobs."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", self.errors.read_text()

    def kill(self) -> None:
        """As the system does: without a word to the process."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.close()

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.terminate()
        return self.close()

    def close(self) -> int:
        """Wait for its end."""
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextmanager
def job_process(url: str, folder: Path, **options: Any) -> Iterator[JobProcess]:
    """A running process, killed at the end if it still runs."""
    process = JobProcess(url, folder, **options)
    try:
        process.wait_until_ready()
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()
        else:
            process.close()


class Client:
    """Hands in jobs and looks at them, beside the processes that run them. Takes no lock on a SQLite file."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir(exist_ok=True)
        engine = create_engine(url)
        upgrade(engine)
        self.database = Database(engine)
        self.jobs = new_jobs(self.database, folder, runs_jobs=False)

    def submit(self, kind: str = "slow", *, seconds: float = 0.15, files: Mapping[str, bytes] | None = None) -> UUID:
        """A job's id."""
        return self.jobs.submit(kind, owner=OWNER, inputs={"seconds": seconds}, files=files or {"photo": b"x"}).id

    def job(self, job_id: UUID) -> Job:
        """The job as it is now."""
        return self.jobs.store.get(job_id, OWNER)

    def wait_until_finished(self, *, seconds: float = 60) -> None:
        """Until no job is left to do."""
        wait_for(lambda: sum(self.jobs.store.counts()[status] for status in ACTIVE) == 0, seconds=seconds)

    def results(self) -> dict[str, bytes]:
        """What is stored, by name. A write that was cut off is hidden, and no result."""
        return {path.name: path.read_bytes() for path in (self.folder / "outputs").glob("[!.]*")}

    def lines(self, what: str) -> list[str]:
        """The ids of all jobs that were `begun` or `done`, in order."""
        return [job for said, job, _ in self._log() if said == what]

    def in_flight(self) -> set[str]:
        """The ids of jobs that were begun and are not done."""
        done = self.lines("done")  # first: a job that is begun and done between the two readings is not in flight
        return set(self.lines("begun")) - set(done) - set(self.lines("done"))

    def pids(self) -> dict[str, str]:
        """The process that finished each job."""
        return {job: pid for said, job, pid in self._log() if said == "done"}

    def _log(self) -> list[list[str]]:
        log = self.folder / "log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def main(url: str, folder: Path) -> None:
    """Run jobs until SIGTERM."""
    configure_logging(level="info", log_format="json")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    database = open_database(url)
    jobs = new_jobs(database, folder)
    jobs.register("slow", slow)
    jobs.register("poison", poison)
    jobs.start()
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    stop.wait()
    jobs.close()
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
