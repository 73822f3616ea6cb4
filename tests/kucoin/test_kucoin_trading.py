"""What goes out for orders, what is refused before, and what answers mean."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import (
    AuthenticationError,
    BadRequest,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.models.base import decimal_text
from astra.models.orders import MarginMode, Order, OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType
from astra.net.http import AnswerLost, Request, Response
from astra.net.ratelimit import Bucket
from astra.testing import ManualHost
from astra_kucoin.errors import CODES, interpret, refusal
from astra_kucoin.rest import POOLS, PUBLIC, number
from astra_kucoin.settings import FUTURES, SPOT, KucoinSettings
from astra_kucoin.trading import base
from astra_kucoin.trading.futures import FuturesTrading
from astra_kucoin.trading.rows import FuturesOrderRow, SpotOrderRow
from astra_kucoin.trading.spot import SpotTrading
from astra_kucoin.venue import KucoinVenue

pytestmark = pytest.mark.anyio

BTC = "KUCOIN-SPOT-BTC-USDT"
LINEAR = "KUCOIN-PERP-XBT-USDT"
INVERSE = "KUCOIN-PERP-XBT-USD-COINM"
SYNC = "/api/v1/hf/orders/sync"
STOPS = "/api/v1/stop-order"
ALTER = "/api/v1/hf/orders/alter"
UNIFIED_PLACE = "/api/ua/v2/unified/order/place"
FUTURES_ORDERS = "/futures/api/v1/orders"


def ok(data: Any) -> dict[str, Any]:
    return {"code": "200000", "data": data}


def refusing(code: str, msg: str = "no") -> dict[str, Any]:
    return {"code": code, "msg": msg}


def order(**fields: Any) -> OrderRequest:
    given = {"side": "BUY", "type": "LIMIT", "quantity": "0.01", "client_order_id": "mine-1"} | fields
    if given["type"] == "LIMIT":
        given.setdefault("price", "50000")
    for name in [name for name, value in given.items() if value is None]:
        del given[name]
    return OrderRequest.model_validate(given)


def placed_at_spot(played: Any) -> None:
    answer = {"orderId": "67", "clientOid": "mine-1", "orderTime": 1, "dealSize": "0", "canceledSize": "0"}
    played.http.answer("POST", SYNC, ok(answer | {"status": "open"}))
    played.http.answer("POST", STOPS, ok({"orderId": "vs8", "clientOid": "mine-1"}))


def spot_row(**fields: Any) -> dict[str, Any]:
    row = {
        "id": "67",
        "clientOid": "mine-1",
        "symbol": "BTC-USDT",
        "type": "limit",
        "side": "buy",
        "price": "50000",
        "size": "0.01",
        "funds": "500",
        "dealSize": "0",
        "dealFunds": "0",
        "timeInForce": "GTC",
        "active": True,
        "cancelExist": False,
        "createdAt": 1_000_000_000_000_000,
        "lastUpdatedAt": 1_000_000_000_000_000,
    }
    return row | fields


# -- what goes out ------------------------------------------------------------------------------------------------

SPOT_ORDERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"type": "limit", "size": "0.01", "price": "50000", "timeInForce": "GTC"}),
    ({"time_in_force": "IOC"}, {"timeInForce": "IOC"}),
    ({"time_in_force": "FOK", "side": "SELL"}, {"timeInForce": "FOK", "side": "sell"}),
    ({"post_only": True}, {"postOnly": True}),
    ({"type": "MARKET"}, {"type": "market", "size": "0.01"}),
    ({"type": "MARKET", "quantity": None, "quote_quantity": "12.5"}, {"type": "market", "funds": "12.5"}),
    ({"options": {"self_trade_prevention": "CB"}}, {"stp": "CB"}),
]


@pytest.mark.parametrize(("fields", "wanted"), SPOT_ORDERS)
async def test_spot_orders_say_what_was_asked_for(played: Any, fields: Any, wanted: Any) -> None:
    placed_at_spot(played)
    await played.venue.place_order(await played.market(BTC), order(**fields), played.credentials)
    (body,) = played.http.sent("POST", SYNC)
    assert {name: body.get(name) for name in wanted} == wanted
    assert body["clientOid"] == "mine-1"
    assert body["symbol"] == "BTC-USDT"
    assert body["allowMaxTimeWindow"] == 5000
    request = next(r for r in played.http.requests if r.url.path == SYNC)
    assert body["clientTimestamp"] == int(request.headers["KC-API-TIMESTAMP"])
    # Refused by the venue since 2026-08, even as `false`.
    assert not body.keys() & {"hidden", "iceberg", "visibleSize"}
    if wanted["type"] == "market" if "type" in wanted else False:
        assert not body.keys() & {"price", "timeInForce"}


@pytest.mark.parametrize(
    ("kind", "side", "stop"),
    [
        ("STOP_MARKET", "BUY", "entry"),
        ("STOP_LIMIT", "SELL", "loss"),
        ("TAKE_PROFIT_MARKET", "BUY", "loss"),
        ("TAKE_PROFIT_LIMIT", "SELL", "entry"),
    ],
)
async def test_conditional_orders_wait_for_the_right_direction(played: Any, kind: str, side: str, stop: str) -> None:
    placed_at_spot(played)
    played.http.answer("POST", FUTURES_ORDERS, ok({"orderId": "9", "clientOid": "mine-1"}))
    fields = {"type": kind, "side": side, "stop_price": "51000", "price": "51000" if "LIMIT" in kind else None}
    placed = await played.venue.place_order(await played.market(BTC), order(**fields), played.credentials)
    (body,) = played.http.sent("POST", STOPS)
    assert (body["stop"], body["stopPrice"], body["type"]) == (stop, "51000", "limit" if "LIMIT" in kind else "market")
    assert "clientTimestamp" not in body
    assert (placed.id, placed.type) == ("stop:vs8", OrderType(kind))
    await played.venue.place_order(await played.market(LINEAR), order(**fields), played.credentials)
    (body,) = played.http.sent("POST", FUTURES_ORDERS)
    assert (body["stop"], body["stopPriceType"]) == ("up" if stop == "entry" else "down", "TP")


async def test_good_till_date_is_told_in_whole_seconds(played: Any) -> None:
    placed_at_spot(played)
    market = await played.market(BTC)
    await played.venue.rest.spot.clock.refresh()
    now = played.venue.rest.spot.clock.now_ms()
    good = order(time_in_force="GTD", expire_time=now + 90_999)
    await played.venue.place_order(market, good, played.credentials)
    (body,) = played.http.sent("POST", SYNC)
    assert (body["timeInForce"], body["cancelAfter"]) == ("GTT", 90)
    late = order(time_in_force="GTD", expire_time=now + 500)
    with pytest.raises(InvalidOrder, match="expireTime"):
        await played.venue.place_order(market, late, played.credentials)


@pytest.mark.parametrize("account", ["CLASSIC", "UNIFIED"])
@pytest.mark.parametrize(("good_for_s", "left_s"), [(10, 6), (4, None)])
async def test_an_order_does_not_outlive_its_end_by_the_time_that_it_waits_here(
    played: Any, account: str, good_for_s: int, left_s: int | None
) -> None:
    """What is left counts from sending on: requests may wait for the rate limit before they leave."""
    path = SYNC if account == "CLASSIC" else UNIFIED_PLACE
    answer = {"orderId": "67", "clientOid": "mine-1", "status": "open", "ts": 1}
    played.http.answer("POST", path, ok(answer))
    played.http.answers["GET", "/api/ua/v2/account/mode"] = []
    played.http.answer("GET", "/api/ua/v2/account/mode", ok({"selfAccountMode": account}))
    market = await played.market(BTC)
    await played.venue.rest.spot.clock.refresh()
    await played.venue.rest.mode(SPOT, played.credentials)
    now = played.venue.rest.spot.clock.now_ms()
    good = order(time_in_force="GTD", expire_time=now + 1000 * good_for_s)
    outcomes: list[Any] = []

    async def place() -> None:
        try:
            outcomes.append(await played.venue.place_order(market, good, played.credentials))
        except InvalidOrder as error:
            outcomes.append(error)

    played.venue.rest.spot.limiter.pause(3.5, "too many requests")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place)
        await played.clock.advance(3)
        assert not played.http.sent("POST", path)
        await played.clock.advance(1)
    (outcome,) = outcomes
    sent = [body["cancelAfter"] for body in played.http.sent("POST", path)]
    assert sent == ([] if left_s is None else [left_s])
    assert isinstance(outcome, InvalidOrder if left_s is None else Order)
    if left_s is None:
        assert (outcome.rule, outcome.exchange) == ("expire-time", "KUCOIN")


FUTURES_CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (LINEAR, {"quantity": "0.012"}, {"size": 12, "marginMode": "ISOLATED", "price": "50000"}),
    (LINEAR, {"quantity": None, "contracts": "3"}, {"size": 3}),
    (LINEAR, {"reduce_only": True, "options": {"leverage": "5"}}, {"reduceOnly": True}),
    (LINEAR, {"options": {"leverage": "5"}}, {"leverage": 5}),
    (LINEAR, {"options": {"margin_mode": "CROSS", "position_side": "LONG"}}, {"marginMode": "CROSS"}),
    (LINEAR, {"options": {"position_side": "SHORT"}}, {"positionSide": "SHORT"}),
    (INVERSE, {"quantity": None, "contracts": "100", "time_in_force": "IOC"}, {"size": 100, "timeInForce": "IOC"}),
    (INVERSE, {"type": "MARKET", "quantity": None, "contracts": "7"}, {"size": 7, "type": "market"}),
]


@pytest.mark.parametrize(("symbol", "fields", "wanted"), FUTURES_CASES)
async def test_futures_orders_are_in_lots(played: Any, symbol: str, fields: Any, wanted: Any) -> None:
    played.http.answer("POST", FUTURES_ORDERS, ok({"orderId": "9", "clientOid": "mine-1"}))
    market = await played.market(symbol)
    placed = await played.venue.place_order(market, order(**fields), played.credentials)
    (body,) = played.http.sent("POST", FUTURES_ORDERS)
    assert {name: body.get(name) for name in wanted} == wanted
    assert body["clientOid"] == "mine-1"
    assert placed.contracts == body["size"]
    if fields.get("reduce_only"):
        assert "leverage" not in body


@pytest.mark.parametrize(
    ("symbol", "fields", "words"),
    [
        (BTC, {"reduce_only": True}, "reduce-only"),
        (BTC, {"type": "MARKET", "time_in_force": "FOK"}, "time in force FOK"),
        (BTC, {"type": "STOP_LIMIT", "stop_price": "51000", "price": "51000", "time_in_force": "IOC"}, "IOC for STOP"),
        (BTC, {"type": "STOP_LIMIT", "stop_price": "51000", "price": "51000", "post_only": True}, "post-only STOP"),
        (BTC, {"options": {"leverage": "3"}}, "leverage"),
        (BTC, {"options": {"trigger_price": "MP"}}, "trigger_price"),
        (LINEAR, {"time_in_force": "GTD", "expire_time": 2_000_000_000_000}, "GTD"),
        (LINEAR, {"type": "MARKET", "quantity": None, "quote_quantity": "5"}, "quoteQuantity"),
        (LINEAR, {"options": {"trigger_price": "MP"}}, "trigger_price"),
    ],
)
async def test_what_a_product_lacks_is_refused_by_name(played: Any, symbol: str, fields: Any, words: str) -> None:
    market = await played.market(symbol)
    with pytest.raises(UnsupportedOperation, match=words):
        await played.venue.place_order(market, order(**fields), played.credentials)
    assert {request.method for request in played.http.requests} == {"GET"}


async def test_inverse_orders_without_contracts_are_refused(played: Any) -> None:
    with pytest.raises(InvalidOrder, match="give contracts"):
        await played.venue.place_order(await played.market(INVERSE), order(), played.credentials)
    with pytest.raises(InvalidOrder, match="for spot"):
        await played.venue.place_order(
            await played.market(LINEAR), order(options={"self_trade_prevention": "DC"}), played.credentials
        )


@given(st.decimals(min_value="1e-12", max_value="1e15", allow_nan=False, places=12).filter(bool))
def test_amounts_are_written_exactly_and_without_exponent(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "E" not in text.upper()
    told = number(value)
    assert Decimal(told) == value


# -- whose account ------------------------------------------------------------------------------------------------


async def test_the_account_mode_is_asked_for_once_a_product(played: Any) -> None:
    placed_at_spot(played)
    market = await played.market(BTC)
    for number_ in range(3):
        await played.venue.place_order(market, order(client_order_id=f"mine-{number_}"), played.credentials)
    assert len(played.http.asked("GET", "/api/ua/v2/account/mode")) == 1


async def test_an_account_of_an_unknown_kind_is_refused(played: Any) -> None:
    played.http.answers["GET", "/api/ua/v2/account/mode"] = []
    played.http.answer("GET", "/api/ua/v2/account/mode", ok({"selfAccountMode": "QUANTUM"}))
    for symbol in (BTC, LINEAR):
        with pytest.raises(PermissionDenied, match="kind QUANTUM"):
            await played.venue.place_order(await played.market(symbol), order(), played.credentials)
    assert not played.http.sent("POST", SYNC)
    assert not played.http.sent("POST", FUTURES_ORDERS)


async def test_the_older_path_tells_the_account_mode_where_the_newer_is_gone(played: Any) -> None:
    placed_at_spot(played)
    played.http.answers["GET", "/api/ua/v2/account/mode"] = []
    played.http.answer("GET", "/api/ua/v2/account/mode", {"code": "404", "msg": "URL not found"}, 404)
    played.http.answer("GET", "/api/ua/v1/account/mode", ok({"selfAccountMode": "CLASSIC"}))
    assert (await played.venue.place_order(await played.market(BTC), order(), played.credentials)).id == "67"


async def test_the_mode_of_a_contract_is_asked_again_when_it_was_another(played: Any) -> None:
    played.http.answer("POST", FUTURES_ORDERS, refusing("330005", "The order's margin mode does not match"))
    played.http.answer("POST", FUTURES_ORDERS, ok({"orderId": "9"}))
    played.http.answer("GET", "/futures/api/v2/position/getMarginMode", ok({"symbol": "", "marginMode": "CROSS"}))
    market = await played.market(LINEAR)
    with pytest.raises(InvalidOrder):
        await played.venue.place_order(market, order(), played.credentials)
    await played.venue.place_order(market, order(client_order_id="mine-2"), played.credentials)
    modes = [body["marginMode"] for body in played.http.sent("POST", FUTURES_ORDERS)]
    assert modes == ["ISOLATED", "CROSS"]


async def test_leverage_of_isolated_margin_goes_with_the_orders(played: Any) -> None:
    played.http.answer("POST", FUTURES_ORDERS, ok({"orderId": "9"}))
    played.http.answer("POST", "/futures/api/v2/changeCrossUserLeverage", ok(True))
    played.http.answer("POST", "/futures/api/v2/position/changeMarginMode", ok({"marginMode": "CROSS"}))
    market = await played.market(LINEAR)
    await played.venue.set_leverage(market, Decimal(7), played.credentials)
    await played.venue.place_order(market, order(), played.credentials)
    await played.venue.set_margin_mode(market, MarginMode.CROSS, played.credentials)
    await played.venue.set_leverage(market, Decimal(8), played.credentials)
    await played.venue.place_order(market, order(client_order_id="mine-2"), played.credentials)
    first, second = played.http.sent("POST", FUTURES_ORDERS)
    assert (first["leverage"], first["marginMode"]) == (7, "ISOLATED")
    assert ("leverage" in second, second["marginMode"]) == (False, "CROSS")
    (body,) = played.http.sent("POST", "/futures/api/v2/changeCrossUserLeverage")
    assert body == {"symbol": "XBTUSDTM", "leverage": "8"}


# -- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "filled"),
    [
        ({"status": "open", "dealSize": "0", "canceledSize": "0"}, OrderStatus.NEW, "0"),
        ({"status": "open", "dealSize": "0.004", "canceledSize": "0"}, OrderStatus.PARTIALLY_FILLED, "0.004"),
        ({"status": "done", "dealSize": "0.01", "canceledSize": "0"}, OrderStatus.FILLED, "0.01"),
        ({"status": "done", "dealSize": "0.004", "canceledSize": "0.006"}, OrderStatus.CANCELED, "0.004"),
        ({}, OrderStatus.NEW, None),
    ],
)
async def test_a_placement_tells_what_became_of_it_at_once(
    played: Any, answer: Any, status: OrderStatus, filled: str | None
) -> None:
    played.http.answer("POST", SYNC, ok({"orderId": "67", "clientOid": "mine-1"} | answer))
    placed = await played.venue.place_order(await played.market(BTC), order(), played.credentials)
    assert (placed.status, placed.id, placed.client_order_id) == (status, "67", "mine-1")
    assert placed.filled_quantity == (None if filled is None else Decimal(filled))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, OrderStatus.NEW),
        ({"dealSize": "0.004"}, OrderStatus.PARTIALLY_FILLED),
        ({"active": False, "dealSize": "0.01"}, OrderStatus.FILLED),
        ({"active": False, "cancelExist": True}, OrderStatus.CANCELED),
        ({"active": False, "cancelExist": True, "dealSize": "0.004"}, OrderStatus.CANCELED),
        ({"active": False, "cancelExist": True, "timeInForce": "GTT", "cancelAfter": 5}, OrderStatus.CANCELED),
        (
            {"active": False, "cancelExist": True, "timeInForce": "GTT", "cancelAfter": 5, "lastUpdatedAt": 6000},
            OrderStatus.EXPIRED,
        ),
    ],
)
async def test_the_states_of_spot_orders(played: Any, fields: Any, status: OrderStatus) -> None:
    row = spot_row(createdAt=1000, lastUpdatedAt=2000) | fields
    names = {"id", "symbol", "type", "side", "active"}
    renamed = {"cancelExist": "cancel_exist", "clientOid": "client_oid", "dealSize": "deal_size"}
    renamed |= {"dealFunds": "deal_funds", "timeInForce": "time_in_force", "cancelAfter": "cancel_after"}
    renamed |= {"createdAt": "created_at", "lastUpdatedAt": "last_updated_at"}
    given = {renamed.get(name, name): value for name, value in row.items() if name in names or name in renamed}
    assert SpotOrderRow(**given).status is status


async def test_a_batch_tells_each_order_by_its_place(played: Any) -> None:
    rows = [{"orderId": "1", "clientOid": "a", "success": True}]
    rows += [{"success": False, "failMsg": "Balance insufficient!"}, {"success": False, "failMsg": "whatever"}]
    played.http.answer("POST", "/api/v1/hf/orders/multi/sync", ok(rows))
    market = await played.market(BTC)
    orders = [(market, order(client_order_id=name)) for name in "abc"]
    good, poor, bad = await played.venue.place_orders(orders, played.credentials)
    assert isinstance(good, Order)
    assert type(poor) is InsufficientFunds
    assert type(bad) is InvalidOrder


async def test_a_lost_batch_leaves_every_order_unknown(played: Any) -> None:
    for symbol, path in ((BTC, "/api/v1/hf/orders/multi/sync"), (LINEAR, f"{FUTURES_ORDERS}/multi")):
        played.http.lose("POST", path)
        market = await played.market(symbol)
        orders = [(market, order(client_order_id=name)) for name in "ab"]
        answers = await played.venue.place_orders(orders, played.credentials)
        assert [type(answer) for answer in answers] == [OrderOutcomeUnknown] * 2
        assert [answer.client_order_id for answer in answers] == ["a", "b"]
        assert len(played.http.sent("POST", path)) == 1


async def test_six_spot_orders_of_two_markets_are_sent_in_the_venue_s_portions(played: Any) -> None:
    market = await played.market(BTC)
    path = "/api/v1/hf/orders/multi/sync"
    for count in (5, 1):
        played.http.answer("POST", path, ok([{"orderId": str(n), "success": True} for n in range(count)]))
    orders = [(market, order(client_order_id=f"o{n}")) for n in range(6)]
    answers = await played.venue.place_orders(orders, played.credentials)
    assert [answer.client_order_id for answer in answers] == [f"o{n}" for n in range(6)]
    assert [len(body["orderList"]) for body in played.http.sent("POST", path)] == [5, 1]


async def test_an_amended_order_is_found_under_its_new_id(played: Any) -> None:
    """The venue cancels and places anew: an id from before leads to what the order has become."""
    played.http.answer("POST", "/api/v1/hf/orders/alter", ok({"newOrderId": "68", "clientOid": "mine-1"}))
    played.http.answer("GET", "/api/v1/hf/orders/68", ok(spot_row(id="68", price="49000")))
    played.http.answer("GET", "/api/v1/hf/orders/67", ok(spot_row(active=False, cancelExist=True)))
    played.http.answer("GET", "/api/v1/hf/orders/client-order/mine-1", ok(spot_row(id="68", price="49000")))
    market = await played.market(BTC)
    change = OrderChange(price=Decimal(49000))
    amended = await played.venue.amend_order(market, OrderRef(id="67"), change, played.credentials)
    assert (amended.id, amended.price, amended.client_order_id) == ("68", Decimal(49000), "mine-1")
    (body,) = played.http.sent("POST", "/api/v1/hf/orders/alter")
    assert body == {"symbol": "BTC-USDT", "orderId": "67", "newPrice": "49000"}
    found = await played.venue.get_order(market, OrderRef(id="67"), played.credentials)
    assert (found.id, found.status) == ("68", OrderStatus.NEW)


OLD, NEW = "/api/v1/hf/orders/67", "/api/v1/hf/orders/68"
MINE = "/api/v1/hf/orders/client-order/mine-1"
DEAD = spot_row(active=False, cancelExist=True)


async def test_an_order_that_is_being_amended_is_not_called_canceled_before_its_successor_is_seen(played: Any) -> None:
    """The venue cancels, then places anew: what is seen in between is no end."""
    market = await played.market(BTC)
    played.http.lose("POST", ALTER)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.amend_order(market, OrderRef(id="67"), OrderChange(price=Decimal(49000)), played.credentials)
    for path in (OLD, MINE):
        played.http.answer("GET", path, ok(DEAD))
    for ref in (OrderRef(id="67"), OrderRef(client_order_id="mine-1")):
        with pytest.raises(VenueUnavailable, match="amended"):
            await played.venue.get_order(market, ref, played.credentials)
    await played.clock.advance(8)  # no successor comes any more
    found = await played.venue.get_order(market, OrderRef(id="67"), played.credentials)
    assert (found.id, found.status) == ("67", OrderStatus.CANCELED)


@pytest.mark.parametrize("known", ["placed", "placed in a batch", "looked up"])
async def test_an_amendment_by_client_order_id_concerns_the_id_that_the_order_has(played: Any, known: str) -> None:
    """That id's end is no end. It is asked for where this process does not know it."""
    market, batch = await played.market(BTC), "/api/v1/hf/orders/multi/sync"
    placed_at_spot(played)
    played.http.answer("POST", batch, ok([{"orderId": "67", "clientOid": "mine-1", "success": True}]))
    if known == "placed":
        await played.venue.place_order(market, order(), played.credentials)
    elif known == "placed in a batch":
        await played.venue.place_orders([(market, order())], played.credentials)
    played.http.answer("GET", MINE, ok(spot_row()))
    played.http.answer("POST", ALTER, ok({"newOrderId": "68", "clientOid": "mine-1"}))
    played.http.answer("GET", NEW, ok(spot_row(id="68", price="49000")))
    ref, change = OrderRef(client_order_id="mine-1"), OrderChange(price=Decimal(49000))
    amended = await played.venue.amend_order(market, ref, change, played.credentials)
    assert amended.id == "68"
    assert played.http.sent("POST", ALTER) == [{"symbol": "BTC-USDT", "clientOid": "mine-1", "newPrice": "49000"}]
    assert len(played.http.asked("GET", MINE)) == (known == "looked up")
    notes = played.venue.by_mode[SPOT].notes
    assert [notes.is_amending(played.credentials, name) for name in ("67", "68", "mine-1")] == [True, False, False]
    assert notes.ids.get((played.credentials, "mine-1")) == "68"


