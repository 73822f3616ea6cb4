"""Trades on the hot path, and the markers that a trade stream carries in line."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Side(StrEnum):
    """Direction of an order, or of the taker in a trade."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One public trade.

    `price` in quote units, `quantity` in base units; `side` is the taker's (None where the venue does not say);
    `time` in ms by the venue's clock; `id` the venue's trade id as text; `received` in ns by the local clock.
    """

    market: str
    price: float
    quantity: float
    side: Side | None
    time: int
    id: str
    received: int = 0


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Trades of `market` may be missing here (the connection was lost, or more came than could be held back while it
    was renewed or an earlier gap filled).

    `after_id` is the last trade id delivered before the gap (None if none was). `filled` is how many missing trades
    follow from the venue's history; None means that they do not, so that the gap stays.
    """

    market: str
    after_id: str | None
    reason: str
    filled: int | None


class Lagged(msgspec.Struct, frozen=True, gc=False):
    """The consumer was too slow: `missed` trades of `market` were dropped from its queue here."""

    market: str
    missed: int


TradeEvent = Trade | Gap | Lagged
