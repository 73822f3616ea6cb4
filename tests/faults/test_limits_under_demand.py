"""Binance's request limits under more demand than they allow, in virtual time.

The whole plugin runs against its sandbox in one process: what leaves the plugin is handed to the sandbox's protocol
after a delay of its own, and the sandbox counts and refuses as the venue would. Weight is counted in fixed minutes and
orders in fixed windows that begin at moments which the plugin does not know.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import anyio
import anyio.abc
import httpx
import pytest

from astra.errors import RateLimited
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import OrderChange, OrderRef, OrderRequest
from astra.sandbox import HttpRequest
from astra.streams.feed import Channel, DataType
from astra.testing import ManualClock, ManualHost
from astra_binance.sandbox import BinanceSandbox
from astra_binance.sandbox.limits import Meter, TooMany
from astra_binance.sandbox.wire import Family
from astra_binance.settings import COINM, OPTIONS, SPOT, USDM, BinanceSettings
from astra_binance.venue import BinanceVenue
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds

pytestmark = pytest.mark.anyio

CALLS = 10_000
MARKETS = {
    SPOT: "BINANCE-SPOT-BTC-USDT",
    USDM: "BINANCE-PERP-BTC-USDT",
    COINM: "BINANCE-PERP-BTC-USD-COINM",
}
HERE = "127.0.0.1"
Call = Callable[[], Awaitable[object]]
MINUTE_MS = 60_000


@pytest.fixture
def anyio_backend() -> str:
    """Trio knows at once that all tasks wait, which the clock asks for thousands of times."""
    return "trio"


class InProcess(httpx.AsyncBaseTransport):
    """The sandbox in place of the network; every request and answer takes a time of its own."""

    def __init__(self, venue: BinanceSandbox, clock: ManualClock) -> None:
        self.answers: list[tuple[float, str, int]] = []
        """(when, host, status) of every request that the sandbox received."""
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.used: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        """(host, usage header) -> window's number -> the most that the sandbox reported."""
        self._venue = venue
        self._clock = clock
        self._random = random.Random(5)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._clock.sleep(self._random.uniform(0.02, 0.15))
        host = request.url.host.replace("-", "_")
        asked = HttpRequest(
            host=host,
            method=request.method,
            target=request.url.raw_path.decode(),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.aread(),
            client=HERE,
        )
        answer = self._venue.http(asked)
        self.answers.append((self._clock.monotonic(), host, answer.status))
        self.kinds[request.method, asked.path] += 1
        for name, length_ms in (("WEIGHT-1M", MINUTE_MS), ("COUNT-1M", MINUTE_MS), ("COUNT-10S", 10_000)):
            reported = next((int(v) for header, v in answer.headers.items() if header.endswith(name)), None)
            if reported is not None:
                windows, window = self.used[host, name], self._venue.now_ms() // length_ms
                windows[window] = max(windows.get(window, 0), reported)
        await self._clock.sleep(self._random.uniform(0.02, 0.15))
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)


class AccountCalls(NamedTuple):
    """What an account does: reads, and orders of several kinds."""

    read: Call
    trade: Call
    fleeting: Call
    amend: Call
    batch: Call


