"""Coin-margined contracts' private REST: swaps under `/swap-api`, dated futures under `/api`, alike but for names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, NewOrder, Reject
from astra.sandbox.toolkit import plain
from astra_htx.sandbox import contract_reports as reports
from astra_htx.sandbox.calls import Call, Endpoint, Routes, names
from astra_htx.sandbox.catalogue import Listing
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.linear_rest import (
    PRICE_MATCH_LEVELS,
    client_order_id,
    matched_price,
    set_countdown,
    span,
)
from astra_htx.sandbox.listings_rest import DERIVATIVES
from astra_htx.sandbox.orders import OrderDesk, Ticket, ended
from astra_htx.sandbox.refusals import refusal_of
from astra_htx.sandbox.wire import Envelope, Family, Params, Refusal, missing, wrong

_ORDER = names(
    "contract_code symbol contract_type volume direction offset lever_rate order_price_type price client_order_id "
    "self_match_prevent channel_code tp_trigger_price tp_order_price tp_order_price_type sl_trigger_price "
    "sl_order_price sl_order_price_type"
)
_LIMITS = {
    "limit": (TimeInForce.GTC, False),
    "post_only": (TimeInForce.GTC, True),
    "ioc": (TimeInForce.IOC, False),
    "fok": (TimeInForce.FOK, False),
}
_SUFFIXES = {"": TimeInForce.GTC, "_ioc": TimeInForce.IOC, "_fok": TimeInForce.FOK}
_MATCHING = {
    f"{name}{suffix}": (levels, time_in_force)
    for name, levels in PRICE_MATCH_LEVELS.items()
    for suffix, time_in_force in _SUFFIXES.items()
}
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_CANCELLED_MS = 4 * 3600 * 1000


class CoinAccount:
    """The handlers of one of the two families."""

    def __init__(self, desk: OrderDesk, family: Family) -> None:
        self._desk = desk
        self._family = family
        self._futures = family is Family.COIN_FUTURES
        self._switched: dict[tuple[str, str], int] = {}

    def routes(self) -> Routes:
        routes: dict[tuple[str, str, str], Endpoint] = {}
        prefix, noun = ("/api", "contract") if self._futures else ("/swap-api", "swap")
        key = "symbol contract_code" if self._futures else "contract_code"

        def add(
            path: str,
            handler: Callable[[Call], Any],
            accepts: str | frozenset[str],
            *,
            command: bool = False,
            envelope: Envelope = Envelope.DERIVATIVES,
        ) -> None:
            known = names(accepts) if isinstance(accepts, str) else accepts
            counter = Counter.COIN_TRADE if command else Counter.COIN_READ
            routes[DERIVATIVES, "POST", f"{prefix}/{path}"] = Endpoint(
                handler, envelope, counter, known, signed=True, command=command
            )

        add(f"v1/{noun}_account_info", self._accounts, key)
        add(f"v1/{noun}_position_info", self._positions, key)
        add(f"v1/{noun}_order", self._place, _ORDER, command=True)
        add(f"v1/{noun}_batchorder", self._place_many, "orders_data", command=True)
        add(f"v1/{noun}_cancel", self._cancel, f"{key} order_id client_order_id", command=True)
        add(f"v1/{noun}_cancelall", self._cancel_all, f"{key} contract_type direction offset", command=True)
        add(f"v1/{noun}_order_info", self._orders, f"{key} order_id client_order_id")
        add(f"v1/{noun}_order_detail", self._detail, f"{key} order_id created_at order_type page_index page_size")
        add(f"v1/{noun}_openorders", self._open, f"{key} page_index page_size sort_by trade_type")
        add(f"v1/{noun}_fee", self._fees, key)
        add(f"v1/{noun}_switch_lever_rate", self._switch, f"{key} lever_rate", command=True)
        dashed = "v1/contract-cancel-after" if self._futures else "v1/swap-cancel-after"
        add(
            dashed,
            lambda call: set_countdown(self._desk, call, self._family),
            "on_off time_out",
            command=True,
            envelope=Envelope.V3,
        )
        page = "contract trade_type start_time end_time direct from_id page_size" + (" symbol" * self._futures)
        v3 = Envelope.V3
        add(f"v3/{noun}_hisorders", self._history, f"{page} type status sort_by", envelope=v3)
        add(f"v3/{noun}_matchresults", self._fills, page, envelope=v3)
        for query in ("hisorders", "matchresults"):  # ccxt asks for the spelling without paging
            exact = routes[DERIVATIVES, "POST", f"{prefix}/v3/{noun}_{query}"]
            routes[DERIVATIVES, "POST", f"{prefix}/v3/{noun}_{query}_exact"] = exact
        return routes

    # --- markets ---

    def _find(self, native: str) -> Listing:
        listing = self._desk.catalogue.find(self._family, native)
        if listing is None:
            raise Refusal(1013, "This contract symbol doesnt exist.")
        return listing

    def _named(self, params: Params, key: str = "contract_code") -> Listing | None:
        native = params.text(key)
        return None if native is None else self._find(native)

    def _order_market(self, params: Params) -> Listing:
        """By contract code; dated futures alternatively by symbol and contract type."""
        listing = self._named(params)
        if listing is not None:
            return listing
        base, kind = params.text("symbol"), params.text("contract_type")
        if self._futures and base is not None and kind is not None:
            for one in self._desk.catalogue.all(self._family):
                if (one.base, one.contract_type) == (base.upper(), kind):
                    return one
            raise Refusal(1013, "This contract symbol doesnt exist.")
        raise missing(params.envelope, "contract_code")

    def _asset(self, params: Params, *, needed: bool) -> str | None:
        """Dated futures are asked for by base asset, swaps by contract."""
        if not self._futures:
            listing = self._named(params)
            if listing is None and needed:
                raise missing(params.envelope, "contract_code")
            return None if listing is None else listing.settle
        base = params.text("symbol")
        if base is None:
            if needed:
                raise missing(params.envelope, "symbol")
            return None
        if base.upper() not in self._assets():
            raise Refusal(1013, "This contract symbol doesnt exist.")
        return base.upper()

    def _assets(self) -> list[str]:
        return list(dict.fromkeys(listing.settle for listing in self._desk.catalogue.all(self._family)))

    def _concerned(self, params: Params, orders: Iterable[EngineOrder], *, needed: bool = True) -> list[EngineOrder]:
        """The orders of the asset (and contract) that the parameters name."""
        asset, listing = self._asset(params, needed=needed), self._named(params)
        return [
            order
            for order in orders
            if asset in (None, self._desk.listing(order).settle) and (listing is None or order.market == listing.symbol)
        ]

    # --- account ---

    def _accounts(self, call: Call) -> Any:
        asset = self._asset(call.params, needed=False)
        return [
            reports.coin_account(self._desk, call.account, self._family, one)
            for one in self._assets()
            if asset in (None, one)
        ]

    def _positions(self, call: Call) -> Any:
        asset, listing = self._asset(call.params, needed=False), self._named(call.params)
        return [
            reports.coin_position(self._desk, one, call.account)
            for one in self._desk.positions(call.account, self._family)
            if asset in (None, self._desk.listing(one).settle) and (listing is None or one.market == listing.symbol)
        ]

    def _fees(self, call: Call) -> Any:
        asset = self._asset(call.params, needed=False)
        rows: list[dict[str, Any]] = []
        for listing in self._desk.catalogue.all(self._family):
            if asset not in (None, listing.settle):
                continue
            maker, taker = (plain(rate) for rate in self._desk.engine.fee_rates(listing.symbol))
            row: dict[str, Any] = {"symbol": listing.base}
            if not self._futures:
                row["contract_code"] = listing.native
            elif any(known["symbol"] == listing.base for known in rows):
                continue
            row |= {
                f"{offset}_{role}_fee": fee
                for offset in ("open", "close")
                for role, fee in (("maker", maker), ("taker", taker))
            }
            rows.append(row | {"delivery_fee": "0.0005", "fee_asset": listing.settle})
        return rows

    def _switch(self, call: Call) -> Any:
        """Once in three seconds, and not with open orders. Dated futures switch all contracts of the asset."""
        leverage = call.params.integer("lever_rate")
        if leverage is None or not 1 <= leverage <= 200:
            raise wrong(call.params.envelope, "lever_rate")
        asset = self._asset(call.params, needed=True)
        assert asset is not None
        concerned = [one for one in self._desk.catalogue.all(self._family) if one.settle == asset]
        if any(self._desk.engine.open_orders(call.account, one.symbol) for one in concerned):
            raise Refusal(1045, "Unable to switch leverage due to open orders.")
        last = self._switched.get((call.account.name, asset))
        if last is not None and call.now_ms - last < 3000:
            raise Refusal(1032, "The number of access exceeded the limit.")
        self._switched[call.account.name, asset] = call.now_ms
        for listing in concerned:
            self._desk.set_leverage(call.account, listing, leverage)
        named = {"symbol": asset} if self._futures else {"contract_code": concerned[0].native}
        return named | {"lever_rate": leverage}

    # --- placing ---

    def _place(self, call: Call) -> Any:
        return self._ids(self.place(call.account, call.params, call.now_ms))

    def _ids(self, order: EngineOrder) -> dict[str, Any]:
        order_id = self._desk.native_id(order)
        ids: dict[str, Any] = {"order_id": order_id, "order_id_str": str(order_id)}
        client_id = self._client_id(order)
        return ids if client_id is None else ids | {"client_order_id": int(client_id)}

    @staticmethod
    def _client_id(order: EngineOrder) -> str | None:
        return order.tag.client_id if isinstance(order.tag, Ticket) else order.client_order_id

    def _place_many(self, call: Call) -> Any:
        """At most ten; the envelope is "ok" whatever becomes of them. Counted from 1."""
        items = call.params.values.get("orders_data")
        if not isinstance(items, list) or not 1 <= len(items) <= 10:
            raise wrong(call.params.envelope, "orders_data", "1 to 10")
        errors, success = [], []
        for index, item in enumerate(items, 1):
            params = Params(item if isinstance(item, dict) else {}, call.params.envelope)
            try:
                params.check_names(_ORDER)
                order = self.place(call.account, params, call.now_ms)
            except Reject as reject:
                refusal = refusal_of(reject, self._family)
            except Refusal as caught:
                refusal = caught
            else:
                success.append(self._ids(order) | {"index": index})
                continue
            errors.append({"index": index, "err_code": refusal.code, "err_msg": refusal.message})
        return {"errors": errors, "success": success}

    def place(self, account: Account, params: Params, now_ms: int) -> EngineOrder:
        """An order as its parameters say: positions have two sides, `offset` says which is meant."""
        listing = self._order_market(params)
        side = Side(params.one_of("direction", ("buy", "sell")).upper())
        offset = params.one_of("offset", ("open", "close"))
        position = PositionSide.LONG if (side is Side.BUY) == (offset == "open") else PositionSide.SHORT
        kind = params.required("order_price_type")
        volume = params.decimal("volume")
        if volume is None:
            raise missing(params.envelope, "volume")
        if volume != int(volume) or volume <= 0:
            raise Refusal(1040, "Incorrect order quantity.")
        params.one_of("self_match_prevent", ("0", "1"), "1")
        price, time_in_force, post_only = self._terms(params, listing, side, kind)
        client_id = client_order_id(params)
        leverage = self._checked_leverage(account, listing, params)
        if offset == "close" and volume > self._desk.closable(account, listing, position):
            raise Refusal(1048, "Insufficient close amount available.")
        new = NewOrder(
            market=listing.symbol,
            side=side,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=volume,
            price=price,
            time_in_force=time_in_force,
            post_only=post_only,
            position_side=position,
        )
        ticket = Ticket(kind=kind, client_id=client_id, leverage=leverage)
        if client_id is not None:
            self._desk.take_client_id(account, self._family, client_id, now_ms)
        try:
            return self._desk.place(account, new, ticket, hedged=True)
        except Reject:
            if client_id is not None:
                self._desk.release_client_id(account, self._family, client_id)
            raise

    def _terms(
        self, params: Params, listing: Listing, side: Side, kind: str
    ) -> tuple[Decimal | None, TimeInForce, bool]:
        """Price (None: at market), time in force, post-only of an `order_price_type`."""
        if kind in _LIMITS:
            price = params.decimal("price")
            if price is None:
                raise missing(params.envelope, "price")
            return (price, *_LIMITS[kind])
        if kind in _MATCHING:
            levels, time_in_force = _MATCHING[kind]
            return matched_price(self._desk, listing, side, levels), time_in_force, False
        if kind == "market" and not self._futures:  # not in the documented list of dated futures
            return None, TimeInForce.GTC, False
        raise Refusal(1034, "Incorrect field of order price type.")

    def _checked_leverage(self, account: Account, listing: Listing, params: Params) -> int:
        """An order names the leverage; with a position or open orders it must be theirs."""
        leverage = params.integer("lever_rate")
        if leverage is None:
            raise Refusal(1094, "The leverage cannot be empty, please switch the leverage or contact customer service")
        if not 1 <= leverage <= 200:
            raise Refusal(1037, "Incorrect field of leverage.")
        if leverage != self._desk.leverage(account, listing):
            held = any(one.market == listing.symbol for one in self._desk.positions(account, self._family))
            if held or self._desk.engine.open_orders(account, listing.symbol):
                raise Refusal(1349, "The leverage differs from that of your position or open orders.")
            self._desk.set_leverage(account, listing, leverage)
        return leverage

    # --- cancelling ---

    def _cancel(self, call: Call) -> Any:
        """At most ten; what could not be cancelled hides in `errors`, and the envelope is "ok"."""
        errors: list[dict[str, Any]] = []
        done: list[str] = []
        for name, order in self._looked_up(call, 10):
            if order is None:
                errors.append({"order_id": name, "err_code": 1061, "err_msg": "This order doesnt exist."})
            elif order.status.is_open:
                self._desk.cancel(order, call.account)
                done.append(name)
            elif reports.coin_status(order) == 6:
                errors.append({"order_id": name, "err_code": 1063, "err_msg": "The order has been executed."})
            else:
                text = "Repeated cancellation. Your order has been cancelled."
                errors.append({"order_id": name, "err_code": 1071, "err_msg": text})
        return {"errors": errors, "successes": ",".join(done)}

    def _looked_up(self, call: Call, most: int) -> list[tuple[str, EngineOrder | None]]:
        """What `order_id` or `client_order_id` name, with the names; orders of other assets are not found."""
        params = call.params
        asset = self._asset(params, needed=True)
        ids, client_ids = params.items("order_id"), params.items("client_order_id")
        if not ids and not client_ids:
            raise missing(params.envelope, "order_id")
        if len(ids or client_ids) > most:
            raise wrong(params.envelope, "order_id", f"at most {most}")
        found: list[tuple[str, EngineOrder | None]] = []
        for name in ids or client_ids:
            if ids:
                order = self._desk.by_id(call.account, self._family, name)
            else:
                order = self._desk.named(call.account, self._family, name, call.now_ms)
            there = order is not None and self._desk.listing(order).settle == asset
            found.append((name, order if there else None))
        return found

    def _cancel_all(self, call: Call) -> Any:
        direction, offset = call.params.text("direction"), call.params.text("offset")
        matching = [
            order
            for order in self._concerned(call.params, self._desk.open_orders(call.account, self._family))
            if direction in (None, order.side.lower()) and offset in (None, reports.offset_of(order))
        ]
        if not matching:
            raise Refusal(1051, "No orders to cancel.")
        done = self._desk.cancel_all(call.account, matching)
        return {"errors": [], "successes": ",".join(str(self._desk.native_id(order)) for order in done)}

    # --- looking up ---

    def _shown(self, orders: Iterable[EngineOrder], account: Account) -> list[dict[str, Any]]:
        return [reports.coin_order(self._desk, order, account) for order in orders]

    def _orders(self, call: Call) -> Any:
        """Cancelled orders are found for about four hours, those that are done until the next settlement."""
        settled = self._last_settlement(call.now_ms)
        found = [
            order
            for _, order in self._looked_up(call, 50)
            if order is not None
            and (order.status.is_open or order.updated >= settled)
            and not (ended(order) and call.now_ms - order.updated > _CANCELLED_MS)
        ]
        if not found:
            raise Refusal(1017, "Order doesnt exist.")
        return self._shown(found, call.account)

    def _last_settlement(self, now_ms: int) -> int:
        """Swaps settle at 04:00, 12:00 and 20:00 UTC, dated futures at 08:00."""
        first, period = (8 * _HOUR_MS, _DAY_MS) if self._futures else (4 * _HOUR_MS, 8 * _HOUR_MS)
        return now_ms - (now_ms - first) % period

    def _detail(self, call: Call) -> Any:
        (_, order), *_ = self._looked_up(call, 1)
        if order is None:
            raise Refusal(1017, "Order doesnt exist.")
        trades = [reports.coin_pushed_trade(self._desk, fill) for fill in order.fills]
        pages = {"total_page": 1, "current_page": 1, "total_size": len(trades)}
        return reports.coin_order(self._desk, order, call.account) | {"trades": trades} | pages

    def _open(self, call: Call) -> Any:
        index, size = call.params.integer("page_index", 1) or 1, call.params.integer("page_size", 20) or 20
        if not 1 <= size <= 50 or index < 1:
            raise wrong(call.params.envelope, "page_size")
        found = self._concerned(call.params, self._desk.open_orders(call.account, self._family))[::-1]
        page = found[(index - 1) * size : index * size]
        rows = [
            row | {"trade_avg_price": row["trade_avg_price"], "update_time": order.updated}
            for row, order in zip(self._shown(page, call.account), page, strict=True)
        ]
        total = max(1, -(-len(found) // size))
        return {"orders": rows, "total_page": total, "current_page": index, "total_size": len(found)}

    def _history(self, call: Call) -> Any:
        """Orders of the last 48 hours by `from_id` (query id)."""
        params = call.params
        params.required("trade_type")
        statuses = set(params.items("status")) - {"0"}
        start, end = span(params, call.now_ms, default_ms=2 * _DAY_MS, oldest_ms=90 * _DAY_MS)
        symbols = self._asked_symbols(params)
        rows = [
            reports.coin_past_order(self._desk, order, call.account)
            for order in self._desk.orders(call.account, self._family)
            if order.market in symbols
            and not order.status.is_open
            and start <= order.created <= end
            and (not statuses or str(reports.coin_status(order)) in statuses)
        ]
        return self._from(rows, params)

    def _asked_symbols(self, params: Params) -> set[str]:
        """Queries name a `contract`; dated futures a `symbol`, and a contract if they want one alone."""
        native = params.text("contract")
        if native is not None:
            return {self._find(native).symbol}
        if not self._futures:
            raise missing(params.envelope, "contract")
        asset = self._asset(params, needed=True)
        return {one.symbol for one in self._desk.catalogue.all(self._family) if one.settle == asset}

    @staticmethod
    def _from(rows: list[dict[str, Any]], params: Params) -> list[dict[str, Any]]:
        """Fifty rows (or `page_size`), from a query id on in the direction asked for: with "next" the oldest first,
        with "prev" the newest."""
        size = params.integer("page_size", 50) or 50
        start = params.integer("from_id")
        forwards = params.one_of("direct", ("prev", "next"), "next") == "next"
        found = sorted(rows, key=lambda row: int(row["query_id"]), reverse=not forwards)
        if start is not None:
            found = [row for row in found if (row["query_id"] >= start if forwards else row["query_id"] <= start)]
        return found[:size]

    def _fills(self, call: Call) -> Any:
        params = call.params
        params.required("trade_type")
        symbols = self._asked_symbols(params)
        start, end = span(params, call.now_ms, default_ms=2 * _DAY_MS, oldest_ms=90 * _DAY_MS)
        rows = [
            reports.coin_fill(self._desk, fill, call.account)
            for fill in self._desk.fills(call.account, self._family)
            if fill.market in symbols and start <= fill.time <= end
        ]
        return self._from(rows, params)
