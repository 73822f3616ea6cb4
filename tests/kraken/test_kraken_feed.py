"""The stream sessions: what is asked for, how answers and refusals are understood, what a market's books become."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from astra.errors import MarketNotFound
from astra.models.markets import Market
from astra.models.orderbook import BookState, UpdateKind
from astra.models.trades import Trade
from astra.net.ratelimit import Bucket
from astra.streams.feed import Channel, DataType
from astra.testing import ManualClock, ManualHost, MemoryTransport
from astra_kraken.feed import KrakenFeed
from astra_kraken.markets import SpotPairs
from astra_kraken.rest import PUBLIC
from astra_kraken.settings import KrakenSettings
from astra_kraken.venue import KrakenVenue

pytestmark = pytest.mark.anyio

ChannelOf = Callable[[DataType, Market], Channel]


@pytest.fixture
def feed() -> KrakenFeed:
    return KrakenFeed(KrakenSettings(spot_book_depth=10), SpotPairs())


def opened(feed: KrakenFeed, outlet: Any, channels: list[Channel]) -> tuple[Any, list[Any]]:
    """A session that subscribed the channels, and the frames that it sent."""
    session = feed.session(feed.endpoint(channels[0]), outlet, None)
    return session, [json.loads(frame) for frame in session.subscribe(channels, 0)]


def push(session: Any, frame: Any) -> None:
    session.received(json.dumps(frame).encode(), 5)


@pytest.fixture
async def spot(played: Any) -> list[Market]:
    return [await played.venue.markets.native("spot", name) for name in ("BTC/USD", "ETH/BTC", "DOGE/USD")]


@pytest.fixture
async def contracts(played: Any) -> list[Market]:
    names = ("PF_ETHUSD", "PI_XBTUSD", "OF_XBTUSD_261225_100000_C")
    return [await played.venue.markets.native("derivatives", name) for name in names]


# -- Spot -------------------------------------------------------------------------------------------------------


async def test_books_and_trades_are_asked_for_in_frames_of_their_own(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, spot: list[Market]
) -> None:
    channels = [channel_of(kind, market) for market in spot for kind in (DataType.ORDERBOOK, DataType.TRADE)]
    session, frames = opened(feed, outlet, channels)
    names = ["BTC/USD", "ETH/BTC", "DOGE/USD"]
    assert [frame["params"]["channel"] for frame in frames] == ["book", "trade"]
    assert [frame["params"]["symbol"] for frame in frames] == [names, names]
    (end,) = [json.loads(frame) for frame in session.unsubscribe(channels[:1], 0)]
    assert end == {
        "method": "unsubscribe",
        "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 10},
        "req_id": 3,
    }


def spot_answer(req_id: int, symbol: str | None, error: str | None = None, method: str = "subscribe") -> Any:
    answer: dict[str, Any] = {"method": method, "req_id": req_id, "success": error is None}
    if error is None:
        answer["result"] = {"channel": "book", "symbol": symbol}
    else:
        answer |= {"error": error} | ({"symbol": symbol} if symbol else {})
    return answer


async def test_each_pair_is_acknowledged_by_itself(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, spot: list[Market]
) -> None:
    channels = [channel_of(DataType.ORDERBOOK, market) for market in spot]
    session, _ = opened(feed, outlet, channels)
    push(session, spot_answer(1, "ETH/BTC"))
    assert outlet.acks == [channels[1]]
    push(session, spot_answer(1, "BTC/USD"))
    push(session, spot_answer(1, "DOGE/USD", "Currency pair not supported DOGE/USD"))
    assert outlet.acks == [channels[1], channels[0]]
    ((channel, error, final),) = outlet.refusals
    assert channel is channels[2]
    assert isinstance(error, MarketNotFound)
    assert final


async def test_a_refusal_that_names_no_pair_is_traced_to_its_pair(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, spot: list[Market]
) -> None:
    channels = [channel_of(DataType.ORDERBOOK, market) for market in spot]
    session, _ = opened(feed, outlet, channels)
    push(session, spot_answer(1, "BTC/USD"))
    push(session, spot_answer(1, None, "Currency pair not supported"))
    again = [json.loads(frame) for frame in outlet.sent]
    assert [frame["params"]["symbol"] for frame in again] == [["ETH/BTC"], ["DOGE/USD"]]
    push(session, spot_answer(again[0]["req_id"], None, "Already subscribed to one book subscription on this symbol"))
    push(session, spot_answer(again[1]["req_id"], None, "Currency pair not supported"))
    assert outlet.acks == channels[:2]
    assert [channel for channel, _, _ in outlet.refusals] == channels[2:]


async def test_levels_of_a_frame_are_taken_in_order_and_as_text(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, spot: list[Market]
) -> None:
    channel = channel_of(DataType.ORDERBOOK, spot[0])
    session, _ = opened(feed, outlet, [channel])
    session.received(
        b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":100.10,"qty":5.1e-05},'
        b'{"price":100.10,"qty":0}],"asks":[],"checksum":5,"timestamp":"2026-01-01T00:00:00.123999Z"}]}',
        9,
    )
    ((first, last, prev, bids, asks, time, received, check),) = outlet.inputs[channel].of("checked_delta")
    assert bids == [("100.10", "5.1e-05"), ("100.10", "0")]
    assert (first, last, prev, asks, time, received) == (0, 0, 0, [], 1767225600123, 9)
    assert check is not None


async def test_a_frame_of_another_shape_is_not_passed_over(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, spot: list[Market]
) -> None:
    session, _ = opened(feed, outlet, [channel_of(DataType.ORDERBOOK, spot[0])])
    with pytest.raises(ValueError, match="another shape"):
        push(session, {"channel": "book", "type": "update", "data": {"symbol": "BTC/USD"}})


# -- derivatives ------------------------------------------------------------------------------------------------


async def test_contracts_become_base_units(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, contracts: list[Market]
) -> None:
    """Linear and option contracts are one unit of the base; 6385 inverse contracts at 34892.5 are 6385 / 34892.5."""
    books = {market.native_symbol: channel_of(DataType.ORDERBOOK, market) for market in contracts}
    trades = {market.native_symbol: channel_of(DataType.TRADE, market) for market in contracts}
    session, frames = opened(feed, outlet, [*books.values(), *trades.values()])
    assert frames == [
        {"event": "subscribe", "feed": feed_name, "product_ids": [market.native_symbol for market in contracts]}
        for feed_name in ("book", "trade")
    ]
    for native, price, quantity in (
        ("PF_ETHUSD", 3162.0, 0.25),
        ("PI_XBTUSD", 34892.5, 6385.0),
        ("OF_XBTUSD_261225_100000_C", 1500.0, 0.04),
    ):
        base = quantity / price if native == "PI_XBTUSD" else quantity
        level = {"price": price, "qty": quantity}
        push(
            session,
            {"feed": "book_snapshot", "product_id": native, "seq": 7, "bids": [level], "asks": [], "timestamp": 1},
        )
        push(session, {"feed": "book", "product_id": native, "side": "sell", "seq": 8, **level, "timestamp": 2})
        push(
            session,
            {
                "feed": "trade",
                "product_id": native,
                "uid": "u",
                "side": "buy",
                "type": "fill",
                "seq": 1,
                "time": 3,
                **level,
            },
        )
        book = outlet.inputs[books[native]]
        assert book.of("snapshot") == [(7, [(price, base)], [], 1, 5)]
        assert book.of("delta") == [(8, 8, 7, (), ((price, base),), 2, 5)]
        assert outlet.inputs[trades[native]].of("trades")[0][0][0].quantity == base


async def test_blocks_are_no_trades_of_the_book(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, contracts: list[Market]
) -> None:
    channel = channel_of(DataType.TRADE, contracts[0])
    session, _ = opened(feed, outlet, [channel])
    trade = {"feed": "trade", "product_id": "PF_ETHUSD", "uid": "u", "side": "buy", "seq": 1, "time": 3}
    push(session, {**trade, "type": "block", "qty": 1, "price": 1})
    assert not outlet.inputs.get(channel) or not outlet.inputs[channel].calls


async def test_a_derivatives_refusal_without_a_name_is_traced_to_its_product(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, contracts: list[Market]
) -> None:
    channels = [channel_of(DataType.ORDERBOOK, market) for market in contracts]
    session, _ = opened(feed, outlet, channels)
    push(session, {"event": "subscribed", "feed": "book", "product_ids": ["PF_ETHUSD"]})
    assert outlet.acks == channels[:1]
    push(session, {"event": "error", "message": "Invalid product id"})
    assert not outlet.refusals
    assert [json.loads(frame)["product_ids"] for frame in outlet.sent] == [
        ["PI_XBTUSD"],
        ["OF_XBTUSD_261225_100000_C"],
    ]
    push(session, {"event": "subscribed", "feed": "book", "product_ids": ["PI_XBTUSD"]})
    push(session, {"event": "error", "message": "Invalid product id"})
    assert outlet.acks == channels[:2]
    ((channel, error, final),) = outlet.refusals
    assert channel is channels[2]
    assert isinstance(error, MarketNotFound)
    assert final


async def test_acknowledgements_in_capitals_are_understood(
    feed: KrakenFeed, outlet: Any, channel_of: ChannelOf, contracts: list[Market]
) -> None:
    stock = contracts[0].model_copy(update={"native_symbol": "PF_AAPLxUSD"})
    channel = channel_of(DataType.ORDERBOOK, stock)
    session, _ = opened(feed, outlet, [channel])
    push(session, {"event": "subscribed", "feed": "book", "product_ids": ["PF_AAPLXUSD"]})
    assert outlet.acks == [channel]
    push(session, {"feed": "book", "product_id": "PF_AAPLXUSD", "side": "buy", "seq": 1, "price": 1, "qty": 1})
    assert len(outlet.inputs[channel].of("delta")) == 1


# -- the Unified WebSocket, of which nothing is recorded -------------------------------------------------------


async def test_the_unified_feed_speaks_spot_s_frames_of_contracts(
    outlet: Any, channel_of: ChannelOf, contracts: list[Market]
) -> None:
    """The checksum is over the wire's contracts; what is delivered is in base units, cut to the depth."""
    inverse = contracts[1]
    feed = KrakenFeed(KrakenSettings(spot_book_depth=10, derivatives_feed="unified"), SpotPairs())
    book, trades = channel_of(DataType.ORDERBOOK, inverse), channel_of(DataType.TRADE, inverse)
    assert feed.endpoint(book).url == "wss://uws.kraken.com/v2/public"
    session, frames = opened(feed, outlet, [book, trades])
    assert [frame["params"]["asset_class"] for frame in frames] == ["derivatives", "derivatives"]
    bids = [{"price": 100.0 - step, "qty": 50 + step} for step in range(10)]
    asks = [{"price": 200.0, "qty": 40}]
    text = "200040" + "".join(f"{1000 - 10 * step}{50 + step}" for step in range(10))
    row = {"symbol": "PI_XBTUSD", "bids": bids, "asks": asks, "checksum": zlib.crc32(text.encode())}
    push(session, {"channel": "book", "type": "snapshot", "data": [row]})
    ((last, got_bids, got_asks, _, _),) = outlet.inputs[book].of("snapshot")
    assert (last, got_bids[0], got_asks) == (0, (100.0, 0.5), [(200.0, 0.2)])
    text = "200040" + "150060" + "".join(f"{1000 - 10 * step}{50 + step}" for step in range(9))
    row = {"symbol": "PI_XBTUSD", "bids": [{"price": 150.0, "qty": 60}], "asks": []}
    push(session, {"channel": "book", "type": "update", "data": [{**row, "checksum": zlib.crc32(text.encode())}]})
    ((_, _, _, got_bids, _, _, _),) = outlet.inputs[book].of("delta")
    assert got_bids == [(150.0, 0.4), (91.0, 0.0)]
    push(session, {"channel": "book", "type": "update", "data": [{**row, "checksum": 1}]})
    assert len(outlet.inputs[book].of("broken")) == 1
    trade = {"symbol": "PI_XBTUSD", "side": "sell", "price": 200.0, "qty": 50, "trade_id": 7}
    stamped = {**trade, "ord_type": "limit", "timestamp": "2026-01-01T00:00:00.000001Z"}
    push(session, {"channel": "trade", "type": "update", "data": [stamped]})
    (made,) = outlet.inputs[trades].of("trades")[0][0]
    assert (made.quantity, made.id) == (0.25, "7")


