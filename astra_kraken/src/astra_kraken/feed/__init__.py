"""Kraken's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from astra.models.orderbook import Integrity
from astra.streams.feed import (
    BookRules,
    Channel,
    Continuity,
    Crossed,
    Endpoint,
    Feed,
    Outlet,
    Seed,
    Session,
    Ticket,
)
from astra_kraken.feed.checksum import PairChecks
from astra_kraken.feed.derivatives import DerivativesSession
from astra_kraken.feed.endpoints import SPOT_MARKETS, endpoint
from astra_kraken.feed.spot import SpotSession
from astra_kraken.markets import SpotPairs
from astra_kraken.settings import SPOT, KrakenSettings


class KrakenFeed(Feed):
    """The stream protocols of Spot and of derivatives."""

    def __init__(self, settings: KrakenSettings, pairs: SpotPairs) -> None:
        self._settings = settings
        self._pairs = pairs
        self._checks: dict[str, PairChecks] = {}

    def endpoint(self, channel: Channel) -> Endpoint:
        return endpoint(channel, self._settings)

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        if endpoint.name == SPOT_MARKETS:
            return SpotSession(endpoint, outlet, ticket, self._settings.spot_book_depth, self.checks_of)
        return DerivativesSession(endpoint, outlet, ticket)

    def checks_of(self, channel: Channel) -> PairChecks:
        """The checksum state of a market: it outlives connections."""
        symbol = channel.native_symbol
        pair = self._pairs[symbol]
        checks = self._checks.get(symbol)
        if checks is None:
            checks = self._checks[symbol] = PairChecks(symbol, self._settings.unchecked_after)
        checks.precisions = (pair.price_precision, pair.quantity_precision)
        return checks

    def book_rules(self, channel: Channel) -> BookRules:
        """Both streams begin with a snapshot, and no REST snapshot joins them: a new one is had by subscribing anew.

        Spot numbers nothing; every frame has a checksum. Levels beyond the subscribed depth fall off without a word.
        Derivatives count the frames of each product, one level a frame: between two frames of one event a book may be
        crossed.
        """
        if channel.product == SPOT:
            return BookRules(
                seed=Seed.STREAM,
                continuity=Continuity.NONE,
                integrity=Integrity.NONE if self.checks_of(channel).given_up else Integrity.CHECKSUM,
                seed_depth=self._settings.spot_book_depth,
                audit_every_s=None,
                keep_text=True,
            )
        return BookRules(
            seed=Seed.STREAM,
            continuity=Continuity.CONTIGUOUS,
            integrity=Integrity.SEQUENCE,
            crossed=Crossed.ALLOWED,
            audit_every_s=None,
            engine_ids=True,
        )
