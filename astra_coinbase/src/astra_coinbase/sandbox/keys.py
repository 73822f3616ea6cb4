"""Who is calling: API keys as the developer platform makes them, and the JSON web tokens signed with them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from random import Random
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from astra.sandbox import Account, Exchange

ISSUERS = ("cdp", "coinbase-cloud")
_GROUP_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_AHEAD_S = 30
"""A token whose `nbf` lies further ahead is refused: clocks may differ by so much."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class BadToken(Exception):
    """The token is refused. The text says why for whoever tests; the venue itself gives no reason."""


def make_key(random: Random) -> tuple[str, str]:
    """Name and secret of a new key: ECDSA on P-256, the secret as PEM (SEC 1), as the portal hands it out."""
    name = f"organizations/{_random_uuid(random)}/apiKeys/{_random_uuid(random)}"
    private = ec.derive_private_key(random.randrange(1, _GROUP_ORDER), ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return name, pem.decode()


def _random_uuid(random: Random) -> str:
    text = f"{random.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def public_key_of(secret: str) -> PublicKey:
    """The public half of a secret: PEM (P-256 or Ed25519), or base64 of an Ed25519 seed with or without public key."""
    if secret.startswith("-----BEGIN"):
        private = load_pem_private_key(secret.encode(), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise ValueError("keys are ECDSA on P-256 or Ed25519")
        return private.public_key()
    return ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret)[:32]).public_key()


class Keys:
    """Verifies tokens. Of every secret it keeps the public half only."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self._public: dict[str, PublicKey] = {}

    def account_of(self, token: str, now_s: float, *, uris: Collection[str] | None, optional: bool = False) -> Account:
        """The account whose key signed the token. Raises `BadToken`.

        `uris`: what the `uri` claim may be (`METHOD host/path`, without query); None: a token for a socket, which
        has no such claim. `optional`: it may be missing.
        """
        head, _, signature_text = token.rpartition(".")
        header_text, _, payload_text = head.partition(".")
        header, claims = _decoded(header_text), _decoded(payload_text)
        name = header.get("kid")
        account = self._engine.account_of(name) if isinstance(name, str) else None
        if account is None or claims.get("sub") != name:
            raise BadToken("no such key, or kid and sub are not both its name")
        public = self._public.get(account.key)
        if public is None:
            public = self._public[account.key] = public_key_of(account.secret)
        if not _signed(public, header.get("alg"), head.encode(), _unbase64(signature_text)):
            raise BadToken("the signature does not match")
        _check_claims(claims, now_s)
        stated = claims.get("uris", [claims["uri"]] if "uri" in claims else [])
        if uris is None:
            if stated:
                raise BadToken("the token of a socket has no uri")
        elif not (optional and not stated) and not any(uri in uris for uri in stated):
            raise BadToken("the uri is not that of the request (METHOD host/path, no scheme, no query)")
        return account


def _check_claims(claims: dict[str, Any], now_s: float) -> None:
    begins, ends = claims.get("nbf"), claims.get("exp")
    if claims.get("iss") not in ISSUERS:
        raise BadToken("iss is cdp")
    if type(begins) is not int or type(ends) is not int:
        raise BadToken("nbf and exp are seconds")
    if begins > now_s + _AHEAD_S:
        raise BadToken("not valid yet")
    if ends <= now_s:
        raise BadToken("expired")


def _signed(public: PublicKey, algorithm: Any, message: bytes, signature: bytes) -> bool:
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            if algorithm != "EdDSA":
                return False
            public.verify(signature, message)
            return True
        if algorithm != "ES256" or len(signature) != 64:
            return False
        pair = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        public.verify(encode_dss_signature(*pair), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _decoded(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(_unbase64(text))
    except msgspec.DecodeError:
        raise BadToken("header and payload are JSON") from None
    if not isinstance(found, dict):
        raise BadToken("header and payload are objects")
    return found


def _unbase64(text: str) -> bytes:
    if "=" in text or "+" in text or "/" in text:
        raise BadToken("tokens are base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise BadToken("tokens are base64url without padding") from None
