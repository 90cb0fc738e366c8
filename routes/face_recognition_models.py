"""What the face recognition routes answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field

from face_detector import Face, FaceDetector
from service.errors import NO_FACE, ServiceError
from service.recognition import Seen
from utils import AnyArray

Box = Annotated[
    list[float],
    Field(
        min_length=4,
        max_length=4,
        description="x1, y1, x2, y2 in pixels of the upright picture.",
        examples=[[100, 150, 200, 250]],
    ),
]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]
Numbers = Annotated[
    list[float],
    Field(
        description="L2-normalised, 7 decimals, as long as the model gives it (buffalo_l: 512). A biometric "
        "feature of a person; compare it only with those of the same `model`.",
        examples=[[0.0123456, -0.0456789]],
    ),
]


class LocatedFace(BaseModel):
    """Where a face is."""

    index: int = Field(description="Its number in the list of faces, 0 being the largest.", examples=[0])
    confidence: float = Field(description="The detector's confidence, 0 to 1; no similarity.", examples=[0.99])
    bbox: Box
    kps: list[Point] = Field(
        description="x, y in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the picture.",
        examples=[[[120, 190], [160, 190], [140, 210], [125, 230], [155, 230]]],
    )

    @classmethod
    def of(cls, face: Face, index: int, **more: Any) -> Self:
        """As JSON takes it; a hundredth of a pixel is finer than any detector."""
        return cls(
            index=index,
            confidence=round(face.det_score, 4),
            bbox=rounded(face.bbox, 2),
            kps=rounded(face.kps, 2),
            **more,
        )


class EmbeddedFace(LocatedFace):
    """A face and its embedding."""

    embedding: Numbers

    @classmethod
    def of(cls, face: Face, index: int, **more: Any) -> Self:
        assert face.embedding is not None  # the route asks for a recogniser
        return super().of(face, index, embedding=rounded(face.embedding, 7), **more)


class ModelFacts(BaseModel):
    """Which models an answer comes from."""

    model: str = Field(
        description="The face model. Only embeddings of one model can be compared.", examples=["buffalo_l"]
    )
    model_sha256: str | None = Field(
        description="SHA-256 (hex) of the recogniser's weights; null where there is no recogniser."
    )
    threshold: float | None = Field(
        description="Cosine similarity from which on two embeddings are taken for one person; null where nobody "
        "measured it for this model.",
        examples=[0.4],
    )
    threshold_source: str = Field(description="Where `threshold` comes from, or why it is null.")

    @classmethod
    def facts(cls, detector: FaceDetector) -> dict[str, Any]:
        """These fields as the detector has them."""
        recogniser = detector.recogniser
        if recogniser is None:
            why = f"{detector.model} gives no embeddings."
            return {"model": detector.model, "model_sha256": None, "threshold": None, "threshold_source": why}
        return {
            "model": recogniser.model,
            "model_sha256": recogniser.sha256,
            "threshold": recogniser.threshold,
            "threshold_source": recogniser.threshold_source,
        }


class PictureFacts(BaseModel):
    """How a picture was looked at."""

    faces_found: int = Field(description="All faces of the picture. More than one? `face` chooses.", examples=[1])
    rotation_applied: Literal[0, 90, 180, 270] = Field(
        description="Degrees clockwise by which the picture had to be turned, after its EXIF orientation, before a "
        "face was found. Boxes and points are those of the picture as it was."
    )
    image_shape: list[int] = Field(
        min_length=3, max_length=3, description="Height, width and channels of the upright picture.",
        examples=[[720, 1280, 3]],
    )  # fmt: skip
    det_threshold: float = Field(description="Least confidence of a detected face that was applied.", examples=[0.5])

    @classmethod
    def seen(cls, seen: Seen) -> dict[str, Any]:
        """These fields of a picture."""
        return {
            "faces_found": seen.faces_found,
            "rotation_applied": seen.rotation_applied,
            "image_shape": list(seen.image_shape),
            "det_threshold": seen.det_threshold,
        }


class Detected(BaseModel):
    """There is a face."""

    face_detected: Literal[True] = True


class FaceVerified(ModelFacts, PictureFacts, LocatedFace, Detected):
    """There is a face, and where it is. Its fields are those of the chosen face."""

    message: str = Field("Face detected successfully", description="For people.")
    faces: list[LocatedFace] | None = Field(None, description="With `faces=all`: every face, largest first.")


class NotDetected(BaseModel):
    """There is no face."""

    face_detected: Literal[False] = False
    error: str = Field(NO_FACE, description="What is wrong.", examples=[NO_FACE])


class NoFace(ModelFacts, PictureFacts, NotDetected):
    """There is no face in the picture."""


class EmbeddingExtracted(ModelFacts, PictureFacts, EmbeddedFace, Detected):
    """The embedding of the chosen face."""

    faces: list[EmbeddedFace] | None = Field(None, description="With `faces=all`: every face, largest first.")


class Similarity(BaseModel):
    """How alike two embeddings are."""

    similarity: float = Field(
        ge=-1, le=1, description="Cosine of the two embeddings, -1 to 1. Not a probability.", examples=[0.85]
    )
    distance: float = Field(ge=0, le=2, description="1 - similarity.", examples=[0.15])
    is_match: bool | None = Field(description="similarity >= threshold; null where no threshold is known.")
    metric: Literal["cosine"] = "cosine"

    @classmethod
    def judged(cls, similarity: float, threshold: float | None) -> dict[str, Any]:
        """These fields; what is compared with the threshold is what is shown."""
        shown = round(similarity, 7)
        match = None if threshold is None else shown >= threshold
        return {"similarity": shown, "distance": round(1 - shown, 7), "is_match": match}


class EmbeddingsCompared(Similarity):
    """How alike two embeddings are, and by which threshold that was judged."""

    model: str | None = Field(
        description="The model whose threshold was applied: the one that is named, else the installed one where the "
        "embeddings are as long as its own; null where that is not known.",
        examples=["buffalo_l"],
    )
    threshold: float | None = Field(description="Cosine similarity from which on it is a match.", examples=[0.4])
    threshold_source: str = Field(description="Where `threshold` comes from, or why it is null.")


class ComparedFace(PictureFacts, LocatedFace):
    """The chosen face of one of two pictures."""


class ImagesCompared(ModelFacts, Similarity):
    """How alike the chosen faces of two pictures are."""

    face_a: ComparedFace = Field(description="The chosen face of `file_a`.")
    face_b: ComparedFace = Field(description="The chosen face of `file_b`.")


class BatchItem(BaseModel):
    """One picture of a batch: the embedding of its chosen face, or what is wrong with it."""

    index: int = Field(description="Its place in the request, from 0 on.")
    face_detected: bool = Field(description="Whether there is a face.")
    embedding: Numbers | None = Field(None, description="Of the chosen face; null where the picture failed.")
    confidence: float | None = Field(None, description="The detector's confidence, 0 to 1.", examples=[0.99])
    bbox: Box | None = Field(None, description="x1, y1, x2, y2 in pixels of the upright picture.")
    faces_found: int | None = Field(None, description="All faces of the picture.", examples=[1])
    rotation_applied: Literal[0, 90, 180, 270] | None = Field(
        None, description="Degrees clockwise by which the picture had to be turned before a face was found."
    )
    error: str | None = Field(None, description="What is wrong and what to do; null where there is an embedding.")
    code: str | None = Field(None, description="The code of the error.", examples=["NO_FACE_DETECTED"])

    @classmethod
    def of(cls, index: int, seen: Seen, face: Face) -> Self:
        """A picture that went well."""
        facts = PictureFacts.seen(seen)
        return cls(
            index=index,
            face_detected=True,
            faces_found=facts["faces_found"],
            rotation_applied=facts["rotation_applied"],
            **EmbeddedFace.of(face, seen.chosen_index).model_dump(include={"embedding", "confidence", "bbox"}),
        )

    @classmethod
    def failed(cls, index: int, error: ServiceError) -> Self:
        """A picture that went wrong."""
        return cls(index=index, face_detected=False, error=error.message, code=error.code)


class BatchCounts(BaseModel):
    """How many pictures of a batch went well."""

    total: int = Field(description="Pictures in the request.")
    successful: int = Field(description="Pictures with an embedding.")
    failed: int = Field(description="Pictures without: their `error` says why.")


class BatchResults(BaseModel):
    """All pictures of a batch."""

    results: list[BatchItem] = Field(description="In the order of the request.")


class BatchSummary(ModelFacts, BatchCounts):
    """How a batch went."""

    det_threshold: float = Field(description="Least confidence of a detected face that was applied.", examples=[0.5])


class BatchExtracted(BatchSummary, BatchResults):
    """All pictures of a batch, and how it went."""


class Progress(BaseModel):
    """How far a batch is."""

    done: int = Field(description="Pictures that are done, this one included.")
    total: int = Field(description="Pictures in the request.")


class BatchEvent(BatchItem):
    """What an `item` event holds: a picture, as soon as it is done."""

    progress: Progress = Field(description="How far the batch is.")


def rounded(values: AnyArray, digits: int) -> list[Any]:
    """Nested lists of Python floats, ten times faster than rounding one by one."""
    rounded_values: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded_values
