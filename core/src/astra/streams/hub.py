"""The hub of one venue: one upstream subscription per native book (trades, account), however many consumers.

A *topic* is what one channel's data becomes: a synchronised book, a trade sequence, an account's events. Consumers
hang on a topic by *taps*. A topic begins with its first tap and ends shortly after its last.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import anyio
from pydantic import BaseModel, ConfigDict, Field

from astra.errors import AstraError, ConfigError, PluginError, StreamClosed, VenueError
from astra.models.accounts import AccountEvent, AccountStatus
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import BookState, Integrity, Level, OrderbookUpdate
from astra.models.protocols import Clock, Host
from astra.models.trades import Gap, Trade
from astra.net.transports import Transport
from astra.streams.connection import Backoff, ConnectionContext, ConnectionPool
from astra.streams.feed import Channel, DataType, Feed, HistorySource, Seed, TicketSource
from astra.streams.sync import BookLane, BookSync

logger = logging.getLogger("astra.streams")

CALM_S = 30.0
"""A book that was in order for so long has no troubles any more: its next one is mended at once."""


class HubSettings(BaseModel):
    """Settings of a venue's streams."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linger_s: float = Field(default=2.0, ge=0)
    """A subscription is kept for so long after its last consumer left."""
    seeds_at_once: int = Field(default=4, ge=1)
    """Book snapshots fetched at the same time."""
    backoff_base_s: float = Field(default=0.25, gt=0)
    backoff_cap_s: float = Field(default=30.0, gt=0)
    """Reconnects and resynchronisations wait from base to cap, doubling, with jitter. (The first resynchronisation
    after a calm time does not wait.)"""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    tick_s: float = Field(default=0.25, gt=0)
    """How often books are looked at (quiet markets, watchdogs, audits)."""
    audits: bool = True
    """Compare running books with fresh snapshots now and then."""
    audit_accounts_every_s: float | None = Field(default=900.0, gt=0)
    """How often a running account stream is compared with the venue by REST (None: after reconnects only)."""


class Tap(Protocol):
    """A consumer's end of a topic."""

    symbol: str

    def put(self, item: Any) -> None: ...

    def ended(self, error: Exception) -> None:
        """The topic is over for good."""
        ...


class LiveBook:
    """A running book, as others may look at it. Always current; nothing of it may be changed."""

    __slots__ = ("_clock", "_sync", "market")

    def __init__(self, sync: BookSync, market: str, clock: Clock) -> None:
        self._sync = sync
        self._clock = clock
        self.market = market

    @property
    def state(self) -> BookState:
        return self._sync.state

    @property
    def reason(self) -> str | None:
        """Why the book is not LIVE."""
        return self._sync.reason

    @property
    def best_bid(self) -> Level | None:
        return self._sync.book.best_bid

    @property
    def best_ask(self) -> Level | None:
        return self._sync.book.best_ask

    def bids(self, depth: int | None = None) -> list[Level]:
        """The best `depth` bids (None: all), by falling price."""
        return self._sync.book.bids(depth)

    def asks(self, depth: int | None = None) -> list[Level]:
        """The best `depth` asks (None: all), by rising price."""
        return self._sync.book.asks(depth)

    @property
    def update_id(self) -> int:
        return self._sync.published_id

    @property
    def time(self) -> int | None:
        """The venue's time of the last change, ms."""
        return self._sync.time

    @property
    def received(self) -> int:
        """When the last change was received, ns since the epoch."""
        return self._sync.received

    @property
    def age_s(self) -> float | None:
        """Seconds since the last change was received; None before the first."""
        if not self._sync.received:
            return None
        return max(0.0, (self._clock.wall_ns() - self._sync.received) / 1e9)

    @property
    def integrity(self) -> Integrity:
        return self._sync.rules.integrity

    def __repr__(self) -> str:
        return f"<LiveBook {self.market} {self.state} bid={self.best_bid} ask={self.best_ask}>"


