"""Spot orders, fills and balances, as REST answers and pushes have them, as Astra's.

Amounts are texts in base units; those of `buy-market` orders are values in the quote asset. Source: API documentation,
"Get the Order Detail of an Order", "Get Current Match Results", "Subscribe Order Updates", "Subscribe Trade Details and
Order Cancellation", "Subscribe Account Change".
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.trading.native import average_of, decimal_or_none, make_fill, make_order
from astra_htx.settings import SPOT

BUY_MARKET = "buy-market"
STATES: Mapping[str, OrderStatus] = {
    # Waits for its trigger, or for the matching engine.
    "created": OrderStatus.NEW,
    "pre-submitted": OrderStatus.NEW,
    "submitted": OrderStatus.NEW,
    "partial-filled": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "partial-canceled": OrderStatus.CANCELED,
    "canceled": OrderStatus.CANCELED,
    "rejected": OrderStatus.REJECTED,
}
CANCELING = "canceling"
"""Still open, as it was before."""
_IN_FORCE: Mapping[str, TimeInForce] = {
    "ioc": TimeInForce.IOC,
    "limit-fok": TimeInForce.FOK,
    "stop-limit-fok": TimeInForce.FOK,
}
POST_ONLY = "limit-maker"
STOPS = ("stop-limit", "stop-limit-fok")
RISES, FALLS = "gte", "lte"
"""`operator`: triggered when the price rises to, or falls to, the stop price."""


def side_and_kind(word: str) -> tuple[Side, str]:
    """`buy-limit-maker` taken apart."""
    side, _, kind = word.partition("-")
    return Side(side.upper()), kind


def type_of(side: Side, kind: str, operator: str | None) -> OrderType:
    """Of a conditional order without `operator`: as the venue calls all of them."""
    if kind == "market":
        return OrderType.MARKET
    if kind not in STOPS:
        return OrderType.LIMIT
    profits = operator == (FALLS if side is Side.BUY else RISES)
    return OrderType.TAKE_PROFIT_LIMIT if profits else OrderType.STOP_LIMIT


def state_of(word: str, filled: Decimal | None) -> OrderStatus:
    if word == CANCELING:
        return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    return STATES.get(word, OrderStatus.UNKNOWN)


def terms(market: Market, word: str, operator: str | None) -> dict[str, object]:
    """What an order's `type` says, as `make_order` takes it."""
    side, kind = side_and_kind(word)
    return {
        "side": side,
        "kind": type_of(side, kind, operator),
        "time_in_force": None if kind == "market" else _IN_FORCE.get(kind, TimeInForce.GTC),
        "post_only": kind == POST_ONLY,
    }


class OrderRow(msgspec.Struct, rename="kebab"):
    """An order. Lists of open orders call `filled-*` what all others call `field-*`."""

    id: int
    symbol: str
    type: str
    state: str
    amount: str = "0"
    price: str = "0"
    client_order_id: str = ""
    created_at: int = 0
    finished_at: int = 0
    canceled_at: int = 0
    filled_amount: str | None = None
    field_amount: str | None = None
    filled_cash_amount: str | None = None
    field_cash_amount: str | None = None
    stop_price: str | None = None
    operator: str | None = None

    def order(self, market: Market) -> Order:
        by_value = self.type == BUY_MARKET
        amount, filled = decimal_or_none(self.amount), Decimal(self.filled_amount or self.field_amount or 0)
        cash = decimal_or_none(self.filled_cash_amount or self.field_cash_amount)
        return make_order(
            market,
            order_id=str(self.id),
            client_order_id=self.client_order_id,
            status=state_of(self.state, filled),
            price=None if self.type.endswith("-market") else decimal_or_none(self.price),
            total=None if by_value else amount,
            quote_quantity=amount if by_value else None,
            filled=filled,
            average=average_of(cash, filled),
            stop_price=decimal_or_none(self.stop_price),
            created=self.created_at,
            updated=self.finished_at or self.canceled_at or None,
            **terms(market, self.type, self.operator),  # type: ignore[arg-type]
        )


