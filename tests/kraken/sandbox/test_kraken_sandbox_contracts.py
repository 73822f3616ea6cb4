"""The derivatives REST API: instruments and books, signatures, orders, positions, money, budgets, history."""

import json
from decimal import Decimal

import pytest

from astra.sandbox import HttpRequest
from astra_kraken.sandbox import SandboxLimits
from astra_kraken.sandbox.keys import challenge_signature, derivatives_signature

PF = "KRAKEN-PERP-XBT-USD"
PI = "KRAKEN-PERP-XBT-USD-COINM"
OPTION = "KRAKEN-OPT-XBT-USD-270326-90000-C"
PEPE = "KRAKEN-PERP-PEPE-USD"


def types(events):
    return [event["type"] for event in events]


class TestPublic:
    def test_instruments_have_the_venues_rows(self, venue, capture, unlike):
        listed = venue.open_contracts("instruments")["instruments"]
        rows = {row["symbol"]: row for row in listed}
        newest = capture("futures-instruments-documented")["instruments"][0]
        recorded = {row["symbol"]: row for row in capture("futures-instruments")["instruments"]}
        for symbol in ("PI_XBTUSD", "PF_ETHUSD"):
            theirs = newest | recorded[symbol]
            assert unlike(rows[symbol], theirs) == []
            missing = recorded[symbol].keys() - rows[symbol].keys()
            assert missing <= {"feeScheduleUid"}, "deprecated since 2026-06"
            assert rows[symbol]["contractValueTradePrecision"] == recorded[symbol]["contractValueTradePrecision"]
            assert rows[symbol]["tickSize"] == recorded[symbol]["tickSize"]
        assert rows["PF_PEPEUSD"]["contractValueTradePrecision"] == -3
        assert rows["FI_XBTUSD_270326"]["lastTradingTime"] == "2027-03-26T16:00:00.000Z"
        assert rows["FF_XBTUSD_270326"]["lastTradingTime"] == "2027-03-26T08:00:00.000Z"
        assert rows["OF_XBTUSD_270326_90000_C"]["type"] == "options"
        index = [row for row in listed if not row["tradeable"]]
        assert {row["type"] for row in index} == {"spot index"}

    def test_a_tick_far_below_a_cent_comes_with_an_exponent(self, venue):
        target = "/derivatives/api/v3/instruments"
        answer = venue.sandbox.http(HttpRequest("derivatives_rest", "GET", target, {}, b""))
        assert b'"tickSize":1e-10' in answer.body

    def test_books_trades_and_tickers_have_the_venues_shapes(self, venue, capture, unlike):
        venue.crowd(PI, "BUY", "2900", "89999.5")
        venue.crowd(PI, "SELL", "100", "90000")
        venue.crowd(PI, "BUY", "25", "90000")
        book = venue.open_contracts("orderbook", symbol="pi_xbtusd")
        assert unlike(book, capture("futures-orderbook") | {"serverTime": ""}) == []
        assert book["orderBook"] == {"bids": [[89999.5, 2900]], "asks": [[90000, 75]]}
        history = venue.open_contracts("history", symbol="PI_XBTUSD")
        assert unlike(history, capture("futures-history") | {"serverTime": ""}) == []
        assert history["history"][0]["side"] == "buy"
        ticker = venue.open_contracts("tickers/PI_XBTUSD")["ticker"]
        assert unlike(ticker, capture("futures-tickers")["tickers"][0]) == []
        assert len(venue.open_contracts("tickers")["tickers"]) == 13
        funding = venue.open_contracts("/derivatives/api/v4/historicalfundingrates", symbol="PI_XBTUSD")
        assert unlike(funding, capture("futures-historicalfundingrates")) == []
        executions = venue.open_contracts("/api/history/v3/market/PI_XBTUSD/executions")
        theirs = capture("futures-public-executions")
        assert unlike(executions, theirs | {"len": 1}) == []
        assert executions["elements"][0]["event"]["Execution"]["execution"]["takerOrder"]["direction"] == "Buy"

    def test_what_is_not_there(self, venue):
        def body(path):
            return json.loads(venue.sandbox.http(HttpRequest("derivatives_rest", "GET", path, {}, b"")).body)

        assert body("/derivatives/api/v3/orderbook?symbol=PF_NOPE")["error"] == "contractNotFound"
        assert body("/derivatives/api/v3/orderbook")["error"].startswith("requiredArgumentMissing")
        assert body("/derivatives/api/v3/orderbook?symbl=PF_XBTUSD")["error"].startswith("invalidArgument: symbl")
        assert body("/derivatives/api/v3/nope")["error"] == "notFound"


