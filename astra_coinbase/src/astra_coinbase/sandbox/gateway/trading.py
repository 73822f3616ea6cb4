"""The gateway's private methods on orders: place, edit, cancel, look up; own trades."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, Exchange, NewOrder, Reject
from astra_coinbase.sandbox.calls import names
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.gateway.calls import Method, RpcCall, RpcError, RpcParams, invalid
from astra_coinbase.sandbox.gateway.market import GatewayMarket, kind_of
from astra_coinbase.sandbox.gateway.orders import (
    Tag,
    contracts_of,
    error_of,
    order_row,
    read_order,
    shown_id,
    tag_of,
    trade_row,
    triggered_row,
)

_ORDER = names(
    "instrument_name amount contracts type price label time_in_force post_only reject_post_only reduce_only trigger"
    " trigger_price display_amount isolated"
)
_EDIT = names("amount contracts price post_only reject_post_only reduce_only trigger_price isolated")
_SPAN = names("count start_timestamp end_timestamp start_id end_id start_seq end_seq sorting include_old historical")
_SCOPE = names("currency kind type instrument_name detailed freeze_quotes include_isolated")


class GatewayTrading:
    def __init__(self, engine: Exchange, catalogue: Catalogue, market: GatewayMarket) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._market = market

    def methods(self) -> dict[str, Method]:
        history = Method(self._history, _SPAN | _SCOPE | names("offset include_unfilled"))
        trades = Method(self._trades, _SPAN | _SCOPE)
        cancel_all = Method(self._cancel_all, _SCOPE, command=True)
        listed = Method(self._open_orders, _SCOPE)
        methods = {
            "buy": Method(lambda call: self._place(call, Side.BUY), _ORDER, command=True),
            "sell": Method(lambda call: self._place(call, Side.SELL), _ORDER, command=True),
            "edit": Method(self._edit, _EDIT | names("order_id"), command=True),
            "edit_by_label": Method(self._edit_by_label, _EDIT | names("label instrument_name"), command=True),
            "cancel": Method(self._cancel, names("order_id isolated"), command=True),
            "cancel_by_label": Method(self._cancel_by_label, names("label currency"), command=True),
            "cancel_all": cancel_all,
            "cancel_all_by_instrument": cancel_all,
            "cancel_all_by_currency": cancel_all,
            "close_position": Method(self._close, names("instrument_name type price isolated"), command=True),
            "get_order_state": Method(self._state, names("order_id isolated")),
            "get_order_state_by_label": Method(self._by_label, names("currency label include_isolated")),
            "get_open_orders_by_label": Method(self._open_by_label, names("currency label include_isolated")),
            "get_open_orders": listed,
            "get_open_orders_by_instrument": listed,
            "get_open_orders_by_currency": listed,
            "get_order_history_by_instrument": history,
            "get_order_history_by_currency": history,
            "get_user_trades_by_instrument": trades,
            "get_user_trades_by_instrument_and_time": trades,
            "get_user_trades_by_currency": trades,
            "get_user_trades_by_currency_and_time": trades,
            "get_user_trades_by_order": Method(self._trades_of_order, names("order_id sorting historical")),
        }
        return {f"private/{name}": method for name, method in methods.items()}

    # --- own orders ---

    def own(self, account: Account, *, is_open: bool = False) -> list[tuple[EngineOrder, Listing]]:
        """The account's orders on the gateway, oldest first."""
        orders = self._engine.open_orders(account) if is_open else self._engine.orders(account)
        found = ((order, self._catalogue.of_symbol(order.market)) for order in orders)
        return [(order, listing) for order, listing in found if self._catalogue.instrument(listing.native) is listing]

    def _find(self, account: Account, name: str) -> tuple[EngineOrder, Listing, bool]:
        """(order, its listing, was it asked for by the id it had until it was triggered)."""
        digits = name.rpartition("-")[2]
        order = None
        if digits.isascii() and digits.isdigit():
            try:
                order = self._engine.order(account, order_id=int(digits))
            except Reject:
                order = None
        if order is not None:
            listing = self._catalogue.of_symbol(order.market)
            if self._catalogue.instrument(listing.native) is listing:
                if name == shown_id(order, listing):
                    return order, listing, False
                if order.type.is_conditional and name == listing.trigger_id(order.id):
                    return order, listing, True
        raise RpcError(10004, "order_not_found")

    def _done(self, order: EngineOrder, listing: Listing, fills: Iterable[EngineFill]) -> dict[str, Any]:
        rows = [trade_row(self._engine, fill, order, listing) for fill in fills]
        return {"order": order_row(order, listing), "trades": rows}

    # --- commands ---

    def _place(self, call: RpcCall, side: Side) -> dict[str, Any]:
        listing = self._market.find(call.params.need("instrument_name"))
        if call.params.boolean("isolated"):
            raise invalid("isolated", "the sandbox has cross margin only")
        new = read_order(self._engine, listing, side, call.params, call.now_ms)
        return self._placed(call.account, listing, new)

    def _placed(self, account: Account, listing: Listing, new: NewOrder) -> dict[str, Any]:
        """Labels may repeat; the engine's client ids may not: the first of several open orders has it there."""
        if any(order.client_order_id == new.client_order_id for order in self._engine.open_orders(account, new.market)):
            new = msgspec.structs.replace(new, client_order_id=None)
        try:
            order = self._engine.place(account, new)
        except Reject as reject:
            raise error_of(reject) from None
        return self._done(order, listing, order.fills)

    def _edit(self, call: RpcCall) -> dict[str, Any]:
        order, listing, _ = self._find(call.account, call.params.need("order_id"))
        return self._edited(call, order, listing)

    def _edit_by_label(self, call: RpcCall) -> dict[str, Any]:
        label, name = call.params.need("label"), call.params.need("instrument_name")
        found = [pair for pair in self.own(call.account, is_open=True) if tag_of(pair[0]).label == label]
        found = [pair for pair in found if pair[1].native == name]
        if len(found) != 1:
            raise RpcError(10004, "order_not_found")
        return self._edited(call, *found[0])

    def _edited(self, call: RpcCall, order: EngineOrder, listing: Listing) -> dict[str, Any]:
        contracts, price = contracts_of(listing, call.params), call.params.decimal("price")
        if call.params.decimal("trigger_price") is not None:
            raise RpcError(11029, "invalid_arguments", {"reason": "the sandbox does not edit trigger prices"})
        if contracts is None and price is None:
            raise invalid("amount", "is required")
        if not order.status.is_open:
            raise RpcError(11044, "not_open_order")
        before = len(order.fills)
        tag = tag_of(order)
        replaced, tag.replaced = tag.replaced, True
        try:
            self._engine.amend(call.account, order.id, price=price, quantity=contracts)
        except Reject as reject:
            tag.replaced = replaced
            raise error_of(reject) from None
        return self._done(order, listing, order.fills[before:])

    def _cancel(self, call: RpcCall) -> dict[str, Any]:
        order, listing, _ = self._find(call.account, call.params.need("order_id"))
        if not order.status.is_open:
            raise RpcError(11044, "not_open_order")
        return order_row(self._engine.cancel(call.account, order.id), listing)

    def _cancel_by_label(self, call: RpcCall) -> int:
        label, currency = call.params.need("label"), call.params.text("currency")
        return self._cancel_those(
            call.account,
            (
                order
                for order, listing in self.own(call.account, is_open=True)
                if tag_of(order).label == label and currency in (None, "any", listing.settlement)
            ),
        )

    def _cancel_all(self, call: RpcCall) -> int:
        return self._cancel_those(call.account, (order for order, _ in self._scoped(call, is_open=True)))

    def _cancel_those(self, account: Account, orders: Iterable[EngineOrder]) -> int:
        numbers = [order.id for order in orders]
        for number in numbers:
            self._engine.cancel(account, number)
        return len(numbers)

    def cancel_everything(self, account: Account) -> int:
        """The switch that cancels when a connection is lost."""
        return self._cancel_those(account, (order for order, _ in self.own(account, is_open=True)))

    def _close(self, call: RpcCall) -> dict[str, Any]:
        listing = self._market.find(call.params.need("instrument_name"))
        held = next((p for p in self._engine.positions(call.account) if p.market == listing.symbol), None)
        if held is None:
            raise RpcError(10010, "already_closed")
        kind = call.params.choice("type", ("limit", "market"), "market")
        price = call.params.decimal("price") if kind == "limit" else None
        new = NewOrder(
            market=listing.symbol,
            side=Side.SELL if held.quantity > 0 else Side.BUY,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=abs(held.quantity),
            price=price,
            reduce_only=True,
            tag=Tag(),
        )
        return self._placed(call.account, listing, new)

    # --- look-ups ---

    def _state(self, call: RpcCall) -> dict[str, Any]:
        order, listing, before = self._find(call.account, call.params.need("order_id"))
        return triggered_row(order, listing) if before else order_row(order, listing)

    def _by_label(self, call: RpcCall) -> list[dict[str, Any]]:
        return self._labelled(call, is_open=False)

    def _open_by_label(self, call: RpcCall) -> list[dict[str, Any]]:
        return self._labelled(call, is_open=True)

    def _labelled(self, call: RpcCall, *, is_open: bool) -> list[dict[str, Any]]:
        label, currency = call.params.text("label"), call.params.need("currency")
        return [
            order_row(order, listing)
            for order, listing in reversed(self.own(call.account, is_open=is_open))
            if (label is None or tag_of(order).label == label) and currency in ("any", listing.settlement)
        ]

    def _scoped(self, call: RpcCall, *, is_open: bool) -> list[tuple[EngineOrder, Listing]]:
        """Own orders, newest first, of an instrument or a currency and a kind."""
        return [
            (order, listing)
            for order, listing in reversed(self.own(call.account, is_open=is_open))
            if self._in_scope(call.params, listing)
        ]

    def _in_scope(self, params: RpcParams, listing: Listing) -> bool:
        name, currency, kind = params.text("instrument_name"), params.text("currency"), params.text("kind")
        if name is not None:
            self._market.find(name)
        return (
            name in (None, listing.native)
            and currency in (None, "any", listing.settlement)
            and kind in (None, "any", kind_of(listing))
        )

    def _open_orders(self, call: RpcCall) -> list[dict[str, Any]]:
        return [order_row(order, listing) for order, listing in self._scoped(call, is_open=True)]

    def _history(self, call: RpcCall) -> list[dict[str, Any]]:
        start, count = call.params.integer("offset", 0), call.params.integer("count", 20, 1000)
        unfilled = call.params.boolean("include_unfilled")
        done = [
            order_row(order, listing)
            for order, listing in self._scoped(call, is_open=False)
            if not order.status.is_open and (unfilled or order.filled)
        ]
        return done[start : start + count]

    def _trades(self, call: RpcCall) -> dict[str, Any]:
        params = call.params
        begin, end = params.integer("start_timestamp", 0), params.integer("end_timestamp", 2**63)
        first, last = params.integer("start_seq", 0), params.integer("end_seq", 2**63)
        count = params.integer("count", 10, 1000)
        orders = {order.id: (order, listing) for order, listing in self.own(call.account)}
        found = [
            fill
            for fill in self._engine.fills(call.account)
            if fill.order_id in orders
            and begin <= fill.time <= end
            and first <= fill.trade_id <= last
            and self._in_scope(params, orders[fill.order_id][1])
        ]
        if params.choice("sorting", ("asc", "desc", "default"), "default") != "asc":
            found.reverse()
        rows = [trade_row(self._engine, fill, *orders[fill.order_id]) for fill in found[:count]]
        return {"trades": rows, "has_more": len(found) > count}

    def _trades_of_order(self, call: RpcCall) -> list[dict[str, Any]]:
        order, listing, _ = self._find(call.account, call.params.need("order_id"))
        return [trade_row(self._engine, fill, order, listing) for fill in order.fills]
