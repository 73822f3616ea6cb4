"""A clock that moves only when it is told to."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import anyio
import anyio.lowlevel


class ManualClock:
    """Implements `astra.models.protocols.Clock`. `advance` moves it, timer by timer, letting tasks run in between."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._wall_ns = wall_ns
        self._elapsed = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._cancelled: set[int] = set()

    def wall_ns(self) -> int:
        return self._wall_ns + round(self._elapsed * 1e9)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        await self.wait(anyio.Event(), seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        if seconds <= 0 or event.is_set():
            await anyio.lowlevel.checkpoint()
            return event.is_set()
        with anyio.CancelScope() as scope:
            number = next(self._number)
            if seconds != float("inf"):
                heapq.heappush(self._timers, (self._elapsed + seconds, number, scope.cancel))
            try:
                await event.wait()
            finally:
                self._cancelled.add(number)
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: every timer due on the way fires in order, and all tasks run until they wait again."""
        end = self._elapsed + seconds
        await anyio.wait_all_tasks_blocked()
        while self._timers and self._timers[0][0] <= end:
            at, number, fire = heapq.heappop(self._timers)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            self._elapsed = max(self._elapsed, at)
            fire()
            await anyio.wait_all_tasks_blocked()
        self._elapsed = end
        await anyio.wait_all_tasks_blocked()