class _Topic:
    """What all topics share: taps, and the way to the connection."""

    def __init__(self, hub: Hub, channel: Channel) -> None:
        self.channel = channel
        self.taps: list[Tap] = []
        self._hub = hub

    def refused(self, error: AstraError) -> None:
        self._hub.forget(self)
        for tap in list(self.taps):
            tap.ended(error)

    def tick(self, now: float) -> None:
        """Called every `tick_s`."""

    def add_tap(self, tap: Tap) -> None:
        self.taps.append(tap)

    def remove_tap(self, tap: Tap) -> None:
        # A new list: a tap may go while all are told something.
        self.taps = [one for one in self.taps if one is not tap]


class BookTopic(_Topic):
    """A native book with its consumers. `symbol` names it first; markets that share it are taps of other symbols."""

    def __init__(self, hub: Hub, channel: Channel) -> None:
        super().__init__(hub, channel)
        assert channel.market is not None
        self.symbol = channel.market.symbol
        rules = hub.feed.book_rules(channel)
        self.sync = BookSync(self.symbol, rules, self, self._publish)
        self._audits = hub.settings.audits
        self._fetching = False
        self._answered = anyio.Event()
        """An in-band snapshot that is awaited came, whether or not it was of use."""
        self._interrupted = anyio.Event()
        """The subscription for which a snapshot, or a new subscription, is being waited for is gone."""
        self._is_acknowledged = False
        self._subscription = 0
        self._is_fresh = False
        """Was nothing asked yet for this subscription?"""
        self._troubles = 0
        self._mended_at: float | None = None
        self._snapshots = 0

    def _publish(self, update: OrderbookUpdate) -> None:
        taps = self.taps
        try:
            for tap in taps:
                tap.put(update)
        except Exception:
            # A consumer that fails ends the link, as a frame that cannot be understood does; the others are told.
            for other in taps[taps.index(tap) + 1 :]:
                try:
                    other.put(update)
                except Exception:
                    logger.exception("%s: a further consumer failed", self.symbol)
            raise

    def add_tap(self, tap: Tap) -> None:
        super().add_tap(tap)
        self._aim()

    def remove_tap(self, tap: Tap) -> None:
        super().remove_tap(tap)
        self._aim()

    def _aim(self) -> None:
        """The usual single consumer is called without a detour."""
        self.sync.publish = self.taps[0].put if len(self.taps) == 1 else self._publish

    def lane(self, joined: Callable[[Any], None] | None) -> BookLane:
        return BookLane(self.sync, joined)

    def opened(self) -> None:
        self._is_acknowledged = False
        self._is_fresh = True
        self._subscription += 1
        self.sync.opened()

    def acknowledged(self) -> None:
        self._is_acknowledged = True
        self.sync.acknowledged()

    def closed(self, reason: str) -> None:
        self._is_acknowledged = False
        self._interrupted.set()
        self.sync.closed(reason)

    def refused(self, error: AstraError) -> None:
        self.closed(str(error))
        super().refused(error)

    def tick(self, now: float) -> None:
        self.sync.tick(now)
        if self._fetching and not self.sync.wants_seed:
            self._answered.set()

    # -- what the book asks for ---------------------------------------------------------------------------------

    def seed_wanted(self) -> None:
        self._answered.set()
        if self._is_acknowledged and not self._fetching:
            self._fetching = True
            self._hub.start_soon(self._fetch_seeds, name=f"seed {self.symbol}")

    def check_wanted(self) -> None:
        rules = self.sync.rules
        if self._audits and (rules.seed is Seed.REST or rules.rest_joins):
            self._hub.start_soon(self._audit, name=f"audit {self.symbol}")
        elif self._audits and rules.seed is Seed.IN_BAND:
            self._request_snapshot()
        else:
            self.sync.end_audit()

    def _request_snapshot(self) -> None:
        """In band; it comes as a frame."""
        connection = self._hub.pool.connection_of(self.channel)
        if connection is not None:
            connection.request_snapshot(self.channel)

    def resubscribe(self, reason: str) -> None:
        if not self._fetching:
            self._fetching = True
            self._hub.start_soon(self._resubscribe, name=f"resubscribe {self.symbol}")

    @property
    def _wants_seed(self) -> bool:
        """Also while nobody looks: the next consumer may come before the subscription is given up."""
        return self._is_acknowledged and self.sync.wants_seed

    def _trouble(self) -> int:
        """The book has to be mended. How often was it so already, without being in order for `CALM_S` meanwhile?"""
        now, snapshots = self._hub.clock.monotonic(), self.sync.stats.snapshots
        calm = self._mended_at is None or (now - self._mended_at >= CALM_S and snapshots > self._snapshots)
        self._troubles = 0 if calm else self._troubles + 1
        self._snapshots = snapshots
        return self._troubles

    async def _pause(self, attempt: int) -> bool:
        """Wait before an attempt; is there still something to mend? (A new subscription has a pace of its own.)"""
        hub = self._hub
        interrupted = self._interrupted = anyio.Event()
        return not await hub.clock.wait(interrupted, hub.backoff.delay(attempt, hub.random))

    async def _fetch_seeds(self) -> None:
        """One snapshot after the other, with growing pauses, until the book has what it needs.

        The first for a subscription is asked for at once, and so is the first after a calm time; a book that breaks
        soon after it was mended goes on with the pauses where it was.
        """
        hub, sync = self._hub, self.sync
        is_fresh, self._is_fresh = self._is_fresh, False
        attempt = 0 if is_fresh else self._trouble()
        try:
            while self._wants_seed:
                if attempt and not await self._pause(attempt):
                    attempt = 0
                    continue
                self._is_fresh = False
                attempt += 1
                if sync.rules.seed is Seed.IN_BAND:
                    self._answered = anyio.Event()
                    self._request_snapshot()
                    await hub.clock.wait(self._answered, sync.rules.first_snapshot_s)
                    continue
                async with hub.seed_slots:
                    if not self._wants_seed:
                        continue
                    subscription = self._subscription
                    try:
                        seed = await hub.history.book_seed(self.channel)
                    except VenueError as error:
                        sync.seed_failed()
                        logger.warning("%s: no snapshot: %s", self.symbol, error)
                        continue
                    except Exception:  # a mistake in the plugin: the book is asked for again
                        sync.seed_failed()
                        logger.exception("%s: no snapshot", self.symbol)
                        continue
                if subscription == self._subscription:  # else it may be older than what is told now
                    sync.seed(seed, hub.clock.wall_ns(), hub.clock.monotonic())
        finally:
            self._fetching = False
            if not is_fresh:
                self._mended_at = hub.clock.monotonic()

    async def _resubscribe(self) -> None:
        hub = self._hub
        try:
            if await self._pause(self._trouble() + 1):
                connection = hub.pool.connection_of(self.channel)
                if connection is not None:
                    connection.resubscribe(self.channel)
        finally:
            self._fetching = False
            self._mended_at = hub.clock.monotonic()
        if self._wants_seed and self.sync.rules.seed is not Seed.STREAM:
            self.seed_wanted()  # of a new subscription, acknowledged in the meantime

    async def _audit(self) -> None:
        try:
            async with self._hub.seed_slots:
                seed = await self._hub.history.book_seed(self.channel)
        except VenueError as error:
            logger.warning("%s: no snapshot to audit by: %s", self.symbol, error)
            self.sync.end_audit()
        else:
            self.sync.audit(seed, self._hub.clock.monotonic())


