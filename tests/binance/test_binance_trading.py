"""Orders and accounts: the exact requests that leave, and what their answers become."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from pydantic import ValidationError

from astra.errors import (
    AuthenticationError,
    BadRequest,
    DuplicateClientOrderId,
    InvalidOrder,
    OrderNotFound,
    OrderOutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.models.accounts import Balance, Fees
from astra.models.credentials import Credentials
from astra.models.orders import (
    Liquidity,
    MarginMode,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
    TimeInForce,
)
from astra.streams.feed import Channel, DataType, Endpoint, Ticket
from astra.testing.played import RecordingOutlet
from astra_binance.settings import BinanceOrderOptions
from astra_binance.trading.terms import time_in_force

pytestmark = pytest.mark.anyio

SPOT = "BINANCE-SPOT-ETH-BTC"
USDM = "BINANCE-PERP-BTC-USDT"
COINM = "BINANCE-PERP-BTC-USD-COINM"
OPTION = "BINANCE-OPT-BTC-USDT-220815-50000-C"
STAMPS = ("recvWindow", "timestamp", "signature")


def limit(**more: Any) -> OrderRequest:
    fields = {"side": "BUY", "type": "LIMIT", "quantity": "2", "price": "0.05", "client_order_id": "my:order/1"}
    return OrderRequest.model_validate({**fields, **more})


def sell(kind: str, **more: Any) -> OrderRequest:
    fields = {"side": "SELL", "type": kind, "quantity": "2", "client_order_id": "c1"}
    return OrderRequest.model_validate({**fields, **more})


def in_contracts(**more: Any) -> OrderRequest:
    return limit(**{"quantity": None, "contracts": "3", "price": "50000", **more})


def spot_order(**more: Any) -> dict[str, Any]:
    fields = {
        "symbol": "ETHBTC", "orderId": 11, "clientOrderId": "my:order/1", "transactTime": 1700000000500,
        "price": "0.05000000", "origQty": "2.00000000", "executedQty": "0.00000000", "origQuoteOrderQty": "0.000000",
        "cummulativeQuoteQty": "0.00000000", "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "side": "BUY",
    }  # fmt: skip
    return {**fields, **more}


def futures_order(**more: Any) -> dict[str, Any]:
    fields = {
        "symbol": "BTCUSDT", "orderId": 302, "clientOrderId": "my:order/1", "price": "50000", "origQty": "2",
        "executedQty": "0", "cumQty": "0", "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "origType": "LIMIT",
        "side": "BUY", "positionSide": "BOTH", "stopPrice": "0", "reduceOnly": False, "updateTime": 1700000000500,
    }  # fmt: skip
    return {**fields, **more}


def algo_order(**more: Any) -> dict[str, Any]:
    fields = {
        "algoId": 88, "clientAlgoId": "c1", "algoType": "CONDITIONAL", "orderType": "STOP_MARKET", "symbol": "BTCUSDT",
        "side": "SELL", "positionSide": "BOTH", "timeInForce": "GTC", "quantity": "2", "algoStatus": "NEW",
        "triggerPrice": "40000", "price": "0", "reduceOnly": False, "createTime": 1700000000400,
        "updateTime": 1700000000500,
    }  # fmt: skip
    return {**fields, **more}


def option_order(**more: Any) -> dict[str, Any]:
    fields = {
        "orderId": 4611875134427365377, "symbol": "BTC-220815-50000-C", "price": "100", "quantity": "1",
        "executedQty": "0", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "reduceOnly": False,
        "postOnly": False, "createTime": 1700000000400, "updateTime": 1700000000500, "status": "NEW", "avgPrice": "0",
        "clientOrderId": "my:order/1",
    }  # fmt: skip
    return {**fields, **more}


def sent(played: Any, method: str, path: str) -> dict[str, str]:
    """The parameters of the last such request, without the stamps."""
    params: dict[str, str] = played.http.asked(method, path)[-1]
    return {name: value for name, value in params.items() if name not in STAMPS}


# -- what goes on the wire --------------------------------------------------------------------------------------


async def test_a_placement_leaves_as_these_very_bytes(played: Any) -> None:
    played.http.answer("POST", "/api/v3/order", spot_order())
    market = await played.market(SPOT)
    placed = await played.venue.place_order(market, limit(), played.credentials)
    request = played.http.requests[-1]
    stamp = played.clock.wall_ns() // 1_000_000 + 1000
    text = (
        "symbol=ETHBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=2&price=0.05&newClientOrderId=my%3Aorder%2F1"
        f"&newOrderRespType=RESULT&recvWindow=5000&timestamp={stamp}"
    )
    key = played.credentials.keys["default"]
    signature = hmac.new(key.secret.get_secret_value().encode(), text.encode(), hashlib.sha256).hexdigest()
    assert request.content.decode() == f"{text}&signature={signature}"
    assert request.url.raw_path == b"/api/v3/order"
    assert request.headers["x-mbx-apikey"] == key.key.get_secret_value()
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (placed.id, placed.status, placed.filled_quantity) == ("11", OrderStatus.NEW, Decimal(0))
    assert placed.created_time == 1700000000500


async def test_twenty_digits_reach_the_venue_unchanged(played: Any) -> None:
    played.http.answer("POST", "/api/v3/order", spot_order())
    market = await played.market(SPOT)
    order = limit(quantity="12345678901.234567890", price="0.00000001")
    await played.venue.place_order(market, order, played.credentials)
    params = sent(played, "POST", "/api/v3/order")
    assert params["quantity"] == "12345678901.23456789"
    assert params["price"] == "0.00000001"


SPOT_WIRE: list[tuple[OrderRequest, dict[str, str]]] = [
    (limit(post_only=True), {"type": "LIMIT_MAKER", "quantity": "2", "price": "0.05"}),
    (limit(time_in_force="IOC"), {"type": "LIMIT", "timeInForce": "IOC", "quantity": "2", "price": "0.05"}),
    (sell("MARKET"), {"type": "MARKET", "quantity": "2"}),
    (sell("MARKET", quantity=None, quote_quantity="15"), {"type": "MARKET", "quoteOrderQty": "15"}),
    (sell("STOP_MARKET", stop_price="0.04"), {"type": "STOP_LOSS", "quantity": "2", "stopPrice": "0.04"}),
    (
        sell("STOP_LIMIT", stop_price="0.04", price="0.039"),
        {"type": "STOP_LOSS_LIMIT", "timeInForce": "GTC", "quantity": "2", "price": "0.039", "stopPrice": "0.04"},
    ),
    (sell("TAKE_PROFIT_MARKET", stop_price="0.06"), {"type": "TAKE_PROFIT", "quantity": "2", "stopPrice": "0.06"}),
    (
        sell("TAKE_PROFIT_LIMIT", stop_price="0.06", price="0.061", time_in_force="FOK"),
        {"type": "TAKE_PROFIT_LIMIT", "timeInForce": "FOK", "quantity": "2", "price": "0.061", "stopPrice": "0.06"},
    ),
    (
        limit(options={"selfTradePrevention": "EXPIRE_BOTH", "icebergQuantity": "0.5"}),
        {
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "2",
            "price": "0.05",
            "icebergQty": "0.5",
            "selfTradePreventionMode": "EXPIRE_BOTH",
        },
    ),
]


@pytest.mark.parametrize(("order", "wire"), SPOT_WIRE)
async def test_spot_orders_have_the_venue_s_words(played: Any, order: OrderRequest, wire: dict[str, str]) -> None:
    played.http.answer("POST", "/api/v3/order", spot_order())
    await played.venue.place_order(await played.market(SPOT), order, played.credentials)
    common = {
        "symbol": "ETHBTC",
        "side": order.side.value,
        "newClientOrderId": order.client_order_id,
        "newOrderRespType": "RESULT",
    }
    assert sent(played, "POST", "/api/v3/order") == {**common, **wire}


FUTURES_WIRE: list[tuple[OrderRequest, dict[str, str]]] = [
    (limit(price="50000"), {"type": "LIMIT", "timeInForce": "GTC", "quantity": "2", "price": "50000"}),
    (
        limit(price="50000", post_only=True, reduce_only=True),
        {"type": "LIMIT", "timeInForce": "GTX", "quantity": "2", "price": "50000", "reduceOnly": "true"},
    ),
    (
        limit(price="50000", time_in_force="GTD", expire_time=1700001000000),
        {"type": "LIMIT", "timeInForce": "GTD", "quantity": "2", "price": "50000", "goodTillDate": "1700001000000"},
    ),
    (sell("MARKET"), {"type": "MARKET", "quantity": "2"}),
    (
        sell("MARKET", options={"positionSide": "LONG", "selfTradePrevention": "EXPIRE_TAKER"}),
        {
            "type": "MARKET",
            "quantity": "2",
            "positionSide": "LONG",
            "selfTradePreventionMode": "EXPIRE_TAKER",
        },
    ),
]


@pytest.mark.parametrize(("order", "wire"), FUTURES_WIRE)
async def test_futures_orders_have_the_venue_s_words(played: Any, order: OrderRequest, wire: dict[str, str]) -> None:
    played.http.answer("POST", "/fapi/v1/order", futures_order())
    await played.venue.place_order(await played.market(USDM), order, played.credentials)
    common = {
        "symbol": "BTCUSDT",
        "side": order.side.value,
        "newClientOrderId": order.client_order_id,
        "newOrderRespType": "RESULT",
    }
    assert sent(played, "POST", "/fapi/v1/order") == {**common, **wire}


ALGO_WIRE: list[tuple[OrderRequest, dict[str, str]]] = [
    (sell("STOP_MARKET", stop_price="40000"), {"type": "STOP_MARKET", "triggerPrice": "40000"}),
    (
        sell("STOP_LIMIT", stop_price="40000", price="39000"),
        {"type": "STOP", "timeInForce": "GTC", "triggerPrice": "40000", "price": "39000"},
    ),
    (
        sell("TAKE_PROFIT_MARKET", stop_price="60000", options={"workingType": "MARK_PRICE", "priceProtect": True}),
        {
            "type": "TAKE_PROFIT_MARKET",
            "triggerPrice": "60000",
            "workingType": "MARK_PRICE",
            "priceProtect": "true",
        },
    ),
    (
        sell("TAKE_PROFIT_LIMIT", stop_price="60000", price="61000", reduce_only=True),
        {
            "type": "TAKE_PROFIT",
            "timeInForce": "GTC",
            "triggerPrice": "60000",
            "price": "61000",
            "reduceOnly": "true",
        },
    ),
]


@pytest.mark.parametrize(
    ("symbol", "prefix", "amount"), [(USDM, "/fapi/v1", "quantity"), (COINM, "/dapi/v1", "contracts")]
)
@pytest.mark.parametrize(("order", "wire"), ALGO_WIRE)
async def test_conditional_futures_orders_go_to_the_algo_endpoint(
    played: Any, order: OrderRequest, wire: dict[str, str], symbol: str, prefix: str, amount: str
) -> None:
    if amount == "contracts":
        order = order.model_copy(update={"quantity": None, "contracts": order.quantity})
    played.http.answer("POST", f"{prefix}/algoOrder", algo_order())
    market = await played.market(symbol)
    placed = await played.venue.place_order(market, order, played.credentials)
    common = {
        "algoType": "CONDITIONAL",
        "symbol": market.native_symbol,
        "side": "SELL",
        "quantity": "2",
        "clientAlgoId": "c1",
    }
    assert sent(played, "POST", f"{prefix}/algoOrder") == {**common, **wire}
    assert (placed.id, placed.client_order_id, placed.status) == ("algo:88", "c1", OrderStatus.NEW)
    assert (placed.type, placed.stop_price) == (OrderType.STOP_MARKET, Decimal(40000))


async def test_coin_margined_orders_are_in_contracts(played: Any) -> None:
    played.http.answer("POST", "/dapi/v1/order", futures_order(origQty="3", executedQty="1", status="PARTIALLY_FILLED"))
    placed = await played.venue.place_order(await played.market(COINM), in_contracts(), played.credentials)
    assert sent(played, "POST", "/dapi/v1/order")["quantity"] == "3"
    assert (placed.contracts, placed.filled_contracts) == (Decimal(3), Decimal(1))
    assert placed.average_price is None, "the answer to a command has none since 2026-06-30"
    assert (placed.quantity, placed.filled_quantity) == (None, None), "base units are not known without it"


OPTION_WIRE: list[tuple[OrderRequest, dict[str, str]]] = [
    (limit(price="100", quantity="0.1"), {"timeInForce": "GTC"}),
    (limit(price="100", quantity=None, contracts="0.1"), {"timeInForce": "GTC"}),
    (limit(price="100", quantity="0.1", post_only=True), {"timeInForce": "GTC", "postOnly": "true"}),
    (
        limit(price="100", quantity="0.1", time_in_force="IOC", reduce_only=True),
        {"timeInForce": "IOC", "reduceOnly": "true"},
    ),
    (
        limit(price="100", quantity="0.1", options={"marketMakerProtection": True}),
        {"timeInForce": "GTC", "isMmp": "true"},
    ),
]


@pytest.mark.parametrize(("order", "wire"), OPTION_WIRE)
async def test_option_orders_have_the_venue_s_words(played: Any, order: OrderRequest, wire: dict[str, str]) -> None:
    played.http.answer("POST", "/eapi/v1/order", option_order())
    placed = await played.venue.place_order(await played.market(OPTION), order, played.credentials)
    common = {
        "symbol": "BTC-220815-50000-C",
        "side": "BUY",
        "type": "LIMIT",
        "quantity": "0.1",
        "price": "100",
        "clientOrderId": "my:order/1",
        "newOrderRespType": "RESULT",
    }
    assert sent(played, "POST", "/eapi/v1/order") == {**common, **wire}
    assert placed.id == "4611875134427365377"


NOT_OFFERED: list[tuple[str, OrderRequest, str]] = [
    (SPOT, limit(reduce_only=True), "reduce-only"),
    (SPOT, limit(time_in_force="GTD", expire_time=1700001000000), "GTD"),
    (SPOT, sell("STOP_LIMIT", stop_price="0.04", price="0.039", post_only=True), "post-only STOP_LIMIT"),
    (SPOT, sell("MARKET", time_in_force="FOK"), "FOK"),
    (SPOT, limit(options={"positionSide": "LONG"}), "position_side"),
    (SPOT, sell("MARKET", options={"icebergQuantity": "1"}), "iceberg_quantity"),
    (USDM, sell("MARKET", quantity=None, quote_quantity="15"), "quoteQuantity"),
    (USDM, limit(options={"icebergQuantity": "1"}), "iceberg_quantity"),
    (USDM, limit(options={"workingType": "MARK_PRICE"}), "working_type"),
    (COINM, in_contracts(time_in_force="GTD", expire_time=1700001000000), "GTD"),
    (OPTION, sell("MARKET"), "MARKET"),
    (OPTION, sell("STOP_MARKET", stop_price="1"), "STOP_MARKET"),
    (OPTION, limit(time_in_force="GTD", expire_time=1700001000000), "GTD"),
    (OPTION, limit(options={"selfTradePrevention": "NONE"}), "self_trade_prevention"),
]


@pytest.mark.parametrize(("symbol", "order", "named"), NOT_OFFERED)
async def test_what_a_family_lacks_is_refused_by_name_and_not_sent(
    played: Any, symbol: str, order: OrderRequest, named: str
) -> None:
    market = await played.market(symbol)
    before = len(played.http.requests)
    with pytest.raises(UnsupportedOperation, match=named):
        await played.venue.place_order(market, order, played.credentials)
    assert len(played.http.requests) == before


async def test_futures_expiry_times_are_whole_seconds_and_hedged_orders_not_reduce_only(played: Any) -> None:
    market = await played.market(USDM)
    order = limit(price="50000", time_in_force="GTD", expire_time=1700001000001)
    with pytest.raises(InvalidOrder, match="whole second"):
        await played.venue.place_order(market, order, played.credentials)
    order = limit(price="50000", reduce_only=True, options={"positionSide": "LONG"})
    with pytest.raises(InvalidOrder, match="hedge mode"):
        await played.venue.place_order(market, order, played.credentials)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="positionSyde"):
        BinanceOrderOptions.model_validate({"positionSyde": "LONG"})


async def test_an_order_without_client_id_gets_one_in_the_venue_s_format(played: Any) -> None:
    played.http.answer("POST", "/api/v3/order", spot_order())
    market = await played.market(SPOT)
    await played.venue.place_order(market, limit(client_order_id=None), played.credentials)
    made = sent(played, "POST", "/api/v3/order")["newClientOrderId"]
    played.venue.client_id_rule(market).check(made, "BINANCE")
    with pytest.raises(InvalidOrder):
        played.venue.client_id_rule(market).check("x" * 37, "BINANCE")


# -- outcomes ---------------------------------------------------------------------------------------------------


async def test_a_market_order_s_average_is_what_it_paid(played: Any, recordings: Any) -> None:
    body = {**recordings.rest("spot-order-new-full")["body"], "cummulativeQuoteQty": "39980.00000000"}
    played.http.answer("POST", "/api/v3/order", body)
    order = sell("MARKET", quantity="10")
    placed = await played.venue.place_order(await played.market(SPOT), order, played.credentials)
    assert placed.status is OrderStatus.FILLED
    assert placed.average_price == Decimal(3998)


async def test_a_bare_acknowledgement_says_nothing_of_fills(played: Any, recordings: Any) -> None:
    played.http.answer("POST", "/api/v3/order", recordings.body("spot-order-new-ack"))
    placed = await played.venue.place_order(await played.market(SPOT), sell("MARKET"), played.credentials)
    assert (placed.id, placed.side, placed.type, placed.quantity) == ("28", "SELL", OrderType.MARKET, Decimal(2))
    assert (placed.status, placed.filled_quantity) == (OrderStatus.NEW, None)


async def test_an_old_order_of_unknown_value_has_no_average(played: Any) -> None:
    played.http.answer("GET", "/api/v3/order", spot_order(executedQty="2", cummulativeQuoteQty="-1", status="FILLED"))
    order = await played.venue.get_order(await played.market(SPOT), OrderRef(id="11"), played.credentials)
    assert (order.average_price, order.filled_quantity) == (None, Decimal(2))


async def test_a_lost_answer_is_an_unknown_outcome_and_nothing_is_repeated(played: Any) -> None:
    played.http.lose("POST", "/api/v3/order")
    with pytest.raises(OrderOutcomeUnknown) as caught:
        await played.venue.place_order(await played.market(SPOT), limit(), played.credentials)
    assert caught.value.client_order_id == "my:order/1"
    assert caught.value.market == SPOT
    assert len(played.http.asked("POST", "/api/v3/order")) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_leaves_the_outcome_unknown(played: Any, status: int) -> None:
    played.http.answer("POST", "/fapi/v1/order", b"<html>", status=status)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(await played.market(USDM), limit(price="50000"), played.credentials)
    assert len(played.http.asked("POST", "/fapi/v1/order")) == 1


async def test_a_refused_time_stamp_has_the_clock_measured_and_is_sent_once_more(played: Any) -> None:
    market = await played.market(SPOT)
    played.http.answer("POST", "/api/v3/order", {"code": -1021, "msg": "outside of the recvWindow."}, status=400)
    played.http.answer("POST", "/api/v3/order", spot_order())
    measured = len(played.http.asked("GET", "/api/v3/time"))
    await played.venue.place_order(market, limit(), played.credentials)
    assert len(played.http.asked("POST", "/api/v3/order")) == 2
    assert len(played.http.asked("GET", "/api/v3/time")) > measured


async def test_a_429_stops_the_family_s_traffic_for_as_long_as_the_venue_says(played: Any) -> None:
    market = await played.market(USDM)
    body = {"code": -1003, "msg": "Too many requests."}
    played.http.answer("POST", "/fapi/v1/order", body, status=429, retry_after="77")
    with pytest.raises(RateLimited) as caught:
        await played.venue.place_order(market, limit(price="50000"), played.credentials)
    assert caught.value.retry_after == 77
    before = len(played.http.requests)
    with pytest.raises(RateLimited):
        await played.venue.place_order(await played.market(COINM), in_contracts(), played.credentials)
    assert len(played.http.requests) == before, "USD-M and COIN-M share their limits"
    played.http.answer("POST", "/api/v3/order", spot_order())
    await played.venue.place_order(await played.market(SPOT), limit(), played.credentials)


def limited_stream(played: Any, status: int, message: str, **data: int) -> Endpoint:
    """The endpoint of the Spot account's stream, whose subscription was refused so."""
    outlet = RecordingOutlet()
    channel = Channel(DataType.ACCOUNT, "spot", credentials=played.credentials)
    kind: Endpoint = played.venue.feed.endpoint(channel)
    session = played.venue.feed.session(kind, outlet, Ticket())
    (frame,) = session.subscribe([channel], played.venue.venue_now_ms())
    error = {"code": -1003, "msg": message, **({"data": data} if data else {})}
    session.received(json.dumps({"id": json.loads(frame)["id"], "status": status, "error": error}).encode(), 0)
    assert [overlap for _, overlap in outlet.reconnects] == [False]
    return kind


