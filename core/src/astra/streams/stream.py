"""What a consumer holds: one stream over any number of markets, of any number of venues, through one bounded queue."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import msgspec

from astra.errors import AstraError, BadRequest, StreamClosed, hint
from astra.models.accounts import AccountStatus
from astra.models.markets import Market
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.trades import Lagged
from astra.streams.feed import Channel, DataType
from astra.streams.hub import AccountTopic, AnyTopic, BookTopic, Hub, LiveBook, TradeTopic

T = TypeVar("T")

DEFAULT_QUEUE = 4096
_UPDATE = UpdateKind.UPDATE  # a lookup less for every update


class SlowPolicy(StrEnum):
    """What happens to a trade consumer whose queue is full. (A slow book consumer is always conflated.)"""

    MARK = "MARK"
    """Items are dropped until there is room; a `Lagged` item says how many."""
    RAISE = "RAISE"
    """The stream ends with `StreamClosed`."""


class StreamStats(msgspec.Struct):
    """Counters of one consumer."""

    delivered: int = 0
    """Items handed to the consumer."""
    conflated: int = 0
    """Book updates replaced by a later SNAPSHOT because the consumer was slow."""
    lagged: int = 0
    """Trades dropped because the consumer was slow."""
    queued: int = 0
    """Items waiting now."""


class _Wanted(msgspec.Struct, frozen=True, eq=False):
    hub: Hub
    data_type: DataType
    what: Market | Channel


class _Tap:
    """The stream's end of one topic."""

    __slots__ = ("_stream", "hub", "symbol", "topic")

    def __init__(self, stream: MarketStream[Any], hub: Hub, symbol: str) -> None:
        self._stream = stream
        self.hub = hub
        self.symbol = symbol
        self.topic: AnyTopic | None = None

    def put(self, item: Any) -> None:
        self._stream._put(item)

    def ended(self, error: Exception) -> None:
        self._stream._tap_ended(self, error)

    def attached(self) -> None:
        """The topic is known."""

    def detach(self) -> None:
        if self.topic is not None:
            self.hub.detach(self.topic, self)


class _TradeTap(_Tap):
    """A trade consumer's end."""

    __slots__ = ("_alias",)

    def __init__(self, stream: MarketStream[Any], hub: Hub, symbol: str) -> None:
        super().__init__(stream, hub, symbol)
        self._alias = False

    def attached(self) -> None:
        self._alias = isinstance(self.topic, TradeTopic) and self.topic.symbol != self.symbol

    def put(self, item: Any) -> None:
        self._stream._put(msgspec.structs.replace(item, market=self.symbol) if self._alias else item)


class _BookTap(_Tap):
    """A book consumer's end. `behind`: a SNAPSHOT of the live book is due instead of the updates it missed."""

    __slots__ = ("_alias", "behind", "snapshots")

    def __init__(self, stream: MarketStream[Any], hub: Hub, symbol: str) -> None:
        super().__init__(stream, hub, symbol)
        self.behind = False
        self.snapshots = 0
        """SNAPSHOTs handed to the consumer, or waiting for it: without one it is told nothing else."""
        self._alias = False

    def attached(self) -> None:
        assert isinstance(self.topic, BookTopic)
        self._alias = self.topic.symbol != self.symbol
        if self.topic.sync.state is BookState.LIVE:
            self.behind = True
            self._stream._behind[self] = None
            self._stream._wake()

    def put(self, update: OrderbookUpdate) -> None:
        stream = self._stream
        if self.behind:
            stream._conflated += 1
            return
        if self._alias:
            update = self._renamed(update)
        queue = stream._queue
        if len(queue) >= stream._max_queue:
            stream._conflate(self)
            return
        if update.kind is not _UPDATE:
            if update.kind is UpdateKind.SNAPSHOT:
                self.snapshots += 1
            elif not self.snapshots:
                return
        queue.append(update)
        if stream._event is not None:
            stream._wake()

    def _renamed(self, update: OrderbookUpdate) -> OrderbookUpdate:
        return OrderbookUpdate(
            self.symbol,
            update.update_id,
            update.bids,
            update.asks,
            update.kind,
            update.time,
            update.received,
            update.reason,
        )

    def catch_up(self) -> OrderbookUpdate | None:
        """The one update that stands for all that was missed."""
        assert isinstance(self.topic, BookTopic)
        self.behind = False
        sync = self.topic.sync
        if sync.state is BookState.LIVE:
            self.snapshots += 1
            return OrderbookUpdate(
                self.symbol,
                sync.published_id,
                sync.book.bids(),
                sync.book.asks(),
                UpdateKind.SNAPSHOT,
                sync.time,
                sync.received,
            )
        if not self.snapshots:
            return None
        return OrderbookUpdate(
            self.symbol, sync.published_id, (), (), UpdateKind.STALE, sync.time, sync.received, sync.reason
        )


