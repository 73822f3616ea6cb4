"""Order books on the hot path. Prices in quote units, quantities in base units, both float64."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum

import msgspec

Level = tuple[float, float]
"""(price in quote units, quantity in base units)."""


class UpdateKind(StrEnum):
    """What an `OrderbookUpdate` does to the consumer's copy of the book."""

    SNAPSHOT = "SNAPSHOT"
    """Replace the whole book by these levels."""
    UPDATE = "UPDATE"
    """Set each level to its new quantity; quantity 0 deletes it."""
    STALE = "STALE"
    """The book can no longer be trusted; a SNAPSHOT follows when it can."""


class BookState(StrEnum):
    """How far a live book can be trusted."""

    SYNCING = "SYNCING"
    LIVE = "LIVE"
    STALE = "STALE"


class Integrity(IntEnum):
    """By what means a book is checked against lost frames, weakest first."""

    NONE = 0
    SEQUENCE = 1
    CHECKSUM = 2


class OrderbookUpdate(msgspec.Struct, frozen=True, gc=False):
    """One change of one market's book.

    `bids` and `asks` are (price, quantity) pairs; treat them as read-only, all consumers share them. `update_id`
    strictly grows from UPDATE to UPDATE of a market (a SNAPSHOT may repeat the last one). `time` is the venue's time
    in ms (None where it gives none), `received` the local receive time in ns since the epoch.
    """

    market: str
    update_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    kind: UpdateKind
    time: int | None
    received: int
    reason: str | None = None
    """For STALE: what made the book untrustworthy."""


class Orderbook(msgspec.Struct, frozen=True):
    """A snapshot of a book: bids by falling price, asks by rising price."""

    market: str
    update_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    time: int | None
    received: int
