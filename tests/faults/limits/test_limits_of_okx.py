"""OKX's request limits under more demand than they allow, in virtual time.

Every endpoint has a window of two seconds of its own: public ones by address, private ones by user, orders by user and
instrument. Nothing in an answer tells how much is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from astra.models.markets import Market

pytestmark = pytest.mark.anyio


def watch(sandbox: Any, ledger: Any) -> None:
    take = sandbox.meter._take

    def noted(key: tuple[str, ...], amount: int, limit: float, now_ms: int, length_ms: int = 2000) -> bool:
        accepted: bool = take(key, amount, limit, now_ms, length_ms)
        ledger.note(key, amount, limit, length_ms, now_ms, accepted=accepted)
        return accepted

    sandbox.meter._take = noted


@pytest.mark.slow
async def test_ten_thousand_mixed_calls_use_every_budget_up_and_pass_none(stage: Any) -> None:
    async with stage("OKX", watch) as play:
        venue, (one, two) = play.venue, play.accounts
        (spot, *_), (swap, *_) = await play.markets("spot"), await play.markets("swap")
        play.demand(play.book(spot, 400), 8)
        for account in (one, two):
            play.demand(lambda account=account: venue.get_balances(account), 3)
            play.demand(lambda account=account: venue.get_fees(spot, account), 2)
        play.demand(lambda: venue.list_orders(swap, one), 6)
        play.demand(lambda: venue.list_fills(swap, None, None, one), 12)
        play.demand(lambda: venue.get_positions(two), 3)
        play.demand(play.fleeting(spot, one), 12)
        play.demand(play.trade(swap, two), 4)
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    full = ("GET /market/books", "GET /account/balance", "GET /account/positions", "GET /account/trade-fee")
    used = play.ledger.shares((*full, "GET /trade/orders-algo-pending", "GET /trade/fills"))
    used |= {key: share for key, share in play.ledger.shares(["order-single"]).items() if key.who == "one"}
    assert len(used) == 9
    assert min(used.values()) >= 0.9, used


@pytest.mark.slow
async def test_orders_in_batches_use_the_account_s_budget_up_and_pass_none(stage: Any) -> None:
    """300 orders of one instrument in batches, 60 by themselves, 1000 of the account, each in 2 s."""
    async with stage("OKX", watch) as play:
        (account, _), markets = play.accounts, await play.markets("spot")

        def batch(several: Sequence[Market], size: int) -> Any:
            async def call() -> None:
                rows = [(market, play.order(market, time_in_force="IOC")) for market in several for _ in range(size)]
                for placed in await play.venue.place_orders(rows, account):
                    if isinstance(placed, Exception):
                        raise placed

            return call

        for market in markets[:4]:
            play.demand(batch([market], 20), 4)
            play.demand(play.fleeting(market, account), 2)
        play.demand(batch(markets[:4], 5), 2)
        play.demand(batch(markets[:1], 1), 4)
        await play.until(lambda: play.clock.monotonic() > 60)
        play.tasks.cancel_scope.cancel()
    assert play.ledger.refused == []
    assert play.refusals == []
    (share,) = play.ledger.shares(["account"]).values()
    assert share >= 0.9


async def test_a_batch_of_one_counts_as_a_single_order(stage: Any) -> None:
    async with stage("OKX", watch) as play:
        account, market = play.accounts[0], (await play.markets("swap"))[0]

        async def alone() -> None:
            (placed,) = await play.venue.place_orders([(market, play.order(market, time_in_force="IOC"))], account)
            if isinstance(placed, Exception):
                raise placed

        play.demand(alone, 30)
        await play.until(lambda: play.clock.monotonic() > 20)
        play.tasks.cancel_scope.cancel()
    assert play.ledger.refused == []
