"""Everything that was recorded of the venue: streams decode, books merge, answers parse, signatures reproduce."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from astra.errors import AuthenticationError, MarketNotFound, RateLimited, VenueError
from astra.models.accounts import Balance
from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orderbook import BookState, Integrity, OrderbookUpdate
from astra.models.orders import OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.net.http import Request, Response
from astra.streams.feed import BookRules, Channel, DataType
from astra.streams.sync import BookSync
from astra.symbols import AssetType, OptionType
from astra_coinbase.errors import interpret_advanced, interpret_gateway
from astra_coinbase.feed import CoinbaseFeed
from astra_coinbase.feed.advanced import AdvancedSession
from astra_coinbase.feed.international import GatewaySession
from astra_coinbase.feed.users import UserSession, decode_user
from astra_coinbase.history import decode_book, decode_gateway_book, decode_trades
from astra_coinbase.markets import decode_instruments, decode_products, instruments_of, products_of
from astra_coinbase.rest import decode_time
from astra_coinbase.settings import ADVANCED, INTERNATIONAL, SPOT, US_FUTURES, CoinbaseSettings
from astra_coinbase.trading import advanced, international
from astra_coinbase.trading.advanced_rows import Kinds

LEVEL2 = "spot-advanced-level2-trades"
OPTIONS = "opt-gateway-protocol-book-ticker"


def feed(market_of: Any = None) -> CoinbaseFeed:
    return CoinbaseFeed(CoinbaseSettings(), market_of or (lambda *_: None), lambda: None, {}, {}, {})


def plain_market(native: str, product: str = SPOT) -> Market:
    """A market whose native quantities are base units."""
    return Market(
        symbol=f"COINBASE-SPOT-{native.replace('-', '_')}-USD",
        asset_type=AssetType.SPOT,
        base_asset="A",
        quote_asset="USD",
        native_symbol=native,
        product=product,
    )


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
    """A recording played through a session into books and trades."""

    def __init__(self, outlet: Any, session: type[Any], markets: list[Market]) -> None:
        self.outlet = outlet
        self.updates: list[OrderbookUpdate] = []
        self.effects = Effects()
        self.books: dict[str, BookSync] = {}
        self.trades: dict[str, Channel] = {}
        self.book_channels: list[Channel] = []
        rules = feed().book_rules(Channel(DataType.ORDERBOOK, markets[0].product, markets[0]))
        for market in markets:
            channel = Channel(DataType.ORDERBOOK, market.product, market)
            book = BookSync(market.symbol, rules, self.effects, self.updates.append)
            outlet.inputs[channel] = self.books[market.native_symbol] = book
            self.book_channels.append(channel)
            self.trades[market.native_symbol] = Channel(DataType.TRADE, market.product, market)
            book.opened()
        self.session = session(feed().endpoint(self.book_channels[0]), outlet, None)

    def traded(self, native: str) -> list[Any]:
        found: list[Any] = self.outlet.inputs[self.trades[native]].all_trades
        return found


def level2(outlet: Any) -> Replay:
    """The frames that the recorded client sent: level2, trades, heartbeats."""
    replay = Replay(outlet, AdvancedSession, [plain_market("BTC-USD"), plain_market("ETH-USD")])
    list(replay.session.subscribe(replay.book_channels, 0))
    list(replay.session.subscribe(list(replay.trades.values()), 0))
    return replay


def test_the_recorded_level2_books_end_at_the_recorded_prices(recordings: Any, outlet: Any) -> None:
    replay = level2(outlet)
    for payload in recordings.received(LEVEL2):
        replay.session.received(payload, 7)
    bests = {name: (book.book.best_bid, book.book.best_ask) for name, book in replay.books.items()}
    assert {name: (bid[0], ask[0]) for name, (bid, ask) in bests.items() if bid and ask} == {
        "BTC-USD": (83277.25, 83277.26),
        "ETH-USD": (2666.08, 2666.13),
    }
    assert all(book.state is BookState.LIVE for book in replay.books.values())
    assert not replay.effects.resubscriptions
    assert not outlet.reconnects
    assert set(outlet.acks) == {*replay.book_channels, *replay.trades.values()}
    assert not outlet.refusals


def test_recorded_trades_carry_the_takers_side_and_the_last_hundred_are_no_news(recordings: Any, outlet: Any) -> None:
    replay = level2(outlet)
    wanted: dict[str, list[Any]] = {"BTC-USD": [], "ETH-USD": []}
    for payload in recordings.received(LEVEL2):
        replay.session.received(payload, 7)
        frame = json.loads(payload)
        for event in frame["events"] if frame["channel"] == "market_trades" else ():
            for row in reversed(event["trades"]) if event["type"] == "update" else ():
                wanted[row["product_id"]].append((row["trade_id"], Side(row["side"]).opposite, float(row["size"])))
    for name, rows in wanted.items():
        assert [(trade.id, trade.side, trade.quantity) for trade in replay.traded(name)] == rows
    (trade,) = replay.traded("BTC-USD")
    # The update that follows takes its size from the offers: somebody bought.
    assert (trade.id, trade.side, trade.price) == ("1100253488", Side.BUY, 83277.26)
    assert trade.time == 1790735993977


@pytest.mark.parametrize("missing", range(1, 25))
def test_any_frame_of_the_connection_that_is_missing_is_noticed_at_the_next(
    recordings: Any, outlet: Any, missing: int
) -> None:
    """Whatever it was about: books, trades, acknowledgements."""
    replay = level2(outlet)
    for number, payload in enumerate(recordings.received(LEVEL2)):
        if number == missing:
            continue
        replay.session.received(payload, 7)
        assert bool(outlet.reconnects) == (number > missing)
        if number > missing:
            return


def test_the_first_frame_is_missed_and_a_repeated_one_is_not_read_twice(recordings: Any, outlet: Any) -> None:
    frames = recordings.received(LEVEL2)
    replay = level2(outlet)
    for payload in frames[:12]:
        replay.session.received(payload, 7)
        replay.session.received(payload, 7)
    assert not outlet.reconnects
    assert len(outlet.acks) == len(set(outlet.acks))
    other = level2(type(outlet)())
    other.session.received(frames[1], 7)
    assert other.outlet.reconnects


def test_documented_frames_of_other_channels_are_passed_over(recordings: Any, outlet: Any) -> None:
    for payload in recordings.received("spot-advanced-misc-documented"):
        frame = {**json.loads(payload), "sequence_num": 0}
        market = plain_market("ETH-USDT")
        replay = Replay(outlet, AdvancedSession, [market])
        list(replay.session.subscribe(list(replay.trades.values()), 0))
        replay.session.received(json.dumps(frame).encode(), 7)
        if frame["channel"] == "market_trades":
            ids = [(trade.id, trade.side) for trade in replay.traded("ETH-USDT")]
            assert ids == [("22381690", Side.SELL), ("22381691", Side.SELL)]
    assert not outlet.reconnects


# -- the gateway's protocol -------------------------------------------------------------------------------------------


def option_names(recordings: Any) -> list[str]:
    (sent,) = [frame for frame in recordings.stream(OPTIONS)[1] if frame["direction"] == "sent"]
    channels = json.loads(sent["text"])["params"]["channels"]
    return [name.split(".")[1] for name in channels if name.startswith("book.")]


def test_recorded_option_books_equal_all_recorded_tickers(recordings: Any, outlet: Any) -> None:
    names = option_names(recordings)
    replay = Replay(outlet, GatewaySession, [plain_market(name, INTERNATIONAL) for name in names])
    list(replay.session.subscribe(replay.book_channels, 0))
    states: dict[tuple[str, int], tuple[Any, Any]] = {}
    tickers: list[dict[str, Any]] = []
    for payload in recordings.received(OPTIONS):
        replay.session.received(payload, 7)
        frame = json.loads(payload)
        data = frame.get("params", {}).get("data", {})
        if frame.get("params", {}).get("channel", "").startswith("book."):
            book = replay.books[data["instrument_name"]]
            states[data["instrument_name"], data["timestamp"]] = (book.book.best_bid, book.book.best_ask)
        elif "best_bid_price" in data:
            tickers.append(data)
    compared = 0
    for ticker in tickers:
        # A ticker says what held when the book had last changed.
        name, time = ticker["instrument_name"], ticker["timestamp"]
        times = [at for known, at in states if known == name and at <= time]
        if not times:
            continue
        bid, ask = states[name, max(times)]
        assert bid == (ticker["best_bid_price"], ticker["best_bid_amount"])
        assert ask == (ticker["best_ask_price"], ticker["best_ask_amount"])
        compared += 1
    assert compared == 50
    assert not replay.effects.resubscriptions
    assert {update.kind.value for update in replay.updates} == {"SNAPSHOT", "UPDATE"}


def test_a_change_that_is_missing_in_a_recorded_book_is_noticed_at_the_next(recordings: Any, outlet: Any) -> None:
    frames = [json.loads(payload) for payload in recordings.received(OPTIONS)]
    changes = [
        frame["params"]["data"]
        for frame in frames
        if frame.get("params", {}).get("channel", "").startswith("book.")
        and frame["params"]["data"]["type"] == "change"
    ]
    busy = max({row["instrument_name"] for row in changes}, key=[row["instrument_name"] for row in changes].count)
    replay = Replay(outlet, GatewaySession, [plain_market(busy, INTERNATIONAL)])
    list(replay.session.subscribe(replay.book_channels, 0))
    seen = 0
    for frame in frames:
        data = frame.get("params", {}).get("data", {})
        if data.get("instrument_name") != busy or "bids" not in data:
            continue
        seen += 1
        if seen == 5:
            continue
        replay.session.received(json.dumps(frame).encode(), 7)
        assert (replay.books[busy].state is BookState.LIVE) == (seen < 6)
        if seen == 6:
            break
    assert len(replay.effects.resubscriptions) == 1


def test_a_change_without_a_predecessor_breaks_its_book(outlet: Any) -> None:
    replay = Replay(outlet, GatewaySession, [plain_market("X", INTERNATIONAL)])
    list(replay.session.subscribe(replay.book_channels, 0))
    data = {"type": "change", "instrument_name": "X", "timestamp": 1, "change_id": 5, "bids": [], "asks": []}
    replay.session.received(json.dumps({"params": {"channel": "book.X.100ms", "data": data}}).encode(), 1)
    assert replay.effects.resubscriptions == ["a change does not name the one before it"]


def test_the_documented_inverse_perpetual_counts_in_dollars(recordings: Any, outlet: Any) -> None:
    market = recordings.market("BTC-PERPETUAL")
    replay = Replay(outlet, GatewaySession, [market])
    list(replay.session.subscribe([*replay.book_channels, *replay.trades.values()], 0))
    for payload in recordings.received("perp-gateway-protocol-documented"):
        replay.session.received(payload, 7)
    book = replay.books["BTC-PERPETUAL"].book
    assert book.best_bid == (42500.0, 950.0 / 42500.0)
    assert book.best_ask == (42501.5, 700.0 / 42501.5)
    assert (42498.5, 300.0 / 42498.5) in book.bids()
    assert len(outlet.sent) == 1  # the venue asked whether somebody is there
    first = replay.traded("BTC-PERPETUAL")[0]
    assert (first.id, first.side, first.quantity) == ("403691824", Side.SELL, 10.0 / 92294.5)
    assert (outlet.acks, outlet.refusals) == ([*replay.book_channels, *replay.trades.values()], [])


def test_rules_of_books_say_what_the_venue_numbers() -> None:
    rules: BookRules = feed().book_rules(Channel(DataType.ORDERBOOK, SPOT))
    assert (rules.integrity, rules.shared_sequence) == (Integrity.SEQUENCE, True)
    assert feed().book_rules(Channel(DataType.ORDERBOOK, INTERNATIONAL)).continuity.value == "CHAINED"


# -- the user's streams -----------------------------------------------------------------------------------------------


class NoSigner:
    def token(self, now_ms: int) -> str:
        return "token"


def user_session(outlet: Any, markets: dict[str, Market]) -> tuple[UserSession, Channel]:
    channel = Channel(DataType.ACCOUNT, ADVANCED)
    endpoint = feed().endpoint(channel)
    session = UserSession(endpoint, outlet, None, markets.get, NoSigner(), Kinds(), futures=True)  # type: ignore[arg-type]
    list(session.subscribe([channel], 0))
    return session, channel


def renumbered(payloads: list[bytes]) -> list[bytes]:
    return [json.dumps({**json.loads(text), "sequence_num": at}).encode() for at, text in enumerate(payloads)]


def test_the_recorded_user_stream_is_acknowledged(recordings: Any, outlet: Any) -> None:
    session, channel = user_session(outlet, {})
    for payload in renumbered(recordings.received("user-advanced-envelopes")):
        session.received(payload, 7)
    assert outlet.acks == [channel]
    assert not outlet.reconnects
    frames = [decode_user(payload) for payload in recordings.received("user-advanced-envelopes")]
    assert [frame.channel for frame in frames] == ["user", "subscriptions", "heartbeats"]


def test_the_documented_order_and_futures_balance_are_told(recordings: Any, outlet: Any) -> None:
    session, channel = user_session(outlet, {"BTC-USD": recordings.market("BTC-USD")})
    names = ("user-advanced-documented", "futures-balance-summary-documented")
    for payload in renumbered([payload for name in names for payload in recordings.received(name)]):
        session.received(payload, 7)
    order, balance = outlet.inputs[channel].account_events
    assert (order.status, order.type, order.side) == (OrderStatus.FILLED, OrderType.LIMIT, Side.BUY)
    assert (order.price, order.average_price, order.filled_quantity) == (50000, 50000, Decimal("0.01"))
    assert (order.client_order_id, order.post_only, order.time_in_force) == ("XXX", False, TimeInForce.GTC)
    assert balance == Balance(asset="USD", wallet=US_FUTURES, total=Decimal(400), available=Decimal(100))


# -- markets ----------------------------------------------------------------------------------------------------------


def test_recorded_products_become_markets(recordings: Any) -> None:
    aliases: dict[str, str] = {}
    spot = products_of(decode_products(recordings.body("advanced-products-spot")).products, SPOT, aliases)
    assert [market.symbol for market in spot] == ["COINBASE-SPOT-BTC-USD", "COINBASE-SPOT-BTC-USDC"]
    assert aliases == {"BTC-USDC": "BTC-USD"}
    btc = spot[0]
    assert (btc.tick_size, btc.lot_size, btc.min_notional) == (Decimal("0.01"), Decimal("1E-8"), 1)
    assert (btc.status, btc.native_symbol, btc.contract_size) == (MarketStatus.ACTIVE, "BTC-USD", None)
    one = products_of([recordings.body("advanced-product-btc-usd")], SPOT, {})
    assert [market.symbol for market in one] == ["COINBASE-SPOT-BTC-USD"]


def test_us_futures_in_perpetual_style_are_perpetuals(recordings: Any) -> None:
    perpetual, dated = recordings.market("BIP-20DEC30-CDE"), recordings.market("BIT-24APR26-CDE")
    assert (perpetual.symbol, perpetual.expiry) == ("COINBASE-PERP-BTC-USD-BIP", None)
    assert (dated.symbol, dated.expiry) == ("COINBASE-FUT-BTC-USD-260424-BIT", 1777042800000)
    for market in (perpetual, dated):
        assert (market.tick_size, market.lot_size, market.contract_size) == (5, 1, Decimal("0.01"))
        assert (market.contract_type, market.margin_asset, market.product) == (ContractType.LINEAR, "USD", US_FUTURES)
        assert market.status is MarketStatus.ACTIVE
        assert market.min_notional is None


def test_the_gateways_instruments_become_markets(recordings: Any) -> None:
    markets = {m.native_symbol: m for m in instruments_of(decode_instruments(recordings.instruments()).result)}
    assert {name: market.symbol for name, market in markets.items()} == {
        "AAVE_USDC-PERPETUAL": "COINBASE-PERP-AAVE-USDC",
        "ETH-25JUN27-5500-P": "COINBASE-OPT-ETH-USD-270625-5500-P-COINM",
        "BTC-PERPETUAL": "COINBASE-PERP-BTC-USD-COINM",
        "ETH-PERPETUAL": "COINBASE-PERP-ETH-USD-COINM",
        "BTC-25JUN27": "COINBASE-FUT-BTC-USD-270625-COINM",
        "XRP_USDC-25JUN27-2d25-C": "COINBASE-OPT-XRP-USDC-270625-2.25-C",
    }
    option = markets["ETH-25JUN27-5500-P"]
    assert (option.contract_type, option.is_inverse, option.contract_size) == (ContractType.INVERSE, False, 1)
    assert (option.strike, option.option_type, option.margin_asset) == (5500, OptionType.PUT, "ETH")
    assert (option.tick_at(Decimal("0.004")), option.tick_at(Decimal("0.005"))) == (
        Decimal("0.0001"),
        Decimal("0.0005"),
    )
    linear, inverse = markets["AAVE_USDC-PERPETUAL"], markets["BTC-PERPETUAL"]
    assert (linear.lot_size, linear.contract_size, linear.margin_asset) == (1, Decimal("0.01"), "USDC")
    assert (inverse.is_inverse, inverse.contract_size, inverse.margin_asset) == (True, 10, "BTC")


def test_rows_that_cannot_be_understood_are_left_out(recordings: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = json.loads(recordings.body("advanced-products-spot"))["products"]
    odd = [
        {**rows[0], "price_increment": "x"},
        {**rows[0], "base_currency_id": ""},
        {**rows[0], "product_venue": "INTX", "product_type": "FUTURE"},
        {**rows[0], "product_type": "UNKNOWN_PRODUCT_TYPE"},
        {**rows[0], "product_id": 5},
    ]
    body = json.dumps({"products": [*odd, rows[1]]}).encode()
    assert [m.native_symbol for m in products_of(decode_products(body).products, SPOT, {})] == ["BTC-USDC"]
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"is_disabled": True}, MarketStatus.HALTED),
        ({"trading_disabled": True}, MarketStatus.HALTED),
        ({"view_only": True}, MarketStatus.HALTED),
        ({"status": "offline"}, MarketStatus.HALTED),
        ({"status": "delisted"}, MarketStatus.EXPIRED),
        ({"cancel_only": True}, MarketStatus.CANCEL_ONLY),
        ({"limit_only": True}, MarketStatus.ACTIVE),
    ],
)
def test_what_may_be_done_in_a_product_shows(recordings: Any, fields: dict[str, Any], status: MarketStatus) -> None:
    row = json.loads(recordings.body("advanced-products-spot"))["products"][0] | fields
    (market,) = products_of(decode_products(json.dumps({"products": [row]}).encode()).products, SPOT, {})
    assert market.status is status


def test_an_assets_older_name_stays_in_the_symbol(recordings: Any) -> None:
    row = json.loads(recordings.body("advanced-products-spot"))["products"][0]
    row |= {"product_id": "CGLD-USD", "base_currency_id": "CGLD", "alias_to": []}
    (market,) = products_of(decode_products(json.dumps({"products": [row]}).encode()).products, SPOT, {})
    assert (market.symbol, market.base_asset) == ("COINBASE-SPOT-CGLD-USD", "CELO")


# -- answers ----------------------------------------------------------------------------------------------------------


def test_recorded_orders_parse(recordings: Any) -> None:
    btc = recordings.market("BTC-USD")
    order = advanced.decode_order(recordings.body("advanced-order")).order.order(btc)
    assert (order.type, order.time_in_force, order.status) == (
        OrderType.LIMIT,
        TimeInForce.GTC,
        OrderStatus.PARTIALLY_FILLED,
    )
    assert (order.price, order.quantity, order.filled_quantity) == (10000, Decimal("0.001"), Decimal("0.001"))
    rows = advanced.decode_orders(recordings.body("advanced-orders-list")).orders
    market_order = rows[1].order(plain_market("ETH-USD"))
    assert (market_order.type, market_order.status) == (OrderType.MARKET, OrderStatus.FILLED)
    assert (market_order.quote_quantity, market_order.quantity) == (100, None)
    assert (market_order.filled_quantity, market_order.average_price) == (Decimal("0.0325"), Decimal("3076.92"))
    placed = advanced.decode_placed(recordings.body("advanced-create-order-ok"))
    assert placed.success_response.order_id == "52cfe5e2-0b29-4c19-a245-a6a773de5030"
    (cancel,) = advanced.decode_cancels(recordings.body("advanced-batch-cancel")).results
    assert cancel.success


def test_recorded_fills_balances_positions_and_fees_parse(recordings: Any) -> None:
    fills = advanced.decode_fills(recordings.body("advanced-fills")).fills
    fill = fills[0].fill(recordings.market("BTC-USD"))
    assert (fill.price, fill.quantity, fill.fee, fill.fee_asset) == (
        Decimal("45123.45"),
        Decimal("0.005"),
        Decimal("1.14"),
        "USD",
    )
    assert (fill.liquidity, fill.time) == ("MAKER", 1705314600000)
    accounts = advanced.decode_accounts(recordings.body("advanced-accounts")).accounts
    assert accounts[0].balance().asset == "SGD"
    summary = advanced.decode_summary(recordings.body("cfm-balance-summary")).balance_summary
    assert summary is not None
    assert summary.balance() == Balance(asset="USD", wallet=US_FUTURES, total=Decimal(8000), available=Decimal(5000))
    (row,) = advanced.decode_positions(recordings.body("cfm-positions")).positions
    position = row.position(recordings.market("BIP-20DEC30-CDE"))
    assert (position.side, position.contracts, position.quantity) == (PositionSide.LONG, 2, Decimal("0.02"))
    assert (position.entry_price, position.mark_price, position.liquidation_price) == (49000, 50000, 40000)
    tier = advanced.decode_fees(recordings.body("advanced-transaction-summary")).fee_tier
    assert (tier.maker_fee_rate, tier.taker_fee_rate) == ("0.006", "0.012")


def test_a_fill_in_quote_units_becomes_a_whole_number_of_lots(recordings: Any) -> None:
    """The venue's commission of it is 0.6 % of the size: the size was an amount."""
    row = advanced.decode_fills(recordings.body("advanced-fills")).fills[0]
    row.size, row.price, row.size_in_quote = "0.00468307", "21220.64", True
    fill = row.fill(recordings.market("BTC-USD"))
    assert fill.quantity == Decimal("0.00000022")


