"""Jobs and their webhooks from start to stop, as the settings want them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from config import Settings, webhook_key
from service.database import Database, DatabaseSetupError, open_database
from service.errors import ServiceError
from service.inference_pool import InferencePool
from service.job_runs import PASSING, Handler, JobResult, JobRun
from service.jobs import Jobs
from service.middleware import StartError
from service.processing_log import ProcessingLog
from service.storage import Storage
from service.webhooks import WebhookSender

T = TypeVar("T")


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, within the block.

    Raises:
        StartError: it can't be used as it is configured.
    """
    try:
        database = await asyncio.to_thread(open_database, settings.database_url if settings.db_use_database else None)
    except DatabaseSetupError as error:
        raise StartError(str(error)) from error
    try:
        yield database
    finally:
        database.close()


def make_jobs(settings: Settings, database: Database, storage: Storage, pool: InferencePool) -> Jobs:
    """Jobs that compute in the pool of this event loop. Not started yet."""
    loop = asyncio.get_running_loop()

    def compute(call: Callable[[], T]) -> T:
        return asyncio.run_coroutine_threadsafe(pool.run_patiently(call), loop).result()

    return Jobs(
        database,
        storage,
        compute=compute,
        concurrent=settings.concurrent_jobs,
        max_jobs=settings.max_jobs,
        worker_timeout_s=settings.worker_timeout,
        retention_hours=settings.retention_hours,
        runs_jobs=settings.role != "api",
    )


def _timed(kind: str, handler: Handler, processing: ProcessingLog) -> Handler:
    """The handler, noting how long it took where it came to an end."""

    def run(job: JobRun) -> JobResult:
        began = time.perf_counter()

        def note(*, failed: bool, stages: Mapping[str, float]) -> None:
            processing.note(kind, failed=failed, total_ms=(time.perf_counter() - began) * 1000, stages=stages)

        try:
            result = handler(job)
        except PASSING:
            raise  # it is done again
        except ServiceError:
            note(failed=True, stages={})
            raise
        note(failed=False, stages=result.details.get("timings_ms", {}))
        return result

    return run


@asynccontextmanager
async def running_jobs(
    jobs: Jobs, settings: Settings, handlers: Mapping[str, Handler], processing: ProcessingLog
) -> AsyncIterator[None]:
    """Jobs run, and webhooks are sent, within the block.

    Raises:
        StartError: they can't be run.
    """
    for kind, handler in handlers.items():
        jobs.register(kind, _timed(kind, handler, processing))
    webhooks = None
    if settings.webhook_secret is not None:
        webhooks = WebhookSender(
            jobs.store, key=webhook_key(settings.webhook_secret), allow_private=settings.webhook_allow_private
        )
        jobs.on_finished = webhooks.poke
    try:
        await asyncio.to_thread(jobs.start)
    except (RuntimeError, ServiceError, SQLAlchemyError) as error:
        raise StartError(f"Jobs can't be run: {error}") from error
    try:
        yield
    finally:
        await asyncio.to_thread(jobs.close)
        if webhooks is not None:
            await webhooks.close()
