"""An order request in the venue's words (docs-v5, "Place order", "Place algo order")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astra.errors import InvalidOrder
from astra.models.markets import Market
from astra.models.orders import OrderRequest, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.trading.checks import native_quantity
from astra_okx.rest import text
from astra_okx.settings import FUTURES, OPTION, SPOT, SWAP, OkxOrderOptions, OkxSettings, TradeMode
from astra_okx.trading.rows import AT_MARKET

_SIDES: Mapping[Side, str] = {Side.BUY: "buy", Side.SELL: "sell"}
_RESTING: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "limit",
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
}
_CLOSED_BY: Mapping[PositionSide, Side] = {PositionSide.LONG: Side.SELL, PositionSide.SHORT: Side.BUY}
_STOPS = (OrderType.STOP_LIMIT, OrderType.STOP_MARKET)


def trade_mode(market: Market, options: OkxOrderOptions, settings: OkxSettings) -> str:
    """`tdMode`: as the order says, else as the settings say."""
    if options.trade_mode is not None:
        if market.product == SPOT and options.trade_mode is TradeMode.ISOLATED:
            raise InvalidOrder(
                "spot orders are cash or cross: isolated is margin trading", exchange="OKX", rule="options"
            )
        return options.trade_mode.value
    return settings.spot_margin_mode if market.product == SPOT else settings.derivatives_margin_mode


def _check_reduces(order: OrderRequest, position: PositionSide) -> None:
    """The venue ignores `reduceOnly` in long/short mode: there it is the side that says whether an order opens or
    reduces the position, and none can do both (docs-v5, "POST / Place order")."""
    closing = _CLOSED_BY[position]
    if order.reduce_only and order.side is not closing:
        raise InvalidOrder(
            f"a {order.side} order opens or adds to the {position} position, which reduce-only forbids: "
            f"{closing} reduces it",
            exchange="OKX",
            rule="reduce-only",
        )


def _common(market: Market, order: OrderRequest, options: OkxOrderOptions, settings: OkxSettings) -> dict[str, Any]:
    body: dict[str, Any] = {
        "instId": market.native_symbol,
        "tdMode": trade_mode(market, options, settings),
        "side": _SIDES[order.side],
        "sz": text(native_quantity(market, order) if order.quote_quantity is None else order.quote_quantity),
    }
    if options.position_side is not None:
        _check_reduces(order, options.position_side)
        body["posSide"] = options.position_side.value.lower()
    elif order.reduce_only:
        body["reduceOnly"] = True
    if options.quote_currency is not None:
        body["tradeQuoteCcy"] = options.quote_currency
    if market.product == SPOT and order.price is None:
        # Without it a buy's size would be taken for an amount of the quote asset.
        body["tgtCcy"] = "base_ccy" if order.quote_quantity is None else "quote_ccy"
    return body


def order_body(market: Market, order: OrderRequest, options: OkxOrderOptions, settings: OkxSettings) -> dict[str, Any]:
    """The body of `POST trade/order`."""
    body = _common(market, order, options, settings) | {"clOrdId": order.client_order_id}
    if order.price is None:
        body["ordType"] = "market"
        if market.product == SPOT:
            body["banAmend"] = True  # the venue must not shrink the order to what the balance allows
    else:
        body["ordType"] = "post_only" if order.post_only else _RESTING[order.time_in_force or TimeInForce.GTC]
        body["px"] = text(order.price)
    if options.self_trade_prevention is not None:
        body["stpMode"] = options.self_trade_prevention.value
    return body


def algo_body(market: Market, order: OrderRequest, options: OkxOrderOptions, settings: OkxSettings) -> dict[str, Any]:
    """The body of `POST trade/order-algo`: a one-way stop loss or take profit."""
    body = _common(market, order, options, settings)
    kind = "sl" if order.type in _STOPS else "tp"
    body |= {
        "ordType": "conditional",
        "algoClOrdId": order.client_order_id,
        f"{kind}TriggerPx": text(order.stop_price),
        f"{kind}OrdPx": AT_MARKET if order.price is None else text(order.price),
    }
    if options.trigger_price is not None:
        body[f"{kind}TriggerPxType"] = options.trigger_price.value
    return body


def allowed_options(market: Market, order: OrderRequest) -> Mapping[str, bool]:
    """Which of the venue's own options the order may have."""
    contracts = market.product in (SWAP, FUTURES)
    return {
        "trade_mode": True,
        "position_side": contracts,
        "self_trade_prevention": not order.type.is_conditional,
        "quote_currency": market.product == SPOT,
        "trigger_price": order.type.is_conditional,
    }


def refused(market: Market, order: OrderRequest) -> str | None:
    """What the product does not offer of the order; None when it may be placed."""
    if order.time_in_force is TimeInForce.GTD:
        return "time in force GTD"
    if order.type.is_conditional:
        if market.product == OPTION:
            return f"{order.type} orders for options"
        if order.time_in_force not in (None, TimeInForce.GTC):
            return f"time in force {order.time_in_force} for {order.type} orders"
        if order.post_only:
            return f"post-only {order.type} orders"
    elif order.price is None and market.product == OPTION:
        return "MARKET orders for options"
    elif order.price is None and order.time_in_force is TimeInForce.FOK:
        return "time in force FOK for MARKET orders"
    if order.quote_quantity is not None and market.product != SPOT:
        return "orders by quoteQuantity in contract markets; give quantity or contracts"
    if order.reduce_only and market.product not in (SWAP, FUTURES):
        return "reduce-only orders outside of swaps and futures"
    return None
