"""The hosted image model: a prompt and pictures of people go to a third party, one picture that was checked comes back.

The only module that sends a picture to someone else. Without a key, or with ALLOW_EXTERNAL_IMAGE_API=false, it has no
HTTP client at all. A request is paid for, so a retry must have a chance: the provider's wait is kept, and what waiting
can't mend is not tried again. Neither the key nor a picture is ever logged, and the key travels in a header.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import httpx
import structlog
from pydantic import SecretStr

from service.circuit_breaker import CircuitBreaker
from service.errors import ImageModelError, ImageModelReason, ServiceError
from service.image_io import decode_image, encode_image
from service.image_model_frame import Frame, reduced
from service.image_model_wire import Failure, Reply, read_reply, request_body
from service.inference_pool import InferencePool
from service.version import NAME, VERSION
from utils import RGBImage

logger = structlog.get_logger("image_model")

Check: TypeAlias = Callable[[RGBImage], str | None]
"""Looks at an answer (HxWx3 uint8, in the size of the picture that was sent): why it can't be trusted, or None."""

TIMEOUT = httpx.Timeout(90.0, connect=10.0, write=30.0, pool=None)
"""Seconds for each step. A picture takes 15 to 40 s; the call's own deadline is over all steps and attempts."""
MAX_IMAGES = 14
"""Pictures that a request may hold."""
MAX_REQUEST_BYTES = 20 * 1000 * 1000
"""The provider's limit for pictures inside a request."""
MAX_RESPONSE_BYTES = 32 * 1024 * 1024
"""A PNG of 2K in base64 is a third of this."""
MAX_WAIT_S = 60.0
"""Nobody waits longer for a retry."""
LEAST_ATTEMPT_S = 10.0
"""With less time left no picture comes in time: another attempt would be paid for nothing."""
GONE_FOR_S = 600.0
"""A model that did not exist is not asked for so long: each time a picture would travel for nothing."""
SEEDS = 2**31
"""How many there are."""
CANCEL_POLL_S = 0.2
LOGGED_CHARACTERS = 300
GET_A_KEY = "https://aistudio.google.com/apikey"
LONG_RUN = re.compile(r"[A-Za-z0-9+/_=-]{64,}")
"""What a provider's message may repeat of a picture. The names of quotas are shorter."""

RETRIES: dict[ImageModelReason, int] = {
    "UNAVAILABLE": 3, "RATE_LIMITED": 3, "BAD_RESPONSE": 3, "NO_IMAGE": 1, "TRUNCATED": 1, "CHECK_FAILED": 1,
}  # fmt: skip
"""How often each failure is worth another attempt. The rest fail the same way again."""
PROVIDER_FAULTS: frozenset[ImageModelReason] = frozenset(
    {"TIMEOUT", "UNAVAILABLE", "RATE_LIMITED", "QUOTA_EXHAUSTED", "CREDIT_EXHAUSTED", "CONFIG_ERROR", "BAD_RESPONSE"}
)
"""What opens the circuit. What depends on the pictures does not: one client must not shut out the others."""


@dataclass(frozen=True, slots=True)
class ImageModelAnswer:
    """A picture that decodes, has the right shape and passed every check.

    Attributes:
        rgb: HxWx3 uint8, in the size of the first picture that was sent.
        model: the name of the model that made it.
        attempts: requests that were sent.
        latency_s: seconds from the call to the answer.
        answered_size: width and height of the model's own picture, in pixels, before it was brought to our size.
    """

    rgb: RGBImage
    model: str
    attempts: int
    latency_s: float
    answered_size: tuple[int, int]


