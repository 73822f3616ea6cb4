"""The venue seen from outside: requests and connections in, to whom it concerns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import ClassVar

import msgspec

from astra.models.markets import Market
from astra.models.protocols import Clock
from astra.sandbox import (
    Account,
    EngineEvent,
    Exchange,
    HttpRequest,
    HttpResponse,
    Link,
    SandboxSession,
    SandboxVenue,
)
from astra.sandbox.toolkit import answer
from astra_coinbase.sandbox.account_rest import AccountData
from astra_coinbase.sandbox.calls import Body, Call, Endpoint, Params, Routes
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.feeds import Hub
from astra_coinbase.sandbox.gateway.api import SOCKET_PATH, GatewayApi
from astra_coinbase.sandbox.gateway.calls import envelope, too_many_requests
from astra_coinbase.sandbox.keys import BadToken, Keys, make_key
from astra_coinbase.sandbox.limits import Meter, SandboxLimits
from astra_coinbase.sandbox.market_rest import MarketData
from astra_coinbase.sandbox.markets import ALIASES, INTERNATIONAL, SPOT, US_FUTURES, default_markets
from astra_coinbase.sandbox.sessions import AdvancedSession, UserDesk
from astra_coinbase.sandbox.trading_rest import Trading
from astra_coinbase.sandbox.wire import Refusal, not_found, unauthorized

ADVANCED_HOST = "api.coinbase.com"
_RATE_LIMITED = {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
_MOST_CACHED = 1000


class _Cached(msgspec.Struct, frozen=True):
    body: bytes
    until: int


class CoinbaseSandbox(SandboxVenue):
    """Advanced Trade (spot and US futures) and the international gateway on the matching engine.

    `BTC-USDC` and `ETH-USDC` are further names of the USD products: orders under both meet in one book, each paid from
    its own wallet. The engine counts the gateway's markets in contracts: an `amount` is contracts x `contract_size`.
    The gateway's options and dated futures can be traded here, which the venue does not allow yet.
    """

    exchange: ClassVar[str] = "COINBASE"
    hosts: ClassVar[Mapping[str, str]] = {
        "advanced_rest": "http",
        "advanced_stream": "ws",
        "advanced_user_stream": "ws",
        "international_rest": "http",
        "international_stream": "ws",
        "international_private_stream": "ws",
    }
    fees: ClassVar[Mapping[str, tuple[Decimal, Decimal]]] = {
        SPOT: (Decimal("0.006"), Decimal("0.012")),
        US_FUTURES: (Decimal("0.0002"), Decimal("0.0005")),
        INTERNATIONAL: (Decimal("0.00015"), Decimal("0.00035")),
    }
    quote_fees: ClassVar[Collection[str]] = (SPOT,)
    aliases: ClassVar[Mapping[str, str]] = ALIASES
    wallets: ClassVar[Mapping[str, str]] = {name: name for name in (SPOT, US_FUTURES, INTERNATIONAL)}

    def __init__(self, engine: Exchange, clock: Clock, limits: SandboxLimits | None = None) -> None:
        super().__init__(engine, clock)
        self.limits = limits or SandboxLimits()
        self.meter = Meter(self.limits)
        self.keys = Keys(engine)
        self.catalogue = Catalogue(engine)
        self.hub = Hub(engine, self.now_ms)
        self.accounts = AccountData(engine, self.catalogue)
        self._users = UserDesk(engine, self.catalogue, self.accounts)
        self.gateway = GatewayApi(
            engine,
            self.catalogue,
            self.keys,
            self.meter,
            now_us=lambda: self.wall_ns() // 1000,
            advance=self.advance,
        )
        self._routes = Routes(
            MarketData(engine, self.catalogue).routes()
            | Trading(engine, self.catalogue).routes()
            | self.accounts.routes()
        )
        self._cache: dict[str, _Cached] = {}
        self._sessions: dict[SandboxSession, None] = {}
        self._connections = 0
        engine.subscribe(self._heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        return default_markets(count)

    @classmethod
    def make_key(cls, random: Random) -> tuple[str, str, str | None]:
        """The name of a key, and its secret as PEM."""
        name, secret = make_key(random)
        return name, secret, None

    def wall_ns(self) -> int:
        return self.clock.wall_ns()

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.clock.wall_ns() // 1_000_000

    def update_id(self, symbol: str, change_id: int) -> int:
        """The gateway's book id of the engine's change in the market (an Astra symbol): to compare books.

        Raises `LookupError` for markets of Advanced Trade, whose books have no ids.
        """
        return self._numbered(symbol).update_id(change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change that a book id of the gateway stands for."""
        return self._numbered(symbol).change_id(update_id)

    def _numbered(self, symbol: str) -> Listing:
        listing = self.catalogue.of_symbol(symbol)
        if listing.product != INTERNATIONAL:
            raise LookupError(f"the books of Advanced Trade have no ids: {symbol}")
        return listing

    def _heard(self, event: EngineEvent) -> None:
        self._users.heard(event)
        self.hub.heard(event)
        self.gateway.heard(event)

    def advance(self, now_ms: int) -> None:
        """Send the batches that are due."""
        self.hub.flush(now_ms)
        self.gateway.flush(now_ms)

    # --- REST ---

    def http(self, request: HttpRequest) -> HttpResponse:
        self.advance(self.now_ms())
        if request.host == "international_rest":
            return self.gateway.http(request)
        return self._advanced(request)

    def _advanced(self, request: HttpRequest) -> HttpResponse:
        found = self._routes.find(request)
        headers: dict[str, str] = {}
        try:
            if found is None:
                raise not_found("no such method and path")
            endpoint, path = found
            account = self._caller(request) if endpoint.private else None
            if not self._within_limits(request, account, headers):
                return answer(_RATE_LIMITED, status=429, headers=headers)
            if endpoint.cached and "no-cache" not in request.headers.get("cache-control", ""):
                return answer(self._from_cache(request, endpoint, path), headers=headers)
            return answer(self._called(request, endpoint, path, account), headers=headers)
        except Refusal as refusal:
            return answer(refusal.body, status=refusal.status, headers=headers)

    def _within_limits(self, request: HttpRequest, account: Account | None, headers: dict[str, str]) -> bool:
        if account is None:
            kind, owner, limit = "public", request.client, self.limits.public_per_second
        else:
            kind, owner, limit = "private", account.name, self.limits.private_per_second
        room, usage = self.meter.spend(kind, owner, limit, self.now_ms())
        headers.update(usage)
        return room

    def _called(
        self, request: HttpRequest, endpoint: Endpoint, path: Mapping[str, str], account: Account | None
    ) -> object:
        params = Params(request.query)
        body = Body.of(request.body if request.method == "POST" else b"")
        if request.method == "GET":
            params.check_names(endpoint.accepts)
        else:
            params.check_names(frozenset())
            body.check_names(endpoint.accepts)
        return endpoint.handler(Call(params, body, path, self.now_ms(), account))

    def _from_cache(self, request: HttpRequest, endpoint: Endpoint, path: Mapping[str, str]) -> bytes:
        """Public answers may be as old as the venue's cache."""
        now_ms = self.now_ms()
        kept = self._cache.get(request.target)
        if kept is None or now_ms >= kept.until:
            body = msgspec.json.encode(self._called(request, endpoint, path, None))
            kept = self._cache[request.target] = _Cached(body, now_ms + self.limits.public_cache_ms)
            if len(self._cache) > _MOST_CACHED:
                del self._cache[next(iter(self._cache))]
        return kept.body

    def _caller(self, request: HttpRequest) -> Account:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise unauthorized()
        hosts = dict.fromkeys((ADVANCED_HOST, request.headers.get("host", ADVANCED_HOST)))
        uris = [f"{request.method} {host}{request.path}" for host in hosts]
        try:
            return self.keys.account_of(token, self.now_ms() / 1000, uris=uris)
        except BadToken:
            raise unauthorized() from None

    def mutating(self, request: HttpRequest) -> bool:
        """Orders only: placing, amending, cancelling. Previews change nothing; the gateway places by GET too."""
        if request.host == "international_rest":
            return self.gateway.mutating(request)
        found = self._routes.find(request)
        return found is not None and found[0].command

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        """No `Retry-After`: the venue sends none."""
        if request.host == "international_rest":
            return answer(envelope(None, self.wall_ns() // 1000, error=too_many_requests()), status=429)
        return answer(_RATE_LIMITED, status=429)

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """The 503 that leaves open whether the request was carried out; not JSON."""
        return HttpResponse(status=503, body=b"Service Unavailable", content_type="text/plain")

    # --- WebSocket ---

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        now_ms = self.now_ms()
        self.advance(now_ms)
        path = target.partition("?")[0].rstrip("/")
        self._connections += 1
        session: SandboxSession
        if host.startswith("international"):
            if path != SOCKET_PATH:
                return HttpResponse(status=404, body=b"")
            private, name = host == "international_private_stream", f"socket {self._connections}"
            session = self.gateway.connect(link, private=private, name=name, on_closed=self._forget)
        else:
            if path:
                return HttpResponse(status=404, body=b"")
            if not self.meter.connected(now_ms):
                return answer(_RATE_LIMITED, status=429)
            private = host == "advanced_user_stream"
            session = AdvancedSession(self, self._users, link, private=private, on_closed=self._forget)
        self._sessions[session] = None
        return session

    def _forget(self, session: SandboxSession) -> None:
        self._sessions.pop(session, None)
