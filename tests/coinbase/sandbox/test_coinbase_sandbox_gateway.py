"""The international gateway: instruments, orders, positions over HTTP; what each socket serves."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from astra.models.orders import OrderType
from astra.sandbox import HttpResponse
from astra_coinbase.sandbox import SandboxLimits

LINEAR, AAVE, INVERSE = "COINBASE-PERP-BTC-USDC", "COINBASE-PERP-AAVE-USDC", "COINBASE-PERP-BTC-USD-COINM"
OPTION = "COINBASE-OPT-BTC-USD-270625-90000-C-COINM"
NATIVE = {
    LINEAR: "BTC_USDC-PERPETUAL",
    AAVE: "AAVE_USDC-PERPETUAL",
    INVERSE: "BTC-PERPETUAL",
    OPTION: "BTC-25JUN27-90000-C",
}


def without(found: list[str], *names: str) -> list[str]:
    """Differences but those of members that samples of the venue leave out."""
    return [text for text in found if not any(f".{name}" in text for name in names)]


class TestInstruments:
    def test_rows_have_the_recorded_shape(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        ours = {row["instrument_name"]: row for row in venue.rpc("public/get_instruments", currency="any")["result"]}
        perpetual, option = capture("gateway-get-instruments")["result"]
        for mine, theirs in ((ours["AAVE_USDC-PERPETUAL"], perpetual), (ours["ETH-25JUN27-3000-P"], option)):
            assert mine.keys() == theirs.keys()
            assert not unlike(mine, theirs)
            same = ("kind", "instrument_type", "settlement_period", "base_currency", "counter_currency")
            for name in (
                *same,
                "quote_currency",
                "settlement_currency",
                "contract_size",
                "tick_size",
                "tick_size_steps",
            ):
                assert mine[name] == theirs[name], name
        assert option["expiration_timestamp"] == ours["ETH-25JUN27-3000-P"]["expiration_timestamp"]

    def test_decimal_strikes_are_written_with_a_d(self, venue: Any) -> None:
        row = venue.rpc("public/get_instrument", instrument_name="XRP_USDC-25JUN27-2d25-C")["result"]
        assert (row["strike"], row["option_type"], row["instrument_type"]) == (2.25, "call", "linear")

    def test_filters(self, venue: Any) -> None:
        def names(**params: Any) -> list[str]:
            return [row["instrument_name"] for row in venue.rpc("public/get_instruments", **params)["result"]]

        assert names() == names(currency="any")
        assert names(kind="spot") == ["BTC_USDC"]
        assert names(currency="ETH", kind="future") == ["ETH-PERPETUAL"]
        assert names(expired=True) == []

    def test_book_and_ticker(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        venue.crowd(INVERSE, "BUY", "5", "90000")
        venue.crowd(INVERSE, "SELL", "2", "90000.5")
        venue.crowd(INVERSE, "BUY", "1", "90000.5")
        answer = venue.rpc("public/get_order_book", instrument_name="BTC-PERPETUAL", depth=3)
        funding = ("settlement_price", "open_interest", "estimated_delivery_price", "current_funding", "funding_8h")
        found = unlike(answer["result"], capture("gateway-get-order-book")["result"])
        assert not without(found, *funding, "interest_value")
        book = answer["result"]
        assert (book["bids"], book["asks"]) == ([[90000.0, 50.0]], [[90000.5, 10.0]])  # USD: contracts of 10
        assert venue.sandbox.change_id(INVERSE, book["change_id"]) == venue.engine.depth(INVERSE, 1)[0]
        ticker = venue.rpc("public/ticker", instrument_name="BTC-PERPETUAL")["result"]
        assert (ticker["last_price"], ticker["best_bid_amount"]) == (90000.5, 50.0)

    def test_trades_print_the_takers_direction(self, venue: Any) -> None:
        venue.crowd(AAVE, "BUY", "500", "150")
        venue.crowd(AAVE, "SELL", "100", "150")
        venue.crowd(AAVE, "SELL", "200", "150")
        asked = {"instrument_name": "AAVE_USDC-PERPETUAL", "count": 10}
        newest, oldest = venue.rpc("public/get_last_trades_by_instrument", **asked)["result"]["trades"]
        assert (newest["direction"], newest["amount"], newest["contracts"]) == ("sell", 2.0, 200.0)
        assert newest["trade_seq"] == oldest["trade_seq"] + 1
        since = venue.rpc("public/get_last_trades_by_instrument", **asked, start_seq=newest["trade_seq"])["result"]
        assert [row["trade_id"] for row in since["trades"]] == [newest["trade_id"]]

    def test_time_over_get_has_no_id(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        answer = venue.ask("GET", "/api/v2/public/get_time", host="international_rest")
        ours = json.loads(answer.body)
        assert ours.keys() == capture("gateway-get-time").keys()
        assert ours["result"] == venue.clock.ms

    @pytest.mark.parametrize(
        ("method", "params", "code"),
        [
            ("public/get_order_bok", {}, -32601),
            ("public/ticker", {"instrument_name": "BTC-PERP"}, 13020),
            ("public/ticker", {"instrument": "BTC-PERPETUAL"}, -32602),
            ("public/ticker", {}, -32602),
            ("public/get_order_book", {"instrument_name": "BTC-PERPETUAL", "depth": "many"}, -32602),
            ("public/subscribe", {"channels": []}, -32601),
            ("private/get_positions", {}, 13009),
        ],
    )
    def test_refusals(self, venue: Any, method: str, params: dict[str, Any], code: int) -> None:
        assert venue.rpc(method, **params)["error"]["code"] == code


class Trader:
    """Private calls over HTTP."""

    def __init__(self, venue: Any) -> None:
        self._venue = venue
        self._bearer = venue.gateway_token()

    def __call__(self, method: str, **params: Any) -> Any:
        answer = self._venue.rpc(f"private/{method}", self._bearer, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def refused(self, method: str, **params: Any) -> int:
        code = self._venue.rpc(f"private/{method}", self._bearer, **params)["error"]["code"]
        assert isinstance(code, int)
        return code


@pytest.fixture
def trader(venue: Any) -> Trader:
    return Trader(venue)


LIMIT: dict[str, Any] = {"instrument_name": "BTC_USDC-PERPETUAL", "amount": 0.01, "type": "limit", "price": 50000}


class TestOrders:
    def test_answers_have_the_documented_shape(
        self, venue: Any, trader: Trader, capture: Callable[[str], Any], unlike: Any
    ) -> None:
        venue.crowd(LINEAR, "SELL", "40", "50000")
        ours = trader("buy", **LIMIT, label="mine")
        theirs = capture("gateway-sell")["result"]
        assert not without(unlike(ours, theirs), "contracts", "api", "label", "profit_loss")
        order, (trade,) = ours["order"], ours["trades"]
        assert (order["amount"], order["filled_amount"], order["order_state"]) == (0.01, 0.004, "open")
        assert order["order_id"].startswith("USDC-")
        # 0.035 % of 200 dollars.
        assert (trade["fee"], trade["fee_currency"], trade["liquidity"]) == (0.07, "USDC", "T")
        (listed,) = trader("get_open_orders")
        assert not without(unlike([listed], capture("gateway-open-orders")["result"]), "contracts", "replaced", "web")

    @pytest.mark.parametrize(
        ("symbol", "amount", "contracts"),
        [(LINEAR, "0.0005", 5), (AAVE, "1.25", 125), (INVERSE, "50", 5), (OPTION, "2", 2)],
    )
    def test_amounts_are_coins_or_dollars(
        self, venue: Any, trader: Trader, symbol: str, amount: str, contracts: int
    ) -> None:
        asked = {"instrument_name": NATIVE[symbol], "type": "limit", "price": 0.01 if symbol == OPTION else 100}
        row = trader("buy", **asked, amount=float(amount))["order"]
        assert (row["amount"], row["contracts"]) == (float(amount), contracts)
        same = trader("buy", **asked, contracts=contracts)["order"]
        assert same["amount"] == float(amount)
        assert [order.quantity for order in venue.engine.open_orders(venue.account)] == [contracts] * 2

    def test_get_places_orders_too(self, venue: Any) -> None:
        token = venue.gateway_token()
        query = (
            "instrument_name=BTC_USDC-PERPETUAL&amount=0.01&type=limit&price=50000&post_only=true&reject_post_only=true"
        )
        answer = venue.ask("GET", "/api/v2/private/buy", query, token=token, host="international_rest")
        assert answer.status == 200
        (order,) = venue.engine.open_orders(venue.account)
        assert (order.quantity, order.post_only) == (100, True)

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"price": 50000.3}, 10043),
            ({"amount": 0.00015}, 10021),
            ({"amount": 100_000_000}, 10009),
            ({"price": 60000, "post_only": True, "reject_post_only": True}, 11054),
            ({"instrument_name": "BTC-PERP"}, 13020),
            ({"instrument_name": "BTC_USDC"}, 13020),
            ({"reduce_only": True}, 11030),
            ({"amount": None}, -32602),
            ({"type": "limt"}, -32602),
            ({"postonly": True}, -32602),
            ({"label": "x" * 65}, -32602),
            ({"type": "stop_limit", "trigger_price": 60000, "trigger": "last"}, -32602),
        ],
    )
    def test_refusals(self, venue: Any, trader: Trader, change: dict[str, Any], code: int) -> None:
        venue.crowd(LINEAR, "SELL", "10", "55000")
        assert trader.refused("buy", **{k: v for k, v in (LIMIT | change).items() if v is not None}) == code
        assert venue.engine.orders(venue.account) == []

    def test_post_only_moves_the_price_unless_told_to_reject(self, venue: Any, trader: Trader) -> None:
        venue.crowd(LINEAR, "SELL", "10", "55000")
        row = trader("buy", **LIMIT | {"price": 60000}, post_only=True)["order"]
        assert (row["price"], row["order_state"]) == (54999.5, "open")

    def test_labels_may_repeat(self, venue: Any, trader: Trader) -> None:
        for price in (50000, 50001):
            trader("buy", **LIMIT | {"price": price}, label="twice")
        found = trader("get_order_state_by_label", currency="USDC", label="twice")
        assert [row["price"] for row in found] == [50001.0, 50000.0]
        assert trader("get_order_state_by_label", currency="BTC", label="twice") == []
        assert trader("cancel_by_label", label="twice") == 2
        assert trader("get_open_orders_by_label", currency="any", label="twice") == []
        assert len(trader("get_order_state_by_label", currency="USDC", label="twice")) == 2

    def test_editing(self, venue: Any, trader: Trader) -> None:
        row = trader("buy", **LIMIT)["order"]
        ours = trader("edit", order_id=row["order_id"], amount=0.02, price=49000)
        assert (ours["order"]["order_id"], ours["order"]["replaced"]) == (row["order_id"], True)
        assert (ours["order"]["amount"], ours["order"]["price"], ours["trades"]) == (0.02, 49000.0, [])
        venue.crowd(LINEAR, "SELL", "50", "49500")
        crossing = trader("edit", order_id=row["order_id"], amount=0.02, price=50000)
        assert [trade["amount"] for trade in crossing["trades"]] == [0.005]
        assert trader.refused("edit", order_id=row["order_id"], amount=0.004, price=50000) in (10002, 11029)
        assert trader.refused("edit", order_id="USDC-1", amount=0.02, price=50000) == 10004

    def test_cancelling(self, venue: Any, trader: Trader, capture: Callable[[str], Any], unlike: Any) -> None:
        row = trader("buy", **LIMIT)["order"]
        ours = trader("cancel", order_id=row["order_id"])
        assert ours["order_state"] == "cancelled"
        sample = capture("gateway-cancel")["result"] | {"price": 1.0}
        known = ("contracts", "average_price", "filled_amount", "cancel_reason", "replaced", "web")
        assert not without(unlike(ours, sample), *known)
        assert trader.refused("cancel", order_id=row["order_id"]) == 11044
        assert trader.refused("cancel", order_id="nonsense") == 10004
        assert trader("get_order_state", order_id=row["order_id"])["order_state"] == "cancelled"

    def test_cancelling_many(self, venue: Any, trader: Trader) -> None:
        for symbol in (LINEAR, INVERSE):
            for _ in range(2):
                trader("buy", **LIMIT | {"instrument_name": NATIVE[symbol], "amount": 10, "price": 100})
        venue.own("COINBASE-SPOT-BTC-USD", "BUY", "1", "100")
        assert trader("cancel_all_by_instrument", instrument_name="BTC-PERPETUAL") == 2
        assert trader("cancel_all_by_currency", currency="BTC") == 0
        assert trader("cancel_all") == 2
        assert len(venue.engine.open_orders(venue.account)) == 1

    def test_a_stop_has_an_id_of_its_own_until_it_is_triggered(self, venue: Any, trader: Trader) -> None:
        venue.crowd(LINEAR, "BUY", "100", "49000")
        venue.crowd(LINEAR, "SELL", "1", "49000")
        stop = LIMIT | {"type": "stop_limit", "trigger": "last_price", "trigger_price": 50000, "price": 50500}
        row = trader("buy", **stop)["order"]
        assert "SLTS" in row["order_id"]
        assert (row["order_state"], row["order_type"], row["triggered"]) == ("untriggered", "stop_limit", False)
        venue.crowd(LINEAR, "SELL", "1", "50000")
        venue.crowd(LINEAR, "BUY", "1", "50000")
        (now,) = trader("get_open_orders")
        assert now["order_id"] != row["order_id"]
        assert (now["order_state"], now["order_type"], now["trigger_order_id"]) == ("open", "limit", row["order_id"])
        assert trader("get_order_state", order_id=row["order_id"])["order_state"] == "triggered"
        assert trader("get_order_state", order_id=now["order_id"]) == now

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [("stop_market", OrderType.STOP_MARKET), ("take_market", OrderType.TAKE_PROFIT_MARKET)],
    )
    def test_untriggered_market_orders_have_a_text_for_a_price(
        self, venue: Any, trader: Trader, kind: str, expected: OrderType
    ) -> None:
        trigger = {"trigger": "mark_price", "trigger_price": 40000 if kind == "take_market" else 900_000}
        row = trader("buy", instrument_name="BTC_USDC-PERPETUAL", amount=0.01, type=kind, **trigger)["order"]
        assert row["price"] == "market_price"
        assert venue.engine.open_orders(venue.account)[0].type is expected

    def test_history_and_own_trades(
        self, venue: Any, trader: Trader, capture: Callable[[str], Any], unlike: Any
    ) -> None:
        for number in range(3):
            venue.clock.ms += 1000
            venue.crowd(LINEAR, "SELL", "100", str(50000 - number))
            trader("buy", **LIMIT)
        trader("cancel", order_id=trader("buy", **LIMIT)["order"]["order_id"])
        asked = {"instrument_name": "BTC_USDC-PERPETUAL"}
        assert len(trader("get_order_history_by_instrument", **asked)) == 3
        assert len(trader("get_order_history_by_instrument", **asked, include_unfilled=True, count=4)) == 4
        ours = trader("get_user_trades_by_instrument", **asked, count=2)
        known = ("contracts", "api", "label", "profit_loss")
        assert not without(unlike(ours, capture("gateway-user-trades")["result"]), *known)
        assert (ours["has_more"], [row["price"] for row in ours["trades"]]) == (True, [49998.0, 49999.0])
        rising = trader("get_user_trades_by_instrument", **asked, sorting="asc")
        assert [row["price"] for row in rising["trades"]] == [50000.0, 49999.0, 49998.0]
        number = rising["trades"][0]["order_id"]
        assert [row["price"] for row in trader("get_user_trades_by_order", order_id=number)] == [50000.0]
        since = trader(
            "get_user_trades_by_instrument_and_time", **asked, start_timestamp=venue.clock.ms, end_timestamp=2**50
        )
        assert len(since["trades"]) == 1


class TestMoney:
    @pytest.mark.parametrize(
        ("symbol", "amount", "profit"),
        [(LINEAR, 0.01, 10.0), (INVERSE, 5000.0, float(5000 * (1 / Decimal(50000) - 1 / Decimal(51000))))],
    )
    def test_positions(
        self,
        venue: Any,
        trader: Trader,
        capture: Callable[[str], Any],
        unlike: Any,
        symbol: str,
        amount: float,
        profit: float,
    ) -> None:
        venue.crowd(symbol, "SELL", "1000", "50000")
        trader("buy", instrument_name=NATIVE[symbol], amount=amount, type="market")
        venue.crowd(symbol, "BUY", "1000", "50000")
        venue.crowd(symbol, "BUY", "1", "50999.5")
        venue.crowd(symbol, "SELL", "1", "51000.5")
        (ours,) = trader("get_positions", currency="any", kind="future")
        assert not unlike([ours], capture("gateway-positions")["result"])
        assert (ours["size"], ours["average_price"], ours["mark_price"]) == (amount, 50000.0, 51000.0)
        assert ours["floating_profit_loss"] == pytest.approx(profit)
        assert trader("get_position", instrument_name=NATIVE[symbol]) == ours
        closed = trader("close_position", instrument_name=NATIVE[symbol], type="market")
        assert closed["order"]["reduce_only"] is True

    def test_a_short_has_a_negative_size(self, venue: Any, trader: Trader) -> None:
        venue.crowd(OPTION, "BUY", "3", "0.05")
        trader("sell", instrument_name=NATIVE[OPTION], amount=3, type="market")
        (ours,) = trader("get_positions", currency="BTC", kind="option")
        assert (ours["size"], ours["direction"]) == (-3.0, "sell")
        # A premium of 0.05 coins each, less 0.035 % of it; margin of 0.15 coins each.
        held = next(b for b in venue.engine.balances(venue.account) if b.wallet == "international" and b.asset == "BTC")
        assert held.locked == Decimal("0.45")
        summary = trader("get_account_summary", currency="BTC")
        assert summary["balance"] == float(held.total)

    def test_summaries(self, venue: Any, trader: Trader, capture: Callable[[str], Any], unlike: Any) -> None:
        trader("buy", **LIMIT | {"amount": 1})
        ours = trader("get_account_summaries")
        assert not unlike(ours, capture("gateway-account-summaries")["result"])
        (dollars,) = [row for row in ours["summaries"] if row["currency"] == "USDC"]
        # Margin of one coin at 50,000 dollars, 20 times leverage.
        assert (dollars["balance"] - dollars["available_funds"], dollars["initial_margin"]) == (2500.0, 2500.0)
        assert {row["currency"] for row in ours["summaries"]} == {"BTC", "ETH", "USDC"}
        assert trader.refused("get_account_summary", currency="DOGE") == -32602

    def test_leverage_reaches_the_engine(self, venue: Any, trader: Trader) -> None:
        asked = {"instrument_name": "BTC_USDC-PERPETUAL"}
        trader("set_leverage", **asked, leverage=10)
        assert trader("get_leverage", **asked)["leverage"] == 10
        trader("buy", **LIMIT | {"amount": 1})
        assert trader("get_account_summary", currency="USDC")["initial_margin"] == 5000.0
        assert trader.refused("set_leverage", **asked, leverage=51) == -32602


class TestSockets:
    def test_each_refuses_what_the_other_serves(self, venue: Any) -> None:
        streams, private = venue.gateway(private=False), venue.gateway(private=True)
        for method in ("public/get_time", "public/auth", "private/subscribe", "private/buy"):
            assert streams.call(method)["error"]["code"] == -32601
        assert private.call("public/subscribe", channels=[])["error"]["code"] == -32601
        assert private.call("public/get_time")["result"] == venue.clock.ms
        for client in (streams, private):
            assert "version" in client.call("public/test")["result"]

    def test_orders_are_placed_over_the_private_one(self, venue: Any) -> None:
        client = venue.gateway(private=True)
        placed = client.call("private/buy", **LIMIT)["result"]["order"]
        assert client.call("private/get_open_orders")["result"] == [placed]
        assert client.call("private/cancel", order_id=placed["order_id"])["result"]["order_state"] == "cancelled"

    def test_who_says_nothing_is_closed(self, venue: Any) -> None:
        silent, talking = venue.gateway(private=False), venue.gateway(private=False)
        silent.after(15_000)
        talking.call("public/test")
        silent.after(15_000)
        talking.after(50)
        assert (silent.line.closed, talking.line.closed) == (1011, None)

    def test_heartbeats_are_to_be_answered(self, venue: Any) -> None:
        client = venue.gateway(private=False)
        assert client.call("public/set_heartbeat", interval=9)["error"]["code"] == -32602
        assert client.call("public/set_heartbeat", interval=10)["result"] == "ok"
        request = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
        for _ in range(4):
            assert client.after(10_000) == [request]
            client.call("public/test")
        assert client.after(10_000) == [request]
        client.after(10_000)
        assert client.line.closed == 1011

    def test_cancel_on_disconnect(self, venue: Any) -> None:
        client, other = venue.gateway(private=True), venue.gateway(private=True)
        client.call("private/buy", **LIMIT)
        other.session.closed()
        assert len(venue.engine.open_orders(venue.account)) == 1
        assert client.call("private/enable_cancel_on_disconnect")["result"] == "ok"
        client.session.closed()
        assert venue.engine.open_orders(venue.account) == []

    @pytest.mark.parametrize(("frame", "code"), [("nonsense", -32700), ("[]", -32600), ('{"id":1}', -32600)])
    def test_malformed_frames_are_answered(self, venue: Any, frame: str, code: int) -> None:
        (answer,) = venue.gateway(private=False).send(frame)
        assert answer["error"]["code"] == code

    def test_there_is_one_path(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits())
        refused = venue.sandbox.connect("international_stream", "/", {}, venue.gateway(private=False).line)
        assert isinstance(refused, HttpResponse)
        assert refused.status == 404
