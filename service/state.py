"""What lives as long as the service: engines, storage and the pool, built once when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version as installed_version

import structlog

from body_pose import BodyPoses
from config import Settings
from face_detector import FaceDetector, load_face_detector
from face_landmarks import FaceLandmarks
from facial_expression import ExpressionModel, load_expression_model
from mask_networks import GARMENT_PROFILE, PERSON_PROFILE, MaskNetwork, load_mask_network
from personalizer import Personalizer
from service import books, contour_jobs, image_jobs, tryon_jobs
from service.accounts import Accounts
from service.auth import user_of
from service.contours import Contourer
from service.database import Database
from service.engine_health import engines_of
from service.errors import ServiceError, StorageRefusedError, StorageUnavailableError
from service.fetch import Fetcher
from service.illustrations import Illustrator
from service.image_generation import ImageGeneration
from service.image_model import ImageModel
from service.inference_pool import InferencePool
from service.job_runs import Handler
from service.jobs import Jobs
from service.memory import bound_arenas
from service.metrics import Metrics
from service.middleware import StartError
from service.model_pulls import ModelPulls
from service.model_store import ModelStore
from service.page_diffusion import PageDiffusion
from service.processing_log import ProcessingLog
from service.rate_limit import RateLimiter
from service.result_cache import ResultCache
from service.running_jobs import make_jobs, opened_database, running_jobs
from service.running_storage import StorageMonitor, open_storage
from service.shutdown import set_when_told_to_stop
from service.storage import Storage
from service.templates import TemplateStore
from service.tokens import AccessTokens
from service.tryon import TryOn
from tryon_pipeline import TryOnEngines

logger = structlog.get_logger("start")

SWEEP_INTERVAL_S = 600
"""Retention is counted in hours; a sweep lists two folders."""

PASSWORDS_AT_ONCE, PASSWORDS_WAITING = 2, 20
"""Argon2 takes 64 MB and 50 ms of all cores for one password: a flood of logins must not take the memory."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that requests share."""

    settings: Settings
    pool: InferencePool
    storage: Storage
    storage_monitor: StorageMonitor
    templates: TemplateStore
    models: ModelStore
    pulls: ModelPulls
    landmarks: FaceLandmarks
    poses: BodyPoses
    person_network: MaskNetwork | None
    garment_network: MaskNetwork | None
    detector: FaceDetector
    expression_model: ExpressionModel | None
    personalizer: Personalizer
    image_model: ImageModel
    images: ImageGeneration
    diffusion: PageDiffusion
    fetcher: Fetcher
    limiter: RateLimiter
    metrics: Metrics
    database: Database
    jobs: Jobs
    accounts: Accounts
    password_pool: InferencePool
    cache: ResultCache
    processing: ProcessingLog
    closing: asyncio.Event
    """Set once the process was told to stop: answers that have no end of their own end then."""

    def forget(self, owner: str) -> None:
        """Remove what is kept of an owner: jobs and their results, cached results, templates.

        Raises:
            DatabaseUnavailableError, StorageUnavailableError: some of it may be left.
        """
        while jobs := self.jobs.store.list(owner, kind=None, status=None, after=None, limit=100):
            unfinished = [self.jobs.cancel_or_delete(job.id, owner) for job in jobs]
            if all(job is not None and job.status != "cancelled" for job in unfinished):
                break  # they run, and are being stopped: their own end removes their files
        self.cache.forget(owner)
        self.templates.forget(owner)
        if user_id := user_of(owner):
            self.storage.forget_user(user_id)

    @property
    def contourer(self) -> Contourer:
        """Facial contours on what clients send."""
        return Contourer(self.landmarks, max_pixels=self.settings.max_pixels, cache=self.cache)

    @property
    def tryon_engines(self) -> TryOnEngines:
        """What a draft looks with; rembg's networks where their weights are installed."""
        return TryOnEngines(
            self.poses,
            self.landmarks.person_mask,
            garment_mask=self.garment_network,
            fine_person_mask=self.person_network,
            beside=self.personalizer.beside,
        )

    @property
    def tryon(self) -> TryOn:
        """Try-ons on what clients send."""
        return TryOn(
            self.tryon_engines,
            self.landmarks,
            max_pixels=self.settings.max_pixels,
            timeout_s=self.settings.tryon_timeout,
        )

    @property
    def illustrator(self) -> Illustrator:
        """The main job on files."""
        return Illustrator(
            personalizer=self.personalizer,
            storage=self.storage,
            templates=self.templates,
            max_pixels=self.settings.max_pixels,
        )


