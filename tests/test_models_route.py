from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from main import create_app
from tests.conftest import settings_in
from tests.face_packs import write_pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    write_pack(folder / "models" / "built")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings_in(folder))) as client:
        yield client


def test_every_model_says_whether_it_is_installed_its_licence_and_how_to_get_it(client: TestClient) -> None:
    answer = client.get("/models")
    assert answer.status_code == 200
    models = {model["name"]: model for model in answer.json()["models"]}
    missing = models["buffalo_l"]
    assert missing["installed"] is False
    assert missing["how_to_get"] == "python main.py models pull buffalo_l"
    assert "non-commercial" in missing["licence"]
    assert missing["commercial_use"] == "no"
    assert {file["name"] for file in missing["files"]} >= {"det_10g.onnx", "w600k_r50.onnx"}
    assert (missing["dimension"], missing["threshold"]) == (512, 0.4)
    free = models["permissive"]
    assert free["commercial_use"] == "yes"
    assert free["licence"] == "YuNet: MIT; SFace: Apache-2.0"
    assert (free["dimension"], free["threshold"]) == (128, 0.363)
    assert "LFW" in free["threshold_source"]
    expression = models["facial_expression"]
    assert (expression["kind"], expression["bytes"]) == ("expression model", 4_791_892)
    assert expression["licence"].startswith("Apache-2.0")
    assert expression["how_to_get"] == "python main.py models pull facial_expression"
    own = models["built"]
    assert own["threshold"] is None
    assert "FACE_MATCH_THRESHOLD" in own["threshold_source"]
    assert own["installed"] is True
    assert own["how_to_get"] is None
    assert own["commercial_use"] == "unclear"
    embedded = models["face_detection_short_range"]
    assert embedded["installed"] is True
    assert embedded["licence"].startswith("Apache-2.0")


def test_no_path_of_the_machine_is_told(client: TestClient, folder: Path) -> None:
    assert str(folder) not in client.get("/models").text
