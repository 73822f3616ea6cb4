"""The public sockets: handshakes, acknowledgements, and books rebuilt from frames."""

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from astra.sandbox import HttpResponse
from astra_kucoin.sandbox import SandboxLimits

BTC, XBT = "KUCOIN-SPOT-BTC-USDT", "KUCOIN-PERP-XBT-USDT"
Book = dict[str, dict[Decimal, Decimal]]


def stir(venue: Any, symbol: str, count: int, seed: int = 1) -> None:
    """Orders that rest, cross and sweep."""
    random, lot = Random(seed), venue.engine.markets[symbol].lot_size
    for _ in range(count):
        side = random.choice(["BUY", "SELL"])
        price = Decimal(50_000) + random.randrange(-60, 60) * Decimal("0.5")
        venue.crowd(symbol, side, str(lot * random.randrange(1, 9)), str(price) if random.random() < 0.9 else None)


def engine_book(venue: Any, symbol: str, levels: int = 10_000) -> Book:
    _, bids, asks = venue.engine.depth(symbol, levels)
    return {"bids": {a.price: a.quantity for a in bids}, "asks": {a.price: a.quantity for a in asks}}


def put(book: Book, side: str, price: str, total: str) -> None:
    if Decimal(total):
        book[side][Decimal(price)] = Decimal(total)
    else:
        book[side].pop(Decimal(price), None)


def not_crossed(book: Book) -> bool:
    return not book["bids"] or not book["asks"] or max(book["bids"]) < min(book["asks"])


class TestClassicSockets:
    def test_a_bad_token_opens_a_socket_that_says_so_and_closes(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/?token=nonsense&connectId=x")
        assert client.line.take() == [{"id": "x", "type": "error", "code": 401, "data": "token is invalid"}]
        assert client.line.closed is not None

    def test_tokens_of_spot_and_futures_are_not_interchangeable(self, venue: Any, capture: Any, unlike: Any) -> None:
        answer = venue._data(venue.ask("futures_rest", "POST", "/api/v1/bullet-public"))
        assert unlike(answer, capture("futures-public-token")) == []
        client = venue.connect("spot_stream", f"/?token={answer['token']}")
        assert client.line.take()[0]["code"] == 401
        venue.clock.ms += 24 * 3_600_000
        assert venue.connect("futures_stream", f"/?token={answer['token']}").line.take()[0]["code"] == 401

    def test_the_token_answer_names_the_servers_own_address(self, venue: Any) -> None:
        venue.sandbox.addresses = {"spot_stream": "ws://127.0.0.1:4711"}
        (server,) = venue._data(venue.ask("spot_rest", "POST", "/api/v1/bullet-public"))["instanceServers"]
        assert (server["endpoint"], server["pingInterval"]) == ("ws://127.0.0.1:4711/", 18000)

    def test_acknowledgements_come_when_asked_for_and_echo_the_id_as_text(self, venue: Any) -> None:
        client = venue.classic("spot")
        topic = {"type": "subscribe", "topic": "/market/match:BTC-USDT"}
        assert client.send({"id": 1, **topic}) == []
        assert client.send({"id": 1, **topic, "response": True}) == [{"id": "1", "type": "ack"}]
        assert client.send({"id": 2, "type": "ping"}) == [
            {"id": "2", "type": "pong", "timestamp": venue.clock.ms * 1000}
        ]

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ({"type": "subscribe", "topic": "/market/nothing:BTC-USDT"}, 404),
            ({"type": "subscribe", "topic": "/contractMarket/level2:XBTUSDTM"}, 404),
            ({"type": "subscribe", "topic": "/spotMarket/tradeOrdersV2", "privateChannel": True}, 403),
            ({"type": "what"}, 400),
            ("no json", 400),
        ],
    )
    def test_errors_carry_their_code(self, venue: Any, frame: Any, code: int) -> None:
        (answer,) = venue.classic("spot").send(frame if isinstance(frame, str) else {"id": "9", **frame})
        assert (answer["type"], answer["code"]) == ("error", code)

    def test_unknown_markets_are_acknowledged_and_stay_silent(self, venue: Any) -> None:
        client = venue.classic("spot")
        client.subscribe("/market/level2:NOPE-USDT,BTC-USDT")
        venue.crowd(BTC, "BUY", "1", "50000")
        assert {frame["topic"] for frame in client.line.take()} == {"/market/level2:BTC-USDT"}

    def test_too_many_markets_in_a_frame_or_on_a_connection(self, make_venue: Any) -> None:
        client = make_venue(SandboxLimits(topics_per_connection=3)).classic("spot")
        many = ",".join(f"A{n}-USDT" for n in range(101))
        for topic in (f"/market/level2:{many}", "/market/match:A-B,C-D,E-F,G-H"):
            (answer,) = client.send({"id": "1", "type": "subscribe", "topic": topic, "response": True})
            assert answer["code"] == 509

    def test_silence_of_the_client_closes_even_a_busy_socket(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(silence_ms=1000))
        client = venue.classic("spot")
        client.subscribe("/market/level2:BTC-USDT")
        for _ in range(3):
            client.after(600)
            client.send({"id": "p", "type": "ping"})
            assert client.line.closed is None
        venue.crowd(BTC, "BUY", "1", "50000")
        client.after(1000)
        assert client.line.closed == 1000

    def test_too_many_messages_close(self, venue: Any) -> None:
        client = venue.classic("futures")
        for number in range(101):
            client.send({"id": number, "type": "ping"})
        assert client.line.closed == 1008

    def test_nothing_comes_after_unsubscribing(self, venue: Any) -> None:
        client = venue.classic("spot")
        client.subscribe("/market/level2:BTC-USDT,ETH-USDT")
        client.send({"id": "u", "type": "unsubscribe", "topic": "/market/level2:BTC-USDT"})
        venue.crowd(BTC, "BUY", "1", "50000")
        assert client.line.take() == []
        client.session.closed()
        assert venue.sandbox._hub._feeds == {}