@pytest.mark.parametrize(
    ("status", "message", "named", "pause_s"),
    [
        (418, "banned", True, 600.0),
        (429, "too much", True, 600.0),
        (418, "Way too much request weight used; IP banned until {until}.", False, 600.0),
        (418, "banned", False, 60.0),
    ],
)
async def test_a_limit_of_the_spot_account_s_stream_holds_back_dials_and_requests_until_its_end(
    played: Any, status: int, message: str, named: bool, pause_s: float
) -> None:
    market = await played.market(SPOT)
    await played.venue.rest["spot"].clock.refresh()
    until = played.venue.venue_now_ms() + 600_000
    data = {"serverTime": until - 600_000, "retryAfter": until} if named else {}
    kind = limited_stream(played, status, message.format(until=until), **data)
    assert played.venue.rate_limiters["spot"].paused_s == pytest.approx(pause_s, abs=0.01)
    before = len(played.http.requests)
    with pytest.raises(RateLimited) as caught:
        await played.venue.tickets.obtain(kind)
    assert caught.value.retry_after == pytest.approx(pause_s, abs=0.01)
    with pytest.raises(RateLimited):
        await played.venue.place_order(market, limit(), played.credentials)
    assert len(played.http.requests) == before
    await played.clock.advance(pause_s)
    await played.venue.tickets.obtain(kind)


