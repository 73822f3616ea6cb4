"""What private connections need before they are dialled: the venue's time, and the markets that their events name."""

from __future__ import annotations

from collections.abc import Mapping

from astra.rest import RestApi
from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable


class Clocks:
    """The ticket source of the private connections (`TicketSource`): there is nothing to fetch but the time."""

    def __init__(self, apis: Mapping[str, RestApi], markets: MarketTable) -> None:
        """`apis`: by the names of the endpoints of private streams."""
        self._apis = apis
        self._markets = markets

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        await self._markets.all()
        await self._apis[endpoint.name].clock.refresh()
        return Ticket()

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Nothing runs out that a new connection would not bring."""
