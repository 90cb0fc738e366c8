"""What the try-on routes take and answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from config import Settings
from garment_anchors import GarmentType
from routes.form_or_json import FILE, read_query
from service.base64_picture import decode_base64
from service.deps import FetcherDep, SettingsDep
from service.errors import BadRequestError, naming
from service.fetch import Fetcher
from service.image_io import ImageFormat
from service.negotiation import preferred_image
from service.outbound import MAX_URL_LENGTH
from service.tables import Job
from service.tryon import Mode, TryOnRequest
from service.tryon_report import TryOnDetails, TryOnQuality, TryOnReport, seed_code
from tryon_pipeline import RealismLevel, TryOnOptions

PICTURES = ("user_image", "product_image")
EXAMPLE_BASE64 = "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD..."
MOST_SEEDS = 2**31

Sources: TypeAlias = tuple[bytes | None, str | None, str | None]
"""A file, base64, and a URL."""
SeedStatus: TypeAlias = Literal["QUEUED", "PROCESSING", "DONE", "FAILED", "CANCELLED"]
SEED_STATUS: Mapping[str, SeedStatus] = {
    "pending": "QUEUED", "processing": "PROCESSING", "completed": "DONE", "failed": "FAILED", "cancelled": "CANCELLED",
}  # fmt: skip
REALISM: Mapping[int, RealismLevel] = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}


class Pictures(NamedTuple):
    """Both pictures, as files."""

    user_image: bytes
    product_image: bytes


class TryOnQuery(BaseModel):
    """Two pictures, and how the person is dressed."""

    model_config = ConfigDict(extra="forbid")

    user_image: str | None = Field(
        None,
        description="The photo of the person, standing, seen from the front, from the head or mouth to the hips at "
        "least: base64, with or without `data:image/...;base64,`; in a multipart form the file.",
        examples=[EXAMPLE_BASE64],
    )
    user_image_url: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="The same as an http(s) URL, read at once. One of both.",
        examples=["https://example.com/person.jpg"],
    )
    product_image: str | None = Field(
        None,
        description="The photo of the garment alone, laid flat or on an invisible mannequin, before a plain background "
        "or transparent: base64, or the file.",
        examples=[EXAMPLE_BASE64],
    )
    product_image_url: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="The same as an http(s) URL. One of both.",
        examples=["https://example.com/tshirt.png"],
    )
    garment_type: GarmentType = Field("auto", description="`auto` tells it from the garment's outline.")
    preserve_face: bool = Field(
        True, description="The face's pixels stay the photo's. false lets a high collar or a hood lie over the chin."
    )
    preserve_background: bool = Field(
        True, description="What is neither the old nor the new garment, nor the person, stays the photo's."
    )
    realism_level: int = Field(
        3,
        ge=1,
        le=5,
        description="1: the garment laid in behind head, hair, hands and bare arms. 2: the old one painted over too. "
        "3: and in the photo's light. 4: and with the shadows of arms, sleeves, collar and hem. 5: and with the folds "
        "of the worn garment pressed through. In final mode also how freely the image model may draw.",
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=3,
        description="Further attempts: at the draft while it scores below QUALITY_THRESHOLD, each done differently; "
        "and at the image model's picture, each of which may be paid for.",
    )
    seed: int = Field(0, ge=0, lt=MOST_SEEDS, description="The same input and seed give the same draft, byte for byte.")
    require_quality: bool = Field(
        False, description="A draft that scores below QUALITY_THRESHOLD after all attempts is QUALITY_CHECK_FAILED."
    )
    format: ImageFormat | None = Field(None, description="png (lossless, the default), jpeg or webp.")

    def request(self, pictures: Pictures, settings: Settings) -> TryOnRequest:
        """The engine's request."""
        options = TryOnOptions(
            garment_type=self.garment_type,
            preserve_face=self.preserve_face,
            preserve_background=self.preserve_background,
            realism_level=REALISM[self.realism_level],
            max_retries=self.max_retries,
            seed=self.seed,
            work_image_size=settings.work_image_size,
            quality_threshold=settings.quality_threshold,
        )
        return TryOnRequest(
            pictures.user_image, pictures.product_image, options=options, require_quality=self.require_quality,
            format=self.format or "png",
        )  # fmt: skip


class TryOnDraftQuery(TryOnQuery):
    """What the synchronous route takes."""

    mode: Literal["draft"] = Field("draft", description="Final pictures take longer than a request may: submit them.")


class TryOnJobQuery(TryOnQuery):
    """What a job takes."""

    mode: Mode = Field(
        "final",
        description="final has a hosted image model make a photograph of the draft: the person's photo is sent to a "
        "third party. draft never leaves this service.",
    )
    allow_fallback: bool = Field(
        True,
        description="Where the image model gives nothing that can be used, give the draft, and say so in "
        "`provider_fallback`. false fails with NANO_API_ERROR.",
    )
    webhook_url: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="Told when the job has finished, by a signed POST; see the README.",
    )


class TryOnWanted(NamedTuple):
    """What is handed in as a job."""

    request: TryOnRequest
    webhook_url: str | None


