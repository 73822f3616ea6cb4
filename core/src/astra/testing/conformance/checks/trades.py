"""3xx, continued: trade streams."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from astra.models.markets import Market
from astra.models.trades import Side, Trade
from astra.testing.conformance.bench import SOON_S, Bench, comes, until
from astra.testing.conformance.catalogue import Level, NotOffered, check, close, expect, fail
from astra.testing.conformance.checks.books import expect_now
from astra.testing.conformance.following import Prints, printing
from astra.testing.conformance.segments import Segment, least

MUST, MAY = Level.MUST, Level.MAY
HOOKS = ["list_markets", "stream_trades"]
SIDES = (Side.BUY, Side.SELL, Side.BUY, Side.SELL, Side.BUY, Side.SELL)
"""In turns: some venues join trades that follow each other on one side at one price."""
LOTS = (1, 3, 2, 5, 4, 1)


class Print(msgspec.Struct, frozen=True):
    """A trade that the kit made at the engine. `side` is the taker's, `quantity` in base units."""

    side: Side
    price: float
    quantity: float


class Stage:
    """A market whose best levels hold one order each, so that each order that takes makes exactly one trade."""

    def __init__(self, bench: Bench, market: Market) -> None:
        self._bench = bench
        self.market = market
        self.unit = least(market, bench.top(market)[1])
        self._prices = {side: bench.alone(market, side, self.unit * 200) for side in Side}

    def trade(self, side: Side, lots: int) -> Print:
        """Somebody takes so much."""
        price, native = self._prices[side.opposite], self.unit * lots
        self._bench.take(self.market, side, native, price)
        quantity = self.market.base_quantity(native, price)
        assert quantity is not None
        return Print(side, float(price), float(quantity))


async def connected(stage: Stage, prints: Prints) -> None:
    """Trade until the stream tells of it, then let it catch up: what follows is told whole."""

    def told() -> bool:
        if not prints.of(stage.market):
            stage.trade(Side.BUY, 1)
        return bool(prints.of(stage.market))

    if not await comes(told, every_s=0.25):
        fail(f"expected a trade of {stage.market.symbol} on the stream within {SOON_S:g} s, seen none")
    await anyio.sleep(0.5)
    prints.items.clear()
    prints.order.clear()


async def printed(bench: Bench, segment: Segment) -> tuple[Sequence[Trade], Sequence[Print]]:
    """Trades as the stream tells them, and as they were made; made once, for the checks that look at them."""
    name = f"trades {segment.name}"
    if name not in bench.kept:
        bench.kept[name] = await _printed(bench, segment.market)
    seen, true = bench.kept[name]
    return seen, true


async def _printed(bench: Bench, market: Market) -> tuple[Sequence[Trade], Sequence[Print]]:
    async with printing(bench.astra, [market]) as (_, prints):
        stage = Stage(bench, market)
        await connected(stage, prints)
        true = [stage.trade(side, lots) for side, lots in zip(SIDES, LOTS, strict=True)]
        await comes(lambda: len(prints.of(market)) >= len(true), 5)
        await anyio.sleep(0.2)
        return prints.of(market), true


@check(
    307,
    MUST,
    "Trades carry the taker's side",
    """Known orders take from the book: each trade's `side` is theirs (or None throughout, where the venue does not
    say).""",
    hooks=HOOKS,
    each=True,
    timeout_s=30,
)
async def sides(bench: Bench, segment: Segment) -> str:
    seen, true = await printed(bench, segment)
    if all(trade.side is None for trade in seen):
        return "the venue does not say"
    told = [str(trade.side) for trade in seen]
    expected = [str(trade.side) for trade in true]
    expect(told == expected, f"expected the takers' sides {expected}, seen {told}")
    return ""


@check(
    308,
    MUST,
    "Trades equal the venue's, in base units",
    "Known orders take from the book: prices, and quantities in units of the base asset, are told in order, each once.",
    hooks=HOOKS,
    each=True,
    timeout_s=30,
)
async def prices(bench: Bench, segment: Segment) -> None:
    seen, true = await printed(bench, segment)
    if len(seen) != len(true):
        there = [(trade.side, trade.price, trade.quantity) for trade in true]
        told = [(trade.side, trade.price, trade.quantity) for trade in seen]
        fail(f"expected {len(true)} trades, {there}, seen {len(seen)}, {told}")
    for number, (trade, expected) in enumerate(zip(seen, true, strict=True)):
        expect(
            close(trade.price, expected.price), f"trade {number}: expected price {expected.price}, seen {trade.price}"
        )
        expect(
            close(trade.quantity, expected.quantity),
            f"trade {number}: expected quantity {expected.quantity!r} (base units), seen {trade.quantity!r}",
        )


