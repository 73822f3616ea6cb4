"""From one stream to any number of clients: each message is encoded once, and nobody waits for a slow client.

A *broadcast* consumes one market's books or trades and offers each encoded message to its *subscriptions*. Offering
costs a client no more than an entry in its bounded queue; a client's own task sends what is in it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

import anyio.lowlevel
import msgspec

from astra.errors import AstraError, StreamClosed
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.trades import Gap, Lagged, Trade, TradeEvent
from astra.streams.feed import DataType
from astra_ws.messages import book_text, gap_text, lagged_text, state_text, trades_text

if TYPE_CHECKING:
    from astra import Astra
    from astra.streams.hub import LiveBook
    from astra.streams.stream import MarketStream

logger = logging.getLogger("astra.ws")

BURST = 64
"""Messages of one subscription that are sent in a row before the client's others get their turn."""


class Kind(IntEnum):
    """What a message is to a subscription."""

    UPDATE = 0
    SNAPSHOT = 1
    TRADES = 2
    NOTICE = 3
    """State, gap, lag: only for those who asked for them."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One encoded message, shared by all clients. `event` is what an ASGI server's `send` takes."""

    event: dict[str, str]
    kind: Kind
    update_id: int = 0
    trades: int = 0


def message(text: str, kind: Kind, update_id: int = 0, trades: int = 0) -> Message:
    """A message to send."""
    return Message({"type": "websocket.send", "text": text}, kind, update_id, trades)


class Client(Protocol):
    """Whose subscriptions these are."""

    def wake_for(self, subscription: Subscription) -> None:
        """The subscription has something to send."""
        ...

    def ended(self, subscription: Subscription, error: Exception) -> None:
        """The broadcast is over; nothing more will come."""
        ...


class Counts(msgspec.Struct):
    """What the WebSocket front-end counts."""

    messages: int = 0
    conflated: int = 0
    """Book messages that a SNAPSHOT replaced because the client was slow."""
    lagged: int = 0
    """Trades dropped because the client was slow."""


class Subscription:
    """A client's part in a broadcast: what waits to be sent to it, at most `most` messages."""

    __slots__ = ("_counts", "_most", "_over", "_pending", "broadcast", "client", "queued", "wants_notices")

    def __init__(self, client: Client, broadcast: Broadcast, counts: Counts, *, most: int, notices: bool) -> None:
        self.client = client
        self.broadcast = broadcast
        self.wants_notices = notices
        self.queued = False
        """Does the client know already that there is something to send?"""
        self._counts = counts
        self._most = most
        self._pending: deque[Message] = deque()
        self._over = False

    def offer(self, message: Message) -> None:
        """A new message of the broadcast."""
        raise NotImplementedError

    def events(self) -> Iterator[dict[str, str]]:
        """What to send now. New messages may be offered while an event is being sent."""
        raise NotImplementedError

    def leave(self) -> None:
        """Nothing more is to be sent."""
        self._pending.clear()
        self._over = True

    def _wake(self) -> None:
        if not self.queued:
            self.queued = True
            self.client.wake_for(self)


class BookSubscription(Subscription):
    """A slow client's backlog is replaced by one SNAPSHOT of the live book; a late one starts with one, too."""

    __slots__ = ("_behind", "_skip_to")

    def __init__(self, client: Client, broadcast: Broadcast, counts: Counts, *, most: int, notices: bool) -> None:
        super().__init__(client, broadcast, counts, most=most, notices=notices)
        self._behind = True
        """A SNAPSHOT is due; updates are of no use before it."""
        self._skip_to = 0
        """Updates up to this id are in the SNAPSHOT that was sent."""
        self._wake()

    def offer(self, message: Message) -> None:
        if message.kind is Kind.UPDATE:
            if self._behind or message.update_id <= self._skip_to:
                return
        elif message.kind is Kind.SNAPSHOT:
            self._behind = False
            self._skip_to = 0
        elif not self.wants_notices:
            return
        if len(self._pending) >= self._most:
            self._counts.conflated += len(self._pending)
            self._pending.clear()
            self._behind = True
        else:
            self._pending.append(message)
        if not self.queued:
            self._wake()

    def events(self) -> Iterator[dict[str, str]]:
        pending = self._pending
        for _ in range(BURST):
            if not pending:
                break
            yield pending.popleft().event
        if pending:
            self._wake()
        elif self._behind and not self._over:
            yield from self._caught_up()

    def _caught_up(self) -> Iterator[dict[str, str]]:
        snapshot = self.broadcast.snapshot()
        if snapshot is None:
            # The stream brings a SNAPSHOT as soon as there is one.
            if self.wants_notices:
                yield self.broadcast.state_notice().event
            return
        self._behind = False
        self._skip_to = snapshot.update_id
        if self.wants_notices:
            # Made before the first event is sent: what is offered meanwhile comes after both.
            yield from (self.broadcast.live_notice().event, snapshot.event)
        else:
            yield snapshot.event


