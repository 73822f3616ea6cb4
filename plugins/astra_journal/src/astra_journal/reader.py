"""Reading a journal: entries as they were written, or commands with what became of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from pydantic import BaseModel

from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest
from astra_journal.errors import JournalError
from astra_journal.presence import is_present, presence_file
from astra_journal.schema import OPEN_COMMANDS, check

ModelType = TypeVar("ModelType", bound=BaseModel)

PLACEMENTS = ("place_order", "place_orders")
"""Operations whose commands are orders; an order of a batch is a command of its own."""


class Kind(StrEnum):
    """What an entry is."""

    COMMAND = "COMMAND"
    """Written, on the disk, before the command was sent. The body is the request."""
    ANSWER = "ANSWER"
    """The command succeeded. The body is the venue's answer."""
    ERROR = "ERROR"
    """The command failed; the body says whether it certainly was not carried out."""
    RESOLUTION = "RESOLUTION"
    """What was found out later about a command whose outcome was not known."""


class CommandState(StrEnum):
    """What is known of a command."""

    IN_FLIGHT = "IN_FLIGHT"
    """It has no answer yet, and the process that sent it lives."""
    OPEN = "OPEN"
    """It has no answer, and the process that sent it is gone."""
    UNKNOWN = "UNKNOWN"
    """It failed in a way that does not tell whether it was carried out."""
    ANSWERED = "ANSWERED"
    REFUSED = "REFUSED"
    """It certainly was not carried out."""
    RESOLVED = "RESOLVED"
    """What became of it was found out later."""

    @property
    def is_open(self) -> bool:
        return self in (CommandState.OPEN, CommandState.UNKNOWN)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. `time_ns` is the wall clock in ns since the epoch; `command` the number of the command to which a
    later entry belongs; `settles` says that from here on the command's outcome is known."""

    seq: int
    time_ns: int
    session: int
    kind: Kind
    command: int | None
    settles: bool
    operation: str
    exchange: str
    account: str
    market: str | None
    client_order_id: str | None
    order_id: str | None
    body: Mapping[str, Any]

    @property
    def request(self) -> OrderRequest | None:
        """The order of a placement's command, as it was handed to the venue."""
        return _model(OrderRequest, self.body, "order") if self.kind is Kind.COMMAND else None

    @property
    def ref(self) -> OrderRef | None:
        """Which order a cancel's or an amendment's command means."""
        return _model(OrderRef, self.body, "ref")

    @property
    def change(self) -> OrderChange | None:
        """What an amendment's command changes."""
        return _model(OrderChange, self.body, "change")

    @property
    def order(self) -> Order | None:
        """The order as the venue told of it, in an answer or a resolution."""
        return None if self.kind is Kind.COMMAND else _model(Order, self.body, "order")


class Command(msgspec.Struct, frozen=True):
    """A command with everything that followed: `entries` in their order, the command itself aside."""

    sent: Entry
    entries: tuple[Entry, ...]
    state: CommandState
    pid: int
    """The process that sent it."""

    @property
    def outcome(self) -> Entry | None:
        """The entry that settled it, else the last one."""
        settling = next((entry for entry in self.entries if entry.settles), None)
        return settling or (self.entries[-1] if self.entries else None)


class Journal:
    """A journal, to be read; it may be in use.

    with Journal(path) as journal:
        for entry in journal.entries(exchange="BINANCE"): ...

    Raises `JournalError` for a file that is no journal.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise JournalError(f"there is no journal {self.path}")
        try:
            self._connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self.path} cannot be read: {error}") from None
        self._connection.row_factory = sqlite3.Row
        try:
            check(self._connection, self.path)
        except sqlite3.Error as error:
            self.close()
            raise JournalError(f"the journal {self.path} cannot be read: {error}") from None
        except JournalError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def entries(
        self,
        *,
        since: int | None = None,
        exchange: str | None = None,
        account: str | None = None,
        market: str | None = None,
        client_order_id: str | None = None,
    ) -> Iterator[Entry]:
        """Entries in the order in which they were written; `since` in ns since the epoch."""
        where, values = _where("entries", since, exchange, account, market, client_order_id)
        for row in self._rows(f"SELECT * FROM entries WHERE {where} ORDER BY seq", values):
            yield _entry(row)

    def commands(
        self,
        *,
        since: int | None = None,
        exchange: str | None = None,
        account: str | None = None,
        market: str | None = None,
        client_order_id: str | None = None,
        last: int | None = None,
    ) -> Iterator[Command]:
        """Commands, the oldest first, with what became of each; `last`: only so many of the newest."""
        where, values = _where("command", since, exchange, account, market, client_order_id)
        query = (
            "SELECT command.*, sessions.token, sessions.pid FROM entries AS command "
            f"JOIN sessions ON sessions.id = command.session WHERE command.kind = 'COMMAND' AND {where}"
        )
        if last is not None:
            query = f"SELECT * FROM ({query} ORDER BY command.seq DESC LIMIT {int(last)}) AS command"
        yield from self._commands(f"{query} ORDER BY command.seq", values)

    def open_commands(self) -> Iterator[Command]:
        """Commands whose outcome is not known, those aside that a living process waits for."""
        for command in self._commands(f"{OPEN_COMMANDS} ORDER BY command.seq", {}):
            if command.state.is_open:
                yield command

    def _commands(self, query: str, values: Mapping[str, Any]) -> Iterator[Command]:
        alive: dict[str, bool] = {}
        for row in self._rows(query, values):
            following = self._rows("SELECT * FROM entries WHERE command = :seq ORDER BY seq", {"seq": row["seq"]})
            entries = tuple(_entry(one) for one in following)
            token = row["token"]
            if not entries and token not in alive:
                alive[token] = is_present(presence_file(self.path, token))
            yield Command(_entry(row), entries, _state(entries, lives=alive.get(token, False)), row["pid"])

    def _rows(self, query: str, values: Mapping[str, Any]) -> Iterator[sqlite3.Row]:
        try:
            yield from self._connection.execute(query, dict(values))
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self.path} cannot be read: {error}") from None


def _where(
    table: str,
    since: int | None,
    exchange: str | None,
    account: str | None,
    market: str | None,
    client_order_id: str | None,
) -> tuple[str, Mapping[str, Any]]:
    wanted = {"exchange": exchange, "account": account, "market": market, "client_order_id": client_order_id}
    values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    terms = [f"{table}.{name} = :{name}" for name in values]
    if since is not None:
        terms.append(f"{table}.time_ns >= :since")
        values["since"] = since
    return " AND ".join(terms) or "1", values


def _entry(row: sqlite3.Row) -> Entry:
    names = [name for name in Entry.__struct_fields__ if name not in ("kind", "settles", "body")]
    values = {name: row[name] for name in names}
    return Entry(kind=Kind(row["kind"]), settles=bool(row["settles"]), body=msgspec.json.decode(row["body"]), **values)


def _state(entries: tuple[Entry, ...], *, lives: bool) -> CommandState:
    for entry in entries:
        if entry.settles:
            match entry.kind:
                case Kind.ANSWER:
                    return CommandState.ANSWERED
                case Kind.ERROR:
                    return CommandState.REFUSED
                case _:
                    return CommandState.RESOLVED
    if entries:
        return CommandState.UNKNOWN
    return CommandState.IN_FLIGHT if lives else CommandState.OPEN


def _model(model: type[ModelType], body: Mapping[str, Any], key: str) -> ModelType | None:
    found = body.get(key)
    return None if found is None else model.model_validate(found)
