"""The notification sockets of derivatives: V5 of linear contracts, the older ones of coin-margined, public topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from astra.models.orders import OrderStatus, PositionSide
from astra.sandbox import BalanceEvent, EnginePosition, OrderEvent, PositionEvent
from astra.sandbox.toolkit import plain
from astra_htx.sandbox import contract_reports as reports
from astra_htx.sandbox.calls import names
from astra_htx.sandbox.keys import KeyRefused
from astra_htx.sandbox.orders import ticket_of
from astra_htx.sandbox.spot_reports import account_id
from astra_htx.sandbox.users import PrivateSession
from astra_htx.sandbox.wire import Family, zipped

_V5_TOPICS = ("orders", "trade", "match_orders", "positions", "account")
_COIN_TOPICS = ("orders", "matchOrders", "accounts", "positions", "trigger_order")
_V5_EVENTS = {"NEW": "new_order", "TRADE": "filled", "DEPOSIT": "transfer"}
_COIN_EVENTS = {"NEW": "order.open", "TRADE": "order.match", "DEPOSIT": "contract.system"}
_COIN_NUMBERS = names(
    "volume available frozen cost_open cost_hold profit_unreal profit_rate lever_rate position_margin profit last_price"
)


class NotificationSession(PrivateSession):
    """What all of them share: `op` frames in gzip, logins, public topics."""

    family: Family | None = None
    """Whose account is told; None: public topics alone."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._topics: set[tuple[str, str]] = set()
        """(topic, contract or `*`)."""

    @property
    def subscribed(self) -> int:
        return len(self._topics)

    def say(self, body: Any) -> None:
        self._link.send(zipped(body))

    def send_ping(self, stamp: str) -> None:
        self.say({"op": "ping", "ts": stamp})

    def pong_of(self, frame: Mapping[str, Any]) -> Any:
        """The stamp comes back as it was sent: a text."""
        stamp = frame.get("ts") if frame.get("op") == "pong" else None
        return "" if frame.get("op") == "pong" and not isinstance(stamp, str) else stamp

    def not_json(self, now_ms: int) -> None:
        self.say({"op": "error", "err-code": 2010, "err-msg": "Invalid request.", "ts": now_ms})

    def too_fast(self, frame: Mapping[str, Any], now_ms: int) -> None:
        self._refuse(frame, 2004, "Request too frequent.", now_ms)

    def farewell(self, now_ms: int) -> None:
        self.say({"op": "close", "ts": now_ms})

    def _answer(self, frame: Mapping[str, Any], now_ms: int, code: int, **more: Any) -> None:
        body: dict[str, Any] = {"op": frame.get("op")}
        for name in ("cid", "topic"):
            if name in frame:
                body[name] = frame[name]
        self.say(body | {"ts": now_ms, "err-code": code} | more)

    def _refuse(self, frame: Mapping[str, Any], code: int, message: str, now_ms: int) -> None:
        self._answer(frame, now_ms, code, **{"err-msg": message})

    def frame(self, frame: dict[str, Any], now_ms: int) -> None:
        op, topic = frame.get("op"), frame.get("topic")
        if op == "ping":
            self.say({"op": "pong", "ts": frame.get("ts")})
        elif op == "auth" and self.family is not None:
            self._authenticate(frame, now_ms)
        elif op not in ("sub", "unsub"):
            self.say({"op": "error", "err-code": 2010, "err-msg": "Invalid op.", "ts": now_ms})
        elif not isinstance(topic, str):
            self._refuse(frame, 2040, "Missing required parameter.", now_ms)
        elif topic.startswith("public."):
            self._change_public(frame, topic, now_ms)
        elif self.family is None:
            self._refuse(frame, 2010, "Invalid topic.", now_ms)
        elif self.account is None:
            self._refuse(frame, 2002, "Authentication required.", now_ms)
        else:
            self._change(frame, topic, now_ms)

    def _authenticate(self, frame: dict[str, Any], now_ms: int) -> None:
        head = {"op": "auth", "type": "api"}
        if "cid" in frame:
            head["cid"] = frame["cid"]
        if frame.get("type") != "api":
            self.say(head | {"err-code": 2001, "err-msg": "Invalid authentication.", "ts": now_ms})
            return
        try:
            self.log_in(frame, now_ms)
        except KeyRefused as refusal:
            self.say(head | {"err-code": 2003, "err-msg": f"Authentication failed. {refusal}", "ts": now_ms})
        except ConnectionRefusedError:
            self.say(head | {"err-code": 2030, "err-msg": "Too many connections.", "ts": now_ms})
        else:
            self.say(head | {"err-code": 0, "ts": now_ms, "data": {"user-id": self.uid}})

    @property
    def uid(self) -> str:
        return str(account_id(self.caller))

    def _change_public(self, frame: dict[str, Any], topic: str, now_ms: int) -> None:
        """Funding, liquidations, contract changes: nothing but the first frame of funding ever comes here."""
        parts = topic.split(".")
        kinds = ("funding_rate", "liquidation_orders", "contract_info", "heartbeat")
        if len(parts) != 3 or parts[2] not in kinds:
            self._refuse(frame, 2010, "Invalid topic.", now_ms)
            return
        self._answer(frame, now_ms, 0)
        if frame["op"] == "sub" and parts[2] == "heartbeat":
            state = {"heartbeat": 1, "estimated_recovery_time": None}
            self.say({"op": "notify", "topic": topic, "event": "init", "ts": now_ms, "data": state})

    def _change(self, frame: dict[str, Any], topic: str, now_ms: int) -> None:
        raise NotImplementedError

    def _toggle(self, frame: dict[str, Any], key: tuple[str, str], now_ms: int, **more: Any) -> bool:
        """Keep or drop the subscription; True if it is a new one. `*` drops all of a topic, but one contract is not
        dropped from a subscription to `*`."""
        if frame["op"] == "unsub":
            topic, contract = key
            gone = {one for one in self._topics if one == key or (one[0] == topic and contract == "*")}
            if not gone:
                self._refuse(frame, 2012, "The topic is not subscribed.", now_ms)
                return False
            self._topics -= gone
            self._answer(frame, now_ms, 0, **more)
            return False
        if key in self._topics:
            self._refuse(frame, 2014, "The topic is subscribed already.", now_ms)
            return False
        self._topics.add(key)
        self._answer(frame, now_ms, 0, **more)
        return True

    def _wants(self, topic: str, contract: str) -> bool:
        return (topic, "*") in self._topics or (topic, contract) in self._topics

    def order_event(self, event: OrderEvent, family: Family) -> None:
        """Public sockets tell nobody anything."""

    def balance_event(self, event: BalanceEvent, cause: str) -> None:
        """Public sockets tell nobody anything."""


