"""The example pages as arrays, and the engines that every machine has, for tests of the main job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from face_detector import FaceDetector, load_face_detector
from face_landmarks import FaceLandmarks
from personalizer import Personalizer
from tests.conftest import PAGES
from utils import RGBImage

PAGE_NAMES = ("kite_hill", "snowy_night", "treasure_island")


def drawn_page(name: str) -> RGBImage:
    """One of the example pages, 1024x1024 RGB."""
    with Image.open(PAGES / f"{name}.png") as image:
        return np.array(image.convert("RGB"))


def detector(landmarks: FaceLandmarks, pack: Path | None = None) -> FaceDetector:
    """The embedded detector, or the one of a pack folder."""
    return load_face_detector(
        engine="mediapipe" if pack is None else "insightface",
        model=str(pack),
        det_threshold=0.35,
        device="cpu",
        models_dir=Path("nowhere"),
        landmarks=landmarks,
        threads=2,
    )


@contextmanager
def embedded_engines() -> Iterator[tuple[Personalizer, FaceLandmarks]]:
    """The main job without a recogniser."""
    landmarks = FaceLandmarks(pool_size=2)
    try:
        yield Personalizer(detector=detector(landmarks), landmarks=landmarks), landmarks
    finally:
        landmarks.close()
