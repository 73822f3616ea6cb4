"""Books and trades on one connection: subscriptions out, binary gzip frames in (API documentation, "Market By Price",
"Trade Detail"; "Subscribe Incremental Market Depth Data", "Subscribe Trade Detail Data" of derivatives).

The hot path is `MarketSession.received`: unzip, decode, look the topic up, hand on.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from astra.models.orderbook import Level
from astra.models.trades import Trade
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
from astra_htx.history import ContractTrade, SpotTrade

logger = logging.getLogger(__name__)

GZIP = b"\x1f\x8b"
TOO_MANY = "429"
MOST_REQUESTS = 5
"""Snapshot requests that are refused for coming too fast are sent again so often; then the engine asks again."""
_PASSING = (TOO_MANY, "request timeout", "not open", "busy")
"""What is in refusals that are worth another try later."""
SNAPSHOT = "snapshot"


def unzipped(payload: Payload, most: int) -> Payload:
    """A frame's text; frames that are not zipped pass as they are. Raises `ValueError` for more than `most` bytes."""
    if bytes(payload[:2]) != GZIP:
        return payload
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    text = decoder.decompress(payload, most)
    if decoder.unconsumed_tail or not decoder.eof:
        raise ValueError(f"a zipped frame is cut off, or has more than {most} bytes")
    return text


class SpotTick(msgspec.Struct, gc=False, rename={"last": "seqNum", "previous": "prevSeqNum"}):
    """A change of a book (the side that did not change may be missing), or trades, newest first."""

    last: int = 0
    previous: int = 0
    bids: list[Level] = []
    asks: list[Level] = []
    data: list[SpotTrade] = []


class ContractTick(msgspec.Struct, gc=False):
    """A book, or its change (sides may be missing or null), or trades, oldest first."""

    event: str = ""
    version: int = 0
    ts: int = 0
    bids: list[Level] | None = None
    asks: list[Level] | None = None
    data: list[ContractTrade] = []


T = TypeVar("T")


class MarketFrame(msgspec.Struct, Generic[T]):
    """Any frame of a market socket: data, a ping, an answer (`data`: an in-band snapshot), a refusal."""

    ch: str = ""
    ts: int = 0
    tick: T | None = None
    ping: int | None = None
    id: str | int | None = None
    status: str = ""
    subbed: str | None = None
    unsubbed: str | None = None
    rep: str | None = None
    data: SpotTick | None = None
    reason: str = msgspec.field(default="", name="err-msg")


_decode_spot = msgspec.json.Decoder(MarketFrame[SpotTick]).decode
_decode_contract = msgspec.json.Decoder(MarketFrame[ContractTick]).decode


class MarketSession(Session, Generic[T]):
    """What the market sockets of spot and of derivatives have in common. `levels`: how deep books are."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, levels: int) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._levels = levels
        self._books: dict[str, BookInput] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units | None] = {}
        self._channels: dict[str, Channel] = {}
        """Topic -> channel; the three above have topics as keys, too."""
        self._first: dict[str, int | None] = {}
        """Topics of trades whose first frame is still to come -> when the subscription was acknowledged (venue)."""
        self._waiting: dict[str, tuple[str, str]] = {}
        """Id of a frame that was not answered yet -> (what it asks for, topic)."""
        self._last_id = 0

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            topic = self.topic(channel)
            self._channels[topic] = channel
            self._units[topic] = Units.of(channel.market)
            if channel.data_type is DataType.ORDERBOOK:
                self._books[topic] = self.outlet.book(channel)
            else:
                self._trades[topic] = self.outlet.trades(channel)
                self._first[topic] = None
            yield self._frame("sub", topic)

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            topic = self.topic(channel)
            for known in (self._channels, self._books, self._trades, self._first):
                known.pop(topic, None)
            yield self._frame("unsub", topic)

    def topic(self, channel: Channel) -> str:
        """The venue's name of the channel."""
        if channel.data_type is DataType.TRADE:
            return f"market.{channel.native_symbol}.trade.detail"
        return self.book_topic(channel.native_symbol)

    def book_topic(self, native_symbol: str) -> str:
        raise NotImplementedError

    def _frame(self, verb: str, topic: str) -> str:
        self._last_id += 1
        ident = str(self._last_id)
        self._waiting[ident] = (verb, topic)
        body = {verb: topic, "id": ident}
        if topic.endswith(".high_freq"):
            body["data_type"] = "incremental"  # else each frame is a whole book
        return msgspec.json.encode(body).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def _notice(self, frame: MarketFrame[T], received_ns: int) -> None:
        """Whatever is no data."""
        if frame.ping is not None:
            self.outlet.send(f'{{"pong":{frame.ping}}}', urgent=True)
        elif frame.status == "error":
            self._refused(frame)
        elif frame.rep is not None:
            self._waiting.pop(str(frame.id), None)
            self._snapshot(frame.rep, frame, received_ns)
        elif frame.subbed is not None:
            self._waiting.pop(str(frame.id), None)
            if frame.subbed in self._first:
                self._first[frame.subbed] = frame.ts
            channel = self._channels.get(frame.subbed)
            if channel is not None:
                self.outlet.acknowledged([channel])
        elif frame.unsubbed is not None:
            self._waiting.pop(str(frame.id), None)
        elif not frame.ch:
            raise ValueError("a frame has a shape that is not documented")

    def _snapshot(self, topic: str, frame: MarketFrame[T], received_ns: int) -> None:
        """The answer to a snapshot request."""

    def _refused(self, frame: MarketFrame[T]) -> None:
        """A refusal names the frame by its id, or (without one) means the only one that is open."""
        ident = str(frame.id) if frame.id is not None else next(iter(self._waiting), "")
        if frame.id is None and len(self._waiting) != 1:
            ident = ""
        verb, topic = self._waiting.pop(ident, ("", ""))
        channel = self._channels.get(topic)
        if channel is None or verb == "unsub":
            # What is not subscribed need not be ended.
            logger.debug("%s: the venue refused %s %s: %s", self.endpoint.name, verb, topic, frame.reason)
        elif verb == "req" and self._again(topic, frame.reason):
            return
        else:
            passing = any(word in frame.reason for word in _PASSING)
            self.outlet.refused(channel, f"the venue refused {topic}: {frame.reason}", final=not passing)

    def _again(self, topic: str, reason: str) -> bool:
        """Is a refused snapshot request no refusal of the channel?"""
        return False

    def _news(self, topic: str, trades: Sequence[Trade]) -> Sequence[Trade]:
        """Without the past trade that the first frame of a subscription holds: it is no news."""
        since = self._first[topic]
        if since is None:
            return ()
        del self._first[topic]
        return [trade for trade in trades if trade.time >= since]

    def _traded(self, topic: str, rows: Sequence[SpotTrade] | Sequence[ContractTrade], received_ns: int) -> None:
        into = self._trades.get(topic)
        if into is None:
            return
        units, symbol = self._units[topic], into.market
        trades: Sequence[Trade] = [row.trade(symbol, units, received_ns) for row in rows]
        if topic in self._first:
            trades = self._news(topic, trades)
        if trades:
            into.trades(trades)


