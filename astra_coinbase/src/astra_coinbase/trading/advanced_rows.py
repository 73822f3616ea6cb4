"""Advanced Trade's rows of orders, fills, balances and positions as Astra's.

All numbers are texts. Sizes are base units for spot, contracts for futures; market orders to buy spot may be sized in
the quote asset, and so are their fills then. Source: docs.cdp.coinbase.com, "Get Order", "List Fills", "List Accounts",
"List Futures Positions", "WebSocket Channels" (user).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.rest import Recent
from astra.trading.native import decimal_or_none, make_fill, make_order, make_position, position_side
from astra_coinbase.markets import ABSTRACT, epoch_ms, known_ms
from astra_coinbase.settings import SPOT, US_FUTURES

Time = datetime.datetime | None
STOP_UP, STOP_DOWN = "STOP_DIRECTION_STOP_UP", "STOP_DIRECTION_STOP_DOWN"
_CONTEXT = Context(prec=50, rounding=ROUND_HALF_EVEN)
_LIVE = frozenset({"OPEN", "PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"})
_DONE: Mapping[str, OrderStatus] = {
    "FILLED": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELED,
    "EXPIRED": OrderStatus.EXPIRED,
    "FAILED": OrderStatus.REJECTED,
}
_TIMES: Mapping[str, TimeInForce] = {
    "GOOD_UNTIL_CANCELLED": TimeInForce.GTC,
    "GOOD_UNTIL_DATE_TIME": TimeInForce.GTD,
    "IMMEDIATE_OR_CANCEL": TimeInForce.IOC,
    "FILL_OR_KILL": TimeInForce.FOK,
}
EDITABLE = ("limit_limit_gtc", "stop_limit_stop_limit_gtc")
"""Configurations of orders that can be amended."""


class Kinds:
    """Which type orders were seen to have, by client order id: neither protocol's stream tells a stop from a
    take-profit order in all its words."""

    KEPT = 20_000

    def __init__(self) -> None:
        self._kinds: Recent[str, OrderType] = Recent(self.KEPT)

    def note(self, client_order_id: str | None, kind: OrderType) -> None:
        if client_order_id and kind.is_conditional:
            self._kinds[client_order_id] = kind

    def placing(self, client_order_id: str, kind: OrderType) -> None:
        """A new order is placed under an id that may have been another one's: what was noted of that one is over."""
        if kind.is_conditional or self._kinds.get(client_order_id) is not None:
            self._kinds[client_order_id] = kind

    def of(self, client_order_id: str, kind: OrderType) -> OrderType:
        """The conditional type that the order is known to have; else `kind`."""
        known = self._kinds.get(client_order_id)
        return known if known is not None and known.is_conditional else kind


def status_of(status: str, filled: Decimal) -> OrderStatus:
    """What is left of an immediate order is CANCELLED."""
    if status in _LIVE:
        return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    return _DONE.get(status, OrderStatus.UNKNOWN)


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else decimal_or_none(str(value))


class Edit(msgspec.Struct):
    replace_accept_timestamp: Time = None


class OrderRow(msgspec.Struct):
    """An order, as REST prints it."""

    order_id: str
    product_id: str
    side: str
    status: str
    order_configuration: dict[str, dict[str, Any]] = {}
    client_order_id: str = ""
    time_in_force: str = ""
    created_time: Time = None
    filled_size: str = "0"
    average_filled_price: str = "0"
    size_in_quote: bool = False
    last_fill_time: Time = None
    edit_history: list[Edit] | None = None

    @property
    def configuration(self) -> tuple[str, Mapping[str, Any]]:
        """(its name, its members)."""
        return next(((name, members or {}) for name, members in self.order_configuration.items()), ("", {}))

    @property
    def kind(self) -> OrderType:
        """A stop waits for a price beyond the market's on the order's own side: one to buy for a rise."""
        name, members = self.configuration
        if name.startswith("market_"):
            return OrderType.MARKET
        if name.startswith("stop_limit"):
            follows = (members.get("stop_direction") == STOP_UP) == (self.side == "BUY")
            return OrderType.STOP_LIMIT if follows else OrderType.TAKE_PROFIT_LIMIT
        return OrderType.LIMIT

    @property
    def updated(self) -> int | None:
        edits = (known_ms(edit.replace_accept_timestamp) for edit in self.edit_history or ())
        times = [known_ms(self.created_time), known_ms(self.last_fill_time), *edits]
        return max((time for time in times if time is not None), default=None)

    def order(self, market: Market) -> Order:
        _, members = self.configuration
        filled = Decimal(self.filled_size or 0)
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.client_order_id,
            side=Side(self.side),
            kind=self.kind,
            status=status_of(self.status, filled),
            price=_decimal(members.get("limit_price")),
            stop_price=_decimal(members.get("stop_price")) or _decimal(members.get("stop_trigger_price")),
            total=_decimal(members.get("base_size")),
            filled=filled,
            average=decimal_or_none(self.average_filled_price),
            quote_quantity=_decimal(members.get("quote_size")),
            time_in_force=_TIMES.get(self.time_in_force),
            reduce_only=members.get("reduce_only") is True,
            post_only=members.get("post_only") is True,
            created=known_ms(self.created_time),
            updated=self.updated,
        )