@check(
    309,
    MUST,
    "Trade ids are unique, times are ms of now",
    "Ids are non-empty texts, each told once; times never fall and are ms of now; `received` is ns.",
    hooks=HOOKS,
    each=True,
    timeout_s=30,
)
async def ids(bench: Bench, segment: Segment) -> None:
    seen, _ = await printed(bench, segment)
    names = [trade.id for trade in seen]
    expect(all(isinstance(name, str) and name for name in names), f"ids: expected texts, seen {names}")
    expect(len(set(names)) == len(names), f"ids: expected each once, seen {names}")
    times = [trade.time for trade in seen]
    expect(times == sorted(times), f"times: expected never to fall, seen {times}")
    for time in times:
        expect_now("time of a trade", time)
    expect_now("received / 1e6", seen[-1].received // 1_000_000)


async def over_a_gap(bench: Bench, segment: Segment) -> tuple[Prints, Sequence[Print]]:
    """Trades before, during and after a time without connection; made once, for the checks that look at them."""
    name = f"gap {segment.name}"
    if name not in bench.kept:
        bench.kept[name] = await _over_a_gap(bench, segment.market)
    prints, true = bench.kept[name]
    return prints, true


async def _over_a_gap(bench: Bench, market: Market) -> tuple[Prints, Sequence[Print]]:
    async with bench.application() as astra, printing(astra, [market]) as (_, prints):
        stage = Stage(bench, market)
        await connected(stage, prints)
        true = [stage.trade(Side.BUY, 2)]
        await until("the trade before the cut", lambda: len(prints.of(market)) >= 1)
        await bench.stop()
        true += [stage.trade(side, lots) for side, lots in ((Side.SELL, 3), (Side.BUY, 4))]
        await bench.start()

        def told() -> bool:
            true.append(stage.trade(Side.SELL, 1))
            return bool(prints.gaps) or len(prints.of(market)) >= len(true) - 1

        await comes(told, 15, every_s=0.25)
        await until("trades after the reconnect", lambda: len(prints.of(market)) >= 2)
        await anyio.sleep(0.5)
    return prints, true


@check(
    310,
    MUST,
    "Trades lost with a connection leave a Gap, or come late",
    """While the server is down there is trading. After the reconnect either every trade is told, in order and once,
    or a Gap stands in line where they are missing.""",
    hooks=HOOKS,
    each=True,
    timeout_s=50,
)
async def gaps(bench: Bench, segment: Segment) -> str:
    prints, true = await over_a_gap(bench, segment)
    seen = prints.of(segment.market)
    names = [trade.id for trade in seen]
    expect(len(set(names)) == len(names), f"ids: expected each trade once, seen {names}")
    complete = all(
        close(trade.price, made.price) and close(trade.quantity, made.quantity)
        for trade, made in zip(seen, true, strict=False)
    )
    if prints.gaps:
        return f"a Gap, filled: {prints.gaps[0].filled}"
    expect(
        complete and len(seen) >= 3,
        f"expected a Gap, or all of {[(str(t.side), t.price, t.quantity) for t in true]}; "
        f"seen no Gap and {[(str(t.side), t.price, t.quantity) for t in seen]}",
    )
    return "no Gap, nothing missing"


@check(
    322,
    MAY,
    "A gap in the trades is filled from the venue's history",
    "After a reconnect the Gap says how many missing trades follow, and they do, equal to the engine's.",
    hooks=HOOKS,
    each=True,
    timeout_s=50,
)
async def history(bench: Bench, segment: Segment) -> str:
    prints, true = await over_a_gap(bench, segment)
    if prints.gaps and all(gap.filled is None for gap in prints.gaps):
        raise NotOffered("the history has no trades to join by")
    seen = prints.of(segment.market)
    for number, (trade, expected) in enumerate(zip(seen, true, strict=False)):
        expect(
            close(trade.price, expected.price) and close(trade.quantity, expected.quantity),
            f"trade {number}: expected {expected.quantity!r} at {expected.price!r}, seen {trade.quantity!r} at "
            f"{trade.price!r} (each trade once, those of the gap included)",
        )
        expect(trade.side in (None, expected.side), f"trade {number}: expected {expected.side}, seen {trade.side}")
    return f"{len(seen)} trades, none missing"
