"""Whether the service lives, is ready, and what it runs on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from face_detector import FaceDetector
from service.deps import StateDep
from service.state import State
from service.version import NAME, VERSION

router = APIRouter(tags=["health"])


class ModelHealth(BaseModel):
    """One engine: `reason` says why it is missing, and how to get it."""

    state: Literal["ready", "missing"]
    engine: str | None
    provider: str | None = Field(description="What it really runs on, such as CPUExecutionProvider.")
    reason: str | None = None


class Health(BaseModel):
    """What monitoring wants to know."""

    status: Literal["healthy"]
    timestamp: datetime = Field(description="Local time without zone, as in the first version.")
    message: str
    version: str
    models: dict[str, ModelHealth]
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
        models=_models(state),
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


def _models(state: State) -> dict[str, ModelHealth]:
    detector = state.detector
    on_cpu = "XNNPACK CPU"
    return {
        "face_detector": ModelHealth(state="ready", engine=detector.engine, provider=detector.provider),
        "face_recognizer": _recognizer(detector, state),
        "face_landmarks": ModelHealth(state="ready", engine="mediapipe", provider=on_cpu),
        "illustration_styler": ModelHealth(state="ready", engine="classic", provider="CPU"),
    }


def _recognizer(detector: FaceDetector, state: State) -> ModelHealth:
    if detector.embeds:
        return ModelHealth(state="ready", engine=detector.engine, provider=detector.provider)
    model = state.settings.face_model
    how = state.models.how_to_get(model)
    reason = f"{model} is not installed or has no recogniser. Get it: {how}"
    return ModelHealth(state="missing", engine=None, provider=None, reason=reason)
