"""Follow jobs of any kind: list, status, events, result, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from routes.error_docs import documented
from service.deps import JobsDep, Owner, StateDep, StorageDep
from service.errors import (
    BusyError,
    ConflictError,
    DatabaseUnavailableError,
    JobFailedError,
    JobNotFinishedError,
    NotFoundError,
    StorageFullError,
    StorageUnavailableError,
    UrlNotAllowedError,
)
from service.job_store import FINISHED, JobStatus
from service.job_view import JobView
from service.negotiation import file_response
from service.tables import Job

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

EVENT_POLL_S = 0.5
MAX_WATCHERS = 100
"""Streams of events at once: each asks the database twice a second."""
RETRY_AFTER_S = 2


ERRORS = documented(NotFoundError, DatabaseUnavailableError)
REMOVAL_ERRORS = documented(NotFoundError, DatabaseUnavailableError, StorageUnavailableError)
RESULT_ERRORS = documented(
    NotFoundError, JobNotFinishedError, JobFailedError, DatabaseUnavailableError, StorageUnavailableError
)
SUBMIT_ERRORS = (
    ConflictError, UrlNotAllowedError, BusyError, DatabaseUnavailableError, StorageUnavailableError, StorageFullError,
)  # fmt: skip
"""Of every route that hands in a job."""
EVENT_ERRORS = documented(NotFoundError, BusyError, DatabaseUnavailableError)


class JobPage(BaseModel):
    """Some of the caller's jobs, newest first."""

    jobs: list[JobView]
    next: UUID | None = Field(description="`after` for the next page; null where this is the last.")


class JobRemoved(BaseModel):
    """What became of the job."""

    success: Literal[True] = True
    job_id: UUID
    outcome: Literal["cancelled", "cancelling", "deleted"] = Field(
        description="cancelled: it had not begun. cancelling: it stops shortly. deleted: it had finished, and is gone."
    )


def own_job(job_id: UUID, jobs: JobsDep, owner: Owner) -> Job:
    """The caller's job."""
    return jobs.store.get(job_id, owner)


OwnJob = Annotated[Job, Depends(own_job)]


@router.get("", responses=ERRORS)
def list_jobs(
    jobs: JobsDep,
    owner: Owner,
    kind: Annotated[
        str | None, Query(max_length=40, pattern="^[a-z-]+$", description="Only jobs of this kind, such as book.")
    ] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs of this status.")] = None,
    after: Annotated[UUID | None, Query(description="The last job of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobPage:
    """Your jobs, newest first, page by page."""
    found = jobs.store.list(owner, kind=kind, status=status, after=after, limit=limit + 1)
    page = found[:limit]
    return JobPage(jobs=[JobView.of(job) for job in page], next=page[-1].id if len(found) > limit else None)


@router.get("/{job_id}", responses=ERRORS)
def get_job(job: OwnJob) -> JobView:
    """Where the job stands."""
    return JobView.of(job)


@router.delete("/{job_id}", responses=REMOVAL_ERRORS)
def cancel_or_delete_job(job_id: UUID, jobs: JobsDep, owner: Owner, response: Response) -> JobRemoved:
    """Cancel a job that is not finished; remove one that is, with its result.

    A running job stops at its next step, and its status is `cancelled` then.
    """
    job = jobs.cancel_or_delete(job_id, owner)
    if job is None:
        return JobRemoved(job_id=job_id, outcome="deleted")
    if job.status == "cancelled":
        return JobRemoved(job_id=job_id, outcome="cancelled")
    response.status_code = 202
    return JobRemoved(job_id=job_id, outcome="cancelling")


@router.get("/{job_id}/result", response_class=FileResponse, responses={304: {}, **RESULT_ERRORS})
def get_result(job: OwnJob, storage: StorageDep, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The file that the job made; 409 as long as there is none. Takes ranges and If-None-Match."""
    if job.status in ("pending", "processing"):
        raise JobNotFinishedError(
            "The job has not finished. Its status says how far it is.", retry_after_s=RETRY_AFTER_S
        )
    if job.status != "completed":
        raise JobFailedError(job.error or "The job was cancelled.")
    return file_response(storage, storage.find(job.id), if_none_match)


async def watcher(jobs: JobsDep) -> AsyncIterator[None]:
    """One of the streams that may be open at once."""
    if jobs.watchers >= MAX_WATCHERS:
        raise BusyError("Too many clients follow jobs. Ask for the status now and then instead.", retry_after_s=10)
    jobs.watchers += 1
    try:
        yield
    finally:
        jobs.watchers -= 1


@router.get(
    "/{job_id}/events", response_class=EventSourceResponse, dependencies=[Depends(watcher)], responses=EVENT_ERRORS
)
async def follow_job(job: OwnJob, state: StateDep) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the job as it is now, and again each time it changes. The stream ends when it has finished.

    The event is named by the job's status; its data are what GET /api/v1/jobs/{job_id} answers. A stream that ends
    before the job does was cut by a restart: open it again.
    """
    seen: JobView | None = None
    while True:
        view = JobView.of(job)
        if view != seen:
            seen = view
            yield ServerSentEvent(event=view.status, data=view.model_dump(mode="json"))
        if job.status in FINISHED or state.closing.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(state.closing.wait(), EVENT_POLL_S)
        try:
            job = await run_in_threadpool(state.jobs.store.get, job.id, job.owner)
        except NotFoundError:  # deleted meanwhile
            return
        except DatabaseUnavailableError:
            continue
