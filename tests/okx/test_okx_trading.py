"""Orders in the venue's words, its rows in Astra's, lost answers resolved, errors told apart, contracts converted."""

from __future__ import annotations

import bisect
import itertools
import json
from decimal import Decimal
from typing import Any

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
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.models.credentials import Credentials
from astra.models.markets import ContractType, Market
from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.net.http import AnswerLost, Request, Response
from astra.streams.feed import Channel, DataType
from astra.symbols import AssetType
from astra.trading.account import AccountState
from astra_okx.errors import CODES, interpret
from astra_okx.feed import OkxFeed
from astra_okx.feed.accounts import TradingSession
from astra_okx.feed.markets import MarketSession
from astra_okx.settings import ALGO as ALGOS
from astra_okx.settings import TRADING, OkxOrderOptions, OkxSettings
from astra_okx.trading.orders import order_body
from astra_okx.trading.rows import AlgoRow, FillRow, OrderRow, PositionRow

pytestmark = pytest.mark.anyio
SPOT, SWAP, INVERSE = "OKX-SPOT-BTC-USDT", "OKX-PERP-BTC-USDT", "OKX-PERP-BTC-USD-COINM"
ORDER = "/api/v5/trade/order"
ALGO, CANCEL_ALGOS = "/api/v5/trade/order-algo", "/api/v5/trade/cancel-algos"
NO_ORDER = {"code": "51603", "msg": "Order does not exist", "data": []}


def accepted(ident: str = "77", **more: str) -> dict[str, Any]:
    row = {"clOrdId": "mine", "ordId": ident, "sCode": "0", "sMsg": "Order placed", "ts": "1695190491421", **more}
    return {"code": "0", "msg": "", "data": [row]}


def row(**fields: str) -> dict[str, str]:
    base = {
        "instId": "BTC-USDT",
        "ordId": "77",
        "clOrdId": "mine",
        "side": "buy",
        "ordType": "limit",
        "state": "live",
        "px": "50000",
        "sz": "0.5",
        "accFillSz": "0",
        "avgPx": "",
        "cTime": "1695190491421",
    }
    return base | fields


def found(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": list(rows)}


def limit(**more: Any) -> OrderRequest:
    return OrderRequest.model_validate(
        {"side": "BUY", "price": "50000", "quantity": "0.5", "client_order_id": "mine", **more}
    )


async def body_of(played: Any, symbol: str, order: OrderRequest) -> dict[str, Any]:
    return order_body(await played.market(symbol), order, OkxOrderOptions(), OkxSettings())


# -- placing ------------------------------------------------------------------------------------------------------


async def test_a_limit_order_goes_out_with_its_deadline(played: Any) -> None:
    played.http.answer("POST", ORDER, accepted())
    market = await played.market(SPOT)
    order = await played.venue.place_order(market, limit(), played.credentials)
    assert played.http.sent("POST", ORDER) == [
        {
            "instId": "BTC-USDT",
            "tdMode": "cash",
            "side": "buy",
            "sz": "0.5",
            "clOrdId": "mine",
            "ordType": "limit",
            "px": "50000",
        }
    ]
    request = next(r for r in played.http.requests if r.method == "POST")
    assert int(request.headers["expTime"]) == played.venue.rest.clock.now_ms() + 5000
    assert (order.id, order.client_order_id, order.status) == ("77", "mine", OrderStatus.NEW)
    assert order.filled_quantity is None, "the answer does not say"


@pytest.mark.parametrize(
    ("symbol", "order", "expected"),
    [
        (SPOT, {"time_in_force": "IOC"}, {"ordType": "ioc"}),
        (SPOT, {"time_in_force": "FOK"}, {"ordType": "fok"}),
        (SPOT, {"post_only": True}, {"ordType": "post_only"}),
        (SPOT, {"type": "MARKET", "price": None}, {"ordType": "market", "tgtCcy": "base_ccy", "banAmend": True}),
        (
            SPOT,
            {"type": "MARKET", "price": None, "quantity": None, "quote_quantity": "100"},
            {"ordType": "market", "tgtCcy": "quote_ccy", "sz": "100"},
        ),
        (SWAP, {}, {"tdMode": "cross", "sz": "50"}),
        (SWAP, {"reduce_only": True}, {"reduceOnly": True, "sz": "50"}),
        (SWAP, {"type": "MARKET", "price": None}, {"ordType": "market"}),
        (INVERSE, {"quantity": None, "contracts": "7"}, {"sz": "7"}),
    ],
)
async def test_orders_are_put_into_the_venue_s_words(
    played: Any, symbol: str, order: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = await body_of(played, symbol, limit(**order))
    assert body | expected == body


@pytest.mark.parametrize(
    ("symbol", "order", "message"),
    [
        (SPOT, {"time_in_force": "GTD", "expire_time": 2_000_000_000_000}, "GTD"),
        (SPOT, {"reduce_only": True}, "reduce-only"),
        (SWAP, {"type": "MARKET", "price": None, "quantity": None, "quote_quantity": "5"}, "quoteQuantity"),
        (SPOT, {"type": "STOP_LIMIT", "stop_price": "1", "time_in_force": "IOC"}, "time in force IOC"),
        (SPOT, {"options": {"position_side": "LONG"}}, "position_side"),
    ],
)
async def test_what_a_product_lacks_is_refused_by_name_before_anything_is_sent(
    played: Any, symbol: str, order: dict[str, Any], message: str
) -> None:
    market = await played.market(symbol)
    with pytest.raises(UnsupportedOperation, match=message):
        await played.venue.place_order(market, limit(**order), played.credentials)
    assert not [request for request in played.http.requests if request.method == "POST"]


@pytest.mark.parametrize("kind", [{}, {"type": "STOP_MARKET", "price": None, "stop_price": "40000"}])
@pytest.mark.parametrize(("side", "position", "closing"), [("BUY", "LONG", "SELL"), ("SELL", "SHORT", "BUY")])
async def test_a_reduce_only_order_that_would_open_a_position_is_refused_here(
    played: Any, kind: dict[str, Any], side: str, position: str, closing: str
) -> None:
    """In long/short mode the venue does not look at `reduceOnly`: the side decides."""
    market, options = await played.market(SWAP), {"positionSide": position}
    order = limit(side=side, reduce_only=True, options=options, **kind)
    with pytest.raises(InvalidOrder, match=f"{closing} reduces it") as failure:
        await played.venue.place_order(market, order, played.credentials)
    assert failure.value.rule == "reduce-only"
    assert not [request for request in played.http.requests if request.method == "POST"]


@pytest.mark.parametrize(("side", "position"), [("SELL", "LONG"), ("BUY", "SHORT")])
async def test_in_long_short_mode_the_side_says_that_an_order_reduces(played: Any, side: str, position: str) -> None:
    order = limit(side=side, reduce_only=True)
    body = order_body(
        await played.market(SWAP), order, OkxOrderOptions(position_side=PositionSide(position)), OkxSettings()
    )
    assert (body["side"], body["posSide"], "reduceOnly" in body) == (side.lower(), position.lower(), False)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="tradeMood"):
        OkxOrderOptions.model_validate({"tradeMood": "cash"})


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"type": "STOP_MARKET", "price": None, "stop_price": "40000"}, {"slTriggerPx": "40000", "slOrdPx": "-1"}),
        ({"type": "STOP_LIMIT", "stop_price": "40000"}, {"slTriggerPx": "40000", "slOrdPx": "50000"}),
        (
            {"type": "TAKE_PROFIT_MARKET", "price": None, "stop_price": "60000"},
            {"tpTriggerPx": "60000", "tpOrdPx": "-1"},
        ),
    ],
)
async def test_conditional_orders_are_algo_orders(played: Any, order: dict[str, Any], expected: dict[str, str]) -> None:
    path = "/api/v5/trade/order-algo"
    played.http.answer("POST", path, found({"algoId": "9", "algoClOrdId": "mine", "sCode": "0", "sMsg": ""}))
    placed = await played.venue.place_order(await played.market(SWAP), limit(**order), played.credentials)
    (sent,) = played.http.sent("POST", path)
    assert sent | expected | {"ordType": "conditional", "algoClOrdId": "mine"} == sent
    assert placed.id == "algo:9"
    assert placed.stop_price == Decimal(order["stop_price"])


