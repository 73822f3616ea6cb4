"""Middleware: classes composed as an onion round every operation of a venue.

A middleware class has methods named like the venue hooks (`astra.hookspecs.VenueSpecs`), with the rest of the onion as
first argument:

    class OneAtATime:
        api_version = "1.0"

        async def place_order(self, call, market, order, credentials):
            if order.quantity is None:
                raise PermissionDenied("orders by amount are not allowed here", exchange=market.exchange)
            return await call(market, order, credentials)

Raising before `call` vetoes: nothing further in, the venue included, sees the operation, everything further out does.
Methods round `stream_*` hooks are plain functions, as those hooks are. Middleware sees orders and credentials; it is
active only where the configuration names it.

A middleware that keeps count of placements may have one method more:

    async def order_resolved(self, market, client_order_id, order, credentials): ...

It is told what `Astra.resolve_order` found out (`order` None: certainly not placed), by whichever way: the operation
`resolve_order` shows single questions to the venue only, and not what the account's stream told meanwhile.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from astra.errors import hint
from astra.hookspecs import LifecycleSpecs, VenueSpecs
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order
from astra.net.http import LAST_CHECKS
from astra.plugins import hook_faults, parameters, spec_functions

OPERATIONS = spec_functions(VenueSpecs)
"""Every operation of a venue that middleware may wrap: name -> spec."""
ARGUMENTS = {name: tuple(parameter.name for parameter in parameters(spec)) for name, spec in OPERATIONS.items()}
"""The arguments of each operation, in order."""


@contextmanager
def checked_before_sending(check: Callable[[], None]) -> Iterator[None]:
    """While the block runs, ask `check` again right before each of its commands leaves: an order may wait for half a
    minute for the venue's rate limit, and what allowed it may be gone by then. The `AstraError` that it raises refuses
    the command; nothing is sent. Cancels are not asked about.

        async def place_order(self, call, market, order, credentials):
            with checked_before_sending(self.check_switch):
                return await call(market, order, credentials)
    """
    token = LAST_CHECKS.set((*LAST_CHECKS.get(), check))
    try:
        yield
    finally:
        LAST_CHECKS.reset(token)


ORDER_RESOLVED = "order_resolved"
"""The method that is told what became of a placement."""
_RESOLVED_ARGUMENTS = ["market", "client_order_id", "order", "credentials"]


def wrapped_operations(middleware: Any) -> Sequence[str]:
    """The operations that a middleware (class or object) wraps."""
    return [name for name in OPERATIONS if callable(getattr(middleware, name, None))]


def compose(layers: Sequence[Any], operation: str, innermost: Callable[..., Any]) -> Callable[..., Any]:
    """The operation with the layers round it, the first one outermost."""
    call = innermost
    for layer in reversed(layers):
        method = getattr(layer, operation, None)
        if method is not None:
            call = functools.partial(method, call)
    return call


async def tell_resolved(
    layers: Sequence[Any], market: Market, client_order_id: str, order: Order | None, credentials: Credentials
) -> None:
    """Tell every layer that wants to know what became of a placement, the innermost first."""
    for layer in reversed(layers):
        told = getattr(layer, ORDER_RESOLVED, None)
        if told is not None:
            await told(market, client_order_id, order, credentials)


def middleware_faults(plugin: Any) -> Iterator[str]:
    """What is wrong with a middleware class, in words that its author can act on.

    Strict on purpose: a risk check that is never called because of a misspelt name is worse than none.
    """
    if not isinstance(plugin, type):
        yield f"must be a class, not {type(plugin).__name__}"
        return
    if not wrapped_operations(plugin):
        yield "wraps no operation: give it methods such as `async def place_order(self, call, market, order, ...)`"
    for name in dir(plugin):
        method = inspect.getattr_static(plugin, name, None)
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        given = [parameter.name for parameter in parameters(method)]
        if name in OPERATIONS:
            if hasattr(method, "astra_impl"):
                yield f"method {name} is marked @hookimpl, but middleware wraps the hook: remove the mark"
            expected = ["call", *ARGUMENTS[name]]
            if given != expected:
                yield f"method {name} takes ({', '.join(given)}); it must take ({', '.join(expected)})"
            wanted = inspect.iscoroutinefunction(OPERATIONS[name])
            if wanted != inspect.iscoroutinefunction(method):
                yield f"method {name} must be {'`async def`' if wanted else 'a plain `def`'}"
        elif name == ORDER_RESOLVED:
            if given != _RESOLVED_ARGUMENTS or not inspect.iscoroutinefunction(method):
                yield f"method {name} must be `async def {name}(self, {', '.join(_RESOLVED_ARGUMENTS)})`"
        elif given[:1] == ["call"]:
            yield f"method {name} wraps no operation that there is.{hint(name, OPERATIONS)}"
    yield from hook_faults(plugin, spec_functions(LifecycleSpecs), unknown_allowed=True)
