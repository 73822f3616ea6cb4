"""Spot for everybody: REST and the v2 stream."""

import re
import zlib
from decimal import Decimal
from random import Random

import pytest

from astra.sandbox import HttpResponse

BTC = "KRAKEN-SPOT-BTC-USD"
PEPE = "KRAKEN-SPOT-PEPE-USD"


def one_pair(result):
    (row,) = result.values()
    return row


class TestRest:
    def test_asset_pairs_have_the_venues_row(self, venue, capture, unlike):
        ours = venue.public("AssetPairs", pair="XBTUSDT")
        theirs = capture("spot-assetpairs")["result"]
        assert list(ours) == list(theirs) == ["XBTUSDT"]
        row = dict(ours["XBTUSDT"])
        assert row.pop("execution_venue") == "international"  # newer than the recording
        assert unlike(row, theirs["XBTUSDT"]) == []
        assert row.keys() == theirs["XBTUSDT"].keys()
        assert row["tick_size"] == theirs["XBTUSDT"]["tick_size"]
        assert row["ordermin"] == theirs["XBTUSDT"]["ordermin"]

    @pytest.mark.parametrize(
        ("name", "key", "base", "quote"),
        [
            ("XBTUSD", "XXBTZUSD", "XXBT", "ZUSD"),
            ("ETH/XBT", "XETHXXBT", "XETH", "XXBT"),
            ("XDGUSD", "XDGUSD", "XXDG", "ZUSD"),
            ("ZEURZUSD", "ZEURZUSD", "ZEUR", "ZUSD"),
            ("SOLUSD", "SOLUSD", "SOL", "ZUSD"),
        ],
    )
    def test_a_pair_is_found_under_any_spelling_and_answered_by_its_id(self, venue, name, key, base, quote):
        ((found, row),) = venue.public("AssetPairs", pair=name).items()
        assert (found, row["base"], row["quote"]) == (key, base, quote)

    def test_tokenised_stocks_are_listed_only_when_asked_for(self, venue, capture, unlike):
        assert "AAPLxUSD" not in venue.public("AssetPairs")
        listed = venue.public("AssetPairs", aclass_base="tokenized_asset")
        theirs = capture("spot-assetpairs-tokenized")["result"]
        assert listed.keys() == theirs.keys()
        assert unlike(listed["AAPLxUSD"], theirs["AAPLxUSD"]) == []

    def test_asset_version_1_gives_modern_names(self, venue):
        row = venue.public("AssetPairs", pair="XBTUSD", assetVersion=1)["BTC/USD"]
        assert (row["base"], row["quote"]) == ("BTC", "USD")
        assert "BTC" in venue.public("Assets", assetVersion=1)

    def test_a_pair_that_takes_no_orders_says_so(self, venue):
        assert one_pair(venue.public("AssetPairs", pair="XLMEUR"))["status"] == "cancel_only"

    def test_assets_depth_trades_ticker_time_and_status_have_the_venues_shapes(self, venue, capture, unlike):
        venue.crowd(BTC, "SELL", "1.5", "90000.1")
        venue.crowd(BTC, "BUY", "0.25", "90000.1")
        venue.crowd(BTC, "BUY", "2", "89999.9")
        assert unlike(one_pair(venue.public("Depth", pair="XBTUSD")), one_pair(capture("spot-depth")["result"])) == []
        ours, theirs = venue.public("Trades", pair="XBTUSD"), capture("spot-trades")["result"]
        assert isinstance(ours["last"], str)
        assert unlike(ours["XXBTZUSD"], theirs["XBTUSDT"]) == []
        for own, their in zip(ours["XXBTZUSD"][0], theirs["XBTUSDT"][0], strict=True):
            assert type(own) is type(their)
        ticker = one_pair(venue.public("Ticker", pair="XBTUSD"))
        assert unlike(ticker, one_pair(capture("spot-ticker")["result"])) == []
        assert ticker.keys() == one_pair(capture("spot-ticker")["result"]).keys()
        for method, name in (("Time", "spot-time"), ("SystemStatus", "spot-systemstatus")):
            assert unlike(venue.public(method), capture(name)["result"]) == []
        ours, theirs = venue.public("Assets")["XXBT"], capture("spot-assets-documented")["result"]["XXBT"]
        assert unlike(ours, theirs | {"margin_rate": 0.01}) == []

    def test_depth_is_the_engines_book_padded_as_the_venue_pads(self, venue):
        venue.crowd(BTC, "BUY", "0.136", "90000.1")
        venue.crowd(BTC, "BUY", "1.00000001", "90000.0")
        (level, other) = venue.public("Depth", pair="XBTUSD")["XXBTZUSD"]["bids"]
        assert level[:2] == ["90000.10000", "0.136"]
        assert other[:2] == ["90000.00000", "1.00000001"]
        assert len(venue.public("Depth", pair="XBTUSD", count=1)["XXBTZUSD"]["bids"]) == 1

    def test_trades_go_on_from_a_cursor(self, venue):
        for quantity in ("0.1", "0.2", "0.3"):
            venue.crowd(BTC, "SELL", quantity, "90000")
            venue.crowd(BTC, "BUY", quantity, "90000")
            venue.clock.ms += 10
        first = venue.public("Trades", pair="XBTUSD", since=0, count=2)
        assert [row[1] for row in first["XXBTZUSD"]] == ["0.10000000", "0.20000000"]
        rest = venue.public("Trades", pair="XBTUSD", since=first["last"])
        assert [row[1] for row in rest["XXBTZUSD"]] == ["0.30000000"]
        ids = [row[6] for row in first["XXBTZUSD"] + rest["XXBTZUSD"]]
        assert ids == list(range(ids[0], ids[0] + 3))
        assert rest["XXBTZUSD"][0][3] == "b"

    def test_errors_come_with_status_200(self, venue, capture):
        assert venue.public_answer("Depth", pair="NOPEUSD") == capture("error-spot-equery-unknown-asset-pair")
        assert venue.public_answer("Nope")["error"] == ["EGeneral:Unknown method"]
        assert venue.public_answer("AddOrder")["error"] == ["EGeneral:Unknown method"]
        assert venue.public_answer("Depth")["error"] == ["EGeneral:Invalid arguments:pair"]
        assert venue.public_answer("Depth", pair="XBTUSD", count=501)["error"] == ["EGeneral:Invalid arguments:count"]
        (error,) = venue.public_answer("Depth", pear="XBTUSD")["error"]
        assert error.startswith("EGeneral:Invalid arguments:pear")
        assert "pair" in error

    def test_an_address_that_asks_too_often_is_told_when_to_come_again(self, venue):
        for _ in range(30):
            venue.public("Time")
        (error,) = venue.public_answer("Time")["error"]
        retry = int(error.removeprefix("EService:Throttled: "))
        venue.clock.ms = retry * 1000
        venue.public("Time")


