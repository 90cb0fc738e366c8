"""Admission: refused at once when full, in order otherwise, and nobody works for a client that has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service.errors import BusyError
from service.inference_pool import ClientGoneError, InferencePool


class Gate:
    """Work that lasts until the test opens it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.done: list[int] = []

    def work(self, number: int) -> int:
        assert self.open.wait(10)
        self.done.append(number)
        return number


def with_pool(test: Callable[[InferencePool, Gate], Coroutine[Any, Any, None]], *, workers: int, queue: int) -> None:
    async def main() -> None:
        pool, gate = InferencePool(max_workers=workers, max_queue=queue), Gate()
        try:
            await test(pool, gate)
        finally:
            gate.open.set()
            pool.close()

    asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_too_many_is_refused_at_once_with_retry_after() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        admitted = [asyncio.create_task(pool.run(gate.work, number)) for number in range(3)]
        await settle()
        assert (pool.running, pool.waiting) == (1, 2)
        with pytest.raises(BusyError) as refusal:
            await pool.run(gate.work, 9)
        assert refusal.value.retry_after_s
        gate.open.set()
        assert await asyncio.gather(*admitted) == [0, 1, 2]
        assert gate.done == [0, 1, 2]
        await settle()
        assert (pool.running, pool.waiting) == (0, 0)
        assert await pool.run(gate.work, 3) == 3

    with_pool(scenario, workers=1, queue=2)


def test_without_a_queue_only_workers_are_admitted() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        first = asyncio.create_task(pool.run(gate.work, 0))
        await settle()
        with pytest.raises(BusyError):
            await pool.run(gate.work, 1)
        gate.open.set()
        await first

    with_pool(scenario, workers=1, queue=0)


def test_a_client_that_leaves_the_queue_frees_its_place() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        left = asyncio.Event()
        working = asyncio.create_task(pool.run(gate.work, 0))
        await settle()
        waiting = asyncio.create_task(pool.for_client(left.wait).run(gate.work, 1))
        await settle()
        assert pool.waiting == 1
        left.set()
        with pytest.raises(ClientGoneError):
            await waiting
        assert not pool.waiting
        next_one = asyncio.create_task(pool.run(gate.work, 2))
        gate.open.set()
        assert (await working, await next_one) == (0, 2)
        assert gate.done == [0, 2]

    with_pool(scenario, workers=1, queue=1)


def test_a_cancelled_caller_keeps_its_worker_until_the_thread_is_free() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        task = asyncio.create_task(pool.run(gate.work, 0))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.running == 1
        gate.open.set()
        assert await pool.run(gate.work, 1) == 1

    with_pool(scenario, workers=1, queue=1)


def test_a_cancelled_waiting_caller_frees_its_place() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        working = asyncio.create_task(pool.run(gate.work, 0))
        await settle()
        left = asyncio.Event()
        waiting = asyncio.create_task(pool.for_client(left.wait).run(gate.work, 1))
        await settle()
        waiting.cancel()
        await settle()
        assert pool.waiting == 0
        gate.open.set()
        await working
        assert await pool.run(gate.work, 2) == 2

    with_pool(scenario, workers=1, queue=1)


def test_what_the_work_raises_reaches_the_caller_and_frees_the_worker() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        gate.open.set()
        assert await pool.run(gate.work, 1) == 1

    with_pool(scenario, workers=1, queue=0)
