"""A loaded plugin as the application calls it: its own host, its own hook manager, and for a venue the way in.

Every venue instance sits alone in a hook manager, so that a call can never reach another venue, behind the configured
middleware. What leaves for the venue is checked last of all: whatever middleware made of it, it is this venue's market
and this venue's credentials.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import anyio
import pluggy
from pydantic import BaseModel, ValidationError

from astra.directory import canonical_exchange
from astra.errors import (
    AuthenticationError,
    BadRequest,
    InvalidOrder,
    PluginError,
    UnsupportedOperation,
    hint,
)
from astra.hookspecs import PROJECT, LifecycleSpecs, VenueSpecs
from astra.middleware import ARGUMENTS, OPERATIONS, compose, tell_resolved
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order, OrderChange, OrderOptions, OrderRequest
from astra.models.protocols import Clock, Host
from astra.plugins import TRANSPORTS, capabilities, hook_faults, spec_functions
from astra.streams.hub import LiveBook
from astra.trading.checks import ClientIdRule, check_change, check_order
from astra.trading.commands import Commands
from astra.venue import MarketTable

if TYPE_CHECKING:
    from types import FunctionType

    from astra.app import Astra

logger = logging.getLogger("astra")

ANY_CLIENT_ID = ClientIdRule(max_length=32, alphabet="A-Za-z0-9")
"""The client order ids of a venue that states no rule."""

SHUTDOWN_S = 10.0
"""A plugin's shutdown is waited for this long at most."""

RESOLVE_S = 10.0
"""What became of a command whose answer is lost is looked for this long by default."""


class HookManager(pluggy.PluginManager):
    """pluggy's manager, strict about the contract: what does not keep it is refused by name, nothing else suffers.

    Hosts add the hook specs of their own kind with `add_hookspecs`; a registered plugin that breaks them is
    unregistered and stands in `rejected` with the reason.
    """

    def __init__(self, label: str, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(PROJECT)
        self.specs: dict[str, FunctionType] = {}
        self.rejected: dict[str, str] = {}
        self._label = label
        if trace is not None:
            self.add_hookcall_monitoring(
                lambda name, impls, arguments: trace(self._traced(name, arguments)) if impls else None,
                lambda outcome, name, impls, arguments: None,
            )

    def adopt(self, plugin: Any, name: str) -> None:
        """Register a plugin that keeps the contract. Raises `PluginError` with what is wrong otherwise."""
        faults = list(hook_faults(plugin, self.specs, unknown_allowed=True))
        if faults:
            raise PluginError(f"{name}: {'; '.join(faults)}")
        self.register(plugin, name)

    def bound(self, hook: str, plugin: Any, host: Host) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """One plugin's implementation (if any) of a hook that takes the host, ready to be called."""
        return [
            functools.partial(
                cast("Callable[..., Coroutine[Any, Any, None]]", impl.function), *([host] * len(impl.argnames))
            )
            for impl in getattr(self.hook, hook).get_hookimpls()
            if impl.plugin is plugin
        ]

    async def start_up(self, plugin: Any, host: Host) -> None:
        """Tell one registered plugin that it was loaded."""
        for startup in self.bound("startup", plugin, host):
            await startup()

    async def shut_down(self, plugin: Any, host: Host) -> None:
        """Let one registered plugin release everything, whatever is cancelled meanwhile, within `SHUTDOWN_S`.

        A failure is logged: nothing that ends waits for it, and all others must end, too.
        """
        name = self.get_name(plugin)
        for shutdown in self.bound("shutdown", plugin, host):
            with anyio.move_on_after(SHUTDOWN_S, shield=True) as scope:
                try:
                    await shutdown()
                except Exception:
                    logger.exception("%s did not shut down cleanly", name)
            if scope.cancelled_caught:
                logger.error("%s did not shut down within %g s", name, SHUTDOWN_S)

    def add_hookspecs(self, module_or_class: Any) -> None:
        """Add hook specs. Plugins registered before that break them are unregistered and reported."""
        added = spec_functions(module_or_class)
        for name, plugin in self.list_name_plugin():
            faults = list(hook_faults(plugin, added, unknown_allowed=True))
            if faults:
                self.unregister(plugin)
                self.rejected[name] = "; ".join(faults)
                logger.error("plugin %s is left out: %s", name, self.rejected[name])
        super().add_hookspecs(module_or_class)
        self.specs |= added

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        # pluggy before 1.7 reads every attribute, and so runs the plugin's properties.
        found = inspect.getattr_static(plugin, name, None)
        if not inspect.isroutine(found):
            return None
        return super().parse_hookimpl_opts(plugin, name)

    def _traced(self, hook: str, arguments: Mapping[str, Any]) -> str:
        wanted = self.specs.get(hook)
        names = inspect.signature(wanted).parameters if wanted is not None else arguments
        shown = ", ".join(f"{name}={_shown(arguments[name])}" for name in names if name in arguments)
        return f"{self._label} {hook}({shown})"


def _shown(value: Any) -> str:
    """An argument of a hook call in a trace. Credentials are an account name and nothing else."""
    if isinstance(value, Credentials):
        return f"<{value.exchange} account {value.account!r}>"
    if isinstance(value, Market):
        return value.symbol
    if isinstance(value, AppHost):
        return "<host>"
    if isinstance(value, list | tuple):
        shown = ", ".join(_shown(item) for item in value[:10])
        return f"[{shown}{', ...' if len(value) > 10 else ''}]"
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}({value.model_dump_json(exclude_none=True)})"
    return repr(value)


