"""Private channels: who listens to an account, and what he hears of the engine's events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from astra.models.orders import OrderStatus, PositionSide
from astra.sandbox import Account, BalanceEvent, EngineEvent, EnginePosition, Exchange, OrderEvent, PositionEvent
from astra.sandbox.toolkit import plain, text_of
from astra_okx.sandbox.account_rest import AccountService, position_id
from astra_okx.sandbox.catalogue import Catalogue, Listing, uid_of
from astra_okx.sandbox.limits import SandboxLimits
from astra_okx.sandbox.reports import algo_row, order_push
from astra_okx.sandbox.tags import tag_of, waits
from astra_okx.sandbox.wire import Params

CHANNELS = ("orders", "account", "positions", "balance_and_position")
COUNTED = CHANNELS
"""Channels of which an account may have so many connections at most."""


class Listener(Protocol):
    """A connection that takes frames."""

    def deliver(self, frame: str) -> None: ...


class Subscription(msgspec.Struct, eq=False):
    """A private channel with its argument, on one connection."""

    session: Listener
    account: Account
    channel: str
    arg: Mapping[str, str]
    """As it was asked for, without `extraParams`."""
    regular: bool = True
    """Pushed again every few seconds, change or not."""
    pushed_ms: int = 0

    def frame(self, rows: list[Any], **siblings: Any) -> str:
        arg = {**self.arg, "uid": uid_of(self.account)}
        return text_of({"arg": arg, **siblings, "data": rows})

    def covers(self, listing: Listing) -> bool:
        """Is the instrument among those that the argument names?"""
        kind, family = self.arg.get("instType", "ANY"), self.arg.get("instFamily")
        return (
            kind in ("ANY", listing.type.value)
            and family in (None, "", listing.family)
            and self.arg.get("instId") in (None, "", listing.native)
        )


class _Changes(msgspec.Struct, eq=False):
    """What changed in one account since it was last told."""

    time: int = 0
    balances: dict[str, None] = msgspec.field(default_factory=dict)
    positions: dict[tuple[str, PositionSide | None], EnginePosition] = msgspec.field(default_factory=dict)
    trades: list[dict[str, str]] = msgspec.field(default_factory=list)


class UserDesk:
    """Everybody who listens to an account."""

    def __init__(
        self,
        engine: Exchange,
        catalogue: Catalogue,
        accounts: AccountService,
        limits: SandboxLimits,
        now_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._accounts = accounts
        self._limits = limits
        self._now_ms = now_ms
        self._by_account: dict[str, list[Subscription]] = {}
        self._changes: dict[str, _Changes] = {}
        self._cash: dict[tuple[str, str], str] = {}

    # --- subscribers ---

    def join(self, subscription: Subscription) -> None:
        """Take a subscription on, and send what it begins with."""
        account, now_ms = subscription.account, self._now_ms()
        self.flush(now_ms)
        self._by_account.setdefault(account.name, []).append(subscription)
        if subscription.channel == "balance_and_position":
            for balance in self._engine.balances(account):
                self._cash[account.name, balance.asset] = plain(balance.total)
            subscription.session.deliver(subscription.frame([self._whole(account, now_ms)]))
        else:
            self._push_whole(subscription, now_ms)

    def leave(self, subscription: Subscription) -> None:
        listening = self._by_account.get(subscription.account.name, [])
        if subscription in listening:
            listening.remove(subscription)
        if not listening:
            self._by_account.pop(subscription.account.name, None)
            self._changes.pop(subscription.account.name, None)

    def connections(self, account: Account, channel: str) -> int:
        """How many connections hold the channel."""
        listening = self._by_account.get(account.name, ())
        return len({id(one.session) for one in listening if one.channel == channel})

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, OrderEvent):
            listening = self._by_account.get(event.order.account)
            if listening:
                self._order_event(event, listening)
        elif isinstance(event, BalanceEvent) and event.account in self._by_account:
            changes = self._changes.setdefault(event.account, _Changes())
            changes.time = event.time
            changes.balances[event.balance.asset] = None
        elif isinstance(event, PositionEvent) and event.account in self._by_account:
            changes = self._changes.setdefault(event.account, _Changes())
            changes.time = event.time
            changes.positions[event.position.market, event.position.side] = event.position

    def _order_event(self, event: OrderEvent, listening: list[Subscription]) -> None:
        order = event.order
        listing, account = self._catalogue.of_symbol(order.market), listening[0].account
        if event.fill is not None:
            trade = {"instId": listing.native, "tradeId": str(event.fill.trade_id)}
            self._changes.setdefault(account.name, _Changes()).trades.append(trade)
        if order.type.is_conditional and (waits(order) or event.kind == "TRIGGERED"):
            rows, channel = [algo_row(account, listing, order)], "orders-algo"
            self._tell(listening, channel, listing, rows)
            if event.kind != "TRIGGERED":
                return
        for row in self._order_rows(account, listing, event):
            self._tell(listening, "orders", listing, [row])

    def _order_rows(self, account: Account, listing: Listing, event: OrderEvent) -> list[dict[str, Any]]:
        """One push a change; an order of a quote amount is seen filled by a push of its own, without a trade."""
        quote_sized = tag_of(event.order).quote_size is not None
        if not quote_sized or event.fill is None or event.order.status is not OrderStatus.FILLED:
            return [order_push(account, listing, event, self._engine)]
        last = msgspec.structs.replace(event, fill=None)
        return [
            order_push(account, listing, event, self._engine, state="partially_filled"),
            order_push(account, listing, last, self._engine),
        ]

    @staticmethod
    def _tell(listening: list[Subscription], channel: str, listing: Listing, rows: list[dict[str, Any]]) -> None:
        for one in list(listening):
            if one.channel == channel and one.covers(listing):
                one.session.deliver(one.frame(rows))

    # --- account and positions ---

    def flush(self, now_ms: int) -> None:
        """Tell what changed, and what is told regularly."""
        changes, self._changes = self._changes, {}
        for name, change in changes.items():
            for one in list(self._by_account.get(name, ())):
                self._push_change(one, change, now_ms)
            listening = self._by_account.get(name)
            if listening:
                self._push_both(listening, change)
        for listening in list(self._by_account.values()):
            for one in list(listening):
                if one.regular and now_ms - one.pushed_ms >= self._limits.account_push_ms:
                    self._push_whole(one, now_ms)

    def _push_whole(self, one: Subscription, now_ms: int) -> None:
        rows: list[Any]
        if one.channel == "account":
            wanted = one.arg.get("ccy")
            rows = [self._accounts.balance_row(one.account, [wanted] if wanted else None, now_ms)]
        elif one.channel == "positions":
            rows = [
                row
                for row in self._accounts.position_rows(one.account, Params({}), now_ms)
                if one.covers(self._listing(row["instId"]))
            ]
        else:
            return
        one.pushed_ms = now_ms
        one.session.deliver(one.frame(rows, eventType="snapshot", curPage=1, lastPage=True))

    def _listing(self, native: str) -> Listing:
        listing = self._catalogue.of_native(native)
        assert listing is not None
        return listing

    def _push_change(self, one: Subscription, change: _Changes, now_ms: int) -> None:
        rows: list[Any] = []
        if one.channel == "account" and change.balances:
            wanted = [asset for asset in change.balances if one.arg.get("ccy") in (None, "", asset)]
            if wanted:
                rows = [self._accounts.balance_row(one.account, wanted, now_ms)]
        elif one.channel == "positions":
            for position in change.positions.values():
                listing = self._catalogue.of_symbol(position.market)
                if one.covers(listing):
                    rows.append(self._accounts.position_row(one.account, listing, position, now_ms))
        if rows:
            one.pushed_ms = now_ms
            one.session.deliver(one.frame(rows, eventType="event_update"))

    def _push_both(self, listening: list[Subscription], change: _Changes) -> None:
        """`balance_and_position`: cash that moved and positions, with the trades that moved them. Funds that orders
        hold back are no such change."""
        account = listening[0].account
        totals = {balance.asset: plain(balance.total) for balance in self._engine.balances(account)}
        moved = [asset for asset in change.balances if self._cash.get((account.name, asset)) != totals[asset]]
        if not moved and not change.positions:
            return
        for asset in moved:
            self._cash[account.name, asset] = totals[asset]
        row = {
            "pTime": str(change.time),
            "eventType": "filled" if change.trades else "transferred",
            "balData": [_cash_row(asset, totals[asset], change.time) for asset in moved],
            "posData": [self._short_position(account, one, change.time) for one in change.positions.values()],
            "trades": change.trades,
        }
        for one in list(listening):
            if one.channel == "balance_and_position":
                one.session.deliver(one.frame([row]))

    def _whole(self, account: Account, now_ms: int) -> dict[str, Any]:
        balances = self._accounts.balances(account)
        return {
            "pTime": str(now_ms),
            "eventType": "snapshot",
            "balData": [_cash_row(one.asset, plain(one.total), now_ms) for one in balances],
            "posData": [self._short_position(account, one, now_ms) for one in self._engine.positions(account)],
            "trades": [],
        }

    def _short_position(self, account: Account, position: EnginePosition, now_ms: int) -> dict[str, str]:
        listing = self._catalogue.of_symbol(position.market)
        row = self._accounts.position_row(account, listing, position, now_ms)
        names = ("tradeId", "instId", "instType", "mgnMode", "posSide", "pos", "ccy", "posCcy", "avgPx", "uTime")
        return {"posId": position_id(account, listing, position.side), **{name: row[name] for name in names}}


def _cash_row(asset: str, total: str, time: int) -> dict[str, str]:
    return {"ccy": asset, "cashBal": total, "uTime": str(time)}
