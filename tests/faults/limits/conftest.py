"""A venue's plugin against its sandbox in one process and in virtual time, under more demand than the limits allow.

What leaves the plugin is handed to the sandbox's protocol after a delay of its own, and the sandbox counts and refuses
as the venue would. `Ledger` keeps what it counted.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import ROUND_CEILING, Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

import anyio
import anyio.abc
import httpx
import pytest
import trio

from astra.errors import InvalidOrder, OrderOutcomeUnknown, RateLimited
from astra.models.credentials import Credentials
from astra.models.markets import Market, MarketStatus
from astra.models.orders import Order, OrderRef, OrderRequest
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra.sandbox import HttpRequest, SandboxVenue
from astra.testing import ManualClock, ManualHost
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds

HERE = "127.0.0.1"
LATENCY_S = (0.02, 0.15)
"""The shortest and the longest way of a request to the venue, and of its answer back."""
Call = Callable[[], Awaitable[object]]
Ready = Callable[[], bool]


@pytest.fixture
def anyio_backend() -> str:
    """Trio knows at once that all tasks wait, which the clock asks for thousands of times."""
    return "trio"


@pytest.fixture(autouse=True)
def tasks_run_in_the_same_order() -> None:
    """Trio draws which of the tasks that can go on goes first: what fails once must fail again."""
    trio._core._run._r.seed(7)


class Budget(NamedTuple):
    """One of the venue's counters: what it counts, whose requests, and of what (a market, an endpoint)."""

    name: str
    who: str = ""
    what: str = ""


class Ledger:
    """What a sandbox counted: amounts in windows of each counter's length, and what it refused.

    A counter that falls steadily is told by the time in which it falls from its ceiling to zero.
    """

    def __init__(self) -> None:
        self.limits: dict[Budget, tuple[float, int]] = {}
        self.refused: list[tuple[int, Budget]] = []
        self._began: dict[Budget, int] = {}
        self._spent: defaultdict[Budget, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))

    def note(
        self, key: tuple[str, ...], amount: float, limit: float, window_ms: float, now_ms: int, *, accepted: bool = True
    ) -> None:
        """A request was charged to the counter `key` (its name, who, what), or refused."""
        budget = Budget(*key)
        if not accepted:
            self.refused.append((now_ms, budget))
            return
        self.limits[budget] = (limit, round(window_ms))
        began = self._began.setdefault(budget, now_ms)
        self._spent[budget][(now_ms - began) // round(window_ms)] += amount

    def used(self, budget: Budget) -> float:
        """The used part of a counter in whole windows, without the first ones: a counter that falls begins with what
        it lets through at once, which takes its time."""
        limit, _ = self.limits[budget]
        windows = self._spent[budget]
        last = max(windows)
        assert last > 2, f"too few windows of {budget} to tell"
        first = 2 if last > 4 else 1
        return sum(windows.get(window, 0.0) for window in range(first, last)) / (last - first) / limit

    def measured(self) -> dict[Budget, float]:
        """The used part of every counter that was watched for long enough."""
        return {budget: self.used(budget) for budget in self.limits if max(self._spent[budget]) > 2}

    def shares(self, names: Collection[str]) -> dict[Budget, float]:
        """The used part of every counter of these names."""
        return {budget: self.used(budget) for budget in self.limits if budget.name in names}


class InProcess(httpx.AsyncBaseTransport):
    """The sandbox in place of the network; every request and answer takes a time of its own."""

    def __init__(self, sandbox: SandboxVenue, clock: ManualClock, latency_s: tuple[float, float]) -> None:
        self.answers: list[tuple[float, str, int]] = []
        """(when, host, status) of every request that the sandbox received."""
        self.kinds: Counter[tuple[str, str]] = Counter()
        """(method, path) -> how many."""
        self._sandbox = sandbox
        self._clock = clock
        self._latency_s = latency_s
        self._random = random.Random(5)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._clock.sleep(self._random.uniform(*self._latency_s))
        asked = HttpRequest(
            host=request.url.host.replace("-", "_"),
            method=request.method,
            target=request.url.raw_path.decode(),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.aread(),
            client=HERE,
        )
        answer = self._sandbox.http(asked)
        self.answers.append((self._clock.monotonic(), asked.host, answer.status))
        self.kinds[request.method, asked.path] += 1
        await self._clock.sleep(self._random.uniform(*self._latency_s))
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)


