"""Gemini's generateContent on the wire: a request's body, and what each kind of answer means. No input, no output.

A failure often comes as HTTP 200 without a picture. Field names come in camelCase or snake_case, base64 in its URL-safe
alphabet or the usual one: gateways and versions differ.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from service.errors import ImageModelReason
from service.image_model_frame import Frame

TEMPERATURE = 0.4
"""Low: a photo is to be kept but for what the prompt changes."""
BLOCKED = frozenset(
    {"SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "RECITATION", "IMAGE_RECITATION",
     "BLOCKLIST", "SPII"}
)  # fmt: skip
"""finishReason of a picture that the provider withholds."""
CLIENT_CLOSED_REQUEST = 499
NO_QUOTA = re.compile(r"limit: 0(?![.\d])")
"""In the message of a 429: this account has no quota for this model at all, and waiting gives it none."""
NO_CREDIT = re.compile(r"depleted|prepa(id|yment)", re.IGNORECASE)
"""In the message of a 429: what was paid for is used up."""
SECONDS = re.compile(r"(\d{1,6}(?:\.\d+)?)s?")
"""Of RetryInfo ("34.5s") and of Retry-After ("34")."""

MESSAGES: dict[ImageModelReason, str] = {
    "BUSY": "The image model had no free turn before the deadline. Try again later.",
    "CIRCUIT_OPEN": "The image model has failed several times in a row and is not asked for a while. Try again later.",
    "CANCELLED": "The call was cancelled.",
    "TIMEOUT": "The image model did not answer in time. Try again later.",
    "UNAVAILABLE": "The image model can't be reached or is overloaded. Try again later.",
    "RATE_LIMITED": "The image model takes no more requests for the moment. Try again later.",
    "QUOTA_EXHAUSTED": "The image model's quota for today is used up, or there is none. Try again tomorrow.",
    "CREDIT_EXHAUSTED": "The image model's prepaid credit is used up. The operator must add some.",
    "REQUEST_REFUSED": "The image model refuses the request. Try other pictures.",
    "MODEL_GONE": "The provider has none of NANO_BANANA_MODELS. The operator must set it, or NANO_BANANA_API_URL.",
    "CONTENT_BLOCKED": "The image model's provider blocks these pictures or this result. Try other pictures.",
    "NO_IMAGE": "The image model answered without a picture. Try again.",
    "TRUNCATED": "The image model's answer was cut short. Try again.",
    "BAD_RESPONSE": "The image model's answer can't be read. Try again later.",
}
"""For clients: what happened, and what to do. The reasons that are missing here have more than one sentence."""
BAD_KEY = "The image model refuses the key. The operator must set NANO_BANANA_API_KEY."
BAD_ACCOUNT = "The image model refuses the account or this region. The operator must see to its billing."
BAD_URL = "The image model's address redirects, which is not followed. The operator must set NANO_BANANA_API_URL."


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    content: bytes
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt gave no picture.

    Attributes:
        message: for clients.
        detail: for the log, still to be cleaned: the provider's own words may repeat what was sent.
        retry_after_s: how long the provider asks to wait, in seconds.
        advice: what to add to the prompt of the next attempt.
    """

    reason: ImageModelReason
    message: str
    detail: str = ""
    retry_after_s: float | None = None
    advice: str = ""

    @classmethod
    def of(cls, reason: ImageModelReason, detail: str = "", retry_after_s: float | None = None) -> Failure:
        """A failure with its usual sentence."""
        advice = "Answer with one picture only, without words." if reason == "NO_IMAGE" else ""
        return cls(reason, MESSAGES[reason], detail, retry_after_s, advice)

    @classmethod
    def refused(cls, fault: str) -> Failure:
        """A picture that can't be trusted; `fault` is the end of a sentence."""
        message = f"The image model's picture was refused: {fault}."
        return cls("CHECK_FAILED", message, detail=fault, advice=f"Avoid this fault: {fault}.")


def request_body(prompt: str, jpegs: Sequence[bytes], *, frame: Frame, model: str, seed: int | None) -> bytes:
    """A request for one picture.

    Args:
        prompt: what to do with the pictures.
        jpegs: the pictures, as files.
        frame: the aspect ratio and size to answer in.
        model: the name of the model that it is for.
        seed: 0 to 2**31 - 1; None leaves it to chance.
    """
    image_config: dict[str, str] = {"aspectRatio": frame.ratio}
    if not model.startswith("gemini-2"):  # these have one size, and refuse a request that names one
        image_config["imageSize"] = frame.image_size
    generation: dict[str, Any] = {
        "temperature": TEMPERATURE,
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": image_config,
    }
    if seed is not None:
        generation["seed"] = seed
    parts: list[dict[str, Any]] = [
        {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(jpeg).decode("ascii")}} for jpeg in jpegs
    ]
    contents = [{"role": "user", "parts": [*parts, {"text": prompt}]}]
    return json.dumps({"contents": contents, "generationConfig": generation}).encode("ascii")


