"""The REST APIs of the four families: where they are, what they cost, and how a signed request is sent.

USD-M and COIN-M share one back end since 2026: one request weight, one set of order counters. Spot and options have
their own. What a request costs stands at the call; how much there is, is read from each `exchangeInfo`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from astra.models.credentials import ApiKey, Credentials
from astra.models.protocols import Clock
from astra.net.http import Request, Response, Sign
from astra.net.ratelimit import Bucket, Cost, RateLimiter
from astra.rest import REMEMBERED_KEYS, Decode, Params, Recent, RestApi, encoded
from astra_binance.errors import UNSAID_PAUSE_S, banned_until, interpreter
from astra_binance.settings import COINM, OPTIONS, SPOT, USDM
from astra_binance.signing import Signer, rest_sign, signer

if TYPE_CHECKING:
    from astra_binance.settings import BinanceSettings

T = TypeVar("T")


class RateLimit(msgspec.Struct, frozen=True, rename="camel"):
    """A row of `exchangeInfo.rateLimits`."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class Family(msgspec.Struct, frozen=True):
    """Facts of an API family's REST side."""

    product: str
    pool: str
    """Whose rate limits it shares."""
    prefix: str
    depth_weights: tuple[tuple[int, int], ...]
    """(levels a side, weight) of `GET depth`, in rising order."""


_FUTURES_DEPTHS = ((5, 2), (10, 2), (20, 2), (50, 2), (100, 5), (500, 10), (1000, 20))
FAMILIES: Mapping[str, Family] = {
    SPOT: Family(SPOT, "spot", "/api/v3", ((100, 5), (500, 25), (1000, 50), (5000, 250))),
    USDM: Family(USDM, "futures", "/fapi/v1", _FUTURES_DEPTHS),
    COINM: Family(COINM, "futures", "/dapi/v1", _FUTURES_DEPTHS),
    OPTIONS: Family(OPTIONS, "options", "/eapi/v1", ((10, 1), (20, 1), (50, 1), (100, 5), (500, 10), (1000, 20))),
}

_INITIAL_LIMITS: Mapping[str, tuple[RateLimit, ...]] = {
    "spot": (
        RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 6000),
        RateLimit("RAW_REQUESTS", "MINUTE", 5, 300_000),
        RateLimit("ORDERS", "SECOND", 10, 50),
        RateLimit("ORDERS", "DAY", 1, 160_000),
    ),
    "futures": (
        RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 2400),
        RateLimit("ORDERS", "SECOND", 10, 300),
        RateLimit("ORDERS", "MINUTE", 1, 1200),
    ),
    # The documentation's example says 2400, older answers 400; no order limits are known.
    "options": (RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 400),),
}
"""What holds until the first `exchangeInfo` was read."""

_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}
_HEADERS = {"REQUEST_WEIGHT": "x-mbx-used-weight-", "ORDERS": "x-mbx-order-count-"}
BACKGROUND = "background"
"""The bucket that keeps what streams fetch for themselves from eating all the weight."""


class Pool:
    """The rate limits that some families share, and what a request takes from each."""

    def __init__(self, exchange: str, name: str, clock: Clock, background_share: float) -> None:
        self._share = background_share
        self._limits: dict[tuple[str, str], dict[tuple[str, str, int], int]] = {}
        self._names: dict[str, list[str]] = {}
        self.limiter = RateLimiter(exchange, (), clock)
        self._set(_INITIAL_LIMITS[name])

    def read(self, rows: Iterable[RateLimit]) -> None:
        """Take over the limits that an `exchangeInfo` lists. (An answer that lists none changes nothing.)"""
        known = [row for row in rows if row.interval in _SECONDS and row.limit > 0 and row.interval_num > 0]
        if known:
            self._set(known)

    def _set(self, rows: Iterable[RateLimit]) -> None:
        buckets = []
        for row in rows:
            suffix = f"{row.interval_num}{row.interval[0].lower()}"
            name = f"{row.rate_limit_type.lower()}-{suffix}"
            header = _HEADERS.get(row.rate_limit_type)
            window_s = row.interval_num * _SECONDS[row.interval]
            per_account = row.rate_limit_type == "ORDERS"
            buckets.append(
                Bucket(name, row.limit, window_s, used_header=header and header + suffix, per_account=per_account)
            )
            names = self._names.setdefault(row.rate_limit_type, [])
            if name not in names:
                names.append(name)
            if row.rate_limit_type == "REQUEST_WEIGHT":
                buckets.append(Bucket(BACKGROUND, row.limit * self._share, window_s))
        self.limiter.configure(buckets)

    def costs(self, weight: int, orders: int = 0, *, background: bool = False) -> dict[Cost, float]:
        """Bucket name -> cost of one request of this weight that places so many orders."""
        costs: dict[Cost, float] = dict.fromkeys(self._names.get("REQUEST_WEIGHT", ()), weight)
        costs.update(dict.fromkeys(self._names.get("RAW_REQUESTS", ()), 1))
        if orders:
            costs.update(dict.fromkeys(self._names.get("ORDERS", ()), orders))
        if background:
            costs[BACKGROUND] = weight
        return costs


