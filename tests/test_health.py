"""What monitoring reads."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from main import create_app
from service.errors import ImageModelError
from tests.conftest import settings_in
from tests.fake_image_model import KEY, serving


def test_health_has_the_seeds_keys_and_says_what_runs(app_client: TestClient) -> None:
    body = app_client.get("/health").json()
    assert body["status"] == "healthy"
    assert datetime.fromisoformat(body["timestamp"])
    assert body["message"]
    assert body["version"]
    assert body["models"]["face_detector"] == {
        "state": "ready", "engine": "mediapipe", "provider": "XNNPACK CPU", "reason": None,
    }  # fmt: skip


def test_the_services_name_and_version_are_those_of_the_settings(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path, app_name="Our Pages", app_version="7.1"))) as client:
        index, health, schema = (client.get(path).json() for path in ("/", "/health", "/openapi.json"))
    assert (index["name"], index["version"]) == ("Our Pages", "7.1")
    assert (health["message"], health["version"]) == ("Our Pages is running", "7.1")
    assert (schema["info"]["title"], schema["info"]["version"]) == ("Our Pages", "7.1")


def test_what_is_missing_names_the_command_that_gets_it(app_client: TestClient) -> None:
    recognizer = app_client.get("/health").json()["models"]["face_recognizer"]
    assert recognizer["state"] == "missing"
    assert "python main.py models pull buffalo_l" in recognizer["reason"]


def test_the_image_model_says_how_to_set_it_up(app_client: TestClient) -> None:
    model = app_client.get("/health").json()["models"]["image_model"]
    assert (model["state"], model["engine"], model["provider"]) == ("missing", None, None)
    assert "NANO_BANANA_API_KEY" in model["reason"]


@pytest.mark.parametrize(
    ("changes", "state", "engine", "reason"),
    [
        ({}, "ready", "first-image", None),
        ({"allow_external_image_api": False}, "missing", None, "ALLOW_EXTERNAL_IMAGE_API=false"),
    ],
    ids=["allowed", "forbidden"],
)
def test_the_settings_reach_the_image_model_and_health_tells_to_whom_photos_go(
    tmp_path: Path, changes: dict[str, Any], state: str, engine: str | None, reason: str | None
) -> None:
    picture = np.full((512, 384, 3), 128, np.uint8)
    with serving() as server:
        settings = settings_in(
            tmp_path, nano_banana_api_key=KEY, nano_banana_api_url=server.url, nano_banana_models="gone,first-image",
            **changes,
        )  # fmt: skip
        app = create_app(settings)
        with TestClient(app) as client:
            with suppress(ImageModelError):
                client.portal.call(app.state.service.image_model.edit, "Edit it.", [picture])  # type: ignore[union-attr]
            model = client.get("/health").json()["models"]["image_model"]
        assert (model["state"], model["engine"]) == (state, engine)
        assert model["provider"] == (engine and "127.0.0.1")
        assert model["reason"] is None if reason is None else reason in model["reason"]
        assert [request.model for request in server.requests] == (["gone", "first-image"] if engine else [])


def test_health_with_a_slash_is_the_same(app_client: TestClient) -> None:
    assert app_client.get("/health/", follow_redirects=False).json().keys() == app_client.get("/health").json().keys()


def test_orchestrators_get_liveness_and_readiness(app_client: TestClient) -> None:
    assert app_client.get("/health/live").json() == {"status": "alive"}
    assert app_client.get("/health/ready").json() == {"status": "ready"}


def test_the_root_points_to_the_documentation(app_client: TestClient) -> None:
    assert app_client.get("/").json()["docs"] == "/docs"


def test_the_root_lists_what_there_is(app_client: TestClient) -> None:
    body = app_client.get("/").json()
    paths = app_client.get("/openapi.json").json()["paths"]
    for offer in body["endpoints"].values():
        method, path = offer.split(" ")
        assert method.lower() in paths[path]
    assert body["message"].startswith("Welcome")
