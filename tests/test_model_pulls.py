"""PUT /models/{name}: installed in the background, watched by whoever asks, and only what the manifest has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from main import create_app
from service.deps import get_models, get_pulls
from service.hub_models import HubModels
from service.model_pulls import ModelPulls, Pull
from service.model_store import Download, ModelStore, Profile
from tests.conftest import settings_in
from tests.servers import wait_for
from tests.test_model_store import Release, release  # noqa: F401 - a fixture

EVENTS = {"Accept": "text/event-stream"}
WEIGHTS = b"weights of a model " * 200_000
KEY = "the-service's-own-key"


@pytest.fixture
def store(release: Release, tmp_path: Path) -> ModelStore:  # noqa: F811 - the fixture
    """A manifest with two models, of which one is never there."""
    release.files["tiny.onnx"] = WEIGHTS

    def profile(name: str) -> Profile:
        file = f"{name}.onnx"
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        part = Download(file, (release.url(file),), sha256=digest, bytes=len(WEIGHTS))
        return Profile(name, "face pack", "for tests", (part,), "MIT", "yes", {file: digest})

    return ModelStore(tmp_path / "models", profiles={"tiny": profile("tiny"), "gone": profile("gone")})


def client_of(store: ModelStore, folder: Path, **settings: Any) -> TestClient:
    app = create_app(settings_in(folder, **settings))
    pulls = ModelPulls(store)
    app.dependency_overrides |= {get_models: lambda: store, get_pulls: lambda: pulls}
    return TestClient(app)


@pytest.fixture
def client(store: ModelStore, tmp_path: Path) -> Iterator[TestClient]:
    with client_of(store, tmp_path) as client:
        yield client


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def listed(client: TestClient, name: str) -> dict[str, Any]:
    models: list[dict[str, Any]] = client.get("/models").json()["models"]
    return next(model for model in models if model["name"] == name)


def test_a_model_is_installed_and_its_progress_told(client: TestClient, store: ModelStore) -> None:
    assert listed(client, "tiny")["pull_name"] == "tiny"
    answer = client.put("/models/tiny", headers=EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert events[-1] == {
        "name": "tiny", "state": "installed", "done": len(WEIGHTS), "total": len(WEIGHTS), "error": None,
    }  # fmt: skip
    folder = store.find("tiny")
    assert folder is not None
    assert (folder / "tiny.onnx").read_bytes() == WEIGHTS
    assert listed(client, "tiny")["pull"] == events[-1]


def test_without_events_it_is_begun_and_asked_for_later(client: TestClient) -> None:
    answer = client.put("/models/tiny")
    assert answer.status_code == 202
    wait_for(lambda: client.put("/models/tiny").json()["state"] == "installed")


def test_a_download_that_fails_says_why_and_can_be_tried_again(client: TestClient) -> None:
    for _ in range(2):
        last = events_of(client.put("/models/gone", headers=EVENTS).text)[-1]
        assert last["state"] == "failed"
        assert "the server answered 404" in last["error"]


@pytest.mark.parametrize(
    "name", ["nothing", "..", "%2e%2e", "tiny.onnx", "a" * 100, "face_detection_short_range.tflite"]
)
def test_only_models_of_the_manifest_are_fetched(client: TestClient, name: str, release: Release) -> None:  # noqa: F811
    assert client.put(f"/models/{name}").status_code in (404, 405)
    assert release.requests == []


def test_the_image_model_is_installed_under_its_own_name(store: ModelStore, tmp_path: Path) -> None:
    missing = HubModels(settings_in(tmp_path, model_path="somebody/a-model-that-was-never-fetched"))
    with client_of(ModelStore(store.models_dir, profiles=store.profiles, hub=missing), tmp_path) as client:
        assert listed(client, "somebody/a-model-that-was-never-fetched")["pull_name"] == "generation"
        assert listed(client, "InstantX/InstantID")["pull_name"] == "diffusion"
    there = HubModels(settings_in(tmp_path, model_path=str(tmp_path), diffusion_path=str(tmp_path)))
    with client_of(ModelStore(store.models_dir, profiles=store.profiles, hub=there), tmp_path) as client:
        for name in ("generation", "diffusion"):
            last = events_of(client.put(f"/models/{name}", headers=EVENTS).text)[-1]
            assert (last["name"], last["state"]) == (name, "failed")  # there is nothing in the folder
            assert "MODEL_PATH" in last["error"]


def test_no_more_than_two_are_installed_at_once(store: ModelStore, tmp_path: Path) -> None:
    pulls = ModelPulls(ModelStore(tmp_path / "m", profiles=dict.fromkeys("abc", store.profiles["tiny"])))
    pulls._pulls = {name: Pull(name) for name in "ab"}
    with client_of(store, tmp_path) as client:
        client.app.dependency_overrides[get_pulls] = lambda: pulls  # type: ignore[attr-defined]
        answer = client.put("/models/c")
    assert (answer.status_code, answer.json()["code"]) == (503, "BUSY")
    assert int(answer.headers["retry-after"]) > 0


def test_where_credentials_are_needed_only_the_services_own_key_installs(store: ModelStore, tmp_path: Path) -> None:
    user = {"username": "reader@example.com", "password": "correct horse battery"}
    with client_of(store, tmp_path, api_key=KEY, auth_registration="open") as client:
        assert client.put("/models/tiny").status_code == 401
        client.post("/api/v1/auth/register", json=user)
        token = client.post("/api/v1/auth/login", json=user).json()["access_token"]
        refused = client.put("/models/tiny", headers={"Authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        assert client.put("/models/tiny", headers={"Authorization": f"Bearer {KEY}"}).status_code == 202
        wait_for(lambda: store.find("tiny"))
