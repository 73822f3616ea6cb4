"""Orders and fills of USD-M (`/fapi`) and COIN-M (`/dapi`)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from astra.models.orders import Liquidity, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, NewOrder, Reject
from astra.sandbox.toolkit import fixed, plain
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.market_rest import PREFIX
from astra_binance.sandbox.orders import (
    FUTURES_TYPES,
    TIME_IN_FORCE,
    OrderDesk,
    Tag,
    check_filters,
    check_precision,
    futures_type,
    native_id,
    page,
    price_text,
    shown_time_in_force,
    status_text,
    tag_of,
    within,
)
from astra_binance.sandbox.refusals import refusal_of, unknown_order
from astra_binance.sandbox.wire import Family, Params, Refusal, illegal, missing, not_required

_WEEK_MS = 7 * 86_400_000
_GTD_LEAST_MS = 600_000
_CONDITIONAL = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
_BATCH = 5
_ORDER_NAMES = names(
    "symbol side positionSide type timeInForce quantity reduceOnly price newClientOrderId stopPrice closePosition "
    "activationPrice callbackRate workingType priceProtect newOrderRespType priceMatch selfTradePreventionMode "
    "goodTillDate"
)
_MODIFY_NAMES = names("orderId origClientOrderId symbol side quantity price priceMatch modifyId")


class FuturesOrders:
    """The order endpoints, alike in both families but for what `routes` and the rows say."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = catalogue

    def routes(self) -> Routes:
        routes: dict[tuple[Family, str, str], Endpoint] = {}
        for family in (Family.USDM, Family.COINM):
            for (method, path), endpoint in self._endpoints(family).items():
                routes[family, method, f"{PREFIX[family]}/{path}"] = endpoint
        return routes

    def _endpoints(self, family: Family) -> dict[tuple[str, str], Endpoint]:
        ref = names("symbol orderId origClientOrderId")
        by_symbol = names("symbol") if family is Family.USDM else names("symbol pair")
        history = by_symbol | names("orderId startTime endTime limit")
        lists = names("symbol orderIdList origClientOrderIdList orderidlist origclientorderidlist")

        def command(
            handler: Callable[[Call], Any], accepts: frozenset[str], *, weight: int = 1, orders: Any = False
        ) -> Endpoint:
            return Endpoint(handler, accepts, weight=weight, orders=orders, command=True, security=Security.SIGNED)

        def read(handler: Callable[[Call], Any], accepts: frozenset[str], weight: Any = 1) -> Endpoint:
            return Endpoint(handler, accepts, weight=weight, security=Security.SIGNED)

        return {
            ("POST", "order"): command(self._place, _ORDER_NAMES, weight=0, orders=True),
            ("POST", "order/test"): read(self._test, _ORDER_NAMES),
            ("PUT", "order"): command(self._modify, _MODIFY_NAMES, orders=True),
            ("DELETE", "order"): command(self._cancel, ref),
            ("GET", "order"): read(self._query, ref),
            ("GET", "openOrder"): read(self._open_order, ref),
            ("POST", "batchOrders"): command(
                self._place_batch, names("batchOrders"), weight=5, orders=lambda params: _BATCH
            ),
            ("DELETE", "batchOrders"): command(self._cancel_batch, lists),
            ("DELETE", "allOpenOrders"): command(self._cancel_all, names("symbol")),
            ("GET", "openOrders"): read(self._open_orders, by_symbol, lambda params: 1 if "symbol" in params else 40),
            ("GET", "allOrders"): read(self._all_orders, history, 5 if family is Family.USDM else 20),
            ("GET", "userTrades"): read(
                self._user_trades, history | names("fromId"), 5 if family is Family.USDM else 20
            ),
        }

    # --- orders in ---

    def new_order(self, account: Account, listing: Listing, params: Params, now_ms: int) -> NewOrder:
        """A LIMIT or MARKET order as asked; what waits for a price is sent to the algo endpoints (-4120)."""
        kind = params.need("type")
        if kind in _CONDITIONAL:
            raise Refusal(
                -4120,
                "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
            )
        if kind not in ("LIMIT", "MARKET"):
            raise Refusal(-1116, "Invalid orderType.")
        for name in ("stopPrice", "closePosition", "activationPrice", "callbackRate"):
            if name in params and params.values[name] not in ("", "false"):
                raise not_required(name)
        if "priceMatch" in params and params.values["priceMatch"] != "NONE":
            raise Refusal(-1020, "This operation is not supported: priceMatch.")
        force = params.text("timeInForce")
        if kind == "MARKET" and (force is not None or "price" in params):
            raise not_required("timeInForce" if force is not None else "price")
        price = params.need_decimal("price") if kind == "LIMIT" else None
        if kind == "LIMIT" and force is None:
            raise missing("timeInForce")
        quantity = params.need_decimal("quantity")
        client_id = params.client_id("newClientOrderId") or self._desk.make_client_id()
        tag = common_tag(params, client_id, kind)
        tag.time_in_force = force or "GTC"
        if force == "GTD":
            tag.good_till = good_till(params, now_ms)
        elif "goodTillDate" in params:
            raise not_required("goodTillDate")
        return common_order(
            account,
            listing,
            params,
            kind=FUTURES_KINDS[kind],
            price=price,
            quantity=quantity,
            force=force,
            client_id=client_id,
            tag=tag,
        )

    def _placed(self, account: Account, listing: Listing, params: Params, now_ms: int) -> dict[str, Any]:
        new = self.new_order(account, listing, params, now_ms)
        response = response_type(params)
        if new.time_in_force is TimeInForce.FOK:
            self._desk.check_fillable(account, listing, new)
        order = self._desk.place(account, listing, new)
        # RESULT tells the outcome of what is done at once; of an order that may rest, no more than ACK does.
        settled = new.type is OrderType.MARKET or new.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
        return acknowledged(listing, order, with_result=response == "RESULT" and settled)

    def _place(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        return self._placed(call.account, listing, call.params, call.now_ms)

    def _test(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        new = self.new_order(call.account, listing, call.params, call.now_ms)
        try:
            check_filters(self._engine, listing, new)
        except Reject as reject:
            raise refusal_of(reject, call.family) from None
        return {}

    def _place_batch(self, call: Call) -> list[dict[str, Any]]:
        """Each on its own: an answer or an error in its place."""
        rows = call.params.array("batchOrders")
        if not 0 < len(rows) <= _BATCH:
            raise Refusal(-4082, "Invalid number of batch place orders.")
        answers = []
        for row in rows:
            try:
                params = params_of_json(row, "batchOrders")
                params.check_names(_ORDER_NAMES)
                listing = self._catalogue.wanted(call.family, params)
                answers.append(self._placed(call.account, listing, params, call.now_ms))
            except Refusal as refusal:
                answers.append(refusal.body)
        return answers

    def _modify(self, call: Call) -> dict[str, Any]:
        """LIMIT orders only. The order loses its place; a quantity that is filled already, or a GTX order that would
        now take, cancels it."""
        params, account = call.params, call.account
        listing = self._catalogue.wanted(call.family, params)
        price, quantity = params.need_decimal("price"), params.need_decimal("quantity")
        side = params.need("side")
        check_precision(listing, params, ("quantity", "price"))
        order = self._desk.find_asked_for(account, listing, params, "origClientOrderId")
        tag = tag_of(order)
        if not order.status.is_open:
            raise Refusal(-2013, "Order does not exist.")
        if order.side != side or futures_type(order) != "LIMIT":
            raise Refusal(
                -4029 if order.side == side else -1117, "Only LIMIT orders, with their side, can be modified."
            )
        if price == order.price and quantity == order.quantity:
            raise Refusal(-5027, "No need to modify the order.")
        tag.modify_id = params.integer("modifyId")
        if quantity <= order.filled or (order.post_only and self._crosses(listing, order.side, price)):
            order = self._desk.cancel(account, order)
        else:
            try:
                order = self._engine.amend(account, order.id, price=price, quantity=quantity)
            except Reject as reject:
                raise refusal_of(reject, call.family, order.type) from None
        row = acknowledged(listing, order, with_result=True) | {"pair": listing.pair}
        return row if tag.modify_id is None else row | {"modifyId": tag.modify_id}

    def _crosses(self, listing: Listing, side: Side, price: Decimal) -> bool:
        _, bids, asks = self._engine.depth(listing.symbol, 1)
        opposite = asks if side is Side.BUY else bids
        if not opposite:
            return False
        return price >= opposite[0].price if side is Side.BUY else price <= opposite[0].price

    def _cancel(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        return self._cancelled(call, listing, call.params)

    def _cancelled(self, call: Call, listing: Listing, params: Params) -> dict[str, Any]:
        try:
            order = self._desk.find_asked_for(call.account, listing, params, "origClientOrderId")
        except Refusal as refusal:
            raise unknown_order() if refusal.code == -2013 else refusal from None
        return acknowledged(listing, self._desk.cancel(call.account, order), with_result=True)

    def _cancel_batch(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.wanted(call.family, params)
        wanted: list[Params] = []
        for given, name in (("orderIdList", "orderId"), ("origClientOrderIdList", "origClientOrderId")):
            written = given if given in params else given.lower()
            if written in params:
                wanted += [Params({name: str(value)}) for value in params.array(written)]
        if not 0 < len(wanted) <= 10:
            raise Refusal(-4083, "Invalid number of batch cancel orders.")
        answers = []
        for one in wanted:
            try:
                answers.append(self._cancelled(call, listing, one))
            except Refusal as refusal:
                answers.append(refusal.body)
        return answers

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        self.cancel_everything(call.account, listing)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def cancel_everything(self, account: Account, listing: Listing) -> None:
        """All open orders of the market; what waits in the algo service stays."""
        for order in self._desk.open_orders(account, listing, listing.family):
            self._desk.cancel(account, order)

    # --- orders out ---

    def _query(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        return order_row(listing, self._desk.find_asked_for(call.account, listing, call.params, "origClientOrderId"))

    def _open_order(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        order = self._desk.find_asked_for(call.account, listing, call.params, "origClientOrderId")
        if not order.status.is_open:
            raise Refusal(-2013, "Order does not exist.")
        return order_row(listing, order)

    def _asked_for(self, call: Call, listing: Listing | None) -> Callable[[str], bool]:
        """Does a market (symbol) belong to the `pair` that was asked for?"""
        pair = call.params.text("pair")
        return lambda symbol: pair is None or listing is not None or self._catalogue.of_symbol(symbol).pair == pair

    def _open_orders(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.maybe_wanted(call.family, call.params)
        meant = self._asked_for(call, listing)
        return [
            order_row(self._catalogue.of_symbol(order.market), order)
            for order in self._desk.open_orders(call.account, listing, call.family)
            if meant(order.market)
        ]

    def _all_orders(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.maybe_wanted(call.family, params)
        meant, limit, first = self._asked_for(call, listing), params.limit(500, 1000), params.integer("orderId")
        rows = [
            order_row(self._catalogue.of_symbol(order.market), order)
            for order in self._desk.orders(call.account, listing, call.family)
            if meant(order.market) and within(order.created, params, longest_ms=_WEEK_MS)
        ]
        found = [row for row in rows if first is None or row["orderId"] >= first]
        return page(found, params, limit, from_first=first is not None)

    def _user_trades(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.maybe_wanted(call.family, params)
        first, order_id = params.integer("fromId"), params.integer("orderId")
        if first is not None and ("startTime" in params or "endTime" in params):
            raise Refusal(-1128, "Combination of optional parameters invalid.")
        if call.family is Family.COINM and listing is None and "pair" not in params:
            raise missing("symbol' or 'pair")
        meant, limit = self._asked_for(call, listing), params.limit(500, 1000)
        fills = self._engine.fills(call.account, None if listing is None else listing.symbol)
        rows = [
            self._fill_row(call.account, self._catalogue.of_symbol(fill.market), fill)
            for fill in fills
            if self._engine.markets[fill.market].product == call.family
            and meant(fill.market)
            and within(fill.time, params, longest_ms=_WEEK_MS)
        ]
        found = [
            row
            for row in rows
            if (first is None or row["id"] >= first) and (order_id is None or row["orderId"] == order_id)
        ]
        return page(found, params, limit, from_first=first is not None)

    def _fill_row(self, account: Account, listing: Listing, fill: EngineFill) -> dict[str, Any]:
        order = self._engine.order(account, order_id=fill.order_id)
        row: dict[str, Any] = {
            "buyer": fill.side is Side.BUY,
            "commission": fixed(fill.fee, 8),
            "commissionAsset": fill.fee_asset,
            "id": listing.ids.trade_base + fill.trade_id,
            "maker": fill.liquidity is Liquidity.MAKER,
            "orderId": native_id(listing, order),
            "price": listing.price(fill.price),
            "qty": listing.quantity(fill.quantity),
            "quoteQty": plain(listing.quote_value(fill.price, fill.quantity)),
            "realizedPnl": fixed(fill.realized_pnl, 8),
            "side": fill.side.value,
            "positionSide": position_side_text(order.position_side),
            "symbol": listing.native,
            "marginAsset": listing.market.margin_asset,
            "pair": listing.pair,
            "time": fill.time,
        }
        row["baseQty"] = fixed(listing.base_value(fill.price, fill.quantity), 8)
        return row


# --- what the algo endpoints share ------------------------------------------------------------------------------------

FUTURES_KINDS = {native: kind for kind, native in FUTURES_TYPES.items()}


def params_of_json(row: Any, name: str) -> Params:
    """The parameters of one order of a batch."""
    if not isinstance(row, dict):
        raise illegal(name, "a JSON array of orders")
    return Params({key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in row.items()})


def response_type(params: Params) -> str:
    response = params.text("newOrderRespType") or "ACK"
    if response not in ("ACK", "RESULT"):
        raise Refusal(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    return response


def good_till(params: Params, now_ms: int) -> int:
    """`goodTillDate`: to the second, at least 600 s from now."""
    date = params.integer("goodTillDate")
    if date is None:
        raise missing("goodTillDate")
    if date < now_ms + _GTD_LEAST_MS:
        raise Refusal(-5040, "goodTillDate must be greater than the current time plus 600 seconds.")
    return date // 1000 * 1000


def common_tag(params: Params, client_id: str, kind: str) -> Tag:
    working = params.text("workingType") or "CONTRACT_PRICE"
    if working not in ("CONTRACT_PRICE", "MARK_PRICE"):
        raise Refusal(-4003, "Invalid workingType.")
    stp = params.text("selfTradePreventionMode") or "EXPIRE_MAKER"
    if stp not in ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"):
        raise Refusal(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
    protect = (params.text("priceProtect") or "false").lower() == "true"
    return Tag(client_id, kind, stp=stp, working_type=working, price_protect=protect)


def position_rules(account: Account, params: Params, side: Side) -> tuple[PositionSide | None, bool]:
    """(position side for the engine, reduce-only): -4061 unless it fits the account's mode."""
    text = params.text("positionSide") or "BOTH"
    if text not in ("BOTH", "LONG", "SHORT"):
        raise Refusal(-4060, "Invalid position side.")
    if account.hedge_mode != (text != "BOTH"):
        raise Refusal(-4061, "Order's position side does not match user's setting.")
    if text == "BOTH":
        return None, params.boolean("reduceOnly")
    if "reduceOnly" in params:
        raise not_required("reduceOnly")
    return PositionSide(text), False


def common_order(
    account: Account,
    listing: Listing,
    params: Params,
    *,
    kind: OrderType,
    price: Decimal | None,
    quantity: Decimal,
    force: str | None,
    client_id: str,
    tag: Tag,
    stop_price: Decimal | None = None,
) -> NewOrder:
    side = params.need("side")
    if side not in ("BUY", "SELL"):
        raise Refusal(-1117, "Invalid side.")
    if force is not None and force not in ("GTC", "IOC", "FOK", "GTX", "GTD"):
        raise Refusal(-1115, "Invalid timeInForce.")
    check_precision(listing, params, ("quantity", "price", "triggerPrice"))
    position_side, reduce_only = position_rules(account, params, Side(side))
    return NewOrder(
        market=listing.symbol,
        side=Side(side),
        type=kind,
        quantity=quantity,
        price=price,
        stop_price=stop_price,
        time_in_force=TIME_IN_FORCE.get(force or "GTC", TimeInForce.GTC),
        post_only=force == "GTX",
        reduce_only=reduce_only,
        position_side=position_side,
        client_order_id=client_id,
        expire_time=tag.good_till or None,
        tag=tag,
    )


def position_side_text(side: PositionSide | None) -> str:
    return "BOTH" if side is None else side.value


def _common_row(listing: Listing, order: EngineOrder) -> dict[str, Any]:
    tag = tag_of(order)
    row: dict[str, Any] = {
        "clientOrderId": tag.client_id,
        "orderId": native_id(listing, order),
        "origQty": listing.quantity(order.quantity),
        "price": price_text(listing, order.price),
        "reduceOnly": order.reduce_only,
        "side": order.side.value,
        "positionSide": position_side_text(order.position_side),
        "stopPrice": price_text(listing, order.stop_price),
        "closePosition": False,
        "symbol": listing.native,
        "timeInForce": shown_time_in_force(order),
        "type": futures_type(order),
        "origType": FUTURES_TYPES[order.type],
        "updateTime": order.updated,
        "workingType": tag.working_type,
        "priceProtect": tag.price_protect,
        "priceMatch": "NONE",
        "selfTradePreventionMode": tag.stp,
    }
    if listing.family is Family.COINM:
        return row | {"pair": listing.pair}
    return row | {"goodTillDate": tag.good_till}


def acknowledged(listing: Listing, order: EngineOrder, *, with_result: bool) -> dict[str, Any]:
    """The answer to place, modify and cancel: no average price and no value since the families were merged.

    Without the result it says that the order was taken, whatever became of it since.
    """
    filled = listing.quantity(order.filled if with_result else None)
    status = status_text(order, listing.family) if with_result else "NEW"
    return _common_row(listing, order) | {"cumQty": filled, "executedQty": filled, "status": status}


def order_row(listing: Listing, order: EngineOrder) -> dict[str, Any]:
    """An order as `GET` calls show it: with average price and value (in coin for COIN-M)."""
    row = _common_row(listing, order) | {
        "avgPrice": fixed(order_average(listing, order), listing.price_scale + 3),
        "executedQty": listing.quantity(order.filled),
        "status": status_text(order, listing.family),
        "time": order.created,
    }
    if listing.family is Family.COINM:
        coin = sum((listing.base_value(fill.price, fill.quantity) for fill in order.fills), Decimal(0))
        return row | {"cumBase": fixed(coin, 8)}
    return row | {"cumQuote": fixed(order.filled_quote, listing.price_scale + listing.quantity_scale)}


def order_average(listing: Listing, order: EngineOrder) -> Decimal | None:
    """Average fill price: of inverse contracts the price at which as many would be worth as much coin."""
    if not order.filled:
        return None
    if not listing.market.is_inverse:
        return order.average_price
    coin = sum((fill.quantity / fill.price for fill in order.fills), Decimal(0))
    return order.filled / coin if coin else order.average_price
