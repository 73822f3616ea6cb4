"""Spot's private REST: signatures and nonces, orders, look-ups, money, limits."""

import json
from decimal import Decimal
from urllib.parse import urlencode

import pytest

from astra.models.orders import OrderStatus
from astra.sandbox import HttpRequest
from astra_kraken.sandbox import SandboxLimits
from astra_kraken.sandbox.keys import spot_signature

BTC = "KRAKEN-SPOT-BTC-USD"
UUID = "6d1b345e-2821-40e2-ad83-4ecb18a06876"


def ask(venue, body, *, key=None, sign=None, path="/0/private/Balance", method="POST"):
    headers = {"api-key": key or venue.account.key, "api-sign": sign or ""}
    answer = venue.sandbox.http(HttpRequest("spot_rest", method, path, headers, body.encode()))
    assert answer.status == 200
    return json.loads(answer.body)


def signed(venue, nonce, **more):
    body = urlencode({"nonce": nonce, **more})
    return ask(venue, body, sign=spot_signature(venue.account.secret, "/0/private/Balance", str(nonce), body.encode()))


class TestAccess:
    @pytest.mark.parametrize("name", ["spot-docs-addorder", "spot-json-addorderbatch"])
    def test_signatures_are_those_of_the_vectors(self, vectors, name):
        vector = vectors[name]
        body = vector["body"].encode()
        assert spot_signature(vector["secret"], vector["path"], vector["nonce"], body) == vector["expected"]

    def test_an_unknown_key_a_wrong_signature_and_a_stale_nonce_are_told_apart(self, venue, capture):
        assert ask(venue, "nonce=1", key="nobody") == capture("error-spot-eapi-invalid-key")
        assert ask(venue, "nonce=1", sign="AAAA") == capture("error-spot-eapi-invalid-signature")
        assert signed(venue, 10)["error"] == []
        for nonce in (10, 9, -1, "x", 2**64):
            assert signed(venue, nonce) == capture("error-spot-eapi-invalid-nonce")
        assert signed(venue, 11)["error"] == []

    def test_the_body_is_signed_as_sent(self, venue):
        body = "nonce=5&pair=XBTUSD"
        signature = spot_signature(venue.account.secret, "/0/private/Balance", "5", b"nonce=5")
        assert ask(venue, body, sign=signature)["error"] == ["EAPI:Invalid signature"]

    def test_private_calls_are_posts(self, venue):
        assert ask(venue, "nonce=1", method="GET")["error"] == ["EGeneral:Unknown method"]

    def test_a_misspelt_parameter_shows(self, venue):
        error = venue.spot_error("OpenOrders", trade="true")
        assert error.startswith("EGeneral:Invalid arguments:trade")
        assert "trades" in error

    def test_calls_are_counted_and_history_twice(self, make_venue, capture):
        venue = make_venue()
        for _ in range(10):
            venue.spot("TradesHistory")
        assert venue.spot_answer("Balance") == capture("error-spot-eapi-rate-limit-exceeded")
        venue.limit("buy", "0.1", "1000.0")
        venue.clock.ms += 2000
        venue.spot("Balance")
        assert venue.spot_error("Balance") == "EAPI:Rate limit exceeded"

    def test_the_key_tells_of_itself(self, venue, capture, unlike):
        assert unlike(venue.spot("GetApiKeyInfo"), capture("spot-getapikeyinfo")["result"]) == []
        token = venue.spot("GetWebSocketsToken")
        assert unlike(token, capture("spot-getwebsocketstoken")["result"]) == []
        assert token["expires"] == 900


