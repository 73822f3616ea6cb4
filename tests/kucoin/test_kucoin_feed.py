"""The streams through the real engine, over connections in memory."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from astra.models.orderbook import BookState, UpdateKind
from astra.models.trades import Trade
from astra.streams.feed import Channel, DataType
from astra.testing import ManualClock, ManualHost, MemoryTransport
from astra_kucoin.settings import FUTURES, SPOT, KucoinSettings
from astra_kucoin.venue import KucoinVenue

pytestmark = pytest.mark.anyio

LINEAR = "KUCOIN-PERP-XBT-USDT"
INVERSE = "KUCOIN-PERP-XBT-USD-COINM"
FUTURES_URL = "wss://x-push-futures.kucoin.com"


def ok(data: Any) -> dict[str, Any]:
    return {"code": "200000", "data": data}


class PlayedPush:
    """The push service over connections in memory: it greets, acknowledges, and sends a snapshot to whoever
    subscribes a book."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(self.connected)
        self.asked: list[Any] = []
        self.last: dict[str, int] = {}
        self.silent: set[str] = set()
        self.connection: Any = None

    def connected(self, connection: Any) -> None:
        self.connection = connection
        connection.on_send = lambda frame: self.received(json.loads(frame))

    def greet(self) -> None:
        self.connection.push('{"sessionId":"x","message":"welcome","pingInterval":18000}')

    def received(self, frame: Any) -> None:
        if frame.get("type") == "ping":
            self.connection.push('{"type":"pong","id":"ping","ts":1}')
            return
        self.asked.append(frame)
        self.connection.push(json.dumps({"id": frame["id"], "result": True}))
        symbol = frame["symbol"]
        if frame["action"] == "SUBSCRIBE" and frame["channel"] == "obu" and symbol not in self.silent:
            last = self.last[symbol] = self.last.get(symbol, 1000) + 10
            self.book(symbol, "snapshot", last, last)

    def book(self, symbol: str, kind: str, first: int, last: int) -> None:
        asks = [["101", "5"]] if kind == "snapshot" else []
        data = {"s": symbol, "O": first, "C": last, "M": last * 1_000_000, "b": [["100", str(last)]], "a": asks}
        self.connection.push(json.dumps({"T": "obu.X", "dp": "increment@10ms", "t": kind, "P": 1, "d": data}))

    def delta(self, symbol: str, skip: int = 0) -> None:
        first = self.last[symbol] + 1 + skip
        self.last[symbol] = first + 1
        self.book(symbol, "delta", first, first + 1)

    def trade(self, symbol: str, ident: int) -> None:
        row = {"s": symbol, "p": "100", "q": "7", "S": "buy", "ti": str(ident), "E": ident, "M": ident * 1_000_000}
        self.connection.push(json.dumps({"T": "trade.FUTURES", "P": 1, "d": row}))


async def streamed(played: Any, push: PlayedPush, symbols: list[str], body: Any, kind: str = "books") -> None:
    """Run `body(stream, items, clock)` while a stream of these markets runs."""
    http = played.venue.rest.spot._client_options["transport"]
    async with anyio.create_task_group() as tasks:
        clock = ManualClock()
        host = ManualHost(tasks, clock, push.transport)
        venue = KucoinVenue(host, KucoinSettings(), http_transport=http)
        markets = [await venue.markets.get(symbol) for symbol in symbols]
        items: list[Any] = []

        async def consume(stream: Any) -> None:
            async for item in stream:
                items.append(item)

        opened = venue.stream_orderbook(markets) if kind == "books" else venue.stream_trades(markets)
        async with opened as stream:
            tasks.start_soon(consume, stream)
            await clock.advance(1)
            push.greet()
            await clock.advance(2)
            await body(stream, items, clock)
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()


async def test_a_gap_of_one_market_resynchronises_it_alone(played: Any) -> None:
    push = PlayedPush()

    async def body(stream: Any, items: list[Any], clock: ManualClock) -> None:
        assert [stream.book(symbol).state for symbol in (LINEAR, INVERSE)] == [BookState.LIVE] * 2
        items.clear()
        asked = len(push.asked)
        push.delta("XBTUSDTM")
        push.delta("XBTUSDTM", skip=1)
        for _ in range(5):
            push.delta("XBTUSDM")
        await clock.advance(10)
        kinds = [item.kind for item in items if item.market == LINEAR]
        assert kinds == [UpdateKind.UPDATE, UpdateKind.STALE, UpdateKind.SNAPSHOT]
        others = [item for item in items if item.market == INVERSE]
        assert [item.kind for item in others] == [UpdateKind.UPDATE] * 5, "the neighbour lost nothing"
        told = [(frame["action"], frame["symbol"]) for frame in push.asked[asked:]]
        assert told == [("UNSUBSCRIBE", "XBTUSDTM"), ("SUBSCRIBE", "XBTUSDTM")]
        assert stream.book(LINEAR).state is BookState.LIVE
        assert len(push.transport.open) == 1

    await streamed(played, push, [LINEAR, INVERSE], body)


