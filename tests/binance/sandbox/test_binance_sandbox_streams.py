"""Market streams as the venue sends them: names, paths, acknowledgements, frames, sequence numbers."""

import itertools
import json
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from astra.sandbox import HttpResponse
from astra_binance.sandbox import SandboxLimits
from astra_binance.sandbox.wire import Family

BTC_SPOT, BTC_PERP = "BINANCE-SPOT-BTC-USDT", "BINANCE-PERP-BTC-USDT"
BTC_COIN, BTC_CALL = "BINANCE-PERP-BTC-USD-COINM", "BINANCE-OPT-BTC-USDT-270326-90000-C"
ETH_CALL = "BINANCE-OPT-ETH-USDT-270326-3000-C"
# host, path, symbol, stream symbol, REST host, tick, lot, price
EACH = [
    ("spot_stream", "/stream", BTC_SPOT, "btcusdt", "spot_rest", "0.01", "0.001", 90_000),
    ("usdm_stream", "/public/stream", BTC_PERP, "btcusdt", "usdm_rest", "0.1", "0.001", 90_000),
    ("coinm_stream", "/stream", BTC_COIN, "btcusd_perp", "coinm_rest", "0.1", "1", 90_000),
    ("options_stream", "/public/stream", BTC_CALL, "btc-270326-90000-c", "options_rest", "5", "0.01", 4_000),
]
KINDS = pytest.mark.parametrize(
    ("host", "path", "symbol", "name", "rest", "tick", "lot", "price"), EACH, ids=["spot", "usdm", "coinm", "options"]
)


def subscribe(client: Any, *names: str, ident: Any = 1) -> list[Any]:
    found: list[Any] = client.send({"method": "SUBSCRIBE", "params": list(names), "id": ident})
    return found


class TestControlFrames:
    def test_a_session_like_the_recorded_one(self, venue: Any, captured_frames: Any) -> None:
        frames = captured_frames("spot-control")
        client = venue.connect("spot_stream", "/stream")
        assert client.send(frames[0]) == [frames[1]]
        assert client.send(frames[2]) == [{"result": ["btcusdt@aggTrade", "btcusdt@depth"], "id": 3}]
        assert client.send(frames[4]) == [frames[5]]
        assert client.send(frames[2]) == [frames[3]]

    def test_what_is_no_request_is_refused_as_recorded(self, venue: Any, captured_frames: Any) -> None:
        _, _, _, _, _, _, unknown_method, no_json, *_ = captured_frames("spot-control")
        client = venue.connect("spot_stream", "/ws")
        assert client.send("hello") == [no_json]
        answer = client.send({"method": "SUBSCRIB", "params": [], "id": 1})
        assert answer[0]["code"] == unknown_method["code"]
        assert answer[0]["msg"].startswith("Invalid request: unknown variant SUBSCRIB, expected one of `SUBSCRIBE`")
        assert client.send("[]")[0]["code"] == 2
        assert client.send({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1})[0]["code"] == 2
        assert client.line.closed is None

    @pytest.mark.parametrize("name", ["nopeusdt@depth", "btcusdt@nothing", "BTCUSDT@depth@100ms", "0"])
    def test_an_unknown_stream_is_acknowledged_and_silent(self, venue: Any, name: str) -> None:
        client = venue.connect("spot_stream", "/ws")
        assert subscribe(client, name) == [{"result": None, "id": 1}]
        assert client.send({"method": "LIST_SUBSCRIPTIONS", "id": 2}) == [{"result": [name], "id": 2}]
        venue.crowd(BTC_SPOT, "BUY", "1", "90000")
        assert client.after(2000) == []

    def test_streams_in_the_url_need_no_frame(self, venue: Any) -> None:
        combined = venue.connect("spot_stream", "/stream?streams=btcusdt@depth@100ms/btcusdt@trade")
        bare = venue.connect("spot_stream", "/ws/btcusdt@depth@100ms")
        encoded = venue.connect("spot_stream", "/ws/" + quote("btcusdt@depth@100ms", safe=""))
        venue.crowd(BTC_SPOT, "BUY", "1", "90000")
        wrapped = combined.after(100)
        assert [frame["stream"] for frame in wrapped] == ["btcusdt@depth@100ms"]
        assert bare.line.take() == encoded.line.take() == [wrapped[0]["data"]]

    def test_unsubscribing_ends_a_stream(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws/btcusdt@trade")
        assert client.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 7}) == [
            {"result": None, "id": 7}
        ]
        venue.crowd(BTC_SPOT, "SELL", "1", "90000")
        venue.crowd(BTC_SPOT, "BUY", "1")
        assert client.after(200) == []

    def test_the_combined_property_can_be_changed(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws/btcusdt@trade")
        assert client.send({"method": "SET_PROPERTY", "params": ["combined", True], "id": 1}) == [
            {"result": None, "id": 1}
        ]
        venue.crowd(BTC_SPOT, "SELL", "1", "90000")
        venue.crowd(BTC_SPOT, "BUY", "1")
        assert client.line.take()[0]["stream"] == "btcusdt@trade"

    def test_a_path_that_is_not_there_is_not_upgraded(self, venue: Any) -> None:
        for host, target in (("spot_stream", "/public/ws"), ("spot_stream", "/"), ("usdm_stream", "/other/ws")):
            refused = venue.sandbox.connect(host, target, {}, object())
            assert isinstance(refused, HttpResponse)
            assert refused.status == 404


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "name", "heard"),
        [
            ("/public/ws", "btcusdt@depth@100ms", True),
            ("/public/ws", "btcusdt@bookTicker", True),
            ("/public/ws", "btcusdt@aggTrade", False),
            ("/market/ws", "btcusdt@aggTrade", True),
            ("/market/ws", "btcusdt@depth@100ms", False),
            ("/private/ws", "btcusdt@depth@100ms", False),
            ("/ws", "btcusdt@depth@100ms", True),
            ("/ws", "btcusdt@aggTrade", False),
        ],
    )
    def test_usdm_serves_a_stream_on_its_own_path_only(self, venue: Any, path: str, name: str, heard: bool) -> None:
        client = venue.connect("usdm_stream", path)
        assert subscribe(client, name) == [{"result": None, "id": 1}]
        venue.crowd(BTC_PERP, "SELL", "1", "90000")
        venue.crowd(BTC_PERP, "BUY", "0.5")
        assert bool(client.after(300)) is heard

    def test_coinm_serves_everything_on_one_path(self, venue: Any) -> None:
        client = venue.connect("coinm_stream", "/ws")
        subscribe(client, "btcusd_perp@depth@100ms", "btcusd_perp@aggTrade")
        venue.crowd(BTC_COIN, "SELL", "5", "90000")
        venue.crowd(BTC_COIN, "BUY", "2")
        assert {frame["e"] for frame in client.after(300)} == {"depthUpdate", "aggTrade"}


