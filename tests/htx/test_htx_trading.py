"""Orders in the venue's words, lost answers resolved, refusals by name, contracts converted, sessions on the engine."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from astra.errors import (
    BadRequest,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    OrderNotFound,
    OrderOutcomeUnknown,
    UnsupportedOperation,
    VenueError,
)
from astra.models.markets import ContractType, Market
from astra.models.orderbook import BookState, UpdateKind
from astra.models.orders import Order, OrderRef, OrderRequest, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.rest import plain
from astra.streams.feed import Channel, DataType
from astra.streams.hub import Hub
from astra.streams.stream import MarketStream
from astra.symbols import AssetType
from astra.testing import ManualClock, ManualHost, MemoryConnection, MemoryTransport
from astra_htx.feed import HtxFeed
from astra_htx.settings import COIN_SWAP, LINEAR, SPOT, HtxHosts, HtxSettings
from astra_htx.trading import coin_rows, linear_rows, spot_rows

pytestmark = pytest.mark.anyio
BTC, PERP, DATED = "HUOBI-SPOT-BTC-USDT", "HUOBI-PERP-BTC-USDT", "HUOBI-FUT-BTC-USDT-270326"
COIN, COIN_DATED = "HUOBI-PERP-BTC-USD-COINM", "HUOBI-FUT-BTC-USD-270326-COINM"
PLACE, BATCH, BY_NAME = "/v1/order/orders/place", "/v1/order/batch-orders", "/v1/order/orders/getClientOrder"
CANCEL = "/v1/order/orders/batchcancel"
V5 = "/v5/trade/order"
SWAP = "/swap-api/v1/swap_"
NO_SPOT_ORDER = {"status": "error", "err-code": "base-record-invalid", "err-msg": "record invalid", "data": None}
NO_ORDER = {"status": "error", "err_code": 1017, "err_msg": "Order doesnt exist."}


def ok(data: Any) -> dict[str, Any]:
    return {"status": "ok", "data": data}


def v5(data: Any) -> dict[str, Any]:
    return {"code": 200, "message": "Success", "data": data, "ts": 1}


def order(**more: Any) -> OrderRequest:
    """A bid; at the market where a type without price is given."""
    fields = {"side": "BUY", "price": "50000", "quantity": "0.5", "client_order_id": "77", **more}
    given = {name: value for name, value in fields.items() if value is not None}
    return OrderRequest.model_validate(given)


def contracts(**more: Any) -> OrderRequest:
    return order(**{"quantity": None, "contracts": 3, **more})


def spot_row(**fields: Any) -> dict[str, Any]:
    base = {
        "id": 99,
        "symbol": "btcusdt",
        "type": "buy-limit",
        "state": "submitted",
        "amount": "0.500000000000000000",
        "price": "50000.000000000000000000",
        "client-order-id": "77",
        "created-at": 1700000000500,
        "field-amount": "0.0",
        "field-cash-amount": "0.0",
    }
    return base | fields


def linear_row(**fields: Any) -> dict[str, Any]:
    base = {
        "contract_code": "BTC-USDT",
        "order_id": "88",
        "client_order_id": "77",
        "side": "buy",
        "type": "limit",
        "state": "new",
        "volume": "500",
        "price": "50000",
        "created_time": "1700000000500",
        "updated_time": "1700000000500",
    }
    return base | fields


def coin_row(**fields: Any) -> dict[str, Any]:
    base = {
        "contract_code": "BTC-USD",
        "direction": "buy",
        "offset": "open",
        "status": 3,
        "volume": 3,
        "order_price_type": "limit",
        "order_id": 924660854912552960,
        "order_id_str": "924660854912552960",
        "client_order_id": 77,
        "price": 50000,
        "created_at": 1700000000500,
    }
    return base | fields


# -- placing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_of", "wanted"),
    [
        (order(), {"type": "buy-limit", "amount": "0.5", "price": "50000"}),
        (order(side="SELL", post_only=True), {"type": "sell-limit-maker", "amount": "0.5", "price": "50000"}),
        (order(time_in_force="IOC"), {"type": "buy-ioc", "amount": "0.5", "price": "50000"}),
        (order(time_in_force="FOK"), {"type": "buy-limit-fok", "amount": "0.5", "price": "50000"}),
        (order(side="SELL", type="MARKET", price=None), {"type": "sell-market", "amount": "0.5"}),
        (
            order(type="MARKET", price=None, quantity=None, quote_quantity="100.5"),
            {"type": "buy-market", "amount": "100.5"},
        ),
        (
            order(type="STOP_LIMIT", stop_price="51000"),
            {"type": "buy-stop-limit", "amount": "0.5", "price": "50000", "stop-price": "51000", "operator": "gte"},
        ),
        (
            order(side="SELL", type="STOP_LIMIT", stop_price="49000", time_in_force="FOK"),
            {
                **{"type": "sell-stop-limit-fok", "amount": "0.5", "price": "50000"},
                **{"stop-price": "49000", "operator": "lte"},
            },
        ),
        (
            order(type="TAKE_PROFIT_LIMIT", stop_price="49000"),
            {"type": "buy-stop-limit", "amount": "0.5", "price": "50000", "stop-price": "49000", "operator": "lte"},
        ),
        (
            order(options={"self_match": "cancel_taker"}),
            {"type": "buy-limit", "amount": "0.5", "price": "50000", "self-match-prevent": "1"},
        ),
    ],
)
async def test_spot_orders_go_out_in_the_venues_words(
    played: Any, request_of: OrderRequest, wanted: dict[str, str]
) -> None:
    played.http.answer("POST", PLACE, ok("356501383558845"))
    placed = await played.venue.place_order(await played.market(BTC), request_of, played.credentials)
    common = {"account-id": "1528640", "symbol": "btcusdt", "source": "spot-api", "client-order-id": "77"}
    assert played.http.sent("POST", PLACE) == [common | wanted]
    assert (placed.id, placed.client_order_id, placed.status) == ("356501383558845", "77", OrderStatus.NEW)
    assert placed.filled_quantity is None
    (request,) = (r for r in played.http.requests if r.url.path == PLACE)
    assert set(request.url.params) == {"AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp", "Signature"}


@pytest.mark.parametrize(
    ("symbol", "request_of", "wanted"),
    [
        (PERP, order(), {"type": "limit", "price": "50000", "volume": "500", "time_in_force": "gtc"}),
        (
            PERP,
            order(time_in_force="FOK"),
            {"type": "limit", "price": "50000", "volume": "500", "time_in_force": "fok"},
        ),
        (PERP, order(post_only=True), {"type": "post_only", "price": "50000", "volume": "500"}),
        (
            PERP,
            order(type="MARKET", price=None, reduce_only=True),
            {"type": "market", "volume": "500", "reduce_only": 1},
        ),
        (
            PERP,
            contracts(options={"position_side": "LONG", "margin_mode": "ISOLATED", "self_match": "cancel_both"}),
            {
                **{"type": "limit", "price": "50000", "volume": "3", "time_in_force": "gtc", "position_side": "long"},
                **{"margin_mode": "isolated", "self_match_prevent": "cancel_both"},
            },
        ),
        (
            DATED,
            contracts(),
            {
                **{"contract_code": "BTC-USDT-270326", "type": "limit", "price": "50000", "volume": "3"},
                "time_in_force": "gtc",
            },
        ),
    ],
)
async def test_linear_orders_go_out_in_the_venues_words(
    played: Any, symbol: str, request_of: OrderRequest, wanted: dict[str, Any]
) -> None:
    played.http.answer("POST", V5, v5({"order_id": "1512501029504577536", "client_order_id": "77"}))
    placed = await played.venue.place_order(await played.market(symbol), request_of, played.credentials)
    common = {"contract_code": "BTC-USDT", "margin_mode": "cross", "side": "buy", "client_order_id": "77"}
    assert played.http.sent("POST", V5) == [common | wanted]
    assert placed.id == "1512501029504577536"
    assert placed.contracts == Decimal(wanted["volume"])


@pytest.mark.parametrize(
    ("symbol", "request_of", "wanted"),
    [
        (COIN, contracts(), {"offset": "open", "order_price_type": "limit", "price": "50000"}),
        (COIN, contracts(reduce_only=True), {"offset": "close", "order_price_type": "limit", "price": "50000"}),
        (
            COIN,
            contracts(options={"position_side": "SHORT", "leverage": 3}),
            {"offset": "close", "order_price_type": "limit", "price": "50000", "lever_rate": 3},
        ),
        (COIN, contracts(time_in_force="IOC"), {"offset": "open", "order_price_type": "ioc", "price": "50000"}),
        (COIN, contracts(post_only=True), {"offset": "open", "order_price_type": "post_only", "price": "50000"}),
        (COIN, contracts(type="MARKET", price=None), {"offset": "open", "order_price_type": "market"}),
        (
            COIN_DATED,
            contracts(options={"self_match": "allow"}),
            {
                **{"contract_code": "BTC270326", "offset": "open", "order_price_type": "limit", "price": "50000"},
                "self_match_prevent": 0,
            },
        ),
    ],
)
async def test_coin_margined_orders_go_out_in_the_venues_words(
    played: Any, symbol: str, request_of: OrderRequest, wanted: dict[str, Any]
) -> None:
    path = f"{SWAP}order" if symbol == COIN else "/api/v1/contract_order"
    played.http.answer("POST", path, ok({"order_id": 924660854912552960, "order_id_str": "924660854912552960"}))
    placed = await played.venue.place_order(await played.market(symbol), request_of, played.credentials)
    common = {"contract_code": "BTC-USD", "volume": 3, "direction": "buy", "client_order_id": 77, "lever_rate": 20}
    assert played.http.sent("POST", path) == [common | wanted]
    assert placed.id == "924660854912552960"


async def test_the_accounts_leverage_is_asked_for_once_a_minute(played: Any) -> None:
    played.http.answer("POST", f"{SWAP}order", ok({"order_id_str": "1"}))
    market = await played.market(COIN)
    for seconds in (0, 30, 31):
        await played.clock.advance(seconds)
        await played.venue.place_order(market, contracts(), played.credentials)
    assert len(played.http.sent("POST", f"{SWAP}account_info")) == 2


@pytest.mark.parametrize(
    ("symbol", "request_of", "named"),
    [
        (BTC, order(type="MARKET", price=None), "quoteQuantity"),
        (BTC, order(side="SELL", type="MARKET", price=None, quantity=None, quote_quantity=5), "quoteQuantity"),
        (BTC, order(type="STOP_MARKET", price=None, stop_price=5), "STOP_MARKET"),
        (BTC, order(type="STOP_LIMIT", stop_price=5, post_only=True), "post-only"),
        (BTC, order(type="STOP_LIMIT", stop_price=5, time_in_force="IOC"), "IOC"),
        (BTC, order(time_in_force="GTD", expire_time=5), "GTD"),
        (BTC, order(reduce_only=True), "reduce-only"),
        (BTC, order(options={"position_side": "LONG"}), "position_side"),
        (BTC, order(options={"self_match": "cancel_both"}), "cancel_both"),
        (PERP, order(type="STOP_LIMIT", stop_price=5), "STOP_LIMIT"),
        (PERP, order(type="MARKET", price=None, quantity=None, quote_quantity=5), "quoteQuantity"),
        (PERP, order(options={"leverage": 5}), "leverage"),
        (DATED, order(options={"margin_mode": "ISOLATED"}), "isolated margin"),
        (COIN, contracts(options={"margin_mode": "CROSS"}), "margin_mode"),
        (COIN, contracts(reduce_only=True, options={"position_side": "LONG"}), "opens"),
        (COIN_DATED, contracts(type="MARKET", price=None), "MARKET"),
    ],
)
async def test_what_a_product_lacks_is_refused_by_name_before_anything_is_sent(
    played: Any, symbol: str, request_of: OrderRequest, named: str
) -> None:
    market = await played.market(symbol)
    with pytest.raises(UnsupportedOperation, match=named):
        await played.venue.place_order(market, request_of, played.credentials)
    assert not [request for request in played.http.requests if request.method == "POST"]


async def test_inverse_orders_are_placed_in_contracts(played: Any) -> None:
    with pytest.raises(InvalidOrder, match="inverse contracts"):
        await played.venue.place_order(await played.market(COIN), order(), played.credentials)


def test_options_are_refused_by_name() -> None:
    from astra_htx.settings import HtxOrderOptions

    with pytest.raises(ValidationError, match="tdMode"):
        HtxOrderOptions.model_validate({"tdMode": "cross"})


async def test_batches_hold_each_order_or_its_refusal(played: Any, recordings: Any) -> None:
    """As recorded: an envelope that is fine, with refusals in it."""
    spot, coin = await played.market(BTC), await played.market(COIN)
    played.http.answer("POST", BATCH, recordings.body("spot-batch-orders"))
    two = [(spot, order()), (spot, order(client_order_id="b"))]
    first, second = await played.venue.place_orders(two, played.credentials)
    assert (first.id, type(second)) == ("936847569789079", InsufficientFunds)
    played.http.answer("POST", f"{SWAP}batchorder", recordings.body("coinm-batch-orders-partial-failure"))
    two = [(coin, contracts()), (coin, contracts(client_order_id="78"))]
    first, second = await played.venue.place_orders(two, played.credentials)
    assert (first.id, type(second)) == ("1172923090632953857", InsufficientFunds)
    rows = [{"code": 200, "order_id": "5"}, {"code": 1050, "message": "repeated", "order_id": None}]
    played.http.answer("POST", "/v5/trade/batch_orders", v5(rows))
    perp = await played.market(PERP)
    two = [(perp, order()), (perp, order(client_order_id="78"))]
    first, second = await played.venue.place_orders(two, played.credentials)
    assert (first.id, type(second)) == ("5", DuplicateClientOrderId)


@pytest.mark.parametrize(("symbol", "path"), [(BTC, BATCH), (PERP, "/v5/trade/batch_orders")])
async def test_a_batch_whose_answer_is_lost_or_short_is_unknown_order_by_order(
    played: Any, symbol: str, path: str
) -> None:
    market = await played.market(symbol)
    two = [(market, order()), (market, order(client_order_id="78"))]
    played.http.lose("POST", path)
    played.http.answer("POST", path, {"status": "ok", "code": 200, "data": []})
    for _ in range(2):
        results = await played.venue.place_orders(two, played.credentials)
        assert [(type(r), r.client_order_id) for r in results] == [
            (OrderOutcomeUnknown, "77"),
            (OrderOutcomeUnknown, "78"),
        ]


async def test_an_answer_of_another_shape_leaves_a_placement_open(played: Any) -> None:
    played.http.answer("POST", PLACE, {"status": "ok"})
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(await played.market(BTC), order(), played.credentials)


# -- resolving ----------------------------------------------------------------------------------------------------


async def lost(played: Any, symbol: str, path: str, request_of: OrderRequest) -> tuple[Market, int]:
    played.http.lose("POST", path)
    market = await played.market(symbol)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, request_of, played.credentials)
    assert len(played.http.sent("POST", path)) == 1
    return market, int(played.clock.wall_ns() // 1_000_000)


@pytest.mark.parametrize(("played", "window_s"), [({}, 300.0), ({"recv_window_ms": 5000}, 5.0)], indirect=["played"])
async def test_not_found_is_believed_only_when_the_stamp_is_too_old(played: Any, window_s: float) -> None:
    market, begun = await lost(played, BTC, PLACE, order())
    played.http.answer("GET", BY_NAME, NO_SPOT_ORDER)
    played.http.answer("GET", "/v1/order/openOrders", ok([]))
    for seconds, known in ((0, True), (window_s + 1.9, True), (0.2, False)):
        await played.clock.advance(seconds)
        assert await played.venue.resolve_order(market, "77", begun, played.credentials) is known
    await played.clock.advance(2 * 3600.0)
    assert await played.venue.resolve_order(market, "77", begun, played.credentials) is True, "forgotten by now"


async def test_a_lost_spot_placement_is_found(played: Any) -> None:
    market, begun = await lost(played, BTC, PLACE, order())
    played.http.answer("GET", BY_NAME, ok(spot_row(**{"created-at": begun + 1100})))
    found = await played.venue.resolve_order(market, "77", begun, played.credentials)
    assert (found.id, found.status, found.quantity) == ("99", OrderStatus.NEW, Decimal("0.5"))


async def test_an_old_order_under_the_same_id_is_not_the_one_meant(played: Any) -> None:
    market, begun = await lost(played, BTC, PLACE, order())
    played.http.answer("GET", BY_NAME, ok(spot_row(**{"created-at": begun - 60_000, "state": "filled"})))
    assert await played.venue.resolve_order(market, "77", begun, played.credentials) is True


async def test_a_linear_order_that_gave_its_id_free_is_found_in_the_history(played: Any) -> None:
    market, begun = await lost(played, PERP, V5, order())
    played.http.answer("GET", V5, {"code": 1017, "message": "Order doesnt exist."})
    played.http.answer("GET", f"{V5}/opens", v5([]))
    done = linear_row(state="canceled", created_time=str(begun + 1100))
    played.http.answer("GET", f"{V5}/history", v5([linear_row(client_order_id="5", order_id="9"), done]))
    found = await played.venue.resolve_order(market, "77", begun, played.credentials)
    assert (found.id, found.status) == ("88", OrderStatus.CANCELED)
    modes = [asked["margin_mode"] for asked in played.http.asked("GET", V5)]
    assert modes == ["cross", "isolated"]


HISORDERS, OPENORDERS, ORDER_INFO = "/swap-api/v3/swap_hisorders", f"{SWAP}openorders", f"{SWAP}order_info"
GONE = {"code": 1017, "message": "Order doesnt exist."}


def opened(*rows: dict[str, Any]) -> dict[str, Any]:
    return ok({"orders": list(rows), "total_page": 1, "current_page": 1, "total_size": len(rows)})


def listed(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"code": 200, "msg": "", "data": list(rows), "ts": 1}


def past(created: int, **fields: Any) -> dict[str, Any]:
    """A row of the coin-margined history, which names no client order id."""
    row = coin_row(status=6, trade_volume=3, trade_avg_price=50000, query_id=4, create_date=created, **fields)
    return {name: value for name, value in row.items() if name not in ("client_order_id", "created_at")}


def nothing_known(played: Any) -> None:
    """The derivatives know of no order at all."""
    played.http.answer("GET", V5, GONE)
    for path in ("opens", "history"):
        played.http.answer("GET", f"{V5}/{path}", v5([]))
    played.http.answer("POST", ORDER_INFO, NO_ORDER)
    played.http.answer("POST", OPENORDERS, opened())
    played.http.answer("POST", HISORDERS, listed())


async def test_a_coin_margined_order_that_left_the_list_is_found_in_the_history_by_its_id(played: Any) -> None:
    """Of several pages, sorted as the venue documents it for this direction: oldest first."""
    nothing_known(played)
    played.http.answers[("POST", HISORDERS)].clear()
    pages = [past(1, order_id_str=str(n), order_id=n) | {"query_id": n} for n in (7, 8, 9)]
    for rows in (pages[:2], pages[1:], []):
        played.http.answer("POST", HISORDERS, listed(*rows))
    found = await played.venue.get_order(await played.market(COIN), OrderRef(id="9"), played.credentials)
    assert (found.id, found.status, found.filled_contracts) == ("9", OrderStatus.FILLED, 3)
    assert [body.get("from_id") for body in played.http.sent("POST", HISORDERS)] == [None, 8, 9]
    assert not played.http.sent("POST", OPENORDERS), "an open order is found by its id"


@pytest.mark.parametrize(
    ("symbol", "path", "request_of", "hours"),
    [(PERP, V5, order(), 8), (COIN, f"{SWAP}order", contracts(), 2)],
)
async def test_derivatives_prove_nothing_once_the_venue_may_have_forgotten(
    played: Any, symbol: str, path: str, request_of: OrderRequest, hours: int
) -> None:
    """Client order ids can be asked for during eight hours, canceled coin-margined orders during two."""
    begin = 5 * 3600  # no settlement is near
    await played.clock.advance(begin - played.clock.wall_ns() // 10**9 % (4 * 3600))
    market, begun = await lost(played, symbol, path, request_of)
    nothing_known(played)
    for seconds, known in ((0, True), (301.9, True), (0.2, False), (hours * 3600.0 - 300, True)):
        await played.clock.advance(seconds)
        assert await played.venue.resolve_order(market, "77", begun, played.credentials) is known


async def test_a_linear_order_that_rests_for_long_is_found_among_the_open_ones(played: Any) -> None:
    market, begun = await lost(played, PERP, V5, order())
    created = str(begun + 1100)
    others = [linear_row(id=str(n), order_id=str(n), client_order_id=str(n)) for n in range(200, 100, -1)]
    mine = linear_row(id="90", created_time=created)
    played.http.answer("GET", V5, GONE)
    played.http.answer("GET", f"{V5}/opens", v5(others))
    played.http.answer("GET", f"{V5}/opens", v5([mine]))
    played.http.answer("GET", f"{V5}/history", v5([]))
    await played.clock.advance(9 * 3600)
    found = await played.venue.resolve_order(market, "77", begun, played.credentials)
    assert (found.id, found.status) == ("88", OrderStatus.NEW)


async def test_a_coin_margined_order_that_rests_for_long_is_found_among_the_open_ones(played: Any) -> None:
    market, begun = await lost(played, COIN, f"{SWAP}order", contracts())
    played.http.answer("POST", ORDER_INFO, NO_ORDER)
    played.http.answer("POST", OPENORDERS, opened(coin_row(created_at=begun + 1100)))
    await played.clock.advance(9 * 3600)
    found = await played.venue.resolve_order(market, "77", begun, played.credentials)
    assert (found.id, found.status) == ("924660854912552960", OrderStatus.NEW)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (NO_ORDER, True),  # it may be the one
        (ok([coin_row(client_order_id=None, status=6)]), False),
        (ok([coin_row(client_order_id=78, status=6)]), False),
        (ok([coin_row(client_order_id=77, status=6)]), "924660854912552960"),
    ],
    ids=["gone", "nameless", "another", "the one"],
)
async def test_a_past_order_without_a_name_leaves_a_coin_margined_placement_open_unless_it_is_another(
    played: Any, told: Any, known: bool | str
) -> None:
    market, begun = await lost(played, COIN, f"{SWAP}order", contracts())
    played.http.answer("POST", ORDER_INFO, NO_ORDER)
    played.http.answer("POST", ORDER_INFO, told)
    played.http.answer("POST", OPENORDERS, opened())
    played.http.answer("POST", HISORDERS, listed(past(begun + 1100)))
    await played.clock.advance(303)
    found = await played.venue.resolve_order(market, "77", begun, played.credentials)
    assert (found if isinstance(known, bool) else found.id) == known
    assert [body.get("order_id") for body in played.http.sent("POST", ORDER_INFO)] == [None, "924660854912552960"]


@pytest.mark.parametrize(
    "other", [{"direction": "sell"}, {"offset": "close"}, {"volume": 4}, {"price": 50001}, {"create_date": 1}]
)
async def test_a_past_order_of_other_terms_is_another(played: Any, other: dict[str, Any]) -> None:
    market, begun = await lost(played, COIN, f"{SWAP}order", contracts())
    nothing_known(played)
    played.http.answers[("POST", HISORDERS)].clear()
    played.http.answer("POST", HISORDERS, listed(past(begun + 1100) | other))
    await played.clock.advance(303)
    assert await played.venue.resolve_order(market, "77", begun, played.credentials) is False
    (body, *_) = played.http.sent("POST", ORDER_INFO)
    assert "order_id" not in body


async def test_a_past_order_is_weighed_by_its_time_alone_where_the_terms_are_not_known(played: Any) -> None:
    """As after a restart."""
    nothing_known(played)
    played.http.answers[("POST", HISORDERS)].clear()
    market, begun = await played.market(COIN), int(played.clock.wall_ns() // 1_000_000)
    played.http.answer("POST", HISORDERS, listed(past(begun + 1100, volume=9)))
    await played.clock.advance(303)
    assert await played.venue.resolve_order(market, "77", begun, played.credentials) is True


@pytest.mark.parametrize("ahead_s", [200, -200])
async def test_a_settlement_leaves_a_coin_margined_placement_open(played: Any, ahead_s: int) -> None:
    """It makes the venue forget the orders that are done."""
    period = 4 * 3600
    await played.clock.advance(period - played.clock.wall_ns() / 10**9 % period + period - ahead_s)
    market, begun = await lost(played, COIN, f"{SWAP}order", contracts())
    nothing_known(played)
    await played.clock.advance(303)
    assert await played.venue.resolve_order(market, "77", begun, played.credentials) is True


async def test_the_newest_order_under_a_client_order_id_is_meant_however_the_history_is_sorted(played: Any) -> None:
    nothing_known(played)
    rows = [
        linear_row(id=str(n), order_id=str(n), state="filled", trade_volume="500", created_time=str(1700000000000 + n))
        for n in (5, 6)
    ]
    for order_of_rows in (rows, rows[::-1]):
        played.http.answers[("GET", f"{V5}/history")].clear()
        played.http.answer("GET", f"{V5}/history", v5(order_of_rows))
        ref = OrderRef(client_order_id="77")
        found = await played.venue.get_order(await played.market(PERP), ref, played.credentials)
        assert found.id == "6"


@pytest.mark.parametrize("name", ["opens", "history"])
async def test_pages_of_linear_orders_go_on_from_the_id_of_the_query(played: Any, name: str) -> None:
    """It is not the order's: those of past orders differ."""
    nothing_known(played)
    path = f"{V5}/{name}"
    played.http.answers[("GET", path)].clear()
    rows = [linear_row(id=str(n + 5000), order_id=str(n), client_order_id=str(n)) for n in range(200, 100, -1)]
    last = linear_row(id="5100", order_id="100", client_order_id="7100")
    for page in ([*rows], [rows[-1], last], []):
        played.http.answer("GET", path, v5(page))
    market = await played.market(PERP)
    if name == "opens":
        assert len(await played.venue.list_orders(market, played.credentials)) == 101
    else:
        found = await played.venue.get_order(market, OrderRef(client_order_id="7100"), played.credentials)
        assert found.id == "100"
    assert [one.get("from") for one in played.http.asked("GET", path)][:2] == [None, "5101"]


