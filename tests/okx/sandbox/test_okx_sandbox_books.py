"""The market channels: snapshots, updates chained by prevSeqId, keep-alives, maintenance, trades."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from astra.models.trades import Side

SYMBOL = "OKX-PERP-BTC-USDT"
BOOKS = {"channel": "books", "instId": "BTC-USDT-SWAP"}
Shape = Callable[[Any], Any]


class Rebuilt:
    """A book as a client keeps it, by the venue's rules and nothing else."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.last = -1

    def take(self, frame: Any) -> None:
        (row,) = frame["data"]
        assert row["checksum"] == 0
        if frame["action"] == "snapshot":
            assert row["prevSeqId"] == -1
            self.bids, self.asks = {}, {}
        else:
            assert row["prevSeqId"] == self.last
        for side, levels in ((self.bids, row["bids"]), (self.asks, row["asks"])):
            for price, size, _, count in levels:
                if size == "0":
                    assert count == "0"
                    side.pop(price, None)
                else:
                    side[price] = size
        self.last = row["seqId"]

    def sides(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        bids = sorted(((Decimal(p), Decimal(s)) for p, s in self.bids.items()), reverse=True)
        return bids, sorted((Decimal(p), Decimal(s)) for p, s in self.asks.items())


def engine_sides(venue: Any, depth: int = 400) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    _, bids, asks = venue.engine.depth(SYMBOL, depth)
    return [(a.price, a.quantity) for a in bids], [(a.price, a.quantity) for a in asks]


def stir(venue: Any, draws: random.Random, orders: int, *, spread: int = 300) -> None:
    """Orders of the crowd round 50,000; some trade."""
    for _ in range(orders):
        side = draws.choice([Side.BUY, Side.SELL])
        price = Decimal(50_000) + Decimal(draws.randint(-spread, spread)) / 10
        venue.engine.house_place(SYMBOL, side, Decimal(draws.randint(1, 500)) / 100, price)


class TestBooks:
    def test_frames_are_those_of_the_documents(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        ack, _, snapshot, update, top, five, _ = captures.frames("spot-books-documented-2026")
        client = venue.connect()
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        venue.crowd(SYMBOL, "SELL", "1", "50001")
        mine = client.send({"id": "1512", "op": "subscribe", "args": [BOOKS]})
        assert [shape_of(frame) for frame in mine] == [shape_of(ack), shape_of(snapshot)]
        venue.crowd(SYMBOL, "BUY", "2", "49999")
        venue.crowd(SYMBOL, "SELL", "2", "50002")
        assert [shape_of(frame) for frame in client.after(200)] == [shape_of(update)]
        for channel, documented in (("bbo-tbt", top), ("books5", five)):
            _, frame = client.subscribe({"channel": channel, "instId": "BTC-USDT-SWAP"})
            assert shape_of(frame) == shape_of(documented)

    def test_a_book_rebuilt_from_its_frames_is_the_engines(self, venue: Any) -> None:
        draws, book, client = random.Random(1), Rebuilt(), venue.connect()
        stir(venue, draws, 200)
        _, snapshot = client.subscribe(BOOKS)
        book.take(snapshot)
        for _ in range(40):
            stir(venue, draws, 10)
            for frame in client.after(100):
                book.take(frame)
            assert book.sides() == engine_sides(venue)
            change_id, _, _ = venue.engine.depth(SYMBOL, 1)
            assert book.last == venue.sandbox.update_id(SYMBOL, change_id)

    def test_beyond_400_levels_the_view_moves_with_the_best_price(self, venue: Any) -> None:
        draws, book, client = random.Random(2), Rebuilt(), venue.connect()
        for n in range(500):
            venue.crowd(SYMBOL, "BUY", "1", str(Decimal(50_000) - Decimal(n) / 10))
            venue.crowd(SYMBOL, "SELL", "1", str(Decimal("50000.1") + Decimal(n) / 10))
        _, snapshot = client.subscribe(BOOKS)
        book.take(snapshot)
        assert len(book.bids) == len(book.asks) == 400
        for _ in range(30):
            stir(venue, draws, 30, spread=60)
            for frame in client.after(100):
                book.take(frame)
            assert book.sides() == engine_sides(venue)
        assert max(len(book.bids), len(book.asks)) == 400

    def test_a_book_that_grows_beyond_400_levels_is_cut(self, venue: Any) -> None:
        book, client = Rebuilt(), venue.connect()
        for n in range(395):
            venue.crowd(SYMBOL, "BUY", "1", str(Decimal(50_000) - Decimal(n) / 10))
        book.take(client.subscribe(BOOKS)[1])
        for best in range(10):
            venue.crowd(SYMBOL, "BUY", "1", str(Decimal("50000.1") + Decimal(best) / 10))
            for frame in client.after(100):
                book.take(frame)
            assert book.sides() == engine_sides(venue)
        assert len(book.bids) == 400
        for _ in range(10):
            venue.crowd(SYMBOL, "SELL", "1", "49000")
            for frame in client.after(100):
                book.take(frame)
            assert book.sides() == engine_sides(venue)
        assert len(book.bids) == 395

    def test_levels_that_come_and_go_between_two_frames_are_deleted_unseen(self, venue: Any) -> None:
        client = venue.connect()
        venue.crowd(SYMBOL, "BUY", "1", "49000")
        client.subscribe(BOOKS)
        venue.crowd(SYMBOL, "SELL", "1", "50000")
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        (frame,) = client.after(150)
        assert frame["data"][0]["asks"] == [["50000", "0", "0", "0"]]
        assert frame["data"][0]["bids"] == []

    def test_whoever_joins_later_begins_where_the_others_are(self, venue: Any) -> None:
        first, second = Rebuilt(), Rebuilt()
        one, other = venue.connect(), venue.connect()
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        first.take(one.subscribe(BOOKS)[1])
        venue.crowd(SYMBOL, "BUY", "1", "49999")
        second.take(other.subscribe(BOOKS)[1])
        venue.crowd(SYMBOL, "BUY", "1", "49998")
        for frame in other.after(200):
            second.take(frame)
        for frame in one.line.take():
            first.take(frame)
        assert first.sides() == second.sides() == engine_sides(venue)
        assert first.last == second.last

    def test_a_book_at_rest_keeps_alive_with_equal_ids(self, venue: Any) -> None:
        book, client = Rebuilt(), venue.connect()
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        book.take(client.subscribe(BOOKS)[1])
        before = book.last
        frames = []
        for _ in range(5):
            assert client.send("ping") == ["pong"]
            frames += client.after(25_000)
        assert len(frames) == 2
        for frame in frames:
            (row,) = frame["data"]
            assert (row["seqId"], row["prevSeqId"], row["bids"], row["asks"]) == (before, before, [], [])
            book.take(frame)
        venue.crowd(SYMBOL, "BUY", "1", "49999")
        (frame,) = client.after(150)
        book.take(frame)
        assert book.sides() == engine_sides(venue)

    def test_maintenance_sets_ids_back_and_still_bridges(self, venue: Any) -> None:
        book, client = Rebuilt(), venue.connect()
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        book.take(client.subscribe(BOOKS)[1])
        before = book.last
        venue.sandbox.reset_sequence(SYMBOL)
        venue.crowd(SYMBOL, "BUY", "1", "49999")
        (frame,) = client.after(150)
        (row,) = frame["data"]
        assert row["prevSeqId"] == before
        assert 0 <= row["seqId"] < before
        book.take(frame)
        venue.crowd(SYMBOL, "BUY", "1", "49998")
        (frame,) = client.after(150)
        assert frame["data"][0]["seqId"] > book.last
        book.take(frame)
        assert book.sides() == engine_sides(venue)
        change_id, _, _ = venue.engine.depth(SYMBOL, 1)
        assert venue.sandbox.change_id(SYMBOL, book.last) == change_id
        assert venue.sandbox.change_id(SYMBOL, before) == change_id - 2
        (row,) = venue.get("/market/books", instId="BTC-USDT-SWAP")
        assert row["seqId"] == book.last

    def test_unsubscribing_ends_it_and_subscribing_again_gives_a_snapshot(self, venue: Any) -> None:
        client = venue.connect()
        client.subscribe(BOOKS)
        (ack,) = client.subscribe(BOOKS, op="unsubscribe")
        assert (ack["event"], ack["arg"]) == ("unsubscribe", BOOKS)
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        assert client.after(300) == []
        ack, snapshot = client.subscribe(BOOKS)
        assert snapshot["action"] == "snapshot"

    def test_without_snapshots_the_rest_book_joins_the_updates(self, venue: Any) -> None:
        """What the venue has announced: subscribe, take the book by REST, go on with the update that spans it."""
        venue.sandbox.limits.snapshots = False
        draws, book, client = random.Random(3), Rebuilt(), venue.connect()
        stir(venue, draws, 200)
        assert [frame["event"] for frame in client.subscribe(BOOKS)] == ["subscribe"]
        stir(venue, draws, 10)
        buffered = client.after(200)
        stir(venue, draws, 10)
        (row,) = venue.get("/market/books", instId="BTC-USDT-SWAP", sz="400")
        stir(venue, draws, 10)
        buffered += client.after(200)
        assert row["seqId"] >= buffered[0]["data"][0]["prevSeqId"]
        kept = [frame for frame in buffered if frame["data"][0]["seqId"] > row["seqId"]]
        first = kept[0]["data"][0]
        assert first["prevSeqId"] <= row["seqId"] < first["seqId"]
        book.take({"action": "snapshot", "data": [{**row, "checksum": 0, "prevSeqId": -1}]})
        book.last = first["prevSeqId"]
        for frame in kept:
            book.take(frame)
        assert book.sides() == engine_sides(venue)

    def test_tick_by_tick_books_are_for_high_tiers(self, venue: Any) -> None:
        deep = {"channel": "books-l2-tbt", "instId": "BTC-USDT-SWAP"}
        client = venue.connect()
        assert [frame["code"] for frame in client.subscribe(deep)] == ["60011"]
        client.login()
        assert [frame["code"] for frame in client.subscribe(deep)] == ["64003"]
        venue.account.settings["vip"] = 4
        _, snapshot = client.subscribe(deep)
        assert snapshot["action"] == "snapshot"
        assert [frame["code"] for frame in client.subscribe(BOOKS)] == ["64004"]

    def test_rpi_books_show_the_organic_size_third(self, venue: Any) -> None:
        venue.crowd(SYMBOL, "BUY", "1.5", "50000")
        _, snapshot = venue.connect().subscribe({"channel": "books-rpi", "instId": "BTC-USDT-SWAP"})
        assert snapshot["data"][0]["bids"] == [["50000", "1.5", "1.5", "1"]]


class TestTops:
    def test_the_best_offers_are_sent_when_they_change(self, venue: Any) -> None:
        client = venue.connect()
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        _, first = client.subscribe({"channel": "bbo-tbt", "instId": "BTC-USDT-SWAP"})
        assert (first["data"][0]["bids"], first["data"][0]["asks"]) == ([["50000", "1", "0", "1"]], [])
        venue.crowd(SYMBOL, "BUY", "1", "49000")
        assert client.line.take() == []
        venue.crowd(SYMBOL, "BUY", "1", "50001")
        (frame,) = client.line.take()
        assert frame["data"][0]["bids"] == [["50001", "1", "0", "1"]]
        assert "action" not in frame
        assert "prevSeqId" not in frame["data"][0]

    def test_five_levels_are_sent_whole(self, venue: Any) -> None:
        client = venue.connect()
        for n in range(7):
            venue.crowd(SYMBOL, "BUY", "1", str(50_000 - n))
        _, first = client.subscribe({"channel": "books5", "instId": "BTC-USDT-SWAP"})
        assert [level[0] for level in first["data"][0]["bids"]] == ["50000", "49999", "49998", "49997", "49996"]
        venue.crowd(SYMBOL, "BUY", "1", "49000")
        assert client.after(200) == []
        venue.crowd(SYMBOL, "SELL", "1", "50000")
        (frame,) = client.after(200)
        assert [level[0] for level in frame["data"][0]["bids"]] == ["49999", "49998", "49997", "49996", "49995"]
        assert frame["data"][0]["instId"] == "BTC-USDT-SWAP"

    def test_channels_that_are_due_together_come_in_the_venues_order(self, venue: Any) -> None:
        client = venue.connect()
        channels = ["books5", "books-rpi", "books", "bbo-tbt"]
        client.subscribe(*({"channel": channel, "instId": "BTC-USDT-SWAP"} for channel in channels))
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        frames = client.after(200)
        assert [frame["arg"]["channel"] for frame in frames] == ["bbo-tbt", "books", "books-rpi", "books5"]

    def test_tickers_show_top_last_and_volumes(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        client = venue.connect()
        client.subscribe({"channel": "tickers", "instId": "BTC-USDT-SWAP"})
        venue.crowd(SYMBOL, "SELL", "5", "50000")
        venue.crowd(SYMBOL, "BUY", "2", "50000")
        (frame,) = client.after(200)
        assert shape_of(frame) == shape_of(captures.frames("perp-books5-trades-ticker-2026")[-1])
        (row,) = frame["data"]
        assert [row[name] for name in ("last", "lastSz", "askPx", "askSz", "bidPx", "vol24h", "volCcy24h")] == [
            "50000",
            "2",
            "50000",
            "3",
            "",
            "2",
            "0.02",
        ]


class TestTrades:
    def test_fills_of_a_taker_at_one_price_are_one_trade(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        client = venue.connect()
        for size, price in (("1", "50000"), ("2", "50000"), ("3", "50001")):
            venue.crowd(SYMBOL, "SELL", size, price)
        assert len(client.subscribe({"channel": "trades", "instId": "BTC-USDT-SWAP"})) == 1  # no snapshot
        venue.crowd(SYMBOL, "BUY", "4", "50001")
        frames = client.line.take()
        assert [shape_of(frame) for frame in frames] == [shape_of(captures.frames("spot-trades-2026")[-1])] * 2
        rows = [frame["data"][0] for frame in frames]
        ids = [trade.id for trade in venue.engine.trades(SYMBOL)]
        assert [(row["px"], row["sz"], row["side"], row["count"]) for row in rows] == [
            ("50000", "3", "buy", "2"),
            ("50001", "1", "buy", "1"),
        ]
        assert [int(row["tradeId"]) for row in rows] == ids[1:]
        change_id, _, _ = venue.engine.depth(SYMBOL, 1)
        assert {row["seqId"] for row in rows} == {venue.sandbox.update_id(SYMBOL, change_id)}
        venue.crowd(SYMBOL, "BUY", "1", "49000")
        venue.crowd(SYMBOL, "SELL", "1", "49000")
        assert client.line.take()[0]["data"][0]["side"] == "sell"

    def test_every_match_is_told_on_the_business_url(self, venue: Any) -> None:
        client = venue.connect("business")
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        venue.crowd(SYMBOL, "BUY", "2", "50000")
        client.subscribe({"channel": "trades-all", "instId": "BTC-USDT-SWAP"})
        venue.crowd(SYMBOL, "SELL", "3", "50000")
        rows = [frame["data"][0] for frame in client.line.take()]
        assert [(row["sz"], row["side"]) for row in rows] == [("1", "sell"), ("2", "sell")]
        assert all("count" not in row for row in rows)

    @pytest.mark.parametrize(
        ("channel", "every_ms"), [("mark-price", 2000), ("funding-rate", 0), ("open-interest", 0), ("price-limit", 0)]
    )
    def test_what_contracts_are_subject_to_is_told(self, venue: Any, channel: str, every_ms: int) -> None:
        client = venue.connect()
        _, first = client.subscribe({"channel": channel, "instId": "BTC-USDT-SWAP"})
        assert first["data"][0]["instId"] == "BTC-USDT-SWAP"
        venue.crowd(SYMBOL, "BUY", "1", "50000")
        venue.crowd(SYMBOL, "SELL", "1", "50001")
        if every_ms:
            assert len(client.after(every_ms)) == 1
