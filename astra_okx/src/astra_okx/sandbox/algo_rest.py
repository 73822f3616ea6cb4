"""Algo orders: conditional (stop loss or take profit) and trigger orders. What the engine cannot do (one cancels the
other, trailing, sliced orders) is refused."""

from __future__ import annotations

from typing import Any

from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import EngineOrder, NewOrder, Reject
from astra_okx.sandbox.calls import Call, Endpoint, Routes, names
from astra_okx.sandbox.catalogue import Catalogue, Listing, algo_number
from astra_okx.sandbox.limits import Budget
from astra_okx.sandbox.orders import SIDES, OrderDesk, row_refusal
from astra_okx.sandbox.reports import algo_row, algo_state
from astra_okx.sandbox.tags import ALGO_MARK, Algo, Tag
from astra_okx.sandbox.trade_rest import MOST_ROWS, page
from astra_okx.sandbox.wire import InstType, Params, Refusal, RowRefusal, empty, success, verdict, wrong

# `clOrdId` is what older clients still send; it names nothing any more.
_PLACED = names(
    "clOrdId instId tdMode ccy side posSide ordType sz tag tgtCcy algoClOrdId reduceOnly tradeQuoteCcy "
    "slTriggerPx slOrdPx slTriggerPxType tpTriggerPx tpOrdPx tpTriggerPxType triggerPx orderPx triggerPxType"
)
_LISTED = names("ordType algoId algoClOrdId instType instId after before limit state")
_KINDS = ("conditional", "oco", "trigger", "move_order_stop", "iceberg", "twap", "chase")
_LISTED_TOGETHER = {"conditional", "oco"}
_PRICES = ("last", "index", "mark")
_AT_MARKET = "-1"
_MOST_CANCELLED = 10
_TRIGGERED_BY = {
    # (trigger, side) -> what is answered to a trigger price that the market has reached already
    ("tp", Side.BUY): ("51277", "TP trigger price can not be higher than the last price"),
    ("sl", Side.BUY): ("51278", "SL trigger price can not be lower than the last price"),
    ("tp", Side.SELL): ("51279", "TP trigger price can not be lower than the last price"),
    ("sl", Side.SELL): ("51280", "SL trigger price can not be higher than the last price"),
}


