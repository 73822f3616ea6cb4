"""The venue seen from outside: REST requests and connections in, to whom it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import Any, ClassVar

from astra.models.markets import Market
from astra.models.protocols import Clock
from astra.sandbox import (
    Account,
    BookChange,
    EngineEvent,
    Exchange,
    HttpRequest,
    HttpResponse,
    Link,
    PublicTrade,
    Reject,
    SandboxSession,
    SandboxVenue,
)
from astra.sandbox.toolkit import answer, split_form, text_of
from astra_kucoin.sandbox.accounts import AccountDesk
from astra_kucoin.sandbox.calls import Call, Endpoint, Router, mode_of, no_such_path
from astra_kucoin.sandbox.catalogue import Catalogue
from astra_kucoin.sandbox.classic_reports import ClassicReports
from astra_kucoin.sandbox.futures_account import FuturesAccount
from astra_kucoin.sandbox.futures_rest import FuturesOrders
from astra_kucoin.sandbox.hub import Hub
from astra_kucoin.sandbox.keys import Tokens, check_permission, rest_account
from astra_kucoin.sandbox.limits import Meter, SandboxLimits, TooMany
from astra_kucoin.sandbox.market_rest import MarketData
from astra_kucoin.sandbox.markets import default_markets
from astra_kucoin.sandbox.orders import OrderDesk
from astra_kucoin.sandbox.refusals import PARAMETER, refusal_of
from astra_kucoin.sandbox.sessions import PRIVATE, ClassicSession, Floor, UnifiedSession
from astra_kucoin.sandbox.spot_account import SpotAccount
from astra_kucoin.sandbox.spot_rest import SpotOrders
from astra_kucoin.sandbox.spot_stops import SpotStops
from astra_kucoin.sandbox.unified_market import UnifiedMarketData
from astra_kucoin.sandbox.unified_reports import UnifiedReports
from astra_kucoin.sandbox.unified_rest import UnifiedAccount
from astra_kucoin.sandbox.wire import FUTURES, SPOT, Params, Refusal, body_of

_CLASSIC_SOCKETS = {"spot_stream": SPOT, "futures_stream": FUTURES}
_UNIFIED_SOCKETS = {
    "unified_spot_stream": SPOT,
    "unified_futures_stream": FUTURES,
    "unified_private_stream": PRIVATE,
}
_HEXADECIMAL = "0123456789abcdef"


class KucoinSandbox(SandboxVenue):
    """Classic spot and futures, and the unified API over both, on the matching engine.

    `Account.settings["mode"]` says what an account is: CLASSIC (default) or UNIFIED.
    """

    exchange: ClassVar[str] = "KUCOIN"
    hosts: ClassVar[Mapping[str, str]] = {
        "spot_rest": "http",
        "futures_rest": "http",
        **dict.fromkeys((*_CLASSIC_SOCKETS, *_UNIFIED_SOCKETS), "ws"),
    }
    fees: ClassVar[Mapping[str, tuple[Decimal, Decimal]]] = {
        SPOT: (Decimal("0.001"), Decimal("0.001")),
        FUTURES: (Decimal("0.0002"), Decimal("0.0006")),
    }

    def __init__(self, engine: Exchange, clock: Clock, limits: SandboxLimits | None = None) -> None:
        super().__init__(engine, clock)
        self.limits = limits or SandboxLimits()
        self.catalogue = Catalogue(engine, self.now_ms())
        self.meter = Meter(self.limits)
        self.tokens = Tokens(self.limits.token_life_ms)
        desk = OrderDesk(engine, self.catalogue, self.now_ms)
        futures = FuturesAccount(engine, self.catalogue)
        unified = UnifiedReports(engine, self.catalogue, futures)
        self._spot_account = SpotAccount(desk)
        spot_orders = SpotOrders(desk, self.limits)
        self.accounts = AccountDesk(engine, self.catalogue, ClassicReports(self.catalogue, futures), unified)
        desk.told = self.accounts.heard
        futures.configured = self.accounts.configured
        self._hub = Hub(engine, self.catalogue, self.limits, self.now_ms)
        self._router = Router(
            MarketData(engine, self.catalogue, self.tokens, lambda: self.addresses).routes(),
            UnifiedMarketData(engine, self.catalogue).routes(),
            spot_orders.routes(),
            SpotStops(desk, spot_orders).routes(),
            self._spot_account.routes(),
            FuturesOrders(desk, futures, self.limits).routes(),
            futures.routes(),
            UnifiedAccount(desk, unified, self._spot_account).routes(),
        )
        self._floor = Floor(engine, self.catalogue, self._hub, self.accounts, self.limits, self.now_ms, self.advance)
        self._sockets = 0
        engine.subscribe(self._heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        return default_markets(count)

    @classmethod
    def make_key(cls, random: Random) -> tuple[str, str, str | None]:
        """A key of 24 hexadecimal digits, a secret that looks like a UUID, and a passphrase."""

        def digits(count: int) -> str:
            return "".join(random.choices(_HEXADECIMAL, k=count))

        return digits(24), "-".join(digits(count) for count in (8, 4, 4, 4, 12)), f"Pass-{digits(12)}"

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.clock.wall_ns() // 1_000_000

    def update_id(self, symbol: str, change_id: int) -> int:
        """The sequence that the engine's change in the market (an Astra symbol) ends with: to compare books."""
        return self.catalogue.of_symbol(symbol).sequences.of_change(change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change that a sequence belongs to."""
        return self.catalogue.of_symbol(symbol).sequences.change_of(update_id)

    def _heard(self, event: EngineEvent) -> None:
        if isinstance(event, BookChange):
            self._hub.changed(event)
        elif isinstance(event, PublicTrade):
            self._hub.traded(event)
        self.accounts.heard(event)

    def advance(self, now_ms: int) -> None:
        """Do what is due: frames that were held back, mark prices of positions, dead man's switches."""
        self._spot_account.run_countdowns(now_ms)
        self._hub.flush(now_ms)
        self.accounts.mark(now_ms)

    # --- REST ---

    def http(self, request: HttpRequest) -> HttpResponse:
        now_ms = self.now_ms()
        self.advance(now_ms)
        headers = {"x-in-time": str(now_ms), "x-out-time": str(now_ms)}
        try:
            found = self._router.find(request.host, request.method, request.path)
            if found is None:
                raise no_such_path()
            endpoint, path = found
            return answer(
                {"code": "200000", "data": self._called(endpoint, path, request, now_ms, headers)}, headers=headers
            )
        except TooMany as refusal:
            return answer(refusal.body, status=refusal.status, headers=headers | refusal.headers)
        except Refusal as refusal:
            return answer(refusal.body, status=refusal.status, headers=headers)

    def _called(
        self, endpoint: Endpoint, path: dict[str, str], request: HttpRequest, now_ms: int, headers: dict[str, str]
    ) -> Any:
        """`data` of the answer. `headers` takes those of the limits."""
        product = FUTURES if request.host == "futures_rest" else SPOT
        code = PARAMETER["unified"] if request.path.startswith("/api/ua/") else PARAMETER[product]
        account: Account | None = None
        if endpoint.permission is not None:
            account = rest_account(self.engine, request, now_ms, self.limits)
        if endpoint.pool is not None:
            who = request.client if account is None else account.name
            headers |= self.meter.spend(endpoint.pool, who, endpoint.weight, now_ms)
        if account is not None and endpoint.permission is not None:
            check_permission(account, endpoint.permission)
            self._check_mode(account, endpoint)
        body: Any = None
        if endpoint.in_body:
            body = body_of(request.body, code)
            values = body if isinstance(body, dict) else {}
            if not isinstance(body, list if endpoint.listed else dict):
                raise Refusal(code, "The request body is of the wrong kind")
        else:
            values = dict(split_form(request.query))
        params = Params(values, code)
        params.check_names(endpoint.accepts)
        try:
            return endpoint.handler(Call(params, path, now_ms, body, account))
        except Reject as reject:
            raise refusal_of(reject, product) from None

    def _check_mode(self, account: Account, endpoint: Endpoint) -> None:
        if endpoint.mode is None or endpoint.mode == mode_of(account):
            return
        if endpoint.mode == "UNIFIED":
            raise Refusal("112010", "The account is not a unified account.")
        raise Refusal("400007", "Access denied: a unified account uses the unified API.", status=403)

    def mutating(self, request: HttpRequest) -> bool:
        """Orders only: placing, amending, cancelling."""
        found = self._router.find(request.host, request.method, request.path)
        return found is not None and found[0].command

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        found = self._router.find(request.host, request.method, request.path)
        pool = (found[0].pool if found else None) or "PUBLIC"
        headers = {
            "gw-ratelimit-limit": str(self.meter.limit(pool)),
            "gw-ratelimit-remaining": "0",
            "gw-ratelimit-reset": str(retry_after_s * 1000),
        }
        return answer({"code": "429000", "msg": "Too many requests"}, status=429, headers=headers)

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """It leaves open whether the request was carried out."""
        return answer({"code": "500000", "msg": "Internal Server Error"}, status=500)

    # --- WebSocket ---

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        now_ms = self.now_ms()
        self.advance(now_ms)
        self._sockets += 1
        asked = dict(split_form(target.partition("?")[2]))
        token = self.tokens.find(asked.get("token", ""), host, now_ms)
        if host in _CLASSIC_SOCKETS:
            return self._connect_classic(host, asked, link, None if token is None else (token.account,))
        if "token" in asked and token is None:
            return HttpResponse(status=401, body=b'{"code":"401","msg":"token is invalid"}')
        account = None if token is None else token.account
        return UnifiedSession(self._floor, link, _UNIFIED_SOCKETS[host], account, self._sockets)

    def _connect_classic(
        self, host: str, asked: Mapping[str, str], link: Link, opened: tuple[Account | None] | None
    ) -> SandboxSession:
        """A bad token opens a socket that says so and closes."""
        if opened is None:
            return _Shut(link, asked.get("connectId", ""))
        connect_id = asked.get("connectId") or f"conn{self._sockets:06d}"
        return ClassicSession(self._floor, link, _CLASSIC_SOCKETS[host], opened[0], connect_id)


class _Shut(SandboxSession):
    """A connection refused by its token."""

    def __init__(self, link: Link, ident: str) -> None:
        link.send(text_of({"id": ident, "type": "error", "code": 401, "data": "token is invalid"}))
        link.close(1000, "token is invalid")

    def received(self, payload: str | bytes) -> None:
        """Nothing is heard any more."""
