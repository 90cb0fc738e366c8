"""What only a bucket has: a network between, refusals, parts, URLs for anybody. tests/test_storage.py has the rest."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import methodcaller
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service import s3_storage
from service.circuit_breaker import CircuitBreaker
from service.errors import NotFoundError, StorageFullError, StorageRefusedError, StorageUnavailableError
from service.s3_storage import PART_BYTES, S3Objects
from service.storage import Storage
from tests.s3_server import KEY, SECRET, S3Server
from tests.servers import free_port

LARGE = bytes(range(256)) * (PART_BYTES // 256) + b"the last part"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once, and silence is short."""
    monkeypatch.setattr(s3_storage, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.fixture
def storage(s3_server: S3Server) -> Storage:
    return s3_server.storage()


def drafts(storage: Storage) -> int:
    """Uploads whose parts lie there; they are gone afterwards."""
    return sum(storage.store.remove_drafts(root, older_than_s=-86_400) for root in storage.roots)


# --- large files ------------------------------------------------------------------------------------------------------


def test_a_large_file_goes_up_in_parts_and_comes_back_as_it_was(storage: Storage, s3_server: S3Server) -> None:
    job_id = uuid4()
    file = storage.save_job_result(job_id, methodcaller("write", LARGE), ending="_book.zip")
    assert [method for method, _ in s3_server.requests if method in ("PUT", "POST")] == [
        "PUT", "POST", "PUT", "PUT", "POST",
    ]  # fmt: skip # the bucket, begin, two parts, complete
    assert storage.read(file) == LARGE
    storage.save_job_result(job_id, methodcaller("write", LARGE[:-1] + b"!"), ending="_book.zip")
    assert storage.read(file) == LARGE
    assert drafts(storage) == 0


def test_parts_of_a_large_file_that_fails_are_removed(storage: Storage, s3_server: S3Server) -> None:
    def then_fail(file: Any) -> None:
        file.write(LARGE)
        s3_server.faults += [("PUT", 403, "AccessDenied")]

    with pytest.raises(StorageUnavailableError):
        storage.save_job_result(uuid4(), then_fail, ending="_book.zip")
    assert s3_server.requests[-1][0] == "DELETE"
    assert drafts(storage) == 0
    assert list(storage.store.list("")) == []


def test_what_a_killed_process_sent_in_part_is_swept(storage: Storage) -> None:
    assert isinstance(storage.store, S3Objects)
    storage.store.call("create_multipart_upload", Key="outputs/x.zip")
    storage.store.call("create_multipart_upload", Key="somebody-elses/x.zip")
    assert storage.sweep(retention_hours=24) == 1
    assert storage.store.remove_drafts("", older_than_s=0) == 1


# --- a network between ------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_said_and_what_was_stored_is_there_again_afterwards(
    storage: Storage, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    assert isinstance(storage.store, S3Objects)
    monkeypatch.setattr(storage.store, "_breaker", CircuitBreaker(failures=2, pause_s=5, clock=lambda: clock[0]))
    kept = storage.save_result(b"page", suffix="png")
    s3_server.stop()
    calls = [
        lambda: storage.save_result(b"page", suffix="png"), lambda: storage.find(kept.id), lambda: storage.read(kept),
        lambda: storage.delete(kept.id), lambda: storage.sweep(retention_hours=1), storage.template_images,
        lambda: storage.open_job_input(uuid4(), "photo"), storage.store.check,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StorageUnavailableError) as failure:
            call()
        assert failure.value.headers == {"Retry-After": "5"}
    s3_server.start()
    with pytest.raises(StorageUnavailableError):
        storage.find(kept.id)  # it is left alone for a while
    clock[0] = 6.0
    assert storage.read(storage.find(kept.id)) == b"page"


def test_while_it_is_down_nobody_waits_for_it(s3_server: S3Server) -> None:
    with nobody_answers() as (url, connections):
        silent = s3_server.storage(bucket="pictures", endpoint_url=url)
        assert isinstance(silent.store, S3Objects)
        for _ in range(20):
            with pytest.raises(StorageUnavailableError):
                silent.store.check()
        assert len(connections) <= s3_storage.FAILURES_TO_PAUSE * s3_storage.ATTEMPTS


@contextmanager
def nobody_answers() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and says nothing."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    connections.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", connections
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


def test_a_passing_fault_is_not_noticed(storage: Storage, s3_server: S3Server) -> None:
    s3_server.faults += [("PUT", 503, "SlowDown"), ("PUT", 500, "InternalError")]
    file = storage.save_result(b"page", suffix="png")
    s3_server.faults += [("GET", 503, "SlowDown")]
    assert storage.read(storage.find(file.id)) == b"page"


def test_an_answer_that_breaks_off_is_said(storage: Storage, s3_server: S3Server) -> None:
    file = storage.save_job_result(uuid4(), methodcaller("write", LARGE), ending="_book.zip")
    with storage.open(file) as content:
        content.read(10)
        s3_server.stop()
        content.seek(PART_BYTES)
        with pytest.raises(StorageUnavailableError):
            content.read()


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(storage: Storage) -> None:
    storage.save_user_picture("avatar", "kim", b"a" * 1000, media_type="image/png")
    with storage.store.open("avatars/kim") as content:
        storage.save_user_picture("avatar", "kim", b"b" * 1000, media_type="image/png")
        content.seek(500)
        with pytest.raises(StorageUnavailableError):
            content.read()


# --- what S3 refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "NoSuchBucket", "AWS_S3_BUCKET"),
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "expired"),
    ],
)
def test_what_an_operator_must_mend_is_named_without_any_secret(
    storage: Storage, s3_server: S3Server, status: int, code: str, said: str
) -> None:
    s3_server.faults += [
        ("GET", status, code),
        ("HEAD", status, code),
    ]  # a redirect is followed where it leads anywhere
    with pytest.raises(StorageRefusedError, match=said) as failure:
        storage.store.check()
    assert SECRET not in repr(failure.value.__cause__)
    storage.store.check()  # one refusal closes no door


