"""Which engines run, on what, and what is missing: for GET /health and for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

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
        "illustration_styler": EngineHealth("ready", "classic", "CPU"),
        "image_model": _image_model(state),
    }


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
