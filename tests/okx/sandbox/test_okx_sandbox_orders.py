"""Orders over REST: every type and flag, what is refused and how, ids, look-ups, batches, algo orders."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from astra.models.markets import MarketStatus
from astra.models.orders import OrderStatus, OrderType

SPOT, SWAP = "OKX-SPOT-BTC-USDT", "OKX-PERP-BTC-USDT"
Shape = Callable[[Any], Any]


def order(venue: Any, native: str, row: Any) -> Any:
    """The order as REST shows it."""
    return venue.call("GET", "/trade/order", {"instId": native, "ordId": row["ordId"]})[0]


class TestPlacing:
    def test_answers_have_the_fields_of_the_recordings(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        venue.place("BTC-USDT-SWAP", "buy", "1", "50000", clOrdId="first")
        calls = {
            "place-order": ("order", {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit"}),
            "place-batch-orders-recorded": (
                "batch-orders",
                [{"instId": "BTC-USDT-SWAP", "tdMode": "cross", "side": "buy", "ordType": "limit"}],
            ),
            "amend-order": ("amend-order", {"instId": "BTC-USDT-SWAP", "clOrdId": "first", "newSz": "2"}),
            "cancel-order": ("cancel-order", {"instId": "BTC-USDT-SWAP", "clOrdId": "first"}),
            "cancel-batch-orders": ("cancel-batch-orders", [{"instId": "BTC-USDT-SWAP", "clOrdId": "first"}]),
        }
        for recording, (path, sent) in calls.items():
            for one in sent if isinstance(sent, list) else [sent]:
                if "ordType" in one:
                    one |= {"px": "50000", "sz": "1"}
            _, body = venue.signed("POST", f"/trade/{path}", sent)
            recorded = captures.body(recording)
            assert body.keys() == recorded.keys()
            assert body["data"][0].keys() - {"subCode"} == recorded["data"][0].keys(), recording
            assert shape_of(body["data"][0]).items() >= shape_of(recorded["data"][0]).items()

    def test_an_order_that_is_refused_is_refused_in_its_row(self, venue: Any, captures: Any) -> None:
        venue.account.settings["acctLv"] = "1"
        sent = {"instId": "BTC-USDT-SWAP", "tdMode": "cross", "side": "buy", "ordType": "limit", "px": "1", "sz": "1"}
        status, body = venue.signed("POST", "/trade/order", {**sent, "clOrdId": "uJrfGFth9F"})
        recorded = captures.body("error-account-mode")
        assert (status, body["code"], body["msg"]) == (200, recorded["code"], recorded["msg"])
        assert body["data"][0].items() >= recorded["data"][0].items()

    def test_ids_are_beyond_a_double_and_grow(self, venue: Any) -> None:
        ids = [int(venue.place("BTC-USDT", "buy", "1", "50000")["ordId"]) for _ in range(3)]
        assert ids == sorted(set(ids))
        assert all(len(str(number)) == 19 for number in ids)
        assert all(number > 2**53 for number in ids)

    def test_quantities_are_contracts(self, venue: Any) -> None:
        """1.5 contracts of 0.01 BTC at 50,000 are worth 750 USDT, a taker pays 0.05 % of it."""
        venue.crowd(SWAP, "SELL", "1.5", "50000")
        shown = order(venue, "BTC-USDT-SWAP", venue.place("BTC-USDT-SWAP", "buy", "1.5"))
        names = ("state", "sz", "accFillSz", "avgPx", "fee", "feeCcy")
        assert [shown[name] for name in names] == ["filled", "1.5", "1.5", "50000", "-0.375", "USDT"]

    def test_inverse_contracts_pay_in_coin(self, venue: Any) -> None:
        """7 contracts of 100 USD at 50,000 are 0.014 BTC, a maker pays 0.02 % of it."""
        row = venue.place("BTC-USD-SWAP", "sell", "7", "50000")
        venue.crowd("OKX-PERP-BTC-USD-COINM", "BUY", "7", "50000")
        shown = order(venue, "BTC-USD-SWAP", row)
        assert [shown[name] for name in ("state", "fee", "feeCcy")] == ["filled", "-0.0000028", "BTC"]
        (fill,) = venue.call("GET", "/trade/fills", {"instType": "SWAP"})
        assert [fill[name] for name in ("fillSz", "fillPx", "execType", "feeRate")] == ["7", "50000", "M", "-0.0002"]

    def test_options_pay_premium_in_coin(self, venue: Any) -> None:
        """5 contracts of 0.01 BTC at 0.1 BTC each coin are 0.005 BTC, a taker pays 0.03 % of it."""
        symbol = "OKX-OPT-BTC-USD-270326-90000-C-COINM"
        venue.crowd(symbol, "SELL", "5", "0.1")
        shown = order(venue, "BTC-USD-270326-90000-C", venue.place("BTC-USD-270326-90000-C", "buy", "5", "0.1"))
        assert [shown[name] for name in ("state", "fee", "feeCcy")] == ["filled", "-0.0000015", "BTC"]
        (position,) = venue.call("GET", "/account/positions")
        assert [position[name] for name in ("instType", "pos", "avgPx", "ccy")] == ["OPTION", "5", "0.1", "BTC"]

    def test_spot_buys_are_charged_in_what_they_receive(self, venue: Any) -> None:
        venue.crowd(SPOT, "SELL", "1", "50000")
        bought = order(venue, "BTC-USDT", venue.place("BTC-USDT", "buy", "0.2", tgtCcy="base_ccy"))
        assert [bought[name] for name in ("fee", "feeCcy", "rebateCcy")] == ["-0.0002", "BTC", "USDT"]
        venue.crowd(SPOT, "BUY", "1", "49000")
        sold = order(venue, "BTC-USDT", venue.place("BTC-USDT", "sell", "0.2"))
        assert [sold[name] for name in ("fee", "feeCcy", "tgtCcy")] == ["-9.8", "USDT", "base_ccy"]

    def test_a_spot_market_buy_is_sized_in_quote_unless_told(self, venue: Any) -> None:
        venue.crowd(SPOT, "SELL", "1", "50000")
        shown = order(venue, "BTC-USDT", venue.place("BTC-USDT", "buy", "100"))
        names = ("sz", "tgtCcy", "accFillSz", "state")
        assert [shown[name] for name in names] == ["100", "quote_ccy", "0.002", "filled"]

    @pytest.mark.parametrize(("kind", "source"), [("fok", "13"), ("ioc", "14"), ("optimal_limit_ioc", "0")])
    def test_what_cannot_be_filled_at_once_is_cancelled(self, venue: Any, kind: str, source: str) -> None:
        price = None if kind == "optimal_limit_ioc" else "50000"
        if kind == "ioc":
            venue.crowd(SWAP, "SELL", "0.5", "50000")
        shown = order(venue, "BTC-USDT-SWAP", venue.place("BTC-USDT-SWAP", "buy", "1", price, ordType=kind))
        filled = "0.5" if kind == "ioc" else "0"
        names = ("state", "cancelSource", "accFillSz", "ordType")
        assert [shown[name] for name in names] == ["canceled", source, filled, kind]

    def test_a_post_only_order_that_would_take_is_accepted_and_cancelled(self, venue: Any) -> None:
        venue.crowd(SPOT, "SELL", "1", "50000")
        row = venue.place("BTC-USDT", "buy", "0.1", "50000", ordType="post_only", clOrdId="maker")
        assert row["sCode"] == "0"
        shown = order(venue, "BTC-USDT", row)
        assert [shown[name] for name in ("state", "cancelSource", "clOrdId")] == ["canceled", "31", "maker"]
        assert venue.call("GET", "/trade/order", {"instId": "BTC-USDT", "clOrdId": "maker"}) == [shown]
        assert venue.call("GET", "/trade/orders-history", {"instType": "SPOT"}) == [shown]
        resting = venue.place("BTC-USDT", "buy", "0.1", "49999", ordType="post_only", clOrdId="maker")
        assert order(venue, "BTC-USDT", resting)["state"] == "live"
        assert int(resting["ordId"]) > int(row["ordId"])

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"instId": "BTC-EUR"}, "51001"),
            ({"instId": ""}, "50014"),
            ({"clOrdId": "with-hyphen"}, "51000"),
            ({"clOrdId": "x" * 33}, "51000"),
            ({"tag": "x" * 17}, "51000"),
            ({"tdMode": "cash"}, "51000"),
            ({"tdMode": ""}, "50014"),
            ({"posSide": "long"}, "51000"),
            ({"ordType": "stop"}, "51000"),
            ({"side": "BUY"}, "51000"),
            ({"px": ""}, "50014"),
            ({"px": "-1"}, "51000"),
            ({"px": "50000.05"}, "51000"),
            ({"px": 50000.5}, "51000"),
            ({"sz": "0.015"}, "51121"),
            ({"sz": "0.001"}, "51121"),
            ({"sz": "1000000000"}, "51101"),
            ({"sz": "90000000"}, "51008"),
            ({"tgtCcy": "base_ccy"}, "51000"),
            ({"reduceOnly": True}, "51169"),
            ({"ordtype": "limit"}, "51000"),
            ({"attachAlgoOrds": []}, "51000"),
            ({"stpMode": "none"}, "51000"),
        ],
    )
    def test_what_is_wrong_with_an_order_is_said(self, venue: Any, changes: dict[str, Any], code: str) -> None:
        sent = {"instId": "BTC-USDT-SWAP", "tdMode": "cross", "side": "buy", "ordType": "limit"}
        status, body = venue.signed("POST", "/trade/order", {**sent, "px": "50000", "sz": "1", **changes})
        assert (status, body["code"], body["data"][0]["sCode"]) == (200, "1", code)
        assert body["data"][0]["ordId"] == ""
        assert venue.engine.orders(venue.account) == []

    def test_too_small_is_said_of_whole_lots(self, venue: Any) -> None:
        assert venue.place("BTC-USDT", "buy", "0.00000999", "50000")["sCode"] == "51020"

    def test_a_suspended_market_takes_nothing(self, venue: Any) -> None:
        market = venue.engine.markets[SWAP]
        venue.engine.list_market(market.model_copy(update={"status": MarketStatus.HALTED}))
        assert venue.place("BTC-USDT-SWAP", "buy", "1", "50000")["sCode"] == "51022"

    @pytest.mark.parametrize(("level", "allowed"), [("1", "cash"), ("2", "cash"), ("3", "cross"), ("4", "cross")])
    def test_spot_goes_by_the_mode_of_the_account(self, venue: Any, level: str, allowed: str) -> None:
        venue.account.settings["acctLv"] = level
        codes = {mode: venue.place("BTC-USDT", "buy", "1", "50000", tdMode=mode)["sCode"] for mode in ("cash", "cross")}
        assert codes == {mode: "0" if mode == allowed else "51000" for mode in codes}

    def test_long_short_mode_asks_for_the_side_of_the_position(self, venue: Any) -> None:
        venue.call("POST", "/account/set-position-mode", {"posMode": "long_short_mode"})
        venue.crowd(SWAP, "SELL", "5", "50000")
        assert venue.place("BTC-USDT-SWAP", "buy", "1")["sCode"] == "51000"
        assert venue.place("BTC-USDT-SWAP", "buy", "2", posSide="long")["sCode"] == "0"
        venue.crowd(SWAP, "BUY", "1", "49000")
        assert venue.place("BTC-USDT-SWAP", "sell", "1", posSide="long")["sCode"] == "0"
        (position,) = venue.call("GET", "/account/positions", {"instId": "BTC-USDT-SWAP"})
        assert [position[name] for name in ("posSide", "pos", "availPos")] == ["long", "1", "1"]
        assert venue.place("BTC-USDT", "buy", "1", "50000", posSide="net")["sCode"] == "51000"
        assert venue.place("BTC-USDT", "buy", "1", "50000")["sCode"] == "0"
        assert venue.place("BTC-USD-270326-90000-C", "buy", "1", "0.1", posSide="net")["sCode"] == "0"

    @pytest.mark.parametrize(("ahead_ms", "code"), [(1000, "0"), (-1, "50036"), (7_200_000, "50037")])
    def test_a_deadline_that_has_passed_keeps_the_order_out(self, venue: Any, ahead_ms: int, code: str) -> None:
        sent = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        _, body = venue.signed("POST", "/trade/order", sent, exptime=str(venue.clock.ms + ahead_ms))
        assert body["code"] == code
        assert len(venue.engine.orders(venue.account)) == (code == "0")


class TestClientIds:
    def test_they_are_unique_among_pending_orders_of_the_account(self, venue: Any) -> None:
        assert venue.place("BTC-USDT", "buy", "1", "50000", clOrdId="one")["sCode"] == "0"
        assert venue.place("BTC-USDT-SWAP", "buy", "1", "50000", clOrdId="one")["sCode"] == "51016"
        other = venue.open_account("other")
        sent = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        assert venue.call("POST", "/trade/order", {**sent, "clOrdId": "one"}, other)[0]["sCode"] == "0"

    def test_after_a_fill_the_same_id_is_taken_again(self, venue: Any) -> None:
        first = venue.place("BTC-USDT", "buy", "1", "50000", clOrdId="one")
        venue.crowd(SPOT, "SELL", "1", "50000")
        second = venue.place("BTC-USDT", "buy", "1", "50000", clOrdId="one")
        assert second["sCode"] == "0"
        (latest,) = venue.call("GET", "/trade/order", {"instId": "BTC-USDT", "clOrdId": "one"})
        assert latest["ordId"] == second["ordId"] != first["ordId"]


class TestAmendingAndCancelling:
    def test_price_and_total_size_change(self, venue: Any) -> None:
        row = venue.place("BTC-USDT-SWAP", "buy", "2", "50000")
        venue.crowd(SWAP, "SELL", "0.5", "50000")
        (answer,) = venue.call(
            "POST",
            "/trade/amend-order",
            {"instId": "BTC-USDT-SWAP", "ordId": row["ordId"], "newSz": "3", "newPx": "49000", "reqId": "r1"},
        )
        assert (answer["ordId"], answer["reqId"]) == (row["ordId"], "r1")
        shown = order(venue, "BTC-USDT-SWAP", row)
        names = ("sz", "px", "accFillSz", "state")
        assert [shown[name] for name in names] == ["3", "49000", "0.5", "partially_filled"]

    def test_what_cannot_be_amended(self, venue: Any) -> None:
        def code(**sent: Any) -> str:
            _, body = venue.signed("POST", "/trade/amend-order", {"instId": "BTC-USDT", "newSz": "2", **sent})
            return str(body["data"][0]["sCode"])

        filled = venue.place("BTC-USDT", "buy", "1", "50000")
        venue.crowd(SPOT, "SELL", "1", "50000")
        gone = venue.place("BTC-USDT", "buy", "1", "40000")
        venue.call("POST", "/trade/cancel-order", {"instId": "BTC-USDT", "ordId": gone["ordId"]})
        maker = venue.place("BTC-USDT", "buy", "1", "40000", ordType="post_only")
        venue.crowd(SPOT, "SELL", "1", "60000")
        assert code(ordId="1") == "51503"
        assert code(ordId=gone["ordId"]) == "51509"
        assert code(ordId=filled["ordId"]) == "51510"
        assert code(ordId=maker["ordId"], newSz="", newPx="60000") == "51511"
        assert code(ordId=maker["ordId"], newSz="") == "51500"
        assert code() == "50015"
        assert order(venue, "BTC-USDT", maker)["state"] == "live"
        assert code(ordId=maker["ordId"], newSz="", newPx="60000", cxlOnFail=True) == "51511"
        assert order(venue, "BTC-USDT", maker)["state"] == "canceled"

    def test_what_cannot_be_cancelled(self, venue: Any) -> None:
        def code(ident: str) -> str:
            _, body = venue.signed("POST", "/trade/cancel-order", {"instId": "BTC-USDT", "ordId": ident})
            return str(body["data"][0]["sCode"])

        filled = venue.place("BTC-USDT", "buy", "1", "50000")["ordId"]
        venue.crowd(SPOT, "SELL", "1", "50000")
        resting = venue.place("BTC-USDT", "buy", "1", "50000")["ordId"]
        assert [code(ident) for ident in (resting, resting, filled, "1")] == ["0", "51401", "51402", "51400"]

    def test_batches_answer_row_by_row(self, venue: Any) -> None:
        good = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        orders = [{**good, "clOrdId": "a"}, {**good, "instId": "BTC-EUR"}, {**good, "clOrdId": "a"}]
        _, body = venue.signed("POST", "/trade/batch-orders", orders)
        assert body["code"] == "2"
        assert [row["sCode"] for row in body["data"]] == ["0", "51001", "51016"]
        change = {"instId": "BTC-USDT", "clOrdId": "a", "newPx": "49000"}
        _, body = venue.signed("POST", "/trade/amend-batch-orders", [change, {**change, "clOrdId": "b"}])
        assert [row["sCode"] for row in body["data"]] == ["0", "51503"]
        _, body = venue.signed("POST", "/trade/cancel-batch-orders", [{"instId": "BTC-USDT", "clOrdId": "a"}] * 2)
        assert (body["code"], [row["sCode"] for row in body["data"]]) == ("2", ["0", "51401"])

    def test_the_dead_man_switch(self, venue: Any) -> None:
        kept = venue.place("BTC-USDT", "buy", "1", "50000", tag="keep")
        lost = venue.place("BTC-USDT-SWAP", "buy", "1", "50000", tag="lose")
        (answer,) = venue.call("POST", "/trade/cancel-all-after", {"timeOut": "10", "tag": "lose"})
        assert answer == {"triggerTime": str(venue.clock.ms + 10_000), "tag": "lose", "ts": str(venue.clock.ms)}
        venue.clock.ms += 9_999
        assert order(venue, "BTC-USDT-SWAP", lost)["state"] == "live"
        venue.clock.ms += 1
        shown = order(venue, "BTC-USDT-SWAP", lost)
        assert (shown["state"], shown["cancelSource"]) == ("canceled", "20")
        assert order(venue, "BTC-USDT", kept)["state"] == "live"
        venue.call("POST", "/trade/cancel-all-after", {"timeOut": "60"})
        venue.clock.ms += 1000
        assert venue.call("POST", "/trade/cancel-all-after", {"timeOut": "0"})[0]["triggerTime"] == "0"
        venue.clock.ms += 120_000
        assert order(venue, "BTC-USDT", kept)["state"] == "live"
        for seconds in ("9", "121", "-1"):
            venue.clock.ms += 1000
            assert venue.signed("POST", "/trade/cancel-all-after", {"timeOut": seconds})[1]["code"] == "51000"
        assert venue.signed("POST", "/trade/cancel-all-after", {"timeOut": "0"})[1]["code"] == "50011"


class TestLookUps:
    def test_rows_have_the_fields_of_the_documents(self, venue: Any, captures: Any) -> None:
        resting = venue.place("BTC-USDT", "buy", "1", "40000")
        venue.crowd(SPOT, "SELL", "1", "50000")
        venue.place("BTC-USDT", "buy", "100")
        for recording, path, sent in (
            ("order-details", "order", {"instId": "BTC-USDT", "ordId": resting["ordId"]}),
            ("orders-pending", "orders-pending", {"instType": "SPOT"}),
            ("orders-history", "orders-history", {"instType": "SPOT"}),
            ("fills", "fills", {"instType": "SPOT"}),
            ("account-rate-limit", "account-rate-limit", {}),
        ):
            (row,) = venue.call("GET", f"/trade/{path}", sent)
            (documented,) = captures.body(recording)["data"]
            assert documented.keys() - row.keys() == set(), recording
            for name in documented:
                assert type(row[name]) is type(documented[name]), (recording, name)

    def test_an_unfilled_cancelled_order_is_forgotten_after_two_hours(self, venue: Any) -> None:
        row = venue.place("BTC-USDT", "buy", "1", "50000")
        venue.call("POST", "/trade/cancel-order", {"instId": "BTC-USDT", "ordId": row["ordId"]})
        venue.clock.ms += 7_200_000
        assert order(venue, "BTC-USDT", row)["state"] == "canceled"
        venue.clock.ms += 1
        _, body = venue.signed("GET", "/trade/order", {"instId": "BTC-USDT", "ordId": row["ordId"]})
        assert (body["code"], body["data"]) == ("51603", [])
        assert venue.call("GET", "/trade/orders-history", {"instType": "SPOT"}) == []

    def test_pages_run_from_the_newest_backwards(self, venue: Any) -> None:
        ids = [venue.place("BTC-USDT", "buy", "1", str(50_000 + n))["ordId"] for n in range(5)]

        def page(**sent: Any) -> list[str]:
            return [row["ordId"] for row in venue.call("GET", "/trade/orders-pending", sent)]

        assert page() == ids[::-1]
        assert page(limit="2") == [ids[4], ids[3]]
        assert page(limit="2", after=ids[3]) == [ids[2], ids[1]]
        assert page(after=ids[0]) == []
        assert page(before=ids[2]) == [ids[4], ids[3]]
        assert page(instId="ETH-USDT") == []
        assert page(instType="SWAP") == []
        assert page(state="partially_filled") == []

    def test_fills_are_paged_by_their_bills(self, venue: Any) -> None:
        for n in range(3):
            venue.place("BTC-USDT", "buy", "1", str(50_000 + n))
        venue.crowd(SPOT, "SELL", "3", "50000")
        rows = venue.call("GET", "/trade/fills-history", {"instType": "SPOT"})
        assert [row["fillPx"] for row in rows] == ["50000", "50001", "50002"]
        bills = [int(row["billId"]) for row in rows]
        assert bills == sorted(bills, reverse=True)
        older = venue.call("GET", "/trade/fills", {"after": rows[0]["billId"], "limit": "1"})
        assert older == rows[1:2]
        assert venue.call("GET", "/trade/fills", {"ordId": rows[2]["ordId"]}) == rows[2:]


class TestAlgoOrders:
    def algo(self, venue: Any, **sent: Any) -> Any:
        order = {"instId": "BTC-USDT-SWAP", "tdMode": "cross", "side": "sell", "sz": "1", "ordType": "conditional"}
        _, body = venue.signed("POST", "/trade/order-algo", {**order, **sent})
        (row,) = body["data"]
        return row

    def pending(self, venue: Any, kind: str = "conditional") -> Any:
        return venue.call("GET", "/trade/orders-algo-pending", {"ordType": kind})

    @pytest.fixture(autouse=True)
    def traded_at_50000(self, venue: Any) -> None:
        venue.crowd(SWAP, "BUY", "10", "50000")
        venue.crowd(SWAP, "SELL", "1", "50000")

    def test_a_stop_waits_triggers_and_becomes_an_order(self, venue: Any) -> None:
        row = self.algo(venue, slTriggerPx="49000", slOrdPx="-1", algoClOrdId="stop")
        assert row["sCode"] == "0"
        assert venue.call("GET", "/trade/orders-pending") == []
        (waiting,) = self.pending(venue)
        names = ("algoId", "algoClOrdId", "slTriggerPx", "slOrdPx", "tpTriggerPx", "state")
        assert [waiting[name] for name in names] == [row["algoId"], "stop", "49000", "-1", "", "live"]
        venue.crowd(SWAP, "BUY", "5", "48000")
        venue.crowd(SWAP, "SELL", "9", "50000")
        venue.crowd(SWAP, "BUY", "1", "49000")
        venue.crowd(SWAP, "SELL", "1", "49000")
        assert self.pending(venue) == []
        (done,) = venue.call("GET", "/trade/orders-algo-history", {"ordType": "conditional", "state": "effective"})
        (shown,) = venue.call("GET", "/trade/orders-history", {"instType": "SWAP"})
        assert done["ordId"] == shown["ordId"] != done["algoId"]
        names = ("algoId", "algoClOrdId", "clOrdId", "state", "avgPx", "ordType")
        assert [shown[name] for name in names] == [row["algoId"], "stop", "", "filled", "48000", "market"]

    def test_trigger_orders_wait_from_either_side(self, venue: Any) -> None:
        for side, price, kind in (
            ("buy", "51000", OrderType.STOP_LIMIT),
            ("buy", "49000", OrderType.TAKE_PROFIT_LIMIT),
            ("sell", "49000", OrderType.STOP_LIMIT),
            ("sell", "51000", OrderType.TAKE_PROFIT_LIMIT),
        ):
            row = self.algo(venue, ordType="trigger", side=side, triggerPx=price, orderPx="50000")
            assert row["sCode"] == "0"
            waiting = venue.engine.open_orders(venue.account)[-1]
            assert (waiting.type, waiting.stop_price) == (kind, Decimal(price))
        assert len(self.pending(venue, "trigger")) == 4

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            ({"slTriggerPx": "51000", "slOrdPx": "-1"}, "51280"),
            ({"tpTriggerPx": "49000", "tpOrdPx": "-1"}, "51279"),
            ({"slTriggerPx": "49000", "slOrdPx": "-1", "side": "buy"}, "51278"),
            ({"tpTriggerPx": "51000", "tpOrdPx": "-1", "side": "buy"}, "51277"),
            ({"slTriggerPx": "49000"}, "50014"),
            ({"slTriggerPx": "49000", "slOrdPx": "-1", "tpTriggerPx": "51000", "tpOrdPx": "-1"}, "51000"),
            ({"slTriggerPx": "49000", "slOrdPx": "-1", "slTriggerPxType": "mark"}, "51000"),
            ({"ordType": "move_order_stop"}, "51000"),
            ({}, "50014"),
        ],
    )
    def test_what_is_wrong_is_said(self, venue: Any, sent: dict[str, str], code: str) -> None:
        assert self.algo(venue, **sent)["sCode"] == code

    def test_a_list_has_one_kind_but_for_stops_and_pairs(self, venue: Any) -> None:
        self.algo(venue, slTriggerPx="49000", slOrdPx="-1")
        assert len(self.pending(venue, "conditional,oco")) == 1
        for kinds in ("conditional,trigger", "conditional,oco,trigger", "stop"):
            _, body = venue.signed("GET", "/trade/orders-algo-pending", {"ordType": kinds})
            assert body["code"] == "51000"

    def test_cancelling(self, venue: Any) -> None:
        first = self.algo(venue, slTriggerPx="49000", slOrdPx="-1")
        self.algo(venue, slTriggerPx="48000", slOrdPx="47000", algoClOrdId="mine")
        assert self.algo(venue, slTriggerPx="48000", slOrdPx="-1", algoClOrdId="mine")["sCode"] == "51065"
        named = [{"algoId": first["algoId"]}, {"algoClOrdId": "mine"}, {"algoId": first["algoId"]}]
        _, body = venue.signed("POST", "/trade/cancel-algos", [{"instId": "BTC-USDT-SWAP", **one} for one in named])
        assert (body["code"], [row["sCode"] for row in body["data"]]) == ("2", ["0", "0", "51400"])
        assert self.pending(venue) == []
        cancelled = venue.call("GET", "/trade/orders-algo-history", {"ordType": "conditional", "state": "canceled"})
        assert len(cancelled) == 2
        assert venue.engine.orders(venue.account)[0].status is OrderStatus.CANCELED


class TestLimits:
    SENT = {"tdMode": "cash", "side": "buy", "ordType": "limit", "px": "50000", "sz": "0.001"}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def at_the_beginning_of_a_window(self, venue: Any) -> None:
        venue.clock.ms += 2000 - venue.clock.ms % 2000

    def test_orders_are_counted_by_instrument(self, venue: Any) -> None:
        statuses = [venue.signed("POST", "/trade/order", {"instId": "BTC-USDT", **self.SENT})[0] for _ in range(61)]
        assert statuses == [200] * 60 + [429]
        assert venue.signed("POST", "/trade/order", {"instId": "BTC-USD", **self.SENT})[0] == 200
        assert venue.signed("POST", "/trade/cancel-order", {"instId": "BTC-USDT", "ordId": "1"})[0] == 200
        assert venue.signed("POST", "/trade/batch-orders", [{"instId": "BTC-USDT", **self.SENT}])[0] == 429
        assert venue.signed("POST", "/trade/batch-orders", [{"instId": "BTC-USDT", **self.SENT}] * 2)[0] == 200
        venue.clock.ms += 2000
        assert venue.signed("POST", "/trade/order", {"instId": "BTC-USDT", **self.SENT})[0] == 200

    def test_options_are_counted_by_family(self, venue: Any) -> None:
        sent = {"tdMode": "cross", "side": "buy", "ordType": "limit", "px": "0.01", "sz": "1"}
        natives = ["BTC-USD-270326-90000-C", "BTC-USD-270326-90000-P"]
        statuses = [venue.signed("POST", "/trade/order", {"instId": natives[n % 2], **sent})[0] for n in range(61)]
        assert statuses == [200] * 60 + [429]

    def test_a_batch_is_charged_whole_or_not_at_all(self, venue: Any) -> None:
        batch = [{"instId": "BTC-USDT", **self.SENT}] * 20
        statuses = [venue.signed("POST", "/trade/batch-orders", batch)[0] for _ in range(16)]
        assert statuses == [200] * 15 + [429]
        assert len(venue.engine.orders(venue.account)) == 300

    def test_the_account_as_a_whole_has_a_limit(self, venue: Any) -> None:
        """1000 new and amended orders in 2 s, over all instruments."""
        codes = set()
        for native in ("BTC-USDT", "BTC-USD", "ETH-USDT", "SOL-USDT"):
            for _ in range(15):
                status, body = venue.signed("POST", "/trade/batch-orders", [{"instId": native, **self.SENT}] * 20)
                codes.add((status, body["code"]))
        assert (200, "50061") in codes
        assert len(venue.engine.orders(venue.account)) == 1000
