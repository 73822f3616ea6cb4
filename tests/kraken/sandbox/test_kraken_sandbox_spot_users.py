"""Spot's private stream: tokens, executions, balances, orders."""

from decimal import Decimal

import pytest

BTC = "KRAKEN-SPOT-BTC-USD"
UUID = "6d1b345e-2821-40e2-ad83-4ecb18a06876"


@pytest.fixture
def user(venue):
    client = venue.connect("spot_private_stream")
    client.token = venue.token()
    return client


def call(client, method, **params):
    return client.send({"method": method, "params": {"token": client.token, **params}, "req_id": 9})


def order(**more):
    return {"order_type": "limit", "side": "buy", "order_qty": 1, "symbol": "BTC/USD", "limit_price": 1000.0} | more


def kinds(frames):
    return [frame["data"][0]["exec_type"] for frame in frames]


class TestTokens:
    def test_a_token_is_needed_and_ends_after_fifteen_minutes_unless_it_is_in_use(self, venue, user):
        (refused,) = user.subscribe("balances", token="nonsense")
        assert (refused["success"], refused["error"]) == (False, "EAPI:Invalid token")
        user.subscribe("balances", token=user.token)
        unused = venue.token()
        venue.clock.ms += 900_000
        assert call(user, "add_order", **order())[0]["success"] is True
        (refused,) = user.subscribe("executions", token=unused)
        assert refused["error"] == "ESession:Invalid session"
        user.session.closed()
        other = venue.connect("spot_private_stream")
        (refused,) = other.subscribe("executions", token=user.token)
        assert refused["error"] == "ESession:Invalid session"

    def test_the_private_host_serves_no_market_data_and_the_public_one_no_orders(self, venue, user):
        (refused,) = user.subscribe("book", symbol=["BTC/USD"])
        assert "Try ws.kraken.com" in refused["error"]
        public = venue.connect()
        public.token = user.token
        (refused,) = call(public, "add_order", **order())
        assert "Try ws-auth.kraken.com" in refused["error"]
        assert venue.engine.orders(venue.account) == []


