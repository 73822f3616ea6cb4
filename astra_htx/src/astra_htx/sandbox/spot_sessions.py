"""Spot's private sockets: `/ws/v2` (account streams) and `/ws/trade` (order entry), both in plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from astra.sandbox import Account, BalanceEvent, EngineBalance, OrderEvent
from astra.sandbox.toolkit import plain, text_of
from astra_htx.sandbox import spot_reports as reports
from astra_htx.sandbox.keys import KeyRefused
from astra_htx.sandbox.users import PrivateSession
from astra_htx.sandbox.wire import Family

_CHANGES = {"NEW": "order.place", "TRADE": "order.match", "DEPOSIT": "deposit"}
OrderEntry = Callable[[Account, str, Any], dict[str, Any]]
"""(account, command, parameters) -> the answer's body."""


class SpotSession(PrivateSession):
    """`/ws/v2`."""

    spot = True
    every_ms = 20_000
    most_unanswered = 3

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._orders: set[str] = set()
        self._clearing: dict[str, int] = {}
        self._balances: int | None = None
        self._seen: dict[str, EngineBalance] = {}
        self._to_clear: list[tuple[str, dict[str, Any]]] = []

    @property
    def subscribed(self) -> int:
        return len(self._orders) + len(self._clearing) + (self._balances is not None)

    def say(self, body: Any) -> None:
        self._link.send(text_of(body))

    def send_ping(self, stamp: str) -> None:
        self.say({"action": "ping", "data": {"ts": int(stamp)}})

    def pong_of(self, frame: Mapping[str, Any]) -> Any:
        stamp = frame.get("data") if frame.get("action") == "pong" else None
        return stamp.get("ts") if isinstance(stamp, dict) else None

    def not_json(self, now_ms: int) -> None:
        self.say({"code": 2001, "message": "invalid.json"})

    def too_fast(self, frame: Mapping[str, Any], now_ms: int) -> None:
        self.say({"action": frame.get("action"), "code": 429, "ch": frame.get("ch"), "message": "too.many.request"})

    def frame(self, frame: dict[str, Any], now_ms: int) -> None:
        action, channel = frame.get("action"), frame.get("ch")
        if action == "ping":
            self.say({"action": "pong", "data": frame.get("data")})
        elif action == "req" and channel == "auth":
            self._authenticate(frame, now_ms)
        elif action not in ("sub", "unsub"):
            self.say({"code": 2001, "message": "invalid.action"})
        elif self.account is None:
            self.say({"action": action, "code": 2002, "ch": channel, "message": "invalid.auth.state"})
        else:
            self._change(str(action), str(channel))

    def _authenticate(self, frame: dict[str, Any], now_ms: int) -> None:
        params = frame.get("params")
        answer: dict[str, Any] = {"action": "req", "code": 200, "ch": "auth", "data": {}}
        if not isinstance(params, dict):
            answer = {"action": "req", "code": 2001, "ch": "auth", "message": "missing.param.auth"}
        else:
            try:
                self.log_in(params, now_ms)
            except KeyRefused:
                answer = {"action": "req", "code": 2002, "ch": "auth", "message": "auth.fail"}
            except ConnectionRefusedError:
                answer = {"action": "req", "code": 4000, "ch": "auth", "message": "too.many.connection"}
        self.say(answer)

    def _change(self, action: str, channel: str) -> None:
        """Subscribe or unsubscribe `orders#S`, `trade.clearing#S[#mode]`, `accounts.update[#mode]`."""
        kind, _, rest = channel.partition("#")
        symbol, _, mode = rest.partition("#")
        problem: str | None = None
        if kind == "accounts.update":
            problem = None if rest in ("", "0", "1", "2") else "invalid.ch"
        elif kind not in ("orders", "trade.clearing") or (mode and (kind == "orders" or mode not in ("0", "1"))):
            problem = "invalid.ch"
        elif symbol != "*" and self.desk.catalogue.find(Family.SPOT, symbol) is None:
            problem = "invalid.symbol"
        if problem is not None:
            self.say({"action": action, "code": 2001, "ch": channel, "message": problem})
            return
        self.say({"action": action, "code": 200, "ch": channel, "data": {}})
        subscribes = action == "sub"
        if kind == "accounts.update":
            self._balances = int(rest or 0) if subscribes else None
            if subscribes:
                self._dump(channel)
        elif kind == "orders":
            self._orders = self._orders | {symbol} if subscribes else self._orders - {symbol}
        elif subscribes:
            self._clearing[symbol] = int(mode or 0)
        else:
            self._clearing.pop(symbol, None)

    def _dump(self, channel: str) -> None:
        """All assets, without a cause and a time."""
        for balance in self.gate.engine.balances(self.caller):
            if balance.wallet == Family.SPOT:
                self._seen[balance.asset] = EngineBalance(balance.wallet, balance.asset, balance.total, balance.locked)
                self._push_balance(channel, balance, None, None, ("balance", "available"))

    def _push(self, channel: str, body: dict[str, Any]) -> None:
        self.say({"action": "push", "ch": channel, "data": body})

    # --- events ---

    def order_event(self, event: OrderEvent, family: Family) -> None:
        if family is not Family.SPOT:
            return
        order, native = event.order, self.desk.listing(event.order).native
        number = reports.account_id(self.caller)
        body: dict[str, Any] | None = None
        if event.kind == "TRADE" and event.fill is not None:
            body = reports.trade(self.desk, order, event.fill)
        elif event.kind in ("CANCELED", "EXPIRED"):
            if order.type.is_conditional and (not order.triggered or not self._was_active(event)):
                body = reports.never_active(self.desk, order, failed=order.triggered)
            else:
                body = reports.cancellation(self.desk, order)
        elif event.kind == "TRIGGERED" or (event.kind == "NEW" and not order.type.is_conditional):
            body = reports.creation(self.desk, order, number)
        if body is not None:
            for symbol in ("*", native):
                if symbol in self._orders:
                    self._push(f"orders#{symbol}", body)
        self._clear(event, native, number)

    @staticmethod
    def _was_active(event: OrderEvent) -> bool:
        """Did a triggered order get as far as the book?"""
        return event.kind == "CANCELED" or event.order.reason in ("ioc", "fok", "no-liquidity", "self-trade")

    def _clear(self, event: OrderEvent, native: str, number: int) -> None:
        """Fills are cleared a little later: the cancellation of what remains of an order may come before them."""
        for symbol in ("*", native):
            mode = self._clearing.get(symbol)
            if mode is None:
                continue
            if event.fill is not None:
                body = reports.clearing(self.desk, event.order, event.fill, number)
                self._to_clear.append((f"trade.clearing#{native}#{mode}", body))
            elif mode == 1 and event.kind in ("CANCELED", "EXPIRED"):
                body = reports.cleared_cancellation(self.desk, event.order, number)
                self._push(f"trade.clearing#{native}#{mode}", body)

    def tick(self, now_ms: int) -> None:
        cleared, self._to_clear = self._to_clear, []
        for channel, body in cleared:
            self._push(channel, body)
        super().tick(now_ms)

    def balance_event(self, event: BalanceEvent, cause: str) -> None:
        """Mode 0: totals only; 1: total and available in frames of their own; 2: both together."""
        balance, mode = event.balance, self._balances
        if balance.wallet != Family.SPOT or mode is None:
            return
        before = self._seen.get(balance.asset)
        self._seen[balance.asset] = balance
        channel, change = f"accounts.update#{mode}", _CHANGES.get(cause, "order.cancel")
        if mode == 2:
            self._push_balance(channel, balance, change, event.time, ("balance", "available"))
            return
        if before is None or before.total != balance.total:
            self._push_balance(channel, balance, change, event.time, ("balance",))
        if mode == 1 and (before is None or before.available != balance.available):
            self._push_balance(channel, balance, change, event.time, ("available",))

    def _push_balance(
        self, channel: str, balance: EngineBalance, change: str | None, time: int | None, shown: tuple[str, ...]
    ) -> None:
        figures = {"balance": plain(balance.total), "available": plain(balance.available)}
        body: dict[str, Any] = {
            "currency": balance.asset.lower(),
            "accountId": reports.account_id(self.caller),
            **{name: figures[name] for name in shown},
            "changeType": change,
            "accountType": "trade",
            "seqNum": self.users.version(self.caller.name, f"spot {balance.asset}"),
            "changeTime": time,
        }
        self._push(channel, body)


class EntrySession(SpotSession):
    """`/ws/trade`: the login of `/ws/v2`, then orders by `ch` and `params`, answered as REST answers."""

    def __init__(self, *args: Any, entry: OrderEntry) -> None:
        super().__init__(*args)
        self._entry = entry

    def frame(self, frame: dict[str, Any], now_ms: int) -> None:
        channel = frame.get("ch")
        if "action" in frame:
            if frame.get("action") in ("sub", "unsub"):
                self.say({"code": 2001, "message": "invalid.action"})
            else:
                super().frame(frame, now_ms)
        elif self.account is None:
            self.say({"code": 2002, "ch": channel, "message": "invalid.auth.state", "cid": frame.get("cid")})
        else:
            self.say(self._entry(self.account, str(channel), frame.get("params")) | {"cid": frame.get("cid")})
