"""The sockets: classic ones, which a token opens, and the unified ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from astra.sandbox import Account, Exchange, Link, SandboxSession
from astra.sandbox.toolkit import EventRate, text_of
from astra_kucoin.sandbox import accounts
from astra_kucoin.sandbox.accounts import AccountDesk
from astra_kucoin.sandbox.calls import UNIFIED, mode_of
from astra_kucoin.sandbox.catalogue import Catalogue
from astra_kucoin.sandbox.hub import CLASSIC_TOPICS, DEPTHS, UNIFIED_CHANNELS, FeedKey, Hub
from astra_kucoin.sandbox.keys import login_account
from astra_kucoin.sandbox.limits import SandboxLimits
from astra_kucoin.sandbox.wire import FUTURES, SPOT, Refusal

PRIVATE = "private"
_PING_INTERVAL_MS = 18_000
_TRADE_TYPES = {SPOT: "SPOT", FUTURES: "FUTURES"}
_MOST_ID = 40


class Floor:
    """What every session works with."""

    def __init__(
        self,
        engine: Exchange,
        catalogue: Catalogue,
        hub: Hub,
        desk: AccountDesk,
        limits: SandboxLimits,
        now_ms: Callable[[], int],
        advance: Callable[[int], None],
    ) -> None:
        self.engine = engine
        self.catalogue = catalogue
        self.hub = hub
        self.desk = desk
        self.limits = limits
        self.now_ms = now_ms
        self.advance = advance


class Session(SandboxSession):
    """What both kinds share: the rate of messages, silence, and what is subscribed."""

    def __init__(self, floor: Floor, link: Link, messages_per_10_s: int) -> None:
        self.floor = floor
        self.link = link
        self.over = False
        self.heard_ms = floor.now_ms()
        self._rate = EventRate(messages_per_10_s, 10_000)
        self.feeds: dict[tuple[str, ...], FeedKey | None] = {}
        """What was asked for -> the feed (None: of an unknown market, which stays silent)."""
        self.topics: dict[str, Account] = {}

    def received(self, payload: str | bytes) -> None:
        if self.over:
            return
        now_ms = self.floor.now_ms()
        self.heard_ms = now_ms
        if self._rate.exceeded(now_ms):
            self.close(1008, "Too many messages")
            return
        self.floor.advance(now_ms)  # what happened before a subscription is not told after it
        try:
            frame = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            frame = None
        self.handle(frame if isinstance(frame, dict) else None, now_ms)

    def handle(self, frame: dict[str, Any] | None, now_ms: int) -> None:
        """A frame of the client; None: it is no JSON object."""
        raise NotImplementedError

    def tick(self, now_ms: int) -> None:
        self.floor.advance(now_ms)

    def deliver(self, frame: bytes) -> None:
        self.link.send(frame)

    def close(self, code: int, reason: str) -> None:
        if not self.over:
            self.over = True
            self.link.close(code, reason)

    def closed(self) -> None:
        self.over = True
        for key in self.feeds.values():
            if key is not None:
                self.floor.hub.leave(key, self)
        for topic, account in self.topics.items():
            self.floor.desk.leave(account, topic, self)
        self.feeds, self.topics = {}, {}

    def drop_feed(self, asked: tuple[str, ...]) -> None:
        if asked in self.feeds:
            key = self.feeds.pop(asked)
            if key is not None:
                self.floor.hub.leave(key, self)

    def join_account(self, account: Account, topic: str) -> None:
        if topic not in self.topics:
            self.topics[topic] = account
            self.floor.desk.join(account, topic, self)

    def leave_account(self, topic: str) -> None:
        account = self.topics.pop(topic, None)
        if account is not None:
            self.floor.desk.leave(account, topic, self)


class ClassicSession(Session):
    """A token socket of one product. Without a message of the client it is closed, even while data flows."""

    def __init__(self, floor: Floor, link: Link, product: str, account: Account | None, connect_id: str) -> None:
        super().__init__(floor, link, floor.limits.messages_per_10_s)
        self._product = product
        self._account = account
        self._send({"id": connect_id, "type": "welcome"})

    def deliver(self, frame: bytes) -> None:
        self.link.send(frame.decode())

    def _send(self, frame: dict[str, Any]) -> None:
        self.link.send(text_of(frame))

    def refuse(self, ident: str, code: int, text: str) -> None:
        self._send({"id": ident, "type": "error", "code": code, "data": text})

    def tick(self, now_ms: int) -> None:
        super().tick(now_ms)
        if not self.over and now_ms - self.heard_ms >= self.floor.limits.silence_ms:
            self.close(1000, "Bye")

    def handle(self, frame: dict[str, Any] | None, now_ms: int) -> None:
        if frame is None:
            self.refuse("", 400, "Bad Request")
            return
        ident, kind = str(frame.get("id", "")), frame.get("type")
        if kind == "ping":
            self._send({"id": ident, "type": "pong", "timestamp": now_ms * 1000})
        elif kind in ("subscribe", "unsubscribe"):
            self._subscription(frame, ident, joins=kind == "subscribe")
        else:
            self.refuse(ident, 400, "type is not supported")

    def _subscription(self, frame: dict[str, Any], ident: str, *, joins: bool) -> None:
        path, _, listed = str(frame.get("topic", "")).partition(":")
        symbols = [symbol for symbol in listed.split(",") if symbol]
        known = path in CLASSIC_TOPICS[self._product] and bool(symbols)
        private = path in accounts.CLASSIC_TOPICS[self._product]
        if not known and not private:
            self.refuse(ident, 404, f"topic {path} is not found")
            return
        if len(symbols) > self.floor.limits.symbols_per_frame:
            self.refuse(ident, 509, "exceed max subscription count in a frame")
            return
        if private:
            if self._account is None or frame.get("privateChannel") not in (True, "true"):
                self.refuse(ident, 403, "no permission for the private topic")
                return
            for topic in [f"{path}:{symbol}" for symbol in symbols] or [path]:
                if joins:
                    self.join_account(self._account, topic)
                else:
                    self.leave_account(topic)
        elif not joins:
            for symbol in symbols:
                self.drop_feed((path, symbol))
        elif not self._join(path, symbols):
            self.refuse(ident, 509, "exceed max subscription count limit of session")
            return
        if frame.get("response") in (True, "true"):
            self._send({"id": ident, "type": "ack"})

    def _join(self, path: str, symbols: list[str]) -> bool:
        new = [symbol for symbol in dict.fromkeys(symbols) if (path, symbol) not in self.feeds]
        if len(self.feeds) + len(new) > self.floor.limits.topics_per_connection:
            return False
        for symbol in new:
            self.feeds[path, symbol] = self.floor.hub.join_classic(self._product, path, symbol, self)
        return True


class UnifiedSession(Session):
    """A socket of the unified API: public data of one product, or an account. All frames are binary."""

    def __init__(self, floor: Floor, link: Link, plane: str, account: Account | None, number: int) -> None:
        super().__init__(floor, link, floor.limits.unified_messages_per_10_s)
        self._plane = plane
        self._account = account
        self._pings = EventRate(1, 1000)
        digest = hashlib.sha256(f"{plane}/{number}/{self.heard_ms}".encode()).hexdigest()
        parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])
        self._send({"sessionId": "-".join(parts), "message": "welcome", "pingInterval": _PING_INTERVAL_MS})

    def _send(self, frame: dict[str, Any]) -> None:
        self.link.send(msgspec.json.encode(frame))

    def tick(self, now_ms: int) -> None:
        """Silence ends only a connection that nothing is subscribed on."""
        super().tick(now_ms)
        idle = not self.feeds and not self.topics
        if not self.over and idle and now_ms - self.heard_ms >= self.floor.limits.silence_ms:
            self.close(1000, "Bye")

    def handle(self, frame: dict[str, Any] | None, now_ms: int) -> None:
        if frame is None:
            return  # not answered at all
        ident = str(frame.get("id", ""))
        action = str(frame.get("action", "")).lower()
        if frame.get("type") == "ping" or frame.get("op") == "ping":
            self._ping(frame, ident, now_ms)
        elif not ident or len(ident) > _MOST_ID:
            self._refuse(ident, "invalid id")
        elif frame.get("op") == "auth":
            self._login(frame, ident, now_ms)
        elif action not in ("subscribe", "unsubscribe"):
            self._refuse(ident, "invalid request data")
        elif self._plane == PRIVATE:
            self._private(frame, ident, joins=action == "subscribe")
        else:
            self._public(frame, ident, joins=action == "subscribe")

    def _ping(self, frame: dict[str, Any], ident: str, now_ms: int) -> None:
        if self._pings.exceeded(now_ms):
            self.close(1008, "Too many pings")
        elif frame.get("op") == "ping":
            self._send({"id": ident, "op": "pong", "timestamp": now_ms})
        else:
            self._send({"type": "pong", "id": ident, "ts": now_ms * 1_000_000})

    def _accept(self, ident: str) -> None:
        self._send({"id": ident, "result": True})

    def _refuse(self, ident: str, message: str) -> None:
        self._send({"id": ident, "result": False, "message": message})

    def _login(self, frame: dict[str, Any], ident: str, now_ms: int) -> None:
        if self._plane != PRIVATE:
            self._refuse(ident, "invalid request data")
            return
        try:
            self._account = login_account(self.floor.engine, frame, now_ms, self.floor.limits)
        except Refusal as refusal:
            self._refuse(ident, refusal.message)
            return
        self._accept(ident)

    def _public(self, frame: dict[str, Any], ident: str, *, joins: bool) -> None:
        """One market a frame, but for tickers. An unknown market is acknowledged, and silent."""
        channel, depth = str(frame.get("channel", "")), str(frame.get("depth", ""))
        listed = frame.get("symbols") if channel == "ticker" and "symbols" in frame else [frame.get("symbol")]
        fits = (
            channel in UNIFIED_CHANNELS
            and str(frame.get("tradeType", "")).upper() == _TRADE_TYPES[self._plane]
            and isinstance(listed, list)
            and all(isinstance(symbol, str) and symbol for symbol in listed)
            and (depth in DEPTHS if channel == "obu" else not depth)
            and frame.get("rpiFilter", 0) == 0  # the sandbox has no such liquidity
        )
        if not fits or not isinstance(listed, list):
            self._refuse(ident, "invalid request data")
            return
        asked = [(channel, symbol, depth) for symbol in listed]
        if not joins:
            for one in asked:
                self.drop_feed(one)
        else:
            new = [one for one in dict.fromkeys(asked) if one not in self.feeds]
            if len(self.feeds) + len(new) > self.floor.limits.unified_topics_per_connection:
                self._refuse(ident, "exceed max subscription count")
                return
            for one in new:
                self.feeds[one] = self.floor.hub.join_unified(self._plane, channel, one[1], depth, self)
        self._accept(ident)

    def _private(self, frame: dict[str, Any], ident: str, *, joins: bool) -> None:
        """Nothing is sent on subscribing: what stands is told by REST."""
        if self._account is None:
            self._refuse(ident, "please log in first")
            return
        channel = str(frame.get("channel", ""))
        kind = str(frame.get("accountType" if channel == "balance" else "tradeType", "UNIFIED")).upper()
        if channel not in accounts.UNIFIED_CHANNELS or kind not in ("UNIFIED", "SPOT", "FUTURES"):
            self._refuse(ident, "invalid request data")
            return
        if mode_of(self._account) != UNIFIED:
            self._refuse(ident, "not a unified account")
            return
        symbol = frame.get("symbol")
        topic = f"{channel}:{symbol}.{kind}" if symbol else f"{channel}.{kind}"
        if joins:
            self.join_account(self._account, topic)
        else:
            self.leave_account(topic)
        self._accept(ident)
