"""WebSocket connections: login, subscriptions, order operations, and how a connection is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astra.sandbox import Account, Exchange, Link, SandboxSession
from astra.sandbox.toolkit import EventRate, text_of
from astra_okx.sandbox.catalogue import Catalogue, Listing
from astra_okx.sandbox.hub import BY_INSTRUMENT, SILENT, TICK_BY_TICK, Hub, Plane
from astra_okx.sandbox.keys import check_permission, login_account
from astra_okx.sandbox.limits import SandboxLimits
from astra_okx.sandbox.trade_rest import MOST_ROWS, TradeService
from astra_okx.sandbox.users import CHANNELS, COUNTED, Subscription, UserDesk
from astra_okx.sandbox.wire import Params, Refusal, verdict

HOUR_MS = 3_600_000
MOST_BYTES = 64 * 1024
IDLE = 4004
TOO_LARGE = 1009
VIP_TICK_BY_TICK = 4
"""`Account.settings["vip"]` from which on the tick-by-tick channels are served."""
OPERATIONS = {
    "order": "order",
    "batch-orders": "order",
    "amend-order": "amend",
    "batch-amend-orders": "amend",
    "cancel-order": "cancel",
    "batch-cancel-orders": "cancel",
}
_OPS = ("login", "subscribe", "unsubscribe")
_KEYS = {
    # What an argument may hold beside its channel, by plane.
    Plane.PUBLIC: frozenset({"instId", "instType", "instFamily"}),
    Plane.BUSINESS: frozenset({"instId", "instType", "instFamily", "algoId", "ccy"}),
    Plane.PRIVATE: frozenset({"instId", "instType", "instFamily", "ccy", "extraParams"}),
}


class Desks(msgspec.Struct, frozen=True):
    """What a connection works with."""

    engine: Exchange
    catalogue: Catalogue
    hub: Hub
    users: UserDesk
    trade: TradeService
    limits: SandboxLimits
    now_ms: Callable[[], int]
    advance: Callable[[int], None]


class Session(SandboxSession):
    """A connection to one of the three URLs."""

    def __init__(
        self, plane: Plane, link: Link, desks: Desks, connection_id: str, on_closed: Callable[[Session], None]
    ) -> None:
        self.plane = plane
        self.account: Account | None = None
        self._link = link
        self._desks = desks
        self._id = connection_id
        self._on_closed = on_closed
        self._over = False
        self._sent_ms = desks.now_ms()
        self._operations = EventRate(desks.limits.operations_per_hour, HOUR_MS)
        self._markets: dict[tuple[str, str], Listing | None] = {}
        self._private: dict[str, Subscription] = {}

    # --- what the server calls ---

    def received(self, payload: str | bytes) -> None:
        if self._over:
            return
        now_ms = self._desks.now_ms()
        self._desks.advance(now_ms)  # what happened before a subscription is not told after it
        if payload in ("ping", b"ping"):
            self._send("pong")
            return
        if len(payload) > MOST_BYTES:
            self.close(TOO_LARGE, "")
            return
        try:
            request = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            request = None
        text = payload if isinstance(payload, str) else payload.decode("utf-8", "replace")
        if not isinstance(request, dict):
            self._refuse(None, "60012", f"Invalid request: {text}")
            return
        ident, args = request.get("id"), request.get("args")
        op = request.get("op") if isinstance(request.get("op"), str) else ""
        if ident is not None and not (isinstance(ident, str) and ident.isalnum() and len(ident) <= 32):
            self._refuse(None, "60012", f"Invalid request: {text}")
        elif self.plane is Plane.PRIVATE and op in OPERATIONS:
            self._operate(request, str(op), now_ms)
        elif op not in _OPS or not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args):
            self._refuse(ident, "60012", f"Invalid request: {text}")
        elif self._operations.exceeded(now_ms):
            self._refuse(ident, "60014", "Requests too frequent.")
        elif op == "login":
            self._log_in(ident, args, now_ms)
        else:
            for arg in args:
                self._change(ident, op, arg, now_ms)
        self._desks.users.flush(now_ms)

    def tick(self, now_ms: int) -> None:
        self._desks.advance(now_ms)
        if not self._over and now_ms - self._sent_ms >= self._desks.limits.idle_ms:
            self.close(IDLE, "No data received in 30s.")

    def closed(self) -> None:
        self._over = True
        for (channel, _), listing in list(self._markets.items()):
            self._leave_market(channel, listing)
        for subscription in self._private.values():
            self._desks.users.leave(subscription)
        self._markets.clear()
        self._private.clear()
        self._on_closed(self)

    def deliver(self, frame: str) -> None:
        self._send(frame)

    def close(self, code: int, reason: str) -> None:
        if not self._over:
            self._over = True
            self._link.close(code, reason)

    def announce_upgrade(self) -> None:
        """What the venue sends 60 s before it cuts the connection for a service upgrade."""
        message = "The connection will soon be closed for a service upgrade. Please reconnect."
        self._send(text_of({"event": "notice", "code": "64008", "msg": message, "connId": self._id}))

    def _send(self, frame: str) -> None:
        if not self._over:
            self._sent_ms = self._desks.now_ms()
            self._link.send(frame)

    def _answer(self, ident: str | None, answer: Mapping[str, Any]) -> None:
        echoed = {} if ident is None else {"id": ident}
        self._send(text_of({**echoed, **answer, "connId": self._id}))

    def _refuse(self, ident: str | None, code: str, message: str) -> None:
        self._answer(ident, {"event": "error", "code": code, "msg": message})

    # --- login ---

    def _log_in(self, ident: str | None, args: list[dict[str, Any]], now_ms: int) -> None:
        if self.account is not None:
            self._refuse(ident, "60031", "The WebSocket endpoint does not support multiple account batch login.")
            return
        try:
            if len(args) != 1:
                raise Refusal("60009", "Login failed.")
            self.account = login_account(self._desks.engine, Params(args[0]), now_ms)
        except Refusal as refusal:
            self._refuse(ident, refusal.code, refusal.message)
            return
        self._answer(ident, {"event": "login", "code": "0", "msg": ""})

    # --- subscriptions ---

    def _change(self, ident: str | None, op: str, arg: dict[str, Any], now_ms: int) -> None:
        """Subscribe or unsubscribe one argument: an acknowledgement or an error of its own."""
        try:
            if "uly" in arg:
                message = "Subscription parameter uly is unavailable anymore. Please replace uly with instFamily."
                raise Refusal("64000", message)
            names = arg.keys() - {"channel"}
            if not all(isinstance(value, str) for value in arg.values()) or not names <= _KEYS[self.plane]:
                raise Refusal("60012", f"Invalid request: {text_of(arg)}")
            channel = str(arg.get("channel", ""))
            if channel in CHANNELS or channel in ("orders-algo", "fills"):
                self._change_private(ident, op, channel, arg)
            else:
                self._change_market(ident, op, channel, arg, now_ms)
        except Refusal as refusal:
            self._refuse(ident, refusal.code, refusal.message)

    def _wrong_channel(self, arg: Mapping[str, str]) -> Refusal:
        shown = ",".join(f"{name}:{value}" for name, value in arg.items())
        return Refusal(
            "60018",
            f"Wrong URL or {shown} doesn't exist. Please use the correct URL, channel and parameters referring to "
            "API document.",
        )

    def _change_market(self, ident: str | None, op: str, channel: str, arg: Mapping[str, str], now_ms: int) -> None:
        """A channel that concerns nobody's account."""
        listing = None
        if channel in BY_INSTRUMENT[self.plane]:
            listing = self._desks.catalogue.of_native(arg.get("instId", ""))
            if listing is None or arg.keys() != {"channel", "instId"}:
                raise self._wrong_channel(arg)
            if op == "subscribe":
                self._check_tier(channel, listing)
        elif channel == "instruments" and self.plane is Plane.PUBLIC:
            self._desks.catalogue.inst_type(Params({"instType": self._type_of(arg)}))
        elif channel not in SILENT[self.plane]:
            raise self._wrong_channel(arg)
        elif self.plane is Plane.PRIVATE and self.account is None:
            raise Refusal("60011", "Please log in")
        key = (channel, text_of(arg))
        known = key in self._markets
        if op == "subscribe":
            self._markets[key] = listing
            self._answer(ident, {"event": "subscribe", "arg": arg})
            if not known:
                self._join_market(channel, listing, arg, now_ms)
            return
        if known:
            del self._markets[key]
            self._leave_market(channel, listing, arg)
        self._answer(ident, {"event": "unsubscribe", "arg": arg})

    def _type_of(self, arg: Mapping[str, str]) -> str:
        if arg.keys() != {"channel", "instType"}:
            raise self._wrong_channel(arg)
        return arg["instType"]

    def _check_tier(self, channel: str, listing: Listing) -> None:
        """Tick-by-tick books are for logged-in users of a high tier, and exclude others of the instrument."""
        held = {name for (name, _), other in self._markets.items() if other is listing}
        if channel in TICK_BY_TICK and self.account is None:
            raise Refusal("60011", "Please log in")
        if channel in TICK_BY_TICK and int((self.account and self.account.settings.get("vip")) or 0) < VIP_TICK_BY_TICK:
            raise Refusal("64003", "Your trading fee tier doesn't meet the requirement to access this channel")
        clashes = {"books-l2-tbt": {"books", "books50-l2-tbt"}}
        clashes |= {"books": {"books-l2-tbt"}, "books50-l2-tbt": {"books-l2-tbt"}}
        if clashes.get(channel, set()) & held:
            raise Refusal("64004", f"Subscribe to {channel} and another book channel of the instrument is not allowed")

    def _join_market(self, channel: str, listing: Listing | None, arg: Mapping[str, str], now_ms: int) -> None:
        if listing is not None:
            self._desks.hub.join(channel, listing, self, now_ms)
        elif channel == "instruments":
            kind = self._desks.catalogue.inst_type(Params(arg))
            assert kind is not None
            self._desks.hub.join_instruments(kind, self)

    def _leave_market(self, channel: str, listing: Listing | None, arg: Mapping[str, str] | None = None) -> None:
        if listing is not None:
            self._desks.hub.leave(channel, listing, self)
        elif channel == "instruments":
            kinds = [arg["instType"]] if arg is not None else ["SPOT", "SWAP", "FUTURES", "OPTION"]
            for name in kinds:
                kind = self._desks.catalogue.inst_type(Params({"instType": name}))
                if kind is not None:
                    self._desks.hub.leave_instruments(kind, self)

    def _change_private(self, ident: str | None, op: str, channel: str, arg: Mapping[str, str]) -> None:
        """A channel of the account that logged in."""
        expected = Plane.BUSINESS if channel == "orders-algo" else Plane.PRIVATE
        if self.plane is not expected:
            raise self._wrong_channel(arg)
        if self.account is None:
            raise Refusal("60011", "Please log in")
        if channel == "fills":
            raise Refusal("64003", "Your trading fee tier doesn't meet the requirement to access this channel")
        self._check_private(channel, arg)
        regular = channel in ("account", "positions") and not self._changes_only(arg)
        shown = {name: value for name, value in arg.items() if name != "extraParams"}
        key, users = text_of(shown), self._desks.users
        held = self._private.get(key)
        self._answer(ident, {"event": op, "arg": shown})
        if op == "unsubscribe":
            if held is not None:
                users.leave(self._private.pop(key))
            return
        if held is not None:
            return
        if channel in COUNTED and not self._counted(channel):
            return
        self._private[key] = Subscription(self, self.account, channel, shown, regular=regular)
        users.join(self._private[key])

    def _check_private(self, channel: str, arg: Mapping[str, str]) -> None:
        kinds = ("ANY", "SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
        needs_type = channel in ("orders", "positions", "orders-algo")
        if needs_type and arg.get("instType") not in kinds:
            raise self._wrong_channel(arg)
        native = arg.get("instId")
        if native and self._desks.catalogue.of_native(native) is None:
            raise self._wrong_channel(arg)

    @staticmethod
    def _changes_only(arg: Mapping[str, str]) -> bool:
        """`extraParams` is a JSON text of its own, `{"updateInterval": "0"}`; anything else is refused."""
        if "extraParams" not in arg:
            return False
        if arg["extraParams"].replace(" ", "") != '{"updateInterval":"0"}':
            raise Refusal("60012", f"Invalid request: {text_of(arg)}")
        return True

    def _counted(self, channel: str) -> bool:
        """Tell how many connections the account has on the channel; one too many gets no subscription."""
        assert self.account is not None
        count = self._desks.users.connections(self.account, channel) + 1
        most = self._desks.limits.sessions_per_channel
        event = "channel-conn-count" if count <= most else "channel-conn-count-error"
        shown = {"event": event, "channel": channel, "connCount": str(min(count, most)), "connId": self._id}
        self._send(text_of(shown))
        return count <= most

    # --- order operations ---

    def _operate(self, request: Mapping[str, Any], op: str, now_ms: int) -> None:
        ident, args, deadline = request.get("id"), request.get("args"), request.get("expTime")
        if self.account is None:
            self._refuse(ident, "60011", "Please log in")
            return
        batch = op.startswith("batch")
        orders = args if isinstance(args, list) else []
        valid = ident is not None and 0 < len(orders) <= (MOST_ROWS if batch else 1)
        if not valid or not all(isinstance(arg, dict) for arg in orders):
            self._result(ident, op, "60013", "Invalid args", [], now_ms)
            return
        rows = [Params(arg) for arg in orders]
        try:
            check_permission(self.account, "trade")
            if deadline is not None and OPERATIONS[op] != "cancel":
                check_deadline(str(deadline), now_ms)
            results = self._desks.trade.run(OPERATIONS[op], self.account, rows, self._desks.catalogue.of_code, now_ms)
        except Refusal as refusal:
            results = [
                {
                    "clOrdId": str(arg.get("clOrdId") or ""),
                    "ordId": "",
                    "sCode": refusal.code,
                    "sMsg": refusal.message,
                    "tag": str(arg.get("tag") or ""),
                    "ts": str(now_ms),
                }
                for arg in orders
            ]
        code, _ = verdict(results)
        self._result(ident, op, code, "", results, now_ms)

    def _result(self, ident: str | None, op: str, code: str, message: str, rows: list[Any], now_ms: int) -> None:
        micros = now_ms * 1000
        times = {"inTime": str(micros + 339), "outTime": str(micros + 1240)}
        self._send(text_of({"id": ident or "", "op": op, "code": code, "msg": message, "data": rows, **times}))


def check_deadline(text: str, now_ms: int) -> None:
    """`expTime`: a request that comes later is not carried out."""
    if not text.isascii() or not text.isdigit():
        raise Refusal("50036", "The expTime can't be earlier than the current system time. Please adjust it.")
    if int(text) < now_ms:
        raise Refusal("50036", "The expTime can't be earlier than the current system time. Please adjust it.")
    if int(text) > now_ms + HOUR_MS:
        raise Refusal("50037", "The expTime is too far in the future.")