class SpotSession(MarketSession[SpotTick]):
    """Books on `/feed`, whose snapshots are asked for in band, and trades on `/ws`."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, levels: int) -> None:
        super().__init__(endpoint, outlet, ticket, levels)
        self._repeats: dict[str, int] = {}

    def book_topic(self, native_symbol: str) -> str:
        return f"market.{native_symbol}.mbp.{self._levels}"

    def request_snapshot(self, channel: Channel, now_ms: int) -> Iterable[Frame]:
        topic = self.topic(channel)
        self._repeats[topic] = 0
        return [self._frame("req", topic)]

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = _decode_spot(unzipped(payload, self.endpoint.max_frame_bytes))
        tick = frame.tick
        if tick is None:
            self._notice(frame, received_ns)
        elif tick.data:
            rows = tick.data
            self._traded(frame.ch, sorted(rows, key=_number) if len(rows) > 1 else rows, received_ns)
        else:
            book = self._books.get(frame.ch)
            if book is not None:
                book.delta(0, tick.last, tick.previous, tick.bids, tick.asks, frame.ts, received_ns)

    def _snapshot(self, topic: str, frame: MarketFrame[SpotTick], received_ns: int) -> None:
        book, levels = self._books.get(topic), frame.data
        if book is not None and levels is not None:
            book.snapshot(levels.last, levels.bids, levels.asks, frame.ts, received_ns)

    def _again(self, topic: str, reason: str) -> bool:
        """Too many requests: once more, some times; it waits for its turn. What passes is left to the engine."""
        if TOO_MANY in reason and self._repeats.get(topic, 0) < MOST_REQUESTS:
            self._repeats[topic] = self._repeats.get(topic, 0) + 1
            self.outlet.send(self._frame("req", topic))
            return True
        return any(word in reason for word in _PASSING)


class ContractSession(MarketSession[ContractTick]):
    """Books and trades of one family of derivatives."""

    def book_topic(self, native_symbol: str) -> str:
        return f"market.{native_symbol}.depth.size_{self._levels}.high_freq"

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = _decode_contract(unzipped(payload, self.endpoint.max_frame_bytes))
        tick = frame.tick
        if tick is None:
            self._notice(frame, received_ns)
            return
        topic = frame.ch
        if tick.data:
            self._traded(topic, tick.data, received_ns)
            return
        book = self._books.get(topic)
        if book is None:
            return
        bids, asks, units = tick.bids or [], tick.asks or [], self._units[topic]
        if units is not None:
            bids, asks = units.levels(bids), units.levels(asks)
        if tick.event == SNAPSHOT:
            book.snapshot(tick.version, bids, asks, tick.ts, received_ns)
        else:
            book.delta(tick.version, tick.version, 0, bids, asks, tick.ts, received_ns)


def _number(row: SpotTrade) -> int:
    return row.number
