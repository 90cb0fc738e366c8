"""Try-ons on files: from the bytes of two photos to the bytes of a picture, and what is to be told about it.

Everything here blocks: handlers run it in the inference pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from face_landmarks import FaceLandmarks
from service.errors import QualityCheckError, TryOnTimeoutError, naming
from service.image_io import DecodedImage, ImageFormat, decode_image, on_white
from tryon_final import FinalPicture
from tryon_pipeline import Stage, TryOnDraft, TryOnEngines, TryOnOptions, draft
from utils import GrayImage, RGBImage, shrink

Mode: TypeAlias = Literal["draft", "final"]

MOST_SIDE_PX = 3072
"""Of a result: a draft is made in WORK_IMAGE_SIZE, and a photo of 40 megapixels would take gigabytes to put it into."""


@dataclass(frozen=True, slots=True)
class TryOnRequest:
    """What is wanted: two pictures as files, and how.

    allow_fallback: a final try-on may give its draft where the image model gives nothing that can be used.
    require_quality: a draft below the threshold is a failure.
    """

    user_image: bytes
    product_image: bytes
    options: TryOnOptions = field(default_factory=TryOnOptions)
    mode: Mode = "draft"
    format: ImageFormat = "png"
    require_quality: bool = False
    allow_fallback: bool = True


@dataclass(frozen=True, slots=True)
class Photos:
    """The pictures of a request: RGB, upright, sRGB; the garment's own transparency where it has one."""

    person: RGBImage
    garment: RGBImage
    garment_alpha: GrayImage | None


@dataclass(frozen=True, slots=True)
class Drafted:
    """A draft, what it was made from, and milliseconds by stage."""

    photos: Photos
    made: TryOnDraft
    timings_ms: dict[str, float]


class Deadline:
    """The time that one try-on has."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds; none are less than 0."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises TryOnTimeoutError once the time is over."""
        if self.left_s == 0:
            raise TryOnTimeoutError(
                f"The try-on took longer than {self._seconds:g} s. Try again when the service has less to do, or with "
                "smaller photos.",
                retry_after_s=10,
            )


class TryOn:
    """Dresses the people of photos. Thread-safe."""

    def __init__(self, engines: TryOnEngines, landmarks: FaceLandmarks, *, max_pixels: int, timeout_s: float) -> None:
        self._engines = engines
        self._landmarks = landmarks
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s

    def deadline(self) -> Deadline:
        """Of a try-on that begins now."""
        return Deadline(self._timeout_s)

    def check(self, request: TryOnRequest) -> None:
        """Find out whether both pictures can be decoded.

        Raises:
            ServiceError: one of the image errors, which names the picture.
        """
        self._decode(request)

    def draft(
        self,
        request: TryOnRequest,
        *,
        deadline: Deadline,
        on_stage: Callable[[Stage], None] = lambda _: None,
        keep_debug: bool = False,
    ) -> Drafted:
        """Make the draft. `on_stage` hears each stage when it begins; what it raises ends the work.

        Raises:
            ServiceError: one of the image errors, what `tryon_pipeline.draft` raises, or TryOnTimeoutError.
        """
        clock = _StageClock()

        def enter(stage: Stage) -> None:
            clock.enter(stage)
            deadline.check()
            on_stage(stage)

        enter("load")
        photos = self._decode(request)
        made = draft(
            photos.person, photos.garment, request.options, engines=self._engines,
            garment_alpha=photos.garment_alpha, on_stage=enter, keep_debug=keep_debug,
        )  # fmt: skip
        clock.enter(None)
        return Drafted(photos, made, clock.timings_ms)

    def final_picture(self, drafted: Drafted, options: TryOnOptions) -> FinalPicture:
        """What the image model is asked, how its answer is judged, and what becomes of it."""
        photos = drafted.photos
        garment = photos.garment if photos.garment_alpha is None else on_white(photos.garment, photos.garment_alpha)
        return FinalPicture(photos.person, garment, drafted.made, options, self._engines, self._landmarks)

    def _decode(self, request: TryOnRequest) -> Photos:
        with naming("user_image"):
            person = self._picture(request.user_image, reduce_to=MOST_SIDE_PX)
        with naming("product_image"):
            garment = self._picture(request.product_image, reduce_to=request.options.work_image_size)
        scale = min(1.0, MOST_SIDE_PX / max(person.rgb.shape[:2]))
        size = (max(1, round(person.rgb.shape[1] * scale)), max(1, round(person.rgb.shape[0] * scale)))
        rgb = person.rgb if person.alpha is None else on_white(person.rgb, person.alpha)
        return Photos(shrink(rgb, size), garment.rgb, garment.alpha)

    def _picture(self, data: bytes, *, reduce_to: int) -> DecodedImage:
        return decode_image(data, max_pixels=self._max_pixels, to_srgb=True, reduce_to=reduce_to)


def check_quality(request: TryOnRequest, made: TryOnDraft) -> None:
    """Refuse a draft that the caller would not take.

    Raises:
        QualityCheckError: it is below the threshold, and that was asked to be a failure.
    """
    if request.require_quality and not made.passed:
        worst = sorted(made.quality.scores, key=made.quality.scores.__getitem__)[:2]
        raise QualityCheckError(
            f"The best of {len(made.attempts)} attempts scored {made.quality.score:g}, below "
            f"{request.options.quality_threshold:g}; its worst terms are {' and '.join(worst)}. Use a photo of the "
            "garment laid flat and of the person standing, seen from the front; or take it without require_quality."
        )


class _StageClock:
    """Milliseconds between one stage's beginning and the next one's, summed where a stage comes again."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._stage: str | None = None
        self._since = 0.0

    def enter(self, stage: str | None) -> None:
        now = time.perf_counter()
        if self._stage is not None:
            self.timings_ms[self._stage] = self.timings_ms.get(self._stage, 0.0) + (now - self._since) * 1000
        self._stage, self._since = stage, now