class TestPlacing:
    def test_a_limit_order_is_described_as_the_venue_does(self, venue, capture, unlike):
        placed = venue.spot("AddOrder", pair="XBTUSD", type="buy", ordertype="limit", volume="2.1234", price="25000.1")
        assert unlike(placed, capture("spot-addorder")["result"]) == []
        assert placed["descr"]["order"] == "buy 2.12340000 XBTUSD @ limit 25000.1"
        (order,) = venue.engine.open_orders(venue.account)
        assert (order.market, order.quantity, order.price) == (BTC, Decimal("2.1234"), Decimal("25000.1"))

    def test_the_record_of_an_open_order_has_the_venues_shape(self, venue, capture, unlike):
        venue.crowd(BTC, "SELL", "0.5", "90000.0")
        txid = venue.limit("buy", "1.25", "90000.0", userref="7")
        rows = venue.spot("OpenOrders", trades="true")["open"]
        theirs = next(iter(capture("spot-openorders")["result"]["open"].values()))
        assert list(rows) == [txid]
        assert unlike(rows[txid], theirs) == []
        assert rows[txid]["status"] == "open"
        assert rows[txid]["vol_exec"] == "0.50000000"
        assert rows[txid]["cost"] == "45000.00000"
        assert rows[txid]["fee"] == "180.00000"
        assert rows[txid]["price"] == "90000.00000"
        assert rows[txid]["descr"]["price"] == "90000.0"
        assert rows[txid]["userref"] == 7
        (trade,) = rows[txid]["trades"]
        assert trade in venue.spot("TradesHistory", consolidate_taker="false")["trades"]

    def test_price_is_the_average_of_the_fills(self, venue):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        venue.crowd(BTC, "SELL", "1", "90000.1")
        txid = venue.limit("buy", "2", "90001.0")
        row = venue.spot("QueryOrders", txid=txid)[txid]
        assert (row["status"], row["price"], row["descr"]["price"]) == ("closed", "90000.05000", "90001.0")
        assert row["closetm"] >= row["opentm"]

    def test_a_post_only_order_that_would_take_ends_cancelled_under_an_id_of_its_own(self, venue):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        txid = venue.limit("buy", "1", "90000.0", oflags="post", cl_ord_id=UUID)
        assert venue.engine.open_orders(venue.account) == []
        row = venue.spot("QueryOrders", txid=txid)[txid]
        assert (row["status"], row["reason"], row["vol_exec"]) == ("canceled", "Post only order", "0.00000000")
        assert txid in venue.spot("ClosedOrders", cl_ord_id=UUID)["closed"]

    def test_what_ioc_and_market_orders_leave_is_cancelled(self, venue):
        venue.crowd(BTC, "SELL", "0.4", "90000.0")
        txid = venue.limit("buy", "1", "90000.0", timeinforce="IOC")
        row = venue.spot("QueryOrders", txid=txid)[txid]
        assert (row["status"], row["vol_exec"]) == ("canceled", "0.40000000")
        placed = venue.spot("AddOrder", pair="XBTUSD", type="buy", ordertype="market", volume="1")
        row = venue.spot("QueryOrders", txid=placed["txid"][0])[placed["txid"][0]]
        assert row["status"] == "canceled"
        fok = venue.limit("buy", "1", "90000.0", timeinforce="FOK")
        assert venue.spot("QueryOrders", txid=fok)[fok]["status"] == "canceled"

    def test_a_market_buy_may_be_by_amount(self, venue):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        placed = venue.spot("AddOrder", pair="XBTUSD", type="buy", ordertype="market", volume="900", oflags="viqc")
        (fill,) = venue.engine.fills(venue.account)
        assert fill.quantity == Decimal("0.01")
        assert placed["txid"]

    def test_gtd_orders_expire(self, venue):
        txid = venue.limit("buy", "1", "1000.0", timeinforce="GTD", expiretm="+5")
        venue.clock.ms += 6000
        venue.engine.expire_due()
        row = venue.spot("QueryOrders", txid=txid)[txid]
        assert (row["status"], row["timeinforce"]) == ("expired", "GTD")

    def test_a_stop_waits_and_is_pending_until_then(self, venue):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        venue.crowd(BTC, "BUY", "0.1", "90000.0")
        placed = venue.spot(
            "AddOrder",
            pair="XBTUSD",
            type="sell",
            ordertype="stop-loss-limit",
            volume="0.5",
            price="89000.0",
            price2="88000.0",
        )
        assert placed["descr"]["order"] == "sell 0.50000000 XBTUSD @ stop loss 89000.0 -> limit 88000.0"
        (row,) = venue.spot("OpenOrders")["open"].values()
        assert row["status"] == "pending"
        assert (row["descr"]["price"], row["descr"]["price2"]) == ("89000.0", "88000.0")
        venue.crowd(BTC, "BUY", "1", "88500.0")
        venue.crowd(BTC, "SELL", "0.1", "88500.0")
        (row,) = venue.spot("OpenOrders")["open"].values() or [None]
        assert row is None or row["status"] == "open"

    def test_validating_places_nothing(self, venue):
        answer = venue.spot(
            "AddOrder", pair="XBTUSD", type="buy", ordertype="limit", volume="1", price="1000", validate="true"
        )
        assert answer.keys() == {"descr"}
        assert venue.engine.orders(venue.account) == []

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"pair": "NOPE"}, "EQuery:Unknown asset pair"),
            ({"type": "long"}, "EGeneral:Invalid arguments:type"),
            ({"ordertype": "iceberg"}, "EGeneral:Invalid arguments:ordertype"),
            ({"volume": "0.00004"}, "EOrder:Order minimum not met"),
            ({"volume": "0.00005", "price": "100"}, "EOrder:Cost minimum not met"),
            ({"volume": "-1"}, "EGeneral:Invalid arguments:volume"),
            ({"price": "1000.01"}, "EOrder:Invalid price:XBTUSD price can only be specified up to 1 decimals."),
            ({"pair": "SOLUSD", "price": "100.01"}, "EOrder:Tick size check failed"),
            ({"price": "+1%"}, "EOrder:Invalid price"),
            ({"volume": "1000000", "price": "90000"}, "EOrder:Insufficient funds"),
            ({"oflags": "pst"}, "EGeneral:Invalid arguments:oflags"),
            ({"oflags": "fcib"}, "EGeneral:Invalid arguments:oflags"),
            ({"stptype": "cancel-oldest"}, "EGeneral:Invalid arguments:stptype"),
            ({"leverage": "2:1"}, "EOrder:Margin allowance exceeded"),
            ({"reduce_only": "true"}, "EOrder:Reduce only:Non-margin order"),
            ({"cl_ord_id": "a" * 19}, "EGeneral:Invalid arguments:cl_ord_id"),
            ({"cl_ord_id": "two words"}, "EGeneral:Invalid arguments:cl_ord_id"),
            ({"timeinforce": "GTX"}, "EGeneral:Invalid arguments:timeinforce"),
            ({"pair": "XLMEUR", "price": "0.2", "volume": "100"}, "EService:Market in cancel_only mode"),
            ({"pair": "AAPLxUSD", "volume": "1"}, "EQuery:Unknown asset pair"),
            ({"userref": "3000000000"}, "EGeneral:Invalid arguments:userref"),
            ({"deadline": "2020-01-01T00:00:00Z"}, "EService:Deadline elapsed"),
            ({"deadline": "2030-01-01T00:00:00Z"}, "EGeneral:Invalid arguments:deadline"),
        ],
    )
    def test_bad_orders_are_refused_in_the_venues_words(self, venue, changed, error):
        order = {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "volume": "1", "price": "1000"} | changed
        assert venue.spot_error("AddOrder", **order) == error
        assert venue.engine.orders(venue.account) == []

    def test_a_tokenised_stock_needs_its_class(self, venue):
        txid = venue.limit("buy", "1", "10.00", pair="AAPLxUSD", asset_class="tokenized_asset")
        assert txid in venue.spot("OpenOrders")["open"]

    def test_a_client_id_is_unique_among_open_orders_of_all_pairs(self, venue):
        txid = venue.limit("buy", "1", "1000.0", cl_ord_id=UUID)
        order = {"pair": "ETHUSD", "type": "buy", "ordertype": "limit", "volume": "1", "price": "100"}
        error = venue.spot_error("AddOrder", **order, cl_ord_id=UUID)
        assert error.startswith("EOrder:")
        assert "cl_ord_id" in error
        venue.spot("CancelOrder", txid=txid)
        venue.spot("AddOrder", **order, cl_ord_id=UUID)
        both = venue.spot_error("AddOrder", **order, cl_ord_id="b", userref="1")
        assert both.startswith("EGeneral:Invalid arguments:cl_ord_id")

    def test_a_batch_takes_and_refuses_each_for_itself(self, venue, capture, unlike):
        orders = [
            {"ordertype": "limit", "type": "buy", "volume": "0.803", "price": "28300.0", "cl_ord_id": UUID},
            {"ordertype": "limit", "type": "buy", "volume": "1000000", "price": "90000.0"},
        ]
        body = venue.spot_answer("AddOrderBatch", as_json=True, pair="XBTUSD", orders=orders)
        assert body["error"] == []
        first, second = body["result"]["orders"]
        assert unlike(first, capture("spot-addorderbatch")["result"]["orders"][0]) == []
        assert isinstance(first["txid"], str)
        assert second == {"error": "EOrder:Insufficient funds"}
        alone = venue.spot_answer("AddOrderBatch", as_json=True, pair="XBTUSD", orders=orders[:1])
        assert alone["error"] == ["EGeneral:Invalid arguments:orders"]

    def test_fees_are_taken_in_the_quote_asset(self, venue):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        before = venue.spot("Balance")
        venue.limit("buy", "1", "90000.0")
        after = venue.spot("Balance")
        assert Decimal(after["XXBT"]) - Decimal(before["XXBT"]) == 1
        assert Decimal(before["ZUSD"]) - Decimal(after["ZUSD"]) == 90000 + 360


