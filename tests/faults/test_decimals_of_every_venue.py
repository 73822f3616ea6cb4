"""Prices and sizes come back from every venue as the very decimals that were sent, in the venue's number format.

Random valid orders of every product rest in the sandbox's empty books: the engine, the answer to the placement, a
look-up, the list of open orders and the cancel all have what was sent. Venues are found by their entry points.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any, NamedTuple

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from astra import Astra
from astra.models.markets import Market, MarketStatus
from astra.models.orders import Order, OrderRequest, OrderStatus
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra.symbols import AssetType
from astra_sandbox import Sandbox
from astra_sandbox.prices import AssetValues

MOST_WORTH = Decimal(100_000)
"""Of one order, in about US dollars: the account can pay for all of them."""
EXAMPLES = 60
PLUGINS = Plugins()
EXCHANGES = [name for name in PLUGINS.names(VENUES) if name in set(PLUGINS.names(SANDBOXES))]
PRODUCTS = [(exchange, product) for exchange in EXCHANGES for product in PLUGINS.load(VENUES, exchange).products]


class Stage(NamedTuple):
    exchange: str
    portal: BlockingPortal
    sandbox: Sandbox
    astra: Astra
    markets: dict[str, list[Market]]
    values: AssetValues


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, no_limits: Any) -> Iterator[Stage]:
    """A plugin on a sandbox with empty books, where every order rests, in an event loop of another thread: the
    examples of a test are many, and plain functions."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(opened(request.param, portal, no_limits)) as running,
    ):
        yield running


@asynccontextmanager
async def opened(exchange: str, portal: BlockingPortal, no_limits: Any) -> AsyncIterator[Stage]:
    async with (
        Sandbox([exchange], flow=False) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials(exchange)]) as astra,
    ):
        await no_limits(exchange, sandbox, astra)
        markets: dict[str, list[Market]] = {}
        for market in await astra.list_markets(exchange):
            if market.status is MarketStatus.ACTIVE:
                markets.setdefault(market.product, []).append(market)
        yield Stage(exchange, portal, sandbox, astra, markets, AssetValues(sandbox.seed))


def drawn_order(draw: st.DataObject, stage: Stage, market: Market) -> OrderRequest:
    """Any valid limit order of bounded worth: prices of all magnitudes that the market takes, on its tick."""
    tick, lot = market.tick_size, market.lot_size or Decimal(1)
    assert tick is not None
    engine = stage.sandbox.engine(stage.exchange)
    mark = engine.mark_price(market.symbol)
    least = max(market.min_price or tick, tick)
    if market.min_notional and market.max_quantity and not market.is_inverse:
        # Below this the largest order would be worth too little.
        least = max(least, 2 * market.min_notional / market.max_quantity / (market.contract_size or 1))
    if market.is_inverse:
        # The margin is in coins, and the cheaper they are the more it takes.
        least = max(least, mark / 10)
    most = min(engine.markets[market.symbol].max_price or 10 * mark, 10 * mark)
    drawn = tick * draw.draw(st.integers(steps(least, tick, ROUND_CEILING), steps(most, tick, ROUND_FLOOR)), "price")
    price = market.floor_price(drawn)
    with localcontext(prec=60):
        one = worth(stage, market, lot, max(price, mark))
        fewest = steps(market.min_quantity or lot, lot, ROUND_CEILING)
        if market.min_notional and not market.is_inverse:
            fewest = max(fewest, steps(market.min_notional / (price * (market.contract_size or 1)), lot, ROUND_CEILING))
        largest = min(market.max_quantity or lot * 10**9, lot * max(steps(MOST_WORTH, one, ROUND_FLOOR), 1))
        quantity = lot * draw.draw(st.integers(fewest, max(fewest, steps(largest, lot, ROUND_FLOOR))), "quantity")
    size = "quantity" if market.contract_size is None else "contracts"
    post_only = draw.draw(st.booleans(), "post only")
    wanted = {"side": "BUY", "type": "LIMIT", "price": price, size: quantity, "post_only": post_only}
    return OrderRequest.model_validate(wanted)


def steps(amount: Decimal, step: Decimal, rounding: str) -> int:
    return int((amount / step).to_integral_value(rounding))


def worth(stage: Stage, market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """What a quantity is worth, roughly in US dollars."""
    size = market.contract_size or 1
    if market.is_inverse:
        return quantity * size * stage.values[market.quote_asset]
    coin = market.asset_type is AssetType.OPT and market.is_coin_margined
    return quantity * size * price * stage.values[market.base_asset if coin else market.quote_asset]


def amounts(order: Order, market: Market) -> tuple[Decimal | None, Decimal | None]:
    return order.price, order.quantity if market.contract_size is None else order.contracts


@pytest.mark.parametrize(("stage", "product"), PRODUCTS, indirect=["stage"])
@settings(max_examples=EXAMPLES)
@given(draw=st.data())
def test_an_order_reads_back_with_the_same_decimals(draw: st.DataObject, stage: Stage, product: str) -> None:
    market = draw.draw(st.sampled_from(stage.markets[product]))
    stage.portal.call(read_back, stage, market, drawn_order(draw, stage, market))


async def read_back(stage: Stage, market: Market, order: OrderRequest) -> None:
    sent = (order.price, order.quantity if market.contract_size is None else order.contracts)
    engine = stage.sandbox.engine(stage.exchange)
    account = engine.account("default")
    assert account is not None
    placed = await stage.astra.place_order(market.symbol, order)
    known = [(one.price, one.quantity) for one in engine.open_orders(account, market.symbol)]
    found = await stage.astra.get_order(market.symbol, client_order_id=placed.client_order_id)
    listed = await stage.astra.list_orders(market.symbol)
    canceled = await stage.astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)
    assert known == [sent], "the venue itself has them"
    assert [amounts(seen, market) for seen in (placed, found, *listed, canceled)] == [sent] * 4
    assert {seen.client_order_id for seen in (placed, found, *listed, canceled)} == {placed.client_order_id}
    assert listed[0].status is OrderStatus.NEW
