"""The engine against a toy venue on a transport without sockets and a clock turned by hand."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from astra.errors import (
    AuthenticationError,
    BadRequest,
    ConfigError,
    MarketNotFound,
    PluginError,
    StreamClosed,
    VenueError,
    VenueUnavailable,
)
from astra.models.markets import Market
from astra.models.orderbook import BookState, Integrity, OrderbookUpdate, UpdateKind
from astra.models.trades import Gap, Lagged, Side, Trade
from astra.net.transports import ConnectError
from astra.net.transports.picows import PicowsTransport
from astra.streams.connection import Backoff
from astra.streams.feed import (
    BookRules,
    BookSeed,
    Channel,
    Continuity,
    DataType,
    Endpoint,
    Feed,
    Frame,
    Outlet,
    Payload,
    Seed,
    Session,
    Ticket,
)
from astra.streams.hub import Hub, HubSettings, TradeTopic
from astra.streams.stream import MarketStream, StreamStats, _BookTap
from astra.symbols import AssetType
from astra.testing import ManualClock, ManualHost, MemoryConnection, MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def market(name: str) -> Market:
    return Market(
        symbol=f"TOY-SPOT-{name}-USD",
        asset_type=AssetType.SPOT,
        base_asset=name,
        quote_asset="USD",
        native_symbol=name,
        product="spot",
    )


A, B, C = market("A"), market("B"), market("C")


class ToySession(Session):
    """JSON: {"sub": [names]} -> {"ok": [names]}; deltas {"s","f","l","b","a"}; trades {"s","t":[[id,price]]}."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self.channels: dict[str, Channel] = {}

    @staticmethod
    def name(channel: Channel) -> str:
        return f"{channel.native_symbol}@{channel.data_type.value}"

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.channels.update({self.name(channel): channel for channel in channels})
        return [json.dumps({"sub": [self.name(channel) for channel in channels]})]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            self.channels.pop(self.name(channel), None)
        return [json.dumps({"unsub": [self.name(channel) for channel in channels]})]

    def received(self, payload: Payload, received_ns: int) -> None:
        message = json.loads(bytes(payload))
        if "ok" in message:
            self.outlet.acknowledged([self.channels[name] for name in message["ok"] if name in self.channels])
        elif "no" in message:
            self.outlet.refused(self.channels[message["no"]], "no such market")
        elif "bye" in message:
            self.outlet.reconnect("the venue shuts down", overlap=True)
        elif "t" in message:
            channel = self.channels.get(message["s"] + "@TRADE")
            if channel is not None:
                into = self.outlet.trades(channel)
                into.trades([Trade(into.market, price, 1.0, Side.BUY, 1, id_) for id_, price in message["t"]])
        else:
            channel = self.channels.get(message["s"] + "@ORDERBOOK")
            if channel is not None:
                bids = [tuple(level) for level in message.get("b", [])]
                asks = [tuple(level) for level in message.get("a", [])]
                self.outlet.book(channel).delta(message["f"], message["l"], 0, bids, asks, None, received_ns)


class ToyFeed(Feed):
    def __init__(self, **endpoint: Any) -> None:
        self.kind = Endpoint("toy", "ws://toy/", messages_per_s=1000.0, connects_per_s=1000.0, **endpoint)
        self.rules = BookRules(seed=Seed.REST, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE)

    def endpoint(self, channel: Channel) -> Endpoint:
        return self.kind

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        return ToySession(endpoint, outlet, ticket)

    def book_rules(self, channel: Channel) -> BookRules:
        return self.rules


