"""Books and trades of Advanced Trade on one connection: subscriptions out, `l2_data` and `market_trades` frames in.

The frames of a connection are numbered together, whatever they are about:

1. The first has `sequence_num` 0, each following one 1 more. Error frames have none.
2. A frame with the number of the one before it is that frame again.
3. Any other number shows that a frame is missing: it may have been about any book or trade of the connection. A new
   connection is made, on which all books begin with new snapshots, and trades with what was missed.

Source: docs.cdp.coinbase.com, Advanced Trade "WebSocket Channels"; recordings (the numbers count all products).
"""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from astra.errors import MarketNotFound, VenueError
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
from astra_coinbase.history import AdvancedTrade
from astra_coinbase.markets import epoch_ms

logger = logging.getLogger(__name__)

CHANNELS: Mapping[DataType, str] = {DataType.ORDERBOOK: "level2", DataType.TRADE: "market_trades"}
HEARTBEATS = "heartbeats"
"""One a second: a connection on which nothing happens is closed."""
SNAPSHOT = "snapshot"


class Level(msgspec.Struct, gc=False):
    """A level of a book: `side` bid or offer, the new quantity (0: gone)."""

    side: str
    price_level: float
    new_quantity: float


class Event(msgspec.Struct):
    """A part of a frame: one product's levels, trades, or the subscriptions of the connection."""

    type: str = ""
    product_id: str = ""
    updates: tuple[Level, ...] = ()
    trades: tuple[AdvancedTrade, ...] = ()
    subscriptions: dict[str, list[str]] | None = None


class MarketFrame(msgspec.Struct):
    """Any frame of a market connection."""

    channel: str = ""
    sequence_num: int = -1
    timestamp: datetime.datetime | None = None
    events: tuple[Event, ...] = ()
    type: str = ""
    message: str = ""


_decode = msgspec.json.Decoder(MarketFrame, strict=False).decode


class Numbering:
    """The frames of one connection, by their numbers."""

    def __init__(self) -> None:
        self.last = -1

    def is_next(self, number: int, outlet: Outlet) -> bool:
        """Is the frame to be read? One that is out of order ends the connection."""
        if number == self.last + 1:
            self.last = number
            return True
        if number != self.last:
            outlet.reconnect(f"gap: frame {number} of the connection came after frame {self.last}")
        return False


def asked(kind: str, channel: str, products: Sequence[str] = (), token: str | None = None) -> str:
    """A frame that subscribes or unsubscribes."""
    message: dict[str, object] = {"type": kind, "channel": channel}
    if products:
        message["product_ids"] = products
    if token is not None:
        message["jwt"] = token
    return msgspec.json.encode(message).decode()


class _Asked(msgspec.Struct):
    """A frame that waits for its answer; answers come in the order of the frames."""

    name: str
    channels: tuple[Channel, ...] = ()
    again: bool = False
    """Was the channel asked for before, without success?"""


