"""Everything that was recorded of the venue's public streams and histories: frames decode, books come out right."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from astra.models.markets import ContractType, Market
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.trades import Side
from astra.streams.feed import Channel, DataType
from astra.streams.sync import BookSync
from astra.symbols import AssetType
from astra_kraken.feed import KrakenFeed
from astra_kraken.feed.checksum import PairChecks, checksum_of
from astra_kraken.history import (
    decode_derivatives_book,
    decode_history,
    decode_spot_book,
    decode_spot_trades,
    derivatives_trades,
    spot_trades,
)
from astra_kraken.markets import Pair, SpotPairs
from astra_kraken.settings import DERIVATIVES, SPOT, KrakenSettings

ChannelOf = Callable[[DataType, Market], Channel]
BOOKS = [
    ("perp-book-inverse-pi_ethusd", "PI_ETHUSD"),
    ("fut-book-inverse", "FI_XBTUSD_210924"),
    ("fut-book-inverse", "FI_ETHUSD_210730"),
]


def spot_market(native: str) -> Market:
    base, quote = native.split("/")
    return Market(
        symbol=f"KRAKEN-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=native,
        product=SPOT,
    )


def contract(native: str, *, inverse: bool = False) -> Market:
    """A contract; a linear one unless told, so that the books stay in native quantities."""
    return Market(
        symbol="KRAKEN-PERP-A-USD",
        asset_type=AssetType.PERP,
        base_asset="A",
        quote_asset="USD",
        native_symbol=native,
        product=DERIVATIVES,
        contract_size=Decimal(1),
        contract_type=ContractType.INVERSE if inverse else ContractType.LINEAR,
    )


class Effects:
    """What a book asks of the engine."""

    def __init__(self) -> None:
        self.resubscribed: list[str] = []

    def seed_wanted(self) -> None:
        raise AssertionError("the streams seed themselves")

    def check_wanted(self) -> None:
        raise AssertionError("nothing joins a REST snapshot")

    def resubscribe(self, reason: str) -> None:
        self.resubscribed.append(reason)


class Replay:
    """A recording played through a session into a book."""

    def __init__(self, outlet: Any, market: Market, settings: KrakenSettings, pairs: SpotPairs | None = None) -> None:
        self.feed = KrakenFeed(settings, pairs or SpotPairs())
        self.updates: list[OrderbookUpdate] = []
        self.effects = Effects()
        self.channel = Channel(DataType.ORDERBOOK, market.product, market)
        rules = self.feed.book_rules(self.channel)
        self.book = BookSync(market.symbol, rules, self.effects, self.updates.append)
        outlet.inputs[self.channel] = self.book
        self.session = self.feed.session(self.feed.endpoint(self.channel), outlet, None)
        self.sent = list(self.session.subscribe([self.channel], 0))
        self.book.opened()
        self.received = 0

    def play(self, frames: list[bytes]) -> Replay:
        for frame in frames:
            self.received += 1_000_000
            self.session.received(frame, self.received)
        return self


def precise(native: str, price: int, quantity: int) -> SpotPairs:
    pairs = SpotPairs()
    pairs.read([Pair(native, native.replace("/", ""), native, price, quantity)])
    return pairs


TEN = KrakenSettings(spot_book_depth=10)


def test_every_checksum_of_the_recorded_spot_book_holds(recordings: Any, outlet: Any) -> None:
    frames = recordings.received("spot-book-v2-btcusd")
    replay = Replay(outlet, spot_market("BTC/USD"), TEN, precise("BTC/USD", 1, 8)).play(frames)
    assert replay.book.state is BookState.LIVE
    assert replay.effects.resubscribed == []
    assert [update.kind for update in replay.updates].count(UpdateKind.UPDATE) == len(frames) - 1 == 340
    assert replay.book.book.counts == (10, 10)
    ids = [update.update_id for update in replay.updates]
    assert ids == sorted(set(ids))
    assert replay.updates[-1].time is not None


def test_a_subscription_names_depth_and_snapshot(outlet: Any) -> None:
    replay = Replay(outlet, spot_market("BTC/USD"), TEN)
    assert json.loads(replay.sent[0]) == {
        "method": "subscribe",
        "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 10, "snapshot": True},
        "req_id": 1,
    }


@pytest.mark.parametrize("lost", [2, 60, 170, 300])
def test_a_lost_spot_frame_is_noticed_by_the_checksum_at_once(recordings: Any, outlet: Any, lost: int) -> None:
    frames = recordings.received("spot-book-v2-btcusd")
    replay = Replay(outlet, spot_market("BTC/USD"), TEN, precise("BTC/USD", 1, 8)).play(frames[:lost])
    assert not replay.effects.resubscribed
    replay.play(frames[lost + 1 : lost + 2])
    assert replay.book.state is BookState.STALE
    (reason,) = replay.effects.resubscribed
    assert "checksum" in reason
    assert replay.updates[-1].kind is UpdateKind.STALE


def test_the_documented_book_has_its_checksum(recordings: Any, outlet: Any) -> None:
    frames = recordings.received("spot-public-documented")
    replay = Replay(outlet, spot_market("MATIC/USD"), TEN, precise("MATIC/USD", 4, 8)).play(frames)
    assert replay.book.state is BookState.LIVE
    assert replay.book.book.best_ask == (0.5668, 4410.79769741)


class Texts:
    def __init__(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
        self.sides = {"bids": bids, "asks": asks}

    def texts(self, side: str, depth: int) -> list[tuple[str, str]]:
        return self.sides[side][:depth]


def test_the_wire_s_own_digits_are_tried_and_remembered(recordings: Any) -> None:
    """The documented example of the order-by-order book: its checksum holds for the digits of the wire only."""
    vector = recordings.vectors("level3-checksum")
    bids, asks = (
        [(price, quantity) for price, orders in vector[side] for quantity in orders] for side in ("bids", "asks")
    )
    wanted = vector["checksum"]
    # Orders stand for levels here, more than ten: the book is read as deep as it is.
    deep = Deep(bids, asks)
    assert checksum_of(deep, None, None) == wanted
    assert checksum_of(deep, 1, 8) == 1259715197 != wanted
    checks = PairChecks("X", None)
    checks.precisions = (1, 8)
    assert checks.holds(deep, wanted, snapshot=True)
    assert checks._raw
    assert not checks.holds(deep, wanted + 1)


class Deep(Texts):
    def texts(self, side: str, depth: int) -> list[tuple[str, str]]:
        return self.sides[side]


def test_a_pair_is_given_up_only_when_snapshots_do_not_have_their_own_checksum(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = Texts([("1.0", "2.0")], [("1.1", "3.0")])
    never, patient = PairChecks("X", None), PairChecks("Y", 3)
    for _ in range(10):
        assert not never.holds(book, 1, snapshot=True)
        assert not patient.holds(book, 1), "deltas prove nothing: a frame may be lost"
    assert not patient.holds(book, 1, snapshot=True)
    assert not patient.holds(book, 1, snapshot=True)
    assert patient.holds(book, 1, snapshot=True)
    assert patient.holds(book, 2)
    assert patient.given_up
    assert "without" in caplog.text


# -- derivatives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "native"), BOOKS)
def test_a_recorded_derivatives_book_is_contiguous(recordings: Any, outlet: Any, name: str, native: str) -> None:
    frames = recordings.received(name)
    replay = Replay(outlet, contract(native), KrakenSettings()).play(frames)
    assert replay.book.state is BookState.LIVE
    assert replay.effects.resubscribed == []
    parsed = [frame for frame in map(json.loads, frames) if frame.get("product_id") == native]
    assert replay.book.last_id == parsed[-1]["seq"]
    expected: dict[str, dict[float, float]] = {"buy": {}, "sell": {}}
    for frame in parsed:
        if frame["feed"] == "book_snapshot":
            expected = {
                "buy": {level["price"]: level["qty"] for level in frame["bids"] if level["qty"]},
                "sell": {level["price"]: level["qty"] for level in frame["asks"] if level["qty"]},
            }
        elif frame["qty"]:
            expected[frame["side"]][frame["price"]] = frame["qty"]
        else:
            del expected[frame["side"]][frame["price"]]
    assert dict(replay.book.book.bids()) == expected["buy"]
    assert dict(replay.book.book.asks()) == expected["sell"]


@pytest.mark.parametrize(("name", "native"), BOOKS[:2])
def test_a_lost_derivatives_frame_is_a_gap(recordings: Any, outlet: Any, name: str, native: str) -> None:
    frames = [frame for frame in recordings.received(name) if native.encode() in frame]
    replay = Replay(outlet, contract(native), KrakenSettings()).play(frames[:100])
    assert not replay.effects.resubscribed
    replay.play(frames[101:102])
    assert replay.book.state is BookState.STALE
    assert "gap" in replay.effects.resubscribed[0]


@pytest.mark.parametrize("native", ["PI_ETHUSD", "FI_XBTUSD_210924"])
def test_the_rebuilt_top_of_book_equals_the_recorded_ticker(recordings: Any, outlet: Any, native: str) -> None:
    """`ticker_lite` frames of the same recording, merged by time, show the same best prices."""
    book = "perp-book-inverse-pi_ethusd" if native.startswith("PI") else "fut-book-inverse"
    frames = [
        *recordings.stream(book)[1],
        *(one for one in recordings.stream("perp-fut-ticker-lite")[1] if one["direction"] == "received"),
    ]
    frames = sorted((frame for frame in frames if frame["direction"] == "received"), key=lambda frame: frame["at"])
    replay = Replay(outlet, contract(native), KrakenSettings())
    compared = 0
    for frame in frames:
        parsed = json.loads(frame["text"])
        if parsed.get("feed") == "ticker_lite" and parsed.get("product_id") == native:
            compared += 1
            best = (replay.book.book.best_bid, replay.book.book.best_ask)
            assert best[0] is not None
            assert best[1] is not None
            assert (best[0][0], best[1][0]) == (parsed["bid"], parsed["ask"])
        replay.play([frame["text"].encode()])
    assert compared == {"PI_ETHUSD": 25, "FI_XBTUSD_210924": 19}[native]


def test_recorded_trades_carry_the_taker_s_side_and_their_own_ids(
    recordings: Any, outlet: Any, channel_of: ChannelOf
) -> None:
    frames = recordings.received("perp-fut-trade")
    live = [frame for frame in map(json.loads, frames) if frame.get("feed") == "trade" and "event" not in frame]
    assert live
    for trade in live:
        market = contract(trade["product_id"], inverse=True)
        channel = channel_of(DataType.TRADE, market)
        feed = KrakenFeed(KrakenSettings(), SpotPairs())
        session = feed.session(feed.endpoint(channel), outlet, None)
        list(session.subscribe([channel], 0))
        for frame in frames:
            session.received(frame, 7)
        made = [one for (trades,) in outlet.inputs[channel].of("trades") for one in trades]
        assert [one.id for one in made] == [trade["uid"]], "the snapshot's trades happened before"
        assert made[0].quantity == trade["qty"] / trade["price"]
        assert made[0].side == trade["side"].upper()
        assert (made[0].time, made[0].price, made[0].received) == (trade["time"], trade["price"], 7)


def test_documented_spot_trades_decode(recordings: Any, outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(DataType.TRADE, spot_market("MATIC/USD"))
    feed = KrakenFeed(KrakenSettings(), SpotPairs())
    session = feed.session(feed.endpoint(channel), outlet, None)
    (frame,) = session.subscribe([channel], 0)
    assert json.loads(frame)["params"] == {"channel": "trade", "symbol": ["MATIC/USD"], "snapshot": False}
    for received in recordings.received("spot-public-documented"):
        session.received(received, 3)
    made = [one for (trades,) in outlet.inputs[channel].of("trades") for one in trades]
    (trade,) = [one for one in made if one.id == "4665906"]
    assert (trade.price, trade.quantity, trade.side, trade.time) == (0.5117, 40.0, Side.SELL, 1695628177708)


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("spot-public-documented", SPOT),
        ("spot-book-v2-btcusd", SPOT),
        ("perp-book-inverse-pi_ethusd", DERIVATIVES),
        ("perp-fut-ticker-lite", DERIVATIVES),
        ("perp-ticker-pf_ethusd", DERIVATIVES),
        ("perp-fut-trade", DERIVATIVES),
    ],
)
def test_frames_that_are_not_ours_are_passed_over(
    recordings: Any, outlet: Any, channel_of: ChannelOf, name: str, product: str
) -> None:
    market = spot_market("NO/NE") if product == SPOT else contract("PF_NONEUSD")
    channel = channel_of(DataType.ORDERBOOK, market)
    feed = KrakenFeed(KrakenSettings(), SpotPairs())
    session = feed.session(feed.endpoint(channel), outlet, None)
    for frame in recordings.received(name):
        session.received(frame, 0)
    assert not outlet.refusals


# -- REST -------------------------------------------------------------------------------------------------------


def result(recordings: Any, name: str) -> bytes:
    return bytes(msgspec.json.decode(recordings.body(name), type=dict[str, msgspec.Raw])["result"])


def test_a_recorded_spot_book_parses(recordings: Any) -> None:
    book = decode_spot_book(result(recordings, "spot-depth"))
    assert (book.bids[0][:2], book.asks[0][:2]) == ((105944.2, 0.002), (105944.3, 0.136))


def test_recorded_spot_trades_parse_and_count(recordings: Any) -> None:
    page = decode_spot_trades(result(recordings, "spot-trades"))
    trades = spot_trades(page.rows, "KRAKEN-SPOT-BTC-USDT", 1)
    ids = [int(trade.id) for trade in trades]
    assert ids == list(range(ids[0], ids[0] + 300))
    assert (trades[0].side, trades[0].time, trades[4].side) == (Side.BUY, 1762795433971, Side.SELL)
    assert page.last.isdigit()


def test_a_recorded_inverse_book_is_in_base_units(recordings: Any) -> None:
    answer = decode_derivatives_book(recordings.body("futures-orderbook"))
    assert answer.order_book.bids[0] == (61011.5, 2900.0)


def test_recorded_derivatives_trades_parse(recordings: Any) -> None:
    rows = decode_history(recordings.body("futures-history")).history
    (trade,) = derivatives_trades(rows, contract("PI_XBTUSD", inverse=True), "S", 1)
    assert (trade.id, trade.side, trade.quantity) == (
        "d0692c0c-742e-4d88-862c-8bd63533e067",
        Side.SELL,
        25 / 61081,
    )
