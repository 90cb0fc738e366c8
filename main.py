"""Assembles the service. `python main.py` or `uvicorn main:app` serves it; `python main.py models` manages models."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.formparsers import MultiPartParser

from config import Settings, load_settings
from routes import (
    auth,
    contour_jobs,
    contours,
    face_recognition,
    faces,
    health,
    illustrations,
    images,
    jobs,
    models,
    processing,
    prometheus,
    studio,
    tryon,
    users,
)
from routes.error_docs import UNAUTHORIZED
from service.auth import BEARER, STATIC_PATH
from service.error_handlers import install_error_handlers
from service.logs import configure_logging
from service.metrics import Metrics
from service.middleware import middleware_stack
from service.model_store import run_models_command
from service.rate_limit import RateLimiter
from service.state import open_state
from service.tokens import access_tokens

OPEN_ROUTERS = (health.router,)
ROUTERS = (
    models.router, faces.router, face_recognition.router, contours.router, contour_jobs.router,
    illustrations.router, images.router, users.router, tryon.router, jobs.router, auth.router, processing.router,
)  # fmt: skip

DESCRIPTION = """Puts a child into a page of a picture book, dresses people, draws from words, and finds faces.

Pictures are JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF or GIF (its first frame); the content decides, not the name.
Every failure is `{"detail", "code", "request_id"}`. Uploads and results expire; `DELETE` removes them at once.
`POST /personalize` never stores the child's photo. Long work is a job: `202` with its `status_url`."""

GRACE_S = 10
"""Seconds that open requests get when the service is told to stop."""
KEEP_ALIVE_S = 75
"""Seconds that an idle connection is kept: more than clients (httpx: 5) and proxies (60) keep theirs. A request that is
sent while the service closes its connection is lost."""


def create_app(settings: Settings) -> FastAPI:
    """The application: cheap to make, since engines are built when it starts."""
    limiter, metrics, tokens = RateLimiter(settings.redis_url), Metrics(), access_tokens(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_state(settings, tokens=tokens, limiter=limiter, metrics=metrics) as state:
            app.state.service = state
            yield
        del app.state.service

    configure_logging(level=settings.lowest_log_level, log_format=settings.log_format)
    # Photos of children stay in memory; the default spools what is over 1 MB to a temporary file.
    MultiPartParser.spool_max_size = settings.max_upload_bytes
    app = FastAPIOffline(
        title=settings.app_name,
        version=settings.app_version,
        description=DESCRIPTION,
        lifespan=lifespan,
        middleware=middleware_stack(settings, tokens=tokens, limiter=limiter, metrics=metrics),
        static_url=STATIC_PATH,
    )
    app.state.settings = settings
    install_error_handlers(app, max_upload_mb=settings.max_upload_size)
    for router in (*OPEN_ROUTERS, *([prometheus.router] if settings.prometheus_enabled else [])):
        app.include_router(router)
    if settings.role == "worker":
        return app
    limits: dict[str, Any] = {
        # Here and not on the app: there it would answer outside the middleware, without id and headers.
        "max_body_size": settings.max_upload_bytes,
        # A form's field may be a picture in base64; the default is 1 MB.
        "form_limits": {"max_part_size": settings.max_upload_bytes},
    }
    app.include_router(studio.router)
    app.include_router(auth.open_router, **limits)
    for router in ROUTERS:
        # BEARER documents what the middleware asks for.
        app.include_router(router, dependencies=[Depends(BEARER)], responses=UNAUTHORIZED, **limits)
    return app


def serve(settings: Settings) -> None:
    """Run uvicorn until it is told to stop."""
    options: dict[str, Any] = {
        "host": settings.api_host,
        "port": settings.api_port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_S,
        "timeout_keep_alive": KEEP_ALIVE_S,
    }
    if settings.api_workers > 1:
        uvicorn.run("main:app", workers=settings.api_workers, **options)
    else:
        uvicorn.run(create_app(settings), **options)


def main(argv: Sequence[str]) -> int:
    """`main.py` serves; `main.py models ...` lists, fetches and checks models."""
    settings = load_settings()
    if argv and argv[0] == "models":
        return run_models_command(argv[1:], settings)
    if argv:
        sys.exit(f"main.py: {argv[0]!r} is not a command. Use `main.py` to serve, or `main.py models --help`.")
    serve(settings)
    return 0


def __getattr__(name: str) -> FastAPI:
    """`app` for `uvicorn main:app`, made on demand so that importing this module reads no settings."""
    if name == "app":
        return create_app(load_settings())
    raise AttributeError(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
