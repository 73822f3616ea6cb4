"""Everything that was recorded of the venue: streams decode, books come out as expected, REST answers parse."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from astra.models.markets import Market
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.orders import OrderStatus
from astra.models.trades import Trade
from astra.streams.feed import BookRules, BookSeed, Channel, Continuity, DataType, Integrity, Seed
from astra.streams.sync import BookSync
from astra.symbols import AssetType
from astra_binance.feed.endpoints import endpoint
from astra_binance.feed.markets import MarketSession
from astra_binance.history import AggregatedRow, decode_snapshot, seed_of, trades_of
from astra_binance.settings import BinanceSettings
from astra_binance.trading import futures, listen_keys, options, spot

STREAMS = [
    "spot-nknusdt",
    "spot-blzeth",
    "usdm-sushiusdt",
    "usdm-ctkusdt",
    "coinm-bchusd_perp",
    "coinm-ethusd_210924",
    "coinm-linkusd_perp",
    "coinm-btcusd_211231",
    "coinm-xrpusd_perp",
    "coinm-trxusd_perp",
]
ChannelOf = Callable[[DataType, Market], Channel]


def market_of(name: str) -> Market:
    """The market of a recorded stream; a contract of 1 base unit, so that the books stay in native quantities."""
    product, native = name.split("-")
    return Market(
        symbol="BINANCE-SPOT-A-B",
        asset_type=AssetType.SPOT,
        base_asset="A",
        quote_asset="B",
        native_symbol=native.upper(),
        product=product,
    )


class Effects:
    """What a book asks of the engine."""

    def __init__(self) -> None:
        self.seeds_wanted = 0

    def seed_wanted(self) -> None:
        self.seeds_wanted += 1

    def check_wanted(self) -> None:
        raise AssertionError("nothing is audited here")

    def resubscribe(self, reason: str) -> None:
        raise AssertionError(reason)


def rules(product: str) -> BookRules:
    continuity = Continuity.CONTIGUOUS if product == "spot" else Continuity.CHAINED
    return BookRules(seed=Seed.REST, continuity=continuity, integrity=Integrity.SEQUENCE)


def replay(recordings: Any, name: str, outlet: Any, channel_of: ChannelOf) -> tuple[BookSync, list[OrderbookUpdate]]:
    """Play a recording through a session into a book; the snapshot arrives when it did."""
    market = market_of(name)
    meta, frames = recordings.stream(name)
    snapshot = json.loads((recordings.root / meta["snapshot"]).read_text(encoding="utf-8"))
    seed = seed_of(decode_snapshot(json.dumps(snapshot["body"]).encode()), market, 1_000_000)
    updates: list[OrderbookUpdate] = []
    effects = Effects()
    book = BookSync(market.symbol, rules(market.product), effects, updates.append)
    channel = channel_of(DataType.ORDERBOOK, market)
    outlet.inputs[channel] = book
    session = MarketSession(endpoint(channel, BinanceSettings()), outlet, None)
    list(session.subscribe([channel], 0))
    book.opened()
    book.acknowledged()
    seeded = False
    for frame in frames:
        if frame["direction"] != "received":
            continue
        if not seeded and frame["at"] > snapshot["meta"]["at"]:
            seeded = True
            book.seed(seed, 0, 0.0)
        session.received(frame["text"].encode(), int(frame["at"] * 1e9))
        if book.wants_seed and seeded:
            # The first frame that reaches the snapshot has not arrived yet: the same answer would come again.
            book.seed(seed, 0, 0.0)
    assert seeded
    return book, updates


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_gives_the_expected_book(
    recordings: Any, outlet: Any, channel_of: ChannelOf, name: str
) -> None:
    expected = recordings.file("expected-books.json")["books"][name]
    book, updates = replay(recordings, name, outlet, channel_of)
    assert book.state is BookState.LIVE
    assert book.last_id == expected["last_update_id"]
    bids, asks = book.book.bids(), book.book.asks()
    assert (len(bids), len(asks)) == (expected["bid_levels"], expected["ask_levels"])
    for side, wanted in ((bids, expected["best_bids"]), (asks, expected["best_asks"])):
        assert side[: len(wanted)] == [(float(price), float(quantity)) for price, quantity in wanted]
    kinds = [update.kind for update in updates]
    assert kinds[0] is UpdateKind.SNAPSHOT
    assert set(kinds[1:]) == {UpdateKind.UPDATE}, "the recordings have no gap"
    ids = [update.update_id for update in updates]
    assert ids == sorted(set(ids))
    assert all(update.time is not None and update.time > 1_600_000_000_000 for update in updates[1:])


@pytest.mark.parametrize("name", STREAMS)
def test_the_rebuilt_top_of_book_equals_the_venue_s_own(
    recordings: Any, outlet: Any, channel_of: ChannelOf, name: str
) -> None:
    """`bookTicker` frames share the id space: at the same id they show the same best prices."""
    _, updates = replay(recordings, name, outlet, channel_of)
    tops: dict[int, tuple[Any, Any]] = {}
    copy: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for update in updates:
        for levels, changes in zip(copy, (update.bids, update.asks), strict=True):
            if update.kind is UpdateKind.SNAPSHOT:
                levels.clear()
            levels.update(changes)
            for price in [price for price, quantity in changes if not quantity]:
                del levels[price]
        bid, ask = max(copy[0]), min(copy[1])
        tops[update.update_id] = ((bid, copy[0][bid]), (ask, copy[1][ask]))
    compared = 0
    for frame in recordings.received(name):
        ticker = json.loads(frame)["data"]
        if ticker.get("e", "bookTicker") == "bookTicker" and ticker["u"] in tops:
            compared += 1
            top = ((float(ticker["b"]), float(ticker["B"])), (float(ticker["a"]), float(ticker["A"])))
            assert tops[ticker["u"]] == top
    assert compared or name == "spot-blzeth"


@pytest.mark.parametrize("name", [*STREAMS, "usdm-market-2026", "options-market-2026", "spot-control"])
def test_every_frame_is_taken_without_a_complaint(
    recordings: Any, outlet: Any, channel_of: ChannelOf, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Frames of other kinds (tickers, candles, answers, announcements) are passed over, not stumbled over."""
    channel = channel_of(DataType.TRADE, market_of(name if name in STREAMS else f"{name.split('-')[0]}-none"))
    session = MarketSession(endpoint(channel, BinanceSettings()), outlet, None)
    for frame in recordings.received(name):
        session.received(frame, 0)
    assert name == "spot-control" or not caplog.records
    assert not outlet.refusals


