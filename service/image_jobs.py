"""The job that generates pictures: the wish of the synchronous route, kept until it is answered."""

from __future__ import annotations

import base64
import json
import time
from functools import partial
from typing import Any

from fitting_batches import Images
from generation import Ticket, Watcher
from generation_batch import ImageRequest
from service.errors import BusyError
from service.image_generation import GeneratedImages, ImageGeneration, Wish, kind_of
from service.image_wishes import EditWish, GenerationWish, MemoryWish, SubjectWish
from service.job_runs import JobResult, JobRun

KIND = "images"
WISH_CLASSES: dict[str, type[Wish]] = {
    "image": GenerationWish, "edit": EditWish, "memory": MemoryWish, "subject": SubjectWish,
}  # fmt: skip
LOOK_S = 0.25
"""How often a job that waits for its pictures looks whether it is still wanted."""


def job_of(wish: Wish, pictures: dict[str, bytes]) -> dict[str, Any]:
    """Inputs of the job that fulfils a wish; its files are the pictures that came with it."""
    kind = kind_of(wish)
    # A route's class has more: files, and who is told. What it looks at comes as a file, which goes with the job's end.
    own = set(WISH_CLASSES[kind].model_fields) - {"reference_image_url", "user"}
    return {"kind": kind, "wish": wish.model_dump(mode="json", include=own), "pictures": list(pictures)}


def make_images(run: JobRun, *, generation: ImageGeneration) -> JobResult:
    """Do the job: the same pictures as the synchronous route makes with this seed. They are stored in any case."""
    run.progress("preparing", 0)
    generation.require()
    wish = WISH_CLASSES[run.inputs["kind"]].model_validate(run.inputs["wish"]).with_seed(of=run.id)
    pictures = {name: _read(run, name) for name in run.inputs["pictures"]}
    request = run.compute(generation.prepare, wish, pictures)
    images, warnings = _awaited(run, generation, request)
    made = run.until_stored(partial(run.compute, generation.finish, wish, request, images, warnings, job=run.id))
    answer = answer_of(made, wish, base_url=str(generation.settings.service_url or "/"))
    body = json.dumps(answer).encode()
    file = run.store(lambda out: out.write(body), ending="_images.json")
    without_pictures = [{key: value for key, value in each.items() if key != "b64_json"} for each in answer["data"]]
    files = [image.file.key for image in made.images if image.file is not None]
    return JobResult(file, {**answer, "data": without_pictures, "media_type": file.media_type}, files)


def answer_of(made: GeneratedImages, wish: Wish, *, base_url: str) -> dict[str, Any]:
    """What became of a wish, as OpenAI's clients read it, and more.

    Args:
        made: the pictures.
        wish: what was asked for.
        base_url: what links to pictures begin with.
    """
    data: list[dict[str, Any]] = []
    user_id = wish.user_id if isinstance(wish, MemoryWish | SubjectWish) else None
    for image in made.images:
        entry: dict[str, Any] = {"seed": image.seed, "revised_prompt": made.prompt}
        if image.uri is not None:
            entry["s3_uri"] = image.uri
        if image.file is not None:
            path = f"{user_id}/{image.file.name}" if user_id else image.file.name
            entry["url"] = image.presigned_url or f"{base_url.rstrip('/')}/images/{path}"
        if wish.response_format == "b64_json":
            entry["b64_json"] = base64.b64encode(image.data).decode()
        data.append(entry)
    return {
        "created": made.created,
        "data": data,
        "model": made.model,
        "size": f"{made.size[0]}x{made.size[1]}",
        "quality": "low" if wish.quality == "low" else "high",
        "output_format": wish.output_format,
        "background": "opaque",
        "blocked": made.blocked,
        "warnings": [*made.warnings],
    }


def _awaited(run: JobRun, generation: ImageGeneration, request: ImageRequest) -> tuple[Images, list[str]]:
    """The pictures, and the warnings.

    A job waits where a request would be refused; what is cancelled is given up at its next step.
    """
    share = 0.0

    def on_step(done: int, of: int) -> None:
        nonlocal share
        share = done / of

    ticket: Ticket | None = None
    try:
        while True:
            run.progress("generating" if share else "waiting for the image model", share)
            try:
                ticket = ticket or generation.generator.submit(request, Watcher(on_step))
                if (images := ticket.images(LOOK_S)) is not None:
                    return images, ticket.warnings
            except BusyError:
                if ticket is not None:  # not the queue: memory, or the process stops
                    run.progress("generating", share)
                    raise
                time.sleep(LOOK_S)
    finally:
        if ticket is not None:
            ticket.cancel()


def _read(run: JobRun, name: str) -> bytes:
    with run.open(name) as file:
        return file.read()
