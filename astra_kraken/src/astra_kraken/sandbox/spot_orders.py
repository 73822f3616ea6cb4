"""Spot's orders between the venue's words and the engine: what REST and the stream share."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import msgspec

from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, Exchange, NewOrder, OrderEvent, Reject
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.catalogue import Catalogue, SpotListing
from astra_kraken.sandbox.limits import Meter, amend_cost, cancel_cost, edit_cost
from astra_kraken.sandbox.switch import Switch
from astra_kraken.sandbox.wire import SpotRefusal

ZERO = Decimal(0)
_FIRST_REFUSED = 1 << 39
"""Orders that the engine never took have numbers of their own."""
_REFUSED_KEPT = 1000
_FREE_TEXT = re.compile(r"[\x21-\x7e]{1,18}\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z|[0-9a-fA-F]{32}\Z")
MOST_DEADLINE_MS = 60_000

TYPES = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop-loss": OrderType.STOP_MARKET,
    "stop-loss-limit": OrderType.STOP_LIMIT,
    "take-profit": OrderType.TAKE_PROFIT_MARKET,
    "take-profit-limit": OrderType.TAKE_PROFIT_LIMIT,
}
TYPE_NAMES = {kind: name for name, kind in TYPES.items()}
_REASONS = {
    "ioc": "Unfilled IOC",
    "fok": "Unfilled FOK",
    "no-liquidity": "Insufficient liquidity",
    "self-trade": "Self trade prevention",
    "post-only": "Post only order",
    "insufficient-funds": "Out of funds",
    "expired": "Order expired",
}


class Tag(msgspec.Struct, eq=False):
    """What the venue remembers of an order and the engine does not."""

    userref: int | None = None
    oflags: tuple[str, ...] = ()
    trigger: str | None = None
    reason: str | None = None
    """Why it was cancelled, where the engine does not say."""
    amended: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """An order as either API asks for it."""

    listing: SpotListing
    order: NewOrder
    tag: Tag
    deadline_ms: int | None = None


def tag_of(order: EngineOrder) -> Tag:
    return order.tag if isinstance(order.tag, Tag) else Tag()


def spot_txid(order: EngineOrder) -> str:
    return ids.txid("O", order.id)


def fill_txid(fill: EngineFill) -> str:
    return ids.txid("T", ids.fill_number(fill.order_id, fill.trade_id))


def waits(order: EngineOrder) -> bool:
    """A conditional order that was not triggered (yet)."""
    return order.type.is_conditional and not order.triggered


def end_reason(order: EngineOrder) -> str | None:
    """The text of `reason`, of an order that ended without being filled."""
    if order.status.is_open or order.status is OrderStatus.FILLED:
        return None
    tag = tag_of(order)
    if order.reason is not None:
        return _REASONS.get(order.reason, order.reason)
    return tag.reason or "User requested"


def check_client_id(text: str | None) -> None:
    """A UUID with or without hyphens, or up to 18 characters of ASCII. Raises `SpotRefusal`."""
    if text is not None and not (_FREE_TEXT.match(text) or _UUID.match(text)):
        raise SpotRefusal("EGeneral:Invalid arguments:cl_ord_id")


def refusal_of(reject: Reject, listing: SpotListing | None = None) -> SpotRefusal:
    """The engine's rule in the venue's words."""
    texts = {
        "insufficient-funds": "EOrder:Insufficient funds",
        "post-only": "EOrder:Post only order",
        "order-not-found": "EOrder:Unknown order",
        "market-closed": "EService:Market in cancel_only mode",
        "tick-size": "EOrder:Tick size check failed",
        "lot-size": "EGeneral:Invalid arguments:volume",
        "min-quantity": "EOrder:Order minimum not met",
        "max-quantity": "EGeneral:Invalid arguments:volume",
        "min-notional": "EOrder:Cost minimum not met",
        "reduce-only": "EOrder:Reduce only:No position exists",
        "stop-would-trigger": "EOrder:Invalid price",
        "duplicate-client-order-id": "EOrder:Duplicate cl_ord_id",
    }
    return SpotRefusal(texts.get(reject.rule, "EGeneral:Invalid arguments"))


class SpotDesk:
    """Places, amends and cancels for REST and the stream, counts what that costs, finds orders."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, meter: Meter) -> None:
        self.engine = engine
        self.catalogue = catalogue
        self.meter = meter
        self.on_refused: Callable[[OrderEvent], None] = lambda event: None
        """Hears of post-only orders that were taken in and cancelled at once."""
        self._refused: dict[str, dict[int, EngineOrder]] = {}
        self._next_refused = _FIRST_REFUSED
        self._amendments = 0
        self.switch = Switch()

    # --- look-ups ---

    def listing_of(self, order: EngineOrder) -> SpotListing:
        return self.catalogue.spot[order.market]

    def open_orders(self, account: Account, listing: SpotListing | None = None) -> list[EngineOrder]:
        found = self.engine.open_orders(account, None if listing is None else listing.id)
        return [order for order in found if order.market in self.catalogue.spot]

    def orders(self, account: Account) -> list[EngineOrder]:
        """All orders, oldest first."""
        engine_orders = [o for o in self.engine.orders(account) if o.market in self.catalogue.spot]
        refused = self._refused.get(account.name)
        if not refused:
            return engine_orders
        return sorted([*engine_orders, *refused.values()], key=lambda order: order.created)

    def fills(self, account: Account) -> list[EngineFill]:
        """Own fills, oldest first."""
        return [fill for fill in self.engine.fills(account) if fill.market in self.catalogue.spot]

    def order(self, account: Account, txid: str) -> EngineOrder | None:
        """By the venue's id."""
        number = ids.number_of_txid(txid, "O")
        if number is None:
            return None
        refused = self._refused.get(account.name, {}).get(number)
        if refused is not None:
            return refused
        try:
            found = self.engine.order(account, order_id=number)
        except Reject:
            return None
        return found if found.market in self.catalogue.spot else None

    def open_with_client_id(self, account: Account, client_id: str) -> EngineOrder | None:
        for order in self.open_orders(account):
            if order.client_order_id == client_id:
                return order
        return None

    def open_by(self, account: Account, reference: str) -> list[EngineOrder]:
        """Open orders by id, or by `userref`, a tag that several may share. Raises `SpotRefusal`."""
        if re.fullmatch(r"-?\d{1,10}", reference):
            found = [o for o in self.open_orders(account) if tag_of(o).userref == int(reference)]
        else:
            order = self.order(account, reference)
            if order is None and ids.number_of_txid(reference, "O") is None:
                raise SpotRefusal("EOrder:Invalid order")
            found = [order] if order is not None and order.status.is_open else []
        if not found:
            raise SpotRefusal("EOrder:Unknown order")
        return found

    # --- commands ---

    def check_deadline(self, deadline_ms: int | None, now_ms: int) -> None:
        if deadline_ms is None:
            return
        if now_ms >= deadline_ms:
            raise SpotRefusal("EService:Deadline elapsed")
        if deadline_ms - now_ms > MOST_DEADLINE_MS:
            raise SpotRefusal("EGeneral:Invalid arguments:deadline")

    def check(self, account: Account, wanted: Wanted, now_ms: int) -> None:
        """What is looked at before an order reaches the book; all that `validate` looks at. Raises `SpotRefusal`."""
        self.check_deadline(wanted.deadline_ms, now_ms)
        listing, order = wanted.listing, wanted.order
        check_client_id(order.client_order_id)
        for price in (order.price, order.stop_price):
            if price is not None and price.normalize().as_tuple().exponent < -listing.price_scale:  # type: ignore[operator]
                text = f"{listing.altname} price can only be specified up to {listing.price_scale} decimals."
                raise SpotRefusal(f"EOrder:Invalid price:{text}")
        if order.client_order_id is not None and self.open_with_client_id(account, order.client_order_id):
            raise SpotRefusal("EOrder:Duplicate cl_ord_id")

    def place(self, account: Account, wanted: Wanted, now_ms: int, *, via_stream: bool = False) -> EngineOrder:
        """Raises `SpotRefusal`.

        A post-only order that would take is refused on the stream; REST has given it an id before the book refuses
        it, and it ends cancelled.
        """
        listing, terms = wanted.listing, self.meter.tier(account.settings.get("tier"))
        self.check(account, wanted, now_ms)
        if len(self.open_orders(account, listing)) >= terms.open_orders and self.meter.limits.enforced:
            raise SpotRefusal("EOrder:Orders limit exceeded")
        if not self.meter.order(account.name, account.settings.get("tier"), listing.id, 1, now_ms):
            raise SpotRefusal("EOrder:Rate limit exceeded")
        try:
            return self.engine.place(account, msgspec.structs.replace(wanted.order, tag=wanted.tag))
        except Reject as reject:
            if reject.rule == "post-only" and not via_stream:
                return self._cancelled_at_once(account, wanted, now_ms)
            raise refusal_of(reject, listing) from None

    def _cancelled_at_once(self, account: Account, wanted: Wanted, now_ms: int) -> EngineOrder:
        new = wanted.order
        order = EngineOrder(
            id=self._next_refused,
            account=account.name,
            market=new.market,
            side=new.side,
            type=new.type,
            quantity=new.quantity or ZERO,
            price=new.price,
            stop_price=None,
            quote_quantity=None,
            time_in_force=new.time_in_force,
            post_only=True,
            reduce_only=False,
            position_side=None,
            client_order_id=new.client_order_id,
            created=now_ms,
            updated=now_ms,
            tag=wanted.tag,
        )
        self._next_refused += 1
        kept = self._refused.setdefault(account.name, {})
        kept[order.id] = order
        if len(kept) > _REFUSED_KEPT:
            del kept[next(iter(kept))]
        self.on_refused(OrderEvent("PENDING", copy.copy(order), now_ms))
        order.status, order.reason = OrderStatus.CANCELED, "post-only"
        self.on_refused(OrderEvent("CANCELED", order, now_ms))
        return order

    def cancel(self, account: Account, orders: Iterable[EngineOrder], now_ms: int, reason: str | None = None) -> int:
        """Cancel open orders; gives how many."""
        count = 0
        for order in list(orders):
            tag = tag_of(order)
            tag.reason = reason
            order.tag = tag
            cost = cancel_cost(now_ms - order.created)
            self.meter.cancel(account.name, account.settings.get("tier"), order.market, cost, now_ms)
            self.engine.cancel(account, order.id)
            count += 1
        return count

    def amend(
        self,
        account: Account,
        order: EngineOrder,
        now_ms: int,
        *,
        price: Decimal | None,
        quantity: Decimal | None,
        post_only: bool = False,
    ) -> str:
        """Change an open order in place; gives the id of the amendment. Raises `SpotRefusal`."""
        cost = amend_cost(now_ms - order.created)
        if not self.meter.order(account.name, account.settings.get("tier"), order.market, cost, now_ms):
            raise SpotRefusal("EOrder:Rate limit exceeded")
        if post_only and price is not None and self._would_take(order, price):
            raise SpotRefusal("EOrder:Post only order")
        try:
            self.engine.amend(account, order.id, price=price, quantity=quantity)
        except Reject as reject:
            raise refusal_of(reject) from None
        tag_of(order).amended = True
        self._amendments += 1
        return ids.txid("T", 1 << 79 | self._amendments)

    def _would_take(self, order: EngineOrder, price: Decimal) -> bool:
        _, bids, asks = self.engine.depth(order.market, 1)
        if order.side is Side.BUY:
            return bool(asks) and price >= asks[0].price
        return bool(bids) and price <= bids[0].price

    def edit(
        self,
        account: Account,
        order: EngineOrder,
        now_ms: int,
        *,
        price: Decimal | None,
        quantity: Decimal | None,
        userref: int | None,
    ) -> EngineOrder:
        """Cancel and place anew, under a new id and without the client id. Raises `SpotRefusal`."""
        cost = edit_cost(now_ms - order.created)
        if not self.meter.order(account.name, account.settings.get("tier"), order.market, cost, now_ms):
            raise SpotRefusal("EOrder:Rate limit exceeded")
        former = tag_of(order)
        new = NewOrder(
            market=order.market,
            side=order.side,
            type=order.type,
            quantity=quantity or order.remaining,
            price=order.price if price is None else price,
            stop_price=order.stop_price,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            expire_time=order.expire_time,
            tag=Tag(userref if userref is not None else former.userref, former.oflags, former.trigger),
        )
        former.reason = "Order replaced"
        order.tag = former
        self.engine.cancel(account, order.id)
        try:
            return self.engine.place(account, new)
        except Reject as reject:
            raise refusal_of(reject) from None

    def run_switch(self, now_ms: int) -> None:
        """Cancel the orders of those whose dead man's switch strikes."""
        for account in self.switch.due(now_ms):
            self.cancel(account, self.open_orders(account), now_ms, "Cancel all orders after")


