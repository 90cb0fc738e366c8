"""How many requests one caller may make in a while, counted before a body is read.

A caller is a key or an account, or an address where nobody is known. Counting is the limits library's sliding window:
in Redis, where several processes share it, or in this process's memory. A Redis that is gone leaves the memory to
count, one line in the log, and is asked again every `RETRY_S`.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import ANONYMOUS, STATIC_PATH, STUDIO_PATH, Principal
from service.error_handlers import service_error_response
from service.errors import RateLimitedError

logger = structlog.get_logger(__name__)

OFF = "off"
RETRY_S = 10.0
"""How long memory counts after Redis failed, before Redis is asked again."""
UNCOUNTED = ("/health", "/metrics", "/docs", "/redoc", "/openapi.json", "/api/v1/health", STATIC_PATH, STUDIO_PATH)
"""Checks and scrapes are cheap and must be answered. Whoever logs in is counted like anyone."""
REDIS_TIMEOUT_S = 0.5
"""A request waits no longer for Redis than this."""
IPV6_NETWORK_BITS = 64
"""One household or server gets at least this network: its single addresses cost nothing."""


def parse_limit(text: str) -> RateLimitItem | None:
    """ "100/minute" as a limit, "off" as None."""
    return None if text == OFF else parse(text)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass; how many more may, and in how many seconds the next place becomes free."""

    allowed: bool
    limit: RateLimitItem
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """The fields of the IETF's draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers)."""
        policy = f'"default";q={self.limit.amount};w={self.limit.get_expiry()}'
        return {"RateLimit-Policy": policy, "RateLimit": f'"default";r={self.remaining};t={self.reset_s}'}


class RateLimiter:
    """Counts requests; any number of limits and callers."""

    def __init__(self, redis_url: str | None) -> None:
        """`redis_url`: redis://HOST:PORT/DB, shared by all processes that name it; None counts in memory."""
        self._memory = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._asks_again_at: float | None = None
        self._connections: ConnectionPool | None = None
        self._redis: SlidingWindowCounterRateLimiter | None = None
        if redis_url is not None:
            self._connections = ConnectionPool.from_url(
                redis_url,
                socket_timeout=REDIS_TIMEOUT_S,
                socket_connect_timeout=REDIS_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # memory counts meanwhile: nobody waits
            )
            storage = RedisStorage(
                f"async+{redis_url}",
                wrap_exceptions=True,
                implementation="redispy",
                connection_pool=self._connections,  # type: ignore[arg-type]  # documented, not declared
            )
            self._redis = SlidingWindowCounterRateLimiter(storage)

    @property
    def storage(self) -> str:
        """Where it counts now: redis or memory."""
        return "memory" if self._redis is None or self._asks_again_at is not None else "redis"

    async def hit(self, limit: RateLimitItem, *caller: str) -> Verdict:
        """Count one request of `caller` against `limit`."""
        if self._redis is not None and (self._asks_again_at is None or time.monotonic() >= self._asks_again_at):
            try:
                verdict = await _hit(self._redis, limit, caller)
            except StorageError as error:
                if self._asks_again_at is None:
                    logger.warning("rate limits are counted in memory: Redis does not answer", cause=str(error))
                self._asks_again_at = time.monotonic() + RETRY_S
            else:
                if self._asks_again_at is not None:
                    logger.info("rate limits are counted in Redis again")
                self._asks_again_at = None
                return verdict
        return await _hit(self._memory, limit, caller)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._connections is not None:
            await self._connections.aclose()


async def _hit(limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, caller: tuple[str, ...]) -> Verdict:
    allowed = await limiter.hit(limit, *caller)
    reset_time, remaining = await limiter.get_window_stats(limit, *caller)
    return Verdict(allowed, limit, remaining, max(1, math.ceil(reset_time - time.time())))


class RateLimitMiddleware:
    """Answers 429 to a caller over the limit, and tells every caller in headers what is left."""

    def __init__(
        self, app: ASGIApp, *, limiter: RateLimiter, limit: RateLimitItem | None, on_refusal: Callable[[str], None]
    ) -> None:
        """`limit`: None lets everyone through. `on_refusal` is told the kind of caller."""
        self.app = app
        self.limiter = limiter
        self.limit = limit
        self.on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if self.limit is None or scope["type"] != "http" or path.startswith(UNCOUNTED) or path == "/":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        principal: Principal = connection.state.principal
        verdict = await self.limiter.hit(self.limit, *caller_of(connection, principal))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(verdict.headers())
            await send(message)

        if verdict.allowed:
            await self.app(scope, receive, send_with_headers)
            return
        self.on_refusal(principal.kind)
        refusal = RateLimitedError(
            f"Too many requests: no more than {self.limit} are answered. Wait {verdict.reset_s} s.",
            retry_after_s=verdict.reset_s,
        )
        await service_error_response(refusal)(scope, receive, send_with_headers)


def caller_of(connection: HTTPConnection, principal: Principal = ANONYMOUS) -> tuple[str, str]:
    """What a request is counted under: who sent it, or the address it came from where nobody is known."""
    return (principal.kind, client_network(connection) if principal == ANONYMOUS else principal.id)


def client_network(connection: HTTPConnection) -> str:
    """The client's IPv4 address, or the network of its IPv6 one. Behind a proxy uvicorn puts in what it forwards."""
    host = connection.client.host if connection.client else "local"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a Unix socket, or a test
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))
    return str(address)
