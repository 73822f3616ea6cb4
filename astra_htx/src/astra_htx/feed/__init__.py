"""HTX's streams, sans-I/O: channels to connections and frames, frames in to events."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
from astra_htx.feed.derivatives import CoinSession, LinearSession
from astra_htx.feed.markets import ContractSession, SpotSession
from astra_htx.feed.spot import SentOf, SpotAccountSession
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, SPOT, HtxSettings

MARKET_PATHS: Mapping[str, str] = {
    SPOT: "/ws",
    LINEAR: "/linear-swap-ws",
    COIN_SWAP: "/swap-ws",
    COIN_FUTURES: "/ws",
}
BOOKS = "/feed"
"""Where spot's incremental books are, and nothing else."""
ACCOUNT_PATHS: Mapping[str, str] = {
    SPOT: "/ws/v2",
    LINEAR: "/ws/v5/notification",
    COIN_SWAP: "/swap-notification",
    COIN_FUTURES: "/notification",
}
PING_EVERY_S = 5.0
"""The venue pings; only the spot account's socket does so every 20 s."""
SPOT_ACCOUNT_PING_S = 20.0
SNAPSHOT_WAIT_S = 30.0
"""With all books of a connection being asked for, at its pace."""


class HtxFeed(Feed):
    """The stream protocol of all products. `market_of` finds the markets that account events name (by product and
    native symbol), `unknown_market` is told of those that it does not find; `key_of` gives an account's key for a
    product, `sent_of` the conditional spot orders that were sent."""

    def __init__(
        self,
        settings: HtxSettings,
        market_of: Callable[[str, str], Market | None],
        unknown_market: Callable[[], None],
        key_of: Callable[[str, Credentials], ApiKey],
        clock_refused: Callable[[str], None],
        sent_of: Callable[[Credentials], SentOf],
    ) -> None:
        self._settings = settings
        self._known = market_of
        self._unknown_market = unknown_market
        self._key_of = key_of
        self._clock_refused = clock_refused
        self._sent_of = sent_of

    def endpoint(self, channel: Channel) -> Endpoint:
        """Spot has its incremental books apart. Spot snapshots may be asked for ten times a second, derivatives
        subscribed forty times."""
        product, settings = channel.product, self._settings
        spot = product == SPOT
        host = settings.hosts.spot_stream if spot else settings.hosts.derivatives_stream
        if channel.data_type is DataType.ACCOUNT:
            return Endpoint(
                name=product,
                url=host + ACCOUNT_PATHS[product],
                scope=channel.credentials,
                max_channels=1,
                messages_per_s=20.0,
                connects_per_s=2.0,
                silence_s=2.5 * (SPOT_ACCOUNT_PING_S if spot else PING_EVERY_S),
                ticketed=True,
            )
        books = spot and channel.data_type is DataType.ORDERBOOK
        return Endpoint(
            name="spot books" if books else f"{product} market",
            url=host + (BOOKS if books else MARKET_PATHS[product]),
            scope=product,
            max_channels=settings.spot_channels_per_connection if spot else settings.channels_per_connection,
            messages_per_s=8.0 if books else 20.0,
            connects_per_s=2.0,
            silence_s=3 * PING_EVERY_S,
        )

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        if endpoint.scope == SPOT:
            return SpotSession(endpoint, outlet, ticket, self._settings.spot_book_levels)
        if not isinstance(endpoint.scope, Credentials):
            return ContractSession(endpoint, outlet, ticket, self._settings.derivatives_book_levels)
        product, account = endpoint.name, endpoint.scope

        def market_of(native_symbol: str) -> Market | None:
            market = self._known(product, native_symbol)
            if market is None:
                self._unknown_market()
            return market

        def clock_refused() -> None:
            self._clock_refused(product)

        connection = (endpoint, outlet, ticket, market_of, self._key_of(product, account), clock_refused)
        if product == SPOT:
            return SpotAccountSession(*connection, sent_of=self._sent_of(account))
        return (LinearSession if product == LINEAR else CoinSession)(*connection)

    def book_rules(self, channel: Channel) -> BookRules:
        """Spot: each frame is the difference between two numbered states, snapshots are asked for in band; whether
        levels that fall out of the depth are deleted is not said. Derivatives: the subscription begins with a snapshot,
        then the frames of it are counted; REST does not join it, so that there is nothing to compare it with."""
        if channel.product == SPOT:
            return BookRules(
                seed=Seed.IN_BAND,
                continuity=Continuity.CHAINED,
                integrity=Integrity.SEQUENCE,
                differences=True,
                kept_depth=self._settings.spot_book_levels,
                first_snapshot_s=SNAPSHOT_WAIT_S,
                silence_s=self._settings.book_silence_s,
                audit_every_s=self._settings.book_audit_every_s,
            )
        return BookRules(
            seed=Seed.STREAM,
            continuity=Continuity.CONTIGUOUS,
            integrity=Integrity.SEQUENCE,
            exact=True,
            engine_ids=True,
            audit_every_s=None,
        )
