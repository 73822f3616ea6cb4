"""Market data of the derivatives stream: whole books by sequence number, trades, tickers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from astra.models.trades import Side
from astra.sandbox import BookChange, EngineEvent, Exchange, PublicTrade
from astra.sandbox.toolkit import plain, text_of
from astra.symbols import AssetType
from astra_kraken.sandbox.catalogue import Catalogue, DerivativesListing, Statistics
from astra_kraken.sandbox.derivatives_public import HOUR_MS, WHOLE_BOOK, funding_rate, trade_uid
from astra_kraken.sandbox.wire import number, raw, rounded

PUBLIC_FEEDS = ("book", "trade", "ticker", "ticker_lite")
_TRADES_IN_SNAPSHOT = 100
_TICKER_EVERY_MS = 1000
_CHANGES_KEPT = 1024


class Subscriber(Protocol):
    """A connection that takes frames."""

    def deliver(self, frame: str) -> None: ...


class _Numbers:
    """The sequence numbers of a book: one a level that changed, so that a change of the engine is several."""

    def __init__(self, change_id: int, first: int) -> None:
        self.last = first
        self._ends: deque[tuple[int, int]] = deque([(change_id, first)], maxlen=_CHANGES_KEPT)

    def next(self, change_id: int, count: int) -> int:
        """Number the levels of a change; gives the number of its first level."""
        first = self.last + 1
        self.last += count
        self._ends.append((change_id, self.last))
        return first

    def update_id(self, change_id: int) -> int:
        for change, end in reversed(self._ends):
            if change == change_id:
                return end
        raise LookupError(f"change {change_id} is not known any more")

    def change_id(self, update_id: int) -> int:
        for change, end in reversed(self._ends):
            if end == update_id:
                return change
        raise LookupError(f"no change ends with sequence number {update_id}")


class DerivativesHub:
    """Who hears what, and the numbers of all books."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, statistics: Statistics, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._statistics = statistics
        self._now_ms = now_ms
        self._numbers: dict[str, _Numbers] = {}
        self._subscribers: dict[tuple[str, str], dict[Subscriber, None]] = {}
        """(feed, Astra symbol) -> connections."""
        self._changed: dict[str, None] = {}
        """Markets whose tickers are due."""
        self._ticked_ms = 0
        for listing in catalogue.derivatives.values():
            change_id, _, _ = engine.depth(listing.id, 1)
            self._numbers[listing.id] = _Numbers(change_id, 1_000_000 + listing.index * 7919 + change_id % 1000)

    def update_id(self, symbol: str, change_id: int) -> int:
        """The `seq` that a book has after the engine's change."""
        return self._numbers[symbol].update_id(change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change whose last level has that `seq`. `LookupError` within a change."""
        return self._numbers[symbol].change_id(update_id)

    # --- subscribing ---

    def join(self, feed: str, listing: DerivativesListing, session: Subscriber) -> None:
        """Subscribe, and send what the feed begins with."""
        self._subscribers.setdefault((feed, listing.id), {})[session] = None
        if feed == "book":
            session.deliver(self._book_snapshot(listing))
        elif feed == "trade":
            trades = self._engine.trades(listing.id, limit=_TRADES_IN_SNAPSHOT)
            rows = [self._trade(listing, trade) for trade in reversed(trades)]
            session.deliver(text_of({"feed": "trade_snapshot", "product_id": listing.native, "trades": rows}))
        else:
            session.deliver(self._ticker(feed, listing))

    def leave(self, feed: str, listing: DerivativesListing, session: Subscriber) -> None:
        subscribers = self._subscribers.get((feed, listing.id))
        if subscribers is not None:
            subscribers.pop(session, None)
            if not subscribers:
                del self._subscribers[feed, listing.id]

    def _publish(self, feed: str, symbol: str, frame: str) -> None:
        for session in list(self._subscribers.get((feed, symbol), ())):
            session.deliver(frame)

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, BookChange) and event.market in self._numbers:
            self._book_changed(event)
        elif isinstance(event, PublicTrade) and event.market in self._numbers:
            self._changed[event.market] = None
            if ("trade", event.market) in self._subscribers:
                listing = self._catalogue.derivatives[event.market]
                self._publish("trade", event.market, text_of(self._trade(listing, event)))

    def _book_changed(self, change: BookChange) -> None:
        """One frame a level; levels that go first, so that no frame leaves a crossed book."""
        seq = self._numbers[change.market].next(change.id, len(change.bids) + len(change.asks))
        self._changed[change.market] = None
        if ("book", change.market) not in self._subscribers:
            return
        native = self._catalogue.derivatives[change.market].native
        levels = [("buy", amount) for amount in change.bids] + [("sell", amount) for amount in change.asks]
        levels.sort(key=lambda level: level[1].quantity != 0)
        for side, amount in levels:
            frame = (
                f'{{"feed":"book","product_id":"{native}","side":"{side}","seq":{seq},"price":{plain(amount.price)},'
                f'"qty":{plain(amount.quantity)},"timestamp":{change.time}}}'
            )
            self._publish("book", change.market, frame)
            seq += 1

    def _book_snapshot(self, listing: DerivativesListing) -> str:
        _, bids, asks = self._engine.depth(listing.id, WHOLE_BOOK)
        return text_of(
            {
                "feed": "book_snapshot",
                "product_id": listing.native,
                "timestamp": self._now_ms(),
                "seq": self._numbers[listing.id].last,
                "tickSize": None,
                "bids": [{"price": number(amount.price), "qty": number(amount.quantity)} for amount in bids],
                "asks": [{"price": number(amount.price), "qty": number(amount.quantity)} for amount in asks],
            }
        )

    def _trade(self, listing: DerivativesListing, trade: PublicTrade) -> dict[str, Any]:
        return {
            "feed": "trade",
            "product_id": listing.native,
            "uid": trade_uid(listing, trade),
            "side": "buy" if trade.side is Side.BUY else "sell",
            "type": "fill",
            "seq": trade.id,
            "time": trade.time,
            "qty": number(trade.quantity),
            "price": number(trade.price),
        }

    # --- tickers ---

    def tick(self, now_ms: int) -> None:
        """Once a second the tickers of the markets where something happened."""
        if now_ms - self._ticked_ms < _TICKER_EVERY_MS:
            return
        self._ticked_ms = now_ms
        changed, self._changed = self._changed, {}
        for symbol in changed:
            for feed in ("ticker", "ticker_lite"):
                if (feed, symbol) in self._subscribers:
                    self._publish(feed, symbol, self._ticker(feed, self._catalogue.derivatives[symbol]))

    def _ticker(self, feed: str, listing: DerivativesListing) -> str:
        now_ms = self._now_ms()
        _, bids, asks = self._engine.depth(listing.id, 1)
        stats, mark = self._statistics.of(listing.id), self._engine.mark_price(listing.id)
        expiry = listing.market.expiry
        change = rounded((stats.last / stats.open - 1) * 100 if stats.open else None, 2)
        shared: dict[str, Any] = {
            "feed": feed,
            "product_id": listing.native,
            "bid": number(bids[0].price if bids else None),
            "ask": number(asks[0].price if asks else None),
            "change": number(change),
            "premium": 0.0,
            "volume": number(stats.volume),
            "tag": listing.tag,
            "pair": listing.pair,
            "dtm": 0 if expiry is None else max(0, (expiry - now_ms) // 86_400_000),
            "maturityTime": expiry or 0,
        }
        if feed == "ticker_lite":
            return text_of(shared)
        row = shared | {
            "time": now_ms,
            "bid_size": number(bids[0].quantity if bids else None),
            "ask_size": number(asks[0].quantity if asks else None),
            "leverage": "50x",
            "index": number(mark),
            "last": number(stats.last),
            "suspended": False,
            "openInterest": 0.0,
            "markPrice": number(mark),
            "post_only": False,
            "volumeQuote": number(stats.volume if listing.market.is_inverse else stats.worth),
            "open": number(stats.open),
            "high": number(stats.high),
            "low": number(stats.low),
        }
        if listing.market.asset_type is AssetType.PERP:
            rate = raw(str(funding_rate(listing, mark)).replace("E", "e"))
            row |= {
                "funding_rate": rate,
                "funding_rate_prediction": rate,
                "relative_funding_rate": 0.00001,
                "relative_funding_rate_prediction": 0.00001,
                "next_funding_rate_time": (now_ms // HOUR_MS + 1) * HOUR_MS,
            }
        return text_of(row)
