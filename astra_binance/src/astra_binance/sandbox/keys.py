"""Who is calling, and did he sign it: API keys, the time window, HMAC, RSA and Ed25519 signatures."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from astra.sandbox import Account, Exchange
from astra_binance.sandbox.wire import Family, Params, Refusal, missing

_KEY = re.compile(r"[A-Za-z0-9_-]{1,256}")
_AHEAD_MS = 1000
_LONGEST_WINDOW_MS = 60_000


def account_of_key(engine: Exchange, key: str | None, family: Family) -> Account:
    """The account of an API key: -2014 for what cannot be one, -2015 for one that is not known or not allowed here.

    `Account.settings["permissions"]`, a list of families, restricts the key; without it the key may do everything.
    """
    if not key or not _KEY.fullmatch(key):
        raise Refusal(-2014, "API-key format invalid.", status=401)
    account = engine.account_of(key)
    allowed = None if account is None else account.settings.get("permissions")
    if account is None or (allowed is not None and family.value not in allowed):
        raise Refusal(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    return account


def check_time(params: Params, now_ms: int, family: Family) -> None:
    """`timestamp` within `recvWindow`: at most 1 s ahead of the venue's clock, at most the window behind it (-1021).

    Spot also takes microseconds: a timestamp that is a thousandfold too large for this century is read so.
    """
    stamp = params.integer("timestamp")
    if stamp is None:
        raise missing("timestamp")
    if family is Family.SPOT and stamp > 100_000_000_000_000:
        stamp //= 1000
    window = params.decimal("recvWindow")
    if window is not None and not 0 < window <= _LONGEST_WINDOW_MS:
        raise Refusal(-1131, "recvWindow must be less than 60000.")
    if stamp >= now_ms + _AHEAD_MS:
        raise Refusal(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - stamp > (5000 if window is None else window):
        raise Refusal(-1021, "Timestamp for this request is outside of the recvWindow.")


def check_rest_signature(account: Account, query: str, body: str) -> None:
    """The signature covers query string and body, joined with nothing between, exactly as they were sent.

    It is the last parameter of the one that carries it, and is itself percent-encoded there.
    """
    signed_query, in_query = _without_signature(query)
    signed_body, in_body = _without_signature(body)
    signature = in_query or in_body
    if signature is None:
        raise missing("signature")
    check_signature(account, (signed_query + signed_body).encode(), unquote(signature))


def _without_signature(text: str) -> tuple[str, str | None]:
    head, separator, last = text.rpartition("&")
    if not last.startswith("signature="):
        if "&signature=" in f"&{text}":
            raise bad_signature()
        return text, None
    return head if separator else "", last.removeprefix("signature=")


def check_ws_signature(account: Account, params: Mapping[str, Any]) -> None:
    """WebSocket API: all params but the signature, sorted by name, raw (not percent-encoded)."""
    signature = params.get("signature")
    if not isinstance(signature, str) or not signature:
        raise missing("signature")
    signed = "&".join(f"{name}={json_text(value)}" for name, value in sorted(params.items()) if name != "signature")
    check_signature(account, signed.encode(), signature)


def json_text(value: Any) -> str:
    """A JSON scalar as the venue signs and reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def check_signature(account: Account, payload: bytes, signature: str) -> None:
    """HMAC-SHA256 in hex with the account's secret; or, where the account registered a public key
    (`Account.settings["public_key"]`, PEM), RSASSA-PKCS1-v1_5 with SHA-256 or Ed25519 in base64. Else -1022."""
    pem = account.settings.get("public_key")
    if pem is None:
        expected = hmac.new(account.secret.encode(), payload, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise bad_signature()
        return
    try:
        raw = base64.b64decode(signature, validate=True)
        key = public_key(pem)
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(raw, payload)
        else:
            key.verify(raw, payload, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error):
        raise bad_signature() from None


def public_key(pem: str) -> ed25519.Ed25519PublicKey | rsa.RSAPublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise ValueError(f"settings['public_key'] must be an Ed25519 or RSA key, not {type(key).__name__}")
    return key


def may_log_on(account: Account) -> bool:
    """Only Ed25519 keys may `session.logon`."""
    pem = account.settings.get("public_key")
    return pem is not None and isinstance(public_key(pem), ed25519.Ed25519PublicKey)


def bad_signature() -> Refusal:
    return Refusal(-1022, "Signature for this request is not valid.")
