"""Private streams: listen keys of the futures families, the Spot WebSocket API, and their events."""

import base64
import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from astra_binance.sandbox import SandboxLimits
from astra_binance.sandbox.wire import Family

BTC_SPOT, BTC_PERP = "BINANCE-SPOT-BTC-USDT", "BINANCE-PERP-BTC-USDT"
BTC_COIN, BTC_CALL = "BINANCE-PERP-BTC-USD-COINM", "BINANCE-OPT-BTC-USDT-270326-90000-C"
LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "50000", "quantity": "0.1"}


def signed_params(venue: Any, account: Any = None, **params: Any) -> dict[str, Any]:
    """Params of a WebSocket API request, signed as the venue wants them there: sorted, raw."""
    owner = account or venue.account
    given = {"apiKey": owner.key, "timestamp": venue.clock.ms, **params}
    text = "&".join(f"{name}={given[name]}" for name in sorted(given))
    return given | {"signature": hmac.new(owner.secret.encode(), text.encode(), hashlib.sha256).hexdigest()}


def api(venue: Any) -> Any:
    return venue.connect("spot_ws_api", "/ws-api/v3?returnRateLimits=false")


def request(client: Any, method: str, params: Any = None, ident: Any = 1) -> Any:
    """The answer to a request; events that come before it are put back."""
    frames = client.send({"id": ident, "method": method, **({} if params is None else {"params": params})})
    answers = [frame for frame in frames if "status" in frame]
    client.line.frames = [frame for frame in frames if "status" not in frame] + client.line.frames
    assert len(answers) == 1
    return answers[0]


def subscribed(venue: Any) -> Any:
    client = api(venue)
    answer = request(client, "userDataStream.subscribe.signature", signed_params(venue))
    assert answer == {"id": 1, "status": 200, "result": {"subscriptionId": 0}}
    return client


def events(client: Any, kind: str | None = None) -> list[Any]:
    """The events received so far (of one kind), without envelope."""
    client.session.tick(client._clock.ms)
    found = [frame["event"] for frame in client.line.take()]
    return [event for event in found if kind in (None, event["e"])]


