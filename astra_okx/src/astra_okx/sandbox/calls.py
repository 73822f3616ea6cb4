"""What a REST endpoint is: who may call it, which parameters it reads, how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astra.sandbox import Account
from astra_okx.sandbox.limits import Budget
from astra_okx.sandbox.wire import Params


class Call(msgspec.Struct, frozen=True):
    """A request that passed authentication, limits and the check of parameter names."""

    params: Params
    """The query of a GET, the object of a POST (empty where the body is a list: see `rows`)."""
    rows: tuple[Params, ...]
    """The elements of a list; of an object: the object itself."""
    now_ms: int
    caller: Account | None = None

    @property
    def account(self) -> Account:
        """The account of a signed call."""
        if self.caller is None:
            raise LookupError("the endpoint asks for an account without asking for a signature")
        return self.caller


class Endpoint(msgspec.Struct, frozen=True):
    handler: Callable[[Call], Any]
    """Gives the body: anything msgspec encodes. Raises `Refusal`."""
    accepts: frozenset[str] = frozenset()
    budget: Budget | None = None
    """What it is charged to; None: the handler charges itself."""
    signed: bool = True
    command: bool = False
    """Places, amends or cancels."""
    permission: str = "read_only"
    listed: bool = False
    """The body is a JSON list of objects."""
    deadline: bool = False
    """Reads the `expTime` header."""
    timed: bool = False
    """The answer carries `inTime` and `outTime`."""


Routes = Mapping[tuple[str, str], Endpoint]
"""(method, path below /api/v5) -> endpoint."""


def names(text: str) -> frozenset[str]:
    """Parameter names, written with spaces between."""
    return frozenset(text.split())
