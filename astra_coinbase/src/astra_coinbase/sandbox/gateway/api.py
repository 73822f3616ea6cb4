"""The gateway: its methods over HTTP and sockets, and who may call them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astra.sandbox import (
    Account,
    EngineEvent,
    Exchange,
    HttpRequest,
    HttpResponse,
    Link,
    SandboxSession,
)
from astra.sandbox.toolkit import answer, split_form
from astra_coinbase.sandbox.calls import decode_json, names
from astra_coinbase.sandbox.catalogue import Catalogue
from astra_coinbase.sandbox.gateway.account import GatewayAccount
from astra_coinbase.sandbox.gateway.calls import (
    Method,
    RpcCall,
    RpcError,
    RpcParams,
    envelope,
    no_method,
    too_many_requests,
    unauthorized,
)
from astra_coinbase.sandbox.gateway.feeds import GatewayHub
from astra_coinbase.sandbox.gateway.market import GatewayMarket
from astra_coinbase.sandbox.gateway.sessions import SCOPE, VERSION, GatewaySession, parse_request
from astra_coinbase.sandbox.gateway.trading import GatewayTrading
from astra_coinbase.sandbox.gateway.users import GatewayUsers
from astra_coinbase.sandbox.keys import BadToken, Keys
from astra_coinbase.sandbox.limits import Meter, SandboxLimits

PREFIX = "/api/v2"
SOCKET_PATH = "/ws/api/v2"
HOST = "drb.coinbase.com"
_MOST_TOKENS = 10_000


class _Token(msgspec.Struct, frozen=True):
    account: Account
    expires: int


class GatewayApi:
    def __init__(
        self,
        engine: Exchange,
        catalogue: Catalogue,
        keys: Keys,
        meter: Meter,
        *,
        now_us: Callable[[], int],
        advance: Callable[[int], None],
    ) -> None:
        self._keys = keys
        self.meter = meter
        self.limits: SandboxLimits = meter.limits
        self.now_us = now_us
        self.advance = advance
        market = GatewayMarket(engine, catalogue)
        money = GatewayAccount(engine, catalogue, market)
        self._trading = GatewayTrading(engine, catalogue, market)
        self.hub = GatewayHub(engine, catalogue, market, self.now_ms)
        self.users = GatewayUsers(engine, catalogue, money, self.now_ms)
        self._methods: Mapping[str, Method] = {
            **market.methods(),
            **self._trading.methods(),
            **money.methods(),
            "public/test": Method(lambda call: {"version": VERSION}, names("expected_result")),
        }
        self._tokens: dict[str, _Token] = {}
        self._made = 0

    def now_ms(self) -> int:
        return self.now_us() // 1000

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        self.users.heard(event)
        self.hub.heard(event)

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        self.users.flush(now_ms)
        self.hub.flush(now_ms)

    def method(self, name: str) -> Method | None:
        return self._methods.get(name)

    def cancel_everything(self, account: Account) -> int:
        return self._trading.cancel_everything(account)

    def login(self, params: RpcParams, *, uris: tuple[str, ...] | None) -> Account:
        """The account of a `coinbase_cdp` grant. Raises 13004."""
        if params.text("grant_type") != "coinbase_cdp":
            raise RpcError(13004, "invalid_credentials", {"reason": "grant_type is coinbase_cdp"})
        try:
            return self._keys.account_of(params.need("token"), self.now_ms() / 1000, uris=uris, optional=True)
        except BadToken:
            raise RpcError(13004, "invalid_credentials") from None

    # --- HTTP ---

    def http(self, request: HttpRequest) -> HttpResponse:
        began_us = self.now_us()
        ident: Any = None
        try:
            ident, name, params = self._parsed(request)
            result = self._called(request, name, params)
        except RpcError as error:
            return answer(envelope(ident, began_us, error=error), status=error.http_status)
        return answer(envelope(ident, began_us, result=result))

    def _parsed(self, request: HttpRequest) -> tuple[Any, str, RpcParams]:
        """GET: the method in the path, parameters in the query. POST: JSON-RPC, the path may name the method too."""
        if request.path != PREFIX and not request.path.startswith(f"{PREFIX}/"):
            raise no_method()
        name = request.path.removeprefix(PREFIX).strip("/")
        if request.method == "GET":
            return None, name, RpcParams(dict(split_form(request.query)))
        if request.method != "POST":
            raise no_method()
        try:
            body = decode_json(request.body)
        except msgspec.DecodeError:
            raise RpcError(-32700, "Parse error") from None
        if not isinstance(body, dict):
            raise RpcError(-32600, "request must be a single object")
        ident, method, params = parse_request(body)
        if name and name != method:
            raise RpcError(-32600, "path and body name different methods")
        return ident, method, params

    def _called(self, request: HttpRequest, name: str, params: RpcParams) -> Any:
        now_ms = self.now_ms()
        if name == "public/auth":
            self._charge(request.client, now_ms)
            params.check_names(names("grant_type token scope nonce data state"))
            return self._token(request, params, now_ms)
        method = self._methods.get(name)
        if method is None:
            raise no_method()
        caller = self._bearer(request, now_ms) if name.startswith("private/") else None
        self._charge(request.client if caller is None else caller.name, now_ms)
        params.check_names(method.accepts)
        return method.handler(RpcCall(params, now_ms, caller))

    def _charge(self, owner: str, now_ms: int) -> None:
        """Credits belong to the account, for public methods to the address."""
        if not self.meter.take_credit(owner, now_ms):
            raise too_many_requests()

    def _token(self, request: HttpRequest, params: RpcParams, now_ms: int) -> dict[str, Any]:
        hosts = dict.fromkeys((HOST, request.headers.get("host", HOST)))
        uris = tuple(f"{request.method} {host}{PREFIX}/public/auth" for host in hosts)
        account = self.login(params, uris=uris)
        self._made += 1
        seed = f"{account.key}/{now_ms}/{self._made}"
        token = hashlib.sha256(seed.encode()).hexdigest()
        life_s = self.limits.http_token_s
        self._tokens[token] = _Token(account, now_ms + life_s * 1000)
        if len(self._tokens) > _MOST_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        return {"access_token": token, "expires_in": life_s, "scope": SCOPE, "token_type": "bearer"}

    def _bearer(self, request: HttpRequest, now_ms: int) -> Account:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = self._tokens.get(text) if scheme.lower() == "bearer" else None
        if token is None or now_ms >= token.expires:
            raise unauthorized("invalid_token")
        return token.account

    def mutating(self, request: HttpRequest) -> bool:
        """Orders are placed by GET as well as by POST."""
        try:
            _, name, _ = self._parsed(request)
        except RpcError:
            return False
        method = self._methods.get(name)
        return method is not None and method.command

    # --- sockets ---

    def connect(
        self, link: Link, *, private: bool, name: str, on_closed: Callable[[SandboxSession], None]
    ) -> GatewaySession:
        return GatewaySession(self, link, private=private, name=name, on_closed=on_closed)
