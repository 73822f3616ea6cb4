"""The gateway's orders between its words and the engine: reading, statuses, rows of orders and trades."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from astra.models.orders import Liquidity, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import EngineFill, EngineOrder, Exchange, NewOrder, Reject
from astra_coinbase.sandbox.catalogue import Listing
from astra_coinbase.sandbox.gateway.calls import RpcError, RpcParams, invalid, no_instrument, number

ZERO = Decimal(0)
LONGEST_LABEL = 64
TYPES = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "stop_limit": OrderType.STOP_LIMIT,
    "stop_market": OrderType.STOP_MARKET,
    "take_limit": OrderType.TAKE_PROFIT_LIMIT,
    "take_market": OrderType.TAKE_PROFIT_MARKET,
}
_TYPE_NAMES = {kind: name for name, kind in TYPES.items()}
_TIMES = {
    "good_til_cancelled": TimeInForce.GTC,
    "good_til_day": TimeInForce.GTD,
    "immediate_or_cancel": TimeInForce.IOC,
    "fill_or_kill": TimeInForce.FOK,
}
_TIME_NAMES = {value: name for name, value in _TIMES.items()}
_DAY_MS = 86_400_000
_TRIGGERS = ("last_price", "mark_price", "index_price")


class Tag(msgspec.Struct, eq=False):
    """What the gateway remembers of an order and the engine does not."""

    label: str = ""
    trigger: str = "last_price"
    web: bool = False
    replaced: bool = False
    reject_post_only: bool = False


def tag_of(order: EngineOrder) -> Tag:
    return order.tag if isinstance(order.tag, Tag) else Tag(order.client_order_id or "")


def contracts_of(listing: Listing, params: RpcParams) -> Decimal | None:
    """`amount` or `contracts` in contracts; both must agree."""
    amount, contracts = params.decimal("amount"), params.decimal("contracts")
    if amount is not None:
        if amount % listing.size:
            raise RpcError(10021, "invalid_amount", {"reason": "must be a multiple of contract size"})
        if contracts is not None and contracts * listing.size != amount:
            raise invalid("contracts", "amount and contracts do not agree")
        return amount / listing.size
    return contracts


def read_order(engine: Exchange, listing: Listing, side: Side, params: RpcParams, now_ms: int) -> NewOrder:
    """The order that `private/buy` or `private/sell` asks for. Raises `RpcError`."""
    kind = TYPES[params.choice("type", tuple(TYPES), "limit")]
    contracts = contracts_of(listing, params)
    if contracts is None:
        raise invalid("amount", "amount or contracts is required")
    label = params.text("label") or ""
    if len(label) > LONGEST_LABEL:
        raise invalid("label", f"at most {LONGEST_LABEL} characters")
    price, stop_price = params.decimal("price"), params.decimal("trigger_price")
    if kind.has_price and price is None:
        raise invalid("price", "is required")
    trigger = "last_price"
    if kind.is_conditional:
        if stop_price is None:
            raise invalid("trigger_price", "is required")
        trigger = params.choice("trigger", _TRIGGERS)
    in_force = _TIMES[params.choice("time_in_force", tuple(_TIMES), "good_til_cancelled")]
    post_only, rejects = params.boolean("post_only"), params.boolean("reject_post_only")
    if post_only and kind.has_price and not rejects and price is not None:
        price = _beside_the_book(engine, listing, side, price)
    return NewOrder(
        market=listing.symbol,
        side=side,
        type=kind,
        quantity=contracts,
        price=price if kind.has_price else None,
        stop_price=stop_price if kind.is_conditional else None,
        time_in_force=in_force,
        expire_time=(now_ms // _DAY_MS + 1) * _DAY_MS if in_force is TimeInForce.GTD else None,
        post_only=post_only and kind.has_price,
        reduce_only=params.boolean("reduce_only"),
        client_order_id=label or None,
        tag=Tag(label=label, trigger=trigger, reject_post_only=rejects),
    )


def _beside_the_book(engine: Exchange, listing: Listing, side: Side, price: Decimal) -> Decimal:
    """A post-only order that would take gets a price just beside the other side, unless it asks to be rejected."""
    _, bids, asks = engine.depth(listing.symbol, 1)
    tick = listing.market.tick_at(price) or Decimal(0)
    if side is Side.BUY and asks and price >= asks[0].price:
        return asks[0].price - tick
    if side is Side.SELL and bids and price <= bids[0].price:
        return bids[0].price + tick
    return price


def waits(order: EngineOrder) -> bool:
    """A conditional order that was not triggered (yet): it has an id of its own."""
    return order.type.is_conditional and not order.triggered


def shown_id(order: EngineOrder, listing: Listing) -> str:
    return listing.trigger_id(order.id) if waits(order) else listing.order_id(order.id)


def state_of(order: EngineOrder) -> str:
    if order.status.is_open:
        return "untriggered" if waits(order) else "open"
    return "filled" if order.status is OrderStatus.FILLED else "cancelled"


def order_row(order: EngineOrder, listing: Listing) -> dict[str, Any]:
    """An order. A conditional one is shown as itself until it is triggered, then as the order it became."""
    tag = tag_of(order)
    waiting = waits(order)
    kind = order.type
    if kind.is_conditional and not waiting:
        kind = OrderType.LIMIT if kind.has_price else OrderType.MARKET
    price: Any = number(order.price) if order.price is not None else number(order.average_price)
    if order.price is None and waiting:
        price = "market_price"
    row: dict[str, Any] = {
        "amount": number(listing.amount(order.quantity)),
        "api": True,
        "average_price": number(order.average_price),
        "contracts": number(order.quantity),
        "creation_timestamp": order.created,
        "direction": order.side.value.lower(),
        "filled_amount": number(listing.amount(order.filled)),
        "instrument_name": listing.native,
        "is_liquidation": False,
        "is_rebalance": False,
        "label": tag.label,
        "last_update_timestamp": order.updated,
        "max_show": number(listing.amount(order.quantity)),
        "order_id": shown_id(order, listing),
        "order_state": state_of(order),
        "order_type": _TYPE_NAMES[kind],
        "post_only": order.post_only,
        "price": price,
        "reduce_only": order.reduce_only,
        "replaced": tag.replaced,
        "time_in_force": _TIME_NAMES[order.time_in_force],
        "web": False,
    }
    if order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
        row["cancel_reason"] = "user_request" if order.status is OrderStatus.CANCELED else "other"
    if waiting:
        row |= {"trigger": tag.trigger, "trigger_price": number(order.stop_price), "triggered": False}
    elif order.type.is_conditional:
        row["trigger_order_id"] = listing.trigger_id(order.id)
    return row


def triggered_row(order: EngineOrder, listing: Listing) -> dict[str, Any]:
    """A conditional order that has been triggered, as itself."""
    tag = tag_of(order)
    return order_row(order, listing) | {
        "order_id": listing.trigger_id(order.id),
        "order_state": "triggered",
        "order_type": _TYPE_NAMES[order.type],
        "price": number(order.price) if order.price is not None else "market_price",
        "trigger": tag.trigger,
        "trigger_price": number(order.stop_price),
        "triggered": True,
    }


def trade_row(engine: Exchange, fill: EngineFill, order: EngineOrder, listing: Listing) -> dict[str, Any]:
    """An own trade."""
    mark = number(engine.mark_price(listing.symbol))
    kind = "limit" if order.type.has_price else "market"
    return {
        "amount": number(listing.amount(fill.quantity)),
        "api": True,
        "contracts": number(fill.quantity),
        "direction": fill.side.value.lower(),
        "fee": number(fill.fee),
        "fee_currency": fill.fee_asset,
        "index_price": mark,
        "instrument_name": listing.native,
        "label": tag_of(order).label,
        "liquidity": "M" if fill.liquidity is Liquidity.MAKER else "T",
        "mark_price": mark,
        "matching_id": None,
        "order_id": listing.order_id(order.id),
        "order_type": kind,
        "post_only": order.post_only,
        "price": number(fill.price),
        "profit_loss": number(fill.realized_pnl),
        "reduce_only": order.reduce_only,
        "state": state_of(order),
        "tick_direction": 0,
        "timestamp": fill.time,
        "trade_id": listing.trade_id(fill.trade_id),
        "trade_seq": fill.trade_id,
    }


_REJECTS = {
    "insufficient-funds": (10009, "not_enough_funds"),
    "post-only": (11054, "post_only_reject"),
    "tick-size": (10043, "price_wrong_tick"),
    "lot-size": (10021, "invalid_amount"),
    "min-quantity": (10002, "qty_too_low"),
    "max-quantity": (10022, "invalid_quantity"),
    "min-notional": (10032, "whole_cost_too_low"),
    "market-closed": (10012, "book_closed"),
    "order-not-found": (10004, "order_not_found"),
    "reduce-only": (11030, "other_reject invalid_reduce_only_order"),
    "stop-would-trigger": (10035, "stop_price_too_low"),
    "not-supported": (11029, "invalid_arguments"),
    "invalid": (11029, "invalid_arguments"),
}


def error_of(reject: Reject) -> RpcError:
    """What the gateway answers to a command that the engine refuses."""
    if reject.rule == "market-not-found":
        return no_instrument()
    code, message = _REJECTS.get(reject.rule, (11050, "bad_request"))
    return RpcError(code, message, {"reason": str(reject)})
