"""Checks that an order passes before it leaves: the market's steps and limits, and the client order id's format.

Nothing is rounded: an order that breaks a rule is refused with the rule, the step and the nearest values that keep it.
What a market says nothing about is left to the venue.
"""

from __future__ import annotations

import decimal
import random
import re
import string
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NoReturn

import msgspec

from astra.errors import InvalidOrder
from astra.models.base import decimal_text
from astra.models.markets import Market, MarketStatus
from astra.models.orders import OrderChange, OrderRequest

_INT64_MAX = 2**63 - 1
_RANDOM_CHARACTERS = 12
_MAX_DIGITS = 40
"""Digits before, and behind, the decimal point of a price or quantity; no market has as many."""
_EXACT = decimal.Context(prec=8 * _MAX_DIGITS, traps=[decimal.InvalidOperation, decimal.DivisionByZero])
"""Digits enough for products and quotients of what passes `_plausible` to be exact, whatever context the caller has."""


@lru_cache(maxsize=256)
def _pattern(alphabet: str, min_length: int, max_length: int) -> re.Pattern[str]:
    return re.compile(f"[{alphabet}]{{{min_length},{max_length}}}")


@lru_cache(maxsize=256)
def _characters(alphabet: str) -> str:
    """What made ids consist of: digits and letters of one case where possible, which nobody folds or escapes."""
    allowed = re.compile(f"[{alphabet}]")

    def those(candidates: str) -> str:
        return "".join(c for c in candidates if allowed.fullmatch(c) and not c.isspace())

    one_case = max(
        those(string.digits + string.ascii_lowercase), those(string.digits + string.ascii_uppercase), key=len
    )
    for characters in (one_case, those(string.printable)):
        if len(characters) >= 10:
            return characters
    raise ValueError(f"the alphabet [{alphabet}] has fewer than ten printable characters")


def _digits(number: int, characters: str) -> str:
    """`number` written in base `len(characters)`."""
    text = ""
    while True:
        number, digit = divmod(number, len(characters))
        text = characters[digit] + text
        if not number:
            return text


class ClientIdsUnique(StrEnum):
    """How far a venue itself keeps client order ids unique."""

    FOREVER = "FOREVER"
    """An id is never taken twice: what is found under it is the order that was meant."""
    WHILE_OPEN = "WHILE_OPEN"
    """An id may be used again once its order is done: an old order may be found under it."""
    NOT_ENFORCED = "NOT_ENFORCED"
    """Two orders may be open under one id."""


