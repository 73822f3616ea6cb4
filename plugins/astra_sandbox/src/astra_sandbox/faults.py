"""Which fault befalls a frame or a request: drawn by the chances that `astra.sandbox.Faults` names."""

from __future__ import annotations

import gzip
from enum import Enum
from random import Random

from anyio import Event

from astra.models.protocols import Clock
from astra.sandbox import Faults

_GZIP = b"\x1f\x8b"


class FrameFate(Enum):
    """What becomes of a data frame."""

    SENT = "sent"
    DROPPED = "dropped"
    REPEATED = "repeated"
    REORDERED = "reordered"
    CUT = "cut"


class RequestFate(Enum):
    """What becomes of a request."""

    ANSWERED = "answered"
    RESET = "reset"
    RATE_LIMITED = "rate-limited"
    SERVER_ERROR = "server-error"
    LATE = "late"
    ANSWER_LOST = "answer-lost"
    SERVER_ERROR_AFTER = "server-error-after"


class FaultDice:
    """Draws fates. A chance of 0 draws nothing, so that the draws of one fault do not depend on the others' being
    offered."""

    def __init__(self, faults: Faults, random: Random) -> None:
        self.faults = faults
        self._random = random

    def frame(self, payload: str | bytes = b"") -> FrameFate:
        """What becomes of a data frame."""
        faults = self.faults
        if faults.lose_next_with and faults.lose_next_with in _text(payload):
            faults.lose_next_with = ""
            return FrameFate.DROPPED
        if self._falls(faults.cut_connection):
            return FrameFate.CUT
        if self._falls(faults.drop_frame):
            return FrameFate.DROPPED
        if self._falls(faults.repeat_frame):
            return FrameFate.REPEATED
        if self._falls(faults.reorder_frame):
            return FrameFate.REORDERED
        return FrameFate.SENT

    def request(self, *, mutating: bool) -> RequestFate:
        faults = self.faults
        if self._falls(faults.reset_request):
            return RequestFate.RESET
        if self._falls(faults.rate_limited):
            return RequestFate.RATE_LIMITED
        if self._falls(faults.server_error):
            return RequestFate.SERVER_ERROR
        if mutating and self._falls(faults.late_request):
            return RequestFate.LATE
        if mutating and self._falls(faults.lost_answer):
            return RequestFate.ANSWER_LOST
        if mutating and self._falls(faults.server_error_after):
            return RequestFate.SERVER_ERROR_AFTER
        return RequestFate.ANSWERED

    def _falls(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance


def _text(payload: str | bytes) -> str:
    """What a frame says."""
    if isinstance(payload, str):
        return payload
    return (gzip.decompress(payload) if payload.startswith(_GZIP) else payload).decode(errors="replace")


class SkewedClock:
    """A clock whose wall time is off by `Faults.clock_skew_ms`, as it stands at the moment."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        self._clock = clock
        self._faults = faults

    def wall_ns(self) -> int:
        return self._clock.wall_ns() + self._faults.clock_skew_ms * 1_000_000

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def wait(self, event: Event, seconds: float) -> bool:
        return await self._clock.wait(event, seconds)
