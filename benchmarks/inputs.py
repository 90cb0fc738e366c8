"""The pictures that are timed, made from a bundled page and the public-domain astronaut: the same everywhere."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image

from utils import FloatArray, RGBImage

PROJECT = Path(__file__).resolve().parent.parent
PAGES = PROJECT / "examples" / "pages"
PAGE = "kite_hill.png"
SIZE = 1024
CLOSE_UP_FACE = 512
HEAD = (slice(0, 280), slice(84, 364))
"""The astronaut's head and shoulders: rows and columns of the 512x512 photo."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page, the box of its drawn face (x1, y1, x2, y2 in pixels), and both as an upload."""

    rgb: RGBImage
    face_box: FloatArray
    png: bytes


def portrait() -> RGBImage:
    """A portrait as a phone takes it: 1024x1024, the face about half as wide as the picture."""
    head = np.ascontiguousarray(skimage.data.astronaut()[HEAD])
    return np.asarray(cv2.resize(head, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), np.uint8)


def landscape() -> RGBImage:
    """A photo as a camera takes it across: 1280x720, the face 230 pixels wide."""
    upper = np.ascontiguousarray(skimage.data.astronaut()[:288])
    return np.asarray(cv2.resize(upper, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8)


def page() -> Page:
    """The bundled page, 1024x1024 with one face."""
    rgb = np.asarray(Image.open(PAGES / PAGE).convert("RGB"))
    slots = json.loads((PAGES / "slots.json").read_text(encoding="utf-8"))
    return Page(rgb, np.array(slots[PAGE][0]["bbox"], np.float32), encode(rgb, "png"))


def close_up(whole: Page) -> Page:
    """The same page cut and enlarged until the drawn face is 512 px tall, in the middle of 1024x1024."""
    x1, y1, x2, y2 = whole.face_box
    scale = CLOSE_UP_FACE / float(y2 - y1)
    shift = np.array([SIZE / 2 - scale * (x1 + x2) / 2, SIZE / 2 - scale * (y1 + y2) / 2], np.float32)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    rgb = np.asarray(
        cv2.warpAffine(whole.rgb, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
    return Page(rgb, whole.face_box * np.float32(scale) + np.tile(shift, 2), encode(rgb, "png"))


def encode(rgb: RGBImage, image_format: str) -> bytes:
    """PNG or JPEG (quality 92) bytes."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, image_format, quality=92)
    return buffer.getvalue()