@pytest.mark.parametrize(
    ("status", "code"), [(403, "QuotaExceeded"), (507, "XMinioStorageFull"), (507, "InsufficientStorage")]
)
def test_a_full_bucket_is_a_full_disk(storage: Storage, s3_server: S3Server, status: int, code: str) -> None:
    s3_server.faults += [("PUT", status, code)] * s3_storage.ATTEMPTS
    with pytest.raises(StorageFullError):
        storage.save_result(b"page", suffix="png")


def test_a_missing_bucket_is_refused_by_the_server_itself(s3_server: S3Server) -> None:
    with pytest.raises(StorageRefusedError, match="no bucket"):
        s3_server.storage(bucket="not-there").store.check()


def test_without_credentials_it_says_which_to_set(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(StorageRefusedError, match="Set AWS_ACCESS_KEY_ID"):
        s3_server.storage(access_key_id=None, secret_access_key=None).store.check()


def test_the_account_shows_no_secret(s3_server: S3Server) -> None:
    shown = repr(s3_server.account(session_token="token-that-nobody-may-see"))
    assert not any(secret in shown for secret in (KEY, SECRET, "nobody"))


# --- many writers -----------------------------------------------------------------------------------------------------


def test_of_many_results_of_one_job_the_first_stays(storage: Storage) -> None:
    job_id = uuid4()
    with ThreadPoolExecutor(8) as threads:
        stored = threads.map(
            lambda number: storage.save_job_result(job_id, methodcaller("write", b"%d" % number), ending="_book.zip"),
            range(24),
        )
        contents = [storage.read(file) for file in stored]
    assert len(set(contents)) == 1


def test_a_write_at_the_same_moment_as_anothers_is_tried_again(storage: Storage, s3_server: S3Server) -> None:
    s3_server.faults += [("PUT", 409, "ConditionalRequestConflict")]
    file = storage.save_job_result(uuid4(), methodcaller("write", b"page"), ending="_book.zip")
    assert storage.read(file) == b"page"
    s3_server.faults += [("PUT", 409, "ConditionalRequestConflict")] * s3_storage.CONFLICTS
    with pytest.raises(StorageUnavailableError):
        storage.save_job_result(uuid4(), methodcaller("write", b"page"), ending="_book.zip")


# --- addresses --------------------------------------------------------------------------------------------------------


def test_anybody_may_save_a_file_by_its_presigned_url_until_it_expires(storage: Storage) -> None:
    file = storage.save_result(b"page", suffix="png")
    link = storage.presigned_url(file)
    assert link is not None
    answer = httpx.get(link.url, trust_env=False)
    assert answer.content == b"page"
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == f'attachment; filename="{file.name}"'
    assert 0 < link.expires_at.timestamp() - time.time() <= 60
    assert httpx.get(link.url, headers={"Range": "bytes=1-2"}, trust_env=False).content == b"ag"


def test_a_presigned_url_names_the_host_that_clients_reach(s3_server: S3Server) -> None:
    inside = s3_server.account()
    public = f"http://localhost:{s3_server.port}"
    storage = s3_server.storage(bucket=inside.bucket, public_endpoint_url=public)
    file = storage.save_result(b"page", suffix="png")
    link = storage.presigned_url(file)
    assert link is not None
    assert link.url.startswith(f"{public}/{inside.bucket}/outputs/")
    assert httpx.get(link.url, trust_env=False).content == b"page"
    assert storage.uri(file) == f"s3://{inside.bucket}/{file.key}"
    by_host = s3_server.storage(bucket=inside.bucket, endpoint_url="https://s3.example.com", addressing_style="virtual")
    link = by_host.presigned_url(file)
    assert link is not None
    assert link.url.startswith(f"https://{inside.bucket}.s3.example.com/outputs/")


def test_types_are_stored_with_the_files(storage: Storage) -> None:
    assert isinstance(storage.store, S3Objects)
    storage.save_user_picture("subject", "kim", b"1", media_type="image/jpeg")
    result = storage.save_result(b"2", suffix="webp")
    types = [storage.store.call("head_object", Key=key)["ContentType"] for key in ("subjects/kim", result.key)]
    assert types == ["image/jpeg", "image/webp"]


def test_more_files_than_one_list_holds_are_all_seen(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(storage.store, S3Objects)
    pages = storage.store._client.get_paginator
    monkeypatch.setattr(storage.store._client, "get_paginator", lambda name: _Small(pages(name)))
    stored = {storage.save_upload(b"1", suffix="jpg").key for _ in range(5)}
    storage.store.call("put_object", Key="uploads/folder/", Body=b"")
    assert {file.key for file in storage.store.list("uploads/")} == stored


class _Small:
    """Pages of two."""

    def __init__(self, paginator: Any) -> None:
        self._paginator = paginator

    def paginate(self, **parameters: Any) -> Any:
        return self._paginator.paginate(**parameters, PaginationConfig={"PageSize": 2})


def test_an_unknown_file_is_not_found(storage: Storage) -> None:
    for call in (storage.find, storage.delete, storage.find_template_image):
        with pytest.raises(NotFoundError):
            call(uuid4())


def test_an_endpoint_that_nobody_listens_at_is_away(s3_server: S3Server) -> None:
    away = s3_server.storage(bucket="pictures", endpoint_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StorageUnavailableError) as failure:
        away.store.check()
    assert not isinstance(failure.value, StorageRefusedError)
