"""Derivatives' private side: V5 of linear contracts, the older API of coin-margined ones, and their sockets."""

from decimal import Decimal
from typing import Any

import pytest

from astra.models.orders import PositionSide

LINEAR = "HUOBI-PERP-BTC-USDT"
COIN = "HUOBI-PERP-BTC-USD-COINM"
FUTURE = "HUOBI-FUT-BTC-USD-270326-COINM"
INFO = "/swap-api/v1/swap_order_info"


def linear_id(answer: Any) -> str:
    assert (answer["code"], answer["message"]) == (200, "Success"), answer
    return str(answer["data"]["order_id"])


def coin_id(answer: Any) -> str:
    assert answer["status"] == "ok", answer
    return str(answer["data"]["order_id_str"])


def linear_order(venue: Any, order_id: str) -> Any:
    sent = {"contract_code": "BTC-USDT", "order_id": order_id, "margin_mode": "cross"}
    return venue.contracts("GET", "/v5/trade/order", sent)["data"]


def notified(client: Any, topic: str) -> list[Any]:
    return [frame for frame in client.line.take() if frame.get("topic") == topic and frame["op"] == "notify"]


class TestLinearOrders:
    def test_a_limit_order_from_start_to_end(self, venue: Any, capture: Any, unlike: Any) -> None:
        placed = venue.place_linear("buy", "5", "50000")
        assert unlike(placed, capture("linear-v5-order-place")) == []
        order_id = linear_id(placed)
        assert int(order_id) > 2**53
        assert placed["data"]["client_order_id"] == order_id  # none was given
        row = linear_order(venue, order_id)
        assert unlike(row, capture("linear-v5-order-get")["data"]) == []
        assert (row["state"], row["volume"], row["position_side"], row["fee"]) == ("new", "5", "both", "0")
        venue.crowd(LINEAR, "SELL", "2", "50000")
        row = linear_order(venue, order_id)
        assert (row["state"], row["trade_volume"], row["trade_avg_price"]) == ("partially_filled", "2", "50000")
        assert row["trade_turnover"] == "100"
        opens = venue.contracts("GET", "/v5/trade/order/opens")
        assert unlike(opens, capture("linear-v5-order-opens")) == []
        cancelled = venue.contracts(
            "POST", "/v5/trade/cancel_order", {"contract_code": "btc-usdt", "order_id": order_id}
        )
        assert unlike(cancelled, capture("linear-v5-cancel-order")) == []
        assert linear_order(venue, order_id)["state"] == "partially_canceled"

    def test_what_is_paid_is_negative_on_orders_and_positive_on_fills(
        self, venue: Any, capture: Any, unlike: Any
    ) -> None:
        venue.crowd(LINEAR, "BUY", "2", "62688.2")
        order_id = linear_id(venue.place_linear("sell", "2"))
        answer = venue.contracts("GET", "/v5/trade/order/details", {"contract_code": "BTC-USDT"})
        assert unlike(answer, capture("linear-v5-order-details-fills")) == []
        (fill,) = answer["data"]
        assert (fill["trade_turnover"], fill["trade_fee"], fill["role"]) == ("125.3764", "0.07522584", "TAKER")
        order = linear_order(venue, order_id)
        assert (order["fee"], order["fee_currency"], order["type"]) == ("-0.07522584", "USDT", "market")

    @pytest.mark.parametrize(
        ("terms", "state", "filled"),
        [
            ({"time_in_force": "ioc"}, "partially_canceled", "3"),
            ({"time_in_force": "fok"}, "canceled", "0"),
            ({"type": "post_only"}, "canceled", "0"),
        ],
    )
    def test_what_may_not_rest(self, venue: Any, terms: Any, state: str, filled: str) -> None:
        venue.crowd(LINEAR, "SELL", "3", "60000")
        row = linear_order(venue, linear_id(venue.place_linear("buy", "5", "60000", **terms)))
        assert (row["state"], row["trade_volume"], row["price"]) == (state, filled, "60000")
        assert row["cancel_reason"]

    def test_a_price_may_be_matched(self, venue: Any) -> None:
        for price in range(6):
            venue.crowd(LINEAR, "SELL", "1", str(60_000 + price))
        body = {"contract_code": "BTC-USDT", "margin_mode": "cross", "side": "buy", "type": "limit", "volume": "9"}
        answer = venue.contracts("POST", "/v5/trade/order", body | {"price_match": "optimal_5"})
        row = linear_order(venue, linear_id(answer))
        assert (row["price"], row["trade_volume"], row["price_match"]) == ("60004", "5", "optimal_5")

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"price": "50000.05"}, 1038),
            ({"volume": "0.5"}, 1040),
            ({"volume": "100000000"}, 1047),
            ({"margin_mode": None}, 1066),
            ({"side": "long"}, 1067),
            ({"position_side": "long"}, 1067),
            ({"client_order_id": "abc"}, 1067),
            ({"client_order_id": str(2**63)}, 1067),
            ({"reduce_only": 1}, 1048),
            ({"contract_code": "BTC-USDT-270326", "margin_mode": "isolated"}, 1331),
        ],
    )
    def test_refusals(self, venue: Any, change: Any, code: int) -> None:
        answer = venue.place_linear(**{"side": "buy", "volume": "5", "price": "50000"} | change)
        assert (answer["code"], answer["data"]) == (code, None)

    def test_client_ids_are_numbers_and_unique_while_open(self, venue: Any, capture: Any) -> None:
        client_id = str(2**63 - 1)
        first = venue.place_linear("buy", "5", "50000", client_order_id=int(client_id))
        assert first["data"]["client_order_id"] == client_id
        assert venue.place_linear("buy", "5", "50000", client_order_id=client_id)["code"] == 1050
        sent = {"contract_code": "BTC-USDT", "client_order_id": client_id}
        assert venue.contracts("GET", "/v5/trade/order", sent)["data"]["order_id"] == linear_id(first)
        assert venue.contracts("POST", "/v5/trade/cancel_order", sent)["code"] == 200
        second = venue.place_linear("buy", "5", "50000", client_order_id=client_id)  # free again
        assert linear_id(second) != linear_id(first)

    def test_two_sided_positions(self, venue: Any) -> None:
        assert venue.contracts("POST", "/v5/position/mode", {"position_mode": "dual_side"})["code"] == 200
        assert venue.place_linear("buy", "5", "50000")["code"] == 1067
        venue.crowd(LINEAR, "SELL", "5", "50000")
        linear_id(venue.place_linear("buy", "5", "50000", position_side="long"))
        venue.crowd(LINEAR, "BUY", "2", "50000")
        linear_id(venue.place_linear("sell", "2", "50000", position_side="short"))
        rows = venue.contracts("GET", "/v5/trade/position/opens")["data"]
        assert {(row["position_side"], row["direction"], row["volume"]) for row in rows} == {
            ("long", "buy", "5"),
            ("short", "sell", "2"),
        }
        refused = venue.contracts("POST", "/v5/position/mode", {"position_mode": "single_side"})
        assert refused["code"] == 1045

    def test_cancels_say_why_not(self, venue: Any, capture: Any, unlike: Any) -> None:
        cancel = "/v5/trade/cancel_order"
        order_id = linear_id(venue.place_linear("buy", "5", "50000"))
        sent = {"contract_code": "BTC-USDT", "order_id": order_id}
        codes = [venue.contracts("POST", cancel, sent)["code"] for _ in range(2)]
        assert codes == [200, 1071]
        assert venue.contracts("POST", cancel, sent | {"order_id": "17"})["code"] == 1017
        assert venue.contracts("POST", cancel, {"contract_code": "BTC-USDT"})["code"] == 1066
        assert venue.contracts("POST", "/v5/trade/cancel_all_orders")["code"] == 1051
        linear_id(venue.place_linear("buy", "5", "50000"))
        answer = venue.contracts("POST", "/v5/trade/cancel_all_orders", {"contract_code": "BTC-USDT"})
        assert unlike(answer, capture("linear-v5-cancel-all")) == []
        mixed = venue.contracts(
            "POST", "/v5/trade/cancel_batch_orders", {"contract_code": "BTC-USDT", "order_id": [order_id, "17"]}
        )
        assert [row["code"] for row in mixed["data"]] == [1071, 1017]

    def test_a_batch_fails_one_by_one(self, venue: Any, capture: Any, unlike: Any) -> None:
        order = {"contract_code": "BTC-USDT", "margin_mode": "cross", "side": "buy", "type": "limit", "volume": "1"}
        answer = venue.contracts("POST", "/v5/trade/batch_orders", [order | {"price": "50000"}, order])
        assert unlike(answer["data"][:1], capture("linear-v5-batch-orders")["data"]) == []
        assert [row["code"] for row in answer["data"]] == [200, 1066]

    def test_lists_have_ten_rows_and_pages(self, venue: Any) -> None:
        ids = [linear_id(venue.place_linear("buy", "1", "50000")) for _ in range(12)]
        first = venue.contracts("GET", "/v5/trade/order/opens")["data"]
        assert [row["order_id"] for row in first] == ids[:1:-1]
        rest = venue.contracts("GET", "/v5/trade/order/opens", {"from": first[-1]["id"], "direct": "next"})["data"]
        assert [row["order_id"] for row in rest] == ids[1::-1]
        assert venue.contracts("GET", "/v5/trade/order/history", {"contract_code": "BTC-USDT"})["code"] == 1066

    def test_history_has_what_is_done(self, venue: Any) -> None:
        order_id = linear_id(venue.place_linear("buy", "5", "50000"))
        sent = {"contract_code": "BTC-USDT", "margin_mode": "cross"}
        assert venue.contracts("GET", "/v5/trade/order/history", sent)["data"] == []
        venue.contracts("POST", "/v5/trade/cancel_all_orders")
        (row,) = venue.contracts("GET", "/v5/trade/order/history", sent | {"state": "canceled"})["data"]
        assert row["order_id"] == order_id
        assert row["id"] != order_id  # the query's own, to page by
        assert venue.contracts("GET", "/v5/trade/order/history", sent | {"from": row["id"]})["data"] == []

    def test_the_dead_mans_switch(self, venue: Any) -> None:
        linear_id(venue.place_linear("buy", "5", "50000"))
        venue.contracts("POST", "/v5/trade/cancel-after", {"on_off": 1, "time_out": 5000})
        venue.connect("derivatives_stream", "/linear-swap-ws").after(5000)
        assert venue.engine.open_orders(venue.account) == []


