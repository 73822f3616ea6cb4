"""Signatures of REST requests and of the unified log-in: HMAC-SHA256 in base64 (docs-new, "Authentication").

The query is signed as it is before percent-encoding, and sent encoded. The passphrase is sent signed (key versions 2
and 3).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final
from urllib.parse import unquote

import msgspec

from astra.errors import AuthenticationError, InvalidOrder
from astra.models.credentials import ApiKey
from astra.net.http import Request, Sign

KEY_VERSION: Final = "3"
LOGIN_TEXT: Final = "POST/api/websocket/users/verify"
STAMP: Final = "clientTimestamp"
UNSTAMPED: Final = b'"clientTimestamp":0'
"""Within a body: becomes the request's time stamp at sending. (A text that quotes it would be escaped.)"""
ENDS: Final = "cancelAfter"
_ENDING: Final = re.compile(rb'"cancelAfter":(\d+)')
"""Within a body: the venue time (ms) at which an order ends. Becomes the seconds that are left at sending, however long
the request waited before."""
LONGEST_S: Final = 90 * 86_400


def signature(secret: str, text: str) -> str:
    """The signature of a text."""
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


def passphrase(key: ApiKey) -> str:
    """The passphrase that belongs to every key. Raises `AuthenticationError` where it is missing."""
    if key.passphrase is None:
        raise AuthenticationError("KuCoin keys have a passphrase, and none was given", exchange="KUCOIN")
    return key.passphrase.get_secret_value()


def seconds_left(expire_ms: int, now_ms: int) -> int:
    """Until an order ends. The venue counts whole seconds from the order's arrival: rounded down, so that it does not
    live longer. Raises `InvalidOrder` for less than one, and for more than the venue takes."""
    left_s = (expire_ms - now_ms) // 1000
    if not 1 <= left_s <= LONGEST_S:
        raise InvalidOrder(
            f"expireTime must be 1 s to {LONGEST_S // 86_400} days from when the order leaves, it is {left_s} s. "
            "Nothing was sent",
            exchange="KUCOIN",
            rule="expire-time",
        )
    return left_s


def stamped(body: bytes, now_ms: int) -> bytes:
    """A body with what depends on when it leaves."""

    def ending(found: re.Match[bytes]) -> bytes:
        return f'"{ENDS}":{seconds_left(int(found[1]), now_ms)}'.encode()

    return _ENDING.sub(ending, body.replace(UNSTAMPED, f'"{STAMP}":{now_ms}'.encode()))


def rest_sign(key: ApiKey) -> Sign:
    """What completes a request at sending. Signed is time stamp + method + path with query + body."""
    secret = key.secret.get_secret_value()
    signed_passphrase = signature(secret, passphrase(key))

    def complete(request: Request, now_ms: int) -> Request:
        stamp = str(now_ms)
        body = stamped(request.body, now_ms)
        target = f"{request.path}?{request.query}" if request.query else request.path
        text = f"{stamp}{request.method}{unquote(target)}{body.decode()}"
        headers = {
            **request.headers,
            "KC-API-KEY": key.key.get_secret_value(),
            "KC-API-SIGN": signature(secret, text),
            "KC-API-TIMESTAMP": stamp,
            "KC-API-PASSPHRASE": signed_passphrase,
            "KC-API-KEY-VERSION": KEY_VERSION,
            "Content-Type": "application/json",
        }
        return msgspec.structs.replace(request, headers=headers, body=body)

    return complete


def login(key: ApiKey, now_ms: int, ident: str) -> str:
    """The frame that logs a connection of a unified account in."""
    secret, stamp = key.secret.get_secret_value(), str(now_ms)
    frame = {
        "id": ident,
        "op": "auth",
        "kc-api-key": key.key.get_secret_value(),
        "kc-api-timestamp": stamp,
        "kc-api-sign": signature(secret, f"{stamp}{LOGIN_TEXT}"),
        "kc-api-passphrase": signature(secret, passphrase(key)),
    }
    return msgspec.json.encode(frame).decode()
