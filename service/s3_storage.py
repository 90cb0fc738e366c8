"""Files in one bucket of S3, or of what speaks as it does: the only import of boto3.

Every call is bounded: seconds to connect, seconds between two bytes, and few attempts. While the endpoint does not
answer, calls fail at once instead of holding threads; one every few seconds tries again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Literal, TypeVar, cast

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from urllib3.exceptions import HTTPError

from service.circuit_breaker import CircuitBreaker
from service.errors import STORAGE_RETRY_S, StorageFullError, StorageRefusedError, StorageUnavailableError
from service.object_store import PresignedUrl, StoredObject, refuse_when_full

T = TypeVar("T")

logger = structlog.get_logger("storage")

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 5
"""Between two bytes of an answer, and until the first: a bucket on the other side of the world takes one."""
ATTEMPTS = 3
"""Botocore waits up to 1, then 2 seconds between them. It repeats what is safe to repeat, throttling included."""
CONNECTIONS = 64
"""More than the threads that use storage: the inference pool's, the jobs' and those of plain requests."""
FAILURES_TO_PAUSE = 2
PART_BYTES = 8 * 2**20
"""Of a multipart upload; S3 takes 10,000 parts, the last of which alone may be smaller than 5 MB."""
IN_MEMORY_BYTES = PART_BYTES
"""A larger draft lies in a temporary file without a name, which is gone with the process."""
READ_AHEAD_BYTES = 256 * 1024
CONFLICTS = 3
"""Attempts to store what others store at the same moment."""

ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
EXISTS = frozenset({"PreconditionFailed", "412"})
CONFLICT = frozenset({"ConditionalRequestConflict", "409"})
FULL = frozenset(
    {"QuotaExceeded", "InsufficientStorage", "InsufficientCapacity", "XMinioStorageFull",
     "XMinioAdminBucketQuotaExceeded", "EntityTooLarge", "507"}
)  # fmt: skip
REFUSALS: Mapping[str, str] = {
    "NoSuchBucket": "there is no bucket of this name (AWS_S3_BUCKET)",
    "AccessDenied": "these credentials may not use the bucket; they need s3:ListBucket, GetObject, PutObject, "
    "DeleteObject, AbortMultipartUpload and ListBucketMultipartUploads",
    "403": "these credentials may not use the bucket",
    "AllAccessDisabled": "the bucket's owner has disabled it",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is unknown there",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "AWS_SESSION_TOKEN is not valid",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_REGION",
}
"""What waiting does not mend, and what does."""


@dataclass(frozen=True, slots=True)
class S3Account:
    """Where the bucket is, and who asks. None leaves a choice to boto3: AWS itself, and roles or profiles."""

    bucket: str
    region: str
    endpoint_url: str | None
    public_endpoint_url: str | None
    addressing_style: Literal["auto", "path", "virtual"]
    access_key_id: str | None
    secret_access_key: str | None
    session_token: str | None
    presign_expire_s: int

    def __repr__(self) -> str:
        """Without the credentials."""
        return f"S3Account({self.bucket!r}, {self.endpoint_url or self.region!r})"


class S3Objects:
    """An `ObjectStore`. Everything is private to the bucket's owner; presigned URLs are the only way around."""

    kind: Literal["s3"] = "s3"

    def __init__(self, account: S3Account) -> None:
        try:
            self._client = _client(account, account.endpoint_url)
            # A presigned URL is signed for the host that the client will ask.
            public_url = account.public_endpoint_url
            self._public_client = _client(account, public_url) if public_url else self._client
        except (BotoCoreError, ValueError) as error:
            raise StorageRefusedError(f"S3 can't be used as it is configured: {error}") from error
        self._bucket = account.bucket
        self._presign_expire_s = account.presign_expire_s
        self._breaker = CircuitBreaker(failures=FAILURES_TO_PAUSE, pause_s=STORAGE_RETRY_S)

    @contextmanager
    def draft(self, key: str, *, media_type: str) -> Iterator[S3Draft]:
        """Begin a file, on this machine: it is sent when it is published."""
        with refuse_when_full(), SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
            yield S3Draft(self, key, cast("BinaryIO", file), media_type)

    def open(self, key: str) -> BinaryIO:
        """A file to read; what is read is fetched as it is read."""
        return io.BufferedReader(S3Reader(lambda start, tag: self._get(key, start, tag)), READ_AHEAD_BYTES)

    def first_of(self, stem: str, endings: Sequence[str] = ("",)) -> StoredObject | None:
        """One request for all. A list is in the order of the names: the stem itself, alone, comes first."""
        limit = 1 if endings == ("",) else 1000
        answer = self.call("list_objects_v2", Prefix=stem, MaxKeys=limit)
        found = {each["Key"]: each for each in answer.get("Contents", ())}
        return next((_stored(found[stem + ending]) for ending in endings if stem + ending in found), None)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All files whose keys begin so, a thousand a request."""
        for page in self._pages("list_objects_v2", Prefix=prefix):
            for each in page.get("Contents", ()):
                if not each["Key"].endswith("/"):  # what some tools store in place of a folder
                    yield _stored(each)

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        self.call("delete_object", Key=key)

    def remove_drafts(self, prefix: str, *, older_than_s: float) -> int:
        """Remove the parts of uploads that were never completed: they cost as much as files, and no list shows them."""
        too_old = datetime.now(UTC) - timedelta(seconds=older_than_s)
        removed = 0
        for page in self._pages("list_multipart_uploads", Prefix=prefix):
            for each in page.get("Uploads", ()):
                if each["Initiated"] < too_old:
                    with suppress(ClientError):  # another process was faster
                        self.call("abort_multipart_upload", Key=each["Key"], UploadId=each["UploadId"])
                    removed += 1
        return removed

    def uri(self, key: str) -> str:
        """Its address for who has access to the bucket."""
        return f"s3://{self._bucket}/{key}"

    def presigned_url(self, key: str, *, file_name: str, media_type: str) -> PresignedUrl:
        """A URL that anybody may save the file from for a while."""
        expires_at = datetime.now(UTC) + timedelta(seconds=self._presign_expire_s)
        parameters = {
            "Bucket": self._bucket, "Key": key,
            "ResponseContentType": media_type, "ResponseContentDisposition": f'attachment; filename="{file_name}"',
        }  # fmt: skip
        try:
            url: str = self._public_client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=self._presign_expire_s
            )
        except BotoCoreError as error:  # the credentials of a role could not be fetched
            raise _failure(error) from error
        return PresignedUrl(url, expires_at)

    def check(self) -> None:
        """Ask the bucket for the name of one file: credentials, bucket, region and clock must all be right."""
        self.call("list_objects_v2", MaxKeys=1)

    def call(self, operation: str, **parameters: Any) -> Any:
        """One request about the bucket.

        Raises:
            StorageUnavailableError, StorageFullError: it failed.
            ClientError: of the codes that the caller may expect: ABSENT, EXISTS, CONFLICT.
        """
        return self._guarded(lambda: getattr(self._client, operation)(Bucket=self._bucket, **parameters))

    def _pages(self, operation: str, **parameters: Any) -> Iterator[Any]:
        pages = iter(self._client.get_paginator(operation).paginate(Bucket=self._bucket, **parameters))
        while (page := self._guarded(lambda: next(pages, None))) is not None:
            yield page

    def _get(self, key: str, start: int, tag: str | None) -> tuple[Any, int, str]:
        """The content from a position on, the size of all of it, and its tag; the same file as before, by its tag."""
        same = {} if tag is None else {"IfMatch": tag}
        try:
            answer = self.call("get_object", Key=key, **({"Range": f"bytes={start}-"} if start else {}), **same)
        except ClientError as error:
            raise FileNotFoundError(key) from error
        return answer["Body"], start + answer["ContentLength"], answer["ETag"]

    def _guarded(self, request: Callable[[], T]) -> T:
        if self._breaker.enter() > 0:
            raise StorageUnavailableError
        try:
            result = request()
        except (BotoCoreError, ClientError, HTTPError) as error:
            if _code(error) in ABSENT | EXISTS | CONFLICT:
                self._breaker.succeed()
                raise
            failure = _failure(error)
            if isinstance(failure, (StorageRefusedError, StorageFullError)):
                self._breaker.succeed()  # it answers
            else:
                self._breaker.fail()
            raise failure from error
        self._breaker.succeed()
        return result


@dataclass(frozen=True, slots=True)
class S3Draft:
    """A file on this machine that becomes one of the bucket."""

    store: S3Objects
    key: str
    file: BinaryIO
    media_type: str

    def publish(self, *, first_stays: bool = False, durable: bool = True) -> None:  # noqa: ARG002 - S3 always is
        """Send it: in one piece, or in parts that become a file when all are there."""
        size = self.file.seek(0, os.SEEK_END)
        condition = {"IfNoneMatch": "*"} if first_stays else {}
        send = self._send_whole if size <= PART_BYTES else self._send_in_parts
        for _ in range(CONFLICTS):
            try:
                return send(condition)
            except ClientError as error:
                if _code(error) in EXISTS:
                    return None
                conflict = error
        raise StorageUnavailableError from conflict

    def _send_whole(self, condition: dict[str, str]) -> None:
        self.file.seek(0)
        self.store.call("put_object", Key=self.key, Body=self.file, ContentType=self.media_type, **condition)

    def _send_in_parts(self, condition: dict[str, str]) -> None:
        self.file.seek(0)
        upload = self.store.call("create_multipart_upload", Key=self.key, ContentType=self.media_type)
        of_upload = {"Key": self.key, "UploadId": upload["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            while data := self.file.read(PART_BYTES):
                number = len(parts) + 1
                sent = self.store.call("upload_part", PartNumber=number, Body=data, **of_upload)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self.store.call("complete_multipart_upload", MultipartUpload={"Parts": parts}, **of_upload, **condition)
        except BaseException:
            with suppress(StorageUnavailableError, StorageFullError, ClientError):  # else the sweep removes it
                self.store.call("abort_multipart_upload", **of_upload)
            raise


class S3Reader(io.RawIOBase):
    """A file of the bucket, fetched from where it is read on. It stays the same file, or the reading fails."""

    def __init__(self, get: Callable[[int, str | None], tuple[Any, int, str]]) -> None:
        """`get` gives the content from a position on, the size of all, and the tag of what it was."""
        super().__init__()
        self._get = get
        self._position = 0
        self._body, self._size, self._tag = get(0, None)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere; nothing is fetched before it is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the file's beginning")
        if base + offset != self._position:
            self._position = base + offset
            self._close_body()
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Some of what follows; 0 at the end."""
        if self._position >= self._size:
            return 0
        try:
            if self._body is None:
                self._body, _, _ = self._get(self._position, self._tag)
            data: bytes = self._body.read(len(buffer))
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StorageUnavailableError from error
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Fetch no more."""
        self._close_body()
        super().close()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _client(account: S3Account, endpoint_url: str | None) -> Any:
    session = boto3.session.Session(
        aws_access_key_id=account.access_key_id,
        aws_secret_access_key=account.secret_access_key,
        aws_session_token=account.session_token,
        region_name=account.region,
    )
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        signature_version="s3v4",
        s3={"addressing_style": account.addressing_style},
        # Only AWS knows the checksums that botocore would add unasked.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=True,  # the settings alone say where pictures go
    )
    return session.client("s3", endpoint_url=endpoint_url, config=config)


def _stored(listed: Mapping[str, Any]) -> StoredObject:
    return StoredObject(listed["Key"], listed["Size"], listed["LastModified"].timestamp())


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _status(error: Exception) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) if isinstance(error, ClientError) else 0


def _failure(error: Exception) -> StorageUnavailableError | StorageFullError:
    """What the service says of it; the cause goes to the log alone."""
    code = _code(error)
    if code in FULL or _status(error) == 507:
        return StorageFullError("The storage is full, or its quota is used up. Nothing was stored; try again later.")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return StorageRefusedError("S3 refuses the service: there are no credentials. Set AWS_ACCESS_KEY_ID.")
    if isinstance(error, CredentialRetrievalError):
        return StorageUnavailableError()
    if code in REFUSALS:
        return StorageRefusedError(f"S3 refuses the service: {REFUSALS[code]}.")
    return StorageUnavailableError()
