"""Every failure a client can meet: a stable code, an HTTP status and one sentence that says what to do.

Engines and services raise these; `service.error_handlers` turns them into the one error envelope of the API.
The message is public. What only the operator may know (paths, causes) belongs in the exception's `__cause__`,
which is logged and never sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeAlias

NO_FACE = "No face detected in image"
STORAGE_RETRY_S = 5
"""Seconds after which a storage that did not answer is worth another request."""

ImageModelReason: TypeAlias = Literal[
    "NO_KEY", "FORBIDDEN", "CANCELLED", "BUSY", "CIRCUIT_OPEN", "TIMEOUT", "UNAVAILABLE", "RATE_LIMITED",
    "QUOTA_EXHAUSTED", "CREDIT_EXHAUSTED", "CONFIG_ERROR", "MODEL_GONE", "REQUEST_REFUSED", "CONTENT_BLOCKED",
    "NO_IMAGE", "TRUNCATED", "BAD_RESPONSE", "CHECK_FAILED",
]  # fmt: skip
"""Why the image model gave no picture that can be used; docs/image-model.md says what each one means."""


class ServiceError(Exception):
    """Base of all expected failures.

    `retry_after_s` becomes a Retry-After header: set it only where waiting can help.
    """

    code = "INTERNAL_ERROR"
    status = 500
    fields: ClassVar[Mapping[str, Any]] = {}
    """What the answer has beside `detail`, `code` and `request_id`."""

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to this failure."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class BadRequestError(ServiceError):
    """The request contradicts itself or lacks a part."""

    code = "BAD_REQUEST"
    status = 400


class UnauthorizedError(ServiceError):
    """No credentials, or none that are known here."""

    code = "UNAUTHORIZED"
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return super().headers | {"WWW-Authenticate": "Bearer"}


class ForbiddenError(ServiceError):
    """The caller is known, and may not do this."""

    code = "FORBIDDEN"
    status = 403


class NotFoundError(ServiceError):
    """No such id."""

    code = "NOT_FOUND"
    status = 404


class ModelMismatchError(ServiceError):
    """The embeddings come from different models: their similarity means nothing."""

    code = "MODEL_MISMATCH"
    status = 409


class ConflictError(ServiceError):
    """The request contradicts what is stored already."""

    code = "CONFLICT"
    status = 409


class JobNotFinishedError(ServiceError):
    """The job has no result (yet, or any more)."""

    code = "JOB_NOT_FINISHED"
    status = 409


class JobFailedError(ServiceError):
    """The job failed or was cancelled, so there is no result; the sentence is the job's own."""

    code = "JOB_FAILED"
    status = 409


class PayloadTooLargeError(ServiceError):
    """More bytes than MAX_UPLOAD_SIZE."""

    code = "FILE_TOO_LARGE"
    status = 413


class InvalidBase64Error(ServiceError):
    """The text is not standard base64 of a picture."""

    code = "INVALID_BASE64"
    status = 422


class UnsupportedImageError(ServiceError):
    """The bytes are not one of the image formats that are taken."""

    code = "UNSUPPORTED_IMAGE"
    status = 415


class ImageTooLargeError(ServiceError):
    """More pixels than MAX_PIXELS, read from the header before anything is decoded."""

    code = "IMAGE_TOO_LARGE"
    status = 422


class ImageUnreadableError(ServiceError):
    """An image of a known format whose content is broken or cut short, or too small to hold a face."""

    code = "IMAGE_UNREADABLE"
    status = 422


class InvalidValueError(ServiceError):
    """A well-formed value that this picture or service can't use (a box outside the image, slot 7 of 2)."""

    code = "INVALID_VALUE"
    status = 422


class UrlNotAllowedError(ServiceError):
    """A URL that this service does not open. One sentence for every reason: it must not tell what a network holds."""

    code = "URL_NOT_ALLOWED"
    status = 422


class UrlNotFetchedError(ServiceError):
    """A URL gave no picture: not reached, not in time, too large, or something else. One sentence for every reason."""

    code = "URL_NOT_FETCHED"
    status = 422


class NoFaceDetectedError(ServiceError):
    """The photo shows no face. The sentence is the seed's; what to do is appended by the caller."""

    code = "NO_FACE_DETECTED"
    status = 422

    def __init__(self, advice: str = "Use a clear, well-lit photo with a visible face.") -> None:
        super().__init__(f"No faces detected in the provided image. {advice}")


