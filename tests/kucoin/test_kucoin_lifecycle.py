"""What is special to this venue, over real sockets: the plugin against the venue's own protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest

from astra import Astra
from astra.errors import DuplicateClientOrderId, OrderNotFound, UnsupportedOperation
from astra.models.accounts import AccountStatus, Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import BookState, UpdateKind
from astra.models.orders import Fill, MarginMode, Order, OrderChange, OrderRequest, OrderStatus, OrderType
from astra.streams.sync import SyncStats
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PRODUCTS = ["spot", "linear", "inverse"]


class Desk(msgspec.Struct):
    """A trader's place: the sandbox, the library pointed at it, a market of each kind, and somebody else to trade
    with."""

    sandbox: Sandbox
    astra: Astra
    markets: dict[str, Market]
    other: Credentials

    async def top(self, market: Market) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)"""
        book = await self.astra.get_orderbook(market.symbol, depth=5)
        return Decimal(str(book.bids[0][0])), Decimal(str(book.asks[0][0]))

    async def away(self, market: Market) -> Decimal:
        """A price at which a bid rests."""
        return market.floor_price((await self.top(market))[0] * Decimal("0.97"))


def amount(market: Market, lots: int) -> dict[str, Decimal]:
    """So many times a notable quantity, as orders of the market want it."""
    if market.is_inverse:
        return {"contracts": Decimal(100) * lots}
    return {"quantity": Decimal("0.01") * lots}


def bid(market: Market, lots: int = 4, **more: Any) -> OrderRequest:
    return OrderRequest.model_validate({"side": "BUY", "type": "LIMIT", **amount(market, lots), **more})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    # Nobody else trades: what the books hold at the start stays.
    async with (
        Sandbox(["KUCOIN"], seed=5, markets=8, pace=0.0) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("KUCOIN")]) as astra,
    ):
        markets: dict[str, Market] = {}
        for market in await astra.list_markets("KUCOIN"):
            kind = "spot" if market.contract_size is None else "inverse" if market.is_inverse else "linear"
            markets.setdefault(kind, market)
        yield Desk(sandbox, astra, markets, sandbox.open_account("KUCOIN", "other"))
        assert not sandbox.failures("KUCOIN")


async def test_books_of_contracts_are_the_engine_s_in_base_units(desk: Desk) -> None:
    for market in desk.markets.values():
        async with desk.astra.stream_orderbook(market.symbol) as stream:
            with anyio.fail_after(10):
                async for _ in stream:
                    if stream.book(market.symbol).state is BookState.LIVE:
                        break
            asked = await desk.astra.get_orderbook(market.symbol, depth=20)
            book = stream.book(market.symbol)
            assert book.bids(20) == list(asked.bids)
            assert book.asks(20) == list(asked.asks)
        if market.is_inverse:
            price, quantity = asked.bids[0]
            assert price * quantity == pytest.approx(round(price * quantity), abs=1e-6)


async def test_a_market_is_found_under_either_name_of_bitcoin(desk: Desk) -> None:
    assert (await desk.astra.market("KUCOIN-PERP-BTC-USDT")).native_symbol == "XBTUSDTM"
    assert (await desk.astra.market("KUCOIN-SPOT-XBT-USDT")).native_symbol == "BTC-USDT"


