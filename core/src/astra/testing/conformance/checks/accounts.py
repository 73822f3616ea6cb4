"""5xx: balances, positions, and the account's stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio

from astra.app import Astra
from astra.models.accounts import AccountStatus, Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, PositionSide
from astra.models.trades import Side
from astra.testing.conformance.bench import SOON_S, Bench, Trader, comes
from astra.testing.conformance.catalogue import Level, Mismatch, check, expect, expect_equal, fail
from astra.testing.conformance.segments import INVERSE, LINEAR, OPTION, QUANTO, Segment, least, limit
from astra.testing.conformance.trading import (
    exact,
    expect_fill,
    expect_filled,
    expect_near,
    near,
    rest_a_bid,
    take_an_ask,
)

MUST = Level.MUST
PLACE = ["list_markets", "place_order"]
STREAM = [*PLACE, "stream_account"]
LIVE_S = 20.0


def compare_balances(bench: Bench, trader: Trader, seen: dict[tuple[str, str], Balance], wallets: set[str]) -> None:
    """Balances of the wallets must be the engine's; what is zero may be left out."""
    true = {(one.wallet, one.asset): one for one in bench.engine.balances(trader.account) if one.wallet in wallets}
    for key, engine in true.items():
        what = f"balance of {key[1]} in wallet {key[0]!r}"
        balance = seen.get(key)
        if balance is None:
            expect(engine.total == 0, f"{what}: expected {engine.total}, seen none among {sorted(seen)[:12]}")
            continue
        open_profit = unrealised(bench, trader, *key)
        for name, said, engine_says in (
            ("total", balance.total, engine.total),
            ("available", balance.available, engine.available),
            ("locked", balance.locked, engine.locked),
        ):
            # Margin wallets count the profit of open positions, or do not: both are the venue's to say.
            if said is not None and abs(said - engine_says) > open_profit:
                expect_near(f"{what}: {name}", said, engine_says)
    strange = [key for key, one in seen.items() if key[0] in wallets and key not in true and one.total]
    expect(not strange, f"expected no other balances, seen {strange}")


def unrealised(bench: Bench, trader: Trader, wallet: str, asset: str) -> Decimal:
    """How much the open positions that settle in the wallet's asset may have won or lost at the most."""
    most = Decimal(0)
    for position in bench.engine.positions(trader.account):
        market = bench.engine.markets[position.market]
        settled_in = market.margin_asset or (market.base_asset if market.is_inverse else market.quote_asset)
        if bench.engine.wallet_of(position.market) != wallet or settled_in != asset or not position.quantity:
            continue
        size = (market.contract_size or Decimal(1)) * abs(position.quantity)
        entry, mark = position.entry_price, bench.engine.mark_price(position.market)
        inverse = market.is_inverse and market.asset_type != "OPT"
        change = size / entry - size / mark if inverse else size * (mark - entry)
        most += abs(change) * Decimal("1.01") + Decimal("1E-7")
    return most


def compare_positions(bench: Bench, trader: Trader, seen: Sequence[Position], markets: Sequence[Market]) -> None:
    """Positions in the markets must be the engine's."""
    for market in markets:
        true = [p for p in bench.engine.positions(trader.account) if p.market == market.symbol and p.quantity]
        mine = [position for position in seen if position.market == market.symbol and position.quantity != 0]
        what = f"position in {market.symbol}"
        expect_equal(f"{what}: how many", len(mine), len(true))
        for position, engine in zip(mine, true, strict=True):
            native = abs(engine.quantity)
            expect_equal(
                f"{what}: side", position.side, PositionSide.LONG if engine.quantity > 0 else PositionSide.SHORT
            )
            if market.contract_size is not None:
                expect_equal(f"{what}: contracts", position.contracts, native)
            if not market.is_inverse:
                expect_near(f"{what}: quantity (base units)", position.quantity, market.base_quantity(native, None))
            elif position.quantity is not None and position.mark_price is not None:
                base = market.base_quantity(native, position.mark_price)
                expect_near(f"{what}: quantity (base units, at the mark price)", position.quantity, base)
            if position.entry_price is not None:
                off = abs(position.entry_price - engine.entry_price)
                expect(
                    off <= Decimal("1E-8") * abs(engine.entry_price),
                    f"{what}: entry price: expected {engine.entry_price}, seen {position.entry_price}",
                )


