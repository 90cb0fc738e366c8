"""How figures are taken and shown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

WARM_UP_RUNS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is how many times better than the baseline we are."""

    what: str
    measured: str
    target: str
    baseline: str = ""
    ratio: float | None = None


def alternate(*ways: Callable[[], Any], runs: int) -> list[float]:
    """Median milliseconds of each, run in turn after `WARM_UP_RUNS` untimed ones."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(WARM_UP_RUNS + runs):
        for call, kept in zip(ways, times, strict=True):
            start = time.perf_counter()
            call()
            kept.append((time.perf_counter() - start) * 1000)
    return [statistics.median(kept[WARM_UP_RUNS:]) for kept in times]


def print_table(console: Console, rows: list[Row], runs: int) -> None:
    """All rows; a ratio where there is a baseline."""
    table = Table(title=f"Medians of {runs} runs; the ratio is how many times better than the baseline")
    for heading in ("what", "measured", "baseline", "ratio", "target"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x" if row.ratio < 10 else f"{row.ratio:.0f}x"
        table.add_row(row.what, row.measured, row.baseline, ratio, row.target)
    console.print(table)