class AdvancedSession(Session):
    """Market streams of spot and US futures on one connection. `aliases`: products that share another one's book, whose
    frames carry its name."""

    def __init__(
        self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, aliases: Mapping[str, str] = {}
    ) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._aliases = aliases
        self._numbering = Numbering()
        self._books: dict[str, BookInput] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units] = {}
        self._waiting: deque[_Asked] = deque()

    # -- out ----------------------------------------------------------------------------------------------------

    def opened(self, now_ms: int) -> Iterable[Frame]:
        self._waiting.append(_Asked(HEARTBEATS))
        return [asked("subscribe", HEARTBEATS)]

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            symbol = self._name(channel)
            if channel.data_type is DataType.ORDERBOOK:
                self._books[symbol] = self.outlet.book(channel)
            else:
                self._trades[symbol] = self.outlet.trades(channel)
            units = Units.of(channel.market)
            if units is not None:
                self._units[symbol] = units
        return [self._subscription(name, some) for name, some in _by_name(channels)]

    def _subscription(self, name: str, channels: Sequence[Channel], *, again: bool = False) -> str:
        self._waiting.append(_Asked(name, tuple(channels), again))
        return asked("subscribe", name, [self._name(channel) for channel in channels])

    def _name(self, channel: Channel) -> str:
        """What frames call the channel's product."""
        return self._aliases.get(channel.native_symbol, channel.native_symbol)

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        frames = []
        for name, some in _by_name(channels):
            symbols = [self._name(channel) for channel in some]
            for symbol in symbols:
                (self._books if name == CHANNELS[DataType.ORDERBOOK] else self._trades).pop(symbol, None)
            self._waiting.append(_Asked(name))
            frames.append(asked("unsubscribe", name, symbols))
        return frames

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = _decode(payload)
        if frame.type == "error":
            self._failed(frame.message)
            return
        if not self._numbering.is_next(frame.sequence_num, self.outlet):
            return
        if frame.channel == "l2_data":
            time = None if frame.timestamp is None else epoch_ms(frame.timestamp)
            for event in frame.events:
                self._book(event, time, received_ns)
        elif frame.channel == "market_trades":
            for event in frame.events:
                if event.type != SNAPSHOT:  # the last trades before the subscription
                    self._traded(event.trades, received_ns)
        elif frame.channel == "subscriptions":
            self._answered(frame.events)

    def _book(self, event: Event, time: int | None, received_ns: int) -> None:
        book = self._books.get(event.product_id)
        if book is None:
            return
        bids = [(level.price_level, level.new_quantity) for level in event.updates if level.side == "bid"]
        asks = [(level.price_level, level.new_quantity) for level in event.updates if level.side == "offer"]
        units = self._units.get(event.product_id)
        if units is not None:
            bids, asks = units.levels(bids), units.levels(asks)
        if event.type == SNAPSHOT:
            book.snapshot(0, bids, asks, time, received_ns)
        else:
            book.delta(0, 0, 0, bids, asks, time, received_ns)

    def _traded(self, rows: Sequence[AdvancedTrade], received_ns: int) -> None:
        """Trades of one or several products; they come newest first."""
        by_product: dict[str, list[AdvancedTrade]] = {}
        for row in reversed(rows):
            by_product.setdefault(row.product_id, []).append(row)
        for product_id, some in by_product.items():
            trades = self._trades.get(product_id)
            if trades is not None:
                units = self._units.get(product_id)
                trades.trades([row.trade(trades.market, units, received_ns) for row in some])

    def _answered(self, events: Iterable[Event]) -> None:
        """An acknowledgement lists all that the connection is subscribed to. A product that is missing is asked for
        alone; when it is missing again it does not exist."""
        listed = next((event.subscriptions for event in events if event.subscriptions is not None), {})
        if not self._waiting:
            return
        answered = self._waiting.popleft()
        names = set(listed.get(answered.name, ()))
        self.outlet.acknowledged([channel for channel in answered.channels if self._name(channel) in names])
        for channel in answered.channels:
            if self._name(channel) in names:
                continue
            if not answered.again:
                self.outlet.send(self._subscription(answered.name, [channel], again=True))
                continue
            reason = f"the venue does not list {channel.native_symbol} among the subscriptions to {answered.name}"
            self.outlet.refused(channel, MarketNotFound(reason, exchange="COINBASE"))

    def _failed(self, message: str) -> None:
        """An error names nothing: it answers the oldest frame without an answer. Of several products each is asked for
        alone, so that one that is refused does not take the others with it."""
        if not self._waiting:
            logger.warning("%s: the venue reports an error: %s", self.endpoint.name, message)
            return
        failed = self._waiting.popleft()
        if not failed.channels:
            self.outlet.reconnect(f"the venue refused {failed.name}: {message}")
        elif len(failed.channels) == 1:
            channel = failed.channels[0]
            error = VenueError(f"{failed.name} of {channel.native_symbol} was refused: {message}", exchange="COINBASE")
            self.outlet.refused(channel, error)
        else:
            for channel in failed.channels:
                self.outlet.send(self._subscription(failed.name, [channel], again=True))


def _by_name(channels: Sequence[Channel]) -> list[tuple[str, list[Channel]]]:
    """The venue's channel -> those of the channels that are part of it: a frame is about one."""
    found: dict[str, list[Channel]] = {}
    for channel in channels:
        found.setdefault(CHANNELS[channel.data_type], []).append(channel)
    return list(found.items())
