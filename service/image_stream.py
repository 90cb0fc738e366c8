"""Image generation as it goes on: a request's pictures awaited, or told by server-sent events in OpenAI's names."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from fitting_batches import Images
from generation import Watcher
from generation_batch import ImageRequest
from service.error_handlers import INTERNAL_ERROR, logger
from service.errors import ServiceError
from service.image_generation import GeneratedImages, ImageGeneration, Wish
from service.image_jobs import answer_of
from service.image_wishes import EditWish
from service.inference_pool import ClientGoneError, InferencePool
from service.openai_errors import openai_error
from utils import RGBImage

SIGN_OF_LIFE_S = 15
"""Seconds of silence before a comment: proxies cut a silent stream."""

Finish: TypeAlias = Callable[[Images], Awaitable[GeneratedImages]]


async def awaited(
    generation: ImageGeneration, request: ImageRequest, gone: Callable[[], Awaitable[None]]
) -> tuple[Images, list[str]]:
    """The pictures of a request, and the warnings; given up when its client goes.

    Raises:
        ClientGoneError: it went.
        ServiceError: they could not be made.
    """
    ticket = generation.generator.submit(request)
    made = asyncio.wrap_future(ticket.future)
    left = asyncio.ensure_future(gone())
    events: set[asyncio.Future[Any]] = {made, left}
    try:
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if not made.done():
            raise ClientGoneError
        return made.result(), ticket.warnings
    finally:
        left.cancel()
        ticket.cancel()


class ImageStream:
    """The events of one request. It is in the queue from the beginning: what can be refused is refused before them."""

    def __init__(
        self, generation: ImageGeneration, pool: InferencePool, wish: Wish, request: ImageRequest, *, base_url: str
    ) -> None:
        """Raises what `Generator.submit` raises."""
        self._generation = generation
        self._pool = pool
        self._wish = wish
        self._request = request
        self._base_url = base_url
        self._name = "image_edit" if isinstance(wish, EditWish) else "image_generation"
        self._events: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        watcher = Watcher(self._on_step, wish.partial_images, self._on_partial)
        self._ticket = generation.generator.submit(request, watcher)
        self._ticket.future.add_done_callback(lambda _: self._put(None))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The events, encoded. Closing the iterator gives the request up."""
        try:
            while (event := await self._next()) is not None:
                yield event
            async for event in self._end():
                yield event
        finally:
            self._ticket.cancel()

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(SIGN_OF_LIFE_S):
                event = await self._events.get()
        except TimeoutError:
            return KEEPALIVE_COMMENT
        return None if event is None else self._encoded(*event)

    async def _end(self) -> AsyncIterator[bytes]:
        """A `completed` for each picture, or an error."""
        try:
            images = await asyncio.wrap_future(self._ticket.future)
            made = await self._pool.run_patiently(
                self._generation.finish, self._wish, self._request, images, self._ticket.warnings
            )
        except Exception as error:  # noqa: BLE001 - the answer has begun: what goes wrong now is an event of it
            if not isinstance(error, ServiceError):
                logger.exception("a stream of pictures failed")
            yield self._failure(error)
            return
        answer = answer_of(made, self._wish, base_url=self._base_url)
        common = {key: value for key, value in answer.items() if key not in ("data", "created")}
        for index, (entry, image) in enumerate(zip(answer["data"], made.images, strict=True)):
            picture = {"b64_json": base64.b64encode(image.data).decode(), "created_at": made.created, "index": index}
            yield self._encoded("completed", {**picture, **entry, **common})

    def _failure(self, error: Exception) -> bytes:
        status, code, detail = 500, "INTERNAL_ERROR", INTERNAL_ERROR
        if isinstance(error, ServiceError):
            status, code, detail = error.status, error.code, error.message
        envelope = {"detail": detail, "code": code}
        return format_sse_event(
            event="error", data_str=json.dumps({**envelope, "error": openai_error(status, envelope)})
        )

    def _on_step(self, done: int, of: int) -> None:
        self._put(("in_progress", {"step": done, "steps": of, "progress": round(done / of, 4)}))

    def _on_partial(self, number: int, index: int, image: RGBImage) -> None:
        data = self._generation.encode(self._wish, self._request, image, self._request.seeds[index])
        self._put(("partial_image", {
            "b64_json": base64.b64encode(data).decode(), "partial_image_index": number, "index": index,
            "created_at": int(time.time()), "size": f"{self._request.width}x{self._request.height}",
            "quality": "low" if self._wish.quality == "low" else "high", "output_format": self._wish.output_format,
            "background": "opaque",
        }))  # fmt: skip

    def _put(self, event: tuple[str, dict[str, Any]] | None) -> None:
        """From any thread; a loop that is closed has nobody left to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _encoded(self, what: str, data: dict[str, Any]) -> bytes:
        name = f"{self._name}.{what}"
        return format_sse_event(event=name, data_str=json.dumps({"type": name, **data}))
