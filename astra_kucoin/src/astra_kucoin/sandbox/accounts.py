"""Private streams: who listens to an account, and what of the engine's events concerns him."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from astra.models.orders import OrderStatus
from astra.sandbox import (
    Account,
    BalanceEvent,
    BookChange,
    EngineEvent,
    EngineOrder,
    Exchange,
    OrderEvent,
    PositionEvent,
)
from astra_kucoin.sandbox.catalogue import Catalogue, waits
from astra_kucoin.sandbox.classic_reports import ClassicReports, frame
from astra_kucoin.sandbox.unified_reports import UnifiedReports
from astra_kucoin.sandbox.wire import FUTURES, SPOT

CLASSIC_TOPICS = {
    SPOT: ("/spotMarket/tradeOrdersV2", "/spotMarket/tradeOrders", "/spotMarket/advancedOrders", "/account/balance"),
    FUTURES: (
        "/contractMarket/tradeOrders",
        "/contractMarket/advancedOrders",
        "/contractAccount/wallet",
        "/contract/positionAll",
        "/contract/position",
        "/contract/marginMode",
        "/contract/crossLeverage",
    ),
}
UNIFIED_CHANNELS = ("orderAll", "order", "execution", "balance", "positionAll", "position", "lw", "leverage")
_MARK_EVERY_MS = 1000


class Listener(Protocol):
    def deliver(self, frame: bytes) -> None: ...


class AccountDesk:
    """Everybody who listens to an account.

    An order rests only when the command that placed it is complete: `open` follows its matches, at the change of the
    book that ends the command.
    """

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, classic: ClassicReports, unified: UnifiedReports
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._classic = classic
        self._unified = unified
        self._listeners: dict[tuple[str, str], dict[Listener, None]] = {}
        self._accounts: dict[str, Account] = {}
        self._resting: dict[str, dict[int, EngineOrder]] = {}
        self._sizes: dict[int, Decimal] = {}
        self._cause: dict[str, OrderEvent] = {}
        self._marked_ms = 0

    # --- subscriptions ---

    def join(self, account: Account, topic: str, listener: Listener) -> None:
        if account.name not in self._accounts:
            self._accounts[account.name] = account
            for balance in self._engine.balances(account):
                if balance.wallet == SPOT:
                    self._classic.remember(account, balance.asset, balance.total, balance.locked)
            for order in self._engine.open_orders(account):
                self._sizes[order.id] = order.quantity
        self._listeners.setdefault((account.name, topic), {})[listener] = None

    @property
    def listening(self) -> bool:
        """Does anybody listen to any account?"""
        return bool(self._listeners)

    def leave(self, account: Account, topic: str, listener: Listener) -> None:
        found = self._listeners.get((account.name, topic), {})
        found.pop(listener, None)
        if not found:
            self._listeners.pop((account.name, topic), None)

    def _tell(self, account: str, topic: str, write: Callable[[], dict[str, Any]]) -> None:
        listeners = self._listeners.get((account, topic))
        if listeners:
            encoded = msgspec.json.encode(write())
            for listener in list(listeners):
                listener.deliver(encoded)

    def _push(self, account: str, channel: str, now_ms: int, write: Callable[[], dict[str, Any]]) -> None:
        """To the listeners of a unified channel; the push type names what they subscribed to."""
        for trade_type in ("UNIFIED", "SPOT", "FUTURES"):
            name = channel.partition(":")[0]
            self._tell(
                account,
                f"{channel}.{trade_type}",
                lambda kind=f"{name}.{trade_type}": {  # type: ignore[misc]
                    "P": now_ms * 1_000_000 + 898_382,
                    "T": kind,
                    "d": write(),
                },
            )

    # --- events ---

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine, or of an order that the engine never had."""
        if isinstance(event, OrderEvent):
            if event.order.account in self._accounts:
                self._cause[event.order.account] = event
                self._order(event)
        elif isinstance(event, BalanceEvent):
            if event.account in self._accounts:
                self._balance(event)
        elif isinstance(event, PositionEvent):
            if event.account in self._accounts:
                self._position(event)
        elif isinstance(event, BookChange):
            waiting = self._resting.pop(event.market, None)
            for order in (waiting or {}).values():
                self._say(order, "open", event.time)

    def _order(self, event: OrderEvent) -> None:
        order, now_ms = event.order, event.time
        if waits(order) or event.kind == "TRIGGERED":
            self._stop(event)
            if event.kind != "TRIGGERED":
                return
        self._push_order(event)
        if event.kind in ("NEW", "TRIGGERED"):
            self._sizes[order.id] = order.quantity
            self._say(order, "received", now_ms)
            if order.price is not None:
                self._resting.setdefault(order.market, {})[order.id] = order
        elif event.kind == "TRADE":
            self._remember(order)
            self._say(order, "match", now_ms, event)
            if order.status is OrderStatus.FILLED:
                self._settled(order)
                self._say(order, "filled", now_ms)
        elif event.kind == "AMENDED":
            old, self._sizes[order.id] = self._sizes.get(order.id), order.quantity
            self._say(order, "update", now_ms, old=old)
        else:
            self._settled(order)
            self._say(order, "canceled", now_ms)

    def _remember(self, order: EngineOrder) -> None:
        waiting = self._resting.get(order.market)
        if waiting is not None and order.id in waiting:
            waiting[order.id] = order

    def _settled(self, order: EngineOrder) -> None:
        self._sizes.pop(order.id, None)
        self._resting.get(order.market, {}).pop(order.id, None)

    def _say(
        self,
        order: EngineOrder,
        kind: str,
        now_ms: int,
        event: OrderEvent | None = None,
        *,
        old: Decimal | None = None,
    ) -> None:
        """Tell the classic listeners; `received` is known to the second version of the spot topic alone."""
        account = self._accounts[order.account]
        fill = None if event is None else event.fill
        listing = self._catalogue.of_symbol(order.market)
        if listing.product == SPOT:
            for topic in CLASSIC_TOPICS[SPOT][: 1 if kind == "received" else 2]:
                self._tell(
                    order.account,
                    topic,
                    lambda topic=topic: frame(  # type: ignore[misc]
                        topic, "orderChange", account, self._classic.spot_order(order, kind, now_ms, fill, old)
                    ),
                )
            return
        if kind == "received":
            return
        every = "/contractMarket/tradeOrders"
        for topic, subject in ((every, "orderChange"), (f"{every}:{listing.native}", "symbolOrderChange")):
            self._tell(
                order.account,
                topic,
                lambda topic=topic, subject=subject: frame(  # type: ignore[misc]
                    topic, subject, account, self._classic.futures_order(order, kind, now_ms, fill, old)
                ),
            )

    def _stop(self, event: OrderEvent) -> None:
        """What happens to a conditional order until it is triggered, and that it is."""
        order, account = event.order, self._accounts[event.order.account]
        product = self._catalogue.of_symbol(order.market).product
        topic = "/spotMarket/advancedOrders" if product == SPOT else "/contractMarket/advancedOrders"
        self._tell(order.account, topic, lambda: frame(topic, "stopOrder", account, self._classic.stop_order(event)))
        if event.kind != "TRIGGERED":
            self._push_order(event)

    def _push_order(self, event: OrderEvent) -> None:
        """`TRIGGERED` closes the conditional order (status 1) and opens the one that comes of it."""
        order = event.order
        native = self._catalogue.of_symbol(order.market).native
        said: list[tuple[OrderEvent, int | None]] = [(event, None)]
        if event.kind == "TRIGGERED":
            parent = msgspec.structs.replace(order, triggered=False)
            said = [
                (OrderEvent("TRIGGERED", parent, event.time), 1),
                (OrderEvent("NEW", order, event.time), None),
            ]
        for shown, status in said:
            for channel in ("orderAll", f"order:{native}"):
                self._push(
                    order.account,
                    channel,
                    event.time,
                    lambda shown=shown, status=status: self._unified.order_push(shown, status),  # type: ignore[misc]
                )
        fill = event.fill
        if fill is not None:
            self._push(order.account, "execution", event.time, lambda: self._unified.execution_push(order, fill))

    def _balance(self, event: BalanceEvent) -> None:
        account, asset = self._accounts[event.account], event.balance.asset
        self._push(event.account, "balance", event.time, lambda: self._unified.balance_push(account, asset, event.time))
        if event.balance.wallet == SPOT:
            ident, data = self._classic.balance(account, event, self._cause.get(event.account))
            topic = "/account/balance"
            self._tell(event.account, topic, lambda: frame(topic, "account.balance", account, data, id=ident))
        else:
            topic = "/contractAccount/wallet"
            self._tell(
                event.account,
                topic,
                lambda: frame(
                    topic,
                    "walletBalance.change",
                    account,
                    self._classic.wallet(account, event),
                    id=f"{event.time:024x}",
                ),
            )

    def _position(self, event: PositionEvent) -> None:
        account, position = self._accounts[event.account], event.position
        native = self._catalogue.of_symbol(position.market).native
        for topic in ("/contract/positionAll", f"/contract/position:{native}"):
            self._tell(
                event.account,
                topic,
                lambda topic=topic: frame(  # type: ignore[misc]
                    topic, "position.change", account, self._classic.position(account, position, event.time)
                ),
            )
        for channel in ("positionAll", f"position:{native}"):
            self._push(
                event.account,
                channel,
                event.time,
                lambda: self._unified.position_push(account, position, event.time),
            )

    def mark(self, now_ms: int) -> None:
        """Tell the mark prices of open positions, once a second, to whoever listens to positions."""
        if now_ms - self._marked_ms < _MARK_EVERY_MS:
            return
        self._marked_ms = now_ms
        for name in dict.fromkeys(name for name, topic in self._listeners if topic.startswith("/contract/position")):
            account = self._accounts[name]
            for position in self._engine.positions(account):
                native = self._catalogue.of_symbol(position.market).native
                for topic in ("/contract/positionAll", f"/contract/position:{native}"):
                    self._tell(
                        name,
                        topic,
                        lambda topic=topic, position=position, account=account: frame(  # type: ignore[misc]
                            topic, "position.change", account, self._classic.marked(account, position, now_ms)
                        ),
                    )

    def configured(self, account: Account, topic: str, data: dict[str, Any]) -> None:
        """Margin mode or leverage of a contract was changed."""
        self._tell(account.name, topic, lambda: frame(topic, "user.config", account, data))
