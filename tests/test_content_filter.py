"""What is kept back: a real ONNX model that calls red pictures unsafe, alone and over HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from content_filter import ContentFilter, load_content_filter
from main import create_app
from service.errors import ModelUnavailableError
from tests.conftest import settings_in
from utils import RGBImage


def write_filter(folder: Path, *, outputs: int = 2, gain: float = 8.0) -> Path:
    """The real model's signature; unsafe is `gain` times the mean red in -1..1, safe is its opposite."""
    signs = np.linspace(-gain, gain, outputs, dtype=np.float32)[None]
    nodes = [
        helper.make_node("Slice", ["pixel_values", "first", "second", "axis"], ["red"]),
        helper.make_node("GlobalAveragePool", ["red"], ["mean"]),
        helper.make_node("Reshape", ["mean", "one"], ["single"]),
        helper.make_node("MatMul", ["single", "signs"], ["logits"]),
    ]
    constants = {"first": [0], "second": [1], "axis": [1], "one": [1, 1]}
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 384, 384])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, outputs])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
        + [numpy_helper.from_array(signs, "signs")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "filter.onnx")
    return folder / "filter.onnx"


def plain(red: int) -> RGBImage:
    return np.full((40, 60, 3), (red, 90, 90), np.uint8)


def test_the_probability_is_the_softmax_of_the_second_score(tmp_path: Path) -> None:
    model = ContentFilter(write_filter(tmp_path, gain=1.0))
    value = 255 / 127.5 - 1
    assert model.unsafe_probability(plain(255)) == pytest.approx(np.exp(value) / (np.exp(value) + np.exp(-value)))
    assert model.unsafe_probability(plain(0)) < 0.2


def test_a_filter_that_is_missing_or_something_else_is_a_model_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="models pull content_filter"):
        load_content_filter(tmp_path)
    with pytest.raises(ModelUnavailableError, match="3 scores instead of 2"):
        ContentFilter(write_filter(tmp_path, outputs=3))
    (tmp_path / "filter.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelUnavailableError, match="can't be run"):
        ContentFilter(tmp_path / "filter.onnx")


@pytest.fixture
def filtered(tmp_path: Path, sdxl: Path) -> Iterator[TestClient]:
    settings = settings_in(tmp_path, model_path=str(sdxl), image_sizes="64x64", generation_steps=2, content_filter=True)
    with TestClient(create_app(settings)) as client:
        yield client


BODY = {"prompt": "a fox", "n": 4, "seed": 1, "response_format": "b64_json"}
URL = "/v1/images/generations"


def test_what_is_blocked_is_not_shown_and_where_all_is_the_request_fails(filtered: TestClient, tmp_path: Path) -> None:
    missing = filtered.post(URL, json=BODY)
    assert (missing.status_code, missing.json()["code"]) == (503, "MODEL_UNAVAILABLE")
    model = ContentFilter(write_filter(tmp_path / "models" / "content_filter", gain=1.0))
    images = filtered.app.state.service.images  # type: ignore[attr-defined]

    def answer(threshold: float) -> Any:
        images.settings = images.settings.model_copy(update={"content_filter_threshold": threshold})
        return filtered.post(URL, json=BODY)

    shown = [pixels(entry) for entry in answer(1.0).json()["data"]]
    probabilities = [model.unsafe_probability(image) for image in shown]
    assert len(probabilities) == 4
    worst = max(probabilities)
    body = answer(worst).json()
    assert body["blocked"] == 1
    assert [entry["seed"] for entry in body["data"]] == [
        1 + index for index, probability in enumerate(probabilities) if probability < worst
    ]
    partial = filtered.post(URL, json={**BODY, "stream": True, "partial_images": 1})
    assert (partial.status_code, partial.json()["code"]) == (422, "INVALID_VALUE")
    none = answer(min(probabilities))
    assert (none.status_code, none.json()["code"]) == (422, "CONTENT_BLOCKED")


def pixels(entry: dict[str, Any]) -> RGBImage:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["b64_json"]))).convert("RGB"))
