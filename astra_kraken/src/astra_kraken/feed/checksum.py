"""The CRC32 over the best ten levels of a spot book.

1. Asks from the best up, then bids from the best down, ten of each or as many as there are.
2. Of each level the price's digits, then the quantity's: the decimal point and leading zeros left out.
3. The digits are those of numbers written with the pair's precisions. While the wire has full precision that is the
   wire's own text; pairs were seen for which only the wire's text gives the checksum, so that is tried when the first
   fails, and remembered.

Document: docs.kraken.com guides "Book checksum (v2)".
"""

from __future__ import annotations

import logging
from decimal import Decimal
from functools import lru_cache
from zlib import crc32

from astra.streams.feed import BookView

logger = logging.getLogger(__name__)

LEVELS = 10
Precisions = tuple[int | None, int | None]
_AS_IT_CAME: Precisions = (None, None)


@lru_cache(maxsize=65_536)
def digits(text: str, precision: int | None) -> str:
    """The digits of a number that enter a checksum. `precision` None: those of the text as it came."""
    number = Decimal(text)
    plain = format(number, "f") if precision is None else format(number, f".{precision}f")
    return plain.replace(".", "").lstrip("0")


def checksum_of(book: BookView, price_precision: int | None, quantity_precision: int | None) -> int:
    """The checksum of a book whose numbers are written with these precisions (None: as they came)."""
    parts = [
        digits(price, price_precision) + digits(quantity, quantity_precision)
        for side in ("asks", "bids")
        for price, quantity in book.texts(side, LEVELS)
    ]
    return crc32("".join(parts).encode())


class PairChecks:
    """How one pair's checksums are made, over all its subscriptions.

    `give_up_after`: so many snapshots in a row without their own checksum prove that this pair's checksums cannot be
    made here (no lost frame explains it); it is then kept without. None: never.
    """

    def __init__(self, symbol: str, give_up_after: int | None) -> None:
        self.symbol = symbol
        self.given_up = False
        self.precisions: Precisions = _AS_IT_CAME
        """Of price and quantity; they change where the venue changes a pair's steps."""
        self._raw = False
        self._give_up_after = give_up_after
        self._failed_snapshots = 0

    def holds(self, book: BookView, wanted: int, *, snapshot: bool = False) -> bool:
        """Does the book have the checksum? (Always, once the pair was given up.)"""
        if self.given_up:
            return True
        first, second = (_AS_IT_CAME, self.precisions) if self._raw else (self.precisions, _AS_IT_CAME)
        if checksum_of(book, *first) == wanted:
            self._failed_snapshots = 0
            return True
        if checksum_of(book, *second) == wanted:
            self._raw = not self._raw
            self._failed_snapshots = 0
            return True
        if snapshot:
            self._failed_snapshots += 1
            if self._give_up_after is not None and self._failed_snapshots >= self._give_up_after:
                self.given_up = True
                logger.warning(
                    "%s: %d snapshots in a row do not have their own checksum: its book is kept without from here on",
                    self.symbol,
                    self._failed_snapshots,
                )
                return True
        return False
