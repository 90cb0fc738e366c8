"""Pages drawn by diffusion: whether that can be done here, the styler that does it, and who waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from config import Settings
from diffusion_models import torch_device
from face_detector import FaceDetector, load_face_detector
from face_landmarks import FaceLandmarks
from generation import Generator
from identity_diffusion import IdentityPipeline
from instant_id_styler import InstantIdStyler, Progress, StylerOptions
from personalizer import Engine
from service.errors import ModelUnavailableError, ServiceError
from service.hub_models import HubModels
from service.illustrations import PageChoice
from service.inference_pool import ClientGoneError, InferencePool
from service.model_store import ModelStore

logger = structlog.get_logger(__name__)

T = TypeVar("T")

AT_ONCE = 4
"""Requests that are drawn classically first and then wait for the GPU; they take threads of their own, since those of
the inference pool must not wait."""
NEVER_FULL = 100_000
"""The worker's queue: requests are bounded by these threads, and jobs by how many are done at once."""


class PageDiffusion:
    """Diffusion for pages. Belongs to one event loop; `styler` may be used from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        models: ModelStore,
        hub: HubModels,
        landmarks: FaceLandmarks,
        detector: FaceDetector,
    ) -> None:
        self._settings = settings
        self._models, self._hub = models, hub
        self._landmarks, self._detector = landmarks, detector
        self._own_faces: FaceDetector | None = None
        self._lock = threading.Lock()
        self._has_gpu = False
        batch = max(settings.generation_batch, settings.diffusion_candidates)
        self.worker = Generator(self._load, batch=batch, max_queue=NEVER_FULL)
        self.pool = InferencePool(max_workers=AT_ONCE, max_queue=settings.generation_queue)
        self.styler = InstantIdStyler(
            self.worker,
            StylerOptions(
                kind=settings.diffusion_identity,
                size=settings.diffusion_size,
                steps=settings.diffusion_steps,
                guidance=settings.diffusion_guidance,
                candidates=settings.diffusion_candidates,
            ),
            faces=self._faces,
        )

    def start(self) -> None:
        """Look for a GPU in the background, where engine=auto may choose diffusion: importing PyTorch takes seconds."""
        if self._settings.device != "cpu" and self.missing() is None:
            threading.Thread(target=self._look_for_gpu, name="look-for-gpu", daemon=True).start()

    def close(self) -> None:
        """Stop at the next step, and end the threads."""
        self.worker.close()
        self.pool.close()

    def missing(self) -> str | None:
        """What isn't installed and how to get it; None where nothing is missing. Reads no weights."""
        if reason := self._hub.missing_identity():
            return reason
        pack = self._settings.diffusion_face_model
        if self._settings.diffusion_identity == "instantid" and self._models.find(pack) is None:
            return (
                f"InstantID reads the face embeddings of the pack {pack}, which isn't installed. "
                f"Get it with `{self._models.how_to_get(pack)}`."
            )
        return None

    def settled(self, choice: PageChoice) -> PageChoice:
        """The choice with the engine that will draw it: auto is diffusion where there are a GPU and all weights.

        Raises:
            ModelUnavailableError: diffusion is asked for and can't be done; the sentence says how to get it.
        """
        engine: Engine = "classic"
        if choice.engine == "diffusion":
            if reason := self.missing():
                raise ModelUnavailableError(reason)
            engine = "diffusion"
        elif choice.engine == "auto" and self._has_gpu and self.worker.state[0] != "failing":
            engine = "diffusion"
        return replace(choice, engine=engine)

    async def run(self, work: Callable[[Progress], T], gone: Callable[[], Awaitable[object]]) -> T:
        """`work(progress)` in a thread of its own; it is given up at its next step when the client is `gone`.

        Raises:
            BusyError: too many wait already.
            ClientGoneError: nobody is left to answer.
        """
        left = threading.Event()
        watch = asyncio.ensure_future(gone())
        watch.add_done_callback(lambda _: left.set())

        def progress(_: float) -> None:
            if left.is_set():
                raise ClientGoneError

        try:
            return await self.pool.run(work, progress)
        finally:
            watch.cancel()

    def _look_for_gpu(self) -> None:
        try:
            self._has_gpu = torch_device(self._settings.device) == "cuda"
        except ServiceError as error:
            logger.warning("no diffusion for engine=auto", why=error.message)

    def _load(self) -> IdentityPipeline:
        return IdentityPipeline.load(self._hub.identity_files(), self._hub.options())

    def _faces(self) -> FaceDetector:
        """The detector whose recogniser InstantID reads: the service's own where that is it. Any one for IP-Adapter."""
        settings, detector = self._settings, self._detector
        own = detector.recogniser is not None and settings.diffusion_face_model == settings.face_model
        if own or settings.diffusion_identity == "ip-adapter":
            return detector
        with self._lock:
            if self._own_faces is None:
                self._own_faces = load_face_detector(
                    engine="insightface",
                    model=settings.diffusion_face_model,
                    det_threshold=settings.face_det_thresh,
                    device=settings.device,
                    models_dir=settings.models_dir,
                    landmarks=self._landmarks,
                    threads=settings.cores,
                )
            return self._own_faces
