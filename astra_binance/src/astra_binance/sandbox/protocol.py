"""The venue seen from outside: REST requests and connections in, to whom it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from astra.models.markets import Market
from astra.models.protocols import Clock
from astra.sandbox import (
    Account,
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
from astra_binance.sandbox.algo_rest import AlgoOrders
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security
from astra_binance.sandbox.catalogue import Catalogue
from astra_binance.sandbox.futures_account import FuturesAccount
from astra_binance.sandbox.futures_rest import FuturesOrders
from astra_binance.sandbox.hub import Hub
from astra_binance.sandbox.keys import account_of_key, check_rest_signature, check_time
from astra_binance.sandbox.limits import Meter, SandboxLimits, TooMany
from astra_binance.sandbox.market_rest import MarketData
from astra_binance.sandbox.markets import default_markets
from astra_binance.sandbox.options_rest import OptionsAccount
from astra_binance.sandbox.orders import OrderDesk
from astra_binance.sandbox.refusals import refusal_of
from astra_binance.sandbox.sessions import StreamSession, parse_target
from astra_binance.sandbox.spot_rest import SpotAccount
from astra_binance.sandbox.tape import Tape
from astra_binance.sandbox.users import UserDesk
from astra_binance.sandbox.wire import Family, Params, Refusal
from astra_binance.sandbox.ws_api import CONNECTION_WEIGHT, WebSocketApiSession

_FAMILY_OF_HOST = {
    "spot_rest": Family.SPOT,
    "spot_stream": Family.SPOT,
    "spot_ws_api": Family.SPOT,
    "usdm_rest": Family.USDM,
    "usdm_stream": Family.USDM,
    "coinm_rest": Family.COINM,
    "coinm_stream": Family.COINM,
    "options_rest": Family.OPTIONS,
    "options_stream": Family.OPTIONS,
}


class BinanceSandbox(SandboxVenue):
    """Spot, USD-M, COIN-M and options on the matching engine."""

    exchange: ClassVar[str] = "BINANCE"
    hosts: ClassVar[Mapping[str, str]] = {name: "http" if name.endswith("_rest") else "ws" for name in _FAMILY_OF_HOST}

    def __init__(self, engine: Exchange, clock: Clock, limits: SandboxLimits | None = None) -> None:
        super().__init__(engine, clock)
        self.limits = limits or SandboxLimits()
        self.catalogue = Catalogue(engine, self.now_ms())
        self.meter = Meter(self.limits)
        self._tape = Tape(engine, self.catalogue)
        self._hub = Hub(engine, self.catalogue, self._tape, self.now_ms)
        self.users = UserDesk(engine, self.catalogue, self.limits, self.now_ms)
        self._desk = OrderDesk(engine)
        futures = FuturesOrders(self._desk, self.catalogue)
        self._futures_account = FuturesAccount(self._desk, futures, self.catalogue)
        self.routes: Routes = {
            **MarketData(engine, self.catalogue, self._tape, self.meter).routes(),
            **SpotAccount(self._desk, self.catalogue).routes(),
            **futures.routes(),
            **self._futures_account.routes(),
            **AlgoOrders(self._desk, self.catalogue).routes(),
            **OptionsAccount(self._desk, self.catalogue).routes(),
            **self.users.routes(),
        }
        self._sessions: dict[StreamSession | WebSocketApiSession, None] = {}
        engine.subscribe(self._heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        return default_markets(count)

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.clock.wall_ns() // 1_000_000

    def update_id(self, symbol: str, change_id: int) -> int:
        """The native book update id of the engine's change in the market (an Astra symbol): to compare books."""
        return self.catalogue.of_symbol(symbol).ids.update_id(change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change that a native book update id stands for."""
        return self.catalogue.of_symbol(symbol).ids.change_id(update_id)

    def _heard(self, event: EngineEvent) -> None:
        self._desk.heard(event)
        self.users.heard(event)
        self._hub.heard(event)

    def advance(self, now_ms: int) -> None:
        """Do what is due: batched frames, changes of accounts, listen keys that expire, dead-man switches."""
        self._futures_account.run_countdowns(now_ms)
        self.users.flush(now_ms)
        self.users.expire_keys(now_ms)
        self._hub.flush(now_ms)

    # --- REST ---

    def http(self, request: HttpRequest) -> HttpResponse:
        family, now_ms = _FAMILY_OF_HOST[request.host], self.now_ms()
        self.advance(now_ms)
        endpoint = self.routes.get((family, request.method, request.path))
        headers: dict[str, str] = {}
        try:
            if endpoint is None:
                raise Refusal(-5000, f"Path {request.path}, Method {request.method} is invalid", status=404)
            return answer(self._called(endpoint, family, request, now_ms, headers), headers=headers)
        except TooMany as refusal:
            headers["Retry-After"] = str(refusal.retry_after_s)
            return answer(refusal.body, status=refusal.status, headers=headers)
        except Refusal as refusal:
            return answer(refusal.body, status=refusal.status, headers=headers)
        finally:
            self.users.flush(now_ms)

    def _called(
        self, endpoint: Endpoint, family: Family, request: HttpRequest, now_ms: int, headers: dict[str, str]
    ) -> object:
        """The body of the answer. `headers` takes the usage headers, of refusals too."""
        body = request.body.decode("utf-8", "replace")
        params = Params.of(request.query, body)
        weight = endpoint.weight_of(params)
        try:
            self.meter.spend(request.client, family, weight, now_ms)
            account = self._caller(endpoint, family, request, body, params, now_ms)
            params.check_names(endpoint.known_parameters)
            orders = endpoint.orders_of(params)
            if account is not None and orders:
                try:
                    self.meter.spend_orders(account.name, family, orders, now_ms)
                finally:
                    for suffix, count in self.meter.order_counts(account.name, family, now_ms).items():
                        headers[f"X-MBX-ORDER-COUNT-{suffix}"] = str(count)
            try:
                result = endpoint.handler(Call(family, params, now_ms, account))
            except Reject as reject:
                raise refusal_of(reject, family) from None
            if endpoint.free_on_success:
                self.meter.refund(request.client, family, weight, now_ms)
            return result
        finally:
            headers["X-MBX-USED-WEIGHT-1M"] = str(self.meter.used_weight(request.client, family, now_ms))

    def _caller(
        self, endpoint: Endpoint, family: Family, request: HttpRequest, body: str, params: Params, now_ms: int
    ) -> Account | None:
        if endpoint.security is Security.NONE:
            return None
        account = account_of_key(self.engine, request.headers.get("x-mbx-apikey"), family)
        if endpoint.security is Security.SIGNED:
            check_time(params, now_ms, family)
            check_rest_signature(account, request.query, body)
        return account

    def mutating(self, request: HttpRequest) -> bool:
        """Orders only: placing, amending, cancelling."""
        endpoint = self.routes.get((_FAMILY_OF_HOST[request.host], request.method, request.path))
        return endpoint is not None and endpoint.command

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        """Some other limit was passed: the used weight is what it is."""
        family = _FAMILY_OF_HOST[request.host]
        limit = self.meter.weight_limit(family)
        used = self.meter.used_weight(request.client, family, self.now_ms())
        message = (
            f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        headers = {"Retry-After": str(retry_after_s), "X-MBX-USED-WEIGHT-1M": str(used)}
        return answer({"code": -1003, "msg": message}, status=429, headers=headers)

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """The 503 that leaves open whether the request was carried out."""
        body = {"code": -1000, "msg": "Unknown error, please check your request or try again later."}
        return answer(body, status=503)

    # --- WebSocket ---

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        family, now_ms = _FAMILY_OF_HOST[host], self.now_ms()
        self.advance(now_ms)
        client = "127.0.0.1"
        if family is Family.SPOT and not self.meter.connected(client, now_ms):
            return answer({"code": -1003, "msg": "Too many connections."}, status=429, headers={"Retry-After": "300"})
        if host == "spot_ws_api":
            return self._connect_api(target, link, client, now_ms)
        wanted = parse_target(family, target)
        if wanted is None:
            return HttpResponse(status=404, body=b"")
        if len(set(wanted.names)) > self.limits.streams_per_connection[family]:
            return HttpResponse(status=400, body=b"")
        session = StreamSession(
            family,
            wanted.plane,
            link,
            hub=self._hub,
            users=self.users,
            limits=self.limits,
            now_ms=self.now_ms,
            advance=self.advance,
            combined=wanted.combined,
            on_closed=self._forget,
        )
        self._sessions[session] = None
        session.subscribe(wanted.names, wanted.events)
        return session

    def _connect_api(self, target: str, link: Link, client: str, now_ms: int) -> SandboxSession | HttpResponse:
        path, _, query = target.partition("?")
        if path.rstrip("/") not in ("", "/ws-api/v3"):
            return HttpResponse(status=404, body=b"")
        try:
            self.meter.spend(client, Family.SPOT, CONNECTION_WEIGHT, now_ms)
        except TooMany as refusal:
            retry = {"Retry-After": str(refusal.retry_after_s)}
            return answer(refusal.body, status=refusal.status, headers=retry)
        session = WebSocketApiSession(self, link, query, client=client, on_closed=self._forget)
        self._sessions[session] = None
        return session

    def _forget(self, session: StreamSession | WebSocketApiSession) -> None:
        self._sessions.pop(session, None)

    def announce_shutdown(self) -> None:
        """Send `serverShutdown` to every Spot connection, as the venue does before it restarts a server."""
        now_ms = self.now_ms()
        for session in list(self._sessions):
            if isinstance(session, WebSocketApiSession) or session.family is Family.SPOT:
                session.announce_shutdown(now_ms)
