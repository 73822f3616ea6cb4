"""The REST APIs: what requests cost, how they are sent.

Spot limits every endpoint on its own (private ones by user, market data by address); linear contracts have one budget
for commands and one for reads by user, coin-margined swaps and futures have such a pair each; derivatives' market data
is limited by address, all products together. Source: API documentation, the "Rate limit" sections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from astra.models.credentials import Credentials
from astra.models.protocols import Clock
from astra.net.http import Request, Response, Sign
from astra.net.ratelimit import Bucket, BucketKind, Cost, RateLimiter
from astra.rest import Decode, Params, RestApi, encoded
from astra_htx.errors import interpret
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, SPOT
from astra_htx.signing import VALID_MS, host_of, rest_sign

if TYPE_CHECKING:
    from astra_htx.settings import HtxSettings

T = TypeVar("T")

SPOT_FAST, SPOT_USUAL, SPOT_SLOW = "spot-fast", "spot-usual", "spot-slow"
SPOT_MARKET = "spot-market"
TRADE, READ = "trade", "read"
"""The two budgets of a derivatives family; the limiter has them as `linear-trade`, ..."""
PUBLIC, MARKET = "public", "market"


class Answer(msgspec.Struct, Generic[T]):
    """An answer that holds `data`, in any of the envelopes."""

    data: T


class _Time(msgspec.Struct):
    data: int | None = None
    ts: int | None = None


_decode_time = msgspec.json.Decoder(_Time).decode


def spot_limiter(exchange: str, clock: Clock) -> RateLimiter:
    """Windows of 2 s, an endpoint each."""
    sliding = BucketKind.SLIDING_WINDOW
    private = {SPOT_FAST: 100, SPOT_USUAL: 50, SPOT_SLOW: 20}
    buckets = [
        Bucket(name, limit, 2.0, kind=sliding, per_account=True, per_scope=True) for name, limit in private.items()
    ]
    buckets.append(Bucket(SPOT_MARKET, 20, 2.0, kind=sliding, per_scope=True))
    return RateLimiter(exchange, buckets, clock)


def derivatives_limiter(exchange: str, clock: Clock) -> RateLimiter:
    """Windows of 3 s by user and family; public data by address."""
    sliding = BucketKind.SLIDING_WINDOW
    buckets = [
        Bucket(f"{family}-{kind}", limit, 3.0, kind=sliding, per_account=True)
        for family, limit in ((LINEAR, 72), (COIN_SWAP, 36), (COIN_FUTURES, 36))
        for kind in (TRADE, READ)
    ]
    buckets += [
        Bucket(PUBLIC, 120, 3.0, kind=sliding),
        Bucket(MARKET, 800, 1.0, kind=sliding),
    ]
    return RateLimiter(exchange, buckets, clock)


class HtxRest(RestApi):
    """One family's REST API. `product` is the name that its keys are known by."""

    def __init__(
        self,
        exchange: str,
        product: str,
        settings: HtxSettings,
        limiter: RateLimiter,
        clock: Clock,
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        self.is_spot = product == SPOT
        hosts = settings.hosts
        base_url = hosts.spot_rest if self.is_spot else hosts.derivatives_rest
        super().__init__(
            exchange,
            product,
            base_url,
            limiter=limiter,
            clock=clock,
            timeout_s=settings.request_timeout_s,
            proxy=settings.proxy,
            unknown_market=unknown_market,
            transport=transport,
        )
        self._host = host_of(base_url)
        self._recv_window_ms = settings.recv_window_ms

    @property
    def window_ms(self) -> int:
        """For how long after it was stamped a command may be accepted."""
        return VALID_MS if self._recv_window_ms is None else self._recv_window_ms

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return interpret(request, response, spot=self.is_spot, now_ms=self.clock.now_ms())

    def sign(self, credentials: Credentials) -> Sign:
        return rest_sign(self.key(credentials), self._host, self._recv_window_ms)

    async def server_time(self) -> int:
        path = "/v1/common/timestamp" if self.is_spot else "/api/v1/timestamp"
        answer = await self.public(_decode_time, path)
        return answer.data or answer.ts or 0

    # -- requests -----------------------------------------------------------------------------------------------

    async def public(self, decode: Decode[T], path: str, params: Params = (), *, market_data: bool = False) -> T:
        """GET without a key."""
        costs: dict[Cost, float] = {MARKET if market_data else PUBLIC: 1.0}
        if self.is_spot:
            costs = {(SPOT_MARKET, path): 1.0}
        return await self.read(decode, Request("GET", path, query=encoded(params), costs=costs))

    async def signed(
        self, decode: Decode[T], path: str, params: Params, credentials: Credentials, *, cost: str = "", scope: str = ""
    ) -> T:
        """GET of what is the account's own. `scope`: what stands for the path, where that has an id in it."""
        costs = self._cost(cost or (SPOT_USUAL if self.is_spot else READ), scope or path)
        return await self.read(decode, Request("GET", path, query=encoded(params), costs=costs), credentials)

    async def asked(
        self, decode: Decode[T], path: str, body: Mapping[str, Any], credentials: Credentials, *, cost: str = READ
    ) -> T:
        """POST that asks, or sets what may be set twice."""
        request = Request("POST", path, body=msgspec.json.encode(body), costs=self._cost(cost, path))
        return await self.read(decode, request, credentials)

    async def command(
        self,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        credentials: Credentials,
        *,
        market: str,
        operation: str,
        cost: str = "",
        scope: str = "",
        client_order_id: str | None = None,
        order_id: str | None = None,
        places: Sequence[str] = (),
        conditional: bool = False,
    ) -> bytes:
        """POST of orders or cancels (see `RestApi.order`)."""
        request = Request(
            "POST",
            path,
            body=msgspec.json.encode(body),
            costs=self._cost(cost or (SPOT_FAST if self.is_spot else TRADE), scope or path),
            urgent="cancel" in path.lower(),
        )
        return await self.order(
            request,
            credentials,
            market=market,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
            places=places,
            conditional=conditional,
        )

    def _cost(self, cost: str, path: str) -> dict[Cost, float]:
        if self.is_spot:
            return {(cost, path): 1.0}
        return {f"{self.product}-{cost}": 1.0}