@asynccontextmanager
async def open_state(
    settings: Settings, *, tokens: AccessTokens, limiter: RateLimiter, metrics: Metrics
) -> AsyncIterator[State]:
    """Build the state, keep the folders swept, and close everything at the end.

    Raises:
        StartError: the service can't run as it is configured.
    """
    bound_arenas()
    async with opened_database(settings) as database:
        state = await _build(settings, tokens, limiter, metrics, database)
        _watch(state)
        _tell(state)
        if _wants_pack(state) and settings.auto_download_models:
            state.models.pull_in_background(settings.face_model)
        state.images.start()
        state.diffusion.start()
        metrics.on_work = state.processing.note
        background = [
            asyncio.create_task(_sweep_regularly(state)),
            asyncio.create_task(state.processing.keep_writing()),
            asyncio.create_task(state.storage_monitor.keep_checking()),
        ]
        try:
            with set_when_told_to_stop(state.closing):
                async with running_jobs(state.jobs, settings, _handlers(state), state.processing):
                    yield state
        finally:
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await state.image_model.close()
            await asyncio.to_thread(state.images.close)
            await asyncio.to_thread(state.diffusion.close)
            await state.fetcher.close()
            await asyncio.to_thread(state.pool.close)
            await asyncio.to_thread(state.password_pool.close)
            state.personalizer.close()
            state.landmarks.close()
            state.poses.close()
            await limiter.close()


def _handlers(state: State) -> dict[str, Handler]:
    """Who does which kind of job."""
    tryon_tools = tryon_jobs.TryOnTools(
        tryon=state.tryon,
        image_model=state.image_model,
        loop=asyncio.get_running_loop(),
        keep_artifacts=state.settings.keeps_artifacts,
        on_outcome=state.metrics.tryon,
    )
    return {
        books.KIND: partial(books.make_book, illustrator=state.illustrator, diffusion=state.diffusion),
        contour_jobs.KIND: partial(contour_jobs.make_contours, contourer=state.contourer),
        image_jobs.KIND: partial(image_jobs.make_images, generation=state.images),
        tryon_jobs.KIND: partial(tryon_jobs.make_tryon, tools=tryon_tools),
    }


