"""The REST APIs of Spot and of derivatives: what requests cost, how they are completed and sent."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from astra.errors import OrderOutcomeUnknown
from astra.models.credentials import Credentials
from astra.models.orders import OrderRequest
from astra.models.protocols import Clock
from astra.net.http import Request, Response, Sign
from astra.net.ratelimit import Bucket, BucketKind, RateLimiter
from astra.rest import REMEMBERED_KEYS, Decode, Params, Recent, RestApi, encoded
from astra_kraken.errors import derivatives_interpreter, spot_interpreter
from astra_kraken.settings import DERIVATIVES, SPOT, Tier
from astra_kraken.signing import CONTENT_TYPE, JSON, derivatives_sign, secret_of, spot_sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from astra_kraken.settings import KrakenSettings

T = TypeVar("T")

Asked = Recent[tuple[Credentials, str], OrderRequest]
"""The latest placements of derivatives by account and client order id: of an order that is filled at once the
account's stream tells no more than the fills."""

PUBLIC: Final = "public"
CALLS: Final = "calls"
ORDERS: Final = "orders"
COST: Final = "cost"
HISTORY: Final = "history"


class TierLimits(msgspec.Struct, frozen=True):
    """What a verification level of Spot allows: the counters' ceilings, and how much they fall a second."""

    calls: float
    calls_decay: float
    orders: float
    orders_decay: float


TIERS: Mapping[Tier, TierLimits] = {
    Tier.STARTER: TierLimits(15, 0.33, 60, 1.0),
    Tier.INTERMEDIATE: TierLimits(20, 0.5, 125, 2.34),
    Tier.PRO: TierLimits(20, 1.0, 180, 3.75),
}
_NONCES_PER_MS = {"ms": 1, "us": 1000, "ns": 1_000_000}

_AGES_S = (5, 10, 15, 45, 90, 300)
_CANCEL_COSTS = (8, 6, 5, 4, 2, 1, 0)
_AMEND_COSTS = (4, 3, 2, 1, 1, 1, 1)


def _by_age(costs: Sequence[int], age_s: float | None) -> int:
    """By the age of the order. One of unknown age was placed by somebody else: an old one, most likely."""
    if age_s is None:
        return max(costs[-1], 1)
    return next((cost for limit, cost in zip(_AGES_S, costs, strict=False) if age_s < limit), costs[-1])


def cancel_cost(age_s: float | None) -> int:
    """What it costs in the matching engine's counter to cancel an order of that age."""
    return _by_age(_CANCEL_COSTS, age_s)


def amend_cost(age_s: float | None) -> int:
    return _by_age(_AMEND_COSTS, age_s)


class _Nonces:
    """Grows for ever, and from one process to the next as the time does."""

    def __init__(self, clock: Clock, unit: str) -> None:
        self._clock = clock
        self._per_ms = _NONCES_PER_MS[unit]
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, self._clock.wall_ns() * self._per_ms // 1_000_000)
        return self._last


class _Time(msgspec.Struct):
    unixtime: int


class _SpotResult(msgspec.Struct):
    """Spot's answers hold what was asked for in `result`."""

    result: msgspec.Raw


class _SpotTime(msgspec.Struct):
    result: _Time


_decode_result = msgspec.json.Decoder(_SpotResult).decode
_decode_spot_time = msgspec.json.Decoder(_SpotTime).decode


