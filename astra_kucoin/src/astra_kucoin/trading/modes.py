"""Which back end trades: that of classic accounts or that of unified ones, as each account is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

from astra.models.credentials import Credentials
from astra.models.orders import OrderRequest
from astra_kucoin.rest import CLASSIC, Rest
from astra_kucoin.settings import FUTURES
from astra_kucoin.trading.base import KucoinTrading
from astra_kucoin.trading.futures import FuturesTrading
from astra_kucoin.trading.spot import SpotTrading
from astra_kucoin.trading.unified import UnifiedTrading


def _of_account(method: str) -> Any:
    """The method of whichever back end serves the account, the credentials of which are the last argument."""

    async def served(self: ByMode, *args: Any) -> Any:
        part = await self.part(args[-1])
        act: Callable[..., Awaitable[Any]] = getattr(part, method)
        return await act(*args)

    served.__name__ = method
    return served


class ByMode(KucoinTrading):
    """One product: asks of what kind an account is, once, and hands on."""

    def over(self, rest: Rest, classic: KucoinTrading, unified: UnifiedTrading) -> ByMode:
        """Hand on to these two."""
        self._accounts = rest
        self._classic, self._unified = classic, unified
        return self

    async def part(self, credentials: Credentials) -> KucoinTrading:
        """The back end of the account. Raises what keeps the venue from telling which one that is."""
        mode = await self._accounts.mode(self.product, credentials)
        return self._classic if mode == CLASSIC else self._unified

    place: Any = _of_account("place")
    get: Any = _of_account("get")
    cancel: Any = _of_account("cancel")
    cancel_all: Any = _of_account("cancel_all")
    cancel_everywhere: Any = _of_account("cancel_everywhere")
    open_orders: Any = _of_account("open_orders")
    fills: Any = _of_account("fills")
    balances: Any = _of_account("balances")
    fees: Any = _of_account("fees")
    amend: Any = _of_account("amend")
    place_batch: Any = _of_account("place_batch")
    resolve: Any = _of_account("resolve")


class Spot(ByMode):
    title = SpotTrading.title
    fills_by_market = True

    keep_alive_orders: Any = _of_account("keep_alive_orders")

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        self._classic.check_batch(orders)


class Futures(ByMode):
    title = FuturesTrading.title
    # What tables say of the product: only unified accounts can amend.
    lacks: ClassVar[Mapping[str, Collection[str]]] = {FUTURES: ("amend",)}
    cancel_batch: Any = _of_account("cancel_batch")
    positions: Any = _of_account("positions")
    set_leverage: Any = _of_account("set_leverage")
    set_margin_mode: Any = _of_account("set_margin_mode")
    set_position_mode: Any = _of_account("set_position_mode")
