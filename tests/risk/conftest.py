"""A small exchange that fills when it is told to, loses answers, and answers reads as late as it is told."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from astra import Astra, Credentials, Market, Order, OrderChange, OrderRequest
from astra.errors import InvalidOrder, OrderNotFound, OrderOutcomeUnknown
from astra.hookspecs import hookimpl
from astra.models.accounts import Balance, Position
from astra.models.orderbook import BookState, Orderbook
from astra.models.orders import MarginMode, OrderRef, OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.plugins import MIDDLEWARE, VENUES, Plugins
from astra.symbols import AssetType
from astra.venue import Venue

ZERO = Decimal(0)
SPOT, CROSS, PERP, INVERSE = "PAPER-SPOT-BTC-USDT", "PAPER-SPOT-BTC-USDC", "PAPER-PERP-BTC-USDT", "PAPER-PERP-BTC-USD"
CREDENTIALS = Credentials.of("PAPER", "paper-key-hunter2", "paper-secret-hunter2")


class SteppedClock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000 + round(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        await self.sleep(seconds)
        return event.is_set()


def market(symbol: str, kind: AssetType, **fields: Any) -> Market:
    _, _, base, quote, *_ = symbol.split("-")
    values = {
        "symbol": symbol,
        "asset_type": kind,
        "base_asset": base,
        "quote_asset": quote,
        "native_symbol": symbol,
        "product": kind.value.lower(),
        "tick_size": "0.01",
        "lot_size": "0.001",
    }
    return Market(**{**values, **fields})


MARKETS = (
    market(SPOT, AssetType.SPOT),
    market(CROSS, AssetType.SPOT),
    market(PERP, AssetType.PERP, contract_size="0.01", contract_type="LINEAR", lot_size="1"),
    market(INVERSE, AssetType.PERP, contract_size="100", contract_type="INVERSE", lot_size="1"),
)


class Exchange:
    """The venue's truth: orders, positions in native units, and a log of what reached it."""

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock
        self.orders: dict[str, Order] = {}
        self.position: dict[str, Decimal] = {m.symbol: ZERO for m in MARKETS}
        self.bids: list[tuple[float, float]] = [(99.0, 5.0), (98.0, 5.0), (90.0, 100.0)]
        self.asks: list[tuple[float, float]] = [(101.0, 5.0), (102.0, 5.0), (110.0, 100.0)]
        self.log: list[str] = []
        self.stubs: dict[str, Callable[..., Any]] = {}
        """By operation: called instead of answering; may be a coroutine function, None goes on as usual."""
        self.order_lag = self.position_lag = ZERO
        """Seconds after which reads show what happened."""
        self.changed: Callable[[], None] = lambda: None
        self._past: list[tuple[float, dict[str, Order], dict[str, Decimal]]] = [(0.0, {}, dict(self.position))]

    def note(self) -> None:
        self._past.append((self.clock.now, dict(self.orders), dict(self.position)))
        self.changed()

    def _seen(self, lag: Decimal) -> tuple[dict[str, Order], dict[str, Decimal]]:
        at = self.clock.now - float(lag)
        _, orders, position = next(past for past in reversed(self._past) if past[0] <= at or past[0] == 0.0)
        return orders, position

    @property
    def orders_seen(self) -> list[Order]:
        """Orders as reads show them."""
        return list(self._seen(self.order_lag)[0].values())

    @property
    def position_seen(self) -> dict[str, Decimal]:
        """Positions as reads show them."""
        return self._seen(self.position_lag)[1]

    def size(self, order: Order) -> Decimal:
        return order.contracts if order.contracts is not None else (order.quantity or ZERO)

    def filled(self, order: Order) -> Decimal:
        found = order.filled_contracts if order.contracts is not None else order.filled_quantity
        return found or ZERO

    def remaining(self, order: Order) -> Decimal:
        return self.size(order) - self.filled(order)

    @property
    def open(self) -> list[Order]:
        return [order for order in self.orders.values() if order.status.is_open]

    def accept(self, one: Market, request: OrderRequest) -> Order:
        assert request.client_order_id is not None
        contracts, quantity = request.contracts, request.quantity
        if quantity is None and request.quote_quantity is not None:
            quantity = request.quote_quantity / Decimal(100)
        if one.contract_size is not None and contracts is None:
            assert quantity is not None
            contracts = quantity / one.contract_size
        order = Order(
            id=str(len(self.orders) + 1),
            client_order_id=request.client_order_id,
            market=one.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            price=request.price,
            stop_price=request.stop_price,
            quantity=quantity,
            contracts=contracts,
            filled_quantity=ZERO,
            filled_contracts=ZERO if contracts is not None else None,
            status=OrderStatus.NEW,
            reduce_only=request.reduce_only,
            post_only=request.post_only,
        )
        self.orders[request.client_order_id] = order
        if request.type is OrderType.MARKET:
            self.fill(request.client_order_id, self.size(order))
        elif request.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self.end(request.client_order_id, OrderStatus.EXPIRED)
        else:
            self.note()
        return self.orders[request.client_order_id]

    def fill(self, client_order_id: str, amount: Decimal) -> None:
        """Fill (native) at most `amount` of what is left."""
        order = self.orders[client_order_id]
        amount = min(amount, self.remaining(order)) if order.status.is_open else ZERO
        if order.reduce_only:
            held = self.position[order.market]
            amount = min(amount, max(held if order.side is Side.SELL else -held, ZERO))
        if not amount:
            return
        self.position[order.market] += amount if order.side is Side.BUY else -amount
        done = self.filled(order) + amount
        over = done == self.size(order)
        status = OrderStatus.FILLED if over else OrderStatus.PARTIALLY_FILLED
        field = "filled_contracts" if order.contracts is not None else "filled_quantity"
        self.orders[client_order_id] = order.model_copy(update={field: done, "status": status})
        self.note()

    def end(self, client_order_id: str, status: OrderStatus = OrderStatus.CANCELED) -> Order:
        order = self.orders.get(client_order_id)
        if order is None or not order.status.is_open:
            raise OrderNotFound("no such open order", exchange="PAPER")
        self.orders[client_order_id] = order.model_copy(update={"status": status})
        self.note()
        return self.orders[client_order_id]

    async def asked(self, operation: str, *args: Any) -> Any:
        self.log.append(operation)
        await anyio.lowlevel.checkpoint()
        stub = self.stubs.get(operation)
        if stub is None:
            return None
        answer = stub(*args)
        return await answer if hasattr(answer, "__await__") else answer