class Stage:
    """The plugin, the sandbox that it talks to, and tasks that always want more."""

    def __init__(
        self,
        venue: Any,
        sandbox: Any,
        wire: InProcess,
        clock: ManualClock,
        tasks: anyio.abc.TaskGroup,
        accounts: Sequence[Credentials],
    ) -> None:
        self.venue = venue
        self.sandbox = sandbox
        self.wire = wire
        self.clock = clock
        self.tasks = tasks
        self.accounts = accounts
        self.ledger = Ledger()
        self.random = random.Random(3)
        self.held_back = 0
        """Calls that the library itself held back for too long."""
        self.refusals: list[str] = []
        """What callers were told when the venue refused for its limits."""

    # -- demand ------------------------------------------------------------------------------------------------

    def demand(self, call: Call, times: int = 1) -> None:
        """So many tasks call again and again, from now on."""

        async def always() -> None:
            while True:
                await self.patient(call)

        for _ in range(times):
            self.tasks.start_soon(always)

    async def patient(self, call: Call) -> Any:
        """Call; what the limiter holds back for too long comes back when it says."""
        while True:
            try:
                return await call()
            except RateLimited as error:
                if "held back by Astra" in error.message:
                    self.held_back += 1
                else:
                    self.refusals.append(error.message)
                await self.clock.sleep((error.retry_after or 1.0) + self.random.uniform(0.0, 0.5))

    async def until(self, done: Ready, step_s: float = 0.5) -> None:
        while not done():
            await self.clock.advance(step_s)

    async def calls(self, count: int) -> None:
        """Until the venue has received so many requests."""
        await self.until(lambda: len(self.wire.answers) >= count)
        self.tasks.cancel_scope.cancel()

    def table(self, exchange: str) -> str:
        """The counters of which at least half was used, as the sandbox counted."""
        lines = [f"{exchange}: {len(self.wire.answers)} calls, {len(self.ledger.refused)} refused"]
        for budget, share in self.ledger.measured().items():
            limit, span_ms = self.ledger.limits[budget]
            if share >= 0.5:
                name = " ".join(filter(None, budget))
                lines.append(f"{name[:60]:<60} {limit:>7g} in {span_ms / 1000:>6g} s {share:>7.1%}")
        return "\n".join(lines)

    # -- what is asked for ---------------------------------------------------------------------------------------

    async def markets(self, product: str) -> list[Market]:
        listed = await self.venue.markets.all()
        return [one for one in listed if one.product == product and one.status is MarketStatus.ACTIVE]

    def book(self, market: Market, depth: int) -> Call:
        return lambda: self.venue.get_orderbook(market, depth)

    def order(self, market: Market, **more: Any) -> OrderRequest:
        """The smallest order that the market takes, below the price at which it trades."""
        mark = self.sandbox.engine.mark_price(market.symbol)
        price = market.floor_price(mark * Decimal("0.9")) or market.tick_size or mark
        step = market.lot_size or Decimal(1)
        least = max(market.min_quantity or step, step)
        if market.min_notional is not None and not market.is_inverse:
            least = max(least, market.min_notional / price / (market.contract_size or 1))
        size = (least / step).to_integral_value(ROUND_CEILING) * step
        field = "quantity" if market.contract_size is None else "contracts"
        wanted = {"side": "BUY", "type": "LIMIT", field: size, "price": price}
        return OrderRequest.model_validate(wanted | more)

    @staticmethod
    def ref(placed: Order) -> OrderRef:
        """The order by the venue's id."""
        return OrderRef(id=placed.id)

    def trade(self, market: Market, account: Credentials) -> Call:
        """Place, look, cancel."""

        async def call() -> None:
            placed: Order = await self.venue.place_order(market, self.order(market), account)
            ref = self.ref(placed)
            await self.patient(lambda: self.venue.get_order(market, ref, account))
            # What became of the order is looked at afterwards, which may be held back.
            with contextlib.suppress(OrderOutcomeUnknown):
                await self.patient(lambda: self.venue.cancel_order(market, ref, account))

        return call

    def fleeting(self, market: Market, account: Credentials) -> Call:
        """An order that ends at once by itself, in an empty book. (Some venues call that a refusal.)"""

        async def call() -> None:
            try:
                await self.venue.place_order(market, self.order(market, time_in_force="IOC"), account)
            except InvalidOrder as error:
                if "ioc" not in (error.code or "").lower():
                    raise

        return call


