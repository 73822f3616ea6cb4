"""Markets, a clock that stands still, and a short way to write orders."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from astra.models.markets import ContractType, Market
from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import NewOrder
from astra.symbols import AssetType, OptionType

START_MS = 1_790_000_000_000


class StillClock:
    """Time passes only when a test says so."""

    def __init__(self) -> None:
        self.ms = START_MS

    def wall_ns(self) -> int:
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        return self.ms / 1000

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps here")

    async def wait(self, event: Any, seconds: float) -> bool:
        raise AssertionError("nothing waits here")


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def make_markets() -> dict[str, Market]:
    spot = Market(
        symbol="TOY-SPOT-BTC-USDT",
        asset_type=AssetType.SPOT,
        base_asset="BTC",
        quote_asset="USDT",
        native_symbol="BTCUSDT",
        product="spot",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.001"),
        min_quantity=Decimal("0.001"),
        max_quantity=Decimal(1000),
        min_notional=Decimal(5),
        max_price=Decimal(1_000_000),
    )
    linear = Market(
        symbol="TOY-PERP-BTC-USDT",
        asset_type=AssetType.PERP,
        base_asset="BTC",
        quote_asset="USDT",
        margin_asset="USDT",
        native_symbol="BTCUSDT",
        product="usdm",
        tick_size=Decimal("0.1"),
        lot_size=Decimal("0.001"),
        contract_type=ContractType.LINEAR,
    )
    inverse = Market(
        symbol="TOY-PERP-BTC-USD-COINM",
        asset_type=AssetType.PERP,
        base_asset="BTC",
        quote_asset="USD",
        margin_asset="BTC",
        native_symbol="BTCUSD_PERP",
        product="coinm",
        tick_size=Decimal("0.1"),
        lot_size=Decimal(1),
        contract_size=Decimal(100),
        contract_type=ContractType.INVERSE,
    )
    option = Market(
        symbol="TOY-OPT-BTC-USDT-261225-100000-C",
        asset_type=AssetType.OPT,
        base_asset="BTC",
        quote_asset="USDT",
        margin_asset="USDT",
        native_symbol="BTC-261225-100000-C",
        product="options",
        tick_size=Decimal(5),
        lot_size=Decimal("0.01"),
        contract_size=Decimal(1),
        contract_type=ContractType.LINEAR,
        expiry=START_MS + 35 * 86_400_000,
        strike=Decimal(100_000),
        option_type=OptionType.CALL,
    )
    return {"spot": spot, "linear": linear, "inverse": inverse, "option": option}


@pytest.fixture
def markets() -> dict[str, Market]:
    """One market of each kind: spot, linear, inverse, option."""
    return make_markets()


@pytest.fixture(scope="module")
def all_markets() -> dict[str, Market]:
    """The same for tests whose fixtures must outlive an example."""
    return make_markets()


def make_order(market: Market, side: str, quantity: Any = None, price: Any = None, **more: Any) -> NewOrder:
    def decimal(value: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    kind = more.pop("type", "MARKET" if price is None else "LIMIT")
    return NewOrder(
        market=market.symbol,
        side=Side(side),
        type=OrderType(kind),
        quantity=decimal(quantity),
        price=decimal(price),
        quote_quantity=decimal(more.pop("quote", None)),
        stop_price=decimal(more.pop("stop", None)),
        **more,
    )


@pytest.fixture
def order() -> Callable[..., NewOrder]:
    """`order(market, "BUY", "1.5", "100")`: LIMIT with a price, MARKET without; `quote=`, `stop=`, other fields."""
    return make_order
