"""The order book of one market: price levels, first come first served within a level."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from decimal import Decimal

from astra.models.trades import Side
from astra.sandbox import Amount, EngineOrder

ZERO = Decimal(0)


class PriceLevel:
    """The orders resting at one price, oldest first, and their total."""

    __slots__ = ("orders", "total")

    def __init__(self) -> None:
        self.orders: dict[int, EngineOrder] = {}
        self.total = ZERO

    def first(self) -> EngineOrder:
        return next(iter(self.orders.values()))


class BookSide:
    """Bids or asks. `prices` rises; the best price is the last for bids and the first for asks."""

    __slots__ = ("_changed", "is_bid", "levels", "prices")

    def __init__(self, *, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.levels: dict[Decimal, PriceLevel] = {}
        self.prices: list[Decimal] = []
        self._changed: dict[Decimal, Decimal] = {}

    def best(self) -> Decimal | None:
        if not self.prices:
            return None
        return self.prices[-1] if self.is_bid else self.prices[0]

    def best_first(self) -> Iterator[Decimal]:
        return reversed(self.prices) if self.is_bid else iter(self.prices)

    def crosses(self, limit: Decimal | None) -> bool:
        """Would an order of the other side with this limit price (None: any price) meet an order here?"""
        best = self.best()
        if best is None:
            return False
        if limit is None:
            return True
        return best >= limit if self.is_bid else best <= limit

    def add(self, order: EngineOrder, price: Decimal) -> None:
        """Rest the order behind all others at its price."""
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = PriceLevel()
            insort(self.prices, price)
        self._changed.setdefault(price, level.total)
        level.orders[order.id] = order
        level.total += order.remaining

    def take(self, price: Decimal, quantity: Decimal) -> None:
        """Lower the total at `price`: an order there was filled, or shrunk, by `quantity`."""
        level = self.levels[price]
        self._changed.setdefault(price, level.total)
        level.total -= quantity

    def remove(self, order: EngineOrder, price: Decimal) -> None:
        """Take the order out of the book with what remains of it."""
        level = self.levels[price]
        self._changed.setdefault(price, level.total)
        del level.orders[order.id]
        level.total -= order.remaining
        if not level.orders:
            del self.levels[price]
            del self.prices[bisect_left(self.prices, price)]

    def holds(self, order: EngineOrder) -> bool:
        level = self.levels.get(order.price) if order.price is not None else None
        return level is not None and order.id in level.orders

    def amounts(self, count: int) -> list[Amount]:
        """The `count` best levels, best first."""
        if self.is_bid:
            chosen: Sequence[Decimal] = self.prices[: -count - 1 : -1]
        else:
            chosen = self.prices[:count]
        return [Amount(price, self.levels[price].total) for price in chosen]

    def drain_changes(self) -> list[Amount]:
        """New totals at the prices whose total differs from what it was at the last call."""
        changes = []
        for price, before in self._changed.items():
            level = self.levels.get(price)
            total = ZERO if level is None else level.total
            if total != before:
                changes.append(Amount(price, total))
        self._changed.clear()
        return changes


class Book:
    """Both sides of a market's book, and the id of its last change."""

    __slots__ = ("asks", "bids", "last_price", "trade_range", "update_id")

    def __init__(self, update_id: int) -> None:
        self.bids = BookSide(is_bid=True)
        self.asks = BookSide(is_bid=False)
        self.update_id = update_id
        self.last_price: Decimal | None = None
        self.trade_range: tuple[Decimal, Decimal] | None = None
        """Lowest and highest trade price since conditional orders were last looked at."""

    def side(self, side: Side) -> BookSide:
        """Where an order of this side rests."""
        return self.bids if side is Side.BUY else self.asks

    def opposite(self, side: Side) -> BookSide:
        """Where an order of this side finds its counterparts."""
        return self.asks if side is Side.BUY else self.bids

    def traded(self, price: Decimal) -> None:
        self.last_price = price
        if self.trade_range is None:
            self.trade_range = (price, price)
        else:
            low, high = self.trade_range
            self.trade_range = (min(low, price), max(high, price))

    def mid(self) -> Decimal | None:
        """Half way between the best prices; None while a side is empty."""
        bid, ask = self.bids.best(), self.asks.best()
        return None if bid is None or ask is None else (bid + ask) / 2