class TestLinearAccount:
    def test_balances_leverage_and_positions(self, venue: Any, capture: Any, unlike: Any) -> None:
        sent = {"contract_code": "BTC-USDT", "margin_mode": "cross", "lever_rate": 10}
        assert unlike(venue.contracts("POST", "/v5/position/lever", sent), capture("linear-v5-set-leverage")) == []
        venue.crowd(LINEAR, "SELL", "10", "50000")
        linear_id(venue.place_linear("buy", "10"))
        venue.crowd(LINEAR, "BUY", "1", "50999")
        venue.crowd(LINEAR, "SELL", "1", "51001")
        answer = venue.contracts("GET", "/v5/trade/position/opens")
        assert unlike(answer, capture("linear-v5-position-opens")) == []
        (row,) = answer["data"]
        assert (row["volume"], row["direction"], row["open_avg_price"], row["lever_rate"]) == ("10", "buy", "50000", 10)
        assert (row["profit_unreal"], row["margin"], row["mark_price"]) == ("10", "50", "51000")
        balance = venue.contracts("GET", "/v5/account/balance")
        assert unlike(balance, capture("linear-v5-account-balance")) == []
        (detail,) = balance["data"]["details"]
        (ours,) = [one for one in venue.engine.balances(venue.account) if one.wallet == "linear"]
        assert Decimal(detail["equity"]) == ours.total + 10
        assert Decimal(detail["available"]) == ours.available
        linear_id(venue.place_linear("buy", "1", "40000"))
        assert venue.contracts("POST", "/v5/position/lever", sent)["code"] == 1045

    def test_the_old_asset_mode_is_gone(self, venue: Any) -> None:
        assert venue.contracts("POST", "/v5/account/asset_mode", {"assets_mode": 0})["code"] == 1067
        assert venue.contracts("GET", "/v5/account/asset_mode")["data"] == {"asset_mode": 1}

    def test_a_position_is_closed_at_market(self, venue: Any) -> None:
        venue.crowd(LINEAR, "SELL", "5", "50000")
        linear_id(venue.place_linear("buy", "5"))
        venue.crowd(LINEAR, "BUY", "5", "50000")
        answer = venue.contracts(
            "POST", "/v5/trade/position", {"contract_code": "BTC-USDT", "margin_mode": "cross", "position_side": "both"}
        )
        assert isinstance(answer["data"]["order_id"], int)
        assert venue.contracts("GET", "/v5/trade/position/opens")["data"] == []


