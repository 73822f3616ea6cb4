"""Everything that was recorded of the venue: streams decode, books merge, answers parse, signatures reproduce."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from astra.errors import AuthenticationError, PermissionDenied
from astra.models.credentials import ApiKey
from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orderbook import BookState, OrderbookUpdate, UpdateKind
from astra.models.orders import OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.net.http import Request, Response
from astra.streams.feed import BookRules, Channel, DataType
from astra.streams.sync import BookSync
from astra.symbols import AssetType, Symbol
from astra_okx.errors import interpret
from astra_okx.feed import OkxFeed
from astra_okx.feed.accounts import TradingSession
from astra_okx.feed.markets import MarketSession
from astra_okx.history import decode_snapshots
from astra_okx.settings import OPTION, PRODUCTS, SPOT, SWAP, TRADING, OkxSettings
from astra_okx.signing import login, rest_sign, signature, time_stamp
from astra_okx.trading import account

BOOKS = {
    "spot-books-trades-ticker": "BTC-USDT",
    "fut-inverse-books-trades-ticker": "BTC-USD-220527",
}


def plain_market(native: str, product: str = SPOT) -> Market:
    """A market whose native quantities are base units: the recorded text stays comparable."""
    return Market(
        symbol="OKX-SPOT-A-B",
        asset_type=AssetType.SPOT,
        base_asset="A",
        quote_asset="B",
        native_symbol=native,
        product=product,
    )


def feed() -> OkxFeed:
    return OkxFeed(OkxSettings(), lambda native: None, lambda: None, lambda credentials: None, lambda: None)  # type: ignore[arg-type, return-value]


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


class Numbered:
    """Frames of 2022 with the ids that they carry today."""

    def __init__(self) -> None:
        self.last = 100

    def frame(self, text: str) -> bytes:
        frame = json.loads(text)
        if frame.get("arg", {}).get("channel") == "books" and "action" in frame:
            for row in frame["data"]:
                row["prevSeqId"] = -1 if frame["action"] == "snapshot" else self.last
                self.last += 7
                row["seqId"] = self.last
        return json.dumps(frame).encode()


class Replay:
    """A recording played through a session into a book and a list of trades."""

    def __init__(self, outlet: Any, market: Market, rules: BookRules) -> None:
        self.updates: list[OrderbookUpdate] = []
        self.effects = Effects()
        self.book = BookSync(market.symbol, rules, self.effects, self.updates.append)
        self.channel = Channel(DataType.ORDERBOOK, market.product, market)
        self.trades = Channel(DataType.TRADE, market.product, market)
        outlet.inputs[self.channel] = self.book
        self.outlet = outlet
        self.session = MarketSession(feed().endpoint(self.channel), outlet, None)
        list(self.session.subscribe([self.channel, self.trades], 0))
        self.book.opened()


def checksum(book: Any, texts: dict[str, dict[float, str]]) -> int:
    """The venue's former checksum over the 25 best levels, with the digits of the wire."""
    parts: list[str] = []
    bids, asks = book.bids(25), book.asks(25)
    for place in range(25):
        for side, levels in (("bids", bids), ("asks", asks)):
            if place < len(levels):
                price = levels[place][0]
                parts.append(texts[side][price])
    value = zlib.crc32(":".join(parts).encode())
    return value - 2**32 if value >= 2**31 else value


@pytest.mark.parametrize("name", BOOKS)
def test_recorded_books_have_the_recorded_checksums(recordings: Any, outlet: Any, name: str) -> None:
    """The venue computes none any more; those of 2022 still prove that levels are merged as it merges them."""
    replay = Replay(outlet, plain_market(BOOKS[name]), feed().book_rules(Channel(DataType.ORDERBOOK, SPOT)))
    numbers, compared = Numbered(), 0
    texts: dict[str, dict[float, str]] = {"bids": {}, "asks": {}}
    for frame in recordings.stream(name)[1]:
        if frame["direction"] != "received":
            continue
        replay.session.received(numbers.frame(frame["text"]), 1)
        content = json.loads(frame["text"])
        if content.get("arg", {}).get("channel") != "books" or "action" not in content:
            continue
        for row in content["data"]:
            for side in ("bids", "asks"):
                texts[side].update({float(level[0]): f"{level[0]}:{level[1]}" for level in row[side]})
            assert checksum(replay.book.book, texts) == row["checksum"]
            compared += 1
    assert compared > 90
    assert replay.book.state is BookState.LIVE
    assert not replay.effects.resubscriptions
    assert [update.kind for update in replay.updates[:2]] == [UpdateKind.SNAPSHOT, UpdateKind.UPDATE]
    ids = [update.update_id for update in replay.updates]
    assert ids == sorted(set(ids))
    assert outlet.acks.count(replay.channel) >= 1


