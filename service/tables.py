"""The tables of the database. A change here needs a migration: `alembic revision --autogenerate -m "what it does"`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment, always with its zone: SQLite forgets zones, so it is stored in UTC there."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """With its zone again."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """The moment, with its zone."""
    return datetime.now(UTC)


class Base(orm.DeclarativeBase):
    """Base of every table. Constraints have names of their own, so that a migration on SQLite can find them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: sa.JSON(none_as_null=True),
        list[dict[str, Any]]: sa.JSON(none_as_null=True),
        UUID: sa.Uuid,
    }


class Job(Base):
    """Long work that a client asked for: what the API shows of it, and what is needed to do it again after a crash."""

    __tablename__ = "jobs"
    __table_args__ = (
        sa.UniqueConstraint("owner", "idempotency_key"),
        sa.Index("ix_jobs_owner_created_at", "owner", "created_at"),
        sa.Index("ix_jobs_status_created_at", "status", "created_at"),
        sa.Index("ix_jobs_webhook_due_at", "webhook_due_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(40))
    owner: Mapped[str] = mapped_column(sa.String(80))
    status: Mapped[str] = mapped_column(sa.String(12))
    """pending, processing, completed, failed or cancelled."""
    stage: Mapped[str | None] = mapped_column(sa.String(80))
    progress: Mapped[float]
    """0 to 1."""
    inputs: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None] = mapped_column(sa.String(40))
    error: Mapped[str | None] = mapped_column(sa.Text)
    attempts: Mapped[int]
    """How often a worker began it; one that stops in order does not count."""
    run_id: Mapped[UUID | None]
    """The run that holds it: only this one may report and finish."""
    cancel_requested: Mapped[bool]
    queued_at: Mapped[datetime | None]
    """When it was handed to the job engine; null until then."""
    idempotency_key: Mapped[str | None] = mapped_column(sa.String(255))
    request_hash: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    webhook_url: Mapped[str | None] = mapped_column(sa.String(2048))
    webhook_attempts: Mapped[int]
    webhook_due_at: Mapped[datetime | None]
    """When it is to be sent next; null where nothing is to be sent (yet, or any more)."""
    webhook_error: Mapped[str | None] = mapped_column(sa.String(200))
    """Why the last delivery failed; null where it succeeded or none was tried."""


class JobWorker(Base):
    """A process that runs jobs. Once it has been silent for WORKER_TIMEOUT, another one takes its jobs over."""

    __tablename__ = "job_workers"

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True)
    seen_at: Mapped[datetime]
    """By the database's clock, which all processes share."""


class User(Base):
    """Someone with an account."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(254), unique=True)
    """As typed, without surrounding spaces, in lower case: an e-mail address or a name."""
    full_name: Mapped[str | None] = mapped_column(sa.String(200))
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    created_at: Mapped[datetime]


class RefreshToken(Base):
    """One link in the chain of refresh tokens that began with a login (its family). Only its hash is kept."""

    __tablename__ = "refresh_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    family: Mapped[UUID] = mapped_column(index=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]
    """When it was exchanged for the next; shown again after that, it was stolen from one of the two who have it."""
    revoked_at: Mapped[datetime | None]


class ApiKey(Base):
    """A user's key for programs. Only its hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(sa.String(100))
    start: Mapped[str] = mapped_column(sa.String(16))
    """Its first characters, by which its owner knows it."""
    key_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute."""


class CacheEntry(Base):
    """A result that is served again to the same owner for exactly the same request."""

    __tablename__ = "cache_entries"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    """See `service.result_cache.cache_key`."""
    owner: Mapped[str] = mapped_column(sa.String(80), index=True)
    kind: Mapped[str] = mapped_column(sa.String(40))
    content: Mapped[bytes] = mapped_column(sa.LargeBinary, deferred=True)
    size: Mapped[int]
    """Bytes of `content`."""
    perceptual_hash: Mapped[str | None] = mapped_column(sa.String(64))
    """Of the picture, to find near duplicates by; never a reason to serve this result for another picture."""
    created_at: Mapped[datetime] = mapped_column(index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ProcessingMetric(Base):
    """How long one piece of work took: no picture, no person, no address."""

    __tablename__ = "processing_metrics"
    __table_args__ = (sa.Index("ix_processing_metrics_kind_at", "kind", "at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(100))
    """The route's template or the job's kind."""
    at: Mapped[datetime] = mapped_column(index=True)
    failed: Mapped[bool]
    total_ms: Mapped[float]
    stages: Mapped[dict[str, Any]]
    """Milliseconds by stage."""


class Template(Base):
    """A page that is kept, and its face slots. The picture is a file under the same id."""

    __tablename__ = "templates"
    __table_args__ = (sa.Index("ix_templates_owner_created_at", "owner", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(sa.String(80))
    """A user, or the service: its templates are there for everybody."""
    name: Mapped[str | None] = mapped_column(sa.String(200))
    created_at: Mapped[datetime]
    width: Mapped[int]
    """Of the upright page, in pixels."""
    height: Mapped[int]
    slots: Mapped[list[dict[str, Any]]]
    """As `FaceSlot.to_json` writes them, best first; none: they are looked for when the page is used."""
