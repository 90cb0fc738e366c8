"""Face slots as a client writes them: an index, a box, points, or a slot that the service described before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from face_slots import FaceSlot
from personalizer import Personalizer
from service.errors import InvalidValueError
from utils import FloatArray, RGBImage

T = TypeVar("T")

MAX_SLOTS = 64
POINT_COUNTS = (5, 468, 478)
MIN_SIDE_PX = 8
"""A smaller box shows no face, drawn or not."""


class XY(BaseModel):
    """A point in pixels of the upright picture."""

    model_config = ConfigDict(extra="ignore")  # MediaPipe's points have a z as well

    x: FiniteFloat
    y: FiniteFloat


Box: TypeAlias = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
Points: TypeAlias = Annotated[list[tuple[FiniteFloat, FiniteFloat] | XY], Len(min(POINT_COUNTS), max(POINT_COUNTS))]
SlotSpec: TypeAlias = Box | Points | dict[str, Any]
SlotChoice: TypeAlias = Annotated[int, Field(ge=0, strict=True)] | Box | Points

_BOX: TypeAdapter[Box] = TypeAdapter(Box)
_PLACE: TypeAdapter[Box | Points] = TypeAdapter(Box | Points)
_CHOICE: TypeAdapter[SlotChoice] = TypeAdapter(SlotChoice)
SlotSpecs: TypeAlias = Annotated[list[SlotSpec], Len(0, MAX_SLOTS)]
_SPECS: TypeAdapter[SlotSpecs] = TypeAdapter(SlotSpecs)


def parse_choice(text: str) -> SlotChoice:
    """`slot` of a request: `0`, `[x1, y1, x2, y2]` or `[[x, y], ...]`.

    Raises:
        InvalidValueError: it is none of these.
    """
    return _parse(_CHOICE, text, "slot: give an index, a box [x1, y1, x2, y2], or 5, 468 or 478 points [[x, y], ...].")


def parse_box(text: str) -> FloatArray:
    """`face_box` of a request: (4,) float32, x1, y1, x2, y2 in pixels of the photo.

    Raises:
        InvalidValueError: it is no box.
    """
    return np.array(_parse(_BOX, text, "face_box: give a box [x1, y1, x2, y2] in pixels of the photo."), np.float32)


def parse_specs(text: str) -> list[SlotSpec]:
    """`slots` of a template as JSON.

    Raises:
        InvalidValueError: it is no list of slots.
    """
    return _parse(_SPECS, text, f"slots: give a JSON list of at most {MAX_SLOTS} boxes, points or slots.")


def check_box(box: FloatArray, image_rgb: RGBImage, *, name: str) -> FloatArray:
    """The box itself, if it lies in the picture and encloses something.

    Raises:
        InvalidValueError: it doesn't.
    """
    height, width = image_rgb.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in box)
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height and min(x2 - x1, y2 - y1) >= MIN_SIDE_PX):
        raise InvalidValueError(
            f"{name}: a box is x1 < x2 and y1 < y2, at least {MIN_SIDE_PX} pixels a side, inside {width}x{height}."
        )
    return box


def build_slot(spec: Box | Points | Mapping[str, Any], page_rgb: RGBImage, personalizer: Personalizer) -> FaceSlot:
    """The slot that a client described, on this page.

    Raises:
        InvalidValueError: it doesn't lie in the page, or the points are no face.
    """
    if isinstance(spec, Mapping):
        if "score" not in spec:  # written by hand, not by this service
            return build_slot(_best_of(spec), page_rgb, personalizer)
        slot = FaceSlot.from_json(dict(spec))
        _check_centre(slot.bbox, page_rgb)
        return slot
    if isinstance(spec, tuple):
        return personalizer.slot_from_box(page_rgb, check_box(np.array(spec, np.float32), page_rgb, name="slot"))
    points = np.array([(p.x, p.y) if isinstance(p, XY) else p for p in spec], np.float32)
    return personalizer.slot_from_points(page_rgb, _check_points(points, page_rgb))


def _best_of(spec: Mapping[str, Any]) -> Box | Points:
    """The most exact of a slot's fields: landmarks, else five points, else the box."""
    given = next((spec[name] for name in ("landmarks", "kps", "bbox") if spec.get(name) is not None), None)
    try:
        return _PLACE.validate_python(given)
    except ValidationError as error:
        raise InvalidValueError("slots: a slot has a bbox [x1, y1, x2, y2], kps (5 points) or landmarks.") from error


def build_slots(specs: Sequence[SlotSpec], page_rgb: RGBImage, personalizer: Personalizer) -> list[FaceSlot]:
    """`build_slot` for each, in the order given."""
    return [build_slot(spec, page_rgb, personalizer) for spec in specs]


def _check_points(points: FloatArray, page_rgb: RGBImage) -> FloatArray:
    height, width = page_rgb.shape[:2]
    if len(points) not in POINT_COUNTS:
        raise InvalidValueError(f"slot: {len(points)} points were given; 5, 468 or 478 are a face.")
    if (points < 0).any() or (points > (width, height)).any():
        raise InvalidValueError(f"slot: all points must lie inside the page's {width}x{height} pixels.")
    if np.ptp(points, axis=0).max() < MIN_SIDE_PX:
        raise InvalidValueError(f"slot: the points must span at least {MIN_SIDE_PX} pixels.")
    return points


def _check_centre(bbox: FloatArray, page_rgb: RGBImage) -> None:
    height, width = page_rgb.shape[:2]
    x, y = float(bbox[0] + bbox[2]) / 2, float(bbox[1] + bbox[3]) / 2
    if not (0 <= x <= width and 0 <= y <= height and bbox[0] < bbox[2] and bbox[1] < bbox[3]):
        raise InvalidValueError(f"slot: its bbox must lie on the page's {width}x{height} pixels.")


def _parse(adapter: TypeAdapter[T], text: str, sentence: str) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise InvalidValueError(sentence) from error