class _HoldingLane:
    """A link's way into a topic of events: it delivers, or holds back until its link takes over."""

    HOLD = 10_000

    def __init__(self, deliver: Callable[[Sequence[Any]], None], probing: bool) -> None:
        self._deliver = deliver
        self._held: deque[Any] | None = deque(maxlen=self.HOLD) if probing else None
        self._overflowed = False
        self._closed = False

    def _put(self, items: Sequence[Any]) -> None:
        if self._closed:
            return
        if self._held is not None:
            self._overflowed |= len(self._held) + len(items) > self.HOLD
            self._held.extend(items)
        else:
            self._deliver(items)

    def feed(self) -> None:
        if self._held is not None:
            held, self._held = list(self._held), None
            self._deliver(held)

    def close(self) -> None:
        self._closed = True


class TradeLane(_HoldingLane):
    def __init__(self, topic: TradeTopic, probing: bool) -> None:
        super().__init__(self._deliver_held if probing else topic.deliver, probing)
        self._topic = topic
        if probing:
            topic.remember(topic.REMEMBERED + self.HOLD)

    @property
    def market(self) -> str:
        return self._topic.symbol

    def trades(self, trades: Sequence[Trade]) -> None:
        self._put(trades)

    def _deliver_held(self, trades: Sequence[Trade]) -> None:
        self._topic.deliver_held(trades, self._overflowed)

    def feed(self) -> None:
        super().feed()
        self._deliver = self._topic.deliver
        self._topic.remember(self._topic.REMEMBERED)

    def close(self) -> None:
        super().close()
        if self._held is not None:
            self._held = None
            self._topic.remember(self._topic.REMEMBERED)


