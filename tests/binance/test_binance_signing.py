"""Signatures: every published vector reproduces, parameters go on the wire as they are signed."""

from __future__ import annotations

import base64
import traceback
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from pydantic import SecretStr

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request
from astra.rest import encoded, plain
from astra_binance.settings import WorkingType
from astra_binance.signing import rest_sign, signer, ws_signed


def api_key(secret: str, key: str = "key", passphrase: str | None = None) -> ApiKey:
    return ApiKey(
        key=SecretStr(key), secret=SecretStr(secret), passphrase=None if passphrase is None else SecretStr(passphrase)
    )


def pem(private: Any, password: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_every_vector_of_the_recordings_reproduces(recordings: Any) -> None:
    vectors = recordings.file("signing.json")["vectors"]
    assert len(vectors) >= 6
    for vector in vectors:
        sign = signer(api_key(vector["secret"]))
        assert sign(vector["string_to_sign"]) == vector["signature"], vector["name"]
        if vector["transport"] == "REST" and vector["params"]:
            assert encoded([(name, value) for name, value in vector["params"]]) == vector["string_to_sign"]
        if vector["transport"] == "WS":
            assert ws_signed(dict(vector["params"]), sign)["signature"] == vector["signature"]


def test_a_request_is_completed_in_the_venue_s_order_with_the_signature_last(recordings: Any) -> None:
    vector = next(v for v in recordings.file("signing.json")["vectors"] if v["name"] == "usdm-rest-hmac")
    key = api_key(vector["secret"], vector["api_key"])
    given = [(name, value) for name, value in vector["params"] if name not in ("recvWindow", "timestamp")]
    request = Request("POST", "/fapi/v1/order", body=encoded(given).encode())
    signed = rest_sign(key, signer(key), 5000)(request, 1591702613943)
    assert signed.body.decode() == f"{vector['string_to_sign']}&signature={vector['signature']}"
    assert signed.query == ""
    assert signed.headers["X-MBX-APIKEY"] == vector["api_key"]
    assert signed.headers["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_reads_and_cancels_carry_everything_in_the_query(method: str) -> None:
    key = api_key("secret")
    sign = signer(key)
    signed = rest_sign(key, sign, 4000)(Request(method, "/x", query="symbol=A"), 7)
    text = "symbol=A&recvWindow=4000&timestamp=7"
    assert signed.query == f"{text}&signature={sign(text)}"
    assert signed.body == b""
    bare = rest_sign(key, sign, 4000)(Request(method, "/x"), 7)
    assert bare.query.startswith("recvWindow=4000&timestamp=7&signature=")


def test_base64_signatures_are_percent_encoded_in_requests_and_verify(rsa_key: rsa.RSAPrivateKey) -> None:
    key = api_key(pem(rsa_key))
    signed = rest_sign(key, signer(key), 5000)(Request("GET", "/x", query="a=1"), 9)
    text, _, signature = signed.query.partition("&signature=")
    assert not set(signature) & set("+/=")
    raw = base64.b64decode(signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="))
    rsa_key.public_key().verify(raw, text.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_ed25519_signatures_verify_and_go_into_web_socket_requests_unencoded() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    signed = ws_signed({"timestamp": 3, "apiKey": "k", "symbol": "币安人生USDT"}, signer(api_key(pem(private))))
    private.public_key().verify(
        base64.b64decode(str(signed["signature"])), "apiKey=k&symbol=币安人生USDT&timestamp=3".encode()
    )


def test_encrypted_pem_keys_open_with_their_passphrase_and_escaped_line_breaks_are_understood() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    expected = base64.b64encode(private.sign(b"text")).decode()
    assert signer(api_key(pem(private, b"open sesame"), passphrase="open sesame"))("text") == expected
    assert signer(api_key(pem(private).replace("\n", "\\n")))("text") == expected


def test_unusable_pem_keys_are_refused_without_showing_them(rsa_key: rsa.RSAPrivateKey) -> None:
    encrypted = pem(rsa_key, b"right")
    broken = pem(rsa_key).replace("MII", "AAA", 1)
    elliptic = pem(ec.generate_private_key(ec.SECP256R1()))
    for secret, passphrase in ((encrypted, None), (encrypted, "wrong"), (broken, None), (elliptic, None)):
        with pytest.raises(AuthenticationError) as caught:
            signer(api_key(secret, passphrase=passphrase))
        shown = "".join(traceback.format_exception(caught.value))
        assert not any(line in shown for line in secret.splitlines() if len(line) > 30 and "PRIVATE" not in line)
        assert "wrong" not in str(caught.value)


def test_parameters_are_plain_decimals_and_percent_encoded_utf8() -> None:
    assert plain(Decimal("1E+3")) == "1000"
    assert plain(Decimal("0.00001000")) == "0.00001"
    assert plain(Decimal("1E-8")) == "0.00000001"
    assert plain(True) == "true"
    assert plain(12345678901234567890) == "12345678901234567890"
    assert plain(WorkingType.MARK_PRICE) == "MARK_PRICE"
    assert encoded([("symbol", "币安人生USDT"), ("none", None), ("id", "a:b/c_d-e.f")]) == (
        "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&id=a%3Ab%2Fc_d-e.f"
    )
    orders = msgspec.json.encode([{"symbol": "A B"}]).decode()
    assert encoded([("batchOrders", orders)]) == "batchOrders=" + quote(orders, safe="")
