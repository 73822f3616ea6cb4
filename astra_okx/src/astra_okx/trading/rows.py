"""The venue's rows of orders, fills, balances and positions, which REST and streams have alike, as Astra's.

All numbers are texts, empty where they do not apply. Sizes are base units for spot, contracts for everything else; a
spot market order may be sized in the quote asset (`tgtCcy`). Source: docs-v5, "Get order details", "Get transaction
details", "Get balance", "Get positions", "Get algo order details".
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.trading.native import (
    decimal_or_none,
    make_fill,
    make_order,
    make_position,
    margin_mode,
    position_side,
)
from astra_okx.settings import TRADING

ALGO_PREFIX = "algo:"
"""Conditional orders have ids in a space of their own: `algo:2146760` is the conditional order 2146760."""
POST_ONLY = frozenset({"post_only", "rpi", "elp", "mmp_and_post_only"})
_TIME_IN_FORCE: Mapping[str, TimeInForce] = {
    "ioc": TimeInForce.IOC,
    "optimal_limit_ioc": TimeInForce.IOC,
    "fok": TimeInForce.FOK,
    "op_fok": TimeInForce.FOK,
}
_MARKET = frozenset({"market", "optimal_limit_ioc"})
_STATES: Mapping[str, OrderStatus] = {
    "live": OrderStatus.NEW,
    "partially_filled": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "mmp_canceled": OrderStatus.CANCELED,
}
_EXPIRED_BY = frozenset({"7", "10", "13", "14"})
"""`cancelSource`: delivered, expired; fill-or-kill and immediate-or-cancel orders that could not be filled."""
EFFECTIVE = "effective"
_ALGO_STATES: Mapping[str, OrderStatus] = {
    "live": OrderStatus.NEW,
    "pause": OrderStatus.NEW,
    "partially_effective": OrderStatus.NEW,
    # Triggered: waiting for its real order, which has an id of its own.
    EFFECTIVE: OrderStatus.NEW,
    "canceled": OrderStatus.CANCELED,
    "order_failed": OrderStatus.REJECTED,
    "partially_failed": OrderStatus.REJECTED,
}
AT_MARKET = "-1"
ALGO_LISTS = ("conditional,oco", "trigger")
"""The kinds of algo orders that the stream `orders-algo` tells, as requests name them: no other two kinds share one
(docs-v5, "GET / Algo order list", "WS / Algo orders channel")."""
TOLD_ALGOS = frozenset({"", *(kind for kinds in ALGO_LISTS for kind in kinds.split(","))})


def _time(text: str) -> int | None:
    return int(text) if text else None


class OrderRow(msgspec.Struct, rename="camel"):
    """An order. In pushes the `fill...` fields are those of this very change."""

    inst_id: str
    ord_id: str
    side: str
    ord_type: str
    state: str
    sz: str
    acc_fill_sz: str = ""
    avg_px: str = ""
    px: str = ""
    cl_ord_id: str = ""
    algo_id: str = ""  # of the conditional order that became this one
    algo_cl_ord_id: str = ""
    tgt_ccy: str = ""
    reduce_only: str = "false"
    cancel_source: str = ""
    c_time: str = ""
    u_time: str = ""
    trade_id: str = ""
    fill_px: str = ""
    fill_sz: str = ""
    fill_fee: str = ""
    fill_fee_ccy: str = ""
    fill_time: str = ""
    exec_type: str = ""

    @property
    def client_order_id(self) -> str:
        """The identity: what the caller named it, also where a conditional order became this one."""
        return self.cl_ord_id or self.algo_cl_ord_id

    @property
    def status(self) -> OrderStatus:
        if self.state == "canceled" and self.cancel_source in _EXPIRED_BY:
            return OrderStatus.EXPIRED
        return _STATES.get(self.state, OrderStatus.UNKNOWN)

    def order(self, market: Market) -> Order:
        in_quote = self.tgt_ccy == "quote_ccy" and market.contract_size is None and self.ord_type == "market"
        filled = Decimal(self.acc_fill_sz or 0)
        return make_order(
            market,
            order_id=self.ord_id,
            client_order_id=self.client_order_id,
            side=Side(self.side.upper()),
            kind=OrderType.MARKET if self.ord_type in _MARKET else OrderType.LIMIT,
            status=self.status,
            price=None if self.ord_type in _MARKET else decimal_or_none(self.px),
            total=None if in_quote else decimal_or_none(self.sz),
            filled=filled,
            average=decimal_or_none(self.avg_px),
            quote_quantity=decimal_or_none(self.sz) if in_quote else None,
            time_in_force=None if self.ord_type == "market" else _TIME_IN_FORCE.get(self.ord_type, TimeInForce.GTC),
            reduce_only=self.reduce_only == "true",
            post_only=self.ord_type in POST_ONLY,
            created=_time(self.c_time),
            updated=_time(self.u_time),
        )

    def fill(self, market: Market) -> Fill:
        """The fill that a push is about. A negative fee was charged."""
        fee = decimal_or_none(self.fill_fee)
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.ord_id,
            client_order_id=self.client_order_id,
            side=Side(self.side.upper()),
            price=Decimal(self.fill_px),
            size=Decimal(self.fill_sz),
            fee=None if not self.fill_fee_ccy else -(fee or Decimal(0)),
            fee_asset=self.fill_fee_ccy or None,
            maker=self.exec_type == "M" if self.exec_type else None,
            time=int(self.fill_time or self.u_time),
        )


class AlgoRow(msgspec.Struct, rename="camel"):
    """A conditional order: `sl...` of a stop, `tp...` of a take-profit; `triggerPx` of one that is neither, which is
    told as a stop. One that has both (one cancels the other) is told by its stop."""

    inst_id: str
    algo_id: str
    side: str
    state: str
    sz: str
    ord_type: str = ""
    algo_cl_ord_id: str = ""
    sl_trigger_px: str = ""
    sl_ord_px: str = ""
    tp_trigger_px: str = ""
    tp_ord_px: str = ""
    trigger_px: str = ""
    ord_px: str = ""
    reduce_only: str = "false"
    ord_id: str = ""
    ord_id_list: list[str] = []
    c_time: str = ""
    u_time: str = ""

    @property
    def is_told(self) -> bool:
        """Can Astra tell it? Trailing, iceberg, time-weighted and chasing orders have no words of Astra's."""
        return self.ord_type in TOLD_ALGOS

    @property
    def triggered(self) -> bool:
        return self.state == EFFECTIVE

    @property
    def became(self) -> str | None:
        """The order that it became when it was triggered."""
        if not self.triggered:
            return None
        return self.ord_id or next(iter(self.ord_id_list), None)

    def order(self, market: Market) -> Order:
        takes_profit = bool(self.tp_trigger_px) and not self.sl_trigger_px
        price = (self.tp_ord_px if takes_profit else self.sl_ord_px) or self.ord_px
        limit = None if price == AT_MARKET else decimal_or_none(price)
        kinds = (
            (OrderType.TAKE_PROFIT_MARKET, OrderType.TAKE_PROFIT_LIMIT)
            if takes_profit
            else (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
        )
        return make_order(
            market,
            order_id=f"{ALGO_PREFIX}{self.algo_id}",
            client_order_id=self.algo_cl_ord_id,
            side=Side(self.side.upper()),
            kind=kinds[0] if limit is None else kinds[1],
            status=_ALGO_STATES.get(self.state, OrderStatus.UNKNOWN),
            price=limit,
            stop_price=decimal_or_none(self.tp_trigger_px if takes_profit else self.sl_trigger_px or self.trigger_px),
            total=decimal_or_none(self.sz),
            filled=None if self.triggered else Decimal(0),
            average=None,
            time_in_force=TimeInForce.GTC if limit is not None else None,
            reduce_only=self.reduce_only == "true",
            created=_time(self.c_time),
            updated=_time(self.u_time),
        )


class FillRow(msgspec.Struct, rename="camel"):
    """A row of the fill history."""

    inst_id: str
    trade_id: str
    ord_id: str
    bill_id: str
    side: str
    fill_px: str
    fill_sz: str
    cl_ord_id: str = ""
    fee: str = ""
    fee_ccy: str = ""
    exec_type: str = ""
    fill_time: str = ""
    ts: str = ""

    def fill(self, market: Market) -> Fill:
        fee = decimal_or_none(self.fee)
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.ord_id,
            client_order_id=self.cl_ord_id,
            side=Side(self.side.upper()),
            price=Decimal(self.fill_px),
            size=Decimal(self.fill_sz),
            fee=None if not self.fee_ccy else -(fee or Decimal(0)),
            fee_asset=self.fee_ccy or None,
            maker=self.exec_type == "M" if self.exec_type else None,
            time=int(self.fill_time or self.ts),
        )


