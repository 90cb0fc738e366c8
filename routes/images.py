"""Generate illustrations: from words, from a picture, inside a mask, of a user; at once, as a stream or as a job."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse

from routes.error_docs import documented
from routes.illustration_models import Deleted
from routes.image_models import (
    PICTURE_ERRORS,
    USER_ERRORS,
    EditForm,
    EditJobForm,
    GenerationJobWish,
    ImagesMade,
    MemoryJobWish,
    SubjectJobWish,
    job_responses,
    made_responses,
)
from service.base64_picture import decode_base64
from service.deps import (
    AccountsDep,
    ClientGoneDep,
    CurrentPrincipal,
    FetcherDep,
    ImagesDep,
    Pool,
    SettingsDep,
    StateDep,
    StorageDep,
    SubmitJob,
    Timings,
)
from service.errors import (
    BadRequestError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
    StorageUnavailableError,
    naming,
)
from service.fetch import Fetcher
from service.image_generation import IMAGE, MASK, REFERENCE, ImageGeneration, Wish
from service.image_jobs import KIND, answer_of, job_of
from service.image_stream import ImageStream, awaited
from service.image_wishes import GenerationWish, MemoryWish, SubjectWish
from service.job_view import JobView
from service.negotiation import file_response
from service.storage import USER_ID_PATTERN
from service.user_pictures import check_user
from utils import Stopwatch

PICTURE: dict[str, Any] = {"image/png": {}, "image/jpeg": {}, "image/webp": {}}
NAME_PATTERN = r"^[a-z]{1,20}_[0-9a-f]{32}\.(png|jpg|webp)$"


def require_model(images: ImagesDep) -> ImageGeneration:
    """Image generation, where its model is installed: before a body is looked at. The first loads CONTENT_FILTER."""
    images.require()
    return images


EditFormDep = Annotated[EditForm, Form(media_type="multipart/form-data")]
EditJobFormDep = Annotated[EditJobForm, Form(media_type="multipart/form-data")]
Generation = Annotated[ImageGeneration, Depends(require_model)]
router = APIRouter(tags=["image generation"])


class Maker:
    """Makes what a request wishes, in the way that it wants to be answered."""

    def __init__(
        self,
        request: Request,
        state: StateDep,
        generation: Generation,
        pool: Pool,
        gone: ClientGoneDep,
        timings: Timings,
    ) -> None:
        self._state = state
        self._generation = generation
        self._pool = pool
        self._gone = gone
        self._watch = Stopwatch(timings)
        self._base_url = str(state.settings.service_url or request.base_url)

    async def make(self, wish: Wish, pictures: dict[str, bytes]) -> dict[str, Any] | Response:
        """The answer."""
        wish = wish.with_seed()
        with self._watch.stage("prepare"):
            request = await self._pool.run(self._generation.prepare, wish, pictures)
        if wish.stream:
            stream = ImageStream(self._generation, self._state.pool, wish, request, base_url=self._base_url)
            return StreamingResponse(aiter(stream), media_type="text/event-stream")
        with self._watch.stage("generate"):
            images, warnings = await awaited(self._generation, request, self._gone)
        with self._watch.stage("store"):
            made = await self._state.pool.run_patiently(self._generation.finish, wish, request, images, warnings)
        return answer_of(made, wish, base_url=self._base_url)


class Submitter:
    """Hands a wish in as a job. What can be refused is refused at once."""

    def __init__(self, images: ImagesDep, settings: SettingsDep, pool: Pool, submit: SubmitJob) -> None:
        if settings.role != "api":  # there the model is the workers' affair
            images.require()
        self._generation = images
        self._pool = pool
        self._submit = submit

    async def submit(self, wish: Wish, pictures: dict[str, bytes], webhook_url: str | None) -> JobView:
        """The job."""
        if wish.stream:
            raise InvalidValueError("stream: a job has its own events, GET /api/v1/jobs/{job_id}/events.")
        await self._pool.run(self._generation.prepare, wish.with_seed(), pictures)
        job = await self._submit(KIND, inputs=job_of(wish, pictures), files=pictures, webhook_url=webhook_url)
        return JobView.of(job)


Make = Annotated[Maker, Depends()]
Submit = Annotated[Submitter, Depends()]


async def own_user_id(wish: MemoryWish | SubjectWish, principal: CurrentPrincipal, accounts: AccountsDep) -> None:
    """Let callers reach only the pictures that are theirs."""
    await run_in_threadpool(check_user, wish.user_id, principal, accounts)


async def looked_at(wish: GenerationWish, fetcher: Fetcher) -> dict[str, bytes]:
    """The picture of `reference_image_url`, by its name."""
    url = wish.reference_image_url
    if url is None:
        return {}
    with naming("reference_image_url"):
        return {REFERENCE: decode_base64(url) if url[:5].lower() == "data:" else await fetcher.picture(url)}


async def edited(form: EditForm, fetcher: Fetcher) -> dict[str, bytes]:
    """All pictures of an edit, by their names."""
    sent = [*form.image, *form.images]
    if len(sent) != 1:
        raise BadRequestError("Send one picture as the file `image`.")
    pictures = {IMAGE: await sent[0].read()}
    if form.mask is not None:
        pictures[MASK] = await form.mask.read()
    return pictures | await looked_at(form, fetcher)


@router.post(
    "/v1/images/generations", response_model=ImagesMade, response_model_exclude_unset=True,
    responses=made_responses(*PICTURE_ERRORS),
)  # fmt: skip
async def generate_images(make: Make, wish: GenerationWish, fetcher: FetcherDep) -> dict[str, Any] | Response:
    """Pictures from a prompt, and from a picture to look at. OpenAI's clients work unchanged; so does `stream`."""
    return await make.make(wish, await looked_at(wish, fetcher))