async def _build(
    settings: Settings, tokens: AccessTokens, limiter: RateLimiter, metrics: Metrics, database: Database
) -> State:
    (storage, storage_monitor), (landmarks, detector, expression_model), mask_networks = await asyncio.gather(
        asyncio.to_thread(_open_storage, settings),
        asyncio.to_thread(_load_engines, settings),
        asyncio.to_thread(_load_mask_networks, settings),
    )
    templates = TemplateStore(database, storage)
    try:
        await asyncio.to_thread(templates.adopt_pictures)
    except StorageUnavailableError:
        logger.warning("pictures of templates can't be listed; housekeeping tries again")
    except ServiceError as error:
        raise StartError(f"The templates can't be listed: {error.message}") from error
    pool = InferencePool(max_workers=settings.max_workers, max_queue=settings.max_queue)
    images = ImageGeneration(settings, storage)
    models = ModelStore(settings.models_dir, hub=images.models)
    diffusion = PageDiffusion(settings, models=models, hub=images.models, landmarks=landmarks, detector=detector)
    return State(
        settings=settings,
        pool=pool,
        storage=storage,
        storage_monitor=storage_monitor,
        templates=templates,
        models=models,
        pulls=ModelPulls(models),
        landmarks=landmarks,
        poses=BodyPoses(pool_size=settings.max_workers),
        person_network=mask_networks[0],
        garment_network=mask_networks[1],
        detector=detector,
        expression_model=expression_model,
        personalizer=Personalizer(
            detector=detector, landmarks=landmarks, threads=settings.max_workers, diffusion=diffusion.styler
        ),
        image_model=_image_model(settings, pool),
        images=images,
        diffusion=diffusion,
        fetcher=Fetcher(
            max_bytes=settings.max_upload_bytes,
            timeout_s=settings.fetch_timeout,
            allow_private=settings.fetch_allow_private,
        ),
        limiter=limiter,
        metrics=metrics,
        database=database,
        jobs=make_jobs(settings, database, storage, pool),
        closing=asyncio.Event(),
        accounts=Accounts(
            database,
            tokens,
            refresh_lifetime=timedelta(days=settings.auth_refresh_token_expire_days),
            on_event=metrics.auth_event,
        ),
        password_pool=InferencePool(max_workers=PASSWORDS_AT_ONCE, max_queue=PASSWORDS_WAITING),
        cache=ResultCache(
            database,
            lifetime=timedelta(hours=settings.retention_hours),
            max_bytes=settings.cache_max_mb * 2**20,
            on_lookup=metrics.cache_lookup,
        ),
        processing=ProcessingLog(database),
    )


def _open_storage(settings: Settings) -> tuple[Storage, StorageMonitor]:
    """A storage that does not answer is waited for; one that refuses the service stops the start."""
    storage = open_storage(settings)
    monitor = StorageMonitor(storage)
    try:
        monitor.check()
    except StorageRefusedError as error:
        raise StartError(error.message) from error
    return storage, monitor


def _image_model(settings: Settings, pool: InferencePool) -> ImageModel:
    return ImageModel(
        base_url=str(settings.nano_banana_api_url),
        key=settings.nano_banana_api_key,
        models=settings.nano_banana_models,
        timeout_s=settings.nano_banana_timeout,
        concurrency=settings.nano_banana_concurrency,
        allowed=settings.allow_external_image_api,
        proxy=str(settings.nano_banana_proxy) if settings.nano_banana_proxy else None,
        max_pixels=settings.max_pixels,
        pool=pool,
    )


def _load_engines(settings: Settings) -> tuple[FaceLandmarks, FaceDetector, ExpressionModel | None]:
    landmarks = FaceLandmarks(pool_size=settings.max_workers)
    try:
        detector = load_face_detector(
            engine=settings.face_engine,
            model=settings.face_model,
            det_threshold=settings.face_det_thresh,
            device=settings.device,
            models_dir=settings.models_dir,
            landmarks=landmarks,
            threads=settings.cores,
            match_threshold=settings.face_match_threshold,
        )
        expression_model = load_expression_model(settings.models_dir)
    except ServiceError as error:
        raise StartError(error.message) from error
    landmarks.warm_up()
    return landmarks, detector, expression_model


