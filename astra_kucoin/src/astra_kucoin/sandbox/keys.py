"""Who is calling, and did he sign it: API keys, signatures, passphrases, the tokens of the classic sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from astra.sandbox import Account, Exchange, HttpRequest
from astra_kucoin.sandbox.limits import SandboxLimits
from astra_kucoin.sandbox.wire import Refusal

_HEADERS = ("kc-api-key", "kc-api-sign", "kc-api-timestamp", "kc-api-passphrase")
_KEY_VERSIONS = ("2", "3")
WS_LOGIN_TEXT = "POST/api/websocket/users/verify"
_MOST_TOKENS = 10_000


def signature(secret: str, text: bytes) -> str:
    """base64(HMAC-SHA256(secret, text))."""
    return base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()


def matches(secret: str, text: bytes, given: str) -> bool:
    return hmac.compare_digest(signature(secret, text).encode(), given.encode())


def rest_account(engine: Exchange, request: HttpRequest, now_ms: int, limits: SandboxLimits) -> Account:
    """The account that signed the request.

    The query is signed unescaped and sent escaped, so both spellings of the target are tried.
    """
    headers = request.headers
    if any(not headers.get(name) for name in _HEADERS):
        wanted = "KC-API-KEY, KC-API-SIGN, KC-API-TIMESTAMP, KC-API-PASSPHRASE"
        raise Refusal("400001", f"Please check the header of your request for {wanted}.", status=400)
    key, sign, timestamp, passphrase = (headers[name] for name in _HEADERS)
    account = known_account(engine, key)
    check_time(timestamp, now_ms, limits)
    check_passphrase(account, passphrase, headers.get("kc-api-key-version", "1"))
    start = f"{timestamp}{request.method}".encode()
    targets = dict.fromkeys((unquote(request.target), request.target))
    if not any(matches(account.secret, start + target.encode() + request.body, sign) for target in targets):
        raise Refusal("400005", "Invalid KC-API-SIGN", status=401)
    return account


def known_account(engine: Exchange, key: str) -> Account:
    account = engine.account_of(key)
    if account is None:
        raise Refusal("400003", "KC-API-KEY not exists", status=401)
    return account


def check_time(text: str, now_ms: int, limits: SandboxLimits) -> None:
    if not (text.isascii() and text.isdigit()) or abs(int(text) - now_ms) > limits.timestamp_within_ms:
        raise Refusal("400002", "Invalid KC-API-TIMESTAMP", status=400)


def check_passphrase(account: Account, given: str, version: str = "3") -> None:
    """Key versions 2 and 3 send it signed; version 1, which sent it in clear, is withdrawn."""
    wanted = (account.passphrase or "").encode()
    if version not in _KEY_VERSIONS or not matches(account.secret, wanted, given):
        raise Refusal("400004", "Invalid KC-API-PASSPHRASE", status=401)


def check_permission(account: Account, permission: str) -> None:
    """`Account.settings["permissions"]`, a list, restricts the key; without it the key may do everything."""
    allowed = account.settings.get("permissions")
    if allowed is not None and permission not in allowed:
        raise Refusal("400007", "Access denied, require more permission.", status=403)


def login_account(engine: Exchange, frame: Mapping[str, object], now_ms: int, limits: SandboxLimits) -> Account:
    """The account of the `auth` frame of the unified private socket."""
    key, timestamp, sign, passphrase = (
        str(frame.get(f"kc-api-{name}", "")) for name in ("key", "timestamp", "sign", "passphrase")
    )
    account = known_account(engine, key)
    check_time(timestamp, now_ms, limits)
    check_passphrase(account, passphrase)
    if not matches(account.secret, (timestamp + WS_LOGIN_TEXT).encode(), sign):
        raise Refusal("400005", "Invalid KC-API-SIGN", status=401)
    return account


class Token(msgspec.Struct, frozen=True):
    host: str
    account: Account | None
    expires: int


class Tokens:
    """The tokens ("bullets") that open classic sockets, and in its older way the unified private one."""

    def __init__(self, life_ms: int) -> None:
        self._life_ms = life_ms
        self._tokens: dict[str, Token] = {}
        self._made = 0

    def issue(self, host: str, account: Account | None, now_ms: int) -> str:
        self._made += 1
        if len(self._tokens) >= _MOST_TOKENS:
            self._tokens = {text: token for text, token in self._tokens.items() if token.expires > now_ms}
        seed = f"{host}/{'' if account is None else account.secret}/{now_ms}/{self._made}"
        digest = hashlib.sha512(seed.encode()).digest()
        text = f"2neAiuYvAU{base64.urlsafe_b64encode(digest).decode()}.{base64.urlsafe_b64encode(digest[:16]).decode()}"
        self._tokens[text] = Token(host, account, now_ms + self._life_ms)
        return text

    def find(self, text: str, host: str, now_ms: int) -> Token | None:
        """The token, if it is good for the host. Those of spot and futures are not interchangeable."""
        token = self._tokens.get(text)
        if token is None or token.host != host or token.expires <= now_ms:
            return None
        return token
