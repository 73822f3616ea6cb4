"""A venue's request limits, modelled on our side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum

import msgspec

from astra.models.protocols import Clock


class BucketKind(StrEnum):
    """How a limit counts."""

    FIXED_WINDOW = "FIXED_WINDOW"
    SLIDING_WINDOW = "SLIDING_WINDOW"
    DECAYING = "DECAYING"


class Bucket(msgspec.Struct, frozen=True):
    """One limit of a venue: at most `limit` in `window_s` seconds."""

    name: str
    limit: float
    window_s: float
    kind: BucketKind = BucketKind.FIXED_WINDOW
    used_header: str | None = None
    per_account: bool = False


class BucketReport(msgspec.Struct, frozen=True):
    """How full a bucket is."""

    name: str
    used: float
    limit: float
    resets_in_s: float
    account: str | None
    paused_s: float


class RateLimiter:
    """Keeps the requests of all tasks within a venue's limits."""

    def __init__(self, exchange: str, buckets: Sequence[Bucket], clock: Clock, *, max_wait_s: float = 30.0) -> None:
        self._exchange = exchange
        self._clock = clock
        self._max_wait_s = max_wait_s

    async def acquire(self, costs: Mapping[str, float], account: Hashable = None, *, urgent: bool = False) -> None: ...

    def observe(self, headers: Mapping[str, str], account: Hashable = None) -> None: ...

    def pause(self, seconds: float, reason: str) -> None: ...

    def configure(self, buckets: Sequence[Bucket]) -> None: ...

    def report(self) -> Sequence[BucketReport]:
        return ()
