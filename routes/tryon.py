"""Virtual try-on: a draft at once, or a job that may also have an image model finish it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute

from routes.error_docs import documented
from routes.jobs import ERRORS as JOB_ERRORS
from routes.jobs import RESULT_ERRORS, SUBMIT_ERRORS, JobRemoved, OwnJob, cancel_or_delete_job, get_result
from routes.tryon_models import (
    DraftRequestDep,
    JobRequestDep,
    TryOnAccepted,
    TryOnDrafted,
    TryOnDraftQuery,
    TryOnJobQuery,
    TryOnStatus,
    request_body,
)
from service.deps import ImageModelDep, JobsDep, MetricsDep, Owner, Pool, StorageDep, SubmitJob, Timings, TryOnDep
from service.errors import (
    BadRequestError,
    BusyError,
    GarmentSegmentationError,
    ImageModelError,
    ImageTooLargeError,
    ImageUnreadableError,
    InvalidBase64Error,
    NotFoundError,
    PayloadTooLargeError,
    PoseFailedError,
    QualityCheckError,
    SegmentationFailedError,
    ServiceError,
    StorageFullError,
    TryOnTimeoutError,
    UnsupportedImageError,
    UrlNotAllowedError,
    UrlNotFetchedError,
    WarpFailedError,
)
from service.image_io import SUFFIXES, encode_image
from service.negotiation import MEDIA_TYPES, file_response, preferred_image
from service.storage import Storage, StoredFile
from service.tables import Job
from service.tryon import Deadline, TryOn, TryOnRequest, check_quality
from service.tryon_jobs import KIND, job_of
from service.tryon_report import TryOnReport, seed_code


class TryOnRoute(APIRoute):
    """A route whose failures have the codes of the try-on's own document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ServiceError as error:
                error.code = seed_code(error.code)
                raise

        return handle


def in_seeds_words(kind: type[ServiceError]) -> type[ServiceError]:
    """The failure as such a route answers it."""
    return type(kind.__name__, (kind,), {"code": seed_code(kind.code), "__doc__": kind.__doc__})


def try_on_job(job: OwnJob) -> Job:
    """The caller's job, if it is a try-on."""
    if job.kind != KIND:
        raise NotFoundError(f"Job {job.id} is no try-on. GET /api/v1/jobs/{{job_id}} tells of any kind.")
    return job


router = APIRouter(prefix="/api/tryon", tags=["virtual try-on"], route_class=TryOnRoute)

OwnTryOn = Annotated[Job, Depends(try_on_job)]
INPUT_ERRORS = (
    BadRequestError, PayloadTooLargeError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError,
    InvalidBase64Error, UrlNotAllowedError, UrlNotFetchedError, BusyError,
)  # fmt: skip
DRAFT_ERRORS = (
    SegmentationFailedError, PoseFailedError, GarmentSegmentationError, WarpFailedError, QualityCheckError,
    TryOnTimeoutError, StorageFullError,
)  # fmt: skip
PICTURE: dict[str, Any] = {"image/png": {}, "image/jpeg": {}, "image/webp": {}}


@router.post(
    "",
    response_model=TryOnDrafted,
    responses={**documented(*map(in_seeds_words, (*INPUT_ERRORS, *DRAFT_ERRORS))), 200: {"content": PICTURE}},
    openapi_extra=request_body(TryOnDraftQuery),
)
async def try_on(
    request: DraftRequestDep,
    tryon: TryOnDep,
    storage: StorageDep,
    pool: Pool,
    metrics: MetricsDep,
    timings: Timings,
    accept: Annotated[str, Header(description="`image/png` answers with the picture, else JSON.")] = "*/*",
) -> TryOnDrafted | Response:
    """Dress the person: the draft, at once. Neither photo is stored.

    The result is stored until it expires; but not where `Accept` asks for the picture itself, whose score is in the
    header `X-Quality-Score` then.
    """
    as_picture = preferred_image(accept) is not None
    report, data, file = await pool.run(_make_draft, tryon, request, None if as_picture else storage, tryon.deadline())
    timings.update(report.timings_ms)
    metrics.tryon("draft")
    if file is None:
        headers = {"X-Quality-Score": f"{report.quality.score:g}", "X-Garment-Type": report.garment_type}
        return Response(data, media_type=report.media_type, headers=headers)
    return TryOnDrafted(
        **report.model_dump(),
        file_id=file.id,
        result_image_url=f"/download/{file.id}",
        quality_score=report.quality.score,
        retry_count=len(report.attempts) - 1,
    )


@router.post(
    "/submit",
    status_code=202,
    responses=documented(*map(in_seeds_words, (*INPUT_ERRORS, *SUBMIT_ERRORS, ImageModelError))),
    openapi_extra=request_body(TryOnJobQuery),
)
async def submit_try_on(
    wanted: JobRequestDep, tryon: TryOnDep, image_model: ImageModelDep, pool: Pool, submit: SubmitJob
) -> TryOnAccepted:
    """Have a job dress the person. Follow it at GET /api/tryon/status/{job_id}.

    What can't be decoded or fetched is refused at once; what can't be dressed fails in the job. Both photos are kept
    until the job has finished.
    """
    request = wanted.request
    if request.mode == "final" and not request.allow_fallback:
        image_model.refuse_if_missing()
    await pool.run(tryon.check, request)
    inputs, files = job_of(request)
    job = await submit(KIND, inputs=inputs, files=files, webhook_url=wanted.webhook_url)
    return TryOnAccepted(job_id=job.id, status=TryOnStatus.of(job).status)


@router.get("/status/{job_id}", responses=JOB_ERRORS)
def try_on_status(job: OwnTryOn) -> TryOnStatus:
    """Where the job stands, and how good the draft is."""
    return TryOnStatus.of(job)


@router.get(
    "/result/{job_id}",
    response_class=FileResponse,
    responses={200: {"content": PICTURE}, 304: {}, **RESULT_ERRORS},
)
def try_on_result(
    job: OwnTryOn, storage: StorageDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """The picture; 409 as long as there is none. Takes ranges and If-None-Match."""
    return get_result(job, storage, if_none_match)


@router.get(
    "/artifacts/{job_id}",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}}, **JOB_ERRORS},
)
def try_on_artifacts(job: OwnTryOn, storage: StorageDep) -> Response:
    """A ZIP of what the draft was made of: masks, the warped garment, the draft, and the pose's keypoints in pixels.

    Kept where the service runs with SAVE_DEBUG_ARTIFACTS, of jobs only.
    """
    return file_response(storage, storage.find_artifacts(job.id), None)


@router.delete("/{job_id}", responses=JOB_ERRORS)
def cancel_or_delete_try_on(job: OwnTryOn, jobs: JobsDep, owner: Owner, response: Response) -> JobRemoved:
    """Cancel a job that is not finished; remove one that is, with its picture and artifacts."""
    return cancel_or_delete_job(job.id, jobs, owner, response)


def _make_draft(
    tryon: TryOn, request: TryOnRequest, storage: Storage | None, deadline: Deadline
) -> tuple[TryOnReport, bytes, StoredFile | None]:
    """The draft as a file, stored if there is a storage."""
    drafted = tryon.draft(request, deadline=deadline)
    check_quality(request, drafted.made)
    data = encode_image(drafted.made.image_rgb, format=request.format)
    file = None if storage is None else storage.save_result(data, suffix=SUFFIXES[request.format], kind="tryon")
    return TryOnReport.of(request, drafted, media_type=MEDIA_TYPES[request.format]), data, file
