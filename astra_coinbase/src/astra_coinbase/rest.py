"""The two REST APIs: Advanced Trade (`/api/v3/brokerage`), and the gateway's JSON-RPC over HTTP (`/api/v2`).

Advanced Trade counts requests by user (private) or address (public) and reports in headers what is left; the gateway
has credits that come back with time, and one that runs out of them may lose its connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec

from astra.errors import AuthenticationError, OrderOutcomeUnknown, VenueUnavailable
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import OrderRef
from astra.models.protocols import Clock
from astra.net.http import AnswerLost, Request, Response, Sign
from astra.net.ratelimit import Bucket, BucketKind, Cost, Permit, RateLimiter
from astra.rest import Decode, Params, Recent, RestApi, encoded, plain
from astra_coinbase.errors import interpret_advanced, interpret_gateway
from astra_coinbase.settings import ADVANCED, INTERNATIONAL
from astra_coinbase.signing import Signer

if TYPE_CHECKING:
    from astra_coinbase.settings import CoinbaseSettings

T = TypeVar("T")
PREFIX = "/api/v3/brokerage"
GATEWAY_PREFIX = "/api/v2"
PUBLIC, PRIVATE = "public", "private"
MATCHING = "matching"
"""The gateway's commands, which have credits of their own."""
SIGNERS_KEPT = 256
FORGOTTEN = "13009"
"""The gateway's answer to a token that it does not know (any more): nothing was done."""
FRESH = 0.8
"""A token of the gateway is renewed at this part of its life."""


class Server(msgspec.Struct, rename="camel"):
    """`GET /time`."""

    epoch_millis: str


class Result(msgspec.Struct, Generic[T]):
    """The envelope of the gateway's answers."""

    result: T


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: int


decode_time = msgspec.json.Decoder(Server).decode
_decode_gateway_time = msgspec.json.Decoder(Result[int]).decode
_decode_granted = msgspec.json.Decoder(Result[_Granted]).decode


PUBLIC_LIMIT, PRIVATE_LIMIT = 10, 30
"""Advanced Trade: requests a second of an address, and of a user."""
LIMIT, LEFT = "x-ratelimit-limit", "x-ratelimit-remaining"


class AdvancedLimiter(RateLimiter):
    """Both limits are reported under the same names: what an answer says concerns the user where it has one, else the
    address, and nothing if it is about another limit."""

    def observe(self, headers: Mapping[str, str], account: Hashable = None, permit: Permit | None = None) -> None:
        name, limit = (PUBLIC, PUBLIC_LIMIT) if account is None else (PRIVATE, PRIVATE_LIMIT)
        if headers.get(LIMIT) == str(limit):
            headers = {**headers, f"{LEFT}-{name}": headers.get(LEFT, "")}
        super().observe(headers, account, permit)


def advanced_limiter(exchange: str, clock: Clock) -> RateLimiter:
    """Advanced Trade counts seconds, for the address (public) and for each user."""
    return AdvancedLimiter(
        exchange,
        [
            Bucket(PUBLIC, PUBLIC_LIMIT, 1.0, left_header=f"{LEFT}-{PUBLIC}"),
            Bucket(PRIVATE, PRIVATE_LIMIT, 1.0, left_header=f"{LEFT}-{PRIVATE}", per_account=True),
        ],
        clock,
    )


def gateway_limiter(exchange: str, clock: Clock) -> RateLimiter:
    """The gateway: the usual credits of the protocol that it speaks, of which it names none itself: 100 requests at
    once and 20 a second, of commands 20 and 5."""
    decaying = BucketKind.DECAYING
    return RateLimiter(
        exchange,
        [
            Bucket(PUBLIC, 90, 4.5, kind=decaying),
            Bucket(PRIVATE, 90, 4.5, kind=decaying, per_account=True),
            Bucket(MATCHING, 20, 4.0, kind=decaying, per_account=True),
        ],
        clock,
    )


