"""Who may call and how often: keys, signatures, time windows, weights, order counters."""

import base64
import hashlib
import hmac
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from astra.sandbox import Account, HttpRequest
from astra_binance.sandbox import SandboxLimits
from astra_binance.sandbox.keys import check_signature, check_ws_signature
from astra_binance.sandbox.wire import Family, Refusal

ORDER = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.1&price=50000"


def code_of(answer: Any) -> tuple[int, int]:
    return answer.status, json.loads(answer.body)["code"]


def pem_of(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


class TestKeys:
    def test_a_call_without_a_key(self, venue: Any) -> None:
        assert code_of(venue.ask("spot_rest", "GET", "account", "timestamp=1&signature=x")) == (401, -2014)

    def test_an_unknown_key(self, venue: Any, capture: Any) -> None:
        answer = venue.ask("spot_rest", "GET", "account", "timestamp=1&signature=x", key="nobody")
        assert answer.status == 401
        assert json.loads(answer.body) == capture("error-bad-key")

    def test_a_key_that_may_not_use_the_family(self, venue: Any) -> None:
        venue.account.settings["permissions"] = ["spot"]
        assert venue.signed("spot_rest", "GET", "account").status == 200
        assert code_of(venue.signed("usdm_rest", "GET", "/fapi/v3/balance")) == (401, -2015)

    def test_a_listen_key_needs_the_key_alone(self, venue: Any) -> None:
        assert venue.ask("usdm_rest", "POST", "listenKey", key=venue.account.key).status == 200
        assert code_of(venue.ask("usdm_rest", "POST", "listenKey")) == (401, -2014)


class TestSignatures:
    def vectors(self, name: str) -> dict[str, Any]:
        file = Path(__file__).resolve().parents[4] / "shared" / "captures" / "binance" / "signing.json"
        if not file.exists():
            pytest.skip("the captures are not here")
        found: dict[str, Any] = next(v for v in json.loads(file.read_text())["vectors"] if v["name"] == name)
        return found

    @pytest.mark.parametrize("name", ["rest-hmac-ascii", "rest-hmac-non-ascii", "usdm-rest-hmac"])
    def test_the_recorded_hmac_vectors_verify(self, name: str) -> None:
        vector = self.vectors(name)
        account = Account("a", vector["api_key"], vector["secret"])
        check_signature(account, vector["string_to_sign"].encode(), vector["signature"])
        with pytest.raises(Refusal, match="Signature"):
            check_signature(account, vector["string_to_sign"].encode() + b"0", vector["signature"])

    def test_the_recorded_websocket_vector_verifies(self) -> None:
        vector = self.vectors("ws-hmac-order-place")
        account = Account("a", vector["api_key"], vector["secret"])
        params = dict(vector["params"]) | {"signature": vector["signature"]}
        check_ws_signature(account, params)
        with pytest.raises(Refusal):
            check_ws_signature(account, params | {"price": "52000.01"})

    def test_the_recorded_ed25519_vector_verifies(self) -> None:
        vector = self.vectors("rest-ed25519")
        private = load_pem_private_key(vector["secret"].encode(), None)
        account = Account("a", vector["api_key"], "", settings={"public_key": pem_of(private)})
        check_signature(account, vector["string_to_sign"].encode(), vector["signature"])
        with pytest.raises(Refusal):
            check_signature(account, b"other", vector["signature"])

    @pytest.mark.parametrize("kind", ["rsa", "ed25519"])
    def test_public_keys_verify_signatures_in_base64_percent_encoded(self, venue: Any, kind: str) -> None:
        message = f"timestamp={venue.clock.ms}".encode()
        if kind == "rsa":
            rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            raw = rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            venue.account.settings["public_key"] = pem_of(rsa_key)
        else:
            ed_key = ed25519.Ed25519PrivateKey.generate()
            raw = ed_key.sign(message)
            venue.account.settings["public_key"] = pem_of(ed_key)
        signature = quote(base64.b64encode(raw).decode(), safe="")
        query = f"{message.decode()}&signature={signature}"
        assert venue.ask("spot_rest", "GET", "account", query, key=venue.account.key).status == 200
        # The HMAC of the account's secret is of no use once a public key is registered.
        assert code_of(venue.signed("spot_rest", "GET", "account")) == (400, -1022)

    def test_query_and_body_are_signed_as_one_text(self, venue: Any) -> None:
        query, body = ORDER, f"timestamp={venue.clock.ms}"
        signature = hmac.new(venue.account.secret.encode(), (query + body).encode(), hashlib.sha256).hexdigest()
        key = venue.account.key
        answer = venue.ask("spot_rest", "POST", "order", query, f"{body}&signature={signature}", key=key)
        assert answer.status == 200
        with_ampersand = hmac.new(venue.account.secret.encode(), f"{query}&{body}".encode(), hashlib.sha256).hexdigest()
        answer = venue.ask("spot_rest", "POST", "order", query, f"{body}&signature={with_ampersand}", key=key)
        assert code_of(answer) == (400, -1022)

    def test_the_signature_covers_the_bytes_that_were_sent(self, venue: Any) -> None:
        raw = f"symbol=币安人生USDT&timestamp={venue.clock.ms}"
        encoded = f"symbol={quote('币安人生USDT')}&timestamp={venue.clock.ms}"
        key, secret = venue.account.key, venue.account.secret.encode()
        wrong = hmac.new(secret, raw.encode(), hashlib.sha256).hexdigest()
        right = hmac.new(secret, encoded.encode(), hashlib.sha256).hexdigest()
        assert code_of(venue.ask("spot_rest", "GET", "openOrders", f"{encoded}&signature={wrong}", key=key)) == (
            400,
            -1022,
        )
        assert venue.ask("spot_rest", "GET", "openOrders", f"{encoded}&signature={right}", key=key).status == 200

    def test_a_wrong_signature_changes_nothing(self, venue: Any, capture: Any) -> None:
        query = f"{ORDER}&timestamp={venue.clock.ms}&signature={'0' * 64}"
        answer = venue.ask("spot_rest", "POST", "order", body=query, key=venue.account.key)
        assert answer.status == 400
        assert json.loads(answer.body) == capture("error-bad-signature")
        assert not venue.engine.orders(venue.account)

    def test_the_signature_comes_last(self, venue: Any) -> None:
        stamp = f"timestamp={venue.clock.ms}"
        signature = hmac.new(venue.account.secret.encode(), stamp.encode(), hashlib.sha256).hexdigest()
        answer = venue.ask("spot_rest", "GET", "account", f"signature={signature}&{stamp}", key=venue.account.key)
        assert code_of(answer) == (400, -1022)

    @pytest.mark.parametrize("missing", ["timestamp", "signature"])
    def test_timestamp_and_signature_are_mandatory(self, venue: Any, missing: str) -> None:
        query = {"timestamp": "signature=x", "signature": f"timestamp={venue.clock.ms}"}[missing]
        answer = venue.ask("spot_rest", "GET", "account", query, key=venue.account.key)
        assert code_of(answer) == (400, -1102)
        assert missing in json.loads(answer.body)["msg"]


class TestTime:
    @pytest.mark.parametrize(
        ("offset", "window", "accepted"),
        [
            (0, None, True),
            (999, None, True),
            (1000, None, False),
            (-5000, None, True),
            (-5001, None, False),
            (-5001, 6000, True),
            (-60000, 60000, True),
            (-150, "150.5", True),
            (-151, "150.5", False),
        ],
    )
    def test_the_window_around_the_venues_clock(self, venue: Any, offset: int, window: Any, accepted: bool) -> None:
        params = {} if window is None else {"recvWindow": window}
        answer = venue.signed("spot_rest", "GET", "account", timestamp=venue.clock.ms + offset, **params)
        assert code_of(answer) == (400, -1021) if not accepted else answer.status == 200

    def test_a_window_of_more_than_a_minute(self, venue: Any) -> None:
        assert venue.refused("spot_rest", "GET", "account", recvWindow=60001) == -1131

    def test_spot_reads_microseconds_and_futures_do_not(self, venue: Any) -> None:
        micros = venue.clock.ms * 1000
        assert venue.signed("spot_rest", "GET", "account", timestamp=micros).status == 200
        assert venue.refused("usdm_rest", "GET", "/fapi/v3/balance", timestamp=micros) == -1021


class TestWeights:
    def test_every_answer_says_what_the_address_has_used(self, venue: Any) -> None:
        for used in (25, 50):
            answer = venue.ask("spot_rest", "GET", "depth", "symbol=BTCUSDT&limit=500")
            assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(used)
        assert venue.ask("spot_rest", "GET", "depth", "symbol=NOPE").headers["X-MBX-USED-WEIGHT-1M"] == "55"
        venue.clock.ms += 60_000
        assert venue.ask("spot_rest", "GET", "ping").headers["X-MBX-USED-WEIGHT-1M"] == "1"

    @pytest.mark.parametrize(("limit", "weight"), [(5, 5), (101, 25), (1000, 50), (1001, 250), (5000, 250)])
    def test_deep_snapshots_cost_more(self, venue: Any, limit: int, weight: int) -> None:
        answer = venue.ask("spot_rest", "GET", "depth", f"symbol=BTCUSDT&limit={limit}")
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)

    def test_usdm_and_coinm_share_a_counter_and_the_others_have_their_own(self, venue: Any) -> None:
        venue.ask("usdm_rest", "GET", "depth", "symbol=BTCUSDT&limit=1000")
        assert venue.ask("coinm_rest", "GET", "ping").headers["X-MBX-USED-WEIGHT-1M"] == "21"
        assert venue.ask("options_rest", "GET", "ping").headers["X-MBX-USED-WEIGHT-1M"] == "1"
        assert venue.ask("spot_rest", "GET", "ping").headers["X-MBX-USED-WEIGHT-1M"] == "1"

    def test_too_much_is_429_until_the_minute_ends(self, make_venue: Any, capture: Any) -> None:
        limits = SandboxLimits()
        limits.weight_per_minute[Family.SPOT] = 60
        venue = make_venue(limits)
        venue.clock.ms += 47_000
        assert venue.ask("spot_rest", "GET", "depth", "symbol=BTCUSDT&limit=1000").status == 200
        answer = venue.ask("spot_rest", "GET", "trades", "symbol=BTCUSDT")
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "13"
        body = json.loads(answer.body)
        assert body["msg"].replace("60 request", "6000 request") == capture("error-too-many-requests")["msg"]
        assert body["code"] == -1003
        venue.clock.ms += 13_000
        assert venue.ask("spot_rest", "GET", "trades", "symbol=BTCUSDT").status == 200

    def test_who_goes_on_is_banned(self, make_venue: Any) -> None:
        limits = SandboxLimits(patience=2, ban_ms=120_000)
        limits.weight_per_minute[Family.SPOT] = 1
        venue = make_venue(limits)
        statuses = [venue.ask("spot_rest", "GET", "ping").status for _ in range(5)]
        assert statuses == [200, 429, 429, 429, 418]
        answer = venue.ask("spot_rest", "GET", "ping")
        assert (answer.status, answer.headers["Retry-After"]) == (418, "120")
        assert str(venue.clock.ms + 120_000) in json.loads(answer.body)["msg"]
        venue.clock.ms += 119_999
        assert venue.ask("spot_rest", "GET", "ping").status == 418
        venue.clock.ms += 1
        assert venue.ask("spot_rest", "GET", "ping").status == 200

    def test_a_spot_order_that_succeeds_costs_nothing(self, venue: Any) -> None:
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.1"}
        assert venue.signed("spot_rest", "POST", "order", price="50000", **order).headers["X-MBX-USED-WEIGHT-1M"] == "0"
        refused = venue.signed("spot_rest", "POST", "order", price="50000.001", **order)
        assert (refused.status, refused.headers["X-MBX-USED-WEIGHT-1M"]) == (400, "1")


LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.1", "price": "50000"}


class TestOrderCounters:
    def test_orders_are_counted_by_account(self, venue: Any) -> None:
        answer = venue.signed("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert (answer.headers["X-MBX-ORDER-COUNT-10S"], answer.headers["X-MBX-ORDER-COUNT-1D"]) == ("1", "1")
        venue.clock.ms += 10_000
        answer = venue.signed("spot_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        assert (answer.headers["X-MBX-ORDER-COUNT-10S"], answer.headers["X-MBX-ORDER-COUNT-1D"]) == ("1", "2")
        other = venue.open_account("other")
        answer = venue.signed("spot_rest", "POST", "order", other, symbol="BTCUSDT", **LIMIT)
        assert answer.headers["X-MBX-ORDER-COUNT-1D"] == "1"

    def test_usdm_and_coinm_share_the_order_counters(self, venue: Any) -> None:
        venue.signed("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT)
        coin = {**LIMIT, "quantity": "1"}
        answer = venue.signed("coinm_rest", "POST", "order", symbol="BTCUSD_PERP", **coin)
        assert (answer.headers["X-MBX-ORDER-COUNT-10S"], answer.headers["X-MBX-ORDER-COUNT-1M"]) == ("2", "2")

    def test_too_many_orders(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(futures_orders_per_10s=2))
        statuses = [venue.signed("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert venue.refused("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT) == -1015
        venue.clock.ms += 10_000
        assert venue.signed("usdm_rest", "POST", "order", symbol="BTCUSDT", **LIMIT).status == 200


class TestFaultAnswers:
    def request(self, host: str, method: str, path: str) -> HttpRequest:
        return HttpRequest(host, method, path, {}, b"")

    @pytest.mark.parametrize(
        ("host", "method", "path", "mutates"),
        [
            ("spot_rest", "POST", "/api/v3/order", True),
            ("spot_rest", "DELETE", "/api/v3/openOrders", True),
            ("spot_rest", "PUT", "/api/v3/order/amend/keepPriority", True),
            ("spot_rest", "POST", "/api/v3/order/test", False),
            ("spot_rest", "GET", "/api/v3/order", False),
            ("usdm_rest", "PUT", "/fapi/v1/order", True),
            ("usdm_rest", "POST", "/fapi/v1/algoOrder", True),
            ("usdm_rest", "POST", "/fapi/v1/listenKey", False),
            ("usdm_rest", "PUT", "/fapi/v1/listenKey", False),
            ("usdm_rest", "POST", "/fapi/v1/leverage", False),
            ("coinm_rest", "DELETE", "/dapi/v1/allOpenOrders", True),
            ("options_rest", "POST", "/eapi/v1/order", True),
        ],
    )
    def test_only_orders_count_as_mutating(self, venue: Any, host: str, method: str, path: str, mutates: bool) -> None:
        assert venue.sandbox.mutating(self.request(host, method, path)) is mutates

    def test_injected_answers_are_the_venues(self, venue: Any) -> None:
        request = self.request("usdm_rest", "GET", "/fapi/v1/depth")
        limited = venue.sandbox.too_many_requests(request, 7)
        assert (limited.status, limited.headers["Retry-After"], json.loads(limited.body)["code"]) == (429, "7", -1003)
        failed = venue.sandbox.server_error(request)
        assert failed.status == 503
        assert json.loads(failed.body)["msg"] == "Unknown error, please check your request or try again later."


def test_funds_are_what_the_engine_says(venue: Any) -> None:
    held = {row["asset"]: Decimal(row["free"]) for row in venue.call("spot_rest", "GET", "account")["balances"]}
    assert held == {b.asset: b.available for b in venue.engine.balances(venue.account) if b.wallet == "spot"}
