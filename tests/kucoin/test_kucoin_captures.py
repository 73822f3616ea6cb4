"""Everything that was recorded of the venue: streams decode, books merge, answers parse, signatures reproduce."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from astra.errors import (
    AuthenticationError,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    VenueError,
)
from astra.models.accounts import Balance, Position
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.orders import Fill, MarginMode, Order, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.net.http import Request, Response
from astra.streams.feed import Channel, DataType
from astra.streams.sync import BookSync
from astra.symbols import AssetType, Symbol
from astra_kucoin.errors import interpret
from astra_kucoin.feed import KucoinFeed
from astra_kucoin.feed.accounts import FuturesAccountSession, SpotAccountSession
from astra_kucoin.feed.markets import MarketSession
from astra_kucoin.history import decode_snapshot
from astra_kucoin.markets import decode_rows, markets_of
from astra_kucoin.settings import FUTURES, PRODUCTS, SPOT, KucoinSettings
from astra_kucoin.signing import rest_sign, signature, stamped
from astra_kucoin.trading import futures, spot
from astra_kucoin.trading.rows import Notes, StopNote

MARKETS_2021 = "spot-symbols-v1-trimmed"
BOOK_MARKETS = ("ANKR-BTC", "BCHSV-USDT", "COV-BTC", "EQZ-BTC", "SNX-BTC")


def spot_market(native: str = "BTC-USDT") -> Market:
    base, _, quote = native.partition("-")
    return Market(
        symbol=f"KUCOIN-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=native,
        product=SPOT,
    )


def feed() -> KucoinFeed:
    return KucoinFeed(KucoinSettings(), lambda product, native: None, lambda: None, Notes(10), lambda *account: KEY)


KEY = ApiKey(key=SecretStr("k"), secret=SecretStr("s"), passphrase=SecretStr("p"))


class Effects:
    """What a book asks of the engine."""

    def __init__(self) -> None:
        self.resubscriptions: list[str] = []

    def seed_wanted(self) -> None:
        raise AssertionError("the stream seeds its books")

    def check_wanted(self) -> None:
        raise AssertionError("nothing is audited here")

    def resubscribe(self, reason: str) -> None:
        self.resubscriptions.append(reason)


class Replay:
    """Frames played through a session into a book and a list of trades."""

    def __init__(self, outlet: Any, market: Market) -> None:
        self.updates: list[OrderbookUpdate] = []
        self.effects = Effects()
        self.channel = Channel(DataType.ORDERBOOK, market.product, market)
        self.trades = Channel(DataType.TRADE, market.product, market)
        self.book = BookSync(market.symbol, feed().book_rules(self.channel), self.effects, self.updates.append)
        outlet.inputs[self.channel] = self.book
        self.session = MarketSession(feed().endpoint(self.channel), outlet, None)
        self.frames = [json.loads(frame) for frame in self.session.subscribe([self.channel, self.trades], 0)]
        self.book.opened()

    def feed(self, **frame: Any) -> None:
        self.session.received(json.dumps(frame).encode(), 1)


def obu(kind: str, first: int, last: int, bids: Any = (), asks: Any = (), symbol: str = "BTC-USDT") -> dict[str, Any]:
    """A frame of an incremental book."""
    data = {"s": symbol, "O": first, "C": last, "M": 1_781_672_136_333_000_000, "b": bids, "a": asks}
    return {"T": "obu.SPOT", "dp": "increment@10ms", "t": kind, "P": 1_781_672_136_338_555_550, "d": data}


# -- market data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOOK_MARKETS)
def test_recorded_changes_on_the_recorded_snapshot_make_the_expected_book(
    recordings: Any, outlet: Any, name: str
) -> None:
    """The recorded classic frames, told in the words of the unified service, which numbers changes alike."""
    replay = Replay(outlet, spot_market(name))
    snapshot = decode_snapshot(recordings.body(f"spot-orderbook-level2-{name}")).data
    texts = [[[repr(price), repr(size)] for price, size in side] for side in (snapshot.bids, snapshot.asks)]
    replay.feed(**obu("snapshot", snapshot.last, snapshot.last, *texts, symbol=name))
    applied = 0
    for payload in recordings.received(f"spot-classic-{name}"):
        frame = json.loads(payload)
        if frame.get("subject") != "trade.l2update":
            continue
        data = frame["data"]
        bids, asks = ([level[:2] for level in data["changes"][side] if level[0] != "0"] for side in ("bids", "asks"))
        replay.feed(**obu("delta", data["sequenceStart"], data["sequenceEnd"], bids, asks, symbol=name))
        applied += 1
    expected = next(book for book in recordings.file("expected-books.json")["books"] if book["market"] == name)
    book = replay.book
    assert applied > 40
    assert book.state is BookState.LIVE
    assert book.last_id == expected["final_sequence"]
    assert book.book.counts == (expected["bid_levels"], expected["ask_levels"])
    for mine, side in ((book.book.bids(20), "bids"), (book.book.asks(20), "asks")):
        assert mine == [(float(price), float(size)) for price, size in expected[side]]
    assert not replay.effects.resubscriptions
    ids = [update.update_id for update in replay.updates]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("missing", [1, 30])
def test_a_frame_that_is_missing_is_noticed_at_the_next_one(recordings: Any, outlet: Any, missing: int) -> None:
    name = "COV-BTC"
    replay = Replay(outlet, spot_market(name))
    snapshot = decode_snapshot(recordings.body(f"spot-orderbook-level2-{name}")).data
    replay.feed(**obu("snapshot", snapshot.last, snapshot.last, symbol=name))
    frames = [json.loads(payload) for payload in recordings.received(f"spot-classic-{name}")]
    changes = [frame["data"] for frame in frames if frame.get("subject") == "trade.l2update"]
    fresh = [change for change in changes if change["sequenceEnd"] > snapshot.last]
    for number, change in enumerate(fresh):
        if number == missing:
            continue
        replay.feed(**obu("delta", change["sequenceStart"], change["sequenceEnd"], symbol=name))
        assert (replay.book.state is BookState.LIVE) is (number < missing)
        if number > missing:
            assert len(replay.effects.resubscriptions) == 1
            return
    raise AssertionError("the recording is shorter than that")


def test_the_rules_of_incremental_books(outlet: Any) -> None:
    """Made-up frames: no chain of this service was recorded."""
    replay = Replay(outlet, spot_market())
    replay.feed(**obu("delta", 90, 95, [["9", "9"]]))  # before the snapshot: dropped
    assert replay.book.state is BookState.SYNCING
    replay.feed(**obu("snapshot", 100, 100, [["10", "1"], ["9", "2"]], [["11", "1"]]))
    replay.feed(**obu("delta", 99, 100, [["10", "7"]]))  # old
    replay.feed(**obu("delta", 101, 103, [["10", "0"], ["9.5", "3"]]))
    replay.feed(**obu("delta", 102, 104, [], [["11.0", "5"]]))  # overlaps; the price is another spelling of 11
    assert replay.book.book.bids() == [(9.5, 3.0), (9.0, 2.0)]
    assert replay.book.book.asks() == [(11.0, 5.0)]
    assert [update.kind for update in replay.updates] == [UpdateKind.SNAPSHOT, UpdateKind.UPDATE, UpdateKind.UPDATE]
    assert [update.update_id for update in replay.updates] == [100, 103, 104]
    replay.feed(**obu("delta", 106, 107, [["9", "1"]]))
    assert replay.book.state is BookState.STALE
    assert len(replay.effects.resubscriptions) == 1


def test_recorded_frames_of_the_unified_service_decode(recordings: Any, outlet: Any) -> None:
    """Greeting, acknowledgement, pong, other depths and channels included."""
    markets = {"XBTUSDTM": recordings.market("XBTUSDTM"), "BTC-USDT": recordings.market("BTC-USDT")}
    for name, native in (("uta-public-perp", "XBTUSDTM"), ("uta-public-spot", "BTC-USDT")):
        replay = Replay(outlet, markets[native])
        assert not replay.session.ready
        for payload in recordings.received("uta-control-frames") + recordings.received(name):
            replay.session.received(payload, 1)
        assert replay.session.ready
        (trade,) = outlet.inputs[replay.trades].all_trades
        assert trade.side in (Side.BUY, Side.SELL)
        assert replay.book.state is BookState.SYNCING  # its delta came before any snapshot
    for payload in recordings.received("uta-public-live-2026-10-03"):
        replay.session.received(payload, 1)


def test_trades_of_contracts_are_in_base_units(recordings: Any, outlet: Any) -> None:
    replay = Replay(outlet, recordings.market("XBTUSDTM"))
    for payload in recordings.received("uta-public-perp"):
        replay.session.received(payload, 7)
    (trade,) = outlet.inputs[replay.trades].all_trades
    assert (trade.price, trade.side, trade.time, trade.id) == (90551.8, Side.BUY, 1768218157097, "1905973690439")
    assert trade.quantity == 12 * 0.001
    inverse = Replay(outlet, recordings.market("XBTUSDM"))
    row = {"p": "50000", "q": "100", "s": "XBTUSDM", "S": "SELL", "ti": 17, "M": 1768218157097000000}
    inverse.feed(T="trade.FUTURES", P=1, d=row)
    (trade,) = outlet.inputs[inverse.trades].all_trades
    assert (trade.quantity, trade.side, trade.id) == (0.002, Side.SELL, "17")


def test_books_of_contracts_are_in_base_units(recordings: Any, outlet: Any) -> None:
    for native, quantity in (("XBTUSDTM", 0.1), ("XBTUSDM", 0.002)):
        replay = Replay(outlet, recordings.market(native))
        replay.feed(**obu("snapshot", 5, 5, [["50000", "100"]], [["50000.1", "0"]], symbol=native))
        assert replay.book.book.bids() == [(50000.0, quantity)]


def test_each_channel_is_subscribed_and_refused_for_itself(outlet: Any) -> None:
    replay = Replay(outlet, spot_market())
    assert [(f["channel"], f["symbol"], f.get("depth")) for f in replay.frames] == [
        ("obu", "BTC-USDT", "increment@10ms"),
        ("trade", "BTC-USDT", None),
    ]
    assert len({frame["id"] for frame in replay.frames}) == 2
    replay.feed(id=replay.frames[1]["id"], result=False, message="invalid request data")
    replay.feed(id=replay.frames[0]["id"], result="true")
    assert outlet.acks == [replay.channel]
    ((channel, reason, final),) = outlet.refusals
    assert channel is replay.trades
    assert final
    assert "invalid request data" in reason
    (leaving,) = replay.session.unsubscribe([replay.channel], 0)
    assert json.loads(leaving)["action"] == "UNSUBSCRIBE"
    replay.feed(**obu("snapshot", 1, 1, [["1", "1"]]))
    assert not replay.updates


# -- accounts -----------------------------------------------------------------------------------------------------


def private(recordings: Any, outlet: Any, name: str, kind: Any, *markets: Market, notes: Any = None) -> list[Any]:
    """The account events of a recorded private stream."""
    known = {market.native_symbol: market for market in markets}
    channel = Channel(DataType.ACCOUNT, SPOT, credentials=Credentials.of("KUCOIN", "k", "s", "p"))
    session = kind(feed().endpoint(channel), outlet, None, known.get, notes or Notes(10))
    session.received(b'{"id":"x","type":"welcome"}', 1)
    assert session.ready
    frames = [json.loads(frame) for frame in session.subscribe([channel], 0)]
    assert all(frame["privateChannel"] for frame in frames)
    for frame in frames:
        assert not outlet.acks
        session.received(json.dumps({"id": frame["id"], "type": "ack"}).encode(), 1)
    assert outlet.acks == [channel]
    for payload in recordings.received(name) if isinstance(name, str) else name:
        session.received(payload, 1)
    return list(outlet.inputs[channel].account_events)


def test_documented_spot_topics_decode(recordings: Any, outlet: Any) -> None:
    events = private(recordings, outlet, "spot-classic-private-topics", SpotAccountSession, spot_market())
    received, placed, balance = events
    assert (received.status, received.type, received.quantity) == (
        OrderStatus.NEW,
        OrderType.MARKET,
        Decimal("0.00001"),
    )
    assert (placed.price, placed.created_time, placed.updated_time) == (Decimal(50000), 1730211033305, 1730211033335)
    assert balance == Balance(
        asset="USDT",
        wallet="spot",
        total=Decimal("21.133773386762"),
        available=Decimal("20.132773386762"),
        locked=Decimal("1.001"),
    )


def test_the_documented_life_of_orders(recordings: Any, outlet: Any) -> None:
    events = private(recordings, outlet, "spot-classic-order-lifecycle", SpotAccountSession, spot_market("KCS-USDT"))
    told = [(type(e).__name__, getattr(e, "status", None)) for e in events]
    assert told == [
        ("Order", OrderStatus.NEW),
        ("Fill", None),
        ("Order", OrderStatus.PARTIALLY_FILLED),
        ("Order", OrderStatus.FILLED),
        ("Order", OrderStatus.CANCELED),
        ("Order", OrderStatus.NEW),
    ]
    fill, filled = events[1], events[3]
    assert (fill.price, fill.quantity, fill.liquidity, fill.fee) == (Decimal("0.96738"), Decimal("0.1"), "TAKER", None)
    assert filled.average_price == Decimal("0.96738")
    assert events[-1].quantity == Decimal("0.06")


def test_documented_futures_topics_decode(recordings: Any, outlet: Any) -> None:
    market = recordings.market("XBTUSDTM")
    order, wallet, *positions = private(
        recordings, outlet, "perp-classic-private-topics", FuturesAccountSession, market
    )
    assert isinstance(order, Order)
    assert (order.contracts, order.quantity, order.price) == (Decimal(1), Decimal("0.001"), Decimal(91670))
    assert (order.created_time, order.client_order_id, order.type) == (1731916985768, None, OrderType.LIMIT)
    assert wallet == Balance(
        asset="USDT",
        wallet="futures",
        total=Decimal("81.072921258"),
        available=Decimal("26.144281178"),
        locked=Decimal("54.92864008"),
    )
    closed, held = positions
    assert isinstance(held, Position)
    assert (closed.side, closed.contracts) == (PositionSide.SHORT, Decimal(0))
    assert (held.side, held.contracts, held.quantity) == (PositionSide.LONG, Decimal(1), Decimal("0.001"))
    assert (held.entry_price, held.margin_mode) == (Decimal("91694.5"), MarginMode.ISOLATED)


def test_frames_that_only_tell_a_mark_price_are_no_positions(recordings: Any, outlet: Any) -> None:
    partial = {"markPrice": 90445.02, "unrealisedPnl": 0.1, "changeReason": "markPriceChange", "settleCurrency": "USDT"}
    frame = {"topic": "/contract/positionAll", "type": "message", "subject": "position.change", "data": partial}
    market = recordings.market("XBTUSDTM")
    assert private(recordings, outlet, [json.dumps(frame).encode()], FuturesAccountSession, market) == []  # type: ignore[arg-type]


def test_fills_of_inverse_contracts_average_harmonically(recordings: Any, outlet: Any) -> None:
    market = recordings.market("XBTUSDM")
    frames = []
    for kind, price, size, filled in (("match", "50000", "100", "100"), ("match", "40000", "100", "200")):
        row = {
            "symbol": "XBTUSDM",
            "side": "sell",
            "orderId": "1",
            "clientOid": "a",
            "type": kind,
            "orderType": "limit",
            "size": "200",
            "filledSize": filled,
            "price": "40000",
            "matchPrice": price,
            "matchSize": size,
            "tradeId": price,
            "liquidity": "taker",
            "orderTime": 1731916985768138917,
            "ts": 1731916985789000000,
        }
        frames.append(json.dumps({"type": "message", "subject": "orderChange", "topic": "", "data": row}).encode())
    events = private(recordings, outlet, frames, FuturesAccountSession, market)  # type: ignore[arg-type]
    first, _, second, order = events
    assert isinstance(first, Fill)
    assert isinstance(second, Fill)
    assert (first.quantity, second.quantity) == (Decimal("0.002"), Decimal("0.0025"))
    assert order.average_price is not None
    assert round(order.average_price, 6) == Decimal("44444.444444")
    assert round(order.filled_quantity, 12) == Decimal("0.0045")


@pytest.mark.parametrize(("code", "final"), [(403, True), (404, False)])
def test_a_refused_topic_refuses_the_account(recordings: Any, outlet: Any, code: int, final: bool) -> None:
    channel = Channel(DataType.ACCOUNT, SPOT)
    session = SpotAccountSession(feed().endpoint(channel), outlet, None, lambda native: None, Notes(10))
    frames = [json.loads(frame) for frame in session.subscribe([channel], 0)]
    error = {"id": frames[0]["id"], "type": "error", "code": code, "data": "topic does not exist"}
    session.received(json.dumps(error).encode(), 1)
    ((_, refusal, is_final),) = outlet.refusals
    assert is_final is final
    assert "topic does not exist" in str(refusal)


def test_a_bad_token_is_replaced(outlet: Any) -> None:
    channel = Channel(DataType.ACCOUNT, SPOT)
    session = SpotAccountSession(feed().endpoint(channel), outlet, None, lambda native: None, Notes(10))
    session.received(b'{"id":"","type":"error","code":401,"data":"token is invalid"}', 1)
    assert len(outlet.reconnects) == 1


# -- REST ---------------------------------------------------------------------------------------------------------


def test_recorded_lists_become_markets_with_names_of_their_own(recordings: Any) -> None:
    markets = [market for product in PRODUCTS for market in recordings.markets(product)]
    markets += [market for market in recordings.markets(SPOT, MARKETS_2021) if market.native_symbol != "BTC-USDT"]
    assert len({market.symbol for market in markets}) == len(markets) == len({market.key for market in markets}) > 20
    for market in markets:
        assert str(Symbol.parse(market.symbol)) == market.symbol
        assert market.tick_size
        assert market.lot_size
        assert market.min_quantity
        assert (market.contract_size is None) == (market.product == SPOT)


@pytest.mark.parametrize(
    ("native", "symbol", "base", "size", "kind"),
    [
        ("BTC-USDT", "KUCOIN-SPOT-BTC-USDT", "BTC", None, None),
        ("XBTUSDTM", "KUCOIN-PERP-XBT-USDT", "BTC", "0.001", ContractType.LINEAR),
        ("XBTUSDM", "KUCOIN-PERP-XBT-USD-COINM", "BTC", "1", ContractType.INVERSE),
        ("XBTMZ26", "KUCOIN-FUT-XBT-USD-261225-COINM", "BTC", "1", ContractType.INVERSE),
        ("AAOIUSDTM", "KUCOIN-PERP-AAOI-USDT", "AAOI", "0.01", ContractType.LINEAR),
    ],
)
def test_markets_are_named_as_promised(
    recordings: Any, native: str, symbol: str, base: str, size: str | None, kind: Any
) -> None:
    market = recordings.market(native)
    assert (market.symbol, market.base_asset, market.contract_type) == (symbol, base, kind)
    assert market.status is MarketStatus.ACTIVE
    if size is not None:
        assert market.contract_size == Decimal(size)


def test_renamed_assets_are_called_as_they_are_now(recordings: Any) -> None:
    found = {market.native_symbol: market for market in recordings.markets(SPOT, MARKETS_2021)}
    assert found["BCHSV-USDT"].symbol == "KUCOIN-SPOT-BSV-USDT"
    renamed = [market for native, market in found.items() if native != f"{market.base_asset}-{market.quote_asset}"]
    assert len(renamed) >= 7


def test_a_renamed_market_that_meets_a_namesake_keeps_its_old_base_beside_it() -> None:
    rows = [
        {"symbol": f"{base}-USDT", "name": "BSV-USDT", "baseCurrency": "BSV", "quoteCurrency": "USDT"}
        for base in ("BCHSV", "BSV")
    ]
    answer = json.dumps({"code": "200000", "data": rows}).encode()
    old, new = markets_of(decode_rows(answer).data, SPOT)
    assert (old.symbol, old.native_symbol) == ("KUCOIN-SPOT-BSV-USDT-BCHSV", "BCHSV-USDT")
    assert new.symbol == "KUCOIN-SPOT-BSV-USDT"


def test_rows_that_cannot_be_understood_are_left_out_and_reported(recordings: Any, caplog: Any) -> None:
    answer = json.loads(recordings.body("futures-contracts-active-live"))
    answer["data"][0]["type"] = "FFXXXX"
    answer["data"][1] = {"symbol": 5}
    assert len(markets_of(decode_rows(json.dumps(answer).encode()).data, FUTURES)) == len(answer["data"]) - 2
    assert caplog.text.count("left out") == 2


def test_a_perpetual_that_is_about_to_be_delisted_stays_one(recordings: Any) -> None:
    answer = json.loads(recordings.body("futures-contracts-active-live"))
    answer["data"][0]["expireDate"] = 1798185600000
    (market, *_) = markets_of(decode_rows(json.dumps(answer).encode()).data, FUTURES)
    assert (market.asset_type, market.expiry) == (AssetType.PERP, None)


def test_spot_answers_parse(recordings: Any) -> None:
    market = spot_market()
    filled = spot.decode_order(recordings.body("spot-hf-order-by-order-id")).data
    assert filled is not None
    order = filled.order(market)
    assert (order.status, order.average_price, order.filled_quantity) == (
        OrderStatus.FILLED,
        Decimal("67717.6"),
        Decimal("0.00001"),
    )
    (row,) = spot.decode_orders(recordings.body("spot-hf-open-orders")).data or ()
    assert row.order(market).status is OrderStatus.NEW
    placed = spot.decode_placed(recordings.body("spot-hf-add-order-sync")).data
    assert (placed.status, placed.deal_size, placed.order_time) == ("open", "0", 1729174140586)
    assert spot.decode_placed(recordings.body("spot-hf-add-order")).data.order_id
    good, bad = spot.decode_batch(recordings.body("spot-hf-batch-add-orders")).data
    assert (good.success, bad.success, bad.fail_msg) == (True, False, "The order funds should more then 0.1 USDT.")
    assert spot.decode_altered(recordings.body("spot-hf-modify-order")).data.new_order_id
    assert spot.decode_symbols(recordings.body("spot-hf-symbols-with-open-order")).data.symbols == [
        "ETH-USDT",
        "BTC-USDT",
    ]
    page = spot.decode_fills(recordings.body("spot-hf-trade-history")).data
    fill = page.items[0].fill(market)
    assert (fill.id, fill.fee, fill.fee_asset, page.last_id) == (
        "11029373945659392",
        Decimal("0.000677176"),
        "USDT",
        19814995255305,
    )
    trade, main = spot.decode_balances(recordings.body("account-spot-account-list")).data
    assert (trade.as_balance().total, main.type) == (Decimal("26.66759503"), "main")
    assert spot.decode_fees(recordings.body("account-spot-actual-fee")).data[0].taker_fee_rate == "0.001"


def test_futures_answers_parse(recordings: Any) -> None:
    market = recordings.market("XBTUSDTM")
    row = futures.decode_order(recordings.body("futures-order-by-order-id")).data
    assert row is not None
    order = row.order(market)
    assert (order.status, order.contracts, order.price) == (OrderStatus.NEW, Decimal(1), Decimal("0.1"))
    assert futures.decode_orders(recordings.body("futures-order-list")).data.items[0].size == 10
    (taken,) = futures.decode_fills(recordings.body("futures-trade-history")).data.items
    fill = taken.fill(market)
    assert (fill.quantity, fill.contracts, fill.fee, fill.time) == (
        Decimal("0.001"),
        Decimal(1),
        Decimal("0.05176506"),
        1740640088244,
    )
    # The venue's own value of the fill is price x lots x multiplier.
    assert fill.price * fill.quantity == Decimal("86.2751000")
    balance = futures.decode_overview(recordings.body("account-futures-account")).data.as_balance()
    assert (balance.asset, balance.available, balance.locked) == (
        "USDT",
        Decimal("290.326799096"),
        Decimal("112.26666171"),
    )
    assert balance.total == Decimal("394.439280806") - Decimal("20.15278")
    assert futures.decode_placed(recordings.body("futures-add-order")).data.order_id == "234125150956625920"


def test_positions_of_both_kinds_parse(recordings: Any) -> None:
    rows = {row.symbol: row for row in futures.decode_positions(recordings.body("futures-position-list")).data or ()}
    inverse = recordings.market("XBTUSDM").model_copy(update={"native_symbol": "ETHUSDM"})
    held = rows["ETHUSDM"].position(inverse)
    assert (held.contracts, held.margin_mode, held.leverage) == (Decimal(1), MarginMode.CROSS, Decimal(10))
    assert held.quantity == Decimal(1) / Decimal("2454.12")  # a dollar at the mark price
    linear = rows["XBTUSDTM"].position(recordings.market("XBTUSDTM"))
    assert (linear.quantity, linear.margin_mode) == (Decimal("0.001"), MarginMode.ISOLATED)


def test_books_by_rest_parse(recordings: Any) -> None:
    book = decode_snapshot(recordings.body("futures-orderbook-depth20-live")).data
    assert len(book.bids) == len(book.asks) == 20
    assert 1.7e12 < book.time_ms < 2e12
    assert book.bids[0][0] < book.asks[0][0]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("error-futures-contract-not-found", MarketNotFound, "404000"),
        ("error-futures-invalid-symbol", MarketNotFound, "200003"),
        ("error-futures-missing-auth-headers", AuthenticationError, "400001"),
    ],
)
def test_recorded_errors_are_what_the_sheet_says(recordings: Any, name: str, kind: type, code: str) -> None:
    capture = recordings.rest(name)
    response = Response(status=capture["status"], headers={}, body=recordings.body(name))
    error: Any = interpret("KUCOIN", FUTURES, Request("GET", "/api/v1/anything"), response)
    assert type(error) is kind
    assert error.code == code


def test_every_other_recorded_answer_is_no_error(recordings: Any) -> None:
    names = [name for name in recordings.names() if not name.startswith("error-")]
    assert len(names) > 60
    for name in names:
        request = Request(recordings.rest(name)["request"]["method"], "/api/v1/anything")
        assert interpret("KUCOIN", SPOT, request, Response(status=200, headers={}, body=recordings.body(name))) is None


# -- signatures ---------------------------------------------------------------------------------------------------


def test_signing_vectors_reproduce(recordings: Any) -> None:
    vectors = recordings.file("signing.json")["vectors"]
    assert len(vectors) == 10
    for vector in vectors:
        wanted = vector["expected"]
        sign = next(wanted[name] for name in ("KC-API-SIGN", "sign", "reply_text", "kc-api-sign") if name in wanted)
        assert signature(vector["secret"], vector["string_to_sign"]) == sign, vector["name"]


def test_requests_are_signed_unescaped_and_sent_escaped(recordings: Any) -> None:
    for vector in recordings.file("signing.json")["vectors"]:
        if vector["transport"] != "REST":
            continue
        words = vector["passphrase"] or "-"
        key = ApiKey(key=SecretStr(vector["api_key"]), secret=SecretStr(vector["secret"]), passphrase=SecretStr(words))
        path, _, query = vector["request_target"].partition("?")
        request = Request(vector["method"], path, query=query.replace(",", "%2C"), body=vector["body"].encode())
        signed = rest_sign(key)(request, int(vector["timestamp"]))
        for name, value in vector["expected"].items():
            if name != "KC-API-KEY-VERSION":
                assert signed.headers[name] == value, vector["name"]
        assert signed.query == request.query


def test_a_key_without_passphrase_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="passphrase"):
        rest_sign(ApiKey(key=SecretStr("k"), secret=SecretStr("s")))


def test_the_window_of_an_order_begins_when_it_is_sent() -> None:
    key = ApiKey(key=SecretStr("k"), secret=SecretStr("s"), passphrase=SecretStr("p"))
    body = b'{"remark":"\\"clientTimestamp\\":0","clientTimestamp":0,"allowMaxTimeWindow":5000}'
    signed = rest_sign(key)(Request("POST", "/api/v1/hf/orders/sync", body=body), 1_795_255_200_123)
    told = json.loads(signed.body)
    assert told["clientTimestamp"] == 1_795_255_200_123
    assert told["remark"] == '"clientTimestamp":0'
    text = f"1795255200123POST/api/v1/hf/orders/sync{signed.body.decode()}"
    assert signed.headers["KC-API-SIGN"] == signature("s", text)


def test_what_is_left_until_an_order_ends_is_counted_when_it_is_sent() -> None:
    now = 1_795_255_200_123
    ends = [{"remark": '"cancelAfter":5', "cancelAfter": now + after} for after in (1000, 90_999)]
    told = json.loads(stamped(json.dumps({"orderList": ends}, separators=(",", ":")).encode(), now))
    assert [(row["cancelAfter"], row["remark"]) for row in told["orderList"]] == [
        (1, '"cancelAfter":5'),
        (90, '"cancelAfter":5'),
    ]
    for body in (f'{{"cancelAfter":{now + 999}}}', f'{{"cancelAfter":{now + 91 * 86_400_000}}}'):
        with pytest.raises(InvalidOrder, match="Nothing was sent"):
            stamped(body.encode(), now)


# -- what streams leave out ---------------------------------------------------------------------------------------


def frame_of(subject: str, **row: Any) -> bytes:
    data = {"symbol": "BTC-USDT", "side": "sell", "orderTime": 1730211033305, "ts": 1730211033335000000} | row
    return json.dumps({"type": "message", "topic": "", "subject": subject, "data": data}).encode()


def test_conditional_orders_are_told_with_the_client_order_id_that_is_known(recordings: Any, outlet: Any) -> None:
    notes = Notes(10)
    row = {"orderId": "vs8", "orderPrice": "", "orderType": "stop", "size": "0.01", "stop": "loss", "stopPrice": "4"}
    notes.stops["vs8"] = StopNote("mine", OrderType.STOP_MARKET)
    frames: Any = [frame_of("stopOrder", **row, type=kind) for kind in ("open", "triggered", "cancel")]
    events = private(recordings, outlet, frames, SpotAccountSession, spot_market(), notes=notes)
    assert [(event.id, event.client_order_id) for event in events] == [("stop:vs8", "mine")] * 3
    assert [event.status for event in events] == [OrderStatus.NEW, OrderStatus.NEW, OrderStatus.CANCELED]
    assert {event.type for event in events} == {OrderType.STOP_MARKET}


def test_a_foreign_conditional_order_of_spot_ends_when_it_is_triggered(recordings: Any, outlet: Any) -> None:
    """It goes on under an id that nothing joins to this one."""
    row = {"orderId": "vs8", "orderPrice": "4", "size": "0.01", "stop": "entry", "stopPrice": "4", "type": "triggered"}
    (event,) = private(recordings, outlet, [frame_of("stopOrder", **row)], SpotAccountSession, spot_market())  # type: ignore[arg-type]
    assert (event.status, event.type) == (OrderStatus.EXPIRED, OrderType.TAKE_PROFIT_LIMIT)


# -- amendments -----------------------------------------------------------------------------------------------------


GONE = OrderNotFound("gone", exchange="KUCOIN")
LOST = OrderOutcomeUnknown("lost", exchange="KUCOIN", market="KUCOIN-SPOT-BTC-USDT", operation="amend_order")


class Amending:
    """An account's stream of spot, and what is noted of its amendments. `at` is the time, in seconds."""

    account = Credentials.of("KUCOIN", "k", "s", "p")

    def __init__(self, outlet: Any) -> None:
        self.at = 0.0
        self.notes = Notes(10, lambda: self.at)
        channel = Channel(DataType.ACCOUNT, SPOT, credentials=self.account)
        self.session = SpotAccountSession(
            feed().endpoint(channel), outlet, None, {"BTC-USDT": spot_market()}.get, self.notes
        )
        self.session.subscribe([channel], 0)
        self.told = outlet.inputs[channel]

    def canceled(self, order_id: str, filled: str = "0") -> int:
        """The stream says so of an order; how many events are told then."""
        row = {"orderId": order_id, "clientOid": "mine", "type": "canceled", "size": "1", "filledSize": filled}
        self.session.received(frame_of("orderChange", **row, price="5"), 1)
        return len(self.told.account_events)

    def amend_fails(self, error: VenueError, meanwhile: Callable[[], object] = lambda: None) -> None:
        """A command to amend order 67 ends so."""
        with contextlib.suppress(type(error)), self.notes.amending(self.account, "67"):
            meanwhile()
            assert not self.told.account_events
            raise error


