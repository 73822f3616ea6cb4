"""The local order book.

Applying a delta costs what its levels cost: a dictionary write each, and a bisection for prices that come or go. Best
prices are always at hand; sorted views are made when somebody looks.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from math import inf

from astra.models.orderbook import Level

CROSSED = 1
BEYOND = 2


class Book:
    """Price levels of one market. Prices in quote units, quantities in base units.

    A book seeded from a snapshot of limited depth knows nothing beyond the snapshot's edge prices: bids below
    `bid_edge` and asks above `ask_edge` are not taken in.
    """

    __slots__ = ("_ask_keys", "_asks", "_bid_keys", "_bids", "ask_edge", "bid_edge")

    def __init__(self) -> None:
        self.bid_edge = -inf
        self.ask_edge = inf
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        # Sorted so that the best price is last: changes near the top, the usual ones, move few elements.
        self._bid_keys: list[float] = []
        self._ask_keys: list[float] = []  # negated prices

    def clear(self) -> None:
        self.load((), ())

    def load(self, bids: Iterable[Level], asks: Iterable[Level], *, full_at: int | None = None) -> None:
        """Replace the whole book (levels in any order, the last of equal prices holds; zero quantities are left out).

        A side with `full_at` levels or more was cut off there: its last price becomes the edge.
        """
        self._bids = {price: quantity for price, quantity in dict(bids).items() if quantity}
        self._asks = {price: quantity for price, quantity in dict(asks).items() if quantity}
        self._bid_keys = sorted(self._bids)
        self._ask_keys = sorted(-price for price in self._asks)
        cut = inf if full_at is None else full_at
        self.bid_edge = self._bid_keys[0] if self._bid_keys and len(self._bids) >= cut else -inf
        self.ask_edge = -self._ask_keys[0] if self._ask_keys and len(self._asks) >= cut else inf

    @property
    def is_cut_off(self) -> bool:
        """Was the snapshot that seeded the book cut off at its depth?"""
        return self.bid_edge != -inf or self.ask_edge != inf

    def inside(self, bids: Iterable[Level], asks: Iterable[Level]) -> tuple[list[Level], list[Level]]:
        """The levels that lie within the edges."""
        low, high = self.bid_edge, self.ask_edge
        return [level for level in bids if level[0] >= low], [level for level in asks if level[0] <= high]

    def apply(self, bids: Sequence[Level], asks: Sequence[Level]) -> int:
        """Set each level to its quantity (0 deletes it; deleting an absent one is normal).

        New levels beyond the edges are left out. Returns flags: `CROSSED` (best bid >= best ask), `BEYOND` (something
        was left out); 0 is the usual case.
        """
        beyond = 0
        keys = self._bid_keys
        levels = self._bids
        for price, quantity in bids:
            if quantity:
                if price not in levels:
                    if price < self.bid_edge:
                        beyond = BEYOND
                        continue
                    insort(keys, price)
                levels[price] = quantity
            elif levels.pop(price, None) is not None:
                del keys[bisect_left(keys, price)]
        other = self._ask_keys
        levels = self._asks
        for price, quantity in asks:
            if quantity:
                if price not in levels:
                    if price > self.ask_edge:
                        beyond = BEYOND
                        continue
                    insort(other, -price)
                levels[price] = quantity
            elif levels.pop(price, None) is not None:
                del other[bisect_left(other, -price)]
        if keys and other and keys[-1] >= -other[-1]:
            return beyond | CROSSED
        return beyond

    def cut(self, depth: int) -> tuple[list[Level], list[Level]]:
        """Keep the best `depth` levels a side. Returns the bids and asks that fell off, as deletions."""
        gone: tuple[list[Level], list[Level]] = ([], [])
        if len(self._bid_keys) > depth:
            gone[0].extend((price, 0.0) for price in self._bid_keys[:-depth])
            del self._bid_keys[:-depth]
            for price, _ in gone[0]:
                del self._bids[price]
        if len(self._ask_keys) > depth:
            gone[1].extend((-key, 0.0) for key in self._ask_keys[:-depth])
            del self._ask_keys[:-depth]
            for price, _ in gone[1]:
                del self._asks[price]
        return gone

    @property
    def best_bid(self) -> Level | None:
        if not self._bid_keys:
            return None
        price = self._bid_keys[-1]
        return price, self._bids[price]

    @property
    def best_ask(self) -> Level | None:
        if not self._ask_keys:
            return None
        price = -self._ask_keys[-1]
        return price, self._asks[price]

    @property
    def is_crossed(self) -> bool:
        """Best bid at or above best ask."""
        return bool(self._bid_keys and self._ask_keys) and self._bid_keys[-1] >= -self._ask_keys[-1]

    def bids(self, depth: int | None = None) -> list[Level]:
        """The best `depth` bids (all by default), by falling price."""
        keys = self._bid_keys if depth is None else self._bid_keys[-depth:] if depth > 0 else []
        levels = self._bids
        return [(price, levels[price]) for price in reversed(keys)]

    def asks(self, depth: int | None = None) -> list[Level]:
        """The best `depth` asks (all by default), by rising price."""
        keys = self._ask_keys if depth is None else self._ask_keys[-depth:] if depth > 0 else []
        levels = self._asks
        return [(-key, levels[-key]) for key in reversed(keys)]

    def __len__(self) -> int:
        return len(self._bids) + len(self._asks)

    @property
    def counts(self) -> tuple[int, int]:
        """How many bid and ask levels there are."""
        return len(self._bids), len(self._asks)

    def difference(self, other: Book) -> str | None:
        """The first level in which two books differ, in words; None when they agree within both their edges."""
        low = max(self.bid_edge, other.bid_edge)
        high = min(self.ask_edge, other.ask_edge)
        if self._bids != other._bids:
            for price in self._bids.keys() | other._bids.keys():
                mine, theirs = self._bids.get(price, 0.0), other._bids.get(price, 0.0)
                if mine != theirs and price >= low:
                    return f"bid {price!r}: {mine!r} here, {theirs!r} there"
        if self._asks != other._asks:
            for price in self._asks.keys() | other._asks.keys():
                mine, theirs = self._asks.get(price, 0.0), other._asks.get(price, 0.0)
                if mine != theirs and price <= high:
                    return f"ask {price!r}: {mine!r} here, {theirs!r} there"
        return None


TextLevel = tuple[str, str]


class TextBook(Book):
    """A book that keeps the venue's own number text beside its levels, for checksums over the text."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        super().__init__()
        self._texts: tuple[dict[float, TextLevel], dict[float, TextLevel]] = ({}, {})

    def note(self, bids: Sequence[TextLevel], asks: Sequence[TextLevel]) -> tuple[list[Level], list[Level]]:
        """Remember the text of the levels and return them as numbers, ready for `apply`."""
        numbers: tuple[list[Level], list[Level]] = ([], [])
        for texts, levels, side in zip(self._texts, (bids, asks), numbers, strict=True):
            for level in levels:
                price, quantity = float(level[0]), float(level[1])
                side.append((price, quantity))
                if quantity:
                    texts[price] = level
                else:
                    texts.pop(price, None)
        return numbers

    def forget(self) -> None:
        """Drop all text (before a new snapshot is noted)."""
        self._texts = ({}, {})

    def truncate(self, depth: int) -> tuple[list[Level], list[Level]]:
        """`cut`, with the text of the levels."""
        gone = self.cut(depth)
        for texts, levels in zip(self._texts, gone, strict=True):
            for price, _ in levels:
                texts.pop(price, None)
        return gone

    def texts(self, side: str, depth: int) -> list[TextLevel]:
        """The text of the best `depth` levels of `side` ("bids" or "asks"), best first."""
        if side == "bids":
            return [self._texts[0][price] for price, _ in self.bids(depth)]
        return [self._texts[1][price] for price, _ in self.asks(depth)]
