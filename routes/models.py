"""What models there are: installed or not, under which licence, and how to get them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Header, Path, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field

from routes.error_docs import documented
from service.deps import ModelPullsDep, ModelStoreDep, OnlyOperator, StateDep
from service.errors import BusyError, ForbiddenError, NotFoundError
from service.model_pulls import Pull
from service.negotiation import wants_events

router = APIRouter(tags=["health"])


EVENT_POLL_S = 0.3
EVENTS_EXAMPLE = """event: downloading
data: {"name": "permissive", "state": "downloading", "done": 1048576, "total": 37186177, "error": null}

event: installed
data: {"name": "permissive", "state": "installed", "done": 37186177, "total": 37186177, "error": null}
"""


class PullOut(BaseModel):
    """How the installation of a model stands."""

    name: str = Field(examples=["permissive"])
    state: Literal["downloading", "installed", "failed"] = Field(
        description="installed: face models are used from the next start of the service on, image models at once."
    )
    done: int = Field(description="Bytes that are here.")
    total: int | None = Field(description="Bytes of the download; null where that isn't known (yet).")
    error: str | None = Field(description="Why it failed and what to do; null where it didn't.")

    @classmethod
    def of(cls, pull: Pull) -> Self:
        """As JSON takes it."""
        return cls.model_validate(asdict(pull))


class ModelFileOut(BaseModel):
    """One file of a model."""

    name: str
    sha256: str | None = Field(description="Hex; null where neither its publisher nor its installation recorded one.")
    bytes: int | None = Field(description="Size in bytes; null where it isn't installed.")


class ModelOut(BaseModel):
    """One model."""

    name: str = Field(examples=["buffalo_l"])
    kind: str = Field(description="`face pack`, or `embedded` for what MediaPipe's wheel carries.")
    about: str
    installed: bool
    files: list[ModelFileOut]
    sha256: str | None = Field(description="Of the archive that it is downloaded as, where it is one.")
    bytes: int | None = Field(description="Of the installed files, or of the download where it isn't installed.")
    licence: str
    commercial_use: Literal["yes", "no", "unclear"]
    urls: list[str] = Field(description="Where it is downloaded from, tried in this order.")
    dimension: int | None = Field(description="Numbers in an embedding; null where that isn't known.")
    threshold: float | None = Field(description="Least cosine of two faces of one person, inclusive.", examples=[0.4])
    threshold_source: str | None = Field(description="Who says so; or, where there is none, what to set.")
    how_to_get: str | None = Field(
        description="The command that installs it; null where it is installed.",
        examples=["python main.py models pull buffalo_l"],
    )
    pull_name: str | None = Field(description="As what PUT /models/{name} installs it; null where it can't.")
    pull: PullOut | None = Field(description="Its installation by PUT, under way or over; null where there was none.")


class ModelsOut(BaseModel):
    """Every model that the service knows."""

    models: list[ModelOut]


@router.get("/models", summary="Installed and available models")
def list_models(store: ModelStoreDep, pulls: ModelPullsDep) -> ModelsOut:
    """Every model: installed or not, its licence, its files and hashes, and how to get it."""
    return ModelsOut(
        models=[
            ModelOut.model_validate(
                asdict(status)
                | {
                    "pull_name": (name := pulls.name_for(status)),
                    "pull": None if name is None or (pull := pulls.find(name)) is None else asdict(pull),
                }
            )
            for status in store.status()
        ]
    )


@router.put(
    "/models/{name}",
    status_code=202,
    response_model=PullOut,
    dependencies=[OnlyOperator],
    responses={
        200: {
            "description": "With `Accept: text/event-stream`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS_EXAMPLE}},
        },
        **documented(ForbiddenError, NotFoundError, BusyError),
    },
    summary="Install a model",
)
async def install_model(
    name: Annotated[str, Path(max_length=100, description="The `pull_name` of GET /models.")],
    pulls: ModelPullsDep,
    state: StateDep,
    accept: Annotated[str, Header(description="`text/event-stream`: how far it is, until it is over.")] = "*/*",
) -> PullOut | Response:
    """Download, verify and install a model of the manifest, or what `generation` or engine=`diffusion` needs.

    What is under way goes on when the client leaves: ask again, or look at `pull` in GET /models. A download that
    broke off is continued. Where credentials are needed, only the service's own keys (API_KEY) may do this.
    """
    pull = await run_in_threadpool(pulls.start, name)
    if not wants_events(accept):
        return PullOut.of(pull)
    return StreamingResponse(
        _events(pull, state.closing), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )  # nginx would collect them


async def _events(pull: Pull, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """The installation each time it changed, until it is over or the service stops."""
    seen: PullOut | None = None
    while True:
        view = PullOut.of(pull)
        if view != seen:
            seen = view
            yield format_sse_event(event=view.state, data_str=view.model_dump_json())
        if view.state != "downloading" or closing.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), EVENT_POLL_S)