class AlgoService:
    """The algo endpoints."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue, algo_limit: int) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._limit = algo_limit

    def routes(self) -> Routes:
        trading = {"permission": "trade", "command": True}
        return {
            ("POST", "/trade/order-algo"): Endpoint(self._place, _PLACED, Budget(self._limit, by="instId"), **trading),  # type: ignore[arg-type]
            ("POST", "/trade/cancel-algos"): Endpoint(
                self._cancel,
                names("instId algoId algoClOrdId"),
                Budget(self._limit),
                listed=True,
                permission="trade",
                command=True,
            ),
            ("GET", "/trade/order-algo"): Endpoint(self._one, names("algoId algoClOrdId"), Budget(20)),
            ("GET", "/trade/orders-algo-pending"): Endpoint(self._pending, _LISTED, Budget(20)),
            ("GET", "/trade/orders-algo-history"): Endpoint(self._history, _LISTED, Budget(20)),
        }

    # --- placing ---

    def _place(self, call: Call) -> dict[str, Any]:
        params = call.params
        row = {
            "algoClOrdId": str(params.values.get("algoClOrdId") or ""),
            "algoId": "",
            "clOrdId": "",
            "sCode": "0",
            "sMsg": "",
            "tag": str(params.values.get("tag") or ""),
        }
        try:
            row["algoId"] = str(algo_number(self._placed(call)))
        except (RowRefusal, Refusal) as refusal:
            row["sCode"], row["sMsg"] = refusal.code, refusal.message
        code, message = verdict([row])
        return {"code": code, "data": [row], "msg": message}

    def _placed(self, call: Call) -> EngineOrder:
        params, account = call.params, call.account
        listing = self._catalogue.wanted(params)
        if listing.type is InstType.OPTION:
            raise wrong("ordType")
        kind = params.choice("ordType", ("conditional", "trigger")) or params.need("ordType")
        side = SIDES[params.choice("side", tuple(SIDES)) or params.need("side")]
        order_type, trigger = self._read_trigger(listing, params, kind, side)
        price_name = "orderPx" if kind == "trigger" else f"{trigger}OrdPx"
        at_market = params.need(price_name) == _AT_MARKET
        client_id = params.client_id("algoClOrdId")
        target = "" if listing.type.is_derivative else params.choice("tgtCcy", ("base_ccy",), "base_ccy") or ""
        trigger_type = params.choice("triggerPxType" if kind == "trigger" else f"{trigger}TriggerPxType", _PRICES)
        if trigger_type not in (None, "last"):  # the engine knows the last price only
            raise wrong("triggerPxType")
        new = NewOrder(
            market=listing.symbol,
            side=side,
            type=_market_type(order_type) if at_market else order_type,
            quantity=params.need_decimal("sz"),
            price=None if at_market else params.need_decimal(price_name),
            stop_price=params.need_decimal("triggerPx" if kind == "trigger" else f"{trigger}TriggerPx"),
            reduce_only=self._desk.reduce_only(account, listing, params),
            position_side=self._desk.position_side(account, listing, params),
            client_order_id=None if client_id is None else ALGO_MARK + client_id,
            tag=Tag(
                type="market" if at_market else "limit",
                td_mode=self._desk.margin_mode(account, listing, params),
                tag=params.tag(),
                target=target if at_market else "",
                algo=Algo(kind, client_id or "", trigger),
            ),
        )
        try:
            return self._desk.engine.place(account, new)
        except Reject as reject:
            if reject.rule == "stop-would-trigger" and trigger != "trigger":
                raise RowRefusal(*_TRIGGERED_BY[trigger, side]) from None
            if reject.rule == "duplicate-client-order-id":
                raise RowRefusal("51065", "algoClOrdId already exists") from None
            raise row_refusal(reject) from None

    def _read_trigger(self, listing: Listing, params: Params, kind: str, side: Side) -> tuple[OrderType, str]:
        """(the limit type of the engine, which parameters hold the trigger)."""
        stop, profit = params.text("slTriggerPx") is not None, params.text("tpTriggerPx") is not None
        if kind == "conditional":
            if stop and profit:  # two triggers on one order: the engine has one
                raise wrong("tpTriggerPx")
            if not stop and not profit:
                raise empty("slTriggerPx")
            return (OrderType.STOP_LIMIT, "sl") if stop else (OrderType.TAKE_PROFIT_LIMIT, "tp")
        if stop or profit:
            raise wrong("slTriggerPx" if stop else "tpTriggerPx")
        # A trigger order waits for its price from whichever side the market comes.
        last = self._catalogue.traded(listing).last
        rises = params.need_decimal("triggerPx") > last
        return (OrderType.STOP_LIMIT if rises == (side is Side.BUY) else OrderType.TAKE_PROFIT_LIMIT), "trigger"

    # --- cancelling and finding ---

    def _cancel(self, call: Call) -> dict[str, Any]:
        if not 0 < len(call.rows) <= min(_MOST_CANCELLED, MOST_ROWS):
            raise wrong("orders")
        rows = []
        for params in call.rows:
            row = {
                "algoClOrdId": str(params.values.get("algoClOrdId") or ""),
                "algoId": str(params.values.get("algoId") or ""),
                "clOrdId": "",
                "sCode": "0",
                "sMsg": "",
                "tag": "",
            }
            try:
                order = self._desk.find_algo(call.account, self._catalogue.wanted(params), params)
                if order is None or algo_state(order) != "live":
                    raise RowRefusal("51400", "Cancellation failed as the order does not exist.")
                self._desk.engine.cancel(call.account, order.id)
            except (RowRefusal, Refusal) as refusal:
                row["sCode"], row["sMsg"] = refusal.code, refusal.message
            rows.append(row)
        code, message = verdict(rows)
        return {"code": code, "data": rows, "msg": message}

    def _row(self, call: Call, order: EngineOrder) -> dict[str, Any]:
        return algo_row(call.account, self._catalogue.of_symbol(order.market), order)

    def _one(self, call: Call) -> dict[str, Any]:
        order = self._desk.find_algo(call.account, None, call.params)
        if order is None:
            raise Refusal("51603", "Order does not exist")
        return success([self._row(call, order)])

    def _chosen(self, call: Call, states: tuple[str, ...]) -> dict[str, Any]:
        params = call.params
        kinds = set(params.need("ordType").split(","))
        if not kinds <= set(_KINDS) or (len(kinds) > 1 and kinds != _LISTED_TOGETHER):
            raise wrong("ordType")
        listings = {listing.symbol for listing in self._catalogue.selected(params, needs_type=False)}
        wanted = params.text("algoId")
        found = [
            order
            for order in self._desk.algo_orders(call.account)
            if order.market in listings
            and algo_state(order) in states
            and self._row(call, order)["ordType"] in kinds
            and wanted in (None, str(algo_number(order)))
        ]
        chosen = page(found, params, number=algo_number, time=lambda order: order.created)
        return success([self._row(call, order) for order in chosen])

    def _pending(self, call: Call) -> dict[str, Any]:
        return self._chosen(call, ("live",))

    def _history(self, call: Call) -> dict[str, Any]:
        """By `state`, or of one `algoId`."""
        state = call.params.choice("state", ("effective", "canceled", "order_failed"))
        if state is None and call.params.text("algoId") is None:
            raise Refusal("50015", "Either parameter state or algoId is required", status=400)
        return self._chosen(call, ("effective", "canceled") if state is None else (state,))


def _market_type(order_type: OrderType) -> OrderType:
    return OrderType.STOP_MARKET if order_type is OrderType.STOP_LIMIT else OrderType.TAKE_PROFIT_MARKET
