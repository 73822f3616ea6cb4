"""Classic spot: the orders of the HF family and their fills."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.sandbox import Account, EngineFill, EngineOrder, NewOrder
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import CLASSIC, Call, Endpoint, Routes, names
from astra_kucoin.sandbox.catalogue import Listing
from astra_kucoin.sandbox.limits import SandboxLimits
from astra_kucoin.sandbox.orders import (
    IN_FORCE_TEXT,
    SIDES,
    STP_MODES,
    OrderDesk,
    Tag,
    conditional_type,
    is_stop,
    page,
    tag_of,
    time_in_force,
)
from astra_kucoin.sandbox.refusals import PARAMETER, no_such_order, not_cancelable
from astra_kucoin.sandbox.wire import SPOT, Params, Refusal, check_client_id

ZERO = Decimal(0)
HOST = "spot_rest"
_NEW_ORDER = names(
    "clientOid side symbol type price size funds timeInForce cancelAfter postOnly stp tags remark clientTimestamp"
    " allowMaxTimeWindow tradeType hidden iceberg visibleSize"
)
STOP_ORDER = _NEW_ORDER | names("stop stopPrice")
_WITHDRAWN = ("hidden", "iceberg", "visibleSize")
_TYPES = {"limit": OrderType.LIMIT, "market": OrderType.MARKET}
_TYPE_FILTER = {"limit": True, "market": False}
RISING = {"entry": True, "loss": False}


class SpotOrders:
    """The orders of classic spot accounts."""

    def __init__(self, desk: OrderDesk, limits: SandboxLimits) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = desk.catalogue
        self._limits = limits

    def routes(self) -> Routes:
        def command(handler: Any, accepts: frozenset[str], weight: int = 1, *, in_body: bool = False) -> Endpoint:
            return Endpoint(handler, accepts, "SPOT", weight, "Spot", CLASSIC, command=True, in_body=in_body)

        def look(handler: Any, accepts: str, weight: int = 2, pool: str = "SPOT") -> Endpoint:
            return Endpoint(handler, names(accepts), pool, weight, "General", CLASSIC)

        symbol = names("symbol")
        # `status` and `tradeType` are of the older family; clients send them here too, and nothing reads them.
        done = "symbol side type lastId limit startAt endAt status tradeType"
        hf = "/api/v1/hf/orders"
        table: dict[tuple[str, str], Endpoint] = {
            ("POST", hf): command(self._place, _NEW_ORDER, in_body=True),
            ("POST", f"{hf}/sync"): command(self._place_sync, _NEW_ORDER, in_body=True),
            ("POST", f"{hf}/test"): Endpoint(self._test, _NEW_ORDER, "SPOT", 1, "Spot", CLASSIC, in_body=True),
            ("POST", f"{hf}/multi"): command(self._place_many, names("orderList symbol"), in_body=True),
            ("POST", f"{hf}/multi/sync"): command(self._place_many_sync, names("orderList symbol"), in_body=True),
            ("POST", f"{hf}/alter"): command(
                self._alter, names("symbol orderId clientOid newPrice newSize"), in_body=True
            ),
            ("DELETE", f"{hf}/{{orderId}}"): command(self._cancel, symbol),
            ("DELETE", f"{hf}/client-order/{{clientOid}}"): command(self._cancel, symbol),
            ("DELETE", f"{hf}/sync/{{orderId}}"): command(self._cancel_sync, symbol),
            ("DELETE", f"{hf}/sync/client-order/{{clientOid}}"): command(self._cancel_sync, symbol),
            ("DELETE", f"{hf}/cancel/{{orderId}}"): command(self._reduce, names("symbol cancelSize"), 2),
            ("DELETE", hf): command(self._cancel_market, symbol, 2),
            ("DELETE", f"{hf}/cancelAll"): command(self._cancel_all, frozenset(), 30),
            ("GET", f"{hf}/active"): look(self._active, "symbol status tradeType"),
            ("GET", f"{hf}/active/page"): look(self._active_page, "symbol pageNum pageSize"),
            ("GET", f"{hf}/active/symbols"): look(self._active_symbols, ""),
            ("GET", f"{hf}/done"): look(self._done, done),
            ("GET", f"{hf}/{{orderId}}"): look(self._order, "symbol"),
            ("GET", f"{hf}/client-order/{{clientOid}}"): look(self._order, "symbol"),
            ("GET", "/api/v1/hf/fills"): look(self._fills, f"{done} orderId"),
        }
        return {(HOST, method, path): endpoint for (method, path), endpoint in table.items()}

    # --- placing ---

    def new_order(self, params: Params, now_ms: int, *, stop: bool = False) -> tuple[Listing, NewOrder]:
        if any(name in params for name in _WITHDRAWN):
            raise Refusal("400413", "Hidden and iceberg orders are no longer supported.")
        if params.choice("tradeType", {"TRADE": True, "MARGIN_TRADE": False}, "TRADE") is False:
            raise params.bad("The sandbox has no margin accounts")
        side = params.choice("side", SIDES)
        listing = self._catalogue.need(SPOT, params.need("symbol"))
        kind = params.choice("type", _TYPES, "limit")
        self._check_amount(params, kind)
        if (opened := params.integer("clientTimestamp")) is not None:
            window = params.integer("allowMaxTimeWindow")
            if window is not None and now_ms - opened > window:
                raise params.bad("The order timed out before it reached the gateway")
        in_force, after, expiry = time_in_force(params, now_ms)
        tag = Tag(
            cancel_after=after,
            remark=params.text("remark"),
            tags=params.text("tags"),
            stp=params.choice("stp", STP_MODES) if "stp" in params else None,
        )
        stop_price = None
        if stop:
            tag.stop = params.choice("stop", {name: name for name in RISING}, "loss")
            stop_price = params.decimal("stopPrice")
            if stop_price is None:
                raise params.bad("stopPrice is required")
            kind = conditional_type(side, rising=RISING[tag.stop], limit=kind is OrderType.LIMIT)
        order = NewOrder(
            market=listing.symbol,
            side=side,
            type=kind,
            quantity=params.decimal("size"),
            quote_quantity=params.decimal("funds"),
            price=params.decimal("price") if kind.has_price else None,
            stop_price=stop_price,
            time_in_force=in_force if kind.has_price else TimeInForce.GTC,
            post_only=params.flag("postOnly"),
            client_order_id=check_client_id(params),
            expire_time=expiry if kind.has_price else None,
            tag=tag,
        )
        return listing, order

    def _check_amount(self, params: Params, kind: OrderType) -> None:
        if len(params.text("remark") or "") > 20:
            raise params.bad("remark is too long")
        size, funds = params.text("size") is not None, params.text("funds") is not None
        if kind is OrderType.LIMIT:
            if params.decimal("price") is None:
                raise params.bad("price is required")
            if not size or funds:
                raise params.bad("A limit order takes size, and no funds")
        elif size == funds:
            raise params.bad("A market order takes size or funds")

    def _place(self, call: Call) -> dict[str, Any]:
        listing, new = self.new_order(call.params, call.now_ms)
        return self.placed(call.account, self._desk.place(call.account, listing, new))

    def _place_sync(self, call: Call) -> dict[str, Any]:
        listing, new = self.new_order(call.params, call.now_ms)
        order = self._desk.place(call.account, listing, new)
        return self.placed(call.account, order) | self._outcome(order, call.now_ms)

    def placed(self, account: Account, order: EngineOrder) -> dict[str, Any]:
        return {"orderId": self._desk.native_id(account, order), "clientOid": order.client_order_id}

    @staticmethod
    def _outcome(order: EngineOrder, now_ms: int) -> dict[str, Any]:
        active = order.status.is_open
        return {
            "orderTime": order.created,
            "originSize": plain(order.quantity),
            "dealSize": plain(order.filled),
            "remainSize": plain(order.remaining) if active else "0",
            "canceledSize": "0" if active else plain(order.remaining),
            "status": "open" if active else "done",
            "matchTime": now_ms,
        }

    def _test(self, call: Call) -> dict[str, Any]:
        _, new = self.new_order(call.params, call.now_ms)
        return {"orderId": f"{call.now_ms // 1000:08x}{call.now_ms:016x}", "clientOid": new.client_order_id}

    def _place_many(self, call: Call) -> list[dict[str, Any]]:
        return self._batch(call, sync=False)

    def _place_many_sync(self, call: Call) -> list[dict[str, Any]]:
        return self._batch(call, sync=True)

    def _batch(self, call: Call, *, sync: bool) -> list[dict[str, Any]]:
        """A failed item carries neither code nor client id: its place in the list tells which it is."""
        listed = call.params.values.get("orderList")
        most = self._limits.batch_orders
        if not isinstance(listed, list) or not 1 <= len(listed) <= most:
            raise call.params.bad(f"orderList must hold 1 to {most} orders")
        rows: list[dict[str, Any]] = []
        for item in listed:
            try:
                params = Params(item if isinstance(item, Mapping) else {}, PARAMETER[SPOT])
                params.check_names(_NEW_ORDER)
                if params.text("type") == "market":
                    raise params.bad("Only limit orders are placed in batches")
                listing, new = self.new_order(params, call.now_ms)
                order = self._desk.place(call.account, listing, new)
            except Refusal as refusal:
                rows.append({"success": False, "failMsg": refusal.message})
                continue
            row = self.placed(call.account, order)
            rows.append(row | (self._outcome(order, call.now_ms) if sync else {}) | {"success": True})
        return rows

    def _alter(self, call: Call) -> dict[str, Any]:
        """Cancel and place anew: another order id, the same client id."""
        params = call.params
        listing = self._catalogue.need(SPOT, params.need("symbol"))
        price, size = params.decimal("newPrice"), params.decimal("newSize")
        if price is None and size is None:
            raise params.bad("newPrice or newSize is required")
        order = self._named(call, listing, params.text("orderId"), params.text("clientOid"))
        placed = self._desk.replace(call.account, listing, order, price, size)
        return {"newOrderId": self._desk.native_id(call.account, placed), "clientOid": placed.client_order_id}

    # --- cancelling ---

    def _named(self, call: Call, listing: Listing, native: str | None, client_id: str | None) -> EngineOrder:
        """A stop order is none of this family before it is triggered."""
        if native is not None:
            order = self._desk.by_id(call.account, SPOT, native, listing)
        elif client_id is None:
            raise call.params.bad("orderId or clientOid is required")
        else:
            order = self._desk.by_client_id(call.account, SPOT, client_id, listing)
        if is_stop(order):
            raise no_such_order(SPOT)
        return order

    def _cancelled(self, call: Call) -> tuple[dict[str, str], EngineOrder]:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        native, client_id = call.path.get("orderId"), call.path.get("clientOid")
        order = self._desk.cancel_found(call.account, SPOT, lambda: self._named(call, listing, native, client_id))
        return ({"orderId": native} if native is not None else {"clientOid": client_id or ""}), order

    def _cancel(self, call: Call) -> dict[str, str]:
        return self._cancelled(call)[0]

    def _cancel_sync(self, call: Call) -> dict[str, Any]:
        named, order = self._cancelled(call)
        outcome = self._outcome(order, call.now_ms)
        return named | {name: value for name, value in outcome.items() if not name.endswith("Time")}

    def _reduce(self, call: Call) -> dict[str, str]:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        order = self._desk.by_id(call.account, SPOT, call.path["orderId"], listing)
        size = call.params.decimal("cancelSize")
        if size is None or size <= 0:
            raise call.params.bad("cancelSize is invalid")
        if not order.status.is_open:
            raise not_cancelable(SPOT)
        if size >= order.remaining:
            self._desk.cancel(call.account, listing, order)
        else:
            self._desk.reduce(call.account, listing, order, size)
        return {"orderId": call.path["orderId"], "cancelSize": plain(size)}

    def _cancel_market(self, call: Call) -> str:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        for order in self._desk.open_orders(call.account, SPOT, listing):
            self._desk.cancel(call.account, listing, order)
        return "success"

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        markets: dict[str, None] = {}
        for order in self._desk.open_orders(call.account, SPOT):
            listing = self._catalogue.of_symbol(order.market)
            self._desk.cancel(call.account, listing, order)
            markets[listing.native] = None
        return {"succeedSymbols": list(markets), "failedSymbols": []}

    # --- looking ---

    def _order(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        order = self._named(call, listing, call.path.get("orderId"), call.path.get("clientOid"))
        return self.row(call.account, order)

    def _active(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        return [self.row(call.account, order) for order in self._desk.open_orders(call.account, SPOT, listing)]

    def _active_page(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        found = self._desk.open_orders(call.account, SPOT, listing)
        return self.paged(call, found, "pageNum", self.row)

    def paged(self, call: Call, found: list[EngineOrder], number_name: str, row: Any) -> dict[str, Any]:
        number = call.params.bounded(number_name, 1, 1, 1_000_000)
        size = call.params.bounded("pageSize", 20 if number_name == "pageNum" else 50, 1, 500)
        shown, pages = page(found, number, size)
        return {
            "currentPage": number,
            "pageSize": size,
            "totalNum": len(found),
            "totalPage": pages,
            "items": [row(call.account, order) for order in shown],
        }

    def _active_symbols(self, call: Call) -> dict[str, Any]:
        markets = {order.market: None for order in self._desk.open_orders(call.account, SPOT)}
        return {"symbols": [self._catalogue.of_symbol(symbol).native for symbol in markets]}

    def within(self, params: Params, side: str, limit: bool, time: int) -> bool:
        wanted_side = params.choice("side", SIDES) if "side" in params else None
        wanted_type = params.choice("type", _TYPE_FILTER) if "type" in params else None
        start, end = params.integer("startAt"), params.integer("endAt")
        return (
            (wanted_side is None or wanted_side == side)
            and (wanted_type is None or wanted_type is limit)
            and (start is None or time >= start)
            and (end is None or time <= end)
        )

    def _done(self, call: Call) -> dict[str, Any]:
        """Newest first; `lastId` of an answer asks for what is older."""
        params = call.params
        listing = self._catalogue.need(SPOT, params.need("symbol"))
        limit, last = params.bounded("limit", 20, 1, 100), params.integer("lastId") or 0
        found = [
            order
            for order in self._desk.orders(call.account, SPOT, listing)
            if not order.status.is_open
            and (not last or order.id < last)
            and self.within(params, order.side, order.type.has_price, order.created)
        ][:limit]
        return {
            "lastId": found[-1].id if found else 0,
            "items": [self.row(call.account, order) for order in found],
        }

    def _fills(self, call: Call) -> dict[str, Any]:
        params = call.params
        listing = self._catalogue.need(SPOT, params.need("symbol"))
        limit, last = params.bounded("limit", 20, 1, 100), params.integer("lastId") or 0
        wanted = params.text("orderId")
        number = None if wanted is None else self._desk.by_id(call.account, SPOT, wanted, listing).id
        rows = []
        for fill in self._desk.fills(call.account, SPOT, listing):
            row = self.fill_row(call.account, listing, fill)
            wanted_row = number in (None, fill.order_id) and (not last or row["id"] < last)
            if wanted_row and self.within(params, fill.side, row["type"] == "limit", fill.time):
                rows.append(row)
            if len(rows) == limit:
                break
        return {"items": rows, "lastId": rows[-1]["id"] if rows else 0}

    def fill_row(self, account: Account, listing: Listing, fill: EngineFill) -> dict[str, Any]:
        order = self._engine.order(account, order_id=fill.order_id)
        trade_id = listing.trade_id(fill.trade_id)
        maker, taker = self._engine.fee_rates(listing.symbol)
        return {
            "id": listing.fill_base + fill.trade_id,
            "orderId": self._desk.native_id(account, order),
            "counterOrderId": f"{fill.time // 1000:08x}{trade_id:016x}",
            "tradeId": trade_id,
            "symbol": listing.native,
            "side": fill.side.lower(),
            "liquidity": fill.liquidity.lower(),
            "type": "limit" if order.type.has_price else "market",
            "forceTaker": False,
            "price": plain(fill.price),
            "size": plain(fill.quantity),
            "funds": plain(fill.price * fill.quantity),
            "fee": plain(fill.fee),
            "feeRate": plain(maker if fill.liquidity == "MAKER" else taker),
            "feeCurrency": fill.fee_asset,
            "stop": "",
            "tradeType": "TRADE",
            "taxRate": "0",
            "tax": "0",
            "createdAt": fill.time,
        }

    def row(self, account: Account, order: EngineOrder) -> dict[str, Any]:
        """An order of the HF family."""
        listing, tag, active = self._catalogue.of_symbol(order.market), tag_of(order), order.status.is_open
        funds = order.quote_quantity if order.quote_quantity is not None else (order.price or ZERO) * order.quantity
        left = order.remaining * (order.price or ZERO)
        ended = order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED)
        return {
            "id": self._desk.native_id(account, order),
            "clientOid": order.client_order_id,
            "symbol": listing.native,
            "opType": "DEAL",
            "type": "limit" if order.type.has_price else "market",
            "side": order.side.lower(),
            "price": plain(order.price),
            "size": plain(ZERO if order.quote_quantity is not None else order.quantity),
            "funds": plain(funds),
            "dealSize": plain(order.filled),
            "dealFunds": plain(order.filled_quote),
            "remainSize": plain(order.remaining) if active else "0",
            "remainFunds": plain(left) if active else "0",
            "cancelledSize": plain(tag.reduced + (order.remaining if ended else ZERO)),
            "cancelledFunds": plain(left) if ended else "0",
            "fee": plain(sum((fill.fee for fill in order.fills), ZERO)),
            "feeCurrency": order.fills[0].fee_asset if order.fills else listing.quote,
            "stp": tag.stp,
            "timeInForce": IN_FORCE_TEXT[order.time_in_force],
            "postOnly": order.post_only,
            "hidden": False,
            "iceberg": False,
            "visibleSize": "0",
            "cancelAfter": tag.cancel_after,
            "channel": "API",
            "remark": tag.remark,
            "tags": tag.tags,
            "cancelExist": ended,
            "tradeType": "TRADE",
            "inOrderBook": active,
            "tax": "0",
            "active": active,
            "createdAt": order.created,
            "lastUpdatedAt": order.updated,
        }
