"""Options (`/eapi`): orders, fills, positions, margin account, fees."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from astra.models.orders import Liquidity, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, NewOrder
from astra.sandbox.toolkit import fixed, plain
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import Catalogue, Listing, option_side
from astra_binance.sandbox.futures_rest import params_of_json
from astra_binance.sandbox.orders import (
    TIME_IN_FORCE,
    OrderDesk,
    Tag,
    check_precision,
    native_id,
    page,
    shown_time_in_force,
    status_text,
    tag_of,
    within,
)
from astra_binance.sandbox.refusals import unknown_order
from astra_binance.sandbox.wire import Family, Params, Refusal

_FIVE_DAYS_MS = 5 * 86_400_000
_MOST_IN_BATCH = 10
_ORDER_NAMES = names(
    "symbol side type quantity price timeInForce reduceOnly postOnly newOrderRespType clientOrderId isMmp "
    "selfTradePreventionMode"
)


class OptionsAccount:
    """Everything of the options family that needs a signature."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = catalogue

    def routes(self) -> Routes:
        ref = names("symbol orderId clientOrderId")
        span = names("startTime endTime limit")

        def command(
            handler: Callable[[Call], Any], accepts: frozenset[str], *, weight: int = 1, orders: Any = False
        ) -> Endpoint:
            return Endpoint(handler, accepts, weight=weight, orders=orders, command=True, security=Security.SIGNED)

        def read(handler: Callable[[Call], Any], accepts: frozenset[str], weight: Any = 1) -> Endpoint:
            return Endpoint(handler, accepts, weight=weight, security=Security.SIGNED)

        endpoints: dict[tuple[str, str], Endpoint] = {
            ("POST", "order"): command(self._place, _ORDER_NAMES, weight=0, orders=True),
            ("POST", "batchOrders"): command(self._place_batch, names("orders"), orders=lambda params: 5),
            ("GET", "order"): read(self._query, ref),
            ("DELETE", "order"): command(self._cancel, ref),
            ("DELETE", "batchOrders"): command(self._cancel_batch, names("symbol orderIds clientOrderIds")),
            ("DELETE", "allOpenOrders"): command(self._cancel_all, names("symbol")),
            ("DELETE", "allOpenOrdersByUnderlying"): command(self._cancel_underlying, names("underlying")),
            ("GET", "openOrders"): read(
                self._open_orders,
                names("symbol orderId") | span,
                lambda params: 1 if "symbol" in params else 40,
            ),
            ("GET", "historyOrders"): read(self._history, names("symbol orderId") | span, 3),
            ("GET", "userTrades"): read(self._user_trades, names("symbol fromId") | span, 5),
            ("GET", "position"): read(self._positions, names("symbol"), 5),
            ("GET", "marginAccount"): read(self._margin_account, frozenset(), 3),
            ("GET", "commission"): read(self._commission, frozenset(), 5),
        }
        return {
            (Family.OPTIONS, method, f"/eapi/v1/{path}"): endpoint for (method, path), endpoint in endpoints.items()
        }

    # --- orders in ---

    def _new_order(self, params: Params, listing: Listing) -> NewOrder:
        side, kind = params.need("side"), params.need("type")
        if side not in ("BUY", "SELL"):
            raise Refusal(-1117, "Invalid side.")
        if kind != "LIMIT":
            raise Refusal(-1116, "Invalid orderType.")
        force = params.text("timeInForce") or "GTC"
        if force not in ("GTC", "IOC", "FOK", "GTX"):
            raise Refusal(-1115, "Invalid timeInForce.")
        post_only = params.boolean("postOnly") or force == "GTX"
        if post_only and force in ("IOC", "FOK"):
            raise Refusal(-1115, "Invalid timeInForce.")
        if (params.text("newOrderRespType") or "ACK") not in ("ACK", "RESULT"):
            raise Refusal(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        check_precision(listing, params, ("quantity", "price"))
        client_id = params.client_id("clientOrderId") or self._desk.make_client_id()
        return NewOrder(
            market=listing.symbol,
            side=Side(side),
            type=OrderType.LIMIT,
            quantity=params.need_decimal("quantity"),
            price=params.need_decimal("price"),
            time_in_force=TIME_IN_FORCE.get(force, TimeInForce.GTC),
            post_only=post_only,
            reduce_only=params.boolean("reduceOnly"),
            client_order_id=client_id,
            tag=Tag(client_id, kind, force, stp="EXPIRE_MAKER", mmp=params.boolean("isMmp")),
        )

    def _placed(self, account: Account, params: Params) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.OPTIONS, params)
        order = self._desk.place(account, listing, self._new_order(params, listing))
        row = order_row(listing, order) | {"source": "API", "fee": 0}
        if params.text("newOrderRespType") != "RESULT":
            row |= {"executedQty": "0", "avgPrice": "0", "status": "NEW"}
        return row

    def _place(self, call: Call) -> dict[str, Any]:
        return self._placed(call.account, call.params)

    def _place_batch(self, call: Call) -> list[dict[str, Any]]:
        rows = call.params.array("orders")
        if not 0 < len(rows) <= _MOST_IN_BATCH:
            raise Refusal(-4082, "Invalid number of batch place orders.")
        answers = []
        for row in rows:
            try:
                params = params_of_json(row, "orders")
                params.check_names(_ORDER_NAMES)
                answers.append(self._placed(call.account, params))
            except Refusal as refusal:
                answers.append(refusal.body)
        return answers

    def _cancel(self, call: Call) -> dict[str, Any]:
        return self._cancelled(call, self._catalogue.wanted(Family.OPTIONS, call.params), call.params)

    def _cancelled(self, call: Call, listing: Listing, params: Params) -> dict[str, Any]:
        try:
            order = self._desk.find_asked_for(call.account, listing, params, "clientOrderId")
        except Refusal as refusal:
            raise unknown_order() if refusal.code == -2013 else refusal from None
        row = order_row(listing, self._desk.cancel(call.account, order))
        row["createDate"] = row.pop("createTime")
        del row["postOnly"]
        return row | {"source": "API"}

    def _cancel_batch(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.wanted(Family.OPTIONS, params)
        wanted = [
            Params({name: str(value)})
            for given, name in (("orderIds", "orderId"), ("clientOrderIds", "clientOrderId"))
            if given in params
            for value in params.array(given)
        ]
        if not 0 < len(wanted) <= _MOST_IN_BATCH:
            raise Refusal(-4083, "Invalid number of batch cancel orders.")
        answers = []
        for one in wanted:
            try:
                answers.append(self._cancelled(call, listing, one))
            except Refusal as refusal:
                answers.append(refusal.body)
        return answers

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.OPTIONS, call.params)
        for order in self._desk.open_orders(call.account, listing, Family.OPTIONS):
            self._desk.cancel(call.account, order)
        return {"code": "0", "msg": "success"}

    def _cancel_underlying(self, call: Call) -> dict[str, Any]:
        underlying = call.params.need("underlying")
        if all(listing.underlying != underlying for listing in self._catalogue.all(Family.OPTIONS)):
            raise Refusal(-1128, "Invalid underlying.")
        meant = [
            order
            for order in self._desk.open_orders(call.account, None, Family.OPTIONS)
            if self._catalogue.of_symbol(order.market).underlying == underlying
        ]
        for order in meant:
            self._desk.cancel(call.account, order)
        return {"code": 0, "msg": "success", "data": len(meant)}

    # --- orders and fills out ---

    def _query(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(Family.OPTIONS, call.params)
        return order_row(listing, self._desk.find_asked_for(call.account, listing, call.params, "clientOrderId"))

    def _rows(self, call: Call, listing: Listing | None, orders: list[EngineOrder]) -> list[dict[str, Any]]:
        params = call.params
        limit, first = params.limit(100, 1000), params.integer("orderId")
        rows = [
            order_row(self._catalogue.of_symbol(order.market), order)
            for order in orders
            if within(order.created, params)
        ]
        found = [row for row in rows if first is None or row["orderId"] >= first]
        return page(found, params, limit, from_first=first is not None)

    def _open_orders(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.maybe_wanted(Family.OPTIONS, call.params)
        return self._rows(call, listing, self._desk.open_orders(call.account, listing, Family.OPTIONS))

    def _history(self, call: Call) -> list[dict[str, Any]]:
        """Orders that are done, of the last five days."""
        listing = self._catalogue.wanted(Family.OPTIONS, call.params)
        done = [
            order
            for order in self._desk.orders(call.account, listing, Family.OPTIONS)
            if order.status.is_final and order.created >= call.now_ms - _FIVE_DAYS_MS
        ]
        return self._rows(call, listing, done)

    def _user_trades(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.wanted(Family.OPTIONS, params)
        limit, first = params.limit(100, 1000), params.integer("fromId")
        rows = [
            self._fill_row(call.account, listing, fill)
            for fill in self._engine.fills(call.account, listing.symbol)
            if within(fill.time, params)
        ]
        found = [row for row in rows if first is None or row["tradeId"] >= first]
        return page(found, params, limit, from_first=first is not None)

    def _fill_row(self, account: Account, listing: Listing, fill: EngineFill) -> dict[str, Any]:
        order = self._engine.order(account, order_id=fill.order_id)
        return {
            "id": listing.ids.order_base + 7 + 2 * fill.trade_id,
            "tradeId": listing.ids.trade_base + fill.trade_id,
            "orderId": native_id(listing, order),
            "symbol": listing.native,
            "price": listing.price(fill.price),
            "quantity": listing.quantity(fill.quantity),
            "fee": fixed(-fill.fee, 8),  # negative: paid
            "realizedProfit": fixed(fill.realized_pnl, 8),
            "side": fill.side.value,
            "type": tag_of(order).type,
            "liquidity": "MAKER" if fill.liquidity is Liquidity.MAKER else "TAKER",
            "time": fill.time,
            "priceScale": listing.price_scale,
            "quantityScale": listing.quantity_scale,
            "optionSide": option_side(listing.market),
            "quoteAsset": listing.market.quote_asset,
        }

    # --- account ---

    def _positions(self, call: Call) -> list[dict[str, Any]]:
        wanted = self._catalogue.maybe_wanted(Family.OPTIONS, call.params)
        rows = []
        for position in self._engine.positions(call.account):
            if self._engine.markets[position.market].product != Family.OPTIONS or not position.quantity:
                continue
            listing = self._catalogue.of_symbol(position.market)
            if wanted is not None and wanted.symbol != listing.symbol:
                continue
            mark = self._engine.mark_price(listing.symbol)
            rows.append(
                {
                    "entryPrice": plain(position.entry_price),
                    "symbol": listing.native,
                    "side": "LONG" if position.quantity > 0 else "SHORT",
                    "quantity": listing.quantity(position.quantity),
                    "markValue": fixed(mark * abs(position.quantity), 8),
                    "unrealizedPNL": fixed((mark - position.entry_price) * position.quantity, 8),
                    "markPrice": listing.price(mark),
                    "strikePrice": plain(listing.market.strike),
                    "expiryDate": listing.market.expiry,
                    "priceScale": listing.price_scale,
                    "quantityScale": listing.quantity_scale,
                    "optionSide": option_side(listing.market),
                    "quoteAsset": listing.market.quote_asset,
                    "time": call.now_ms,
                    "bidQuantity": listing.quantity(None),
                    "askQuantity": listing.quantity(None),
                }
            )
        return rows

    def _margin_account(self, call: Call) -> dict[str, Any]:
        profit = sum(
            (Decimal(row["unrealizedPNL"]) for row in self._positions(Call(call.family, Params({}), 0, call.caller))),
            Decimal(0),
        )
        assets = []
        for balance in self._engine.balances(call.account):
            if balance.wallet != self._wallet():
                continue
            assets.append(
                {
                    "asset": balance.asset,
                    "marginBalance": fixed(balance.total, 8),
                    "equity": fixed(balance.total + profit, 8),
                    "available": fixed(balance.available, 8),
                    "initialMargin": fixed(balance.locked, 8),
                    "maintMargin": fixed(None, 8),
                    "unrealizedPNL": fixed(profit, 8),
                    "adjustedEquity": fixed(balance.total + profit, 8),
                }
            )
        greek = {"delta": "0", "gamma": "0", "theta": "0", "vega": "0"}
        underlyings = dict.fromkeys(listing.underlying for listing in self._catalogue.all(Family.OPTIONS))
        return {
            "asset": assets,
            "greek": [{"underlying": underlying, **greek} for underlying in underlyings],
            "time": call.now_ms,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "reduceOnly": False,
            "tradeGroupId": -1,
        }

    def _wallet(self) -> str:
        listing = next(self._catalogue.all(Family.OPTIONS), None)
        return Family.OPTIONS.value if listing is None else self._engine.wallet_of(listing.symbol)

    def _commission(self, call: Call) -> dict[str, Any]:
        rates = {
            listing.underlying: self._engine.fee_rates(listing.symbol)
            for listing in self._catalogue.all(Family.OPTIONS)
        }
        return {
            "commissions": [
                {"underlying": underlying, "makerFee": fixed(maker, 6), "takerFee": fixed(taker, 6)}
                for underlying, (maker, taker) in rates.items()
            ]
        }


def order_row(listing: Listing, order: EngineOrder) -> dict[str, Any]:
    """An order as this family prints it; `postOnly` only where it is asked for later (GET, POST)."""
    tag = tag_of(order)
    return {
        "orderId": native_id(listing, order),
        "symbol": listing.native,
        "price": plain(order.price),
        "quantity": plain(order.quantity),
        "executedQty": plain(order.filled),
        "side": order.side.value,
        "type": tag.type,
        "timeInForce": shown_time_in_force(order),
        "reduceOnly": order.reduce_only,
        "postOnly": order.post_only,
        "createTime": order.created,
        "updateTime": order.updated,
        "status": status_text(order, Family.OPTIONS),
        "avgPrice": plain(order.average_price),
        "clientOrderId": tag.client_id,
        "priceScale": listing.price_scale,
        "quantityScale": listing.quantity_scale,
        "optionSide": option_side(listing.market),
        "quoteAsset": listing.market.quote_asset,
        "mmp": tag.mmp,
        "selfTradePreventionMode": tag.stp,
    }
