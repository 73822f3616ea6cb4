"""Orders, fills, balances and positions of linear contracts (V5), in REST answers and pushes, as Astra's.

Sizes are contracts; nearly all numbers are texts, times are texts or numbers. Source: API documentation, USDT-M V5,
"Place Order", "Get Orders", "Get Order Details", "Get Positions", "Get Account Balance" and the topics of the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.trading.native import decimal_or_none, make_fill, make_order, make_position, margin_mode, position_side
from astra_htx.settings import LINEAR

Text = str | int | None
"""A number as text, or bare."""
STATES: Mapping[str, OrderStatus] = {
    "new": OrderStatus.NEW,
    "partially_filled": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "partially_canceled": OrderStatus.CANCELED,
    "canceled": OrderStatus.CANCELED,
    "rejected": OrderStatus.REJECTED,
    # As the documentation's samples have them.
    "3": OrderStatus.NEW,
    "4": OrderStatus.PARTIALLY_FILLED,
    "5": OrderStatus.CANCELED,
    "6": OrderStatus.FILLED,
    "7": OrderStatus.CANCELED,
}
_IN_FORCE: Mapping[str, TimeInForce] = {"ioc": TimeInForce.IOC, "fok": TimeInForce.FOK}


def _time(value: Text) -> int | None:
    return int(value) if value else None


def _decimal(value: Text) -> Decimal | None:
    return None if value is None else decimal_or_none(str(value))


class OrderRow(msgspec.Struct):
    """An order. Pushes may say `filled` several times before all of the volume is; one that was placed without client
    order id has its own id there."""

    contract_code: str
    order_id: str | int
    side: str
    type: str
    state: str | int
    volume: Text
    id: Text = None
    """Of the query: of open orders their own, of past ones another."""
    client_order_id: Text = None
    price: Text = None
    time_in_force: str | None = None
    reduce_only: bool | int | str | None = False
    trade_volume: Text = None
    trade_avg_price: Text = None
    margin_mode: str | None = None
    created_time: Text = None
    updated_time: Text = None

    @property
    def client_id(self) -> str | None:
        given = None if self.client_order_id in (None, "") else str(self.client_order_id)
        return None if given == str(self.order_id) else given

    @property
    def status(self) -> OrderStatus:
        status = STATES.get(str(self.state), OrderStatus.UNKNOWN)
        filled, total = _decimal(self.trade_volume) or 0, _decimal(self.volume) or 0
        if status is OrderStatus.FILLED and filled < total:
            return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
        return status

    def order(self, market: Market) -> Order:
        at_market = self.type == "market"
        return make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=self.client_id,
            side=Side(self.side.upper()),
            kind=OrderType.MARKET if at_market else OrderType.LIMIT,
            status=self.status,
            price=None if at_market else _decimal(self.price),
            total=_decimal(self.volume),
            filled=_decimal(self.trade_volume) or Decimal(0),
            average=_decimal(self.trade_avg_price),
            time_in_force=None if at_market else _IN_FORCE.get(self.time_in_force or "", TimeInForce.GTC),
            reduce_only=self.reduce_only in (True, 1, "1", "true"),
            post_only=self.type == "post_only",
            created=_time(self.created_time),
            updated=_time(self.updated_time),
        )


class FillRow(msgspec.Struct):
    """A fill. REST calls the side `side` and tells the fee (positive when paid); pushes say `direction` and no fee."""

    contract_code: str
    order_id: str | int
    trade_id: str | int
    trade_price: str
    trade_volume: str
    id: str | int = ""
    side: str = ""
    direction: str = ""
    role: str = ""
    trade_fee: Text = None
    fee_currency: str | None = None
    client_order_id: Text = None
    created_time: Text = None

    def fill(self, market: Market) -> Fill:
        client_id = None if self.client_order_id in (None, "") else str(self.client_order_id)
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.order_id,
            client_order_id=None if client_id == str(self.order_id) else client_id,
            side=Side((self.side or self.direction).upper()),
            price=Decimal(self.trade_price),
            size=Decimal(self.trade_volume),
            fee=None if self.trade_fee in (None, "") else Decimal(str(self.trade_fee)),
            fee_asset=self.fee_currency or None,
            maker=self.role.lower() == "maker" if self.role else None,
            time=_time(self.created_time) or 0,
        )


class BalanceRow(msgspec.Struct):
    """An asset of the account; `equity` counts unrealised profit."""

    currency: str
    equity: str = "0"
    available: str = "0"
    profit_unreal: str = "0"

    def balance(self) -> Balance:
        return Balance(
            asset=self.currency,
            wallet=LINEAR,
            total=Decimal(self.equity or 0) - Decimal(self.profit_unreal or 0),
            available=Decimal(self.available or 0),
        )


class Account(msgspec.Struct):
    """The totals beside the details are nothing in pushes."""

    details: list[BalanceRow] = []


class PositionRow(msgspec.Struct):
    """A position: `volume` is never negative, `direction` says which way."""

    contract_code: str
    direction: str
    volume: str
    position_side: str = "both"
    open_avg_price: Text = None
    margin_mode: str | None = None
    lever_rate: Text = None
    liquidation_price: Text = None
    mark_price: Text = None
    profit_unreal: Text = None

    @property
    def size(self) -> Decimal:
        """Negative for a short position."""
        return Decimal(self.volume or 0) * (-1 if self.direction == "sell" else 1)

    @property
    def is_net(self) -> bool:
        return self.position_side not in ("long", "short")

    def position(self, market: Market) -> Position:
        side = position_side(self.position_side, self.size)
        if not self.size:
            return make_position(market, side, self.size)
        liquidation = _decimal(self.liquidation_price)
        return make_position(
            market,
            side,
            self.size,
            entry=_decimal(self.open_avg_price),
            mark=_decimal(self.mark_price),
            # Below zero: no price would do it.
            liquidation=liquidation if liquidation is not None and liquidation > 0 else None,
            unrealized_pnl=None if self.profit_unreal in (None, "") else Decimal(str(self.profit_unreal)),
            leverage=_decimal(self.lever_rate),
            margin_mode=margin_mode(self.margin_mode),
        )
