"""Faces in a picture: boxes, five points, and, where a recogniser is installed, embeddings, gender and age.

Three engines stand behind one class. `InsightFaceDetector` runs any folder in InsightFace's pack format, through
insightface's own model classes; `OpenCVDetector` runs YuNet and SFace, which may be used commercially;
`MediaPipeDetector` is the embedded one, which finds faces and invents nothing else. `load_face_detector` chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from face_crops import unturned
from face_landmarks import FaceLandmarks, FaceMesh
from service.errors import ModelUnavailableError
from service.model_store import identify, locate_pack
from utils import FloatArray, RGBImage, shrink

Engine = Literal["auto", "insightface", "opencv", "mediapipe"]
Device = Literal["auto", "cpu", "cuda"]

TURNED_SIDE = 640
"""Longer side in pixels of the copy on which a turned picture is tried."""
NOT_ASKED_FOR: Mapping[str, str] = dict.fromkeys(("embedding", "gender", "age"), "Only the position was asked for.")
"""Why the faces of `FaceDetector.detect` have no more than a place."""


@dataclass(frozen=True, slots=True)
class Recogniser:
    """What an embedding belongs to: two are comparable only where this is the same.

    Attributes:
        model: the profile's or pack folder's name.
        dimension: numbers in an embedding.
        threshold: least cosine of one person, inclusive; None where nobody measured one.
        threshold_source: where the threshold comes from, or why there is none and what to set.
        sha256: of the recogniser's weights.
    """

    model: str
    dimension: int
    threshold: float | None
    threshold_source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Face:
    """One face of an upright image.

    Attributes:
        bbox: (4,) x1, y1, x2, y2 in pixels, clipped to the image.
        kps: (5, 2) x, y in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the image.
        det_score: the detector's confidence, 0..1.
        embedding: (D,) L2-normalised, or None.
        gender: "M" or "F" as it appears to the model, or None.
        gender_probability: the model's own probability of `gender` (softmax), 0.5..1.
        age: years as they appear to the model, or None.
        age_range: the model's lowest and highest answer when it sees the same face mirrored, and cut a little tighter
            and wider: how far its answer hangs on the crop, not how far it may be from the truth.
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
    gender_probability: float | None = None
    age_range: tuple[int, int] | None = None


