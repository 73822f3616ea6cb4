"""Connections to the stream hosts of Advanced Trade: subscriptions, one numbering for all frames, the user channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from astra.sandbox import (
    Account,
    BalanceEvent,
    EngineEvent,
    Exchange,
    Link,
    OrderEvent,
    Reject,
    SandboxSession,
)
from astra.sandbox.toolkit import EventRate, text_of
from astra_coinbase.sandbox.account_rest import AccountData
from astra_coinbase.sandbox.calls import decode_json
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.feeds import CHANNELS, Hub
from astra_coinbase.sandbox.keys import BadToken, Keys
from astra_coinbase.sandbox.limits import SandboxLimits
from astra_coinbase.sandbox.markets import INTERNATIONAL, US_FUTURES
from astra_coinbase.sandbox.orders import tag_of, user_row
from astra_coinbase.sandbox.wire import iso_ns, made_uuid

POLICY_VIOLATION = 1008
SNAPSHOT_ORDERS = 50
HEARTBEAT_MS = 1000
AUTHENTICATION = "authentication failure"
"""What the venue says to a token it does not take, and to a channel that does not exist."""
SUBSCRIBE = "failure to subscribe"
HEARTBEATS, STATUS, CANDLES = "heartbeats", "status", "candles"
USER, FUTURES_BALANCE = "user", "futures_balance_summary"
_PUBLIC = (*CHANNELS, HEARTBEATS, STATUS, CANDLES)
_PRIVATE = (USER, FUTURES_BALANCE)
_MEMBERS = frozenset({"type", "channel", "product_ids", "jwt"})


class Office(Protocol):
    """What connections share."""

    engine: Exchange
    catalogue: Catalogue
    hub: Hub
    keys: Keys
    limits: SandboxLimits
    accounts: AccountData

    def wall_ns(self) -> int: ...

    def now_ms(self) -> int: ...

    def advance(self, now_ms: int) -> None: ...


class UserDesk:
    """Who listens to which account."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, accounts: AccountData) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._accounts = accounts
        self._sessions: dict[str, dict[AdvancedSession, None]] = {}

    def join(self, account: Account, session: AdvancedSession) -> None:
        self._sessions.setdefault(account.name, {})[session] = None

    def leave(self, session: AdvancedSession) -> None:
        for sessions in self._sessions.values():
            sessions.pop(session, None)

    def heard(self, event: EngineEvent) -> None:
        """An event of the engine."""
        if isinstance(event, OrderEvent):
            sessions = self._sessions.get(event.order.account)
            if sessions and self._engine.markets[event.order.market].product != INTERNATIONAL:
                self._tell_order(event, sessions)
        elif isinstance(event, BalanceEvent) and event.balance.wallet == US_FUTURES:
            for session in list(self._sessions.get(event.account, ())):
                session.deliver_summary("update")

    def _tell_order(self, event: OrderEvent, sessions: dict[AdvancedSession, None]) -> None:
        listing = self._catalogue.of_symbol(event.order.market)
        shown = [user_row(event.order, listing, "PENDING" if event.kind == "NEW" else None)]
        if event.kind == "NEW" and self._rests(sessions, event):
            shown.append(user_row(event.order, listing))
        for row in shown:
            for session in list(sessions):
                session.deliver_order(row)

    def _rests(self, sessions: dict[AdvancedSession, None], event: OrderEvent) -> bool:
        """Is the new order open, now that the command that placed it is complete?"""
        account = next(iter(sessions)).account
        if account is None:
            return False
        try:
            return self._engine.order(account, order_id=event.order.id).status.is_open
        except Reject:
            return False


