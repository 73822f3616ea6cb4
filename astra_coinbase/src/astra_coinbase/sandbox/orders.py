"""Orders of Advanced Trade between the venue's words and the engine: configurations, statuses, rows, fills."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from astra.errors import hint
from astra.models.orders import Liquidity, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import EngineFill, EngineOrder, NewOrder
from astra.sandbox.toolkit import plain
from astra_coinbase.sandbox.calls import Body
from astra_coinbase.sandbox.catalogue import Listing
from astra_coinbase.sandbox.wire import NO_TIME, bad_argument, iso_ms, made_uuid, order_uuid, parse_iso

ZERO = Decimal(0)
_UP, _DOWN = "STOP_DIRECTION_STOP_UP", "STOP_DIRECTION_STOP_DOWN"


class OrderFailed(Exception):
    """An order is refused: HTTP 200 with success false. `preview`: only the preview's reason names it."""

    def __init__(self, reason: str, message: str, *, preview: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.preview = preview


class Tag(msgspec.Struct, eq=False):
    """What the venue remembers of an order and the engine does not."""

    product_id: str
    client_order_id: str
    configuration: str
    """Name of its order configuration."""
    members: dict[str, Any]
    """Of the configuration, as they stand after edits."""
    leverage: str = ""
    margin_type: str = ""
    edits: list[dict[str, str]] = msgspec.field(default_factory=list)


class Shape(msgspec.Struct, frozen=True):
    """What an order configuration holds and what order it makes."""

    members: frozenset[str]
    type: OrderType
    time_in_force: TimeInForce = TimeInForce.GTC


def _shape(members: str, kind: OrderType, time_in_force: TimeInForce = TimeInForce.GTC) -> Shape:
    return Shape(frozenset(members.split()) | {"rfq_disabled", "reduce_only"}, kind, time_in_force)


SHAPES = {
    "market_market_ioc": _shape("base_size quote_size", OrderType.MARKET, TimeInForce.IOC),
    "market_market_fok": _shape("base_size quote_size", OrderType.MARKET, TimeInForce.FOK),
    "limit_limit_gtc": _shape("base_size limit_price post_only", OrderType.LIMIT),
    "limit_limit_gtd": _shape("base_size limit_price post_only end_time", OrderType.LIMIT, TimeInForce.GTD),
    "sor_limit_ioc": _shape("base_size limit_price", OrderType.LIMIT, TimeInForce.IOC),
    "limit_limit_fok": _shape("base_size limit_price", OrderType.LIMIT, TimeInForce.FOK),
    "stop_limit_stop_limit_gtc": _shape("base_size limit_price stop_price stop_direction", OrderType.STOP_LIMIT),
    "stop_limit_stop_limit_gtd": _shape(
        "base_size limit_price stop_price stop_direction end_time", OrderType.STOP_LIMIT, TimeInForce.GTD
    ),
}
UNSERVED = ("trigger_bracket_gtc", "trigger_bracket_gtd", "twap_limit_gtd", "scaled_limit_gtc")
"""Configurations of the venue that the engine has no order for."""
EDITABLE = ("limit_limit_gtc", "stop_limit_stop_limit_gtc")


def read_order(listing: Listing, body: Body, client_order_id: str) -> NewOrder:
    """The order that a body of `POST /orders` asks for. Raises `OrderFailed`, or `Refusal` for what is malformed."""
    configuration = body.inner("order_configuration")
    if len(configuration.values) != 1:
        raise bad_argument("order_configuration has exactly one member")
    (name,) = configuration.values
    shape = SHAPES.get(name)
    if shape is None and name not in UNSERVED:
        raise bad_argument(f"unknown order configuration {name}.{hint(name, [*SHAPES, *UNSERVED])}")
    if shape is None or (name == "market_market_fok" and listing.spot):
        raise OrderFailed("UNSUPPORTED_ORDER_CONFIGURATION", f"{name} is not enabled for trading")
    members = configuration.inner(name)
    members.check_names(shape.members)
    side = _side(body.need("side"))
    base, quote = members.decimal("base_size"), members.decimal("quote_size")
    _check_size(listing, name, side, base, quote)
    kind, stop_price = shape.type, members.decimal("stop_price")
    price = None
    if kind.has_price:
        price = members.decimal("limit_price")
        if price is None:
            raise OrderFailed("INVALID_LIMIT_PRICE", "limit_price is required")
    if kind is OrderType.STOP_LIMIT:
        kind = _stop_kind(members.need("stop_direction"), side)
        if stop_price is None:
            raise bad_argument("stop_price is required")
    expires = None
    if shape.time_in_force is TimeInForce.GTD:
        expires = parse_iso(members.need("end_time"))
        if expires is None:
            raise bad_argument("end_time must be a time in RFC 3339")
    market_order = kind is OrderType.MARKET
    tag = Tag(
        product_id=body.need("product_id"),
        client_order_id=client_order_id,
        configuration=name,
        members={key: value for key, value in members.values.items() if value is not None},
        leverage=body.text("leverage") or "",
        margin_type=body.text("margin_type") or "",
    )
    return NewOrder(
        market=listing.symbol,
        side=side,
        type=kind,
        quantity=base,
        quote_quantity=quote,
        price=price,
        stop_price=stop_price,
        time_in_force=TimeInForce.IOC if market_order and name.endswith("ioc") else shape.time_in_force,
        post_only=members.boolean("post_only"),
        reduce_only=members.boolean("reduce_only"),
        client_order_id=client_order_id or None,
        expire_time=expires,
        tag=tag,
    )


def _side(text: str) -> Side:
    if text not in ("BUY", "SELL"):
        raise OrderFailed("INVALID_SIDE", "side is BUY or SELL")
    return Side(text)


def _check_size(listing: Listing, name: str, side: Side, base: Decimal | None, quote: Decimal | None) -> None:
    if base is None and quote is None:
        raise OrderFailed("UNKNOWN_FAILURE_REASON", "Market orders cannot be placed with empty order sizes")
    if base is not None and quote is not None:
        raise bad_argument("give base_size or quote_size, not both")
    if quote is not None and (not listing.spot or side is Side.SELL or name != "market_market_ioc"):
        raise OrderFailed("UNSUPPORTED_ORDER_CONFIGURATION", "quote_size goes with market buys of spot products")


def _stop_kind(direction: str, side: Side) -> OrderType:
    """A stop waits for the price to rise (UP) or fall (DOWN), whichever side it is on."""
    if direction not in (_UP, _DOWN):
        raise bad_argument(f"stop_direction is {_UP} or {_DOWN}")
    follows = (direction == _UP) == (side is Side.BUY)
    return OrderType.STOP_LIMIT if follows else OrderType.TAKE_PROFIT_LIMIT


def tag_of(order: EngineOrder, listing: Listing) -> Tag:
    """The order's tag; one made up for orders that did not come through the protocol."""
    if isinstance(order.tag, Tag):
        return order.tag
    members: dict[str, Any] = {"base_size": plain(order.quantity)}
    if order.type is OrderType.MARKET:
        return Tag(listing.native, order.client_order_id or "", "market_market_ioc", members)
    members["limit_price"] = plain(order.price)
    suffix = "gtd" if order.time_in_force is TimeInForce.GTD else "gtc"
    if suffix == "gtd":
        members["end_time"] = iso_ms(order.expire_time or 0)
    if order.type.is_conditional:
        rises = (order.type is OrderType.STOP_LIMIT) == (order.side is Side.BUY)
        members |= {"stop_price": plain(order.stop_price), "stop_direction": _UP if rises else _DOWN}
        return Tag(listing.native, order.client_order_id or "", f"stop_limit_stop_limit_{suffix}", members)
    named = {TimeInForce.IOC: "sor_limit_ioc", TimeInForce.FOK: "limit_limit_fok"}
    name = named.get(order.time_in_force, f"limit_limit_{suffix}")
    if name.startswith("limit_limit_gt"):
        members["post_only"] = order.post_only
    return Tag(listing.native, order.client_order_id or "", name, members)


_TIME_IN_FORCE = {
    "gtc": "GOOD_UNTIL_CANCELLED",
    "gtd": "GOOD_UNTIL_DATE_TIME",
    "ioc": "IMMEDIATE_OR_CANCEL",
    "fok": "FILL_OR_KILL",
}


def status_of(order: EngineOrder) -> str:
    """What is left of IOC and FOK orders is cancelled; EXPIRED is for GTD alone."""
    if order.status.is_open:
        return "OPEN"
    if order.status is OrderStatus.FILLED:
        return "FILLED"
    return "EXPIRED" if order.reason == "expired" else "CANCELLED"


class _Sums(msgspec.Struct, frozen=True):
    value: Decimal
    fees: Decimal
    held: Decimal
    share: Decimal


def _sums(order: EngineOrder, listing: Listing) -> _Sums:
    value = order.filled_quote * listing.size
    fees = sum((fill.fee for fill in order.fills), ZERO)
    held = ZERO
    if order.status.is_open and listing.spot:
        held = order.remaining * (order.price or ZERO) if order.side is Side.BUY else order.remaining
    asked = order.quote_quantity
    if asked is not None:
        share = min(Decimal(1), value / asked) if order.status is not OrderStatus.FILLED else Decimal(1)
    else:
        share = order.filled / order.quantity if order.quantity else ZERO
    return _Sums(value, fees, held, share)


def _percentage(share: Decimal) -> str:
    return plain((share * 100).quantize(Decimal("0.01")))


def _trigger_status(order: EngineOrder) -> str:
    if not order.type.is_conditional:
        return "INVALID_ORDER_TYPE"
    return "STOP_TRIGGERED" if order.triggered else "STOP_PENDING"


def _cost_after_fees(order: EngineOrder, sums: _Sums) -> Decimal:
    return sums.value + sums.fees if order.side is Side.BUY else sums.value - sums.fees


def order_row(order: EngineOrder, listing: Listing) -> dict[str, Any]:
    """An order as REST prints it."""
    tag, sums = tag_of(order, listing), _sums(order, listing)
    status = status_of(order)
    portfolio = made_uuid("portfolio", order.account)
    kind = "MARKET" if order.type is OrderType.MARKET else "STOP_LIMIT" if order.type.is_conditional else "LIMIT"
    return {
        "order_id": order_uuid(order.id),
        "product_id": tag.product_id,
        "user_id": made_uuid("user", order.account),
        "order_configuration": {tag.configuration: tag.members},
        "side": order.side.value,
        "client_order_id": tag.client_order_id,
        "status": status,
        "time_in_force": _TIME_IN_FORCE[tag.configuration[-3:]],
        "created_time": iso_ms(order.created),
        "completion_percentage": _percentage(sums.share),
        "filled_size": plain(order.filled),
        "average_filled_price": plain(_rounded(order.average_price)),
        "fee": "",
        "number_of_fills": str(len(order.fills)),
        "filled_value": plain(sums.value),
        "pending_cancel": False,
        "size_in_quote": order.quote_quantity is not None,
        "total_fees": plain(sums.fees),
        "size_inclusive_of_fees": False,
        "total_value_after_fees": plain(_cost_after_fees(order, sums)),
        "trigger_status": _trigger_status(order),
        "order_type": kind,
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "settled": status != "OPEN",
        "product_type": "SPOT" if listing.spot else "FUTURE",
        "reject_message": "",
        "cancel_message": "User requested cancel" if order.status is OrderStatus.CANCELED else "",
        "order_placement_source": "RETAIL_ADVANCED",
        "outstanding_hold_amount": plain(sums.held),
        "is_liquidation": False,
        "last_fill_time": iso_ms(order.fills[-1].time) if order.fills else None,
        "edit_history": tag.edits,
        "leverage": tag.leverage,
        "margin_type": tag.margin_type,
        "retail_portfolio_id": portfolio,
        "originating_order_id": "",
        "attached_order_id": "",
    }


def user_row(order: EngineOrder, listing: Listing, status: str | None = None) -> dict[str, Any]:
    """An order as the user channel prints it. `leaves_quantity` is in the currency the order was sized in, and
    nothing once the order is done."""
    tag, sums = tag_of(order, listing), _sums(order, listing)
    shown = status or status_of(order)
    leaves = ZERO
    if order.status.is_open:
        leaves = order.remaining if order.quote_quantity is None else order.quote_quantity - sums.value
    kind = "Market" if order.type is OrderType.MARKET else "Stop Limit" if order.type.is_conditional else "Limit"
    return {
        "avg_price": plain(_rounded(order.average_price)),
        "cancel_reason": "User requested cancel" if shown == "CANCELLED" and order.reason is None else "",
        "client_order_id": tag.client_order_id,
        "completion_percentage": f"{sums.share * 100:.2f}",
        "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE" if listing.spot else "EXPIRING",
        "cumulative_quantity": plain(order.filled),
        "filled_value": plain(sums.value),
        "leaves_quantity": plain(leaves),
        "limit_price": plain(order.price),
        "number_of_fills": str(len(order.fills)),
        "order_id": order_uuid(order.id),
        "order_side": order.side.value,
        "order_type": kind,
        "outstanding_hold_amount": plain(sums.held),
        "post_only": "true" if order.post_only else "false",
        "product_id": tag.product_id,
        "product_type": "SPOT" if listing.spot else "FUTURE",
        "reject_reason": "",
        "retail_portfolio_id": made_uuid("portfolio", order.account),
        "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE" if listing.spot else "MANAGED_BY_FCM",
        "status": shown,
        "stop_price": plain(order.stop_price) if order.stop_price is not None else "",
        "time_in_force": _TIME_IN_FORCE[tag.configuration[-3:]],
        "total_fees": plain(sums.fees),
        "total_value_after_fees": plain(_cost_after_fees(order, sums)),
        "trigger_status": _trigger_status(order),
        "creation_time": iso_ms(order.created),
        "end_time": NO_TIME if order.expire_time is None else iso_ms(order.expire_time),
        "start_time": NO_TIME,
    }


def fill_row(fill: EngineFill, order: EngineOrder, listing: Listing) -> dict[str, Any]:
    """A fill. Of orders sized in the quote currency its size is in quote units too."""
    tag = tag_of(order, listing)
    in_quote = order.quote_quantity is not None
    return {
        "entry_id": made_uuid("entry", fill.market, fill.trade_id, fill.order_id),
        "trade_id": made_uuid("trade", fill.market, fill.trade_id),
        "order_id": order_uuid(fill.order_id),
        "trade_time": iso_ms(fill.time),
        "trade_type": "FILL",
        "price": plain(fill.price),
        "size": plain(fill.quantity * fill.price if in_quote else fill.quantity),
        "commission": plain(fill.fee),
        "product_id": tag.product_id,
        "sequence_timestamp": iso_ms(fill.time),
        "liquidity_indicator": "MAKER" if fill.liquidity is Liquidity.MAKER else "TAKER",
        "size_in_quote": in_quote,
        "user_id": made_uuid("user", fill.account),
        "side": fill.side.value,
        "retail_portfolio_id": made_uuid("portfolio", fill.account),
    }


def _rounded(price: Decimal | None) -> Decimal:
    return ZERO if price is None else Decimal(format(price, ".16g"))


_REASONS: dict[str, Callable[[str], OrderFailed]] = {
    "insufficient-funds": lambda text: OrderFailed(
        "INSUFFICIENT_FUND", "Insufficient balance in source account", preview="PREVIEW_INSUFFICIENT_FUND"
    ),
    "post-only": lambda text: OrderFailed(
        "INVALID_LIMIT_PRICE_POST_ONLY", text, preview="PREVIEW_INVALID_LIMIT_PRICE_POSTONLY"
    ),
    "tick-size": lambda text: OrderFailed("INVALID_PRICE_PRECISION", text, preview="PREVIEW_INVALID_PRICE_PRECISION"),
    "lot-size": lambda text: OrderFailed("INVALID_SIZE_PRECISION", text, preview="PREVIEW_INVALID_SIZE_PRECISION"),
    "min-quantity": lambda text: OrderFailed("", text, preview="PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
    "max-quantity": lambda text: OrderFailed("", text, preview="PREVIEW_INVALID_BASE_SIZE_TOO_LARGE"),
    "min-notional": lambda text: OrderFailed("", text, preview="PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL"),
    "stop-would-trigger": lambda text: OrderFailed("", text, preview="PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"),
    "no-liquidity": lambda text: OrderFailed("INVALID_NO_LIQUIDITY", text),
    "not-supported": lambda text: OrderFailed("UNSUPPORTED_ORDER_CONFIGURATION", text),
    "reduce-only": lambda text: OrderFailed("", text, preview="PREVIEW_NOT_ALLOWED_IN_REDUCE_ONLY_MODE"),
    "market-not-found": lambda text: OrderFailed("INVALID_PRODUCT_ID", text),
}


def failure_of(rule: str, text: str, listing: Listing) -> OrderFailed:
    """What the venue answers to an order that the engine refuses."""
    if rule == "min-notional" and "maximum" in text:  # the engine's one rule for both ends
        return OrderFailed("", text, preview="PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE")
    if rule == "market-closed":
        return OrderFailed("UNTRADABLE_PRODUCT" if listing.spot else "INVALID_FCM_TRADING_SESSION", text)
    made = _REASONS.get(rule)
    return made(text) if made else OrderFailed("UNKNOWN_FAILURE_REASON", text)
