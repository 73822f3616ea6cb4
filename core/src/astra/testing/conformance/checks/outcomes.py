"""60x: commands whose answers are lost. The engine says what really became of them."""

from __future__ import annotations

from typing import Any

import anyio

from astra.app import Astra
from astra.errors import OrderOutcomeUnknown, Outcome, VenueError, VenueUnavailable
from astra.models.orders import Order, OrderRequest, OrderStatus
from astra.models.trades import Side
from astra.testing.conformance.bench import Bench, Trader
from astra.testing.conformance.catalogue import Finding, Level, check, expect, expect_equal, fail
from astra.testing.conformance.checks.errors import private_read
from astra.testing.conformance.endings import together
from astra.testing.conformance.segments import Segment, least, limit, resting_price
from astra.testing.conformance.trading import expect_order, rest_a_bid

MUST = Level.MUST
HOOKS = ["list_markets", "place_order", "resolve_order"]


def bid(bench: Bench, segment: Segment, **more: Any) -> OrderRequest:
    """A bid that rests."""
    market = segment.market
    price = resting_price(market, bench.engine)
    return limit(market, Side.BUY, least(market, price) * 3, price, **more)


async def outcome(
    astra: Astra, bench: Bench, segment: Segment, trader: Trader, order: OrderRequest
) -> Order | VenueError:
    """What becomes of a placement, as far as the library tells; asked once more where it cannot."""
    symbol = segment.market.symbol
    try:
        return await astra.place_order(symbol, order, trader.credentials)
    except OrderOutcomeUnknown as error:
        name = error.client_order_id or fail("OrderOutcomeUnknown: expected the client order id, seen none")
        try:
            found = await astra.resolve_order(symbol, name, credentials=trader.credentials)
        except OrderOutcomeUnknown:
            return error
        if found is not None:
            return found
        return VenueUnavailable("resolve_order: not placed", exchange=bench.code)
    except VenueUnavailable as error:
        return error


async def placed_once(bench: Bench, *, may_miss: bool = False, **faults: Any) -> dict[str, Finding]:
    """Under faults that let the venue act, the library must find the one order, in every segment.

    `may_miss`: the venue may have refused the request, which came too late for it.
    """
    async with bench.application() as astra:

        async def one(segment: Segment) -> str:
            trader = bench.trader()
            said = await outcome(astra, bench, segment, trader, bid(bench, segment))
            await anyio.sleep(faults.get("late_s", 0.0) * 1.5)  # whatever is still on its way arrives
            there = trader.orders(segment.market)
            if not there and may_miss:
                expect(not isinstance(said, Order), f"expected no order found, there being none, seen {_text(said)}")
                return f"the venue refused it: {_text(said)}"
            if len(there) != 1:
                fail(f"expected 1 order at the venue, seen {len(there)} (the library says: {_text(said)})")
            if not isinstance(said, Order):
                fail(f"the order is at the venue: expected it found, seen {_text(said)}")
            expect_order("the order that was found", said, there[0], segment.market)
            expect_equal("status", said.status, OrderStatus.NEW)
            return ""

        await astra.list_markets(bench.code)
        with bench.faults(**faults):
            return await together(bench.segments, one)


def _text(said: Order | VenueError) -> str:
    return f"{said.status} order {said.id}" if isinstance(said, Order) else f"{type(said).__name__}: {said}"


@check(
    601,
    MUST,
    "A lost answer ends in the order that is there",
    "The venue acts and the connection is reset before its answer: the order is found, and there is one.",
    hooks=HOOKS,
    together=True,
    timeout_s=30,
)
async def lost_answer(bench: Bench) -> dict[str, Finding]:
    return await placed_once(bench, lost_answer=1.0)


@check(
    602,
    MUST,
    "A 5xx after the venue acted ends in the order that is there",
    "The venue acts and answers 5xx: the order is found, and there is one.",
    hooks=HOOKS,
    together=True,
    timeout_s=30,
)
async def error_after(bench: Bench) -> dict[str, Finding]:
    return await placed_once(bench, server_error_after=1.0)


@check(
    603,
    MUST,
    "A request that arrives late is not doubled, nor called lost",
    "The connection is reset at once and the venue receives the request later: what the library says is what is there.",
    hooks=HOOKS,
    together=True,
    timeout_s=40,
)
async def late(bench: Bench) -> dict[str, Finding]:
    return await placed_once(bench, may_miss=True, late_request=1.0, late_s=0.6)


@check(
    604,
    MUST,
    "An order that never arrived is not called placed",
    """The connection is reset, or the venue answers 5xx, before it acted: VenueUnavailable (certainly not placed),
    or OrderOutcomeUnknown where the venue's requests have no end of life; there is no order, and none appears
    later.""",
    hooks=HOOKS,
    timeout_s=60,
)
async def never_arrived(bench: Bench) -> str:
    said: list[str] = []

    async def one(astra: Astra, segment: Segment, trader: Trader, fault: str) -> None:
        name = f"{segment.name} {fault}"
        ended = await outcome(astra, bench, segment, trader, bid(bench, segment))
        there = len(trader.orders(segment.market))
        if there or isinstance(ended, Order):
            fail(f"{name}: expected no order (the request sent once), seen {there} at the venue and {_text(ended)}")
        if isinstance(ended, OrderOutcomeUnknown):
            said.append(f"{name}: stays unknown")
        else:
            expect_equal(f"{name}: outcome of {_text(ended)}", ended.outcome, Outcome.NOT_EXECUTED)

    async with bench.application(resolve_s=12.0) as first, bench.application(resolve_s=12.0) as second:
        traders = {segment.name: (bench.trader(), bench.trader()) for segment in bench.segments}
        for segment in bench.segments:
            for astra, trader in zip((first, second), traders[segment.name], strict=True):
                # Log-ins and clocks are settled before: under the fault the placement itself is the first to go.
                await private_read(bench, astra, segment.market, trader.credentials)
        async with anyio.create_task_group() as tasks:
            for number, (astra, fault) in enumerate(((first, "reset_request"), (second, "server_error"))):
                with bench.faults(**{fault: 1.0}):
                    for segment in bench.segments:
                        tasks.start_soon(one, astra, segment, traders[segment.name][number], fault)
                    await anyio.sleep(0.8)  # questions are answered again: it is the placements that were lost
    return ", ".join(said)


@check(
    605,
    MUST,
    "A cancel whose answer is lost is known to have happened",
    "The venue cancels and the connection is reset before its answer: the canceled order is returned.",
    hooks=[*HOOKS, "cancel_order", "get_order"],
    each=True,
    timeout_s=30,
)
async def lost_cancel(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    placed = await rest_a_bid(bench, market, trader)
    async with bench.application() as astra:
        await astra.market(market.symbol)
        with bench.faults(lost_answer=1.0):
            try:
                canceled = await astra.cancel_order(market.symbol, id=placed.id, credentials=trader.credentials)
            except VenueError as error:
                fail(f"expected the canceled order, seen {type(error).__name__}: {error}")
    expect_equal("the engine's status", trader.only_order(market).status, OrderStatus.CANCELED)
    expect_equal("status", canceled.status, OrderStatus.CANCELED)
