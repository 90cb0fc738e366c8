"""The failures of a route as OpenAPI describes them, taken from the error classes themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.errors import ServiceError, UnauthorizedError


class FieldFault(BaseModel):
    """What is wrong with one field."""

    loc: list[int | str] = Field(description="Where: `body`, the field's name, and so on.", examples=[["body", "face"]])
    msg: str = Field(description="What is wrong with it.", examples=["Input should be a finite number"])
    type: str = Field(description="A code that stays the same.", examples=["finite_number"])


class ErrorAnswer(BaseModel):
    """Every failure."""

    detail: str = Field(description="What is wrong and what to do.")
    code: str = Field(description="Stays the same whatever the sentence says.", examples=["IMAGE_UNREADABLE"])
    request_id: str | None = Field(description="To look for in the service's log; the X-Request-ID header is the same.")
    errors: list[FieldFault] | None = Field(None, description="Only with VALIDATION_ERROR: every field that is wrong.")


def documented(*kinds: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may fail in these ways: one entry a status, with each code and its meaning."""
    meanings: dict[int | str, list[str]] = {}
    for kind in kinds:
        first_line = (kind.__doc__ or "").partition("\n")[0]
        meanings.setdefault(kind.status, []).append(f"`{kind.code}`: {first_line}")
    return {status: {"model": ErrorAnswer, "description": "<br>".join(lines)} for status, lines in meanings.items()}


UNAUTHORIZED = documented(UnauthorizedError)
