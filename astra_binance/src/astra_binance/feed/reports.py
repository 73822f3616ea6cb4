"""The events of private streams as the venue writes them, and as Astra's account events.

Documents: binance-spot-api-docs user-data-stream.md, the derivatives "User Data Streams" pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderType
from astra.models.trades import Side
from astra.trading.native import average_of, decimal_or_none, make_fill, make_order
from astra_binance.settings import SPOT
from astra_binance.trading.terms import (
    ALGO_PREFIX,
    POST_ONLY_WORDS,
    algo_status,
    is_order_id,
    order_status,
    order_type,
    time_in_force,
)

_ZERO = Decimal(0)


# -- Spot -------------------------------------------------------------------------------------------------------


class ExecutionReport(
    msgspec.Struct,
    tag_field="e",
    tag="executionReport",
    rename={
        "symbol": "s",
        "client_order_id": "c",
        "original_client_order_id": "C",
        "side": "S",
        "type": "o",
        "time_in_force": "f",
        "quantity": "q",
        "quote_quantity": "Q",
        "price": "p",
        "stop_price": "P",
        "execution": "x",
        "status": "X",
        "order_id": "i",
        "last_quantity": "l",
        "last_price": "L",
        "filled": "z",
        "filled_quote": "Z",
        "fee": "n",
        "fee_asset": "N",
        "trade_id": "t",
        "maker": "m",
        "time": "T",
        "created": "O",
    },
):
    """Something happened to a Spot order; a fill if and only if `execution` is TRADE."""

    symbol: str
    client_order_id: str
    side: Side
    type: str
    quantity: Decimal
    price: Decimal
    execution: str
    status: str
    order_id: int
    last_quantity: Decimal
    last_price: Decimal
    filled: Decimal
    filled_quote: Decimal
    time: int
    time_in_force: str | None = None
    original_client_order_id: str = ""
    """The order's own client id where `client_order_id` is that of the cancel or of the amendment."""
    quote_quantity: Decimal = _ZERO
    stop_price: Decimal = _ZERO
    fee: Decimal | None = None
    fee_asset: str | None = None
    trade_id: int = -1
    maker: bool = False
    created: int | None = None

    def events(self, market: Market) -> Iterator[Fill | Order]:
        client_order_id = self.original_client_order_id or self.client_order_id
        if self.execution == "TRADE":
            yield make_fill(
                market,
                trade_id=self.trade_id,
                order_id=self.order_id,
                client_order_id=client_order_id,
                side=self.side,
                price=self.last_price,
                size=self.last_quantity,
                fee=self.fee,
                fee_asset=self.fee_asset,
                maker=self.maker,
                time=self.time,
            )
        yield make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=client_order_id,
            side=self.side,
            kind=order_type(self.type, self.price, spot=True),
            status=order_status(self.status, self.filled, self.quantity),
            price=self.price,
            stop_price=self.stop_price,
            total=self.quantity,
            filled=self.filled,
            average=average_of(self.filled_quote, self.filled),
            quote_quantity=self.quote_quantity,
            time_in_force=time_in_force(self.time_in_force),
            post_only=self.type == "LIMIT_MAKER" or self.time_in_force in POST_ONLY_WORDS,
            created=self.created,
            updated=self.time,
        )


class _SpotBalance(msgspec.Struct, rename={"asset": "a", "free": "f", "locked": "l"}):
    asset: str
    free: Decimal
    locked: Decimal


class SpotPosition(msgspec.Struct, tag_field="e", tag="outboundAccountPosition", rename={"balances": "B"}):
    """New balances of the assets that something touched."""

    balances: list[_SpotBalance]

    def events(self) -> Iterator[Balance]:
        for row in self.balances:
            yield Balance(
                asset=row.asset, wallet=SPOT, total=row.free + row.locked, available=row.free, locked=row.locked
            )


class BalanceChanged(msgspec.Struct, tag_field="e", tag="balanceUpdate"):
    """A deposit, withdrawal or transfer; the new balance comes in an `outboundAccountPosition`."""


class ExternalLock(msgspec.Struct, tag_field="e", tag="externalLockUpdate"):
    """Part of a balance was locked or released from outside; the new balance is not said."""


class OrderListStatus(msgspec.Struct, tag_field="e", tag="listStatus"):
    """Something happened to a list of orders; the orders have reports of their own."""


class StreamTerminated(msgspec.Struct, tag_field="e", tag="eventStreamTerminated"):
    """The subscription is over."""


class ServerShutdown(msgspec.Struct, tag_field="e", tag="serverShutdown"):
    """The connection is about to be closed by the venue."""


SpotEvent = (
    ExecutionReport | SpotPosition | BalanceChanged | ExternalLock | OrderListStatus | StreamTerminated | ServerShutdown
)


# -- futures and options ----------------------------------------------------------------------------------------


