"""A connection of the derivatives stream: public and private feeds on one socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from astra.sandbox import (
    Account,
    Link,
    SandboxSession,
)
from astra.sandbox.toolkit import text_of
from astra_kraken.sandbox.catalogue import Catalogue
from astra_kraken.sandbox.derivatives_feeds import PUBLIC_FEEDS, DerivativesHub
from astra_kraken.sandbox.derivatives_users import DerivativesUsers
from astra_kraken.sandbox.keys import Keys
from astra_kraken.sandbox.limits import SandboxLimits
from astra_kraken.sandbox.wire import decode_json

PRIVATE_FEEDS = (
    "open_orders",
    "open_orders_verbose",
    "fills",
    "open_positions",
    "balances",
    "account_log",
    "notifications_auth",
)
_FIELDS = {"event", "feed", "product_ids", "api_key", "original_challenge", "signed_challenge"}
_HEARTBEAT_MS = 1000


class DerivativesSession(SandboxSession):
    """One connection. The client has to say something, or ping, at least once a minute."""

    def __init__(
        self,
        link: Link,
        *,
        catalogue: Catalogue,
        hub: DerivativesHub,
        users: DerivativesUsers,
        keys: Keys,
        limits: SandboxLimits,
        now_ms: Callable[[], int],
        advance: Callable[[int], None],
        rate: Callable[[int], bool],
        on_closed: Callable[[DerivativesSession], None],
    ) -> None:
        self._link = link
        self._catalogue = catalogue
        self._hub = hub
        self._users = users
        self._keys = keys
        self._limits = limits
        self._now_ms = now_ms
        self._advance = advance
        self._exceeded = rate
        self._on_closed = on_closed
        self._challenges: dict[str, str] = {}
        """Key -> the challenge given out for it."""
        self._public: dict[tuple[str, str], None] = {}
        """(feed, Astra symbol)."""
        self._private: dict[str, Account] = {}
        self._beats = False
        self._beat_ms = self._heard_ms = now_ms()
        self._over = False
        self.tell({"event": "info", "version": 1})

    # --- what the server calls ---

    def received(self, payload: str | bytes) -> None:
        now_ms = self._heard_ms = self._now_ms()
        self._advance(now_ms)
        if self._exceeded(now_ms):
            self.tell({"event": "alert", "message": "Exceeded msg rate"})
            return
        try:
            frame = decode_json(payload)
        except msgspec.DecodeError:
            frame = None
        if not isinstance(frame, dict):
            self._error("Json Error")
            return
        event = frame.get("event")
        if event == "challenge":
            self._challenge(frame)
        elif event in ("subscribe", "unsubscribe"):
            self._subscription(frame, on=event == "subscribe")
        else:
            self._error("Invalid event")

    def ping(self, payload: bytes) -> None:
        self._heard_ms = self._now_ms()

    def tick(self, now_ms: int) -> None:
        self._advance(now_ms)
        if self._over:
            return
        if now_ms - self._heard_ms >= self._limits.ping_within_ms:
            self._over = True
            self._link.close(1000, "")
        elif self._beats and now_ms - self._beat_ms >= _HEARTBEAT_MS:
            self._beat_ms = now_ms
            self.tell({"feed": "heartbeat", "time": now_ms})

    def closed(self) -> None:
        self._over = True
        for feed, symbol in self._public:
            self._hub.leave(feed, self._catalogue.derivatives[symbol], self)
        self._public.clear()
        for feed, account in self._private.items():
            self._users.leave(feed, account, self)
        self._private.clear()
        self._on_closed(self)

    def deliver(self, frame: str) -> None:
        self._link.send(frame)

    def tell(self, frame: dict[str, Any]) -> None:
        self.deliver(text_of(frame))

    # --- requests ---

    def _error(self, message: str) -> None:
        self.tell({"event": "error", "message": message})

    def _challenge(self, frame: dict[str, Any]) -> None:
        key = frame.get("api_key")
        if not isinstance(key, str) or not key:
            self._error("Invalid api_key")
            return
        challenge = self._challenges.setdefault(key, self._keys.make_challenge())
        self.tell({"event": "challenge", "message": challenge})

    def _subscription(self, frame: dict[str, Any], *, on: bool) -> None:
        feed = frame.get("feed")
        unknown = [name for name in frame if name not in _FIELDS]
        if unknown:
            self._error(f"Invalid field {unknown[0]}")
        elif feed == "heartbeat":
            self._beats = on
            self._acknowledge("heartbeat", on=on)
        elif feed in PUBLIC_FEEDS:
            self._products(str(feed), frame.get("product_ids"), on=on)
        elif feed in PRIVATE_FEEDS:
            self._account(str(feed), frame, on=on)
        else:
            self._error("Invalid feed")

    def _acknowledge(self, feed: str, *, on: bool, **more: Any) -> None:
        self.tell({"event": "subscribed" if on else "unsubscribed", "feed": feed, **more})

    def _products(self, feed: str, products: Any, *, on: bool) -> None:
        """One acknowledgement a product, upper case as the venue lists it."""
        if not isinstance(products, list) or not products:
            self._error("Invalid product id")
            return
        joined = []
        for product in products:
            listing = self._catalogue.contract(product) if isinstance(product, str) else None
            if listing is None:
                self._error("Invalid product id")
                continue
            if on:
                self._acknowledge(feed, on=True, product_ids=[listing.native])
                joined.append(listing)
            elif (feed, listing.id) in self._public:
                del self._public[feed, listing.id]
                self._hub.leave(feed, listing, self)
                self._acknowledge(feed, on=False, product_ids=[listing.native])
            else:
                self.tell({"event": "unsubscribed_failed", "feed": feed, "product_ids": [listing.native]})
        for listing in joined:
            self._public[feed, listing.id] = None
            self._hub.join(feed, listing, self)

    def _account(self, feed: str, frame: dict[str, Any], *, on: bool) -> None:
        account = self._keys.challenged(frame, self._challenges)
        if account is None:
            self.tell({"event": "alert", "message": f"Failed to {frame['event']} to authenticated feed"})
            return
        if not on:
            if feed in self._private:
                self._users.leave(feed, self._private.pop(feed), self)
            self._acknowledge(feed, on=False)
            return
        self._acknowledge(feed, on=True)
        self._private[feed] = account
        self._users.join(feed, account, self)
