"""The job that dresses a person: the draft, the image model's picture of it, and what is kept to look at."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from service.books import ZIP_DATE
from service.errors import ImageModelError
from service.image_io import SUFFIXES, encode_image
from service.image_model import ImageModel, ImageModelAnswer
from service.job_runs import JobResult, JobRun
from service.negotiation import MEDIA_TYPES
from service.tryon import Deadline, Drafted, TryOn, TryOnRequest, check_quality
from service.tryon_report import TryOnReport
from tryon_final import FinalPicture
from tryon_pipeline import STAGES, Debug, Stage
from utils import RGBImage, Stopwatch

KIND = "tryon"
USER_IMAGE, PRODUCT_IMAGE = "user_image", "product_image"
POLL_S = 0.3
"""How often a job that waits for the image model looks whether it is still wanted."""
GENERATION, STORAGE = "generation", "storage"
DRAFT_SHARE = {"draft": 0.9, "final": 0.4}
"""How much of a job its draft is."""
GRAY_DIMENSIONS = 2

_REQUEST = TypeAdapter(TryOnRequest)


@dataclass(frozen=True, slots=True)
class TryOnTools:
    """What such jobs work with. `loop` is the image model's; `on_outcome` is told of each picture that was made."""

    tryon: TryOn
    image_model: ImageModel
    loop: asyncio.AbstractEventLoop
    keep_artifacts: bool
    on_outcome: Callable[[str], None]


def job_of(request: TryOnRequest) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Inputs and files of the job that answers a request, which `TryOn.check` has passed."""
    files = {USER_IMAGE: request.user_image, PRODUCT_IMAGE: request.product_image}
    without_files = replace(request, user_image=b"", product_image=b"")
    return {"request": _REQUEST.dump_python(without_files, mode="json")}, files


def make_tryon(run: JobRun, *, tools: TryOnTools) -> JobResult:
    """Do the job. A job that is done again asks the image model again."""
    files: dict[str, Any] = {name: _read(run, name) for name in (USER_IMAGE, PRODUCT_IMAGE)}
    request = replace(_REQUEST.validate_python(run.inputs["request"]), **files)
    deadline = tools.tryon.deadline()
    drafted = run.compute(
        tools.tryon.draft, request, deadline=deadline, on_stage=partial(_tell, run, request),
        keep_debug=tools.keep_artifacts,
    )  # fmt: skip
    debug = drafted.made.debug
    artifacts = _keep(run, debug) if tools.keep_artifacts and debug is not None else []
    check_quality(request, drafted.made)
    clock = Stopwatch()
    picture, outcome = drafted.made.image_rgb, None
    if request.mode == "final":
        with clock.stage(GENERATION):
            picture, outcome = _final(run, request, drafted, tools, deadline)
    run.progress(STORAGE, 0.95)
    with clock.stage(STORAGE):
        data = run.compute(encode_image, picture, format=request.format)
        file = run.store(lambda out: out.write(data), ending=f"_tryon.{SUFFIXES[request.format]}")
    tools.on_outcome(_outcome(outcome))
    report = TryOnReport.of(
        request, drafted, media_type=MEDIA_TYPES[request.format], outcome=outcome, artifacts=artifacts,
        timings_ms=clock.timings_ms,
    )  # fmt: skip
    return JobResult(file, report.model_dump(mode="json"))


def _read(run: JobRun, name: str) -> bytes:
    with run.open(name) as file:
        return file.read()


def _tell(run: JobRun, request: TryOnRequest, stage: Stage) -> None:
    run.progress(stage, DRAFT_SHARE[request.mode] * STAGES.index(stage) / len(STAGES))


def _final(
    run: JobRun, request: TryOnRequest, drafted: Drafted, tools: TryOnTools, deadline: Deadline
) -> tuple[RGBImage, ImageModelAnswer | ImageModelError]:
    """The image model's picture; or the draft, and why.

    Raises:
        ImageModelError: the caller wants no draft in its place.
    """
    run.progress(GENERATION, DRAFT_SHARE[request.mode])
    try:
        tools.image_model.refuse_if_missing()
        final = run.compute(tools.tryon.final_picture, drafted, request.options)
        answer = _ask(run, request, final, tools, deadline)
    except ImageModelError as failure:
        if not request.allow_fallback:
            raise
        return drafted.made.image_rgb, failure
    return run.compute(final.restore, answer.rgb), answer


def _ask(
    run: JobRun, request: TryOnRequest, final: FinalPicture, tools: TryOnTools, deadline: Deadline
) -> ImageModelAnswer:
    """Ask the image model from this thread, which is none of the pool's; a cancelled job closes the connection."""
    work = tools.image_model.edit(
        final.prompt,
        final.images,
        checks=[final.fault],
        max_retries=request.options.max_retries,
        seed=request.options.seed,
        deadline_s=deadline.left_s,
    )
    future: Future[ImageModelAnswer] = asyncio.run_coroutine_threadsafe(work, tools.loop)
    try:
        while True:
            try:
                return future.result(timeout=POLL_S)
            except TimeoutError:
                run.progress(GENERATION, DRAFT_SHARE[request.mode])
    finally:
        future.cancel()


def _keep(run: JobRun, debug: Debug) -> list[str]:
    """Store what the draft was made of, as a ZIP; the names in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
        archive.writestr(zipfile.ZipInfo("keypoints.json", ZIP_DATE), json.dumps(debug.keypoints, indent=1))
        for name, image in sorted(debug.images.items()):
            rgb = np.dstack([image] * 3) if image.ndim == GRAY_DIMENSIONS else image
            png = run.compute(encode_image, rgb, format="png")
            archive.writestr(zipfile.ZipInfo(f"{name}.png", ZIP_DATE), png)
        names = archive.namelist()
    run.keep(out.getvalue())
    return names


def _outcome(outcome: ImageModelAnswer | ImageModelError | None) -> str:
    if outcome is None:
        return "draft"
    return "generated" if isinstance(outcome, ImageModelAnswer) else outcome.reason
