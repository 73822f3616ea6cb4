"""Whether the process that began a session lives: a lock that the system takes back from it, however it ends."""

from __future__ import annotations

import contextlib
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
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise JournalError(f"the journal's lock {path} cannot be taken: {error}") from None

    def release(self) -> None:
        self._connection.close()
        forget(self._path)


def is_present(path: Path) -> bool:
    """Does a process hold the lock? A lock that cannot be tried counts as held."""
    if not path.exists():
        return False
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            return True
        connection.execute("ROLLBACK")
    return False


def forget(path: Path) -> None:
    """Remove the file of a session that is over."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
