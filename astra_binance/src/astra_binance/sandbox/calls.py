"""What a REST endpoint is: who may call it, which parameters it reads, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import msgspec

from astra.sandbox import Account
from astra_binance.sandbox.wire import Family, Params

SIGNING_PARAMETERS = frozenset({"recvWindow", "timestamp", "signature"})


class Security(Enum):
    """What a caller must show."""

    NONE = "none"
    KEY = "key"
    SIGNED = "signed"


class Call(msgspec.Struct, frozen=True):
    """A request that passed limits, authentication and the check of parameter names."""

    family: Family
    params: Params
    now_ms: int
    caller: Account | None = None

    @property
    def account(self) -> Account:
        """The account of a keyed or signed call."""
        if self.caller is None:
            raise LookupError("the endpoint asks for an account without asking for a key")
        return self.caller


class Endpoint(msgspec.Struct, frozen=True):
    handler: Callable[[Call], Any]
    """Gives the body: anything msgspec encodes. Raises `Refusal` or the engine's `Reject`."""
    accepts: frozenset[str] = frozenset()
    weight: int | Callable[[Params], int] = 1
    security: Security = Security.NONE
    orders: bool | Callable[[Params], int] = False
    """Counts on the order counters (as one, or as many as the function says)."""
    command: bool = False
    """Places, amends or cancels."""
    free_on_success: bool = False

    @property
    def known_parameters(self) -> frozenset[str]:
        return self.accepts | SIGNING_PARAMETERS if self.security is Security.SIGNED else self.accepts

    def weight_of(self, params: Params) -> int:
        return self.weight(params) if callable(self.weight) else self.weight

    def orders_of(self, params: Params) -> int:
        return self.orders(params) if callable(self.orders) else int(self.orders)


Routes = Mapping[tuple[Family, str, str], Endpoint]
"""(family, method, path) -> endpoint."""


def names(text: str) -> frozenset[str]:
    """Parameter names, written with spaces between."""
    return frozenset(text.split())
