"""The pages that are kept: each a row with its face slots, and a picture under the same id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from service.database import Database
from service.errors import NotFoundError, ServiceError
from service.image_io import read_size
from service.storage import LocalStorage
from service.tables import Template, utc_now

logger = structlog.get_logger(__name__)

ADOPTED_AFTER = timedelta(minutes=1)
"""A picture is stored just before its row: a younger one without a row may be another process's upload."""


class TemplateStore:
    """Thread-safe; blocking. All methods raise DatabaseUnavailableError, and writing ones StorageFullError."""

    def __init__(self, database: Database, storage: LocalStorage) -> None:
        self._database = database
        self._storage = storage

    def add(self, png: bytes, *, name: str | None, size: tuple[int, int], slots: list[dict[str, Any]]) -> Template:
        """Keep a page. `size` is width and height in pixels; nothing is left behind where it fails."""
        template = Template(id=uuid4(), name=name, created_at=utc_now(), width=size[0], height=size[1], slots=slots)
        self._storage.save_template_image(template.id, png)
        try:
            with self._database.session() as session:
                session.add(template)
        except BaseException:
            self._storage.delete_template_image(template.id)
            raise
        return template

    def get(self, template_id: UUID) -> Template:
        """The template with this id.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            template = session.get(Template, template_id)
        if template is None:
            raise _unknown(template_id)
        return template

    def newest_first(self) -> Sequence[Template]:
        """All templates."""
        with self._database.session() as session:
            return session.scalars(sa.select(Template).order_by(Template.created_at.desc(), Template.id.desc())).all()

    def replace_slots(self, template_id: UUID, slots: list[dict[str, Any]]) -> Template:
        """Give a template other slots.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            template = session.get(Template, template_id)
            if template is None:
                raise _unknown(template_id)
            template.slots = slots
            return template

    def delete(self, template_id: UUID) -> None:
        """Remove a template: the row first, so that none stands without its picture.

        Raises:
            NotFoundError: there is none.
        """
        with self._database.session() as session:
            template = session.get(Template, template_id)
            if template is None:
                raise _unknown(template_id)
            session.delete(template)
        self._storage.delete_template_image(template_id)

    def adopt_pictures(self) -> int:
        """Give a row to every picture that has none; how many there were.

        These are what a former version kept (its record says which slots), what lay there when the database was made
        anew, and everything where data are kept in memory.
        """
        pictures = self._storage.template_images()
        with self._database.session() as session:
            known = set(session.scalars(sa.select(Template.id)))
        adopted = 0
        for template_id, stored_at in pictures.items():
            if template_id not in known and utc_now() - stored_at > ADOPTED_AFTER:
                adopted += self._adopt(template_id, stored_at)
        return adopted

    def _adopt(self, template_id: UUID, stored_at: datetime) -> bool:
        record = self._storage.former_template_record(template_id)
        try:
            with self._storage.find_template_image(template_id).open("rb") as picture:
                width, height = read_size(picture)
            slots = record.get("slots")
            template = Template(
                id=template_id, name=record.get("name"), created_at=stored_at, width=width, height=height,
                slots=slots if isinstance(slots, list) else [],
            )  # fmt: skip
            with self._database.session() as session:
                session.add(template)
        except (ServiceError, OSError):
            logger.warning("a template's picture can't be read, and is left out", template=str(template_id))
            return False
        except IntegrityError:  # another process was faster
            return False
        return True


def _unknown(template_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no template {template_id}. GET /templates lists those there are.")
