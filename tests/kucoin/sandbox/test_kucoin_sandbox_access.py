"""Who may call: keys, signatures, passphrases, time, permissions, kinds of account."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from astra.sandbox import Account, HttpRequest
from astra_kucoin.sandbox import SandboxLimits
from astra_kucoin.sandbox.keys import check_passphrase, check_time, login_account, rest_account, signature
from astra_kucoin.sandbox.wire import Refusal

FILLS = "/api/v1/hf/fills?symbol=BTC-USDT"


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["code"]


class Keyring:
    """An engine that knows one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def account_of(self, key: str) -> Account | None:
        return self._account if key == self._account.key else None


def verify(vector: dict[str, Any], target: str) -> Account:
    account = Account("a", vector["api_key"], vector["secret"], vector["passphrase"])
    headers = {name.lower(): value for name, value in vector["expected"].items()}
    request = HttpRequest("spot_rest", vector["method"], target, headers, vector["body"].encode())
    return rest_account(Keyring(account), request, int(vector["timestamp"]), SandboxLimits())  # type: ignore[arg-type]


class TestSignatures:
    @pytest.mark.parametrize(
        "name",
        ["GET with query", "spot HF limit order", "spot open orders", "futures DELETE by client id, query in target"],
    )
    def test_the_vectors_verify(self, vectors: Any, name: str) -> None:
        assert verify(vectors[name], vectors[name]["request_target"]).name == "a"
        with pytest.raises(Refusal, match="KC-API-SIGN"):
            verify(vectors[name], vectors[name]["request_target"] + "0")

    def test_the_query_is_signed_unescaped_and_sent_escaped(self, vectors: Any) -> None:
        vector = vectors["comma in a query value"]
        assert "," in vector["request_target"]
        assert verify(vector, vector["request_target"].replace(",", "%2C")).name == "a"
        assert verify(vector, vector["request_target"]).name == "a"

    def test_the_official_vector(self, vectors: Any) -> None:
        vector = vectors["official POST deposit address"]
        assert signature(vector["secret"], vector["string_to_sign"].encode()) == vector["expected"]["KC-API-SIGN"]

    def test_the_login_of_the_private_socket(self, vectors: Any) -> None:
        vector = vectors["UTA private push auth frame"]
        account = Account("a", vector["api_key"], vector["secret"], vector["passphrase"])
        frame = {"kc-api-key": account.key, "kc-api-timestamp": vector["timestamp"], **vector["expected"]}
        keyring, now_ms = Keyring(account), int(vector["timestamp"])
        assert login_account(keyring, frame, now_ms, SandboxLimits()) is account  # type: ignore[arg-type]
        with pytest.raises(Refusal, match="KC-API-SIGN"):
            login_account(keyring, frame | {"kc-api-sign": "x"}, now_ms, SandboxLimits())  # type: ignore[arg-type]

    def test_versions_2_and_3_are_accepted_and_a_clear_passphrase_is_not(self) -> None:
        account = Account("a", "k", "secret", "passphrase")
        signed = signature("secret", b"passphrase")
        check_passphrase(account, signed, "2")
        check_passphrase(account, signed, "3")
        for given, version in (("passphrase", "1"), (signed, "1"), ("passphrase", "3")):
            with pytest.raises(Refusal, match="PASSPHRASE"):
                check_passphrase(account, given, version)

    def test_the_clock_may_be_five_seconds_off(self) -> None:
        for now_ms in (95_000, 105_000):
            check_time("100000", now_ms, SandboxLimits())
        for text, now_ms in (("100000", 105_001), ("100000", 94_999), ("soon", 100_000)):
            with pytest.raises(Refusal) as refused:
                check_time(text, now_ms, SandboxLimits())
            assert refused.value.code == "400002"