def _load_mask_networks(settings: Settings) -> tuple[MaskNetwork | None, MaskNetwork | None]:
    """Of people and of garments."""
    # Every worker may run one at the same time, and all together no more threads than there are cores.
    threads = max(1, settings.cores // settings.max_workers)
    try:
        return (
            load_mask_network(PERSON_PROFILE, settings.models_dir, threads=threads),
            load_mask_network(GARMENT_PROFILE, settings.models_dir, threads=threads),
        )
    except ServiceError as error:
        raise StartError(error.message) from error


async def _sweep_regularly(state: State) -> None:
    hours = state.settings.retention_hours
    sweeps: dict[str, Callable[[], int]] = {
        "expired pictures removed": partial(state.storage.sweep, retention_hours=hours),
        "expired tokens and keys removed": state.accounts.sweep,
        "expired cached results removed": state.cache.sweep,
        "expired processing times removed": partial(state.processing.sweep, keep=timedelta(hours=hours)),
        "pictures without a row made templates": state.templates.adopt_pictures,
    }
    while True:
        for what, sweep in sweeps.items():
            try:
                if number := await asyncio.to_thread(sweep):
                    logger.info(what, number=number)
            except (OSError, ServiceError):
                logger.exception("housekeeping failed, and tries again later", what=what)
        await asyncio.sleep(SWEEP_INTERVAL_S)


def _wants_pack(state: State) -> bool:
    return state.settings.face_engine == "auto" and state.models.find(state.settings.face_model) is None


def _watch(state: State) -> None:
    """Let a scrape read what the state holds."""
    pool, limiter, watch = state.pool, state.limiter, state.metrics.watch

    def storages() -> dict[str, float]:
        return {name: float(limiter.storage == name) for name in ("redis", "memory")}

    def engines() -> dict[str, float]:
        return {name: float(engine.state == "ready") for name, engine in engines_of(state).items()}

    watch("inference_running", "Requests that the pool works on, and how many it may.", "of", lambda: {
        "now": pool.running, "most": pool.max_workers
    })  # fmt: skip
    watch("inference_waiting", "Requests that wait for the pool, and how many may.", "of", lambda: {
        "now": pool.waiting, "most": pool.max_queue
    })  # fmt: skip
    watch("generation_waiting", "Requests that wait for the image model, and how many may.", "of", lambda: {
        "now": state.images.generator.waiting, "most": state.images.generator.max_queue
    })  # fmt: skip
    watch("jobs", "Jobs that are kept, by status.", "status", lambda: dict(state.jobs.health.counts))
    watch("database_answers", "Whether the database answers (1) or not (0).", "kind", lambda: {
        state.database.kind: float(state.jobs.health.database_answers)
    })  # fmt: skip
    watch("storage_answers", "Whether files can be stored (1) or not (0).", "kind", lambda: {
        state.storage.store.kind: float(state.storage_monitor.health.state == "ready")
    })  # fmt: skip
    watch("engine_ready", "Whether an engine runs (1) or is missing (0).", "engine", engines)
    watch("rate_limit_storage", "Where requests are counted: 1 for the storage in use.", "storage", storages)


def _tell(state: State) -> None:
    """What runs, what is missing, what works without it, and how to get it."""
    settings, detector = state.settings, state.detector
    logger.info("faces", engine=detector.engine, model=detector.model, provider=detector.provider)
    logger.info("landmarks", engine="mediapipe", model=installed_version("mediapipe"), provider="XNNPACK CPU")
    logger.info("files", storage=state.storage.store.kind)
    logger.info("jobs", database=state.database.kind, role=settings.role, at_once=settings.concurrent_jobs)
    if state.database.kind == "memory":
        logger.warning("no database: jobs and accounts are kept in memory, and lost when the service stops")
    if settings.auth_secret_key is None:
        logger.warning("access tokens are signed with a secret of this start: set AUTH_SECRET_KEY to keep logins")
    logger.info("pages", engine="classic", workers=settings.max_workers, queue=settings.max_queue)
    if not detector.embeds:
        logger.warning(
            "no recogniser: pages are personalised and faces found without it, but there are no embeddings",
            missing=settings.face_model,
            get_it=state.models.how_to_get(settings.face_model),
        )
    for model in state.models.status():
        if model.installed and model.commercial_use != "yes":
            logger.warning("not licensed for commercial use", model=model.name, licence=model.licence)
    if state.image_model.status()[0] == "ready":
        logger.warning(
            "an image model is set up: final try-ons send the person's photo to a third party",
            to=state.image_model.provider,
            forbid_it="ALLOW_EXTERNAL_IMAGE_API=false",
        )
    if not settings.needs_credentials:
        logger.warning("no authentication: whoever reaches this address may use it; set API_KEY")
