"""What clients are told about a try-on: in answers, in the status of jobs, and in webhooks."""

from __future__ import annotations

from pydantic import BaseModel, Field

from garment_anchors import GarmentType
from service.errors import ImageModelError, ImageModelReason
from service.image_model import ImageModelAnswer
from service.tryon import Drafted, Mode, TryOnRequest
from tryon_quality import TERMS

SEED_CODES = {
    "UNSUPPORTED_IMAGE": "INVALID_IMAGE_FORMAT", "IMAGE_UNREADABLE": "INVALID_IMAGE_FORMAT",
    "STORAGE_FULL": "STORAGE_ERROR", "STORAGE_UNAVAILABLE": "STORAGE_ERROR",
}  # fmt: skip
"""Codes that have another name in the try-on's own document."""


def seed_code(code: str) -> str:
    """What the try-on's own document calls a failure."""
    return SEED_CODES.get(code, code)


class QualityTerm(BaseModel):
    """One measure of a draft; docs/tryon.md says what each one is."""

    value: float = Field(description="As measured.")
    score: float = Field(description="1 at `good` and beyond, 0 at `bad` and beyond, linear between them.")
    weight: float = Field(description="Its share of the whole score.")
    good: float
    bad: float
    gate: bool = Field(description="Whether a score of 0 alone fails the draft: the whole is 0.49 at most then.")


class TryOnQuality(BaseModel):
    """How well the draft fits, in what can be measured without knowing the right answer."""

    score: float = Field(
        description="0 to 1: the weighted mean of all terms' scores, halved where the worst is 0.",
        examples=[0.93],
    )
    passed: bool = Field(description="Whether the score reaches `threshold`.")
    threshold: float = Field(description="QUALITY_THRESHOLD.", examples=[0.7])
    failed: list[str] = Field(description="Terms that alone fail the draft.")
    terms: dict[str, QualityTerm]


class TryOnAttempt(BaseModel):
    """One attempt at the draft; the best is kept."""

    change: str = Field(description="What was done differently.", examples=["a stiffer net and a closer fit"])
    score: float


class GeneratedBy(BaseModel):
    """The image model's picture that was taken."""

    model: str = Field(examples=["gemini-nano-banana-2.1"])
    attempts: int = Field(description="Requests that were sent; each may be paid for.")
    latency_s: float
    width: int = Field(description="Of the model's own picture, in pixels, before it was brought to the photo's size.")
    height: int


class TryOnDetails(BaseModel):
    """What was made, and how."""

    mode: Mode
    media_type: str = Field(examples=["image/png"])
    width: int = Field(description="Pixels: the photo's own, at most 3072 a side.")
    height: int
    garment_type: GarmentType = Field(description="As given, or as it was recognised.", examples=["tshirt"])
    attempts: list[TryOnAttempt] = Field(description="All attempts at the draft, the first one first.")
    warnings: list[str] = Field(description="What was guessed, such as a sleeve whose elbow is hidden.")
    provider_fallback: bool = Field(description="Whether a final try-on gave its draft: the image model gave nothing.")
    provider_fallback_reason: ImageModelReason | None = Field(description="Why; see docs/image-model.md.")
    provider_fallback_detail: str | None = Field(description="The same as a sentence.")
    generated_by: GeneratedBy | None = Field(description="Null for drafts.")
    artifacts: list[str] = Field(description="What GET /api/tryon/artifacts/{job_id} gives; see SAVE_DEBUG_ARTIFACTS.")
    timings_ms: dict[str, float] = Field(description="Milliseconds of each stage.")


class TryOnReport(TryOnDetails):
    """What was made, and how good it is."""

    quality: TryOnQuality

    @classmethod
    def of(
        cls,
        request: TryOnRequest,
        drafted: Drafted,
        *,
        media_type: str,
        outcome: ImageModelAnswer | ImageModelError | None = None,
        artifacts: list[str] | None = None,
        timings_ms: dict[str, float] | None = None,
    ) -> TryOnReport:
        """`outcome` is what the image model gave, where it was asked."""
        made, threshold = drafted.made, request.options.quality_threshold
        height, width = made.image_rgb.shape[:2]
        failure = outcome if isinstance(outcome, ImageModelError) else None
        answer = outcome if isinstance(outcome, ImageModelAnswer) else None
        return cls(
            mode=request.mode,
            media_type=media_type,
            width=width,
            height=height,
            garment_type=made.garment_type,
            quality=TryOnQuality(
                score=made.quality.score,
                passed=made.passed,
                threshold=threshold,
                failed=list(made.quality.failed),
                terms={
                    name: QualityTerm(
                        value=value, score=made.quality.scores[name], weight=term.weight, good=term.good, bad=term.bad,
                        gate=term.gate,
                    )
                    for name, value in made.quality.terms.items()
                    for term in (TERMS[name],)
                },
            ),
            attempts=[TryOnAttempt(change=each.change, score=each.quality.score) for each in made.attempts],
            warnings=made.warnings,
            provider_fallback=failure is not None,
            provider_fallback_reason=failure and failure.reason,
            provider_fallback_detail=failure and failure.message,
            generated_by=answer and GeneratedBy(
                model=answer.model, attempts=answer.attempts, latency_s=round(answer.latency_s, 2),
                width=answer.answered_size[0], height=answer.answered_size[1],
            ),
            artifacts=artifacts or [],
            timings_ms={stage: round(ms, 2) for stage, ms in {**drafted.timings_ms, **(timings_ms or {})}.items()},
        )  # fmt: skip
