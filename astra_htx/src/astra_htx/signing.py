"""Signatures of REST requests and of WebSocket log-ins.

What is signed: method, host, path and the sorted parameters, a line each; HMAC-SHA256 with the secret, or Ed25519 where
the key's secret is a private key of that kind (base64 of seed and public key, or PEM). The host is the one that is
called, without a port. Source: API documentation, "Authentication".
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

import msgspec

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request, Sign

VALID_MS = 300_000
"""A signed request is accepted for so long after its time stamp."""
HMAC = "HmacSHA256"
ED25519 = "Ed25519"
_ED25519_BYTES = 64
"""Seed and public key; the HMAC secrets of the venue are texts with dashes, which are no base64 of this length."""


def host_of(url: str) -> str:
    """The host that a signature names."""
    return (urlsplit(url).hostname or "").lower()


def time_stamp(now_ms: int) -> str:
    """A time as signatures have it: whole seconds of UTC, without a zone."""
    return f"{datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC):%Y-%m-%dT%H:%M:%S}"


def canonical(params: Iterable[tuple[str, str]]) -> str:
    """Parameters as they are signed and sent: sorted by name, percent-encoded."""
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(params))


def _seed(secret: str) -> bytes | None:
    """The seed of an Ed25519 key in the venue's text form; None for HMAC secrets."""
    try:
        raw = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw[:32] if len(raw) == _ED25519_BYTES else None


def method_of(secret: str) -> str:
    """`SignatureMethod` for this secret."""
    return ED25519 if secret.lstrip().startswith("-----BEGIN") or _seed(secret) is not None else HMAC


def signature(secret: str, text: str) -> str:
    """The signature of a text, in base64."""
    if method_of(secret) == HMAC:
        return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()
    return base64.b64encode(_ed25519(secret, text.encode())).decode()


def _ed25519(secret: str, text: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    seed = _seed(secret)
    if seed is not None:
        return Ed25519PrivateKey.from_private_bytes(seed).sign(text)
    try:
        key = load_pem_private_key(secret.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise AuthenticationError("the API secret looks like a private key, but is none of Ed25519", exchange="HUOBI")
    return key.sign(text)


def request_text(method: str, host: str, path: str, query: str) -> str:
    """What is signed."""
    return f"{method}\n{host}\n{path}\n{query}"


def rest_sign(key: ApiKey, host: str, recv_window_ms: int | None) -> Sign:
    """What completes a request at sending: the parameters of the query and the signature's own, sorted and signed.

    With `recv_window_ms` commands are stamped as long ago as makes them valid for that long only.
    """
    secret = key.secret.get_secret_value()

    def complete(request: Request, now_ms: int) -> Request:
        if request.command and recv_window_ms is not None:
            now_ms -= VALID_MS - recv_window_ms
        own = {
            "AccessKeyId": key.key.get_secret_value(),
            "SignatureMethod": method_of(secret),
            "SignatureVersion": "2",
            "Timestamp": time_stamp(now_ms),
        }
        pairs = [*canonical(own.items()).split("&"), *filter(None, request.query.split("&"))]
        query = "&".join(sorted(pairs, key=lambda pair: pair.partition("=")[0]))
        signed = signature(secret, request_text(request.method, host, request.path, query))
        headers = {**request.headers, "Content-Type": "application/json"} if request.body else request.headers
        return msgspec.structs.replace(request, query=f"{query}&Signature={quote(signed, safe='')}", headers=headers)

    return complete


def spot_login(key: ApiKey, host: str, path: str, now_ms: int) -> str:
    """The frame that logs a spot socket in (signature version 2.1)."""
    secret = key.secret.get_secret_value()
    fields = {
        "accessKey": key.key.get_secret_value(),
        "signatureMethod": method_of(secret),
        "signatureVersion": "2.1",
        "timestamp": time_stamp(now_ms),
    }
    signed = signature(secret, request_text("GET", host, path, canonical(fields.items())))
    params = {"authType": "api", **fields, "signature": signed}
    return msgspec.json.encode({"action": "req", "ch": "auth", "params": params}).decode()


def derivatives_login(key: ApiKey, host: str, path: str, now_ms: int) -> str:
    """The frame that logs a derivatives socket in."""
    secret = key.secret.get_secret_value()
    fields = {
        "AccessKeyId": key.key.get_secret_value(),
        "SignatureMethod": method_of(secret),
        "SignatureVersion": "2",
        "Timestamp": time_stamp(now_ms),
    }
    signed = signature(secret, request_text("GET", host, path, canonical(fields.items())))
    return msgspec.json.encode({"op": "auth", "type": "api", **fields, "Signature": signed}).decode()