def crc(listing_digits, bids, asks):
    price_digits, qty_digits = listing_digits
    text = ""
    for level in asks[:10] + bids[:10]:
        for value, digits in ((level["price"], price_digits), (level["qty"], qty_digits)):
            text += f"{Decimal(value):.{digits}f}".replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


class Book:
    """A client's book, by the venue's rules: entries in order, cut to the depth, checksum."""

    def __init__(self, depth, digits):
        self.depth, self.digits = depth, digits
        self.bids, self.asks = {}, {}

    def apply(self, frame):
        (row,) = frame["data"]
        for side, levels in ((self.bids, row["bids"]), (self.asks, row["asks"])):
            if frame["type"] == "snapshot":
                side.clear()
            for level in levels:
                if level["qty"]:
                    side[level["price"]] = level["qty"]
                else:
                    del side[level["price"]]
        self.bids = dict(sorted(self.bids.items(), reverse=True)[: self.depth])
        self.asks = dict(sorted(self.asks.items())[: self.depth])
        assert row["checksum"] == crc(self.digits, *(self.rows(side) for side in (self.bids, self.asks)))

    @staticmethod
    def rows(side):
        return [{"price": price, "qty": qty} for price, qty in side.items()]


class TestBook:
    def test_the_checksum_rule_is_the_one_of_the_recordings(self, captured_frames):
        """The test's own book verifies every recorded frame: what it then demands of the sandbox is right."""
        book = Book(10, (1, 8))
        frames = [frame for frame in captured_frames("spot-book-v2-btcusd") if frame.get("channel") == "book"]
        for frame in frames:
            book.apply(frame)
        assert len(frames) == 341

    def test_frames_look_like_the_recorded_ones(self, venue, captured_frames, unlike):
        recorded = [frame for frame in captured_frames("spot-book-v2-btcusd") if frame.get("channel") == "book"]
        venue.crowd(BTC, "BUY", "1", "90000")
        client = venue.connect()
        ack, snapshot = client.subscribe("book", symbol=["BTC/USD"])
        documented = captured_frames("spot-public-documented")
        assert unlike(ack, documented[0]) == []
        assert ack.keys() == documented[0].keys()
        snapshot["data"][0].pop("timestamp")  # newer than the recording
        assert unlike(snapshot, recorded[0]) == []
        venue.crowd(BTC, "SELL", "1", "90000.1")
        (update,) = client.line.take()
        assert unlike(update, recorded[1]) == []
        assert update["data"][0].keys() == recorded[1]["data"][0].keys()

    @pytest.mark.parametrize("depth", [10, 25, 1000])
    def test_a_followed_book_is_the_engines_and_every_checksum_holds(self, venue, depth):
        random = Random(depth)
        client = venue.connect()
        for level in range(30):
            venue.crowd(BTC, "BUY", "0.5", f"{90000 - level}.0")
            venue.crowd(BTC, "SELL", "0.5", f"{90001 + level}.0")
        book = Book(depth, (1, 8))
        frames = client.subscribe("book", symbol=["BTC/USD"], depth=depth)[1:]
        for _ in range(400):
            side = random.choice(["BUY", "SELL"])
            quantity = f"0.{random.randrange(1, 99999999):08d}"
            offset = random.randrange(-3, 40)
            price = f"{90000 - offset if side == 'BUY' else 90001 + offset}.{random.randrange(10)}"
            venue.crowd(BTC, side, quantity, None if random.random() < 0.1 else price)
            frames += client.line.take()
        twice = 0
        for frame in frames:
            book.apply(frame)
            prices = [level["price"] for level in frame["data"][0]["bids"]]
            twice += len(prices) > len(set(prices))
        _, bids, asks = venue.engine.depth(BTC, depth)
        assert book.bids == {amount.price: amount.quantity for amount in bids}
        assert book.asks == {amount.price: amount.quantity for amount in asks}
        assert twice > 0, "now and then a price comes twice in a message"

    def test_a_level_that_is_pushed_out_of_scope_gets_no_delete(self, venue):
        for level in range(12):
            venue.crowd(BTC, "BUY", "1", f"{90000 - level}.0")
        client = venue.connect()
        client.subscribe("book", symbol=["BTC/USD"])
        venue.crowd(BTC, "BUY", "1", "90000.5")
        (frame,) = client.line.take()
        assert frame["data"][0]["bids"] == [{"price": Decimal("90000.5"), "qty": Decimal("1.00000000")}]

    def test_a_level_that_comes_into_scope_is_told_with_the_one_that_goes(self, venue):
        for level in range(12):
            venue.crowd(BTC, "BUY", "1", f"{90000 - level}.0")
        client = venue.connect()
        client.subscribe("book", symbol=["BTC/USD"])
        venue.crowd(BTC, "SELL", "1")
        frames = [frame for frame in client.line.take() if frame["channel"] == "book"]
        assert [(level["price"], level["qty"]) for level in frames[0]["data"][0]["bids"]] == [
            (Decimal("90000.0"), 0),
            (Decimal("89990.0"), 1),
        ]

    def test_changes_out_of_scope_are_not_told(self, venue):
        for level in range(12):
            venue.crowd(BTC, "BUY", "1", f"{90000 - level}.0")
        client = venue.connect()
        client.subscribe("book", symbol=["BTC/USD"])
        venue.crowd(BTC, "BUY", "1", "89989.0")
        assert client.line.take() == []

    def test_small_prices_are_written_with_an_exponent_and_checked_without(self, venue):
        venue.crowd(PEPE, "BUY", "120000.5", "0.000004905")
        client = venue.connect()
        _, snapshot = client.subscribe("book", symbol=["PEPE/USD"])
        assert '"price":4.905e-06,"qty":120000.50000' in client.line.raw[-1]
        assert snapshot["data"][0]["checksum"] == zlib.crc32(b"4905" + b"12000050000")

    def test_unsubscribing_repeats_the_depth(self, venue):
        client = venue.connect()
        client.subscribe("book", symbol=["BTC/USD"], depth=25)
        (again,) = client.subscribe("book", symbol=["BTC/USD"], depth=10)
        assert (again["success"], again["error"]) == (False, "Already subscribed")
        gone = {"method": "unsubscribe", "params": {"channel": "book", "symbol": ["BTC/USD"]}, "req_id": 7}
        (refused,) = client.send(gone)
        assert refused["error"] == "Subscription Not Found"
        gone["params"]["depth"] = 25
        (left,) = client.send(gone)
        assert left["success"] is True
        venue.crowd(BTC, "BUY", "1", "90000")
        assert client.line.take() == []


