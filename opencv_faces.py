"""The OpenCV engine of `face_detector`: YuNet finds faces, SFace recognises them; both may be used commercially.

OpenCV's own classes run the models. They keep state between two calls (input size, threshold, the network's buffers),
so that each belongs to one thread at a time: there is a small pool of them.

The limits of `face_points` were measured with SCRFD. They are relative, so that they serve here too, but nobody has
measured them with YuNet's weights.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from face_detector import recogniser_of
from face_models import Role, broken
from face_points import ARCFACE_POINTS, arcface_crop
from face_search import NMS_OVERLAP, Candidates, SearchingDetector
from service.errors import ModelUnavailableError
from utils import AnyArray, FloatArray, RGBImage

CROP_SIDE = 112
CORES_PER_MODEL = 4
"""OpenCV spreads each run over all cores; a convolution of these sizes gains little beyond this many."""


@dataclass(frozen=True, slots=True)
class _Models:
    """One of each, for one thread at a time."""

    yunet: Any
    sface: Any


class OpenCVDetector(SearchingDetector):
    """A folder with YuNet and, for embeddings, SFace, as published in opencv_zoo."""

    engine = "opencv"
    provider = "OpenCV DNN CPU"
    coarse_side = 256
    """YuNet was trained on faces of about 10 to 300 px, and portraits fill the frame."""

    def __init__(
        self,
        pack: Path,
        files: Mapping[Role, Path],
        *,
        det_threshold: float,
        threads: int,
        match_threshold: float | None = None,
    ) -> None:
        """Load the models and run each once.

        Args:
            pack: the folder.
            files: its models, as `face_models.pack_models` tells them apart.
            det_threshold: least detection confidence, 0..1.
            threads: CPU cores that this process may use.
            match_threshold: see `load_face_detector`.

        Raises:
            ModelUnavailableError: there is no detector, or OpenCV can't run a file.
        """
        if "yunet" not in files:
            raise ModelUnavailableError(f"The face pack {pack} has no YuNet detection model.")
        self.model = pack.name
        self.det_threshold = det_threshold
        self._free: queue.SimpleQueue[_Models] = queue.SimpleQueue()
        for _ in range(max(1, threads // CORES_PER_MODEL)):
            sface = _sface(files["recognition"]) if "recognition" in files else None
            self._free.put(_Models(_yunet(files["yunet"]), sface))
        self.missing = dict.fromkeys(("gender", "age"), f"The face pack {self.model} has no gender and age model.")
        self.recogniser = None
        blank = np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8)
        self.detect(blank)
        if "recognition" not in files:
            self.missing["embedding"] = f"The face pack {self.model} has no recognition model."
            return
        (vector,) = self._embeddings([(blank, ARCFACE_POINTS)])
        self.recogniser = recogniser_of(
            files["recognition"], model=self.model, dimension=len(vector), match_threshold=match_threshold
        )

    def _run_detector(self, scaled_rgb: AnyArray, side: int, threshold: float) -> Candidates:  # noqa: ARG002 - OpenCV pads
        """See the base class."""
        image_bgr = np.ascontiguousarray(scaled_rgb[:, :, ::-1])
        with self._borrowed() as models:
            models.yunet.setInputSize(image_bgr.shape[1::-1])
            models.yunet.setScoreThreshold(threshold)
            _, rows = models.yunet.detect(image_bgr)
        # One row a face: x, y, width, height, the five points from the left as seen in the picture, score.
        rows = np.empty((0, 15), np.float32) if rows is None else rows
        boxes = np.hstack((rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, 14:]))
        return Candidates(boxes, rows[:, 4:14].reshape(-1, 5, 2))

    def _embeddings(self, faces: Sequence[tuple[RGBImage, FloatArray]]) -> list[FloatArray]:
        vectors = []
        for image_rgb, kps in faces:
            crop_bgr = arcface_crop(image_rgb, kps, CROP_SIDE)[:, :, ::-1]
            with self._borrowed() as models:
                vectors.append(models.sface.feature(np.ascontiguousarray(crop_bgr))[0].copy())
        return vectors

    @contextmanager
    def _borrowed(self) -> Iterator[_Models]:
        models = self._free.get()
        try:
            yield models
        finally:
            self._free.put(models)


def _yunet(file: Path) -> Any:
    return _loaded(file, lambda: cv2.FaceDetectorYN.create(str(file), "", (32, 32), nms_threshold=NMS_OVERLAP))


def _sface(file: Path) -> Any:
    return _loaded(file, lambda: cv2.FaceRecognizerSF.create(str(file), ""))


def _loaded(file: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except cv2.error as error:
        raise broken(file) from error