@pytest.mark.parametrize("name", [stream for stream in STREAMS if stream != "spot-nknusdt"])
def test_recorded_aggregated_trades_of_futures_decode(
    recordings: Any, outlet: Any, channel_of: ChannelOf, name: str
) -> None:
    market = market_of(name)
    channel = channel_of(DataType.TRADE, market)
    session = MarketSession(endpoint(channel, BinanceSettings()), outlet, None)
    list(session.subscribe([channel], 0))
    wanted = []
    for frame in recordings.received(name):
        session.received(frame, 5)
        trade = json.loads(frame)["data"]
        if trade.get("e") == "aggTrade":
            wanted.append(trade)
    made: list[Trade] = [trade for (trades,) in outlet.inputs[channel].of("trades") for trade in trades]
    assert [(trade.id, trade.price, trade.quantity, trade.time) for trade in made] == [
        (str(trade["a"]), float(trade["p"]), float(trade["q"]), trade["T"]) for trade in wanted
    ]
    assert [trade.side for trade in made] == ["SELL" if trade["m"] else "BUY" for trade in wanted]
    assert all(trade.received == 5 for trade in made)


def test_inverse_snapshots_are_in_base_units(recordings: Any, named: Any) -> None:
    market = named(recordings.markets("coinm"), "XRPUSD_PERP")
    body = recordings.body("coinm-depth-XRPUSD_PERP")
    seed = seed_of(decode_snapshot(body), market, 1000)
    price, contracts = json.loads(body)["bids"][0]
    assert seed.bids[0] == (float(price), float(contracts) * 10 / float(price))
    assert seed.last == json.loads(body)["lastUpdateId"]
    assert seed.time == json.loads(body)["T"]


def test_a_snapshot_that_is_not_full_is_the_whole_book(recordings: Any) -> None:
    market = market_of("usdm-ctkusdt")
    snapshot = decode_snapshot(recordings.body("usdm-depth-CTKUSDT"))
    assert isinstance(seed_of(snapshot, market, 1000), BookSeed)
    assert seed_of(snapshot, market, 1000).complete is (max(len(snapshot.bids), len(snapshot.asks)) < 1000)
    assert not seed_of(snapshot, market, len(snapshot.bids)).complete


def test_option_snapshots_decode_in_the_new_and_the_old_form(recordings: Any) -> None:
    new = decode_snapshot(recordings.body("options-depth"))
    assert (new.last, new.bids, new.time) == (361, [(1000.0, 0.1)], 1762780909676)
    old = seed_of(decode_snapshot(b'{"bids":[],"asks":[],"T":1,"u":77}'), market_of("options-x"), 10)
    assert old.last == 77


def test_recorded_aggregated_history_decodes(recordings: Any) -> None:
    rows = msgspec.json.Decoder(list[AggregatedRow], strict=False).decode(recordings.body("spot-aggTrades"))
    (trade,) = trades_of(rows, market_of("spot-bnbbtc"), "S", 3)
    assert trade == Trade("S", 0.01633102, 4.70443515, trade.side, 1498793709153, "26129", 3)
    assert trade.side == "SELL"


# -- private answers --------------------------------------------------------------------------------------------


def dummy(native: str, product: str, **more: Any) -> Market:
    fields = {
        "symbol": "BINANCE-PERP-A-B",
        "asset_type": AssetType.PERP,
        "base_asset": "A",
        "quote_asset": "USDT",
        "native_symbol": native,
        "product": product,
    }
    return Market(**{**fields, **more})


