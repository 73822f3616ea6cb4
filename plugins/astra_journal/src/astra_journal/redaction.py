"""Secrets stay out of the journal, wherever a venue or a caller repeats them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from astra.models.credentials import Credentials

STARS = "***"
SHORTEST = 6
"""A shorter value is no secret worth the name, and may be any word (a passphrase "BUY")."""


def secrets_of(credentials: Credentials) -> list[str]:
    """Every value of the credentials that must not be written, the longest first."""
    values = {
        secret.get_secret_value()
        for key in credentials.keys.values()
        for secret in (key.key, key.secret, key.passphrase)
        if secret is not None
    }
    # A PEM key is repeated line by line, too.
    lines = {line.strip() for value in values for line in value.splitlines() if not line.startswith("-----")}
    return sorted((value for value in values | lines if len(value) >= SHORTEST), key=len, reverse=True)


def redacted(value: Any, secrets: list[str]) -> Any:
    """The value with stars for every secret within its texts."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, STARS)
        return value
    if isinstance(value, Mapping):
        return {redacted(key, secrets): redacted(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner, secrets) for inner in value]
    return value


def key_id(credentials: Credentials) -> str:
    """Which keys these are, without saying them: tells whether an account's name still means the same account."""
    digest = hashlib.sha256(b"astra-journal\0")
    for product, key in sorted(credentials.keys.items()):
        digest.update(f"{product}\0{key.key.get_secret_value()}\0".encode())
    return digest.hexdigest()[:16]
