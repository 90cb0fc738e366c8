"""Find, embed and compare faces: the face recognition API under /api/v1."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, Header, Response, UploadFile
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from face_matching import cosine_similarity
from routes.error_docs import documented
from routes.face_analysis_models import AnalyzedFace, FaceAnalyzed
from routes.face_recognition_models import (
    BatchEvent,
    BatchExtracted,
    BatchItem,
    BatchSummary,
    ComparedFace,
    EmbeddedFace,
    EmbeddingExtracted,
    EmbeddingsCompared,
    FaceVerified,
    ImagesCompared,
    LocatedFace,
    ModelFacts,
    NoFace,
    PictureFacts,
    Progress,
)
from routes.face_recognition_requests import (
    BATCH_EXAMPLE,
    ONE_PICTURE_EXAMPLE,
    Batch,
    BatchQuery,
    Choice,
    Comparison,
    DetThreshold,
    FaceQuery,
    MatchThreshold,
    OnePicture,
    Sent,
    also_as,
)
from service.deps import Pool, RecogniserDep, Recognition, StateDep, Timings
from service.errors import (
    BadRequestError,
    BusyError,
    FaceNotFoundError,
    ImageTooLargeError,
    ImageUnreadableError,
    InvalidBase64Error,
    InvalidValueError,
    ModelMismatchError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ServiceError,
    UnsupportedImageError,
    naming,
)
from service.negotiation import wants_events
from service.recognition import FaceOptions, FaceRecognition, Picture, Seen, standard_for
from utils import Stopwatch

router = APIRouter(prefix="/api/v1", tags=["face recognition"])

PICTURE_ERRORS = (
    BadRequestError, PayloadTooLargeError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError,
    InvalidBase64Error, InvalidValueError, BusyError,
)  # fmt: skip


JSON_LIMIT = 1024 * 1024
"""Bytes of a JSON body without pictures: two of the longest embeddings take about 200 kB."""
OWN_THRESHOLD = "The request's own."
EVENTS_EXAMPLE = """event: item
data: {"index": 0, "face_detected": true, "embedding": [0.0123456], "progress": {"done": 1, "total": 2}}

event: item
data: {"index": 1, "face_detected": false, "error": "No face detected in image. ...", "code": "NO_FACE_DETECTED"}

