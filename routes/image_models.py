"""What the routes of image generation take beside a wish, and what they answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from routes.error_docs import documented
from routes.jobs import SUBMIT_ERRORS
from service.errors import (
    BadRequestError,
    BusyError,
    ContentBlockedError,
    ForbiddenError,
    ImageTooLargeError,
    ImageUnreadableError,
    InvalidBase64Error,
    InvalidValueError,
    ModelUnavailableError,
    NotFoundError,
    PayloadTooLargeError,
    StorageFullError,
    StorageUnavailableError,
    UnsupportedImageError,
    UrlNotAllowedError,
    UrlNotFetchedError,
)
from service.image_io import ImageFormat
from service.image_wishes import EditWish, GenerationWish, MemoryWish, SubjectWish

PICTURE_ERRORS = (
    BadRequestError, PayloadTooLargeError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError,
    InvalidBase64Error, UrlNotAllowedError, UrlNotFetchedError,
)  # fmt: skip
MADE_ERRORS = (
    InvalidValueError, NotFoundError, ContentBlockedError, BusyError, ModelUnavailableError,
    StorageFullError, StorageUnavailableError,
)  # fmt: skip
USER_ERRORS = (ForbiddenError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError)
EVENTS_EXAMPLE = """event: image_generation.in_progress
data: {"type": "image_generation.in_progress", "step": 1, "steps": 30, "progress": 0.0333}

event: image_generation.partial_image
data: {"type": "image_generation.partial_image", "b64_json": "iVBORw0KGgo...", "partial_image_index": 0, "index": 0}

event: image_generation.completed
data: {"type": "image_generation.completed", "b64_json": "iVBORw0KGgo...", "index": 0, "seed": 42}
"""


class ImageMade(BaseModel):
    """One picture. Keys that it has not are left out."""

    url: str | None = Field(None, description="Of the stored picture. A presigned one expires; a job has none.")
    b64_json: str | None = Field(None, description="The file in base64, with response_format=b64_json.")
    s3_uri: str | None = Field(None, examples=["s3://bucket/generated/user123/memory_0f9c.png"])
    seed: int = Field(description="With this seed and n=1 the same request makes this picture again.")
    revised_prompt: str = Field(description="The prompt that was drawn: with the style after it.")


class ImagesMade(BaseModel):
    """The pictures of a request."""

    created: int = Field(description="Seconds since the epoch.")
    data: list[ImageMade]
    model: str = Field(examples=["stabilityai/stable-diffusion-xl-base-1.0"])
    size: str = Field(examples=["1024x1024"])
    quality: Literal["low", "high"] = Field(description="low: a preview.")
    output_format: ImageFormat
    background: Literal["opaque"] = "opaque"
    blocked: int = Field(description="Pictures that the content filter kept back.")
    warnings: list[str] = Field(description="What the image model leaves out: of a prompt that is too long, its end.")


class EditForm(EditWish):
    """A picture that is drawn anew, whole or inside a mask."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    image: Annotated[list[UploadFile], Field(max_length=1)] = Field(
        [], description="The picture. It is scaled and cut around its middle to the size. What is transparent in it is "
        "drawn anew, and the rest kept; without transparency and mask all of it is drawn anew, as `strength` allows.",
    )  # fmt: skip
    images: Annotated[list[UploadFile], Field(max_length=1)] = Field(
        [], alias="image[]", description="Another name of `image`, which some of OpenAI's clients use."
    )
    mask: UploadFile | None = Field(
        None, description="A picture of the same size: what is transparent in it is drawn anew, the rest kept."
    )


class Submitted(BaseModel):
    """What a job takes beside the wish."""

    webhook_url: str | None = Field(
        None, max_length=2048, description="Told when the job has finished, by a signed POST; see the README."
    )


class GenerationJobWish(GenerationWish, Submitted):
    """Pictures from a prompt, as a job."""


class EditJobForm(EditForm, Submitted):
    """An edit as a job."""


class MemoryJobWish(MemoryWish, Submitted):
    """A memory of a user, as a job."""


class SubjectJobWish(SubjectWish, Submitted):
    """A portrait of a user, as a job."""


def made_responses(*errors: Any) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that makes pictures, and the ways in which it may fail."""
    events = {"text/event-stream": {"example": EVENTS_EXAMPLE}}
    return {200: {"model": ImagesMade, "content": events}, **documented(*errors, *MADE_ERRORS)}


def job_responses(*errors: Any) -> dict[int | str, dict[str, Any]]:
    """The ways in which a route may fail that hands in a job."""
    return documented(*errors, InvalidValueError, NotFoundError, ModelUnavailableError, *SUBMIT_ERRORS)