async def test_nothing_is_subscribed_before_the_greeting(played: Any) -> None:
    push = PlayedPush()
    greet = push.greet

    def check() -> None:
        assert not push.asked
        greet()

    push.greet = check  # type: ignore[method-assign]

    async def body(stream: Any, items: list[Any], clock: ManualClock) -> None:
        assert [frame["symbol"] for frame in push.asked] == ["XBTUSDTM"]

    await streamed(played, push, [LINEAR], body)


async def test_a_market_that_is_acknowledged_and_stays_silent_is_asked_for_again(played: Any) -> None:
    push = PlayedPush()
    push.silent.add("XBTUSDTM")

    async def body(stream: Any, items: list[Any], clock: ManualClock) -> None:
        assert stream.book(LINEAR).state is BookState.SYNCING
        push.silent.clear()
        await clock.advance(30)
        assert stream.book(LINEAR).state is BookState.LIVE

    await streamed(played, push, [LINEAR], body)


async def test_pings_keep_the_connection_up(played: Any) -> None:
    push = PlayedPush()

    async def body(stream: Any, items: list[Any], clock: ManualClock) -> None:
        await clock.advance(100)
        pings = [frame for frame in push.connection.sent if '"ping"' in str(frame)]
        assert 4 <= len(pings) <= 6
        assert push.transport.dials == 1

    await streamed(played, push, [LINEAR], body)


async def test_trades_that_a_cut_lost_are_had_from_history(played: Any) -> None:
    push = PlayedPush()
    path = "/futures/api/v1/trade/history"

    def history(*idents: int) -> list[dict[str, Any]]:
        rows = [{"sequence": i, "tradeId": str(i), "price": "100", "size": 7, "side": "sell", "ts": i} for i in idents]
        return rows[::-1]  # the venue tells the newest first

    async def body(stream: Any, items: list[Any], clock: ManualClock) -> None:
        push.trade("XBTUSDTM", 5)
        played.http.answer("GET", path, ok(history(4, 5, 6, 7)))
        push.connection.cut()
        await clock.advance(5)
        push.greet()
        await clock.advance(5)
        push.trade("XBTUSDTM", 8)
        await clock.advance(5)
        trades = [item for item in items if isinstance(item, Trade)]
        assert sorted(int(trade.id) for trade in trades) == [5, 6, 7, 8]
        assert {trade.quantity for trade in trades} == {7 * 0.001}

    await streamed(played, push, [LINEAR], body, kind="trades")


async def test_a_gap_longer_than_history_stays_marked(played: Any) -> None:
    market = await played.market("KUCOIN-SPOT-BTC-USDT")
    rows = [{"sequence": str(i), "price": "1", "size": "2", "side": "buy", "time": i} for i in range(50, 60)]
    played.http.answer("GET", "/api/v1/market/histories", ok(rows))
    channel = Channel(DataType.TRADE, SPOT, market)
    after = played.venue.history.trades_after
    assert await after(channel, "49", market.symbol) is None
    assert [trade.id for trade in await after(channel, "57", market.symbol)] == ["58", "59"]


async def test_snapshots_are_as_deep_as_asked_for(played: Any, recordings: Any) -> None:
    linear, spot = await played.market(LINEAR), await played.market("KUCOIN-SPOT-BTC-USDT")
    played.http.answer("GET", "/futures/api/v1/level2/depth20", recordings.body("futures-orderbook-depth20-live"))
    book = await played.venue.get_orderbook(linear, 5)
    assert (len(book.bids), len(book.asks)) == (5, 5)
    live = recordings.rest("futures-orderbook-depth20-live")["body"]["data"]
    assert book.bids[0] == (live["bids"][0][0], live["bids"][0][1] * 0.001)
    rows = [[str(100 - n), "1"] for n in range(60)]
    full = ok({"time": 1, "sequence": "7", "bids": rows, "asks": []})
    played.http.answer("GET", "/api/v1/market/orderbook/level2_100", full)
    book = await played.venue.get_orderbook(spot, 50)
    assert (book.update_id, len(book.bids), book.bids[-1]) == (7, 50, (51.0, 1.0))


async def test_the_address_of_an_account_s_stream_comes_with_its_token(played: Any, recordings: Any) -> None:
    played.http.answer("POST", "/api/v1/bullet-private", recordings.body("spot-private-token"))
    channel = Channel(DataType.ACCOUNT, SPOT, credentials=played.credentials)
    ticket = await played.venue.tickets.obtain(played.venue.feed.endpoint(channel))
    assert ticket.url.startswith("wss://ws-api-spot.kucoin.com/?token=2neAiuYvAU737")
    assert ticket.url.count("=") == 2, "the token is escaped"
    assert (ticket.ping_every_s, ticket.silence_s) == (18.0, 46.0)
    assert "2neAiu" not in repr(ticket)
    (request,) = [r for r in played.http.requests if r.url.path == "/api/v1/bullet-private"]
    assert request.content == b""
    assert request.headers["KC-API-SIGN"]


async def test_each_product_s_stream_has_an_address_of_its_own(played: Any) -> None:
    feed = played.venue.feed
    urls = {product: feed.endpoint(Channel(DataType.TRADE, product)).url for product in (SPOT, FUTURES)}
    assert urls == {SPOT: "wss://x-push-spot.kucoin.com", FUTURES: FUTURES_URL}
