"""The REST APIs, classic and unified, of spot and futures: what requests cost, how they are sent, whose they are.

Requests draw on pools of a weight in 30 s: one of each product and one of the account's management for each user, one
of public data for each address. Every answer of a limited call reports its own pool in the same headers. VIP levels
have larger pools: the reports let more through than the limits here. Source: docs-new, "Rate Limit".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec

from astra.errors import PermissionDenied, VenueError
from astra.models.base import decimal_text
from astra.models.credentials import Credentials
from astra.models.protocols import Clock
from astra.net.http import Request, Response, Sign
from astra.net.ratelimit import Bucket, Cost, RateLimiter
from astra.rest import REMEMBERED_KEYS, Decode, Params, Recent, RestApi, encoded
from astra_kucoin.errors import interpret
from astra_kucoin.settings import FUTURES, SPOT, KucoinSettings
from astra_kucoin.signing import rest_sign

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")
PUBLIC: Final = "public"
MANAGEMENT: Final = "management"
UNIFIED: Final = "unified"
POOLS: Mapping[str, tuple[int, float]] = {
    SPOT: (4000, 30.0),
    FUTURES: (2000, 30.0),
    MANAGEMENT: (2000, 30.0),
    PUBLIC: (2000, 30.0),
    UNIFIED: (200, 3.0),
}
"""Pool -> (weight, seconds) without a VIP level."""
LEFT_HEADER: Final = "gw-ratelimit-remaining"
SITE: Final = "X-SITE-TYPE"
CLASSIC: Final = "CLASSIC"
UNIFIED_ACCOUNT: Final = "UNIFIED"


class Answer(msgspec.Struct, Generic[T]):
    """The envelope of every answer."""

    data: T


class _Mode(msgspec.Struct, rename="camel"):
    self_account_mode: str


_decode_time = msgspec.json.Decoder(Answer[int]).decode
_decode_mode = msgspec.json.Decoder(Answer[_Mode]).decode


def limiter(exchange: str, clock: Clock) -> RateLimiter:
    """The venue's pools. Both hosts draw on the one for public data."""
    buckets = [
        Bucket(name, limit, window_s, left_header=LEFT_HEADER, header_is_shared=True, per_account=name != PUBLIC)
        for name, (limit, window_s) in POOLS.items()
    ]
    return RateLimiter(exchange, buckets, clock)


