"""Books and trades of derivatives (WebSocket v1) on one connection: subscriptions out, frames in.

The hot path is `received`: decode, look the product up, hand on. Documents: docs.kraken.com futures-api/websocket
"Book", "Trade", "Subscriptions".
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from astra.errors import MarketNotFound
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

logger = logging.getLogger(__name__)


class DeltaFrame(
    msgspec.Struct, gc=False, tag_field="feed", tag="book", rename={"product": "product_id", "quantity": "qty"}
):
    """A change of one level. Quantities are absolute, `seq` counts the frames of the product."""

    product: str
    side: str
    seq: int
    price: float
    quantity: float
    timestamp: int | None = None


class LevelRow(msgspec.Struct, gc=False):
    price: float
    qty: float


class SnapshotFrame(msgspec.Struct, tag_field="feed", tag="book_snapshot", rename={"product": "product_id"}):
    """The whole book."""

    product: str
    seq: int
    bids: tuple[LevelRow, ...]
    asks: tuple[LevelRow, ...]
    timestamp: int | None = None


class TradeFrame(
    msgspec.Struct, gc=False, tag_field="feed", tag="trade", rename={"product": "product_id", "quantity": "qty"}
):
    """One fill. `type`: fill, liquidation, assignment, termination, block; the last is made off the book."""

    product: str
    uid: str
    side: str
    type: str
    seq: int
    time: int
    quantity: float
    price: float


class TradeSnapshotFrame(msgspec.Struct, tag_field="feed", tag="trade_snapshot", rename={"product": "product_id"}):
    """The last hundred trades, newest first: they happened before the subscription."""

    product: str


_decode = msgspec.json.Decoder(DeltaFrame | SnapshotFrame | TradeFrame | TradeSnapshotFrame).decode
_KNOWN = frozenset({"book", "book_snapshot", "trade", "trade_snapshot"})
OFF_BOOK = frozenset({"block"})


class Uncommon(msgspec.Struct):
    """Any other frame: answers, errors, what the venue says of itself."""

    event: str = ""
    feed: str = ""
    product_ids: list[str] = []
    message: str = ""


_decode_uncommon = msgspec.json.Decoder(Uncommon).decode


class _Request(msgspec.Struct, frozen=True):
    """A frame that waits for its answers: one for each product, by upper-case name."""

    method: str
    feed: str
    waiting: dict[str, Channel]


class DerivativesSession(Session):
    """Market streams of derivatives on one connection."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._books: dict[str, BookInput] = {}
        self._trades: dict[str, TradeInput] = {}
        self._units: dict[str, Units] = {}
        self._wanted: set[Channel] = set()
        self._requests: deque[_Request] = deque()

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self._wanted.update(channels)
        for channel in channels:
            units = Units.of(channel.market)
            for name in {channel.native_symbol, channel.native_symbol.upper()}:
                if channel.data_type is DataType.ORDERBOOK:
                    self._books[name] = self.outlet.book(channel)
                else:
                    self._trades[name] = self.outlet.trades(channel)
                if units is not None:
                    self._units[name] = units
        return self._frames("subscribe", channels)

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self._wanted.difference_update(channels)
        for channel in channels:
            inputs = self._books if channel.data_type is DataType.ORDERBOOK else self._trades
            for name in {channel.native_symbol, channel.native_symbol.upper()}:
                inputs.pop(name, None)
        return self._frames("unsubscribe", channels)

    def _frames(self, method: str, channels: Sequence[Channel]) -> list[Frame]:
        frames: list[Frame] = []
        for feed in ("book", "trade"):
            few = [channel for channel in channels if _feed(channel) == feed]
            if few:
                frames.append(self._frame(method, feed, few))
        return frames

    def _frame(self, method: str, feed: str, channels: Sequence[Channel]) -> Frame:
        self._requests.append(_Request(method, feed, {one.native_symbol.upper(): one for one in channels}))
        frame = {"event": method, "feed": feed, "product_ids": [channel.native_symbol for channel in channels]}
        return msgspec.json.encode(frame).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode(payload)
        except msgspec.ValidationError:
            self._uncommon(payload)
            return
        product = frame.product
        if type(frame) is DeltaFrame:
            book = self._books.get(product)
            if book is None:
                return
            quantity = frame.quantity
            if self._units and product in self._units:
                quantity = self._units[product].quantity(quantity, frame.price)
            level: tuple[Level] = ((frame.price, quantity),)
            bids, asks = (level, ()) if frame.side == "buy" else ((), level)
            book.delta(frame.seq, frame.seq, frame.seq - 1, bids, asks, frame.timestamp, received_ns)
        elif type(frame) is TradeFrame:
            trades = self._trades.get(product)
            if trades is not None:
                self._trade(frame, trades, received_ns)
        elif type(frame) is SnapshotFrame:
            self._snapshot(frame, received_ns)

    def _snapshot(self, frame: SnapshotFrame, received_ns: int) -> None:
        book = self._books.get(frame.product)
        if book is None:
            return
        units = self._units.get(frame.product)
        bids, asks = [[(level.price, level.qty) for level in side if level.qty] for side in (frame.bids, frame.asks)]
        if units is not None:
            bids, asks = units.levels(bids), units.levels(asks)
        book.snapshot(frame.seq, bids, asks, frame.timestamp, received_ns)

    def _trade(self, frame: TradeFrame, trades: TradeInput, received_ns: int) -> None:
        if not frame.price or not frame.quantity or frame.type in OFF_BOOK:
            return
        units = self._units.get(frame.product)
        quantity = frame.quantity if units is None else units.quantity(frame.quantity, frame.price)
        side = Side.BUY if frame.side == "buy" else Side.SELL
        trades.trades((Trade(trades.market, frame.price, quantity, side, frame.time, frame.uid, received_ns),))

    def _uncommon(self, payload: Payload) -> None:
        frame = _decode_uncommon(payload)
        if frame.event in ("subscribed", "unsubscribed"):
            self._answered(frame)
        elif frame.event in ("error", "subscribed_failed", "unsubscribed_failed"):
            self._failed(frame)
        elif frame.event == "alert":
            if "already subscribed" in frame.message.lower() and self._requests:
                self._finish(self._requests[0])
            else:
                logger.warning("%s: the venue says: %s", self.endpoint.name, frame.message)
        elif not frame.event and frame.feed in _KNOWN:
            raise ValueError(f"a {frame.feed} frame has another shape than documented")

    def _answered(self, frame: Uncommon) -> None:
        method = frame.event.removesuffix("d")
        for name in frame.product_ids:
            product = name.upper()
            for request in self._requests:
                if request.method == method and request.feed == frame.feed and product in request.waiting:
                    self._done(request, product)
                    break

    def _done(self, request: _Request, product: str) -> None:
        channel = request.waiting.pop(product)
        if not request.waiting:
            self._requests.remove(request)
        self.outlet.acknowledged([channel])

    def _finish(self, request: _Request) -> None:
        for product in list(request.waiting):
            self._done(request, product)

    def _failed(self, frame: Uncommon) -> None:
        """Refusals do not say what they refuse. Requests are answered in turn: it is the oldest that is not answered
        in full; where that names several products, each is asked for by itself."""
        named = [product.upper() for product in frame.product_ids]
        request = next(
            (one for one in self._requests if not named or (one.feed == frame.feed and named[0] in one.waiting)), None
        )
        if request is None:
            logger.warning("%s: the venue says: %s", self.endpoint.name, frame.message or frame.event)
            return
        channels = [request.waiting.pop(name) for name in (named or list(request.waiting)) if name in request.waiting]
        if not request.waiting:
            self._requests.remove(request)
        if request.method == "unsubscribe":
            logger.warning("%s: %r could not be unsubscribed: %s", self.endpoint.name, channels, frame.message)
            return
        still = [channel for channel in channels if channel in self._wanted]
        if len(still) == 1 and (len(channels) == 1 or named):
            self._refuse(still[0], frame.message or frame.event)
            return
        for channel in still:
            self.outlet.send(self._frame("subscribe", request.feed, [channel]))

    def _refuse(self, channel: Channel, message: str) -> None:
        reason = f"the venue refused {_feed(channel)} of {channel.native_symbol}: {message}"
        if "product" in message.lower():
            self.outlet.refused(channel, MarketNotFound(reason, exchange="KRAKEN", code=message))
        else:
            self.outlet.refused(channel, reason)


def _feed(channel: Channel) -> str:
    return "book" if channel.data_type is DataType.ORDERBOOK else "trade"
