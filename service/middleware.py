"""Around every request: id, headers, CORS, credentials, limits, counting; and how a failed start is told."""

from __future__ import annotations

import sys
import time
from http import HTTPStatus
from uuid import uuid4

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config import Settings
from service.auth import STATIC_PATH, STUDIO_PATH, ApiKeys, AuthMiddleware
from service.error_handlers import ErrorEnvelopeMiddleware
from service.metrics import Metrics
from service.openai_errors import OpenAIErrorMiddleware
from service.rate_limit import RateLimiter, RateLimitMiddleware, parse_limit
from service.tokens import AccessTokens, user_of_key

logger = structlog.get_logger("access")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
NOTHING_ELSE = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
)
"""Swagger UI starts from an inline script of FastAPI's page; its assets are served by ourselves."""
DOCS_PATHS = ("/docs", "/redoc")
QUIET_PATHS = ("/health",)
"""Orchestrators ask these every few seconds: their lines would bury the rest."""


def middleware_stack(
    settings: Settings, *, tokens: AccessTokens, limiter: RateLimiter, metrics: Metrics
) -> list[Middleware]:
    """Outermost first."""
    watching = Middleware(
        PrometheusInstrumentatorMiddleware,
        should_group_status_codes=False,
        excluded_handlers=("^/metrics$", f"^{STATIC_PATH}", f"^{STUDIO_PATH}"),
        instrumentations=metrics.instrumentations,
        registry=metrics.registry,
    )
    limiting = Middleware(
        RateLimitMiddleware,
        limiter=limiter,
        limit=parse_limit(settings.rate_limit),
        on_refusal=metrics.rate_limited,
    )
    return [
        Middleware(StartFailureMiddleware),
        *([watching] if settings.prometheus_enabled else []),
        Middleware(CorrelationIdMiddleware, generator=lambda: str(uuid4())),
        Middleware(AnswerHeadersMiddleware, metrics=metrics),
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[
                "X-Request-ID",
                "X-Output-File-ID",
                "Server-Timing",
                "ETag",
                "Content-Disposition",
                "Retry-After",
                "RateLimit",
                "RateLimit-Policy",
            ],
        ),
        Middleware(OpenAIErrorMiddleware),
        Middleware(ErrorEnvelopeMiddleware, max_upload_mb=settings.max_upload_size),
        Middleware(
            AuthMiddleware,
            verifiers=[ApiKeys(key.get_secret_value() for key in settings.api_key), tokens, user_of_key],
            required=settings.needs_credentials,
            on_event=metrics.auth_event,
        ),
        limiting,
    ]


class AnswerHeadersMiddleware:
    """Security headers, and `Server-Timing` with the stages that a route put into `scope["timings"]` (milliseconds).

    Answers are not cached unless a route says otherwise: they are pictures of people.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        timings: dict[str, float] = scope.setdefault("timings", {})
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                total = (time.perf_counter() - began) * 1000
                _add_headers(MutableHeaders(scope=message), path, {**timings, "total": total})
                log = logger.debug if path.startswith(QUIET_PATHS) else logger.info
                log(f"{scope['method']} {path}", status=message["status"], ms=round(total, 1))
                if timings and (route := scope.get("route")) is not None:
                    failed = message["status"] >= HTTPStatus.BAD_REQUEST
                    self.metrics.on_work(route.path, failed=failed, total_ms=total, stages=timings)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _add_headers(headers: MutableHeaders, path: str, timings: dict[str, float]) -> None:
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", DOCS_POLICY if path.startswith(DOCS_PATHS) else NOTHING_ELSE)
    if not path.startswith(STATIC_PATH):
        headers.setdefault("Cache-Control", "no-store")
    headers["Server-Timing"] = ", ".join(f"{name};dur={ms:.1f}" for name, ms in timings.items())


class StartFailureMiddleware:
    """A start that fails is told to the server in one sentence; a traceback would bury it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        told = False

        async def send_sentence(message: Message) -> None:
            nonlocal told
            cause = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(cause, StartError):
                told = True
                message = {**message, "message": f"Not started. {cause}"}
            await send(message)

        try:
            await self.app(scope, receive, send_sentence)
        except StartError:
            if not told:
                raise


class StartError(Exception):
    """The service can't start as it is configured; the text is for the operator."""
