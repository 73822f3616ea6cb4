"""Aggregate trades: fills of one taker order at one price (Spot), or of 100 ms at one price and side (futures)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from astra.models.trades import Side
from astra.sandbox import Exchange, PublicTrade
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.wire import Family

_KEPT = 1000
_FUTURES_WINDOW_MS = 100


class Aggregate(msgspec.Struct):
    """One aggregate trade; `first` and `last` are the engine's trade ids."""

    id: int
    price: Decimal
    quantity: Decimal
    first: int
    last: int
    time: int
    side: Side
    taker_order_id: int


class _Roll:
    """The aggregates of one market: those complete, and the one that may still grow."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.complete: deque[Aggregate] = deque(maxlen=_KEPT)
        self.growing: Aggregate | None = None
        self.count = 0
        self.last_trade = 0

    def add(self, trade: PublicTrade) -> Aggregate | None:
        """Take a trade; gives the aggregate that this completes."""
        self.last_trade = trade.id
        if self.growing is not None and self._continues(self.growing, trade):
            self.growing.quantity += trade.quantity
            self.growing.last = trade.id
            return None
        done = self.settle()
        self.count += 1
        self.growing = Aggregate(
            id=self.listing.ids.trade_base // 2 + self.count,
            price=trade.price,
            quantity=trade.quantity,
            first=trade.id,
            last=trade.id,
            time=trade.time,
            side=trade.side,
            taker_order_id=trade.taker_order_id,
        )
        return done

    def _continues(self, growing: Aggregate, trade: PublicTrade) -> bool:
        if growing.price != trade.price or growing.side is not trade.side:
            return False
        if self.listing.family is Family.SPOT:
            return growing.taker_order_id == trade.taker_order_id
        return trade.time < growing.time + _FUTURES_WINDOW_MS

    def settle(self) -> Aggregate | None:
        done, self.growing = self.growing, None
        if done is not None:
            self.complete.append(done)
        return done


class Tape:
    """Aggregates of every market, from the engine's history and then from its events."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._rolls: dict[str, _Roll] = {}
        self._growing: dict[str, _Roll] = {}
        self.on_complete: Callable[[Listing, Aggregate], None] = lambda listing, aggregate: None

    def _roll(self, listing: Listing, before_id: int | None = None) -> _Roll:
        """The market's roll, begun (when it is first needed) with the trades that were before `before_id`."""
        roll = self._rolls.get(listing.symbol)
        if roll is None:
            roll = self._rolls[listing.symbol] = _Roll(listing)
            for trade in self._engine.trades(listing.symbol, limit=_KEPT):
                if before_id is None or trade.id < before_id:
                    roll.add(trade)
            roll.settle()
        return roll

    def add(self, trade: PublicTrade) -> None:
        """A trade happened now."""
        listing = self._catalogue.of_symbol(trade.market)
        roll = self._roll(listing, trade.id)
        if trade.id <= roll.last_trade:
            return
        done = roll.add(trade)
        self._growing[trade.market] = roll
        if done is not None:
            self.on_complete(listing, done)

    def settle(self, now_ms: int) -> None:
        """Close the aggregates that cannot grow any more: Spot's at once, those of futures after their window."""
        for symbol, roll in list(self._growing.items()):
            growing = roll.growing
            spot = roll.listing.family is Family.SPOT
            if growing is not None and (spot or now_ms >= growing.time + _FUTURES_WINDOW_MS):
                roll.settle()
                self.on_complete(roll.listing, growing)
            if roll.growing is None:
                del self._growing[symbol]

    def recent(self, listing: Listing) -> Sequence[Aggregate]:
        """The aggregates still remembered, oldest first."""
        return tuple(self._roll(listing).complete)
