"""Credentials: one policy for every path, keys that can be rotated, nothing read or told before they are checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Message

from config import Settings
from main import create_app
from service.auth import OPEN_PATHS, is_open
from service.deps import CurrentPrincipal
from tests.conftest import settings_in

KEY = "w7Tz0vGkqYb3sQm1XcR9fLh2"
NEXT_KEY = "pN4dJx8aEuZ6iVo5BtKy+/=="


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def app_in(folder: Path, **settings: Any) -> FastAPI:
    """The application, without engines: what is asked for here needs none."""
    app = create_app(settings_in(folder, **settings))

    @app.get("/who", include_in_schema=False)
    async def who(principal: CurrentPrincipal) -> dict[str, str]:
        return {"kind": principal.kind, "id": principal.id}

    return app


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auth")


@pytest.fixture(scope="module")
def closed(folder: Path) -> TestClient:
    return TestClient(app_in(folder, api_key=f"{KEY}, {NEXT_KEY}", cors_origins="https://shop.example"))


@pytest.fixture(scope="module")
def open_to_all(folder: Path) -> TestClient:
    return TestClient(app_in(folder))


def check_refused(answer: Any) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "Bearer" in body["detail"] or "API_KEY" in body["detail"]
    return body


def test_a_request_without_key_is_refused_and_told_what_to_send(closed: TestClient) -> None:
    assert "Authorization: Bearer" in check_refused(closed.get("/models"))["detail"]


@pytest.mark.parametrize("key", [KEY, NEXT_KEY])
def test_each_of_several_keys_is_let_in(closed: TestClient, key: str) -> None:
    body = closed.get("/who", headers=bearer(key)).json()
    assert body["kind"] == "api_key"
    assert body["id"] not in key


def test_keys_are_told_apart_without_being_shown(closed: TestClient) -> None:
    ids = {closed.get("/who", headers=bearer(key)).json()["id"] for key in (KEY, NEXT_KEY)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer {KEY.lower()}",
     f"Bearer {KEY},{NEXT_KEY}", f"Bearer {KEY} {KEY}", "Bearer \xff", "Bearer " + "x" * 8000],
    ids=lambda header: header[:40].encode("unicode_escape").decode(),
)  # fmt: skip
def test_what_is_no_key_is_refused_and_not_repeated(
    closed: TestClient, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    answer = closed.get("/who", headers={b"Authorization": header.encode("latin-1")})
    check_refused(answer)
    assert KEY[:8] not in answer.text
    assert "GET /who" in caplog.text
    assert KEY[:8] not in caplog.text


@pytest.mark.parametrize("header", [f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_scheme_is_read_as_rfc_9110_says(closed: TestClient, header: str) -> None:
    assert closed.get("/who", headers={"Authorization": header}).status_code == 200


def test_without_api_key_everyone_is_anonymous_and_a_key_does_no_harm(open_to_all: TestClient) -> None:
    for headers in ({}, bearer("your-api-key")):
        assert open_to_all.get("/who", headers=headers).json() == {"kind": "anonymous", "id": ""}


def paths_of(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of included routers and mounts too; parameters are filled with `x`."""
    for route in routes:
        if isinstance(route, Route):
            for method in route.methods or {"GET"}:
                yield method, prefix + route.path.replace("{", "").replace("}", "")
        elif isinstance(route, Mount):
            yield "GET", f"{prefix}{route.path}/x"
        else:
            included = route.original_router  # type: ignore[attr-defined]
            yield from paths_of(included.routes, prefix + route.include_context.prefix)  # type: ignore[attr-defined]


def test_every_route_is_closed_unless_it_is_on_the_open_list(closed: TestClient) -> None:
    app: Any = closed.app
    routes = set(paths_of(app.routes))
    described = {path.replace("{", "").replace("}", "") for path in app.openapi()["paths"]}
    assert described <= {path for _, path in routes}
    assert len([path for _, path in routes if not is_open(path)]) > 10
    for method, path in routes:
        status = closed.request(method, path).status_code
        assert (status == 401) == (not is_open(path)), (method, path, status)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/Health", "/health/x", "/healthy", "/docs/", "/docs/x", "/api/v1/healthx", "/%00",
     "/api/v1/auth", "/static-offline-docs", "/api/v1//extract-embedding", "/health%2f..%2fmodels"],
)  # fmt: skip
def test_what_only_looks_open_is_closed(closed: TestClient, path: str) -> None:
    assert closed.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/health/live"])
def test_what_shows_no_picture_is_open(closed: TestClient, path: str) -> None:
    assert path in OPEN_PATHS
    assert closed.get(path).status_code == 200


def test_a_browser_may_ask_before_it_sends_the_key(closed: TestClient) -> None:
    preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "authorization, content-type"}  # fmt: skip
    answer = closed.options("/detect-face", headers=preflight)
    assert answer.status_code == 200
    assert "authorization" in answer.headers["access-control-allow-headers"]
    refused = closed.get("/models", headers={"Origin": "https://shop.example"})
    check_refused(refused)
    assert refused.headers["access-control-allow-origin"] == "https://shop.example"


def test_the_body_of_a_stranger_is_not_read(closed: TestClient) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/detect-face", "raw_path": b"/detect-face", "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"52428800")],
    }  # fmt: skip
    anyio.run(closed.app, scope, receive, send)
    assert sent[0]["status"] == 401


def test_swagger_ui_offers_a_field_for_the_key(closed: TestClient) -> None:
    document = closed.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (not is_open(path)), path
            assert "401" in operation["responses"] or is_open(path), path  # a login answers 401 for reasons of its own


@pytest.mark.parametrize(
    "keys",
    ["tiny", "your-api-key", "your-secure-api-key-of-32-characters", "change-me-change-me-change-me", "a" * 40,
     "abcabcabcabcabcabcabcabc", f"{KEY},tiny", "with a space in the middle", "schlüssel-zu-allem-hier", f"{KEY}\x7f"],
)  # fmt: skip
def test_keys_that_protect_nothing_stop_the_start_without_being_shown(tmp_path: Path, keys: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings_in(tmp_path, api_key=keys)
    (fault,) = refused.value.errors(include_input=False)
    assert "openssl rand -base64 32" in fault["msg"]
    assert not any(key in fault["msg"] for key in keys.split(","))


def test_settings_do_not_show_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", f" {KEY} ,{NEXT_KEY},")
    settings = Settings(_env_file=None)
    assert [key.get_secret_value() for key in settings.api_key] == [KEY, NEXT_KEY]
    assert KEY not in f"{settings!r} {settings.model_dump_json()}"


def test_the_state_without_key_is_said_when_the_service_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(create_app(settings_in(tmp_path))):
        assert "no authentication" in capsys.readouterr().err
    with TestClient(create_app(settings_in(tmp_path, api_key=KEY))):
        said = capsys.readouterr().err
    assert "landmarks" in said
    assert "no authentication" not in said
    assert KEY not in said
