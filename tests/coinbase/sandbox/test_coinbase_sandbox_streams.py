"""The stream hosts of Advanced Trade: numbering, books, trades, acknowledgements, errors, upkeep."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from astra.sandbox import HttpResponse

BTC, ETH = "COINBASE-SPOT-BTC-USD", "COINBASE-SPOT-ETH-USD"


def channels(frames: Sequence[Any]) -> list[str]:
    return [frame["channel"] for frame in frames]


class Book:
    """A book built from `l2_data` events."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "offer": {}}

    def apply(self, frames: Sequence[Any], product: str) -> None:
        for frame in frames:
            for event in frame["events"]:
                if frame["channel"] != "l2_data" or event["product_id"] != product:
                    continue
                if event["type"] == "snapshot":
                    self.sides = {"bid": {}, "offer": {}}
                for row in event["updates"]:
                    side = self.sides[row["side"]]
                    if Decimal(row["new_quantity"]):
                        side[Decimal(row["price_level"])] = Decimal(row["new_quantity"])
                    else:
                        side.pop(Decimal(row["price_level"]), None)


def engine_sides(venue: Any, symbol: str) -> dict[str, dict[Decimal, Decimal]]:
    _, bids, asks = venue.engine.depth(symbol, 10**6)
    return {"bid": {a.price: a.quantity for a in bids}, "offer": {a.price: a.quantity for a in asks}}


