"""Whose exchange account a request is for: the caller's keys from its headers, or an account of the server.

Keys from headers live as long as the request. They are never stored and never logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic import SecretStr
from starlette.requests import Request

from astra.errors import BadRequest
from astra.models.credentials import ApiKey, Credentials
from astra_gateway import openapi

KEY = "x-astra-exchange-key"
SECRET = "x-astra-exchange-secret"
PASSPHRASE = "x-astra-exchange-passphrase"
ACCOUNT = "x-astra-exchange-account"

PARAMETERS: Sequence[dict[str, Any]] = (
    openapi.header(KEY, "Your API key of the exchange: used for this request, never stored, never logged."),
    openapi.header(SECRET, "Its secret. A PEM key is sent with `\\n` written out."),
    openapi.header(PASSPHRASE, "Its passphrase, where the exchange has one."),
    openapi.header(ACCOUNT, "Without a key: the name of an account that is configured on the server."),
)


def account_of(request: Request, exchange: str) -> Credentials | str | None:
    """The caller's own credentials, or the name of a configured account, or None for the account `default`."""
    key, secret = request.headers.get(KEY), request.headers.get(SECRET)
    passphrase, account = request.headers.get(PASSPHRASE), request.headers.get(ACCOUNT)
    if account is not None and not 1 <= len(account) <= 100:
        raise BadRequest(f"header {ACCOUNT} must be an account's name")
    if key is None and secret is None:
        if passphrase is not None:
            raise BadRequest(f"header {PASSPHRASE} goes with {KEY} and {SECRET}")
        return account
    if not key or not secret:
        raise BadRequest(f"headers {KEY} and {SECRET} go together")
    one = ApiKey(
        key=SecretStr(key),
        secret=SecretStr(_unescaped(secret)),
        passphrase=None if passphrase is None else SecretStr(passphrase),
    )
    return Credentials(exchange=exchange, account=account or "request", keys={"default": one})


def identity_of(account: Credentials | str | None) -> str:
    """What tells accounts apart without giving a key away: for keys from headers a one-way hash."""
    if isinstance(account, Credentials):
        digest = hashlib.sha256()
        for key in account.keys.values():
            digest.update(key.key.get_secret_value().encode("utf-8", "surrogateescape"))
        return f"key:{digest.hexdigest()}"
    return f"account:{account or 'default'}"


def _unescaped(secret: str) -> str:
    """A PEM key cannot hold line breaks in a header: they come as `\\n`."""
    return secret.replace("\\n", "\n") if secret.startswith("-----BEGIN") else secret