class ToyVenue:
    """The venue's other side: acknowledges subscriptions, serves snapshots and history, pushes frames."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(self.connected)
        self.ids: dict[str, int] = {}
        self.bids = [(9.0, 1.0)]
        self.seeds_fetched: list[str] = []
        self.history: dict[str, list[tuple[str, float]]] = {}
        self.subscribed: list[list[str]] = []
        self.acknowledge = True
        self.refuse: set[str] = set()
        self.fail_seeds = 0
        self.refuse_dials: Exception | None = None

    def connected(self, connection: MemoryConnection) -> None:
        if self.refuse_dials is not None:
            raise self.refuse_dials
        connection.on_send = lambda frame: self.received(connection, json.loads(frame))

    def received(self, connection: MemoryConnection, message: dict[str, Any]) -> None:
        if "sub" in message:
            self.subscribed.append(message["sub"])
            for name in message["sub"]:
                if name in self.refuse:
                    connection.push(json.dumps({"no": name}))
            if self.acknowledge:
                connection.push(json.dumps({"ok": [name for name in message["sub"] if name not in self.refuse]}))

    async def book_seed(self, channel: Channel) -> BookSeed:
        self.seeds_fetched.append(channel.native_symbol)
        if self.fail_seeds:
            self.fail_seeds -= 1
            raise VenueUnavailable("down", exchange="TOY")
        await anyio.lowlevel.checkpoint()
        last = self.ids.setdefault(channel.native_symbol, 10)
        return BookSeed(last, self.bids, [(11.0, 1.0)], None, complete=True)

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        known = self.history.get(channel.native_symbol)
        if known is None:
            return None
        return [Trade(market, price, 1.0, Side.BUY, 1, id_) for id_, price in known if int(id_) > int(after_id)]

    def delta(self, name: str, price: float, quantity: float = 1.0, skip: int = 0) -> str:
        """The next change of a book; `skip` ids are lost before it."""
        self.ids[name] = self.ids.get(name, 10) + 1 + skip
        return json.dumps({"s": name, "f": self.ids[name], "l": self.ids[name], "b": [[price, quantity]]})

    def push(self, text: str) -> None:
        for connection in self.transport.open:
            connection.push(text)


class Stage(ToyVenue):
    def __init__(self, clock: ManualClock, host: ManualHost, feed: ToyFeed, **settings: Any) -> None:
        super().__init__()
        self.clock = clock
        self.hub = Hub(
            exchange="TOY",
            feed=feed,
            history=self,
            host=host,
            transport=lambda: self.transport,
            settings=HubSettings(**settings),
        )

    def books(self, *markets: Market, **more: Any) -> MarketStream[OrderbookUpdate]:
        return MarketStream.of(self.hub, DataType.ORDERBOOK, markets, **more)

    def trades(self, *markets: Market, **more: Any) -> MarketStream[Any]:
        return MarketStream.of(self.hub, DataType.TRADE, markets, **more)

    async def settle(self, seconds: float = 2.0) -> None:
        await self.clock.advance(seconds)


@asynccontextmanager
async def stage(feed: ToyFeed | None = None, **settings: Any) -> AsyncIterator[Stage]:
    clock = ManualClock()
    async with anyio.create_task_group() as task_group:
        yield Stage(clock, ManualHost(task_group, clock), feed or ToyFeed(), **settings)
        task_group.cancel_scope.cancel()


async def waiting(stream: MarketStream[Any]) -> list[Any]:
    """What waits in the stream now."""
    items: list[Any] = []
    while stream._queue or stream._behind or stream._missed:
        with anyio.move_on_after(0.05):
            items.extend(await stream.next_batch())
    return items


async def test_a_stream_begins_with_a_snapshot_and_goes_on_with_updates() -> None:
    async with stage() as toy, toy.books(A) as stream:
        await toy.settle()
        toy.push(toy.delta("A", 9.5))
        first, second = [await anext(stream), await anext(stream)]
        assert (first.kind, first.bids, first.asks) == (UpdateKind.SNAPSHOT, [(9.0, 1.0)], [(11.0, 1.0)])
        assert (second.kind, second.bids, second.update_id) == (UpdateKind.UPDATE, [(9.5, 1.0)], 11)
        book = stream.book(A.symbol)
        assert (book.state, book.best_bid, book.best_ask) == (BookState.LIVE, (9.5, 1.0), (11.0, 1.0))
        assert book.integrity is Integrity.SEQUENCE
        assert book.age_s == 0.0


async def test_a_book_is_found_by_the_spelling_that_it_was_asked_for_with() -> None:
    async with stage() as toy:

        async def resolve() -> list[Any]:
            stream.also_called["TOY-SPOT-ALPHA-USD"] = A.symbol
            return [toy.books(A)]

        stream: MarketStream[Any] = MarketStream.deferred(resolve)
        async with stream:
            assert stream.book("TOY-SPOT-ALPHA-USD").market == A.symbol
            with pytest.raises(BadRequest):
                stream.book("TOY-SPOT-BETA-USD")


async def test_one_subscription_serves_all_consumers() -> None:
    async with stage() as toy, toy.books(A) as one, toy.books(A, B) as two:
        await toy.settle()
        toy.push(toy.delta("A", 9.5))
        assert [update.kind for update in await waiting(one)] == [UpdateKind.SNAPSHOT, UpdateKind.UPDATE]
        assert len(await waiting(two)) == 3
        assert toy.transport.dials == 1
        assert sorted(name for names in toy.subscribed for name in names) == ["A@ORDERBOOK", "B@ORDERBOOK"]


class AliasFeed(ToyFeed):
    """B is another name of A."""

    def origin(self, market: Market) -> Market:
        return A if market == B else market


async def test_two_names_of_one_book_share_a_subscription_each_under_its_own_name() -> None:
    async with stage(AliasFeed()) as toy, toy.books(A, B, C) as books, toy.trades(B) as alias, toy.trades(A, B) as both:
        await toy.settle()
        toy.push(toy.delta("A", 9.5))
        toy.push(json.dumps({"s": "A", "t": [["7", 1.0]]}))
        names = sorted(name for names in toy.subscribed for name in names)
        assert names == ["A@ORDERBOOK", "A@TRADE", "C@ORDERBOOK"]
        updates = [update.market for update in await waiting(books) if update.kind is UpdateKind.UPDATE]
        assert sorted(updates) == [A.symbol, B.symbol]
        assert books.book(B.symbol).best_bid == books.book(A.symbol).best_bid == (9.5, 1.0)
        assert toy.hub.book_of(B) is not None
        assert [trade.market for trade in await waiting(alias)] == [B.symbol]
        assert [trade.market for trade in await waiting(both)] == [A.symbol, B.symbol]
        toy.transport.open[0].cut()
        await toy.settle()
        gap, *_ = await waiting(alias)
        assert isinstance(gap, Gap)
        assert (gap.market, gap.after_id) == (B.symbol, "7")


async def test_trades_that_the_history_told_before_the_stream_are_told_once() -> None:
    """A venue that sends trades in batches has some in its history before they are sent."""
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.push(json.dumps({"s": "A", "t": [["1", 1.0]]}))
        toy.history["A"] = [("1", 1.0), ("2", 1.0), ("3", 1.0)]
        toy.transport.open[0].cut()
        await toy.settle()
        toy.push(json.dumps({"s": "A", "t": [["3", 1.0]]}))
        toy.push(json.dumps({"s": "A", "t": [["3", 1.0], ["4", 1.0]]}))
        toy.push(json.dumps({"s": "A", "t": [["5", 1.0]]}))
        ids = [trade.id for trade in await waiting(stream) if isinstance(trade, Trade)]
        assert ids == ["1", "2", "3", "4", "5"]


async def test_a_late_consumer_starts_from_the_live_book_without_a_venue_request() -> None:
    async with stage() as toy, toy.books(A) as early:
        await toy.settle()
        toy.push(toy.delta("A", 9.5))
        requests = len(toy.seeds_fetched)
        async with toy.books(A) as late:
            snapshot = await anext(late)
            assert snapshot.kind is UpdateKind.SNAPSHOT
            assert snapshot.bids == [(9.5, 1.0), (9.0, 1.0)]
            toy.push(toy.delta("A", 9.6))
            assert (await anext(late)).update_id == 12
        assert len(toy.seeds_fetched) == requests
        assert len(await waiting(early)) == 3


async def test_channels_are_packed_into_as_few_connections_as_the_venue_allows() -> None:
    async with stage(ToyFeed(max_channels=2, max_channels_per_frame=1)) as toy, toy.books(A, B, C):
        await toy.settle()
        assert toy.transport.dials == 2
        assert sorted(toy.subscribed) == [["A@ORDERBOOK"], ["B@ORDERBOOK"], ["C@ORDERBOOK"]]


async def test_a_slow_book_consumer_gets_one_snapshot_in_place_of_its_backlog() -> None:
    async with stage() as toy, toy.books(A, B, max_queue=3) as stream:
        await toy.settle()
        for step in range(10):
            toy.push(toy.delta("A", 9.0 + step / 100))
        items = await waiting(stream)
        assert [item.kind for item in items] == [UpdateKind.SNAPSHOT] * 2
        by_market = {item.market: item for item in items}
        assert by_market[A.symbol].update_id == 20
        assert by_market[A.symbol].bids[0] == (9.09, 1.0)
        assert stream.stats == StreamStats(delivered=2, conflated=stream.stats.conflated, lagged=0, queued=0)
        assert stream.stats.conflated > 0
        toy.push(toy.delta("A", 9.5))
        assert [(item.kind, item.update_id) for item in await waiting(stream)] == [(UpdateKind.UPDATE, 21)]


async def test_conflation_never_hides_that_a_book_is_stale() -> None:
    async with stage() as toy, toy.books(A, max_queue=2) as stream:
        await toy.settle()
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
        for step in range(5):
            toy.push(toy.delta("A", 9.0 + step / 100))
        for connection in toy.transport.open:
            connection.cut()
        assert [item.kind for item in await waiting(stream)] == [UpdateKind.STALE]
        await toy.settle()
        assert [item.kind for item in await waiting(stream)] == [UpdateKind.SNAPSHOT]


async def test_a_slow_trade_consumer_is_told_how_many_it_missed() -> None:
    async with stage() as toy, toy.trades(A, max_queue=3) as stream:
        await toy.settle()
        for number in range(10):
            toy.push(json.dumps({"s": "A", "t": [[str(number), 1.0]]}))
        items = await waiting(stream)
        assert [item.id for item in items[:3]] == ["0", "1", "2"]
        assert items[3] == Lagged(A.symbol, 7)
        toy.push(json.dumps({"s": "A", "t": [["10", 1.0]]}))
        assert [item.id for item in await waiting(stream)] == ["10"]


async def test_a_gap_resynchronises_that_market_alone() -> None:
    async with stage() as toy, toy.books(A, B) as stream:
        await toy.settle()
        await waiting(stream)
        toy.push(toy.delta("A", 9.5, skip=1))
        toy.push(toy.delta("B", 9.5))
        items = await waiting(stream)
        assert [(item.market, item.kind) for item in items] == [
            (A.symbol, UpdateKind.STALE),
            (B.symbol, UpdateKind.UPDATE),
        ]
        assert stream.book(A.symbol).state is BookState.STALE
        assert stream.book(B.symbol).state is BookState.LIVE
        await toy.settle()
        assert [(item.market, item.kind) for item in await waiting(stream)] == [(A.symbol, UpdateKind.SNAPSHOT)]
        assert toy.transport.dials == 1
        assert len(toy.subscribed) == 1


async def test_a_lost_connection_makes_books_stale_and_brings_them_back() -> None:
    async with stage() as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        toy.transport.open[0].cut("connection reset by peer")
        stale = await anext(stream)
        assert (stale.kind, stale.reason) == (UpdateKind.STALE, "connection reset by peer")
        await toy.settle()
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
        assert toy.transport.dials == 2


async def test_reconnects_back_off_without_end() -> None:
    async with stage(backoff_base_s=1.0, backoff_cap_s=8.0) as toy, toy.books(A) as stream:
        toy.refuse_dials = ConnectError("connection refused")
        await toy.settle(60.0)
        assert 8 <= toy.transport.dials <= 16
        assert stream.book(A.symbol).reason == "connection refused"
        toy.refuse_dials = None
        await toy.settle(12.0)
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT


async def test_a_refused_handshake_is_not_hammered() -> None:
    async with stage(backoff_base_s=0.1, backoff_cap_s=30.0) as toy, toy.books(A):
        toy.refuse_dials = ConnectError("HTTP 403", status=403)
        await toy.settle(59.0)
        assert toy.transport.dials == 2


async def test_one_bad_feed_among_good_ones_ends_alone() -> None:
    async with stage() as toy, toy.books(A, B) as stream:
        toy.refuse.add("B@ORDERBOOK")
        await toy.settle()
        items = await waiting(stream)
        assert (A.symbol, UpdateKind.SNAPSHOT) in [(item.market, item.kind) for item in items]
        toy.push(toy.delta("A", 9.5))
        assert (await anext(stream)).market == A.symbol
        assert stream.symbols == [A.symbol]


async def test_a_stream_whose_only_market_is_refused_raises() -> None:
    async with stage() as toy, toy.books(A) as stream:
        toy.refuse.add("A@ORDERBOOK")
        await toy.settle()
        with pytest.raises(VenueError, match="no such market"):
            await anext(stream)


async def test_a_silent_subscription_is_made_anew() -> None:
    feed = ToyFeed(silence_s=10_000.0)
    feed.rules = msgspec.structs.replace(feed.rules, silence_s=30.0)
    async with stage(feed) as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        toy.ids["A"] += 5  # the venue's book moves on, its stream says nothing
        toy.bids = [(9.5, 2.0)]
        await toy.settle(45.0)
        kinds = [update.kind for update in await waiting(stream)]
        assert kinds == [UpdateKind.STALE, UpdateKind.SNAPSHOT]
        assert toy.subscribed == [["A@ORDERBOOK"], ["A@ORDERBOOK"]]
        assert stream.book(A.symbol).best_bid == (9.5, 2.0)


async def test_a_frame_that_cannot_be_understood_reconnects_and_loses_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with stage() as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        toy.push("not json")
        assert (await anext(stream)).kind is UpdateKind.STALE
        await toy.settle()
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
        assert "could not be understood" in caplog.text


async def test_a_failing_snapshot_is_fetched_again_with_pauses() -> None:
    async with stage() as toy, toy.books(A) as stream:
        toy.fail_seeds = 3
        await toy.settle(10.0)
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
        assert toy.seeds_fetched == ["A"] * 4


async def test_streams_are_closed_in_any_order_and_from_another_task() -> None:
    async with stage(linger_s=1.0) as toy, anyio.create_task_group() as others:
        one, two = toy.books(A), toy.books(A, B)
        await one.__aenter__()
        await two.__aenter__()
        await toy.settle()
        others.start_soon(one.aclose)
        await toy.settle(0.1)
        await waiting(two)
        toy.push(toy.delta("A", 9.5))
        assert (await anext(two)).market == A.symbol
        await waiting(one)
        with pytest.raises(StopAsyncIteration):
            await anext(one)
        others.start_soon(two.aclose)
        await toy.settle(3.0)
        assert not toy.transport.open, "nobody listens any more"
        assert toy.hub.books() == []


async def test_a_reader_waiting_for_an_item_is_released_by_close() -> None:
    async with stage() as toy, anyio.create_task_group() as others:
        stream = toy.books(A)
        ended = anyio.Event()

        async def read() -> None:
            async for _ in stream:
                pass
            ended.set()

        async with stream:
            others.start_soon(read)
            await toy.settle()
        await toy.settle(0.1)
        assert ended.is_set()


async def test_cancelling_a_wait_loses_nothing() -> None:
    async with stage() as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        with anyio.move_on_after(0):
            await anext(stream)
        toy.push(toy.delta("A", 9.5))
        assert (await anext(stream)).update_id == 11


async def test_a_subscription_lingers_for_the_next_consumer() -> None:
    async with stage(linger_s=5.0) as toy:
        async with toy.books(A):
            await toy.settle()
        await toy.settle(1.0)
        async with toy.books(A) as stream:
            assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
            await toy.settle(20.0)
            assert stream.book(A.symbol).state is BookState.LIVE
        assert toy.transport.dials == 1


async def test_closing_during_the_handshake_leaves_nothing_behind() -> None:
    async with stage(linger_s=0.0) as toy:
        toy.transport.hold = anyio.Event()
        async with toy.books(A):
            await toy.settle(0.1)
        await toy.settle(1.0)
        toy.transport.hold.set()
        toy.transport.hold = None
        await toy.settle(5.0)
        assert not toy.transport.open
        assert not toy.hub.pool.connections


async def test_the_end_of_the_application_during_the_handshake_closes_everything() -> None:
    async with stage() as toy:
        toy.transport.hold = anyio.Event()
        stream = toy.books(A)
        await stream.__aenter__()
        await toy.settle(0.1)
    assert not toy.transport.open


async def test_silence_is_probed_and_then_ends_the_connection() -> None:
    async with stage(ToyFeed(silence_s=20.0)) as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        await toy.settle(11.0)
        assert toy.transport.open[0].pings >= 1
        toy.transport.open[0].pong()
        await toy.settle(15.0)
        assert toy.transport.dials == 1, "the pong was a sign of life"
        await toy.settle(8.0)
        assert (await anext(stream)).reason == "nothing heard for 20 s"
        await toy.settle()
        assert toy.transport.dials == 2


async def test_a_subscription_that_is_not_acknowledged_reconnects() -> None:
    async with stage(ToyFeed(ack_timeout_s=5.0)) as toy, toy.books(A):
        toy.acknowledge = False
        await toy.settle(7.0)
        assert toy.transport.dials == 2


async def test_subscribe_frames_are_paced() -> None:
    feed = ToyFeed(max_channels_per_frame=1)
    feed.kind = Endpoint("toy", "ws://toy/", messages_per_s=2.0, max_channels_per_frame=1)
    async with stage(feed) as toy, toy.books(A, B, C):
        await toy.settle(0.1)
        assert len(toy.subscribed) == 1
        await toy.settle(0.5)
        assert len(toy.subscribed) == 2
        await toy.settle(0.5)
        assert len(toy.subscribed) == 3


async def test_a_planned_renewal_loses_nothing_and_is_never_stale() -> None:
    async with stage(ToyFeed(lifetime_s=100.0)) as toy, toy.books(A) as books, toy.trades(A) as trades:
        await toy.settle()
        await waiting(books)
        number = 0
        for _ in range(240):
            number += 1
            toy.push(toy.delta("A", 9.0 + number / 1000))
            toy.push(json.dumps({"s": "A", "t": [[str(number), 1.0]]}))
            await toy.clock.advance(0.5)
        assert toy.transport.dials == 2
        assert len(toy.transport.open) == 1
        updates = await waiting(books)
        assert {update.kind for update in updates} == {UpdateKind.UPDATE}
        assert [update.update_id for update in updates] == list(range(11, 11 + number))
        assert [trade.id for trade in await waiting(trades)] == [str(n) for n in range(1, number + 1)]
        assert len(toy.seeds_fetched) == 1


async def test_an_announced_shutdown_is_met_with_an_overlapping_connection() -> None:
    async with stage() as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        toy.push(json.dumps({"bye": 1}))
        for step in range(20):
            toy.push(toy.delta("A", 9.0 + step / 100))
            await toy.clock.advance(0.5)
        assert toy.transport.dials == 2
        assert {update.kind for update in await waiting(stream)} == {UpdateKind.UPDATE}


async def test_a_failed_renewal_keeps_the_old_connection_and_tries_again() -> None:
    async with stage(ToyFeed(lifetime_s=100.0)) as toy, toy.books(A) as stream:
        await toy.settle()
        await waiting(stream)
        toy.refuse_dials = ConnectError("connection refused")
        for step in range(100):
            toy.push(toy.delta("A", 9.0 + step / 1000))
            await toy.clock.advance(1.0)
        assert {update.kind for update in await waiting(stream)} == {UpdateKind.UPDATE}
        toy.refuse_dials = None
        for step in range(20):
            toy.push(toy.delta("A", 9.2 + step / 1000))
            await toy.clock.advance(1.0)
        assert {update.kind for update in await waiting(stream)} == {UpdateKind.UPDATE}
        assert len(toy.transport.connections) == 2


async def test_trades_lost_in_a_reconnect_are_marked_and_filled_from_history() -> None:
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.push(json.dumps({"s": "A", "t": [["1", 1.0]]}))
        toy.history["A"] = [("1", 1.0), ("2", 2.0), ("3", 3.0)]
        toy.transport.open[0].cut()
        await toy.settle()
        toy.push(json.dumps({"s": "A", "t": [["4", 4.0]]}))
        items = await waiting(stream)
        assert [item.id if isinstance(item, Trade) else item for item in items] == [
            "1",
            Gap(A.symbol, "1", "connection reset", 2),
            "2",
            "3",
            "4",
        ]


async def test_a_gap_that_history_cannot_fill_stays_marked() -> None:
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.push(json.dumps({"s": "A", "t": [["1", 1.0]]}))
        toy.transport.open[0].cut()
        await toy.settle()
        items = await waiting(stream)
        assert items[1:] == [Gap(A.symbol, "1", "connection reset", None)]


async def test_a_key_that_is_refused_ends_the_stream_with_that_error() -> None:
    async with stage() as toy, toy.books(A) as stream:
        toy.refuse_dials = AuthenticationError("bad key", exchange="TOY")
        toy.transport.connections.clear()
        await toy.settle()
        with pytest.raises(AuthenticationError):
            await anext(stream)


async def test_a_transport_that_is_not_there_is_refused_when_the_stream_is_entered() -> None:
    async with stage() as toy:

        def missing() -> Any:
            raise PluginError("no transport named 'picow' is installed. Did you mean 'picows'?")

        toy.hub._make_transport = missing
        stream = toy.books(A, B)
        with pytest.raises(ConfigError, match=r"TOY: the setting transport: .*'picow'.* Did you mean 'picows'"):
            await stream.__aenter__()
        assert not toy.hub.pool.connections
        assert not toy.hub.books()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_transport_that_does_not_work_on_this_event_loop_is_refused_when_the_stream_is_entered(
    anyio_backend: str,
) -> None:
    async with stage() as toy:
        toy.hub._make_transport = PicowsTransport
        with pytest.raises(ConfigError, match=r"TOY: the setting transport: .*picows.*choose httpx-ws"):
            await toy.trades(A).__aenter__()
        assert not toy.hub.pool.connections


async def test_a_setting_that_no_dial_can_do_anything_with_ends_the_stream() -> None:
    async with stage() as toy:
        toy.refuse_dials = ConfigError("a SOCKS proxy needs the extra astra-core[socks]")
        async with toy.books(A) as stream:
            await toy.settle()
            with pytest.raises(ConfigError, match="SOCKS"):
                await anext(stream)
        assert toy.transport.dials == 1


async def test_a_stream_is_entered_before_it_is_read() -> None:
    async with stage() as toy:
        with pytest.raises(StreamClosed, match="enter the stream first"):
            await anext(toy.books(A))


async def test_a_deferred_stream_joins_the_streams_of_several_venues() -> None:
    async with stage() as one, stage() as two:

        async def resolve() -> list[MarketStream[Any]]:
            return [one.books(A), two.books(B)]

        async with MarketStream.deferred(resolve) as stream:
            await one.settle()
            await two.settle()
            assert sorted(item.market for item in await waiting(stream)) == [A.symbol, B.symbol]


async def test_a_deferred_stream_that_cannot_be_resolved_leaves_nothing_open() -> None:
    async with stage() as toy:

        async def resolve() -> list[MarketStream[Any]]:
            raise MarketNotFound("no such market", exchange="TOY")

        with pytest.raises(MarketNotFound):
            async with MarketStream.deferred(resolve):
                pass
        assert not toy.hub.pool.connections


async def test_markets_that_share_a_native_book_share_its_subscription() -> None:
    twin = A.model_copy(update={"symbol": "TOY-SPOT-A-USDC"})
    async with stage() as toy, toy.books(A) as one, toy.books(twin) as two:
        await toy.settle()
        toy.push(toy.delta("A", 9.5))
        assert {item.market for item in await waiting(one)} == {A.symbol}
        assert {item.market for item in await waiting(two)} == {twin.symbol}
        assert toy.subscribed == [["A@ORDERBOOK"]]


class ForeignStream:
    """A stream of a venue that has an engine of its own."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.closed = anyio.Event()

    async def __aenter__(self) -> ForeignStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed.set()

    def __aiter__(self) -> ForeignStream:
        return self

    async def __anext__(self) -> Any:
        if self.items:
            return self.items.pop(0)
        await self.closed.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