class TradeTopic(_Topic):
    """A market's trades with their consumers. A lost connection leaves a `Gap` in line, filled from the venue's
    history where that has ids."""

    REMEMBERED = 1024
    """So many ids of the last trades are known; while a successor's link holds trades back, as many more as it can
    hold: of each of those it must be known whether the old link told it."""
    WAITING = 10_000
    """So many trades are held back while a gap is filled; beyond that the oldest go."""

    def __init__(self, hub: Hub, channel: Channel) -> None:
        super().__init__(hub, channel)
        assert channel.market is not None
        self.symbol = channel.market.symbol
        self.last_id: str | None = None
        self._recent: deque[str] = deque(maxlen=self.REMEMBERED)
        self._gap_reason: str | None = None
        self._waiting: deque[Trade] | None = None
        self._overflowed = False
        """Did trades go that would have waited for the gap to be filled?"""
        self._fills = 0
        self._subscribed = False
        self._ahead: set[str] = set()
        """Trades that the history told before the stream, which may tell them, too."""

    def lane(self, joined: Callable[[Any], None] | None) -> TradeLane:
        return TradeLane(self, joined is not None)

    def deliver(self, trades: Sequence[Trade]) -> None:
        if self._waiting is not None:
            if not self._overflowed and len(self._waiting) + len(trades) > self.WAITING:
                self._overflowed = True
                logger.warning("%s: trades came faster than a gap could be filled", self.symbol)
            self._waiting.extend(trades)
            return
        if self._ahead and trades:
            trades = self._news(trades)
        recent = self._recent
        for trade in trades:
            recent.append(trade.id)
            for tap in self.taps:
                tap.put(trade)
        if trades:
            self.last_id = trades[-1].id

    def _news(self, trades: Sequence[Trade]) -> Sequence[Trade]:
        """Those that the history did not tell already; behind the first of them there are only such."""
        fresh = [trade for trade in trades if trade.id not in self._ahead]
        if fresh:
            self._ahead = set()
        return fresh

    def remember(self, count: int) -> None:
        """Know the ids of so many trades from now on."""
        self._recent = deque(self._recent, maxlen=count)

    def deliver_held(self, trades: Sequence[Trade], overflowed: bool) -> None:
        """What a successor's link held back, without what the old one delivered already."""
        known = set(self._recent)
        news = [trade for trade in trades if trade.id not in known]
        if overflowed and len(news) == len(trades):
            # What went was in front of all that is held: it would have been told, too, if any of this was.
            if self._waiting is None:
                self._tell_gap("more trades came while the connection was renewed than can be held back", None)
            else:
                self._overflowed = True
        self.deliver(news)

    def _tell_gap(self, reason: str, filled: int | None) -> None:
        gap = Gap(self.symbol, self.last_id, reason, filled)
        for tap in self.taps:
            tap.put(gap)

    def opened(self) -> None:
        if self._gap_reason is not None and self._waiting is None:
            self._waiting = deque(maxlen=self.WAITING)
            self._overflowed = False

    def acknowledged(self) -> None:
        self._subscribed = True
        if self._gap_reason is not None:
            self._hub.start_soon(self._fill, name=f"fill {self.symbol}")

    def closed(self, reason: str) -> None:
        if self._subscribed:
            self._gap_reason = reason
        self._subscribed = False

    async def _fill(self) -> None:
        """Say that trades may be missing, then give those that the venue's history has."""
        reason, self._gap_reason = self._gap_reason or "reconnected", None
        self._fills += 1
        fill = self._fills
        missing: Sequence[Trade] | None = None
        if self.last_id is not None:
            try:
                missing = await self._hub.history.trades_after(self.channel, self.last_id, self.symbol)
            except VenueError as error:
                logger.warning("%s: missed trades could not be fetched: %s", self.symbol, error)
            except Exception:  # a mistake in the plugin: the trades that wait are told
                logger.exception("%s: missed trades could not be fetched", self.symbol)
        if self._gap_reason is not None or fill != self._fills:
            return  # lost again meanwhile: the next fill covers this one
        held = list(self._waiting or ())
        self._waiting = None
        known = set(self._recent)
        found = [trade for trade in missing or () if trade.id not in known]
        known.update(trade.id for trade in found)
        self._tell_gap(reason, None if missing is None else len(found))
        self.deliver(found)
        self._ahead = {trade.id for trade in found}
        news = [trade for trade in held if trade.id not in known]
        if self._overflowed and missing is not None and len(news) == len(held):
            # What went was in front of all that is held, and history did not reach as far as any of this.
            self._tell_gap("more trades came while a gap was filled than can be held back", None)
        self.deliver(news)


