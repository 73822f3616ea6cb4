"""Orders over REST: placing, amending and cancelling (the WebSocket's operations run through here too), look-ups,
history, fills, the dead-man switch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, EnginePosition, NewOrder, Reject
from astra_okx.sandbox.calls import Call, Endpoint, Routes, names
from astra_okx.sandbox.catalogue import Catalogue, Listing
from astra_okx.sandbox.limits import Budget, Meter, too_many
from astra_okx.sandbox.orders import AMEND_NAMES, CANCEL_NAMES, ORDER_NAMES, OrderDesk, row_refusal
from astra_okx.sandbox.reports import fill_row, order_row
from astra_okx.sandbox.tags import BookedFill, Tag, forgotten, number_of, state_of, tag_of
from astra_okx.sandbox.wire import Params, Refusal, RowRefusal, success, verdict, wrong

MOST_ROWS = 20
ACTIONS = {"order": ORDER_NAMES, "amend": AMEND_NAMES, "cancel": CANCEL_NAMES}
_ORDER_TYPES = ("market", "limit", "post_only", "fok", "ioc", "optimal_limit_ioc")
_FILTERS = names("instType uly instFamily instId ordType state after before limit begin end category")
_FILL_FILTERS = names("instType uly instFamily instId ordId subType after before limit begin end")
_WEEK_MS = 7 * 86_400_000
_THREE_DAYS_MS = 3 * 86_400_000
_THREE_MONTHS_MS = 90 * 86_400_000

Row = TypeVar("Row")


def page(
    found: Sequence[Row], params: Params, *, number: Callable[[Row], int], time: Callable[[Row], int]
) -> list[Row]:
    """Of rows oldest first, the newest first: older than `after`, newer than `before`, `limit` of them."""
    after, before = params.integer("after"), params.integer("before")
    begin, end, limit = params.integer("begin"), params.integer("end"), params.limit(100, 100)
    chosen = [
        row
        for row in reversed(found)
        if (after is None or number(row) < after)
        and (before is None or number(row) > before)
        and (begin is None or time(row) >= begin)
        and (end is None or time(row) <= end)
    ]
    return chosen[:limit]


class TradeService:
    """The trade endpoints."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue, meter: Meter) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._meter = meter
        self._countdowns: dict[tuple[str, str | None], tuple[int, Account]] = {}

    def routes(self) -> Routes:
        routes: dict[tuple[str, str], Endpoint] = {}
        for path, action, listed in (
            ("order", "order", False),
            ("batch-orders", "order", True),
            ("amend-order", "amend", False),
            ("amend-batch-orders", "amend", True),
            ("cancel-order", "cancel", False),
            ("cancel-batch-orders", "cancel", True),
        ):
            routes["POST", f"/trade/{path}"] = Endpoint(
                self._commanding(action),
                ACTIONS[action] - {"instIdCode"},
                permission="trade",
                command=True,
                listed=listed,
                deadline=action != "cancel",
                timed=True,
            )
        reads: tuple[tuple[str, Callable[[Call], Any], frozenset[str], int], ...] = (
            ("order", self._order, names("instId ordId clOrdId"), 60),
            ("orders-pending", self._pending, _FILTERS, 60),
            ("orders-history", self._history, _FILTERS, 40),
            ("orders-history-archive", self._archive, _FILTERS, 20),
            ("fills", self._fills, _FILL_FILTERS, 60),
            ("fills-history", self._fills_history, _FILL_FILTERS, 10),
            ("account-rate-limit", self._account_rate_limit, frozenset(), 1),
        )
        for path, handler, accepts, limit in reads:
            window_ms = 1000 if path == "account-rate-limit" else 2000
            routes["GET", f"/trade/{path}"] = Endpoint(handler, accepts, Budget(limit, window_ms=window_ms))
        routes["POST", "/trade/cancel-all-after"] = Endpoint(
            self._cancel_all_after, names("timeOut tag"), Budget(1, window_ms=1000, by="tag"), permission="trade"
        )
        routes["POST", "/trade/close-position"] = Endpoint(
            self._close_position,
            names("instId mgnMode posSide ccy autoCxl clOrdId tag"),
            Budget(20, by="instId"),
            permission="trade",
            command=True,
        )
        return routes

    # --- commands ---

    def _commanding(self, action: str) -> Callable[[Call], dict[str, Any]]:
        def handler(call: Call) -> dict[str, Any]:
            rows = self.run(action, call.account, call.rows, self._catalogue.wanted, call.now_ms)
            code, message = verdict(rows)
            return {"code": code, "data": rows, "msg": message}

        return handler

    def run(
        self,
        action: str,
        account: Account,
        orders: Sequence[Params],
        instrument_of: Callable[[Params], Listing],
        now_ms: int,
    ) -> list[dict[str, str]]:
        """Place, amend or cancel, one after the other; gives the rows of the answer. `Refusal` where limits are
        exceeded: nothing has happened then."""
        found = [self._instrument(instrument_of, params) for params in orders]
        counted = Counter(one.counted_by for one in found if isinstance(one, Listing))
        for instrument, count in counted.items():
            batch = len(orders) > 1  # a batch of one counts as a single order
            if not self._meter.spend_orders(action, account.name, instrument, count, now_ms, batch=batch):
                raise too_many()
        if action != "cancel" and not self._meter.spend_account(account.name, len(orders), now_ms):
            raise Refusal("50061", "Order submission frequency has exceeded the sub-account limit.")
        return [self._row(action, account, one, params, now_ms) for one, params in zip(found, orders, strict=True)]

    @staticmethod
    def _instrument(instrument_of: Callable[[Params], Listing], params: Params) -> Listing | RowRefusal:
        try:
            return instrument_of(params)
        except Refusal as refusal:
            return RowRefusal(refusal.code, refusal.message)
        except RowRefusal as refusal:
            return refusal

    def _row(
        self, action: str, account: Account, listing: Listing | RowRefusal, params: Params, now_ms: int
    ) -> dict[str, str]:
        client_id, order_id = str(params.values.get("clOrdId") or ""), str(params.values.get("ordId") or "")
        row = {"clOrdId": client_id, "ordId": order_id, "sCode": "0", "sMsg": "", "subCode": "", "ts": str(now_ms)}
        if action == "order":
            row["tag"] = str(params.values.get("tag") or "")
        elif action == "amend":
            row["reqId"] = str(params.values.get("reqId") or "")
        try:
            if isinstance(listing, RowRefusal):
                raise listing
            params.check_names(ACTIONS[action])
            act = {"order": self._desk.place, "amend": self._desk.amend, "cancel": self._desk.cancel}[action]
            order = act(account, listing, params)
        except (RowRefusal, Refusal) as refusal:
            row["sCode"], row["sMsg"] = refusal.code, refusal.message
            return row
        row["ordId"], row["clOrdId"] = str(number_of(order)), tag_of(order).client_id
        if action == "order":
            row["sMsg"] = "Order placed"
        return row

    def _close_position(self, call: Call) -> dict[str, Any]:
        """At market, all of it."""
        params, account = call.params, call.account
        listing = self._catalogue.wanted(params)
        if params.choice("mgnMode", ("cross", "isolated")) is None:
            params.need("mgnMode")
        side = self._desk.position_side(account, listing, params)
        held: EnginePosition | None = next(
            (
                position
                for position in self._desk.engine.positions(account)
                if position.market == listing.symbol and position.side == side
            ),
            None,
        )
        if held is None:
            raise Refusal("51023", "Position does not exist.")
        if params.boolean("autoCxl"):
            for order in self._desk.engine.open_orders(account, listing.symbol):
                self._desk.engine.cancel(account, order.id)
        tag = Tag("market", params.need("mgnMode"), client_id=params.client_id() or "", tag=params.tag(), stp_mode="")
        new = NewOrder(
            market=listing.symbol,
            side=Side.SELL if held.quantity > 0 else Side.BUY,
            type=OrderType.MARKET,
            quantity=abs(held.quantity),
            reduce_only=side is None,
            position_side=side,
            client_order_id=tag.client_id or None,
            tag=tag,
        )
        try:
            self._desk.engine.place(account, new)
        except Reject as reject:
            refusal = row_refusal(reject)
            raise Refusal(refusal.code, refusal.message) from None
        shown = params.text("posSide") or "net"
        return success([{"instId": listing.native, "posSide": shown, "clOrdId": tag.client_id, "tag": tag.tag}])

    # --- look-ups ---

    def _order(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.params)
        order = self._desk.find(call.account, listing, call.params)
        if order is None or forgotten(order, call.now_ms):
            raise Refusal("51603", "Order does not exist")
        return success([order_row(call.account, listing, order)])

    def _chosen(self, call: Call, *, pending: bool, needs_type: bool) -> list[EngineOrder]:
        params = call.params
        listings = {listing.symbol for listing in self._catalogue.selected(params, needs_type=needs_type)}
        kinds = (params.text("ordType") or ",".join(_ORDER_TYPES)).split(",")
        if not set(kinds) <= set(_ORDER_TYPES):
            raise wrong("ordType")
        params.choice(
            "category", ("normal", "twap", "adl", "full_liquidation", "partial_liquidation", "delivery", "ddh")
        )
        states = ("live", "partially_filled") if pending else ("canceled", "filled", "mmp_canceled")
        state = params.choice("state", states)
        return [
            order
            for order in self._desk.orders(call.account)
            if order.status.is_open == pending
            and order.market in listings
            and tag_of(order).type in kinds
            and state in (None, state_of(order))
        ]

    def _listed(self, call: Call, orders: Sequence[EngineOrder]) -> dict[str, Any]:
        chosen = page(orders, call.params, number=number_of, time=lambda order: order.created)
        return success([order_row(call.account, self._catalogue.of_symbol(one.market), one) for one in chosen])

    def _pending(self, call: Call) -> dict[str, Any]:
        return self._listed(call, self._chosen(call, pending=True, needs_type=False))

    def _history(self, call: Call) -> dict[str, Any]:
        return self._ended(call, _WEEK_MS)

    def _archive(self, call: Call) -> dict[str, Any]:
        return self._ended(call, _THREE_MONTHS_MS)

    def _ended(self, call: Call, kept_ms: int) -> dict[str, Any]:
        found = self._chosen(call, pending=False, needs_type=True)
        oldest = call.now_ms - kept_ms
        return self._listed(call, [one for one in found if one.updated >= oldest and not forgotten(one, call.now_ms)])

    def _fills(self, call: Call) -> dict[str, Any]:
        return self._filled(call, _THREE_DAYS_MS, needs_type=False)

    def _fills_history(self, call: Call) -> dict[str, Any]:
        return self._filled(call, _THREE_MONTHS_MS, needs_type=True)

    def _filled(self, call: Call, kept_ms: int, *, needs_type: bool) -> dict[str, Any]:
        params = call.params
        listings = {one.symbol: one for one in self._catalogue.selected(params, needs_type=needs_type)}
        order_id = params.text("ordId")
        found = [
            booked
            for booked in self._desk.fills(call.account)
            if booked.fill.market in listings
            and booked.fill.time >= call.now_ms - kept_ms
            and order_id in (None, str(number_of(booked.order)))
        ]

        def number(booked: BookedFill) -> int:
            return booked.bill_id

        chosen = page(found, params, number=number, time=lambda booked: booked.fill.time)
        return success([fill_row(listings[booked.fill.market], booked) for booked in chosen])

    @staticmethod
    def _account_rate_limit(call: Call) -> dict[str, Any]:
        ratio = {"fillRatio": "", "mainFillRatio": "", "accRateLimit": "1000", "nextAccRateLimit": ""}
        return success([ratio | {"ts": str(call.now_ms)}])

    # --- dead-man switch ---

    def _cancel_all_after(self, call: Call) -> dict[str, Any]:
        params = call.params
        params.need("timeOut")
        seconds, tag = params.integer("timeOut"), params.tag()
        if seconds is None or not (seconds == 0 or 10 <= seconds <= 120):
            raise wrong("timeOut")
        key, due = (call.account.name, tag or None), call.now_ms + seconds * 1000
        if seconds:
            self._countdowns[key] = (due, call.account)
        else:
            self._countdowns.pop(key, None)
        return success([{"triggerTime": str(due) if seconds else "0", "tag": tag, "ts": str(call.now_ms)}])

    def run_countdowns(self, now_ms: int) -> None:
        """Cancel the orders of those who have not called in time."""
        for key, (due, account) in list(self._countdowns.items()):
            if now_ms >= due:
                del self._countdowns[key]
                self._desk.cancel_open(account, tag=key[1], source="20")
