"""LoRAs by id: from the folder, from a bucket, and never from anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import InvalidValueError, NotFoundError
from service.local_storage import LocalFiles
from service.loras import LoraFiles
from service.object_store import ObjectStore

KEY = "uploads/loras/ink.safetensors"


@pytest.fixture
def bucket(tmp_path: Path) -> ObjectStore:
    """Stands where a bucket would: the same protocol."""
    return LocalFiles(upload_dir=tmp_path / "uploads", output_dir=tmp_path / "outputs")


def put(store: ObjectStore, data: bytes) -> None:
    with store.draft(KEY, media_type="application/octet-stream") as draft:
        draft.file.write(data)
        draft.publish()


def test_a_file_of_the_folder_is_found_and_wins_over_the_bucket(tmp_path: Path, bucket: ObjectStore) -> None:
    put(bucket, b"bucket")
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "ink.safetensors").write_bytes(b"own")
    assert LoraFiles(folder, store=bucket, prefix="uploads/loras/").find("ink") == folder / "ink.safetensors"


def test_the_buckets_file_is_copied_once_and_again_when_it_changes(tmp_path: Path, bucket: ObjectStore) -> None:
    loras = LoraFiles(tmp_path / "loras", store=bucket, prefix="uploads/loras/")
    put(bucket, b"first")
    copy = loras.find("ink")
    assert copy.read_bytes() == b"first"
    copy.write_bytes(b"FIRST")
    stored = bucket.first_of(KEY)
    assert stored is not None
    os.utime(copy, (stored.modified, stored.modified))
    assert loras.find("ink").read_bytes() == b"FIRST", "it was fetched again"
    put(bucket, b"second, longer")
    assert loras.find("ink").read_bytes() == b"second, longer"
    bucket.delete(KEY)
    with pytest.raises(NotFoundError):
        loras.find("ink")
    assert [path.name for path in (tmp_path / "loras" / ".bucket").iterdir()] == ["ink.safetensors"]


@pytest.mark.parametrize("lora_id", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "", "x" * 101, "a\0", "a\n"])
def test_an_id_leads_nowhere_else(tmp_path: Path, bucket: ObjectStore, lora_id: str) -> None:
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    (tmp_path / "loras").mkdir()
    with pytest.raises(InvalidValueError, match="lora_id"):
        LoraFiles(tmp_path / "loras", store=bucket, prefix="uploads/loras/").find(lora_id)
