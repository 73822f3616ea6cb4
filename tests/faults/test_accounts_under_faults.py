"""An account's stream over real sockets while the connection is lost in the middle of trading.

The sandbox's engine is the truth: fills, balances and positions must be its own, to the last digit.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest

from astra import Astra, OrderRequest
from astra.models.accounts import AccountStatus, Balance, Position
from astra.models.markets import Market, MarketStatus
from astra.models.orders import Fill, Order, OrderType, PositionSide
from astra.models.trades import Side
from astra.sandbox import EngineFill, NewOrder
from astra_sandbox import Sandbox
from astra_sandbox.engine import MatchingEngine

pytestmark = pytest.mark.anyio
EXCHANGES = ["BINANCE", "OKX", "KRAKEN", "COINBASE", "HUOBI", "KUCOIN"]
COUNTED = ("KRAKEN", "COINBASE")
"""Venues that count the frames of an account's stream: what is missing shows at once, and ends what was live."""
IN_CENTS = ("us_futures",)
"""Wallets of which the venue shows whole cents."""
CENT = Decimal("0.01")
WITHIN_LIMITS = ("BINANCE", "OKX")
"""The others let hundreds of fills be read in minutes only: their limits are shown elsewhere, and off here."""
FILLS = 500


class Ledger:
    """What a consumer of the stream believes."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, str], Order] = {}
        self.fills: dict[tuple[str, str], Fill] = {}
        self.balances: dict[tuple[str, str], Balance] = {}
        self.positions: dict[tuple[str, PositionSide], Position] = {}
        self.repeated: list[Fill] = []
        self.revived: list[Order] = []
        self.lost: Counter[str] = Counter()

    def take(self, item: Any) -> None:
        if isinstance(item, Fill):
            if (item.market, item.id) in self.fills:
                self.repeated.append(item)
            self.fills[item.market, item.id] = item
        elif isinstance(item, Order):
            key = (item.market, item.client_order_id or "")
            known = self.orders.get(key)
            if known is not None and known.status.is_final and item.status is not known.status:
                self.revived.append(item)
            self.orders[key] = item
        elif isinstance(item, Balance):
            self.balances[item.wallet, item.asset] = item
        elif isinstance(item, Position):
            self.positions[item.market, item.side] = item
        elif isinstance(item, AccountStatus):
            self.lost[item.product] += not item.live


@asynccontextmanager
async def account(
    exchange: str, impatient: Any, no_limits: Any, audit_s: float = 900.0, **sandbox: Any
) -> AsyncIterator[tuple[Sandbox, Astra, Any, Ledger, list[Market]]]:
    """A sandbox with still books, and a consumer of the default account's stream that is live."""
    async with Sandbox([exchange], pace=0.0, **sandbox) as venue:
        settings = impatient(exchange, venue)
        settings["venues"][exchange]["streams"]["audit_accounts_every_s"] = audit_s
        async with Astra(settings=settings, credentials=[venue.credentials(exchange)]) as astra:
            if exchange not in WITHIN_LIMITS:
                await no_limits(exchange, venue, astra)
            listed = [m for m in await astra.list_markets(exchange) if m.status is MarketStatus.ACTIVE]
            ledger = Ledger()

            async def read(stream: Any) -> None:
                async for item in stream:
                    ledger.take(item)

            async with astra.stream_account(exchange) as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(read, stream)
                await until(lambda: is_live(stream))
                yield venue, astra, stream, ledger, listed
                tasks.cancel_scope.cancel()


def is_live(stream: Any) -> bool:
    return all(status.live for status in stream.account_status)


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():
            await anyio.sleep(0.02)


def one_of_each(markets: Sequence[Market], engine: MatchingEngine) -> list[Market]:
    """Two markets of every product, with books that can be traded on both sides."""
    chosen: dict[str, list[Market]] = {}
    for market in markets:
        _, bids, asks = engine.depth(market.symbol, 5)
        if len(chosen.setdefault(market.product, [])) < 2 and len(bids) >= 5 and len(asks) >= 5:
            chosen[market.product].append(market)
    return [market for few in chosen.values() for market in few]


