"""Stream connections: what a client subscribes to, in the URL or by frames, and how the connection is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from astra.sandbox import Link, SandboxSession
from astra.sandbox.toolkit import EventRate, split_form, text_of
from astra_binance.sandbox.hub import Hub, plane_of
from astra_binance.sandbox.limits import SandboxLimits
from astra_binance.sandbox.wire import Family

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
POLICY_VIOLATION = 1008
GOING_AWAY = 1001


class UserStreams(Protocol):
    """What a stream connection asks of the listen keys."""

    def is_key(self, family: Family, name: str) -> bool: ...

    def join(self, family: Family, key: str, session: StreamSession, events: frozenset[str] | None) -> None: ...

    def leave(self, family: Family, key: str, session: StreamSession) -> None: ...


class Upkeep:
    """What every connection of the venue is subject to: server pings, missing pongs, message rate, the 24 h cut."""

    def __init__(self, family: Family, link: Link, limits: SandboxLimits, now_ms: int) -> None:
        self._family = family
        self._link = link
        self._limits = limits
        self._opened = now_ms
        self._pinged = now_ms
        self._unanswered: dict[bytes, int] = {}
        self._rate = EventRate(limits.messages_per_second[family])
        self.over = False

    def message(self, now_ms: int) -> bool:
        """Count a message of the client; False: that was one too many, the connection is closed."""
        if self._rate.exceeded(now_ms):
            self.close(POLICY_VIOLATION, "Too many requests")
        return not self.over

    def pong(self, payload: bytes, now_ms: int) -> None:
        """A pong answers the ping with its payload, and those before it. An unsolicited one keeps nothing alive, and
        counts as a message like any."""
        if payload in self._unanswered:
            sent = self._unanswered[payload]
            self._unanswered = {other: time for other, time in self._unanswered.items() if time > sent}
        self.message(now_ms)

    def tick(self, now_ms: int) -> None:
        if self.over:
            return
        oldest = next(iter(self._unanswered.values()), now_ms)
        if now_ms - self._opened >= self._limits.connection_life_ms:
            self.close(GOING_AWAY, "")
        elif now_ms - oldest >= self._limits.pong_within_ms[self._family]:
            self.close(POLICY_VIOLATION, "Pong timeout")
        elif now_ms - self._pinged >= self._limits.ping_every_ms[self._family]:
            self._pinged = now_ms
            payload = str(now_ms).encode()
            self._unanswered[payload] = now_ms
            self._link.ping(payload)

    def close(self, code: int, reason: str) -> None:
        if not self.over:
            self.over = True
            self._link.close(code, reason)


class StreamSession(SandboxSession):
    """A connection of a stream host.

    Any well-formed SUBSCRIBE is acknowledged: the venue does not say that a stream does not exist, or that another
    path serves it. Such a stream is listed, and silent.
    """

    def __init__(
        self,
        family: Family,
        plane: str | None,
        link: Link,
        *,
        hub: Hub,
        users: UserStreams,
        limits: SandboxLimits,
        now_ms: Callable[[], int],
        advance: Callable[[int], None],
        combined: bool,
        on_closed: Callable[[StreamSession], None],
    ) -> None:
        self.family = family
        self.combined = combined
        self._plane = plane
        self._link = link
        self._hub = hub
        self._users = users
        self._most_streams = limits.streams_per_connection[family]
        self._now_ms = now_ms
        self._advance = advance
        self._on_closed = on_closed
        self._upkeep = Upkeep(family, link, limits, now_ms())
        self.names: dict[str, None] = {}

    # --- what the server calls ---

    def received(self, payload: str | bytes) -> None:
        now_ms = self._now_ms()
        if not self._upkeep.message(now_ms):
            return
        self._advance(now_ms)  # what happened before a subscription is not told after it
        try:
            request = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            self._refuse(3, "Invalid JSON: expected value at line 1 column 1")
            return
        if not isinstance(request, dict):
            self._refuse(2, "Invalid request: request must be an object")
            return
        self._handle(request)

    def pong(self, payload: bytes) -> None:
        self._upkeep.pong(payload, self._now_ms())

    def tick(self, now_ms: int) -> None:
        self._advance(now_ms)
        self._upkeep.tick(now_ms)

    def closed(self) -> None:
        self._upkeep.over = True
        for name in list(self.names):
            self._leave(name)
        self._on_closed(self)

    def deliver(self, frame: str) -> None:
        self._link.send(frame)

    # --- requests ---

    def _handle(self, request: dict[str, Any]) -> None:
        method, ident, params = request.get("method"), request.get("id"), request.get("params", [])
        if method not in _METHODS:
            names = ", ".join(f"`{name}`" for name in _METHODS)
            self._refuse(2, f"Invalid request: unknown variant {method}, expected one of {names} at line 1 column 1")
        elif ident is not None and (isinstance(ident, bool) or not isinstance(ident, int | str)):
            self._refuse(2, "Invalid request: request ID must be an unsigned integer")
        elif method == "LIST_SUBSCRIPTIONS":
            self._acknowledge(ident, list(self.names))
        elif method == "GET_PROPERTY":
            self._acknowledge(ident, self.combined)
        elif method == "SET_PROPERTY":
            self._set_property(ident, params)
        elif not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            self._refuse(2, "Invalid request: params must be a list of stream names")
        elif method == "UNSUBSCRIBE":
            for name in params:
                self._leave(name)
            self._acknowledge(ident, None)
        elif self.subscribe(params):
            self._acknowledge(ident, None)

    def _set_property(self, ident: Any, params: Any) -> None:
        if not (isinstance(params, list) and len(params) == 2 and params[0] == "combined" and type(params[1]) is bool):
            self._refuse(2, "Invalid request: params must be the name of a property and its value")
            return
        self.combined = params[1]
        self._acknowledge(ident, None)

    def subscribe(self, names: Sequence[str], events: frozenset[str] | None = None) -> bool:
        """Take on streams (`events`: of a user stream, only these); False when that makes too many."""
        if len(self.names.keys() | set(names)) > self._most_streams:
            self._refuse(2, f"Invalid request: too many streams, at most {self._most_streams} per connection")
            self._upkeep.close(POLICY_VIOLATION, "Too many streams")
            return False
        for name in names:
            if name in self.names:
                continue
            self.names[name] = None
            if self._users.is_key(self.family, name):
                if self._plane in (None, "private"):
                    self._users.join(self.family, name, self, events)
            elif self._plane == plane_of(self.family, name):
                self._hub.join(self.family, name, self)
        return True

    def _leave(self, name: str) -> None:
        if name in self.names:
            del self.names[name]
            self._users.leave(self.family, name, self)
            self._hub.leave(self.family, name, self)

    def _acknowledge(self, ident: Any, result: Any) -> None:
        self._link.send(text_of({"result": result, "id": ident}))

    def _refuse(self, code: int, message: str) -> None:
        self._link.send(text_of({"code": code, "msg": message}))

    def announce_shutdown(self, now_ms: int) -> None:
        event = {"e": "serverShutdown", "E": now_ms}
        self._link.send(text_of({"stream": "!serverShutdown", "data": event} if self.combined else event))


class StreamTarget(msgspec.Struct, frozen=True):
    """What the URL of a stream connection asks for."""

    plane: str | None
    combined: bool
    names: tuple[str, ...]
    events: frozenset[str] | None = None


def parse_target(family: Family, target: str) -> StreamTarget | None:
    """`[/public|/market|/private]/ws[/a/b]`, `.../ws?listenKey=K[&events=A/B]`, `.../stream[?streams=a/b]`.

    None: no such path. Without one of the three, USD-M and options serve what `/public` serves.
    """
    path, _, query = target.partition("?")
    asked = dict(split_form(query))
    parts = [unquote(part) for part in path.split("/") if part]
    plane = None
    if family in (Family.USDM, Family.OPTIONS):
        plane = "public"
        if parts and parts[0] in ("public", "market", "private"):
            plane = parts.pop(0)
    if not parts or parts[0] not in ("ws", "stream"):
        return None
    combined = parts[0] == "stream"
    names = parts[1:]
    if combined:
        names += [name for name in asked.get("streams", "").split("/") if name]
    events = None
    if "listenKey" in asked:
        names.append(asked["listenKey"])
        if asked.get("events"):
            events = frozenset(asked["events"].split("/"))
    return StreamTarget(plane, combined, tuple(names), events)
