"""Spot: `/0/private`, orders and look-ups."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from astra.models.orders import Liquidity, OrderStatus, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.calls import Call, Endpoint, SpotRoutes, names
from astra_kraken.sandbox.catalogue import SpotListing
from astra_kraken.sandbox.spot_orders import (
    TYPE_NAMES,
    ZERO,
    SpotDesk,
    Tag,
    Wanted,
    description,
    end_reason,
    fill_txid,
    new_order,
    newest_first,
    order_fees,
    side_of,
    spot_txid,
    tag_of,
    time_in_force,
    waits,
)
from astra_kraken.sandbox.spot_public import listing_of
from astra_kraken.sandbox.wire import (
    Params,
    SpotRefusal,
    at_least,
    parse_number,
    parse_time,
    rounded,
    unix_seconds,
    whole_seconds,
)

_PAGE = 50
_ORDER_FIELDS = (
    "type ordertype volume price price2 timeinforce expiretm oflags leverage reduce_only trigger displayvol "
    "close[ordertype] close[price] close[price2] stptype starttm validate cl_ord_id userref"
)
_USERREF = re.compile(r"-?\d{1,10}\Z")


class SpotOrders:
    """Placing, changing, cancelling, looking up."""

    def __init__(self, desk: SpotDesk) -> None:
        self._desk = desk

    def routes(self) -> SpotRoutes:
        look_ups: dict[str, tuple[Any, str, int]] = {
            "OpenOrders": (self._open, "trades userref cl_ord_id rebase_multiplier", 1),
            "QueryOrders": (self._query, "txid trades consolidate_taker userref rebase_multiplier", 1),
            "ClosedOrders": (
                self._closed,
                "trades userref cl_ord_id start end ofs closetime consolidate_taker without_count rebase_multiplier",
                1,
            ),
            "TradesHistory": (
                self._history,
                "type trades start end ofs consolidate_taker without_count ledgers rebase_multiplier",
                2,
            ),
            "QueryTrades": (self._query_trades, "txid trades rebase_multiplier", 1),
        }
        commands = {
            "AddOrder": (self._add, f"pair {_ORDER_FIELDS} deadline asset_class broker"),
            "AddOrderBatch": (self._add_batch, "pair orders deadline validate asset_class broker"),
            "AmendOrder": (
                self._amend,
                "txid cl_ord_id order_qty display_qty limit_price trigger_price post_only deadline pair",
            ),
            "EditOrder": (self._edit, "pair txid volume price price2 oflags deadline validate userref cancel_response"),
            "CancelOrder": (self._cancel, "txid cl_ord_id"),
            "CancelOrderBatch": (self._cancel_batch, "orders cl_ord_ids"),
            "CancelAll": (self._cancel_all, ""),
            "CancelAllOrdersAfter": (self._after, "timeout"),
        }
        routes = {name: Endpoint(handler, names(accepts), cost) for name, (handler, accepts, cost) in look_ups.items()}
        for name, (handler, accepts) in commands.items():
            routes[name] = Endpoint(handler, names(accepts), 0, command=True)
        return routes

    # --- placing ---

    def _wanted(self, listing: SpotListing, params: Params, now_ms: int, deadline: Any) -> Wanted:
        side = side_of(params.text("type"), "type")
        kind = params.text("ordertype")
        oflags = tuple(params.texts("oflags"))
        if set(oflags) - {"post", "viqc", "fciq", "nompp"}:  # fcib: fees are in quote here
            raise SpotRefusal("EGeneral:Invalid arguments:oflags")
        self._refuse_what_is_not_here(params)
        volume = params.number("volume")
        if volume is None or volume <= 0:
            raise SpotRefusal("EGeneral:Invalid arguments:volume")
        if volume.normalize().as_tuple().exponent < -listing.qty_scale:  # type: ignore[operator]
            raise SpotRefusal("EGeneral:Invalid arguments:volume")
        price, price2 = self._price(params, "price"), self._price(params, "price2")
        conditional = kind not in ("limit", "market")
        expire_ms = self._expiry(params, now_ms)
        client_id, userref = params.text("cl_ord_id"), _userref(params)
        if client_id is not None and userref is not None:
            raise SpotRefusal("EGeneral:Invalid arguments:cl_ord_id and userref exclude each other")
        if listing.tokenized and params.text("asset_class") != "tokenized_asset":
            raise SpotRefusal("EQuery:Unknown asset pair")
        limit = price2 if conditional else price
        order = new_order(
            listing,
            side,
            kind,
            quantity=None if "viqc" in oflags else volume,
            quote_quantity=volume if "viqc" in oflags else None,
            price=None if kind == "market" else limit,
            trigger_price=price if conditional else None,
            tif=time_in_force(params.text("timeinforce"), expire_ms),
            expire_ms=expire_ms,
            post_only="post" in oflags,
            client_id=client_id,
        )
        fee_flag = () if "fciq" in oflags else ("fciq",)
        tag = Tag(userref, oflags + fee_flag, (params.text("trigger") or "last") if conditional else None)
        deadline_ms = None if deadline is None else parse_time(deadline)
        if deadline is not None and deadline_ms is None:
            raise SpotRefusal("EGeneral:Invalid arguments:deadline")
        return Wanted(listing, order, tag, deadline_ms)

    @staticmethod
    def _refuse_what_is_not_here(params: Params) -> None:
        """Margin, icebergs, conditional closes, scheduled orders, self-trades that cancel the older order."""
        if params.text("leverage") not in (None, "none", "0", "1"):
            raise SpotRefusal("EOrder:Margin allowance exceeded")
        if params.flag("reduce_only"):
            raise SpotRefusal("EOrder:Reduce only:Non-margin order")
        for name in ("displayvol", "close[ordertype]"):
            if name in params:
                raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
        if params.text("starttm") not in (None, "0"):
            raise SpotRefusal("EGeneral:Invalid arguments:starttm")
        if params.text("stptype") not in (None, "cancel-newest"):
            raise SpotRefusal("EGeneral:Invalid arguments:stptype")

    @staticmethod
    def _price(params: Params, name: str) -> Decimal | None:
        if params.text(name) in (None, "0"):
            return None
        value = params.number(name)
        if value is None or value <= 0 or str(params.get(name))[0] in "+-#":
            raise SpotRefusal("EOrder:Invalid price")
        return value

    @staticmethod
    def _expiry(params: Params, now_ms: int) -> int | None:
        text = params.text("expiretm")
        if text in (None, "0"):
            return None
        value = parse_number(text)
        if value is None or value <= 0:
            raise SpotRefusal("EGeneral:Invalid arguments:expiretm")
        seconds = int(value)
        expire_ms = now_ms + seconds * 1000 if str(text).startswith("+") else seconds * 1000
        if expire_ms <= now_ms:
            raise SpotRefusal("EGeneral:Invalid arguments:expiretm")
        return expire_ms

    def _add(self, call: Call) -> dict[str, Any]:
        listing = listing_of(self._desk.catalogue, call.params)
        wanted = self._wanted(listing, call.params, call.now_ms, call.params.get("deadline"))
        if call.params.flag("validate"):
            self._desk.check(call.account, wanted, call.now_ms)
            return {"descr": {"order": description(listing, wanted.order)}}
        order = self._desk.place(call.account, wanted, call.now_ms)
        return {"descr": {"order": description(listing, wanted.order)}, "txid": [spot_txid(order)]}

    def _add_batch(self, call: Call) -> dict[str, Any]:
        """2 to 15 orders in one pair, each taken or refused for itself."""
        listing = listing_of(self._desk.catalogue, call.params)
        rows = call.params.get("orders")
        if not isinstance(rows, list) or not 2 <= len(rows) <= 15 or not all(isinstance(row, dict) for row in rows):
            raise SpotRefusal("EGeneral:Invalid arguments:orders")
        known = names(_ORDER_FIELDS)
        results: list[dict[str, Any]] = []
        for row in rows:
            params = Params(dict(row))
            unknown = params.unknown(known)
            if unknown is not None:
                raise SpotRefusal(f"EGeneral:Invalid arguments:{unknown}")
            if listing.tokenized and call.params.text("asset_class") == "tokenized_asset":
                params = Params({**row, "asset_class": "tokenized_asset"})
            results.append(self._add_one(call, listing, params))
        return {"orders": results}

    def _add_one(self, call: Call, listing: SpotListing, params: Params) -> dict[str, Any]:
        try:
            wanted = self._wanted(listing, params, call.now_ms, call.params.get("deadline"))
            if call.params.flag("validate"):
                self._desk.check(call.account, wanted, call.now_ms)
                return {"descr": {"order": description(listing, wanted.order)}}
            order = self._desk.place(call.account, wanted, call.now_ms)
        except SpotRefusal as refusal:
            return {"error": refusal.error}
        return {"txid": spot_txid(order), "descr": {"order": description(listing, wanted.order)}}

    # --- changing and cancelling ---

    def _named(self, call: Call) -> EngineOrder:
        """The one open order that `txid` or `cl_ord_id` names."""
        client_id = call.params.text("cl_ord_id")
        txid = call.params.text("txid")
        if (client_id is None) == (txid is None):
            raise SpotRefusal("EGeneral:Invalid arguments:txid")
        if client_id is not None:
            order = self._desk.open_with_client_id(call.account, client_id)
            if order is None:
                raise SpotRefusal("EOrder:Unknown order")
            return order
        assert txid is not None
        return self._desk.open_by(call.account, txid)[0]

    def _amend(self, call: Call) -> dict[str, Any]:
        params = call.params
        deadline = params.get("deadline")
        self._desk.check_deadline(None if deadline is None else parse_time(deadline) or 0, call.now_ms)
        for name in ("display_qty", "trigger_price"):
            if name in params:
                raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
        amendment = self._desk.amend(
            call.account,
            self._named(call),
            call.now_ms,
            price=self._price(params, "limit_price"),
            quantity=params.number("order_qty"),
            post_only=params.flag("post_only"),
        )
        return {"amend_id": amendment}

    def _edit(self, call: Call) -> dict[str, Any]:
        listing = listing_of(self._desk.catalogue, call.params)
        order = self._desk.open_by(call.account, call.params.text("txid") or "")[0]
        former = spot_txid(order)
        edited = self._desk.edit(
            call.account,
            order,
            call.now_ms,
            price=self._price(call.params, "price"),
            quantity=call.params.number("volume"),
            userref=_userref(call.params),
        )
        return {
            "descr": {"order": description(listing, edited)},
            "txid": spot_txid(edited),
            "originaltxid": former,
            "status": "ok",
            "orders_cancelled": 1,
        }

    def _cancel(self, call: Call) -> dict[str, Any]:
        if "cl_ord_id" in call.params:
            orders = [self._named(call)]
        else:
            orders = self._desk.open_by(call.account, call.params.text("txid") or "")
        return {"count": self._desk.cancel(call.account, orders, call.now_ms)}

    def _cancel_batch(self, call: Call) -> dict[str, Any]:
        """Up to 50; those that are not open are passed over."""
        given = [*call.params.texts("orders"), *call.params.texts("cl_ord_ids")]
        if not 1 <= len(given) <= 50:
            raise SpotRefusal("EGeneral:Invalid arguments:orders")
        found: dict[int, EngineOrder] = {}
        for reference in call.params.texts("orders"):
            order = self._desk.order(call.account, reference)
            if order is not None and order.status.is_open:
                found[order.id] = order
        for client_id in call.params.texts("cl_ord_ids"):
            order = self._desk.open_with_client_id(call.account, client_id)
            if order is not None:
                found[order.id] = order
        if not found:
            raise SpotRefusal("EOrder:Unknown order")
        return {"count": self._desk.cancel(call.account, found.values(), call.now_ms)}

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        orders = self._desk.open_orders(call.account)
        return {"count": self._desk.cancel(call.account, orders, call.now_ms)}

    def _after(self, call: Call) -> dict[str, Any]:
        timeout = call.params.number("timeout")
        if timeout is None or not 0 <= timeout <= 86_400 or timeout % 1:
            raise SpotRefusal("EGeneral:Invalid arguments:timeout")
        strikes = self._desk.set_timer(call.account, int(timeout), call.now_ms)
        return {
            "currentTime": whole_seconds(call.now_ms),
            "triggerTime": "0" if strikes is None else whole_seconds(strikes),
        }

    # --- look-ups ---

    def order_row(self, order: EngineOrder, *, trades: bool = False) -> dict[str, Any]:
        """As OpenOrders, QueryOrders and ClosedOrders have it. `price` is the average of the fills."""
        listing, tag = self._desk.listing_of(order), tag_of(order)
        closed = not order.status.is_open
        row: dict[str, Any] = {
            "refid": None,
            "userref": tag.userref or 0,
            "status": order_status(order),
            "opentm": unix_seconds(order.created),
            "starttm": 0,
            "expiretm": 0 if order.expire_time is None else order.expire_time // 1000,
            "descr": {
                "pair": listing.altname,
                "type": "buy" if order.side is Side.BUY else "sell",
                "ordertype": TYPE_NAMES[order.type],
                "price": listing.price(order.stop_price or order.price) if order.stop_price or order.price else "0",
                "price2": listing.price(order.price) if order.stop_price and order.price else "0",
                "leverage": "none",
                "order": description(listing, order),
                "close": "",
            },
            "vol": listing.volume(order.quantity),
            "vol_exec": listing.volume(order.filled),
            "cost": at_least(order.filled_quote, 5),
            "fee": at_least(order_fees(order), 5),
            "price": at_least(rounded(order.average_price, max(5, listing.price_scale)), 5),
            "stopprice": listing.padded_price(order.stop_price if order.triggered else None),
            "limitprice": listing.padded_price(order.price if order.triggered else None),
            "misc": "amended" if tag.amended else "",
            "oflags": ",".join(tag.oflags or ("fciq",)),
        }
        if order.client_order_id is not None:
            row["cl_ord_id"] = order.client_order_id
        if tag.trigger is not None:
            row["trigger"] = tag.trigger
        if order.time_in_force is not TimeInForce.GTC:
            row["timeinforce"] = order.time_in_force.value
        if closed:
            row |= {"closetm": unix_seconds(order.updated), "reason": end_reason(order)}
        if trades and order.fills:
            row["trades"] = [fill_txid(fill) for fill in order.fills]
        return row

    def _matches(self, call: Call, order: EngineOrder) -> bool:
        client_id = call.params.text("cl_ord_id")
        userref = _userref(call.params)
        return (client_id is None or order.client_order_id == client_id) and (
            userref is None or tag_of(order).userref == userref
        )

    def _open(self, call: Call) -> dict[str, Any]:
        trades = call.params.flag("trades")
        found = [order for order in self._desk.open_orders(call.account) if self._matches(call, order)]
        return {"open": {spot_txid(order): self.order_row(order, trades=trades) for order in reversed(found)}}

    def _query(self, call: Call) -> dict[str, Any]:
        """Those of up to 50 that exist; when none does, the order is unknown."""
        wanted = call.params.texts("txid")
        if not 1 <= len(wanted) <= _PAGE:
            raise SpotRefusal("EGeneral:Invalid arguments:txid")
        trades, rows = call.params.flag("trades"), {}
        for txid in wanted:
            order = self._desk.order(call.account, txid)
            if order is None and ids.number_of_txid(txid, "O") is None:
                raise SpotRefusal("EOrder:Invalid order")
            if order is not None and self._matches(call, order):
                rows[txid] = self.order_row(order, trades=trades)
        if not rows:
            raise SpotRefusal("EOrder:Unknown order")
        return rows

    def _closed(self, call: Call) -> dict[str, Any]:
        params = call.params
        which = params.text("closetime") or "both"

        def times(order: EngineOrder) -> list[int]:
            opened, closed = order.created, order.updated
            return {"open": [opened], "close": [closed]}.get(which, [opened, closed])

        start, end = self._bound(call, "start"), self._bound(call, "end")
        found = [
            order
            for order in self._desk.orders(call.account)
            if not order.status.is_open
            and self._matches(call, order)
            and any(start < time and (end is None or time <= end) for time in times(order))
        ]
        page = newest_first(found)[self._offset(params) :][:_PAGE]
        trades = params.flag("trades")
        body: dict[str, Any] = {"closed": {spot_txid(order): self.order_row(order, trades=trades) for order in page}}
        return body if params.flag("without_count") else body | {"count": len(found)}

    def _bound(self, call: Call, name: str) -> Any:
        """A time in ms, given in seconds or by the id of an order or trade."""
        text = call.params.text(name)
        if text is None:
            return -1 if name == "start" else None
        seconds = parse_number(text)
        if seconds is not None:
            return seconds * 1000
        order = self._desk.order(call.account, text)
        if order is not None:
            return order.created
        for fill in self._desk.fills(call.account):
            if fill_txid(fill) == text:
                return fill.time
        raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")

    @staticmethod
    def _offset(params: Params) -> int:
        offset = params.number("ofs") if "ofs" in params else ZERO
        if offset is None or offset < 0:
            raise SpotRefusal("EGeneral:Invalid arguments:ofs")
        return int(offset)

    def _history(self, call: Call) -> dict[str, Any]:
        """Newest first. Fills of one taker are one trade unless `consolidate_taker` is false."""
        params = call.params
        if (params.text("type") or "all") not in ("all", "no position"):
            return {"trades": {}, "count": 0}
        fills = self._desk.fills(call.account)
        separate = (params.text("consolidate_taker") or "true").lower() in ("false", "0")
        rows = {}
        groups = [[fill] for fill in fills] if separate else consolidated(fills)
        start, end = self._bound(call, "start"), self._bound(call, "end")
        groups = [g for g in groups if start < g[0].time and (end is None or g[0].time <= end)]
        for group in groups[::-1][self._offset(params) :][:_PAGE]:
            rows[fill_txid(group[0])] = self._trade_row(call.account, group)
        body: dict[str, Any] = {"trades": rows}
        return body if params.flag("without_count") else body | {"count": len(groups)}

    def _query_trades(self, call: Call) -> dict[str, Any]:
        wanted = call.params.texts("txid")
        by_id = {fill_txid(fill): fill for fill in self._desk.fills(call.account)}
        rows = {txid: self._trade_row(call.account, [by_id[txid]]) for txid in wanted if txid in by_id}
        if not rows:
            raise SpotRefusal("EOrder:Invalid order")
        return rows

    def _trade_row(self, account: Account, group: list[EngineFill]) -> dict[str, Any]:
        """`pair` is the REST id here, where orders have the altname."""
        first = group[0]
        listing = self._desk.catalogue.spot[first.market]
        order = self._desk.engine.order(account, order_id=first.order_id)
        volume = sum((fill.quantity for fill in group), ZERO)
        cost = sum((fill.quantity * fill.price for fill in group), ZERO)
        price = first.price if len(group) == 1 else rounded(cost / volume, max(5, listing.price_scale))
        return {
            "ordertxid": spot_txid(order),
            "postxid": ids.txid("T", first.order_id),
            "pair": listing.key,
            "time": unix_seconds(first.time),
            "type": "buy" if first.side is Side.BUY else "sell",
            "ordertype": TYPE_NAMES[order.type],
            "price": at_least(price, 5),
            "cost": at_least(cost, 5),
            "fee": at_least(sum((fill.fee for fill in group), ZERO), 5),
            "vol": listing.volume(volume),
            "margin": "0.00000",
            "misc": "",
            "trade_id": first.trade_id,
            "maker": first.liquidity is Liquidity.MAKER,
        }


def consolidated(fills: list[EngineFill]) -> list[list[EngineFill]]:
    """Fills that one order took at one moment together, makers' fills alone."""
    groups: list[list[EngineFill]] = []
    taking: dict[tuple[int, int], list[EngineFill]] = {}
    for fill in fills:
        key = (fill.order_id, fill.time)
        if fill.liquidity is Liquidity.TAKER and key in taking:
            taking[key].append(fill)
            continue
        group = [fill]
        groups.append(group)
        if fill.liquidity is Liquidity.TAKER:
            taking[key] = group
    return groups


def order_status(order: EngineOrder) -> str:
    """Of REST: what IOC and market orders leave unfilled is cancelled; only GTD orders expire."""
    if order.status.is_open:
        return "pending" if waits(order) else "open"
    if order.status is OrderStatus.FILLED:
        return "closed"
    return "expired" if order.status is OrderStatus.EXPIRED and order.reason == "expired" else "canceled"


def _userref(params: Params | Mapping[str, Any]) -> int | None:
    value = params.get("userref")
    if value is None:
        return None
    if not _USERREF.match(str(value)) or not -(2**31) <= int(value) < 2**31:
        raise SpotRefusal("EGeneral:Invalid arguments:userref")
    return int(value)
