"""The engine's refusals in the words of each family."""

from __future__ import annotations

from astra.models.orders import OrderType
from astra.sandbox import Reject
from astra_binance.sandbox.wire import Family, Refusal

# What an error page of the venue prints for a rule of the engine; a new order unless the name says otherwise.
_SPOT = {
    "insufficient-funds": (-2010, "Account has insufficient balance for requested action."),
    "post-only": (-2010, "Order would immediately match and take."),
    "duplicate-client-order-id": (-2010, "Duplicate order sent."),
    "market-closed": (-1013, "Market is closed."),
    "stop-would-trigger": (-2010, "Order would trigger immediately."),
    "tick-size": (-1013, "Filter failure: PRICE_FILTER"),
    "lot-size": (-1013, "Filter failure: LOT_SIZE"),
    "min-quantity": (-1013, "Filter failure: LOT_SIZE"),
    "max-quantity": (-1013, "Filter failure: LOT_SIZE"),
    "min-notional": (-1013, "Filter failure: NOTIONAL"),
    "not-supported": (-1020, "This operation is not supported."),
}
_FUTURES = {
    "insufficient-funds": (-2019, "Margin is insufficient."),
    "post-only": (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. "
        "The order will not be recorded in the order history",
    ),
    "fok": (
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected. "
        "The order will not be recorded in the order history",
    ),
    "duplicate-client-order-id": (-4116, "ClientOrderId is duplicated."),
    "market-closed": (-4140, "Invalid symbol status for opening position."),
    "stop-would-trigger": (-2021, "Order would immediately trigger."),
    "tick-size": (-4014, "Price not increased by tick size."),
    "lot-size": (-4023, "Qty not increased by step size."),
    "min-quantity": (-4003, "Quantity less than or equal to zero."),
    "max-quantity": (-4005, "Quantity greater than max quantity."),
    "min-notional": (-4164, "Order's notional must be no smaller than the minimum (unless you choose reduce only)."),
    "reduce-only": (-2022, "ReduceOnly Order is rejected."),
    "not-supported": (-1020, "This operation is not supported."),
}
_OPTIONS = _FUTURES | {
    "insufficient-funds": (-2027, "User's available balance is insufficient."),
    "market-closed": (-4140, "Invalid symbol status for opening position."),
}


def invalid_symbol() -> Refusal:
    return Refusal(-1121, "Invalid symbol.")


def no_such_order() -> Refusal:
    """Looked for (GET, amend)."""
    return Refusal(-2013, "Order does not exist.")


def unknown_order() -> Refusal:
    """To be cancelled: filled, cancelled and never existing orders look alike."""
    return Refusal(-2011, "Unknown order sent.")


def refusal_of(reject: Reject, family: Family, order_type: OrderType | None = None) -> Refusal:
    """What the family answers to an order that the engine refuses."""
    if reject.rule == "order-not-found":
        return no_such_order()
    if reject.rule == "market-not-found":
        return invalid_symbol()
    words = _SPOT if family is Family.SPOT else _OPTIONS if family is Family.OPTIONS else _FUTURES
    code, message = words.get(reject.rule, (-1130, f"Data sent for the order is not valid: {reject}"))
    if family is Family.SPOT and order_type is OrderType.MARKET and "LOT_SIZE" in message:
        message = "Filter failure: MARKET_LOT_SIZE"
    return Refusal(code, message)
