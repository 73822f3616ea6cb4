"""Who is calling, and did he sign it: signature version 2 of REST and derivatives sockets, 2.1 of Spot's.

What is signed: method, host, path and the parameters sorted by name, each on a line of its own.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from astra.sandbox import Account, Exchange

_TOLERANCE_MS = 300_000
_STAMP = "%Y-%m-%dT%H:%M:%S"
REAL_HOSTS = {"spot": "api.huobi.pro", "derivatives": "api.hbdm.com"}
"""The hosts that the sandbox stands in for: clients may sign these, or the one they call."""


class KeyRefused(Exception):
    """Why a signed request or login is not accepted, in the venue's words."""


def signing_hosts(host: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Host names that a client may have signed: the real one, or the one it called (without its port)."""
    called = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
    return REAL_HOSTS[host.partition("_")[0]], called.lower()


def canonical(params: Iterable[tuple[str, str]]) -> str:
    """The parameters as they are signed: sorted by name, percent-encoded."""
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(params))


def check_request(
    engine: Exchange, method: str, hosts: Iterable[str], path: str, query: Mapping[str, str], now_ms: int
) -> Account:
    """The account of a signed REST request; everything is in the query string."""
    fields = dict(query)
    signature = fields.pop("Signature", None)
    account = _check_fields(engine, fields, signature, "2", now_ms, lower=False)
    _check_signature(account, fields, signature or "", method, hosts, path, lower=False)
    return account


def check_login(
    engine: Exchange, hosts: Iterable[str], path: str, frame: Mapping[str, Any], now_ms: int, *, lower: bool
) -> Account:
    """The account of a WebSocket login: `lower` camel-case names and version 2.1 on Spot's sockets."""
    plain = ("accessKey", "signatureMethod", "signatureVersion", "timestamp")
    upper = ("AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp")
    fields = {name: str(frame[name]) for name in (plain if lower else upper) if frame.get(name) is not None}
    signature = frame.get("signature" if lower else "Signature")
    account = _check_fields(engine, fields, signature, "2.1" if lower else "2", now_ms, lower=lower)
    _check_signature(account, fields, str(signature), "GET", hosts, path, lower=lower)
    return account


def _check_fields(
    engine: Exchange, fields: Mapping[str, str], signature: Any, version: str, now_ms: int, *, lower: bool
) -> Account:
    key = fields.get("accessKey" if lower else "AccessKeyId")
    account = engine.account_of(key) if key else None
    if account is None:
        raise KeyRefused("Incorrect Access key [Access key错误]")
    if fields.get("signatureVersion" if lower else "SignatureVersion") != version:
        raise KeyRefused("Incorrect signature version [签名版本错误]")
    if fields.get("signatureMethod" if lower else "SignatureMethod") not in ("HmacSHA256", "Ed25519"):
        raise KeyRefused("Incorrect signature method [签名方法错误]")
    _check_time(fields.get("timestamp" if lower else "Timestamp", ""), now_ms)
    if not isinstance(signature, str) or not signature:
        raise KeyRefused("Verification failure [校验失败]")
    return account


def _check_time(stamp: str, now_ms: int) -> None:
    """Whole seconds of UTC without a zone, within five minutes of the venue's clock."""
    try:
        sent = datetime.datetime.strptime(stamp, _STAMP).replace(tzinfo=datetime.UTC)
    except ValueError:
        sent = None
    if sent is None or abs(sent.timestamp() * 1000 - now_ms) > _TOLERANCE_MS:
        raise KeyRefused("Invalid submission time or incorrect time format [无效的提交时间，或时间格式错误]")


def _check_signature(
    account: Account,
    fields: Mapping[str, str],
    signature: str,
    method: str,
    hosts: Iterable[str],
    path: str,
    *,
    lower: bool,
) -> None:
    query = canonical(fields.items())
    wanted = fields["signatureMethod" if lower else "SignatureMethod"]
    for host in hosts:
        payload = f"{method}\n{host}\n{path}\n{query}".encode()
        if (wanted == "Ed25519" and _is_ed25519(account, payload, signature)) or (
            wanted == "HmacSHA256" and hmac.compare_digest(signature_of(account.secret, payload), signature.encode())
        ):
            return
    raise KeyRefused("Verification failure [校验失败]")


def signature_of(secret: str, payload: bytes) -> bytes:
    return base64.b64encode(hmac.new(secret.encode(), payload, hashlib.sha256).digest())


def _is_ed25519(account: Account, payload: bytes, signature: str) -> bool:
    """An account registers its key as `settings["public_key"]`: base64 of the 32 bytes."""
    key = account.settings.get("public_key")
    if key is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(
            base64.b64decode(signature, validate=True), payload
        )
    except (InvalidSignature, binascii.Error):
        return False
    return True