async def test_an_earlier_id_reaches_what_the_order_has_become(played: Any) -> None:
    """Cancels and amendments, too: refused for the old id, they are sent once more, under the new one."""
    market = await played.market(BTC)
    played.http.answer("DELETE", "/api/v1/hf/orders/sync/67", GONE)
    played.http.answer("DELETE", "/api/v1/hf/orders/sync/68", ok({"orderId": "68"}))
    played.http.answer("POST", ALTER, GONE)
    played.http.answer("POST", ALTER, ok({"newOrderId": "69", "clientOid": "mine-1"}))
    played.http.answer("GET", OLD, ok(DEAD))
    played.http.answer("GET", MINE, ok(spot_row(id="68")))
    played.http.answer("GET", NEW, ok(DEAD | {"id": "68"}))
    played.http.answer("GET", "/api/v1/hf/orders/69", ok(spot_row(id="69", price="49000")))
    canceled = await played.venue.cancel_order(market, OrderRef(id="67"), played.credentials)
    assert (canceled.id, canceled.status) == ("68", OrderStatus.CANCELED)
    change = OrderChange(price=Decimal(49000))
    amended = await played.venue.amend_order(market, OrderRef(id="67"), change, played.credentials)
    assert (amended.id, amended.price) == ("69", Decimal(49000))
    assert [body["orderId"] for body in played.http.sent("POST", ALTER)] == ["67", "68"]


