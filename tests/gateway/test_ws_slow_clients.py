"""Clients that read slowly, or not at all: their memory is bounded, the others do not notice, books stay right."""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from astra.models.orderbook import BookState, Level, OrderbookUpdate, UpdateKind
from astra.models.trades import Lagged, Side, Trade
from astra_ws.broadcast import BookBroadcast, BookSubscription, Counts, Subscription, TradeBroadcast, TradeSubscription
from astra_ws.crew import Crew

pytestmark = pytest.mark.anyio

BTC = "TOY-SPOT-BTC-USDT"


class Book:
    """Stands for the engine's live book, and for the stream that has it."""

    symbols = (BTC,)

    def __init__(self) -> None:
        self.state = BookState.LIVE
        self.reason: str | None = None
        self.update_id = 0
        self.received = 0
        self.levels: dict[float, float] = {}

    def book(self, symbol: str) -> Book:
        return self

    def bids(self, depth: int | None = None) -> list[Level]:
        return sorted(self.levels.items(), reverse=True)

    def asks(self, depth: int | None = None) -> list[Level]:
        return []

    def snapshot(self) -> OrderbookUpdate:
        return OrderbookUpdate(BTC, self.update_id, self.bids(), [], UpdateKind.SNAPSHOT, None, 0)

    def change(self, price: float, quantity: float) -> OrderbookUpdate:
        self.update_id += 1
        self.received += 1
        if quantity:
            self.levels[price] = quantity
        else:
            self.levels.pop(price, None)
        return OrderbookUpdate(BTC, self.update_id, [(price, quantity)], [], UpdateKind.UPDATE, None, 0)


class Reader:
    """A client that takes what it is sent only when the test says so, and rebuilds the book from it."""

    def __init__(self) -> None:
        self.ready: list[Subscription] = []
        self.got: list[dict[str, Any]] = []
        self.levels: dict[float, float] = {}

    def wake_for(self, subscription: Subscription) -> None:
        self.ready.append(subscription)

    def ended(self, subscription: Subscription, error: Exception) -> None:
        raise AssertionError(error)

    def sending(self) -> Iterator[dict[str, str]]:
        while self.ready:
            subscription = self.ready.pop(0)
            subscription.queued = False
            yield from subscription.events()

    def read(self, most: int = 10**9) -> None:
        for number, event in enumerate(self.sending(), 1):
            self.take(event)
            if number >= most:
                break

    def take(self, event: dict[str, str]) -> None:
        got = json.loads(event["text"])
        self.got.append(got)
        if got.get("type") == "SNAPSHOT":
            self.levels = {}
        for level in got.get("bids", ()):
            if level["quantity"]:
                self.levels[level["price"]] = level["quantity"]
            else:
                self.levels.pop(level["price"], None)


class Hall:
    """A book broadcast driven by hand."""

    def __init__(self) -> None:
        self.book = Book()
        self.counts = Counts()
        self.broadcast = BookBroadcast(None, BTC, lambda ended: None)  # type: ignore[arg-type]
        self.broadcast._live = self.book  # type: ignore[assignment]

    def join(self, *, most: int = 4, notices: bool = False) -> Reader:
        reader = Reader()
        subscription = BookSubscription(reader, self.broadcast, self.counts, most=most, notices=notices)
        self.broadcast.subscriptions[subscription] = None
        return reader

    def publish(self, *updates: OrderbookUpdate) -> None:
        for message in self.broadcast._messages(updates):
            for subscription in self.broadcast.subscriptions:
                subscription.offer(message)


async def test_a_slow_client_gets_one_snapshot_in_place_of_its_backlog() -> None:
    hall = Hall()
    slow, fast = hall.join(), hall.join()
    for one in (slow, fast):
        one.read()
    for step in range(20):
        hall.publish(hall.book.change(100.0 + step, 1.0))
        fast.read()
    slow.read()
    assert [one["type"] for one in slow.got] == ["SNAPSHOT", "SNAPSHOT"]
    assert slow.got[-1]["updateId"] == 20
    assert [one["type"] for one in fast.got] == ["SNAPSHOT"] + ["UPDATE"] * 20
    assert slow.levels == fast.levels == hall.book.levels
    assert hall.counts.conflated == 4
    hall.publish(hall.book.change(100.0, 0.0))
    slow.read()
    assert slow.got[-1]["type"] == "UPDATE"
    assert slow.levels == hall.book.levels


