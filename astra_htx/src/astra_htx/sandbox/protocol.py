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
    EngineEvent,
    Exchange,
    HttpRequest,
    HttpResponse,
    Link,
    Reject,
    SandboxSession,
    SandboxVenue,
)
from astra_htx.sandbox.calls import SIGNING_PARAMETERS, Call, Endpoint, Router, Routes
from astra_htx.sandbox.catalogue import Catalogue
from astra_htx.sandbox.coin_rest import CoinAccount
from astra_htx.sandbox.contract_sessions import CoinSession, LinearSession, NotificationSession
from astra_htx.sandbox.hub import Hub
from astra_htx.sandbox.keys import KeyRefused, check_request, signing_hosts
from astra_htx.sandbox.limits import Counter, Meter, SandboxLimits, too_many, usage_headers
from astra_htx.sandbox.linear_rest import LinearAccount
from astra_htx.sandbox.listings_rest import SPOT, MarketLists
from astra_htx.sandbox.market_rest import MarketData
from astra_htx.sandbox.markets import default_markets
from astra_htx.sandbox.orders import OrderDesk
from astra_htx.sandbox.refusals import family_of_host, refusal_of
from astra_htx.sandbox.sessions import MarketSession
from astra_htx.sandbox.spot_rest import SpotAccount
from astra_htx.sandbox.spot_sessions import EntrySession, SpotSession
from astra_htx.sandbox.users import UserDesk
from astra_htx.sandbox.wire import Envelope, Family, Params, Refusal, encoded, enveloped, read_json, read_query, wrong

_MARKET_SOCKETS = {
    ("spot_stream", "/ws"): (Family.SPOT, False),
    ("spot_stream", "/feed"): (Family.SPOT, True),
    ("derivatives_stream", "/linear-swap-ws"): (Family.LINEAR, False),
    ("derivatives_stream", "/swap-ws"): (Family.COIN_SWAP, False),
    ("derivatives_stream", "/ws"): (Family.COIN_FUTURES, False),
}
_COIN_SOCKETS = {"/swap-notification": Family.COIN_SWAP, "/notification": Family.COIN_FUTURES}
_PUBLIC_SOCKETS = ("/linear-swap-notification", "/center-notification")
_ENTRY = {
    "create-order": "/v1/order/orders/place",
    "create-batchorder": "/v1/order/batch-orders",
    "create-margin-order": "/v1/order/orders/place",
    "cancel": "/v1/order/orders/batchcancel",
    "cancelall": "/v1/order/orders/batchCancelOpenOrders",
}
"""Commands of `/ws/trade` and the endpoints whose budget and answers they share."""
_KEY_LETTERS = "0123456789abcdef"