class LinearSession(NotificationSession):
    """`/ws/v5/notification`."""

    family = Family.LINEAR

    def _change(self, frame: dict[str, Any], topic: str, now_ms: int) -> None:
        if topic not in _V5_TOPICS:
            self._refuse(frame, 2010, "Invalid topic.", now_ms)
            return
        if topic == "account":
            if self._toggle(frame, (topic, "*"), now_ms):
                self._push_account("snapshot", now_ms)
            return
        contract = frame.get("contract_code")
        if not isinstance(contract, str) or not contract:
            self._refuse(frame, 2040, "Missing required parameter.", now_ms)
            return
        listing = None if contract == "*" else self.desk.catalogue.find(Family.LINEAR, contract)
        if contract != "*" and listing is None:
            self._refuse(frame, 2011, "Contract doesn't exist.", now_ms)
            return
        native = "*" if listing is None else listing.native
        if self._toggle(frame, (topic, native), now_ms, contract_code=contract) and topic == "positions":
            for position in self.desk.positions(self.caller, Family.LINEAR):
                if native in ("*", self.desk.listing(position).native):
                    self._push_position(position, "snapshot", now_ms)

    def _notify(self, topic: str, contract: str, now_ms: int, data: Any, event: str | None = None) -> None:
        body: dict[str, Any] = {
            "op": "notify",
            "topic": topic,
            "contract_code": contract,
            "ts": now_ms,
            "uid": self.uid,
        }
        self.say(body | ({} if event is None else {"event": event}) | {"data": data})

    def order_event(self, event: OrderEvent, family: Family) -> None:
        if family is not Family.LINEAR:
            return
        order, native = event.order, self.desk.listing(event.order).native
        now_ms = event.time
        if self._wants("match_orders", native):
            self._notify("match_orders", native, now_ms, [self._matched(event)])
        if self._wants("orders", native):
            row = reports.v5_order(self.desk, order, self.caller, pushed=True)
            # All fills of a command that filled the order are told with its last state, the volume yet growing.
            done = self.gate.engine.order(self.caller, order_id=order.id)
            if event.kind == "TRADE" and done.status is OrderStatus.FILLED:
                row["state"] = reports.v5_state(done)
            self._notify("orders", native, now_ms, row)
        if event.fill is not None and self._wants("trade", native):
            self._notify("trade", native, now_ms, [reports.v5_pushed_fill(self.desk, order, event.fill)])

    def _matched(self, event: OrderEvent) -> dict[str, Any]:
        """Straight from the matching engine: the order's state with its fill, without fees."""
        row = reports.v5_order(self.desk, event.order, self.caller, pushed=True)
        shown = (
            "contract_code",
            "contract_type",
            "order_id",
            "client_order_id",
            "side",
            "position_side",
            "type",
            "price",
            "volume",
            "state",
            "trade_volume",
            "margin_mode",
            "created_time",
            "updated_time",
        )
        body = {name: row[name] for name in shown}
        trades = [] if event.fill is None else [reports.v5_pushed_fill(self.desk, event.order, event.fill)]
        return body | {"trade": trades}

    def balance_event(self, event: BalanceEvent, cause: str) -> None:
        if event.balance.wallet == Family.LINEAR and ("account", "*") in self._topics:
            self._push_account(_V5_EVENTS.get(cause, "cancel_order"), event.time)

    def _push_account(self, event: str, now_ms: int) -> None:
        body = reports.v5_balances(self.desk, self.caller, now_ms, pushed=True)
        body["version"] = self.users.version(self.caller.name, "account")
        self._notify("account", "", now_ms, body, event)

    def position_event(self, event: PositionEvent, family: Family, cause: str) -> None:
        native = self.desk.listing(event.position).native
        if family is Family.LINEAR and self._wants("positions", native):
            self._push_position(event.position, _V5_EVENTS.get(cause, "cancel_order"), event.time)

    def _push_position(self, position: EnginePosition, event: str, now_ms: int) -> None:
        listing = self.desk.listing(position)
        row = reports.v5_position(self.desk, position, self.caller, now_ms)
        del row["margin"], row["margin_currency"]
        row |= {
            "symbol": listing.base,
            "position_mode": "dual_side" if self.caller.hedge_mode else "single_side",
            "fee": "0",
            "break_even_price": row["open_avg_price"],
            "total_trade_fee": "0",
            "profit": plain(position.realized_pnl),
            "state": "normal",
            "funding_fee": "0",
            "version": self.users.version(self.caller.name, f"position {listing.native}"),
        }
        self._notify("positions", listing.native, now_ms, [row], event)


