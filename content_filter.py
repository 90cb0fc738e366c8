"""Whether a generated picture is safe for work, by a classifier that is installed from the manifest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from onnx_session import OnnxClassifier
from service.errors import ModelUnavailableError
from service.model_store import locate_pack
from utils import RGBImage

PROFILE = "content_filter"
"""The model's name in models.toml and its folder's in MODELS_DIR."""
HOW_TO_GET = f"Get it with `python main.py models pull {PROFILE}`."
INPUT_PX = 384
UNSAFE = 1
"""The second of the model's two scores: not safe for work."""


def load_content_filter(models_dir: Path) -> ContentFilter:
    """The installed filter.

    Raises:
        ModelUnavailableError: there is none, or it is broken.
    """
    folder = locate_pack(PROFILE, models_dir)
    if folder is None:
        raise ModelUnavailableError(f"CONTENT_FILTER=true, but its model isn't installed. {HOW_TO_GET}")
    return ContentFilter(min(folder.glob("*.onnx")))


class ContentFilter(OnnxClassifier):
    """An ONNX classifier: 1x3x384x384 RGB in -1..1 to 1x2 logits, safe and unsafe. Thread-safe; on one CPU core."""

    def __init__(self, file: Path) -> None:
        """Load `file` and run it once.

        Raises:
            ModelUnavailableError: it is broken, or another kind of model.
        """
        super().__init__(file, side=INPUT_PX, classes=2, kind="a content filter", how_to_get=HOW_TO_GET)

    def unsafe_probability(self, image_rgb: RGBImage) -> float:
        """How sure the model is that a picture (HxWx3 uint8) is not safe for work, 0 to 1."""
        resized = cv2.resize(image_rgb, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA)
        return float(self.probabilities(np.asarray(resized, np.uint8))[UNSAFE])
