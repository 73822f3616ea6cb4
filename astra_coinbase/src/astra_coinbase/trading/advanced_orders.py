"""An order request in Advanced Trade's words (docs.cdp.coinbase.com, "Create Order")."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from astra.models.markets import Market
from astra.models.orders import OrderRequest, OrderType, TimeInForce
from astra.models.trades import Side
from astra.rest import plain
from astra.trading.checks import native_quantity
from astra_coinbase.settings import SPOT, US_FUTURES, CoinbaseOrderOptions
from astra_coinbase.trading.advanced_rows import STOP_DOWN, STOP_UP

_LIMITS: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "limit_limit_gtc",
    TimeInForce.GTD: "limit_limit_gtd",
    TimeInForce.IOC: "sor_limit_ioc",
    TimeInForce.FOK: "limit_limit_fok",
}


def refused(market: Market, order: OrderRequest) -> str | None:
    """What the product does not offer of the order; None when it may be placed."""
    if order.type in (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET):
        return f"{order.type} orders"
    if order.reduce_only:
        return "reduce-only orders"
    if order.type is OrderType.MARKET:
        if order.time_in_force is TimeInForce.GTD:
            return "time in force GTD for MARKET orders"
        if order.time_in_force is TimeInForce.FOK and market.product == SPOT:
            return "time in force FOK for MARKET orders of spot products"
    if order.quote_quantity is not None:
        if market.product != SPOT:
            return "orders by quoteQuantity in contract markets; give quantity or contracts"
        if order.side is Side.SELL:
            return "orders to sell by quoteQuantity; give quantity"
        if order.time_in_force is TimeInForce.FOK:
            return "time in force FOK for MARKET orders of spot products"
    if order.type.is_conditional:
        if order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            return f"time in force {order.time_in_force} for {order.type} orders"
        if order.post_only:
            return f"post-only {order.type} orders"
    return None


def allowed_options(market: Market) -> Mapping[str, bool]:
    """Which of the venue's own options the order may have."""
    futures = market.product == US_FUTURES
    return {"margin_mode": futures, "leverage": futures, "self_trade_prevention_id": True}


def order_body(market: Market, order: OrderRequest, options: CoinbaseOrderOptions) -> dict[str, Any]:
    """The body of `POST /orders` (without its client order id, that of a preview, too)."""
    body: dict[str, Any] = {
        "product_id": market.native_symbol,
        "side": order.side.value,
        "order_configuration": configuration(market, order),
    }
    if options.leverage is not None:
        body["leverage"] = plain(options.leverage)
    if options.margin_mode is not None:
        body["margin_type"] = options.margin_mode.value
    if options.self_trade_prevention_id is not None:
        body["self_trade_prevention_id"] = options.self_trade_prevention_id
    return body


def configuration(market: Market, order: OrderRequest) -> dict[str, dict[str, Any]]:
    """`order_configuration`: what kind of order it is, and its numbers as texts."""
    if order.quote_quantity is not None:
        return {"market_market_ioc": {"quote_size": plain(order.quote_quantity)}}
    members: dict[str, Any] = {"base_size": plain(native_quantity(market, order))}
    in_force = order.time_in_force or TimeInForce.GTC
    if order.price is None:
        return {f"market_market_{'fok' if in_force is TimeInForce.FOK else 'ioc'}": members}
    members["limit_price"] = plain(order.price)
    name = _LIMITS[in_force]
    if order.stop_price is not None:
        stops = order.type is OrderType.STOP_LIMIT
        name = f"stop_limit_stop_limit_{in_force.value.lower()}"
        members["stop_price"] = plain(order.stop_price)
        members["stop_direction"] = STOP_UP if stops == (order.side is Side.BUY) else STOP_DOWN
    elif in_force in (TimeInForce.GTC, TimeInForce.GTD):
        members["post_only"] = order.post_only
    if order.expire_time is not None:
        members["end_time"] = time_text(order.expire_time)
    return {name: members}


def time_text(time_ms: int) -> str:
    """A time as the venue takes it: RFC 3339 in UTC."""
    moment = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"
