"""The market channels of Advanced Trade: what happens to a product, serialised once for all who subscribed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Protocol

from astra.sandbox import BookChange, EngineEvent, Exchange, PublicTrade
from astra.sandbox.toolkit import plain, text_of
from astra_coinbase.sandbox.catalogue import Listing
from astra_coinbase.sandbox.products import trade_row
from astra_coinbase.sandbox.wire import iso_ms

BOOK_MS = 50
TRADES_MS = 250
TICKER_BATCH_MS = 5000
WHOLE_BOOK = 10**9
SNAPSHOT_TRADES = 100
ZERO = Decimal(0)

LEVEL2, TRADES, TICKER, TICKER_BATCH = "level2", "market_trades", "ticker", "ticker_batch"
CHANNELS = (LEVEL2, TRADES, TICKER, TICKER_BATCH)


class Subscriber(Protocol):
    """A connection: it numbers what it sends."""

    def deliver(self, channel: str, events: str) -> None:
        """`events`: JSON text of the list of events."""
        ...


class Feed:
    """One channel of one product."""

    interval_ms = 0

    def __init__(self, listing: Listing, engine: Exchange) -> None:
        self.listing = listing
        self.engine = engine
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, channel: str, events: str) -> None:
        for subscriber in list(self.subscribers):
            subscriber.deliver(channel, events)

    def join(self, subscriber: Subscriber, now_ms: int) -> None:
        """Subscribe: what is held back goes out first, so that the newcomer's snapshot is all he needs."""
        self.flush(now_ms)
        self.snapshot(subscriber, now_ms)
        self.subscribers[subscriber] = None

    def snapshot(self, subscriber: Subscriber, now_ms: int) -> None:
        """Send the newcomer where things stand."""

    def book(self, change: BookChange) -> bool:
        """The book changed. True: there is something to flush."""
        return False

    def trade(self, trade: PublicTrade, now_ms: int) -> bool:
        """A trade happened. True: there is something to flush."""
        return False

    def flush(self, now_ms: int) -> None:
        """Send what was held back."""


class BookFeed(Feed):
    """`level2`, told on channel `l2_data`: the whole book, then every 50 ms the levels that changed.

    A level that came and went within the 50 ms is told as a delete of something that nobody holds.
    """

    interval_ms = BOOK_MS

    def __init__(self, listing: Listing, engine: Exchange) -> None:
        super().__init__(listing, engine)
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._time = 0

    def snapshot(self, subscriber: Subscriber, now_ms: int) -> None:
        _, bids, asks = self.engine.depth(self.listing.symbol, WHOLE_BOOK)
        pairs = ((level.price, level.quantity) for level in bids), ((level.price, level.quantity) for level in asks)
        subscriber.deliver("l2_data", self._event("snapshot", *pairs, now_ms))

    def book(self, change: BookChange) -> bool:
        for amount in change.bids:
            self._bids[amount.price] = amount.quantity
        for amount in change.asks:
            self._asks[amount.price] = amount.quantity
        self._time = change.time
        return True

    def flush(self, now_ms: int) -> None:
        if not self._bids and not self._asks:
            return
        events = self._event("update", sorted(self._bids.items(), reverse=True), sorted(self._asks.items()), self._time)
        self._bids, self._asks = {}, {}
        self.publish("l2_data", events)

    def _event(
        self,
        kind: str,
        bids: Iterable[tuple[Decimal, Decimal]],
        asks: Iterable[tuple[Decimal, Decimal]],
        time_ms: int,
    ) -> str:
        time = iso_ms(time_ms)
        rows = [
            f'{{"side":"{side}","event_time":"{time}","price_level":"{plain(price)}","new_quantity":"{plain(quantity)}"}}'
            for side, levels in (("bid", bids), ("offer", asks))
            for price, quantity in levels
        ]
        return f'[{{"type":"{kind}","product_id":"{self.listing.native}","updates":[{",".join(rows)}]}}]'


class TradeFeed(Feed):
    """`market_trades`: the last hundred, then batches of 250 ms, newest first in both."""

    interval_ms = TRADES_MS

    def __init__(self, listing: Listing, engine: Exchange) -> None:
        super().__init__(listing, engine)
        self._batch: list[PublicTrade] = []

    def snapshot(self, subscriber: Subscriber, now_ms: int) -> None:
        trades = self.engine.trades(self.listing.symbol, limit=SNAPSHOT_TRADES)
        subscriber.deliver(TRADES, self._event("snapshot", trades))

    def trade(self, trade: PublicTrade, now_ms: int) -> bool:
        self._batch.append(trade)
        return True

    def flush(self, now_ms: int) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self.publish(TRADES, self._event("update", batch))

    def _event(self, kind: str, trades: Iterable[PublicTrade]) -> str:
        rows = [trade_row(self.listing.native, self.listing, trade) for trade in trades]
        return text_of([{"type": kind, "trades": rows[::-1]}])


