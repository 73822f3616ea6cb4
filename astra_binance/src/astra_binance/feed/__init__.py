"""Binance's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from collections.abc import Callable

from astra.models.markets import Market
from astra.models.orderbook import Integrity
from astra.streams.feed import (
    BookRules,
    Channel,
    Continuity,
    Endpoint,
    Feed,
    Outlet,
    Seed,
    Session,
    Ticket,
)
from astra_binance.feed.accounts import FuturesAccountSession, OptionsAccountSession, SpotAccountSession
from astra_binance.feed.endpoints import account_product, endpoint, is_account
from astra_binance.feed.markets import MarketSession
from astra_binance.rest import Rest
from astra_binance.settings import OPTIONS, SPOT, BinanceSettings

MarketLookup = Callable[[str, str], Market | None]
"""(product, native symbol) -> market, from what is loaded."""


class BinanceFeed(Feed):
    """The stream protocol of all four families.

    `market_of` finds the markets that account events name; `unknown_market` is told of those it does not find.
    """

    def __init__(
        self,
        settings: BinanceSettings,
        rest: Rest,
        market_of: MarketLookup,
        unknown_market: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._rest = rest
        self._market_of = market_of
        self._unknown_market = unknown_market

    def endpoint(self, channel: Channel) -> Endpoint:
        return endpoint(channel, self._settings)

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        if not is_account(endpoint):
            return MarketSession(endpoint, outlet, ticket)
        product = account_product(endpoint)

        def market_of(native_symbol: str) -> Market | None:
            market = self._market_of(product, native_symbol)
            if market is None:
                self._unknown_market()
            return market

        if product == SPOT:
            spot = self._rest[SPOT]
            return SpotAccountSession(
                endpoint, outlet, ticket, market_of, spot.signer, spot.distrust_clock, spot.limited
            )
        session = OptionsAccountSession if product == OPTIONS else FuturesAccountSession
        return session(endpoint, outlet, ticket, market_of)

    def book_rules(self, channel: Channel) -> BookRules:
        """Depth frames are increments over a REST snapshot. Spot counts every change; futures and options ids jump,
        each frame names its predecessor. No channel has a checksum. A market without changes sends nothing, so
        silence is checked with a snapshot (most options are silent for hours: those are given more time)."""
        product = channel.product
        silence_s = self._settings.book_silence_s
        if silence_s is not None and product == OPTIONS:
            silence_s *= 10
        return BookRules(
            seed=Seed.REST,
            continuity=Continuity.CONTIGUOUS if product == SPOT else Continuity.CHAINED,
            integrity=Integrity.SEQUENCE,
            seed_depth=self._settings.book_depth(product),
            silence_s=silence_s,
            audit_every_s=self._settings.book_audit_every_s,
        )