class SpotRest(RestApi):
    """`/0/public` and `/0/private`."""

    EXPIRING: Final = frozenset({f"/0/private/{name}" for name in ("AddOrder", "AddOrderBatch", "AmendOrder")})
    """Requests that carry a deadline."""

    def __init__(self, exchange: str, settings: KrakenSettings, clock: Clock, **options: Any) -> None:
        limits = TIERS[settings.tier]
        buckets = (
            # About one request a second from one address (the venue publishes no figure).
            Bucket(PUBLIC, 15, 15.0, BucketKind.DECAYING),
            Bucket(CALLS, limits.calls, limits.calls / limits.calls_decay, BucketKind.DECAYING, per_account=True),
            Bucket(
                ORDERS,
                limits.orders,
                limits.orders / limits.orders_decay,
                BucketKind.DECAYING,
                per_account=True,
                per_scope=True,
            ),
        )
        limiter = RateLimiter(exchange, buckets, clock)
        super().__init__(exchange, SPOT, settings.hosts.spot_rest, limiter=limiter, clock=clock, **options)
        self.window_ms = settings.recv_window_ms
        self._local = clock
        self._nonce_unit = settings.nonce_unit
        self._overtaking = settings.nonce_window
        self._nonces: Recent[str, _Nonces] = Recent(REMEMBERED_KEYS)
        self._judge = spot_interpreter(exchange, self.clock.now_ms)

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return self._judge(request, response)

    def sign(self, credentials: Credentials) -> Sign:
        key = self.key(credentials)
        nonces = self._nonces.made(key.key.get_secret_value(), lambda: _Nonces(self._local, self._nonce_unit))
        return spot_sign(key, secret_of(key, self.exchange), nonces.next, self.window_ms, self.EXPIRING)

    async def server_time(self) -> int:
        """Whole seconds are told: the middle of the second is the best guess."""
        request = Request("GET", "/0/public/Time", costs={PUBLIC: 1})
        return (await self.read(_decode_spot_time, request)).result.unixtime * 1000 + 500

    async def public(self, decode: Decode[T], name: str, params: Params = ()) -> T:
        """`GET /0/public/<name>`; `decode` takes what is in `result`."""
        request = Request("GET", f"/0/public/{name}", query=encoded(params), costs={PUBLIC: 1})
        return await self.read(_inner(decode), request)

    async def private(
        self, decode: Decode[T], name: str, params: Params, credentials: Credentials, *, calls: float = 1
    ) -> T:
        """`POST /0/private/<name>`, a request that reads; it adds `calls` to the key's counter."""
        request = self._request(name, encoded(params), {CALLS: calls}, credentials)
        return await self.read(_inner(decode), request, credentials)

    async def asked(self, decode: Decode[T], name: str, body: bytes, credentials: Credentials) -> T:
        """Like `private`, with parameters as JSON."""
        return await self.read(_inner(decode), self._request(name, body, {CALLS: 1}, credentials), credentials)

    async def command(
        self,
        decode: Decode[T],
        name: str,
        body: str | bytes,
        credentials: Credentials,
        *,
        market: str,
        operation: str,
        costs: Mapping[Any, float],
        client_order_id: str | None = None,
        order_id: str | None = None,
        places: Sequence[str] = (),
        urgent: bool = False,
    ) -> T:
        """A request that places, changes or cancels, sent once. `body`: form text, or JSON as bytes."""
        request = self._request(name, body, costs, credentials)
        if urgent:
            # Cancels are counted and never refused: they may leave no room for new orders.
            request = msgspec.structs.replace(request, urgent=True, on_credit=True)
        answer = await self.order(
            request,
            credentials,
            market=market,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
            places=places,
        )
        return commanded(_inner(decode), answer, self.exchange, market, operation, client_order_id, order_id)

    def _request(self, name: str, body: str | bytes, costs: Mapping[Any, float], credentials: Credentials) -> Request:
        """A key's nonces must arrive in the order in which they were made: its requests go one at a time, unless the
        key is said to have a nonce window."""
        lane = None if self._overtaking else self.key(credentials).key.get_secret_value()
        headers = {CONTENT_TYPE: JSON} if isinstance(body, bytes) else {}
        text = body if isinstance(body, bytes) else body.encode()
        return Request("POST", f"/0/private/{name}", body=text, headers=headers, costs=costs, lane=lane)


def commanded(
    decode: Decode[T],
    answer: bytes,
    exchange: str,
    market: str,
    operation: str,
    client_order_id: str | None,
    order_id: str | None,
) -> T:
    """The answer to a command, decoded. One that is not understood leaves the outcome unknown: it was no refusal."""
    try:
        return decode(answer)
    except msgspec.DecodeError as error:
        reason = str(error)
    raise OrderOutcomeUnknown(
        f"the answer to {operation} has another shape than documented: {reason}",
        exchange=exchange,
        market=market,
        operation=operation,
        client_order_id=client_order_id,
        order_id=order_id,
    )


def _inner(decode: Decode[T]) -> Decode[T]:
    return lambda body: decode(bytes(_decode_result(body).result))


