"""Tickets of private connections: listen keys of the futures families and options; for Spot, the measured clock.

A listen key lives 60 minutes and is extended every 30. Spot has none since 2026: its subscription is signed, and needs
nothing but the venue's time, which is measured before each dial, and room in the limits that it shares with REST.
"""

from __future__ import annotations

import msgspec

from astra.errors import VenueError
from astra.models.credentials import Credentials
from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable
from astra_binance.feed.endpoints import account_product, listen_url
from astra_binance.rest import Rest
from astra_binance.settings import SPOT

RENEW_EVERY_S = 1800.0
SPOT_DIAL_WEIGHT = 2 + 2
"""A connection to the WebSocket API, and `userDataStream.subscribe.signature` on it."""


class _ListenKey(msgspec.Struct, rename="camel"):
    listen_key: str = ""


_decode = msgspec.json.Decoder(_ListenKey).decode


class ListenKeys:
    """The ticket source of the private connections (`TicketSource`)."""

    def __init__(self, rest: Rest, markets: MarketTable) -> None:
        self._rest = rest
        self._markets = markets

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        """A new listen key, or the running one extended. Raises `AuthenticationError` when the key has no access,
        `RateLimited` while the venue must not be asked (a limit was passed, on whichever connection)."""
        await self._markets.all()  # events name markets
        product = account_product(endpoint)
        family = self._rest[product]
        if product == SPOT:
            await family.limiter.acquire(family.pool.costs(SPOT_DIAL_WEIGHT))
            await family.clock.refresh()
            return Ticket()
        key = (await family.keyed(_decode, "POST", "listenKey", _account(endpoint))).listen_key
        if not key:
            raise VenueError("the answer to POST listenKey has no listen key", exchange=family.exchange)
        return Ticket(url=listen_url(endpoint, key), value=key, renew_every_s=RENEW_EVERY_S)

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Extend the listen key. Raises when it is gone (-1125) or another one took its place."""
        family = self._rest[account_product(endpoint)]
        key = (await family.keyed(_decode, "PUT", "listenKey", _account(endpoint))).listen_key
        if key and key != ticket.value:
            raise VenueError("the listen key was replaced", exchange=family.exchange)


def _account(endpoint: Endpoint) -> Credentials:
    assert isinstance(endpoint.scope, Credentials)
    return endpoint.scope
