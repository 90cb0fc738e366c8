"""The jobs as the database keeps them: the only SQL about jobs.

What the API shows is always read here, never from the job engine. Each write of a run names that run, so that one
that was taken for dead and is not can neither report nor finish: the job belongs to another run by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.database import Database
from service.errors import BusyError, ConflictError, NotFoundError
from service.tables import Job, JobWorker, utc_now

JobStatus: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]
ACTIVE: tuple[JobStatus, ...] = ("pending", "processing")
FINISHED: tuple[JobStatus, ...] = ("completed", "failed", "cancelled")
RETRY_AFTER_S = 10

WEBHOOK_LEASE = timedelta(seconds=60)
"""A delivery that is being made belongs to its process for so long; then another one may try."""
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class JobLostError(Exception):
    """The job is no longer this run's: another has it, or it was deleted."""


class JobStore:
    """Thread-safe; blocking. All methods raise DatabaseUnavailableError, and writing ones StorageFullError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What clients do

    def add(self, job: Job, *, max_jobs: int) -> Job:
        """Keep a new job, or find the one that the same request made before.

        Raises:
            BusyError: `max_jobs` are unfinished already.
            ConflictError: its idempotency key was used for another request.
        """
        if same := self.find_by_key(job.owner, job.idempotency_key, job.request_hash):
            return same
        try:
            with self._database.session() as session:
                self._check_room(session, max_jobs)
                session.add(job)
        except IntegrityError as error:  # the same request came twice at the same time, and the other was faster
            if same := self.find_by_key(job.owner, job.idempotency_key, job.request_hash):
                return same
            raise ConflictError("This job was just being deleted. Send the request again.") from error
        return job

    def find_by_key(self, owner: str, key: str | None, request_hash: str) -> Job | None:
        """The job that this request made before, if any.

        Raises:
            ConflictError: the key was used for another request.
        """
        if key is None:
            return None
        with self._database.session() as session:
            job = session.scalar(sa.select(Job).where(Job.owner == owner, Job.idempotency_key == key))
        if job is not None and job.request_hash != request_hash:
            raise ConflictError("This Idempotency-Key was used for another request. Use a new one for a new request.")
        return job

    def check_room(self, max_jobs: int) -> None:
        """Raises BusyError where `max_jobs` are unfinished."""
        with self._database.session() as session:
            self._check_room(session, max_jobs)

    def get(self, job_id: UUID, owner: str) -> Job:
        """The caller's job.

        Raises:
            NotFoundError: there is none, it has expired, or it is someone else's.
        """
        with self._database.session() as session:
            return _own(session, job_id, owner)

    def list(
        self, owner: str, *, kind: str | None, status: JobStatus | None, after: UUID | None, limit: int
    ) -> Sequence[Job]:
        """The caller's jobs, newest first; `after` is the last one of the page before.

        Raises:
            NotFoundError: `after` is not (or no longer) a job of the caller's.
        """
        query = sa.select(Job).where(Job.owner == owner).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
        if kind is not None:
            query = query.where(Job.kind == kind)
        if status is not None:
            query = query.where(Job.status == status)
        with self._database.session() as session:
            if after is not None:
                last = _own(session, after, owner)
                older = sa.and_(Job.created_at == last.created_at, Job.id < last.id)
                query = query.where(sa.or_(Job.created_at < last.created_at, older))
            return session.scalars(query).all()

    def cancel(self, job_id: UUID, owner: str) -> Job:
        """Cancel a job that waits, ask a running one to stop, leave a finished one as it is; the job as it is then.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            waiting = (Job.id == job_id, Job.owner == owner, Job.status == "pending")
            if not _changed(session, sa.update(Job).where(*waiting).values(**_end("cancelled"))):
                running = (Job.id == job_id, Job.owner == owner, Job.status == "processing")
                _changed(session, sa.update(Job).where(*running).values(cancel_requested=True, updated_at=utc_now()))
            return _own(session, job_id, owner)

    def delete_finished(self, job_id: UUID, owner: str) -> bool:
        """Forget a finished job; whether it was one."""
        with self._database.session() as session:
            finished = (Job.id == job_id, Job.owner == owner, Job.status.in_(FINISHED))
            return _changed(session, sa.delete(Job).where(*finished))

    # What a run does

    def crashes(self, job_id: UUID) -> int:
        """How many runs of this job ended with their process; 0 for a job that there isn't."""
        with self._database.session() as session:
            return session.scalar(sa.select(Job.attempts).where(Job.id == job_id)) or 0

    def begin(self, job_id: UUID) -> Job | None:
        """Make the job a new run's and count it; None where nothing is to be done any more."""
        now = utc_now()
        with self._database.session() as session:
            _changed(
                session,
                sa.update(Job)
                .where(Job.id == job_id, Job.status.in_(ACTIVE))
                .values(
                    status="processing", run_id=uuid4(), attempts=Job.attempts + 1, stage=None, progress=0.0,
                    started_at=sa.func.coalesce(Job.started_at, sa.literal(now, Job.started_at.type)), updated_at=now,
                ),
            )  # fmt: skip
            job = session.get(Job, job_id)
            return job if job is not None and job.status == "processing" else None

    def report(self, job: Job, *, stage: str | None, progress: float) -> bool:
        """Note how far a run is; whether it is asked to stop.

        Raises:
            JobLostError: the job is no longer this run's.
        """
        with self._database.session() as session:
            asked: bool | None = session.scalar(
                sa.update(Job)
                .where(*_held_by(job))
                .values(stage=stage, progress=progress, updated_at=utc_now())
                .returning(Job.cancel_requested)
            )
        if asked is None:
            raise JobLostError
        return asked

    def finish(
        self,
        job: Job,
        status: JobStatus,
        *,
        result: dict[str, Any] | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        """End a run; `error` is code and sentence. A webhook that was asked for falls due in the same transaction.

        Raises:
            JobLostError: the job is no longer this run's.
        """
        values = _end(status)
        if status == "completed":
            values |= {"stage": None, "progress": 1.0, "result": result}
        if error is not None:
            values |= {"error_code": error[0], "error": error[1]}
        with self._database.session() as session:
            if not _changed(session, sa.update(Job).where(*_held_by(job)).values(**values)):
                raise JobLostError

    def hand_back(self, job: Job) -> None:
        """Let another run have the job; this one stopped in order, and does not count."""
        with self._database.session() as session:
            values = {"status": "pending", "run_id": None, "attempts": Job.attempts - 1, "updated_at": utc_now()}
            _changed(session, sa.update(Job).where(*_held_by(job)).values(values))

    # What keeps the queue going

    def waiting_for_queue(self, *, limit: int) -> Sequence[UUID]:
        """Unfinished jobs that the job engine does not know of yet, the oldest first."""
        query = sa.select(Job.id).where(Job.status.in_(ACTIVE), Job.queued_at.is_(None))
        with self._database.session() as session:
            return session.scalars(query.order_by(Job.created_at).limit(limit)).all()

    def mark_queued(self, job_ids: Iterable[UUID]) -> None:
        """The job engine knows of these now."""
        with self._database.session() as session:
            _changed(session, sa.update(Job).where(Job.id.in_(list(job_ids))).values(queued_at=utc_now()))

    def forget_queue(self) -> None:
        """Let every unfinished job be handed to the job engine again; those it knows already it does not take twice."""
        with self._database.session() as session:
            _changed(session, sa.update(Job).where(Job.status.in_(ACTIVE)).values(queued_at=None))

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        with self._database.session() as session:
            rows = session.execute(sa.select(Job.status, sa.func.count().label("jobs")).group_by(Job.status)).all()
        return dict.fromkeys((*ACTIVE, *FINISHED), 0) | {row.status: row.jobs for row in rows}

    def statuses(self, job_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The status of those of these jobs that there are."""
        with self._database.session() as session:
            rows = session.execute(sa.select(Job.id, Job.status).where(Job.id.in_(list(job_ids)))).all()
        return {row.id: row.status for row in rows}

    def delete_expired(self, *, before: datetime) -> int:
        """Forget jobs that finished before this; how many."""
        with self._database.session() as session:
            expired = session.scalars(
                sa.delete(Job).where(Job.status.in_(FINISHED), Job.finished_at < before).returning(Job.id)
            )
            return len(expired.all())

    # Processes

    def beat(self, worker: str) -> None:
        """This process is alive."""
        with self._database.session() as session:
            alive = sa.update(JobWorker).where(JobWorker.id == worker).values(seen_at=sa.func.now())
            if not _changed(session, alive):
                session.execute(sa.insert(JobWorker).values(id=worker, seen_at=sa.func.now()))

    def silent_workers(self, worker: str, *, silent_for: timedelta | None) -> Sequence[str]:
        """Processes other than this one that were silent for so long; None: all, since no other can be alive."""
        with self._database.session() as session:
            return session.scalars(sa.select(JobWorker.id).where(*_silent(worker, silent_for))).all()

    @contextmanager
    def taking_over(self, silent: str, worker: str, *, silent_for: timedelta | None) -> Iterator[bool]:
        """Whether the block may take over what a silent process had. No other process may meanwhile; then it is gone.

        Where the block raises, or its process ends, the silent one stays for others to take over.
        """
        with self._database.session() as session:
            query = sa.select(JobWorker).where(JobWorker.id == silent, *_silent(worker, silent_for))
            found = session.scalar(query.with_for_update(skip_locked=True))
            yield found is not None
            if found is not None:
                session.delete(found)

    def retire(self, worker: str) -> None:
        """This process ends: what it leaves can be taken over at once."""
        with self._database.session() as session:
            _changed(session, sa.update(JobWorker).where(JobWorker.id == worker).values(seen_at=LONG_AGO))

    # Webhooks

    def claim_webhook(self) -> Job | None:
        """A finished job whose webhook is due; no other process gets it for the time of WEBHOOK_LEASE."""
        now = utc_now()
        with self._database.session() as session:
            due = sa.select(Job).where(Job.webhook_due_at <= now).order_by(Job.webhook_due_at).limit(1)
            job = session.scalar(due.with_for_update(skip_locked=True))
            if job is not None:
                job.webhook_due_at = now + WEBHOOK_LEASE
                job.webhook_attempts += 1
            return job

    def webhook_done(self, job: Job, *, error: str | None, next_at: datetime | None) -> None:
        """Note how a delivery went; `next_at` is when it is to be tried again."""
        with self._database.session() as session:
            values = {"webhook_error": error, "webhook_due_at": next_at}
            session.execute(sa.update(Job).where(Job.id == job.id).values(values))

    def _check_room(self, session: Session, max_jobs: int) -> None:
        unfinished = session.scalar(sa.select(sa.func.count()).select_from(Job).where(Job.status.in_(ACTIVE))) or 0
        if unfinished >= max_jobs:
            raise BusyError(
                f"{unfinished} jobs are unfinished, and no more are taken. Try again later.",
                retry_after_s=RETRY_AFTER_S,
            )


assert set(get_args(JobStatus)) == {*ACTIVE, *FINISHED}


def _silent(worker: str, silent_for: timedelta | None) -> list[sa.ColumnElement[bool]]:
    others = [JobWorker.id != worker]
    return others if silent_for is None else [*others, JobWorker.seen_at < sa.func.now() - silent_for]


def _own(session: Session, job_id: UUID, owner: str) -> Job:
    job = session.scalar(sa.select(Job).where(Job.id == job_id, Job.owner == owner))
    if job is None:
        raise NotFoundError(f"There is no job {job_id}. Jobs expire after they have finished, and may be deleted.")
    return job


def _held_by(job: Job) -> tuple[sa.ColumnElement[bool], ...]:
    return Job.id == job.id, Job.run_id == job.run_id, Job.status == "processing"


def _end(status: JobStatus) -> dict[str, Any]:
    now = utc_now()
    due = sa.case((Job.webhook_url.is_not(None), sa.literal(now, Job.webhook_due_at.type)))
    return {"status": status, "run_id": None, "finished_at": now, "updated_at": now, "webhook_due_at": due}


def _changed(session: Session, statement: sa.Update | sa.Delete) -> bool:
    # Nothing of it is in the session's own memory: what the block reads afterwards it reads from the database.
    return session.execute(statement, execution_options={"synchronize_session": False}).rowcount > 0  # type: ignore[attr-defined,no-any-return]
