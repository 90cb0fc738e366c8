"""What callers want of image generation, checked field by field; the same for requests and for jobs."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from config_generation import LORA_ID, SIZE
from diffusion_models import SchedulerName
from generation_batch import SEEDS
from service.image_io import ImageFormat
from service.storage import USER_ID_PATTERN

MAX_PROMPT = 4000
"""Letters. The text encoders read far fewer: CLIP's 77 tokens are some 60 words."""
READ = "SDXL reads its first 77 tokens, some 60 words."
MAX_IMAGES = 10
MAX_STEPS = 100
MAX_URL = 2**26
"""Letters of a URL that carries a picture; the body's own limit is lower or higher as it is set."""

Prompt: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, pattern=r"\S")]
Quality: TypeAlias = Literal["auto", "low", "medium", "high", "standard", "hd"]


class ImageWish(BaseModel):
    """What all endpoints of image generation take."""

    model_config = ConfigDict(extra="forbid")

    negative_prompt: str = Field(
        "", max_length=MAX_PROMPT, description="What is not to be seen. No effect at guidance_scale 1 and below."
    )
    style_prompt: str = Field(
        "", max_length=MAX_PROMPT, description="The style, put after the prompt.", examples=["soft watercolour, ink"]
    )
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(
        None, description="Steps of denoising. Default: GENERATION_STEPS, or PREVIEW_STEPS with quality=low."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)] | None = Field(
        None, description="How closely the prompt is followed. Default: GENERATION_GUIDANCE, or 1 with quality=low."
    )
    scheduler: SchedulerName | None = Field(None, description="Default: GENERATION_SCHEDULER.")
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] | None = Field(
        None, description="Of the first picture; each further one has the next. Default: a random one. It is echoed."
    )
    size: str = Field(
        "auto",
        max_length=9,
        description="One of IMAGE_SIZES, WIDTHxHEIGHT in pixels; auto is the first, or, for an edit, the one whose "
        "proportions are nearest to the picture's.",
        examples=["1024x1024"],
    )
    n: int = Field(1, ge=1, le=MAX_IMAGES, description="Pictures, made as one batch.")
    lora_id: str | None = Field(None, pattern=LORA_ID, description="A LoRA to draw with.", examples=["storybook-ink"])
    lora_scale: float = Field(1.0, ge=0, le=2, allow_inf_nan=False, description="Its weight; 1 is as it was trained.")
    ip_adapter_scale: float = Field(
        0.6,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much a picture counts beside the prompt; 0 is not at all.",
    )
    quality: Quality = Field(
        "auto", description="low is a preview: PREVIEW_LORA in PREVIEW_STEPS steps. All others are the product."
    )
    output_format: ImageFormat = Field("png", description="Only a PNG holds prompt and seed.")
    model: str | None = Field(
        None, max_length=200, description="OpenAI's field. There is one model, whatever this says; the answer names it."
    )
    user: str | None = Field(None, max_length=200, description="OpenAI's field; neither used nor kept.")
    moderation: Literal["auto", "low"] = Field(
        "auto", description="OpenAI's field. Whether pictures are filtered is the operator's choice: CONTENT_FILTER."
    )
    background: Literal["auto", "opaque"] = Field("auto", description="OpenAI's field: pictures are opaque.")
    response_format: Literal["url", "b64_json"] = Field(
        "url",
        description="A link to the stored picture, or the picture itself in base64. A user's are stored in both cases.",
    )
    stream: bool = Field(False, description="Answer with server-sent events as the picture comes into being.")
    partial_images: int = Field(
        0, ge=0, le=3, description="With `stream`: pictures on the way, as far as they have come. Each costs time."
    )

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: str) -> str:
        if size != "auto" and not SIZE.fullmatch(size):
            raise ValueError("give WIDTHxHEIGHT in pixels, such as 1024x1024, or auto")
        return size

    def with_seed(self, *, of: UUID | None = None) -> Self:
        """The same with a seed that is known; a job's own, so that what is made again comes out the same."""
        if self.seed is not None:
            return self
        return self.model_copy(update={"seed": secrets.randbelow(SEEDS) if of is None else of.int % SEEDS})


class GenerationWish(ImageWish):
    """Pictures from a prompt, and where one is given, a picture to look at."""

    prompt: Prompt = Field(description=f"What is to be seen. {READ}", examples=["a fox reading by lamplight"])
    reference_image_url: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_URL,
        description="A picture to look at (IP-Adapter): http, https, or `data:image/png;base64,...`.",
    )


class EditWish(GenerationWish):
    """A picture that is drawn anew, whole or inside a mask."""

    strength: float = Field(
        0.8, gt=0, le=1, allow_inf_nan=False, description="How much of the picture may change; 1 is everything."
    )


class _OfUser(ImageWish):
    user_id: str = Field(pattern=USER_ID_PATTERN, description="Whose picture is looked at.", examples=["user123"])


class MemoryWish(_OfUser):
    """A memory of a user, whose avatar is looked at."""

    prompt: Prompt = Field(description="The memory.", examples=["our first swim in the lake"])


class SubjectWish(_OfUser):
    """A portrait of a user, whose photo is looked at."""

    prompt: Prompt = Field(
        "a professional portrait illustration of the person, head and shoulders, calm background",
        description="Another kind of portrait.",
    )
