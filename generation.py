"""Illustrations from a prompt, a picture or both: one thread that owns a diffusion pipeline, and a bounded queue.

The thread takes the request that waited longest, and with it every other one that can share its batch. The pipeline is
loaded by that thread when it is first needed, so that a service that generates nothing never imports PyTorch.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeAlias

from fitting_batches import BatchRequest, FittingPipeline, Images, Preview, nothing_to_see
from service.errors import BusyError, ModelUnavailableError, ServiceError
from utils import RGBImage

logger = logging.getLogger(__name__)

GeneratorState: TypeAlias = Literal["idle", "loading", "ready", "failing"]

RELOAD_AFTER_S = 60
"""A model that could not be loaded is not tried again before: each try takes seconds, and every caller would wait."""
FIRST_GUESS_S = 5
"""Retry-After before any batch was timed."""
CLOSE_S = 20
"""A step takes less than a second on a GPU; loading a large model can't be interrupted."""
STOPPING = "The service is stopping. Try again shortly."


class GenerationStoppedError(BaseException):
    """Nobody wants the batch any more. No Exception: no library on the way may take it for a failure of its own."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Told of a request's progress, in the generator's thread: what it is called with must be quick.

    Attributes:
        on_step: the steps that are done, and their number.
        partial_images: how often on the way `on_partial` gets the pictures.
        on_partial: which time it is from 0, the picture's place in the request, and the picture: HxWx3 uint8.
    """

    on_step: Callable[[int, int], None] = lambda done, of: None  # noqa: ARG005
    partial_images: int = 0
    on_partial: Callable[[int, int, RGBImage], None] = lambda time, index, image: None  # noqa: ARG005

    def partial_at(self, done: int, of: int) -> int | None:
        """Which of the partial pictures is due after so many steps; None where none is."""
        steps = [of * time // (self.partial_images + 1) for time in range(1, self.partial_images + 1)]
        return steps.index(done) if done in steps else None


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that was taken. `future` has its pictures, or the `ServiceError` that it failed with.

    `warnings` are sentences about what the pipeline leaves out; known when the pictures are.
    """

    request: BatchRequest
    watcher: Watcher
    future: Future[Images] = field(default_factory=Future)
    warnings: list[str] = field(default_factory=list)

    def tell(self, done: int, of: int, preview: Preview) -> None:
        """Pass a step on."""
        self.watcher.on_step(done, of)
        time = self.watcher.partial_at(done, of)
        if time is not None:
            for sample, image in preview():
                if sample.request is self.request:
                    self.watcher.on_partial(time, sample.index, image)

    def images(self, timeout_s: float) -> Images | None:
        """The pictures; None where they are not there within so many seconds.

        Raises:
            ServiceError: what it failed with.
        """
        wait([self.future], timeout_s)
        return self.future.result() if self.future.done() else None

    def cancel(self) -> None:
        """Give it up: it leaves the queue, and a batch that nobody wants any more stops at its next step."""
        self.future.cancel()

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not self.future.cancelled()


class Generator:
    """Takes requests from any thread and makes them in one of its own."""

    def __init__(self, load: Callable[[], FittingPipeline], *, batch: int, max_queue: int) -> None:
        """`load` makes the pipeline, in the generator's thread.

        Args:
            batch: pictures that requests are joined up to; one request's own are never split.
            max_queue: requests that may wait.
        """
        self.batch = batch
        self.max_queue = max_queue
        self._load = load
        self._pipeline: FittingPipeline | None = None
        self._failure: tuple[float, ServiceError] | None = None
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._batch_s = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def pipeline(self) -> FittingPipeline | None:
        """The pipeline, once it is loaded: for its name and device."""
        return self._pipeline

    @property
    def waiting(self) -> int:
        """Requests that wait for their batch."""
        return len(self._waiting)

    @property
    def state(self) -> tuple[GeneratorState, str | None]:
        """What the pipeline is at, and why it fails."""
        if self._pipeline is not None:
            return "ready", None
        if self._failure is not None:
            return "failing", self._failure[1].message
        return ("idle" if self._thread is None else "loading"), None

    def warm_up(self) -> None:
        """Have the pipeline loaded in the background."""
        with self._changed:
            self._start()

    def submit(self, request: BatchRequest, watcher: Watcher | None = None) -> Ticket:
        """Have it made.

        Raises:
            BusyError: `max_queue` requests wait already, or the generator was closed.
            ModelUnavailableError: the pipeline could not be loaded a moment ago.
        """
        with self._changed:
            if self._closing:
                raise BusyError(STOPPING, retry_after_s=FIRST_GUESS_S)
            if self._failure is not None:
                failed_at, error = self._failure
                if time.monotonic() - failed_at < RELOAD_AFTER_S:
                    raise error
                self._failure = None
            if len(self._waiting) >= self.max_queue:
                raise BusyError(
                    "The service generates as many pictures as it can. Try again shortly.",
                    retry_after_s=self._retry_after_s(),
                )
            ticket = Ticket(request, watcher or Watcher())
            self._waiting.append(ticket)
            ticket.future.add_done_callback(lambda _: self._forget(ticket))
            self._start()
            self._changed.notify_all()
        return ticket

    def close(self) -> None:
        """Stop at the next step and fail what waits. Loading a model is not waited for longer than CLOSE_S."""
        with self._changed:
            self._closing = True
            abandoned = [*self._waiting, *self._running]
            self._changed.notify_all()
        for ticket in abandoned:
            _fail(ticket, BusyError(STOPPING, retry_after_s=FIRST_GUESS_S))
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._work, name="generation", daemon=True)
            self._thread.start()

    def _forget(self, ticket: Ticket) -> None:
        with self._changed, suppress(ValueError):
            self._waiting.remove(ticket)

    def _retry_after_s(self) -> int:
        batches = 1 + sum(ticket.request.n for ticket in self._waiting) // self.batch
        return math.ceil(batches * self._batch_s) or FIRST_GUESS_S

    def _work(self) -> None:
        while not self._closing:
            pipeline = self._loaded()
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting)
                if self._closing or pipeline is None:
                    continue
                tickets = self._next_batch(pipeline)
            if tickets:
                self._make(pipeline, tickets)

    def _loaded(self) -> FittingPipeline | None:
        """The pipeline; or None, and every waiting request has failed."""
        if self._pipeline is None:
            try:
                self._pipeline = self._load()
            except Exception as error:
                reason = error if isinstance(error, ServiceError) else _cannot_load()
                if reason is not error:
                    logger.exception("The diffusion model can't be loaded.")
                with self._changed:
                    self._failure = (time.monotonic(), reason)
                    waiting = list(self._waiting)
                for ticket in waiting:
                    _fail(ticket, reason)
        return self._pipeline

    def _next_batch(self, pipeline: FittingPipeline) -> list[Ticket]:
        """The request that waited longest, and what can be made with it; they leave the queue."""
        chosen: list[Ticket] = []
        for ticket in list(self._waiting):
            if not self._fits(ticket, chosen):
                continue
            self._waiting.remove(ticket)
            try:
                ticket.warnings = pipeline.check(ticket.request)
            except ServiceError as error:
                _fail(ticket, error)
                continue
            chosen.append(ticket)
        self._running = chosen
        return chosen

    def _fits(self, ticket: Ticket, chosen: list[Ticket]) -> bool:
        if not chosen:
            return True
        pictures = sum(each.request.n for each in chosen) + ticket.request.n
        return pictures <= self.batch and ticket.request.shared == chosen[0].request.shared

    def _make(self, pipeline: FittingPipeline, tickets: list[Ticket]) -> None:
        began = time.monotonic()

        def on_step(done: int, of: int, preview: Preview = nothing_to_see) -> None:
            if self._closing or not any(ticket.wanted for ticket in tickets):
                raise GenerationStoppedError
            once = cache(preview)
            for ticket in tickets:
                if ticket.wanted:
                    ticket.tell(done, of, once)

        try:
            made = pipeline.run([ticket.request for ticket in tickets], on_step)
        except GenerationStoppedError:
            logger.info("Nobody waits for the batch any more: it was given up after %.1f s.", time.monotonic() - began)
            return
        except Exception as error:
            if not isinstance(error, ServiceError):
                logger.exception("A batch of pictures failed.")
            for ticket in tickets:
                _fail(ticket, error)
            return
        finally:
            self._running = []
        self._batch_s = time.monotonic() - began
        for ticket, images in zip(tickets, made, strict=True):
            with suppress(InvalidStateError, CancelledError):
                ticket.future.set_result(images)


def _fail(ticket: Ticket, error: Exception) -> None:
    with suppress(InvalidStateError):
        ticket.future.set_exception(error)


def _cannot_load() -> ModelUnavailableError:
    return ModelUnavailableError(
        "The image model can't be loaded; the service's log says why. If its files are damaged, remove its folder and "
        "get it again, as GET /models says."
    )
