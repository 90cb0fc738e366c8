"""The job that finds facial contours: the request of the synchronous route, kept until it is answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from service.contours import Contourer, ContourRequest
from service.job_runs import JobResult, JobRun

KIND = "contours"
PHOTO, LABEL_MAP = "image", "segmentation_map"

_REQUEST = TypeAdapter(ContourRequest)


def job_of(request: ContourRequest) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Inputs and files of the job that answers a request, which `Contourer.check` has passed."""
    files = {PHOTO: request.image}
    if request.segmentation_map is not None:
        files[LABEL_MAP] = request.segmentation_map
    without_files = replace(request, image=b"", segmentation_map=None)
    return {"request": _REQUEST.dump_python(without_files, mode="json"), "files": list(files)}, files


def make_contours(run: JobRun, *, contourer: Contourer) -> JobResult:
    """Do the job: the same bytes as the synchronous route, from the same cache."""
    run.progress("contours", 0)
    files: dict[str, Any] = {name: _read(run, name) for name in run.inputs["files"]}
    request = replace(_REQUEST.validate_python(run.inputs["request"]), **files)
    made = run.compute(contourer.contours, request, owner=run.owner)
    file = run.store(lambda out: out.write(made.data), ending=f"_contours.{request.output}")
    facts: dict[str, Any] = {"output": request.output, "media_type": made.media_type}
    if request.output != "json":  # there the file is the document
        facts["contours"] = made.document
    return JobResult(file, facts)


def _read(run: JobRun, name: str) -> bytes:
    with run.open(name) as file:
        return file.read()
