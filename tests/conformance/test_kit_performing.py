"""However a check ends, it is told in words, and the next one finds the bench tidy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from astra.models.trades import Side
from astra.plugins import Plugins
from astra.testing.conformance import performing
from astra.testing.conformance.bench import Bench, OfflineGuard
from astra.testing.conformance.catalogue import Check, Level, NotApplicable, NotOffered, Outcome
from astra.testing.conformance.performing import VenueRun
from astra.testing.conformance.reporting import as_builtins, table, verdict_of
from astra.testing.conformance.segments import Segment, least, resting_price
from astra.testing.conformance.subjects import Subject
from astra.testing.conformance.trading import rest_a_bid


@pytest.fixture
def venue() -> Iterator[VenueRun]:
    run = VenueRun(Subject.installed("BINANCE", Plugins()), OfflineGuard())
    yield run
    run.end()


def checking(run: Any, **more: Any) -> Check:
    fields = {"number": 999, "level": Level.MUST, "title": "a title", "rule": "a rule.", "timeout_s": 5.0}
    return Check(**{**fields, "run": run, **more})


async def hangs(bench: Bench) -> None:
    with bench.faults(server_error=1.0):
        await rests_and_waits(bench)


async def rests_and_waits(bench: Bench) -> None:
    market = bench.segments[0].market
    price = resting_price(market, bench.engine)
    bench.crowd.place(market, Side.BUY, least(market, price), price)
    await anyio.sleep_forever()


def test_a_check_that_hangs_is_ended_and_says_where_it_waited(venue: VenueRun) -> None:
    verdict = venue.perform(checking(hangs, timeout_s=0.3))
    assert verdict.outcome is Outcome.FAILED
    assert "expected to end within 0.3 s, seen waiting at" in verdict.reason
    assert "rests_and_waits" in verdict.reason

    async def looks(bench: Bench) -> str:
        assert bench.server.faults("BINANCE").server_error == 0
        assert not [order for order in bench.crowd.orders() if order.status.is_open]
        placed = await rest_a_bid(bench, bench.segments[0].market, bench.trader())
        return str(placed.status)

    after = venue.perform(checking(looks))
    assert (after.outcome, after.reason) == (Outcome.PASSED, "NEW")


def test_every_segment_ends_on_its_own(venue: VenueRun) -> None:
    async def ends(bench: Bench, segment: Segment) -> str:
        if segment.name == "spot":
            raise NotApplicable("nothing here")
        if segment.name == "usdm":
            raise NotOffered("not today")
        if segment.name == "coinm":
            raise ZeroDivisionError("a mistake of the venue")
        return "fine"

    verdict = venue.perform(checking(ends, each=True, number=499))
    assert verdict.outcome is Outcome.FAILED
    assert {name: finding.outcome.value for name, finding in verdict.segments.items()} == {
        "spot": "n/a",
        "usdm": "not offered",
        "coinm": "failed",
        "options": "passed",
    }
    assert "ZeroDivisionError: a mistake of the venue" in verdict.reason
    assert verdict_of(as_builtins(verdict)) == verdict
    lines = table([verdict])
    assert lines[1].split()[-4:] == ["n/a", "-", "FAIL", "ok"]


def test_what_is_not_implemented_is_never_passed(venue: VenueRun) -> None:
    async def never(bench: Bench) -> None:
        raise AssertionError

    must = venue.perform(checking(never, hooks=["a_hook_that_nobody_has"]))
    assert (must.outcome, must.reason) == (
        Outcome.NOT_APPLICABLE,
        "the venue does not implement a_hook_that_nobody_has",
    )
    may = venue.perform(checking(never, hooks=["a_hook_that_nobody_has"], level=Level.MAY))
    assert may.outcome is Outcome.NOT_OFFERED


def test_a_blocked_event_loop_fails_this_check_and_all_after_it(
    venue: VenueRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fine(bench: Bench) -> None:
        """Starts the bench."""

    async def blocks(bench: Bench) -> None:
        time.sleep(2)  # noqa: ASYNC251 - that is the mistake

    assert venue.perform(checking(fine)).outcome is Outcome.PASSED
    monkeypatch.setattr(performing, "STUCK_S", 0.2)
    assert "the event loop is blocked" in venue.perform(checking(blocks, timeout_s=0.2)).reason
    assert venue.perform(checking(fine)).reason == "not run: the event loop hangs since check 999"


def test_a_venue_that_cannot_start_says_why() -> None:
    class Broken:
        code = "BROKEN"
        api_version = "99.0"

    class NoSandbox:
        exchange = "BROKEN"

    async def fine(bench: Bench) -> None:
        """Never runs."""

    run = VenueRun(Subject.of(Broken, NoSandbox), OfflineGuard())  # type: ignore[arg-type]
    verdict = run.perform(checking(fine))
    run.end()
    assert verdict.outcome is Outcome.FAILED
    assert "the venue could not be started on its sandbox" in verdict.reason


def test_connections_that_leave_the_machine_are_refused_in_the_guarded_thread_only() -> None:
    guard = OfflineGuard()
    with socket.socket() as one:
        guard("socket.connect", (one, ("192.0.2.1", 443)))
        guard.thread = threading.get_ident()
        guard("socket.connect", (one, ("127.0.0.1", 443)))
        guard("open", ("a file",))
        with pytest.raises(OSError, match=r"refuses connections to 192\.0\.2\.1"):
            guard("socket.connect", (one, ("192.0.2.1", 443)))
    assert guard.refused == ["192.0.2.1:443"]