class UserOrder(msgspec.Struct):
    """An order, as the user channel prints it. What is left of it is nothing once it is done, and in the quote asset
    for a market order that was sized so."""

    order_id: str
    product_id: str
    order_side: str
    status: str
    client_order_id: str = ""
    order_type: str = ""
    time_in_force: str = ""
    avg_price: str = "0"
    cumulative_quantity: str = "0"
    leaves_quantity: str = "0"
    limit_price: str = ""
    stop_price: str = ""
    post_only: str = "false"
    creation_time: Time = None

    @property
    def _kind(self) -> OrderType:
        word = self.order_type.lower().replace("_", " ")
        if word == "market":
            return OrderType.MARKET
        return OrderType.STOP_LIMIT if word == "stop limit" else OrderType.LIMIT

    def order(self, market: Market, kinds: Kinds, time: int | None) -> Order:
        filled = Decimal(self.cumulative_quantity or 0)
        status = status_of(self.status, filled)
        kind = self._kind
        if kind is OrderType.STOP_LIMIT:
            kind = kinds.of(self.client_order_id, kind)
        total = None
        if kind is not OrderType.MARKET and status.is_open:
            total = filled + Decimal(self.leaves_quantity or 0)
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.client_order_id,
            side=Side(self.order_side.upper()),
            kind=kind,
            status=status,
            price=None if kind is OrderType.MARKET else decimal_or_none(self.limit_price),
            stop_price=decimal_or_none(self.stop_price),
            total=total,
            filled=filled,
            average=decimal_or_none(self.avg_price),
            time_in_force=_TIMES.get(self.time_in_force),
            post_only=self.post_only == "true",
            created=known_ms(self.creation_time),
            updated=time,
        )


class FillRow(msgspec.Struct):
    """A fill. Its `trade_id` is none of the public trades'."""

    entry_id: str
    order_id: str
    product_id: str
    side: str
    price: str
    size: str
    trade_time: datetime.datetime
    commission: str = ""
    liquidity_indicator: str = ""
    size_in_quote: bool = False

    def fill(self, market: Market) -> Fill:
        price, size = Decimal(self.price), Decimal(self.size)
        if self.size_in_quote:
            size = _CONTEXT.divide(size, price)
            if market.lot_size:
                # The venue rounds the amount: the size itself was a whole number of lots.
                size = _CONTEXT.multiply((size / market.lot_size).to_integral_value(), market.lot_size)
        known = self.liquidity_indicator in ("MAKER", "TAKER")
        return make_fill(
            market,
            trade_id=self.entry_id,
            order_id=self.order_id,
            side=Side(self.side),
            price=price,
            size=size,
            fee=Decimal(self.commission) if self.commission else None,
            fee_asset=market.quote_asset if self.commission else None,
            maker=self.liquidity_indicator == "MAKER" if known else None,
            time=epoch_ms(self.trade_time),
        )


class Money(msgspec.Struct):
    """An amount, where it is not a bare text."""

    value: str = ""


def amount_of(money: Money | str | None) -> Decimal | None:
    """An amount in either form; None where there is none."""
    text = money.value if isinstance(money, Money) else money
    return Decimal(text) if text else None


class AccountRow(msgspec.Struct):
    """A wallet of one currency."""

    currency: str
    available_balance: Money = msgspec.field(default_factory=Money)
    hold: Money = msgspec.field(default_factory=Money)

    def balance(self) -> Balance:
        available, hold = amount_of(self.available_balance) or Decimal(0), amount_of(self.hold) or Decimal(0)
        return Balance(
            asset=ABSTRACT.get(self.currency, self.currency),
            wallet=SPOT,
            total=available + hold,
            available=available,
            locked=hold,
        )


class FuturesSummary(msgspec.Struct):
    """What there is for US futures: texts in streams, objects by REST."""

    cfm_usd_balance: Money | str | None = None
    futures_buying_power: Money | str | None = None

    def balance(self) -> Balance | None:
        total = amount_of(self.cfm_usd_balance)
        if total is None:
            return None
        return Balance(asset="USD", wallet=US_FUTURES, total=total, available=amount_of(self.futures_buying_power))


class PositionRow(msgspec.Struct):
    """A position of US futures; its size has no sign."""

    product_id: str
    side: str = ""
    number_of_contracts: str = "0"
    current_price: Money | str | None = None
    avg_entry_price: Money | str | None = None
    unrealized_pnl: Money | str | None = None
    liquidation_price: Money | str | None = None
    leverage: str = ""

    def position(self, market: Market) -> Position:
        size = Decimal(self.number_of_contracts or 0)
        return make_position(
            market,
            position_side(self.side, size),
            size,
            entry=amount_of(self.avg_entry_price),
            mark=amount_of(self.current_price),
            liquidation=amount_of(self.liquidation_price),
            unrealized_pnl=amount_of(self.unrealized_pnl),
            leverage=decimal_or_none(self.leverage),
        )