async def test_a_triggered_order_is_the_order_that_it_became(played: Any) -> None:
    played.http.answer("GET", ORDER, NO_ORDER)
    played.http.answer(
        "GET",
        ORDER,
        found(
            row(instId="BTC-USDT-SWAP", ordId="80", clOrdId="", sz="50", accFillSz="50", state="filled", avgPx="39990")
        ),
    )
    algo = {"instId": "BTC-USDT-SWAP", "algoId": "9", "algoClOrdId": "mine", "side": "buy", "state": "effective"}
    algo |= {"sz": "50", "slTriggerPx": "40000", "slOrdPx": "-1", "ordIdList": ["80"], "cTime": "1695190491000"}
    played.http.answer("GET", "/api/v5/trade/order-algo", found(algo))
    market = await played.market(SWAP)
    order = await played.venue.get_order(market, OrderRef(client_order_id="mine"), played.credentials)
    assert (order.id, order.client_order_id, order.type) == ("80", "mine", OrderType.STOP_MARKET)
    assert (order.status, order.filled_quantity, order.stop_price) == (
        OrderStatus.FILLED,
        Decimal("0.5"),
        Decimal(40000),
    )


def algo(**fields: Any) -> dict[str, Any]:
    base = {
        "instId": "BTC-USDT-SWAP",
        "algoId": "9",
        "algoClOrdId": "mine",
        "ordType": "conditional",
        "side": "sell",
        "state": "live",
        "sz": "50",
        "slTriggerPx": "40000",
        "slOrdPx": "-1",
        "cTime": "1695190491000",
        "uTime": "1695190491000",
    }
    return base | fields


OLDER = {"instId": "BTC-USDT-SWAP", "sz": "50", "state": "filled", "accFillSz": "50", "cTime": "1695190480000"}
STOP = {"side": "SELL", "type": "STOP_MARKET", "price": None, "stop_price": "40000"}


async def placed_stop(played: Any) -> Market:
    """A stop placed under a client order id that an order had that is done."""
    played.http.answer("POST", ALGO, found({"algoId": "9", "algoClOrdId": "mine", "sCode": "0", "sMsg": ""}))
    played.http.answer("GET", ORDER, found(row(**OLDER)))
    played.http.answer("GET", ALGO, found(algo()))
    market = await played.market(SWAP)
    await played.venue.place_order(market, limit(**STOP), played.credentials)
    return market


