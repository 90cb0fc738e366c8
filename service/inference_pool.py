"""CPU work off the event loop: a fixed number of threads behind a bounded queue.

More waiting callers only make everyone wait longer, so one too many is refused at once. A caller whose client has
gone gives its place to the next; work that has begun is finished, since a thread can't be stopped.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from service.errors import BusyError

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

RETRY_AFTER_S = 2
LONG_WAIT_S = 15
"""Seconds after which a client that is shown each result wants a sign of life: proxies cut a silent stream."""


class ClientGoneError(Exception):
    """The client closed the connection before its turn came: nobody is left to answer."""


class InferencePool:
    """`max_workers` threads, and at most `max_queue` callers that wait for one. Belongs to one event loop."""

    def __init__(self, *, max_workers: int, max_queue: int) -> None:
        self.max_workers = max_workers
        self.max_queue = max_queue
        self.waiting = 0
        self.running = 0
        self._turns = asyncio.Semaphore(max_workers)
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="inference")

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn(*args, **kwargs)` in a worker thread.

        Raises:
            BusyError: at once, when `max_queue` callers wait already.
        """
        return await self._run(partial(fn, *args, **kwargs), None)

    async def run_patiently(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for work that no client waits for: it takes its turn however many wait, and is never refused."""
        await self._turns.acquire()
        return await self._work(partial(fn, *args, **kwargs))

    def for_client(self, gone: Callable[[], Awaitable[object]]) -> ClientPool:
        """The pool as one request sees it; `gone` returns when its client has closed the connection."""
        return ClientPool(self, gone)

    def close(self) -> None:
        """Wait for the work that has begun, and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def refuse_if_full(self) -> None:
        """Raise `BusyError` if one more caller would not be let in."""
        if self._turns.locked() and self.waiting >= self.max_queue:
            raise BusyError("The service is working to capacity. Try again shortly.", retry_after_s=RETRY_AFTER_S)

    async def _run(
        self, call: Callable[[], T], gone: Callable[[], Awaitable[object]] | None, *, admitted: bool = False
    ) -> T:
        if not admitted:
            self.refuse_if_full()
        await self._take_turn(gone)
        return await self._work(call)

    async def _work(self, call: Callable[[], T]) -> T:
        self.running += 1
        # The thread logs with the request's id.
        in_context = partial(contextvars.copy_context().run, call)
        work = asyncio.get_running_loop().run_in_executor(self._threads, in_context)
        work.add_done_callback(self._give_turn)
        # Shielded: a cancelled caller must not free the turn while its thread still works.
        return await asyncio.shield(work)

    async def _take_turn(self, gone: Callable[[], Awaitable[object]] | None) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        self.waiting += 1
        try:
            await (self._turns.acquire() if gone is None else self._turn_unless(gone))
        finally:
            self.waiting -= 1

    async def _turn_unless(self, gone: Callable[[], Awaitable[object]]) -> None:
        turn = asyncio.ensure_future(self._turns.acquire())
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({turn, left}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientGoneError
        except BaseException:
            if not turn.cancel():
                self._turns.release()
            raise
        finally:
            left.cancel()

    def _give_turn(self, _: asyncio.Future[T]) -> None:
        self.running -= 1
        self._turns.release()


class ClientPool:
    """The pool for one request: its place in the queue is freed when its client goes."""

    def __init__(self, pool: InferencePool, gone: Callable[[], Awaitable[object]]) -> None:
        self._pool = pool
        self._gone = gone

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `InferencePool.run`.

        Raises:
            BusyError: at once, when the queue is full.
            ClientGoneError: the client went before its turn.
        """
        return await self._pool._run(partial(fn, *args, **kwargs), self._gone)

    def run_each(self, fn: Callable[[Item], T], items: Iterable[Item]) -> AsyncGenerator[tuple[int, T] | None]:
        """`fn` of every item: its index and result, in the order in which they finish; None where one takes long.

        At most as many items as there are workers are in work or in the queue at a time, so that a long list neither
        fills the memory nor keeps other callers waiting for more than their turn. What is left is dropped when the
        client goes, and when the generator is closed.

        Raises:
            BusyError: at once, not at the first item, when the queue is full. Later items wait in it in any case.
            ClientGoneError: on the way, when the client has gone.
        """
        self._pool.refuse_if_full()
        return self._each(fn, items)

    async def _each(self, fn: Callable[[Item], T], items: Iterable[Item]) -> AsyncGenerator[tuple[int, T] | None]:
        waiting = enumerate(items)
        working: dict[asyncio.Future[T], int] = {}
        left = asyncio.ensure_future(self._gone())
        try:
            while True:
                for index, item in islice(waiting, self._pool.max_workers - len(working)):
                    working[asyncio.ensure_future(self._pool._run(partial(fn, item), None, admitted=True))] = index
                if not working:
                    return
                events: set[asyncio.Future[Any]] = {*working, left}
                done, _ = await asyncio.wait(events, timeout=LONG_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                if left in done:
                    raise ClientGoneError
                if not done:
                    yield None
                for work in working.keys() & done:
                    yield working.pop(work), work.result()
        finally:
            left.cancel()
            for work in working:
                work.cancel()