def time_in_force(text: str | None, expire_ms: int | None) -> TimeInForce:
    """As either API spells it. Raises `SpotRefusal`."""
    try:
        wanted = TimeInForce((text or "GTC").upper())
    except ValueError:
        raise SpotRefusal("EGeneral:Invalid arguments:timeinforce") from None
    if (wanted is TimeInForce.GTD) != (expire_ms is not None):
        raise SpotRefusal("EGeneral:Invalid arguments:expiretm")
    return wanted


def side_of(text: str | None, name: str) -> Side:
    if text not in ("buy", "sell"):
        raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
    return Side.BUY if text == "buy" else Side.SELL


def new_order(
    listing: SpotListing,
    side: Side,
    kind: str | None,
    *,
    quantity: Decimal | None,
    quote_quantity: Decimal | None,
    price: Decimal | None,
    trigger_price: Decimal | None,
    tif: TimeInForce,
    expire_ms: int | None,
    post_only: bool,
    client_id: str | None,
) -> NewOrder:
    """The engine's command. Raises `SpotRefusal` for what neither API knows or the sandbox cannot do."""
    if kind not in TYPES:
        raise SpotRefusal("EGeneral:Invalid arguments:ordertype")
    order_type = TYPES[kind]
    if order_type.has_price != (price is not None) or order_type.is_conditional != (trigger_price is not None):
        raise SpotRefusal("EGeneral:Invalid arguments:price")
    if quote_quantity is not None and (order_type is not OrderType.MARKET or side is not Side.BUY):
        raise SpotRefusal("EGeneral:Invalid arguments:viqc")
    if post_only and order_type is not OrderType.LIMIT:
        raise SpotRefusal("EGeneral:Invalid arguments:post")
    return NewOrder(
        market=listing.id,
        side=side,
        type=order_type,
        quantity=quantity,
        quote_quantity=quote_quantity,
        price=price,
        stop_price=trigger_price,
        time_in_force=TimeInForce.GTC if order_type is OrderType.MARKET else tif,
        post_only=post_only,
        client_order_id=client_id,
        expire_time=expire_ms,
    )


def order_fees(order: EngineOrder) -> Decimal:
    return sum((fill.fee for fill in order.fills), ZERO)


def description(listing: SpotListing, order: EngineOrder | NewOrder) -> str:
    """`buy 1.25000000 XBTUSD @ limit 30010.0`."""
    amount = order.quantity if order.quantity else getattr(order, "quote_quantity", None)
    head = f"{'buy' if order.side is Side.BUY else 'sell'} {listing.volume(amount)} {listing.altname} @ "
    name = TYPE_NAMES[order.type].replace("-limit", "").replace("-", " ")
    if not order.type.is_conditional:
        return head + (name if order.price is None else f"{name} {listing.price(order.price)}")
    limit = "" if order.price is None else f" -> limit {listing.price(order.price)}"
    return f"{head}{name} {listing.price(order.stop_price)}{limit}"


def newest_first(rows: Sequence[EngineOrder]) -> list[EngineOrder]:
    return sorted(rows, key=lambda order: (order.updated, order.id), reverse=True)