class TestWebSocketApi:
    def test_requests_as_documented(self, venue: Any, captured_frames: Any) -> None:
        _, documented, *_ = captured_frames("spot-user-data")
        answer = request(api(venue), "userDataStream.subscribe.signature", signed_params(venue), ident=documented["id"])
        assert answer == documented

    def test_rest_endpoints_answer_here_too(self, venue: Any) -> None:
        venue.crowd(BTC_SPOT, "SELL", "1", "50000")
        client = venue.connect("spot_ws_api", "/")
        assert request(client, "ping")["result"] == {}
        assert request(client, "time")["result"] == {"serverTime": venue.clock.ms}
        book = request(client, "depth", {"symbol": "BTCUSDT", "limit": 5})
        assert book["result"]["asks"] == [["50000.00000000", "1.00000000"]]
        assert book["rateLimits"][0] == {
            "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000, "count": 9,
        }  # fmt: skip

    def test_orders_can_be_placed_queried_and_cancelled(self, venue: Any) -> None:
        client = api(venue)
        order = LIMIT | {"symbol": "BTCUSDT", "newClientOrderId": "ws"}
        placed = request(client, "order.place", signed_params(venue, **order))
        assert (placed["status"], placed["result"]["status"]) == (200, "NEW")
        ref = {"symbol": "BTCUSDT", "origClientOrderId": "ws"}
        assert request(client, "order.status", signed_params(venue, **ref))["result"]["clientOrderId"] == "ws"
        assert request(client, "order.cancel", signed_params(venue, **ref))["result"]["status"] == "CANCELED"
        refused = request(client, "order.cancel", signed_params(venue, **ref))
        assert (refused["status"], refused["error"]["code"]) == (400, -2011)

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"signature": "0" * 64}, 400, -1022),
            ({"apiKey": "nobody"}, 401, -2015),
            ({"timestamp": 1}, 400, -1021),
            ({"signature": ""}, 400, -1102),
        ],
    )
    def test_refusals(self, venue: Any, change: Any, status: int, code: int) -> None:
        answer = request(api(venue), "userDataStream.subscribe.signature", signed_params(venue) | change, ident="x")
        assert (answer["id"], answer["status"], answer["error"]["code"]) == ("x", status, code)

    def test_what_is_signed_here_is_not_percent_encoded(self, venue: Any) -> None:
        assert request(api(venue), "openOrders.status", signed_params(venue, symbol="币安人生USDT"))["status"] == 200
        encoded = signed_params(venue, symbol=quote("币安人生USDT")) | {"symbol": "币安人生USDT"}
        assert request(api(venue), "openOrders.status", encoded)["error"]["code"] == -1022

    def test_unknown_methods_and_broken_frames(self, venue: Any) -> None:
        client = api(venue)
        assert request(client, "order.guess")["status"] == 400
        assert client.send("{")[0]["status"] == 400

    def test_one_subscription_an_account(self, venue: Any) -> None:
        client = subscribed(venue)
        again = request(client, "userDataStream.subscribe.signature", signed_params(venue))
        assert again["error"]["code"] == -2035
        other = venue.open_account("other")
        second = request(client, "userDataStream.subscribe.signature", signed_params(venue, other))
        assert second["result"] == {"subscriptionId": 1}
        assert request(client, "userDataStream.unsubscribe", {"subscriptionId": 0})["result"] == {}
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert events(client) == []

    def test_hmac_keys_cannot_log_on_and_ed25519_keys_can(self, venue: Any) -> None:
        client = api(venue)
        assert request(client, "session.logon", signed_params(venue))["error"]["code"] == -2028
        key = ed25519.Ed25519PrivateKey.generate()
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        venue.account.settings["public_key"] = pem
        text = f"apiKey={venue.account.key}&timestamp={venue.clock.ms}"
        signature = base64.b64encode(key.sign(text.encode())).decode()
        params = {"apiKey": venue.account.key, "timestamp": venue.clock.ms, "signature": signature}
        assert request(client, "userDataStream.subscribe")["status"] == 401
        assert request(client, "session.logon", params)["result"]["authorizedSince"] == venue.clock.ms
        venue.clock.ms += 1000
        assert request(client, "account.status", {"timestamp": venue.clock.ms})["status"] == 200
        assert request(client, "account.status")["error"]["code"] == -1102
        assert request(client, "userDataStream.subscribe")["result"] == {"subscriptionId": 0}

    def test_too_much_weight_names_the_time_when_requests_are_heard_again(self, make_venue: Any) -> None:
        limits = SandboxLimits()
        limits.weight_per_minute[Family.SPOT] = 10
        venue = make_venue(limits)
        client = api(venue)
        assert request(client, "trades.recent", {"symbol": "BTCUSDT"})["error"] == {
            "code": -1003,
            "msg": "Too much request weight used; current limit is 10 request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API.",
            "data": {"serverTime": venue.clock.ms, "retryAfter": venue.clock.ms - venue.clock.ms % 60_000 + 60_000},
        }

    def test_a_closed_connection_is_forgotten(self, venue: Any) -> None:
        client = subscribed(venue)
        client.session.closed()
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert client.line.take() == []


