"""SDXL, its ControlNet and InstantID's adapter with random weights: at their true shapes, or tiny ones.

How long a picture takes does not depend on what the weights are, so that nothing has to be downloaded. Shapes are those
of the published configurations.
"""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

FACE_DIMENSION, TOKENS, TEXT_TOKENS = 512, 16, 77


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes of all networks, and of the picture's side in pixels."""

    side: int
    unet_channels: tuple[int, ...]
    transformer_layers: tuple[int, ...]
    heads: tuple[int, ...]
    time_width: int
    vae_channels: tuple[int, ...]
    layers: int
    groups: int
    text: tuple[dict[str, int], dict[str, int]]
    control_channels: tuple[int, ...]
    resampler_width: int

    @property
    def text_width(self) -> int:
        """Of both text encoders beside each other: what the UNet looks at."""
        return self.text[0]["hidden_size"] + self.text[1]["hidden_size"]


TRUE = Shapes(
    side=1024,
    unet_channels=(320, 640, 1280),
    transformer_layers=(1, 2, 10),
    heads=(5, 10, 20),
    time_width=256,
    vae_channels=(128, 256, 512, 512),
    layers=2,
    groups=32,
    text=(
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
    ),
    control_channels=(16, 32, 96, 256),
    resampler_width=1280,
)
TINY = Shapes(
    side=64,
    unet_channels=(16, 32, 32),
    transformer_layers=(1, 1, 2),
    heads=(2, 4, 4),
    time_width=8,
    vae_channels=(8, 8, 8, 8),
    layers=1,
    groups=4,
    text=({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},) * 2,
    control_channels=(8, 8, 8, 8),
    resampler_width=64,
)


def text_to_image(shapes: Shapes, device: str, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """diffusers' own pipeline for pictures from text."""
    with _made_on(device, dtype):
        parts = _parts(shapes)
    return _quiet(StableDiffusionXLPipeline(**parts))


def instantid(
    shapes: Shapes, device: str, dtype: torch.dtype, *, net: type[ControlNetModel] = ControlNetModel
) -> StableDiffusionXLControlNetInpaintPipeline:
    """diffusers' pipeline for inpainting with a ControlNet, and InstantID's adapter in it; `net` is its class."""
    with _made_on(device, dtype):
        parts = _parts(shapes)
        controlnet = net.from_unet(parts["unet"], conditioning_embedding_out_channels=shapes.control_channels).eval()
        adapter = {"image_proj": _resampler(shapes), "ip_adapter": _attention(parts["unet"], shapes)}
    pipeline = _quiet(StableDiffusionXLControlNetInpaintPipeline(controlnet=controlnet.to(dtype), **parts))
    pipeline.load_ip_adapter(adapter, subfolder="", weight_name="", image_encoder_folder=None)
    return pipeline


def teraflops(shapes: Shapes) -> dict[str, float]:
    """10^12 floating-point operations of one sample in each network, counted without computing anything."""
    latent = shapes.side // 8
    with torch.device("meta"):
        unet, vae = _unet(shapes), _vae(shapes)
        controlnet = ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=shapes.control_channels, load_weights_from_unet=False
        )
        sample, text = torch.zeros(1, 4, latent, latent), torch.zeros(1, TEXT_TOKENS, shapes.text_width)
        pixels = torch.zeros(1, 3, shapes.side, shapes.side)
        added = {
            "text_embeds": torch.zeros(1, shapes.text[1]["hidden_size"]),
            "time_ids": torch.zeros(1, 6),
        }
        time, tokens = torch.zeros(()), torch.zeros(1, TOKENS, shapes.text_width)
    with torch.no_grad():
        return {
            "unet": _counted(lambda: unet(sample, time, text, added_cond_kwargs=added)),
            "controlnet": _counted(lambda: controlnet(sample, time, tokens, pixels, added_cond_kwargs=added)),
            "vae_decode": _counted(lambda: vae.decode(sample)),
            "vae_encode": _counted(lambda: vae.encode(pixels)),
        }


def _counted(call: Any) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e12


@contextmanager
def _made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Networks are made where they will run, in the precision that they will have: a CPU would take minutes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def _parts(shapes: Shapes) -> dict[str, Any]:
    torch.manual_seed(0)
    first, second = (
        CLIPTextConfig(**sizes, projection_dim=sizes["hidden_size"], max_position_embeddings=TEXT_TOKENS)
        for sizes in shapes.text
    )
    return {
        "unet": _unet(shapes).eval(),
        "vae": _vae(shapes).eval(),
        "text_encoder": CLIPTextModel(first).eval(),
        "text_encoder_2": CLIPTextModelWithProjection(second).eval(),
        "tokenizer": _tokenizer(),
        "tokenizer_2": _tokenizer(),
        "scheduler": EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading",
            steps_offset=1,
        ),
    }  # fmt: skip


def _unet(shapes: Shapes) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=shapes.side // 8,
        block_out_channels=shapes.unet_channels,
        layers_per_block=shapes.layers,
        norm_num_groups=shapes.groups,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=shapes.transformer_layers,
        attention_head_dim=shapes.heads,
        cross_attention_dim=shapes.text_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=shapes.time_width,
        projection_class_embeddings_input_dim=6 * shapes.time_width + shapes.text[1]["hidden_size"],
        use_linear_projection=True,
    )


def _vae(shapes: Shapes) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=shapes.vae_channels,
        layers_per_block=shapes.layers,
        norm_num_groups=shapes.groups,
        down_block_types=("DownEncoderBlock2D",) * len(shapes.vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(shapes.vae_channels),
        latent_channels=4,
        sample_size=shapes.side,
        scaling_factor=0.13025,
        force_upcast=False,  # as in the VAE that was mended for half precision
    )


def _resampler(shapes: Shapes) -> dict[str, torch.Tensor]:
    width, out = shapes.resampler_width, shapes.text_width
    weights = {
        "latents": torch.randn(1, TOKENS, width),
        "proj_in.weight": torch.randn(width, FACE_DIMENSION), "proj_in.bias": torch.zeros(width),
        "proj_out.weight": torch.randn(out, width), "proj_out.bias": torch.zeros(out),
        "norm_out.weight": torch.ones(out), "norm_out.bias": torch.zeros(out),
    }  # fmt: skip
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights[f"layers.{layer}.{norm}.weight"] = torch.ones(width)
            weights[f"layers.{layer}.{norm}.bias"] = torch.zeros(width)
        for name, rows, columns in (
            ("0.to_q", width, width), ("0.to_kv", 2 * width, width), ("0.to_out", width, width),
            ("1.1", 4 * width, width), ("1.3", width, 4 * width),
        ):  # fmt: skip
            weights[f"layers.{layer}.{name}.weight"] = torch.randn(rows, columns) / columns**0.5
    return weights


def _attention(unet: UNet2DConditionModel, shapes: Shapes) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for index, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("to_k_ip", "to_v_ip"):
                weights[f"{index}.{part}.weight"] = torch.randn(width, shapes.text_width) / shapes.text_width**0.5
    return weights


def _tokenizer() -> CLIPTokenizer:
    """Letter by letter, in CLIP's format: as many tokens come out as with its words, since prompts are padded."""
    letters = string.ascii_letters + string.punctuation
    words = ["<|startoftext|>", "!pad", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    with tempfile.TemporaryDirectory() as name:
        vocabulary, merges = Path(name) / "vocab.json", Path(name) / "merges.txt"
        vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
        merges.write_text("#version: 0.2\n", encoding="utf-8")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=TEXT_TOKENS)


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
