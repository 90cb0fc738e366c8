"""A job as clients see it: in answers, in events and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from service.job_store import JobStatus
from service.tables import Job


class JobError(BaseModel):
    """Why a job failed: the code and sentence that a request would have got."""

    code: str = Field(examples=["NO_FACE_SLOT"])
    detail: str


class WebhookState(BaseModel):
    """How the delivery of the webhook stands."""

    attempts: int
    next_attempt_at: datetime | None = Field(description="Null where nothing is to be sent, yet or any more.")
    error: str | None = Field(description="Why the last attempt failed; null where it didn't.")


class JobView(BaseModel):
    """A job."""

    job_id: UUID
    kind: str = Field(examples=["book"])
    status: JobStatus
    stage: str | None = Field(description="What is being done.", examples=["page 3 of 12"])
    progress: float = Field(description="0 to 1.")
    attempts: int = Field(description="How often it was begun: more than once where a process ended in the middle.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    status_url: str
    result_url: str | None = Field(description="Where the result can be fetched, once it is completed.")
    result: dict[str, Any] | None = Field(description="What the kind of job tells of its result.")
    error: JobError | None
    webhook: WebhookState | None = Field(description="Null where none was asked for.")

    @classmethod
    def of(cls, job: Job) -> JobView:
        """The public part of a stored job."""
        url = f"/api/v1/jobs/{job.id}"
        webhook = WebhookState(
            attempts=job.webhook_attempts, next_attempt_at=job.webhook_due_at, error=job.webhook_error
        )
        return cls(
            job_id=job.id,
            kind=job.kind,
            status=job.status,
            stage=job.stage,
            progress=round(job.progress, 4),
            attempts=job.attempts,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            status_url=url,
            result_url=f"{url}/result" if job.status == "completed" else None,
            result=job.result,
            error=None if job.error_code is None else JobError(code=job.error_code, detail=job.error or ""),
            webhook=webhook if job.webhook_url else None,
        )
