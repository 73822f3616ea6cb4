"""Spot's private side: orders of all types, look-ups, cancels, fills, and what `/ws/v2` and `/ws/trade` tell."""

from decimal import Decimal
from typing import Any

import pytest

from astra.models.orders import OrderStatus, OrderType

BTC = "HUOBI-SPOT-BTC-USDT"


def place_id(answer: Any) -> str:
    assert answer["status"] == "ok", answer
    assert isinstance(answer["data"], str)
    return str(answer["data"])


def shown(venue: Any, order_id: str) -> Any:
    return venue.spot("GET", f"/v1/order/orders/{order_id}")["data"]


def private(venue: Any, *channels: str) -> Any:
    client, answer = venue.log_in_spot()
    assert answer["code"] == 200
    for channel in channels:
        first, *_ = client.send({"action": "sub", "ch": channel})
        assert (first["action"], first["code"], first["ch"]) == ("sub", 200, channel)
    return client


def told(client: Any, kind: str) -> list[Any]:
    return [frame["data"] for frame in client.line.take() if frame["ch"].startswith(kind)]


class TestPlacing:
    def test_a_limit_order_from_start_to_end(self, venue: Any, capture: Any, unlike: Any) -> None:
        order_id = place_id(venue.place_spot("buy-limit", "0.5", "50000", **{"client-order-id": "mine-1"}))
        row = shown(venue, order_id)
        assert unlike(row, capture("spot-order-get")["data"]) == []
        assert (row["state"], row["field-amount"], row["price"]) == ("submitted", "0.0", "50000.000000000000000000")
        venue.crowd(BTC, "SELL", "0.2", "50000")
        row = shown(venue, order_id)
        assert (row["state"], row["field-amount"]) == ("partial-filled", "0.200000000000000000")
        assert row["field-fees"] == "0.000400000000000000"  # in the asset received
        opens = venue.spot("GET", "/v1/order/openOrders", {"account-id": venue.account_id, "symbol": "btcusdt"})["data"]
        assert [one["filled-amount"] for one in opens] == ["0.200000000000000000"]
        assert not any(name.startswith("field") for name in opens[0])
        assert venue.spot("POST", f"/v1/order/orders/{order_id}/submitcancel", {"symbol": "btcusdt"}) == {
            "status": "ok",
            "data": order_id,
        }
        row = shown(venue, order_id)
        assert (row["state"], row["canceled-source"]) == ("partial-canceled", "api")

    @pytest.mark.parametrize(
        ("kind", "price", "source", "filled"),
        [
            ("buy-ioc", "90000", "ioc", "0.100000000000000000"),
            ("buy-limit-fok", "90000", "fok", "0.0"),
            ("buy-limit-maker", "90000", "limit_maker", "0.0"),
        ],
    )
    def test_what_may_not_rest_is_accepted_and_cancelled(
        self, venue: Any, kind: str, price: str, source: str, filled: str
    ) -> None:
        venue.crowd(BTC, "SELL", "0.1", "90000")
        row = shown(venue, place_id(venue.place_spot(kind, "0.5", price)))
        state = "canceled" if filled == "0.0" else "partial-canceled"
        assert (row["type"], row["state"], row["canceled-source"]) == (kind, state, source)
        assert (row["price"], row["field-amount"]) == ("90000.000000000000000000", filled)

    def test_a_post_only_order_that_rests(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "0.1", "90000")
        assert shown(venue, place_id(venue.place_spot("buy-limit-maker", "0.5", "89999.99")))["state"] == "submitted"

    def test_a_market_buy_spends_its_amount(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        row = shown(venue, place_id(venue.place_spot("buy-market", "100")))
        assert (row["amount"], row["price"]) == ("100.000000000000000000", "0.000000000000000000")
        assert (row["field-amount"], row["field-cash-amount"]) == ("0.002000000000000000", "100.000000000000000000")
        venue.crowd(BTC, "BUY", "1", "40000")
        row = shown(venue, place_id(venue.place_spot("sell-market", "0.5")))
        assert (row["state"], row["field-cash-amount"]) == ("filled", "20000.000000000000000000")

    @pytest.mark.parametrize(
        ("side", "operator", "stop", "engine_type"),
        [
            ("buy", "gte", "51000", OrderType.STOP_LIMIT),
            ("buy", "lte", "49000", OrderType.TAKE_PROFIT_LIMIT),
            ("sell", "lte", "49000", OrderType.STOP_LIMIT),
            ("sell", "gte", "51000", OrderType.TAKE_PROFIT_LIMIT),
        ],
    )
    def test_a_stop_waits_for_its_price(
        self, venue: Any, side: str, operator: str, stop: str, engine_type: OrderType
    ) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        venue.crowd(BTC, "BUY", "1", "50000")
        terms = {"stop-price": stop, "operator": operator}
        order_id = place_id(venue.place_spot(f"{side}-stop-limit", "0.5", stop, **terms))
        (ours,) = venue.engine.open_orders(venue.account)
        assert (ours.type, ours.stop_price) == (engine_type, Decimal(stop))
        row = shown(venue, order_id)
        assert (row["state"], row["operator"], Decimal(row["stop-price"])) == ("created", operator, Decimal(stop))
        refused = venue.place_spot("buy-stop-limit", "1", "49000", **{"stop-price": "49000", "operator": "gte"})
        assert refused["err-code"] == "order-stop-order-hit-trigger"

    @pytest.mark.parametrize(
        ("kind", "amount", "price", "code"),
        [
            ("buy-limit", "0.5", "50000.001", "order-orderprice-precision-error"),
            ("buy-limit", "0.5000001", "50000", "order-orderamount-precision-error"),
            ("buy-limit", "0.000001", "50000", "order-limitorder-amount-min-error"),
            ("buy-limit", "5000", "1", "order-limitorder-amount-max-error"),
            ("buy-limit", "0.00001", "50000", "order-value-min-error"),
            ("buy-limit", "900", "50000", "account-frozen-balance-insufficient-error"),
            ("buy-limit", "0.5", None, "order-invalid-price"),
            ("buy-foo", "0.5", "50000", "order-type-invalid"),
        ],
    )
    def test_refusals(self, venue: Any, kind: str, amount: str, price: str | None, code: str) -> None:
        answer = venue.place_spot(kind, amount, price)
        assert (answer["status"], answer["err-code"], answer["data"]) == ("error", code, None)

    def test_a_halted_market_takes_no_orders(self, venue: Any) -> None:
        assert venue.place_spot("buy-limit", "10", "5", symbol="htusdt")["err-code"] == "base-symbol-trade-disabled"

    def test_client_ids_are_no_idempotency_keys(self, venue: Any) -> None:
        first = place_id(venue.place_spot("buy-limit", "0.5", "50000", **{"client-order-id": "again"}))
        second = place_id(venue.place_spot("buy-limit", "0.6", "50000", **{"client-order-id": "again"}))
        assert int(second) > int(first)
        assert len(venue.engine.open_orders(venue.account)) == 2
        found = venue.spot("GET", "/v1/order/orders/getClientOrder", {"clientOrderId": "again"})["data"]
        assert str(found["id"]) == second  # the newest
        assert shown(venue, first)["client-order-id"] == "again"

    def test_client_ids_have_a_format(self, venue: Any) -> None:
        for bad in ("with space", "x" * 65, "ä"):
            answer = venue.place_spot("buy-limit", "0.5", "50000", **{"client-order-id": bad})
            assert answer["err-code"] == "invalid-parameter"

    def test_a_batch_fails_one_by_one(self, venue: Any, capture: Any, unlike: Any) -> None:
        order = {"account-id": venue.account_id, "symbol": "btcusdt", "type": "buy-limit", "price": "50000"}
        answer = venue.spot(
            "POST",
            "/v1/order/batch-orders",
            [order | {"amount": "0.5", "client-order-id": "a"}, order | {"amount": "900", "client-order-id": "b"}],
        )
        good, bad = answer["data"]
        recorded = capture("spot-batch-orders")["data"]
        assert unlike(good, recorded[0]) == unlike(bad, recorded[1]) == []
        assert isinstance(good["order-id"], int)
        assert bad["err-code"] == "account-frozen-balance-insufficient-error"
        assert venue.spot("POST", "/v1/order/batch-orders", [order] * 11)["status"] == "error"


class TestCancelling:
    def test_an_order_that_is_done_says_how(self, venue: Any) -> None:
        order_id = place_id(venue.place_spot("buy-limit", "0.5", "50000", **{"client-order-id": "c"}))
        path = "/v1/order/orders/submitCancelClientOrder"
        assert venue.spot("POST", path, {"client-order-id": "c"}) == {"status": "ok", "data": 10}
        assert venue.spot("POST", path, {"client-order-id": "c"}) == {"status": "ok", "data": 7}
        again = venue.spot("POST", f"/v1/order/orders/{order_id}/submitcancel")
        assert (again["err-code"], again["order-state"]) == ("order-orderstate-error", 7)
        assert venue.spot("POST", "/v1/order/orders/17/submitcancel")["err-code"] == "base-record-invalid"

    def test_many_at_once(self, venue: Any, capture: Any, unlike: Any) -> None:
        ids = [place_id(venue.place_spot("buy-limit", "0.5", "50000")) for _ in range(2)]
        venue.spot("POST", f"/v1/order/orders/{ids[1]}/submitcancel")
        answer = venue.spot("POST", "/v1/order/orders/batchcancel", {"order-ids": [*ids, "17"]})
        assert unlike(answer, capture("spot-batchcancel-partial-failure")) == []
        assert answer["data"]["success"] == ids[:1]
        assert [row["err-code"] for row in answer["data"]["failed"]] == ["order-orderstate-error", "base-not-found"]

    def test_by_criteria_a_page_at_a_time(self, venue: Any) -> None:
        ids = [place_id(venue.place_spot("buy-limit", "0.5", "50000")) for _ in range(3)]
        path, sent = "/v1/order/orders/batchCancelOpenOrders", {"account-id": venue.account_id, "size": 2}
        assert venue.spot("POST", path, sent)["data"] == {
            "success-count": 2,
            "failed-count": 0,
            "next-id": int(ids[2]),
        }
        assert venue.spot("POST", path, sent)["data"]["next-id"] == -1

    def test_all_by_a_get(self, venue: Any) -> None:
        place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        assert venue.spot("GET", "/v1/order/cancelAllOrders", {"symbol": "btcusdt"}) == {"status": "ok"}
        assert venue.engine.open_orders(venue.account) == []

    def test_the_dead_mans_switch(self, venue: Any) -> None:
        path = "/v2/algo-orders/cancel-all-after"
        place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        assert venue.spot("POST", path, {"timeout": 3})["code"] == 2002
        answer = venue.spot("POST", path, {"timeout": 5})["data"]
        assert answer == {"currentTime": venue.clock.ms, "triggerTime": venue.clock.ms + 5000}
        client = venue.connect("spot_stream", "/ws")
        client.after(4900)
        venue.spot("POST", path, {"timeout": 5})
        client.after(4900)
        assert len(venue.engine.open_orders(venue.account)) == 1
        client.after(200)
        assert venue.engine.open_orders(venue.account) == []


class TestLookingUp:
    def test_an_order_cancelled_without_a_fill_vanishes_after_two_hours(self, venue: Any) -> None:
        order_id = place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        venue.spot("POST", f"/v1/order/orders/{order_id}/submitcancel")
        venue.clock.ms += 2 * 3600 * 1000 + 1
        assert venue.spot("GET", f"/v1/order/orders/{order_id}")["err-code"] == "base-record-invalid"

    def test_history_is_asked_for_by_48_hours(self, venue: Any) -> None:
        order_id = place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        sent = {"symbol": "btcusdt", "states": "submitted,filled"}
        assert [row["id"] for row in venue.spot("GET", "/v1/order/orders", sent)["data"]] == [int(order_id)]
        sent["start-time"], sent["end-time"] = str(venue.clock.ms - 200_000_000), str(venue.clock.ms)
        assert venue.spot("GET", "/v1/order/orders", sent)["status"] == "error"

    def test_fills_page_by_their_ids(self, venue: Any, capture: Any, unlike: Any) -> None:
        order_id = place_id(venue.place_spot("sell-limit", "1", "90000"))
        for _ in range(4):
            venue.crowd(BTC, "BUY", "0.1")
        rows = venue.spot("GET", "/v1/order/matchresults", {"symbol": "btcusdt", "size": 2})["data"]
        assert unlike(rows, capture("spot-matchresults")["data"]) == []
        older = venue.spot(
            "GET", "/v1/order/matchresults", {"symbol": "btcusdt", "from": rows[-1]["id"], "direct": "next", "size": 3}
        )["data"]
        assert older[0]["id"] == rows[-1]["id"]  # `from` is included
        ids = [row["id"] for row in rows + older[1:]]
        assert ids == sorted(ids, reverse=True)
        assert len(set(ids)) == 4
        of_order = venue.spot("GET", f"/v1/order/orders/{order_id}/matchresults")["data"]
        assert [row["id"] for row in of_order] == ids
        assert (rows[0]["fee-currency"], rows[0]["role"], rows[0]["filled-fees"]) == ("usdt", "maker", "18")

    def test_balances_are_free_and_frozen(self, venue: Any, capture: Any, unlike: Any) -> None:
        place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        answer = venue.spot("GET", f"/v1/account/accounts/{venue.account_id}/balance")
        assert unlike(answer, capture("spot-account-balance")) == []
        rows = {(row["currency"], row["type"]): row["balance"] for row in answer["data"]["list"]}
        (usdt,) = [one for one in venue.engine.balances(venue.account) if (one.wallet, one.asset) == ("spot", "USDT")]
        assert Decimal(rows["usdt", "trade"]) == usdt.available
        assert rows["usdt", "frozen"] == "25000"

    def test_fees(self, venue: Any, capture: Any, unlike: Any) -> None:
        answer = venue.spot("GET", "/v2/reference/transact-fee-rate", {"symbols": "btcusdt,ethusdt"})
        assert unlike(answer, capture("spot-transact-fee-rate")) == []
        assert [row["takerFeeRate"] for row in answer["data"]] == ["0.002", "0.002"]


class TestPushes:
    def test_an_order_is_told_as_it_goes(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        recorded: dict[tuple[str, str], Any] = {}
        for frame in captured_frames("spot-private-v2"):
            if frame.get("ch", "").startswith(("orders", "trade.clearing")) and frame.get("data"):
                kind = (frame["ch"].partition("#")[0], frame["data"]["eventType"])
                recorded[kind] = recorded.get(kind, {}) | frame["data"]
        client = private(venue, "orders#*", "trade.clearing#*#1")
        client.line.take()
        order_id = int(place_id(venue.place_spot("buy-limit", "0.5", "50000", **{"client-order-id": "p"})))
        (frame,) = client.line.frames
        assert (frame["action"], frame["ch"]) == ("push", "orders#*")
        (made,) = told(client, "orders")
        assert unlike(made, recorded["orders", "creation"]) == []
        assert (made["orderId"], made["orderSize"], made["orderStatus"]) == (order_id, "0.5", "submitted")
        venue.crowd(BTC, "SELL", "0.2", "50000")
        (orders,) = client.line.take()
        (cleared,) = client.after(50)  # fees are known a little later
        assert unlike(orders["data"] | {"orderPrice": None}, recorded["orders", "trade"] | {"orderPrice": None}) == []
        assert (orders["data"]["execAmt"], orders["data"]["remainAmt"]) == ("0.2", "0.3")
        assert orders["data"]["aggressor"] is False
        assert cleared["ch"] == "trade.clearing#btcusdt#1"
        assert unlike(cleared["data"], recorded["trade.clearing", "trade"]) == []
        assert (cleared["data"]["transactFee"], cleared["data"]["feeCurrency"]) == ("0.0004", "btc")
        fills = venue.spot("GET", "/v1/order/matchresults", {"symbol": "btcusdt"})["data"]
        assert [row["trade-id"] for row in fills] == [cleared["data"]["tradeId"]]
        venue.spot("POST", f"/v1/order/orders/{order_id}/submitcancel")
        orders, cleared = client.line.take()
        assert (orders["data"]["eventType"], orders["data"]["orderStatus"]) == ("cancellation", "partial-canceled")
        assert (cleared["data"]["eventType"], cleared["data"]["remainAmt"]) == ("cancellation", "0.3")

    def test_a_cancellation_may_be_cleared_before_the_fill(self, venue: Any) -> None:
        client = private(venue, "trade.clearing#btcusdt#1")
        client.line.take()
        venue.crowd(BTC, "SELL", "0.1", "90000")
        place_id(venue.place_spot("buy-ioc", "0.5", "90000"))
        kinds = [frame["data"]["eventType"] for frame in client.line.take() + client.after(50)]
        assert kinds == ["cancellation", "trade"]

    def test_market_buys_are_told_by_value(self, venue: Any) -> None:
        client = private(venue, "orders#btcusdt")
        client.line.take()
        venue.crowd(BTC, "SELL", "1", "50000")
        place_id(venue.place_spot("buy-market", "100"))
        made, traded = told(client, "orders#btcusdt")
        assert made["orderValue"] == "100"
        assert "orderPrice" not in traded
        assert (traded["execAmt"], traded["remainAmt"], traded["tradeVolume"]) == ("100", "0", "0.002")
        assert (traded["orderStatus"], traded["aggressor"]) == ("filled", True)

    def test_conditional_orders_are_told_when_they_come_to_life(self, venue: Any, captured_frames: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        venue.crowd(BTC, "BUY", "1", "50000")
        client = private(venue, "orders#*")
        client.line.take()
        terms = {"stop-price": "51000", "operator": "gte"}
        first = place_id(venue.place_spot("buy-stop-limit", "0.5", "50500", **terms))
        place_id(venue.place_spot("buy-stop-limit", "0.5", "50500", **terms))
        assert told(client, "orders") == []
        venue.spot("POST", f"/v1/order/orders/{first}/submitcancel")
        (gone,) = told(client, "orders")
        recorded = next(f["data"] for f in captured_frames("spot-private-v2") if "deletion" in str(f.get("data")))
        assert gone.keys() == recorded.keys()
        venue.crowd(BTC, "SELL", "0.1", "51000")
        venue.crowd(BTC, "BUY", "0.1")
        (made,) = told(client, "orders")
        assert (made["eventType"], made["type"]) == ("creation", "buy-stop-limit")

    def test_balances_begin_with_a_dump(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        client = venue.log_in_spot()[0]
        ack, *dump = client.send({"action": "sub", "ch": "accounts.update#2"})
        assert ack["code"] == 200
        assets = {one.asset.lower() for one in venue.engine.balances(venue.account) if one.wallet == "spot"}
        assert {frame["data"]["currency"] for frame in dump} == assets
        assert all(frame["data"]["changeType"] is None is frame["data"]["changeTime"] for frame in dump)
        recorded = next(f for f in captured_frames("spot-private-v2") if "20.29388158" in str(f))
        assert unlike(dump[0], recorded) == []
        place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        (frame,) = client.line.take()
        assert (frame["data"]["currency"], frame["data"]["changeType"]) == ("usdt", "order.place")
        assert Decimal(frame["data"]["balance"]) - Decimal(frame["data"]["available"]) == 25_000

    def test_mode_1_tells_total_and_available_apart(self, venue: Any) -> None:
        client = private(venue, "accounts.update#1")
        client.line.take()
        place_id(venue.place_spot("buy-limit", "0.5", "50000"))
        (frame,) = client.line.take()
        assert "balance" not in frame["data"]
        venue.crowd(BTC, "SELL", "0.5", "50000")
        kinds = [(f["data"]["currency"], "balance" in f["data"], "available" in f["data"]) for f in client.line.take()]
        assert ("btc", True, False) in kinds
        assert ("btc", False, True) in kinds

    @pytest.mark.parametrize(
        ("channel", "message"),
        [("orders#2ltcusdt", "invalid.symbol"), ("order#*", "invalid.ch"), ("accounts.update#7", "invalid.ch")],
    )
    def test_bad_channels(self, venue: Any, channel: str, message: str) -> None:
        client, _ = venue.log_in_spot()
        assert client.send({"action": "sub", "ch": channel}) == [
            {"action": "sub", "code": 2001, "ch": channel, "message": message}
        ]


class TestOrderEntry:
    def test_orders_by_socket_are_orders_by_rest(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        _, made, _, cancelled, _, all_gone = captured_frames("spot-ws-trade")
        client, answer = venue.log_in_spot("/ws/trade")
        assert answer["code"] == 200
        order = {
            "account-id": venue.account_id,
            "symbol": "btcusdt",
            "type": "buy-limit",
            "amount": "1",
            "price": "5e4",
        }
        (placed,) = client.send({"cid": "7", "ch": "create-order", "params": order})
        assert unlike(placed, made) == []
        assert (placed["cid"], venue.engine.open_orders(venue.account)[0].status) == ("7", OrderStatus.NEW)
        (gone,) = client.send({"cid": "8", "ch": "cancel", "params": {"order-ids": [placed["data"]]}})
        assert unlike(gone, cancelled) == []
        assert gone["data"]["success"] == [placed["data"]]
        (left,) = client.send({"cid": "9", "ch": "cancelall", "params": {}})
        assert unlike(left, all_gone) == []
        (refused,) = client.send({"cid": "10", "ch": "create-order", "params": order | {"amount": "900"}})
        assert refused["err-code"] == "account-frozen-balance-insufficient-error"

    def test_it_wants_a_login(self, venue: Any) -> None:
        (refused,) = venue.connect("spot_stream", "/ws/trade").send({"cid": "1", "ch": "cancelall", "params": {}})
        assert refused["code"] == 2002
