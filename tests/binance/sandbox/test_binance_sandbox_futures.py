"""USD-M and COIN-M through the venue's REST: orders, algo orders, positions, modes."""

import json
from decimal import Decimal
from typing import Any

import pytest

BTC_PERP, BTC_COIN = "BINANCE-PERP-BTC-USDT", "BINANCE-PERP-BTC-USD-COINM"
LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
UM = LIMIT | {"symbol": "BTCUSDT", "quantity": "0.1", "price": "50000"}
CM = LIMIT | {"symbol": "BTCUSD_PERP", "quantity": "3", "price": "50000"}
BOTH = pytest.mark.parametrize(
    ("host", "order", "symbol"), [("usdm_rest", UM, BTC_PERP), ("coinm_rest", CM, BTC_COIN)], ids=["usdm", "coinm"]
)


def place(venue: Any, host: str, order: Any, **params: Any) -> Any:
    return venue.call(host, "POST", "order", **(order | params))


class TestOrders:
    @BOTH
    def test_an_acknowledgement_has_no_average_price(
        self, venue: Any, capture: Any, unlike: Any, host: str, order: Any, symbol: str
    ) -> None:
        answer = place(venue, host, order, newClientOrderId="mine")
        documented = capture("usdm-order-new" if host == "usdm_rest" else "coinm-order-new")
        trailing = {"activatePrice", "priceRate"}
        assert answer.keys() == documented.keys() - trailing
        assert not unlike(answer, documented)
        assert not {"avgPrice", "cumQuote", "cumBase"} & answer.keys()
        assert (answer["status"], answer["clientOrderId"]) == ("NEW", "mine")

    @BOTH
    def test_an_acknowledgement_is_given_before_the_match(self, venue: Any, host: str, order: Any, symbol: str) -> None:
        venue.crowd(symbol, "SELL", order["quantity"], "50000")
        answer = place(venue, host, order)
        assert (answer["status"], Decimal(answer["executedQty"])) == ("NEW", Decimal(0))
        shown = venue.call(host, "GET", "order", symbol=order["symbol"], orderId=answer["orderId"])
        assert (shown["status"], Decimal(shown["executedQty"])) == ("FILLED", Decimal(order["quantity"]))

    @pytest.mark.parametrize(
        ("params", "status"),
        [
            ({"type": "MARKET", "price": None, "timeInForce": None}, "FILLED"),
            ({"timeInForce": "IOC"}, "FILLED"),
            ({"timeInForce": "FOK"}, "FILLED"),
            ({"timeInForce": "GTC"}, "NEW"),
        ],
    )
    def test_result_tells_the_outcome_of_what_cannot_rest(self, venue: Any, params: Any, status: str) -> None:
        venue.crowd(BTC_PERP, "SELL", "1", "50000")
        order = {key: value for key, value in (UM | params).items() if value is not None}
        answer = venue.call("usdm_rest", "POST", "order", **order, newOrderRespType="RESULT")
        assert answer["status"] == status

    def test_a_query_has_average_and_value(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.crowd(BTC_PERP, "SELL", "0.05", "49000")
        venue.crowd(BTC_PERP, "SELL", "0.02", "49500")
        placed = place(venue, "usdm_rest", UM)
        shown = venue.call("usdm_rest", "GET", "order", symbol="BTCUSDT", orderId=placed["orderId"])
        recorded = capture("usdm-openOrder-LTCUSDT")
        assert shown.keys() == recorded.keys()
        assert not unlike(shown, recorded)
        assert (shown["avgPrice"], shown["cumQuote"]) == ("49142.85714", "3440.00000")
        assert venue.call("usdm_rest", "GET", "openOrder", symbol="BTCUSDT", orderId=placed["orderId"]) == shown

    def test_the_average_of_inverse_contracts_is_worth_the_same_coin(self, venue: Any, capture: Any) -> None:
        venue.crowd(BTC_COIN, "SELL", "1", "40000")
        venue.crowd(BTC_COIN, "SELL", "1", "60000")
        placed = place(venue, "coinm_rest", CM, quantity="2", price="60000")
        shown = venue.call("coinm_rest", "GET", "order", symbol="BTCUSD_PERP", orderId=placed["orderId"])
        assert shown["cumBase"] == "0.00416667"
        assert Decimal(shown["avgPrice"]) == 48000
        trailing = {"activatePrice", "priceRate"}
        assert shown.keys() == capture("coinm-order-query").keys() - trailing

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"type": "STOP_MARKET", "stopPrice": "60000"}, -4120),
            ({"type": "TAKE_PROFIT"}, -4120),
            ({"type": "TRAILING_STOP_MARKET"}, -4120),
            ({"type": "LIMIT_MAKER"}, -1116),
            ({"price": None}, -1102),
            ({"timeInForce": None}, -1102),
            ({"timeInForce": "DAY"}, -1115),
            ({"side": "LONG"}, -1117),
            ({"quantity": "0.0001"}, -1111),
            ({"price": "50000.05"}, -4014),
            ({"quantity": "1001"}, -4005),
            ({"quantity": "0.001", "price": "100"}, -4164),
            ({"quantity": "900", "price": "1000000"}, -2019),
            ({"positionSide": "LONG"}, -4061),
            ({"positionSide": "UP"}, -4060),
            ({"stopPrice": "1"}, -1106),
            ({"timeInForce": "GTD"}, -1102),
            ({"timeInForce": "GTD", "goodTillDate": 1_795_262_999_999}, -5040),
            ({"goodTillDate": 1_795_264_000_000}, -1106),
            ({"reduceOnly": "true"}, -2022),
            ({"priceMatch": "QUEUE"}, -1020),
            ({"newOrderRespType": "FULL"}, -1130),
            ({"icebergQty": "1"}, -1104),
        ],
    )
    def test_an_order_that_breaks_a_rule(self, venue: Any, change: Any, code: int) -> None:
        order = {key: value for key, value in (UM | change).items() if value is not None}
        assert venue.refused("usdm_rest", "POST", "order", **order) == code
        assert not venue.engine.orders(venue.account)

    def test_the_refusals_are_worded_as_documented(self, venue: Any, capture: Any) -> None:
        stop = json.loads(venue.signed("usdm_rest", "POST", "order", **(UM | {"type": "STOP"})).body)
        assert stop == capture("error-usdm-algo-only")
        costly = UM | {"quantity": "900", "price": "1000000"}
        assert json.loads(venue.signed("usdm_rest", "POST", "order", **costly).body) == capture("error-usdm-margin")

    @BOTH
    def test_orders_that_would_take_or_cannot_fill_leave_no_trace(
        self, venue: Any, host: str, order: Any, symbol: str
    ) -> None:
        venue.crowd(symbol, "SELL", "1", "50000")
        assert venue.refused(host, "POST", "order", **(order | {"timeInForce": "GTX"})) == -5022
        too_many = order | {"timeInForce": "FOK", "quantity": "2"}
        assert venue.refused(host, "POST", "order", **too_many) == -5021
        assert venue.call(host, "GET", "allOrders", symbol=order["symbol"]) == []

    @BOTH
    def test_client_ids_are_free_again_when_the_order_is_done(
        self, venue: Any, host: str, order: Any, symbol: str
    ) -> None:
        place(venue, host, order, newClientOrderId="again")
        assert venue.refused(host, "POST", "order", **order, newClientOrderId="again") == -4116
        venue.call(host, "DELETE", "order", symbol=order["symbol"], origClientOrderId="again")
        place(venue, host, order, newClientOrderId="again")

    def test_good_till_date_is_cut_to_the_second_and_ends_the_order(self, venue: Any) -> None:
        date = venue.clock.ms + 700_123
        answer = place(venue, "usdm_rest", UM, timeInForce="GTD", goodTillDate=date)
        assert answer["goodTillDate"] == date // 1000 * 1000
        venue.clock.ms += 700_000
        venue.engine.expire_due()
        shown = venue.call("usdm_rest", "GET", "order", symbol="BTCUSDT", orderId=answer["orderId"])
        assert shown["status"] == "EXPIRED"

    @BOTH
    def test_cancelling(self, venue: Any, capture: Any, unlike: Any, host: str, order: Any, symbol: str) -> None:
        placed = place(venue, host, order, newClientOrderId="mine")
        answer = venue.call(host, "DELETE", "order", symbol=order["symbol"], origClientOrderId="mine")
        documented = capture("usdm-order-cancel" if host == "usdm_rest" else "coinm-order-cancel")
        assert answer.keys() == documented.keys() - {"activatePrice", "priceRate"}
        assert (answer["status"], answer["orderId"], answer["clientOrderId"]) == ("CANCELED", placed["orderId"], "mine")
        assert venue.refused(host, "DELETE", "order", symbol=order["symbol"], origClientOrderId="mine") == -2011

    @BOTH
    def test_cancelling_all_answers_with_a_code_that_is_no_error(
        self, venue: Any, capture: Any, host: str, order: Any, symbol: str
    ) -> None:
        place(venue, host, order)
        answer = venue.call(host, "DELETE", "allOpenOrders", symbol=order["symbol"])
        assert answer == capture("usdm-allOpenOrders-cancel")
        assert venue.call(host, "GET", "openOrders") == []

    def test_a_batch_is_answered_one_by_one(self, venue: Any) -> None:
        rows = [UM | {"newClientOrderId": "a"}, UM | {"type": "STOP"}, UM | {"newClientOrderId": "a"}]
        answers = venue.call("usdm_rest", "POST", "batchOrders", batchOrders=json.dumps(rows))
        assert [answer.get("code", answer.get("status")) for answer in answers] == ["NEW", -4120, -4116]
        cancelled = venue.call(
            "usdm_rest", "DELETE", "batchOrders", symbol="BTCUSDT", origClientOrderIdList='["a","b"]'
        )
        assert [answer.get("code", answer.get("status")) for answer in cancelled] == ["CANCELED", -2011]
        assert venue.refused("usdm_rest", "POST", "batchOrders", batchOrders=json.dumps([UM] * 6)) == -4082
        assert venue.refused("usdm_rest", "POST", "batchOrders", batchOrders="{}") == -1100

    def test_open_orders_without_a_symbol_are_dear(self, venue: Any) -> None:
        assert venue.signed("usdm_rest", "GET", "openOrders").headers["X-MBX-USED-WEIGHT-1M"] == "40"

    def test_coinm_lists_by_pair(self, venue: Any) -> None:
        place(venue, "coinm_rest", CM)
        place(venue, "coinm_rest", CM, symbol="ETHUSD_PERP", price="2000")
        rows = venue.call("coinm_rest", "GET", "openOrders", pair="ETHUSD")
        assert [row["symbol"] for row in rows] == ["ETHUSD_PERP"]


