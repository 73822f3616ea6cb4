"""Everything that was recorded of the venue's public side: streams decode, books merge, answers parse."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.trades import Side
from astra.streams.feed import BookRules, Channel, DataType
from astra.streams.sync import BookSync
from astra.symbols import AssetType, Symbol
from astra_htx.feed import HtxFeed
from astra_htx.feed.markets import ContractSession, SpotSession, unzipped
from astra_htx.history import ContractTrade, SpotTrade, decode_depth
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, PRODUCTS, SPOT, HtxSettings


def feed(**settings: Any) -> HtxFeed:
    def nothing(*_: Any) -> Any:
        """Nobody asks."""

    return HtxFeed(HtxSettings(**settings), nothing, nothing, nothing, nothing, nothing)


def plain_market(native: str, product: str = SPOT, size: str | None = None, *, inverse: bool = False) -> Market:
    """A market; without a size its native quantities are base units, so that recorded numbers stay comparable."""
    return Market(
        symbol="HUOBI-SPOT-A-B",
        asset_type=AssetType.SPOT if size is None else AssetType.PERP,
        base_asset="A",
        quote_asset="B",
        native_symbol=native,
        product=product,
        contract_size=None if size is None else Decimal(size),
        contract_type=None if size is None else ContractType.INVERSE if inverse else ContractType.LINEAR,
    )


class Effects:
    """What a book asks of the engine."""

    def __init__(self) -> None:
        self.seeds = 0
        self.resubscriptions: list[str] = []

    def seed_wanted(self) -> None:
        self.seeds += 1

    def check_wanted(self) -> None:
        raise AssertionError("nothing is audited here")

    def resubscribe(self, reason: str) -> None:
        self.resubscriptions.append(reason)


class Replay:
    """A market's book and trades on one connection, each acknowledged."""

    def __init__(self, outlet: Any, market: Market, **settings: Any) -> None:
        self.outlet = outlet
        self.updates: list[OrderbookUpdate] = []
        self.effects = Effects()
        self.channel = Channel(DataType.ORDERBOOK, market.product, market)
        self.trades = Channel(DataType.TRADE, market.product, market)
        rules: BookRules = feed(**settings).book_rules(self.channel)
        self.book = BookSync(market.symbol, rules, self.effects, self.updates.append)
        outlet.inputs[self.channel] = self.book
        self.session: Any = feed(**settings).session(feed(**settings).endpoint(self.channel), outlet, None)
        self.sent = [json.loads(f) for f in self.session.subscribe([self.channel, self.trades], 0)]
        self.book.opened()

    def acknowledge(self, ts: int = 0) -> None:
        for frame in self.sent:
            ack = {"id": frame["id"], "status": "ok", "subbed": frame["sub"], "ts": ts}
            self.session.received(json.dumps(ack).encode(), 1)
        self.book.acknowledged()


# -- books --------------------------------------------------------------------------------------------------------


def test_a_recorded_book_of_derivatives_stays_twenty_levels_deep(recordings: Any, outlet: Any) -> None:
    replay = Replay(outlet, plain_market("BTC_CW", COIN_FUTURES), derivatives_book_levels=20)
    assert replay.sent[0]["data_type"] == "incremental"
    frames = recordings.wire("fut-coinm-depth-size20-highfreq")
    for payload in frames:
        replay.session.received(payload, 1)
        assert replay.book.state is BookState.LIVE
        assert replay.book.book.counts == (20, 20)
    kinds = [update.kind for update in replay.updates]
    assert kinds == [UpdateKind.SNAPSHOT] + [UpdateKind.UPDATE] * (len(frames) - 1)
    ids = [update.update_id for update in replay.updates]
    assert ids == sorted(set(ids))
    assert all(update.time == json.loads(f)["tick"]["ts"] for update, f in zip(replay.updates, frames, strict=True))


@pytest.mark.parametrize("missing", [1, 9])
def test_a_missing_frame_of_derivatives_is_noticed_at_the_next_one(recordings: Any, outlet: Any, missing: int) -> None:
    replay = Replay(outlet, plain_market("BTC_CW", COIN_FUTURES), derivatives_book_levels=20)
    frames = recordings.wire("fut-coinm-depth-size20-highfreq")
    for payload in [*frames[:missing], frames[missing + 1]]:
        replay.session.received(payload, 1)
    assert replay.book.state is BookState.STALE
    assert len(replay.effects.resubscriptions) == 1


def mbp(recordings: Any) -> tuple[list[bytes], bytes]:
    """The recorded changes of a spot book, and the snapshot that was asked for after them."""
    frames = recordings.frames("spot-mbp150-snapshot-aligned")
    return frames[:-1], frames[-1]


