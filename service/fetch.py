"""The one place that opens a URL which a client sent as a picture.

Nothing but http and https to the internet's public addresses, judged for the very connection, redirects included
(`service.outbound`). What comes is bounded in size, time and type before it is decoded. All refusals read alike: what
the service could reach, and what is there, is not told. The log has the cause, and of the URL its host alone.
"""

from __future__ import annotations

import asyncio
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import structlog

from service.errors import BusyError, UrlNotAllowedError, UrlNotFetchedError
from service.outbound import REFUSED, GuardedTransport
from service.version import NAME, VERSION

logger = structlog.get_logger(__name__)

CONNECT_S = 5.0
MAX_REDIRECTS = 5
CONCURRENT = 8
"""URLs that are read at once: each may hold MAX_UPLOAD_SIZE in memory."""
BUSY_RETRY_S = 5
OK = 200
MAX_LENGTH_DIGITS = 18
MIB = 2**20
UNTYPED = ("", "application/octet-stream", "binary/octet-stream")
"""What storage servers call a file whose type they were not told."""


class _NotAPictureError(Exception):
    """The cause, for the log."""


class Fetcher:
    """Fetches pictures by URL. Belongs to one event loop."""

    def __init__(self, *, max_bytes: int, timeout_s: float, allow_private: bool) -> None:
        """`timeout_s` is for all of it, names and redirects too. `allow_private` as in `outbound.resolve`."""
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(CONCURRENT)
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(allow_private=allow_private),
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            headers={
                "Accept": "image/*",
                "Accept-Encoding": "identity",  # a few compressed bytes can be gigabytes
                "User-Agent": f"{NAME.replace(' ', '-')}/{VERSION}",
            },
            follow_redirects=False,  # httpx would read their bodies, however long
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one client's must not go with another's
            trust_env=False,  # a proxy would resolve the name again
        )

    async def picture(self, url: str) -> bytes:
        """The bytes behind a URL. They are called a picture; whether they are one, decoding tells.

        Raises:
            UrlNotAllowedError: this URL is not opened, or leads where none is; nothing was sent there.
            UrlNotFetchedError: it gave no picture in time and in size.
            BusyError: too many are being read.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            raise BusyError("Too many URLs are being read. Try again shortly.", retry_after_s=BUSY_RETRY_S) from None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url)
        except httpx.InvalidURL as error:  # its own, or that of a redirect
            raise UrlNotAllowedError(REFUSED) from error
        except (_NotAPictureError, httpx.HTTPError, OSError) as error:  # OSError: TimeoutError too
            logger.info("no picture from a URL", host=httpx.URL(url).host, cause=f"{type(error).__name__} {error}")
            raise UrlNotFetchedError(
                f"This URL gave no picture. It must answer 200 within {self._timeout_s:g} s, after {MAX_REDIRECTS} "
                f"redirects at most, with an uncompressed picture of at most {self._max_bytes / MIB:g} MB."
            ) from error
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _follow(self, url: str) -> bytes:
        request = self._client.build_request("GET", url)
        for _ in range(1 + MAX_REDIRECTS):
            response = await self._client.send(request, stream=True)
            try:
                if response.next_request is None:
                    return await self._read(response)
                request = response.next_request
            finally:
                await response.aclose()
        raise _NotAPictureError("too many redirects")

    async def _read(self, response: httpx.Response) -> bytes:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code != OK:
            raise _NotAPictureError(f"answered {response.status_code}")
        if not (kind.startswith("image/") or kind in UNTYPED):
            raise _NotAPictureError(f"its type is {kind[:50]}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _NotAPictureError("compressed, which was not asked for")
        length = response.headers.get("content-length", "0")  # h11 has checked that it is digits
        if len(length) > MAX_LENGTH_DIGITS or int(length) > self._max_bytes:
            raise _NotAPictureError("too large")
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self._max_bytes:
                raise _NotAPictureError("too large")
        return bytes(content)
