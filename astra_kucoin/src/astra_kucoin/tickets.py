"""Tickets of private connections: a token, which also names the address (docs-new, "Apply Connect Token"). Unified
accounts need none, but the venue's time."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from astra.errors import VenueError
from astra.models.credentials import Credentials
from astra.models.protocols import Clock
from astra.streams.feed import Endpoint, Ticket
from astra.venue import MarketTable
from astra_kucoin.rest import CLASSIC, UNIFIED_ACCOUNT, Answer, Rest


class _Server(msgspec.Struct, rename="camel"):
    endpoint: str
    ping_interval: int = 18_000
    ping_timeout: int = 10_000


class _Token(msgspec.Struct, rename="camel"):
    token: str
    instance_servers: list[_Server]


_decode = msgspec.json.Decoder(Answer[_Token]).decode
WEIGHT = 10


class Tickets:
    """The ticket source of the private connections (`TicketSource`). A token is good for a day, and those of spot and
    futures are not interchangeable; each connection gets a new one."""

    def __init__(self, rest: Rest, markets: MarketTable, clock: Clock, unified_url: str) -> None:
        self._rest = rest
        self._markets = markets
        self._clock = clock
        self._unified_url = unified_url

    async def obtain(self, endpoint: Endpoint) -> Ticket:
        """For classic accounts a new token; the address is the one that is named with it, unless the settings have
        another."""
        await self._markets.all()  # events name markets
        assert isinstance(endpoint.scope, Credentials)
        product = endpoint.name.partition(" ")[0]
        api = self._rest[product]
        if await self._rest.mode(product, endpoint.scope) != CLASSIC:
            await self._rest.spot.clock.refresh()
            return Ticket(url=self._unified_url, value=UNIFIED_ACCOUNT)
        answer = (await api.set(_decode, "/api/v1/bullet-private", {}, endpoint.scope, weight=WEIGHT)).data
        if not answer.instance_servers:
            raise VenueError("the answer to POST bullet-private names no server", exchange=api.exchange)
        server = answer.instance_servers[0]
        address = (endpoint.url or server.endpoint).rstrip("/")
        url = f"{address}/?token={quote(answer.token, safe='')}&connectId={self._clock.wall_ns():x}"
        ping_s = server.ping_interval / 1000
        return Ticket(url=url, ping_every_s=ping_s, silence_s=2 * ping_s + server.ping_timeout / 1000)

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None:
        """Nothing runs out while a connection stands: it is replaced before its token is a day old."""