class FillRow(msgspec.Struct, rename="kebab"):
    """A fill. Fees that were deducted in another asset are `filled-points`."""

    id: int
    symbol: str
    order_id: int
    trade_id: int
    type: str
    price: str
    filled_amount: str
    created_at: int
    role: str = ""
    filled_fees: str = "0"
    fee_currency: str = ""
    filled_points: str = "0"
    fee_deduct_currency: str = ""

    def fill(self, market: Market) -> Fill:
        deducted = decimal_or_none(self.filled_points) if self.fee_deduct_currency else None
        asset = self.fee_deduct_currency if deducted else self.fee_currency
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.order_id,
            side=side_and_kind(self.type)[0],
            price=Decimal(self.price),
            size=Decimal(self.filled_amount),
            fee=deducted or Decimal(self.filled_fees or 0) if asset else None,
            fee_asset=asset.upper() or None,
            maker=self.role == "maker" if self.role else None,
            time=self.created_at,
        )


class BalanceRow(msgspec.Struct):
    """A part (`trade`: free, `frozen`: locked, `loan`, `interest`) of what an account has of an asset."""

    currency: str
    type: str
    balance: str


def balances_of(rows: list[BalanceRow]) -> list[Balance]:
    """What there is of each asset."""
    parts: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        kinds = parts.setdefault(row.currency.upper(), {})
        kinds[row.type] = kinds.get(row.type, Decimal(0)) + Decimal(row.balance or 0)
    found = []
    for asset, amounts in parts.items():
        free, locked = amounts.get("trade", Decimal(0)), amounts.get("frozen", Decimal(0))
        if free or locked:
            found.append(Balance(asset=asset, wallet=SPOT, total=free + locked, available=free, locked=locked))
    return found


class Pushed(msgspec.Struct, rename="camel"):
    """An event of `orders#` or `trade.clearing#`. Ids are numbers or texts; what does not apply is missing."""

    event_type: str
    symbol: str
    order_status: str = ""
    order_id: int | str | None = None
    client_order_id: str = ""
    type: str = ""
    order_type: str = ""
    order_side: str = ""
    order_source: str = ""
    source: str = ""
    account_id: int | None = None
    order_price: str | None = None
    order_size: str | None = None
    order_value: str | None = None
    order_create_time: int | None = None
    last_act_time: int | None = None
    exec_amt: str | None = None
    trade_price: str = "0"
    trade_volume: str = "0"
    trade_id: int | str = 0
    trade_time: int = 0
    aggressor: bool | None = None
    transact_fee: str | None = None
    fee_currency: str = ""
    fee_deduct: str | None = None
    fee_deduct_type: str | None = None
    stop_price: str | None = None
    operator: str | None = None
    err_message: str = ""

    @property
    def is_on_margin(self) -> bool:
        """Of another account than the spot one?"""
        return "margin" in (self.order_source or self.source)

    @property
    def is_vague(self) -> bool:
        """Is it of a conditional order, and does not say which way that is triggered?"""
        return not self.operator and side_and_kind(self.type)[1] in STOPS

    def order(
        self, market: Market, filled: Decimal | None, average: Decimal | None, kind: OrderType | None = None
    ) -> Order:
        """`kind`: the order's type, where it is known."""
        by_value = self.type == BUY_MARKET
        return make_order(
            market,
            order_id=None if self.order_id is None else str(self.order_id),
            client_order_id=self.client_order_id,
            status=state_of(self.order_status, filled),
            price=decimal_or_none(self.order_price),
            total=None if by_value else decimal_or_none(self.order_size),
            quote_quantity=decimal_or_none(self.order_value),
            filled=filled,
            average=average,
            stop_price=decimal_or_none(self.stop_price),
            created=self.order_create_time,
            updated=self.trade_time or self.last_act_time or self.order_create_time,
            **terms(market, self.type, self.operator) | ({} if kind is None else {"kind": kind}),  # type: ignore[arg-type]
        )

    def fill(self, market: Market) -> Fill:
        deducted = decimal_or_none(self.fee_deduct) if self.fee_deduct_type else None
        asset = (self.fee_deduct_type or "") if deducted else self.fee_currency
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.order_id,
            client_order_id=self.client_order_id,
            side=Side((self.order_side or self.order_type.partition("-")[0]).upper()),
            price=Decimal(self.trade_price),
            size=Decimal(self.trade_volume),
            fee=deducted or Decimal(self.transact_fee or 0) if asset else None,
            fee_asset=asset.upper() or None,
            maker=None if self.aggressor is None else not self.aggressor,
            time=self.trade_time,
        )


class PushedBalance(msgspec.Struct, rename="camel"):
    """An event of `accounts.update`; it may tell the total or what is available alone."""

    currency: str
    account_id: int
    account_type: str = "trade"
    balance: str | None = None
    available: str | None = None