class AdvancedSession(SandboxSession):
    """A connection. `private`: to the user host, which serves no market channels."""

    def __init__(
        self, office: Office, desk: UserDesk, link: Link, *, private: bool, on_closed: Callable[[SandboxSession], None]
    ) -> None:
        self._office = office
        self._desk = desk
        self._link = link
        self._private = private
        self._on_closed = on_closed
        self._opened = self._spoke = office.now_ms()
        self._sequence = 0
        self._beat_at: int | None = None
        self._rate = EventRate(office.limits.messages_per_second)
        self._over = False
        self._subscribed = False
        self._feeds: dict[str, dict[str, Listing]] = {}
        """Market channel -> product id -> what it is of."""
        self._others: dict[str, list[str]] = {}
        """Further channels -> what the acknowledgement lists for them."""
        self._orders_of: list[str] = []
        """Product ids whose orders are wanted; none: all."""
        self.account: Account | None = None

    # --- frames out ---

    def deliver(self, channel: str, events: str) -> None:
        if self._over:
            return
        time = iso_ns(self._office.wall_ns())
        client = '"client_id":"",' if self._private else ""
        self._link.send(
            f'{{"channel":"{channel}",{client}"timestamp":"{time}","sequence_num":{self._sequence},"events":{events}}}'
        )
        self._sequence += 1
        self._spoke = self._office.now_ms()

    def _fail(self, message: str) -> None:
        """An error frame: no channel, no number."""
        self._link.send(text_of({"type": "error", "message": message}))

    def _acknowledge(self) -> None:
        """The state of the whole connection."""
        state = {name: list(products) for name, products in self._feeds.items() if products} | self._others
        self.deliver("subscriptions", text_of([{"subscriptions": dict(sorted(state.items()))}]))

    def deliver_order(self, row: dict[str, Any]) -> None:
        if USER in self._others and (not self._orders_of or row["product_id"] in self._orders_of):
            self.deliver(USER, text_of([{"type": "update", "orders": [row]}]))

    def deliver_summary(self, kind: str) -> None:
        if FUTURES_BALANCE in self._others and self.account is not None:
            summary = self._office.accounts.summary(self.account, bare=True)
            self.deliver(FUTURES_BALANCE, text_of([{"type": kind, "fcm_balance_summary": summary}]))

    # --- frames in ---

    def received(self, payload: str | bytes) -> None:
        now_ms = self._office.now_ms()
        if self._over:
            return
        if self.account is None and self._rate.exceeded(now_ms):
            self._fail("rate limit exceeded")
            return
        self._office.advance(now_ms)  # what happened before a subscription is not told after it
        try:
            message = decode_json(payload)
        except msgspec.DecodeError:
            message = None
        if not isinstance(message, dict) or not message.keys() <= _MEMBERS:
            self._fail(SUBSCRIBE)
            return
        kind, channel, products = message.get("type"), message.get("channel"), message.get("product_ids", [])
        known = (*_PRIVATE, HEARTBEATS) if self._private else (*_PUBLIC, *_PRIVATE)
        if not isinstance(channel, str) or channel not in known:
            self._fail(AUTHENTICATION)
            return
        if kind not in ("subscribe", "unsubscribe") or not _is_texts(products):
            self._fail(SUBSCRIBE)
            return
        token = message.get("jwt")
        if (kind == "subscribe" or token is not None) and not self._admitted(channel, token):
            self._fail(AUTHENTICATION)
            return
        if kind == "subscribe":
            self._subscribe(channel, products)
        else:
            self._unsubscribe(channel, products)

    def _admitted(self, channel: str, token: Any) -> bool:
        """Is the token (needed for user channels) one of the venue's keys?"""
        if token is None:
            return channel not in _PRIVATE
        try:
            account = self._office.keys.account_of(str(token), self._office.now_ms() / 1000, uris=None)
        except BadToken:
            return False
        if self.account is not None and self.account.name != account.name:
            return False
        self.account = account
        return True

    def _subscribe(self, channel: str, products: Sequence[str]) -> None:
        if channel in CHANNELS:
            if not products:
                self._fail(SUBSCRIBE)
                return
            self._join(channel, products)
        elif channel == USER:
            self._join_user(products)
        elif channel == FUTURES_BALANCE:
            assert self.account is not None
            self._others[channel] = [made_uuid("user", self.account.name)]
            self._desk.join(self.account, self)
            self.deliver_summary("snapshot")
        elif channel == HEARTBEATS:
            self._others[channel] = [HEARTBEATS]
            if self._beat_at is None:
                self._beat_at = self._office.now_ms() + HEARTBEAT_MS
        else:
            self._others[channel] = [name for name in products if self._office.catalogue.product(name) is not None]
            if channel == STATUS:
                self._tell_status(self._others[channel])
        self._subscribed = True
        self._acknowledge()

    def _join(self, channel: str, products: Sequence[str]) -> None:
        """Products that do not exist are left out of the acknowledgement, aliases stand for what they alias."""
        joined = self._feeds.setdefault(channel, {})
        for name in products:
            found = self._office.catalogue.product(name)
            if found is not None and found.origin.native not in joined:
                joined[found.origin.native] = found.origin
                self._office.hub.join(channel, found.origin, self)

    def _join_user(self, products: Sequence[str]) -> None:
        assert self.account is not None
        self._others[USER] = [made_uuid("user", self.account.name)]
        self._orders_of = list(products)
        self._desk.join(self.account, self)
        rows = []
        for order in self._office.engine.open_orders(self.account):
            listing = self._office.catalogue.of_symbol(order.market)
            if listing.product != INTERNATIONAL and (not products or tag_of(order, listing).product_id in products):
                rows.append(user_row(order, listing))
        kinds = ("perpetual_futures_positions", "expiring_futures_positions", "prediction_market_positions")
        for start in range(0, len(rows) + 1, SNAPSHOT_ORDERS):  # one with fewer than fifty ends the set
            part = rows[start : start + SNAPSHOT_ORDERS]
            event = {"type": "snapshot", "orders": part, "positions": {kind: [] for kind in kinds}}
            self.deliver(USER, text_of([event]))

    def _tell_status(self, products: Sequence[str]) -> None:
        rows = []
        for name, listing in self._office.catalogue.products():
            if products and name not in products:
                continue
            market = listing.market
            rows.append(
                {
                    "product_type": "SPOT" if listing.spot else "FUTURE",
                    "id": name,
                    "base_currency": listing.base if listing.spot else "",
                    "quote_currency": name.rpartition("-")[2] if listing.spot else "USD",
                    "base_increment": format(market.lot_size or 1, "f"),
                    "quote_increment": "0.01",
                    "display_name": name.replace("-", "/"),
                    "status": "online" if listing.trading else "offline",
                    "status_message": "",
                    "min_market_funds": format(market.min_notional or 0, "f"),
                }
            )
        self.deliver(STATUS, text_of([{"type": "snapshot", "products": rows}]))

    def _unsubscribe(self, channel: str, products: Sequence[str]) -> None:
        """Without products: from the whole channel."""
        if channel in CHANNELS:
            joined = self._feeds.get(channel, {})
            for name in list(products) or list(joined):
                found = self._office.catalogue.product(name)
                if found is not None and joined.pop(found.origin.native, None) is not None:
                    self._office.hub.leave(channel, found.origin, self)
        else:
            self._others.pop(channel, None)
            if channel == HEARTBEATS:
                self._beat_at = None
        self._acknowledge()

    # --- time ---

    def tick(self, now_ms: int) -> None:
        if self._over:
            return
        self._office.advance(now_ms)
        limits = self._office.limits
        if not self._subscribed and now_ms - self._opened >= limits.subscribe_within_ms:
            self._close("no subscription")
        elif now_ms - self._spoke >= limits.quiet_after_ms:
            self._close("no updates")
        elif self._beat_at is not None and now_ms >= self._beat_at:
            self._beat_at += max(1, (now_ms - self._beat_at) // HEARTBEAT_MS + 1) * HEARTBEAT_MS
            self._beat()

    def _beat(self) -> None:
        """The time in Go's text form, and a counter of seconds."""
        wall_ns = self._office.wall_ns()
        day, _, clock = iso_ns(wall_ns).rstrip("Z").partition("T")
        counter = wall_ns // 10**9 % 10**6
        text = f"{day} {clock} +0000 UTC m=+{counter}.{wall_ns % 10**9:09d}"
        self.deliver(HEARTBEATS, text_of([{"current_time": text, "heartbeat_counter": counter}]))

    def _close(self, reason: str) -> None:
        self._over = True
        self._link.close(POLICY_VIOLATION, reason)

    def closed(self) -> None:
        self._over = True
        for channel, joined in self._feeds.items():
            for listing in joined.values():
                self._office.hub.leave(channel, listing, self)
        self._feeds.clear()
        self._desk.leave(self)
        self._on_closed(self)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, str) for row in value)