class TestNumbering:
    def test_all_frames_of_a_connection_are_numbered_together(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        frames = client.subscribe("level2", "BTC-USD", "ETH-USD")
        frames += client.subscribe("market_trades", "BTC-USD")
        frames += client.subscribe("heartbeats")
        for symbol in (BTC, ETH):
            venue.crowd(symbol, "BUY", "1", "100")
            venue.crowd(symbol, "SELL", "0.5", "100")
        frames += client.after(1200)
        assert [frame["sequence_num"] for frame in frames] == list(range(len(frames)))
        assert {"l2_data", "market_trades", "subscriptions", "heartbeats"} == set(channels(frames))

    def test_another_connection_begins_at_zero(self, venue: Any) -> None:
        for _ in range(2):
            assert venue.connect("advanced_stream").subscribe("level2", "BTC-USD")[0]["sequence_num"] == 0

    def test_errors_have_no_number(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        client.subscribe("heartbeats")
        assert client.subscribe("leve12", "BTC-USD") == [{"type": "error", "message": "authentication failure"}]
        assert client.subscribe("level2", "BTC-USD")[0]["sequence_num"] == 1


class TestBooks:
    def test_a_snapshot_comes_before_the_acknowledgement(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        venue.crowd(BTC, "BUY", "0.5", "89999.5")
        venue.crowd(BTC, "SELL", "0.25", "90000")
        ours = venue.connect("advanced_stream").subscribe("level2", "BTC-USD")
        assert channels(ours) == ["l2_data", "subscriptions"]
        recorded = captured_frames("spot-advanced-level2-trades")
        assert ours[0].keys() == recorded[0].keys()
        assert not unlike(ours[0], recorded[0])
        (event,) = ours[0]["events"]
        assert (event["type"], event["product_id"]) == ("snapshot", "BTC-USD")
        rows = [(row["side"], row["price_level"], row["new_quantity"]) for row in event["updates"]]
        assert rows == [("bid", "89999.5", "0.5"), ("offer", "90000", "0.25")]

    def test_changes_are_told_in_batches_and_give_the_engines_book(self, venue: Any) -> None:
        book, client = Book(), venue.connect("advanced_stream")
        for price in ("89990", "89991", "89992"):
            venue.crowd(BTC, "BUY", "1", price)
        book.apply(client.subscribe("level2", "BTC-USD"), "BTC-USD")
        venue.crowd(BTC, "SELL", "1.5", "89991")
        venue.crowd(BTC, "SELL", "2", "90001")
        venue.crowd(BTC, "BUY", "2", "90001")  # gone within the batch
        assert client.line.take() == []
        frames = client.after(100)
        assert channels(frames) == ["l2_data"]
        assert {"side": "offer", "price_level": "90001", "new_quantity": "0"}.items() <= frames[0]["events"][0][
            "updates"
        ][-1].items()
        book.apply(frames, "BTC-USD")
        assert book.sides == engine_sides(venue, BTC)

    def test_a_late_subscriber_gets_nothing_twice(self, venue: Any) -> None:
        first, late = venue.connect("advanced_stream"), venue.connect("advanced_stream")
        first.subscribe("level2", "BTC-USD")
        venue.crowd(BTC, "BUY", "1", "90000")
        book = Book()
        book.apply(late.subscribe("level2", "BTC-USD"), "BTC-USD")
        assert len(first.line.take()) == 1
        assert late.after(100) == []
        assert book.sides == engine_sides(venue, BTC)

    def test_an_alias_gives_the_stream_of_what_it_aliases(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        frames = client.subscribe("level2", "BTC-USDC", "USDT-USDC")
        assert [frame["events"][0]["product_id"] for frame in frames[:2]] == ["BTC-USD", "USDT-USDC"]
        assert frames[-1]["events"] == [{"subscriptions": {"level2": ["BTC-USD", "USDT-USDC"]}}]

    def test_contracts_are_the_unit_of_us_futures(self, venue: Any) -> None:
        venue.crowd("COINBASE-PERP-BTC-USD-BIP", "BUY", "7", "90000")
        frames = venue.connect("advanced_stream").subscribe("level2", "BIP-20DEC30-CDE")
        assert frames[0]["events"][0]["updates"][0]["new_quantity"] == "7"

    def test_resubscribing_gives_a_fresh_snapshot(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        client.subscribe("level2", "BTC-USD")
        gone = client.send({"type": "unsubscribe", "channel": "level2", "product_ids": ["BTC-USD"]})
        assert gone[0]["events"] == [{"subscriptions": {}}]
        venue.crowd(BTC, "BUY", "1", "90000")
        assert client.after(100) == []
        assert client.subscribe("level2", "BTC-USD")[0]["events"][0]["type"] == "snapshot"


class TestTrades:
    def test_the_makers_side_is_printed_newest_first(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        client = venue.connect("advanced_stream")
        client.subscribe("market_trades", "BTC-USD")
        venue.crowd(BTC, "BUY", "1", "90000")
        venue.crowd(BTC, "BUY", "1", "89999")
        venue.crowd(BTC, "SELL", "2", "89999")
        assert client.after(200) == []
        (frame,) = client.after(50)
        (event,) = frame["events"]
        assert [(row["price"], row["side"]) for row in event["trades"]] == [("89999", "BUY"), ("90000", "BUY")]
        newest, oldest = (int(row["trade_id"]) for row in event["trades"])
        assert newest == oldest + 1
        recorded = [f for f in captured_frames("spot-advanced-level2-trades") if f["channel"] == "market_trades"]
        assert not unlike(event, recorded[0]["events"][0])

    def test_a_snapshot_of_the_last_hundred_comes_first(self, venue: Any) -> None:
        for _ in range(120):
            venue.crowd(BTC, "BUY", "1", "90000")
            venue.crowd(BTC, "SELL", "1", "90000")
        frames = venue.connect("advanced_stream").subscribe("market_trades", "BTC-USD")
        (event,) = frames[0]["events"]
        assert (event["type"], len(event["trades"])) == ("snapshot", 100)
        assert int(event["trades"][0]["trade_id"]) > int(event["trades"][-1]["trade_id"])


class TestOtherChannels:
    @pytest.mark.parametrize("channel", ["ticker", "ticker_batch", "status", "heartbeats"])
    def test_have_the_documented_shape(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any, channel: str
    ) -> None:
        venue.crowd(BTC, "BUY", "1", "90000")
        venue.crowd(BTC, "SELL", "0.5", "90000")
        client = venue.connect("advanced_stream")
        frames = client.subscribe(channel, "BTC-USD") + client.after(1000)
        ours = next(frame for frame in frames if frame["channel"] == channel)
        theirs = next(f for f in captured_frames("spot-advanced-misc-documented") if f["channel"] == channel)
        assert not unlike(ours, theirs)

    def test_ticker_speaks_at_a_match_ticker_batch_every_five_seconds(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        client.subscribe("ticker", "BTC-USD")
        client.subscribe("ticker_batch", "BTC-USD")
        venue.crowd(BTC, "BUY", "1", "90000")
        assert client.after(6000) == []
        venue.crowd(BTC, "SELL", "0.5", "90000")
        frames = client.after(5000)
        assert channels(frames) == ["ticker", "ticker_batch"]
        assert frames[0]["events"][0]["tickers"][0]["best_bid_quantity"] == "0.5"
        assert "best_bid" not in frames[1]["events"][0]["tickers"][0]

    def test_heartbeats_count_the_seconds(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        client.subscribe("heartbeats")
        counters = [frame["events"][0]["heartbeat_counter"] for frame in client.after(3000)]
        assert counters == [counters[0], counters[0] + 1, counters[0] + 2]


class TestSubscriptions:
    def test_acknowledgements_are_cumulative(self, venue: Any) -> None:
        client = venue.connect("advanced_stream")
        client.subscribe("level2", "BTC-USD", "ETH-USD")
        client.subscribe("market_trades", "ETH-USD")
        (event,) = client.subscribe("heartbeats")[-1]["events"]
        assert event["subscriptions"] == {
            "heartbeats": ["heartbeats"],
            "level2": ["BTC-USD", "ETH-USD"],
            "market_trades": ["ETH-USD"],
        }

    def test_unknown_products_are_left_out(self, venue: Any) -> None:
        frames = venue.connect("advanced_stream").subscribe("level2", "BTC-USD", "BTC-XYZ", "BTC_USDC-PERPETUAL")
        assert frames[-1]["events"] == [{"subscriptions": {"level2": ["BTC-USD"]}}]

    @pytest.mark.parametrize(
        "frame",
        [
            "nonsense",
            "[]",
            {"type": "subscribe", "channel": "level2"},
            {"type": "subscribe", "channel": "level2", "product_ids": "BTC-USD"},
            {"type": "subscribe", "channel": "level2", "products": ["BTC-USD"]},
            {"type": "listen", "channel": "level2", "product_ids": ["BTC-USD"]},
        ],
    )
    def test_malformed_ones_are_refused(self, venue: Any, frame: Any) -> None:
        assert venue.connect("advanced_stream").send(frame) == [{"type": "error", "message": "failure to subscribe"}]

    def test_the_user_host_serves_no_market_channels(self, venue: Any) -> None:
        answer = venue.connect("advanced_user_stream").subscribe("level2", "BTC-USD")
        assert answer == [{"type": "error", "message": "authentication failure"}]

    def test_who_does_not_subscribe_is_disconnected(self, venue: Any) -> None:
        silent, busy = venue.connect("advanced_stream"), venue.connect("advanced_stream")
        busy.subscribe("level2", "BTC-USD")
        silent.after(5000)
        busy.after(50)
        assert (silent.line.closed is None, busy.line.closed) == (False, None)

    def test_a_quiet_connection_is_closed_unless_it_has_heartbeats(self, venue: Any) -> None:
        quiet, beating = venue.connect("advanced_stream"), venue.connect("advanced_stream")
        quiet.subscribe("level2", "BTC-USD")
        beating.subscribe("heartbeats")
        for _ in range(95):
            venue.clock.ms += 1000
            quiet.session.tick(venue.clock.ms)
            beating.session.tick(venue.clock.ms)
        assert (quiet.line.closed is None, beating.line.closed) == (False, None)

    def test_there_is_one_path(self, venue: Any) -> None:
        refused = venue.sandbox.connect("advanced_stream", "/ws", {}, venue.connect("advanced_stream").line)
        assert isinstance(refused, HttpResponse)
        assert refused.status == 404
