"""What handlers ask for, as one word each.

All of them are coroutines, though none waits: FastAPI sends a plain function through a thread, fifty times its cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Protocol, TypeAlias, cast
from uuid import UUID

from fastapi import Depends, Form, Header, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import Receive

from config import Settings
from face_detector import FaceDetector, Recogniser
from face_landmarks import FaceLandmarks
from personalizer import Personalizer
from service.accounts import Accounts
from service.auth import Principal, owner_of
from service.contours import Contourer
from service.errors import ForbiddenError, ModelUnavailableError, UnauthorizedError
from service.fetch import Fetcher
from service.illustrations import Illustrator
from service.image_generation import ImageGeneration
from service.image_model import ImageModel
from service.inference_pool import ClientPool, InferencePool
from service.jobs import Jobs
from service.metrics import Metrics
from service.model_pulls import ModelPulls
from service.model_store import ModelStore
from service.page_diffusion import PageDiffusion
from service.processing_log import ProcessingLog
from service.recognition import FaceRecognition, why_no_recogniser
from service.result_cache import ResultCache
from service.state import State
from service.storage import Storage
from service.tables import Job
from service.templates import TemplateStore
from service.tryon import TryOn
from service.webhooks import check_webhook_url


async def get_state(request: Request) -> State:
    """The state that the lifespan built."""
    state = getattr(request.app.state, "service", None)
    if not isinstance(state, State):
        raise ModelUnavailableError("Face detector not initialized", retry_after_s=2)
    return state


class Submit(Protocol):
    """Hands in a job for the caller. Raises what `Jobs.submit` and `check_webhook_url` raise."""

    def __call__(
        self, kind: str, *, inputs: dict[str, Any], files: Mapping[str, bytes], webhook_url: str | None
    ) -> Awaitable[Job]: ...


ClientGone: TypeAlias = Callable[[], Awaitable[None]]

StateDep = Annotated[State, Depends(get_state)]


async def get_settings(request: Request) -> Settings:
    """The service's settings; they are there before the engines."""
    return cast("Settings", request.app.state.settings)


async def get_pool(state: StateDep, gone: ClientGoneDep) -> ClientPool:
    """The inference pool, with this request's client to lose its place."""
    return state.pool.for_client(gone)


async def get_client_gone(request: Request) -> ClientGone:
    """What returns when the request's client has closed the connection."""
    return lambda: _disconnected(request.receive)


async def get_images(state: StateDep) -> ImageGeneration:
    """Image generation."""
    return state.images


async def get_diffusion(state: StateDep) -> PageDiffusion:
    """Pages by diffusion."""
    return state.diffusion


async def get_metrics(state: StateDep) -> Metrics:
    """What is counted."""
    return state.metrics


async def get_storage(state: StateDep) -> Storage:
    """Uploads, results and templates."""
    return state.storage


async def get_templates(state: StateDep) -> TemplateStore:
    """The pages that are kept."""
    return state.templates


async def get_models(state: StateDep) -> ModelStore:
    """The installed and known models."""
    return state.models


async def get_pulls(state: StateDep) -> ModelPulls:
    """The models that are being installed."""
    return state.pulls


async def get_landmarks(state: StateDep) -> FaceLandmarks:
    """The face mesh."""
    return state.landmarks


async def get_detector(state: StateDep) -> FaceDetector:
    """The face detector."""
    return state.detector


async def get_recogniser(state: StateDep) -> Recogniser:
    """What embeddings belong to: for routes that can't do without them."""
    if state.detector.recogniser is None:
        raise ModelUnavailableError(why_no_recogniser(state.settings, state.models))
    return state.detector.recogniser


async def get_recognition(state: StateDep) -> FaceRecognition:
    """Face recognition on what clients send."""
    settings = state.settings
    return FaceRecognition(
        state.detector,
        state.landmarks,
        max_pixels=settings.max_pixels,
        det_threshold=settings.face_det_thresh,
        expression_model=state.expression_model,
    )


async def get_personalizer(state: StateDep) -> Personalizer:
    """The personaliser."""
    return state.personalizer


async def get_illustrator(state: StateDep) -> Illustrator:
    """The main job on files."""
    return state.illustrator


async def get_contourer(state: StateDep) -> Contourer:
    """Facial contours on what clients send."""
    return state.contourer


async def get_fetcher(state: StateDep) -> Fetcher:
    """Who reads pictures by URL."""
    return state.fetcher


async def get_tryon(state: StateDep) -> TryOn:
    """Try-ons on what clients send."""
    return state.tryon


async def get_image_model(state: StateDep) -> ImageModel:
    """The hosted image model."""
    return state.image_model


async def get_jobs(state: StateDep) -> Jobs:
    """The jobs."""
    return state.jobs


