"""The venue seen from outside: REST requests and connections in, to whom it concerns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

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
from astra_okx.sandbox.account_rest import AccountService
from astra_okx.sandbox.algo_rest import AlgoService
from astra_okx.sandbox.calls import Call, Endpoint, Routes
from astra_okx.sandbox.catalogue import Catalogue
from astra_okx.sandbox.hub import Hub, Plane
from astra_okx.sandbox.keys import check_permission, rest_account
from astra_okx.sandbox.limits import Meter, SandboxLimits, Scope
from astra_okx.sandbox.market_rest import MarketData
from astra_okx.sandbox.markets import default_markets
from astra_okx.sandbox.orders import OrderDesk
from astra_okx.sandbox.sessions import Desks, Session, check_deadline
from astra_okx.sandbox.trade_rest import MOST_ROWS, TradeService
from astra_okx.sandbox.users import UserDesk
from astra_okx.sandbox.wire import Params, Refusal, json_of, wrong

PREFIX = "/api/v5"
STREAMS = "/ws/v5/"


def _rates(maker: str, taker: str) -> tuple[Decimal, Decimal]:
    return Decimal(maker), Decimal(taker)


class OkxSandbox(SandboxVenue):
    """Spot, swaps, futures and options on the matching engine."""

    exchange: ClassVar[str] = "OKX"
    hosts: ClassVar[Mapping[str, str]] = {
        "rest": "http",
        "public_stream": "ws",
        "private_stream": "ws",
        "business_stream": "ws",
    }
    fees: ClassVar[Mapping[str, tuple[Decimal, Decimal]]] = {
        "spot": _rates("0.0008", "0.001"),
        "swap": _rates("0.0002", "0.0005"),
        "futures": _rates("0.0002", "0.0005"),
        "option": _rates("0.0002", "0.0003"),
    }
    wallets: ClassVar[Mapping[str, str]] = dict.fromkeys(("spot", "swap", "futures", "option"), "trading")

    def __init__(self, engine: Exchange, clock: Clock, limits: SandboxLimits | None = None) -> None:
        super().__init__(engine, clock)
        self.limits = limits or SandboxLimits()
        self.catalogue = Catalogue(engine)
        self.meter = Meter(self.limits)
        desk = self._desk = OrderDesk(engine, self.catalogue, self.now_ms)
        market_data = MarketData(engine, self.catalogue)
        accounts = AccountService(desk, self.catalogue)
        self._hub = Hub(engine, self.catalogue, market_data, self.limits)
        self._trade = TradeService(desk, self.catalogue, self.meter)
        self.users = UserDesk(engine, self.catalogue, accounts, self.limits, self.now_ms)
        desk.on_ghost = self.users.heard
        self.routes: Routes = {
            **market_data.routes(),
            **accounts.routes(),
            **self._trade.routes(),
            **AlgoService(desk, self.catalogue, self.limits.algo_orders).routes(),
        }
        self._desks = Desks(
            engine, self.catalogue, self._hub, self.users, self._trade, self.limits, self.now_ms, self.advance
        )
        self._sessions: dict[Session, None] = {}
        self._connections = 0
        engine.subscribe(self._heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        return default_markets(count)

    @classmethod
    def make_key(cls, random: Any) -> tuple[str, str, str | None]:
        """A UUID, 32 hexadecimal capitals, and a passphrase as the user chose it."""
        digits = "".join(random.choices("0123456789abcdef", k=32))
        key = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        phrase = "".join(random.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789", k=20))
        return key, "".join(random.choices("0123456789ABCDEF", k=32)), phrase

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.clock.wall_ns() // 1_000_000

    def update_id(self, symbol: str, change_id: int) -> int:
        """The `seqId` of the engine's change in the market (an Astra symbol): to compare books."""
        return self.catalogue.of_symbol(symbol).numbering.seq_id(change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change that a `seqId` stands for. `LookupError` for one that never was."""
        newest, _, _ = self.engine.depth(symbol, 1)
        return self.catalogue.of_symbol(symbol).numbering.change_id(update_id, newest)

    def reset_sequence(self, symbol: str) -> None:
        """Maintenance: from the next change on, the book of the market (an Astra symbol) counts anew from a small
        number. The frame with that change still names the old id as the one before it."""
        newest, _, _ = self.engine.depth(symbol, 1)
        self.catalogue.of_symbol(symbol).numbering.reset(newest)

    def announce_upgrade(self) -> None:
        """Send the notice that comes 60 s before the venue cuts connections, to all of them."""
        for session in list(self._sessions):
            session.announce_upgrade()

    def _heard(self, event: EngineEvent) -> None:
        self._desk.heard(event)
        self.users.heard(event)
        self._hub.heard(event)

    def advance(self, now_ms: int) -> None:
        """Do what is due: batched frames, changes of accounts, dead-man switches."""
        self._trade.run_countdowns(now_ms)
        self.users.flush(now_ms)
        self._hub.flush(now_ms)

    # --- REST ---

    def http(self, request: HttpRequest) -> HttpResponse:
        now_ms = self.now_ms()
        self.advance(now_ms)
        try:
            body = self._called(request, now_ms)
        except Refusal as refusal:
            return answer(refusal.body, status=refusal.status)
        finally:
            self.users.flush(now_ms)
        return answer(body)

    def _endpoint(self, request: HttpRequest) -> tuple[str, Endpoint | None]:
        path = request.path.removeprefix(PREFIX) if request.path.startswith(PREFIX + "/") else ""
        return path, self.routes.get((request.method, path))

    def _called(self, request: HttpRequest, now_ms: int) -> Any:
        """The body of the answer."""
        path, endpoint = self._endpoint(request)
        if endpoint is None:
            other = "GET" if request.method == "POST" else "POST"
            if (other, path) in self.routes:
                raise Refusal("50115", "Invalid request method.", status=405)
            raise Refusal("404", "Not Found", status=404)
        account = None
        if endpoint.signed:
            account = rest_account(self.engine, request, now_ms)
            check_permission(account, endpoint.permission)
        params, rows = _parameters(request, listed=endpoint.listed)
        self._charge(path, endpoint, request, account, params, now_ms)
        if not endpoint.timed:  # the rows of orders check their names themselves
            for row in rows:
                row.check_names(endpoint.accepts)
        if endpoint.deadline and "exptime" in request.headers:
            check_deadline(request.headers["exptime"], now_ms)
        body = endpoint.handler(Call(params, rows, now_ms, account))
        if endpoint.timed:
            body = {**body, "inTime": str(now_ms * 1000 + 339), "outTime": str(now_ms * 1000 + 1240)}
        return body

    def _charge(
        self,
        path: str,
        endpoint: Endpoint,
        request: HttpRequest,
        account: Account | None,
        params: Params,
        now_ms: int,
    ) -> None:
        budget = endpoint.budget
        if budget is None:
            return
        who = request.client if budget.scope is Scope.ADDRESS or account is None else account.name
        what = "" if budget.by is None else str(params.values.get(budget.by, ""))
        self.meter.spend(f"{request.method} {path}", budget, who, what, now_ms)

    def mutating(self, request: HttpRequest) -> bool:
        """Orders only: placing, amending, cancelling."""
        _, endpoint = self._endpoint(request)
        return endpoint is not None and endpoint.command

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        """50011, and nothing that says how long to wait."""
        return answer({"msg": "Too Many Requests", "code": "50011", "data": []}, status=429)

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """The 503 that leaves open whether the request was carried out."""
        body = {"code": "50001", "data": [], "msg": "Service temporarily unavailable. Try again later"}
        return answer(body, status=503)

    # --- WebSocket ---

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        """One host serves the three URLs; so does every host here."""
        now_ms = self.now_ms()
        self.advance(now_ms)
        path = target.partition("?")[0]
        planes = {plane.value: plane for plane in Plane}
        plane = planes.get(path.removeprefix(STREAMS)) if path.startswith(STREAMS) else None
        if plane is None:
            return HttpResponse(status=404, body=b"")
        if not self.meter.connected("127.0.0.1", now_ms):
            return HttpResponse(status=429, body=b"")
        self._connections += 1
        connection_id = hashlib.sha256(f"connection {self._connections}".encode()).hexdigest()[:8]
        session = Session(plane, link, self._desks, connection_id, self._forget)
        self._sessions[session] = None
        return session

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session, None)


def _parameters(request: HttpRequest, *, listed: bool) -> tuple[Params, tuple[Params, ...]]:
    """(the parameters, the rows) of a request: of its query, or of its JSON body."""
    if request.method == "GET":
        params = Params.of_query(request.query)
        return params, (params,)
    body = json_of(request.body) if request.body else {}
    rows = body if isinstance(body, list) else [body]
    if isinstance(body, list) != listed or not all(isinstance(row, dict) for row in rows):
        raise Refusal("50002", "JSON syntax error", status=400)
    if not 0 < len(rows) <= MOST_ROWS:
        raise wrong("orders")
    parsed = tuple(Params(row) for row in rows)
    return (Params({}) if listed else parsed[0]), parsed
