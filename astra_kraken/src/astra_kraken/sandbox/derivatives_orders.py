"""Derivatives orders between the venue's words and the engine: ids, events, placing, changing, cancelling."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

import msgspec

from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineEvent, EngineFill, EngineOrder, Exchange, NewOrder, OrderEvent, Reject
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.catalogue import Catalogue, DerivativesListing
from astra_kraken.sandbox.derivatives_events import (
    ZERO,
    Tag,
    ended_event,
    execution_events,
    order_body,
    order_uid,
    placed_event,
    side_text,
    tag_of,
)
from astra_kraken.sandbox.switch import Switch
from astra_kraken.sandbox.wire import DerivativesRefusal, Params, millis, number, parse_time

_LONGEST_CLIENT_ID = 100
_JOURNAL_KEPT = 5000
_CLIENT_IDS_KEPT = 20_000
"""A client id is never taken twice, after the order has ended neither; so many are remembered."""
_PROTECTION = Decimal("0.01")
"""A market order reaches so far beyond the best price."""
ORDER_TYPES = ("lmt", "post", "ioc", "mkt", "stp", "take_profit", "trailing_stop", "fok")


class Recorded(msgspec.Struct, frozen=True):
    """An entry of an account's order journal."""

    number: int
    event: OrderEvent


def status_of_reject(reject: Reject, *, editing: bool = False) -> str:
    """The engine's rule as a `sendStatus.status`."""
    texts = {
        "insufficient-funds": "insufficientAvailableFunds",
        "post-only": "postWouldExecute",
        "duplicate-client-order-id": "clientOrderIdAlreadyExist",
        "order-not-found": "orderForEditNotFound" if editing else "notFound",
        "market-closed": "marketSuspended",
        "tick-size": "invalidPrice",
        "lot-size": "invalidSize",
        "min-quantity": "invalidSize",
        "max-quantity": "invalidSize",
        "min-notional": "invalidSize",
        "reduce-only": "wouldNotReducePosition",
        "stop-would-trigger": "invalidPrice",
        "not-supported": "invalidOrderType",
    }
    return texts.get(reject.rule, "invalidSize")


_REASONS = {"postWouldExecute": "POST_WOULD_EXECUTE", "wouldNotReducePosition": "WOULD_NOT_REDUCE_POSITION"}