def trade(engine: MatchingEngine, market: Market, number: int) -> None:
    """The account trades at the venue, past this process, in small pieces: two buys, then a sell."""
    me = engine.account("default")
    assert me is not None
    side = Side.SELL if number % 3 == 2 else Side.BUY
    _, bids, asks = engine.depth(market.symbol, 3)
    best = (asks if side is Side.BUY else bids)[0]
    lot = market.lot_size or Decimal(1)
    least = market.min_quantity or lot
    notional = market.min_notional or Decimal(0)
    if notional and market.contract_size is None:
        least = max(least, (notional / best.price // lot + 1) * lot)
    order = NewOrder(
        market=market.symbol,
        side=side,
        type=OrderType.LIMIT,
        quantity=least,
        price=best.price,
        client_order_id=str(9_000_000 + number),  # within every venue's format
    )
    engine.place(me, order)


async def trade_until(engine: MatchingEngine, markets: Sequence[Market], fills: int) -> None:
    """Trade in all markets until the account has so many fills."""
    me = engine.account("default")
    assert me is not None
    numbers = itertools.count(len(engine.orders(me)))
    while len(engine.fills(me)) < fills:
        for market in markets:
            trade(engine, market, next(numbers))
        await anyio.sleep(0.01)


def native(fill: EngineFill, *, fees: bool) -> tuple[Any, ...]:
    fee = (fill.fee, fill.fee_asset) if fees else ()
    return (fill.side, fill.price, fill.quantity, fill.liquidity, *fee)


def told(fill: Fill, *, fees: bool) -> tuple[Any, ...]:
    size = fill.quantity if fill.contracts is None else fill.contracts
    fee = (fill.fee, fill.fee_asset) if fees else ()
    return (fill.side, fill.price, size, fill.liquidity, *fee)


def differences(engine: MatchingEngine, ledger: Ledger, wallets: Sequence[str]) -> list[str]:
    """What of the account is not the engine's, to the last digit."""
    me = engine.account("default")
    assert me is not None
    wrong: list[str] = []
    fills = Counter(fill.market for fill in engine.fills(me))
    for symbol, count in fills.items():
        here = [fill for (market, _), fill in ledger.fills.items() if market == symbol]
        fees = all(fill.fee is not None for fill in here)  # not every way to a fill tells its fee
        mine = sorted(told(fill, fees=fees) for fill in here)
        if len(mine) != count or mine != sorted(native(fill, fees=fees) for fill in engine.fills(me, symbol)):
            wrong.append(f"{symbol}: {len(mine)} fills told, {count} made")
    if ledger.fills.keys() - {(fill.market, key) for (_, key), fill in ledger.fills.items() if fill.market in fills}:
        wrong.append("fills of markets without any")
    for held in engine.balances(me):
        if held.wallet not in wallets:
            continue
        balance = ledger.balances.get((held.wallet, held.asset))
        shown = (balance.total if balance else Decimal(0)).quantize(held.total)
        if shown != (held.total.quantize(CENT) if held.wallet in IN_CENTS else held.total):
            wrong.append(f"{held.wallet} {held.asset}: {balance.total if balance else 0} told, {held.total} held")
        if (
            balance is not None
            and balance.locked is not None
            and balance.locked != held.locked
            and held.wallet not in IN_CENTS
        ):
            wrong.append(f"{held.wallet} {held.asset}: {balance.locked} told as locked, {held.locked} is")
    true = {}
    for position in engine.positions(me):
        side = position.side or (PositionSide.LONG if position.quantity > 0 else PositionSide.SHORT)
        true[position.market, side] = (abs(position.quantity), position.entry_price)
    for key in true.keys() | ledger.positions.keys():
        one = ledger.positions.get(key)
        size = Decimal(0) if one is None else one.quantity if one.contracts is None else one.contracts
        if size != true.get(key, (Decimal(0), None))[0]:
            wrong.append(f"{key}: {size} told, {true.get(key)} held")
        elif one is not None and size and one.entry_price != true[key][1]:
            wrong.append(f"{key}: entry {one.entry_price} told, {true[key][1]} is")
    opened = {(order.market, order.client_order_id) for order in engine.open_orders(me)}
    believed = {key for key, order in ledger.orders.items() if order.status.is_open}
    if opened != believed:
        wrong.append(f"open orders: {believed - opened} told, {opened - believed} not told")
    return wrong


async def settled(engine: MatchingEngine, stream: Any, ledger: Ledger, markets: Sequence[Market]) -> None:
    wallets = sorted({engine.wallet_of(market.symbol) for market in markets})
    try:
        await until(lambda: is_live(stream) and not differences(engine, ledger, wallets), 20.0)
    except TimeoutError:
        raise AssertionError(f"never became true: {differences(engine, ledger, wallets)}") from None
    assert not ledger.repeated
    assert not ledger.revived


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_account_is_true_again_after_its_connection_was_lost_during_500_fills(
    exchange: str, impatient: Any, no_limits: Any
) -> None:
    async with account(exchange, impatient, no_limits, seed=11) as (sandbox, astra, stream, ledger, listed):
        engine = sandbox.engine(exchange)
        markets = one_of_each(listed, engine)
        # Where the account has never traded, and nothing is open, a venue without a call for all fills cannot know.
        for market in markets:
            _, bids, _ = engine.depth(market.symbol, 1)
            far = market.floor_price(bids[0].price * Decimal("0.97"))
            least = market.min_quantity or market.lot_size or Decimal(1)
            if market.min_notional and market.contract_size is None:
                lot = market.lot_size or Decimal(1)
                least = max(least, (market.min_notional / far // lot + 1) * lot)
            field = "quantity" if market.contract_size is None else "contracts"
            size = {field: least * (20 if market.is_inverse else 200)}
            await astra.place_order(market.symbol, OrderRequest(side="BUY", price=far, **size))
        await trade_until(engine, markets, FILLS // 10)
        await sandbox.stop(exchange)
        await trade_until(engine, markets, FILLS // 2)
        await sandbox.start(exchange)
        await trade_until(engine, markets, FILLS * 7 // 10)
        await until(lambda: is_live(stream))
        sandbox.faults(exchange).cut_connection = 0.02
        await trade_until(engine, markets, FILLS)
        sandbox.faults(exchange).cut_connection = 0.0
        await settled(engine, stream, ledger, markets)
        assert all(ledger.lost[status.product] for status in stream.account_status)
        assert len(ledger.fills) >= FILLS
        assert not sandbox.failures(exchange)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_account_whose_events_are_lost_and_disordered_is_true_after_the_next_audit(
    exchange: str, impatient: Any, no_limits: Any
) -> None:
    async with account(exchange, impatient, no_limits, audit_s=2.0, seed=12) as (sandbox, _, stream, ledger, listed):
        engine, faults = sandbox.engine(exchange), sandbox.faults(exchange)
        markets = one_of_each(listed, engine)
        faults.drop_frame = faults.repeat_frame = faults.reorder_frame = 0.05
        await trade_until(engine, markets, FILLS // 2)
        faults.drop_frame = faults.repeat_frame = faults.reorder_frame = 0.0
        await settled(engine, stream, ledger, markets)
        if exchange not in COUNTED:
            assert not sum(ledger.lost.values()), "no connection was lost: the stream was live all the while"
        assert not sandbox.failures(exchange)
