"""Options through the venue's REST."""

import json
from decimal import Decimal
from typing import Any

import pytest

CALL, PUT = "BINANCE-OPT-BTC-USDT-270326-90000-C", "BINANCE-OPT-BTC-USDT-270326-90000-P"
HOST = "options_rest"
ORDER = {"symbol": "BTC-270326-90000-C", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
ORDER |= {"quantity": "0.5", "price": "4000"}


def place(venue: Any, **params: Any) -> Any:
    return venue.call(HOST, "POST", "order", **(ORDER | params))


def test_orders_in_the_documented_shapes(venue: Any, capture: Any, unlike: Any) -> None:
    placed = place(venue, clientOrderId="mine")
    assert placed.keys() == capture("options-order-new").keys()
    shown = venue.call(HOST, "GET", "order", symbol=ORDER["symbol"], clientOrderId="mine")
    assert shown.keys() == capture("options-order-query").keys()
    assert not unlike(shown, capture("options-order-query"))
    (listed,) = venue.call(HOST, "GET", "openOrders")
    assert listed.keys() - {"postOnly"} == capture("options-openOrders")[0].keys()
    cancelled = venue.call(HOST, "DELETE", "order", symbol=ORDER["symbol"], orderId=placed["orderId"])
    assert cancelled.keys() == capture("options-order-cancel").keys()
    assert cancelled["status"] == "CANCELED"
    assert venue.call(HOST, "GET", "historyOrders", symbol=ORDER["symbol"])[0]["orderId"] == placed["orderId"]


def test_order_ids_are_beyond_what_a_float_holds(venue: Any) -> None:
    order_id = place(venue)["orderId"]
    assert order_id > 2**53
    assert venue.call(HOST, "GET", "order", symbol=ORDER["symbol"], orderId=order_id)["orderId"] == order_id
    assert int(float(order_id)) != order_id


def test_an_acknowledgement_knows_no_fills_and_a_result_does(venue: Any) -> None:
    venue.crowd(CALL, "SELL", "1", "4000")
    assert place(venue)["executedQty"] == "0"
    result = place(venue, newOrderRespType="RESULT")
    assert (result["status"], result["executedQty"], result["avgPrice"]) == ("FILLED", "0.5", "4000")


def test_fees_are_negative_when_paid(venue: Any, capture: Any, unlike: Any) -> None:
    venue.crowd(CALL, "SELL", "1", "4000")
    place(venue)
    rows = venue.call(HOST, "GET", "userTrades", symbol=ORDER["symbol"])
    assert rows[0].keys() == capture("options-userTrades")[0].keys()
    assert not unlike(rows, capture("options-userTrades"))
    _, taker = venue.engine.fee_rates(CALL)
    assert Decimal(rows[0]["fee"]) == -Decimal(2000) * taker
    assert rows[0]["tradeId"] == venue.get(HOST, "trades", symbol=ORDER["symbol"])[0]["tradeId"]
    assert venue.refused(HOST, "GET", "userTrades") == -1102


def test_positions_and_account(venue: Any, capture: Any, unlike: Any) -> None:
    venue.crowd(CALL, "BUY", "1", "4000")
    place(venue, side="SELL")
    (row,) = venue.call(HOST, "GET", "position")
    assert row.keys() == capture("options-position")[0].keys()
    assert not unlike([row], capture("options-position"))
    assert (row["side"], row["quantity"], row["strikePrice"]) == ("SHORT", "-0.50", "90000")
    account = venue.call(HOST, "GET", "marginAccount")
    assert not unlike(account, capture("options-marginAccount"))
    (held,) = [b for b in venue.engine.balances(venue.account) if (b.wallet, b.asset) == ("options", "USDT")]
    assert Decimal(account["asset"][0]["available"]) == held.available
    assert not unlike(venue.call(HOST, "GET", "commission"), capture("options-commission"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"type": "MARKET"}, -1116),
        ({"symbol": "BTC-270326-90001-C"}, -1121),
        ({"timeInForce": "GTD"}, -1115),
        ({"timeInForce": "IOC", "postOnly": "true"}, -1115),
        ({"price": "4001"}, -4014),
        ({"quantity": "0.005"}, -1111),
        ({"quantity": "2000"}, -4005),
        ({"quantity": "900", "price": "80000"}, -2027),
        ({"newClientOrderId": "x"}, -1104),
        ({"reduceOnly": "true"}, -2022),
    ],
)
def test_refusals(venue: Any, change: Any, code: int) -> None:
    assert venue.refused(HOST, "POST", "order", **(ORDER | change)) == code


@pytest.mark.parametrize("how", [{"timeInForce": "GTX"}, {"postOnly": "true"}])
def test_post_only_orders_do_not_take(venue: Any, how: Any) -> None:
    venue.crowd(CALL, "SELL", "1", "4000")
    assert venue.refused(HOST, "POST", "order", **(ORDER | how)) == -5022
    assert place(venue, price="3995", **how)["status"] == "NEW"


def test_cancelling_many(venue: Any, capture: Any) -> None:
    first, second = place(venue, clientOrderId="a"), place(venue, clientOrderId="b", price="3995")
    rows = venue.call(HOST, "DELETE", "batchOrders", symbol=ORDER["symbol"], orderIds=f"[{first['orderId']},5]")
    assert [row.get("code", row.get("status")) for row in rows] == ["CANCELED", -2011]
    place(venue, symbol="BTC-270326-90000-P")
    place(venue, symbol="ETH-270326-3000-C", price="300")
    assert venue.call(HOST, "DELETE", "allOpenOrders", symbol=ORDER["symbol"]) == capture(
        "options-allOpenOrders-cancel"
    )
    assert venue.call(HOST, "GET", "order", symbol=ORDER["symbol"], orderId=second["orderId"])["status"] == "CANCELED"
    answer = venue.call(HOST, "DELETE", "allOpenOrdersByUnderlying", underlying="BTCUSDT")
    assert answer["code"] == 0
    assert [row["symbol"] for row in venue.call(HOST, "GET", "openOrders")] == ["ETH-270326-3000-C"]
    assert venue.refused(HOST, "DELETE", "allOpenOrdersByUnderlying", underlying="NOPE") == -1128


def test_batches(venue: Any) -> None:
    rows = [ORDER | {"clientOrderId": "a"}, ORDER | {"price": "1"}]
    answers = venue.call(HOST, "POST", "batchOrders", orders=json.dumps(rows))
    assert [row.get("code", row.get("status")) for row in answers] == ["NEW", -4014]


def test_what_expires_is_spelt_in_the_other_way(venue: Any) -> None:
    venue.crowd(CALL, "SELL", "0.2", "4000")
    placed = place(venue, timeInForce="IOC", newOrderRespType="RESULT")
    assert (placed["status"], placed["executedQty"]) == ("CANCELLED", "0.2")
