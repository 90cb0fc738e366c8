"""Every file that the service keeps: what it is called, how long it stays, and who may find it.

Uploads, templates and the files of jobs are below `uploads/`, results below `outputs/`; a user's avatar, subject and
generated pictures below a prefix each. Ids are random UUIDs that the service makes itself. Uploads and results expire;
templates, avatars and subjects stay until they are deleted. Where the files are is an `ObjectStore`'s matter.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias
from uuid import UUID, uuid4

import structlog

from service.errors import InvalidValueError, NotFoundError
from service.local_storage import LocalFiles
from service.object_store import ObjectStore, PresignedUrl, StoredObject

logger = structlog.get_logger(__name__)

MEDIA_TYPES = {
    "jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "zip": "application/zip", "pdf": "application/pdf",
    "svg": "image/svg+xml", "json": "application/json",
}  # fmt: skip
"""What the service writes, by suffix."""
UPLOADS, OUTPUTS = "uploads/", "outputs/"
ARTIFACTS = "_artifacts.zip"
UPLOAD_SUFFIXES = ("jpg", "png", "webp")
RESULT_ENDINGS = (
    "_personalized.png", "_personalized.jpg", "_personalized.webp", "_book.zip", "_book.pdf",
    "_contours.svg", "_contours.png", "_contours.json", "_images.json",
    "_tryon.png", "_tryon.jpg", "_tryon.webp",
)  # fmt: skip
TEMPLATE_IMAGE, PRIVATE_TEMPLATE_IMAGE, TEMPLATE_RECORD = "_template.png", "_private_template.png", "_template.json"
TEMPLATE_IMAGES = (TEMPLATE_IMAGE, PRIVATE_TEMPLATE_IMAGE)
JOB_INPUT = "_job_"
DRAFT_MAX_AGE_S = 3600
"""A write takes seconds: an older draft is what a killed process left."""
UUID_LENGTH = 36
MAX_USER_PICTURE_BYTES = 256 * 2**20
"""Others may have put it there: what is read at once must have an end."""
USER_ID_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._@+-]{0,127}$"
"""A user's id becomes a part of keys: no slash, no leading dot, nothing that a file system reads in its own way."""
GENERATED_NAME = re.compile(r"[a-z]{1,20}_([0-9a-f]{32})\.(?:png|jpg|webp)")

UserPicture: TypeAlias = Literal["avatar", "subject"]
Attempt: TypeAlias = Callable[[], None]


def _once(attempt: Attempt) -> None:
    attempt()


@dataclass(frozen=True, slots=True)
class TemplateImage:
    """The picture of a template: since when it is stored, and whether it belongs to one user."""

    stored_at: datetime
    private: bool


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is stored. `key` is its name in the storage and in the API's answers."""

    id: UUID
    key: str

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]

    @property
    def media_type(self) -> str:
        """The type of its content."""
        return _media_type(self.key)


@dataclass(frozen=True, slots=True)
class FoundFile(StoredFile):
    """A file that was looked up: its size in bytes, and when it was stored in seconds since the epoch."""

    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class UserPrefixes:
    """What the keys of a user's pictures begin with: `{avatar}{user_id}`, `{generated}{user_id}/{name}`."""

    avatar: str = f"{UPLOADS}avatars/"
    subject: str = f"{UPLOADS}subjects/"
    generated: str = f"{OUTPUTS}generated/"