@pytest.mark.parametrize("ahead_ms", [None, -1000, 5000])
async def test_a_short_limit_of_the_spot_account_s_stream_is_waited_for_before_the_next_dial(
    played: Any, ahead_ms: int | None
) -> None:
    """Five seconds where the venue names no time that is still to come."""
    await played.market(SPOT)
    await played.venue.rest["spot"].clock.refresh()
    data = {} if ahead_ms is None else {"retryAfter": played.venue.venue_now_ms() + ahead_ms}
    kind = limited_stream(played, 429, "too much", **data)
    obtained = []

    async def obtain() -> None:
        obtained.append(await played.venue.tickets.obtain(kind))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(obtain)
        await played.clock.advance(4.9)
        assert obtained == []
        await played.clock.advance(0.2)
    assert len(obtained) == 1


async def test_a_dial_of_the_spot_account_s_stream_is_charged_what_the_venue_counts(played: Any) -> None:
    """The connection weighs 2, its subscription 2."""
    await played.market(SPOT)
    await played.venue.rest["spot"].clock.refresh()

    def used() -> float:
        reports = played.venue.rate_limiters["spot"].report()
        return next(float(report.used) for report in reports if report.name == "request_weight-1m")

    before = used()
    channel = Channel(DataType.ACCOUNT, "spot", credentials=played.credentials)
    await played.venue.tickets.obtain(played.venue.feed.endpoint(channel))
    assert used() == before + 4


async def test_used_weight_and_order_counts_are_taken_from_the_headers(played: Any) -> None:
    played.http.answer("POST", "/api/v3/order", spot_order(), x_mbx_used_weight_1m="900", x_mbx_order_count_10s="31")
    await played.venue.place_order(await played.market(SPOT), limit(), played.credentials)
    used = {report.name: report.used for report in played.venue.rate_limiters["spot"].report()}
    assert used["request_weight-1m"] == 900
    assert used["orders-10s"] == 31


async def test_a_key_that_is_missing_or_unusable_sends_nothing(played: Any) -> None:
    market = await played.market(SPOT)
    before = len(played.http.requests)
    futures_only = Credentials(exchange="BINANCE", keys={"usdm": played.credentials.keys["default"]})
    with pytest.raises(AuthenticationError, match="no API key for spot"):
        await played.venue.place_order(market, limit(), futures_only)
    broken = Credentials.of("BINANCE", "key", "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----")
    with pytest.raises(AuthenticationError, match="no readable private key"):
        await played.venue.place_order(market, limit(), broken)
    assert len(played.http.requests) == before


# -- resolving --------------------------------------------------------------------------------------------------

NOT_FOUND = {"code": -2013, "msg": "Order does not exist."}


async def resolved(played: Any, symbol: str, since: int) -> Any:
    return await played.venue.resolve_order(await played.market(symbol), "my:order/1", since, played.credentials)


async def test_a_placement_that_is_found_is_resolved(played: Any) -> None:
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer("GET", "/api/v3/order", spot_order(time=now + 1000, updateTime=now + 1000))
    order = await resolved(played, SPOT, now)
    assert order.id == "11"
    assert sent(played, "GET", "/api/v3/order") == {"symbol": "ETHBTC", "origClientOrderId": "my:order/1"}


async def test_not_found_is_believed_only_after_the_receive_window(played: Any) -> None:
    since = played.clock.wall_ns() // 1_000_000
    played.http.answer("GET", "/api/v3/order", NOT_FOUND, status=400)
    assert await resolved(played, SPOT, since) is True
    await played.clock.advance(5.5)
    assert await resolved(played, SPOT, since) is True, "a while after the window, because look-ups lag"
    await played.clock.advance(2.0)
    assert await resolved(played, SPOT, since) is False


async def test_the_time_stamp_counts_where_it_is_known(played: Any) -> None:
    """The order waited for the rate limiter: its stamp is much later than the call that placed it."""
    called = played.clock.wall_ns() // 1_000_000
    market = await played.market(SPOT)
    await played.clock.advance(25.0)
    played.http.lose("POST", "/api/v3/order")
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, limit(), played.credentials)
    played.http.answer("GET", "/api/v3/order", NOT_FOUND, status=400)
    assert await resolved(played, SPOT, called) is True
    await played.clock.advance(8.0)
    assert await resolved(played, SPOT, called) is False


async def test_an_old_order_under_the_same_id_is_not_the_one_meant(played: Any) -> None:
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer("GET", "/api/v3/order", spot_order(time=now - 3_600_000, status="FILLED"))
    assert await resolved(played, SPOT, now + 1000) is True
    assert await resolved(played, SPOT, now - 600_000) is False


async def test_conditional_orders_are_resolved_too(played: Any) -> None:
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer("GET", "/fapi/v1/order", NOT_FOUND, status=400)
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order(clientAlgoId="my:order/1", createTime=now + 900))
    order = await resolved(played, USDM, now)
    assert order.id == "algo:88"
    assert sent(played, "GET", "/fapi/v1/algoOrder") == {"clientAlgoId": "my:order/1"}


async def lost_stop(played: Any, symbol: str, path: str) -> int:
    """A conditional order under the id whose placement is not answered; when it was sent."""
    since: int = played.clock.wall_ns() // 1_000_000
    amount = {"quantity": None, "contracts": "2"} if symbol == COINM else {}
    order = sell("STOP_MARKET", stop_price="40000", client_order_id="my:order/1", **amount)
    played.http.lose("POST", path)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(await played.market(symbol), order, played.credentials)
    return since


async def test_a_lost_conditional_order_is_looked_for_in_its_own_id_space(played: Any) -> None:
    """An ordinary order may have had the client id before: it says nothing of the conditional one."""
    since = await lost_stop(played, USDM, "/fapi/v1/algoOrder")
    played.http.answer("GET", "/fapi/v1/order", futures_order(status="FILLED", time=since - 3_600_000))
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order(clientAlgoId="my:order/1", createTime=since + 900))
    await played.clock.advance(8.0)
    order = await resolved(played, USDM, since)
    assert (order.id, order.status) == ("algo:88", OrderStatus.NEW)
    assert played.http.asked("GET", "/fapi/v1/order") == []


async def test_a_lost_conditional_order_that_was_triggered_is_its_real_order(played: Any) -> None:
    since = await lost_stop(played, USDM, "/fapi/v1/algoOrder")
    algo = algo_order(clientAlgoId="my:order/1", createTime=since + 900, algoStatus="FINISHED", actualOrderId="302")
    played.http.answer("GET", "/fapi/v1/algoOrder", algo)
    played.http.answer("GET", "/fapi/v1/order", futures_order(status="FILLED", executedQty="2", time=since + 5000))
    order = await resolved(played, USDM, since)
    assert (order.id, order.client_order_id, order.status) == ("302", "my:order/1", OrderStatus.FILLED)
    assert sent(played, "GET", "/fapi/v1/order") == {"symbol": "BTCUSDT", "orderId": "302"}


async def test_a_conditional_order_that_its_own_id_space_denies_was_not_placed(played: Any) -> None:
    since = await lost_stop(played, USDM, "/fapi/v1/algoOrder")
    played.http.answer("GET", "/fapi/v1/algoOrder", NOT_FOUND, status=400)
    assert await resolved(played, USDM, since) is True
    await played.clock.advance(8.0)
    assert await resolved(played, USDM, since) is False


@pytest.mark.parametrize("status", ["FILLED", "NEW"])
async def test_an_order_of_another_process_is_denied_only_by_both_id_spaces(played: Any, status: str) -> None:
    since = played.clock.wall_ns() // 1_000_000 - 600_000
    played.http.answer("GET", "/fapi/v1/order", futures_order(status=status, time=since - 3_600_000))
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order(clientAlgoId="my:order/1", createTime=since + 1900))
    assert (await resolved(played, USDM, since)).id == "algo:88"
    played.http.answers.pop(("GET", "/fapi/v1/algoOrder"))
    played.http.answer("GET", "/fapi/v1/algoOrder", NOT_FOUND, status=400)
    assert await resolved(played, USDM, since) is False


async def test_a_coin_margined_order_of_another_process_that_is_not_found_stays_unknown(played: Any) -> None:
    """It may have been a conditional one, which the venue shows while it is open only."""
    played.http.answer("GET", "/dapi/v1/order", NOT_FOUND, status=400)
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    assert await resolved(played, COINM, played.clock.wall_ns() // 1_000_000 - 600_000) is True


async def test_a_lost_coin_margined_order_that_was_triggered_is_the_ordinary_one_of_its_client_id(played: Any) -> None:
    since = await lost_stop(played, COINM, "/dapi/v1/algoOrder")
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    played.http.answer("GET", "/dapi/v1/order", futures_order(symbol="BTCUSD_PERP", time=since + 5000))
    assert (await resolved(played, COINM, since)).id == "302"
    paths = [request.url.path for request in played.http.requests[-2:]]
    assert paths == ["/dapi/v1/openAlgoOrders", "/dapi/v1/order"], "it is in one of them at any time"


async def test_a_conditional_coin_margined_order_that_is_not_open_stays_unknown(played: Any) -> None:
    """COIN-M lists open conditional orders only: one that was triggered meanwhile cannot be told from none."""
    market = await played.market(COINM)
    played.http.lose("POST", "/dapi/v1/algoOrder")
    order = sell("STOP_MARKET", quantity=None, contracts="2", stop_price="40000", client_order_id="my:order/1")
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, order, played.credentials)
    since = played.clock.wall_ns() // 1_000_000
    played.http.answer("GET", "/dapi/v1/order", NOT_FOUND, status=400)
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    await played.clock.advance(60.0)
    assert await resolved(played, COINM, since) is True


# -- one order --------------------------------------------------------------------------------------------------


