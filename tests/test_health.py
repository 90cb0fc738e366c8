"""What monitoring reads."""

from __future__ import annotations

from datetime import datetime

from fastapi.testclient import TestClient


def test_health_has_the_seeds_keys_and_says_what_runs(app_client: TestClient) -> None:
    body = app_client.get("/health").json()
    assert body["status"] == "healthy"
    assert datetime.fromisoformat(body["timestamp"])
    assert body["message"]
    assert body["version"]
    assert body["models"]["face_detector"] == {
        "state": "ready", "engine": "mediapipe", "provider": "XNNPACK CPU", "reason": None,
    }  # fmt: skip


def test_what_is_missing_names_the_command_that_gets_it(app_client: TestClient) -> None:
    recognizer = app_client.get("/health").json()["models"]["face_recognizer"]
    assert recognizer["state"] == "missing"
    assert "python main.py models pull buffalo_l" in recognizer["reason"]


def test_health_with_a_slash_is_the_same(app_client: TestClient) -> None:
    assert app_client.get("/health/", follow_redirects=False).json().keys() == app_client.get("/health").json().keys()


def test_orchestrators_get_liveness_and_readiness(app_client: TestClient) -> None:
    assert app_client.get("/health/live").json() == {"status": "alive"}
    assert app_client.get("/health/ready").json() == {"status": "ready"}


def test_the_root_points_to_the_documentation(app_client: TestClient) -> None:
    assert app_client.get("/").json()["docs"] == "/docs"