class TestChanging:
    def test_amending_keeps_the_id_and_editing_does_not(self, venue, capture, unlike):
        txid = venue.limit("buy", "1", "1000.0", cl_ord_id=UUID)
        amended = venue.spot("AmendOrder", cl_ord_id=UUID, limit_price="1100.0", order_qty="2")
        assert amended["amend_id"].startswith("T")
        row = venue.spot("OpenOrders")["open"][txid]
        assert (row["descr"]["price"], row["vol"], row["cl_ord_id"]) == ("1100.0", "2.00000000", UUID)
        edited = venue.spot("EditOrder", pair="XBTUSD", txid=txid, price="1200.0")
        assert edited["txid"] != txid
        assert {"descr", "txid"} <= edited.keys()
        (row,) = venue.spot("OpenOrders")["open"].values()
        assert "cl_ord_id" not in row
        assert venue.spot("QueryOrders", txid=txid)[txid]["status"] == "canceled"

    def test_orders_are_cancelled_by_id_client_id_and_userref(self, venue, capture):
        first = venue.limit("buy", "1", "1000.0")
        venue.limit("buy", "1", "1000.0", cl_ord_id="mine")
        for _ in range(2):
            venue.limit("buy", "1", "1000.0", userref="-5")
        assert venue.spot("CancelOrder", txid=first) == capture("spot-cancelorder")["result"] == {"count": 1}
        assert venue.spot("CancelOrder", cl_ord_id="mine") == {"count": 1}
        assert venue.spot("CancelOrder", txid="-5") == {"count": 2}
        assert venue.spot_answer("CancelOrder", txid=first) == capture("error-spot-eorder-unknown-order")
        assert venue.spot_error("CancelOrder", txid="nonsense") == "EOrder:Invalid order"
        assert venue.spot_error("AmendOrder", txid=first, limit_price="1.0") == "EOrder:Unknown order"

    def test_cancelling_many(self, venue):
        ids = [venue.limit("buy", "1", "1000.0") for _ in range(3)]
        venue.limit("buy", "1", "100.0", "ETHUSD", cl_ord_id="mine")
        body = venue.spot_answer("CancelOrderBatch", as_json=True, orders=ids[:2], cl_ord_ids=["mine"])
        assert body["result"] == {"count": 3}
        assert venue.spot("CancelAll") == {"count": 1}
        assert venue.spot("CancelAll") == {"count": 0}

    def test_the_dead_mans_switch(self, venue, capture, unlike):
        venue.limit("buy", "1", "1000.0")
        armed = venue.spot("CancelAllOrdersAfter", timeout="60")
        assert unlike(armed, capture("spot-cancelallordersafter")["result"]) == []
        venue.clock.ms += 59_000
        assert venue.spot("CancelAllOrdersAfter", timeout="60")["triggerTime"] > armed["triggerTime"]
        venue.clock.ms += 59_000
        assert len(venue.spot("OpenOrders")["open"]) == 1
        venue.clock.ms += 1000
        assert venue.spot("OpenOrders")["open"] == {}
        venue.limit("buy", "1", "1000.0")
        venue.spot("CancelAllOrdersAfter", timeout="5")
        venue.spot("CancelAllOrdersAfter", timeout="0")
        venue.clock.ms += 10_000
        assert len(venue.spot("OpenOrders")["open"]) == 1


