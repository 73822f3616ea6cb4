"""Both middlewares on a real venue plugin, over sockets: what they count is what the venue has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from astra import Astra, OrderRequest
from astra.errors import Outcome
from astra_journal import CommandState, Journal
from astra_risk import LimitExceeded, MarketNotAllowed, TradingHalted
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio

SPOT, PERP, INVERSE = "BINANCE-SPOT-BTC-USDT", "BINANCE-PERP-BTC-USDT", "BINANCE-PERP-BTC-USD-COINM"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(["BINANCE"], seed=1, markets=12) as running:
        yield running


def astra_on(sandbox: Sandbox, journal: Path, **limits: Any) -> Astra:
    middleware = {
        "order": ["journal", "risk"],
        "journal": {"path": str(journal)},
        "risk": {"venue_lag_s": 0.05, **limits},
    }
    settings = {**sandbox.settings, "middleware": middleware}
    return Astra(settings=settings, credentials=[sandbox.credentials("BINANCE")])


def at_market(side: str = "BUY", **amount: str) -> OrderRequest:
    return OrderRequest(**{"side": side, "type": "MARKET"} | amount)


async def test_positions_holdings_and_open_orders_are_the_venues(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    async with astra_on(sandbox, file) as astra:
        balances = await astra.get_balances("BINANCE")
        held = sum((row.total for row in balances if row.asset == "BTC"), Decimal(0))
        market = await astra.market(SPOT)
        book = await astra.get_orderbook(SPOT, 5)
        low = market.floor_price(Decimal(repr(book.bids[0][0])) / 2)
    limits = {
        "max_open_orders": 2,
        "max_order_notional": 10**6,
        "markets": {
            PERP: {"max_position": "0.05"},
            SPOT: {"max_position": held + Decimal("0.03")},
            INVERSE: {"max_position_contracts": 3},
        },
    }
    async with astra_on(sandbox, file, **limits) as astra:
        for symbol, amounts in (
            (PERP, ({"quantity": "0.02"}, {"quantity": "0.03"}, {"quantity": "0.001"})),
            (SPOT, ({"quantity": "0.02"}, {"quantity": "0.01"}, {"quantity": "0.001"})),
            (INVERSE, ({"contracts": "2"}, {"contracts": "1"}, {"contracts": "1"})),
        ):
            first, second, too_much = (at_market(**amount) for amount in amounts)
            await astra.place_order(symbol, first)
            await astra.place_order(symbol, second)
            with pytest.raises(LimitExceeded, match="position"):
                await astra.place_order(symbol, too_much)
            await astra.place_order(symbol, at_market("SELL", **amounts[0]))
        positions = {row.market: row for row in await astra.get_positions("BINANCE")}
        assert positions[PERP].quantity == Decimal("0.03")
        assert positions[INVERSE].contracts == 1

        resting = OrderRequest(side="BUY", quantity="0.001", price=low)
        one = await astra.place_order(SPOT, resting)
        await astra.place_order(SPOT, resting)
        with pytest.raises(LimitExceeded, match="number of open orders"):
            await astra.place_order(SPOT, resting)
        await astra.cancel_order(SPOT, client_order_id=one.client_order_id)
        await astra.place_order(SPOT, resting)
        assert len(await astra.list_orders("BINANCE")) == 2

    with Journal(file) as journal:
        states = [command.state for command in journal.commands()]
        assert list(journal.open_commands()) == []
    assert states.count(CommandState.REFUSED) == 4
    assert states.count(CommandState.ANSWERED) == len(states) - 4 == 13


async def test_a_market_may_be_named_by_another_spelling_of_its_asset() -> None:
    bid = OrderRequest(side="BUY", quantity="0.001", price="10000")
    async with Sandbox(["KRAKEN"], seed=1, markets=4) as sandbox:
        risk = {"deny_markets": ["KRAKEN-SPOT-XBT-USD"], "markets": {"KRAKEN-PERP-BTC-USD": {"max_order_quantity": 1}}}
        settings = {**sandbox.settings, "middleware": {"order": ["risk"], "risk": risk}}
        async with Astra(settings=settings, credentials=[sandbox.credentials("KRAKEN")]) as astra:
            for named in ("KRAKEN-SPOT-BTC-USD", "KRAKEN-SPOT-XBT-USD"):
                with pytest.raises(MarketNotAllowed, match="may not be traded"):
                    await astra.place_order(named, bid)
            with pytest.raises(LimitExceeded, match="max_order_quantity"):
                await astra.place_order("KRAKEN-PERP-XBT-USD", bid.model_copy(update={"quantity": Decimal(2)}))


async def test_the_kill_switch_stops_orders_that_wait_for_the_rate_limit(sandbox: Sandbox, tmp_path: Path) -> None:
    switch = tmp_path / "halt"
    settings = {
        **sandbox.settings,
        "middleware": {"order": ["risk"], "risk": {"kill_switch_file": str(switch)}},
    }
    async with Astra(settings=settings, credentials=[sandbox.credentials("BINANCE")]) as astra:
        resting: dict[str, OrderRequest] = {}
        for symbol in (SPOT, PERP):
            best = (await astra.get_orderbook(symbol, 5)).bids[0][0]
            low = (await astra.market(symbol)).floor_price(Decimal(repr(best)) * Decimal("0.97"))
            resting[symbol] = OrderRequest(side="BUY", quantity="0.002", price=low)
        placed = await astra.place_order(SPOT, resting[SPOT])
        venue = await astra.venue("BINANCE")
        ended: list[object] = []

        async def place(several: bool) -> None:
            try:
                if several:
                    ended.extend(await astra.place_orders([(PERP, resting[PERP])] * 2))
                else:
                    ended.append(await astra.place_order(SPOT, resting[SPOT]))
            except TradingHalted as error:
                ended.append(error)

        async with anyio.create_task_group() as tasks:
            for limiter in venue.rate_limiters.values():
                limiter.pause(1.0, "429")
            for several in (True, False):
                tasks.start_soon(place, several)
            await anyio.wait_all_tasks_blocked()
            switch.touch()
        assert [type(one) for one in ended] == [TradingHalted] * 3
        assert all(isinstance(one, TradingHalted) and one.outcome is Outcome.NOT_EXECUTED for one in ended)
        assert [order.id for order in await astra.list_orders("BINANCE")] == [placed.id]
        await astra.cancel_order(SPOT, id=placed.id)
