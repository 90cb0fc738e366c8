"""Files appear whole or not at all, expire, and can't be reached by tricks."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from operator import methodcaller
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

import pytest

from service.errors import InvalidValueError, NotFoundError
from service.local_storage import LocalFiles
from service.storage import Storage, local_storage
from tests.s3_server import S3Server

PROJECT = Path(__file__).resolve().parents[1]
DAY_S = 24 * 3600


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return local_storage(upload_dir=tmp_path / "uploads", output_dir=tmp_path / "outputs")
    server: S3Server = request.getfixturevalue("s3_server")
    return server.storage()


def keys(storage: Storage) -> set[str]:
    """All that is stored."""
    return {file.key for prefix in storage.roots for file in storage.store.list(prefix)}


def is_empty(storage: Storage) -> bool:
    """Nothing is stored, and nothing lies there half-written."""
    drafts = [storage.store.remove_drafts(root, older_than_s=-DAY_S) for root in storage.roots]
    return not keys(storage) and not any(drafts)


def put(storage: Storage, key: str) -> None:
    """As somebody else would."""
    with storage.store.draft(key, media_type="image/png") as draft:
        draft.file.write(b"not ours")
        draft.publish()


def later(monkeypatch: pytest.MonkeyPatch, *, hours: float) -> None:
    """Let the storage take the time to be so many hours later."""
    moment = time.time() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: moment)


def content(storage: Storage, file_id: UUID) -> bytes:
    return storage.read(storage.find(file_id))


def test_what_is_stored_is_found_by_its_id_under_the_seeds_names(storage: Storage) -> None:
    upload, result = storage.save_upload(b"photo", suffix="jpg"), storage.save_result(b"page", suffix="png")
    assert content(storage, upload.id) == b"photo"
    found = storage.find(result.id)
    assert (found.media_type, found.size, found.name) == ("image/png", 4, f"{result.id}_personalized.png")
    assert upload.key == f"uploads/{upload.id}.jpg"
    assert result.key == found.key == f"outputs/{result.id}_personalized.png"


def test_a_file_is_read_from_any_position(storage: Storage) -> None:
    data = bytes(range(256)) * 1000
    with storage.open(storage.save_result(data, suffix="png")) as file:
        assert file.read(5) == data[:5]
        assert file.seek(200_000) == 200_000
        assert file.read(10) == data[200_000:200_010]
        assert file.seek(-3, 2) == len(data) - 3
        assert file.read() == data[-3:]
        assert file.read() == b""
        file.seek(1)
        assert file.tell() == 1
        assert file.read() == data[1:]


def test_what_is_deleted_is_gone(storage: Storage) -> None:
    file = storage.save_result(b"page", suffix="jpg")
    storage.delete(file.id)
    assert is_empty(storage)
    for call in (storage.find, storage.delete, storage.find_template_image):
        with pytest.raises(NotFoundError):
            call(file.id)
    with pytest.raises(NotFoundError):
        storage.read(file)


def test_a_write_that_fails_leaves_nothing(storage: Storage) -> None:
    def half(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("the page has no face")

    with pytest.raises(ValueError, match="no face"):
        storage.save_job_result(uuid4(), half, ending="_book.zip")
    assert is_empty(storage)


def test_the_first_result_of_a_job_stays(storage: Storage) -> None:
    job_id = uuid4()
    for data in (b"first", b"second"):
        file = storage.save_job_result(job_id, methodcaller("write", data), ending="_book.zip")
        assert storage.read(file) == content(storage, job_id) == b"first"


def test_the_files_of_a_job_are_kept_apart_from_uploads(storage: Storage) -> None:
    job_id, other = uuid4(), uuid4()
    for name in ("photo", "map.png"):
        storage.save_job_input(job_id, name, b"1")
    storage.save_job_input(other, "photo", b"2")
    with storage.open_job_input(job_id, "photo") as file:
        assert file.read() == b"1"
    assert storage.jobs_with_inputs().keys() == {job_id, other}
    with pytest.raises(NotFoundError):
        storage.find(job_id)
    assert storage.sweep(retention_hours=1e-9) == 0
    storage.delete_job_inputs(job_id)
    assert keys(storage) == {f"uploads/{other}_job_photo"}
    with pytest.raises(NotFoundError):
        storage.open_job_input(job_id, "photo")


def test_uploads_and_results_expire_and_what_is_kept_stays(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save_result(b"1", suffix="png")
    storage.save_upload(b"2", suffix="jpg")
    storage.save_generated(b"3", kind="memory", suffix="png", user_id="kim")
    template_id = uuid4()
    storage.save_template_image(template_id, b"png", private=False)
    storage.save_user_picture("avatar", "kim", b"4", media_type="image/png")
    storage.save_job_input(template_id, "photo", b"5")
    kept = {
        f"uploads/{template_id}_template.png", f"uploads/{template_id}_job_photo", f"{storage.prefixes.avatar}kim",
        f"uploads/{template_id}_template.json", "uploads/notes.png", f"{storage.prefixes.generated}kim/holiday.png",
    }  # fmt: skip
    for key in kept - keys(storage):
        put(storage, key)
    assert storage.sweep(retention_hours=24) == 0
    later(monkeypatch, hours=25)
    assert storage.sweep(retention_hours=24) == 3
    assert keys(storage) == kept


def test_a_template_is_deleted_with_what_a_former_version_kept(storage: Storage) -> None:
    template_id = uuid4()
    storage.save_template_image(template_id, b"1", private=True)
    put(storage, f"uploads/{template_id}_template.json")
    assert set(storage.template_images()) == {template_id}
    assert storage.former_template_record(template_id) == {}
    assert storage.find_template_image(template_id).media_type == "image/png"
    storage.delete_template_image(template_id)
    assert is_empty(storage)


def test_a_users_pictures_have_the_layout_of_the_seed(storage: Storage) -> None:
    storage.save_user_picture("avatar", "kim@example.com", b"old", media_type="image/png")
    storage.save_user_picture("avatar", "kim@example.com", b"new", media_type="image/jpeg")
    assert storage.read_user_picture("avatar", "kim@example.com") == b"new"
    with pytest.raises(NotFoundError, match="no subject"):
        storage.read_user_picture("subject", "kim@example.com")
    made = storage.save_generated(b"page", kind="memory", suffix="png", user_id="kim@example.com")
    assert made.key == f"{storage.prefixes.generated}kim@example.com/memory_{made.id.hex}.png"
    assert storage.read(storage.find_generated(made.name, "kim@example.com")) == b"page"
    for name, user_id in ((made.name, "kim"), (made.name, None), ("x.png", "kim@example.com")):
        with pytest.raises(NotFoundError):
            storage.find_generated(name, user_id)
    storage.delete_user_picture("avatar", "kim@example.com")
    with pytest.raises(NotFoundError):
        storage.delete_user_picture("avatar", "kim@example.com")
    storage.delete_generated(made.name, "kim@example.com")
    assert is_empty(storage)


def test_a_generated_picture_of_a_job_is_stored_once(storage: Storage) -> None:
    job_id = uuid4()
    for data in (b"first", b"second"):
        file = storage.save_generated(data, kind="image", suffix="png", file_id=job_id)
    assert storage.read(storage.find_generated(file.name)) == b"first"
    assert keys(storage) == {f"{storage.prefixes.generated}image_{job_id.hex}.png"}


def test_a_user_is_forgotten_and_the_next_is_not(storage: Storage) -> None:
    for user_id in ("kim", "kimberly"):
        storage.save_user_picture("avatar", user_id, b"1", media_type="image/png")
        storage.save_user_picture("subject", user_id, b"2", media_type="image/png")
        storage.save_generated(b"3", kind="memory", suffix="png", user_id=user_id)
    storage.forget_user("kim")
    storage.forget_user("nobody")
    assert len(keys(storage)) == 3
    assert all("kimberly" in key for key in keys(storage))


def test_an_id_that_could_leave_its_folder_is_refused(storage: Storage) -> None:
    unsafe = [
        "",
        ".",
        "..",
        "../kim",
        "kim/../x",
        "a/b",
        "a\\b",
        ".kim",
        "kim\x00",
        "k\n",
        "\N{GREEK SMALL LETTER PI}",
        "x" * 129,
    ]
    for user_id in unsafe:
        with pytest.raises(InvalidValueError):
            storage.save_user_picture("avatar", user_id, b"1", media_type="image/png")
        with pytest.raises(InvalidValueError):
            storage.forget_user(user_id)
        with pytest.raises(InvalidValueError):
            storage.find_generated(f"memory_{uuid4().hex}.png", user_id)
    assert is_empty(storage)


# --- local folders ----------------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_removed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles(upload_dir=tmp_path / "uploads", output_dir=tmp_path / "outputs")
    (tmp_path / "outputs" / ".x.png.0.partial").write_bytes(b"being written")
    storage = Storage(files)
    assert storage.sweep(retention_hours=1e-9) == 0
    assert keys(storage) == set()
    later(monkeypatch, hours=2)
    assert storage.sweep(retention_hours=24) == 1
    assert is_empty(storage)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """The largest file size is limited in a process of its own: a write beyond it fails as on a full disk."""
    code = f"""
import resource, sys
from pathlib import Path
from uuid import uuid4
from service.errors import StorageFullError
from service.storage import local_storage
folder = Path({str(tmp_path)!r})
storage = local_storage(upload_dir=folder / "uploads", output_dir=folder / "outputs")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
calls = [
    lambda: storage.save_result(b"x" * 5000, suffix="png"),
    lambda: storage.save_template_image(uuid4(), b"x" * 5000, private=False),
    lambda: storage.save_job_input(uuid4(), "photo", b"x" * 5000),
    lambda: storage.save_job_result(uuid4(), lambda file: file.write(b"x" * 5000), ending="_book.zip"),
    lambda: storage.save_user_picture("avatar", "kim", b"x" * 5000, media_type="image/png"),
]
for call in calls:
    try:
        call()
    except StorageFullError as error:
        assert "disk is full" in error.message
    else:
        sys.exit("nothing was refused")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
