"""Try-ons whose pose is known: of the drawn mannequin it is given, on everything else nobody is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from fastapi.testclient import TestClient

from body_pose import BodyPose
from face_landmarks import FaceLandmarks
from service.deps import get_tryon
from service.state import State
from service.tryon import TryOn
from service.tryon_jobs import KIND, TryOnTools, make_tryon
from tests import drawn_garments as drawn
from tryon_pipeline import TryOnEngines
from utils import FloatArray, RGBImage


class MannequinPoses:
    """Knows the mannequin by its shape, at any size."""

    def __init__(self) -> None:
        _, self.pose = drawn.mannequin()

    def find(self, image_rgb: RGBImage) -> BodyPose | None:
        """The mannequin's pose in pixels of this picture."""
        height, width = image_rgb.shape[:2]
        own_width, own_height = drawn.SIZE
        if abs(width / height - own_width / own_height) > 0.01:
            return None
        scale = width / own_width
        return replace(self.pose, points=self.pose.points * scale, mask=self.mask(image_rgb))

    def mask(self, image_rgb: RGBImage, /) -> FloatArray:
        """The mannequin's mask, nobody's on anything else."""
        assert self.pose.mask is not None
        height, width = image_rgb.shape[:2]
        if abs(width / height - self.pose.mask.shape[1] / self.pose.mask.shape[0]) > 0.01:
            return np.zeros((height, width), np.float32)
        mask: FloatArray = cv2.resize(self.pose.mask, (width, height))
        return mask


def mannequin_tryon(landmarks: FaceLandmarks, **changes: Any) -> TryOn:
    """The real pipeline on the mannequin's pose."""
    poses = MannequinPoses()
    options: dict[str, Any] = {"max_pixels": 20_000_000, "timeout_s": 60}
    return TryOn(TryOnEngines(poses, poses.mask), landmarks, **(options | changes))


@contextmanager
def dressing_mannequins(client: TestClient, **changes: Any) -> Iterator[TryOnTools]:
    """The application's try-ons, at once and by jobs, know the mannequin's pose."""
    app: Any = client.app
    state: State = app.state.service
    assert client.portal is not None
    tools = TryOnTools(
        tryon=mannequin_tryon(state.landmarks), image_model=state.image_model, keep_artifacts=True,
        loop=client.portal.call(_running_loop), on_outcome=state.metrics.tryon,
    )  # fmt: skip
    tools = replace(tools, **changes)
    overrides, handler = dict(app.dependency_overrides), state.jobs._runner.handlers[KIND]
    app.dependency_overrides[get_tryon] = lambda: tools.tryon
    state.jobs.register(KIND, partial(make_tryon, tools=tools))
    try:
        yield tools
    finally:
        app.dependency_overrides = overrides
        state.jobs.register(KIND, handler)


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
