"""The venue's words for orders, and native amounts as Astra's: shared by REST answers and account streams.

"Native" quantities are what is on the wire: base units on spot and USD-M, contracts on COIN-M and options.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from astra.models.accounts import Position
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    Liquidity,
    MarginMode,
    Order,
    OrderStatus,
    OrderType,
    PositionSide,
    TimeInForce,
)
from astra.models.trades import Side

ALGO_PREFIX = "algo:"
"""Conditional futures orders have ids in a space of their own: `algo:2146760` is the conditional order 2146760,
`2146760` the ordinary one."""

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

_CONTEXT = Context(prec=28, rounding=ROUND_HALF_EVEN)
"""Divisions do not depend on the decimal context of whoever calls."""


def decimal_or_none(text: str | Decimal | None) -> Decimal | None:
    """A decimal; None for what the venue writes where it has none ("", "0", "0.00")."""
    if text is None or text == "":
        return None
    try:
        return Decimal(text) or None
    except InvalidOperation:
        return None


def average_of(quote: Decimal | None, base: Decimal | None) -> Decimal | None:
    """Average price from the cumulative quote and base quantity. A negative quote quantity means unknown (orders from
    before it was kept)."""
    if not quote or not base or quote < 0:
        return None
    return _CONTEXT.divide(quote, base)


def order_type(word: str, price: Decimal | None, *, spot: bool = False) -> OrderType:
    """The type that the venue's word means. Types that Astra cannot place (LIQUIDATION ...) go by their price."""
    known = (_FROM_SPOT if spot else _FROM_FUTURES).get(word)
    if known is not None:
        return known
    return OrderType.LIMIT if price else OrderType.MARKET


def order_status(word: str, filled: Decimal | None, total: Decimal | None) -> OrderStatus:
    """The status that the venue's word means; unknown words are UNKNOWN."""
    if word in _BY_QUANTITY:
        if not filled:
            return OrderStatus.NEW
        return OrderStatus.FILLED if total is not None and filled >= total else OrderStatus.PARTIALLY_FILLED
    return _STATUS.get(word, OrderStatus.UNKNOWN)


def algo_status(word: str, filled: Decimal | None, total: Decimal | None) -> OrderStatus:
    """The status of a conditional order. FINISHED: its real order is done, one way or the other."""
    if word == "FINISHED":
        if filled is None:
            return OrderStatus.UNKNOWN
        return OrderStatus.FILLED if filled and (total is None or filled >= total) else OrderStatus.CANCELED
    return _STATUS.get(word, OrderStatus.UNKNOWN)


def time_in_force(word: str | None) -> TimeInForce | None:
    return _TIME_IN_FORCE.get(word or "")


def make_order(
    market: Market,
    *,
    order_id: str | None,
    client_order_id: str | None,
    side: Side,
    kind: OrderType,
    status: OrderStatus,
    price: Decimal | None,
    total: Decimal | None,
    filled: Decimal | None,
    average: Decimal | None,
    stop_price: Decimal | None = None,
    quote_quantity: Decimal | None = None,
    time_in_force_word: str | None = None,
    reduce_only: bool = False,
    post_only: bool = False,
    created: int | None = None,
    updated: int | None = None,
) -> Order:
    """An `Order` from native quantities `total` and `filled`; zeros that mean "none" may be passed as they are.

    Contracts become base units at the average fill; at the limit price while nothing is filled.
    """
    in_contracts = market.contract_size is not None
    price, average = price or None, average or None
    at = average if filled else price
    return Order(
        id=order_id,
        client_order_id=client_order_id or None,
        market=market.symbol,
        side=side,
        type=kind,
        time_in_force=time_in_force(time_in_force_word),
        price=price,
        stop_price=stop_price or None,
        quantity=market.base_quantity(total, at) if total else None,
        contracts=(total or None) if in_contracts else None,
        quote_quantity=quote_quantity or None,
        filled_quantity=_filled_base(market, filled, average),
        filled_contracts=filled if in_contracts else None,
        average_price=average if filled else None,
        status=status,
        reduce_only=reduce_only,
        post_only=post_only or time_in_force_word in POST_ONLY_WORDS,
        created_time=created or None,
        updated_time=updated or None,
    )


def _filled_base(market: Market, filled: Decimal | None, average: Decimal | None) -> Decimal | None:
    if not filled:
        return filled
    return market.base_quantity(filled, average)


def make_fill(
    market: Market,
    *,
    trade_id: int | str,
    order_id: int | str | None,
    side: Side,
    price: Decimal,
    size: Decimal,
    fee: Decimal | None,
    fee_asset: str | None,
    maker: bool | None,
    time: int,
    client_order_id: str | None = None,
) -> Fill:
    """A `Fill` from the native quantity `size`. The venue's trade ids are unique per market."""
    quantity = market.base_quantity(size, price)
    assert quantity is not None, "a fill has a price"
    return Fill(
        id=str(trade_id),
        order_id=None if order_id is None else str(order_id),
        client_order_id=client_order_id or None,
        market=market.symbol,
        side=side,
        price=price,
        quantity=quantity,
        contracts=size if market.contract_size is not None else None,
        fee=fee,
        fee_asset=fee_asset,
        liquidity=None if maker is None else Liquidity.MAKER if maker else Liquidity.TAKER,
        time=time,
    )


def make_position(
    market: Market,
    side: PositionSide,
    size: Decimal,
    *,
    entry: Decimal | None = None,
    mark: Decimal | None = None,
    liquidation: Decimal | None = None,
    unrealized_pnl: Decimal | None = None,
    leverage: Decimal | None = None,
    margin_mode: MarginMode | None = None,
) -> Position:
    """A `Position` from the native quantity (its sign does not matter); an inverse one's `quantity` is at the mark."""
    size = abs(size)
    return Position(
        market=market.symbol,
        side=side,
        quantity=market.base_quantity(size, mark or None) if size else size,
        contracts=size if market.contract_size is not None else None,
        entry_price=entry or None,
        mark_price=mark or None,
        liquidation_price=liquidation or None,
        unrealized_pnl=unrealized_pnl,
        leverage=leverage,
        margin_mode=margin_mode,
    )


def position_side(word: str, size: Decimal) -> PositionSide:
    """LONG or SHORT as the venue says it; the one position of one-way mode (BOTH) goes by the sign of its size."""
    if word in ("LONG", "SHORT"):
        return PositionSide(word)
    return PositionSide.SHORT if size < 0 else PositionSide.LONG


def margin_mode(word: str | None) -> MarginMode | None:
    """`cross`, `CROSSED`, `isolated`, `ISOLATED`."""
    folded = (word or "").lower()
    if folded.startswith("isolated"):
        return MarginMode.ISOLATED
    return MarginMode.CROSS if folded.startswith("cross") else None
