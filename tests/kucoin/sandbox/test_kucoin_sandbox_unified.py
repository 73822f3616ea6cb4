"""Unified accounts: orders of both products, pushes, money."""

import json
from decimal import Decimal
from typing import Any

import pytest

from astra.models.orders import OrderType

BTC, XBT = "KUCOIN-SPOT-BTC-USDT", "KUCOIN-PERP-XBT-USDT"
V2 = "/api/ua/v2"
SPOT_ORDER = {
    "tradeType": "SPOT",
    "symbol": "BTC-USDT",
    "side": "BUY",
    "orderType": "LIMIT",
    "price": "50000",
    "size": "0.1",
    "sizeUnit": "BASECCY",
}
FUTURES_ORDER = SPOT_ORDER | {
    "tradeType": "FUTURES",
    "symbol": "XBTUSDTM",
    "size": "100",
    "sizeUnit": "UNIT",
    "clientOid": "u1",
}


def place(venue: Any, order: Any, **changes: Any) -> Any:
    values = {name: value for name, value in (order | changes).items() if value is not None}
    return venue.call("spot_rest", "POST", f"{V2}/unified/order/place", **values)


def detail(venue: Any, order: Any, native: str) -> Any:
    which = {name: order[name] for name in ("tradeType", "symbol")}
    return venue.call("spot_rest", "GET", f"{V2}/unified/order/detail", **which, orderId=native)


