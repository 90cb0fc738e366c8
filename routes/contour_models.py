"""What the contour routes take and answer."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from contour_output import ContourStyle
from contour_regions import REGIONS
from contour_svg import DEFAULT_SIZE, LEAST_SIZE, MOST_SIZE, ContourOptions
from routes.form_or_json import FILE, read_query
from service.base64_picture import decode_base64
from service.contours import ContourRequest, ContourResult, Output, PngKind, parse_landmarks
from service.deps import SettingsDep
from service.errors import BadRequestError, InvalidValueError

PICTURES = ("image", "segmentation_map")
DEFAULTS, STYLE = ContourOptions(), ContourStyle()


def _listed(value: object) -> object:
    """A list that came as text, in a form: `eye_left,nose`, or JSON."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else [name.strip() for name in value.split(",")]


LANDMARK = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
    "required": ["x", "y"],
}
LANDMARKS_SCHEMA = WithJsonSchema(
    {
        "type": "array",
        "items": LANDMARK,
        "examples": [[{"x": 482.63, "y": 732.62}, {"x": 515.77, "y": 661.9}]],
    }
)


class ContourQuery(BaseModel):
    """A photo, what is known of it, and what is wanted."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(
        None,
        description="The photo in base64, with or without `data:image/...;base64,`; in a multipart form the file.",
        examples=["data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD..."],
    )
    landmarks: Annotated[Any, LANDMARKS_SCHEMA] = Field(
        None,
        description="The 468 or 478 points of MediaPipe's face mesh, in its order, as `{x, y}` or `[x, y]`: pixels of "
        "the upright photo, or fractions of its width and height where all lie in 0..1. One list, or a list of one "
        "list. Left out, the largest face's are found. In a form: the same as JSON text.",
    )
    segmentation_map: str | None = Field(
        None,
        description="A face parser's label map of the whole photo in base64: a PNG, BMP, TIFF or GIF whose grey values "
        "or palette indices are class numbers, of any size, or a byte per pixel at the photo's size. In a multipart "
        "form the file. Without one there is no hairline, neck, ear, hair or glasses.",
    )
    label_scheme: Literal["auto", "celebamask19", "parsing11"] = Field(
        DEFAULTS.label_scheme, description="The map's class order; `auto` takes the one that agrees with the landmarks."
    )
    regions: Annotated[list[str], BeforeValidator(_listed), Field(max_length=len(REGIONS))] = Field(
        list(DEFAULTS.regions), description=f"Ids of the regions that are wanted: {', '.join(REGIONS)}. Default: all."
    )
    autorotate: bool = Field(DEFAULTS.autorotate, description="Turn the picture until the eyes are level.")
    crop: bool = Field(DEFAULTS.crop, description="Cut the face out as a square; false keeps the whole photo.")
    size: int = Field(
        DEFAULT_SIZE, ge=LEAST_SIZE, le=MOST_SIZE, description="Pixels of the square's side, with `crop`."
    )
    smoothing: float = Field(
        DEFAULTS.smoothing, ge=0, le=1, allow_inf_nan=False,
        description="0 follows every bend of a border, 1 keeps the large ones with the fewest nodes.",
    )  # fmt: skip
    output: Output = Field(
        "svg", description="The file in `result`. `Accept: image/svg+xml` or `image/png` takes precedence."
    )
    png: PngKind = Field(
        "mask",
        description="What a PNG shows: `mask` (palette indices: a region's place in the list above, from 1), `overlay` "
        "(regions over the photo), or `photo` (the turned and cut photo alone).",
    )
    fill: str = Field(STYLE.fill, max_length=7, description="`palette`, `none`, or a colour as #rrggbb.")
    fill_opacity: float = Field(STYLE.fill_opacity, ge=0, le=1, allow_inf_nan=False, description="0 to 1.")
    stroke: str = Field(STYLE.stroke, max_length=7, description="`palette`, `none`, or a colour as #rrggbb.")
    stroke_width: float = Field(
        STYLE.stroke_width, ge=0, le=100, allow_inf_nan=False, description="Pixels of the canvas."
    )

    def request(self, files: Mapping[str, bytes]) -> ContourRequest:
        """The engine's request; pictures are files, or base64 of the query.

        Raises:
            ServiceError: no photo, broken base64, or landmarks that are no points.
        """
        image, label_map = (
            files[name] if name in files else None if text is None else decode_base64(text)
            for name, text in (("image", self.image), ("segmentation_map", self.segmentation_map))
        )
        if image is None:
            raise BadRequestError(
                "Send `image`: in base64 as a field of JSON (Content-Type: application/json), or as a file of a "
                "multipart form."
            )
        return ContourRequest(
            image=image,
            landmarks=parse_landmarks(_parsed(self.landmarks)),
            segmentation_map=label_map,
            output=self.output,
            png=self.png,
            options=self._pick(ContourOptions, regions=tuple(self.regions)),
            style=self._pick(ContourStyle),
        )

    def _pick(self, kind: type[T], **changed: Any) -> T:
        """The fields that an engine's options have."""
        own = {each.name: getattr(self, each.name) for each in fields(kind)}  # type: ignore[arg-type]
        return kind(**(own | changed))