class TickerFeed(Feed):
    """`ticker`: told at every match, with the best prices; `ticker_batch`: every 5 s at most, without them."""

    def __init__(self, listing: Listing, engine: Exchange, *, batch: bool) -> None:
        super().__init__(listing, engine)
        self._batch = batch
        self.interval_ms = TICKER_BATCH_MS if batch else BOOK_MS
        self._pending = False

    @property
    def _channel(self) -> str:
        return TICKER_BATCH if self._batch else TICKER

    def snapshot(self, subscriber: Subscriber, now_ms: int) -> None:
        subscriber.deliver(self._channel, self._event("snapshot"))

    def trade(self, trade: PublicTrade, now_ms: int) -> bool:
        self._pending = True
        return True

    def flush(self, now_ms: int) -> None:
        if self._pending:
            self._pending = False
            self.publish(self._channel, self._event("update"))

    def _event(self, kind: str) -> str:
        trades = self.engine.trades(self.listing.symbol, limit=1000)
        prices = [trade.price for trade in trades] or [self.engine.mark_price(self.listing.symbol)]
        row = {
            "type": "ticker",
            "product_id": self.listing.native,
            "price": plain(prices[-1]),
            "volume_24_h": plain(sum((trade.quantity for trade in trades), ZERO)),
            "low_24_h": plain(min(prices)),
            "high_24_h": plain(max(prices)),
            "low_52_w": plain(min(prices)),
            "high_52_w": plain(max(prices)),
            "price_percent_chg_24_h": plain(((prices[-1] / prices[0] - 1) * 100).quantize(Decimal("1E-8"))),
        }
        if not self._batch:
            _, bids, asks = self.engine.depth(self.listing.symbol, 1)
            for name, best in (("bid", bids), ("ask", asks)):
                row[f"best_{name}"] = plain(best[0].price) if best else ""
                row[f"best_{name}_quantity"] = plain(best[0].quantity) if best else ""
        return text_of([{"type": kind, "tickers": [row]}])


class Hub:
    """All market channels of Advanced Trade, and what they hold back."""

    def __init__(self, engine: Exchange, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ms = now_ms
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._by_market: dict[str, dict[Feed, None]] = {}
        self._pending: dict[int, dict[Feed, None]] = {}
        self._due: dict[int, int] = {}

    def join(self, channel: str, listing: Listing, subscriber: Subscriber) -> None:
        key = (channel, listing.symbol)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._make(channel, listing)
            self._by_market.setdefault(listing.symbol, {})[feed] = None
        feed.join(subscriber, self._now_ms())

    def leave(self, channel: str, listing: Listing, subscriber: Subscriber) -> None:
        feed = self._feeds.get((channel, listing.symbol))
        if feed is None:
            return
        feed.subscribers.pop(subscriber, None)
        if not feed.subscribers:
            del self._feeds[channel, listing.symbol]
            del self._by_market[listing.symbol][feed]
            self._pending.get(feed.interval_ms, {}).pop(feed, None)

    def _make(self, channel: str, listing: Listing) -> Feed:
        if channel == LEVEL2:
            return BookFeed(listing, self._engine)
        if channel == TRADES:
            return TradeFeed(listing, self._engine)
        return TickerFeed(listing, self._engine, batch=channel == TICKER_BATCH)

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if not isinstance(event, BookChange | PublicTrade):
            return
        concerned = self._by_market.get(event.market)
        if not concerned:
            return
        now_ms = self._now_ms()
        for feed in concerned:
            waits = feed.book(event) if isinstance(event, BookChange) else feed.trade(event, now_ms)
            if waits:
                self._hold(feed, now_ms)

    def _hold(self, feed: Feed, now_ms: int) -> None:
        waiting = self._pending.setdefault(feed.interval_ms, {})
        if not waiting:
            self._due[feed.interval_ms] = (now_ms // feed.interval_ms + 1) * feed.interval_ms
        waiting[feed] = None

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        for interval, waiting in self._pending.items():
            if waiting and now_ms >= self._due[interval]:
                self._pending[interval] = {}
                for feed in waiting:
                    feed.flush(now_ms)
