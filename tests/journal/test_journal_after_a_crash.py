"""A process dies while it waits for an answer: the next start finds the command, and finds out what became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from astra import Credentials, OrderRequest
from astra.errors import AuthenticationError, OrderOutcomeUnknown, VenueUnavailable
from astra.models.orders import OrderStatus
from astra_journal import CommandState, Journal

pytestmark = pytest.mark.anyio

BTC = "NOTED-SPOT-BTC-USDT"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class FastClock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self) -> None:
        self.slept = 0.0

    def wall_ns(self) -> int:
        import time

        return time.time_ns() + round(self.slept * 1e9)

    def monotonic(self) -> float:
        return self.slept

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        await self.sleep(seconds)
        return event.is_set()


def limit(client_order_id: str) -> OrderRequest:
    return OrderRequest(side="BUY", quantity="1", price="9", client_order_id=client_order_id)


def read(file: Path) -> list[Any]:
    with Journal(file) as journal:
        return list(journal.commands())


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds: background tasks of the application work meanwhile."""
    with anyio.fail_after(10):
        while not holds():
            await anyio.sleep(0.005)


def is_settled(file: Path) -> bool:
    return all(not command.state.is_open for command in read(file))


async def test_a_placement_that_was_carried_out_is_found(
    noted: Any, orphans: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pid = orphans.make(file)
    (command,) = read(file)
    assert (command.state, command.pid) == (CommandState.OPEN, pid)
    assert command.sent.request == limit("orphan1")

    async with noted.astra_on(file) as astra:
        market = await astra.market(BTC)
        placed = noted.order_of(market, limit("orphan1"), status=OrderStatus.PARTIALLY_FILLED)
        noted.Noted.stubs["resolve_order"] = lambda *_: placed
        await until(lambda: is_settled(file))
    (command,) = read(file)
    assert command.state is CommandState.RESOLVED
    assert command.outcome.order == placed
    assert "holds 1 command(s) of earlier processes without a known outcome" in caplog.text
    assert "place_order NOTED-SPOT-BTC-USDT orphan1" in caplog.text
    assert "orphan1 of which no answer was known: placed, PARTIALLY_FILLED" in caplog.text


async def test_a_placement_that_never_arrived_is_not_placed_for_certain(noted: Any, orphans: Any, file: Path) -> None:
    orphans.make(file)
    (sent,) = (command.sent for command in read(file))
    async with noted.astra_on(file):
        await until(lambda: is_settled(file))
        since = [entry[2] for entry in noted.Noted.log if entry[0] == "resolve_order"]
    (command,) = read(file)
    assert command.outcome.body == {"placed": False}
    # First that a request sent at the last moment of the dead process cannot arrive, then a search from the earliest.
    assert len(since) == 2
    assert since[0] > since[1] == sent.time_ns // 1_000_000


async def test_half_an_answer_settles_nothing(noted: Any, orphans: Any, file: Path) -> None:
    orphans.make(file)
    (sent,) = (command.sent for command in read(file))
    earliest = sent.time_ns // 1_000_000
    noted.Noted.stubs["resolve_order"] = lambda client_order_id, since, credentials: since == earliest
    async with noted.astra_on(file, clock=FastClock()):
        await until(lambda: sum(entry[0] == "resolve_order" for entry in noted.Noted.log) > 5)
        assert read(file)[0].state is CommandState.OPEN


@pytest.mark.parametrize("operation", ["place_order", "place_orders", "cancel_order"])
async def test_each_order_of_a_batch_is_resolved_and_a_cancel_stays_open(
    noted: Any, orphans: Any, file: Path, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    orphans.make(file, operation)
    async with noted.astra_on(file):
        if operation != "cancel_order":
            await until(lambda: is_settled(file))
        else:
            await anyio.wait_all_tasks_blocked()
    states = [(command.sent.client_order_id, command.state) for command in read(file)]
    wanted = CommandState.RESOLVED if operation != "cancel_order" else CommandState.OPEN
    names = ["orphan1", "orphan2"] if operation == "place_orders" else ["orphan1"]
    assert states == [(name, wanted) for name in names]
    if operation == "cancel_order":
        assert "1 of them are no placements and stay open" in caplog.text


async def test_it_is_asked_again_until_the_venue_can_tell(noted: Any, orphans: Any, file: Path) -> None:
    orphans.make(file)
    asked = 0

    def resolve(*_: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise VenueUnavailable("in maintenance", exchange="NOTED")
        return asked < 20  # cannot be told yet

    noted.Noted.stubs["resolve_order"] = resolve
    async with noted.astra_on(file, clock=FastClock()):
        await until(lambda: is_settled(file))
    assert read(file)[0].outcome.body == {"placed": False}


async def test_credentials_that_come_later_are_used(
    noted: Any, orphans: Any, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    orphans.make(file)
    async with noted.astra_on(file, credentials=(), clock=FastClock()) as astra:
        await until(lambda: "no credentials for account 'default'" in caplog.text)
        assert read(file)[0].state is CommandState.OPEN
        monkeypatch.setitem(astra._accounts._known, ("NOTED", "default"), noted.CREDENTIALS)
        await until(lambda: is_settled(file))
    told = [record for record in caplog.records if "no credentials" in record.message]
    assert [record.levelno for record in told].count(logging.WARNING) == 1


async def test_whoever_asks_by_both_moments_settles_it_with_what_was_found(
    noted: Any, orphans: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal has no keys of the account, a caller has: nothing by the latest moment, the order by the earliest."""
    orphans.make(file)
    (sent,) = (command.sent for command in read(file))
    earliest = sent.time_ns // 1_000_000
    async with noted.astra_on(file, credentials=[], clock=FastClock()) as astra:
        await until(lambda: "no credentials" in caplog.text)
        placed = noted.order_of(await astra.market(BTC), limit("orphan1"), status=OrderStatus.NEW)
        noted.Noted.stubs["resolve_order"] = lambda _, since, __: placed if since == earliest else False
        found = await astra.resolve_order(
            BTC, "orphan1", earliest, noted.CREDENTIALS, until=earliest + 60_000, timeout_s=5.0
        )
        assert found == placed
        await until(lambda: is_settled(file))
    assert read(file)[0].outcome.order == placed


async def test_other_keys_under_the_accounts_name_settle_nothing(
    noted: Any, orphans: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orphans.make(file)
    other = Credentials.of("NOTED", "another-key-hunter2", "another-secret-hunter2")
    async with noted.astra_on(file, credentials=[other]) as astra:
        await until(lambda: "has other keys now" in caplog.text)
        assert await astra.resolve_order(BTC, "orphan1") is None
    assert read(file)[0].state is CommandState.OPEN
    async with noted.astra_on(file):
        await until(lambda: is_settled(file))


async def test_keys_that_the_venue_refuses_are_not_tried_for_ever(
    noted: Any, orphans: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orphans.make(file)

    def refuse(*_: Any) -> None:
        raise AuthenticationError("bad key", exchange="NOTED", code="-2015")

    noted.Noted.stubs["resolve_order"] = refuse
    async with noted.astra_on(file, clock=FastClock()):
        await until(lambda: "it stays open" in caplog.text)
        assert "bad key" in caplog.text
    assert read(file)[0].state is CommandState.OPEN


async def test_an_application_that_ends_meanwhile_leaves_it_to_the_next(noted: Any, orphans: Any, file: Path) -> None:
    orphans.make(file)
    noted.Noted.stubs["resolve_order"] = lambda *_: anyio.sleep_forever()
    async with noted.astra_on(file):
        await until(lambda: bool(noted.Noted.log))
    assert read(file)[0].state is CommandState.OPEN


async def test_a_process_that_lives_keeps_its_commands(noted: Any, orphans: Any, file: Path) -> None:
    process = orphans.start(file)
    assert read(file)[0].state is CommandState.IN_FLIGHT
    async with noted.astra_on(file) as astra:
        # even when somebody asks about the order meanwhile
        assert await astra.resolve_order(BTC, "orphan1") is None
        await astra.place_order(BTC, limit("mine1"))
        assert [entry[0] for entry in noted.Noted.log].count("resolve_order") == 2
    first, second = read(file)
    assert (first.state, second.state) == (CommandState.IN_FLIGHT, CommandState.ANSWERED)
    assert first.entries == ()
    pid = orphans.kill(process)
    assert (read(file)[0].state, read(file)[0].pid) == (CommandState.OPEN, pid)
    async with noted.astra_on(file):
        await until(lambda: is_settled(file))
    assert [path.name for path in file.parent.iterdir() if path.name.endswith(".lock")] == []


async def test_an_outcome_that_was_lost_is_settled_by_whoever_finds_out(noted: Any, file: Path) -> None:
    def lose(*_: Any) -> None:
        raise OrderOutcomeUnknown("lost", exchange="NOTED", market=BTC)

    async with noted.astra_on(file) as astra:
        for name in ("lost1", "lost2", "lost3"):
            noted.Noted.stubs["place_order"] = lose
            with pytest.raises(OrderOutcomeUnknown):
                await astra.place_order(BTC, limit(name))
        assert await astra.resolve_order(BTC, "lost1") is None
        placed = noted.order_of(await astra.market(BTC), limit("lost2"))
        noted.Noted.stubs["resolve_order"] = lambda *_: placed
        assert await astra.resolve_order(BTC, "lost2") == placed
        assert [command.state for command in read(file)] == [
            CommandState.RESOLVED,
            CommandState.RESOLVED,
            CommandState.UNKNOWN,
        ]
    # The third is left to the next start.
    noted.Noted.stubs.clear()
    async with noted.astra_on(file):
        await until(lambda: is_settled(file))
    assert [command.outcome.body.get("placed") for command in read(file)] == [False, True, False]


async def test_what_was_settled_before_is_not_looked_at_again(noted: Any, orphans: Any, file: Path) -> None:
    import sqlite3
    from contextlib import closing

    async with noted.astra_on(file) as astra:
        for number in range(5):
            await astra.place_order(BTC, limit(f"done{number}"))
    orphans.make(file)
    async with noted.astra_on(file):
        await until(lambda: is_settled(file))
    async with noted.astra_on(file):
        pass
    with closing(sqlite3.connect(file)) as connection:
        began = [row[0] for row in connection.execute("SELECT open_from FROM sessions ORDER BY id")]
    assert began == [1, 11, 11, 13]
