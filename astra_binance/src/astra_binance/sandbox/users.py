"""Private streams: listen keys, subscriptions of the Spot WebSocket API, and who hears what of the engine's events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from astra.models.orders import PositionSide
from astra.sandbox import (
    Account,
    BalanceEvent,
    EngineBalance,
    EngineEvent,
    EnginePosition,
    Exchange,
    OrderEvent,
    PositionEvent,
)
from astra.sandbox.toolkit import text_of
from astra_binance.sandbox import reports
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.feeds import Subscriber
from astra_binance.sandbox.limits import SandboxLimits
from astra_binance.sandbox.market_rest import PREFIX
from astra_binance.sandbox.orders import in_algo_service, tag_of
from astra_binance.sandbox.wire import Family, Refusal

ZERO = Decimal(0)


class SpotSubscriber(Protocol):
    """A WebSocket API connection that takes the events of an account."""

    def deliver_event(self, account: str, event: str) -> None:
        """`event`: JSON text."""
        ...


class _ListenKey(msgspec.Struct, eq=False):
    text: str
    family: Family
    owner: Account
    expires: int
    subscribers: dict[Subscriber, frozenset[str] | None] = msgspec.field(default_factory=dict)
    """Connection -> the events it asked for (None: all)."""


class _Group(msgspec.Struct, eq=False):
    """What a command changed in one account of one family, told together."""

    time: int = 0
    traded: bool = False
    balances: dict[str, EngineBalance] = msgspec.field(default_factory=dict)
    positions: dict[tuple[str, PositionSide | None], EnginePosition] = msgspec.field(default_factory=dict)
    afterwards: list[tuple[str, dict[str, Any]]] = msgspec.field(default_factory=list)
    """(event name, event) of the algo service: it reports a trigger after the order that came of it."""


class UserDesk:
    """Everybody who listens to an account."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, limits: SandboxLimits, now_ms: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._limits = limits
        self._now_ms = now_ms
        self._keys: dict[tuple[Family, str], _ListenKey] = {}
        self._by_text: dict[tuple[Family, str], _ListenKey] = {}
        self._made_keys = 0
        self._spot: dict[str, dict[SpotSubscriber, None]] = {}
        self._owners: dict[tuple[Family, str], Account] = {}
        self._totals: dict[tuple[str, str, str], Decimal] = {}
        self._groups: dict[tuple[Family, str], _Group] = {}
        self._triggered: tuple[Listing, OrderEvent] | None = None

    # --- listen keys ---

    def routes(self) -> Routes:
        routes: dict[tuple[Family, str, str], Endpoint] = {}
        for family in (Family.USDM, Family.COINM, Family.OPTIONS):
            path = f"{PREFIX[family]}/listenKey"
            for method, handler in (("POST", self._create), ("PUT", self._extend), ("DELETE", self._close)):
                routes[family, method, path] = Endpoint(handler, names("listenKey"), security=Security.KEY)
        return routes

    def _create(self, call: Call) -> dict[str, Any]:
        """A new key, or the active one extended."""
        owner = (call.family, call.account.name)
        key = self._keys.get(owner)
        if key is None:
            self._made_keys += 1
            seed = f"{call.account.key}/{call.family}/{call.now_ms}/{self._made_keys}"
            text = hashlib.sha256(seed.encode()).hexdigest()
            key = self._keys[owner] = self._by_text[call.family, text] = _ListenKey(text, call.family, call.account, 0)
        return self._lengthened(key, call)

    def _extend(self, call: Call) -> dict[str, Any]:
        key = self._keys.get((call.family, call.account.name))
        if key is None:
            raise Refusal(-1125, "This listenKey does not exist.")
        return self._lengthened(key, call)

    def _lengthened(self, key: _ListenKey, call: Call) -> dict[str, Any]:
        key.expires = call.now_ms + self._limits.listen_key_life_ms
        body: dict[str, Any] = {"listenKey": key.text}
        return body | ({"expiration": key.expires} if call.family is Family.OPTIONS else {})

    def _close(self, call: Call) -> dict[str, Any]:
        key = self._keys.get((call.family, call.account.name))
        if key is None:
            raise Refusal(-1125, "This listenKey does not exist.")
        self._forget(key)
        return {}

    def _forget(self, key: _ListenKey) -> None:
        del self._keys[key.family, key.owner.name]
        del self._by_text[key.family, key.text]

    def expire_keys(self, now_ms: int) -> None:
        for key in list(self._keys.values()):
            if now_ms >= key.expires:
                event = {"e": "listenKeyExpired", "E": now_ms, "listenKey": key.text}
                self._publish(key.family, key.owner.name, "listenKeyExpired", event)
                self._forget(key)

    # --- subscribers ---

    def is_key(self, family: Family, name: str) -> bool:
        return (family, name) in self._by_text

    def join(self, family: Family, key: str, session: Subscriber, events: frozenset[str] | None) -> None:
        known = self._by_text[family, key]
        self._begin_listening(family, known.owner)
        known.subscribers[session] = events

    def leave(self, family: Family, key: str, session: Subscriber) -> None:
        known = self._by_text.get((family, key))
        if known is not None:
            known.subscribers.pop(session, None)

    def join_spot(self, account: Account, session: SpotSubscriber) -> None:
        self._begin_listening(Family.SPOT, account)
        self._spot.setdefault(account.name, {})[session] = None

    def leave_spot(self, account: Account, session: SpotSubscriber) -> None:
        self._spot.get(account.name, {}).pop(session, None)

    def _begin_listening(self, family: Family, account: Account) -> None:
        """Remember what the wallet holds when the first one begins to listen: changes are told against it."""
        if self._listened(family, account.name):
            return
        self._owners[family, account.name] = account
        self._groups.pop((family, account.name), None)
        for balance in self._engine.balances(account):
            if balance.wallet == family:
                self._totals[account.name, balance.wallet, balance.asset] = balance.total

    def _listened(self, family: Family, account: str) -> bool:
        if family is Family.SPOT:
            return bool(self._spot.get(account))
        key = self._keys.get((family, account))
        return key is not None and bool(key.subscribers)

    def _publish(self, family: Family, account: str, name: str, event: dict[str, Any]) -> None:
        text = text_of(event)
        if family is Family.SPOT:
            for spot_session in list(self._spot.get(account, ())):
                spot_session.deliver_event(account, text)
            return
        key = self._keys.get((family, account))
        if key is None:
            return
        wrapped = f'{{"stream":"{key.text}","data":{text}}}'
        for session, wanted in list(key.subscribers.items()):
            if wanted is None or name in wanted:
                session.deliver(wrapped if session.combined else text)

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        if self._triggered is not None:
            self._report_trigger()
        if isinstance(event, OrderEvent):
            listing = self._catalogue.of_symbol(event.order.market)
            if self._listened(listing.family, event.order.account):
                self._order_event(listing, event)
        elif isinstance(event, BalanceEvent):
            group = self._group(event.balance.wallet, event.account, event.time)
            if group is not None:
                group.balances[event.balance.asset] = event.balance
        elif isinstance(event, PositionEvent):
            group = self._group(self._engine.markets[event.position.market].product, event.account, event.time)
            if group is not None:
                group.positions[event.position.market, event.position.side] = event.position

    def _group(self, family: str, account: str, time: int) -> _Group | None:
        """Where to gather what the account's listeners will be told; None when there are none."""
        if family not in list(Family) or not self._listened(Family(family), account):
            return None
        group = self._groups.setdefault((Family(family), account), _Group())
        group.time = time
        return group

    def _order_event(self, listing: Listing, event: OrderEvent) -> None:
        group = self._group(listing.family, event.order.account, event.time)
        assert group is not None
        group.traded = group.traded or event.kind == "TRADE"
        order = event.order
        if not tag_of(order).algo:
            self._report(listing, event)
            return
        if event.kind == "TRIGGERED":
            # Not reported before it is known whether the order is taken: the next event tells.
            self._triggered = (listing, event)
            self._algo(listing, event, "TRIGGERING")
        elif in_algo_service(order):
            self._algo(listing, event)
        else:
            self._report(listing, event)
            if not order.status.is_open:
                group.afterwards.append(self._algo_event(listing, event))

    def _report_trigger(self) -> None:
        assert self._triggered is not None
        (listing, event), self._triggered = self._triggered, None
        if tag_of(event.order).rejected is None:
            self._report(listing, event)
            group = self._group(listing.family, event.order.account, event.time)
            if group is not None:
                group.afterwards.append(self._algo_event(listing, event))

    def _report(self, listing: Listing, event: OrderEvent) -> None:
        family, account, now_ms = listing.family, event.order.account, self._now_ms()
        if family is Family.SPOT:
            self._publish(family, account, "executionReport", reports.execution_report(listing, event, now_ms))
            return
        if event.fill is not None and family is Family.USDM:
            self._publish(family, account, "TRADE_LITE", reports.trade_lite(listing, event, now_ms))
        update = reports.order_trade_update(listing, event, now_ms)
        self._publish(family, account, "ORDER_TRADE_UPDATE", update)

    def _algo_event(self, listing: Listing, event: OrderEvent, status: str | None = None) -> tuple[str, dict[str, Any]]:
        return "ALGO_UPDATE", reports.algo_update(listing, event.order, event.time, self._now_ms(), status)

    def _algo(self, listing: Listing, event: OrderEvent, status: str | None = None) -> None:
        self._publish(listing.family, event.order.account, *self._algo_event(listing, event, status))

    def flush(self, now_ms: int) -> None:
        """Tell the changes of balances and positions that the last commands made."""
        if self._triggered is not None:
            self._report_trigger()
        groups, self._groups = self._groups, {}
        for (family, account), group in groups.items():
            if family is Family.SPOT:
                self._tell_spot(account, group, now_ms)
            else:
                self._tell_derivatives(family, account, group, now_ms)
            for name, event in group.afterwards:
                self._publish(family, account, name, event)

    def _change(self, account: str, balance: EngineBalance) -> Decimal:
        key = (account, balance.wallet, balance.asset)
        change = balance.total - self._totals.get(key, ZERO)
        self._totals[key] = balance.total
        return change

    def _tell_spot(self, account: str, group: _Group, now_ms: int) -> None:
        for balance in group.balances.values():
            change = self._change(account, balance)
            if change and not group.traded:
                event = reports.balance_update(balance.asset, change, group.time, now_ms)
                self._publish(Family.SPOT, account, "balanceUpdate", event)
        if group.balances:
            event = reports.account_position(group.balances.values(), group.time, now_ms)
            self._publish(Family.SPOT, account, "outboundAccountPosition", event)

    def _tell_derivatives(self, family: Family, account: str, group: _Group, now_ms: int) -> None:
        """Nothing for an order that merely rests: only wallets and positions that changed."""
        changed = [
            (balance, change) for balance in group.balances.values() if (change := self._change(account, balance))
        ]
        if not changed and not group.positions:
            return
        reason = "ORDER"
        if not group.traded:
            reason = "DEPOSIT" if all(change > 0 for _, change in changed) else "WITHDRAW"
        balances = [(balance, ZERO if group.traded else change) for balance, change in changed]
        owner = self._owners[family, account]
        positions = self._all_sides(owner, group) if owner.hedge_mode else list(group.positions.values())
        rows = [
            (self._catalogue.of_symbol(position.market), position, self._engine.mark_price(position.market))
            for position in positions
        ]
        if family is Family.OPTIONS:
            update = reports.balance_position_update(reason, balances, rows, group.time, now_ms)
            self._publish(family, account, "BALANCE_POSITION_UPDATE", update)
            return
        isolated = frozenset(symbol for symbol, on in owner.settings.get("isolated", {}).items() if on)
        update = reports.account_update(reason, balances, rows, group.time, now_ms, isolated=isolated)
        self._publish(family, account, "ACCOUNT_UPDATE", update)

    def _all_sides(self, owner: Account, group: _Group) -> list[EnginePosition]:
        """Hedge mode: all sides of a market where one changed."""
        held = {(position.market, position.side): position for position in self._engine.positions(owner)}
        sides = (None, PositionSide.LONG, PositionSide.SHORT)
        return [
            group.positions.get((market, side)) or held.get((market, side)) or EnginePosition(market, side, ZERO, ZERO)
            for market in dict.fromkeys(market for market, _ in group.positions)
            for side in sides
        ]
