"""Stop orders of classic spot: a family of their own, until they are triggered and become HF orders."""

from __future__ import annotations

from typing import Any

from astra.sandbox import Account, EngineOrder
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import CLASSIC, Call, Endpoint, Routes, names
from astra_kucoin.sandbox.catalogue import waits
from astra_kucoin.sandbox.orders import IN_FORCE_TEXT, OrderDesk, tag_of
from astra_kucoin.sandbox.refusals import not_cancelable
from astra_kucoin.sandbox.spot_account import HOST, user_id
from astra_kucoin.sandbox.spot_rest import STOP_ORDER, SpotOrders
from astra_kucoin.sandbox.wire import SPOT


class SpotStops:
    """The stop orders of classic spot accounts."""

    def __init__(self, desk: OrderDesk, orders: SpotOrders) -> None:
        self._desk = desk
        self._orders = orders
        self._catalogue = desk.catalogue

    def routes(self) -> Routes:
        def command(handler: Any, accepts: frozenset[str], weight: int = 1, *, in_body: bool = False) -> Endpoint:
            return Endpoint(handler, accepts, "SPOT", weight, "Spot", CLASSIC, command=True, in_body=in_body)

        def look(handler: Any, accepts: str, weight: int) -> Endpoint:
            return Endpoint(handler, names(accepts), "SPOT", weight, "General", CLASSIC)

        path = "/api/v1/stop-order"
        span = "symbol side type tradeType startAt endAt currentPage pageSize orderIds"
        table: dict[tuple[str, str], Endpoint] = {
            ("POST", path): command(self._place_stop, STOP_ORDER, in_body=True),
            ("GET", path): look(self._stops, span, 8),
            ("GET", f"{path}/{{orderId}}"): look(self._stop, "", 3),
            ("GET", f"{path}/queryOrderByClientOid"): look(self._stop_by_client_id, "clientOid symbol", 3),
            ("DELETE", f"{path}/{{orderId}}"): command(self._cancel_stop, frozenset(), 3),
            ("DELETE", f"{path}/cancelOrderByClientOid"): command(
                self._cancel_stop_by_client_id, names("clientOid symbol"), 5
            ),
            ("DELETE", f"{path}/cancel"): command(self._cancel_stops, names("symbol tradeType orderIds"), 3),
        }
        return {(HOST, method, path): endpoint for (method, path), endpoint in table.items()}

    def _place_stop(self, call: Call) -> dict[str, Any]:
        listing, new = self._orders.new_order(call.params, call.now_ms, stop=True)
        return self._orders.placed(call.account, self._desk.place(call.account, listing, new))

    def _stops(self, call: Call) -> dict[str, Any]:
        native = call.params.text("symbol")
        listing = None if native is None else self._catalogue.need(SPOT, native)
        params, ids = call.params, call.params.text("orderIds")
        found = [
            order
            for order in self._desk.stops(call.account, SPOT, listing)
            if self._orders.within(params, order.side, order.type.has_price, order.created)
            and (ids is None or self._desk.native_id(call.account, order) in ids.split(","))
        ]
        return self._orders.paged(call, found, "currentPage", self.stop_row)

    def _waiting(self, call: Call, order: EngineOrder) -> EngineOrder:
        if not (waits(order) and order.status.is_open):
            raise not_cancelable(SPOT)
        return order

    def _stop(self, call: Call) -> dict[str, Any]:
        order = self._desk.by_id(call.account, SPOT, call.path["orderId"])
        return self.stop_row(call.account, self._waiting(call, order))

    def _stop_by_client_id(self, call: Call) -> list[dict[str, Any]]:
        order = self._desk.by_client_id(call.account, SPOT, call.params.need("clientOid"))
        return [self.stop_row(call.account, self._waiting(call, order))]

    def _cancel_stop(self, call: Call) -> dict[str, Any]:
        native = call.path["orderId"]
        self._desk.cancel_found(
            call.account, SPOT, lambda: self._waiting(call, self._desk.by_id(call.account, SPOT, native))
        )
        return {"cancelledOrderIds": [native]}

    def _cancel_stop_by_client_id(self, call: Call) -> dict[str, Any]:
        client_id = call.params.need("clientOid")
        order = self._desk.cancel_found(
            call.account, SPOT, lambda: self._waiting(call, self._desk.by_client_id(call.account, SPOT, client_id))
        )
        return {"cancelledOrderId": self._desk.native_id(call.account, order), "clientOid": client_id}

    def _cancel_stops(self, call: Call) -> dict[str, Any]:
        native, wanted = call.params.text("symbol"), call.params.text("orderIds")
        listing = None if native is None else self._catalogue.need(SPOT, native)
        ids = []
        for order in self._desk.stops(call.account, SPOT, listing):
            name = self._desk.native_id(call.account, order)
            if wanted is None or name in wanted.split(","):
                self._desk.cancel(call.account, self._catalogue.of_symbol(order.market), order)
                ids.append(name)
        return {"cancelledOrderIds": ids}

    def stop_row(self, account: Account, order: EngineOrder) -> dict[str, Any]:
        """An untriggered stop order."""
        listing, tag = self._catalogue.of_symbol(order.market), tag_of(order)
        return {
            "id": self._desk.native_id(account, order),
            "symbol": listing.native,
            "userId": user_id(account),
            "status": "NEW",
            "type": "limit" if order.type.has_price else "market",
            "side": order.side.lower(),
            "price": None if order.price is None else plain(order.price),
            "size": plain(order.quantity),
            "funds": None if order.quote_quantity is None else plain(order.quote_quantity),
            "stp": tag.stp,
            "timeInForce": IN_FORCE_TEXT[order.time_in_force],
            "cancelAfter": tag.cancel_after or -1,
            "postOnly": order.post_only,
            "hidden": False,
            "iceberg": False,
            "visibleSize": None,
            "channel": "API",
            "clientOid": order.client_order_id,
            "remark": tag.remark,
            "tags": tag.tags,
            "orderTime": order.created * 1_000_000,
            "domainId": "kucoin",
            "tradeSource": "USER",
            "tradeType": "TRADE",
            "feeCurrency": listing.quote,
            "createdAt": order.created,
            "stop": tag.stop,
            "stopTriggerTime": None,
            "stopPrice": plain(order.stop_price),
        }