class AppHost:
    """What the application offers to one plugin (implements `astra.models.protocols.Host`)."""

    def __init__(self, astra: Astra, name: str, section: Mapping[str, Any]) -> None:
        self._astra = astra
        self._name = name
        self._section = section

    @property
    def astra(self) -> Any:
        return self._astra

    @property
    def clock(self) -> Clock:
        return self._astra.clock

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._section

    def transport(self, name: str) -> Any:
        """The WebSocket transport called `name`; `auto` is picows on asyncio and httpx-ws elsewhere."""
        if name == "auto":
            name = "picows" if _on_asyncio() else "httpx-ws"
        return self._astra.plugins.load(TRANSPORTS, name)()

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str | None = None
    ) -> None:
        """Run `work(*args)` in the application's task group. Its failure is logged and ends nothing else."""
        self._astra.start_soon(work, *args, name=f"{self._name}: {name or getattr(work, '__qualname__', 'task')}")


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def contained(work: Callable[..., Coroutine[Any, Any, None]], args: Sequence[object], name: str) -> None:
    """Run a background task to its end. Its failure is told and ends here: one bug must not cancel all others."""
    try:
        await work(*args)
    except Exception:
        logger.exception("background task %s failed", name)


def construct(cls: Any, host: Host, settings: BaseModel | None) -> Any:
    """Make a plugin from its class.

    A class with a `settings_model` is made with the host and its settings, one without it with the host, and one
    without a constructor of its own with nothing.
    """
    if not isinstance(cls, type):
        return cls
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return cls()
    return cls(host) if settings is None else cls(host, settings)


def lifetimes(venue: Any) -> Callable[[Market, str], float | None]:
    """For how long a venue may still accept a command of a market and an operation; plugins need not derive from
    `Venue`."""
    of_operation: Callable[[Market, str], float | None] | None = getattr(venue, "operation_lifetime_s", None)
    if of_operation is not None:
        return of_operation
    of_all: Callable[[Market], float | None] = getattr(venue, "command_lifetime_s", lambda market: None)
    return lambda market, operation: of_all(market)


