"""What a client of the gateway's WebSocket API received: books, rates and states, market by market.

Takes messages and times in, touches no socket and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from astra_cli.live import Rate

RECENT_S = 5.0
"""A market is alive as long as something came within so many seconds."""

STATES = ("STALE", "SYNCING", "LIVE")
"""Book states, worst first."""


class MarketTally:
    """What came for one market."""

    def __init__(self, symbol: str, product: str, started: float) -> None:
        self.symbol = symbol
        self.product = product
        self.updates = Rate(started)
        self.trades = Rate(started)
        self.state = "SYNCING"
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}

    @property
    def exchange(self) -> str:
        return self.symbol.partition("-")[0]

    @property
    def best_bid(self) -> float | None:
        return max(self._bids, default=None)

    @property
    def best_ask(self) -> float | None:
        return min(self._asks, default=None)

    @property
    def spread(self) -> float | None:
        """Best ask less best bid, in quote units."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else ask - bid

    def age_s(self, now: float) -> float | None:
        """Seconds since the book last changed."""
        return None if self.updates.last is None else now - self.updates.last

    def book_message(self, message: Mapping[str, Any], now: float) -> None:
        """A documented book message: a SNAPSHOT replaces the book, an UPDATE sets levels (quantity 0: level gone)."""
        if message.get("type") == "SNAPSHOT":
            self._bids.clear()
            self._asks.clear()
            self.state = "LIVE"
        for side, levels in ((self._bids, message["bids"]), (self._asks, message["asks"])):
            for level in levels:
                if level["quantity"]:
                    side[level["price"]] = level["quantity"]
                else:
                    side.pop(level["price"], None)
        self.updates.count(now)


class Tally:
    """All markets of all venues. `markets`: symbol -> the venue's product that it belongs to."""

    def __init__(self, markets: Mapping[str, str], started: float) -> None:
        self.markets = {symbol: MarketTally(symbol, product, started) for symbol, product in markets.items()}
        self.problems: list[str] = []
        """What the gateway refused, in its own words."""

    def received(self, message: Mapping[str, Any], now: float) -> None:
        """One message of the gateway."""
        kind = message.get("type")
        market = self.markets.get(message.get("market", ""))
        if kind == "ERROR":
            about = "" if market is None else f"{market.symbol}: "
            self.problems.append(f"{about}{message.get('detail') or message.get('title')}")
        elif market is None:
            return
        elif "trades" in message:
            market.trades.count(now, len(message["trades"]))
        elif kind == "STATE":
            market.state = message["state"]
        elif kind in ("SNAPSHOT", "UPDATE"):
            market.book_message(message, now)

    def report(self) -> dict[str, Any]:
        """Venue -> counts and state, and the same by product."""
        return {
            exchange: _sums(self._of(exchange))
            | {"products": {product: _sums(self._of(exchange, product)) for product in self._products(exchange)}}
            for exchange in self._exchanges()
        }

    def missing(self, now: float) -> Sequence[str]:
        """What did not come within the last seconds, product by product, in words; empty when all is well."""
        found: list[str] = []
        for exchange in self._exchanges():
            for product in self._products(exchange):
                markets = self._of(exchange, product)
                for what, rates in (
                    ("order book updates", [market.updates for market in markets]),
                    ("trades", [market.trades for market in markets]),
                ):
                    last = max((rate.last for rate in rates if rate.last is not None), default=None)
                    if last is None:
                        found.append(f"{exchange} {product}: no {what} came")
                    elif now - last > RECENT_S:
                        found.append(f"{exchange} {product}: no {what} came for {now - last:.0f} s")
        return found

    def _exchanges(self) -> Sequence[str]:
        return list(dict.fromkeys(market.exchange for market in self.markets.values()))

    def _products(self, exchange: str) -> Sequence[str]:
        return list(dict.fromkeys(market.product for market in self._of(exchange)))

    def _of(self, exchange: str, product: str | None = None) -> Sequence[MarketTally]:
        return [
            market
            for market in self.markets.values()
            if market.exchange == exchange and product in (None, market.product)
        ]


def _sums(markets: Iterable[MarketTally]) -> dict[str, Any]:
    markets = list(markets)
    return {
        "markets": len(markets),
        "orderbookUpdates": sum(market.updates.total for market in markets),
        "trades": sum(market.trades.total for market in markets),
        "state": min((market.state for market in markets), key=STATES.index),
    }
