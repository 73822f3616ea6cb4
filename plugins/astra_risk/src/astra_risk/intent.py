"""What an order, or an amendment, is about to do, in the units in which limits are counted."""

from __future__ import annotations

import decimal
from decimal import Decimal

import msgspec

from astra.models.markets import Market
from astra.models.orders import Order, OrderChange, OrderRequest, OrderType, TimeInForce
from astra.models.trades import Side
from astra.symbols import AssetType
from astra.trading.checks import native_quantity

EXACT = decimal.Context(prec=320, traps=[decimal.InvalidOperation, decimal.DivisionByZero])
"""Digits enough for products and sums of what passes the order checks to be exact, whatever context the caller has."""


class Intent(msgspec.Struct, frozen=True):
    """An order as the limits see it.

    `native` is its whole quantity as the venue counts it: contracts where the market has a contract size, base units
    elsewhere; None while an order by amount (`quote_quantity`) is not valued yet. `added` is what it may add to open
    orders: all of it for a new order, the increase for an amendment.
    """

    market: Market
    side: Side
    type: OrderType
    native: Decimal | None
    added: Decimal | None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    quote_quantity: Decimal | None = None
    post_only: bool = False
    reduce_only: bool = False
    rests: bool = True
    """May it stand in the book (or wait for its trigger)?"""
    amends: bool = False
    client_order_id: str | None = None
    order_id: str | None = None

    def sized(self, native: Decimal) -> Intent:
        """The same with its quantity, once the amount was valued."""
        return msgspec.structs.replace(self, native=native, added=native)


def of_request(market: Market, order: OrderRequest) -> Intent:
    """A new order. Raises `InvalidOrder` like `native_quantity`."""
    native = None if order.quote_quantity is not None else native_quantity(market, order)
    at_once = order.type is OrderType.MARKET or (
        order.type is OrderType.LIMIT and order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
    )
    return Intent(
        market=market,
        side=order.side,
        type=order.type,
        native=native,
        added=native,
        price=order.price,
        stop_price=order.stop_price,
        quote_quantity=order.quote_quantity,
        post_only=order.post_only,
        reduce_only=order.reduce_only and market.asset_type is not AssetType.SPOT,
        rests=not at_once,
        client_order_id=order.client_order_id,
    )


def of_change(market: Market, order: Order, change: OrderChange) -> Intent | None:
    """An amendment of `order`; None when the order's own size is not known."""
    before = total_of(market, order)
    if before is None:
        return None
    sizes = change.quantity is not None or change.contracts is not None
    after = native_quantity(market, change) if sizes else before
    return Intent(
        market=market,
        side=order.side,
        type=order.type,
        native=after,
        added=max(EXACT.subtract(after, before), Decimal(0)),
        price=change.price if change.price is not None else order.price,
        stop_price=order.stop_price,
        post_only=order.post_only,
        reduce_only=order.reduce_only and market.asset_type is not AssetType.SPOT,
        amends=True,
        client_order_id=order.client_order_id,
        order_id=order.id,
    )


def total_of(market: Market, order: Order) -> Decimal | None:
    """An order's whole quantity as the venue counts it; None where the venue's answer does not say."""
    return _native(market, order.contracts, order.quantity)


def filled_of(market: Market, order: Order) -> Decimal | None:
    """An order's filled quantity as the venue counts it; None where the venue's answer does not say."""
    return _native(market, order.filled_contracts, order.filled_quantity)


def _native(market: Market, contracts: Decimal | None, quantity: Decimal | None) -> Decimal | None:
    size = market.contract_size
    if size is None:
        return quantity
    if contracts is not None:
        return contracts
    if quantity is None or market.is_inverse:
        return Decimal(0) if quantity == 0 else None
    return EXACT.divide(quantity, size)


def base_of(market: Market, native: Decimal, price: Decimal | None) -> Decimal | None:
    """A native quantity in base units; None for an inverse market without a price."""
    if market.contract_size is None:
        return native
    if not market.is_inverse:
        return EXACT.multiply(native, market.contract_size)
    return None if not price else EXACT.divide(EXACT.multiply(native, market.contract_size), price)