async def test_a_command_whose_outcome_is_unknown_is_not_repeated_under_another_id(played: Any) -> None:
    market = await played.market(BTC)
    played.http.lose("DELETE", "/api/v1/hf/orders/sync/67")
    played.http.lose("POST", ALTER)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.cancel_order(market, OrderRef(id="67"), played.credentials)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.amend_order(market, OrderRef(id="67"), OrderChange(price=Decimal(1)), played.credentials)
    assert len([request for request in played.http.requests if request.method in ("DELETE", "POST")]) == 2


@pytest.mark.parametrize("becomes", [DEAD, spot_row()], ids=["done", "the same"])
async def test_a_refused_cancel_is_not_repeated_under_the_same_id(played: Any, becomes: Any) -> None:
    market = await played.market(BTC)
    played.http.answer("DELETE", "/api/v1/hf/orders/sync/67", GONE)
    for path in (OLD, MINE):
        played.http.answer("GET", path, ok(becomes))
    with pytest.raises(OrderNotFound):
        await played.venue.cancel_order(market, OrderRef(id="67"), played.credentials)
    assert len([request for request in played.http.requests if request.method == "DELETE"]) == 1


def history_of(path: str, times: list[int]) -> Callable[[dict[str, str]], Any]:
    """The venue's history of one fill at each of the times, newest first, a page of a hundred at a time."""

    def row(number: int) -> dict[str, Any]:
        told = {"id": number, "tradeId": str(number), "orderId": "67", "price": "5", "size": "1"}
        time = {"createdAt": times[number]} if "ua" not in path else {"executionTime": times[number] * 1_000_000}
        side = "BUY" if "ua" in path else "buy"
        return told | time | {"side": side, "symbol": "XBTUSDTM" if "futures" in path else "BTC-USDT"}

    def answer(asked: dict[str, str]) -> Any:
        start, end = int(asked.get("startAt", 0)), int(asked.get("endAt", 10**15))
        known = [number for number, time in reversed(list(enumerate(times))) if start <= time <= end]
        if "currentPage" in asked:
            known = known[100 * (int(asked["currentPage"]) - 1) :]
        if "lastId" in asked:
            known = [number for number in known if number < int(asked["lastId"])]
        items = [row(number) for number in known[:100]]
        return ok({"items": items, "lastId": items[-1]["id"] if items else None})

    return answer


