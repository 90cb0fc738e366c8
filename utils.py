"""Small pure helpers and array types that several engines share."""

from __future__ import annotations

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