class CoinSession(NotificationSession):
    """`/swap-notification` and `/notification`: topics are `orders.btc-usd`, `orders.btc`, `orders.*`."""

    def __init__(self, *args: Any, family: Family) -> None:
        super().__init__(*args)
        self.family: Family = family

    def _change(self, frame: dict[str, Any], topic: str, now_ms: int) -> None:
        kind, _, contract = topic.partition(".")
        if kind not in _COIN_TOPICS or not contract:
            self._refuse(frame, 2010, "Invalid topic.", now_ms)
            return
        keys = {listing.contract_key for listing in self.desk.catalogue.all(self.family)}
        key = contract.lower()
        if key != "*" and key not in keys:
            self._refuse(frame, 2011, "Contract doesn't exist.", now_ms)
            return
        if not self._toggle(frame, (kind, key), now_ms):
            return
        if kind == "accounts":
            for listing in self.desk.catalogue.all(self.family):
                if key in ("*", listing.contract_key) and listing.contract_key in keys:
                    keys.discard(listing.contract_key)  # one frame an asset
                    self._push_account(listing.settle, "init", now_ms)
        elif kind == "positions":
            for position in self.desk.positions(self.caller, self.family):
                if key in ("*", self.desk.listing(position).contract_key):
                    self._push_position(position, "init", now_ms)

    def order_event(self, event: OrderEvent, family: Family) -> None:
        if family is not self.family:
            return
        if event.kind == "NEW" and ticket_of(event.order, family).refused:
            return  # a post-only order is first told as resting (3) or as cancelled (7), not as both
        listing = self.desk.listing(event.order)
        trades = [] if event.fill is None else [reports.coin_pushed_trade(self.desk, event.fill)]
        row = reports.coin_order(self.desk, event.order, self.caller)
        key = listing.contract_key
        if self._wants("matchOrders", key):
            shown = (
                "symbol",
                "contract_code",
                "status",
                "order_id",
                "order_id_str",
                "client_order_id",
                "order_type",
                "trade_volume",
                "volume",
                "direction",
                "offset",
                "lever_rate",
                "price",
                "created_at",
                "order_source",
                "order_price_type",
            )
            self._notify("matchOrders", key, event.time, {name: row[name] for name in shown} | {"trade": trades})
        if self._wants("orders", key):
            self._notify("orders", key, event.time, row | {"trade": trades})

    def _notify(self, kind: str, key: str, now_ms: int, body: dict[str, Any]) -> None:
        head = {"op": "notify", "topic": f"{kind}.{key}", "ts": now_ms}
        self.say(head | body | {"uid": self.uid})

    def balance_event(self, event: BalanceEvent, cause: str) -> None:
        if event.balance.wallet == self.family:
            self._push_account(event.balance.asset, _COIN_EVENTS.get(cause, "order.cancel"), event.time)

    def _push_account(self, asset: str, event: str, now_ms: int) -> None:
        for listing in self.desk.catalogue.all(self.family):
            if listing.settle == asset:
                if self._wants("accounts", listing.contract_key):
                    row = reports.coin_account(self.desk, self.caller, self.family, asset)
                    for name in ("new_risk_rate", "trade_partition"):
                        del row[name]
                    self._notify("accounts", listing.contract_key, now_ms, {"event": event, "data": [row]})
                return

    def position_event(self, event: PositionEvent, family: Family, cause: str) -> None:
        if family is self.family:
            self._push_position(event.position, _COIN_EVENTS.get(cause, "order.cancel"), event.time)

    def _push_position(self, position: EnginePosition, event: str, now_ms: int) -> None:
        """Numbers are bare in pushes. A position that is closed is told with volume 0."""
        listing = self.desk.listing(position)
        if not self._wants("positions", listing.contract_key):
            return
        row = reports.coin_position(self.desk, position, self.caller)
        if not position.quantity and position.side is not None:
            row["direction"] = "buy" if position.side is PositionSide.LONG else "sell"
        bare = {name: msgspec.Raw(value.encode()) if name in _COIN_NUMBERS else value for name, value in row.items()}
        self._notify("positions", listing.contract_key, now_ms, {"event": event, "data": [bare]})
