"""Spot orders through the venue's REST: answers, states, errors, fills, balances."""

import json
from decimal import Decimal
from typing import Any

import pytest

from astra.models.markets import Market, MarketStatus

BTC = "BINANCE-SPOT-BTC-USDT"
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.1", "price": "50000"}
HOST = "spot_rest"


def place(venue: Any, **params: Any) -> Any:
    return venue.call(HOST, "POST", "order", **(LIMIT | params))


def refusal(venue: Any, method: str = "POST", path: str = "order", **params: Any) -> tuple[int, int, str]:
    answer = venue.signed(HOST, method, path, **params)
    body = json.loads(answer.body)
    return answer.status, body["code"], body["msg"]


def free(venue: Any, asset: str) -> tuple[Decimal, Decimal]:
    rows = {row["asset"]: row for row in venue.call(HOST, "GET", "account")["balances"]}
    return Decimal(rows[asset]["free"]), Decimal(rows[asset]["locked"])


class TestAnswers:
    def test_an_acknowledgement_says_nothing_else(self, venue: Any, capture: Any) -> None:
        answer = place(venue, newOrderRespType="ACK", newClientOrderId="mine")
        assert answer.keys() == capture("spot-order-new-ack").keys()
        assert answer["clientOrderId"] == "mine"

    def test_full_is_the_default_of_limit_and_market_orders(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.crowd(BTC, "SELL", "0.05", "49000")
        venue.crowd(BTC, "SELL", "0.02", "49500")
        answer = place(venue)
        assert (answer["status"], answer["executedQty"]) == ("PARTIALLY_FILLED", "0.07000000")
        assert answer["cummulativeQuoteQty"] == "3440.00000000"
        assert [(fill["price"], fill["qty"]) for fill in answer["fills"]] == [
            ("49000.00000000", "0.05000000"),
            ("49500.00000000", "0.02000000"),
        ]
        assert (answer["fills"][0]["commission"], answer["fills"][0]["commissionAsset"]) == ("0.00005000", "BTC")
        recorded = capture("spot-order-new-full")
        assert answer.keys() == recorded.keys()
        assert not unlike(answer, recorded)

    def test_stop_and_maker_orders_are_acknowledged_by_default(self, venue: Any) -> None:
        answer = venue.call(
            HOST, "POST", "order", symbol="BTCUSDT", side="BUY", type="LIMIT_MAKER", quantity="0.1", price="50000"
        )
        assert "status" not in answer

    def test_a_market_order_by_amount_of_quote(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "5", "50000")
        answer = venue.call(HOST, "POST", "order", symbol="BTCUSDT", side="BUY", type="MARKET", quoteOrderQty="1000")
        assert (answer["status"], answer["executedQty"], answer["origQuoteOrderQty"]) == (
            "FILLED",
            "0.02000000",
            "1000.00000000",
        )

    def test_a_query_shows_the_order_as_recorded(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.crowd(BTC, "SELL", "5", "50000")
        placed = venue.call(HOST, "POST", "order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.1")
        shown = venue.call(HOST, "GET", "order", symbol="BTCUSDT", orderId=placed["orderId"])
        recorded = capture("spot-order-filled-LTCUSDT")
        assert shown.keys() == recorded.keys()
        assert not unlike(shown, recorded)
        assert (shown["status"], shown["cummulativeQuoteQty"]) == ("FILLED", "5000.00000000")

    def test_an_order_test_places_nothing(self, venue: Any) -> None:
        assert venue.call(HOST, "POST", "order/test", **LIMIT) == {}
        assert refusal(venue, path="order/test", **(LIMIT | {"price": "50000.001"}))[1] == -1013
        assert not venue.engine.orders(venue.account)


class TestStates:
    def test_what_an_ioc_order_cannot_get_expires(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "0.04", "50000")
        answer = place(venue, timeInForce="IOC")
        assert (answer["status"], answer["executedQty"], answer["expiryReason"]) == (
            "EXPIRED",
            "0.04000000",
            "INSUFFICIENT_LIQUIDITY",
        )

    def test_a_fok_order_that_cannot_be_filled_is_taken_and_expires(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "0.04", "50000")
        answer = place(venue, timeInForce="FOK")
        assert (answer["status"], answer["executedQty"], answer["fills"]) == ("EXPIRED", "0.00000000", [])

    def test_a_market_order_in_an_empty_book_expires(self, venue: Any) -> None:
        answer = venue.call(HOST, "POST", "order", symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.1")
        assert answer["status"] == "EXPIRED"

    def test_meeting_oneself_expires_in_match(self, venue: Any) -> None:
        place(venue, side="SELL", price="51000")
        answer = place(venue, price="51000")
        assert answer["status"] == "EXPIRED_IN_MATCH"

    def test_a_stop_waits_and_then_works(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        venue.crowd(BTC, "BUY", "0.01")
        stop = venue.call(
            HOST, "POST", "order", symbol="BTCUSDT", side="BUY", type="STOP_LOSS_LIMIT", timeInForce="GTC",
            quantity="0.1", price="52000", stopPrice="51000", newClientOrderId="stop",
        )  # fmt: skip
        shown = venue.call(HOST, "GET", "order", symbol="BTCUSDT", orderId=stop["orderId"])
        assert (shown["type"], shown["isWorking"], shown["workingTime"]) == ("STOP_LOSS_LIMIT", False, -1)
        venue.crowd(BTC, "BUY", "0.99")
        venue.crowd(BTC, "SELL", "1", "51000")
        venue.crowd(BTC, "BUY", "0.5")
        shown = venue.call(HOST, "GET", "order", symbol="BTCUSDT", origClientOrderId="stop")
        assert (shown["status"], shown["isWorking"]) == ("FILLED", True)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "code", "text"),
        [
            ({"symbol": "NOPE"}, -1121, "Invalid symbol."),
            ({"side": "HOLD"}, -1117, "Invalid side."),
            ({"type": "STOP"}, -1116, "Invalid orderType."),
            ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
            ({"timeInForce": ""}, -1102, "timeInForce"),
            ({"quantity": "1e-1"}, -1100, "quantity"),
            ({"quantity": "0.000000001"}, -1111, "quantity"),
            ({"quantity": "0.000015"}, -1013, "Filter failure: LOT_SIZE"),
            ({"quantity": "0"}, -1130, "quantity"),
            ({"quantity": "9001"}, -1013, "Filter failure: LOT_SIZE"),
            ({"price": "50000.005"}, -1013, "Filter failure: PRICE_FILTER"),
            ({"price": "1000000.01"}, -1013, "Filter failure: PRICE_FILTER"),
            ({"price": "10"}, -1013, "Filter failure: NOTIONAL"),
            ({"side": "SELL", "quantity": "101"}, -2010, "Account has insufficient balance for requested action."),
            ({"newClientOrderId": "with space"}, -1100, "newClientOrderId"),
            ({"newClientOrderId": "x" * 37}, -1100, "newClientOrderId"),
            ({"stopPrice": "1"}, -1106, "stopPrice"),
            ({"clientOrderId": "x"}, -1104, "clientOrderId"),
            ({"newOrderRespType": "MORE"}, -1130, "newOrderRespType"),
        ],
    )
    def test_a_limit_order_that_breaks_a_rule(self, venue: Any, change: Any, code: int, text: str) -> None:
        status, seen, message = refusal(venue, **(LIMIT | change))
        assert (status, seen) == (400, code)
        assert text in message
        assert not venue.engine.orders(venue.account)

    def test_market_orders_have_rules_of_their_own(self, venue: Any) -> None:
        market = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}
        assert refusal(venue, **market)[1] == -1102
        assert refusal(venue, **market, quantity="1", quoteOrderQty="10")[1] == -1106
        assert refusal(venue, **market, quantity="1", price="10")[1] == -1106
        assert refusal(venue, **market, quantity="200")[2] == "Filter failure: MARKET_LOT_SIZE"

    def test_a_maker_order_that_would_take(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        maker = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT_MAKER", "quantity": "0.1", "price": "50000"}
        assert refusal(venue, **maker) == (400, -2010, "Order would immediately match and take.")

    def test_a_client_id_is_unique_among_open_orders_only(self, venue: Any, capture: Any) -> None:
        first = place(venue, newClientOrderId="again")
        status, code, message = refusal(venue, **(LIMIT | {"newClientOrderId": "again"}))
        assert (status, {"code": code, "msg": message}) == (400, capture("error-duplicate-order"))
        assert place(venue, symbol="ETHUSDT", newClientOrderId="again")["clientOrderId"] == "again"
        venue.call(HOST, "DELETE", "order", symbol="BTCUSDT", origClientOrderId="again")
        second = place(venue, newClientOrderId="again")
        assert second["orderId"] != first["orderId"]
        shown = venue.call(HOST, "GET", "order", symbol="BTCUSDT", origClientOrderId="again")
        assert shown["orderId"] == second["orderId"]

    def test_a_market_that_is_halted(self, venue: Any) -> None:
        halted: Market = venue.engine.markets[BTC].model_copy(update={"status": MarketStatus.HALTED})
        venue.engine.list_market(halted)
        assert refusal(venue, **LIMIT) == (400, -1013, "Market is closed.")
        row = venue.get(HOST, "exchangeInfo", symbol="BTCUSDT")["symbols"][0]
        assert (row["status"], row["isSpotTradingAllowed"]) == ("BREAK", False)

    def test_orders_that_are_not_there(self, venue: Any, capture: Any) -> None:
        for params in ({"orderId": 12}, {"orderId": 10**12}, {"origClientOrderId": "nobody"}):
            status, code, message = refusal(venue, "GET", symbol="BTCUSDT", **params)
            assert (status, {"code": code, "msg": message}) == (400, capture("error-no-such-order"))
            status, code, message = refusal(venue, "DELETE", symbol="BTCUSDT", **params)
            assert (status, {"code": code, "msg": message}) == (400, capture("error-unknown-order-cancel"))
        assert refusal(venue, "GET", symbol="BTCUSDT")[1] == -1102

    def test_id_and_client_id_must_agree(self, venue: Any) -> None:
        order = place(venue, newClientOrderId="one")
        assert refusal(venue, "GET", symbol="BTCUSDT", orderId=order["orderId"], origClientOrderId="two")[1] == -2039

    def test_an_order_of_another_market_or_account_is_not_there(self, venue: Any) -> None:
        order = place(venue)
        assert refusal(venue, "GET", symbol="ETHUSDT", orderId=order["orderId"])[1] == -2013
        stranger = venue.open_account("stranger")
        found = venue.refused(HOST, "GET", "order", stranger, symbol="BTCUSDT", orderId=order["orderId"])
        assert found == -2013


class TestCancels:
    def test_a_cancel_has_a_client_id_of_its_own(self, venue: Any, capture: Any, unlike: Any) -> None:
        order = place(venue, newClientOrderId="mine")
        answer = venue.call(
            HOST, "DELETE", "order", symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="the-cancel"
        )
        assert (answer["origClientOrderId"], answer["clientOrderId"]) == ("mine", "the-cancel")
        assert (answer["orderId"], answer["status"]) == (order["orderId"], "CANCELED")
        assert not unlike(answer, capture("spot-order-cancel"))
        assert capture("spot-openOrders-cancelAll")[0].keys() == answer.keys()

    def test_a_filled_order_cannot_be_cancelled(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        order = place(venue)
        assert refusal(venue, "DELETE", symbol="BTCUSDT", orderId=order["orderId"])[1] == -2011

    def test_cancelling_all_of_a_market(self, venue: Any) -> None:
        for price in ("50000", "50001"):
            place(venue, price=price)
        place(venue, symbol="ETHUSDT", price="2000")
        answer = venue.call(HOST, "DELETE", "openOrders", symbol="BTCUSDT")
        assert [row["status"] for row in answer] == ["CANCELED", "CANCELED"]
        assert [row["symbol"] for row in venue.call(HOST, "GET", "openOrders")] == ["ETHUSDT"]
        assert refusal(venue, "DELETE", "openOrders", symbol="BTCUSDT")[1] == -2011


class TestReplacing:
    REPLACE = LIMIT | {"cancelReplaceMode": "STOP_ON_FAILURE", "price": "51000"}

    def test_both_succeed(self, venue: Any) -> None:
        old = place(venue)
        answer = venue.call(HOST, "POST", "order/cancelReplace", **self.REPLACE, cancelOrderId=old["orderId"])
        assert (answer["cancelResult"], answer["newOrderResult"]) == ("SUCCESS", "SUCCESS")
        assert answer["cancelResponse"]["orderId"] == old["orderId"]
        assert answer["newOrderResponse"]["price"] == "51000.00000000"

    def test_a_failed_cancel_stops_the_rest(self, venue: Any) -> None:
        answer = venue.signed(HOST, "POST", "order/cancelReplace", **self.REPLACE, cancelOrderId=1)
        body = json.loads(answer.body)
        assert (answer.status, body["code"]) == (400, -2022)
        assert (body["data"]["cancelResult"], body["data"]["newOrderResult"]) == ("FAILURE", "NOT_ATTEMPTED")
        assert body["data"]["cancelResponse"]["code"] == -2011
        assert not venue.engine.open_orders(venue.account)

    def test_one_of_two_is_a_conflict(self, venue: Any) -> None:
        old = place(venue)
        wrong = self.REPLACE | {"price": "51000.001"}
        answer = venue.signed(HOST, "POST", "order/cancelReplace", **wrong, cancelOrderId=old["orderId"])
        body = json.loads(answer.body)
        assert (answer.status, body["code"]) == (409, -2021)
        assert (body["data"]["cancelResult"], body["data"]["newOrderResult"]) == ("SUCCESS", "FAILURE")
        assert body["data"]["newOrderResponse"]["code"] == -1013

    def test_amending_keeps_the_place_and_changes_the_client_id(self, venue: Any, capture: Any, unlike: Any) -> None:
        order = place(venue, newClientOrderId="before")
        venue.crowd(BTC, "BUY", "1", "50000")
        path = "order/amend/keepPriority"
        answer = venue.call(
            HOST, "PUT", path, symbol="BTCUSDT", origClientOrderId="before", newQty="0.04", newClientOrderId="after"
        )
        amended = answer["amendedOrder"]
        assert (amended["origClientOrderId"], amended["clientOrderId"], amended["qty"]) == (
            "before",
            "after",
            "0.04000000",
        )
        assert not unlike(answer, capture("spot-order-amend"))
        assert refusal(venue, "GET", symbol="BTCUSDT", origClientOrderId="before")[1] == -2013
        shown = venue.call(HOST, "GET", "order", symbol="BTCUSDT", origClientOrderId="after")
        assert (shown["orderId"], shown["origQty"]) == (order["orderId"], "0.04000000")
        venue.crowd(BTC, "SELL", "0.04", "50000")
        assert venue.call(HOST, "GET", "order", symbol="BTCUSDT", origClientOrderId="after")["status"] == "FILLED"

    def test_amending_upwards_is_refused(self, venue: Any) -> None:
        order = place(venue)
        ref = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
        assert venue.refused(HOST, "PUT", "order/amend/keepPriority", **ref, newQty="0.2") == -2038
        assert venue.refused(HOST, "PUT", "order/amend/keepPriority", **ref, newQty="0.1") == -2038


class TestHistory:
    def test_fills_in_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        place(venue)
        venue.crowd(BTC, "SELL", "0.03", "50000")
        venue.clock.ms += 10
        venue.crowd(BTC, "SELL", "0.02", "50000")
        rows = venue.call(HOST, "GET", "myTrades", symbol="BTCUSDT")
        assert [(row["qty"], row["isMaker"], row["isBuyer"]) for row in rows] == [
            ("0.03000000", True, True),
            ("0.02000000", True, True),
        ]
        assert rows[0].keys() == capture("spot-myTrades")[0].keys()
        assert not unlike(rows, capture("spot-myTrades"))
        assert venue.call(HOST, "GET", "myTrades", symbol="BTCUSDT", fromId=rows[1]["id"]) == rows[1:]
        assert venue.call(HOST, "GET", "myTrades", symbol="BTCUSDT", startTime=venue.clock.ms) == rows[1:]
        assert [row["id"] for row in rows] == [row["id"] for row in venue.get(HOST, "trades", symbol="BTCUSDT")]

    def test_windows_of_more_than_a_day_are_refused(self, venue: Any) -> None:
        place(venue)
        now = venue.clock.ms
        assert refusal(venue, "GET", "allOrders", symbol="BTCUSDT", startTime=now - 86_400_001, endTime=now)[1] == -1127

    def test_all_orders_from_an_id_on(self, venue: Any) -> None:
        orders = [place(venue, price=price) for price in ("50000", "50001", "50002")]
        rows = venue.call(HOST, "GET", "allOrders", symbol="BTCUSDT", orderId=orders[1]["orderId"])
        assert [row["orderId"] for row in rows] == [order["orderId"] for order in orders[1:]]
        newest = venue.call(HOST, "GET", "allOrders", symbol="BTCUSDT", limit=1)
        assert [row["orderId"] for row in newest] == [orders[2]["orderId"]]

    def test_weights_of_lists(self, venue: Any) -> None:
        def used(path: str, **params: Any) -> int:
            venue.clock.ms += 60_000
            return int(venue.signed(HOST, "GET", path, **params).headers["X-MBX-USED-WEIGHT-1M"])

        assert (used("openOrders", symbol="BTCUSDT"), used("openOrders")) == (6, 80)
        assert (used("myTrades", symbol="BTCUSDT", orderId=1), used("myTrades", symbol="BTCUSDT")) == (5, 20)


class TestAccount:
    def test_a_resting_order_locks_what_it_would_pay(self, venue: Any, capture: Any, unlike: Any) -> None:
        before, _ = free(venue, "USDT")
        place(venue)
        assert free(venue, "USDT") == (before - 5000, Decimal(5000))
        assert not unlike(venue.call(HOST, "GET", "account"), capture("spot-account"))

    def test_zero_balances_can_be_left_out(self, venue: Any) -> None:
        poor = venue.open_account("poor", {"spot": {"USDT": Decimal(5), "BTC": Decimal(0)}})
        assert len(venue.call(HOST, "GET", "account", poor)["balances"]) == 2
        rows = venue.call(HOST, "GET", "account", poor, omitZeroBalances="true")["balances"]
        assert [row["asset"] for row in rows] == ["USDT"]

    def test_commission_rates_are_the_engines(self, venue: Any, capture: Any, unlike: Any) -> None:
        rates = venue.call(HOST, "GET", "account/commission", symbol="BTCUSDT")
        maker, taker = venue.engine.fee_rates(BTC)
        shown = rates["standardCommission"]
        assert (Decimal(shown["maker"]), Decimal(shown["taker"])) == (maker, taker)
        assert not unlike(rates, capture("spot-commission"))
