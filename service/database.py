"""The one door to the database: the engine, sessions, migrations, and what its failures are called.

SQLite (a file that one process uses) and PostgreSQL (which many share) run the same code. With DB_USE_DATABASE=false
the same tables lie in memory and are gone when the service stops.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from service.errors import DatabaseUnavailableError, StorageFullError
from service.tables import Base

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
MEMORY_URL = "sqlite://"

BUSY_TIMEOUT_MS = 30_000
"""How long a writer of SQLite waits for another; a transaction of ours takes milliseconds."""
CONNECT_TIMEOUT_S = 3
POOL_TIMEOUT_S = 5
RETRY_AFTER_S = 5
POSTGRES_OPTIONS = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's: a host that is gone without a word is noticed within 30 seconds, where the system's default is hours."""
POSTGRES_DISK_FULL = "53100"


class DatabaseSetupError(Exception):
    """The database can't be used as it is configured; the text is for the operator."""


class Database:
    """An engine and its sessions. Thread-safe; blocking, so call it from a worker thread."""

    def __init__(self, engine: sa.Engine, lock: IO[bytes] | None = None) -> None:
        self.engine = engine
        self._lock = lock
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @property
    def kind(self) -> Literal["sqlite", "postgresql", "memory"]:
        """What holds the data."""
        if self.engine.dialect.name == "postgresql":
            return "postgresql"
        return "sqlite" if self.engine.url.database else "memory"

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back where the block raises.

        Don't open one inside another: in memory there is a single connection.

        Raises:
            DatabaseUnavailableError: the database doesn't answer; nothing was changed.
            StorageFullError: its disk is full; nothing was changed.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise _public(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _public(error) from error
            raise

    def close(self) -> None:
        """Close all connections and let another process have the SQLite file."""
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()


def open_database(url: str | None) -> Database:
    """The database at `url`, with all tables; None keeps it in memory.

    Tables of SQLite are brought up to date here, those of PostgreSQL by `alembic upgrade head`.

    Raises:
        DatabaseSetupError: another process uses the SQLite file, PostgreSQL doesn't answer or its tables are not up to
            date.
    """
    if url is None:
        database = Database(create_engine(MEMORY_URL))
        Base.metadata.create_all(database.engine)
        return database
    if url.startswith("sqlite"):
        return _open_sqlite(url)
    database = Database(create_engine(url))
    try:
        _check_revision(database.engine)
    except BaseException:
        database.close()
        raise
    return database


def create_engine(url: str) -> sa.Engine:
    """An engine for a SQLite or PostgreSQL URL. Nothing is connected yet."""
    if url == MEMORY_URL:
        # The data live as long as their connection: there is one, and the pool lends it to one thread at a time.
        engine = sa.create_engine(
            url, poolclass=sa.QueuePool, pool_size=1, max_overflow=0, pool_timeout=BUSY_TIMEOUT_MS / 1000,
            connect_args={"check_same_thread": False},
        )  # fmt: skip
    elif url.startswith("sqlite"):
        engine = sa.create_engine(url)
    else:
        return sa.create_engine(
            url, pool_size=5, max_overflow=15, pool_timeout=POOL_TIMEOUT_S, pool_pre_ping=True,
            connect_args=POSTGRES_OPTIONS,
        )  # fmt: skip
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def upgrade(engine: sa.Engine) -> None:
    """Run the migrations that are missing, all or none."""
    from alembic import command

    configuration = _alembic_configuration()
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def _open_sqlite(url: str) -> Database:
    path = Path(sa.make_url(url).database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path.with_name(path.name + ".lock"))
    except BlockingIOError as error:
        raise DatabaseSetupError(
            f"DATABASE_URL: another process uses {path}, and a SQLite file serves one. Stop that process, give this "
            "one another file, or let both share a PostgreSQL database."
        ) from error
    except OSError as error:
        raise DatabaseSetupError(f"DATABASE_URL: {path} can't be written: {error.strerror}.") from error
    database = Database(create_engine(url), lock)
    try:
        upgrade(database.engine)
    except BaseException as error:
        database.close()
        if isinstance(error, sa.exc.SQLAlchemyError):
            raise DatabaseSetupError(f"DATABASE_URL: {path} can't be used: {error}") from error
        raise
    return database


def _lock(path: Path) -> IO[bytes]:
    """Held as long as the file is open, and given up by the system when the process ends, however it ends."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _check_revision(engine: sa.Engine) -> None:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    needed = ScriptDirectory.from_config(_alembic_configuration()).get_current_head()
    try:
        with engine.connect() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise DatabaseSetupError(f"DATABASE_URL: PostgreSQL can't be reached: {reason}") from error
    if present != needed:
        raise DatabaseSetupError(
            f"DATABASE_URL: the tables are at revision {present or 'none'}, and this version needs {needed}. "
            "Run `alembic upgrade head`."
        )


def _alembic_configuration() -> Any:
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    configuration.set_main_option("path_separator", "os")
    return configuration


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin below, not where sqlite3 thinks they should
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    # At once as a writer: one that becomes a writer later may find that another was faster, and can't wait for it.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _public(error: Exception) -> DatabaseUnavailableError | StorageFullError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    full = (
        getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or getattr(cause, "sqlstate", None) == POSTGRES_DISK_FULL
    )
    if full:
        return StorageFullError("The database's disk is full. Nothing was stored; try again later.")
    return DatabaseUnavailableError(
        "The database does not answer. Nothing was changed; try again shortly.", retry_after_s=RETRY_AFTER_S
    )
