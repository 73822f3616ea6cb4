"""Kraken's counters under more demand than they allow, in virtual time.

Spot has counters that fall steadily: of an address, of a key's calls, of a key's orders in each pair, where a cancel
costs the more the younger its order is. Derivatives have a cost budget of ten seconds, and a pool for their history.
"""

from __future__ import annotations

from typing import Any

import pytest

from astra.errors import OrderNotFound
from astra.models.orders import Order, OrderRef

pytestmark = pytest.mark.anyio

STARTER, PRO = "starter", "pro"


def watch(sandbox: Any, ledger: Any) -> None:
    meter, limits = sandbox.meter, sandbox.limits
    public, call, order, cancel, budget = (
        meter.public_wait_s,
        meter.call,
        meter.order,
        meter.cancel,
        meter.budget,
    )

    def noted_public(client: str, now_ms: int) -> int:
        wait_s: int = public(client, now_ms)
        burst, rate = limits.public_burst, limits.public_per_s
        ledger.note(("public", client), 1, burst, 1000 * burst / rate, now_ms, accepted=not wait_s)
        return wait_s

    def noted_call(account: str, tier: str | None, cost: int, now_ms: int) -> bool:
        accepted: bool = call(account, tier, cost, now_ms)
        terms = meter.tier(tier)
        span_ms = 1000 * terms.calls / terms.call_decay
        ledger.note(("calls", account), cost, terms.calls, span_ms, now_ms, accepted=accepted)
        return accepted

    def note_orders(
        account: str, tier: str | None, pair: str, cost: int, now_ms: int, *, accepted: bool = True
    ) -> None:
        terms = meter.tier(tier)
        span_ms = 1000 * terms.orders / terms.order_decay
        ledger.note(("orders", account, pair), cost, terms.orders, span_ms, now_ms, accepted=accepted)

    def noted_order(account: str, tier: str | None, pair: str, cost: int, now_ms: int) -> bool:
        accepted: bool = order(account, tier, pair, cost, now_ms)
        note_orders(account, tier, pair, cost, now_ms, accepted=accepted)
        return accepted

    def noted_cancel(account: str, tier: str | None, pair: str, cost: int, now_ms: int) -> None:
        cancel(account, tier, pair, cost, now_ms)
        note_orders(account, tier, pair, cost, now_ms)

    def noted_budget(account: str, pool: str, cost: int, now_ms: int) -> bool:
        accepted: bool = budget(account, pool, cost, now_ms)
        most, span_ms = limits.derivatives_cost, limits.derivatives_window_ms
        if pool == "history":
            most, span_ms = limits.history_cost, limits.history_window_ms
        ledger.note((pool, account), cost, most, span_ms, now_ms, accepted=accepted)
        return accepted

    meter.public_wait_s, meter.call, meter.order, meter.cancel, meter.budget = (
        noted_public,
        noted_call,
        noted_order,
        noted_cancel,
        noted_budget,
    )


def options(product: str, tier: str = PRO) -> dict[str, Any]:
    """One family; for Spot the same level on both sides."""
    return {"products": (product,), "settings": {"tier": tier}, "account_settings": {"tier": tier}}


@pytest.mark.slow
@pytest.mark.parametrize("tier", [STARTER, PRO])
async def test_mixed_calls_use_spot_s_counters_up_and_pass_none(stage: Any, tier: str) -> None:
    """Ten minutes, in which the venue takes about 2,400 or 7,000 calls. The requests of a key go one after the
    other."""
    async with stage("KRAKEN", watch, **options("spot", tier)) as play:
        venue, accounts, (pair, other, *_) = play.venue, play.accounts, await play.markets("spot")
        play.demand(play.book(pair, 100), 3)
        for account in accounts:
            play.demand(lambda account=account: venue.list_orders(None, account), 2)
            play.demand(lambda account=account: venue.get_balances(account), 2)
            play.demand(lambda account=account: venue.list_fills(None, None, None, account), 1)
            play.demand(play.fleeting(pair, account), 6)
        play.demand(play.trade(other, accounts[0]), 3)
        await play.until(lambda: play.clock.monotonic() > 600)
        play.tasks.cancel_scope.cancel()
    assert play.ledger.refused == []
    assert play.refusals == []
    used = play.ledger.shares(["public", "calls"])
    used |= {key: share for key, share in play.ledger.shares(["orders"]).items() if key.what == pair.symbol}
    assert len(used) == 5
    assert min(used.values()) >= 0.9, used


@pytest.mark.slow
async def test_ten_thousand_mixed_calls_use_the_derivatives_budgets_up_and_pass_none(stage: Any) -> None:
    async with stage("KRAKEN", watch, **options("derivatives")) as play:
        venue, accounts, (perp, other, *_) = play.venue, play.accounts, await play.markets("derivatives")
        for account in accounts:
            play.demand(lambda account=account: venue.list_orders(None, account), 2)
            play.demand(lambda account=account: venue.get_balances(account), 2)
            play.demand(lambda account=account: venue.get_positions(account), 2)
            play.demand(play.fleeting(perp, account), 2)
            play.demand(play.trade(other, account), 2)
        play.demand(play.book(perp, 100), 1)
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    used = play.ledger.shares(["derivatives"])
    assert len(used) == 2
    assert min(used.values()) >= 0.9, used


async def test_cancels_wait_for_no_counter(stage: Any) -> None:
    """Those of young orders cost more than the counter holds; the venue counts them and refuses none."""
    async with stage("KRAKEN", watch, **options("spot", STARTER)) as play:
        venue, account, pair = play.venue, play.accounts[0], (await play.markets("spot"))[0]
        canceled: list[Order] = []

        async def place_and_cancel() -> None:
            await venue.place_orders([(pair, play.order(pair)) for _ in range(15)], account)
            await venue.place_orders([(pair, play.order(pair)) for _ in range(15)], account)
            canceled.extend(await venue.cancel_all_orders(pair, account))

        play.tasks.start_soon(place_and_cancel)
        await play.until(lambda: bool(canceled))
        assert play.clock.monotonic() < 5
        assert len(canceled) == 30
    assert play.ledger.refused == []


async def test_look_ups_of_old_orders_use_the_history_s_pool_up_and_do_not_pass_it(stage: Any) -> None:
    async with stage("KRAKEN", watch, **options("derivatives")) as play:
        account, perp = play.accounts[0], (await play.markets("derivatives"))[0]

        async def look() -> None:
            with pytest.raises(OrderNotFound):
                await play.venue.get_order(perp, OrderRef(client_order_id="never-placed"), account)

        play.demand(look, 2)
        await play.until(lambda: play.clock.monotonic() > 4000, step_s=5)
        play.tasks.cancel_scope.cancel()
    assert play.ledger.refused == []
    assert play.refusals == []
    (share,) = play.ledger.shares(["history"]).values()
    assert share >= 0.9
