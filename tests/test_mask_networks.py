"""Small real ONNX networks in the place of rembg's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper

from main import create_app
from mask_networks import GARMENT_PROFILE, PERSON_PROFILE, MaskNetwork, load_mask_network
from service.errors import ModelUnavailableError
from service.model_store import load_manifest
from tests.conftest import settings_in

SIDES = {PERSON_PROFILE: 320, GARMENT_PROFILE: 1024}


def write_network(file: Path, side: int, *, channels: int = 1) -> Path:
    """The mask is the red channel, as it comes in."""
    weight = np.zeros((channels, 3, 1, 1), np.float32)
    weight[:, 0] = 1
    shape = [1, channels, side, side]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["mask"])],
        "red",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


@pytest.mark.parametrize("profile", SIDES)
def test_the_mask_is_the_networks_in_the_pictures_size(profile: str, tmp_path: Path) -> None:
    write_network(tmp_path / profile / "a.onnx", SIDES[profile])
    network = load_mask_network(profile, tmp_path, threads=1)
    assert network is not None
    picture = np.zeros((300, 200, 3), np.uint8)
    picture[100:200, 50:150, 0] = 200
    mask = network(picture)
    assert mask.shape == (300, 200)
    assert mask[110:190, 60:140].min() > 0.99
    assert mask[:90].max() < 0.01


def test_a_picture_of_nothing_has_no_mask(tmp_path: Path) -> None:
    network = MaskNetwork(write_network(tmp_path / "a.onnx", 320), PERSON_PROFILE, threads=1)
    assert network(np.full((300, 200, 3), 120, np.uint8)).max() < 0.5


def test_without_weights_there_is_none(tmp_path: Path) -> None:
    assert load_mask_network(PERSON_PROFILE, tmp_path, threads=1) is None


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="instead of one mask"):
        MaskNetwork(write_network(tmp_path / "a.onnx", 320, channels=2), PERSON_PROFILE, threads=1)
    (tmp_path / "b.onnx").write_bytes(b"half a download")
    with pytest.raises(ModelUnavailableError, match="models pull u2net_human_seg"):
        MaskNetwork(tmp_path / "b.onnx", PERSON_PROFILE, threads=1)


def test_both_are_known_to_the_model_store() -> None:
    manifest = load_manifest()
    assert {PERSON_PROFILE, GARMENT_PROFILE} <= set(manifest)


@pytest.mark.parametrize("installed", [True, False])
def test_the_service_uses_them_where_they_are(installed: bool, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    if installed:
        for profile, side in SIDES.items():
            write_network(settings.models_dir / profile / "a.onnx", side)
    with TestClient(create_app(settings)) as client:
        engines = client.app.state.service.tryon_engines  # type: ignore[attr-defined]
    assert (engines.fine_person_mask is not None) is installed
    assert (engines.garment_mask is not None) is installed
