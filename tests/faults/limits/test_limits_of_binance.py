"""Binance's request limits under more demand than they allow, in virtual time.

Weight is counted in fixed minutes and orders in fixed windows that begin at moments which the plugin does not know;
answers report what is used, by others at the same address, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import OrderChange
from astra.streams.feed import Channel, DataType
from astra_binance.sandbox.limits import TooMany
from astra_binance.sandbox.wire import Family
from astra_binance.settings import COINM, OPTIONS, SPOT, USDM

pytestmark = pytest.mark.anyio

HERE = "127.0.0.1"
MINUTE_MS = 60_000
BATCHES = (USDM, COINM, OPTIONS)
"""Families that take orders in batches."""


def watch(sandbox: Any, ledger: Any) -> None:
    meter = sandbox.meter
    spend, refund, spend_orders = meter.spend, meter.refund, meter.spend_orders

    def counter(family: Family) -> str:
        return "futures" if family.is_futures else family.value

    def noted_spend(client: str, family: Family, weight: int, now_ms: int) -> None:
        accepted = False
        try:
            spend(client, family, weight, now_ms)
            accepted = True
        finally:
            limit = meter.weight_limit(family)
            ledger.note(("weight", client, counter(family)), weight, limit, MINUTE_MS, now_ms, accepted=accepted)

    def noted_refund(client: str, family: Family, weight: int, now_ms: int) -> None:
        refund(client, family, weight, now_ms)
        ledger.note(("weight", client, counter(family)), -weight, meter.weight_limit(family), MINUTE_MS, now_ms)

    def noted_orders(account: str, family: Family, count: int, now_ms: int) -> None:
        accepted = False
        try:
            spend_orders(account, family, count, now_ms)
            accepted = True
        finally:
            for suffix, span_ms, limit in meter._order_windows(family):
                key = ("orders", account, f"{counter(family)} {suffix}")
                ledger.note(key, count, limit, span_ms, now_ms, accepted=accepted)

    meter.spend, meter.refund, meter.spend_orders = noted_spend, noted_refund, noted_orders


async def market_of(play: Any, product: str) -> Market:
    """The one that everybody trades."""
    found: Market = (await play.markets(product))[0]
    return found


async def reads(play: Any, product: str) -> list[Any]:
    """Public calls of several weights: what a user asks for, and what streams fetch for themselves."""
    market = await market_of(play, product)
    seed = Channel(DataType.ORDERBOOK, product, market)
    return [
        lambda: play.venue.get_orderbook(market, play.random.choice((5, 20, 100, 500))),
        play.book(market, 1000),
        lambda: play.venue.history.book_seed(seed),
    ]


def placed_and_canceled(play: Any, market: Market, account: Credentials) -> Any:
    """Two requests, of which only the first counts as an order."""

    async def call() -> None:
        placed = await play.venue.place_order(market, play.order(market), account)
        await play.patient(lambda: play.venue.cancel_order(market, play.ref(placed), account))

    return call


def amended(play: Any, market: Market, account: Credentials) -> Any:
    async def call() -> None:
        placed = await play.venue.place_order(market, play.order(market), account)
        ref, change = play.ref(placed), OrderChange(price=placed.price + market.tick_size)
        await play.patient(lambda: play.venue.amend_order(market, ref, change, account))
        await play.patient(lambda: play.venue.cancel_order(market, ref, account))

    return call


def in_a_batch(play: Any, market: Market, account: Credentials) -> Any:
    async def call() -> None:
        for placed in await play.venue.place_orders([(market, play.order(market)) for _ in range(2)], account):
            if isinstance(placed, Exception):
                raise placed
            await play.patient(partial(play.venue.cancel_order, market, play.ref(placed), account))

    return call


async def trades(play: Any, product: str, account: Credentials) -> None:
    """Orders of several kinds are wanted, each by a few."""
    market = await market_of(play, product)
    if product in (USDM, COINM):
        play.demand(amended(play, market, account))
    if product in BATCHES:
        play.demand(in_a_batch(play, market, account))


POOLS: Mapping[str, Sequence[str]] = {"spot": (SPOT,), "futures": (USDM, COINM), "options": (OPTIONS,)}
"""Families that share limits."""


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
async def test_ten_thousand_mixed_calls_use_the_request_weight_up_and_never_pass_it(stage: Any, pool: str) -> None:
    async with stage("BINANCE", watch, products=POOLS[pool]) as play:
        for product in POOLS[pool]:
            market = await market_of(play, product)
            for call in await reads(play, product):
                play.demand(call, 3)
            for account in play.accounts:
                await trades(play, product, account)
                play.demand(play.trade(market, account), 40)
                play.demand(lambda market=market, account=account: play.venue.list_orders(market, account))
                play.demand(lambda account=account: play.venue.get_balances(account))
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    assert play.held_back, "there was more demand than the limits allow"
    (share,) = play.ledger.shares(["weight"]).values()
    assert share >= 0.9
    assert {method for method, _ in play.wire.kinds} >= {"GET", "POST", "DELETE"}


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "calls"), [("spot", 5_000), ("futures", 10_000)])
async def test_thousands_of_orders_and_cancels_use_the_order_counters_up_and_never_pass_them(
    stage: Any, pool: str, calls: int
) -> None:
    async with stage("BINANCE", watch, products=POOLS[pool]) as play:
        account = play.accounts[0]
        for product in POOLS[pool]:
            market = await market_of(play, product)
            await trades(play, product, account)
            play.demand(play.trade(market, account), 5)
            play.demand(placed_and_canceled(play, market, account), 40)
        await play.calls(calls)
    assert play.ledger.refused == []
    assert play.refusals == []
    # The narrowest counter is the one that can be used up; of a day nobody saw the end.
    counters = [key for key in play.ledger.limits if key.name == "orders" and not key.what.endswith("1D")]
    used = {key: play.ledger.used(key) for key in counters}
    assert max(used.values()) >= 0.9, used


async def test_what_others_used_at_the_same_address_is_read_back_from_the_answers(stage: Any) -> None:
    async with stage("BINANCE", watch, products=(SPOT,)) as play:
        market, meter = await market_of(play, SPOT), play.sandbox.meter
        await play.until(lambda: second(play) < 1, step_s=0.1)
        meter.spend(HERE, Family.SPOT, 4000, play.sandbox.now_ms())
        before = len(play.wire.answers)
        # One request at a time: what is under way is in no answer yet.
        play.demand(play.book(market, 1000))
        await play.until(lambda: second(play) > 55)
        play.tasks.cancel_scope.cancel()
        (weight,) = (one for one in play.venue.rate_limiters["spot"].report() if one.name == "request_weight-1m")
    assert 5900 < weight.used <= 6000
    assert 5900 < meter.used_weight(HERE, Family.SPOT, play.sandbox.now_ms()) <= 6000
    assert (len(play.wire.answers) - before) * 50 <= 2000
    assert play.refusals == []


@pytest.mark.parametrize(("requests", "status"), [(1, 429), (10, 418)])
async def test_nothing_is_sent_until_a_refusal_s_time_is_over(stage: Any, requests: int, status: int) -> None:
    async with stage("BINANCE", watch, products=(SPOT, USDM)) as play:
        for product in (SPOT, USDM):
            for call in await reads(play, product):
                play.demand(call)
            play.demand(play.trade(await market_of(play, product), play.accounts[0]))
        await play.until(lambda: play.clock.monotonic() > 100 and 5 < second(play) < 15, step_s=0.1)
        for _ in range(requests):  # somebody else at the same address goes on in spite of the refusals
            with contextlib.suppress(TooMany):
                play.sandbox.meter.spend(HERE, Family.SPOT, 6000, play.sandbox.now_ms())
        began = play.clock.monotonic()
        over_s = 60 - second(play) if status == 429 else 120
        await play.until(lambda: any(one[2] == status for one in play.wire.answers))
        under_way_s = next(when for when, _, answered in play.wire.answers if answered >= 400) + 0.4
        await play.until(lambda: play.clock.monotonic() > began + over_s + 30)
        play.tasks.cancel_scope.cancel()
    spot = [(when, answered) for when, host, answered in play.wire.answers if host == "spot_rest"]
    assert {answered for _, answered in spot if answered >= 400} <= {429, 418}
    assert [when for when, _ in spot if under_way_s < when < began + over_s] == []
    assert any(when > began + over_s and answered == 200 for when, answered in spot), "it goes on afterwards"
    futures = [when for when, host, _ in play.wire.answers if host == "usdm_rest"]
    assert any(under_way_s < when < began + over_s for when in futures), "others are not held up"


def second(play: Any) -> float:
    """Seconds since the venue's minute began."""
    passed: float = play.sandbox.now_ms() % MINUTE_MS / 1000
    return passed
