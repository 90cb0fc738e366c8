"""One run of a job: what a handler gets, how its end becomes the job's, and when it is done again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, ParamSpec, TypeAlias, TypeVar
from uuid import UUID

import structlog

from service.error_handlers import INTERNAL_ERROR, is_disk_full
from service.errors import DatabaseUnavailableError, ServiceError, StorageFullError, StorageUnavailableError
from service.job_store import JobLostError, JobStatus, JobStore
from service.storage import Storage, StoredFile
from service.tables import Job

P = ParamSpec("P")
T = TypeVar("T")

logger = structlog.get_logger("jobs")

MAX_ATTEMPTS = 3
"""Runs that may end with their process; then the job is what ends it."""
REPORT_INTERVAL_S = 0.25
"""Progress is stored, and the wish to cancel is read, at most so often."""
MAX_STAGE = 80
"""Letters that the table has for it."""
PASSING = (StorageFullError, StorageUnavailableError, DatabaseUnavailableError)
"""What a job waits for."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0
"""Between attempts to reach a database or disk that is away: doubled each time."""


class JobInterruptedError(BaseException):
    """The process stops. No Exception: neither handlers nor DBOS may take it for a failure of the job."""


class JobCancelledError(Exception):
    """The client does not want the job any more."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job made: a file under the job's id, what clients are told of it, and the keys of files beside it."""

    file: StoredFile
    details: dict[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()


class JobRun:
    """What a handler gets: the job's inputs, and ways to report, to compute and to store."""

    def __init__(self, job: Job, runner: JobRunner) -> None:
        self.id = job.id
        self.owner = job.owner
        self.inputs = job.inputs
        self._job = job
        self._runner = runner
        self._reported_at = 0.0
        self._fraction = 0.0

    def open(self, name: str) -> BinaryIO:
        """A file that came with the job."""
        return self._runner.storage.open_job_input(self.id, name)

    def progress(self, stage: str, fraction: float) -> None:
        """Say what is being done and how much is done, 0 to 1. Call it often: here a job can be stopped.

        Raises:
            JobCancelledError, JobInterruptedError, JobLostError: leave it; clean up with `finally`.
        """
        self._runner.raise_if_stopping()
        self._fraction = fraction
        now = time.monotonic()
        if now - self._reported_at < REPORT_INTERVAL_S:
            return
        self._reported_at = now
        with suppress(DatabaseUnavailableError, StorageFullError):  # the work goes on; its end is what must be stored
            progress = min(1.0, max(0.0, fraction))
            if self._runner.store.report(self._job, stage=stage[:MAX_STAGE], progress=progress):
                raise JobCancelledError

    def compute(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(*args, **kwargs)` in the inference pool, in turn with the requests."""
        self._runner.raise_if_stopping()
        result: T = self._runner.compute(partial(fn, *args, **kwargs))
        return result

    def keep(self, archive: bytes) -> None:
        """Store a ZIP to look at, beside the result. Waits for a storage that is away."""
        self.until_stored(partial(self._runner.storage.save_artifacts, self.id, archive))

    def store(self, write: Callable[[BinaryIO], object], *, ending: str) -> StoredFile:
        """Store the result that `write` writes; `ending` is one of the storage's. Waits for a storage that is away."""
        return self._runner.storage.save_job_result(self.id, write, ending=ending, attempts=self.until_stored)

    def until_stored(self, work: Callable[[], T]) -> T:
        """Do what stores something, again and again while the storage is full or away; what went before is not lost.

        Raises:
            as `progress`, and what `work` raises.
        """
        return self._runner.until_stored(self, work)

    def wait_for_storage(self, seconds: float) -> None:
        """Pause, and say so.

        Raises:
            as `progress`.
        """
        self.progress("waiting for storage", self._fraction)
        self._runner.pause(seconds)


Handler: TypeAlias = Callable[[JobRun], JobResult]


class JobRunner:
    """Runs jobs in the threads that call it, a fixed number at once."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        *,
        compute: Callable[[Callable[[], Any]], Any],
        concurrent: int,
        on_finished: Callable[[], None],
    ) -> None:
        """`compute` runs a function in the inference pool; `on_finished` is called after each job."""
        self.store = store
        self.storage = storage
        self.compute = compute
        self.concurrent = concurrent
        self.handlers: dict[str, Handler] = {}
        self._on_finished = on_finished
        self._stopping = threading.Event()
        self._slots = threading.Semaphore(concurrent)
        self._suspects = threading.Lock()

    def stop(self, *, within_s: float) -> None:
        """Let runs stop where they can; begin none. Returns when none is left, or the time is over."""
        self._stopping.set()
        deadline = time.monotonic() + within_s
        for _ in range(self.concurrent):
            self._slots.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def raise_if_stopping(self) -> None:
        """Raises JobInterruptedError once `stop` was called."""
        if self._stopping.is_set():
            raise JobInterruptedError

    def run(self, job_id: UUID) -> None:
        """Do a job, if it is still to be done. Called by the queue, in a thread of its own.

        Raises:
            JobInterruptedError: it is not done, and must be run again by the next process.
        """
        try:
            self._run_in_turn(job_id)
        except Exception as error:
            logger.exception("a job could not be run; the next process will try again", job=str(job_id))
            raise JobInterruptedError from error

    def _run_in_turn(self, job_id: UUID) -> None:
        with self._slot():
            crashed = self._persist(self.store.crashes, job_id) > 0
            # A job that was there when a process ended runs alone among its like: so the one that ends processes is
            # the one that is counted.
            with self._suspects if crashed else nullcontext():
                job = self._persist(self.store.begin, job_id)
                if job is not None:
                    self._run(job)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        while not self._slots.acquire(timeout=REPORT_INTERVAL_S):
            self.raise_if_stopping()
        try:
            self.raise_if_stopping()
            yield
        finally:
            self._slots.release()

    def _run(self, job: Job) -> None:
        log = logger.bind(job=str(job.id), kind=job.kind, attempt=job.attempts)
        log.info("job begun")
        try:
            status, result, error = self._outcome(job)
            self._persist(partial(self.store.finish, job, status, result=result, error=error))
        except JobLostError:
            log.warning("job lost: another process took this one for dead, or the job was deleted")
            raise JobInterruptedError from None
        except JobInterruptedError:
            log.info("job handed back")
            with suppress(ServiceError):
                self.store.hand_back(job)
            raise
        with suppress(StorageUnavailableError):  # else housekeeping removes them
            self.storage.delete_job_inputs(job.id)
        log.info("job finished", status=status, code=error and error[0])
        self._on_finished()

    def _outcome(self, job: Job) -> tuple[JobStatus, dict[str, Any] | None, tuple[str, str] | None]:
        handler = self.handlers.get(job.kind)
        if job.attempts > MAX_ATTEMPTS:
            return "failed", None, ("JOB_CRASHED", f"The service stopped {MAX_ATTEMPTS} times while it did this job.")
        if handler is None:
            return "failed", None, ("UNKNOWN_JOB_KIND", f"No process here does jobs of the kind {job.kind!r}.")
        try:
            if job.cancel_requested:
                raise JobCancelledError
            run = JobRun(job, self)
            made = self.until_stored(run, partial(handler, run))
        except JobCancelledError:
            return "cancelled", None, None
        except ServiceError as failure:
            return "failed", None, (failure.code, failure.message)
        except JobLostError:
            raise
        except Exception:
            logger.exception("a job failed unexpectedly", job=str(job.id), kind=job.kind)
            return "failed", None, ("INTERNAL_ERROR", INTERNAL_ERROR)
        result = {"download_url": f"/download/{made.file.id}", **made.details}
        if made.files:
            result["files"] = list(made.files)  # removed with the job
        return "completed", result, None

    def until_stored(self, run: JobRun, work: Callable[[], T]) -> T:
        """Do it again while the storage is full or away: a job must not fail for what will pass."""
        for pause in _pauses():
            try:
                return work()
            except (*PASSING, OSError) as error:
                if isinstance(error, OSError) and not is_disk_full(error):
                    raise
                logger.warning("a job waits for storage", job=str(run.id), cause=str(error))
                run.wait_for_storage(pause)
        raise AssertionError

    def _persist(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Try until the database takes it: what a run has done must not be lost with a connection."""
        for pause in _pauses():
            try:
                return write(*args, **kwargs)
            except (DatabaseUnavailableError, StorageFullError):
                self.pause(pause)
        raise AssertionError

    def pause(self, seconds: float) -> None:
        """Wait; raises JobInterruptedError once `stop` was called."""
        if self._stopping.wait(seconds):
            raise JobInterruptedError


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, LAST_PAUSE_S)
