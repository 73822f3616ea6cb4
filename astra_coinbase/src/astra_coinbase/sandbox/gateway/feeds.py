"""The gateway's market channels: books with their chain of change ids, trades, tickers, quotes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from astra.sandbox import BookChange, EngineEvent, Exchange, PublicTrade
from astra.sandbox.toolkit import text_of
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.gateway.calls import number
from astra_coinbase.sandbox.gateway.market import GatewayMarket, kind_of

INTERVALS = {"raw": 0, "100ms": 100, "agg2": 1000}
GROUPED_DEPTHS = ("1", "10", "20")
WHOLE_BOOK = 10**9

Levels = dict[Decimal, Decimal]


class Subscriber(Protocol):
    def deliver(self, frame: str) -> None: ...


def notification(channel: str, data: Any) -> str:
    """A frame of a subscription."""
    return text_of({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}})


class Feed:
    """A channel by name."""

    def __init__(self, name: str, interval_ms: int, listings: list[Listing]) -> None:
        self.name = name
        self.interval_ms = interval_ms
        self.listings = {listing.symbol: listing for listing in listings}
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, data: Any) -> None:
        frame = notification(self.name, data)
        for subscriber in list(self.subscribers):
            subscriber.deliver(frame)

    def join(self, subscriber: Subscriber, now_ms: int) -> None:
        """Subscribe: what is held back goes out first, so that the newcomer's snapshot is all he needs."""
        self.flush(now_ms)
        state = self.snapshot(now_ms)
        if state is not None:
            subscriber.deliver(notification(self.name, state))
        self.subscribers[subscriber] = None

    def snapshot(self, now_ms: int) -> Any:
        """What a newcomer is told first; None: nothing."""
        return None

    def book(self, change: BookChange) -> bool:
        """The book changed. True: there is something to flush."""
        return False

    def trade(self, trade: PublicTrade) -> bool:
        """A trade happened. True: there is something to flush."""
        return False

    def flush(self, now_ms: int) -> None:
        """Send what was held back."""


class BookFeed(Feed):
    """`book.{instrument}.{raw|100ms|agg2}`: a snapshot, then changes.

    1. A change names in `prev_change_id` the `change_id` of the frame before it.
    2. `new` is a price that was not there, `change` one that was, `delete` (amount 0) one that is no more.
    3. What nets to nothing within the interval is not told, and its ids are passed over.
    """

    def __init__(self, name: str, interval_ms: int, listing: Listing, engine: Exchange) -> None:
        super().__init__(name, interval_ms, [listing])
        self._listing = listing
        change_id, bids, asks = engine.depth(listing.symbol, WHOLE_BOOK)
        self._known: tuple[Levels, Levels] = (
            {level.price: level.quantity for level in bids},
            {level.price: level.quantity for level in asks},
        )
        self._changed: tuple[Levels, Levels] = ({}, {})
        self._told = self._latest = change_id
        self._time: int | None = None

    def snapshot(self, now_ms: int) -> Any:
        bids, asks = self._known
        rows = [
            [["new", number(price), self._amount(levels[price])] for price in sorted(levels, reverse=is_bid)]
            for levels, is_bid in ((bids, True), (asks, False))
        ]
        return {
            "type": "snapshot",
            "timestamp": self._time or now_ms,
            "instrument_name": self._listing.native,
            "change_id": self._listing.update_id(self._told),
            "bids": rows[0],
            "asks": rows[1],
        }

    def _amount(self, quantity: Decimal) -> float:
        return number(self._listing.amount(quantity))

    def book(self, change: BookChange) -> bool:
        for changed, amounts in zip(self._changed, (change.bids, change.asks), strict=True):
            for amount in amounts:
                changed[amount.price] = amount.quantity
        self._latest, self._time = change.id, change.time
        return True

    def flush(self, now_ms: int) -> None:
        rows = [self._rows(*sides) for sides in zip(self._known, self._changed, (True, False), strict=True)]
        self._changed = ({}, {})
        if not rows[0] and not rows[1]:
            return
        before, self._told = self._told, self._latest
        self.publish(
            {
                "type": "change",
                "timestamp": self._time or now_ms,
                "prev_change_id": self._listing.update_id(before),
                "instrument_name": self._listing.native,
                "change_id": self._listing.update_id(self._told),
                "bids": rows[0],
                "asks": rows[1],
            }
        )

    def _rows(self, known: Levels, changed: Levels, is_bid: bool) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for price in sorted(changed, reverse=is_bid):
            quantity, held = changed[price], known.get(price)
            if not quantity:
                if held is not None:
                    del known[price]
                    rows.append(["delete", number(price), 0.0])
            elif quantity != held:
                rows.append(["new" if held is None else "change", number(price), self._amount(quantity)])
                known[price] = quantity
        return rows


