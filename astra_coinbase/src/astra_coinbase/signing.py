"""Tokens: every request, and every private subscription, carries a JSON web token made for it alone.

Keys are ECDSA on P-256 or Ed25519; which, shows in the secret. Source: docs.cdp.coinbase.com, "Coinbase App API key
authentication", and the venue's SDK.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request, Sign
from astra_coinbase.settings import TOKEN_S

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Nonce = Callable[[], str]
"""Makes a random text, anew for each token."""


class Signer:
    """One key, ready to sign. Neither its name nor its secret shows in its repr."""

    def __init__(self, key: ApiKey, nonce: Nonce) -> None:
        """Raises `AuthenticationError` for a secret that is no key."""
        self._name = key.key.get_secret_value()
        self._private = private_key(key.secret.get_secret_value())
        self._nonce = nonce

    def __repr__(self) -> str:
        return "Signer(***)"

    def token(self, now_ms: int, uri: str | None = None, life_s: int = TOKEN_S) -> str:
        """A token; `uri` is `METHOD host/path` of the request that it is for, None for a WebSocket message."""
        now_s = now_ms // 1000
        algorithm = "EdDSA" if isinstance(self._private, ed25519.Ed25519PrivateKey) else "ES256"
        header = {"alg": algorithm, "kid": self._name, "nonce": self._nonce(), "typ": "JWT"}
        claims: dict[str, Any] = {"sub": self._name, "iss": "cdp", "nbf": now_s, "exp": now_s + life_s}
        if uri is not None:
            claims["uri"] = uri
        text = f"{_part(msgspec.json.encode(header))}.{_part(msgspec.json.encode(claims))}"
        return f"{text}.{_part(self._signature(text.encode()))}"

    def _signature(self, text: bytes) -> bytes:
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            return self._private.sign(text)
        r, s = decode_dss_signature(self._private.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def rest_sign(self, host: str, life_s: int = TOKEN_S) -> Sign:
        """What completes a request at sending. Neither query nor body is signed."""

        def complete(request: Request, now_ms: int) -> Request:
            token = self.token(now_ms, f"{request.method} {host}{request.path}", life_s if request.command else TOKEN_S)
            return msgspec.structs.replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})

        return complete


def private_key(secret: str) -> PrivateKey:
    """The key of a secret: PEM (its line breaks may be written as \\n), or base64 of an Ed25519 seed, with or without
    the public key behind it. Raises `AuthenticationError`."""
    problem = "the secret is neither a PEM key (P-256 or Ed25519) nor base64 of an Ed25519 key"
    text = secret.replace("\\n", "\n").strip()
    try:
        if text.startswith("-----BEGIN"):
            found = load_pem_private_key(text.encode(), None)
            if isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1):
                return found
            if isinstance(found, ed25519.Ed25519PrivateKey):
                return found
        else:
            seed = base64.b64decode(text, validate=True)
            if len(seed) in (32, 64):
                return ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32])
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
        pass  # the library's words may quote the secret
    raise AuthenticationError(problem, exchange="COINBASE")


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
