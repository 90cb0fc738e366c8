"""Templates: rows with their pictures, kept whole, and found again from the pictures alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from PIL import Image

from service.auth import SERVICE_OWNER, Principal, owner_of
from service.database import Database, open_database
from service.errors import NotFoundError, StorageFullError
from service.storage import UPLOADS, Storage, local_storage
from service.tables import Template
from service.templates import TemplateStore
from tests.conftest import encoded

PNG = encoded(Image.new("RGB", (40, 30)))
ALICE, BOB = "user:alice", "user:bob"
SLOT = {"bbox": [0, 0, 1, 1]}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return local_storage(upload_dir=tmp_path / "uploads", output_dir=tmp_path / "outputs")


@pytest.fixture
def database() -> Iterator[Database]:
    database = open_database(None)
    yield database
    database.close()


@pytest.fixture
def templates(database: Database, storage: Storage) -> TemplateStore:
    return TemplateStore(database, storage)


def files(storage: Storage) -> list[str]:
    return sorted(file.key for file in storage.store.list(UPLOADS))


def make_old(storage: Storage, folder: Path, template_id: UUID) -> None:
    os.utime(folder / storage.find_template_image(template_id).key, (1_700_000_000, 1_700_000_000))


def test_a_template_is_kept_with_its_picture_and_both_are_deleted(templates: TemplateStore, storage: Storage) -> None:
    template = templates.add(PNG, owner=ALICE, name="one", size=(40, 30), slots=[SLOT])
    kept = templates.get(template.id, ALICE)
    assert (kept.name, kept.width, kept.height, kept.slots) == ("one", 40, 30, [SLOT])
    assert storage.read(storage.find_template_image(template.id)) == PNG
    assert (
        templates.replace_slots(template.id, [SLOT, SLOT], owner=ALICE).slots
        == templates.get(template.id, ALICE).slots
        == [SLOT, SLOT]
    )
    templates.delete(template.id, owner=ALICE)
    assert files(storage) == []
    with pytest.raises(NotFoundError):
        templates.get(template.id, ALICE)
    with pytest.raises(NotFoundError):
        templates.delete(template.id, owner=ALICE)
    with pytest.raises(NotFoundError):
        templates.replace_slots(template.id, [], owner=ALICE)


def test_they_are_listed_newest_first(templates: TemplateStore) -> None:
    first, second = (templates.add(PNG, owner=ALICE, name=None, size=(40, 30), slots=[]) for _ in range(2))
    assert [template.id for template in templates.newest_first(ALICE)] == [second.id, first.id]


def test_a_row_that_can_not_be_written_leaves_no_picture(
    templates: TemplateStore, storage: Storage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise StorageFullError("full")

    monkeypatch.setattr(database, "session", full)
    with pytest.raises(StorageFullError):
        templates.add(PNG, owner=ALICE, name=None, size=(40, 30), slots=[])
    assert files(storage) == []


def test_pictures_without_a_row_are_taken_up_with_what_a_former_version_knew(
    templates: TemplateStore, storage: Storage, tmp_path: Path
) -> None:
    former, bare, damaged, no_picture, being_stored = (uuid4() for _ in range(5))
    for template_id in (former, bare, damaged, being_stored):
        storage.save_template_image(template_id, PNG, private=False)
    storage.save_template_image(no_picture, b"no picture", private=False)
    (tmp_path / "uploads" / f"{former}_template.json").write_text(json.dumps({"name": "Hill", "slots": [SLOT]}))
    (tmp_path / "uploads" / f"{damaged}_template.json").write_text("{")
    for template_id in (former, bare, damaged, no_picture):
        make_old(storage, tmp_path, template_id)
    assert templates.adopt_pictures() == 3
    assert templates.adopt_pictures() == 0
    assert {template.id for template in templates.newest_first(ALICE)} == {former, bare, damaged}
    found = templates.get(former, ALICE)
    assert (found.name, found.slots, found.width, found.height) == ("Hill", [SLOT], 40, 30)
    assert (templates.get(damaged, ALICE).slots, templates.get(bare, ALICE).name) == ([], None)
    assert found.created_at.year == 2023  # when its picture was stored


def add(templates: TemplateStore, owner: str) -> Template:
    return templates.add(PNG, owner=owner, name=None, size=(40, 30), slots=[SLOT])


def test_each_sees_their_own_and_the_services(templates: TemplateStore) -> None:
    services, alices, bobs = (add(templates, owner) for owner in (SERVICE_OWNER, ALICE, BOB))
    assert [each.id for each in templates.newest_first(ALICE)] == [alices.id, services.id]
    assert [each.id for each in templates.newest_first(BOB)] == [bobs.id, services.id]
    assert [each.id for each in templates.newest_first(SERVICE_OWNER)] == [services.id]
    with pytest.raises(NotFoundError):
        templates.get(bobs.id, ALICE)


def test_only_its_owner_changes_or_deletes_a_template(templates: TemplateStore) -> None:
    services = add(templates, SERVICE_OWNER)
    with pytest.raises(NotFoundError):
        templates.replace_slots(services.id, [], owner=ALICE)
    with pytest.raises(NotFoundError):
        templates.delete(services.id, owner=ALICE)
    assert templates.replace_slots(services.id, [], owner=SERVICE_OWNER).slots == []
    assert templates.get(services.id, ALICE).slots == []


def test_a_users_templates_go_with_the_user(templates: TemplateStore, storage: Storage) -> None:
    add(templates, ALICE)
    bobs = add(templates, BOB)
    templates.forget(ALICE)
    assert storage.template_images().keys() == {bobs.id}


def test_a_users_picture_without_a_row_is_removed_and_never_shown(
    templates: TemplateStore, storage: Storage, tmp_path: Path
) -> None:
    left_behind = uuid4()
    storage.save_template_image(left_behind, PNG, private=True)
    make_old(storage, tmp_path, left_behind)
    assert templates.adopt_pictures() == 0
    assert storage.template_images() == {}


def test_keys_of_the_service_can_be_exchanged_and_what_they_made_stays() -> None:
    old, new, nobody = Principal("api_key", "1"), Principal("api_key", "2"), Principal("anonymous", "")
    assert {owner_of(principal) for principal in (old, new, nobody)} == {SERVICE_OWNER}
    assert owner_of(Principal("user", "1")) != owner_of(Principal("user", "2"))
