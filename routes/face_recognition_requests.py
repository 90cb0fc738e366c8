"""What the face recognition routes take: pictures as files, in forms or in JSON, and which of their faces are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic.types import FailFast

from face_matching import FaceChoice
from service.errors import BadRequestError
from service.recognition import FaceOptions, Picture

BINARY = WithJsonSchema({"type": "string", "format": "binary"})
"""How Swagger UI knows that it must offer a choice of files; `null`, which pydantic adds, hides it."""
NOTHING = [""]
"""The example of a form's text that may be left out: Swagger UI would write "string" into it."""
MAX_BATCH = 50
"""Pictures of one batch, as in the first version."""
MAX_DIGITS = 4
"""Of the number of a face."""
MAX_DIMENSION = 4096
"""Numbers of an embedding; the models that are known give 128 to 512."""


def _check_choice(choice: object) -> object:
    """A face's number may come as text, in a form."""
    if isinstance(choice, str) and choice.isascii() and choice.isdigit() and len(choice) <= MAX_DIGITS:
        choice = int(choice)
    is_number = isinstance(choice, int) and not isinstance(choice, bool) and 0 <= choice < 10**MAX_DIGITS
    if choice in ("largest", "center") or is_number:
        return choice
    raise ValueError("must be largest, center, or the number of a face, 0 being the largest")


def _check_direction(embedding: list[float]) -> list[float]:
    if not any(embedding):
        raise ValueError("is all zeros: that is no embedding, and no direction to compare")
    return embedding


Choice = Annotated[
    FaceChoice,
    BeforeValidator(_check_choice),
    Field(
        description="Which face: `largest`, `center` (the nearest to the middle of the picture), or its number in the "
        "list of faces, 0 being the largest.",
        examples=["largest"],
    ),
]
DetThreshold = Annotated[
    float | None,
    Field(
        ge=0.05,
        le=0.95,
        allow_inf_nan=False,
        description="Least confidence of a detected face. Default: FACE_DET_THRESH.",
        examples=[0.5],
    ),
]
MatchThreshold = Annotated[
    float | None,
    Field(
        ge=-1,
        le=1,
        allow_inf_nan=False,
        description="Least cosine similarity of a match. Default: the model's own threshold.",
        examples=[0.4],
    ),
]


class FaceQuery(BaseModel):
    """A picture in base64, and which of its faces are meant."""

    image_base64: str | None = Field(
        None,
        description="The picture in standard base64 (RFC 4648, one line), with or without `data:image/...;base64,`.",
        examples=NOTHING,
    )
    face: Choice = "largest"
    faces: Literal["one", "all"] = Field(
        "one", description="`all` adds the list `faces`, largest first; the answer itself stays the chosen face's."
    )
    det_threshold: DetThreshold = None


class BatchQuery(BaseModel):
    """Pictures in base64; of each the chosen face is embedded."""

    images: list[str] = Field(
        [], max_length=MAX_BATCH, description=f"1 to {MAX_BATCH} pictures in base64.", examples=[NOTHING]
    )
    face: Choice = "largest"
    det_threshold: DetThreshold = None


Embedding = Annotated[
    list[Annotated[float, Field(strict=True, allow_inf_nan=False)]],
    FailFast(),
    Field(min_length=1, max_length=MAX_DIMENSION),
    AfterValidator(_check_direction),
]


class Comparison(BaseModel):
    """Two embeddings of one model."""

    embedding_a: Embedding = Field(
        description="As POST /api/v1/extract-embedding gives it; it need not be normalised.", examples=[[0.6, 0.8]]
    )
    embedding_b: Embedding = Field(description="As long as `embedding_a`.", examples=[[0.8, 0.6]])
    model_a: str | None = Field(
        None, max_length=200, description="The `model` that gave `embedding_a`, for safety.", examples=["buffalo_l"]
    )
    model_b: str | None = Field(None, max_length=200, description="The `model` that gave `embedding_b`.")
    threshold: MatchThreshold = None


EXAMPLE_BASE64 = "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD..."
ONE_PICTURE_EXAMPLE = {"image_base64": EXAMPLE_BASE64, "face": "largest"}
BATCH_EXAMPLE = {"images": [EXAMPLE_BASE64, EXAMPLE_BASE64]}

Query = TypeVar("Query", bound=BaseModel)


def also_as(query: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI: beside the multipart form that FastAPI describes, the body may be a URL-encoded form or JSON.

    The example stands at the body, not at its fields: Swagger UI would put it into a form, beside the file.
    """
    content = {"schema": query.model_json_schema(), "example": example}
    return {
        "requestBody": {"content": dict.fromkeys(("application/x-www-form-urlencoded", "application/json"), content)}
    }


async def json_or(form: Query, query: type[Query], request: Request) -> Query:
    """The fields of a JSON body where the request has one, else those of the form.

    Raises:
        RequestValidationError: the body is no JSON, or a field of it is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return form
    try:
        return query.model_validate_json(await request.body())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from error


@dataclass(frozen=True, slots=True)
class Sent:
    """The pictures of a request, and which of their faces are meant."""

    pictures: Sequence[Picture]
    options: FaceOptions


async def sent_picture(
    request: Request,
    form: Annotated[FaceQuery, Form()],
    file: Annotated[
        UploadFile | None, File(description="The picture, instead of `image_base64`. Not stored."), BINARY
    ] = None,
) -> Sent:
    """The one picture of a request."""
    query = await json_or(form, FaceQuery, request)
    sources: list[Picture | None] = [None if file is None else file.file, query.image_base64]
    pictures = [picture for picture in sources if picture is not None]
    if len(pictures) != 1:
        raise BadRequestError(
            "Send one picture: as the file `file` of a multipart form, or in base64 as `image_base64` of a form or of "
            "JSON (Content-Type: application/json)."
        )
    return Sent(pictures, FaceOptions(query.face, query.faces == "all", query.det_threshold))


async def sent_batch(
    request: Request,
    form: Annotated[BatchQuery, Form()],
    files: Annotated[
        list[UploadFile], File(max_length=MAX_BATCH, description="The pictures, instead of `images`. Not stored.")
    ] = [],  # noqa: B006 - FastAPI copies it
) -> Sent:
    """The pictures of a batch."""
    query = await json_or(form, BatchQuery, request)
    if bool(files) == bool(query.images):
        raise BadRequestError(
            "Send 1 to 50 pictures: in base64 as the list `images` of JSON (Content-Type: application/json) or of a "
            "form, or as the files `files` of a multipart form."
        )
    pictures: Sequence[Picture] = [file.file for file in files] or query.images
    return Sent(pictures, FaceOptions(query.face, det_threshold=query.det_threshold))


OnePicture = Annotated[Sent, Depends(sent_picture)]
Batch = Annotated[Sent, Depends(sent_batch)]
