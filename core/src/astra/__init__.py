"""One normalised API over many crypto trading venues: the core.

    from astra import Astra

    async with Astra() as astra:
        async with astra.stream_orderbook("BINANCE-SPOT-BTC-USDT") as stream:
            async for update in stream:
                ...

The public names below are imported when they are first used: importing Astra is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astra import errors as errors
    from astra.app import Astra as Astra
    from astra.config import Settings as Settings
    from astra.config import load_settings as load_settings
    from astra.models.accounts import AccountEvent as AccountEvent
    from astra.models.accounts import AccountStatus as AccountStatus
    from astra.models.accounts import Balance as Balance
    from astra.models.accounts import Fees as Fees
    from astra.models.accounts import Position as Position
    from astra.models.credentials import ApiKey as ApiKey
    from astra.models.credentials import Credentials as Credentials
    from astra.models.markets import ContractType as ContractType
    from astra.models.markets import Market as Market
    from astra.models.markets import MarketStatus as MarketStatus
    from astra.models.orderbook import BookState as BookState
    from astra.models.orderbook import Integrity as Integrity
    from astra.models.orderbook import Level as Level
    from astra.models.orderbook import Orderbook as Orderbook
    from astra.models.orderbook import OrderbookUpdate as OrderbookUpdate
    from astra.models.orderbook import UpdateKind as UpdateKind
    from astra.models.orders import Fill as Fill
    from astra.models.orders import Liquidity as Liquidity
    from astra.models.orders import MarginMode as MarginMode
    from astra.models.orders import Order as Order
    from astra.models.orders import OrderChange as OrderChange
    from astra.models.orders import OrderOptions as OrderOptions
    from astra.models.orders import OrderRef as OrderRef
    from astra.models.orders import OrderRequest as OrderRequest
    from astra.models.orders import OrderStatus as OrderStatus
    from astra.models.orders import OrderType as OrderType
    from astra.models.orders import PositionSide as PositionSide
    from astra.models.orders import TimeInForce as TimeInForce
    from astra.models.trades import Gap as Gap
    from astra.models.trades import Lagged as Lagged
    from astra.models.trades import Side as Side
    from astra.models.trades import Trade as Trade
    from astra.models.trades import TradeEvent as TradeEvent
    from astra.plugins import Plugins as Plugins
    from astra.streams.hub import LiveBook as LiveBook
    from astra.streams.stream import MarketStream as MarketStream
    from astra.symbols import AssetType as AssetType
    from astra.symbols import OptionType as OptionType
    from astra.symbols import Symbol as Symbol

    __version__: str

_HOMES = {
    "astra.app": ("Astra",),
    "astra.config": ("Settings", "load_settings"),
    "astra.models.accounts": ("AccountEvent", "AccountStatus", "Balance", "Fees", "Position"),
    "astra.models.credentials": ("ApiKey", "Credentials"),
    "astra.models.markets": ("ContractType", "Market", "MarketStatus"),
    "astra.models.orderbook": ("BookState", "Integrity", "Level", "Orderbook", "OrderbookUpdate", "UpdateKind"),
    "astra.models.orders": (
        "Fill",
        "Liquidity",
        "MarginMode",
        "Order",
        "OrderChange",
        "OrderOptions",
        "OrderRef",
        "OrderRequest",
        "OrderStatus",
        "OrderType",
        "PositionSide",
        "TimeInForce",
    ),
    "astra.models.trades": ("Gap", "Lagged", "Side", "Trade", "TradeEvent"),
    "astra.plugins": ("Plugins",),
    "astra.streams.hub": ("LiveBook",),
    "astra.streams.stream": ("MarketStream",),
    "astra.symbols": ("AssetType", "OptionType", "Symbol"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME_OF), "__version__", "errors"]  # noqa: PLE0604 (all of them are text)


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("astra-api")
    elif name == "errors":
        value = importlib.import_module("astra.errors")
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'astra' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
