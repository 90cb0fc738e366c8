"""Where the models of image generation are looked for, and what is said where they are not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from service.errors import ModelUnavailableError
from service.hub_models import PULL, HubModels, find_folder
from service.model_store import ModelStore
from service.models_command import run
from tests.conftest import settings_in

HUB_ID = "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache, with nothing in it."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def fetched(cache: Path, sdxl: Path, model: str = HUB_ID) -> Path:
    """As huggingface_hub lays a model out."""
    repository = cache / f"models--{model.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "abc123").symlink_to(sdxl)
    return repository / "snapshots" / "abc123"


def test_an_id_is_found_in_the_cache_and_a_folder_by_its_path(tmp_path: Path, cache: Path, sdxl: Path) -> None:
    models = HubModels(settings_in(tmp_path))
    assert models.missing() == f"The model {HUB_ID} (MODEL_PATH) isn't installed. Get it with `{PULL}`."
    with pytest.raises(ModelUnavailableError):
        models.files()
    folder = fetched(cache, sdxl)
    assert models.missing() is None
    assert models.files().folder == folder
    assert HubModels(settings_in(tmp_path, model_path=str(sdxl))).files().folder == sdxl
    status = models.status()[0]
    assert (status.name, status.installed, status.how_to_get, status.commercial_use) == (HUB_ID, True, None, "yes")


def test_the_cache_is_looked_for_where_the_hubs_library_looks(cache: Path, sdxl: Path) -> None:
    folder = fetched(cache, sdxl)
    code = f"from huggingface_hub import try_to_load_from_cache as look; print(look({HUB_ID!r}, 'model_index.json'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert Path(told).parent == folder == find_folder(HUB_ID, "model_index.json")


def test_a_model_has_one_name(tmp_path: Path, cache: Path, sdxl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(sdxl)
    fetched(cache, sdxl)
    monkeypatch.chdir(tmp_path)
    for path, name in {HUB_ID: HUB_ID, "models/tiny": "tiny", "./models/tiny/": "tiny"}.items():
        models = HubModels(settings_in(tmp_path, model_path=path))
        assert (models.model_name, models.status()[0].name) == (name, name)
    assert HubModels(settings_in(tmp_path, model_file="a/b.safetensors")).model_name == "b"


def test_each_missing_part_is_named(tmp_path: Path, cache: Path, sdxl: Path) -> None:  # noqa: ARG001
    def missing(**changes: object) -> str | None:
        return HubModels(settings_in(tmp_path, **changes)).missing()

    assert "MODEL_PATH names no folder" in str(missing(model_path="/nowhere"))
    assert "MODEL_FILE" in str(missing(model_path=str(sdxl), model_file="/nowhere.safetensors"))
    adapter = missing(model_path=str(sdxl), enable_ip_adapter=True)
    assert adapter is not None
    assert "h94/IP-Adapter (IP_ADAPTER_PATH)" in adapter


@pytest.mark.parametrize("lost", ["unet", "unet/diffusion_pytorch_model.safetensors", "models/image_encoder"])
def test_what_an_interrupted_fetch_left_is_not_installed(
    tmp_path: Path, sdxl: Path, ip_adapter: Path, lost: str
) -> None:
    for whole in (sdxl, ip_adapter):
        shutil.copytree(whole, tmp_path / "model", dirs_exist_ok=True)
    path = str(tmp_path / "model")
    settings = settings_in(
        tmp_path, model_path=path, enable_ip_adapter=True, ip_adapter_path=path,
        ip_adapter_weights="sdxl_models/ip-adapter.safetensors",
    )  # fmt: skip
    models = HubModels(settings)
    assert (models.missing(), [each.installed for each in models.status()[:2]]) == (None, [True, True])
    (tmp_path / "model" / lost).rename(tmp_path / "lost")
    assert models.missing() is not None
    assert [each.installed for each in models.status()[:2]] == [
        not lost.startswith("unet"),
        lost != "models/image_encoder",
    ]


def test_without_network_the_command_fails_with_a_sentence(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]  # noqa: ARG001
) -> None:  # fmt: skip
    settings = settings_in(tmp_path)
    store = ModelStore(settings.models_dir, hub=HubModels(settings))
    assert run(["pull", "generation"], store, default_model="buffalo_l", console=Console(width=200)) == 1
    assert f"{HUB_ID} can't be fetched" in capsys.readouterr().out
    for command in (["pull", "generation", "--from", str(tmp_path)], ["verify", "diffusion"]):
        assert run(command, store, default_model="buffalo_l", console=Console(width=200)) == 1
        told = capsys.readouterr().out
        assert "MODEL_PATH" in told or "no checksums" in told
