"""Books, orders and accounts of every product over real sockets: the plugin against the venue's own protocol."""

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
from astra.models.orderbook import BookState
from astra.models.orders import (
    Fill,
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
)
from astra.symbols import AssetType
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
SPOT, LINEAR, INVERSE, OPTION = "spot", "linear", "inverse", "option"
ALL = [SPOT, LINEAR, INVERSE, OPTION]
NAMED = {
    SPOT: "KRAKEN-SPOT-BTC-USD",
    LINEAR: "KRAKEN-PERP-XBT-USD",
    INVERSE: "KRAKEN-PERP-XBT-USD-COINM",
}


class Desk(msgspec.Struct):
    """A trader's place: the sandbox, the library pointed at it, one market of each kind."""

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

    async def settled(self, market: Market, order: Order) -> Order:
        """The order as the venue knows it now: Spot's answers to placements tell nothing of fills."""
        return await self.astra.get_order(market.symbol, client_order_id=order.client_order_id)


def amount(market: Market, lots: int) -> dict[str, Decimal]:
    """So many times a small quantity, as orders of the market want it."""
    if market.is_inverse:
        return {"contracts": Decimal(lots)}
    return {"quantity": Decimal("0.01") * lots}


def bid(market: Market, lots: int = 4, **more: Any) -> OrderRequest:
    return OrderRequest.model_validate({"side": "BUY", "type": "LIMIT", **amount(market, lots), **more})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    # Nobody else trades: what the books hold at the start stays.
    async with (
        Sandbox(["KRAKEN"], seed=5, pace=0.0) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("KRAKEN")]) as astra,
    ):
        listed = {market.symbol: market for market in await astra.list_markets("KRAKEN")}
        markets = {kind: listed[symbol] for kind, symbol in NAMED.items()}
        markets[OPTION] = next(one for one in listed.values() if one.asset_type is AssetType.OPT)
        yield Desk(sandbox, astra, markets)
        assert not sandbox.failures("KRAKEN")