class TestUnified:
    """The Unified WebSocket, as far as it is documented: contracts in Spot's frames."""

    def test_a_followed_book_is_the_engines_and_every_checksum_holds(self, venue):
        contract = "KRAKEN-PERP-XBT-USD"
        client = venue.connect("unified_stream", "/v2/public")
        for level in range(12):
            venue.crowd(contract, "BUY", "0.5", f"{90000 - level}")
            venue.crowd(contract, "SELL", "0.5", f"{90001 + level}")
        frames = client.subscribe("book", asset_class="derivatives", symbol=["PF_XBTUSD"], depth=10)
        assert frames[0]["result"]["symbol"] == "PF_XBTUSD"
        for side in ("BUY", "SELL"):
            venue.crowd(contract, side, "0.7")
        book = Book(10, (0, 4))
        for frame in [*frames[1:], *client.line.take()]:
            book.apply(frame)
        _, bids, asks = venue.engine.depth(contract, 10)
        assert book.bids == {amount.price: amount.quantity for amount in bids}
        assert book.asks == {amount.price: amount.quantity for amount in asks}

    def test_every_request_names_the_asset_class(self, venue):
        client = venue.connect("unified_stream", "/v2/public")
        (refused,) = client.subscribe("trade", symbol=["PF_XBTUSD"])
        assert refused["error"] == "EGeneral:Invalid arguments:asset_class"
        (ack,) = client.subscribe("trade", asset_class="derivatives", symbol=["PF_XBTUSD"])
        assert ack["success"] is True
        (refused,) = client.subscribe("trade", asset_class="derivatives", symbol=["BTC/USD"])
        assert refused["error"] == "Currency pair not supported BTC/USD"

    def test_instruments_tell_the_precisions(self, venue):
        client = venue.connect("unified_stream", "/v2/public")
        _, frame = client.subscribe("instrument", asset_class="derivatives")
        rows = {row["symbol"]: row for row in frame["data"]["pairs"]}
        assert (rows["PF_XBTUSD"]["price_precision"], rows["PF_XBTUSD"]["qty_precision"]) == (0, 4)
        assert rows["PI_XBTUSD"]["qty_precision"] == 0
        assert "BTC/USD" not in rows


