"""Signatures of REST requests and of the WebSocket log-in: HMAC-SHA256 in base64 (docs-v5, "REST Authentication",
"WebSocket Login")."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac

import msgspec

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey
from astra.net.http import Request, Sign

LOGIN_PATH = "/users/self/verify"


def signature(secret: str, text: str) -> str:
    """The signature of a text."""
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


def time_stamp(now_ms: int) -> str:
    """A time as the venue's REST API takes it: ISO 8601 in UTC with exactly three decimals."""
    moment = datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}Z"


def passphrase(key: ApiKey) -> str:
    """The passphrase that belongs to every key. Raises `AuthenticationError` where it is missing."""
    if key.passphrase is None:
        raise AuthenticationError("OKX keys have a passphrase, and none was given", exchange="OKX")
    return key.passphrase.get_secret_value()


def rest_sign(key: ApiKey, *, simulated: bool) -> Sign:
    """What completes a request at sending. Signed is time stamp + method + path with query + body, as sent.

    A request whose `expTime` header is a number of milliseconds gets that much after its time stamp as its deadline.
    """
    words = passphrase(key)

    def complete(request: Request, now_ms: int) -> Request:
        stamp = time_stamp(now_ms)
        target = f"{request.path}?{request.query}" if request.query else request.path
        text = f"{stamp}{request.method}{target}{request.body.decode()}"
        headers = {
            **request.headers,
            "OK-ACCESS-KEY": key.key.get_secret_value(),
            "OK-ACCESS-SIGN": signature(key.secret.get_secret_value(), text),
            "OK-ACCESS-TIMESTAMP": stamp,
            "OK-ACCESS-PASSPHRASE": words,
        }
        if EXPIRY in headers:
            headers[EXPIRY] = str(now_ms + int(headers[EXPIRY]))
        if simulated:
            headers[SIMULATED] = "1"
        if request.body:
            headers["Content-Type"] = "application/json"
        return msgspec.structs.replace(request, headers=headers)

    return complete


EXPIRY = "expTime"
SIMULATED = "x-simulated-trading"


def login(key: ApiKey, now_ms: int) -> str:
    """The frame that logs a connection in; its time stamp is in seconds."""
    stamp = str(now_ms // 1000)
    argument = {
        "apiKey": key.key.get_secret_value(),
        "passphrase": passphrase(key),
        "timestamp": stamp,
        "sign": signature(key.secret.get_secret_value(), f"{stamp}GET{LOGIN_PATH}"),
    }
    return msgspec.json.encode({"op": "login", "args": [argument]}).decode()