_TAPS: dict[DataType, type[_Tap]] = {
    DataType.ORDERBOOK: _BookTap,
    DataType.TRADE: _TradeTap,
    DataType.ACCOUNT: _Tap,
}


class MarketStream(Generic[T]):
    """An asynchronous stream of `OrderbookUpdate`s, trade events or account events.

    Use it as `async with stream: async for item in stream: ...`. It may be closed from any task, at any time; it
    belongs to no cancel scope. Nothing is lost by cancelling a wait for the next item.

    A book consumer gets a SNAPSHOT first, for each market. One that is too slow (more than `max_queue` items wait)
    gets one SNAPSHOT for each market in place of its backlog, a trade consumer a `Lagged` item.
    """

    def __init__(
        self,
        wanted: Sequence[_Wanted],
        *,
        resolve: Callable[[], Awaitable[Sequence[Any]]] | None = None,
        start_soon: Callable[..., None] | None = None,
        max_queue: int = DEFAULT_QUEUE,
        slow: SlowPolicy = SlowPolicy.MARK,
    ) -> None:
        if max_queue < 1:
            raise BadRequest("max_queue must be at least 1")
        self._delivered = 0
        self._conflated = 0
        self._lagged = 0
        self._wanted = list(wanted)
        self._resolve = resolve
        self._start_soon = start_soon
        self._foreign = 0
        self._max_queue = max_queue
        self._slow = slow
        self._queue: deque[Any] = deque()
        self._behind: dict[_BookTap, None] = {}
        self._older = 0
        """So many items at the head of the queue are told before those who are `behind` are caught up."""
        self._missed: dict[str, int] = {}
        self._taps: list[_Tap] = []
        self._event: anyio.Event | None = None
        self._entered = False
        self._closed = False
        self._error: Exception | None = None
        self._ended: anyio.Event | None = None
        self.also_called: dict[str, str] = {}
        """Spelling that a market was asked for with -> its symbol."""

    # -- making one ---------------------------------------------------------------------------------------------

    @classmethod
    def of(
        cls, hub: Hub, data_type: DataType, markets: Sequence[Market], *, max_queue: int = DEFAULT_QUEUE
    ) -> MarketStream[Any]:
        """A stream over markets of one venue."""
        return cls([_Wanted(hub, data_type, market) for market in markets], max_queue=max_queue)

    @classmethod
    def of_account(cls, hub: Hub, channels: Sequence[Channel], *, max_queue: int = DEFAULT_QUEUE) -> MarketStream[Any]:
        """A stream over the private channels of an account. A consumer that falls behind is closed, never thinned."""
        wanted = [_Wanted(hub, DataType.ACCOUNT, channel) for channel in channels]
        return cls(wanted, max_queue=max_queue, slow=SlowPolicy.RAISE)

    @classmethod
    def deferred(
        cls,
        resolve: Callable[[], Awaitable[Sequence[Any]]],
        *,
        start_soon: Callable[..., None] | None = None,
        max_queue: int = DEFAULT_QUEUE,
        slow: SlowPolicy = SlowPolicy.MARK,
    ) -> MarketStream[Any]:
        """A stream whose parts (other streams, not entered) are found when it is entered.

        Parts that are no `MarketStream`s, from venues with an engine of their own, are read by a task of
        `start_soon`; they have no live books here, and cannot be conflated: a consumer too slow for them is closed.
        """
        return cls([], resolve=resolve, start_soon=start_soon, max_queue=max_queue, slow=slow)

    # -- consuming ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise StreamClosed("a stream is entered once; make a new one")
        self._entered = True
        self._ended = anyio.Event()
        if self._resolve is not None:
            for part in await self._resolve():
                if not isinstance(part, MarketStream):
                    if self._start_soon is None:
                        raise TypeError(f"reading a {type(part).__name__} takes a task: hand in start_soon")
                    self._foreign += 1
                    self._slow = SlowPolicy.RAISE
                    self._start_soon(self._read, part, name=f"read {type(part).__name__}")
                    continue
                self._wanted.extend(part._wanted)
                if part._slow is SlowPolicy.RAISE:
                    self._slow = SlowPolicy.RAISE
        try:
            for wanted in self._wanted:
                self._attach(wanted)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """End the stream: a waiting reader stops. Idempotent, callable from any task."""
        self._close()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            if self._queue and not self._behind:
                self._delivered += 1
                return self._queue.popleft()  # type: ignore[no-any-return]
            if self._behind:
                if self._older and self._queue:
                    self._older -= 1
                    self._delivered += 1
                    return self._queue.popleft()  # type: ignore[no-any-return]
                update = self._catch_up()
                if update is not None:
                    self._delivered += 1
                    return update  # type: ignore[return-value]
                continue
            await self._more()

    def batches(self) -> AsyncIterator[list[T]]:
        """All waiting items at a time (`async for items in stream.batches()`): cheaper than one by one."""
        return _Batches(self)

    async def next_batch(self) -> list[T]:
        """All items that wait now, at least one. Raises `StopAsyncIteration` when the stream has ended."""
        while True:
            items: list[T] = []
            self._older = 0
            while self._behind:
                update = self._catch_up()
                if update is not None:
                    items.append(update)  # type: ignore[arg-type]
            items.extend(self._queue)
            self._queue.clear()
            if items:
                self._delivered += len(items)
                return items
            await self._more()

    @property
    def stats(self) -> StreamStats:
        """What became of the items so far."""
        return StreamStats(self._delivered, self._conflated, self._lagged, len(self._queue) + len(self._behind))

    def book(self, symbol: str) -> LiveBook:
        """The live book of a market of this stream, by its symbol or the spelling that it was asked for with."""
        symbol = self.also_called.get(symbol, symbol)
        for tap in self._taps:
            if tap.symbol == symbol and isinstance(tap.topic, BookTopic):
                return LiveBook(tap.topic.sync, symbol, tap.hub.clock)
        known = [tap.symbol for tap in self._taps]
        raise BadRequest(f"{symbol} is not a market of this book stream.{hint(symbol, known)}")

    @property
    def account_status(self) -> Sequence[AccountStatus]:
        """Of an account's stream: for each product, can what was told be relied on now?"""
        return [tap.topic.status for tap in self._taps if isinstance(tap.topic, AccountTopic)]

    @property
    def symbols(self) -> Sequence[str]:
        """The markets of the stream (once entered)."""
        return [tap.symbol for tap in self._taps]

    # -- inside -------------------------------------------------------------------------------------------------

    def _attach(self, wanted: _Wanted) -> None:
        symbol = wanted.what.symbol if isinstance(wanted.what, Market) else wanted.what.product
        kind = _TAPS[wanted.data_type]
        tap = kind(self, wanted.hub, symbol)
        self._taps.append(tap)
        tap.topic = wanted.hub.attach(wanted.data_type, wanted.what, tap)
        tap.attached()
        if self._error is not None:
            tap.detach()  # what it begins with is more than the queue holds

    async def _read(self, part: Any) -> None:
        """Read a stream of another engine until it, or this one, ends."""

        async def close_with_us() -> None:
            assert self._ended is not None
            await self._ended.wait()
            await part.aclose()

        try:
            async with part, anyio.create_task_group() as tasks:
                tasks.start_soon(close_with_us)
                async for item in part:
                    if self._closed or self._error is not None:
                        break
                    self._put(item)
                tasks.cancel_scope.cancel()
        except* AstraError as errors:
            found: BaseException = errors
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            self._fail(found if isinstance(found, AstraError) else StreamClosed(str(found)))
        self._foreign -= 1
        if not self._taps and not self._foreign and self._error is None and not self._closed:
            self._fail(StreamClosed("the venue ended the stream"))

    def _put(self, item: Any) -> None:
        """A trade or account event."""
        queue = self._queue
        if len(queue) >= self._max_queue:
            if self._slow is SlowPolicy.RAISE:
                if self._error is None:
                    self._fail(
                        StreamClosed(f"the consumer was too slow: more than {self._max_queue} items were waiting")
                    )
                return
            market = item.market
            self._missed[market] = self._missed.get(market, 0) + 1
            self._lagged += 1
            return
        if self._missed and item.market in self._missed:
            queue.append(Lagged(item.market, self._missed.pop(item.market)))
        queue.append(item)
        if self._event is not None:
            self._wake()

    def _conflate(self, tap: _BookTap) -> None:
        """The queue is full: every market in it, and the one that knocks, is caught up by a SNAPSHOT instead.

        What waits of a market whose topic ended (its last word among it), or of another engine's stream, stays: there
        is no live book to catch up from.
        """
        books = {one.symbol: one for one in self._taps if isinstance(one, _BookTap)}
        kept: deque[Any] = deque()
        for update in self._queue:
            behind = books.get(update.market)
            if behind is None:
                kept.append(update)
                continue
            self._fall_behind(behind)
            if update.kind is UpdateKind.SNAPSHOT:
                behind.snapshots -= 1
        self._fall_behind(tap)
        self._conflated += len(self._queue) - len(kept) + 1
        self._queue = kept
        self._older = len(kept)
        self._wake()

    def _fall_behind(self, tap: _BookTap) -> None:
        tap.behind = True
        self._behind[tap] = None

    def _catch_up(self) -> OrderbookUpdate | None:
        tap = next(iter(self._behind))
        del self._behind[tap]
        return tap.catch_up()

    async def _more(self) -> None:
        """Wait until there may be something; raises at the end of the stream."""
        if self._missed:
            for market, missed in self._missed.items():
                self._queue.append(Lagged(market, missed))
            self._missed = {}
            return
        if self._error is not None:
            error, self._error = self._error, None
            self._close()
            raise error
        if self._closed or not self._entered:
            if not self._entered:
                raise StreamClosed("enter the stream first: async with stream: ...")
            raise StopAsyncIteration
        event = self._event
        if event is None:
            event = self._event = anyio.Event()
        await event.wait()

    def _wake(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            event.set()

    def _tap_ended(self, tap: _Tap, error: Exception) -> None:
        """A topic is over for good: the stream goes on with the others, or ends with the last one's error."""
        if isinstance(tap, _BookTap):
            tap.put(OrderbookUpdate(tap.symbol, 0, (), (), UpdateKind.STALE, None, tap.hub.clock.wall_ns(), str(error)))
        if tap in self._taps:
            self._taps.remove(tap)
        if not self._taps and not self._foreign:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End with this error, once what waits has been read: nothing is put behind it any more."""
        self._error = error
        for tap in self._taps:
            tap.detach()
        self._wake()

    def _close(self) -> None:
        self._closed = True
        if self._ended is not None:
            self._ended.set()
        taps, self._taps = self._taps, []
        for tap in taps:
            tap.detach()
        self._behind.clear()
        self._wake()


class _Batches(Generic[T]):
    """Iterates a stream batch by batch. (No generator: those must be closed by whoever stops half-way.)"""

    def __init__(self, stream: MarketStream[T]) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        return await self._stream.next_batch()
