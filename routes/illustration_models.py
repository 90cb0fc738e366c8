"""What the illustration routes take and answer."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Form, Header
from pydantic import BaseModel, ConfigDict, Field

from personalizer import PersonalizeOptions
from service.illustrations import PageChoice, Result
from service.image_io import ImageFormat
from service.negotiation import preferred_image
from service.object_store import PresignedUrl
from service.slots import SlotSpecs, parse_box, parse_choice
from service.tables import Template
from utils import FloatArray

DEFAULTS = PersonalizeOptions()


def page_options(
    mode: Annotated[
        Literal["face", "head"],
        Form(description="face: the page's hair and hat stay. head: the child's hair comes, drawn hair and hats go."),
    ] = DEFAULTS.mode,
    style: Annotated[
        Literal["storybook", "watercolor", "pencil", "comic", "none"], Form(description="How the face is drawn.")
    ] = DEFAULTS.style,
    strength: Annotated[
        float,
        Form(ge=0, le=1, allow_inf_nan=False, description="0: the photo's surface; 1: drawn, by diffusion all anew."),
    ] = DEFAULTS.strength,
    likeness: Annotated[
        float, Form(ge=0, le=1, allow_inf_nan=False, description="0: the drawing's proportions; 1: the child's.")
    ] = DEFAULTS.likeness,
    slot: Annotated[
        str,
        Form(
            max_length=100_000,
            description="Which face of the page: an index (0 is the best), a box `[x1, y1, x2, y2]` in pixels, "
            "or 5, 468 or 478 points `[[x, y], ...]`.",
        ),
    ] = "0",
    blend: Annotated[
        Literal["gaussian", "multiband", "poisson"],
        Form(description="gaussian: a soft edge; multiband: softer for light than for lines; poisson: by gradients."),
    ] = DEFAULTS.blend,
    match_colors: Annotated[
        bool, Form(description="Draw the face in the page's light and palette; false keeps the photo's.")
    ] = DEFAULTS.match_colors,
    keep_skin_tone: Annotated[
        bool,
        Form(description="Recolour the drawn face, ears and neck where the child's skin is clearly darker or fairer."),
    ] = DEFAULTS.keep_skin_tone,
    engine: Annotated[
        Literal["auto", "classic", "diffusion"],
        Form(
            description="classic draws in milliseconds; diffusion (SDXL, slow without a GPU) draws the head anew; "
            "auto takes diffusion where there are a GPU and its models."
        ),
    ] = "auto",
    seed: Annotated[
        int, Form(ge=0, le=2**32 - 1, description="Chooses paper grain, hatching, and what diffusion draws.")
    ] = DEFAULTS.seed,
) -> PageChoice:
    """The fields that say how the child is drawn."""
    options = PersonalizeOptions(
        mode=mode, style=style, strength=strength, likeness=likeness, blend=blend,
        match_colors=match_colors, keep_skin_tone=keep_skin_tone, seed=seed,
    )  # fmt: skip
    return PageChoice(parse_choice(slot), options, engine=engine)


DrawingChoice = Annotated[PageChoice, Depends(page_options)]


def page_choice(
    choice: DrawingChoice,
    format: Annotated[  # noqa: A002 - the API's word
        ImageFormat | None, Form(description="png (lossless), jpeg or webp. Default: what Accept asks for, else png.")
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> PageChoice:
    """The fields that say how a page is personalised, and as what it comes back."""
    return replace(choice, format=format or preferred_image(accept) or "png")


def face_box(
    face_box: Annotated[
        str | None,
        Form(
            max_length=200,
            description="Which face of the photo: a box `[x1, y1, x2, y2]`. Default: the most prominent.",
        ),
    ] = None,
) -> FloatArray | None:
    """The face of the photo that is asked for."""
    return None if face_box is None else parse_box(face_box)


Choice = Annotated[PageChoice, Depends(page_choice)]
FaceBoxChoice = Annotated[Any, Depends(face_box)]


class Slot(BaseModel):
    """A face of a page. PUT /templates/{template_id}/slots takes what GET /templates/{template_id} shows."""

    model_config = ConfigDict(extra="allow")

    bbox: list[float] = Field(description="x1, y1, x2, y2 in pixels of the upright page.")
    kps: list[list[float]] = Field(description="Left eye, right eye, nose, left and right mouth corner, as seen.")
    score: float = Field(description="How sure it is that this is the face to replace, 0 to 1.")
    roll_deg: float
    yaw_deg: float


class UsedSlot(Slot):
    """The slot that was filled."""

    index: int


class DiffusionOut(BaseModel):
    """How a diffusion model drew a page."""

    identity: Literal["instantid", "ip-adapter"] = Field(description="What showed it the child.")
    prompt: str
    negative_prompt: str
    seed: int = Field(description="Of the picture that was kept: the one most like the child.")
    candidates: int = Field(description="Pictures that it was chosen from; 1 without a face recogniser.")
    similarity: float | None = Field(description="Cosine of photo and drawn face, by the recogniser that chose.")
    steps: int = Field(description="Steps of denoising that were run for each.")


class Personalized(BaseModel):
    """A personalised page, stored until it expires."""

    success: Literal[True] = True
    output_file_id: str
    output_path: str
    message: str = "Illustration personalized successfully"
    download_url: str
    slot: UsedSlot
    slots_in_page: int
    faces_in_photo: int = Field(description="More than one? `face_box` chooses.")
    engine: str
    quality: dict[str, float | None]
    unavailable: dict[str, str] = Field(description="Why a figure is null.")
    diffusion: DiffusionOut | None = Field(description="How it was drawn by diffusion; null where it wasn't.")
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, result: Result) -> Personalized:
        """The answer to a finished request."""
        page = result.page
        return cls(
            output_file_id=str(result.file.id),
            output_path=result.file.key,
            download_url=f"/download/{result.file.id}",
            slot=UsedSlot(index=page.slot_index, **brief_slot(page.slot.to_json())),
            slots_in_page=result.slots_in_page,
            faces_in_photo=page.faces_in_photo,
            engine=page.engine,
            quality=page.quality,
            unavailable=page.unavailable,
            diffusion=None if page.diffusion is None else DiffusionOut(**asdict(page.diffusion)),
            timings_ms={stage: round(ms, 2) for stage, ms in result.timings_ms.items()},
        )


class TemplateAnswer(BaseModel):
    """A stored page and its face slots, best first."""

    template_id: str
    name: str | None
    created_at: datetime
    width: int
    height: int
    image_url: str
    slots: list[Slot]

    @classmethod
    def of(cls, template: Template, *, brief: bool = False) -> TemplateAnswer:
        """`brief` leaves the hundreds of landmarks out."""
        slots = [Slot(**(brief_slot(slot) if brief else slot)) for slot in template.slots]
        return cls(
            template_id=str(template.id),
            name=template.name,
            created_at=template.created_at,
            width=template.width,
            height=template.height,
            image_url=f"/templates/{template.id}/image",
            slots=slots,
        )


class TemplateUploaded(TemplateAnswer):
    """A page that was just stored."""

    success: Literal[True] = True
    file_path: str

    @classmethod
    def of(cls, template: Template, *, brief: bool = False) -> TemplateUploaded:
        """The answer to an upload."""
        answer = TemplateAnswer.of(template, brief=brief)
        return cls(**answer.model_dump(), file_path=f"uploads/{template.id}_template.png")


class Templates(BaseModel):
    """All templates, newest first, without their landmarks."""

    templates: list[TemplateAnswer]


class SlotsCorrection(BaseModel):
    """The slots that a template is to have, best first."""

    model_config = ConfigDict(extra="forbid")

    slots: SlotSpecs = Field(description="Boxes, lists of points, or slots as GET /templates/{template_id} shows them.")


class DownloadUrl(BaseModel):
    """Where a file can be fetched from."""

    url: str = Field(
        description="Presigned, if files are kept in S3: no credentials are needed. Else the service's own, as ever.",
        examples=["https://bucket.s3.amazonaws.com/outputs/4f0f4a5e_personalized.png?X-Amz-Signature=..."],
    )
    presigned: bool = Field(description="Whether anybody who has the URL may fetch the file.")
    expires_at: datetime | None = Field(description="When the URL stops working; null where it doesn't by itself.")

    @classmethod
    def of(cls, file_id: UUID, presigned: PresignedUrl | None) -> DownloadUrl:
        """The presigned URL, or where there is none the service's own."""
        if presigned is None:
            return cls(url=f"/download/{file_id}", presigned=False, expires_at=None)
        return cls(url=presigned.url, presigned=True, expires_at=presigned.expires_at)


class Deleted(BaseModel):
    """What was asked to be removed is gone."""

    success: Literal[True] = True


def brief_slot(slot: dict[str, Any]) -> dict[str, Any]:
    """A slot without its landmarks."""
    return {key: value for key, value in slot.items() if key != "landmarks"}
