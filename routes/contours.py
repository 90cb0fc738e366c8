"""Facial contours: the regions of a face as SVG, PNG or JSON, from a photo, landmarks and a label map."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from routes.contour_models import ContourAnswer, ContourQuery, ContourRequestDep, request_body
from routes.error_docs import documented
from service.contours import Output
from service.deps import ContourerDep, Owner, Pool, Timings
from service.errors import (
    BadRequestError,
    BusyError,
    ImageTooLargeError,
    ImageUnreadableError,
    InvalidBase64Error,
    InvalidValueError,
    NoFaceDetectedError,
    PayloadTooLargeError,
    UnsupportedImageError,
)
from service.negotiation import preferred

router = APIRouter(prefix="/api/v1/frontal", tags=["facial contours"])

ERRORS = (
    BadRequestError, PayloadTooLargeError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError,
    InvalidBase64Error, InvalidValueError, NoFaceDetectedError, BusyError,
)  # fmt: skip
FILES: dict[str, Any] = {"image/svg+xml": {}, "image/png": {}}
OUTPUTS: dict[str, Output] = {"image/svg+xml": "svg", "image/png": "png"}


@router.post(
    "/crop",
    response_model=ContourAnswer,
    response_model_exclude_unset=True,
    responses={**documented(*ERRORS), 200: {"content": FILES}},
    openapi_extra=request_body(ContourQuery),
)
async def frontal_crop(
    request: ContourRequestDep,
    contourer: ContourerDep,
    owner: Owner,
    pool: Pool,
    timings: Timings,
    accept: Annotated[
        str, Header(description="`image/svg+xml` or `image/png` answers with the file, else JSON.")
    ] = "*/*",
) -> ContourAnswer | Response:
    """The regions of one face, turned upright and cut out.

    The same request gives the same bytes. The photo is not stored; its contours are kept for the same caller's same
    request (`CACHE_MAX_MB`, until they expire).
    """
    wanted = preferred(accept, OUTPUTS)
    if wanted is not None:
        request = replace(request, output=wanted)
    result = await pool.run(contourer.contours, request, owner=owner)
    timings.update(result.timings_ms)
    if wanted is None:
        return ContourAnswer.of(request, result)
    return Response(result.data, media_type=result.media_type)