class TestSpotEvents:
    def test_reports_have_the_documented_keys(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        documented = {frame["event"]["e"]: frame["event"] for frame in captured_frames("spot-user-data")[2:]}
        client = subscribed(venue)
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        venue.crowd(BTC_SPOT, "SELL", "0.1", "50000")
        seen = events(client)
        for event in seen:
            extra = {"v"}  # an example's key that no page explains
            assert event.keys() - {"eR"} <= documented[event["e"]].keys()
            assert event.keys() >= documented[event["e"]].keys() - extra
            filled = {"N"} if event["e"] == "executionReport" and event["x"] == "TRADE" else set()
            assert not unlike({k: v for k, v in event.items() if k not in filled}, documented[event["e"]])
        assert [(event["e"], event.get("x")) for event in seen] == [
            ("executionReport", "NEW"),
            ("outboundAccountPosition", None),
            ("executionReport", "TRADE"),
            ("outboundAccountPosition", None),
        ]

    def test_a_fill_adds_up(self, venue: Any) -> None:
        client = subscribed(venue)
        venue.crowd(BTC_SPOT, "SELL", "0.03", "49000")
        venue.crowd(BTC_SPOT, "SELL", "1", "50000")
        placed = venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", newClientOrderId="mine", **LIMIT)
        new, first, second = events(client, "executionReport")
        assert (new["X"], first["X"], second["X"]) == ("NEW", "PARTIALLY_FILLED", "FILLED")
        assert (first["l"], first["L"], first["z"], second["z"]) == (
            "0.03000000", "49000.00000000", "0.03000000", "0.10000000",
        )  # fmt: skip
        assert Decimal(second["Z"]) == Decimal("0.03") * 49000 + Decimal("0.07") * 50000
        assert {(event["i"], event["c"]) for event in (new, first, second)} == {(placed["orderId"], "mine")}
        trades = venue.call("spot_rest", "GET", "myTrades", symbol="BTCUSDT")
        assert [event["t"] for event in (first, second)] == [row["id"] for row in trades]
        assert [event["n"] for event in (first, second)] == [row["commission"] for row in trades]
        assert (new["t"], new["N"]) == (-1, None)

    def test_positions_are_full_values_of_the_assets_touched(self, venue: Any) -> None:
        client = subscribed(venue)
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        (event,) = events(client, "outboundAccountPosition")
        (row,) = event["B"]
        held = {row["asset"]: row for row in venue.call("spot_rest", "GET", "account")["balances"]}["USDT"]
        assert (row["a"], row["f"], row["l"]) == ("USDT", held["free"], held["locked"])

    def test_after_a_cancel_the_orders_id_is_in_capital_c(self, venue: Any) -> None:
        client = subscribed(venue)
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", newClientOrderId="mine", **LIMIT)
        venue.call(
            "spot_rest", "DELETE", "order", symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="cancel"
        )
        new, cancelled = events(client, "executionReport")
        assert (new["c"], new["C"]) == ("mine", "")
        assert (cancelled["x"], cancelled["c"], cancelled["C"]) == ("CANCELED", "cancel", "mine")

    def test_an_amendment_is_a_replacement_with_a_new_id(self, venue: Any) -> None:
        client = subscribed(venue)
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", newClientOrderId="old", **LIMIT)
        venue.call(
            "spot_rest", "PUT", "order/amend/keepPriority", symbol="BTCUSDT", origClientOrderId="old", newQty="0.05",
            newClientOrderId="new",
        )  # fmt: skip
        replaced = events(client, "executionReport")[-1]
        assert (replaced["x"], replaced["c"], replaced["C"], replaced["q"]) == ("REPLACED", "new", "old", "0.05000000")

    def test_a_deposit_is_a_balance_update(self, venue: Any) -> None:
        client = subscribed(venue)
        venue.engine.deposit(venue.account, "spot", "BTC", Decimal("1.5"))
        update, position = events(client)
        assert (update["e"], update["a"], update["d"]) == ("balanceUpdate", "BTC", "1.50000000")
        assert position["e"] == "outboundAccountPosition"

    def test_nobody_hears_of_other_accounts_or_families(self, venue: Any) -> None:
        client = subscribed(venue)
        other = venue.open_account("other")
        venue.call("spot_rest", "POST", "order", other, symbol="BTCUSDT", **LIMIT)
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert events(client) == []

    def test_fills_of_resting_orders_arrive_with_the_next_beat(self, venue: Any) -> None:
        venue.call("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        client = subscribed(venue)
        venue.crowd(BTC_SPOT, "SELL", "0.1", "50000")
        frames = client.after(50)
        assert [frame["event"]["e"] for frame in frames] == ["executionReport", "outboundAccountPosition"]
        assert {frame["subscriptionId"] for frame in frames} == {0}


def listen_key(venue: Any, host: str, account: Any = None) -> str:
    answer = venue.ask(host, "POST", "listenKey", key=(account or venue.account).key)
    key = json.loads(answer.body)["listenKey"]
    assert isinstance(key, str)
    return key


class TestListenKeys:
    def test_the_active_key_is_given_again_and_extended(self, venue: Any, capture: Any) -> None:
        first = listen_key(venue, "usdm_rest")
        assert (
            json.loads(venue.ask("usdm_rest", "POST", "listenKey", key=venue.account.key).body).keys()
            == capture("usdm-listenKey-new").keys()
        )
        venue.clock.ms += 3_599_000
        assert listen_key(venue, "usdm_rest") == first
        venue.clock.ms += 3_599_000
        assert json.loads(venue.ask("usdm_rest", "PUT", "listenKey", key=venue.account.key).body) == {
            "listenKey": first
        }
        venue.clock.ms += 3_600_000
        assert listen_key(venue, "usdm_rest") != first

    def test_options_say_when_it_ends(self, venue: Any, capture: Any) -> None:
        answer = json.loads(venue.ask("options_rest", "POST", "listenKey", key=venue.account.key).body)
        assert answer.keys() == capture("options-listenKey-new").keys()
        assert answer["expiration"] == venue.clock.ms + 3_600_000

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_a_key_that_is_not_there(self, venue: Any, method: str) -> None:
        answer = venue.ask("usdm_rest", method, "listenKey", key=venue.account.key)
        assert (answer.status, json.loads(answer.body)["code"]) == (400, -1125)

    def test_it_dies_after_an_hour_with_an_event(self, venue: Any, captured_frames: Any) -> None:
        key = listen_key(venue, "usdm_rest")
        client = venue.connect("usdm_stream", f"/private/ws?listenKey={key}")
        client.session.tick(venue.clock.ms + 3_599_999)
        assert client.line.take() == []
        venue.clock.ms += 3_600_000
        client.session.tick(venue.clock.ms)
        (event,) = client.line.take()
        assert event == {"e": "listenKeyExpired", "E": venue.clock.ms, "listenKey": key}
        assert event.keys() == captured_frames("usdm-user-data")[-1].keys()
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert client.after(100) == [], "the stream is dead"

    def test_an_event_that_was_not_asked_for_never_comes(self, venue: Any) -> None:
        key = listen_key(venue, "usdm_rest")
        client = venue.connect("usdm_stream", f"/private/ws?listenKey={key}&events=ACCOUNT_UPDATE")
        venue.crowd(BTC_PERP, "SELL", "1", "50000")
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert [event["e"] for event in client.after(100)] == ["ACCOUNT_UPDATE"]
        venue.clock.ms += 3_600_000
        assert client.after(100) == []

    @pytest.mark.parametrize(
        ("target", "heard"),
        [
            ("/private/ws/{key}", True),
            ("/private/ws?listenKey={key}", True),
            ("/private/stream?streams={key}", True),
            ("/ws/{key}", False),
            ("/public/ws/{key}", False),
            ("/market/ws?listenKey={key}", False),
        ],
    )
    def test_only_the_private_path_serves_it(self, venue: Any, target: str, heard: bool) -> None:
        key = listen_key(venue, "usdm_rest")
        client = venue.connect("usdm_stream", target.format(key=key))
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert bool(client.after(100)) is heard

    def test_it_can_be_subscribed_to_by_a_frame(self, venue: Any) -> None:
        key = listen_key(venue, "usdm_rest")
        client = venue.connect("usdm_stream", "/private/stream")
        assert client.send({"method": "SUBSCRIBE", "params": [key], "id": 1}) == [{"result": None, "id": 1}]
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        (frame,) = client.after(100)
        assert (frame["stream"], frame["data"]["e"]) == (key, "ORDER_TRADE_UPDATE")

    def test_deleting_it_ends_the_stream(self, venue: Any) -> None:
        key = listen_key(venue, "coinm_rest")
        client = venue.connect("coinm_stream", f"/ws/{key}")
        assert venue.ask("coinm_rest", "DELETE", "listenKey", key=venue.account.key).status == 200
        venue.call("coinm_rest", "POST", "order", symbol="BTCUSD_PERP", **(LIMIT | {"quantity": "1"}))
        assert client.after(100) == []


def private(venue: Any, host: str) -> Any:
    family = host.partition("_")[0]
    key = listen_key(venue, host)
    path = "/ws/" if family == "coinm" else "/private/ws/"
    return venue.connect(f"{family}_stream", path + key)


def heard(client: Any, kind: str | None = None) -> list[Any]:
    client.session.tick(client._clock.ms)
    return [event for event in client.line.take() if kind in (None, event["e"])]


class TestFuturesEvents:
    def test_a_resting_order_is_an_order_event_only(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert [(event["e"], event["o"]["x"]) for event in heard(client)] == [("ORDER_TRADE_UPDATE", "NEW")]

    def test_events_have_the_documented_keys(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        documented: dict[str, Any] = {}
        for frame in captured_frames("usdm-user-data"):
            documented[frame["e"]] = frame
        client = private(venue, "usdm_rest")
        venue.crowd(BTC_PERP, "SELL", "0.05", "50000")
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        seen = heard(client)
        assert [event["e"] for event in seen] == [
            "ORDER_TRADE_UPDATE", "TRADE_LITE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE",
        ]  # fmt: skip
        newer = {"pm", "gtd"}
        for event in seen:
            known = documented[event["e"]]
            order = {k: v for k, v in event.get("o", {}).items() if k not in newer}
            assert not unlike({**event, "o": order} if "o" in event else event, known)
        trade = seen[2]["o"]
        trailing = {"AP", "cr"}
        assert trade.keys() - newer == documented["ORDER_TRADE_UPDATE"]["o"].keys() - trailing
        assert not {"n", "N"} & seen[0]["o"].keys(), "no commission, no keys for it"

    def test_fills_and_the_account_add_up(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        (before,) = [row for row in venue.call("usdm_rest", "GET", "/fapi/v3/balance") if row["asset"] == "USDT"]
        venue.crowd(BTC_PERP, "SELL", "0.03", "49000")
        venue.crowd(BTC_PERP, "SELL", "1", "50000")
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        seen = heard(client)
        trades = [event["o"] for event in seen if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "TRADE"]
        lite = [event for event in seen if event["e"] == "TRADE_LITE"]
        assert [trade["t"] for trade in trades] == [event["t"] for event in lite]
        assert [Decimal(trade["l"]) for trade in trades] == [Decimal("0.03"), Decimal("0.07")]
        assert Decimal(trades[-1]["ap"]) == Decimal(49700)
        (update,) = [event["a"] for event in seen if event["e"] == "ACCOUNT_UPDATE"]
        (wallet,), (position,) = update["B"], update["P"]
        fees = sum(Decimal(trade["n"]) for trade in trades)
        assert Decimal(wallet["wb"]) == Decimal(before["balance"]) - fees
        assert (update["m"], Decimal(wallet["bc"])) == ("ORDER", Decimal(0))
        assert (position["s"], position["pa"], position["ep"], position["ps"]) == ("BTCUSDT", "0.100", "49700", "BOTH")

    def test_a_deposit(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        venue.engine.deposit(venue.account, "usdm", "USDT", Decimal(50))
        (event,) = heard(client)
        assert (event["a"]["m"], event["a"]["B"][0]["bc"], event["a"]["P"]) == ("DEPOSIT", "50.00000000", [])

    def test_hedge_mode_tells_all_sides(self, venue: Any) -> None:
        venue.call("usdm_rest", "POST", "positionSide/dual", dualSidePosition="true")
        client = private(venue, "usdm_rest")
        venue.crowd(BTC_PERP, "SELL", "1", "50000")
        venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", positionSide="LONG", **LIMIT)
        (event,) = heard(client, "ACCOUNT_UPDATE")
        assert [(row["ps"], Decimal(row["pa"])) for row in event["a"]["P"]] == [
            ("BOTH", 0), ("LONG", Decimal("0.1")), ("SHORT", 0),
        ]  # fmt: skip

    def test_a_modification_and_a_cancel(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        placed = venue.call("usdm_rest", "POST", "order", symbol="BTCUSDT", newClientOrderId="mine", **LIMIT)
        change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"], "quantity": "0.2"}
        venue.call("usdm_rest", "PUT", "order", **change, price="50001", modifyId=9)
        venue.call("usdm_rest", "DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"])
        _, amended, cancelled = heard(client, "ORDER_TRADE_UPDATE")
        assert (amended["o"]["x"], amended["o"]["p"], amended["o"]["M"]) == ("AMENDMENT", "50001.00", 9)
        assert (cancelled["o"]["x"], cancelled["o"]["X"], cancelled["o"]["c"]) == ("CANCELED", "CANCELED", "mine")

    def test_coinm_is_settled_in_coin(self, venue: Any) -> None:
        client = private(venue, "coinm_rest")
        venue.crowd(BTC_COIN, "SELL", "5", "50000")
        venue.call("coinm_rest", "POST", "order", symbol="BTCUSD_PERP", **(LIMIT | {"quantity": "2"}))
        seen = heard(client)
        assert [event["e"] for event in seen] == ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"]
        trade = seen[1]["o"]
        assert (trade["l"], trade["N"], trade["ma"]) == ("2", "BTC", "BTC")
        assert (seen[2]["a"]["B"][0]["a"], seen[2]["a"]["P"][0]["pa"]) == ("BTC", "2")


class TestAlgoEvents:
    STOP = (
        ("algoType", "CONDITIONAL"), ("symbol", "BTCUSDT"), ("side", "SELL"), ("quantity", "0.1"),
        ("triggerPrice", "45000"), ("clientAlgoId", "stop"),
    )  # fmt: skip

    def fall(self, venue: Any) -> None:
        venue.crowd(BTC_PERP, "BUY", "1", "45000")
        venue.crowd(BTC_PERP, "SELL", "0.5", "45000")

    def test_the_life_of_a_stop(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        documented = next(frame for frame in captured_frames("usdm-user-data") if frame["e"] == "ALGO_UPDATE")
        client = private(venue, "usdm_rest")
        placed = venue.call("usdm_rest", "POST", "algoOrder", type="STOP_MARKET", **dict(self.STOP))
        self.fall(venue)
        seen = heard(client)
        told = [(event["e"], event.get("o", {}).get("X")) for event in seen]
        assert told == [
            ("ALGO_UPDATE", "NEW"),
            ("ALGO_UPDATE", "TRIGGERING"),
            ("ORDER_TRADE_UPDATE", "NEW"),
            ("TRADE_LITE", None),
            ("ORDER_TRADE_UPDATE", "FILLED"),
            ("ACCOUNT_UPDATE", None),
            ("ALGO_UPDATE", "TRIGGERED"),
            ("ALGO_UPDATE", "FINISHED"),
        ]
        new, finished, order = seen[0]["o"], seen[-1]["o"], seen[4]["o"]
        assert (new["aid"], new["caid"], new["ai"]) == (placed["algoId"], "stop", "")
        assert (finished["ai"], finished["aq"]) == (str(order["i"]), "0.100")
        assert Decimal(finished["ap"]) == 45000
        assert new.keys() == documented["o"].keys() - {"rm"}
        assert not unlike(seen[0], documented)

    def test_a_cancelled_stop(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        venue.call("usdm_rest", "POST", "algoOrder", type="STOP_MARKET", **dict(self.STOP))
        venue.call("usdm_rest", "DELETE", "algoOrder", clientAlgoId="stop")
        assert [(event["e"], event["o"]["X"]) for event in heard(client)] == [
            ("ALGO_UPDATE", "NEW"), ("ALGO_UPDATE", "CANCELED"),
        ]  # fmt: skip

    def test_a_stop_that_is_not_taken_is_rejected_and_no_order_appears(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        venue.call("usdm_rest", "POST", "algoOrder", type="STOP_MARKET", reduceOnly="true", **dict(self.STOP))
        self.fall(venue)
        seen = heard(client)
        assert [(event["e"], event["o"]["X"]) for event in seen] == [
            ("ALGO_UPDATE", "NEW"), ("ALGO_UPDATE", "TRIGGERING"), ("ALGO_UPDATE", "REJECTED"),
        ]  # fmt: skip
        assert (seen[-1]["o"]["rm"], seen[-1]["o"]["ai"]) == ("reduce-only", "")

    def test_a_triggered_limit_order_finishes_when_it_is_done(self, venue: Any) -> None:
        client = private(venue, "usdm_rest")
        limit = {"type": "STOP", "price": "47000", "timeInForce": "GTC"}
        venue.call("usdm_rest", "POST", "algoOrder", **limit, **dict(self.STOP))
        self.fall(venue)
        assert [event["o"]["X"] for event in heard(client)] == ["NEW", "TRIGGERING", "NEW", "TRIGGERED"]
        venue.call("usdm_rest", "DELETE", "order", symbol="BTCUSDT", origClientOrderId="stop")
        assert [event["o"]["X"] for event in heard(client)] == ["CANCELED", "FINISHED"]


class TestOptionsEvents:
    def test_fees_are_negative_when_paid(self, venue: Any) -> None:
        client = private(venue, "options_rest")
        venue.crowd(BTC_CALL, "SELL", "1", "4000")
        order = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.5", "price": "4000"}
        venue.call("options_rest", "POST", "order", symbol="BTC-270326-90000-C", **order)
        new, trade, account = heard(client)
        assert (new["e"], new["o"]["X"], trade["o"]["X"]) == ("ORDER_TRADE_UPDATE", "NEW", "FILLED")
        (row,) = venue.call("options_rest", "GET", "userTrades", symbol="BTC-270326-90000-C")
        assert (trade["o"]["n"], trade["o"]["t"]) == (row["fee"], row["tradeId"])
        assert Decimal(trade["o"]["n"]) < 0
        assert account["e"] == "BALANCE_POSITION_UPDATE"
        (position,) = account["P"]
        assert (position["s"], position["c"], position["a"]) == ("BTC-270326-90000-C", "0.50", "4000")
