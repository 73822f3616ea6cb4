"""Classic spot: orders, stop orders, fills, money, the dead man's switch, and the private topics."""

import json
from decimal import Decimal
from typing import Any

import pytest

from astra.models.orders import OrderType
from astra_kucoin.sandbox import SandboxLimits

BTC = "KUCOIN-SPOT-BTC-USDT"
HF = "/api/v1/hf/orders"
ORDER = {"symbol": "BTC-USDT", "side": "buy", "type": "limit", "price": "50000", "size": "0.1"}


def refusal(venue: Any, **changes: Any) -> str:
    order = {name: value for name, value in (ORDER | changes).items() if value is not None}
    return str(venue.refused("spot_rest", "POST", HF, **order))


class TestPlacing:
    def test_answers_and_orders_are_of_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        placed = venue.spot_order(clientOid="mine-1")
        assert unlike(placed, capture("spot-hf-add-order")) == []
        assert len(placed["orderId"]) == 24
        order = venue.call("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
        assert unlike(order, capture("spot-hf-order-by-order-id")) == []
        assert (order["clientOid"], order["active"], order["size"], order["funds"]) == ("mine-1", True, "0.1", "5000")
        assert venue.call("spot_rest", "GET", f"{HF}/client-order/mine-1", symbol="BTC-USDT") == order
        assert venue.call("spot_rest", "GET", f"{HF}/active", symbol="BTC-USDT") == [order]
        paged = venue.call("spot_rest", "GET", f"{HF}/active/page", symbol="BTC-USDT")
        assert unlike(paged, capture("spot-hf-open-orders-by-page")) == []
        assert venue.call("spot_rest", "GET", f"{HF}/active/symbols") == {"symbols": ["BTC-USDT"]}

    def test_a_synchronous_place_says_what_became_of_it(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.crowd(BTC, "SELL", "0.04", "50000")
        placed = venue.call("spot_rest", "POST", f"{HF}/sync", **ORDER, clientOid="s")
        assert unlike(placed, capture("spot-hf-add-order-sync")) == []
        assert (placed["status"], placed["dealSize"], placed["remainSize"]) == ("open", "0.04", "0.06")

    def test_a_test_order_is_not_placed(self, venue: Any) -> None:
        placed = venue.call("spot_rest", "POST", f"{HF}/test", **ORDER, clientOid="t")
        assert venue.refused("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT") == "400100"

    def test_a_market_order_by_funds(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        placed = venue.spot_order(type="market", funds="5000", price="", size="")
        row = venue.call("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
        assert (row["dealSize"], row["dealFunds"], row["funds"], row["size"]) == ("0.1", "5000", "5000", "0")
        assert (row["active"], row["cancelExist"]) == (False, False)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"symbol": "NOPE-USDT"}, "900001"),
            ({"symbol": "LOKI-USDT", "price": "0.1", "size": "10"}, "200001"),
            ({"price": "50000.05"}, "400100"),
            ({"size": "0.000000001"}, "600100"),
            ({"size": "0.000001", "price": "50000"}, "600100"),
            ({"price": "1", "size": "0.001"}, "600101"),
            ({"size": "9000000"}, "200004"),
            ({"side": "BUY"}, "400100"),
            ({"sized": "1"}, "400100"),
            ({"size": None}, "400100"),
            ({"funds": "5"}, "400100"),
            ({"clientOid": "with space"}, "400100"),
            ({"clientOid": "x" * 41}, "400100"),
            ({"timeInForce": "GTT"}, "400100"),
            ({"remark": "x" * 21}, "400100"),
            ({"hidden": False}, "400413"),
            ({"iceberg": False}, "400413"),
            ({"visibleSize": "0"}, "400413"),
        ],
    )
    def test_refusals_have_the_venues_codes(self, venue: Any, changes: Any, code: str) -> None:
        answer = venue.signed("spot_rest", "POST", HF, **{k: v for k, v in (ORDER | changes).items() if v is not None})
        assert answer.status == 200
        assert json.loads(answer.body)["code"] == code
        assert venue.engine.orders(venue.account) == []

    def test_a_client_id_is_good_once(self, venue: Any) -> None:
        placed = venue.spot_order(clientOid="once")
        assert refusal(venue, clientOid="once") == "102426"
        venue.call("spot_rest", "DELETE", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
        assert refusal(venue, clientOid="once") == "102426"
        assert refusal(venue, clientOid="once", symbol="ETH-USDT", price="3000") == "102426"
        venue.futures_order("once")

    def test_a_post_only_order_that_would_take_is_accepted_and_cancelled(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        placed = venue.spot_order(postOnly=True, clientOid="po")
        row = venue.call("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
        assert (row["active"], row["cancelExist"], row["dealSize"]) == (False, True, "0")
        assert venue.call("spot_rest", "GET", f"{HF}/client-order/po", symbol="BTC-USDT") == row
        assert venue.call("spot_rest", "GET", f"{HF}/done", symbol="BTC-USDT")["items"] == [row]
        assert refusal(venue, clientOid="po") == "102426"
        assert venue.engine.trades(BTC) == []

    def test_time_in_force(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "0.04", "50000")
        fok = venue.spot_order(timeInForce="FOK")
        ioc = venue.spot_order(timeInForce="IOC")
        for placed, dealt, cancelled in ((fok, "0", "0.1"), (ioc, "0.04", "0.06")):
            row = venue.call("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
            assert (row["cancelExist"], row["dealSize"], row["cancelledSize"]) == (True, dealt, cancelled)
        gtt = venue.spot_order(timeInForce="GTT", cancelAfter=5)
        venue.clock.ms += 5000
        venue.engine.expire_due()
        row = venue.call("spot_rest", "GET", f"{HF}/{gtt['orderId']}", symbol="BTC-USDT")
        assert (row["active"], row["cancelExist"], row["timeInForce"], row["cancelAfter"]) == (False, True, "GTT", 5)

    def test_an_order_that_comes_too_late_is_refused(self, venue: Any) -> None:
        late = {"clientTimestamp": venue.clock.ms - 3000, "allowMaxTimeWindow": 2000}
        assert refusal(venue, **late) == "400100"
        venue.spot_order(**(late | {"allowMaxTimeWindow": 4000}))

    def test_batches_answer_by_position(self, venue: Any, capture: Any, unlike: Any) -> None:
        orders = [ORDER | {"clientOid": "b1"}, ORDER | {"clientOid": "b2", "size": "0.00001", "price": "1"}]
        rows = venue.call("spot_rest", "POST", f"{HF}/multi", orderList=orders)
        documented = capture("spot-hf-batch-add-orders")
        assert [unlike(ours, theirs) for ours, theirs in zip(rows, documented, strict=True)] == [[], []]
        assert rows[1]["failMsg"] == "The order funds should more then 0.1 USDT."
        assert venue.refused("spot_rest", "POST", f"{HF}/multi", orderList=[ORDER] * 6) == "400100"


class TestCancelling:
    def test_by_either_id(self, venue: Any) -> None:
        first, second = venue.spot_order(), venue.spot_order(clientOid="mine")
        path = f"{HF}/{first['orderId']}"
        assert venue.refused("spot_rest", "DELETE", path) == "400100"
        assert venue.refused("spot_rest", "DELETE", f"{HF}/client-order/mine", symbol="ETH-USDT") == "400100"
        assert venue.call("spot_rest", "DELETE", path, symbol="BTC-USDT") == {"orderId": first["orderId"]}
        other = venue.call("spot_rest", "DELETE", f"{HF}/sync/client-order/mine", symbol="BTC-USDT")
        assert (other["clientOid"], other["canceledSize"], other["status"]) == ("mine", "0.1", "done")
        for native in (first["orderId"], second["orderId"], "6717422bd51c29000775ea03"):
            answer = venue.signed("spot_rest", "DELETE", f"{HF}/{native}", symbol="BTC-USDT")
            assert json.loads(answer.body) == {"code": "400100", "msg": "order_not_exist_or_not_allow_to_cancel"}

    def test_a_synchronous_cancel_is_of_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        placed = venue.spot_order()
        answer = venue.call("spot_rest", "DELETE", f"{HF}/sync/{placed['orderId']}", symbol="BTC-USDT")
        assert unlike(answer, capture("spot-hf-cancel-order-by-order-id-sync")) == []

    def test_all_of_a_market_and_all(self, venue: Any) -> None:
        venue.spot_order()
        venue.spot_order(symbol="ETH-USDT", price="3000")
        assert venue.call("spot_rest", "DELETE", HF, symbol="BTC-USDT") == "success"
        assert [order.market for order in venue.engine.open_orders(venue.account)] == ["KUCOIN-SPOT-ETH-USDT"]
        answer = venue.call("spot_rest", "DELETE", f"{HF}/cancelAll")
        assert answer == {"succeedSymbols": ["ETH-USDT"], "failedSymbols": []}

    def test_part_of_a_size(self, venue: Any) -> None:
        placed = venue.spot_order()
        path = f"{HF}/cancel/{placed['orderId']}"
        venue.call("spot_rest", "DELETE", path, symbol="BTC-USDT", cancelSize="0.03")
        row = venue.call("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
        assert (row["remainSize"], row["cancelledSize"], row["active"]) == ("0.07", "0.03", True)

    def test_amending_gives_another_order_id_and_keeps_the_client_id(
        self, venue: Any, capture: Any, unlike: Any
    ) -> None:
        placed = venue.spot_order(clientOid="keep")
        venue.crowd(BTC, "SELL", "0.04", "50000")
        answer = venue.call(
            "spot_rest", "POST", f"{HF}/alter", symbol="BTC-USDT", clientOid="keep", newPrice="49000", newSize="0.2"
        )
        assert unlike(answer, capture("spot-hf-modify-order")) == []
        assert answer["clientOid"] == "keep"
        assert answer["newOrderId"] != placed["orderId"]
        old = venue.call("spot_rest", "GET", f"{HF}/{placed['orderId']}", symbol="BTC-USDT")
        new = venue.call("spot_rest", "GET", f"{HF}/client-order/keep", symbol="BTC-USDT")
        assert (old["active"], old["cancelExist"], old["dealSize"]) == (False, True, "0.04")
        # What was filled counts towards the new size.
        assert (new["id"], new["price"], new["size"], new["active"]) == (answer["newOrderId"], "49000", "0.16", True)

    def test_a_bad_amendment_leaves_the_order(self, venue: Any) -> None:
        placed = venue.spot_order()
        for changes in ({"newPrice": "49000.05"}, {"newSize": "0.000000001"}, {}):
            code = venue.refused(
                "spot_rest", "POST", f"{HF}/alter", symbol="BTC-USDT", orderId=placed["orderId"], **changes
            )
            assert code in ("400100", "600100")
        assert len(venue.engine.open_orders(venue.account)) == 1

    def test_the_dead_mans_switch(self, venue: Any, capture: Any, unlike: Any) -> None:
        path = f"{HF}/dead-cancel-all"
        venue.spot_order()
        venue.spot_order(symbol="ETH-USDT", price="3000")
        answer = venue.call("spot_rest", "POST", path, timeout=5, symbols="BTC-USDT")
        assert unlike(answer, capture("spot-hf-set-dcp")) == []
        assert answer["triggerTime"] - answer["currentTime"] == 5
        assert venue.call("spot_rest", "GET", f"{path}/query")["symbols"] == "BTC-USDT"
        venue.clock.ms += 4900
        venue.sandbox.advance(venue.clock.ms)
        assert len(venue.engine.open_orders(venue.account)) == 2
        venue.clock.ms += 100
        venue.sandbox.advance(venue.clock.ms)
        assert [order.market for order in venue.engine.open_orders(venue.account)] == ["KUCOIN-SPOT-ETH-USDT"]
        venue.call("spot_rest", "POST", path, timeout=5)
        assert venue.call("spot_rest", "POST", path, timeout=-1) is None
        assert venue.call("spot_rest", "GET", f"{path}/query") is None
        assert venue.refused("spot_rest", "POST", path, timeout=4) == "400100"


class TestStopOrders:
    STOP = ORDER | {"stop": "loss", "stopPrice": "49000", "price": "48000", "side": "sell", "clientOid": "st"}

    def test_a_stop_lives_in_its_own_family_until_it_triggers(self, venue: Any) -> None:
        venue.crowd(BTC, "BUY", "5", "49500")
        venue.crowd(BTC, "SELL", "0.1", "49500")
        placed = venue.call("spot_rest", "POST", "/api/v1/stop-order", **self.STOP)
        native = placed["orderId"]
        assert native.startswith("vs")
        assert venue.call("spot_rest", "GET", f"{HF}/active", symbol="BTC-USDT") == []
        for name in (native, "client-order/st"):
            assert venue.refused("spot_rest", "GET", f"{HF}/{name}", symbol="BTC-USDT") == "400100"
            assert venue.refused("spot_rest", "DELETE", f"{HF}/{name}", symbol="BTC-USDT") == "400100"
        (row,) = venue.call("spot_rest", "GET", "/api/v1/stop-order", symbol="BTC-USDT")["items"]
        assert (row["id"], row["stop"], row["stopPrice"], row["status"]) == (native, "loss", "49000", "NEW")
        venue.crowd(BTC, "SELL", "4.9", "49500")
        venue.crowd(BTC, "BUY", "1", "48900")
        venue.crowd(BTC, "SELL", "0.1", "48900")
        assert venue.call("spot_rest", "GET", "/api/v1/stop-order")["items"] == []
        order = venue.call("spot_rest", "GET", f"{HF}/client-order/st", symbol="BTC-USDT")
        assert order["id"] != native
        assert order["dealSize"] == "0.1"
        other = f"{int(order['id'][:8], 16) + 1:08x}{order['id'][8:]}"
        for unknown in (native, other):
            assert venue.refused("spot_rest", "GET", f"{HF}/{unknown}", symbol="BTC-USDT") == "400100"

    @pytest.mark.parametrize(
        ("side", "stop", "meant"),
        [
            ("sell", "loss", OrderType.STOP_LIMIT),
            ("buy", "entry", OrderType.STOP_LIMIT),
            ("sell", "entry", OrderType.TAKE_PROFIT_LIMIT),
            ("buy", "loss", OrderType.TAKE_PROFIT_LIMIT),
        ],
    )
    def test_the_direction_decides_what_it_is(self, venue: Any, side: str, stop: str, meant: OrderType) -> None:
        venue.crowd(BTC, "BUY", "1", "50000")
        venue.crowd(BTC, "SELL", "1", "50000")
        changes = {"side": side, "stop": stop, "stopPrice": "49000" if stop == "loss" else "51000"}
        venue.call("spot_rest", "POST", "/api/v1/stop-order", **(self.STOP | changes))
        (order,) = venue.engine.open_orders(venue.account)
        assert order.type is meant

    def test_cancelling(self, venue: Any) -> None:
        venue.crowd(BTC, "BUY", "1", "50000")
        venue.crowd(BTC, "SELL", "1", "50000")
        path = "/api/v1/stop-order"
        ids = [
            venue.call("spot_rest", "POST", path, **(self.STOP | {"clientOid": f"st{n}"}))["orderId"] for n in range(3)
        ]
        assert venue.call("spot_rest", "GET", path, side="buy")["items"] == []
        (listed,) = venue.call("spot_rest", "GET", path, side="sell", orderIds=ids[1])["items"]
        assert listed["id"] == ids[1]
        assert venue.call("spot_rest", "DELETE", f"{path}/{ids[0]}") == {"cancelledOrderIds": [ids[0]]}
        by_client_id = venue.call(
            "spot_rest", "DELETE", f"{path}/cancelOrderByClientOid", clientOid="st1", symbol="BTC-USDT"
        )
        assert by_client_id == {"cancelledOrderId": ids[1], "clientOid": "st1"}
        assert venue.call("spot_rest", "DELETE", f"{path}/cancel", symbol="BTC-USDT") == {"cancelledOrderIds": [ids[2]]}
        assert venue.refused("spot_rest", "DELETE", f"{path}/{ids[0]}") == "400100"


class TestMoney:
    def test_fills_come_newest_first_with_a_cursor(self, venue: Any, capture: Any, unlike: Any) -> None:
        for price in ("50000", "49990", "49980"):
            venue.crowd(BTC, "BUY", "0.1", price)
        placed = venue.spot_order(side="sell", type="market", size="0.3", price="")
        page = venue.call("spot_rest", "GET", "/api/v1/hf/fills", symbol="BTC-USDT", limit=2)
        assert unlike(page, capture("spot-hf-trade-history")) == []
        assert [row["price"] for row in page["items"]] == ["49980", "49990"]
        rest = venue.call("spot_rest", "GET", "/api/v1/hf/fills", symbol="BTC-USDT", lastId=page["lastId"])
        assert [row["price"] for row in rest["items"]] == ["50000"]
        first = rest["items"][0]
        assert (first["orderId"], first["liquidity"], first["fee"]) == (placed["orderId"], "taker", "5")
        assert first["tradeId"] > 2**53
        path = f"{HF}/{placed['orderId']}"
        row = venue.call("spot_rest", "GET", path, symbol="BTC-USDT")
        assert Decimal(row["dealFunds"]) / Decimal(row["dealSize"]) == 49990
        assert venue.refused("spot_rest", "GET", "/api/v1/hf/fills") == "400100"

    def test_balances_and_fees(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.spot_order()
        rows = venue.call("spot_rest", "GET", "/api/v1/accounts", type="trade", currency="USDT")
        assert unlike(rows, capture("account-spot-account-list")[:1]) == []
        assert rows[0]["holds"] == "5000"
        assert venue.call("spot_rest", "GET", "/api/v1/accounts", type="main") == []
        fees = venue.call("spot_rest", "GET", "/api/v1/trade-fees", symbols="BTC-USDT,ETH-USDT")
        assert fees == capture("account-spot-actual-fee")
        assert unlike(venue.call("spot_rest", "GET", "/api/v1/base-fee"), capture("account-basic-fee")) == []


def told(client: Any, topic: str) -> list[Any]:
    return [frame for frame in client.line.take() if frame["topic"] == topic]


V2 = "/spotMarket/tradeOrdersV2"


class TestPrivateTopics:
    @pytest.fixture
    def client(self, venue: Any) -> Any:
        return venue.classic("spot", private=True)

    def test_the_life_of_an_order(self, venue: Any, client: Any, captured_frames: Any, unlike: Any) -> None:
        client.subscribe(V2, privateChannel=True)
        placed = venue.spot_order(clientOid="life")
        frames = client.line.take()
        documented = captured_frames("spot-classic-private-topics")
        assert [unlike(ours, theirs) for ours, theirs in zip(frames, documented[:2], strict=True)] == [[], []]
        assert [(f["data"]["type"], f["data"]["status"]) for f in frames] == [("received", "new"), ("open", "open")]
        assert {f["data"]["orderId"] for f in frames} == {placed["orderId"]}
        venue.crowd(BTC, "SELL", "0.04", "50000")
        (match,) = (frame["data"] for frame in client.line.take())
        assert (match["type"], match["matchSize"], match["remainSize"], match["liquidity"]) == (
            "match",
            "0.04",
            "0.06",
            "maker",
        )
        venue.crowd(BTC, "SELL", "0.06", "50000")
        match, filled = (frame["data"] for frame in client.line.take())
        assert (match["type"], match["status"], match["remainSize"]) == ("match", "match", "0")
        assert (filled["type"], filled["status"], filled["filledSize"]) == ("filled", "done", "0.1")
        (fill,) = venue.call("spot_rest", "GET", "/api/v1/hf/fills", symbol="BTC-USDT", limit=1)["items"]
        assert str(fill["tradeId"]) == match["tradeId"]

    def test_a_taker_that_rests_afterwards(self, venue: Any, client: Any) -> None:
        client.subscribe(V2, privateChannel=True)
        venue.crowd(BTC, "SELL", "0.04", "50000")
        venue.spot_order()
        kinds = [frame["data"]["type"] for frame in client.line.take()]
        assert kinds == ["received", "match", "open"]
        venue.crowd(BTC, "SELL", "1", "50001")
        venue.spot_order(price="50001")
        kinds = [frame["data"]["type"] for frame in client.line.take()]
        assert kinds == ["received", "match", "filled"]

    def test_cancelling_and_amending(self, venue: Any, client: Any) -> None:
        client.subscribe(V2, privateChannel=True)
        placed = venue.spot_order(clientOid="a")
        client.line.take()
        answer = venue.call(
            "spot_rest", "POST", f"{HF}/alter", symbol="BTC-USDT", orderId=placed["orderId"], newSize="0.2"
        )
        cancelled, received, opened = (frame["data"] for frame in client.line.take())
        assert (cancelled["type"], cancelled["canceledSize"], cancelled["remainSize"]) == ("canceled", "0.1", "0")
        assert received["orderId"] == opened["orderId"] == answer["newOrderId"]
        path = f"{HF}/cancel/{answer['newOrderId']}"
        venue.call("spot_rest", "DELETE", path, symbol="BTC-USDT", cancelSize="0.05")
        (update,) = (frame["data"] for frame in client.line.take())
        assert (update["type"], update["oldSize"], update["size"]) == ("update", "0.2", "0.15")

    def test_the_first_version_has_no_received(self, venue: Any, client: Any) -> None:
        client.subscribe("/spotMarket/tradeOrders", privateChannel=True)
        venue.spot_order()
        assert [frame["data"]["type"] for frame in client.line.take()] == ["open"]

    def test_a_refused_post_only_order_is_told_as_cancelled(self, venue: Any, client: Any) -> None:
        client.subscribe(V2, privateChannel=True)
        venue.crowd(BTC, "SELL", "1", "50000")
        venue.spot_order(postOnly=True)
        assert [frame["data"]["type"] for frame in client.line.take()] == ["received", "canceled"]

    def test_balances(self, venue: Any, client: Any, captured_frames: Any, unlike: Any) -> None:
        client.subscribe("/account/balance", privateChannel=True)
        placed = venue.spot_order()
        (frame,) = client.line.take()
        assert unlike(frame, captured_frames("spot-classic-private-topics")[2]) == []
        data = frame["data"]
        assert (data["relationEvent"], data["holdChange"], data["availableChange"]) == ("trade.hold", "5000", "-5000")
        assert data["relationContext"]["orderId"] == placed["orderId"]
        venue.crowd(BTC, "SELL", "0.1", "50000")
        frames = {frame["data"]["currency"]: frame["data"] for frame in client.line.take()}
        assert frames["USDT"]["holdChange"] == "-5000"
        assert frames["BTC"]["relationEvent"] == "trade.setted"

    def test_stop_orders_have_a_topic_of_their_own(self, venue: Any, client: Any) -> None:
        client.subscribe("/spotMarket/advancedOrders", privateChannel=True)
        client.subscribe(V2, privateChannel=True)
        for price in ("50000", "49000"):
            venue.crowd(BTC, "BUY", "1", price)
            if price == "50000":
                venue.crowd(BTC, "SELL", "1", price)
        placed = venue.call("spot_rest", "POST", "/api/v1/stop-order", **TestStopOrders.STOP)
        (opened,) = client.line.take()
        assert (opened["subject"], opened["data"]["type"]) == ("stopOrder", "open")
        assert opened["data"]["orderId"] == placed["orderId"]
        venue.crowd(BTC, "SELL", "0.1", "49000")
        triggered, received, *_ = client.line.take()
        assert (triggered["data"]["type"], triggered["data"]["orderId"]) == ("triggered", placed["orderId"])
        assert received["data"]["type"] == "received"
        assert received["data"]["orderId"] != placed["orderId"]

    def test_nobody_hears_of_others(self, venue: Any, client: Any, make_venue: Any) -> None:
        client.subscribe(V2, privateChannel=True)
        client.subscribe("/account/balance", privateChannel=True)
        other = venue.open_account("other")
        venue.call("spot_rest", "POST", HF, account=other, **ORDER)
        assert client.line.take() == []

    def test_private_topics_want_the_private_channel_and_a_private_token(self, venue: Any, client: Any) -> None:
        frame = {"id": "1", "type": "subscribe", "topic": V2, "response": True}
        assert client.send(frame)[0]["code"] == 403
        assert venue.classic("spot").send(frame | {"privateChannel": True})[0]["code"] == 403


def test_ten_orders_over_the_pool_are_refused_with_the_time_to_wait(make_venue: Any) -> None:
    pools = {"SPOT": 3, "FUTURES": 5, "MANAGEMENT": 5, "PUBLIC": 5, "UNIFIED": 5}
    venue = make_venue(SandboxLimits(pools=pools))
    for left in (2, 1, 0):
        answer = venue.signed("spot_rest", "POST", HF, **ORDER)
        assert answer.headers["gw-ratelimit-remaining"] == str(left)
    venue.clock.ms += 10_000
    answer = venue.signed("spot_rest", "POST", HF, **ORDER)
    assert (answer.status, json.loads(answer.body)["code"]) == (429, "429000")
    assert answer.headers["gw-ratelimit-reset"] == "20000"
    assert len(venue.engine.open_orders(venue.account)) == 3
    venue.clock.ms += 20_000
    assert venue.signed("spot_rest", "POST", HF, **ORDER).status == 200