def test_recorded_answers_of_the_gateway_parse(recordings: Any) -> None:
    eth, kinds = recordings.market("ETH-PERPETUAL"), Kinds()
    order = international.decode_done(recordings.body("gateway-sell")).result.order.order(eth, kinds)
    assert (order.status, order.side, order.contracts) == (OrderStatus.FILLED, Side.SELL, 21)
    assert (order.filled_contracts, order.average_price) == (21, Decimal("202.8"))
    assert order.filled_quantity is not None
    assert order.filled_quantity * Decimal("202.8") == pytest.approx(Decimal(21))
    canceled = international.decode_order(recordings.body("gateway-cancel")).result.order(eth, kinds)
    assert (canceled.type, canceled.price, canceled.stop_price) == (OrderType.STOP_MARKET, None, Decimal("144.73"))
    (row,) = international.decode_orders(recordings.body("gateway-open-orders")).result
    assert (row.limit_price, row.label) == (Decimal("0.0028"), "fooBar")
    trades = international.decode_trades(recordings.body("gateway-user-trades")).result.trades
    rebate = trades[1].fill(recordings.market("BTC-PERPETUAL"))
    assert (rebate.contracts, rebate.fee, rebate.fee_asset) == (1, Decimal("-2.1e-07"), "BTC")
    (position,) = [
        row.position(recordings.market("BTC-PERPETUAL"))
        for row in international.decode_positions(recordings.body("gateway-positions")).result
        if row.instrument_name == "BTC-PERPETUAL"
    ]
    assert (position.side, position.contracts) == (PositionSide.LONG, 5)
    assert position.quantity is not None
    assert position.quantity.quantize(Decimal("1e-9")) == Decimal("0.006687487")
    summaries = international.decode_summaries(recordings.body("gateway-account-summaries")).result.summaries
    assert summaries[0].as_balance().total == Decimal("302.60065765")


