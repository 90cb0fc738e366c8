"""Whether the service lives, is ready, and what it runs on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.deps import StateDep
from service.engine_health import EngineHealth, engines_of
from service.version import NAME, VERSION

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """What monitoring wants to know."""

    status: Literal["healthy"]
    timestamp: datetime = Field(description="Local time without zone, as in the first version.")
    message: str
    version: str
    models: dict[str, EngineHealth]
    workers: dict[str, int] = Field(description="Requests that are worked on, that wait, and how many may.")


@router.get("/")
async def about() -> dict[str, str]:
    """What this service is, and where to read on."""
    return {"name": NAME, "version": VERSION, "docs": "/docs", "openapi": "/openapi.json", "health": "/health"}


@router.get("/health", response_model=Health)
@router.get("/health/", include_in_schema=False, response_model=Health)
async def health(state: StateDep) -> Health:
    """The engines that run, and what is missing."""
    return Health(
        status="healthy",
        timestamp=datetime.now(),  # noqa: DTZ005 - the first version's format has no zone
        message=f"{NAME} is running",
        version=VERSION,
        models=engines_of(state),
        workers={
            "running": state.pool.running,
            "max_workers": state.pool.max_workers,
            "waiting": state.pool.waiting,
            "max_queue": state.pool.max_queue,
        },
    )


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/health/ready")
async def ready(_: StateDep) -> dict[str, str]:
    """The engines are loaded; 503 until then."""
    return {"status": "ready"}
