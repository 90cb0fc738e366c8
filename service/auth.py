"""Who may use the service, decided before a body is read: a stranger's 50 MB upload is never taken in.

One path policy: what is not on the list of open paths needs `Authorization: Bearer <token>`. A token is shown to each
verifier in turn; the first that knows it says who sent it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from service.error_handlers import service_error_response
from service.errors import ServiceError, UnauthorizedError

STATIC_PATH = "/static-offline-docs"
"""Where the documentation's scripts and styles are served."""
STUDIO_PATH = "/studio"
"""Where the Studio is served: its page, its files, and the examples that it shows."""
OPEN_PATHS = frozenset(
    {
        "/",
        "/health",
        "/health/",
        "/health/live",
        "/health/ready",
        "/api/v1/health",
        "/metrics",
        "/docs",
        "/docs/oauth2-redirect",
        "/redoc",
        "/openapi.json",
        STUDIO_PATH,
        # Whoever logs in has no token yet.
        "/api/v1/auth/register",
        "/api/v1/auth/login",
        "/api/v1/auth/refresh",
        "/api/v1/auth/logout",
    }
)
"""What anyone may ask: it shows no picture and runs no model."""
OPEN_FOLDERS = (f"{STATIC_PATH}/", f"{STUDIO_PATH}/")
"""Everything below these is open as well."""

BEARER = HTTPBearer(
    auto_error=False,
    description="An API key of the service or of an account, or an access token. Needed where the service was started "
    "with API_KEY or AUTH_REQUIRED.",
)
"""Shows in /docs what `AuthMiddleware` asks for, with a button to enter it; it checks nothing itself."""

MISSING = "This address needs credentials. Send the header `Authorization: Bearer <API key or access token>`."
UNKNOWN = "The token is unknown or no longer valid. Send `Authorization: Bearer <API key or access token>`."


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request. `id` tells principals of a kind apart and is no secret."""

    kind: Literal["anonymous", "api_key", "user"]
    id: str


ANONYMOUS = Principal("anonymous", "")
SERVICE_OWNER = "service"
"""Owns what is made while the service is open, or with a key of API_KEY: keys can be exchanged, and it stays."""


def owner_of(principal: Principal) -> str:
    """Whose jobs, templates and cached results a principal's are."""
    return f"user:{principal.id}" if principal.kind == "user" else SERVICE_OWNER


def user_of(owner: str) -> str | None:
    """The id of the user that an owner is, or None for the service."""
    return owner.removeprefix("user:") if owner != SERVICE_OWNER else None


class Verifier(Protocol):
    """Knows one kind of token."""

    async def __call__(self, token: str, connection: HTTPConnection) -> Principal | None:
        """Who the token belongs to, or None where it is none of this kind or no longer valid."""


class ApiKeys:
    """The keys of API_KEY. Only their SHA-256 is kept, and a comparison takes as long for any token."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, token: str, connection: HTTPConnection) -> Principal | None:  # noqa: ARG002 - a Verifier
        sent = _digest(token)
        matches = [known for known in self._digests if hmac.compare_digest(known, sent)]
        return Principal("api_key", matches[0].hex()[:8]) if matches else None


class AuthMiddleware:
    """Puts the request's `Principal` into its state, or answers 401.

    Args:
        verifiers: asked in this order.
        required: False leaves all paths open; a known token is recognised all the same.
        on_event: told "accepted" or "refused" for each token shown, and "missing" where one was needed.
    """

    def __init__(
        self, app: ASGIApp, *, verifiers: Sequence[Verifier], required: bool, on_event: Callable[[str], None]
    ) -> None:
        self.app = app
        self.verifiers = verifiers
        self.required = required
        self.on_event = on_event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        token = _bearer_token(connection)
        try:
            principal = await self._known(token, connection)
        except ServiceError as error:  # the database of keys does not answer
            await service_error_response(error)(scope, receive, send)
            return
        if token:
            self.on_event("refused" if principal is None else "accepted")
        if principal is None and self.required and not is_open(scope["path"]):
            if not token:
                self.on_event("missing")
            refusal = UnauthorizedError(UNKNOWN if token else MISSING)
            await service_error_response(refusal)(scope, receive, send)
            return
        connection.state.principal = principal or ANONYMOUS
        await self.app(scope, receive, send)

    async def _known(self, token: str, connection: HTTPConnection) -> Principal | None:
        if token:
            for verifier in self.verifiers:
                if principal := await verifier(token, connection):
                    return principal
        return None


def is_open(path: str) -> bool:
    """Whether anyone may ask for this path."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _bearer_token(connection: HTTPConnection) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
