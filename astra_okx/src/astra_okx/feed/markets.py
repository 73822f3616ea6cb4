"""Books and trades on one connection: subscriptions out, `books` and `trades` frames in (docs-v5, "WS / Order book
channel", "WS / Trades channel").

The hot path is `MarketSession.received`: decode, look the instrument up, hand on. What is no book and no trade frame
fails that decoding and takes the slow path.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec

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
from astra_okx.history import NativeLevel, TradeRow, levels_of

logger = logging.getLogger(__name__)

PING = "ping"
_PONG = b"pong"
CHANNELS: Mapping[DataType, str] = {DataType.ORDERBOOK: "books", DataType.TRADE: "trades"}
SNAPSHOT = "snapshot"
RESTARTS = "64008"
"""The notice that comes a minute before a server is replaced."""
TOO_MANY = frozenset({"60014", "60023"})
"""Too many operations: worth another try later."""


class Subject(msgspec.Struct, rename={"inst_id": "instId"}):
    """What a frame is about."""

    channel: str
    inst_id: str = ""


class BookRow(msgspec.Struct, gc=False, rename={"last": "seqId", "previous": "prevSeqId", "time": "ts"}):
    """A snapshot (which may lack `prevSeqId`) or a change. Quantities are absolute."""

    asks: tuple[NativeLevel, ...]
    bids: tuple[NativeLevel, ...]
    time: int
    last: int
    previous: int = -1


class BookFrame(msgspec.Struct, gc=False, rename={"subject": "arg"}):
    subject: Subject
    action: str
    data: tuple[BookRow, ...]


class TradeFrame(msgspec.Struct, rename={"subject": "arg"}):
    subject: Subject
    data: list[TradeRow]


class Notice(msgspec.Struct, rename={"subject": "arg"}):
    """Any other frame: acknowledgements, errors, announcements."""

    event: str = ""
    id: str = ""
    code: str = ""
    msg: str = ""
    subject: Subject | None = None


_decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
_decode_trades = msgspec.json.Decoder(TradeFrame, strict=False).decode
decode_notice = msgspec.json.Decoder(Notice).decode


class _Waiting:
    """A subscribe frame of which not every channel was answered."""

    def __init__(self, channels: Iterable[Channel]) -> None:
        self.channels = {name_of(channel): channel for channel in channels}
        self.errors: list[Notice] = []


def name_of(channel: Channel) -> tuple[str, str]:
    """(the venue's channel, instrument)."""
    return CHANNELS[channel.data_type], channel.native_symbol


class MarketSession(Session):
    """Market streams of all products on one connection."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._books: dict[str, BookInput] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._leaving: dict[tuple[str, str], Channel] = {}
        self._last_id = 0

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            symbol = channel.native_symbol
            if channel.data_type is DataType.ORDERBOOK:
                self._books[symbol] = self.outlet.book(channel)
            else:
                self._trades[symbol] = self.outlet.trades(channel)
            units = Units.of(channel.market)
            if units is not None:
                self._units[symbol] = units
        frame, ident = self._frame("subscribe", channels)
        self._waiting[ident] = _Waiting(channels)
        return [frame]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            inputs = self._books if channel.data_type is DataType.ORDERBOOK else self._trades
            inputs.pop(channel.native_symbol, None)
            self._leaving[name_of(channel)] = channel
        return [self._frame("unsubscribe", channels)[0]]

    def _frame(self, operation: str, channels: Sequence[Channel]) -> tuple[str, str]:
        self._last_id += 1
        ident = str(self._last_id)
        arguments = [{"channel": name, "instId": symbol} for name, symbol in map(name_of, channels)]
        return msgspec.json.encode({"id": ident, "op": operation, "args": arguments}).decode(), ident

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode_book(payload)
        except msgspec.DecodeError:
            self._uncommon(payload, received_ns)
            return
        symbol = frame.subject.inst_id
        book = self._books.get(symbol)
        if book is None or frame.subject.channel != "books":
            return
        units = self._units.get(symbol)
        for row in frame.data:
            bids, asks = levels_of(row.bids, units), levels_of(row.asks, units)
            if frame.action == SNAPSHOT:
                book.snapshot(row.last, bids, asks, row.time, received_ns)
            else:
                book.delta(0, row.last, row.previous, bids, asks, row.time, received_ns)

    def _uncommon(self, payload: Payload, received_ns: int) -> None:
        """Trades, answers, announcements. Raises for what cannot be understood at all."""
        if payload == _PONG:
            return
        try:
            frame = _decode_trades(payload)
        except msgspec.ValidationError:
            self._noticed(decode_notice(payload))
            return
        symbol = frame.subject.inst_id
        trades = self._trades.get(symbol)
        if trades is None or frame.subject.channel != "trades":
            return
        units = self._units.get(symbol)
        trades.trades([row.trade(trades.market, units, received_ns) for row in frame.data])

    def _noticed(self, notice: Notice) -> None:
        if notice.event in ("subscribe", "unsubscribe") and notice.subject is not None:
            self._answered(notice, (notice.subject.channel, notice.subject.inst_id))
        elif notice.event == "error":
            self._refused(notice)
        elif notice.event == "notice" and notice.code == RESTARTS:
            self.outlet.reconnect("the venue announced that this connection ends", overlap=True)
        elif not notice.event and (notice.subject is None or notice.subject.channel in CHANNELS.values()):
            raise ValueError("a frame has a shape that is not documented")

    def _answered(self, notice: Notice, name: tuple[str, str]) -> None:
        if notice.event == "unsubscribe":
            channel = self._leaving.pop(name, None)
            if channel is not None:
                self.outlet.acknowledged([channel])
            return
        for ident, waiting in list(self._waiting.items()):
            channel = waiting.channels.pop(name, None)
            if channel is not None:
                self.outlet.acknowledged([channel])
                self._settle(ident, waiting)
                return

    def _refused(self, notice: Notice) -> None:
        """An error names no channel: it is the one that its text names, or whichever is left when all others were
        answered."""
        waiting = self._waiting.get(notice.id)
        if waiting is None and len(self._waiting) == 1:
            notice.id, waiting = next(iter(self._waiting.items()))
        if waiting is None:
            logger.warning("%s: the venue refused a frame: %s (code %s)", self.endpoint.name, notice.msg, notice.code)
            return
        named = [
            name
            for name in waiting.channels
            if f"channel:{name[0]}," in notice.msg and f"instId:{name[1]} " in notice.msg
        ]
        if len(named) == 1:
            self._refuse(waiting.channels.pop(named[0]), notice)
        else:
            waiting.errors.append(notice)
        self._settle(notice.id, waiting)

    def _settle(self, ident: str, waiting: _Waiting) -> None:
        if waiting.channels and len(waiting.channels) <= len(waiting.errors):
            for channel, notice in zip(waiting.channels.values(), waiting.errors, strict=False):
                self._refuse(channel, notice)
            waiting.channels.clear()
        if not waiting.channels:
            self._waiting.pop(ident, None)

    def _refuse(self, channel: Channel, notice: Notice) -> None:
        name, symbol = name_of(channel)
        reason = f"the venue refused {name} of {symbol}: {notice.msg} (code {notice.code})"
        self.outlet.refused(channel, reason, final=notice.code not in TOO_MANY)
