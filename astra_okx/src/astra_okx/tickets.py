"""What private connections need before they are dialled: the venue's time, and the markets that their events name."""

from __future__ import annotations

from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable
from astra_okx.rest import OkxRest


class Clock:
    """The ticket source of the private connections (`TicketSource`): there is nothing to fetch but the time."""

    def __init__(self, rest: OkxRest, markets: MarketTable) -> None:
        self._rest = rest
        self._markets = markets

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        await self._markets.all()
        await self._rest.clock.refresh()
        return Ticket()

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Nothing runs out."""
