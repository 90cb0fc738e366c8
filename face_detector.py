"""Faces in a picture: boxes, five points, and, where a recogniser is installed, embeddings, gender and age.

Two engines stand behind one class. `InsightFaceDetector` runs any folder in InsightFace's pack format, through
insightface's own model classes; `MediaPipeDetector` is the embedded one, which finds faces and invents nothing else.
`load_face_detector` chooses between them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from face_landmarks import FaceLandmarks, FaceMesh
from service.errors import ModelUnavailableError
from service.model_store import locate_pack
from utils import FloatArray, RGBImage

Engine = Literal["auto", "insightface", "mediapipe"]
Device = Literal["auto", "cpu", "cuda"]

NOT_ASKED_FOR: Mapping[str, str] = dict.fromkeys(("embedding", "gender", "age"), "Only the position was asked for.")
"""Why the faces of `FaceDetector.detect` have no more than a place."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face of an upright image.

    Attributes:
        bbox: (4,) x1, y1, x2, y2 in pixels, clipped to the image.
        kps: (5, 2) x, y in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the image.
        det_score: the detector's confidence, 0..1.
        embedding: (D,) L2-normalised, or None.
        gender: "M" or "F" as it appears to the model, or None.
        age: years as they appear to the model, or None.
        unavailable: for each field that is None, the reason.
        mesh: the dense mesh, where the engine fits one to every face on its way.
    """

    bbox: FloatArray
    kps: FloatArray
    det_score: float
    embedding: FloatArray | None = None
    gender: Literal["M", "F"] | None = None
    age: int | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    mesh: FaceMesh | None = None


class FaceDetector(ABC):
    """Finds faces; safe to call from many threads at once, since nothing of a call is kept.

    Attributes:
        engine: "insightface" or "mediapipe".
        model: the profile or pack folder's name, or MediaPipe's version.
        provider: what the model really runs on, in onnxruntime's names.
        embeds: whether a recogniser is loaded.
    """

    engine: str
    model: str
    provider: str
    embeds: bool

    @abstractmethod
    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        """Boxes and points only, largest area first.

        Args:
            image_rgb: HxWx3 uint8 RGB, upright.
            threshold: least confidence, 0..1; the configured one when None.
        """

    @abstractmethod
    def analyze(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        """As `detect`, with the embedding, gender and age that the installed models can give."""

    @abstractmethod
    def embed(self, image_rgb: RGBImage, kps: FloatArray) -> FloatArray:
        """The (D,) float32 L2-normalised embedding of the face at `kps` (5, 2).

        Raises:
            ModelUnavailableError: no recogniser is installed.
            InvalidValueError: the points don't span a face.
        """


class MediaPipeDetector(FaceDetector):
    """The embedded engine: faces and points from the models that MediaPipe's wheel carries."""

    engine = "mediapipe"
    provider = "XNNPACK CPU"
    embeds = False

    def __init__(self, landmarks: FaceLandmarks, *, det_threshold: float, missing_pack: str) -> None:
        """`missing_pack` names the pack that would give embeddings: it goes into the reasons for their absence."""
        self.model = f"mediapipe-{version('mediapipe')}"
        self._landmarks = landmarks
        self._det_threshold = det_threshold
        self._why_none = (
            "The embedded MediaPipe engine has no model for it. Install a face pack with "
            f"`python main.py models pull {missing_pack}`."
        )

    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        boxes = self._landmarks.detect(image_rgb, threshold=self._det_threshold if threshold is None else threshold)
        return [Face(box.bbox, box.kps, box.score, unavailable=NOT_ASKED_FOR, mesh=box.mesh) for box in boxes]

    def analyze(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        unavailable = dict.fromkeys(("embedding", "gender", "age"), self._why_none)
        return [
            Face(face.bbox, face.kps, face.det_score, unavailable=unavailable)
            for face in self.detect(image_rgb, threshold=threshold)
        ]

    def embed(self, image_rgb: RGBImage, kps: FloatArray) -> FloatArray:  # noqa: ARG002 - the same call as the other engine
        raise ModelUnavailableError(self._why_none)


def load_face_detector(
    *,
    engine: Engine,
    model: str,
    det_threshold: float,
    device: Device,
    models_dir: Path,
    landmarks: FaceLandmarks,
    threads: int,
) -> FaceDetector:
    """Build the detector that the settings ask for, and refuse anything that would quietly be something else.

    Args:
        engine: "auto" takes InsightFace when the pack is installed and the embedded engine when it isn't.
        model: a profile's name (a folder in `models_dir`) or the path of a pack folder.
        det_threshold: least detection confidence, 0..1.
        device: "cuda" must really run on CUDA; "auto" takes it where it runs.
        threads: CPU cores that all of the detector's onnxruntime sessions together may use.

    Raises:
        ModelUnavailableError: the pack is missing, incomplete or broken, or CUDA doesn't run. The sentence names
            the folder, the file and the command: it is for the operator, at start-up.
    """
    pack = None if engine == "mediapipe" else locate_pack(model, models_dir)
    if pack is not None:
        # onnxruntime, insightface and what they pull in cost a second and 100 MB: only a pack pays for them.
        from insightface_pack import InsightFaceDetector

        return InsightFaceDetector(pack, det_threshold=det_threshold, device=device, threads=threads)
    if engine == "insightface":
        raise ModelUnavailableError(
            f"FACE_ENGINE=insightface, but there is no face pack {model!r} in {models_dir.resolve()}. "
            f"Get it with `python main.py models pull {model}`, or set FACE_ENGINE=auto."
        )
    if device == "cuda":
        raise ModelUnavailableError(
            "DEVICE=cuda, but the embedded MediaPipe engine runs on the CPU only. "
            f"Get a face pack with `python main.py models pull {model}`, or set DEVICE=auto."
        )
    return MediaPipeDetector(landmarks, det_threshold=det_threshold, missing_pack=model)
