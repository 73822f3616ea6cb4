"""Algo orders: what waits for a price in USD-M and COIN-M, with ids and a life of its own."""

from __future__ import annotations

from typing import Any

from astra.models.orders import OrderStatus, OrderType
from astra.sandbox import EngineOrder, NewOrder
from astra.sandbox.toolkit import fixed
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.futures_rest import (
    FUTURES_KINDS,
    common_order,
    common_tag,
    good_till,
    order_average,
    position_side_text,
    response_type,
)
from astra_binance.sandbox.market_rest import PREFIX
from astra_binance.sandbox.orders import (
    FUTURES_TYPES,
    OrderDesk,
    algo_base,
    algo_client_id,
    in_algo_service,
    native_id,
    page,
    price_text,
    shown_time_in_force,
    tag_of,
    waits,
    within,
)
from astra_binance.sandbox.refusals import unknown_order
from astra_binance.sandbox.wire import Family, Params, Refusal, missing, not_required

_WEEK_MS = 7 * 86_400_000
_MOST_OPEN = 200
_NAMES = names(
    "algoType symbol side positionSide type timeInForce quantity price triggerPrice workingType priceMatch "
    "closePosition priceProtect reduceOnly activatePrice callbackRate clientAlgoId newOrderRespType "
    "selfTradePreventionMode goodTillDate"
)
_ONLY_IN_LISTS = names("actualOrderId actualPrice tpTriggerPrice tpPrice slTriggerPrice slPrice tpOrderType")


