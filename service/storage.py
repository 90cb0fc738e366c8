"""Pictures in two local folders: uploads and templates in one, results in the other.

Ids are random UUIDs that the service makes itself, so a name can't lead out of its folder. A file appears by a rename:
complete, or not at all. Uploads and results expire; templates stay until they are deleted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid4

import structlog

from service.error_handlers import is_disk_full
from service.errors import NotFoundError, StorageFullError

logger = structlog.get_logger(__name__)

MEDIA_TYPES = {
    "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "zip": "application/zip", "pdf": "application/pdf",
    "svg": "image/svg+xml", "json": "application/json",
}  # fmt: skip
"""What the service writes, by suffix."""
UPLOAD_SUFFIXES = ("jpg", "png", "webp")
RESULT_ENDINGS = (
    "_personalized.png", "_personalized.jpg", "_personalized.webp", "_book.zip", "_book.pdf",
    "_contours.svg", "_contours.png", "_contours.json",
)  # fmt: skip
TEMPLATE_IMAGE, PRIVATE_TEMPLATE_IMAGE, TEMPLATE_RECORD = "_template.png", "_private_template.png", "_template.json"
JOB_INPUT = "_job_"
PARTIAL = ".partial"
PARTIAL_MAX_AGE_S = 3600
"""A write takes seconds: an older partial file is what a killed process left."""


@dataclass(frozen=True, slots=True)
class TemplateImage:
    """The picture of a template: since when it is stored, and whether it belongs to one user."""

    stored_at: datetime
    private: bool


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is stored. `public_path` is its name in the API's answers, whatever folder it really is in."""

    id: UUID
    path: Path
    public_path: str

    @property
    def media_type(self) -> str:
        """The type of its content."""
        return MEDIA_TYPES[self.path.suffix.removeprefix(".")]