class TestPairCounter:
    def test_quick_cancels_use_up_the_pairs_counter(self, make_venue):
        """125 at most: 1 for each order and 8 for each cancel within five seconds."""
        venue = make_venue()
        for _ in range(14):
            venue.spot("CancelOrder", txid=venue.limit("buy", "1", "1000.0"))
        assert (
            venue.spot_error("AddOrder", pair="XBTUSD", type="buy", ordertype="limit", volume="1", price="1000")
            == "EOrder:Rate limit exceeded"
        )
        venue.limit("buy", "1", "100.0", "ETHUSD")
        venue.clock.ms += 3000
        venue.limit("buy", "1", "1000.0")

    def test_old_orders_cancel_for_nothing(self, venue):
        ids = [venue.limit("buy", "1", "1000.0") for _ in range(30)]
        venue.clock.ms += 300_000
        for txid in ids:
            venue.spot("CancelOrder", txid=txid)
        assert venue.sandbox.meter.pair_count("default", None, BTC, venue.clock.ms) == 0

    def test_so_many_orders_may_be_open_in_a_pair(self, make_venue):
        venue = make_venue(SandboxLimits(tier="starter"))
        for _ in range(60):
            venue.limit("buy", "0.1", "1000.0")
            venue.clock.ms += 1000
        order = {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "volume": "1", "price": "1000"}
        assert venue.spot_error("AddOrder", **order) == "EOrder:Orders limit exceeded"

    def test_limits_may_be_lifted(self, make_venue):
        venue = make_venue(SandboxLimits(enforced=False))
        for _ in range(150):
            venue.limit("buy", "0.1", "1000.0")
        for _ in range(50):
            venue.spot("Balance")


