"""What a REST endpoint is: who may call it, what it reads, what it counts on, what is put round its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astra.sandbox import Account
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.wire import Envelope, Params

SIGNING_PARAMETERS = frozenset({"AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp", "Signature"})


class Call(msgspec.Struct, frozen=True):
    """A request that passed limits, authentication and the check of parameter names."""

    params: Params
    now_ms: int
    caller: Account | None = None
    items: tuple[Any, ...] = ()
    """The JSON array of a batch."""
    part: str = ""
    """What stood for `{id}` in the path."""

    @property
    def account(self) -> Account:
        """The account of a signed call."""
        if self.caller is None:
            raise LookupError("the endpoint asks for an account without asking for a signature")
        return self.caller


class Endpoint(msgspec.Struct, frozen=True):
    handler: Callable[[Call], Any]
    """Gives the data (or a `Whole` body). Raises `Refusal` or the engine's `Reject`."""
    envelope: Envelope
    counter: Counter
    accepts: frozenset[str] = frozenset()
    signed: bool = False
    command: bool = False
    """Places or cancels."""
    batch: bool = False
    """The body is an array."""


Routes = Mapping[tuple[str, str, str], Endpoint]
"""(host, method, path) -> endpoint; one part of the path may be `{id}`."""


class Router:
    """Finds endpoints by path."""

    def __init__(self, routes: Routes) -> None:
        self._plain = {key: endpoint for key, endpoint in routes.items() if "{id}" not in key[2]}
        self._patterns = [
            (host, method, re.compile(re.escape(path).replace(r"\{id\}", "([^/]+)")), endpoint)
            for (host, method, path), endpoint in routes.items()
            if "{id}" in path
        ]

    def find(self, host: str, method: str, path: str) -> tuple[Endpoint, str] | None:
        endpoint = self._plain.get((host, method, path))
        if endpoint is not None:
            return endpoint, ""
        for there, how, pattern, candidate in self._patterns:
            found = pattern.fullmatch(path) if (there, how) == (host, method) else None
            if found is not None:
                return candidate, found[1]
        return None


def names(text: str) -> frozenset[str]:
    """Parameter names, written with spaces between."""
    return frozenset(text.split())