class TestOrders:
    @pytest.mark.parametrize("order", [SPOT_ORDER, FUTURES_ORDER], ids=["spot", "futures"])
    def test_the_life_of_an_order(self, unified: Any, capture: Any, unlike: Any, order: Any) -> None:
        placed = place(unified, order, clientOid="life")
        assert unlike(placed, capture("uta-place-order")) == []
        assert (len(placed["orderId"]), placed["tradeType"]) == (18, order["tradeType"])
        row = detail(unified, order, placed["orderId"])
        assert unlike(row, capture("uta-order")) == []
        assert (row["status"], row["size"], row["sizeUnit"]) == (2, order["size"], order["sizeUnit"])
        listed = unified.call(
            "spot_rest", "GET", f"{V2}/unified/order/open-list", tradeType=order["tradeType"], symbol=order["symbol"]
        )
        assert unlike(listed, capture("uta-open-orders")) == []
        assert listed["items"][0]["orderId"] == placed["orderId"]
        named = {"tradeType": order["tradeType"], "symbol": order["symbol"], "clientOid": "life"}
        cancelled = unified.call("spot_rest", "POST", f"{V2}/unified/order/cancel", **named)
        assert unlike(cancelled, capture("uta-cancel-order")) == []
        row = detail(unified, order, placed["orderId"])
        assert (row["status"], row["cancelReason"], row["cancelSize"]) == (5, "USER", order["size"])
        history = unified.call(
            "spot_rest", "GET", f"{V2}/unified/order/history", tradeType=order["tradeType"], symbol=order["symbol"]
        )
        assert [one["orderId"] for one in history["items"]] == [placed["orderId"]]

    def test_a_market_buy_by_quote(self, unified: Any) -> None:
        unified.crowd(BTC, "SELL", "1", "50000")
        placed = place(unified, SPOT_ORDER, orderType="MARKET", price=None, size="500", sizeUnit="QUOTECCY")
        row = detail(unified, SPOT_ORDER, placed["orderId"])
        assert (row["status"], row["size"], row["filledSize"], row["avgPrice"]) == (3, "500", "500", "50000")
        assert placed["clientOid"] is None
        assert row["clientOid"] == ""

    def test_contracts_by_base(self, unified: Any) -> None:
        placed = place(unified, FUTURES_ORDER, size="0.25", sizeUnit="BASECCY")
        (order,) = unified.engine.open_orders(unified.account)
        assert order.quantity == 250
        assert detail(unified, FUTURES_ORDER, placed["orderId"])["size"] == "0.25"

    def test_amending_keeps_the_id_and_takes_numbers(self, unified: Any) -> None:
        placed = place(unified, SPOT_ORDER)
        path = f"{V2}/unified/order/amend"
        which = {"symbol": "BTC-USDT", "orderId": placed["orderId"]}
        answer = unified.call("spot_rest", "POST", path, **which, newPrice=49000.5, newSize=0.2, sizeUnit="BASECCY")
        assert answer == {"orderId": placed["orderId"], "clientOid": None}
        (order,) = unified.engine.open_orders(unified.account)
        assert (order.price, order.quantity) == (Decimal("49000.5"), Decimal("0.2"))
        assert unified.refused("spot_rest", "POST", path, **which, newSize=0.2) == "400100"
        answer = unified.signed("spot_rest", "POST", path.replace("v2", "v1"), **which, newPrice=1)
        assert answer.status == 404

    def test_partly_filled_then_cancelled_has_a_status_of_its_own(self, unified: Any) -> None:
        unified.crowd(BTC, "SELL", "0.04", "50000")
        placed = place(unified, SPOT_ORDER, timeInForce="IOC")
        row = detail(unified, SPOT_ORDER, placed["orderId"])
        assert (row["status"], row["cancelReason"], row["cancelSize"]) == (6, "IOC", "0.06")

    def test_a_post_only_order_that_would_take(self, unified: Any) -> None:
        unified.crowd(BTC, "SELL", "1", "50000")
        placed = place(unified, SPOT_ORDER, postOnly=True)
        row = detail(unified, SPOT_ORDER, placed["orderId"])
        assert (row["status"], row["cancelReason"]) == (5, "POST_ONLY")

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"symbol": "NOPE"}, "400100"),
            ({"clientOid": None}, "400100"),
            ({"sizeUnit": None}, "400100"),
            ({"sizeUnit": "QUOTECCY"}, "400100"),
            ({"side": "buy"}, "400100"),
            ({"timeInForce": "GTT", "cancelAfter": 5}, "400100"),
            ({"price": "50000.05"}, "300000"),
            ({"size": "900000", "price": "900000"}, "300003"),
            ({"whatever": 1}, "400100"),
        ],
    )
    def test_refusals(self, unified: Any, changes: Any, code: str) -> None:
        order = {name: value for name, value in (FUTURES_ORDER | changes).items() if value is not None}
        assert unified.refused("spot_rest", "POST", f"{V2}/unified/order/place", **order) == code

    def test_a_client_id_is_good_once(self, unified: Any) -> None:
        place(unified, FUTURES_ORDER)
        assert unified.refused("spot_rest", "POST", f"{V2}/unified/order/place", **FUTURES_ORDER) == "300018"

    def test_open_spot_orders_want_a_symbol(self, unified: Any) -> None:
        path = f"{V2}/unified/order/open-list"
        assert unified.refused("spot_rest", "GET", path, tradeType="SPOT") == "400100"
        assert unified.call("spot_rest", "GET", path, tradeType="FUTURES")["items"] == []

    def test_cancelling_many(self, unified: Any, capture: Any, unlike: Any) -> None:
        ids = [place(unified, SPOT_ORDER)["orderId"] for _ in range(4)]
        orders = [{"symbol": "BTC-USDT", "orderId": native} for native in (ids[0], "1")]
        answer = unified.call(
            "spot_rest", "POST", f"{V2}/unified/order/cancel-batch", tradeType="SPOT", cancelOrderList=orders
        )
        assert answer["items"][0] == {"orderId": ids[0]}
        assert answer["items"][1]["code"] == "100004"
        again = {"tradeType": "SPOT", "symbol": "BTC-USDT", "orderId": ids[0]}
        assert unified.refused("spot_rest", "POST", f"{V2}/unified/order/cancel", **again) == "100004"
        answer = unified.call(
            "spot_rest", "POST", f"{V2}/unified/order/cancel-all", tradeType="SPOT", symbol="BTC-USDT"
        )
        assert {row["orderId"] for row in answer["items"]} == set(ids[1:])

    def test_a_conditional_order_ends_and_its_child_goes_on(self, unified: Any) -> None:
        unified.crowd(BTC, "BUY", "1", "50000")
        unified.crowd(BTC, "SELL", "1", "50000")
        unified.crowd(BTC, "BUY", "1", "49000")
        trigger = {"side": "SELL", "triggerPrice": "49000", "triggerDirection": "DOWN", "price": "49500"}
        placed = place(unified, SPOT_ORDER, **trigger, clientOid="cond")
        (order,) = unified.engine.open_orders(unified.account)
        assert order.type is OrderType.STOP_LIMIT
        advanced = {"tradeType": "SPOT", "symbol": "BTC-USDT", "orderFilter": "ADVANCED"}
        (row,) = unified.call("spot_rest", "GET", f"{V2}/unified/order/open-list", **advanced)["items"]
        assert (row["orderId"], row["status"], row["triggerPrice"]) == (placed["orderId"], 0, "49000")
        client = unified.logged_in()
        client.ask("subscribe", "orderAll", tradeType="UNIFIED")
        unified.crowd(BTC, "SELL", "0.1", "49000")
        ended, opened = (frame["d"] for frame in client.line.take())
        assert (ended["oi"], ended["os"], ended["eT"]) == (placed["orderId"], 1, "TRIGGER")
        assert (opened["toi"], opened["os"], opened["eT"]) == (placed["orderId"], 2, "OPEN")
        parent = detail(unified, SPOT_ORDER, placed["orderId"])
        child = detail(unified, SPOT_ORDER, opened["oi"])
        assert (parent["status"], child["status"], child["triggerOrderId"]) == (1, 2, placed["orderId"])
        (ended_row,) = unified.call("spot_rest", "GET", f"{V2}/unified/order/history", **advanced)["items"]
        assert (ended_row["orderId"], ended_row["status"]) == (placed["orderId"], 1)
        named = {"tradeType": "SPOT", "symbol": "BTC-USDT", "orderId": opened["oi"]}
        unified.call("spot_rest", "POST", f"{V2}/unified/order/cancel", **named)

    def test_the_dead_mans_switch(self, unified: Any, capture: Any, unlike: Any) -> None:
        place(unified, FUTURES_ORDER)
        place(unified, SPOT_ORDER)
        answer = unified.call("spot_rest", "POST", "/api/ua/v1/dcp/set", tradeType="FUTURES", timeout=5)
        assert unlike(answer, capture("uta-set-dcp")) == []
        unified.clock.ms += 5000
        unified.sandbox.advance(unified.clock.ms)
        assert [order.market for order in unified.engine.open_orders(unified.account)] == [BTC]


