"""Orders and accounts of every family over real sockets: the plugin against the venue's own protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest

from astra import Astra
from astra.errors import InsufficientFunds, InvalidOrder, OrderNotFound, OrderOutcomeUnknown
from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRequest, OrderStatus, OrderType, PositionSide
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PRODUCTS = ["spot", "usdm", "coinm", "options"]


class Desk(msgspec.Struct):
    """A trader's place: the sandbox, the library pointed at it, one market of each family."""

    sandbox: Sandbox
    astra: Astra
    markets: dict[str, Market]

    async def top(self, market: Market) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)"""
        book = await self.astra.get_orderbook(market.symbol, depth=5)
        return Decimal(str(book.bids[0][0])), Decimal(str(book.asks[0][0]))

    async def away(self, market: Market) -> Decimal:
        """A price at which a bid rests."""
        return market.floor_price((await self.top(market))[0] * Decimal("0.97"))


def amount(market: Market, lots: int) -> dict[str, Decimal]:
    """So many times the smallest quantity that makes a notable order, as orders of the market want it."""
    if market.product == "coinm":
        return {"contracts": Decimal(lots)}
    return {"quantity": Decimal("0.01") * lots}


def bid(market: Market, lots: int = 4, **more: Any) -> OrderRequest:
    return OrderRequest.model_validate({"side": "BUY", "type": "LIMIT", **amount(market, lots), **more})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    # Nobody else trades: what the books hold at the start stays.
    async with (
        Sandbox(["BINANCE"], seed=5, markets=8, pace=0.0) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("BINANCE")]) as astra,
    ):
        markets: dict[str, Market] = {}
        for market in await astra.list_markets("BINANCE"):
            markets.setdefault(market.product, market)
        yield Desk(sandbox, astra, markets)
        assert not sandbox.failures("BINANCE")


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_resting_order_is_placed_seen_and_canceled(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    price = await desk.away(market)
    placed = await astra.place_order(market.symbol, bid(market, price=price, post_only=True))
    assert (placed.status, placed.post_only, placed.price) == (OrderStatus.NEW, True, price)
    assert placed.client_order_id is not None
    found = await astra.get_order(market.symbol, client_order_id=placed.client_order_id)
    assert found.id == placed.id
    assert (found.quantity, found.contracts) == (placed.quantity, placed.contracts)
    assert [order.id for order in await astra.list_orders(market.symbol)] == [placed.id]
    assert [order.id for order in await astra.list_orders("BINANCE")] == [placed.id]
    canceled = await astra.cancel_order(market.symbol, id=placed.id)
    assert (canceled.status, canceled.client_order_id) == (OrderStatus.CANCELED, placed.client_order_id)
    assert await astra.list_orders("BINANCE") == []
    with pytest.raises(OrderNotFound):
        await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_an_order_that_takes_is_filled_charged_and_held(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    _, ask = await desk.top(market)
    before = {(b.wallet, b.asset): b.total for b in await astra.get_balances("BINANCE")}
    order = bid(market, 1, price=ask, time_in_force="IOC")
    placed = await astra.place_order(market.symbol, order)
    assert placed.status is OrderStatus.FILLED
    (fill,) = await astra.list_fills(market.symbol)
    assert (fill.order_id, fill.price, fill.liquidity) == (placed.id, ask, "TAKER")
    assert fill.fee is not None
    assert fill.fee > 0
    if product == "coinm":
        assert market.contract_size is not None
        assert (fill.contracts, fill.quantity) == (Decimal(1), market.contract_size / ask)
    else:
        assert fill.quantity == Decimal("0.01")
    done = await astra.get_order(market.symbol, id=placed.id)
    assert done.average_price == ask
    assert done.filled_quantity == fill.quantity
    after = {(b.wallet, b.asset): b.total for b in await astra.get_balances("BINANCE")}
    if product == "spot":
        assert after["spot", market.base_asset] - before["spot", market.base_asset] == fill.quantity - fill.fee
        assert before["spot", market.quote_asset] - after["spot", market.quote_asset] == fill.quantity * ask
        assert await astra.get_positions("BINANCE") == []
        return
    wallet = (product, fill.fee_asset or "")
    assert before[wallet] - after[wallet] >= fill.fee
    (position,) = await astra.get_positions("BINANCE")
    assert (position.market, position.side, position.entry_price) == (market.symbol, PositionSide.LONG, ask)
    if product != "usdm":
        assert position.contracts == fill.contracts


@pytest.mark.parametrize("product", ["usdm", "coinm"])
async def test_conditional_orders_live_in_their_own_id_space(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    low = await desk.away(market)
    stop = OrderRequest.model_validate({"side": "SELL", "type": "STOP_MARKET", "stop_price": low, **amount(market, 2)})
    placed = await astra.place_order(market.symbol, stop)
    assert placed.id is not None
    assert placed.id.startswith("algo:")
    assert placed.type is OrderType.STOP_MARKET
    for ref in ({"id": placed.id}, {"client_order_id": placed.client_order_id}):
        assert (await astra.get_order(market.symbol, **ref)).stop_price == low
    resting = await astra.place_order(market.symbol, bid(market, price=low))
    assert {order.id for order in await astra.list_orders(market.symbol)} == {placed.id, resting.id}
    canceled = await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
    assert canceled.status is OrderStatus.CANCELED
    await astra.place_order(market.symbol, stop)
    await astra.cancel_all_orders(market.symbol)
    assert await astra.list_orders(market.symbol) == []


@pytest.mark.parametrize("product", ["usdm", "coinm"])
async def test_a_triggered_order_that_rests_is_listed_once_and_canceled_by_its_first_ids(
    desk: Desk, product: str
) -> None:
    astra, market = desk.astra, desk.markets[product]
    low, (_, ask) = await desk.away(market), await desk.top(market)
    stop = bid(market, 2, type="STOP_LIMIT", stop_price=ask, price=low)
    placed = await astra.place_order(market.symbol, stop)
    await astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
    (listed,) = await astra.list_orders(market.symbol)
    assert (listed.client_order_id, listed.price) == (placed.client_order_id, low)
    assert listed.id != placed.id
    # COIN-M finds a conditional order by its first id while it waits only.
    ref = {"id": placed.id} if product == "usdm" else {"client_order_id": placed.client_order_id}
    assert (await astra.get_order(market.symbol, **ref)).id == listed.id
    canceled = await astra.cancel_order(market.symbol, **ref)
    assert (canceled.id, canceled.status) == (listed.id, OrderStatus.CANCELED)
    assert await astra.list_orders(market.symbol) == []


async def test_amendments_keep_what_each_family_promises(desk: Desk) -> None:
    for product in ("spot", "usdm", "coinm"):
        market = desk.markets[product]
        price = await desk.away(market)
        placed = await desk.astra.place_order(market.symbol, bid(market, 4, price=price))
        smaller = OrderChange.model_validate(amount(market, 2))
        amended = await desk.astra.amend_order(market.symbol, smaller, id=placed.id)
        assert (amended.id, amended.client_order_id) == (placed.id, placed.client_order_id)
        assert amended.price == price
        found = await desk.astra.get_order(market.symbol, client_order_id=placed.client_order_id)
        assert (found.contracts if product == "coinm" else found.quantity) == next(iter(amount(market, 2).values()))
    await desk.astra.cancel_all_orders("BINANCE")
    assert await desk.astra.list_orders("BINANCE") == []


async def test_refusals_of_the_venue_arrive_as_what_they_are(desk: Desk) -> None:
    for product in PRODUCTS:
        market = desk.markets[product]
        _, ask = await desk.top(market)
        with pytest.raises(InvalidOrder) as caught:
            await desk.astra.place_order(market.symbol, bid(market, price=ask, post_only=True))
        assert caught.value.rule == "post-only"
    poor = desk.sandbox.open_account("BINANCE", "poor", {})
    market = desk.markets["spot"]
    with pytest.raises(InsufficientFunds):
        await desk.astra.place_order(market.symbol, bid(market, price=await desk.away(market)), credentials=poor)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_an_order_whose_answer_was_lost_is_found_again(desk: Desk, product: str) -> None:
    market = desk.markets[product]
    price = await desk.away(market)
    faults = desk.sandbox.faults("BINANCE")
    faults.lost_answer = 1.0
    order = bid(market, price=price, client_order_id="lost-1")
    placed: Order | None = None
    try:
        placed = await desk.astra.place_order(market.symbol, order)
    except OrderOutcomeUnknown:
        faults.lost_answer = 0.0
        placed = await desk.astra.resolve_order(market.symbol, "lost-1")
    faults.lost_answer = 0.0
    assert placed is not None
    assert (placed.client_order_id, placed.status) == ("lost-1", OrderStatus.NEW)
    assert [found.client_order_id for found in await desk.astra.list_orders("BINANCE")] == ["lost-1"]


async def test_the_account_streams_of_all_families_tell_what_happens(desk: Desk) -> None:
    events: list[Any] = []
    complete = anyio.Event()

    def is_complete() -> bool:
        filled = {e.market for e in events if isinstance(e, Order) and e.status is OrderStatus.FILLED}
        fills = {e.market for e in events if isinstance(e, Fill)}
        held = {e.market for e in events if isinstance(e, Position) and e.quantity != 0}
        wallets = {e.wallet for e in events if isinstance(e, Balance)}
        everywhere = {market.symbol for market in desk.markets.values()}
        derivatives = everywhere - {desk.markets["spot"].symbol}
        return filled == fills == everywhere and held == derivatives and wallets == set(PRODUCTS)

    async def read(stream: Any) -> None:
        async for event in stream:
            events.append(event)
            if is_complete():
                complete.set()

    async with desk.astra.stream_account("BINANCE") as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)
        with anyio.fail_after(20):
            while not complete.is_set():
                # Connections come up one after the other: orders are placed until each has told of some.
                for market in desk.markets.values():
                    _, ask = await desk.top(market)
                    await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
                with anyio.move_on_after(1.0):
                    await complete.wait()
        tasks.cancel_scope.cancel()
    fills = [event.id for event in events if isinstance(event, Fill) and event.market == desk.markets["usdm"].symbol]
    assert len(fills) == len(set(fills))
