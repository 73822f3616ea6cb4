"""The feed on the real engine, over a transport without sockets: gaps, refusals, two names of one book."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from astra.errors import AuthenticationError, MarketNotFound, VenueError
from astra.models.markets import Market
from astra.models.orderbook import UpdateKind
from astra.models.orders import OrderStatus
from astra.models.trades import Gap, Side
from astra.streams.feed import Channel, DataType
from astra.streams.hub import Hub, HubSettings
from astra.streams.stream import MarketStream
from astra.testing import ManualClock, ManualHost, MemoryConnection, MemoryTransport
from astra.testing.played import RecordingOutlet
from astra_coinbase.feed import CoinbaseFeed
from astra_coinbase.feed.accounts import CHANGES, PORTFOLIO, GatewayAccountSession
from astra_coinbase.feed.advanced import AdvancedSession
from astra_coinbase.feed.international import GatewaySession
from astra_coinbase.feed.users import UserSession
from astra_coinbase.settings import ADVANCED, INTERNATIONAL, CoinbaseSettings
from astra_coinbase.trading.advanced_rows import Kinds

pytestmark = pytest.mark.anyio


def book_event(product: str, kind: str, price: str = "100", size: str = "1") -> dict[str, Any]:
    level = {"side": "bid", "event_time": "1970-01-01T00:00:00Z", "price_level": price, "new_quantity": size}
    return {"type": kind, "product_id": product, "updates": [level]}


def trade_event(product: str, ident: int, kind: str = "update") -> dict[str, Any]:
    trade = {"trade_id": str(ident), "price": "100", "size": "1", "time": "2026-11-21T10:00:00.5Z", "side": "SELL"}
    return {"type": kind, "trades": [{"product_id": product, **trade}]}


class Stage:
    """A venue's other side: numbers frames per connection, acknowledges subscriptions, has a snapshot of each book."""

    def __init__(self, clock: ManualClock, host: ManualHost, feed: CoinbaseFeed, history: Any) -> None:
        self.clock = clock
        self.transport = MemoryTransport(self.connected)
        self.numbers: dict[MemoryConnection, int] = {}
        self.subscribed: dict[MemoryConnection, dict[str, list[str]]] = {}
        self.asked: list[dict[str, Any]] = []
        self.unknown: set[str] = set()
        self.errors: list[str] = []
        self.change_ids: dict[str, int] = {}
        self.hub = Hub(
            exchange="COINBASE",
            feed=feed,
            history=history,
            host=host,
            transport=lambda: self.transport,
            settings=HubSettings(),
        )

    def connected(self, connection: MemoryConnection) -> None:
        self.numbers[connection], self.subscribed[connection] = 0, {}
        connection.on_send = lambda frame: self.received(connection, json.loads(frame))

    def received(self, connection: MemoryConnection, message: dict[str, Any]) -> None:
        self.asked.append(message)
        if "jsonrpc" in message:
            self.called(connection, message)
            return
        channel = message["channel"]
        products = message.get("product_ids", [channel])
        if self.errors and len(products) > 1:
            connection.push(json.dumps({"type": "error", "message": self.errors.pop()}))
            return
        joined = self.subscribed[connection].setdefault(channel, [])
        for product in products:
            if message["type"] == "unsubscribe":
                joined.remove(product)
            elif product not in self.unknown:
                joined.append(product)
                if channel == "level2":
                    self.frame(connection, "l2_data", book_event(product, "snapshot"))
                elif channel == "market_trades":
                    self.frame(connection, channel, trade_event(product, 1, "snapshot"))
        self.frame(connection, "subscriptions", {"subscriptions": self.subscribed[connection]})

    def called(self, connection: MemoryConnection, message: dict[str, Any]) -> None:
        names = message["params"].get("channels", [])
        known = [name for name in names if name.split(".")[1] not in self.unknown]
        connection.push(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": known}))
        for name in known if message["method"] == "public/subscribe" else ():
            self.change(name.split(".")[1], "snapshot")

    def frame(self, connection: MemoryConnection, channel: str, *events: dict[str, Any], lost: bool = False) -> None:
        number = self.numbers[connection]
        self.numbers[connection] += 1
        body = {"channel": channel, "timestamp": "2026-11-21T10:00:00.123456789Z", "sequence_num": number}
        if not lost:
            connection.push(json.dumps({**body, "events": events}))

    def change(self, native: str, kind: str = "change", *, lost: bool = False) -> None:
        before = self.change_ids.get(native, 100)
        self.change_ids[native] = before + 7
        data: dict[str, Any] = {"type": kind, "instrument_name": native, "timestamp": 1, "change_id": before + 7}
        if kind == "change":
            data["prev_change_id"] = before
        data |= {"bids": [["new" if kind == "snapshot" else "change", 100.0, 5.0]], "asks": []}
        params = {"channel": f"book.{native}.100ms", "data": data}
        for connection in self.transport.open if not lost else ():
            connection.push(json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}))

    def stream(self, data_type: DataType, *markets: Market) -> MarketStream[Any]:
        return MarketStream.of(self.hub, data_type, markets)