async def test_a_conditional_order_is_found_under_a_client_order_id_that_had_another_order(played: Any) -> None:
    market = await placed_stop(played)
    order = await played.venue.get_order(market, OrderRef(client_order_id="mine"), played.credentials)
    assert (order.id, order.side, order.status) == ("algo:9", Side.SELL, OrderStatus.NEW)
    assert not played.http.asked("GET", ORDER)


async def test_a_conditional_order_is_canceled_under_a_client_order_id_that_had_another_order(played: Any) -> None:
    market = await placed_stop(played)
    played.http.answer("POST", CANCEL_ALGOS, found({"algoId": "9", "sCode": "0"}))
    played.http.answer("GET", ALGO, found(algo(state="canceled")))
    order = await played.venue.cancel_order(market, OrderRef(client_order_id="mine"), played.credentials)
    assert (order.id, order.status) == ("algo:9", OrderStatus.CANCELED)
    assert played.http.sent("POST", CANCEL_ALGOS) == [[{"instId": "BTC-USDT-SWAP", "algoId": "9"}]]
    assert not played.http.sent("POST", "/api/v5/trade/cancel-order")


async def test_a_conditional_order_is_not_amended_as_the_order_that_had_its_client_order_id(played: Any) -> None:
    market = await placed_stop(played)
    change = OrderChange(price=Decimal(49000))
    with pytest.raises(UnsupportedOperation, match="conditional"):
        await played.venue.amend_order(market, OrderRef(client_order_id="mine"), change, played.credentials)
    assert not played.http.sent("POST", "/api/v5/trade/amend-order")


@pytest.mark.parametrize(
    ("ordinary", "conditional", "ident"),
    [
        (OLDER, algo(), "algo:9"),
        (OLDER, algo(cTime="1695190470000"), "algo:9"),
        (OLDER, algo(state="canceled"), "algo:9"),
        (OLDER, algo(state="canceled", cTime="1695190470000"), "77"),
        (OLDER | {"state": "live", "accFillSz": "0"}, algo(state="canceled"), "77"),
        (OLDER, None, "77"),
        (None, algo(), "algo:9"),
    ],
)
async def test_of_two_orders_under_one_client_order_id_the_open_one_counts_then_the_newer(
    played: Any, ordinary: dict[str, str] | None, conditional: dict[str, str] | None, ident: str
) -> None:
    """Where it is not known which of them this process placed."""
    played.http.answer("GET", ORDER, NO_ORDER if ordinary is None else found(row(**ordinary)))
    played.http.answer("GET", ALGO, NO_ORDER if conditional is None else found(conditional))
    order = await played.venue.get_order(
        await played.market(SWAP), OrderRef(client_order_id="mine"), played.credentials
    )
    assert order.id == ident


async def test_an_order_is_asked_for_after_its_amendment_by_the_id_that_was_amended(played: Any) -> None:
    played.http.answer("POST", "/api/v5/trade/amend-order", accepted())
    played.http.answer("GET", ORDER, found(row(**OLDER)))
    played.http.answer("GET", ALGO, found(algo()))
    change = OrderChange(price=Decimal(49000))
    market = await played.market(SWAP)
    order = await played.venue.amend_order(market, OrderRef(client_order_id="mine"), change, played.credentials)
    assert (order.id, order.status) == ("77", OrderStatus.FILLED)


# -- lists --------------------------------------------------------------------------------------------------------