def test_a_recorded_spot_book_joins_its_in_band_snapshot(recordings: Any, outlet: Any) -> None:
    changes, snapshot = mbp(recordings)
    replay = Replay(outlet, plain_market("btcusdt"))
    for payload in (*changes, snapshot):
        replay.session.received(payload, 1)
    assert replay.book.state is BookState.LIVE
    assert replay.book.last_id == 109409288226
    bids, asks = dict(replay.book.book.bids()), dict(replay.book.book.asks())
    assert bids[9137.67] == 4.683547
    assert bids[9135.96] == 0.0622
    assert asks[9138.67] == 0.042194
    assert 9138.6 not in asks
    assert [update.kind for update in replay.updates] == [UpdateKind.SNAPSHOT]
    assert replay.updates[0].update_id == 109409288226


def test_the_snapshot_has_what_the_dropped_changes_set(recordings: Any) -> None:
    changes, snapshot = mbp(recordings)
    seeded = json.loads(snapshot)["data"]
    for side in ("bids", "asks"):
        known = dict(seeded[side])
        edge = min(known) if side == "bids" else max(known)
        for payload in changes[:2]:
            for price, size in json.loads(payload)["tick"][side]:
                inside = price >= edge if side == "bids" else price <= edge
                later = [dict(json.loads(p)["tick"][side]) for p in changes[changes.index(payload) + 1 : 2]]
                if inside and size and not any(price in change for change in later):
                    assert known[price] == size


def test_a_spot_change_that_is_missing_is_noticed_and_mended_without_resubscribing(
    recordings: Any, outlet: Any
) -> None:
    changes, snapshot = mbp(recordings)
    replay = Replay(outlet, plain_market("btcusdt"))
    replay.acknowledge()
    for payload in (changes[1], snapshot, changes[2]):
        replay.session.received(payload, 1)
    assert replay.book.state is BookState.LIVE
    gap = json.loads(changes[3])
    gap["tick"] |= {"prevSeqNum": 109409288210}
    replay.session.received(json.dumps(gap).encode(), 1)
    assert replay.book.state is BookState.STALE
    assert (replay.effects.seeds, replay.effects.resubscriptions) == (2, [])


def test_a_change_that_straddles_the_snapshot_makes_it_useless(recordings: Any, outlet: Any) -> None:
    """It is the difference between two states: what changed and changed back is not in it."""
    changes, snapshot = mbp(recordings)
    replay = Replay(outlet, plain_market("btcusdt"))
    seeded = json.loads(snapshot)
    seeded["data"]["seqNum"] = 109409288170
    replay.session.received(changes[2], 1)  # from ...160 to ...204
    replay.session.received(json.dumps(seeded).encode(), 1)
    assert replay.book.state is BookState.SYNCING
    assert replay.effects.seeds == 1
    replay.session.received(changes[3], 1)
    seeded["data"]["seqNum"] = 109409288204
    replay.session.received(json.dumps(seeded).encode(), 1)
    assert replay.book.state is BookState.LIVE


def test_a_side_that_did_not_change_may_be_missing(recordings: Any, outlet: Any) -> None:
    replay = Replay(outlet, plain_market("ethusdt"), spot_book_levels=5)
    change = next(f for f in recordings.frames("spot-mbp-documented") if b"mbp.5" in f and b"tick" in f)
    snapshot = {"rep": "market.ethusdt.mbp.5", "status": "ok", "ts": 1, "id": "9"}
    snapshot["data"] = {"seqNum": 100020146794, "bids": [[640, 1]], "asks": [[650, 1]]}  # type: ignore[assignment]
    replay.session.received(json.dumps(snapshot).encode(), 1)
    replay.session.received(change, 1)
    assert replay.book.book.asks() == [(645.14, 26.75597395914065), (650.0, 1.0)]
    assert replay.book.book.bids() == [(640.0, 1.0)]


def test_sides_of_derivatives_may_be_missing_or_null(outlet: Any) -> None:
    replay = Replay(outlet, plain_market("X", LINEAR), derivatives_book_levels=20)
    topic = "market.X.depth.size_20.high_freq"
    ticks: list[dict[str, Any]] = [
        {"event": "snapshot", "version": 5, "ts": 1, "asks": [[2, 1]]},
        {"event": "update", "version": 6, "ts": 1, "asks": None, "bids": [[1, 3]]},
    ]
    for tick in ticks:
        replay.session.received(json.dumps({"ch": topic, "ts": 1, "tick": tick}).encode(), 1)
    assert (replay.book.book.bids(), replay.book.book.asks()) == ([(1.0, 3.0)], [(2.0, 1.0)])


def test_the_outer_name_of_a_frame_counts(recordings: Any, outlet: Any) -> None:
    """A documented frame names another contract inside."""
    replay = Replay(outlet, plain_market("ETH-USDT", LINEAR), derivatives_book_levels=20)
    for payload in recordings.frames("linear-highfreq-documented")[:4]:
        replay.session.received(payload, 1)
    assert replay.book.state is BookState.LIVE
    assert replay.channel in outlet.acks


