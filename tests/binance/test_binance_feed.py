"""The stream protocol, sans-I/O: connections and frames out, events in."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import ContractType, Market
from astra.models.orderbook import Integrity
from astra.models.orders import Fill, Liquidity, MarginMode, Order, OrderStatus, OrderType, PositionSide
from astra.models.trades import Trade
from astra.streams.feed import Channel, Continuity, DataType, Endpoint, Seed, Session
from astra.symbols import AssetType, OptionType
from astra.trading.account import AccountState
from astra_binance.feed.accounts import FuturesAccountSession, OptionsAccountSession, SpotAccountSession
from astra_binance.feed.endpoints import endpoint, listen_url
from astra_binance.feed.markets import MarketSession
from astra_binance.settings import BinanceSettings
from astra_binance.signing import signer

ChannelOf = Callable[[DataType, Market], Channel]
BOOK, TRADE = DataType.ORDERBOOK, DataType.TRADE
SETTINGS = BinanceSettings()
NOW = 1_747_385_641_636


def market(product: str, native: str, **more: Any) -> Market:
    fields: dict[str, Any] = {
        "symbol": f"BINANCE-PERP-{native.replace('-', '.')}-USDT",
        "asset_type": AssetType.PERP,
        "base_asset": "BTC",
        "quote_asset": "USDT",
        "native_symbol": native,
        "product": product,
    }
    return Market(**{**fields, **more})


SPOT = market("spot", "BTCUSDT")
USDM = market("usdm", "BTCUSDT", contract_type=ContractType.LINEAR)
COINM = market("coinm", "BTCUSD_PERP", contract_type=ContractType.INVERSE, contract_size=Decimal(100))
OPTION = market(
    "options",
    "BTC-251123-126000-C",
    contract_type=ContractType.LINEAR,
    contract_size=Decimal(1),
    option_type=OptionType.CALL,
)
PUT = market("options", "BTC-251123-126000-P", contract_type=ContractType.LINEAR, contract_size=Decimal(1))


def opened(channel: Channel, outlet: Any) -> MarketSession:
    return MarketSession(endpoint(channel, SETTINGS), outlet, None)


def subscribed(outlet: Any, *channels: Channel) -> tuple[MarketSession, list[Any]]:
    session = opened(channels[0], outlet)
    return session, [json.loads(frame) for frame in session.subscribe(channels, NOW)]


def push(session: Session, frame: Any, received_ns: int = 9) -> None:
    session.received(json.dumps(frame, ensure_ascii=False).encode(), received_ns)


def depth(symbol: str, first: int, last: int, **more: Any) -> dict[str, Any]:
    return {
        "e": "depthUpdate",
        "E": 1000,
        "s": symbol,
        "U": first,
        "u": last,
        "b": [["10.0", "2"]],
        "a": [["11.0", "0.000"]],
        **more,
    }


def deltas(outlet: Any, channel: Channel) -> list[Any]:
    """The changes that a book was handed, levels as lists."""
    return [
        (first, last, previous, list(bids), list(asks), time, received)
        for first, last, previous, bids, asks, time, received in outlet.inputs[channel].of("delta")
    ]


# -- connections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_type", "one", "url"),
    [
        (BOOK, SPOT, "wss://stream.binance.com:9443/ws"),
        (TRADE, SPOT, "wss://stream.binance.com:9443/ws"),
        (BOOK, USDM, "wss://fstream.binance.com/public/ws"),
        (TRADE, USDM, "wss://fstream.binance.com/market/ws"),
        (BOOK, COINM, "wss://dstream.binance.com/ws"),
        (TRADE, COINM, "wss://dstream.binance.com/ws"),
        (BOOK, OPTION, "wss://fstream.binance.com/public/ws"),
        (TRADE, OPTION, "wss://fstream.binance.com/public/ws"),
    ],
)
def test_every_channel_runs_on_the_path_that_serves_it(
    channel_of: ChannelOf, data_type: DataType, one: Market, url: str
) -> None:
    assert endpoint(channel_of(data_type, one), SETTINGS).url == url


def test_connections_keep_the_venue_s_limits(channel_of: ChannelOf) -> None:
    greedy = BinanceSettings(streams_per_connection=1024)
    for one, streams, messages in ((SPOT, 1024, 5), (USDM, 1024, 10), (COINM, 200, 10), (OPTION, 200, 10)):
        kind = endpoint(channel_of(BOOK, one), greedy)
        assert kind.max_channels == streams
        assert kind.messages_per_s < messages, "pongs count, too"
        assert kind.lifetime_s == 24 * 3600
        assert kind.max_channels_per_frame <= 100
    assert endpoint(channel_of(BOOK, SPOT), SETTINGS).max_channels == 400


def test_families_and_accounts_never_share_a_connection(channel_of: ChannelOf) -> None:
    kinds = [
        endpoint(channel_of(data_type, one), SETTINGS)
        for one in (SPOT, USDM, COINM, OPTION)
        for data_type in (BOOK, TRADE)
    ]
    assert len(set(kinds)) == 6, "books and trades share one on spot and COIN-M"
    mine, yours = (
        Channel(DataType.ACCOUNT, "usdm", credentials=Credentials.of("BINANCE", key, "secret")) for key in ("a", "b")
    )
    assert endpoint(mine, SETTINGS) != endpoint(yours, SETTINGS)
    assert endpoint(mine, SETTINGS).ticketed
    assert "secret" not in repr(endpoint(mine, SETTINGS))


def test_listen_keys_go_where_each_family_wants_them() -> None:
    urls = {}
    for product in ("usdm", "coinm", "options"):
        channel = Channel(DataType.ACCOUNT, product, credentials=Credentials.of("BINANCE", "k", "s"))
        urls[product] = listen_url(endpoint(channel, SETTINGS), "KEY")
    assert urls == {
        "usdm": "wss://fstream.binance.com/private/ws?listenKey=KEY",
        "coinm": "wss://dstream.binance.com/ws/KEY",
        "options": "wss://fstream.binance.com/private/ws/KEY",
    }
    spot = Channel(DataType.ACCOUNT, "spot", credentials=Credentials.of("BINANCE", "k", "s"))
    assert endpoint(spot, SETTINGS).url == "wss://ws-api.binance.com:443/ws-api/v3"


def test_hosts_come_from_the_environment_and_given_ones_win(channel_of: ChannelOf) -> None:
    testnet = BinanceSettings.model_validate({"environment": "testnet", "hosts": {"usdm_stream": "ws://127.0.0.1:9"}})
    assert endpoint(channel_of(BOOK, SPOT), testnet).url == "wss://stream.testnet.binance.vision/ws"
    assert endpoint(channel_of(BOOK, USDM), testnet).url == "ws://127.0.0.1:9/public/ws"
    demo = BinanceSettings(environment="demo")
    assert demo.hosts.spot_rest == "https://demo-api.binance.com"
    live = BinanceSettings().hosts.model_dump().values()
    assert not set(demo.hosts.model_dump().values()) & set(live), "no demo order may reach the live venue"
    assert not set(testnet.hosts.model_dump().values()) & set(live)


@pytest.mark.parametrize("url", ["https://x", "wss://x/ws", "x.com", "wss://x?a=1"])
def test_hosts_that_would_not_work_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"must (start|end)"):
        BinanceSettings.model_validate({"hosts": {"spot_stream": url}})


async def test_books_are_kept_by_each_family_s_rule(channel_of: ChannelOf, played: Any) -> None:
    feed = played.venue.feed
    for one in (SPOT, USDM, COINM, OPTION):
        rules = feed.book_rules(channel_of(BOOK, one))
        assert rules.seed is Seed.REST
        assert rules.continuity is (Continuity.CONTIGUOUS if one is SPOT else Continuity.CHAINED)
        assert rules.integrity is Integrity.SEQUENCE
        assert rules.seed_depth == 1000


# -- subscribing ------------------------------------------------------------------------------------------------


def test_one_frame_subscribes_many_streams_by_lower_case_names(outlet: Any, channel_of: ChannelOf) -> None:
    chinese = market("spot", "币安人生USDT")
    channels = [channel_of(BOOK, SPOT), channel_of(TRADE, SPOT), channel_of(BOOK, chinese)]
    session, frames = subscribed(outlet, *channels)
    assert frames == [
        {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms", "btcusdt@trade", "币安人生usdt@depth@100ms"], "id": 1}
    ]
    assert outlet.acks == []
    push(session, {"result": None, "id": 1})
    assert outlet.acks == channels
    (frame,) = session.unsubscribe(channels[:1], NOW)
    assert json.loads(frame) == {"method": "UNSUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 2}


@pytest.mark.parametrize(
    ("data_type", "one", "stream"),
    [
        (TRADE, USDM, "btcusdt@aggTrade"),
        (TRADE, COINM, "btcusd_perp@aggTrade"),
        (BOOK, COINM, "btcusd_perp@depth@100ms"),
        (BOOK, OPTION, "btc-251123-126000-c@depth@100ms"),
        (TRADE, OPTION, "btcusdt@optionTrade"),
    ],
)
def test_streams_have_the_venue_s_names(
    outlet: Any, channel_of: ChannelOf, data_type: DataType, one: Market, stream: str
) -> None:
    assert subscribed(outlet, channel_of(data_type, one))[1][0]["params"] == [stream]


def test_options_of_one_underlying_share_a_trade_stream(outlet: Any, channel_of: ChannelOf) -> None:
    call, put = channel_of(TRADE, OPTION), channel_of(TRADE, PUT)
    session, frames = subscribed(outlet, call, put)
    assert frames[0]["params"] == ["btcusdt@optionTrade"]
    push(session, {"result": None, "id": 1})
    assert outlet.acks == [call, put]
    assert list(session.unsubscribe([call], NOW)) == [], "the put still needs it"
    (frame,) = session.unsubscribe([put], NOW)
    assert json.loads(frame)["params"] == ["btcusdt@optionTrade"]


def test_frames_of_ended_channels_are_dropped(outlet: Any, channel_of: ChannelOf) -> None:
    book, trade = channel_of(BOOK, USDM), channel_of(TRADE, USDM)
    session, _ = subscribed(outlet, book, trade)
    list(session.unsubscribe([book, trade], NOW))
    push(session, depth("BTCUSDT", 1, 2, pu=0))
    push(session, {"e": "aggTrade", "s": "BTCUSDT", "a": 1, "p": "1", "q": "1", "T": 1, "m": True})
    push(session, depth("ETHUSDT", 1, 2, pu=0))
    assert outlet.inputs[book].calls == outlet.inputs[trade].calls == []


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refused_frame_is_halved_until_the_faulty_stream_is_found(
    outlet: Any, channel_of: ChannelOf, wrapped: bool
) -> None:
    channels = [channel_of(BOOK, market("spot", name)) for name in ("A", "B", "C")]
    session, _ = subscribed(outlet, *channels)

    def refuse(number: int) -> None:
        error = {"code": 2, "msg": "Invalid request"}
        push(session, {"error": error, "id": number} if wrapped else {**error, "id": number})

    refuse(1)
    assert [json.loads(frame)["params"] for frame in outlet.sent] == [
        ["a@depth@100ms"],
        ["b@depth@100ms", "c@depth@100ms"],
    ]
    push(session, {"result": None, "id": 3})
    refuse(2)
    assert outlet.acks == channels[1:]
    assert [(one, final) for one, _, final in outlet.refusals] == [(channels[0], True)]
    assert "a@depth@100ms" in outlet.refusals[0][1]


def test_a_refusal_without_an_id_concerns_the_only_frame_that_waits(outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(BOOK, SPOT)
    session, _ = subscribed(outlet, channel)
    push(session, {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})
    assert [one for one, *_ in outlet.refusals] == [channel]
    push(session, {"code": 3, "msg": "again"})
    assert len(outlet.refusals) == 1


# -- books and trades -------------------------------------------------------------------------------------------


def test_spot_depth_is_handed_on_with_its_contiguous_ids(outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(BOOK, SPOT)
    session, _ = subscribed(outlet, channel)
    push(session, depth("BTCUSDT", 5, 7))
    assert deltas(outlet, channel) == [(5, 7, 0, [(10.0, 2.0)], [(11.0, 0.0)], 1000, 9)]


def test_futures_depth_names_its_predecessor_and_engine_time(outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(BOOK, USDM)
    session, _ = subscribed(outlet, channel)
    push(session, depth("BTCUSDT", 50, 70, pu=49, T=998, ps="BTCUSDT", st=1, anything={"new": 1}))
    assert deltas(outlet, channel) == [(50, 70, 49, [(10.0, 2.0)], [(11.0, 0.0)], 998, 9)]


def test_contracts_become_base_units_at_each_level_s_price(outlet: Any, channel_of: ChannelOf) -> None:
    inverse, trades = channel_of(BOOK, COINM), channel_of(TRADE, COINM)
    session, _ = subscribed(outlet, inverse, trades)
    push(session, depth("BTCUSD_PERP", 1, 2, pu=0, b=[["50000", "3"]], a=[["50001", "0"]]))
    assert deltas(outlet, inverse)[0][3:5] == ([(50000.0, 3 * 100 / 50000)], [(50001.0, 0.0)])
    push(session, {"e": "aggTrade", "s": "BTCUSD_PERP", "a": 8, "p": "40000", "q": "2", "T": 5, "m": False})
    (((trade,),),) = outlet.inputs[trades].of("trades")
    assert trade == Trade(COINM.symbol, 40000.0, 2 * 100 / 40000, trade.side, 5, "8", 9)


def test_linear_contracts_of_another_size_are_multiplied(outlet: Any, channel_of: ChannelOf) -> None:
    tenth = market("options", "X-1-2-C", contract_type=ContractType.LINEAR, contract_size=Decimal("0.1"))
    channel = channel_of(BOOK, tenth)
    session, _ = subscribed(outlet, channel)
    push(session, depth("X-1-2-C", 1, 2, pu=0, b=[["5", "3"]], a=[]))
    assert deltas(outlet, channel)[0][3] == [(5.0, 3 * 0.1)]


def test_the_taker_sold_when_the_buyer_was_the_maker(outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(TRADE, SPOT)
    session, _ = subscribed(outlet, channel)
    for number, maker in ((1, True), (2, False)):
        push(
            session,
            {"e": "trade", "E": 3, "s": "BTCUSDT", "t": number, "p": "7", "q": "2", "T": 2, "m": maker, "M": True},
        )
    made = [trade for (trades,) in outlet.inputs[channel].of("trades") for trade in trades]
    assert [(trade.id, trade.side, trade.price, trade.quantity) for trade in made] == [
        ("1", "SELL", 7.0, 2.0),
        ("2", "BUY", 7.0, 2.0),
    ]


def test_prints_of_nothing_and_block_trades_are_left_out(outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(TRADE, OPTION)
    session, _ = subscribed(outlet, channel)
    fields = {
        "e": "trade",
        "s": OPTION.native_symbol,
        "T": 2,
        "S": "BUY",
        "m": False,
        "X": "MARKET",
        "p": "7",
        "q": "2",
    }
    for number, change in enumerate(({"X": "BLOCK"}, {"p": "0"}, {"q": "0.00"}, {})):
        push(session, {**fields, "t": number, **change})
    (((trade,),),) = outlet.inputs[channel].of("trades")
    assert (trade.id, trade.side) == ("3", "BUY")


def test_the_documented_frames_of_2026_are_understood(recordings: Any, outlet: Any, channel_of: ChannelOf) -> None:
    books = {"usdm": channel_of(BOOK, market("usdm", "BNBUSDT")), "options": channel_of(BOOK, OPTION)}
    trades = {"usdm": channel_of(TRADE, market("usdm", "BNBUSDT")), "options": channel_of(TRADE, OPTION)}
    for product in ("usdm", "options"):
        session, _ = subscribed(outlet, books[product], trades[product])
        for frame in recordings.received(f"{product}-market-2026"):
            session.received(frame, 1)
        assert len(outlet.inputs[books[product]].of("delta")) == 1
        assert len(outlet.inputs[trades[product]].of("trades")) == 1
    assert outlet.inputs[books["options"]].of("delta")[0][:3] == (465, 465, 464)


def test_frames_in_an_envelope_are_understood(outlet: Any, channel_of: ChannelOf) -> None:
    channel = channel_of(BOOK, SPOT)
    session, _ = subscribed(outlet, channel)
    push(session, {"stream": "btcusdt@depth@100ms", "data": depth("BTCUSDT", 1, 2)})
    push(session, {"stream": "!index@arr", "data": [{"e": "indexPrice"}]})
    assert len(outlet.inputs[channel].of("delta")) == 1


@pytest.mark.parametrize(
    "frame",
    [
        {"e": "serverShutdown", "E": 1},
        {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}},
        {"event": {"e": "serverShutdown", "E": 1}},
    ],
)
def test_an_announced_shutdown_opens_the_new_connection_first(
    outlet: Any, channel_of: ChannelOf, frame: dict[str, Any]
) -> None:
    session, _ = subscribed(outlet, channel_of(BOOK, SPOT))
    push(session, frame)
    assert [overlap for _, overlap in outlet.reconnects] == [True]


@pytest.mark.parametrize("frame", [b'{"e":"depthUpdate","s":"BTCUSDT"}', b"\x00", b'{"e":"depthUpdate","s":"BTC'])
def test_a_frame_that_cannot_be_understood_is_no_silence(outlet: Any, channel_of: ChannelOf, frame: bytes) -> None:
    session, _ = subscribed(outlet, channel_of(BOOK, SPOT))
    with pytest.raises(ValueError, match=r"shape|malformed|truncated"):
        session.received(frame, 0)


# -- accounts ---------------------------------------------------------------------------------------------------

CREDENTIALS = Credentials.of("BINANCE", "my-key", "my-secret")
KNOWN = {
    one.native_symbol: one
    for one in (SPOT, OPTION, market("spot", "ETHBTC", base_asset="ETH", quote_asset="BTC"), market("usdm", "BNBUSDT"))
}


def account(product: str, outlet: Any, unknown: list[str] | None = None) -> tuple[Any, Channel]:
    channel = Channel(DataType.ACCOUNT, product, credentials=CREDENTIALS)
    kind = endpoint(channel, SETTINGS)

    def market_of(native_symbol: str) -> Market | None:
        found = COINM if native_symbol == COINM.native_symbol else KNOWN.get(native_symbol)
        if found is None and unknown is not None:
            unknown.append(native_symbol)
        return found

    if product == "spot":
        told = outlet.sent.append
        return SpotAccountSession(
            kind, outlet, None, market_of, signer, lambda: told("clock"), lambda *limit: told(limit)
        ), channel
    session = OptionsAccountSession if product == "options" else FuturesAccountSession
    return session(kind, outlet, None, market_of), channel


def spot_account(outlet: Any, unknown: list[str] | None = None) -> tuple[SpotAccountSession, Channel, dict[str, Any]]:
    session, channel = account("spot", outlet, unknown)
    (frame,) = session.subscribe([channel], NOW)
    return session, channel, json.loads(frame)


def test_the_spot_stream_is_subscribed_with_a_signature(outlet: Any) -> None:
    session, channel, request = spot_account(outlet)
    assert request["method"] == "userDataStream.subscribe.signature"
    text = f"apiKey=my-key&timestamp={NOW}"
    expected = signer(CREDENTIALS.keys["default"])(text)
    assert request["params"] == {"apiKey": "my-key", "timestamp": NOW, "signature": expected}
    assert outlet.acks == []
    push(session, {"id": request["id"], "status": 200, "result": {"subscriptionId": 4}})
    assert outlet.acks == [channel]
    (frame,) = session.unsubscribe([channel], NOW)
    assert json.loads(frame)["params"] == {"subscriptionId": 4}


@pytest.mark.parametrize(
    ("status", "code", "final"),
    [(401, -2015, True), (400, -1022, True), (400, -1021, False), (429, -1003, False), (500, -1000, False)],
)
def test_a_refused_spot_subscription_is_final_only_where_asking_again_is_useless(
    outlet: Any, status: int, code: int, final: bool
) -> None:
    session, channel, request = spot_account(outlet)
    push(session, {"id": request["id"], "status": status, "error": {"code": code, "msg": "no"}})
    assert [one for one, *_ in outlet.refusals] == ([channel] if final else [])
    assert len(outlet.reconnects) == (0 if final else 1)
    told = {-1021: ["clock"], -1003: [(429, "no", None)]}
    assert outlet.sent == told.get(code, []), "a refused time stamp has the clock measured anew"
    assert outlet.acks == []


@pytest.mark.parametrize("status", [429, 418])
def test_a_limit_of_the_spot_subscription_is_told_with_the_time_when_it_ends(outlet: Any, status: int) -> None:
    session, _, request = spot_account(outlet)
    data = {"serverTime": NOW, "retryAfter": NOW + 600_000}
    error = {"code": -1003, "msg": "Too much request weight used.", "data": data}
    push(session, {"id": request["id"], "status": status, "error": error})
    assert outlet.sent == [(status, "Too much request weight used.", NOW + 600_000)]
    assert len(outlet.reconnects) == 1
    assert outlet.refusals == []


def test_being_subscribed_already_is_good_enough(outlet: Any) -> None:
    session, channel, request = spot_account(outlet)
    push(session, {"id": request["id"], "status": 400, "error": {"code": -2035, "msg": "Subscription already active"}})
    assert outlet.acks == [channel]


def test_an_account_without_a_spot_key_is_told_so(outlet: Any) -> None:
    futures_only = Credentials(exchange="BINANCE", keys={"usdm": CREDENTIALS.keys["default"]})
    channel = Channel(DataType.ACCOUNT, "spot", credentials=futures_only)
    session = SpotAccountSession(
        endpoint(channel, SETTINGS), outlet, None, KNOWN.get, signer, lambda: None, lambda *limit: None
    )
    assert list(session.subscribe([channel], NOW)) == []
    assert "no API key for spot" in outlet.refusals[0][1]


def test_every_documented_spot_event_is_understood(recordings: Any, outlet: Any) -> None:
    session, channel, _ = spot_account(outlet)
    for frame in recordings.received("spot-user-data"):
        session.received(frame, 1)
    balance, order = outlet.inputs[channel].account_events
    assert balance == Balance(
        asset="ETH", wallet="spot", total=Decimal(10000), available=Decimal(10000), locked=Decimal(0)
    )
    assert (order.id, order.client_order_id, order.status) == ("4293153", "mUvoqJxFIILMdfAW5iGSOW", OrderStatus.NEW)
    assert (order.price, order.quantity, order.filled_quantity) == (Decimal("0.10264410"), Decimal(1), Decimal(0))
    assert order.average_price is None
    assert order.created_time == 1499405658657
    assert len(outlet.inputs[channel].of("interrupted")) == 1, "eventStreamTerminated"
    assert [overlap for _, overlap in outlet.reconnects] == [True], "serverShutdown"


def report(**more: Any) -> dict[str, Any]:
    fields = {
        "e": "executionReport", "E": 5, "s": "BTCUSDT", "c": "mine", "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "3",
        "p": "10", "P": "0", "F": "0", "g": -1, "C": "", "x": "NEW", "X": "NEW", "r": "NONE", "i": 77,
        "l": "0", "z": "0", "L": "0", "n": "0", "N": None, "T": 6, "t": -1, "w": True, "m": False, "O": 4,
        "Z": "0", "Y": "0", "Q": "0",
    }  # fmt: skip
    return {"subscriptionId": 0, "event": {**fields, **more}}


def test_a_spot_fill_comes_before_the_order_that_it_changed(outlet: Any) -> None:
    session, channel, _ = spot_account(outlet)
    trade = {"x": "TRADE", "X": "PARTIALLY_FILLED", "l": "2", "L": "9.5", "z": "2", "Z": "19", "n": "0.002", "N": "BTC"}
    push(session, report(**trade, t=501, m=True))
    fill, order = outlet.inputs[channel].account_events
    assert isinstance(fill, Fill)
    assert (fill.id, fill.order_id, fill.client_order_id) == ("501", "77", "mine")
    assert (fill.price, fill.quantity, fill.fee, fill.fee_asset) == (Decimal("9.5"), 2, Decimal("0.002"), "BTC")
    assert (fill.liquidity, fill.time) == (Liquidity.MAKER, 6)
    assert isinstance(order, Order)
    assert (order.status, order.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal(2))
    assert order.average_price == Decimal("9.5")


def test_cancels_and_amendments_keep_the_order_s_own_client_id(outlet: Any) -> None:
    session, channel, _ = spot_account(outlet)
    push(session, report(x="CANCELED", X="CANCELED", c="the-cancel", C="mine"))
    push(session, report(x="REPLACED", X="NEW", c="the-amendment", C="mine"))
    assert [order.client_order_id for order in outlet.inputs[channel].account_events] == ["mine", "mine"]


def test_stops_post_only_and_expired_spot_orders_are_named(outlet: Any) -> None:
    session, channel, _ = spot_account(outlet)
    push(session, report(o="STOP_LOSS_LIMIT", P="8"))
    push(session, report(o="TAKE_PROFIT", p="0", P="12"))
    push(session, report(o="LIMIT_MAKER"))
    push(session, report(o="MARKET", p="0", x="EXPIRED", X="EXPIRED", z="1", Z="10"))
    push(session, report(x="TRADE_PREVENTION", X="EXPIRED_IN_MATCH", l="1", L="10"))  # prevented, no fill
    stop, take, maker, market_order, prevented = outlet.inputs[channel].account_events
    assert (stop.type, stop.stop_price) == (OrderType.STOP_LIMIT, Decimal(8))
    assert (take.type, take.price) == (OrderType.TAKE_PROFIT_MARKET, None)
    assert (maker.type, maker.post_only) == (OrderType.LIMIT, True)
    assert (market_order.status, market_order.filled_quantity) == (OrderStatus.EXPIRED, Decimal(1))
    assert prevented.status is OrderStatus.EXPIRED


def test_an_unknown_market_interrupts_the_stream_once_and_is_told(
    outlet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    unknown: list[str] = []
    session, channel, _ = spot_account(outlet, unknown)
    for _ in range(3):
        push(session, report(s="NEWUSDT"))
    assert outlet.inputs[channel].account_events == []
    assert unknown == ["NEWUSDT"] * 3
    assert len(outlet.inputs[channel].of("interrupted")) == 1
    assert "NEWUSDT" in caplog.text


def test_a_revoked_key_ends_the_spot_connection(outlet: Any) -> None:
    session, _, _ = spot_account(outlet)
    push(session, {"id": None, "status": 401, "error": {"code": -2015, "msg": "revoked"}})
    assert len(outlet.reconnects) == 1


def test_connecting_with_a_listen_key_is_subscribing(outlet: Any) -> None:
    for product in ("usdm", "coinm", "options"):
        session, channel = account(product, outlet)
        assert list(session.subscribe([channel], NOW)) == []
        assert outlet.acks[-1] is channel
        assert list(session.unsubscribe([channel], NOW)) == []


def test_every_documented_futures_event_is_understood(recordings: Any, outlet: Any) -> None:
    session, channel = account("usdm", outlet)
    list(session.subscribe([channel], NOW))
    for frame in recordings.received("usdm-user-data"):
        session.received(frame, 1)
    events = outlet.inputs[channel].account_events
    stop, fill, order, balance, long, short, algo = events
    assert (stop.type, stop.stop_price, stop.status) == (OrderType.STOP_MARKET, Decimal("7103.04"), OrderStatus.NEW)
    assert (fill.id, fill.price, fill.quantity) == ("12345678", Decimal("7100.50"), Decimal("0.001"))
    assert (fill.fee, fill.fee_asset, fill.liquidity) == (Decimal("0.01"), "USDT", Liquidity.MAKER)
    assert (order.average_price, order.filled_quantity) == (Decimal("7100.50"), Decimal("0.001"))
    assert balance == Balance(asset="USDT", wallet="usdm", total=Decimal("122624.12345678"))
    assert (long.side, long.quantity, long.entry_price) == (PositionSide.LONG, Decimal(20), Decimal("6563.6"))
    assert (short.side, short.quantity) == (PositionSide.SHORT, Decimal(10))
    assert long.margin_mode is MarginMode.ISOLATED
    assert (algo.id, algo.client_order_id) == ("algo:2148719", "Q5xaq5EGKgXXa0fD7fs0Ip")
    assert (algo.type, algo.price, algo.stop_price) == (OrderType.TAKE_PROFIT_LIMIT, Decimal(750), Decimal(750))
    assert len([event for event in events if isinstance(event, Fill)]) == 1, "TRADE_LITE is the same fill"
    assert outlet.reconnects == [("the listen key expired", False)]


def futures(outlet: Any, product: str = "usdm") -> tuple[Any, Channel]:
    session, channel = account(product, outlet)
    list(session.subscribe([channel], NOW))
    return session, channel


def positions(session: Any, *rows: dict[str, Any]) -> None:
    push(session, {"e": "ACCOUNT_UPDATE", "E": 1, "T": 1, "a": {"m": "ORDER", "B": [], "P": list(rows)}})


def test_a_position_that_changes_sides_closes_the_other_one(outlet: Any) -> None:
    session, channel = futures(outlet)
    row = {"s": "BTCUSDT", "ep": "100", "up": "1", "mt": "cross", "ps": "BOTH"}
    positions(session, {**row, "pa": "5"})
    positions(session, {**row, "pa": "6"})
    positions(session, {**row, "pa": "-3"})
    positions(session, {**row, "pa": "0"})
    told = [(event.side, event.quantity) for event in outlet.inputs[channel].account_events]
    long, short = PositionSide.LONG, PositionSide.SHORT
    assert told == [
        (short, Decimal(0)),  # it may have been short before the first event
        (long, Decimal(5)),
        (long, Decimal(6)),
        (long, Decimal(0)),
        (short, Decimal(3)),
        (short, Decimal(0)),
    ]


def test_a_closed_position_without_history_closes_both_sides(outlet: Any) -> None:
    session, channel = futures(outlet)
    positions(session, {"s": "BTCUSDT", "pa": "0", "ep": "0", "up": "0", "mt": "cross", "ps": "BOTH"})
    assert {event.side for event in outlet.inputs[channel].account_events} == set(PositionSide)


def order_update(**more: Any) -> dict[str, Any]:
    fields = {
        "s": "BTCUSDT", "c": "mine", "S": "SELL", "o": "LIMIT", "f": "GTX", "q": "2", "p": "10", "ap": "0", "sp": "0",
        "x": "NEW", "X": "NEW", "i": 5, "l": "0", "z": "0", "L": "0", "T": 8, "t": 0, "m": False, "R": True,
        "ot": "LIMIT", "ps": "BOTH",
    }  # fmt: skip
    return {"e": "ORDER_TRADE_UPDATE", "E": 8, "T": 8, "o": {**fields, **more}}


def test_futures_orders_without_a_fill_have_no_fee_and_say_post_only(outlet: Any) -> None:
    session, channel = futures(outlet)
    push(session, order_update())
    (order,) = outlet.inputs[channel].account_events
    assert (order.post_only, order.reduce_only, order.side) == (True, True, "SELL")
    assert (order.created_time, order.updated_time) == (8, 8)


def test_a_liquidation_is_a_fill_and_goes_by_quantity(outlet: Any) -> None:
    session, channel = futures(outlet)
    push(session, order_update(x="CALCULATED", X="NEW_ADL", c="adl_autoclose", l="1", L="9", z="1", ap="9", t=3))
    fill, order = outlet.inputs[channel].account_events
    assert (fill.id, fill.quantity) == ("3", Decimal(1))
    assert order.status is OrderStatus.PARTIALLY_FILLED


def test_inverse_fills_and_orders_have_contracts_and_base_units(outlet: Any) -> None:
    session, channel = futures(outlet, "coinm")
    inverse = {"s": "BTCUSD_PERP", "q": "4", "p": "50000"}
    push(session, order_update(**inverse))
    push(session, order_update(**inverse, x="TRADE", X="PARTIALLY_FILLED", l="2", L="40000", z="2", ap="40000", t=9))
    resting, fill, partial = outlet.inputs[channel].account_events
    assert (resting.contracts, resting.quantity) == (Decimal(4), Decimal("0.008"))  # at the limit price
    assert (fill.contracts, fill.quantity) == (Decimal(2), Decimal("0.005"))  # at the trade's price
    assert (partial.contracts, partial.quantity) == (Decimal(4), Decimal("0.01"))  # at the average fill
    assert (partial.filled_contracts, partial.filled_quantity) == (Decimal(2), Decimal("0.005"))
    push(session, {"e": "ACCOUNT_UPDATE", "T": 1, "a": {"B": [{"a": "BTC", "wb": "1.5"}], "P": [
        {"s": "BTCUSD_PERP", "pa": "-2", "ep": "40000", "up": "0", "mt": "cross", "ps": "SHORT"}]}})  # fmt: skip
    balance, position = outlet.inputs[channel].account_events[3:]
    assert balance.wallet == "coinm"
    assert isinstance(position, Position)
    assert (position.contracts, position.quantity) == (Decimal(2), None)  # no mark price in the event


@pytest.mark.parametrize(
    ("status", "filled", "expected"),
    [
        ("NEW", "0", OrderStatus.NEW),
        ("TRIGGERING", "0", OrderStatus.NEW),
        ("TRIGGERED", "0", OrderStatus.NEW),
        ("FINISHED", "0.01", OrderStatus.FILLED),
        ("FINISHED", "0.004", OrderStatus.CANCELED),
        ("FINISHED", "0", OrderStatus.CANCELED),
        ("CANCELED", "0", OrderStatus.CANCELED),
        ("REJECTED", "0", OrderStatus.REJECTED),
        ("EXPIRED", "0", OrderStatus.EXPIRED),
        ("SOMETHING_NEW", "0", OrderStatus.UNKNOWN),
    ],
)
def test_conditional_orders_end_as_their_real_order_does(
    outlet: Any, status: str, filled: str, expected: OrderStatus
) -> None:
    session, channel = futures(outlet)
    algo = {"caid": "c", "aid": 1, "at": "CONDITIONAL", "o": "STOP_MARKET", "s": "BTCUSDT", "S": "SELL", "f": "GTC",
            "q": "0.01", "X": status, "ai": "", "ap": "", "aq": filled, "tp": "750", "p": "0", "R": False}  # fmt: skip
    push(session, {"e": "ALGO_UPDATE", "T": 2, "E": 2, "o": algo})
    (order,) = outlet.inputs[channel].account_events
    assert (order.status, order.type) == (expected, OrderType.STOP_MARKET)


def algo_update(status: str, time: int, **more: Any) -> dict[str, Any]:
    fields = {
        "caid": "mine", "aid": 88, "at": "CONDITIONAL", "o": "STOP", "s": "BTCUSDT", "S": "SELL", "ps": "BOTH",
        "f": "GTC", "q": "2", "X": status, "ai": "", "ap": "0", "aq": "0", "act": "0", "tp": "12", "p": "10", "R": True,
    }  # fmt: skip
    return {"e": "ALGO_UPDATE", "E": time, "T": time, "o": {**fields, **more}}


ENTERED = {"ai": "5", "act": "LIMIT"}


@pytest.mark.parametrize("original", ["LIMIT", "STOP"])
def test_a_triggered_order_keeps_the_id_and_the_type_of_what_it_became(outlet: Any, original: str) -> None:
    session, channel = futures(outlet)
    push(session, algo_update("NEW", 1))
    push(session, algo_update("TRIGGERING", 2))
    push(session, order_update(T=3, ot=original))
    push(session, algo_update("TRIGGERED", 4, **ENTERED))
    push(session, order_update(T=5, ot=original, x="CANCELED", X="CANCELED"))
    push(session, algo_update("FINISHED", 6, **ENTERED))
    state = AccountState()
    events = outlet.inputs[channel].account_events
    assert [event.id for event in events] == ["algo:88", "algo:88", "5", "5", "5", "5"]
    now = OrderType.LIMIT if original == "LIMIT" else OrderType.STOP_LIMIT
    waiting = ("algo:88", OrderType.STOP_LIMIT)
    seen = []
    for event in events:
        state.apply(event)
        (known,) = [state.order(event.market, "mine")]
        seen.append((known.id, known.type))
        assert known.stop_price == Decimal(12)
    assert seen == [waiting, waiting, ("5", now), ("5", now), ("5", now), ("5", now)]
    assert state.open_orders() == []


@pytest.mark.parametrize(
    ("kind", "price", "real", "expected"),
    [
        ("STOP", "10", "LIMIT", OrderType.LIMIT),
        ("STOP", "10", "0", OrderType.LIMIT),
        ("STOP_MARKET", "0", "MARKET", OrderType.MARKET),
        ("TAKE_PROFIT_MARKET", "0", "", OrderType.MARKET),
        ("TAKE_PROFIT", "10", None, OrderType.LIMIT),
    ],
)
def test_a_triggered_order_that_was_not_reported_yet_is_of_its_real_type(
    outlet: Any, kind: str, price: str, real: str | None, expected: OrderType
) -> None:
    session, channel = futures(outlet)
    push(session, algo_update("TRIGGERED", 4, o=kind, p=price, ai="5", act=real))
    (order,) = outlet.inputs[channel].account_events
    assert (order.id, order.type, order.client_order_id) == ("5", expected, "mine")


@pytest.mark.parametrize("nothing", ["", "0", 0, None])
def test_an_order_that_waits_has_the_id_of_a_conditional_one_however_that_is_written(
    outlet: Any, nothing: str | int | None
) -> None:
    session, channel = futures(outlet)
    push(session, algo_update("NEW", 1, ai=nothing, act=None))
    (order,) = outlet.inputs[channel].account_events
    assert (order.id, order.type) == ("algo:88", OrderType.STOP_LIMIT)


def test_events_that_are_not_used_are_passed_over(outlet: Any) -> None:
    session, channel = futures(outlet)
    for name in ("ACCOUNT_CONFIG_UPDATE", "MARGIN_CALL", "STRATEGY_UPDATE", "GRID_UPDATE", "TRADE_LITE", "NEW_IN_2027"):
        push(session, {"e": name, "E": 1, "T": 1, "ac": {"s": "BTCUSDT", "l": 5}})
    push(session, {"stream": "key", "data": order_update()})
    assert len(outlet.inputs[channel].account_events) == 1, "wrapped events are understood"


def test_an_event_that_is_used_but_not_understood_ends_the_connection(outlet: Any) -> None:
    session, _ = futures(outlet)
    with pytest.raises(ValueError, match="Expected"):
        push(session, {"e": "ORDER_TRADE_UPDATE", "o": {"s": 5}})


def test_option_events_have_their_fee_turned_round(outlet: Any) -> None:
    session, channel = futures(outlet, "options")
    name = OPTION.native_symbol
    push(session, order_update(s=name, x="TRADE", X="FILLED", l="2", L="10", z="2", ap="10", t=6, n="-0.3", N="USDT"))
    fill, order = outlet.inputs[channel].account_events
    assert (fill.fee, fill.contracts, fill.quantity) == (Decimal("0.3"), Decimal(2), Decimal(2))
    assert (order.status, order.average_price) == (OrderStatus.FILLED, Decimal(10))


def test_option_balances_and_positions_are_told(outlet: Any) -> None:
    session, channel = futures(outlet, "options")
    push(session, {"e": "BALANCE_POSITION_UPDATE", "E": 1, "T": 1, "m": "ORDER",
                   "B": [{"a": "USDT", "b": "50", "bc": "-1"}],
                   "P": [{"s": OPTION.native_symbol, "c": "-3", "p": "30", "a": "10"}]})  # fmt: skip
    push(session, {"e": "ACCOUNT_UPDATE", "eq": "1", "b": "2"})
    push(session, {"e": "GREEK_UPDATE"})
    balance, closed, position = outlet.inputs[channel].account_events
    assert balance == Balance(asset="USDT", wallet="options", total=Decimal(50))
    assert (closed.side, closed.quantity) == (PositionSide.LONG, Decimal(0))
    assert (position.side, position.contracts, position.entry_price) == (PositionSide.SHORT, Decimal(3), Decimal(10))


def test_option_orders_in_the_form_of_before_2026_are_tolerated(outlet: Any) -> None:
    session, channel = futures(outlet, "options")
    old = {"T": 1, "t": 2, "s": OPTION.native_symbol, "c": "mine", "oid": "4611869636869226548", "p": "1993", "q": "-1",
           "r": False, "po": True, "S": "PARTIALLY_FILLED", "e": "0.1", "ec": "199.3", "f": "2", "tif": "GTC",
           "fi": [{"t": "20", "p": "1993", "q": "0.1", "T": 3, "m": "TAKER", "f": "0.0002"}]}  # fmt: skip
    push(session, {"e": "ORDER_TRADE_UPDATE", "E": 4, "o": [old]})
    fill, order = outlet.inputs[channel].account_events
    assert (fill.id, fill.side, fill.fee, fill.liquidity) == ("20", "SELL", None, Liquidity.TAKER)
    assert (order.id, order.side, order.quantity) == ("4611869636869226548", "SELL", Decimal(1))
    assert (order.average_price, order.post_only) == (Decimal(1993), True)


# -- tickets ----------------------------------------------------------------------------------------------------


def account_endpoint(played: Any, product: str) -> Endpoint:
    channel = next(one for one in played.venue.account_channels(played.credentials) if one.product == product)
    found: Endpoint = played.venue.feed.endpoint(channel)
    return found


@pytest.mark.parametrize(("product", "prefix"), [("usdm", "fapi"), ("coinm", "dapi"), ("options", "eapi")])
async def test_a_listen_key_is_the_ticket_of_a_private_connection(
    played: Any, recordings: Any, product: str, prefix: str
) -> None:
    path = f"/{prefix}/v1/listenKey"
    key = recordings.rest("usdm-listenKey-new")["body"]["listenKey"]
    played.http.answer("POST", path, recordings.rest("usdm-listenKey-new")["body"])
    kind = account_endpoint(played, product)
    ticket = await played.venue.tickets.obtain(kind)
    assert ticket.url == listen_url(kind, key)
    assert ticket.renew_every_s == 1800
    assert key not in repr(ticket)
    request = played.http.requests[-1]
    assert request.headers["x-mbx-apikey"] == played.credentials.keys["default"].key.get_secret_value()
    assert not request.url.query, "not signed"
    played.http.answer("PUT", path, {})
    await played.venue.tickets.renew(kind, ticket)


async def test_a_listen_key_that_is_gone_or_replaced_is_not_renewed(played: Any) -> None:
    played.http.answer("POST", "/fapi/v1/listenKey", {"listenKey": "one"})
    kind = account_endpoint(played, "usdm")
    ticket = await played.venue.tickets.obtain(kind)
    played.http.answer(
        "PUT", "/fapi/v1/listenKey", {"code": -1125, "msg": "This listenKey does not exist."}, status=400
    )
    played.http.answer("PUT", "/fapi/v1/listenKey", {"listenKey": "two"})
    for _ in range(2):
        with pytest.raises(Exception, match=r"listenKey does not exist|replaced") as caught:
            await played.venue.tickets.renew(kind, ticket)
        assert not getattr(caught.value, "retryable", True)


async def test_markets_and_the_clock_are_known_before_the_spot_stream_opens(played: Any) -> None:
    with anyio.fail_after(5):
        ticket = await played.venue.tickets.obtain(account_endpoint(played, "spot"))
    assert (ticket.url, ticket.value) == (None, None)
    assert played.venue.markets.peek_native("spot", "ETHBTC") is not None
    assert abs(played.venue.rest["spot"].clock.offset_ms - 1000) < 5


async def test_account_channels_are_those_of_served_products_with_a_key(played: Any) -> None:
    assert [one.product for one in played.venue.account_channels(played.credentials)] == [
        "spot",
        "usdm",
        "coinm",
        "options",
    ]
    only = Credentials(exchange="BINANCE", keys={"usdm": played.credentials.keys["default"]})
    assert [one.product for one in played.venue.account_channels(only)] == ["usdm"]
