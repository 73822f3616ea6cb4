"""The derivatives API's history of an account: what happened to its orders, its executions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astra.models.orders import Liquidity, OrderStatus
from astra.models.trades import Side
from astra.sandbox import Account, OrderEvent
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.calls import Call, DerivativesRoutes, Endpoint, names
from astra_kraken.sandbox.derivatives_events import event_type, fill_uid, order_uid, tag_of, waits
from astra_kraken.sandbox.derivatives_orders import DerivativesDesk, Recorded
from astra_kraken.sandbox.wire import at_least, parse_number

_KNOWN = names("since before sort count tradeable continuation_token continuationToken")


class DerivativesHistory:
    """`/api/history`: numbers are texts, answers have no envelope, a budget of its own pays."""

    def __init__(self, desk: DerivativesDesk) -> None:
        self._desk = desk

    def routes(self) -> DerivativesRoutes:
        listed = {"orders": self._order_history, "executions": self._fill_history, "triggers": self._trigger_history}
        return {
            ("GET", f"/api/history/{version}/{name}"): Endpoint(handler, _KNOWN, 1, pool="history", bare=True)
            for version in ("v2", "v3")
            for name, handler in listed.items()
        }

    def _concerns(self, call: Call, market: str) -> bool:
        """Is the market (an Astra symbol) the one that `tradeable` asks for?"""
        wanted = call.params.text("tradeable")
        return wanted is None or self._desk.catalogue.derivatives[market].native.lower() == wanted.lower()

    def _elements(self, call: Call, rows: Sequence[tuple[int, int, dict[str, Any]]]) -> dict[str, Any]:
        """(time, number, event) -> the page asked for, newest first unless `sort` is `asc`."""
        since, before = (parse_number(call.params.get(name)) for name in ("since", "before"))
        kept = [row for row in rows if (since is None or row[0] >= since) and (before is None or row[0] < before)]
        if call.params.text("sort") != "asc":
            kept.reverse()
        token = call.params.text("continuation_token") or call.params.text("continuationToken")
        start = int(token) if token is not None and token.isdecimal() else 0
        count = int(parse_number(call.params.get("count")) or 1000)
        page = kept[start : start + count]
        body: dict[str, Any] = {
            "accountUid": ids.uuid_of(ids.ACCOUNT, 1),
            "len": len(page),
            "elements": [
                {"uid": ids.uuid_of(ids.EVENT, number_), "timestamp": time, "event": event}
                for time, number_, event in page
            ],
        }
        return body | {"continuationToken": str(start + count)} if start + count < len(kept) else body

    def _order_history(self, call: Call) -> dict[str, Any]:
        rows = [
            (entry.event.time, entry.number, event)
            for entry in self._desk.journal(call.account)
            if self._concerns(call, entry.event.order.market)
            and (event := self._order_event(call.account, entry)) is not None
        ]
        return self._elements(call, rows)

    def _order_event(self, account: Account, entry: Recorded) -> dict[str, Any] | None:
        event = entry.event
        kinds = {"NEW": "OrderPlaced", "CANCELED": "OrderCancelled", "EXPIRED": "OrderCancelled"}
        kind = "OrderUpdated" if event.kind == "AMENDED" else kinds.get(event.kind)
        if kind is None or waits(event.order):
            return None
        reason = "new_user_order" if kind == "OrderPlaced" else tag_of(event.order).reason or "cancelled_by_user"
        row = self._history_order(account, event)
        if kind == "OrderUpdated":
            return {kind: {"newOrder": row, "reason": "edited_by_user", "reducedQuantity": "", "algoId": ""}}
        return {kind: {"order": row, "reason": reason, "reducedQuantity": "", "algoId": ""}}

    def _history_order(self, account: Account, event: OrderEvent) -> dict[str, Any]:
        order = event.order
        kinds = {"lmt": "Limit", "post": "Post", "ioc": "IoC", "fok": "FillOrKill"}
        return {
            "uid": order_uid(order.id),
            "accountUid": ids.uuid_of(ids.ACCOUNT, 1),
            "tradeable": self._desk.listing_of(order).native,
            "direction": "Buy" if order.side is Side.BUY else "Sell",
            "quantity": at_least(order.remaining, 0),
            "filled": at_least(order.filled, 0),
            "timestamp": order.created,
            "limitPrice": "" if order.price is None else at_least(order.price, 0),
            "orderType": kinds.get(event_type(order), "Limit"),
            "clientId": order.client_order_id or "",
            "reduceOnly": order.reduce_only,
            "lastUpdateTimestamp": order.updated,
        }

    def _trigger_history(self, call: Call) -> dict[str, Any]:
        rows = []
        for entry in self._desk.journal(call.account):
            triggered = waits(entry.event.order) or entry.event.kind == "TRIGGERED"
            if triggered and self._concerns(call, entry.event.order.market):
                row = self._history_order(call.account, entry.event)
                kinds = {"NEW": "OrderTriggerPlaced", "TRIGGERED": "OrderTriggerActivated"}
                kind = kinds.get(entry.event.kind, "OrderTriggerCancelled")
                rows.append((entry.event.time, entry.number, {kind: {"order": row, "reason": ""}}))
        return self._elements(call, rows)

    def _fill_history(self, call: Call) -> dict[str, Any]:
        """Own executions: the order's side of the match, with its fee."""
        rows = []
        for place, fill in enumerate(self._desk.fills(call.account)):
            if not self._concerns(call, fill.market):
                continue
            order = self._desk.engine.order(call.account, order_id=fill.order_id)
            maker = fill.liquidity is Liquidity.MAKER
            body = self._history_order(call.account, OrderEvent("TRADE", order, fill.time))
            execution = {
                "uid": fill_uid(fill),
                "makerOrder" if maker else "takerOrder": body,
                "timestamp": fill.time,
                "quantity": at_least(fill.quantity, 0),
                "price": at_least(fill.price, 0),
                "markPrice": at_least(fill.price, 0),
                "limitFilled": order.status is OrderStatus.FILLED,
                "orderData": {
                    "fee": at_least(fill.fee, 0),
                    "positionSize": "",
                    "feeCalculationInfo": {"userFeeDiscountApplied": "0"},
                },
            }
            event = {"execution": {"execution": execution, "takerReducedQuantity": ""}}
            rows.append((fill.time, (1 << 60) + place, event))
        return self._elements(call, rows)
