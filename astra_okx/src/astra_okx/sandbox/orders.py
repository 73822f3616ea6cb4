"""Orders between the venue's words and the engine: placing, amending, cancelling, finding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from astra.models.orders import OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineEvent, EngineOrder, Exchange, NewOrder, OrderEvent, Reject
from astra_okx.sandbox.calls import names
from astra_okx.sandbox.catalogue import (
    ALGO_BASE,
    ORDER_BASE,
    ORDER_STEP,
    Catalogue,
    Listing,
    algo_number,
)
from astra_okx.sandbox.tags import ALGO_MARK, BookedFill, Tag, Tally, number_of, state_of, tag_of, waits
from astra_okx.sandbox.wire import InstType, Params, Refusal, RowRefusal, wrong

ORDER_NAMES = names(
    "instId instIdCode tdMode ccy clOrdId tag side posSide ordType sz px reduceOnly tgtCcy banAmend pxAmendType "
    "tradeQuoteCcy stpMode"
)
AMEND_NAMES = names("instId instIdCode ordId clOrdId reqId newSz newPx cxlOnFail pxAmendType")
CANCEL_NAMES = names("instId instIdCode ordId clOrdId")
_BILL_BASE = 2_700_000_000_000_000_000
_KEPT = 20_000
_PRICED = ("limit", "post_only", "fok", "ioc")
_IN_FORCE = {"fok": TimeInForce.FOK, "ioc": TimeInForce.IOC, "optimal_limit_ioc": TimeInForce.IOC}
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
POSITION_SIDES = {"long": PositionSide.LONG, "short": PositionSide.SHORT}

_ANSWERS = {
    "insufficient-funds": ("51008", "Order failed. Insufficient balance in account."),
    "duplicate-client-order-id": ("51016", "Duplicated client order ID"),
    "market-not-found": ("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist."),
    "market-closed": ("51022", "Instrument suspended"),
    "tick-size": ("51000", "Parameter px error"),
    "lot-size": ("51121", "Order quantity must be a multiple of the lot size."),
    "min-quantity": ("51020", "Your order should meet or exceed the minimum order amount."),
    "max-quantity": ("51101", "Order amount exceeds the max amount per order."),
    "min-notional": ("51120", "Order quantity is less than the minimum."),
    "reduce-only": (
        "51169",
        "Order failed because you don't have any positions in this direction for this contract to reduce or close.",
    ),
    "not-supported": ("51000", "Parameter ordType error"),
}


def row_refusal(reject: Reject) -> RowRefusal:
    """What the venue answers to an order that the engine refuses."""
    code, message = _ANSWERS.get(reject.rule, ("51000", f"Parameter error: {reject}"))
    return RowRefusal(code, message)


def account_level(account: Account) -> str:
    """`acctLv`: 1 spot, 2 futures (if `Account.settings["acctLv"]` says nothing), 3 multi-currency, 4 portfolio."""
    return str(account.settings.get("acctLv", "2"))


class OrderDesk:
    """Places, finds, amends and cancels orders for REST and WebSocket alike."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, now_ms: Callable[[], int]) -> None:
        self.engine = engine
        self.catalogue = catalogue
        self._now_ms = now_ms
        self._open_ids: dict[tuple[str, str], int] = {}
        self._fills: dict[str, deque[BookedFill]] = {}
        self._tallies: dict[tuple[str, str, PositionSide | None], Tally] = {}
        self._bills = 0
        self._ghosts: dict[str, deque[EngineOrder]] = {}
        self._ghost_count = 0
        self._newest_id = 0
        self.on_ghost: Callable[[OrderEvent], None] = lambda event: None

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        if not isinstance(event, OrderEvent):
            return
        order = event.order
        self._newest_id = max(self._newest_id, order.id)
        if order.client_order_id is not None:
            key = (order.account, order.client_order_id)
            if order.status.is_open:
                self._open_ids[key] = order.id
            elif self._open_ids.get(key) == order.id:
                del self._open_ids[key]
        if event.fill is not None:
            self._bills += 1
            booked = BookedFill(_BILL_BASE + event.time * 4096 + self._bills, event.fill, order)
            self._fills.setdefault(order.account, deque(maxlen=_KEPT)).append(booked)
            tally = self._tallies.setdefault((order.account, order.market, order.position_side), Tally(event.time))
            tally.last_ms, tally.last_trade = event.time, event.fill.trade_id
            tally.fee += event.fill.fee
            tally.profit += event.fill.realized_pnl
        if event.kind == "TRIGGERED" and isinstance(order.tag, Tag) and order.tag.algo is not None:
            order.tag.algo.triggered_ms = event.time

    def fills(self, account: Account) -> Sequence[BookedFill]:
        """Own fills, oldest first."""
        return tuple(self._fills.get(account.name, ()))

    def traded(self, account: Account) -> Sequence[tuple[str, PositionSide | None]]:
        """(market, side) of everything that the account has traded, oldest first."""
        return [(market, side) for name, market, side in self._tallies if name == account.name]

    def tally(self, account: Account, market: str, side: PositionSide | None) -> Tally | None:
        return self._tallies.get((account.name, market, side))

    # --- placing ---

    def place(self, account: Account, listing: Listing, params: Params) -> EngineOrder:
        """An ordinary order. Raises `RowRefusal` or, for what cannot be read, `Refusal`."""
        new, tag = self._read_order(account, listing, params)
        if tag.client_id and (account.name, tag.client_id) in self._open_ids:
            raise row_refusal(Reject("duplicate-client-order-id"))
        try:
            return self.engine.place(account, new)
        except Reject as reject:
            if reject.rule == "post-only":
                return self._cancelled_at_once(account, new, tag)
            raise row_refusal(reject) from None

    def _read_order(self, account: Account, listing: Listing, params: Params) -> tuple[NewOrder, Tag]:
        contract = listing.type in (InstType.SWAP, InstType.FUTURES)
        side = SIDES[params.choice("side", tuple(SIDES)) or params.need("side")]
        kinds = _PRICED if listing.type is InstType.OPTION else (*_PRICED, "market")
        kind = params.choice("ordType", (*kinds, "optimal_limit_ioc") if contract else kinds) or params.need("ordType")
        priced = kind in _PRICED
        if not priced and params.text("px") is not None:
            raise wrong("px")
        size = params.need_decimal("sz")
        target = self._target(listing, params, side, kind)
        tag = Tag(
            type=kind,
            td_mode=self.margin_mode(account, listing, params),
            client_id=params.client_id() or "",
            tag=params.tag(),
            target=target,
            quote_size=params.need("sz") if target == "quote_ccy" else None,
            stp_mode=params.choice("stpMode", ("cancel_maker", "cancel_taker", "cancel_both")) or "cancel_maker",
        )
        params.boolean("banAmend")
        new = NewOrder(
            market=listing.symbol,
            side=side,
            type=OrderType.LIMIT if priced else OrderType.MARKET,
            quantity=None if target == "quote_ccy" else size,
            quote_quantity=size if target == "quote_ccy" else None,
            price=params.need_decimal("px") if priced else None,
            time_in_force=_IN_FORCE.get(kind, TimeInForce.GTC),
            post_only=kind == "post_only",
            reduce_only=self.reduce_only(account, listing, params),
            position_side=self.position_side(account, listing, params),
            client_order_id=tag.client_id or None,
            tag=tag,
        )
        return new, tag

    @staticmethod
    def _target(listing: Listing, params: Params, side: Side, kind: str) -> str:
        """`tgtCcy`: what a spot market order's size is in (by default the quote asset for buys, the base for sells)."""
        wanted = params.choice("tgtCcy", ("base_ccy", "quote_ccy"))
        quote = params.text("tradeQuoteCcy")
        if listing.type is not InstType.SPOT:
            if wanted is not None or quote is not None:
                raise wrong("tgtCcy" if wanted is not None else "tradeQuoteCcy")
            return ""
        if quote not in (None, listing.market.quote_asset):  # the engine pays in the market's own quote asset only
            raise wrong("tradeQuoteCcy")
        if kind != "market":
            return ""
        return wanted or ("quote_ccy" if side is Side.BUY else "base_ccy")

    def margin_mode(self, account: Account, listing: Listing, params: Params) -> str:
        """`tdMode`, as the account's mode asks for it; 51010 for contracts in spot mode."""
        mode = params.choice("tdMode", ("cash", "cross", "isolated")) or params.need("tdMode")
        level = account_level(account)
        if listing.type is InstType.SPOT:
            allowed: tuple[str, ...] = ("cash",) if level in ("1", "2") else ("cross",)
        elif level == "1":
            raise RowRefusal("51010", "The current account mode does not support this API interface. ")
        else:
            allowed = ("cross", "isolated")
        if mode not in allowed:
            raise wrong("tdMode")
        held = account.settings.setdefault("mgnMode", {})
        if listing.type.is_derivative and mode != held.get(listing.symbol, mode):
            busy = any(position.market == listing.symbol for position in self.engine.positions(account))
            if busy or self.engine.open_orders(account, listing.symbol):
                # The venue would open a second position beside it; the engine keeps one an instrument.
                raise RowRefusal("51000", "Parameter tdMode error: the sandbox keeps one margin mode an instrument")
        if listing.type.is_derivative:
            held[listing.symbol] = mode
        return mode

    @staticmethod
    def reduce_only(account: Account, listing: Listing, params: Params) -> bool:
        """Of contracts in net mode; in long/short mode it means nothing."""
        wanted = params.boolean("reduceOnly")
        if wanted and listing.type in (InstType.SPOT, InstType.OPTION):
            raise wrong("reduceOnly")
        return wanted and not account.hedge_mode

    @staticmethod
    def position_side(account: Account, listing: Listing, params: Params) -> PositionSide | None:
        """`posSide`: long or short in long/short mode, nothing or net otherwise, never in spot markets."""
        wanted = params.choice("posSide", ("net", "long", "short"))
        contract = listing.type in (InstType.SWAP, InstType.FUTURES)
        if contract and account.hedge_mode:
            if wanted not in POSITION_SIDES:
                raise wrong("posSide")
            return POSITION_SIDES[wanted or ""]
        if wanted not in (None, "net") or (wanted is not None and listing.type is InstType.SPOT):
            raise wrong("posSide")
        return None

    def _cancelled_at_once(self, account: Account, new: NewOrder, tag: Tag) -> EngineOrder:
        """A post-only order that would take: the venue accepts it, and cancels it (31). The engine never had it."""
        now_ms = self._now_ms()
        self._ghost_count += 1
        tag.number = ORDER_BASE + self._newest_id * ORDER_STEP + self._ghost_count % (ORDER_STEP - 1) + 1
        ghost = EngineOrder(
            id=-self._ghost_count,
            account=account.name,
            market=new.market,
            side=new.side,
            type=new.type,
            quantity=new.quantity or Decimal(0),
            price=new.price,
            stop_price=None,
            quote_quantity=None,
            time_in_force=new.time_in_force,
            post_only=True,
            reduce_only=new.reduce_only,
            position_side=new.position_side,
            client_order_id=new.client_order_id,
            created=now_ms,
            updated=now_ms,
            tag=tag,
        )
        self.on_ghost(OrderEvent("NEW", msgspec.structs.replace(ghost), now_ms))
        ghost.status, ghost.reason = OrderStatus.EXPIRED, "post-only"
        self._ghosts.setdefault(account.name, deque(maxlen=1000)).append(ghost)
        self.on_ghost(OrderEvent("EXPIRED", ghost, now_ms))
        return ghost

    # --- finding ---

    def find(self, account: Account, listing: Listing, params: Params) -> EngineOrder | None:
        """By `ordId` (it wins) or `clOrdId`: of a client id that was used again, the latest. 50015 with neither."""
        text, client_id = params.text("ordId"), params.text("clOrdId")
        if text is None and client_id is None:
            raise Refusal("50015", "Either parameter ordId or clOrdId is required", status=400)
        if text is not None:
            return self._by_number(account, listing, text, ORDER_BASE)
        ghosts = [one for one in self._ghosts.get(account.name, ()) if one.market == listing.symbol]
        ghost = next((one for one in reversed(ghosts) if one.client_order_id == client_id), None)
        try:
            order = self.engine.order(account, client_order_id=client_id, market=listing.symbol)
        except Reject:
            return ghost
        return ghost if ghost is not None and ghost.created > order.created else order

    def _by_number(self, account: Account, listing: Listing, text: str, base: int) -> EngineOrder | None:
        if not text.isascii() or not text.isdigit():
            raise wrong("ordId" if base == ORDER_BASE else "algoId")
        number = int(text)
        order_id, rest = divmod(number - base, ORDER_STEP)
        if rest:
            found = (one for one in self._ghosts.get(account.name, ()) if tag_of(one).number == number)
            return next((one for one in found if one.market == listing.symbol), None)
        try:
            order = self.engine.order(account, order_id=order_id, market=listing.symbol)
        except Reject:
            return None
        if base == ALGO_BASE:
            return order if order.type.is_conditional else None
        return None if waits(order) else order

    def find_algo(self, account: Account, listing: Listing | None, params: Params) -> EngineOrder | None:
        """A conditional order by `algoId` or `algoClOrdId`."""
        text, client_id = params.text("algoId"), params.text("algoClOrdId")
        if text is None and client_id is None:
            raise Refusal("50015", "Either parameter algoId or algoClOrdId is required", status=400)
        for one in [listing] if listing is not None else self.catalogue.all():
            if text is not None:
                found = self._by_number(account, one, text, ALGO_BASE)
            else:
                found = self._algo_by_client_id(account, one, client_id or "")
            if found is not None:
                return found
        return None

    def _algo_by_client_id(self, account: Account, listing: Listing, client_id: str) -> EngineOrder | None:
        try:
            return self.engine.order(account, client_order_id=ALGO_MARK + client_id, market=listing.symbol)
        except Reject:
            return None

    def orders(self, account: Account) -> list[EngineOrder]:
        """All ordinary orders, oldest first: what waits among the algo orders is left out."""
        found = [order for order in self.engine.orders(account) if not waits(order)]
        return sorted([*found, *self._ghosts.get(account.name, ())], key=number_of)

    def algo_orders(self, account: Account) -> list[EngineOrder]:
        return sorted((o for o in self.engine.orders(account) if o.type.is_conditional), key=algo_number)

    # --- amending and cancelling ---

    def amend(self, account: Account, listing: Listing, params: Params) -> EngineOrder:
        """Price, or total quantity with what is filled. Raises `RowRefusal`."""
        order = self.find(account, listing, params)
        size, price = params.decimal("newSz"), params.decimal("newPx")
        if size is None and price is None:
            raise RowRefusal("51500", "You must enter a price, quantity, or TP/SL")
        if order is None:
            raise RowRefusal("51503", "Order modification failed as the order does not exist.")
        state = state_of(order)
        if state == "canceled":
            raise RowRefusal("51509", "Order modification failed as the order has been canceled.")
        if state == "filled":
            raise RowRefusal("51510", "Order modification failed as the order has been completed.")
        tag = tag_of(order)
        tag.request_id, tag.amending = params.text("reqId") or "", True
        try:
            return self.engine.amend(account, order.id, price=price, quantity=size)
        except Reject as reject:
            if params.boolean("cxlOnFail"):
                tag.cancel_source = "0"
                self.engine.cancel(account, order.id)
            if reject.rule == "post-only":
                raise RowRefusal("51511", "Order modification failed: a post-only order would take.") from None
            raise row_refusal(reject) from None
        finally:
            tag.amending = False

    def cancel(self, account: Account, listing: Listing, params: Params) -> EngineOrder:
        """Raises `RowRefusal` for what is gone already."""
        order = self.find(account, listing, params)
        if order is None:
            raise RowRefusal("51400", "Cancellation failed as the order does not exist.")
        state = state_of(order)
        if state == "canceled":
            raise RowRefusal("51401", "Cancellation failed as the order is already canceled.")
        if state == "filled":
            raise RowRefusal("51402", "Cancellation failed as the order is already completed.")
        return self.engine.cancel(account, order.id)

    def cancel_open(self, account: Account, *, tag: str | None, source: str) -> None:
        """Cancel all open orders (with `tag`, where one is given) that are not algo orders."""
        for order in list(self.engine.open_orders(account)):
            if not waits(order) and tag in (None, tag_of(order).tag):
                if isinstance(order.tag, Tag):
                    order.tag.cancel_source = source
                self.engine.cancel(account, order.id)