class TestStream:
    def test_a_connection_begins_with_the_status(self, venue, captured_frames, unlike):
        (hello,) = venue.connect().hello
        documented = next(f for f in captured_frames("spot-public-documented") if f.get("channel") == "status")
        assert unlike(hello, documented) == []
        assert hello["data"][0]["connection_id"] > 2**63

    def test_trades_carry_the_takers_side_and_consecutive_ids(self, venue, captured_frames, unlike):
        client = venue.connect()
        (ack,) = client.subscribe("trade", symbol=["BTC/USD"])
        assert ack["result"]["snapshot"] is False
        venue.crowd(BTC, "BUY", "0.5", "89999.9")
        venue.crowd(BTC, "BUY", "1", "90000")
        venue.crowd(BTC, "SELL", "1.25")
        (frame,) = client.line.take()
        documented = next(f for f in captured_frames("spot-public-documented") if f.get("channel") == "trade")
        assert unlike(frame, documented) == []
        first, second = frame["data"]
        assert [(t["side"], t["price"], t["qty"]) for t in (first, second)] == [
            ("sell", Decimal("90000.0"), 1),
            ("sell", Decimal("89999.9"), Decimal("0.25")),
        ]
        assert second["trade_id"] == first["trade_id"] + 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["timestamp"])
        _, snapshot = venue.connect().subscribe("trade", symbol=["BTC/USD"], snapshot=True)
        assert (snapshot["type"], snapshot["data"]) == ("snapshot", frame["data"])

    def test_tickers_follow_trades_or_the_best_prices(self, venue, captured_frames, unlike):
        trades, bbo = venue.connect(), venue.connect()
        _, snapshot = trades.subscribe("ticker", symbol=["BTC/USD"])
        documented = [f for f in captured_frames("spot-public-documented") if f.get("channel") == "ticker"]
        assert unlike(snapshot, documented[1]) == []
        bbo.subscribe("ticker", symbol=["BTC/USD"], event_trigger="bbo", snapshot=False)
        venue.crowd(BTC, "BUY", "1", "90000")
        assert trades.line.take() == []
        (update,) = bbo.line.take()
        assert (update["data"][0]["bid"], update["data"][0]["bid_qty"]) == (90000, 1)
        venue.crowd(BTC, "SELL", "0.5")
        (update,) = trades.line.take()
        assert (update["data"][0]["last"], update["data"][0]["volume"]) == (90000, Decimal("0.5"))

    def test_instruments_are_an_object_with_the_precisions(self, venue, captured_frames, unlike):
        client = venue.connect()
        ack, frame = client.subscribe("instrument")
        documented = captured_frames("spot-public-documented")
        assert unlike(ack, next(f for f in documented if "warnings" in (f.get("result") or {}))) == []
        theirs = documented[-1]
        assert unlike(frame, theirs) == []
        assert frame["data"]["pairs"][0].keys() == theirs["data"]["pairs"][0].keys()
        by_symbol = {row["symbol"]: row for row in frame["data"]["pairs"]}
        assert (by_symbol["BTC/USD"]["price_precision"], by_symbol["BTC/USD"]["qty_precision"]) == (1, 8)
        assert by_symbol["XLM/EUR"]["status"] == "cancel_only"
        assert "AAPLx/USD" not in by_symbol
        _, every = venue.connect().subscribe("instrument", include_tokenized_assets=True)
        assert "AAPLx/USD" in {row["symbol"] for row in every["data"]["pairs"]}

    def test_each_symbol_is_acknowledged_or_refused_for_itself(self, venue, captured_frames, unlike):
        client = venue.connect()
        frames = client.subscribe("trade", symbol=["BTC/USD", "XYZ/USD", "XBT/USD", "ETH/BTC"])
        assert [frame["success"] for frame in frames] == [True, False, False, True]
        documented = next(f for f in captured_frames("spot-public-documented") if f.get("success") is False)
        assert unlike(frames[1], documented) == []
        assert frames[1].keys() == documented.keys()
        assert frames[1]["error"] == "Currency pair not supported XYZ/USD"

    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ({"channel": "status"}, "Symbol(s) not found"),
            ({"channel": "nope"}, "Channel not found"),
            ({"channel": "book", "symbol": ["BTC/USD"], "depth": 11}, "Subscription depth not supported"),
            ({"channel": "book", "symbol": ["BTC/USD"], "deep": 10}, "Unsupported field: 'deep'"),
            ({"channel": "executions", "token": "x"}, "Private data and trading are unavailable on this endpoint"),
            ({"channel": "book"}, "EGeneral:Invalid arguments:symbol"),
        ],
    )
    def test_what_cannot_be_subscribed_is_refused_by_name(self, venue, params, error):
        (frame,) = venue.connect().send({"method": "subscribe", "params": params, "req_id": 3})
        assert (frame["success"], frame["req_id"]) == (False, 3)
        assert frame["error"].startswith(error)

    def test_pings_are_answered(self, venue, captured_frames, unlike):
        (pong,) = venue.connect().send({"method": "ping", "req_id": 42})
        documented = next(f for f in captured_frames("spot-public-documented") if f.get("method") == "pong")
        assert unlike(pong, documented) == []
        assert pong.keys() == documented.keys()

    def test_heartbeats_fill_silence_once_something_is_subscribed(self, venue):
        client = venue.connect()
        assert client.after(5000) == []
        client.subscribe("trade", symbol=["BTC/USD"])
        assert client.after(3000) == [{"channel": "heartbeat"}] * 3

    def test_a_connection_without_subscriptions_is_closed(self, venue):
        client = venue.connect()
        client.after(60_000)
        assert client.line.closed == 1000
        busy = venue.connect()
        busy.subscribe("trade", symbol=["BTC/USD"])
        busy.after(61_000)
        assert busy.line.closed is None

    def test_too_many_messages_and_nonsense_are_refused(self, venue):
        client = venue.connect()
        assert client.send("{")[0]["success"] is False
        frames = [client.send({"method": "ping"})[0] for _ in range(101)]
        assert frames[-1]["error"] == "Exceeded msg rate"

    def test_other_paths_are_not_there(self, venue):
        answer = venue.sandbox.connect("spot_stream", "/v1", {}, None)
        assert isinstance(answer, HttpResponse)
        assert answer.status == 404

    def test_spot_books_have_no_numbers(self, venue):
        with pytest.raises(LookupError):
            venue.sandbox.update_id(BTC, 1)
