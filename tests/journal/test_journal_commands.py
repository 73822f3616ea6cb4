"""Every command is in the journal before it reaches the venue, and what became of it after; nothing leaves it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from astra import Credentials, OrderChange, OrderRequest
from astra.errors import ConfigError, InvalidOrder, OrderOutcomeUnknown, Outcome, RateLimited, VenueUnavailable
from astra.models.orders import OrderStatus
from astra_journal import CommandState, Journal, JournalError, JournalUnavailable, Kind
from astra_journal.writer import JournalWriter

pytestmark = pytest.mark.anyio

BTC, PERP = "NOTED-SPOT-BTC-USDT", "NOTED-PERP-BTC-USDT"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def limit(**fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": "BUY", "quantity": "1.000000000000000000001", "price": "9.50"} | fields)


def read(file: Path) -> list[Any]:
    with Journal(file) as journal:
        return list(journal.commands())


async def test_a_command_is_in_the_journal_when_the_venue_gets_it(noted: Any, file: Path) -> None:
    seen: list[Any] = []
    noted.Noted.stubs["place_order"] = lambda *_: seen.extend(read(file))
    before = time.time_ns()
    async with noted.astra_on(file) as astra:
        placed = await astra.place_order(BTC, limit())
    (command,) = seen
    assert command.state is CommandState.IN_FLIGHT
    assert command.pid == os.getpid()
    sent = command.sent
    assert (sent.exchange, sent.account, sent.market, sent.operation) == ("NOTED", "default", BTC, "place_order")
    assert sent.client_order_id == placed.client_order_id
    assert before <= sent.time_ns <= time.time_ns()
    assert sent.request == limit(client_order_id=placed.client_order_id)
    (command,) = read(file)
    assert command.state is CommandState.ANSWERED
    assert command.outcome.order == placed
    assert command.outcome.order_id == "77"
    assert command.outcome.time_ns >= sent.time_ns


async def test_every_command_has_its_request_and_its_answer(noted: Any, file: Path) -> None:
    async with noted.astra_on(file) as astra:
        await astra.place_orders([(BTC, limit(client_order_id="a1")), (PERP, limit(client_order_id="a2"))])
        await astra.amend_order(BTC, OrderChange(price="8", quantity="2"), client_order_id="a1")
        await astra.cancel_order(BTC, id="77")
        await astra.cancel_all_orders(BTC)
        await astra.cancel_all_orders("NOTED")
        await astra.set_leverage(PERP, 3)
        await astra.set_margin_mode(PERP, "ISOLATED")
        await astra.set_position_mode("NOTED", True)
        await astra.keep_alive_orders("NOTED", 30)
        await astra.list_orders("NOTED")
    commands = read(file)
    assert [(one.sent.operation, one.sent.market) for one in commands] == [
        ("place_orders", BTC),
        ("place_orders", PERP),
        ("amend_order", BTC),
        ("cancel_order", BTC),
        ("cancel_all_orders", BTC),
        ("cancel_all_orders", None),
        ("set_leverage", PERP),
        ("set_margin_mode", PERP),
        ("set_position_mode", None),
        ("keep_alive_orders", None),
    ]
    assert all(one.state is CommandState.ANSWERED for one in commands)
    batched, _, amended, cancelled, *others = commands
    assert batched.sent.request == limit(client_order_id="a1")
    assert batched.sent.body["batch"] == {"size": 2, "place": 0}
    assert (amended.sent.ref.client_order_id, amended.sent.change) == ("a1", OrderChange(price="8", quantity="2"))
    assert (cancelled.sent.ref.id, cancelled.sent.order_id) == ("77", "77")
    assert cancelled.outcome.order.status is OrderStatus.CANCELED
    assert [one.sent.body for one in others] == [
        {}, {}, {"leverage": "3"}, {"mode": "ISOLATED"}, {"hedge": True}, {"timeoutS": 30}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "state", "body"),
    [
        (
            InvalidOrder("off the grid", exchange="NOTED", code="-1013", rule="tick-size"),
            CommandState.REFUSED,
            {"error": "InvalidOrder", "message": "off the grid", "code": "-1013", "rule": "tick-size"},
        ),
        (RateLimited("slow down", exchange="NOTED", retry_after=2.0), CommandState.REFUSED, {"retry_after": 2.0}),
        (
            OrderOutcomeUnknown("lost", exchange="NOTED", market=BTC),
            CommandState.UNKNOWN,
            {"error": "OrderOutcomeUnknown", "outcome": "UNKNOWN"},
        ),
        (RuntimeError("a bug"), CommandState.UNKNOWN, {"error": "OrderOutcomeUnknown"}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_says_whether_anything_was_executed(
    noted: Any, file: Path, error: Exception, state: CommandState, body: dict[str, Any]
) -> None:
    def fail(*_: Any) -> None:
        raise error

    noted.Noted.stubs = {"place_order": fail, "place_orders": lambda *_: [error]}
    async with noted.astra_on(file) as astra:
        with pytest.raises(type(error) if not isinstance(error, RuntimeError) else OrderOutcomeUnknown):
            await astra.place_order(BTC, limit())
        if not isinstance(error, RuntimeError):
            assert await astra.place_orders([(BTC, limit())]) == [error]
    for command in read(file):
        assert command.state is state
        assert body.items() <= command.outcome.body.items()


async def test_a_cancelled_placement_has_an_unknown_outcome(noted: Any, file: Path) -> None:
    noted.Noted.stubs["place_order"] = lambda *_: anyio.sleep_forever()
    async with noted.astra_on(file) as astra, anyio.create_task_group() as tasks:
        tasks.start_soon(astra.place_order, BTC, limit())
        while not noted.Noted.log:
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    (command,) = read(file)
    assert command.state is CommandState.UNKNOWN


async def test_a_placement_cancelled_while_it_is_written_is_never_sent(
    noted: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with noted.astra_on(file) as astra:
        with anyio.CancelScope() as scope:
            append = JournalWriter.append

            async def cancelled_meanwhile(self: Any, drafts: Any) -> Any:
                scope.cancel()
                return await append(self, drafts)

            monkeypatch.setattr(JournalWriter, "append", cancelled_meanwhile)
            await astra.place_order(BTC, limit())
        assert scope.cancelled_caught
    (command,) = read(file)
    assert command.state is CommandState.REFUSED
    assert command.outcome.body["message"] == "cancelled before it was sent"
    assert noted.Noted.log == []


async def test_what_an_inner_layer_refuses_is_written_down(noted: Any, file: Path) -> None:
    from astra_risk import Risk

    async with noted.astra_on(file, order=("journal", "risk")) as astra:
        Risk.of(astra).halt("the desk went home")
        await astra.place_orders([(BTC, limit())])
    (command,) = read(file)
    assert command.state is CommandState.REFUSED
    assert command.outcome.body["error"] == "TradingHalted"
    assert command.outcome.body["setting"] == "halt()"


# --- what it promises ----------------------------------------------------------------------------------------------


async def test_a_command_waits_for_the_disk_and_its_answer_does_not(noted: Any, file: Path) -> None:
    statements: list[str] = []
    async with noted.astra_on(file) as astra:
        writer = astra.hooks.get_plugin("middleware journal")._writer
        writer._connection.set_trace_callback(statements.append)
        await astra.place_order(BTC, limit())
        writer._connection.set_trace_callback(None)
    found = [text for text in statements if not text.lstrip().startswith(("INSERT", "--"))]
    assert found == [
        *("PRAGMA synchronous = FULL", "BEGIN IMMEDIATE", "COMMIT"),
        *("PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE", "COMMIT"),
    ]
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_commands_that_arrive_together_share_a_transaction(noted: Any, file: Path) -> None:
    commits = 0

    def count(text: str) -> None:
        nonlocal commits
        commits += text == "COMMIT"

    async with noted.astra_on(file) as astra:
        await astra.market(BTC)
        writer = astra.hooks.get_plugin("middleware journal")._writer
        writer._connection.set_trace_callback(count)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(astra.place_order, BTC, limit())
        writer._connection.set_trace_callback(None)
    commands = read(file)
    assert len(commands) == 100
    assert all(command.state is CommandState.ANSWERED for command in commands)
    assert commits < 100


async def test_the_tables_refuse_to_be_changed(noted: Any, file: Path) -> None:
    async with noted.astra_on(file) as astra:
        await astra.place_order(BTC, limit())
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for statement in (
            "UPDATE entries SET body = '{}'",
            "DELETE FROM entries",
            "INSERT OR REPLACE INTO entries SELECT * FROM entries",
            "UPDATE sessions SET pid = 1",
            "DELETE FROM sessions",
            "REPLACE INTO sessions SELECT * FROM sessions",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


PEM = "-----BEGIN KEY-----\nMIICdQhunter2line\nB2xhunter2line\n-----END KEY-----"


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials.of("NOTED", "plain-key-hunter2", "plain-secret-hunter2", "plain-phrase-hunter2"),
        Credentials.of("NOTED", "other-key-hunter2", PEM, account="desk"),
    ],
    ids=["hmac", "pem"],
)
async def test_no_secret_is_in_the_file(noted: Any, file: Path, credentials: Credentials) -> None:
    """Not in the database nor in the log beside it, however a venue repeats it."""
    key = credentials.key_for("default")
    assert key is not None
    texts = [one.get_secret_value() for one in (key.key, key.secret, key.passphrase) if one is not None]

    lines = "\n".join(texts).splitlines()

    def repeat(*_: Any) -> None:
        # (an error that is made with secrets in its text fails the whole suite's search for them)
        error = InvalidOrder("", exchange="NOTED")
        error.message, error.code = f"not with {' and '.join(lines)}", texts[0]
        raise error

    async with noted.astra_on(file) as astra:
        await astra.place_order(BTC, limit(), credentials)
        await astra.place_orders([(BTC, limit())], credentials)
        noted.Noted.stubs = {"place_order": repeat, "cancel_order": repeat}
        with pytest.raises(InvalidOrder):
            await astra.place_order(BTC, limit(), credentials)
        with pytest.raises(InvalidOrder):
            await astra.cancel_order(BTC, id="77", credentials=credentials)
        assert file.with_name("journal.db-wal") in set(file.parent.iterdir())
        raw = b"".join(path.read_bytes() for path in file.parent.iterdir())
    raw += await anyio.Path(file).read_bytes()
    assert b"and ***" in raw
    for line in lines:
        assert line.startswith("-----") or line.encode() not in raw


async def test_the_file_is_its_owners_alone(noted: Any, file: Path) -> None:
    deep = file.parent / "folder" / "journal.db"
    async with noted.astra_on(deep) as astra:
        await astra.place_order(BTC, limit())
        for path in deep.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(deep.parent.stat().st_mode) == 0o700
    assert [path.name for path in deep.parent.iterdir()] == ["journal.db"]


# --- when it cannot be written -------------------------------------------------------------------------------------


async def break_disk(astra: Any) -> None:
    """From now on nothing more fits into the journal."""
    writer = astra.hooks.get_plugin("middleware journal")._writer
    writer._connection.execute("PRAGMA max_page_count = 1")
    writer._connection.execute("PRAGMA query_only = 1")


async def test_a_command_that_cannot_be_written_is_not_sent(noted: Any, file: Path) -> None:
    async with noted.astra_on(file) as astra:
        await astra.place_order(BTC, limit())
        await break_disk(astra)
        sent = list(noted.Noted.log)
        for command in (
            astra.place_order(BTC, limit()),
            astra.place_orders([(BTC, limit())]),
            astra.cancel_order(BTC, id="77"),
            astra.set_leverage(PERP, 2),
        ):
            with pytest.raises(JournalUnavailable, match=str(file)) as caught:
                await command
            assert isinstance(caught.value, VenueUnavailable)
            assert caught.value.outcome is Outcome.NOT_EXECUTED
            assert caught.value.path == file
        assert noted.Noted.log == sent
        assert await astra.list_orders("NOTED") == []
    assert len(read(file)) == 1


async def test_cancels_may_be_let_through_without_the_journal(
    noted: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with noted.astra_on(file, settings={"cancels_without_journal": True}) as astra:
        await break_disk(astra)
        await astra.cancel_order(BTC, id="77")
        await astra.cancel_all_orders("NOTED")
        with pytest.raises(JournalUnavailable):
            await astra.place_order(BTC, limit())
    assert [entry[0] for entry in noted.Noted.log] == ["cancel_order", "cancel_all_orders"]
    assert "cancel_order NOTED-SPOT-BTC-USDT goes on without the journal" in caplog.text


async def test_an_answer_that_cannot_be_written_still_reaches_the_caller(
    noted: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with noted.astra_on(file) as astra:
        noted.Noted.stubs["place_order"] = lambda *_: break_disk(astra)
        placed = await astra.place_order(BTC, limit(client_order_id="kept1"))
        assert placed.status is OrderStatus.NEW
        assert "the outcome of place_order NOTED-SPOT-BTC-USDT (client order id kept1) is not in the journal" in (
            caplog.text
        )
    (command,) = read(file)
    assert command.state is CommandState.OPEN


async def test_a_journal_that_was_moved_away_is_missed(noted: Any, file: Path) -> None:
    async with noted.astra_on(file) as astra:
        await astra.place_order(BTC, limit())
        await anyio.Path(file).rename(file.with_name("old.db"))
        with pytest.raises(JournalUnavailable, match="No such file"):
            await astra.place_order(BTC, limit())
        await anyio.Path(file).touch()
        with pytest.raises(JournalUnavailable, match="moved or replaced"):
            await astra.place_order(BTC, limit())


@pytest.mark.parametrize("kind", ["folder", "text", "other", "later"])
async def test_a_file_that_is_no_journal_stops_the_start(noted: Any, file: Path, kind: str) -> None:
    if kind == "folder":
        await anyio.Path(file).mkdir()
    elif kind == "text":
        await anyio.Path(file).write_text("dear diary " * 100)
    else:
        async with noted.astra_on(file if kind == "later" else file.with_name("x.db")):
            pass
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA user_version = 99" if kind == "later" else "CREATE TABLE mine (x)")
        connection.commit()
        connection.close()
    with pytest.raises(ConfigError, match=rf"middleware\.journal\.path: .*{file}"):
        await noted.astra_on(file).__aenter__()


# --- reading -------------------------------------------------------------------------------------------------------


async def test_entries_are_found_by_time_exchange_account_market_and_order(noted: Any, file: Path) -> None:
    desk = Credentials.of("NOTED", "desk-key-hunter2", "desk-secret-hunter2", account="desk")
    async with noted.astra_on(file) as astra:
        await astra.place_order(BTC, limit(client_order_id="a1"))
        middle = time.time_ns()
        await astra.place_order(PERP, limit(client_order_id="a2"), desk)
    with Journal(file) as journal:
        entries = list(journal.entries())
        assert [(entry.kind, entry.client_order_id) for entry in entries] == [
            (Kind.COMMAND, "a1"),
            (Kind.ANSWER, "a1"),
            (Kind.COMMAND, "a2"),
            (Kind.ANSWER, "a2"),
        ]
        assert [entry.time_ns for entry in entries] == sorted(entry.time_ns for entry in entries)
        for wanted in (
            {"since": middle},
            {"account": "desk"},
            {"market": PERP},
            {"client_order_id": "a2"},
            {"since": middle, "exchange": "NOTED", "account": "desk"},
        ):
            assert list(journal.entries(**wanted)) == entries[2:]
            assert [command.sent for command in journal.commands(**wanted)] == entries[2:3]
        assert list(journal.entries(exchange="OTHER")) == []
        assert [command.sent for command in journal.commands(last=1)] == entries[2:3]
        assert entries[1].order is not None
        assert entries[1].order.quantity == Decimal("1.000000000000000000001")
        assert list(journal.open_commands()) == []


def test_a_file_that_is_no_journal_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        Journal(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("dear diary " * 100)
    with pytest.raises(JournalError, match="cannot be read"):
        Journal(tmp_path / "text.db")
