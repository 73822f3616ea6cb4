"""HTX's limits under more demand than they allow, in virtual time.

Spot counts every endpoint by user in windows of two seconds; linear contracts, coin-margined swaps and coin-margined
futures have a budget for commands and one for questions each, in windows of three; market data is counted by address.
"""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio


def watch(sandbox: Any, ledger: Any) -> None:
    spend = sandbox.meter.spend

    def noted(counter: Any, who: str, what: str, now_ms: int, headers: dict[str, str]) -> None:
        limit, span_ms = sandbox.limits.requests[counter]
        accepted = False
        try:
            spend(counter, who, what, now_ms, headers)
            accepted = True
        finally:
            ledger.note((counter.name, who, what), 1, limit, span_ms, now_ms, accepted=accepted)

    sandbox.meter.spend = noted


@pytest.mark.slow
async def test_ten_thousand_mixed_calls_use_every_account_s_budget_up_and_pass_none(stage: Any) -> None:
    async with stage("HUOBI", watch) as play:
        venue, (account, _) = play.venue, play.accounts
        spot, linear, swap, future = [(await play.markets(product))[0] for product in venue.products]
        play.demand(play.fleeting(spot, account), 16)
        play.demand(play.trade(spot, account), 2)
        play.demand(lambda: venue.list_orders(spot, account), 8)
        play.demand(lambda: venue.list_fills(spot, None, None, account), 4)
        for market, tasks in ((linear, 12), (swap, 8), (future, 8)):
            play.demand(play.fleeting(market, account), tasks)
            play.demand(play.trade(market, account), 2)
            play.demand(lambda market=market: venue.list_orders(market, account), tasks)
        play.demand(lambda: venue.get_balances(account), 2)
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    used = play.ledger.shares(["V5_READ", "V5_TRADE", "COIN_READ", "COIN_TRADE", "SPOT_SLOW"])
    assert len(used) == 7
    full = ("/v1/order/orders/place", "/v1/order/openOrders")
    used |= {key: play.ledger.used(key) for key in play.ledger.limits if key.what in full}
    assert len(used) == 9
    assert min(used.values()) >= 0.9, used


@pytest.mark.slow
async def test_ten_thousand_snapshots_use_the_address_s_limits_up_and_pass_none(stage: Any) -> None:
    async with stage("HUOBI", watch, latency_s=(0.05, 0.12)) as play:
        spot, linear, swap, future = [(await play.markets(product))[0] for product in play.venue.products]
        play.demand(play.book(spot, 20), 6)
        for market in (linear, swap, future):
            play.demand(play.book(market, 20), 60)
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    used = play.ledger.shares(["CONTRACT_MARKET", "SPOT_MARKET"])
    assert len(used) == 2
    assert min(used.values()) >= 0.9, used