@pytest.mark.parametrize(("filled", "told"), [("0", 0), ("0.1", 1)])
def test_the_cancel_half_of_an_amendment_is_no_end(outlet: Any, filled: str, told: int) -> None:
    """With fills it is told: they stay with the old id. Either way a second cancel was not asked for."""
    stream = Amending(outlet)
    with stream.notes.amending(stream.account, "67"):
        pass
    assert stream.canceled("67", filled) == told
    assert stream.canceled("67") == told + 1


def test_only_the_amended_order_of_the_account_itself_ends_without_a_word(outlet: Any) -> None:
    """Its successor has the same client order id, and another account's order may have the same id."""
    stream = Amending(outlet)
    with stream.notes.amending(stream.account, "67"):
        pass
    with stream.notes.amending(Credentials.of("KUCOIN", "other", "s", "p", account="other"), "68"):
        pass
    assert stream.canceled("68") == 1


def test_an_amendment_whose_cancel_was_not_seen_covers_no_later_one(outlet: Any) -> None:
    stream = Amending(outlet)
    with stream.notes.amending(stream.account, "67"):
        stream.at += 30  # it waits for the rate limit
        assert stream.notes.is_amending(stream.account, "67")
    stream.at += 60
    assert stream.canceled("67") == 1


@pytest.mark.parametrize("first", ["refusal", "frame"])
def test_the_end_of_an_order_whose_amendment_was_refused_is_told(outlet: Any, first: str) -> None:
    """Whichever comes first: then it was no amendment that ended it."""
    stream = Amending(outlet)
    if first == "frame":
        stream.amend_fails(GONE, lambda: stream.canceled("67"))
    else:
        stream.amend_fails(GONE)
        stream.canceled("67")
    (event,) = stream.told.account_events
    assert (event.id, event.status) == ("67", OrderStatus.CANCELED)


