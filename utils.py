"""Small pure helpers and array types that several engines share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

RGBImage: TypeAlias = NDArray[np.uint8]
"""HxWx3 uint8, RGB."""
GrayImage: TypeAlias = NDArray[np.uint8]
"""HxW uint8: a mask (0..255) or one channel."""
FloatArray: TypeAlias = NDArray[np.float32]
"""float32 of any shape; the docstring of its holder says which."""
AnyArray: TypeAlias = NDArray[Any]
Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of a picture, with both ends."""

ScalarArray = TypeVar("ScalarArray", NDArray[np.uint8], NDArray[np.float32])

_REDUCED_SIGMA = 1.5  # pixels of the reduced copy: below, its own pixels would show


def as_float(values: AnyArray) -> FloatArray:
    """The same values as float32."""
    return values.astype(np.float32, copy=False)


def as_mask(where: AnyArray) -> GrayImage:
    """255 where booleans are true, 0 elsewhere. numpy.where would make 64-bit integers first."""
    mask: GrayImage = where.view(np.uint8) * np.uint8(255)
    return mask


def smoothstep(t: AnyArray) -> FloatArray:
    """0 below 0, 1 above 1, a smooth cubic (3t^2 - 2t^3) between."""
    clipped = as_float(np.clip(t, 0, 1))
    return clipped * clipped * (3 - 2 * clipped)


def shrink(image: ScalarArray, size: tuple[int, int]) -> ScalarArray:
    """Resize to (width, height), averaging areas when shrinking.

    OpenCV averages exact halves several times faster than any other ratio: halve as far as that goes, then interpolate.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        half = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        image = cv2.resize(half, (half.shape[1] // 2, half.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def placed(part: ScalarArray, window: Window, shape: tuple[int, ...]) -> ScalarArray:
    """A window's mask in a picture of a shape (height, width, ...): 0 beside the window."""
    whole = np.zeros(shape[:2], part.dtype)
    whole[window] = part
    return whole


def blur(image: ScalarArray, sigma: float) -> ScalarArray:
    """Gaussian blur; a wide one on a reduced copy, which loses nothing that the blur would keep.

    Not OpenCV's stack blur: its running sums depend on how threads share the rows, and results must not.
    """
    factor = int(sigma / _REDUCED_SIGMA)
    height, width = image.shape[:2]
    if factor < 2 or min(height, width) < 4 * factor:
        gaussian: ScalarArray = cv2.GaussianBlur(image, (0, 0), sigma)
        return gaussian
    small = cv2.resize(image, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    wide: ScalarArray = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / factor), (width, height))
    return wide


def lab_from_rgb(rgb: AnyArray) -> FloatArray:
    """HxWx3 RGB 0..255 of any dtype to CIE Lab (D65, sRGB), float32: L 0..100."""
    lab: FloatArray = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab


def rgb_from_lab(lab: FloatArray) -> FloatArray:
    """The inverse of `lab_from_rgb`: float32 RGB 0..255."""
    rgb: FloatArray = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255
    return rgb


def rgb8_from_lab(lab: FloatArray) -> RGBImage:
    """`rgb_from_lab`, rounded to uint8; OpenCV clips colours outside sRGB."""
    rgb: RGBImage = cv2.convertScaleAbs(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), alpha=255)
    return rgb


class Stopwatch:
    """Milliseconds spent in named stages, summed where a stage runs more than once.

    Args:
        timings_ms: where they are noted; a new dictionary when None.
    """

    def __init__(self, timings_ms: dict[str, float] | None = None) -> None:
        self.timings_ms: dict[str, float] = {} if timings_ms is None else timings_ms

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + (time.perf_counter() - start) * 1000