async def test_orders_are_found_by_id_and_by_client_id(played: Any) -> None:
    played.http.answer("GET", "/eapi/v1/order", option_order(status="CANCELLED"))
    market = await played.market(OPTION)
    order = await played.venue.get_order(market, OrderRef(client_order_id="my:order/1"), played.credentials)
    assert sent(played, "GET", "/eapi/v1/order") == {"symbol": "BTC-220815-50000-C", "clientOrderId": "my:order/1"}
    assert order.status is OrderStatus.CANCELED
    await played.venue.get_order(market, OrderRef(id="4611875134427365377"), played.credentials)
    assert sent(played, "GET", "/eapi/v1/order")["orderId"] == "4611875134427365377"


async def test_an_id_that_is_no_number_is_refused_before_it_leaves(played: Any) -> None:
    for symbol in (SPOT, USDM, OPTION):
        with pytest.raises(BadRequest, match="whole numbers"):
            await played.venue.get_order(await played.market(symbol), OrderRef(id="abc"), played.credentials)
    with pytest.raises(BadRequest, match="whole numbers"):
        await played.venue.cancel_order(await played.market(USDM), OrderRef(id="algo:x"), played.credentials)


async def test_a_triggered_conditional_order_is_its_real_order_under_its_own_identity(played: Any) -> None:
    algo = algo_order(algoStatus="FINISHED", actualOrderId="302")
    played.http.answer("GET", "/fapi/v1/algoOrder", algo)
    real = futures_order(
        type="MARKET", origType="MARKET", side="SELL", status="FILLED", executedQty="2", avgPrice="39990"
    )
    played.http.answer("GET", "/fapi/v1/order", real)
    order = await played.venue.get_order(await played.market(USDM), OrderRef(id="algo:88"), played.credentials)
    assert (order.id, order.client_order_id) == ("302", "c1")
    assert (order.type, order.stop_price) == (OrderType.STOP_MARKET, Decimal(40000))
    assert (order.status, order.average_price) == (OrderStatus.FILLED, Decimal(39990))


async def test_an_algo_id_never_reaches_the_endpoint_of_ordinary_orders(played: Any) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order())
    order = await played.venue.get_order(await played.market(USDM), OrderRef(id="algo:88"), played.credentials)
    assert order.id == "algo:88"
    assert sent(played, "GET", "/fapi/v1/algoOrder") == {"algoId": "88"}
    assert played.http.asked("GET", "/fapi/v1/order") == []


async def by_client_id(played: Any, symbol: str = USDM) -> Any:
    ref = OrderRef(client_order_id="c1")
    return await played.venue.get_order(await played.market(symbol), ref, played.credentials)


async def test_of_two_orders_under_one_client_id_the_open_one_is_meant(played: Any) -> None:
    """Ordinary and conditional orders have id spaces of their own, and ids may be used again once an order is done."""
    done = futures_order(clientOrderId="c1", status="FILLED", executedQty="2", time=1700000009000)
    played.http.answer("GET", "/fapi/v1/order", done)
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order())
    assert (await by_client_id(played)).id == "algo:88"
    played.http.answers.clear()
    played.http.answer("GET", "/fapi/v1/order", futures_order(clientOrderId="c1"))
    before = len(played.http.requests)
    assert (await by_client_id(played)).id == "302"
    assert len(played.http.requests) == before + 1, "an open one is enough"


@pytest.mark.parametrize(("time", "found"), [(1700000009000, "302"), (1699990000000, "algo:88")])
async def test_of_two_orders_that_are_done_the_newer_one_is_meant(played: Any, time: int, found: str) -> None:
    played.http.answer("GET", "/fapi/v1/order", futures_order(clientOrderId="c1", status="CANCELED", time=time))
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order(algoStatus="CANCELED"))
    assert (await by_client_id(played)).id == found


async def test_what_a_conditional_order_became_keeps_its_type_and_trigger(played: Any) -> None:
    real = futures_order(clientOrderId="c1", type="MARKET", origType="MARKET", side="SELL", status="FILLED",
                         executedQty="2", avgPrice="39990", time=1700000009000)  # fmt: skip
    played.http.answer("GET", "/fapi/v1/order", real)
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order(algoStatus="FINISHED", actualOrderId="302"))
    order = await by_client_id(played)
    assert (order.id, order.type, order.stop_price) == ("302", OrderType.STOP_MARKET, Decimal(40000))


async def test_a_coin_margined_order_is_found_though_it_is_triggered_meanwhile(played: Any) -> None:
    """Its conditional orders are listed while they are open only: they are looked at first."""
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [algo_order(symbol="BTCUSD_PERP")])
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    played.http.answer("GET", "/dapi/v1/order", futures_order(symbol="BTCUSD_PERP", clientOrderId="c1"))
    assert [(await by_client_id(played, COINM)).id for _ in range(2)] == ["algo:88", "302"]


async def test_an_algo_id_of_another_market_is_not_found_and_not_canceled(played: Any) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order())
    played.http.answer("DELETE", "/fapi/v1/algoOrder", {"algoId": 88, "code": "200", "msg": "success"})
    played.http.answer("DELETE", "/fapi/v1/order", {"code": -2011, "msg": "Unknown order sent."}, status=400)
    other = await played.market("BINANCE-PERP-ETH-USDT")
    for ref in (OrderRef(id="algo:88"), OrderRef(client_order_id="c1")):
        with pytest.raises(OrderNotFound):
            await played.venue.cancel_order(other, ref, played.credentials)
    with pytest.raises(OrderNotFound, match="BTCUSDT"):
        await played.venue.get_order(other, OrderRef(id="algo:88"), played.credentials)
    assert played.http.asked("DELETE", "/fapi/v1/algoOrder") == []


GONE = {"code": -2011, "msg": "Unknown order sent."}


def stop_limit(**more: Any) -> dict[str, Any]:
    return algo_order(orderType="STOP", price="39000", **more)


def triggered(**more: Any) -> dict[str, Any]:
    return stop_limit(algoStatus="TRIGGERED", actualOrderId="302", **more)


def real_order(**more: Any) -> dict[str, Any]:
    return futures_order(side="SELL", price="39000", clientOrderId="c1", **more)


async def canceled(played: Any, symbol: str = USDM, **ref: str) -> Any:
    wanted = OrderRef.model_validate(ref or {"id": "algo:88"})
    return await played.venue.cancel_order(await played.market(symbol), wanted, played.credentials)


@pytest.mark.parametrize("ref", [{"id": "algo:88"}, {"client_order_id": "c1"}])
async def test_a_triggered_order_is_canceled_by_the_ids_that_it_had_before(played: Any, ref: dict[str, str]) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", triggered())
    if "client_order_id" in ref:
        played.http.answer("DELETE", "/fapi/v1/order", GONE, status=400)  # the real order may have another one
    played.http.answer("DELETE", "/fapi/v1/order", real_order(status="CANCELED"))
    order = await canceled(played, **ref)
    assert sent(played, "DELETE", "/fapi/v1/order") == {"symbol": "BTCUSDT", "orderId": "302"}
    assert played.http.asked("DELETE", "/fapi/v1/algoOrder") == []
    assert (order.id, order.client_order_id, order.status) == ("302", "c1", OrderStatus.CANCELED)
    assert (order.type, order.stop_price) == (OrderType.STOP_LIMIT, Decimal(40000))


async def test_an_order_that_is_triggered_while_it_is_canceled_is_followed(played: Any) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", stop_limit())
    played.http.answer("GET", "/fapi/v1/algoOrder", triggered())
    played.http.answer("DELETE", "/fapi/v1/algoOrder", GONE, status=400)
    played.http.answer("DELETE", "/fapi/v1/order", real_order(status="CANCELED"))
    order = await canceled(played)
    assert sent(played, "DELETE", "/fapi/v1/order") == {"symbol": "BTCUSDT", "orderId": "302"}
    assert (order.id, order.status) == ("302", OrderStatus.CANCELED)
    assert len(played.http.asked("DELETE", "/fapi/v1/algoOrder")) == 1


async def test_an_order_that_was_done_while_it_was_canceled_is_not_found(played: Any) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", stop_limit())
    played.http.answer("GET", "/fapi/v1/algoOrder", stop_limit(algoStatus="CANCELED"))
    played.http.answer("DELETE", "/fapi/v1/algoOrder", GONE, status=400)
    with pytest.raises(OrderNotFound, match="Unknown order sent"):
        await canceled(played)


async def test_an_order_on_its_way_to_the_book_is_not_called_gone(played: Any) -> None:
    """Its trigger was met, its real order has no id yet: it lives, and was not canceled."""
    played.http.answer("GET", "/fapi/v1/algoOrder", stop_limit(algoStatus="TRIGGERING"))
    played.http.answer("DELETE", "/fapi/v1/algoOrder", GONE, status=400)
    with pytest.raises(VenueUnavailable, match="being triggered") as caught:
        await canceled(played)
    assert caught.value.retryable


@pytest.mark.parametrize("path", ["/fapi/v1/algoOrder", "/fapi/v1/order"])
async def test_a_cancel_whose_answer_is_lost_is_not_followed_by_another(played: Any, path: str) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", stop_limit() if path.endswith("algoOrder") else triggered())
    played.http.lose("DELETE", path)
    with pytest.raises(OrderOutcomeUnknown):
        await canceled(played)
    assert [request.url.path for request in played.http.requests if request.method == "DELETE"] == [path]


async def test_a_coin_margined_order_that_is_triggered_while_it_is_canceled_is_followed_by_its_client_id(
    played: Any,
) -> None:
    in_coinm = {"symbol": "BTCUSD_PERP"}
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [stop_limit(**in_coinm)])
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    played.http.answer("DELETE", "/dapi/v1/algoOrder", GONE, status=400)
    played.http.answer("GET", "/dapi/v1/order", real_order(time=1700000009000, **in_coinm))
    played.http.answer("DELETE", "/dapi/v1/order", real_order(status="CANCELED", **in_coinm))
    order = await canceled(played, COINM)
    assert sent(played, "GET", "/dapi/v1/order") == {"symbol": "BTCUSD_PERP", "origClientOrderId": "c1"}
    assert sent(played, "DELETE", "/dapi/v1/order") == {"symbol": "BTCUSD_PERP", "orderId": "302"}
    assert (order.id, order.status) == ("302", OrderStatus.CANCELED)


@pytest.mark.parametrize("other", [{"side": "BUY"}, {"time": 1600000000000}])
async def test_an_ordinary_order_that_merely_shares_the_client_id_is_left_alone(
    played: Any, other: dict[str, Any]
) -> None:
    in_coinm = {"symbol": "BTCUSD_PERP"}
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [stop_limit(**in_coinm)])
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    played.http.answer("DELETE", "/dapi/v1/algoOrder", GONE, status=400)
    row = {"side": "SELL", "time": 1700000009000, "clientOrderId": "c1", **in_coinm, **other}
    played.http.answer("GET", "/dapi/v1/order", futures_order(**row))
    with pytest.raises(OrderNotFound, match="Unknown order sent"):
        await canceled(played, COINM)
    assert played.http.asked("DELETE", "/dapi/v1/order") == []


