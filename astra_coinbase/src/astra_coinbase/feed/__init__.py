"""Coinbase's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from astra.models.credentials import Credentials
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
from astra_coinbase.feed.accounts import SESSION_S, GatewayAccountSession
from astra_coinbase.feed.advanced import AdvancedSession
from astra_coinbase.feed.international import PING, GatewaySession
from astra_coinbase.feed.users import UserSession
from astra_coinbase.settings import ADVANCED, INTERNATIONAL, SPOT, US_FUTURES, CoinbaseSettings
from astra_coinbase.signing import Signer
from astra_coinbase.trading.advanced_rows import Kinds

ADVANCED_MARKETS = "advanced markets"
INTERNATIONAL_MARKETS = "international markets"
FRAME_BYTES = 128 * 1024 * 1024
"""A first frame holds a whole book, of which one side alone may have some MB."""
GATEWAY_PATH = "/ws/api/v2"

MarketOf = Callable[[str, str], Market | None]
"""(product, native symbol) -> its market."""


class CoinbaseFeed(Feed):
    """The stream protocols of both APIs.

    `market_of` finds the markets that account events name; `unknown_market` is told of those that it does not find.
    `aliases` names the products that share another one's book. `signers` give an account's key by the name of its
    stream, `kinds` what is known of the types of its orders.
    """

    def __init__(
        self,
        settings: CoinbaseSettings,
        market_of: MarketOf,
        unknown_market: Callable[[], None],
        aliases: Mapping[str, str],
        signers: Mapping[str, Callable[[Credentials], Signer]],
        kinds: Mapping[str, Kinds],
    ) -> None:
        self._settings = settings
        self._known = market_of
        self._unknown_market = unknown_market
        self._aliases = aliases
        self._signers = signers
        self._kinds = kinds

    def origin(self, market: Market) -> Market:
        """BTC-USDC has the book and the trades of BTC-USD."""
        native = self._aliases.get(market.native_symbol) if market.product == SPOT else None
        return (None if native is None else self._known(SPOT, native)) or market

    def endpoint(self, channel: Channel) -> Endpoint:
        if channel.data_type is DataType.ACCOUNT:
            return self._account_endpoint(channel)
        hosts, most = self._settings.hosts, self._settings.channels_per_connection
        if channel.product == INTERNATIONAL:
            # A frame has 32 KB at most, a name some 40 bytes.
            return Endpoint(
                name=INTERNATIONAL_MARKETS,
                url=hosts.international_stream + GATEWAY_PATH,
                max_channels=most,
                max_channels_per_frame=50,
                messages_per_s=5.0,
                connects_per_s=2.0,
                silence_s=40.0,
                ping_every_s=12.0,
                ping=PING,
            )
        return Endpoint(
            name=ADVANCED_MARKETS,
            url=hosts.advanced_stream,
            max_channels=most,
            max_channels_per_frame=30,
            messages_per_s=6.0,
            connects_per_s=4.0,
            silence_s=15.0,
            ack_timeout_s=20.0,
            max_frame_bytes=FRAME_BYTES,
        )

    def _account_endpoint(self, channel: Channel) -> Endpoint:
        hosts = self._settings.hosts
        if channel.product == INTERNATIONAL:
            return Endpoint(
                name=INTERNATIONAL,
                url=hosts.international_private_stream + GATEWAY_PATH,
                scope=channel.credentials,
                max_channels=1,
                messages_per_s=5.0,
                lifetime_s=SESSION_S,
                silence_s=40.0,
                ping_every_s=12.0,
                ping=PING,
                ticketed=True,
            )
        return Endpoint(
            name=ADVANCED,
            url=hosts.advanced_user_stream,
            scope=channel.credentials,
            max_channels=1,
            messages_per_s=6.0,
            silence_s=15.0,
            ticketed=True,
            max_frame_bytes=FRAME_BYTES,
        )

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        if endpoint.name == ADVANCED_MARKETS:
            return AdvancedSession(endpoint, outlet, ticket, self._aliases)
        if endpoint.name == INTERNATIONAL_MARKETS:
            return GatewaySession(endpoint, outlet, ticket)
        assert isinstance(endpoint.scope, Credentials)
        signer, kinds = self._signers[endpoint.name](endpoint.scope), self._kinds[endpoint.name]
        if endpoint.name == INTERNATIONAL:
            return GatewayAccountSession(endpoint, outlet, ticket, self._instrument, signer, kinds)
        futures = US_FUTURES in self._settings.products
        return UserSession(endpoint, outlet, ticket, self._product, signer, kinds, futures=futures)

    def _instrument(self, native_symbol: str) -> Market | None:
        return self._found(self._known(INTERNATIONAL, native_symbol))

    def _product(self, native_symbol: str) -> Market | None:
        return self._found(self._known(SPOT, native_symbol) or self._known(US_FUTURES, native_symbol))

    def _found(self, market: Market | None) -> Market | None:
        if market is None:
            self._unknown_market()
        return market

    def book_rules(self, channel: Channel) -> BookRules:
        """The gateway's changes name their predecessors. Advanced Trade numbers the frames of a connection, not the
        changes of a book: `AdvancedSession` watches the numbers, and the engine makes the ids of updates."""
        if channel.product == INTERNATIONAL:
            return BookRules(
                seed=Seed.STREAM, continuity=Continuity.CHAINED, integrity=Integrity.SEQUENCE, audit_every_s=None
            )
        return BookRules(
            seed=Seed.STREAM,
            continuity=Continuity.NONE,
            integrity=Integrity.SEQUENCE,
            shared_sequence=True,
            silence_s=self._settings.book_silence_s,
            audit_every_s=None,
        )
