"""What an order must satisfy before it enters a market. Every check raises `astra.sandbox.Reject`."""

from __future__ import annotations

from decimal import Decimal

from astra.models.base import decimal_text
from astra.models.markets import Market, MarketStatus
from astra.models.orders import TimeInForce
from astra.sandbox import NewOrder, Reject

MAX_MAGNITUDE = 12
MAX_DECIMALS = 12


def check_shape(new: NewOrder, now_ms: int) -> None:
    """The order says what its type needs, and nothing that contradicts it (rule `invalid`)."""
    if (new.quantity is None) == (new.quote_quantity is None):
        raise Reject("invalid", "an order has exactly one of quantity and quote quantity")
    if new.quote_quantity is not None and (new.type.has_price or new.type.is_conditional):
        raise Reject("invalid", "a quote quantity goes with MARKET orders only")
    if new.type.has_price != (new.price is not None):
        raise Reject("invalid", f"a {new.type} order has {'a' if new.type.has_price else 'no'} price")
    if new.type.is_conditional != (new.stop_price is not None):
        raise Reject("invalid", f"a {new.type} order has {'a' if new.type.is_conditional else 'no'} stop price")
    for name in ("quantity", "quote_quantity", "price", "stop_price"):
        value = getattr(new, name)
        if value is not None:
            check_number(name, value)
    if new.post_only and (not new.type.has_price or new.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)):
        raise Reject("invalid", "only a limit order that may rest can be post-only")
    if (new.time_in_force is TimeInForce.GTD) != (new.expire_time is not None):
        raise Reject("invalid", "an expire time goes with GTD, and GTD with an expire time")
    if new.expire_time is not None and new.expire_time <= now_ms:
        raise Reject("invalid", f"the expire time {new.expire_time} is past, it is {now_ms} now")


def check_number(name: str, value: Decimal) -> None:
    """A positive number that leaves room for exact sums and products (rule `invalid`)."""
    if not (value.is_finite() and value > 0):
        raise Reject("invalid", f"{name} must be a positive number")
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if value.adjusted() > MAX_MAGNITUDE or exponent < -MAX_DECIMALS:
        raise Reject("invalid", f"{name} has more than {MAX_MAGNITUDE} digits before or {MAX_DECIMALS} after the point")


def on_grid(value: Decimal, step: Decimal | None) -> Decimal:
    """The same number written with as many decimals as the step has."""
    exponent = step.as_tuple().exponent if step else 0
    return value.quantize(step) if step and isinstance(exponent, int) and exponent <= 0 else value


def check_open(market: Market) -> None:
    """The market takes orders (rule `market-closed`)."""
    if market.status is not MarketStatus.ACTIVE:
        raise Reject("market-closed", f"{market.symbol} is {market.status}")


def check_price(market: Market, price: Decimal) -> None:
    """The price is on the tick grid and inside the market's range (rule `tick-size`)."""
    tick = market.tick_at(price)
    if tick and price % tick:
        raise Reject("tick-size", f"price {_text(price)} is no multiple of the tick size {_text(tick)}")
    if market.min_price and price < market.min_price:
        raise Reject("tick-size", f"price {_text(price)} is below the minimum {_text(market.min_price)}")
    if market.max_price and price > market.max_price:
        raise Reject("tick-size", f"price {_text(price)} is above the maximum {_text(market.max_price)}")


def check_quantity(market: Market, quantity: Decimal, *, at_market: bool) -> None:
    """The quantity is a number of whole lots within bounds (rules `lot-size`, `min-quantity`, `max-quantity`).

    Market orders (`at_market`) have lots and bounds of their own where the market says so.
    """
    lot = (at_market and market.market_lot_size) or market.lot_size
    if lot and quantity % lot:
        raise Reject("lot-size", f"quantity {_text(quantity)} is no multiple of the lot size {_text(lot)}")
    least = (at_market and market.market_min_quantity) or market.min_quantity
    if least and quantity < least:
        raise Reject("min-quantity", f"quantity {_text(quantity)} is below the minimum {_text(least)}")
    most = (at_market and market.market_max_quantity) or market.max_quantity
    if most and quantity > most:
        raise Reject("max-quantity", f"quantity {_text(quantity)} is above the maximum {_text(most)}")


def check_notional(market: Market, notional: Decimal) -> None:
    """The order's worth in quote units is within the market's bounds (rule `min-notional`, for both ends)."""
    if market.min_notional and notional < market.min_notional:
        raise Reject("min-notional", f"{_text(notional)} is below the minimum notional {_text(market.min_notional)}")
    if market.max_notional and notional > market.max_notional:
        raise Reject("min-notional", f"{_text(notional)} is above the maximum notional {_text(market.max_notional)}")


def _text(value: Decimal) -> str:
    return decimal_text(value)