class TestModifying:
    def test_price_and_quantity_change_and_the_id_stays(self, venue: Any, capture: Any, unlike: Any) -> None:
        placed = place(venue, "usdm_rest", UM)
        answer = venue.call(
            "usdm_rest", "PUT", "order", symbol="BTCUSDT", side="BUY", orderId=placed["orderId"], quantity="0.2",
            price="50001", modifyId=4,
        )  # fmt: skip
        documented = capture("usdm-order-modify")
        assert answer.keys() == documented.keys()
        assert not unlike(answer, documented)
        assert (answer["orderId"], answer["origQty"], answer["price"]) == (placed["orderId"], "0.200", "50001.00")

    @pytest.mark.parametrize("missing", ["price", "quantity", "side"])
    def test_price_quantity_and_side_are_mandatory(self, venue: Any, missing: str) -> None:
        placed = place(venue, "coinm_rest", CM)
        change = {"symbol": "BTCUSD_PERP", "side": "BUY", "orderId": placed["orderId"], "quantity": "4", "price": "1"}
        del change[missing]
        assert venue.refused("coinm_rest", "PUT", "order", **change) == -1102

    def test_a_quantity_that_is_filled_already_cancels_the_order(self, venue: Any) -> None:
        placed = place(venue, "usdm_rest", UM)
        venue.crowd(BTC_PERP, "SELL", "0.06", "50000")
        change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"], "price": "50000"}
        assert venue.call("usdm_rest", "PUT", "order", **change, quantity="0.05")["status"] == "CANCELED"

    def test_a_post_only_order_moved_across_the_spread_is_cancelled(self, venue: Any) -> None:
        placed = place(venue, "usdm_rest", UM, timeInForce="GTX")
        venue.crowd(BTC_PERP, "SELL", "1", "50100")
        change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"], "quantity": "0.1"}
        assert venue.call("usdm_rest", "PUT", "order", **change, price="50100")["status"] == "CANCELED"

    def test_nothing_to_change(self, venue: Any) -> None:
        placed = place(venue, "usdm_rest", UM)
        same = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"], "quantity": "0.1", "price": "50000"}
        assert venue.refused("usdm_rest", "PUT", "order", **same) == -5027