class OrderReport(
    msgspec.Struct,
    rename={
        "symbol": "s",
        "client_order_id": "c",
        "side": "S",
        "type": "o",
        "original_type": "ot",
        "time_in_force": "f",
        "quantity": "q",
        "price": "p",
        "average": "ap",
        "stop_price": "sp",
        "execution": "x",
        "status": "X",
        "order_id": "i",
        "last_quantity": "l",
        "last_price": "L",
        "filled": "z",
        "fee": "n",
        "fee_asset": "N",
        "trade_id": "t",
        "maker": "m",
        "reduce_only": "R",
        "time": "T",
    },
):
    """`o` of ORDER_TRADE_UPDATE: an order and, with TRADE or CALCULATED (liquidation), a fill of it."""

    symbol: str
    side: Side
    type: str
    quantity: Decimal
    price: Decimal
    execution: str
    status: str
    order_id: int
    filled: Decimal
    time: int
    client_order_id: str = ""
    original_type: str = ""
    time_in_force: str | None = None
    average: Decimal | None = None
    stop_price: Decimal | None = None
    last_quantity: Decimal = _ZERO
    last_price: Decimal = _ZERO
    fee: Decimal | None = None
    fee_asset: str | None = None
    trade_id: int = 0
    maker: bool = False
    reduce_only: bool = False

    def events(self, market: Market, *, fee_sign: int = 1) -> Iterator[Fill | Order]:
        """`fee_sign` -1: the venue's fee is negative when paid (options)."""
        if self.execution in ("TRADE", "CALCULATED") and self.last_quantity:
            yield make_fill(
                market,
                trade_id=self.trade_id,
                order_id=self.order_id,
                client_order_id=self.client_order_id,
                side=self.side,
                price=self.last_price,
                size=self.last_quantity,
                fee=None if self.fee is None else self.fee * fee_sign,
                fee_asset=self.fee_asset,
                maker=self.maker,
                time=self.time,
            )
        yield make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=self.client_order_id,
            side=self.side,
            kind=order_type(self.original_type or self.type, self.price),
            status=order_status(self.status, self.filled, self.quantity),
            price=self.price,
            stop_price=self.stop_price,
            total=self.quantity,
            filled=self.filled,
            average=self.average,
            time_in_force=time_in_force(self.time_in_force),
            post_only=self.time_in_force in POST_ONLY_WORDS,
            reduce_only=self.reduce_only,
            created=self.time if self.execution == "NEW" else None,
            updated=self.time,
        )


class FuturesOrderUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE", rename={"order": "o"}):
    order: OrderReport


class AlgoReport(
    msgspec.Struct,
    rename={
        "symbol": "s",
        "client_id": "caid",
        "algo_id": "aid",
        "side": "S",
        "type": "o",
        "time_in_force": "f",
        "quantity": "q",
        "price": "p",
        "trigger_price": "tp",
        "status": "X",
        "average": "ap",
        "filled": "aq",
        "reduce_only": "R",
        "actual_order_id": "ai",
        "actual_type": "act",
    },
):
    """`o` of ALGO_UPDATE: a conditional order. Its real order, once there is one, has reports of its own."""

    symbol: str
    algo_id: int
    side: Side
    type: str
    status: str
    client_id: str = ""
    time_in_force: str | None = None
    quantity: str = ""
    price: str = ""
    trigger_price: str = ""
    average: str = ""
    filled: str = ""
    reduce_only: bool = False
    actual_order_id: str | int | None = ""
    actual_type: str | None = ""
    """The type of the real order; "0" before there is one."""

    @property
    def real_id(self) -> str | None:
        """The order that it became, once it was triggered."""
        return str(self.actual_order_id) if is_order_id(self.actual_order_id) else None


class AlgoUpdate(msgspec.Struct, tag_field="e", tag="ALGO_UPDATE", rename={"order": "o", "time": "T"}):
    order: AlgoReport
    time: int

    def event(self, market: Market, real_type: OrderType | None = None) -> Order:
        """The conditional order, or what it became: that order has the id and the type of its own reports
        (`real_type`; without one of them yet, the type that this event names)."""
        report = self.order
        price = decimal_or_none(report.price)
        real_id = report.real_id
        kind = order_type(report.type, price)
        if real_id is not None:
            kind = real_type or order_type(report.actual_type or "", price)
        total = decimal_or_none(report.quantity)
        filled = decimal_or_none(report.filled) or _ZERO
        return make_order(
            market,
            order_id=real_id or f"{ALGO_PREFIX}{report.algo_id}",
            client_order_id=report.client_id,
            side=report.side,
            kind=kind,
            status=algo_status(report.status, filled, total),
            price=price,
            stop_price=decimal_or_none(report.trigger_price),
            total=total,
            filled=filled,
            average=decimal_or_none(report.average),
            time_in_force=time_in_force(report.time_in_force),
            post_only=report.time_in_force in POST_ONLY_WORDS,
            reduce_only=report.reduce_only,
            updated=self.time,
        )