@check(
    501,
    MUST,
    "Balances equal the venue's",
    """After a fill and with an order resting, total, available and locked of every asset in the segment's wallet
    are the engine's.""",
    hooks=[*PLACE, "get_balances"],
    each=True,
)
async def balances(bench: Bench, segment: Segment) -> None:
    trader = bench.trader()
    await take_an_ask(bench, segment.market, trader)
    await rest_a_bid(bench, segment.market, trader)
    seen = await bench.astra.get_balances(bench.code, trader.credentials)
    exact("get_balances", list(seen))
    keys = [(one.wallet, one.asset) for one in seen]
    expect(len(set(keys)) == len(keys), f"expected each wallet and asset once, seen {sorted(keys)}")
    zero = [key for key, one in zip(keys, seen, strict=True) if not one.total and not one.borrowed]
    expect(not zero, f"expected zero balances left out, seen {zero}")
    wallet = bench.engine.wallet_of(segment.market.symbol)
    compare_balances(bench, trader, dict(zip(keys, seen, strict=True)), {wallet})


@check(
    502,
    MUST,
    "Positions equal the venue's, in base units",
    """After a fill the position's side, quantity (base units), contracts and entry price are the engine's; another
    account has none.""",
    hooks=[*PLACE, "get_positions"],
    each=True,
    kinds=(LINEAR, INVERSE, QUANTO, OPTION),
)
async def positions(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    await take_an_ask(bench, market, trader, lots=3)
    seen = await bench.astra.get_positions(bench.code, trader.credentials)
    exact("get_positions", list(seen))
    compare_positions(bench, trader, seen, [market])
    none = await bench.astra.get_positions(bench.code, bench.trader().credentials)
    expect(not none, f"positions of a new account: expected none, seen {[one.market for one in none]}")


class Told:
    """What an account's stream has told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.orders: dict[tuple[str, str | None], Order] = {}
        self.fills: list[Fill] = []
        self.balances: dict[tuple[str, str], Balance] = {}
        self.positions: dict[tuple[str, PositionSide], Position] = {}
        self.statuses: dict[str, AccountStatus] = {}

    async def read(self, stream: Any) -> None:
        async for event in stream:
            self.events.append(event)
            if isinstance(event, Order):
                self.orders[event.market, event.client_order_id or event.id] = event
            elif isinstance(event, Fill):
                self.fills.append(event)
            elif isinstance(event, Balance):
                self.balances[event.wallet, event.asset] = event
            elif isinstance(event, Position):
                self.positions[event.market, event.side] = event
            elif isinstance(event, AccountStatus):
                self.statuses[event.product] = event

    @property
    def live(self) -> bool:
        return bool(self.statuses) and all(status.live for status in self.statuses.values())


@asynccontextmanager
async def telling(astra: Astra, bench: Bench, trader: Trader) -> AsyncIterator[Told]:
    """The account's stream, LIVE in all products, and a consumer that reads it."""
    told = Told()
    async with (
        astra.stream_account(bench.code, trader.credentials) as stream,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(told.read, stream)
        products = [status.product for status in stream.account_status]
        await live(told, products)
        yield told
        tasks.cancel_scope.cancel()


async def live(told: Told, products: Sequence[str]) -> None:
    """Wait until the stream says of every product that it can be relied on."""
    if await comes(lambda: told.live and not set(products) - told.statuses.keys(), LIVE_S):
        return
    seen = {name: (status.live, status.reason) for name, status in told.statuses.items()}
    fail(f"expected AccountStatus live for {list(products)} within {LIVE_S:g} s, seen {seen}")


async def becomes(compare: Callable[[], None], timeout_s: float = SOON_S) -> None:
    """Wait until a comparison holds; fail with what it says at the end."""
    difference: Mismatch | None = None
    with anyio.move_on_after(timeout_s):
        while True:
            try:
                compare()
            except Mismatch as error:
                difference = error
                await anyio.sleep(0.05)
            else:
                return
    fail(f"{timeout_s:g} s later: {difference}")


def compare_all(bench: Bench, trader: Trader, told: Told, markets: Sequence[Market]) -> None:
    """What the stream told must be what the engine has: orders, fills, balances, positions."""
    for market in markets:
        for true in trader.orders(market):
            mine = [
                order
                for (symbol, _), order in told.orders.items()
                if symbol == market.symbol and order.side is true.side and _size(order, market) == true.quantity
            ]
            what = f"the stream's word on the {true.side} order of {true.quantity} in {market.symbol}"
            expect(mine, f"{what}: expected one, seen none")
            expect_equal(f"{what}: status", mine[-1].status, true.status)
            expect_filled(what, mine[-1], true, market)
            filled = mine[-1].filled_quantity if mine[-1].filled_contracts is None else mine[-1].filled_contracts
            expect(filled is not None or not true.filled, f"{what}: filled: expected {true.filled}, seen None")
        true_fills = [fill for order in trader.orders(market) for fill in order.fills]
        fills = [fill for fill in told.fills if fill.market == market.symbol]
        expect_equal(f"how many fills in {market.symbol}", len(fills), len(true_fills))
        for fill in fills:
            exact("a fill", fill)
            same = [one for one in true_fills if one.side is fill.side and one.price == fill.price]
            near_ones = [one for one in same if near(market.base_quantity(one.quantity, one.price), fill.quantity)]
            expect(same, f"a fill in {market.symbol} at {fill.price}: expected one of the engine's")
            expect_fill(f"a fill in {market.symbol}", fill, (near_ones or same)[0], market)
    wallets = {bench.engine.wallet_of(market.symbol) for market in markets}
    compare_balances(bench, trader, told.balances, wallets)
    compare_positions(bench, trader, list(told.positions.values()), [m for m in markets if m.asset_type != "SPOT"])


def _size(order: Order, market: Market) -> Decimal | None:
    return order.quantity if market.contract_size is None else order.contracts


async def half_done(bench: Bench, trader: Trader, market: Market) -> tuple[Decimal, Decimal]:
    """An offer of four lots rests behind one of the crowd: (its price, a lot)."""
    unit = least(market, bench.top(market)[1])
    price = bench.alone(market, Side.SELL, unit)
    await bench.astra.place_order(market.symbol, limit(market, Side.SELL, unit * 4, price), trader.credentials)
    return price, unit


@check(
    503,
    MUST,
    "An account's stream begins with what is there",
    """Open orders, balances and positions that the account has come first, then AccountStatus says for each product
    that they are complete.""",
    hooks=STREAM,
    timeout_s=40,
)
async def stream_begins(bench: Bench) -> None:
    trader = bench.trader()
    markets = [segment.market for segment in bench.segments]
    for market in markets:
        await take_an_ask(bench, market, trader)
        await rest_a_bid(bench, market, trader)
    await anyio.sleep(1.0)  # by any clock, measured on a busy machine, the fills were before the stream
    opened = time.time_ns() // 1_000_000
    async with telling(bench.astra, bench, trader) as told:
        early = [type(event).__name__ for event in told.events]
        open_orders = {order.market for order in told.orders.values() if order.status.is_open}
        missing = [market.symbol for market in markets if market.symbol not in open_orders]
        expect(not missing, f"expected the open orders of {missing} before the AccountStatus, seen {early}")
        wallets = {bench.engine.wallet_of(market.symbol) for market in markets}
        compare_balances(bench, trader, told.balances, wallets)
        derivatives = [market for market in markets if market.asset_type != "SPOT"]
        compare_positions(bench, trader, list(told.positions.values()), derivatives)
        early_fills = [f"{fill.market} {opened - fill.time} ms before" for fill in told.fills]
        expect(not early_fills, f"expected no fills from before the stream began, seen {early_fills}")


@check(
    504,
    MUST,
    "An account's stream tells all that happens",
    """In every segment orders rest, are filled, partly filled and canceled: each order's last word, each fill
    (once), balances and positions become the engine's.""",
    hooks=[*STREAM, "cancel_order"],
    timeout_s=60,
)
async def stream_tells(bench: Bench) -> None:
    trader = bench.trader()
    markets = [segment.market for segment in bench.segments]
    async with telling(bench.astra, bench, trader) as told:
        for market in markets:
            resting = await rest_a_bid(bench, market, trader, lots=5)
            await take_an_ask(bench, market, trader, lots=2)
            price, unit = await half_done(bench, trader, market)
            bench.take(market, Side.BUY, unit * 2, price)
            await bench.astra.cancel_order(market.symbol, id=resting.id, credentials=trader.credentials)
        await becomes(lambda: compare_all(bench, trader, told, markets))
        keys = [(fill.market, fill.id, fill.order_id, fill.side) for fill in told.fills]
        expect(len(set(keys)) == len(keys), f"expected each fill once, seen {keys}")


@check(
    505,
    MUST,
    "An account's stream is true after a cut",
    """While the server is down resting orders are filled. The stream says that it is not live; when it is again,
    the fills are told once each, and orders, balances and positions are the engine's.""",
    hooks=STREAM,
    timeout_s=70,
)
async def stream_heals(bench: Bench) -> None:
    trader = bench.trader()
    markets = [segment.market for segment in bench.segments]
    async with bench.application() as astra, telling(astra, bench, trader) as told:
        products = list(told.statuses)
        ready = {market.symbol: await half_done(bench, trader, market) for market in markets}
        await bench.stop()
        for market in markets:
            price, unit = ready[market.symbol]
            bench.take(market, Side.BUY, unit * 3, price)
        await comes(lambda: not any(status.live for status in told.statuses.values()), 8)
        still = [product for product, status in told.statuses.items() if status.live]
        expect(not still, f"8 s after the server was killed: expected no product live, seen {still} live")
        await bench.start()
        await live(told, products)
        await becomes(lambda: compare_all(bench, trader, told, markets))
        keys = [(fill.market, fill.id, fill.order_id, fill.side) for fill in told.fills]
        expect(len(set(keys)) == len(keys), f"expected each fill once, seen {keys}")
