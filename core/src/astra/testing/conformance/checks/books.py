"""2xx: order books by request."""

from __future__ import annotations

import time

from astra.errors import UnsupportedOperation
from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.testing.conformance.bench import Bench
from astra.testing.conformance.catalogue import Level, check, expect, expect_equal, fail
from astra.testing.conformance.segments import Segment, compare_side, true_book

MUST = Level.MUST
SLACK_MS = 60_000
MOST_ID = 2**53


async def asked(bench: Bench, market: Market, depth: int) -> Orderbook:
    """The book by request; with a key where the venue says that it wants one."""
    try:
        return await bench.astra.get_orderbook(market.symbol, depth)
    except UnsupportedOperation:
        return await bench.astra.get_orderbook(market.symbol, depth, bench.trader().credentials)


@check(
    201,
    MUST,
    "A requested book is sorted and not crossed",
    "Bids fall, asks rise, no price stands twice, no quantity is 0, the best bid is below the best ask.",
    hooks=["list_markets", "get_orderbook"],
    each=True,
)
async def is_sorted(bench: Bench, segment: Segment) -> None:
    for market in segment.markets[:2]:
        book = await asked(bench, market, 50)
        expect_equal("market", book.market, market.symbol)
        bids, asks = [price for price, _ in book.bids], [price for price, _ in book.asks]
        expect(bids == sorted(set(bids), reverse=True), f"{market.symbol}: expected falling bids, seen {bids[:10]}")
        expect(asks == sorted(set(asks)), f"{market.symbol}: expected rising asks, seen {asks[:10]}")
        empty = [price for price, quantity in (*book.bids, *book.asks) if not quantity > 0]
        expect(not empty, f"{market.symbol}: expected positive quantities, seen none at {empty[:5]}")
        if bids and asks:
            expect(bids[0] < asks[0], f"{market.symbol}: expected best bid < best ask, seen {bids[0]} and {asks[0]}")


@check(
    202,
    MUST,
    "A requested book is the venue's, in base units",
    "Every level equals the engine's: prices, and quantities converted to units of the base asset.",
    hooks=["list_markets", "get_orderbook"],
    each=True,
)
async def equals_the_venue(bench: Bench, segment: Segment) -> None:
    for market in segment.markets[:2]:
        book = await asked(bench, market, 20)
        bids, asks = true_book(bench.engine, market)
        compare_side(f"{market.symbol} bids", list(book.bids), bids, at_least=1)
        compare_side(f"{market.symbol} asks", list(book.asks), asks, at_least=1)


@check(
    203,
    MUST,
    "A requested book is as deep as asked for",
    "At least the depth asked for comes, or all that the venue gives (never fewer than for a smaller depth).",
    hooks=["list_markets", "get_orderbook"],
    each=True,
)
async def depth(bench: Bench, segment: Segment) -> str:
    market = segment.market
    true = len(true_book(bench.engine, market)[0])
    given = {}
    for wanted in (1, 5, 20, 100):
        book = await asked(bench, market, wanted)
        given[wanted] = len(book.bids)
    for wanted in (1, 5, 20):
        expect(given[wanted] >= min(wanted, true), f"depth {wanted}: expected as many bids, seen {given[wanted]}")
    expect(given[100] >= given[20], f"depth 100: expected at least the {given[20]} bids of depth 20, seen {given[100]}")
    return f"{given[100]} of {true} bids at depth 100"


@check(
    204,
    MUST,
    "Ids and times of a requested book are sane",
    "`update_id` is a whole number from 0 to 2^53, `time` in ms (or None), `received` in ns, both of now.",
    hooks=["list_markets", "get_orderbook"],
    each=True,
)
async def ids_and_times(bench: Bench, segment: Segment) -> None:
    book = await asked(bench, segment.market, 5)
    expect(
        isinstance(book.update_id, int) and 0 <= book.update_id < MOST_ID,
        f"update_id: expected a whole number below 2^53, seen {book.update_id!r}",
    )
    expect_now("time", book.time)
    expect(book.received > 0, f"received: expected ns since the epoch, seen {book.received!r}")
    expect_now("received / 1e6", book.received // 1_000_000)


def expect_now(what: str, milliseconds: int | None) -> None:
    """A time in ms (None: the venue does not say) must be about now."""
    now = time.time_ns() // 1_000_000
    if milliseconds is not None and abs(milliseconds - now) > SLACK_MS:
        fail(f"{what}: expected ms since the epoch, about {now}, seen {milliseconds!r}")
