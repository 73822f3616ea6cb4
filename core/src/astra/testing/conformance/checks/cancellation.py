"""71x: whoever waits may be cancelled, at any await."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio

from astra.app import Astra
from astra.errors import AstraError, OrderOutcomeUnknown, StreamClosed
from astra.testing.conformance.bench import Bench, Trader, comes, until
from astra.testing.conformance.catalogue import Level, Mismatch, check, expect, expect_equal, fail
from astra.testing.conformance.checks.errors import operations, order_for
from astra.testing.conformance.checks.orders import rule_of
from astra.testing.conformance.segments import Segment

MUST = Level.MUST
MOST_AWAITS = 20
WORKS_S = 10.0
READS = ("get_orderbook", "list_orders", "get_balances", "get_positions", "list_fills", "get_fees")


class Interrupted:
    """Awaits a call and does `then` when it is suspended for the `nth` time."""

    def __init__(self, call: Awaitable[Any], nth: int, then: Callable[[], None]) -> None:
        self.suspended = 0
        self._call = call
        self._nth = nth
        self._then = then

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._call.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            value, error = None, None
            self.suspended += 1
            if self.suspended == self._nth:
                self._then()
            try:
                value = yield waiting
            except BaseException as caught:  # noqa: BLE001 - handed to the call
                error = caught


async def cancelled_at(nth: int, call: Awaitable[Any]) -> bool:
    """Cancel the call at its nth await. Was it still running then?"""
    with anyio.CancelScope() as scope:
        probe = Interrupted(call, nth, scope.cancel)
        with contextlib.suppress(AstraError, StopAsyncIteration):  # refused before it was cancelled
            await probe
    return probe.suspended >= nth


async def at_every_await(make: Callable[[], Awaitable[Any]]) -> int:
    """Cancel a call at its first, second, ... await; how many it has."""
    for nth in range(1, MOST_AWAITS + 1):
        if not await cancelled_at(nth, make()):
            return nth - 1
    return MOST_AWAITS


def open_files() -> int | None:
    """The file descriptors (sockets) of this process; None where that cannot be told."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return None


@asynccontextmanager
async def nothing_leaks() -> AsyncIterator[None]:
    """After the block there are no tasks and no sockets that were not there before."""
    tasks_before = {task.id for task in anyio.get_running_tasks()}
    files_before = open_files()
    yield
    tasks: list[str] = []
    files = 0
    with anyio.move_on_after(5):
        while True:
            tasks = [task.name or "?" for task in anyio.get_running_tasks() if task.id not in tasks_before]
            files = (open_files() or 0) - (files_before or 0)
            if not tasks and files <= 0:
                return
            await anyio.sleep(0.05)
    fail(
        f"5 s after the application was closed: expected nothing left, seen the tasks {tasks} and {files} open sockets"
    )


async def works(what: str, call: Awaitable[Any]) -> None:
    """The call must end, well or refused for its own reasons."""
    with anyio.move_on_after(WORKS_S):
        try:
            await call
        except AstraError as error:
            if isinstance(error, StreamClosed):
                fail(f"{what}, after calls were cancelled: expected an answer, seen {error!r}")
        return
    fail(f"{what}, after calls were cancelled: expected an answer within {WORKS_S:g} s, seen none")


@check(
    711,
    MUST,
    "Reads may be cancelled at any await",
    """Market lists, books, and each private read are cancelled at their first, second, ... await. The application
    goes on answering, closes, and leaves no task and no socket behind.""",
    hooks=["list_markets"],
    timeout_s=60,
)
async def reads(bench: Bench) -> str:
    market = bench.segments[0].market
    found: dict[str, int] = {}
    async with nothing_leaks():
        for nth in range(1, MOST_AWAITS + 1):
            async with bench.application() as astra:
                running = await cancelled_at(nth, astra.list_markets(bench.code))
                await works("list_markets", astra.list_markets(bench.code))
            if not running:
                break
            found["list_markets"] = nth
        async with bench.application() as astra:
            await astra.list_markets(bench.code)
            for place in {segment.product: segment.market for segment in bench.segments}.values():
                if bench.has("get_orderbook"):
                    found["get_orderbook"] = await at_every_await(partial(astra.get_orderbook, place.symbol, 5))

            def call(name: str) -> Awaitable[Any]:
                """Each from an account of its own: venues count the requests of a key."""
                return operations(bench, astra, market, bench.trader())[name]()

            for name in READS[1:]:
                if bench.has(name):
                    found[name] = await at_every_await(partial(call, name))
            for name in found:
                await works(name, call(name))
    return ", ".join(f"{name} at {count} awaits" for name, count in found.items())