class DerivativesDesk:
    """Places, changes and cancels; finds orders; remembers what happened to them."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self.engine = engine
        self.catalogue = catalogue
        self._journals: dict[str, deque[Recorded]] = {}
        self._used_ids: dict[str, dict[str, None]] = {}
        self._entries = 0
        self.switch = Switch()

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, OrderEvent) and event.order.market in self.catalogue.derivatives:
            self._entries += 1
            journal = self._journals.setdefault(event.order.account, deque(maxlen=_JOURNAL_KEPT))
            journal.append(Recorded(self._entries, event))

    def journal(self, account: Account) -> list[Recorded]:
        """What happened to the account's orders, oldest first."""
        return list(self._journals.get(account.name, ()))

    # --- look-ups ---

    def listing_of(self, order: EngineOrder) -> DerivativesListing:
        return self.catalogue.derivatives[order.market]

    def open_orders(self, account: Account) -> list[EngineOrder]:
        found = self.engine.open_orders(account)
        return [order for order in found if order.market in self.catalogue.derivatives]

    def orders(self, account: Account) -> list[EngineOrder]:
        """All orders, oldest first."""
        return [order for order in self.engine.orders(account) if order.market in self.catalogue.derivatives]

    def fills(self, account: Account) -> list[EngineFill]:
        """Own fills, oldest first."""
        return [fill for fill in self.engine.fills(account) if fill.market in self.catalogue.derivatives]

    def order(self, account: Account, uid: str | None, client_id: str | None) -> EngineOrder | None:
        """By either id, the newest with a client id."""
        if uid is not None:
            order_id = ids.number_of_uuid(uid, ids.ORDER)
            if order_id is None:
                return None
            try:
                found = self.engine.order(account, order_id=order_id)
            except Reject:
                return None
            return found if found.market in self.catalogue.derivatives else None
        for order in reversed(self.orders(account)):
            if client_id is not None and order.client_order_id == client_id:
                return order
        return None

    # --- placing ---

    def send(self, account: Account, params: Params, now_ms: int) -> dict[str, Any]:
        """The `sendStatus` of a placement. Raises `DerivativesRefusal` for what is no order at all."""
        listing, new = self._wanted(params, now_ms)
        client_id = new.client_order_id
        if client_id is not None:
            if len(client_id) > _LONGEST_CLIENT_ID:
                return self._refused("clientOrderIdTooLong", client_id, now_ms)
            if client_id in self._used_ids.get(account.name, {}):
                return self._refused("clientOrderIdAlreadyExist", client_id, now_ms)
        try:
            order = self.engine.place(account, new)
        except Reject as reject:
            return self._rejected(status_of_reject(reject), listing, new, now_ms)
        if client_id is not None:
            used = self._used_ids.setdefault(account.name, {})
            used[client_id] = None
            if len(used) > _CLIENT_IDS_KEPT:
                del used[next(iter(used))]
        return self._sent(listing, order, now_ms)

    def _refused(self, status: str, client_id: str | None, now_ms: int) -> dict[str, Any]:
        body: dict[str, Any] = {"status": status, "orderEvents": []}
        if client_id is not None:
            body["cliOrdId"] = client_id
        return body | {"receivedTime": millis(now_ms)}

    def _rejected(self, status: str, listing: DerivativesListing, new: NewOrder, now_ms: int) -> dict[str, Any]:
        """Some refusals show the order that was not taken."""
        body = self._refused(status, new.client_order_id, now_ms)
        if status in _REASONS:
            self._entries += 1
            uid = ids.uuid_of(ids.EVENT, self._entries)
            order = {
                "orderId": uid,
                "cliOrdId": new.client_order_id,
                "type": new.tag.kind if new.tag.kind != "mkt" else "ioc",
                "symbol": listing.native,
                "side": side_text(new.side),
                "quantity": number(new.quantity),
                "filled": 0,
                "limitPrice": None if new.price is None else number(new.price),
                "reduceOnly": new.reduce_only,
                "timestamp": millis(now_ms),
                "lastUpdateTimestamp": millis(now_ms),
            }
            body |= {
                "order_id": uid,
                "orderEvents": [{"type": "REJECT", "uid": uid, "order": order, "reason": _REASONS[status]}],
            }
        return body

    def _sent(self, listing: DerivativesListing, order: EngineOrder, now_ms: int) -> dict[str, Any]:
        """The status stays `placed` when all of it was filled at once; then there is no PLACE event."""
        status, executions = "placed", execution_events(listing, order)
        events = executions
        if order.status.is_open:
            events = [placed_event(listing, order), *executions]
        elif order.status is not OrderStatus.FILLED:
            if not executions:
                status = "selfFill" if order.reason == "self-trade" else "iocWouldNotExecute"
                reason = "SELF_FILL" if order.reason == "self-trade" else "IOC_WOULD_NOT_EXECUTE"
                rejected = {"type": "REJECT", "uid": order_uid(order.id), "order": order_body(listing, order)}
                events = [rejected | {"reason": reason}]
            else:
                events = [*executions, ended_event(listing, order)]
        body: dict[str, Any] = {"order_id": order_uid(order.id), "status": status, "receivedTime": millis(now_ms)}
        if order.client_order_id is not None:
            body["cliOrdId"] = order.client_order_id
        return body | {"orderEvents": events}

    def _wanted(self, params: Params, now_ms: int) -> tuple[DerivativesListing, NewOrder]:
        check_process_before(params, now_ms)
        for name in ("orderType", "symbol", "side", "size"):
            if params.text(name) is None:
                raise DerivativesRefusal(f"requiredArgumentMissing: {name}")
        kind, side = params.text("orderType") or "", params.text("side")
        listing = self.catalogue.contract(params.text("symbol") or "")
        if listing is None:
            raise DerivativesRefusal("contractNotFound")
        if kind not in ORDER_TYPES or kind == "trailing_stop":
            raise DerivativesRefusal("invalidArgument: orderType")
        if side not in ("buy", "sell"):
            raise DerivativesRefusal("invalidArgument: side")
        size = _positive(params, "size")
        price, stop = _positive(params, "limitPrice"), _positive(params, "stopPrice")
        conditional = kind in ("stp", "take_profit")
        if price is None and not conditional and kind != "mkt":
            raise DerivativesRefusal("requiredArgumentMissing: limitPrice")
        if conditional and stop is None:
            raise DerivativesRefusal("requiredArgumentMissing: stopPrice")
        signal = params.text("triggerSignal") or "mark"
        if signal not in ("mark", "index", "last", "spot"):
            raise DerivativesRefusal("invalidArgument: triggerSignal")
        taker = Side.BUY if side == "buy" else Side.SELL
        if kind == "mkt":
            price = self._protected(listing, taker)
        return listing, NewOrder(
            market=listing.id,
            side=taker,
            type=_engine_type(kind, price),
            quantity=size,
            price=price,
            stop_price=stop if conditional else None,
            time_in_force={"ioc": TimeInForce.IOC, "mkt": TimeInForce.IOC, "fok": TimeInForce.FOK}.get(
                kind, TimeInForce.GTC
            ),
            post_only=kind == "post",
            reduce_only=params.flag("reduceOnly"),
            client_order_id=params.text("cliOrdId"),
            tag=Tag(kind, signal),
        )

    def _protected(self, listing: DerivativesListing, side: Side) -> Decimal:
        """The limit of a market order: 1 % beyond the best price it would meet."""
        _, bids, asks = self.engine.depth(listing.id, 1)
        there = asks if side is Side.BUY else bids
        best = there[0].price if there else self.engine.mark_price(listing.id)
        factor = 1 + _PROTECTION if side is Side.BUY else 1 - _PROTECTION
        return max(listing.market.floor_price(best * factor), listing.market.tick_size or Decimal(1))

    # --- changing ---

    def edit(self, account: Account, params: Params, now_ms: int) -> dict[str, Any]:
        """The `editStatus` of a change in place. Raises `DerivativesRefusal`."""
        check_process_before(params, now_ms)
        uid, client_id = params.text("orderId") or params.text("order_id"), params.text("cliOrdId")
        if uid is None and client_id is None:
            raise DerivativesRefusal("requiredArgumentMissing: orderId")
        if params.text("stopPrice") is not None:
            raise DerivativesRefusal("invalidArgument: stopPrice")
        order = self.order(account, uid, client_id)
        named = {"orderId": uid} if uid is not None else {"cliOrdId": client_id}
        answer: dict[str, Any] = named | {"receivedTime": millis(now_ms), "orderEvents": []}
        if order is None or not order.status.is_open:
            return answer | {"status": "orderForEditNotFound"}
        listing, before, fills = self.listing_of(order), order_body(self.listing_of(order), order), len(order.fills)
        size, price = _positive(params, "size"), _positive(params, "limitPrice")
        try:
            self.engine.amend(account, order.id, price=price, quantity=size)
        except Reject as reject:
            return answer | {"status": status_of_reject(reject, editing=True)}
        after = order_body(listing, order, sum((fill.quantity for fill in order.fills[:fills]), ZERO))
        event = {"old": before, "new": after, "reducedQuantity": None, "type": "EDIT"}
        events = [event, *execution_events(listing, order, fills)]
        return answer | {"status": "edited", "orderId": order_uid(order.id), "orderEvents": events}

    # --- cancelling ---

    def cancel(self, account: Account, uid: str | None, client_id: str | None, now_ms: int) -> dict[str, Any]:
        """The `cancelStatus` of one cancel."""
        if uid is None and client_id is None:
            raise DerivativesRefusal("requiredArgumentMissing: order_id")
        named: dict[str, Any] = {"order_id": uid} if uid is not None else {"cliOrdId": client_id}
        order = self.order(account, uid, client_id)
        if order is not None and order.status is OrderStatus.FILLED:
            return named | {"status": "filled", "receivedTime": millis(now_ms)}
        if order is None or not order.status.is_open:
            return named | {"status": "notFound", "receivedTime": millis(now_ms)}
        self._cancel(account, order, "cancelled_by_user")
        body = {"status": "cancelled", "order_id": order_uid(order.id), "receivedTime": millis(now_ms)}
        if order.client_order_id is not None:
            body["cliOrdId"] = order.client_order_id
        return body | {"orderEvents": [ended_event(self.listing_of(order), order)]}

    def _cancel(self, account: Account, order: EngineOrder, reason: str) -> None:
        tag = tag_of(order)
        tag.reason = reason
        order.tag = tag
        self.engine.cancel(account, order.id)

    def cancel_all(
        self, account: Account, symbol: str | None, now_ms: int, reason: str = "cancelled_by_user"
    ) -> dict[str, Any]:
        """Of one contract, of a margin account (`fi_xbtusd`, `flex`), or all. Raises `DerivativesRefusal`."""
        orders = self.open_orders(account)
        if symbol is not None:
            listing = self.catalogue.contract(symbol)
            wallets = {self.engine.wallet_of(name) for name in self.catalogue.derivatives}
            if listing is None and symbol.lower() not in wallets:
                raise DerivativesRefusal("contractNotFound")
            orders = [
                order
                for order in orders
                if (order.market == listing.id if listing else self.engine.wallet_of(order.market) == symbol.lower())
            ]
        for order in orders:
            self._cancel(account, order, reason)
        return {
            "receivedTime": millis(now_ms),
            "cancelOnly": symbol or "all",
            "status": "cancelled" if orders else "noOrdersToCancel",
            "cancelledOrders": [{"order_id": order_uid(order.id)} for order in orders],
            "orderEvents": [ended_event(self.listing_of(order), order) for order in orders],
        }

    def run_switch(self, now_ms: int) -> None:
        """Cancel the orders of those whose dead man's switch strikes."""
        for account in self.switch.due(now_ms):
            self.cancel_all(account, None, now_ms, "dead_man_switch")


def check_process_before(params: Params, now_ms: int) -> None:
    """A request that comes too late is not carried out."""
    text = params.text("processBefore")
    if text is None:
        return
    limit = parse_time(text)
    if limit is None or now_ms >= limit:
        raise DerivativesRefusal("invalidArgument: processBefore")


def _positive(params: Params, name: str) -> Decimal | None:
    if name not in params:
        return None
    value = params.number(name)
    if value is None or value <= 0:
        raise DerivativesRefusal(f"invalidArgument: {name}")
    return value


def _engine_type(kind: str, price: Decimal | None) -> OrderType:
    if kind == "stp":
        return OrderType.STOP_MARKET if price is None else OrderType.STOP_LIMIT
    if kind == "take_profit":
        return OrderType.TAKE_PROFIT_MARKET if price is None else OrderType.TAKE_PROFIT_LIMIT
    return OrderType.LIMIT
