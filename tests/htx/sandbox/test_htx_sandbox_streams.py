"""The public channels: book numbering, snapshots, trades of both sides, pings, limits and error frames."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from astra_htx.sandbox import SandboxLimits

BTC = "HUOBI-SPOT-BTC-USDT"
LINEAR = "HUOBI-PERP-BTC-USDT"
COIN = "HUOBI-PERP-BTC-USD-COINM"
MBP = "market.btcusdt.mbp.150"
FAST = "market.BTC-USDT.depth.size_20.high_freq"


def data_of(frames: Sequence[Any], topic: str) -> list[Any]:
    return [frame for frame in frames if frame.get("ch") == topic]


def apply(book: dict[str, dict[Decimal, Decimal]], tick: Any) -> None:
    """A delta, as a client applies it."""
    for side in ("bids", "asks"):
        for price, size in tick.get(side) or ():
            if size:
                book[side][price] = size
            else:
                del book[side][price]  # every delete names a level that is there


def whole(tick: Any) -> dict[str, dict[Decimal, Decimal]]:
    return {side: dict(tick.get(side) or ()) for side in ("bids", "asks")}


def engine_book(venue: Any, symbol: str, levels: int) -> dict[str, dict[Decimal, Decimal]]:
    _, bids, asks = venue.engine.depth(symbol, levels)
    return {
        "bids": {amount.price: amount.quantity for amount in bids},
        "asks": {amount.price: amount.quantity for amount in asks},
    }


class TestMbp:
    def test_increments_chain_and_join_the_snapshot(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/feed")
        venue.crowd(BTC, "BUY", "1", "89000")
        ack = client.send({"sub": MBP, "id": "id1"})
        assert ack == [{"id": "id1", "status": "ok", "subbed": MBP, "ts": venue.clock.ms}]
        ticks: list[Any] = []
        book: dict[str, dict[Decimal, Decimal]] = {}
        for step in range(12):
            venue.crowd(BTC, "BUY" if step % 2 else "SELL", "0.5", str(89_100 - step if step % 2 else 90_000 + step))
            if step % 4 == 3:
                venue.crowd(BTC, "SELL", "0.7")  # a level goes
            if step == 5:
                (answer,) = client.send({"req": MBP, "id": "id2"})
                assert (answer["id"], answer["rep"], answer["status"]) == ("id2", MBP, "ok")
                sequence, book = answer["data"]["seqNum"], whole(answer["data"])
                assert sequence == ticks[-1]["seqNum"]  # the state after the frame sent last
            for frame in data_of(client.after(100), MBP):
                tick = frame["tick"]
                if ticks:
                    assert tick["prevSeqNum"] == ticks[-1]["seqNum"]
                ticks.append(tick)
                if book:
                    assert tick["prevSeqNum"] == sequence
                    sequence = tick["seqNum"]
                    apply(book, tick)
        assert len(ticks) >= 12
        assert book == engine_book(venue, BTC, 150)
        assert ticks[-1]["seqNum"] == venue.sandbox.update_id(BTC, venue.engine.depth(BTC, 0)[0])
        assert venue.sandbox.change_id(BTC, ticks[-1]["seqNum"]) == venue.engine.depth(BTC, 0)[0]

    def test_a_window_deletes_what_leaves_it(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/feed")
        topic = "market.btcusdt.mbp.5"
        for price in range(5):
            venue.crowd(BTC, "BUY", "1", str(89_000 + price))
        (answer,) = client.send({"req": topic, "id": "1"})
        book = whole(answer["data"])
        client.send({"sub": topic, "id": "2"})
        venue.crowd(BTC, "BUY", "2", "89010")
        (frame,) = client.line.take()
        assert frame["tick"]["bids"] == [[Decimal(89_010), Decimal(2)], [Decimal(89_000), Decimal(0)]]
        assert "asks" not in frame["tick"]  # tick by tick, only the changed side is there
        assert frame["tick"]["prevSeqNum"] == answer["data"]["seqNum"]
        apply(book, frame["tick"])
        assert book == engine_book(venue, BTC, 5)
        venue.crowd(BTC, "BUY", "2", "88000")  # outside the window: nothing
        assert client.line.take() == []

    def test_a_quiet_book_keeps_its_chain(self, venue: Any) -> None:
        venue.crowd(BTC, "BUY", "1", "89000")
        client = venue.connect("spot_stream", "/feed")
        client.send({"sub": MBP})
        client.after(100)
        frames = data_of(client.after(1100), MBP)
        assert [(frame["tick"]["bids"], frame["tick"]["asks"]) for frame in frames] == [([], [])]
        assert frames[0]["tick"]["seqNum"] == frames[0]["tick"]["prevSeqNum"]

    def test_a_lagging_snapshot_is_older_than_the_last_frame(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(snapshot_lag=1))
        client = venue.connect("spot_stream", "/feed")
        client.send({"sub": MBP})
        frames = []
        for price in ("89000", "89001", "89002"):
            venue.crowd(BTC, "BUY", "1", price)
            frames += data_of(client.after(100), MBP)
        (answer,) = client.send({"req": MBP, "id": "1"})
        assert answer["data"]["seqNum"] == frames[-1]["tick"]["prevSeqNum"]

    def test_increments_are_on_feed_alone(self, venue: Any) -> None:
        (refused,) = venue.connect("spot_stream", "/ws").send({"sub": MBP, "id": "1"})
        assert (refused["status"], refused["err-code"], refused["id"]) == ("error", "bad-request", "1")
        feed, usual = venue.connect("spot_stream", "/feed"), venue.connect("spot_stream", "/ws")
        trades = {"sub": "market.btcusdt.trade.detail"}
        assert feed.send(trades)[0]["status"] == "error"
        # The same while others have subscribed where it is allowed.
        assert (feed.send({"sub": MBP})[0]["status"], usual.send(trades)[0]["status"]) == ("ok", "ok")
        assert (usual.send({"sub": MBP})[0]["status"], feed.send(trades)[0]["status"]) == ("error", "error")

    def test_requests_keep_a_distance(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/feed")
        client.send({"req": MBP, "id": "1"})
        (refused,) = client.send({"req": MBP, "id": "2"})
        assert refused["err-msg"] == "429 too many request"
        venue.clock.ms += 100
        assert client.send({"req": MBP, "id": "3"})[0]["status"] == "ok"

    def test_shapes_are_the_recorded_ones(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        *updates, snapshot = captured_frames("spot-mbp150-snapshot-aligned")
        client = venue.connect("spot_stream", "/feed")
        client.send({"sub": MBP})
        venue.crowd(BTC, "BUY", "1", "89000")
        venue.crowd(BTC, "SELL", "1", "90000")
        (frame,) = data_of(client.after(100), MBP)
        assert unlike(frame, updates[0]) == []
        (answer,) = client.send({"req": MBP, "id": "1"})
        assert unlike(answer, snapshot) == []
        (error,) = client.send({"sub": "market.linkusdt.mbp.150", "id": "2"})
        recorded = captured_frames("ws-errors")[1]
        assert unlike(error, recorded) == []
        assert error["err-msg"] == recorded["err-msg"]


class TestHighFrequency:
    def test_a_snapshot_then_versions_in_steps_of_one(self, venue: Any) -> None:
        for price in range(25):
            venue.crowd(LINEAR, "BUY", "3", f"{89_000 + price}.1")
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        ack, first = client.send({"sub": FAST, "data_type": "incremental", "id": "1"})
        assert (ack["subbed"], ack["data_type"]) == (FAST, "incremental")
        assert first["tick"]["event"] == "snapshot"
        book, version = whole(first["tick"]), first["tick"]["version"]
        assert len(book["bids"]) == 20
        for step in range(10):
            venue.crowd(LINEAR, "BUY", "5", f"{89_030 + step}.1")
            venue.crowd(LINEAR, "SELL", "2")  # takes the level that was just made, in part
            for frame in data_of(client.after(50), FAST):
                assert (frame["tick"]["event"], frame["tick"]["version"]) == ("update", version + 1)
                version += 1
                apply(book, frame["tick"])
                assert frame["tick"]["mrid"] == venue.sandbox.update_id(LINEAR, venue.engine.depth(LINEAR, 0)[0])
            assert book == engine_book(venue, LINEAR, 20)

    def test_a_late_subscriber_joins_at_the_last_frame(self, venue: Any) -> None:
        first = venue.connect("derivatives_stream", "/linear-swap-ws")
        _, begin = first.send({"sub": FAST, "data_type": "incremental"})
        venue.crowd(LINEAR, "BUY", "5", "89000")  # not yet told
        late = venue.connect("derivatives_stream", "/linear-swap-ws")
        _, snapshot = late.send({"sub": FAST, "data_type": "incremental"})
        assert snapshot["tick"] | {"ts": 0} == begin["tick"] | {"ts": 0}
        (update,) = data_of(late.after(50), FAST)
        assert (update["tick"]["version"], len(update["tick"]["bids"])) == (snapshot["tick"]["version"] + 1, 1)

    def test_whole_books_are_the_default(self, venue: Any) -> None:
        venue.crowd(LINEAR, "BUY", "3", "89000")
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        ack, first = client.send({"sub": FAST})
        assert "data_type" not in ack
        assert "asks" not in first["tick"]  # an empty side
        venue.crowd(LINEAR, "BUY", "4", "89001")
        (frame,) = data_of(client.after(50), FAST)
        assert frame["tick"]["event"] == "snapshot"
        assert whole(frame["tick"]) == engine_book(venue, LINEAR, 20)

    def test_versions_begin_anew_with_a_connection(self, venue: Any) -> None:
        versions = []
        for _ in range(3):
            client = venue.connect("derivatives_stream", "/linear-swap-ws")
            _, snapshot = client.send({"sub": FAST, "data_type": "incremental"})
            versions.append(snapshot["tick"]["version"])
            client.session.closed()
        assert versions != sorted(versions) or len(set(versions)) == 3

    def test_unsubscribing_names_the_same_channel(self, venue: Any) -> None:
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        client.send({"sub": FAST, "data_type": "incremental", "id": "1"})
        (refused,) = client.send({"unsub": FAST, "id": "2"})
        assert "unsub with not subbed topic" in refused["err-msg"]
        (done,) = client.send({"unsub": FAST, "data_type": "incremental", "id": "3"})
        assert (done["unsubbed"], done["status"]) == (FAST, "ok")
        venue.crowd(LINEAR, "BUY", "4", "89001")
        assert data_of(client.after(200), FAST) == []

    def test_shapes_are_the_recorded_ones(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        recorded = captured_frames("fut-coinm-depth-size20-highfreq")
        native = venue.engine.markets["HUOBI-FUT-BTC-USD-270326-COINM"].native_symbol
        topic = f"market.{native}.depth.size_20.high_freq"
        client = venue.connect("derivatives_stream", "/ws")
        _, snapshot = client.send({"sub": topic, "data_type": "incremental"})
        venue.crowd("HUOBI-FUT-BTC-USD-270326-COINM", "BUY", "4", "89001.01")
        (update,) = data_of(client.after(50), topic)
        assert unlike(snapshot, recorded[0]) == []
        assert unlike(update, recorded[1]) == []
        _, alias = client.send({"sub": "market.BTC_CQ.depth.size_20.high_freq", "data_type": "incremental"})
        assert alias["ch"] == "market.BTC_CQ.depth.size_20.high_freq"


class TestTrades:
    def test_derivatives_count_both_sides(self, venue: Any) -> None:
        venue.crowd(LINEAR, "SELL", "3", "90000")
        venue.crowd(LINEAR, "SELL", "4", "90000.1")
        topic = "market.BTC-USDT.trade.detail"
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        assert len(client.send({"sub": topic})) == 1
        venue.crowd(LINEAR, "BUY", "5")
        (frame,) = client.line.take()
        rows = frame["tick"]["data"]
        assert [(row["amount"], row["price"], row["direction"]) for row in rows] == [
            (6, Decimal(90_000), "buy"),
            (4, Decimal("90000.1"), "buy"),
        ]  # oldest first
        assert (rows[0]["quantity"], rows[0]["trade_turnover"]) == (Decimal("0.006"), 540)
        assert [row["id"] for row in rows] == [frame["tick"]["id"] * 10_000, frame["tick"]["id"] * 10_000 + 1]
        history = venue.get(
            "derivatives_rest", "/linear-swap-ex/market/history/trade", contract_code="BTC-USDT", size=9
        )
        assert [row["id"] for row in history["data"][0]["data"]] == [row["id"] for row in rows]
        assert history["data"][0]["data"][0]["amount"] == "6"  # texts by REST

    def test_spot_prints_the_newest_first_and_ids_beyond_64_bits(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "0.3", "90000")
        venue.crowd(BTC, "SELL", "0.4", "90000.1")
        topic = "market.btcusdt.trade.detail"
        client = venue.connect("spot_stream", "/ws")
        client.send({"sub": topic})
        venue.crowd(BTC, "BUY", "0.5")
        (frame,) = client.line.take()
        first, second = frame["tick"]["data"]
        assert first["tradeId"] == second["tradeId"] + 1
        assert (first["amount"], second["amount"]) == (Decimal("0.2"), Decimal("0.3"))
        assert min(first["id"], second["id"]) > 2**64

    def test_a_subscription_begins_with_the_last_trade(self, venue: Any) -> None:
        venue.crowd(COIN, "SELL", "3", "90000")
        venue.crowd(COIN, "BUY", "3")
        venue.clock.ms += 60_000
        _, frame = venue.connect("derivatives_stream", "/swap-ws").send({"sub": "market.BTC-USD.trade.detail"})
        assert (frame["ts"], frame["tick"]["ts"]) == (venue.clock.ms - 60_000, venue.clock.ms - 60_000)
        (row,) = frame["tick"]["data"]
        assert row["quantity"] == Decimal(6) * 100 / 90_000
        assert "trade_turnover" not in row

    def test_shapes_are_the_recorded_ones(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        recorded = {frame["ch"]: frame for frame in captured_frames("mixed-single-frames") if "ch" in frame}
        for symbol, price in ((BTC, "90000"), (LINEAR, "90000"), (COIN, "90000")):
            venue.crowd(symbol, "SELL", "3", price)
            venue.crowd(symbol, "BUY", "1")
            venue.crowd(symbol, "BUY", "1", "80000")
        for host, path, native in (
            ("spot_stream", "/ws", "btcusdt"),
            ("derivatives_stream", "/linear-swap-ws", "BTC-USDT"),
            ("derivatives_stream", "/swap-ws", "BTC-USD"),
        ):
            for channel in ("trade.detail", "bbo", "detail"):
                topic = f"market.{native}.{channel}"
                _, frame = venue.connect(host, path).send({"sub": topic})
                assert unlike(frame, recorded[topic]) == []


class TestBooksInWhole:
    def test_spot_sends_them_once_a_second(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        topic = "market.btcusdt.depth.step0"
        venue.crowd(BTC, "BUY", "1", "89000")
        venue.crowd(BTC, "SELL", "1", "90000")
        client = venue.connect("spot_stream", "/ws")
        client.send({"sub": topic})
        frames = []
        for _ in range(20):
            venue.crowd(BTC, "BUY", "1", "89000")
            frames += data_of(client.after(100), topic)
        assert 2 <= len(frames) <= 3
        recorded = next(f for f in captured_frames("spot-depth-step0-trades") if "depth" in f.get("ch", ""))
        assert unlike(frames[-1], recorded) == []

    def test_derivatives_repeat_them_each_second(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        topic = "market.BTC-USDT.depth.step0"
        venue.crowd(LINEAR, "BUY", "1", "89000")
        venue.crowd(LINEAR, "SELL", "1", "90000")
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        client.send({"sub": topic})
        frames = data_of(client.after(3000), topic)
        assert 3 <= len(frames) <= 4
        recorded = next(f for f in captured_frames("perp-linear-depth-step0-trades") if "depth" in f.get("ch", ""))
        assert unlike(frames[-1], recorded) == []

    def test_coarse_steps_merge_levels(self, venue: Any) -> None:
        for price in ("89000.01", "89000.04", "89000.11"):
            venue.crowd(BTC, "BUY", "1", price)
        body = venue.get("spot_rest", "/market/depth", symbol="btcusdt", type="step1")
        assert body["tick"]["bids"] == [[Decimal("89000.1"), 1], [Decimal(89_000), 2]]


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("host", "path", "most"), [("spot_stream", "/ws", 2), ("derivatives_stream", "/swap-ws", 5)]
    )
    def test_a_client_that_answers_no_ping_is_dropped(self, venue: Any, host: str, path: str, most: int) -> None:
        client = venue.connect(host, path)
        pings = client.after(5000 * most)
        assert [set(frame) for frame in pings] == [{"ping"}] * most
        assert client.line.closed is None
        client.after(5000)
        assert client.line.closed == 1000

    def test_answering_one_of_them_keeps_it(self, venue: Any) -> None:
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        for _ in range(4):
            *_, last = client.after(20_000)
            client.send({"pong": last["ping"]})
        assert client.line.closed is None

    def test_a_pong_with_another_number_is_none(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws")
        for frame in client.after(15_000):
            client.send({"pong": frame["ping"] + 1})
        client.after(50)
        assert client.line.closed == 1000

    def test_frames_are_gzip_and_texts_go_in(self, venue: Any) -> None:
        client = venue.connect("derivatives_stream", "/ws")
        assert client.send({"ping": 17}) == [{"pong": 17}]
        assert isinstance(client.line.raw[0], bytes)
        assert client.line.raw[0][:2] == b"\x1f\x8b"
        (refused,) = client.send("no json")
        assert refused["err-msg"] == "not json string"

    def test_subscriptions_a_second_are_limited_on_derivatives(self, venue: Any) -> None:
        client = venue.connect("derivatives_stream", "/linear-swap-ws")
        answers = [client.send({"sub": "market.BTC-USDT.bbo"})[0]["status"] for _ in range(41)]
        assert answers == ["ok"] * 40 + ["error"]

    def test_unknown_paths_are_no_sockets(self, venue: Any) -> None:
        answer = venue.sandbox.connect("spot_stream", "/ws/v3", {}, None)
        assert answer.status == 404


@pytest.mark.parametrize("topic", ["market.nousdt.trade.detail", "market.btcusdt.trades", "btcusdt"])
def test_unknown_topics_are_refused(venue: Any, topic: str) -> None:
    (refused,) = venue.connect("spot_stream", "/ws").send({"sub": topic, "id": 7})
    assert (refused["err-code"], refused["id"]) == ("bad-request", 7)  # as it was given


def test_topics_may_come_in_a_list(venue: Any) -> None:
    topics = ["market.btcusdt.mbp.150", "market.ethusdt.mbp.150"]
    acks = venue.connect("spot_stream", "/feed").send({"sub": topics, "id": "1"})
    assert [ack["subbed"] for ack in acks] == topics


def test_many_markets_can_be_listed(make_venue: Callable[..., Any]) -> None:
    assert len(make_venue(count=300).engine.markets) == 300
