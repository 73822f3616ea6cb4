"""The venue's words for orders, and native amounts as Astra's: shared by REST answers and account streams.

"Native" quantities are what is on the wire: base units on spot and USD-M, contracts on COIN-M and options.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from astra.models.orders import (
    OrderStatus,
    OrderType,
    TimeInForce,
)
from astra.trading.native import status_of

ALGO_PREFIX = "algo:"
"""Conditional futures orders have ids in a space of their own: `algo:2146760` is the conditional order 2146760,
`2146760` the ordinary one."""

_NO_ORDER = ("", "0")
"""`actualOrderId` of a conditional order that was not triggered."""

SPOT_TYPES: Mapping[OrderType, str] = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP_MARKET: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}
FUTURES_TYPES: Mapping[OrderType, str] = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP_MARKET: "STOP_MARKET",
    OrderType.STOP_LIMIT: "STOP",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT_MARKET",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT",
}
_FROM_SPOT = {word: kind for kind, word in SPOT_TYPES.items()} | {"LIMIT_MAKER": OrderType.LIMIT}
_FROM_FUTURES = {word: kind for kind, word in FUTURES_TYPES.items()} | {
    # Follows the price at a distance, then sells or buys at market.
    "TRAILING_STOP_MARKET": OrderType.STOP_MARKET,
}

_STATUS: Mapping[str, OrderStatus] = {
    "NEW": OrderStatus.NEW,
    "PENDING_NEW": OrderStatus.NEW,
    "ACCEPTED": OrderStatus.NEW,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "CANCELLED": OrderStatus.CANCELED,
    "PENDING_CANCEL": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
    # Conditional orders: waiting for the real order.
    "TRIGGERING": OrderStatus.NEW,
    "TRIGGERED": OrderStatus.NEW,
}
_BY_QUANTITY = frozenset({"NEW_INSURANCE", "NEW_ADL"})
"""Liquidations: how far they are shows in the quantities only."""

_TIME_IN_FORCE: Mapping[str, TimeInForce] = {
    "GTC": TimeInForce.GTC,
    "GTX": TimeInForce.GTC,
    "RPI": TimeInForce.GTC,
    "GTE_GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "GTD": TimeInForce.GTD,
}
POST_ONLY_WORDS = frozenset({"GTX", "RPI", "LIMIT_MAKER"})
"""Times in force and types that only ever make."""


def order_type(word: str, price: Decimal | None, *, spot: bool = False) -> OrderType:
    """The type that the venue's word means. Types that Astra cannot place (LIQUIDATION ...) go by their price."""
    known = (_FROM_SPOT if spot else _FROM_FUTURES).get(word)
    if known is not None:
        return known
    return OrderType.LIMIT if price else OrderType.MARKET


def order_status(word: str, filled: Decimal | None, total: Decimal | None) -> OrderStatus:
    """The status that the venue's word means; unknown words are UNKNOWN."""
    if word in _BY_QUANTITY:
        return status_of(filled, total)
    return _STATUS.get(word, OrderStatus.UNKNOWN)


def algo_status(word: str, filled: Decimal | None, total: Decimal | None) -> OrderStatus:
    """The status of a conditional order. FINISHED: its real order is done, one way or the other."""
    if word == "FINISHED":
        if filled is None:
            return OrderStatus.UNKNOWN
        return OrderStatus.FILLED if filled and (total is None or filled >= total) else OrderStatus.CANCELED
    return _STATUS.get(word, OrderStatus.UNKNOWN)


def is_order_id(actual: str | int | None) -> bool:
    """Does the `actualOrderId` of a conditional order name the order that it became?"""
    return actual is not None and str(actual) not in _NO_ORDER


def time_in_force(word: str | None) -> TimeInForce | None:
    return _TIME_IN_FORCE.get(word or "")