@router.post(
    "/v1/images/edits", response_model=ImagesMade, response_model_exclude_unset=True,
    responses=made_responses(*PICTURE_ERRORS),
)  # fmt: skip
async def edit_image(make: Make, form: EditFormDep, fetcher: FetcherDep) -> dict[str, Any] | Response:
    """A picture drawn anew: whole, or where its mask is transparent. Outside the mask every pixel stays."""
    return await make.make(form, await edited(form, fetcher))


@router.post(
    "/v1/images/memory",
    response_model=ImagesMade,
    response_model_exclude_unset=True,
    responses=made_responses(*USER_ERRORS),
)
async def generate_memory(
    make: Make, wish: MemoryWish, principal: CurrentPrincipal, accounts: AccountsDep
) -> dict[str, Any] | Response:
    """A user's memory: a picture from a prompt that looks at the user's avatar."""
    await own_user_id(wish, principal, accounts)
    return await make.make(wish, {})


@router.post(
    "/v1/images/subject",
    response_model=ImagesMade,
    response_model_exclude_unset=True,
    responses=made_responses(*USER_ERRORS),
)
async def generate_subject(
    make: Make, wish: SubjectWish, principal: CurrentPrincipal, accounts: AccountsDep
) -> dict[str, Any] | Response:
    """A portrait of a user: a picture that looks at the user's photo."""
    await own_user_id(wish, principal, accounts)
    return await make.make(wish, {})


@router.post("/v1/images/generations/submit", status_code=202, responses=job_responses(*PICTURE_ERRORS))
async def submit_generation(submit: Submit, wish: GenerationJobWish, fetcher: FetcherDep) -> JobView:
    """The same as a job: follow its `status_url`; its result is the answer of the synchronous route."""
    return await submit.submit(wish, await looked_at(wish, fetcher), wish.webhook_url)


@router.post("/v1/images/edits/submit", status_code=202, responses=job_responses(*PICTURE_ERRORS))
async def submit_edit(submit: Submit, form: EditJobFormDep, fetcher: FetcherDep) -> JobView:
    """The same as a job. Its pictures are removed when it has finished."""
    return await submit.submit(form, await edited(form, fetcher), form.webhook_url)


@router.post("/v1/images/memory/submit", status_code=202, responses=job_responses(*USER_ERRORS))
async def submit_memory(
    submit: Submit, wish: MemoryJobWish, principal: CurrentPrincipal, accounts: AccountsDep
) -> JobView:
    """The same as a job."""
    await own_user_id(wish, principal, accounts)
    return await submit.submit(wish, {}, wish.webhook_url)


@router.post("/v1/images/subject/submit", status_code=202, responses=job_responses(*USER_ERRORS))
async def submit_subject(
    submit: Submit, wish: SubjectJobWish, principal: CurrentPrincipal, accounts: AccountsDep
) -> JobView:
    """The same as a job."""
    await own_user_id(wish, principal, accounts)
    return await submit.submit(wish, {}, wish.webhook_url)


Name = Annotated[str, Path(pattern=NAME_PATTERN, description="The last part of the picture's URL.")]
UserId = Annotated[str, Path(pattern=USER_ID_PATTERN, description="Whom the picture was made for.")]
FILE_ERRORS = documented(NotFoundError, StorageUnavailableError)
USER_FILE_ERRORS = documented(ForbiddenError, NotFoundError, StorageUnavailableError)


@router.head("/images/{name}", include_in_schema=False)
@router.get(
    "/images/{name}", response_class=FileResponse, responses={200: {"content": PICTURE}, 304: {}, **FILE_ERRORS}
)
def get_image(name: Name, storage: StorageDep, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A generated picture. Takes ranges and If-None-Match."""
    return file_response(storage, storage.find_generated(name), if_none_match)


@router.delete("/images/{name}", responses=FILE_ERRORS)
def delete_image(name: Name, storage: StorageDep) -> Deleted:
    """Remove a generated picture at once."""
    storage.delete_generated(name)
    return Deleted()


@router.head("/images/{user_id}/{name}", include_in_schema=False)
@router.get(
    "/images/{user_id}/{name}", response_class=FileResponse,
    responses={200: {"content": PICTURE}, 304: {}, **USER_FILE_ERRORS},
)  # fmt: skip
def get_user_image(
    user_id: UserId,
    name: Name,
    storage: StorageDep,
    principal: CurrentPrincipal,
    accounts: AccountsDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A picture that was generated for a user."""
    check_user(user_id, principal, accounts)
    return file_response(storage, storage.find_generated(name, user_id), if_none_match)


@router.delete("/images/{user_id}/{name}", responses=USER_FILE_ERRORS)
def delete_user_image(
    user_id: UserId, name: Name, storage: StorageDep, principal: CurrentPrincipal, accounts: AccountsDep
) -> Deleted:
    """Remove a user's picture at once."""
    check_user(user_id, principal, accounts)
    storage.delete_generated(name, user_id)
    return Deleted()