class TestAccess:
    def test_signatures_are_those_of_the_vectors(self, vectors):
        rest, stream = vectors["futures-rest-sendorder-no-nonce"], vectors["futures-ws-challenge-docs"]
        signature = derivatives_signature(rest["secret"], rest["path"], rest["nonce"], rest["post_data"])
        assert signature == rest["expected"]
        assert challenge_signature(stream["secret"], stream["challenge"]) == stream["expected"]

    def test_a_wrong_key_or_signature_is_refused(self, venue, capture, unlike):
        for headers in ({}, {"apikey": "nobody"}, {"apikey": venue.account.key, "authent": "AAAA"}):
            request = HttpRequest("derivatives_rest", "GET", "/derivatives/api/v3/accounts", headers, b"")
            body = json.loads(venue.sandbox.http(request).body)
            theirs = capture("error-futures-authentication")
            assert unlike(body, theirs) == []
            assert body["error"] == theirs["error"]

    def test_a_nonce_is_optional_and_grows_where_it_is_sent(self, venue):
        def ask(nonce):
            return json.loads(venue.contracts_answer("GET", "accounts", nonce=nonce).body)

        assert ask("10")["result"] == "success"
        assert ask(None)["result"] == "success"
        assert ask("10")["error"] == "nonceDuplicate"
        assert ask("9")["error"] == "nonceBelowThreshold"
        assert ask("11")["result"] == "success"

    def test_calls_draw_on_a_budget(self, make_venue, capture):
        venue = make_venue()
        for _ in range(49):
            venue.contracts("POST", "cancelorder", order_id="nothing")
        for _ in range(5):
            venue.contracts("GET", "openorders")
        assert venue.contracts_error("GET", "fills") == capture("error-futures-apilimit")["error"]
        assert venue.open_contracts("tickers")["result"] == "success", "what is public is free"
        assert "elements" in venue.contracts("GET", "/api/history/v3/orders"), "history has a budget of its own"
        venue.clock.ms += 10_000
        venue.contracts("GET", "fills")

    def test_the_budget_may_be_lifted(self, make_venue):
        venue = make_venue(SandboxLimits(enforced=False))
        for _ in range(60):
            venue.contracts("POST", "cancelorder", order_id="nothing")


