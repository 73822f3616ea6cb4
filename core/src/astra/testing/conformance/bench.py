"""What checks work on: a venue's sandbox, applications pointed at it, accounts at its engine.

One sandbox serves all checks of a venue. Its books stand still unless a check lets them move; each check that trades
does so in accounts of its own, whose orders are withdrawn at its end, and faults are taken back.
"""

from __future__ import annotations

import errno
import importlib.metadata
import random
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any, Protocol

import anyio
import msgspec

from astra.app import Astra
from astra.errors import PluginError
from astra.models.credentials import Credentials
from astra.models.markets import Market, MarketStatus
from astra.models.orders import Order, OrderType, TimeInForce
from astra.models.trades import Side
from astra.plugins import capabilities
from astra.sandbox import (
    Account,
    EngineOrder,
    Exchange,
    Faults,
    HttpRequest,
    HttpResponse,
    NewOrder,
    Reject,
    SandboxVenue,
)
from astra.testing.conformance.catalogue import Mismatch, NotApplicable, fail
from astra.testing.conformance.segments import Segment, least, segments_of
from astra.testing.conformance.subjects import Subject

TESTING = "astra.testing"
SERVER = "sandbox"
MOST_WATCHED = 12
"""Books streamed at the same time."""
SOON_S = 10.0
"""Within this time a venue's stream is to tell what happened."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SandboxServer(Protocol):
    """The server behind the entry point `astra.testing`: `sandbox`, of the distribution `astra-sandbox`.

    An asynchronous context manager, made with the exchanges to run, `seed`, `pace` (of the order flow; 0: the books
    stand still) and `venues` (sandbox protocols beside the installed ones).
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def open_account(
        self, exchange: str, name: str, balances: Mapping[str, Mapping[str, Decimal]] | None = None
    ) -> Credentials: ...

    def engine(self, exchange: str) -> Exchange: ...

    def venue(self, exchange: str) -> SandboxVenue: ...

    def faults(self, exchange: str) -> Faults: ...

    def set_pace(self, exchange: str, pace: float) -> None: ...

    def failures(self, exchange: str) -> Sequence[Exception]: ...

    async def stop(self, exchange: str) -> None: ...

    async def start(self, exchange: str) -> None: ...


def server_class() -> Callable[..., AbstractAsyncContextManager[SandboxServer]]:
    """The sandbox server that is installed. Raises `PluginError` that says what to install."""
    found = {point.value: point for point in importlib.metadata.entry_points(group=TESTING, name=SERVER)}
    if not found:
        raise PluginError(
            "checking a venue against its sandbox takes the sandbox's server: python -m pip install astra-sandbox"
        )
    if len(found) > 1:
        raise PluginError(f"several sandbox servers are installed ({', '.join(found)}): uninstall all but one")
    (point,) = found.values()
    loaded: Callable[..., AbstractAsyncContextManager[SandboxServer]] = point.load()
    return loaded


class OfflineGuard:
    """Keeps what runs in the guarded thread on this machine: an audit hook that refuses all other connections.

    A venue whose host setting is overlooked would else be asked for real, with orders.
    """

    def __init__(self) -> None:
        self.thread: int | None = None
        self.refused: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "socket.connect" or self.thread is None or threading.get_ident() != self.thread:
            return
        address = args[1]
        if isinstance(address, tuple) and address and address[0] not in LOOPBACK:
            self.refused.append(f"{address[0]}:{address[1]}")
            raise OSError(errno.ENETUNREACH, f"the conformance kit refuses connections to {address[0]}")


class Trader:
    """An account of the sandbox, from both sides."""

    def __init__(self, credentials: Credentials, account: Account, engine: Exchange) -> None:
        self.credentials = credentials
        self.account = account
        self._engine = engine

    def orders(self, market: Market | None = None) -> Sequence[EngineOrder]:
        """All orders that the engine has of the account, oldest first."""
        return self._engine.orders(self.account, None if market is None else market.symbol)

    def only_order(self, market: Market) -> EngineOrder:
        """The one order that the account has placed in the market."""
        found = self.orders(market)
        if len(found) != 1:
            fail(f"{market.symbol}: expected exactly 1 order at the venue, seen {len(found)}")
        return found[0]

    def place(self, market: Market, side: Side, native: Decimal, price: Decimal | None, **more: Any) -> EngineOrder:
        """Place an order at the engine directly."""
        kind = OrderType.MARKET if price is None else OrderType.LIMIT
        order = NewOrder(market=market.symbol, side=side, type=kind, quantity=native, price=price, **more)
        try:
            return self._engine.place(self.account, order)
        except Reject as error:
            raise RuntimeError(
                f"the sandbox's engine refuses an order of the kit itself: {error.rule} {error}"
            ) from error

    def withdraw(self) -> None:
        """Cancel all open orders of the account."""
        for order in list(self._engine.open_orders(self.account)):
            self._engine.cancel(self.account, order.id)