class TestAccess:
    def test_missing_headers(self, venue: Any, capture: Any) -> None:
        answer = venue.ask("futures_rest", "GET", "/api/v1/positions")
        assert (answer.status, json.loads(answer.body)) == (400, capture("error-futures-missing-auth-headers"))

    @pytest.mark.parametrize(
        ("header", "value", "expected"),
        [
            ("kc-api-key", "nobody", (401, "400003")),
            ("kc-api-passphrase", "wrong", (401, "400004")),
            ("kc-api-sign", "wrong", (401, "400005")),
            ("kc-api-timestamp", "1", (400, "400002")),
            ("kc-api-key-version", "1", (401, "400004")),
        ],
    )
    def test_wrong_headers_have_their_codes(self, venue: Any, header: str, value: str, expected: Any) -> None:
        headers = venue.headers("GET", FILLS)
        assert venue.ask("spot_rest", "GET", FILLS, b"", headers).status == 200
        assert code_of(venue.ask("spot_rest", "GET", FILLS, b"", headers | {header: value})) == expected

    def test_a_tampered_body_or_path_does_not_verify(self, venue: Any) -> None:
        body = b'{"symbol":"BTC-USDT"}'
        headers = venue.headers("POST", "/api/v1/hf/orders", body)
        answer = venue.ask("spot_rest", "POST", "/api/v1/hf/orders", body + b" ", headers)
        assert code_of(answer) == (401, "400005")

    def test_a_key_without_the_permission(self, venue: Any) -> None:
        venue.account.settings["permissions"] = ["General", "Spot"]
        assert venue.signed("spot_rest", "GET", "/api/v1/accounts").status == 200
        assert code_of(venue.signed("futures_rest", "GET", "/api/v1/positions")) == (403, "400007")

    def test_a_key_can_ask_what_it_may_do(self, venue: Any) -> None:
        venue.account.settings["permissions"] = ["General", "Spot"]
        assert venue.call("spot_rest", "GET", "/api/v1/user/api-key")["permission"] == "General,Spot"

    def test_each_kind_of_account_has_its_api(self, venue: Any, unified: Any) -> None:
        path = "/api/ua/v2/unified/account/balance"
        assert venue.refused("spot_rest", "GET", path) == "112010"
        assert unified.signed("spot_rest", "GET", path).status == 200
        assert unified.refused("spot_rest", "GET", "/api/v1/accounts") == "400007"
        for one, mode in ((venue, "CLASSIC"), (unified, "UNIFIED")):
            assert one.call("spot_rest", "GET", "/api/ua/v1/account/mode")["selfAccountMode"] == mode

    def test_unknown_paths_and_parameters(self, venue: Any) -> None:
        assert code_of(venue.ask("spot_rest", "GET", "/api/v1/nothing")) == (404, "404")
        answer = venue.ask("spot_rest", "GET", "/api/v1/market/orderbook/level2_20?symbol=BTC-USDT&limt=3")
        assert json.loads(answer.body)["msg"] == "Unknown parameter(s): limt"

    def test_bodies_that_are_none(self, venue: Any) -> None:
        for body, status in ((b"no json", 400), (b"[]", 200)):
            headers = venue.headers("POST", "/api/v1/hf/orders", body)
            assert code_of(venue.ask("spot_rest", "POST", "/api/v1/hf/orders", body, headers)) == (status, "400100")

    def test_a_private_token_answer_is_of_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        answer = venue.call("spot_rest", "POST", "/api/v1/bullet-private")
        assert unlike(answer, capture("spot-private-token")) == []
        assert quote(answer["token"]) != ""


POOLS = {"SPOT": 20, "FUTURES": 20, "MANAGEMENT": 20, "PUBLIC": 10, "UNIFIED": 6}


class TestLimits:
    def test_the_public_pool_counts_weights_by_client(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(pools=POOLS))
        path = "/api/v2/symbols"
        left = [venue.ask("spot_rest", "GET", path).headers["gw-ratelimit-remaining"] for _ in range(2)]
        assert left == ["6", "2"]
        assert code_of(venue.ask("spot_rest", "GET", path)) == (429, "429000")
        assert venue.call("spot_rest", "GET", "/api/v1/accounts") != []

    def test_the_unified_window_is_short(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(pools=POOLS), mode="UNIFIED")
        path = "/api/ua/v2/unified/account/balance"
        assert venue.signed("spot_rest", "GET", path).headers["gw-ratelimit-reset"] == "3000"
        assert code_of(venue.signed("spot_rest", "GET", path)) == (429, "429000")
        venue.clock.ms += 3000
        assert venue.signed("spot_rest", "GET", path).status == 200

    def test_injected_answers_are_the_venues(self, venue: Any) -> None:
        request = HttpRequest("spot_rest", "POST", "/api/v1/hf/orders", {}, b"")
        busy = venue.sandbox.too_many_requests(request, 7)
        assert (code_of(busy), busy.headers["gw-ratelimit-reset"]) == ((429, "429000"), "7000")
        assert code_of(venue.sandbox.server_error(request)) == (500, "500000")

    @pytest.mark.parametrize(
        ("host", "method", "path", "mutates"),
        [
            ("spot_rest", "POST", "/api/v1/hf/orders", True),
            ("spot_rest", "POST", "/api/v1/hf/orders/test", False),
            ("spot_rest", "DELETE", "/api/v1/hf/orders/1", True),
            ("spot_rest", "POST", "/api/v1/bullet-private", False),
            ("spot_rest", "POST", "/api/ua/v2/unified/order/amend", True),
            ("futures_rest", "DELETE", "/api/v1/orders/multi-cancel", True),
            ("futures_rest", "POST", "/api/v2/changeCrossUserLeverage", False),
            ("futures_rest", "GET", "/api/v1/orders", False),
            ("futures_rest", "POST", "/nowhere", False),
        ],
    )
    def test_what_places_and_cancels_is_known(
        self, venue: Any, host: str, method: str, path: str, mutates: bool
    ) -> None:
        assert venue.sandbox.mutating(HttpRequest(host, method, path, {}, b"")) is mutates
