"""The venue's words for orders, shared by REST answers and account streams."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

from astra.models.markets import Market
from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.trading.checks import ClientIdRule
from astra.trading.native import status_of

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_ROUNDED = Context(prec=28, rounding=ROUND_HALF_EVEN)
"""Averages are computed with more digits than they keep: fills at one price have that price as average."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")


class SpotClientIds(ClientIdRule, frozen=True):
    """Up to 18 characters of ASCII, or a UUID with or without its hyphens."""

    def check(self, client_order_id: str, exchange: str) -> None:
        if _UUID.fullmatch(client_order_id) is None:
            super().check(client_order_id, exchange)


SPOT_CLIENT_IDS = SpotClientIds(max_length=18, alphabet="!-~")
DERIVATIVES_CLIENT_IDS = ClientIdRule(max_length=100, alphabet="!-~")

SPOT_TYPES: Mapping[OrderType, str] = {
    OrderType.LIMIT: "limit",
    OrderType.MARKET: "market",
    OrderType.STOP_MARKET: "stop-loss",
    OrderType.STOP_LIMIT: "stop-loss-limit",
    OrderType.TAKE_PROFIT_MARKET: "take-profit",
    OrderType.TAKE_PROFIT_LIMIT: "take-profit-limit",
}
_FROM_SPOT = {word: kind for kind, word in SPOT_TYPES.items()} | {
    "iceberg": OrderType.LIMIT,
    "trailing-stop": OrderType.STOP_MARKET,
    "trailing-stop-limit": OrderType.STOP_LIMIT,
    "settle-position": OrderType.MARKET,
}
POST_ONLY_REASON = "post only order"
"""Why a post-only order was canceled that would have taken: it never was in the book."""

REFUSED_REASONS = frozenset(
    {
        "post_order_failed_because_it_would_filled",
        "post_order_failed_because_it_would_be_filled",
        "ioc_order_failed_because_it_would_not_be_executed",
        "would_not_reduce_position",
    }
)
EXPIRED_REASON = "contract_expired"
TRIGGERED_REASON = "stop_order_triggered"


def side_of(word: str) -> Side:
    """`buy`, `Buy`, `sell` ..."""
    return Side(word.upper())


def spot_type(word: str, price: Decimal | None) -> OrderType:
    """The type that Spot's word means; unknown ones go by their price."""
    return _FROM_SPOT.get(word) or (OrderType.LIMIT if price else OrderType.MARKET)


def spot_status(word: str, filled: Decimal | None, total: Decimal | None, reason: str | None) -> OrderStatus:
    """The status that REST's and the stream's words mean; unknown words are UNKNOWN."""
    if word in ("pending", "pending_new", "open", "new", "triggered", "partially_filled"):
        now = status_of(filled, total)
        # All of it may be filled before the words say so: the venue's word for the end is waited for.
        return OrderStatus.PARTIALLY_FILLED if now is OrderStatus.FILLED else now
    if word in ("closed", "filled"):
        return OrderStatus.FILLED
    if word == "canceled":
        refused = not filled and reason is not None and reason.lower().startswith(POST_ONLY_REASON)
        return OrderStatus.REJECTED if refused else OrderStatus.CANCELED
    return OrderStatus.EXPIRED if word == "expired" else OrderStatus.UNKNOWN


def derivatives_type(word: str, price: Decimal | None, stop_price: Decimal | None) -> OrderType:
    """`lmt`, `limit`, `post`, `ioc`, `fok`, `mkt`, `stp`, `stop`, `take_profit` ... A conditional order has a price
    where it becomes a limit order."""
    folded = word.lower()
    if folded in ("stp", "stop", "trailing_stop", "trigger_order") or (stop_price and folded not in ("take_profit",)):
        return OrderType.STOP_LIMIT if price else OrderType.STOP_MARKET
    if folded == "take_profit":
        return OrderType.TAKE_PROFIT_LIMIT if price else OrderType.TAKE_PROFIT_MARKET
    return OrderType.MARKET if folded in ("mkt", "market") else OrderType.LIMIT


def derivatives_force(word: str) -> TimeInForce | None:
    """The time in force that a type of the derivatives API implies."""
    folded = word.lower()
    if folded in ("ioc", "mkt", "market"):
        return TimeInForce.IOC
    if folded in ("fok", "fillorkill"):
        return TimeInForce.FOK
    return TimeInForce.GTC if folded in ("lmt", "limit", "post", "stp", "stop", "take_profit") else None


def spot_force(word: str | None) -> TimeInForce | None:
    folded = (word or "").upper()
    return TimeInForce(folded) if folded in TimeInForce.__members__ else None


def gone_status(reason: str | None, filled: Decimal | None) -> OrderStatus:
    """What the end of an order means that the derivatives' stream gives a reason for."""
    if reason == "full_fill":
        return OrderStatus.FILLED
    if reason == EXPIRED_REASON:
        return OrderStatus.EXPIRED
    return OrderStatus.REJECTED if reason in REFUSED_REASONS and not filled else OrderStatus.CANCELED


def average_fill(market: Market, fills: Iterable[tuple[Decimal, Decimal]]) -> Decimal | None:
    """The price at which (price, native quantity) were filled on average: weighted by base units, so that quantity and
    average make up what was really exchanged (for inverse contracts the harmonic mean)."""
    quote = base = Decimal(0)
    for price, quantity in fills:
        if market.is_inverse:
            quote = _EXACT.add(quote, quantity)
            base = _EXACT.add(base, _EXACT.divide(quantity, price))
        else:
            quote = _EXACT.add(quote, _EXACT.multiply(quantity, price))
            base = _EXACT.add(base, quantity)
    return _ROUNDED.plus(_EXACT.divide(quote, base)) if base else None


def maker_of(word: str | None) -> bool | None:
    """`maker`, `taker`, `takerAfterEdit`; other kinds of fills (liquidation, assignment ...) are neither."""
    folded = (word or "").lower()
    if folded == "maker":
        return True
    return False if folded.startswith("taker") else None