async def asked_without_limits(played: Any, symbol: str, account: str) -> Any:
    """A market of an account of this kind. Nothing waits for the rate limit: the clock stands still."""
    played.http.answers["GET", "/api/ua/v2/account/mode"] = []
    played.http.answer("GET", "/api/ua/v2/account/mode", ok({"selfAccountMode": account}))
    pools = [Bucket(name, 1e9, 1.0, per_account=name != PUBLIC) for name in POOLS]
    played.venue.rest.spot.limiter.configure(pools)
    return await played.market(symbol)


HISTORIES = [
    (BTC, "/api/v1/hf/fills", "CLASSIC"),
    (LINEAR, "/futures/api/v1/fills", "CLASSIC"),
    (BTC, "/api/ua/v2/unified/order/execution", "UNIFIED"),
]


@pytest.mark.parametrize(("symbol", "path", "account"), HISTORIES)
async def test_no_fill_of_a_busy_week_is_missing(
    played: Any, monkeypatch: pytest.MonkeyPatch, symbol: str, path: str, account: str
) -> None:
    """A stretch with more pages than are asked for at once is halved, not cut off at its end."""
    monkeypatch.setattr(base, "MOST_PAGES", 3)
    market = await asked_without_limits(played, symbol, account)
    now = played.venue.rest.spot.clock.now_ms()
    week = 7 * 86_400_000
    times = [now - 2 * week + number_ for number_ in range(0, 2 * week, 2 * week // 250)]
    times += [now - 3600_000 + number_ for number_ in range(900)]
    times.sort()
    played.http.histories[path] = history_of(path, times)
    since = now - 2 * week
    every = [str(number_) for number_ in range(len(times))]
    fills = await played.venue.list_fills(market, since, None, played.credentials)
    assert [fill.id for fill in fills] == every
    oldest = await played.venue.list_fills(market, since, 7, played.credentials)
    assert [fill.id for fill in oldest] == every[:7]
    newest = await played.venue.list_fills(market, None, 450, played.credentials)
    assert [fill.id for fill in newest] == every[-450:]


@pytest.mark.parametrize(("symbol", "path", "account"), HISTORIES)
async def test_more_fills_of_a_millisecond_than_can_be_asked_for_are_an_error(
    played: Any, monkeypatch: pytest.MonkeyPatch, symbol: str, path: str, account: str
) -> None:
    monkeypatch.setattr(base, "MOST_PAGES", 3)
    market = await asked_without_limits(played, symbol, account)
    now = played.venue.rest.spot.clock.now_ms()
    played.http.histories[path] = history_of(path, [now - 1000] * 400)
    with pytest.raises(VenueError, match="fills"):
        await played.venue.list_fills(market, now - 1020, None, played.credentials)


async def test_fills_are_gathered_page_by_page_and_week_by_week(played: Any) -> None:
    def page(first: int, count: int) -> dict[str, Any]:
        rows = [
            {
                "id": number_,
                "tradeId": number_,
                "orderId": "67",
                "symbol": "BTC-USDT",
                "side": "buy",
                "price": "50000",
                "size": "0.01",
                "fee": "0.5",
                "feeCurrency": "USDT",
                "liquidity": "taker",
                "createdAt": now - 9 * 86_400_000 + number_,
            }
            for number_ in range(first, first - count, -1)
        ]
        return ok({"items": rows, "lastId": rows[-1]["id"] if rows else 0})

    market = await played.market(BTC)
    now = played.venue.rest.spot.clock.now_ms()
    for answer in (page(250, 100), page(150, 30), page(0, 0)):
        played.http.answer("GET", "/api/v1/hf/fills", answer)
    since = now - 10 * 86_400_000
    fills = await played.venue.list_fills(market, since, None, played.credentials)
    assert [fill.id for fill in fills] == [str(number_) for number_ in range(121, 251)]
    asked = played.http.asked("GET", "/api/v1/hf/fills")
    assert [(a.get("lastId"), int(a["startAt"])) for a in asked] == [
        (None, since),
        ("151", since),
        (None, since + 7 * 86_400_000),
    ]
    assert int(asked[0]["endAt"]) == since + 7 * 86_400_000 - 1


async def test_futures_balances_are_asked_for_asset_by_asset(played: Any) -> None:
    for currency in ("XBT", "USDT"):
        row = {"currency": currency, "accountEquity": 1.5, "unrealisedPNL": 0.5, "availableBalance": 0.75}
        played.http.answer("GET", "/futures/api/v1/account-overview", ok(row))
    balances = await played.venue.parts[FUTURES].balances(played.credentials)
    asked = [a["currency"] for a in played.http.asked("GET", "/futures/api/v1/account-overview")]
    assert asked == ["XBT", "USDT"]
    assert [(b.asset, b.total, b.wallet) for b in balances] == [
        ("BTC", Decimal(1), "futures"),
        ("USDT", Decimal(1), "futures"),
    ]


async def test_the_dead_man_timer_covers_spot_alone(played: Any) -> None:
    path = "/api/v1/hf/orders/dead-cancel-all"
    played.http.answer("POST", path, ok({"currentTime": 1, "triggerTime": 2}))
    await played.venue.keep_alive_orders(None, 60.0, played.credentials)
    await played.venue.keep_alive_orders(None, 0.0, played.credentials)
    assert played.http.sent("POST", path) == [{"timeout": 60}, {"timeout": -1}]
    with pytest.raises(BadRequest, match="5 to 86400"):
        await played.venue.keep_alive_orders(None, 3.0, played.credentials)
    with pytest.raises(UnsupportedOperation):
        await played.venue.keep_alive_orders(await played.market(LINEAR), 60.0, played.credentials)


# -- known outcome ------------------------------------------------------------------------------------------------

BY_CLIENT_ID = "/api/v1/hf/orders/client-order/mine-1"
STOP_BY_CLIENT_ID = "/api/v1/stop-order/queryOrderByClientOid"
FUTURES_BY_CLIENT_ID = "/futures/api/v1/orders/byClientOid"
GONE = refusing("400100", "order_not_exist")


async def lost(played: Any, symbol: str, path: str, **fields: Any) -> Any:
    """Place an order whose answer is lost."""
    played.http.lose("POST", path)
    market = await played.market(symbol)
    with pytest.raises(OrderOutcomeUnknown) as raised:
        await played.venue.place_order(market, order(**fields), played.credentials)
    assert raised.value.client_order_id == "mine-1"
    return market


async def test_a_lost_placement_is_found_by_its_client_order_id(played: Any) -> None:
    market = await lost(played, BTC, SYNC)
    now = played.venue.rest.spot.clock.now_ms()
    played.http.answer("GET", BY_CLIENT_ID, ok(spot_row(createdAt=now, lastUpdatedAt=now)))
    found = await played.venue.resolve_order(market, "mine-1", now, played.credentials)
    assert (found.id, found.client_order_id) == ("67", "mine-1")


@pytest.mark.parametrize(
    ("symbol", "path", "look", "window_s"),
    [(BTC, SYNC, BY_CLIENT_ID, 5), (LINEAR, FUTURES_ORDERS, FUTURES_BY_CLIENT_ID, 5)],
)
async def test_not_found_is_believed_only_when_the_window_is_over(
    played: Any, symbol: str, path: str, look: str, window_s: int
) -> None:
    market = await lost(played, symbol, path)
    gone = GONE if symbol == BTC else refusing("100001", "error.getOrder.orderNotExist")
    played.http.answer("GET", look, gone)
    sent_at = played.clock.wall_ns() // 1_000_000
    resolve = played.venue.resolve_order
    assert await resolve(market, "mine-1", sent_at, played.credentials) is True
    await played.clock.advance(window_s + 1.9)
    for prefix in ("", "/futures"):
        played.http.answers["GET", f"{prefix}/api/v1/timestamp"] = []
        now = played.clock.wall_ns() // 1_000_000 + 1000
        played.http.answer("GET", f"{prefix}/api/v1/timestamp", ok(now))
    assert await resolve(market, "mine-1", sent_at, played.credentials) is True
    await played.clock.advance(0.2)
    assert await resolve(market, "mine-1", sent_at, played.credentials) is False


async def test_a_lost_conditional_order_that_is_gone_stays_unknown(played: Any) -> None:
    """Done conditional orders of spot cannot be looked up: it may have been triggered and be gone."""
    fields = {"type": "STOP_MARKET", "stop_price": "51000"}
    market = await lost(played, BTC, STOPS, **fields)
    played.http.answer("GET", BY_CLIENT_ID, GONE)
    played.http.answer("GET", STOP_BY_CLIENT_ID, refusing("400100", "order_not_exist_or_not_allow_to_cancel"))
    stamped = played.venue.rest.spot.clock.now_ms()
    await played.clock.advance(60)
    assert await played.venue.resolve_order(market, "mine-1", stamped, played.credentials) is True


@pytest.mark.parametrize(
    ("symbol", "orders", "stops"),
    [(BTC, "/api/v1/hf/orders", f"{STOPS}/cancel"), (LINEAR, "/futures/api/v3/orders", "/futures/api/v1/stopOrders")],
)
@pytest.mark.parametrize("refused", [0, 1])
async def test_conditional_orders_go_first_and_neither_half_keeps_the_other(
    played: Any, monkeypatch: pytest.MonkeyPatch, symbol: str, orders: str, stops: str, refused: int
) -> None:
    market = await played.market(symbol)

    async def two(*_: Any) -> list[Order]:
        facts = {"market": market.symbol, "side": "BUY", "type": "STOP_MARKET", "status": "NEW"}
        return [Order.model_validate(facts | {"id": name, "clientOrderId": None}) for name in ("67", "stop:vs8")]

    monkeypatch.setattr(SpotTrading if symbol == BTC else FuturesTrading, "open_orders", two)
    for place, path in enumerate((stops, orders)):
        played.http.answer("DELETE", path, refusing("200004", "not now") if place == refused else ok({}))
    with pytest.raises(VenueError, match="not now"):
        await played.venue.cancel_all_orders(market, played.credentials)
    sent = [request.url.path for request in played.http.requests if request.method == "DELETE"]
    assert sent == [stops, orders]


async def test_a_cancel_whose_order_cannot_be_asked_for_has_an_unknown_outcome(played: Any) -> None:
    market = await played.market(BTC)
    played.http.answer("DELETE", "/api/v1/hf/orders/sync/67", ok({"orderId": "67"}))
    played.http.answer("GET", "/api/v1/hf/orders/67", refusing("401000"))
    with pytest.raises(OrderOutcomeUnknown, match="could not be asked for"):
        await played.venue.cancel_order(market, OrderRef(id="67"), played.credentials)


# -- errors -------------------------------------------------------------------------------------------------------

TABLE: list[tuple[str, str, str, type]] = [
    ("400001 400003 400004 400005", "", SPOT, AuthenticationError),
    ("400006 400007 400200 411100 112010 200009", "", SPOT, PermissionDenied),
    ("200004 102421 210021 230003 260100 126013", "", SPOT, InsufficientFunds),
    ("300003 200005 330008", "", FUTURES, InsufficientFunds),
    ("400100", "order_not_exist_or_not_allow_to_cancel", SPOT, OrderNotFound),
    ("400100", "Order not exist or not allow to be cancelled", SPOT, OrderNotFound),
    ("400100", "clientOidDuplicated", SPOT, DuplicateClientOrderId),
    ("400100", "Unsupported trading pair", SPOT, MarketNotFound),
    ("400100 400413 400370 600100 600101 102427 200003 400350", "bad", SPOT, InvalidOrder),
    ("300000 300007 300012 330005 330012 300009 300001 300005", "bad", FUTURES, InvalidOrder),
    ("300018 102426", "", FUTURES, DuplicateClientOrderId),
    ("order_not_exist 102436 126043", "", SPOT, OrderNotFound),
    ("100001", "error.getOrder.orderNotExist", FUTURES, OrderNotFound),
    ("100001", "bad", FUTURES, InvalidOrder),
    ("100004", "", FUTURES, OrderNotFound),
    ("900001 400600 404000", "", SPOT, MarketNotFound),
    ("200003 100003", "", FUTURES, MarketNotFound),
    ("200001 200002 600203", "", SPOT, VenueUnavailable),
    ("300002 300015", "", FUTURES, VenueUnavailable),
    ("429000 200002", "", FUTURES, RateLimited),
    ("404 401000 987654", "", FUTURES, VenueError),
    ("102411 102425 400400", "", SPOT, InvalidOrder),
    ("500000 230005 503 408000", "", SPOT, AnswerLost),
]


def answered(product: str, code: str, msg: str = "", status: int = 200, *, command: bool = True, **headers: str) -> Any:
    body = f'{{"code":"{code}","msg":"{msg}"}}'.encode()
    request = Request("POST" if command else "GET", "/api/v1/x", command=command)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return interpret("KUCOIN", product, request, Response(status=status, headers=names, body=body))


@pytest.mark.parametrize(("codes", "message", "product", "kind"), TABLE)
def test_codes_mean_what_the_table_says(codes: str, message: str, product: str, kind: type) -> None:
    for code in codes.split():
        error = answered(product, code, message)
        assert type(error) is kind, code
        assert error.code == code


def test_bad_parameters_of_reads_are_no_invalid_orders() -> None:
    assert type(answered(SPOT, "102411", command=False)) is VenueError
    assert type(answered(SPOT, "500000", command=False)) is VenueUnavailable


def test_limits_say_how_long_to_wait() -> None:
    assert answered(SPOT, "429000", status=429, gw_ratelimit_reset="2500").retry_after == 2.5
    assert answered(SPOT, "429000", status=429).retry_after == 1.0
    assert answered(FUTURES, "200002").retry_after == 10.0
    assert answered(SPOT, "1015", status=429).retry_after == 30.0


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        (b"error code: 1015", {}, 30.0),
        (b"<title>Error 1015: you are being rate limited</title>", {"retry-after": "7"}, 30.0),
        (b"<title>too many requests</title>", {"gw-ratelimit-reset": "2500"}, 2.5),
        (b"<title>too many requests</title>", {"retry-after": "7"}, None),
        (b"<title>ray 101512, 91015</title>", {}, None),
        (b'{"code":"777777","msg":"slow down"}', {"retry-after": "7"}, None),
    ],
)
def test_a_page_in_front_of_the_venue_limits_for_as_long_as_it_says(
    body: bytes, headers: dict[str, str], wait_s: float | None
) -> None:
    """None: the request's sender goes by `Retry-After`, or by its own default."""
    for request in (Request("GET", "/x"), Request("POST", "/x", command=True)):
        error = interpret("KUCOIN", SPOT, request, Response(429, headers, body))
        assert isinstance(error, RateLimited)
        assert error.retry_after == wait_s


