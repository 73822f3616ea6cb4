"""Rate limits: fixed windows per endpoint and address, user, or user and instrument; connections and operations.

The venue tells nobody how much is used, and not how long to wait: 50011 is all the answer there is.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from astra.sandbox.toolkit import Window
from astra_okx.sandbox.wire import Refusal

WINDOW_MS = 2000
_MOST_WINDOWS = 100_000


class Scope(Enum):
    """Whose requests are counted together."""

    ADDRESS = "address"
    USER = "user"


class Budget(msgspec.Struct, frozen=True):
    """At most `limit` requests in each window, counted by `scope` and the parameter named `by`."""

    limit: int
    scope: Scope = Scope.USER
    window_ms: int = WINDOW_MS
    by: str | None = None


class SandboxLimits(msgspec.Struct):
    """What the sandbox allows; the venue's own figures unless a test sets others."""

    orders: int = 60
    """Placing, amending, cancelling: each so many per 2 s, user and instrument (options: family)."""
    batch_orders: int = 300
    """Orders in batches of more than one: each kind so many per 2 s, user and instrument."""
    account_orders: int = 1000
    """New and amended orders of an account per 2 s."""
    algo_orders: int = 20
    connections_per_second: int = 3
    operations_per_hour: int = 480
    """Subscribing, unsubscribing and logging in, per connection."""
    sessions_per_channel: int = 30
    """Connections that hold the same private channel of one account."""
    idle_ms: int = 30_000
    keep_alive_ms: int = 60_000
    """A book that has not changed for so long sends an empty update."""
    snapshots: bool = True
    """Books begin with a snapshot. The venue has announced that they will not one day: False plays that."""
    account_push_ms: int = 5_000
    """Account and positions are pushed again so often, change or not."""
    scale: float = 1.0
    """Multiplies the limits of all requests: for tests that ask faster than a client may."""


def too_many() -> Refusal:
    return Refusal("50011", "Too Many Requests", status=429)


class Meter:
    """Counts what clients use and refuses what is too much."""

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self._windows: dict[tuple[str, ...], Window] = {}

    def _window(self, key: tuple[str, ...], length_ms: int) -> Window:
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _MOST_WINDOWS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[key] = Window(length_ms)
        return window

    def _take(self, key: tuple[str, ...], amount: int, limit: float, now_ms: int, length_ms: int = WINDOW_MS) -> bool:
        """Charge if there is room. A refused request costs nothing."""
        window = self._window(key, length_ms)
        if window.count(now_ms) + amount > limit:
            return False
        window.add(amount, now_ms)
        return True

    def spend(self, name: str, budget: Budget, who: str, what: str, now_ms: int) -> None:
        """Charge a request to an endpoint's budget. 50011 over the limit."""
        key = (name, who, what)
        if not self._take(key, 1, budget.limit * self.limits.scale, now_ms, budget.window_ms):
            raise too_many()

    def spend_orders(self, action: str, user: str, instrument: str, orders: int, now_ms: int, *, batch: bool) -> bool:
        """Charge orders of one instrument: singles and batches have budgets of their own, REST and WebSocket share
        them. False: too many."""
        limit = self.limits.batch_orders if batch else self.limits.orders
        key = (f"{action}-{'batch' if batch else 'single'}", user, instrument)
        return self._take(key, orders, limit * self.limits.scale, now_ms)

    def spend_account(self, user: str, orders: int, now_ms: int) -> bool:
        """Charge new or amended orders to the account as a whole. False: too many (50061)."""
        return self._take(("account", user), orders, self.limits.account_orders * self.limits.scale, now_ms)

    def connected(self, client: str, now_ms: int) -> bool:
        """Count a new connection; False: too many this second."""
        return self._take(("connections", client), 1, self.limits.connections_per_second, now_ms, 1000)