class AccountLane(_HoldingLane):
    def __init__(self, topic: AccountTopic, probing: bool) -> None:
        super().__init__(topic.keeper.succeeded if probing else topic.keeper.events, probing)
        self._topic = topic

    def events(self, events: Sequence[AccountEvent]) -> None:
        self._put(events)

    def feed(self) -> None:
        super().feed()
        self._deliver = self._topic.keeper.events

    def incomplete(self) -> None:
        self._topic.keeper.incomplete()

    def interrupted(self, reason: str) -> None:
        self._topic.interrupted(reason)


class AccountKeeper(Protocol):
    """What an account's events pass before consumers see them: it knows what is known already, and compares with the
    venue by REST (`astra.trading.reconcile`)."""

    @property
    def status(self) -> AccountStatus: ...

    @property
    def state(self) -> Any:
        """What is known of the account (`astra.trading.account.AccountState`)."""
        ...

    def events(self, events: Sequence[AccountEvent]) -> None:
        """The stream tells something."""
        ...

    def succeeded(self, held: Sequence[AccountEvent]) -> None:
        """Another connection took over; `held` is what it has held back until now."""
        ...

    def incomplete(self) -> None:
        """What the stream told has consequences that it does not tell: ask soon."""
        ...

    def acknowledged(self) -> None: ...

    def closed(self, reason: str) -> None: ...

    def joined(self, tap: Tap) -> None:
        """A consumer came, who knows nothing yet."""
        ...

    def left(self, tap: Tap) -> None: ...

    def tick(self, now: float) -> None: ...


