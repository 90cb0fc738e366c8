"""A Stable Diffusion 1.x pipeline as one checkpoint file, with the names that its first authors gave the layers."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def make_checkpoint(file: Path, folder: Path) -> Path:
    """The pipeline in `folder` as one .safetensors."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    layers = pipeline.unet.config.layers_per_block
    attended = [hasattr(block, "attentions") for block in pipeline.unet.up_blocks]
    weights = {
        f"model.diffusion_model.{_unet_name(name, layers, attended)}": value
        for name, value in pipeline.unet.state_dict().items()
    }
    blocks = len(pipeline.vae.config.block_out_channels)
    for name, value in pipeline.vae.state_dict().items():
        is_projection = "attentions" in name and "group_norm" not in name and value.ndim == 2
        weights[f"first_stage_model.{_vae_name(name, blocks)}"] = value[..., None, None] if is_projection else value
    for name, value in pipeline.text_encoder.state_dict().items():
        own = name.removeprefix("text_model.")
        weights[f"cond_stage_model.transformer.text_model.{own}"] = value
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, file)
    return file


def _unet_name(name: str, layers: int, attended: list[bool]) -> str:
    for end, own in UNET_ENDS.items():
        if name.startswith(f"{end}."):
            return own + name[len(end) :]
    block, _, rest = name.partition("s.") if name.startswith(("down", "up")) else name.partition(".")
    match = re.fullmatch(r"(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", rest)
    assert match, name
    level, kind, index, inner = int(match[1] or 0), match[2], int(match[3]), match[4]
    if kind == "resnets":
        inner = re.sub(r"^(\w+)", lambda part: RESNET[part[1]], inner)
    if block == "mid_block":
        return f"middle_block.{2 * index if kind == 'resnets' else 1}.{inner}"
    first = level * (layers + 1)
    if block == "down_block":
        if kind == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.op.{inner.removeprefix('conv.')}"
        return f"input_blocks.{1 + first + index}.{int(kind == 'attentions')}.{inner}"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.{1 + attended[level]}.{inner}"
    return f"output_blocks.{first + index}.{int(kind == 'attentions')}.{inner}"


def _vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda part: f"up.{blocks - 1 - int(part[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda part: f"up.{blocks - 1 - int(part[1])}.upsample.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda part: f"mid.block_{int(part[1]) + 1}.", name)
    if "mid_block.attentions.0." in name:
        prefix, _, rest = name.partition("mid_block.attentions.0.")
        own = next(key for key in VAE_ATTENTION if rest.startswith(key))
        return f"{prefix}mid.attn_1.{VAE_ATTENTION[own]}{rest[len(own) :]}"
    return name


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two networks are equal, weight for weight."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