class TestLinearPushes:
    @pytest.fixture
    def recorded(self, captured_frames: Any) -> Any:
        return {f["topic"]: f for f in captured_frames("linear-v5-private") if f["op"] == "notify"}

    def test_an_order_is_told_as_it_goes(self, venue: Any, recorded: Any, unlike: Any) -> None:
        client, _ = venue.log_in_contracts()
        for topic in ("orders", "trade"):
            (ack,) = client.send({"op": "sub", "cid": topic, "topic": topic, "contract_code": "*"})
            assert (ack["err-code"], ack["cid"], ack["contract_code"]) == (0, topic, "*")
        placed = venue.place_linear("buy", "5", "50000", client_order_id=77)
        (frame,) = client.line.take()
        assert unlike(frame, recorded["orders"]) == []
        assert (frame["contract_code"], frame["data"]["state"]) == ("BTC-USDT", "new")
        venue.crowd(LINEAR, "SELL", "2", "50000")
        order, trade = client.line.take()
        assert (order["data"]["state"], order["data"]["trade_volume"]) == ("partially_filled", "2")
        assert unlike(trade, recorded["trade"]) == []
        (row,) = trade["data"]
        assert (row["order_id"], row["client_order_id"], row["role"]) == (linear_id(placed), "77", "maker")
        assert "trade_fee" not in row
        (fill,) = venue.contracts("GET", "/v5/trade/order/details", {"contract_code": "BTC-USDT"})["data"]
        assert fill["id"] != row["id"]
        assert (fill["trade_id"], fill["trade_volume"]) == (row["trade_id"], row["trade_volume"])

    def test_filled_may_be_told_before_the_whole_volume(self, venue: Any) -> None:
        client, _ = venue.log_in_contracts()
        client.send({"op": "sub", "cid": "1", "topic": "orders", "contract_code": "*"})
        for price in ("50000", "50001"):
            venue.crowd(LINEAR, "SELL", "2", price)
        linear_id(venue.place_linear("buy", "4", "50001"))
        told = [(frame["data"]["state"], frame["data"]["trade_volume"]) for frame in client.line.take()]
        assert told == [("new", "0"), ("filled", "2"), ("filled", "4")]

    def test_money_and_positions(self, venue: Any, recorded: Any, unlike: Any) -> None:
        client, _ = venue.log_in_contracts()
        _, snapshot = client.send({"op": "sub", "cid": "1", "topic": "account"})
        assert unlike(snapshot, recorded["account"]) == []
        assert (snapshot["event"], snapshot["data"]["equity"]) == ("snapshot", "0")  # look at the details
        client.send({"op": "sub", "cid": "2", "topic": "positions", "contract_code": "BTC-USDT"})
        venue.crowd(LINEAR, "SELL", "2", "50000")
        linear_id(venue.place_linear("buy", "2"))
        frames = client.line.take()
        account = [frame for frame in frames if frame["topic"] == "account"][-1]
        assert account["data"]["version"] > snapshot["data"]["version"]
        (position,) = [frame for frame in frames if frame["topic"] == "positions"]
        assert unlike(position, recorded["positions"]) == []
        assert (position["event"], position["data"][0]["volume"]) == ("filled", "2")
        other, _ = venue.log_in_contracts()
        _, shown = other.send({"op": "sub", "cid": "2", "topic": "positions", "contract_code": "*"})
        assert (shown["event"], shown["data"][0]["volume"]) == ("snapshot", "2")

    def test_bad_subscriptions(self, venue: Any, captured_frames: Any) -> None:
        client, _ = venue.log_in_contracts()

        def code(**frame: Any) -> int:
            (answer,) = client.send({"op": "sub", "cid": "1", **frame})
            return int(answer["err-code"])

        assert code(topic="orders", contract_code="NO-USDT") == 2011
        assert code(topic="orders") == 2040
        assert code(topic="nothing", contract_code="*") == 2010
        assert (code(topic="orders", contract_code="*"), code(topic="orders", contract_code="*")) == (0, 2014)
        assert code(op="unsub", topic="orders", contract_code="BTC-USDT") == 2012
        assert (code(topic="trade", contract_code="btc-usdt"), code(op="unsub", topic="trade", contract_code="*")) == (
            0,
            0,
        )
        assert client.session.subscribed == 1

    def test_public_topics_want_no_login(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        client = venue.connect("derivatives_stream", "/center-notification")
        ack, told = client.send({"op": "sub", "cid": "1", "topic": "public.linear-swap.heartbeat"})
        *_, recorded_ack, recorded = captured_frames("linear-highfreq-documented")
        assert unlike(ack, recorded_ack) == unlike(told, recorded) == []


class TestCoinOrders:
    def test_a_limit_order_from_start_to_end(self, venue: Any, capture: Any, unlike: Any) -> None:
        placed = venue.place_coin("buy", "open", 5, 50000)
        assert unlike(placed, capture("coinm-order-place")) == []
        order_id = coin_id(placed)
        assert int(order_id) > 2**53
        sent = {"contract_code": "BTC-USD", "order_id": order_id}
        (row,) = venue.contracts("POST", "/swap-api/v1/swap_order_info", sent)["data"]
        assert unlike(row, capture("coinm-fut-order-info")["data"][0]) == []
        assert (row["status"], row["volume"], row["offset"]) == (3, 5, "open")
        venue.crowd(COIN, "SELL", "2", "50000")
        (row,) = venue.contracts("POST", "/swap-api/v1/swap_order_info", sent)["data"]
        assert (row["status"], row["trade_volume"], row["trade_turnover"]) == (4, 2, 200)
        assert row["fee"] == Decimal("-0.0000008")  # negative: paid
        opens = venue.contracts("POST", "/swap-api/v1/swap_openorders", {"contract_code": "BTC-USD"})
        assert unlike(opens, capture("coinm-openorders")) == []
        cancelled = venue.contracts("POST", "/swap-api/v1/swap_cancel", sent)
        assert unlike(cancelled, capture("coinm-cancel")) == []
        again = venue.contracts("POST", "/swap-api/v1/swap_cancel", sent | {"order_id": f"{order_id},17"})
        assert (again["status"], again["data"]["successes"]) == ("ok", "")
        assert [error["err_code"] for error in again["data"]["errors"]] == [1071, 1061]

    def test_offsets_open_and_close_two_sides(self, venue: Any, capture: Any, unlike: Any) -> None:
        venue.crowd(COIN, "SELL", "5", "50000")
        coin_id(venue.place_coin("buy", "open", 5, 50000))
        assert not venue.account.hedge_mode  # that is the mode of linear contracts
        (held,) = venue.engine.positions(venue.account)
        assert (held.side, held.quantity) == (PositionSide.LONG, 5)
        coin_id(venue.place_coin("sell", "close", 3, 60000))
        assert venue.place_coin("sell", "close", 3, 60000)["err_code"] == 1048
        rows = venue.contracts("POST", "/swap-api/v1/swap_position_info", {"contract_code": "BTC-USD"})
        (row,) = rows["data"]
        recorded = capture("coinm-fut-position-info")["data"][0]
        assert unlike(row, recorded) == []
        held = tuple(Decimal(row[name]) for name in ("volume", "available"))
        assert (row["direction"], held) == ("buy", (Decimal(5), Decimal(2)))
        coin_id(venue.place_coin("sell", "open", 1, 60000))  # a short one beside it
        assert venue.place_coin("sell", None, 1, 60000)["err_code"] == 1066

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"lever_rate": None}, 1094),
            ({"price": 50000.05}, 1038),
            ({"volume": 100_000_000}, 1047),
            ({"order_price_type": "wish"}, 1034),
            ({"offset": "both"}, 1067),
            ({"client_order_id": "a"}, 1067),
            ({"contract_code": "NO-USD"}, 1013),
        ],
    )
    def test_refusals(self, venue: Any, capture: Any, unlike: Any, change: Any, code: int) -> None:
        answer = venue.place_coin(**{"direction": "buy", "offset": "open", "volume": 5, "price": 50000} | change)
        assert unlike(answer, capture("error-derivatives-1047")) == []
        assert answer["err_code"] == code

    def test_an_order_names_the_positions_leverage(self, venue: Any) -> None:
        coin_id(venue.place_coin("buy", "open", 1, 50000, lever_rate=7))
        assert venue.account.settings["leverage"][COIN] == 7
        assert venue.place_coin("buy", "open", 1, 50000, lever_rate=8)["err_code"] == 1349
        switch, sent = "/swap-api/v1/swap_switch_lever_rate", {"contract_code": "BTC-USD", "lever_rate": 9}
        assert venue.contracts("POST", switch, sent)["err_code"] == 1045
        venue.contracts("POST", "/swap-api/v1/swap_cancelall", {"contract_code": "BTC-USD"})
        assert venue.contracts("POST", switch, sent)["data"] == {"contract_code": "BTC-USD", "lever_rate": 9}
        assert venue.contracts("POST", switch, sent)["err_code"] == 1032  # once in three seconds

    def test_client_ids_serve_once_a_day(self, venue: Any) -> None:
        coin_id(venue.place_coin("buy", "open", 1, 50000, client_order_id=9))
        venue.contracts("POST", "/swap-api/v1/swap_cancel", {"contract_code": "BTC-USD", "client_order_id": "9"})
        assert venue.place_coin("buy", "open", 1, 50000, client_order_id=9)["err_code"] == 1050
        venue.clock.ms += 24 * 3600 * 1000
        coin_id(venue.place_coin("buy", "open", 1, 50000, client_order_id=9))

    @pytest.mark.parametrize(
        ("kind", "status", "filled"), [("ioc", 5, 2), ("fok", 7, 0), ("post_only", 7, 0), ("opponent_ioc", 5, 2)]
    )
    def test_what_may_not_rest(self, venue: Any, kind: str, status: int, filled: int) -> None:
        venue.crowd(COIN, "SELL", "2", "50000")
        order_id = coin_id(venue.place_coin("buy", "open", 5, 50000, order_price_type=kind))
        (row,) = venue.contracts(
            "POST", "/swap-api/v1/swap_order_info", {"contract_code": "BTC-USD", "order_id": order_id}
        )["data"]
        assert (row["status"], row["trade_volume"], row["order_price_type"]) == (status, filled, kind)

    def test_a_batch_hides_its_errors(self, venue: Any, capture: Any, unlike: Any) -> None:
        order = {"contract_code": "BTC-USD", "direction": "buy", "offset": "open", "lever_rate": 20, "price": 50000}
        order["order_price_type"] = "limit"
        answer = venue.contracts(
            "POST",
            "/swap-api/v1/swap_batchorder",
            {"orders_data": [order | {"volume": 1}, order | {"volume": 100_000_000}]},
        )
        assert unlike(answer, capture("coinm-batch-orders-partial-failure")) == []
        assert answer["data"]["errors"][0]["index"] == 2

    def test_dated_futures_are_asked_for_by_asset(self, venue: Any, capture: Any, unlike: Any) -> None:
        body = {
            "symbol": "BTC",
            "contract_type": "quarter",
            "direction": "sell",
            "offset": "open",
            "volume": 4,
            "lever_rate": 20,
            "price": 60000,
            "order_price_type": "limit",
        }
        order_id = coin_id(venue.contracts("POST", "/api/v1/contract_order", body))
        venue.crowd(FUTURE, "BUY", "4", "60000")
        fills = venue.contracts("POST", "/api/v3/contract_matchresults", {"symbol": "BTC", "trade_type": 0})
        assert unlike(fills, capture("coinm-fut-matchresults-v3")) == []
        (fill,) = fills["data"]
        match, order, number = fill["id"].split("-")
        assert (int(match), order, number) == (fill["match_id"], order_id, "1")
        assert (fill["role"], fill["fee_asset"], fill["trade_turnover"]) == ("Maker", "BTC", 400)
        assert fill["trade_fee"] == Decimal("-0.00000133")
        done = venue.contracts(
            "POST", "/api/v3/contract_hisorders", {"symbol": "BTC", "trade_type": 0, "type": 1, "status": "6"}
        )
        assert [row["order_id_str"] for row in done["data"]] == [order_id]
        account = venue.contracts("POST", "/api/v1/contract_account_info", {"symbol": "BTC"})
        assert unlike(account, capture("coinm-fut-account-info")) == []
        fee = venue.contracts("POST", "/api/v1/contract_fee", {"symbol": "BTC"})
        assert unlike(fee, capture("coinm-fut-fee")) == []
        assert (
            venue.contracts("POST", "/api/v1/contract_order", body | {"order_price_type": "market"})["err_code"] == 1034
        )

    def test_the_history_names_no_client_order_ids(self, venue: Any) -> None:
        coin_id(venue.place_coin("buy", "open", 1, 50000, client_order_id=77))
        venue.crowd(COIN, "SELL", "1", "50000")
        sent = {"contract": "BTC-USD", "trade_type": 0, "type": 1, "status": "0"}
        (row,) = venue.contracts("POST", "/swap-api/v3/swap_hisorders", sent)["data"]
        assert "client_order_id" not in row
        (row,) = venue.contracts("POST", INFO, {"contract_code": "BTC-USD", "client_order_id": "77"})["data"]
        assert row["client_order_id"] == 77

    def test_pages_of_the_history_come_in_the_direction_asked_for(self, venue: Any) -> None:
        for _ in range(3):
            coin_id(venue.place_coin("buy", "open", 1, 50000))
        venue.crowd(COIN, "SELL", "3", "50000")
        path, sent = "/swap-api/v3/swap_hisorders", {"contract": "BTC-USD", "trade_type": 0, "type": 1, "status": "0"}

        def asked(**more: Any) -> list[int]:
            return [row["query_id"] for row in venue.contracts("POST", path, sent | more)["data"]]

        oldest, middle, newest = asked(direct="next")
        assert oldest < middle < newest
        assert asked(direct="prev") == [newest, middle, oldest]
        assert asked(direct="next", from_id=middle) == [middle, newest]
        assert asked(direct="prev", from_id=middle) == [middle, oldest]

    def test_a_settlement_makes_order_info_forget_what_is_done(self, venue: Any) -> None:
        """What is open stays; the history still has what was done."""
        hour = 3_600_000
        venue.clock.ms += 8 * hour - (venue.clock.ms - 3 * hour) % (8 * hour)  # 03:00, 11:00 or 19:00 UTC
        done = coin_id(venue.place_coin("buy", "open", 1, 50000))
        venue.crowd(COIN, "SELL", "1", "50000")
        waiting = coin_id(venue.place_coin("buy", "open", 1, 49000))

        def asked(order_id: str) -> Any:
            return venue.contracts("POST", INFO, {"contract_code": "BTC-USD", "order_id": order_id})

        assert asked(done)["data"][0]["status"] == 6
        venue.clock.ms += hour + 1000
        assert asked(done)["err_code"] == 1017
        assert asked(waiting)["data"][0]["status"] == 3
        sent = {"contract": "BTC-USD", "trade_type": 0, "type": 1, "status": "0"}
        assert len(venue.contracts("POST", "/swap-api/v3/swap_hisorders", sent)["data"]) == 1

    def test_an_open_order_answers_to_its_client_order_id_for_eight_hours(self, venue: Any) -> None:
        coin = coin_id(venue.place_coin("buy", "open", 1, 50000, client_order_id=77))
        linear = linear_id(venue.place_linear("buy", "1", "50000", client_order_id="77"))
        name = {"contract_code": "BTC-USD", "client_order_id": "77"}
        v5 = name | {"contract_code": "BTC-USDT"}
        assert venue.contracts("POST", INFO, name)["data"][0]["order_id_str"] == coin
        assert venue.contracts("GET", "/v5/trade/order", v5)["data"]["order_id"] == linear
        venue.clock.ms += 8 * 3_600_000 + 1
        assert venue.contracts("POST", INFO, name)["err_code"] == 1017
        refused = venue.contracts("POST", "/swap-api/v1/swap_cancel", name)["data"]["errors"]
        assert [row["err_code"] for row in refused] == [1061]
        assert venue.contracts("GET", "/v5/trade/order", v5)["code"] == 1017
        assert venue.contracts("POST", "/v5/trade/cancel_order", v5)["code"] == 1017
        assert venue.contracts("GET", "/v5/trade/order/opens")["data"][0]["client_order_id"] == "77"
        listed = venue.contracts("POST", "/swap-api/v1/swap_openorders", {"contract_code": "BTC-USD"})["data"]["orders"]
        assert listed[0]["client_order_id"] == 77

    def test_fills_of_one_taker_order_share_the_match(self, venue: Any) -> None:
        for price in ("50000", "50000.1"):
            venue.crowd(COIN, "SELL", "2", price)
        coin_id(venue.place_coin("buy", "open", 4, 50001))
        rows = venue.contracts("POST", "/swap-api/v3/swap_matchresults", {"contract": "BTC-USD", "trade_type": 0})[
            "data"
        ]
        assert len({row["match_id"] for row in rows}) == 1
        assert len({row["id"] for row in rows}) == 2

    def test_the_dead_mans_switch(self, venue: Any) -> None:
        coin_id(venue.place_coin("buy", "open", 1, 50000))
        answer = venue.contracts("POST", "/swap-api/v1/swap-cancel-after", {"on_off": 1})
        assert (answer["code"], answer["data"]["trigger_time"]) == (200, venue.clock.ms + 5000)
        venue.connect("derivatives_stream", "/swap-ws").after(5000)
        assert venue.engine.open_orders(venue.account) == []


