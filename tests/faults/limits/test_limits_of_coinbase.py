"""Coinbase's limits under more demand than they allow, in virtual time.

Advanced Trade counts in seconds: requests for public data by address, all others by user, and reports what is left. The
gateway has credits that come back steadily.
"""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

LATENCY_S = (0.05, 0.12)
"""The windows are so short that no client can allow for much more than this difference."""


def watch(sandbox: Any, ledger: Any) -> None:
    meter, limits = sandbox.meter, sandbox.limits
    spend, take = meter.spend, meter.take_credit

    def noted_spend(kind: str, owner: str, limit: int, now_ms: int) -> Any:
        room, headers = spend(kind, owner, limit, now_ms)
        ledger.note((kind, owner), 1, limit, 1000, now_ms, accepted=room)
        return room, headers

    def noted_take(owner: str, now_ms: int) -> bool:
        room: bool = take(owner, now_ms)
        span_ms = 1000 * limits.gateway_burst / limits.gateway_per_second
        ledger.note(("credits", owner), 1, limits.gateway_burst, span_ms, now_ms, accepted=room)
        return room

    meter.spend, meter.take_credit = noted_spend, noted_take


@pytest.mark.slow
async def test_ten_thousand_mixed_calls_use_every_limit_up_and_pass_none(stage: Any) -> None:
    async with stage("COINBASE", watch, latency_s=LATENCY_S) as play:
        venue, (one, two) = play.venue, play.accounts
        (spot, *_), (future, *_) = await play.markets("spot"), await play.markets("us_futures")
        (perp, *_) = await play.markets("international")
        play.demand(play.book(spot, 100), 4)
        play.demand(play.book(future, 100), 4)
        play.demand(play.book(perp, 100), 12)
        play.demand(lambda: venue.get_fees(spot, one), 3)
        play.demand(lambda: venue.get_balances(one), 3)
        play.demand(play.fleeting(spot, one), 3)
        play.demand(play.trade(future, one), 3)
        for account in (one, two):
            play.demand(lambda account=account: venue.list_orders(perp, account), 6)
            play.demand(play.trade(perp, account), 2)
        await play.calls(10_000)
    assert play.ledger.refused == []
    assert play.refusals == []
    used = play.ledger.shares(["public", "private", "credits"])
    assert len(used) == 5
    assert min(used.values()) >= 0.9, used