class KucoinApi(RestApi):
    """The REST API of one product, for classic accounts or (`unified`, on spot's host) for unified ones."""

    def __init__(
        self,
        exchange: str,
        product: str,
        settings: KucoinSettings,
        clock: Clock,
        unknown_market: Callable[[], None],
        limits: RateLimiter,
        transport: Any = None,
        *,
        unified: bool = False,
    ) -> None:
        hosts = settings.hosts
        super().__init__(
            exchange,
            product,
            hosts.spot_rest if product == SPOT or unified else hosts.futures_rest,
            limiter=limits,
            clock=clock,
            timeout_s=settings.request_timeout_s,
            proxy=settings.proxy,
            unknown_market=unknown_market,
            transport=transport,
        )
        self.recv_window_ms = settings.recv_window_ms
        self._pool = UNIFIED if unified else product
        self._headers = {SITE: "australia"} if settings.environment == "australia" else {}

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return interpret(self.exchange, self.product, request, response)

    def sign(self, credentials: Credentials) -> Sign:
        return rest_sign(self.key(credentials))

    async def server_time(self) -> int:
        return (await self.public(_decode_time, "/api/v1/timestamp", weight=0)).data

    # -- requests -----------------------------------------------------------------------------------------------

    async def public(self, decode: Decode[T], path: str, params: Params = (), *, weight: int) -> T:
        """GET without a key."""
        request = Request("GET", path, query=encoded(params), headers=self._headers, costs={PUBLIC: weight})
        return await self.read(decode, request)

    async def signed(
        self,
        decode: Decode[T],
        path: str,
        params: Params,
        credentials: Credentials,
        *,
        weight: int,
        pool: str | None = None,
    ) -> T:
        """GET of what is the account's own."""
        costs: dict[Cost, float] = {pool or self._pool: weight}
        request = Request("GET", path, query=encoded(params), headers=self._headers, costs=costs)
        return await self.read(decode, request, credentials)

    async def set(
        self, decode: Decode[T], path: str, body: Mapping[str, Any], credentials: Credentials, *, weight: int
    ) -> T:
        """POST whose repetition does no harm."""
        content = msgspec.json.encode(body) if body else b""
        request = Request("POST", path, body=content, headers=self._headers, costs={self._pool: weight})
        return await self.read(decode, request, credentials)

    async def command(
        self,
        method: str,
        path: str,
        credentials: Credentials,
        *,
        market: str,
        operation: str,
        weight: int,
        params: Params = (),
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        client_order_id: str | None = None,
        order_id: str | None = None,
        places: Sequence[str] = (),
        conditional: bool = False,
    ) -> bytes:
        """Place, change or cancel (see `RestApi.order`)."""
        request = Request(
            method,
            path,
            query=encoded(params),
            body=b"" if body is None else msgspec.json.encode(body),
            headers=self._headers,
            costs={self._pool: weight},
            urgent=operation.startswith("cancel"),
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

    async def account_mode(self, sign: Sign, credentials: Credentials) -> str:
        """Which back end serves the account, as the spot host tells it."""
        for version in ("v2", "v1"):
            request = Request(
                "GET",
                f"/api/ua/{version}/account/mode",
                headers=self._headers,
                costs={UNIFIED: 2},
                account=credentials,
            )
            try:
                answer = await self.client.send(request, sign)
            except VenueError as error:
                if error.code == "404" and version == "v2":
                    continue
                raise
            return self.understood(_decode_mode, request, answer).data.self_account_mode
        raise AssertionError("unreachable")


class Rest:
    """All APIs, and of what kind the accounts are."""

    def __init__(
        self,
        exchange: str,
        settings: KucoinSettings,
        clock: Clock,
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        self.exchange = exchange
        limits = limiter(exchange, clock)

        def api(product: str, *, unified: bool = False) -> KucoinApi:
            return KucoinApi(exchange, product, settings, clock, unknown_market, limits, transport, unified=unified)

        self.spot, self.futures = api(SPOT), api(FUTURES)
        self.unified: Mapping[str, KucoinApi] = {product: api(product, unified=True) for product in (SPOT, FUTURES)}
        for unified in self.unified.values():
            unified.clock = self.spot.clock  # they are one host
        self._set_mode = None if settings.account_mode == "auto" else settings.account_mode.upper()
        self._modes: Recent[tuple[str, Credentials], str] = Recent(REMEMBERED_KEYS)

    def __getitem__(self, product: str) -> KucoinApi:
        return self.spot if product == SPOT else self.futures

    async def aclose(self) -> None:
        for api in (self.spot, self.futures, *self.unified.values()):
            await api.aclose()

    async def mode(self, product: str, credentials: Credentials) -> str:
        """Of what kind the account is, `CLASSIC` or `UNIFIED`, asked once. Raises `PermissionDenied` for others."""
        if self._set_mode is not None:
            return self._set_mode
        known = self._modes.get((product, credentials))
        if known is not None:
            return known
        api = self.unified[product]
        mode = (await api.account_mode(api.sign(credentials), credentials)).upper()
        if mode not in (CLASSIC, UNIFIED_ACCOUNT):
            raise PermissionDenied(
                f"account {credentials.account!r} is of the kind {mode} at KuCoin, which Astra does not know: give the "
                "keys of a classic or a unified (sub-)account",
                exchange=self.exchange,
            )
        self._modes[product, credentials] = mode
        return mode


def part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


def number(value: Decimal) -> int | str:
    """An amount as the venue's JSON has it where it is a whole number by nature: as such if it is one."""
    return int(value) if value == value.to_integral_value() else decimal_text(value)