class FaceDetector(ABC):
    """Finds faces; safe to call from many threads at once, since nothing of a call is kept.

    Attributes:
        engine: "insightface", "opencv" or "mediapipe".
        model: the profile or pack folder's name, or MediaPipe's version.
        provider: what the models really run on; onnxruntime's providers by their own names.
        recogniser: what its embeddings belong to; None where it gives none.
        missing: the reason for each of embedding, gender and age that no installed model gives.
        batch: faces that the recogniser runs together; 1 where that gains nothing.
        looks_all_ways: whether `detect` itself looks at the picture turned, so that `sight` needn't.
    """

    engine: str
    model: str
    provider: str
    recogniser: Recogniser | None
    missing: Mapping[str, str]
    batch: int = 1
    looks_all_ways: bool = False

    @property
    def embeds(self) -> bool:
        """Whether there is a recogniser."""
        return self.recogniser is not None

    @abstractmethod
    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        """Boxes and points only, largest area first.

        Args:
            image_rgb: HxWx3 uint8 RGB, upright.
            threshold: least confidence, 0..1; the configured one when None.
        """

    def recognise(self, pictures: Sequence[tuple[RGBImage, Sequence[Face]]], *, attributes: bool) -> list[list[Face]]:
        """The same faces with what the installed models can tell of them.

        Args:
            pictures: each with its faces, as `detect` or `sight` gave them. The faces of all pictures are worked on
                together: in batches on a GPU, spread over the cores otherwise.
            attributes: gender and age too, not only the embedding.
        """
        faces = [(image_rgb, face) for image_rgb, found in pictures for face in found]
        unavailable = dict(self.missing)
        fields: list[dict[str, Any]] = [{} for _ in faces]
        if self.recogniser is not None:
            vectors = self._embeddings([(image_rgb, face.kps) for image_rgb, face in faces])
            fields = [{"embedding": _unit(vector)} for vector in vectors]
        if attributes:
            fields = [known | more for known, more in zip(fields, self._attributes(faces), strict=True)]
        else:
            unavailable |= dict.fromkeys(("gender", "age"), NOT_ASKED_FOR["age"])
        known = iter([replace(face, unavailable=unavailable, **f) for (_, face), f in zip(faces, fields, strict=True)])
        return [list(islice(known, len(found))) for _, found in pictures]

    def analyze(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        """As `detect`, with the embedding, gender and age that the installed models can give."""
        return self.recognise([(image_rgb, self.detect(image_rgb, threshold=threshold))], attributes=True)[0]

    def embed(self, image_rgb: RGBImage, kps: FloatArray) -> FloatArray:
        """The (D,) float32 L2-normalised embedding of the face at `kps` (5, 2).

        Raises:
            ModelUnavailableError: no recogniser is installed.
            InvalidValueError: the points don't span a face.
        """
        return _unit(self.vector(image_rgb, kps))

    def vector(self, image_rgb: RGBImage, kps: FloatArray) -> FloatArray:
        """As `embed`, but as long as the recogniser made it: what diffusion models that read faces were trained with.

        Raises:
            ModelUnavailableError, InvalidValueError: as `embed`.
        """
        if self.recogniser is None:
            raise ModelUnavailableError(self.missing["embedding"])
        return self._embeddings([(image_rgb, np.asarray(kps, np.float32))])[0]

    def _embeddings(self, faces: Sequence[tuple[RGBImage, FloatArray]]) -> list[FloatArray]:  # noqa: ARG002 - see engines
        """The recogniser's vector (D,) for each picture and the five points (5, 2) in it."""
        raise ModelUnavailableError(self.missing["embedding"])

    def _attributes(self, faces: Sequence[tuple[RGBImage, Face]]) -> list[dict[str, Any]]:
        """Gender and age, as fields of `Face`, of each face; nothing where no model gives them."""
        return [{} for _ in faces]


def _unit(vector: FloatArray) -> FloatArray:
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0:
        raise ModelUnavailableError("The recognition model gave no usable embedding: verify it with `models verify`.")
    return np.asarray(vector / norm, np.float32)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The faces of a picture that may not be upright.

    Attributes:
        faces: in pixels of the picture as given; `kps` in the order of the upright person.
        rotation_applied: degrees clockwise by which the picture had to be turned before a face was found.
    """

    faces: list[Face]
    rotation_applied: Literal[0, 90, 180, 270]


def sight(detector: FaceDetector, image_rgb: RGBImage, *, threshold: float | None = None) -> Sighting:
    """Detect; where nothing is found, look again with the picture turned by 90, 180 and 270 degrees."""
    faces = detector.detect(image_rgb, threshold=threshold)
    if faces or detector.looks_all_ways:
        return Sighting(faces, 0)
    # Most pictures without a face have none either way: a small copy tells which way is worth a whole look.
    height, width = image_rgb.shape[:2]
    scale = min(1.0, TURNED_SIDE / max(height, width))
    small = shrink(image_rgb, (max(1, round(scale * width)), max(1, round(scale * height))))
    rotations: tuple[Literal[90, 180, 270], ...] = (90, 180, 270)
    for rotation in rotations:
        turns = 4 - rotation // 90  # numpy turns counter-clockwise
        if not detector.detect(_turned(small, turns), threshold=threshold):
            continue
        if faces := detector.detect(_turned(image_rgb, turns), threshold=threshold):
            return Sighting([_turned_back(face, image_rgb.shape, turns) for face in faces], rotation)
    return Sighting([], 0)


def _turned(image_rgb: RGBImage, turns: int) -> RGBImage:
    return np.ascontiguousarray(np.rot90(image_rgb, turns))


def _turned_back(face: Face, shape: tuple[int, ...], turns: int) -> Face:
    """A face of `np.rot90(image, turns)` in pixels of the image, whose shape is given."""
    corners = unturned(face.bbox.reshape(2, 2), shape, turns)
    bbox = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)
    return replace(face, bbox=bbox, kps=unturned(face.kps, shape, turns), mesh=None)


class MediaPipeDetector(FaceDetector):
    """The embedded engine: faces and points from the models that MediaPipe's wheel carries."""

    engine = "mediapipe"
    provider = "XNNPACK CPU"
    recogniser = None
    looks_all_ways = True

    def __init__(self, landmarks: FaceLandmarks, *, det_threshold: float, missing_pack: str) -> None:
        """`missing_pack` names the pack that would give embeddings: it goes into the reasons for their absence."""
        self.model = f"mediapipe-{version('mediapipe')}"
        self._landmarks = landmarks
        self._det_threshold = det_threshold
        why = (
            "The embedded MediaPipe engine has no model for it. Install a face pack with "
            f"`python main.py models pull {missing_pack}`."
        )
        self.missing = dict.fromkeys(("embedding", "gender", "age"), why)

    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        boxes = self._landmarks.detect(image_rgb, threshold=self._det_threshold if threshold is None else threshold)
        return [Face(box.bbox, box.kps, box.score, unavailable=NOT_ASKED_FOR, mesh=box.mesh) for box in boxes]


def recogniser_of(weights: Path, *, model: str, dimension: int, match_threshold: float | None) -> Recogniser:
    """Describe a recogniser. A threshold belongs to the weights, so it is looked up by their SHA-256, not by a name."""
    sha256, profile = identify(weights)
    if match_threshold is not None:
        return Recogniser(model, dimension, match_threshold, "FACE_MATCH_THRESHOLD", sha256)
    if profile is None or profile.threshold is None:
        why = f"No threshold is known for {weights.name} of {model}. Set FACE_MATCH_THRESHOLD to your own."
        return Recogniser(model, dimension, None, why, sha256)
    return Recogniser(model, dimension, profile.threshold, profile.threshold_source or "", sha256)


def load_face_detector(
    *,
    engine: Engine,
    model: str,
    det_threshold: float,
    device: Device,
    models_dir: Path,
    landmarks: FaceLandmarks,
    threads: int,
    match_threshold: float | None = None,
) -> FaceDetector:
    """Build the detector that the settings ask for, and refuse anything that would quietly be something else.

    Args:
        engine: "auto" takes what the pack's models are made for, and the embedded engine when it isn't installed.
        model: a profile's name (a folder in `models_dir`) or the path of a pack folder.
        det_threshold: least detection confidence, 0..1.
        device: "cuda" must really run on CUDA; "auto" takes it where it runs.
        threads: CPU cores of this process; see `RunPolicy` for how runs share them.
        match_threshold: least cosine of one person; None takes the one that is known for the recogniser's weights.

    Raises:
        ModelUnavailableError: the pack is missing, incomplete or broken, or CUDA doesn't run. The sentence names
            the folder, the file and the command: it is for the operator, at start-up.
    """
    pack = None if engine == "mediapipe" else locate_pack(model, models_dir)
    if pack is not None:
        # onnx, onnxruntime, insightface and what they pull in cost a second and 100 MB: only a pack pays for them.
        from face_models import pack_models

        files = pack_models(pack)
        if engine == "opencv" or (engine == "auto" and "yunet" in files and "scrfd" not in files):
            if device == "cuda":
                raise ModelUnavailableError(
                    f"DEVICE=cuda, but the face pack {model} runs in OpenCV on the CPU only. "
                    "Choose an InsightFace pack as FACE_MODEL, or set DEVICE=auto."
                )
            from opencv_faces import OpenCVDetector

            return OpenCVDetector(
                pack, files, det_threshold=det_threshold, threads=threads, match_threshold=match_threshold
            )
        from insightface_pack import InsightFaceDetector

        return InsightFaceDetector(
            pack, files, det_threshold=det_threshold, device=device, threads=threads, match_threshold=match_threshold
        )
    if engine in ("insightface", "opencv"):
        raise ModelUnavailableError(
            f"FACE_ENGINE={engine}, but there is no face pack {model!r} in {models_dir.resolve()}. "
            f"Get it with `python main.py models pull {model}`, or set FACE_ENGINE=auto."
        )
    if device == "cuda":
        raise ModelUnavailableError(
            "DEVICE=cuda, but the embedded MediaPipe engine runs on the CPU only. "
            f"Get a face pack with `python main.py models pull {model}`, or set DEVICE=auto."
        )
    return MediaPipeDetector(landmarks, det_threshold=det_threshold, missing_pack=model)