# -- trades -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("spot-depth-step0-trades", SPOT),
        ("perp-linear-depth-step0-trades", LINEAR),
        ("perp-coinm-depth-step0-trades", COIN_SWAP),
    ],
)
def test_recorded_trades_are_told_once_in_order_and_for_one_side(
    recordings: Any, outlet: Any, name: str, product: str
) -> None:
    frames = [json.loads(frame) for frame in recordings.frames(name)]
    topics = sorted({f["ch"] for f in frames if "trade.detail" in f.get("ch", "")})
    natives = [topic.split(".")[1] for topic in topics]
    channels = {native: Channel(DataType.TRADE, product, recordings.market(product, native)) for native in natives}
    session: Any = feed().session(feed().endpoint(channels[natives[0]]), outlet, None)
    list(session.subscribe(list(channels.values()), 0))
    for payload in recordings.wire(name):
        session.received(payload, 7)
    assert len(outlet.sent) == sum("ping" in frame for frame in frames) > 0
    assert outlet.sent[0] == json.dumps({"pong": next(f["ping"] for f in frames if "ping" in f)}).replace(" ", "")
    acknowledged = {f["subbed"]: f["ts"] for f in frames if f.get("subbed") in topics}
    for native, topic in zip(natives, topics, strict=True):
        rows = [row for f in frames if f.get("ch") == topic for row in f["tick"]["data"]]
        new = [row for row in rows if row["ts"] >= acknowledged[topic]]
        assert len(new) < len(rows), "each market sends its last past trade first"
        trades = outlet.inputs[channels[native]].all_trades
        ids = [int(trade.id) for trade in trades]
        assert ids == sorted(set(ids))
        assert len(trades) == len(new)
        by_id = {str(row.get("tradeId", row["id"])): row for row in new}
        for trade in trades:
            row = by_id[trade.id]
            assert (trade.price, trade.time, trade.side) == (row["price"], row["ts"], Side(row["direction"].upper()))
            wanted = row["amount"] if product == SPOT else row["quantity"] / 2
            assert trade.quantity == pytest.approx(wanted, rel=1e-12)


def test_spot_trades_of_one_frame_are_told_oldest_first(outlet: Any) -> None:
    """The venue has the newest first (as in the recorded frame of zeneth)."""
    replay = Replay(outlet, plain_market("btcusdt"))
    replay.acknowledge()
    rows = [{"ts": 5, "tradeId": ident, "price": 1, "amount": 1, "direction": "buy"} for ident in (9, 8, 7)]
    frame = {"ch": "market.btcusdt.trade.detail", "ts": 5, "tick": {"id": 1, "ts": 5, "data": rows}}
    replay.session.received(json.dumps(frame).encode(), 1)
    assert [trade.id for trade in outlet.inputs[replay.trades].all_trades] == ["7", "8", "9"]


def test_a_trade_may_be_of_no_side(recordings: Any) -> None:
    frame = json.loads(recordings.frames("perp-linear-mixed-channels")[-1])
    import msgspec

    trade = msgspec.convert(frame["tick"]["data"][0], ContractTrade).trade("X", None, 1)
    assert (trade.side, trade.quantity) == (None, 1.0)


@pytest.mark.parametrize("name", ["mixed-single-frames", "perp-linear-mixed-channels", "perp-coinm-mixed-channels"])
def test_every_recorded_frame_of_market_sockets_decodes(recordings: Any, outlet: Any, name: str) -> None:
    for frame in recordings.stream(name)[1]:
        if "notification" in frame["url"]:
            continue
        product = SPOT if "huobi.pro" in frame["url"] else LINEAR
        channel = Channel(DataType.TRADE, product, plain_market("none", product))
        session = feed().session(feed().endpoint(channel), outlet, None)
        assert isinstance(session, SpotSession if product == SPOT else ContractSession)
        session.received(frame["text"].encode(), 1)
    assert not outlet.refusals


def test_a_zipped_frame_that_is_cut_off_or_too_long_is_refused(recordings: Any) -> None:
    payload = recordings.wire("perp-linear-depth-step0-trades")[0]
    assert unzipped(payload, 10_000)
    with pytest.raises(ValueError, match="cut off"):
        unzipped(payload[:-9], 10_000)
    with pytest.raises(ValueError, match="more than 50 bytes"):
        unzipped(payload, 50)


# -- markets and snapshots ----------------------------------------------------------------------------------------