class TestExecutions:
    def test_the_acknowledgement_names_the_rate_limit(self, user, captured_frames, unlike):
        ack, snapshot = user.subscribe("executions", token=user.token, snap_orders=True, snap_trades=True)
        documented = captured_frames("spot-private-documented")
        ack.pop("req_id")
        assert unlike(ack, documented[0]) == []
        assert ack["result"]["maxratecount"] == 125
        assert (snapshot["type"], snapshot["data"], snapshot["sequence"]) == ("snapshot", [], 1)

    def test_an_order_is_told_once_whole_and_then_in_changes(self, venue, user, captured_frames, unlike):
        user.subscribe("executions", token=user.token)
        venue.limit("buy", "1", "90000.0", cl_ord_id=UUID)
        pending, new = user.line.take()
        documented = captured_frames("spot-private-documented")[1]
        row = pending["data"][0]
        assert unlike({**pending, "data": [{k: v for k, v in row.items() if k != "cl_ord_id"}]}, documented) == []
        assert (row["cl_ord_id"], row["order_status"], row["limit_price"]) == (UUID, "pending_new", 90000)
        assert kinds([new]) == ["new"]
        assert new["data"][0].keys() == {"timestamp", "order_status", "exec_type", "order_userref", "order_id"}
        venue.crowd(BTC, "SELL", "0.4", "90000.0")
        (trade,) = user.line.take()
        row = trade["data"][0]
        assert (row["exec_type"], row["order_status"], row["last_qty"]) == ("trade", "partially_filled", Decimal("0.4"))
        assert (row["liquidity_ind"], row["fees"]) == ("m", [{"asset": "USD", "qty": 90}])
        venue.crowd(BTC, "SELL", "0.6", "90000.0")
        trade, filled = user.line.take()
        assert kinds([trade, filled]) == ["trade", "filled"]
        assert trade["data"][0]["order_status"] == "filled"
        assert "symbol" not in filled["data"][0]
        assert (filled["data"][0]["cum_qty"], filled["data"][0]["avg_price"]) == (1, 90000)
        assert [frame["sequence"] for frame in (pending, new, trade, filled)] == [2, 3, 5, 6]

    def test_execution_ids_are_those_of_the_trade_history(self, venue, user):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        user.subscribe("executions", token=user.token)
        venue.limit("buy", "1", "90000.0")
        trade = next(f["data"][0] for f in user.line.take() if f["data"][0]["exec_type"] == "trade")
        ((txid, row),) = venue.spot("TradesHistory", consolidate_taker="false")["trades"].items()
        assert (txid, row["trade_id"], row["ordertxid"]) == (trade["exec_id"], trade["trade_id"], trade["order_id"])

    def test_a_cancel_carries_only_ids_and_the_reason(self, venue, user):
        user.subscribe("executions", token=user.token)
        txid = venue.limit("buy", "1", "1000.0")
        user.line.take()
        venue.spot("CancelOrder", txid=txid)
        (frame,) = user.line.take()
        (row,) = frame["data"]
        assert (row["exec_type"], row["order_status"], row["reason"]) == ("canceled", "canceled", "User requested")
        assert row.keys() == {
            "timestamp",
            "order_status",
            "exec_type",
            "order_userref",
            "order_id",
            "cum_qty",
            "cum_cost",
            "avg_price",
            "fee_usd_equiv",
            "cancel_reason",
            "reason",
        }

    def test_post_only_refusals_of_rest_are_cancels_ioc_rests_expire_and_amendments_are_told(self, venue, user):
        venue.crowd(BTC, "SELL", "0.4", "90000.0")
        user.subscribe("executions", token=user.token)
        venue.limit("buy", "1", "90000.0", oflags="post")
        pending, cancelled = user.line.take()
        assert kinds([pending, cancelled]) == ["pending_new", "canceled"]
        assert cancelled["data"][0]["reason"] == "Post only order"
        venue.limit("buy", "1", "90000.0", timeinforce="IOC")
        assert kinds(user.line.take()) == ["pending_new", "new", "trade", "expired"]
        txid = venue.limit("buy", "1", "1000.0")
        user.line.take()
        venue.spot("AmendOrder", txid=txid, limit_price="1001.0")
        (frame,) = user.line.take()
        assert (frame["data"][0]["exec_type"], frame["data"][0]["limit_price"]) == ("amended", 1001)

    def test_the_snapshot_has_the_open_orders_and_the_last_fills(self, venue, user):
        venue.crowd(BTC, "SELL", "0.4", "90000.0")
        venue.limit("buy", "1", "90000.0", cl_ord_id="mine")
        _, snapshot = user.subscribe("executions", token=user.token, snap_trades=True)
        trade, standing = snapshot["data"]
        assert (trade["exec_type"], trade["last_qty"]) == ("trade", Decimal("0.4"))
        assert (standing["exec_type"], standing["order_status"]) == ("new", "partially_filled")
        assert (standing["cl_ord_id"], standing["cum_qty"]) == ("mine", Decimal("0.4"))

    def test_a_stop_is_told_with_its_trigger(self, venue, user):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        venue.crowd(BTC, "BUY", "0.1", "90000.0")
        venue.crowd(BTC, "BUY", "1", "88000.0")
        user.subscribe("executions", token=user.token)
        params = order(order_type="stop-loss", side="sell", triggers={"price": 89000.0, "reference": "last"})
        del params["limit_price"]
        frames = call(user, "add_order", **params)
        assert frames[0]["data"][0]["triggers"]["status"] == "untriggered"
        venue.crowd(BTC, "SELL", "0.5")
        assert "status" in kinds(user.line.take())

    def test_the_counter_is_told_on_request(self, venue, user):
        user.subscribe("executions", token=user.token, ratecounter=True)
        venue.limit("buy", "1", "1000.0")
        assert {frame["data"][0]["ratecounter"] for frame in user.line.take()} == {1}

    def test_other_peoples_orders_are_not_told(self, venue, user):
        user.subscribe("executions", token=user.token)
        venue.own(BTC, "BUY", "1", "1000", venue.open_account("stranger"))
        assert user.line.take() == []


class TestBalances:
    def test_the_snapshot_is_whole_and_updates_are_ledger_entries(self, venue, user):
        _, snapshot = user.subscribe("balances", token=user.token)
        held = {row["asset"]: row for row in snapshot["data"]}
        engine = {b.asset: b for b in venue.engine.balances(venue.account) if b.wallet == "spot"}
        assert {asset: row["balance"] for asset, row in held.items()} == {a: b.total for a, b in engine.items()}
        assert held["BTC"]["wallets"] == [{"type": "spot", "id": "main", "balance": engine["BTC"].total}]
        before = engine["USD"].total
        venue.limit("buy", "1", "90000.0")
        assert user.line.take() == [], "what an order locks is no change"
        venue.crowd(BTC, "SELL", "0.5", "90000.0")
        frames = user.line.take()
        rows = {frame["data"][0]["asset"]: frame["data"][0] for frame in frames}
        assert rows["BTC"]["amount"] == Decimal("0.5")
        assert rows["USD"]["balance"] == before - 45000 - Decimal("112.5")
        assert [frame["sequence"] for frame in frames] == [2, 3]


