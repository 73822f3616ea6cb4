"""Spot's private REST: accounts, orders, fills, fees, the dead man's switch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, NewOrder, Reject
from astra.sandbox.toolkit import plain
from astra_htx.sandbox import spot_reports as reports
from astra_htx.sandbox.calls import Call, Endpoint, Routes, names
from astra_htx.sandbox.catalogue import Listing
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.listings_rest import SPOT
from astra_htx.sandbox.orders import OrderDesk, Ticket, ticket_of
from astra_htx.sandbox.refusals import refusal_of
from astra_htx.sandbox.wire import Envelope, Family, Params, Refusal, Whole, missing, wrong

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KINDS = {
    "limit": (OrderType.LIMIT, TimeInForce.GTC, False),
    "market": (OrderType.MARKET, TimeInForce.GTC, False),
    "ioc": (OrderType.LIMIT, TimeInForce.IOC, False),
    "limit-maker": (OrderType.LIMIT, TimeInForce.GTC, True),
    "limit-fok": (OrderType.LIMIT, TimeInForce.FOK, False),
    "stop-limit": (OrderType.STOP_LIMIT, TimeInForce.GTC, False),
    "stop-limit-fok": (OrderType.STOP_LIMIT, TimeInForce.FOK, False),
}
"""Kind of a `type` (behind `buy-` or `sell-`) -> (engine's type, time in force, post-only)."""
_ORDER = names("account-id symbol type amount price source client-order-id self-match-prevent stop-price operator")
_TWO_HOURS_MS = 2 * 3600 * 1000
_WINDOW_MS = 48 * 3600 * 1000
_VALUE_STEP = Decimal("1E-8")
_SOURCES = ("spot-api", "margin-api", "super-margin-api", "c2c-margin-api")


class SpotAccount:
    """The handlers."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk

    def routes(self) -> Routes:
        routes: dict[tuple[str, str, str], Endpoint] = {}

        def add(
            method: str,
            path: str,
            handler: Any,
            accepts: str | frozenset[str] = "",
            counter: Counter = Counter.SPOT_USUAL,
            *,
            envelope: Envelope = Envelope.SPOT,
            command: bool = False,
            batch: bool = False,
        ) -> None:
            known = names(accepts) if isinstance(accepts, str) else accepts
            routes[SPOT, method, path] = Endpoint(
                handler, envelope, counter, known, signed=True, command=command, batch=batch
            )

        fast, slow = Counter.SPOT_FAST, Counter.SPOT_SLOW
        add("GET", "/v1/account/accounts", self._accounts, counter=fast)
        add("GET", "/v1/account/accounts/{id}/balance", self._balance, counter=fast)
        add("POST", "/v1/order/orders/place", self._place, _ORDER, fast, command=True)
        add("POST", "/v1/order/batch-orders", self._place_many, _ORDER, command=True, batch=True)
        add("POST", "/v1/order/orders/{id}/submitcancel", self._cancel, "symbol", fast, command=True)
        add(
            "POST",
            "/v1/order/orders/submitCancelClientOrder",
            self._cancel_by_client_id,
            "client-order-id",
            fast,
            command=True,
        )
        add("POST", "/v1/order/orders/batchcancel", self._cancel_many, "order-ids client-order-ids", command=True)
        add(
            "POST",
            "/v1/order/orders/batchCancelOpenOrders",
            self._cancel_by_criteria,
            "account-id symbol types side size",
            command=True,
        )
        add("GET", "/v1/order/cancelAllOrders", self._cancel_all, "symbol", Counter.SPOT_ALL, command=True)
        add(
            "POST",
            "/v2/algo-orders/cancel-all-after",
            self._cancel_after,
            "timeout",
            envelope=Envelope.SPOT_V2,
            command=True,
        )
        add("GET", "/v1/order/openOrders", self._open, "account-id symbol side types from direct size")
        # Before `{id}`: these are no order ids.
        add("GET", "/v1/order/orders/getClientOrder", self._by_client_id, "clientOrderId")
        add("GET", "/v1/order/orders/{id}", self._one)
        listing = "symbol types start-time end-time from direct size"
        add("GET", "/v1/order/orders", self._history, f"{listing} states start-date end-date")
        add("GET", "/v1/order/history", self._recent, "symbol start-time end-time direct size")
        add("GET", "/v1/order/orders/{id}/matchresults", self._fills_of, counter=slow)
        add("GET", "/v1/order/matchresults", self._fills, f"{listing} start-date end-date", slow)
        add("GET", "/v2/reference/transact-fee-rate", self._fees, "symbols", envelope=Envelope.SPOT_V2)
        return routes

    # --- accounts ---

    def _accounts(self, call: Call) -> Any:
        number = reports.account_id(call.account)
        return [
            {"id": number + 10_000_000, "type": "point", "subtype": "", "state": "working"},
            {"id": number, "type": "spot", "subtype": "", "state": "working"},
        ]

    def _balance(self, call: Call) -> Any:
        number = reports.account_id(call.account)
        if call.part != str(number):
            raise Refusal("account-get-balance-account-inexistent-error", "The account does not exist.")
        rows = [
            row
            for balance in self._desk.engine.balances(call.account)
            if balance.wallet == Family.SPOT
            for row in reports.balance_rows(balance, call.now_ms)
        ]
        return Whole(
            {
                "status": "ok",
                "data": {"id": number, "type": "spot", "state": "working", "list": rows},
                "ts": call.now_ms,
            }
        )

    def _fees(self, call: Call) -> Any:
        rows = []
        symbols = call.params.required("symbols").split(",")
        if len(symbols) > 10:
            raise wrong(call.params.envelope, "symbols", "at most 10")
        for native in symbols:
            listing = self._desk.catalogue.find(Family.SPOT, native)
            if listing is None:
                raise wrong(call.params.envelope, "symbols")
            maker, taker = (plain(rate) for rate in self._desk.engine.fee_rates(listing.symbol))
            rows.append(
                {
                    "symbol": native,
                    "actualMakerRate": maker,
                    "actualTakerRate": taker,
                    "takerFeeRate": taker,
                    "makerFeeRate": maker,
                }
            )
        return rows

    # --- placing ---

    def _place(self, call: Call) -> Any:
        return str(self._desk.native_id(self.place(call.account, call.params)))

    def _place_many(self, call: Call) -> Any:
        """At most ten; each succeeds or fails alone. Order ids are numbers here."""
        if not 1 <= len(call.items) <= 10:
            raise wrong(call.params.envelope, "orders", "1 to 10")
        rows = []
        for item in call.items:
            params = Params(item if isinstance(item, dict) else {}, call.params.envelope)
            client_id = params.values.get("client-order-id")
            row = {} if client_id is None else {"client-order-id": client_id}
            try:
                params.check_names(_ORDER)
                row = {"order-id": self._desk.native_id(self.place(call.account, params))} | row
            except Reject as reject:
                refusal = refusal_of(reject, Family.SPOT)
                row |= {"err-code": refusal.code, "err-msg": refusal.message}
            except Refusal as refusal:
                row |= {"err-code": refusal.code, "err-msg": refusal.message}
            rows.append(row)
        return rows

    def place(self, account: Account, params: Params) -> EngineOrder:
        """An order as its parameters say."""
        if params.required("account-id") != str(reports.account_id(account)):
            raise Refusal("account-for-id-not-exist", "The account-id is not yours.")
        listing = self._market(params.required("symbol"))
        side_text, _, kind = params.required("type").partition("-")
        if kind not in _KINDS or side_text not in ("buy", "sell"):
            raise Refusal("order-type-invalid", "The order type is invalid.")
        side = Side(side_text.upper())
        order_type, time_in_force, post_only = _KINDS[kind]
        amount = params.decimal("amount")
        if amount is None:
            raise missing(params.envelope, "amount")
        price, stop_price, operator = self._prices(params, order_type)
        if order_type is OrderType.STOP_LIMIT and (operator == "gte") != (side is Side.BUY):
            order_type = OrderType.TAKE_PROFIT_LIMIT
        by_value = order_type is OrderType.MARKET and side is Side.BUY
        if by_value and amount % _VALUE_STEP:
            raise Refusal("order-orderamount-precision-error", "order value precision error, scale: `8`")
        ticket = Ticket(
            kind=f"{side_text}-{kind}",
            client_id=self._client_id(params),
            source=params.one_of("source", _SOURCES, "spot-api"),
            operator=operator,
        )
        params.one_of("self-match-prevent", ("0", "1"), "0")
        new = NewOrder(
            market=listing.symbol,
            side=side,
            type=order_type,
            quantity=None if by_value else amount,
            quote_quantity=amount if by_value else None,
            price=price,
            stop_price=stop_price,
            time_in_force=time_in_force,
            post_only=post_only,
        )
        self._check_funds(account, listing, new)
        return self._desk.place(account, new, ticket, hedged=account.hedge_mode)

    def _check_funds(self, account: Account, listing: Listing, new: NewOrder) -> None:
        """A shortage is told with what is left."""
        asset, needed = listing.base, new.quantity or Decimal(0)
        if new.side is Side.BUY:
            asset = listing.quote
            needed = new.quote_quantity or needed * (new.price or Decimal(0))
        left = sum(
            (
                balance.available
                for balance in self._desk.engine.balances(account)
                if (balance.wallet, balance.asset) == (Family.SPOT, asset)
            ),
            Decimal(0),
        )
        on_grid = new.quantity is None or not new.quantity % (listing.market.lot_size or 1)
        if needed > left and on_grid:
            text = f"trade account balance is not enough, left: `{plain(left)}`"
            raise Refusal("account-frozen-balance-insufficient-error", text)

    def _prices(self, params: Params, order_type: OrderType) -> tuple[Decimal | None, Decimal | None, str | None]:
        """Price, stop price and operator, as the type wants them."""
        price, stop_price = params.decimal("price"), params.decimal("stop-price")
        if order_type is OrderType.MARKET:
            price = None  # the venue does not look at it
        elif price is None:
            raise Refusal("order-invalid-price", "invalid price")
        if order_type is not OrderType.STOP_LIMIT:
            if stop_price is not None:
                raise wrong(params.envelope, "stop-price")
            return price, None, None
        if stop_price is None:
            raise missing(params.envelope, "stop-price")
        return price, stop_price, params.one_of("operator", ("gte", "lte"))

    def _client_id(self, params: Params) -> str | None:
        client_id = params.text("client-order-id")
        if client_id is not None and not _CLIENT_ID.fullmatch(client_id):
            raise wrong(params.envelope, "client-order-id", "letters, digits, _ and -, at most 64")
        return client_id

    def _market(self, native: str) -> Listing:
        listing = self._desk.catalogue.find(Family.SPOT, native)
        if listing is None:
            raise Refusal("base-symbol-error", "The symbol is invalid")
        return listing

    # --- cancelling ---

    def _cancel(self, call: Call) -> Any:
        order = self._desk.by_id(call.account, Family.SPOT, call.part)
        if order is None:
            raise Refusal("base-record-invalid", "record invalid")
        refused = self._cancel_one(call.account, order)
        if refused is not None:
            return Whole({"status": "error", "data": None, **refused})
        return call.part

    def _cancel_one(self, account: Account, order: EngineOrder) -> dict[str, Any] | None:
        """Cancel; None, or what the venue says of an order that is done."""
        if not order.status.is_open:
            return {
                "err-code": "order-orderstate-error",
                "err-msg": "Incorrect order state",
                "order-state": reports.CLOSED_STATES[reports.state_of(order)],
            }
        self._desk.cancel(order, account)
        return None

    def _cancel_by_client_id(self, call: Call) -> Any:
        """The answer is a number: the order is being cancelled, or how it ended before."""
        order = self._desk.named(call.account, Family.SPOT, call.params.required("client-order-id"), call.now_ms)
        if order is None:
            raise Refusal("base-not-found", "The record is not found.")
        refused = self._cancel_one(call.account, order)
        return reports.CANCELING if refused is None else refused["order-state"]

    def _cancel_many(self, call: Call) -> Any:
        ids, client_ids = call.params.items("order-ids"), call.params.items("client-order-ids")
        if bool(ids) == bool(client_ids) or len(ids or client_ids) > 50:
            raise wrong(call.params.envelope, "order-ids", "give up to 50 order-ids or client-order-ids")
        success: list[str] = []
        failed: list[dict[str, Any]] = []
        for wanted in ids or client_ids:
            if ids:
                order = self._desk.by_id(call.account, Family.SPOT, wanted)
            else:
                order = self._desk.named(call.account, Family.SPOT, wanted, call.now_ms)
            if order is None:
                refused: dict[str, Any] | None = {"err-code": "base-not-found", "err-msg": "The record is not found."}
            else:
                refused = self._cancel_one(call.account, order)
            if refused is None:
                success.append(wanted)
            else:
                named = {"order-id": wanted if ids else "", "client-order-id": "" if ids else wanted}
                failed.append(refused | named)
        return {"success": success, "failed": failed}

    def _cancel_by_criteria(self, call: Call) -> Any:
        """At most 100 orders a call; `next-id` names the first that is left."""
        symbols, types = call.params.items("symbol"), call.params.items("types")
        side, size = call.params.text("side"), call.params.integer("size", 100) or 100
        if not 1 <= size <= 100:
            raise wrong(call.params.envelope, "size")
        for native in symbols:
            self._market(native)
        matching = [
            order
            for order in self._desk.open_orders(call.account, Family.SPOT)
            if (not symbols or self._desk.listing(order).native in symbols)
            and (not types or ticket_of(order, Family.SPOT).kind in types)
            and side in (None, order.side.lower())
        ]
        self._desk.cancel_all(call.account, matching[:size])
        left = matching[size:]
        return {
            "success-count": len(matching) - len(left),
            "failed-count": 0,
            "next-id": self._desk.native_id(left[0]) if left else -1,
        }

    def _cancel_all(self, call: Call) -> Any:
        symbols = call.params.items("symbol")
        found = self._desk.open_orders(call.account, Family.SPOT)
        self._desk.cancel_all(
            call.account, [one for one in found if not symbols or self._desk.listing(one).native in symbols]
        )
        return Whole({"status": "ok"})

    def _cancel_after(self, call: Call) -> Any:
        timeout = call.params.integer("timeout")
        if timeout is None:
            raise missing(call.params.envelope, "timeout")
        if timeout != 0 and timeout < 5:
            raise wrong(call.params.envelope, "timeout", "0, or at least 5 seconds")
        due = call.now_ms + timeout * 1000 if timeout else None
        self._desk.set_countdown(call.account, Family.SPOT, due)
        return Whole({"code": 200, "message": "success", "data": {"currentTime": call.now_ms, "triggerTime": due or 0}})

    # --- looking up ---

    def _one(self, call: Call) -> Any:
        order = self._desk.by_id(call.account, Family.SPOT, call.part)
        return self._shown(order, call)

    def _by_client_id(self, call: Call) -> Any:
        """Orders that are done answer to their client id for two hours from their creation."""
        order = self._desk.named(call.account, Family.SPOT, call.params.required("clientOrderId"), call.now_ms)
        if order is not None and not order.status.is_open and call.now_ms - order.created > _TWO_HOURS_MS:
            order = None
        return self._shown(order, call)

    def _shown(self, order: EngineOrder | None, call: Call) -> Any:
        if order is None or self._vanished(order, call.now_ms):
            raise Refusal("base-record-invalid", "record invalid")
        return reports.order_row(self._desk, order, call.account)

    @staticmethod
    def _vanished(order: EngineOrder, now_ms: int) -> bool:
        """Cancelled without a fill more than two hours ago."""
        return reports.state_of(order) == "canceled" and now_ms - order.updated > _TWO_HOURS_MS

    def _open(self, call: Call) -> Any:
        params = call.params
        found = self._desk.open_orders(call.account, Family.SPOT)
        native, side, types = params.text("symbol"), params.text("side"), params.items("types")
        if native is not None:
            self._market(native)
        matching = [
            order
            for order in found
            if native in (None, self._desk.listing(order).native)
            and side in (None, order.side.lower())
            and (not types or ticket_of(order, Family.SPOT).kind in types)
        ]
        page = self._page(matching, params, default=100, most=500)
        return [reports.order_row(self._desk, order, call.account, listed_open=True) for order in page]

    def _page(self, orders: Sequence[EngineOrder], params: Params, *, default: int, most: int) -> list[EngineOrder]:
        """Newest first; `from` an order id (included), `direct` next (older ones) or prev (newer ones)."""
        size = params.integer("size", default) or default
        if not 1 <= size <= most:
            raise wrong(params.envelope, "size")
        start = params.integer("from")
        newest = sorted(orders, key=lambda one: one.id, reverse=True)
        if start is None:
            return newest[:size]
        if params.one_of("direct", ("prev", "next"), "next") == "next":
            return [order for order in newest if self._desk.native_id(order) <= start][:size]
        return [order for order in newest if self._desk.native_id(order) >= start][-size:]

    def _history(self, call: Call) -> Any:
        params = call.params
        listing = self._market(params.required("symbol"))
        states, types = params.items("states"), params.items("types")
        start, end = self._span(params, call.now_ms)
        matching = [
            order
            for order in self._desk.engine.orders(call.account, listing.symbol)
            if start <= order.created <= end
            and (not states or reports.state_of(order) in states)
            and (not types or ticket_of(order, Family.SPOT).kind in types)
            and not self._vanished(order, call.now_ms)
        ]
        page = self._page(matching, params, default=100, most=100)
        return [reports.order_row(self._desk, order, call.account) for order in page]

    def _recent(self, call: Call) -> Any:
        params = call.params
        native = params.text("symbol")
        start, end = self._span(params, call.now_ms)
        matching = [
            order
            for order in self._desk.orders(call.account, Family.SPOT)
            if start <= order.created <= end
            and not order.status.is_open
            and native in (None, self._desk.listing(order).native)
            and not self._vanished(order, call.now_ms)
        ]
        page = self._page(matching, params, default=100, most=1000)
        return [reports.order_row(self._desk, order, call.account) for order in page]

    @staticmethod
    def _span(params: Params, now_ms: int) -> tuple[int, int]:
        """The time asked for: at most 48 hours, the last ones if nothing is said."""
        start, end = params.integer("start-time"), params.integer("end-time")
        if end is None:
            end = now_ms if start is None else min(now_ms, start + _WINDOW_MS)
        if start is None:
            start = end - _WINDOW_MS
        if start > end or end - start > _WINDOW_MS:
            raise Refusal("invalid-interval", "The start time and end time are more than 48 hours apart.")
        return start, end

    # --- fills ---

    def _rows(self, fills: Iterable[EngineFill], account: Account) -> list[dict[str, Any]]:
        return [reports.fill_row(self._desk, fill, account) for fill in fills]

    def _fills_of(self, call: Call) -> Any:
        order = self._desk.by_id(call.account, Family.SPOT, call.part)
        if order is None:
            raise Refusal("base-record-invalid", "record invalid")
        return self._rows(reversed(order.fills), call.account)

    def _fills(self, call: Call) -> Any:
        params = call.params
        native = params.text("symbol")
        if native is not None:
            self._market(native)
        start, end = self._span(params, call.now_ms)
        size = params.integer("size", 100) or 100
        if not 1 <= size <= 500:
            raise wrong(params.envelope, "size")
        found = [
            fill
            for fill in self._desk.fills(call.account, Family.SPOT)
            if start <= fill.time <= end and native in (None, self._desk.listing(fill).native)
        ][::-1]
        first = params.integer("from")
        if first is not None:
            if params.one_of("direct", ("prev", "next"), "next") == "next":
                found = [fill for fill in found if reports.fill_number(self._desk, fill) <= first]
            else:
                found = [fill for fill in found if reports.fill_number(self._desk, fill) >= first][-size:]
        return self._rows(found[:size], call.account)
