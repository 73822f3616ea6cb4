"""The REST API (`/api/v5`): what requests cost, how they are sent.

Every endpoint has a budget of its own, "N requests a 2 seconds", public ones by address, private ones by user; placing,
amending and cancelling by user and instrument (options: by instrument family). Nothing in an answer tells how much of
it is used. Source: docs-v5, "Rate limits" and the endpoint pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.protocols import Clock
from astra.net.http import Request, Response, Sign
from astra.net.ratelimit import Bucket, BucketKind, Cost, RateLimiter
from astra.rest import Decode, Params, RestApi, encoded, plain
from astra_okx.errors import interpret
from astra_okx.signing import EXPIRY, SIMULATED, rest_sign

if TYPE_CHECKING:
    from astra_okx.settings import OkxSettings

T = TypeVar("T")
PREFIX = "/api/v5"
WINDOW_S = 2.0

PUBLIC: Mapping[str, int] = {"books": 40, "trades": 10, "underlying": 20, "tick-bands": 5, "time": 10}
"""Endpoint -> requests of this address in a window. (`trades` is `history-trades`. Those of the last four that the
documentation does not state are what other clients keep to.)"""
PRIVATE: Mapping[str, int] = {
    "order": 60,
    "pending": 60,
    "fills": 60,
    "fills-history": 10,
    "balance": 10,
    "positions": 10,
    "fees": 5,
    "config": 5,
    "leverage": 20,
    "position-mode": 5,
    "algo-read": 20,
    "algo-cancel": 20,
}
"""Endpoint -> requests of one user in a window."""
TRADING: Mapping[str, int] = {
    "place": 60,
    "amend": 60,
    "cancel": 60,
    "place-batch": 300,
    "cancel-batch": 300,
    "algo-place": 20,
}
"""Budget -> orders of one user and instrument in a window."""
ALL_ORDERS = "orders"
"""New orders and amendments of an account together."""
TIMER = "cancel-all-after"
BATCH = 20
"""Orders in one request at most."""


class Answer(msgspec.Struct, Generic[T]):
    """The envelope of every answer."""

    data: T


class Server(msgspec.Struct):
    ts: str


_decode_time = msgspec.json.Decoder(Answer[list[Server]]).decode


def limiter(exchange: str, clock: Clock) -> RateLimiter:
    """The venue's budgets."""
    sliding = BucketKind.SLIDING_WINDOW
    buckets = [Bucket(name, limit, WINDOW_S, kind=sliding) for name, limit in PUBLIC.items()]
    buckets.append(Bucket("instruments", 20, WINDOW_S, kind=sliding, per_scope=True))
    buckets += [Bucket(name, limit, WINDOW_S, kind=sliding, per_account=True) for name, limit in PRIVATE.items()]
    buckets += [
        Bucket(name, limit, WINDOW_S, kind=sliding, per_account=True, per_scope=True) for name, limit in TRADING.items()
    ]
    buckets.append(Bucket(ALL_ORDERS, 1000, WINDOW_S, kind=sliding, per_account=True))
    buckets.append(Bucket(TIMER, 1, 1.0, kind=sliding, per_account=True))
    return RateLimiter(exchange, buckets, clock)


class OkxRest(RestApi):
    """The one REST API."""

    def __init__(
        self,
        exchange: str,
        settings: OkxSettings,
        clock: Clock,
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        super().__init__(
            exchange,
            "trading",
            settings.hosts.rest,
            limiter=limiter(exchange, clock),
            clock=clock,
            timeout_s=settings.request_timeout_s,
            proxy=settings.proxy,
            unknown_market=unknown_market,
            transport=transport,
        )
        self.recv_window_ms = settings.recv_window_ms
        self._simulated = settings.simulated

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return interpret(self.exchange, request, response)

    def sign(self, credentials: Credentials) -> Sign:
        return rest_sign(self.key(credentials), simulated=self._simulated)

    async def server_time(self) -> int:
        answer = await self.public(_decode_time, "public/time", cost="time")
        return int(answer.data[0].ts)

    # -- requests -----------------------------------------------------------------------------------------------

    async def public(
        self, decode: Decode[T], path: str, params: Params = (), *, cost: str, scope: Hashable = None
    ) -> T:
        """GET without a key."""
        headers = {SIMULATED: "1"} if self._simulated else {}  # demo has instruments of its own
        costs: dict[Cost, float] = {cost if scope is None else (cost, scope): 1.0}
        request = Request("GET", f"{PREFIX}/{path}", query=encoded(params), headers=headers, costs=costs)
        return await self.read(decode, request)

    async def signed(self, decode: Decode[T], path: str, params: Params, credentials: Credentials, *, cost: str) -> T:
        """GET of what is the account's own."""
        request = Request("GET", f"{PREFIX}/{path}", query=encoded(params), costs={cost: 1.0})
        return await self.read(decode, request, credentials)

    async def set(self, path: str, body: Mapping[str, Any], credentials: Credentials, *, cost: str) -> bytes:
        """POST of a setting: repeating it does no harm."""
        request = Request("POST", f"{PREFIX}/{path}", body=msgspec.json.encode(body), costs={cost: 1.0})
        return await self.read(bytes, request, credentials)

    async def command(
        self,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        credentials: Credentials,
        *,
        market: Market,
        operation: str,
        cost: str,
        rows: Sequence[Market] = (),
        client_order_id: str | None = None,
        order_id: str | None = None,
        places: Sequence[str] = (),
        conditional: bool = False,
        expires: bool = False,
    ) -> bytes:
        """POST of orders, changes or cancels (see `RestApi.order`). `rows`: the market of each row of a batch.
        `expires`: the venue refuses it once the receive window is over."""
        costs = _costs(cost, rows or (market,))
        request = Request(
            "POST",
            f"{PREFIX}/{path}",
            body=msgspec.json.encode(body),
            headers={EXPIRY: str(self.recv_window_ms)} if expires else {},
            costs=costs,
            urgent="cancel" in cost,
        )
        return await self.order(
            request,
            credentials,
            market=market.symbol,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
            places=places,
            conditional=conditional,
        )


def _costs(cost: str, rows: Sequence[Market]) -> dict[Cost, float]:
    """What a command costs: each row in the budget of its instrument. A batch of one counts as a single order."""
    if cost in PRIVATE:
        return {cost: len(rows)}
    name = f"{cost}-batch" if len(rows) > 1 else cost
    costs: dict[Cost, float] = {(name, budget): count for budget, count in Counter(map(budget_of, rows)).items()}
    if cost in ("place", "amend"):
        costs[ALL_ORDERS] = len(rows)
    return costs


def budget_of(market: Market) -> str:
    """What orders in a market are counted by: the instrument, for options their family (`BTC-USD_UM`)."""
    if market.product == "option":
        return "-".join(market.native_symbol.split("-")[:2])
    return market.native_symbol


def text(value: Any) -> str | None:
    """A number as the venue's JSON texts hold it."""
    return None if value is None else plain(value)
