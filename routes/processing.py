"""How long work took, for whoever looks at the service without Prometheus."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from routes.error_docs import documented
from service.deps import ProcessingDep
from service.errors import DatabaseUnavailableError
from service.processing_log import Summary
from service.tables import utc_now

router = APIRouter(tags=["health"])


class ProcessingTimes(BaseModel):
    """Work by kind, the busiest first: a route's template, or the kind of a job."""

    hours: float
    kinds: list[Summary] = Field(description="Milliseconds of what succeeded; `recent` has the latest 200.")


@router.get("/api/v1/processing", responses=documented(DatabaseUnavailableError))
def processing_times(
    log: ProcessingDep,
    hours: Annotated[float, Query(gt=0, le=87_600, allow_inf_nan=False, description="How far to look back.")] = 24,
    kind: Annotated[str | None, Query(max_length=100, description="Only this kind, such as /personalize.")] = None,
) -> ProcessingTimes:
    """How much was done, how fast, and where the time went. Kept for RETENTION_HOURS."""
    return ProcessingTimes(hours=hours, kinds=log.summaries(since=utc_now() - timedelta(hours=hours), kind=kind))