class TestOrders:
    def test_placing_amending_and_cancelling_answer_as_documented(self, venue, user, captured_frames, unlike):
        documented = captured_frames("spot-private-documented")
        (placed,) = call(user, "add_order", **order(cl_ord_id=UUID, time_in_force="gtc", post_only=True))
        assert unlike(placed, documented[2]) == []
        assert placed["result"]["cl_ord_id"] == UUID
        (amended,) = call(user, "amend_order", cl_ord_id=UUID, limit_price=1001.0)
        assert unlike(amended, documented[4]) == []
        (found,) = venue.engine.open_orders(venue.account)
        assert found.price == 1001
        txid = placed["result"]["order_id"]
        (cancelled,) = call(user, "cancel_order", order_id=[txid])
        assert unlike(cancelled, documented[5]) == []
        assert cancelled["result"] == {"order_id": txid}

    def test_a_refusal_has_the_text_and_nothing_else(self, user, captured_frames, unlike):
        (refused,) = call(user, "add_order", **order(order_qty=1_000_000, limit_price=90000.0))
        documented = captured_frames("spot-private-documented")[3]
        assert unlike(refused, documented) == []
        assert refused.keys() == documented.keys()
        assert refused["error"] == "EOrder:Insufficient funds"

    def test_a_post_only_order_that_would_take_is_refused_here(self, venue, user):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        (refused,) = call(user, "add_order", **order(limit_price=90000.0, post_only=True))
        assert refused["error"] == "EOrder:Post only order"

    def test_numbers_are_numbers_and_unknown_fields_are_refused(self, user):
        assert call(user, "add_order", **order(order_qty="1"))[0]["error"] == "EGeneral:Invalid arguments:order_qty"
        (refused,) = call(user, "add_order", **order(price=1))
        assert refused["error"] == "Unsupported field: 'price' for the given msg type: add order"
        (refused,) = call(user, "add_order", **order(symbol="XBT/USD"))
        assert refused["error"] == "Currency pair not supported XBT/USD"

    def test_quantities_keep_all_their_digits(self, venue, user):
        text = (
            '{"method":"add_order","params":{"order_type":"limit","side":"sell","order_qty":1.00000001,'
            f'"symbol":"BTC/USD","limit_price":123456.7,"token":"{user.token}"}},"req_id":1}}'
        )
        user.send(text)
        (found,) = venue.engine.open_orders(venue.account)
        assert (found.quantity, found.price) == (Decimal("1.00000001"), Decimal("123456.7"))

    def test_validating_gives_no_id(self, venue, user):
        (answer,) = call(user, "add_order", **order(validate=True))
        assert answer["result"]["order_id"] == ""
        assert venue.engine.orders(venue.account) == []

    def test_a_market_buy_by_amount(self, venue, user):
        venue.crowd(BTC, "SELL", "1", "90000.0")
        market = {"order_type": "market", "side": "buy", "symbol": "BTC/USD", "cash_order_qty": 900.0}
        assert call(user, "add_order", **market)[0]["success"] is True
        assert venue.engine.fills(venue.account)[0].quantity == Decimal("0.01")

    def test_each_cancel_is_answered_for_itself(self, venue, user):
        first = venue.limit("buy", "1", "1000.0")
        venue.limit("buy", "1", "1000.0", cl_ord_id="mine")
        frames = call(user, "cancel_order", order_id=[first, first], cl_ord_id=["mine"])
        assert [frame["success"] for frame in frames] == [True, False, True]
        assert frames[1]["error"] == "EOrder:Unknown order"

    def test_batches(self, venue, user, captured_frames, unlike):
        rows = [{k: v for k, v in order(cl_ord_id=name).items() if k != "symbol"} for name in ("O-A", "O-B")]
        (taken,) = call(user, "batch_add", symbol="BTC/USD", orders=rows)
        assert [row["cl_ord_id"] for row in taken["result"]] == ["O-A", "O-B"]
        (mixed,) = call(user, "batch_add", symbol="BTC/USD", orders=[{**rows[0], "cl_ord_id": "O-C"}, rows[1]])
        assert unlike(mixed, captured_frames("spot-private-documented")[6]) == []
        first, second = mixed["result"]["orders"]
        assert (first["success"], second["success"]) == (True, False)
        (gone,) = call(user, "batch_cancel", orders=[taken["result"][0]["order_id"]], cl_ord_id=["O-B"])
        assert gone["result"] == {"count": 2}
        (gone,) = call(user, "cancel_all")
        assert gone["result"] == {"count": 1}

    def test_the_dead_mans_switch_strikes_without_a_request(self, venue, user):
        venue.limit("buy", "1", "1000.0")
        (armed,) = call(user, "cancel_all_orders_after", timeout=5)
        assert armed["result"].keys() == {"currentTime", "triggerTime"}
        user.after(5100)
        assert venue.engine.open_orders(venue.account) == []

    def test_editing_gives_a_new_id(self, venue, user):
        txid = venue.limit("buy", "1", "1000.0")
        (edited,) = call(user, "edit_order", symbol="BTC/USD", order_id=txid, limit_price=1001.0)
        assert edited["result"]["original_order_id"] == txid
        assert edited["result"]["order_id"] != txid
