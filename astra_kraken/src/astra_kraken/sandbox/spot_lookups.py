"""Spot: `/0/private`, what is asked about orders and fills."""

from __future__ import annotations

import re
from typing import Any

from astra.models.orders import Liquidity, OrderStatus, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.calls import Call, Endpoint, SpotRoutes, names
from astra_kraken.sandbox.spot_orders import (
    TYPE_NAMES,
    ZERO,
    SpotDesk,
    description,
    end_reason,
    fill_txid,
    newest_first,
    order_fees,
    spot_txid,
    tag_of,
    waits,
)
from astra_kraken.sandbox.wire import Params, SpotRefusal, at_least, parse_number, rounded, unix_seconds

_PAGE = 50
_USERREF = re.compile(r"-?\d{1,10}\Z")


class SpotLookUps:
    """Open and closed orders, fills."""

    def __init__(self, desk: SpotDesk) -> None:
        self._desk = desk

    def routes(self) -> SpotRoutes:
        listed: dict[str, tuple[Any, str, int]] = {
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
        return {name: Endpoint(handler, names(accepts), cost) for name, (handler, accepts, cost) in listed.items()}

    def order_row(self, order: EngineOrder, *, trades: bool = False) -> dict[str, Any]:
        """As OpenOrders, QueryOrders and ClosedOrders have it. `price` is the average of the fills; the volumes of an
        order by amount (`viqc`) are in the quote asset."""
        listing, tag = self._desk.listing_of(order), tag_of(order)
        closed = not order.status.is_open
        vol, vol_exec = listing.volume(order.quantity), listing.volume(order.filled)
        if order.quote_quantity is not None and "viqc" in tag.oflags:
            vol, vol_exec = at_least(order.quote_quantity, 8), at_least(order.filled_quote, 8)
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
            "vol": vol,
            "vol_exec": vol_exec,
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
        userref = userref_of(call.params)
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


def userref_of(params: Params) -> int | None:
    """The tag that a caller may put on orders, a 32-bit integer. Raises `SpotRefusal`."""
    value = params.get("userref")
    if value is None:
        return None
    if not _USERREF.match(str(value)) or not -(2**31) <= int(value) < 2**31:
        raise SpotRefusal("EGeneral:Invalid arguments:userref")
    return int(value)
