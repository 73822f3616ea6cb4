"""Orders as the venue wants them, and what it does not take (docs-new, "Add Order", "Add Stop Order")."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from astra.errors import InvalidOrder
from astra.models.base import decimal_text
from astra.models.markets import Market
from astra.models.orders import MarginMode, OrderRequest, TimeInForce
from astra.models.trades import Side
from astra.trading.checks import native_quantity
from astra_kucoin.rest import number
from astra_kucoin.settings import FUTURES, SPOT, KucoinOrderOptions, SelfTradePrevention, TriggerPrice
from astra_kucoin.signing import ENDS, STAMP, seconds_left
from astra_kucoin.trading.rows import TIMES_IN_FORCE, rises

_SIDES: Mapping[Side, str] = {Side.BUY: "buy", Side.SELL: "sell"}


def refused(market: Market, order: OrderRequest) -> str | None:
    """What the product does not offer of the order; None when it may be placed."""
    kind, in_force = order.type, order.time_in_force
    if kind.is_conditional and in_force not in (None, TimeInForce.GTC):
        return f"time in force {in_force} for {kind} orders"
    if kind.is_conditional and order.post_only:
        return f"post-only {kind} orders"
    if not kind.has_price and in_force in (TimeInForce.FOK, TimeInForce.GTD):
        return f"time in force {in_force} for {kind} orders"
    if market.product == SPOT and order.reduce_only:
        return "reduce-only orders"
    if market.product == FUTURES and in_force is TimeInForce.GTD:
        return "time in force GTD"
    if market.product == FUTURES and order.quote_quantity is not None:
        return "orders by quoteQuantity; give quantity or contracts"
    return None


def allowed_options(market: Market, order: OrderRequest) -> Mapping[str, bool]:
    """Which of the venue's own options the order may have."""
    futures = market.product == FUTURES
    return {
        "self_trade_prevention": True,
        "margin_mode": futures,
        "leverage": futures,
        "position_side": futures,
        "trigger_price": futures and order.type.is_conditional,
    }


def _common(market: Market, order: OrderRequest, options: KucoinOrderOptions) -> dict[str, Any]:
    limit = order.type.has_price
    body: dict[str, Any] = {
        "clientOid": order.client_order_id,
        "side": _SIDES[order.side],
        "symbol": market.native_symbol,
        "type": "limit" if limit else "market",
    }
    if order.price is not None:
        body["price"] = decimal_text(order.price)
        body["timeInForce"] = TIMES_IN_FORCE[order.time_in_force or TimeInForce.GTC]
    if order.post_only:
        body["postOnly"] = True
    if options.self_trade_prevention is not None:
        body["stp"] = options.self_trade_prevention.value
    return body


def ending(expire_ms: int, now_ms: int) -> Mapping[str, int]:
    """When an order ends, for a body: signing puts the seconds that are left in its place. Raises `InvalidOrder` where
    it would be refused now already."""
    seconds_left(expire_ms, now_ms)
    return {ENDS: expire_ms}


def spot_body(
    market: Market, order: OrderRequest, options: KucoinOrderOptions, *, now_ms: int, window_ms: int
) -> dict[str, Any]:
    """An order of spot. Ordinary ones expire at the gateway once the window is over; their time stamp is set at
    sending, and so is what is left until a GTD order ends."""
    body = _common(market, order, options)
    if order.quote_quantity is not None:
        body["funds"] = decimal_text(order.quote_quantity)
    else:
        body["size"] = decimal_text(native_quantity(market, order))
    if order.expire_time is not None:
        body |= ending(order.expire_time, now_ms)
    if order.stop_price is None:
        return body | {STAMP: 0, "allowMaxTimeWindow": window_ms}
    return body | {
        "stop": "entry" if rises(order.type, order.side) else "loss",
        "stopPrice": decimal_text(order.stop_price),
    }


def futures_body(
    market: Market,
    order: OrderRequest,
    options: KucoinOrderOptions,
    *,
    margin_mode: MarginMode,
    leverage: Decimal | None,
) -> dict[str, Any]:
    """An order of futures, conditional or not."""
    if options.self_trade_prevention is SelfTradePrevention.DECREASE_AND_CANCEL:
        raise InvalidOrder(
            f"{market.symbol}: selfTradePrevention {options.self_trade_prevention} is for spot",
            exchange=market.exchange,
            rule="options",
        )
    body = _common(market, order, options)
    body["size"] = number(native_quantity(market, order))
    body["marginMode"] = margin_mode.value
    if leverage is not None and margin_mode is MarginMode.ISOLATED:
        body["leverage"] = number(leverage)
    if order.reduce_only:
        body["reduceOnly"] = True
    if options.position_side is not None:
        body["positionSide"] = options.position_side.value
    if order.stop_price is not None:
        body |= {
            "stop": "up" if rises(order.type, order.side) else "down",
            "stopPrice": decimal_text(order.stop_price),
            "stopPriceType": (options.trigger_price or TriggerPrice.LAST).value,
        }
    return body