STOP = {
    "algoType": "CONDITIONAL",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "STOP_MARKET",
    "quantity": "0.1",
    "triggerPrice": "45000",
}


class TestAlgoOrders:
    def stop(self, venue: Any, **params: Any) -> Any:
        return venue.call("usdm_rest", "POST", "algoOrder", **(STOP | params))

    def fall(self, venue: Any, price: str) -> None:
        """The last price falls to `price`, where somebody bids."""
        venue.crowd(BTC_PERP, "BUY", "1", price)
        venue.crowd(BTC_PERP, "SELL", "0.5", price)

    def test_shapes(self, venue: Any, capture: Any, unlike: Any) -> None:
        placed = self.stop(venue, type="TAKE_PROFIT", price="120000", triggerPrice="120000", clientAlgoId="tp")
        documented = capture("usdm-algoOrder-new")
        assert placed.keys() == documented.keys()
        assert not unlike(placed, documented)
        (listed,) = venue.call("usdm_rest", "GET", "openAlgoOrders")
        assert listed.keys() == capture("usdm-openAlgoOrders")[0].keys()
        assert (listed["actualOrderId"], listed["algoStatus"]) == ("", "NEW")
        cancelled = venue.call("usdm_rest", "DELETE", "algoOrder", clientAlgoId="tp")
        assert cancelled.keys() == capture("usdm-algoOrder-cancel").keys()
        assert (cancelled["code"], cancelled["algoId"]) == ("200", placed["algoId"])
        assert venue.call("usdm_rest", "GET", "algoOrder", algoId=placed["algoId"])["algoStatus"] == "CANCELED"

    def test_what_waits_is_no_order_yet(self, venue: Any) -> None:
        placed = self.stop(venue, clientAlgoId="stop")
        assert venue.call("usdm_rest", "GET", "openOrders") == []
        assert venue.call("usdm_rest", "GET", "allOrders", symbol="BTCUSDT") == []
        assert venue.refused("usdm_rest", "GET", "order", symbol="BTCUSDT", origClientOrderId="stop") == -2013
        assert venue.refused("usdm_rest", "GET", "order", symbol="BTCUSDT", orderId=placed["algoId"]) == -2013
        venue.call("usdm_rest", "DELETE", "allOpenOrders", symbol="BTCUSDT")
        assert len(venue.call("usdm_rest", "GET", "openAlgoOrders", symbol="BTCUSDT")) == 1
        venue.call("usdm_rest", "DELETE", "algoOpenOrders", symbol="BTCUSDT")
        assert venue.call("usdm_rest", "GET", "openAlgoOrders", symbol="BTCUSDT") == []

    def test_client_ids_of_algo_orders_are_a_space_of_their_own(self, venue: Any) -> None:
        self.stop(venue, clientAlgoId="same")
        place(venue, "usdm_rest", UM, newClientOrderId="same")
        assert venue.refused("usdm_rest", "POST", "algoOrder", **STOP, clientAlgoId="same") == -4116

    def test_a_trigger_makes_an_order_with_an_id_of_its_own(self, venue: Any) -> None:
        venue.crowd(BTC_PERP, "SELL", "1", "50000")
        place(venue, "usdm_rest", UM, quantity="0.1", type="LIMIT")  # long 0.1
        placed = self.stop(venue, clientAlgoId="stop", reduceOnly="true")
        self.fall(venue, "45000")
        algo = venue.call("usdm_rest", "GET", "algoOrder", clientAlgoId="stop")
        assert algo["algoStatus"] == "FINISHED"
        assert algo["triggerTime"] == venue.clock.ms
        assert algo["actualOrderId"] not in ("", str(placed["algoId"]))
        order = venue.call("usdm_rest", "GET", "order", symbol="BTCUSDT", orderId=algo["actualOrderId"])
        assert (order["type"], order["origType"], order["status"]) == ("MARKET", "STOP_MARKET", "FILLED")
        assert Decimal(algo["actualPrice"]) == Decimal(order["avgPrice"]) == 45000
        assert venue.refused("usdm_rest", "DELETE", "algoOrder", clientAlgoId="stop") == -2011

    def test_a_triggered_limit_order_rests_and_is_cancelled_as_an_order(self, venue: Any) -> None:
        self.stop(venue, type="STOP", price="47000", timeInForce="GTC", clientAlgoId="stop")
        self.fall(venue, "45000")
        algo = venue.call("usdm_rest", "GET", "algoOrder", clientAlgoId="stop")
        assert algo["algoStatus"] == "TRIGGERED"
        (resting,) = venue.call("usdm_rest", "GET", "openOrders")
        assert (str(resting["orderId"]), resting["type"], resting["clientOrderId"]) == (
            algo["actualOrderId"],
            "LIMIT",
            "stop",
        )
        venue.call("usdm_rest", "DELETE", "order", symbol="BTCUSDT", orderId=resting["orderId"])
        assert venue.call("usdm_rest", "GET", "algoOrder", clientAlgoId="stop")["algoStatus"] == "FINISHED"

    def test_an_order_that_is_not_taken_when_triggered_is_rejected(self, venue: Any) -> None:
        self.stop(venue, clientAlgoId="stop", reduceOnly="true")  # there is no position to reduce
        self.fall(venue, "45000")
        algo = venue.call("usdm_rest", "GET", "algoOrder", clientAlgoId="stop")
        assert (algo["algoStatus"], algo["actualOrderId"]) == ("REJECTED", "")
        assert venue.call("usdm_rest", "GET", "allOrders", symbol="BTCUSDT") == []

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"algoType": "VP"}, -1130),
            ({"type": "LIMIT"}, -1116),
            ({"type": "TRAILING_STOP_MARKET"}, -1020),
            ({"triggerPrice": None}, -1102),
            ({"quantity": None}, -1102),
            ({"price": "1"}, -1106),
            ({"type": "STOP"}, -1102),
            ({"triggerPrice": "95000"}, -2021),
            ({"closePosition": "true"}, -1020),
            ({"stopPrice": "45000"}, -1104),
        ],
    )
    def test_refusals(self, venue: Any, change: Any, code: int) -> None:
        order = {key: value for key, value in (STOP | change).items() if value is not None}
        assert venue.refused("usdm_rest", "POST", "algoOrder", **order) == code

    def test_coinm_has_the_three_endpoints_only(self, venue: Any) -> None:
        stop = STOP | {"symbol": "BTCUSD_PERP", "quantity": "3"}
        placed = venue.call("coinm_rest", "POST", "algoOrder", **stop)
        assert len(venue.call("coinm_rest", "GET", "openAlgoOrders")) == 1
        venue.call("coinm_rest", "DELETE", "algoOrder", algoId=placed["algoId"])
        assert venue.ask("coinm_rest", "GET", "algoOrder").status == 404