def lost(order: OrderRequest | None = None) -> OrderOutcomeUnknown:
    client_order_id = None if order is None else order.client_order_id
    return OrderOutcomeUnknown("the answer was lost", exchange="PAPER", market=SPOT, client_order_id=client_order_id)


class PaperVenue(Venue):
    code = "PAPER"
    exchange: Exchange

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        return MARKETS

    @hookimpl
    async def get_orderbook(self, market: Market, depth: int) -> Orderbook:
        answer = await self.exchange.asked("get_orderbook", market)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        return Orderbook(market.symbol, 1, self.exchange.bids[:depth], self.exchange.asks[:depth], None, 0)

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        answer = await self.exchange.asked("place_order", market, order)
        return answer if answer is not None else self.exchange.accept(market, order)

    @hookimpl
    async def place_orders(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        answer = await self.exchange.asked("place_orders", orders)
        return answer if answer is not None else [self.exchange.accept(one, order) for one, order in orders]

    @hookimpl
    async def get_order(self, market: Market, ref: OrderRef) -> Order:
        await self.exchange.asked("get_order", market, ref)
        for order in self.exchange.orders.values():
            if ref.client_order_id == order.client_order_id or ref.id == order.id:
                return order
        raise OrderNotFound("no such order", exchange="PAPER")

    @hookimpl
    async def cancel_order(self, market: Market, ref: OrderRef) -> Order:
        await self.exchange.asked("cancel_order", market, ref)
        for order in self.exchange.open:
            if ref.client_order_id == order.client_order_id or ref.id == order.id:
                assert order.client_order_id is not None
                return self.exchange.end(order.client_order_id)
        raise OrderNotFound("no such open order", exchange="PAPER")

    @hookimpl
    async def cancel_all_orders(self, market: Market | None) -> Sequence[Order]:
        await self.exchange.asked("cancel_all_orders", market)
        names = [
            order.client_order_id for order in self.exchange.open if market is None or market.symbol == order.market
        ]
        return [self.exchange.end(name) for name in names if name is not None]

    @hookimpl
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange) -> Order:
        answer = await self.exchange.asked("amend_order", market, ref, change)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        order = self.exchange.orders.get(ref.client_order_id or "")
        if order is None or not order.status.is_open:
            raise OrderNotFound("no such open order", exchange="PAPER")
        size = change.contracts or change.quantity
        if size is not None and market.contract_size is not None and change.contracts is None:
            size = size / market.contract_size
        if size is not None and size <= self.exchange.filled(order):
            raise InvalidOrder("already filled more", exchange="PAPER")
        update: dict[str, Any] = {}
        if size is not None:
            update["contracts" if market.contract_size is not None else "quantity"] = size
        if change.price is not None:
            update["price"] = change.price
        self.exchange.orders[order.client_order_id or ""] = order.model_copy(update=update)
        self.exchange.note()
        return self.exchange.orders[order.client_order_id or ""]

    @hookimpl
    async def list_orders(self, market: Market | None) -> Sequence[Order]:
        answer = await self.exchange.asked("list_orders", market)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        wanted = None if market is None else market.symbol
        return [order for order in self.exchange.orders_seen if order.status.is_open and wanted in (None, order.market)]

    @hookimpl
    async def get_balances(self) -> Sequence[Balance]:
        answer = await self.exchange.asked("get_balances")
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        position = self.exchange.position_seen
        held = position[SPOT] + position[CROSS]
        return [
            Balance(
                asset="BTC",
                wallet="spot",
                total=max(held, ZERO),
                borrowed=max(-held, ZERO),
                available=ZERO,
                locked=ZERO,
            )
        ]

    @hookimpl
    async def get_positions(self) -> Sequence[Position]:
        answer = await self.exchange.asked("get_positions")
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        position = self.exchange.position_seen
        return [
            Position(
                market=symbol,
                side=PositionSide.LONG if position[symbol] > 0 else PositionSide.SHORT,
                quantity=None,
                contracts=abs(position[symbol]),
            )
            for symbol in (PERP, INVERSE)
            if position[symbol]
        ]

    @hookimpl
    async def set_leverage(self, market: Market, leverage: Decimal) -> None:
        await self.exchange.asked("set_leverage", market, leverage)

    @hookimpl
    async def set_margin_mode(self, market: Market, mode: MarginMode) -> None:
        await self.exchange.asked("set_margin_mode", market, mode)

    @hookimpl
    async def set_position_mode(self, hedge: bool) -> None:
        await self.exchange.asked("set_position_mode", hedge)

    @hookimpl
    async def resolve_order(self, market: Market, client_order_id: str, since: int) -> Order | bool:
        answer = await self.exchange.asked("resolve_order", client_order_id, since)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        return self.exchange.orders.get(client_order_id, False)