# -- cancelling and looking ---------------------------------------------------------------------------------------


async def test_a_spot_cancel_tells_what_became_of_the_order(played: Any) -> None:
    played.http.answer("POST", CANCEL, ok({"success": ["99"], "failed": []}))
    row = spot_row(state="partial-canceled", **{"field-amount": "0.2", "field-cash-amount": "9999"})
    played.http.answer("GET", "/v1/order/orders/99", ok(row))
    canceled = await played.venue.cancel_order(await played.market(BTC), OrderRef(id="99"), played.credentials)
    assert (canceled.status, canceled.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.2"))
    assert canceled.average_price == 49995
    assert played.http.sent("POST", CANCEL) == [{"order-ids": ["99"]}]


async def test_refusals_hide_in_answers_that_are_fine(played: Any) -> None:
    failed = {"err-code": "order-orderstate-error", "err-msg": "Incorrect order state", "client-order-id": "77"}
    played.http.answer("POST", CANCEL, ok({"success": [], "failed": [failed | {"order-id": ""}]}))
    played.http.answer("GET", "/v1/order/openOrders", ok([]))
    ref, market = OrderRef(client_order_id="77"), await played.market(BTC)
    with pytest.raises(OrderNotFound):
        await played.venue.cancel_order(market, ref, played.credentials)
    errors = [{"order_id": "5", "err_code": 1061, "err_msg": "This order doesnt exist."}]
    played.http.answer("POST", f"{SWAP}cancel", ok({"errors": errors, "successes": ""}))
    with pytest.raises(OrderNotFound):
        await played.venue.cancel_order(await played.market(COIN), OrderRef(id="5"), played.credentials)
    played.http.answer("POST", "/v5/trade/cancel_order", {"code": 1071, "message": "canceled already"})
    with pytest.raises(OrderNotFound):
        await played.venue.cancel_order(await played.market(PERP), OrderRef(id="5"), played.credentials)


@pytest.mark.parametrize("symbol", [BTC, PERP, COIN])
@pytest.mark.parametrize("batch", [False, True])
async def test_an_open_order_whose_name_the_venue_forgot_is_found_and_canceled_all_the_same(
    played: Any, symbol: str, batch: bool
) -> None:
    """The list of open orders still has its client order id."""
    market, ref = await played.market(symbol), OrderRef(client_order_id="77")
    if symbol == BTC:
        path, ident, field = CANCEL, "99", "order-ids"
        played.http.answer("GET", BY_NAME, NO_SPOT_ORDER)
        played.http.answer("GET", "/v1/order/openOrders", ok([spot_row()]))
        failed = {"client-order-id": "77", "order-id": "", "err-code": "base-not-found", "err-msg": "not found"}
        played.http.answer("POST", path, ok({"success": [], "failed": [failed]}))
        played.http.answer("POST", path, ok({"success": ["99"], "failed": []}))
        played.http.answer("GET", "/v1/order/orders/99", ok(spot_row(state="canceled")))
    elif symbol == PERP:
        path, ident, field = "/v5/trade/cancel_batch_orders" if batch else "/v5/trade/cancel_order", "88", "order_id"
        played.http.answer("GET", V5, GONE)
        played.http.answer("GET", V5, GONE)
        played.http.answer("GET", V5, v5(linear_row(state="canceled")))
        played.http.answer("GET", f"{V5}/opens", v5([linear_row()]))
        gone, done = GONE | {"client_order_id": "77"}, {"code": 200, "order_id": "88", "client_order_id": "77"}
        played.http.answer("POST", path, v5([gone]) if batch else GONE)
        played.http.answer("POST", path, v5([done]) if batch else v5(done))
    else:
        path, ident, field = f"{SWAP}cancel", "924660854912552960", "order_id"
        played.http.answer("POST", ORDER_INFO, NO_ORDER)
        played.http.answer("POST", ORDER_INFO, ok([coin_row(status=7)]))
        played.http.answer("POST", OPENORDERS, opened(coin_row()))
        errors = [{"order_id": "77", "err_code": 1061, "err_msg": "This order doesnt exist."}]
        played.http.answer("POST", path, ok({"errors": errors, "successes": ""}))
        played.http.answer("POST", path, ok({"errors": [], "successes": ident}))
    found = await played.venue.get_order(market, ref, played.credentials)
    assert (found.id, found.status) == (ident, OrderStatus.NEW)
    if batch:
        (canceled,) = await played.venue.cancel_orders([(market, ref)], played.credentials)
    else:
        canceled = await played.venue.cancel_order(market, ref, played.credentials)
    assert (canceled.id, canceled.status) == (ident, OrderStatus.CANCELED)
    first, second = played.http.sent("POST", path)
    assert field not in first
    assert second[field] in (ident, [ident])


async def test_an_order_that_no_list_has_under_its_name_is_not_found(played: Any) -> None:
    nothing_known(played)
    played.http.answer("POST", "/v5/trade/cancel_order", GONE)
    market, ref = await played.market(PERP), OrderRef(client_order_id="77")
    with pytest.raises(OrderNotFound):
        await played.venue.cancel_order(market, ref, played.credentials)
    assert len(played.http.sent("POST", "/v5/trade/cancel_order")) == 1


async def test_a_batch_of_cancels_says_of_each_what_is_known(played: Any) -> None:
    market = await played.market(BTC)
    failed = {"order-id": "2", "err-code": "base-not-found", "err-msg": "The record is not found."}
    played.http.answer("POST", CANCEL, ok({"success": ["1"], "failed": [failed]}))
    played.http.answer("GET", "/v1/order/orders/1", ok(spot_row(id=1, state="canceled")))
    refs = [(market, OrderRef(id=ident)) for ident in ("1", "2", "3")]
    first, second, third = await played.venue.cancel_orders(refs, played.credentials)
    assert isinstance(first, Order)
    assert (first.id, type(second), type(third)) == ("1", OrderNotFound, OrderOutcomeUnknown)


async def test_ids_of_another_shape_are_refused_here(played: Any) -> None:
    for symbol in (BTC, PERP, COIN):
        with pytest.raises(BadRequest, match="whole numbers"):
            await played.venue.cancel_order(await played.market(symbol), OrderRef(id="x7"), played.credentials)


@pytest.mark.parametrize(("timeout_s", "body"), [(30, {"on_off": 1, "time_out": 30000}), (0, {"on_off": 0})])
async def test_the_dead_man_timers_of_all_families_are_set(played: Any, timeout_s: float, body: Any) -> None:
    paths = ["/v5/trade/cancel-after", "/swap-api/v1/swap-cancel-after", "/api/v1/contract-cancel-after"]
    for path in paths:
        played.http.answer("POST", path, v5({}))
    played.http.answer("POST", "/v2/algo-orders/cancel-all-after", v5({}))
    await played.venue.keep_alive_orders(None, timeout_s, played.credentials)
    assert [played.http.sent("POST", path) for path in paths] == [[body]] * 3
    assert played.http.sent("POST", "/v2/algo-orders/cancel-all-after") == [{"timeout": timeout_s}]
    with pytest.raises(BadRequest, match="5 s or more"):
        await played.venue.keep_alive_orders(None, 4, played.credentials)


UNREADABLE: Sequence[Any] = [
    b"<html>one moment please</html>",
    b"",
    {},
    {"status": "error", "err_code": None, "err_msg": "x"},
    {"success": False, "code": None, "message": "no"},
]


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("product", ["spot", "linear", "coin_swap"])
async def test_a_timer_is_not_armed_by_an_answer_that_does_not_say_so(played: Any, product: str, body: Any) -> None:
    paths = {
        "spot": "/v2/algo-orders/cancel-all-after",
        "linear": "/v5/trade/cancel-after",
        "coin_swap": "/swap-api/v1/swap-cancel-after",
    }
    for path in [*paths.values(), "/api/v1/contract-cancel-after"]:
        played.http.answer("POST", path, body if path == paths[product] else v5({}))
    with pytest.raises(VenueError):
        await played.venue.keep_alive_orders(None, 30, played.credentials)


@pytest.mark.parametrize("body", UNREADABLE)
async def test_settings_are_not_made_by_an_answer_that_does_not_say_so(played: Any, body: Any) -> None:
    for path in ("/v5/position/lever", "/v5/position/mode", f"{SWAP}switch_lever_rate"):
        played.http.answer("POST", path, body)
    for symbol in (PERP, COIN):
        with pytest.raises(VenueError):
            await played.venue.set_leverage(await played.market(symbol), Decimal(5), played.credentials)
    with pytest.raises(VenueError):
        await played.venue.set_position_mode(True, played.credentials)


@pytest.mark.parametrize(
    ("symbol", "path", "answer"),
    [
        (PERP, V5, v5({})),
        (COIN, f"{SWAP}order", ok({})),
        (BTC, PLACE, ok("")),
    ],
)
async def test_a_placement_that_is_answered_without_an_id_is_open(
    played: Any, symbol: str, path: str, answer: Any
) -> None:
    played.http.answer("POST", path, answer)
    market = await played.market(symbol)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, order() if symbol == BTC else contracts(), played.credentials)


