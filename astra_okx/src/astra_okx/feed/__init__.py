"""OKX's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from collections.abc import Callable

from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orderbook import Integrity
from astra.rest import REMEMBERED_KEYS, Recent
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
from astra_okx.feed.accounts import AlgoSession, TradingSession, Triggered
from astra_okx.feed.markets import PING, MarketSession
from astra_okx.history import DEPTH
from astra_okx.settings import ALGO, TRADING, OkxSettings

PUBLIC = "public"
IDLE_S = 30.0
"""The venue closes connections after so long without data."""


class OkxFeed(Feed):
    """The stream protocol of all products. `market_of` finds the markets that account events name; `unknown_market` is
    told of those that it does not find; `key_of` gives an account's key."""

    def __init__(
        self,
        settings: OkxSettings,
        market_of: Callable[[str], Market | None],
        unknown_market: Callable[[], None],
        key_of: Callable[[Credentials], ApiKey],
        clock_refused: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._known = market_of
        self._unknown_market = unknown_market
        self._key_of = key_of
        self._clock_refused = clock_refused
        self._triggered: Recent[Credentials, Triggered] = Recent(REMEMBERED_KEYS)

    def endpoint(self, channel: Channel) -> Endpoint:
        """Market data on the public path; orders, balances and positions on the private one; conditional orders on the
        business one. A connection takes 480 subscriptions, removals and log-ins an hour."""
        hosts = self._settings.hosts
        account = channel.data_type is DataType.ACCOUNT
        name = channel.product if account else PUBLIC
        path, host = {
            TRADING: ("private", hosts.private_stream),
            ALGO: ("business", hosts.business_stream),
        }.get(name, (PUBLIC, hosts.public_stream))
        return Endpoint(
            name=name,
            url=f"{host}/ws/v5/{path}",
            scope=channel.credentials if account else None,
            max_channels=1 if account else self._settings.channels_per_connection,
            max_channels_per_frame=50,
            messages_per_s=2.0,
            connects_per_s=2.0,
            silence_s=1.5 * IDLE_S,
            ping_every_s=IDLE_S / 2,
            ping=PING,
            ticketed=account,
        )

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        if endpoint.name == PUBLIC:
            return MarketSession(endpoint, outlet, ticket)
        kind = TradingSession if endpoint.name == TRADING else AlgoSession
        assert isinstance(endpoint.scope, Credentials)
        key, triggered = self._key_of(endpoint.scope), self._triggered.made(endpoint.scope, Triggered)
        return kind(endpoint, outlet, ticket, self._market_of, key, self._clock_refused, triggered)

    def _market_of(self, native_symbol: str) -> Market | None:
        market = self._known(native_symbol)
        if market is None:
            self._unknown_market()
        return market

    def book_rules(self, channel: Channel) -> BookRules:
        """Each change names its predecessor; the subscription begins with a snapshot. Ids may fall after maintenance,
        and a change without levels whose id is its predecessor's is a sign of life. The checksum is dead since
        2026-06-23."""
        return BookRules(
            seed=Seed.STREAM,
            continuity=Continuity.CHAINED,
            integrity=Integrity.SEQUENCE,
            seed_depth=DEPTH,
            reseed_below=0,
            engine_ids=True,
            ids_may_fall=True,
            rest_joins=True,
            silence_s=self._settings.book_silence_s,
            audit_every_s=self._settings.book_audit_every_s,
        )