T = TypeVar("T")


def _parsed(landmarks: object) -> object:
    """Landmarks that came as text, in a form."""
    if not isinstance(landmarks, str):
        return landmarks
    try:
        return json.loads(landmarks)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError("landmarks: the text is not JSON.") from error


async def contour_request(request: Request, settings: SettingsDep) -> ContourRequest:
    """What is wanted now."""
    query, files = await read_query(ContourQuery, request, settings, pictures=PICTURES)
    return await run_in_threadpool(query.request, files)


ContourRequestDep = Annotated[ContourRequest, Depends(contour_request)]


def request_body(model: type[ContourQuery]) -> dict[str, Any]:
    """OpenAPI: the body is JSON or a multipart form."""
    schema = model.model_json_schema()
    properties = schema["properties"]
    form = {
        **properties,
        **{name: {**FILE, "description": properties[name]["description"]} for name in PICTURES},
        "landmarks": {"type": "string", "description": properties["landmarks"]["description"]},
    }
    multipart = {**schema, "properties": form, "required": ["image"]}
    content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": multipart}}
    return {"requestBody": {"required": True, "content": content}}


Point = Annotated[list[float], Field(min_length=2, max_length=2)]
Matrix = Annotated[list[list[float]], Field(description="2x3: x' = a x + b y + c, y' = d x + e y + f.")]


class Transform(BaseModel):
    """One turn, scale and shift between the upright photo and the canvas; pixel (i, j) covers [i, i+1) x [j, j+1)."""

    source_to_canvas: Matrix
    canvas_to_source: Matrix
    roll_deg: float = Field(description="How far the head was turned clockwise before it was levelled, in degrees.")
    scale: float = Field(description="Canvas pixels per pixel of the photo.")


class Pose(BaseModel):
    """Degrees. Yaw > 0 looks right in the picture, pitch > 0 down, roll > 0 is tilted clockwise."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    frontal: bool = Field(description="Whether yaw and pitch are at most 25 degrees.")


class RegionPolygon(BaseModel):
    """A closed outline and the holes in it; the first point is repeated at the end."""

    exterior: list[Point]
    holes: list[list[Point]]


class ContourRegion(BaseModel):
    """One region; lengths and places in pixels of the canvas."""

    id: str = Field(examples=["cheek_left"], description="Right and left are the subject's own.")
    label: str = Field(examples=["Left cheek"])
    color: str = Field(examples=["#d977a8"], description="Its colour in the palette, as #rrggbb.")
    available: bool
    reason: str | None = Field(description="Why it isn't available.")
    source: Literal["map", "landmarks", "both"] | None = Field(description="Where its border is from.")
    nodes: int = Field(description="Nodes of its curves.")
    area: float | None = Field(description="Square pixels; null for a line.")
    length: float | None = Field(description="Pixels; of a line only.")
    centroid: Point | None
    bbox: list[float] | None = Field(description="x1, y1, x2, y2.")
    holes: int
    path: str | None = Field(None, description="SVG path data, with `output=json`.")
    polygons: list[RegionPolygon] | None = Field(None, description="Within 0.1 pixel of the path, with `output=json`.")
    lines: list[list[Point]] | None = Field(None, description="Of an open line (`jawline`), with `output=json`.")


class ContourDocument(BaseModel):
    """The contours of one face. With `output=json` the file is this document."""

    schema_: str = Field(alias="schema", examples=["facial-contours/1"])
    generator: str
    source_sha256: str = Field(description="Of the photo's bytes.")
    landmarks: Literal["given", "found"]
    width: int = Field(description="Of the canvas, in pixels.")
    height: int
    coordinate_space: Literal["crop", "rotated", "source"] = Field(
        description="crop: the face cut out; rotated: the whole photo turned upright; source: the photo as it is."
    )
    transform: Transform
    pose: Pose
    face_px: float = Field(description="Longer side of the face oval in the photo, in pixels.")
    label_scheme: Literal["celebamask19", "parsing11"] | None = Field(description="How the map was read.")
    regions: list[ContourRegion]
    warnings: list[str]


class ContourAnswer(BaseModel):
    """The file in base64, and what is known of it."""

    status: Literal["completed"]
    output: Output
    media_type: str = Field(examples=["image/svg+xml"])
    result: str = Field(description="The file in base64: the same bytes that a job or `Accept: image/svg+xml` gives.")
    contours: ContourDocument

    @classmethod
    def of(cls, request: ContourRequest, result: ContourResult) -> ContourAnswer:
        """The answer to a finished request."""
        return cls(
            status="completed",
            output=request.output,
            media_type=result.media_type,
            result=b64encode(result.data).decode(),
            contours=ContourDocument.model_validate(result.document),
        )