def test_a_refusal_proves_nothing_of_another_amendment_of_the_order(outlet: Any) -> None:
    """The first one ended it, or may have: the second one is refused for that."""
    for lost in (False, True):
        stream = Amending(outlet)
        if lost:
            stream.amend_fails(LOST)
        else:
            with stream.notes.amending(stream.account, "67"):
                pass
        assert stream.canceled("67") == 0
        stream.amend_fails(GONE)
        assert not stream.told.account_events


def test_an_order_that_was_canceled_after_a_lost_amendment_ends(outlet: Any) -> None:
    """The venue took a cancel for its id: it was not amended, and will not be."""
    stream = Amending(outlet)
    stream.amend_fails(LOST)
    assert stream.canceled("67") == 0
    stream.notes.canceled(stream.account, "67")
    assert [event.status for event in stream.told.account_events] == [OrderStatus.CANCELED]
    assert not stream.notes.is_amending(stream.account, "67")


@pytest.mark.parametrize("error", [GONE, LOST])
def test_a_cancel_that_is_taken_while_an_amendment_is_on_its_way_ends_what_is_noted(
    outlet: Any, error: VenueError
) -> None:
    stream = Amending(outlet)
    stream.amend_fails(error, lambda: stream.notes.canceled(stream.account, "67"))
    assert not stream.notes.is_amending(stream.account, "67")
    assert stream.canceled("67") == 1


# -- how books are compared -----------------------------------------------------------------------------------------


def test_books_are_compared_with_rest_where_the_counters_are_known_to_be_one() -> None:
    """Those of futures are; that of spot's REST is not known to be the stream's."""
    rules = {product: feed().book_rules(Channel(DataType.ORDERBOOK, product)) for product in PRODUCTS}
    assert {product: one.rest_joins for product, one in rules.items()} == {SPOT: False, FUTURES: True}
    assert {product: one.audit_every_s for product, one in rules.items()} == {SPOT: None, FUTURES: 1800.0}
    assert {one.silence_s for one in rules.values()} == {60.0}
