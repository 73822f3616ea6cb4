"""What the derivatives API says of orders, fills, positions and wallets, and how it becomes Astra's.

Numbers come as numbers or as texts; times as RFC 3339 texts, in the history as milliseconds.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, MarginMode, Order, OrderRef, OrderStatus, PositionSide
from astra.models.trades import Side
from astra.trading.native import make_fill, make_order, make_position, status_of
from astra_kraken.markets import asset_name
from astra_kraken.trading.terms import average_fill, derivatives_force, derivatives_type, maker_of, side_of


def milliseconds(time: datetime.datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


class OrderFacts(msgspec.Struct, rename="camel"):
    """An order in an event of a command's answer, or of `orders/status`; a conditional one that waits has names of its
    own for some of it."""

    symbol: str
    side: str
    type: str = ""
    order_id: str | None = None
    uid: str | None = None
    cli_ord_id: str | None = None
    client_id: str | None = None
    quantity: Decimal | None = None
    filled: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trigger_price: Decimal | None = None
    price_trigger_options: PriceTrigger | None = None
    reduce_only: bool = False
    timestamp: datetime.datetime | None = None
    last_update_timestamp: datetime.datetime | None = None

    @property
    def id(self) -> str | None:
        return self.order_id or self.uid

    @property
    def trigger(self) -> Decimal | None:
        options = self.price_trigger_options
        return self.stop_price or self.trigger_price or (options.trigger_price if options else None)

    def order(
        self, market: Market, status: OrderStatus, *, filled: Decimal | None = None, average: Decimal | None = None
    ) -> Order:
        done = self.filled if filled is None else filled
        return make_order(
            market,
            order_id=self.id,
            client_order_id=self.cli_ord_id or self.client_id,
            side=side_of(self.side),
            kind=derivatives_type(self.type, self.limit_price, self.trigger),
            status=status,
            price=self.limit_price,
            stop_price=self.trigger,
            total=self.quantity,
            filled=done,
            average=average,
            time_in_force=derivatives_force(self.type),
            reduce_only=self.reduce_only,
            post_only=self.type.lower() == "post",
            created=milliseconds(self.timestamp),
            updated=milliseconds(self.last_update_timestamp),
        )


class PriceTrigger(msgspec.Struct, rename="camel"):
    trigger_price: Decimal | None = None


class OrderEvent(msgspec.Struct, rename="camel"):
    """What a command did: PLACE, EXECUTION, CANCEL, EDIT, REJECT."""

    type: str = ""
    order: OrderFacts | None = None
    order_trigger: OrderFacts | None = None
    order_prior_execution: OrderFacts | None = None
    old: OrderFacts | None = None
    new: OrderFacts | None = None
    price: Decimal | None = None
    amount: Decimal | None = None
    reason: str | None = None

    @property
    def facts(self) -> OrderFacts | None:
        return self.new or self.order or self.order_trigger or self.order_prior_execution


class CommandStatus(msgspec.Struct):
    """`sendStatus`, `editStatus`, `cancelStatus`, or an element of `batchStatus` (its error may stand in `error`)."""

    status: str = ""
    order_id: str | None = None
    order_events: list[OrderEvent] = msgspec.field(default_factory=list, name="orderEvents")
    order_tag: str | None = None
    error: str | None = None
    received_time: datetime.datetime | None = msgspec.field(default=None, name="receivedTime")


class CommandAnswer(msgspec.Struct, rename="camel"):
    send_status: CommandStatus | None = None
    edit_status: CommandStatus | None = None
    cancel_status: CommandStatus | None = None
    batch_status: list[CommandStatus] = []


class OpenOrder(msgspec.Struct, rename="camel"):
    """A row of `openorders`. What an untriggered stop has not filled may be left out."""

    order_id: str = msgspec.field(name="order_id")
    symbol: str
    side: str
    order_type: str
    cli_ord_id: str | None = None
    cli_ord_id_too: str | None = msgspec.field(default=None, name="cli_ord_id")
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    unfilled_size: Decimal | None = None
    filled_size: Decimal | None = None
    reduce_only: bool = False
    received_time: datetime.datetime | None = None
    last_update_time: datetime.datetime | None = None

    def order(self, market: Market) -> Order:
        filled = self.filled_size or Decimal(0)
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.cli_ord_id or self.cli_ord_id_too,
            side=side_of(self.side),
            kind=derivatives_type(self.order_type, self.limit_price, self.stop_price),
            status=OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW,
            price=self.limit_price,
            stop_price=self.stop_price,
            total=None if self.unfilled_size is None else filled + self.unfilled_size,
            filled=filled,
            average=None,
            time_in_force=derivatives_force(self.order_type),
            reduce_only=self.reduce_only,
            post_only=self.order_type == "post",
            created=milliseconds(self.received_time),
            updated=milliseconds(self.last_update_time),
        )


class OpenOrders(msgspec.Struct, rename="camel"):
    open_orders: list[OpenOrder]


class StatusRow(msgspec.Struct, rename="camel"):
    order: OrderFacts
    status: str
    update_reason: str | None = None
    error: str | None = None


class StatusAnswer(msgspec.Struct):
    orders: list[StatusRow] = []


class FillRow(msgspec.Struct, rename="camel"):
    fill_id: str = msgspec.field(name="fill_id")
    order_id: str = msgspec.field(name="order_id")
    symbol: str
    side: str
    size: Decimal
    price: Decimal
    fill_time: datetime.datetime
    fill_type: str = ""
    cli_ord_id: str | None = None
    cli_ord_id_too: str | None = msgspec.field(default=None, name="cli_ord_id")
    fee_paid: Decimal | None = msgspec.field(default=None, name="fee_paid")
    fee_currency: str | None = msgspec.field(default=None, name="fee_currency")

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.fill_id,
            order_id=self.order_id,
            client_order_id=self.cli_ord_id or self.cli_ord_id_too,
            side=side_of(self.side),
            price=self.price,
            size=self.size,
            fee=self.fee_paid,
            fee_asset=None if self.fee_currency is None else asset_name(self.fee_currency.upper()),
            maker=maker_of(self.fill_type),
            time=milliseconds(self.fill_time) or 0,
        )


class Fills(msgspec.Struct):
    fills: list[FillRow]


class PositionRow(msgspec.Struct, rename="camel"):
    side: str
    symbol: str
    price: Decimal
    size: Decimal
    max_fixed_leverage: Decimal | None = None

    def position(self, market: Market, mark: Decimal | None) -> Position:
        fixed = self.max_fixed_leverage
        linear = not market.is_inverse
        return make_position(
            market,
            PositionSide.SHORT if self.side == "short" else PositionSide.LONG,
            self.size,
            entry=self.price,
            mark=mark,
            leverage=fixed,
            margin_mode=None if not linear else MarginMode.CROSS if fixed is None else MarginMode.ISOLATED,
        )


class Positions(msgspec.Struct, rename="camel"):
    open_positions: list[PositionRow]


class Ticker(msgspec.Struct, rename="camel"):
    symbol: str = ""
    mark_price: Decimal | None = None


class Tickers(msgspec.Struct):
    tickers: list[Ticker]


class Currency(msgspec.Struct):
    quantity: Decimal
    available: Decimal | None = None


class Auxiliary(msgspec.Struct):
    af: Decimal | None = None


class Wallet(msgspec.Struct):
    """One of `accounts`: cash, the margin account of a coin, or `flex`. A coin's `balances` mix assets in lower case
    with the sizes of positions under contract symbols."""

    type: str = ""
    currency: str | None = None
    balances: dict[str, Decimal] = {}
    currencies: dict[str, Currency] = {}
    auxiliary: Auxiliary | None = None

    def held(self, name: str) -> Iterable[Balance]:
        for code, held in self.currencies.items():
            if held.quantity:
                asset = asset_name(code.upper())
                yield Balance(asset=asset, wallet=name, total=held.quantity, available=held.available)
        for code, total in self.balances.items():
            if not total or (self.currency is not None and code != self.currency):
                continue
            available = self.auxiliary.af if self.auxiliary is not None and self.currency is not None else None
            yield Balance(asset=asset_name(code.upper()), wallet=name, total=total, available=available)


class Accounts(msgspec.Struct):
    accounts: dict[str, Wallet]


class HistoryOrder(msgspec.Struct, rename="camel"):
    """An order in the account's history. `quantity` is what remained; numbers are texts, empty where there is none."""

    uid: str
    tradeable: str = ""
    direction: str = "Buy"
    quantity: str = ""
    filled: str = ""
    limit_price: str = ""
    order_type: str = ""
    client_id: str = ""
    reduce_only: bool = False
    timestamp: int = 0
    last_update_timestamp: int = 0

    @property
    def whole(self) -> Decimal:
        return _number(self.quantity) + _number(self.filled)


