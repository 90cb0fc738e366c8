"""Small ONNX models on the CPU, each with the cores that it was given; among them classifiers of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from service.errors import ModelUnavailableError
from utils import AnyArray, FloatArray, RGBImage


def cpu_session(file: Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session that runs on so many cores; one where a run is too short to be shared.

    Raises:
        Exception: the file can't be run. onnxruntime's own exceptions share no base below Exception.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


class OnnxClassifier:
    """A model from 1x3xNxN RGB in -1..1 to a score for each class. Thread-safe; on one CPU core."""

    def __init__(self, file: Path, *, side: int, classes: int, kind: str, how_to_get: str) -> None:
        """Load `file` and run it once. `side` is N; `kind` is what the model is for, in errors.

        Raises:
            ModelUnavailableError: it is broken, or another kind of model.
        """
        self.name = file.stem
        try:
            self._session = cpu_session(file)
            self._input = self._session.get_inputs()[0].name
            found = self.probabilities(np.zeros((side, side, 3), np.uint8)).size
        except Exception as error:  # onnxruntime's own exceptions share no base below Exception
            raise ModelUnavailableError(f"{file.name} can't be run as {kind}. {how_to_get}") from error
        if found != classes:
            raise ModelUnavailableError(f"{file.name} gives {found} scores instead of {classes}. {how_to_get}")

    def probabilities(self, image_rgb: RGBImage) -> FloatArray:
        """(classes,) of a picture of the model's size, NxNx3 uint8; they sum to 1."""
        normalised = image_rgb.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
        return _softmax(np.asarray(self._session.run(None, {self._input: normalised})[0], np.float32).ravel())


def _softmax(scores: AnyArray) -> FloatArray:
    """The scores as they are where the model ends in a softmax, else their softmax."""
    if scores.min() >= 0 and abs(float(scores.sum()) - 1) < 1e-3:
        return scores
    exponentials = np.exp(scores - scores.max())
    return np.asarray(exponentials / exponentials.sum(), np.float32)
