"""KuCoin's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from collections.abc import Callable

from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orderbook import Integrity
from astra.streams.feed import (
    BookRules,
    Channel,
    Continuity,
    DataType,
    Endpoint,
    Feed,
    Outlet,
    Seed,
    Session,
    Ticket,
)
from astra_kucoin.feed import accounts, markets
from astra_kucoin.feed.accounts import FuturesAccountSession, SpotAccountSession
from astra_kucoin.feed.markets import MarketSession
from astra_kucoin.feed.unified import UnifiedAccountSession
from astra_kucoin.history import SEED_DEPTH
from astra_kucoin.rest import UNIFIED_ACCOUNT
from astra_kucoin.settings import FUTURES, SPOT, KucoinSettings
from astra_kucoin.trading.rows import Notes
from astra_kucoin.trading.unified_rows import tells_wallet

PING_S = 18.0
"""How often the venue wants a ping; it answers each. It never pings by itself."""
TOKEN_LIFE_S = 24 * 3600.0
ACCOUNT = "account"
JOINED = frozenset({FUTURES})
"""Products whose snapshots by REST are known to carry the sequence of the stream."""


class KucoinFeed(Feed):
    """The stream protocol: market data on the unified push service, which needs no token, accounts on the classic
    token sockets, or (unified ones) on a socket of their own; which one, their ticket says.

    `market_of` finds the markets (product, native symbol) that account events name; `unknown_market` is told of those
    that it does not find; `notes` is what the trading side knows and they do not tell;
    `key_of` gives an account's key for a product.
    """

    def __init__(
        self,
        settings: KucoinSettings,
        market_of: Callable[[str, str], Market | None],
        unknown_market: Callable[[], None],
        notes: Notes,
        key_of: Callable[[str, Credentials], ApiKey],
    ) -> None:
        self._settings = settings
        self._known = market_of
        self._unknown_market = unknown_market
        self._notes = notes
        self._key_of = key_of

    def endpoint(self, channel: Channel) -> Endpoint:
        hosts, product = self._settings.hosts, channel.product
        if channel.data_type is DataType.ACCOUNT:
            # The ticket names the address; 100 messages in 10 s.
            return Endpoint(
                name=f"{product} {ACCOUNT}",
                url=(hosts.spot_stream if product == SPOT else hosts.futures_stream) or "",
                scope=channel.credentials,
                max_channels=1,
                messages_per_s=5.0,
                lifetime_s=TOKEN_LIFE_S,
                silence_s=2.5 * PING_S,
                ping_every_s=PING_S,
                ping=accounts.PING,
                ticketed=True,
            )
        # 300 messages in 10 s, 250 connections in 5 minutes.
        return Endpoint(
            name=product,
            url=hosts.unified_spot_stream if product == SPOT else hosts.unified_futures_stream,
            max_channels=self._settings.channels_per_connection,
            max_channels_per_frame=20,
            messages_per_s=20.0,
            silence_s=2.5 * PING_S,
            ping_every_s=PING_S,
            ping=markets.PING,
        )

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        product, _, account = endpoint.name.partition(" ")
        if not account:
            return MarketSession(endpoint, outlet, ticket)
        if ticket is not None and ticket.value == UNIFIED_ACCOUNT:
            assert isinstance(endpoint.scope, Credentials)
            return UnifiedAccountSession(
                endpoint,
                outlet,
                ticket,
                product,
                lambda native: self._market_of(product, native),
                self._key_of(product, endpoint.scope),
                tells_wallet=tells_wallet(product, self._settings.products, endpoint.scope),
            )
        kind = SpotAccountSession if product == SPOT else FuturesAccountSession
        return kind(endpoint, outlet, ticket, lambda native: self._market_of(product, native), self._notes)

    def _market_of(self, product: str, native_symbol: str) -> Market | None:
        market = self._known(product, native_symbol)
        if market is None:
            self._unknown_market()
        return market

    def book_rules(self, channel: Channel) -> BookRules:
        """Changes count in the book's own sequence without a hole; a snapshot follows the subscription by itself.

        The sequence of futures is that of their REST snapshots (books of the same number were found equal). Of spot's
        nobody has shown that: its books cannot be compared, and one that stays quiet is subscribed anew.
        """
        joins = channel.product in JOINED
        return BookRules(
            seed=Seed.STREAM,
            continuity=Continuity.CONTIGUOUS,
            integrity=Integrity.SEQUENCE,
            seed_depth=SEED_DEPTH,
            reseed_below=0,
            rest_joins=joins,
            silence_s=self._settings.book_silence_s,
            audit_every_s=self._settings.book_audit_every_s if joins else None,
        )
