"""Prints the resident memory that N live books of 1,000 levels a side take, beyond a process without them."""

from __future__ import annotations

import json
import os
import sys

from astra.models.orderbook import Integrity
from astra.streams.feed import BookRules, BookSeed, Continuity, Seed
from astra.streams.sync import BookSync


class Deaf:
    def seed_wanted(self) -> None:
        pass

    def check_wanted(self) -> None:
        pass

    def resubscribe(self, reason: str) -> None:
        pass


def resident_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def book(number: int) -> BookSync:
    rules = BookRules(seed=Seed.REST, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE, seed_depth=1000)
    sync = BookSync(f"TOY-SPOT-A{number}-USD", rules, Deaf(), lambda update: None)
    sync.opened()
    sync.acknowledged()
    base = 1000.0 + number
    bids = [(base - n / 100, n + 0.123) for n in range(1, 1001)]
    asks = [(base + n / 100, n + 0.456) for n in range(1, 1001)]
    sync.seed(BookSeed(10, bids, asks, None), 1)
    sync.delta(11, 11, 0, [], [], None, 1)
    return sync


if __name__ == "__main__":
    count = int(sys.argv[1])
    before = resident_kib()
    books = [book(number) for number in range(count)]
    sys.stdout.write(json.dumps({"kib_per_book": (resident_kib() - before) / count}) + "\n")