class AlgoOrders:
    """`algoOrder` and its relatives."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue) -> None:
        self._desk = desk
        self._catalogue = catalogue

    def routes(self) -> Routes:
        signed = Security.SIGNED
        ref = names("algoId clientAlgoId")
        both = {
            ("POST", "algoOrder"): Endpoint(self._place, _NAMES, weight=0, orders=True, command=True, security=signed),
            ("DELETE", "algoOrder"): Endpoint(self._cancel, ref | names("symbol"), command=True, security=signed),
            ("GET", "openAlgoOrders"): Endpoint(
                self._open,
                names("algoType symbol algoId"),
                weight=lambda params: 1 if "symbol" in params else 40,
                security=signed,
            ),
        }
        usdm_only = {
            ("GET", "algoOrder"): Endpoint(self._query, ref | names("symbol"), security=signed),
            ("GET", "allAlgoOrders"): Endpoint(
                self._all, names("symbol algoId startTime endTime page limit"), weight=5, security=signed
            ),
            ("DELETE", "algoOpenOrders"): Endpoint(self._cancel_all, names("symbol"), command=True, security=signed),
        }
        routes: dict[tuple[Family, str, str], Endpoint] = {}
        for family, endpoints in ((Family.USDM, both | usdm_only), (Family.COINM, both)):
            for (method, path), endpoint in endpoints.items():
                routes[family, method, f"{PREFIX[family]}/{path}"] = endpoint
        return routes

    def _place(self, call: Call) -> dict[str, Any]:
        params, account = call.params, call.account
        listing = self._catalogue.wanted(call.family, params)
        if params.need("algoType") != "CONDITIONAL":
            raise Refusal(-1130, "Data sent for parameter 'algoType' is not valid.")
        response_type(params)
        new = self._new_order(call, listing)
        waiting = [order for order in self._desk.algo_orders(account, None, call.family) if order.status.is_open]
        if sum(waits(order) for order in waiting) >= _MOST_OPEN:
            raise Refusal(-4045, "Reach max stop order limit.")
        order = self._desk.place(account, listing, new)
        row = {name: value for name, value in algo_row(listing, order).items() if name not in _ONLY_IN_LISTS}
        return row | {"activatePrice": "", "callbackRate": "", "algoStatus": "NEW", "triggerTime": 0}

    def _new_order(self, call: Call, listing: Listing) -> NewOrder:
        params = call.params
        kind = params.need("type")
        if kind == "TRAILING_STOP_MARKET":
            raise Refusal(-1020, "This operation is not supported: the sandbox has no trailing stops.")
        if kind not in FUTURES_KINDS or not FUTURES_KINDS[kind].is_conditional:
            raise Refusal(-1116, "Invalid orderType.")
        order_type = FUTURES_KINDS[kind]
        if params.boolean("closePosition"):
            raise Refusal(-1020, "This operation is not supported: the sandbox has no closePosition.")
        if "priceMatch" in params and params.values["priceMatch"] != "NONE":
            raise Refusal(-1020, "This operation is not supported: priceMatch.")
        for name in ("activatePrice", "callbackRate"):
            if name in params:
                raise not_required(name)
        if not order_type.has_price and "price" in params:
            raise not_required("price")
        client_id = params.client_id("clientAlgoId") or self._desk.make_client_id()
        tag = common_tag(params, client_id, kind)
        tag.algo = True
        force = params.text("timeInForce")
        tag.time_in_force = force or "GTC"
        if force == "GTD":
            tag.good_till = good_till(params, call.now_ms)
        return common_order(
            call.account,
            listing,
            params,
            kind=order_type,
            price=params.need_decimal("price") if order_type.has_price else None,
            quantity=params.need_decimal("quantity"),
            force=force if order_type.has_price else None,
            client_id=algo_client_id(client_id),
            tag=tag,
            stop_price=params.need_decimal("triggerPrice"),
        )

    def _asked_for(self, call: Call) -> tuple[Listing, EngineOrder]:
        params = call.params
        number, client_id = params.integer("algoId"), params.text("clientAlgoId")
        if number is None and client_id is None:
            raise missing("algoId' or 'clientAlgoId")
        wanted = self._catalogue.maybe_wanted(call.family, params)
        listings = self._catalogue.all(call.family) if wanted is None else iter([wanted])
        order = self._desk.find_algo(call.account, listings, number=number, client_id=client_id)
        return self._catalogue.of_symbol(order.market), order

    def _cancel(self, call: Call) -> dict[str, Any]:
        try:
            listing, order = self._asked_for(call)
        except Refusal as refusal:
            raise unknown_order() if refusal.code == -2013 else refusal from None
        if not waits(order):  # it has become an order of the book: cancelled there
            raise unknown_order()
        order = self._desk.cancel(call.account, order)
        return {
            "algoId": algo_base(listing) + order.id,
            "clientAlgoId": tag_of(order).client_id,
            "code": "200",
            "msg": "success",
        }

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        for order in self._desk.algo_orders(call.account, listing, call.family):
            if order.status.is_open and waits(order):
                self._desk.cancel(call.account, order)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _query(self, call: Call) -> dict[str, Any]:
        return algo_row(*self._asked_for(call))

    def _open(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.maybe_wanted(call.family, call.params)
        return [
            algo_row(self._catalogue.of_symbol(order.market), order)
            for order in self._desk.algo_orders(call.account, listing, call.family)
            if order.status.is_open and waits(order)
        ]

    def _all(self, call: Call) -> list[dict[str, Any]]:
        params: Params = call.params
        listing = self._catalogue.wanted(call.family, params)
        limit, first = params.limit(500, 1000), params.integer("algoId")
        found = [
            algo_row(listing, order)
            for order in self._desk.algo_orders(call.account, listing, call.family)
            if within(order.created, params, longest_ms=_WEEK_MS)
        ]
        rows = [row for row in found if first is None or row["algoId"] >= first]
        return page(rows, params, limit, from_first=first is not None)


def algo_status(order: EngineOrder) -> str:
    """Of the algo order: TRIGGERED while its order lives, FINISHED when that is done."""
    if tag_of(order).rejected is not None:
        return "REJECTED"
    if waits(order):
        return order.status.value if order.status is not OrderStatus.NEW else "NEW"
    return "TRIGGERED" if order.status.is_open else "FINISHED"


def algo_row(listing: Listing, order: EngineOrder) -> dict[str, Any]:
    tag = tag_of(order)
    triggered = not in_algo_service(order)
    return {
        "algoId": algo_base(listing) + order.id,
        "clientAlgoId": tag.client_id,
        "algoType": "CONDITIONAL",
        "orderType": FUTURES_TYPES[order.type],
        "symbol": listing.native,
        "side": order.side.value,
        "positionSide": position_side_text(order.position_side),
        "timeInForce": shown_time_in_force(order),
        "quantity": listing.quantity(order.quantity),
        "algoStatus": algo_status(order),
        "actualOrderId": str(native_id(listing, order)) if triggered else "",
        "actualPrice": fixed(order_average(listing, order), listing.price_scale + 3),
        "triggerPrice": listing.price(order.stop_price),
        "price": price_text(listing, order.price) if order.type is not OrderType.MARKET else "0",
        "icebergQuantity": None,
        "tpTriggerPrice": listing.price(None),
        "tpPrice": listing.price(None),
        "slTriggerPrice": listing.price(None),
        "slPrice": listing.price(None),
        "tpOrderType": "",
        "selfTradePreventionMode": tag.stp,
        "workingType": tag.working_type,
        "priceMatch": "NONE",
        "closePosition": False,
        "priceProtect": tag.price_protect,
        "reduceOnly": order.reduce_only,
        "createTime": order.created,
        "updateTime": order.updated,
        "triggerTime": tag.trigger_time,
        "goodTillDate": tag.good_till,
    }