class VenueRoute:
    """A loaded venue behind its middleware. `call` and `stream` are the only ways to its hooks."""

    def __init__(
        self,
        code: str,
        venue: Any,
        host: Host,
        middleware: Sequence[Any],
        trace: Callable[[str], None] | None = None,
        resolve_s: float = RESOLVE_S,
    ) -> None:
        self.code = code
        self.venue = venue
        self.host = host
        self.manager = HookManager(code, trace)
        self.manager.add_hookspecs(VenueSpecs)
        self.manager.add_hookspecs(LifecycleSpecs)
        self.manager.adopt(venue, code)
        self.capabilities = capabilities(venue)
        table = getattr(venue, "markets", None)
        if not isinstance(table, MarketTable):
            table = MarketTable(code, self._load_markets, host.clock)
        self.table: MarketTable = table
        self.commands = Commands(
            code,
            {name: self._bare(name) for name, offered in self.capabilities.items() if offered},
            host.clock,
            watch=getattr(venue, "account_watch", None),
            id_rule=getattr(venue, "client_id_rule", lambda market: None),
            lifetime_s=lifetimes(venue),
            resolve_s=resolve_s,
            markets=table.all,
        )
        """Orders: the innermost layer of their operations."""
        self._middleware = middleware
        self._operations = {name: compose(middleware, name, self._innermost(name)) for name in OPERATIONS}

    def guards_singly(self, operation: str, batch: str) -> bool:
        """Does some middleware wrap the single operation only? A batch must then go through it one by one."""
        return any(hasattr(layer, operation) and not hasattr(layer, batch) for layer in self._middleware)

    async def startup(self) -> None:
        """Tell the venue that it was loaded."""
        await self.manager.start_up(self.venue, self.host)

    async def shutdown(self) -> None:
        """Let the venue release everything."""
        hub = getattr(self.venue, "running_hub", None)
        if hub is not None:
            hub.close()
        await self.manager.shut_down(self.venue, self.host)

    def require(self, operation: str) -> None:
        """Raise `UnsupportedOperation` unless the venue implements the operation."""
        if not self.capabilities[operation]:
            raise UnsupportedOperation(f"{self.code} does not offer {operation}", exchange=self.code)

    async def call(self, operation: str, *args: Any) -> Any:
        """Carry out an asynchronous operation, through the middleware."""
        self.require(operation)
        return await self._operations[operation](*args)

    def stream(self, operation: str, *args: Any) -> Any:
        """Open a stream, through the middleware."""
        self.require(operation)
        return self._operations[operation](*args)

    def live_book(self, symbol: str) -> LiveBook | None:
        """The running book of a market, if somebody streams it."""
        hub = getattr(self.venue, "running_hub", None)
        market = self.table.peek(symbol)
        if hub is None or market is None:
            return None
        book: LiveBook | None = hub.book_of(market)
        return book

    def prepared(self, market: Market, order: OrderRequest) -> OrderRequest:
        """The order as it goes through the middleware: with a client order id that the venue takes (a new one where
        the caller gave none) and with its options as the venue's own model.

        Raises `InvalidOrder` (rule "client-order-id" or "options") that says what would be valid."""
        options = self._options(order)
        rule_of = getattr(self.venue, "client_id_rule", None)
        rule: ClientIdRule = (rule_of(market) if rule_of is not None else None) or ANY_CLIENT_ID
        client_order_id = order.client_order_id
        if client_order_id is None:
            client_order_id = rule.make(self.host.astra.random, self.host.clock.wall_ns() // 1_000_000)
        else:
            rule.check(client_order_id, self.code)
        return order.model_copy(update={"client_order_id": client_order_id, "options": options})

    def _options(self, order: OrderRequest) -> OrderOptions | None:
        model: type[OrderOptions] | None = getattr(self.venue, "order_options", None)
        given = order.options
        if given is None or given == {}:
            return None
        if model is None:
            raise self._bad_options(f"{self.code} takes no order options")
        if isinstance(given, model):
            return given
        if isinstance(given, OrderOptions):
            raise self._bad_options(f"options are a {type(given).__name__}; {self.code} takes {model.__name__}")
        known = {name for field, info in model.model_fields.items() for name in (field, info.alias or field)}
        for name in given:
            if name not in known:
                raise self._bad_options(f"{self.code} has no order option {name!r}.{hint(name, known)}")
        try:
            return model.model_validate(given)
        except ValidationError as error:
            faults = [
                f"option {'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        raise self._bad_options("; ".join(faults))

    def _bad_options(self, message: str) -> InvalidOrder:
        return InvalidOrder(message, exchange=self.code, rule="options")

    def _innermost(self, operation: str) -> Callable[..., Any]:
        names = ARGUMENTS[operation]
        hook = getattr(self.manager.hook, operation)
        commands: Mapping[str, Callable[..., Any]] = {
            "list_markets": self.table.all,
            "place_order": self.commands.place,
            "place_orders": self.commands.place_batch,
            "cancel_order": self.commands.cancel,
            "cancel_orders": self.commands.cancel_batch,
            "cancel_all_orders": self.commands.cancel_all,
            "amend_order": self.commands.amend,
        }
        command = commands.get(operation)

        async def call(*args: Any) -> Any:
            arguments = dict(zip(names, args, strict=True))
            self._guard(arguments)
            if command is not None:
                return await command(*args)
            answer = await hook(**arguments)
            if "credentials" in arguments:
                self.commands.told(arguments["credentials"], answer)
            return answer

        def stream(*args: Any) -> Any:
            arguments = dict(zip(names, args, strict=True))
            self._guard(arguments)
            return hook(**arguments)

        return call if inspect.iscoroutinefunction(OPERATIONS[operation]) else stream

    def _bare(self, operation: str) -> Callable[..., Any]:
        """A hook without the middleware; positional arguments."""
        names, hook = ARGUMENTS[operation], getattr(self.manager.hook, operation)

        def call(*args: Any) -> Any:
            return hook(**dict(zip(names, args, strict=True)))

        return call

    async def resolve(
        self,
        market: Market,
        client_order_id: str,
        since: int | None,
        until: int | None,
        account: Credentials,
        timeout_s: float,
    ) -> Order | None:
        """What became of a placement, asked through the middleware, and told to it; see `Commands.resolve`."""
        self.require("resolve_order")
        ask = self._operations["resolve_order"]
        order = await self.commands.resolve(ask, market, client_order_id, since, account, timeout_s, until=until)
        await tell_resolved(self._middleware, market, client_order_id, order, account)
        return order

    def _guard(self, arguments: Mapping[str, Any]) -> None:
        """The last look before the venue: its own markets, its own keys, orders that keep the market's rules."""
        market = arguments.get("market")
        markets = [market] if isinstance(market, Market) else list(arguments.get("markets") or ())
        pairs = [*(arguments.get("orders") or ()), *(arguments.get("refs") or ())]
        for one in [*markets, *(one for one, _ in pairs)]:
            if one.exchange != self.code:
                raise BadRequest(f"{one.symbol} is no market of {self.code}: nothing was sent")
        credentials = arguments.get("credentials")
        if credentials is not None:
            self.check_credentials(credentials)
        order = arguments.get("order")
        if isinstance(market, Market) and isinstance(order, OrderRequest):
            check_order(market, order)
        change = arguments.get("change")
        if isinstance(market, Market) and isinstance(change, OrderChange):
            check_change(market, change)

    def check_credentials(self, credentials: Credentials) -> None:
        """Raise `AuthenticationError` unless the credentials are for this venue (a key must never be shown to another
        one) and each of their keys is for one of its products."""
        if canonical_exchange(credentials.exchange.upper()) != self.code:
            raise AuthenticationError(
                f"these are credentials of {credentials.exchange}, not of {self.code}: nothing was sent",
                exchange=self.code,
            )
        products = getattr(self.venue, "products", ())
        for product in credentials.keys:
            if product != "default" and products and product not in products:
                raise AuthenticationError(
                    f"account {credentials.account!r} has a key for {product!r}, which is none of the products "
                    f"{', '.join(products)}.{hint(product, products)}",
                    exchange=self.code,
                )

    async def _load_markets(self) -> Sequence[Market]:
        self.require("list_markets")
        markets: Sequence[Market] = await self.manager.hook.list_markets()
        return markets
