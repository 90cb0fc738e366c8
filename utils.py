"""Small pure helpers and array types that several engines share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

RGBImage: TypeAlias = NDArray[np.uint8]
"""HxWx3 uint8, RGB."""
GrayImage: TypeAlias = NDArray[np.uint8]
"""HxW uint8: a mask (0..255) or one channel."""
FloatArray: TypeAlias = NDArray[np.float32]
"""float32 of any shape; the docstring of its holder says which."""
AnyArray: TypeAlias = NDArray[Any]


def smoothstep(t: AnyArray) -> FloatArray:
    """0 below 0, 1 above 1, a smooth cubic (3t^2 - 2t^3) between."""
    t = np.clip(t, 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)


class Stopwatch:
    """Milliseconds spent in named stages, summed where a stage runs more than once."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + (time.perf_counter() - start) * 1000