event: summary
data: {"total": 2, "successful": 1, "failed": 1}
"""


@router.post(
    "/verify-face", openapi_extra=also_as(FaceQuery, ONE_PICTURE_EXAMPLE), responses=documented(*PICTURE_ERRORS)
)
async def verify_face(
    sent: OnePicture, recognition: Recognition, pool: Pool, timings: Timings
) -> FaceVerified | NoFace:
    """Whether there is a face, and where. Quick: nothing is embedded, and no recogniser is needed.

    This is not liveness: a face on paper or on a screen is a face.
    """
    return await pool.run(_verify, sent, recognition, timings)


@router.post(
    "/extract-embedding",
    openapi_extra=also_as(FaceQuery, ONE_PICTURE_EXAMPLE),
    responses=documented(*PICTURE_ERRORS, FaceNotFoundError, ModelUnavailableError),
)
async def extract_embedding(
    sent: OnePicture, _: RecogniserDep, recognition: Recognition, pool: Pool, timings: Timings
) -> EmbeddingExtracted:
    """The embedding of a face: a vector that is close to those of other pictures of the same person.

    This is not liveness: a picture of a picture gives the same embedding.
    """
    return await pool.run(_extract, sent, recognition, timings)


@router.post(
    "/compare-faces",
    max_body_size=JSON_LIMIT,
    responses=documented(BadRequestError, InvalidValueError, ModelMismatchError),
)
async def compare_faces(comparison: Comparison, state: StateDep) -> EmbeddingsCompared:
    """How alike two embeddings are.

    Both must come from one model: vectors of different lengths or models are refused. This is not liveness.
    """
    a, b = np.array(comparison.embedding_a), np.array(comparison.embedding_b)
    if len(a) != len(b):
        raise InvalidValueError(
            f"embedding_b: it has {len(b)} numbers, but embedding_a has {len(a)}. Only embeddings of one model can be "
            "compared."
        )
    named = {model for model in (comparison.model_a, comparison.model_b) if model is not None}
    if len(named) > 1:
        raise ModelMismatchError("The embeddings come from different models. Extract both with the same one.")
    standard = standard_for(
        named.pop() if named else None, len(a), recogniser=state.detector.recogniser, profiles=state.models.profiles
    )
    own = comparison.threshold
    threshold, source = (standard.threshold, standard.source) if own is None else (own, OWN_THRESHOLD)
    return EmbeddingsCompared(
        **EmbeddingsCompared.judged(cosine_similarity(a, b), threshold),
        model=standard.model,
        threshold=threshold,
        threshold_source=source,
    )


@router.post("/compare-images", responses=documented(*PICTURE_ERRORS, FaceNotFoundError, ModelUnavailableError))
async def compare_images(
    file_a: Annotated[UploadFile, File(description="A picture. It is not stored.")],
    file_b: Annotated[UploadFile, File(description="The picture to compare it with. It is not stored.")],
    _: RecogniserDep,
    recognition: Recognition,
    pool: Pool,
    timings: Timings,
    face_a: Annotated[Choice, Form()] = "largest",
    face_b: Annotated[Choice, Form()] = "largest",
    det_threshold: Annotated[DetThreshold, Form()] = None,
    threshold: Annotated[MatchThreshold, Form()] = None,
) -> ImagesCompared:
    """Whether two pictures show the same person: the chosen face of each is embedded, and the two are compared.

    This is not liveness: it compares pictures, and can't tell whether a person was before the camera.
    """
    pictures = {
        "file_a": (file_a.file, FaceOptions(face_a, det_threshold=det_threshold)),
        "file_b": (file_b.file, FaceOptions(face_b, det_threshold=det_threshold)),
    }
    return await pool.run(_compare_images, pictures, threshold, recognition, timings)


@router.post(
    "/batch-extract",
    response_model=BatchExtracted,
    openapi_extra=also_as(BatchQuery, BATCH_EXAMPLE),
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS_EXAMPLE}}},
        **documented(BadRequestError, PayloadTooLargeError, BusyError, ModelUnavailableError),
    },
)
async def batch_extract(
    sent: Batch,
    _: RecogniserDep,
    recognition: Recognition,
    pool: Pool,
    accept: Annotated[
        str, Header(description="`text/event-stream`: each picture as soon as it is done, then a summary.")
    ] = "*/*",
) -> BatchExtracted | Response:
    """The embeddings of up to 50 pictures; one that fails has its own `error` and `code` and stops no other.

    With `Accept: text/event-stream` each picture is an event `item` (with `index` and `progress`) as soon as it is
    done, in any order, and an event `summary` ends the stream. A client that closes the connection ends the work.
    This is not liveness.
    """
    size = recognition.group_size
    groups = [range(start, min(start + size, len(sent.pictures))) for start in range(0, len(sent.pictures), size)]
    results = pool.run_each(lambda group: _embed_group(group, sent, recognition), groups)
    if wants_events(accept):
        return StreamingResponse(
            _events(results, sent, recognition), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )  # nginx would collect them
    items = [item async for result in results if result is not None for item in result[1]]
    items.sort(key=lambda item: item.index)
    return BatchExtracted(**_summary(items, sent, recognition).model_dump(), results=items)


@router.post(
    "/analyze-face-advanced",
    openapi_extra=also_as(FaceQuery, ONE_PICTURE_EXAMPLE),
    responses=documented(*PICTURE_ERRORS, FaceNotFoundError),
)
async def analyze_face_advanced(
    sent: OnePicture, recognition: Recognition, pool: Pool, timings: Timings
) -> FaceAnalyzed:
    """All that can be measured of a face: age, gender, pose, quality, symmetry, skin tone, expression, proportions.

    What can't be known of this picture, or needs a model that isn't installed, is null; `unavailable` says why. Age,
    gender and expression are how a face appears to a model, not what is true of a person. This is not liveness.
    """
    return await pool.run(_analyze, sent, recognition, timings)


async def _events(
    results: AsyncGenerator[tuple[int, list[BatchItem]] | None], sent: Sent, recognition: FaceRecognition
) -> AsyncIterator[bytes]:
    items: list[BatchItem] = []
    async for result in results:
        if result is None:
            yield KEEPALIVE_COMMENT
            continue
        for item in result[1]:
            items.append(item)
            progress = Progress(done=len(items), total=len(sent.pictures))
            event = BatchEvent(**item.model_dump(), progress=progress)
            yield format_sse_event(event="item", data_str=event.model_dump_json())
    summary = _summary(items, sent, recognition)
    yield format_sse_event(event="summary", data_str=summary.model_dump_json())


def _summary(items: Sequence[BatchItem], sent: Sent, recognition: FaceRecognition) -> BatchSummary:
    successful = sum(item.embedding is not None for item in items)
    return BatchSummary(
        total=len(sent.pictures),
        successful=successful,
        failed=len(items) - successful,
        det_threshold=recognition.least_confidence(sent.options),
        **ModelFacts.facts(recognition.detector),
    )


# --- in a worker thread -----------------------------------------------------------------------------------------------


def _verify(sent: Sent, recognition: FaceRecognition, timings: dict[str, float]) -> FaceVerified | NoFace:
    clock = Stopwatch(timings)
    seen = recognition.see(sent.pictures[0], sent.options, clock)
    facts = PictureFacts.seen(seen) | ModelFacts.facts(recognition.detector)
    if seen.chosen is None:
        return NoFace(**facts)
    faces = {index: seen.as_sent(seen.faces[index]) for index in seen.wanted}
    every = [LocatedFace.of(face, index) for index, face in faces.items()] if sent.options.all_faces else None
    return FaceVerified.of(faces[seen.chosen], seen.chosen, faces=every, **facts)


def _extract(sent: Sent, recognition: FaceRecognition, timings: dict[str, float]) -> EmbeddingExtracted:
    clock = Stopwatch(timings)
    seen = recognition.see_face(sent.pictures[0], sent.options, clock)
    faces = recognition.recognise([seen], clock)[0]
    every = [EmbeddedFace.of(face, index) for index, face in faces.items()] if sent.options.all_faces else None
    facts = PictureFacts.seen(seen) | ModelFacts.facts(recognition.detector)
    return EmbeddingExtracted.of(faces[seen.chosen_index], seen.chosen_index, faces=every, **facts)


def _analyze(sent: Sent, recognition: FaceRecognition, timings: dict[str, float]) -> FaceAnalyzed:
    clock = Stopwatch(timings)
    seen = recognition.see_face(sent.pictures[0], sent.options, clock)
    faces = recognition.recognise([seen], clock, attributes=True)[0]
    analyses = recognition.analyze(seen, clock)
    facts = PictureFacts.seen(seen) | ModelFacts.facts(recognition.detector)
    every = [AnalyzedFace.of_analysis(face, index, analyses[index]) for index, face in faces.items()]
    chosen = seen.chosen_index
    return FaceAnalyzed.of_analysis(
        faces[chosen], chosen, analyses[chosen], faces=every if sent.options.all_faces else None, **facts
    )


def _compare_images(
    pictures: Mapping[str, tuple[Picture, FaceOptions]],
    threshold: float | None,
    recognition: FaceRecognition,
    timings: dict[str, float],
) -> ImagesCompared:
    clock = Stopwatch(timings)
    seen = []
    for part, (picture, options) in pictures.items():
        with naming(part):
            seen.append(recognition.see_face(picture, options, clock))
    a, b = (known[each.chosen_index] for each, known in zip(seen, recognition.recognise(seen, clock), strict=True))
    assert a.embedding is not None  # the route asks for a recogniser
    assert b.embedding is not None
    facts = ModelFacts.facts(recognition.detector)
    if threshold is not None:
        facts |= {"threshold": threshold, "threshold_source": OWN_THRESHOLD}
    shown = [
        ComparedFace.of(face, each.chosen_index, **PictureFacts.seen(each))
        for face, each in zip((a, b), seen, strict=True)
    ]
    judged = ImagesCompared.judged(cosine_similarity(a.embedding, b.embedding), facts["threshold"])
    return ImagesCompared(**judged, **facts, face_a=shown[0], face_b=shown[1])


def _embed_group(indices: Sequence[int], sent: Sent, recognition: FaceRecognition) -> list[BatchItem]:
    """What becomes of some pictures of a batch, whose faces are embedded together."""
    items: list[BatchItem] = []
    seen: dict[int, Seen] = {}
    for index in indices:
        try:
            seen[index] = recognition.see_face(sent.pictures[index], sent.options, Stopwatch())
        except ServiceError as error:
            items.append(BatchItem.failed(index, error))
    try:
        known = recognition.recognise(list(seen.values()), Stopwatch())
    except ServiceError as error:
        return [*items, *(BatchItem.failed(index, error) for index in seen)]
    done = zip(seen.items(), known, strict=True)
    return [*items, *(BatchItem.of(index, each, faces[each.chosen_index]) for (index, each), faces in done)]