@dataclass(slots=True)
class _Call:
    """One `edit` on its way."""

    prompt: str
    images: Sequence[RGBImage]
    frame: Frame
    checks: Sequence[Check]
    seed: int | None
    max_retries: int
    deadline: float
    jpegs: tuple[bytes, ...] = ()
    advice: str = ""
    attempts: int = 0
    retries: Counter[ImageModelReason] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def body(self, model: str) -> bytes:
        """The request of the next attempt; it differs from the last one, which would fail again."""
        if not self.jpegs:
            # Further pictures of the first one's size, such as a draft, must lie over it.
            framed = [self.frame.extend(image) if self.frame.fits(image) else image for image in self.images]
            self.jpegs = tuple(encode_image(reduced(image), format="jpeg") for image in framed)
        seed = None if self.seed is None else (self.seed + self.retries.total()) % SEEDS
        prompt = f"{self.prompt} {self.advice}".rstrip()
        return request_body(prompt, self.jpegs, frame=self.frame, model=model, seed=seed)

    def error(self, failure: Failure) -> ImageModelError:
        """The call ends with this failure."""
        return ImageModelError(
            failure.message,
            reason=failure.reason,
            attempts=self.attempts,
            latency_s=time.monotonic() - self.started,
            retry_after_s=None if failure.retry_after_s is None else math.ceil(failure.retry_after_s),
        )


