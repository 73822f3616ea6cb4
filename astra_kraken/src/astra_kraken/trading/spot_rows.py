"""What Spot says of orders, fills, balances and fees, and how it becomes Astra's; numbers come as texts or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance, Fees
from astra.models.markets import Market
from astra.models.orders import Fill, Order
from astra.trading.native import make_fill, make_order
from astra_kraken.markets import asset_name
from astra_kraken.settings import SPOT_WALLET
from astra_kraken.trading.terms import side_of, spot_force, spot_status, spot_type

PER_CENT = Decimal(100)


class Description(msgspec.Struct):
    pair: str
    type: str
    ordertype: str
    price: Decimal
    price2: Decimal


class SpotOrder(msgspec.Struct):
    """An order of OpenOrders, ClosedOrders or QueryOrders. `price` is the average of the fills; the order's own price
    stands in the description (of a conditional order the trigger, its limit in `price2`)."""

    status: str
    opentm: Decimal
    descr: Description
    vol: Decimal
    vol_exec: Decimal
    price: Decimal
    closetm: Decimal | None = None
    oflags: str = ""
    reason: str | None = None
    cl_ord_id: str | None = None
    timeinforce: str | None = None
    reduce_only: bool = False

    def order(self, txid: str, market: Market) -> Order:
        flags = self.oflags.split(",")
        in_quote = "viqc" in flags
        first, second = self.descr.price or None, self.descr.price2 or None
        kind = spot_type(self.descr.ordertype, first)
        total = None if in_quote else self.vol
        return make_order(
            market,
            order_id=txid,
            client_order_id=self.cl_ord_id,
            side=side_of(self.descr.type),
            kind=kind,
            status=spot_status(self.status, self.vol_exec, total, self.reason),
            price=(second if kind.is_conditional else first) if kind.has_price else None,
            stop_price=first if kind.is_conditional else None,
            total=total,
            filled=self.vol_exec,
            average=self.price,
            quote_quantity=self.vol if in_quote else None,
            time_in_force=spot_force(self.timeinforce),
            post_only="post" in flags,
            reduce_only=self.reduce_only,
            created=round(self.opentm * 1000),
            updated=None if not self.closetm else round(self.closetm * 1000),
        )


class FillRow(msgspec.Struct):
    ordertxid: str
    pair: str
    time: Decimal
    type: str
    price: Decimal
    vol: Decimal
    fee: Decimal | None = None
    maker: bool | None = None

    def fill(self, trade_id: str, market: Market) -> Fill:
        """The fee is in the quote asset, as the venue takes it unless an order says otherwise."""
        return make_fill(
            market,
            trade_id=trade_id,
            order_id=self.ordertxid,
            side=side_of(self.type),
            price=self.price,
            size=self.vol,
            fee=self.fee,
            fee_asset=None if self.fee is None else market.quote_asset,
            maker=self.maker,
            time=math.floor(self.time * 1000),
        )


class OpenOrders(msgspec.Struct):
    open: dict[str, SpotOrder]


class ClosedOrders(msgspec.Struct):
    closed: dict[str, SpotOrder]


class TradesHistory(msgspec.Struct):
    trades: dict[str, FillRow]


class Placed(msgspec.Struct):
    txid: list[str] = []


class BatchRow(msgspec.Struct):
    txid: str | None = None
    error: str | None = None


class BatchAnswer(msgspec.Struct):
    orders: list[BatchRow]


class Count(msgspec.Struct):
    count: int = 0
    pending: bool = False


class BalanceRow(msgspec.Struct):
    balance: Decimal
    hold_trade: Decimal = Decimal(0)
    credit: Decimal = Decimal(0)
    credit_used: Decimal = Decimal(0)


class Rate(msgspec.Struct):
    fee: Decimal


class TradeVolume(msgspec.Struct):
    """Fee rates in per cent, by REST name of the pair. Without `fees_maker` makers pay what takers do."""

    fees: dict[str, Rate] | None = None
    fees_maker: dict[str, Rate] | None = None

    def of(self, market: Market) -> Fees | None:
        """The rates of the one market that was asked for."""
        for name, taker in (self.fees or {}).items():
            maker = (self.fees_maker or {}).get(name, taker)
            return Fees(market=market.symbol, maker=maker.fee / PER_CENT, taker=taker.fee / PER_CENT)
        return None


decode_orders = msgspec.json.Decoder(dict[str, SpotOrder], strict=False).decode
decode_open = msgspec.json.Decoder(OpenOrders, strict=False).decode
decode_closed = msgspec.json.Decoder(ClosedOrders, strict=False).decode
decode_trades = msgspec.json.Decoder(TradesHistory, strict=False).decode
decode_placed = msgspec.json.Decoder(Placed).decode
decode_batch = msgspec.json.Decoder(BatchAnswer).decode
decode_count = msgspec.json.Decoder(Count).decode
decode_balances = msgspec.json.Decoder(dict[str, BalanceRow], strict=False).decode
decode_volume = msgspec.json.Decoder(TradeVolume, strict=False).decode
decode_anything = msgspec.json.Decoder(msgspec.Raw).decode


def balances_of(rows: Mapping[str, BalanceRow]) -> list[Balance]:
    """What is held, without assets of which there is nothing."""
    return [
        Balance(
            asset=asset_name(code),
            wallet=SPOT_WALLET,
            total=row.balance,
            available=row.balance + row.credit - row.credit_used - row.hold_trade,
            locked=row.hold_trade,
            borrowed=row.credit_used or None,
        )
        for code, row in rows.items()
        if row.balance or row.hold_trade or row.credit_used
    ]
