"""What is special to Coinbase, over real sockets: two names of one book, streams that tell half, ids that change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest

from astra import Astra
from astra.errors import InsufficientFunds, OrderOutcomeUnknown
from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orderbook import BookState, UpdateKind
from astra.models.orders import Fill, Order, OrderRequest, OrderStatus, OrderType
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
USD, USDC = "COINBASE-SPOT-BTC-USD", "COINBASE-SPOT-BTC-USDC"
FUTURE, LINEAR = "COINBASE-PERP-BTC-USD-BIP", "COINBASE-PERP-AAVE-USDC"
INVERSE, OPTION = "COINBASE-PERP-BTC-USD-COINM", "COINBASE-OPT-ETH-USD-270625-3000-P-COINM"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Desk(msgspec.Struct):
    """A trader's place: the sandbox, and the library pointed at it."""

    sandbox: Sandbox
    astra: Astra

    async def top(self, symbol: str) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)"""
        book = await self.astra.get_orderbook(symbol, depth=5)
        return Decimal(str(book.bids[0][0])), Decimal(str(book.asks[0][0]))

    async def market(self, symbol: str) -> Market:
        return await self.astra.market(symbol)

    async def order(self, symbol: str, side: str = "BUY", lots: int = 1, **more: Any) -> OrderRequest:
        market = await self.market(symbol)
        size = {"quantity": Decimal("0.01") * lots} if market.contract_size is None else {"contracts": lots}
        return OrderRequest.model_validate({"side": side, **size, **more})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    # Nobody else trades: what the books hold at the start stays.
    async with (
        Sandbox(["COINBASE"], seed=5, pace=0.0) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("COINBASE")]) as astra,
    ):
        yield Desk(sandbox, astra)
        assert not sandbox.failures("COINBASE")


async def until(stream: Any, enough: Callable[[list[Any]], bool], items: list[Any]) -> None:
    """Read until it is enough."""
    with anyio.fail_after(15):
        while not enough(items):
            items.append(await anext(stream))


async def test_both_names_of_a_book_show_an_order_and_each_is_paid_from_its_own_wallet(desk: Desk) -> None:
    bid, _ = await desk.top(USD)
    price = bid + Decimal("0.02")
    async with desk.astra.stream_orderbook(USD, USDC) as stream:
        updates: list[Any] = []
        await until(stream, lambda items: len(items) >= 2, updates)
        placed = await desk.astra.place_order(USDC, await desk.order(USDC, price=price))
        await until(stream, lambda items: len([u for u in items if u.kind is UpdateKind.UPDATE]) >= 2, updates)
        assert stream.book(USD).best_bid == stream.book(USDC).best_bid == (float(price), 0.01)
    assert placed.market == USDC
    (held,) = await desk.astra.list_orders("COINBASE")
    assert (held.market, held.id) == (USDC, placed.id)
    balances = {(b.wallet, b.asset): b for b in await desk.astra.get_balances("COINBASE")}
    assert balances["spot", "USDC"].locked
    assert not balances["spot", "USD"].locked
    poor = desk.sandbox.open_account("COINBASE", "poor", {"spot": {"USD": Decimal(100_000)}})
    with pytest.raises(InsufficientFunds):
        await desk.astra.place_order(USDC, await desk.order(USDC, price=price), credentials=poor)


async def test_a_lost_frame_makes_all_books_of_its_connection_stale_and_right_again(desk: Desk) -> None:
    async with desk.astra.stream_orderbook(USD, FUTURE) as stream:
        updates: list[Any] = []
        await until(stream, lambda items: len(items) >= 2, updates)
        desk.sandbox.faults("COINBASE").lose_next_with = "heartbeat_counter"
        await until(
            stream, lambda items: {u.market for u in items if u.kind is UpdateKind.STALE} == {USD, FUTURE}, updates
        )
        updates.clear()
        await until(stream, lambda items: {u.market for u in items} == {USD, FUTURE}, updates)
        assert {stream.book(symbol).state for symbol in (USD, FUTURE)} == {BookState.LIVE}


async def test_a_market_buy_by_amount_is_filled_in_whole_lots(desk: Desk) -> None:
    request = {"side": "BUY", "type": "MARKET", "quote_quantity": "100"}
    placed = await desk.astra.place_order(USD, OrderRequest.model_validate(request))
    done = await desk.astra.get_order(USD, id=placed.id)
    (fill,) = await desk.astra.list_fills(USD)
    assert (done.status, done.quote_quantity) == (OrderStatus.FILLED, 100)
    assert fill.quantity == done.filled_quantity
    assert fill.quantity % Decimal("1E-8") == 0


async def test_the_account_streams_tell_fills_balances_and_positions_of_every_product(desk: Desk) -> None:
    symbols = (USDC, FUTURE, LINEAR, INVERSE, OPTION)
    events: list[Any] = []

    def complete(items: list[Any]) -> bool:
        fills = {e.market for e in items if isinstance(e, Fill)}
        filled = {e.market for e in items if isinstance(e, Order) and e.status is OrderStatus.FILLED}
        held = {e.market for e in items if isinstance(e, Position) and e.contracts}
        paid = {e.asset for e in items if isinstance(e, Balance) and e.wallet == "spot" and placed}
        return fills == filled == set(symbols) and held == set(symbols) - {USDC} and {"BTC", "USDC"} <= paid

    placed: list[Order] = []
    async with desk.astra.stream_account("COINBASE") as stream:
        await until(stream, lambda items: all(status.live for status in stream.account_status), events)
        events.clear()
        for symbol in symbols:
            _, ask = await desk.top(symbol)
            placed.append(await desk.astra.place_order(symbol, await desk.order(symbol, price=ask)))
        await until(stream, complete, events)
        fills = [event for event in events if isinstance(event, Fill)]
        assert sorted(str(fill.order_id) for fill in fills) == sorted(str(order.id) for order in placed)
        assert len(fills) == len({fill.id for fill in fills})


@pytest.mark.parametrize("symbol", [USD, LINEAR])
async def test_the_stream_tells_a_take_profit_from_a_stop(desk: Desk, symbol: str) -> None:
    market = await desk.market(symbol)
    bid, ask = await desk.top(symbol)
    low, high = market.floor_price(bid * Decimal("0.9")), market.floor_price(ask * Decimal("1.1"))
    events: list[Any] = []
    async with desk.astra.stream_account("COINBASE") as stream:
        await until(stream, lambda items: all(status.live for status in stream.account_status), events)
        events.clear()
        for kind, trigger in (("STOP_LIMIT", low), ("TAKE_PROFIT_LIMIT", high)):
            order = await desk.order(symbol, "SELL", type=kind, price=trigger, stop_price=trigger)
            await desk.astra.place_order(symbol, order)
        await until(stream, lambda items: len({e.id for e in items if isinstance(e, Order)}) == 2, events)
    told = {event.stop_price: event.type for event in events if isinstance(event, Order)}
    assert told == {low: OrderType.STOP_LIMIT, high: OrderType.TAKE_PROFIT_LIMIT}
    found = {order.stop_price: order.type for order in await desk.astra.list_orders(symbol)}
    assert found == told
    await desk.astra.cancel_all_orders(symbol)
    assert await desk.astra.list_orders("COINBASE") == []


@pytest.mark.parametrize("symbol", [USDC, FUTURE, INVERSE])
async def test_an_order_whose_answer_was_lost_is_found_again(desk: Desk, symbol: str) -> None:
    market = await desk.market(symbol)
    price = market.floor_price((await desk.top(symbol))[0] * Decimal("0.97"))
    await desk.astra.list_orders(symbol)
    faults = desk.sandbox.faults("COINBASE")
    faults.lost_answer = 1.0
    order = await desk.order(symbol, price=price, client_order_id="lost-1")
    try:
        placed: Any = await desk.astra.place_order(symbol, order)
    except OrderOutcomeUnknown:
        faults.lost_answer = 0.0
        placed = await desk.astra.resolve_order(symbol, "lost-1")
    faults.lost_answer = 0.0
    assert isinstance(placed, Order)
    assert (placed.client_order_id, placed.status) == ("lost-1", OrderStatus.NEW)
    assert [found.client_order_id for found in await desk.astra.list_orders("COINBASE")] == ["lost-1"]