class LocalStorage:
    """Safe from any thread and from several processes; blocking, so call it from a worker thread."""

    def __init__(self, *, upload_dir: Path, output_dir: Path) -> None:
        self.upload_dir = upload_dir
        self.output_dir = output_dir
        for folder in (upload_dir, output_dir):
            folder.mkdir(parents=True, exist_ok=True)

    def save_upload(self, data: bytes, *, suffix: str) -> StoredFile:
        """Store an uploaded picture. `suffix` is one of `UPLOAD_SUFFIXES`.

        Raises:
            StorageFullError: nothing was left behind.
        """
        file_id = uuid4()
        return self._save(file_id, self.upload_dir, f"uploads/{file_id}.{suffix}", lambda file: file.write(data))

    def save_result(self, data: bytes, *, suffix: str) -> StoredFile:
        """Store a personalised page. `suffix` is png, jpg or webp.

        Raises:
            StorageFullError: nothing was left behind.
        """
        file_id = uuid4()
        name = f"outputs/{file_id}_personalized.{suffix}"
        return self._save(file_id, self.output_dir, name, lambda file: file.write(data))

    def save_job_result(self, job_id: UUID, write: Callable[[BinaryIO], object], *, ending: str) -> StoredFile:
        """Store what a job made, under the job's id. The first that was stored stays: a job done twice has one result.

        `ending` is one of `RESULT_ENDINGS`; `write` writes the file, and whatever it raises leaves nothing behind.

        Raises:
            StorageFullError: nothing was left behind.
        """
        public_path = f"outputs/{job_id}{ending}"
        path = self.output_dir / f"{job_id}{ending}"
        with _refuse_when_full(), _partial_file(path) as partial:
            _write_durably(partial, write)
            with suppress(FileExistsError):
                path.hardlink_to(partial)
        return StoredFile(job_id, path, public_path)

    def save_job_input(self, job_id: UUID, name: str, data: bytes) -> None:
        """Keep a file that a job needs; it is no upload that could be downloaded.

        Raises:
            StorageFullError: nothing was left behind.
        """
        path = self._job_input(job_id, name)
        with _refuse_when_full(), _partial_file(path) as partial:
            _write_durably(partial, lambda file: file.write(data))
            partial.replace(path)

    def open_job_input(self, job_id: UUID, name: str) -> BinaryIO:
        """A file that a job was given.

        Raises:
            NotFoundError: the folder of uploads isn't the one that it was given in.
        """
        try:
            return self._job_input(job_id, name).open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(
                "A file of this job is gone. Processes that share jobs must share UPLOAD_DIR."
            ) from error

    def delete_job_inputs(self, job_id: UUID) -> None:
        """Remove all files that a job was given."""
        for path in self.upload_dir.glob(f"{job_id}{JOB_INPUT}*"):
            path.unlink(missing_ok=True)

    def jobs_with_inputs(self) -> dict[UUID, float]:
        """The jobs whose files are kept, and the age of the youngest in seconds."""
        now, ages = time.time(), dict[UUID, float]()
        for path in self.upload_dir.glob(f"*{JOB_INPUT}*"):
            if not path.name.startswith(".") and _starts_with_uuid(path.name):
                job_id, age = UUID(path.name[:36]), now - _modified(path)
                ages[job_id] = min(age, ages.get(job_id, age))
        return ages

    def find(self, file_id: UUID) -> StoredFile:
        """The result or upload with this id.

        Raises:
            NotFoundError: there is none, or it has expired.
        """
        for path, public in self._candidates(file_id):
            if path.is_file():
                return StoredFile(file_id, path, public)
        raise NotFoundError(f"There is no file {file_id}. Results and uploads expire, and may have been deleted.")

    def delete(self, file_id: UUID) -> None:
        """Remove a result or upload at once.

        Raises:
            NotFoundError: there is none.
        """
        self.find(file_id).path.unlink(missing_ok=True)

    def save_template_image(self, template_id: UUID, png: bytes, *, private: bool) -> None:
        """Store the picture of a template, a PNG. It does not expire. `private`: it belongs to one user.

        Raises:
            StorageFullError: nothing was left behind.
        """
        path = self.upload_dir / f"{template_id}{PRIVATE_TEMPLATE_IMAGE if private else TEMPLATE_IMAGE}"
        with _refuse_when_full(), _partial_file(path) as partial:
            _write_durably(partial, lambda file: file.write(png))
            partial.replace(path)

    def find_template_image(self, template_id: UUID) -> Path:
        """The picture of a template, a PNG.

        Raises:
            NotFoundError: there is none.
        """
        for path in self._template_image_paths(template_id):
            if path.is_file():
                return path
        raise NotFoundError(f"There is no template {template_id}. GET /templates lists those there are.")

    def delete_template_image(self, template_id: UUID) -> None:
        """Remove the picture of a template, if there is one, and the record that a former version kept beside it."""
        for path in (*self._template_image_paths(template_id), self._template_record(template_id)):
            path.unlink(missing_ok=True)

    def template_images(self) -> dict[UUID, TemplateImage]:
        """The templates whose picture is stored."""
        images: dict[UUID, TemplateImage] = {}
        for path in self.upload_dir.glob(f"*{TEMPLATE_IMAGE}"):
            if _starts_with_uuid(path.name):
                private = path.name.endswith(PRIVATE_TEMPLATE_IMAGE)
                stored_at = datetime.fromtimestamp(_modified(path), UTC)
                images[UUID(path.name[:36])] = TemplateImage(stored_at, private)
        return images

    def former_template_record(self, template_id: UUID) -> dict[str, Any]:
        """What a former version wrote beside the picture of a template; {} where there is nothing, or it is damaged."""
        try:
            record = json.loads(self._template_record(template_id).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def sweep(self, *, retention_hours: float) -> int:
        """Remove uploads and results older than this, and what killed processes left half-written; how many."""
        now = time.time()
        expired = [path for path in self._own_files() if now - _modified(path) > _max_age_s(path, retention_hours)]
        for path in expired:
            path.unlink(missing_ok=True)
        return len(expired)

    def _candidates(self, file_id: UUID) -> Iterator[tuple[Path, str]]:
        for ending in RESULT_ENDINGS:
            yield self.output_dir / f"{file_id}{ending}", f"outputs/{file_id}{ending}"
        for suffix in UPLOAD_SUFFIXES:
            yield self.upload_dir / f"{file_id}.{suffix}", f"uploads/{file_id}.{suffix}"

    def _own_files(self) -> Iterator[Path]:
        """Files that may expire. Whatever else lies in the folders isn't ours to remove."""
        for folder in (self.upload_dir, self.output_dir):
            for path in folder.iterdir():
                partial = path.name.startswith(".") and path.name.endswith(PARTIAL)
                if partial or (_starts_with_uuid(path.name) and path.suffix.removeprefix(".") in MEDIA_TYPES
                               and not path.name.endswith((TEMPLATE_IMAGE, TEMPLATE_RECORD))):  # fmt: skip
                    yield path

    def _job_input(self, job_id: UUID, name: str) -> Path:
        return self.upload_dir / f"{job_id}{JOB_INPUT}{name}"

    def _template_image_paths(self, template_id: UUID) -> list[Path]:
        """Where it may be."""
        return [self.upload_dir / f"{template_id}{ending}" for ending in (TEMPLATE_IMAGE, PRIVATE_TEMPLATE_IMAGE)]

    def _template_record(self, template_id: UUID) -> Path:
        return self.upload_dir / f"{template_id}{TEMPLATE_RECORD}"

    def _save(self, file_id: UUID, folder: Path, public_path: str, write: Callable[[BinaryIO], object]) -> StoredFile:
        path = folder / public_path.rpartition("/")[2]
        self._write(path, write)
        return StoredFile(file_id, path, public_path)

    def _write(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        with _refuse_when_full(), _partial_file(path) as partial:
            with partial.open("wb") as file:
                write(file)
            partial.replace(path)


def _write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """What a job is given or makes must outlast even a power cut: its record says that it is there."""
    with path.open("w+b") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _partial_file(path: Path) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}{PARTIAL}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _refuse_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("The service's disk is full. Nothing was stored; try again later.") from error
        raise


def _starts_with_uuid(name: str) -> bool:
    try:
        UUID(name[:36])
    except ValueError:
        return False
    return True


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed by another process: as if written just now
        return time.time()


def _max_age_s(path: Path, retention_hours: float) -> float:
    return PARTIAL_MAX_AGE_S if path.name.endswith(PARTIAL) else retention_hours * 3600