class NoHistory:
    async def trades_after(self, channel: Channel, after_id: str, market: str) -> None:
        return None


@asynccontextmanager
async def staged(recordings: Any, **settings: Any) -> AsyncIterator[Stage]:
    clock = ManualClock()
    markets = {(market.product, market.native_symbol): market for market in recordings.markets()}
    feed = CoinbaseFeed(
        CoinbaseSettings(**settings),
        lambda product, native: markets.get((product, native)),
        lambda: None,
        {"BTC-USDC": "BTC-USD"},
        {},
        {},
    )
    async with anyio.create_task_group() as tasks:
        yield Stage(clock, ManualHost(tasks, clock), feed, NoHistory())
        tasks.cancel_scope.cancel()


async def waiting(stream: MarketStream[Any]) -> list[Any]:
    items: list[Any] = []
    while stream._queue or stream._behind:
        with anyio.move_on_after(0.05):
            items.extend(await stream.next_batch())
    return items


async def test_two_names_of_one_book_are_subscribed_once(recordings: Any) -> None:
    usd, usdc, future = (recordings.market(name) for name in ("BTC-USD", "BTC-USDC", "BIP-20DEC30-CDE"))
    async with staged(recordings) as stage, stage.stream(DataType.ORDERBOOK, usdc, usd, future) as stream:
        await stage.clock.advance(2.0)
        asked = [name for message in stage.asked for name in message.get("product_ids", [])]
        assert asked == ["BTC-USD", "BIP-20DEC30-CDE"]
        (connection,) = stage.transport.open
        stage.frame(connection, "l2_data", book_event("BTC-USD", "update", "101"))
        for market in (usd, usdc):
            assert stream.book(market.symbol).best_bid == (101.0, 1.0)
        assert stream.book(future.symbol).best_bid == (100.0, 0.01), "contracts of 0.01 BTC"
        names = [update.market for update in await waiting(stream) if update.kind is UpdateKind.UPDATE]
        assert sorted(names) == [usd.symbol, usdc.symbol]


async def test_an_alias_without_its_origin_still_has_its_book(recordings: Any, outlet: Any) -> None:
    """Where a region lists no USD products."""
    channel = Channel(DataType.ORDERBOOK, "spot", recordings.market("BTC-USDC"))
    endpoint = CoinbaseFeed(CoinbaseSettings(), lambda *_: None, lambda: None, {}, {}, {}).endpoint(channel)
    session = AdvancedSession(endpoint, outlet, None, {"BTC-USDC": "BTC-USD"})
    (frame,) = session.subscribe([channel], 0)
    assert json.loads(frame)["product_ids"] == ["BTC-USD"]
    events = [book_event("BTC-USD", "snapshot")]
    session.received(json.dumps({"channel": "l2_data", "sequence_num": 0, "events": events}).encode(), 1)
    listed = [{"subscriptions": {"level2": ["BTC-USD"]}}]
    session.received(json.dumps({"channel": "subscriptions", "sequence_num": 1, "events": listed}).encode(), 1)
    assert len(outlet.inputs[channel].of("snapshot")) == 1
    assert outlet.acks == [channel]


