"""The tiny models of `tests/diffusion_folders.py`, made once for all tests and only where one asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is: on tensors this small threads only wait for others


@pytest.fixture(scope="session")
def diffusion_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds them all."""
    return tmp_path_factory.mktemp("diffusion")


@pytest.fixture(scope="session")
def sdxl(diffusion_models: Path) -> Path:
    """A diffusers folder."""
    from tests.diffusion_folders import make_sdxl

    return make_sdxl(diffusion_models / "sdxl")


@pytest.fixture(scope="session")
def ip_adapter(diffusion_models: Path, sdxl: Path) -> Path:
    """An IP-Adapter for `sdxl`: `sdxl_models/ip-adapter.safetensors` and `models/image_encoder`."""
    from tests.diffusion_folders import make_ip_adapter

    return make_ip_adapter(diffusion_models / "ip-adapter", sdxl)


@pytest.fixture(scope="session")
def loras(diffusion_models: Path, sdxl: Path) -> Path:
    """A folder with three LoRAs for `sdxl`: ink and paint of its UNet, text of its text encoder too."""
    from tests.diffusion_folders import make_lora

    folder = diffusion_models / "loras"
    folder.mkdir()
    make_lora(folder / "ink.safetensors", sdxl, seed=1)
    make_lora(folder / "paint.safetensors", sdxl, seed=2, rank=8)
    make_lora(folder / "text.safetensors", sdxl, seed=3, text_encoder=True)
    return folder


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Models this small are faster in one thread, above all beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
