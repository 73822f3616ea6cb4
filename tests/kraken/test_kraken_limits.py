"""Rate limits: what every request costs, by whose counter, and how long the venue's own refusals pause."""

from __future__ import annotations

from typing import Any

import pytest

from astra.errors import RateLimited
from astra.models.credentials import Credentials
from astra.models.orders import OrderRef, OrderRequest
from astra_kraken.rest import CALLS, COST, HISTORY, ORDERS, PUBLIC, TIERS, amend_cost, cancel_cost
from astra_kraken.settings import Tier

pytestmark = pytest.mark.anyio


def used(played: Any, product: str) -> dict[str, float]:
    """Bucket -> the most that any account or pair has used."""
    amounts: dict[str, float] = {}
    for report in played.venue.rate_limiters[product].report():
        amounts[report.name] = max(amounts.get(report.name, 0.0), round(report.used, 3))
    return amounts


def order(**terms: Any) -> OrderRequest:
    given = {"side": "BUY", "type": "LIMIT", "quantity": "0.01", "price": "100", "client_order_id": "a-1"}
    return OrderRequest.model_validate(given | terms)


def test_cancels_and_amendments_cost_by_the_age_of_the_order() -> None:
    assert [cancel_cost(age) for age in (0, 4.9, 5, 12, 40, 60, 200, 300)] == [8, 8, 6, 5, 4, 2, 1, 0]
    assert [amend_cost(age) for age in (0, 5, 12, 40, 60, 200, 300)] == [4, 3, 2, 1, 1, 1, 1]
    assert cancel_cost(None) == 1, "placed by somebody else, some time ago"


def test_every_tier_has_its_counters() -> None:
    assert set(TIERS) == set(Tier)
    assert (TIERS[Tier.STARTER].calls, TIERS[Tier.PRO].orders) == (15, 180)


async def test_spot_counts_calls_by_key_and_orders_by_pair(played: Any) -> None:
    played.http.spot("AddOrder", {"txid": ["OA"]})
    played.http.spot("CancelOrder", {"count": 1})
    played.http.spot("BalanceEx", {})
    played.http.spot("TradesHistory", {"trades": {}})
    market = await played.market("KRAKEN-SPOT-BTC-USD")
    family = played.venue.parts["spot"]
    await family.place(market, order(), played.credentials)
    assert used(played, "spot")[ORDERS] == 1
    assert CALLS not in used(played, "spot"), "orders are not counted among the calls"
    await family.cancel(market, OrderRef(id="OA"), played.credentials)
    assert used(played, "spot")[ORDERS] == 9, "the order was young"
    await family.place(await played.market("KRAKEN-SPOT-ETH-USD"), order(client_order_id="a-2"), played.credentials)
    assert used(played, "spot")[ORDERS] == 9, "each pair has a counter of its own"
    await family.balances(played.credentials)
    await family.fills(None, None, None, played.credentials)
    assert used(played, "spot")[CALLS] == 3
    await played.clock.advance(3)
    assert used(played, "spot")[ORDERS] == 6
    assert used(played, "spot")[CALLS] == pytest.approx(3 - 3 * 0.33, abs=0.01)
    other = Credentials.of("KRAKEN", "another", "c2VjcmV0")
    await family.balances(other)
    assert used(played, "spot")[CALLS] == pytest.approx(3 - 3 * 0.33, abs=0.01)


async def test_public_data_has_a_budget_of_its_own(played: Any, recordings: Any) -> None:
    played.http.answer("GET", "/0/public/Depth", recordings.body("spot-depth"))
    market = await played.market("KRAKEN-SPOT-BTC-USD")
    before = used(played, "spot")[PUBLIC]
    await played.venue.get_orderbook(market, 5)
    assert used(played, "spot")[PUBLIC] == before + 1


async def test_derivatives_cost_what_the_venue_says(played: Any, recordings: Any) -> None:
    prefix = "/derivatives/api/v3"
    status = {"status": "placed", "order_id": "u", "orderEvents": []}
    played.http.answer("POST", f"{prefix}/sendorder", {"result": "success", "sendStatus": status})
    played.http.answer("POST", f"{prefix}/cancelallorders", recordings.body("futures-cancelallorders"))
    played.http.answer("POST", f"{prefix}/batchorder", {"result": "success", "batchStatus": []})
    played.http.answer("POST", f"{prefix}/orders/status", {"result": "success", "orders": []})
    played.http.answer("GET", f"{prefix}/fills", recordings.body("futures-fills"))
    for name in ("orders", "triggers", "executions"):
        played.http.answer("GET", f"/api/history/v3/{name}", {"elements": []})
    market = await played.market("KRAKEN-PERP-ETH-USD")
    family = played.venue.parts["derivatives"]
    spent = 0.0
    for call, cost in (
        (lambda: family.place(market, order(), played.credentials), 10),
        (lambda: family.cancel_all(market, played.credentials), 25),
        (
            lambda: family.place_batch(
                [(market, order(client_order_id=f"b{n}")) for n in range(3)], played.credentials
            ),
            12,
        ),
        (lambda: family.fills(None, None, None, played.credentials), 2),
    ):
        await call()
        spent += cost
        assert used(played, "derivatives")[COST] == spent
    with pytest.raises(Exception, match="no order"):
        await family.get(market, OrderRef(id="u"), played.credentials)
    assert used(played, "derivatives")[COST] == spent + 1
    assert used(played, "derivatives")[HISTORY] == 4, "and one for the fees of fills"


@pytest.mark.parametrize(
    ("error", "wait_s", "whose"),
    [
        ("EGeneral:Temporary lockout", 900, "the account's"),
        ("EAPI:Rate limit exceeded", 5, "the account's"),
        ("EOrder:Rate limit exceeded", 5, "nobody's"),
        ("EGeneral:Too many requests", 5, "everybody's"),
    ],
)
async def test_the_venue_s_own_refusal_pauses_whom_it_concerns(
    played: Any, error: str, wait_s: float, whose: str
) -> None:
    """A counter of one key holds back no other key, and that of one pair not even its own cancels."""
    played.http.refuse("AddOrder", error)
    market = await played.market("KRAKEN-SPOT-BTC-USD")
    with pytest.raises(RateLimited) as caught:
        await played.venue.place_order(market, order(), played.credentials)
    assert caught.value.retry_after == wait_s
    spot = played.venue.rate_limiters["spot"]
    own, other = spot.paused_for_s(played.credentials), spot.paused_s
    assert own == pytest.approx(0 if whose == "nobody's" else wait_s, abs=0.01)
    assert other == pytest.approx(wait_s if whose == "everybody's" else 0, abs=0.01)
    assert played.venue.rate_limiters["derivatives"].paused_s == 0
