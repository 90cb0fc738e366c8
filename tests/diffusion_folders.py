"""Tiny diffusion models with random weights, in the formats that are published: the real loaders read them.

Channels are few, layers one or two; the VAE shrinks eight times, as SDXL's does. Each folder takes a second or less.
Random weights say little with their first numbers, so the attention to the prompt and to a picture is made louder:
every parameter has to show in eight bits.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

TEXT_DIM = 32
"""Of each text encoder; SDXL's UNet sees both beside each other."""
IMAGE_DIM = 32
"""Of the image encoder."""
FACE_DIM = 512
"""Of a face embedding."""
CONTROL_CHANNELS = (8, 8, 8, 8)
"""Halved three times, as the picture is on its way to latents."""


def make_sdxl(folder: Path, *, in_channels: int = 4) -> Path:
    """An SDXL text-to-image pipeline; `in_channels=9` is an inpainting UNet."""
    torch.manual_seed(0)
    pipeline = StableDiffusionXLPipeline(
        unet=_loud_unet(_unet(in_channels=in_channels, sdxl=True)),
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()).eval(),
        tokenizer=_tokenizer(folder),
        tokenizer_2=_tokenizer(folder),
        scheduler=_scheduler(),
    )
    pipeline.save_pretrained(folder)
    return folder


def make_sd(folder: Path) -> Path:
    """A Stable Diffusion 1.x pipeline: one text encoder, no sizes among its conditions."""
    torch.manual_seed(1)
    pipeline = StableDiffusionPipeline(
        unet=_loud_unet(_unet(in_channels=4, sdxl=False)),
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config()).eval(),
        tokenizer=_tokenizer(folder),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def make_flux(folder: Path) -> Path:
    """A Flux pipeline: a transformer instead of a UNet, a flow instead of a diffusion, T5 beside CLIP."""
    torch.manual_seed(6)
    letters = [(letter, -3.0) for letter in string.ascii_letters + string.digits + string.punctuation]
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters]
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=CLIPTextModel(_text_config()).eval(),
        tokenizer=_tokenizer(folder),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(words), d_model=TEXT_DIM, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
        ).eval(),
        tokenizer_2=T5Tokenizer(vocab=words, extra_ids=0),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_DIM,
            pooled_projection_dim=TEXT_DIM,
            axes_dims_rope=(4, 4, 8),
        ).eval(),
    )
    pipeline.save_pretrained(folder)
    return folder


def make_ip_adapter(folder: Path, sdxl: Path, *, tokens: int = 4) -> Path:
    """An IP-Adapter for `sdxl`, laid out as h94/IP-Adapter.

    Its files are `sdxl_models/ip-adapter.safetensors` and the folder `models/image_encoder`.
    """
    torch.manual_seed(2)
    unet = UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet")
    weights = {
        "image_proj.proj.weight": torch.randn(tokens * unet.config.cross_attention_dim, IMAGE_DIM),
        "image_proj.proj.bias": torch.zeros(tokens * unet.config.cross_attention_dim),
        "image_proj.norm.weight": torch.ones(unet.config.cross_attention_dim),
        "image_proj.norm.bias": torch.zeros(unet.config.cross_attention_dim),
        **{f"ip_adapter.{key}": value for key, value in _attention_to_pictures(unet).items()},
    }
    (folder / "sdxl_models").mkdir(parents=True)
    save_file(weights, folder / "sdxl_models" / "ip-adapter.safetensors")
    _image_encoder().save_pretrained(folder / "models" / "image_encoder")
    return folder


def make_face_adapter(folder: Path, sdxl: Path, *, tokens: int = 16, width: int = 64) -> Path:
    """InstantID's files for `sdxl`: `ip-adapter.bin`, a resampler of face embeddings, and `ControlNetModel/`."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet")
    folder.mkdir(parents=True, exist_ok=True)
    resampler = _resampler(tokens, width, unet.config.cross_attention_dim)
    torch.save({"image_proj": resampler, "ip_adapter": _attention_to_pictures(unet)}, folder / "ip-adapter.bin")
    make_controlnet(folder / "ControlNetModel", sdxl)
    return folder


def make_plus_face(folder: Path, sdxl: Path) -> Path:
    """IP-Adapter plus-face for `sdxl`, laid out as h94/IP-Adapter, with a resampler of a photo's patches."""
    torch.manual_seed(5)
    unet = UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet")
    resampler = _resampler(16, 64, unet.config.cross_attention_dim, inputs=IMAGE_DIM)
    parts = {"image_proj": resampler, "ip_adapter": _attention_to_pictures(unet)}
    weights = {f"{part}.{name}": weight for part, named in parts.items() for name, weight in named.items()}
    (folder / "sdxl_models").mkdir(parents=True)
    save_file(weights, folder / "sdxl_models" / "ip-adapter-plus-face_sdxl_vit-h.safetensors")
    _image_encoder().save_pretrained(folder / "models" / "image_encoder")
    return folder