@pytest.mark.parametrize("missing", [3, 50])
def test_a_frame_that_is_missing_is_noticed_at_the_next_one(recordings: Any, outlet: Any, missing: int) -> None:
    name = "spot-books-trades-ticker"
    replay = Replay(outlet, plain_market(BOOKS[name]), feed().book_rules(Channel(DataType.ORDERBOOK, SPOT)))
    numbers, seen = Numbered(), 0
    for frame in recordings.stream(name)[1]:
        text = numbers.frame(frame["text"]) if frame["direction"] == "received" else b""
        if b'"action"' not in text:
            continue
        seen += 1
        if seen == missing:
            continue
        replay.session.received(text, 1)
        if seen < missing:
            assert replay.book.state is BookState.LIVE
        elif seen == missing + 1:
            assert replay.book.state is BookState.STALE
            assert len(replay.effects.resubscriptions) == 1
            return
    raise AssertionError("the recording is shorter than that")


def test_recorded_trades_carry_the_takers_side(recordings: Any, outlet: Any) -> None:
    market = plain_market("BTC-USDT")
    replay = Replay(outlet, market, feed().book_rules(Channel(DataType.ORDERBOOK, SPOT)))
    wanted = []
    for payload in recordings.received("spot-trades-2026"):
        replay.session.received(payload, 5)
        for row in json.loads(payload).get("data", ()):
            wanted.append(
                (float(row["px"]), float(row["sz"]), Side(row["side"].upper()), int(row["ts"]), row["tradeId"])
            )
    trades = outlet.inputs[replay.trades].all_trades
    assert [(t.price, t.quantity, t.side, t.time, t.id) for t in trades] == wanted
    assert len(wanted) > 1


@pytest.mark.parametrize("name", ["spot-books-documented-2026", "perp-books5-trades-ticker-2026", "candles-2026"])
def test_streams_of_today_decode(recordings: Any, outlet: Any, name: str) -> None:
    replay = Replay(outlet, plain_market("BTC-USDT"), feed().book_rules(Channel(DataType.ORDERBOOK, SPOT)))
    for payload in recordings.received(name):
        replay.session.received(payload, 1)
    if name.startswith("spot-books"):
        assert replay.book.state is BookState.LIVE
        assert outlet.reconnects == [("the venue announced that this connection ends", True)]


def private(recordings: Any, outlet: Any, name: str, *natives: str) -> list[Any]:
    """The account events of a recorded private stream."""
    markets = {native: recordings.market(native) if "USDT" in native else plain_market(native) for native in natives}
    channel = Channel(DataType.ACCOUNT, TRADING)
    key = ApiKey(key=SecretStr("k"), secret=SecretStr("s"), passphrase=SecretStr("p"))
    session = TradingSession(feed().endpoint(channel), outlet, None, markets.get, key, lambda: None)
    session.received(b'{"event":"login","code":"0","msg":"","connId":"x"}', 1)
    list(session.subscribe([channel], 0))
    for payload in recordings.received(name):
        session.received(payload, 1)
    return list(outlet.inputs[channel].account_events)


def test_a_market_order_sized_in_quote_is_told_with_its_one_fill(recordings: Any, outlet: Any) -> None:
    events = private(recordings, outlet, "private-orders-spot-market-quote", "BTC-USDT")
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Order", "Fill", "Order", "Order"]
    fill, last = events[1], events[-1]
    assert (fill.price, fill.quantity, fill.fee, fill.fee_asset) == (
        Decimal("26228.1"),
        Decimal("0.00038128"),
        Decimal("0.010000249968"),
        "USDT",
    )
    assert (last.status, last.quote_quantity, last.quantity) == (OrderStatus.FILLED, Decimal(10), None)
    assert (last.filled_quantity, last.type, last.side) == (Decimal("0.00038128"), OrderType.MARKET, Side.SELL)