async def test_a_coin_margined_order_that_is_triggered_between_two_cancels_by_client_id_is_canceled(
    played: Any,
) -> None:
    played.http.answer("DELETE", "/dapi/v1/order", GONE, status=400)
    played.http.answer("DELETE", "/dapi/v1/order", real_order(status="CANCELED", symbol="BTCUSD_PERP"))
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [])
    assert (await canceled(played, COINM, client_order_id="c1")).status is OrderStatus.CANCELED


async def test_a_spot_cancel_answers_with_the_order_s_own_client_id(played: Any, recordings: Any) -> None:
    played.http.answer("DELETE", "/api/v3/order", recordings.body("spot-order-cancel"))
    ref = OrderRef(client_order_id="myOrder1")
    order = await played.venue.cancel_order(await played.market(SPOT), ref, played.credentials)
    assert played.http.requests[-1].content == b""
    assert sent(played, "DELETE", "/api/v3/order") == {"symbol": "ETHBTC", "origClientOrderId": "myOrder1"}
    assert (order.client_order_id, order.status) == ("myOrder1", OrderStatus.CANCELED)


async def test_cancels_go_before_everything_else(played: Any) -> None:
    """They are marked urgent for the rate limiter; placements are not."""
    seen = []
    client = played.venue.rest["spot"].client
    send = client.send

    async def noting(request: Any, sign: Any = None) -> Any:
        seen.append((request.method, request.urgent, request.command))
        return await send(request, sign)

    client.send = noting
    played.http.answer("POST", "/api/v3/order", spot_order())
    played.http.answer("DELETE", "/api/v3/order", spot_order(status="CANCELED"))
    market = await played.market(SPOT)
    await played.venue.place_order(market, limit(), played.credentials)
    await played.venue.cancel_order(market, OrderRef(id="11"), played.credentials)
    assert [call for call in seen if call[0] != "GET"] == [("POST", False, True), ("DELETE", True, True)]


async def test_canceling_by_client_id_finds_conditional_orders(played: Any) -> None:
    played.http.answer("DELETE", "/fapi/v1/order", {"code": -2011, "msg": "Unknown order sent."}, status=400)
    played.http.answer("GET", "/fapi/v1/algoOrder", algo_order())
    played.http.answer(
        "DELETE", "/fapi/v1/algoOrder", {"algoId": 88, "clientAlgoId": "c1", "code": "200", "msg": "success"}
    )
    order = await played.venue.cancel_order(
        await played.market(USDM), OrderRef(client_order_id="c1"), played.credentials
    )
    assert sent(played, "DELETE", "/fapi/v1/algoOrder") == {"algoId": "88"}
    assert (order.id, order.status) == ("algo:88", OrderStatus.CANCELED)


async def test_canceling_what_is_not_there_says_so(played: Any) -> None:
    played.http.answer("DELETE", "/dapi/v1/order", {"code": -2011, "msg": "Unknown order sent."}, status=400)
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", [algo_order(symbol="BTCUSD_PERP")])
    market = await played.market(COINM)
    with pytest.raises(OrderNotFound, match="Unknown order sent"):
        await played.venue.cancel_order(market, OrderRef(client_order_id="gone"), played.credentials)
    played.http.answer("DELETE", "/dapi/v1/algoOrder", {"algoId": 88, "code": "200", "msg": "success"})
    order = await played.venue.cancel_order(market, OrderRef(id="algo:88"), played.credentials)
    assert order.contracts == Decimal(2)


async def test_an_option_cancel_that_shows_the_order_as_it_was_is_looked_up(played: Any, recordings: Any) -> None:
    played.http.answer("DELETE", "/eapi/v1/order", option_order(status="ACCEPTED"))
    played.http.answer("GET", "/eapi/v1/order", option_order(status="CANCELLED"))
    ref = OrderRef(client_order_id="my:order/1")
    order = await played.venue.cancel_order(await played.market(OPTION), ref, played.credentials)
    assert order.status is OrderStatus.CANCELED


# -- amending ---------------------------------------------------------------------------------------------------


async def test_a_spot_amendment_shrinks_the_order_and_keeps_its_client_id(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/api/v3/order", spot_order(origQty="10", time=1700000000100))
    amended = {**recordings.rest("spot-order-amend")["body"]["amendedOrder"], "clientOrderId": "my:order/1"}
    played.http.answer(
        "PUT", "/api/v3/order/amend/keepPriority", {"transactTime": 1700000000900, "amendedOrder": amended}
    )
    change = OrderChange(quantity=Decimal(5))
    order = await played.venue.amend_order(await played.market(SPOT), OrderRef(id="11"), change, played.credentials)
    assert sent(played, "PUT", "/api/v3/order/amend/keepPriority") == {
        "symbol": "ETHBTC",
        "orderId": "11",
        "newQty": "5",
        "newClientOrderId": "my:order/1",
    }
    assert (order.client_order_id, order.quantity) == ("my:order/1", Decimal(5))
    assert (order.created_time, order.updated_time) == (1700000000100, 1700000000900)


@pytest.mark.parametrize("quantity", ["2", "2.5"])
async def test_a_spot_order_does_not_grow(played: Any, quantity: str) -> None:
    played.http.answer("GET", "/api/v3/order", spot_order())
    change = OrderChange(quantity=Decimal(quantity))
    with pytest.raises(InvalidOrder, match="only to less than its quantity of 2;"):
        await played.venue.amend_order(await played.market(SPOT), OrderRef(id="11"), change, played.credentials)


async def test_amendments_that_do_not_exist_are_refused_by_name(played: Any) -> None:
    price = OrderChange(price=Decimal("0.04"))
    for symbol, ref in ((SPOT, "11"), (OPTION, "11"), (USDM, "algo:88")):
        with pytest.raises(UnsupportedOperation, match="cancel and place anew"):
            await played.venue.amend_order(await played.market(symbol), OrderRef(id=ref), price, played.credentials)


@pytest.mark.parametrize(
    ("change", "quantity", "price"),
    [
        (OrderChange(price=Decimal(49000)), "2", "49000"),
        (OrderChange(quantity=Decimal("1.5")), "1.5", "50000"),
        (OrderChange(quantity=Decimal(1), price=Decimal(48000)), "1", "48000"),
    ],
)
async def test_a_futures_amendment_sends_side_price_and_quantity(
    played: Any, change: OrderChange, quantity: str, price: str
) -> None:
    played.http.answer("GET", "/fapi/v1/order", futures_order(time=1700000000100))
    played.http.answer("PUT", "/fapi/v1/order", futures_order(price=price, origQty=quantity))
    ref = OrderRef(client_order_id="my:order/1")
    order = await played.venue.amend_order(await played.market(USDM), ref, change, played.credentials)
    assert sent(played, "PUT", "/fapi/v1/order") == {
        "symbol": "BTCUSDT",
        "origClientOrderId": "my:order/1",
        "side": "BUY",
        "quantity": quantity,
        "price": price,
    }
    assert (order.quantity, order.price) == (Decimal(quantity), Decimal(price))
    assert order.created_time == 1700000000100


async def test_a_coin_margined_amendment_is_in_contracts(played: Any) -> None:
    played.http.answer("GET", "/dapi/v1/order", futures_order(origQty="3"))
    played.http.answer("PUT", "/dapi/v1/order", futures_order(origQty="3", price="49000"))
    change = OrderChange(price=Decimal(49000))
    await played.venue.amend_order(await played.market(COINM), OrderRef(id="302"), change, played.credentials)
    assert sent(played, "PUT", "/dapi/v1/order")["quantity"] == "3"


async def test_a_lost_amendment_is_an_unknown_outcome(played: Any) -> None:
    played.http.answer("GET", "/fapi/v1/order", futures_order())
    played.http.lose("PUT", "/fapi/v1/order")
    change = OrderChange(price=Decimal(49000))
    with pytest.raises(OrderOutcomeUnknown) as caught:
        await played.venue.amend_order(await played.market(USDM), OrderRef(id="302"), change, played.credentials)
    assert (caught.value.operation, caught.value.order_id) == ("amend_order", "302")


# -- many orders ------------------------------------------------------------------------------------------------


def batch(count: int, **more: Any) -> list[OrderRequest]:
    return [limit(price="50000", client_order_id=f"c{number}", **more) for number in range(count)]


async def test_batches_are_cut_to_size_and_keep_their_places(played: Any) -> None:
    market = await played.market(USDM)
    refused = {"code": -2019, "msg": "Margin is insufficient."}
    first = [futures_order(clientOrderId=f"c{n}", orderId=n) for n in range(4)]
    played.http.answer("POST", "/fapi/v1/batchOrders", [*first, refused])
    played.http.answer("POST", "/fapi/v1/batchOrders", [futures_order(clientOrderId="c5", orderId=5)])
    results = await played.venue.place_orders([(market, order) for order in batch(6)], played.credentials)
    assert [getattr(result, "id", None) for result in results] == ["0", "1", "2", "3", None, "5"]
    assert type(results[4]).__name__ == "InsufficientFunds"
    asked = played.http.asked("POST", "/fapi/v1/batchOrders")
    wires = [json.loads(params["batchOrders"]) for params in asked]
    assert [len(wire) for wire in wires] == [5, 1]
    assert wires[0][0] == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "2",
        "price": "50000",
        "newClientOrderId": "c0",
        "newOrderRespType": "RESULT",
    }
    raw = played.http.requests[-1].content.decode()
    assert "[" not in raw
    assert unquote(raw).startswith("batchOrders=[{")


async def test_a_lost_batch_leaves_each_of_its_orders_unknown(played: Any) -> None:
    market = await played.market(OPTION)
    played.http.answer("POST", "/eapi/v1/batchOrders", [option_order()] * 5)
    played.http.lose("POST", "/eapi/v1/batchOrders")
    orders = [(market, limit(price="100", quantity="1", client_order_id=f"c{n}")) for n in range(7)]
    results = await played.venue.place_orders(orders, played.credentials)
    assert [isinstance(result, OrderOutcomeUnknown) for result in results] == [False] * 5 + [True] * 2
    assert [result.client_order_id for result in results[5:]] == ["c5", "c6"]
    assert json.loads(played.http.asked("POST", "/eapi/v1/batchOrders")[0]["orders"])[0]["clientOrderId"] == "c0"


async def test_a_refused_batch_is_refused_order_by_order(played: Any) -> None:
    market = await played.market(USDM)
    played.http.answer("POST", "/fapi/v1/batchOrders", {"code": -1022, "msg": "bad signature"}, status=400)
    results = await played.venue.place_orders([(market, order) for order in batch(2)], played.credentials)
    assert [type(result) for result in results] == [AuthenticationError] * 2


async def test_a_batch_answer_of_another_length_proves_nothing(played: Any) -> None:
    market = await played.market(USDM)
    played.http.answer("POST", "/fapi/v1/batchOrders", [futures_order()])
    results = await played.venue.place_orders([(market, order) for order in batch(2)], played.credentials)
    assert all(isinstance(result, OrderOutcomeUnknown) for result in results)


