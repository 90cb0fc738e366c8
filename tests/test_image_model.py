"""The hosted image model's client, against a local server that speaks the real wire format."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from skimage import data

from service.circuit_breaker import CircuitBreaker
from service.errors import ImageModelError, ImageModelReason
from service.image_model import MAX_RESPONSE_BYTES, ImageModel, ImageModelAnswer
from service.inference_pool import InferencePool
from tests.fake_image_model import (
    KEY,
    MODELS,
    RED,
    Answer,
    FakeImageModel,
    blocked_prompt,
    cut_short,
    dripping,
    edited,
    endless,
    error_info,
    fails,
    file_of,
    held,
    image_part,
    no_picture,
    parts_answer,
    picture,
    quota,
    retry_info,
    say,
    serving,
)
from utils import RGBImage

PROMPT = "Dress the person of the first picture in the garment of the second."
PERSON: RGBImage = np.ascontiguousarray(data.astronaut()[:, 64:448])
GARMENT: RGBImage = np.full((300, 200, 3), (20, 60, 160), np.uint8)

BUSY_ANSWERS = [fails(503, "UNAVAILABLE", "The model is overloaded.")] * 9


@dataclass
class Clock:
    """A clock that stands still, and sleep that does not last."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def server() -> Iterator[FakeImageModel]:
    with serving() as fake:
        yield fake


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def opened(server: FakeImageModel, clock: Clock, **changes: Any) -> AsyncIterator[ImageModel]:
    pool = InferencePool(max_workers=2, max_queue=0)
    options: dict[str, Any] = {
        "base_url": server.url, "key": SecretStr(KEY), "models": MODELS, "timeout_s": 120, "concurrency": 2,
        "allowed": True, "max_pixels": 20_000_000, "pool": pool, "sleep": clock.sleep,
        "breaker": CircuitBreaker(clock=lambda: clock.now),
    }  # fmt: skip
    model = ImageModel(**(options | changes))
    try:
        yield model
    finally:
        await model.close()
        pool.close()


def running(server: FakeImageModel, clock: Clock, work: Callable[[ImageModel], Awaitable[Any]], **changes: Any) -> Any:
    async def main() -> Any:
        async with opened(server, clock, **changes) as model:
            return await work(model)

    return asyncio.run(main())


def ask(server: FakeImageModel, clock: Clock, images: tuple[RGBImage, ...] = (PERSON, GARMENT), **options: Any) -> Any:
    """One call to a fresh client: the answer, or the error it ended with."""
    of_client = {name: options.pop(name) for name in list(options) if name in {"models", "base_url", "key", "allowed",
                 "timeout_s", "max_pixels", "proxy"}}  # fmt: skip
    return running(server, clock, lambda model: answer_of(model, images, **options), **of_client)


async def answer_of(
    model: ImageModel, images: tuple[RGBImage, ...] = (PERSON, GARMENT), **options: Any
) -> ImageModelAnswer | ImageModelError:
    try:
        return await model.edit(PROMPT, images, **options)
    except ImageModelError as error:
        return error


