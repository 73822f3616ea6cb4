"""Kraken's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orderbook import Integrity
from astra.rest import REMEMBERED_KEYS, Recent
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
from astra_kraken.feed.accounts import SpotAccountSession
from astra_kraken.feed.checksum import PairChecks
from astra_kraken.feed.derivatives import DerivativesSession
from astra_kraken.feed.derivatives_accounts import DerivativesAccountSession
from astra_kraken.feed.endpoints import DERIVATIVES_ACCOUNT, SPOT_ACCOUNT, SPOT_MARKETS, UNIFIED_MARKETS, endpoint
from astra_kraken.feed.spot import SpotSession
from astra_kraken.feed.unified import UnifiedSession
from astra_kraken.markets import SpotPairs
from astra_kraken.rest import Asked
from astra_kraken.settings import DERIVATIVES, SPOT, KrakenSettings
from astra_kraken.signing import challenge_signature, secret_of

MarketLookup = Callable[[str, str], Market | None]
"""(product, native symbol) -> market, from what is loaded."""


class KrakenFeed(Feed):
    """The stream protocols of Spot and of derivatives.

    `market_of` finds the markets that account events name; `unknown_market` is told of those it does not find. `asked`
    are the placements of derivatives that were sent from here.
    """

    def __init__(
        self,
        settings: KrakenSettings,
        pairs: SpotPairs,
        market_of: MarketLookup = lambda product, native_symbol: None,
        unknown_market: Callable[[], None] = lambda: None,
        asked: Asked | None = None,
    ) -> None:
        self._settings = settings
        self._pairs = pairs
        self._market_of = market_of
        self._unknown_market = unknown_market
        self._asked = Recent(1) if asked is None else asked
        self._checks: dict[str, PairChecks] = {}
        self._began: Recent[Channel, int] = Recent(REMEMBERED_KEYS)

    def endpoint(self, channel: Channel) -> Endpoint:
        return endpoint(channel, self._settings)

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        if endpoint.name in (SPOT_MARKETS, UNIFIED_MARKETS):
            session = SpotSession if endpoint.name == SPOT_MARKETS else UnifiedSession
            return session(endpoint, outlet, ticket, self._settings.spot_book_depth, self.checks_of)
        if endpoint.name == SPOT_ACCOUNT:
            return SpotAccountSession(endpoint, outlet, ticket, partial(self._market, SPOT))
        if endpoint.name == DERIVATIVES_ACCOUNT:
            market_of = partial(self._market, DERIVATIVES)
            return DerivativesAccountSession(
                endpoint, outlet, ticket, market_of, derivatives_key, signed_challenge, self._began, self._asked
            )
        return DerivativesSession(endpoint, outlet, ticket)

    def _market(self, product: str, native_symbol: str) -> Market | None:
        market = self._market_of(product, native_symbol)
        if market is None:
            self._unknown_market()
        return market

    def checks_of(self, channel: Channel) -> PairChecks:
        """The checksum state of a market: it outlives connections."""
        symbol = channel.native_symbol
        checks = self._checks.get(symbol)
        if checks is None:
            checks = self._checks[symbol] = PairChecks(symbol, self._settings.unchecked_after)
        if channel.product == SPOT:
            pair = self._pairs[symbol]
            checks.precisions = (pair.price_precision, pair.quantity_precision)
        else:
            assert channel.market is not None
            checks.precisions = (decimals_of(channel.market.tick_size), decimals_of(channel.market.lot_size))
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
                silence_s=self._settings.book_silence_s,
                audit_every_s=None,
                keep_text=True,
            )
        if self._settings.derivatives_feed == "unified":
            return BookRules(
                seed=Seed.STREAM,
                continuity=Continuity.NONE,
                integrity=Integrity.NONE if self.checks_of(channel).given_up else Integrity.CHECKSUM,
                kept_depth=self._settings.spot_book_depth,
                silence_s=self._settings.book_silence_s,
                audit_every_s=None,
            )
        return BookRules(
            seed=Seed.STREAM,
            continuity=Continuity.CONTIGUOUS,
            integrity=Integrity.SEQUENCE,
            crossed=Crossed.ALLOWED,
            silence_s=self._settings.book_silence_s,
            audit_every_s=None,
            engine_ids=True,
        )


def decimals_of(step: Decimal | None) -> int | None:
    """How many decimals numbers have that are multiples of `step`; None where no step is known."""
    if step is None:
        return None
    exponent = step.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def derivatives_key(credentials: Credentials) -> ApiKey:
    """The account's key for derivatives. Raises `AuthenticationError` when it has none."""
    key = credentials.key_for(DERIVATIVES)
    if key is None:
        raise AuthenticationError(
            f"account {credentials.account!r} has no API key for {DERIVATIVES}", exchange=credentials.exchange
        )
    return key


def signed_challenge(key: ApiKey, challenge: str) -> str:
    return challenge_signature(secret_of(key), challenge)
