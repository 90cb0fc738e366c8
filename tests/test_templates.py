"""Templates: rows with their pictures, kept whole, and found again from the pictures alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from PIL import Image

from service.database import Database, open_database
from service.errors import NotFoundError, StorageFullError
from service.storage import LocalStorage
from service.templates import TemplateStore
from tests.conftest import encoded

PNG = encoded(Image.new("RGB", (40, 30)))
SLOT = {"bbox": [0, 0, 1, 1]}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(upload_dir=tmp_path / "u", output_dir=tmp_path / "o")


@pytest.fixture
def database() -> Iterator[Database]:
    database = open_database(None)
    yield database
    database.close()


@pytest.fixture
def templates(database: Database, storage: LocalStorage) -> TemplateStore:
    return TemplateStore(database, storage)


def files(storage: LocalStorage) -> list[str]:
    return sorted(path.name for path in storage.upload_dir.iterdir())


def make_old(storage: LocalStorage, template_id: UUID) -> None:
    os.utime(storage.find_template_image(template_id), (1_700_000_000, 1_700_000_000))


def test_a_template_is_kept_with_its_picture_and_both_are_deleted(
    templates: TemplateStore, storage: LocalStorage
) -> None:
    template = templates.add(PNG, name="one", size=(40, 30), slots=[SLOT])
    kept = templates.get(template.id)
    assert (kept.name, kept.width, kept.height, kept.slots) == ("one", 40, 30, [SLOT])
    assert storage.find_template_image(template.id).read_bytes() == PNG
    assert templates.replace_slots(template.id, [SLOT, SLOT]).slots == templates.get(template.id).slots == [SLOT, SLOT]
    templates.delete(template.id)
    assert files(storage) == []
    for call in (templates.get, templates.delete, lambda id_: templates.replace_slots(id_, [])):
        with pytest.raises(NotFoundError):
            call(template.id)


def test_they_are_listed_newest_first(templates: TemplateStore) -> None:
    first, second = (templates.add(PNG, name=None, size=(40, 30), slots=[]) for _ in range(2))
    assert [template.id for template in templates.newest_first()] == [second.id, first.id]


def test_a_row_that_can_not_be_written_leaves_no_picture(
    templates: TemplateStore, storage: LocalStorage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise StorageFullError("full")

    monkeypatch.setattr(database, "session", full)
    with pytest.raises(StorageFullError):
        templates.add(PNG, name=None, size=(40, 30), slots=[])
    assert files(storage) == []


def test_pictures_without_a_row_are_taken_up_with_what_a_former_version_knew(
    templates: TemplateStore, storage: LocalStorage
) -> None:
    former, bare, damaged, no_picture, being_stored = (uuid4() for _ in range(5))
    for template_id in (former, bare, damaged, being_stored):
        storage.save_template_image(template_id, PNG)
    storage.save_template_image(no_picture, b"no picture")
    (storage.upload_dir / f"{former}_template.json").write_text(json.dumps({"name": "Hill", "slots": [SLOT]}))
    (storage.upload_dir / f"{damaged}_template.json").write_text("{")
    for template_id in (former, bare, damaged, no_picture):
        make_old(storage, template_id)
    assert templates.adopt_pictures() == 3
    assert templates.adopt_pictures() == 0
    assert {template.id for template in templates.newest_first()} == {former, bare, damaged}
    found = templates.get(former)
    assert (found.name, found.slots, found.width, found.height) == ("Hill", [SLOT], 40, 30)
    assert (templates.get(damaged).slots, templates.get(bare).name) == ([], None)
    assert found.created_at.year == 2023  # when its picture was stored