class Storage:
    """Safe from any thread and from several processes; blocking, so call it from a worker thread.

    All methods raise StorageUnavailableError, and those that save StorageFullError: nothing was left behind then.
    """

    def __init__(self, store: ObjectStore, prefixes: UserPrefixes | None = None) -> None:
        self.store = store
        self.prefixes = prefixes or UserPrefixes()
        all_prefixes = {UPLOADS, OUTPUTS, self.prefixes.avatar, self.prefixes.subject, self.prefixes.generated}
        self.roots = sorted(root for root in all_prefixes if not root.startswith(tuple(all_prefixes - {root})))
        """What the keys of all files begin with; none begins as another."""

    # Uploads and results

    def save_upload(self, data: bytes, *, suffix: str) -> StoredFile:
        """Store an uploaded picture. `suffix` is one of `UPLOAD_SUFFIXES`."""
        file_id = uuid4()
        return self._save(file_id, f"{UPLOADS}{file_id}.{suffix}", data)

    def save_result(
        self, data: bytes, *, suffix: str, kind: Literal["personalized", "tryon"] = "personalized"
    ) -> StoredFile:
        """Store a picture that a request made. `suffix` is png, jpg or webp."""
        file_id = uuid4()
        return self._save(file_id, f"{OUTPUTS}{file_id}_{kind}.{suffix}", data)

    def find(self, file_id: UUID) -> FoundFile:
        """The result or upload with this id.

        Raises:
            NotFoundError: there is none, or it has expired.
        """
        found = self.store.first_of(f"{OUTPUTS}{file_id}", RESULT_ENDINGS)
        found = found or self.store.first_of(f"{UPLOADS}{file_id}.", UPLOAD_SUFFIXES)
        if found is None:
            raise NotFoundError(f"There is no file {file_id}. Results and uploads expire, and may have been deleted.")
        return FoundFile(file_id, found.key, found.size, found.modified)

    def open(self, file: StoredFile) -> BinaryIO:
        """A file to read, from any position.

        Raises:
            NotFoundError: it was removed meanwhile.
        """
        try:
            return self.store.open(file.key)
        except FileNotFoundError as error:
            raise NotFoundError(f"The file {file.id} was removed just now.") from error

    def read(self, file: StoredFile) -> bytes:
        """All of a file.

        Raises:
            NotFoundError: it was removed meanwhile.
        """
        with self.open(file) as content:
            return content.read()

    def delete(self, file_id: UUID) -> None:
        """Remove a result or upload at once.

        Raises:
            NotFoundError: there is none.
        """
        self.store.delete(self.find(file_id).key)
        self.delete_artifacts(file_id)

    # Jobs

    def save_job_result(
        self,
        job_id: UUID,
        write: Callable[[BinaryIO], object],
        *,
        ending: str,
        attempts: Callable[[Attempt], None] = _once,
    ) -> StoredFile:
        """Store what a job made, under the job's id. The first that was stored stays: a job done twice has one result.

        Args:
            job_id: the job's.
            write: writes the file; whatever it raises leaves nothing behind.
            ending: one of `RESULT_ENDINGS`.
            attempts: calls what it is given until the storage takes what `write` wrote.
        """
        return self._save_first(job_id, f"{OUTPUTS}{job_id}{ending}", write, attempts)

    def save_job_input(self, job_id: UUID, name: str, data: bytes) -> None:
        """Keep a file that a job needs; it is no upload that could be downloaded."""
        self._put(f"{UPLOADS}{job_id}{JOB_INPUT}{name}", data)

    def open_job_input(self, job_id: UUID, name: str) -> BinaryIO:
        """A file that a job was given.

        Raises:
            NotFoundError: the storage isn't the one that it was given in.
        """
        try:
            return self.store.open(f"{UPLOADS}{job_id}{JOB_INPUT}{name}")
        except FileNotFoundError as error:
            raise NotFoundError(
                "A file of this job is gone. Processes that share jobs must share UPLOAD_DIR, or a bucket."
            ) from error

    def delete_job_inputs(self, job_id: UUID) -> None:
        """Remove all files that a job was given."""
        for file in list(self.store.list(f"{UPLOADS}{job_id}{JOB_INPUT}")):
            self.store.delete(file.key)

    def save_artifacts(self, job_id: UUID, archive: bytes) -> None:
        """Keep a ZIP of what a job came by, to look at. It expires, and is removed, with the job's result."""
        self._put(_artifacts_key(job_id), archive)

    def find_artifacts(self, job_id: UUID) -> FoundFile:
        """What a job kept to look at, a ZIP.

        Raises:
            NotFoundError: it kept nothing, or it has expired.
        """
        found = self.store.first_of(_artifacts_key(job_id))
        if found is None:
            raise NotFoundError(f"Job {job_id} kept nothing to look at; SAVE_DEBUG_ARTIFACTS=true has jobs do so.")
        return FoundFile(job_id, found.key, found.size, found.modified)

    def delete_artifacts(self, job_id: UUID) -> None:
        """Remove what a job kept to look at, if it did."""
        self.store.delete(_artifacts_key(job_id))

    def jobs_with_inputs(self) -> dict[UUID, float]:
        """The jobs whose files are kept, and the age of the youngest in seconds."""
        now, ages = time.time(), dict[UUID, float]()
        for file in self.store.list(UPLOADS):
            job_id = _id_of(file.key, UPLOADS)
            if job_id is not None and file.key.startswith(f"{UPLOADS}{job_id}{JOB_INPUT}"):
                age = now - file.modified
                ages[job_id] = min(age, ages.get(job_id, age))
        return ages

    # Templates

    def save_template_image(self, template_id: UUID, png: bytes, *, private: bool) -> None:
        """Store the picture of a template, a PNG. It does not expire. `private`: it belongs to one user."""
        self._put(f"{UPLOADS}{template_id}{PRIVATE_TEMPLATE_IMAGE if private else TEMPLATE_IMAGE}", png)

    def find_template_image(self, template_id: UUID) -> FoundFile:
        """The picture of a template, a PNG.

        Raises:
            NotFoundError: there is none.
        """
        found = self.store.first_of(f"{UPLOADS}{template_id}", TEMPLATE_IMAGES)
        if found is None:
            raise NotFoundError(f"There is no template {template_id}. GET /templates lists those there are.")
        return FoundFile(template_id, found.key, found.size, found.modified)

    def delete_template_image(self, template_id: UUID) -> None:
        """Remove the picture of a template, if there is one, and the record that a former version kept beside it."""
        for ending in (*TEMPLATE_IMAGES, TEMPLATE_RECORD):
            self.store.delete(f"{UPLOADS}{template_id}{ending}")

    def template_images(self) -> dict[UUID, TemplateImage]:
        """The templates whose picture is stored."""
        images: dict[UUID, TemplateImage] = {}
        for file in self.store.list(UPLOADS):
            template_id = _id_of(file.key, UPLOADS)
            if template_id is not None and file.key.endswith(TEMPLATE_IMAGES):
                private = file.key.endswith(PRIVATE_TEMPLATE_IMAGE)
                images[template_id] = TemplateImage(datetime.fromtimestamp(file.modified, UTC), private)
        return images

    def former_template_record(self, template_id: UUID) -> dict[str, Any]:
        """What a former version wrote beside the picture of a template; {} where there is nothing, or it is damaged."""
        try:
            with self.store.open(f"{UPLOADS}{template_id}{TEMPLATE_RECORD}") as file:
                record = json.loads(file.read())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    # Pictures of users

    def save_user_picture(self, which: UserPicture, user_id: str, data: bytes, *, media_type: str) -> None:
        """Store the avatar or subject of a user, instead of the one before. It does not expire.

        Raises:
            InvalidValueError: no id of a user.
        """
        self._put(self._user_picture_key(which, user_id), data, media_type=media_type)

    def read_user_picture(self, which: UserPicture, user_id: str) -> bytes:
        """The avatar or subject of a user: whatever was stored there, by the service or by others.

        Raises:
            InvalidValueError: no id of a user, or a file larger than any picture that the service stores.
            NotFoundError: the user has none.
        """
        try:
            with self.store.open(self._user_picture_key(which, user_id)) as file:
                data = file.read(MAX_USER_PICTURE_BYTES + 1)
        except FileNotFoundError as error:
            raise _no_user_picture(which, user_id) from error
        if len(data) > MAX_USER_PICTURE_BYTES:
            raise InvalidValueError(f"The {which} that is stored for this user is too large to be read.")
        return data

    def delete_user_picture(self, which: UserPicture, user_id: str) -> None:
        """Remove the avatar or subject of a user at once.

        Raises:
            InvalidValueError: no id of a user.
            NotFoundError: the user has none.
        """
        key = self._user_picture_key(which, user_id)
        if self.store.first_of(key) is None:
            raise _no_user_picture(which, user_id)
        self.store.delete(key)

    def save_generated(
        self, data: bytes, *, kind: str, suffix: str, user_id: str | None = None, file_id: UUID | None = None
    ) -> StoredFile:
        """Store a generated picture as `{kind}_{id}.{suffix}`, below the user it is for. It expires as results do.

        Args:
            data: the picture.
            kind: lower-case letters, such as `memory`.
            suffix: png, jpg or webp.
            user_id: whom it is for, or None.
            file_id: a job's that made it: then the first that was stored stays. Default: a new one.

        Raises:
            InvalidValueError: no id of a user.
        """
        own_id = file_id or uuid4()
        key = self._generated_key(f"{kind}_{own_id.hex}.{suffix}", user_id)
        return self._save_first(own_id, key, lambda file: file.write(data))

    def find_generated(self, name: str, user_id: str | None = None) -> FoundFile:
        """A generated picture by the last part of its key, and the user it is for.

        Raises:
            NotFoundError: there is none, or it has expired.
        """
        match = GENERATED_NAME.fullmatch(name)
        found = self.store.first_of(self._generated_key(name, user_id)) if match else None
        if match is None or found is None:
            raise NotFoundError("There is no such picture. Generated pictures expire, and may have been deleted.")
        return FoundFile(UUID(match[1]), found.key, found.size, found.modified)

    def delete_generated(self, name: str, user_id: str | None = None) -> None:
        """Remove a generated picture at once.

        Raises:
            NotFoundError: there is none.
        """
        self.store.delete(self.find_generated(name, user_id).key)

    def forget_user(self, user_id: str) -> None:
        """Remove all pictures of a user.

        Raises:
            InvalidValueError: no id of a user.
        """
        generated = list(self.store.list(self._generated_key("", user_id)))
        pictures: tuple[UserPicture, ...] = ("avatar", "subject")
        for key in (*(self._user_picture_key(which, user_id) for which in pictures), *(file.key for file in generated)):
            self.store.delete(key)

    # Addresses

    def uri(self, file: StoredFile) -> str | None:
        """The s3:// address of a file, for who has access to the bucket; None with local folders."""
        return self.store.uri(file.key)

    def presigned_url(self, file: StoredFile) -> PresignedUrl | None:
        """A URL that anybody may fetch a file from for a while; None with local folders."""
        return self.store.presigned_url(file.key, file_name=file.name, media_type=file.media_type)

    # Retention

    def sweep(self, *, retention_hours: float) -> int:
        """Remove uploads and results older than this, and what killed processes left half-written; how many."""
        too_old = time.time() - retention_hours * 3600
        expired = {file.key for file in self._expiring() if file.modified < too_old}
        for key in expired:
            self.store.delete(key)
        drafts = sum(self.store.remove_drafts(prefix, older_than_s=DRAFT_MAX_AGE_S) for prefix in self.roots)
        return len(expired) + drafts

    def _expiring(self) -> Iterator[StoredObject]:
        """Files that expire. Whatever else lies there isn't ours to remove."""
        for folder in (UPLOADS, OUTPUTS):
            for file in self.store.list(folder):
                if _id_of(file.key, folder) and _is_upload_or_result(file.key):
                    yield file
        for file in self.store.list(self.prefixes.generated):
            if GENERATED_NAME.fullmatch(file.key.rpartition("/")[2]):
                yield file

    # Keys

    def _user_picture_key(self, which: UserPicture, user_id: str) -> str:
        prefix = self.prefixes.avatar if which == "avatar" else self.prefixes.subject
        return f"{prefix}{_checked(user_id)}"

    def _generated_key(self, name: str, user_id: str | None) -> str:
        folder = "" if user_id is None else f"{_checked(user_id)}/"
        return f"{self.prefixes.generated}{folder}{name}"

    # Writing

    def _put(self, key: str, data: bytes, *, media_type: str | None = None) -> None:
        with self.store.draft(key, media_type=media_type or _media_type(key)) as draft:
            draft.file.write(data)
            draft.publish()

    def _save(self, file_id: UUID, key: str, data: bytes) -> StoredFile:
        with self.store.draft(key, media_type=_media_type(key)) as draft:
            draft.file.write(data)
            draft.publish(durable=False)
        return StoredFile(file_id, key)

    def _save_first(
        self,
        file_id: UUID,
        key: str,
        write: Callable[[BinaryIO], object],
        attempts: Callable[[Attempt], None] = _once,
    ) -> StoredFile:
        with self.store.draft(key, media_type=_media_type(key)) as draft:
            write(draft.file)
            attempts(lambda: draft.publish(first_stays=True))
        return StoredFile(file_id, key)


