"""The database: SQLite in one file, or PostgreSQL; a transaction is a function.

`in_transaction(f, *args)` runs `f(session, *args)` in one transaction that may write, `read` in one
that may not; `in_thread` and `read_in_thread` are the same for handlers of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, DateTime, Dialect, Engine, TypeDecorator, create_engine, event
from sqlmodel import Session

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 8  # handlers' transactions at once in one node
POOL_TIMEOUT_S = 10
BUSY_TIMEOUT_MS = 5000


class Instant(TypeDecorator[datetime]):
    """An aware instant: kept as UTC, given back aware; SQLite alone would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """One database and its connections, for one process."""

    def __init__(self, url: str) -> None:
        """`url`: `sqlite:////path/file.db` or `postgresql+psycopg://...`."""
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgresql_engine(url)
        self._reader = self.engine.execution_options(clearlot_read=True, postgresql_readonly=True)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="db")

    def in_transaction(self, f: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `f(session, ...)` in one transaction: committed when it returns, undone when it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return f(session, *args, **kwargs)

    def read(self, f: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `f(session, ...)` in a transaction that cannot write and holds no writer up."""
        with Session(self._reader, expire_on_commit=False) as session, session.begin():
            return f(session, *args, **kwargs)

    async def in_thread(self, f: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`in_transaction`, for a handler of the event loop."""
        call = partial(self.in_transaction, f, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def read_in_thread(self, f: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`read`, for a handler of the event loop."""
        call = partial(self.read, f, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def upgrade(self) -> None:
        """Bring the tables to the newest migration (`storage/migrations`)."""
        command.upgrade(self.migrations(), "head")

    def tables_are(self) -> Literal["ok", "behind", "ahead"]:
        """How the tables stand to this version of the code: of an earlier one (or none at all), or of a newer one."""
        with self._reader.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        newest, *earlier = _revisions()
        if found == newest:
            return "ok"
        return "behind" if found is None or found in earlier else "ahead"

    def migrations(self) -> Config:
        """Alembic's configuration for this database."""
        config = _migrations()
        config.attributes["engine"] = self.engine
        return config

    def close(self) -> None:
        """Let the connections and threads go."""
        self._threads.shutdown(wait=True)
        self.engine.dispose()


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@cache
def _revisions() -> tuple[str, ...]:
    """The names of all migrations, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_migrations()).walk_revisions())


def _postgresql_engine(url: str) -> Engine:
    # hide_parameters: what people typed does not get into an error's text, and so not into the log.
    return create_engine(
        url, pool_size=THREADS + 2, max_overflow=4, pool_timeout=POOL_TIMEOUT_S, pool_pre_ping=True,
        hide_parameters=True,
    )  # fmt: skip


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url, pool_size=THREADS + 2, max_overflow=4, connect_args={"check_same_thread": False}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def configure(dbapi: Any, _record: object) -> None:
        dbapi.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
        for pragma in (
            "journal_mode=WAL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON", "synchronous=FULL",
        ):  # fmt: skip
            dbapi.execute("PRAGMA " + pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes its lock before it reads (promises.md: how promises are broken); a reader
        # takes none and sees one snapshot.
        reads = connection.get_execution_options().get("clearlot_read", False)
        connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
