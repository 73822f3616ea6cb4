"""Consumers that believe nothing but their stream, and what they hold against the engine's truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from astra.app import Astra
from astra.models.markets import Market
from astra.models.orderbook import BookState, Integrity, OrderbookUpdate, UpdateKind
from astra.models.trades import Gap, Trade
from astra.testing.conformance.bench import Bench, comes, until
from astra.testing.conformance.catalogue import Mismatch, fail
from astra.testing.conformance.segments import compare_side, true_book

LIVE_S = 15.0
SETTLE_S = 15.0
CHECKSUMMED = 10
"""A checksum covers so many levels a side: what is lost beyond them it does not show."""
LEAST_DEPTH = 5
"""So many levels a side of a book's stream are to be there at the least."""


class Follower:
    """Books rebuilt from a stream's updates alone. What breaks the stream's promises is noted in `wrong`."""

    def __init__(self) -> None:
        self.books: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        self.last: dict[str, int] = {}
        self.kinds: dict[str, list[UpdateKind]] = {}
        self.received: dict[str, int] = {}
        self.times: list[tuple[str, int]] = []
        self.stale = 0
        self.stale_in: dict[str, int] = {}
        self.updates = 0
        self.wrong: list[str] = []

    async def read(self, stream: Any) -> None:
        async for batch in stream.batches():
            for update in batch:
                self.take(update)

    def take(self, update: OrderbookUpdate) -> None:
        self.updates += 1
        market, kinds = update.market, self.kinds.setdefault(update.market, [])
        if not kinds and update.kind is not UpdateKind.SNAPSHOT:
            self.wrong.append(f"{market}: expected a SNAPSHOT first, seen {update.kind}")
        if len(kinds) < 50:
            kinds.append(update.kind)
        if update.kind is UpdateKind.STALE:
            self.stale += 1
            self.stale_in[market] = self.stale_in.get(market, 0) + 1
            self.books.pop(market, None)
            return
        if update.time is not None:
            self.times.append((market, update.time))
        last = self.last.get(market, -1)
        if update.kind is UpdateKind.SNAPSHOT:
            self.books[market] = (dict(update.bids), dict(update.asks))
            if update.update_id < last:
                self.wrong.append(f"{market}: expected a SNAPSHOT at or after {last}, seen {update.update_id}")
        elif market not in self.books:
            self.wrong.append(f"{market}: expected a SNAPSHOT after STALE, seen an UPDATE")
            return
        else:
            if update.update_id <= last:
                self.wrong.append(f"{market}: expected an updateId above {last}, seen {update.update_id}")
            for levels, changes in zip(self.books[market], (update.bids, update.asks), strict=True):
                for price, quantity in changes:
                    levels[price] = quantity
                    if not quantity:
                        del levels[price]
        self.last[market] = update.update_id

    def sides(self, symbol: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        bids, asks = self.books.get(symbol, ({}, {}))
        return sorted(bids.items(), reverse=True), sorted(asks.items())

    def judge(self) -> None:
        """Fail with the first broken promises, if any."""
        if self.wrong:
            fail("; ".join(self.wrong[:3]))


@asynccontextmanager
async def following(astra: Astra, markets: Sequence[Market]) -> AsyncIterator[tuple[Any, Follower]]:
    """A book stream over the markets and a consumer that reads it."""
    follower = Follower()
    symbols = [market.symbol for market in markets]
    async with astra.stream_orderbook(*symbols) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(follower.read, stream)
        yield stream, follower
        tasks.cancel_scope.cancel()


async def all_live(stream: Any, markets: Sequence[Market], timeout_s: float = LIVE_S) -> None:
    """Wait until every book is LIVE; fail with those that are not."""

    def waiting() -> dict[str, str]:
        books = {market.symbol: stream.book(market.symbol) for market in markets}
        return {symbol: f"{b.state} ({b.reason})" for symbol, b in books.items() if b.state is not BookState.LIVE}

    try:
        await until("books LIVE", lambda: not waiting(), timeout_s)
    except Mismatch:
        fail(f"expected every book LIVE within {timeout_s:g} s, seen {waiting()}")


def lowest_integrity(stream: Any, markets: Sequence[Market]) -> dict[str, Integrity]:
    return {market.symbol: stream.book(market.symbol).integrity for market in markets}


async def settled(
    bench: Bench, stream: Any, follower: Follower, markets: Sequence[Market], *, protected: bool = False
) -> str:
    """With the crowd at rest every book, and the consumer's copy of it, must become the engine's, and be LIVE.

    `protected`: frames were lost, of which a checksum shows those that concern the best levels only. What differs
    beyond them is returned.
    """
    bench.rest()
    for market in markets:  # a frame that was lost before the market fell quiet shows in the next one only
        bench.poke(market)

    def difference(*, protected: bool = protected) -> str | None:
        for market in markets:
            book = stream.book(market.symbol)
            checked = CHECKSUMMED if protected and book.integrity is Integrity.CHECKSUM else None
            if book.state is not BookState.LIVE:
                return f"{market.symbol}: expected LIVE, seen {book.state} ({book.reason})"
            true = true_book(bench.engine, market)
            for name, seen, expected in (
                ("live book's", (book.bids(), book.asks()), true),
                ("consumer's", follower.sides(market.symbol), true),
            ):
                for side, one, other in zip(("bids", "asks"), seen, expected, strict=True):
                    what = f"{market.symbol}: the {name} {side}"
                    try:
                        compare_side(what, one[:checked], other, at_least=LEAST_DEPTH)
                    except Mismatch as error:
                        return str(error)
        return None

    equal = await comes(lambda: difference() is None, SETTLE_S, every_s=0.1)
    follower.judge()
    if not equal:
        fail(f"{SETTLE_S:g} s after the market came to rest: {difference()}")
    beyond = difference(protected=False) if protected else None
    return "" if beyond is None else f"; beyond the {CHECKSUMMED} levels of the checksum {beyond}"


class Prints:
    """The trades of a stream."""

    def __init__(self) -> None:
        self.items: list[Trade] = []
        self.gaps: list[Gap] = []
        self.order: list[Any] = []

    async def read(self, stream: Any) -> None:
        async for item in stream:
            self.order.append(item)
            if isinstance(item, Trade):
                self.items.append(item)
            elif isinstance(item, Gap):
                self.gaps.append(item)

    def of(self, market: Market) -> list[Trade]:
        return [trade for trade in self.items if trade.market == market.symbol]


@asynccontextmanager
async def printing(astra: Astra, markets: Sequence[Market]) -> AsyncIterator[tuple[Any, Prints]]:
    """A trade stream over the markets and a consumer that reads it."""
    prints = Prints()
    symbols = [market.symbol for market in markets]
    async with astra.stream_trades(*symbols) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(prints.read, stream)
        yield stream, prints
        tasks.cancel_scope.cancel()
