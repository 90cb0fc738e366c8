"""Failures below /v1 as OpenAI's clients read them: `error` beside the keys that every failure has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/v1/"
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
FIRST_ERROR, FIRST_SERVER_ERROR = 400, 500


def openai_error(status: int, envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The value of `error` for a failure's envelope."""
    kind = "server_error" if status >= FIRST_SERVER_ERROR else "invalid_request_error"
    faults = envelope.get("errors") or [{}]
    place = [str(part) for part in faults[0].get("loc", ()) if part != "body"]
    return {
        "message": envelope["detail"],
        "type": TYPES.get(status, kind),
        "param": ".".join(place) or None,
        "code": envelope["code"],
    }


class OpenAIErrorMiddleware:
    """Adds `error` to the envelopes of failures below /v1, whoever wrote them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Answer(send))


class _Answer:
    """Passes an answer on; an envelope is held back until it is complete."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_envelope(message):
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_envelope(self._start)

    async def _send_envelope(self, start: Message) -> None:
        envelope = json.loads(self._body)
        body = json.dumps({**envelope, "error": openai_error(start["status"], envelope)}).encode()
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["content-length"] = str(len(body))
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def _is_envelope(start: Message) -> bool:
    content_type = Headers(raw=list(start["headers"])).get("content-type", "")
    return start["status"] >= FIRST_ERROR and content_type.startswith("application/json")