class TradeSubscription(Subscription):
    """A slow client loses the newest trades until there is room again, and is told how many where it asked."""

    __slots__ = ("_missed",)

    def __init__(self, client: Client, broadcast: Broadcast, counts: Counts, *, most: int, notices: bool) -> None:
        super().__init__(client, broadcast, counts, most=most, notices=notices)
        self._missed = 0

    def offer(self, message: Message) -> None:
        if message.kind is Kind.NOTICE and not self.wants_notices:
            return
        if len(self._pending) >= self._most:
            self._missed += message.trades
            self._counts.lagged += message.trades
            return
        if self._missed:
            self._note_missed()
        self._pending.append(message)
        if not self.queued:
            self._wake()

    def events(self) -> Iterator[dict[str, str]]:
        pending = self._pending
        for _ in range(BURST):
            if not pending and self._missed:
                self._note_missed()
            if not pending:
                return
            yield pending.popleft().event
        if pending or self._missed:
            self._wake()

    def _note_missed(self) -> None:
        missed, self._missed = self._missed, 0
        if self.wants_notices:
            self._pending.append(message(lagged_text(self.broadcast.symbol, missed), Kind.NOTICE))


class Broadcast:
    """One market's books or trades, for all its subscriptions. Lives as long as it has any."""

    PAUSE_EVERY = 32

    def __init__(self, astra: Astra, symbol: str, ended: Callable[[Broadcast], None]) -> None:
        self.symbol = symbol
        self.subscriptions: dict[Subscription, None] = {}
        self._astra = astra
        self._ended = ended
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Consume the stream until the last subscription leaves or the stream ends."""
        try:
            with self._scope:
                async with self._stream() as stream:
                    await self._consume(stream)
                raise StreamClosed(f"the stream of {self.symbol} has ended")
        except AstraError as error:
            self._fail(error)
        except Exception as error:
            logger.exception("the broadcast of %s failed", self.symbol)
            self._fail(error)

    def leave(self, subscription: Subscription) -> None:
        """Take a subscription off; the broadcast ends with its last one."""
        self.subscriptions.pop(subscription, None)
        subscription.leave()
        if not self.subscriptions:
            self._ended(self)
            self._scope.cancel()

    def snapshot(self) -> Message | None:
        """The live book as a message, if it can be trusted now."""
        return None

    def state_notice(self) -> Message:
        """How the book stands."""
        raise NotImplementedError

    def live_notice(self) -> Message:
        """That the book is in order from here on."""
        raise NotImplementedError

    def _stream(self) -> MarketStream[Any]:
        raise NotImplementedError

    async def _consume(self, stream: MarketStream[Any]) -> None:
        offered = 0
        async for batch in stream.batches():
            for message in self._messages(batch):
                for subscription in self.subscriptions:
                    subscription.offer(message)
                offered += 1
                if offered % self.PAUSE_EVERY == 0:
                    # A burst must not fill the queues of clients that are not slow: let them be sent to meanwhile.
                    await anyio.lowlevel.checkpoint()

    def _messages(self, batch: Sequence[Any]) -> Iterator[Message]:
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        self._ended(self)
        subscriptions, self.subscriptions = self.subscriptions, {}
        for subscription in subscriptions:
            subscription.client.ended(subscription, error)


class BookBroadcast(Broadcast):
    """A market's book."""

    def __init__(self, astra: Astra, symbol: str, ended: Callable[[Broadcast], None]) -> None:
        super().__init__(astra, symbol, ended)
        self._live: MarketStream[Any] | None = None
        self._state = BookState.SYNCING
        self._snapshot: tuple[tuple[int, int], Message] | None = None
        self._live_notice = message(state_text(symbol, BookState.LIVE, None), Kind.NOTICE)

    def _stream(self) -> MarketStream[OrderbookUpdate]:
        return self._astra.stream_orderbook(self.symbol)

    async def _consume(self, stream: MarketStream[OrderbookUpdate]) -> None:
        self._live = stream
        await super()._consume(stream)

    def snapshot(self) -> Message | None:
        book = self._book()
        if book is None or book.state is not BookState.LIVE:
            return None
        version = (book.update_id, book.received)
        if self._snapshot is None or self._snapshot[0] != version:
            text = book_text(self.symbol, book.update_id, book.bids(), book.asks(), UpdateKind.SNAPSHOT)
            self._snapshot = (version, message(text, Kind.SNAPSHOT, book.update_id))
        return self._snapshot[1]

    def state_notice(self) -> Message:
        book = self._book()
        text = state_text(self.symbol, BookState.SYNCING, None)
        if book is not None:
            text = state_text(self.symbol, book.state, book.reason)
        return message(text, Kind.NOTICE)

    def _book(self) -> LiveBook | None:
        """The live book, while the stream has it."""
        if self._live is None or self.symbol not in self._live.symbols:
            return None
        return self._live.book(self.symbol)

    def live_notice(self) -> Message:
        return self._live_notice

    def _messages(self, batch: Sequence[OrderbookUpdate]) -> Iterator[Message]:
        for update in batch:
            kind = update.kind
            if kind is UpdateKind.UPDATE:
                text = book_text(self.symbol, update.update_id, update.bids, update.asks, kind)
                yield message(text, Kind.UPDATE, update.update_id)
            elif kind is UpdateKind.SNAPSHOT:
                if self._state is not BookState.LIVE:
                    self._state = BookState.LIVE
                    yield self._live_notice
                text = book_text(self.symbol, update.update_id, update.bids, update.asks, kind)
                yield message(text, Kind.SNAPSHOT, update.update_id)
            else:
                self._state = BookState.STALE
                yield message(state_text(self.symbol, BookState.STALE, update.reason), Kind.NOTICE)


