"""Books and trades on one connection: subscriptions out, depth and trade frames in.

The hot path is `MarketSession.received`: decode, look the symbol up, hand on. Everything that is no depth or trade
frame fails that decoding and takes the slow path. Frames: binance-spot-api-docs web-socket-streams.md, derivatives
"Diff. Book Depth Streams", "Aggregate Trade Streams", options "Trade Streams".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from astra.models.orderbook import Level
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
from astra_binance.feed.endpoints import product_of
from astra_binance.settings import OPTIONS, SPOT

logger = logging.getLogger(__name__)


class Depth(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="depthUpdate",
    rename={
        "symbol": "s",
        "first": "U",
        "last": "u",
        "previous": "pu",
        "bids": "b",
        "asks": "a",
        "sent": "E",
        "time": "T",
    },
):
    """A change of a book. Quantities are absolute. Spot frames have neither `pu` nor `T`."""

    symbol: str
    first: int
    last: int
    # Tuples of numbers drop out of the garbage collector's sight; lists never do.
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sent: int
    previous: int = 0
    time: int = 0


class SingleTrade(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="trade",
    rename={
        "symbol": "s",
        "id": "t",
        "price": "p",
        "quantity": "q",
        "time": "T",
        "buyer_is_maker": "m",
        "kind": "X",
    },
):
    """One fill (Spot, options). `X` of options: MARKET, or BLOCK for trades made off the book."""

    symbol: str
    id: int
    price: float
    quantity: float
    time: int
    buyer_is_maker: bool
    kind: str = "MARKET"


class AggregatedTrade(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="aggTrade",
    rename={"symbol": "s", "id": "a", "price": "p", "quantity": "q", "time": "T", "buyer_is_maker": "m"},
):
    """The fills of one taker order at one price (futures). Its ids are a space of their own."""

    symbol: str
    id: int
    price: float
    quantity: float
    time: int
    buyer_is_maker: bool
    kind: str = "MARKET"


_decode = msgspec.json.Decoder(Depth | SingleTrade | AggregatedTrade, strict=False).decode
"""Numbers arrive as text and are read straight into floats (`strict=False`); unknown keys are skipped."""
_KNOWN = frozenset({"depthUpdate", "trade", "aggTrade"})


class ErrorText(msgspec.Struct):
    code: int = 0
    msg: str = ""


_NONE = msgspec.Raw()


class Uncommon(msgspec.Struct):
    """Any other frame: answers, errors, announcements, envelopes."""

    id: int | str | None = None
    e: str = ""
    stream: str = ""
    data: msgspec.Raw = _NONE
    code: int | None = None
    msg: str = ""
    error: ErrorText | None = None
    event: msgspec.Raw = _NONE


decode_uncommon = msgspec.json.Decoder(Uncommon).decode
SHUTDOWN = "serverShutdown"
DEPTH_PACE = "@depth@100ms"


class _Subscribing(msgspec.Struct, frozen=True):
    """A frame that waits for its answer."""

    method: str
    channels: tuple[Channel, ...]


class MarketSession(Session):
    """Market streams of one family on one connection."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._product = product_of(endpoint)
        self._books: dict[str, BookInput] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units] = {}
        """Native symbol -> how its contracts become base units."""
        self._users: dict[str, set[Channel]] = {}
        """Stream name -> channels that live on it (options share one for all trades of an underlying)."""
        self._waiting: dict[int, _Subscribing] = {}
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
            self._users.setdefault(self.stream(channel), set()).add(channel)
        return [self._frame("SUBSCRIBE", [self.stream(channel) for channel in channels], channels)]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        ended = []
        for channel in channels:
            (self._books if channel.data_type is DataType.ORDERBOOK else self._trades).pop(channel.native_symbol, None)
            stream = self.stream(channel)
            users = self._users.get(stream, set())
            users.discard(channel)
            if not users:
                self._users.pop(stream, None)
                ended.append(stream)
        return [self._frame("UNSUBSCRIBE", ended, channels)] if ended else ()

    def stream(self, channel: Channel) -> str:
        """The venue's name of the stream that carries a channel (names are lower case, symbols in frames upper)."""
        symbol = channel.native_symbol
        if channel.data_type is DataType.ORDERBOOK:
            return symbol.lower() + DEPTH_PACE
        if self._product == OPTIONS:
            assert channel.market is not None
            return f"{symbol.partition('-')[0]}{channel.market.quote_asset}".lower() + "@optionTrade"
        return symbol.lower() + ("@trade" if self._product == SPOT else "@aggTrade")

    def _frame(self, method: str, streams: Iterable[str], channels: Sequence[Channel]) -> str:
        self._last_id += 1
        self._waiting[self._last_id] = _Subscribing(method, tuple(channels))
        params = list(dict.fromkeys(streams))
        return msgspec.json.encode({"method": method, "params": params, "id": self._last_id}).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode(payload)
        except msgspec.DecodeError:
            self._uncommon(payload, received_ns)
            return
        symbol = frame.symbol
        if type(frame) is Depth:
            book = self._books.get(symbol)
            if book is None:
                return
            bids: Sequence[Level] = frame.bids
            asks: Sequence[Level] = frame.asks
            if self._units and symbol in self._units:
                units = self._units[symbol]
                bids, asks = units.levels(bids), units.levels(asks)
            book.delta(frame.first, frame.last, frame.previous, bids, asks, frame.time or frame.sent, received_ns)
        elif symbol in self._trades:
            self._trade(frame, self._trades[symbol], received_ns)

    def _trade(self, frame: SingleTrade | AggregatedTrade, trades: TradeInput, received_ns: int) -> None:
        price, quantity = frame.price, frame.quantity
        # Prints of nothing, and trades made off the book.
        if not price or not quantity or frame.kind != "MARKET":
            return
        if self._units and frame.symbol in self._units:
            quantity = self._units[frame.symbol].quantity(quantity, price)
        side = Side.SELL if frame.buyer_is_maker else Side.BUY
        trades.trades((Trade(trades.market, price, quantity, side, frame.time, str(frame.id), received_ns),))

    def _uncommon(self, payload: Payload, received_ns: int) -> None:
        """Answers, errors, announcements, envelopes. Raises for what cannot be understood at all."""
        frame = decode_uncommon(payload)
        data = bytes(frame.data)
        if frame.stream and data:
            if data.startswith(b"{"):  # some streams that are not ours send lists
                self.received(data, received_ns)
        elif frame.e == SHUTDOWN or (frame.event and decode_uncommon(frame.event).e == SHUTDOWN):
            self.outlet.reconnect("the venue announced that this connection ends", overlap=True)
        elif frame.e in _KNOWN:
            raise ValueError(f"a {frame.e} frame has another shape than documented")
        elif frame.error is not None or frame.code is not None:
            error = frame.error or ErrorText(frame.code or 0, frame.msg)
            self._refused(frame.id, f"{error.msg} (code {error.code})")
        elif frame.id is not None:
            # "result": null says that the frame was well formed, no more: whether the streams exist shows in frames.
            waiting = self._waiting.pop(frame.id, None) if isinstance(frame.id, int) else None
            if waiting is not None:
                self.outlet.acknowledged(waiting.channels)

    def _refused(self, answered: int | str | None, reason: str) -> None:
        """A frame was refused. Which of its streams is at fault is found out by halving it."""
        if answered is None and len(self._waiting) == 1:
            answered = next(iter(self._waiting))
        waiting = self._waiting.pop(answered, None) if isinstance(answered, int) else None
        if waiting is None:
            logger.warning("%s: the venue refused a frame: %s", self.endpoint.name, reason)
            return
        channels = [c for c in waiting.channels if c in self._users.get(self.stream(c), ())]
        if waiting.method != "SUBSCRIBE" or not channels:
            logger.warning("%s: %s was refused: %s", self.endpoint.name, waiting.method, reason)
        elif len(channels) == 1:
            self.outlet.refused(channels[0], f"the venue refused the stream {self.stream(channels[0])}: {reason}")
        else:
            middle = len(channels) // 2
            for half in (channels[:middle], channels[middle:]):
                self.outlet.send(self._frame("SUBSCRIBE", [self.stream(c) for c in half], half))
