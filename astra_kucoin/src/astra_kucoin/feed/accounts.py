"""Private streams on the classic token sockets: own orders, fills, conditional orders, balances, positions (docs-new,
"Private Channels").

A token opens the connection and is the log-in. Nothing is told on subscribing; what stands is asked for by REST.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from astra.errors import PermissionDenied, VenueError
from astra.models.accounts import AccountEvent, Balance
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType
from astra.models.trades import Side
from astra.rest import Recent
from astra.streams.accounts import AccountSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import NetSides, average_of, decimal_or_none, make_fill, make_order
from astra_kucoin.markets import asset_of
from astra_kucoin.settings import FUTURES, SPOT
from astra_kucoin.trading.rows import STOP_PREFIX, ZERO, Notes, PositionRow, kind_of, ms_of

PING: Final = '{"id":"ping","type":"ping"}'
_MAX_TALLIES: Final = 10_000
ORDERS: Final = frozenset({"orderChange", "symbolOrderChange"})
STOPS: Final = "stopOrder"
BAD_TOKEN: Final = frozenset({"401", "4001"})
FORBIDDEN: Final = "403"
_STATES: Mapping[str, OrderStatus] = {
    "match": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
}
"""What an event makes of an order; others leave it open."""
_STOP_STATES: Mapping[str, OrderStatus] = {
    "cancel": OrderStatus.CANCELED,
    "canceled": OrderStatus.CANCELED,
    "fail": OrderStatus.REJECTED,
}


class _Frame(msgspec.Struct):
    """Any frame."""

    type: str = ""
    topic: str = ""
    subject: str = ""
    id: str | int = ""
    code: str | int = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class OrderEvent(msgspec.Struct, rename="camel"):
    """An event of an order. The first one (`received`) has no size but `originSize`; orders by amount have
    `originFunds`; `match...`, `tradeId` and `liquidity` are of this very event."""

    symbol: str
    order_id: str
    side: str
    type: str
    order_type: str = ""
    client_oid: str | None = None
    price: str | None = None
    size: str | None = None
    origin_size: str | None = None
    origin_funds: str | None = None
    filled_size: str | None = None
    match_price: str | None = None
    match_size: str | None = None
    trade_id: str | int | None = None
    liquidity: str = ""
    order_time: int = 0
    ts: int = 0

    def order(self, market: Market, average: Decimal | None, kind: OrderType | None) -> Order:
        side = Side(self.side.upper())
        filled = decimal_or_none(self.filled_size) or ZERO
        status = _STATES.get(self.type)
        price = decimal_or_none(self.price)
        kind = kind or kind_of(self.order_type, side, "", has_price=price is not None)
        by_funds = bool(decimal_or_none(self.origin_funds))
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.client_oid,
            side=side,
            kind=kind,
            status=status or (OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW),
            price=price if kind.has_price else None,
            total=None if by_funds else decimal_or_none(self.size) or decimal_or_none(self.origin_size),
            filled=filled,
            average=average,
            quote_quantity=decimal_or_none(self.origin_funds),
            created=ms_of(self.order_time),
            updated=ms_of(self.ts),
        )

    @property
    def matched(self) -> tuple[Decimal, Decimal] | None:
        """(price, size) of the fill that the event is about."""
        price, size = decimal_or_none(self.match_price), decimal_or_none(self.match_size)
        return None if self.type != "match" or price is None or size is None else (price, size)

    def fill(self, market: Market, price: Decimal, size: Decimal) -> Fill:
        """The fee is not told."""
        return make_fill(
            market,
            trade_id=self.trade_id or "",
            order_id=self.order_id,
            client_order_id=self.client_oid,
            side=Side(self.side.upper()),
            price=price,
            size=size,
            fee=None,
            fee_asset=None,
            maker=self.liquidity == "maker" if self.liquidity else None,
            time=ms_of(self.ts),
        )


class StopEvent(msgspec.Struct, rename="camel"):
    """An event of a conditional order. It has no client order id."""

    symbol: str
    order_id: str
    side: str
    type: str
    stop: str = ""
    size: str | int | None = None
    stop_price: str | None = None
    order_price: str | None = None
    trigger_success: bool | None = None
    created_at: int = 0
    ts: int = 0

    @property
    def triggered(self) -> bool:
        return self.type == "triggered"


class _SpotBalance(msgspec.Struct, rename="camel"):
    """A change of an account; the first part of `relationEvent` says which one."""

    currency: str
    total: str
    available: str
    hold: str
    relation_event: str = ""


class _Wallet(msgspec.Struct, rename="camel"):
    """The futures account of one settlement asset."""

    currency: str
    wallet_balance: str
    available_balance: str
    hold_balance: str = "0"
    isolated_order_margin: str = "0"
    isolated_pos_margin: str = "0"
    cross_order_margin: str = "0"
    cross_pos_margin: str = "0"

    def balance(self) -> Balance:
        parts = (
            self.hold_balance,
            self.isolated_order_margin,
            self.isolated_pos_margin,
            self.cross_order_margin,
            self.cross_pos_margin,
        )
        return Balance(
            asset=asset_of(self.currency),
            wallet=FUTURES,
            total=Decimal(self.wallet_balance),
            available=Decimal(self.available_balance),
            locked=sum(map(Decimal, parts), ZERO),
        )


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_order = msgspec.json.Decoder(OrderEvent).decode
_decode_stop = msgspec.json.Decoder(StopEvent).decode
_decode_balance = msgspec.json.Decoder(_SpotBalance).decode
_decode_wallet = msgspec.json.Decoder(_Wallet).decode
_decode_position = msgspec.json.Decoder(PositionRow).decode
_decode_text = msgspec.json.Decoder(str).decode


class _Tally(msgspec.Struct):
    """The fills of one order that were told: size, and that times (inverse contracts: divided by) the price; and the
    price, as long as there is but one."""

    size: Decimal = ZERO
    worth: Decimal = ZERO
    price: Decimal | None = None

    def add(self, price: Decimal, size: Decimal, *, inverse: bool) -> None:
        self.price = price if not self.size or self.price == price else None
        self.size += size
        self.worth += size / price if inverse else size * price

    def average(self, *, inverse: bool) -> Decimal | None:
        """The price where there is but one, for quotients are not exact."""
        if self.price is not None:
            return self.price
        return average_of(self.size, self.worth) if inverse else average_of(self.worth, self.size)


class ClassicAccountSession(AccountSession):
    """One account on one connection; several topics, which together are one channel of Astra's."""

    topics: ClassVar[Sequence[str]]

    def __init__(
        self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, market_of: MarketOf, notes: Notes
    ) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._notes = notes
        self._welcome = False
        self._last_id = 0
        self._unanswered: set[str] = set()
        self._tallies: Recent[str, _Tally] = Recent(_MAX_TALLIES)

    # -- out ----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self._welcome

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.join(channels)
        frames = [self._frame("subscribe", topic) for topic in self.topics]
        self._unanswered = {ident for ident, _ in frames}
        return [frame for _, frame in frames]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        self._unanswered = set()
        return [self._frame("unsubscribe", topic)[1] for topic in self.topics]

    def _frame(self, kind: str, topic: str) -> tuple[str, str]:
        """(id, frame)"""
        self._last_id += 1
        ident = str(self._last_id)
        frame = {"id": ident, "type": kind, "topic": topic, "privateChannel": True, "response": True}
        return ident, msgspec.json.encode(frame).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = _decode_frame(payload)
        if frame.type == "message":
            if self._input is not None:
                self.tell(self._events(frame))
        elif frame.type == "welcome":
            self._welcome = True
        elif frame.type == "ack":
            self._acknowledged(str(frame.id))
        elif frame.type == "error":
            self._refused(frame)
        elif frame.type != "pong":
            raise ValueError(f"a frame of the type {frame.type!r} is not documented")

    def _acknowledged(self, ident: str) -> None:
        if ident in self._unanswered:
            self._unanswered.discard(ident)
            if not self._unanswered and self._channel is not None:
                self.outlet.acknowledged([self._channel])

    def _refused(self, frame: _Frame) -> None:
        code = str(frame.code)
        try:
            said = _decode_text(frame.data)
        except msgspec.DecodeError:
            said = "no reason given"
        reason = f"the account stream was refused: {said} (code {code})"
        if code in BAD_TOKEN or self._channel is None or str(frame.id) not in self._unanswered:
            # A token that ran out, or a connection that ends: a new one comes with a new token.
            self.outlet.reconnect(reason)
            return
        kind = PermissionDenied if code == FORBIDDEN else VenueError
        error = kind(reason, exchange="KUCOIN", code=code)
        self.outlet.refused(self._channel, error, final=kind is PermissionDenied)

    def _events(self, frame: _Frame) -> Iterator[AccountEvent]:
        """What a message means for the account."""
        if frame.subject in ORDERS:
            yield from self._order_events(_decode_order(frame.data))
        elif frame.subject == STOPS:
            yield from self._stop_events(_decode_stop(frame.data))

    def _order_events(self, row: OrderEvent) -> Iterator[AccountEvent]:
        """An order as it stands, after the fill that the event is about, if there is one."""
        market = self.market(row.symbol)
        if market is None:
            return
        matched = row.matched
        if matched is not None:
            self._tallies.made(row.order_id, _Tally).add(*matched, inverse=market.is_inverse)
            yield row.fill(market, *matched)
        note = self._notes.stops.get(row.order_id)
        order = row.order(market, self._average(market, row), None if note is None else note.kind)
        if not self._goes_on(row, order):
            yield order

    def _goes_on(self, row: OrderEvent, order: Order) -> bool:
        """Is it the cancel half of an amendment? The order, of which nothing was filled, goes on under another id. (One
        that was filled in part is told as canceled, for its fills stay with its old id.)"""
        if row.type != "canceled":
            return False
        tell = None if order.filled_quantity or order.filled_contracts else lambda: self.tell([order])
        return self._notes.withhold(self.endpoint.scope, row.order_id, tell)

    def _average(self, market: Market, row: OrderEvent) -> Decimal | None:
        """The venue does not tell it: made of the fills, if all were seen."""
        tally = self._tallies.get(row.order_id)
        if tally is None or not tally.size or tally.size != decimal_or_none(row.filled_size):
            return None
        return tally.average(inverse=market.is_inverse)

    def _stop_events(self, row: StopEvent) -> Iterator[AccountEvent]:
        market = self.market(row.symbol)
        if market is None:
            return
        note = self._notes.stops.get(row.order_id)
        status = _STOP_STATES.get(row.type, OrderStatus.NEW)
        if row.triggered:
            if row.trigger_success is False:
                status = OrderStatus.REJECTED
            elif note is None and market.product == SPOT:
                # It goes on as another order, of which nothing here says so.
                status = OrderStatus.EXPIRED
        side = Side(row.side.upper())
        price = decimal_or_none(row.order_price)
        kind = note.kind if note is not None else kind_of("", side, row.stop, has_price=price is not None)
        prefix = STOP_PREFIX if market.product == SPOT else ""
        yield make_order(
            market,
            order_id=f"{prefix}{row.order_id}",
            client_order_id=None if note is None else note.client_order_id,
            side=side,
            kind=kind,
            status=status,
            price=price if kind.has_price else None,
            stop_price=decimal_or_none(row.stop_price),
            total=decimal_or_none(None if row.size is None else str(row.size)),
            filled=ZERO,
            average=None,
            created=ms_of(row.created_at),
            updated=ms_of(row.ts),
        )