class TestClassicBooks:
    def test_spot_frames_rebuild_the_book_from_a_seed(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        """By the venue's algorithm: number by number, price 0 moves the counter only, each state uncrossed."""
        stir(venue, BTC, 50)
        client = venue.classic("spot")
        client.subscribe("/market/level2:BTC-USDT")
        stir(venue, BTC, 40, seed=2)
        seed = venue.call("spot_rest", "GET", "/api/v3/market/orderbook/level2", symbol="BTC-USDT")
        stir(venue, BTC, 200, seed=3)
        book: Book = {side: {Decimal(p): Decimal(q) for p, q in seed[side]} for side in ("bids", "asks")}
        last, bumps, spans, frames = int(seed["sequence"]), 0, 0, client.line.take()
        documented = captured_frames("spot-classic-public-topics")[0]
        assert unlike(frames[-1], documented) == [] or not frames[-1]["data"]["changes"]["asks"]
        for frame in frames:
            data = frame["data"]
            if data["sequenceEnd"] <= last:
                continue
            assert data["sequenceStart"] == last + 1
            spans += data["sequenceEnd"] > data["sequenceStart"]
            for side in ("bids", "asks"):
                for price, total, sequence in data["changes"][side]:
                    assert int(sequence) > last
                    bumps += price == "0"
                    if price != "0":
                        put(book, side, price, total)
            last = data["sequenceEnd"]
            assert not_crossed(book)
        assert book == engine_book(venue, BTC)
        change, _, _ = venue.engine.depth(BTC, 1)
        assert last == venue.sandbox.update_id(BTC, change)
        assert bumps > 10
        assert spans > 10

    def test_futures_frames_hold_one_level_each(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        stir(venue, XBT, 50)
        seed = venue.get("futures_rest", "/api/v1/level2/snapshot", symbol="XBTUSDTM")
        client = venue.classic("futures")
        client.subscribe("/contractMarket/level2:XBTUSDTM")
        stir(venue, XBT, 200, seed=3)
        book: Book = {side: {Decimal(str(p)): Decimal(q) for p, q in seed[side]} for side in ("bids", "asks")}
        last = seed["sequence"]
        for frame in client.line.take():
            assert unlike(frame, captured_frames("perp-classic-public-topics")[0]) == []
            assert frame["sn"] == frame["data"]["sequence"] == last + 1
            last += 1
            price, side, total = frame["data"]["change"].split(",")
            put(book, {"buy": "bids", "sell": "asks"}[side], price, total)
            assert not_crossed(book)
        assert book == engine_book(venue, XBT)

    def test_depths_and_level1(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        stir(venue, BTC, 100)
        stir(venue, XBT, 100)
        spot, futures = venue.classic("spot"), venue.classic("futures")
        spot.subscribe("/spotMarket/level2Depth5:BTC-USDT")
        spot.subscribe("/spotMarket/level1:BTC-USDT")
        futures.subscribe("/contractMarket/level2Depth5:XBTUSDTM")
        venue.crowd(BTC, "BUY", "1", "49000")
        venue.crowd(XBT, "BUY", "1", "49000")
        shapes = captured_frames("spot-classic-public-topics")
        by_topic = {frame["subject"]: frame for frame in spot.after(150)}
        assert unlike(by_topic["level1"], shapes[1]) == []
        assert unlike(by_topic["level2"], shapes[2]) == []
        assert len(by_topic["level2"]["data"]["bids"]) == 5
        futures.session.tick(venue.clock.ms)
        (frame,) = futures.line.take()
        assert unlike(frame, captured_frames("perp-classic-public-topics")[1]) == []
        assert frame["data"]["sequence"] == venue.sandbox.catalogue.of_symbol(XBT).sequences.last

    def test_trades_and_tickers(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        spot, futures = venue.classic("spot"), venue.classic("futures")
        spot.subscribe("/market/match:BTC-USDT")
        spot.subscribe("/market/ticker:BTC-USDT")
        futures.subscribe("/contractMarket/execution:XBTUSDTM")
        futures.subscribe("/contractMarket/tickerV2:XBTUSDTM")
        for symbol in (BTC, XBT):
            for side, price in (("BUY", "49999"), ("SELL", "50000"), ("SELL", "50001")):
                venue.crowd(symbol, side, "2", price)
            venue.crowd(symbol, "BUY", "3")
        match, other, ticker = spot.after(100)
        shapes = captured_frames("spot-classic-public-topics")
        assert unlike(match, shapes[3]) == []
        assert unlike(ticker["data"], shapes[5]["data"]) == []
        assert (match["data"]["side"], match["data"]["price"], match["data"]["size"]) == ("buy", "50000", "2")
        assert match["data"]["takerOrderId"] == other["data"]["takerOrderId"]
        assert match["data"]["time"] == str(venue.clock.ms - 100) + "000000"
        frames = futures.line.take()
        matches = [frame for frame in frames if frame["subject"] == "match"]
        assert unlike(matches[0], captured_frames("perp-classic-public-topics")[2]) == []
        assert unlike(frames[-1], captured_frames("perp-classic-public-topics")[3]) == []
        assert [frame["data"]["size"] for frame in matches] == [2, 1]

    def test_mark_prices_every_second(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        client = venue.classic("futures")
        client.subscribe("/contract/instrument:XBTUSDTM")
        frames = client.after(3000)
        assert len(frames) == 3
        assert unlike(frames[0], captured_frames("perp-classic-public-topics")[4]) == []


OBU = {"depth": "increment@10ms", "tradeType": "SPOT", "symbol": "BTC-USDT"}


class Mirror:
    """A unified book as a client keeps it: deltas before the snapshot are dropped, then O joins C."""

    def __init__(self) -> None:
        self.book: Book = {"bids": {}, "asks": {}}
        self.last: int | None = None
        self.snapshots = self.deltas = self.early = 0

    def take(self, frames: list[Any]) -> None:
        for frame in frames:
            data = frame["d"]
            if frame["t"] == "snapshot":
                assert data["O"] == data["C"]
                self.book, self.last = {"bids": {}, "asks": {}}, data["C"]
                self.snapshots += 1
            elif self.last is None:
                self.early += 1
                continue
            elif data["C"] > self.last:
                assert data["O"] == self.last + 1
                self.last = data["C"]
                self.deltas += 1
            for side in ("bids", "asks"):
                for price, total in data[side[0]]:
                    put(self.book, side, price, total)


class TestUnifiedSockets:
    def test_acknowledgements_and_pongs(self, venue: Any) -> None:
        client = venue.unified("spot")
        client.ask("SUBSCRIBE", "trade", tradeType="SPOT", symbol="NOPE-USDT")
        client.ask("unsubscribe", "trade", tradeType="SPOT", symbol="NOPE-USDT")
        (pong,) = client.send({"id": "p", "type": "ping"})
        assert pong == {"type": "pong", "id": "p", "ts": venue.clock.ms * 1_000_000}
        client.after(1000)
        (pong,) = client.send({"id": "p", "op": "ping", "timestamp": 1})
        assert pong["op"] == "pong"
        client.send({"id": "p", "type": "ping"})
        assert client.line.closed == 1008

    @pytest.mark.parametrize(
        "frame",
        [
            {"channel": "obu", "tradeType": "FUTURES", "symbol": "XBTUSDTM", "depth": "5"},
            {"channel": "obu", "tradeType": "SPOT", "symbols": ["BTC-USDT"], "depth": "5"},
            {"channel": "obu", "tradeType": "SPOT", "symbol": "BTC-USDT", "depth": "20"},
            {"channel": "nothing", "tradeType": "SPOT", "symbol": "BTC-USDT"},
        ],
    )
    def test_wrong_subscriptions_are_refused(self, venue: Any, frame: Any) -> None:
        (answer,) = venue.unified("spot").send({"id": "1", "action": "SUBSCRIBE", **frame})
        assert (answer["id"], answer["result"], answer["message"]) == ("1", False, "invalid request data")

    def test_what_is_no_json_is_not_answered(self, venue: Any) -> None:
        assert venue.unified("spot").send("no json") == []

    def test_tickers_take_many_markets_in_a_frame(self, venue: Any) -> None:
        client = venue.unified("spot")
        client.ask("SUBSCRIBE", "ticker", tradeType="SPOT", symbols=["BTC-USDT", "ETH-USDT"])
        venue.crowd(BTC, "SELL", "1", "50000")
        venue.crowd(BTC, "BUY", "1")
        assert [frame["d"]["s"] for frame in client.line.take()] == ["BTC-USDT"]

    def test_silence_closes_only_where_nothing_is_subscribed(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(silence_ms=1000))
        idle, busy = venue.unified("spot"), venue.unified("spot")
        busy.ask("SUBSCRIBE", "trade", tradeType="SPOT", symbol="BTC-USDT")
        idle.after(1000)
        busy.session.tick(venue.clock.ms)
        assert (idle.line.closed, busy.line.closed) == (1000, None)

    def test_control_frames_are_the_recorded_ones(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        recorded = captured_frames("uta-control-frames")
        client = venue.connect("unified_futures_stream", "/")
        (welcome,) = client.line.take()
        assert unlike(welcome, recorded[0]) == []
        assert client.send(recorded[1]) == [recorded[2]]
        assert unlike(client.send(recorded[3])[0], recorded[4]) == []

    @pytest.mark.parametrize(("plane", "native", "symbol"), [("spot", "BTC-USDT", BTC), ("futures", "XBTUSDTM", XBT)])
    def test_an_incremental_book_is_the_engines(self, venue: Any, plane: str, native: str, symbol: str) -> None:
        stir(venue, symbol, 100)
        client, mirror = venue.unified(plane), Mirror()
        client.ask("SUBSCRIBE", **(OBU | {"tradeType": plane.upper(), "symbol": native}), channel="obu")
        for number in range(30):
            stir(venue, symbol, 10, seed=number)
            mirror.take(client.after(50))
        assert (mirror.snapshots, mirror.book) == (1, engine_book(venue, symbol))
        assert mirror.early >= 1
        change, _, _ = venue.engine.depth(symbol, 1)
        assert mirror.last == venue.sandbox.update_id(symbol, change)

    def test_a_book_beyond_the_window_stays_at_the_best_500(self, venue: Any) -> None:
        for number in range(495):
            venue.crowd(BTC, "BUY", "1", str(Decimal(50_000) - number))
        venue.crowd(BTC, "SELL", "1", "50001")
        client, mirror = venue.unified("spot"), Mirror()
        client.ask("SUBSCRIBE", "obu", **OBU)
        mirror.take(client.after(100))
        for number in range(10):  # from below the window to beyond it at one go
            venue.crowd(BTC, "BUY", "1", str(Decimal("50000.5") - number))
        mirror.take(client.after(50))
        assert mirror.book == engine_book(venue, BTC, 500)
        random = Random(4)
        for number in range(60):
            # Grow beyond the window, trade inside it, shrink back into it.
            for _ in range(random.randrange(1, 4)):
                price = Decimal(50_000) - random.randrange(10, 700) + Decimal("0.1") * random.randrange(9)
                venue.crowd(BTC, "BUY", "1", str(price))
            if number % 3 == 0:
                venue.crowd(BTC, "SELL", str(random.randrange(1, 30 if number > 40 else 3)))
            mirror.take(client.after(50))
            assert mirror.book == engine_book(venue, BTC, 500)
        assert len(mirror.book["bids"]) == 500
        venue.crowd(BTC, "SELL", "300")
        mirror.take(client.after(50))
        venue.crowd(BTC, "BUY", "1", "40000")
        mirror.take(client.after(50))
        assert mirror.book == engine_book(venue, BTC)

    def test_a_second_subscription_brings_no_second_snapshot_and_a_new_one_does(self, venue: Any) -> None:
        client, mirror = venue.unified("spot"), Mirror()
        client.ask("SUBSCRIBE", "obu", **OBU)
        mirror.take(client.after(100))
        client.ask("SUBSCRIBE", "obu", **OBU)
        mirror.take(client.after(200))
        assert mirror.snapshots == 1
        client.ask("UNSUBSCRIBE", "obu", **OBU)
        client.ask("SUBSCRIBE", "obu", **OBU)
        mirror.take(client.after(200))
        assert mirror.snapshots == 2

    def test_frames_are_of_the_documented_shape(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        for plane, symbol, native in (("spot", BTC, "BTC-USDT"), ("futures", XBT, "XBTUSDTM")):
            stir(venue, symbol, 60)
            client = venue.unified(plane)
            for channel, more in (
                ("ticker", {}),
                ("trade", {}),
                ("obu", {"depth": "1"}),
                ("obu", {"depth": "increment"}),
                ("obu", {"depth": "increment@10ms"}),
            ):
                client.ask("SUBSCRIBE", channel, tradeType=plane.upper(), symbol=native, **more)
            venue.crowd(symbol, "SELL", "1")
            venue.crowd(symbol, "BUY", "1")
            documented = {
                (frame["T"], frame.get("dp"), frame.get("t")): frame
                for frame in captured_frames("uta-public-perp" if plane == "futures" else "uta-public-spot")
            }
            seen = {(frame["T"], frame.get("dp"), frame.get("t")): frame for frame in client.after(50)}
            compared = 0
            for key, frame in documented.items():
                if key in seen:
                    assert unlike(seen[key], frame) == []
                    compared += 1
            assert compared == 4

    def test_depth_5_comes_every_100_ms_though_nothing_changes(
        self, venue: Any, captured_frames: Any, unlike: Any
    ) -> None:
        stir(venue, BTC, 60)
        client = venue.unified("spot")
        client.ask("SUBSCRIBE", "obu", tradeType="SPOT", symbol="BTC-USDT", depth="5")
        frames = client.after(500)
        assert len(frames) == 5
        assert unlike(frames[0], captured_frames("uta-public-live-2026-10-03")[0]) == []

    def test_nothing_runs_for_those_who_left(self, venue: Any) -> None:
        client = venue.unified("spot")
        client.ask("SUBSCRIBE", "obu", tradeType="SPOT", symbol="BTC-USDT", depth="5")
        client.ask("SUBSCRIBE", "obu", **OBU)
        client.session.closed()
        assert not venue.sandbox._hub._feeds
        assert not venue.sandbox._hub._held

    def test_the_private_socket_needs_a_good_token_or_a_login(self, unified: Any) -> None:
        refused = unified.sandbox.connect("unified_private_stream", "/?token=nonsense", {}, None)
        assert isinstance(refused, HttpResponse)
        client = unified.unified("private")
        (answer,) = client.send({"id": "1", "action": "subscribe", "channel": "orderAll", "tradeType": "UNIFIED"})
        assert answer["result"] is False
        token = unified.call("spot_rest", "POST", "/api/v2/bullet-private")["token"]
        older = unified.connect("unified_private_stream", f"/?token={token}")
        older.line.take()
        older.ask("subscribe", "orderAll", tradeType="UNIFIED")