async def test_updates_that_the_snapshot_holds_already_are_not_sent_after_it() -> None:
    hall = Hall()
    behind = [hall.book.change(100.0 + step, 1.0) for step in range(5)]
    late = hall.join()
    late.read()
    hall.publish(*behind)
    hall.publish(hall.book.change(99.0, 1.0))
    late.read()
    assert [(one["type"], one["updateId"]) for one in late.got] == [("SNAPSHOT", 5), ("UPDATE", 6)]


async def test_each_message_is_encoded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    import astra_ws.broadcast as module

    encoded = 0
    encode = module.book_text

    def counted(*args: Any) -> str:
        nonlocal encoded
        encoded += 1
        return encode(*args)

    monkeypatch.setattr(module, "book_text", counted)
    hall = Hall()
    readers = [hall.join() for _ in range(50)]
    for one in readers:
        one.read()
    assert encoded == 1
    for step in range(3):
        hall.publish(hall.book.change(100.0 + step, 1.0))
    for one in readers:
        one.read()
    assert encoded == 4


async def test_a_stale_book_gives_a_slow_client_no_snapshot_until_it_is_live_again() -> None:
    hall = Hall()
    slow = hall.join(notices=True)
    slow.read()
    hall.publish(hall.book.snapshot())
    for step in range(20):
        hall.publish(hall.book.change(100.0 + step, 1.0))
    hall.book.state, hall.book.reason = BookState.STALE, "a gap"
    hall.publish(OrderbookUpdate(BTC, 20, [], [], UpdateKind.STALE, None, 0, "a gap"))
    slow.got.clear()
    slow.read()
    assert slow.got[-1] == {"type": "STATE", "market": BTC, "state": "STALE", "reason": "a gap"}
    assert all(one["type"] == "STATE" for one in slow.got)
    hall.book.state = BookState.LIVE
    hall.publish(hall.book.snapshot())
    slow.read()
    assert [one["type"] for one in slow.got[-2:]] == ["STATE", "SNAPSHOT"]
    assert slow.levels == hall.book.levels


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_the_pace_a_client_ends_with_the_right_book(seed: int) -> None:
    """Reads stop in the middle, books go stale and come back, the stream lags behind the book: all at random."""
    chance = random.Random(seed)
    hall = Hall()
    readers = [hall.join(most=chance.randint(2, 8), notices=chance.random() < 0.5) for _ in range(6)]
    sendings = [iter(reader.sending()) for reader in readers]
    upstream: list[OrderbookUpdate] = []
    for _ in range(600):
        action = chance.random()
        if action < 0.45:
            upstream.append(hall.book.change(float(chance.randint(90, 110)), float(chance.randint(0, 3))))
        elif action < 0.60:
            hall.publish(*upstream)
            upstream.clear()
        elif action < 0.63 and hall.book.state is BookState.LIVE:
            hall.book.state = BookState.STALE
            upstream.append(OrderbookUpdate(BTC, hall.book.update_id, [], [], UpdateKind.STALE, None, 0, "gap"))
        elif action < 0.68 and hall.book.state is BookState.STALE:
            hall.book.state = BookState.LIVE
            upstream.append(hall.book.snapshot())
        elif action < 0.70:
            readers.append(hall.join(most=3))
            sendings.append(iter(readers[-1].sending()))
        else:
            place = chance.randrange(len(readers))
            for _ in range(chance.randint(1, 5)):
                event = next(sendings[place], None)
                if event is None:
                    sendings[place] = iter(readers[place].sending())
                    break
                readers[place].take(event)
    hall.book.state = BookState.LIVE
    upstream.append(hall.book.snapshot())
    hall.publish(*upstream)
    for reader, sending in zip(readers, sendings, strict=True):
        for event in sending:
            reader.take(event)
        reader.read()
        assert reader.levels == hall.book.levels
        data = [one for one in reader.got if one["type"] in ("SNAPSHOT", "UPDATE")]
        assert data[0]["type"] == "SNAPSHOT"
        for before, after in itertools.pairwise(data):
            if after["type"] == "UPDATE":
                assert after["updateId"] > before["updateId"]


