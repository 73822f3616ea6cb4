"""Tickets of private connections: Spot's token; for derivatives, the market list that their events name
and the venue's time."""

from __future__ import annotations

import msgspec

from astra.errors import VenueError
from astra.models.credentials import Credentials
from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable
from astra_kraken.feed.endpoints import SPOT_ACCOUNT
from astra_kraken.rest import Rest


class _Token(msgspec.Struct):
    token: str = ""


_decode = msgspec.json.Decoder(_Token).decode


class Tickets:
    """The ticket source of the private connections (`TicketSource`)."""

    def __init__(self, rest: Rest, markets: MarketTable) -> None:
        self._rest = rest
        self._markets = markets

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        """A new token for each connection: it is good for 15 minutes, and for as long as what was subscribed with it.
        Raises `PermissionDenied` when the key may not access the streams."""
        await self._markets.all()
        if endpoint.name != SPOT_ACCOUNT:
            await self._rest.derivatives.clock.refresh()
            return Ticket()
        assert isinstance(endpoint.scope, Credentials)
        token = (await self._rest.spot.private(_decode, "GetWebSocketsToken", [], endpoint.scope)).token
        if not token:
            raise VenueError("the answer to GetWebSocketsToken has no token", exchange=self._rest.spot.exchange)
        return Ticket(value=token)

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Nothing to renew: a token lives as long as its subscription."""
