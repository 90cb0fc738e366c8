"""Every failure as the one envelope: `{"detail", "code", "request_id"}`, with `errors` for invalid requests.

Handlers see what a route or the router raises. `ErrorEnvelopeMiddleware` sees what passes by them: the plain-text
answers of the body limit and of byte ranges, and exceptions that nobody expected.
"""

from __future__ import annotations

import errno
import http
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError, StorageFullError
from service.inference_pool import ClientGoneError

logger = structlog.get_logger(__name__)

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "FILE_TOO_LARGE",
    416: "RANGE_NOT_SATISFIABLE",
    422: "VALIDATION_ERROR",
    500: "INTERNAL_ERROR",
}
"""Codes of the failures that the framework raises itself."""

INTERNAL_ERROR = "The service failed on this request. The log has the cause under the request_id."


def install_error_handlers(app: FastAPI, *, max_upload_mb: int) -> None:
    """Turn every exception that a route or the router raises into the envelope."""

    async def service_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        return service_error_response(error)

    async def validation_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _validation_response(error)

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if is_disk_full(error.__cause__):  # the framework calls any failure of reading a form "400"
            return service_error_response(StorageFullError("The service's disk is full. Try again later."))
        detail = http_detail(error.status_code, error.detail, max_upload_mb=max_upload_mb)
        return envelope(error.status_code, detail, headers=error.headers)

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)


def envelope(
    status: int,
    detail: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The body that every failure has; `fields` go before it."""
    body: dict[str, Any] = {
        **(fields or {}),
        "detail": detail,
        "code": code or CODES.get(status, http.HTTPStatus(status).name),
        "request_id": correlation_id.get(),
    }
    if errors is not None:
        body["errors"] = errors
    return JSONResponse(body, status_code=status, headers=headers)


def service_error_response(error: ServiceError) -> JSONResponse:
    """The envelope of an expected failure; its cause, if any, goes to the log only."""
    if error.status >= 500:
        logger.warning(error.message, code=error.code, cause=repr(error.__cause__) if error.__cause__ else None)
    return envelope(error.status, error.message, code=error.code, headers=error.headers, fields=error.fields)


def http_detail(status: int, detail: str, *, max_upload_mb: int) -> str:
    """A sentence that says what to do where the framework's only names the status."""
    match status:
        case 404:
            return "There is nothing at this address. /docs lists what there is." if detail == "Not Found" else detail
        case 405:
            return "This address does not take that method; the Allow header names those it takes."
        case 413:
            return f"File too large. A request may hold {max_upload_mb} MB of pictures; 1 MB where it holds none."
        case _:
            return detail


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the operating system refused to write for want of space."""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def _validation_response(error: RequestValidationError) -> JSONResponse:
    # The input itself is left out: it may be NaN, which JSON can't hold, or a picture of someone.
    errors = [
        {"loc": _place(fault["loc"]), "msg": fault["msg"].removeprefix("Value error, "), "type": fault["type"]}
        for fault in error.errors()
    ]
    malformed = any(fault["type"] == "json_invalid" for fault in errors)
    where = ".".join(str(part) for part in errors[0]["loc"]) if errors else "request"
    detail = f"{where}: {errors[0]['msg']}" if errors else "The request is not valid."
    return envelope(400 if malformed else 422, detail, errors=errors)


def _place(loc: Sequence[int | str]) -> list[int | str]:
    """Where in the request; without the types that pydantic tried, such as `tuple[float, float]`."""
    return [part for part in loc if isinstance(part, int) or "[" not in part]


class ErrorEnvelopeMiddleware:
    """Catches what no handler can: unexpected exceptions, and plain-text errors written below the handlers."""

    def __init__(self, app: ASGIApp, *, max_upload_mb: int) -> None:
        self.app = app
        self.max_upload_mb = max_upload_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, max_upload_mb=self.max_upload_mb)
        try:
            await self.app(scope, receive, answer)
        except (ClientGoneError, ClientDisconnect):
            logger.info("client closed the connection", path=scope["path"])
            if not answer.started:  # nobody reads it, but a server insists on an answer
                await envelope(499, "The client closed the connection.", code="CLIENT_CLOSED")(scope, receive, send)
        except Exception as error:
            if answer.started:
                raise
            if is_disk_full(error):
                full = StorageFullError("The service's disk is full. Try again later.")
                await service_error_response(full)(scope, receive, send)
                return
            logger.exception("unexpected failure", path=scope["path"])
            await envelope(500, INTERNAL_ERROR)(scope, receive, send)


class _Answer:
    """Passes an answer on, and rewrites it when it is a plain-text error."""

    def __init__(self, send: Send, *, max_upload_mb: int) -> None:
        self.send = send
        self.max_upload_mb = max_upload_mb
        self.started = False
        self.plain_error: Message | None = None
        self.text = b""

    async def __call__(self, message: Message) -> None:
        self.started = True
        if message["type"] == "http.response.start" and _is_plain_error(message):
            self.plain_error = message
        elif self.plain_error is not None and message["type"] == "http.response.body":
            self.text += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_envelope(self.plain_error)
        else:
            await self.send(message)

    async def _send_envelope(self, start: Message) -> None:
        status = start["status"]
        text = self.text.decode("utf-8", "replace") or http.HTTPStatus(status).phrase
        response = envelope(status, http_detail(status, text, max_upload_mb=self.max_upload_mb))
        headers = MutableHeaders(raw=list(start["headers"]))
        headers.update(response.headers)
        await self.send({"type": "http.response.start", "status": status, "headers": headers.raw})
        await self.send({"type": "http.response.body", "body": response.body})


def _is_plain_error(start: Message) -> bool:
    content_type = Headers(raw=list(start["headers"])).get("content-type", "")
    return start["status"] >= 400 and not content_type.startswith("application/json")
