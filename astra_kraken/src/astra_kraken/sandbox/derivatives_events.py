"""Derivatives orders as the events of REST tell them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import EngineFill, EngineOrder
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.catalogue import DerivativesListing
from astra_kraken.sandbox.wire import millis, number

ZERO = Decimal(0)


class Tag(msgspec.Struct, eq=False):
    """What the venue remembers of an order and the engine does not."""

    kind: str
    """`orderType` as it was sent."""
    signal: str = "last"
    reason: str | None = None
    """Why it was cancelled: the `reason` of the stream."""


def tag_of(order: EngineOrder) -> Tag:
    if isinstance(order.tag, Tag):
        return order.tag
    kind = "stp" if order.type.is_conditional else "post" if order.post_only else "lmt"
    return Tag(kind)


def order_uid(order_id: int) -> str:
    return ids.uuid_of(ids.ORDER, order_id)


def fill_uid(fill: EngineFill) -> str:
    return ids.uuid_of(ids.EXECUTION, ids.fill_number(fill.order_id, fill.trade_id))


def waits(order: EngineOrder) -> bool:
    """A conditional order that was not triggered (yet)."""
    return order.type.is_conditional and not order.triggered


def event_type(order: EngineOrder) -> str:
    """`type` in the events of REST: a market order is an `ioc` at its protection price."""
    kind = tag_of(order).kind
    if waits(order):
        return kind
    if kind in ("stp", "take_profit"):
        return "lmt" if order.type.has_price else "ioc"
    return "ioc" if kind == "mkt" else kind


def side_text(side: Side) -> str:
    return "buy" if side is Side.BUY else "sell"


def order_body(listing: DerivativesListing, order: EngineOrder, filled: Decimal | None = None) -> dict[str, Any]:
    """An order in the events of REST (`filled`: as it stood at another moment)."""
    body: dict[str, Any] = {
        "orderId": order_uid(order.id),
        "cliOrdId": order.client_order_id,
        "type": event_type(order),
        "symbol": listing.native,
        "side": side_text(order.side),
        "quantity": number(order.quantity),
        "filled": number(order.filled if filled is None else filled),
        "limitPrice": None if order.price is None else number(order.price),
        "reduceOnly": order.reduce_only,
        "timestamp": millis(order.created),
        "lastUpdateTimestamp": millis(order.updated),
    }
    if order.stop_price is not None:
        body["stopPrice"] = number(order.stop_price)
    return body


def trigger_body(listing: DerivativesListing, order: EngineOrder) -> dict[str, Any]:
    """A conditional order that waits, in the events of REST."""
    assert order.stop_price is not None
    rises = (order.type in (OrderType.STOP_LIMIT, OrderType.STOP_MARKET)) == (order.side is Side.BUY)
    return {
        "uid": order_uid(order.id),
        "clientId": order.client_order_id,
        "type": "lmt" if order.type.has_price else "ioc",
        "symbol": listing.native,
        "side": side_text(order.side),
        "quantity": number(order.quantity),
        "limitPrice": None if order.price is None else number(order.price),
        "triggerPrice": number(order.stop_price),
        "triggerSide": "trigger_above" if rises else "trigger_below",
        "triggerSignal": f"{tag_of(order).signal}_price",
        "reduceOnly": order.reduce_only,
        "timestamp": millis(order.created),
        "lastUpdateTimestamp": millis(order.updated),
    }


def placed_event(listing: DerivativesListing, order: EngineOrder) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "PLACE", "reducedQuantity": None}
    if waits(order):
        return event | {"orderTrigger": trigger_body(listing, order)}
    return event | {"order": order_body(listing, order, ZERO)}


def execution_events(listing: DerivativesListing, order: EngineOrder, since: int = 0) -> list[dict[str, Any]]:
    """One a fill (from number `since` on), each with the order as it was before."""
    filled = sum((fill.quantity for fill in order.fills[:since]), ZERO)
    events = []
    for fill in order.fills[since:]:
        events.append(
            {
                "type": "EXECUTION",
                "executionId": fill_uid(fill),
                "price": number(fill.price),
                "amount": number(fill.quantity),
                "orderPriorEdit": None,
                "orderPriorExecution": order_body(listing, order, filled),
                "takerReducedQuantity": None,
            }
        )
        filled += fill.quantity
    return events


def ended_event(listing: DerivativesListing, order: EngineOrder) -> dict[str, Any]:
    """CANCEL, as the answers to cancels have it."""
    if waits(order):
        return {"uid": order_uid(order.id), "orderTrigger": trigger_body(listing, order), "type": "CANCEL"}
    return {"uid": order_uid(order.id), "order": order_body(listing, order), "type": "CANCEL"}
