"""OKX over real sockets: what is special to it. What every venue must do is checked by the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from astra import Astra
from astra.models.markets import MarketStatus
from astra.models.orderbook import BookState
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():
            await anyio.sleep(0.02)


async def test_books_outlive_maintenance_and_are_compared_with_snapshots() -> None:
    async with Sandbox(["OKX"], seed=4, pace=3.0) as sandbox:
        settings = sandbox.settings
        settings["venues"]["OKX"] |= {"book_audit_every_s": 1.0, "book_silence_s": 1.0}
        async with Astra(settings=settings) as astra:
            symbols = [m.symbol for m in await astra.list_markets("OKX") if m.status is MarketStatus.ACTIVE][:6]
            async with astra.stream_orderbook(*symbols) as stream, anyio.create_task_group() as tasks:
                stale: list[str] = []

                async def read() -> None:
                    async for update in stream:
                        if update.kind == "STALE":
                            stale.append(update.market)

                tasks.start_soon(read)
                await until(lambda: all(stream.book(symbol).state is BookState.LIVE for symbol in symbols))
                venue: Any = sandbox.venue("OKX")
                for symbol in symbols:
                    venue.reset_sequence(symbol)
                stats = [tap.topic.sync.stats for tap in stream._taps]
                await until(lambda: all(one.audits_passed > 1 for one in stats))
                assert not stale
                assert not sum(one.audits_failed for one in stats)
                tasks.cancel_scope.cancel()
        assert not sandbox.failures("OKX")