async def test_an_entry_of_a_batch_may_be_lost_or_a_duplicate(played: Any) -> None:
    market = await played.market(USDM)
    played.http.answer(
        "POST",
        "/fapi/v1/batchOrders",
        [
            {"code": -1007, "msg": "Timeout waiting for response."},
            {"code": -4116, "msg": "ClientOrderId is duplicated."},
        ],
    )
    lost, duplicate = await played.venue.place_orders([(market, order) for order in batch(2)], played.credentials)
    assert isinstance(lost, OrderOutcomeUnknown)
    assert lost.client_order_id == "c0"
    assert isinstance(duplicate, DuplicateClientOrderId)


async def test_a_batch_that_cannot_be_sent_whole_is_not_sent_at_all(played: Any) -> None:
    usdm, spot = await played.market(USDM), await played.market(SPOT)
    before = len(played.http.requests)
    with pytest.raises(UnsupportedOperation, match="Spot: no batches"):
        await played.venue.place_orders([(usdm, batch(1)[0]), (spot, limit())], played.credentials)
    stop = sell("STOP_MARKET", stop_price="40000")
    with pytest.raises(UnsupportedOperation, match="STOP_MARKET orders in batches"):
        await played.venue.place_orders([(usdm, batch(1)[0]), (usdm, stop)], played.credentials)
    late = limit(price="50000", options={"icebergQuantity": "1"})
    with pytest.raises(UnsupportedOperation, match="iceberg"):
        await played.venue.place_orders([(usdm, order) for order in [*batch(5), late]], played.credentials)
    assert len(played.http.requests) == before


@pytest.mark.parametrize("bad", ["abc", "algo:x"])
async def test_a_batch_of_cancels_with_an_impossible_id_cancels_nothing(played: Any, bad: str) -> None:
    market = await played.market(USDM)
    refs = [*(OrderRef(id=str(n)) for n in range(10)), OrderRef(client_order_id="c1"), OrderRef(id=bad)]
    before = len(played.http.requests)
    with pytest.raises(BadRequest, match="whole numbers"):
        await played.venue.cancel_orders([(market, ref) for ref in refs], played.credentials)
    assert len(played.http.requests) == before


async def test_an_impossible_id_of_an_option_stops_its_batch_of_cancels_too(played: Any) -> None:
    market = await played.market(OPTION)
    refs = [*(OrderRef(id=str(n)) for n in range(10)), OrderRef(id="abc")]
    before = len(played.http.requests)
    with pytest.raises(BadRequest, match="whole numbers"):
        await played.venue.cancel_orders([(market, ref) for ref in refs], played.credentials)
    assert len(played.http.requests) == before


async def test_orders_of_a_batch_are_created_when_they_are_placed_not_when_they_are_canceled(played: Any) -> None:
    market = await played.market(USDM)
    played.http.answer("POST", "/fapi/v1/batchOrders", [futures_order(clientOrderId="c0")])
    played.http.answer("DELETE", "/fapi/v1/batchOrders", [futures_order(status="CANCELED", updateTime=1700000900000)])
    (placed,) = await played.venue.place_orders([(market, batch(1)[0])], played.credentials)
    (canceled,) = await played.venue.cancel_orders([(market, OrderRef(id="302"))], played.credentials)
    assert (placed.created_time, placed.updated_time) == (1700000000500, 1700000000500)
    assert (canceled.created_time, canceled.updated_time) == (None, 1700000900000)


async def test_a_triggered_order_in_a_batch_of_cancels_is_canceled_as_what_it_became(played: Any) -> None:
    played.http.answer("GET", "/fapi/v1/algoOrder", triggered())
    played.http.answer("DELETE", "/fapi/v1/order", real_order(status="CANCELED"))
    (order,) = await played.venue.cancel_orders(
        [(await played.market(USDM), OrderRef(id="algo:88"))], played.credentials
    )
    assert (order.id, order.status) == ("302", OrderStatus.CANCELED)


async def test_a_spot_cancel_all_lists_what_it_canceled(played: Any, recordings: Any) -> None:
    single = recordings.rest("spot-openOrders-cancelAll")["body"][0]
    listed = {"orderListId": 3, "contingencyType": "OCO", "orderReports": [{**single, "orderId": 12}]}
    played.http.answer("DELETE", "/api/v3/openOrders", [single, listed])
    market = await played.market(SPOT)
    orders = await played.venue.cancel_all_orders(market, played.credentials)
    assert [(order.id, order.client_order_id) for order in orders] == [
        ("11", "E6APeyTJvkMvLMYMqu1KQ4"),
        ("12", "E6APeyTJvkMvLMYMqu1KQ4"),
    ]
    played.http.answers.clear()
    played.http.answer("DELETE", "/api/v3/openOrders", {"code": -2011, "msg": "Unknown order sent."}, status=400)
    assert await played.venue.cancel_all_orders(market, played.credentials) == ()


async def test_a_futures_cancel_all_reaches_conditional_orders_even_if_the_other_half_fails(
    played: Any, recordings: Any
) -> None:
    played.http.answer("DELETE", "/fapi/v1/allOpenOrders", b"<html>", status=502)
    played.http.answer("DELETE", "/fapi/v1/algoOpenOrders", recordings.body("usdm-allOpenOrders-cancel"))
    market = await played.market(USDM)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.cancel_all_orders(market, played.credentials)
    assert sent(played, "DELETE", "/fapi/v1/algoOpenOrders") == {"symbol": "BTCUSDT"}


async def test_a_lost_answer_of_one_half_of_a_futures_cancel_all_is_not_hidden_by_a_refusal_of_the_other(
    played: Any,
) -> None:
    refusal = {"code": -4131, "msg": "not now"}
    market = await played.market(USDM)
    played.http.answer("DELETE", "/fapi/v1/allOpenOrders", b"<html>", status=502)
    played.http.answer("DELETE", "/fapi/v1/algoOpenOrders", refusal, status=400)
    with pytest.raises(OrderOutcomeUnknown, match="not now"):
        await played.venue.cancel_all_orders(market, played.credentials)
    played.http.answers.clear()
    played.http.answer("DELETE", "/fapi/v1/allOpenOrders", refusal, status=400)
    played.http.answer("DELETE", "/fapi/v1/algoOpenOrders", b"<html>", status=502)
    with pytest.raises(OrderOutcomeUnknown, match="not now"):
        await played.venue.cancel_all_orders(market, played.credentials)


async def test_conditional_orders_go_first_because_triggered_ones_are_ordinary_then(
    played: Any, recordings: Any
) -> None:
    for path in ("/fapi/v1/allOpenOrders", "/fapi/v1/algoOpenOrders"):
        played.http.answer("DELETE", path, recordings.body("usdm-allOpenOrders-cancel"))
    await played.venue.cancel_all_orders(await played.market(USDM), played.credentials)
    paths = [request.url.path for request in played.http.requests if request.method == "DELETE"]
    assert paths == ["/fapi/v1/algoOpenOrders", "/fapi/v1/allOpenOrders"]


async def test_one_conditional_order_that_is_refused_does_not_keep_the_others(played: Any, recordings: Any) -> None:
    played.http.answer("DELETE", "/dapi/v1/allOpenOrders", recordings.body("coinm-allOpenOrders-cancel"))
    algos = [algo_order(algoId=n, symbol="BTCUSD_PERP") for n in (1, 2)]
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", algos)
    played.http.answer("DELETE", "/dapi/v1/algoOrder", {"code": -4131, "msg": "not now"}, status=400)
    played.http.answer("DELETE", "/dapi/v1/algoOrder", {"algoId": 2, "code": "200", "msg": "success"})
    with pytest.raises(VenueError, match="not now"):
        await played.venue.cancel_all_orders(await played.market(COINM), played.credentials)
    assert [params["algoId"] for params in played.http.asked("DELETE", "/dapi/v1/algoOrder")] == ["1", "2"]


async def test_a_coin_margined_cancel_all_ends_conditional_orders_one_by_one(played: Any, recordings: Any) -> None:
    played.http.answer("DELETE", "/dapi/v1/allOpenOrders", recordings.body("coinm-allOpenOrders-cancel"))
    algos = [algo_order(algoId=n, symbol="BTCUSD_PERP") for n in (1, 2)]
    played.http.answer("GET", "/dapi/v1/openAlgoOrders", algos)
    played.http.answer("DELETE", "/dapi/v1/algoOrder", {"code": -2011, "msg": "Unknown order sent."}, status=400)
    played.http.answer("DELETE", "/dapi/v1/algoOrder", {"algoId": 2, "code": "200", "msg": "success"})
    assert not await played.venue.cancel_all_orders(await played.market(COINM), played.credentials)
    assert [params["algoId"] for params in played.http.asked("DELETE", "/dapi/v1/algoOrder")] == ["1", "2"]


def nothing_open(played: Any) -> None:
    for path in ("/api/v3/openOrders", "/fapi/v1/openOrders", "/dapi/v1/openOrders", "/eapi/v1/openOrders"):
        played.http.answer("GET", path, [])
    for path in ("/fapi/v1/openAlgoOrders", "/dapi/v1/openAlgoOrders"):
        played.http.answer("GET", path, [])


