"""Long work that outlives the request, the process and the machine: DBOS Transact runs it, and this is its only import.

The jobs table is what the API shows, and the outbox: a job is accepted when its row is committed, and a thread hands
new rows to DBOS, which takes an id only once. DBOS decides who runs what: a queue that several processes share, and
runs of ended processes that begin again. So a run may happen twice, and what it does must be the same both times.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog

from service.database import Database
from service.errors import NotFoundError, ServiceError, StorageUnavailableError
from service.job_runs import Handler, JobRunner
from service.job_store import FINISHED, JobStore
from service.storage import Storage
from service.tables import Job, utc_now

logger = structlog.get_logger("jobs")

QUEUE_POLL_S = 0.2
"""How often DBOS looks for jobs: 2 % of a core where there is nothing to do."""
AHEAD = 8
"""Jobs per running one that wait in a process that has the queue for itself: most are shorter than QUEUE_POLL_S. With
others none wait: one of them may be idle."""
OUTBOX_POLL_S = 1.0
OUTBOX_BATCH = 100
BEAT_S = 2.0
DRAIN_S = 20.0
"""What a stopping process gives its runs to come to a point where they can stop."""
JOIN_S = 5.0
HOUSEKEEPING_S = 600.0
ORPHAN_AGE_S = 3600.0
"""Files of a job are stored before its row: without one after this time, there never will be."""
ENDED_RUNS_KEPT = timedelta(hours=1)

DBOS_NAME = "illustration-personalizer"
DBOS_VERSION = "1"
"""Fixed: DBOS would hash our code, and after an update leave the jobs of the former version lying."""
DBOS_QUEUE = "jobs"
DBOS_SCHEMA = "dbos"

_one_per_process = threading.Lock()
"""DBOS is one for the whole process."""


class JobQueue(Protocol):
    """Who runs which job."""

    def enqueue(self, job_id: UUID) -> None:
        """Have a job run; one that is known already is not taken twice."""

    def take_over(self, worker: str) -> None:
        """Have the jobs of an ended process run again."""

    def tidy(self) -> None:
        """Forget what is long finished."""

    def close(self) -> None:
        """Run nothing more."""


@dataclass(frozen=True, slots=True)
class JobsHealth:
    """As the monitor last saw it; asking costs nothing."""

    database_answers: bool
    counts: Mapping[str, int]


class Jobs:
    """Takes jobs and runs them. Thread-safe; blocking, so call it from a worker thread."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        *,
        compute: Callable[[Callable[[], Any]], Any],
        concurrent: int,
        max_jobs: int,
        worker_timeout_s: float,
        retention_hours: float,
        runs_jobs: bool = True,
    ) -> None:
        """`compute` runs a function in the inference pool."""
        self.store = JobStore(database)
        self.storage = storage
        self.worker = str(uuid4())
        self.health = JobsHealth(database_answers=True, counts={})
        self.max_jobs = max_jobs
        self.watchers = 0
        """Clients that follow jobs by events; the event loop counts them."""
        self._database = database
        self.on_finished: Callable[[], None] = lambda: None
        """Called after each job, from any thread."""
        self._runner = JobRunner(
            self.store, storage, compute=compute, concurrent=concurrent, on_finished=lambda: self.on_finished()
        )
        self._stopping = threading.Event()
        self._worker_timeout = timedelta(seconds=worker_timeout_s)
        self._retention = timedelta(hours=retention_hours)
        self._runs_jobs = runs_jobs
        self._outbox = threading.Event()
        self._beating_since: float | None = None
        self._queue: JobQueue | None = None
        self._threads: list[threading.Thread] = []

    def register(self, kind: str, handler: Handler) -> None:
        """Have jobs of this kind done by `handler`, in a thread. Call it before `start`."""
        self._runner.handlers[kind] = handler

    def start(self) -> None:
        """Take up what was left, and begin to run jobs.

        Raises:
            DatabaseUnavailableError: the database went away.
        """
        if self._runs_jobs:
            self.store.beat(self.worker)
            self.store.forget_queue()
            self._queue = self._open_queue()
            self._start_thread("job-outbox", self._fill_queue)
        self._start_thread("job-monitor", self._monitor)

    def close(self) -> None:
        """Let runs stop where they can, and leave the rest to the next process."""
        self._stopping.set()
        self._outbox.set()
        if self._queue is not None:
            self._runner.stop(within_s=DRAIN_S)
            self._queue.close()
            with suppress(ServiceError):
                self.store.retire(self.worker)
        for thread in self._threads:
            thread.join(timeout=JOIN_S)

    # For requests

    def submit(
        self,
        kind: str,
        *,
        owner: str,
        inputs: dict[str, Any],
        files: Mapping[str, bytes],
        idempotency_key: str | None = None,
        webhook_url: str | None = None,
    ) -> Job:
        """Accept a job: once this returns it will be done, whatever happens to this process.

        Args:
            kind: one that is registered.
            owner: who asks, as `Principal` names them.
            inputs: what the handler needs, as JSON.
            files: what the handler needs, as files; they are removed when the job is finished.
            idempotency_key: the same key and request give the same job.
            webhook_url: checked already.

        Raises:
            BusyError: too many are unfinished; nothing was kept.
            ConflictError: the key was used for another request.
            DatabaseUnavailableError, StorageUnavailableError, StorageFullError: nothing was kept.
        """
        request_hash = _hash(kind, inputs, files, webhook_url)
        if same := self.store.find_by_key(owner, idempotency_key, request_hash):
            return same
        self.store.check_room(self.max_jobs)
        now = utc_now()
        job = Job(
            id=uuid4(), kind=kind, owner=owner, status="pending", progress=0.0, inputs=inputs, attempts=0,
            cancel_requested=False, idempotency_key=idempotency_key, request_hash=request_hash,
            created_at=now, updated_at=now, webhook_url=webhook_url, webhook_attempts=0,
        )  # fmt: skip
        kept = None
        try:
            for name, data in files.items():
                self.storage.save_job_input(job.id, name, data)
            kept = self.store.add(job, max_jobs=self.max_jobs)
        finally:
            if kept is not job:
                self._drop_inputs(job.id)
        self._outbox.set()
        return kept

    def cancel_or_delete(self, job_id: UUID, owner: str) -> Job | None:
        """Cancel an unfinished job; it is returned. Remove a finished one and its result; None.

        Raises:
            NotFoundError: there is none.
            StorageUnavailableError: a finished one's result can't be removed now, and the job is kept with it.
        """
        finished = self.store.get(job_id, owner)
        if finished.status in FINISHED:
            self.storage.delete_job_inputs(job_id)
            for key in (finished.result or {}).get("files", ()):
                self.storage.store.delete(key)
            try:
                self.storage.delete(job_id)
            except NotFoundError:
                self.storage.delete_artifacts(job_id)  # a job that failed has them without a result
            self.store.delete_finished(job_id, owner)
            return None
        job = self.store.cancel(job_id, owner)
        if job.status in ("completed", "failed"):  # between the two questions
            return self.cancel_or_delete(job_id, owner)
        if job.status == "cancelled":
            self._drop_inputs(job_id)
            self.on_finished()
        return job

    def _drop_inputs(self, job_id: UUID) -> None:
        with suppress(StorageUnavailableError):  # else housekeeping removes them
            self.storage.delete_job_inputs(job_id)

    # Keeping the queue going

    def _open_queue(self) -> JobQueue:
        if self._database.kind == "memory":
            return MemoryQueue(self._runner)
        return DbosQueue(self._runner, url=self._database.engine.url, worker=self.worker)

    def _start_thread(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _fill_queue(self) -> None:
        assert self._queue is not None
        tidy_at = 0.0
        while not self._stopping.is_set():
            self._outbox.clear()
            more = False
            try:
                more = self._hand_over(self._queue)
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + HOUSEKEEPING_S
                    self._tidy(self._queue)
            except (ServiceError, sa.exc.SQLAlchemyError) as error:
                logger.debug("the outbox waits", cause=repr(error))
            except Exception:
                logger.exception("the outbox failed, and tries again")
            if not more:
                self._outbox.wait(OUTBOX_POLL_S)

    def _hand_over(self, queue: JobQueue) -> bool:
        """Give new jobs to the queue; whether there may be more."""
        waiting = self.store.waiting_for_queue(limit=OUTBOX_BATCH)
        for job_id in waiting:
            queue.enqueue(job_id)
        if waiting:
            self.store.mark_queued(waiting)
        return len(waiting) == OUTBOX_BATCH

    def _tidy(self, queue: JobQueue) -> None:
        expired = self.store.delete_expired(before=utc_now() - self._retention)
        if expired:
            logger.info("expired jobs removed", jobs=expired)
        ages = self.storage.jobs_with_inputs()
        statuses = self.store.statuses(ages)
        for job_id, age in ages.items():
            status = statuses.get(job_id)
            if status in FINISHED or (status is None and age > ORPHAN_AGE_S):
                self.storage.delete_job_inputs(job_id)
        queue.tidy()

    def _monitor(self) -> None:
        interval = min(BEAT_S, self._worker_timeout.total_seconds() / 5)
        while True:
            try:
                if self._queue is not None:
                    self.store.beat(self.worker)
                    self._take_over_from_silent_ones(self._queue)
                self._see(JobsHealth(database_answers=True, counts=self.store.counts()))
            except (ServiceError, sa.exc.SQLAlchemyError) as error:
                self._beating_since = None
                self._see(JobsHealth(database_answers=False, counts=self.health.counts), cause=error)
            except Exception:
                logger.exception("the monitor of jobs failed, and tries again")
            if self._stopping.wait(interval):
                return

    def _see(self, health: JobsHealth, cause: BaseException | None = None) -> None:
        if health.database_answers != self.health.database_answers:
            if health.database_answers:
                logger.info("the database answers again")
            else:
                logger.error("the database does not answer; jobs wait for it", cause=repr(cause and cause.__cause__))
        self.health = health

    def _take_over_from_silent_ones(self, queue: JobQueue) -> None:
        silent_for = self._silence_that_counts()
        for silent in self.store.silent_workers(self.worker, silent_for=silent_for):
            with self.store.taking_over(silent, self.worker, silent_for=silent_for) as mine:
                if mine:
                    queue.take_over(silent)
                    logger.info("the jobs of an ended process were taken over", process=silent)

    def _silence_that_counts(self) -> timedelta | None:
        """After the database was away all others look silent: only who has been heard all the time may judge.

        A process that ended in order is recognised at once: its last word is from long ago.
        """
        if self._database.kind != "postgresql":
            return None
        now = time.monotonic()
        self._beating_since = self._beating_since or now
        heard_long_enough = now - self._beating_since > self._worker_timeout.total_seconds()
        return self._worker_timeout if heard_long_enough else timedelta(days=365)


class MemoryQueue:
    """Runs jobs in this process; what is not finished is lost with it, as DB_USE_DATABASE=false says."""

    def __init__(self, runner: JobRunner) -> None:
        self._run = runner.run
        self._threads = ThreadPoolExecutor(runner.concurrent, thread_name_prefix="job")

    def enqueue(self, job_id: UUID) -> None:
        """In the order of arrival."""
        self._threads.submit(self._run, job_id)

    def take_over(self, worker: str) -> None:
        """There is nobody else."""

    def tidy(self) -> None:
        """It remembers nothing."""

    def close(self) -> None:
        """Forget what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class DbosQueue:
    """The queue in the database, which several processes may share."""

    def __init__(self, runner: JobRunner, *, url: sa.URL, worker: str) -> None:
        """Raises RuntimeError where this process has one already."""
        if not _one_per_process.acquire(blocking=False):
            raise RuntimeError("DBOS runs in this process already")
        _quieten()
        from dbos import DBOS, SetWorkflowID

        self._dbos = DBOS
        self._with_id = SetWorkflowID

        # Attempts are counted in our table, where a takeover does not reset them.
        @DBOS.workflow(name="run_job", max_recovery_attempts=None)
        def run_job(job_id: str) -> None:
            runner.run(UUID(job_id))

        self._workflow = run_job
        try:
            DBOS(
                config={
                    "name": DBOS_NAME,
                    "application_version": DBOS_VERSION,
                    "executor_id": worker,
                    "system_database_url": _dbos_url(url),
                    "dbos_system_schema": DBOS_SCHEMA,
                    "sys_db_pool_size": 5,
                    "use_listen_notify": False,
                    "log_level": "ERROR",
                    "enable_otlp": False,
                }
            )
            DBOS.launch()
            DBOS.register_queue(
                DBOS_QUEUE,
                worker_concurrency=runner.concurrent * (AHEAD if url.get_backend_name() == "sqlite" else 1),
                polling_interval_sec=QUEUE_POLL_S,
                on_conflict="always_update",
            )
        except BaseException:
            self.close()
            raise

    def enqueue(self, job_id: UUID) -> None:
        """Under the job's id, which DBOS takes once."""
        with self._with_id(str(job_id)):
            self._dbos.enqueue_workflow(DBOS_QUEUE, self._workflow, str(job_id))

    def take_over(self, worker: str) -> None:
        """DBOS itself leaves the runs of another process lying."""
        runs = self._dbos.list_workflows(status="PENDING", executor_id=worker, load_input=False, load_output=False)
        if runs:
            # Named, since it is DBOS's internal queue otherwise, which knows no limit.
            self._dbos.resume_workflows([run.workflow_id for run in runs], queue_name=DBOS_QUEUE)

    def tidy(self) -> None:
        """Forget runs that ended a while ago; what clients may ask about them stands in our table."""
        long_ago = (utc_now() - ENDED_RUNS_KEPT).isoformat()
        ended = self._dbos.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"], completed_before=long_ago, limit=1000,
            load_input=False, load_output=False,
        )  # fmt: skip
        if ended:
            self._dbos.delete_workflows([run.workflow_id for run in ended])

    def close(self) -> None:
        """Let DBOS go; what it has begun and not ended is taken over by the next process."""
        self._dbos.destroy(destroy_registry=True)
        _one_per_process.release()


def _dbos_url(url: sa.URL) -> str:
    """DBOS's tables have a file of their own beside ours, or a schema of their own in the same PostgreSQL."""
    if url.get_backend_name() == "sqlite":
        url = url.set(database=f"{url.database}.dbos")
    return url.render_as_string(hide_password=False)


def _quieten() -> None:
    """Let DBOS's records go where ours go, and only those of failures: it adds a handler of its own otherwise."""
    dbos_logger = logging.getLogger("dbos")
    if not dbos_logger.handlers:
        dbos_logger.addHandler(logging.NullHandler())


def _hash(kind: str, inputs: dict[str, Any], files: Mapping[str, bytes], webhook_url: str | None) -> str:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    request = json.dumps([kind, inputs, digests, webhook_url], sort_keys=True, allow_nan=False)
    return hashlib.sha256(request.encode()).hexdigest()