async def get_principal(request: Request) -> Principal:
    """Who sent the request."""
    return cast("Principal", request.state.principal)


async def get_accounts(state: StateDep) -> Accounts:
    """Users and their keys."""
    return state.accounts


async def get_password_pool(state: StateDep) -> InferencePool:
    """Where passwords are hashed: a few at once."""
    return state.password_pool


async def get_processing(state: StateDep) -> ProcessingLog:
    """How long work took."""
    return state.processing


async def get_cache(state: StateDep) -> ResultCache:
    """Results that are served again."""
    return state.cache


CurrentPrincipal = Annotated[Principal, Depends(get_principal)]


async def get_user(principal: CurrentPrincipal) -> UUID:
    """The account that the request comes from.

    Raises:
        UnauthorizedError: it comes from none.
    """
    if principal.kind != "user":
        raise UnauthorizedError("This needs an account: log in, and send `Authorization: Bearer <access token>`.")
    return UUID(principal.id)


async def check_operator(state: StateDep, principal: CurrentPrincipal) -> None:
    """Whether the caller may change the service itself: anyone while it is open, else who sends a key of API_KEY.

    Raises:
        ForbiddenError: an account.
    """
    if state.settings.needs_credentials and principal.kind != "api_key":
        raise ForbiddenError("This needs one of the service's own keys (API_KEY) as `Authorization: Bearer <key>`.")


OnlyOperator = Depends(check_operator)
CurrentUser = Annotated[UUID, Depends(get_user)]


async def get_owner(principal: CurrentPrincipal) -> str:
    """Whose jobs and templates the caller sees: a user's own, or the service's."""
    return owner_of(principal)


Owner = Annotated[str, Depends(get_owner)]


async def get_submit(
    state: StateDep,
    owner: Owner,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern="^[!-~]+$",
            description="A text of your choice: the same one with the same request gives the same job.",
        ),
    ] = None,
) -> Submit:
    """How a route hands in a job."""

    async def submit(kind: str, *, inputs: dict[str, Any], files: Mapping[str, bytes], webhook_url: str | None) -> Job:
        await check_webhook_url(webhook_url, state.settings)
        return await run_in_threadpool(
            state.jobs.submit, kind, owner=owner, inputs=inputs, files=files,
            idempotency_key=idempotency_key, webhook_url=webhook_url,
        )  # fmt: skip

    return submit


async def get_timings(request: Request) -> dict[str, float]:
    """Stages of this request in milliseconds; what is put in becomes the Server-Timing header."""
    return cast("dict[str, float]", request.scope["timings"])


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


SettingsDep = Annotated[Settings, Depends(get_settings)]
Pool = Annotated[ClientPool, Depends(get_pool)]
ClientGoneDep = Annotated[ClientGone, Depends(get_client_gone)]
DiffusionDep = Annotated[PageDiffusion, Depends(get_diffusion)]
ImagesDep = Annotated[ImageGeneration, Depends(get_images)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
AccountsDep = Annotated[Accounts, Depends(get_accounts)]
PasswordPool = Annotated[InferencePool, Depends(get_password_pool)]
ProcessingDep = Annotated[ProcessingLog, Depends(get_processing)]
CacheDep = Annotated[ResultCache, Depends(get_cache)]
StorageDep = Annotated[Storage, Depends(get_storage)]
TemplatesDep = Annotated[TemplateStore, Depends(get_templates)]
ModelStoreDep = Annotated[ModelStore, Depends(get_models)]
ModelPullsDep = Annotated[ModelPulls, Depends(get_pulls)]
Landmarks = Annotated[FaceLandmarks, Depends(get_landmarks)]
Detector = Annotated[FaceDetector, Depends(get_detector)]
RecogniserDep = Annotated[Recogniser, Depends(get_recogniser)]
Recognition = Annotated[FaceRecognition, Depends(get_recognition)]
PersonalizerDep = Annotated[Personalizer, Depends(get_personalizer)]
IllustratorDep = Annotated[Illustrator, Depends(get_illustrator)]
ContourerDep = Annotated[Contourer, Depends(get_contourer)]
FetcherDep = Annotated[Fetcher, Depends(get_fetcher)]
TryOnDep = Annotated[TryOn, Depends(get_tryon)]
ImageModelDep = Annotated[ImageModel, Depends(get_image_model)]
JobsDep = Annotated[Jobs, Depends(get_jobs)]
SubmitJob = Annotated[Submit, Depends(get_submit)]
WebhookUrl = Annotated[
    str | None,
    Form(max_length=2048, description="Told when the job has finished, by a signed POST; see the README."),
]
Timings = Annotated[dict[str, float], Depends(get_timings)]