class TestPlacing:
    def test_a_resting_order_is_placed(self, venue, capture, unlike):
        body = venue.contracts(
            "POST", "sendorder", orderType="lmt", symbol="PI_XBTUSD", side="buy", size=10000, limitPrice=9400
        )
        theirs = capture("futures-sendorder")
        assert unlike(body, theirs) == []
        assert types(body["sendStatus"]["orderEvents"]) == ["PLACE"]
        (order,) = venue.engine.open_orders(venue.account)
        assert (order.quantity, order.price) == (10000, 9400)
        (row,) = venue.contracts("GET", "openorders")["openOrders"]
        assert unlike(row, capture("futures-openorders")["openOrders"][0]) == []
        assert row["order_id"] == body["sendStatus"]["order_id"]

    def test_an_order_filled_at_once_is_placed_all_the_same(self, venue, capture, unlike):
        venue.crowd(PF, "SELL", "0.5", "90000")
        venue.crowd(PF, "SELL", "0.7", "90010")
        status = venue.send("mkt", "PF_XBTUSD", "buy", "1")
        theirs = capture("futures-sendorder-execution")["sendStatus"]
        assert unlike(status, theirs) == []
        assert status["status"] == "placed"
        assert types(status["orderEvents"]) == ["EXECUTION", "EXECUTION"]
        first, second = status["orderEvents"]
        assert (first["amount"], first["orderPriorExecution"]["filled"]) == (0.5, 0)
        assert (second["amount"], second["orderPriorExecution"]["filled"]) == (0.5, 0.5)
        assert first["orderPriorExecution"]["type"] == "ioc"
        assert first["orderPriorExecution"]["limitPrice"] == 90900, "one per cent beyond the best price"
        assert venue.contracts("GET", "openorders")["openOrders"] == []
        fills = venue.contracts("GET", "fills")["fills"]
        assert [fill["fill_id"] for fill in fills] == [second["executionId"], first["executionId"]]

    def test_part_is_filled_and_the_rest_stands(self, venue):
        venue.crowd(PF, "SELL", "0.5", "90000")
        status = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000, cliOrdId="mine")
        assert types(status["orderEvents"]) == ["PLACE", "EXECUTION"]
        (row,) = venue.contracts("GET", "openorders")["openOrders"]
        assert (row["status"], row["filledSize"], row["unfilledSize"]) == ("partiallyFilled", 0.5, 0.5)
        assert row["cliOrdId"] == "mine"

    @pytest.mark.parametrize(
        ("kind", "status", "reason"),
        [
            ("post", "postWouldExecute", "POST_WOULD_EXECUTE"),
            ("fok", "iocWouldNotExecute", "IOC_WOULD_NOT_EXECUTE"),
        ],
    )
    def test_refusals_show_the_order_and_the_reason(self, venue, kind, status, reason):
        venue.crowd(PF, "SELL", "0.5", "90000")
        answer = venue.send(kind, "PF_XBTUSD", "buy", "1", limitPrice=90000)
        assert answer["status"] == status
        (event,) = answer["orderEvents"]
        assert (event["type"], event["reason"]) == ("REJECT", reason)

    def test_an_ioc_order_takes_what_there_is(self, venue):
        venue.crowd(PF, "SELL", "0.5", "90000")
        answer = venue.send("ioc", "PF_XBTUSD", "buy", "1", limitPrice=90000)
        assert (answer["status"], types(answer["orderEvents"])) == ("placed", ["EXECUTION", "CANCEL"])
        answer = venue.send("ioc", "PF_XBTUSD", "buy", "1", limitPrice=90000)
        assert answer["status"] == "iocWouldNotExecute"

    def test_success_may_mean_a_refused_order(self, venue, capture, unlike):
        status = venue.send("lmt", "PF_XBTUSD", "buy", "100000", limitPrice=90000)
        theirs = capture("error-futures-insufficient")["sendStatus"]
        assert status["status"] == theirs["status"]
        assert status["orderEvents"] == []
        assert venue.send("lmt", "PF_XBTUSD", "buy", "0.00001", limitPrice=90000)["status"] == "invalidSize"
        assert venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice="90000.5")["status"] == "invalidPrice"
        assert venue.send("lmt", "PF_PEPEUSD", "buy", "1500", limitPrice="0.000004")["status"] == "invalidSize"
        reducing = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000, reduceOnly="true")
        assert reducing["status"] == "wouldNotReducePosition"
        assert reducing["orderEvents"][0]["reason"] == "WOULD_NOT_REDUCE_POSITION"

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"symbol": "PF_NOPE"}, "contractNotFound"),
            ({"orderType": "limit"}, "invalidArgument: orderType"),
            ({"side": "long"}, "invalidArgument: side"),
            ({"size": "x"}, "invalidArgument: size"),
            ({"limitPrice": None}, "requiredArgumentMissing: limitPrice"),
            ({"clientOrderId": "x"}, "invalidArgument: clientOrderId"),
            ({"processBefore": "2020-01-01T00:00:00Z"}, "invalidArgument: processBefore"),
        ],
    )
    def test_what_is_no_order_is_an_error(self, venue, changed, error):
        order = {"orderType": "lmt", "symbol": "PF_XBTUSD", "side": "buy", "size": 1, "limitPrice": 90000} | changed
        given = {name: value for name, value in order.items() if value is not None}
        assert venue.contracts_error("POST", "sendorder", **given).startswith(error)
        assert venue.engine.orders(venue.account) == []

    def test_a_client_id_is_taken_once_for_all(self, venue):
        first = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000, cliOrdId="mine")
        again = venue.send("lmt", "PI_XBTUSD", "buy", "1", limitPrice=90000, cliOrdId="mine")
        assert again["status"] == "clientOrderIdAlreadyExist"
        venue.contracts("POST", "cancelorder", cliOrdId="mine")
        again = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000, cliOrdId="mine")
        assert again["status"] == "clientOrderIdAlreadyExist"
        assert venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=1, cliOrdId="x" * 101)["status"] == (
            "clientOrderIdTooLong"
        )
        assert first["cliOrdId"] == "mine"

    def test_parameters_may_come_in_the_query_of_a_post(self, venue):
        path = "/derivatives/api/v3/sendorder"
        query = "orderType=lmt&symbol=PF_XBTUSD&side=buy&size=1&limitPrice=90000&cliOrdId=my%20id%2F1"
        headers = {
            "apikey": venue.account.key,
            "authent": derivatives_signature(venue.account.secret, path, "", query),
        }
        request = HttpRequest("derivatives_rest", "POST", f"{path}?{query}", headers, b"")
        assert json.loads(venue.sandbox.http(request).body)["sendStatus"]["status"] == "placed"
        assert venue.engine.open_orders(venue.account)[0].client_order_id == "my id/1"

    def test_stops_wait_as_triggers(self, venue, capture, unlike):
        venue.crowd(PF, "SELL", "1", "90000")
        venue.crowd(PF, "BUY", "0.1", "90000")
        sent = venue.send("stp", "PF_XBTUSD", "sell", "0.5", stopPrice=89000, triggerSignal="last", cliOrdId="stop")
        (event,) = sent["orderEvents"]
        assert event["orderTrigger"]["triggerPrice"] == 89000
        (row,) = venue.contracts("GET", "openorders")["openOrders"]
        assert unlike(row, capture("futures-openorders-stop")["openOrders"][0]) == []
        assert (row["orderType"], row["stopPrice"], row["triggerSignal"]) == ("stop", 89000, "last")
        (found,) = venue.contracts("POST", "orders/status", cliOrdIds=["stop"])["orders"]
        assert (found["status"], found["order"]["type"]) == ("TRIGGER_PLACED", "TRIGGER_ORDER")

    def test_quantities_by_hand(self, venue):
        """Linear: 0.5 BTC. Inverse: 9000 contracts of a dollar are 0.1 BTC at 90,000. Options: contracts of 1 BTC."""
        for symbol, native, size, price in (
            (PF, "PF_XBTUSD", "0.5", "90000"),
            (PI, "PI_XBTUSD", "9000", "90000"),
            (OPTION, "OF_XBTUSD_270326_90000_C", "0.02", "5000"),
        ):
            venue.crowd(symbol, "SELL", size, price)
            venue.send("lmt", native, "buy", size, limitPrice=price)
        held = {row["symbol"]: row for row in venue.contracts("GET", "openpositions")["openPositions"]}
        assert held["PF_XBTUSD"]["size"] == 0.5
        assert (held["PI_XBTUSD"]["size"], held["PI_XBTUSD"]["price"]) == (9000, 90000)
        assert held["OF_XBTUSD_270326_90000_C"]["size"] == 0.02
        fees = {fill.market: fill.fee for fill in venue.engine.fills(venue.account)}
        assert fees[PF] == Decimal("22.5")
        assert fees[PI] == Decimal("0.00005")


