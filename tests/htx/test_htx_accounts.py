"""Private sockets and REST rows as they were recorded, signatures, error answers."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

from astra.errors import (
    AuthenticationError,
    InsufficientFunds,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    PermissionDenied,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from astra.models.accounts import Balance, Position
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import ContractType, Market
from astra.models.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.net.http import AnswerLost, Request, Response
from astra.streams.feed import Channel, DataType, Ticket
from astra.symbols import AssetType
from astra_htx.errors import interpret
from astra_htx.feed import HtxFeed
from astra_htx.rest import Answer
from astra_htx.settings import COIN_FUTURES, LINEAR, SPOT, HtxSettings
from astra_htx.signing import (
    canonical,
    derivatives_login,
    host_of,
    request_text,
    rest_sign,
    signature,
    spot_login,
)
from astra_htx.trading import coin_rows, linear_rows, spot_rows

MOMENT = 1574330400000  # 2019-11-21T10:00:00
KEY = ApiKey(key=SecretStr("access"), secret=SecretStr("secret"))


def market(native: str, product: str, size: str | None = None) -> Market:
    return Market(
        symbol="HUOBI-PERP-A-B",
        asset_type=AssetType.SPOT if size is None else AssetType.PERP,
        base_asset="A",
        quote_asset="B",
        native_symbol=native,
        product=product,
        contract_size=None if size is None else Decimal(size),
        contract_type=None if size is None else ContractType.LINEAR if product == LINEAR else ContractType.INVERSE,
    )


# -- signatures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "host", "path", "query", "wanted"),
    [
        (
            "secret",
            "api.huobi.pro",
            "/v1/account/accounts",
            "AccessKeyId=access&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=2019-11-21T10%3A00%3A00",
            "rWnLcMt3XBAsmXoNHtTQVpvMbH/cE1PXFwQAGeYwt3s=",
        ),
        (
            "456",
            "host",
            "/url",
            "AccessKeyId=123&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=123",
            "Hhiaq8xYQPiBZOyWV37MdQutLo4f0ZOHiJtG3p+nILc=",
        ),
        (
            "secret",
            "api.huobi.pro",
            "/v1/account/history",
            "account-id=1&currency=btcusdt",
            "HUP3n78npIuTzVKyjEOrPictRKEUTRoYs7Ld5y38hmA=",
        ),
    ],
    ids=["accounts", "url", "history"],
)
def test_documented_signatures_reproduce(words: str, host: str, path: str, query: str, wanted: str) -> None:
    assert signature(words, request_text("GET", host, path, query)) == wanted


def test_a_request_carries_its_signature_in_the_query() -> None:
    signed = rest_sign(KEY, "api.huobi.pro", None)(Request("GET", "/v1/account/accounts"), MOMENT + 999)
    names = dict(parse_qsl(signed.query))
    assert names["Signature"] == "rWnLcMt3XBAsmXoNHtTQVpvMbH/cE1PXFwQAGeYwt3s="
    assert names["Timestamp"] == "2019-11-21T10:00:00"
    assert signed.query.endswith("%2FcE1PXFwQAGeYwt3s%3D")


def test_parameters_are_signed_sorted_by_their_names_in_bytes() -> None:
    request = Request("GET", "/v1/order/orders", query="symbol=btcusdt&states=filled%2Ccanceled&from=7")
    signed = rest_sign(KEY, "api.huobi.pro", None)(request, MOMENT)
    unsigned, _, tail = signed.query.rpartition("&Signature=")
    names = [pair.partition("=")[0] for pair in unsigned.split("&")]
    assert names == ["AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp", "from", "states", "symbol"]
    wanted = signature("secret", request_text("GET", "api.huobi.pro", "/v1/order/orders", unsigned))
    assert dict(parse_qsl("x=" + tail))["x"] == wanted


def test_a_command_with_a_window_is_stamped_as_long_ago_as_ends_it_then() -> None:
    sign = rest_sign(KEY, "api.hbdm.com", 5000)
    command = sign(Request("POST", "/v5/trade/order", body=b"{}", command=True), MOMENT)
    assert dict(parse_qsl(command.query))["Timestamp"] == "2019-11-21T09:55:05"
    assert command.headers["Content-Type"] == "application/json"
    read = sign(Request("GET", "/v5/trade/order"), MOMENT)
    assert dict(parse_qsl(read.query))["Timestamp"] == "2019-11-21T10:00:00"


@pytest.mark.parametrize(
    ("name", "path"),
    [("linear-v5-private", "/ws/v5/notification"), ("coinm-private", "/notification")],
)
def test_recorded_log_ins_of_derivatives_reproduce(recordings: Any, name: str, path: str) -> None:
    wanted = json.loads(recordings.frames(name, "sent")[0])
    assert json.loads(derivatives_login(KEY, "api.hbdm.com", path, MOMENT)) == wanted


def test_recorded_log_ins_of_spot_reproduce(recordings: Any) -> None:
    wanted = json.loads(recordings.frames("spot-private-v2", "sent")[0])
    assert json.loads(spot_login(KEY, "api.huobi.pro", "/ws/v2", MOMENT)) == wanted
    trading = json.loads(recordings.frames("spot-ws-trade", "sent")[0])
    if trading["params"]["timestamp"] == "2019-11-21T10:00:00":
        assert json.loads(spot_login(KEY, "api.huobi.pro", "/ws/trade", MOMENT))["params"] == trading["params"]


@pytest.mark.parametrize("form", ["venue", "pem"])
def test_ed25519_keys_sign_the_same_text(form: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    words = base64.b64encode(bytes(range(32)) + public).decode()
    if form == "pem":
        words = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = ApiKey(key=SecretStr("access"), secret=SecretStr(words))
    signed = rest_sign(key, "api.huobi.pro", None)(Request("GET", "/x"), MOMENT)
    unsigned, _, tail = signed.query.rpartition("&Signature=")
    assert "SignatureMethod=Ed25519" in unsigned
    text = request_text("GET", "api.huobi.pro", "/x", unsigned)
    private.public_key().verify(base64.b64decode(dict(parse_qsl("x=" + tail))["x"]), text.encode())


def test_a_private_key_of_another_kind_is_refused_without_showing_it() -> None:
    with pytest.raises(AuthenticationError, match="none of Ed25519"):
        signature("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "text")


def test_the_host_is_signed_as_it_is_called() -> None:
    assert host_of("https://API.hbdm.vn") == "api.hbdm.vn"
    assert host_of("http://127.0.0.1:4711") == "127.0.0.1"
    assert canonical([("b", "x y,z:"), ("A", "1")]) == "A=1&b=x%20y%2Cz%3A"


# -- private sockets ----------------------------------------------------------------------------------------------


class Stage:
    """A private socket that is logged in, and what it tells."""

    def __init__(self, outlet: Any, product: str, *markets: Market, sent: OrderRequest | None = None) -> None:
        known = {one.native_symbol: one for one in markets}
        self.refused_clocks: list[str] = []
        self.outlet = outlet
        self.credentials = Credentials.of("HUOBI", "access", "secret")
        feed = HtxFeed(
            HtxSettings(),
            lambda product, native: known.get(native),
            lambda: None,
            lambda product, credentials: KEY,
            self.refused_clocks.append,
            lambda credentials: lambda name: sent,
        )
        self.channel = Channel(DataType.ACCOUNT, product, credentials=self.credentials)
        ticket = Ticket() if product != SPOT else Ticket(value=None)
        self.session: Any = feed.session(feed.endpoint(self.channel), outlet, ticket)

    def play(self, *frames: bytes | dict[str, Any]) -> list[Any]:
        """The events of frames, after a log-in that is accepted."""
        assert not self.session.ready
        spot = self.channel.product == SPOT
        self.receive({"action": "req", "code": 200, "ch": "auth"} if spot else {"op": "auth", "err-code": 0})
        assert self.session.ready
        self.sent = [json.loads(frame) for frame in self.session.subscribe([self.channel], 0)]
        for frame in frames:
            self.receive(frame)
        return self.events

    def receive(self, frame: bytes | dict[str, Any]) -> None:
        self.session.received(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), 1)

    @property
    def events(self) -> list[Any]:
        return list(self.outlet.inputs[self.channel].account_events) if self.channel in self.outlet.inputs else []


def test_the_recorded_spot_account_is_told(recordings: Any, outlet: Any) -> None:
    markets = [market(native, SPOT) for native in ("btcusdt", "ltcusdt")]
    sent = OrderRequest.model_validate(
        {"side": "BUY", "type": "TAKE_PROFIT_LIMIT", "price": 9, "stop_price": 10, "quantity": 1}
    )
    stage = Stage(outlet, SPOT, *markets, sent=sent)
    events = stage.play(*recordings.frames("spot-private-v2")[1:])
    assert [frame["ch"] for frame in stage.sent] == ["orders#*", "trade.clearing#*#0", "accounts.update#2"]
    assert outlet.sent == ['{"action":"pong","data":{"ts":1645108204665}}']
    orders = [event for event in events if isinstance(event, Order)]
    told = [(order.client_order_id, order.status, order.type) for order in orders]
    assert told == [
        ("test1", OrderStatus.REJECTED, OrderType.TAKE_PROFIT_LIMIT),
        ("test2", OrderStatus.CANCELED, OrderType.TAKE_PROFIT_LIMIT),
        ("test3", OrderStatus.NEW, OrderType.LIMIT),
        (None, OrderStatus.NEW, OrderType.LIMIT),
        (None, OrderStatus.FILLED, OrderType.MARKET),
    ]
    assert (orders[2].side, orders[2].price, orders[2].quantity) == (Side.SELL, Decimal(77), Decimal(2))
    assert (orders[4].filled_quantity, orders[4].id, orders[4].side) == (
        Decimal("0.0385"),
        "509835753860328",
        Side.SELL,
    )
    first, second = (event for event in events if isinstance(event, Fill))
    assert (first.id, first.fee, first.fee_asset, first.client_order_id) == (
        "919219323232",
        Decimal("19.88"),
        "BTC",
        "a001",
    )
    assert (second.order_id, second.side, second.liquidity) == ("478862728954426", Side.BUY, Liquidity.TAKER)
    balances = [event for event in events if isinstance(event, Balance)]
    assert [(b.asset, b.total, b.available, b.locked) for b in balances] == [
        ("BTC", Decimal("23.111"), None, None),
        ("BTC", Decimal("23.111"), Decimal("2028.69"), 0),  # of another account in truth
        ("USDT", Decimal("20.29388158"), Decimal("20.29388158"), 0),
    ]


def test_what_is_locked_of_an_asset_is_what_is_not_available(outlet: Any) -> None:
    stage = Stage(outlet, SPOT)
    data = {"currency": "usdt", "accountId": 1, "accountType": "trade", "balance": "10", "available": "7"}
    (balance,) = stage.play({"action": "push", "ch": "accounts.update#2", "data": data})
    assert (balance.total, balance.available, balance.locked) == (10, 7, 3)


def test_fills_of_a_buy_by_value_are_added_up(outlet: Any) -> None:
    """Its amounts are values in the quote asset."""
    stage = Stage(outlet, SPOT, market("btcusdt", SPOT))
    base = {"symbol": "btcusdt", "type": "buy-market", "orderId": 9, "clientOrderId": "c", "orderValue": "300"}
    pushes = [
        {"eventType": "creation", "orderStatus": "submitted", "orderCreateTime": 5},
        {"eventType": "trade", "orderStatus": "partial-filled", "tradePrice": "100", "tradeVolume": "1"},
        {"eventType": "trade", "orderStatus": "filled", "tradePrice": "200", "tradeVolume": "1", "execAmt": "300"},
    ]
    events = stage.play(*({"action": "push", "ch": "orders#*", "data": base | push} for push in pushes))
    assert [event.filled_quantity for event in events] == [0, 1, 2]
    assert (events[-1].average_price, events[-1].quote_quantity, events[-1].quantity) == (150, 300, None)


STOP = {
    **{"eventType": "creation", "symbol": "btcusdt", "orderId": 1, "clientOrderId": "a", "type": "sell-stop-limit"},
    **{"orderPrice": "60000", "orderSize": "1", "orderStatus": "submitted", "orderCreateTime": 1},
}
"""A conditional order when its time came; the push does not say which way it was triggered."""


@pytest.mark.parametrize("kind", ["STOP_LIMIT", "TAKE_PROFIT_LIMIT"])
def test_a_conditional_order_keeps_the_type_that_it_was_sent_with(outlet: Any, kind: str) -> None:
    sent = OrderRequest.model_validate(
        {"side": "SELL", "type": kind, "price": 60000, "stop_price": 61000, "quantity": 1}
    )
    stage = Stage(outlet, SPOT, market("btcusdt", SPOT), sent=sent)
    (order,) = stage.play({"action": "push", "ch": "orders#*", "data": STOP})
    assert (order.type, order.status) == (OrderType(kind), OrderStatus.NEW)


def test_a_conditional_order_of_somebody_else_is_asked_for_unless_its_push_says_which_way(outlet: Any) -> None:
    stage = Stage(outlet, SPOT, market("btcusdt", SPOT))
    (order,) = stage.play({"action": "push", "ch": "orders#*", "data": STOP | {"operator": "lte"}})
    assert order.type is OrderType.STOP_LIMIT
    assert not outlet.inputs[stage.channel].of("interrupted")
    stage.receive({"action": "push", "ch": "orders#*", "data": STOP | {"orderId": 2}})
    assert len(stage.events) == 1
    assert outlet.inputs[stage.channel].of("interrupted")


def test_events_of_margin_accounts_are_not_told(outlet: Any) -> None:
    stage = Stage(outlet, SPOT, market("btcusdt", SPOT))
    data = {"eventType": "creation", "symbol": "btcusdt", "type": "buy-limit", "orderId": 1, "orderStatus": "submitted"}
    events = stage.play({"action": "push", "ch": "orders#*", "data": data | {"orderSource": "margin-api"}})
    assert not events


def test_a_conditional_order_of_somebody_else_that_ends_is_asked_for(outlet: Any) -> None:
    stage = Stage(outlet, SPOT, market("btcusdt", SPOT))
    data = {"eventType": "deletion", "symbol": "btcusdt", "clientOrderId": "x", "orderStatus": "canceled"}
    assert not stage.play({"action": "push", "ch": "orders#*", "data": data})
    assert outlet.inputs[stage.channel].of("interrupted")


def test_the_recorded_linear_account_is_told(recordings: Any, outlet: Any) -> None:
    stage = Stage(outlet, LINEAR, market("BTC-USDT", LINEAR, "0.001"))
    events = stage.play(*recordings.frames("linear-v5-private")[1:])
    assert [(frame["topic"], frame.get("contract_code")) for frame in stage.sent] == [
        ("orders", "*"),
        ("trade", "*"),
        ("positions", "*"),
        ("account", None),
    ]
    assert outlet.sent == ['{"op":"pong","ts":"1645202800015"}']
    order, fill, *_ = events
    assert (order.status, order.contracts, order.quantity, order.client_order_id) == (
        OrderStatus.NEW,
        1,
        Decimal("0.001"),
        None,
    )
    assert (fill.id, fill.quantity, fill.side, fill.fee) == ("155233460", Decimal("0.001"), Side.BUY, None)
    (balance,) = (event for event in events if isinstance(event, Balance))
    assert (balance.asset, balance.wallet, balance.total) == ("USDT", LINEAR, Decimal("162.331953938562004875"))
    position = [event for event in events if isinstance(event, Position)][-1]
    assert (position.side, position.contracts, position.mark_price, position.liquidation_price) == (
        PositionSide.LONG,
        1,
        Decimal("60580.7"),
        None,
    )


def test_the_recorded_coin_margined_account_is_told(recordings: Any, outlet: Any) -> None:
    stage = Stage(outlet, COIN_FUTURES, market("ADA201225", COIN_FUTURES, "10"))
    order, balance = stage.play(*recordings.frames("coinm-private")[1:])
    assert [frame["topic"] for frame in stage.sent] == ["orders.*", "accounts.*", "positions.*"]
    assert (order.id, order.status, order.post_only, order.contracts) == (
        "773207641127878656",
        OrderStatus.FILLED,
        True,
        1,
    )
    assert order.updated_time == 1604388667226
    assert (balance.asset, balance.wallet, balance.total) == ("ADA", COIN_FUTURES, Decimal("445.5540859452577"))


def test_a_filled_order_is_done_when_its_volume_is(outlet: Any) -> None:
    stage = Stage(outlet, LINEAR, market("X", LINEAR, "1"))
    base = {"contract_code": "X", "order_id": "1", "side": "buy", "type": "limit", "state": "filled", "volume": "3"}
    frames = ({"op": "notify", "topic": "orders", "data": base | {"trade_volume": v}} for v in ("1", "3"))
    events = stage.play(*frames)
    assert [event.status for event in events] == [OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED]


def test_a_net_position_that_changes_sides_closes_the_old_one(outlet: Any) -> None:
    stage = Stage(outlet, LINEAR, market("X", LINEAR, "1"))
    rows = [("buy", "5"), ("sell", "2"), ("buy", "0")]
    frames = (
        {"op": "notify", "topic": "positions", "data": [{"contract_code": "X", "direction": way, "volume": size}]}
        for way, size in rows
    )
    told = [(p.side.value, p.contracts) for p in stage.play(*frames)]
    assert told == [("SHORT", 0), ("LONG", 5), ("LONG", 0), ("SHORT", 2), ("SHORT", 0)]


def test_an_announced_end_is_met_with_another_connection(recordings: Any, outlet: Any) -> None:
    stage = Stage(outlet, LINEAR)
    stage.play(next(f for f in recordings.frames("ws-errors") if b'"close"' in f))
    assert [overlap for _, overlap in outlet.reconnects] == [True]


def test_recorded_refusals_are_told_apart(recordings: Any, outlet: Any) -> None:
    frames = [json.loads(frame) for frame in recordings.frames("ws-errors")]
    stage = Stage(outlet, SPOT)
    stage.play()
    for frame in frames:
        if "action" in frame:
            stage.receive(frame)
    ((channel, error, final),) = outlet.refusals
    assert (channel, type(error), final) == (stage.channel, AuthenticationError, True)
    assert len(outlet.reconnects) == 2  # an unknown symbol, a channel that would stay silent


@pytest.mark.parametrize("product", [SPOT, LINEAR])
def test_a_log_in_that_is_refused_fails_whoever_subscribes(outlet: Any, product: str) -> None:
    stage = Stage(outlet, product)
    refusal = {"action": "req", "code": 2002, "ch": "auth", "message": "auth.fail"}
    stage.receive(refusal if product == SPOT else {"op": "auth", "err-code": 2003, "err-msg": "no"})
    assert stage.session.ready
    list(stage.session.subscribe([stage.channel], 0))
    ((channel, error, final),) = outlet.refusals
    assert (channel, type(error), final) == (stage.channel, AuthenticationError, True)
    assert stage.refused_clocks == [product]


# -- REST rows ----------------------------------------------------------------------------------------------------


def decoded(recordings: Any, name: str, kind: Any) -> Any:
    return msgspec.json.decode(recordings.body(name), type=Answer[kind]).data


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("spot-order-get", False),
        ("spot-order-get-by-client-id", False),
        ("spot-open-orders", True),
        ("spot-orders-history", True),
    ],
)
def test_recorded_spot_orders_parse(recordings: Any, name: str, many: bool) -> None:
    kind = spot_rows.OrderRow
    row = decoded(recordings, name, list[kind])[0] if many else decoded(recordings, name, kind)
    order = row.order(market(row.symbol, SPOT))
    if name == "spot-orders-history":
        assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, Decimal("0.045"))
        assert order.average_price == Decimal("0.034014")
    else:
        assert (order.status, order.filled_quantity) == (OrderStatus.NEW, 0)
    assert order.post_only is (name == "spot-order-get-by-client-id")


@pytest.mark.parametrize("name", ["spot-matchresults", "spot-order-matchresults"])
def test_fees_that_were_deducted_in_points_are_told(recordings: Any, name: str) -> None:
    fill = decoded(recordings, name, list[spot_rows.FillRow])[0].fill(market("polyusdt", SPOT))
    assert (fill.fee, fill.fee_asset, fill.id, fill.side) == (Decimal("0.1"), "HBPOINT", "1085", Side.BUY)


@pytest.mark.parametrize("name", ["linear-v5-order-get", "linear-v5-order-opens"])
def test_recorded_linear_orders_parse(recordings: Any, name: str) -> None:
    kind = linear_rows.OrderRow
    row = decoded(recordings, name, kind) if name.endswith("get") else decoded(recordings, name, list[kind])[0]
    order = row.order(market(row.contract_code, LINEAR, "0.1"))
    assert (order.status, order.contracts, order.quantity) == (OrderStatus.NEW, 1, Decimal("0.1"))
    assert (order.time_in_force, order.reduce_only, order.client_order_id) == (TimeInForce.GTC, False, None)


def test_the_recorded_linear_fill_and_position_parse(recordings: Any) -> None:
    contract = market("BTC-USDT", LINEAR, "0.001")
    fill = decoded(recordings, "linear-v5-order-details-fills", list[linear_rows.FillRow])[0].fill(contract)
    assert (fill.id, fill.fee, fill.side) == ("152022944", Decimal("0.07522584"), Side.SELL)
    assert fill.quantity * fill.price == Decimal("125.3764"), "the turnover of two contracts"
    position = decoded(recordings, "linear-v5-position-opens", list[linear_rows.PositionRow])[0].position(contract)
    assert (position.side, position.quantity, position.leverage) == (PositionSide.LONG, Decimal("0.001"), 20)
    (balance,) = decoded(recordings, "linear-v5-account-balance", linear_rows.Account).details
    assert balance.balance().total == Decimal("174.216697577770536136")


def test_recorded_coin_margined_rows_parse(recordings: Any) -> None:
    contract = market("ADA201225", COIN_FUTURES, "10")
    order = decoded(recordings, "coinm-fut-order-info", list[coin_rows.OrderRow])[0].order(contract)
    assert (order.id, order.status, order.average_price) == (
        "773119326353580033",
        OrderStatus.FILLED,
        Decimal("0.0933"),
    )
    fill = decoded(recordings, "coinm-fut-matchresults-v3", list[coin_rows.FillRow])[0].fill(contract)
    assert (fill.id, fill.order_id) == ("113891764710-773135295142658048-1", "773135295142658048")
    assert (fill.fee, fill.fee_asset) == (Decimal("0.021739130434782608"), "ADA")
    assert (fill.liquidity, fill.contracts) == (Liquidity.MAKER, 1)
    position = decoded(recordings, "coinm-fut-position-info", list[coin_rows.PositionRow])[0].position(contract)
    assert (position.side, position.contracts, position.mark_price) == (PositionSide.SHORT, 1, None)
    account = decoded(recordings, "coinm-fut-account-info", list[coin_rows.AccountRow])[0].balance(COIN_FUTURES)
    assert (account.total, account.available, account.locked) == (
        Decimal("453.1519557807875"),
        Decimal("453.1519557807875"),
        0,
    )
    opened = recordings.rest("coinm-openorders")["body"]["data"]["orders"][0]
    assert msgspec.convert(opened, coin_rows.OrderRow, strict=False).order(contract).reduce_only


# -- errors -------------------------------------------------------------------------------------------------------

MEANT: dict[str, tuple[type[Exception], str | None]] = {
    "derivatives-1013": (MarketNotFound, None),
    "derivatives-1017": (OrderNotFound, None),
    "derivatives-1036": (InvalidOrder, None),
    "derivatives-1039": (InvalidOrder, "price-range"),
    "derivatives-1047": (InsufficientFunds, None),
    "derivatives-1048": (InsufficientFunds, None),
    "derivatives-1051": (OrderNotFound, None),
    "derivatives-1066": (InvalidOrder, None),
    "derivatives-1094": (InvalidOrder, None),
    "derivatives-1220": (PermissionDenied, None),
    "derivatives-1461": (InvalidOrder, None),
    "derivatives-4002": (PermissionDenied, None),
    "derivatives-4007": (PermissionDenied, None),
    "derivatives-403": (AuthenticationError, None),
    "spot-api-signature-not-valid-1": (AuthenticationError, None),
    "spot-api-signature-not-valid": (PermissionDenied, None),
    "spot-base-date-limit-error": (VenueError, None),
    "spot-base-symbol-error": (MarketNotFound, None),
    "spot-base-withdraw-fee-error": (VenueError, None),
    "spot-dw-insufficient-balance": (InsufficientFunds, None),
    "spot-gateway-internal-error": (VenueUnavailable, None),
    "spot-invalid-address": (VenueError, None),
    "spot-invalid-parameter-2": (RateLimited, None),
    "spot-invalid-parameter": (MarketNotFound, None),
    "spot-o-amount-min-error": (InvalidOrder, "min-quantity"),
    "spot-order-etp-nav-price-max-error": (InvalidOrder, "price-range"),
    "spot-order-holding-limit-failed": (InvalidOrder, None),
    "spot-order-invalid-price": (InvalidOrder, None),
    "spot-order-limitorder-price-buy-min-error": (InvalidOrder, "price-range"),
    "spot-order-stop-order-hit-trigger": (InvalidOrder, None),
    "spot-rate-too-many-requests": (RateLimited, None),
    "spot-require-symbol": (MarketNotFound, None),
    "spot-system-maintenance": (VenueUnavailable, None),
    "spot-timeout": (AnswerLost, None),
    "spot-validation-constraints-required": (InvalidOrder, None),
}


def judged(body: bytes, *, spot: bool, command: bool = True, status: int = 200, **headers: str) -> Any:
    request = Request("POST", "/x", command=command)
    return interpret(request, Response(status, headers, body), spot=spot, now_ms=MOMENT)


def test_every_recorded_error_has_its_class(recordings: Any) -> None:
    names = [name.removeprefix("error-") for name in recordings.names("error-*")]
    assert sorted(names) == sorted(MEANT)
    for name, (kind, rule) in MEANT.items():
        error = judged(recordings.body(f"error-{name}"), spot=name.startswith("spot"))
        assert type(error) is kind, name
        assert getattr(error, "rule", None) == rule, name


def test_every_recorded_answer_that_is_none_passes_for_one(recordings: Any) -> None:
    for name in recordings.names():
        if not name.startswith("error-"):
            assert judged(recordings.body(name), spot=name.startswith("spot")) is None, name


@pytest.mark.parametrize(
    ("body", "spot", "kind"),
    [
        ({"status": "maintain"}, False, VenueUnavailable),
        ({"code": 1067, "message": "no"}, False, InvalidOrder),
        ({"code": 1003, "message": "invalid signature"}, True, AuthenticationError),
        ({"code": 1003, "message": "busy"}, False, AnswerLost),
        ({"status": "error", "err-code": "operation-forbidden-for-etp", "err-msg": ""}, True, PermissionDenied),
        ({"status": "error", "err-code": "order-marketorder-amount-min-error"}, True, InvalidOrder),
        ({"status": "error", "err-code": "bad-request", "err-msg": "429 too many request"}, True, RateLimited),
        ({"status": "error", "err-code": "never-heard-of"}, True, VenueError),
        ({"status": "error", "err_code": 1050, "err_msg": ""}, False, VenueError),
        ({"status": "error", "err_code": 1000, "err_msg": ""}, False, AnswerLost),
    ],
)
def test_codes_of_all_shapes_are_told_apart(body: Any, spot: bool, kind: type) -> None:
    assert isinstance(judged(json.dumps(body).encode(), spot=spot), kind)


@pytest.mark.parametrize(
    "body",
    [
        {"status": "error", "err_code": None, "err_msg": "x"},
        {"status": "error", "err-code": "x", "err-msg": "y", "code": None},
        {"success": False, "code": None, "message": "no"},
        {"status": "error", "err_code": 7, "err_msg": {"text": "y"}},
        {"status": "error", "code": {}},
    ],
)
@pytest.mark.parametrize("spot", [False, True])
def test_an_error_is_one_whatever_is_missing_in_it(body: Any, spot: bool) -> None:
    assert isinstance(judged(json.dumps(body).encode(), spot=spot), VenueError)


def test_a_server_error_leaves_a_command_open_and_a_read_to_be_repeated() -> None:
    assert isinstance(judged(b"<html>", spot=True, status=502), AnswerLost)
    error = judged(b"<html>", spot=True, status=502, command=False)
    assert isinstance(error, VenueUnavailable)
    assert error.retryable


def test_a_refused_time_stamp_is_worth_measuring_the_clock() -> None:
    text = "Signature not valid: Invalid submission time or incorrect time format [x]"
    error = judged(
        json.dumps({"status": "error", "err-code": "api-signature-not-valid", "err-msg": text}).encode(), spot=True
    )
    assert isinstance(error, AuthenticationError)
    assert error.retryable


def test_limits_say_when_they_end() -> None:
    body = json.dumps({"status": "error", "err_code": 1032, "err_msg": "too many"}).encode()
    assert judged(body, spot=False, **{"ratelimit-reset": str(MOMENT + 1500)}).retry_after == 1.5
    assert judged(body, spot=False).retry_after == 3.0
    banned = judged(body.replace(b"1032", b"1084"), spot=False, **{"recovery-time": "300000"})
    assert isinstance(banned, RateLimited)
    assert banned.retry_after is None, "everything but new orders goes on"
    assert "300000" in str(banned)