class TestDepth:
    def change(self, venue: Any, symbol: str, random: Random, tick: str, lot: str, price: int) -> None:
        """One order of the crowd, near the price; some cross."""
        side = random.choice(["BUY", "SELL"])
        offset = random.randrange(-3, 30) * (1 if side == "SELL" else -1)
        at = Decimal(price) + offset * Decimal(tick)
        venue.crowd(symbol, side, str(Decimal(lot) * random.randrange(1, 50)), str(at))

    @KINDS
    def test_a_book_can_be_rebuilt_by_the_venues_rules(
        self, venue: Any, host: str, path: str, symbol: str, name: str, rest: str, tick: str, lot: str, price: int
    ) -> None:
        random = Random(7)
        for _ in range(30):
            self.change(venue, symbol, random, tick, lot, price)
        client = venue.connect(host, path)
        subscribe(client, f"{name}@depth@100ms")
        frames: list[Any] = []
        snapshot: Any = None
        for step in range(120):
            self.change(venue, symbol, random, tick, lot, price)
            if step == 40:  # in the middle of a frame's interval
                snapshot = venue.get(rest, "depth", symbol=venue.native(symbol), limit=1000)
            frames += [frame["data"] for frame in client.after(random.choice([0, 0, 50]))]
        frames += [frame["data"] for frame in client.after(100)]
        book = self.rebuilt(snapshot, frames, spot=rest == "spot_rest")
        final = venue.get(rest, "depth", symbol=venue.native(symbol), limit=1000)
        assert book == self.sides(final)
        assert frames[-1]["u"] == final["lastUpdateId"]

    @staticmethod
    def sides(snapshot: Any) -> tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]:
        bids, asks = ({Decimal(p): Decimal(q) for p, q in snapshot[side]} for side in ("bids", "asks"))
        return bids, asks

    def rebuilt(self, snapshot: Any, frames: list[Any], *, spot: bool) -> Any:
        """By the rules of the sheet, section 5.4, each step asserted."""
        last = snapshot["lastUpdateId"]
        sides = self.sides(snapshot)
        assert frames[0]["U"] <= last, "the snapshot is older than the stream"
        kept = [frame for frame in frames if (frame["u"] > last if spot else frame["u"] >= last)]
        first = kept[0]
        assert first["U"] <= last + (1 if spot else 0) <= first["u"] or first["u"] == last
        previous: Any = None
        for frame in kept:
            if previous is not None:
                assert frame["U"] == previous["u"] + 1 if spot else frame["pu"] == previous["u"]
            for side, key in zip(sides, ("b", "a"), strict=True):
                for text, quantity in frame[key]:
                    if Decimal(quantity):
                        side[Decimal(text)] = Decimal(quantity)
                    else:
                        side.pop(Decimal(text), None)
            previous = frame
        return sides

    def test_spot_numbers_are_contiguous_and_those_of_futures_are_not(self, venue: Any) -> None:
        for host, path, symbol, name, _, tick, lot, price in EACH:
            client = venue.connect(host, path)
            subscribe(client, f"{name}@depth@100ms")
            frames = []
            for step in range(10):
                venue.crowd(symbol, "BUY", lot, str(Decimal(price) - step * Decimal(tick)))
                frames += [frame["data"] for frame in client.after(100)]
            assert len(frames) == 10
            contiguous = all(after["U"] == before["u"] + 1 for before, after in itertools.pairwise(frames))
            assert contiguous is (host == "spot_stream")
            assert all(frame["U"] > frame["pu"] for frame in frames if "pu" in frame)

    def test_changes_of_a_tenth_of_a_second_are_one_frame(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws/btcusdt@depth@100ms")
        for price in ("90000", "89999", "89998"):
            venue.crowd(BTC_SPOT, "BUY", "1", price)
        venue.crowd(BTC_SPOT, "BUY", "0.5", "89999")
        assert client.after(50) == []
        (frame,) = client.after(50)
        assert frame["b"] == [
            ["90000.00000000", "1.00000000"],
            ["89999.00000000", "1.50000000"],
            ["89998.00000000", "1.00000000"],
        ]
        assert frame["u"] == frame["U"] + 3
        assert client.after(500) == [], "a frame is sent only when something changed"

    def test_a_level_that_is_gone_has_quantity_zero(self, venue: Any) -> None:
        client = venue.connect("usdm_stream", "/public/ws/btcusdt@depth@100ms")
        venue.crowd(BTC_PERP, "SELL", "1", "90000")
        client.after(100)
        venue.crowd(BTC_PERP, "BUY", "1")
        (frame,) = client.after(100)
        assert frame["a"] == [["90000.00", "0.000"]]

    @pytest.mark.parametrize(
        ("host", "path", "name", "intervals", "usual"),
        [
            ("spot_stream", "/ws", "btcusdt", (100, 1000), 1000),
            ("usdm_stream", "/public/ws", "btcusdt", (100, 250, 500), 250),
            ("coinm_stream", "/ws", "btcusd_perp", (100, 250, 500), 250),
            ("options_stream", "/public/ws", "btc-270326-90000-c", (100, 500), 500),
        ],
    )
    def test_each_family_has_its_intervals(
        self, make_venue: Any, host: str, path: str, name: str, intervals: tuple[int, ...], usual: int
    ) -> None:
        symbol = next(row[2] for row in EACH if row[0] == host)
        for suffix, interval in [("", usual), *((f"@{interval}ms", interval) for interval in intervals)]:
            venue = make_venue()
            client = venue.connect(host, f"{path}/{name}@depth{suffix}")
            venue.crowd(symbol, "BUY", "1", "4000")
            assert client.after(interval - 50) == []
            assert len(client.after(50)) == 1
        venue = make_venue()
        client = venue.connect(host, f"{path}/{name}@depth@300ms")
        venue.crowd(symbol, "BUY", "1", "4000")
        assert client.after(3000) == []

    def test_partial_books_hold_the_best_levels(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws/btcusdt@depth5@100ms")
        futures = venue.connect("usdm_stream", "/public/ws/btcusdt@depth5@100ms")
        for offset in range(7):
            venue.crowd(BTC_SPOT, "BUY", "1", str(90_000 - offset))
            venue.crowd(BTC_PERP, "BUY", "1", str(90_000 - offset))
        (frame,) = client.after(100)
        assert frame.keys() == {"lastUpdateId", "bids", "asks"}
        assert [level[0] for level in frame["bids"]] == [f"{90_000 - n}.00000000" for n in range(5)]
        futures.session.tick(venue.clock.ms)
        (frame,) = futures.line.take()
        assert (frame["e"], len(frame["b"])) == ("depthUpdate", 5)

    def test_a_symbol_outside_ascii(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/stream")
        subscribe(client, "币安人生usdt@depth@100ms")
        venue.crowd("BINANCE-SPOT-币安人生-USDT", "BUY", "10", "0.5")
        (frame,) = client.after(100)
        assert (frame["stream"], frame["data"]["s"]) == ("币安人生usdt@depth@100ms", "币安人生USDT")
        assert "币安人生" in client.line.raw[-1]

    @pytest.mark.parametrize(
        ("index", "captured"),
        [(0, "spot-nknusdt"), (1, "usdm-market-2026"), (2, "coinm-bchusd_perp"), (3, "options-market-2026")],
    )
    def test_frames_have_the_recorded_keys(
        self, venue: Any, captured_frames: Any, unlike: Any, index: int, captured: str
    ) -> None:
        host, path, symbol, name, _, _, lot, price = EACH[index]
        client = venue.connect(host, path)
        market = venue.connect(host, path.replace("public", "market"))
        subscribe(client, f"{name}@depth@100ms", f"{name}@bookTicker", f"{name}@trade", f"{name}@optionTrade")
        subscribe(market, f"{name}@aggTrade", f"{name}@markPrice@1s")
        venue.crowd(symbol, "SELL", lot, str(price))
        venue.crowd(symbol, "BUY", lot, str(price - 100))
        venue.crowd(symbol, "BUY", lot)
        frames = client.after(1100) + market.line.take()
        known: dict[str, Any] = {}
        for frame in captured_frames(captured):
            if isinstance(frame.get("data"), dict):
                known.setdefault(frame["data"].get("e", "bookTicker"), frame["data"])
        compared = set()
        for frame in frames:
            event = frame["data"].get("e", "bookTicker")
            if event not in known:
                continue
            compared.add(event)
            newer = {"st", "ps", "nq"} if index == 2 else set()  # COIN-M was recorded before the merger
            ours = {key: value for key, value in frame["data"].items() if key not in newer}
            assert ours.keys() == known[event].keys() - newer, event
            assert not unlike(ours, known[event])
        assert {"depthUpdate", "bookTicker"} <= compared


class TestBookTicker:
    def test_it_follows_the_top_of_the_book_at_once(self, venue: Any) -> None:
        client = venue.connect("usdm_stream", "/public/ws/btcusdt@bookTicker")
        venue.crowd(BTC_PERP, "BUY", "1", "89000")
        venue.crowd(BTC_PERP, "BUY", "1", "88000")
        venue.crowd(BTC_PERP, "SELL", "2", "90000")
        frames = client.line.take()
        assert [(frame["b"], frame["B"], frame["a"], frame["A"]) for frame in frames] == [
            ("89000.00", "1.000", "0.00", "0.000"),
            ("89000.00", "1.000", "90000.00", "2.000"),
        ]

    @KINDS
    def test_it_agrees_with_the_depth_frame_of_the_same_id(
        self, venue: Any, host: str, path: str, symbol: str, name: str, rest: str, tick: str, lot: str, price: int
    ) -> None:
        client = venue.connect(host, path)
        subscribe(client, f"{name}@depth@100ms", f"{name}@bookTicker")
        best: dict[int, tuple[str, str]] = {}
        seen = 0
        for step in range(12):
            venue.crowd(symbol, "BUY", lot, str(price + step * Decimal(tick)))
            for frame in client.after(100):
                data = frame["data"]
                if frame["stream"].endswith("@bookTicker"):
                    best[data["u"]] = (data["b"], data["B"])
                else:
                    assert best[data["u"]] == (data["b"][0][0], data["b"][0][1])
                    seen += 1
        assert seen == 12


class TestTrades:
    def test_the_sign_of_m_is_the_makers(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws/btcusdt@trade")
        venue.crowd(BTC_SPOT, "SELL", "1", "90000")
        venue.crowd(BTC_SPOT, "BUY", "0.25")
        venue.crowd(BTC_SPOT, "BUY", "1", "89000")
        venue.crowd(BTC_SPOT, "SELL", "0.5", "89000")
        bought, sold = client.line.take()
        assert (bought["p"], bought["q"], bought["m"]) == ("90000.00000000", "0.25000000", False)
        assert (sold["p"], sold["q"], sold["m"]) == ("89000.00000000", "0.50000000", True)
        assert [row["id"] for row in venue.get("spot_rest", "trades", symbol="BTCUSDT")] == [bought["t"], sold["t"]]

    def test_aggregates_of_spot_come_at_once_and_those_of_futures_after_their_window(self, venue: Any) -> None:
        spot = venue.connect("spot_stream", "/ws/btcusdt@aggTrade")
        futures = venue.connect("usdm_stream", "/market/ws/btcusdt@aggTrade")
        for symbol in (BTC_SPOT, BTC_PERP):
            for _ in range(2):
                venue.crowd(symbol, "SELL", "0.2", "90000")
            venue.crowd(symbol, "BUY", "0.4")
        (frame,) = spot.after(50)
        assert (frame["q"], frame["l"] - frame["f"], frame["m"]) == ("0.40000000", 1, False)
        assert futures.line.take() == []
        (frame,) = futures.after(50)
        assert (frame["q"], frame["nq"], frame["l"] - frame["f"]) == ("0.400", "0.400", 1)

    def test_aggregate_ids_of_stream_and_rest_are_the_same(self, venue: Any) -> None:
        venue.crowd(BTC_SPOT, "SELL", "5", "90000")
        venue.crowd(BTC_SPOT, "BUY", "0.1")
        client = venue.connect("spot_stream", "/ws/btcusdt@aggTrade")
        venue.crowd(BTC_SPOT, "BUY", "0.2")
        venue.crowd(BTC_SPOT, "BUY", "0.3")
        streamed = client.after(100)
        rows = venue.get("spot_rest", "aggTrades", symbol="BTCUSDT")
        assert [(frame["a"], frame["q"], frame["f"]) for frame in streamed] == [
            (row["a"], row["q"], row["f"]) for row in rows[1:]
        ]
        assert [row["a"] for row in rows] == list(range(rows[0]["a"], rows[0]["a"] + 3))

    def test_option_trades_by_underlying_and_by_symbol(self, venue: Any) -> None:
        underlying = venue.connect("options_stream", "/public/ws/btcusdt@optionTrade")
        single = venue.connect("options_stream", "/public/ws/eth-270326-3000-c@optionTrade")
        put = "BINANCE-OPT-BTC-USDT-270326-90000-P"
        for symbol in (BTC_CALL, put, ETH_CALL):
            venue.crowd(symbol, "SELL", "1", "500")
            venue.crowd(symbol, "BUY", "0.5")
        assert [frame["s"] for frame in underlying.line.take()] == ["BTC-270326-90000-C", "BTC-270326-90000-P"]
        (frame,) = single.line.take()
        assert (frame["s"], frame["S"], frame["m"], frame["X"]) == ("ETH-270326-3000-C", "BUY", False, "MARKET")


class TestMarkPrice:
    def test_it_comes_every_second_whether_it_changes_or_not(self, venue: Any) -> None:
        client = venue.connect("usdm_stream", "/market/ws/btcusdt@markPrice@1s")
        frames = client.after(3000)
        assert 3 <= len(frames) <= 4
        assert {frame["p"] for frame in frames} == {f"{venue.engine.mark_price(BTC_PERP):.8f}"}


class TestUpkeep:
    @pytest.mark.parametrize(
        ("host", "path", "every_s"),
        [
            ("spot_stream", "/ws", 20),
            ("usdm_stream", "/public/ws", 180),
            ("coinm_stream", "/ws", 180),
            ("options_stream", "/ws", 300),
        ],
    )
    def test_the_venue_pings(self, venue: Any, host: str, path: str, every_s: int) -> None:
        client = venue.connect(host, path)
        client.session.tick(venue.clock.ms + every_s * 1000 - 1)
        assert client.line.pings == []
        client.session.tick(venue.clock.ms + every_s * 1000)
        assert len(client.line.pings) == 1

    def test_a_client_that_does_not_answer_is_cut_off(self, venue: Any) -> None:
        silent, alive, chatty = (venue.connect("spot_stream", "/ws") for _ in range(3))
        for _ in range(85):
            venue.clock.ms += 1000
            for client in (silent, alive, chatty):
                client.session.tick(venue.clock.ms)
            chatty.session.pong(b"unsolicited")
            if alive.line.pings:
                alive.session.pong(alive.line.pings.pop())
        assert silent.line.closed == 1008
        assert chatty.line.closed == 1008, "an unsolicited pong keeps nothing alive"
        assert alive.line.closed is None

    @pytest.mark.parametrize(("host", "path", "most"), [("spot_stream", "/ws", 5), ("usdm_stream", "/public/ws", 10)])
    def test_too_many_messages_end_the_connection(self, venue: Any, host: str, path: str, most: int) -> None:
        client = venue.connect(host, path)
        for number in range(most):
            client.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        assert client.line.closed is None
        assert client.send({"method": "LIST_SUBSCRIPTIONS", "id": most}) == []
        assert client.line.closed == 1008
        patient = venue.connect(host, path)
        for number in range(3 * most):
            venue.clock.ms += 1000 // most + 1
            patient.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        assert patient.line.closed is None

    def test_too_many_streams(self, make_venue: Any) -> None:
        limits = SandboxLimits()
        limits.streams_per_connection[Family.OPTIONS] = 2
        venue = make_venue(limits)
        client = venue.connect("options_stream", "/public/ws")
        assert subscribe(client, "a@depth", "b@depth") == [{"result": None, "id": 1}]
        assert subscribe(client, "c@depth")[0]["code"] == 2
        assert client.line.closed == 1008
        refused = venue.sandbox.connect("options_stream", "/public/ws/a@depth/b@depth/c@depth", {}, object())
        assert isinstance(refused, HttpResponse)

    def test_a_connection_lives_a_day(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(connection_life_ms=10_000))
        client = venue.connect("spot_stream", "/ws/btcusdt@trade")
        client.after(9_950)
        assert client.line.closed is None
        client.after(50)
        assert client.line.closed == 1001
        assert SandboxLimits().connection_life_ms == 86_400_000

    def test_a_closed_connection_is_forgotten(self, venue: Any) -> None:
        client = venue.connect("spot_stream", "/ws/btcusdt@trade")
        other = venue.connect("spot_stream", "/ws/btcusdt@trade")
        client.session.closed()
        venue.crowd(BTC_SPOT, "SELL", "1", "90000")
        venue.crowd(BTC_SPOT, "BUY", "1")
        assert client.line.take() == []
        assert len(other.line.take()) == 1

    def test_a_shutdown_is_announced_to_spot(self, venue: Any, captured_frames: Any) -> None:
        combined, bare = venue.connect("spot_stream", "/stream"), venue.connect("spot_stream", "/ws")
        futures = venue.connect("usdm_stream", "/public/ws")
        venue.sandbox.announce_shutdown()
        recorded = captured_frames("spot-control")[-1]
        (frame,) = combined.line.take()
        assert frame == {**recorded, "data": {**recorded["data"], "E": venue.clock.ms}}
        assert bare.line.take() == [frame["data"]]
        assert futures.line.take() == []


def test_a_frame_is_serialised_once_for_everybody(venue: Any) -> None:
    lines = [venue.connect("spot_stream", "/ws/btcusdt@depth@100ms").line for _ in range(3)]
    texts: list[Any] = []
    for line in lines:
        line.send = texts.append
    venue.crowd(BTC_SPOT, "BUY", "1", "90000")
    venue.clock.ms += 100
    venue.sandbox.advance(venue.clock.ms)
    assert len(texts) == 3
    assert all(text is texts[0] for text in texts)
    assert json.loads(texts[0])["e"] == "depthUpdate"


def test_ids_grow_across_restarts_of_the_sandbox(make_venue: Any) -> None:
    first, second = make_venue(), make_venue()
    second.clock.ms += 60_000
    later = type(second.sandbox)(second.engine, second.clock)
    for symbol in (BTC_SPOT, BTC_PERP, BTC_COIN, BTC_CALL):
        change_id, _, _ = first.engine.depth(symbol, 1)
        assert later.update_id(symbol, change_id) > first.sandbox.update_id(symbol, change_id + 50)
        assert later.update_id(symbol, 10**9) < 2**53
