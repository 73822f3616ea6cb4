"""Classic futures: orders and stop orders, fills. Sizes are lots everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, NewOrder
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import CLASSIC, Call, Endpoint, Routes, names
from astra_kucoin.sandbox.catalogue import Listing
from astra_kucoin.sandbox.futures_account import FuturesAccount, leverage_text, margin_mode, set_leverage
from astra_kucoin.sandbox.limits import SandboxLimits
from astra_kucoin.sandbox.orders import (
    IN_FORCE_TEXT,
    SIDES,
    STP_MODES,
    TIMES_IN_FORCE,
    OrderDesk,
    Tag,
    conditional_type,
    page,
    tag_of,
)
from astra_kucoin.sandbox.refusals import PARAMETER
from astra_kucoin.sandbox.wire import FUTURES, Params, Refusal, check_client_id, whole

ZERO = Decimal(0)
HOST = "futures_rest"
_NEW_ORDER = names(
    "clientOid side symbol leverage type price size qty valueQty timeInForce postOnly reduceOnly closeOrder forceHold"
    " marginMode stp stop stopPrice stopPriceType remark positionSide hidden iceberg visibleSize"
)
_WITHDRAWN = ("hidden", "iceberg", "visibleSize")
_TYPES = {"limit": OrderType.LIMIT, "market": OrderType.MARKET}
_IN_FORCE = {text: meant for text, meant in TIMES_IN_FORCE.items() if text != "GTT"}
_RISING = {"up": True, "down": False}
_POSITION_SIDES = {"BOTH": None, "LONG": PositionSide.LONG, "SHORT": PositionSide.SHORT}
_STATES = {"active": True, "done": False}


class FuturesOrders:
    """The orders of classic futures accounts."""

    def __init__(self, desk: OrderDesk, account: FuturesAccount, limits: SandboxLimits) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = desk.catalogue
        self._account = account
        self._limits = limits

    def routes(self) -> Routes:
        def command(handler: Any, accepts: str | frozenset[str], weight: int = 1, **more: Any) -> Endpoint:
            known = names(accepts) if isinstance(accepts, str) else accepts
            return Endpoint(handler, known, "FUTURES", weight, "Futures", CLASSIC, command=True, **more)

        def look(handler: Any, accepts: str, weight: int) -> Endpoint:
            return Endpoint(handler, names(accepts), "FUTURES", weight, "General", CLASSIC)

        span = "symbol side type startAt endAt currentPage pageSize"
        table: dict[tuple[str, str], Endpoint] = {
            ("POST", "/api/v1/orders"): command(self._place, _NEW_ORDER, 2, in_body=True),
            ("POST", "/api/v1/orders/test"): Endpoint(
                self._test, _NEW_ORDER, "FUTURES", 2, "Futures", CLASSIC, in_body=True
            ),
            ("POST", "/api/v1/orders/multi"): command(self._place_many, "", 20, in_body=True, listed=True),
            ("DELETE", "/api/v1/orders/{orderId}"): command(self._cancel, ""),
            ("DELETE", "/api/v1/orders/client-order/{clientOid}"): command(self._cancel_by_client_id, "symbol"),
            ("DELETE", "/api/v1/orders/multi-cancel"): command(
                self._cancel_many, "orderIdsList clientOidsList", 20, in_body=True
            ),
            ("DELETE", "/api/v3/orders"): command(self._cancel_all, "symbol", 10),
            ("DELETE", "/api/v1/orders"): command(self._cancel_all, "symbol", 800),
            ("DELETE", "/api/v1/stopOrders"): command(self._cancel_stops, "symbol", 15),
            ("GET", "/api/v1/orders"): look(self._orders, f"status {span}", 2),
            ("GET", "/api/v1/stopOrders"): look(self._stops, span, 6),
            ("GET", "/api/v1/recentDoneOrders"): look(self._recent, "symbol", 5),
            ("GET", "/api/v1/orders/{orderId}"): look(self._order, "", 5),
            ("GET", "/api/v1/orders/byClientOid"): look(self._order_by_client_id, "clientOid", 5),
            ("GET", "/api/v1/fills"): look(self._fills, f"{span} orderId tradeTypes", 5),
            ("GET", "/api/v1/recentFills"): look(self._recent_fills, "symbol", 3),
            ("GET", "/api/v1/openOrderStatistics"): look(self._statistics, "symbol", 10),
        }
        return {(HOST, method, path): endpoint for (method, path), endpoint in table.items()}

    # --- placing ---

    def _new_order(self, params: Params, account: Account) -> tuple[Listing, NewOrder]:
        if any(name in params for name in _WITHDRAWN):
            raise Refusal("400413", "Hidden and iceberg orders are no longer supported.")
        client_id = check_client_id(params)
        if client_id is None:
            raise params.bad("clientOid is required")
        listing = self._catalogue.need(FUTURES, params.need("symbol"))
        closing = params.flag("closeOrder")
        side = None if closing and "side" not in params else params.choice("side", SIDES)
        position_side = params.choice("positionSide", _POSITION_SIDES, "BOTH")
        if (position_side is None) == account.hedge_mode:
            ordered, held = ("One-Way", "Hedge") if account.hedge_mode else ("Hedge", "One-Way")
            raise Refusal("330012", f"Your order is in {ordered} Mode, while your account is set to {held} Mode.")
        quantity = None
        if closing:
            side, quantity = self._to_close(account, listing, position_side)
        kind = params.choice("type", _TYPES, "limit")
        price = params.decimal("price")
        if kind is OrderType.LIMIT and price is None:
            raise params.bad("price is required")
        if quantity is None:
            quantity = self._lots(params, listing, price)
        if side is None:
            raise params.bad("side is required")
        tag = self._tag(params, account, listing, closing=closing)
        limit, stop_price = kind is OrderType.LIMIT, None
        if tag.stop:
            stop_price = params.decimal("stopPrice")
            if stop_price is None:
                raise params.bad("stopPrice is required")
            kind = conditional_type(side, rising=_RISING[tag.stop], limit=limit)
        return listing, NewOrder(
            market=listing.symbol,
            side=side,
            type=kind,
            quantity=quantity,
            price=price if limit else None,
            stop_price=stop_price,
            time_in_force=params.choice("timeInForce", _IN_FORCE, "GTC") if limit else TimeInForce.GTC,
            post_only=params.flag("postOnly"),
            reduce_only=(params.flag("reduceOnly") or closing) and not account.hedge_mode,
            position_side=position_side,
            client_order_id=client_id,
            tag=tag,
        )

    def _tag(self, params: Params, account: Account, listing: Listing, *, closing: bool) -> Tag:
        mode = params.choice("marginMode", {"ISOLATED": "ISOLATED", "CROSS": "CROSS"}, "ISOLATED")
        if mode != margin_mode(account, listing) and not closing:
            raise Refusal("330005", "The order's margin mode does not match the selected one. Please switch.")
        leverage = params.decimal("leverage")
        if leverage is not None and not 1 <= leverage <= 125:
            raise Refusal("300016", "The leverage is invalid.")
        if len(params.text("remark") or "") > 100:
            raise params.bad("remark is too long")
        return Tag(
            remark=params.text("remark"),
            stp=params.choice("stp", STP_MODES) if "stp" in params else None,
            stop=params.choice("stop", {name: name for name in _RISING}) if params.text("stop") else "",
            stop_price_type=params.choice("stopPriceType", {name: name for name in ("TP", "IP", "MP")})
            if params.text("stop")
            else "",
            leverage=leverage_text(account, listing) if leverage is None else plain(leverage),
            margin_mode=mode,
            close_order=closing,
        )

    def _lots(self, params: Params, listing: Listing, price: Decimal | None) -> Decimal:
        """One of `size` (lots), `qty` (base) and `valueQty` (quote); inverse contracts take lots only."""
        given = [name for name in ("size", "qty", "valueQty") if params.decimal(name) is not None]
        if len(given) != 1:
            raise params.bad("One of size, qty and valueQty is required")
        amount = params.decimal(given[0]) or ZERO
        if given[0] != "size" and listing.market.is_inverse:
            raise params.bad(f"{given[0]} is not supported on inverse contracts")
        if given[0] == "qty":
            amount /= listing.multiplier
        elif given[0] == "valueQty":
            worth = listing.multiplier * (price or self._engine.mark_price(listing.symbol))
            return Decimal(int(amount / worth))
        if amount != amount.to_integral_value():
            raise Refusal("300000", "The size is not a whole number of lots.")
        return amount

    def _to_close(self, account: Account, listing: Listing, side: PositionSide | None) -> tuple[Side, Decimal]:
        for position in self._engine.positions(account):
            if position.market == listing.symbol and position.side is side:
                return (Side.SELL if position.quantity > 0 else Side.BUY), abs(position.quantity)
        raise Refusal("300009", "No open positions to close.")

    def place(self, account: Account, params: Params) -> EngineOrder:
        listing, new = self._new_order(params, account)
        before = leverage_text(account, listing)
        if tag_leverage := params.decimal("leverage"):
            set_leverage(account, listing, tag_leverage)
        try:
            return self._desk.place(account, listing, new)
        except Refusal:
            set_leverage(account, listing, Decimal(before))
            raise

    def _place(self, call: Call) -> dict[str, Any]:
        return self._placed(call.account, self.place(call.account, call.params))

    def _placed(self, account: Account, order: EngineOrder) -> dict[str, Any]:
        return {"orderId": self._desk.native_id(account, order), "clientOid": order.client_order_id}

    def _test(self, call: Call) -> dict[str, Any]:
        _, new = self._new_order(call.params, call.account)
        return {"orderId": str(call.now_ms << 18), "clientOid": new.client_order_id}

    def _place_many(self, call: Call) -> list[dict[str, Any]]:
        most = self._limits.futures_batch_orders
        if not isinstance(call.body, list) or not 1 <= len(call.body) <= most:
            raise call.params.bad(f"The body must be a list of 1 to {most} orders")
        rows = []
        for item in call.body:
            params = Params(item if isinstance(item, Mapping) else {}, PARAMETER[FUTURES])
            row: dict[str, Any] = {"clientOid": params.text("clientOid"), "symbol": params.text("symbol")}
            try:
                params.check_names(_NEW_ORDER)
                row |= self._placed(call.account, self.place(call.account, params))
                row |= {"code": "200000", "msg": "success"}
            except Refusal as refusal:
                row |= {"orderId": None, "code": refusal.code, "msg": refusal.message}
            rows.append(row)
        return rows

    # --- cancelling ---

    def _cancel(self, call: Call) -> dict[str, Any]:
        self._cancel_id(call.account, call.path["orderId"])
        return {"cancelledOrderIds": [call.path["orderId"]]}

    def _cancel_id(self, account: Account, native: str) -> None:
        self._desk.cancel_found(account, FUTURES, lambda: self._desk.by_id(account, FUTURES, native))

    def _cancel_by_client_id(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        self._cancel_client_id(call.account, call.path["clientOid"], listing)
        return {"clientOid": call.path["clientOid"]}

    def _cancel_client_id(self, account: Account, client_id: str, listing: Listing) -> None:
        self._desk.cancel_found(account, FUTURES, lambda: self._desk.by_client_id(account, FUTURES, client_id, listing))

    def _cancel_many(self, call: Call) -> list[dict[str, Any]]:
        """The one DELETE with a body: order ids, or client ids with their symbols."""
        ids, pairs = (call.params.values.get(name) or [] for name in ("orderIdsList", "clientOidsList"))
        if not isinstance(ids, list) or not isinstance(pairs, list) or bool(ids) == bool(pairs):
            raise call.params.bad("orderIdsList or clientOidsList is required")
        rows: list[dict[str, Any]] = []
        for native in map(str, ids):
            row: dict[str, Any] = {"orderId": native, "clientOid": None, "code": "200", "msg": "success"}
            try:
                self._cancel_id(call.account, native)
            except Refusal as refusal:
                row |= {"code": refusal.code, "msg": refusal.message}
            rows.append(row)
        for pair in pairs:
            params = Params(pair if isinstance(pair, Mapping) else {}, PARAMETER[FUTURES])
            row = {"orderId": None, "clientOid": params.text("clientOid"), "code": "200", "msg": "success"}
            try:
                listing = self._catalogue.need(FUTURES, params.need("symbol"))
                self._cancel_client_id(call.account, params.need("clientOid"), listing)
            except Refusal as refusal:
                row |= {"code": refusal.code, "msg": refusal.message}
            rows.append(row)
        return rows

    def _cancel_each(self, account: Account, orders: list[EngineOrder]) -> dict[str, Any]:
        ids = []
        for order in orders:
            ids.append(self._desk.native_id(account, order))
            self._desk.cancel(account, self._catalogue.of_symbol(order.market), order)
        return {"cancelledOrderIds": ids}

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        listing = self._wanted(call.params)
        return self._cancel_each(call.account, self._desk.open_orders(call.account, FUTURES, listing))

    def _cancel_stops(self, call: Call) -> dict[str, Any]:
        return self._cancel_each(call.account, self._desk.stops(call.account, FUTURES, self._wanted(call.params)))

    # --- looking ---

    def _wanted(self, params: Params) -> Listing | None:
        native = params.text("symbol")
        return None if native is None else self._catalogue.need(FUTURES, native)

    def _matches(self, params: Params, side: str, limit: bool, time: int) -> bool:
        wanted_side = params.choice("side", SIDES) if params.text("side") else None
        wanted_type = params.choice("type", {"limit": True, "market": False}) if params.text("type") else None
        start, end = params.integer("startAt"), params.integer("endAt")
        return (
            (wanted_side is None or wanted_side == side)
            and (wanted_type is None or wanted_type is limit)
            and (start is None or time >= start)
            and (end is None or time <= end)
        )

    def _paged(self, call: Call, found: list[EngineOrder]) -> dict[str, Any]:
        number = call.params.bounded("currentPage", 1, 1, 1_000_000)
        size = call.params.bounded("pageSize", 50, 1, 1000)
        found = [o for o in found if self._matches(call.params, o.side, o.type.has_price, o.created)]
        shown, pages = page(found, number, size)
        return {
            "currentPage": number,
            "pageSize": size,
            "totalNum": len(found),
            "totalPage": pages,
            "items": [self.row(call.account, order) for order in shown],
        }

    def _orders(self, call: Call) -> dict[str, Any]:
        """Done orders, unless `status=active` is asked for."""
        listing = self._wanted(call.params)
        if call.params.choice("status", _STATES, "done"):
            return self._paged(call, self._desk.open_orders(call.account, FUTURES, listing))
        found = [o for o in self._desk.orders(call.account, FUTURES, listing) if not o.status.is_open]
        return self._paged(call, found)

    def _stops(self, call: Call) -> dict[str, Any]:
        return self._paged(call, self._desk.stops(call.account, FUTURES, self._wanted(call.params)))

    def _recent(self, call: Call) -> list[dict[str, Any]]:
        found = self._desk.orders(call.account, FUTURES, self._wanted(call.params))
        done = [o for o in found if not o.status.is_open and o.updated > call.now_ms - 86_400_000]
        return [self.row(call.account, order) for order in done[:1000]]

    def _order(self, call: Call) -> dict[str, Any]:
        return self.row(call.account, self._desk.by_id(call.account, FUTURES, call.path["orderId"]))

    def _order_by_client_id(self, call: Call) -> dict[str, Any]:
        order = self._desk.by_client_id(call.account, FUTURES, call.params.need("clientOid"))
        return self.row(call.account, order)

    def _fills(self, call: Call) -> dict[str, Any]:
        params = call.params
        number, size = params.bounded("currentPage", 1, 1, 1_000_000), params.bounded("pageSize", 50, 1, 1000)
        wanted = params.text("orderId")
        order_id = None if wanted is None else self._desk.by_id(call.account, FUTURES, wanted).id
        types = (params.text("tradeTypes") or "trade").split(",")
        found = [] if "trade" not in types else self._desk.fills(call.account, FUTURES, self._wanted(params))
        found = [f for f in found if order_id in (None, f.order_id) and self._matches_fill(params, call.account, f)]
        return {
            "currentPage": number,
            "pageSize": size,
            "totalNum": len(found),
            "totalPage": -(-len(found) // size),
            "items": [self.fill_row(call.account, fill) for fill in found[(number - 1) * size : number * size]],
        }

    def _matches_fill(self, params: Params, account: Account, fill: EngineFill) -> bool:
        limit = not params.text("type") or self._engine.order(account, order_id=fill.order_id).type.has_price
        return self._matches(params, fill.side, limit, fill.time)

    def _recent_fills(self, call: Call) -> list[dict[str, Any]]:
        found = self._desk.fills(call.account, FUTURES, self._wanted(call.params))
        return [self.fill_row(call.account, f) for f in found[:1000] if f.time > call.now_ms - 86_400_000]

    def fill_row(self, account: Account, fill: EngineFill) -> dict[str, Any]:
        listing = self._catalogue.of_symbol(fill.market)
        order = self._engine.order(account, order_id=fill.order_id)
        maker, taker = self._engine.fee_rates(listing.symbol)
        kind = "limit" if order.type.has_price else "market"
        return {
            "symbol": listing.native,
            "tradeId": str(listing.trade_id(fill.trade_id)),
            "orderId": self._desk.native_id(account, order),
            "side": fill.side.lower(),
            "liquidity": fill.liquidity.lower(),
            "forceTaker": False,
            "price": plain(fill.price),
            "size": whole(fill.quantity),
            "value": plain(listing.value(fill.price, fill.quantity)),
            "openFeePay": plain(fill.fee),
            "closeFeePay": "0",
            "stop": tag_of(order).stop,
            "feeRate": format(maker if fill.liquidity == "MAKER" else taker, ".5f"),
            "fixFee": "0",
            "feeCurrency": listing.settle,
            "subTradeType": None,
            "marginMode": tag_of(order).margin_mode or "ISOLATED",
            "openFeeTaxPay": "0",
            "closeFeeTaxPay": "0",
            "displayType": kind,
            "fee": plain(fill.fee),
            "settleCurrency": listing.settle,
            "orderType": kind,
            "tradeType": "trade",
            "tradeTime": fill.time * 1_000_000,
            "createdAt": fill.time,
        }

    def row(self, account: Account, order: EngineOrder) -> dict[str, Any]:
        listing, tag, active = self._catalogue.of_symbol(order.market), tag_of(order), order.status.is_open
        price = order.price or order.stop_price
        worth = listing.value(price, order.quantity) if price else ZERO
        dealt = sum((listing.value(fill.price, fill.quantity) for fill in order.fills), ZERO)
        return {
            "id": self._desk.native_id(account, order),
            "symbol": listing.native,
            "type": "limit" if order.type.has_price else "market",
            "side": order.side.lower(),
            "price": plain(order.price) if order.price is not None else "",
            "size": whole(order.quantity),
            "value": plain(worth),
            "dealValue": plain(dealt),
            "dealSize": whole(order.filled),
            "stp": tag.stp or "",
            "stop": tag.stop,
            "stopPriceType": tag.stop_price_type,
            "stopTriggered": order.triggered,
            "stopPrice": None if order.stop_price is None else plain(order.stop_price),
            "timeInForce": IN_FORCE_TEXT[order.time_in_force],
            "postOnly": order.post_only,
            "hidden": False,
            "iceberg": False,
            "leverage": tag.leverage,
            "forceHold": False,
            "closeOrder": tag.close_order,
            "visibleSize": 0,
            "clientOid": order.client_order_id,
            "remark": tag.remark,
            "tags": "",
            "isActive": active,
            "cancelExist": order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED),
            "createdAt": order.created,
            "updatedAt": order.updated,
            "endAt": None if active else order.updated,
            "orderTime": order.created * 1_000_000 + 885_647,
            "settleCurrency": listing.settle,
            "marginMode": tag.margin_mode or "ISOLATED",
            "avgDealPrice": plain(average_price(listing, order)),
            "filledSize": whole(order.filled),
            "filledValue": plain(dealt),
            "status": "open" if active else "done",
            "reduceOnly": order.reduce_only,
        }

    def _statistics(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        sizes, costs = {Side.BUY: ZERO, Side.SELL: ZERO}, {Side.BUY: ZERO, Side.SELL: ZERO}
        for order in self._desk.open_orders(call.account, FUTURES, listing):
            sizes[order.side] += order.remaining
            costs[order.side] += listing.value(order.price or Decimal(1), order.remaining)
        return {
            "openOrderBuySize": whole(sizes[Side.BUY]),
            "openOrderSellSize": whole(sizes[Side.SELL]),
            "openOrderBuyCost": plain(costs[Side.BUY]),
            "openOrderSellCost": plain(costs[Side.SELL]),
            "settleCurrency": listing.settle,
        }


def average_price(listing: Listing, order: EngineOrder) -> Decimal:
    """What the order was filled at; of inverse contracts the harmonic mean, as their value asks for."""
    if not order.filled:
        return ZERO
    if not listing.market.is_inverse:
        return round(order.filled_quote / order.filled, 12)
    worth = sum((fill.quantity / fill.price for fill in order.fills), ZERO)
    return round(order.filled / worth, 12) if worth else ZERO
