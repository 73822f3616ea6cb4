"""Private sockets: who logged in, and the engine's events on the way to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from astra.sandbox import (
    Account,
    BalanceEvent,
    EngineEvent,
    Exchange,
    Link,
    OrderEvent,
    PositionEvent,
    SandboxSession,
)
from astra.sandbox.toolkit import EventRate
from astra_htx.sandbox.keys import check_login
from astra_htx.sandbox.limits import SandboxLimits
from astra_htx.sandbox.orders import OrderDesk
from astra_htx.sandbox.sessions import Heartbeat
from astra_htx.sandbox.wire import Family


class Gate(Protocol):
    """What a private session asks of the venue."""

    engine: Exchange
    limits: SandboxLimits

    def now_ms(self) -> int: ...

    def advance(self, now_ms: int) -> None: ...


class PrivateSession(SandboxSession):
    """A socket with a login. Subclasses speak one of the two dialects."""

    spot = False
    every_ms = 5000
    most_unanswered = 5

    def __init__(
        self, gate: Gate, users: UserDesk, desk: OrderDesk, link: Link, path: str, hosts: tuple[str, ...]
    ) -> None:
        self.account: Account | None = None
        self.gate = gate
        self.users = users
        self.desk = desk
        self._link = link
        self._path = path
        self._hosts = hosts
        self._rate = EventRate(gate.limits.private_messages_per_second)
        self._heartbeat = Heartbeat(self.every_ms, self.most_unanswered, gate.now_ms())

    # --- of the dialect ---

    def say(self, body: Any) -> None:
        """Send a frame."""
        raise NotImplementedError

    def frame(self, frame: dict[str, Any], now_ms: int) -> None:
        """A frame of the client that is no pong."""
        raise NotImplementedError

    def pong_of(self, frame: Mapping[str, Any]) -> Any:
        """The stamp that a pong repeats; None if the frame is none."""
        raise NotImplementedError

    def send_ping(self, stamp: str) -> None:
        raise NotImplementedError

    def not_json(self, now_ms: int) -> None:
        raise NotImplementedError

    def too_fast(self, frame: Mapping[str, Any], now_ms: int) -> None:
        raise NotImplementedError

    def farewell(self, now_ms: int) -> None:
        """What is said before the venue closes."""

    def order_event(self, event: OrderEvent, family: Family) -> None:
        raise NotImplementedError

    def balance_event(self, event: BalanceEvent, cause: str) -> None:
        raise NotImplementedError

    def position_event(self, event: PositionEvent, family: Family, cause: str) -> None:
        """Spot has none."""

    @property
    def subscribed(self) -> int:
        """How many channels it has subscribed to."""
        raise NotImplementedError

    # --- common ---

    @property
    def caller(self) -> Account:
        """The account that logged in."""
        if self.account is None:
            raise LookupError("the session is not logged in")
        return self.account

    def log_in(self, fields: Mapping[str, Any], now_ms: int) -> None:
        """Raises `KeyRefused`, or `ConnectionRefusedError` when the key has too many connections already."""
        account = check_login(self.gate.engine, self._hosts, self._path, fields, now_ms, lower=self.spot)
        self.users.join(self, account)
        self.account = account

    def received(self, payload: str | bytes) -> None:
        now_ms = self.gate.now_ms()
        self.gate.advance(now_ms)
        try:
            frame = json.loads(payload)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            self.not_json(now_ms)
            return
        stamp = self.pong_of(frame)
        if stamp is not None:
            self._heartbeat.answered(stamp)
        elif self._rate.exceeded(now_ms):
            self.too_fast(frame, now_ms)
        else:
            self.frame(frame, now_ms)

    def tick(self, now_ms: int) -> None:
        self.gate.advance(now_ms)
        try:
            stamp = self._heartbeat.turn(now_ms)
        except ConnectionAbortedError:
            self.farewell(now_ms)
            self._link.close(1000, "")
            return
        if stamp is not None:
            self.send_ping(stamp)

    def closed(self) -> None:
        self.users.leave(self)


class UserDesk:
    """Keeps the sessions that logged in, by account."""

    def __init__(self, desk: OrderDesk, limits: SandboxLimits) -> None:
        self._desk = desk
        self._limits = limits
        self._sessions: dict[str, dict[PrivateSession, None]] = {}
        self._causes: dict[str, str] = {}
        self._versions: dict[tuple[str, str], int] = {}

    def join(self, session: PrivateSession, account: Account) -> None:
        """Raises `ConnectionRefusedError` when the key has all the connections it may have."""
        there = self._sessions.setdefault(account.name, {})
        alike = sum(1 for one in there if one.spot is session.spot and one is not session)
        if alike >= self._limits.private_connections[session.spot]:
            raise ConnectionRefusedError
        self.leave(session)
        there[session] = None

    def leave(self, session: PrivateSession) -> None:
        if session.account is not None:
            self._sessions.get(session.account.name, {}).pop(session, None)

    def subscriptions(self, account: str) -> int:
        """How many channels the sessions of an account have subscribed to."""
        return sum(session.subscribed for session in self._sessions.get(account, ()))

    def version(self, account: str, what: str) -> int:
        """A number that grows with each push of its kind."""
        self._versions[account, what] = self._versions.get((account, what), 0) + 1
        return self._versions[account, what]

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, OrderEvent):
            self._causes[event.order.account] = event.kind
            family = self._desk.listing(event.order).family
            for session in list(self._sessions.get(event.order.account, ())):
                session.order_event(event, family)
        elif isinstance(event, BalanceEvent):
            cause = self._causes.get(event.account, "DEPOSIT")
            for session in list(self._sessions.get(event.account, ())):
                session.balance_event(event, cause)
        elif isinstance(event, PositionEvent):
            family = self._desk.listing(event.position).family
            cause = self._causes.get(event.account, "TRADE")
            for session in list(self._sessions.get(event.account, ())):
                session.position_event(event, family, cause)