class TestLookUps:
    def filled(self, venue, count=2):
        for place in range(count):
            venue.crowd(BTC, "SELL", "0.1", f"9000{place}.0")
        txid = venue.limit("buy", f"0.{count}", "90010.0")
        venue.clock.ms += 1000
        return txid

    def test_trades_are_newest_first_and_paged_by_fifty(self, venue, capture, unlike):
        for _ in range(52):
            self.filled(venue, 1)
        page = venue.spot("TradesHistory")
        assert (page["count"], len(page["trades"])) == (52, 50)
        times = [row["time"] for row in page["trades"].values()]
        assert times == sorted(times, reverse=True)
        rest = venue.spot("TradesHistory", ofs=50)["trades"]
        assert len(rest) == 2
        theirs = next(iter(capture("spot-tradeshistory")["result"]["trades"].values()))
        row = next(iter(page["trades"].values()))
        assert unlike(row, theirs) == []
        assert row.keys() == theirs.keys()
        assert row["pair"] == "XXBTZUSD"
        assert "count" not in venue.spot("TradesHistory", without_count="true")

    def test_fills_of_one_taker_are_merged_unless_told_otherwise(self, venue):
        txid = self.filled(venue)
        (merged,) = venue.spot("TradesHistory")["trades"].values()
        assert (merged["vol"], merged["cost"], merged["price"]) == ("0.20000000", "18000.10000", "90000.50000")
        single = venue.spot("TradesHistory", consolidate_taker="false")["trades"]
        assert [row["vol"] for row in single.values()] == ["0.10000000", "0.10000000"]
        assert {row["ordertxid"] for row in single.values()} == {txid}
        one = next(iter(single))
        assert venue.spot("QueryTrades", txid=one)[one] == single[one]

    def test_closed_orders_are_bounded_by_time(self, venue, capture, unlike):
        first, second = self.filled(venue), self.filled(venue)
        closed = venue.spot("ClosedOrders")
        assert list(closed["closed"]) == [second, first]
        assert closed["count"] == 2
        theirs = next(iter(capture("spot-closedorders")["result"]["closed"].values()))
        assert unlike(closed["closed"][first], theirs) == []
        at = closed["closed"][first]["opentm"]
        assert list(venue.spot("ClosedOrders", start=at)["closed"]) == [second]
        assert list(venue.spot("ClosedOrders", end=at)["closed"]) == [first]

    def test_other_peoples_orders_are_unknown(self, venue):
        txid = venue.limit("buy", "1", "1000.0")
        stranger = venue.open_account("stranger")
        assert venue.spot_error("QueryOrders", stranger, txid=txid) == "EOrder:Unknown order"
        assert venue.spot_error("CancelOrder", stranger, txid=txid) == "EOrder:Unknown order"

    def test_balances_and_what_orders_hold(self, venue, capture, unlike):
        venue.limit("sell", "2", "99999.0")
        venue.limit("buy", "1", "1000.0")
        balances, extended = venue.spot("Balance"), venue.spot("BalanceEx")
        engine = {b.asset: b for b in venue.engine.balances(venue.account) if b.wallet == "spot"}
        assert Decimal(balances["XXBT"]) == engine["BTC"].total
        assert Decimal(extended["XXBT"]["hold_trade"]) == 2
        assert Decimal(extended["ZUSD"]["hold_trade"]) == 1004  # with the fee
        assert {"XXBT", "ZUSD", "XXDG", "SOL", "AAPLx", "ZEUR"} <= balances.keys()
        assert extended["XXBT"].keys() == capture("spot-balanceex")["result"]["XXBT"].keys()
        assert unlike(venue.spot("TradeBalance"), capture("spot-tradebalance")["result"]) == []
        assert venue.spot("OpenPositions") == {}

    def test_fees_of_pairs_and_contracts(self, venue, capture, unlike):
        volume = venue.spot("TradeVolume", pair="XBTUSD,PF_XBTUSD")
        assert unlike(volume["fees"]["XXBTZUSD"], capture("spot-tradevolume")["result"]["fees"]["XXBTZUSD"]) == []
        assert (volume["fees"]["XXBTZUSD"]["fee"], volume["fees_maker"]["XXBTZUSD"]["fee"]) == ("0.4000", "0.2500")
        assert volume["fees"]["PF_XBTUSD"]["fee"] == "0.0500"
        listed = [{"asset": "PF_XBTUSD", "aclass": "derivatives"}]
        assert "PF_XBTUSD" in venue.spot_answer("TradeVolume", as_json=True, pair=listed)["result"]["fees"]