class FaceNotFoundError(NoFaceDetectedError):
    """No face in the picture: the answer has `face_detected` and `error` too, as in the first version."""

    fields: ClassVar[Mapping[str, Any]] = {"face_detected": False, "error": NO_FACE}

    def __init__(self) -> None:
        super().__init__()
        self.message = f"{NO_FACE}. Use a sharp, well-lit picture with a visible face, or lower det_threshold."


class NoFaceSlotError(ServiceError):
    """The page shows no face that could be replaced, and none was given."""

    code = "NO_FACE_SLOT"
    status = 422


class RateLimitedError(ServiceError):
    """More requests than RATE_LIMIT allows this caller; nothing of this one was read."""

    code = "RATE_LIMITED"
    status = 429


class SegmentationFailedError(ServiceError):
    """The person can't be told from the background."""

    code = "SEGMENTATION_FAILED"
    status = 422


class NoPersonError(SegmentationFailedError):
    """The photo shows nobody."""


class SeveralPeopleError(SegmentationFailedError):
    """The photo shows more than one person."""


class PersonTooSmallError(SegmentationFailedError):
    """The person is too small in the photo to be dressed."""


class PoseFailedError(ServiceError):
    """The person's shoulders and hips can't be found."""

    code = "POSE_FAILED"
    status = 422


class SeatedPersonError(PoseFailedError):
    """The person sits, crouches or lies."""


class TurnedPersonError(PoseFailedError):
    """The person is seen from the side or from behind."""


class GarmentSegmentationError(ServiceError):
    """The garment can't be told from its background, or its outline lacks a part."""

    code = "GARMENT_SEGMENTATION_FAILED"
    status = 422


class WornGarmentError(GarmentSegmentationError):
    """The product photo shows the garment on a person."""


class WarpFailedError(ServiceError):
    """The garment can't be brought onto the person."""

    code = "WARP_FAILED"
    status = 422


class QualityCheckError(ServiceError):
    """No attempt fits well enough, and the caller wants no other."""

    code = "QUALITY_CHECK_FAILED"
    status = 422


class TryOnTimeoutError(ServiceError):
    """The try-on took longer than TRYON_TIMEOUT."""

    code = "TIMEOUT"
    status = 503


class ContentBlockedError(ServiceError):
    """The content filter keeps every picture of this request back."""

    code = "CONTENT_BLOCKED"
    status = 422


class CancelledError(ServiceError):
    """The caller gave the work up."""

    code = "CANCELLED"
    status = 409


class BusyError(ServiceError):
    """The inference queue or the job queue is full; nothing of the request was kept."""

    code = "BUSY"
    status = 503


class DatabaseUnavailableError(ServiceError):
    """The database does not answer; nothing was changed."""

    code = "DATABASE_UNAVAILABLE"
    status = 503


class ModelUnavailableError(ServiceError):
    """A model that this request needs is not installed, or its hardware is missing."""

    code = "MODEL_UNAVAILABLE"
    status = 503


class StorageFullError(ServiceError):
    """The disk takes no more; nothing half-written was left behind."""

    code = "STORAGE_FULL"
    status = 507


class StorageUnavailableError(ServiceError):
    """The storage of files does not answer, or refuses the service; nothing was changed."""

    code = "STORAGE_UNAVAILABLE"
    status = 503

    def __init__(self, message: str = "The storage of files does not answer. Try again later.") -> None:
        super().__init__(message, retry_after_s=STORAGE_RETRY_S)


class StorageRefusedError(StorageUnavailableError):
    """The storage answers, and does not let the service in: an operator must mend it."""


class ModelDownloadError(ServiceError):
    """A model could not be fetched, verified or unpacked; what was installed before is untouched."""

    code = "MODEL_DOWNLOAD_FAILED"
    status = 503


class ImageModelError(ServiceError):
    """The hosted image model gave no picture that can be used.

    Attributes:
        reason: why; what a draft that stands in for the picture is marked with.
        attempts: requests that were sent.
        latency_s: seconds from the call to the failure.
    """

    code = "NANO_API_ERROR"
    status = 503

    def __init__(
        self,
        message: str,
        *,
        reason: ImageModelReason,
        attempts: int = 0,
        latency_s: float = 0.0,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.reason = reason
        self.attempts = attempts
        self.latency_s = latency_s


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Say which of several parts of a request an error is about."""
    try:
        yield
    except ServiceError as error:
        if error.status < 500:
            error.message = f"{part}: {error.message}"
        raise
