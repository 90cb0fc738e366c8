"""What `service.storage` needs of the place that files are in: local folders or a bucket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol, TypeAlias

from service.error_handlers import is_disk_full
from service.errors import StorageFullError

StoreKind: TypeAlias = Literal["local", "s3"]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file that is stored.

    Attributes:
        key: its name in the store, such as `outputs/<id>_personalized.png`.
        size: in bytes.
        modified: when it was stored, in seconds since the epoch.
    """

    key: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """Where anybody may fetch a file, without credentials, until it expires."""

    url: str
    expires_at: datetime


class Draft(Protocol):
    """A file that is being written, and that nobody sees before it is published."""

    @property
    def file(self) -> BinaryIO:
        """To write to, and to read again; publishing it does not close it."""

    def publish(self, *, first_stays: bool = False, durable: bool = True) -> None:
        """Store it whole. May be called again after it failed.

        Args:
            first_stays: keep a file that is there already instead; else it is replaced.
            durable: it must outlast a power cut, since a row of the database will say that it is there.
        """


class ObjectStore(Protocol):
    """Files by key. Blocking; safe from any thread and from several processes.

    All methods raise StorageUnavailableError where the store does not answer, and those that write StorageFullError.
    """

    @property
    def kind(self) -> StoreKind:
        """Where the files are."""

    def draft(self, key: str, *, media_type: str) -> AbstractContextManager[Draft]:
        """Begin a file. What is not published when the block ends leaves nothing behind."""

    def open(self, key: str) -> BinaryIO:
        """A file to read, from any position.

        Raises:
            FileNotFoundError: there is none.
        """

    def first_of(self, stem: str, endings: Sequence[str] = ("",)) -> StoredObject | None:
        """The first that is stored of the keys that are `stem` and one of these endings."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All files whose keys begin so, in no order."""

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""

    def remove_drafts(self, prefix: str, *, older_than_s: float) -> int:
        """Remove what killed processes left half-written below this prefix; how many."""

    def uri(self, key: str) -> str | None:
        """Its s3:// address, for who has access to the bucket; None in a local folder."""

    def presigned_url(self, key: str, *, file_name: str, media_type: str) -> PresignedUrl | None:
        """A URL that anybody may save the file from for a while; None where the service alone can give it out."""

    def check(self) -> None:
        """Ask whether files can be stored just now."""


@contextmanager
def refuse_when_full() -> Iterator[None]:
    """Tell the client where the disk takes no more."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("The service's disk is full. Nothing was stored; try again later.") from error
        raise
