"""Spot's market data in the v2 stream: one feed a pair and channel, whose frames are written once for all."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Protocol

from astra.models.trades import Side
from astra.sandbox import Amount, BookChange, EngineEvent, Exchange, PublicTrade
from astra.sandbox.toolkit import fixed, plain, text_of
from astra_kraken.sandbox.catalogue import Catalogue, SpotListing, Statistics, stream_asset_row
from astra_kraken.sandbox.spot_public import taker_type
from astra_kraken.sandbox.wire import micros, number, raw, rounded

DEPTHS = (10, 25, 100, 500, 1000)
_CHECKED = 10
_SAID_TWICE = 32
"""Every so many updates one names its first price twice, as the venue now and then does."""
_TRADES_IN_SNAPSHOT = 50


class Subscriber(Protocol):
    """A connection that takes frames."""

    def deliver(self, frame: str) -> None: ...


class Feed:
    """A channel of a pair. Subclasses say what concerns it."""

    def __init__(self, listing: SpotListing) -> None:
        self.listing = listing
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, channel: str, kind: str, row: Any) -> None:
        frame = frame_of(channel, kind, row)
        for subscriber in list(self.subscribers):
            subscriber.deliver(frame)

    def snapshot(self) -> str | None:
        """The frame that a new subscriber gets first."""
        return None

    def book(self, change: BookChange) -> None:
        """The book changed; comes after the trades that changed it."""

    def trade(self, trade: PublicTrade) -> None:
        """A trade happened; a change of the book follows."""


def frame_of(channel: str, kind: str, rows: Any) -> str:
    return text_of({"channel": channel, "type": kind, "data": rows})


def checksum(listing: SpotListing, bids: Sequence[Amount], asks: Sequence[Amount]) -> int:
    """CRC-32 over the ten best asks, then the ten best bids: digits of price and quantity without points and leading
    zeros."""
    parts = []
    for side in (asks, bids):
        for amount in side[:_CHECKED]:
            parts.append(listing.price(amount.price).replace(".", "").lstrip("0"))
            parts.append(listing.volume(amount.quantity).replace(".", "").lstrip("0"))
    return zlib.crc32("".join(parts).encode())


class BookFeed(Feed):
    """`book`: the best levels as deltas. Levels that are pushed out of scope get no delete; those that come into
    scope are told in the message that lets them in."""

    def __init__(self, listing: SpotListing, engine: Exchange, depth: int, now_ms: Callable[[], int]) -> None:
        super().__init__(listing)
        self._engine = engine
        self._depth = depth
        self._now_ms = now_ms
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._updates = 0

    def look(self) -> tuple[Sequence[Amount], Sequence[Amount]]:
        """Take the engine's book as what subscribers have."""
        _, bids, asks = self._engine.depth(self.listing.id, self._depth)
        self._bids = {amount.price: amount.quantity for amount in bids}
        self._asks = {amount.price: amount.quantity for amount in asks}
        return bids, asks

    def snapshot(self) -> str:
        bids, asks = self.look()
        row = {
            "symbol": self.listing.symbol,
            "bids": [self._level(amount.price, amount.quantity) for amount in bids],
            "asks": [self._level(amount.price, amount.quantity) for amount in asks],
            "checksum": checksum(self.listing, bids, asks),
            "timestamp": micros(self._now_ms()),
        }
        return frame_of("book", "snapshot", [row])

    def _level(self, price: Decimal, quantity: Decimal) -> dict[str, Any]:
        return {"price": self.listing.price_number(price), "qty": self.listing.qty_number(quantity)}

    def book(self, change: BookChange) -> None:
        if not (self._concerned(change.bids, self._bids, -1) or self._concerned(change.asks, self._asks, 1)):
            return
        former_bids, former_asks = self._bids, self._asks
        bids, asks = self.look()
        rows = (self._delta(former_bids, self._bids, -1), self._delta(former_asks, self._asks, 1))
        if not any(rows):
            return
        self._updates += 1
        if self._updates % _SAID_TWICE == 0:
            self._say_twice(rows, (former_bids, former_asks))
        row = {
            "symbol": self.listing.symbol,
            "bids": [self._level(*level) for level in rows[0]],
            "asks": [self._level(*level) for level in rows[1]],
            "checksum": checksum(self.listing, bids, asks),
            "timestamp": micros(change.time),
        }
        self.publish("book", "update", [row])

    def _concerned(self, changed: Sequence[Amount], view: dict[Decimal, Decimal], sign: int) -> bool:
        if len(view) < self._depth:
            return bool(changed)
        worst = max(price * sign for price in view)
        return any(amount.price * sign <= worst for amount in changed)

    def _delta(
        self, former: dict[Decimal, Decimal], view: dict[Decimal, Decimal], sign: int
    ) -> list[tuple[Decimal, Decimal]]:
        worst = max((price * sign for price in view), default=None) if len(view) == self._depth else None
        gone = [(p, Decimal(0)) for p in former if p not in view and (worst is None or p * sign < worst)]
        return gone + [(price, quantity) for price, quantity in view.items() if former.get(price) != quantity]

    @staticmethod
    def _say_twice(rows: tuple[list[tuple[Decimal, Decimal]], ...], former: tuple[dict[Decimal, Decimal], ...]) -> None:
        for levels, before in zip(rows, former, strict=True):
            if levels and levels[0][0] in before:
                levels.insert(0, (levels[0][0], before[levels[0][0]]))


