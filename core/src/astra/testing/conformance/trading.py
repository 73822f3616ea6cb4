"""What the library says of orders against what the engine has."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from astra.app import Astra
from astra.errors import OrderNotFound, UnsupportedOperation
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus
from astra.models.trades import Side
from astra.sandbox import EngineOrder
from astra.testing.conformance.bench import Bench, Trader
from astra.testing.conformance.catalogue import expect, expect_equal, fail
from astra.testing.conformance.segments import least, limit, resting_price

NEAR = Decimal("1E-12")


def near(one: Decimal | None, other: Decimal | None) -> bool:
    """Equal up to the last digits of a division (base quantities of inverse contracts)."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= NEAR * max(abs(one), abs(other))


def expect_near(what: str, seen: Decimal | None, expected: Decimal | None) -> None:
    expect(near(seen, expected), f"{what}: expected {expected}, seen {seen}")


def exact(what: str, value: object) -> None:
    """No float anywhere in what trading returns."""
    if isinstance(value, float):
        fail(f"{what}: expected a Decimal (or int), seen the float {value!r}")
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            exact(f"{what}.{name}", getattr(value, name))
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            exact(f"{what}[{number}]", one)


def expect_order(what: str, order: Order, true: EngineOrder, market: Market) -> None:
    """An order as the library tells it must be the engine's. Fields that the venue does not tell are None."""
    exact(what, order)
    expect_equal(f"{what}: market", order.market, market.symbol)
    expect_equal(f"{what}: side", order.side, true.side)
    if order.price is not None or true.price is not None:
        expect_equal(f"{what}: price", order.price, true.price)
    at = true.average_price or true.price
    if market.contract_size is not None:
        expect(order.contracts is not None, f"{what}: contracts: expected {true.quantity}, seen None")
        expect_equal(f"{what}: contracts", order.contracts, true.quantity)
    if order.quantity is not None or not market.is_inverse:
        price = at if market.is_inverse else true.price
        expect_near(f"{what}: quantity (base units)", order.quantity, market.base_quantity(true.quantity, price))
    expect_filled(what, order, true, market)


def expect_filled(what: str, order: Order, true: EngineOrder, market: Market) -> None:
    if order.filled_contracts is not None:
        expect_equal(f"{what}: filled contracts", order.filled_contracts, true.filled)
    if order.filled_quantity is not None:
        filled = market.base_quantity(true.filled, true.average_price) if true.filled else Decimal(0)
        expect_near(f"{what}: filled quantity (base units)", order.filled_quantity, filled)
    if order.average_price is not None and true.filled:
        expect(
            abs(order.average_price - (true.average_price or 0)) <= Decimal("1E-6") * order.average_price,
            f"{what}: average price: expected {true.average_price}, seen {order.average_price}",
        )


def expect_fill(what: str, fill: Fill, true: Any, market: Market) -> None:
    """A fill must be the engine's."""
    exact(what, fill)
    expect_equal(f"{what}: market", fill.market, market.symbol)
    expect_equal(f"{what}: side", fill.side, true.side)
    expect_equal(f"{what}: price", fill.price, true.price)
    expect_near(f"{what}: quantity (base units)", fill.quantity, market.base_quantity(true.quantity, true.price))
    if market.contract_size is not None:
        expect_equal(f"{what}: contracts", fill.contracts, true.quantity)
    if fill.liquidity is not None:
        expect_equal(f"{what}: liquidity", fill.liquidity, true.liquidity)
    if fill.fee is not None:
        expect_near(f"{what}: fee (positive when paid)", fill.fee, true.fee)


async def asked(astra: Astra, market: Market, order: Order, trader: Trader) -> Order:
    """The order as the venue tells it when it is asked: by its id, or by its client order id."""
    if order.id is None:
        return await astra.get_order(
            market.symbol, client_order_id=order.client_order_id, credentials=trader.credentials
        )
    return await astra.get_order(market.symbol, id=order.id, credentials=trader.credentials)


async def ended(astra: Astra, market: Market, order: Order, trader: Trader) -> OrderStatus | None:
    """How the venue says that the order ended; None where it forgets orders that are done, or is not asked."""
    try:
        return (await asked(astra, market, order, trader)).status
    except (OrderNotFound, UnsupportedOperation):
        return None


async def rest_a_bid(bench: Bench, market: Market, trader: Trader, lots: int = 4, **more: Any) -> Order:
    """Place a bid that rests."""
    price = resting_price(market, bench.engine)
    order = limit(market, Side.BUY, least(market, price) * lots, price, **more)
    return await bench.astra.place_order(market.symbol, order, trader.credentials)


async def take_an_ask(bench: Bench, market: Market, trader: Trader, lots: int = 2, **more: Any) -> Order:
    """Place a bid that is filled at once, by one trade."""
    _, ask = bench.top(market)
    native = least(market, ask) * lots
    price = bench.alone(market, Side.SELL, native * 3)
    return await bench.astra.place_order(
        market.symbol, limit(market, Side.BUY, native, price, **more), trader.credentials
    )