def trade(number: int) -> Trade:
    return Trade(BTC, 1.0, 1.0, Side.BUY, 1, str(number))


@pytest.mark.parametrize("notices", [True, False])
async def test_a_slow_trade_client_learns_how_many_it_missed_where_it_asked(notices: bool) -> None:
    counts, reader = Counts(), Reader()
    broadcast = TradeBroadcast(None, BTC, lambda ended: None)  # type: ignore[arg-type]
    subscription = TradeSubscription(reader, broadcast, counts, most=3, notices=notices)
    broadcast.subscriptions[subscription] = None

    def publish(*events: Any) -> None:
        for message in broadcast._messages(events):
            subscription.offer(message)

    for number in range(10):
        publish(trade(2 * number), trade(2 * number + 1))
    reader.read()
    publish(trade(20))
    reader.read()
    received = [int(one["id"]) for got in reader.got for one in got.get("trades", ())]
    lags = [got["missed"] for got in reader.got if got.get("type") == "LAGGED"]
    assert received == [0, 1, 2, 3, 4, 5, 20]
    assert lags == ([14] if notices else [])
    assert counts.lagged == 14
    publish(Lagged(BTC, 9))
    reader.read()
    assert (reader.got[-1] == {"type": "LAGGED", "market": BTC, "missed": 9}) is notices


class StalledClient:
    """A real WebSocket client on a raw socket that does not read until it is told to."""

    def __init__(self, url: str, path: str, key: str) -> None:
        self.protocol = ClientProtocol(parse_uri(url.replace("http", "ws") + path))
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.connect((host, int(port)))
        request = self.protocol.connect()
        request.headers["x-astra-api-key"] = f"Bearer {key}"
        self.protocol.send_request(request)
        self.socket.sendall(b"".join(self.protocol.data_to_send()))
        self.socket.setblocking(False)

    async def read_until_quiet(self) -> Sequence[Any]:
        """Everything that comes, until nothing more does."""
        found: list[Any] = []
        with anyio.move_on_after(0.5) as patience:
            while True:
                await anyio.wait_readable(self.socket)
                self.protocol.receive_data(self.socket.recv(65536))
                for event in self.protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        found.append(json.loads(event.data))
                patience.deadline = anyio.current_time() + 0.5
        return found


class Prompt(Reader):
    """A client whose socket takes everything at once: it reads whenever a worker comes by."""

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self.queued = False
        self._crew = crew

    def wake_for(self, subscription: Subscription) -> None:
        super().wake_for(subscription)
        self._crew.add(self)

    async def flush(self) -> None:
        self.read()


async def test_a_burst_does_not_make_a_fast_client_slow() -> None:
    hall = Hall()
    burst = [hall.book.change(100.0 + step, 1.0) for step in range(3000)]

    class Burst(Book):
        async def batches(self) -> AsyncIterator[Sequence[OrderbookUpdate]]:
            yield burst

    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks.start_soon)
        fast = Prompt(crew)
        crew.join()
        subscription = BookSubscription(fast, hall.broadcast, hall.counts, most=64, notices=False)
        subscription._behind = False
        hall.broadcast.subscriptions[subscription] = None
        await hall.broadcast._consume(Burst())  # type: ignore[arg-type]
        await anyio.wait_all_tasks_blocked()
        crew.leave()
    assert [one["updateId"] for one in fast.got] == list(range(1, 3001))
    assert hall.counts.conflated == 0


async def test_a_client_that_does_not_read_holds_nobody_up(open_stage: Any, read_message: Any) -> None:
    path = f"/ws?market={BTC}&dataType=ORDERBOOK"
    key = "static.a-static-key-of-the-tests"
    async with open_stage(max_queued_messages=8) as stage, stage.ws(path) as fast:
        await read_message(fast)
        stalled = await anyio.to_thread.run_sync(StalledClient, stage.gateway.url, path, key)
        await anyio.sleep(0.1)
        padding = [[1.0 + step / 1000, 1.0] for step in range(2000)]
        for step in range(150):
            stage.world.delta("BTCUSDT", bids=[*padding, [50000.0 + step, 1.0]])
            assert (await read_message(fast))["updateId"] == step + 1
        registry = stage.gateway.app.state.gateway.metrics.registry
        assert registry.get_sample_value("astra_ws_conflated_total") > 0
        got = await stalled.read_until_quiet()
        stalled.socket.close()
    assert len(got) < 150
    assert [one["type"] for one in got].count("SNAPSHOT") >= 2
    book: dict[float, float] = {}
    for one in got:
        if one["type"] == "SNAPSHOT":
            book = {}
        book |= {level["price"]: level["quantity"] for level in one["bids"]}
    assert got[-1]["updateId"] == 150
    assert {50000.0 + step for step in range(150)} <= set(book)