class TestServer:
    def test_orders_change_something_and_look_ups_do_not(self, venue):
        def request(path, host="spot_rest", method="POST"):
            return HttpRequest(host, method, path, {}, b"")

        mutating = venue.sandbox.mutating
        assert mutating(request("/0/private/AddOrder"))
        assert mutating(request("/0/private/CancelAllOrdersAfter"))
        assert not mutating(request("/0/private/OpenOrders"))
        assert not mutating(request("/0/public/Depth", method="GET"))
        assert mutating(request("/derivatives/api/v3/sendorder", "derivatives_rest"))
        assert not mutating(request("/derivatives/api/v3/orders/status", "derivatives_rest"))

    def test_the_proxys_pages_are_not_json(self, venue):
        request = HttpRequest("spot_rest", "GET", "/0/public/Time", {}, b"")
        for answer in (venue.sandbox.too_many_requests(request, 3), venue.sandbox.server_error(request)):
            assert answer.body.startswith(b"<html>")
        assert venue.sandbox.too_many_requests(request, 3).status == 429

    def test_ids_look_like_the_venues_and_do_not_count_up(self, venue):
        first, second = venue.limit("buy", "1", "1000.0"), venue.limit("buy", "1", "1000.0")
        for txid in (first, second):
            assert [len(part) for part in txid.split("-")] == [6, 5, 6]
        assert first[:6] != second[:6]

    def test_an_order_that_ended_stays_ended(self, venue):
        txid = venue.limit("buy", "1", "1000.0")
        venue.spot("CancelOrder", txid=txid)
        (order,) = venue.engine.orders(venue.account)
        assert order.status is OrderStatus.CANCELED
        assert venue.spot("QueryOrders", txid=txid)[txid]["reason"] == "User requested"
