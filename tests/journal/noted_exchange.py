"""A venue that answers as it is told, for the tests of the journal; and a program that dies while it waits for one.

    python noted_exchange.py JOURNAL OPERATION

sends one command to a venue that never answers, and says "sent" when it got there.
"""

from __future__ import annotations

import importlib.metadata
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import anyio

from astra import Astra, Credentials, Market, Order, OrderChange, OrderRequest
from astra.errors import OrderNotFound
from astra.hookspecs import hookimpl
from astra.models.orders import MarginMode, OrderRef, OrderStatus
from astra.plugins import MIDDLEWARE, VENUES, Plugins
from astra.symbols import AssetType
from astra.venue import Venue

BTC = "NOTED-SPOT-BTC-USDT"
KEY, SECRET, PASSPHRASE = "noted-key-hunter2hunter2", "noted-secret-hunter2hunter2", "noted-phrase-hunter2"
CREDENTIALS = Credentials.of("NOTED", KEY, SECRET, PASSPHRASE)


class Noted(Venue):
    """Remembers what it was asked; `stubs` by operation answer, raise or hang instead of it."""

    code = "NOTED"
    log: ClassVar[list[tuple[Any, ...]]] = []
    stubs: ClassVar[dict[str, Callable[..., Any]]] = {}

    async def _answer(self, operation: str, *args: Any) -> Any:
        self.log.append((operation, *args))
        await anyio.lowlevel.checkpoint()
        stub = self.stubs.get(operation)
        answer: Any = None if stub is None else stub(*args)
        return await answer if hasattr(answer, "__await__") else answer

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        return [
            Market(
                symbol=f"NOTED-{kind}-{base}-USDT",
                asset_type=AssetType(kind),
                base_asset=base,
                quote_asset="USDT",
                native_symbol=f"{base}{kind}",
                product=kind.lower(),
            )
            for kind, base in (("SPOT", "BTC"), ("SPOT", "ETH"), ("PERP", "BTC"))
        ]

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        answer = await self._answer("place_order", market, order, credentials)
        return answer if answer is not None else order_of(market, order)

    @hookimpl
    async def place_orders(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        answer = await self._answer("place_orders", orders, credentials)
        return answer if answer is not None else [order_of(market, order) for market, order in orders]

    @hookimpl
    async def get_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        answer = await self._answer("get_order", market, ref)
        if answer is None:
            raise OrderNotFound("no such order", exchange="NOTED")
        return answer  # type: ignore[no-any-return]

    @hookimpl
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        answer = await self._answer("amend_order", market, ref, change)
        return answer if answer is not None else order_of(market, OrderRequest(side="BUY", quantity="1", price="9"))

    @hookimpl
    async def cancel_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        answer = await self._answer("cancel_order", market, ref)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        request = OrderRequest(side="BUY", quantity="1", price="9", client_order_id=ref.client_order_id)
        return order_of(market, request, status=OrderStatus.CANCELED)

    @hookimpl
    async def cancel_all_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        return await self._answer("cancel_all_orders", market) or []

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        return await self._answer("list_orders", market) or []

    @hookimpl
    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        await self._answer("set_leverage", market, leverage)

    @hookimpl
    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        await self._answer("set_margin_mode", market, mode)

    @hookimpl
    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        await self._answer("set_position_mode", hedge)

    @hookimpl
    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        await self._answer("keep_alive_orders", market, timeout_s)

    @hookimpl
    async def resolve_order(
        self, market: Market, client_order_id: str, since: int, credentials: Credentials
    ) -> Order | bool:
        answer = await self._answer("resolve_order", client_order_id, since, credentials)
        return False if answer is None else answer


def order_of(market: Market, order: OrderRequest, **fields: Any) -> Order:
    values = {
        "id": "77",
        "client_order_id": order.client_order_id,
        "market": market.symbol,
        "side": order.side,
        "type": order.type,
        "price": order.price,
        "quantity": order.quantity,
        "status": OrderStatus.NEW,
    }
    return Order(**{**values, **fields})


def plugins_of(*middleware: tuple[str, str], venue: str = "noted_exchange:Noted") -> Plugins:
    entry = importlib.metadata.EntryPoint
    found = [
        entry("NOTED", venue, VENUES),
        entry("journal", "astra_journal.middleware:CommandJournal", MIDDLEWARE),
        entry("risk", "astra_risk.middleware:Risk", MIDDLEWARE),
        *(entry(name, target, MIDDLEWARE) for name, target in middleware),
    ]
    return Plugins(entry_points=lambda: found)


def astra_on(
    journal: Path,
    *,
    credentials: Iterable[Credentials] = (CREDENTIALS,),
    order: Sequence[str] = ("journal",),
    settings: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    clock: Any = None,
) -> Astra:
    """An application whose journal is this file; lost answers are not looked up."""
    sections = {"order": list(order), "journal": {"path": str(journal), **(settings or {})}}
    return Astra(
        settings={"middleware": sections, "trading": {"resolve_s": 0}},
        credentials=credentials,
        plugins=plugins or plugins_of(),
        clock=clock,
        random=random.Random(journal.name) if clock is not None else None,
    )


async def send_and_hang(journal: Path, operation: str) -> None:
    async def hang(*_: Any) -> None:
        sys.stdout.write("sent\n")
        sys.stdout.flush()
        await anyio.sleep_forever()

    Noted.stubs[operation] = hang
    order = OrderRequest(side="BUY", quantity="1", price="9", client_order_id="orphan1")
    async with astra_on(journal, plugins=plugins_of(venue="__main__:Noted")) as astra:
        commands: dict[str, Callable[[], Any]] = {
            "place_order": lambda: astra.place_order(BTC, order),
            "place_orders": lambda: astra.place_orders(
                [(BTC, order), (BTC, order.model_copy(update={"client_order_id": "orphan2"}))]
            ),
            "cancel_order": lambda: astra.cancel_order(BTC, client_order_id="orphan1"),
        }
        await commands[operation]()


if __name__ == "__main__":
    anyio.run(send_and_hang, Path(sys.argv[1]), sys.argv[2])
