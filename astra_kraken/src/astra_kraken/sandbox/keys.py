"""Who is calling, and did he sign it: keys, nonces, tokens, challenges. One key pair serves both APIs here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping

import msgspec

from astra.sandbox import Account, Exchange, HttpRequest
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.limits import SandboxLimits
from astra_kraken.sandbox.wire import DerivativesRefusal, Params, SpotRefusal

_MOST_TOKENS = 1000
_LARGEST_NONCE = (1 << 64) - 1


def _hmac_sha512(secret: str, message: bytes) -> str:
    try:
        key = base64.b64decode(secret, validate=True)
    except binascii.Error:
        raise ValueError("the secret of a Kraken key is base64") from None
    return base64.b64encode(hmac.digest(key, message, "sha512")).decode()


def spot_signature(secret: str, path: str, nonce: str, body: bytes) -> str:
    """`API-Sign`: over the path and the hash of nonce and body."""
    return _hmac_sha512(secret, path.encode() + hashlib.sha256(nonce.encode() + body).digest())


def derivatives_signature(secret: str, path: str, nonce: str, post_data: str) -> str:
    """`Authent`: over the hash of the parameters as sent, the nonce and the path without `/derivatives`."""
    signed = post_data + nonce + path.removeprefix("/derivatives")
    return _hmac_sha512(secret, hashlib.sha256(signed.encode()).digest())


def challenge_signature(secret: str, challenge: str) -> str:
    """`signed_challenge` of the derivatives stream."""
    return _hmac_sha512(secret, hashlib.sha256(challenge.encode()).digest())


def post_data_of(request: HttpRequest) -> str:
    """What a derivatives request signs: query and body, as transmitted (of a batch with its `json=`)."""
    return request.query + request.body.decode("utf-8", "replace")


class _Token(msgspec.Struct, eq=False):
    account: Account
    expires: int
    holders: int = 0
    """Open private subscriptions made with it: while there is one it stays valid."""


class Keys:
    """Nonces and tokens of all accounts."""

    def __init__(self, engine: Exchange, limits: SandboxLimits) -> None:
        self._engine = engine
        self._limits = limits
        self._spot_nonces: dict[str, int] = {}
        self._derivatives_nonces: dict[str, int] = {}
        self._tokens: dict[str, _Token] = {}
        self._made = 0

    # --- Spot ---

    def spot_caller(self, request: HttpRequest, params: Params) -> Account:
        """Raises `SpotRefusal`: the key, then the signature, then the nonce is looked at."""
        account = self._engine.account_of(request.headers.get("api-key", ""))
        if account is None:
            raise SpotRefusal("EAPI:Invalid key")
        nonce = params.text("nonce") or ""
        expected = spot_signature(account.secret, request.path, nonce, request.body)
        if not hmac.compare_digest(expected, request.headers.get("api-sign", "")):
            raise SpotRefusal("EAPI:Invalid signature")
        if not (nonce.isascii() and nonce.isdecimal()) or int(nonce) > _LARGEST_NONCE:
            raise SpotRefusal("EAPI:Invalid nonce")
        if int(nonce) <= self._spot_nonces.get(account.key, -1):
            raise SpotRefusal("EAPI:Invalid nonce")
        self._spot_nonces[account.key] = int(nonce)
        return account

    def last_nonce(self, account: Account) -> int:
        return self._spot_nonces.get(account.key, 0)

    def make_token(self, account: Account, now_ms: int) -> str:
        """A token for private streams. The oldest that nobody holds are forgotten."""
        self._made += 1
        seed = f"{account.key}/{now_ms}/{self._made}".encode()
        text = base64.b64encode(hashlib.sha256(seed).digest()).decode().rstrip("=")
        self._tokens[text] = _Token(account, now_ms + self._limits.token_life_ms)
        if len(self._tokens) > _MOST_TOKENS:
            dead = [text for text, token in self._tokens.items() if not token.holders and token.expires <= now_ms]
            for token_text in dead:
                del self._tokens[token_text]
        return text

    def token_owner(self, text: object, now_ms: int) -> Account:
        """Whose token it is. Raises `SpotRefusal`."""
        token = self._tokens.get(text) if isinstance(text, str) else None
        if token is None:
            raise SpotRefusal("EAPI:Invalid token")
        if not token.holders and now_ms >= token.expires:
            raise SpotRefusal("ESession:Invalid session")
        return token.account

    def hold(self, text: str) -> None:
        """A private subscription was made with the token."""
        self._tokens[text].holders += 1

    def release(self, text: str) -> None:
        token = self._tokens.get(text)
        if token is not None:
            token.holders -= 1

    # --- derivatives ---

    def derivatives_caller(self, request: HttpRequest) -> Account:
        """Raises `DerivativesRefusal`. The nonce header is optional; where it is sent it must grow."""
        account = self._engine.account_of(request.headers.get("apikey", ""))
        if account is None:
            raise DerivativesRefusal("authenticationError")
        nonce = request.headers.get("nonce", "")
        expected = derivatives_signature(account.secret, request.path, nonce, post_data_of(request))
        if not hmac.compare_digest(expected, request.headers.get("authent", "")):
            raise DerivativesRefusal("authenticationError")
        if nonce:
            if not (nonce.isascii() and nonce.isdecimal()):
                raise DerivativesRefusal("authenticationError")
            last = self._derivatives_nonces.get(account.key, -1)
            if int(nonce) == last:
                raise DerivativesRefusal("nonceDuplicate")
            if int(nonce) < last:
                raise DerivativesRefusal("nonceBelowThreshold")
            self._derivatives_nonces[account.key] = int(nonce)
        return account

    def make_challenge(self) -> str:
        """The text that a connection of the derivatives stream has to sign."""
        self._made += 1
        return ids.uuid_of(ids.CHALLENGE, self._made)

    def challenged(self, frame: Mapping[str, object], challenges: Mapping[str, str]) -> Account | None:
        """Whose signature over a challenge of this connection a frame carries; None when it is nobody's.

        `challenges`: key -> challenge given out on the connection.
        """
        key, given, signed = (frame.get(name) for name in ("api_key", "original_challenge", "signed_challenge"))
        if not (isinstance(key, str) and isinstance(given, str) and isinstance(signed, str)):
            return None
        account = self._engine.account_of(key)
        if account is None or challenges.get(key) != given:
            return None
        return account if hmac.compare_digest(challenge_signature(account.secret, given), signed) else None


NowMs = Callable[[], int]
"""The venue's clock."""
