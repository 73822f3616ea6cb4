"""Private channels and order operations over WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

SPOT, SWAP = "OKX-SPOT-BTC-USDT", "OKX-PERP-BTC-USDT"
ORDERS = {"channel": "orders", "instType": "ANY"}
ACCOUNT = {"channel": "account", "extraParams": '{"updateInterval": "0"}'}
POSITIONS = {"channel": "positions", "instType": "ANY", "extraParams": '{"updateInterval": "0"}'}
Shape = Callable[[Any], Any]


def pushes(frames: list[Any], channel: str) -> list[Any]:
    return [frame for frame in frames if frame.get("arg", {}).get("channel") == channel and "data" in frame]


def told(client: Any, *names: str) -> list[tuple[str, ...]]:
    """The named fields of the orders that were pushed since the last call."""
    rows = [row for frame in pushes(client.line.take(), "orders") for row in frame["data"]]
    return [tuple(row[name] for name in names) for row in rows]


@pytest.fixture
def client(venue: Any) -> Any:
    client = venue.logged_in()
    frames = client.subscribe(ORDERS)
    assert [frame["event"] for frame in frames] == ["subscribe", "channel-conn-count"]  # and no snapshot
    return client


class TestOrders:
    def test_pushes_have_the_fields_of_the_recordings(self, venue: Any, client: Any, captures: Any) -> None:
        venue.place("BTC-USDT", "sell", "0.001", "31527.1")
        venue.crowd(SPOT, "BUY", "0.001", "31527.1")
        frames = pushes(client.line.take(), "orders")
        for recording in ("private-orders-documented", "private-orders-spot-market-quote", "private-orders-swap-2025"):
            documented = captures.frames(recording)[-1]["data"][0]
            for frame in frames:
                (row,) = frame["data"]
                assert documented.keys() - row.keys() == set(), recording
                assert all(type(row[name]) is type(documented[name]) for name in documented), recording
        assert frames[0]["arg"].keys() == {"channel", "instType", "uid"}

    def test_the_life_of_an_order(self, venue: Any, client: Any) -> None:
        names = ("state", "accFillSz", "fillSz", "fillPx", "avgPx", "fillFee", "fee", "execType")
        row = venue.place("BTC-USDT-SWAP", "buy", "3", "50000")
        assert told(client, *names) == [("live", "0", "0", "", "0", "0", "0", "")]
        venue.crowd(SWAP, "SELL", "1", "50000")
        venue.crowd(SWAP, "SELL", "1", "50000")
        assert told(client, *names) == [
            ("partially_filled", "1", "1", "50000", "50000", "-0.1", "-0.1", "M"),
            ("partially_filled", "2", "1", "50000", "50000", "-0.1", "-0.2", "M"),
        ]
        venue.call("POST", "/trade/amend-order", {"instId": "BTC-USDT-SWAP", "ordId": row["ordId"], "newSz": "4"})
        assert told(client, "sz", "amendResult", "amendSource", "fillSz") == [("4", "0", "1", "0")]
        venue.call("POST", "/trade/cancel-order", {"instId": "BTC-USDT-SWAP", "ordId": row["ordId"]})
        assert told(client, "state", "cancelSource", "accFillSz") == [("canceled", "1", "2")]

    def test_trade_ids_are_those_of_the_market(self, venue: Any, client: Any) -> None:
        venue.place("BTC-USDT", "buy", "1", "50000")
        venue.crowd(SPOT, "SELL", "0.4", "50000")
        venue.crowd(SPOT, "SELL", "0.6", "50000")
        shown = [trade for (trade,) in told(client, "tradeId")]
        assert shown == ["", *(str(trade.id) for trade in venue.engine.trades(SPOT))]

    def test_a_market_order_by_amount_ends_with_a_push_without_a_trade(self, venue: Any, client: Any) -> None:
        venue.crowd(SPOT, "SELL", "1", "50000")
        venue.place("BTC-USDT", "buy", "100")
        assert told(client, "state", "sz", "fillSz", "accFillSz") == [
            ("live", "100", "0", "0"),
            ("partially_filled", "100", "0.002", "0.002"),
            ("filled", "100", "0", "0.002"),
        ]

    def test_a_post_only_order_that_would_take_lives_for_a_moment(self, venue: Any, client: Any) -> None:
        venue.crowd(SPOT, "SELL", "1", "50000")
        row = venue.place("BTC-USDT", "buy", "1", "50000", ordType="post_only")
        assert told(client, "ordId", "state", "cancelSource") == [
            (row["ordId"], "live", ""),
            (row["ordId"], "canceled", "31"),
        ]

    def test_subscriptions_are_told_apart(self, venue: Any) -> None:
        client = venue.logged_in()
        client.subscribe(
            {"channel": "orders", "instType": "SWAP"},
            {"channel": "orders", "instType": "SWAP", "instFamily": "BTC-USD"},
            {"channel": "orders", "instType": "SPOT", "instId": "ETH-USDT"},
        )
        venue.place("BTC-USDT-SWAP", "buy", "1", "50000")
        venue.place("BTC-USD-SWAP", "buy", "1", "50000")
        venue.place("BTC-USDT", "buy", "1", "50000")
        args = [frame["arg"] for frame in pushes(client.line.take(), "orders")]
        assert [arg.get("instFamily") for arg in args] == [None, None, "BTC-USD"]

    def test_subscribing_twice_tells_once(self, venue: Any, client: Any) -> None:
        assert [frame["event"] for frame in client.subscribe(ORDERS)] == ["subscribe"]
        venue.place("BTC-USDT", "buy", "1", "50000")
        assert len(told(client)) == 1

    def test_nobody_hears_of_others(self, venue: Any, client: Any) -> None:
        other = venue.open_account("other")
        sent = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        venue.call("POST", "/trade/order", sent, other)
        assert client.line.take() == []

    def test_unsubscribing_ends_it(self, venue: Any, client: Any) -> None:
        (ack,) = client.subscribe(ORDERS, op="unsubscribe")
        assert ack["event"] == "unsubscribe"
        venue.place("BTC-USDT", "buy", "1", "50000")
        assert client.line.take() == []

    def test_fills_are_for_high_tiers(self, client: Any) -> None:
        assert client.subscribe({"channel": "fills"})[0]["code"] == "64003"

    def test_algo_orders_have_a_channel_on_the_business_url(self, venue: Any, client: Any) -> None:
        venue.crowd(SWAP, "BUY", "9", "50000")
        venue.crowd(SWAP, "SELL", "1", "50000")
        business = venue.logged_in(plane="business")
        business.subscribe({"channel": "orders-algo", "instType": "ANY"})
        sent = {"instId": "BTC-USDT-SWAP", "tdMode": "cross", "side": "sell", "sz": "1", "ordType": "conditional"}
        venue.call("POST", "/trade/order-algo", {**sent, "slTriggerPx": "49000", "slOrdPx": "-1"})
        assert told(client, "state") == []
        venue.crowd(SWAP, "SELL", "8", "50000")
        venue.crowd(SWAP, "BUY", "5", "49000")
        venue.crowd(SWAP, "SELL", "1", "49000")
        states = [frame["data"][0]["state"] for frame in pushes(business.line.take(), "orders-algo")]
        assert states == ["live", "effective"]
        assert [state for state, _ in told(client, "state", "algoId")] == ["live", "filled"]


class TestAccount:
    def test_frames_are_those_of_the_documents(self, venue: Any, captures: Any) -> None:
        client = venue.logged_in()
        ack, _, snapshot = client.subscribe(ACCOUNT)
        documented_ack, documented = captures.frames("private-account-2026-documented")
        assert ack.keys() == documented_ack.keys() - {"id"}
        assert ack["arg"] == documented_ack["arg"]
        assert snapshot.keys() == documented.keys()
        assert (snapshot["eventType"], snapshot["curPage"], snapshot["lastPage"]) == ("snapshot", 1, True)
        row, other = snapshot["data"][0], documented["data"][0]
        assert other["details"][0].keys() - row["details"][0].keys() == set()
        held = {balance.asset for balance in venue.engine.balances(venue.account)}
        assert {one["ccy"] for one in row["details"]} == held

    def test_changes_come_with_the_assets_that_changed(self, venue: Any) -> None:
        client = venue.logged_in()
        client.subscribe(ACCOUNT)
        venue.place("BTC-USDT", "buy", "0.5", "50000")
        (frame,) = client.line.take()
        assert frame["eventType"] == "event_update"
        assert "curPage" not in frame
        assert [(one["ccy"], one["frozenBal"]) for one in frame["data"][0]["details"]] == [("USDT", "25000")]
        assert pushes(client.after(20_000), "account") == []

    def test_without_extra_parameters_it_is_pushed_every_five_seconds(self, venue: Any) -> None:
        client = venue.logged_in()
        client.subscribe({"channel": "account", "ccy": "BTC"})
        frames = client.after(16_000)
        assert [frame["eventType"] for frame in frames] == ["snapshot"] * 3
        assert all([one["ccy"] for one in frame["data"][0]["details"]] == ["BTC"] for frame in frames)

    def test_extra_parameters_have_one_form(self, venue: Any) -> None:
        client = venue.logged_in()
        (frame,) = client.subscribe({"channel": "account", "extraParams": '{"updateInterval": 0}'})
        assert frame["code"] == "60012"

    def test_positions_are_told_as_they_change(self, venue: Any) -> None:
        client = venue.logged_in()
        *_, snapshot = client.subscribe(POSITIONS)
        assert (snapshot["eventType"], snapshot["data"]) == ("snapshot", [])
        venue.crowd(SWAP, "SELL", "2", "50000")
        venue.place("BTC-USDT-SWAP", "buy", "2")
        (frame,) = client.line.take()
        assert (frame["eventType"], frame["data"][0]["pos"], frame["data"][0]["avgPx"]) == (
            "event_update",
            "2",
            "50000",
        )
        venue.crowd(SWAP, "BUY", "2", "51000")
        venue.place("BTC-USDT-SWAP", "sell", "2")
        (frame,) = client.line.take()
        (row,) = frame["data"]
        assert (row["pos"], row["avgPx"], row["upl"]) == ("0", "", "")
        again = venue.logged_in()
        *_, snapshot = again.subscribe({"channel": "positions", "instType": "SWAP"})
        assert [row["pos"] for row in snapshot["data"]] == ["0"]

    def test_balance_and_position_tells_what_trades_moved(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        client = venue.logged_in()
        venue.crowd(SWAP, "SELL", "2", "50000")
        venue.place("BTC-USDT-SWAP", "buy", "1")
        *_, snapshot = client.subscribe({"channel": "balance_and_position"})
        documented = captures.frames("private-balance-and-position-documented")[-1]
        shown, other = shape_of(snapshot)["data"][0], shape_of(documented)["data"][0]
        assert {**shown, "trades": 0} == {**other, "trades": 0}
        venue.place("BTC-USDT", "buy", "0.5", "50000")  # freezes funds, moves none
        assert client.line.take() == []
        cash = {one.asset: one.total for one in venue.engine.balances(venue.account)}["USDT"]
        venue.place("BTC-USDT-SWAP", "buy", "1")
        (frame,) = client.line.take()
        (row,) = frame["data"]
        assert shape_of(frame) == shape_of(documented)
        assert row["eventType"] == "filled"
        assert [(one["ccy"], Decimal(one["cashBal"])) for one in row["balData"]] == [("USDT", cash - Decimal("0.25"))]
        assert [(one["instId"], one["pos"]) for one in row["posData"]] == [("BTC-USDT-SWAP", "2")]
        (_, trade) = venue.engine.trades(SWAP)
        assert row["trades"] == [{"instId": "BTC-USDT-SWAP", "tradeId": str(trade.id)}]


class TestOperations:
    def code_of(self, venue: Any, native: str) -> int:
        (row,) = venue.get("/public/instruments", instType="SWAP", instId=native)
        return int(row["instIdCode"])

    def test_answers_are_those_of_the_documents(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        client = venue.logged_in()
        placed, refused, malformed = captures.frames("ws-op-order-2026-documented")
        sent = {"tdMode": "cross", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        good = client.operate("order", {"instIdCode": self.code_of(venue, "BTC-USDT-SWAP"), **sent})
        bad = client.operate("order", {"instIdCode": 1, **sent})
        none = client.operate("order")
        for mine, documented in ((good, placed), (bad, refused), (none, malformed)):
            assert mine.keys() == documented.keys()
            assert (mine["code"], mine["msg"]) == (documented["code"], documented["msg"])
            if documented["data"]:
                assert shape_of(mine["data"][0]).items() >= shape_of(documented["data"][0]).items()
        assert bad["data"][0]["sCode"] == "51001"
        (ours,) = venue.engine.open_orders(venue.account)
        assert good["data"][0]["ordId"] == venue.call("GET", "/trade/orders-pending")[0]["ordId"]
        assert ours.market == SWAP

    def test_instruments_are_named_by_code_alone(self, venue: Any) -> None:
        client = venue.logged_in()
        sent = {"tdMode": "cross", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        (row,) = client.operate("order", {"instId": "BTC-USDT-SWAP", **sent})["data"]
        assert row["sMsg"] == "Parameter instIdCode can not be empty"
        code = self.code_of(venue, "BTC-USD-SWAP")
        (row,) = client.operate("order", {"instId": "BTC-USDT-SWAP", "instIdCode": code, **sent})["data"]
        assert row["sCode"] == "0"
        assert venue.engine.open_orders(venue.account)[0].market == "OKX-PERP-BTC-USD-COINM"

    def test_orders_are_amended_and_cancelled(self, venue: Any) -> None:
        client = venue.logged_in()
        code = self.code_of(venue, "BTC-USDT-SWAP")
        sent = {"instIdCode": code, "tdMode": "cross", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        batch = client.operate("batch-orders", *({**sent, "clOrdId": f"n{n}"} for n in range(3)))
        assert [row["sCode"] for row in batch["data"]] == ["0"] * 3
        assert client.operate("amend-order", {"instIdCode": code, "clOrdId": "n0", "newSz": "2"})["code"] == "0"
        assert venue.engine.open_orders(venue.account)[0].quantity == 2
        assert client.operate("cancel-order", {"instIdCode": code, "clOrdId": "n0"})["code"] == "0"
        again = client.operate("batch-cancel-orders", *({"instIdCode": code, "clOrdId": f"n{n}"} for n in range(3)))
        assert (again["code"], [row["sCode"] for row in again["data"]]) == ("2", ["51401", "0", "0"])

    def test_limits_are_shared_with_rest(self, venue: Any) -> None:
        client = venue.logged_in()
        venue.clock.ms += 2000 - venue.clock.ms % 2000
        code = self.code_of(venue, "BTC-USDT-SWAP")
        sent = {"tdMode": "cross", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        for _ in range(60):
            venue.signed("POST", "/trade/order", {"instId": "BTC-USDT-SWAP", **sent})
        answer = client.operate("order", {"instIdCode": code, **sent})
        assert (answer["code"], answer["data"][0]["sCode"]) == ("1", "50011")

    def test_a_deadline_keeps_the_order_out(self, venue: Any) -> None:
        client = venue.logged_in()
        code = self.code_of(venue, "BTC-USDT-SWAP")
        sent = {"instIdCode": code, "tdMode": "cross", "side": "buy", "ordType": "limit", "px": "50000", "sz": "1"}
        answer = client.operate("order", sent, expTime=str(venue.clock.ms - 1))
        assert answer["data"][0]["sCode"] == "50036"
        assert venue.engine.orders(venue.account) == []

    def test_who_has_not_logged_in_orders_nothing(self, venue: Any) -> None:
        client = venue.connect("private")
        (frame,) = client.send({"id": "1", "op": "order", "args": [{}]})
        assert (frame["event"], frame["code"]) == ("error", "60011")