def read_reply(reply: Reply) -> bytes | Failure:
    """The picture of an answer, as a file that nobody has looked into yet; or why there is none."""
    body = _read(reply.content)
    if reply.status == HTTPStatus.OK and body is None:
        return Failure.of("BAD_RESPONSE", "HTTP 200 without the JSON of an answer")
    if reply.status == HTTPStatus.OK and body is not None and body.error is None:
        return _picture(body)
    error = body.error if body is not None else None
    return _failure(reply, error)


class _Wire(BaseModel):
    """Read under both spellings, null as absent. Errors don't show their input: it may be a picture."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", hide_input_in_errors=True, frozen=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: object) -> object:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class _Blob(_Wire):
    data: str


class _Part(_Wire):
    inline_data: _Blob | None = None
    thought: bool = False


class _Content(_Wire):
    parts: tuple[_Part, ...] = ()


class _Candidate(_Wire):
    content: _Content = _Content()
    finish_reason: str = ""


class _PromptFeedback(_Wire):
    block_reason: str = ""


class _Violation(_Wire):
    quota_id: str = ""


class _ErrorDetail(_Wire):
    """ErrorInfo, RetryInfo and QuotaFailure in one: their fields don't meet."""

    reason: str = ""
    retry_delay: str = ""
    violations: tuple[_Violation, ...] = ()


class _Error(_Wire):
    code: int | str = 0
    status: str = ""
    message: str = ""
    details: tuple[_ErrorDetail, ...] = ()


class _Body(_Wire):
    candidates: tuple[_Candidate, ...] = ()
    prompt_feedback: _PromptFeedback = _PromptFeedback()
    error: _Error | None = None


def _read(content: bytes) -> _Body | None:
    try:
        return _Body.model_validate_json(content)
    except ValidationError:
        return None


def _picture(body: _Body) -> bytes | Failure:
    if not body.candidates:
        if body.prompt_feedback.block_reason:
            return Failure.of("CONTENT_BLOCKED", f"blockReason {body.prompt_feedback.block_reason}")
        return Failure.of("BAD_RESPONSE", "neither candidates nor a blockReason")
    candidate = body.candidates[0]
    detail = f"finishReason {candidate.finish_reason or 'absent'}"
    if candidate.finish_reason in BLOCKED:
        return Failure.of("CONTENT_BLOCKED", detail)
    if candidate.finish_reason == "MAX_TOKENS":
        return Failure.of("TRUNCATED", detail)
    # A thinking model may show its sketches first, as thoughts.
    blobs = [part.inline_data for part in candidate.content.parts if part.inline_data and not part.thought]
    if not blobs:
        return Failure.of("NO_IMAGE", detail)
    try:
        return _decode_base64(blobs[-1].data)
    except ValueError:
        return Failure.of("BAD_RESPONSE", "the picture is no base64")


def _decode_base64(data: str) -> bytes:
    standard = data.replace("-", "+").replace("_", "/")
    return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _failure(reply: Reply, error: _Error | None) -> Failure:
    status = reply.status
    told = error or _Error()
    if status == HTTPStatus.OK:  # some gateways put the error into an answer that looks fine
        status = told.code if isinstance(told.code, int) else HTTPStatus.INTERNAL_SERVER_ERROR
    reasons = {detail.reason for detail in told.details}
    quotas = [violation.quota_id for detail in told.details for violation in detail.violations]
    detail = " ".join(filter(None, [f"HTTP {status}", told.status, *sorted(reasons), *quotas, told.message]))
    wait = _longest_wait(reply, told)
    if "API_KEY_INVALID" in reasons or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Failure("CONFIG_ERROR", BAD_KEY, detail)
    if told.status == "FAILED_PRECONDITION":
        return Failure("CONFIG_ERROR", BAD_ACCOUNT, detail)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Failure("CONFIG_ERROR", BAD_URL, detail)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Failure.of(_reason_of_limit(told.message, reasons, quotas), detail, wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and error is None:
        return Failure.of("BAD_RESPONSE", detail, wait)
    return Failure.of(_reason_of_status(status), detail, wait)


def _reason_of_status(status: int) -> ImageModelReason:
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return "CREDIT_EXHAUSTED"
    if status == HTTPStatus.NOT_FOUND:
        return "MODEL_GONE"
    if status == CLIENT_CLOSED_REQUEST:
        return "TIMEOUT"
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "UNAVAILABLE"
    return "REQUEST_REFUSED" if status >= HTTPStatus.BAD_REQUEST else "BAD_RESPONSE"


def _reason_of_limit(message: str, reasons: set[str], quotas: Sequence[str]) -> ImageModelReason:
    if "MODEL_CAPACITY_EXHAUSTED" in reasons:
        return "UNAVAILABLE"
    if NO_CREDIT.search(message):
        return "CREDIT_EXHAUSTED"
    if any("PerDay" in quota for quota in quotas) or NO_QUOTA.search(message):
        return "QUOTA_EXHAUSTED"
    return "RATE_LIMITED"


def _longest_wait(reply: Reply, error: _Error) -> float | None:
    delays = [reply.retry_after, *(detail.retry_delay for detail in error.details)]
    return max((float(match[1]) for delay in delays if (match := SECONDS.fullmatch(delay))), default=None)