class AccountTopic(_Topic):
    """An account's events with their consumers."""

    def __init__(self, hub: Hub, channel: Channel) -> None:
        super().__init__(hub, channel)
        if hub.accounts is None:
            raise TypeError(f"{hub.exchange}: a venue with private streams derives from AccountStreamingVenue")
        self.keeper: AccountKeeper = hub.accounts(hub, self)

    @property
    def status(self) -> AccountStatus:
        """Can what the stream says be relied on?"""
        return self.keeper.status

    def publish(self, events: Sequence[AccountEvent], taps: Sequence[Tap] | None = None) -> None:
        """Tell consumers (None: all)."""
        for tap in tuple(self.taps if taps is None else taps):
            for event in events:
                tap.put(event)

    def add_tap(self, tap: Tap) -> None:
        super().add_tap(tap)
        self.keeper.joined(tap)

    def remove_tap(self, tap: Tap) -> None:
        super().remove_tap(tap)
        self.keeper.left(tap)

    def release(self, tap: Tap) -> None:
        """Take off a tap that was put into `taps` directly: one that wants nothing but what is news from then on."""
        self._hub.detach(self, tap)

    def lane(self, joined: Callable[[Any], None] | None) -> AccountLane:
        return AccountLane(self, joined is not None)

    def opened(self) -> None:
        """Nothing to prepare."""

    def acknowledged(self) -> None:
        self.keeper.acknowledged()

    def closed(self, reason: str) -> None:
        self.keeper.closed(reason)

    def interrupted(self, reason: str) -> None:
        self.keeper.closed(reason)
        connection = self._hub.pool.connection_of(self.channel)
        # A subscription that is not acknowledged yet will be compared with the venue in any case.
        if connection is not None and not connection.awaits(self.channel):
            connection.resubscribe(self.channel)

    def tick(self, now: float) -> None:
        self.keeper.tick(now)


AnyTopic = BookTopic | TradeTopic | AccountTopic
_TOPICS: dict[DataType, type[BookTopic] | type[TradeTopic] | type[AccountTopic]] = {
    DataType.ORDERBOOK: BookTopic,
    DataType.TRADE: TradeTopic,
    DataType.ACCOUNT: AccountTopic,
}