@pytest.mark.parametrize("product", PRODUCTS)
async def test_conditional_orders_are_found_listed_and_canceled(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    low = await desk.away(market)
    stop = OrderRequest.model_validate({"side": "SELL", "type": "STOP_MARKET", "stop_price": low, **amount(market, 2)})
    placed = await astra.place_order(market.symbol, stop)
    assert placed.id is not None
    assert placed.id.startswith("stop:") is (product == "spot")
    for ref in ({"id": placed.id}, {"client_order_id": placed.client_order_id}):
        found = await astra.get_order(market.symbol, **ref)
        assert (found.stop_price, found.type, found.status) == (low, OrderType.STOP_MARKET, OrderStatus.NEW)
    resting = await astra.place_order(market.symbol, bid(market, price=low))
    assert {order.id for order in await astra.list_orders(market.symbol)} == {placed.id, resting.id}
    canceled = await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
    assert (canceled.status, canceled.type) == (OrderStatus.CANCELED, OrderType.STOP_MARKET)
    await astra.place_order(market.symbol, stop)
    gone = await astra.cancel_all_orders(market.symbol)
    assert sorted(order.type for order in gone) == [OrderType.LIMIT, OrderType.STOP_MARKET]
    assert await astra.list_orders(market.symbol) == []


async def test_an_amendment_on_spot_changes_the_id_and_keeps_the_client_order_id(desk: Desk) -> None:
    market = desk.markets["spot"]
    price = await desk.away(market)
    placed = await desk.astra.place_order(market.symbol, bid(market, price=price))
    change = OrderChange(quantity=Decimal("0.02"))
    amended = await desk.astra.amend_order(market.symbol, change, id=placed.id)
    assert amended.id != placed.id
    assert (amended.client_order_id, amended.quantity) == (placed.client_order_id, Decimal("0.02"))
    for ref in ({"id": placed.id}, {"client_order_id": placed.client_order_id}):
        assert (await desk.astra.get_order(market.symbol, **ref)).id == amended.id
    assert [order.id for order in await desk.astra.list_orders(market.symbol)] == [amended.id]


async def test_a_lost_amendment_ends_in_the_order_as_it_is(desk: Desk) -> None:
    market = desk.markets["spot"]
    price = await desk.away(market)
    faults = desk.sandbox.faults("KUCOIN")
    async with watching(desk) as (events, until):
        placed = await desk.astra.place_order(market.symbol, bid(market, price=price))
        await until(lambda: any(isinstance(e, Order) and e.id == placed.id for e in events))
        faults.lost_answer = 1.0
        amended = await desk.astra.amend_order(
            market.symbol, OrderChange(quantity=Decimal("0.02")), client_order_id=placed.client_order_id
        )
        faults.lost_answer = 0.0
        assert (amended.status, amended.quantity) == (OrderStatus.NEW, Decimal("0.02"))
        assert not any(isinstance(e, Order) and e.status is OrderStatus.CANCELED for e in events)
        await desk.astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
        await until(lambda: any(isinstance(e, Order) and e.status is OrderStatus.CANCELED for e in events))


async def partly_filled(desk: Desk) -> Order:
    """A bid that took all of the best ask, and rests with what is left."""
    market = desk.markets["spot"]
    book = await desk.astra.get_orderbook(market.symbol, depth=5)
    price, size = (Decimal(str(value)) for value in book.asks[0])
    order = OrderRequest.model_validate({"side": "BUY", "type": "LIMIT", "quantity": size + 1, "price": price})
    placed = await desk.astra.place_order(market.symbol, order)
    assert placed.status is OrderStatus.PARTIALLY_FILLED
    return placed


@pytest.mark.parametrize("by", ["id", "client_order_id"])
async def test_a_lost_amendment_of_a_partly_filled_order_ends_in_its_successor(desk: Desk, by: str) -> None:
    """Its cancel half is told, for its fills stay with the old id. It proves nothing of the amendment."""
    market = desk.markets["spot"]
    faults = desk.sandbox.faults("KUCOIN")
    price = await desk.away(market)
    async with watching(desk) as (events, until):
        placed = await partly_filled(desk)
        faults.lost_answer = 1.0
        amended = await desk.astra.amend_order(market.symbol, OrderChange(price=price), **{by: getattr(placed, by)})
        faults.lost_answer = 0.0
        assert (amended.status, amended.price, amended.client_order_id) == (
            OrderStatus.NEW,
            price,
            placed.client_order_id,
        )
        assert amended.id != placed.id
        await until(lambda: any(isinstance(e, Order) and e.id == amended.id for e in events))
        ended = [e for e in events if isinstance(e, Order) and e.status.is_final]
        assert [(order.id, order.filled_quantity) for order in ended] == [(placed.id, placed.filled_quantity)]
        again = bid(market, price=price, client_order_id=placed.client_order_id)
        with pytest.raises(DuplicateClientOrderId):
            await desk.astra.place_order(market.symbol, again)


@pytest.mark.parametrize("by", ["id", "client_order_id"])
async def test_a_lost_change_of_the_quantity_of_a_partly_filled_order_ends_in_its_successor(
    desk: Desk, by: str
) -> None:
    """What was filled counts in the new quantity and is left out of the successor, which never has what was asked."""
    market = desk.markets["spot"]
    faults = desk.sandbox.faults("KUCOIN")
    placed = await partly_filled(desk)
    assert placed.quantity is not None
    faults.lost_answer = 1.0
    wanted = placed.quantity - (market.lot_size or 0)
    amended = await desk.astra.amend_order(market.symbol, OrderChange(quantity=wanted), **{by: getattr(placed, by)})
    faults.lost_answer = 0.0
    assert (amended.status, amended.client_order_id) == (OrderStatus.NEW, placed.client_order_id)
    assert amended.quantity == wanted - placed.filled_quantity
    assert amended.id != placed.id


async def test_the_end_of_what_a_partly_filled_order_became_is_told(desk: Desk) -> None:
    """The amendment by client order id is over with the end of the old id: it covers no later cancel."""
    market = desk.markets["spot"]
    async with watching(desk) as (events, until):
        placed = await partly_filled(desk)
        name = placed.client_order_id
        change = OrderChange(price=await desk.away(market))
        amended = await desk.astra.amend_order(market.symbol, change, client_order_id=name)
        assert amended.id != placed.id
        await desk.astra.cancel_order(market.symbol, id=amended.id)

        def ended() -> list[str | None]:
            return [e.id for e in events if isinstance(e, Order) and e.status is OrderStatus.CANCELED]

        await until(lambda: ended() == [placed.id, amended.id])


async def test_commands_reach_an_amended_order_by_its_earlier_id(desk: Desk) -> None:
    market, astra = desk.markets["spot"], desk.astra
    placed = await astra.place_order(market.symbol, bid(market, price=await desk.away(market)))
    first = await astra.amend_order(market.symbol, OrderChange(quantity=Decimal("0.03")), id=placed.id)
    second = await astra.amend_order(market.symbol, OrderChange(quantity=Decimal("0.02")), id=placed.id)
    assert len({placed.id, first.id, second.id}) == 3
    assert (second.quantity, second.client_order_id) == (Decimal("0.02"), placed.client_order_id)
    canceled = await astra.cancel_order(market.symbol, id=placed.id)
    assert (canceled.id, canceled.status) == (second.id, OrderStatus.CANCELED)
    assert await astra.list_orders(market.symbol) == []


@pytest.mark.parametrize("command", ["cancel", "amend"])
async def test_commands_reach_a_triggered_order_by_its_earlier_id(desk: Desk, command: str) -> None:
    market, astra = desk.markets["spot"], desk.astra
    best_bid, _ = await desk.top(market)
    low = await desk.away(market)
    take = OrderRequest.model_validate(
        {"side": "BUY", "type": "TAKE_PROFIT_LIMIT", "price": low, "stop_price": best_bid, **amount(market, 2)}
    )
    placed = await astra.place_order(market.symbol, take)
    with pytest.raises(UnsupportedOperation, match="conditional"):
        await astra.amend_order(market.symbol, OrderChange(quantity=Decimal("0.01")), id=placed.id)
    sell = OrderRequest.model_validate({"side": "SELL", "type": "LIMIT", "price": best_bid, **amount(market, 1)})
    await astra.place_order(market.symbol, sell, credentials=desk.other)
    (triggered,) = await astra.list_orders(market.symbol)
    assert triggered.id != placed.id
    if command == "amend":
        amended = await astra.amend_order(market.symbol, OrderChange(quantity=Decimal("0.01")), id=placed.id)
        assert (amended.quantity, amended.client_order_id) == (Decimal("0.01"), placed.client_order_id)
    canceled = await astra.cancel_order(market.symbol, id=placed.id)
    assert (canceled.status, canceled.client_order_id) == (OrderStatus.CANCELED, placed.client_order_id)
    assert await astra.list_orders(market.symbol) == []


async def test_quiet_books_of_contracts_are_compared_and_those_of_spot_had_anew() -> None:
    """Nobody trades. The counter of spot's REST is not known to be the stream's: its books cannot be compared."""
    async with Sandbox(["KUCOIN"], seed=5, markets=8, pace=0.0) as sandbox:
        settings = sandbox.settings
        settings["venues"]["KUCOIN"] |= {"book_audit_every_s": 1.0, "book_silence_s": 1.0}
        async with Astra(settings=settings) as astra:
            markets = {market.symbol: market for market in await astra.list_markets("KUCOIN")}
            contracts = [symbol for symbol, market in markets.items() if market.contract_size is not None][:3]
            spot = next(symbol for symbol, market in markets.items() if market.contract_size is None)
            stale: set[str] = set()
            async with astra.stream_orderbook(*contracts, spot) as stream:
                stats: dict[str, SyncStats] = {tap.topic.sync.symbol: tap.topic.sync.stats for tap in stream._taps}
                with anyio.fail_after(15):
                    async for update in stream:
                        if update.kind is UpdateKind.STALE:
                            stale.add(update.market)
                        if stale and all(stats[symbol].audits_passed for symbol in contracts):
                            break
            assert stale == {spot}
            assert not sum(one.audits_failed for one in stats.values())
        assert not sandbox.failures("KUCOIN")


class Watching:
    """The account's stream, read in the background."""

    def __init__(self, desk: Desk) -> None:
        self.events: list[Any] = []
        self._desk = desk
        self._news = anyio.Event()

    async def until(self, told: Callable[[], bool]) -> None:
        with anyio.fail_after(15):
            while not told():
                await self._news.wait()

    async def read(self, stream: Any) -> None:
        async for event in stream:
            self.events.append(event)
            self._news.set()
            self._news = anyio.Event()

    async def __aenter__(self) -> tuple[list[Any], Callable[..., Any]]:
        self._stream = self._desk.astra.stream_account("KUCOIN")
        await self._stream.__aenter__()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self.read, self._stream)
        parts = {"spot", "futures"}
        await self.until(lambda: {e.product for e in self.events if isinstance(e, AccountStatus) and e.live} == parts)
        return self.events, self.until

    async def __aexit__(self, *error: Any) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(*error)
        await self._stream.__aexit__(*error)


