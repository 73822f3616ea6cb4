"""From subscription arguments to feeds, and from engine events to the feeds that they concern."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from astra.sandbox import BookChange, EngineEvent, Exchange, PublicTrade
from astra.sandbox.toolkit import text_of
from astra_okx.sandbox.catalogue import Catalogue, Listing
from astra_okx.sandbox.feeds import (
    BookFeed,
    Feed,
    SingleTradeFeed,
    Subscriber,
    TickerFeed,
    TimedFeed,
    TopFeed,
    TradeFeed,
    ticker_row,
)
from astra_okx.sandbox.limits import SandboxLimits
from astra_okx.sandbox.market_rest import MarketData
from astra_okx.sandbox.wire import InstType

_BEAT_MS = 200


class Plane(Enum):
    """The three URLs of the venue."""

    PUBLIC = "public"
    PRIVATE = "private"
    BUSINESS = "business"


TICK_BY_TICK = ("books-l2-tbt", "books50-l2-tbt")
"""For logged-in users of a high fee tier."""
BY_INSTRUMENT = {
    Plane.PUBLIC: (
        "books",
        "books5",
        "bbo-tbt",
        "books-rpi",
        *TICK_BY_TICK,
        "trades",
        "tickers",
        "mark-price",
        "funding-rate",
        "open-interest",
        "price-limit",
    ),
    Plane.BUSINESS: ("trades-all",),
    Plane.PRIVATE: (),
}
SILENT = {
    Plane.PUBLIC: ("status", "liquidation-orders", "adl-warning"),
    Plane.BUSINESS: ("deposit-info", "withdrawal-info", "algo-advance"),
    Plane.PRIVATE: ("liquidation-warning", "account-greeks"),
}
"""Channels that are acknowledged, and have nothing to say here."""

_TIMED_MS = {"mark-price": 1000, "funding-rate": 30_000, "open-interest": 3000, "price-limit": 1000}


class InstrumentsFeed(Feed):
    """`instruments` of one product: the rows that changed, no list to begin with."""

    def __init__(self, arg: Mapping[str, str], kind: InstType) -> None:
        super().__init__(arg)
        self.kind = kind


class Hub:
    """All market channels."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, market_data: MarketData, limits: SandboxLimits) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._market_data = market_data
        self._limits = limits
        self._feeds: dict[str, Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}
        self._instruments: dict[InstrumentsFeed, None] = {}
        self._waiting: dict[int, dict[Feed, None]] = {}
        self._due: dict[int, int] = {}
        self._beat = 0

    # --- subscriptions ---

    def join(self, channel: str, listing: Listing, subscriber: Subscriber, now_ms: int) -> None:
        """Subscribe to a channel of an instrument; the first push is sent."""
        key = f"{channel}:{listing.native}"
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._make(channel, listing)
            self._by_market.setdefault(listing.symbol, {})[feed] = None
        feed.flush(now_ms)
        feed.subscribers[subscriber] = None
        feed.joined(subscriber, now_ms)

    def leave(self, channel: str, listing: Listing, subscriber: Subscriber) -> None:
        key = f"{channel}:{listing.native}"
        feed = self._feeds.get(key)
        if feed is None:
            return
        feed.subscribers.pop(subscriber, None)
        if not feed.subscribers:
            del self._feeds[key]
            self._waiting.get(feed.interval_ms, {}).pop(feed, None)
            concerned = self._by_market[listing.symbol]
            del concerned[feed]
            if not concerned:
                del self._by_market[listing.symbol]

    def join_instruments(self, kind: InstType, subscriber: Subscriber) -> None:
        key = f"instruments:{kind}"
        feed = self._feeds.get(key)
        if feed is None:
            feed = InstrumentsFeed({"channel": "instruments", "instType": kind.value}, kind)
            self._feeds[key] = feed
        assert isinstance(feed, InstrumentsFeed)
        self._instruments[feed] = None
        feed.subscribers[subscriber] = None

    def leave_instruments(self, kind: InstType, subscriber: Subscriber) -> None:
        feed = self._feeds.get(f"instruments:{kind}")
        if isinstance(feed, InstrumentsFeed):
            feed.subscribers.pop(subscriber, None)
            if not feed.subscribers:
                del self._feeds[f"instruments:{kind}"]
                del self._instruments[feed]

    def _make(self, channel: str, listing: Listing) -> Feed:
        arg, engine = {"channel": channel, "instId": listing.native}, self._engine
        limits = self._limits
        if channel == "books":
            return BookFeed(arg, listing, engine, limits=limits)
        if channel == "books-rpi":
            return BookFeed(arg, listing, engine, limits=limits, rank=4, rpi=True)
        if channel in TICK_BY_TICK:
            depth, rank = (400, 1) if channel == "books-l2-tbt" else (50, 2)
            return BookFeed(arg, listing, engine, limits=limits, depth=depth, interval_ms=10, rank=rank)
        if channel == "books5":
            return TopFeed(arg, listing, engine, depth=5, interval_ms=100, rank=5)
        if channel == "bbo-tbt":
            return TopFeed(arg, listing, engine, depth=1, interval_ms=0, rank=0)
        if channel == "trades":
            return TradeFeed(arg, listing)
        if channel == "trades-all":
            return SingleTradeFeed(arg, listing)
        if channel == "tickers":
            return TickerFeed(arg, listing, lambda one, now_ms: ticker_row(engine, self._catalogue, one, now_ms))
        return TimedFeed(arg, listing, self._market_data.rows_by_channel[channel], _TIMED_MS[channel])

    # --- events ---

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if isinstance(event, BookChange):
            concerned = self._by_market.get(event.market)
            if concerned is not None:
                for feed in concerned:
                    if feed.book(event):
                        self._hold(feed, event.time)
        elif isinstance(event, PublicTrade):
            self._catalogue.heard_trade(event)
            for feed in self._by_market.get(event.market, ()):
                feed.trade(event)

    def _hold(self, feed: Feed, now_ms: int) -> None:
        waiting = self._waiting.setdefault(feed.interval_ms, {})
        if not waiting:
            self._due[feed.interval_ms] = (now_ms // feed.interval_ms + 1) * feed.interval_ms
        waiting[feed] = None

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        due: list[Feed] = []
        for interval, waiting in self._waiting.items():
            if waiting and now_ms >= self._due[interval]:
                self._waiting[interval] = {}
                due.extend(waiting)
        for feed in sorted(due, key=lambda feed: feed.rank):
            feed.flush(now_ms)
        if now_ms // _BEAT_MS != self._beat:
            self._beat = now_ms // _BEAT_MS
            for feed in list(self._feeds.values()):
                feed.beat(now_ms)
            self._tell_instruments()

    def _tell_instruments(self) -> None:
        changed = self._catalogue.refresh()
        for listing in changed:
            for feed in self._instruments:
                if feed.kind is listing.type:
                    feed.publish(text_of(listing.row()))
