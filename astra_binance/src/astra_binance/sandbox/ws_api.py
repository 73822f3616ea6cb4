"""The Spot WebSocket API: requests by frame, sessions, and the private stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from astra.sandbox import Account, Exchange, Link, Reject, SandboxSession
from astra.sandbox.toolkit import split_form, text_of
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security
from astra_binance.sandbox.keys import (
    account_of_key,
    check_signature,
    check_time,
    check_ws_signature,
    json_text,
    may_log_on,
)
from astra_binance.sandbox.limits import Meter, TooMany
from astra_binance.sandbox.refusals import refusal_of
from astra_binance.sandbox.sessions import Upkeep
from astra_binance.sandbox.users import UserDesk
from astra_binance.sandbox.wire import Family, Params, Refusal, missing

CONNECTION_WEIGHT = 2
_METHODS: Mapping[str, tuple[str, str]] = {
    # The methods that a REST endpoint answers alike.
    "ping": ("GET", "ping"),
    "time": ("GET", "time"),
    "exchangeInfo": ("GET", "exchangeInfo"),
    "depth": ("GET", "depth"),
    "trades.recent": ("GET", "trades"),
    "trades.historical": ("GET", "historicalTrades"),
    "trades.aggregate": ("GET", "aggTrades"),
    "ticker.book": ("GET", "ticker/bookTicker"),
    "ticker.price": ("GET", "ticker/price"),
    "order.place": ("POST", "order"),
    "order.test": ("POST", "order/test"),
    "order.status": ("GET", "order"),
    "order.cancel": ("DELETE", "order"),
    "order.cancelReplace": ("POST", "order/cancelReplace"),
    "order.amend.keepPriority": ("PUT", "order/amend/keepPriority"),
    "openOrders.status": ("GET", "openOrders"),
    "openOrders.cancelAll": ("DELETE", "openOrders"),
    "allOrders": ("GET", "allOrders"),
    "myTrades": ("GET", "myTrades"),
    "account.status": ("GET", "account"),
    "account.commission": ("GET", "account/commission"),
}


class Desk(Protocol):
    """What a session needs of the venue."""

    engine: Exchange
    users: UserDesk
    meter: Meter
    routes: Routes

    def now_ms(self) -> int: ...

    def advance(self, now_ms: int) -> None: ...


class WebSocketApiSession(SandboxSession):
    """One connection to `/ws-api/v3`."""

    def __init__(
        self, desk: Desk, link: Link, query: str, *, client: str, on_closed: Callable[[WebSocketApiSession], None]
    ) -> None:
        self._desk = desk
        self._link = link
        self._client = client
        self._on_closed = on_closed
        now_ms = desk.now_ms()
        self._upkeep = Upkeep(Family.SPOT, link, desk.meter.limits, now_ms)
        self._connected_since = now_ms
        self._with_limits = dict(split_form(query)).get("returnRateLimits", "true") != "false"
        self._logged_on: tuple[Account, int] | None = None
        self._subscriptions: dict[str, tuple[int, Account]] = {}
        self._next_subscription = 0
        self._own: Mapping[str, tuple[int, Callable[[dict[str, Any], int], Any]]] = {
            # method -> (weight, handler)
            "session.logon": (2, self._log_on),
            "session.status": (2, self._status),
            "session.logout": (2, self._log_out),
            "session.subscriptions": (2, self._list_subscriptions),
            "userDataStream.subscribe": (2, self._subscribe),
            "userDataStream.subscribe.signature": (2, self._subscribe_signed),
            "userDataStream.unsubscribe": (2, self._unsubscribe),
        }

    # --- what the server calls ---

    def received(self, payload: str | bytes) -> None:
        now_ms = self._desk.now_ms()
        if not self._upkeep.message(now_ms):
            return
        ident: Any = None
        try:
            try:
                request = msgspec.json.decode(payload)
            except msgspec.DecodeError:
                raise Refusal(-1000, "An unknown error occurred while processing the request.") from None
            if not isinstance(request, dict) or not isinstance(request.get("method"), str):
                raise missing("method")
            ident = request.get("id")
            params = request.get("params", {})
            if not isinstance(params, dict):
                raise missing("params")
            result = self._result(request["method"], params, now_ms)
            self._answer(ident, 200, {"result": result}, params)
        except Refusal as refusal:
            self._answer(ident, refusal.status, {"error": self._error(refusal, now_ms)}, {})
        self._desk.advance(now_ms)

    @staticmethod
    def _error(refusal: Refusal, now_ms: int) -> dict[str, Any]:
        """The REST body; `retryAfter` is the time when requests are heard again, not a number of seconds."""
        if isinstance(refusal, TooMany):
            return refusal.body | {"data": {"serverTime": now_ms, "retryAfter": refusal.retry_at_ms}}
        return refusal.body

    def _answer(self, ident: Any, status: int, body: dict[str, Any], params: Mapping[str, Any]) -> None:
        frame = {"id": ident, "status": status, **body}
        if self._with_limits and params.get("returnRateLimits", True) is not False:
            meter = self._desk.meter
            used = meter.used_weight(self._client, Family.SPOT, self._desk.now_ms())
            frame["rateLimits"] = [meter.listing(Family.SPOT)[0] | {"count": used}]
        self._link.send(text_of(frame))

    def pong(self, payload: bytes) -> None:
        self._upkeep.pong(payload, self._desk.now_ms())

    def tick(self, now_ms: int) -> None:
        self._desk.advance(now_ms)
        self._upkeep.tick(now_ms)

    def closed(self) -> None:
        self._upkeep.over = True
        for _, account in self._subscriptions.values():
            self._desk.users.leave_spot(account, self)
        self._subscriptions.clear()
        self._on_closed(self)

    def deliver_event(self, account: str, event: str) -> None:
        number, _ = self._subscriptions[account]
        self._link.send(f'{{"subscriptionId":{number},"event":{event}}}')

    def announce_shutdown(self, now_ms: int) -> None:
        self._link.send(text_of({"event": {"e": "serverShutdown", "E": now_ms}}))

    # --- requests ---

    def _result(self, method: str, params: dict[str, Any], now_ms: int) -> Any:
        own = self._own.get(method)
        if own is not None:
            weight, handler = own
            self._desk.meter.spend(self._client, Family.SPOT, weight, now_ms)
            return handler(params, now_ms)
        known = _METHODS.get(method)
        if known is None:
            raise Refusal(-1000, f"Unknown method '{method}'.")
        endpoint = self._desk.routes[Family.SPOT, known[0], f"/api/v3/{known[1]}"]
        return self._call(endpoint, params, now_ms)

    def _call(self, endpoint: Endpoint, given: dict[str, Any], now_ms: int) -> Any:
        meter = self._desk.meter
        params = _params(given)
        weight = endpoint.weight_of(params)
        meter.spend(self._client, Family.SPOT, weight, now_ms)
        account = None
        if endpoint.security is not Security.NONE:
            account = self._authenticated(given, now_ms)
        params.check_names(endpoint.known_parameters | {"apiKey", "returnRateLimits"})
        orders = endpoint.orders_of(params)
        if account is not None and orders:
            meter.spend_orders(account.name, Family.SPOT, orders, now_ms)
        try:
            result = endpoint.handler(Call(Family.SPOT, params, now_ms, account))
        except Reject as reject:
            raise refusal_of(reject, Family.SPOT) from None
        if endpoint.free_on_success:
            meter.refund(self._client, Family.SPOT, weight, now_ms)
        return result

    def _authenticated(self, given: dict[str, Any], now_ms: int) -> Account:
        """By key and signature, or, after a log-on, by the session (a timestamp is still needed)."""
        if self._logged_on is not None and "apiKey" not in given:
            check_time(_params(given), now_ms, Family.SPOT)
            return self._logged_on[0]
        account = account_of_key(self._desk.engine, _text(given, "apiKey"), Family.SPOT)
        check_time(_params(given), now_ms, Family.SPOT)
        check_ws_signature(account, given)
        return account

    # --- sessions ---

    def _log_on(self, given: dict[str, Any], now_ms: int) -> dict[str, Any]:
        account = account_of_key(self._desk.engine, _text(given, "apiKey"), Family.SPOT)
        if not may_log_on(account):
            raise Refusal(-2028, "Only Ed25519 keys can log on.")
        check_time(_params(given), now_ms, Family.SPOT)
        signed = "&".join(
            f"{name}={json_text(given[name])}" for name in ("apiKey", "recvWindow", "timestamp") if name in given
        )
        check_signature(account, signed.encode(), _text(given, "signature") or "")
        self._logged_on = (account, now_ms)
        return self._status(given, now_ms)

    def _status(self, given: dict[str, Any], now_ms: int) -> dict[str, Any]:
        account, since = self._logged_on or (None, None)
        return {
            "apiKey": None if account is None else account.key,
            "authorizedSince": since,
            "connectedSince": self._connected_since,
            "returnRateLimits": self._with_limits,
            "serverTime": now_ms,
            "userDataStream": account is not None and account.name in self._subscriptions,
        }

    def _log_out(self, given: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self._logged_on = None
        return self._status(given, now_ms)

    # --- the private stream ---

    def _subscribe(self, given: dict[str, Any], now_ms: int) -> dict[str, Any]:
        if self._logged_on is None:
            raise Refusal(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
        return self._subscribed(self._logged_on[0])

    def _subscribe_signed(self, given: dict[str, Any], now_ms: int) -> dict[str, Any]:
        account = account_of_key(self._desk.engine, _text(given, "apiKey"), Family.SPOT)
        check_time(_params(given), now_ms, Family.SPOT)
        check_ws_signature(account, given)
        return self._subscribed(account)

    def _subscribed(self, account: Account) -> dict[str, Any]:
        if account.name in self._subscriptions:
            raise Refusal(-2035, "User Data Stream subscription already active.")
        number = self._next_subscription
        self._next_subscription += 1
        self._subscriptions[account.name] = (number, account)
        self._desk.users.join_spot(account, self)
        return {"subscriptionId": number}

    def _unsubscribe(self, given: dict[str, Any], now_ms: int) -> dict[str, Any]:
        wanted = given.get("subscriptionId")
        for name, (number, account) in list(self._subscriptions.items()):
            if wanted in (None, number):
                del self._subscriptions[name]
                self._desk.users.leave_spot(account, self)
        return {}

    def _list_subscriptions(self, given: dict[str, Any], now_ms: int) -> list[dict[str, Any]]:
        return [{"subscriptionId": number} for number, _ in self._subscriptions.values()]


def _params(given: Mapping[str, Any]) -> Params:
    """The params as REST would have them; lists (symbols) as JSON text."""
    return Params(
        {
            name: text_of(value) if isinstance(value, list) else json_text(value)
            for name, value in given.items()
            if value is not None
        }
    )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