class CoinbaseRest(RestApi):
    """What both have in common: keys, and tokens made of them."""

    def __init__(
        self,
        exchange: str,
        product: str,
        base_url: str,
        limiter: RateLimiter,
        settings: CoinbaseSettings,
        clock: Clock,
        chance: Callable[[], random.Random],
        unknown_market: Callable[[], None],
        transport: Any,
    ) -> None:
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
        self.host = urlsplit(base_url).netloc
        self._chance = chance
        self._signers: Recent[Credentials, Signer] = Recent(SIGNERS_KEPT)

    def signer(self, credentials: Credentials) -> Signer:
        """The account's key, ready to sign. Raises `AuthenticationError`."""
        return self._signers.made(credentials, lambda: Signer(self.key(credentials), self._nonce))

    def _nonce(self) -> str:
        return f"{self._chance().getrandbits(256):064x}"

    async def commanded(
        self,
        decode: Decode[T],
        request: Request,
        credentials: Credentials,
        *,
        market: Market,
        operation: str,
        ref: OrderRef | None,
        places: bool,
    ) -> T:
        """Send an order, change or cancel (see `RestApi.order`). An answer that cannot be understood is one that is
        lost. `places`: `ref` names an order that is placed."""
        client_order_id, order_id = (None, None) if ref is None else (ref.client_order_id, ref.id)
        body = await self.order(
            request,
            credentials,
            market=market.symbol,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
            places=[client_order_id] if places and client_order_id is not None else (),
        )
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            raise OrderOutcomeUnknown(
                f"the answer to {operation} has another shape: {error}",
                exchange=self.exchange,
                market=market.symbol,
                operation=operation,
                client_order_id=client_order_id,
                order_id=order_id,
            ) from None


