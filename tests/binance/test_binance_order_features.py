"""Every feature of an order in every family: it works, or it is refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest

from astra import Astra
from astra.errors import InvalidOrder, OrderNotFound, UnsupportedOperation
from astra.models.accounts import AccountStatus
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRef, OrderRequest, OrderStatus, TimeInForce
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
SPOT, USDM, COINM, OPTIONS = PRODUCTS = ("spot", "usdm", "coinm", "options")
NAMES = {SPOT: "Spot", USDM: "USD-M futures", COINM: "COIN-M futures", OPTIONS: "[Oo]ptions"}


class Desk(msgspec.Struct):
    """One market of each family, with books that stand still."""

    sandbox: Sandbox
    astra: Astra
    markets: dict[str, Market]
    product: str = SPOT

    @property
    def market(self) -> Market:
        return self.markets[self.product]

    def prices(self) -> tuple[Decimal, Decimal]:
        """(a bid that rests, the best ask)"""
        _, bids, asks = self.sandbox.engine("BINANCE").depth(self.market.symbol, 1)
        return self.market.floor_price(bids[0].price * Decimal("0.97")), asks[0].price

    def size(self, lots: int = 4) -> dict[str, Any]:
        return {"contracts": Decimal(lots)} if self.product == COINM else {"quantity": Decimal("0.01") * lots}

    async def place(self, **fields: Any) -> Order:
        """A bid that rests, unless told otherwise."""
        order = {"side": "BUY", "price": self.prices()[0], **self.size(), **fields}
        if "quote_quantity" in fields:
            order = {name: value for name, value in order.items() if name not in ("quantity", "contracts")}
        given = {name: value for name, value in order.items() if value is not None}
        return await self.astra.place_order(self.market.symbol, OrderRequest.model_validate(given))

    async def status(self, order: Order) -> OrderStatus:
        return (await self.astra.get_order(order.market, client_order_id=order.client_order_id)).status


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with (
        Sandbox(["BINANCE"], seed=5, markets=8, pace=0.0) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("BINANCE")]) as astra,
    ):
        markets: dict[str, Market] = {}
        for market in await astra.list_markets("BINANCE"):
            markets.setdefault(market.product, market)
        yield Desk(sandbox, astra, markets)
        assert not sandbox.failures("BINANCE")


Feature = Callable[[Desk], Awaitable[None]]
FEATURES: dict[str, tuple[tuple[str, ...], Feature]] = {}


def feature(*products: str) -> Callable[[Feature], Feature]:
    """A feature that these families have; the others must refuse it by name."""

    def registered(work: Feature) -> Feature:
        FEATURES[work.__name__] = (products or PRODUCTS, work)
        return work

    return registered


@feature(USDM, COINM)
async def margin_mode(desk: Desk) -> None:
    await desk.astra.set_margin_mode(desk.market.symbol, "ISOLATED")
    await desk.astra.set_margin_mode(desk.market.symbol, "ISOLATED")  # before there is a position


@feature()
async def limit_orders(desk: Desk) -> None:
    assert (await desk.place()).status is OrderStatus.NEW


@feature()
async def immediate_or_cancel(desk: Desk) -> None:
    ended = (await desk.place(time_in_force="IOC")).status
    assert ended is (OrderStatus.CANCELED if desk.product == OPTIONS else OrderStatus.EXPIRED)


@feature()
async def fill_or_kill(desk: Desk) -> None:
    placed = await desk.place(time_in_force="FOK", price=desk.prices()[1], **desk.size(1))
    assert await desk.status(placed) is OrderStatus.FILLED


@feature(USDM)
async def good_till_date(desk: Desk) -> None:
    expires = (desk.astra.clock.wall_ns() // 10**9 + 700) * 1000
    placed = await desk.place(time_in_force="GTD", expire_time=expires)
    assert placed.time_in_force is TimeInForce.GTD
    with pytest.raises(InvalidOrder):
        await desk.place(time_in_force="GTD", expire_time=expires + 1)


@feature(SPOT, USDM, COINM)
async def market_orders(desk: Desk) -> None:
    placed = await desk.place(type="MARKET", price=None, **desk.size(1))
    assert await desk.status(placed) is OrderStatus.FILLED


@feature(SPOT)
async def market_orders_by_quote_amount(desk: Desk) -> None:
    placed = await desk.place(type="MARKET", price=None, quote_quantity=Decimal(100))
    assert placed.quote_quantity == 100
    assert await desk.status(placed) is OrderStatus.FILLED


@feature()
async def post_only(desk: Desk) -> None:
    assert (await desk.place(post_only=True)).post_only
    with pytest.raises(InvalidOrder) as caught:
        await desk.place(post_only=True, price=desk.prices()[1])
    assert caught.value.rule == "post-only"


@feature(USDM, COINM, OPTIONS)
async def reduce_only(desk: Desk) -> None:
    await desk.place(price=desk.prices()[1], **desk.size(2))
    closing = await desk.place(side="SELL", reduce_only=True, price=desk.prices()[1], **desk.size(2))
    assert closing.reduce_only


async def _conditional(desk: Desk, kind: str) -> None:
    low, _ = desk.prices()
    limit = kind.endswith("_LIMIT")
    # A stop sells below the market; a take profit buys there.
    side = "SELL" if kind.startswith("STOP") else "BUY"
    placed = await desk.place(type=kind, side=side, stop_price=low, price=low if limit else None)
    assert (placed.status, placed.stop_price) == (OrderStatus.NEW, low)
    found = await desk.astra.get_order(desk.market.symbol, client_order_id=placed.client_order_id)
    assert (found.type.value, found.stop_price) == (kind, low)
    assert [order.client_order_id for order in await desk.astra.list_orders(desk.market.symbol)] == [
        placed.client_order_id
    ]


@feature(SPOT, USDM, COINM)
async def stop_market(desk: Desk) -> None:
    await _conditional(desk, "STOP_MARKET")


@feature(SPOT, USDM, COINM)
async def stop_limit(desk: Desk) -> None:
    await _conditional(desk, "STOP_LIMIT")


@feature(SPOT, USDM, COINM)
async def take_profit_market(desk: Desk) -> None:
    await _conditional(desk, "TAKE_PROFIT_MARKET")


@feature(SPOT, USDM, COINM)
async def take_profit_limit(desk: Desk) -> None:
    await _conditional(desk, "TAKE_PROFIT_LIMIT")


@feature(USDM, COINM)
async def amend_price(desk: Desk) -> None:
    placed = await desk.place()
    price = desk.market.floor_price(desk.prices()[0] * Decimal("0.99"))
    change = OrderChange(price=price)
    amended = await desk.astra.amend_order(desk.market.symbol, change, client_order_id=placed.client_order_id)
    assert amended.price == price


@feature(SPOT, USDM, COINM)
async def amend_quantity(desk: Desk) -> None:
    placed = await desk.place()
    change = OrderChange.model_validate(desk.size(2))
    amended = await desk.astra.amend_order(desk.market.symbol, change, client_order_id=placed.client_order_id)
    assert (amended.contracts if desk.product == COINM else amended.quantity) == next(iter(desk.size(2).values()))


@feature(USDM, COINM, OPTIONS)
async def batches_of_orders(desk: Desk) -> None:
    order = OrderRequest.model_validate({"side": "BUY", "price": desk.prices()[0], **desk.size()})
    placed = await desk.astra.place_orders([(desk.market.symbol, order)] * 7)
    assert [type(one) for one in placed] == [Order] * 7


@feature(USDM, COINM, OPTIONS)
async def batches_of_cancels(desk: Desk) -> None:
    placed = [await desk.place() for _ in range(13)]
    refs = [OrderRef(client_order_id=one.client_order_id) for one in placed[:11]]
    refs += [OrderRef(id=one.id) for one in placed[11:]]
    missing = OrderRef(client_order_id="nobody")
    wanted = [(desk.market.symbol, ref) for ref in (refs[12], *refs[:12], missing)]
    *canceled, refused = await desk.astra.cancel_orders(wanted)
    assert isinstance(refused, OrderNotFound)
    assert [(one.id, one.status) for one in canceled if isinstance(one, Order)] == [
        (one.id, OrderStatus.CANCELED) for one in (placed[12], *placed[:12])
    ]


@feature()
async def cancel_all_of_a_market(desk: Desk) -> None:
    await desk.place()
    await desk.place()
    await desk.astra.cancel_all_orders(desk.market.symbol)
    assert await desk.astra.list_orders(desk.market.symbol) == []


@feature(USDM, COINM)
async def leverage(desk: Desk) -> None:
    await desk.astra.set_leverage(desk.market.symbol, 7)
    await desk.place(price=desk.prices()[1], **desk.size(1))
    (position,) = await desk.astra.get_positions("BINANCE")
    assert position.leverage in (7, None)  # USD-M does not say since v3


@feature()
async def fees(desk: Desk) -> None:
    (rate,) = await desk.astra.get_fees(desk.market.symbol)
    assert rate.market in (desk.market.symbol, None)
    assert 0 < rate.taker < 1


@feature(USDM, COINM)
async def dead_man_timer(desk: Desk) -> None:
    async with desk.astra.dead_man_switch(desk.market.symbol, timeout_s=30) as switch:
        assert switch.healthy


@pytest.mark.parametrize("product", PRODUCTS)
async def test_every_feature_works_or_is_refused_by_name(desk: Desk, product: str) -> None:
    desk.product = product
    for name, (products, work) in FEATURES.items():
        if product in products:
            try:
                await work(desk)
            except UnsupportedOperation as error:
                raise AssertionError(f"{product} has {name}, but says: {error}") from error
        else:
            with pytest.raises(UnsupportedOperation, match=rf"BINANCE: {NAMES[product]}: no "):
                await work(desk)
        await desk.astra.cancel_all_orders(desk.market.symbol)


async def test_all_orders_of_all_families_are_canceled_at_once(desk: Desk) -> None:
    for product in PRODUCTS:
        desk.product = product
        await desk.place()
    await desk.astra.cancel_all_orders("BINANCE")
    assert await desk.astra.list_orders("BINANCE") == []


async def test_in_hedge_mode_a_market_has_two_positions_in_the_same_shape(desk: Desk) -> None:
    await desk.astra.set_position_mode("BINANCE", True)
    for product in (USDM, COINM):
        desk.product = product
        _, ask = desk.prices()
        await desk.place(price=ask, options={"position_side": "LONG"}, **desk.size(2))
        low, _ = desk.prices()
        await desk.place(side="SELL", price=low, options={"position_side": "SHORT"}, **desk.size(1))
        held = [one for one in await desk.astra.get_positions("BINANCE") if one.market == desk.market.symbol]
        sizes = {one.side.value: one.quantity if one.contracts is None else one.contracts for one in held}
        unit = Decimal(1) if product == COINM else Decimal("0.01")
        assert sizes == {"LONG": 2 * unit, "SHORT": unit}


@pytest.mark.parametrize("product", [SPOT, USDM, COINM])
async def test_a_stop_that_is_triggered_is_one_order_in_the_account_s_stream(desk: Desk, product: str) -> None:
    desk.product = product
    told: list[Any] = []

    async def read(stream: Any) -> None:
        async for item in stream:
            told.append(item)

    async with desk.astra.stream_account("BINANCE") as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)
        with anyio.fail_after(10):
            while not all(status.live for status in stream.account_status):
                await anyio.sleep(0.02)
        _, ask = desk.prices()
        placed = await desk.place(
            type="STOP_MARKET", price=None, stop_price=ask, client_order_id="stop", **desk.size(2)
        )
        assert placed.status is OrderStatus.NEW
        await desk.place(price=ask, **desk.size(1))
        with anyio.fail_after(10):
            while not any(isinstance(i, Order) and i.client_order_id == "stop" and i.status.is_final for i in told):
                await anyio.sleep(0.02)
        await anyio.sleep(0.2)
        orders = [item for item in told if isinstance(item, Order) and item.client_order_id == "stop"]
        fills = [item for item in told if isinstance(item, Fill) and item.client_order_id == "stop"]
        assert orders[-1].status is OrderStatus.FILLED
        assert sum(order.status.is_final for order in orders) == 1
        assert [order.filled_quantity or 0 for order in orders] == sorted(
            order.filled_quantity or 0 for order in orders
        )
        size = sum((fill.quantity if fill.contracts is None else fill.contracts) for fill in fills)
        assert size == next(iter(desk.size(2).values()))
        assert orders[-1].stop_price == ask
        assert not any(isinstance(item, AccountStatus) and not item.live for item in told)
        tasks.cancel_scope.cancel()


async def test_a_program_that_dies_has_its_orders_canceled(desk: Desk) -> None:
    """The block fails: nobody feeds the timer any more."""
    desk.product = USDM

    async def die() -> None:
        async with desk.astra.dead_man_switch(desk.market.symbol, timeout_s=3):
            await desk.place()
            raise RuntimeError("dead")

    with pytest.raises(RuntimeError, match="dead"):
        await die()
    assert len(await desk.astra.list_orders(desk.market.symbol)) == 1
    with anyio.fail_after(10):
        while await desk.astra.list_orders(desk.market.symbol):
            await anyio.sleep(0.2)
