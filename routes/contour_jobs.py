"""Facial contours as a job: hand in, and ask for the result."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from routes.contour_models import PICTURES, ContourQuery, request_body
from routes.contours import ERRORS
from routes.error_docs import documented
from routes.form_or_json import read_query
from routes.jobs import SUBMIT_ERRORS, OwnJob
from service.contour_jobs import KIND, job_of
from service.contours import ContourRequest
from service.deps import ContourerDep, Pool, SettingsDep, StorageDep, SubmitJob
from service.errors import DatabaseUnavailableError, NotFoundError
from service.storage import Storage
from service.tables import Job

router = APIRouter(prefix="/api/v1/frontal/crop", tags=["facial contours"])


class ContourJobQuery(ContourQuery):
    """What the synchronous route takes, and who is to be told."""

    webhook_url: str | None = Field(
        None, max_length=2048, description="Told when the job has finished, by a signed POST; see the README."
    )


class ContourJob(NamedTuple):
    """What is handed in."""

    request: ContourRequest
    webhook_url: str | None


class ContourJobAccepted(BaseModel):
    """The job will be done."""

    job_id: UUID
    status: Literal["pending", "processing", "completed", "failed"]


class ContourJobStatus(ContourJobAccepted):
    """Where the job stands. GET /api/v1/jobs/{job_id} tells more, and has its result as a file."""

    progress: float = Field(description="0 to 1.")
    result: str | None = Field(description="The file in base64, once it is completed.")
    media_type: str | None = Field(description="Of the result.", examples=["image/svg+xml"])
    error: str | None = Field(description="Why it failed.")
    error_code: str | None = Field(description="Its code, which stays the same.", examples=["INVALID_VALUE"])

    @classmethod
    def of(cls, job: Job, storage: Storage) -> ContourJobStatus:
        """The seed's status has no word for a cancelled job: it failed."""
        cancelled = job.status == "cancelled"
        made = job.result if job.status == "completed" else None
        return cls(
            job_id=job.id,
            status="failed" if cancelled else job.status,
            progress=job.progress,
            result=None if made is None else b64encode(storage.read(storage.find(job.id))).decode(),
            media_type=None if made is None else made["media_type"],
            error="The job was cancelled." if cancelled else job.error,
            error_code="CANCELLED" if cancelled else job.error_code,
        )


async def contour_job(request: Request, settings: SettingsDep) -> ContourJob:
    """What is wanted later."""
    query, files = await read_query(ContourJobQuery, request, settings, pictures=PICTURES)
    return ContourJob(await run_in_threadpool(query.request, files), query.webhook_url)


def own_contour_job(job: OwnJob) -> Job:
    """The caller's job, if it is one of contours."""
    if job.kind != KIND:
        raise NotFoundError(f"Job {job.id} is none of contours. GET /api/v1/jobs/{{job_id}} tells of any kind.")
    return job


ContourJobDep = Annotated[ContourJob, Depends(contour_job)]
OwnContourJob = Annotated[Job, Depends(own_contour_job)]
BODY: dict[str, Any] = request_body(ContourJobQuery)


@router.post("/submit", status_code=202, responses=documented(*ERRORS, *SUBMIT_ERRORS), openapi_extra=BODY)
async def submit_contours(
    wanted: ContourJobDep, contourer: ContourerDep, pool: Pool, submit: SubmitJob
) -> ContourJobAccepted:
    """The regions of one face, as POST /api/v1/frontal/crop finds them, by a job.

    What can't be used is refused at once. The photo is kept until the job has finished.
    """
    await pool.run(contourer.check, wanted.request)
    inputs, files = job_of(wanted.request)
    job = await submit(KIND, inputs=inputs, files=files, webhook_url=wanted.webhook_url)
    return ContourJobAccepted(job_id=job.id, status="failed" if job.status == "cancelled" else job.status)


@router.get("/status/{job_id}", responses=documented(NotFoundError, DatabaseUnavailableError))
def contours_status(job: OwnContourJob, storage: StorageDep) -> ContourJobStatus:
    """Where the job stands, and its result once it is completed."""
    return ContourJobStatus.of(job, storage)