def test_recorded_public_answers_parse(recordings: Any) -> None:
    book = decode_book(recordings.body("advanced-product-book")).pricebook
    assert (book.bids[0].price, book.asks[0].price) == (68923.66, 68923.67)
    trades = decode_trades(recordings.body("advanced-market-trades")).trades
    assert trades[0].trade("X", None, 0).side is Side.BUY
    gateway = decode_gateway_book(recordings.body("gateway-get-order-book")).result
    assert gateway.change_id == 9047601566
    assert gateway.bids[0][0] < gateway.asks[0][0]
    assert decode_time(recordings.body("advanced-time")).epoch_millis == "1709005034333"


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("error-advanced-product-not-found", MarketNotFound),
        ("error-advanced-rate-limit", RateLimited),
        ("error-advanced-unauthorized", AuthenticationError),
        ("error-gateway-invalid-credentials", AuthenticationError),
        ("error-gateway-rate-limit", RateLimited),
    ],
)
def test_recorded_errors_have_their_class(recordings: Any, name: str, kind: type[VenueError]) -> None:
    capture = recordings.rest(name)
    path = capture["request"]["url"].partition(".com")[2]
    request = Request(capture["request"]["method"], path)
    interpret = interpret_gateway if "gateway" in name else interpret_advanced
    error = interpret("COINBASE", request, Response(capture["status"] or 400, {}, recordings.body(name)))
    assert type(error) is kind
