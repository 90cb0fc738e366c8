"""Requests that come as JSON or as a form: the same fields in both, and in a form pictures as files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from config import Settings
from service.errors import BadRequestError, InvalidValueError

MOST_VALUES = 20_000
"""Commas and brackets of a body: 478 points with x, y and z have 2,000. Parsed, a value takes thirty times its text."""
FILE: dict[str, Any] = {"type": "string", "format": "binary"}

Query = TypeVar("Query", bound=BaseModel)


async def read_query(
    model: type[Query], request: Request, settings: Settings, *, pictures: Collection[str]
) -> tuple[Query, dict[str, bytes]]:
    """The query and the files beside it, from JSON or from a form, which sends empty what was not filled in.

    Raises:
        ServiceError: a file of another name than `pictures`, or more values than any request needs.
        RequestValidationError: a field is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
            async with request.form(max_files=len(pictures), max_part_size=settings.max_upload_bytes) as form:
                parts = form.multi_items()
                sent = {name: part for name, part in parts if isinstance(part, UploadFile)}
                files = {name: await file.read() for name, file in sent.items() if file.filename or file.size}
            query = model.model_validate({name: part for name, part in parts if isinstance(part, str) and part})
            if files.keys() - set(pictures):
                raise BadRequestError(f"Files are named {' and '.join(pictures)}.")
        else:
            body, files = await request.body(), {}
            if body.count(b",") + body.count(b"[") > MOST_VALUES:
                raise InvalidValueError(f"The body has more than {MOST_VALUES} values: no request needs as many.")
            query = model.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from error
    return query, files