class BalanceRow(msgspec.Struct, rename="camel"):
    """An asset of the trading account. `total` is the cash; what is available counts unrealised profit in margin
    modes."""

    ccy: str
    cash_bal: str = ""
    eq: str = ""
    avail_bal: str = ""
    avail_eq: str = ""
    frozen_bal: str = ""
    liab: str = ""

    def balance(self) -> Balance:
        available = self.avail_eq or self.avail_bal
        return Balance(
            asset=self.ccy,
            wallet=TRADING,
            total=Decimal(self.cash_bal or self.eq or 0),
            available=Decimal(available) if available else None,
            locked=Decimal(self.frozen_bal) if self.frozen_bal else None,
            borrowed=decimal_or_none(self.liab),
        )


class PositionRow(msgspec.Struct, rename="camel"):
    """A position; `pos` is negative for a short one in net mode, and 0 for one that is closed."""

    inst_id: str
    pos: str
    pos_side: str = "net"
    inst_type: str = ""
    mgn_mode: str = ""
    avg_px: str = ""
    mark_px: str = ""
    liq_px: str = ""
    upl: str = ""
    lever: str = ""

    @property
    def size(self) -> Decimal:
        return Decimal(self.pos or 0)

    @property
    def is_net(self) -> bool:
        return self.pos_side not in ("long", "short")

    def position(self, market: Market) -> Position:
        size = self.size
        if not size:
            return make_position(market, position_side(self.pos_side, size), size)
        return make_position(
            market,
            position_side(self.pos_side, size),
            size,
            entry=decimal_or_none(self.avg_px),
            mark=decimal_or_none(self.mark_px),
            liquidation=decimal_or_none(self.liq_px),
            unrealized_pnl=Decimal(self.upl) if self.upl else None,
            leverage=decimal_or_none(self.lever),
            margin_mode=margin_mode(self.mgn_mode),
        )
