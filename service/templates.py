"""The pages that are kept: each a row with its face slots, and a picture under the same id.

The service's own (uploaded while it is open, or with a key of API_KEY) are there for everybody, a user's for that user.
Only the owner changes or deletes a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.auth import SERVICE_OWNER
from service.database import Database
from service.errors import NotFoundError, ServiceError, StorageUnavailableError
from service.image_io import read_size
from service.storage import Storage
from service.tables import Template, utc_now

logger = structlog.get_logger(__name__)

ADOPTED_AFTER = timedelta(minutes=1)
"""A picture is stored just before its row: a younger one without a row may be another process's upload."""


class TemplateStore:
    """Thread-safe; blocking. All methods raise DatabaseUnavailableError, and those that write StorageUnavailableError
    and StorageFullError.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    def add(
        self, png: bytes, *, owner: str, name: str | None, size: tuple[int, int], slots: list[dict[str, Any]]
    ) -> Template:
        """Keep a page. `size` is width and height in pixels; nothing is left behind where it fails."""
        template = Template(
            id=uuid4(), owner=owner, name=name, created_at=utc_now(), width=size[0], height=size[1], slots=slots
        )
        self._storage.save_template_image(template.id, png, private=owner != SERVICE_OWNER)
        try:
            with self._database.session() as session:
                session.add(template)
        except BaseException:
            with suppress(StorageUnavailableError):
                self._storage.delete_template_image(template.id)
            raise
        return template

    def get(self, template_id: UUID, owner: str) -> Template:
        """A template that this owner may use.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            template = session.scalar(_usable_by(owner).where(Template.id == template_id))
        if template is None:
            raise _unknown(template_id)
        return template

    def newest_first(self, owner: str) -> Sequence[Template]:
        """All templates that this owner may use."""
        with self._database.session() as session:
            newest_first = _usable_by(owner).order_by(Template.created_at.desc(), Template.id.desc())
            return session.scalars(newest_first).all()

    def replace_slots(self, template_id: UUID, slots: list[dict[str, Any]], *, owner: str) -> Template:
        """Give one of the owner's templates other slots.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            template = _own(session, template_id, owner)
            template.slots = slots
            return template

    def delete(self, template_id: UUID, *, owner: str) -> None:
        """Remove one of the owner's templates: the picture first, since one without a row would be taken up again.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            _own(session, template_id, owner)
        self._storage.delete_template_image(template_id)
        with self._database.session() as session:
            session.execute(sa.delete(Template).where(Template.id == template_id))

    def forget(self, owner: str) -> None:
        """Remove all templates of an owner."""
        with self._database.session() as session:
            gone = session.scalars(sa.select(Template.id).where(Template.owner == owner)).all()
        for template_id in gone:
            self.delete(template_id, owner=owner)

    def adopt_pictures(self) -> int:
        """Give a row to every picture of the service's that has none; how many there were.

        These are what a former version kept (its record says which slots), what lay there when the database was made
        anew, and everything where data are kept in memory. A user's picture without a row goes: so has its user.
        """
        pictures = self._storage.template_images()
        with self._database.session() as session:
            known = set(session.scalars(sa.select(Template.id)))
        adopted = 0
        for template_id, picture in pictures.items():
            if template_id in known or utc_now() - picture.stored_at < ADOPTED_AFTER:
                continue
            if picture.private:
                self._storage.delete_template_image(template_id)
            else:
                adopted += self._adopt(template_id, picture.stored_at)
        return adopted

    def _adopt(self, template_id: UUID, stored_at: datetime) -> bool:
        record = self._storage.former_template_record(template_id)
        try:
            with self._storage.open(self._storage.find_template_image(template_id)) as picture:
                width, height = read_size(picture)
            slots = record.get("slots")
            template = Template(
                id=template_id, owner=SERVICE_OWNER, name=record.get("name"), created_at=stored_at,
                width=width, height=height, slots=slots if isinstance(slots, list) else [],
            )  # fmt: skip
            with self._database.session() as session:
                session.add(template)
        except StorageUnavailableError:
            raise
        except (ServiceError, OSError):
            logger.warning("a template's picture can't be read, and is left out", template=str(template_id))
            return False
        except IntegrityError:  # another process was faster
            return False
        return True


def _usable_by(owner: str) -> sa.Select[Template]:
    return sa.select(Template).where(Template.owner.in_({owner, SERVICE_OWNER}))


def _own(session: Session, template_id: UUID, owner: str) -> Template:
    template = session.get(Template, template_id)
    if template is None or template.owner != owner:
        raise _unknown(template_id)
    return template


def _unknown(template_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no template {template_id} of yours. GET /templates lists those there are.")
