"""What a client wants, by its Accept and If-None-Match headers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from stat import S_IFREG
from typing import TypeVar

from anyio import AsyncFile, CancelScope, to_thread
from fastapi.responses import FileResponse, Response

from service.image_io import ImageFormat
from service.storage import FoundFile, Storage

T = TypeVar("T")

IMAGE_TYPES: dict[str, ImageFormat] = {
    "image/*": "png", "image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp",
}  # fmt: skip
MEDIA_TYPES: dict[ImageFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def preferred_image(accept: str) -> ImageFormat | None:
    """The picture format that `accept` asks for, or None where JSON is to be answered.

    A picture must be named: `*/*`, which curl sends unasked, means the seed's JSON answer.
    """
    return preferred(accept, IMAGE_TYPES)


def preferred(accept: str, offered: Mapping[str, T]) -> T | None:
    """What `accept` wants most of the types that are offered beside JSON, or None where JSON is to be answered."""
    ranges = [_parse_range(part) for part in accept.lower().split(",")]
    json_weight = max((weight for name, weight in ranges if name in {"application/json", "application/*"}), default=0.0)
    wanted = [(weight, name) for name, weight in ranges if name in offered and weight > json_weight]
    return offered[max(wanted, key=lambda each: each[0])[1]] if wanted else None


def wants_events(accept: str) -> bool:
    """Whether `accept` names server-sent events, and wants them more than JSON."""
    ranges = [_parse_range(part) for part in accept.lower().split(",")]
    events = max((weight for name, weight in ranges if name == "text/event-stream"), default=0.0)
    return events > max((weight for name, weight in ranges if name == "application/json"), default=0.0)


def file_response(storage: Storage, file: FoundFile, if_none_match: str | None) -> Response:
    """The file, for saving; takes ranges. Nothing but its headers where the client has it already."""
    etag = f'"{file.id}"'  # what has an id never changes
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if is_known_by_client(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return StoredFileResponse(storage, file, headers)


class StoredFileResponse(FileResponse):
    """The framework's answer with a file, its ranges and conditions, for a file that need not be on this machine."""

    chunk_size = 256 * 1024

    def __init__(self, storage: Storage, file: FoundFile, headers: Mapping[str, str]) -> None:
        facts = os.stat_result((S_IFREG, 0, 0, 0, 0, 0, file.size, int(file.modified), int(file.modified), 0))
        super().__init__(file.key, media_type=file.media_type, filename=file.name, headers=headers, stat_result=facts)
        self._open = partial(storage.open, file)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[AsyncFile[bytes]]:
        """Instead of opening the path."""
        file = await to_thread.run_sync(self._open)
        try:
            yield AsyncFile(file)
        finally:
            with CancelScope(shield=True):  # closing must finish even when the client went away
                await to_thread.run_sync(file.close)


def is_known_by_client(etag: str, if_none_match: str | None) -> bool:
    """Whether the client's copy is still the right one."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def _parse_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((value for key, _, value in (p.partition("=") for p in parameters) if key.strip() == "q"), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0
