"""A picture as the image model takes it, and the model's picture brought back to the size of ours.

The model draws in a few aspect ratios only. Asked for another one it would stretch or crop, and nothing of its picture
would lie where it lay in ours. So a picture is extended at its edges to the nearest ratio, and the answer is cropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2

from service.errors import ImageModelError
from service.image_io import DecodedImage
from utils import RGBImage, shrink

ASPECT_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
"""Width to height: what every image model of the Gemini API takes."""
MAX_SENT_SIDE = 2048
"""Pixels of the longer side that are sent: the model sees no more, and a request holds at most 20 MB."""
LARGEST_1K_SIDE = 1280
"""Pixels of a longer side for which the model's 1K (1,024 to 1,376 on the longer side) is enough."""
MIN_ANSWER_SIDE = 512
"""Pixels of the longer side of a picture that can stand in for ours, unless ours is smaller."""
MOST_EXTENDED = 2.0
"""A picture that needs a larger area than this many times its own is mostly edge."""
OPAQUE = 255
RATIO_TOLERANCE = 0.05
"""Natural logarithm. The model's sizes are multiples of 16 pixels and miss their own ratio by up to 0.03."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How one picture is extended.

    Attributes:
        width, height: of the picture, in pixels.
        ratio: the aspect ratio to ask for.
        full_width, full_height: of the extended picture, in pixels.
    """

    width: int
    height: int
    ratio: str
    full_width: int
    full_height: int

    @classmethod
    def around(cls, image: RGBImage) -> Frame:
        """The frame of the nearest ratio.

        Raises:
            ImageModelError: the picture is too narrow or too flat for any.
        """
        height, width = image.shape[:2]
        ratio = min(ASPECT_RATIOS, key=lambda name: abs(math.log(width / height / _value(name))))
        full_width = max(width, round(height * _value(ratio)))
        full_height = max(height, round(width / _value(ratio)))
        if full_width * full_height > MOST_EXTENDED * width * height:
            message = f"The image model can't draw a picture of {width}x{height} pixels. Crop it to 9:16 at least."
            raise ImageModelError(message, reason="REQUEST_REFUSED")
        return cls(width, height, ratio, full_width, full_height)

    @property
    def image_size(self) -> Literal["1K", "2K"]:
        """The resolution to ask for."""
        return "1K" if max(self.full_width, self.full_height) <= LARGEST_1K_SIDE else "2K"

    def fits(self, image: RGBImage) -> bool:
        """Whether the picture has the size of the one that the frame is for."""
        return image.shape[:2] == (self.height, self.width)

    def extend(self, image: RGBImage) -> RGBImage:
        """The picture with its edge pixels continued as far as the frame goes, in the middle of it."""
        left, top = self._offset
        right, bottom = self.full_width - self.width - left, self.full_height - self.height - top
        extended: RGBImage = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)
        return extended

    def refusal(self, answer: DecodedImage) -> str | None:
        """Why a picture can't be the extended one drawn anew; None if it can."""
        height, width = answer.rgb.shape[:2]
        if max(width, height) < min(MIN_ANSWER_SIDE, max(self.full_width, self.full_height)):
            return f"it has only {width}x{height} pixels"
        if abs(math.log(width / height * self.full_height / self.full_width)) > RATIO_TOLERANCE:
            return f"it has {width}x{height} pixels, which is not {self.ratio}"
        if answer.alpha is not None and answer.alpha.min() < OPAQUE:
            return "it is transparent"
        return None

    def restore(self, answer: RGBImage) -> RGBImage:
        """The part of the answer that is the picture, in the picture's size."""
        full = resized(answer, (self.full_width, self.full_height))
        left, top = self._offset
        return full[top : top + self.height, left : left + self.width].copy()

    @property
    def _offset(self) -> tuple[int, int]:
        return (self.full_width - self.width) // 2, (self.full_height - self.height) // 2


def reduced(image: RGBImage) -> RGBImage:
    """The picture with at most MAX_SENT_SIDE pixels a side."""
    height, width = image.shape[:2]
    scale = MAX_SENT_SIDE / max(height, width)
    return image if scale >= 1 else shrink(image, (max(1, round(width * scale)), max(1, round(height * scale))))


def resized(image: RGBImage, size: tuple[int, int]) -> RGBImage:
    """Resize to (width, height)."""
    if image.shape[1] >= size[0] and image.shape[0] >= size[1]:
        return shrink(image, size)
    enlarged: RGBImage = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return enlarged


def _value(ratio: str) -> float:
    width, height = ratio.split(":")
    return int(width) / int(height)
