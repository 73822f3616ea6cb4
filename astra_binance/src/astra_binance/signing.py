"""Signatures of REST requests and of WebSocket API requests.

Three kinds of key: HMAC-SHA256 with a secret text, RSA (PKCS#1 v1.5 with SHA-256) and Ed25519 with a PEM private key
(PKCS#8) as secret, recognised by the PEM header and the type of the key inside. Rules: binance-spot-api-docs,
rest-api.md and web-socket-api.md ("SIGNED endpoint security"); the futures and options APIs sign alike.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request, Sign
from astra.rest import Value, plain

Signer = Callable[[str], str]
"""Text to sign -> signature as the WebSocket API takes it (REST percent-encodes it)."""


def signer(key: ApiKey, exchange: str = "BINANCE") -> Signer:
    """How texts are signed with `key`. Raises `AuthenticationError` when its secret is no usable PEM key."""
    secret = key.secret.get_secret_value()
    if "-----BEGIN" not in secret:
        raw = secret.encode()
        return lambda text: hmac.new(raw, text.encode(), hashlib.sha256).hexdigest()
    return _pem_signer(secret, key.passphrase.get_secret_value() if key.passphrase else None, exchange)


def _pem_signer(pem: str, passphrase: str | None, exchange: str) -> Signer:
    # Imported here: only accounts with such keys pay for it.
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = None if passphrase is None else passphrase.encode()
    try:
        # Environment variables often carry the line breaks of a PEM text as the two characters "\n".
        private = load_pem_private_key(pem.replace("\\n", "\n").strip().encode(), password=password)
    except (ValueError, TypeError):
        # The library's own message may quote the key.
        raise AuthenticationError(
            "the secret is a PEM text but no readable private key (PKCS#8; an encrypted one needs its passphrase)",
            exchange=exchange,
        ) from None
    if isinstance(private, Ed25519PrivateKey):
        return lambda text: base64.b64encode(private.sign(text.encode())).decode()
    if isinstance(private, RSAPrivateKey):
        return lambda text: base64.b64encode(private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()
    raise AuthenticationError(
        f"the secret is a {type(private).__name__}; Binance takes RSA and Ed25519 keys", exchange=exchange
    )


def rest_sign(key: ApiKey, sign: Signer, recv_window_ms: int) -> Sign:
    """What completes a request at sending: key header, `recvWindow`, `timestamp` and, last, `signature`.

    The text to sign is query string + body with nothing in between, exactly as sent. All parameters travel in the
    body of POST and PUT and in the query string of GET and DELETE.
    """

    def complete(request: Request, now_ms: int) -> Request:
        in_body = request.method in ("POST", "PUT")
        given = request.body.decode() if in_body else request.query
        stamped = f"{given}{'&' if given else ''}recvWindow={recv_window_ms}&timestamp={now_ms}"
        signed = f"{stamped}&signature={quote(sign(stamped), safe='')}"
        headers = {**request.headers, "X-MBX-APIKEY": key.key.get_secret_value()}
        if in_body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            return msgspec.structs.replace(request, body=signed.encode(), headers=headers)
        return msgspec.structs.replace(request, query=signed, headers=headers)

    return complete


def ws_signed(params: Mapping[str, Value], sign: Signer) -> dict[str, Value]:
    """Parameters of a WebSocket API request with their `signature`.

    Signed is `name=value` joined by `&`, sorted by name, in UTF-8 and *not* percent-encoded: the opposite of REST.
    """
    text = "&".join(f"{name}={plain(value)}" for name, value in sorted(params.items()))
    return {**params, "signature": sign(text)}
