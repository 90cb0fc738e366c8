"""The settings of image generation: what `config.Settings` has beside the service's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from diffusion_models import Dtype, Offload, SchedulerName

LORA_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Of a LoRA: it becomes the name of a file."""
FOLDERS = r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)+$"
SIZE = re.compile(r"([1-9]\d{1,3})x([1-9]\d{1,3})")
MULTIPLE = 8
"""Pixels that a latent stands for in each direction."""
MAX_SIDE = 4096

SDXL_SIZES = (
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344), (1536, 640),
    (640, 1536), (1536, 1024), (1024, 1536), (768, 768), (512, 512),
)  # fmt: skip
"""What SDXL was trained on, the two oblong sizes of OpenAI's clients, and two small ones."""


class GenerationSettings(BaseSettings):
    """The settings of image generation."""

    model_path: str = Field(
        "stabilityai/stable-diffusion-xl-base-1.0",
        min_length=1,
        description="Image model: a Hugging Face id that was fetched, or a folder in diffusers' format.",
    )
    model_file: Path | None = Field(
        None, description="A single .safetensors checkpoint; MODEL_PATH then gives its configuration only."
    )
    enable_ip_adapter: bool = Field(
        False, description="Load an IP-Adapter, so that pictures can be prompted with pictures."
    )
    ip_adapter_path: str = Field("h94/IP-Adapter", min_length=1, description="IP-Adapter: a Hugging Face id or folder.")
    ip_adapter_weights: str = Field(
        "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
        pattern=r"^[\w./-]+\.(safetensors|bin)$",
        description="The adapter's file below IP_ADAPTER_PATH.",
    )
    ip_adapter_image_encoder: str = Field(
        "models/image_encoder", pattern=r"^[\w./-]+$", description="The image encoder's folder below IP_ADAPTER_PATH."
    )
    enable_lora: bool = Field(True, description="Let requests name a LoRA by `lora_id`.")
    lora_dir: Path = Field(Path("loras"), description="Folder of LoRAs: `{lora_id}.safetensors`.")
    s3_lora_prefix: str | None = Field(
        None,
        pattern=FOLDERS,
        description="LoRAs in the bucket: `{prefix}{lora_id}.safetensors`; LORA_DIR keeps copies.",
    )
    service_url: AnyHttpUrl | None = Field(
        None, description="Base of the links to generated pictures. Default: the address that the request came to."
    )
    image_sizes: Annotated[tuple[tuple[int, int], ...], NoDecode] = Field(
        SDXL_SIZES,
        description="Sizes to generate, WIDTHxHEIGHT in pixels, separated by commas; the first is the default.",
    )
    generation_steps: int = Field(30, ge=1, le=100, description="Steps of denoising where a request names none.")
    generation_guidance: float = Field(
        5.0, ge=0, le=30, allow_inf_nan=False, description="Guidance scale where a request names none."
    )
    generation_scheduler: SchedulerName = Field(
        "default", description="Scheduler where a request names none; default is the model's own."
    )
    generation_batch: int = Field(
        4, ge=1, le=32, description="Pictures that waiting requests are joined up to; one request's stay together."
    )
    generation_queue: int = Field(
        16, ge=1, le=1000, description="Requests that may wait for the image model; one more is answered 503 BUSY."
    )
    generation_dtype: Dtype = Field(
        "auto", description="Precision; auto is bf16 (or fp16) on a GPU and fp32 on the CPU."
    )
    generation_offload: Offload = Field(
        "none", description="model keeps networks in main memory until they run: less GPU memory, slower."
    )
    generation_compile: bool = Field(
        False, description="Compile the network's repeated blocks: a slow first picture of each size, then faster."
    )
    generation_preload: bool = Field(
        False, description="Load the image model when the service starts, instead of with the first request."
    )
    preview_lora: str | None = Field(
        None, pattern=LORA_ID, description="LoRA that makes pictures in few steps: what `quality=low` draws with."
    )
    preview_steps: int = Field(4, ge=1, le=20, description="Steps of a preview; as many as its LoRA was made for.")
    content_filter: bool = Field(
        False, description="Check each generated picture, and keep back what is not safe for work."
    )
    content_filter_threshold: float = Field(
        0.5, ge=0.01, le=0.99, allow_inf_nan=False, description="Probability from which a picture is kept back."
    )
    image_metadata: bool = Field(True, description="Write prompt, seed, model and versions into generated PNG files.")
    diffusion_identity: Literal["instantid", "ip-adapter"] = Field(
        "instantid",
        description="What shows engine=diffusion the child: instantid or ip-adapter; GET /models has licences.",
    )
    diffusion_path: str | None = Field(
        None,
        description="Its weights: a Hugging Face id or folder. Default: InstantX/InstantID, or h94/IP-Adapter.",
    )
    diffusion_face_model: str = Field(
        "antelopev2",
        min_length=1,
        description="Face pack whose embeddings InstantID reads: what it was trained with.",
    )
    diffusion_size: int = Field(
        1024,
        ge=64,
        le=2048,
        multiple_of=64,
        description="Side of the square that a head is drawn in, in pixels; SDXL was trained at 1024.",
    )
    diffusion_steps: int = Field(30, ge=1, le=100, description="Steps of denoising for each head.")
    diffusion_guidance: float = Field(
        5.0, ge=0, le=30, allow_inf_nan=False, description="How closely a head follows its prompt; 1 and below: not."
    )
    diffusion_candidates: int = Field(
        4, ge=1, le=16, description="Pictures of a head of which the one most like the child is kept."
    )

    @field_validator("image_sizes", mode="before")
    @classmethod
    def _parse_sizes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        matches = [SIZE.fullmatch(part.strip()) for part in value.lower().split(",") if part.strip()]
        if not matches or not all(matches):
            raise ValueError("give sizes such as 1024x1024,1216x832")
        return tuple((int(match[1]), int(match[2])) for match in matches if match)

    @field_validator("image_sizes")
    @classmethod
    def _check_sizes(cls, sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if not sizes or any(side % MULTIPLE or not MULTIPLE <= side <= MAX_SIDE for size in sizes for side in size):
            raise ValueError(f"width and height must be multiples of {MULTIPLE}, and at most {MAX_SIDE}")
        return sizes

    @model_validator(mode="after")
    def _check_loras(self) -> Self:
        if self.preview_lora and not self.enable_lora:
            raise ValueError("PREVIEW_LORA needs ENABLE_LORA=true")
        return self