# -- through the engine -----------------------------------------------------------------------------------------


class PlayedStreams:
    """Both streams of the venue over connections in memory: books of one level a side, changed by `tick`."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(self.connected)
        self.connections: dict[str, Any] = {}
        self.asked: list[Any] = []
        self.seq: dict[str, int] = {}
        self.sizes: dict[str, int] = {}

    def connected(self, connection: Any) -> None:
        self.connections[connection.url] = connection
        connection.on_send = lambda frame: self.sent(connection, json.loads(frame))

    def sent(self, connection: Any, frame: Any) -> None:
        self.asked.append(frame)
        if "method" in frame:
            for symbol in frame["params"]["symbol"]:
                result = {"channel": frame["params"]["channel"], "symbol": symbol}
                answer = {"method": frame["method"], "success": True, "result": result, "req_id": frame["req_id"]}
                connection.push(json.dumps(answer))
                if frame["method"] == "subscribe" and result["channel"] == "book":
                    self.spot(symbol, "snapshot")
        else:
            for product in frame["product_ids"]:
                answer = {"event": frame["event"] + "d", "feed": frame["feed"], "product_ids": [product]}
                connection.push(json.dumps(answer))
                if frame["event"] == "subscribe" and frame["feed"] == "book":
                    self.snapshot(product)

    def spot(self, symbol: str, kind: str = "update", wrong: int = 0) -> None:
        size = self.sizes[symbol] = self.sizes.get(symbol, 0) + 1
        bids = [{"price": 100.0, "qty": size}]
        asks = [{"price": 101.0, "qty": 1.0}] if kind == "snapshot" else []
        row = {"symbol": symbol, "bids": bids, "asks": asks, "checksum": self._crc(size) + wrong}
        frame = {"channel": "book", "type": kind, "data": [{**row, "timestamp": "2026-01-01T00:00:00.000001Z"}]}
        self.connections["wss://ws.kraken.com/v2"].push(json.dumps(frame))

    @staticmethod
    def _crc(size: int) -> int:
        """Of asks 101.0 x 1.0 and bids 100.0 x size, as they stand on the wire: the raw digits."""
        return zlib.crc32(f"1010101000{size}".encode())

    def snapshot(self, product: str) -> None:
        self.seq[product] = self.seq.get(product, 1000) + 10
        level = [{"price": 100.0, "qty": 5.0}]
        frame = {"feed": "book_snapshot", "product_id": product, "seq": self.seq[product], "timestamp": 1}
        asks = [{"price": 101.0, "qty": 5.0}]
        self.push(product, {**frame, "bids": level, "asks": asks})

    def delta(self, product: str, skip: int = 0) -> None:
        self.seq[product] += 1 + skip
        seq = self.seq[product]
        self.push(
            product, {"feed": "book", "product_id": product, "side": "buy", "seq": seq, "price": 100.0, "qty": seq}
        )

    def push(self, product: str, frame: Any) -> None:
        self.connections["wss://futures.kraken.com/ws/v1"].push(json.dumps(frame))


async def streamed(played: Any, streams: PlayedStreams, symbols: list[str], body: Any) -> None:
    """Run `body(stream, updates)` while a stream of these markets runs."""
    http = played.venue.rest.spot._client_options["transport"]
    async with anyio.create_task_group() as tasks:
        clock = ManualClock()
        host = ManualHost(tasks, clock, streams.transport)
        venue = KrakenVenue(host, KrakenSettings(spot_book_depth=10), http_transport=http)
        markets = [await venue.markets.get(symbol) for symbol in symbols]
        updates: list[Any] = []

        async def consume(stream: Any) -> None:
            async for update in stream:
                updates.append(update)

        async with venue.stream_orderbook(markets) as stream:
            tasks.start_soon(consume, stream)
            await clock.advance(2)
            await body(stream, updates, clock)
        tasks.cancel_scope.cancel()


async def test_a_lost_checksum_resynchronises_one_pair_alone(played: Any) -> None:
    streams = PlayedStreams()

    async def body(stream: Any, updates: list[Any], clock: ManualClock) -> None:
        assert stream.book("KRAKEN-SPOT-BTC-USD").state is BookState.LIVE
        assert stream.book("KRAKEN-SPOT-ETH-USD").state is BookState.LIVE
        updates.clear()
        asked = len(streams.asked)
        streams.spot("BTC/USD", wrong=1)
        for _ in range(5):
            streams.spot("ETH/USD")
        await clock.advance(10)
        kinds = [update.kind for update in updates if update.market == "KRAKEN-SPOT-BTC-USD"]
        assert kinds == [UpdateKind.STALE, UpdateKind.SNAPSHOT]
        others = [update for update in updates if update.market == "KRAKEN-SPOT-ETH-USD"]
        assert [update.kind for update in others] == [UpdateKind.UPDATE] * 5, "the neighbour lost nothing"
        assert [frame["params"]["symbol"] for frame in streams.asked[asked:]] == [["BTC/USD"], ["BTC/USD"]]
        assert [frame["method"] for frame in streams.asked[asked:]] == ["unsubscribe", "subscribe"]
        assert stream.book("KRAKEN-SPOT-BTC-USD").state is BookState.LIVE
        assert len(streams.transport.open) == 1

    await streamed(played, streams, ["KRAKEN-SPOT-BTC-USD", "KRAKEN-SPOT-ETH-USD"], body)


async def test_a_gap_of_one_contract_resynchronises_it_alone(played: Any) -> None:
    streams = PlayedStreams()
    linear, inverse = "KRAKEN-PERP-ETH-USD", "KRAKEN-PERP-XBT-USD-COINM"

    async def body(stream: Any, updates: list[Any], clock: ManualClock) -> None:
        updates.clear()
        asked = len(streams.asked)
        streams.delta("PF_ETHUSD")
        streams.delta("PF_ETHUSD", skip=1)
        for _ in range(5):
            streams.delta("PI_XBTUSD")
        await clock.advance(10)
        kinds = [update.kind for update in updates if update.market == linear]
        assert kinds == [UpdateKind.UPDATE, UpdateKind.STALE, UpdateKind.SNAPSHOT]
        others = [update for update in updates if update.market == inverse]
        assert [update.kind for update in others] == [UpdateKind.UPDATE] * 5, "the neighbour lost nothing"
        assert [update.update_id for update in others] == sorted({update.update_id for update in others})
        assert [frame["product_ids"] for frame in streams.asked[asked:]] == [["PF_ETHUSD"], ["PF_ETHUSD"]]
        assert stream.book(linear).state is BookState.LIVE

    await streamed(played, streams, [linear, inverse], body)


# -- history ----------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_had_by_the_pair_s_rest_name(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/0/public/Depth", recordings.body("spot-depth"))
    book = await played.venue.get_orderbook(await played.market("KRAKEN-SPOT-BTC-USD"), 3)
    assert played.http.asked("GET", "/0/public/Depth") == [{"pair": "XBTUSD", "count": "3"}]
    assert [price for price, _ in book.bids] == [105944.2, 105935.4, 105918.8]
    stock = await played.market("KRAKEN-SPOT-AAPLx-USD")
    await played.venue.get_orderbook(stock, 1000)
    assert played.http.asked("GET", "/0/public/Depth")[1] == {
        "pair": "AAPLxUSD",
        "asset_class": "tokenized_asset",
        "count": "500",
    }


async def test_an_inverse_snapshot_is_in_base_units(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/derivatives/api/v3/orderbook", recordings.body("futures-orderbook"))
    book = await played.venue.get_orderbook(await played.market("KRAKEN-PERP-XBT-USD-COINM"), 2)
    assert book.bids == [(61011.5, 2900 / 61011.5), (61008.5, 3400 / 61008.5)]


def spot_page(ids: range) -> Any:
    rows = [["1.5", "2.0", 1_700_000_000 + number / 10, "b", "l", "", number] for number in ids]
    return {"error": [], "result": {"XXBTZUSD": rows, "last": str(1_700_000_000_000_000_000 + ids[-1] * 100_000_000)}}


async def test_missed_spot_trades_are_found_by_their_ids(played: Any, channel_of: ChannelOf) -> None:
    """The newest page begins too late: the next question goes further back, then forward to the newest."""

    def page(params: Any) -> Any:
        since = params.get("since")
        if since is None:
            return spot_page(range(4001, 5001))
        first = max(1, (int(since) - 1_700_000_000_000_000_000) // 100_000_000 + 1)
        return spot_page(range(first, min(first + 1000, 5001)))

    played.http.answer("GET", "/0/public/Trades", page)
    channel = channel_of(DataType.TRADE, await played.market("KRAKEN-SPOT-BTC-USD"))
    trades = await played.venue.history.trades_after(channel, "3500", "S")
    assert [int(trade.id) for trade in trades] == list(range(3501, 5001))


async def test_a_gap_further_back_than_is_looked_stays(played: Any, channel_of: ChannelOf) -> None:
    played.http.answer("GET", "/0/public/Trades", spot_page(range(90_001, 91_001)))
    channel = channel_of(DataType.TRADE, await played.market("KRAKEN-SPOT-BTC-USD"))
    played.venue.rest.spot.limiter.configure([Bucket(PUBLIC, 1000, 1.0)])
    assert await played.venue.history.trades_after(channel, "5", "S") is None


async def test_missed_derivatives_trades_are_joined_by_uid(played: Any, channel_of: ChannelOf) -> None:
    def row(number: int) -> Any:
        time = f"2026-01-01T00:00:{number // 10:02d}.{number % 10}00Z"
        return {
            "time": time,
            "trade_id": 1,
            "price": 100,
            "size": 50,
            "side": "sell",
            "type": "fill",
            "uid": f"u{number}",
        }

    def page(params: Any) -> Any:
        newest = 25 if "lastTime" in params else 45
        return {"result": "success", "history": [row(number) for number in range(newest, newest - 21, -1)]}

    played.http.answer("GET", "/derivatives/api/v3/history", page)
    channel = channel_of(DataType.TRADE, await played.market("KRAKEN-PERP-XBT-USD-COINM"))
    trades: list[Trade] = await played.venue.history.trades_after(channel, "u10", "S")
    assert [trade.id for trade in trades] == [f"u{number}" for number in range(11, 46)]
    assert trades[0].quantity == 0.5
    assert [asked.get("lastTime") for asked in played.http.asked("GET", "/derivatives/api/v3/history")] == [
        None,
        "2026-01-01T00:00:02.500Z",
    ]
