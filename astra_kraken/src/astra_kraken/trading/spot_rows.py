"""What Spot says of orders, fills, balances and fees, and how it becomes Astra's; numbers come as texts or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from astra.models.accounts import Balance, Fees
from astra.models.markets import Market
from astra.models.orders import Fill, Order
from astra.trading.native import average_of, decimal_or_none, make_fill, make_order
from astra_kraken.markets import asset_name
from astra_kraken.settings import SPOT_WALLET
from astra_kraken.trading.terms import side_of, spot_force, spot_status, spot_type

PER_CENT = Decimal(100)
OFFSETS = ("+", "-", "#")
_CONTEXT = Context(prec=28, rounding=ROUND_HALF_EVEN)


class Description(msgspec.Struct):
    """The prices are numbers, or texts that need not be numbers: they may be relative to a price of the market."""

    pair: str
    type: str
    ordertype: str
    price: msgspec.Raw
    price2: msgspec.Raw


class SpotOrder(msgspec.Struct):
    """An order of OpenOrders, ClosedOrders or QueryOrders. `price` is the average of the fills; the order's own price
    stands in the description (of a conditional order the trigger, its limit in `price2`). `stopprice` and `limitprice`
    are the trigger and the limit where the description has them as offsets, as far as they are known."""

    status: str
    opentm: Decimal
    descr: Description
    vol: Decimal
    vol_exec: Decimal
    price: Decimal
    cost: Decimal | None = None
    stopprice: Decimal | None = None
    limitprice: Decimal | None = None
    closetm: Decimal | None = None
    oflags: str = ""
    reason: str | None = None
    cl_ord_id: str | None = None
    timeinforce: str | None = None
    reduce_only: bool = False

    def order(self, txid: str, market: Market) -> Order:
        flags = self.oflags.split(",")
        in_quote = "viqc" in flags
        kind = spot_type(self.descr.ordertype, _price(self.descr.price, self.limitprice))
        stop_price = limit = None
        if kind.is_conditional:
            stop_price = _price(self.descr.price, self.stopprice)
        if kind.has_price:
            limit = _price(self.descr.price2 if kind.is_conditional else self.descr.price, self.limitprice)
        total = None if in_quote else self.vol
        filled = self._filled_of_amount(market) if in_quote else self.vol_exec
        return make_order(
            market,
            order_id=txid,
            client_order_id=self.cl_ord_id,
            side=side_of(self.descr.type),
            kind=kind,
            status=spot_status(self.status, filled, total, self.reason),
            price=limit,
            stop_price=stop_price,
            total=total,
            filled=filled,
            average=self.price,
            quote_quantity=self.vol if in_quote else None,
            time_in_force=spot_force(self.timeinforce),
            post_only="post" in flags,
            reduce_only=self.reduce_only,
            created=round(self.opentm * 1000),
            updated=None if not self.closetm else round(self.closetm * 1000),
        )

    def _filled_of_amount(self, market: Market) -> Decimal:
        """What an order by amount (`viqc`) has filled, in the base asset. Its `vol_exec` is documented to be in the
        quote asset like `vol`; where it is what `cost` and `price` make in the base asset, it is that, exactly."""
        cost = self.vol_exec if self.cost is None else self.cost
        made = average_of(cost, self.price)
        if made is None or abs(self.vol_exec - made) < abs(self.vol_exec - cost):
            return self.vol_exec
        return made.quantize(market.lot_size, context=_CONTEXT) if market.lot_size else made


def _price(described: msgspec.Raw, known: Decimal | None) -> Decimal | None:
    """A price of a description. One that is an offset (`+50.0000%`, `-7.5`, `#5%`: to be added, to be subtracted, or
    either, as the side wants) is none itself: that is `known` then."""
    text = bytes(described).decode().strip('"')
    if text.startswith(OFFSETS) or text.endswith("%"):
        return known or None
    return decimal_or_none(text)


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
    """Orders by id; each is decoded by itself (`decode_order`), so that an odd one does not take the others along."""

    open: dict[str, msgspec.Raw]


class ClosedOrders(msgspec.Struct):
    closed: dict[str, msgspec.Raw]


class _Pair(msgspec.Struct):
    pair: str


class _OfPair(msgspec.Struct):
    descr: _Pair


def pair_of_order(row: msgspec.Raw) -> str | None:
    """The pair of an order of which nothing else may be understood; None where not even that can be read."""
    try:
        return _decode_pair(row).descr.pair
    except msgspec.ValidationError:
        return None


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


decode_order = msgspec.json.Decoder(SpotOrder, strict=False).decode
decode_orders = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_open = msgspec.json.Decoder(OpenOrders).decode
decode_closed = msgspec.json.Decoder(ClosedOrders).decode
_decode_pair = msgspec.json.Decoder(_OfPair).decode
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