class SpotAccountSession(ClassicAccountSession):
    """Orders and fills, conditional orders, balances of spot."""

    topics = ("/spotMarket/tradeOrdersV2", "/spotMarket/advancedOrders", "/account/balance")

    def _events(self, frame: _Frame) -> Iterator[AccountEvent]:
        if frame.subject != "account.balance":
            yield from super()._events(frame)
            return
        row = _decode_balance(frame.data)
        if row.relation_event.startswith("trade"):
            yield Balance(
                asset=asset_of(row.currency),
                wallet=SPOT,
                total=Decimal(row.total),
                available=Decimal(row.available),
                locked=Decimal(row.hold),
            )


class FuturesAccountSession(ClassicAccountSession):
    """Orders and fills, conditional orders, balances, positions of futures."""

    topics = (
        "/contractMarket/tradeOrders",
        "/contractMarket/advancedOrders",
        "/contractAccount/wallet",
        "/contract/positionAll",
    )

    def __init__(self, *connection: Any) -> None:
        super().__init__(*connection)
        self._sides = NetSides()

    def _events(self, frame: _Frame) -> Iterator[AccountEvent]:
        if frame.subject == "walletBalance.change":
            yield _decode_wallet(frame.data).balance()
        elif frame.subject == "position.change":
            yield from self._position_events(_decode_position(frame.data))
        else:
            yield from super()._events(frame)

    def _position_events(self, row: PositionRow) -> Iterator[AccountEvent]:
        """Frames without a contract tell a mark price, of nobody knows which position."""
        market = self.market(row.symbol) if row.symbol and row.current_qty is not None else None
        if market is None:
            return
        if row.is_net:
            yield from self._sides.closed(market, row.size)
            if not row.size:
                return
        yield row.position(market)
