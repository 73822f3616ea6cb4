"""Books that orders are valued with: the live one where somebody streams the market, else one read by REST."""

from __future__ import annotations

from typing import Any

import anyio

from astra.errors import AuthenticationError, UnsupportedOperation, VenueUnavailable
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import BookState
from astra.models.protocols import Host
from astra_risk.settings import RiskSettings
from astra_risk.valuation import Prices

WALK_DEPTH = 500
"""Levels looked at for an order that takes what is there."""
KEPT = 1000
"""Books read by REST that are kept at most."""


class Books:
    """Prices of markets, LIVE or at most `book_max_age_s` old."""

    def __init__(self, host: Host, settings: RiskSettings) -> None:
        self._host = host
        self._settings = settings
        self._read_at: dict[str, tuple[float, int, Prices]] = {}

    async def prices(self, market: Market, credentials: Credentials, *, deep: bool) -> Prices:
        """The market's book. Raises a `VenueError` when it cannot be had or has no prices on one side."""
        depth = WALK_DEPTH if deep else 1
        book = self._host.astra.live_book(market.symbol)
        if book is not None and book.state is BookState.LIVE:
            bids, asks = book.bids(depth), book.asks(depth)
            if bids and asks:
                return Prices(bids, asks, "the live book")
        now = self._host.clock.monotonic()
        read_at, read_depth, prices = self._read_at.get(market.symbol, (float("-inf"), 0, None))
        if prices is None or read_depth < depth or now - read_at > self._settings.book_max_age_s:
            prices = await self._read(market, credentials, depth)
            self._read_at.pop(market.symbol, None)
            self._read_at[market.symbol] = (now, depth, prices)
            if len(self._read_at) > KEPT:
                del self._read_at[next(iter(self._read_at))]
        return prices

    async def _read(self, market: Market, credentials: Credentials, depth: int) -> Prices:
        astra: Any = self._host.astra
        with anyio.move_on_after(self._settings.read_timeout_s) as scope:
            try:
                book = await astra.get_orderbook(market.symbol, depth)
            except (UnsupportedOperation, AuthenticationError):
                book = await astra.get_orderbook(market.symbol, depth, credentials)
        if scope.cancelled_caught:
            seconds = f"{self._settings.read_timeout_s:g} s (middleware.risk.read_timeout_s)"
            raise VenueUnavailable(f"no book within {seconds}", exchange=market.exchange)
        if not book.bids or not book.asks:
            raise VenueUnavailable("the book has no prices on one side", exchange=market.exchange)
        return Prices(book.bids, book.asks, "the book read by REST")