async def test_a_lost_frame_voids_all_books_and_trades_of_the_connection_and_no_others(recordings: Any) -> None:
    usd, future = recordings.market("BTC-USD"), recordings.market("BIP-20DEC30-CDE")
    async with (
        staged(recordings, channels_per_connection=2) as stage,
        stage.stream(DataType.ORDERBOOK, usd) as books,
        stage.stream(DataType.TRADE, usd) as trades,
        stage.stream(DataType.ORDERBOOK, future) as neighbour,
    ):
        await stage.clock.advance(2.0)
        # Which of the two is dialled first is up to the event loop.
        other, shared = sorted(stage.transport.open, key=lambda one: "market_trades" in stage.subscribed[one])
        stage.frame(shared, "market_trades", trade_event("BTC-USD", 2))
        (trade,) = await waiting(trades)
        assert (trade.id, trade.side, trade.time) == ("2", Side.BUY, 1795255200500)
        await waiting(books)
        await waiting(neighbour)
        stage.frame(shared, "heartbeats", {}, lost=True)
        stage.frame(other, "heartbeats", {})
        stage.frame(shared, "l2_data", book_event("BTC-USD", "update", "101"))
        assert [update.kind for update in await waiting(books)] == [UpdateKind.STALE]
        await stage.clock.advance(5.0)
        (snapshot,) = await waiting(books)
        assert (snapshot.kind, snapshot.bids) == (UpdateKind.SNAPSHOT, [(100.0, 1.0)])
        (gap,) = await waiting(trades)
        assert isinstance(gap, Gap)
        assert gap.after_id == "2"
        assert await waiting(neighbour) == []
        assert stage.transport.dials == 3


async def test_a_gap_in_a_book_of_the_gateway_resynchronises_that_book_alone(recordings: Any) -> None:
    broken, neighbour = recordings.market("AAVE_USDC-PERPETUAL"), recordings.market("BTC-PERPETUAL")
    async with staged(recordings) as stage, stage.stream(DataType.ORDERBOOK, broken, neighbour) as stream:
        await stage.clock.advance(2.0)
        await waiting(stream)
        stage.change(broken.native_symbol, lost=True)
        stage.change(broken.native_symbol)
        stage.change(neighbour.native_symbol)
        kinds = [(update.market, update.kind) for update in await waiting(stream)]
        assert kinds == [(broken.symbol, UpdateKind.STALE), (neighbour.symbol, UpdateKind.UPDATE)]
        await stage.clock.advance(2.0)
        (snapshot,) = await waiting(stream)
        assert (snapshot.market, snapshot.kind) == (broken.symbol, UpdateKind.SNAPSHOT)
        calls = [(one["method"], one["params"]["channels"]) for one in stage.asked if one["id"] > 1]
        name = f"book.{broken.native_symbol}.100ms"
        assert calls == [("public/unsubscribe", [name]), ("public/subscribe", [name])]
        assert stage.transport.dials == 1


