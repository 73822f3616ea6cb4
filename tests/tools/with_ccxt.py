"""What the tests with ccxt's clients have in common. ccxt is written for asyncio, and by others against the real
venues; here every URL of its clients points at a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest

from astra.models.trades import Side
from astra.sandbox import Account
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox

MARKS = [
    pytest.mark.anyio,
    # ccxt leaves futures of streams that nobody awaits any more, and closes its sockets when they are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ccxt"),
]
PATIENCE_S = 10
NOWHERE = "http://127.0.0.1:9"
"""Where ccxt finds whatever is not of the sandbox: the discard port, never the real venue."""

Levels = dict[float, float]


def account_of(sandbox: Sandbox) -> Account:
    """The account of a sandbox with one venue."""
    (exchange,) = sandbox.settings["venues"]
    account = sandbox.engine(exchange).account("default")
    assert account is not None
    return account


@asynccontextmanager
async def connected(
    exchange: str,
    make_client: Callable[[Sandbox], Any],
    *,
    flow: bool,
    markets: int | None,
    load: Mapping[str, Any] | None = None,
) -> AsyncIterator[tuple[Sandbox, MatchingEngine, Any]]:
    """(sandbox, engine, ccxt's client with its markets loaded); `load`: arguments of `load_markets`. At the end the
    sandbox must not have failed."""
    async with Sandbox([exchange], flow=flow, pace=5, markets=markets) as sandbox:
        client = make_client(sandbox)
        try:
            with anyio.fail_after(60):
                await client.load_markets(**(load or {}))
                yield sandbox, sandbox.engine(exchange), client
        finally:
            with anyio.CancelScope(shield=True):
                await client.close()
        assert sandbox.failures(exchange) == []


def crowd(engine: MatchingEngine, symbol: str, side: str, quantity: Any, price: Any) -> None:
    """An order of the crowd."""
    engine.house_place(symbol, Side(side), Decimal(str(quantity)), Decimal(str(price)))


def sides(book: Any) -> tuple[Levels, Levels]:
    """(bids, asks) of ccxt's book, each price -> quantity."""
    return {row[0]: row[1] for row in book["bids"]}, {row[0]: row[1] for row in book["asks"]}


def engine_sides(engine: MatchingEngine, symbol: str, levels: int) -> tuple[Levels, Levels]:
    """The same of the engine's."""
    _, bids, asks = engine.depth(symbol, levels)
    return {float(a.price): float(a.quantity) for a in bids}, {float(a.price): float(a.quantity) for a in asks}


async def until(watch: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """What a ccxt stream gives when it first satisfies `holds`."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            seen = await watch()
            if holds(seen):
                return seen
