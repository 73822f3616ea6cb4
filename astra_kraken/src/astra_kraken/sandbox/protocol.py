"""The venue seen from outside: REST requests and connections in, to whom it concerns."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import Any, ClassVar

import msgspec

from astra.models.markets import Market
from astra.models.protocols import Clock
from astra.sandbox import (
    EngineEvent,
    Exchange,
    HttpRequest,
    HttpResponse,
    Link,
    Reject,
    SandboxSession,
    SandboxVenue,
)
from astra.sandbox.toolkit import answer
from astra_kraken.sandbox.calls import Call, DerivativesRoutes, Endpoint, SpotRoutes, names
from astra_kraken.sandbox.catalogue import Catalogue, Statistics
from astra_kraken.sandbox.derivatives_feeds import DerivativesHub
from astra_kraken.sandbox.derivatives_history import DerivativesHistory
from astra_kraken.sandbox.derivatives_orders import DerivativesDesk
from astra_kraken.sandbox.derivatives_private import DerivativesPrivate, Wallets
from astra_kraken.sandbox.derivatives_public import DerivativesPublic
from astra_kraken.sandbox.derivatives_session import DerivativesSession
from astra_kraken.sandbox.derivatives_users import DerivativesUsers
from astra_kraken.sandbox.keys import Keys
from astra_kraken.sandbox.limits import Meter, SandboxLimits
from astra_kraken.sandbox.markets import DERIVATIVES, SPOT, default_markets, wallet_of
from astra_kraken.sandbox.spot_account import SpotAccount
from astra_kraken.sandbox.spot_commands import SpotCommands
from astra_kraken.sandbox.spot_feeds import SpotHub
from astra_kraken.sandbox.spot_lookups import SpotLookUps
from astra_kraken.sandbox.spot_orders import SpotDesk, refusal_of
from astra_kraken.sandbox.spot_public import SpotPublic
from astra_kraken.sandbox.spot_session import SpotSession
from astra_kraken.sandbox.spot_trading import StreamTrading
from astra_kraken.sandbox.spot_users import SpotUsers
from astra_kraken.sandbox.wire import DerivativesRefusal, Params, SpotRefusal, decode_json, millis

_PUBLIC, _PRIVATE = "/0/public/", "/0/private/"
_AUTHENTICATION = names("nonce otp")
_FIRST_CONNECTION = 13_834_774_380_200_032_777
"""Connection ids of Spot are beyond 2^63."""


class KrakenSandbox(SandboxVenue):
    """Spot (REST `/0`, stream v2) and derivatives (REST v3, stream v1; market data of the Unified WebSocket) on the
    matching engine."""

    exchange: ClassVar[str] = "KRAKEN"
    hosts: ClassVar[Mapping[str, str]] = {
        "spot_rest": "http",
        "spot_stream": "ws",
        "spot_private_stream": "ws",
        "derivatives_rest": "http",
        "derivatives_stream": "ws",
        "unified_stream": "ws",
    }
    fees: ClassVar[Mapping[str, tuple[Decimal, Decimal]]] = {
        SPOT: (Decimal("0.0025"), Decimal("0.004")),
        DERIVATIVES: (Decimal("0.0002"), Decimal("0.0005")),
    }
    quote_fees: ClassVar[Collection[str]] = (SPOT,)

    def __init__(self, engine: Exchange, clock: Clock, limits: SandboxLimits | None = None) -> None:
        super().__init__(engine, clock)
        self.limits = limits or SandboxLimits()
        self.catalogue = Catalogue(engine)
        self.meter = Meter(self.limits)
        self.keys = Keys(engine, self.limits)
        statistics = Statistics(engine)
        self._spot_desk = SpotDesk(engine, self.catalogue, self.meter)
        self._spot_hub = SpotHub(engine, self.catalogue, statistics, self.now_ms)
        self._spot_users = SpotUsers(self._spot_desk)
        self._trading = StreamTrading(self._spot_desk)
        self._desk = DerivativesDesk(engine, self.catalogue)
        wallets = Wallets(engine, self.catalogue)
        self._hub = DerivativesHub(engine, self.catalogue, statistics, self.now_ms)
        self._users = DerivativesUsers(self._desk, wallets, self.now_ms)
        self.spot_routes: SpotRoutes = {
            **SpotPublic(engine, self.catalogue, statistics).routes(),
            **SpotCommands(self._spot_desk).routes(),
            **SpotLookUps(self._spot_desk).routes(),
            **SpotAccount(self._spot_desk, self.keys).routes(),
        }
        self.derivatives_routes: DerivativesRoutes = {
            **DerivativesPublic(engine, self.catalogue, statistics).routes(),
            **DerivativesPrivate(self._desk, wallets).routes(),
            **DerivativesHistory(self._desk).routes(),
        }
        self._sessions: dict[SpotSession | DerivativesSession, None] = {}
        self._connections = 0
        engine.subscribe(self._heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        return default_markets(count)

    @classmethod
    def wallet_of(cls, market: Market) -> str:
        return wallet_of(market)

    @classmethod
    def make_key(cls, random: Random) -> tuple[str, str, str | None]:
        """A key of 56 characters and a secret of 64 bytes in base64; the pair serves both APIs."""
        key = base64.b64encode(random.randbytes(42)).decode()
        return key, base64.b64encode(random.randbytes(64)).decode(), None

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.clock.wall_ns() // 1_000_000

    def update_id(self, symbol: str, change_id: int) -> int:
        """The `seq` of a contract's book after the engine's change: to compare books. `LookupError` where there is
        none: in Spot, and of changes long past."""
        if symbol in self.catalogue.spot:
            raise LookupError(f"the books of Kraken Spot have no numbers: {symbol}")
        return self._hub.update_id(symbol, change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change that a `seq` ends. `LookupError` where there is none, and in the middle of a change."""
        if symbol in self.catalogue.spot:
            raise LookupError(f"the books of Kraken Spot have no numbers: {symbol}")
        return self._hub.change_id(symbol, update_id)

    def _heard(self, event: EngineEvent) -> None:
        self._desk.heard(event)
        self._spot_users.heard(event)
        self._users.heard(event)
        self._spot_hub.heard(event)
        self._hub.heard(event)

    def advance(self, now_ms: int) -> None:
        """Do what is due: dead man's switches, tickers, changes of accounts."""
        self._spot_desk.run_switch(now_ms)
        self._desk.run_switch(now_ms)
        self._hub.tick(now_ms)
        self._users.tick(now_ms)

    # --- REST ---

    def http(self, request: HttpRequest) -> HttpResponse:
        now_ms = self.now_ms()
        self.advance(now_ms)
        try:
            if request.host == "spot_rest":
                return answer(self._spot(request, now_ms))
            return answer(self._derivatives(request, now_ms))
        finally:
            self._users.tick(now_ms)

    def _spot(self, request: HttpRequest, now_ms: int) -> dict[str, Any]:
        """The envelope: errors come with status 200."""
        try:
            return {"error": [], "result": self._spot_result(request, now_ms)}
        except SpotRefusal as refusal:
            return {"error": [refusal.error]}
        except Reject as reject:
            return {"error": [refusal_of(reject).error]}

    def _spot_endpoint(self, request: HttpRequest) -> Endpoint | None:
        public = request.path.startswith(_PUBLIC)
        prefix = _PUBLIC if public else _PRIVATE
        if not request.path.startswith(prefix):
            return None
        endpoint = self.spot_routes.get(request.path.removeprefix(prefix))
        return endpoint if endpoint is not None and endpoint.private is not public else None

    def _spot_result(self, request: HttpRequest, now_ms: int) -> Any:
        endpoint = self._spot_endpoint(request)
        if endpoint is None or (endpoint.private and request.method != "POST"):
            raise SpotRefusal("EGeneral:Unknown method")
        params = _spot_params(request)
        caller, known = None, endpoint.accepts
        if endpoint.private:
            caller = self.keys.spot_caller(request, params)
            known |= _AUTHENTICATION
            tier = caller.settings.get("tier")
            if not self.meter.call(caller.name, tier, endpoint.cost_of(params), now_ms):
                raise SpotRefusal("EAPI:Rate limit exceeded")
        else:
            wait_s = self.meter.public_wait_s(request.client, now_ms)
            if wait_s:
                raise SpotRefusal(f"EService:Throttled: {now_ms // 1000 + wait_s}")
        unknown = params.unknown(known)
        if unknown is not None:
            raise SpotRefusal(f"EGeneral:Invalid arguments:{unknown}")
        return endpoint.handler(Call(params, now_ms, caller))

    def _derivatives(self, request: HttpRequest, now_ms: int) -> dict[str, Any]:
        stamp = {"serverTime": millis(now_ms)}
        try:
            endpoint, tail = self._derivatives_endpoint(request)
            if endpoint is None:
                raise DerivativesRefusal("notFound")
            result = self._derivatives_result(endpoint, tail, request, now_ms)
        except DerivativesRefusal as refusal:
            return {"result": "error", "error": refusal.error} | stamp
        return result if endpoint.bare else {"result": "success"} | result | stamp

    def _derivatives_endpoint(self, request: HttpRequest) -> tuple[Endpoint | None, str]:
        """(endpoint, what stands in the path at the star of its route)."""
        known = self.derivatives_routes.get((request.method, request.path))
        if known is not None:
            return known, ""
        parts = request.path.split("/")
        for place in range(len(parts) - 1, 0, -1):
            starred = "/".join([*parts[:place], "*", *parts[place + 1 :]])
            endpoint = self.derivatives_routes.get((request.method, starred))
            if endpoint is not None:
                return endpoint, parts[place]
        return None, ""

    def _derivatives_result(self, endpoint: Endpoint, tail: str, request: HttpRequest, now_ms: int) -> dict[str, Any]:
        params = Params.of_form(request.query, request.body.decode("utf-8", "replace"))
        caller = None
        if endpoint.private:
            caller = self.keys.derivatives_caller(request)
            if not self.meter.budget(caller.name, endpoint.pool, endpoint.cost_of(params), now_ms):
                raise DerivativesRefusal("apiLimitExceeded")
        unknown = params.unknown(endpoint.accepts)
        if unknown is not None:
            raise DerivativesRefusal(f"invalidArgument: {unknown}")
        result: dict[str, Any] = endpoint.handler(Call(params, now_ms, caller, tail))
        return result

    def mutating(self, request: HttpRequest) -> bool:
        """Orders only: placing, amending, cancelling. Spot reads by POST too."""
        if request.host == "spot_rest":
            endpoint = self._spot_endpoint(request)
        else:
            endpoint, _ = self._derivatives_endpoint(request)
        return endpoint is not None and endpoint.command

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        """The page of the proxy in front of the venue: not JSON."""
        body = b"<html><head><title>429 Too Many Requests</title></head><body>error code: 1015</body></html>"
        headers = {"retry-after": str(retry_after_s)}
        return HttpResponse(status=429, body=body, headers=headers, content_type="text/html; charset=UTF-8")

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """The proxy's too: nothing is said about what became of the request."""
        body = b"<html><head><title>520 Web server is returning an unknown error</title></head></html>"
        return HttpResponse(status=520, body=body, content_type="text/html; charset=UTF-8")

    # --- WebSocket ---

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        self.advance(self.now_ms())
        path = target.partition("?")[0].rstrip("/")
        rate = self.meter.message_rate().exceeded
        if host == "derivatives_stream":
            if path != "/ws/v1":
                return HttpResponse(status=404, body=b"")
            contracts = DerivativesSession(
                link,
                catalogue=self.catalogue,
                hub=self._hub,
                users=self._users,
                keys=self.keys,
                limits=self.limits,
                now_ms=self.now_ms,
                advance=self.advance,
                rate=rate,
                on_closed=self._forget,
            )
            self._sessions[contracts] = None
            return contracts
        unified = host == "unified_stream"
        if path != ("/v2/public" if unified else "/v2"):
            return HttpResponse(status=404, body=b"")
        self._connections += 1
        session = SpotSession(
            link,
            private=host == "spot_private_stream",
            unified=unified,
            connection_id=_FIRST_CONNECTION + self._connections,
            catalogue=self.catalogue,
            hub=self._spot_hub,
            users=self._spot_users,
            trading=self._trading,
            keys=self.keys,
            limits=self.limits,
            now_ms=self.now_ms,
            advance=self.advance,
            rate=rate,
            on_closed=self._forget,
        )
        self._sessions[session] = None
        return session

    def _forget(self, session: SpotSession | DerivativesSession) -> None:
        self._sessions.pop(session, None)


def _spot_params(request: HttpRequest) -> Params:
    """Form or JSON, as the content type says. Raises `SpotRefusal`."""
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = decode_json(request.body)
        except msgspec.DecodeError:
            body = None
        if not isinstance(body, dict):
            raise SpotRefusal("EGeneral:Invalid arguments:malformed JSON")
        return Params(body)
    return Params.of_form(request.query, request.body.decode("utf-8", "replace"))