def make_controlnet(folder: Path, sdxl: Path) -> Path:
    """A ControlNet for `sdxl` that has an effect: an untrained one adds zeros."""
    torch.manual_seed(4)
    unet = UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet")
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=CONTROL_CHANNELS)
    for block in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.3)
    torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.3)
    with torch.no_grad():
        for weight in controlnet.controlnet_cond_embedding.parameters():
            weight.mul_(4)
    controlnet.save_pretrained(folder)
    return folder


def make_lora(file: Path, sdxl: Path, *, seed: int, rank: int = 4, text_encoder: bool = False) -> Path:
    """A LoRA of `sdxl`'s UNet, and of its first text encoder where asked for, as diffusers writes it."""
    torch.manual_seed(seed)
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl, local_files_only=True)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    pipeline.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights=False, target_modules=targets))
    layers: dict[str, Any] = {"unet_lora_layers": get_peft_model_state_dict(pipeline.unet)}
    if text_encoder:
        text_targets = ["q_proj", "k_proj", "v_proj"]
        config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights=False, target_modules=text_targets)
        pipeline.text_encoder.add_adapter(config)
        layers["text_encoder_lora_layers"] = get_peft_model_state_dict(pipeline.text_encoder)
    StableDiffusionXLPipeline.save_lora_weights(file.parent, weight_name=file.name, **layers)
    return file


def _unet(*, in_channels: int, sdxl: bool) -> UNet2DConditionModel:
    conditions: dict[str, Any] = {}
    if sdxl:
        conditions = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + TEXT_DIM,
            "use_linear_projection": True,
            "transformer_layers_per_block": (1, 2),
        }
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        cross_attention_dim=2 * TEXT_DIM if sdxl else TEXT_DIM,
        **conditions,
    ).eval()


def _loud_unet(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_v" in name or "attn2.to_out.0.weight" in name:
                weight.mul_(8)
    return unet


def _vae(**options: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=64,
        **options,
    ).eval()


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=1000,
        hidden_size=TEXT_DIM,
        intermediate_size=37,
        projection_dim=TEXT_DIM,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Letter by letter: CLIP's format, without its words."""
    letters = string.ascii_letters + string.digits + string.punctuation
    words = ["<|startoftext|>", "!pad", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
    merges.write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)
    vocabulary.unlink()
    merges.unlink()
    return tokenizer


def _scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )


def _image_encoder() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=IMAGE_DIM,
            projection_dim=IMAGE_DIM,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
    ).eval()


def _attention_to_pictures(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """Keys and values for each attention to the prompt, by its odd number."""
    weights: dict[str, torch.Tensor] = {}
    for index, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            attention = unet.get_submodule(name.removesuffix(".processor"))
            shape = (attention.to_k.out_features, unet.config.cross_attention_dim)
            weights[f"{index}.to_k_ip.weight"] = torch.randn(shape)
            weights[f"{index}.to_v_ip.weight"] = torch.randn(shape)
    return weights


def _resampler(tokens: int, width: int, out: int, *, inputs: int = FACE_DIM) -> dict[str, torch.Tensor]:
    """IP-Adapter's resampler: `tokens` queries that look at a face embedding, or at a photo's patches, in four layers
    of one head of 64.
    """

    def linear(outputs: int, inputs: int) -> torch.Tensor:
        return torch.randn(outputs, inputs) / inputs**0.5

    weights = {
        "latents": torch.randn(1, tokens, width),
        "proj_in.weight": linear(width, inputs), "proj_in.bias": torch.zeros(width),
        "proj_out.weight": linear(out, width), "proj_out.bias": torch.zeros(out),
        "norm_out.weight": torch.ones(out), "norm_out.bias": torch.zeros(out),
    }  # fmt: skip
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights[f"layers.{layer}.{norm}.weight"] = torch.ones(width)
            weights[f"layers.{layer}.{norm}.bias"] = torch.zeros(width)
        weights[f"layers.{layer}.0.to_q.weight"] = linear(width, width)
        weights[f"layers.{layer}.0.to_kv.weight"] = linear(2 * width, width)
        weights[f"layers.{layer}.0.to_out.weight"] = linear(width, width)
        weights[f"layers.{layer}.1.1.weight"] = linear(4 * width, width)
        weights[f"layers.{layer}.1.3.weight"] = linear(width, 4 * width)
    return weights