class TestMoney:
    def test_fills(self, unified: Any, capture: Any, unlike: Any) -> None:
        for price in ("50000", "50010", "50020"):
            unified.crowd(BTC, "SELL", "0.1", price)
        place(unified, SPOT_ORDER, orderType="MARKET", price=None, size="0.3")
        path, which = f"{V2}/unified/order/execution", {"tradeType": "SPOT", "symbol": "BTC-USDT"}
        page = unified.call("spot_rest", "GET", path, **which, pageSize=2)
        assert unlike(page, capture("uta-user-trades")) == []
        rest = unified.call("spot_rest", "GET", path, **which, lastId=page["lastId"])
        assert [row["price"] for row in page["items"] + rest["items"]] == ["50020", "50010", "50000"]
        assert unified.call("spot_rest", "GET", path, **which, fillType="ADL")["items"] == []

    def test_balances_are_those_of_one_account(self, unified: Any, capture: Any, unlike: Any) -> None:
        place(unified, SPOT_ORDER)
        place(unified, FUTURES_ORDER)
        answer = unified.call("spot_rest", "GET", f"{V2}/unified/account/balance")
        assert unlike(answer, capture("uta-balances")) == []
        rows = {row["currency"]: row for row in answer["accounts"][0]["currencies"]}
        held = [b for b in unified.engine.balances(unified.account) if b.asset == "USDT"]
        assert Decimal(rows["USDT"]["balance"]) == sum(b.total for b in held)
        assert Decimal(rows["USDT"]["hold"]) == sum(b.locked for b in held) > 5000
        overview = unified.call("spot_rest", "GET", f"{V2}/unified/account/overview")
        assert unlike(overview, capture("uta-account-overview")) == []

    def test_positions_leverage_and_fees(self, unified: Any, capture: Any, unlike: Any) -> None:
        leverage = {"symbol": "XBTUSDTM", "leverage": "5"}
        assert unified.call("spot_rest", "POST", f"{V2}/unified/account/modify-leverage", **leverage) is None
        unified.crowd(XBT, "BUY", "100", "50000")
        place(unified, FUTURES_ORDER, side="SELL", orderType="MARKET", price=None)
        rows = unified.call("spot_rest", "GET", f"{V2}/unified/position/open-list")
        assert unlike(rows, capture("uta-positions")) == []
        assert (rows[0]["size"], rows[0]["leverage"], rows[0]["initialMargin"]) == ("-100", "5", "1000")
        fees = unified.call("spot_rest", "GET", f"{V2}/user/fee-rate", tradeType="SPOT", symbol="ETH-USDT")
        assert fees == capture("uta-fee-rate")