async def test_a_request_that_the_front_blocks_pauses_all_for_half_a_minute(played: Any) -> None:
    market = await played.market(BTC)
    played.http.answer("POST", SYNC, b"error code: 1015", 429)
    with pytest.raises(RateLimited) as raised:
        await played.venue.place_order(market, order(), played.credentials)
    assert raised.value.retry_after == 30.0
    assert played.venue.rest.spot.limiter.paused_s == pytest.approx(30.0)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_server_errors_on_commands_leave_the_outcome_open(status: int) -> None:
    assert type(answered(SPOT, "400100", "bad", status)) is AnswerLost
    page = Response(status=status, headers={}, body=b"<html>")
    assert type(interpret("KUCOIN", SPOT, Request("POST", "/x", command=True), page)) is AnswerLost
    assert type(interpret("KUCOIN", SPOT, Request("GET", "/x"), page)) is VenueUnavailable


def test_a_page_in_place_of_an_answer_leaves_the_outcome_open() -> None:
    page = Response(status=200, headers={}, body=b"<html>")
    assert type(interpret("KUCOIN", SPOT, Request("POST", "/x", command=True), page)) is AnswerLost


def test_a_stale_time_stamp_is_tried_again_with_a_measured_clock() -> None:
    assert answered(SPOT, "400002").retryable


