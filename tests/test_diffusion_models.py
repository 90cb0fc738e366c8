"""Loading pipelines from folders: devices, adapters, schedulers, and what is said of files that can't be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_models import IPAdapterFiles, PipelineFiles, PipelineOptions, load_pipeline, make_scheduler
from service.errors import ModelUnavailableError

CPU = PipelineOptions(device="cpu")


def test_importing_the_module_loads_neither_pytorch_nor_diffusers() -> None:
    code = "import sys, diffusion_models; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_becomes_the_text_to_image_pipeline_of_its_model_in_fp32_on_a_cpu(sdxl: Path) -> None:
    pipeline = load_pipeline(PipelineFiles(sdxl), CPU)
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline"
    assert {str(network.dtype) for network in (pipeline.unet, pipeline.vae)} == {"torch.float32"}
    assert str(pipeline.device) == "cpu"


def test_another_class_of_pipeline_can_be_asked_for(sdxl: Path) -> None:
    pipeline = load_pipeline(PipelineFiles(sdxl), CPU, pipeline_class="StableDiffusionXLInpaintPipeline")
    assert type(pipeline).__name__ == "StableDiffusionXLInpaintPipeline"


def test_half_precision_files_are_found_by_their_names(sdxl: Path, tmp_path: Path) -> None:
    whole = load_pipeline(PipelineFiles(sdxl), CPU)
    whole.save_pretrained(tmp_path / "half", variant="fp16")
    assert not (tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    half = load_pipeline(PipelineFiles(tmp_path / "half"), CPU)
    assert half.unet.conv_in.weight.equal(whole.unet.conv_in.weight)


def test_an_ip_adapter_is_loaded_with_its_image_encoder(sdxl: Path, ip_adapter: Path) -> None:
    adapter = IPAdapterFiles(ip_adapter, "sdxl_models/ip-adapter.safetensors", "models/image_encoder")
    pipeline = load_pipeline(PipelineFiles(sdxl, ip_adapter=adapter), CPU)
    assert pipeline.unet.config.encoder_hid_dim_type == "ip_image_proj"
    assert pipeline.image_encoder is not None


@pytest.mark.parametrize("damage", ["no weights", "cut weights", "no index"])
def test_files_that_cannot_be_used_are_a_model_unavailable(sdxl: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "sdxl"
    load_pipeline(PipelineFiles(sdxl), CPU).save_pretrained(folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        (folder / "model_index.json").unlink()
    with pytest.raises(ModelUnavailableError, match="Remove its folder and get it again"):
        load_pipeline(PipelineFiles(folder), CPU)


def test_cuda_without_a_gpu_is_refused(sdxl: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelUnavailableError, match="no CUDA GPU"):
        load_pipeline(PipelineFiles(sdxl), PipelineOptions(device="cuda"))


def test_compiled_blocks_wait_for_the_first_picture(sdxl: Path) -> None:
    pipeline = load_pipeline(PipelineFiles(sdxl), PipelineOptions(device="cpu", compile=True))
    blocks = [module for module in pipeline.unet.modules() if type(module).__name__ == "BasicTransformerBlock"]
    assert blocks
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_schedulers_keep_the_models_own_noise(sdxl: Path) -> None:
    own = load_pipeline(PipelineFiles(sdxl), CPU).scheduler
    for name in ("default", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_ancestral", "unipc", "ddim", "lcm"):
        scheduler = make_scheduler(own, name)
        assert scheduler.config.beta_start == own.config.beta_start
    assert make_scheduler(own, "few_step").config.timestep_spacing == "trailing"
    assert make_scheduler(own, "dpmpp_2m_karras").config.use_karras_sigmas


def test_a_scheduler_that_the_model_was_not_made_for_is_refused() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler"):
        make_scheduler(FlowMatchEulerDiscreteScheduler(), "ddim")


def test_a_single_checkpoint_is_the_folders_model(tmp_path: Path) -> None:
    from tests.diffusion_checkpoint import make_checkpoint, same_weights
    from tests.diffusion_folders import make_sd

    folder = make_sd(tmp_path / "sd")
    whole = load_pipeline(PipelineFiles(folder), CPU)
    checkpoint = make_checkpoint(tmp_path / "model.safetensors", folder)
    for weights in folder.glob("*/*.safetensors"):
        weights.unlink()
    single = load_pipeline(PipelineFiles(folder, checkpoint=checkpoint), CPU)
    assert type(single) is type(whole)
    for name in ("unet", "vae", "text_encoder"):
        assert same_weights(getattr(single, name), getattr(whole, name)), name


def test_a_checkpoint_that_cannot_be_read_is_a_model_unavailable(tmp_path: Path, sdxl: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelUnavailableError):
        load_pipeline(PipelineFiles(sdxl, checkpoint=tmp_path / "model.safetensors"), CPU)
