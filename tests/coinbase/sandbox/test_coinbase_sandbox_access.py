"""Who is let in: tokens and their claims, permissions of paths, limits."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from astra.sandbox import Account, HttpRequest, HttpResponse
from astra_coinbase.sandbox import SandboxLimits

NAME = "organizations/test-organization/apiKeys/test-api-key"
SEED_AND_PUBLIC = "k0BUni0p0vZG1BdpVjS6ogBJ7kxm630AJ2dN+tuputDOKsRAwgyrpEQLeBtS1znTmzPX6Xr2eOWpzx6nW8knkA=="
PEM = (
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIKwf3Uox30cRWzRBOPoPOH5p0Gpb0Dt8zUKXUEM5fMkGoAoGCCqGSM49\n"
    "AwEHoUQDQgAEbAtpLlSZYVOwYICz+uEyxcS29vRIujiES/gQ1DC7FV4zK4JuYE9v\n"
    "qDyGZQYjdXHLM7I6f/QnnOITL+dXYWBHRA==\n-----END EC PRIVATE KEY-----\n"
)
NONCE = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
NOW_S = 1_795_000_000
ACCOUNTS = "GET api.coinbase.com/api/v3/brokerage/accounts"
ORDERS = "POST api.coinbase.com/api/v3/brokerage/orders"


def reference_token(encode: Any, algorithm: str, uri: str | None, signature: str) -> str:
    """A token of the reference vectors, byte for byte."""
    header = {"alg": algorithm, "kid": NAME, "nonce": NONCE, "typ": "JWT"}
    payload = {"sub": NAME, "iss": "cdp", "nbf": NOW_S, "exp": NOW_S + 120}
    return f"{encode(header)}.{encode(payload | ({} if uri is None else {'uri': uri}))}.{signature}"


VECTORS = {
    "ed25519-rest": (
        SEED_AND_PUBLIC,
        "EdDSA",
        ACCOUNTS,
        "T1rimt1YIhv1OsnaMv4LLGA7ELyzHC4yMP5-6ATgtrMG2yPaQg0pX26s4cUeNh4NYTN1hs5FIJJC6u7PxwQuBQ",
    ),
    "ed25519-socket": (
        SEED_AND_PUBLIC,
        "EdDSA",
        None,
        "YUpNTl9gqT531oBwtn8hILbBlCJU3cqdrM0Qbxmjwu6iYV6N1wHfr7pUCpd_ldaMAK4Pt9HxaLmZryiG7FqBCg",
    ),
    "p256-rest": (
        PEM,
        "ES256",
        ORDERS,
        "bpozUA1t9HKSuIvPaiYu4P7Wy3lYX0EPkHNvg4XYkslHXBEFOZ9bJvRtsTbYDidNhM3-qeO8UNhM6FYrxDx4XQ",
    ),
}


class TestTokens:
    @pytest.mark.parametrize("vector", list(VECTORS))
    def test_the_reference_tokens_are_taken(self, venue: Any, vector: str) -> None:
        secret, algorithm, uri, signature = VECTORS[vector]
        venue.engine.open_account("vector", NAME, secret, balances={})

        def encode(value: Mapping[str, Any]) -> str:
            return urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()

        token = reference_token(encode, algorithm, uri, signature)
        found = venue.sandbox.keys.account_of(token, NOW_S, uris=None if uri is None else [uri])
        assert found.name == "vector"

    def test_a_seed_alone_is_the_same_key(self, venue: Any) -> None:
        account = venue.engine.open_account("seed", NAME, "k0BUni0p0vZG1BdpVjS6ogBJ7kxm630AJ2dN+tuputA=", balances={})
        assert venue.call("GET", "/accounts", account=account)["accounts"] == []

    def test_made_keys_sign_what_the_venue_takes(self, venue: Any) -> None:
        assert venue.account.key.startswith("organizations/")
        assert venue.call("GET", "/key_permissions")["can_trade"] is True

    @pytest.mark.parametrize(
        "claims",
        [
            {"uri": "GET api.coinbase.com/api/v3/brokerage/orders"},
            {"uri": "POST api.coinbase.com/api/v3/brokerage/accounts"},
            {"uri": "GET https://api.coinbase.com/api/v3/brokerage/accounts"},
            {"uri": f"{ACCOUNTS}?limit=250"},
            {"iss": "somebody"},
            {"sub": "organizations/x/apiKeys/y"},
            {"nbf": 1_795_262_400 + 60, "exp": 1_795_262_400 + 180},
            {"nbf": 1_795_262_400 - 121, "exp": 1_795_262_400 - 1},
            {"exp": None},
        ],
        ids=["path", "method", "scheme", "query", "issuer", "subject", "early", "late", "endless"],
    )
    def test_other_claims_are_refused(self, venue: Any, claims: dict[str, Any]) -> None:
        token = venue.token(**({"uri": ACCOUNTS} | claims))
        answer = venue.ask("GET", "/api/v3/brokerage/accounts", token=token)
        assert (answer.status, json.loads(answer.body)["error"]) == (401, "UNAUTHORIZED")

    def test_a_token_of_another_key_is_refused(self, venue: Any, make_token: Callable[..., str]) -> None:
        other: Account = venue.open_account("other")
        now_s = venue.clock.ms // 1000
        payload = {"sub": venue.account.key, "iss": "cdp", "nbf": now_s, "exp": now_s + 120, "uri": ACCOUNTS}
        token = make_token(other.secret, {"alg": "ES256", "kid": venue.account.key}, payload)
        assert venue.ask("GET", "/api/v3/brokerage/accounts", token=token).status == 401

    @pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.e30", "..."])
    def test_nonsense_is_refused(self, venue: Any, token: str) -> None:
        assert venue.ask("GET", "/api/v3/brokerage/accounts", token=token).status == 401

    def test_the_uri_may_name_the_host_that_was_asked(self, venue: Any) -> None:
        token = venue.token("GET 127.0.0.1:4711/api/v3/brokerage/accounts")
        headers = {"host": "127.0.0.1:4711"}
        assert venue.ask("GET", "/api/v3/brokerage/accounts", token=token, headers=headers).status == 200

    def test_without_a_token_nothing_private_is_told(self, venue: Any, capture: Callable[[str], Any]) -> None:
        answer = venue.ask("GET", "/api/v3/brokerage/orders/historical/batch")
        assert answer.status == 401
        assert json.loads(answer.body) == capture("error-advanced-unauthorized")

    def test_a_socket_takes_no_token_with_a_uri(self, venue: Any) -> None:
        client = venue.connect("advanced_user_stream")
        refused = [{"type": "error", "message": "authentication failure"}]
        assert client.subscribe("user", jwt=venue.token(ACCOUNTS)) == refused
        assert client.subscribe("user") == refused
        assert [frame["channel"] for frame in client.subscribe("user", jwt=venue.token())] == ["user", "subscriptions"]


class TestGatewayLogin:
    def test_http_gives_a_bearer_token_that_runs_out(self, venue: Any, capture: Callable[[str], Any]) -> None:
        token = venue.token("POST drb.coinbase.com/api/v2/public/auth")
        result = venue.rpc("public/auth", grant_type="coinbase_cdp", token=token)["result"]
        assert result.keys() == capture("gateway-auth")["result"].keys()
        assert result["expires_in"] == 899
        asked = {"currency": "any"}
        assert venue.rpc("private/get_positions", result["access_token"], **asked)["result"] == []
        venue.clock.ms += 899_000
        assert venue.rpc("private/get_positions", result["access_token"], **asked)["error"]["code"] == 13009

    def test_a_bad_token_is_invalid_credentials(self, venue: Any, capture: Callable[[str], Any]) -> None:
        theirs = capture("error-gateway-invalid-credentials")["error"]
        for token in ("nonsense", venue.token("POST drb.coinbase.com/api/v2/private/buy")):
            answer = venue.rpc("public/auth", grant_type="coinbase_cdp", token=token)
            assert answer["error"] == theirs
        assert venue.rpc("private/get_positions", "nonsense", currency="any")["error"]["code"] == 13009

    def test_a_socket_is_its_own_credential_until_the_session_ends(self, venue: Any) -> None:
        client = venue.connect("international_private_stream", "/ws/api/v2")
        assert client.call("private/get_positions", currency="any")["error"]["code"] == 13009
        result = client.call("public/auth", grant_type="coinbase_cdp", token=venue.token())["result"]
        assert result.keys() == {"expires_in", "scope", "sid", "token_type"}
        assert client.call("private/get_positions", currency="any")["result"] == []
        other = venue.connect("international_private_stream", "/ws/api/v2")
        assert other.call("private/get_positions", currency="any")["error"]["code"] == 13009
        venue.clock.ms += result["expires_in"] * 1000
        assert client.call("private/get_positions", currency="any")["error"]["code"] == 13009


class TestLimits:
    def test_requests_are_counted_by_the_second(self, make_venue: Any, capture: Callable[[str], Any]) -> None:
        venue = make_venue(None)
        answers = [venue.ask("GET", "/api/v3/brokerage/time") for _ in range(11)]
        assert [answer.status for answer in answers] == [200] * 10 + [429]
        assert answers[0].headers["x-ratelimit-remaining"] == "9"
        assert json.loads(answers[-1].body) == capture("error-advanced-rate-limit")
        assert "retry-after" not in answers[-1].headers
        venue.clock.ms += 1000
        assert venue.ask("GET", "/api/v3/brokerage/time").status == 200

    def test_private_calls_have_a_count_of_their_own(self, make_venue: Any) -> None:
        venue = make_venue(None)
        statuses = [venue.signed("GET", "/accounts").status for _ in range(31)]
        assert statuses == [200] * 30 + [429]
        assert venue.ask("GET", "/api/v3/brokerage/time").status == 200

    def test_public_answers_are_cached_unless_asked_not_to(self, make_venue: Any) -> None:
        venue = make_venue(None)
        path, query = "/api/v3/brokerage/market/product_book", "product_id=BTC-USD"
        venue.crowd("COINBASE-SPOT-BTC-USD", "BUY", "1", "90000")

        def bids(headers: Mapping[str, str]) -> int:
            answer: HttpResponse = venue.ask("GET", path, query, headers=headers)
            return len(json.loads(answer.body)["pricebook"]["bids"])

        assert bids({}) == 1
        venue.crowd("COINBASE-SPOT-BTC-USD", "BUY", "1", "89999")
        assert bids({}) == 1
        assert bids({"cache-control": "no-cache"}) == 2
        assert len(venue.call("GET", "/product_book", product_id="BTC-USD")["pricebook"]["bids"]) == 2
        venue.clock.ms += 1000
        assert bids({}) == 2

    def test_an_exhausted_socket_of_the_gateway_is_closed(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(gateway_burst=3, gateway_per_second=1))
        client = venue.connect("international_stream", "/ws/api/v2")
        for _ in range(3):
            assert "result" in client.call("public/test")
        assert client.call("public/test")["error"]["code"] == 10028
        assert client.line.closed == 1011

    def test_credits_of_the_gateway_come_back_and_belong_to_the_account(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(gateway_burst=3, gateway_per_second=2))
        bearer = venue.gateway_token()
        codes = [venue.rpc("private/get_positions", bearer)["status"] for _ in range(4)]
        assert codes == [200] * 3 + [429]
        assert venue.rpc("public/get_time")["status"] == 200
        venue.clock.ms += 500
        assert [venue.rpc("private/get_positions", bearer)["status"] for _ in range(2)] == [200, 429]

    def test_connections_and_messages_are_limited(self, make_venue: Any) -> None:
        venue = make_venue(None)
        clients = [venue.connect("advanced_stream") for _ in range(8)]
        refused = venue.sandbox.connect("advanced_stream", "/", {}, clients[0].line)
        assert isinstance(refused, HttpResponse)
        assert refused.status == 429
        told = [clients[0].subscribe("heartbeats")[-1].get("type") for _ in range(9)]
        assert told == [None] * 8 + ["error"]


class TestCommands:
    """What faults of lost answers and late requests may hit."""

    @pytest.mark.parametrize(
        ("host", "method", "path", "body", "expected"),
        [
            ("advanced_rest", "POST", "/api/v3/brokerage/orders", b"", True),
            ("advanced_rest", "POST", "/api/v3/brokerage/orders/batch_cancel", b"", True),
            ("advanced_rest", "POST", "/api/v3/brokerage/orders/preview", b"", False),
            ("advanced_rest", "GET", "/api/v3/brokerage/accounts", b"", False),
            ("international_rest", "GET", "/api/v2/private/buy?amount=1", b"", True),
            ("international_rest", "GET", "/api/v2/private/get_positions", b"", False),
            ("international_rest", "POST", "/api/v2/private/cancel", b'{"method":"private/cancel"}', True),
            ("international_rest", "POST", "/api/v2", b'{"method":"private/sell"}', True),
            ("international_rest", "POST", "/api/v2", b'{"method":"public/auth"}', False),
            ("international_rest", "POST", "/api/v2", b"nonsense", False),
        ],
    )
    def test_are_those_that_place_amend_and_cancel(
        self, venue: Any, host: str, method: str, path: str, body: bytes, expected: bool
    ) -> None:
        assert venue.sandbox.mutating(HttpRequest(host, method, path, {}, body)) is expected
