"""Time: the machine's clock, and a venue's as far as it differs."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import anyio

from astra.errors import VenueError
from astra.models.protocols import Clock

_log = logging.getLogger("astra.net")

TimeSource = Callable[[], Awaitable[int]]
"""Asks the venue for its time (ms since the epoch)."""


class SystemClock:
    """The machine's clock (implements `astra.models.protocols.Clock`)."""

    wall_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await event.wait()
        return event.is_set()


class VenueClock:
    """A venue's clock: the machine's, plus an offset that is measured against the venue's time endpoint.

    The venue reads its clock somewhere between our sending and our receiving, so half the round trip is the error of
    one measurement; of several rounds the one with the shortest round trip counts. `now_ms` leans to the early side by
    that error (50 ms at most): venues accept stamps that are seconds old, but hardly any from their future.
    """

    MAX_AGE_S = 600.0
    """`refresh` measures again after so long: crystals drift by some ten ms in that time."""
    LAST_AGE_S = 3600.0
    """What is in a hurry waits for no new measurement before this age."""
    RETRY_S = 30.0
    """After a failed measurement `refresh` does not try again for so long."""
    JUMP_MS = 100.0
    """A wall clock that moved against the monotonic one by more was set: its offset is void."""
    MARGIN_MS = 50.0

    def __init__(self, clock: Clock) -> None:
        self.local = clock
        """The machine's clock."""
        self.source: TimeSource | None = None
        """Set by the venue: where `refresh` and `remeasure` ask for the time."""
        self.offset_ms = 0.0
        """Venue time minus local time; 0 until measured."""
        self.margin_ms = 0.0
        """How much earlier than the estimate `now_ms` stamps."""
        self.measured_at: float | None = None
        """Monotonic time of the last measurement (s); None before the first."""
        self._failed_at: float | None = None
        self._lead_ms = 0.0
        self._lock = anyio.Lock()

    def now_ms(self) -> int:
        """The venue's time in ms, rather slightly too early than too late."""
        return int(self.local.wall_ns() / 1e6 + self.offset_ms - self.margin_ms)

    @property
    def stale(self) -> bool:
        """Was the offset never measured, too long ago, or before the machine's clock was set?"""
        return self._older_than(self.MAX_AGE_S)

    def _older_than(self, age_s: float) -> bool:
        if self.measured_at is None or self.local.monotonic() - self.measured_at > age_s:
            return True
        return abs(self._wall_lead_ms() - self._lead_ms) > self.JUMP_MS

    async def measure(self, fetch: TimeSource, rounds: int = 3) -> None:
        """Measure the offset with `fetch`, which asks the venue for its time in ms.

        The first round that fails is the last. Raises its error when none was answered before.
        """
        best: tuple[float, float] | None = None
        for _ in range(rounds):
            sent_ms = self.local.wall_ns() / 1e6
            sent = self.local.monotonic()
            try:
                venue_ms = await fetch()
            except VenueError:
                if best is None:
                    self._failed_at = self.local.monotonic()
                    raise
                break
            half_ms = (self.local.monotonic() - sent) * 1000 / 2
            if best is None or half_ms < best[0]:
                best = half_ms, venue_ms - (sent_ms + half_ms)
        assert best is not None, "rounds must be positive"
        self.margin_ms = min(best[0], self.MARGIN_MS)
        self.offset_ms = best[1]
        self.measured_at = self.local.monotonic()
        self._failed_at = None
        self._lead_ms = self._wall_lead_ms()

    async def remeasure(self) -> bool:
        """Measure now (the venue refused a stamp). False when the venue has no time source; raises what it raises."""
        if self.source is None:
            return False
        began = self.local.monotonic()
        async with self._lock:
            # Whoever waited here while another task measured has what it wants.
            if self.measured_at is None or self.measured_at < began:
                await self.measure(self.source)
        return True

    async def refresh(self, *, hurry: bool = False) -> None:
        """Measure when `stale`. A venue that does not answer leaves the old offset: it will say if it minds.

        `hurry`: not for its age alone (an order must not wait for a measurement that a read can wait for).
        """
        if self.source is None or not self._older_than(self.LAST_AGE_S if hurry else self.MAX_AGE_S):
            return
        async with self._lock:
            now = self.local.monotonic()
            if not self.stale or (self._failed_at is not None and now - self._failed_at < self.RETRY_S):
                return
            try:
                await self.measure(self.source)
            except VenueError as error:
                _log.warning("the venue's clock could not be measured: %s", error)

    def _wall_lead_ms(self) -> float:
        return self.local.wall_ns() / 1e6 - self.local.monotonic() * 1000
