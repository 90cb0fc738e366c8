"""Personalise a page or a book, fetch and delete results, keep templates."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, BinaryIO
from uuid import UUID

from fastapi import APIRouter, File, Form, Header, Response, UploadFile
from fastapi.responses import FileResponse

from routes.error_docs import documented
from routes.illustration_models import (
    Choice,
    Deleted,
    DownloadUrl,
    DrawingChoice,
    FaceBoxChoice,
    Personalized,
    SlotsCorrection,
    TemplateAnswer,
    Templates,
    TemplateUploaded,
)
from routes.jobs import SUBMIT_ERRORS
from service.books import KIND as BOOK
from service.books import PHOTO, BookFormat, BookRequest
from service.deps import (
    ClientGoneDep,
    DiffusionDep,
    IllustratorDep,
    Owner,
    Pool,
    SettingsDep,
    StorageDep,
    SubmitJob,
    TemplatesDep,
    Timings,
    WebhookUrl,
)
from service.errors import (
    BadRequestError,
    BusyError,
    ImageTooLargeError,
    ImageUnreadableError,
    InvalidValueError,
    ModelUnavailableError,
    NoFaceDetectedError,
    NoFaceSlotError,
    NotFoundError,
    PayloadTooLargeError,
    StorageFullError,
    StorageUnavailableError,
    UnsupportedImageError,
)
from service.job_view import JobView
from service.negotiation import MEDIA_TYPES, file_response, preferred_image
from service.slots import parse_specs

router = APIRouter(tags=["illustrations"])

MAX_PAGES = 50
JSON_LIMIT = 1024 * 1024
"""Bytes of a JSON body: 64 slots of 478 points take about 600 kB."""
PICTURE: dict[str, Any] = {"image/png": {}, "image/jpeg": {}, "image/webp": {}}

BOOK_ERRORS = (
    NotFoundError, PayloadTooLargeError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError,
    InvalidValueError, NoFaceDetectedError, ModelUnavailableError,
)  # fmt: skip
PAGE_ERRORS = (
    BadRequestError, *BOOK_ERRORS, NoFaceSlotError, BusyError, StorageUnavailableError, StorageFullError,
)  # fmt: skip

FILE_ERRORS = documented(NotFoundError, StorageUnavailableError)

Photo = Annotated[UploadFile, File(description="A photo of the child. It is not stored.")]


@router.post(
    "/personalize", response_model=Personalized, responses={200: {"content": PICTURE}, **documented(*PAGE_ERRORS)}
)
async def personalize(
    child_photo: Photo,
    choice: Choice,
    face_box: FaceBoxChoice,
    illustrator: IllustratorDep,
    pool: Pool,
    diffusion: DiffusionDep,
    gone: ClientGoneDep,
    owner: Owner,
    timings: Timings,
    illustration: Annotated[UploadFile | None, File(description="The page, unless `template_id` is given.")] = None,
    template_id: Annotated[UUID | None, Form(description="A stored page, instead of `illustration`.")] = None,
    accept: Annotated[str, Header(description="`image/png` answers with the picture, else JSON.")] = "*/*",
) -> Personalized | Response:
    """Draw the child into the page. With `Accept: image/png` (or jpeg, webp) the answer is the picture itself."""
    page = _one_page(illustration, template_id)
    choice = diffusion.settled(choice)
    draw = partial(illustrator.personalize, child_photo.file, page, owner=owner, choice=choice, face_box=face_box)
    if choice.engine == "diffusion":
        result = await diffusion.run(lambda progress: draw(progress=progress), gone)
    else:
        result = await pool.run(draw)
    timings.update(result.timings_ms)
    if preferred_image(accept) is None:
        return Personalized.of(result)
    headers = {"X-Output-File-ID": str(result.file.id), "Content-Location": f"/download/{result.file.id}"}
    return Response(result.data, media_type=MEDIA_TYPES[choice.format], headers=headers)


@router.post("/personalize/book", status_code=202, responses=documented(*SUBMIT_ERRORS, *BOOK_ERRORS))
async def personalize_book(
    child_photo: Annotated[UploadFile, File(description="A photo of the child. It is removed when the job is done.")],
    template_ids: Annotated[list[UUID], Form(min_length=1, max_length=MAX_PAGES, description="The pages, in order.")],
    choice: DrawingChoice,
    face_box: FaceBoxChoice,
    illustrator: IllustratorDep,
    pool: Pool,
    diffusion: DiffusionDep,
    settings: SettingsDep,
    submit: SubmitJob,
    owner: Owner,
    format: Annotated[  # noqa: A002 - the API's word
        BookFormat, Form(description="pdf; or a ZIP of PNG (zip or png), jpeg or webp files.")
    ] = "zip",
    webhook_url: WebhookUrl = None,
) -> JobView:
    """Draw one child into several templates. A job does it: follow its `status_url`, fetch its `result_url`.

    A photo without a face and an unknown template are refused at once; nothing is kept then.
    """
    if settings.role != "api":  # whose workers may have what this process hasn't
        diffusion.settled(choice)
    await pool.run(illustrator.check_book, child_photo.file, template_ids, owner=owner, face_box=face_box)
    await child_photo.seek(0)
    box = None if face_box is None else face_box.tolist()
    request = BookRequest(template_ids=template_ids, choice=choice, format=format, face_box=box)
    job = await submit(
        BOOK, inputs=request.model_dump(mode="json"), files={PHOTO: await child_photo.read()}, webhook_url=webhook_url
    )
    return JobView.of(job)


@router.head("/download/{file_id}", include_in_schema=False)
@router.get(
    "/download/{file_id}", response_class=FileResponse, responses={200: {"content": PICTURE}, 304: {}, **FILE_ERRORS}
)
def download(file_id: UUID, storage: StorageDep, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A result or an upload as a file; takes ranges and If-None-Match."""
    return file_response(storage, storage.find(file_id), if_none_match)


