"""Whether the service lives, is ready, and what it runs on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from routes.studio import studio_page
from service.deps import SettingsDep, StateDep
from service.engine_health import EngineHealth, engines_of
from service.negotiation import preferred

router = APIRouter(tags=["health"])


class DatabaseHealth(BaseModel):
    """Where jobs are kept."""

    kind: Literal["sqlite", "postgresql", "memory"]
    state: Literal["ready", "unreachable"]


class FilesHealth(BaseModel):
    """Where files are kept."""

    kind: Literal["local", "s3"]
    state: Literal["ready", "unreachable"] = Field(description="As it was some seconds ago.")
    reason: str | None = Field(description="Why it is unreachable; null where it is not.")


class Health(BaseModel):
    """What monitoring wants to know."""

    status: Literal["healthy", "degraded"] = Field(description="degraded: the database or the storage does not answer.")
    timestamp: datetime = Field(description="Local time without zone, as in the first version.")
    message: str
    version: str
    auth: Literal["open", "required"] = Field(description="required: all but this page and the like wants credentials.")
    models: dict[str, EngineHealth]
    workers: dict[str, int] = Field(description="Requests that are worked on, that wait, and how many may.")
    database: DatabaseHealth
    storage: FilesHealth
    jobs: dict[str, int] = Field(description="Jobs of each status, a few seconds ago, and how many may be unfinished.")


class FaceRecognitionHealth(BaseModel):
    """The state of face recognition."""

    status: Literal["healthy"]
    model: str = Field(description="The engine that recognises faces, or would.", examples=["insightface"])
    model_loaded: bool = Field(description="Whether there is a recogniser, without which there are no embeddings.")
    version: str = Field(description="Of this service.", examples=["1.0.0"])
    recogniser: str | None = Field(description="The face model that gives embeddings.", examples=["buffalo_l"])
    reason: str | None = Field(description="What is missing and how to get it; null where nothing is.")


OFFERS = {
    "personalize a page": "POST /personalize", "find faces": "POST /detect-face",
    "recognise faces": "POST /api/v1/extract-embedding", "facial contours": "POST /api/v1/frontal/crop",
    "generate an illustration": "POST /v1/images/generations", "edit a picture": "POST /v1/images/edits",
    "illustrate a memory": "POST /v1/images/memory", "draw a portrait": "POST /v1/images/subject",
    "try on a garment": "POST /api/tryon", "jobs": "GET /api/v1/jobs", "models": "GET /models",
}  # fmt: skip


@router.get("/", response_model=dict[str, str | dict[str, str]], responses={200: {"content": {"text/html": {}}}})
async def about(
    response: Response, settings: SettingsDep, accept: Annotated[str, Header()] = "*/*"
) -> dict[str, str | dict[str, str]] | Response:
    """What this service is and offers, and where to read on. A browser, which asks for HTML, gets the Studio."""
    if preferred(accept, {"text/html": True}):
        return studio_page()
    response.headers["Vary"] = "Accept"
    return {
        "message": f"Welcome to {settings.app_name}", "name": settings.app_name, "version": settings.app_version,
        "studio": "/studio", "docs": "/docs", "openapi": "/openapi.json", "health": "/health",
        "endpoints": OFFERS,
    }  # fmt: skip


@router.get("/health", response_model=Health)
@router.get("/health/", include_in_schema=False, response_model=Health)
async def health(state: StateDep) -> Health:
    """The engines that run, and what is missing."""
    files = state.storage_monitor.health
    works = state.jobs.health.database_answers and files.state == "ready"
    return Health(
        status="healthy" if works else "degraded",
        timestamp=datetime.now(),  # noqa: DTZ005 - the first version's format has no zone
        message=f"{state.settings.app_name} is running",
        version=state.settings.app_version,
        auth="required" if state.settings.needs_credentials else "open",
        models=engines_of(state),
        workers={
            "running": state.pool.running,
            "max_workers": state.pool.max_workers,
            "waiting": state.pool.waiting,
            "max_queue": state.pool.max_queue,
        },
        database=DatabaseHealth(
            kind=state.database.kind, state="ready" if state.jobs.health.database_answers else "unreachable"
        ),
        storage=FilesHealth(kind=state.storage.store.kind, state=files.state, reason=files.reason),
        jobs={**state.jobs.health.counts, "max_jobs": state.jobs.max_jobs},
    )


@router.get("/api/v1/health")
async def face_recognition_health(state: StateDep) -> FaceRecognitionHealth:
    """Whether faces can be recognised: verify-face works in any case, the rest needs a recogniser."""
    recogniser, health = state.detector.recogniser, engines_of(state)["face_recognizer"]
    return FaceRecognitionHealth(
        status="healthy",
        model=health.engine or "insightface",
        model_loaded=recogniser is not None,
        version=state.settings.app_version,
        recogniser=recogniser.model if recogniser else None,
        reason=health.reason,
    )


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/health/ready")
async def ready(_: StateDep) -> dict[str, str]:
    """The engines are loaded; 503 until then."""
    return {"status": "ready"}
