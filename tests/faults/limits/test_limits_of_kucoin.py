"""KuCoin's pools of weight under more demand than they hold, in virtual time.

Each account has a pool for spot, one for futures and one for its management, each address one for public data. A window
of 30 s begins with its first request, and answers report what is left of it.
"""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio


def watch(sandbox: Any, ledger: Any) -> None:
    meter, limits = sandbox.meter, sandbox.limits
    spend = meter.spend

    def noted(pool: str, who: str, weight: int, now_ms: int) -> Any:
        span_ms = limits.unified_window_ms if pool == "UNIFIED" else limits.window_ms
        accepted = False
        try:
            headers = spend(pool, who, weight, now_ms)
            accepted = True
            return headers
        finally:
            ledger.note((pool, who), weight, limits.pools[pool], span_ms, now_ms, accepted=accepted)

    meter.spend = noted


@pytest.mark.slow
async def test_ten_thousand_mixed_calls_use_every_pool_up_and_pass_none(stage: Any) -> None:
    """Spot and futures are served by different hosts, which share the pool of public data."""
    async with stage("KUCOIN", watch) as play:
        venue, (account, _) = play.venue, play.accounts
        (spot, *_), (perp, *_) = await play.markets("spot"), await play.markets("futures")
        for market in (spot, perp):
            play.demand(play.book(market, 20), 3)
            play.demand(play.book(market, 1000), 6)
            play.demand(lambda market=market: venue.list_orders(market, account), 24)
            play.demand(lambda market=market: venue.list_fills(market, None, None, account), 2)
            play.demand(play.fleeting(market, account), 2)
            play.demand(play.trade(market, account), 2)
        play.demand(lambda: venue.get_balances(account))
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    used = play.ledger.shares(["SPOT", "FUTURES", "PUBLIC"])
    assert len(used) == 3
    assert min(used.values()) >= 0.9, used


@pytest.mark.slow
async def test_mixed_calls_of_a_unified_account_use_its_pool_up_and_do_not_pass_it(stage: Any) -> None:
    """200 in 3 s, spot and futures together: two minutes."""
    async with stage("KUCOIN", watch, account_settings={"mode": "UNIFIED"}) as play:
        venue, (account, _) = play.venue, play.accounts
        for market in ((await play.markets("spot"))[0], (await play.markets("futures"))[0]):
            play.demand(lambda market=market: venue.list_orders(market, account), 6)
            play.demand(play.fleeting(market, account), 6)
            play.demand(play.trade(market, account), 3)
        play.demand(lambda: venue.get_balances(account), 2)
        await play.until(lambda: play.clock.monotonic() > 120)
        play.tasks.cancel_scope.cancel()
    assert play.ledger.refused == []
    assert play.refusals == []
    (share,) = play.ledger.shares(["UNIFIED"]).values()
    assert share >= 0.9
