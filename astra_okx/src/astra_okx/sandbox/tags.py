"""What the venue remembers of orders and fills beyond the engine, and how it names their states."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from astra.models.orders import OrderStatus
from astra.sandbox import EngineFill, EngineOrder
from astra_okx.sandbox.catalogue import order_number

_SOURCES = {"fok": "13", "ioc": "14", "post-only": "31", "self-trade": "32"}
"""Why the engine ended an order -> `cancelSource`."""
UNFILLED_KEPT_MS = 2 * 3600 * 1000
"""An order that was cancelled without a fill is forgotten after so long."""
ALGO_MARK = "algo#"
"""Algo orders have a client id space of their own; no order's client id can hold a `#`."""


class Algo(msgspec.Struct, eq=False):
    """What an algo order was placed with."""

    kind: str
    client_id: str
    trigger: str
    """Which parameters hold the trigger: sl, tp or trigger."""
    trigger_type: str = "last"
    triggered_ms: int = 0


class Tag(msgspec.Struct, eq=False):
    """What the venue remembers of an order and the engine does not."""

    type: str
    td_mode: str
    client_id: str = ""
    tag: str = ""
    target: str = ""
    quote_size: str | None = None
    stp_mode: str = "cancel_maker"
    cancel_source: str | None = None
    request_id: str = ""
    amending: bool = False
    algo: Algo | None = None
    number: int | None = None
    """The id of an order that the engine never had."""


class BookedFill(msgspec.Struct, frozen=True):
    """A fill with the id of its bill."""

    bill_id: int
    fill: EngineFill
    order: EngineOrder
    """The order as it stood then."""


def tag_of(order: EngineOrder) -> Tag:
    """The order's tag; one made up for orders that did not come through the protocol."""
    if isinstance(order.tag, Tag):
        return order.tag
    client_id, spot = order.client_order_id or "", order.position_side is None and order.market.startswith("OKX-SPOT")
    kind = "post_only" if order.post_only else order.time_in_force.value.lower()
    if kind not in ("post_only", "ioc", "fok"):
        kind = "limit" if order.price is not None else "market"
    algo = Algo("conditional", client_id, "sl") if order.type.is_conditional else None
    return Tag(kind, "cash" if spot else "cross", "" if algo else client_id, algo=algo)


def number_of(order: EngineOrder) -> int:
    """`ordId`."""
    return tag_of(order).number or order_number(order)


def waits(order: EngineOrder) -> bool:
    """A conditional order that was not triggered (yet, or ever): it lives among the algo orders."""
    return order.type.is_conditional and not order.triggered


def forgotten(order: EngineOrder, now_ms: int) -> bool:
    return not order.status.is_open and not order.filled and now_ms - order.updated > UNFILLED_KEPT_MS


def state_of(order: EngineOrder) -> str:
    if order.status is OrderStatus.NEW:
        return "live"
    return {OrderStatus.PARTIALLY_FILLED: "partially_filled", OrderStatus.FILLED: "filled"}.get(
        order.status, "canceled"
    )


def cancel_source(order: EngineOrder) -> str:
    """Why an order ended; empty unless it was cancelled."""
    if state_of(order) != "canceled":
        return ""
    if order.status is OrderStatus.CANCELED:
        return tag_of(order).cancel_source or "1"
    return _SOURCES.get(order.reason or "", "0")


class Tally(msgspec.Struct, eq=False):
    """What an account's fills in one position came to."""

    first_ms: int
    last_ms: int = 0
    last_trade: int = 0
    fee: Decimal = Decimal(0)
    profit: Decimal = Decimal(0)