async def test_a_stream_of_another_engine_is_joined_and_closed_with_ours() -> None:
    foreign = ForeignStream([Trade("TOY-SPOT-X-USD", 1.0, 1.0, Side.BUY, 1, "7")])
    async with stage() as toy:

        async def resolve() -> list[Any]:
            return [toy.trades(A), foreign]

        async with MarketStream.deferred(resolve, start_soon=toy.hub.start_soon) as stream:
            await toy.settle()
            toy.push(json.dumps({"s": "A", "t": [["1", 1.0]]}))
            assert sorted(item.id for item in await waiting(stream)) == ["1", "7"]
        await toy.settle(0.1)
        assert foreign.closed.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_frames_may_come_from_the_event_loops_callbacks(anyio_backend: str) -> None:
    """As picows delivers them: outside of any task, and with plain `asyncio.run` without anyio's context."""

    async def in_callback(work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(work, context=contextvars.Context())

    async with stage() as toy, toy.books(A) as stream, toy.trades(A):
        toy.acknowledge = False
        await toy.settle(0.1)
        await in_callback(lambda: toy.push(json.dumps({"ok": ["A@ORDERBOOK", "A@TRADE"]})))
        await toy.settle()
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
        await in_callback(lambda: toy.push(toy.delta("A", 9.5, skip=1)))
        assert (await anext(stream)).kind is UpdateKind.STALE
        await toy.settle()
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT
        await in_callback(toy.transport.open[0].cut)
        assert (await anext(stream)).kind is UpdateKind.STALE
        assert toy.transport.dials == 1


class InBandSession(ToySession):
    """Snapshots are asked for with {"req": name} and come as {"s", "snap", "b"}."""

    def request_snapshot(self, channel: Channel, now_ms: int) -> Iterable[Frame]:
        return [json.dumps({"req": channel.native_symbol})]

    def received(self, payload: Payload, received_ns: int) -> None:
        message = json.loads(bytes(payload))
        channel = self.channels.get(message.get("s", "") + "@ORDERBOOK")
        if "snap" in message and channel is not None:
            bids = [tuple(level) for level in message["b"]]
            self.outlet.book(channel).snapshot(message["snap"], bids, [], None, received_ns)
        else:
            super().received(payload, received_ns)


class InBandFeed(ToyFeed):
    def __init__(self) -> None:
        super().__init__()
        self.rules = BookRules(seed=Seed.IN_BAND, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE)

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        return InBandSession(endpoint, outlet, ticket)


async def test_a_useless_snapshot_in_band_is_asked_for_again_soon() -> None:
    async with stage(InBandFeed()) as toy, toy.books(A) as stream:
        await toy.settle(0.1)
        (connection,) = toy.transport.open

        def requests() -> int:
            return sum("req" in json.loads(frame) for frame in connection.sent)

        assert requests() == 1
        connection.push(json.dumps({"s": "A", "f": 20, "l": 20, "b": [[8.0, 1.0]]}))
        connection.push(json.dumps({"s": "A", "snap": 15, "b": [[9.0, 1.0]]}))
        await toy.settle(1.0)
        assert requests() == 2
        connection.push(json.dumps({"s": "A", "snap": 19, "b": [[9.0, 1.0]]}))
        (first,) = await waiting(stream)
        assert (first.kind, first.update_id, list(first.bids)) == (UpdateKind.SNAPSHOT, 20, [(9.0, 1.0), (8.0, 1.0)])
        # A gap right after that is mended as fast.
        connection.push(json.dumps({"s": "A", "f": 22, "l": 22, "b": []}))
        await toy.settle(1.0)
        assert requests() == 3


async def test_urgent_frames_go_before_those_that_wait() -> None:
    feed = ToyFeed()
    feed.kind = msgspec.structs.replace(feed.kind, messages_per_s=1.0)
    async with stage(feed) as toy, toy.books(A):
        await toy.settle(0.1)
        (connection,) = toy.transport.open
        link = toy.hub.pool.connections[0]._link
        assert link is not None
        for frame in ('{"one": 1}', '{"two": 2}'):
            link.send(frame)
        link.send('{"pong": 3}', urgent=True)
        await toy.settle(5.0)
        assert connection.sent[-3:] == ['{"pong": 3}', '{"one": 1}', '{"two": 2}']


class GreetedSession(ToySession):
    """Takes subscriptions after the venue's {"hello": 1}."""

    greeted = False

    @property
    def ready(self) -> bool:
        return self.greeted

    def received(self, payload: Payload, received_ns: int) -> None:
        if "hello" in json.loads(bytes(payload)):
            self.greeted = True
        else:
            super().received(payload, received_ns)


class GreetedFeed(ToyFeed):
    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        return GreetedSession(endpoint, outlet, ticket)


async def test_channels_are_subscribed_as_soon_as_the_connection_is_ready() -> None:
    async with stage(GreetedFeed()) as toy, toy.books(A) as stream:
        await toy.settle(0.1)
        assert not toy.subscribed
        toy.push('{"hello": 1}')
        await toy.settle(0.1)
        assert toy.subscribed == [["A@ORDERBOOK"]]
        await toy.settle()
        assert (await anext(stream)).kind is UpdateKind.SNAPSHOT


def trade(*ids: int) -> str:
    return json.dumps({"s": "A", "t": [[str(number), 1.0] for number in ids]})


def ids_of(items: Iterable[Any]) -> list[int]:
    return [int(item.id) for item in items if isinstance(item, Trade)]


def gaps_of(items: Iterable[Any]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


# --- one consumer's trouble is not another's -----------------------------------------------------------------------


async def test_what_waits_of_a_market_that_ended_does_not_keep_a_slow_consumer_from_being_caught_up() -> None:
    async with stage() as toy, toy.books(A, B, C, max_queue=8) as slow, toy.books(B) as other:
        await toy.settle()
        for step in range(3):
            toy.push(toy.delta("A", 9.5 + step / 100))
        toy.push(json.dumps({"no": "A@ORDERBOOK"}))
        for step in range(8):
            toy.push(toy.delta("B", 9.0 + step / 100))
        assert toy.transport.dials == 1
        assert [update.update_id for update in await waiting(other)] == list(range(10, 19))
        items = [await anext(slow) for _ in range(8)]
        kinds = {name.symbol: [item.kind.value for item in items if item.market == name.symbol] for name in (A, B, C)}
        assert kinds == {
            A.symbol: ["SNAPSHOT", "UPDATE", "UPDATE", "UPDATE", "STALE", "STALE"],
            B.symbol: ["SNAPSHOT"],
            C.symbol: ["SNAPSHOT"],
        }
        assert (items[-2].market, items[-2].update_id) == (B.symbol, 18)
        assert not await waiting(slow)


async def test_a_consumer_that_fails_keeps_the_loss_of_the_connection_from_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage() as toy, toy.books(A) as bad, toy.books(A, B) as good:
        await toy.settle()
        await waiting(good)
        await waiting(bad)

        def put(tap: Any, item: Any) -> None:
            if tap._stream is bad:
                raise ZeroDivisionError("a bug")
            original(tap, item)

        original = _BookTap.put
        monkeypatch.setattr(_BookTap, "put", put)
        toy.transport.open[0].cut("connection reset by peer")
        told = [(item.market, item.kind, item.reason) for item in await waiting(good)]
        assert told == [(one.symbol, UpdateKind.STALE, "connection reset by peer") for one in (A, B)]
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.setattr(_BookTap, "put", original)
        await toy.settle()
        assert [item.kind for item in await waiting(good)] == [UpdateKind.SNAPSHOT] * 2
        assert toy.transport.dials == 2


async def test_a_connection_whose_task_fails_leaves_no_book_live_and_is_made_anew() -> None:
    async with stage() as toy, toy.books(A, B) as stream:
        await toy.settle()
        await waiting(stream)
        (connection,) = toy.hub.pool.connections

        class Broken:
            def delay(self, attempt: int, chance: Any) -> float:
                connection.context.backoff = toy.hub.backoff
                raise ZeroDivisionError("a bug")

        connection.context.backoff = Broken()  # type: ignore[assignment]
        toy.transport.open[0].cut("connection reset by peer")
        await toy.settle()
        told = await waiting(stream)
        assert [(item.market, item.kind) for item in told] == [
            (A.symbol, UpdateKind.STALE),
            (B.symbol, UpdateKind.STALE),
            (A.symbol, UpdateKind.SNAPSHOT),
            (B.symbol, UpdateKind.SNAPSHOT),
        ]
        assert toy.transport.dials == 2


# --- consumers that come and go ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [False, True])
async def test_a_book_that_nobody_looked_at_for_a_moment_is_seeded_for_the_next_consumer(gap: bool) -> None:
    async with stage() as toy:
        toy.acknowledge = gap
        async with toy.books(A):
            await toy.settle(0.1)
        toy.push(toy.delta("A", 9.5, skip=3) if gap else json.dumps({"ok": ["A@ORDERBOOK"]}))
        await toy.settle(0.5)
        async with toy.books(A) as stream:
            await toy.settle()
            toy.push(toy.delta("A", 9.6))
            items = await waiting(stream)
            assert [item.kind for item in items] == [UpdateKind.SNAPSHOT, UpdateKind.UPDATE]
            assert stream.book(A.symbol).state is BookState.LIVE


async def test_a_book_in_band_that_nobody_looked_at_for_a_moment_is_seeded_for_the_next_consumer() -> None:
    async with stage(InBandFeed()) as toy:
        toy.acknowledge = False
        async with toy.books(A):
            await toy.settle(0.1)
        toy.push(json.dumps({"ok": ["A@ORDERBOOK"]}))
        await toy.settle(0.5)
        async with toy.books(A):
            await toy.settle(1.0)
            (connection,) = toy.transport.open
            assert sum("req" in json.loads(frame) for frame in connection.sent) == 1


# --- renewals that go wrong ----------------------------------------------------------------------------------------


async def test_a_connection_that_ends_before_its_successor_is_acknowledged_leaves_a_gap() -> None:
    async with stage() as toy, toy.trades(A) as trades, toy.books(B) as books:
        await toy.settle()
        toy.push(trade(1))
        await waiting(books)
        toy.history["A"] = [(str(number), 1.0) for number in range(1, 6)]
        toy.acknowledge = False
        old = toy.transport.open[0]
        old.push(json.dumps({"bye": 1}))
        await toy.settle(0.2)
        assert len(toy.transport.open) == 2
        old.cut("connection reset by peer")
        await toy.settle(0.1)
        toy.ids["B"] += 3  # trades 2 to 5, and changes of the book, while nothing is subscribed
        (stale,) = await waiting(books)
        assert (stale.kind, stale.reason) == (UpdateKind.STALE, "connection reset by peer")
        toy.push(json.dumps({"ok": ["A@TRADE", "B@ORDERBOOK"]}))
        toy.push(trade(6))
        await toy.settle()
        told = await waiting(trades)
        assert gaps_of(told) == [Gap(A.symbol, "1", "connection reset by peer", 4)]
        assert ids_of(told) == [1, 2, 3, 4, 5, 6]
        (snapshot,) = await waiting(books)
        assert (snapshot.kind, snapshot.update_id) == (UpdateKind.SNAPSHOT, 13)
        assert toy.transport.dials == 2


async def test_a_book_that_a_successor_had_not_joined_when_the_connection_ended_is_seeded_anew() -> None:
    async with stage() as toy, toy.trades(A) as trades, toy.books(A, B) as books:
        await toy.settle()
        toy.push(trade(1))
        await waiting(books)
        old = toy.transport.open[0]
        old.push(json.dumps({"bye": 1}))
        await toy.settle(0.2)
        new = toy.transport.open[1]
        new.push(toy.delta("A", 9.5))
        toy.ids["B"] += 3  # what the old connection should have told
        new.push(trade(1, 2))
        old.cut("connection reset by peer")
        await toy.settle()
        told = await waiting(books)
        assert [(item.market, item.kind, item.update_id) for item in told] == [
            (A.symbol, UpdateKind.UPDATE, 11),
            (B.symbol, UpdateKind.STALE, 10),
            (B.symbol, UpdateKind.SNAPSHOT, 13),
        ]
        new.push(trade(3))
        told = await waiting(trades)
        assert (ids_of(told), gaps_of(told)) == ([1, 2, 3], []), "the successor was acknowledged: it missed none"
        assert toy.transport.dials == 2


async def test_an_acknowledgement_to_a_successor_alone_counts_when_it_takes_over() -> None:
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.push(trade(1))
        toy.acknowledge = False
        toy.history["A"] = [("2", 1.0)]
        toy.transport.open[0].cut()
        await toy.settle(1.0)
        old = toy.transport.open[0]
        old.push(json.dumps({"bye": 1}))
        await toy.settle(0.2)
        toy.transport.open[1].push(json.dumps({"ok": ["A@TRADE"]}))
        old.cut()
        await toy.settle(0.5)
        toy.push(trade(3))
        told = await waiting(stream)
        assert (ids_of(told), len(gaps_of(told))) == ([1, 2, 3], 1)


async def test_a_successor_that_is_given_up_leaves_no_socket_and_no_memory_behind() -> None:
    async with stage(ToyFeed(ack_timeout_s=3.0)) as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.acknowledge = False
        toy.push(json.dumps({"bye": 1}))
        for number in range(1, 31):
            toy.push(trade(number))
            await toy.settle(1.0)
            assert len(toy.transport.open) <= 2
        assert toy.transport.dials > 3
        toy.acknowledge = True
        await toy.settle(30.0)
        assert len(toy.transport.open) == 1
        told = await waiting(stream)
        assert (ids_of(told), gaps_of(told)) == (list(range(1, 31)), [])
        topic = stream._taps[0].topic
        assert isinstance(topic, TradeTopic)
        assert topic._recent.maxlen == TradeTopic.REMEMBERED


@pytest.mark.parametrize("late", [0, 40])
async def test_a_renewal_of_a_busy_market_tells_each_trade_once_and_in_order(late: int) -> None:
    """More trades than are remembered otherwise; the old connection may be behind the new one."""
    async with stage() as toy, toy.trades(A, max_queue=100_000) as stream, toy.books(B):
        await toy.settle()
        toy.push(toy.delta("B", 9.5))
        old = toy.transport.open[0]
        old.push(json.dumps({"bye": 1}))
        await toy.settle(0.5)
        new = toy.transport.open[1]
        for start in range(0, 6000, 100):
            new.push(trade(*range(start, start + 100)))
            old.push(trade(*range(max(0, start - late), start + 100 - late)))
            await toy.settle(0.1)
        await toy.settle(30)
        assert len(toy.transport.open) == 1
        new.push(trade(6000))
        told = await waiting(stream)
        assert ids_of(told) == list(range(6001))
        assert not gaps_of(told)
        topic = stream._taps[0].topic
        assert isinstance(topic, TradeTopic)
        assert topic._recent.maxlen == TradeTopic.REMEMBERED, "only a renewal takes more"


@pytest.mark.parametrize("silent", [False, True])
async def test_trades_beyond_what_a_renewal_can_hold_back_are_told_as_a_gap(silent: bool) -> None:
    async with stage(ToyFeed(silence_s=1000.0)) as toy, toy.trades(A, max_queue=100_000) as stream, toy.books(B):
        await toy.settle()
        toy.push(trade(0))
        old = toy.transport.open[0]
        old.push(json.dumps({"bye": 1}))
        await toy.settle(0.5)
        new = toy.transport.open[1]
        for start in range(1, 12_001, 100):
            new.push(trade(*range(start, start + 100)))
            if not silent:
                old.push(trade(*range(start, start + 100)))
        await toy.settle(30)
        told = await waiting(stream)
        if silent:
            (gap,) = gaps_of(told)
            assert (gap.after_id, gap.filled) == ("0", None)
            assert ids_of(told) == [0, *range(2001, 12_001)]
        else:
            assert not gaps_of(told)
            assert ids_of(told) == list(range(12_001))


# --- gaps ----------------------------------------------------------------------------------------------------------


async def test_a_plugin_that_cannot_read_its_histories_leaves_no_market_waiting() -> None:
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.push(trade(1))
        await waiting(stream)

        async def wrong(channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
            raise KeyError("a field that the venue renamed")

        toy.trades_after = wrong  # type: ignore[method-assign]
        toy.transport.open[0].cut()
        await toy.settle()
        toy.push(trade(4))
        await toy.settle()
        told = await waiting(stream)
        assert gaps_of(told) == [Gap(A.symbol, "1", "connection reset", None)]
        assert ids_of(told) == [4]


async def test_a_plugin_that_cannot_read_a_snapshot_is_asked_for_it_again() -> None:
    async with stage() as toy:
        ask = toy.book_seed
        failures = [KeyError("a field that the venue renamed")] * 2

        async def wrong(channel: Channel) -> BookSeed:
            if failures:
                raise failures.pop()
            return await ask(channel)

        toy.book_seed = wrong  # type: ignore[method-assign]
        async with toy.books(A) as stream:
            await toy.settle()
            toy.push(toy.delta("A", 9.5))
            await toy.settle()
            assert (await waiting(stream))[0].kind is UpdateKind.SNAPSHOT
    assert not failures


@pytest.mark.parametrize("known", [3, 9000])
async def test_trades_beyond_what_a_gap_can_hold_back_are_told_as_a_gap_of_their_own(known: int) -> None:
    """`known`: the last trade of the history's answer."""
    async with stage() as toy, toy.trades(A, max_queue=100_000) as stream:
        await toy.settle()
        toy.push(trade(1))
        answer = anyio.Event()
        ask = toy.trades_after

        async def slow(channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
            await answer.wait()
            return await ask(channel, after_id, market)

        toy.trades_after = slow  # type: ignore[method-assign]
        toy.history["A"] = [(str(number), 1.0) for number in range(1, known + 1)]
        toy.transport.open[0].cut()
        await toy.settle()
        for start in range(4, 15_004, 100):
            toy.push(trade(*range(start, start + 100)))
        answer.set()
        await toy.settle()
        told = await waiting(stream)
        first, *more = gaps_of(told)
        assert first == Gap(A.symbol, "1", "connection reset", known - 1)
        if known == 3:
            assert [(gap.after_id, gap.filled) for gap in more] == [("3", None)]
            assert ids_of(told) == [1, 2, 3, *range(5004, 15_004)]
            assert told.index(more[0]) == 4
        else:
            assert not more
            assert ids_of(told) == list(range(1, 15_004))


async def test_a_connection_lost_twice_while_a_gap_is_filled_tells_each_trade_once_and_in_order() -> None:
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.push(trade(1))
        toy.history["A"] = [("1", 1.0), ("2", 1.0)]
        answer = anyio.Event()
        ask = toy.trades_after

        async def slow(channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
            known = await ask(channel, after_id, market)
            await answer.wait()
            return known

        toy.trades_after = slow  # type: ignore[method-assign]
        toy.transport.open[0].cut()
        await toy.settle()
        toy.push(trade(3))
        toy.history["A"] += [("3", 1.0), ("4", 1.0), ("5", 1.0)]
        toy.transport.open[0].cut()
        await toy.settle()
        toy.push(trade(6))
        answer.set()
        await toy.settle()
        told = await waiting(stream)
        assert ids_of(told) == [1, 2, 3, 4, 5, 6]
        assert gaps_of(told) == [Gap(A.symbol, "1", "connection reset", 4)]


async def test_nothing_behind_a_frame_that_cannot_be_understood_is_told_before_the_gap() -> None:
    async with stage() as toy, toy.trades(A) as stream:
        await toy.settle()
        toy.history["A"] = [("1", 1.0), ("2", 1.0), ("3", 1.0)]
        toy.push(trade(1))
        (connection,) = toy.transport.open
        connection.push('{"s": "A", "t": [["2", 1.')
        connection.push(trade(3))
        await toy.settle()
        told = await waiting(stream)
        assert ids_of(told) == [1, 2, 3]
        assert [(gap.after_id, gap.filled) for gap in gaps_of(told)] == [("1", 2)]
        assert isinstance(told[1], Gap)


# --- pace ----------------------------------------------------------------------------------------------------------


async def test_a_book_that_breaks_again_and_again_is_seeded_ever_less_often() -> None:
    async with stage() as toy, toy.books(A):
        await toy.settle()
        before = len(toy.seeds_fetched)
        for _ in range(200):
            toy.push(toy.delta("A", 9.5, skip=1))
            await toy.settle(0.02)
            toy.push(toy.delta("A", 9.5))
            await toy.settle(0.03)
        assert 4 <= len(toy.seeds_fetched) - before <= 8
        await toy.settle(60.0)
        assert toy.hub.books()[0].state is BookState.LIVE
        before = len(toy.seeds_fetched)
        toy.push(toy.delta("A", 9.5, skip=1))
        await toy.settle(0.0)
        assert len(toy.seeds_fetched) == before + 1, "the first one after a calm time is not put off"


async def test_a_book_seeded_by_its_stream_that_breaks_again_and_again_is_subscribed_ever_less_often() -> None:
    feed = InBandFeed()
    feed.rules = msgspec.structs.replace(feed.rules, seed=Seed.STREAM)
    async with stage(feed) as toy, toy.books(A) as stream:
        await toy.settle()
        for _ in range(200):
            toy.push(json.dumps({"s": "A", "snap": 20, "b": [[9.0, 1.0]]}))
            toy.push(json.dumps({"s": "A", "f": 30, "l": 30, "b": []}))
            await toy.settle(0.05)
        assert 4 <= len(toy.subscribed) <= 8
        await waiting(stream)


async def test_a_pause_before_a_snapshot_does_not_outlast_its_connection() -> None:
    async with stage(backoff_base_s=20.0) as toy, toy.books(A) as stream:
        await toy.settle()
        for _ in range(2):
            toy.push(toy.delta("A", 9.5, skip=1))
            await toy.settle(0.1)
            toy.push(toy.delta("A", 9.5))
        toy.push(toy.delta("A", 9.5, skip=1))
        await toy.settle(0.1)
        assert stream.book(A.symbol).state is BookState.STALE
        toy.hub.pool._context.backoff = Backoff(0.1)
        toy.transport.open[0].cut()
        await toy.settle(3.0)
        assert stream.book(A.symbol).state is BookState.LIVE
