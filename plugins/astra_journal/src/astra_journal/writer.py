"""Adding to the journal: in a worker thread, and whoever asks while one transaction is on its way shares the next."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from astra_journal.errors import JournalError
from astra_journal.presence import Presence, forget, is_present, presence_file
from astra_journal.schema import OPEN_COMMANDS, open_for_writing

Answer = TypeVar("Answer")

_INSERT = """
    INSERT INTO entries (time_ns, session, kind, command, settles, operation, exchange, account, key_id, market,
                         client_order_id, order_id, body)
    VALUES (:time_ns, :session, :kind, :command, :settles, :operation, :exchange, :account, :key_id, :market,
            :client_order_id, :order_id, :body)
"""


class Draft(msgspec.Struct, frozen=True):
    """An entry that is to be written. `durable`: it must survive a loss of power the moment that it is written."""

    time_ns: int
    kind: str
    operation: str
    exchange: str
    account: str
    key_id: str
    body: Mapping[str, Any]
    command: int | None = None
    settles: bool = False
    market: str | None = None
    client_order_id: str | None = None
    order_id: str | None = None
    durable: bool = False


class _Batch:
    """Drafts that wait for a transaction, and what became of it."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.seqs: list[int] | None = None
        self.error: JournalError | None = None


class JournalWriter:
    """The one connection of a process that writes. `open` begins a session, `close` ends it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = 0
        self.started_ns = 0
        self._connection: sqlite3.Connection | None = None
        self._presence: Presence | None = None
        self._identity: tuple[int, int] = (0, 0)
        self._lock = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)
        self._waiting: list[_Batch] = []

    async def open(self, now_ns: int) -> Sequence[Mapping[str, Any]]:
        """Begin a session. Gives the commands that processes which are gone have left open, as rows of the journal.

        Raises `JournalError`.
        """
        self.started_ns = now_ns
        return await self._in_thread(self._open)

    async def close(self) -> None:
        """End the session."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                await anyio.to_thread.run_sync(self._close, limiter=self._thread)

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Write entries in one transaction; gives their numbers. Not cut short by cancellation: what is written is
        known. Raises `JournalError`; then none was written."""
        batch = _Batch(drafts)
        self._waiting.append(batch)
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if batch.seqs is None and batch.error is None:
                    together, self._waiting = self._waiting, []
                    await anyio.to_thread.run_sync(self._write, together, limiter=self._thread)
        if batch.error is not None:
            raise batch.error
        assert batch.seqs is not None
        return batch.seqs

    async def read(self, query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Rows of a query. Raises `JournalError`."""
        return await self._in_thread(self._read, query, values)

    async def _in_thread(self, work: Callable[..., Answer], *args: Any) -> Answer:
        with anyio.CancelScope(shield=True):
            async with self._lock:
                answer = await anyio.to_thread.run_sync(work, *args, limiter=self._thread)
        return answer

    # -- in the worker thread -----------------------------------------------------------------------------------------

    def _open(self) -> Sequence[Mapping[str, Any]]:
        self._connection = open_for_writing(self.path)
        try:
            found = os.stat(self.path)
            self._identity = (found.st_dev, found.st_ino)
            token = secrets.token_hex(8)
            # The lock comes before the row: a row without a held lock is a process that is gone.
            self._presence = Presence(presence_file(self.path, token))
            left = self._abandoned()
            self._begin_session(token)
        except (sqlite3.Error, OSError) as error:
            self._close()
            raise JournalError(f"the journal {self.path} cannot be written: {error}") from None
        except BaseException:
            self._close()
            raise
        return left

    def _abandoned(self) -> Sequence[Mapping[str, Any]]:
        assert self._connection is not None
        found = [dict(row) for row in self._connection.execute(f"{OPEN_COMMANDS} ORDER BY command.seq")]
        alive: dict[str, bool] = {}
        for row in found:
            token = row["token"]
            if token not in alive:
                alive[token] = is_present(presence_file(self.path, token))
        for token, lives in alive.items():
            if not lives:
                forget(presence_file(self.path, token))
        return [row for row in found if not alive[row["token"]]]

    def _begin_session(self, token: str) -> None:
        assert self._connection is not None
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            first_open = f"SELECT min(seq) FROM ({OPEN_COMMANDS})"
            following = "SELECT coalesce(max(seq), 0) + 1 FROM entries"
            cursor = self._connection.execute(
                "INSERT INTO sessions (token, pid, started_ns, open_from) "
                f"VALUES (?, ?, ?, coalesce(({first_open}), ({following})))",
                (token, os.getpid(), self.started_ns),
            )
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        assert cursor.lastrowid is not None
        self.session = cursor.lastrowid

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # another process reads: the next one to close folds the log in
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
            self._connection = None
        if self._presence is not None:
            self._presence.release()
            self._presence = None

    def _write(self, batches: Sequence[_Batch]) -> None:
        try:
            connection = self._usable()
            durable = any(draft.durable for batch in batches for draft in batch.drafts)
            # In WAL mode FULL waits for the disk at each commit. An answer that a loss of power takes back leaves its
            # command open, and the next start resolves it: only commands have to wait.
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                written = [[self._insert(connection, draft) for draft in batch.drafts] for batch in batches]
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            for batch in batches:
                batch.error = JournalError(f"the journal {self.path} cannot be written: {error}")
        except JournalError as error:
            for batch in batches:
                batch.error = error
        else:
            for batch, seqs in zip(batches, written, strict=True):
                batch.seqs = seqs

    def _insert(self, connection: sqlite3.Connection, draft: Draft) -> int:
        values = msgspec.structs.asdict(draft)
        values["body"] = msgspec.json.encode(draft.body).decode()
        values["session"] = self.session
        del values["durable"]
        seq = connection.execute(_INSERT, values).lastrowid
        assert seq is not None
        return seq

    def _read(self, query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        try:
            return [dict(row) for row in self._usable().execute(query, dict(values))]
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {self.path} cannot be read: {error}") from None

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError(f"the journal {self.path} is closed")
        found = os.stat(self.path)
        if (found.st_dev, found.st_ino) != self._identity:
            # SQLite would go on writing to a file that nobody will find.
            raise JournalError(f"the journal {self.path} was moved or replaced while it was in use: restart")
        return self._connection


async def settlement(writer: JournalWriter, seq: int, because: str, now_ns: int) -> Draft:
    """The entry by which a person closes a command: its outcome is as they say."""
    (row,) = await writer.read("SELECT * FROM entries WHERE seq = :seq AND kind = 'COMMAND'", {"seq": seq})
    return Draft(
        time_ns=now_ns,
        kind="RESOLUTION",
        operation=row["operation"],
        exchange=row["exchange"],
        account=row["account"],
        key_id=row["key_id"],
        market=row["market"],
        client_order_id=row["client_order_id"],
        order_id=row["order_id"],
        command=seq,
        settles=True,
        body={"because": because},
        durable=True,
    )