class ClientIdRule(msgspec.Struct, frozen=True):
    """A venue's rule for client order ids.

    `alphabet` is the text of a regular-expression character class ("A-Za-z0-9_-"). With `integer` an id is the text
    of a whole number from 1 to 2^63 - 1. `prefix` starts the ids that Astra makes; a caller's own need not have it.
    `unique` says what the venue does with an id that was used before. Astra refuses a second use while the first order
    may be alive, whatever the venue does; and what it finds under an id that need not be unique it compares with what
    it sent.
    """

    max_length: int
    alphabet: str
    min_length: int = 1
    integer: bool = False
    prefix: str = ""
    unique: ClientIdsUnique = ClientIdsUnique.WHILE_OPEN

    def make(self, random: random.Random, now_ms: int) -> str:
        """A new id in the venue's format: the time, then as many random characters as there is room for (up to 12).

        The time keeps the ids of a restarted process apart from its earlier ones, however its generator was seeded.
        """
        if self.integer:
            return self._make_integer(random, now_ms)
        characters = _characters(self.alphabet)
        room = self.max_length - len(self.prefix)
        # Where room is short half of it stays random: ids of one millisecond must differ, too.
        stamp = _digits(now_ms, characters)[-max(room - _RANDOM_CHARACTERS, room // 2) :] if room > 1 else ""
        tail = "".join(random.choices(characters, k=min(_RANDOM_CHARACTERS, room - len(stamp))))
        made = self.prefix + stamp + tail
        return made + "".join(random.choices(characters, k=max(0, self.min_length - len(made))))

    def _make_integer(self, random: random.Random, now_ms: int) -> str:
        digits = self.max_length - len(self.prefix)
        if digits >= 19:
            # 41 bits of time (until 2039, then over again) and 22 random ones.
            return str(max(1, (now_ms % 2**41) << 22 | random.getrandbits(22)))
        return self.prefix + str(random.randrange(10 ** (digits - 1), 10**digits))

    def check(self, client_order_id: str, exchange: str) -> None:
        """Raise `InvalidOrder` (rule "client-order-id") that says the rule unless the id keeps it."""
        if self.integer:
            most = min(_INT64_MAX, 10**self.max_length - 1)
            if re.fullmatch(r"[1-9][0-9]{0,18}", client_order_id, re.ASCII) and int(client_order_id) <= most:
                return
            wanted = f"a whole number from 1 to {most}"
        else:
            if _pattern(self.alphabet, self.min_length, self.max_length).fullmatch(client_order_id):
                return
            wanted = f"{self.min_length} to {self.max_length} characters out of [{self.alphabet}]"
        raise InvalidOrder(
            f"clientOrderId {client_order_id[:100]!r} does not keep the venue's format: {wanted}",
            exchange=exchange,
            rule="client-order-id",
        )


def native_quantity(market: Market, order: OrderRequest | OrderChange) -> Decimal:
    """The quantity that goes on the wire: contracts for markets with a `contract_size`, base units for all others.

    A linear market's base quantity is converted exactly. Raises `InvalidOrder` when it is no whole number of steps of
    contracts (rule "lot-size"), when an inverse market is given no `contracts` or a market without contracts is given
    them ("contracts"), or when the order gives a `quote_quantity` ("quote-quantity": a venue that takes it asks for it
    before).
    """
    contracts, quantity = order.contracts, order.quantity
    if contracts is not None:
        if market.contract_size is None:
            _refuse(market, "contracts", f"is not traded in contracts: give quantity in {market.base_asset}")
        return _plausible(market, "contracts", contracts)
    if quantity is None:
        if isinstance(order, OrderChange):
            raise ValueError("the change concerns the price only")
        _refuse(market, "quote-quantity", "takes the amount in units of the base asset or contracts, not quoteQuantity")
    _plausible(market, "quantity", quantity)
    if market.contract_size is None:
        return quantity
    if market.is_inverse:
        size = f"{decimal_text(market.contract_size)} {market.quote_asset}"
        _refuse(market, "contracts", f"has inverse contracts of {size}: give contracts, not quantity")
    lot = _lot_size(market, order) or Decimal(1)
    step = _EXACT.multiply(lot, market.contract_size)
    lots, rest = _EXACT.divmod(quantity, step)
    if rest:
        one = f"{decimal_text(lot)} contract(s) of {decimal_text(market.contract_size)} {market.base_asset}"
        _refuse(market, "lot-size", f"quantity {_off_step(quantity, step)} (a step is {one})")
    return _EXACT.multiply(lots, lot)


def check_order(market: Market, order: OrderRequest) -> None:
    """Raise `InvalidOrder` with the rule that `order` breaks in `market`, if any.

    Rules: "market-closed", "tick-size", "min-price", "max-price", "contracts", "lot-size", "min-quantity",
    "max-quantity", "min-notional", "max-notional".
    """
    _check_status(market)
    _check_price(market, order.price)
    if order.stop_price is not None:
        _check_tick(market, "stopPrice", order.stop_price)
    if order.quote_quantity is not None:
        notional: Decimal | None = _plausible(market, "quoteQuantity", order.quote_quantity)
    else:
        native = native_quantity(market, order)
        _check_quantity(market, order, native)
        notional = _notional(market, native, order.price)
    # An order that only closes may be as small as what is left to close.
    _check_notional(market, notional, smallest=not order.reduce_only)


def check_change(market: Market, change: OrderChange) -> None:
    """Raise `InvalidOrder` with the rule that `change` breaks in `market`, if any; rules as for `check_order`.

    The notional is checked when both price and quantity change: the other one is not known here.
    """
    _check_status(market)
    _check_price(market, change.price)
    if change.quantity is None and change.contracts is None:
        return
    native = native_quantity(market, change)
    _check_quantity(market, change, native)
    # The order may be reduce-only, which has no smallest notional.
    _check_notional(market, _notional(market, native, change.price), smallest=False)


def _check_status(market: Market) -> None:
    if market.status is not MarketStatus.ACTIVE:
        _refuse(market, "market-closed", f"takes no orders now: it is {market.status}")


def _check_price(market: Market, price: Decimal | None) -> None:
    if price is None:
        return
    _check_tick(market, "price", price)
    if market.min_price and price < market.min_price:
        _refuse(
            market,
            "min-price",
            f"price {decimal_text(price)} is below the lowest one, {decimal_text(market.min_price)}",
        )
    if market.max_price and price > market.max_price:
        _refuse(
            market,
            "max-price",
            f"price {decimal_text(price)} is above the highest one, {decimal_text(market.max_price)}",
        )


def _check_tick(market: Market, name: str, price: Decimal) -> None:
    tick = market.tick_at(_plausible(market, name, price))
    if tick and _EXACT.remainder(price, tick):
        _refuse(market, "tick-size", f"{name} {_off_step(price, tick)}")


def _lot_size(market: Market, order: OrderRequest | OrderChange) -> Decimal | None:
    return (market.market_lot_size if _at_market(order) else None) or market.lot_size or None


def _at_market(order: OrderRequest | OrderChange) -> bool:
    return isinstance(order, OrderRequest) and not order.type.has_price


def _check_quantity(market: Market, order: OrderRequest | OrderChange, native: Decimal) -> None:
    name = "quantity" if market.contract_size is None else "contracts"
    lot = _lot_size(market, order)
    if lot and _EXACT.remainder(native, lot):
        _refuse(market, "lot-size", f"{name} {_off_step(native, lot)}")
    at_market = _at_market(order)
    least = (market.market_min_quantity if at_market else None) or market.min_quantity
    most = (market.market_max_quantity if at_market else None) or market.max_quantity
    if least and native < least:
        _refuse(market, "min-quantity", f"{name} {decimal_text(native)} is less than the least, {decimal_text(least)}")
    if most and native > most:
        _refuse(market, "max-quantity", f"{name} {decimal_text(native)} is more than the most, {decimal_text(most)}")


def _notional(market: Market, native: Decimal, price: Decimal | None) -> Decimal | None:
    """The order's value in quote units; None where no price is known."""
    if market.contract_size is not None:
        native = _EXACT.multiply(native, market.contract_size)
        if market.is_inverse:
            return native
    return None if price is None else _EXACT.multiply(native, price)


def _check_notional(market: Market, notional: Decimal | None, *, smallest: bool) -> None:
    if notional is None:
        return
    value = f"a value of {decimal_text(notional)} {market.quote_asset}"
    if smallest and market.min_notional and notional < market.min_notional:
        _refuse(market, "min-notional", f"{value} is less than the least, {decimal_text(market.min_notional)}")
    if market.max_notional and notional > market.max_notional:
        _refuse(market, "max-notional", f"{value} is more than the most, {decimal_text(market.max_notional)}")


def _plausible(market: Market, name: str, value: Decimal) -> Decimal:
    """Refuse numbers with so many digits that arithmetic with them would not be exact (or would not end)."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or value.adjusted() >= _MAX_DIGITS or exponent < -_MAX_DIGITS:
        rule = "tick-size" if name in ("price", "stopPrice") else "lot-size"
        _refuse(market, rule, f"{name} has more than {_MAX_DIGITS} digits before or behind the decimal point")
    return value


def _off_step(value: Decimal, step: Decimal) -> str:
    """That `value` is no multiple of `step`, with its neighbours that are."""
    below = _EXACT.multiply(_EXACT.divide_int(value, step), step)
    above = _EXACT.add(below, step)
    valid = f"{decimal_text(below)} or {decimal_text(above)}" if below else decimal_text(above)
    return f"{decimal_text(value)} is no multiple of {decimal_text(step)}: the nearest valid value is {valid}"


def _refuse(market: Market, rule: str, reason: str) -> NoReturn:
    raise InvalidOrder(f"{market.symbol}: {reason}", exchange=market.exchange, rule=rule)