SPOT_ORDERS = [
    "spot-order-query",
    "spot-order-cancel",
    "spot-order-new-full",
    "spot-order-filled-LTCUSDT",
    "spot-order-new-iceberg-SOLUSDT",
]
FUTURES_ORDERS = [
    f"{product}-order-{what}" for product in ("usdm", "coinm") for what in ("query", "new", "cancel", "modify")
] + ["usdm-openOrder-LTCUSDT"]
OPTION_ORDERS = ["options-order-new", "options-order-query", "options-order-cancel"]


@pytest.mark.parametrize("name", [*SPOT_ORDERS, *FUTURES_ORDERS, *OPTION_ORDERS])
def test_every_recorded_order_parses(recordings: Any, name: str) -> None:
    body = recordings.rest(name)["body"]
    kind: Any = {"spot": spot.SpotOrder, "options": options.OptionOrder}.get(name.split("-")[0], futures.FuturesOrder)
    order = msgspec.json.decode(recordings.body(name), type=kind).order(dummy(body["symbol"], "x"))
    assert order.id == str(body["orderId"])
    assert order.side == body["side"]
    assert order.status is not OrderStatus.UNKNOWN
    total = Decimal(body.get("origQty") or body.get("quantity"))
    assert order.quantity == total
    assert order.filled_quantity == Decimal(body["executedQty"])


def test_a_recorded_filled_order_has_its_average_price(recordings: Any) -> None:
    order = msgspec.json.decode(recordings.body("spot-order-filled-LTCUSDT"), type=spot.SpotOrder).order(
        dummy("LTCUSDT", "spot")
    )
    assert order.average_price == Decimal("90.8")
    assert order.status is OrderStatus.FILLED
    assert order.price is None


def test_a_cancel_s_answer_carries_the_order_s_own_client_id(recordings: Any) -> None:
    order = msgspec.json.decode(recordings.body("spot-order-cancel"), type=spot.SpotOrder).order(dummy("X", "spot"))
    assert order.client_order_id == "myOrder1"


def test_option_ids_beyond_a_double_stay_exact(recordings: Any) -> None:
    body = recordings.body("options-order-query").replace(b"4611875134427365000", b"4611875134427365377")
    order = msgspec.json.decode(body, type=options.OptionOrder).order(dummy("X", "options", contract_size=Decimal(1)))
    assert order.id == "4611875134427365377"


PARSERS: dict[str, Callable[[bytes], Any]] = {
    "spot-account": spot._decode_account,
    "spot-openOrders": spot._decode_orders,
    "spot-openOrders-cancelAll": spot._decode_canceled,
    "spot-myTrades": spot._FILLS.decode,
    "spot-commission": spot._decode_commissions,
    "spot-order-amend": spot._decode_amended,
    "spot-order-new-ack": spot._decode_order,
    "usdm-openOrders": futures._decode_orders,
    "usdm-userTrades": futures._FILLS.decode,
    "usdm-balance": futures._decode_balances,
    "usdm-positionRisk": futures._decode_positions,
    "usdm-positionRisk-BTCUSDT": futures._decode_positions,
    "usdm-commissionRate": futures._decode_rate,
    "usdm-algoOrder-new": futures._decode_algo,
    "usdm-openAlgoOrders": futures._decode_algos,
    "usdm-listenKey-new": listen_keys._decode,
    "usdm-listenKey-keepalive": listen_keys._decode,
    "usdm-depth-doc": decode_snapshot,
    "coinm-openOrders": futures._decode_orders,
    "coinm-userTrades": futures._FILLS.decode,
    "coinm-balance": futures._decode_balances,
    "coinm-positionRisk-doc": futures._decode_positions,
    "coinm-commissionRate": futures._decode_rate,
    "options-marginAccount": options._decode_account,
    "options-openOrders": options._decode_orders,
    "options-userTrades": options._FILLS.decode,
    "options-position": options._decode_positions,
    "options-commission": options._decode_commissions,
    "options-listenKey-new": listen_keys._decode,
    "options-depth": decode_snapshot,
}
NOT_READ = {
    # Confirmations of which only the absence of an error matters.
    "usdm-allOpenOrders-cancel",
    "usdm-algoOrder-cancel",
    "coinm-allOpenOrders-cancel",
    "options-allOpenOrders-cancel",
    # What the plugin does not ask for.
    "spot-rateLimit-order",
    "usdm-account",
    "usdm-positionSide-dual",
    "usdm-trades",
    "usdm-symbolConfig",
    "usdm-rateLimit-order",
    "coinm-trades",
    "coinm-positionSide-dual",
    "options-trades",
}


@pytest.mark.parametrize("name", PARSERS)
def test_every_other_recorded_answer_parses(recordings: Any, name: str) -> None:
    assert PARSERS[name](recordings.body(name))


def test_no_recorded_answer_is_left_out(recordings: Any) -> None:
    used = {*SPOT_ORDERS, *FUTURES_ORDERS, *OPTION_ORDERS, "spot-aggTrades", *PARSERS, *NOT_READ}
    rest = {name for name in recordings.names() if not name.startswith("error-") and "exchangeInfo" not in name}
    assert rest - used == {name for name in recordings.names("*-depth-*") if name != "usdm-depth-doc"}