class Slot:
    """A sender whose socket is full until the test empties it."""

    def __init__(self, crew: Crew) -> None:
        self.queued = False
        self.waiting: list[int] = []
        self.sent: list[int] = []
        self.flushing = 0
        self.full: anyio.Event | None = None
        self._crew = crew

    def put(self, number: int) -> None:
        self.waiting.append(number)
        self._crew.add(self)

    async def flush(self) -> None:
        self.flushing += 1
        assert self.flushing == 1, "two workers send to one connection"
        while self.waiting:
            number = self.waiting.pop(0)
            if self.full is not None:
                await self.full.wait()
            self.sent.append(number)
        self.flushing -= 1


async def test_one_worker_serves_all_until_somebody_is_slow() -> None:
    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks.start_soon)
        slots = [Slot(crew) for _ in range(20)]
        for _ in slots:
            crew.join()
        for number in range(5):
            for slot in slots:
                slot.put(number)
            await anyio.wait_all_tasks_blocked()
        assert all(slot.sent == [0, 1, 2, 3, 4] for slot in slots)
        assert crew.workers <= 2
        for slot in slots[:3]:
            slot.full = anyio.Event()
        for number in range(5, 10):
            for slot in slots:
                slot.put(number)
            await anyio.wait_all_tasks_blocked()
        assert all(slot.sent == list(range(10)) for slot in slots[3:])
        assert all(slot.sent == [0, 1, 2, 3, 4] for slot in slots[:3])
        assert crew.workers <= 5
        for slot in slots[:3]:
            assert slot.full is not None
            slot.full.set()
        await anyio.wait_all_tasks_blocked()
        assert all(slot.sent == list(range(10)) for slot in slots)
        assert crew.workers <= 2
        for _ in slots:
            crew.leave()
        await anyio.wait_all_tasks_blocked()
        assert crew.workers == 0


@pytest.mark.parametrize("seed", range(10))
async def test_nothing_is_lost_or_reordered_however_senders_block(seed: int) -> None:
    chance = random.Random(seed)
    async with anyio.create_task_group() as tasks:
        crew = Crew(tasks.start_soon)
        slots = [Slot(crew) for _ in range(8)]
        for _ in slots:
            crew.join()
        for number in range(200):
            for slot in slots:
                if chance.random() < 0.1:
                    if slot.full is None:
                        slot.full = anyio.Event()
                    else:
                        slot.full.set()
                        slot.full = None
                slot.put(number)
            if chance.random() < 0.5:
                await anyio.lowlevel.checkpoint()
        for slot in slots:
            if slot.full is not None:
                slot.full.set()
        await anyio.wait_all_tasks_blocked()
        assert all(slot.sent == list(range(200)) for slot in slots)
        assert crew.workers <= 10
        for _ in slots:
            crew.leave()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files by /proc")
async def test_a_client_that_does_not_read_does_not_keep_the_gateway_from_ending(open_stage: Any) -> None:
    path = f"/ws?market={BTC}&dataType=ORDERBOOK"
    async with open_stage():
        pass  # what a process opens once and keeps is open now
    before = open_sockets()
    async with open_stage(shutdown_grace_s=0.3) as stage:
        key = "static.a-static-key-of-the-tests"
        stalled = await anyio.to_thread.run_sync(StalledClient, stage.gateway.url, path, key)
        with anyio.fail_after(5):
            while not stage.world.count("book_seed"):
                await anyio.sleep(0.01)
        levels = [[1.0 + step / 1000, 1.0] for step in range(5000)]
        for _ in range(100):
            stage.world.delta("BTCUSDT", bids=levels)
            await anyio.lowlevel.checkpoint()
    stalled.socket.close()
    assert open_sockets() <= before


def open_sockets() -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(os.readlink(link).startswith("socket:") for link in links)
