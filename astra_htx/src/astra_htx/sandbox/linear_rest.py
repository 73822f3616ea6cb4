"""Linear contracts' private REST (V5): orders, fills, positions, balances, modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, NewOrder, Reject
from astra_htx.sandbox import contract_reports as reports
from astra_htx.sandbox.calls import Call, Endpoint, Routes, names
from astra_htx.sandbox.catalogue import Listing
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.listings_rest import DERIVATIVES
from astra_htx.sandbox.orders import OrderDesk, Ticket
from astra_htx.sandbox.refusals import refusal_of
from astra_htx.sandbox.wire import Envelope, Family, Params, Refusal, missing, wrong

MOST_CLIENT_ID = 2**63 - 1
PRICE_MATCH_LEVELS = {"opponent": 1, "optimal_5": 5, "optimal_10": 10, "optimal_20": 20}
_ORDER = names(
    "contract_code margin_mode position_side side type price_match client_order_id price volume reduce_only "
    "time_in_force self_match_prevent price_protect channel_code tp_trigger_price tp_order_price tp_type "
    "tp_trigger_price_type sl_trigger_price sl_order_price sl_type sl_trigger_price_type"
)
_ATTACHED = [f"{kind}_{name}" for kind in ("tp", "sl") for name in ("trigger_price", "order_price")]
_STATES = {"3": "new", "4": "partially_filled", "5": "partially_canceled", "6": "filled", "7": "canceled"}
_DAY_MS = 86_400_000
_UNCHANGED = (1045, "Unable to switch due to open orders or positions.")


def client_order_id(params: Params) -> str | None:
    """Derivatives take whole numbers of 63 bits only."""
    text = params.text("client_order_id")
    if text is not None and not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CLIENT_ID):
        raise wrong(params.envelope, "client_order_id", "an integer from 1 to 2^63 - 1")
    return None if text is None else str(int(text))


def matched_price(desk: OrderDesk, listing: Listing, side: Side, levels: int) -> Decimal:
    """The price of the opposite side's level `levels` deep (or its last)."""
    _, bids, asks = desk.engine.depth(listing.symbol, levels)
    opposite = asks if side is Side.BUY else bids
    if not opposite:
        raise Refusal(1052, "Insufficient quantity on the opposite side.")
    return opposite[-1].price