@pytest.mark.parametrize(
    ("symbol", "path", "answer"),
    [
        (PERP, "/v5/trade/batch_orders", v5([{"code": 200}])),
        (COIN, f"{SWAP}batchorder", ok({"errors": [], "success": [{"index": 1}]})),
        (BTC, BATCH, ok([{"client-order-id": "77"}])),
    ],
)
async def test_an_order_of_a_batch_that_is_answered_without_an_id_is_open(
    played: Any, symbol: str, path: str, answer: Any
) -> None:
    played.http.answer("POST", path, answer)
    market, one = await played.market(symbol), order() if symbol == BTC else contracts()
    (result,) = await played.venue.place_orders([(market, one)], played.credentials)
    assert isinstance(result, OrderOutcomeUnknown)


async def test_a_batch_whose_answer_says_that_nothing_is_wrong_is_placed(played: Any) -> None:
    row = {"order-id": 5, "client-order-id": "77", "err-code": None, "err-msg": None}
    played.http.answer("POST", BATCH, ok([row]))
    (placed,) = await played.venue.place_orders([(await played.market(BTC), order())], played.credentials)
    assert placed.id == "5"


async def test_a_list_of_open_orders_that_is_missing_is_no_empty_one(played: Any) -> None:
    played.http.answer("POST", OPENORDERS, ok({}))
    with pytest.raises(VenueError, match="another shape"):
        await played.venue.list_orders(await played.market(COIN), played.credentials)


