"""Books and trades over real sockets while everything that can go wrong does.

The sandbox is the truth: once its order flow stands still, the books of all markets must equal the engine's.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from astra import Astra
from astra.models.markets import Market, MarketStatus
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.trades import Trade
from astra.streams.feed import Channel, Continuity, DataType
from astra.streams.stream import MarketStream
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
EXCHANGES = ["BINANCE", "OKX", "KRAKEN", "COINBASE", "HUOBI", "KUCOIN"]


class Copies:
    """Books rebuilt from a stream's updates alone, as any consumer would."""

    def __init__(self) -> None:
        self.books: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        self.stale = 0
        self.updates = 0
        self.last: dict[str, int] = {}

    def take(self, update: OrderbookUpdate) -> None:
        self.updates += 1
        if update.kind is UpdateKind.STALE:
            self.stale += 1
            self.books.pop(update.market, None)
            return
        if update.kind is UpdateKind.SNAPSHOT:
            self.books[update.market] = (dict(update.bids), dict(update.asks))
            assert update.update_id >= self.last.get(update.market, 0)
        else:
            assert update.market in self.books, "an UPDATE before a SNAPSHOT"
            assert update.update_id > self.last[update.market]
            for levels, changes in zip(self.books[update.market], (update.bids, update.asks), strict=True):
                for price, quantity in changes:
                    levels[price] = quantity
                    if not quantity:
                        del levels[price]
        self.last[update.market] = update.update_id
        bids, asks = self.books[update.market]
        assert not bids or not asks or max(bids) < min(asks), f"{update.market} is crossed"


def true_id(sandbox: Sandbox, market: Market) -> int:
    """The venue's id of the book's last change."""
    venue: Any = sandbox.venue(market.exchange)
    change, _, _ = sandbox.engine(market.exchange).depth(market.symbol, 1)
    return int(venue.update_id(market.symbol, change))


def truth(sandbox: Sandbox, market: Market) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The engine's book in base units."""
    _, bids, asks = sandbox.engine(market.exchange).depth(market.symbol, 10_000)
    sides: list[list[tuple[float, float]]] = []
    for side in (bids, asks):
        levels = []
        for level in side:
            price, quantity = float(level.price), float(level.quantity)
            if market.contract_size is not None:
                quantity *= float(market.contract_size)
            levels.append((price, quantity / price if market.is_inverse else quantity))
        sides.append(levels)
    return sides[0], sides[1]


Sides = tuple[list[tuple[float, float]], list[tuple[float, float]]]
LEAST = 10
"""Books that the venue cuts off at a depth have at least so many levels a side, or all that there are."""


def same(sandbox: Sandbox, market: Market, sides: Sides) -> bool:
    """Is it the engine's book, as far down as the venue shows it?"""
    for mine, true in zip(sides, truth(sandbox, market), strict=True):
        if len(mine) < min(LEAST, len(true)) or [price for price, _ in mine] != [
            price for price, _ in true[: len(mine)]
        ]:
            return False
        # Some venues print base units, some contracts: the same decimal may be two neighbouring doubles.
        if not all(math.isclose(one[1], other[1], rel_tol=1e-14) for one, other in zip(mine, true, strict=False)):
            return False
    return True


async def numbered_by_the_venue(astra: Astra, markets: list[Market]) -> set[str]:
    """The markets whose updates carry the venue's own ids (the engine numbers the others)."""
    venue: Any = await astra.venue(markets[0].exchange)
    found = set()
    for market in markets:
        rules = venue.feed.book_rules(Channel(DataType.ORDERBOOK, market.product, market))
        if not rules.engine_ids and rules.continuity is not Continuity.NONE:
            found.add(market.symbol)
    return found


@asynccontextmanager
async def everything(
    exchange: str, impatient: Any, **sandbox: Any
) -> AsyncIterator[tuple[Sandbox, Astra, list[Market]]]:
    async with (
        Sandbox([exchange], **sandbox) as venue,
        Astra(settings=impatient(exchange, venue), credentials=[venue.credentials(exchange)]) as astra,
    ):
        markets = [m for m in await astra.list_markets(exchange) if m.status is MarketStatus.ACTIVE]
        yield venue, astra, markets


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():
            await anyio.sleep(0.05)


def states(stream: MarketStream[Any], markets: list[Market]) -> dict[str, BookState]:
    return {market.symbol: stream.book(market.symbol).state for market in markets}


