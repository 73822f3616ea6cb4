"""The part of a book that a channel shows: its best so many levels a side, and what changes in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from heapq import nlargest, nsmallest

from astra.sandbox import Amount, BookChange, Exchange

ZERO = Decimal(0)
Levels = list[tuple[Decimal, Decimal]]
_WHOLE = 1_000_000


class Side:
    """One side: the whole of it, and the window as it was last sent."""

    def __init__(self, amounts: Iterable[Amount], size: int, *, is_bid: bool) -> None:
        self._size = size
        self._is_bid = is_bid
        self._all = {amount.price: amount.quantity for amount in amounts}
        self._touched: set[Decimal] = set()
        self._cut = len(self._all) > size
        self.sent = self._window()

    def _window(self) -> dict[Decimal, Decimal]:
        if len(self._all) <= self._size:
            return dict(self._all)
        best = nlargest(self._size, self._all) if self._is_bid else nsmallest(self._size, self._all)
        return {price: self._all[price] for price in best}

    def apply(self, amounts: Sequence[Amount]) -> None:
        for amount in amounts:
            if amount.quantity:
                self._all[amount.price] = amount.quantity
            else:
                self._all.pop(amount.price, None)
            self._touched.add(amount.price)

    def turn(self) -> Levels:
        """What changed in the window since the last turn, best first; 0: the level left it."""
        if not self._touched:
            return []
        sent = self.sent
        if self._cut or len(self._all) > self._size:
            window = self._window()
            found = {price: size for price, size in window.items() if sent.get(price) != size}
            found.update((price, ZERO) for price in sent if price not in window)
            self.sent = window
            self._cut = len(self._all) > self._size
        else:
            found = {}
            for price in self._touched:
                size = self._all.get(price)
                if size is None:
                    if sent.pop(price, None) is not None:
                        found[price] = ZERO
                elif sent.get(price) != size:
                    found[price] = sent[price] = size
        self._touched.clear()
        return sorted(found.items(), reverse=self._is_bid)

    def levels(self) -> Levels:
        """The window as last sent, best first."""
        return sorted(self.sent.items(), reverse=self._is_bid)


class Window:
    """Both sides, from the engine's book on and then by its changes."""

    def __init__(self, engine: Exchange, symbol: str, size: int) -> None:
        change_id, bids, asks = engine.depth(symbol, _WHOLE)
        self.change_id = change_id
        """The last change heard of."""
        self.bids = Side(bids, size, is_bid=True)
        self.asks = Side(asks, size, is_bid=False)

    def apply(self, change: BookChange) -> None:
        self.change_id = change.id
        self.bids.apply(change.bids)
        self.asks.apply(change.asks)

    def turn(self) -> tuple[Levels, Levels]:
        return self.bids.turn(), self.asks.turn()

    def levels(self) -> tuple[Levels, Levels]:
        return self.bids.levels(), self.asks.levels()


def grouped(levels: Iterable[Amount], step: Decimal, *, up: bool, most: int) -> Levels:
    """Levels merged to multiples of `step` (asks upwards, bids downwards)."""
    merged: dict[Decimal, Decimal] = {}
    for amount in levels:
        price = amount.price // step * step
        if up and price != amount.price:
            price += step
        if price not in merged and len(merged) == most:
            break
        merged[price] = merged.get(price, ZERO) + amount.quantity
    return list(merged.items())
