"""How long work took, kept for RETENTION_HOURS: what the Studio draws, and what an operator without Prometheus reads.

Requests only note; the database is written behind them, many rows at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import sqlalchemy as sa
import structlog

from service.database import Database
from service.errors import ServiceError
from service.tables import ProcessingMetric, utc_now

logger = structlog.get_logger(__name__)

FLUSH_S = 2.0
MAX_WAITING = 10_000
"""Rows that wait for a database that does not answer; then the oldest are given up."""
MAX_READ = 10_000
"""Rows that a summary looks at, the newest."""
MAX_RECENT = 200


@dataclass(frozen=True, slots=True)
class Recent:
    """One piece of work."""

    at: datetime
    total_ms: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """The work of one kind: how much, how fast (medians and 95th percentiles of what succeeded), and the latest."""

    kind: str
    count: int
    failed: int
    median_ms: float | None
    p95_ms: float | None
    stages_ms: Mapping[str, float]
    recent: Sequence[Recent]


class ProcessingLog:
    """`note` is safe from any thread and never blocks; `summaries` and `sweep` block."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)

    def note(self, kind: str, *, failed: bool, total_ms: float, stages: Mapping[str, float]) -> None:
        """Remember one piece of work."""
        rounded = {stage: round(ms, 2) for stage, ms in stages.items()}
        self._waiting.append(
            {"id": uuid4(), "kind": kind, "at": utc_now(), "failed": failed, "total_ms": round(total_ms, 2),
             "stages": rounded}
        )  # fmt: skip

    async def keep_writing(self) -> None:
        """Write what was noted, every few seconds, until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await asyncio.to_thread(self.flush)
        finally:
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Write what was noted. What the database does not take waits for the next time."""
        rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not rows:
            return
        try:
            with self._database.session() as session:
                session.execute(sa.insert(ProcessingMetric), rows)
        except ServiceError:
            logger.warning("processing times wait: the database does not take them", rows=len(rows))
            self._waiting.extendleft(reversed(rows))

    def summaries(self, *, since: datetime, kind: str | None) -> list[Summary]:
        """What was done since then, by kind, the busiest first."""
        self.flush()
        query = sa.select(ProcessingMetric).where(ProcessingMetric.at >= since)
        if kind is not None:
            query = query.where(ProcessingMetric.kind == kind)
        with self._database.session() as session:
            rows = session.scalars(query.order_by(ProcessingMetric.at.desc()).limit(MAX_READ)).all()
        by_kind: dict[str, list[ProcessingMetric]] = {}
        for row in rows:
            by_kind.setdefault(row.kind, []).append(row)
        return sorted((_summary(kind, rows) for kind, rows in by_kind.items()), key=lambda each: -each.count)

    def sweep(self, *, keep: timedelta) -> int:
        """Forget what is older; how much."""
        with self._database.session() as session:
            old = sa.delete(ProcessingMetric).where(ProcessingMetric.at < utc_now() - keep)
            return len(session.scalars(old.returning(ProcessingMetric.id)).all())


def _summary(kind: str, rows: Sequence[ProcessingMetric]) -> Summary:
    good = [row for row in rows if not row.failed]
    totals = [row.total_ms for row in good]
    stages: dict[str, list[float]] = {}
    for row in good:
        for stage, ms in row.stages.items():
            stages.setdefault(stage, []).append(ms)
    return Summary(
        kind=kind,
        count=len(rows),
        failed=len(rows) - len(good),
        median_ms=round(float(np.median(totals)), 2) if totals else None,
        p95_ms=round(float(np.percentile(totals, 95)), 2) if totals else None,
        stages_ms={stage: round(float(np.median(times)), 2) for stage, times in stages.items()},
        recent=[Recent(row.at, row.total_ms, row.failed) for row in rows[:MAX_RECENT]],
    )