@pytest.mark.parametrize(
    ("name", "natives"),
    [
        ("private-orders-documented", ["BTC-USDT"]),
        ("private-orders-swap-2025", ["BTC-USDT-SWAP"]),
        ("private-account-documented", []),
        ("private-account-2025", []),
        ("private-account-2026-documented", []),
        ("private-positions-documented", ["ETH-USDT", "BTC-USDT", "BTC-USD-SWAP", "ETH-USDT-SWAP", "ETH-USD-210430"]),
    ],
)
def test_private_streams_decode(recordings: Any, outlet: Any, name: str, natives: list[str]) -> None:
    known = {m.native_symbol for product in PRODUCTS for m in recordings.markets(product)}
    events = private(recordings, outlet, name, *(n for n in natives if n in known or "USDT" not in n))
    assert events or outlet.inputs[next(iter(outlet.inputs))].of("interrupted") or "empty" in name


# -- REST ---------------------------------------------------------------------------------------------------------


def test_recorded_instruments_become_markets_with_names_of_their_own(recordings: Any) -> None:
    markets = [market for product in PRODUCTS for market in recordings.markets(product)]
    assert len(markets) > 250
    assert len({market.symbol for market in markets}) == len(markets) == len({market.key for market in markets})
    for market in markets:
        assert str(Symbol.parse(market.symbol)) == market.symbol
        assert market.tick_size
        assert market.lot_size
        assert market.min_quantity
        assert (market.contract_size is None) == (market.product == SPOT)
        if market.expiry is not None:
            assert str(market.parsed_symbol.expiry) in market.symbol


@pytest.mark.parametrize(
    ("native", "symbol", "size", "kind"),
    [
        ("BTC-USDT", "OKX-SPOT-BTC-USDT", None, None),
        ("BTC-USDT-SWAP", "OKX-PERP-BTC-USDT", "0.01", ContractType.LINEAR),
        ("BTC-USD_UM-SWAP", "OKX-PERP-BTC-USD", "0.0001", ContractType.LINEAR),
        ("BTC-USD-SWAP", "OKX-PERP-BTC-USD-COINM", "100", ContractType.INVERSE),
        ("BTC-USD_UM_XPERP-310404", "OKX-FUT-BTC-USD-310404-XPERP", "0.0001", ContractType.LINEAR),
        ("BTC-USD_UM-260428-72000-C", "OKX-OPT-BTC-USD-260428-72000-C", "0.01", ContractType.LINEAR),
    ],
)
def test_markets_are_named_as_promised(recordings: Any, native: str, symbol: str, size: str | None, kind: Any) -> None:
    market = recordings.market(native)
    assert market.symbol == symbol
    assert market.contract_type is kind
    if size is not None:
        assert market.contract_size == Decimal(size)


def test_option_ticks_come_in_bands(recordings: Any) -> None:
    coin = next(m for m in recordings.markets(OPTION) if m.is_coin_margined)
    assert coin.tick_at(Decimal("0.004")) == Decimal("0.0001")
    assert coin.tick_at(Decimal("0.005")) == Decimal("0.0005")
    dollars = next(m for m in recordings.markets(OPTION) if not m.is_coin_margined)
    assert (dollars.tick_at(Decimal(4)), dollars.tick_at(Decimal(5))) == (Decimal(1), Decimal(5))


def test_markets_that_are_not_open_yet_are_left_out(recordings: Any) -> None:
    rows = {
        row["instId"]: row
        for name in ("spot", "swap")
        for row in recordings.rest(f"instruments-{name}")["body"]["data"]
    }
    listed = {m.native_symbol: m for product in (SPOT, SWAP) for m in recordings.markets(product)}
    for native, row in rows.items():
        if not row["tickSz"]:
            assert native not in listed
        elif row["state"] not in ("live", "post_only"):
            assert listed[native].status is not MarketStatus.ACTIVE


