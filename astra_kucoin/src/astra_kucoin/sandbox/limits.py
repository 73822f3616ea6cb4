"""How much a client may ask: the pools of REST weights, and what a connection may do."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from astra_kucoin.sandbox.wire import Refusal

_MOST_WINDOWS = 10_000
_POOLS = {"SPOT": 4000, "FUTURES": 2000, "MANAGEMENT": 2000, "PUBLIC": 2000, "UNIFIED": 200}


class SandboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's limits for an account without VIP level; tests make them smaller."""

    pools: Mapping[str, int] = msgspec.field(default_factory=lambda: dict(_POOLS))
    window_ms: int = 30_000
    unified_window_ms: int = 3_000
    token_life_ms: int = 24 * 3_600_000
    timestamp_within_ms: int = 5_000
    messages_per_10_s: int = 100
    unified_messages_per_10_s: int = 300
    symbols_per_frame: int = 100
    topics_per_connection: int = 400
    unified_topics_per_connection: int = 600
    silence_ms: int = 60_000
    """A connection whose client says nothing for so long is closed."""
    snapshot_delay_ms: int = 60
    """Between the acknowledgement of a unified book and its snapshot; deltas may come before it."""
    batch_orders: int = 5
    futures_batch_orders: int = 20


class TooMany(Refusal):
    """Over a limit: wait `reset_ms`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__("429000", "Too many requests", status=429)
        self.headers = dict(headers)


class Meter:
    """The pools: a window begins with the first request in it."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}

    def spend(self, pool: str, who: str, weight: int, now_ms: int) -> dict[str, str]:
        """Charge; gives the headers of the answer. Raises `TooMany`."""
        length = self._limits.unified_window_ms if pool == "UNIFIED" else self._limits.window_ms
        start, used = self._windows.get((pool, who), (now_ms, 0))
        if now_ms - start >= length:
            start, used = now_ms, 0
        if len(self._windows) >= _MOST_WINDOWS:
            self._windows = {key: window for key, window in self._windows.items() if now_ms - window[0] < length}
        limit = self._limits.pools[pool]
        refused = used + weight > limit
        if not refused:
            used += weight
        self._windows[pool, who] = (start, used)
        headers = {
            "gw-ratelimit-limit": str(limit),
            "gw-ratelimit-remaining": str(limit - used),
            "gw-ratelimit-reset": str(start + length - now_ms),
        }
        if refused:
            raise TooMany(headers)
        return headers

    def limit(self, pool: str) -> int:
        return self._limits.pools[pool]
