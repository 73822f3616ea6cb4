"""Unified accounts: orders of both products under one roof, fills, positions, balances, settings."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderType, TimeInForce
from astra.sandbox import Account, EngineOrder, NewOrder, Reject
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import UNIFIED, Call, Endpoint, Routes, names
from astra_kucoin.sandbox.catalogue import Listing
from astra_kucoin.sandbox.futures_account import set_leverage
from astra_kucoin.sandbox.orders import (
    STP_MODES,
    UPPER_SIDES,
    OrderDesk,
    Tag,
    conditional_type,
    page,
    time_in_force,
)
from astra_kucoin.sandbox.refusals import PARAMETER, not_cancelable, refusal_of
from astra_kucoin.sandbox.spot_account import Countdown, SpotAccount
from astra_kucoin.sandbox.unified_market import TRADE_TYPE_OF, TRADE_TYPES, both_versions, named_listing
from astra_kucoin.sandbox.unified_reports import UnifiedReports
from astra_kucoin.sandbox.wire import FUTURES, SPOT, Params, Refusal, check_client_id

ZERO = Decimal(0)
_NEW_ORDER = names(
    "tradeType symbol side orderType size sizeUnit price timeInForce cancelAfter postOnly reduceOnly closeOrder stp"
    " clientOid marginMode positionSide triggerDirection triggerPrice triggerPriceType tags brokerTag"
)
_TYPES = {"LIMIT": OrderType.LIMIT, "MARKET": OrderType.MARKET}
_UNITS = {SPOT: ("BASECCY", "QUOTECCY"), FUTURES: ("UNIT", "BASECCY")}
_RISING = {"UP": True, "DOWN": False}
_BATCH = 20


class UnifiedAccount:
    """The private REST API of unified accounts; v1 and v2 take the same calls, v2 amends."""

    def __init__(self, desk: OrderDesk, reports: UnifiedReports, countdowns: SpotAccount) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = desk.catalogue
        self._reports = reports
        self._countdowns = countdowns

    def routes(self) -> Routes:
        def command(handler: Any, accepts: str | frozenset[str], weight: int = 1) -> Endpoint:
            known = names(accepts) if isinstance(accepts, str) else accepts
            return Endpoint(handler, known, "UNIFIED", weight, "Unified", UNIFIED, command=True, in_body=True)

        def change(handler: Any, accepts: str) -> Endpoint:
            return Endpoint(handler, names(accepts), "UNIFIED", 2, "Unified", UNIFIED, in_body=True)

        def look(handler: Any, accepts: str, weight: int = 2) -> Endpoint:
            return Endpoint(handler, names(accepts), "UNIFIED", weight, "General", UNIFIED)

        span = "tradeType symbol side orderFilter startAt endAt"
        table: dict[tuple[str, str], Endpoint] = {
            ("POST", "/unified/order/place"): command(self._place, _NEW_ORDER),
            ("POST", "/unified/order/cancel"): command(self._cancel, "tradeType symbol orderId clientOid"),
            ("POST", "/unified/order/cancel-batch"): command(self._cancel_batch, "tradeType cancelOrderList"),
            ("POST", "/unified/order/cancel-all"): command(self._cancel_all, "tradeType symbol orderFilter", 10),
            ("GET", "/unified/order/detail"): look(self._detail, "tradeType symbol orderId clientOid"),
            ("GET", "/unified/order/open-list"): look(self._open, f"{span} pageNumber pageSize"),
            ("GET", "/unified/order/history"): look(self._history, f"{span} lastId pageSize"),
            ("GET", "/unified/order/execution"): look(
                self._executions, "tradeType symbol side startAt endAt orderId clientOid lastId pageSize fillType"
            ),
            ("GET", "/unified/position/open-list"): look(self._positions, "symbol pageNumber pageSize limit"),
            ("POST", "/unified/position/margin-mode"): change(self._margin_mode, "symbol marginMode tradeType"),
            ("GET", "/unified/account/balance"): look(self._balances, "accountType currency", 5),
            ("GET", "/unified/account/overview"): look(self._overview, "", 5),
            ("POST", "/unified/account/modify-leverage"): change(
                self._leverage, "symbol leverage tradeType marginMode"
            ),
            ("GET", "/user/fee-rate"): look(self._fees, "tradeType symbol", 3),
            ("POST", "/dcp/set"): change(self._set_countdown, "tradeType timeout symbols"),
            ("GET", "/dcp/query"): look(self._countdown, "tradeType"),
        }
        amend = command(self._amend, "tradeType symbol orderId clientOid newPrice newSize sizeUnit cxlOnFail")
        return {**both_versions(table), ("spot_rest", "POST", "/api/ua/v2/unified/order/amend"): amend}

    # --- placing ---

    def _new_order(self, call: Call) -> tuple[Listing, NewOrder]:
        params = call.params
        listing = named_listing(self._catalogue, params)
        side = params.choice("side", UPPER_SIDES)
        kind = params.choice("orderType", _TYPES)
        client_id = check_client_id(params)
        if client_id is None and listing.product == FUTURES:
            raise params.bad("clientOid is required")
        unit = params.choice("sizeUnit", {name: name for name in _UNITS[listing.product]})
        size, price = params.decimal("size"), params.decimal("price")
        if size is None:
            raise params.bad("size is required")
        if kind is OrderType.LIMIT and (price is None or unit == "QUOTECCY"):
            raise params.bad("A limit order takes a price, and its size in BASECCY or UNIT")
        if params.text("positionSide") not in (None, "BOTH") or params.flag("closeOrder"):
            raise params.bad("The sandbox has no hedge mode and no closeOrder in unified accounts")
        in_force, after, expiry = time_in_force(params, call.now_ms)
        if listing.product == FUTURES and in_force is TimeInForce.GTD:
            raise params.bad("GTT is not supported for FUTURES")
        limit = kind is OrderType.LIMIT
        tag = Tag(
            unified=True,
            cancel_after=after,
            stp=params.choice("stp", STP_MODES) if "stp" in params else None,
            tags=params.text("tags"),
            size_unit=unit,
        )
        stop_price = params.decimal("triggerPrice")
        if stop_price is not None:
            tag.stop = params.choice("triggerDirection", {name: name for name in _RISING})
            tag.stop_price_type = params.choice("triggerPriceType", {name: name for name in ("TP", "IP", "MP")}, "TP")
            kind = conditional_type(side, rising=_RISING[tag.stop], limit=limit)
        return listing, NewOrder(
            market=listing.symbol,
            side=side,
            type=kind,
            quantity=None if unit == "QUOTECCY" else self._native(params, listing, unit, size),
            quote_quantity=size if unit == "QUOTECCY" else None,
            price=price if limit else None,
            stop_price=stop_price,
            time_in_force=in_force if limit else TimeInForce.GTC,
            post_only=params.flag("postOnly"),
            reduce_only=params.flag("reduceOnly"),
            client_order_id=client_id,
            expire_time=expiry if limit else None,
            tag=tag,
        )

    def _native(self, params: Params, listing: Listing, unit: str, size: Decimal) -> Decimal:
        """Lots, or base units on spot."""
        if listing.product == SPOT or unit == "UNIT":
            return size
        if listing.market.is_inverse:
            raise params.bad("sizeUnit BASECCY is not supported on inverse contracts")
        return size / listing.multiplier

    def _place(self, call: Call) -> dict[str, Any]:
        listing, new = self._new_order(call)
        order = self._desk.place(call.account, listing, new)
        return self._named(call, order)

    def _named(self, call: Call, order: EngineOrder) -> dict[str, Any]:
        return {
            "orderId": self._catalogue.order_id(order, unified=True),
            "tradeType": TRADE_TYPE_OF[self._catalogue.of_symbol(order.market).product],
            "ts": call.now_ms * 1_000_000,
            "clientOid": order.client_order_id,
        }

    def _amend(self, call: Call) -> dict[str, Any]:
        """In place: the order keeps its id."""
        params = call.params
        native = params.need("symbol")
        listing = self._catalogue.find(SPOT, native) or self._catalogue.find(FUTURES, native)
        if listing is None:
            raise params.bad("Unsupported trading pair")
        order = self._found(call.account, params, listing)
        price, size = params.decimal("newPrice"), params.decimal("newSize")
        if price is None and size is None:
            raise params.bad("newPrice or newSize is required")
        if size is not None:
            unit = params.choice("sizeUnit", {name: name for name in _UNITS[listing.product]})
            size = self._native(params, listing, unit, size)
        if not order.status.is_open:
            raise not_cancelable(FUTURES)
        try:
            self._engine.amend(call.account, order.id, price=price, quantity=size)
        except Reject as reject:
            raise refusal_of(reject, listing.product) from None
        return {"orderId": self._catalogue.order_id(order, unified=True), "clientOid": order.client_order_id}

    # --- cancelling ---

    def _found(self, account: Account, params: Params, listing: Listing) -> EngineOrder:
        native, client_id = params.text("orderId"), params.text("clientOid")
        if native is not None:
            return self._desk.by_id(account, listing.product, native, listing)
        if client_id is None:
            raise params.bad("orderId or clientOid is required")
        return self._desk.by_client_id(account, listing.product, client_id, listing)

    def _cancel_one(self, account: Account, params: Params) -> EngineOrder:
        listing = named_listing(self._catalogue, params)
        if params.text("orderId") is None and params.text("clientOid") is None:
            raise params.bad("orderId or clientOid is required")
        # One code for both products here; that of futures.
        return self._desk.cancel_found(account, FUTURES, lambda: self._open_order(account, params, listing))

    def _open_order(self, account: Account, params: Params, listing: Listing) -> EngineOrder:
        order = self._found(account, params, listing)
        if not order.status.is_open:
            raise not_cancelable(FUTURES)
        return order

    def _cancel(self, call: Call) -> dict[str, Any]:
        return self._named(call, self._cancel_one(call.account, call.params))

    def _cancel_batch(self, call: Call) -> dict[str, Any]:
        listed = call.params.values.get("cancelOrderList")
        if not isinstance(listed, list) or not 1 <= len(listed) <= _BATCH:
            raise call.params.bad(f"cancelOrderList must hold 1 to {_BATCH} orders")
        trade_type = call.params.need("tradeType")
        rows: list[dict[str, Any]] = []
        for item in listed:
            values = dict(item) if isinstance(item, Mapping) else {}
            row: dict[str, Any] = {name: values[name] for name in ("orderId", "clientOid") if name in values}
            try:
                self._cancel_one(call.account, Params({"tradeType": trade_type, **values}, PARAMETER["unified"]))
            except Refusal as refusal:
                row |= {"code": refusal.code, "msg": refusal.message}
            rows.append(row)
        return {"tradeType": trade_type, "items": rows}

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        product = call.params.choice("tradeType", TRADE_TYPES)
        listing = None if call.params.text("symbol") is None else named_listing(self._catalogue, call.params)
        advanced = call.params.choice("orderFilter", {"NORMAL": False, "ADVANCED": True}, "NORMAL")
        found = (self._desk.stops if advanced else self._desk.open_orders)(call.account, product, listing)
        rows = []
        for order in found:
            rows.append({"orderId": self._catalogue.order_id(order, unified=True)})
            self._desk.cancel(call.account, self._catalogue.of_symbol(order.market), order)
        return {"tradeType": call.params.need("tradeType"), "items": rows}

    # --- looking ---

    def _detail(self, call: Call) -> dict[str, Any]:
        """`tradeType` stands inside the row here."""
        listing = named_listing(self._catalogue, call.params)
        trade_type = TRADE_TYPE_OF[listing.product]
        native = call.params.text("orderId")
        parent = None if native is None else self._triggered_parent(call.account, native)
        if parent is not None:
            return self._parent_row(parent) | {"tradeType": trade_type, "tradeId": ""}
        order = self._found(call.account, call.params, listing)
        last = str(listing.trade_id(order.fills[-1].trade_id)) if order.fills else ""
        return self._reports.order_row(order) | {"tradeType": trade_type, "tradeId": last}

    def _triggered_parent(self, account: Account, native: str) -> EngineOrder | None:
        number = self._catalogue.engine_id(native)
        try:
            order = None if number is None else self._engine.order(account, order_id=number)
        except Reject:
            return None
        return order if order is not None and self._catalogue.parent_id(order) == native else None

    def _parent_row(self, order: EngineOrder) -> dict[str, Any]:
        """A conditional order when it has ended; a triggered one goes on as its child, under another id."""
        row = self._reports.order_row(order)
        if not order.triggered:
            return row
        return row | {
            "orderId": self._catalogue.parent_id(order),
            "triggerOrderId": "",
            "status": 1,
            "filledSize": "0",
            "avgPrice": "0",
            "fee": "0",
            "cancelSize": "0",
            "cancelReason": "",
        }

    def _wanted(self, params: Params) -> tuple[str, Listing | None]:
        product = params.choice("tradeType", TRADE_TYPES)
        if params.text("symbol") is not None:
            return product, named_listing(self._catalogue, params)
        if product == SPOT:
            raise params.bad("symbol is required")
        return product, None

    def _within(self, params: Params, side: str, time: int) -> bool:
        wanted = params.choice("side", UPPER_SIDES) if params.text("side") else None
        start, end = params.integer("startAt"), params.integer("endAt")
        return (wanted is None or wanted == side) and (start is None or time >= start) and (end is None or time <= end)

    def _open(self, call: Call) -> dict[str, Any]:
        params = call.params
        product, listing = self._wanted(params)
        advanced = params.choice("orderFilter", {"NORMAL": False, "ADVANCED": True}, "NORMAL")
        found = (self._desk.stops if advanced else self._desk.open_orders)(call.account, product, listing)
        found = [order for order in found if self._within(params, order.side, order.created)]
        number, size = params.bounded("pageNumber", 1, 1, 10**6), params.bounded("pageSize", 50, 1, 200)
        shown, pages = page(found, number, size)
        return {
            "pageNumber": number,
            "pageSize": size,
            "totalNum": len(found),
            "totalPage": pages,
            "items": [self._reports.order_row(order) for order in shown],
            "tradeType": params.need("tradeType"),
        }

    def _history(self, call: Call) -> dict[str, Any]:
        params = call.params
        product, listing = self._wanted(params)
        size, last = params.bounded("pageSize", 50, 1, 200), params.integer("lastId") or 0
        advanced = params.choice("orderFilter", {"NORMAL": False, "ADVANCED": True}, "NORMAL")
        if advanced:
            found = self._desk.ended_stops(call.account, product, listing)
        else:
            known = self._desk.orders(call.account, product, listing)
            found = [order for order in known if not order.status.is_open]
        found = [
            order
            for order in found
            if (not last or order.id < last) and self._within(params, order.side, order.created)
        ][:size]
        row = self._parent_row if advanced else self._reports.order_row
        return {
            "lastId": found[-1].id if found else 0,
            "items": [row(order) for order in found],
            "tradeType": params.need("tradeType"),
        }

    def _executions(self, call: Call) -> dict[str, Any]:
        params = call.params
        product, listing = self._wanted(params)
        size, last = params.bounded("pageSize", 50, 1, 200), params.integer("lastId") or 0
        wanted = None
        if listing is not None and (params.text("orderId") or params.text("clientOid")):
            wanted = self._found(call.account, params, listing).id
        normal = params.text("fillType") in (None, "NORMAL")
        fills = self._desk.fills(call.account, product, listing) if normal else []
        total = len(fills)  # the cursor counts from the oldest, so that new fills do not move it
        rows = [
            (total - index, fill)
            for index, fill in enumerate(fills)
            if wanted in (None, fill.order_id) and self._within(params, fill.side, fill.time)
        ]
        rows = [(cursor, fill) for cursor, fill in rows if not last or cursor < last][:size]
        return {
            "lastId": rows[-1][0] if rows else 0,
            "tradeType": params.need("tradeType"),
            "items": [self._reports.fill_row(call.account, fill) for _, fill in rows],
        }

    def _positions(self, call: Call) -> list[dict[str, Any]]:
        wanted = call.params.text("symbol")
        rows = [
            self._reports.position_row(call.account, position, call.now_ms)
            for position in self._engine.positions(call.account)
        ]
        return [row for row in rows if wanted in (None, row["symbol"])]

    # --- money and settings ---

    def _balances(self, call: Call) -> dict[str, Any]:
        wanted = call.params.text("currency")
        rows = []
        for asset, (total, locked) in self._reports.balances(call.account).items():
            if wanted not in (None, asset):
                continue
            whole = format(total, ".10f")
            rows.append(
                {
                    "currency": asset,
                    "equity": whole,
                    "hold": format(locked, ".10f"),
                    "balance": whole,
                    "available": format(total - locked, ".10f"),
                    "liability": "0.0000000000",
                }
            )
        return {"accountType": "UNIFIED", "ts": call.now_ms, "accounts": [{"currencies": rows}]}

    def _overview(self, call: Call) -> dict[str, str]:
        total, locked = self._reports.balances(call.account).get("USDT", (ZERO, ZERO))
        return {
            "accountType": "UNIFIED",
            "riskRatio": "0.0000000000",
            "equity": format(total, ".10f"),
            "liability": "0.0000000000",
            "availableMargin": format(total - locked, ".10f"),
            "adjustedEquity": format(total, ".10f"),
            "im": format(locked, ".10f"),
            "mm": "0.0000000000",
        }

    def _contract(self, params: Params) -> Listing:
        listing = self._catalogue.find(FUTURES, params.need("symbol"))
        if listing is None:
            raise params.bad("Unsupported trading pair")
        return listing

    def _margin_mode(self, call: Call) -> dict[str, str]:
        listing = self._contract(call.params)
        mode = call.params.choice("marginMode", {"CROSS": "CROSS", "ISOLATED": "ISOLATED"})
        call.account.settings.setdefault("margin_modes", {})[listing.symbol] = mode
        return {"symbol": listing.native, "marginMode": mode}

    def _leverage(self, call: Call) -> None:
        leverage = call.params.decimal("leverage")
        if leverage is None or not 1 <= leverage <= 125:
            raise call.params.bad("leverage is invalid")
        set_leverage(call.account, self._contract(call.params), leverage)

    def _fees(self, call: Call) -> dict[str, Any]:
        product = call.params.choice("tradeType", TRADE_TYPES)
        rows = []
        for name in call.params.need("symbol").split(","):
            listing = self._catalogue.find(product, name)
            if listing is None:
                raise call.params.bad("Unsupported trading pair")
            maker, taker = self._engine.fee_rates(listing.symbol)
            rows.append({"symbol": name, "takerFeeRate": plain(taker), "makerFeeRate": plain(maker)})
        return {"tradeType": call.params.need("tradeType"), "list": rows}

    # --- the dead man's switch ---

    def _set_countdown(self, call: Call) -> Any:
        product = call.params.choice("tradeType", TRADE_TYPES)
        timeout = call.params.integer("timeout")
        if timeout is None or (timeout != -1 and not 5 <= timeout <= 86_400):
            raise call.params.bad("timeout must be -1 or 5 to 86400 seconds")
        listed = call.params.values.get("symbols") or []
        symbols = tuple(listed.split(",")) if isinstance(listed, str) else tuple(map(str, listed))
        countdown = Countdown(call.account, timeout, symbols, call.now_ms + timeout * 1000, product)
        self._countdowns.start_countdown(countdown, call)
        return self._countdown(call)

    def _countdown(self, call: Call) -> Any:
        product = call.params.choice("tradeType", TRADE_TYPES)
        found = self._countdowns.countdown_of(call.account, product)
        if found is None:
            return None
        return {
            "tradeType": TRADE_TYPE_OF[product],
            "symbol": list(found.symbols),
            "systemTime": call.now_ms // 1000,
            "triggerTime": found.trigger_ms // 1000,
        }
