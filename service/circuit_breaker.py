"""Leave alone for a while what failed several times in a row."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """After so many failures in a row nothing is tried for a while; then one attempt decides."""

    def __init__(
        self, *, failures: int = 5, pause_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._pause_s = pause_s
        self._clock = clock
        self._in_a_row = 0
        self._retry_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last attempts failed, and none has succeeded since."""
        return self._retry_at is not None

    def enter(self) -> float:
        """Seconds to stay away; 0 lets the caller try. When the pause is over, the first caller alone is let in."""
        if self._retry_at is None:
            return 0.0
        now = self._clock()
        if now < self._retry_at:
            return self._retry_at - now
        self._retry_at = now + self._pause_s
        return 0.0

    def succeed(self) -> None:
        """The other side works."""
        self._in_a_row, self._retry_at = 0, None

    def fail(self) -> None:
        """It does not."""
        self._in_a_row += 1
        if self._in_a_row >= self._failures:
            self._retry_at = self._clock() + self._pause_s