class TestCoinPushes:
    def test_an_order_is_told_as_it_goes(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        recorded = {f["topic"].partition(".")[0]: f for f in captured_frames("coinm-private") if f["op"] == "notify"}
        client, answer = venue.log_in_contracts("/notification")
        assert answer["err-code"] == 0
        (ack,) = client.send({"op": "sub", "cid": "1", "topic": "orders.*"})
        assert (ack["topic"], ack["err-code"]) == ("orders.*", 0)
        _, *accounts = client.send({"op": "sub", "cid": "2", "topic": "accounts.*"})
        assert {frame["topic"] for frame in accounts} == {"accounts.btc", "accounts.eth"}
        assert unlike(accounts[0], recorded["accounts"]) == []
        assert accounts[0]["event"] == "init"
        body = {
            "contract_code": "BTC270326",
            "direction": "sell",
            "offset": "open",
            "volume": 4,
            "lever_rate": 20,
            "price": 60000,
            "order_price_type": "limit",
        }
        order_id = coin_id(venue.contracts("POST", "/api/v1/contract_order", body))
        (frame,) = notified(client, "orders.btc")
        assert unlike(frame, recorded["orders"]) == []
        assert (frame["order_id_str"], frame["status"], frame["trade"]) == (order_id, 3, [])
        venue.crowd(FUTURE, "BUY", "4", "60000")
        frames = client.line.take()
        told = next(frame for frame in frames if frame["topic"] == "orders.btc")
        (trade,) = told["trade"]
        assert (told["status"], trade["trade_volume"], trade["role"]) == (6, 4, "maker")
        assert "order.match" in {frame.get("event") for frame in frames if frame["topic"] == "accounts.btc"}

    def test_a_post_only_order_that_would_take_is_told_once(self, venue: Any) -> None:
        client, _ = venue.log_in_contracts("/swap-notification")
        client.send({"op": "sub", "cid": "1", "topic": "orders.*"})
        venue.crowd(COIN, "SELL", "2", "50000")
        coin_id(venue.place_coin("buy", "open", 2, 50000, order_price_type="post_only"))
        coin_id(venue.place_coin("buy", "open", 2, 49999, order_price_type="post_only"))
        told = [(frame["status"], frame["price"]) for frame in notified(client, "orders.btc-usd")]
        assert told == [(7, 50000), (3, 49999)]

    def test_swaps_are_told_by_contract(self, venue: Any) -> None:
        client, _ = venue.log_in_contracts("/swap-notification")
        for topic in ("orders.btc-usd", "positions.btc-usd", "matchOrders.*"):
            assert client.send({"op": "sub", "cid": "1", "topic": topic})[0]["err-code"] == 0
        assert client.send({"op": "sub", "cid": "1", "topic": "orders.ltc-usd"})[0]["err-code"] == 2011
        venue.crowd(COIN, "SELL", "2", "50000")
        coin_id(venue.place_coin("buy", "open", 2, 50000))
        frames = client.line.take()
        assert {frame["topic"] for frame in frames} == {"matchOrders.btc-usd", "orders.btc-usd", "positions.btc-usd"}
        position = next(frame["data"][0] for frame in frames if frame["topic"].startswith("positions"))
        assert (position["volume"], position["direction"]) == (2, "buy")
        venue.crowd(COIN, "BUY", "2", "50000")
        coin_id(venue.place_coin("sell", "close", 2, 50000))
        gone = notified(client, "positions.btc-usd")[-1]["data"][0]
        assert (gone["volume"], gone["direction"]) == (0, "buy")