class Hub:
    """All live data of one venue instance. Its tasks live in the application's task group."""

    def __init__(
        self,
        *,
        exchange: str,
        feed: Feed,
        history: HistorySource,
        host: Host,
        tickets: TicketSource | None = None,
        transport: Callable[[], Transport],
        proxy: str | None = None,
        settings: HubSettings | None = None,
        now_ms: Callable[[], int] | None = None,
        chance: random.Random | None = None,
        accounts: Callable[[Hub, AccountTopic], AccountKeeper] | None = None,
    ) -> None:
        settings = settings or HubSettings()
        self.exchange = exchange
        self.feed = feed
        self.history = history
        self.accounts = accounts
        """Makes what keeps an account's events true, for venues with private streams."""
        self.settings = settings
        self.clock = host.clock
        self.random = chance or random.Random()
        self.backoff = Backoff(settings.backoff_base_s, settings.backoff_cap_s)
        self.seed_slots = anyio.CapacityLimiter(settings.seeds_at_once)
        self._host = host
        self._work: deque[tuple[Callable[..., Coroutine[Any, Any, None]], tuple[object, ...], str | None]] = deque()
        self._event: anyio.Event | None = None
        self._make_transport = transport
        self._transport: Transport | None = None
        context = ConnectionContext(
            exchange=exchange,
            feed=feed,
            transport=self._get_transport,
            clock=host.clock,
            now_ms=now_ms or (lambda: host.clock.wall_ns() // 1_000_000),
            random=self.random,
            tickets=tickets,
            proxy=proxy,
            connect_timeout_s=settings.connect_timeout_s,
            backoff=self.backoff,
        )
        self.pool = ConnectionPool(context, self.start_soon)
        self._topics: dict[tuple[DataType, object], AnyTopic] = {}
        self._running = False
        self._closed = False

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str | None = None
    ) -> None:
        """Run `work(*args)` in the application's task group.

        May be called from where no task runs: transports deliver frames from the event loop's callbacks. The hub's own
        task, which runs as long as there are topics, does the starting.
        """
        self._work.append((work, args, name))
        if self._event is not None:
            self._event.set()
        elif not self._running and not self._closed:
            self._running = True
            self._host.start_soon(self._run, name=f"{self.exchange} hub")

    def close(self) -> None:
        """The application ends: no further task is started, and nobody waits for what can no longer come."""
        self._closed = True
        for topic in list(self._topics.values()):
            for tap in list(topic.taps):
                tap.ended(StreamClosed("the Astra object that the stream belongs to was closed"))

    async def _get_transport(self) -> Transport:
        return self._the_transport()

    def _the_transport(self) -> Transport:
        """The WebSocket transport of the settings. Raises `ConfigError` for one that is not there, or does not work on
        this event loop: trying again would not help."""
        if self._transport is None:
            try:
                transport = self._make_transport()
                check = getattr(transport, "check_event_loop", None)
                if check is not None:
                    check()
            except (ConfigError, PluginError) as error:
                raise ConfigError(f"{self.exchange}: the setting transport: {error}") from error
            self._transport = transport
        return self._transport

    def attach(self, data_type: DataType, what: Market | Channel, tap: Tap) -> AnyTopic:
        """Hang a consumer on a market's (or an account channel's) topic; the first one starts it.

        Raises `ConfigError` where the settings name a transport that cannot be used.
        """
        self._the_transport()
        key: object
        if isinstance(what, Market):
            what = self.feed.origin(what)
            key = what.key
        else:
            assert what.credentials is not None
            key = (what.product, what.credentials)
        topic = self._topics.get((data_type, key))
        if topic is None:
            if isinstance(what, Market):
                what = Channel(data_type, what.product, what)
            topic = self._topics[data_type, key] = _TOPICS[data_type](self, what)
            topic.add_tap(tap)
            self.pool.want(topic)
        else:
            topic.add_tap(tap)
        return topic

    def detach(self, topic: AnyTopic, tap: Tap) -> None:
        """Take a consumer off; the topic ends a little after its last one."""
        if tap in topic.taps:
            topic.remove_tap(tap)
            if not topic.taps and not self._closed:
                self.start_soon(self._linger, topic, name=f"linger {topic.channel!r}")

    def forget(self, topic: _Topic) -> None:
        """Drop a topic at once."""
        for key, known in list(self._topics.items()):
            if known is topic:
                del self._topics[key]
        self.pool.drop(topic.channel)

    def book_of(self, market: Market) -> LiveBook | None:
        """The running book of a market, if somebody streams it."""
        topic = self._topics.get((DataType.ORDERBOOK, self.feed.origin(market).key))
        return LiveBook(topic.sync, market.symbol, self.clock) if isinstance(topic, BookTopic) else None

    def account_topic(self, product: str, credentials: Credentials) -> AccountTopic | None:
        """An account's running private stream of a product, if somebody streams it."""
        topic = self._topics.get((DataType.ACCOUNT, (product, credentials)))
        return topic if isinstance(topic, AccountTopic) else None

    def books(self) -> Sequence[LiveBook]:
        """All running books."""
        return [LiveBook(t.sync, t.symbol, self.clock) for t in self._topics.values() if isinstance(t, BookTopic)]

    async def _linger(self, topic: AnyTopic) -> None:
        await self.clock.sleep(self.settings.linger_s)
        if not topic.taps and topic in self._topics.values():
            self.forget(topic)
            topic.closed("no consumer left")

    async def _run(self) -> None:
        """Start what is to be started, look at the topics now and then."""
        tick_at = 0.0
        try:
            while (self._topics or self._work) and not self._closed:
                self._event = anyio.Event()
                while self._work:
                    work, args, name = self._work.popleft()
                    self._host.start_soon(work, *args, name=name)
                now = self.clock.monotonic()
                if now >= tick_at:
                    tick_at = now + self.settings.tick_s
                    for topic in list(self._topics.values()):
                        topic.tick(now)
                if not self._work:
                    await self.clock.wait(self._event, tick_at - now)
        finally:
            self._event = None
            self._running = False