def all_in(stream: MarketStream[Any], markets: list[Market], state: BookState) -> bool:
    return set(states(stream, markets).values()) == {state}


async def standstill(sandbox: Sandbox, astra: Astra, stream: MarketStream[Any], markets: list[Market]) -> None:
    """Stop the flow; then every book, and every consumer's copy of it, must become the engine's."""
    sandbox.set_pace(markets[0].exchange, 0.0)
    numbered = await numbered_by_the_venue(astra, markets)

    def is_true(market: Market) -> bool:
        book = stream.book(market.symbol)
        if book.state is not BookState.LIVE or not same(sandbox, market, (book.bids(), book.asks())):
            return False
        return market.symbol not in numbered or book.update_id == true_id(sandbox, market)

    def settled() -> bool:
        return all(is_true(market) for market in markets)

    try:
        await until(settled, 45.0)
    except TimeoutError:
        wrong = {
            market.symbol: (stream.book(market.symbol).state, stream.book(market.symbol).reason)
            for market in markets
            if not is_true(market)
        }
        raise AssertionError(f"books that never became the engine's: {wrong}") from None


async def consume(stream: MarketStream[Any], copies: Copies) -> None:
    async for batch in stream.batches():
        for update in batch:
            copies.take(update)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_killed_venue_is_stale_at_once_and_comes_back_equal(exchange: str, impatient: Any) -> None:
    async with everything(exchange, impatient, seed=3) as (sandbox, astra, markets):
        symbols = [market.symbol for market in markets]
        copies = Copies()
        async with astra.stream_orderbook(*symbols) as stream, anyio.create_task_group() as tasks:
            tasks.start_soon(consume, stream, copies)
            await until(lambda: all_in(stream, markets, BookState.LIVE))
            await sandbox.stop(exchange)
            await until(lambda: all_in(stream, markets, BookState.STALE), 5.0)
            await until(lambda: copies.stale >= len(markets), 5.0)
            await anyio.sleep(1.0)
            await sandbox.start(exchange)
            await until(lambda: all_in(stream, markets, BookState.LIVE))
            await standstill(sandbox, astra, stream, markets)
            await until(
                lambda: all(
                    same(
                        sandbox,
                        m,
                        (
                            sorted(copies.books[m.symbol][0].items(), reverse=True),
                            sorted(copies.books[m.symbol][1].items()),
                        ),
                    )
                    for m in markets
                )
            )
            assert not sandbox.failures(exchange)
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_with_every_fault_on_books_are_right_or_say_that_they_are_not(exchange: str, impatient: Any) -> None:
    async with everything(exchange, impatient, seed=5) as (sandbox, astra, markets):
        symbols = [market.symbol for market in markets]
        copies, trades = Copies(), [0]

        async def count(stream: MarketStream[Any]) -> None:
            async for item in stream:
                trades[0] += isinstance(item, Trade)

        async with (
            astra.stream_orderbook(*symbols) as stream,
            astra.stream_trades(*symbols) as prints,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(consume, stream, copies)
            tasks.start_soon(count, prints)
            await until(lambda: all_in(stream, markets, BookState.LIVE))
            faults = sandbox.faults(exchange)
            faults.drop_frame = 0.01
            faults.repeat_frame = 0.02
            faults.reorder_frame = 0.01
            faults.cut_connection = 0.0005
            faults.reset_request = 0.1
            faults.lost_answer = 0.05
            faults.late_request = 0.05
            faults.server_error = 0.1
            faults.server_error_after = 0.05
            faults.rate_limited = 0.02
            faults.clock_skew_ms = 400
            await anyio.sleep(6.0)
            faults.stall_s = 1.0
            await anyio.sleep(4.0)
            for name in ("drop_frame", "repeat_frame", "reorder_frame", "cut_connection", "reset_request"):
                setattr(faults, name, 0.0)
            faults.lost_answer = faults.late_request = faults.server_error = faults.server_error_after = 0.0
            faults.rate_limited = 0.0
            faults.clock_skew_ms = 0
            assert copies.stale > 0, "the faults did nothing"
            await until(lambda: all_in(stream, markets, BookState.LIVE), 60.0)
            await standstill(sandbox, astra, stream, markets)
            assert trades[0] > 0
            assert not sandbox.failures(exchange)
            tasks.cancel_scope.cancel()