class FamilyRest(RestApi):
    """One API family over REST."""

    def __init__(self, family: Family, pool: Pool, *, recv_window_ms: int, **api: Any) -> None:
        super().__init__(product=family.product, limiter=pool.limiter, **api)
        self.family = family
        self.pool = pool
        self.recv_window_ms = recv_window_ms
        self._judge = interpreter(self.exchange, self.product, self.clock.now_ms)
        self._signers: Recent[ApiKey, Signer] = Recent(REMEMBERED_KEYS)

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return self._judge(request, response)

    def signer(self, key: ApiKey) -> Signer:
        """How `key` signs (PEM keys are read once)."""
        return self._signers.made(key, lambda: signer(key, self.exchange))

    def sign(self, credentials: Credentials) -> Sign:
        key = self.key(credentials)
        return rest_sign(key, self.signer(key), self.recv_window_ms)

    def limited(self, status: int, message: str, until_ms: float | None) -> None:
        """The WebSocket API, which shares the limits of this API, answered with 429 or 418: nothing is sent before
        `until_ms` (venue time); where the answer does not say, before the time that the text of a ban names."""
        if until_ms is None:
            until_ms = banned_until(message)
        left_s = 0.0 if until_ms is None else (until_ms - self.clock.now_ms()) / 1000
        pause_s = left_s if left_s > 0 else UNSAID_PAUSE_S[status]
        self.limiter.pause(pause_s, f"the WebSocket API answered with {status}: {message}")

    async def server_time(self) -> int:
        return (await self.public(_decode_time, "time", weight=1)).server_time

    # -- requests -----------------------------------------------------------------------------------------------

    async def public(
        self, decode: Decode[T], path: str, params: Params = (), *, weight: int, background: bool = False
    ) -> T:
        """GET without a key. `path` begins after the family's prefix, or is absolute (`/fapi/v3/...`).

        `background`: what streams fetch for themselves, which must leave weight for trading."""
        costs = self.pool.costs(weight, background=background)
        return await self.read(decode, Request("GET", self._path(path), query=encoded(params), costs=costs))

    async def keyed(self, decode: Decode[T], method: str, path: str, credentials: Credentials, *, weight: int = 1) -> T:
        """A request with the key header alone (listen keys); repeating it does no harm."""
        request = Request(
            method,
            self._path(path),
            headers={"X-MBX-APIKEY": self.key(credentials).key.get_secret_value()},
            costs=self.pool.costs(weight),
            account=credentials,
        )
        return await self.read(decode, request)

    async def signed(
        self, decode: Decode[T], method: str, path: str, params: Params, credentials: Credentials, *, weight: int
    ) -> T:
        """A signed request that reads, or whose repetition does no harm (settings)."""
        return await self.read(decode, self._request(method, path, params, self.pool.costs(weight)), credentials)

    async def command(
        self,
        method: str,
        path: str,
        params: Params,
        credentials: Credentials,
        *,
        market: str,
        operation: str,
        client_order_id: str | None = None,
        order_id: str | None = None,
        weight: int = 1,
        places: Sequence[str] = (),
        orders: int | None = None,
        conditional: bool = False,
    ) -> bytes:
        """A signed request that places, changes or cancels (see `RestApi.order`).

        `orders`: what the venue's order counters take for it, where that is not the number of `places`.
        """
        costs = self.pool.costs(weight, len(places) if orders is None else orders)
        request = self._request(method, path, params, costs)
        return await self.order(
            msgspec.structs.replace(request, urgent=method == "DELETE"),
            credentials,
            market=market,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
            places=places,
            conditional=conditional,
        )

    def _path(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.family.prefix}/{path}"

    def _request(self, method: str, path: str, params: Params, costs: Mapping[Cost, float]) -> Request:
        text = encoded(params)
        in_body = method in ("POST", "PUT")
        return Request(
            method,
            self._path(path),
            query="" if in_body else text,
            body=text.encode() if in_body else b"",
            costs=costs,
        )


class _ServerTime(msgspec.Struct, rename="camel"):
    server_time: int


_decode_time = msgspec.json.Decoder(_ServerTime).decode


class Rest:
    """The REST side of all families that the settings name."""

    def __init__(
        self,
        exchange: str,
        settings: BinanceSettings,
        clock: Clock,
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        hosts = settings.hosts.model_dump()
        self.pools = {
            name: Pool(exchange, name, clock, settings.background_share) for name in ("spot", "futures", "options")
        }
        self.families: dict[str, FamilyRest] = {
            product: FamilyRest(
                FAMILIES[product],
                self.pools[FAMILIES[product].pool],
                exchange=exchange,
                base_url=hosts[f"{product}_rest"],
                clock=clock,
                recv_window_ms=settings.recv_window_ms,
                timeout_s=settings.request_timeout_s,
                proxy=settings.proxy,
                unknown_market=unknown_market,
                transport=transport,
            )
            for product in settings.products
        }

    def __getitem__(self, product: str) -> FamilyRest:
        return self.families[product]
