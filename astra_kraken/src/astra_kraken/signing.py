"""Signatures of Spot's and the derivatives' requests, and of the derivatives' log-in. Secrets are base64 texts.

Documents: docs.kraken.com guides "Spot REST Authentication", "Futures REST", "Futures WebSockets".
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request, Sign

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
CONTENT_TYPE = "Content-Type"


def secret_of(key: ApiKey, exchange: str = "KRAKEN") -> bytes:
    """The key's secret. Raises `AuthenticationError` when it is no base64 text."""
    try:
        return base64.b64decode(key.secret.get_secret_value().strip(), validate=True)
    except (binascii.Error, ValueError):
        # The library's message may quote the secret.
        raise AuthenticationError(
            "the secret is no base64 text: copy it as Kraken shows it", exchange=exchange
        ) from None


def _hmac(secret: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.new(secret, message, hashlib.sha512).digest()).decode()


def spot_signature(secret: bytes, path: str, nonce: str, body: bytes) -> str:
    """`API-Sign`: over the path and the hash of nonce and body, the body exactly as sent."""
    return _hmac(secret, path.encode() + hashlib.sha256(nonce.encode() + body).digest())


def derivatives_signature(secret: bytes, path: str, post_data: str, nonce: str = "") -> str:
    """`Authent`: over parameters (as encoded on the wire), nonce and path; `/derivatives` is no part of the path."""
    signed = path.removeprefix("/derivatives")
    return _hmac(secret, hashlib.sha256((post_data + nonce + signed).encode()).digest())


def challenge_signature(secret: bytes, challenge: str) -> str:
    """The answer to the challenge of the derivatives' stream."""
    return _hmac(secret, hashlib.sha256(challenge.encode()).digest())


def rfc3339(time_ms: int) -> str:
    """A time as both APIs take it: `2026-11-21T15:20:34.123Z`."""
    when = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def spot_sign(
    key: ApiKey, secret: bytes, next_nonce: Callable[[], int], window_ms: int, expiring: frozenset[str]
) -> Sign:
    """What completes a request of Spot at sending: `deadline` (requests to the paths in `expiring`), `nonce`, headers.

    There is no receive window: a deadline is what keeps a late placement from being accepted.
    """

    def complete(request: Request, now_ms: int) -> Request:
        nonce = str(next_nonce())
        deadline = rfc3339(now_ms + window_ms) if request.path in expiring else None
        content_type = request.headers.get(CONTENT_TYPE, FORM)
        if content_type == JSON:
            head = f'{{"nonce":"{nonce}"' + (f',"deadline":"{deadline}"' if deadline else "")
            rest = request.body[1:]
            body = head.encode() + (b"" if rest == b"}" else b",") + rest
        else:
            head = f"nonce={nonce}" + (f"&deadline={quote(deadline, safe='')}" if deadline else "")
            body = head.encode() + (b"&" if request.body else b"") + request.body
        headers = {
            **request.headers,
            CONTENT_TYPE: content_type,
            "API-Key": key.key.get_secret_value(),
            "API-Sign": spot_signature(secret, request.path, nonce, body),
        }
        return msgspec.structs.replace(request, body=body, headers=headers)

    return complete


def derivatives_sign(key: ApiKey, secret: bytes, window_ms: int, expiring: frozenset[str]) -> Sign:
    """What completes a request of the derivatives API at sending: `processBefore` (paths in `expiring`) and headers.

    No nonce is sent: the venue then wants none, and requests may overtake one another.
    """

    def complete(request: Request, now_ms: int) -> Request:
        query, body = request.query, request.body.decode()
        if request.path in expiring:
            before = f"processBefore={quote(rfc3339(now_ms + window_ms), safe='')}"
            body = f"{body}&{before}" if body else before
        headers = {
            **request.headers,
            "APIKey": key.key.get_secret_value(),
            "Authent": derivatives_signature(secret, request.path, query + body),
        }
        if body:
            headers[CONTENT_TYPE] = FORM
        return msgspec.structs.replace(request, body=body.encode(), headers=headers)

    return complete