class TradeFeed(Feed):
    """`trade`: fills, those of one taker in one message."""

    def __init__(self, listing: SpotListing, engine: Exchange) -> None:
        super().__init__(listing)
        self._engine = engine
        self._held: list[PublicTrade] = []

    def snapshot(self) -> str:
        trades = self._engine.trades(self.listing.id, limit=_TRADES_IN_SNAPSHOT)
        return frame_of("trade", "snapshot", [self._row(trade) for trade in trades])

    def trade(self, trade: PublicTrade) -> None:
        self._held.append(trade)

    def book(self, change: BookChange) -> None:
        if self._held:
            held, self._held = self._held, []
            self.publish("trade", "update", [self._row(trade) for trade in held])

    def _row(self, trade: PublicTrade) -> dict[str, Any]:
        return {
            "symbol": self.listing.symbol,
            "side": "buy" if trade.side is Side.BUY else "sell",
            "price": self.listing.price_number(trade.price),
            "qty": self.listing.qty_number(trade.quantity),
            "ord_type": taker_type(trade),
            "trade_id": trade.id,
            "timestamp": micros(trade.time),
        }


class TickerFeed(Feed):
    """`ticker`: at every trade, or at every change of the best prices."""

    def __init__(
        self, listing: SpotListing, engine: Exchange, statistics: Statistics, now_ms: int, *, on_bbo: bool
    ) -> None:
        super().__init__(listing)
        self._engine = engine
        self._statistics = statistics
        self._on_bbo = on_bbo
        self._best: Any = None
        self._time = now_ms
        self._due = False

    def snapshot(self) -> str:
        return frame_of("ticker", "snapshot", [self._row()])

    def trade(self, trade: PublicTrade) -> None:
        self._due = not self._on_bbo
        self._time = trade.time

    def book(self, change: BookChange) -> None:
        self._time = change.time
        if self._on_bbo:
            _, bids, asks = self._engine.depth(self.listing.id, 1)
            best = (bids[:1], asks[:1])
            self._due = best != self._best
            self._best = best
        if self._due:
            self._due = False
            self.publish("ticker", "update", [self._row()])

    def _row(self) -> dict[str, Any]:
        listing = self.listing
        _, bids, asks = self._engine.depth(listing.id, 1)
        stats = self._statistics.of(listing.id)
        change = stats.last - stats.open
        per_cent = change / stats.open * 100 if stats.open else Decimal(0)
        row: dict[str, Any] = {"symbol": listing.symbol}
        for name, side in (("bid", bids), ("ask", asks)):
            row[name] = listing.price_number(side[0].price if side else Decimal(0))
            row[f"{name}_qty"] = listing.qty_number(side[0].quantity if side else Decimal(0))
        return row | {
            "last": listing.price_number(stats.last),
            "volume": number(stats.volume),
            "vwap": raw(plain(rounded(stats.average, max(5, listing.price_scale)))),
            "low": listing.price_number(stats.low),
            "high": listing.price_number(stats.high),
            "change": number(change),
            "change_pct": raw(fixed(per_cent, 2)),
            "timestamp": micros(self._time),
        }


class SpotHub:
    """All feeds, and who hears what."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, statistics: Statistics, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._statistics = statistics
        self._now_ms = now_ms
        self._feeds: dict[tuple[str, str, str | int], Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}

    def join(self, channel: str, listing: SpotListing, option: str | int, session: Subscriber) -> Feed:
        """Subscribe; whoever calls sends the snapshot if it was asked for."""
        key = (channel, listing.id, option)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._make(channel, listing, option)
            self._by_market.setdefault(listing.id, {})[feed] = None
            if isinstance(feed, BookFeed):
                feed.look()
        feed.subscribers[session] = None
        return feed

    def _make(self, channel: str, listing: SpotListing, option: str | int) -> Feed:
        if channel == "book":
            return BookFeed(listing, self._engine, int(option), self._now_ms)
        if channel == "trade":
            return TradeFeed(listing, self._engine)
        return TickerFeed(listing, self._engine, self._statistics, self._now_ms(), on_bbo=option == "bbo")

    def leave(self, channel: str, listing: SpotListing, option: str | int, session: Subscriber) -> None:
        key = (channel, listing.id, option)
        feed = self._feeds.get(key)
        if feed is not None:
            feed.subscribers.pop(session, None)
            if not feed.subscribers:
                del self._feeds[key]
                del self._by_market[listing.id][feed]

    def instruments(self, *, tokenized: bool, unified: bool) -> str:
        """The frame of the `instrument` channel: its data is an object. `unified`: of contracts."""
        listed = self._catalogue.unified if unified else self._catalogue.spot
        listings = [one for one in listed.values() if tokenized or unified or not one.tokenized]
        assets: dict[str, None] = {}
        for listing in listings:
            assets[listing.market.base_asset] = assets[listing.market.quote_asset] = None
        rows = {
            "assets": [stream_asset_row(asset) for asset in assets],
            "pairs": [self._catalogue.now(listing).stream_row() for listing in listings],
        }
        return frame_of("instrument", "snapshot", rows)

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if isinstance(event, BookChange):
            for feed in list(self._by_market.get(event.market, ())):
                feed.book(event)
        elif isinstance(event, PublicTrade):
            for feed in list(self._by_market.get(event.market, ())):
                feed.trade(event)
