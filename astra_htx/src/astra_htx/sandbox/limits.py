"""Rate limits: requests per user and endpoint (Spot) or per user and kind (derivatives), market data per address."""

from __future__ import annotations

from enum import Enum

import msgspec

from astra.sandbox.toolkit import Window
from astra_htx.sandbox.wire import Family, Refusal


class Counter(Enum):
    """Which of the venue's counters a request is counted on."""

    SPOT_FAST = "100 / 2 s, per user and endpoint"
    SPOT_USUAL = "50 / 2 s, per user and endpoint"
    SPOT_SLOW = "20 / 2 s, per user and endpoint"
    SPOT_ALL = "1 / 2 s, per user and endpoint"
    SPOT_MARKET = "10 / s, per address and endpoint"
    V5_TRADE = "72 / 3 s, per user"
    V5_READ = "72 / 3 s per user"
    V5_MODE = "1 / 10 s, per user"
    COIN_TRADE = "36 / 3 s, per user and family"
    COIN_READ = "36 / 3 s per user and family"
    CONTRACT_PUBLIC = "240 / 3 s, per address"
    CONTRACT_MARKET = "800 / s, per address"


class SandboxLimits(msgspec.Struct):
    """What the sandbox allows; the venue's own figures unless a test sets others."""

    requests: dict[Counter, tuple[int, int]] = msgspec.field(
        default_factory=lambda: {
            Counter.SPOT_FAST: (100, 2000),
            Counter.SPOT_USUAL: (50, 2000),
            Counter.SPOT_SLOW: (20, 2000),
            Counter.SPOT_ALL: (1, 2000),
            Counter.SPOT_MARKET: (20, 2000),
            Counter.V5_TRADE: (72, 3000),
            Counter.V5_READ: (72, 3000),
            Counter.V5_MODE: (1, 10_000),
            Counter.COIN_TRADE: (36, 3000),
            Counter.COIN_READ: (36, 3000),
            Counter.CONTRACT_PUBLIC: (240, 3000),
            Counter.CONTRACT_MARKET: (800, 1000),
        }
    )
    """Counter -> (requests, window in ms)."""
    spot_req_spacing_ms: int = 95
    """Least time between two `req` of a Spot connection: 100 ms, less what the network's jitter takes."""
    contract_subs_per_second: int = 40
    contract_reqs_per_second: int = 50
    private_messages_per_second: int = 50
    private_connections: dict[bool, int] = msgspec.field(default_factory=lambda: {True: 10, False: 30})
    """Private connections a key may hold: of Spot (True), of derivatives (False)."""
    market_ping_ms: int = 5000
    spot_private_ping_ms: int = 20_000
    spot_unanswered_pings: int = 2
    contract_unanswered_pings: int = 5
    snapshot_lag: int = 0
    """The snapshot that answers a `req` is so many frames old."""


class Meter:
    """Counts what clients use and refuses what is too much."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._windows: dict[tuple[Counter, str, str], Window] = {}

    def spend(self, counter: Counter, who: str, what: str, now_ms: int, headers: dict[str, str]) -> None:
        """Count a request of `who`, on what of the counter is shared (`what`). Fills the usage headers; raises
        `Refusal` over the limit."""
        limit, length = self._limits.requests[counter]
        window = self._windows.setdefault((counter, who, what), Window(length))
        used = window.add(1, now_ms)
        reset = now_ms + window.left_ms(now_ms)
        headers.update(usage_headers(counter, limit, length, max(0, limit - used), reset))
        if used > limit:
            raise too_many(counter)


def usage_headers(counter: Counter, limit: int, length: int, left: int, reset_ms: int) -> dict[str, str]:
    if counter.name.startswith("SPOT"):
        return {"X-HB-RateLimit-Requests-Remain": str(left), "X-HB-RateLimit-Requests-Expire": str(reset_ms)}
    return {
        "ratelimit-limit": str(limit),
        "ratelimit-interval": str(length),
        "ratelimit-remaining": str(left),
        "ratelimit-reset": str(reset_ms),
    }


def too_many(counter: Counter) -> Refusal:
    if counter is Counter.SPOT_MARKET:
        return Refusal("invalid-parameter", "request limit")
    if counter.name.startswith("SPOT"):
        return Refusal("rate-too-many-requests", "exceeded rate limit", status=429)
    return Refusal(1032, "The number of access exceeded the limit.")


def trade_counter(family: Family) -> Counter:
    if family is Family.SPOT:
        return Counter.SPOT_FAST
    return Counter.V5_TRADE if family is Family.LINEAR else Counter.COIN_TRADE