class TradeBroadcast(Broadcast):
    """A market's trades: those that came together go out together."""

    def _stream(self) -> MarketStream[TradeEvent]:
        return self._astra.stream_trades(self.symbol)

    def _messages(self, batch: Sequence[TradeEvent]) -> Iterator[Message]:
        trades: list[Trade] = []
        for event in batch:
            if isinstance(event, Trade):
                trades.append(event)
                continue
            if trades:
                yield self._trades(trades)
                trades = []
            if isinstance(event, Gap):
                yield message(gap_text(event), Kind.NOTICE)
            elif isinstance(event, Lagged):
                yield message(lagged_text(self.symbol, event.missed), Kind.NOTICE)
        if trades:
            yield self._trades(trades)

    def _trades(self, trades: Sequence[Trade]) -> Message:
        return message(trades_text(self.symbol, trades), Kind.TRADES, trades=len(trades))


class Broadcasts:
    """The running broadcasts of one gateway, one for each market and data type that somebody wants."""

    def __init__(self, astra: Astra, *, most: int) -> None:
        self.counts = Counts()
        self._astra = astra
        self._most = most
        self._running: dict[tuple[DataType, str], Broadcast] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def subscriptions(self) -> int:
        return sum(len(broadcast.subscriptions) for broadcast in self._running.values())

    def join(self, client: Client, symbol: str, data_type: DataType, *, notices: bool) -> Subscription:
        """A client's subscription to a market's books or trades; the first one starts the broadcast."""
        key = (data_type, symbol)
        broadcast = self._running.get(key)
        if broadcast is None:
            kind = BookBroadcast if data_type is DataType.ORDERBOOK else TradeBroadcast
            broadcast = kind(self._astra, symbol, lambda ended: self._forget(key, ended))
            self._astra.start_soon(broadcast.run, name=f"broadcast {data_type.value} {symbol}")
            self._running[key] = broadcast
        kind_of = BookSubscription if data_type is DataType.ORDERBOOK else TradeSubscription
        subscription = kind_of(client, broadcast, self.counts, most=self._most, notices=notices)
        broadcast.subscriptions[subscription] = None
        return subscription

    def _forget(self, key: tuple[DataType, str], ended: Broadcast) -> None:
        if self._running.get(key) is ended:
            del self._running[key]