class GroupedBookFeed(Feed):
    """`book.{instrument}.none.{depth}.{interval}`: the best levels, whole, whenever something changed."""

    def __init__(self, name: str, interval_ms: int, listing: Listing, engine: Exchange, depth: int) -> None:
        super().__init__(name, interval_ms, [listing])
        self._listing = listing
        self._engine = engine
        self._depth = depth
        self._pending = False

    def snapshot(self, now_ms: int) -> Any:
        change_id, bids, asks = self._engine.depth(self._listing.symbol, self._depth)
        rows = [
            [[number(level.price), number(self._listing.amount(level.quantity))] for level in side]
            for side in (bids, asks)
        ]
        return {
            "timestamp": now_ms,
            "instrument_name": self._listing.native,
            "change_id": self._listing.update_id(change_id),
            "bids": rows[0],
            "asks": rows[1],
        }

    def book(self, change: BookChange) -> bool:
        self._pending = True
        return True

    def flush(self, now_ms: int) -> None:
        if self._pending:
            self._pending = False
            self.publish(self.snapshot(now_ms))


class TradeFeed(Feed):
    """`trades.{instrument}.{interval}` and `trades.{kind}.{currency}.{interval}`: oldest first."""

    def __init__(self, name: str, interval_ms: int, listings: list[Listing], market: GatewayMarket) -> None:
        super().__init__(name, interval_ms, listings)
        self._market = market
        self._batch: list[PublicTrade] = []

    def trade(self, trade: PublicTrade) -> bool:
        self._batch.append(trade)
        return True

    def flush(self, now_ms: int) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self.publish([self._market.trade_row(self.listings[trade.market], trade) for trade in batch])


class TickerFeed(Feed):
    """`ticker.{instrument}.{interval}` and `quote.{instrument}`: after every change."""

    def __init__(self, name: str, interval_ms: int, listing: Listing, market: GatewayMarket) -> None:
        super().__init__(name, interval_ms, [listing])
        self._listing = listing
        self._market = market
        self._last: dict[str, Any] = {}

    def snapshot(self, now_ms: int) -> Any:
        if self.name.startswith("ticker."):
            return self._market.ticker(self._listing, now_ms)
        return {"timestamp": now_ms, "instrument_name": self._listing.native} | self._market.best(self._listing)

    def book(self, change: BookChange) -> bool:
        return True

    def flush(self, now_ms: int) -> None:
        row = self.snapshot(now_ms)
        compared = {name: value for name, value in row.items() if name != "timestamp"}
        if compared != self._last and self.subscribers:
            self._last = compared
            self.publish(row)


class GatewayHub:
    """From channel names to feeds, and from engine events to the feeds that they concern."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, market: GatewayMarket, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._market = market
        self._now_ms = now_ms
        self._feeds: dict[str, Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}
        self._pending: dict[Feed, int] = {}

    def join(self, name: str, subscriber: Subscriber, *, private: bool) -> bool:
        """False: there is no such channel on this socket."""
        feed = self._feeds.get(name) or self._make(name)
        if feed is None or (not feed.interval_ms and not private and not name.startswith("quote.")):
            return False
        if name not in self._feeds:
            self._feeds[name] = feed
            for symbol in feed.listings:
                self._by_market.setdefault(symbol, {})[feed] = None
        feed.join(subscriber, self._now_ms())
        return True

    def leave(self, name: str, subscriber: Subscriber) -> None:
        feed = self._feeds.get(name)
        if feed is None:
            return
        feed.subscribers.pop(subscriber, None)
        if not feed.subscribers:
            del self._feeds[name]
            self._pending.pop(feed, None)
            for symbol in feed.listings:
                del self._by_market[symbol][feed]

    def _make(self, name: str) -> Feed | None:
        kind, *rest = name.split(".")
        if kind == "quote" and len(rest) == 1:
            listing = self._catalogue.instrument(rest[0])
            return None if listing is None else TickerFeed(name, 0, listing, self._market)
        interval = INTERVALS.get(rest[-1]) if rest else None
        if interval is None or len(rest) < 2:
            return None
        if kind == "trades" and len(rest) == 3:
            listings = [
                listing
                for listing in self._catalogue.instruments()
                if rest[0] in ("any", kind_of(listing)) and rest[1] in ("any", listing.settlement)
            ]
            return TradeFeed(name, interval, listings, self._market) if listings else None
        listing = self._catalogue.instrument(rest[0])
        if listing is None:
            return None
        if kind == "book" and len(rest) == 4 and rest[1] == "none" and rest[2] in GROUPED_DEPTHS:
            return GroupedBookFeed(name, interval, listing, self._engine, int(rest[2]))
        if len(rest) != 2:
            return None
        if kind == "book":
            return BookFeed(name, interval, listing, self._engine)
        if kind == "trades":
            return TradeFeed(name, interval, [listing], self._market)
        return TickerFeed(name, interval, listing, self._market) if kind == "ticker" else None

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if not isinstance(event, BookChange | PublicTrade):
            return
        concerned = self._by_market.get(event.market)
        if not concerned:
            return
        now_ms = self._now_ms()
        for feed in concerned:
            waits = feed.book(event) if isinstance(event, BookChange) else feed.trade(event)
            if not waits:
                continue
            if not feed.interval_ms:
                feed.flush(now_ms)
            elif feed not in self._pending:
                self._pending[feed] = (now_ms // feed.interval_ms + 1) * feed.interval_ms

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        for feed in [feed for feed, due in self._pending.items() if now_ms >= due]:
            del self._pending[feed]
            feed.flush(now_ms)