class Stage:
    """The plugin, the sandbox that it talks to, and tasks that always want more."""

    def __init__(self, venue: BinanceVenue, sandbox: BinanceSandbox, wire: InProcess, clock: ManualClock) -> None:
        self.venue = venue
        self.sandbox = sandbox
        self.wire = wire
        self.clock = clock
        self.random = random.Random(3)
        self.ids = itertools.count()
        self.held_back = 0

    async def demand(self, call: Call) -> None:
        """Call again and again."""
        while True:
            await self.patient(call)

    async def patient(self, call: Call) -> None:
        """Call; what the limiter holds back for too long comes back when it says."""
        while True:
            try:
                await call()
                return
            except RateLimited as error:
                self.held_back += 1
                wait_s = error.retry_after or 1.0
                await self.clock.sleep(wait_s + self.random.uniform(0.0, 0.5))

    async def until(self, done: Callable[[], bool], step_s: float = 0.5) -> None:
        while not done():
            await self.clock.advance(step_s)

    def refusals(self) -> list[tuple[float, str, int]]:
        return [answer for answer in self.wire.answers if answer[2] >= 400]

    def utilisation(self, products: Sequence[str], name: str, limit: int) -> float:
        """The used part of a limit, as the sandbox counts it, over all windows but the first and the last one."""
        windows: dict[int, int] = {}
        for product in products:
            for window, used in self.wire.used[f"{product}_rest", name].items():
                windows[window] = max(windows.get(window, 0), used)
        first, last = min(windows), max(windows)
        assert last - first > 3, f"too few windows of {name} to tell"
        return sum(windows.get(window, 0) for window in range(first + 1, last)) / (last - first - 1) / limit

    @property
    def meter(self) -> Meter:
        return self.sandbox.meter

    def window_s(self) -> float:
        """Seconds since the venue's minute began."""
        return self.sandbox.now_ms() % MINUTE_MS / 1000

    def overspend(self, requests: int) -> None:
        """Somebody else at the same address asks for too much, and goes on in spite of the refusals."""
        for _ in range(requests):
            with contextlib.suppress(TooMany):
                self.meter.spend(HERE, Family.SPOT, 6000, self.sandbox.now_ms())

    async def market(self, product: str) -> Market:
        if product != OPTIONS:
            return await self.venue.markets.get(MARKETS[product])
        return next(market for market in await self.venue.markets.all() if market.product == OPTIONS)

    async def reads(self, product: str) -> list[Call]:
        """Public calls of several weights: what a user asks for, and what streams fetch for themselves."""
        market = await self.market(product)
        seed = Channel(DataType.ORDERBOOK, product, market)
        return [
            lambda: self.venue.get_orderbook(market, self.random.choice((5, 20, 100, 500))),
            lambda: self.venue.get_orderbook(market, 1000),
            lambda: self.venue.history.book_seed(seed),
        ]

    async def account(self, product: str, credentials: Credentials) -> AccountCalls:
        """Signed calls."""
        market = await self.market(product)

        async def read() -> None:
            await self.venue.list_orders(market, credentials)
            await self.venue.trading[product].balances(credentials)

        async def trade() -> None:
            placed = await self.venue.place_order(market, self.order(market), credentials)
            ref = OrderRef(id=placed.id)
            await self.patient(lambda: self.venue.get_order(market, ref, credentials))
            await self.patient(lambda: self.venue.cancel_order(market, ref, credentials))

        async def fleeting() -> None:
            placed = await self.venue.place_order(market, self.order(market), credentials)
            await self.patient(lambda: self.venue.cancel_order(market, OrderRef(id=placed.id), credentials))

        async def amend() -> None:
            if product not in (USDM, COINM):
                await fleeting()
                return
            placed = await self.venue.place_order(market, self.order(market), credentials)
            assert placed.price is not None
            ref, change = OrderRef(id=placed.id), OrderChange(price=placed.price + (market.tick_size or 0))
            await self.patient(lambda: self.venue.amend_order(market, ref, change, credentials))
            await self.patient(lambda: self.venue.cancel_order(market, ref, credentials))

        async def batch() -> None:
            if product == SPOT:
                await fleeting()
                return
            orders = [(market, self.order(market)) for _ in range(2)]
            for placed in await self.venue.place_orders(orders, credentials):
                if isinstance(placed, Exception):
                    raise placed
                await self.patient(partial(self.venue.cancel_order, market, OrderRef(id=placed.id), credentials))

        return AccountCalls(read, trade, fleeting, amend, batch)

    def order(self, market: Market) -> OrderRequest:
        mark = self.sandbox.engine.mark_price(market.symbol)
        price = market.floor_price(mark / 2) or market.tick_size
        lots = {SPOT: "0.01", USDM: "0.01", COINM: "1", OPTIONS: "0.1"}
        size = "quantity" if market.contract_size is None else "contracts"
        return OrderRequest.model_validate(
            {
                "side": "BUY",
                "type": "LIMIT",
                size: lots[market.product],
                "price": price,
                "client_order_id": f"d-{next(self.ids)}",
            }
        )


@asynccontextmanager
async def stage(*products: str) -> AsyncIterator[tuple[Stage, anyio.abc.TaskGroup, list[Credentials]]]:
    clock = ManualClock()
    listed = [market for market in BinanceSandbox.default_markets() if market.product in products][:40]
    engine = MatchingEngine(listed, clock, seed=1, fees=BinanceSandbox.fees, wallets=BinanceSandbox.wallets)
    sandbox = BinanceSandbox(engine, clock)
    credentials = []
    for name in ("one", "two"):
        key, secret, _ = sandbox.make_key(random.Random(name))
        engine.open_account(name, key, secret, None, balances=ample_funds(engine, 1))
        credentials.append(Credentials.of("BINANCE", key, secret, account=name))
    wire = InProcess(sandbox, clock)
    hosts = {f"{product}_rest": f"http://{product}-rest" for product in (SPOT, USDM, COINM, OPTIONS)}
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        venue = BinanceVenue(host, BinanceSettings(hosts=hosts, products=products), http_transport=wire)
        ready = anyio.Event()

        async def load() -> None:
            await venue.markets.all()
            for family in venue.rest.families.values():
                await family.clock.refresh()
            ready.set()

        tasks.start_soon(load)
        while not ready.is_set():
            await clock.advance(0.1)
        yield Stage(venue, sandbox, wire, clock), tasks, credentials
        tasks.cancel_scope.cancel()


