"""Advanced Trade's orders: configurations, refusals, editing, cancelling, history, and the user channel."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from astra.models.orders import OrderType, TimeInForce

BTC, BIP = "COINBASE-SPOT-BTC-USD", "COINBASE-PERP-BTC-USD-BIP"
LIMIT = {"base_size": "1", "limit_price": "50000"}


def reasons(answer: Any) -> set[str]:
    """The reasons that say something, wherever they stand."""
    assert answer["success"] is False
    error = answer["error_response"]
    found = {error[name] for name in ("error", "preview_failure_reason", "new_order_failure_reason")}
    return {reason for reason in found if not reason.startswith("UNKNOWN_")}


class TestPlacing:
    def test_the_answers_have_the_recorded_shape(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        ours = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT, post_only=False)
        theirs = capture("advanced-create-order-ok")
        assert ours.keys() == theirs.keys()
        assert not unlike(ours, theirs)
        assert ours["failure_reason"] == "UNKNOWN_FAILURE_REASON"
        refused = venue.place("BTC-USD", "BUY", "market_market_fok", "two", base_size="1")
        assert reasons(refused) == {"UNSUPPORTED_ORDER_CONFIGURATION"}
        theirs = capture("advanced-create-order-rejected")
        assert not [d for d in unlike(refused, theirs) if "preview" not in d and "order_configuration" not in d]

    @pytest.mark.parametrize(
        ("side", "configuration", "members", "kind", "in_force"),
        [
            ("BUY", "limit_limit_gtc", LIMIT, OrderType.LIMIT, TimeInForce.GTC),
            ("BUY", "limit_limit_gtd", LIMIT | {"end_time": "2027-01-01T00:00:00Z"}, OrderType.LIMIT, TimeInForce.GTD),
            ("BUY", "sor_limit_ioc", LIMIT, OrderType.LIMIT, TimeInForce.IOC),
            ("BUY", "limit_limit_fok", LIMIT, OrderType.LIMIT, TimeInForce.FOK),
            ("SELL", "market_market_ioc", {"base_size": "1"}, OrderType.MARKET, TimeInForce.IOC),
            ("BUY", "market_market_ioc", {"quote_size": "100"}, OrderType.MARKET, TimeInForce.IOC),
        ],
    )
    def test_configurations_become_what_they_say(
        self, venue: Any, side: str, configuration: str, members: Any, kind: OrderType, in_force: TimeInForce
    ) -> None:
        venue.crowd(BTC, "BUY", "0.1", "49000")
        venue.crowd(BTC, "SELL", "0.1", "51000")
        venue.place("BTC-USD", side, configuration, **members)
        (order,) = venue.engine.orders(venue.account)
        assert (order.type, order.time_in_force) == (kind, in_force)
        shown = venue.call("GET", "/orders/historical/batch")["orders"][0]["order_configuration"]
        assert shown == {configuration: members}

    @pytest.mark.parametrize(
        ("side", "direction", "kind"),
        [
            ("BUY", "UP", OrderType.STOP_LIMIT),
            ("SELL", "DOWN", OrderType.STOP_LIMIT),
            ("BUY", "DOWN", OrderType.TAKE_PROFIT_LIMIT),
            ("SELL", "UP", OrderType.TAKE_PROFIT_LIMIT),
        ],
    )
    def test_a_stop_waits_in_its_direction(self, venue: Any, side: str, direction: str, kind: OrderType) -> None:
        venue.crowd(BTC, "BUY", "1", "50000")
        venue.crowd(BTC, "SELL", "1", "50000")
        price = "51000" if direction == "UP" else "49000"
        stop = {"stop_price": price, "stop_direction": f"STOP_DIRECTION_STOP_{direction}"}
        venue.place("BTC-USD", side, "stop_limit_stop_limit_gtc", base_size="1", limit_price=price, **stop)
        (order,) = venue.engine.open_orders(venue.account)
        assert order.type is kind
        (row,) = venue.call("GET", "/orders/historical/batch", order_status="OPEN")["orders"]
        assert (row["order_type"], row["trigger_status"]) == ("STOP_LIMIT", "STOP_PENDING")

    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            ({"limit_price": "50000.001"}, "INVALID_PRICE_PRECISION"),
            ({"base_size": "0.000000001"}, "INVALID_SIZE_PRECISION"),
            ({"base_size": "0.00000001"}, "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL"),
            ({"base_size": "3000"}, "INSUFFICIENT_FUND"),
            ({"limit_price": "60000", "post_only": True}, "INVALID_LIMIT_PRICE_POST_ONLY"),
            ({"limit_price": ""}, "INVALID_LIMIT_PRICE"),
        ],
    )
    def test_limits_are_refused_with_their_reason(self, venue: Any, members: Any, reason: str) -> None:
        venue.crowd(BTC, "SELL", "1", "55000")
        assert reason in reasons(venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT | members))
        assert venue.engine.orders(venue.account) == []

    @pytest.mark.parametrize(
        ("product", "side", "configuration", "members", "reason"),
        [
            ("BTC-USD", "SIDEWAYS", "limit_limit_gtc", LIMIT, "INVALID_SIDE"),
            ("BTC-XYZ", "BUY", "limit_limit_gtc", LIMIT, "INVALID_PRODUCT_ID"),
            ("BTC_USDC-PERPETUAL", "BUY", "limit_limit_gtc", LIMIT, "INVALID_PRODUCT_ID"),
            ("BSV-USD", "BUY", "limit_limit_gtc", LIMIT, "UNTRADABLE_PRODUCT"),
            ("ETH-USD", "SELL", "market_market_ioc", {"base_size": "1"}, "INVALID_NO_LIQUIDITY"),
            ("BTC-USD", "SELL", "market_market_ioc", {"quote_size": "100"}, "UNSUPPORTED_ORDER_CONFIGURATION"),
            ("BTC-USD", "BUY", "trigger_bracket_gtc", {"base_size": "1"}, "UNSUPPORTED_ORDER_CONFIGURATION"),
            ("BIP-20DEC30-CDE", "BUY", "market_market_ioc", {"quote_size": "100"}, "UNSUPPORTED_ORDER_CONFIGURATION"),
        ],
    )
    def test_refusals_name_their_reason(
        self, venue: Any, product: str, side: str, configuration: str, members: Any, reason: str
    ) -> None:
        venue.crowd(BTC, "SELL", "1", "55000")
        assert reason in reasons(venue.place(product, side, configuration, **members))
        assert venue.engine.orders(venue.account) == []

    @pytest.mark.parametrize(
        "body",
        [
            b"nonsense",
            {"product_id": "BTC-USD", "side": "BUY"},
            {"client_order_id": "x", "product_id": "BTC-USD", "side": "BUY", "order_configuration": {}},
            {
                "client_order_id": "x",
                "product_id": "BTC-USD",
                "side": "BUY",
                "order_config": {"limit_limit_gtc": LIMIT},
            },
            {
                "client_order_id": "x",
                "product_id": "BTC-USD",
                "side": "BUY",
                "order_configuration": {"limit_gtc": LIMIT},
            },
            {
                "client_order_id": "x",
                "product_id": "BTC-USD",
                "side": "BUY",
                "order_configuration": {"limit_limit_gtc": {"base_size": 1, "limit_price": "5"}},
            },
            {
                "client_order_id": "x",
                "product_id": "BTC-USD",
                "side": "BUY",
                "order_configuration": {"limit_limit_gtc": LIMIT | {"postonly": True}},
            },
        ],
    )
    def test_malformed_bodies_are_bad_requests(self, venue: Any, body: Any) -> None:
        answer = venue.signed("POST", "/orders", body)
        assert (answer.status, json.loads(answer.body)["error"]) == (400, "INVALID_ARGUMENT")

    def test_a_client_id_makes_one_order_for_ever(self, venue: Any) -> None:
        first = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        again = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        assert again == first
        venue.call("POST", "/orders/batch_cancel", {"order_ids": [first["order_id"]]})
        assert venue.place("ETH-USD", "SELL", "limit_limit_gtc", base_size="1", limit_price="9000") == first
        assert len(venue.engine.orders(venue.account)) == 1

    def test_orders_under_an_alias_keep_its_name(self, venue: Any) -> None:
        placed = venue.place("BTC-USDC", "BUY", "limit_limit_gtc", **LIMIT)
        assert placed["success_response"]["product_id"] == "BTC-USDC"
        assert venue.engine.depth(BTC, 1)[1][0].quantity == 1
        (row,) = venue.call("GET", "/orders/historical/batch", product_ids="BTC-USDC")["orders"]
        assert row["product_id"] == "BTC-USDC"
        assert venue.call("GET", "/orders/historical/batch", product_ids="BTC-USD")["orders"] == []

    def test_an_alias_is_paid_from_its_own_wallet(self, venue: Any) -> None:
        poor = venue.open_account("poor", {"spot": {"USDC": Decimal(60_000)}})
        body = {"client_order_id": "one", "side": "BUY", "order_configuration": {"limit_limit_gtc": LIMIT}}
        refused = venue.signed("POST", "/orders", body | {"product_id": "BTC-USD"}, account=poor)
        assert json.loads(refused.body)["message"] == "account is not available"
        venue.crowd(BTC, "SELL", "1", "50000")
        venue.call("POST", "/orders", body | {"product_id": "BTC-USDC"}, account=poor)
        (fill,) = venue.call("GET", "/orders/historical/fills", account=poor)["fills"]
        assert (fill["product_id"], fill["commission"]) == ("BTC-USDC", "600")
        rows = venue.call("GET", "/accounts", account=poor)["accounts"]
        shown = {row["currency"]: row["available_balance"]["value"] for row in rows}
        assert shown == {"BTC": "1", "USD": "0", "USDC": "9400"}

    def test_a_preview_changes_nothing(self, venue: Any) -> None:
        body = {"product_id": "BTC-USD", "side": "BUY", "order_configuration": {"limit_limit_gtc": LIMIT}}
        assert venue.call("POST", "/orders/preview", body)["errs"] == []
        body["order_configuration"] = {"limit_limit_gtc": LIMIT | {"base_size": "3000"}}
        assert venue.call("POST", "/orders/preview", body)["errs"] == ["PREVIEW_INSUFFICIENT_FUND"]
        assert venue.engine.orders(venue.account) == []


class TestLookingUp:
    def test_an_order_has_the_documented_shape(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        venue.crowd(BTC, "SELL", "0.25", "50000")
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT, post_only=False)
        ours = venue.call("GET", f"/orders/historical/{placed['order_id']}")
        found = unlike(ours, capture("advanced-order"))
        assert [text for text in found if "edit_history" not in text] == []
        row = ours["order"]
        assert (row["status"], row["filled_size"], row["average_filled_price"]) == ("OPEN", "0.25", "50000")
        # Taker fee of 1.2 % on 12,500 dollars.
        assert (row["filled_value"], row["total_fees"], row["completion_percentage"]) == ("12500", "150", "25")
        assert row["total_value_after_fees"] == "12650"
        assert row["outstanding_hold_amount"] == "37500"

    def test_an_unknown_order_is_not_found(self, venue: Any) -> None:
        for number in ("nonsense", "52cfe5e2-0b29-4c19-a245-a6a773de5030"):
            answer = venue.signed("GET", f"/orders/historical/{number}")
            assert (answer.status, "not found" in json.loads(answer.body)["message"]) == (404, True)

    def test_others_orders_are_not_found(self, venue: Any) -> None:
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        other = venue.open_account("other")
        assert venue.signed("GET", f"/orders/historical/{placed['order_id']}", account=other).status == 404

    def test_lists_filter_and_page(self, venue: Any) -> None:
        for number in range(5):
            venue.clock.ms += 1000
            venue.place("BTC-USD", "BUY", "limit_limit_gtc", f"id{number}", **LIMIT)
        venue.place("ETH-USD", "SELL", "limit_limit_gtc", "eth", base_size="1", limit_price="9000")
        listed = venue.call("GET", "/orders/historical/batch", limit=4)
        assert (listed["has_next"], len(listed["orders"])) == (True, 4)
        rest = venue.call("GET", "/orders/historical/batch", limit=4, cursor=listed["cursor"])
        assert (rest["has_next"], rest["cursor"], len(rest["orders"])) == (False, "", 2)
        names = [row["client_order_id"] for row in listed["orders"] + rest["orders"]]
        assert names == ["eth", "id4", "id3", "id2", "id1", "id0"]
        (row,) = venue.call("GET", "/orders/historical/batch", product_ids="ETH-USD")["orders"]
        assert row["client_order_id"] == "eth"
        assert venue.call("GET", "/orders/historical/batch", order_status="FILLED")["orders"] == []
        mixed = venue.signed("GET", "/orders/historical/batch", order_status=["OPEN", "FILLED"])
        assert mixed.status == 400

    def test_fills(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        venue.crowd(BTC, "SELL", "0.5", "50000")
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        venue.clock.ms += 1000
        venue.crowd(BTC, "SELL", "0.5", "50000")
        ours = venue.call("GET", "/orders/historical/fills", order_ids=placed["order_id"])
        assert not unlike(ours, capture("advanced-fills"))
        newest, oldest = ours["fills"]
        assert (newest["liquidity_indicator"], newest["commission"]) == ("MAKER", "150")
        assert (oldest["liquidity_indicator"], oldest["commission"]) == ("TAKER", "300")
        assert newest["entry_id"] != oldest["entry_id"]
        assert "has_next" not in ours

    def test_quote_sized_orders_have_fills_in_quote(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "1", "50000")
        placed = venue.place("BTC-USD", "BUY", "market_market_ioc", quote_size="100")
        (fill,) = venue.call("GET", "/orders/historical/fills", order_ids=placed["order_id"])["fills"]
        assert (fill["size_in_quote"], fill["size"], fill["commission"]) == (True, "100", "1.2")
        row = venue.call("GET", f"/orders/historical/{placed['order_id']}")["order"]
        assert (row["size_in_quote"], row["filled_size"], row["status"]) == (True, "0.002", "FILLED")


class TestEditing:
    def test_price_and_size_change_the_id_stays(self, venue: Any) -> None:
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        number = placed["order_id"]
        ours = venue.call("POST", "/orders/edit", {"order_id": number, "price": "49000", "size": "2"})
        assert ours == {"success": True, "success_response": {"order_id": number}}
        row = venue.call("GET", f"/orders/historical/{number}")["order"]
        assert row["order_configuration"]["limit_limit_gtc"] == {"base_size": "2", "limit_price": "49000"}
        assert [edit["price"] for edit in row["edit_history"]] == ["49000"]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"price": "49000"}, "INVALID_EDITED_SIZE"),
            ({"price": "49000", "size": "0.25"}, "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"),
            ({"price": "49000.001", "size": "1"}, "INVALID_PRICE_PRECISION"),
            ({"price": "49000", "size": "1", "order_id": "nonsense"}, "ORDER_NOT_FOUND"),
        ],
    )
    def test_refusals(
        self, venue: Any, capture: Callable[[str], Any], unlike: Any, change: dict[str, str], reason: str
    ) -> None:
        venue.crowd(BTC, "SELL", "0.25", "50000")
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        ours = venue.call("POST", "/orders/edit", {"order_id": placed["order_id"]} | change)
        assert not unlike(ours, capture("advanced-edit-order"))
        assert (ours["success"], ours["errors"]["edit_failure_reason"]) == (False, reason)
        (order,) = venue.engine.open_orders(venue.account)
        assert (order.price, order.quantity) == (50_000, 1)
        row = venue.call("GET", f"/orders/historical/{placed['order_id']}")["order"]
        assert row["order_configuration"] == {"limit_limit_gtc": LIMIT}


class TestCancelling:
    def test_each_order_has_its_result(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        number = placed["order_id"]
        ours = venue.call("POST", "/orders/batch_cancel", {"order_ids": [number, "nonsense"]})
        assert not unlike(ours, capture("advanced-batch-cancel"))
        assert [(row["success"], row["failure_reason"]) for row in ours["results"]] == [
            (True, "UNKNOWN_CANCEL_FAILURE_REASON"),
            (False, "UNKNOWN_CANCEL_ORDER"),
        ]
        assert venue.call("GET", f"/orders/historical/{number}")["order"]["status"] == "CANCELLED"
        again = venue.call("POST", "/orders/batch_cancel", {"order_ids": [number]})["results"]
        assert again[0]["success"] is False

    def test_at_most_a_hundred_a_call(self, venue: Any) -> None:
        assert venue.signed("POST", "/orders/batch_cancel", {"order_ids": ["x"] * 101}).status == 400

    def test_what_is_left_of_ioc_is_cancelled_and_gtd_expires(self, venue: Any) -> None:
        venue.crowd(BTC, "SELL", "0.25", "50000")
        venue.place("BTC-USD", "BUY", "sor_limit_ioc", **LIMIT)
        venue.place("BTC-USD", "BUY", "limit_limit_gtd", "two", **LIMIT, end_time="2026-11-21T12:00:01Z")
        venue.clock.ms += 2_000_000
        venue.engine.expire_due()
        rows = venue.call("GET", "/orders/historical/batch")["orders"]
        shown = {row["client_order_id"]: (row["status"], row["filled_size"]) for row in rows}
        assert shown == {"one": ("CANCELLED", "0.25"), "two": ("EXPIRED", "0")}


class TestUserChannel:
    def listen(self, venue: Any, *products: str) -> Any:
        client = venue.connect("advanced_user_stream")
        client.subscribe("user", *products, jwt=venue.token())
        return client

    def test_the_snapshot_precedes_its_acknowledgement(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        client = venue.connect("advanced_user_stream")
        ours = client.subscribe("user", jwt=venue.token())
        recorded = captured_frames("user-advanced-envelopes")
        assert [frame["channel"] for frame in ours] == ["user", "subscriptions"]
        for mine, theirs in zip(ours, recorded, strict=False):
            assert list(mine) == list(theirs)
            assert not unlike(mine, theirs)

    @pytest.mark.parametrize(("orders", "sizes"), [(0, [0]), (49, [49]), (50, [50, 0]), (120, [50, 50, 20])])
    def test_a_message_with_fewer_than_fifty_ends_the_snapshot(self, venue: Any, orders: int, sizes: list[int]) -> None:
        for number in range(orders):
            venue.own(BTC, "BUY", "0.01", str(40_000 + number))
        frames = venue.connect("advanced_user_stream").subscribe("user", jwt=venue.token())
        assert [len(frame["events"][0]["orders"]) for frame in frames[:-1]] == sizes

    def test_orders_are_told_from_pending_to_the_end(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        client = self.listen(venue)
        placed = venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        venue.crowd(BTC, "SELL", "0.25", "50000")
        venue.crowd(BTC, "SELL", "0.25", "50000")
        venue.call("POST", "/orders/batch_cancel", {"order_ids": [placed["order_id"]]})
        rows = [frame["events"][0]["orders"][0] for frame in client.line.take()]
        assert [(row["status"], row["cumulative_quantity"], row["leaves_quantity"]) for row in rows] == [
            ("PENDING", "0", "1"),
            ("OPEN", "0", "1"),
            ("OPEN", "0.25", "0.75"),
            ("OPEN", "0.5", "0.5"),
            ("CANCELLED", "0.5", "0"),
        ]
        assert {row["order_id"] for row in rows} == {placed["order_id"]}
        assert rows[3]["total_fees"] == "150"
        theirs = captured_frames("user-advanced-documented")[-1]["events"][0]["orders"][0]
        assert rows[0].keys() == theirs.keys()
        assert not unlike(rows[0], theirs)

    def test_a_product_filter_keeps_others_out_and_knows_aliases(self, venue: Any) -> None:
        client = self.listen(venue, "BTC-USDC")
        venue.place("BTC-USD", "BUY", "limit_limit_gtc", **LIMIT)
        assert client.line.take() == []
        venue.place("BTC-USDC", "BUY", "limit_limit_gtc", "two", **LIMIT)
        assert client.line.take()[0]["events"][0]["orders"][0]["product_id"] == "BTC-USDC"

    def test_what_happens_on_the_gateway_or_to_others_is_not_told(self, venue: Any) -> None:
        client = self.listen(venue)
        venue.own("COINBASE-PERP-BTC-USDC", "BUY", "10", "50000")
        venue.own(BTC, "BUY", "1", "50000", venue.open_account("other"))
        assert client.line.take() == []

    def test_the_futures_balance_is_told_as_bare_strings(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        client = venue.connect("advanced_user_stream")
        first = client.subscribe("futures_balance_summary", jwt=venue.token())[0]
        assert not unlike(first, captured_frames("futures-balance-summary-documented")[-1])
        venue.own(BIP, "BUY", "10", "50000")
        (frame,) = client.line.take()
        assert frame["events"][0]["type"] == "update"
        before, after = (Decimal(f["events"][0]["fcm_balance_summary"]["available_margin"]) for f in (first, frame))
        assert before - after == 250

    def test_the_market_host_serves_it_too(self, venue: Any) -> None:
        frames = venue.connect("advanced_stream").subscribe("user", jwt=venue.token())
        assert [frame["channel"] for frame in frames] == ["user", "subscriptions"]