class WalletRow(msgspec.Struct, rename={"asset": "a", "wallet_balance": "wb"}):
    asset: str
    wallet_balance: Decimal


class PositionRow(
    msgspec.Struct,
    rename={
        "symbol": "s",
        "size": "pa",
        "entry_price": "ep",
        "unrealized_pnl": "up",
        "margin_type": "mt",
        "side": "ps",
    },
):
    """A position after the event. In hedge mode all sides of a changed symbol are listed (BOTH with 0 among them)."""

    symbol: str
    size: Decimal
    entry_price: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    margin_type: str | None = None
    side: str = "BOTH"


class _AccountChange(msgspec.Struct, rename={"balances": "B", "positions": "P"}):
    balances: list[WalletRow] = []
    positions: list[PositionRow] = []


class FuturesAccountUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_UPDATE", rename={"change": "a"}):
    """Changed balances and positions."""

    change: _AccountChange


class TradeLite(msgspec.Struct, tag_field="e", tag="TRADE_LITE"):
    """An early notice of a fill, without its fee; the same fill follows in ORDER_TRADE_UPDATE. Not used."""


class ListenKeyExpired(msgspec.Struct, tag_field="e", tag="listenKeyExpired"):
    """Nothing comes on this connection any more."""


FuturesEvent = FuturesOrderUpdate | AlgoUpdate | FuturesAccountUpdate | TradeLite | ListenKeyExpired | ServerShutdown


class OptionsOrderUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE", rename={"order": "o"}):
    order: msgspec.Raw
    """One object today; before 2026 a list of objects in other letters (`OldOptionReport`)."""


class _OldOptionFill(
    msgspec.Struct, rename={"trade_id": "t", "price": "p", "quantity": "q", "time": "T", "liquidity": "m"}
):
    trade_id: str | int
    price: Decimal
    quantity: Decimal
    time: int
    liquidity: str | None = None


class OldOptionReport(
    msgspec.Struct,
    rename={
        "created": "T",
        "updated": "t",
        "symbol": "s",
        "client_order_id": "c",
        "order_id": "oid",
        "price": "p",
        "quantity": "q",
        "status": "S",
        "filled": "e",
        "filled_quote": "ec",
        "reduce_only": "r",
        "post_only": "po",
        "time_in_force": "tif",
        "fills": "fi",
    },
):
    """An order as option streams wrote it before 2026; the sign of `quantity` is the side."""

    symbol: str
    order_id: str | int
    price: Decimal
    quantity: Decimal
    status: str
    filled: Decimal = _ZERO
    filled_quote: Decimal = _ZERO
    client_order_id: str = ""
    reduce_only: bool = False
    post_only: bool = False
    time_in_force: str | None = None
    created: int | None = None
    updated: int | None = None
    fills: list[_OldOptionFill] = []

    def events(self, market: Market) -> Iterator[Fill | Order]:
        side = Side.SELL if self.quantity < 0 else Side.BUY
        for fill in self.fills:
            yield make_fill(
                market,
                trade_id=fill.trade_id,
                order_id=self.order_id,
                client_order_id=self.client_order_id,
                side=side,
                price=fill.price,
                size=abs(fill.quantity),
                fee=None,  # its sign in this form is not documented
                fee_asset=None,
                maker=None if fill.liquidity is None else fill.liquidity == "MAKER",
                time=fill.time,
            )
        total, filled = abs(self.quantity), abs(self.filled)
        yield make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=self.client_order_id,
            side=side,
            kind=order_type("LIMIT", self.price),
            status=order_status(self.status, filled, total),
            price=self.price,
            total=total,
            filled=filled,
            average=average_of(self.filled_quote, filled),
            time_in_force=time_in_force(self.time_in_force),
            reduce_only=self.reduce_only,
            post_only=self.post_only or self.time_in_force in POST_ONLY_WORDS,
            created=self.created,
            updated=self.updated,
        )


class _OptionWallet(msgspec.Struct, rename={"asset": "a", "balance": "b"}):
    asset: str
    balance: Decimal


class _OptionPosition(msgspec.Struct, rename={"symbol": "s", "size": "c", "average": "a"}):
    symbol: str
    size: Decimal
    average: Decimal | None = None


class OptionsBalancePositionUpdate(
    msgspec.Struct, tag_field="e", tag="BALANCE_POSITION_UPDATE", rename={"balances": "B", "positions": "P"}
):
    """Changed balances and positions."""

    balances: list[_OptionWallet] = []
    positions: list[_OptionPosition] = []


OptionsEvent = OptionsOrderUpdate | OptionsBalancePositionUpdate | ListenKeyExpired | ServerShutdown