class Change(msgspec.Struct, rename="camel"):
    order: HistoryOrder | None = None
    new_order: HistoryOrder | None = None
    reason: str = ""


class ExecutionFee(msgspec.Struct):
    fee: str | None = None


class Execution(msgspec.Struct, rename="camel"):
    """An own execution: the account's side of the match, with what it paid in the contract's margin asset."""

    quantity: Decimal
    price: Decimal
    uid: str = ""
    maker_order: HistoryOrder | None = None
    taker_order: HistoryOrder | None = None
    order_data: ExecutionFee | None = None

    @property
    def fee(self) -> Decimal | None:
        return Decimal(self.order_data.fee) if self.order_data is not None and self.order_data.fee else None


class Executed(msgspec.Struct):
    execution: Execution


class Element(msgspec.Struct):
    timestamp: int
    event: dict[str, msgspec.Raw]


class HistoryPage(msgspec.Struct, rename="camel"):
    elements: list[Element] = []
    continuation_token: str | None = None


decode_command = msgspec.json.Decoder(CommandAnswer, strict=False).decode
decode_open_orders = msgspec.json.Decoder(OpenOrders, strict=False).decode
decode_status = msgspec.json.Decoder(StatusAnswer, strict=False).decode
decode_fills = msgspec.json.Decoder(Fills, strict=False).decode
decode_positions = msgspec.json.Decoder(Positions, strict=False).decode
decode_accounts = msgspec.json.Decoder(Accounts, strict=False).decode
decode_history = msgspec.json.Decoder(HistoryPage, strict=False).decode
decode_tickers = msgspec.json.Decoder(Tickers, strict=False).decode
decode_change = msgspec.json.Decoder(Change).decode
decode_executed = msgspec.json.Decoder(Executed, strict=False).decode
decode_anything = msgspec.json.Decoder(msgspec.Raw).decode

