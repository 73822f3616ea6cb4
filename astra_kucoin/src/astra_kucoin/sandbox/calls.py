"""What a REST endpoint is: who may call it, which parameters it reads, what it costs; and how it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astra.sandbox import Account
from astra_kucoin.sandbox.wire import Params, Refusal

CLASSIC = "CLASSIC"
UNIFIED = "UNIFIED"


def mode_of(account: Account) -> str:
    """Whether the account is a classic or a unified one."""
    return str(account.settings.get("mode", CLASSIC))


class Call(msgspec.Struct, frozen=True):
    """A request that passed limits, authentication and the check of parameter names."""

    params: Params
    path: Mapping[str, str]
    now_ms: int
    body: Any = None
    """The JSON body as decoded, for the calls whose body is not an object."""
    caller: Account | None = None

    @property
    def account(self) -> Account:
        """The account of a signed call."""
        if self.caller is None:
            raise LookupError("the endpoint asks for an account without asking for a key")
        return self.caller


class Endpoint(msgspec.Struct, frozen=True):
    handler: Callable[[Call], Any]
    """Gives `data` of the answer: anything msgspec encodes. Raises `Refusal` or the engine's `Reject`."""
    accepts: frozenset[str] = frozenset()
    pool: str | None = "PUBLIC"
    """The quota it draws on; None: it is not counted."""
    weight: int = 1
    permission: str | None = None
    """None: anybody may call it, unsigned."""
    mode: str | None = None
    """Which kind of account it serves; None: both."""
    command: bool = False
    """Places, amends or cancels."""
    in_body: bool = False
    """Parameters come in a JSON body, not in the query."""
    listed: bool = False
    """The body is a JSON array."""


def names(text: str) -> frozenset[str]:
    """Parameter names, written with spaces between."""
    return frozenset(text.split())


Routes = Mapping[tuple[str, str, str], Endpoint]
"""(host, method, path) -> endpoint; a path may hold `{name}` for one of its parts."""


class Router:
    """Finds endpoints: a path without variable parts goes before one with."""

    def __init__(self, *tables: Routes) -> None:
        self._exact: dict[tuple[str, str, str], Endpoint] = {}
        self._shaped: dict[tuple[str, str, int], list[tuple[list[str], Endpoint]]] = {}
        for table in tables:
            for (host, method, path), endpoint in table.items():
                if "{" in path:
                    parts = path.split("/")
                    self._shaped.setdefault((host, method, len(parts)), []).append((parts, endpoint))
                else:
                    self._exact[host, method, path] = endpoint

    def find(self, host: str, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        exact = self._exact.get((host, method, path))
        if exact is not None:
            return exact, {}
        parts = path.split("/")
        for shape, endpoint in self._shaped.get((host, method, len(parts)), ()):
            found: dict[str, str] = {}
            for wanted, part in zip(shape, parts, strict=True):
                if wanted.startswith("{") and part:
                    found[wanted[1:-1]] = part
                elif wanted != part:
                    break
            else:
                return endpoint, found
        return None


def no_such_path() -> Refusal:
    return Refusal("404", "URL not found", status=404)