@check(
    712,
    MUST,
    "Commands may be cancelled at any await",
    """A placement is cancelled at its first, second, ... await: at most one order is at the venue, `resolve_order`
    finds the one that is and none that is not. A cancel that is cancelled can be asked for again.""",
    hooks=["list_markets", "place_order", "cancel_order", "resolve_order"],
    each=True,
    timeout_s=60,
)
async def commands(bench: Bench, segment: Segment) -> str:
    market = segment.market
    rule = await rule_of(bench, segment)
    awaits = 0
    async with nothing_leaks(), bench.application() as astra:
        await astra.market(market.symbol)
        for nth in range(1, MOST_AWAITS + 1):
            name = rule.make(random.Random(), time.time_ns() // 1_000_000)
            order = order_for(bench, market).model_copy(update={"client_order_id": name})
            trader = bench.trader()  # each an account of its own: venues count the requests of a key
            running = await cancelled_at(nth, astra.place_order(market.symbol, order, trader.credentials))
            await anyio.sleep(0.05)  # what was sent arrives
            await _agree(astra, segment, trader, name, nth)
            if not running:
                break
            awaits = nth
        cancels = await _cancel_at_every_await(bench, astra, segment)
    return f"placement at {awaits} awaits, cancel at {cancels}"


async def _agree(astra: Astra, segment: Segment, trader: Trader, name: str, nth: int) -> None:
    """The library and the engine say the same of a placement that was cancelled."""
    there = len(trader.orders(segment.market))
    what = f"a placement cancelled at await {nth}"
    expect(there in (0, 1), f"{what}: expected at most 1 order at the venue, seen {there}")
    try:
        found = await astra.resolve_order(
            segment.market.symbol, name, credentials=trader.credentials, timeout_s=2.0 if there else 0.05
        )
    except OrderOutcomeUnknown:
        expect(not there, f"{what}: the order is at the venue, expected resolve_order to find it, seen unknown")
        return
    expect_equal(f"{what}: orders at the venue, and found by resolve_order", int(found is not None), there)


async def _cancel_at_every_await(bench: Bench, astra: Astra, segment: Segment) -> int:
    market = segment.market
    for nth in range(1, MOST_AWAITS + 1):
        trader = bench.trader()
        placed = await astra.place_order(market.symbol, order_for(bench, market), trader.credentials)

        cancel = partial(astra.cancel_order, market.symbol, id=placed.id, credentials=trader.credentials)
        running = await cancelled_at(nth, cancel())
        if trader.orders(market)[-1].status.is_open:
            await works("cancel_order", cancel())
        left = [order for order in trader.orders(market) if order.status.is_open]
        trader.withdraw()
        if running:
            continue
        expect(not left or nth > 1, f"expected the order canceled, seen {len(left)} open")
        return nth - 1
    return MOST_AWAITS


@check(
    713,
    MUST,
    "Streams may be cancelled at any await, and end when nobody listens",
    """Opening a stream and waiting for its next item are cancelled at each await; a stream opened afterwards works.
    Once the last consumer has left no book and no connection is kept; the application closes and leaves nothing
    behind.""",
    hooks=["list_markets"],
    timeout_s=60,
)
async def streams(bench: Bench) -> str:
    trader = bench.trader()
    symbols = [segment.market.symbol for segment in bench.segments]
    async with nothing_leaks(), bench.application() as astra:
        await astra.list_markets(bench.code)
        makers: dict[str, Callable[[], Any]] = {
            "stream_orderbook": lambda: astra.stream_orderbook(*symbols),
            "stream_trades": lambda: astra.stream_trades(*symbols),
            "stream_account": lambda: astra.stream_account(bench.code, trader.credentials),
        }
        done = []
        with bench.moving():
            for name, make in makers.items():
                if not bench.has(name):
                    continue
                await at_every_await(partial(_opened, make))
                await _waited(make)
                await _works(bench, name, make)
                done.append(name)
        await _all_ended(bench, astra)
    return ", ".join(done)


async def _opened(make: Callable[[], Any]) -> None:
    async with make():
        pass


async def _waited(make: Callable[[], Any]) -> None:
    """Waits for the next item are cancelled, on one stream; then the stream still tells."""
    async with make() as stream:
        for nth in range(1, 6):
            await cancelled_at(nth, stream.__anext__())


async def _works(bench: Bench, name: str, make: Callable[[], Any]) -> None:
    with anyio.move_on_after(20):
        async with make() as stream:
            await stream.__anext__()
        return
    fail(f"{name}, after streams were cancelled: expected an item within 20 s, seen none")


async def _all_ended(bench: Bench, astra: Astra) -> None:
    """Once the last consumer is gone the venue's hub holds nothing."""
    hub = getattr(await astra.venue(bench.code), "running_hub", None)
    if hub is None:
        return
    try:
        await until("books and connections ended", lambda: not hub.books() and not hub.pool.connections)
    except Mismatch:
        fail(
            "10 s after the last consumer left: expected no book and no connection kept, seen "
            f"{len(hub.books())} books and {len(hub.pool.connections)} connections"
        )


@check(
    714,
    MUST,
    "The application closes while everything runs",
    """With streams open and requests on their way the application is closed: consumers are told, and no task and no
    socket is left behind.""",
    hooks=["list_markets", "stream_orderbook"],
    timeout_s=40,
)
async def closes(bench: Bench) -> None:
    symbols = [segment.market.symbol for segment in bench.segments]
    ended = 0

    async def read(stream: Any) -> None:
        nonlocal ended
        try:
            async for _ in stream:
                pass
        except StreamClosed:
            pass
        ended += 1

    async with nothing_leaks(), anyio.create_task_group() as tasks:
        with bench.moving():
            async with bench.application() as astra:
                streams: list[Any] = [astra.stream_orderbook(*symbols)]
                if bench.has("stream_trades"):
                    streams.append(astra.stream_trades(*symbols))
                for stream in streams:
                    await stream.__aenter__()
                    tasks.start_soon(read, stream)
                await anyio.sleep(1.0)
        await comes(lambda: ended == len(streams), 5)
        told = ended
        tasks.cancel_scope.cancel()
        expect_equal("streams whose consumers were told of the end", told, len(streams))
