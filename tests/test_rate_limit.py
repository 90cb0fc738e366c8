"""No caller takes more than its share, and a Redis that is gone stops nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi.testclient import TestClient
from limits import parse
from starlette.requests import HTTPConnection
from structlog.testing import capture_logs

from main import create_app
from service import rate_limit
from service.auth import Principal
from service.rate_limit import RateLimiter, caller_of
from tests.conftest import settings_in
from tests.servers import Redis

T = TypeVar("T")
KEYS = ("first-key-4f9a1c7b2e8d", "other-key-9e2b5d1f7a3c")
THREE = parse("3/minute")


def limited_client(folder: Path, **changes: Any) -> TestClient:
    return TestClient(create_app(settings_in(folder, rate_limit="3/minute", **changes)))


def with_limiter(redis_url: str | None, work: Callable[[RateLimiter], Awaitable[T]]) -> T:
    async def run() -> T:
        limiter = RateLimiter(redis_url)
        try:
            return await work(limiter)
        finally:
            await limiter.close()

    return asyncio.run(run())


def test_one_request_too_many_is_429_with_the_seconds_to_wait(tmp_path: Path) -> None:
    with limited_client(tmp_path) as client:
        answers = [client.get("/models") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    refusal = answers[-1]
    assert refusal.json()["code"] == "RATE_LIMITED"
    assert refusal.json()["request_id"] == refusal.headers["X-Request-ID"]
    assert 1 <= int(refusal.headers["Retry-After"]) <= 60


def test_every_answer_says_what_is_left(tmp_path: Path) -> None:
    with limited_client(tmp_path) as client:
        left = [client.get("/models").headers["RateLimit"] for _ in range(4)]
        policy = client.get("/models").headers["RateLimit-Policy"]
    assert [entry.split(";")[1] for entry in left] == ["r=2", "r=1", "r=0", "r=0"]
    assert policy == '"default";q=3;w=60'


def test_health_documentation_and_metrics_are_not_counted(tmp_path: Path) -> None:
    with limited_client(tmp_path) as client:
        for path in ("/health", "/health/ready", "/metrics", "/docs", "/openapi.json", "/") * 3:
            answer = client.get(path)
            assert answer.status_code == 200
            assert "RateLimit" not in answer.headers


def test_a_body_is_not_read_for_a_caller_over_the_limit(tmp_path: Path) -> None:
    def upload() -> Any:
        yield b"x"
        pytest.fail("the body was read")

    with limited_client(tmp_path) as client:
        for _ in range(3):
            client.get("/models")
        # The test client hands over the body piece by piece as it is asked for.
        assert client.post("/detect-face", content=upload()).status_code == 429


def test_keys_are_counted_apart_and_whoever_has_none_by_address(tmp_path: Path) -> None:
    with limited_client(tmp_path, api_key=",".join(KEYS)) as client:
        first, other = ({"Authorization": f"Bearer {key}"} for key in KEYS)
        assert [client.get("/models", headers=first).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert client.get("/models", headers=other).status_code == 200
        assert client.get("/models").status_code == 401


def test_off_counts_nothing(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path, rate_limit="off"))) as client:
        assert "RateLimit" not in client.get("/models").headers


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_counted_as_what_one_caller_has(host: str, counted_as: str) -> None:
    connection = HTTPConnection({"type": "http", "client": (host, 1234), "headers": []})
    assert caller_of(connection) == ("anonymous", counted_as)
    assert caller_of(connection, Principal("user", "7")) == ("user", "7")


def test_a_connection_without_an_address_is_counted() -> None:
    assert caller_of(HTTPConnection({"type": "http", "client": None, "headers": []})) == ("anonymous", "local")


def test_redis_counts_for_all_processes_together(redis_server: Redis) -> None:
    async def hit(limiter: RateLimiter) -> bool:
        assert limiter.storage == "redis"
        return (await limiter.hit(THREE, "shared")).allowed

    assert [with_limiter(redis_server.url, hit) for _ in range(4)] == [True, True, True, False]


def test_without_redis_memory_counts_and_one_line_says_so(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose_and_find(limiter: RateLimiter) -> list[tuple[bool, str]]:
        seen = [((await limiter.hit(THREE, "lost")).allowed, limiter.storage)]
        redis_server.stop()
        seen += [((await limiter.hit(THREE, "lost")).allowed, limiter.storage) for _ in range(4)]
        redis_server.start()
        monkeypatch.setattr(rate_limit, "RETRY_S", 0.0)
        limiter._asks_again_at = 0.0
        return [*seen, ((await limiter.hit(THREE, "lost")).allowed, limiter.storage)]

    with capture_logs() as logs:
        seen = with_limiter(redis_server.url, lose_and_find)
    lost = [(True, "memory")] * 3 + [(False, "memory")]
    assert seen == [(True, "redis"), *lost, (True, "redis")]
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]


def test_a_redis_that_never_was_there_stops_no_request(tmp_path: Path) -> None:
    with limited_client(tmp_path, redis_url="redis://127.0.0.1:1/0") as client:
        assert [client.get("/models").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert 'rate_limit_storage{storage="memory"} 1.0' in client.get("/metrics").text
