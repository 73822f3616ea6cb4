"""What clients may use: requests per second, messages and connections, how long sockets and tokens live."""

from __future__ import annotations

import msgspec

from astra.sandbox.toolkit import EventRate, Window

SECOND_MS = 1000


class SandboxLimits(msgspec.Struct):
    """What the sandbox allows; the venue's own figures (as far as it names any) unless a test sets others."""

    private_per_second: int = 30
    """Advanced Trade, per user."""
    public_per_second: int = 10
    """Advanced Trade, per address."""
    public_cache_ms: int = 1000
    """Public answers are this old at most, unless the request says `cache-control: no-cache`."""
    connections_per_second: int = 8
    messages_per_second: int = 8
    """Of clients that have not authenticated, per connection."""
    subscribe_within_ms: int = 5000
    quiet_after_ms: int = 90_000
    """A connection on which nothing has been sent for so long is closed: subscribe to heartbeats."""
    gateway_burst: int = 100
    gateway_per_second: int = 20
    """Gateway: requests a client may have in hand, and how fast they come back. Without any, a socket is closed. (The
    usual figures of the protocol it speaks; the gateway itself names none.)"""
    gateway_idle_ms: int = 30_000
    """Gateway: a socket without messages of the client is closed (1011) after so long."""
    http_token_s: int = 899
    session_s: int = 3000


class Meter:
    """Counts what clients use."""

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self._windows: dict[tuple[str, str], Window] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._connections = EventRate(limits.connections_per_second)

    def spend(self, kind: str, owner: str, limit: int, now_ms: int) -> tuple[bool, dict[str, str]]:
        """Charge a request of Advanced Trade: (was there room, the usage headers)."""
        window = self._windows.setdefault((kind, owner), Window(SECOND_MS))
        used = window.add(1, now_ms)
        headers = {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(0, limit - used)),
            "x-ratelimit-reset": str(-(-window.left_ms(now_ms) // SECOND_MS)),
        }
        return used <= limit, headers

    def connected(self, now_ms: int) -> bool:
        """Count a connection to a stream host of Advanced Trade; False: one too many."""
        return not self._connections.exceeded(now_ms)

    def take_credit(self, owner: str, now_ms: int) -> bool:
        """Charge a request of the gateway; False: there is no credit left."""
        bucket = self._buckets.get(owner)
        if bucket is None:
            bucket = self._buckets[owner] = _Bucket(self.limits.gateway_burst, now_ms)
        return bucket.take(self.limits, now_ms)


class _Bucket:
    """Credits that come back with time."""

    def __init__(self, burst: int, now_ms: int) -> None:
        self._milli_credits = burst * SECOND_MS
        self._at = now_ms

    def take(self, limits: SandboxLimits, now_ms: int) -> bool:
        gained = (now_ms - self._at) * limits.gateway_per_second
        self._milli_credits = min(limits.gateway_burst * SECOND_MS, self._milli_credits + gained)
        self._at = now_ms
        if self._milli_credits < SECOND_MS:
            return False
        self._milli_credits -= SECOND_MS
        return True
