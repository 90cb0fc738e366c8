"""Runs migrations: on the connection that the service hands over at start, or on DATABASE_URL for the command line."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrationScript
from alembic.script import ScriptDirectory

from config import load_settings
from service.database import create_engine
from service.tables import Base, UtcDateTime


def migrate(connection: sa.Connection) -> None:
    """Within one transaction: a migration that fails leaves the database as it was."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by making it anew
        process_revision_directives=number,
        render_item=render_without_our_types,
    )
    with context.begin_transaction():
        context.run_migrations()


def number(_: Any, __: Any, scripts: list[MigrationScript]) -> None:
    """0001, 0002, ...: their order is seen in the folder."""
    for script in scripts:
        script.rev_id = f"{len(list(ScriptDirectory.from_config(context.config).walk_revisions())) + 1:04d}"


def render_without_our_types(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """A migration stands for itself: it must still run when our types have changed."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
elif context.is_offline_mode():
    context.configure(url=load_settings().database_url, target_metadata=Base.metadata, literal_binds=True)
    context.run_migrations()
else:
    engine = create_engine(load_settings().database_url)
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
