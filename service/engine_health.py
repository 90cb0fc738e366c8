"""Which engines run, on what, and what is missing: for GET /health and for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from facial_expression import PROFILE
from service.recognition import why_no_recogniser

if TYPE_CHECKING:
    from service.state import State


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """One engine: `reason` says why it is missing, and how to get it; or why it fails just now."""

    state: Literal["ready", "missing", "failing"]
    engine: str | None
    provider: Annotated[
        str | None,
        Field(description="What it really runs on, such as CPUExecutionProvider; or the host that pictures go to."),
    ]
    reason: str | None = None


def engines_of(state: State) -> dict[str, EngineHealth]:
    """Every engine by name."""
    detector = state.detector
    return {
        "face_detector": EngineHealth("ready", detector.engine, detector.provider),
        "face_recognizer": _recognizer(state),
        "face_landmarks": EngineHealth("ready", "mediapipe", "XNNPACK CPU"),
        "facial_expression": _expression_model(state),
        "illustration_styler": EngineHealth("ready", "classic", "CPU"),
        "virtual_tryon": EngineHealth("ready", "classic draft on MediaPipe Pose", "XNNPACK CPU"),
        "image_model": _image_model(state),
        "image_generation": _image_generation(state),
        "page_diffusion": _page_diffusion(state),
    }


def _expression_model(state: State) -> EngineHealth:
    if state.expression_model is not None:
        return EngineHealth("ready", state.expression_model.name, "CPUExecutionProvider")
    how = f"Get it with `{state.models.how_to_get(PROFILE)}` and start the service again."
    return EngineHealth(
        "missing", None, None, f"Without the expression model four measures of the mesh stand in. {how}"
    )


def _image_generation(state: State) -> EngineHealth:
    """Ready before the model is loaded: the first request loads it."""
    pipeline, (standing, reason) = state.images.generator.pipeline, state.images.generator.state
    model = state.images.models.model_name
    if pipeline is not None:
        return EngineHealth("ready", f"{pipeline.name} {model}", f"{pipeline.device} {pipeline.dtype}")
    missing = state.images.models.missing()
    if missing is not None:
        return EngineHealth("missing", None, None, missing)
    if standing == "failing":
        return EngineHealth("failing", model, None, reason)
    return EngineHealth("ready", model, None, f"The model is {standing}: the first request loads it.")


def _page_diffusion(state: State) -> EngineHealth:
    """What engine=diffusion draws pages with. Ready before it is loaded, as above."""
    worker, name = state.diffusion.worker, state.settings.diffusion_identity
    if worker.pipeline is not None:
        return EngineHealth("ready", name, f"{worker.pipeline.device} {worker.pipeline.dtype}")
    if missing := state.diffusion.missing():
        return EngineHealth("missing", None, None, missing)
    standing, reason = worker.state
    if standing == "failing":
        return EngineHealth("failing", name, None, reason)
    return EngineHealth("ready", name, None, f"The model is {standing}: the first request loads it.")


def _recognizer(state: State) -> EngineHealth:
    detector = state.detector
    if detector.embeds:
        return EngineHealth("ready", detector.engine, detector.provider)
    return EngineHealth("missing", None, None, why_no_recogniser(state.settings, state.models))


def _image_model(state: State) -> EngineHealth:
    model = state.image_model
    standing, reason = model.status()
    if standing == "missing":
        return EngineHealth(standing, None, None, reason)
    return EngineHealth(standing, model.model, model.provider, reason)