class TryOnDrafted(TryOnReport):
    """A draft, stored until it expires."""

    status: Literal["DONE"] = "DONE"
    file_id: UUID
    result_image_url: str = Field(examples=["/download/9b768927-3f2d-4496-bc7f-8a1a40baacaa"])
    quality_score: float = Field(description="`quality.score`.")
    retry_count: int = Field(description="Attempts after the first one.")


class TryOnAccepted(BaseModel):
    """The job will be done."""

    job_id: UUID
    status: SeedStatus
    message: str = "Job submitted successfully"


class TryOnStatus(BaseModel):
    """Where the job stands. GET /api/v1/jobs/{job_id}/events tells the same job's changes as they happen."""

    job_id: UUID
    status: SeedStatus
    stage: str | None = Field(
        description="What is being done: load, segmentation, pose, garment, alignment, quality, finish, generation "
        "(the image model's picture), storage. Null while nothing is.",
        examples=["alignment"],
    )
    progress: float = Field(description="0 to 1.")
    result_image_url: str | None = Field(description="Where the picture is, once it is DONE.")
    quality_score: float | None = Field(description="`quality.score`, 0 to 1; of the draft, in final mode too.")
    retry_count: int | None = Field(description="Attempts at the draft after the first one.")
    created_at: datetime
    completed_at: datetime | None = Field(description="When it was DONE, FAILED or CANCELLED.")
    error_code: str | None = Field(description="Why it FAILED.", examples=["POSE_FAILED"])
    error_message: str | None = Field(description="The same as a sentence that says what to do.")
    quality: TryOnQuality | None = Field(description="Every term of the score.")
    details: TryOnDetails | None = Field(description="What else is known of the picture; null until it is DONE.")
    provider_fallback: bool | None = Field(description="Whether a final try-on gave its draft; null until it is DONE.")
    artifacts_url: str | None = Field(description="A ZIP of masks, keypoints and draft, where they were kept.")

    @classmethod
    def of(cls, job: Job) -> TryOnStatus:
        """In the first version's words."""
        report = None if job.status != "completed" else TryOnReport.model_validate(job.result)
        return cls(
            job_id=job.id,
            status=SEED_STATUS[job.status],
            stage=job.stage,
            progress=round(job.progress, 4),
            result_image_url=None if report is None else f"/api/tryon/result/{job.id}",
            quality_score=report and report.quality.score,
            retry_count=report and len(report.attempts) - 1,
            created_at=job.created_at,
            completed_at=job.finished_at,
            error_code=job.error_code and seed_code(job.error_code),
            error_message=job.error,
            quality=report and report.quality,
            details=report and TryOnDetails.model_validate(job.result),
            provider_fallback=report and report.provider_fallback,
            artifacts_url=f"/api/tryon/artifacts/{job.id}" if report and report.artifacts else None,
        )


async def draft_request(request: Request, settings: SettingsDep, fetcher: FetcherDep) -> TryOnRequest:
    """What is wanted now; a picture that `Accept` asks for chooses the format."""
    query, files = await read_query(TryOnDraftQuery, request, settings, pictures=PICTURES)
    query.format = query.format or preferred_image(request.headers.get("accept", ""))
    return query.request(await _pictures(query, files, fetcher), settings)


async def job_request(request: Request, settings: SettingsDep, fetcher: FetcherDep) -> TryOnWanted:
    """What is wanted later."""
    query, files = await read_query(TryOnJobQuery, request, settings, pictures=PICTURES)
    pictures = await _pictures(query, files, fetcher)
    wanted = replace(query.request(pictures, settings), mode=query.mode, allow_fallback=query.allow_fallback)
    return TryOnWanted(wanted, query.webhook_url)


async def _pictures(query: TryOnQuery, files: Mapping[str, bytes], fetcher: Fetcher) -> Pictures:
    """Both pictures, wherever they come from.

    Raises:
        ServiceError: none or more than one of a kind, broken base64, or a URL that gives nothing.
    """
    for name in PICTURES:
        if sum(each is not None for each in _sources(name, query, files)) != 1:
            raise BadRequestError(
                f"Send one {name}: as a file of a multipart form, in base64, or as {name}_url, an http(s) URL."
            )
    user_image, product_image = await asyncio.gather(
        *(_picture(name, _sources(name, query, files), fetcher) for name in PICTURES)
    )
    return Pictures(user_image, product_image)


def _sources(name: str, query: TryOnQuery, files: Mapping[str, bytes]) -> Sources:
    return files.get(name), getattr(query, name), getattr(query, f"{name}_url")


async def _picture(name: str, sources: Sources, fetcher: Fetcher) -> bytes:
    file, text, url = sources
    if file is not None:
        return file
    if text is not None:
        with naming(name):
            return await run_in_threadpool(decode_base64, text)
    assert url is not None
    with naming(f"{name}_url"):
        return await fetcher.picture(url)


def request_body(model: type[TryOnQuery]) -> dict[str, Any]:
    """OpenAPI: the body is JSON or a multipart form, with pictures as files."""
    schema = model.model_json_schema()
    files = {name: {**FILE, "description": schema["properties"][name]["description"]} for name in PICTURES}
    multipart = {**schema, "properties": {**schema["properties"], **files}}
    content = {"multipart/form-data": {"schema": multipart}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


DraftRequestDep = Annotated[TryOnRequest, Depends(draft_request)]
JobRequestDep = Annotated[TryOnWanted, Depends(job_request)]
