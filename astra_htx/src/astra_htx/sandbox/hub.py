"""Who subscribed to which public channel, and what the engine's events mean to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from astra.sandbox import BookChange, EngineEvent, Exchange, PublicTrade
from astra_htx.sandbox.calls import names
from astra_htx.sandbox.catalogue import Catalogue, Listing
from astra_htx.sandbox.feeds import BboFeed, DepthFeed, DetailFeed, Feed, HighFreqFeed, MbpFeed, Subscriber, TradeFeed
from astra_htx.sandbox.limits import SandboxLimits
from astra_htx.sandbox.tape import DayTable
from astra_htx.sandbox.wire import Family

TWENTY_LEVELS = names(
    "btcusdt ethusdt xrpusdt eosusdt ltcusdt etcusdt adausdt dashusdt bsvusdt dotusdt linkusdt trxusdt dogeusdt "
    "solusdt bchusdt filusdt uniusdt xlmusdt"
)
"""Spot markets with `mbp.20` (of about 30)."""
_TOPIC = re.compile(r"market\.([^.]+)\.(.+)")
_MBP = re.compile(r"mbp\.(5|10|20|150|400)")
_REFRESH = re.compile(r"mbp\.refresh\.(5|10|20)")
_STEP = re.compile(r"depth\.step(\d{1,2})")
_HIGH_FREQ = re.compile(r"depth\.size_(20|150)\.high_freq")
_CONTRACT_STEPS = {**dict.fromkeys(range(6), 150), **dict.fromkeys(range(6, 16), 20)}

FeedKey = tuple[Family, str, bool]
"""(family, topic, incremental)."""


class BadTopic(Exception):
    """The text that the venue answers to a topic it does not have."""


class Hub:
    """Keeps the feeds that somebody listens to."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, limits: SandboxLimits) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._limits = limits
        self.days = DayTable(engine)
        self._feeds: dict[FeedKey, Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}
        self._random = Random("htx versions")

    def subscribe(
        self,
        family: Family,
        topic: str,
        subscriber: Subscriber,
        *,
        feed_socket: bool,
        incremental: bool,
        now_ms: int,
        acknowledge: Callable[[], None],
    ) -> FeedKey:
        """Subscribe; `acknowledge` is called before the first frame. Raises `BadTopic`."""
        key = (family, topic, incremental)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._made(family, topic, feed_socket, incremental)
            self._by_market.setdefault(feed.listing.symbol, {})[feed] = None
        elif isinstance(feed, MbpFeed) is not feed_socket and family is Family.SPOT:
            raise BadTopic("invalid topic")
        acknowledge()
        greeting = feed.greeting(now_ms)
        feed.subscribers[subscriber] = None
        if greeting is not None:
            subscriber.deliver(greeting)
        return key

    def unsubscribe(self, key: FeedKey, subscriber: Subscriber) -> None:
        feed = self._feeds.get(key)
        if feed is None:
            return
        feed.subscribers.pop(subscriber, None)
        if not feed.subscribers:
            del self._feeds[key]
            self._by_market[feed.listing.symbol].pop(feed)

    def snapshot(self, topic: str) -> str:
        """The body of the answer to a `req` on `/feed`. Raises `BadTopic`."""
        known = self._feeds.get((Family.SPOT, topic, False))
        feed = known or self._made(Family.SPOT, topic, True, False)
        if not isinstance(feed, MbpFeed):
            raise BadTopic("invalid topic")
        return feed.snapshot()

    def listing_of(self, family: Family, topic: str) -> tuple[Listing, str]:
        found = _TOPIC.fullmatch(topic)
        if found is None:
            raise BadTopic(f"invalid topic {topic}")
        listing = self._catalogue.find(family, found[1])
        if listing is None:
            if found[2].startswith("mbp."):
                raise BadTopic(f"invalid {found[2]}.symbol {found[1]}")
            raise BadTopic(f"invalid symbol {found[1]}")
        return listing, found[2]

    def _made(self, family: Family, topic: str, feed_socket: bool, incremental: bool) -> Feed:
        listing, channel = self.listing_of(family, topic)
        increments = _MBP.fullmatch(channel)
        if increments is not None and family is Family.SPOT:
            if not feed_socket:
                raise BadTopic(f"invalid topic {topic}: mbp increments are on /feed")
            levels = int(increments[1])
            if levels == 10 or (levels == 20 and listing.native not in TWENTY_LEVELS):
                raise BadTopic(f"invalid {channel}.symbol {listing.native}")
            return MbpFeed(topic, listing, self._engine, levels, self._limits.snapshot_lag)
        if feed_socket:
            raise BadTopic(f"invalid topic {topic}")
        feed = self._spot(listing, topic, channel) if family is Family.SPOT else None
        if feed is None and family is not Family.SPOT:
            feed = self._contract(listing, topic, channel, incremental)
        if feed is None:
            raise BadTopic(f"invalid topic {topic}")
        return feed

    def _common(self, listing: Listing, topic: str, channel: str) -> Feed | None:
        if channel == "bbo":
            return BboFeed(topic, listing, self._engine)
        if channel == "trade.detail":
            return TradeFeed(topic, listing, self._engine)
        if channel == "detail":
            return DetailFeed(topic, listing, self._engine, self.days)
        return None

    def _spot(self, listing: Listing, topic: str, channel: str) -> Feed | None:
        refresh, step = _REFRESH.fullmatch(channel), _STEP.fullmatch(channel)
        if refresh is not None:
            return DepthFeed(topic, listing, self._engine, int(refresh[1]), 100)
        if step is not None and int(step[1]) <= 5:
            return DepthFeed(topic, listing, self._engine, 20 if int(step[1]) else 150, 1000, step=int(step[1]))
        if channel == "ticker":
            return DetailFeed(topic, listing, self._engine, self.days)
        return self._common(listing, topic, channel)

    def _contract(self, listing: Listing, topic: str, channel: str, incremental: bool) -> Feed | None:
        fast, step = _HIGH_FREQ.fullmatch(channel), _STEP.fullmatch(channel)
        if fast is not None:
            version = self._random.randrange(1_000_000, 300_000_000)
            return HighFreqFeed(topic, listing, self._engine, int(fast[1]), incremental=incremental, version=version)
        if step is not None and int(step[1]) in (0, 6):
            return DepthFeed(topic, listing, self._engine, _CONTRACT_STEPS[int(step[1])], 100, step=0)
        return self._common(listing, topic, channel)

    def heard(self, event: EngineEvent, now_ms: int) -> None:
        if isinstance(event, BookChange):
            for feed in list(self._by_market.get(event.market, ())):
                feed.book(event, now_ms)
        elif isinstance(event, PublicTrade):
            self.days.heard(self._catalogue.of_symbol(event.market), event)
            for feed in self._by_market.get(event.market, ()):
                feed.trade(event)

    def tick(self, now_ms: int) -> None:
        for feed in list(self._feeds.values()):
            feed.tick(now_ms)