class _ServerTime(msgspec.Struct, rename="camel"):
    server_time: datetime.datetime


_decode_server_time = msgspec.json.Decoder(_ServerTime).decode

PREFIX: Final = "/derivatives/api/v3"


class DerivativesRest(RestApi):
    """`/derivatives/api/v3` and `/api/history`."""

    EXPIRING: Final = frozenset(
        {f"{PREFIX}/{name}" for name in ("sendorder", "editorder", "cancelorder", "batchorder")}
    )

    def __init__(self, exchange: str, settings: KrakenSettings, clock: Clock, **options: Any) -> None:
        buckets = (
            Bucket(COST, 500, 10.0, per_account=True),
            # A pool of tokens that fills up again.
            Bucket(HISTORY, 100, 600.0, BucketKind.DECAYING, per_account=True),
        )
        limiter = RateLimiter(exchange, buckets, clock)
        base_url = settings.hosts.derivatives_rest
        super().__init__(exchange, DERIVATIVES, base_url, limiter=limiter, clock=clock, **options)
        self.window_ms = settings.recv_window_ms
        self._judge = derivatives_interpreter(exchange)

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return self._judge(request, response)

    def sign(self, credentials: Credentials) -> Sign:
        key = self.key(credentials)
        return derivatives_sign(key, secret_of(key, self.exchange), self.window_ms, self.EXPIRING)

    async def server_time(self) -> int:
        """Every answer says it; this is the shortest of those that need no key."""
        answer = await self.public(_decode_server_time, "instruments/status")
        return round(answer.server_time.timestamp() * 1000)

    async def public(self, decode: Decode[T], name: str, params: Params = ()) -> T:
        """`GET <name>`; costs nothing."""
        return await self.read(decode, Request("GET", f"{PREFIX}/{name}", query=encoded(params)))

    async def private(
        self, decode: Decode[T], name: str, params: Params, credentials: Credentials, *, cost: float
    ) -> T:
        """`GET <name>`, signed. A name that begins with a slash is a whole path (of `/api/history`)."""
        whole = name.startswith("/")
        path = name if whole else f"{PREFIX}/{name}"
        request = Request("GET", path, query=encoded(params), costs={HISTORY if whole else COST: cost})
        return await self.read(decode, request, credentials)

    async def posted(
        self, decode: Decode[T], method: str, name: str, params: Params, credentials: Credentials, *, cost: float
    ) -> T:
        """A signed request whose repetition does no harm (a look-up by POST, a preference)."""
        text = encoded(params)
        in_body = method == "POST"
        request = Request(
            method,
            f"{PREFIX}/{name}",
            query="" if in_body else text,
            body=text.encode() if in_body else b"",
            costs={COST: cost},
        )
        return await self.read(decode, request, credentials)

    async def command(
        self,
        decode: Decode[T],
        name: str,
        params: Params,
        credentials: Credentials,
        *,
        market: str,
        operation: str,
        cost: float,
        client_order_id: str | None = None,
        order_id: str | None = None,
        places: Sequence[str] = (),
        urgent: bool = False,
        unproven: bool = False,
    ) -> T:
        """`POST <name>`, a request that places, changes or cancels, sent once. `unproven`: it carries no expiry."""
        request = Request("POST", f"{PREFIX}/{name}", body=encoded(params).encode(), costs={COST: cost}, urgent=urgent)
        answer = await self.order(
            request,
            credentials,
            market=market,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
            places=places,
            conditional=unproven,
        )
        return commanded(decode, answer, self.exchange, market, operation, client_order_id, order_id)


class Rest:
    """The REST side of both families (both are made; only those that the settings name are used)."""

    def __init__(
        self,
        exchange: str,
        settings: KrakenSettings,
        clock: Clock,
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        options: dict[str, Any] = {
            "timeout_s": settings.request_timeout_s,
            "proxy": settings.proxy,
            "unknown_market": unknown_market,
            "transport": transport,
        }
        self.spot = SpotRest(exchange, settings, clock, **options)
        self.derivatives = DerivativesRest(exchange, settings, clock, **options)

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self.spot.aclose()
        await self.derivatives.aclose()
