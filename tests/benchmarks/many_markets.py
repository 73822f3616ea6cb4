"""Streams the books of all active markets of a running sandbox; prints what that took. Argument: its settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from astra import Astra
from astra.models.markets import MarketStatus
from astra.models.orderbook import BookState


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def sockets() -> int:
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:
            continue
    return found


async def main(settings: dict[str, object]) -> None:
    async with Astra(settings=settings) as astra:
        markets = [m for m in await astra.list_markets("BINANCE") if m.status is MarketStatus.ACTIVE]
        base = resident_mib()
        began = time.monotonic()
        async with astra.stream_orderbook(*(market.symbol for market in markets), max_queue=50_000) as stream:
            live: set[str] = set()
            async for batch in stream.batches():
                live.update(u.market for u in batch if stream.book(u.market).state is BookState.LIVE)
                if len(live) == len(markets):
                    break
            seconds = time.monotonic() - began
            cpu, since, updates = time.process_time(), time.monotonic(), 0
            async for batch in stream.batches():
                updates += len(batch)
                if time.monotonic() - since > 10:
                    break
            elapsed = time.monotonic() - since
            states = [stream.book(market.symbol).state for market in markets]
            result = {
                "markets": len(markets),
                "live": states.count(BookState.LIVE),
                "seconds": seconds,
                "sockets": sockets(),
                "tasks": len(asyncio.all_tasks()),
                "memory_mib": resident_mib(),
                "base_mib": base,
                "updates_per_s": updates / elapsed,
                "cpu_percent": 100 * (time.process_time() - cpu) / elapsed,
            }
            sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(main({"venues": given["venues"]}))
