"""What private connections need before they are dialled: the venue's time, the markets that their events name, and the
number of the spot account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from astra.models.credentials import Credentials
from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable
from astra_htx.rest import HtxRest
from astra_htx.settings import SPOT


class Tickets:
    """The ticket source of the private connections (`TicketSource`), whose endpoints are named as their products."""

    def __init__(
        self,
        rests: Mapping[str, HtxRest],
        markets: MarketTable,
        spot_account: Callable[[Credentials], Awaitable[str]],
    ) -> None:
        self._rests = rests
        self._markets = markets
        self._spot_account = spot_account

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        await self._markets.all()
        await self._rests[endpoint.name].clock.refresh()
        assert isinstance(endpoint.scope, Credentials)
        return Ticket(value=await self._spot_account(endpoint.scope) if endpoint.name == SPOT else None)

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Nothing runs out."""