def check_picture(answer: Any, like: RGBImage = PERSON) -> None:
    """The answer is `like`, in its place, but for the red square in the middle of it."""
    assert isinstance(answer, ImageModelAnswer), answer
    assert answer.rgb.shape == like.shape
    assert answer.rgb.dtype == np.uint8
    height, width = like.shape[:2]
    assert np.abs(answer.rgb[height // 2, width // 2].astype(int) - RED).max() < 12
    rim = np.ones((height, width), bool)
    rim[height // 3 : -height // 3, width // 3 : -width // 3] = False
    assert np.abs(answer.rgb.astype(int) - like)[rim].mean() < 6


def test_a_picture_comes_back_in_the_size_it_was_sent_in(server: FakeImageModel, clock: Clock) -> None:
    answer = ask(server, clock, seed=7)
    check_picture(answer)
    assert (answer.model, answer.attempts, answer.answered_size) == ("first-image", 1, (896, 1200))
    assert answer.latency_s > 0
    (request,) = server.requests
    assert request.path == "/v1/models/first-image:generateContent"
    assert [image.size for image in request.pictures] == [(384, 512), (200, 300)]
    assert request.prompt == PROMPT
    generation = request.body["generationConfig"]
    assert generation["imageConfig"] == {"aspectRatio": "3:4", "imageSize": "1K"}
    assert generation["seed"] == 7


def test_the_key_travels_in_a_header_only(server: FakeImageModel, clock: Clock) -> None:
    ask(server, clock)
    (request,) = server.requests
    assert request.headers["x-goog-api-key"] == KEY
    assert KEY not in request.path
    assert KEY not in json.dumps(request.body)
    assert [name for name, value in request.headers.items() if KEY in value] == ["x-goog-api-key"]


def test_v1beta_is_spoken_too(server: FakeImageModel, clock: Clock) -> None:
    check_picture(ask(server, clock, base_url=server.url.replace("/v1", "/v1beta")))
    assert server.requests[0].version == "v1beta"


def test_a_model_of_the_second_generation_is_not_asked_for_a_size(server: FakeImageModel, clock: Clock) -> None:
    server.models = ("gemini-2.5-flash-image",)
    check_picture(ask(server, clock, models=server.models))
    assert "imageSize" not in server.requests[0].body["generationConfig"]["imageConfig"]


@pytest.mark.parametrize(
    ("width", "height"), [(512, 512), (500, 341), (384, 500), (300, 512), (260, 512), (512, 230), (511, 457), (40, 30)]
)
def test_whatever_its_shape_everything_stays_where_it_was(
    server: FakeImageModel, clock: Clock, width: int, height: int
) -> None:
    image = np.ascontiguousarray(data.astronaut()[:height, :width])
    check_picture(ask(server, clock, (image, GARMENT)), like=image)


def test_pictures_of_one_size_are_sent_in_one_frame(server: FakeImageModel, clock: Clock) -> None:
    image = np.ascontiguousarray(PERSON[:460])
    check_picture(ask(server, clock, (image, GARMENT, image)), like=image)
    photo, garment, draft = server.requests[0].pictures
    assert garment.size == (200, 300)
    assert np.array_equal(np.asarray(photo), np.asarray(draft))


def test_a_large_picture_is_sent_small_and_comes_back_large(server: FakeImageModel, clock: Clock) -> None:
    image = np.asarray(Image.fromarray(PERSON).resize((2304, 3072)))
    check_picture(ask(server, clock, (image, GARMENT)), like=image)
    assert server.requests[0].pictures[0].size == (1536, 2048)
    assert server.requests[0].body["generationConfig"]["imageConfig"]["imageSize"] == "2K"


def test_a_picture_that_is_nearly_a_line_is_not_sent(server: FakeImageModel, clock: Clock) -> None:
    error = ask(server, clock, (np.zeros((2000, 50, 3), np.uint8),))
    assert (error.reason, server.requests) == ("REQUEST_REFUSED", [])


def test_more_than_the_provider_takes_is_not_sent(server: FakeImageModel, clock: Clock) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    error = ask(server, clock, (noise,) * 14)
    assert (error.reason, server.requests) == ("REQUEST_REFUSED", [])


# What the wire may look like


def in_parts(build: Callable[[bytes], list[dict[str, Any]]], **options: Any) -> Answer:
    """An answer whose parts are built around the picture's file."""

    def send(handler: Any, request: Any) -> None:
        handler.reply(200, parts_answer(build(file_of(edited(request))), **options))

    return send


def odd(file: bytes) -> bytes:
    """The file with bytes after its end, such that its base64 needs padding."""
    return file + bytes(1 + -len(file) % 3)


SKETCH = file_of(Image.new("RGB", (896, 1200), "green"))


@pytest.mark.parametrize(
    "answer",
    [
        picture(snake=True),
        in_parts(lambda file: [image_part(file, url_safe=True)]),
        in_parts(lambda file: [image_part(odd(file), url_safe=True, padded=False)], snake=True),
        in_parts(lambda file: [{"text": "Here it is."}, image_part(file), {"text": "I hope you like it."}]),
        in_parts(lambda file: [image_part(SKETCH, thought=True), image_part(file, thoughtSignature="c2ln")]),
        in_parts(lambda file: [image_part(file), image_part(SKETCH, thought=True)]),
        in_parts(lambda file: [image_part(SKETCH), image_part(file)]),
        in_parts(lambda file: [image_part(file, text=None)], finish=None),
    ],
    ids=[
        "snake case",
        "URL-safe",
        "unpadded",
        "with words",
        "after a sketch",
        "before a sketch",
        "second of two",
        "nulls",
    ],
)
def test_a_picture_is_found_however_it_is_written(server: FakeImageModel, clock: Clock, answer: Answer) -> None:
    server.answers.append(answer)
    check_picture(ask(server, clock, max_retries=0))


# Failures


@dataclass(frozen=True)
class Case:
    """A row of the failure table: the provider's answers, what becomes of them, and how many requests that took."""

    answers: list[Answer]
    reason: ImageModelReason
    attempts: int


ONCE, ALL = 2, 4
PER_MINUTE = quota("GenerateRequestsPerMinutePerProjectPerModel")
PER_DAY = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
HTML = b"<html><body>502 Bad Gateway</body></html>"

CASES = {
    "prompt blocked": Case([blocked_prompt()], "CONTENT_BLOCKED", 1),
    **{
        f"picture blocked: {finish}": Case([no_picture(finish)], "CONTENT_BLOCKED", 1)
        for finish in (
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "PROHIBITED_CONTENT",
            "SAFETY",
            "IMAGE_RECITATION",
            "SPII",
        )
    },
    **{
        f"no picture: {finish}": Case([no_picture(finish)] * 9, "NO_IMAGE", ONCE)
        for finish in ("NO_IMAGE", "IMAGE_OTHER", "OTHER", "MALFORMED_RESPONSE")
    },
    "words only": Case([no_picture("STOP", "I can't dress people.")] * 9, "NO_IMAGE", ONCE),
    "a sketch only": Case([say(200, parts_answer([image_part(SKETCH, thought=True)]))] * 9, "NO_IMAGE", ONCE),
    "tokens ran out": Case([no_picture("MAX_TOKENS", "The per")] * 9, "TRUNCATED", ONCE),
    "tokens ran out in a picture": Case(
        [in_parts(lambda file: [image_part(file)], finish="MAX_TOKENS")] * 9, "TRUNCATED", ONCE
    ),
    "blocked beside a picture": Case(
        [in_parts(lambda file: [image_part(file)], finish="IMAGE_SAFETY")], "CONTENT_BLOCKED", 1
    ),
    "bad base64": Case(
        [say(200, parts_answer([{"inlineData": {"mimeType": "image/png", "data": "not?base64!"}}]))] * 9,
        "BAD_RESPONSE",
        ALL,
    ),
    "no such format": Case([say(200, parts_answer([image_part(b"GIF87 or not")]))] * 9, "BAD_RESPONSE", ALL),
    "half a picture": Case([in_parts(lambda file: [image_part(file[: len(file) // 2])])] * 9, "BAD_RESPONSE", ALL),
    "HTML as 200": Case([say(200, HTML)] * 9, "BAD_RESPONSE", ALL),
    "HTML as 502": Case([say(502, HTML, {"Content-Type": "text/html"})] * 9, "BAD_RESPONSE", ALL),
    "cut short": Case([cut_short] * 9, "BAD_RESPONSE", ALL),
    "JSON of another kind": Case([say(200, b'["candidates"]')] * 9, "BAD_RESPONSE", ALL),
    "nothing in it": Case([say(200, {})] * 9, "BAD_RESPONSE", ALL),
    "wrong types": Case([say(200, {"candidates": [{"content": {"parts": 7}}]})] * 9, "BAD_RESPONSE", ALL),
    "deep": Case([say(200, b'{"candidates":' + b"[" * 100_000)] * 9, "BAD_RESPONSE", ALL),
    "no content": Case([say(204, b"")] * 9, "BAD_RESPONSE", ALL),
    "compressed": Case([say(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})] * 9, "BAD_RESPONSE", ALL),
    "endless": Case([endless] * 9, "BAD_RESPONSE", ALL),
    "bad key": Case(
        [fails(400, "INVALID_ARGUMENT", "API key not valid.", [error_info("API_KEY_INVALID")])], "CONFIG_ERROR", 1
    ),
    "unauthenticated": Case([fails(401, "UNAUTHENTICATED")], "CONFIG_ERROR", 1),
    "forbidden": Case([fails(403, "PERMISSION_DENIED")], "CONFIG_ERROR", 1),
    "region": Case([fails(400, "FAILED_PRECONDITION", "User location is not supported.")], "CONFIG_ERROR", 1),
    "bad request": Case([fails(400, "INVALID_ARGUMENT", "Unable to process input image.")], "REQUEST_REFUSED", 1),
    "too large": Case([say(413, b"")], "REQUEST_REFUSED", 1),
    "no credit": Case([fails(402, "RESOURCE_EXHAUSTED", "Please do not retry.")], "CREDIT_EXHAUSTED", 1),
    "no credit, as 429": Case(
        [fails(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")], "CREDIT_EXHAUSTED", 1
    ),
    "too many a minute": Case(
        [fails(429, "RESOURCE_EXHAUSTED", "Quota exceeded, limit: 0.5", [PER_MINUTE])] * 9, "RATE_LIMITED", ALL
    ),
    "too many a day": Case(
        [fails(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", [PER_MINUTE, PER_DAY, retry_info("3s")])],
        "QUOTA_EXHAUSTED",
        1,
    ),
    "no quota": Case(
        [fails(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: x, limit: 0, model: y")], "QUOTA_EXHAUSTED", 1
    ),
    "no capacity": Case(
        [fails(429, "RESOURCE_EXHAUSTED", details=[error_info("MODEL_CAPACITY_EXHAUSTED")])] * 9, "UNAVAILABLE", ALL
    ),
    "429 without a reason": Case([say(429, b"slow down")] * 9, "RATE_LIMITED", ALL),
    "overloaded": Case(BUSY_ANSWERS, "UNAVAILABLE", ALL),
    "internal": Case([fails(500, "INTERNAL")] * 9, "UNAVAILABLE", ALL),
    "its deadline": Case([fails(504, "DEADLINE_EXCEEDED")] * 9, "UNAVAILABLE", ALL),
    "an error as 200": Case([say(200, {"error": {"code": 503, "message": "overloaded"}})] * 9, "UNAVAILABLE", ALL),
    "an error in a word": Case([say(400, {"error": {"code": "invalid_request", "message": ""}})], "REQUEST_REFUSED", 1),
    "cancelled": Case([fails(499, "CANCELLED")], "TIMEOUT", 1),
    "picture of another shape": Case([picture(lambda image: image.resize((1200, 896)))] * 9, "CHECK_FAILED", ONCE),
    "thumbnail": Case([picture(lambda image: image.resize((336, 450)))] * 9, "CHECK_FAILED", ONCE),
    "transparent": Case(
        [picture(lambda image: image.convert("RGBA").point(lambda value: value // 2))] * 9, "CHECK_FAILED", ONCE
    ),
    "more pixels than may be": Case(
        [say(200, parts_answer([image_part(file_of(Image.new("RGB", (3750, 5000))))]))] * 9, "BAD_RESPONSE", ALL
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_failure_has_its_reason_and_is_tried_again_only_where_that_can_help(
    server: FakeImageModel, clock: Clock, name: str
) -> None:
    case = CASES[name]
    server.answers.extend(case.answers)
    error = ask(server, clock, max_retries=3, max_pixels=18_000_000)
    assert isinstance(error, ImageModelError), error
    assert (error.reason, error.attempts, len(server.requests)) == (case.reason, case.attempts, case.attempts)
    assert (error.code, error.status) == ("NANO_API_ERROR", 503)
    assert error.message.endswith(".")


def test_no_server_is_a_failure_like_others(server: FakeImageModel, clock: Clock) -> None:
    error = ask(server, clock, base_url="http://127.0.0.1:9/v1", max_retries=1)
    assert (error.reason, error.attempts) == ("UNAVAILABLE", 2)


def test_a_failure_that_passes_is_overcome(server: FakeImageModel, clock: Clock) -> None:
    server.answers.extend([fails(503, "UNAVAILABLE"), cut_short])
    answer = ask(server, clock)
    check_picture(answer)
    assert answer.attempts == 3


@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_the_caller_limits_the_retries(server: FakeImageModel, clock: Clock, max_retries: int) -> None:
    server.answers.extend(BUSY_ANSWERS)
    assert ask(server, clock, max_retries=max_retries).attempts == 1 + max_retries


def test_pauses_double(server: FakeImageModel, clock: Clock) -> None:
    server.answers.extend(BUSY_ANSWERS)
    ask(server, clock, max_retries=3)
    assert [1 <= clock.slept[0] <= 2, 2 <= clock.slept[1] <= 3, 4 <= clock.slept[2] <= 5] == [True] * 3


def test_the_next_attempt_says_what_was_wrong_and_takes_another_seed(server: FakeImageModel, clock: Clock) -> None:
    server.answers.append(no_picture("STOP", "Here you are."))
    check_picture(ask(server, clock, seed=2**31 - 1))
    first, second = server.requests
    assert first.prompt == PROMPT
    assert second.prompt.startswith(PROMPT)
    assert "picture only" in second.prompt
    assert [request.body["generationConfig"]["seed"] for request in server.requests] == [2**31 - 1, 0]


@pytest.mark.parametrize(
    "answer",
    [
        fails(429, "RESOURCE_EXHAUSTED", "", [PER_MINUTE, retry_info("34.5s")]),
        fails(503, "UNAVAILABLE", "", [retry_info("34.5s")]),
        say(429, b"", {"Retry-After": "34"}),
    ],
    ids=["RetryInfo", "of a 503", "Retry-After"],
)
def test_the_providers_wait_is_kept(server: FakeImageModel, clock: Clock, answer: Answer) -> None:
    server.answers.append(answer)
    check_picture(ask(server, clock))
    assert clock.slept in ([34.5], [34.0])


@pytest.mark.parametrize("wait", [61, 100, 999_999])
def test_a_wait_that_is_too_long_ends_the_call_and_is_told(server: FakeImageModel, clock: Clock, wait: int) -> None:
    server.answers.append(fails(429, "RESOURCE_EXHAUSTED", "", [PER_MINUTE, retry_info(f"{wait}s")]))
    error = ask(server, clock)
    assert (error.reason, error.attempts, error.retry_after_s, clock.slept) == ("RATE_LIMITED", 1, wait, [])


def test_a_retry_that_could_not_end_in_time_is_not_paid_for(server: FakeImageModel, clock: Clock) -> None:
    server.answers.append(fails(429, "RESOURCE_EXHAUSTED", "", [retry_info("25s")]))
    error = ask(server, clock, deadline_s=30)
    assert (error.reason, error.attempts, clock.slept) == ("RATE_LIMITED", 1, [])


# Models that do not exist


def test_the_next_model_is_asked_where_one_does_not_exist(server: FakeImageModel, clock: Clock) -> None:
    server.models = ("third-image",)
    answer = ask(server, clock, max_retries=0)
    check_picture(answer)
    assert (answer.model, answer.attempts) == ("third-image", 3)


def test_a_model_that_does_not_exist_is_not_sent_pictures_again(server: FakeImageModel, clock: Clock) -> None:
    server.models = ("second-image",)

    async def twice(model: ImageModel) -> None:
        for _ in range(2):
            check_picture(await answer_of(model))
        assert model.model == "second-image"
        assert model.status() == ("ready", None)

    running(server, clock, twice)
    assert [request.model for request in server.requests] == ["first-image", "second-image", "second-image"]


@pytest.mark.parametrize("base", ["/v1", "/wrong/v1"])
def test_no_model_at_all_is_told_and_not_asked_again(server: FakeImageModel, clock: Clock, base: str) -> None:
    server.models = ()

    async def twice(model: ImageModel) -> list[Any]:
        errors = [await answer_of(model) for _ in range(2)]
        assert model.status() == ("failing", errors[0].message)  # type: ignore[union-attr]
        return errors

    errors = running(server, clock, twice, base_url=server.url.replace("/v1", base))
    assert [(error.reason, error.attempts) for error in errors] == [("MODEL_GONE", 3), ("MODEL_GONE", 0)]
    assert "NANO_BANANA_MODELS" in errors[0].message


# The circuit


def test_after_five_failures_in_a_row_the_provider_is_left_alone(server: FakeImageModel, clock: Clock) -> None:
    async def work(model: ImageModel) -> None:
        server.answers.extend(BUSY_ANSWERS)
        assert await reasons(model, 2, max_retries=3) == ["UNAVAILABLE", "UNAVAILABLE"]
        assert len(server.requests) == 5
        clock.now += 59
        refused = await answer_of(model)
        assert isinstance(refused, ImageModelError)
        assert (refused.reason, refused.attempts, refused.retry_after_s) == ("CIRCUIT_OPEN", 0, 1)
        standing, why = model.status()
        assert standing == "failing"
        assert "overloaded" in (why or "")

        clock.now += 1
        assert await reasons(model, 2, max_retries=3) == ["UNAVAILABLE", "CIRCUIT_OPEN"]
        assert len(server.requests) == 6  # one attempt decided
        clock.now += 60
        server.answers.clear()
        check_picture(await answer_of(model))
        assert model.status() == ("ready", None)
        check_picture(await answer_of(model))

    running(server, clock, work)


@pytest.mark.parametrize(
    "answer", [blocked_prompt(), no_picture("IMAGE_SAFETY"), fails(400, "INVALID_ARGUMENT"), no_picture("NO_IMAGE"),
               picture(lambda image: image.resize((9, 9)))],
    ids=["prompt", "picture", "request", "no picture", "thumbnail"],
)  # fmt: skip
def test_pictures_of_one_client_do_not_shut_out_the_others(
    server: FakeImageModel, clock: Clock, answer: Answer
) -> None:
    async def work(model: ImageModel) -> None:
        server.answers.extend([answer] * 8)
        assert "CIRCUIT_OPEN" not in await reasons(model, 8, max_retries=0)
        check_picture(await answer_of(model))

    running(server, clock, work)


def test_a_success_ends_the_row(server: FakeImageModel, clock: Clock) -> None:
    async def work(model: ImageModel) -> list[str]:
        for _ in range(3):
            server.answers.extend([*BUSY_ANSWERS[:4], picture()])
        return await reasons(model, 15, max_retries=0)

    assert running(server, clock, work) == (["UNAVAILABLE"] * 4 + ["picture"]) * 3


def test_when_the_pause_is_over_one_caller_alone_is_let_in() -> None:
    now = 0.0
    breaker = CircuitBreaker(failures=1, pause_s=60, clock=lambda: now)
    breaker.fail()
    assert breaker.enter() == 60
    now = 60.0
    assert (breaker.enter(), breaker.enter()) == (0, 60)
    breaker.succeed()
    assert (breaker.enter(), breaker.enter()) == (0, 0)


async def reasons(model: ImageModel, calls: int, **options: Any) -> list[str]:
    answers = [await answer_of(model, **options) for _ in range(calls)]
    return [answer.reason if isinstance(answer, ImageModelError) else "picture" for answer in answers]


# Checks of the caller


def test_a_check_sees_the_picture_in_our_size_and_its_reason_ends_in_the_error(
    server: FakeImageModel, clock: Clock
) -> None:
    seen: list[RGBImage] = []

    def one_person(rgb: RGBImage) -> str | None:
        seen.append(rgb)
        return "it shows two people"

    def never(_: RGBImage) -> str | None:
        raise AssertionError("an earlier check has refused the picture")

    error = ask(server, clock, checks=(lambda _: None, one_person, never), max_retries=3)
    assert (error.reason, error.attempts) == ("CHECK_FAILED", 2)
    assert error.message == "The image model's picture was refused: it shows two people."
    assert [picture.shape for picture in seen] == [PERSON.shape] * 2
    assert "it shows two people" in server.requests[1].prompt


def test_a_picture_that_passes_the_second_time_is_taken(server: FakeImageModel, clock: Clock) -> None:
    verdicts = iter(["the face has changed", None])
    answer = ask(server, clock, checks=(lambda _: next(verdicts),))
    check_picture(answer)
    assert answer.attempts == 2


# Time, turns and cancelling


def test_a_server_that_drips_is_left_at_the_deadline(server: FakeImageModel, clock: Clock) -> None:
    end = threading.Event()
    server.answers.append(dripping(end))
    error = ask(server, clock, deadline_s=0.4)
    end.set()
    assert (error.reason, error.attempts) == ("TIMEOUT", 1)


def test_the_setting_is_the_longest_deadline(server: FakeImageModel, clock: Clock) -> None:
    end = threading.Event()
    server.answers.append(held(end))
    error = ask(server, clock, timeout_s=0.3, deadline_s=600)
    end.set()
    assert error.reason == "TIMEOUT"


def test_only_so_many_requests_are_open_at_once(server: FakeImageModel, clock: Clock) -> None:
    end = threading.Event()
    server.answers.extend([held(end)] * 5)

    async def work(model: ImageModel) -> list[Any]:
        calls = [asyncio.create_task(answer_of(model)) for _ in range(5)]
        await until(lambda: server.at_once == 2)
        await asyncio.sleep(0.2)
        end.set()
        return await asyncio.gather(*calls)

    for answer in running(server, clock, work):
        check_picture(answer)
    assert server.most_at_once == 2
    assert server.connections == 2  # and they are used again


def test_who_gets_no_turn_in_time_sends_nothing(server: FakeImageModel, clock: Clock) -> None:
    end = threading.Event()
    server.answers.append(held(end))

    async def work(model: ImageModel) -> Any:
        first = asyncio.create_task(answer_of(model))
        await until(lambda: server.at_once == 1)
        # The turn comes before this deadline, but too late for an answer.
        asyncio.get_running_loop().call_later(0.5, end.set)
        late = await answer_of(model, deadline_s=9)
        check_picture(await first)
        return late

    late = running(server, clock, work, concurrency=1)
    assert (late.reason, late.attempts, len(server.requests)) == ("BUSY", 0, 1)


@pytest.mark.parametrize("way", ["callable", "task"])
def test_cancelling_closes_the_connection(server: FakeImageModel, clock: Clock, way: str) -> None:
    end, given_up = threading.Event(), threading.Event()
    server.answers.append(dripping(end))

    async def work(model: ImageModel) -> None:
        call = asyncio.create_task(answer_of(model, cancelled=given_up.is_set))
        await until(lambda: server.at_once == 1)
        if way == "callable":
            given_up.set()
            error = await call
            assert isinstance(error, ImageModelError)
            assert (error.reason, error.attempts) == ("CANCELLED", 1)
        else:
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await until(lambda: server.open_connections == 0)
        check_picture(await answer_of(model))  # its turn was given back

    running(server, clock, work, concurrency=1)
    end.set()


def test_what_is_cancelled_before_it_begins_sends_nothing(server: FakeImageModel, clock: Clock) -> None:
    assert ask(server, clock, cancelled=lambda: True).reason == "CANCELLED"
    assert server.connections == 0


def test_closing_ends_the_connections(server: FakeImageModel, clock: Clock) -> None:
    check_picture(ask(server, clock))
    deadline = time.monotonic() + 10
    while server.open_connections:
        assert time.monotonic() < deadline, "a connection stayed open"
        time.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the server's threads know nothing of this loop
            await asyncio.sleep(0.01)


# What must never leave


@pytest.mark.parametrize(
    ("options", "reason", "what_to_do"),
    [({"key": None}, "NO_KEY", "NANO_BANANA_API_KEY"), ({"allowed": False}, "FORBIDDEN", "ALLOW_EXTERNAL_IMAGE_API")],
)
def test_without_a_key_or_leave_nothing_is_sent(
    server: FakeImageModel, clock: Clock, options: dict[str, Any], reason: str, what_to_do: str
) -> None:
    async def work(model: ImageModel) -> Any:
        standing, why = model.status()
        assert standing == "missing"
        assert what_to_do in (why or "")
        return await answer_of(model)

    error = running(server, clock, work, **options)
    assert (error.reason, error.attempts) == (reason, 0)
    assert what_to_do in error.message
    assert server.connections == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: FakeImageModel, clock: Clock, status: int) -> None:
    with serving() as elsewhere:
        server.answers.append(say(status, b"", {"Location": f"{elsewhere.url}/models/first-image:generateContent"}))
        error = ask(server, clock)
        assert (error.reason, error.attempts) == ("CONFIG_ERROR", 1)
        assert elsewhere.connections == 0


def test_the_environments_proxy_is_not_used(
    server: FakeImageModel, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        check_picture(ask(server, clock))
        assert proxy.connections == 0


def test_the_proxy_of_the_settings_is_used(server: FakeImageModel, clock: Clock) -> None:
    proxy = f"http://127.0.0.1:{server.port}"
    check_picture(ask(server, clock, base_url="http://gateway/v1", proxy=proxy))
    assert server.requests[0].path == "http://gateway/v1/models/first-image:generateContent"


def test_neither_key_nor_picture_is_logged(
    server: FakeImageModel, clock: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def echo(handler: Any, request: Any) -> None:
        sent = request.body["contents"][0]["parts"][0]["inlineData"]["data"]
        key = request.headers["x-goog-api-key"]
        fails(503, "UNAVAILABLE", f"Key {key} sent\n{sent}", [error_info("QUITE_SO")])(handler, request)

    caplog.set_level(logging.DEBUG)
    server.answers.append(echo)
    check_picture(ask(server, clock))
    told = caplog.text + "".join(capsys.readouterr())
    assert "QUITE_SO" in told
    assert "[key] sent" in told
    assert "picture made" in told
    assert KEY not in told
    sent = server.requests[0].body["contents"][0]["parts"][0]["inlineData"]["data"]
    assert not any(sent[start : start + 70] in told for start in range(0, 7000, 70))


def test_an_answer_is_not_read_beyond_its_limit(server: FakeImageModel, clock: Clock) -> None:
    written = 0

    def count(handler: Any, _: Any) -> None:
        nonlocal written
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        block = b" " * 2**20
        while True:
            handler.wfile.write(block)
            written += len(block)

    server.answers.append(count)
    assert ask(server, clock, max_retries=0).reason == "BAD_RESPONSE"
    assert written < MAX_RESPONSE_BYTES + 16 * 2**20  # what the two sockets hold