async def test_what_the_venue_does_not_list_is_refused_alone(recordings: Any) -> None:
    usd, future = recordings.market("BTC-USD"), recordings.market("BIP-20DEC30-CDE")
    linear, inverse = recordings.market("AAVE_USDC-PERPETUAL"), recordings.market("BTC-PERPETUAL")
    async with staged(recordings) as stage:
        stage.unknown = {future.native_symbol, inverse.native_symbol}
        async with (
            stage.stream(DataType.ORDERBOOK, usd, linear) as good,
            stage.stream(DataType.ORDERBOOK, future) as bad,
            stage.stream(DataType.ORDERBOOK, inverse) as worse,
        ):
            await stage.clock.advance(2.0)
            assert {update.market for update in await waiting(good)} == {usd.symbol, linear.symbol}
            for stream in (bad, worse):
                with pytest.raises(MarketNotFound):
                    await anext(stream)
        asked = [one["product_ids"] for one in stage.asked if one.get("channel") == "level2"]
        assert asked.count([future.native_symbol]) == 1, "what is missing is asked for once more, alone"


async def test_of_a_frame_that_is_refused_each_product_is_asked_for_alone(recordings: Any) -> None:
    usd, future = recordings.market("BTC-USD"), recordings.market("BIP-20DEC30-CDE")
    async with staged(recordings) as stage:
        stage.errors = ["failure to subscribe"]
        async with stage.stream(DataType.ORDERBOOK, usd, future) as stream:
            await stage.clock.advance(3.0)
            assert {update.market for update in await waiting(stream)} == {usd.symbol, future.symbol}
            asked = [one["product_ids"] for one in stage.asked if one["channel"] == "level2"]
            assert asked == [[usd.native_symbol, future.native_symbol], [usd.native_symbol], [future.native_symbol]]


# -- private streams, sans-I/O -----------------------------------------------------------------------------------------


class NoSigner:
    def token(self, now_ms: int) -> str:
        return f"token at {now_ms}"


def account_session(outlet: RecordingOutlet, product: str, market_of: Callable[[str], Market | None]) -> Any:
    channel = Channel(DataType.ACCOUNT, product)
    endpoint = CoinbaseFeed(CoinbaseSettings(), lambda *_: None, lambda: None, {}, {}, {}).endpoint(channel)
    connection = (endpoint, outlet, None, market_of, NoSigner(), Kinds())
    if product == INTERNATIONAL:
        return GatewayAccountSession(*connection), channel  # type: ignore[arg-type]
    return UserSession(*connection, futures=False), channel  # type: ignore[arg-type]


