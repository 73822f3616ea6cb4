"""What an endpoint is: who may call it, which parameters it reads, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astra.sandbox import Account
from astra_kraken.sandbox.wire import Params


class Call(msgspec.Struct, frozen=True):
    """A request that passed limits, authentication and the check of parameter names."""

    params: Params
    now_ms: int
    caller: Account | None = None
    tail: str = ""
    """What follows the endpoint in the path (`/tickers/PF_XBTUSD`)."""

    @property
    def account(self) -> Account:
        """The account of a private call."""
        if self.caller is None:
            raise LookupError("the endpoint asks for an account without asking for a key")
        return self.caller


class Endpoint(msgspec.Struct, frozen=True):
    handler: Callable[[Call], Any]
    """Gives the result: anything msgspec encodes. Raises the API's refusal or the engine's `Reject`."""
    accepts: frozenset[str] = frozenset()
    cost: int | Callable[[Params], int] = 1
    """On the counter of private calls; what the endpoint does to orders is counted elsewhere."""
    private: bool = True
    command: bool = False
    """Places, amends or cancels."""
    pool: str = "derivatives"
    """Whose budget pays (derivatives API)."""
    bare: bool = False
    """The answer has no envelope (`/api/history`)."""

    def cost_of(self, params: Params) -> int:
        return self.cost(params) if callable(self.cost) else self.cost


SpotRoutes = Mapping[str, Endpoint]
"""Method name of the path (`AddOrder`) -> endpoint."""
DerivativesRoutes = Mapping[tuple[str, str], Endpoint]
"""(HTTP method, path below the host) -> endpoint."""


def names(text: str) -> frozenset[str]:
    """Parameter names, written with spaces between."""
    return frozenset(text.split())