class Bench:
    """A running venue to check. Made by `running_bench`."""

    def __init__(self, subject: Subject, guard: OfflineGuard) -> None:
        self.subject = subject
        self.guard = guard
        self.code = subject.code
        self.venue_class: Any = subject.venue()
        self.capabilities = capabilities(self.venue_class)
        self.server: SandboxServer
        self.engine: Exchange
        self.astra: Astra
        self.markets: Sequence[Market] = ()
        self.segments: Sequence[Segment] = ()
        self.crowd: Trader
        self.kept: dict[str, Any] = {}
        """What several checks look at and one has made."""
        self._traders: list[Trader] = []
        self._numbers = 0
        self._checks = 0
        self._stopped = False

    # -- what is there --------------------------------------------------------------------------------------------

    def has(self, hook: str) -> bool:
        return self.capabilities.get(hook, False)

    @property
    def watched(self) -> Sequence[Market]:
        """Markets to stream: the first of every segment, then others, up to `MOST_WATCHED`."""
        first = [segment.market for segment in self.segments]
        others = [market for segment in self.segments for market in segment.markets[1:]]
        return [*first, *others][:MOST_WATCHED]

    async def market(self, symbol: str) -> Market:
        """The venue's own word on a market."""
        return await self.astra.market(symbol)

    # -- applications ---------------------------------------------------------------------------------------------

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings that point an application at the sandbox; `more` concerns the venue, where it has such settings."""
        urls = self.server.settings["venues"][self.code]["hosts"]
        section = self.subject.section(urls)
        known = getattr(getattr(self.venue_class, "settings_model", None), "model_fields", {})
        quick: dict[str, Any] = {
            "streams": {"backoff_base_s": 0.1, "backoff_cap_s": 1.0, "linger_s": 0.1},
            "request_timeout_s": 4.0,
            **more,
        }
        section = {**{name: value for name, value in quick.items() if name in known}, **section}
        return {"venues": {self.code: section}}

    @asynccontextmanager
    async def application(self, *, resolve_s: float = 10.0, **more: Any) -> AsyncIterator[Astra]:
        """An application of its own, for checks that break things."""
        settings = {**self.settings(**more), "trading": {"resolve_s": resolve_s}}
        async with Astra(settings=settings, plugins=self.subject.plugins(), random=random.Random()) as astra:
            yield astra

    # -- accounts -------------------------------------------------------------------------------------------------

    def trader(self, balances: Mapping[str, Mapping[str, Decimal]] | None = None) -> Trader:
        """A new account (by default with ample funds of every asset); its orders are withdrawn after the check."""
        self._numbers += 1
        credentials = self.server.open_account(self.code, f"check{self._numbers}", balances)
        trader = Trader(credentials, self._account(credentials), self.engine)
        self._traders.append(trader)
        return trader

    def _account(self, credentials: Credentials) -> Account:
        for key in credentials.keys.values():
            account = self.engine.account_of(key.key.get_secret_value())
            if account is not None:
                return account
        raise RuntimeError("the sandbox's engine does not know the key of an account that it has just opened")

    # -- making things happen -------------------------------------------------------------------------------------

    @contextmanager
    def faults(self, **values: Any) -> Iterator[Faults]:
        """Faults of the sandbox while the block runs."""
        faults = self.server.faults(self.code)
        for name, value in values.items():
            setattr(faults, name, value)
        try:
            yield faults
        finally:
            clear(faults)

    @contextmanager
    def moving(self, pace: float = 0.5) -> Iterator[None]:
        """Let the crowd trade while the block runs."""
        self.server.set_pace(self.code, pace)
        try:
            yield
        finally:
            self.rest()

    def rest(self) -> None:
        """Let the books stand still."""
        self.server.set_pace(self.code, 0.0)

    async def stop(self) -> None:
        """Kill the venue's server."""
        self._stopped = True
        await self.server.stop(self.code)

    async def start(self) -> None:
        """Bring it back."""
        await self.server.start(self.code)
        self._stopped = False

    def top(self, market: Market) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)"""
        _, bids, asks = self.engine.depth(market.symbol, 1)
        if not bids or not asks:
            raise NotApplicable(f"the sandbox's book of {market.symbol} has an empty side")
        return bids[0].price, asks[0].price

    def alone(self, market: Market, side: Side, native: Decimal) -> Decimal:
        """Make the best level of a side hold one order of the crowd and nothing else; its price.

        Whoever was there is bought out: an order that takes no more than `native` then makes exactly one trade.
        """
        _, bids, asks = self.engine.depth(market.symbol, 1)
        levels = bids if side is Side.BUY else asks
        if not levels:
            raise NotApplicable(f"the sandbox's book of {market.symbol} has an empty side")
        price = levels[0].price
        everything = max(levels[0].quantity, least(market, price))
        self._taker.place(market, side.opposite, everything, price, time_in_force=TimeInForce.IOC)
        self.crowd.place(market, side, native, price)
        return price

    def take(self, market: Market, side: Side, native: Decimal, price: Decimal) -> None:
        """Let somebody take so much at the price."""
        self._taker.place(market, side, native, price, time_in_force=TimeInForce.IOC)

    def poke(self, market: Market) -> None:
        """Change the book of a market: one more order at its best bid, until the check ends."""
        bid, _ = self.top(market)
        self.crowd.place(market, Side.BUY, least(market, bid), bid)

    async def tidy(self) -> None:
        """After a check: nothing of it is left."""
        clear(self.server.faults(self.code))
        self.rest()
        if self._stopped:
            await self.start()
        for trader in (*self._traders, self.crowd, self._taker):
            trader.withdraw()
        self._traders.clear()
        self._checks += 1

    def _tell_clients_apart(self) -> None:
        """Each check is a client of its own to the venue: what one spends of the request limits no other one lacks."""
        venue = self.server.venue(self.code)
        http = venue.http

        def from_its_address(request: HttpRequest) -> HttpResponse:
            client = f"127.{self._checks >> 8 & 255}.{self._checks & 255}.1"
            return http(msgspec.structs.replace(request, client=client))

        venue.http = from_its_address  # type: ignore[method-assign]

    async def begin(self) -> None:
        """Once the sandbox runs: what the venue lists."""
        self.engine = self.server.engine(self.code)
        self._tell_clients_apart()
        self.crowd, self._taker = (
            Trader(credentials, self._account(credentials), self.engine)
            for credentials in (self.server.open_account(self.code, name) for name in ("crowd", "taker"))
        )
        self.markets = list(await self.astra.list_markets(self.code))
        listed = self.engine.markets
        tradable = [m for m in self.markets if m.status is MarketStatus.ACTIVE and m.symbol in listed]
        self.segments = segments_of(tradable)


def clear(faults: Faults) -> None:
    """Take all faults back."""
    fresh = Faults()
    for name in fresh.__struct_fields__:
        setattr(faults, name, getattr(fresh, name))


@asynccontextmanager
async def running_bench(subject: Subject, guard: OfflineGuard) -> AsyncIterator[Bench]:
    """A venue with its sandbox and an application on it, until the block ends."""
    assert subject.sandbox is not None
    bench = Bench(subject, guard)
    guard.thread = threading.get_ident()
    make = server_class()
    try:
        async with make([subject.code], seed=11, pace=0.0, venues=[subject.sandbox()]) as server:
            bench.server = server
            async with bench.application() as astra:
                bench.astra = astra
                await bench.begin()
                yield bench
    finally:
        guard.thread = None


async def comes(condition: Callable[[], object], timeout_s: float = SOON_S, *, every_s: float = 0.02) -> bool:
    """Wait until the condition holds; did it, in time?"""
    with anyio.move_on_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - what others' engines do is looked at from outside
            await anyio.sleep(every_s)
        return True
    return False


async def until(
    what: str, condition: Callable[[], object], timeout_s: float = SOON_S, *, every_s: float = 0.02
) -> None:
    """Wait until the condition holds; fail with `what` when it does not."""
    if not await comes(condition, timeout_s, every_s=every_s):
        raise Mismatch(f"{what}: not within {timeout_s:g} s")


def native_of(order: Order) -> Decimal | None:
    """An order's amount as the engine counts it."""
    return order.quantity if order.contracts is None else order.contracts


def names(markets: Collection[Market]) -> list[str]:
    return [market.symbol for market in markets]