LOOK_UP_STATUS: Mapping[str, OrderStatus | None] = {
    "ENTERED_BOOK": None,
    "FULLY_EXECUTED": OrderStatus.FILLED,
    "REJECTED": OrderStatus.REJECTED,
    "CANCELLED": OrderStatus.CANCELED,
    "TRIGGER_PLACED": OrderStatus.NEW,
    "TRIGGER_ACTIVATION_FAILURE": OrderStatus.REJECTED,
}


def executions_of(elements: Iterable[Element]) -> Iterator[Execution]:
    """What the elements of the history of executions tell."""
    for element in elements:
        for raw in element.event.values():
            yield decode_executed(raw).execution


def is_meant(order: HistoryOrder, ref: OrderRef) -> bool:
    return order.uid == ref.id if ref.id is not None else order.client_id == ref.client_order_id


def past_order(
    market: Market, known: Sequence[HistoryOrder], fills: Sequence[tuple[Decimal, Decimal]], ended: str | None
) -> Order:
    """An order that is done. Each entry tells what remained then and what was filled before: both together are the
    whole, as the latest amendment left it. Executions that are missing show in what the entries say is filled."""
    first = min(known, key=lambda one: one.last_update_timestamp)
    total = max(known, key=lambda one: (one.whole > 0, one.last_update_timestamp, one.whole)).whole
    executed = sum((quantity for _, quantity in fills), Decimal(0))
    filled = max(executed, *(_number(one.filled) for one in known))
    status = status_of(filled, total)
    if status is not OrderStatus.FILLED:
        refused = ended is not None and ended.endswith("Rejected")
        # Not listed as open, and not filled: it was canceled, or an order of which nothing rests.
        status = OrderStatus.REJECTED if refused else OrderStatus.CANCELED
    word = {"fillorkill": "fok"}.get(first.order_type.lower(), first.order_type.lower())
    price = _number(first.limit_price) or None
    return make_order(
        market,
        order_id=first.uid,
        client_order_id=first.client_id,
        side=Side(first.direction.upper()),
        kind=derivatives_type(word, price, None),
        status=status,
        price=price,
        total=total,
        filled=filled,
        average=average_fill(market, fills) if executed == filled else None,
        time_in_force=derivatives_force(word),
        reduce_only=first.reduce_only,
        post_only=word == "post",
        created=first.timestamp,
        updated=max(one.last_update_timestamp for one in known),
    )


def _number(text: str) -> Decimal:
    return Decimal(text) if text else Decimal(0)
