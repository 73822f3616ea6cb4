"""What an order is worth, and what price it would reach, by a book. Decides; reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from astra.models.markets import Market
from astra.models.orderbook import Level
from astra.models.orders import OrderType
from astra.models.trades import Side
from astra_risk.intent import EXACT, Intent, base_of


class Prices(msgspec.Struct, frozen=True):
    """A book at one moment: bids by falling price, asks by rising price, both sides with at least one level."""

    bids: Sequence[Level]
    asks: Sequence[Level]
    source: str

    @property
    def best_bid(self) -> Decimal:
        return exact(self.bids[0][0])

    @property
    def best_ask(self) -> Decimal:
        return exact(self.asks[0][0])

    @property
    def mid(self) -> Decimal:
        return EXACT.divide(EXACT.add(self.best_bid, self.best_ask), Decimal(2))

    def taken(self, side: Side) -> Sequence[Level]:
        """The levels that an order of `side` executes against."""
        return self.asks if side is Side.BUY else self.bids

    def touch(self, side: Side) -> Decimal:
        """The first price that an order of `side` would get."""
        return self.best_ask if side is Side.BUY else self.best_bid


class Walk(msgspec.Struct, frozen=True):
    """What a market order takes out of a book: its native quantity, its value in quote units, the last price."""

    native: Decimal
    value: Decimal
    reached: Decimal


def exact(number: float) -> Decimal:
    """The decimal that a venue wrote: a book's numbers are the nearest doubles, whose shortest text gives it back."""
    return Decimal(repr(number))


def walk(market: Market, levels: Sequence[Level], native: Decimal | None, amount: Decimal | None) -> Walk | None:
    """Take `native` (or, of quote units, `amount`) from the levels. None when they hold less."""
    taken, value, reached = Decimal(0), Decimal(0), Decimal(0)
    for price_number, quantity_number in levels:
        price, base = exact(price_number), exact(quantity_number)
        there = _native_of(market, base, price)
        worth = EXACT.multiply(base, price)
        reached = price
        if native is not None and EXACT.add(taken, there) >= native:
            share = EXACT.divide(EXACT.subtract(native, taken), there)
            return Walk(native, EXACT.add(value, EXACT.multiply(worth, share)), reached)
        if amount is not None and EXACT.add(value, worth) >= amount:
            share = EXACT.divide(EXACT.subtract(amount, value), worth)
            return Walk(EXACT.add(taken, EXACT.multiply(there, share)), amount, reached)
        taken, value = EXACT.add(taken, there), EXACT.add(value, worth)
    return None


def _native_of(market: Market, base: Decimal, price: Decimal) -> Decimal:
    if market.contract_size is None:
        return base
    contracts = EXACT.divide(base, market.contract_size)
    return EXACT.multiply(contracts, price) if market.is_inverse else contracts


def is_walked(intent: Intent) -> bool:
    """Does the order take from the book whatever is there?"""
    return intent.type is OrderType.MARKET


def notional_needs_book(intent: Intent) -> bool:
    """Can the order's value be told without a book? Not where it may execute at better prices than it names: a sell
    far below the market is worth what the bids pay."""
    if intent.market.is_inverse or intent.quote_quantity is not None:
        return False
    bounded = intent.price is not None and (intent.side is Side.BUY or (intent.post_only and intent.stop_price is None))
    return not bounded


def notional(intent: Intent, prices: Prices | None, walked: Walk | None) -> Decimal:
    """The order's value in quote units, at the worst. `prices` is given where `notional_needs_book`."""
    market = intent.market
    if intent.quote_quantity is not None:
        return intent.quote_quantity
    assert intent.native is not None
    if market.is_inverse:
        assert market.contract_size is not None
        return EXACT.multiply(intent.native, market.contract_size)
    if walked is not None:
        return walked.value
    candidates = [price for price in (intent.price, intent.stop_price) if price is not None]
    if intent.side is Side.BUY and intent.price is not None:
        candidates = [intent.price]
    elif notional_needs_book(intent):
        assert prices is not None
        candidates.append(prices.touch(intent.side))
    base = base_of(market, intent.native, None)
    assert base is not None
    return EXACT.multiply(base, max(candidates))


def position_value(market: Market, native: Decimal, mid: Decimal) -> Decimal:
    """The value of a position in quote units at `mid`."""
    if market.is_inverse:
        assert market.contract_size is not None
        return EXACT.multiply(native, market.contract_size)
    base = base_of(market, native, None)
    assert base is not None
    return EXACT.multiply(base, mid)


def reference_price(intent: Intent, mid: Decimal) -> Decimal:
    """The price from which an order's own price is measured: the mid, or for an order that waits for a trigger which
    the market has not reached its stop price (the market will be there when it executes)."""
    if intent.stop_price is None:
        return mid
    stops = intent.type in (OrderType.STOP_LIMIT, OrderType.STOP_MARKET)
    triggers_above = stops is (intent.side is Side.BUY)
    triggered = mid >= intent.stop_price if triggers_above else mid <= intent.stop_price
    return mid if triggered else intent.stop_price


def distance_percent(price: Decimal, reference: Decimal) -> Decimal:
    """How far `price` is from `reference`, in percent of it."""
    return EXACT.divide(EXACT.multiply(EXACT.subtract(price, reference).copy_abs(), Decimal(100)), reference)
