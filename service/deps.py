"""What handlers ask for, as one word each."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.types import Receive

from config import Settings
from face_detector import FaceDetector, Recogniser
from face_landmarks import FaceLandmarks
from personalizer import Personalizer
from service.auth import Principal
from service.errors import ModelUnavailableError
from service.illustrations import Illustrator
from service.inference_pool import ClientPool
from service.metrics import Metrics
from service.model_store import ModelStore
from service.recognition import FaceRecognition, why_no_recogniser
from service.state import State
from service.storage import LocalStorage


def get_state(request: Request) -> State:
    """The state that the lifespan built."""
    state = getattr(request.app.state, "service", None)
    if not isinstance(state, State):
        raise ModelUnavailableError("Face detector not initialized", retry_after_s=2)
    return state


StateDep = Annotated[State, Depends(get_state)]


def get_settings(state: StateDep) -> Settings:
    """The service's settings."""
    return state.settings


def get_pool(state: StateDep, request: Request) -> ClientPool:
    """The inference pool, with this request's client to lose its place."""
    return state.pool.for_client(lambda: _disconnected(request.receive))


def get_metrics(state: StateDep) -> Metrics:
    """What is counted."""
    return state.metrics


def get_storage(state: StateDep) -> LocalStorage:
    """Uploads, results and templates."""
    return state.storage


def get_models(state: StateDep) -> ModelStore:
    """The installed and known models."""
    return state.models


def get_landmarks(state: StateDep) -> FaceLandmarks:
    """The face mesh."""
    return state.landmarks


def get_detector(state: StateDep) -> FaceDetector:
    """The face detector."""
    return state.detector


def get_recogniser(state: StateDep) -> Recogniser:
    """What embeddings belong to: for routes that can't do without them."""
    if state.detector.recogniser is None:
        raise ModelUnavailableError(why_no_recogniser(state.settings, state.models))
    return state.detector.recogniser


def get_recognition(state: StateDep) -> FaceRecognition:
    """Face recognition on what clients send."""
    settings = state.settings
    return FaceRecognition(state.detector, max_pixels=settings.max_pixels, det_threshold=settings.face_det_thresh)


def get_personalizer(state: StateDep) -> Personalizer:
    """The personaliser."""
    return state.personalizer


def get_illustrator(state: StateDep) -> Illustrator:
    """The main job on files."""
    return Illustrator(personalizer=state.personalizer, storage=state.storage, max_pixels=state.settings.max_pixels)


def get_timings(request: Request) -> dict[str, float]:
    """Stages of this request in milliseconds; what is put in becomes the Server-Timing header."""
    return cast("dict[str, float]", request.scope["timings"])


def get_principal(request: Request) -> Principal:
    """Who sent the request."""
    return cast("Principal", request.state.principal)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


SettingsDep = Annotated[Settings, Depends(get_settings)]
Pool = Annotated[ClientPool, Depends(get_pool)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
StorageDep = Annotated[LocalStorage, Depends(get_storage)]
ModelStoreDep = Annotated[ModelStore, Depends(get_models)]
Landmarks = Annotated[FaceLandmarks, Depends(get_landmarks)]
Detector = Annotated[FaceDetector, Depends(get_detector)]
RecogniserDep = Annotated[Recogniser, Depends(get_recogniser)]
Recognition = Annotated[FaceRecognition, Depends(get_recognition)]
PersonalizerDep = Annotated[Personalizer, Depends(get_personalizer)]
IllustratorDep = Annotated[Illustrator, Depends(get_illustrator)]
Timings = Annotated[dict[str, float], Depends(get_timings)]
CurrentPrincipal = Annotated[Principal, Depends(get_principal)]
