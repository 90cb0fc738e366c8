"""Knowing that the process was told to stop, before the server has waited for its open connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def set_when_told_to_stop(closing: asyncio.Event) -> Iterator[None]:
    """Within the block the server's signal handlers set `closing` as well; answers that have no end watch it.

    Python allows signal handlers in the main thread only: elsewhere (in tests) nothing is watched.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    servers_own = {number: signal.getsignal(number) for number in SIGNALS}

    def told(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(closing.set)
        former = servers_own[signal.Signals(number)]
        if callable(former):
            former(number, frame)

    for number in SIGNALS:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in servers_own.items():
            signal.signal(number, handler)
