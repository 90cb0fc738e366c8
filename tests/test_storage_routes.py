"""The service over both storages: the same answers, byte for byte, and a bucket that goes away and comes back."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr

from config import Settings
from main import create_app
from service import running_storage
from service.storage import Storage
from tests.conftest import encoded, settings_in
from tests.s3_server import KEY, SECRET, S3Server
from tests.servers import wait_for

PROJECT = Path(__file__).resolve().parents[1]
AVATAR = encoded(Image.linear_gradient("L").convert("RGB").resize((200, 100)), "PNG")


def bucket_settings(folder: Path, server: S3Server, **changes: Any) -> Settings:
    if "aws_s3_bucket" not in changes:
        changes["aws_s3_bucket"] = server.new_bucket()
    keys = {"aws_access_key_id": SecretStr(KEY), "aws_secret_access_key": SecretStr(SECRET)}
    return settings_in(folder, s3_endpoint_url=server.url, **keys, **changes)


@pytest.fixture(scope="module", params=["local", "s3"])
def client(
    request: pytest.FixtureRequest, session_s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("service")
    if request.param == "local":
        settings = settings_in(folder)
    else:
        session_s3_server.start()
        settings = bucket_settings(folder, session_s3_server)
    with TestClient(create_app(settings)) as client:
        yield client
    assert request.param == "local" or [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.fixture
def kind(client: TestClient) -> str:
    kind: str = client.get("/health").json()["storage"]["kind"]
    return kind


@pytest.fixture
def result(client: TestClient, photo: bytes, page: bytes) -> Iterator[str]:
    """The id of a personalised page."""
    body = client.post("/personalize", files={"child_photo": photo, "illustration": page}).json()
    assert body["output_path"] == f"outputs/{body['output_file_id']}_personalized.png"
    yield body["output_file_id"]
    client.delete(f"/download/{body['output_file_id']}")


def test_a_result_is_downloaded_whole_in_parts_and_not_twice(client: TestClient, result: str) -> None:
    whole = client.get(f"/download/{result}")
    data, etag = whole.content, whole.headers["etag"]
    assert Image.open(io.BytesIO(data)).format == "PNG"
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["content-length"] == str(len(data))
    assert whole.headers["content-disposition"] == f'attachment; filename="{result}_personalized.png"'
    assert etag == f'"{result}"'

    def part(ranges: str, **headers: str) -> Any:
        return client.get(f"/download/{result}", headers={"Range": f"bytes={ranges}", **headers})

    middle = part("100000-100099")
    assert (middle.status_code, middle.content) == (206, data[100_000:100_100])
    assert middle.headers["content-range"] == f"bytes 100000-100099/{len(data)}"
    assert part("-5").content == data[-5:]
    assert part(f"{len(data) - 3}-").content == data[-3:]
    two = part("0-3,10-12")
    assert two.headers["content-type"].startswith("multipart/byteranges")
    assert data[:4] in two.content
    assert data[10:13] in two.content
    assert part("0-0", **{"If-Range": etag}).status_code == 206
    assert part("0-0", **{"If-Range": '"another"'}).content == data
    beyond = part(f"{len(data)}-")
    assert (beyond.status_code, beyond.json()["code"]) == (416, "RANGE_NOT_SATISFIABLE")
    known = client.get(f"/download/{result}", headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")
    head = client.head(f"/download/{result}")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(data)))


def test_the_url_of_a_result_can_be_handed_on(client: TestClient, result: str, kind: str) -> None:
    link = client.get(f"/download/{result}/url").json()
    data = client.get(f"/download/{result}").content
    assert link["presigned"] is (kind == "s3")
    if link["presigned"]:
        assert httpx.get(link["url"], trust_env=False).content == data
        assert link["expires_at"]
    else:
        assert client.get(link["url"]).content == data
        assert link["expires_at"] is None
    assert client.get(f"/download/{uuid4()}/url").status_code == 404


def test_what_is_deleted_is_gone(client: TestClient, result: str) -> None:
    assert client.delete(f"/download/{result}").json() == {"success": True}
    for method in ("GET", "HEAD", "DELETE"):
        assert client.request(method, f"/download/{result}").status_code == 404


def test_an_upload_is_found_again(client: TestClient, photo: bytes) -> None:
    body = client.post("/detect-face", files={"file": photo}).json()
    assert body["file_path"] == f"uploads/{body['file_id']}.jpg"
    assert client.get(f"/download/{body['file_id']}").headers["content-type"] == "image/jpeg"
    assert client.delete(f"/download/{body['file_id']}").status_code == 200


def test_a_template_is_drawn_into_by_a_job_and_deleted(client: TestClient, photo: bytes, page: bytes) -> None:
    template = client.post("/upload-illustration-template", files={"file": page}).json()["template_id"]
    shown = client.get(f"/templates/{template}/image")
    assert Image.open(io.BytesIO(shown.content)).size == Image.open(io.BytesIO(page)).size
    again = client.get(f"/templates/{template}/image", headers={"If-None-Match": shown.headers["etag"]})
    assert again.status_code == 304
    job = client.post(
        "/personalize/book", files={"child_photo": photo}, data={"template_ids": [template, template]}
    ).json()
    wait_for(lambda: client.get(job["status_url"]).json()["status"] == "completed")
    book = client.get(f"{job['status_url']}/result")
    assert zipfile.ZipFile(io.BytesIO(book.content)).namelist() == ["page_001.png", "page_002.png"]
    assert client.delete(job["status_url"]).json()["outcome"] == "deleted"
    assert client.get(f"/download/{job['job_id']}").status_code == 404
    assert client.delete(f"/templates/{template}").status_code == 200
    assert client.get(f"/templates/{template}/image").status_code == 404


def test_contours_are_stored_and_read_back(client: TestClient, photo: bytes) -> None:
    job = client.post("/api/v1/frontal/crop/submit", files={"image": photo}).json()["job_id"]
    status = f"/api/v1/frontal/crop/status/{job}"
    wait_for(lambda: client.get(status).json()["status"] == "completed")
    assert client.get(status).json()["result"]
    client.delete(f"/api/v1/jobs/{job}")


@pytest.mark.parametrize("which", ["avatar", "subject"])
def test_a_users_picture_is_kept_shown_replaced_and_removed(client: TestClient, which: str) -> None:
    url = f"/v1/users/kim@example.com/{which}"
    assert client.get(url).json()["code"] == "NOT_FOUND"
    kept = client.put(url, files={"file": AVATAR}).json()
    assert (kept["width"], kept["height"], kept["media_type"], kept["url"]) == (200, 100, "image/jpeg", url)
    shown = client.get(url)
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(shown.content)).size == (200, 100)
    assert client.get(url, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    transparent = Image.new("RGBA", (64, 64), (9, 9, 9, 9))
    assert client.put(url, files={"file": encoded(transparent)}).json()["media_type"] == "image/png"
    assert client.get(url).headers["etag"] != shown.headers["etag"]
    assert client.head(url).headers["content-type"] == "image/png"
    assert client.delete(url).json() == {"success": True}
    assert client.delete(url).status_code == client.get(url).status_code == 404


# --- a bucket that goes away ------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked now and then is asked often, and retries follow at once."""
    monkeypatch.setattr(running_storage, "CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr("service.s3_storage.STORAGE_RETRY_S", 0.2)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


def storage_state(client: TestClient) -> str:
    health = client.get("/health").json()
    assert (health["status"] == "healthy") is (health["storage"]["state"] == "ready")
    state: str = health["storage"]["state"]
    return state


@pytest.mark.usefixtures("quick")
def test_a_bucket_that_goes_away_is_503_and_comes_back(
    tmp_path: Path, s3_server: S3Server, photo: bytes, page: bytes
) -> None:
    with TestClient(create_app(bucket_settings(tmp_path, s3_server))) as client:
        order = {"child_photo": photo, "illustration": page}
        kept = client.post("/personalize", files=order).json()["output_file_id"]
        template = client.post("/upload-illustration-template", files={"file": page}).json()["template_id"]
        s3_server.stop()
        answers = [
            client.get(f"/download/{kept}"), client.delete(f"/download/{kept}"), client.get(f"/download/{kept}/url"),
            client.post("/personalize", files=order), client.post("/detect-face", files={"file": photo}),
            client.get(f"/templates/{template}/image"), client.delete(f"/templates/{template}"),
            client.post("/personalize/book", files={"child_photo": photo}, data={"template_ids": [template]}),
            client.put("/v1/users/kim/avatar", files={"file": AVATAR}), client.get("/v1/users/kim/avatar"),
        ]  # fmt: skip
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
        wait_for(lambda: storage_state(client) == "unreachable")
        assert 'storage_answers{kind="s3"} 0.0' in client.get("/metrics").text
        assert client.get("/templates").json()["templates"][0]["template_id"] == template
        assert client.get("/api/v1/jobs").json()["jobs"] == []
        s3_server.start()
        wait_for(lambda: storage_state(client) == "ready")
        assert client.get(f"/download/{kept}").status_code == 200
        assert client.delete(f"/templates/{template}").status_code == 200
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("quick")
def test_jobs_wait_for_the_bucket_and_what_was_computed_is_not_computed_again(
    tmp_path: Path, s3_server: S3Server, photo: bytes, page: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(bucket_settings(tmp_path, s3_server))) as client:
        template = client.post("/upload-illustration-template", files={"file": page}).json()["template_id"]
        personalizer = client.app.state.service.personalizer  # type: ignore[attr-defined]
        draw, drawn, go_on = personalizer.personalize, list[int](), threading.Event()

        def draw_and_stop(*args: Any, **kwargs: Any) -> Any:
            go_on.wait(30)
            drawn.append(1)
            if len(drawn) == 2:  # the last page of the first book
                s3_server.stop()
            return draw(*args, **kwargs)

        monkeypatch.setattr(personalizer, "personalize", draw_and_stop)
        order: dict[str, Any] = {"files": {"child_photo": photo}, "data": {"template_ids": [template] * 2}}
        first, second = (client.post("/personalize/book", **order).json()["status_url"] for _ in range(2))
        go_on.set()
        wait_for(lambda: client.get(first).json()["stage"] == "waiting for storage")
        assert client.get(first).json()["progress"] == 0.5
        s3_server.start()
        for job in (first, second):
            wait_for(partial(is_completed, client, job))
            assert zipfile.ZipFile(io.BytesIO(client.get(f"{job}/result").content)).testzip() is None
    assert len(drawn) == 4


@pytest.mark.usefixtures("quick")
def test_a_job_that_waits_for_the_bucket_can_be_cancelled(
    tmp_path: Path, s3_server: S3Server, photo: bytes, page: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(bucket_settings(tmp_path, s3_server))) as client:
        template = client.post("/upload-illustration-template", files={"file": page}).json()["template_id"]
        personalizer = client.app.state.service.personalizer  # type: ignore[attr-defined]
        monkeypatch.setattr(personalizer, "personalize", then(s3_server.stop, personalizer.personalize))
        order: dict[str, Any] = {"files": {"child_photo": photo}, "data": {"template_ids": [template]}}
        job = client.post("/personalize/book", **order).json()["status_url"]
        wait_for(lambda: client.get(job).json()["stage"] == "waiting for storage")
        assert client.delete(job).json()["outcome"] == "cancelling"
        wait_for(lambda: client.get(job).json()["status"] == "cancelled")
        refused = client.delete(job)
        assert (refused.status_code, refused.json()["code"]) == (503, "STORAGE_UNAVAILABLE")
        s3_server.start()
        wait_for(lambda: client.delete(job).status_code == 200)
        assert client.get(job).status_code == 404


def then(first: Callable[[], object], call: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> Any:
        first()
        return call(*args, **kwargs)

    return both


def is_completed(client: TestClient, job: str) -> bool:
    return bool(client.get(job).json()["status"] == "completed")


@pytest.mark.usefixtures("quick")
def test_it_starts_while_the_bucket_is_away_and_takes_up_its_work_later(tmp_path: Path, s3_server: S3Server) -> None:
    settings = bucket_settings(tmp_path, s3_server)
    s3_server.stop()
    with TestClient(create_app(settings)) as client:
        assert storage_state(client) == "unreachable"
        assert client.get("/health/ready").status_code == 200
        s3_server.start()
        wait_for(lambda: storage_state(client) == "ready")
        assert client.put("/v1/users/kim/avatar", files={"file": AVATAR}).status_code == 200


def test_a_bucket_that_says_nothing_is_unreachable_before_it_is_given_up(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_storage, "CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(running_storage, "SILENCE_S", 0.05)
    answer = threading.Event()
    with TestClient(create_app(bucket_settings(tmp_path, s3_server))) as client:
        store = client.app.state.service.storage.store  # type: ignore[attr-defined]
        monkeypatch.setattr(store, "check", then(lambda: answer.wait(30), store.check))
        wait_for(lambda: storage_state(client) == "unreachable")
        answer.set()
        wait_for(lambda: storage_state(client) == "ready")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(404, "NoSuchBucket", "no bucket"), (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
     (403, "RequestTimeTooSkewed", "clock")],
)  # fmt: skip
def test_a_bucket_that_refuses_the_service_stops_the_start_with_one_line(
    tmp_path: Path, s3_server: S3Server, status: int, code: str, said: str
) -> None:
    settings = bucket_settings(tmp_path, s3_server)
    s3_server.faults += [("GET", status, code)] * 9  # some of them go to the service of the other tests
    sentence = why_not_started(settings)
    assert sentence.startswith("Not started. ")
    assert said in sentence
    assert "\n" not in sentence
    assert SECRET not in sentence


def why_not_started(settings: Settings) -> str:
    """What a server is told."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(create_app(settings)({"type": "lifespan", "state": {}}, receive, send))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    sentence: str = sent[0]["message"]
    return sentence


@pytest.mark.usefixtures("quick")
def test_credentials_that_stop_working_are_named_in_health_and_no_secret_is_told(
    tmp_path: Path, s3_server: S3Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with TestClient(create_app(bucket_settings(tmp_path, s3_server, debug=True))) as client:
        s3_server.faults += [("GET", 403, "SignatureDoesNotMatch")] * 20 + [("PUT", 403, "SignatureDoesNotMatch")]
        wait_for(lambda: storage_state(client) == "unreachable")
        answer = client.put("/v1/users/kim/avatar", files={"file": AVATAR})
        shown = client.get("/health").text + answer.text
        assert answer.status_code == 503
        s3_server.faults.clear()
        wait_for(lambda: storage_state(client) == "ready")
    out, err = capfd.readouterr()
    assert not any(secret in text for secret in (KEY, SECRET) for text in (shown, out, err))


# --- whose pictures ---------------------------------------------------------------------------------------------------

API_KEY = "9Zk3fWv0qTn5sYb8xRc2"


def test_accounts_reach_their_own_pictures_and_keys_of_the_service_all(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, api_key=(SecretStr(API_KEY),))
    with TestClient(create_app(settings)) as client:
        service = {"Authorization": f"Bearer {API_KEY}"}
        users = []
        for name in ("alice", "bob"):
            login = {"username": name, "password": "correct horse battery"}
            client.post("/api/v1/auth/register", json=login, headers=service)
            tokens = client.post("/api/v1/auth/login", json=login).json()
            bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
            users.append((client.get("/api/v1/auth/me", headers=bearer).json()["id"], bearer))
        (alice, alices), (bob, bobs) = users
        files = {"file": AVATAR}
        assert client.put(f"/v1/users/{alice}/avatar", files=files).status_code == 401
        assert client.put(f"/v1/users/{alice}/avatar", files=files, headers=alices).status_code == 200
        for method in ("GET", "PUT", "DELETE"):
            for other in (alice, "user123"):
                refused = client.request(
                    method, f"/v1/users/{other}/avatar", headers=bobs, files=files if method == "PUT" else None
                )
                assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        assert client.get(f"/v1/users/{alice}/avatar", headers=service).status_code == 200
        assert client.put("/v1/users/user123/subject", files=files, headers=service).status_code == 200
        assert client.put(f"/v1/users/{bob}/subject", files=files, headers=service).status_code == 200
        client.request(
            "DELETE", "/api/v1/auth/me", headers=bobs, json={"password": "correct horse battery"}
        ).raise_for_status()
        assert client.get(f"/v1/users/{bob}/subject", headers=service).status_code == 404
        assert client.get("/v1/users/user123/subject", headers=service).status_code == 200


def test_strangers_reach_no_pictures_of_accounts_where_the_service_is_open(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path))) as client:
        login = {"username": "alice", "password": "correct horse battery"}
        client.post("/api/v1/auth/register", json=login).raise_for_status()
        bearer = {"Authorization": f"Bearer {client.post('/api/v1/auth/login', json=login).json()['access_token']}"}
        alice = client.get("/api/v1/auth/me", headers=bearer).json()["id"]
        assert client.put(f"/v1/users/{alice}/avatar", files={"file": AVATAR}, headers=bearer).status_code == 200
        assert client.get(f"/v1/users/{alice}/avatar").json()["code"] == "FORBIDDEN"
        assert client.put(f"/v1/users/{uuid4()}/avatar", files={"file": AVATAR}).status_code == 200


# --- tricks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user_id",
    ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", ".hidden", "a%2fb", "a%00b", "x" * 129, "%F0%9F%92%A9", "a%5cb", "*"],
)
def test_tricks_in_a_users_id_reach_no_file(client: TestClient, user_id: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        files = {"file": AVATAR} if method == "PUT" else None
        answer = client.request(method, f"/v1/users/{user_id}/avatar", files=files)
        assert answer.status_code in {404, 422}, answer.text
        assert "request_id" in answer.json()


def test_what_others_put_into_the_bucket_is_no_more_trusted_than_an_upload(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(bucket_settings(tmp_path, s3_server))) as client:
        storage: Storage = client.app.state.service.storage  # type: ignore[attr-defined]
        storage.save_user_picture("avatar", "kim", b"<script>alert(1)</script>", media_type="image/png")
        answer = client.get("/v1/users/kim/avatar")
        assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_IMAGE")
        storage.save_user_picture("avatar", "kim", AVATAR, media_type="text/html")
        assert client.get("/v1/users/kim/avatar").headers["content-type"] == "image/png"
        monkeypatch.setattr("service.storage.MAX_USER_PICTURE_BYTES", len(AVATAR) - 1)
        answer = client.get("/v1/users/kim/avatar")
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")


def test_a_local_folder_that_vanishes_is_told_by_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_storage, "CHECK_INTERVAL_S", 0.05)
    with TestClient(create_app(settings_in(tmp_path))) as client:
        (tmp_path / "outputs").rmdir()
        wait_for(lambda: storage_state(client) == "unreachable")
        assert "outputs" in client.get("/health").json()["storage"]["reason"]
        (tmp_path / "outputs").mkdir()
        wait_for(lambda: storage_state(client) == "ready")


def test_without_a_bucket_nothing_of_s3_is_loaded() -> None:
    code = "import sys, main, service.running_storage; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
