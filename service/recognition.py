"""From pictures to faces: decodes what was sent, finds the face that is meant, embeds and measures it.

Everything here blocks: handlers run it in the inference pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np

from config import Settings
from face_analysis import FaceAnalysis, analyze_face
from face_detector import Face, FaceDetector, Recogniser, sight
from face_landmarks import FaceLandmarks
from face_matching import FaceChoice, choose_face
from facial_expression import ExpressionModel
from service.base64_picture import decode_base64
from service.errors import FaceNotFoundError, InvalidValueError
from service.image_io import decode_image
from service.model_store import ModelStore, Profile
from utils import RGBImage, Stopwatch

Picture: TypeAlias = BinaryIO | str
"""A picture as it was sent: a file, or base64 text."""

PHOTO_SIDE_PX = 1600
"""A JPEG is decoded at a half, a quarter or an eighth as long as its longer side keeps this many pixels."""
LEAST_FACE_PX = 64
"""Width of a face below which a reduced picture is decoded again in full: on eight photos the embedding's cosine with
the original's then fell from 0.95-0.99 to 0.83-0.93; from this width on it fell by 0.01 at most."""
MAX_FACES = 100
"""Faces of one picture that are worked on, the largest ones: a poster of thousands must not hold a worker."""


@dataclass(frozen=True, slots=True)
class FaceOptions:
    """Which faces of a picture are meant; a `det_threshold` of None is the configured one."""

    choice: FaceChoice = "largest"
    all_faces: bool = False
    det_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A decoded picture and its faces, largest first, in its own pixels.

    Attributes:
        rgb: HxWx3 uint8, upright by its EXIF orientation.
        scale: pixels of `rgb` per pixel of the picture as it was sent.
        image_shape: height, width and channels of the upright picture as it was sent.
        faces_found: how many there are, of which `faces` has the largest `MAX_FACES`.
        chosen: the index of the face that is meant; None where there is no face.
        wanted: the indices of the faces that are asked for.
        rotation_applied: degrees clockwise by which the picture had to be turned before a face was found.
    """

    rgb: RGBImage
    scale: float
    image_shape: tuple[int, int, int]
    faces: Sequence[Face]
    faces_found: int
    chosen: int | None
    wanted: Sequence[int]
    rotation_applied: Literal[0, 90, 180, 270]
    det_threshold: float

    @property
    def chosen_index(self) -> int:
        """`chosen`, of a picture that has a face."""
        assert self.chosen is not None
        return self.chosen

    def as_sent(self, face: Face) -> Face:
        """The face in pixels of the picture as it was sent."""
        factor = np.float32(1 / self.scale)
        return replace(face, bbox=face.bbox * factor, kps=face.kps * factor)


class FaceRecognition:
    """Finds, embeds and measures the faces of what clients send. Thread-safe."""

    def __init__(
        self,
        detector: FaceDetector,
        landmarks: FaceLandmarks,
        *,
        max_pixels: int,
        det_threshold: float,
        expression_model: ExpressionModel | None,
    ) -> None:
        self.detector = detector
        self.landmarks = landmarks
        self.expression_model = expression_model
        self.max_pixels = max_pixels
        self.det_threshold = det_threshold

    @property
    def group_size(self) -> int:
        """Pictures whose faces are embedded together: on a CPU that gains nothing and delays the first answers."""
        return self.detector.batch

    def least_confidence(self, options: FaceOptions) -> float:
        """The detection threshold that `options` mean."""
        return self.det_threshold if options.det_threshold is None else options.det_threshold

    def see(self, picture: Picture, options: FaceOptions, clock: Stopwatch) -> Seen:
        """Decode a picture and find its faces.

        Raises:
            ServiceError: it is no picture that is taken, or has faces, but none of the number that is asked for.
        """
        return self._look(_read(picture, clock), options, clock, reduce_to=PHOTO_SIDE_PX)

    def see_face(self, picture: Picture, options: FaceOptions, clock: Stopwatch) -> Seen:
        """As `see`, of a picture that must have a face, with all the pixels that a small one has.

        Raises:
            FaceNotFoundError: it has none.
        """
        data = _read(picture, clock)
        seen = self._look(data, options, clock, reduce_to=PHOTO_SIDE_PX)
        if seen.scale < 1 and any(_width(seen.faces[index]) < LEAST_FACE_PX for index in seen.wanted):
            seen = self._look(data, options, clock, reduce_to=None)
        if seen.chosen is None:
            raise FaceNotFoundError
        return seen

    def _look(self, data: bytes, options: FaceOptions, clock: Stopwatch, *, reduce_to: int | None) -> Seen:
        with clock.stage("decode"):
            image = decode_image(data, max_pixels=self.max_pixels, to_srgb=True, reduce_to=reduce_to)
        det_threshold = self.least_confidence(options)
        with clock.stage("detect"):
            sighting = sight(self.detector, image.rgb, threshold=det_threshold)
        faces = sighting.faces[:MAX_FACES]
        height, width = image.rgb.shape[:2]
        chosen = choose_face(faces, options.choice, (width, height)) if faces else None
        return Seen(
            rgb=image.rgb,
            scale=image.scale,
            image_shape=(image.full_size[1], image.full_size[0], 3),
            faces=faces,
            faces_found=len(sighting.faces),
            chosen=chosen,
            wanted=range(len(faces)) if options.all_faces else () if chosen is None else (chosen,),
            rotation_applied=sighting.rotation_applied,
            det_threshold=det_threshold,
        )

    def recognise(self, seen: Sequence[Seen], clock: Stopwatch, *, attributes: bool = False) -> list[dict[int, Face]]:
        """The wanted faces of each picture by index, in pixels of the picture as it was sent.

        They have embeddings as far as there is a recogniser, and gender and age where `attributes` asks for them.
        """
        with clock.stage("embed"):
            pictures = [(each.rgb, [each.faces[index] for index in each.wanted]) for each in seen]
            known = self.detector.recognise(pictures, attributes=attributes)
        return [
            {index: each.as_sent(face) for index, face in zip(each.wanted, faces, strict=True)}
            for each, faces in zip(seen, known, strict=True)
        ]

    def analyze(self, seen: Seen, clock: Stopwatch) -> dict[int, FaceAnalysis]:
        """The wanted faces measured, by index; points in pixels of the picture as it was sent."""
        analyses = {}
        for index in seen.wanted:
            face = seen.faces[index]
            with clock.stage("mesh"):
                mesh = face.mesh or self.landmarks.mesh(seen.rgb, face.kps)
                mesh = self.landmarks.refit(seen.rgb, mesh) if mesh else None
            with clock.stage("analyze"):
                analyses[index] = analyze_face(
                    seen.rgb, mesh, face.bbox, scale=seen.scale, expression_model=self.expression_model
                )
        return analyses


def _read(picture: Picture, clock: Stopwatch) -> bytes:
    with clock.stage("decode"):
        return decode_base64(picture) if isinstance(picture, str) else picture.read()


def _width(face: Face) -> float:
    return float(face.bbox[2] - face.bbox[0])


@dataclass(frozen=True, slots=True)
class Standard:
    """What two embeddings are judged by. `source` says where the threshold comes from, or why there is none."""

    model: str | None
    threshold: float | None
    source: str


def standard_for(
    model: str | None, dimension: int, *, recogniser: Recogniser | None, profiles: Mapping[str, Profile]
) -> Standard:
    """The threshold of the model that gave embeddings of `dimension` numbers.

    Args:
        model: its name; None takes the installed recogniser, if that gives embeddings of this length.

    Raises:
        InvalidValueError: the named model gives embeddings of another length.
    """
    if model is None and (recogniser is None or recogniser.dimension != dimension):
        return Standard(None, None, "It is not known which model gave the embeddings. Send model_a, or a threshold.")
    known = recogniser if recogniser and model in {None, recogniser.model} else profiles.get(model or "")
    if known is None:
        return Standard(model, None, f"{model} is not known here. Send a threshold of your own.")
    name = known.model if isinstance(known, Recogniser) else known.name
    if known.dimension not in {None, dimension}:
        raise InvalidValueError(f"An embedding of {name} has {known.dimension} numbers, but these have {dimension}.")
    source = known.threshold_source or f"No threshold is known for {name}. Send one of your own."
    return Standard(name, known.threshold, source)


def why_no_recogniser(settings: Settings, models: ModelStore) -> str:
    """What is missing where there are no embeddings, and the command that gets it; names no path of this machine."""
    pack = Path(settings.face_model).name
    how = f"Get it with `{models.how_to_get(pack)}` and start the service again."
    if settings.face_engine == "mediapipe":
        return f"FACE_ENGINE=mediapipe gives no embeddings. Set FACE_ENGINE=auto and FACE_MODEL={pack}. {how}"
    folder = f"MODELS_DIR/{pack}" if pack == settings.face_model else "the folder of FACE_MODEL"
    return f"The face pack {pack} is not installed: there is no .onnx file of a recogniser in {folder}. {how}"