@router.get("/download/{file_id}/url", responses=FILE_ERRORS)
def download_url(file_id: UUID, storage: StorageDep) -> DownloadUrl:
    """Where a result or an upload can be fetched from: by anybody for a while, if files are kept in S3."""
    return DownloadUrl.of(file_id, storage.presigned_url(storage.find(file_id)))


@router.delete("/download/{file_id}", responses=FILE_ERRORS)
def delete_file(file_id: UUID, storage: StorageDep) -> Deleted:
    """Remove a result or an upload at once."""
    storage.delete(file_id)
    return Deleted()


@router.post("/upload-illustration-template")
async def upload_template(
    file: Annotated[UploadFile, File(description="The page.")],
    illustrator: IllustratorDep,
    pool: Pool,
    owner: Owner,
    name: Annotated[
        str | None, Form(max_length=200, pattern=r"^[^\x00]*$", description="For people; not an id.")
    ] = None,
    slots: Annotated[str | None, Form(description="JSON list of boxes or points. Default: found in the page.")] = None,
) -> TemplateUploaded:
    """Store a page with its face slots, to be personalised by id. Templates do not expire."""
    specs = None if slots is None else parse_specs(slots)
    template = await pool.run(illustrator.add_template, file.file, owner=owner, name=name, specs=specs)
    return TemplateUploaded.of(template)


@router.get("/templates")
def list_templates(templates: TemplatesDep, owner: Owner) -> Templates:
    """Your templates and those of the service, newest first."""
    return Templates(templates=[TemplateAnswer.of(template, brief=True) for template in templates.newest_first(owner)])


@router.get("/templates/{template_id}")
def get_template(template_id: UUID, templates: TemplatesDep, owner: Owner) -> TemplateAnswer:
    """A template with everything that is known of its slots."""
    return TemplateAnswer.of(templates.get(template_id, owner))


@router.get("/templates/{template_id}/image", response_class=FileResponse, responses={304: {}})
def get_template_image(
    template_id: UUID,
    templates: TemplatesDep,
    storage: StorageDep,
    owner: Owner,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The page itself, as PNG; takes ranges and If-None-Match."""
    image = storage.find_template_image(templates.get(template_id, owner).id)
    return file_response(storage, image, if_none_match)


@router.put("/templates/{template_id}/slots", max_body_size=JSON_LIMIT)
async def correct_slots(
    template_id: UUID, correction: SlotsCorrection, illustrator: IllustratorDep, pool: Pool, owner: Owner
) -> TemplateAnswer:
    """Replace the slots of one of your templates."""
    corrected = await pool.run(illustrator.correct_slots, template_id, correction.slots, owner=owner)
    return TemplateAnswer.of(corrected)


@router.delete("/templates/{template_id}")
def delete_template(template_id: UUID, templates: TemplatesDep, owner: Owner) -> Deleted:
    """Remove one of your templates at once."""
    templates.delete(template_id, owner=owner)
    return Deleted()


def _one_page(illustration: UploadFile | None, template_id: UUID | None) -> UUID | BinaryIO:
    if (illustration is None) == (template_id is None):
        raise BadRequestError("Send either `illustration`, a file, or `template_id`, the id of a stored one.")
    if template_id is not None:
        return template_id
    assert illustration is not None
    return illustration.file
