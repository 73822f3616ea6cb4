"""Books and trades on one connection of the unified push service: subscriptions out, `obu` and `trade` frames in
(docs-new, "Orderbook increment", "Trade").

The hot path is `MarketSession.received`: decode, look the market up, hand on. What is no book frame fails that decoding
and takes the slow path.

How a book is kept (depth `increment@10ms`):

1. The subscription is acknowledged; some time later a snapshot comes, of the best 500 levels a side. Changes that come
   before it are dropped.
2. A change spans the sequences `O` to `C`. One with `C` at or before the last is old.
3. `O` must be the last sequence + 1, or less (an overlap). Otherwise something is missing.
4. A level that leaves the best 500 is sent as deleted: the book stays within them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from astra.models.trades import Side, Trade
from astra.streams.feed import (
    BookInput,
    Channel,
    DataType,
    Endpoint,
    Frame,
    Outlet,
    Payload,
    Session,
    Ticket,
    TradeInput,
    Units,
)

logger = logging.getLogger(__name__)

PING: Final = '{"id":"ping","type":"ping"}'
DEPTH: Final = "increment@10ms"
TRADE_TYPES: Mapping[str, str] = {"spot": "SPOT", "futures": "FUTURES"}
SNAPSHOT: Final = "snapshot"
_NS: Final = 1_000_000
TOO_MANY: Final = frozenset({"429002", "429000"})
"""Asked too often: worth another try later."""

NativeLevel = tuple[float, float]
"""Price and size, both texts."""


class BookData(msgspec.Struct, gc=False, rename={"symbol": "s", "first": "O", "last": "C", "time_ns": "M"}):
    """A snapshot or a change; quantities are absolute."""

    symbol: str
    first: int
    last: int
    time_ns: int
    b: tuple[NativeLevel, ...]
    a: tuple[NativeLevel, ...]


class BookFrame(msgspec.Struct, gc=False, rename={"kind": "t", "depth": "dp", "data": "d"}):
    kind: str
    depth: str
    data: BookData


class TradeData(msgspec.Struct, rename={"symbol": "s", "price": "p", "size": "q", "side": "S", "time_ns": "M"}):
    """A trade; `side` is the taker's, in letters of either case. Its id may be a number."""

    symbol: str
    price: float
    size: float
    side: str
    ti: str | int
    time_ns: int


class TradeFrame(msgspec.Struct, rename={"type": "T", "data": "d"}):
    type: str
    data: TradeData


class Notice(msgspec.Struct, rename={"push": "T"}):
    """Any other frame: greeting, answers, pongs."""

    id: str | int = ""
    result: bool | str | None = None
    message: str = ""
    reason: str = ""
    code: str | int = ""
    type: str = ""
    op: str = ""
    push: str = ""

    @property
    def accepted(self) -> bool:
        """A boolean on the wire, a text in the documentation."""
        return self.result is True or self.result == "true"


_decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
_decode_trade = msgspec.json.Decoder(TradeFrame, strict=False).decode
_decode_notice = msgspec.json.Decoder(Notice).decode
WELCOME: Final = "welcome"


class MarketSession(Session):
    """Market streams of one product on one connection."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._books: dict[str, BookInput] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units] = {}
        self._waiting: dict[str, Channel] = {}
        self._last_id = 0
        self._welcome = False

    # -- out ----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """The venue greets before it takes subscriptions."""
        return self._welcome

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        frames = []
        for channel in channels:
            symbol = channel.native_symbol
            if channel.data_type is DataType.ORDERBOOK:
                self._books[symbol] = self.outlet.book(channel)
            else:
                self._trades[symbol] = self.outlet.trades(channel)
            units = Units.of(channel.market)
            if units is not None:
                self._units[symbol] = units
            frames.append(self._frame("SUBSCRIBE", channel))
        return frames

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            inputs = self._books if channel.data_type is DataType.ORDERBOOK else self._trades
            inputs.pop(channel.native_symbol, None)
        return [self._frame("UNSUBSCRIBE", channel) for channel in channels]

    def _frame(self, action: str, channel: Channel) -> str:
        """One market a frame: books take no more."""
        self._last_id += 1
        ident = str(self._last_id)
        self._waiting[ident] = channel
        frame: dict[str, str | int] = {
            "id": ident,
            "action": action,
            "channel": name_of(channel),
            "tradeType": TRADE_TYPES[channel.product],
            "symbol": channel.native_symbol,
        }
        if channel.data_type is DataType.ORDERBOOK:
            frame |= {"depth": DEPTH, "rpiFilter": 0}
        return msgspec.json.encode(frame).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode_book(payload)
        except msgspec.DecodeError:
            self._uncommon(payload, received_ns)
            return
        data = frame.data
        book = self._books.get(data.symbol)
        if book is None or frame.depth != DEPTH:
            return
        bids: Sequence[NativeLevel] = data.b
        asks: Sequence[NativeLevel] = data.a
        units = self._units.get(data.symbol)
        if units is not None:
            bids, asks = units.levels(bids), units.levels(asks)
        if frame.kind == SNAPSHOT:
            book.snapshot(data.last, bids, asks, data.time_ns // _NS, received_ns)
        else:
            book.delta(data.first, data.last, 0, bids, asks, data.time_ns // _NS, received_ns)

    def _uncommon(self, payload: Payload, received_ns: int) -> None:
        """Trades, answers, greetings. Raises for what cannot be understood at all."""
        try:
            frame = _decode_trade(payload)
        except msgspec.ValidationError:
            self._noticed(_decode_notice(payload))
            return
        data = frame.data
        trades = self._trades.get(data.symbol)
        if trades is None or not frame.type.startswith("trade."):
            return
        units = self._units.get(data.symbol)
        quantity = data.size if units is None else units.quantity(data.size, data.price)
        side = Side(data.side.upper())
        trade = Trade(trades.market, data.price, quantity, side, data.time_ns // _NS, str(data.ti), received_ns)
        trades.trades([trade])

    def _noticed(self, notice: Notice) -> None:
        if notice.message == WELCOME:
            self._welcome = True
        elif notice.result is not None:
            self._answered(notice)
        elif notice.type == "error":
            self.outlet.reconnect(f"the venue reported an error: {notice.message or notice.reason} ({notice.code})")
        elif notice.type != "pong" and notice.op != "pong" and (not notice.push or notice.push.startswith("obu.")):
            raise ValueError("a frame has a shape that is not documented")

    def _answered(self, notice: Notice) -> None:
        """Answers name the frame that they are to, by a text even where that was a number."""
        channel = self._waiting.pop(str(notice.id), None)
        why = f"{notice.message or notice.reason or 'no reason given'}"
        if channel is None:
            if not notice.accepted:
                logger.warning("%s: the venue refused a frame: %s", self.endpoint.name, why)
        elif notice.accepted:
            self.outlet.acknowledged([channel])
        else:
            reason = f"the venue refused {name_of(channel)} of {channel.native_symbol}: {why}"
            self.outlet.refused(channel, reason, final=str(notice.code) not in TOO_MANY)


def name_of(channel: Channel) -> str:
    """The venue's name of a channel."""
    return "obu" if channel.data_type is DataType.ORDERBOOK else "trade"
