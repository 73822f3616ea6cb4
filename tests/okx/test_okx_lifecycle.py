"""OKX over real sockets: what is special to it. What every venue must do is checked by the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from astra import Astra, OrderRequest
from astra.models.markets import MarketStatus
from astra.models.orderbook import BookState
from astra.models.orders import Order, OrderStatus, OrderType
from astra.models.trades import Side
from astra_okx.settings import ALGO
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():
            await anyio.sleep(0.02)


async def test_books_outlive_maintenance_and_are_compared_with_snapshots() -> None:
    async with Sandbox(["OKX"], seed=4, pace=3.0) as sandbox:
        settings = sandbox.settings
        settings["venues"]["OKX"] |= {"book_audit_every_s": 1.0, "book_silence_s": 1.0}
        async with Astra(settings=settings) as astra:
            symbols = [m.symbol for m in await astra.list_markets("OKX") if m.status is MarketStatus.ACTIVE][:6]
            async with astra.stream_orderbook(*symbols) as stream, anyio.create_task_group() as tasks:
                stale: list[str] = []

                async def read() -> None:
                    async for update in stream:
                        if update.kind == "STALE":
                            stale.append(update.market)

                tasks.start_soon(read)
                await until(lambda: all(stream.book(symbol).state is BookState.LIVE for symbol in symbols))
                venue: Any = sandbox.venue("OKX")
                for symbol in symbols:
                    venue.reset_sequence(symbol)
                stats = [tap.topic.sync.stats for tap in stream._taps]
                await until(lambda: all(one.audits_passed > 1 for one in stats))
                assert not stale
                assert not sum(one.audits_failed for one in stats)
                tasks.cancel_scope.cancel()
        assert not sandbox.failures("OKX")


async def test_a_stop_that_was_triggered_and_filled_is_open_in_neither_stream() -> None:
    """It rests between: the stream of conditional orders says nothing when the order that it became is filled."""
    async with Sandbox(["OKX"], seed=4, pace=0.0) as sandbox:
        engine = sandbox.engine("OKX")
        async with Astra(settings=sandbox.settings, credentials=[sandbox.credentials("OKX")]) as astra:
            symbol = "OKX-PERP-BTC-USDT"
            lot = next(m for m in await astra.list_markets("OKX") if m.symbol == symbol).min_quantity
            assert lot is not None
            told: list[Order] = []
            async with astra.stream_account("OKX") as stream, anyio.create_task_group() as tasks:

                async def read() -> None:
                    async for event in stream:
                        if isinstance(event, Order):
                            told.append(event)

                def open_orders() -> list[str | None]:
                    return [order.id for tap in stream._taps for order in tap.topic.keeper.state.open_orders()]

                def compared() -> int:
                    """When the stream of conditional orders was compared with the venue."""
                    return next(s.reconciled_time or 0 for s in stream.account_status if s.product == ALGO)

                def crowd_sells_down_to(price: Any) -> None:
                    """So that its last trade is there."""
                    _, bids, _ = engine.depth(symbol, 50)
                    engine.house_place(symbol, Side.SELL, sum(b.quantity for b in bids if b.price > price) + lot, price)

                tasks.start_soon(read)
                await until(lambda: all(status.live for status in stream.account_status))
                _, bids, asks = engine.depth(symbol, 50)
                crowd_sells_down_to(bids[0].price)
                request = OrderRequest(
                    side=Side.SELL,
                    type=OrderType.STOP_LIMIT,
                    quantity=lot,
                    stop_price=bids[3].price,
                    price=asks[3].price,
                    client_order_id="mine",
                )
                placed = await astra.place_order(symbol, request)
                await until(lambda: open_orders() == [placed.id])
                crowd_sells_down_to(bids[3].price)
                triggered = compared()
                await until(lambda: len(open_orders()) == 2 and compared() > triggered)
                assert len(open_orders()) == 2, "the order rests"
                ahead = sum(ask.quantity for ask in engine.depth(symbol, 50)[2] if ask.price <= asks[3].price)
                engine.house_place(symbol, Side.BUY, ahead, asks[3].price)
                await until(lambda: not open_orders())  # an audit comes every quarter of an hour
                tasks.cancel_scope.cancel()
            first = next(number for number, order in enumerate(told) if order.status is OrderStatus.FILLED)
            assert {order.status for order in told[first:]} == {OrderStatus.FILLED}
            assert {order.client_order_id for order in told} == {"mine"}
        assert not sandbox.failures("OKX")
