"""Files appear whole or not at all, expire, and can't be reached by tricks."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import pytest

from service.errors import NotFoundError
from service.storage import LocalStorage

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(upload_dir=tmp_path / "u", output_dir=tmp_path / "o")


def files(storage: LocalStorage) -> list[str]:
    return sorted(path.name for folder in (storage.upload_dir, storage.output_dir) for path in folder.iterdir())


def age(path: Path, hours: float) -> None:
    then = path.stat().st_mtime - hours * 3600
    os.utime(path, (then, then))


def test_what_is_stored_is_found_by_its_id_under_the_seeds_names(storage: LocalStorage) -> None:
    upload, result = storage.save_upload(b"photo", suffix="jpg"), storage.save_result(b"page", suffix="png")
    assert storage.find(upload.id).path.read_bytes() == b"photo"
    assert storage.find(result.id).media_type == "image/png"
    assert upload.public_path == f"uploads/{upload.id}.jpg"
    assert result.public_path == f"outputs/{result.id}_personalized.png"


def test_what_is_deleted_is_gone(storage: LocalStorage) -> None:
    file = storage.save_result(b"page", suffix="jpg")
    storage.delete(file.id)
    assert files(storage) == []
    for call in (storage.find, storage.delete, storage.find_template_image):
        with pytest.raises(NotFoundError):
            call(file.id)


def test_a_write_that_fails_leaves_nothing(storage: LocalStorage) -> None:
    def half(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("the page has no face")

    with pytest.raises(ValueError, match="no face"):
        storage.save_job_result(uuid4(), half, ending="_book.zip")
    assert files(storage) == []


def test_uploads_and_results_expire_and_templates_stay(storage: LocalStorage) -> None:
    old, new = storage.save_result(b"old", suffix="png"), storage.save_upload(b"new", suffix="jpg")
    template_id = uuid4()
    storage.save_template_image(template_id, b"png", private=False)
    record = storage.upload_dir / f"{template_id}_template.json"
    record.write_text("{}")
    strange = storage.upload_dir / "notes.png"
    strange.write_bytes(b"not ours")
    killed = storage.output_dir / f".{uuid4()}.png.0.partial"
    killed.write_bytes(b"half")
    for path in (old.path, killed, strange, record, storage.find_template_image(template_id)):
        age(path, hours=25)
    assert storage.sweep(retention_hours=24) == 2
    assert storage.find(new.id)
    assert storage.find_template_image(template_id).read_bytes() == b"png"
    assert record.exists()
    assert strange.exists()
    assert not killed.exists()


def test_a_fresh_partial_file_is_left_to_its_writer(storage: LocalStorage) -> None:
    (storage.output_dir / ".x.partial").write_bytes(b"being written")
    assert storage.sweep(retention_hours=0.0001) == 0


def test_a_template_is_deleted_with_what_a_former_version_kept(storage: LocalStorage) -> None:
    template_id = uuid4()
    storage.save_template_image(template_id, b"1", private=True)
    (storage.upload_dir / f"{template_id}_template.json").write_text("{")
    assert set(storage.template_images()) == {template_id}
    storage.delete_template_image(template_id)
    assert files(storage) == []


def test_a_full_disk_is_said_and_leaves_nothing(storage: LocalStorage) -> None:
    """The largest file size is limited in a process of its own: a write beyond it fails as on a full disk."""
    code = f"""
import resource, sys
from pathlib import Path
from uuid import uuid4
from service.errors import StorageFullError
from service.storage import LocalStorage
storage = LocalStorage(upload_dir=Path({str(storage.upload_dir)!r}), output_dir=Path({str(storage.output_dir)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
calls = [
    lambda: storage.save_result(b"x" * 5000, suffix="png"),
    lambda: storage.save_template_image(uuid4(), b"x" * 5000, private=False),
    lambda: storage.save_job_input(uuid4(), "photo", b"x" * 5000),
    lambda: storage.save_job_result(uuid4(), lambda file: file.write(b"x" * 5000), ending="_book.zip"),
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
    assert files(storage) == []
