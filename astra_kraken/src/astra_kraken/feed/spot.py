"""Books and trades of Spot (WebSocket v2) on one connection: subscriptions out, frames in.

Book frames hold numbers whose text enters a checksum: they are read as text, never as floats. Documents:
docs.kraken.com websocket-v2 "Book", "Trade", "Heartbeat", "Status".
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from astra.errors import MarketNotFound
from astra.models.trades import Side, Trade
from astra.streams.book import TextBook
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
from astra_kraken.errors import spot_meaning
from astra_kraken.feed.checksum import PairChecks

logger = logging.getLogger(__name__)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS = datetime.timedelta(milliseconds=1)


def milliseconds(time: datetime.datetime) -> int:
    """A time stamp in ms since the epoch, cut off."""
    return (time - _EPOCH) // _MS


class LevelRow(msgspec.Struct, gc=False):
    """Price and quantity as text where the wire has a fraction or exponent, else as whole numbers."""

    price: Any
    qty: Any


class BookRow(msgspec.Struct):
    symbol: str
    bids: tuple[LevelRow, ...]
    asks: tuple[LevelRow, ...]
    checksum: int | None = None
    timestamp: datetime.datetime | None = None


class TradeRow(msgspec.Struct):
    symbol: str
    side: str
    price: float
    qty: float
    trade_id: int
    timestamp: datetime.datetime


class BookFrame(msgspec.Struct, tag_field="channel", tag="book"):
    type: str
    data: tuple[BookRow, ...]


class TradeFrame(msgspec.Struct, tag_field="channel", tag="trade"):
    type: str
    data: tuple[TradeRow, ...]


class Heartbeat(msgspec.Struct, tag_field="channel", tag="heartbeat"):
    """Nothing else happened for a second."""


_decode = msgspec.json.Decoder(BookFrame | TradeFrame | Heartbeat, float_hook=str).decode


class _Result(msgspec.Struct):
    channel: str = ""
    symbol: str | None = None


class Uncommon(msgspec.Struct):
    """Any other frame: answers to requests, errors, what the venue says of itself."""

    channel: str = ""
    method: str = ""
    success: bool | None = None
    error: str | None = None
    symbol: str | None = None
    req_id: int | None = None
    result: _Result | None = None


_decode_uncommon = msgspec.json.Decoder(Uncommon).decode
_KNOWN = frozenset({"book", "trade", "heartbeat"})


def texts(levels: Iterable[LevelRow]) -> list[tuple[str, str]]:
    return [(str(level.price), str(level.qty)) for level in levels]


class _Request(msgspec.Struct, frozen=True):
    """A frame that waits for its answers: one for each channel."""

    method: str
    waiting: dict[str, Channel]


class SpotSession(Session):
    """Market streams of Spot on one connection.

    `checks_of` gives the checksum state of a pair, which outlives the connection.
    """

    asset_class: str | None = None

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        depth: int,
        checks_of: Callable[[Channel], PairChecks],
    ) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._depth = depth
        self._checks_of = checks_of
        self._books: dict[str, tuple[BookInput, PairChecks]] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units] = {}
        self._texts: dict[str, TextBook] = {}
        """Books in the wire's own numbers, where those are not what is delivered (see `unified`)."""
        self._channels: dict[tuple[str, str], Channel] = {}
        self._requests: dict[int, _Request] = {}
        self._last_id = 0

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            symbol = channel.native_symbol
            self._channels[_name(channel), symbol] = channel
            if channel.data_type is DataType.ORDERBOOK:
                self._books[symbol] = (self.outlet.book(channel), self._checks_of(channel))
            else:
                self._trades[symbol] = self.outlet.trades(channel)
        return self._frames("subscribe", channels)

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            symbol = channel.native_symbol
            (self._books if channel.data_type is DataType.ORDERBOOK else self._trades).pop(symbol, None)
            self._channels.pop((_name(channel), symbol), None)
        return self._frames("unsubscribe", channels)

    def _frames(self, method: str, channels: Sequence[Channel]) -> list[Frame]:
        """One frame for the books, one for the trades among the channels."""
        frames: list[Frame] = []
        for name in ("book", "trade"):
            few = [channel for channel in channels if _name(channel) == name]
            if few:
                frames.append(self._frame(method, name, few))
        return frames

    def _frame(self, method: str, name: str, channels: Sequence[Channel]) -> Frame:
        self._last_id += 1
        symbols = [channel.native_symbol for channel in channels]
        params: dict[str, Any] = {"channel": name, "symbol": symbols}
        if self.asset_class is not None:
            params["asset_class"] = self.asset_class
        if name == "book":
            params["depth"] = self._depth  # ends a subscription only where it names the same depth
        if method == "subscribe":
            params["snapshot"] = name == "book"
        self._requests[self._last_id] = _Request(method, dict(zip(symbols, channels, strict=True)))
        frame = {"method": method, "params": params, "req_id": self._last_id}
        return msgspec.json.encode(frame).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode(payload)
        except msgspec.ValidationError:
            self._uncommon(payload)
            return
        if type(frame) is BookFrame:
            for row in frame.data:
                self._book(row, frame.type == "snapshot", received_ns)
        elif type(frame) is TradeFrame:
            self._take_trades(frame.data, received_ns)

    def _book(self, row: BookRow, snapshot: bool, received_ns: int) -> None:
        known = self._books.get(row.symbol)
        if known is None:
            return
        book, checks = known
        time = None if row.timestamp is None else milliseconds(row.timestamp)
        wanted = row.checksum
        check = None if wanted is None else partial(checks.holds, wanted=wanted, snapshot=snapshot)
        if snapshot:
            book.checked_snapshot(0, texts(row.bids), texts(row.asks), time, received_ns, check)
        else:
            book.checked_delta(0, 0, 0, texts(row.bids), texts(row.asks), time, received_ns, check)

    def _take_trades(self, rows: Sequence[TradeRow], received_ns: int) -> None:
        """A message holds trades of one pair, as a rule."""
        by_symbol: dict[str, list[Trade]] = {}
        for row in rows:
            trades = self._trades.get(row.symbol)
            if trades is not None:
                by_symbol.setdefault(row.symbol, []).append(self._trade(row, trades.market, received_ns))
        for symbol, made in by_symbol.items():
            self._trades[symbol].trades(made)

    def _trade(self, row: TradeRow, market: str, received_ns: int) -> Trade:
        side = Side.BUY if row.side == "buy" else Side.SELL
        return Trade(market, row.price, row.qty, side, milliseconds(row.timestamp), str(row.trade_id), received_ns)

    def _uncommon(self, payload: Payload) -> None:
        frame = _decode_uncommon(payload)
        if frame.method in ("subscribe", "unsubscribe"):
            self._answered(frame)
        elif frame.error is not None:
            logger.warning("%s: the venue says: %s", self.endpoint.name, frame.error)
        elif frame.channel in _KNOWN:
            raise ValueError(f"a {frame.channel} frame has another shape than documented")

    def _answered(self, frame: Uncommon) -> None:
        """The answer to one channel of a request, as a rule; a refusal may leave out which."""
        request = self._requests.get(frame.req_id) if frame.req_id is not None else None
        if request is None:
            logger.warning("%s: an answer to no request: %s", self.endpoint.name, frame.error or frame.method)
            return
        assert frame.req_id is not None
        symbol = frame.symbol or (frame.result.symbol if frame.result is not None else None)
        if symbol is None and len(request.waiting) == 1:
            symbol = next(iter(request.waiting))
        if symbol is None:
            self._unnamed(frame, request)
            return
        channel = request.waiting.pop(symbol, None)
        if not request.waiting:
            del self._requests[frame.req_id]
        if channel is not None:
            self._settled(frame, request.method, channel)

    def _settled(self, frame: Uncommon, method: str, channel: Channel) -> None:
        error = frame.error or ""
        if frame.success or "already subscribed" in error.lower():
            self.outlet.acknowledged([channel])
        elif method == "unsubscribe":
            logger.warning("%s: %r could not be unsubscribed: %s", self.endpoint.name, channel, error)
        elif self._channels.get((_name(channel), channel.native_symbol)) is channel:
            self._refused(channel, error)

    def _refused(self, channel: Channel, error: str) -> None:
        meaning = spot_meaning(error)
        reason = f"the venue refused {_name(channel)} of {channel.native_symbol}: {error}"
        if meaning is not None and issubclass(meaning.error, MarketNotFound):
            self.outlet.refused(channel, MarketNotFound(reason, exchange="KRAKEN", code=error))
        else:
            self.outlet.refused(channel, reason)

    def _unnamed(self, frame: Uncommon, request: _Request) -> None:
        """A refusal that does not say which symbol it is about: each that waits is asked for by itself."""
        assert frame.req_id is not None
        del self._requests[frame.req_id]
        logger.info("%s: %s was refused: %s", self.endpoint.name, request.method, frame.error)
        for channel in request.waiting.values():
            if (
                request.method == "unsubscribe"
                or self._channels.get((_name(channel), channel.native_symbol)) is channel
            ):
                self.outlet.send(self._frame(request.method, _name(channel), [channel]))


def _name(channel: Channel) -> str:
    return "book" if channel.data_type is DataType.ORDERBOOK else "trade"
