"""Spot's account endpoints: orders, fills, balances, fees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astra.models.orders import Liquidity, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, NewOrder, Reject
from astra.sandbox.toolkit import fixed
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.orders import (
    TIME_IN_FORCE,
    OrderDesk,
    Tag,
    check_filters,
    check_precision,
    expiry_reason,
    native_id,
    page,
    shown_time_in_force,
    status_text,
    tag_of,
    waits,
    within,
)
from astra_binance.sandbox.refusals import refusal_of, unknown_order
from astra_binance.sandbox.wire import Family, Params, Refusal, missing, not_required

_DAY_MS = 86_400_000
_TYPES = {
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "MARKET": OrderType.MARKET,
    "STOP_LOSS": OrderType.STOP_MARKET,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_MARKET,
    "TAKE_PROFIT_LIMIT": OrderType.TAKE_PROFIT_LIMIT,
}
_STP_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT")
_ORDER_NAMES = names(
    "symbol side type timeInForce quantity quoteOrderQty price newClientOrderId strategyId strategyType stopPrice "
    "icebergQty newOrderRespType selfTradePreventionMode"
)
# Type -> (mandatory parameters, further ones it may have).
_RULES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "LIMIT": (names("timeInForce quantity price"), names("icebergQty")),
    "LIMIT_MAKER": (names("quantity price"), names("icebergQty")),
    "MARKET": (frozenset(), names("quantity quoteOrderQty")),
    "STOP_LOSS": (names("quantity stopPrice"), frozenset()),
    "STOP_LOSS_LIMIT": (names("timeInForce quantity price stopPrice"), names("icebergQty")),
    "TAKE_PROFIT": (names("quantity stopPrice"), frozenset()),
    "TAKE_PROFIT_LIMIT": (names("timeInForce quantity price stopPrice"), names("icebergQty")),
}
_BY_TYPE = names("timeInForce quantity quoteOrderQty price stopPrice icebergQty")


class SpotAccount:
    """`/api/v3`, what needs a signature."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = catalogue

    def routes(self) -> Routes:
        symbol = names("symbol")
        order_ref = names("symbol orderId origClientOrderId")
        history = names("symbol orderId startTime endTime limit")
        signed: dict[tuple[str, str], Endpoint] = {
            ("POST", "order"): Endpoint(
                self._place, _ORDER_NAMES, orders=True, command=True, free_on_success=True, security=Security.SIGNED
            ),
            ("POST", "order/test"): _signed(self._test, _ORDER_NAMES | names("computeCommissionRates")),
            ("GET", "order"): _signed(self._query, order_ref, weight=4),
            ("DELETE", "order"): Endpoint(
                self._cancel,
                order_ref | names("newClientOrderId cancelRestrictions"),
                command=True,
                free_on_success=True,
                security=Security.SIGNED,
            ),
            ("DELETE", "openOrders"): Endpoint(self._cancel_all, symbol, command=True, security=Security.SIGNED),
            ("POST", "order/cancelReplace"): Endpoint(
                self._cancel_replace,
                _ORDER_NAMES
                | names("cancelReplaceMode cancelNewClientOrderId cancelOrigClientOrderId cancelOrderId")
                | names("cancelRestrictions orderRateLimitExceededMode"),
                orders=True,
                command=True,
                security=Security.SIGNED,
            ),
            ("PUT", "order/amend/keepPriority"): Endpoint(
                self._amend,
                order_ref | names("newClientOrderId newQty"),
                weight=4,
                command=True,
                security=Security.SIGNED,
            ),
            ("GET", "openOrders"): _signed(self._open_orders, symbol, weight=6, weight_without=("symbol", 80)),
            ("GET", "allOrders"): _signed(self._all_orders, history, weight=20),
            ("GET", "myTrades"): _signed(
                self._my_trades, history | names("fromId"), weight=5, weight_without=("orderId", 20)
            ),
            ("GET", "account"): _signed(self._account, names("omitZeroBalances"), weight=20),
            ("GET", "account/commission"): _signed(self._commission, symbol, weight=20),
        }
        return {(Family.SPOT, method, f"/api/v3/{path}"): endpoint for (method, path), endpoint in signed.items()}

    # --- orders in ---

    def _new_order(self, params: Params, listing: Listing) -> NewOrder:
        kind, side = params.need("type"), params.need("side")
        if side not in ("BUY", "SELL"):
            raise Refusal(-1117, "Invalid side.")
        if kind not in _RULES:
            raise Refusal(-1116, "Invalid orderType.")
        mandatory, optional = _RULES[kind]
        for name in sorted(mandatory):
            params.need(name)
        for name in sorted(_BY_TYPE - mandatory - optional):
            if name in params:
                raise not_required(name)
        quantity, quote = params.decimal("quantity"), params.decimal("quoteOrderQty")
        if kind == "MARKET" and (quantity is None) == (quote is None):
            raise missing("quantity") if quantity is None else not_required("quoteOrderQty")
        sent_force = params.text("timeInForce")
        if sent_force is not None and sent_force not in ("GTC", "IOC", "FOK"):
            raise Refusal(-1115, "Invalid timeInForce.")
        stp = params.text("selfTradePreventionMode") or "NONE"
        if stp not in _STP_MODES:
            raise Refusal(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
        check_precision(listing, params, ("quantity", "quoteOrderQty", "price", "stopPrice"))
        client_id = params.client_id("newClientOrderId") or self._desk.make_client_id()
        return NewOrder(
            market=listing.symbol,
            side=Side(side),
            type=_TYPES[kind],
            quantity=quantity,
            quote_quantity=quote,
            price=params.decimal("price"),
            stop_price=params.decimal("stopPrice"),
            time_in_force=TIME_IN_FORCE[sent_force] if sent_force else TimeInForce.GTC,
            post_only=kind == "LIMIT_MAKER",
            client_order_id=client_id,
            tag=Tag(client_id, kind, sent_force or "GTC", stp=stp),
        )

    def _place(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.SPOT, call.params)
        new = self._new_order(call.params, listing)
        response = self._response_type(call.params)
        order = self._desk.place(call.account, listing, new)
        return self._placed(listing, order, response)

    def _test(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.SPOT, call.params)
        new = self._new_order(call.params, listing)
        self._response_type(call.params)
        try:
            check_filters(self._engine, listing, new)
        except Reject as reject:
            raise refusal_of(reject, Family.SPOT, new.type) from None
        return {}

    @staticmethod
    def _response_type(params: Params) -> str:
        usual = "FULL" if params.values.get("type") in ("LIMIT", "MARKET") else "ACK"
        response = params.text("newOrderRespType") or usual
        if response not in ("ACK", "RESULT", "FULL"):
            raise Refusal(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        return response

    def _placed(self, listing: Listing, order: EngineOrder, response: str) -> dict[str, Any]:
        """The answer to a new order. ACK says nothing of what became of it."""
        row: dict[str, Any] = {
            "symbol": listing.native,
            "orderId": native_id(listing, order),
            "orderListId": -1,
            "clientOrderId": tag_of(order).client_id,
            "transactTime": order.updated,
        }
        if response == "ACK":
            return row
        row |= _amounts(listing, order) | {"workingTime": -1 if waits(order) else order.created}
        row |= _further(order)
        if response == "FULL":
            row["fills"] = [
                {
                    "price": listing.price(fill.price),
                    "qty": listing.quantity(fill.quantity),
                    "commission": fixed(fill.fee, 8),
                    "commissionAsset": fill.fee_asset,
                    "tradeId": listing.ids.trade_base + fill.trade_id,
                }
                for fill in order.fills
            ]
        return row

    def _cancel(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.SPOT, call.params)
        order = self._to_cancel(call.account, listing, call.params, "orderId", "origClientOrderId")
        return self._cancelled(call, listing, order, call.params.client_id("newClientOrderId"))

    def _to_cancel(
        self, account: Account, listing: Listing, params: Params, id_name: str, client_name: str
    ) -> EngineOrder:
        number, client_id = params.integer(id_name), params.text(client_name)
        if number is None and client_id is None:
            raise missing(f"{client_name}' or '{id_name}")
        try:
            return self._desk.find(account, listing, number=number, client_id=client_id)
        except Refusal as refusal:
            raise unknown_order() if refusal.code == -2013 else refusal from None

    def _cancelled(self, call: Call, listing: Listing, order: EngineOrder, cancel_id: str | None) -> dict[str, Any]:
        """The answer names the cancel's client id `clientOrderId`, the order's `origClientOrderId`."""
        restriction = call.params.text("cancelRestrictions")
        if restriction is not None and restriction != {"NEW": "ONLY_NEW"}.get(order.status, "ONLY_PARTIALLY_FILLED"):
            raise Refusal(-2011, "Order was not canceled due to cancel restrictions.")
        cancel_id = cancel_id or self._desk.make_client_id()
        order = self._desk.cancel(call.account, order, cancel_id)
        return {
            "symbol": listing.native,
            "origClientOrderId": tag_of(order).client_id,
            "orderId": native_id(listing, order),
            "orderListId": -1,
            "clientOrderId": cancel_id,
            "transactTime": order.updated,
            **_amounts(listing, order),
            **_further(order),
        }

    def _cancel_all(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.wanted(Family.SPOT, call.params)
        orders = self._desk.open_orders(call.account, listing, Family.SPOT)
        if not orders:
            raise unknown_order()
        return [self._cancelled(call, listing, order, None) for order in orders]

    def _cancel_replace(self, call: Call) -> dict[str, Any]:
        """Cancel, then place. -2022 when nothing was done, -2021 when one of the two was."""
        params, account = call.params, call.account
        listing = self._catalogue.wanted(Family.SPOT, params)
        mode = params.need("cancelReplaceMode")
        if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
            raise Refusal(-1130, "Data sent for parameter 'cancelReplaceMode' is not valid.")
        new, response = self._new_order(params, listing), self._response_type(params)
        results: dict[str, Any] = {"cancelResult": "SUCCESS", "newOrderResult": "NOT_ATTEMPTED"}
        responses: dict[str, Any] = {"cancelResponse": None, "newOrderResponse": None}
        try:
            order = self._to_cancel(account, listing, params, "cancelOrderId", "cancelOrigClientOrderId")
            cancel_id = params.client_id("cancelNewClientOrderId")
            responses["cancelResponse"] = self._cancelled(call, listing, order, cancel_id)
        except Refusal as refusal:
            if refusal.code == -1102:
                raise
            results["cancelResult"] = "FAILURE"
            responses["cancelResponse"] = refusal.body
        if results["cancelResult"] == "SUCCESS" or mode == "ALLOW_FAILURE":
            try:
                placed = self._desk.place(account, listing, new)
                results["newOrderResult"] = "SUCCESS"
                responses["newOrderResponse"] = self._placed(listing, placed, response)
            except Refusal as refusal:
                results["newOrderResult"] = "FAILURE"
                responses["newOrderResponse"] = refusal.body
        outcome = list(results.values())
        if outcome == ["SUCCESS", "SUCCESS"]:
            return results | responses
        if "SUCCESS" in outcome:
            raise Refusal(
                -2021, "Order cancel-replace partially failed.", status=409, extra={"data": results | responses}
            )
        raise Refusal(-2022, "Order cancel-replace failed.", extra={"data": results | responses})

    def _amend(self, call: Call) -> dict[str, Any]:
        """Only a smaller quantity; the order keeps its place and gets a new client id."""
        params = call.params
        listing = self._catalogue.wanted(Family.SPOT, params)
        quantity = params.need_decimal("newQty")
        order = self._desk.find_asked_for(call.account, listing, params, "origClientOrderId")
        if not order.status.is_open or waits(order):
            raise Refusal(-2038, "Order amend rejected: the order is not on the book.")
        if not order.filled < quantity < order.quantity:
            raise Refusal(-2038, "Order amend (quantity increase) is not supported.")
        client_id = params.client_id("newClientOrderId") or self._desk.make_client_id()
        former = tag_of(order).client_id
        self._desk.rename(call.account, order, client_id)
        try:
            order = self._engine.amend(call.account, order.id, price=None, quantity=quantity)
        except Reject as reject:
            self._desk.rename(call.account, order, former)
            raise refusal_of(reject, Family.SPOT, order.type) from None
        tag = tag_of(order)
        return {
            "transactTime": order.updated,
            "executionId": native_id(listing, order),
            "amendedOrder": {
                "symbol": listing.native,
                "orderId": native_id(listing, order),
                "orderListId": -1,
                "origClientOrderId": former,
                "clientOrderId": tag.client_id,
                "price": listing.price(order.price),
                "qty": listing.quantity(order.quantity),
                "executedQty": listing.quantity(order.filled),
                "preventedQty": listing.quantity(None),
                "quoteOrderQty": listing.quantity(order.quote_quantity),
                "cumulativeQuoteQty": fixed(order.filled_quote, 8),
                "status": status_text(order, Family.SPOT),
                "timeInForce": shown_time_in_force(order),
                "type": tag.type,
                "side": order.side.value,
                "workingTime": order.created,
                "selfTradePreventionMode": tag.stp,
            },
        }

    # --- orders out ---

    def _query(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.SPOT, call.params)
        order = self._desk.find_asked_for(call.account, listing, call.params, "origClientOrderId")
        return order_row(listing, order)

    def _open_orders(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.maybe_wanted(Family.SPOT, call.params)
        orders = self._desk.open_orders(call.account, listing, Family.SPOT)
        return [order_row(self._catalogue.of_symbol(order.market), order) for order in orders]

    def _all_orders(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.wanted(Family.SPOT, params)
        limit, first = params.limit(500, 1000), params.integer("orderId")
        found = [
            order
            for order in self._desk.orders(call.account, listing, Family.SPOT)
            if within(order.created, params, longest_ms=_DAY_MS)
            and (first is None or native_id(listing, order) >= first)
        ]
        return [order_row(listing, order) for order in page(found, params, limit, from_first=first is not None)]

    def _my_trades(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.wanted(Family.SPOT, params)
        limit, first, order_id = params.limit(500, 1000), params.integer("fromId"), params.integer("orderId")
        base = listing.ids.trade_base
        found = [
            fill
            for fill in self._engine.fills(call.account, listing.symbol)
            if within(fill.time, params, longest_ms=_DAY_MS)
            and (first is None or base + fill.trade_id >= first)
            and (order_id is None or listing.ids.order_base + fill.order_id == order_id)
        ]
        return [_fill_row(listing, fill) for fill in page(found, params, limit, from_first=first is not None)]

    # --- account ---

    def _account(self, call: Call) -> dict[str, Any]:
        omit = call.params.boolean("omitZeroBalances")
        maker, taker = self._account_rates()
        return {
            "makerCommission": int(maker * 10_000),
            "takerCommission": int(taker * 10_000),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": fixed(maker, 8),
                "taker": fixed(taker, 8),
                "buyer": fixed(None, 8),
                "seller": fixed(None, 8),
            },
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": call.now_ms,
            "accountType": "SPOT",
            "balances": [
                {"asset": balance.asset, "free": fixed(balance.available, 8), "locked": fixed(balance.locked, 8)}
                for balance in self._engine.balances(call.account)
                if balance.wallet == Family.SPOT and (balance.total or not omit)
            ],
            "permissions": ["SPOT"],
            "uid": 354_937_868,
        }

    def _account_rates(self) -> tuple[Any, Any]:
        listing = next(self._catalogue.all(Family.SPOT), None)
        return (0, 0) if listing is None else self._engine.fee_rates(listing.symbol)

    def _commission(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.SPOT, call.params)
        maker, taker = self._engine.fee_rates(listing.symbol)
        nothing = {"maker": fixed(None, 8), "taker": fixed(None, 8), "buyer": fixed(None, 8), "seller": fixed(None, 8)}
        return {
            "symbol": listing.native,
            "standardCommission": nothing | {"maker": fixed(maker, 8), "taker": fixed(taker, 8)},
            "specialCommission": nothing,
            "taxCommission": nothing,
            "discount": {
                "enabledForAccount": False,
                "enabledForSymbol": False,
                "discountAsset": "BNB",
                "discount": "0.75000000",
            },
        }


def _signed(
    handler: Any, accepts: frozenset[str], *, weight: int = 1, weight_without: tuple[str, int] | None = None
) -> Endpoint:
    """A signed read; `weight_without`: (parameter, weight where it is missing)."""
    if weight_without is None:
        return Endpoint(handler, accepts, weight=weight, security=Security.SIGNED)
    name, dearer = weight_without
    return Endpoint(
        handler,
        accepts,
        weight=lambda params: weight if name in params else dearer,
        security=Security.SIGNED,
    )


def _amounts(listing: Listing, order: EngineOrder) -> dict[str, Any]:
    tag = tag_of(order)
    return {
        "price": listing.price(order.price),
        "origQty": listing.quantity(order.quantity),
        "executedQty": listing.quantity(order.filled),
        "origQuoteOrderQty": listing.quantity(order.quote_quantity),
        "cummulativeQuoteQty": fixed(order.filled_quote, 8),
        "status": status_text(order, Family.SPOT),
        "timeInForce": shown_time_in_force(order),
        "type": tag.type,
        "side": order.side.value,
        "selfTradePreventionMode": tag.stp,
    }


def _further(order: EngineOrder) -> dict[str, Any]:
    """Keys that only some orders have."""
    row: dict[str, Any] = {}
    if order.stop_price is not None:
        row["stopPrice"] = fixed(order.stop_price, 8)
    reason = expiry_reason(order)
    if reason is not None:
        row["expiryReason"] = reason
    return row


def order_row(listing: Listing, order: EngineOrder) -> dict[str, Any]:
    """An order as `GET` calls show it."""
    row = {
        "symbol": listing.native,
        "orderId": native_id(listing, order),
        "orderListId": -1,
        "clientOrderId": tag_of(order).client_id,
        **_amounts(listing, order),
        "stopPrice": listing.price(order.stop_price),
        "icebergQty": listing.quantity(None),
        "time": order.created,
        "updateTime": order.updated,
        "isWorking": not waits(order),
        "workingTime": -1 if waits(order) else order.created,
    }
    reason = expiry_reason(order)
    return row if reason is None else row | {"expiryReason": reason}


def _fill_row(listing: Listing, fill: EngineFill) -> dict[str, Any]:
    return {
        "symbol": listing.native,
        "id": listing.ids.trade_base + fill.trade_id,
        "orderId": listing.ids.order_base + fill.order_id,
        "orderListId": -1,
        "price": listing.price(fill.price),
        "qty": listing.quantity(fill.quantity),
        "quoteQty": fixed(fill.price * fill.quantity, 8),
        "commission": fixed(fill.fee, 8),
        "commissionAsset": fill.fee_asset,
        "time": fill.time,
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.liquidity is Liquidity.MAKER,
        "isBestMatch": True,
    }
