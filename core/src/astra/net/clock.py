"""Time: the machine's clock, and a venue's as far as it differs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

from astra.models.protocols import Clock


class SystemClock:
    """The machine's clock (implements `astra.models.protocols.Clock`)."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class VenueClock:
    """A venue's clock: the local one plus a measured offset."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset_ms = 0.0
        self.measured_at: float | None = None

    def now_ms(self) -> int:
        """The venue's time in ms."""
        return int(self._clock.wall_ns() / 1e6 + self.offset_ms)

    async def measure(self, fetch: Callable[[], Awaitable[int]], rounds: int = 3) -> None:
        """Measure the offset; `fetch` asks the venue for its time in ms."""
        raise NotImplementedError