def test_items_of_batches_have_codes_of_their_own() -> None:
    assert type(refusal("KUCOIN", FUTURES, "300003", "Balance insufficient")) is InsufficientFunds
    assert type(refusal("KUCOIN", FUTURES, "500000", "busy")) is AnswerLost
    assert type(refusal("KUCOIN", SPOT, None, "Balance insufficient!")) is InsufficientFunds
    assert type(refusal("KUCOIN", SPOT, None, "")) is InvalidOrder


def test_no_code_stands_twice() -> None:
    assert all(len(table) > 50 for table in CODES.values())


# -- settings -----------------------------------------------------------------------------------------------------


def test_environments_choose_hosts_that_settings_may_override() -> None:
    eu = KucoinSettings.model_validate({"environment": "eu", "hosts": {"spot_rest": "https://proxy.example"}})
    assert eu.hosts.spot_rest == "https://proxy.example"
    assert eu.hosts.futures_rest == "https://api-futures.kucoin.eu"
    assert eu.hosts.unified_spot_stream == "wss://x-push-spot.kucoin.eu"


async def test_requests_from_australia_say_so(recordings: Any) -> None:
    import anyio

    from astra.testing import ManualClock
    from astra.testing.played import PlayedHttp

    http = PlayedHttp()
    http.answer("GET", "/api/v2/symbols", recordings.body("spot-all-symbols"))
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, ManualClock())
        settings = KucoinSettings.model_validate({"environment": "australia", "products": ["spot"]})
        venue = KucoinVenue(host, settings, http_transport=httpx.MockTransport(http))
        assert await venue.list_markets()
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()
    assert [request.headers["X-SITE-TYPE"] for request in http.requests] == ["australia"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, OrderStatus.NEW),
        ({"isActive": False, "stop": "up", "stopPrice": "5", "stopTriggered": False}, OrderStatus.NEW),
        ({"isActive": False, "stop": "up", "stopTriggered": False, "cancelExist": True}, OrderStatus.CANCELED),
        ({"isActive": False, "dealSize": 4}, OrderStatus.FILLED),
        ({"isActive": False}, OrderStatus.UNKNOWN),
        ({"dealSize": 1}, OrderStatus.PARTIALLY_FILLED),
    ],
)
async def test_the_states_of_futures_orders(played: Any, fields: Any, status: OrderStatus) -> None:
    row = {"id": "1", "symbol": "XBTUSDTM", "type": "limit", "side": "buy", "size": 4, "price": "5", "isActive": True}
    told = msgspec.convert(row | fields, FuturesOrderRow).order(await played.market(LINEAR))
    assert told.status is status
