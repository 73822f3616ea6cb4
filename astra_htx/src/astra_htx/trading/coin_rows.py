"""Orders, fills, balances and positions of coin-margined swaps and futures, in REST answers and pushes, as Astra's.

Sizes are contracts, numbers bare or texts; fees are negative when paid. Source: API documentation, Coin-M, "Get
Information of an Order", "Query History Orders", "Query History Match Results", "Query User's Position Information",
"Query User's Account Information" and the topics of the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.trading.native import make_fill, make_order, make_position

STATES: Mapping[int, OrderStatus] = {
    1: OrderStatus.NEW,
    2: OrderStatus.NEW,
    3: OrderStatus.NEW,
    4: OrderStatus.PARTIALLY_FILLED,
    5: OrderStatus.CANCELED,
    6: OrderStatus.FILLED,
    7: OrderStatus.CANCELED,
}
CANCELING = 11
"""Still open, as it was before."""


class OrderRow(msgspec.Struct):
    """An order. `order_id` is beyond what many JSON parsers keep; the text beside it is the id."""

    contract_code: str
    direction: str
    offset: str
    status: int
    volume: Decimal
    order_price_type: str | int
    order_id: int | str | None = None
    order_id_str: str = ""
    client_order_id: int | str | None = None
    price: Decimal | None = None
    trade_volume: Decimal | None = None
    trade_avg_price: Decimal | None = None
    created_at: int | None = None
    create_date: int | None = None
    canceled_at: int | None = None
    update_time: int | None = None
    query_id: int | None = None
    lever_rate: Decimal | None = None

    @property
    def ident(self) -> str:
        return self.order_id_str or str(self.order_id)

    @property
    def client_id(self) -> str | None:
        return None if self.client_order_id in (None, "") else str(self.client_order_id)

    @property
    def created(self) -> int | None:
        return self.created_at or self.create_date

    def order(self, market: Market, *, updated: int | None = None) -> Order:
        """`updated`: when this was told, where the row itself does not say."""
        word = str(self.order_price_type)
        filled = self.trade_volume or Decimal(0)
        at_market = word == "market"
        status = STATES.get(self.status, OrderStatus.UNKNOWN)
        if self.status == CANCELING:
            status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
        in_force = TimeInForce.GTC
        if word.endswith(("ioc", "fok")):
            in_force = TimeInForce.IOC if word.endswith("ioc") else TimeInForce.FOK
        return make_order(
            market,
            order_id=self.ident,
            client_order_id=self.client_id,
            side=Side(self.direction.upper()),
            kind=OrderType.MARKET if at_market else OrderType.LIMIT,
            status=status,
            price=None if at_market else self.price,
            total=self.volume,
            filled=filled,
            average=self.trade_avg_price,
            time_in_force=None if at_market else in_force,
            reduce_only=self.offset == "close",
            post_only=word == "post_only",
            created=self.created,
            updated=self.update_time or self.canceled_at or updated,
        )


class TradeRow(msgspec.Struct):
    """A fill within an order's push. `trade_id` is shared by all fills of one taker order, `id` is not."""

    id: str
    trade_volume: Decimal
    trade_price: Decimal
    created_at: int
    trade_fee: Decimal | None = None
    fee_asset: str | None = None
    role: str = ""


class FillRow(msgspec.Struct):
    """A fill of the history."""

    id: str
    contract_code: str
    direction: str
    trade_volume: Decimal
    trade_price: Decimal
    create_date: int
    query_id: int = 0
    order_id_str: str = ""
    order_id: int | str = ""
    trade_fee: Decimal | None = None
    fee_asset: str | None = None
    role: str = ""

    def fill(self, market: Market) -> Fill:
        return fill_of(
            market,
            TradeRow(
                id=self.id,
                trade_volume=self.trade_volume,
                trade_price=self.trade_price,
                created_at=self.create_date,
                trade_fee=self.trade_fee,
                fee_asset=self.fee_asset,
                role=self.role,
            ),
            order_id=self.order_id_str or str(self.order_id),
            side=Side(self.direction.upper()),
            client_order_id=None,
        )


def fill_of(market: Market, row: TradeRow, *, order_id: str, side: Side, client_order_id: str | None) -> Fill:
    return make_fill(
        market,
        trade_id=row.id,
        order_id=order_id,
        client_order_id=client_order_id,
        side=side,
        price=row.trade_price,
        size=row.trade_volume,
        fee=None if row.trade_fee is None else -row.trade_fee,
        fee_asset=row.fee_asset or None,
        maker=row.role.lower() == "maker" if row.role else None,
        time=row.created_at,
    )


class AccountRow(msgspec.Struct):
    """The margin account of an asset. `margin_static` is what there is without unrealised profit, which `available`
    counts."""

    symbol: str
    margin_static: Decimal | None = None
    margin_balance: Decimal | None = None
    margin_available: Decimal | None = None
    margin_position: Decimal | None = None
    margin_frozen: Decimal | None = None
    lever_rate: Decimal | None = None

    def balance(self, wallet: str) -> Balance:
        total = self.margin_static if self.margin_static is not None else self.margin_balance
        return Balance(
            asset=self.symbol,
            wallet=wallet,
            total=total or Decimal(0),
            available=self.margin_available,
            locked=(self.margin_position or Decimal(0)) + (self.margin_frozen or Decimal(0)),
        )


class PositionRow(msgspec.Struct):
    """One side of a contract: long and short ones stand beside each other. 0 contracts: closed."""

    contract_code: str
    direction: str
    volume: Decimal
    cost_open: Decimal | None = None
    profit_unreal: Decimal | None = None
    lever_rate: Decimal | None = None
    last_price: Decimal | None = None

    def position(self, market: Market) -> Position:
        side = PositionSide.LONG if self.direction == "buy" else PositionSide.SHORT
        if not self.volume:
            return make_position(market, side, self.volume)
        position = make_position(
            market,
            side,
            self.volume,
            entry=self.cost_open,
            mark=self.last_price,
            unrealized_pnl=self.profit_unreal,
            leverage=self.lever_rate,
        )
        # The venue tells no mark price: the quantity is at the last one.
        return position.model_copy(update={"mark_price": None})