def answered(ident: int, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": ident, **more}).encode()


async def test_the_gateways_account_logs_in_and_tells_fills_before_orders(recordings: Any, outlet: Any) -> None:
    market = recordings.market("BTC-PERPETUAL")
    session, channel = account_session(outlet, INTERNATIONAL, {"BTC-PERPETUAL": market}.get)
    (log_in,) = session.opened(1795000000000)
    params = json.loads(log_in)["params"]
    assert params == {"grant_type": "coinbase_cdp", "token": "token at 1795000000000"}
    assert not session.ready
    session.received(answered(1, result={"expires_in": 3000, "scope": "", "token_type": "bearer"}), 1)
    assert session.ready
    (frame,) = session.subscribe([channel], 0)
    assert json.loads(frame)["params"]["channels"] == [CHANGES, PORTFOLIO]
    session.received(answered(2, result=[CHANGES, PORTFOLIO]), 1)
    assert outlet.acks == [channel]
    trade = {"trade_id": "7", "direction": "buy", "price": 50000.0, "amount": 20.0, "timestamp": 5, "order_id": "3"}
    order = {"order_id": "3", "direction": "buy", "order_state": "open", "order_type": "limit", "amount": 70.0}
    name = {"instrument_name": "BTC-PERPETUAL"}
    changes = {
        **name,
        "trades": [{**name, **trade, "fee": 1e-08, "fee_currency": "BTC", "liquidity": "M", "label": "mine"}],
        "orders": [{**name, **order, "filled_amount": 20.0, "average_price": 50000.0, "price": 5e4, "label": "mine"}],
        "positions": [{**name, "size": 20.0, "mark_price": 50000.0, "average_price": 50000.0}],
    }
    push = {"method": "subscription", "params": {"channel": CHANGES, "data": changes}}
    session.received(json.dumps({"jsonrpc": "2.0", **push}).encode(), 1)
    fill, told, closed, position = outlet.inputs[channel].account_events
    assert (fill.id, fill.contracts, fill.liquidity, fill.client_order_id) == ("7", 2, "MAKER", "mine")
    assert (told.status, told.contracts, told.filled_contracts) == (OrderStatus.PARTIALLY_FILLED, 7, 2)
    assert (closed.side, closed.quantity) == ("SHORT", 0)
    assert (position.side, position.contracts) == ("LONG", 2)


async def test_a_log_in_that_is_refused_is_told_to_whoever_subscribes(outlet: Any) -> None:
    session, channel = account_session(outlet, INTERNATIONAL, lambda name: None)
    session.received(answered(1, error={"code": 13004, "message": "invalid_credentials"}), 1)
    assert session.ready
    list(session.subscribe([channel], 0))
    ((_, error, _),) = outlet.refusals
    assert isinstance(error, AuthenticationError)


@pytest.mark.parametrize(
    ("message", "kind"), [("authentication failure", AuthenticationError), ("failure to subscribe", VenueError)]
)
async def test_a_user_stream_that_is_refused_says_why(outlet: Any, message: str, kind: type[VenueError]) -> None:
    session, channel = account_session(outlet, ADVANCED, lambda name: None)
    frames = [json.loads(frame) for frame in session.subscribe([channel], 5)]
    assert [frame["channel"] for frame in frames] == ["user", "heartbeats"]
    assert {frame["jwt"] for frame in frames} == {"token at 5"}
    session.received(json.dumps({"type": "error", "message": message}).encode(), 1)
    ((_, error, final),) = outlet.refusals
    assert type(error) is kind
    assert final == (kind is AuthenticationError)


async def test_news_of_an_order_has_its_consequences_asked_for_and_a_snapshot_has_not(
    recordings: Any, outlet: Any
) -> None:
    session, channel = account_session(outlet, ADVANCED, {"BTC-USDC": recordings.market("BTC-USDC")}.get)
    list(session.subscribe([channel], 0))
    row = {"order_id": "1", "product_id": "BTC-USDC", "order_side": "BUY", "status": "OPEN", "leaves_quantity": "1"}
    for number, kind in enumerate(("snapshot", "update")):
        frame = {"channel": "user", "sequence_num": number, "events": [{"type": kind, "orders": [row]}]}
        session.received(json.dumps(frame).encode(), 1)
        assert len(outlet.inputs[channel].of("incomplete")) == number
    assert [event.market for event in outlet.inputs[channel].account_events] == ["COINBASE-SPOT-BTC-USDC"] * 2


async def test_an_event_of_an_unknown_market_interrupts_the_account(outlet: Any) -> None:
    session, channel = account_session(outlet, ADVANCED, lambda name: None)
    list(session.subscribe([channel], 0))
    row = {"order_id": "1", "product_id": "NEW-USD", "order_side": "BUY", "status": "OPEN"}
    frame = {"channel": "user", "sequence_num": 0, "events": [{"type": "update", "orders": [row]}]}
    session.received(json.dumps(frame).encode(), 1)
    assert len(outlet.inputs[channel].of("interrupted")) == 1
    assert not outlet.inputs[channel].account_events


async def test_too_many_requests_on_a_gateway_socket_end_it(recordings: Any, outlet: Any) -> None:
    channel = Channel(DataType.TRADE, INTERNATIONAL, recordings.market("BTC-PERPETUAL"))
    endpoint = CoinbaseFeed(CoinbaseSettings(), lambda *_: None, lambda: None, {}, {}, {}).endpoint(channel)
    session = GatewaySession(endpoint, outlet, None)
    list(session.subscribe([channel], 0))
    session.received(answered(1, error={"code": 10028, "message": "too_many_requests"}), 1)
    assert outlet.reconnects
    assert not outlet.refusals