async def test_every_listed_market_is_understood(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    listed = await desk.astra.list_markets("KRAKEN")
    assert {market.asset_type for market in listed} == set(AssetType)
    assert {"KRAKEN-SPOT-AAPLx-USD", "KRAKEN-SPOT-DOGE-USD", "KRAKEN-PERP-PEPE-USD"} <= {one.symbol for one in listed}
    assert not [record for record in caplog.records if "left out" in record.message]


@pytest.mark.parametrize("kind", ALL)
async def test_a_resting_order_is_placed_seen_and_canceled(desk: Desk, kind: str) -> None:
    astra, market = desk.astra, desk.markets[kind]
    price = await desk.away(market)
    placed = await astra.place_order(market.symbol, bid(market, price=price, post_only=True))
    assert (placed.status, placed.post_only, placed.price) == (OrderStatus.NEW, True, price)
    assert placed.client_order_id is not None
    found = await astra.get_order(market.symbol, client_order_id=placed.client_order_id)
    assert found.id == placed.id
    assert (found.quantity, found.contracts) == (placed.quantity, placed.contracts)
    assert [order.id for order in await astra.list_orders(market.symbol)] == [placed.id]
    assert [order.id for order in await astra.list_orders("KRAKEN")] == [placed.id]
    canceled = await astra.cancel_order(market.symbol, id=placed.id)
    assert (canceled.status, canceled.client_order_id) == (OrderStatus.CANCELED, placed.client_order_id)
    assert await astra.list_orders("KRAKEN") == []
    with pytest.raises(OrderNotFound):
        await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
    done = await astra.get_order(market.symbol, client_order_id=placed.client_order_id)
    assert (done.status, done.id) == (OrderStatus.CANCELED, placed.id)


async def test_an_order_by_amount_is_told_with_what_it_bought(desk: Desk) -> None:
    market = desk.markets[SPOT]
    wanted = OrderRequest.model_validate({"side": "BUY", "type": "MARKET", "quote_quantity": "500"})
    done = await desk.settled(market, await desk.astra.place_order(market.symbol, wanted))
    fills = await desk.astra.list_fills(market.symbol)
    assert (done.status, done.quote_quantity, done.quantity) == (OrderStatus.FILLED, 500, None)
    assert done.filled_quantity == sum(fill.quantity for fill in fills)


@pytest.mark.parametrize("kind", ALL)
async def test_an_order_that_takes_is_filled_charged_and_held(desk: Desk, kind: str) -> None:
    astra, market = desk.astra, desk.markets[kind]
    _, ask = await desk.top(market)
    before = {(b.wallet, b.asset): b.total for b in await astra.get_balances("KRAKEN")}
    placed = await astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
    done = await desk.settled(market, placed)
    assert (done.status, done.average_price) == (OrderStatus.FILLED, ask)
    (fill,) = await astra.list_fills(market.symbol)
    assert (fill.order_id, fill.price, fill.liquidity) == (placed.id, ask, "TAKER")
    assert fill.quantity == (Decimal(1) / ask if kind == INVERSE else Decimal("0.01"))
    assert done.filled_quantity == fill.quantity
    after = {(b.wallet, b.asset): b.total for b in await astra.get_balances("KRAKEN")}
    if kind == SPOT:
        assert fill.fee is not None
        assert fill.fee > 0
        assert after["spot", "BTC"] - before["spot", "BTC"] == fill.quantity
        assert before["spot", "USD"] - after["spot", "USD"] == fill.quantity * ask + fill.fee
        assert await astra.get_positions("KRAKEN") == []
        return
    assert placed.status is OrderStatus.FILLED
    assert placed.average_price == ask
    wallet = ("fi_xbtusd", "BTC") if kind == INVERSE else ("flex", "USD")
    assert before[wallet] > after[wallet], "the fee was taken out of the contract's wallet"
    (position,) = await astra.get_positions("KRAKEN")
    assert (position.market, position.side, position.entry_price) == (market.symbol, PositionSide.LONG, ask)
    assert position.contracts == fill.contracts
    assert position.mark_price is not None
    assert position.quantity == market.base_quantity(fill.contracts or Decimal(0), position.mark_price)


@pytest.mark.parametrize("kind", ALL)
async def test_an_order_that_is_filled_in_part_and_canceled_adds_up(desk: Desk, kind: str) -> None:
    astra, market = desk.astra, desk.markets[kind]
    book = await astra.get_orderbook(market.symbol, depth=1)
    ask, there = Decimal(str(book.asks[0][0])), Decimal(str(book.asks[0][1]))
    lot = market.lot_size or Decimal(1)
    if kind == INVERSE:
        offered = round(there * ask)
        wanted: dict[str, Decimal] = {"contracts": Decimal(offered + 5)}
    else:
        offered = there
        wanted = {"quantity": (there // lot) * lot + 5 * lot}
    order = OrderRequest.model_validate({"side": "BUY", "type": "LIMIT", "price": ask, **wanted})
    placed = await astra.place_order(market.symbol, order)
    found = await desk.settled(market, placed)
    assert found.status is OrderStatus.PARTIALLY_FILLED
    assert (found.filled_contracts if kind == INVERSE else found.filled_quantity) == offered
    assert found.average_price == ask
    await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
    done = await desk.settled(market, placed)
    assert done.status is OrderStatus.CANCELED
    assert done.filled_quantity == found.filled_quantity
    fills = await astra.list_fills(market.symbol)
    if kind == INVERSE:
        assert sum(fill.contracts or 0 for fill in fills) == done.filled_contracts
    else:
        assert sum(fill.quantity for fill in fills) == done.filled_quantity


@pytest.mark.parametrize("kind", [SPOT, LINEAR, INVERSE])
async def test_conditional_orders_wait_and_are_canceled(desk: Desk, kind: str) -> None:
    astra, market = desk.astra, desk.markets[kind]
    low = await desk.away(market)
    for order_type in ("STOP_MARKET", "STOP_LIMIT"):
        terms = {"side": "SELL", "type": order_type, "stop_price": low, **amount(market, 2)}
        if order_type == "STOP_LIMIT":
            terms["price"] = low
        placed = await astra.place_order(market.symbol, OrderRequest.model_validate(terms))
        assert (placed.type, placed.status) == (OrderType(order_type), OrderStatus.NEW)
        for ref in ({"id": placed.id}, {"client_order_id": placed.client_order_id}):
            found = await astra.get_order(market.symbol, **ref)
            assert (found.stop_price, found.type, found.status) == (low, OrderType(order_type), OrderStatus.NEW)
        (listed,) = await astra.list_orders(market.symbol)
        assert (listed.id, listed.stop_price) == (placed.id, low)
        canceled = await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
        assert canceled.status is OrderStatus.CANCELED
    assert await astra.list_orders(market.symbol) == []


async def test_amendments_keep_the_order_and_its_ids(desk: Desk) -> None:
    for kind in (SPOT, LINEAR, INVERSE):
        market = desk.markets[kind]
        price = await desk.away(market)
        placed = await desk.astra.place_order(market.symbol, bid(market, 4, price=price))
        lower = market.floor_price(price * Decimal("0.99"))
        change = OrderChange.model_validate({"price": lower, **amount(market, 2)})
        amended = await desk.astra.amend_order(market.symbol, change, id=placed.id)
        assert (amended.id, amended.client_order_id) == (placed.id, placed.client_order_id)
        assert amended.price == lower
        found = await desk.astra.get_order(market.symbol, client_order_id=placed.client_order_id)
        assert (found.contracts if kind == INVERSE else found.quantity) == next(iter(amount(market, 2).values()))
    await desk.astra.cancel_all_orders("KRAKEN")
    assert await desk.astra.list_orders("KRAKEN") == []


@pytest.mark.parametrize("kind", [SPOT, LINEAR])
async def test_batches_say_of_each_order_what_became_of_it(desk: Desk, kind: str) -> None:
    astra, market = desk.astra, desk.markets[kind]
    price, (_, ask) = await desk.away(market), await desk.top(market)
    orders = [bid(market, 1, price=price), bid(market, 1, price=ask, post_only=True), bid(market, 2, price=price)]
    results = await astra.place_orders([(market.symbol, order) for order in orders])
    assert isinstance(results[0], Order)
    assert isinstance(results[2], Order)
    if kind == LINEAR:
        assert isinstance(results[1], InvalidOrder)
    assert {order.id for order in await astra.list_orders("KRAKEN")} == {results[0].id, results[2].id}
    refs = [OrderRef(client_order_id=results[0].client_order_id), OrderRef(id=results[2].id)]
    canceled = await astra.cancel_orders([(market.symbol, ref) for ref in refs])
    assert [one.status for one in canceled if isinstance(one, Order)] == [OrderStatus.CANCELED] * 2
    assert await astra.list_orders("KRAKEN") == []


@pytest.mark.parametrize("kind", [SPOT, INVERSE])
async def test_one_market_s_orders_are_canceled_and_no_others(desk: Desk, kind: str) -> None:
    astra, market = desk.astra, desk.markets[kind]
    other = desk.markets[LINEAR if kind == INVERSE else SPOT]
    if kind == SPOT:
        listed = {one.symbol: one for one in await astra.list_markets("KRAKEN")}
        other = listed["KRAKEN-SPOT-ETH-USD"]
    price = await desk.away(market)
    for _ in range(3):
        await astra.place_order(market.symbol, bid(market, 1, price=price))
    kept = await astra.place_order(other.symbol, bid(other, 1, price=await desk.away(other)))
    canceled = await astra.cancel_all_orders(market.symbol)
    assert [order.status for order in canceled] == [OrderStatus.CANCELED] * 3
    assert [order.id for order in await astra.list_orders("KRAKEN")] == [kept.id]


async def test_refusals_of_the_venue_arrive_as_what_they_are(desk: Desk) -> None:
    for kind in (LINEAR, INVERSE, OPTION):
        market = desk.markets[kind]
        _, ask = await desk.top(market)
        with pytest.raises(InvalidOrder) as caught:
            await desk.astra.place_order(market.symbol, bid(market, price=ask, post_only=True))
        assert caught.value.rule == "post-only"
    poor = desk.sandbox.open_account("KRAKEN", "poor", {})
    for kind in (SPOT, LINEAR):
        market = desk.markets[kind]
        price = await desk.away(market)
        with pytest.raises(InsufficientFunds):
            await desk.astra.place_order(market.symbol, bid(market, price=price), credentials=poor)


async def test_a_post_only_order_that_would_take_ends_refused_on_spot(desk: Desk) -> None:
    """REST gives it an id before the book refuses it."""
    market = desk.markets[SPOT]
    _, ask = await desk.top(market)
    placed = await desk.astra.place_order(market.symbol, bid(market, price=ask, post_only=True))
    assert (await desk.settled(market, placed)).status is OrderStatus.REJECTED


async def test_fees_leverage_and_margin_mode(desk: Desk) -> None:
    for kind in (SPOT, LINEAR):
        (fees,) = await desk.astra.get_fees(desk.markets[kind].symbol)
        assert Decimal(0) <= fees.taker < Decimal("0.01")
        assert fees.maker <= fees.taker
    market = desk.markets[LINEAR]
    await desk.astra.set_leverage(market.symbol, Decimal(5))
    _, ask = await desk.top(market)
    await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
    (position,) = await desk.astra.get_positions("KRAKEN")
    assert (position.leverage, position.margin_mode) == (5, MarginMode.ISOLATED)


@pytest.mark.parametrize("kind", [SPOT, LINEAR, INVERSE])
async def test_an_order_whose_answer_was_lost_is_found_again(desk: Desk, kind: str) -> None:
    market = desk.markets[kind]
    price = await desk.away(market)
    faults = desk.sandbox.faults("KRAKEN")
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
    assert [found.client_order_id for found in await desk.astra.list_orders("KRAKEN")] == ["lost-1"]


@pytest.mark.parametrize("feed", ["v1", "unified"])
async def test_live_books_of_all_products_run(feed: str) -> None:
    """That they equal the engine's, under faults too, is what the conformance kit shows."""
    async with (
        Sandbox(["KRAKEN"], seed=7) as sandbox,
        Astra(
            settings={"venues": {"KRAKEN": {**sandbox.settings["venues"]["KRAKEN"], "derivatives_feed": feed}}}
        ) as astra,
    ):
        symbols = [*NAMED.values(), "KRAKEN-SPOT-SOL-USD", "KRAKEN-PERP-PEPE-USD", "KRAKEN-SPOT-AAPLx-USD"]
        seen: set[str] = set()
        async with astra.stream_orderbook(*symbols) as stream:
            with anyio.fail_after(20):
                async for update in stream:
                    if update.bids or update.asks:
                        seen.add(update.market)
                    if len(seen) == len(symbols) and all(
                        stream.book(symbol).state is BookState.LIVE for symbol in symbols
                    ):
                        break
            for symbol in symbols:
                book = stream.book(symbol)
                assert book.best_bid is not None
                assert book.best_ask is not None
                assert book.best_bid[0] < book.best_ask[0]


async def test_the_account_streams_of_both_families_tell_what_happens(desk: Desk) -> None:
    events: list[Any] = []
    complete = anyio.Event()
    traded = [desk.markets[kind] for kind in (SPOT, LINEAR, INVERSE)]

    def is_complete() -> bool:
        filled = {e.market for e in events if isinstance(e, Order) and e.status is OrderStatus.FILLED}
        fills = {e.market for e in events if isinstance(e, Fill)}
        held = {e.market for e in events if isinstance(e, Position) and e.quantity != 0}
        wallets = {e.wallet for e in events if isinstance(e, Balance)}
        everywhere = {market.symbol for market in traded}
        derivatives = everywhere - {desk.markets[SPOT].symbol}
        return filled == fills == everywhere and held == derivatives and {"spot", "flex", "fi_xbtusd"} <= wallets

    async def read(stream: Any) -> None:
        async for event in stream:
            events.append(event)
            if is_complete():
                complete.set()

    async with desk.astra.stream_account("KRAKEN") as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)
        with anyio.fail_after(20):
            while not complete.is_set():
                # Connections come up one after the other: orders are placed until each has told of some.
                for market in traded:
                    _, ask = await desk.top(market)
                    await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
                with anyio.move_on_after(1.0):
                    await complete.wait()
        tasks.cancel_scope.cancel()
    for market in traded:
        fills = [event for event in events if isinstance(event, Fill) and event.market == market.symbol]
        assert len(fills) == len({fill.id for fill in fills})
        assert all(fill.fee is not None and fill.fee > 0 for fill in fills)