def watching(desk: Desk) -> Watching:
    return Watching(desk)


async def test_the_account_s_stream_tells_of_both_products(desk: Desk) -> None:
    async with watching(desk) as (events, until):
        for market in desk.markets.values():
            _, ask = await desk.top(market)
            placed = await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))

            def filled(placed: Order = placed, market: Market = market, ask: Decimal = ask) -> bool:
                fills = [e for e in events if isinstance(e, Fill) and e.order_id == placed.id]
                ends = [e for e in events if isinstance(e, Order) and e.id == placed.id and e.status.is_final]
                held = market.contract_size is None or any(
                    isinstance(e, Position) and e.market == market.symbol and e.contracts for e in events
                )
                return bool(fills and ends and held) and ends[-1].average_price == ask

            await until(filled)
        wallets = {event.wallet for event in events if isinstance(event, Balance)}
        assert wallets == {"spot", "futures"}
        fills = [event for event in events if isinstance(event, Fill)]
        assert len({(fill.market, fill.id) for fill in fills}) == len(fills) == 3


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_triggered_order_goes_on_under_its_client_order_id(desk: Desk, product: str) -> None:
    market = desk.markets[product]
    best_bid, _ = await desk.top(market)
    take = OrderRequest.model_validate(
        {"side": "BUY", "type": "TAKE_PROFIT_LIMIT", "price": best_bid, "stop_price": best_bid, **amount(market, 2)}
    )
    async with watching(desk) as (events, until):
        placed = await desk.astra.place_order(market.symbol, take)
        name = placed.client_order_id
        await until(lambda: any(isinstance(e, Order) and e.client_order_id in (name, None) for e in events))
        # Somebody sells at the best bid: the last price falls to the stop price.
        sell = OrderRequest.model_validate({"side": "SELL", "type": "LIMIT", "price": best_bid, **amount(market, 1)})
        await desk.astra.place_order(market.symbol, sell, credentials=desk.other)

        def known() -> list[Order]:
            return [e for e in events if isinstance(e, Order) and e.client_order_id == name]

        await until(lambda: any(order.id != placed.id or order.type is take.type for order in known()))
        found = await desk.astra.get_order(market.symbol, client_order_id=name)
        assert found.client_order_id == name
        if product == "spot":
            # Also by the id that it had as a conditional order.
            again = await desk.astra.get_order(market.symbol, id=placed.id)
            assert again.id == found.id != placed.id


async def test_margin_mode_and_leverage_go_with_the_orders(desk: Desk) -> None:
    market = desk.markets["linear"]
    _, ask = await desk.top(market)
    await desk.astra.set_margin_mode(market.symbol, MarginMode.CROSS)
    await desk.astra.set_leverage(market.symbol, Decimal(7))
    await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
    (position,) = await desk.astra.get_positions("KUCOIN")
    assert (position.margin_mode, position.leverage) == (MarginMode.CROSS, Decimal(7))


async def test_an_order_that_is_done_cannot_be_canceled(desk: Desk) -> None:
    for market in desk.markets.values():
        _, ask = await desk.top(market)
        placed = await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
        with pytest.raises(OrderNotFound):
            await desk.astra.cancel_order(market.symbol, id=placed.id)
