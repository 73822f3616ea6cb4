"""The journal's tables: rows are added, never changed. Every entry says what command it belongs to."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from astra_journal.errors import JournalError

APPLICATION_ID = 0x41737472
"""Marks the file as Astra's ("Astr")."""
VERSION = 1

_TABLES = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,      -- names the file that says whether the process lives
    pid INTEGER NOT NULL,
    started_ns INTEGER NOT NULL,
    open_from INTEGER NOT NULL       -- commands before this one were all settled when the session began
);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ns INTEGER NOT NULL,        -- wall clock, ns since the epoch (UTC)
    session INTEGER NOT NULL REFERENCES sessions (id),
    kind TEXT NOT NULL CHECK (kind IN ('COMMAND', 'ANSWER', 'ERROR', 'RESOLUTION')),
    command INTEGER REFERENCES entries (seq),   -- what a COMMAND's later entries belong to
    settles INTEGER NOT NULL CHECK (settles IN (0, 1)),   -- from here on the command's outcome is known
    operation TEXT NOT NULL,
    exchange TEXT NOT NULL,
    account TEXT NOT NULL,
    key_id TEXT NOT NULL,            -- which key, irreversibly: account names may be given to other keys
    market TEXT,
    client_order_id TEXT,
    order_id TEXT,
    body TEXT NOT NULL CHECK (json_valid(body)),
    CHECK ((kind = 'COMMAND') = (command IS NULL))
);
CREATE INDEX entries_of_command ON entries (command) WHERE command IS NOT NULL;
CREATE INDEX entries_of_order ON entries (client_order_id) WHERE client_order_id IS NOT NULL;
CREATE INDEX entries_by_time ON entries (time_ns);
"""

_APPEND_ONLY = """
CREATE TRIGGER {table}_are_not_changed BEFORE UPDATE ON {table}
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER {table}_are_not_removed BEFORE DELETE ON {table}
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
-- REPLACE removes rows without asking the trigger above.
CREATE TRIGGER {table}_are_not_replaced BEFORE INSERT ON {table}
    WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""

OPEN_COMMANDS = """
    SELECT command.*, sessions.token, sessions.pid FROM entries AS command
    JOIN sessions ON sessions.id = command.session
    WHERE command.kind = 'COMMAND' AND command.seq >= (SELECT coalesce(max(open_from), 0) FROM sessions)
    AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.command = command.seq AND entries.settles = 1)
"""
"""Commands whose outcome is not known, with the session that sent them."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the journal, made with its tables where there is none. Raises `JournalError`.

    WAL, so that readers never wait; the caller serialises its use.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Readable by its owner alone from the first moment; SQLite gives its side files the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(f"the journal {path} cannot be opened: {error}") from None
    connection.row_factory = sqlite3.Row
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"the journal {path} cannot be opened: {error}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA fullfsync = 1")
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            append_only = "".join(
                _APPEND_ONLY.format(table=table, key=key) for table, key in (("sessions", "id"), ("entries", "seq"))
            )
            for statement in _statements(_TABLES + append_only):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        check(connection, path)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(f"the journal {path} cannot be kept in WAL mode (it is {mode}): is it on a local disk?")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `JournalError` for a database that is no journal, or one of a later version."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal of Astra's")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise JournalError(
            f"the journal {path} is of version {version}, this astra-journal knows {VERSION}: upgrade it"
        )


def _statements(script: str) -> list[str]:
    """The statements of a script one by one: `executescript` would end the transaction."""
    statements, text = [], ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return [statement for statement in statements if statement.strip()]