POOLS: Mapping[str, tuple[Sequence[str], int, Mapping[str, int]]] = {
    "spot": ((SPOT,), 6000, {"COUNT-10S": 100}),
    "futures": ((USDM, COINM), 2400, {"COUNT-10S": 300, "COUNT-1M": 1200}),
    "options": ((OPTIONS,), 2400, {}),
}
"""Families that share limits, their request weight a minute, and the orders that an account may place."""


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
async def test_ten_thousand_mixed_calls_use_the_request_weight_up_and_never_pass_it(pool: str) -> None:
    products, weight, _ = POOLS[pool]
    async with stage(*products) as (play, tasks, (account, other)):
        for product in products:
            for call in await play.reads(product) * 3:
                tasks.start_soon(play.demand, call)
            for credentials in (account, other):
                calls = await play.account(product, credentials)
                for call in (calls.read, calls.amend, calls.batch, *[calls.trade] * 40):
                    tasks.start_soon(play.demand, call)
        await play.until(lambda: len(play.wire.answers) >= CALLS)
        tasks.cancel_scope.cancel()
    assert play.refusals() == []
    assert play.held_back, "there was more demand than the limits allow"
    assert play.utilisation(products, "WEIGHT-1M", weight) >= 0.9
    assert {method for method, _ in play.wire.kinds} >= {"GET", "POST", "DELETE"}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["spot", "futures"])
async def test_ten_thousand_orders_and_cancels_use_the_order_counters_up_and_never_pass_them(pool: str) -> None:
    products, _, counters = POOLS[pool]
    async with stage(*products) as (play, tasks, (account, _)):
        for product in products:
            calls = await play.account(product, account)
            for call in (calls.amend, calls.batch, *[calls.trade] * 5, *[calls.fleeting] * 40):
                tasks.start_soon(play.demand, call)
        await play.until(lambda: len(play.wire.answers) >= CALLS)
        tasks.cancel_scope.cancel()
    assert play.refusals() == []
    used = {name: play.utilisation(products, name, limit) for name, limit in counters.items()}
    # The narrowest counter is the one that can be used up.
    assert max(used.values()) >= 0.9, used


async def test_what_others_used_at_the_same_address_is_read_back_from_the_answers() -> None:
    async with stage(SPOT) as (play, tasks, _):
        market = await play.market(SPOT)
        await play.until(lambda: play.window_s() < 1, step_s=0.1)
        play.meter.spend(HERE, Family.SPOT, 4000, play.sandbox.now_ms())
        before = len(play.wire.answers)
        # One request at a time: what is under way is in no answer yet.
        tasks.start_soon(play.demand, lambda: play.venue.get_orderbook(market, 1000))
        await play.until(lambda: play.window_s() > 55)
        tasks.cancel_scope.cancel()
        (weight,) = (one for one in play.venue.rate_limiters["spot"].report() if one.name == "request_weight-1m")
    assert 5900 < weight.used <= 6000
    assert 5900 < play.meter.used_weight(HERE, Family.SPOT, play.sandbox.now_ms()) <= 6000
    assert (len(play.wire.answers) - before) * 50 <= 2000
    assert play.refusals() == []


@pytest.mark.parametrize(("requests", "status"), [(1, 429), (10, 418)])
async def test_nothing_is_sent_until_a_refusal_s_time_is_over(requests: int, status: int) -> None:
    async with stage(SPOT, USDM) as (play, tasks, (account, _)):
        for product in (SPOT, USDM):
            for call in await play.reads(product):
                tasks.start_soon(play.demand, call)
            tasks.start_soon(play.demand, (await play.account(product, account)).trade)
        await play.until(lambda: play.clock.monotonic() > 100 and 5 < play.window_s() < 15, step_s=0.1)
        play.overspend(requests)
        began = play.clock.monotonic()
        over_s = 60 - play.window_s() if status == 429 else 120
        await play.until(lambda: any(one[2] == status for one in play.wire.answers))
        under_way_s = play.refusals()[0][0] + 0.4
        await play.until(lambda: play.clock.monotonic() > began + over_s + 30)
        tasks.cancel_scope.cancel()
    spot = [(when, answered) for when, host, answered in play.wire.answers if host == "spot_rest"]
    assert {answered for _, answered in spot if answered >= 400} <= {429, 418}
    assert [when for when, _ in spot if under_way_s < when < began + over_s] == []
    assert any(when > began + over_s and answered == 200 for when, answered in spot), "it goes on afterwards"
    futures = [when for when, host, _ in play.wire.answers if host == "usdm_rest"]
    assert any(under_way_s < when < began + over_s for when in futures), "others are not held up"
