"""Batches that fit into the GPU's memory: halved where they don't, then with networks offloaded, then refused."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from diffusion_models import Pipeline, place
from service.errors import BusyError
from utils import RGBImage

logger = logging.getLogger(__name__)

Preview: TypeAlias = Callable[[], "list[tuple[Sample, RGBImage]]"]
"""The pictures of a batch as far as they have come, HxWx3 uint8. Costs a decode."""
Images: TypeAlias = list[RGBImage | None]
"""The pictures of a request, HxWx3 uint8; None where the model's own safety checker blocked one."""

OUT_OF_MEMORY_RETRY_S = 30
NO_MEMORY = "The GPU's memory does not hold this. Ask for a smaller picture, or again when less runs on the GPU."


def nothing_to_see() -> list[tuple[Sample, RGBImage]]:
    """The `Preview` of a pipeline that shows nothing on the way."""
    return []


class OnStep(Protocol):
    """Told the steps that are done, their number, and how to look at the pictures. What it raises ends the batch."""

    def __call__(self, done: int, of: int, preview: Preview = nothing_to_see, /) -> None: ...


class BatchRequest(Protocol):
    """Pictures that are wanted: `n` of them, one for each of `seeds`.

    `size` is (width, height) in pixels. Requests whose `shared` are equal can be made together.
    """

    @property
    def n(self) -> int: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def seeds(self) -> list[int]: ...
    @property
    def shared(self) -> tuple[object, ...]: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a request, and its place among them."""

    request: Any
    seed: int
    index: int = 0


class FittingPipeline(ABC):
    """A pipeline that makes batches. For one thread, since a pipeline keeps its state in itself."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.name = type(pipeline).__name__
        self.device = pipeline._execution_device.type
        self.dtype = str(pipeline.dtype).removeprefix("torch.")
        self.offloaded = pipeline.device.type == "cpu"
        """Nothing is left to move off the GPU."""
        self._most: dict[tuple[int, int], int] = {}
        """Pictures of a size that fitted into memory, where more did not."""

    @abstractmethod
    def check(self, request: Any) -> list[str]:
        """Refuse what this pipeline can't do, before anything waits for it; say what it would leave out.

        Raises:
            InvalidValueError: the field, and what is wrong with it.
        """

    @abstractmethod
    def draw(self, samples: list[Sample], on_step: OnStep) -> Images:
        """A picture for each sample, as one batch. Their requests agree in `shared`."""

    def run(self, requests: Sequence[Any], on_step: OnStep) -> list[Images]:
        """The pictures of each request. The requests must have `shared` in common.

        Whatever is raised leaves the pipeline fit for the next batch.

        Raises:
            BusyError: the GPU's memory does not hold even one picture, with all networks offloaded.
        """
        samples = [Sample(request, seed, index) for request in requests for index, seed in enumerate(request.seeds)]
        made = iter(self._in_parts(samples, on_step))
        return [[next(made) for _ in request.seeds] for request in requests]

    def _in_parts(self, samples: list[Sample], on_step: OnStep) -> Images:
        size = samples[0].request.size
        most = min(self._most.get(size, len(samples)), len(samples))
        parts = [samples[start : start + most] for start in range(0, len(samples), most)]
        made: Images = []
        for index, part in enumerate(parts):
            images = self._fitting(part, partial(_step_of_part, on_step, index, len(parts)))
            if images is None:
                if most > 1:
                    self._most[size] = (most + 1) // 2
                    logger.warning("%d pictures of %dx%d do not fit into GPU memory; halving.", most, *size)
                else:
                    self._offload()
                return made + self._in_parts(samples[len(made) :], on_step)
            made += images
        return made

    def _fitting(self, samples: list[Sample], on_step: OnStep) -> Images | None:
        """The pictures, or None where memory runs out. The exception must be gone before memory can be freed."""
        import torch

        vae = getattr(self.pipeline, "vae", None)
        dtype = None if vae is None else vae.dtype
        try:
            return self.draw(samples, on_step)
        except torch.OutOfMemoryError:
            pass
        finally:  # an editor has no hooks of its own, and what was interrupted freed none
            self.pipeline.maybe_free_model_hooks()
            if vae is not None:  # SDXL's works in fp32 for a moment: what was interrupted left it so
                vae.to(dtype)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _offload(self) -> None:
        if self.offloaded:
            raise BusyError(NO_MEMORY, retry_after_s=OUT_OF_MEMORY_RETRY_S)
        logger.warning("One picture does not fit into GPU memory: the networks are offloaded from now on.")
        place(self.pipeline, self.device, "model")
        self.offloaded = True


def _step_of_part(
    on_step: OnStep, part: int, parts: int, done: int, of: int, preview: Preview = nothing_to_see
) -> None:
    on_step(part * of + done, parts * of, preview)
