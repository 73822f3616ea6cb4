"""HTX over real sockets: what is special to it. What every venue must do is checked by the conformance kit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest

from astra import Astra
from astra.errors import InvalidOrder
from astra.models.accounts import Position
from astra.models.markets import Market, MarketStatus
from astra.models.orderbook import BookState
from astra.models.orders import Fill, Order, OrderRequest, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PRODUCTS = ["spot", "linear", "coin_swap", "coin_futures"]


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():
            await anyio.sleep(0.02)


class Desk(msgspec.Struct):
    """A trader's place: the sandbox, the library pointed at it, one market of each product."""

    sandbox: Sandbox
    astra: Astra
    markets: dict[str, Market]

    async def top(self, market: Market) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)"""
        book = await self.astra.get_orderbook(market.symbol, depth=5)
        return Decimal(str(book.bids[0][0])), Decimal(str(book.asks[0][0]))

    async def place(self, market: Market, **fields: Any) -> Order:
        """Place an order and ask what became of it."""
        order = OrderRequest.model_validate(fields)
        placed = await self.astra.place_order(market.symbol, order)
        return await self.astra.get_order(market.symbol, id=placed.id)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    # Nobody else trades: what the books hold at the start stays.
    async with Sandbox(["HUOBI"], seed=5, markets=8, pace=0.0) as sandbox:
        settings = sandbox.settings
        settings["venues"]["HUOBI"] |= {"recv_window_ms": 2500}
        async with Astra(settings=settings, credentials=[sandbox.credentials("HUOBI")]) as astra:
            markets: dict[str, Market] = {}
            for market in await astra.list_markets("HUOBI"):
                markets.setdefault(market.product, market)
            yield Desk(sandbox, astra, markets)
            assert not sandbox.failures("HUOBI")


# -- books --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [pytest.param(0, marks=pytest.mark.slow), 2])
async def test_live_books_are_the_engines(lag: int) -> None:
    """Also where the snapshots that are asked for in band are some frames old."""
    async with Sandbox(["HUOBI"], seed=4, pace=3.0) as sandbox:
        venue: Any = sandbox.venue("HUOBI")
        venue.limits.snapshot_lag = lag
        settings = sandbox.settings
        settings["venues"]["HUOBI"] |= {"book_audit_every_s": 0.5} if not lag else {}
        async with Astra(settings=settings) as astra:
            markets = [m for m in await astra.list_markets("HUOBI") if m.status is MarketStatus.ACTIVE]
            symbols = [m.symbol for m in markets if m.product in ("spot", "linear")][:8]
            stale: list[str] = []
            async with astra.stream_orderbook(*symbols) as stream, anyio.create_task_group() as tasks:

                async def read() -> None:
                    async for update in stream:
                        if update.kind == "STALE":
                            stale.append(update.market)

                tasks.start_soon(read)
                await until(lambda: all(stream.book(symbol).state is BookState.LIVE for symbol in symbols))
                topics = [tap.topic for tap in stream._taps]
                spot = [topic for topic in topics if topic.channel.product == "spot"]
                if not lag:
                    await until(lambda: all(topic.sync.stats.audits_passed for topic in spot))
                    assert not sum(topic.sync.stats.audits_failed for topic in topics)
                sandbox.set_pace("HUOBI", 0.0)
                await anyio.sleep(0.5)  # the last frames come
                engine = sandbox.engine("HUOBI")
                for topic in topics:
                    market = topic.channel.market
                    assert market is not None
                    _, bids, asks = engine.depth(market.symbol, 20)
                    size = float(market.contract_size or 1)
                    for mine, theirs in ((topic.sync.book.bids(20), bids), (topic.sync.book.asks(20), asks)):
                        wanted = [(float(level.price), float(level.quantity) * size) for level in theirs]
                        assert mine == [(price, pytest.approx(quantity)) for price, quantity in wanted]
                tasks.cancel_scope.cancel()
            assert not stale
        assert not sandbox.failures("HUOBI")


# -- orders -------------------------------------------------------------------------------------------------------


async def test_a_market_buy_spends_what_it_says(desk: Desk) -> None:
    market = desk.markets["spot"]
    _, ask = await desk.top(market)
    done = await desk.place(market, side="BUY", type="MARKET", quote_quantity=ask / 100)
    assert (done.status, done.type, done.quote_quantity) == (OrderStatus.FILLED, OrderType.MARKET, ask / 100)
    assert done.filled_quantity == Decimal("0.01")
    assert done.average_price == ask


async def test_conditional_orders_wait_and_are_told_apart(desk: Desk) -> None:
    market = desk.markets["spot"]
    bid, ask = await desk.top(market)
    low, high = market.floor_price(bid * Decimal("0.9")), market.floor_price(ask * Decimal("1.1"))
    for side, kind, at in (
        ("SELL", OrderType.STOP_LIMIT, low),
        ("SELL", OrderType.TAKE_PROFIT_LIMIT, high),
        ("BUY", OrderType.STOP_LIMIT, high),
        ("BUY", OrderType.TAKE_PROFIT_LIMIT, low),
    ):
        placed = await desk.place(market, side=side, type=kind, price=at, stop_price=at, quantity="0.01")
        assert (placed.type, placed.stop_price, placed.status) == (kind, at, OrderStatus.NEW)
    assert len(await desk.astra.list_orders(market.symbol)) == 4
    canceled = await desk.astra.cancel_all_orders(market.symbol)
    assert [order.status for order in canceled] == [OrderStatus.CANCELED] * 4


@pytest.mark.parametrize("product", ["coin_swap", "coin_futures"])
async def test_coin_margined_orders_open_and_close_both_sides(desk: Desk, product: str) -> None:
    market, astra = desk.markets[product], desk.astra
    bid, ask = await desk.top(market)
    await desk.place(market, side="BUY", price=ask, contracts=3, time_in_force="IOC")
    await desk.place(market, side="SELL", price=bid, contracts=2, time_in_force="IOC")

    async def held() -> dict[PositionSide, Decimal | None]:
        return {one.side: one.contracts for one in await astra.get_positions("HUOBI")}

    assert await held() == {PositionSide.LONG: 3, PositionSide.SHORT: 2}
    closing = await desk.place(market, side="SELL", price=bid, contracts=1, time_in_force="IOC", reduce_only=True)
    assert closing.reduce_only
    shorts = {"position_side": "SHORT"}
    await desk.place(market, side="BUY", price=ask, contracts=2, time_in_force="IOC", options=shorts)
    assert await held() == {PositionSide.LONG: 2}
    with pytest.raises(InvalidOrder, match="leverage"):
        await desk.place(market, side="BUY", price=bid, contracts=1, options={"leverage": 7})


async def test_leverage_that_was_set_is_used(desk: Desk) -> None:
    market = desk.markets["coin_swap"]
    _, ask = await desk.top(market)
    await desk.astra.set_leverage(market.symbol, 7)
    await desk.place(market, side="BUY", price=ask, contracts=1, time_in_force="IOC")
    (position,) = await desk.astra.get_positions("HUOBI")
    assert position.leverage == 7


async def test_linear_contracts_know_two_sided_positions(desk: Desk) -> None:
    market, astra = desk.markets["linear"], desk.astra
    bid, ask = await desk.top(market)
    await astra.set_position_mode("HUOBI", hedge=True)
    await desk.place(market, side="BUY", price=ask, contracts=3, time_in_force="IOC", options={"position_side": "LONG"})
    await desk.place(
        market, side="SELL", price=bid, contracts=2, time_in_force="IOC", options={"position_side": "SHORT"}
    )
    held = {one.side: one.contracts for one in await astra.get_positions("HUOBI")}
    assert held == {PositionSide.LONG: 3, PositionSide.SHORT: 2}
    with pytest.raises(InvalidOrder):
        await desk.place(market, side="BUY", price=bid, contracts=1)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_placement_whose_answer_is_lost_is_found(desk: Desk, product: str) -> None:
    market = desk.markets[product]
    bid, _ = await desk.top(market)
    price = market.floor_price(bid * Decimal("0.97"))
    amount = {"quantity": "0.01"} if market.contract_size is None else {"contracts": 2}
    order = OrderRequest.model_validate({"side": "BUY", "price": price, **amount})
    faults = desk.sandbox.faults("HUOBI")
    faults.lost_answer = 1.0
    placed = await desk.astra.place_order(market.symbol, order)
    assert placed.status is OrderStatus.NEW
    faults.lost_answer = 0.0
    assert [one.id for one in await desk.astra.list_orders(market.symbol)] == [placed.id]


@pytest.mark.parametrize("product", PRODUCTS)
async def test_an_account_is_told_of_partial_fills(desk: Desk, product: str) -> None:
    market, astra = desk.markets[product], desk.astra
    engine = desk.sandbox.engine("HUOBI")
    _, _, asks = engine.depth(market.symbol, 1)
    inside = asks[0].price
    engine.house_place(market.symbol, Side.BUY, asks[0].quantity, inside)  # makes room between the best prices
    amount = {"quantity": "0.01"} if market.contract_size is None else {"contracts": 10}
    events: list[Any] = []
    async with astra.stream_account("HUOBI") as account, anyio.create_task_group() as tasks:

        async def read() -> None:
            async for event in account:
                if getattr(event, "market", None) == market.symbol:
                    events.append(event)

        tasks.start_soon(read)
        await until(lambda: all(status.live for status in account.account_status))
        placed = await desk.place(market, side="BUY", price=inside, **amount)
        size = Decimal("0.004") if market.contract_size is None else Decimal(4)
        engine.house_place(market.symbol, Side.SELL, size, inside)
        await until(lambda: any(isinstance(event, Fill) for event in events))
        (fill,) = (event for event in events if isinstance(event, Fill))
        assert (fill.order_id, fill.price, fill.liquidity) == (placed.id, inside, "MAKER")
        orders = [event for event in events if isinstance(event, Order)]
        assert [order.status for order in orders][-1] is OrderStatus.PARTIALLY_FILLED
        assert orders[-1].average_price == inside
        await astra.cancel_order(market.symbol, id=placed.id)
        await until(lambda: events and isinstance(events[-1], Order) and events[-1].status is OrderStatus.CANCELED)
        if product != "spot":
            assert any(isinstance(event, Position) and event.contracts == size for event in events)
        tasks.cancel_scope.cancel()
