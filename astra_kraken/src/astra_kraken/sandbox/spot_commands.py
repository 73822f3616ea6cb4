"""Spot: `/0/private`, the commands: placing, changing, cancelling."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.sandbox import EngineOrder
from astra_kraken.sandbox.calls import Call, Endpoint, SpotRoutes, names
from astra_kraken.sandbox.catalogue import SpotListing
from astra_kraken.sandbox.spot_lookups import userref_of
from astra_kraken.sandbox.spot_orders import (
    SpotDesk,
    Tag,
    Wanted,
    description,
    new_order,
    side_of,
    spot_txid,
    time_in_force,
)
from astra_kraken.sandbox.spot_public import listing_of
from astra_kraken.sandbox.wire import (
    Params,
    SpotRefusal,
    parse_number,
    parse_time,
    whole_seconds,
)

_ORDER_FIELDS = (
    "type ordertype volume price price2 timeinforce expiretm oflags leverage reduce_only trigger displayvol "
    "close[ordertype] close[price] close[price2] stptype starttm validate cl_ord_id userref"
)


class SpotCommands:
    """Placing, changing, cancelling."""

    def __init__(self, desk: SpotDesk) -> None:
        self._desk = desk

    def routes(self) -> SpotRoutes:
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
        return {
            name: Endpoint(handler, names(accepts), 0, command=True) for name, (handler, accepts) in commands.items()
        }

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
        client_id, userref = params.text("cl_ord_id"), userref_of(params)
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
            userref=userref_of(call.params),
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
        strikes = self._desk.switch.arm(call.account, int(timeout), call.now_ms)
        return {
            "currentTime": whole_seconds(call.now_ms),
            "triggerTime": "0" if strikes is None else whole_seconds(strikes),
        }
