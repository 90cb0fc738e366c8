"""Admission: refused at once when full, in order otherwise, and nobody works for a client that has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from service import inference_pool
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


def test_patient_work_takes_its_turn_in_a_full_queue_and_takes_no_place_of_a_request() -> None:
    async def test(pool: InferencePool, gate: Gate) -> None:
        running = asyncio.create_task(pool.run(gate.work, 1))
        await settle()
        waiting = asyncio.create_task(pool.run(gate.work, 2))
        await settle()
        patient = [asyncio.create_task(pool.run_patiently(gate.work, number)) for number in (3, 4)]
        await settle()
        assert pool.waiting == 1
        gate.open.set()
        assert await asyncio.gather(running, waiting, *patient) == [1, 2, 3, 4]
        assert gate.done == [1, 2, 3, 4]
        assert (pool.running, pool.waiting) == (0, 0)

    with_pool(test, workers=1, queue=1)


def test_what_the_work_raises_reaches_the_caller_and_frees_the_worker() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        gate.open.set()
        assert await pool.run(gate.work, 1) == 1

    with_pool(scenario, workers=1, queue=0)


async def nobody_leaves() -> None:
    await asyncio.Event().wait()


async def results_of(results: AsyncGenerator[tuple[int, int] | None]) -> list[tuple[int, int] | None]:
    return [result async for result in results]


def test_each_item_is_worked_on_and_no_more_at_a_time_than_there_are_workers() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        taken: list[int] = []

        def items() -> Iterator[int]:
            for number in range(6):
                taken.append(number)
                yield number

        results = pool.for_client(nobody_leaves).run_each(gate.work, items())
        working = asyncio.create_task(results_of(results))
        await settle()
        assert (pool.running, pool.waiting, taken) == (2, 0, [0, 1])
        gate.open.set()
        assert sorted(filter(None, await working)) == [(number, number) for number in range(6)]

    with_pool(scenario, workers=2, queue=0)


def test_items_wait_in_a_full_queue_once_the_first_is_let_in() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        client = pool.for_client(nobody_leaves)
        first = asyncio.create_task(pool.run(gate.work, 0))
        await settle()
        with pytest.raises(BusyError):
            client.run_each(gate.work, [1])
        gate.open.set()
        await first
        assert await results_of(client.run_each(gate.work, [1, 2, 3])) == [(0, 1), (1, 2), (2, 3)]

    with_pool(scenario, workers=1, queue=0)


def test_the_items_of_a_client_that_leaves_are_dropped() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        left = asyncio.Event()
        working = asyncio.create_task(results_of(pool.for_client(left.wait).run_each(gate.work, range(9))))
        await settle()
        left.set()
        with pytest.raises(ClientGoneError):
            await working
        gate.open.set()
        await pool.run(gate.work, 9)
        assert gate.done == [0, 9]

    with_pool(scenario, workers=1, queue=1)


def test_a_slow_item_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_pool, "LONG_WAIT_S", 0.01)

    async def scenario(pool: InferencePool, gate: Gate) -> None:
        results = pool.for_client(nobody_leaves).run_each(gate.work, [5])
        assert await anext(results) is None
        gate.open.set()
        assert (0, 5) in await results_of(results)

    with_pool(scenario, workers=1, queue=0)


def test_what_the_work_on_an_item_raises_ends_the_others() -> None:
    async def scenario(pool: InferencePool, gate: Gate) -> None:
        gate.open.set()
        with pytest.raises(ZeroDivisionError):
            await results_of(pool.for_client(nobody_leaves).run_each(lambda number: gate.work(1 // number), [1, 0, 1]))
        assert gate.done == [1]
        await settle()
        assert (pool.running, pool.waiting) == (0, 0)

    with_pool(scenario, workers=1, queue=0)