class TestChanging:
    def test_editing_keeps_the_id(self, venue, capture, unlike):
        sent = venue.send("lmt", "PI_XBTUSD", "buy", "1000", limitPrice=9400, cliOrdId="mine")
        body = venue.contracts("POST", "editorder", cliOrdId="mine", size=1501, limitPrice=7200)
        theirs = capture("futures-editorder")
        theirs["editStatus"]["cliOrdId"] = "mine"
        assert unlike(body, theirs) == []
        (event,) = body["editStatus"]["orderEvents"]
        assert (event["old"]["quantity"], event["new"]["quantity"]) == (1000, 1501)
        assert event["new"]["orderId"] == sent["order_id"] == body["editStatus"]["orderId"]
        gone = venue.contracts("POST", "editorder", orderId="nothing", size=1)["editStatus"]
        assert gone["status"] == "orderForEditNotFound"

    def test_what_comes_too_late_is_not_carried_out(self, venue):
        sent = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=80000)
        late = {"processBefore": "2020-01-01T00:00:00Z"}
        given = {"order_id": sent["order_id"], **late}
        assert venue.contracts_error("POST", "cancelorder", **given).startswith("invalidArgument: processBefore")
        given = {"orderId": sent["order_id"], "size": 2, **late}
        assert venue.contracts_error("POST", "editorder", **given).startswith("invalidArgument: processBefore")
        given = {"json": json.dumps({"batchOrder": [{"order": "cancel", "order_id": sent["order_id"]}]}), **late}
        assert venue.contracts_error("POST", "batchorder", **given).startswith("invalidArgument: processBefore")
        (order,) = venue.engine.open_orders(venue.account)
        assert order.quantity == 1

    def test_cancelling_one(self, venue, capture, unlike):
        sent = venue.send("lmt", "PI_XBTUSD", "buy", "5500", limitPrice=8000, cliOrdId="1234568")
        body = venue.contracts("POST", "cancelorder", order_id=sent["order_id"])
        theirs = capture("futures-cancelorder")
        theirs["cancelStatus"]["cliOrdId"] = "1234568"
        assert unlike(body, theirs) == []
        assert body["cancelStatus"]["status"] == "cancelled"
        again = venue.contracts("POST", "cancelorder", order_id=sent["order_id"])
        assert again["cancelStatus"]["status"] == capture("error-futures-cancel-notfound")["cancelStatus"]["status"]
        venue.crowd(PF, "SELL", "1", "90000")
        filled = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000)
        answer = venue.contracts("POST", "cancelorder", order_id=filled["order_id"])
        assert answer["cancelStatus"]["status"] == "filled"

    def test_cancelling_all_of_a_contract_a_wallet_or_everything(self, venue, capture, unlike):
        for native, price in (("PI_XBTUSD", 9000), ("PI_ETHUSD", 300), ("PF_XBTUSD", 9000), ("PF_ETHUSD", 300)):
            venue.send("lmt", native, "buy", "1", limitPrice=price)
        body = venue.contracts("POST", "cancelallorders", symbol="PI_XBTUSD")
        theirs = capture("futures-cancelallorders")
        theirs["cancelStatus"]["orderEvents"][0]["order"]["lastUpdateTimestamp"] = ""  # newer than the example
        assert unlike(body, theirs) == []
        assert len(body["cancelStatus"]["cancelledOrders"]) == 1
        assert len(venue.contracts("POST", "cancelallorders", symbol="fi_ethusd")["cancelStatus"]["orderEvents"]) == 1
        assert len(venue.contracts("POST", "cancelallorders")["cancelStatus"]["cancelledOrders"]) == 2
        assert venue.contracts("POST", "cancelallorders")["cancelStatus"]["status"] == "noOrdersToCancel"
        venue.limit("buy", "1", "1000.0")
        venue.contracts("POST", "cancelallorders")
        assert len(venue.engine.open_orders(venue.account)) == 1, "orders of Spot are not concerned"

    def test_the_dead_mans_switch(self, venue, capture, unlike):
        venue.send("lmt", "PI_XBTUSD", "buy", "1", limitPrice=9000)
        armed = venue.contracts("POST", "cancelallordersafter", timeout=60)
        assert unlike(armed, capture("futures-cancelallordersafter")) == []
        venue.clock.ms += 60_000
        assert venue.contracts("GET", "openorders")["openOrders"] == []

    def test_a_batch_does_each_for_itself(self, venue):
        sent = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=80000)
        send = {"order": "send", "orderType": "lmt", "symbol": "PF_XBTUSD", "side": "buy", "size": 1}
        rows = [
            {**send, "order_tag": "1", "limitPrice": 81000, "cliOrdId": "a"},
            {**send, "order_tag": "2", "limitPrice": 81000, "size": 1000000},
            {"order": "cancel", "order_id": sent["order_id"]},
            {"order": "cancel", "order_id": "nothing"},
            {**send, "order_tag": "3"},
        ]
        text = json.dumps({"batchOrder": rows})
        path, body = "/derivatives/api/v3/batchorder", f"json={text}"
        signature = derivatives_signature(venue.account.secret, path, "", body)
        headers = {"apikey": venue.account.key, "authent": signature}
        answer = json.loads(
            venue.sandbox.http(HttpRequest("derivatives_rest", "POST", path, headers, body.encode())).body
        )
        assert answer["result"] == "success"
        found = [(row.get("order_tag"), row["status"]) for row in answer["batchStatus"]]
        assert found == [
            ("1", "placed"),
            ("2", "insufficientAvailableFunds"),
            (None, "cancelled"),
            (None, "notFound"),
            ("3", "requiredArgumentMissing"),
        ]
        assert venue.sandbox.meter.budget_used("default", "derivatives", venue.clock.ms) == 10 + 9 + 5


