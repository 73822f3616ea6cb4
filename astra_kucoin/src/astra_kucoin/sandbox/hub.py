"""Which feeds run: made when the first client subscribes, dropped when the last one leaves."""

from __future__ import annotations

from collections.abc import Callable

from astra.sandbox import BookChange, Exchange, PublicTrade
from astra_kucoin.sandbox.catalogue import Catalogue, Listing
from astra_kucoin.sandbox.feeds import (
    ClassicDepth,
    ClassicLevel1,
    ClassicTicker,
    Feed,
    FuturesLevel2,
    FuturesMatch,
    Instrument,
    SpotLevel2,
    SpotMatch,
    Subscriber,
    UnifiedDepth,
    UnifiedIncrement,
    UnifiedRaw,
    UnifiedTicker,
    UnifiedTrade,
)
from astra_kucoin.sandbox.limits import SandboxLimits
from astra_kucoin.sandbox.wire import FUTURES, SPOT

_SPOT_TOPICS: dict[str, type[Feed] | int] = {
    "/market/level2": SpotLevel2,
    "/market/match": SpotMatch,
    "/market/ticker": ClassicTicker,
    "/spotMarket/level1": ClassicLevel1,
    "/spotMarket/level2Depth5": 5,
    "/spotMarket/level2Depth50": 50,
}
_FUTURES_TOPICS: dict[str, type[Feed] | int] = {
    "/contractMarket/level2": FuturesLevel2,
    "/contractMarket/execution": FuturesMatch,
    "/contractMarket/tickerV2": ClassicTicker,
    "/contractMarket/level2Depth5": 5,
    "/contractMarket/level2Depth50": 50,
    "/contract/instrument": Instrument,
}
CLASSIC_TOPICS = {SPOT: _SPOT_TOPICS, FUTURES: _FUTURES_TOPICS}
UNIFIED_CHANNELS = ("obu", "trade", "ticker")
DEPTHS = ("1", "5", "50", "increment", "increment@10ms")

FeedKey = tuple[str, ...]


class Hub:
    """All market streams of all sockets."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, limits: SandboxLimits, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._limits = limits
        self._now_ms = now_ms
        self._feeds: dict[FeedKey, Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}
        self._held: dict[Feed, int] = {}
        """Feed -> when it is to be flushed next."""

    # --- subscriptions ---

    def join_classic(self, product: str, path: str, native: str, subscriber: Subscriber) -> FeedKey | None:
        """Subscribe to `path:native`; None: no such market, which the venue does not say."""
        key = ("classic", product, path, native)
        listing = self._catalogue.find(product, native)
        return None if listing is None else self._join(key, listing, subscriber)

    def join_unified(
        self, product: str, channel: str, native: str, depth: str, subscriber: Subscriber
    ) -> FeedKey | None:
        key = ("unified", product, channel, native, depth)
        listing = self._catalogue.find(product, native)
        return None if listing is None else self._join(key, listing, subscriber)

    def _join(self, key: FeedKey, listing: Listing, subscriber: Subscriber) -> FeedKey:
        now_ms = self._now_ms()
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._make(key, listing)
            self._by_market.setdefault(listing.symbol, {})[feed] = None
        feed.join(subscriber, now_ms)
        if feed.restless:
            self._hold(feed, now_ms)
        return key

    def _make(self, key: FeedKey, listing: Listing) -> Feed:
        engine, catalogue = self._engine, self._catalogue
        if key[0] == "classic":
            topic, made = f"{key[2]}:{key[3]}", CLASSIC_TOPICS[key[1]][key[2]]
            if isinstance(made, int):
                return ClassicDepth(topic, listing, engine, catalogue, made)
            return made(topic, listing, engine, catalogue)
        topic, depth = f"{key[2]}.{key[1].upper()}", key[4]
        if key[2] == "trade":
            return UnifiedTrade(topic, listing, engine, catalogue)
        if key[2] == "ticker":
            return UnifiedTicker(topic, listing, engine, catalogue)
        if depth == "increment":
            return UnifiedRaw(topic, listing, engine, catalogue)
        if depth == "increment@10ms":
            return UnifiedIncrement(topic, listing, engine, catalogue, self._limits.snapshot_delay_ms)
        return UnifiedDepth(topic, listing, engine, catalogue, int(depth))

    def leave(self, key: FeedKey, subscriber: Subscriber) -> None:
        feed = self._feeds[key]
        feed.leave(subscriber)
        if not feed.subscribers:
            del self._feeds[key]
            self._held.pop(feed, None)
            concerned = self._by_market[feed.listing.symbol]
            del concerned[feed]
            if not concerned:
                del self._by_market[feed.listing.symbol]

    # --- events ---

    def changed(self, event: BookChange) -> None:
        """Number the change, whether or not anybody listens, and tell."""
        change = self._catalogue.of_symbol(event.market).sequences.number(event)
        concerned = self._by_market.get(event.market)
        if concerned is not None:
            now_ms = self._now_ms()
            for feed in concerned:
                if feed.book(change, now_ms):
                    self._hold(feed, now_ms)

    def traded(self, trade: PublicTrade) -> None:
        concerned = self._by_market.get(trade.market)
        if concerned is not None:
            now_ms = self._now_ms()
            for feed in concerned:
                feed.trade(trade, now_ms)

    def _hold(self, feed: Feed, now_ms: int) -> None:
        if feed not in self._held:
            self._held[feed] = (now_ms // feed.interval_ms + 1) * feed.interval_ms

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        due = [feed for feed, time in self._held.items() if now_ms >= time]
        for feed in due:
            del self._held[feed]
            feed.flush(now_ms)
            if feed.restless:
                self._hold(feed, now_ms)
