"""The gateway's database: SQLAlchemy off the event loop, one short transaction a call."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from astra.errors import ConfigError
from astra_gateway.errors import DatabaseUnavailable

logger = logging.getLogger("astra.gateway")

Answer = TypeVar("Answer")

THREADS = 4
"""Database calls that run at the same time at most."""


class Database:
    """A database by SQLAlchemy URL; a SQLite file is made when it does not exist, readable by its owner alone.

    `sqlite://` (in memory) lives as long as the object. Raises `ConfigError` for a URL that cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
        except ArgumentError as error:
            raise ConfigError(
                f"the database URL is malformed ({error}); for example sqlite:////path/to/file.db"
            ) from None
        self._in_memory = self._url.get_backend_name() == "sqlite" and self._url.database in (None, "", ":memory:")
        self._threads = anyio.CapacityLimiter(1 if self._in_memory else THREADS)
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._tables: set[MetaData] = set()

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)})"

    async def run(self, tables: MetaData, work: Callable[[Connection], Answer]) -> Answer:
        """Run `work` in one transaction in a worker thread; `tables` are created if they do not exist yet.

        Raises `DatabaseUnavailable` when the database fails; SQLAlchemy's `IntegrityError` passes (it is an answer).
        """
        return await anyio.to_thread.run_sync(self._run, tables, work, limiter=self._threads)

    async def aclose(self) -> None:
        """Close all connections. The database may be used again; it reconnects."""
        await anyio.to_thread.run_sync(self._close)

    def _run(self, tables: MetaData, work: Callable[[Connection], Answer]) -> Answer:
        try:
            with self._opened(tables).begin() as connection:
                return work(connection)
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            logger.exception("%r failed", self)
            raise DatabaseUnavailable("the gateway's database failed; nothing was sent to a venue") from error

    def _opened(self, tables: MetaData) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = self._open()
            if tables not in self._tables:
                tables.create_all(self._engine)
                self._tables.add(tables)
            return self._engine

    def _open(self) -> Engine:
        options: dict[str, Any] = {"hide_parameters": True}
        if self._in_memory:
            options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        elif self._url.get_backend_name() == "sqlite":
            _make_private(Path(str(self._url.database)))
        try:
            engine = create_engine(self._url, **options)
        except (SQLAlchemyError, ImportError) as error:
            raise ConfigError(f"{self!r} cannot be used: {error}") from None
        if self._url.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _close(self) -> None:
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None
            self._tables.clear()


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigError(f"the database file {path} cannot be made: {error.strerror}") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Readers beside one writer, and a writer that waits for its turn instead of failing."""
    connection.isolation_level = None  # the driver must not begin transactions by its own rules: see below
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first and then writes cannot be overtaken in between."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
