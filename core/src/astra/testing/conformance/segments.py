"""The parts of a venue that are checked one by one: each product, and in it each kind of contract."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orders import OrderRequest
from astra.models.trades import Side
from astra.sandbox import Exchange
from astra.symbols import AssetType
from astra.testing.conformance.catalogue import close, fail

SPOT, LINEAR, INVERSE, QUANTO, OPTION = KINDS = ("spot", "linear", "inverse", "quanto", "option")
WORTH = Decimal(50)
"""Where a market names no smallest order, orders are worth about so much, in units of the quote asset."""


def kind_of(market: Market) -> str:
    """What decides how amounts of the market are converted and settled."""
    if market.asset_type is AssetType.SPOT:
        return SPOT
    if market.asset_type is AssetType.OPT:
        return OPTION
    kinds = {ContractType.INVERSE: INVERSE, ContractType.QUANTO: QUANTO}
    return kinds.get(market.contract_type or ContractType.LINEAR, LINEAR)


class Segment(msgspec.Struct, frozen=True):
    """A product and kind of contract, and its markets; checks of one market take the first."""

    name: str
    product: str
    kind: str
    markets: Sequence[Market]

    @property
    def market(self) -> Market:
        return self.markets[0]


def segments_of(markets: Sequence[Market]) -> list[Segment]:
    """The segments that have active markets. Markets whose contract size is not 1 come first: they show what is not
    converted."""
    found: dict[tuple[str, str], list[Market]] = {}
    for market in markets:
        if market.status is MarketStatus.ACTIVE:
            found.setdefault((market.product, kind_of(market)), []).append(market)
    kinds_of: dict[str, int] = {}
    for product, _ in found:
        kinds_of[product] = kinds_of.get(product, 0) + 1
    return [
        Segment(
            name=product if kinds_of[product] == 1 else f"{product}:{kind}",
            product=product,
            kind=kind,
            markets=sorted(there, key=lambda market: market.contract_size in (None, 1)),
        )
        for (product, kind), there in found.items()
    ]


# -- amounts ------------------------------------------------------------------------------------------------------


def step_of(market: Market, price: Decimal) -> Decimal:
    """The smallest step of the market's native quantity."""
    if market.lot_size:
        return market.lot_size
    return Decimal(1) if market.contract_size is not None else Decimal(1).scaleb((WORTH / price).adjusted() - 2)


def least(market: Market, price: Decimal) -> Decimal:
    """The smallest native quantity (contracts, or base units) that may be ordered at the price."""
    step = step_of(market, price)
    quantity = max(step, market.min_quantity or step, market.market_min_quantity or step)
    worth = market.min_notional or (WORTH if market.contract_size is None and not market.min_quantity else None)
    if worth:
        size = market.contract_size or Decimal(1)
        each = size if market.is_inverse else size * price
        quantity = max(quantity, worth * Decimal("1.05") / each)
    return (quantity / step).to_integral_value(ROUND_CEILING) * step


def resting_price(market: Market, engine: Exchange) -> Decimal:
    """A price at which a bid rests."""
    _, bids, asks = engine.depth(market.symbol, 1)
    best = bids[0].price if bids else asks[0].price
    price = market.floor_price(best * Decimal("0.97"))
    tick = market.tick_at(price) or market.tick_size or best
    return max(price, tick, market.min_price or tick)


def amount(market: Market, native: Decimal) -> dict[str, Decimal]:
    """A native quantity as an order gives it: contracts of inverse markets, else base units."""
    if market.contract_size is None:
        return {"quantity": native}
    if market.is_inverse:
        return {"contracts": native}
    return {"quantity": native * market.contract_size}


def limit(market: Market, side: Side | str, native: Decimal, price: Decimal, **more: Any) -> OrderRequest:
    """A limit order of so many lots or contracts."""
    fields = {"side": side, "type": "LIMIT", "price": price, **amount(market, native), **more}
    return OrderRequest.model_validate(fields)


# -- what the engine says, in base units ----------------------------------------------------------------------------


def true_book(
    engine: Exchange, market: Market, levels: int = 100_000
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The engine's book, best levels first."""
    _, bids, asks = engine.depth(market.symbol, levels)
    sides: list[list[tuple[float, float]]] = [[], []]
    for side, found in zip(sides, (bids, asks), strict=True):
        for level in found:
            quantity = market.base_quantity(level.quantity, level.price)
            assert quantity is not None
            side.append((float(level.price), float(quantity)))
    return sides[0], sides[1]


def compare_side(
    what: str, seen: list[tuple[float, float]], true: list[tuple[float, float]], *, at_least: int = 0
) -> None:
    """A side, best first, must be the best levels of the engine's, at least so many of them."""
    for number, ((price, quantity), (true_price, true_quantity)) in enumerate(zip(seen, true, strict=False)):
        if not close(price, true_price):
            fail(f"{what} level {number}: expected price {true_price!r}, seen {price!r}")
        if not close(quantity, true_quantity):
            at = f"{what} level {number} at {price!r}"
            fail(f"{at}: expected quantity {true_quantity!r} (base units), seen {quantity!r}")
    if len(seen) > len(true):
        fail(f"{what}: expected {len(true)} levels, seen {len(seen)}, beyond them {seen[len(true)]}")
    if len(seen) < min(at_least, len(true)):
        fail(f"{what}: expected at least {min(at_least, len(true))} levels, seen {len(seen)}")