class ImageModel:
    """Google's Gemini image models ("Nano Banana"), or a gateway that speaks as they do. Belongs to one event loop."""

    def __init__(
        self,
        *,
        base_url: str,
        key: SecretStr | None,
        models: Sequence[str],
        timeout_s: float,
        concurrency: int,
        allowed: bool,
        max_pixels: int,
        pool: InferencePool,
        proxy: str | None = None,
        breaker: CircuitBreaker | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is sent yet.

        Args:
            base_url: up to and with the API's version.
            key: without one, `edit` fails.
            models: names, the best first; the next one is taken when one does not exist.
            timeout_s: seconds that a call may take, its waiting and retries included.
            concurrency: requests that are open at once.
            allowed: False forbids every call.
            max_pixels: the largest picture that is taken as an answer.
            pool: where pictures are encoded, decoded and checked.
            proxy: its URL; the environment's proxies are not used.
            breaker: when to leave the provider alone.
            sleep: waits between attempts.
        """
        self.provider = httpx.URL(base_url).host
        self._forbidden = _why_not(key, allowed=allowed)
        self._models = tuple(models)
        self._gone_until: dict[str, float] = {}
        self._timeout_s = timeout_s
        self._max_pixels = max_pixels
        self._pool = pool
        self._turns = asyncio.Semaphore(concurrency)
        self._breaker = breaker or CircuitBreaker()
        self._sleep = sleep
        self._last_failure: str | None = None
        self._key = key.get_secret_value() if key is not None else ""
        self._client = None if self._forbidden else _open_client(base_url, self._key, concurrency, proxy)

    @property
    def model(self) -> str:
        """The name that is asked first."""
        return next(iter(self._live_models()), self._models[0])

    def status(self) -> tuple[Literal["ready", "missing", "failing"], str | None]:
        """How it stands, and why: `failing` while it isn't asked because it failed. Nothing is sent to find out."""
        if self._forbidden is not None:
            return "missing", self._forbidden.message
        failing = self._breaker.is_open or not self._live_models()
        return ("failing", self._last_failure) if failing else ("ready", None)

    def refuse_if_missing(self) -> None:
        """Raises ImageModelError where every call would fail, since it is not set up or forbidden."""
        if self._forbidden is not None:
            raise ImageModelError(self._forbidden.message, reason=self._forbidden.reason)

    async def edit(
        self,
        prompt: str,
        images: Sequence[RGBImage],
        *,
        checks: Sequence[Check] = (),
        max_retries: int = 2,
        seed: int | None = None,
        deadline_s: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ImageModelAnswer:
        """Send the pictures to the provider, and return the first one changed as the prompt says.

        From a worker thread: `asyncio.run_coroutine_threadsafe(image_model.edit(...), loop)`. That thread must not be
        one of the inference pool's, which is needed meanwhile.

        Args:
            prompt: what to do; it calls the pictures by their place, the first one first.
            images: 1 to 14 of HxWx3 uint8. They are sent as JPEGs of at most 2,048 pixels a side, without metadata.
            checks: run in the inference pool on a picture that has the right shape; the first reason refuses it.
            max_retries: 0 to 3 further attempts where they have a chance; each may be paid for.
            seed: 0 to 2**31 - 1; a retry takes the next one. None leaves it to chance.
            deadline_s: seconds until no answer is waited for any more; at most the setting, which is the default.
                The checks of an answer that came in time are finished.
            cancelled: asked on the event loop several times a second, so it must not block; True closes the connection.
                Cancelling the task does the same.

        Raises:
            ImageModelError: no picture that can be used; its `reason` says why.
        """
        if not 1 <= len(images) <= MAX_IMAGES:
            raise ValueError(f"1 to {MAX_IMAGES} pictures can be sent, not {len(images)}")
        within_s = min(self._timeout_s, deadline_s if deadline_s is not None else math.inf)
        deadline = asyncio.get_running_loop().time() + within_s
        frame = Frame.around(images[0])
        call = _Call(prompt, images, frame, checks, seed, max_retries, deadline)
        work = asyncio.create_task(self._edit(call))
        try:
            while cancelled is not None and not work.done():
                if cancelled():
                    raise call.error(Failure.of("CANCELLED"))
                await asyncio.wait({work}, timeout=CANCEL_POLL_S)
            return await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)  # its connection is closed before this returns

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _edit(self, call: _Call) -> ImageModelAnswer:
        if self._forbidden is not None:
            raise call.error(self._forbidden)
        if (pause := self._breaker.enter()) > 0:
            raise call.error(Failure.of("CIRCUIT_OPEN", retry_after_s=pause))
        names = self._live_models()
        failure = Failure.of("MODEL_GONE")
        while names:
            outcome = await self._attempt(call, names[0])
            if isinstance(outcome, ImageModelAnswer):
                logger.info("picture made", model=names[0], attempts=call.attempts, seconds=round(outcome.latency_s, 1))
                return outcome
            failure = outcome
            self._note(failure, call, names[0])
            if failure.reason == "MODEL_GONE":
                self._gone_until[names.pop(0)] = time.monotonic() + GONE_FOR_S
            else:
                await self._pause_before_retry(call, failure)
                call.retries[failure.reason] += 1
                call.advice = failure.advice
        raise call.error(failure)

    async def _attempt(self, call: _Call, model: str) -> ImageModelAnswer | Failure:
        body = await self._pool.run_patiently(call.body, model)
        if len(body) > MAX_REQUEST_BYTES:
            return Failure.of("REQUEST_REFUSED", f"{len(body)} bytes, of which {MAX_REQUEST_BYTES} may be sent")
        outcome: ImageModelAnswer | Reply | Failure = await self._post(call, model, body)
        if isinstance(outcome, Reply):
            outcome = await self._pool.run_patiently(self._judge, call, model, outcome)
        if isinstance(outcome, Failure) and outcome.reason in PROVIDER_FAULTS:
            self._breaker.fail()
        elif isinstance(outcome, ImageModelAnswer) or outcome.reason != "MODEL_GONE":
            self._breaker.succeed()
        return outcome

    async def _post(self, call: _Call, model: str, body: bytes) -> Reply | Failure:
        """One request in its turn; what it costs in time and memory is bounded whatever the server does."""
        try:
            async with asyncio.timeout_at(call.deadline - LEAST_ATTEMPT_S):  # a free turn is taken in any case
                await self._turns.acquire()
        except TimeoutError:
            raise call.error(Failure.of("BUSY")) from None
        try:
            call.attempts += 1
            async with asyncio.timeout_at(call.deadline):
                return await self._exchange(f"/models/{model}:generateContent", body)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            return Failure.of("TIMEOUT")
        except httpx.RemoteProtocolError as error:
            return Failure.of("BAD_RESPONSE", str(error))
        except httpx.TransportError as error:
            return Failure.of("UNAVAILABLE", f"{type(error).__name__} {error}")
        finally:
            self._turns.release()

    async def _exchange(self, path: str, body: bytes) -> Reply | Failure:
        assert self._client is not None, "a forbidden model is never asked"
        async with self._client.stream("POST", path, content=body) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                return Failure.of("BAD_RESPONSE", "compressed, which was not asked for")
            chunks, size = [], 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > MAX_RESPONSE_BYTES:
                    return Failure.of("BAD_RESPONSE", f"more than {MAX_RESPONSE_BYTES} bytes")
                chunks.append(chunk)
            return Reply(response.status_code, b"".join(chunks), response.headers.get("retry-after", ""))

    def _judge(self, call: _Call, model: str, reply: Reply) -> ImageModelAnswer | Failure:
        """The picture of a reply, if it can be trusted."""
        file = read_reply(reply)
        if isinstance(file, Failure):
            return file
        try:
            decoded = decode_image(file, max_pixels=self._max_pixels, to_srgb=True)
        except ServiceError as error:
            return Failure.of("BAD_RESPONSE", f"{error.code}: {error.message}")
        if (fault := call.frame.refusal(decoded)) is not None:
            return Failure.refused(fault)
        rgb = call.frame.restore(decoded.rgb)
        for check in call.checks:
            if (fault := check(rgb)) is not None:
                return Failure.refused(fault)
        size = (decoded.rgb.shape[1], decoded.rgb.shape[0])
        return ImageModelAnswer(rgb, model, call.attempts, time.monotonic() - call.started, size)

    async def _pause_before_retry(self, call: _Call, failure: Failure) -> None:
        """Wait as long as the provider asks, and longer each time. Raises ImageModelError where no retry is due."""
        retry = call.retries.total()
        pause = max(failure.retry_after_s or 0.0, 2.0**retry + random.random())
        left = call.deadline - asyncio.get_running_loop().time()
        if (
            retry >= call.max_retries
            or call.retries[failure.reason] >= RETRIES.get(failure.reason, 0)
            or self._breaker.is_open
            or pause > MAX_WAIT_S
            or pause + LEAST_ATTEMPT_S > left
        ):
            raise call.error(failure)
        await self._sleep(pause)

    def _live_models(self) -> list[str]:
        now = time.monotonic()
        return [name for name in self._models if self._gone_until.get(name, now) <= now]

    def _note(self, failure: Failure, call: _Call, model: str) -> None:
        """Log an attempt that failed. The provider's words may repeat the key or a picture: those are cut out."""
        self._last_failure = failure.message
        detail = failure.detail.replace(self._key, "[key]") if self._key else failure.detail
        detail = LONG_RUN.sub("[...]", " ".join(detail.split()))[:LOGGED_CHARACTERS]
        logger.warning("no picture", reason=failure.reason, model=model, attempt=call.attempts, detail=detail)


def _why_not(key: SecretStr | None, *, allowed: bool) -> Failure | None:
    if not allowed:
        return Failure("FORBIDDEN", "ALLOW_EXTERNAL_IMAGE_API=false: no picture is sent to an image model.")
    if key is None:
        return Failure("NO_KEY", f"No image model is set up. Get a key at {GET_A_KEY} and set NANO_BANANA_API_KEY.")
    return None


def _open_client(base_url: str, key: str, concurrency: int, proxy: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url,
        headers={
            "x-goog-api-key": key,
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # a few compressed bytes can be gigabytes
            "User-Agent": f"{NAME.replace(' ', '-')}/{VERSION}",
        },
        timeout=TIMEOUT,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency),
        proxy=proxy,
        follow_redirects=False,  # the key and the pictures would follow
        trust_env=False,
    )