class Lists:
    """The venue's lists, newest first, by their parameters, in place of `OkxRest.signed`."""

    def __init__(self, played: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[dict[str, Any]] = []
        monkeypatch.setattr(played.venue.rest, "signed", self.signed)

    async def signed(self, decode: Any, path: str, params: Any, credentials: Any, *, cost: str) -> Any:
        asked = {name: value for name, value in params if value is not None}
        self.asked.append(asked)
        rows = self.rows.get(path, [])
        if "after" in asked:  # the newest are first
            rows = rows[bisect.bisect_left(rows, -int(asked["after"]) + 1, key=lambda row: -self.ident(row)) :]
        chosen = itertools.islice((one for one in rows if self.takes(one, asked)), asked["limit"])
        return decode(json.dumps(found(*chosen)).encode())

    @staticmethod
    def ident(row: dict[str, Any]) -> int:
        return next(int(row[name]) for name in ("billId", "algoId", "ordId") if name in row)

    @classmethod
    def takes(cls, row: dict[str, Any], asked: dict[str, Any]) -> bool:
        ident = cls.ident(row)
        time = int(row.get("ts") or 0)
        return (
            ident < int(asked.get("after", ident + 1))
            and asked.get("begin", time) <= time <= asked.get("end", time)
            and ("ordType" not in asked or row["ordType"] in asked["ordType"].split(","))
        )


@pytest.fixture
def lists(played: Any, monkeypatch: pytest.MonkeyPatch) -> Lists:
    return Lists(played, monkeypatch)


def fills(since: int, count: int, every_ms: int = 1) -> list[dict[str, Any]]:
    """A fill every so often from `since` on, the newest first."""
    return [
        {
            "instId": "BTC-USDT",
            "tradeId": str(number),
            "ordId": "1",
            "billId": str(100 + number),
            "side": "buy",
            "fillPx": "1",
            "fillSz": "1",
            "ts": str(since + number * every_ms),
        }
        for number in reversed(range(count))
    ]


async def test_fills_from_a_time_on_are_all_there_however_many_they_are(played: Any, lists: Lists) -> None:
    since = played.venue.rest.clock.now_ms() - 3_600_000
    lists.rows["trade/fills"] = fills(since, 12_345)
    told = await played.venue.list_fills(None, since, None, played.credentials)
    assert [fill.id for fill in told] == [str(number) for number in range(12_345)]


@pytest.mark.parametrize("every_ms", [0, 1, 250])
@pytest.mark.parametrize("limit", [1, 5, 250])
async def test_a_limit_takes_the_oldest_fills_from_a_time_on(
    played: Any, lists: Lists, limit: int, every_ms: int
) -> None:
    since = played.venue.rest.clock.now_ms() - 3_600_000
    lists.rows["trade/fills"] = fills(since, 12_345, every_ms)
    told = await played.venue.list_fills(None, since, limit, played.credentials)
    assert [fill.id for fill in told] == [str(number) for number in range(limit)]
    assert every_ms == 0 or len(lists.asked) < 100, "the newer ones need not be read to their end"


async def test_without_a_time_the_newest_fills_are_told(played: Any, lists: Lists) -> None:
    lists.rows["trade/fills"] = fills(1_695_190_491_000, 12_345)
    told = await played.venue.list_fills(None, None, 11_000, played.credentials)
    assert [fill.id for fill in told] == [str(number) for number in range(12_345 - 11_000, 12_345)]


async def test_half_a_list_is_not_handed_out(played: Any, lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    since = played.venue.rest.clock.now_ms() - 3_600_000
    lists.rows["trade/fills"] = fills(since, 300)
    monkeypatch.setattr(Lists, "ident", staticmethod(lambda row: 0))  # the same page again and again
    with pytest.raises(VenueError, match="half a list"):
        await played.venue.list_fills(None, since, None, played.credentials)


OCO = algo(algoId="12", algoClOrdId="", ordType="oco", tpTriggerPx="60000", tpOrdPx="-1")
TRIGGER = algo(
    algoId="11", algoClOrdId="", ordType="trigger", slTriggerPx="", slOrdPx="", triggerPx="45000", ordPx="-1"
)
TRAILING = algo(
    algoId="10", algoClOrdId="", ordType="move_order_stop", slTriggerPx="", slOrdPx="", callbackRatio="0.01"
)


async def test_every_kind_of_conditional_order_that_the_stream_tells_is_listed(played: Any, lists: Lists) -> None:
    lists.rows["trade/orders-algo-pending"] = [OCO, TRIGGER, TRAILING, algo()]
    for market in (await played.market(SWAP), None):
        lists.asked.clear()
        orders = await played.venue.list_orders(market, played.credentials)
        told = {order.id: (order.type, order.stop_price) for order in orders}
        assert told == {
            "algo:12": (OrderType.STOP_MARKET, Decimal(40000)),
            "algo:9": (OrderType.STOP_MARKET, Decimal(40000)),
            "algo:11": (OrderType.STOP_MARKET, Decimal(45000)),
        }
        assert [asked["ordType"] for asked in lists.asked if "ordType" in asked] == ["conditional,oco", "trigger"]
    assert {order.id for order in await played.venue.account_orders("algo", played.credentials)} == set(told)


async def test_a_kind_that_astra_has_no_words_for_does_not_spoil_the_list(
    played: Any, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists.rows["trade/orders-algo-pending"] = [TRAILING, algo()]
    monkeypatch.setattr(Lists, "takes", lambda *_: True)
    orders = await played.venue.account_orders("algo", played.credentials)
    assert {order.id for order in orders} == {"algo:9"}


async def test_all_kinds_are_canceled_with_all_orders(played: Any) -> None:
    played.http.answer("GET", "/api/v5/trade/orders-pending", found())
    played.http.answer("GET", "/api/v5/trade/orders-algo-pending", found(OCO))
    played.http.answer("GET", "/api/v5/trade/orders-algo-pending", found(TRIGGER))
    played.http.answer("GET", "/api/v5/trade/orders-algo-pending", found())
    played.http.answer("POST", CANCEL_ALGOS, found({"algoId": "12", "sCode": "0"}, {"algoId": "11", "sCode": "0"}))
    played.http.answer("GET", ALGO, found(OCO | {"state": "canceled"}))
    played.http.answer("GET", ALGO, found(TRIGGER | {"state": "canceled"}))
    done = await played.venue.cancel_all_orders(await played.market(SWAP), played.credentials)
    assert [(order.id, order.status) for order in done] == [
        ("algo:12", OrderStatus.CANCELED),
        ("algo:11", OrderStatus.CANCELED),
    ]
    assert played.http.sent("POST", CANCEL_ALGOS) == [
        [{"instId": "BTC-USDT-SWAP", "algoId": "12"}, {"instId": "BTC-USDT-SWAP", "algoId": "11"}]
    ]


async def test_a_batch_holds_each_order_or_its_refusal(played: Any) -> None:
    path = "/api/v5/trade/batch-orders"
    answer = {
        "code": "2",
        "msg": "",
        "data": [accepted("1")["data"][0], {"ordId": "", "sCode": "51008", "sMsg": "no money"}],
    }
    played.http.answer("POST", path, answer)
    market = await played.market(SPOT)
    results = await played.venue.place_orders(
        [(market, limit()), (market, limit(client_order_id="b"))], played.credentials
    )
    assert results[0].id == "1"
    assert isinstance(results[1], InsufficientFunds)


async def test_a_batch_whose_answer_is_lost_is_unknown_order_by_order(played: Any) -> None:
    played.http.lose("POST", "/api/v5/trade/batch-orders")
    market = await played.market(SPOT)
    results = await played.venue.place_orders(
        [(market, limit()), (market, limit(client_order_id="b"))], played.credentials
    )
    assert [(type(r), r.client_order_id) for r in results] == [
        (OrderOutcomeUnknown, "mine"),
        (OrderOutcomeUnknown, "b"),
    ]
    assert len(played.http.sent("POST", "/api/v5/trade/batch-orders")) == 1


# -- resolving ----------------------------------------------------------------------------------------------------


async def lost(played: Any) -> Market:
    played.http.lose("POST", ORDER)
    market = await played.market(SPOT)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, limit(), played.credentials)
    assert len(played.http.sent("POST", ORDER)) == 1
    return market


def since(played: Any) -> int:
    return int(played.clock.wall_ns() // 1_000_000)


async def test_a_lost_placement_is_found(played: Any) -> None:
    market = await lost(played)
    now = played.venue.rest.clock.now_ms()
    played.http.answer("GET", ORDER, found(row(cTime=str(now))))
    order = await played.venue.resolve_order(market, "mine", since(played), played.credentials)
    assert order.id == "77"


async def test_not_found_is_believed_only_after_the_deadline(played: Any) -> None:
    market, begun = await lost(played), since(played)
    played.http.answer("GET", ORDER, NO_ORDER)
    assert await played.venue.resolve_order(market, "mine", begun, played.credentials) is True
    await played.clock.advance(6.9)
    assert await played.venue.resolve_order(market, "mine", begun, played.credentials) is True
    await played.clock.advance(0.2)
    assert await played.venue.resolve_order(market, "mine", begun, played.credentials) is False


async def test_an_old_order_under_the_same_id_is_not_the_one_meant(played: Any) -> None:
    market, begun = await lost(played), since(played)
    played.http.answer("GET", ORDER, found(row(state="filled", cTime=str(begun - 60_000))))
    assert await played.venue.resolve_order(market, "mine", begun, played.credentials) is True
    await played.clock.advance(8.0)
    assert await played.venue.resolve_order(market, "mine", begun, played.credentials) is False


# -- cancelling ---------------------------------------------------------------------------------------------------


async def test_a_cancel_tells_what_became_of_the_order(played: Any) -> None:
    played.http.answer("POST", "/api/v5/trade/cancel-order", accepted())
    played.http.answer("GET", ORDER, found(row(state="canceled", accFillSz="0.2", avgPx="49999")))
    order = await played.venue.cancel_order(await played.market(SPOT), OrderRef(id="77"), played.credentials)
    assert (order.status, order.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.2"))


async def test_a_cancel_that_is_under_way_is_no_error(played: Any, refused: Any) -> None:
    played.http.answer("POST", "/api/v5/trade/cancel-order", refused("51410", "Cancellation is being processed"))
    played.http.answer("GET", ORDER, found(row(state="canceled")))
    order = await played.venue.cancel_order(await played.market(SPOT), OrderRef(id="77"), played.credentials)
    assert order.status is OrderStatus.CANCELED


async def test_ids_of_another_shape_are_refused_here(played: Any) -> None:
    with pytest.raises(BadRequest, match="whole numbers"):
        await played.venue.cancel_order(await played.market(SPOT), OrderRef(id="x7"), played.credentials)


async def test_an_amendment_names_the_new_total(played: Any) -> None:
    played.http.answer("POST", "/api/v5/trade/amend-order", accepted())
    played.http.answer("GET", ORDER, found(row(instId="BTC-USDT-SWAP", sz="30", px="49000")))
    change = OrderChange(price=Decimal(49000), quantity=Decimal("0.3"))
    order = await played.venue.amend_order(await played.market(SWAP), OrderRef(id="77"), change, played.credentials)
    assert played.http.sent("POST", "/api/v5/trade/amend-order") == [
        {"instId": "BTC-USDT-SWAP", "ordId": "77", "newSz": "30", "newPx": "49000"}
    ]
    assert (order.quantity, order.contracts, order.price) == (Decimal("0.30"), Decimal(30), Decimal(49000))


@pytest.mark.parametrize("timeout_s", [5, 121])
async def test_the_dead_man_timer_has_bounds(played: Any, timeout_s: float) -> None:
    with pytest.raises(BadRequest, match="10 to 120"):
        await played.venue.keep_alive_orders(None, timeout_s, played.credentials)


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "rule"),
    [
        ("51008", InsufficientFunds, None),
        ("51016", DuplicateClientOrderId, None),
        ("50071", DuplicateClientOrderId, None),
        ("51400", OrderNotFound, None),
        ("51001", MarketNotFound, None),
        ("51121", InvalidOrder, "lot-size"),
        ("51020", InvalidOrder, "min-quantity"),
        ("51136", InvalidOrder, "price-range"),
        ("50036", InvalidOrder, "expire-time"),
        ("51999", InvalidOrder, None),
        ("50011", RateLimited, None),
        ("50001", VenueUnavailable, None),
        ("50004", AnswerLost, None),
        ("51149", AnswerLost, None),
    ],
)
def test_codes_of_an_order_s_row_are_told_apart(refused: Any, code: str, kind: type, rule: str | None) -> None:
    response = Response(status=200, headers={}, body=json.dumps(refused(code, "text")).encode())
    error: Any = interpret("OKX", Request("POST", ORDER, command=True), response)
    assert type(error) is kind
    assert error.code == code
    assert getattr(error, "rule", None) == rule
    if kind is RateLimited:
        assert error.retry_after == 2.0


def test_a_server_error_leaves_a_command_open_and_a_read_to_be_repeated() -> None:
    response = Response(status=502, headers={}, body=b"<html>")
    assert isinstance(interpret("OKX", Request("POST", ORDER, command=True), response), AnswerLost)
    error: Any = interpret("OKX", Request("GET", ORDER), response)
    assert isinstance(error, VenueUnavailable)
    assert error.retryable


@pytest.mark.parametrize(("text", "rule"), [("px", "tick-size"), ("sz", "lot-size"), ("posSide", None)])
def test_a_parameter_error_names_the_rule_that_it_is_about(refused: Any, text: str, rule: str | None) -> None:
    response = Response(status=200, headers={}, body=json.dumps(refused("51000", f"Parameter {text} error")).encode())
    error: Any = interpret("OKX", Request("POST", ORDER, command=True), response)
    assert type(error) is InvalidOrder
    assert error.rule == rule


def test_a_503_with_a_code_leaves_a_command_open_too() -> None:
    body = b'{"code":"50001","msg":"Service temporarily unavailable","data":[]}'
    response = Response(status=503, headers={}, body=body)
    assert isinstance(interpret("OKX", Request("POST", ORDER, command=True), response), AnswerLost)


def test_no_code_has_two_meanings() -> None:
    assert len(CODES) > 120


# -- contracts, worked by hand ------------------------------------------------------------------------------------


def contract(size: str, kind: ContractType, asset_type: AssetType = AssetType.PERP) -> Market:
    names = {AssetType.PERP: "OKX-PERP-BTC-USD", AssetType.OPT: "OKX-OPT-BTC-USD-270326-90000-C-COINM"}
    return Market(
        symbol=names[asset_type],
        asset_type=asset_type,
        base_asset="BTC",
        quote_asset="USD",
        native_symbol="X",
        product="swap",
        contract_size=Decimal(size),
        contract_type=kind,
    )


LINEAR = contract("0.01", ContractType.LINEAR)
COIN = contract("100", ContractType.INVERSE)
OPTION = contract("0.01", ContractType.INVERSE, AssetType.OPT)


@pytest.mark.parametrize(
    ("market", "price", "contracts", "base"),
    [
        (LINEAR, "63913.4", "34.95", "0.3495"),  # 34.95 contracts of 0.01 BTC
        (COIN, "50000", "250", "0.5"),  # 250 contracts of 100 USD at 50,000
        (OPTION, "0.0525", "7", "0.07"),  # 7 contracts of 0.01 BTC, whatever the premium in BTC
    ],
)
def test_contracts_become_base_units(outlet: Any, market: Market, price: str, contracts: str, base: str) -> None:
    book, trades = (Channel(kind, "swap", market) for kind in (DataType.ORDERBOOK, DataType.TRADE))
    feed = OkxFeed(OkxSettings(), lambda n: market, lambda: None, lambda c: None, lambda: None)  # type: ignore[arg-type, return-value]
    session = MarketSession(feed.endpoint(book), outlet, None)
    list(session.subscribe([book, trades], 0))
    level = [price, contracts, "0", "1"]
    data = {"asks": [], "bids": [level], "ts": "1", "seqId": 5, "prevSeqId": -1}
    frame = {"arg": {"channel": "books", "instId": "X"}, "action": "snapshot", "data": [data]}
    session.received(json.dumps(frame).encode(), 1)
    trade = {"instId": "X", "tradeId": "1", "px": price, "sz": contracts, "side": "sell", "ts": "1"}
    session.received(json.dumps({"arg": {"channel": "trades", "instId": "X"}, "data": [trade]}).encode(), 1)
    ((_, bids, *_),) = outlet.inputs[book].of("snapshot")
    assert bids == [(float(price), pytest.approx(float(base), rel=1e-15))]
    (told,) = outlet.inputs[trades].all_trades
    assert (told.side, told.quantity) == (Side.SELL, pytest.approx(float(base), rel=1e-15))

    wanted, size = Decimal(base), Decimal(contracts)
    native = row(instId="X", sz=contracts, px=price, accFillSz=contracts, avgPx=price, state="filled")
    order = msgspec.convert(native, OrderRow).order(market)
    assert (order.quantity, order.contracts, order.filled_quantity) == (wanted, size, wanted)
    fields = {"instId": "X", "tradeId": "1", "ordId": "7", "billId": "3", "side": "buy", "fillPx": price}
    fill = msgspec.convert(fields | {"fillSz": contracts, "ts": "1"}, FillRow).fill(market)
    assert (fill.quantity, fill.contracts) == (wanted, size)
    held = {"instId": "X", "pos": f"-{contracts}", "posSide": "net", "markPx": price, "avgPx": price}
    position = msgspec.convert(held, PositionRow).position(market)
    assert (position.side, position.quantity, position.contracts) == (PositionSide.SHORT, wanted, size)


@given(
    st.decimals(min_value="0.00000001", max_value=10**9, places=8), st.decimals(min_value=1, max_value=10**6, places=4)
)
def test_decimals_are_read_back_as_they_were_sent(quantity: Decimal, price: Decimal) -> None:
    market = Market(
        symbol="OKX-SPOT-A-B",
        asset_type=AssetType.SPOT,
        base_asset="A",
        quote_asset="B",
        native_symbol="A-B",
        product="spot",
    )
    order = OrderRequest(side=Side.BUY, price=price, quantity=quantity, client_order_id="x")
    body = order_body(market, order, OkxOrderOptions(), OkxSettings())
    assert "E" not in body["sz"] + body["px"]
    told = msgspec.convert(row(sz=body["sz"], px=body["px"]), OrderRow).order(market)
    assert (told.quantity, told.price) == (quantity, price)


# -- sessions -----------------------------------------------------------------------------------------------------


def market_session(outlet: Any, *natives: str) -> tuple[MarketSession, list[Channel]]:
    channels = [
        Channel(DataType.ORDERBOOK, "swap", LINEAR.model_copy(update={"native_symbol": native})) for native in natives
    ]
    feed = OkxFeed(OkxSettings(), lambda n: None, lambda: None, lambda c: None, lambda: None)  # type: ignore[arg-type, return-value]
    return MarketSession(feed.endpoint(channels[0]), outlet, None), channels


def test_a_refused_channel_is_the_one_that_the_text_names(outlet: Any) -> None:
    session, channels = market_session(outlet, "A", "B")
    list(session.subscribe(channels, 0))
    message = "Wrong URL or channel:books,instId:B doesn't exist. Please use the correct URL, channel and parameters"
    session.received(json.dumps({"id": "1", "event": "error", "code": "60018", "msg": message}).encode(), 1)
    session.received(
        json.dumps({"id": "1", "event": "subscribe", "arg": {"channel": "books", "instId": "A"}}).encode(), 1
    )
    assert [(channel, final) for channel, _, final in outlet.refusals] == [(channels[1], True)]
    assert outlet.acks == [channels[0]]


def test_a_refusal_without_names_is_of_the_channel_that_is_left(outlet: Any) -> None:
    session, channels = market_session(outlet, "A", "B")
    list(session.subscribe(channels, 0))
    session.received(json.dumps({"id": "1", "event": "error", "code": "60014", "msg": "too many"}).encode(), 1)
    assert not outlet.refusals
    session.received(
        json.dumps({"id": "1", "event": "subscribe", "arg": {"channel": "books", "instId": "B"}}).encode(), 1
    )
    assert [(channel, final) for channel, _, final in outlet.refusals] == [(channels[0], False)]


def test_a_log_in_that_is_refused_fails_whoever_subscribes(outlet: Any) -> None:
    channel = Channel(DataType.ACCOUNT, TRADING)
    feed = OkxFeed(OkxSettings(), lambda n: None, lambda: None, lambda c: None, lambda: None)  # type: ignore[arg-type, return-value]
    key = Credentials.of("OKX", "k", "s", "p").keys["default"]
    session = TradingSession(feed.endpoint(channel), outlet, None, lambda n: None, key, lambda: None)
    assert not session.ready
    session.received(b'{"event":"error","code":"60005","msg":"Invalid apiKey","connId":"x"}', 1)
    assert session.ready
    list(session.subscribe([channel], 0))
    ((refused, error, final),) = outlet.refusals
    assert refused is channel
    assert final
    assert type(error).__name__ == "AuthenticationError"


def test_a_net_position_that_changes_sides_closes_the_old_one(outlet: Any) -> None:
    channel = Channel(DataType.ACCOUNT, TRADING)
    feed = OkxFeed(OkxSettings(), lambda n: LINEAR, lambda: None, lambda c: None, lambda: None)  # type: ignore[arg-type, return-value]
    key = Credentials.of("OKX", "k", "s", "p").keys["default"]
    session = TradingSession(feed.endpoint(channel), outlet, None, lambda n: LINEAR, key, lambda: None)
    session.received(b'{"event":"login","code":"0"}', 1)
    list(session.subscribe([channel], 0))
    for size in ("5", "-2", "0"):
        data = [{"instId": "X", "pos": size, "posSide": "net", "markPx": "1", "instType": "SWAP"}]
        session.received(json.dumps({"arg": {"channel": "positions"}, "data": data}).encode(), 1)
    told = [(p.side.value, p.contracts) for p in outlet.inputs[channel].account_events]
    assert told == [("SHORT", 0), ("LONG", 5), ("LONG", 0), ("SHORT", 2), ("SHORT", 0)]


class TwoStreams:
    """An account's stream of orders and its stream of conditional orders, live."""

    def __init__(self, outlet: Any) -> None:
        credentials = Credentials.of("OKX", "k", "s", "p")
        self.outlet = outlet
        feed = OkxFeed(OkxSettings(), lambda n: LINEAR, lambda: None, lambda c: c.keys["default"], lambda: None)  # type: ignore[arg-type, return-value]
        self.channels = {name: Channel(DataType.ACCOUNT, name, credentials=credentials) for name in (TRADING, ALGOS)}
        self.sessions = {}
        for name, channel in self.channels.items():
            session: Any = feed.session(feed.endpoint(channel), outlet, None)
            session.received(b'{"event":"login","code":"0"}', 1)
            list(session.subscribe([channel], 0))
            self.sessions[name] = session

    def push(self, name: str, row: dict[str, Any]) -> None:
        venue_channel = "orders" if name == TRADING else "orders-algo"
        frame = {"arg": {"channel": venue_channel}, "data": [row]}
        self.sessions[name].received(json.dumps(frame).encode(), 1)

    def told(self, name: str) -> list[tuple[str | None, OrderStatus]]:
        events = self.outlet.inputs[self.channels[name]].account_events
        return [(order.id, order.status) for order in events if isinstance(order, Order)]

    @property
    def comparisons(self) -> int:
        """How often the stream of conditional orders asked to be compared with the venue."""
        return len(self.outlet.inputs[self.channels[ALGOS]].of("incomplete"))


BECAME = {"instId": "BTC-USDT-SWAP", "ordId": "80", "clOrdId": "", "algoId": "9", "algoClOrdId": "mine", "sz": "50"}


def test_a_triggered_order_is_looked_up_and_not_told_as_open(outlet: Any) -> None:
    streams = TwoStreams(outlet)
    streams.push(ALGOS, algo())
    assert streams.comparisons == 0
    streams.push(ALGOS, algo(state="effective", ordIdList=["80"], uTime="1695190492000"))
    assert streams.told(ALGOS) == [("algo:9", OrderStatus.NEW)]
    assert streams.comparisons == 1


def test_what_a_triggered_order_became_is_told_by_one_stream_and_ends_it_in_the_other(outlet: Any) -> None:
    streams = TwoStreams(outlet)
    streams.push(ALGOS, algo())
    streams.push(ALGOS, algo(state="effective", ordIdList=["80"]))
    streams.push(TRADING, row(**BECAME))
    assert streams.comparisons == 1, "the order is open: there is nothing to look up"
    streams.push(TRADING, row(**BECAME, state="filled", accFillSz="50", avgPx="39990"))
    assert streams.comparisons == 2
    assert streams.told(TRADING) == [("80", OrderStatus.NEW), ("80", OrderStatus.FILLED)]
    assert streams.told(ALGOS) == [("algo:9", OrderStatus.NEW)]


def test_a_done_order_is_not_told_as_open_by_the_stream_that_is_late(outlet: Any) -> None:
    streams = TwoStreams(outlet)
    streams.push(TRADING, row(**BECAME, state="filled", accFillSz="50", avgPx="39990"))
    streams.push(ALGOS, algo())
    streams.push(ALGOS, algo(state="effective", ordIdList=["80"]))
    assert streams.told(ALGOS) == []
    assert streams.comparisons == 3


def test_a_stream_of_orders_that_comes_back_may_have_missed_what_triggered_orders_became(outlet: Any) -> None:
    streams = TwoStreams(outlet)
    streams.push(ALGOS, algo())
    acknowledgement = {"event": "subscribe", "arg": {"channel": "orders", "instType": "ANY"}}
    streams.sessions[TRADING].received(json.dumps(acknowledgement).encode(), 1)
    assert streams.comparisons == 1


def test_kinds_without_words_are_not_told(outlet: Any) -> None:
    streams = TwoStreams(outlet)
    for one in (TRAILING, OCO, TRIGGER):
        streams.push(ALGOS, one)
    assert [ident for ident, _ in streams.told(ALGOS)] == ["algo:12", "algo:11"]


@pytest.mark.parametrize("name", ["mine", ""])
async def test_for_the_streams_a_triggered_order_waits_until_what_it_became_is_done(played: Any, name: str) -> None:
    market, state = await played.market(SWAP), AccountState()
    waiting = algo(algoClOrdId=name)
    triggered = waiting | {"state": "effective", "ordIdList": ["80"], "uTime": "1695190493000"}
    became = row(**BECAME | {"algoClOrdId": name}, ordType="market", side="sell")
    done = became | {"state": "filled", "accFillSz": "50", "avgPx": "39990"}
    ref = OrderRef(client_order_id=name) if name else OrderRef(id="algo:9")
    played.http.answer("GET", ALGO, found(triggered))
    for answer in (became, done):
        if name:
            played.http.answer("GET", ORDER, NO_ORDER)  # the order has no client order id in its own space
        played.http.answer("GET", ORDER, found(answer))
    state.apply(msgspec.convert(waiting, AlgoRow).order(market))
    order = await played.venue.account_order(market, ref, played.credentials)
    assert state.apply(order) is None, "there is no news in it"
    assert [order.id for order in state.open_orders()] == ["algo:9"]
    order = await played.venue.account_order(market, ref, played.credentials)
    assert (order.id, order.status) == ("80", OrderStatus.FILLED)


async def test_a_triggered_order_without_a_successor_yet_is_no_news_for_the_streams(played: Any) -> None:
    market, state = await played.market(SWAP), AccountState()
    state.apply(msgspec.convert(algo(), AlgoRow).order(market))
    played.http.answer("GET", ORDER, NO_ORDER)
    played.http.answer("GET", ALGO, found(algo(state="effective", uTime="1695190493000")))
    order = await played.venue.account_order(market, OrderRef(client_order_id="mine"), played.credentials)
    assert state.apply(order) is None


def test_a_conditional_order_says_what_it_waits_for() -> None:
    fields = {"instId": "X", "algoId": "9", "side": "sell", "state": "live", "sz": "3", "tpTriggerPx": "70000"}
    order = msgspec.convert(fields | {"tpOrdPx": "69900", "algoClOrdId": "mine"}, AlgoRow).order(LINEAR)
    assert (order.type, order.stop_price, order.price) == (OrderType.TAKE_PROFIT_LIMIT, Decimal(70000), Decimal(69900))
    assert (order.id, order.contracts, order.quantity) == ("algo:9", Decimal(3), Decimal("0.03"))
