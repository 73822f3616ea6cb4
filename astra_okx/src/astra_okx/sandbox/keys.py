"""Who is calling, and did he sign it: key, passphrase, clock and HMAC-SHA256 in base64."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping

from astra.sandbox import Account, Exchange, HttpRequest
from astra_okx.sandbox.wire import Params, Refusal

WINDOW_MS = 30_000
LOGIN_PATH = "/users/self/verify"
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_SECONDS = re.compile(r"[0-9]{10}")
_REQUIRED = (("KEY", "50103"), ("PASSPHRASE", "50104"), ("SIGN", "50106"), ("TIMESTAMP", "50107"))
_KEY = re.compile(r"[A-Za-z0-9-]{1,64}")


def signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _denied(code: str, message: str) -> Refusal:
    return Refusal(code, message, status=401, bare=True)


def rest_account(engine: Exchange, request: HttpRequest, now_ms: int) -> Account:
    """The account that signed the request: timestamp + METHOD + path with query as sent + body, as they came."""
    headers = request.headers
    for name, code in _REQUIRED:
        if not headers.get(f"ok-access-{name.lower()}"):
            raise _denied(code, f"Request header “OK_ACCESS_{name}“ can't be empty.")
    account = _known(engine, headers)
    stamp = headers["ok-access-timestamp"]
    sent_ms = _milliseconds(stamp)
    if sent_ms is None:
        raise _denied("50112", "Invalid OK_ACCESS_TIMESTAMP")
    if abs(now_ms - sent_ms) > WINDOW_MS:
        raise _denied("50102", "Timestamp request expired")
    if not _equal(headers["ok-access-passphrase"], account.passphrase or ""):
        raise _denied("50105", "Request header “OK_ACCESS_PASSPHRASE“ incorrect.")
    signed = stamp + request.method + request.target + request.body.decode("utf-8", "replace")
    if not _equal(headers["ok-access-sign"], signature(account.secret, signed)):
        raise _denied("50113", "Invalid Sign")
    return account


def _known(engine: Exchange, headers: Mapping[str, str]) -> Account:
    key = headers["ok-access-key"]
    if not _KEY.fullmatch(key):
        raise _denied("50111", "Invalid OK_ACCESS_KEY")
    account = engine.account_of(key)
    if account is None:
        raise _denied("50119", "API key doesn't exist")
    demo = headers.get("x-simulated-trading", "0") == "1"
    if demo != bool(account.settings.get("demo", False)):
        raise _denied("50101", "APIKey does not match current environment.")
    return account


def _milliseconds(stamp: str) -> int | None:
    """UTC with exactly three decimals and Z, in ms; None for anything else."""
    if not _ISO.fullmatch(stamp):
        return None
    try:
        time = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    return (time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(milliseconds=1)


def check_permission(account: Account, wanted: str) -> None:
    """`Account.settings["perm"]` restricts a key ("read_only", "read_only,trade"); without it, it may do both."""
    if wanted not in account.settings.get("perm", "read_only,trade").split(","):
        raise Refusal("50120", "This API key doesn't have permission to use this function", status=401)


def login_account(engine: Exchange, params: Params, now_ms: int) -> Account:
    """The account of a WebSocket login: Unix seconds + GET + /users/self/verify. Raises `Refusal` with a 600xx code."""
    key, passphrase = params.text("apiKey"), params.text("passphrase")
    stamp, sign = params.text("timestamp"), params.text("sign")
    if key is None or passphrase is None or stamp is None or sign is None:
        raise Refusal("60009", "Login failed.")
    account = engine.account_of(key)
    if account is None:
        raise Refusal("60032", "API key doesn't exist")
    if not _SECONDS.fullmatch(stamp):
        raise Refusal("60004", "Invalid timestamp")
    if abs(now_ms - int(stamp) * 1000) > WINDOW_MS:
        raise Refusal("60006", "Timestamp request expired")
    if not _equal(passphrase, account.passphrase or ""):
        raise Refusal("60024", "Wrong passphrase")
    if not _equal(sign, signature(account.secret, f"{stamp}GET{LOGIN_PATH}")):
        raise Refusal("60007", "Invalid sign")
    return account