class HtxSandbox(SandboxVenue):
    """Spot, linear and coin-margined swaps and futures on the matching engine."""

    exchange: ClassVar[str] = "HUOBI"
    hosts: ClassVar[Mapping[str, str]] = {
        "spot_rest": "http",
        "spot_stream": "ws",
        "derivatives_rest": "http",
        "derivatives_stream": "ws",
    }
    fees: ClassVar[Mapping[str, tuple[Decimal, Decimal]]] = {
        Family.SPOT: (Decimal("0.002"), Decimal("0.002")),
        Family.LINEAR: (Decimal("0.0002"), Decimal("0.0006")),
        Family.COIN_SWAP: (Decimal("0.0002"), Decimal("0.0005")),
        Family.COIN_FUTURES: (Decimal("0.0002"), Decimal("0.0004")),
    }

    def __init__(self, engine: Exchange, clock: Clock, limits: SandboxLimits | None = None) -> None:
        super().__init__(engine, clock)
        self.limits = limits or SandboxLimits()
        self.catalogue = Catalogue(engine)
        self.meter = Meter(self.limits)
        self._hub = Hub(engine, self.catalogue, self.limits)
        self._desk = OrderDesk(engine, self.catalogue)
        self._users = UserDesk(self._desk, self.limits)
        self.routes: Routes = {
            **MarketLists(self.catalogue).routes(),
            **MarketData(engine, self.catalogue, self._hub.days).routes(),
            **SpotAccount(self._desk).routes(),
            **LinearAccount(self._desk).routes(),
            **CoinAccount(self._desk, Family.COIN_SWAP).routes(),
            **CoinAccount(self._desk, Family.COIN_FUTURES).routes(),
        }
        self._router = Router(self.routes)
        self._advanced = -1
        engine.subscribe(self._heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        return default_markets(count)

    @classmethod
    def make_key(cls, random: Random) -> tuple[str, str, str | None]:
        """Two times four groups of digits: `1a2b3c4d-...-...-12345`."""

        def groups() -> str:
            return "-".join("".join(random.choices(_KEY_LETTERS, k=size)) for size in (8, 8, 8, 5))

        return groups(), groups(), None

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.clock.wall_ns() // 1_000_000

    def update_id(self, symbol: str, change_id: int) -> int:
        """The native book number (`seqNum`, `version` of Spot, `mrid`) of the engine's change in the market."""
        return self.catalogue.of_symbol(symbol).update_id(change_id)

    def change_id(self, symbol: str, update_id: int) -> int:
        """The engine's change that a native book number stands for."""
        return self.catalogue.of_symbol(symbol).change_id(update_id)

    def subscriptions(self, account: str) -> int:
        """How many private channels the connections of an account have subscribed to (for tests that must not start
        before somebody listens)."""
        return self._users.subscriptions(account)

    def _heard(self, event: EngineEvent) -> None:
        self._desk.heard(event)
        self._users.heard(event)
        self._hub.heard(event, self.now_ms())

    def advance(self, now_ms: int) -> None:
        """Do what is due: batched frames, dead man's switches. Once for each moment."""
        if now_ms == self._advanced:
            return
        self._advanced = now_ms
        self._desk.run_countdowns(now_ms)
        self._hub.tick(now_ms)

    # --- REST ---

    def http(self, request: HttpRequest) -> HttpResponse:
        now_ms = self.now_ms()
        self._desk.run_countdowns(now_ms)
        found = self._router.find(request.host, request.method, request.path)
        if found is None:
            return self._unknown(request, now_ms)
        endpoint, part = found
        headers: dict[str, str] = {}
        try:
            account, params, items = self._admitted(endpoint, part, request, now_ms, headers)
            call = Call(params, now_ms, account, items, part)
            return _answer(enveloped(endpoint.envelope, endpoint.handler(call), now_ms), headers)
        except Reject as reject:
            refusal = refusal_of(reject, family_of_host(request.host, request.path))
        except Refusal as caught:
            refusal = caught
        return _answer(refusal.body(endpoint.envelope, now_ms), headers, status=refusal.status)

    def _unknown(self, request: HttpRequest, now_ms: int) -> HttpResponse:
        text = f"{request.method} {request.path} is no endpoint of the venue"
        envelope = Envelope.SPOT if request.host == SPOT else Envelope.DERIVATIVES
        return _answer(Refusal("404", text).body(envelope, now_ms), {}, status=404)

    def _admitted(
        self, endpoint: Endpoint, part: str, request: HttpRequest, now_ms: int, headers: dict[str, str]
    ) -> tuple[Account | None, Params, tuple[Any, ...]]:
        """Caller and parameters of a request that is signed, within limits and knows the names."""
        envelope, query = endpoint.envelope, read_query(request.query)
        account = None
        if endpoint.signed:
            try:
                hosts = signing_hosts(request.host, request.headers)
                account = check_request(self.engine, request.method, hosts, request.path, query, now_ms)
            except KeyRefused as refusal:
                raise _unauthorized(endpoint.envelope, str(refusal)) from None
            query = {name: value for name, value in query.items() if name not in SIGNING_PARAMETERS}
        who = request.client if account is None else account.name
        self.meter.spend(endpoint.counter, who, _shared(endpoint.counter, request.path, part), now_ms, headers)
        values: Any = query
        items: tuple[Any, ...] = ()
        if request.method == "POST":
            if query:
                raise wrong(envelope, next(iter(query)), "parameters of a POST are in its body")
            values = read_json(request.body, envelope)
            if endpoint.batch:
                if not isinstance(values, list):
                    raise wrong(envelope, "body", "a JSON array")
                items, values = tuple(values), {}
        if not isinstance(values, dict):
            raise wrong(envelope, "body", "a JSON object")
        params = Params(values, envelope)
        params.check_names(endpoint.accepts)
        return account, params, items

    def mutating(self, request: HttpRequest) -> bool:
        """Placing and cancelling; one of the cancels is a GET."""
        found = self._router.find(request.host, request.method, request.path)
        return found is not None and found[0].command

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        found = self._router.find(request.host, request.method, request.path)
        usual = Counter.SPOT_USUAL if request.host.startswith("spot") else Counter.CONTRACT_PUBLIC
        counter = usual if found is None else found[0].counter
        limit, length = self.limits.requests[counter]
        now_ms = self.now_ms()
        headers = usage_headers(counter, limit, length, 0, now_ms + retry_after_s * 1000)
        envelope = self._envelope(request)
        return _answer(too_many(counter).body(envelope, now_ms), headers, status=429)

    def _envelope(self, request: HttpRequest) -> Envelope:
        found = self._router.find(request.host, request.method, request.path)
        if found is not None:
            return found[0].envelope
        return Envelope.SPOT if request.host.startswith("spot") else Envelope.DERIVATIVES

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """The proxy's page: not even JSON."""
        return HttpResponse(status=502, body=b"<html><title>502 Bad Gateway</title></html>", content_type="text/html")

    def _order_entry(self, account: Account, command: str, params: Any) -> dict[str, Any]:
        """An order of `/ws/trade`: as REST would have it, on the same budget."""
        now_ms, path = self.now_ms(), _ENTRY.get(command)
        if path is None:
            return Refusal("bad-request", f"invalid ch {command}").body(Envelope.SPOT, now_ms)
        endpoint = self.routes[SPOT, "POST", path]
        try:
            self.meter.spend(endpoint.counter, account.name, path, now_ms, {})
            given = Params({} if endpoint.batch or not isinstance(params, dict) else params, endpoint.envelope)
            given.check_names(endpoint.accepts)
            items = tuple(params) if endpoint.batch and isinstance(params, list) else ()
            body: dict[str, Any] = enveloped(
                endpoint.envelope, endpoint.handler(Call(given, now_ms, account, items)), now_ms
            )
            return body
        except Reject as reject:
            refusal = refusal_of(reject, Family.SPOT)
        except Refusal as caught:
            refusal = caught
        return refusal.body(Envelope.SPOT, now_ms)

    # --- WebSocket ---

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        path = target.partition("?")[0]
        market = _MARKET_SOCKETS.get((host, path))
        if market is not None:
            family, feed_socket = market
            return MarketSession(
                family,
                link,
                hub=self._hub,
                limits=self.limits,
                feed_socket=feed_socket,
                now_ms=self.now_ms,
                advance=self.advance,
            )
        common = (self, self._users, self._desk, link, path, signing_hosts(host, headers))
        if (host, path) == ("spot_stream", "/ws/v2"):
            return SpotSession(*common)
        if (host, path) == ("spot_stream", "/ws/trade"):
            return EntrySession(*common, entry=self._order_entry)
        if host == "derivatives_stream":
            if path == "/ws/v5/notification":
                return LinearSession(*common)
            if path in _COIN_SOCKETS:
                return CoinSession(*common, family=_COIN_SOCKETS[path])
            if path in _PUBLIC_SOCKETS:
                return NotificationSession(*common)
        return HttpResponse(status=404, body=b"")


def _answer(body: Any, headers: Mapping[str, str], *, status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, body=encoded(body), headers=dict(headers))


def _unauthorized(envelope: Envelope, reason: str) -> Refusal:
    """A key or signature that does not hold."""
    if envelope is Envelope.SPOT:
        return Refusal("api-signature-not-valid", f"Signature not valid: {reason}")
    if envelope is Envelope.SPOT_V2:
        return Refusal(1003, f"invalid signature: {reason}")
    return Refusal(403, reason)


def _shared(counter: Counter, path: str, part: str) -> str:
    """On what a counter is shared: Spot counts by endpoint, whatever stands for `{id}` in its path; coin-margined
    products by family."""
    if counter.name.startswith("SPOT"):
        return path.replace(f"/{part}", "/{id}", 1) if part else path
    if counter.name.startswith("COIN"):
        return "swap" if path.startswith("/swap-") else "futures"
    return ""
