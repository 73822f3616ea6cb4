"""A frame of one market is lost: that market is STALE until it has a fresh snapshot, its neighbours lose nothing.

Where a venue numbers the frames of a whole connection, all books of the connection are in doubt, and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from astra import Astra
from astra.models.markets import Market, MarketStatus
from astra.models.orderbook import BookState, UpdateKind
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PRODUCTS = {
    "BINANCE": ("spot", "usdm", "coinm", "options"),
    "OKX": ("spot", "swap", "futures", "option"),
    "KRAKEN": ("spot", "derivatives"),
    "COINBASE": ("spot", "us_futures", "international"),
    "HUOBI": ("spot", "linear", "coin_swap", "coin_futures"),
    "KUCOIN": ("spot", "futures"),
}
BY_CONNECTION = {("COINBASE", "spot"), ("COINBASE", "us_futures")}
"""Where the venue's sequence is the connection's."""
PROVED_AS_A_WHOLE: dict[str, dict[str, Any]] = {"KRAKEN": {"spot_book_depth": 10}}
"""Where checksums cover the best levels only: settings with which a lost frame of any level shows at once."""
NAMED: dict[str, Callable[[str], str]] = {"HUOBI": lambda native: f".{native}."}
"""How a frame names its market, where not as a text of its own."""


def neighbours(listed: list[Market], product: str) -> tuple[Market, list[Market]]:
    """A market of the product, and others beside it."""
    those = [m for m in listed if m.product == product and m.status is MarketStatus.ACTIVE]
    return those[0], those[1:4]


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():
            await anyio.sleep(0.02)


@pytest.mark.parametrize(("exchange", "product"), [(code, name) for code, names in PRODUCTS.items() for name in names])
async def test_a_gap_resynchronises_the_market_that_has_it(exchange: str, product: str, impatient: Any) -> None:
    async with Sandbox([exchange], seed=9, pace=3.0) as sandbox, AsyncExitStack() as stack:
        settings = impatient(exchange, sandbox)
        settings["venues"][exchange] |= PROVED_AS_A_WHOLE.get(exchange, {})
        astra = await stack.enter_async_context(Astra(settings=settings))
        chosen, others = neighbours(list(await astra.list_markets(exchange)), product)
        markets = [chosen, *others]
        stale: Counter[str] = Counter()
        after: Counter[str] = Counter()

        async def read(stream: Any) -> None:
            async for update in stream:
                stale[update.market] += update.kind is UpdateKind.STALE
                after[update.market] += 1

        async with (
            astra.stream_orderbook(*(market.symbol for market in markets)) as stream,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(read, stream)
            await until(lambda: all(stream.book(m.symbol).state is BookState.LIVE for m in markets))
            after.clear()
            faults = sandbox.faults(exchange)
            faults.lose_next_with = NAMED.get(exchange, lambda native: f'"{native}"')(chosen.native_symbol)
            await until(lambda: not faults.lose_next_with)
            await until(lambda: stale[chosen.symbol] > 0)
            await until(lambda: all(stream.book(m.symbol).state is BookState.LIVE for m in markets))
            tasks.cancel_scope.cancel()
        assert stale[chosen.symbol] == 1
        if (exchange, product) in BY_CONNECTION:
            assert all(stale[market.symbol] == 1 for market in others)
        else:
            assert not any(stale[market.symbol] for market in others)
        assert not sandbox.failures(exchange)