def test_recorded_lists_become_markets_with_names_of_their_own(recordings: Any) -> None:
    markets = [market for product in PRODUCTS for market in recordings.markets(product)]
    assert len(markets) == sum(len(recordings.rows(product)) for product in PRODUCTS) > 300
    assert len({market.symbol for market in markets}) == len(markets) == len({market.key for market in markets})
    for market in markets:
        assert str(Symbol.parse(market.symbol)) == market.symbol
        assert market.tick_size
        assert market.lot_size
        assert market.min_quantity is not None
        assert market.min_quantity >= market.lot_size
        assert (market.contract_size is None) == (market.product == SPOT)


@pytest.mark.parametrize(
    ("product", "native", "symbol", "size", "kind", "margin"),
    [
        (SPOT, "trioeth", "HUOBI-SPOT-TRIO-ETH", None, None, None),
        (SPOT, "btc3lusdt", "HUOBI-SPOT-BTC3L-USDT", None, None, None),
        (LINEAR, "BTC-USDT", "HUOBI-PERP-BTC-USDT", "0.001", ContractType.LINEAR, "USDT"),
        (LINEAR, "BTC-USDT-211231", "HUOBI-FUT-BTC-USDT-211231", "0.001", ContractType.LINEAR, "USDT"),
        (COIN_SWAP, "BTC-USD", "HUOBI-PERP-BTC-USD-COINM", "100", ContractType.INVERSE, "BTC"),
        (COIN_SWAP, "ATOM-USD", "HUOBI-PERP-ATOM-USD-COINM", "10", ContractType.INVERSE, "ATOM"),
        (COIN_FUTURES, "BTC210924", "HUOBI-FUT-BTC-USD-210924-COINM", "100", ContractType.INVERSE, "BTC"),
    ],
)
def test_markets_are_named_and_sized(
    recordings: Any, product: str, native: str, symbol: str, size: str | None, kind: ContractType | None, margin: Any
) -> None:
    market = recordings.market(product, native)
    assert (market.symbol, market.contract_type, market.margin_asset) == (symbol, kind, margin)
    assert market.contract_size == (None if size is None else Decimal(size))
    if market.asset_type is AssetType.FUT:
        assert market.expiry is not None
    assert market.status is MarketStatus.ACTIVE


def test_the_least_quantity_is_at_least_one_lot(recordings: Any) -> None:
    market = recordings.market(SPOT, "powreth")
    assert (market.lot_size, market.min_quantity) == (1, 1)
    market = recordings.market(SPOT, "btc3lusdt")
    assert (market.tick_size, market.lot_size) == (Decimal("0.0001"), Decimal("0.0001"))
    assert (market.min_quantity, market.max_quantity) == (Decimal("0.01"), Decimal("199.0515"))
    assert market.min_notional == 5


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (1, MarketStatus.ACTIVE),
        (5, MarketStatus.ACTIVE),  # settling: over before the list is read again
        (3, MarketStatus.HALTED),
        (2, MarketStatus.PENDING),
        (8, MarketStatus.EXPIRED),
        (99, MarketStatus.HALTED),
    ],
)
def test_contracts_say_whether_they_trade(code: int, status: MarketStatus) -> None:
    from astra_htx.markets import ContractRow

    row = ContractRow("A", "A-USD", Decimal(10), Decimal("0.1"), code)
    assert row.market(COIN_SWAP).status is status


def test_a_row_that_cannot_be_understood_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    from astra_htx.markets import decode_rows, markets_of

    good = {"symbol": "A", "contract_code": "A-USD", "contract_size": 10, "price_tick": 0.1, "contract_status": 3}
    body = json.dumps({"data": [{"symbol": "B"}, good]}).encode()
    (market,) = markets_of(decode_rows(body).data, COIN_SWAP)
    assert (market.native_symbol, market.status) == ("A-USD", MarketStatus.HALTED)
    assert "left out" in caplog.text


@pytest.mark.parametrize("name", ["spot-market-depth", "perp-linear-market-depth", "fut-coinm-market-depth"])
def test_recorded_snapshots_parse(recordings: Any, name: str) -> None:
    tick = decode_depth(recordings.body(name)).tick
    assert tick.bids
    assert tick.asks
    assert tick.bids[0][0] < tick.asks[0][0]


def test_recorded_trades_of_rest_parse(recordings: Any) -> None:
    import msgspec

    row = recordings.rest("linear-last-trades")["body"]["tick"]["data"][0]
    trade = msgspec.convert(row, ContractTrade, strict=False).trade("X", None, 1)
    assert (trade.price, trade.quantity, trade.side, trade.id) == (0.5544, 2.0, Side.BUY, "1000003558478170000")
    spot = {"ts": 1, "price": "5.33E-4", "amount": 1.3640078e7, "direction": "sell", "trade-id": 77, "id": 10**26}
    assert msgspec.convert(spot, SpotTrade, strict=False).trade("X", None, 1).id == "77"
