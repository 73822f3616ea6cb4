"""Sockets of the gateway. The streams host serves market subscriptions only; the private host everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from astra.sandbox import Account, Link, SandboxSession
from astra.sandbox.toolkit import text_of
from astra_coinbase.sandbox.calls import decode_json, names
from astra_coinbase.sandbox.gateway.calls import (
    Method,
    RpcCall,
    RpcError,
    RpcParams,
    envelope,
    invalid,
    no_method,
    too_many_requests,
    unauthorized,
)
from astra_coinbase.sandbox.gateway.feeds import GatewayHub
from astra_coinbase.sandbox.gateway.users import GatewayUsers
from astra_coinbase.sandbox.limits import Meter, SandboxLimits

IDLE = 1011
MOST_FRAME_BYTES = 32 * 1024
LEAST_HEARTBEAT_S = 10
_CHANNELS = names("channels label")
VERSION = "1.2.26"


class Gateway(Protocol):
    """What sockets share."""

    hub: GatewayHub
    users: GatewayUsers
    limits: SandboxLimits
    meter: Meter

    def now_ms(self) -> int: ...

    def now_us(self) -> int: ...

    def advance(self, now_ms: int) -> None: ...

    def method(self, name: str) -> Method | None: ...

    def login(self, params: RpcParams, *, uris: tuple[str, ...] | None) -> Account: ...

    def cancel_everything(self, account: Account) -> int: ...


class GatewaySession(SandboxSession):
    """A socket of the gateway."""

    def __init__(
        self, gateway: Gateway, link: Link, *, private: bool, name: str, on_closed: Callable[[SandboxSession], None]
    ) -> None:
        self._gateway = gateway
        self._link = link
        self._private = private
        self._name = name
        self._on_closed = on_closed
        self._heard = gateway.now_ms()
        self._over = False
        self._account: Account | None = None
        self._session_ends = 0
        self._channels: dict[str, None] = {}
        self._heartbeat_ms = 0
        self._next_heartbeat = 0
        self._asked = False
        self._cancels = False
        own: dict[str, Method] = {
            "public/test": Method(self._test, names("expected_result")),
            "public/hello": Method(lambda call: {"version": VERSION}, names("client_name client_version")),
            "public/set_heartbeat": Method(self._set_heartbeat, names("interval")),
            "public/disable_heartbeat": Method(self._disable_heartbeat),
        }
        if private:
            own |= {
                "public/auth": Method(self._auth, names("grant_type token scope nonce data state")),
                "private/subscribe": Method(self._subscribe, _CHANNELS),
                "private/unsubscribe": Method(self._unsubscribe, _CHANNELS),
                "private/unsubscribe_all": Method(self._unsubscribe_all),
                "private/enable_cancel_on_disconnect": Method(self._enable, names("scope")),
                "private/disable_cancel_on_disconnect": Method(self._disable, names("scope")),
                "private/get_cancel_on_disconnect": Method(
                    lambda call: {"scope": "connection", "enabled": self._cancels}, names("scope")
                ),
                "private/logout": Method(self._logout, names("invalidate_token")),
            }
        else:
            own |= {
                "public/subscribe": Method(self._subscribe, _CHANNELS),
                "public/unsubscribe": Method(self._unsubscribe, _CHANNELS),
                "public/unsubscribe_all": Method(self._unsubscribe_all),
            }
        self._own: Mapping[str, Method] = own

    def deliver(self, frame: str) -> None:
        """A notification."""
        if not self._over:
            self._link.send(frame)

    # --- requests ---

    def received(self, payload: str | bytes) -> None:
        if self._over:
            return
        gateway = self._gateway
        now_ms, began_us = gateway.now_ms(), gateway.now_us()
        self._heard, self._asked = now_ms, False
        gateway.advance(now_ms)  # what happened before a subscription is not told after it
        ident: Any = None
        try:
            if len(payload) > MOST_FRAME_BYTES:
                raise RpcError(11050, "bad_request", {"reason": "a frame has at most 32 KB"})
            ident, name, params = _request(payload)
            if not gateway.meter.take_credit(self._name, now_ms):
                raise too_many_requests()
            result = self._called(name, params, now_ms)
        except RpcError as error:
            self._link.send(text_of(envelope(ident, began_us, error=error)))
            if error.code == 10028:
                self._close(IDLE, "too_many_requests")
            return
        self._link.send(text_of(envelope(ident, began_us, result=result)))
        if name == "private/logout":
            self._close(1000, "")

    def _called(self, name: str, params: RpcParams, now_ms: int) -> Any:
        method = self._own.get(name) or (self._gateway.method(name) if self._private else None)
        if method is None:
            raise no_method()
        if name.startswith("private/") and (self._account is None or now_ms >= self._session_ends):
            raise unauthorized("the session is not authenticated")
        params.check_names(method.accepts)
        return method.handler(RpcCall(params, now_ms, self._account))

    def _auth(self, call: RpcCall) -> dict[str, Any]:
        """The socket is the credential: there is no token in the answer."""
        account = self._gateway.login(call.params, uris=None)
        if self._account is not None and self._account.name != account.name:
            raise unauthorized("the session belongs to another key")
        self._account = account
        life_s = self._gateway.limits.session_s
        self._session_ends = call.now_ms + life_s * 1000
        sid = hashlib.sha256(f"{self._name}/{account.name}".encode()).hexdigest()[:16]
        return {"expires_in": life_s, "scope": SCOPE, "sid": sid, "token_type": "bearer"}

    def _logout(self, call: RpcCall) -> str:
        return "ok"

    def _test(self, call: RpcCall) -> dict[str, str]:
        if call.params.text("expected_result") == "exception":
            raise RpcError(11050, "bad_request")
        return {"version": VERSION}

    def _set_heartbeat(self, call: RpcCall) -> str:
        interval = call.params.integer("interval", 0)
        if interval < LEAST_HEARTBEAT_S:
            raise invalid("interval", f"at least {LEAST_HEARTBEAT_S}")
        self._heartbeat_ms = interval * 1000
        self._next_heartbeat = call.now_ms + self._heartbeat_ms
        return "ok"

    def _disable_heartbeat(self, call: RpcCall) -> str:
        self._heartbeat_ms = 0
        return "ok"

    def _enable(self, call: RpcCall) -> str:
        self._cancels = True
        return "ok"

    def _disable(self, call: RpcCall) -> str:
        self._cancels = False
        return "ok"

    # --- subscriptions ---

    def _subscribe(self, call: RpcCall) -> list[str]:
        """The channels that are there; the others are left out in silence."""
        joined = []
        for name in call.params.texts("channels"):
            if name in self._channels or self._join(name):
                self._channels[name] = None
                joined.append(name)
        return joined

    def _join(self, name: str) -> bool:
        if not name.startswith("user."):
            return self._gateway.hub.join(name, self, private=self._private)
        return self._account is not None and self._gateway.users.join(name, self._account, self)

    def _unsubscribe(self, call: RpcCall) -> list[str]:
        left = [name for name in call.params.texts("channels") if name in self._channels]
        for name in left:
            self._leave(name)
        return left

    def _unsubscribe_all(self, call: RpcCall) -> str:
        for name in list(self._channels):
            self._leave(name)
        return "ok"

    def _leave(self, name: str) -> None:
        del self._channels[name]
        if not name.startswith("user."):
            self._gateway.hub.leave(name, self)
        elif self._account is not None:
            self._gateway.users.leave(name, self._account, self)

    # --- time ---

    def tick(self, now_ms: int) -> None:
        if self._over:
            return
        self._gateway.advance(now_ms)
        if now_ms - self._heard >= self._gateway.limits.gateway_idle_ms and not self._heartbeat_ms:
            self._close(IDLE, "idle")
        elif self._heartbeat_ms and now_ms >= self._next_heartbeat:
            if self._asked:
                self._close(IDLE, "test_request not answered")
                return
            self._asked = True
            self._next_heartbeat = now_ms + self._heartbeat_ms
            frame = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
            self._link.send(text_of(frame))

    def _close(self, code: int, reason: str) -> None:
        self._over = True
        self._link.close(code, reason)

    def closed(self) -> None:
        self._over = True
        for name in list(self._channels):
            self._leave(name)
        if self._cancels and self._account is not None:
            self._gateway.cancel_everything(self._account)
        self._on_closed(self)


SCOPE = "account:read trade:read_write wallet:read block_trade:read"


def _request(payload: str | bytes) -> tuple[Any, str, RpcParams]:
    """(id, method, parameters) of a request."""
    try:
        request = decode_json(payload)
    except msgspec.DecodeError:
        raise RpcError(-32700, "Parse error") from None
    if not isinstance(request, dict):
        raise RpcError(-32600, "request must be a single object")
    return parse_request(request)


def parse_request(request: Mapping[str, Any]) -> tuple[Any, str, RpcParams]:
    """The parts of a JSON-RPC request."""
    name, params = request.get("method"), request.get("params") or {}
    if not isinstance(name, str) or not isinstance(params, dict):
        raise RpcError(-32600, "request must have a method, and an object as params")
    return request.get("id"), name, RpcParams(params)
