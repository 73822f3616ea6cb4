"""Native amounts as Astra's: what REST answers and account streams of every venue have in common.

"Native" quantities are what is on the wire: contracts where the market has a `contract_size`, else base units. Zeros
and empty texts that mean "none" may be passed as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from astra.models.accounts import Position
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    Liquidity,
    MarginMode,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
    TimeInForce,
)
from astra.models.trades import Side

_CONTEXT = Context(prec=28, rounding=ROUND_HALF_EVEN)
"""Divisions do not depend on the decimal context of whoever calls."""


def decimal_or_none(text: str | Decimal | None) -> Decimal | None:
    """A decimal; None for what a venue writes where it has none ("", "0", "0.00")."""
    if text is None or text == "":
        return None
    try:
        return Decimal(text) or None
    except InvalidOperation:
        return None


def average_of(quote: Decimal | None, base: Decimal | None) -> Decimal | None:
    """Average price from the cumulative quote and base quantity. A negative quote quantity means that it is unknown."""
    if not quote or not base or quote < 0:
        return None
    return _CONTEXT.divide(quote, base)


def acknowledged(market: Market, order: OrderRequest, order_id: str | None, time: int | None) -> Order:
    """An order that was accepted, where the venue's answer says no more than its id: as it was asked for. What has
    become of it since is not known (`filled_quantity` None)."""
    in_contracts = market.contract_size is not None
    contracts = order.contracts
    if in_contracts and contracts is None and order.quantity is not None and not market.is_inverse:
        contracts = market.contracts_of(order.quantity)
    total = contracts if in_contracts else order.quantity
    return make_order(
        market,
        order_id=order_id,
        client_order_id=order.client_order_id,
        side=order.side,
        kind=order.type,
        status=OrderStatus.NEW,
        price=order.price,
        total=total,
        filled=None,
        average=None,
        stop_price=order.stop_price,
        quote_quantity=order.quote_quantity,
        time_in_force=order.time_in_force,
        reduce_only=order.reduce_only,
        post_only=order.post_only,
        created=time,
        updated=time,
    )


def status_of(filled: Decimal | None, total: Decimal | None) -> OrderStatus:
    """The status of an order that is neither canceled nor refused, by its quantities."""
    if not filled:
        return OrderStatus.NEW
    return OrderStatus.FILLED if total is not None and filled >= total else OrderStatus.PARTIALLY_FILLED


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
    time_in_force: TimeInForce | None = None,
    reduce_only: bool = False,
    post_only: bool = False,
    created: int | None = None,
    updated: int | None = None,
) -> Order:
    """An `Order` from native quantities `total` and `filled`.

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
        time_in_force=time_in_force,
        price=price,
        stop_price=stop_price or None,
        quantity=market.base_quantity(total, at) if total else None,
        contracts=(total or None) if in_contracts else None,
        quote_quantity=quote_quantity or None,
        filled_quantity=market.base_quantity(filled, average) if filled else filled,
        filled_contracts=filled if in_contracts else None,
        average_price=average if filled else None,
        status=status,
        reduce_only=reduce_only,
        post_only=post_only,
        created_time=created or None,
        updated_time=updated or None,
    )


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
    """A `Fill` from the native quantity `size`. `fee` is positive when paid."""
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
    """LONG or SHORT as the venue says it, in any case; other words (BOTH, net) go by the sign of the size."""
    folded = word.upper()
    if folded in ("LONG", "SHORT"):
        return PositionSide(folded)
    return PositionSide.SHORT if size < 0 else PositionSide.LONG


def margin_mode(word: str | None) -> MarginMode | None:
    """`cross`, `CROSSED`, `isolated`, `ISOLATED`; None for other words."""
    folded = (word or "").lower()
    if folded.startswith("isolated"):
        return MarginMode.ISOLATED
    return MarginMode.CROSS if folded.startswith("cross") else None


class NetSides:
    """The sides of net (one-way) positions of an account's stream: a position that changed sides, or is gone, is told
    as closed on the side that it had."""

    def __init__(self) -> None:
        self._sides: dict[tuple[str, MarginMode | None], PositionSide] = {}

    def closed(self, market: Market, size: Decimal, mode: MarginMode | None = None) -> Iterator[Position]:
        """What `size` (signed, native) closes; before the first event of a market either side may have been held.
        `mode`: of the position, where the venue keeps one of each mode in a market."""
        key = (market.symbol, mode)
        known = self._sides.pop(key, None)
        now = position_side("", size) if size else None
        if now is not None:
            self._sides[key] = now
        for side in PositionSide:
            if side is not now and known in (side, None):
                yield make_position(market, side, Decimal(0), margin_mode=mode)