class TestPushes:
    def test_orders_executions_balances_and_positions(self, unified: Any, captured_frames: Any, unlike: Any) -> None:
        documented = captured_frames("uta-private")
        client = unified.logged_in()
        client.ask("subscribe", "orderAll", tradeType="UNIFIED")
        client.ask("subscribe", "execution", tradeType="UNIFIED")
        client.ask("subscribe", "balance", accountType="UNIFIED")
        client.ask("subscribe", "positionAll", tradeType="FUTURES")
        unified.crowd(BTC, "SELL", "0.1", "50000")
        unified.crowd(XBT, "SELL", "100", "50000")
        place(unified, SPOT_ORDER, orderType="MARKET", price=None, clientOid="push")
        frames = client.line.take()
        assert [frame["T"] for frame in frames][:3] == ["orderAll.UNIFIED", "orderAll.UNIFIED", "execution.UNIFIED"]
        for ours, theirs in zip(frames[:3], documented[:3], strict=True):
            assert unlike(ours, theirs) == []
        opened, filled = frames[0]["d"], frames[1]["d"]
        assert (opened["eT"], opened["os"], filled["eT"], filled["os"]) == ("OPEN", 2, "FILL", 3)
        assert unlike(frames[3], documented[3]) == []
        place(unified, FUTURES_ORDER, orderType="MARKET", price=None)
        positions = [frame for frame in client.line.take() if frame["T"] == "positionAll.FUTURES"]
        assert unlike(positions[0], documented[4]) == []
        assert positions[-1]["d"]["q"] == "100"

    def test_a_wrong_login_is_refused(self, unified: Any) -> None:
        client = unified.unified("private")
        frame = {"id": "1", "op": "auth", "kc-api-key": unified.account.key, "kc-api-timestamp": str(unified.clock.ms)}
        (answer,) = client.send(frame | {"kc-api-sign": "x", "kc-api-passphrase": "x"})
        assert (answer["id"], answer["result"]) == ("1", False)

    def test_a_classic_account_is_not_served(self, venue: Any) -> None:
        client = venue.logged_in()
        (answer,) = client.send({"id": "1", "action": "subscribe", "channel": "orderAll", "tradeType": "UNIFIED"})
        assert answer["result"] is False

    def test_trades_by_rest(self, unified: Any) -> None:
        unified.crowd(BTC, "SELL", "0.1", "50000")
        unified.crowd(BTC, "BUY", "0.1")
        body = unified.ask("spot_rest", "GET", f"{V2}/market/trade?tradeType=SPOT&symbol=BTC-USDT").body
        (row,) = json.loads(body)["data"]["list"]
        assert (row["price"], row["side"]) == ("50000", "buy")
