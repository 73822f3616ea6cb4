"""Whether the process that began a session lives: a lock that the system takes back from it, however it ends."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from astra_journal.errors import JournalError


def presence_file(journal: Path, token: str) -> Path:
    """The file whose lock says that the session lives."""
    return journal.with_name(f"{journal.name}-{token}.lock")


class Presence:
    """Holds the lock of one session. (A database of SQLite's: its locks exist on every system.)"""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = _connect(path)
            try:
                self._connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"the journal's lock {path} cannot be taken: {error}") from None

    def release(self) -> None:
        self._connection.close()
        forget(self._path)


def is_present(path: Path) -> bool:
    """Does a process hold the lock? A lock that cannot be tried counts as held."""
    if not path.exists():
        return False
    try:
        connection = _connect(path)
    except sqlite3.Error:
        return True
    with contextlib.closing(connection):
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            return True
        connection.execute("ROLLBACK")
    return False


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever written: no file beside it
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def forget(path: Path) -> None:
    """Remove the file of a session that is over."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
