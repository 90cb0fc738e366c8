"""Files in two local folders: keys below `uploads/` in one, those below `outputs/` in the other.

A file appears by a rename or a link: complete, or not at all.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import uuid4

from service.errors import StorageUnavailableError
from service.object_store import StoredObject, refuse_when_full

PARTIAL = ".partial"


class LocalFiles:
    """An `ObjectStore`. Keys are made by the service, so none leads out of its folder."""

    kind: Literal["local"] = "local"

    def __init__(self, *, upload_dir: Path, output_dir: Path) -> None:
        self._folders = {"uploads": upload_dir, "outputs": output_dir}
        for folder in self._folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def draft(self, key: str, *, media_type: str) -> Iterator[LocalDraft]:  # noqa: ARG002 - names tell types here
        """Begin a file, in the folder where it will be."""
        path = self._path(key)
        partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}{PARTIAL}")
        with refuse_when_full():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("w+b") as file:
                    yield LocalDraft(file, partial, path)
            finally:
                partial.unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        """A file to read."""
        return self._path(key).open("rb")

    def first_of(self, stem: str, endings: Sequence[str] = ("",)) -> StoredObject | None:
        """The first that is stored of the keys that are `stem` and one of these endings."""
        candidates = (_stored(stem + ending, self._path(stem + ending)) for ending in endings)
        return next((found for found in candidates if found is not None), None)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All files whose keys begin so, but those that are being written."""
        folder_key = prefix.rpartition("/")[0]
        folder = self._path(folder_key)
        for path in folder.rglob("*"):
            key = f"{folder_key}/{path.relative_to(folder).as_posix()}"
            if key.startswith(prefix) and not path.name.startswith("."):
                found = _stored(key, path)
                if found is not None:
                    yield found

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def remove_drafts(self, prefix: str, *, older_than_s: float) -> int:
        """Remove what killed processes left."""
        removed = 0
        for path in self._path(prefix.rpartition("/")[0]).rglob(f".*{PARTIAL}"):
            draft = _stored(path.name, path)
            if draft is not None and time.time() - draft.modified > older_than_s:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def uri(self, key: str) -> None:
        """A path of this machine is nobody's business."""

    def presigned_url(self, key: str, *, file_name: str, media_type: str) -> None:
        """Only the service can give local files out."""

    def check(self) -> None:
        """Whether the folders are there, and may be written to."""
        for name, folder in self._folders.items():
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StorageUnavailableError(f"The service's folder of {name} is missing or can't be written to.")

    def _path(self, key: str) -> Path:
        name, _, rest = key.partition("/")
        return self._folders[name] / rest


@dataclass(frozen=True, slots=True)
class LocalDraft:
    """A hidden file beside the one that it becomes."""

    file: BinaryIO
    _partial: Path
    _path: Path

    def publish(self, *, first_stays: bool = False, durable: bool = True) -> None:
        """Give it its name."""
        self.file.flush()
        if durable:
            os.fsync(self.file.fileno())
        if first_stays:
            with suppress(FileExistsError):
                self._path.hardlink_to(self._partial)
        else:
            self._partial.replace(self._path)


def _stored(key: str, path: Path) -> StoredObject | None:
    """None where it is none, or another process removed it."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return StoredObject(key, facts.st_size, facts.st_mtime) if stat.S_ISREG(facts.st_mode) else None