class TestLookUps:
    def test_the_status_of_an_order_is_known_for_five_seconds_after_its_end(self, venue):
        sent = venue.send("lmt", "PF_XBTUSD", "buy", "0.5", limitPrice=90000, cliOrdId="mine")
        other = venue.send("lmt", "PF_XBTUSD", "buy", "0.5", limitPrice=80000)
        venue.crowd(PF, "SELL", "0.2", "90000")
        ids = [sent["order_id"], other["order_id"]]
        first, _ = venue.contracts("POST", "orders/status", orderIds=ids)["orders"]
        assert (first["status"], first["order"]["filled"]) == ("ENTERED_BOOK", "0.2")
        venue.crowd(PF, "SELL", "0.3", "90000")
        (found,) = venue.contracts("POST", "orders/status", cliOrdIds="mine")["orders"]
        assert found["status"] == "FULLY_EXECUTED"
        venue.clock.ms += 5000
        assert venue.contracts("POST", "orders/status", cliOrdIds="mine")["orders"] == []
        assert len(venue.contracts("POST", "orders/status", orderIds=ids)["orders"]) == 1

    def test_fills_are_the_last_hundred_without_fees(self, venue, capture, unlike):
        venue.crowd(PF, "SELL", "10", "90000")
        for _ in range(40):
            venue.clock.ms += 10_000
            for _ in range(3):
                venue.own(PF, "BUY", "0.01", "90000")
        body = venue.contracts("GET", "fills")
        assert unlike(body, capture("futures-fills")) == []
        assert len(body["fills"]) == 100
        assert body["fills"][0]["fillTime"] > body["fills"][-1]["fillTime"]
        older = venue.contracts("GET", "fills", lastFillTime=body["fills"][-1]["fillTime"])["fills"]
        assert len(older) == 18, "of the moment of the hundredth there was one more"

    def test_positions_and_wallets(self, venue, capture, unlike):
        venue.crowd(PF, "BUY", "1", "90000")
        venue.crowd(PI, "SELL", "9000", "90000")
        venue.send("mkt", "PF_XBTUSD", "sell", "0.5")
        venue.send("mkt", "PI_XBTUSD", "buy", "9000")
        venue.contracts("PUT", "leveragepreferences", symbol="PF_XBTUSD", maxLeverage=10)
        body = venue.contracts("GET", "openpositions")
        assert unlike(body, capture("futures-openpositions")) == []
        held = {row["symbol"]: row for row in body["openPositions"]}
        assert (held["PF_XBTUSD"]["side"], held["PF_XBTUSD"]["maxFixedLeverage"]) == ("short", 10)
        accounts = venue.contracts("GET", "accounts")["accounts"]
        theirs = capture("futures-accounts")["accounts"]
        assert {"cash", "flex", "fi_xbtusd", "fi_ethusd"} == accounts.keys()
        single = accounts["fi_xbtusd"]
        assert single["balances"]["PI_XBTUSD"] == 9000
        totals = {(b.wallet, b.asset): b for b in venue.engine.balances(venue.account)}
        assert single["balances"]["xbt"] == float(totals["fi_xbtusd", "BTC"].total)
        assert accounts["flex"]["currencies"]["USD"]["quantity"] == float(totals["flex", "USD"].total)
        single["balances"] = {"xbt": 1}
        single["auxiliary"].pop("funding")
        assert unlike(single, theirs["fi_xbtusd"]) == []
        assert unlike(accounts["flex"], theirs["flex"]) == []

    def test_a_leverage_of_its_own_makes_a_contract_isolated(self, venue, capture, unlike):
        venue.contracts("PUT", "leveragepreferences", symbol="PF_XBTUSD", maxLeverage=10)
        body = venue.contracts("GET", "leveragepreferences")
        assert unlike(body, capture("futures-leveragepreferences")) == []
        assert venue.account.settings["leverage"] == {PF: 10}
        assert venue.contracts_error("PUT", "leveragepreferences", symbol="PI_XBTUSD", maxLeverage=10)
        venue.contracts("DELETE", "leveragepreferences", symbol="PF_XBTUSD")
        assert venue.contracts("GET", "leveragepreferences")["leveragePreferences"] == []

    def test_history_tells_what_became_of_orders(self, venue):
        sent = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=80000, cliOrdId="mine")
        venue.clock.ms += 60_000
        venue.contracts("POST", "cancelorder", order_id=sent["order_id"])
        body = venue.contracts("GET", "/api/history/v3/orders")
        assert "result" not in body
        kinds = [next(iter(element["event"])) for element in body["elements"]]
        assert kinds == ["OrderCancelled", "OrderPlaced"]
        order = body["elements"][1]["event"]["OrderPlaced"]["order"]
        assert (order["uid"], order["clientId"], order["quantity"]) == (sent["order_id"], "mine", "1")
        venue.crowd(PF, "SELL", "1", "90000")
        venue.send("mkt", "PF_XBTUSD", "buy", "1")
        (element,) = venue.contracts("GET", "/api/history/v2/executions")["elements"]
        execution = element["event"]["execution"]["execution"]
        assert (execution["quantity"], execution["orderData"]["fee"]) == ("1", "45")
        assert venue.contracts("GET", "/api/history/v3/orders", tradeable="PI_XBTUSD")["elements"] == []
        page = venue.contracts("GET", "/api/history/v3/orders", count=1, sort="asc")
        rest = venue.contracts("GET", "/api/history/v3/orders", sort="asc", continuationToken=page["continuationToken"])
        assert len(page["elements"]) == 1
        assert page["elements"][0] not in rest["elements"]
