"""What private connections need before they are dialled: the venue's time, and the markets that their events name."""

from __future__ import annotations

from astra.net.clock import VenueClock
from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable


class Clock:
    """The ticket source of the private connections (`TicketSource`): there is nothing to fetch but the time."""

    def __init__(self, clock: VenueClock, markets: MarketTable) -> None:
        self._clock = clock
        self._markets = markets

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        await self._markets.all()
        await self._clock.refresh()
        return Ticket()

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Nothing runs out that a new connection would not bring."""