class Desk:
    """An `Astra` with risk limits in front of the exchange. `live_book` may be set to a book."""

    lost = staticmethod(lost)

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.exchange = Exchange(self.clock)
        self.credentials = [CREDENTIALS]

    @contextmanager
    def installed(self) -> Iterator[Plugins]:
        name = f"paper_venue_{id(self)}"
        venue = type("Paper", (PaperVenue,), {"exchange": self.exchange})
        sys.modules[name] = SimpleNamespace(venue=venue)  # type: ignore[assignment]
        entry = importlib.metadata.EntryPoint
        found = [
            entry("PAPER", f"{name}:venue", VENUES),
            entry("risk", "astra_risk.middleware:Risk", MIDDLEWARE),
        ]
        try:
            yield Plugins(entry_points=lambda: found)
        finally:
            del sys.modules[name]

    def astra(self, plugins: Plugins, limits: Mapping[str, Any]) -> Astra:
        return Astra(
            # Lost answers are not looked up: what the limits make of them is the test.
            settings={"middleware": {"order": ["risk"], "risk": dict(limits)}, "trading": {"resolve_s": 0}},
            credentials=self.credentials,
            plugins=plugins,
            clock=self.clock,
        )


class RunningBook:
    """A live book as the risk limits look at it."""

    def __init__(self, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> None:
        self.state = BookState.LIVE
        self._bids, self._asks = bids, asks

    def bids(self, depth: int) -> list[tuple[float, float]]:
        return self._bids[:depth]

    def asks(self, depth: int) -> list[tuple[float, float]]:
        return self._asks[:depth]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def new_desk() -> type[Desk]:
    """For tests that need a desk for each of many examples."""
    return Desk


@pytest.fixture
def running_book() -> type[RunningBook]:
    return RunningBook


@pytest.fixture
def open_desk(desk: Desk) -> Iterator[Callable[..., Astra]]:
    """Make an `Astra` with these limits on the desk's exchange."""
    with desk.installed() as plugins:
        yield lambda **limits: desk.astra(plugins, limits)
