"""The gateway's private channels: orders, trades, changes and portfolio of an account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from astra.sandbox import (
    Account,
    BalanceEvent,
    EngineEvent,
    EngineFill,
    EngineOrder,
    EnginePosition,
    Exchange,
    OrderEvent,
    PositionEvent,
)
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.gateway.account import GatewayAccount
from astra_coinbase.sandbox.gateway.feeds import INTERVALS, Subscriber, notification
from astra_coinbase.sandbox.gateway.market import kind_of
from astra_coinbase.sandbox.gateway.orders import order_row, trade_row, triggered_row
from astra_coinbase.sandbox.markets import INTERNATIONAL


class _Channel(msgspec.Struct, eq=False):
    """`user.{orders|trades|changes}.{instrument | kind.currency}.{interval}`, `user.portfolio.{currency}`."""

    name: str
    topic: str
    account: Account
    interval_ms: int
    covers: Callable[[Listing], bool]
    currency: str = "any"
    subscribers: dict[Subscriber, None] = msgspec.field(default_factory=dict)
    orders: list[dict[str, Any]] = msgspec.field(default_factory=list)
    trades: list[dict[str, Any]] = msgspec.field(default_factory=list)
    positions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    due: int | None = None

    def send(self, data: Any) -> None:
        frame = notification(self.name, data)
        for subscriber in list(self.subscribers):
            subscriber.deliver(frame)


class GatewayUsers:
    """Who listens to which account."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, money: GatewayAccount, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._money = money
        self._now_ms = now_ms
        self._channels: dict[tuple[str, str], _Channel] = {}

    def join(self, name: str, account: Account, subscriber: Subscriber) -> bool:
        """False: there is no such channel."""
        key = (account.name, name)
        channel = self._channels.get(key) or self._make(name, account)
        if channel is None:
            return False
        self._channels[key] = channel
        channel.subscribers[subscriber] = None
        return True

    def leave(self, name: str, account: Account, subscriber: Subscriber) -> None:
        channel = self._channels.get((account.name, name))
        if channel is not None:
            channel.subscribers.pop(subscriber, None)
            if not channel.subscribers:
                del self._channels[account.name, name]

    def _make(self, name: str, account: Account) -> _Channel | None:
        _, topic, *rest = name.split(".")
        if topic == "portfolio" and len(rest) == 1:
            currency = "any" if rest[0] == "any" else rest[0].upper()
            known = currency == "any" or currency in self._money.currencies()
            return _Channel(name, topic, account, 0, lambda listing: False, currency) if known else None
        interval = INTERVALS.get(rest[-1]) if rest else None
        if topic not in ("orders", "trades", "changes") or interval is None:
            return None
        if len(rest) == 2:
            native = rest[0]
            if self._catalogue.instrument(native) is None:
                return None
            return _Channel(name, topic, account, interval, lambda listing: listing.native == native)
        if len(rest) == 3:
            kind, currency = rest[0], rest[1]
            return _Channel(
                name,
                topic,
                account,
                interval,
                lambda listing: kind in ("any", kind_of(listing)) and currency in ("any", listing.settlement),
            )
        return None

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if not self._channels:
            return
        if isinstance(event, OrderEvent):
            listing = self._catalogue.of_symbol(event.order.market)
            for channel in self._concerned(event.order.account, listing):
                self._order(channel, event.kind, event.order, event.fill, listing)
        elif isinstance(event, PositionEvent):
            listing = self._catalogue.of_symbol(event.position.market)
            for channel in self._concerned(event.account, listing):
                if channel.topic == "changes":
                    self._position(channel, event.position, listing)
        elif isinstance(event, BalanceEvent) and event.balance.wallet == INTERNATIONAL:
            for channel in list(self._channels.values()):
                mine = channel.topic == "portfolio" and channel.account.name == event.account
                if mine and channel.currency in ("any", event.balance.asset):
                    channel.send(self._money.summary(channel.account, event.balance.asset))

    def _concerned(self, account: str, listing: Listing) -> list[_Channel]:
        if listing.product != INTERNATIONAL:
            return []
        return [c for c in self._channels.values() if c.account.name == account and c.covers(listing)]

    def _order(
        self, channel: _Channel, kind: str, order: EngineOrder, fill: EngineFill | None, listing: Listing
    ) -> None:
        if channel.topic != "trades":
            row = triggered_row(order, listing) if kind == "TRIGGERED" else order_row(order, listing)
            channel.orders.append(row)
        if channel.topic != "orders" and fill is not None:
            channel.trades.append(trade_row(self._engine, fill, order, listing))
        self._hold(channel)

    def _position(self, channel: _Channel, position: EnginePosition, listing: Listing) -> None:
        row = self._money.position_row(channel.account, position, listing)
        channel.positions[listing.symbol] = row
        self._hold(channel)

    def _hold(self, channel: _Channel) -> None:
        now_ms = self._now_ms()
        if not channel.interval_ms:
            self._send(channel)
        elif channel.due is None:
            channel.due = (now_ms // channel.interval_ms + 1) * channel.interval_ms

    def _send(self, channel: _Channel) -> None:
        orders, trades, positions = channel.orders, channel.trades, list(channel.positions.values())
        channel.orders, channel.trades, channel.positions, channel.due = [], [], {}, None
        if channel.topic == "orders" and orders:
            if channel.interval_ms:
                channel.send(orders)
            else:
                for row in orders:
                    channel.send(row)
        elif channel.topic == "trades" and trades:
            channel.send(trades)
        elif channel.topic == "changes":
            for name in dict.fromkeys(row["instrument_name"] for row in (*orders, *trades, *positions)):
                parts = (("trades", trades), ("positions", positions), ("orders", orders))
                of_it = {part: [row for row in rows if row["instrument_name"] == name] for part, rows in parts}
                channel.send({"instrument_name": name, **of_it})

    def flush(self, now_ms: int) -> None:
        """Send whatever is due."""
        for channel in list(self._channels.values()):
            if channel.due is not None and now_ms >= channel.due:
                self._send(channel)
