"""CPU time of one update to one more WebSocket client, as a ratio to a bare send of the same bytes in one run.

Both sides serve on the gateway's own server (uvicorn as `astra_gateway.server` sets it up), to clients in a process of
their own that read and drop. The bare side sends each message to every client from one loop; ours goes from a stream
through broadcast, queues and senders. What a client more costs is the difference between many clients and few. Every
message is counted. No pass or fail by speed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio.lowlevel
import pytest
from starlette.types import Receive, Scope, Send

from astra.models.orderbook import BookState, Level, OrderbookUpdate, UpdateKind
from astra.streams.feed import DataType
from astra_gateway.keys import KeyRecord
from astra_gateway.keys import Scope as KeyScope
from astra_gateway.server import listen, serving, url_of
from astra_ws.broadcast import Broadcasts
from astra_ws.connection import Connection
from astra_ws.crew import Crew
from astra_ws.messages import book_text

pytestmark = pytest.mark.anyio

BTC = "BINANCE-SPOT-BTC-USDT"
LEVELS: list[Level] = [(51000.0 + step / 100, 1.5 + step) for step in range(5)]
FEW, MANY, UPDATES, ROUNDS = 2, 102, 400, 3

CLIENTS = """
import selectors, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
selector = selectors.DefaultSelector()
for _ in range(count):
    one = socket.create_connection((host, port))
    one.sendall(
        b"GET /ws HTTP/1.1\\r\\nhost: x\\r\\nupgrade: websocket\\r\\nconnection: upgrade\\r\\n"
        b"sec-websocket-version: 13\\r\\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\\r\\n\\r\\n"
    )
    selector.register(one, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if not key.fileobj.recv(1 << 20):
            sys.exit()
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Stream:
    """A stream that hands out what the benchmark puts in."""

    symbols = (BTC,)
    state, reason, update_id, received = BookState.SYNCING, None, 0, 0

    def __init__(self) -> None:
        self.waiting: list[OrderbookUpdate] = []
        self.something = anyio.Event()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    def book(self, symbol: str) -> Stream:
        return self

    def put(self, updates: list[OrderbookUpdate]) -> None:
        self.waiting.extend(updates)
        self.something.set()

    async def batches(self) -> AsyncIterator[list[OrderbookUpdate]]:
        while True:
            if not self.waiting:
                self.something = anyio.Event()
                await self.something.wait()
            batch, self.waiting = self.waiting, []
            yield batch


class Application:
    """Stands for `Astra`: one stream, tasks in the benchmark's group."""

    def __init__(self, start_soon: Callable[..., Any]) -> None:
        self.stream = Stream()
        self.start_soon = start_soon

    def stream_orderbook(self, symbol: str) -> Stream:
        return self.stream


def update(number: int, kind: UpdateKind = UpdateKind.UPDATE) -> OrderbookUpdate:
    return OrderbookUpdate(BTC, number, LEVELS, LEVELS, kind, None, 0)


Spend = Callable[[int, int], Awaitable[float]]


async def with_clients(app: Any, count: int, joined: Callable[[], int], work: Callable[[], Awaitable[None]]) -> float:
    """CPU seconds of this process that `work` costs with so many clients."""
    with listen("127.0.0.1", 0) as listener:
        host, port = url_of(listener).removeprefix("http://").split(":")
        async with serving(app, listener, ping_s=60, grace_s=0):
            process = await anyio.open_process([sys.executable, "-c", CLIENTS, host, port, str(count)])
            async with process:
                with anyio.fail_after(20):
                    while joined() < count:
                        await anyio.sleep(0.02)
                await anyio.sleep(0.3)
                began = time.process_time()
                with anyio.fail_after(60):
                    await work()
                spent = time.process_time() - began
                process.kill()
    return spent


async def bare(count: int, batch: int) -> float:
    sends: list[Send] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        sends.append(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def work() -> None:
        for number in range(0, UPDATES, batch):
            for step in range(batch):
                text = book_text(BTC, number + step, LEVELS, LEVELS, UpdateKind.UPDATE)
                for send in sends:
                    await send({"type": "websocket.send", "text": text})
            await anyio.lowlevel.checkpoint()

    return await with_clients(app, count, lambda: len(sends), work)


async def ours(count: int, batch: int) -> float:
    async with anyio.create_task_group() as tasks:
        application: Any = Application(tasks.start_soon)
        broadcasts, crew = Broadcasts(application, most=10_000), Crew(tasks.start_soon)
        caller = KeyRecord("benchmark", "", KeyScope.READ, 0)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            options: Any = {"most_subscriptions": 1, "notices": False, "by_query": True}
            keys: Any = None
            connection = Connection(application, broadcasts, crew, keys, caller, send, receive, **options)
            connection.begin(BTC, DataType.ORDERBOOK)
            await connection.run()

        async def work() -> None:
            stream, counts = application.stream, broadcasts.counts
            stream.put([update(0, UpdateKind.SNAPSHOT)])
            for number in range(1, UPDATES + 1, batch):
                stream.put([update(number + step) for step in range(batch)])
                while counts.messages < count * (number + batch):
                    await anyio.lowlevel.checkpoint()

        spent = await with_clients(app, count, lambda: broadcasts.subscriptions, work)
        assert broadcasts.counts.messages == count * (1 + UPDATES)
        tasks.cancel_scope.cancel()
    return spent


async def per_client_us(spend: Spend, batch: int) -> float:
    """What one more client costs for one update, in microseconds: the median of the rounds."""
    found = []
    for _ in range(ROUNDS):
        few, many = await spend(FEW, batch), await spend(MANY, batch)
        found.append((many - few) / ((MANY - FEW) * UPDATES) * 1e6)
    return statistics.median(found)


@pytest.mark.parametrize("batch", [1, 20])
async def test_one_more_client(batch: int) -> None:
    floor, cost = await per_client_us(bare, batch), await per_client_us(ours, batch)
    print(f"\nfan-out, {batch} updates at a time: bare send {floor:.1f} us, ours {cost:.1f} us: {cost / floor:.2f} x")