async def test_however_many_pages_there_are_all_fills_are_told(played: Any) -> None:
    """Pages may be short: how many rows one has is not said for coin-margined contracts."""
    path, now = "/swap-api/v3/swap_matchresults", int(played.clock.wall_ns() // 1_000_000)
    for number in range(1, 121):
        row = {"contract_code": "BTC-USD", "direction": "buy", "trade_volume": 1, "trade_price": 1, "order_id": 1}
        row |= {"id": f"1-1-{number}", "query_id": number, "create_date": number}
        played.http.answer("POST", path, listed(row))
    played.http.answer("POST", path, listed())
    market, fills = await played.market(COIN), []

    async def read() -> None:
        fills.extend(await played.venue.list_fills(market, now - 60_000, None, played.credentials))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for _ in range(6):
            await played.clock.advance(3)  # 36 requests are allowed in it
    assert len(fills) == 120


async def test_fills_are_read_page_by_page_in_stretches_of_two_days(played: Any) -> None:
    market = await played.market(BTC)
    now = int(played.clock.wall_ns() // 1_000_000)

    def row(number: int) -> dict[str, Any]:
        return {
            **{"id": number, "symbol": "btcusdt", "order-id": 9, "trade-id": number, "type": "buy-limit"},
            **{"price": "1", "filled-amount": "1", "created-at": number, "role": "maker", "filled-fees": "-0.1"},
            "fee-currency": "usdt",
        }

    path = "/v1/order/matchresults"
    played.http.answer("GET", path, ok([row(n) for n in range(1000, 500, -1)]))
    played.http.answer("GET", path, ok([row(n) for n in (501, 500)]))  # begins with the row that it starts from
    played.http.answer("GET", path, ok([]))
    fills = await played.venue.list_fills(market, now - 50 * 3_600_000, None, played.credentials)
    assert [int(fill.id) for fill in fills] == list(range(500, 1001))
    assert (fills[0].fee, fills[0].fee_asset) == (Decimal("-0.1"), "USDT")
    asked = played.http.asked("GET", path)
    assert [one.get("from") for one in asked] == [None, "501", None]
    assert all(int(one["end-time"]) - int(one["start-time"]) < 48 * 3_600_000 for one in asked)


async def test_fees_are_what_the_venue_says(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/v2/reference/transact-fee-rate", recordings.body("spot-transact-fee-rate"))
    (fees,) = await played.venue.get_fees(await played.market(BTC), played.credentials)
    assert (fees.maker, fees.taker) == (Decimal("0.002"), Decimal("0.002"))
    with pytest.raises(UnsupportedOperation, match="fee rates"):
        await played.venue.get_fees(await played.market(PERP), played.credentials)


# -- contracts, worked by hand ------------------------------------------------------------------------------------


def contract(size: str, product: str) -> Market:
    return Market(
        symbol="HUOBI-PERP-BTC-USD",
        asset_type=AssetType.PERP,
        base_asset="BTC",
        quote_asset="USD",
        native_symbol="X",
        product=product,
        contract_size=Decimal(size),
        contract_type=ContractType.LINEAR if product == LINEAR else ContractType.INVERSE,
    )


@pytest.mark.parametrize(
    ("market", "price", "count", "base"),
    [
        (contract("0.001", LINEAR), "63913.4", 3495, "3.495"),  # 3,495 contracts of 0.001 BTC
        (contract("100", COIN_SWAP), "50000", 250, "0.5"),  # 250 contracts of 100 USD at 50,000
    ],
)
def test_contracts_become_base_units(outlet: Any, market: Market, price: str, count: int, base: str) -> None:
    book, trades = (Channel(kind, market.product, market) for kind in (DataType.ORDERBOOK, DataType.TRADE))
    none: Any = None
    feed = HtxFeed(HtxSettings(), none, none, none, none, none)
    session = feed.session(feed.endpoint(book), outlet, None)
    for frame in map(json.loads, session.subscribe([book, trades], 0)):
        ack = {"id": frame["id"], "subbed": frame["sub"], "ts": 1, "status": "ok"}
        session.received(json.dumps(ack).encode(), 1)
    tick: dict[str, Any] = {"event": "snapshot", "version": 5, "ts": 1, "bids": [[float(price), count]], "asks": []}
    session.received(json.dumps({"ch": "market.X.depth.size_150.high_freq", "ts": 1, "tick": tick}).encode(), 1)
    row = {"ts": 2, "id": 7, "price": float(price), "amount": 2 * count, "direction": "sell"}  # both sides
    session.received(json.dumps({"ch": "market.X.trade.detail", "ts": 2, "tick": {"data": [row]}}).encode(), 1)
    ((_, bids, *_),) = outlet.inputs[book].of("snapshot")
    assert bids == [(float(price), pytest.approx(float(base), rel=1e-15))]
    (told,) = outlet.inputs[trades].all_trades
    assert (told.side, told.quantity) == (Side.SELL, pytest.approx(float(base), rel=1e-15))

    wanted, size = Decimal(base), Decimal(count)
    if market.product == LINEAR:
        native = linear_row(volume=str(count), price=price, trade_volume=str(count), trade_avg_price=price)
        parsed = msgspec.convert(native | {"state": "filled"}, linear_rows.OrderRow).order(market)
        fields = {"contract_code": "X", "order_id": "7", "trade_id": "1", "side": "buy", "trade_price": price}
        fill = msgspec.convert(fields | {"trade_volume": str(count)}, linear_rows.FillRow).fill(market)
        held = {"contract_code": "X", "direction": "sell", "volume": str(count), "mark_price": price}
        position = msgspec.convert(held, linear_rows.PositionRow).position(market)
    else:
        native = coin_row(volume=count, price=price, trade_volume=count, trade_avg_price=price, status=6)
        parsed = msgspec.convert(native, coin_rows.OrderRow, strict=False).order(market)
        fields = {"id": "1-7-1", "contract_code": "X", "direction": "buy", "trade_price": price, "create_date": 1}  # type: ignore[dict-item]
        fill = msgspec.convert(fields | {"trade_volume": count}, coin_rows.FillRow, strict=False).fill(market)
        held = {"contract_code": "X", "direction": "sell", "volume": count, "last_price": price}  # type: ignore[dict-item]
        position = msgspec.convert(held, coin_rows.PositionRow, strict=False).position(market)
    assert (parsed.quantity, parsed.contracts, parsed.filled_quantity) == (wanted, size, wanted)
    assert (fill.quantity, fill.contracts) == (wanted, size)
    assert (position.side, position.quantity, position.contracts) == (PositionSide.SHORT, wanted, size)


@given(
    st.decimals(min_value="0.00000001", max_value=10**9, places=8), st.decimals(min_value=1, max_value=10**6, places=4)
)
def test_decimals_are_read_back_as_they_were_sent(quantity: Decimal, price: Decimal) -> None:
    market = Market(
        symbol="HUOBI-SPOT-A-B",
        asset_type=AssetType.SPOT,
        base_asset="A",
        quote_asset="B",
        native_symbol="ab",
        product=SPOT,
    )
    amount, at = plain(quantity), plain(price)
    assert "E" not in amount + at
    told = msgspec.convert(spot_row(amount=amount, price=at), spot_rows.OrderRow).order(market)
    assert (told.quantity, told.price) == (quantity, price)
    bare = json.dumps(coin_row(volume=7)).replace("50000", at).encode()
    coin = msgspec.json.decode(bare, type=coin_rows.OrderRow)
    assert coin.price == price


# -- the engine ---------------------------------------------------------------------------------------------------


class Venue:
    """The venue's side of `/feed`: acknowledges, and answers snapshot requests from its books."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(self.connected)
        self.books = {"aaausdt": 100, "bbbusdt": 200}
        self.requests: list[str] = []

    def connected(self, connection: MemoryConnection) -> None:
        connection.on_send = lambda frame: self.received(connection, json.loads(frame))

    def received(self, connection: MemoryConnection, frame: dict[str, Any]) -> None:
        if "sub" in frame:
            self.push({"id": frame["id"], "status": "ok", "subbed": frame["sub"], "ts": 1})
        elif "req" in frame:
            native = frame["req"].split(".")[1]
            self.requests.append(native)
            data = {"seqNum": self.books[native], "bids": [[9, 1]], "asks": [[11, 1]]}
            self.push({"id": frame["id"], "rep": frame["req"], "status": "ok", "ts": 1, "data": data})

    def push(self, frame: dict[str, Any]) -> None:
        for connection in self.transport.open:
            connection.push(gzip.compress(json.dumps(frame).encode()))

    def change(self, native: str, *, skip: int = 0) -> None:
        before = self.books[native] + skip
        self.books[native] = before + 4
        tick = {"seqNum": before + 4, "prevSeqNum": before, "bids": [[9.5, 2]], "asks": []}
        self.push({"ch": f"market.{native}.mbp.150", "ts": 1, "tick": tick})


def spot_market(native: str) -> Market:
    base = native.removesuffix("usdt").upper()
    return Market(
        symbol=f"HUOBI-SPOT-{base}-USDT",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset="USDT",
        native_symbol=native,
        product=SPOT,
    )


@asynccontextmanager
async def hub_of(venue: Venue) -> AsyncIterator[tuple[Hub, Callable[[float], Any]]]:
    clock, none = ManualClock(), None
    feed = HtxFeed(HtxSettings(), none, none, none, none, none)  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        history: Any = None
        yield (
            Hub(
                exchange="HUOBI",
                feed=feed,
                history=history,
                host=ManualHost(tasks, clock),
                transport=lambda: venue.transport,
            ),
            clock.advance,
        )
        tasks.cancel_scope.cancel()


async def test_a_gap_on_one_market_resynchronises_it_alone_in_band() -> None:
    venue = Venue()
    one, other = (spot_market(native) for native in venue.books)
    async with hub_of(venue) as (hub, advance), MarketStream.of(hub, DataType.ORDERBOOK, [one, other]) as stream:
        await advance(2.0)
        for native in venue.books:
            venue.change(native)
        assert {stream.book(m.symbol).state for m in (one, other)} == {BookState.LIVE}
        assert venue.requests == ["aaausdt", "bbbusdt"]
        seen: list[Any] = []
        while stream._queue:
            seen += await stream.next_batch()
        venue.change("aaausdt", skip=2)
        venue.change("bbbusdt")
        assert stream.book(one.symbol).state is BookState.STALE
        assert stream.book(other.symbol).state is BookState.LIVE
        await advance(2.0)
        venue.change("aaausdt")
        assert stream.book(one.symbol).state is BookState.LIVE
        later = await stream.next_batch()
        told = [(update.market, update.kind) for update in later]
        assert [kind for market, kind in told if market == one.symbol] == [
            UpdateKind.STALE,
            UpdateKind.SNAPSHOT,
            UpdateKind.UPDATE,
        ][: len([1 for market, _ in told if market == one.symbol])]
        assert [kind for market, kind in told if market == other.symbol] == [UpdateKind.UPDATE]
        assert venue.transport.dials == 1
        sent = [json.loads(frame) for frame in venue.transport.open[0].sent]
        assert sum("sub" in frame for frame in sent) == 2, "nothing is subscribed anew"


def test_a_refused_channel_is_the_one_whose_frame_it_answers(recordings: Any, outlet: Any) -> None:
    none: Any = None
    feed = HtxFeed(HtxSettings(), none, none, none, none, none)
    channels = [Channel(DataType.ORDERBOOK, SPOT, spot_market(native)) for native in ("aaausdt", "linkusdt")]
    session = feed.session(feed.endpoint(channels[0]), outlet, None)
    list(session.subscribe(channels, 0))
    session.received(next(f for f in recordings.frames("ws-errors") if b"invalid mbp" in f), 1)  # of the frame "2"
    assert [(channel, final) for channel, _, final in outlet.refusals] == [(channels[1], True)]


def test_a_snapshot_request_that_came_too_fast_is_sent_again(outlet: Any) -> None:
    none: Any = None
    feed = HtxFeed(HtxSettings(), none, none, none, none, none)
    channel = Channel(DataType.ORDERBOOK, SPOT, spot_market("aaausdt"))
    session = feed.session(feed.endpoint(channel), outlet, None)
    list(session.subscribe([channel], 0))
    (frame,) = session.request_snapshot(channel, 0)
    ident = json.loads(frame)["id"]
    for _ in range(20):
        error = {"id": ident, "status": "error", "err-code": "bad-request", "err-msg": "429 too many request"}
        session.received(json.dumps(error).encode(), 1)
        ident = json.loads(outlet.sent[-1])["id"]
    assert len(outlet.sent) == 5, "then the engine asks again"
    assert not outlet.refusals


def test_hosts_and_environments() -> None:
    settings = HtxSettings.model_validate({"environment": "aws", "hosts": {"spot_rest": "http://127.0.0.1:1"}})
    assert settings.hosts.spot_rest == "http://127.0.0.1:1"
    assert settings.hosts.derivatives_rest == "https://api.hbdm.vn"
    assert HtxHosts().spot_stream == "wss://api.huobi.pro"
    with pytest.raises(ValidationError, match="paths"):
        HtxHosts(spot_stream="wss://api.huobi.pro/ws")


@pytest.mark.parametrize(("operator", "kind"), [("gte", OrderType.TAKE_PROFIT_LIMIT), (None, None)])
async def test_conditional_orders_that_were_listed_are_known_to_the_stream(
    played: Any, operator: str | None, kind: OrderType | None
) -> None:
    """As after a restart: the stream does not say which way they are triggered."""
    row = spot_row(type="sell-stop-limit", operator=operator, state="created", **{"stop-price": "51000"})
    played.http.answer("GET", "/v1/order/openOrders", ok([row]))
    await played.venue.list_orders(await played.market(BTC), played.credentials)
    known = played.venue.parts[SPOT].conditional(played.credentials, "77")
    assert (known and known.type) == kind


def test_stop_orders_are_told_by_their_operator() -> None:
    kinds = {
        ("buy-stop-limit", "gte"): OrderType.STOP_LIMIT,
        ("buy-stop-limit", "lte"): OrderType.TAKE_PROFIT_LIMIT,
        ("sell-stop-limit", "lte"): OrderType.STOP_LIMIT,
        ("sell-stop-limit-fok", "gte"): OrderType.TAKE_PROFIT_LIMIT,
    }
    for (word, operator), kind in kinds.items():
        row = msgspec.convert(
            spot_row(type=word, operator=operator, state="created", **{"stop-price": "49000"}), spot_rows.OrderRow
        )
        told = row.order(spot_market("btcusdt"))
        assert (told.type, told.status, told.stop_price) == (kind, OrderStatus.NEW, Decimal(49000))
