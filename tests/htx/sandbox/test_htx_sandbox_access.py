"""Who is let in: signatures with the published vectors, stamps, logins; limits, unknown things, and their bodies."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from astra.sandbox import HttpRequest
from astra_htx.sandbox import Counter, SandboxLimits

ACCOUNTS = "/v1/account/accounts"
VECTOR_MS = 1_574_330_400_000  # 2019-11-21T10:00:00
VECTOR = "rWnLcMt3XBAsmXoNHtTQVpvMbH%2FcE1PXFwQAGeYwt3s%3D"
VECTOR_QUERY = (
    "AccessKeyId=access&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=2019-11-21T10%3A00%3A00&Signature="
)


@pytest.fixture
def old_venue(venue: Any) -> Any:
    """The account and the moment of the published vectors."""
    venue.clock.ms = VECTOR_MS
    venue.engine.open_account("vector", "access", "secret", balances={})
    return venue


class TestSignatures:
    def test_the_published_rest_vector_is_accepted(self, old_venue: Any) -> None:
        answer = old_venue.ask("spot_rest", "GET", ACCOUNTS, VECTOR_QUERY + VECTOR, called="api.huobi.pro")
        assert json.loads(answer.body)["status"] == "ok"

    def test_the_published_socket_vectors_are_accepted(self, old_venue: Any, captured_frames: Any) -> None:
        captured_frames("spot-private-v2")  # skips where there are none
        login = {
            "authType": "api",
            "accessKey": "access",
            "signatureMethod": "HmacSHA256",
            "signatureVersion": "2.1",
            "timestamp": "2019-11-21T10:00:00",
            "signature": "1/d+cUIEh4tC0aXho86zu5QAxVzJaTe56mUiB275T0E=",
        }
        client = old_venue.connect("spot_stream", "/ws/v2")
        assert client.send({"action": "req", "ch": "auth", "params": login}) == [
            {"action": "req", "code": 200, "ch": "auth", "data": {}}
        ]
        for path, signature in (
            ("/ws/v5/notification", "xtovhWPg3nsm093235+/iXAHNVFq9P/4gzQC2Kc71ZI="),
            ("/notification", "/h4EyqAA41vRXq8yKiYhG2oNEEGLDbbwMUh5V6AFXL4="),
        ):
            frame = {
                "op": "auth",
                "type": "api",
                "AccessKeyId": "access",
                "SignatureMethod": "HmacSHA256",
                "SignatureVersion": "2",
                "Timestamp": "2019-11-21T10:00:00",
                "Signature": signature,
            }
            (answer,) = old_venue.connect("derivatives_stream", path).send(frame)
            assert (answer["op"], answer["err-code"], set(answer["data"])) == ("auth", 0, {"user-id"})

    def test_the_host_that_is_called_may_be_signed_without_its_port(self, venue: Any) -> None:
        def status(host: str) -> str:
            answer = venue.signed("spot_rest", "GET", ACCOUNTS, signed_host=host)
            return str(json.loads(answer.body)["status"])

        assert (status("127.0.0.1"), status("api.huobi.pro")) == ("ok", "ok")
        assert (status("127.0.0.1:4711"), status("api.hbdm.com")) == ("error", "error")

    def test_business_parameters_of_a_get_are_signed(self, venue: Any) -> None:
        answer = venue.signed("spot_rest", "GET", "/v1/order/openOrders", {"symbol": "btcusdt"})
        assert json.loads(answer.body)["status"] == "ok"
        query = VECTOR_QUERY + VECTOR
        answer = venue.ask("spot_rest", "GET", "/v1/order/openOrders", query + "&symbol=btcusdt")
        assert json.loads(answer.body)["err-code"] == "api-signature-not-valid"

    def test_the_order_on_the_wire_does_not_matter(self, old_venue: Any) -> None:
        shuffled = "&".join(reversed((VECTOR_QUERY + VECTOR).split("&")))
        assert json.loads(old_venue.ask("spot_rest", "GET", ACCOUNTS, shuffled).body)["status"] == "ok"

    def test_commas_are_percent_encoded(self, venue: Any) -> None:
        sent = {"symbol": "btcusdt", "states": "filled,canceled"}
        assert venue.spot("GET", "/v1/order/orders", sent) == {"status": "ok", "data": []}

    def test_ed25519_keys_sign_the_same_text(self, venue: Any) -> None:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        venue.account.settings["public_key"] = base64.b64encode(public).decode()
        query = f"AccessKeyId=default-key&SignatureMethod=Ed25519&SignatureVersion=2&Timestamp={venue.stamp}"
        query = query.replace(":", "%3A")
        signature = base64.b64encode(key.sign(f"GET\napi.huobi.pro\n{ACCOUNTS}\n{query}".encode())).decode()
        encoded = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        answer = venue.ask("spot_rest", "GET", ACCOUNTS, f"{query}&Signature={encoded}")
        assert json.loads(answer.body)["status"] == "ok"

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"AccessKeyId": "nobody"}, "Incorrect Access key"),
            ({"secret": "guess"}, "Verification failure"),
            ({"Timestamp": "2019-11-21T10:00:00"}, "Invalid submission time"),
            ({"Timestamp": "2026-11-21T12:00:00Z"}, "incorrect time format"),
            ({"SignatureVersion": "1"}, "signature version"),
        ],
    )
    def test_what_does_not_hold_is_refused_in_each_familys_shape(
        self, venue: Any, capture: Any, unlike: Any, change: Any, text: str
    ) -> None:
        spot = venue.signed("spot_rest", "GET", ACCOUNTS, **change)
        body = json.loads(spot.body)
        assert spot.status == 200
        assert unlike(body, capture("error-spot-api-signature-not-valid-1")) == []
        assert text in body["err-msg"]
        old = json.loads(venue.signed("derivatives_rest", "POST", "/swap-api/v1/swap_account_info", **change).body)
        assert unlike(old, capture("error-derivatives-403")) == []
        assert (old["err_code"], text in old["err_msg"]) == (403, True)
        new = json.loads(venue.signed("derivatives_rest", "GET", "/v5/account/balance", **change).body)
        assert (new["code"], text in new["message"], new["data"]) == (403, True, None)

    def test_stamps_hold_five_minutes(self, venue: Any) -> None:
        stamp = venue.stamp
        for later, status in ((299_000, "ok"), (2_000, "error")):
            venue.clock.ms += later
            answer = venue.signed("spot_rest", "GET", ACCOUNTS, Timestamp=stamp)
            assert json.loads(answer.body)["status"] == status


class TestLogins:
    def test_refused_logins(self, venue: Any) -> None:
        _, spot = venue.log_in_spot(timestamp="2019-11-21T10:00:00")
        assert spot == {"action": "req", "code": 2002, "ch": "auth", "message": "auth.fail"}
        _, contracts = venue.log_in_contracts(Timestamp="2019-11-21T10:00:00")
        assert (contracts["op"], contracts["err-code"]) == ("auth", 2003)
        assert "data" not in contracts

    def test_nothing_is_told_without_a_login(self, venue: Any, captured_frames: Any, unlike: Any) -> None:
        (refused,) = venue.connect("spot_stream", "/ws/v2").send({"action": "sub", "ch": "accounts.update#2"})
        assert refused == captured_frames("ws-errors")[0]
        client = venue.connect("derivatives_stream", "/ws/v5/notification")
        (refused,) = client.send({"op": "sub", "cid": "1", "topic": "account"})
        assert (refused["err-code"], refused["cid"]) == (2002, "1")

    def test_connections_of_a_key_are_limited(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(private_connections={True: 2, False: 1}))
        assert [venue.log_in_spot()[1]["code"] for _ in range(3)] == [200, 200, 4000]
        first, answer = venue.log_in_contracts()
        assert (answer["err-code"], venue.log_in_contracts()[1]["err-code"]) == (0, 2030)
        first.session.closed()
        assert venue.log_in_contracts()[1]["err-code"] == 0

    def test_private_sockets_ping_in_their_own_words(self, venue: Any) -> None:
        spot, _ = venue.log_in_spot()
        (ping,) = spot.after(20_000)
        assert ping == {"action": "ping", "data": {"ts": venue.clock.ms}}
        assert isinstance(spot.line.raw[0], str)
        spot.send({"action": "pong", "data": ping["data"]})
        contracts, _ = venue.log_in_contracts()
        pings = contracts.after(5000)
        assert pings == [{"op": "ping", "ts": str(venue.clock.ms)}]
        assert contracts.line.raw[0][:2] == b"\x1f\x8b"

    def test_a_dead_private_client_is_told_and_dropped(self, venue: Any) -> None:
        client, _ = venue.log_in_contracts()
        for ping in client.after(25_000):
            client.send({"op": "pong", "ts": int(ping["ts"])})  # a number is not what was sent
        *_, last = client.after(5000)
        assert last["op"] == "close"
        assert client.line.closed == 1000


class TestLimits:
    def test_spot_counts_each_endpoint(self, make_venue: Any, capture: Any) -> None:
        limits = SandboxLimits()
        limits.requests[Counter.SPOT_FAST] = (2, 2000)
        venue = make_venue(limits)
        answers = [venue.signed("spot_rest", "GET", ACCOUNTS) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [answer.headers["X-HB-RateLimit-Requests-Remain"] for answer in answers] == ["1", "0", "0"]
        assert int(answers[2].headers["X-HB-RateLimit-Requests-Expire"]) > venue.clock.ms
        assert json.loads(answers[2].body) == capture("error-spot-rate-too-many-requests")
        place = venue.signed("spot_rest", "POST", "/v1/order/orders/place", {})
        assert json.loads(place.body)["err-code"] != "rate-too-many-requests"
        venue.clock.ms += 2000
        assert venue.signed("spot_rest", "GET", ACCOUNTS).status == 200

    def test_derivatives_count_trading_and_reading_apart(self, make_venue: Any) -> None:
        limits = SandboxLimits()
        limits.requests[Counter.V5_READ] = (1, 3000)
        venue = make_venue(limits)
        first = venue.signed("derivatives_rest", "GET", "/v5/account/balance")
        assert {name: first.headers[name] for name in ("ratelimit-limit", "ratelimit-remaining")} == {
            "ratelimit-limit": "1",
            "ratelimit-remaining": "0",
        }
        assert venue.contracts("GET", "/v5/position/mode")["code"] == 1032
        assert venue.place_linear("buy", "1", "50000")["code"] == 200

    @pytest.mark.parametrize(("host", "path"), [("spot_rest", ACCOUNTS), ("derivatives_rest", "/v5/account/balance")])
    def test_injected_refusals_have_the_venues_shape(self, venue: Any, host: str, path: str) -> None:
        answer = venue.sandbox.too_many_requests(HttpRequest(host, "GET", path, {}, b""), 2)
        assert answer.status == 429
        name = "X-HB-RateLimit-Requests-Expire" if host == "spot_rest" else "ratelimit-reset"
        assert int(answer.headers[name]) == venue.clock.ms + 2000
        assert json.loads(answer.body).get("err-code", 1032) in ("rate-too-many-requests", 1032)
        assert venue.sandbox.server_error(HttpRequest(host, "GET", path, {}, b"")).status == 502


class TestUnknowns:
    def test_a_misspelt_parameter_shows(self, venue: Any) -> None:
        spot = venue.place_spot("buy-limit", "1", "1", **{"clientorderid": "x"})
        assert (spot["err-code"], "client-order-id" in spot["err-msg"]) == ("invalid-parameter", True)
        linear = venue.place_linear("buy", "1", "1", reduceonly=1)
        assert (linear["code"], "reduce_only" in linear["message"]) == (1067, True)
        coin = venue.place_coin("buy", "open", 1, 1, leverrate=3)
        assert (coin["err_code"], coin["status"]) == (1067, "error")

    def test_unknown_markets(self, venue: Any, capture: Any) -> None:
        spot = venue.get("spot_rest", "/market/depth", symbol="nousdt", type="step0")
        assert spot | {"ts": 0} == capture("error-spot-invalid-parameter") | {"ts": 0}
        contract = venue.get("derivatives_rest", "/swap-ex/market/depth", contract_code="NO-USD", type="step0")
        assert contract | {"ts": 0} == capture("error-derivatives-1013") | {"ts": 0}
        assert venue.place_spot("buy-limit", "1", "1", symbol="nousdt") == capture("error-spot-base-symbol-error")
        assert venue.place_linear("buy", "1", "1", contract_code="NO-USDT")["code"] == 1332

    def test_unknown_paths(self, venue: Any) -> None:
        assert venue.ask("spot_rest", "GET", "/v9/nothing").status == 404
        assert venue.signed("derivatives_rest", "POST", "/linear-swap-api/v1/swap_cross_order").status == 404

    def test_what_changes_orders_is_known_as_such(self, venue: Any) -> None:
        def mutating(method: str, path: str, host: str = "spot_rest") -> bool:
            return bool(venue.sandbox.mutating(HttpRequest(host, method, path, {}, b"")))

        assert mutating("GET", "/v1/order/cancelAllOrders")
        assert mutating("POST", "/v1/order/orders/17/submitcancel")
        assert not mutating("GET", "/v1/order/orders/17")
        assert not mutating("POST", "/swap-api/v1/swap_openorders", "derivatives_rest")
        assert mutating("POST", "/swap-api/v1/swap_order", "derivatives_rest")


class TestListings:
    @pytest.mark.parametrize(
        ("host", "path", "params", "recorded"),
        [
            ("spot_rest", "/v1/common/symbols", {}, "spot-common-symbols"),
            ("spot_rest", "/v1/settings/common/market-symbols", {}, "spot-market-symbols"),
            ("spot_rest", "/v2/settings/common/symbols", {}, "spot-settings-symbols-v2"),
            ("spot_rest", "/v2/market-status", {}, "spot-market-status"),
            ("spot_rest", "/v1/common/timestamp", {}, "spot-common-timestamp"),
            ("spot_rest", "/market/detail/merged", {"symbol": "btcusdt"}, "spot-ticker-merged"),
            ("spot_rest", "/market/depth", {"symbol": "btcusdt", "type": "step0"}, "spot-market-depth"),
            ("derivatives_rest", "/api/v1/timestamp", {}, "derivatives-timestamp"),
            ("derivatives_rest", "/heartbeat/", {}, "derivatives-heartbeat"),
            ("derivatives_rest", "/linear-swap-api/v1/swap_contract_info", {}, "perp-linear-contract-info"),
            ("derivatives_rest", "/linear-swap-api/v1/swap_query_elements", {}, "linear-query-elements"),
            ("derivatives_rest", "/swap-api/v1/swap_contract_info", {}, "perp-coinm-contract-info"),
            ("derivatives_rest", "/api/v1/contract_contract_info", {}, "fut-coinm-contract-info"),
            ("derivatives_rest", "/v5/market/funding_rate", {"contract_code": "BTC-USDT"}, "linear-v5-funding-rate"),
            ("derivatives_rest", "/v5/market/open_interest", {"contract_code": "BTC-USDT"}, "linear-v5-open-interest"),
            ("derivatives_rest", "/linear-swap-api/v1/swap_open_interest", {}, "perp-linear-open-interest"),
            ("derivatives_rest", "/swap-api/v1/swap_open_interest", {}, "perp-coinm-open-interest"),
            ("derivatives_rest", "/api/v1/contract_open_interest", {}, "fut-coinm-open-interest"),
            ("derivatives_rest", "/v2/linear-swap-ex/market/detail/batch_merged", {}, "derivatives-batch-merged"),
            (
                "derivatives_rest",
                "/swap-api/v1/swap_funding_rate",
                {"contract_code": "BTC-USD"},
                "coinm-perp-funding-rate",
            ),
            (
                "derivatives_rest",
                "/linear-swap-ex/market/depth",
                {"contract_code": "BTC-USDT", "type": "step0"},
                "perp-linear-market-depth",
            ),
            ("derivatives_rest", "/market/depth", {"symbol": "BTC_CQ", "type": "step0"}, "fut-coinm-market-depth"),
        ],
    )
    def test_answers_have_the_recorded_shape(
        self, venue: Any, capture: Any, unlike: Any, host: str, path: str, params: Any, recorded: str
    ) -> None:
        for symbol in ("HUOBI-SPOT-BTC-USDT", "HUOBI-PERP-BTC-USDT", "HUOBI-FUT-BTC-USD-270326-COINM"):
            venue.crowd(symbol, "BUY", "1", "89000")
            venue.crowd(symbol, "SELL", "1", "90000")
        ours, theirs = venue.get(host, path, **params), capture(recorded)
        # Leveraged tokens have keys that other rows have not: compare with all rows' keys together.
        if isinstance(theirs.get("data"), list):
            theirs["data"] = [{key: value for row in theirs["data"] for key, value in row.items()}]
        found = [text for text in unlike(ours, theirs) if not text.endswith("underlying: not a key of the venue")]
        assert found == []

    def test_dated_contracts_must_be_asked_for(self, venue: Any) -> None:
        path = "/linear-swap-api/v1/swap_contract_info"
        usual = venue.get("derivatives_rest", path)["data"]
        every = venue.get("derivatives_rest", path, business_type="all")["data"]
        assert {row["business_type"] for row in usual} == {"swap"}
        assert {row["contract_code"] for row in every} - {row["contract_code"] for row in usual} == {
            "BTC-USDT-270326",
            "ETH-USDT-270326",
        }
        dated = next(row for row in every if row["contract_code"] == "BTC-USDT-270326")
        assert (dated["delivery_date"], dated["delivery_time"]) == ("20270326", "1806048000000")
        assert dated["support_margin_mode"] == "cross"

    def test_a_minimum_may_be_below_a_lot(self, venue: Any) -> None:
        rows = venue.get("spot_rest", "/v1/common/symbols")["data"]
        row = next(row for row in rows if row["symbol"] == "powreth")
        assert (float(row["min-order-amt"]), row["amount-precision"]) == (0.1, 0)
        assert {row["state"] for row in rows} == {"online", "suspend"}
