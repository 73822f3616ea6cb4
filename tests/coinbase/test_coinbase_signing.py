"""Tokens of both kinds of keys: the venue's own SDK makes the same ones."""

from __future__ import annotations

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request
from astra_coinbase.signing import Signer, private_key

NAME = "organizations/test-organization/apiKeys/test-api-key"
SEED = "k0BUni0p0vZG1BdpVjS6ogBJ7kxm630AJ2dN+tuputA="
BOTH = "k0BUni0p0vZG1BdpVjS6ogBJ7kxm630AJ2dN+tuputDOKsRAwgyrpEQLeBtS1znTmzPX6Xr2eOWpzx6nW8knkA=="
PEM = (
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIKwf3Uox30cRWzRBOPoPOH5p0Gpb0Dt8zUKXUEM5fMkGoAoGCCqGSM49\n"
    "AwEHoUQDQgAEbAtpLlSZYVOwYICz+uEyxcS29vRIujiES/gQ1DC7FV4zK4JuYE9v\n"
    "qDyGZQYjdXHLM7I6f/QnnOITL+dXYWBHRA==\n"
    "-----END EC PRIVATE KEY-----\n"
)
NOW_MS = 1795000000 * 1000
NONCE = "00112233445566778899aabbccddeeff" * 2
REST = "T1rimt1YIhv1OsnaMv4LLGA7ELyzHC4yMP5-6ATgtrMG2yPaQg0pX26s4cUeNh4NYTN1hs5FIJJC6u7PxwQuBQ"
SOCKET = "YUpNTl9gqT531oBwtn8hILbBlCJU3cqdrM0Qbxmjwu6iYV6N1wHfr7pUCpd_ldaMAK4Pt9HxaLmZryiG7FqBCg"
OTHERS = "bpozUA1t9HKSuIvPaiYu4P7Wy3lYX0EPkHNvg4XYkslHXBEFOZ9bJvRtsTbYDidNhM3-qeO8UNhM6FYrxDx4XQ"


def signer(secret: str) -> Signer:
    return Signer(ApiKey(key=SecretStr(NAME), secret=SecretStr(secret)), lambda: NONCE)


def unpacked(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize("secret", [SEED, BOTH, f" {BOTH}\n"])
def test_ed25519_tokens_are_those_of_the_venues_sdk(secret: str) -> None:
    token = signer(secret).token(NOW_MS, "GET api.coinbase.com/api/v3/brokerage/accounts")
    header, payload, signature = token.split(".")
    assert unpacked(header).decode() == f'{{"alg":"EdDSA","kid":"{NAME}","nonce":"{NONCE}","typ":"JWT"}}'
    assert unpacked(payload).decode() == (
        f'{{"sub":"{NAME}","iss":"cdp","nbf":1795000000,"exp":1795000120,'
        '"uri":"GET api.coinbase.com/api/v3/brokerage/accounts"}'
    )
    assert signature == REST
    assert signer(secret).token(NOW_MS).rpartition(".")[2] == SOCKET


@pytest.mark.parametrize("secret", [PEM, PEM.replace("\n", "\\n")])
def test_p256_tokens_verify_as_that_of_the_venues_sdk_does(secret: str) -> None:
    token = signer(secret).token(NOW_MS, "POST api.coinbase.com/api/v3/brokerage/orders")
    text, _, signature = token.rpartition(".")
    assert msgspec.json.decode(unpacked(text.partition(".")[0]))["alg"] == "ES256"
    key = private_key(PEM)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for made in (signature, OTHERS):
        raw = unpacked(made)
        assert len(raw) == 64
        pair = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        key.public_key().verify(pair, text.encode(), ec.ECDSA(hashes.SHA256()))


def test_an_ed25519_key_may_be_pem_too() -> None:
    key = private_key(SEED)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert signer(pem).token(NOW_MS).rpartition(".")[2] == SOCKET


@pytest.mark.parametrize(
    "secret", ["", "no-key-at-all", "AAAA", PEM[:80], PEM.replace("EC ", ""), base64.b64encode(b"1" * 33).decode()]
)
def test_what_is_no_key_is_refused_without_quoting_it(secret: str) -> None:
    with pytest.raises(AuthenticationError) as refused:
        signer(secret)
    assert "neither a PEM key" in str(refused.value)
    assert not secret or secret not in str(refused.value)


def test_a_request_is_signed_with_host_and_path_and_a_command_for_a_shorter_time() -> None:
    complete = signer(SEED).rest_sign("api.coinbase.com", 10)
    read = Request("GET", "/api/v3/brokerage/accounts", query="limit=250")
    assert complete(read, NOW_MS).headers["Authorization"] == f"Bearer {read_token()}"
    command = complete(Request("POST", "/api/v3/brokerage/orders", command=True), NOW_MS)
    claims = msgspec.json.decode(unpacked(command.headers["Authorization"].split(".")[1]))
    assert (claims["exp"] - claims["nbf"], claims["uri"]) == (10, "POST api.coinbase.com/api/v3/brokerage/orders")


def read_token() -> str:
    return signer(SEED).token(NOW_MS, "GET api.coinbase.com/api/v3/brokerage/accounts")


def test_a_signer_shows_nothing() -> None:
    assert repr(signer(SEED)) == "Signer(***)"
