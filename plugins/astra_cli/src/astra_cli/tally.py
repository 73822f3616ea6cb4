"""What a client of the gateway's WebSocket API received: books, rates and states, market by market.

Takes messages and times in, touches no socket and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from astra_cli.live import Rate

RECENT_S = 5.0
"""A market is alive as long as something came within so many seconds."""

STATES = ("ABSENT", "STALE", "SYNCING", "LIVE")
"""Book states, worst first. ABSENT: a product of which the venue listed no market."""
MOST_NAMED = 3
"""So many products that are not live find room in a line."""


class MarketTally:
    """What came for one market."""

    def __init__(self, symbol: str, product: str, started: float) -> None:
        self.symbol = symbol
        self.product = product
        self.updates = Rate(started)
        self.trades = Rate(started)
        self.state = "SYNCING"
        self.live_at: float | None = None
        """When the book was first LIVE."""
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

    def state_told(self, state: str, now: float) -> None:
        """The book is in this state from now on."""
        self.state = state
        if state == "LIVE" and self.live_at is None:
            self.live_at = now

    def book_message(self, message: Mapping[str, Any], now: float) -> None:
        """A documented book message: a SNAPSHOT replaces the book, an UPDATE sets levels (quantity 0: level gone)."""
        if message.get("type") == "SNAPSHOT":
            self._bids.clear()
            self._asks.clear()
            self.state_told("LIVE", now)
        for side, levels in ((self._bids, message["bids"]), (self._asks, message["asks"])):
            for level in levels:
                if level["quantity"]:
                    side[level["price"]] = level["quantity"]
                else:
                    side.pop(level["price"], None)
        self.updates.count(now)


class Tally:
    """All markets of all venues. `markets`: symbol -> the venue's product that it belongs to; `products`: venue -> the
    products that it should have markets of (left out: those of its markets)."""

    def __init__(
        self, markets: Mapping[str, str], started: float, products: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.started = started
        self.markets = {symbol: MarketTally(symbol, product, started) for symbol, product in markets.items()}
        self.problems: list[str] = []
        """What the gateway, or a venue, refused, in its own words."""
        declared = dict(products or {})
        for market in self.markets.values():
            declared.setdefault(market.exchange, [])
        self._products = {
            exchange: list(dict.fromkeys([*names, *(one.product for one in self._of(exchange))]))
            for exchange, names in declared.items()
        }

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
            market.state_told(message["state"], now)
        elif kind in ("SNAPSHOT", "UPDATE"):
            market.book_message(message, now)

    def report(self) -> dict[str, Any]:
        """Venue -> counts and state, and the same by product."""
        found: dict[str, Any] = {}
        for exchange, products in self._products.items():
            parts = {product: self._sums(self._of(exchange, product)) for product in products}
            whole = self._sums(self._of(exchange))
            whole["state"] = min((part["state"] for part in parts.values()), key=STATES.index, default="ABSENT")
            if any(part["liveAfterS"] is None for part in parts.values()):
                whole["liveAfterS"] = None
            found[exchange] = whole | {"products": parts}
        return found

    def summary(self) -> str:
        """One line: how many products are live, and which are not once most are."""
        states = {
            f"{exchange} {product}": self._sums(self._of(exchange, product))["state"]
            for exchange, products in self._products.items()
            for product in products
        }
        off = [f"{name} {state}" for name, state in states.items() if state != "LIVE"]
        venues = f"{len(self._products)} venue{'s'[: len(self._products) != 1]}"
        counted = f"{len(states) - len(off)} of {len(states)} products of {venues} live"
        return f"{counted}, not {', '.join(off)}" if 0 < len(off) <= MOST_NAMED else counted

    def missing(self, now: float) -> Sequence[str]:
        """What is not live, or did not come within the last seconds, product by product, in words; empty when all is
        well."""
        return [
            f"{exchange} {product}: {what}"
            for exchange, products in self._products.items()
            for product in products
            for what in self._missing_of(self._of(exchange, product), now)
        ]

    def _missing_of(self, markets: Sequence[MarketTally], now: float) -> Iterable[str]:
        if not markets:
            yield "no active market is listed"
            return
        if off := [f"{market.symbol} {market.state}" for market in markets if market.state != "LIVE"]:
            yield f"not live: {', '.join(off)}"
        for what, rates in (
            ("order book updates", [market.updates for market in markets]),
            ("trades", [market.trades for market in markets]),
        ):
            last = max((rate.last for rate in rates if rate.last is not None), default=None)
            if last is None:
                yield f"no {what} came"
            elif now - last > RECENT_S:
                yield f"no {what} came for {now - last:.0f} s"

    def _of(self, exchange: str, product: str | None = None) -> Sequence[MarketTally]:
        return [
            market
            for market in self.markets.values()
            if market.exchange == exchange and product in (None, market.product)
        ]

    def _sums(self, markets: Sequence[MarketTally]) -> dict[str, Any]:
        live_at = [market.live_at for market in markets]
        times = [at for at in live_at if at is not None]
        return {
            "markets": len(markets),
            "orderbookUpdates": sum(market.updates.total for market in markets),
            "trades": sum(market.trades.total for market in markets),
            "state": min((market.state for market in markets), key=STATES.index, default="ABSENT"),
            "liveAfterS": round(max(times) - self.started, 2) if times and len(times) == len(live_at) else None,
        }