class TestPositions:
    def buy(self, venue: Any, host: str, symbol: str, native: str, quantity: str, price: str, **more: Any) -> None:
        venue.crowd(symbol, "SELL", quantity, price)
        venue.call(host, "POST", "order", symbol=native, side="BUY", type="MARKET", quantity=quantity, **more)

    def test_a_usdm_position_in_the_recorded_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        self.buy(venue, "usdm_rest", BTC_PERP, "BTCUSDT", "0.009", "67445.9")
        venue.crowd(BTC_PERP, "BUY", "1", "67500")
        venue.crowd(BTC_PERP, "SELL", "1", "67505.4")
        (row,) = venue.call("usdm_rest", "GET", "/fapi/v3/positionRisk")
        recorded = capture("usdm-positionRisk-BTCUSDT")[0]
        assert row.keys() == recorded.keys()
        assert not unlike(row, recorded)
        assert (row["positionAmt"], row["entryPrice"]) == ("0.009", "67445.9")
        assert Decimal(row["unRealizedProfit"]) == (Decimal("67502.7") - Decimal("67445.9")) * Decimal("0.009")

    def test_v3_shows_what_is_held_or_ordered_and_v2_everything(self, venue: Any) -> None:
        assert venue.call("usdm_rest", "GET", "/fapi/v3/positionRisk") == []
        place(venue, "usdm_rest", UM)
        (row,) = venue.call("usdm_rest", "GET", "/fapi/v3/positionRisk")
        assert (row["symbol"], Decimal(row["positionAmt"])) == ("BTCUSDT", Decimal(0))
        rows = venue.call("usdm_rest", "GET", "/fapi/v2/positionRisk")
        assert len(rows) == 6
        assert {row["leverage"] for row in rows} == {"20"}

    def test_a_short_inverse_position_is_worth_what_was_recorded(self, venue: Any, capture: Any, unlike: Any) -> None:
        # Short 3 BTCUSD_PERP at mark 68234.2 has notionalValue -0.00439662 BTC.
        venue.crowd(BTC_COIN, "BUY", "3", "68000")
        venue.call("coinm_rest", "POST", "order", symbol="BTCUSD_PERP", side="SELL", type="MARKET", quantity="3")
        venue.crowd(BTC_COIN, "BUY", "1", "68234.1")
        venue.crowd(BTC_COIN, "SELL", "1", "68234.3")
        rows = venue.call("coinm_rest", "GET", "positionRisk")
        row = next(row for row in rows if row["symbol"] == "BTCUSD_PERP")
        assert (row["positionAmt"], row["notionalValue"]) == ("-3", "-0.00439662")
        profit = 3 * 100 * (1 / Decimal("68234.2") - 1 / Decimal(68000))
        assert Decimal(row["unRealizedProfit"]) == profit.quantize(Decimal("1E-8"))
        extra = {"notionalValue"}
        documented = capture("coinm-positionRisk-doc")[0]
        assert row.keys() - extra == documented.keys()
        assert not unlike({k: v for k, v in row.items() if k not in extra}, documented)
        assert len(rows) == 3
        assert [row["symbol"] for row in venue.call("coinm_rest", "GET", "positionRisk", pair="ETHUSD")] == [
            "ETHUSD_PERP"
        ]

    def test_hedge_mode_is_shared_and_gives_two_rows(self, venue: Any) -> None:
        assert venue.call("coinm_rest", "GET", "positionSide/dual") == {"dualSidePosition": False}
        assert venue.refused("usdm_rest", "POST", "positionSide/dual", dualSidePosition="false") == -4059
        venue.call("usdm_rest", "POST", "positionSide/dual", dualSidePosition="true")
        assert venue.call("coinm_rest", "GET", "positionSide/dual") == {"dualSidePosition": True}
        assert venue.refused("usdm_rest", "POST", "order", **UM) == -4061
        both_ways = UM | {"positionSide": "LONG", "reduceOnly": "false"}
        assert venue.refused("usdm_rest", "POST", "order", **both_ways) == -1106
        self.buy(venue, "usdm_rest", BTC_PERP, "BTCUSDT", "0.1", "50000", positionSide="LONG")
        rows = venue.call("usdm_rest", "GET", "/fapi/v3/positionRisk")
        assert [(row["positionSide"], row["positionAmt"]) for row in rows] == [("LONG", "0.100"), ("SHORT", "0.000")]
        assert venue.refused("coinm_rest", "POST", "positionSide/dual", dualSidePosition="false") == -4068

    def test_open_orders_block_the_mode(self, venue: Any) -> None:
        place(venue, "coinm_rest", CM)
        assert venue.refused("usdm_rest", "POST", "positionSide/dual", dualSidePosition="true") == -4067

    def test_leverage_changes_the_margin(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.call("usdm_rest", "POST", "leverage", symbol="BTCUSDT", leverage=50)
        self.buy(venue, "usdm_rest", BTC_PERP, "BTCUSDT", "0.1", "50000")
        (config,) = venue.call("usdm_rest", "GET", "symbolConfig", symbol="BTCUSDT")
        assert (config["leverage"], config["marginType"]) == (50, "CROSSED")
        assert not unlike([config], capture("usdm-symbolConfig"))
        (balance,) = [row for row in venue.call("usdm_rest", "GET", "/fapi/v3/balance") if row["asset"] == "USDT"]
        held = Decimal(balance["balance"]) - Decimal(balance["availableBalance"])
        assert held == Decimal("0.1") * 50000 / 50
        assert venue.refused("usdm_rest", "POST", "leverage", symbol="BTCUSDT", leverage=126) == -4028

    def test_margin_types(self, venue: Any) -> None:
        assert venue.refused("usdm_rest", "POST", "marginType", symbol="BTCUSDT", marginType="CROSSED") == -4046
        assert venue.call("usdm_rest", "POST", "marginType", symbol="BTCUSDT", marginType="ISOLATED")["code"] == 200
        self.buy(venue, "usdm_rest", BTC_PERP, "BTCUSDT", "0.1", "50000")
        assert venue.refused("usdm_rest", "POST", "marginType", symbol="BTCUSDT", marginType="CROSSED") == -4048

    def test_reducing_only(self, venue: Any) -> None:
        self.buy(venue, "usdm_rest", BTC_PERP, "BTCUSDT", "0.1", "50000")
        venue.crowd(BTC_PERP, "BUY", "1", "49000")
        close = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.5", "reduceOnly": "true"}
        venue.call("usdm_rest", "POST", "order", **close)
        assert venue.call("usdm_rest", "GET", "/fapi/v3/positionRisk") == []
        assert venue.refused("usdm_rest", "POST", "order", **close) == -2022

    def test_fills_in_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        for host, symbol, native, quantity, captured in (
            ("usdm_rest", BTC_PERP, "BTCUSDT", "0.1", "usdm-userTrades"),
            ("coinm_rest", BTC_COIN, "BTCUSD_PERP", "2", "coinm-userTrades"),
        ):
            self.buy(venue, host, symbol, native, quantity, "50000")
            rows = venue.call(host, "GET", "userTrades", symbol=native)
            assert rows[0].keys() == capture(captured)[0].keys()
            assert not unlike(rows, capture(captured))
            assert (rows[0]["buyer"], rows[0]["maker"], rows[0]["positionSide"]) == (True, False, "BOTH")
        assert rows[0]["commissionAsset"] == "BTC"
        assert rows[0]["baseQty"] == "0.00400000"
        assert venue.refused("coinm_rest", "GET", "userTrades") == -1102
        assert venue.refused("usdm_rest", "GET", "userTrades", symbol="BTCUSDT", fromId=1, startTime=1) == -1128

    def test_accounts_in_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        self.buy(venue, "usdm_rest", BTC_PERP, "BTCUSDT", "0.1", "50000")
        assert not unlike(venue.call("usdm_rest", "GET", "/fapi/v3/account"), capture("usdm-account"))
        assert not unlike(venue.call("usdm_rest", "GET", "/fapi/v3/balance"), capture("usdm-balance"))
        assert not unlike(venue.call("coinm_rest", "GET", "balance"), capture("coinm-balance"))
        for host, captured in (("usdm_rest", "usdm-commissionRate"), ("coinm_rest", "coinm-commissionRate")):
            native = "BTCUSDT" if host == "usdm_rest" else "BTCUSD_PERP"
            rates = venue.call(host, "GET", "commissionRate", symbol=native)
            assert rates.keys() == capture(captured).keys()


class TestDeadManSwitch:
    def test_orders_are_cancelled_unless_one_calls_in_time(self, venue: Any) -> None:
        place(venue, "usdm_rest", UM)
        place(venue, "usdm_rest", UM, symbol="ETHUSDT", price="2000")
        venue.call("usdm_rest", "POST", "countdownCancelAll", symbol="BTCUSDT", countdownTime=5000)
        venue.clock.ms += 4999
        assert len(venue.call("usdm_rest", "GET", "openOrders")) == 2
        venue.call("usdm_rest", "POST", "countdownCancelAll", symbol="BTCUSDT", countdownTime=5000)
        venue.clock.ms += 4999
        assert len(venue.call("usdm_rest", "GET", "openOrders")) == 2
        venue.clock.ms += 1
        assert [row["symbol"] for row in venue.call("usdm_rest", "GET", "openOrders")] == ["ETHUSDT"]

    def test_zero_turns_it_off(self, venue: Any) -> None:
        place(venue, "usdm_rest", UM)
        venue.call("usdm_rest", "POST", "countdownCancelAll", symbol="BTCUSDT", countdownTime=1000)
        venue.call("usdm_rest", "POST", "countdownCancelAll", symbol="BTCUSDT", countdownTime=0)
        venue.clock.ms += 60_000
        assert len(venue.call("usdm_rest", "GET", "openOrders")) == 1