def local_storage(*, upload_dir: Path, output_dir: Path) -> Storage:
    """Files in two local folders, which are made where they are missing."""
    return Storage(LocalFiles(upload_dir=upload_dir, output_dir=output_dir))


def _artifacts_key(job_id: UUID) -> str:
    return f"{OUTPUTS}{job_id}{ARTIFACTS}"


def _is_upload_or_result(key: str) -> bool:
    kept = key.endswith((*TEMPLATE_IMAGES, TEMPLATE_RECORD)) or JOB_INPUT in key
    return _suffix(key) in MEDIA_TYPES and not kept


def _id_of(key: str, folder: str) -> UUID | None:
    """The id that the name of a file in this folder begins with; None where it isn't one of ours."""
    try:
        return UUID(key.removeprefix(folder)[:UUID_LENGTH])
    except ValueError:
        return None


def _media_type(key: str) -> str:
    return MEDIA_TYPES.get(_suffix(key), "application/octet-stream")


def _suffix(key: str) -> str:
    return key.rpartition("/")[2].rpartition(".")[2]


def _checked(user_id: str) -> str:
    if not re.fullmatch(USER_ID_PATTERN, user_id) or GENERATED_NAME.fullmatch(user_id):
        raise InvalidValueError("user_id: give 1 to 128 letters, digits and . _ - @ +, and no dot in front.")
    return user_id


def _no_user_picture(which: UserPicture, user_id: str) -> NotFoundError:
    return NotFoundError(f"The user {user_id} has no {which}. PUT /v1/users/{{user_id}}/{which} stores one.")
