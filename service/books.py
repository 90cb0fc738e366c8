"""The job that makes a book: one child on every page, as one ZIP or PDF."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, Literal, TypeAlias
from uuid import UUID

import numpy as np
from pydantic import BaseModel

from service.errors import naming
from service.illustrations import Illustrator, PageChoice
from service.image_io import SUFFIXES, DecodedImage, ImageFormat, append_pdf_page, encode_image
from service.job_runs import JobResult, JobRun
from service.page_diffusion import PageDiffusion

BookFormat: TypeAlias = Literal["zip", "pdf", "png", "jpeg", "webp"]
AddPage: TypeAlias = Callable[[DecodedImage], None]

KIND = "book"
PHOTO = "child_photo"
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that ZIP knows: the same pages give the same archive."""


class BookRequest(BaseModel):
    """What the job needs beside the photo."""

    template_ids: list[UUID]
    choice: PageChoice
    format: BookFormat
    """zip is a ZIP of PNG files; png, jpeg and webp a ZIP of those."""
    face_box: tuple[float, float, float, float] | None


def make_book(run: JobRun, *, illustrator: Illustrator, diffusion: PageDiffusion) -> JobResult:
    """Do the job. The identity is prepared once for all pages; each page is a turn in the inference pool.

    A page that is drawn by diffusion is made in the job's own thread, which mostly waits for the GPU.
    """
    request = BookRequest.model_validate(run.inputs)
    choice = diffusion.settled(request.choice)
    run.progress("photo", 0)
    face_box = None if request.face_box is None else np.array(request.face_box, np.float32)
    with run.open(PHOTO) as photo:
        child = run.compute(illustrator.child, photo, face_box=face_box)
    draw = partial(illustrator.book_page, child, owner=run.owner, choice=choice)
    pages = len(request.template_ids)

    def write(file: BinaryIO) -> None:
        with _open_book(file, request.format) as add:
            for number, template_id in enumerate(request.template_ids, start=1):
                progress = partial(_page_progress, run, number, pages)
                progress(0)
                with naming(f"page {number}"):
                    if choice.engine == "diffusion":
                        _add_page(add, partial(draw, template_id, progress=progress))
                    else:
                        run.compute(_add_page, add, partial(draw, template_id))

    file = run.store(write, ending="_book.pdf" if request.format == "pdf" else "_book.zip")
    return JobResult(file, {"pages": pages, "media_type": file.media_type})


def _page_progress(run: JobRun, number: int, pages: int, done: float) -> None:
    run.progress(f"page {number} of {pages}", (number - 1 + done) / pages)


def _add_page(add: AddPage, draw: Callable[[], DecodedImage]) -> None:
    add(draw())


@contextmanager
def _open_book(file: BinaryIO, book_format: BookFormat) -> Iterator[AddPage]:
    if book_format == "pdf":
        yield partial(_add_to_pdf, file)
    else:
        page_format: ImageFormat = "png" if book_format == "zip" else book_format
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # pages are compressed already
            yield partial(_add_to_zip, archive, page_format)


def _add_to_pdf(file: BinaryIO, page: DecodedImage) -> None:
    append_pdf_page(file, page, first=file.tell() == 0)
    file.seek(0, 2)


def _add_to_zip(archive: zipfile.ZipFile, page_format: ImageFormat, page: DecodedImage) -> None:
    data = encode_image(page.rgb, format=page_format, alpha=page.alpha, dpi=page.dpi, icc_profile=page.icc_profile)
    name = f"page_{len(archive.namelist()) + 1:03d}.{SUFFIXES[page_format]}"
    archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
