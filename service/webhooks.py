"""Tells clients that their jobs have finished: signed, retried, and never to an address inside the network.

The headers and the signature are those of the Standard Webhooks specification, for which every common language has
a verifying library: `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`, which is `v1,` and
the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`. A delivery that was answered late may come twice, with the
same id.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import structlog

from config import Settings
from service.errors import InvalidValueError, ServiceError, UrlNotAllowedError
from service.job_store import JobStore
from service.job_view import JobView
from service.outbound import GuardedTransport, resolve
from service.tables import Job, utc_now

logger = structlog.get_logger(__name__)

RETRY_DELAYS_S: tuple[float, ...] = (5, 30, 120, 600, 3600, 6 * 3600)
"""Seconds between one attempt and the next; after the last one it is given up."""
TIMEOUT_S = 15.0
"""For a whole delivery; well below the store's lease."""
CONCURRENT = 4
POLL_S = 2.0
USER_AGENT = "illustration-personalizer-webhooks"


async def check_webhook_url(url: str | None, settings: Settings) -> None:
    """Refuse now what could not be delivered later.

    Raises:
        InvalidValueError: this service sends no webhooks.
        UrlNotAllowedError: none goes to this URL.
    """
    if url is None:
        return
    if settings.webhook_secret is None:
        raise InvalidValueError(
            "webhook_url: this service sends no webhooks, since it has no WEBHOOK_SECRET to sign them."
        )
    await resolve(url, allow_private=settings.webhook_allow_private)


def sign(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a message."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


class WebhookSender:
    """Sends what is due, from one event loop. What is due stands in the database, so nothing is lost with a process."""

    def __init__(
        self,
        store: JobStore,
        *,
        key: bytes,
        allow_private: bool,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = store
        self._key = key
        self._retry_delays_s = retry_delays_s
        self._poll_s = poll_s
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(allow_private=allow_private), timeout=TIMEOUT_S, trust_env=False
        )
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._free = asyncio.Semaphore(CONCURRENT)
        self._running: set[asyncio.Task[None]] = set()
        self._start(self._send_what_is_due())

    def poke(self) -> None:
        """Something may be due now. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the next start sends it
            self._loop.call_soon_threadsafe(self._wake.set)

    async def close(self) -> None:
        """Stop. What was being sent falls due again."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _send_what_is_due(self) -> None:
        while True:
            self._wake.clear()
            await self._free.acquire()
            try:
                job = await asyncio.to_thread(self._store.claim_webhook)
            except ServiceError:  # the database is away: its monitor says so
                job = None
            if job is not None:
                self._start(self._deliver(job))
                continue
            self._free.release()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll_s)

    async def _deliver(self, job: Job) -> None:
        try:
            error = await self._post(job)
            next_at = None
            if error is not None and job.webhook_attempts <= len(self._retry_delays_s):
                next_at = utc_now() + timedelta(seconds=self._retry_delays_s[job.webhook_attempts - 1])
            log = logger.info if error is None else logger.warning
            log("webhook", job=str(job.id), attempt=job.webhook_attempts, error=error, again=next_at is not None)
            await asyncio.to_thread(self._store.webhook_done, job, error=error, next_at=next_at)
        except ServiceError:  # it falls due again when its lease ends, with the same id
            logger.warning("the outcome of a webhook could not be stored", job=str(job.id))
        finally:
            self._free.release()

    async def _post(self, job: Job) -> str | None:
        """Send it once; what went wrong, or None."""
        assert job.webhook_url is not None
        body = json.dumps(_message(job)).encode()
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": str(job.id),
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._key, message_id=str(job.id), timestamp=timestamp, body=body),
        }
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._client.stream("POST", job.webhook_url, content=body, headers=headers) as answer,
            ):
                return None if answer.is_success else f"answered {answer.status_code}"
        except UrlNotAllowedError:
            return "the URL is not allowed"
        except (TimeoutError, httpx.TimeoutException):
            return "no answer in time"
        except (httpx.HTTPError, OSError):
            return "the connection failed"


def _message(job: Job) -> dict[str, Any]:
    view = JobView.of(job).model_dump(mode="json", exclude={"webhook"})
    return {"type": f"job.{job.status}", "timestamp": utc_now().isoformat(), "data": view}
