"""The failures of a route as OpenAPI describes them, taken from the error classes themselves."""

from __future__ import annotations

from collections.abc import Iterable
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
    """The `responses` of a route with fields that may fail in these ways: one entry a status, with each code."""
    return _responses([(422, "VALIDATION_ERROR", "A field is missing or wrong; see `errors`."), *map(_meaning, kinds)])


def _meaning(kind: type[ServiceError]) -> tuple[int, str, str]:
    return kind.status, kind.code, (kind.__doc__ or "").partition("\n")[0]


def _responses(meanings: Iterable[tuple[int, str, str]]) -> dict[int | str, dict[str, Any]]:
    lines: dict[int | str, list[str]] = {}
    for status, code, meaning in meanings:
        lines.setdefault(status, []).append(f"`{code}`: {meaning}")
    return {
        status: {
            "model": ErrorAnswer,
            "description": "<br>".join(each),
            "content": {"application/json": {"example": _example(each[0])}},
        }
        for status, each in lines.items()
    }


def _example(line: str) -> dict[str, str]:
    code, _, meaning = line.partition(": ")
    return {"detail": meaning, "code": code.strip("`"), "request_id": "7597c990-39f8-40aa-89ea-72efa2b1e69a"}


UNAUTHORIZED = _responses([_meaning(UnauthorizedError)])
"""The failure of every route that is not open to all."""
