"""One envelope for every failure, and the headers of every answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from main import create_app
from service.errors import BusyError
from tests.conftest import settings_in

ORIGIN = "https://shop.example"


def app_with_faults(folder: Path) -> FastAPI:
    """The application with routes that fail in ways no client can cause."""
    app = create_app(settings_in(folder, cors_origins=ORIGIN))

    @app.get("/busy")
    async def busy() -> None:
        raise BusyError("Full.", retry_after_s=7)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret path /srv/key")

    @app.get("/disk")
    async def disk() -> None:
        raise OSError(28, "No space left on device")

    return app


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    # Without a lifespan: no engine is needed to fail.
    return TestClient(app_with_faults(tmp_path_factory.mktemp("faults")))


def check_envelope(answer: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert isinstance(body["detail"], str)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_router_failures_have_the_envelope(client: TestClient) -> None:
    assert set(check_envelope(client.get("/nothing"), 404, "NOT_FOUND")) == {"detail", "code", "request_id"}
    answer = client.put("/health/live")
    check_envelope(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["allow"]


def test_an_expected_failure_says_when_to_come_back(client: TestClient) -> None:
    answer = client.get("/busy")
    check_envelope(answer, 503, "BUSY")
    assert answer.headers["retry-after"] == "7"


def test_an_unexpected_failure_is_logged_and_tells_nothing(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/broken")
    check_envelope(answer, 500, "INTERNAL_ERROR")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)


def test_a_disk_that_is_full_anywhere_is_said(client: TestClient) -> None:
    check_envelope(client.get("/disk"), 507, "STORAGE_FULL")


def test_engines_that_are_not_loaded_yet_are_said_in_the_seeds_words(client: TestClient) -> None:
    body = check_envelope(client.get("/health/ready"), 503, "MODEL_UNAVAILABLE")
    assert body["detail"] == "Face detector not initialized"


def test_validation_names_the_field_and_echoes_nothing(app_client: TestClient) -> None:
    answer = app_client.put(f"/templates/{uuid4()}/slots", json={"slots": [[1, 2, "secret", 4]]})
    body = check_envelope(answer, 422, "VALIDATION_ERROR")
    assert "secret" not in answer.text
    assert body["errors"][0]["loc"][:3] == ["body", "slots", 0]
    assert set(body["errors"][0]) == {"loc", "msg", "type"}


def test_the_request_id_of_the_client_comes_back(client: TestClient) -> None:
    request_id = str(uuid4())
    assert client.get("/", headers={"X-Request-ID": request_id}).headers["x-request-id"] == request_id


def test_a_request_id_that_is_no_uuid_is_replaced(client: TestClient) -> None:
    answer = client.get("/", headers={"X-Request-ID": "<script>"})
    assert UUID(answer.headers["x-request-id"])


def test_every_answer_has_security_headers_and_timing(client: TestClient) -> None:
    headers = client.get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"
    assert headers["server-timing"].startswith("total;dur=")


def test_only_configured_origins_are_let_in(client: TestClient) -> None:
    assert client.get("/", headers={"Origin": ORIGIN}).headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "https://other.example"}).headers


def test_the_documentation_works_without_a_network(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    for part in page.text.split('"'):
        if part.startswith("/static-offline-docs"):
            assert client.get(part).status_code == 200
    assert "script-src 'self' 'unsafe-inline'" in page.headers["content-security-policy"]
    assert client.get("/openapi.json").json()["info"]["title"] == "Illustration Personalizer"
