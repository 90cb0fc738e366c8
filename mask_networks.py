"""Masks of people and garments by the networks that rembg uses, where their weights are installed.

U2-Net for people (u2net_human_seg) and IS-Net for any object (isnet-general-use), as rembg publishes them. They are run
directly on onnxruntime: importing rembg compiles for most of a minute, and its own download knows no offline folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from onnx_session import cpu_session
from service.errors import ModelUnavailableError
from service.model_store import locate_pack
from utils import FloatArray, RGBImage, as_float, shrink

PERSON_PROFILE, GARMENT_PROFILE = "u2net_human_seg", "isnet-general-use"
"""The models' names in models.toml and their folders' in MODELS_DIR."""


@dataclass(frozen=True, slots=True)
class _Input:
    """side: pixels of the square input. mean, deviation: of the brightness 0..1 in each channel, RGB."""

    side: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


# U2-Net was trained on pictures normalised by ImageNet's statistics, IS-Net on ones moved to -0.5..0.5.
_INPUTS = {
    PERSON_PROFILE: _Input(320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    GARMENT_PROFILE: _Input(1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
}


def load_mask_network(profile: str, models_dir: Path, *, threads: int) -> MaskNetwork | None:
    """The installed network of a profile; None where there is none. `threads`: CPU cores that one run may use.

    Raises:
        ModelUnavailableError: what is installed is broken or another kind of model.
    """
    folder = locate_pack(profile, models_dir)
    return None if folder is None else MaskNetwork(min(folder.glob("*.onnx")), profile, threads=threads)


class MaskNetwork:
    """An ONNX network from 1x3xSxS RGB to a mask 1x1xSxS, the first of its outputs. Thread-safe."""

    def __init__(self, file: Path, profile: str, *, threads: int) -> None:
        """Load `file` and run it once.

        Raises:
            ModelUnavailableError: it is broken, or another kind of model.
        """
        self.name, self._form = profile, _INPUTS[profile]
        advice = f"Remove its folder and get it again with `python main.py models pull {profile}`."
        try:
            self._session = cpu_session(file, threads=threads)
            self._input = self._session.get_inputs()[0].name
            mask = self._run(np.zeros((self._form.side, self._form.side, 3), np.uint8))
        except Exception as error:  # onnxruntime's own exceptions share no base below Exception
            raise ModelUnavailableError(f"{file} can't be run as a mask network. {advice}") from error
        if mask.shape != (self._form.side, self._form.side):
            raise ModelUnavailableError(f"{file} gives {mask.shape} instead of one mask. {advice}")

    def __call__(self, image_rgb: RGBImage, /) -> FloatArray:
        """HxW float32 0..1: how much each pixel belongs to what the picture is of."""
        mask = self._run(shrink(image_rgb, (self._form.side, self._form.side)))
        # As rembg does: the network's own range is stretched to 0..1. A picture of nothing has hardly a range.
        low, high = float(mask.min()), float(mask.max())
        stretched = as_float((mask - low) / max(high - low, 0.1))
        return as_float(cv2.resize(stretched, (image_rgb.shape[1], image_rgb.shape[0])))

    def _run(self, square_rgb: RGBImage) -> FloatArray:
        brightest = max(int(square_rgb.max()), 1)
        values = (as_float(square_rgb) / brightest - np.array(self._form.mean)) / np.array(self._form.deviation)
        planes = np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)
        mask: FloatArray = self._session.run(None, {self._input: planes})[0].squeeze()
        return mask