Watch = Callable[[Any, Ledger], None]
"""Has what the sandbox counts noted in the ledger."""


@asynccontextmanager
async def opened(
    exchange: str,
    watch: Watch,
    *,
    products: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    account_settings: Mapping[str, Any] | None = None,
    latency_s: tuple[float, float] = LATENCY_S,
) -> AsyncIterator[Stage]:
    """The `products` of a venue (all, if none are named), with settings beside its hosts, and with two accounts. What
    is wanted ends with the context."""
    clock, plugins = ManualClock(), Plugins()
    venue_class: Any = plugins.load(VENUES, exchange)
    sandbox_class: Any = plugins.load(SANDBOXES, exchange)
    products = tuple(products or venue_class.products)
    listed = [market for market in sandbox_class.default_markets() if market.product in products]
    engine = MatchingEngine(
        listed,
        clock,
        seed=1,
        fees=sandbox_class.fees,
        wallets=sandbox_class.wallet_of,
        quote_fees=sandbox_class.quote_fees,
        aliases=sandbox_class.aliases,
    )
    sandbox = sandbox_class(engine, clock)
    accounts = []
    for name in ("one", "two"):
        key, secret, passphrase = sandbox.make_key(random.Random(name))
        opened = engine.open_account(name, key, secret, passphrase, balances=ample_funds(engine, 1))
        opened.settings.update(account_settings or {})
        accounts.append(Credentials.of(exchange, key, secret, passphrase, account=name))
    wire = InProcess(sandbox, clock, latency_s)
    hosts = {host: f"http://{host.replace('_', '-')}" for host, kind in sandbox.hosts.items() if kind == "http"}
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        chosen = venue_class.settings_model.model_validate({"hosts": hosts, "products": products, **(settings or {})})
        venue = venue_class(host, chosen, http_transport=wire)
        ready = anyio.Event()

        async def load() -> None:
            await venue.markets.all()
            for one in venue.venue_clocks.values():
                await one.refresh()
            ready.set()

        tasks.start_soon(load)
        while not ready.is_set():
            await clock.advance(0.1)
        async with anyio.create_task_group() as wanting:
            stage = Stage(venue, sandbox, wire, clock, wanting, accounts)
            watch(sandbox, stage.ledger)
            yield stage
            wanting.cancel_scope.cancel()
        tasks.cancel_scope.cancel()


@pytest.fixture
def stage(record_property: Callable[[str, object], None]) -> Callable[..., Any]:
    """`async with stage("VENUE", watch, ...) as play`: see `opened`. What was used is printed with the results."""

    @asynccontextmanager
    async def reported(exchange: str, watch: Watch, **more: Any) -> AsyncIterator[Stage]:
        async with opened(exchange, watch, **more) as play:
            yield play
        record_property("table", play.table(exchange))

    return reported