class AdvancedRest(CoinbaseRest):
    """Advanced Trade: every request is signed by a token of its own."""

    def __init__(
        self,
        exchange: str,
        settings: CoinbaseSettings,
        clock: Clock,
        chance: Callable[[], random.Random],
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        limiter = advanced_limiter(exchange, clock)
        host = settings.hosts.advanced_rest
        super().__init__(exchange, ADVANCED, host, limiter, settings, clock, chance, unknown_market, transport)
        self.command_life_s = -(-settings.recv_window_ms // 1000)
        """How long a command may be on its way: tokens count in seconds."""

    def interpret(self, request: Request, response: Response) -> Exception | None:
        return interpret_advanced(self.exchange, request, response)

    def sign(self, credentials: Credentials) -> Sign:
        return self.signer(credentials).rest_sign(self.host, self.command_life_s)

    async def server_time(self) -> int:
        return int((await self.public(decode_time, "time")).epoch_millis)

    async def public(self, decode: Decode[T], path: str, params: Params = ()) -> T:
        """GET without a key, past the venue's cache of a second."""
        request = Request(
            "GET",
            f"{PREFIX}/{path}",
            query=encoded(params),
            headers={"cache-control": "no-cache"},
            costs={PUBLIC: 1.0},
        )
        return await self.read(decode, request)

    async def signed(self, decode: Decode[T], path: str, params: Params, credentials: Credentials) -> T:
        """GET of what is the account's own."""
        request = Request("GET", f"{PREFIX}/{path}", query=encoded(params), costs={PRIVATE: 1.0})
        return await self.read(decode, request, credentials)

    async def asked(self, path: str, body: Mapping[str, Any], credentials: Credentials) -> bytes:
        """POST of a question."""
        return await self.read(bytes, self._post(path, body), credentials)

    async def command(
        self,
        decode: Decode[T],
        path: str,
        body: Mapping[str, Any],
        credentials: Credentials,
        *,
        market: Market,
        operation: str,
        ref: OrderRef,
        places: bool = False,
        urgent: bool = False,
    ) -> T:
        """POST of an order, change or cancel."""
        request = self._post(path, body, urgent=urgent)
        return await self.commanded(
            decode, request, credentials, market=market, operation=operation, ref=ref, places=places
        )

    def _post(self, path: str, body: Mapping[str, Any], *, urgent: bool = False) -> Request:
        return Request(
            "POST",
            f"{PREFIX}/{path}",
            body=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
            costs={PRIVATE: 1.0},
            urgent=urgent,
        )


class _Token(msgspec.Struct, frozen=True):
    value: str
    until: float
    """Monotonic time after which a new one is wanted, s."""

    def __repr__(self) -> str:
        return "_Token(***)"


class InternationalRest(CoinbaseRest):
    """The gateway: a token for some minutes, had for one made of the key."""

    def __init__(
        self,
        exchange: str,
        settings: CoinbaseSettings,
        clock: Clock,
        chance: Callable[[], random.Random],
        unknown_market: Callable[[], None],
        transport: Any = None,
    ) -> None:
        limiter = gateway_limiter(exchange, clock)
        host = settings.hosts.international_rest
        super().__init__(exchange, INTERNATIONAL, host, limiter, settings, clock, chance, unknown_market, transport)
        self._tokens: Recent[Credentials, _Token] = Recent(SIGNERS_KEPT)
        self._logging_in = anyio.Lock()

    def interpret(self, request: Request, response: Response) -> Exception | None:
        error = interpret_gateway(self.exchange, request, response)
        if isinstance(error, AuthenticationError) and isinstance(request.account, Credentials):
            self._tokens[request.account] = _Token("", 0.0)  # the venue forgot it: the next request logs in anew
        return error

    def sign(self, credentials: Credentials) -> Sign:
        def complete(request: Request, now_ms: int) -> Request:
            token = self._tokens.get(credentials)
            headers = {**request.headers, "Authorization": f"Bearer {token.value if token else ''}"}
            return msgspec.structs.replace(request, headers=headers)

        return complete

    async def server_time(self) -> int:
        return (await self.public(_decode_gateway_time, "public/get_time")).result

    async def log_in(self, credentials: Credentials, *, once: bool = False) -> None:
        """Have a token that holds for a while. `once`: an order waits for no second attempt."""
        async with self._logging_in:
            token = self._tokens.get(credentials)
            now = self.clock.local.monotonic()
            if token is not None and now < token.until:
                return
            signer = self.signer(credentials)
            await self.clock.refresh()
            uri = f"POST {self.host}{GATEWAY_PREFIX}/public/auth"
            params = {"grant_type": "coinbase_cdp", "token": signer.token(self.clock.now_ms(), uri)}
            request = self._call("public/auth", params, {PUBLIC: 1.0})
            if once:
                request = msgspec.structs.replace(request, command=True)
            try:
                granted = (await self.read(_decode_granted, request)).result
            except AnswerLost as lost:
                raise VenueUnavailable(f"log-in: {lost.message}", exchange=self.exchange) from None
            self._tokens[credentials] = _Token(granted.access_token, now + FRESH * granted.expires_in)

    # -- requests -----------------------------------------------------------------------------------------------

    def _call(
        self, method: str, params: Mapping[str, Any], costs: Mapping[Cost, float], *, urgent: bool = False
    ) -> Request:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return Request(
            "POST",
            f"{GATEWAY_PREFIX}/{method}",
            body=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
            costs=costs,
            urgent=urgent,
        )

    async def public(self, decode: Decode[T], method: str, params: Params = ()) -> T:
        """GET without a key."""
        request = Request("GET", f"{GATEWAY_PREFIX}/{method}", query=encoded(params), costs={PUBLIC: 1.0})
        return await self.read(decode, request)

    async def private(self, decode: Decode[T], method: str, params: Mapping[str, Any], credentials: Credentials) -> T:
        """A question about the account, or a setting whose repetition does no harm."""
        await self.log_in(credentials)
        request = self._call(f"private/{method}", params, {PRIVATE: 1.0})
        try:
            return await self.read(decode, request, credentials)
        except AuthenticationError as error:
            if error.code != FORGOTTEN:
                raise
        await self.log_in(credentials)
        return await self.read(decode, request, credentials)

    async def command(
        self,
        decode: Decode[T],
        method: str,
        params: Mapping[str, Any],
        credentials: Credentials,
        *,
        market: Market,
        operation: str,
        ref: OrderRef | None = None,
        places: bool = False,
        urgent: bool = False,
    ) -> T:
        """An order, change or cancel."""
        await self.log_in(credentials, once=True)
        request = self._call(f"private/{method}", params, {PRIVATE: 1.0, MATCHING: 1.0}, urgent=urgent)
        return await self.commanded(
            decode, request, credentials, market=market, operation=operation, ref=ref, places=places
        )


def number(value: Decimal) -> msgspec.Raw:
    """A JSON number, digit for digit and without an exponent."""
    return msgspec.Raw(plain(value).encode())
