"""From stream names to feeds, and from engine events to the feeds that they concern."""

from __future__ import annotations

import re
from collections.abc import Callable

from astra.sandbox import BookChange, EngineEvent, Exchange, PublicTrade
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.feeds import (
    AggregateFeed,
    BookTickerFeed,
    DiffFeed,
    Feed,
    MarkPriceFeed,
    PartialFeed,
    Subscriber,
    TradeFeed,
)
from astra_binance.sandbox.tape import Aggregate, Tape
from astra_binance.sandbox.wire import Family

PUBLIC = "public"
MARKET = "market"
PRIVATE = "private"

_DEPTH = re.compile(r"depth(5|10|20)?(?:@(100|250|500|1000)ms)?")
_DEPTH_INTERVALS = {
    # (intervals that may be named, the one of a plain `@depth`)
    Family.SPOT: ((100, 1000), 1000),
    Family.USDM: ((100, 250, 500), 250),
    Family.COINM: ((100, 250, 500), 250),
    Family.OPTIONS: ((100, 500), 500),
}


def plane_of(family: Family, name: str) -> str | None:
    """The path that serves a stream where the family splits its host (USD-M and options); None where it does not."""
    if family not in (Family.USDM, Family.OPTIONS):
        return None
    channel = name.split("@")[1] if "@" in name else name
    public = ("depth", "rpiDepth", "bookTicker", "trade", "optionTrade", "optionTicker", "!bookTicker")
    return PUBLIC if channel.startswith(public) else MARKET


class Hub:
    """All market streams of all families."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, tape: Tape, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._tape = tape
        self._now_ms = now_ms
        self._feeds: dict[tuple[Family, str], Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}
        self._pending: dict[int, dict[Feed, None]] = {}
        self._due: dict[int, int] = {}
        self._clockwork: dict[Feed, int] = {}
        tape.on_complete = self._aggregated

    # --- subscriptions ---

    def join(self, family: Family, name: str, subscriber: Subscriber) -> None:
        """Subscribe; a name that means nothing to the venue is taken in silence, as the venue takes it."""
        feed = self._feeds.get((family, name))
        if feed is None:
            feed = self._make(family, name)
            if feed is None:
                return
            self._feeds[family, name] = feed
        feed.subscribers[subscriber] = None

    def leave(self, family: Family, name: str, subscriber: Subscriber) -> None:
        feed = self._feeds.get((family, name))
        if feed is None:
            return
        feed.subscribers.pop(subscriber, None)
        if not feed.subscribers:
            self._drop(family, feed)

    def _drop(self, family: Family, feed: Feed) -> None:
        del self._feeds[family, feed.name]
        self._clockwork.pop(feed, None)
        self._pending.get(feed.interval_ms, {}).pop(feed, None)
        for symbol in feed.markets:
            concerned = self._by_market[symbol]
            del concerned[feed]
            if not concerned:
                del self._by_market[symbol]

    def _make(self, family: Family, name: str) -> Feed | None:
        symbol, _, channel = name.partition("@")
        if channel == "optionTrade" and family is Family.OPTIONS:
            listings = [
                listing
                for listing in self._catalogue.all(family)
                if symbol in (listing.native.lower(), listing.underlying.lower())
            ]
            return self._attach(TradeFeed(name, listings), *listings) if listings else None
        listing = self._catalogue.of_stream(family, symbol)
        feed = None if listing is None else self._make_for(listing, name, channel)
        return None if feed is None or listing is None else self._attach(feed, listing)

    def _make_for(self, listing: Listing, name: str, channel: str) -> Feed | None:
        family = listing.family
        depth = _DEPTH.fullmatch(channel)
        if depth is not None:
            intervals, usual = _DEPTH_INTERVALS[family]
            interval = int(depth[2]) if depth[2] else usual
            if interval not in intervals:
                return None
            if depth[1] is None:
                return DiffFeed(name, listing, interval)
            return PartialFeed(name, listing, self._engine, int(depth[1]), interval)
        if channel == "bookTicker":
            return BookTickerFeed(name, listing, self._engine)
        if channel == "trade" and family in (Family.SPOT, Family.USDM):
            return TradeFeed(name, [listing])
        if channel == "aggTrade" and family is not Family.OPTIONS:
            return AggregateFeed(name, listing)
        if channel in ("markPrice", "markPrice@1s") and family.is_futures:
            return MarkPriceFeed(name, listing, self._engine, 1000 if channel.endswith("@1s") else 3000)
        return None

    def _attach(self, feed: Feed, *listings: Listing) -> Feed:
        for listing in listings:
            self._by_market.setdefault(listing.symbol, {})[feed] = None
        feed.markets = tuple(listing.symbol for listing in listings)
        if isinstance(feed, MarkPriceFeed):
            self._clockwork[feed] = 0
        return feed

    # --- events ---

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if isinstance(event, BookChange):
            concerned = self._by_market.get(event.market)
            if concerned is None:
                return
            now_ms = self._now_ms()
            for feed in concerned:
                if feed.book(event, now_ms):
                    self._hold(feed, now_ms)
        elif isinstance(event, PublicTrade):
            self._tape.add(event)
            concerned = self._by_market.get(event.market)
            if concerned is not None:
                now_ms = self._now_ms()
                for feed in concerned:
                    feed.trade(event, now_ms)

    def _aggregated(self, listing: Listing, aggregate: Aggregate) -> None:
        concerned = self._by_market.get(listing.symbol)
        if concerned is not None:
            for feed in concerned:
                feed.aggregate(aggregate, self._now_ms())

    def _hold(self, feed: Feed, now_ms: int) -> None:
        waiting = self._pending.setdefault(feed.interval_ms, {})
        if not waiting:
            self._due[feed.interval_ms] = (now_ms // feed.interval_ms + 1) * feed.interval_ms
        waiting[feed] = None

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        self._tape.settle(now_ms)
        for interval, waiting in self._pending.items():
            if waiting and now_ms >= self._due[interval]:
                self._pending[interval] = {}
                for feed in waiting:
                    feed.flush(now_ms)
        for feed, last in list(self._clockwork.items()):
            if now_ms // feed.interval_ms != last:
                self._clockwork[feed] = now_ms // feed.interval_ms
                feed.flush(now_ms)