class LinearAccount:
    """The handlers."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk

    def routes(self) -> Routes:
        routes: dict[tuple[str, str, str], Endpoint] = {}

        def add(
            method: str,
            path: str,
            handler: Callable[[Call], Any],
            accepts: str | frozenset[str] = "",
            *,
            command: bool = False,
            counter: Counter | None = None,
            batch: bool = False,
        ) -> None:
            known = names(accepts) if isinstance(accepts, str) else accepts
            usual = Counter.V5_READ if method == "GET" else Counter.V5_TRADE
            routes[DERIVATIVES, method, path] = Endpoint(
                handler, Envelope.V5, counter or usual, known, signed=True, command=command, batch=batch
            )

        add("GET", "/v5/account/balance", self._balance)
        add("GET", "/v5/account/asset_mode", lambda call: {"asset_mode": call.account.settings.get("asset_mode", 1)})
        add("POST", "/v5/account/asset_mode", self._set_asset_mode, "assets_mode", counter=Counter.V5_MODE)
        add("GET", "/v5/position/mode", lambda call: {"position_mode": _mode(call.account)})
        add("POST", "/v5/position/mode", self._set_mode, "position_mode")
        add("GET", "/v5/position/lever", self._leverage, "contract_code margin_mode")
        add("POST", "/v5/position/lever", self._set_leverage, "contract_code margin_mode lever_rate position_side")
        add("GET", "/v5/trade/position/opens", self._positions, "contract_code margin_mode")
        add("POST", "/v5/trade/order", self._place, _ORDER, command=True)
        add("POST", "/v5/trade/batch_orders", self._place_many, _ORDER, command=True, batch=True)
        named = "contract_code order_id client_order_id"
        add("POST", "/v5/trade/cancel_order", self._cancel, named, command=True)
        add("POST", "/v5/trade/cancel_batch_orders", self._cancel_many, named, command=True)
        add("POST", "/v5/trade/cancel_all_orders", self._cancel_all, "contract_code side position_side", command=True)
        add("POST", "/v5/trade/cancel-after", self._cancel_after, "on_off time_out", command=True)
        add("POST", "/v5/trade/position", self._close, "contract_code margin_mode position_side", command=True)
        add("GET", "/v5/trade/order", self._one, f"{named} margin_mode")
        add("GET", "/v5/trade/order/opens", self._open, f"{named} margin_mode from limit direct")
        page = "start_time end_time from limit direct"
        add("GET", "/v5/trade/order/history", self._history, f"contract_code margin_mode state type price_match {page}")
        add("GET", "/v5/trade/order/details", self._fills, f"contract_code order_id {page}")
        return routes

    def _market(self, params: Params, *, needed: bool = True) -> Listing | None:
        native = params.text("contract_code")
        if native is None:
            if needed:
                raise missing(params.envelope, "contract_code")
            return None
        listing = self._desk.catalogue.find(Family.LINEAR, native)
        if listing is None:
            raise Refusal(1332, "The contract doesn't exist.")
        return listing

    def _named_market(self, params: Params) -> Listing:
        listing = self._market(params)
        assert listing is not None
        return listing

    # --- account ---

    def _balance(self, call: Call) -> Any:
        return reports.v5_balances(self._desk, call.account, call.now_ms, pushed=False)

    def _set_asset_mode(self, call: Call) -> Any:
        """0, the old single-asset mode, is not to be had any more."""
        mode = call.params.integer("assets_mode")
        if mode not in (1, 2):
            raise wrong(call.params.envelope, "assets_mode")
        call.account.settings["asset_mode"] = mode
        return {"assets_mode": mode}

    def _set_mode(self, call: Call) -> Any:
        wanted = call.params.one_of("position_mode", ("single_side", "dual_side"))
        if wanted != _mode(call.account):
            if self._desk.positions(call.account, Family.LINEAR) or self._desk.open_orders(call.account, Family.LINEAR):
                raise Refusal(*_UNCHANGED)
            call.account.hedge_mode = wanted == "dual_side"
        return {"position_mode": wanted}

    def _leverage(self, call: Call) -> Any:
        listing = self._market(call.params, needed=False)
        found = [listing] if listing is not None else self._desk.catalogue.all(Family.LINEAR)
        return [
            {
                "contract_code": one.native,
                "margin_mode": call.params.text("margin_mode") or "cross",
                "lever_rate": self._desk.leverage(call.account, one),
                "available_lever": ",".join(map(str, (1, 2, 3, 5, 10, 20, 50, 75, 100, 125, 150, 200))),
            }
            for one in found
        ]

    def _set_leverage(self, call: Call) -> Any:
        listing = self._named_market(call.params)
        mode = call.params.one_of("margin_mode", ("cross", "isolated"))
        leverage = call.params.integer("lever_rate")
        if leverage is None or not 1 <= leverage <= 200:
            raise wrong(call.params.envelope, "lever_rate")
        if self._desk.engine.open_orders(call.account, listing.symbol):
            raise Refusal(1045, "Unable to switch leverage due to open orders.")
        self._desk.set_leverage(call.account, listing, leverage)
        call.account.settings.setdefault("margin_mode", {})[listing.symbol] = mode
        return {"contract_code": listing.native, "margin_mode": mode, "lever_rate": leverage}

    def _positions(self, call: Call) -> Any:
        listing = self._market(call.params, needed=False)
        return [
            reports.v5_position(self._desk, one, call.account, call.now_ms)
            for one in self._desk.positions(call.account, Family.LINEAR)
            if listing is None or one.market == listing.symbol
        ]

    # --- placing ---

    def _ids(self, order: EngineOrder, client_id: str | None) -> dict[str, str]:
        """Without a client id the venue repeats the order's own."""
        order_id = str(self._desk.native_id(order))
        return {"order_id": order_id, "client_order_id": client_id or order_id}

    def _place(self, call: Call) -> Any:
        order = self.place(call.account, call.params)
        return self._ids(order, client_order_id(call.params))

    def _place_many(self, call: Call) -> Any:
        if not 1 <= len(call.items) <= 25:
            raise wrong(call.params.envelope, "orders", "1 to 25")
        rows: list[dict[str, Any]] = []
        for item in call.items:
            params = Params(item if isinstance(item, dict) else {}, call.params.envelope)
            try:
                params.check_names(_ORDER)
                order = self.place(call.account, params)
                rows.append({"code": 200, "message": "Success"} | self._ids(order, client_order_id(params)))
                continue
            except Reject as reject:
                refusal = refusal_of(reject, Family.LINEAR)
            except Refusal as caught:
                refusal = caught
            rows.append(
                {
                    "code": refusal.code,
                    "message": refusal.message,
                    "order_id": None,
                    "client_order_id": params.values.get("client_order_id"),
                }
            )
        return rows

    def place(self, account: Account, params: Params) -> EngineOrder:
        """An order as its parameters say."""
        listing = self._named_market(params)
        margin_mode = params.one_of("margin_mode", ("cross", "isolated"))
        if margin_mode == "isolated" and listing.market.expiry is not None:
            raise Refusal(1331, "Dated contracts are traded with cross margin only.")
        side = Side(params.one_of("side", ("buy", "sell")).upper())
        kind = params.one_of("type", ("limit", "market", "post_only"))
        time_in_force = params.one_of("time_in_force", ("gtc", "ioc", "fok"), "gtc")
        volume = params.decimal("volume")
        if volume is None:
            raise missing(params.envelope, "volume")
        if volume != int(volume) or volume <= 0:
            raise Refusal(1040, "Incorrect order quantity.")
        for name in _ATTACHED:
            if params.text(name) is not None:
                raise wrong(params.envelope, name, "the sandbox has no attached orders")
        client_id = client_order_id(params)
        if client_id is not None and self._desk.is_open(account, Family.LINEAR, client_id):
            raise Reject("duplicate-client-order-id")
        match = params.text("price_match")
        price = self._price(params, listing, side, kind, match)
        self._desk_margin_mode(account, listing, margin_mode)
        ticket = Ticket(
            kind=kind,
            client_id=client_id,
            margin_mode=margin_mode,
            leverage=self._desk.leverage(account, listing),
            time_in_force=time_in_force,
            price_match=match,
            self_match=params.one_of(
                "self_match_prevent", ("cancel_taker", "cancel_maker", "cancel_both", "allow"), "cancel_taker"
            ),
        )
        new = NewOrder(
            market=listing.symbol,
            side=side,
            type=OrderType.MARKET if kind == "market" else OrderType.LIMIT,
            quantity=volume,
            price=price,
            time_in_force=TimeInForce(time_in_force.upper()) if kind == "limit" else TimeInForce.GTC,
            post_only=kind == "post_only",
            reduce_only=params.flag("reduce_only"),
            position_side=self._position_side(account, params),
        )
        return self._desk.place(account, new, ticket, hedged=account.hedge_mode)

    def _desk_margin_mode(self, account: Account, listing: Listing, mode: str) -> None:
        modes = account.settings.setdefault("margin_mode", {})
        held = any(one.market == listing.symbol for one in self._desk.positions(account, Family.LINEAR))
        if held and modes.get(listing.symbol, "cross") != mode:
            raise Refusal(1331, "The margin mode differs from the position's.")
        modes[listing.symbol] = mode

    def _price(self, params: Params, listing: Listing, side: Side, kind: str, match: str | None) -> Decimal | None:
        if kind == "market":
            return None
        price = params.decimal("price")
        if match is not None:
            if price is not None or match not in PRICE_MATCH_LEVELS:
                raise wrong(params.envelope, "price_match")
            return matched_price(self._desk, listing, side, PRICE_MATCH_LEVELS[match])
        if price is None:
            raise missing(params.envelope, "price")
        return price

    @staticmethod
    def _position_side(account: Account, params: Params) -> PositionSide | None:
        """Two-sided mode wants long or short, single-sided mode knows `both` only."""
        side = params.text("position_side")
        if account.hedge_mode:
            if side not in ("long", "short"):
                raise Refusal(1067, "The position_side field is invalid. Please re-enter.")
            return PositionSide(side.upper())
        if side not in (None, "both"):
            raise Refusal(1067, "The position_side field is invalid. Please re-enter.")
        return None

    # --- cancelling ---

    def _found(self, account: Account, params: Params, listing: Listing, now_ms: int) -> EngineOrder:
        order_id, client_id = params.text("order_id"), params.text("client_order_id")
        if order_id is not None:
            order = self._desk.by_id(account, Family.LINEAR, order_id)
        elif client_id is not None:
            order = self._by_client_id(account, client_id, now_ms)
        else:
            raise missing(params.envelope, "order_id")
        if order is None or order.market != listing.symbol:
            raise Refusal(1017, "Order doesnt exist.")
        return order

    def _by_client_id(self, account: Account, client_id: str, now_ms: int) -> EngineOrder | None:
        """An order without a client id answers to its own id as one."""
        found = self._desk.named(account, Family.LINEAR, client_id, now_ms)
        return found or self._desk.by_id(account, Family.LINEAR, client_id)

    def _end(self, account: Account, order: EngineOrder) -> None:
        """Cancel. Orders that are done are refused by how they ended."""
        state = reports.v5_state(order)
        if state == "filled":
            raise Refusal(1063, "The order has been executed.")
        if not order.status.is_open:
            raise Refusal(1071, "Repeated cancellation. Your order has been cancelled.")
        self._desk.cancel(order, account)

    def _client_id_of(self, order: EngineOrder) -> str | None:
        return order.tag.client_id if isinstance(order.tag, Ticket) else order.client_order_id

    def _cancel(self, call: Call) -> Any:
        order = self._found(call.account, call.params, self._named_market(call.params), call.now_ms)
        self._end(call.account, order)
        return self._ids(order, self._client_id_of(order))

    def _cancel_many(self, call: Call) -> Any:
        listing = self._named_market(call.params)
        ids, client_ids = call.params.items("order_id"), call.params.items("client_order_id")
        if not 1 <= len(ids or client_ids) <= 10:
            raise wrong(call.params.envelope, "order_id", "1 to 10")
        rows: list[dict[str, Any]] = []
        for wanted in ids or client_ids:
            named = {"order_id" if ids else "client_order_id": wanted}
            try:
                order = self._found(call.account, Params(named, call.params.envelope), listing, call.now_ms)
                self._end(call.account, order)
            except Refusal as refusal:
                both = {"order_id": None, "client_order_id": None} | named
                rows.append({"code": refusal.code, "message": refusal.message} | both)
            else:
                rows.append({"code": 200, "message": "Success"} | self._ids(order, self._client_id_of(order)))
        return rows

    def _cancel_all(self, call: Call) -> Any:
        listing = self._market(call.params, needed=False)
        side, position = call.params.text("side"), call.params.text("position_side")
        matching = [
            order
            for order in self._desk.open_orders(call.account, Family.LINEAR)
            if (listing is None or order.market == listing.symbol)
            and side in (None, order.side.lower())
            and position in (None, reports.position_side(order.position_side))
        ]
        if not matching:
            raise Refusal(1051, "No orders to cancel.")
        return [
            {"code": 200, "message": "Success"} | self._ids(order, self._client_id_of(order))
            for order in self._desk.cancel_all(call.account, matching)
        ]

    def _cancel_after(self, call: Call) -> Any:
        return set_countdown(self._desk, call, Family.LINEAR)

    def _close(self, call: Call) -> Any:
        """Close a position at market; the order id is a number here."""
        listing = self._named_market(call.params)
        wanted = call.params.text("position_side") or "both"
        for held in self._desk.positions(call.account, Family.LINEAR):
            if held.market == listing.symbol and reports.position_side(held.side) == wanted:
                new = NewOrder(
                    market=listing.symbol,
                    side=Side.SELL if held.quantity > 0 else Side.BUY,
                    type=OrderType.MARKET,
                    quantity=abs(held.quantity),
                    reduce_only=held.side is None,
                    position_side=held.side,
                )
                order = self._desk.place(call.account, new, Ticket("market"), hedged=call.account.hedge_mode)
                number = self._desk.native_id(order)
                return {"contract_code": listing.native, "order_id": number, "client_order_id": str(number)}
        raise Refusal(1048, "Insufficient close amount available.")

    # --- looking up ---

    def _one(self, call: Call) -> Any:
        order = self._found(call.account, call.params, self._named_market(call.params), call.now_ms)
        return reports.v5_order(self._desk, order, call.account)

    def _page(self, found: Sequence[Any], number: Callable[[Any], int], params: Params) -> list[Any]:
        """Newest first, ten if not said otherwise; `from` an id: older ones than it (next) or newer ones (prev)."""
        limit = params.integer("limit", 10) or 10
        if not 1 <= limit <= 100:
            raise wrong(params.envelope, "limit")
        start = params.integer("from")
        newest = sorted(found, key=number, reverse=True)
        if start is None:
            return newest[:limit]
        if params.one_of("direct", ("prev", "next"), "next") == "next":
            return [one for one in newest if number(one) < start][:limit]
        return [one for one in newest if number(one) > start][-limit:]

    def _open(self, call: Call) -> Any:
        listing = self._market(call.params, needed=False)
        mode = call.params.text("margin_mode")
        matching = [
            order
            for order in self._desk.open_orders(call.account, Family.LINEAR)
            if (listing is None or order.market == listing.symbol) and self._in_mode(order, mode)
        ]
        page = self._page(matching, self._desk.native_id, call.params)
        return [reports.v5_order(self._desk, order, call.account) for order in page]

    @staticmethod
    def _in_mode(order: EngineOrder, mode: str | None) -> bool:
        return mode in (None, order.tag.margin_mode if isinstance(order.tag, Ticket) else "cross")

    def _history(self, call: Call) -> Any:
        """Orders that are done, of one contract in one margin mode."""
        params = call.params
        listing = self._named_market(params)
        mode = params.one_of("margin_mode", ("cross", "isolated"))
        states = {_STATES.get(state, state) for state in params.items("state")}
        types = params.items("type")
        start, end = span(params, call.now_ms, default_ms=2 * _DAY_MS, oldest_ms=90 * _DAY_MS)
        matching = [
            order
            for order in self._desk.engine.orders(call.account, listing.symbol)
            if not order.status.is_open
            and start <= order.created <= end
            and self._in_mode(order, mode)
            and (not states or reports.v5_state(order) in states)
            and (not types or reports.v5_order(self._desk, order, call.account)["type"] in types)
        ]
        page = self._page(matching, lambda order: reports.v5_history_id(self._desk, order), params)
        return [reports.v5_history_order(self._desk, order, call.account) for order in page]

    def _fills(self, call: Call) -> Any:
        """The last three days'."""
        params = call.params
        listing = self._market(params, needed=False)
        wanted = params.integer("order_id")
        start, end = span(params, call.now_ms, default_ms=3 * _DAY_MS, oldest_ms=3 * _DAY_MS)
        matching = [
            fill
            for fill in self._desk.fills(call.account, Family.LINEAR)
            if start <= fill.time <= end
            and (listing is None or fill.market == listing.symbol)
            and wanted in (None, self._desk.listing(fill).order_base + fill.order_id)
        ]
        page = self._page(matching, lambda fill: reports.v5_fill_number(self._desk, fill), params)
        return [reports.v5_fill(self._desk, fill, call.account) for fill in page]


def _mode(account: Account) -> str:
    return "dual_side" if account.hedge_mode else "single_side"


def span(params: Params, now_ms: int, *, default_ms: int, oldest_ms: int) -> tuple[int, int]:
    """The time asked for, or the last `default_ms`; windows of more than 48 h are refused unless it is the default."""
    start, end = params.integer("start_time"), params.integer("end_time")
    if end is None:
        end = now_ms if start is None else min(now_ms, start + default_ms)
    if start is None:
        start = end - default_ms
    if start > end or end - start > max(2 * _DAY_MS, default_ms) or now_ms - start > oldest_ms + default_ms:
        raise wrong(params.envelope, "start_time", "windows of 48 hours")
    return start, end


def set_countdown(desk: OrderDesk, call: Call, family: Family) -> Any:
    """The dead man's switch: `on_off` 1 starts it (again), 0 stops it; `time_out` in ms, at least 5000."""
    on = call.params.flag("on_off")
    timeout = call.params.integer("time_out", 5000) or 0
    if on and timeout < 5000:
        raise wrong(call.params.envelope, "time_out", "at least 5000")
    due = call.now_ms + timeout if on else None
    desk.set_countdown(call.account, family, due)
    return {"current_time": call.now_ms, "trigger_time": due or 0}
