"""What a client wants, by its Accept and If-None-Match headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from fastapi.responses import FileResponse, Response

from service.image_io import ImageFormat
from service.storage import StoredFile

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


def file_response(file: StoredFile, if_none_match: str | None) -> Response:
    """The file, for saving; takes ranges. Nothing but its headers where the client has it already."""
    etag = f'"{file.id}"'  # what has an id never changes
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if is_known_by_client(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return FileResponse(file.path, media_type=file.media_type, filename=file.path.name, headers=headers)


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
