"""Find the faces of a photo."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated, BinaryIO, Literal
from uuid import UUID

from fastapi import APIRouter, File, UploadFile
from pydantic import BaseModel, Field

from face_detector import Face, FaceDetector
from service.deps import Detector, Pool, SettingsDep, StorageDep, Timings
from service.image_io import decode_image, encode_image
from service.storage import Storage
from utils import FloatArray

router = APIRouter(tags=["faces"])

Box = Annotated[list[float], Field(min_length=4, max_length=4)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class DetectedFace(BaseModel):
    """One face. What the installed models can't tell is null, and `unavailable` says why."""

    bbox: Box = Field(description="x1, y1, x2, y2 in pixels of the upright picture.", examples=[[100, 50, 200, 150]])
    kps: list[Point] = Field(
        description="x, y in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the picture."
    )
    embedding: list[float] | None = Field(description="L2-normalised; compare only embeddings of the same model.")
    gender: Literal["M", "F"] | None = Field(description="As it appears to the model.")
    age: int | None = Field(description="Years, as it appears to the model.")
    det_score: float = Field(description="The detector's confidence, 0 to 1.")
    unavailable: dict[str, str] = Field(description="For each field that is null, the reason.")

    @classmethod
    def of(cls, face: Face) -> DetectedFace:
        """As JSON takes it; a hundredth of a pixel is finer than any detector."""
        return cls(
            bbox=_rounded(face.bbox, 2),
            kps=[_rounded(point, 2) for point in face.kps],
            embedding=None if face.embedding is None else _rounded(face.embedding, 7),
            gender=face.gender,
            age=face.age,
            det_score=round(face.det_score, 4),
            unavailable=dict(face.unavailable),
        )


class DetectionResults(BaseModel):
    """The faces of one picture."""

    detected: bool
    faces: list[DetectedFace] = Field(description="Largest first; empty where there is none.")
    image_shape: list[int] = Field(
        min_length=3, max_length=3, description="Height, width and channels of the upright picture.",
        examples=[[720, 1280, 3]],
    )  # fmt: skip


class DetectFaceAnswer(BaseModel):
    """The stored picture and its faces."""

    success: bool
    file_id: UUID = Field(description="GET /download/{file_id} answers with the picture until it expires.")
    file_path: str = Field(examples=["uploads/4f0f4a5e-7c8e-4e7a-9d55-0f3c5b1f6a33.jpg"])
    detection_results: DetectionResults


@router.post("/detect-face", response_model=DetectFaceAnswer)
async def detect_face(
    file: Annotated[UploadFile, File(description="A photo. It is stored without its metadata until it expires.")],
    detector: Detector,
    storage: StorageDep,
    settings: SettingsDep,
    pool: Pool,
    timings: Timings,
) -> DetectFaceAnswer:
    """Every face with its box, five points and, where a face pack is installed, embedding, gender and age."""
    return await pool.run(_detect_and_store, file.file, detector, storage, settings.max_pixels, timings)


def _detect_and_store(
    photo: BinaryIO, detector: FaceDetector, storage: Storage, max_pixels: int, timings: dict[str, float]
) -> DetectFaceAnswer:
    """In a worker thread. The picture is stored last: what fails before leaves nothing behind."""
    started = perf_counter()
    image_rgb = decode_image(photo, max_pixels=max_pixels, to_srgb=True).rgb
    decoded = perf_counter()
    faces = detector.analyze(image_rgb)
    analyzed = perf_counter()
    # Encoded anew, so that neither EXIF (place, device) nor anything hidden in the file is kept.
    stored = storage.save_upload(encode_image(image_rgb, format="jpeg"), suffix="jpg")
    timings["decode"] = (decoded - started) * 1000
    timings["faces"] = (analyzed - decoded) * 1000
    timings["store"] = (perf_counter() - analyzed) * 1000
    results = DetectionResults(
        detected=bool(faces), faces=[DetectedFace.of(face) for face in faces], image_shape=list(image_rgb.shape)
    )
    return DetectFaceAnswer(success=True, file_id=stored.id, file_path=stored.key, detection_results=results)


def _rounded(values: FloatArray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