async def test_canceling_everywhere_goes_through_the_markets_with_open_orders(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/api/v3/openOrders", [spot_order(), spot_order(symbol="LTCBTC")])
    played.http.answer("GET", "/eapi/v1/openOrders", [option_order()])
    nothing_open(played)
    played.http.answer("DELETE", "/api/v3/openOrders", [spot_order(status="CANCELED")])
    played.http.answer("DELETE", "/eapi/v1/allOpenOrders", recordings.body("options-allOpenOrders-cancel"))
    orders = await played.venue.cancel_all_orders(None, played.credentials)
    assert [params["symbol"] for params in played.http.asked("DELETE", "/api/v3/openOrders")] == ["ETHBTC", "LTCBTC"]
    assert [params["symbol"] for params in played.http.asked("DELETE", "/eapi/v1/allOpenOrders")] == [
        "BTC-220815-50000-C"
    ]
    assert len(orders) == 2


async def test_canceling_everywhere_fails_loudly_after_trying_everything(played: Any) -> None:
    played.http.answer(
        "GET", "/fapi/v1/openOrders", {"code": -2015, "msg": "Invalid API-key, IP, or permissions"}, status=401
    )
    played.http.answer("GET", "/api/v3/openOrders", [spot_order()])
    nothing_open(played)
    played.http.answer("DELETE", "/api/v3/openOrders", [])
    with pytest.raises(AuthenticationError, match=r"usdm orders could not \(all\) be canceled"):
        await played.venue.cancel_all_orders(None, played.credentials)
    assert played.http.asked("DELETE", "/api/v3/openOrders")


async def test_open_orders_of_all_families_include_conditional_ones(played: Any) -> None:
    played.http.answer("GET", "/api/v3/openOrders", [spot_order()])
    played.http.answer("GET", "/fapi/v1/openOrders", [futures_order()])
    played.http.answer("GET", "/fapi/v1/openAlgoOrders", [algo_order(), algo_order(algoId=89, actualOrderId="302")])
    played.http.answer("GET", "/dapi/v1/openOrders", [futures_order(symbol="BTCUSD_PERP", origQty="3")])
    nothing_open(played)
    orders = await played.venue.list_orders(None, played.credentials)
    assert [(order.market, order.id) for order in orders] == [
        (SPOT, "11"),
        (USDM, "302"),
        (USDM, "algo:88"),  # the triggered one is its real order 302
        (COINM, "302"),
    ]
    assert orders[3].quantity == Decimal(3) * 100 / 50000


async def open_ids(played: Any, *orders: dict[str, Any]) -> list[str | None]:
    """The open orders of the market when `orders` were listed as conditional ones, and 302 as ordinary one after."""
    market = await played.market(USDM)
    played.http.answers.clear()
    played.http.answer("GET", "/fapi/v1/openAlgoOrders", list(orders))
    played.http.answer("GET", "/fapi/v1/openOrders", [real_order(time=1700000009000)])
    return [order.id for order in await played.venue.list_orders(market, played.credentials)]


async def test_an_order_that_is_triggered_while_open_ones_are_listed_is_listed_once(played: Any) -> None:
    assert await open_ids(played, stop_limit()) == ["302"], "the conditional one has become the ordinary one"
    paths = [request.url.path for request in played.http.requests[-2:]]
    assert paths == ["/fapi/v1/openAlgoOrders", "/fapi/v1/openOrders"], "it is in one of them at any time"
    assert await open_ids(played, triggered()) == ["302"]
    assert await open_ids(played, triggered(clientAlgoId="c2", algoId=89)) == ["302"]


async def test_a_conditional_order_that_merely_shares_a_client_id_is_listed(played: Any) -> None:
    for other in ({"side": "BUY"}, {"createTime": 1700000009001}, {"clientAlgoId": "c2"}, {"symbol": "ETHUSDT"}):
        assert await open_ids(played, stop_limit(**other)) == ["302", "algo:88"]


async def test_a_triggered_order_that_is_not_among_the_ordinary_ones_is_done(played: Any) -> None:
    assert await open_ids(played, stop_limit(algoStatus="TRIGGERED", actualOrderId="301")) == ["302"]


async def test_orders_of_unlisted_markets_are_reported(played: Any, caplog: pytest.LogCaptureFixture) -> None:
    played.http.answer("GET", "/api/v3/openOrders", [spot_order(), spot_order(symbol="GONEUSDT")])
    nothing_open(played)
    orders = await played.venue.list_orders(None, played.credentials)
    assert [order.market for order in orders] == [SPOT]
    assert "GONEUSDT" in caplog.text


# -- fills ------------------------------------------------------------------------------------------------------


async def test_spot_fills_are_read(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/api/v3/myTrades", recordings.body("spot-myTrades"))
    (fill,) = await played.venue.list_fills(await played.market(SPOT), None, 10, played.credentials)
    assert sent(played, "GET", "/api/v3/myTrades") == {"symbol": "ETHBTC", "limit": "10"}
    assert (fill.id, fill.order_id, fill.side, fill.liquidity) == ("28457", "100234", "BUY", Liquidity.TAKER)
    assert (fill.price, fill.quantity) == (Decimal("4.000001"), Decimal(12))
    assert (fill.fee, fill.fee_asset) == (Decimal("10.1"), "BNB")


async def test_coin_margined_fills_are_contracts_at_their_price(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/dapi/v1/userTrades", recordings.body("coinm-userTrades"))
    (fill,) = await played.venue.list_fills(await played.market(COINM), None, None, played.credentials)
    assert (fill.contracts, fill.quantity) == (Decimal(1), Decimal(100) / Decimal(8800))
    assert (fill.fee, fill.fee_asset) == (Decimal("0.00000454"), "BTC")


async def test_option_fees_are_positive_when_paid(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/eapi/v1/userTrades", recordings.body("options-userTrades"))
    (fill,) = await played.venue.list_fills(await played.market(OPTION), None, None, played.credentials)
    assert (fill.id, fill.fee, fill.fee_asset) == ("239", Decimal("1.04378629"), "USDT")


def my_trade(number: int, time: int) -> dict[str, Any]:
    return {
        "symbol": "ETHBTC", "id": number, "orderId": 1, "price": "1", "qty": "1", "commission": "0",
        "commissionAsset": "BNB", "time": time, "isBuyer": True, "isMaker": True,
    }  # fmt: skip


async def test_fills_since_a_time_are_read_window_by_window_and_page_by_page(played: Any) -> None:
    day = 86_400_000
    now = played.clock.wall_ns() // 1_000_000
    since = now - 2 * day
    market = await played.market(SPOT)
    full = [my_trade(number, since + number // 2) for number in range(1000)]
    rest = [my_trade(number, since + number // 2) for number in range(998, 1003)]
    played.http.answer("GET", "/api/v3/myTrades", full)
    played.http.answer("GET", "/api/v3/myTrades", rest)
    played.http.answer("GET", "/api/v3/myTrades", [my_trade(5000, since + day + 5)])
    played.http.answer("GET", "/api/v3/myTrades", [])
    fills = await played.venue.list_fills(market, since, None, played.credentials)
    assert [int(fill.id) for fill in fills] == [*range(1003), 5000]
    windows = [
        (int(p["startTime"]) - since, int(p["endTime"]) - since) for p in played.http.asked("GET", "/api/v3/myTrades")
    ]
    assert windows[:3] == [(0, day - 1), (499, 499 + day - 1), (499 + day, 499 + 2 * day - 1)]


async def test_the_oldest_fills_since_a_time_come_first(played: Any) -> None:
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer(
        "GET", "/api/v3/myTrades", [my_trade(2, now - 90), my_trade(1, now - 100), my_trade(3, now - 80)]
    )
    fills = await played.venue.list_fills(await played.market(SPOT), now - 1000, 2, played.credentials)
    assert [fill.id for fill in fills] == ["1", "2"]
    assert len(played.http.asked("GET", "/api/v3/myTrades")) == 1


async def test_fills_beyond_the_venue_s_memory_are_not_silently_missing(played: Any) -> None:
    long_ago = played.clock.wall_ns() // 1_000_000 - 100 * 86_400_000
    with pytest.raises(BadRequest, match="three months"):
        await played.venue.list_fills(await played.market(USDM), long_ago, None, played.credentials)


async def test_what_exists_per_market_only_says_so(played: Any) -> None:
    for call in (
        played.venue.list_fills(None, None, None, played.credentials),
        played.venue.get_fees(None, played.credentials),
        played.venue.keep_alive_orders(None, 10.0, played.credentials),
    ):
        with pytest.raises(UnsupportedOperation, match="per market only"):
            await call


# -- the account ------------------------------------------------------------------------------------------------


def no_balances(played: Any) -> None:
    played.http.answer("GET", "/api/v3/account", {"balances": []})
    played.http.answer("GET", "/fapi/v3/balance", [])
    played.http.answer("GET", "/dapi/v1/balance", [])
    played.http.answer("GET", "/eapi/v1/marginAccount", {"asset": []})


async def test_balances_of_all_wallets_leave_zeros_out(played: Any, recordings: Any) -> None:
    account = recordings.rest("spot-account")["body"]
    account["balances"] += [
        {"asset": "ETH", "free": "1.5", "locked": "0.5"},
        {"asset": "XRP", "free": "0.0", "locked": "0"},
    ]
    played.http.answer("GET", "/api/v3/account", account)
    zero = {**recordings.rest("usdm-balance")["body"][0], "asset": "BNFCR", "balance": "0.00"}
    played.http.answer("GET", "/fapi/v3/balance", [*recordings.rest("usdm-balance")["body"], zero])
    played.http.answer("GET", "/dapi/v1/balance", recordings.body("coinm-balance"))
    played.http.answer("GET", "/eapi/v1/marginAccount", recordings.body("options-marginAccount"))
    balances = await played.venue.get_balances(played.credentials)
    assert [(balance.wallet, balance.asset) for balance in balances] == [
        ("spot", "BTC"),
        ("spot", "ETH"),
        ("usdm", "USDT"),
        ("coinm", "BTC"),
        ("options", "USDT"),
    ]
    assert balances[1] == Balance(
        asset="ETH", wallet="spot", total=Decimal(2), available=Decimal("1.5"), locked=Decimal("0.5")
    )
    assert (balances[2].total, balances[2].available) == (Decimal("122607.35137903"), Decimal("23.72469206"))
    assert (balances[4].total, balances[4].available) == (Decimal("10099.448"), Decimal("8725.92524"))
    assert sent(played, "GET", "/api/v3/account") == {"omitZeroBalances": "true"}


async def test_a_family_that_the_key_may_not_use_is_left_out_with_a_warning(
    played: Any, caplog: pytest.LogCaptureFixture
) -> None:
    denied = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
    played.http.answer("GET", "/eapi/v1/marginAccount", denied, status=401)
    no_balances(played)
    assert await played.venue.get_balances(played.credentials) == []
    assert "no access to options" in caplog.text


async def test_a_key_that_is_denied_everywhere_is_an_error(played: Any) -> None:
    denied = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
    for path in ("/api/v3/account", "/fapi/v3/balance", "/dapi/v1/balance", "/eapi/v1/marginAccount"):
        played.http.answer("GET", path, denied, status=401)
    with pytest.raises(AuthenticationError):
        await played.venue.get_balances(played.credentials)


async def test_a_family_that_fails_otherwise_fails_the_whole_answer(played: Any) -> None:
    played.http.answer("GET", "/fapi/v3/balance", {"code": -2014, "msg": "API-key format invalid."}, status=401)
    no_balances(played)
    with pytest.raises(AuthenticationError, match="usdm did not answer"):
        await played.venue.get_balances(played.credentials)
    region = Credentials(
        exchange="BINANCE",
        keys={"spot": played.credentials.keys["default"], "usdm": Credentials.of("B", "other", "key").keys["default"]},
    )
    played.http.answers.pop(("GET", "/fapi/v3/balance"))
    played.http.answer("GET", "/fapi/v3/balance", b"", status=451)
    with pytest.raises(PermissionDenied):
        await played.venue.get_balances(region)


async def test_positions_leave_zeros_out(played: Any, recordings: Any) -> None:
    rows = recordings.rest("usdm-positionRisk-BTCUSDT")["body"]
    resting = {**rows[0], "symbol": "ETHUSDT", "positionAmt": "0.000"}
    played.http.answer("GET", "/fapi/v3/positionRisk", [*rows, resting])
    short = {**recordings.rest("coinm-positionRisk-doc")["body"][0], "symbol": "BTCUSD_PERP", "positionAmt": "-3",
             "markPrice": "68234.2", "leverage": "20", "marginType": "isolated"}  # fmt: skip
    played.http.answer("GET", "/dapi/v1/positionRisk", [*recordings.rest("coinm-positionRisk-doc")["body"], short])
    option = {**recordings.rest("options-position")["body"][0], "symbol": "BTC-220815-50000-C"}
    played.http.answer("GET", "/eapi/v1/position", [option])
    linear, inverse, call = await played.venue.get_positions(played.credentials)
    assert (linear.market, linear.side, linear.quantity) == (USDM, PositionSide.LONG, Decimal("0.009"))
    assert (linear.entry_price, linear.mark_price) == (Decimal("67445.9"), Decimal("67502.68519858"))
    assert linear.liquidation_price == Decimal("64846.98753790")
    assert (inverse.side, inverse.contracts) == (PositionSide.SHORT, Decimal(3))
    assert inverse.quantity is not None
    assert round(inverse.quantity, 8) == Decimal("0.00439662"), "the recorded notional value"
    assert (inverse.leverage, inverse.margin_mode) == (Decimal(20), MarginMode.ISOLATED)
    assert (call.market, call.side, call.contracts) == (OPTION, PositionSide.SHORT, Decimal("0.1"))
    assert call.unrealized_pnl == Decimal("-5.00138")


async def test_hedge_mode_gives_two_positions(played: Any, recordings: Any) -> None:
    row = recordings.rest("usdm-positionRisk-BTCUSDT")["body"][0]
    played.http.answer("GET", "/fapi/v3/positionRisk", [
        {**row, "positionSide": "LONG"}, {**row, "positionSide": "SHORT", "positionAmt": "-0.002"}
    ])  # fmt: skip
    played.http.answer("GET", "/dapi/v1/positionRisk", [])
    played.http.answer("GET", "/eapi/v1/position", [])
    found = await played.venue.get_positions(played.credentials)
    assert [(position.side, position.quantity) for position in found] == [
        (PositionSide.LONG, Decimal("0.009")),
        (PositionSide.SHORT, Decimal("0.002")),
    ]


async def test_fee_rates_are_fractions(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/api/v3/account/commission", recordings.body("spot-commission"))
    played.http.answer("GET", "/fapi/v1/commissionRate", recordings.body("usdm-commissionRate"))
    played.http.answer("GET", "/eapi/v1/commission", recordings.body("options-commission"))
    (spot,) = await played.venue.get_fees(await played.market(SPOT), played.credentials)
    # standard + special + tax, of the maker and of the dearer side
    maker = Decimal("0.0000001") + Decimal("0.01") + Decimal("0.00000112")
    assert spot.maker == maker + Decimal("0.0000004") + Decimal("0.04") + Decimal("0.00000118")
    (usdm,) = await played.venue.get_fees(await played.market(USDM), played.credentials)
    assert usdm == Fees(market=USDM, maker=Decimal("0.0002"), taker=Decimal("0.0004"))
    (option,) = await played.venue.get_fees(await played.market(OPTION), played.credentials)
    assert option == Fees(market=OPTION, maker=Decimal("0.00024"), taker=Decimal("0.00024"))


async def test_settings_of_futures_are_sent(played: Any) -> None:
    market = await played.market(USDM)
    venue, credentials = played.venue, played.credentials
    for path in ("leverage", "marginType", "positionSide/dual", "countdownCancelAll"):
        played.http.answer("POST", f"/fapi/v1/{path}", {"code": 200, "msg": "success"})
    await venue.set_leverage(market, Decimal("20"), credentials)
    assert sent(played, "POST", "/fapi/v1/leverage") == {"symbol": "BTCUSDT", "leverage": "20"}
    await venue.set_margin_mode(market, MarginMode.CROSS, credentials)
    assert sent(played, "POST", "/fapi/v1/marginType") == {"symbol": "BTCUSDT", "marginType": "CROSSED"}
    await venue.set_position_mode(True, credentials)
    assert sent(played, "POST", "/fapi/v1/positionSide/dual") == {"dualSidePosition": "true"}
    await venue.keep_alive_orders(market, 1.5, credentials)
    assert sent(played, "POST", "/fapi/v1/countdownCancelAll") == {"symbol": "BTCUSDT", "countdownTime": "1500"}
    with pytest.raises(BadRequest, match="whole number"):
        await venue.set_leverage(market, Decimal("2.5"), credentials)


async def test_a_setting_that_is_as_wanted_already_is_no_error(played: Any) -> None:
    market = await played.market(USDM)
    played.http.answer("POST", "/fapi/v1/marginType", {"code": -4046, "msg": "No need to change."}, status=400)
    played.http.answer("POST", "/fapi/v1/marginType", {"code": -4047, "msg": "open orders"}, status=400)
    played.http.answer("POST", "/fapi/v1/positionSide/dual", {"code": -4059, "msg": "No need to change."}, status=400)
    played.http.answer("POST", "/fapi/v1/positionSide/dual", {"code": -4068, "msg": "position"}, status=400)
    await played.venue.set_margin_mode(market, MarginMode.ISOLATED, played.credentials)
    await played.venue.set_position_mode(False, played.credentials)
    with pytest.raises(VenueError, match="open orders"):
        await played.venue.set_margin_mode(market, MarginMode.ISOLATED, played.credentials)
    with pytest.raises(VenueError, match="position"):
        await played.venue.set_position_mode(False, played.credentials)


@pytest.mark.parametrize("symbol", [SPOT, OPTION])
async def test_spot_and_options_have_nothing_of_the_kind_to_set(played: Any, symbol: str) -> None:
    market = await played.market(symbol)
    venue, credentials = played.venue, played.credentials
    for call in (
        venue.set_leverage(market, Decimal(2), credentials),
        venue.set_margin_mode(market, MarginMode.CROSS, credentials),
        venue.keep_alive_orders(market, 5.0, credentials),
    ):
        with pytest.raises(UnsupportedOperation):
            await call


# -- books and trades by REST -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "path", "depth", "asked"),
    [
        (SPOT, "/api/v3/depth", 7, "100"),
        (SPOT, "/api/v3/depth", 9999, "5000"),
        (USDM, "/fapi/v1/depth", 7, "10"),
        (COINM, "/dapi/v1/depth", 501, "1000"),
        (OPTION, "/eapi/v1/depth", 51, "100"),
    ],
)
async def test_a_snapshot_asks_for_the_least_depth_that_suffices(
    played: Any, symbol: str, path: str, depth: int, asked: str
) -> None:
    levels = [[str(100 - n), "1"] for n in range(10)]
    played.http.answer("GET", path, {"lastUpdateId": 5, "E": 9, "T": 8, "bids": levels, "asks": [["200", "4"]]})
    market = await played.market(symbol)
    book = await played.venue.get_orderbook(market, depth)
    assert sent(played, "GET", path) == {"symbol": market.native_symbol, "limit": asked}
    assert len(book.bids) == min(depth, 10)
    assert (book.update_id, book.time) == (5, 8)
    assert book.asks[0] == ((200.0, 4.0) if symbol != COINM else (200.0, 2.0))


async def test_snapshots_of_streams_leave_weight_for_trading(played: Any) -> None:
    market = await played.market(USDM)
    channel = Channel(DataType.ORDERBOOK, "usdm", market)
    played.http.answer("GET", "/fapi/v1/depth", {"lastUpdateId": 5, "bids": [["1", "1"]], "asks": []})
    used = {report.name: report for report in played.venue.rate_limiters["futures"].report()}
    assert used["background"].limit == 0.75 * used["request_weight-1m"].limit
    taken = used["request_weight-1m"].used
    seed = await played.venue.history.book_seed(channel)
    assert (seed.last, seed.complete) == (5, True)
    used = {report.name: report.used for report in played.venue.rate_limiters["futures"].report()}
    assert used["background"] == 20
    assert used["request_weight-1m"] == taken + 20


async def test_missed_spot_trades_are_read_by_their_ids(played: Any) -> None:
    market = await played.market(SPOT)
    rows = [{"id": n, "price": "2.5", "qty": "4", "time": n, "isBuyerMaker": n % 2 == 0} for n in range(101, 1103)]
    played.http.answer("GET", "/api/v3/historicalTrades", rows[:1000])
    played.http.answer("GET", "/api/v3/historicalTrades", rows[1000:])
    trades = await played.venue.history.trades_after(Channel(DataType.TRADE, "spot", market), "100", SPOT)
    assert [trade.id for trade in trades] == [str(n) for n in range(101, 1103)]
    assert [params["fromId"] for params in played.http.asked("GET", "/api/v3/historicalTrades")] == ["101", "1101"]
    assert (trades[0].side, trades[1].side) == ("BUY", "SELL")
    assert (trades[0].price, trades[0].quantity, trades[0].market) == (2.5, 4.0, SPOT)


async def test_missed_futures_trades_are_read_by_aggregate_id_in_base_units(played: Any) -> None:
    market = await played.market(COINM)
    rows = [
        {"a": 7, "p": "50000", "q": "2", "f": 1, "l": 2, "T": 5, "m": True},
        {"a": 8, "p": "0", "q": "0", "f": 3, "l": 3, "T": 6, "m": True},
    ]
    played.http.answer("GET", "/dapi/v1/aggTrades", rows)
    (trade,) = await played.venue.history.trades_after(Channel(DataType.TRADE, "coinm", market), "6", COINM)
    assert (trade.id, trade.quantity, trade.side) == ("7", 2 * 100 / 50000, "SELL")


async def test_options_have_no_trade_history_and_endless_gaps_stay(
    played: Any, caplog: pytest.LogCaptureFixture
) -> None:
    option = await played.market(OPTION)
    assert await played.venue.history.trades_after(Channel(DataType.TRADE, "options", option), "6", OPTION) is None
    usdm = await played.market(USDM)
    page = [{"a": n, "p": "1", "q": "1", "T": 5, "m": True} for n in range(1000)]
    played.http.answer("GET", "/fapi/v1/aggTrades", page)
    assert await played.venue.history.trades_after(Channel(DataType.TRADE, "usdm", usdm), "6", USDM) is None
    assert "the gap stays" in caplog.text


async def test_reads_are_tried_again_and_say_what_is_down(played: Any) -> None:
    market = await played.market(SPOT)
    played.http.answer("GET", "/api/v3/depth", b"", status=503)
    before = len(played.http.requests)

    async def ask() -> None:
        with pytest.raises(VenueUnavailable):
            await played.venue.get_orderbook(market, 5)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await played.clock.advance(20.0)
    assert len(played.http.requests) == before + 3


def test_time_in_force_words_are_complete() -> None:
    assert {time_in_force(word) for word in ("GTC", "GTX", "IOC", "FOK", "GTD", "RPI")} == set(TimeInForce)
    assert time_in_force("") is None