def test_rest_answers_parse(recordings: Any) -> None:
    swap, spot = recordings.market("BTC-USDT-SWAP"), recordings.market("BTC-USDT")
    (order,) = account._decode_orders(recordings.body("orders-pending")).data
    told = order.order(spot)
    assert (told.status, told.time_in_force, told.price, told.quantity) == (
        OrderStatus.NEW,
        TimeInForce.GTC,
        Decimal(59200),
        Decimal(1),
    )
    for name in ("order-details", "orders-history"):
        assert account._decode_orders(recordings.body(name)).data[0].order(spot).id
    (fill,) = [row.fill(spot) for row in account._decode_fills(recordings.body("fills")).data]
    assert (fill.fee, fill.fee_asset, fill.id) == (Decimal("0.00000192834"), "BTC", "744876980")
    balances = [row.balance() for row in account._decode_accounts(recordings.body("account-balance")).data[0].details]
    assert balances[0].asset == "USDT"
    assert (balances[0].total, balances[0].locked) == (Decimal("4850.435693622894"), Decimal("158.573"))
    (position,) = account._decode_positions(recordings.body("account-positions")).data
    assert position.position(swap).side is PositionSide.LONG
    (fees,) = account._decode_fees(recordings.body("trade-fee-2026")).data
    assert (fees.fees(spot).maker, fees.fees(spot).taker) == (Decimal("0.0008"), Decimal("0.001"))
    (book,) = decode_snapshots(recordings.body("order-book-seqid")).data
    assert (book.last, book.bids[0][:2]) == (3235851742, (41006.3, 0.30178218))
    for name in ("place-order", "place-batch-orders", "amend-order", "cancel-order", "cancel-batch-orders"):
        assert account._decode_acks(recordings.body(name)).data[0].order_id


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("error-account-mode", PermissionDenied, "51010"),
        ("error-missing-key-header", AuthenticationError, "50103"),
        ("error-kyc", PermissionDenied, "4088"),
    ],
)
def test_recorded_errors_are_what_the_sheet_says(recordings: Any, name: str, kind: type, code: str) -> None:
    capture = recordings.rest(name)
    request = Request(capture["request"]["method"], "/api/v5/trade/order", command=True)
    response = Response(status=capture["status"], headers={}, body=recordings.body(name))
    error: Any = interpret("OKX", request, response)
    assert type(error) is kind
    assert error.code == code


def test_every_other_recorded_answer_is_no_error(recordings: Any) -> None:
    names = [name for name in recordings.names() if not name.startswith("error-")]
    assert len(names) > 30
    for name in names:
        capture = recordings.rest(name)
        path = capture["request"]["url"].partition("okx.com")[2]
        request = Request(capture["request"]["method"], path, command=capture["request"]["method"] == "POST")
        assert interpret("OKX", request, Response(status=200, headers={}, body=recordings.body(name))) is None, name


# -- signatures ---------------------------------------------------------------------------------------------------


def test_signing_vectors_reproduce(recordings: Any) -> None:
    vectors = recordings.file("signing.json")["vectors"]
    assert len(vectors) == 4
    for vector in vectors:
        assert signature(vector["secret"], vector["prehash"]) == vector["expected"]


def test_requests_are_signed_as_sent(recordings: Any) -> None:
    vector = recordings.file("signing.json")["vectors"][1]
    key = ApiKey(
        key=SecretStr(vector["key"]), secret=SecretStr(vector["secret"]), passphrase=SecretStr(vector["passphrase"])
    )
    path, _, query = vector["requestPath"].partition("?")
    sign = rest_sign(key, simulated=True)
    signed = sign(Request("GET", path, query=query), 1_607_418_537_715)
    assert signed.headers["OK-ACCESS-SIGN"] == vector["expected"]
    assert signed.headers["OK-ACCESS-TIMESTAMP"] == vector["timestamp"] == time_stamp(1_607_418_537_715)
    assert signed.headers["x-simulated-trading"] == "1"
    frame = json.loads(login(key, 1_538_054_050_999))
    assert frame["args"][0]["sign"] == "m+lzVL6siKIpimAa/6y8lHpWZe0SCpehAqymC8Nel0A="
    assert frame["args"][0]["timestamp"] == "1538054050"


def test_a_key_without_passphrase_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="passphrase"):
        rest_sign(ApiKey(key=SecretStr("k"), secret=SecretStr("s")), simulated=False)


def test_unused_products_are_the_grammar_s_limits(recordings: Any) -> None:
    """Event contracts have no symbols: their recorded rows are in no list."""
    native = {row["instId"] for row in recordings.rest("instruments-events")["body"]["data"]}
    assert native
    assert not native & {m.native_symbol for product in PRODUCTS for m in recordings.markets(product)}
