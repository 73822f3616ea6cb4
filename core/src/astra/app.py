"""The library front-end: one object, a method per operation, whatever venues are installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from astra.errors import (
    AstraError,
    BadRequest,
    ConfigError,
    PluginError,
    StreamClosed,
)

if TYPE_CHECKING:
    import random as _random
    from collections.abc import Awaitable, Callable, Coroutine
    from decimal import Decimal
    from pathlib import Path
    from types import TracebackType

    import anyio.abc

    from astra.config import Settings
    from astra.models.accounts import AccountEvent, Balance, Fees, Position
    from astra.models.credentials import Credentials
    from astra.models.markets import Market
    from astra.models.orderbook import Orderbook, OrderbookUpdate
    from astra.models.orders import Fill, MarginMode, Order, OrderChange, OrderRef, OrderRequest
    from astra.models.protocols import Clock
    from astra.models.trades import TradeEvent
    from astra.plugins import Plugins
    from astra.routing import HookManager, VenueRoute
    from astra.streams.hub import LiveBook
    from astra.streams.stream import MarketStream
    from astra.symbols import Symbol
    from astra.trading.deadman import DeadManSwitch

    AnyCredentials = Credentials | str | None
    """Whose account: credentials, the name of a configured account, or None for the account "default"."""

V = TypeVar("V")

MAX_DEPTH = 5000
DEFAULT_QUEUE = 4096


class Astra:
    """One API over the installed venues.

        async with Astra() as astra:
            book = await astra.get_orderbook("BINANCE-SPOT-BTC-USDT")
            async with astra.stream_orderbook("BINANCE-SPOT-BTC-USDT", "OKX-PERP-BTC-USDT") as stream:
                async for update in stream: ...

    Made from its arguments only: no file and no environment variable is read (`from_config` reads both). Several
    objects may live in one process; none installs signal handlers or configures logging. Venues are loaded when they
    are first used and shut down at the end.

    `settings`: a mapping nested like `astra.toml`, or `Settings`. `credentials`: exchange accounts, found by exchange
    and account name. `clock` and `random` replace time and chance in tests.

    All methods raise `astra.errors`: `SymbolError` and `BadRequest` for malformed arguments, `UnknownExchange` for an
    exchange without a plugin, `UnsupportedOperation` where the venue lacks the operation, and `VenueError`s.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, Any] | Settings | None = None,
        credentials: Iterable[Credentials] = (),
        plugins: Plugins | None = None,
        clock: Clock | None = None,
        random: _random.Random | None = None,
    ) -> None:
        from random import SystemRandom

        from astra.config import settings_of
        from astra.credentials import Accounts
        from astra.hookspecs import FrontendSpecs
        from astra.net.clock import SystemClock
        from astra.plugins import Plugins
        from astra.routing import HookManager

        self.settings = settings_of(settings)
        self.plugins = plugins or Plugins(
            only=self.settings.plugins,
            block=self.settings.plugins_block,
            trace=_trace if self.settings.trace_plugins else None,
        )
        self.clock: Clock = clock or SystemClock()
        # The system's randomness: client order ids of forked processes must not be the same.
        self.random: _random.Random = random or SystemRandom()
        self.hooks: HookManager = HookManager("astra", self.plugins.trace)
        """Hooks of front-ends, and of everything with a life cycle. Hosts add the hook specs of their own kind."""
        self.hooks.add_hookspecs(FrontendSpecs)
        self._accounts = Accounts(credentials, self.settings, self.plugins)
        self._routes: dict[str, VenueRoute] = {}
        self._frontends: dict[str, Any] = {}
        self._middleware: list[Any] = []
        self._locks: dict[str, anyio.Lock] = {}
        self._shutdowns: list[Callable[[], Awaitable[None]]] = []
        self._tasks: anyio.abc.TaskGroup | None = None
        self._closed = False

    @classmethod
    def from_config(
        cls,
        path: Path | str | None = None,
        env: Mapping[str, str] = os.environ,
        overrides: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Self:
        """An object configured by `astra.toml` and `ASTRA_*` variables, see `astra.config`.

        Credentials are looked up in environment variables unless other stores are configured. `arguments` are those
        of the constructor. Raises `ConfigError`.
        """
        from astra.config import load_settings

        return cls(settings=load_settings(path, env, overrides), **arguments)

    # -- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        import anyio

        if self._tasks is not None or self._closed:
            raise StreamClosed("an Astra object is entered once; make a new one")
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        try:
            await self._start()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import anyio

        self._closed = True
        while self._shutdowns:
            await self._shutdowns.pop()()
        tasks, self._tasks = self._tasks, None
        assert tasks is not None
        tasks.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            await tasks.__aexit__(kind, error, trace)
        else:
            # Tasks catch their own failures, so the block's error need not be wrapped in a group with theirs.
            await tasks.__aexit__(None, None, None)

    async def _start(self) -> None:
        from astra.config import check_sections
        from astra.plugins import FRONTENDS, MIDDLEWARE, VENUES, PluginState

        settings, plugins = self.settings, self.plugins
        check_sections(settings, plugins)
        if settings.strict_plugins:
            if unmatched := plugins.unmatched():
                raise PluginError(f"strict_plugins: nothing installed is called {', '.join(unmatched)}")
            for info in (*plugins.load_all(VENUES), *plugins.load_all(FRONTENDS)):
                if info.state in (PluginState.FAILED, PluginState.DUPLICATE):
                    raise PluginError(f"strict_plugins: {info.name} ({info.distribution}) {info.reason}")
        self._accounts.open_stores()
        for name in settings.middleware:
            if settings.middleware.count(name) > 1:
                raise ConfigError(f"middleware.order ({settings.origin('middleware.order')}): {name} stands twice")
            self._middleware.append(await self._started(MIDDLEWARE, name))

    async def _started(self, group: str, name: str) -> Any:
        """Load a middleware or front-end, register its hooks, tell it that it was loaded."""
        from astra.routing import AppHost, construct

        cls = self.plugins.load(group, name)
        kind = group.removeprefix("astra.")
        host = AppHost(self, f"{kind} {name}", self.settings.section(kind, name))
        model = getattr(cls, "settings_model", None)
        plugin = construct(cls, host, None if model is None else self.settings.validated(kind, name, model))
        self.hooks.adopt(plugin, f"{kind} {name}")
        self._shutdowns.append(lambda: self.hooks.shut_down(plugin, host))
        await self.hooks.start_up(plugin, host)
        return plugin

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str | None = None
    ) -> None:
        """Run `work(*args)` in this object's task group. Its failure is logged and ends nothing else."""
        from astra.routing import contained

        self._running().start_soon(contained, work, args, name or getattr(work, "__qualname__", "task"), name=name)

    def _running(self) -> anyio.abc.TaskGroup:
        if self._closed:
            raise StreamClosed("this Astra object is closed")
        if self._tasks is None:
            raise StreamClosed("enter the Astra object first: async with Astra(...) as astra: ...")
        return self._tasks

    # -- plugins ----------------------------------------------------------------------------------------------------

    def exchanges(self) -> Sequence[str]:
        """The codes of the installed venues (those that the configuration leaves out, and broken ones, aside)."""
        from astra.plugins import VENUES

        return self.plugins.names(VENUES)

    def loaded_venues(self) -> Mapping[str, VenueRoute]:
        """The venues in use, by exchange code: for those who look at their state and must not load any by looking."""
        return dict(self._routes)

    @overload
    async def venue(self, venue: type[V]) -> V: ...
    @overload
    async def venue(self, venue: str) -> Any: ...
    async def venue(self, venue: str | type[Any]) -> Any:
        """The venue itself, by exchange code or (typed) by its class, for what only it can do.

        Its hooks called directly pass no middleware and none of the checks made here.
        """
        if isinstance(venue, str):
            return (await self._route(venue)).venue
        code = getattr(venue, "code", None)
        if not isinstance(code, str):
            raise BadRequest(f"{venue.__name__} is no venue class: it has no exchange code")
        found = (await self._route(code)).venue
        if not isinstance(found, venue):
            raise PluginError(f"{code} is served by {type(found).__module__}.{type(found).__name__}, not by {venue}")
        return found

    async def frontend(self, name: str) -> Any:
        """A front-end: loaded, registered with `hooks` and started on first use."""
        import anyio

        from astra.plugins import FRONTENDS

        self._running()
        name = self.plugins.info(FRONTENDS, name).name
        async with self._locks.setdefault(f"{FRONTENDS} {name}", anyio.Lock()):
            if name not in self._frontends:
                self._frontends[name] = await self._started(FRONTENDS, name)
            return self._frontends[name]

    async def serve(self, *names: str) -> None:
        """Run front-ends until cancelled: the named ones, by default all that are installed and selected.

        All are loaded before the first one serves, so that hosts find the others' hooks. Of the default set a broken
        one is reported (see `plugins`) and left out.
        """
        import anyio

        from astra.plugins import FRONTENDS
        from astra.routing import AppHost, logger

        for name in names or self.plugins.names(FRONTENDS):
            try:
                await self.frontend(name)
            except PluginError as error:
                if names:
                    raise
                logger.error("%s", error)
        async with anyio.create_task_group() as tasks:
            for name, plugin in self._frontends.items():
                host = AppHost(self, f"frontends {name}", self.settings.section("frontends", name))
                for serve in self.hooks.bound("serve", plugin, host):
                    tasks.start_soon(serve, name=f"serve {name}")

    async def _route(self, exchange: str) -> VenueRoute:
        """The way to a venue; loads and starts it on first use, once however many ask at the same time."""
        import anyio

        from astra.plugins import VENUES
        from astra.routing import AppHost, VenueRoute, construct

        self._running()
        if route := self._routes.get(exchange):
            return route
        cls = self.plugins.load(VENUES, exchange)
        code = self.plugins.info(VENUES, exchange).name
        async with self._locks.setdefault(code, anyio.Lock()):
            if route := self._routes.get(code):
                return route
            self._running()
            host = AppHost(self, code, self.settings.section("venues", code))
            model = getattr(cls, "settings_model", None)
            settings = None if model is None else self.settings.validated("venues", code, model)
            try:
                venue = construct(cls, host, settings)
                resolve_s = self.settings.trading.resolve_s
                route = VenueRoute(code, venue, host, self._middleware, self.plugins.trace, resolve_s)
                try:
                    await route.startup()
                    self._running()
                except BaseException:
                    await route.shutdown()
                    raise
            except AstraError:
                raise
            except Exception as error:
                raise PluginError(f"venue {code} failed to start: {type(error).__name__}: {error}") from error
            self._shutdowns.append(route.shutdown)
            self._routes[code] = route
            return route

    # -- market data ------------------------------------------------------------------------------------------------

    async def list_markets(self, exchange: str) -> Sequence[Market]:
        """All markets of an exchange that Astra supports, from a list kept fresh in the background."""
        route = await self._route(exchange)
        markets: Sequence[Market] = await route.call("list_markets")
        return markets

    async def market(self, symbol: str) -> Market:
        """A market's metadata. Raises `MarketNotFound` with the nearest symbol."""
        return (await self._market(symbol))[1]

    async def get_orderbook(self, symbol: str, depth: int = 100, credentials: AnyCredentials = None) -> Orderbook:
        """A snapshot of a book with at least `depth` levels a side (1 to 5000), or all that the venue gives.

        Without `credentials` the call is anonymous; the few venues that want a key for depth say so.
        """
        parsed = _parse(symbol)
        if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= MAX_DEPTH:
            raise BadRequest(f"depth {depth!r} must be a whole number from 1 to {MAX_DEPTH}")
        route, market = await self._located(parsed, "get_orderbook")
        account = None if credentials is None else await self._credentials(route, credentials)
        book: Orderbook = await route.call("get_orderbook", market, depth, account)
        return book

    def stream_orderbook(self, *symbols: str, max_queue: int = DEFAULT_QUEUE) -> MarketStream[OrderbookUpdate]:
        """A live book stream over any number of markets, of several venues: SNAPSHOT first, then UPDATEs, STALE
        whenever in doubt. Malformed symbols are refused here, unknown markets when the stream is entered.

        A consumer with `max_queue` items waiting is caught up by one SNAPSHOT for each market.
        """
        return self._stream("stream_orderbook", symbols, max_queue)

    def stream_trades(self, *symbols: str, max_queue: int = DEFAULT_QUEUE) -> MarketStream[TradeEvent]:
        """A live stream of public trades over any number of markets, with `Gap` and `Lagged` markers in line."""
        return self._stream("stream_trades", symbols, max_queue)

    def live_book(self, symbol: str) -> LiveBook | None:
        """The running book of a market, if somebody streams it; else None. Never waits."""
        parsed = _parse(symbol)
        self._running()
        route = self._routes.get(parsed.exchange)
        return None if route is None else route.live_book(str(parsed))

    def _stream(self, operation: str, symbols: Sequence[str], max_queue: int) -> MarketStream[Any]:
        from astra.streams.stream import MarketStream

        if not symbols:
            raise BadRequest("name at least one market to stream")
        wanted = {symbol: _parse(symbol) for symbol in symbols}
        self._running()

        async def resolve() -> Sequence[Any]:
            by_venue: dict[str, tuple[VenueRoute, dict[str, Market]]] = {}
            for symbol, parsed in wanted.items():
                route, market = await self._located(parsed, operation)
                by_venue.setdefault(route.code, (route, {}))[1][market.symbol] = market
                stream.also_called[symbol] = market.symbol
            return [route.stream(operation, list(markets.values())) for route, markets in by_venue.values()]

        stream: MarketStream[Any] = MarketStream.deferred(resolve, start_soon=self.start_soon, max_queue=max_queue)
        return stream

    # -- orders -----------------------------------------------------------------------------------------------------

    async def place_order(self, symbol: str, order: OrderRequest, credentials: AnyCredentials = None) -> Order:
        """Place one order, checked first against the market's steps and limits.

        Without a client order id the order gets one in the venue's format; it is in the answer and in errors.

        A lost answer is resolved: the order is looked for at the venue, and in the account's stream where one runs,
        for `trading.resolve_s` seconds (10; 0: not at all). What is found is returned as if nothing had happened.
        `VenueUnavailable` says that the order certainly was not placed: the call may be repeated.
        `OrderOutcomeUnknown` says that it could not be told: never repeat the call then, ask `resolve_order`.

        Raises also `InvalidOrder` (nothing was sent, or the venue refused), `InsufficientFunds`, and
        `DuplicateClientOrderId` for an id under which an order of this object may be alive.
        """
        _check_request(order)
        route, market = await self._market(symbol, "place_order")
        account = await self._credentials(route, credentials)
        placed: Order = await route.call("place_order", market, route.prepared(market, order), account)
        return placed

    async def place_orders(
        self, orders: Sequence[tuple[str, OrderRequest]], credentials: AnyCredentials = None
    ) -> Sequence[Order | Exception]:
        """Place several orders at one exchange in one request, where the venue takes batches.

        Each position of the answer holds its order or the error that refused it. Where a middleware wraps single
        placements only, the orders are placed one after the other through it.
        """
        if not orders:
            raise BadRequest("name at least one order to place")
        parsed = [_parse(symbol) for symbol, _ in orders]
        if len({symbol.exchange for symbol in parsed}) > 1:
            raise BadRequest("orders of one call must all be for one exchange")
        for _, order in orders:
            _check_request(order)
        route = await self._route(parsed[0].exchange)
        route.require("place_orders")
        account = await self._credentials(route, credentials)
        answers: dict[int, Order | Exception] = {}
        ready: list[tuple[int, Market, OrderRequest]] = []
        for place, (symbol, (_, order)) in enumerate(zip(parsed, orders, strict=True)):
            try:
                market = await route.table.get(str(symbol))
                ready.append((place, market, route.prepared(market, order)))
            except AstraError as error:
                answers[place] = error
        if route.guards_singly("place_order", "place_orders"):
            for place, market, order in ready:
                try:
                    answers[place] = await route.call("place_order", market, order, account)
                except AstraError as error:
                    answers[place] = error
        elif ready:
            placed = await route.call("place_orders", [(market, order) for _, market, order in ready], account)
            answers |= zip((place for place, _, _ in ready), placed, strict=True)
        return [answers[place] for place in sorted(answers)]

    async def get_order(
        self,
        symbol: str,
        *,
        client_order_id: str | None = None,
        id: str | None = None,  # noqa: A002 (the field's name)
        credentials: AnyCredentials = None,
    ) -> Order:
        """One own order, by client order id or by the venue's id. Raises `OrderNotFound`."""
        ref = _ref(client_order_id, id)
        route, market = await self._market(symbol, "get_order")
        order: Order = await route.call("get_order", market, ref, await self._credentials(route, credentials))
        return order

    async def cancel_order(
        self,
        symbol: str,
        *,
        client_order_id: str | None = None,
        id: str | None = None,  # noqa: A002
        credentials: AnyCredentials = None,
    ) -> Order:
        """Cancel one order. Raises `OrderNotFound` when it is not open.

        After a lost answer the order is looked at for `trading.resolve_s` seconds: one that is done is returned,
        however it ended. `VenueUnavailable`: it is open, and the cancel can no longer arrive. `OrderOutcomeUnknown`:
        that could not be told.
        """
        ref = _ref(client_order_id, id)
        route, market = await self._market(symbol, "cancel_order")
        order: Order = await route.call("cancel_order", market, ref, await self._credentials(route, credentials))
        return order

    async def cancel_orders(
        self, refs: Sequence[tuple[str, OrderRef]], credentials: AnyCredentials = None
    ) -> Sequence[Order | Exception]:
        """Cancel several orders at one exchange in one request, where the venue takes batches.

        Each position of the answer holds what `cancel_order` would have returned or raised. Where a middleware wraps
        single cancels only, the orders are canceled one after the other through it.
        """
        from astra.models.orders import OrderRef

        if not refs:
            raise BadRequest("name at least one order to cancel")
        parsed = [_parse(symbol) for symbol, _ in refs]
        if len({symbol.exchange for symbol in parsed}) > 1:
            raise BadRequest("orders of one call must all be of one exchange")
        for _, ref in refs:
            if not isinstance(ref, OrderRef):
                raise BadRequest(f"name each order by an OrderRef, not by a {type(ref).__name__}")
        route = await self._route(parsed[0].exchange)
        route.require("cancel_orders")
        account = await self._credentials(route, credentials)
        answers: dict[int, Order | Exception] = {}
        ready: list[tuple[int, Market, OrderRef]] = []
        for place, (symbol, (_, ref)) in enumerate(zip(parsed, refs, strict=True)):
            try:
                ready.append((place, await route.table.get(str(symbol)), ref))
            except AstraError as error:
                answers[place] = error
        if route.guards_singly("cancel_order", "cancel_orders"):
            for place, market, ref in ready:
                try:
                    answers[place] = await route.call("cancel_order", market, ref, account)
                except AstraError as error:
                    answers[place] = error
        elif ready:
            canceled = await route.call("cancel_orders", [(market, ref) for _, market, ref in ready], account)
            answers |= zip((place for place, _, _ in ready), canceled, strict=True)
        return [answers[place] for place in sorted(answers)]

    async def amend_order(
        self,
        symbol: str,
        change: OrderChange,
        *,
        client_order_id: str | None = None,
        id: str | None = None,  # noqa: A002
        credentials: AnyCredentials = None,
    ) -> Order:
        """Change price or quantity of a resting order natively. Raises like `cancel_order`; after a lost answer the
        order is returned when it is as it was to become, or done."""
        from astra.models.orders import OrderChange

        if not isinstance(change, OrderChange):
            raise BadRequest(f"the change must be an OrderChange, not {type(change).__name__}")
        ref = _ref(client_order_id, id)
        route, market = await self._market(symbol, "amend_order")
        account = await self._credentials(route, credentials)
        order: Order = await route.call("amend_order", market, ref, change, account)
        return order

    async def cancel_all_orders(self, exchange_or_symbol: str, credentials: AnyCredentials = None) -> Sequence[Order]:
        """Cancel all open orders of a market or of an exchange; gives what the venue reports as canceled."""
        orders: Sequence[Order] = await self._account_call("cancel_all_orders", exchange_or_symbol, credentials)
        return orders

    async def list_orders(self, exchange_or_symbol: str, credentials: AnyCredentials = None) -> Sequence[Order]:
        """All open orders of a market or of an exchange, conditional ones included."""
        orders: Sequence[Order] = await self._account_call("list_orders", exchange_or_symbol, credentials)
        return orders

    async def list_fills(
        self,
        exchange_or_symbol: str,
        since: int | None = None,
        limit: int | None = None,
        credentials: AnyCredentials = None,
    ) -> Sequence[Fill]:
        """Own fills of a market or of an exchange, oldest first; `since` in ms (default: the venue's own window)."""
        _check_whole("since", since, 0)
        _check_whole("limit", limit, 1)
        fills: Sequence[Fill] = await self._account_call("list_fills", exchange_or_symbol, credentials, since, limit)
        return fills

    async def resolve_order(
        self,
        symbol: str,
        client_order_id: str,
        since: int | None = None,
        credentials: AnyCredentials = None,
        *,
        until: int | None = None,
        timeout_s: float = 10.0,
    ) -> Order | None:
        """What became of a placement whose answer was lost: the order, or None if it certainly was not placed.

        `since` is when it was sent (ms); where that is not known exactly, it left between `since` and `until`. This
        object remembers its own placements. Raises `OrderOutcomeUnknown` when that still cannot be told after
        `timeout_s`.
        """
        if not client_order_id:
            raise BadRequest("clientOrderId must not be empty")
        _check_whole("since", since, 0)
        _check_whole("until", until, 0 if since is None else since)
        route, market = await self._market(symbol, "resolve_order")
        account = await self._credentials(route, credentials)
        return await route.resolve(market, client_order_id, since, until, account, timeout_s)

    async def keep_alive_orders(
        self, exchange_or_symbol: str, timeout_s: float, credentials: AnyCredentials = None
    ) -> None:
        """Feed the venue's dead-man timer: it cancels all orders unless called again within `timeout_s`; 0 ends it."""
        if timeout_s < 0:
            raise BadRequest(f"timeout_s {timeout_s!r} must not be negative")
        await self._account_call("keep_alive_orders", exchange_or_symbol, credentials, timeout_s)

    def dead_man_switch(
        self,
        exchange_or_symbol: str,
        timeout_s: float = 30.0,
        credentials: AnyCredentials = None,
        *,
        raise_on_lapse: bool = True,
    ) -> DeadManSwitch:
        """The venue's dead-man timer of a market, or of an exchange, fed as long as the block runs:

            async with astra.dead_man_switch("BINANCE-PERP-BTC-USDT", timeout_s=30) as switch: ...

        A block that ends without an exception stops the timer; one that fails leaves it to run out, and the venue
        cancels the orders. `switch.healthy`, `.last_fed`, `.left_s` and `.error` say how it stands. When it could not
        be fed for `timeout_s` the block is cancelled and `DeadManLapsed` raised, unless `raise_on_lapse` is False.
        """
        from astra.trading.deadman import DeadManSwitch

        self._running()

        async def feed(seconds: float) -> None:
            await self.keep_alive_orders(exchange_or_symbol, seconds, credentials)

        exchange = exchange_or_symbol.partition("-")[0]
        return DeadManSwitch(feed, self.clock, exchange=exchange, timeout_s=timeout_s, raise_on_lapse=raise_on_lapse)

    # -- accounts ---------------------------------------------------------------------------------------------------

    async def get_balances(self, exchange: str, credentials: AnyCredentials = None) -> Sequence[Balance]:
        """Balances of all wallets; assets that the account does not hold are left out."""
        route = await self._route(exchange)
        route.require("get_balances")
        balances: Sequence[Balance] = await route.call("get_balances", await self._credentials(route, credentials))
        return balances

    async def get_positions(self, exchange: str, credentials: AnyCredentials = None) -> Sequence[Position]:
        """Open derivatives positions."""
        route = await self._route(exchange)
        route.require("get_positions")
        positions: Sequence[Position] = await route.call("get_positions", await self._credentials(route, credentials))
        return positions

    async def get_fees(self, exchange_or_symbol: str, credentials: AnyCredentials = None) -> Sequence[Fees]:
        """The account's fee rates at an exchange or in a market."""
        fees: Sequence[Fees] = await self._account_call("get_fees", exchange_or_symbol, credentials)
        return fees

    async def set_leverage(
        self, symbol: str, leverage: Decimal | int | str, credentials: AnyCredentials = None
    ) -> None:
        """Set the leverage of a derivatives market."""
        from decimal import Decimal, InvalidOperation

        try:
            exact = None if isinstance(leverage, float | bool) else Decimal(leverage)
        except (InvalidOperation, TypeError, ValueError):
            exact = None
        if exact is None or not exact.is_finite() or exact <= 0:
            raise BadRequest(f"leverage {leverage!r} must be a positive Decimal, int or decimal text")
        route, market = await self._market(symbol, "set_leverage")
        await route.call("set_leverage", market, exact, await self._credentials(route, credentials))

    async def set_margin_mode(self, symbol: str, mode: MarginMode | str, credentials: AnyCredentials = None) -> None:
        """Set cross or isolated margin for a market."""
        from astra.models.orders import MarginMode

        try:
            exact = MarginMode(mode.upper())
        except ValueError:
            raise BadRequest(f"margin mode {mode!r} is neither CROSS nor ISOLATED") from None
        route, market = await self._market(symbol, "set_margin_mode")
        await route.call("set_margin_mode", market, exact, await self._credentials(route, credentials))

    async def set_position_mode(self, exchange: str, hedge: bool, credentials: AnyCredentials = None) -> None:
        """Hedge mode (long and short side by side) on or off."""
        route = await self._route(exchange)
        route.require("set_position_mode")
        await route.call("set_position_mode", hedge, await self._credentials(route, credentials))

    def stream_account(self, exchange: str, credentials: AnyCredentials = None) -> MarketStream[AccountEvent]:
        """Own orders, fills, balances and positions as they change, compared with the venue by REST at the start, after
        every reconnect and now and then.

        First come the open orders, balances and positions; an `AccountStatus` that is `live` says that they are
        complete. One that is not says that the connection was lost; whatever was missed is told before the next one
        that is live. No fill is told twice. `stream.account_status` shows the state at any time.

        A consumer that falls behind by thousands of items is closed with `StreamClosed`: nothing is left out.
        """
        from astra.streams.stream import MarketStream, SlowPolicy
        from astra.venue import ACCOUNT_QUEUE

        self._running()

        async def resolve() -> Sequence[Any]:
            route = await self._route(exchange)
            route.require("stream_account")
            return [route.stream("stream_account", await self._credentials(route, credentials))]

        return MarketStream.deferred(
            resolve, start_soon=self.start_soon, max_queue=ACCOUNT_QUEUE, slow=SlowPolicy.RAISE
        )

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _market(self, symbol: str, operation: str | None = None) -> tuple[VenueRoute, Market]:
        return await self._located(_parse(symbol), operation)

    async def _located(self, symbol: Symbol, operation: str | None) -> tuple[VenueRoute, Market]:
        route = await self._route(symbol.exchange)
        if operation is not None:
            route.require(operation)
        return route, await route.table.get(str(symbol))

    async def _account_call(
        self, operation: str, exchange_or_symbol: str, credentials: AnyCredentials, *arguments: Any
    ) -> Any:
        """An operation of an account on a market, or on the whole exchange (market None)."""
        market: Market | None = None
        if "-" in exchange_or_symbol:
            route, market = await self._market(exchange_or_symbol, operation)
        else:
            route = await self._route(exchange_or_symbol)
            route.require(operation)
        return await route.call(operation, market, *arguments, await self._credentials(route, credentials))

    async def _credentials(self, route: VenueRoute, credentials: AnyCredentials) -> Credentials:
        """The credentials that are meant. Raises `AuthenticationError` that says what would provide them."""
        found = await self._accounts.credentials(route.code, credentials)
        route.check_credentials(found)
        return found


def _trace(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _parse(symbol: str) -> Symbol:
    from astra.symbols import Symbol

    if not isinstance(symbol, str):
        raise BadRequest(f"a market is named by its symbol, a text, not by {type(symbol).__name__}")
    return Symbol.parse(symbol)


def _ref(client_order_id: str | None, order_id: str | None) -> OrderRef:
    from astra.models.orders import OrderRef

    if bool(client_order_id) == bool(order_id):
        raise BadRequest("name the order by exactly one of id, clientOrderId")
    return OrderRef(client_order_id=client_order_id or None, id=order_id or None)


def _check_request(order: OrderRequest) -> None:
    from astra.models.orders import OrderRequest

    if not isinstance(order, OrderRequest):
        raise BadRequest(f"the order must be an OrderRequest, not {type(order).__name__}")


def _check_whole(name: str, value: int | None, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise BadRequest(f"{name} {value!r} must be a whole number, at least {least}")
