"""Orders between the venue's APIs and the engine: what an order carries beside what the engine knows, how it is found
again, and what the venue does with one that the engine would refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, Exchange, NewOrder, OrderEvent, Reject
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import UNIFIED, mode_of
from astra_kucoin.sandbox.catalogue import Catalogue, Listing, waits
from astra_kucoin.sandbox.refusals import no_such_order, not_cancelable, refusal_of
from astra_kucoin.sandbox.wire import Params, Refusal

ZERO = Decimal(0)
_FIRST_GHOST = 1 << 41
"""Numbers of orders that the engine never had, beyond any that it makes."""
_MOST_GHOSTS = 1000
_MOST_CLIENT_IDS = 200_000

SIDES = {"buy": Side.BUY, "sell": Side.SELL}
UPPER_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
TIMES_IN_FORCE = {
    "GTC": TimeInForce.GTC,
    "GTT": TimeInForce.GTD,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
}
IN_FORCE_TEXT = {meant: text for text, meant in TIMES_IN_FORCE.items()}
STP_MODES = {mode: mode for mode in ("CN", "CO", "CB", "DC")}


class Tag(msgspec.Struct, kw_only=True):
    """What the venue remembers of an order and the engine does not."""

    unified: bool = False
    cancel_after: int = 0
    remark: str | None = None
    tags: str | None = None
    stp: str | None = None
    stop: str = ""
    """`loss`/`entry` on classic spot, `down`/`up` on futures, `DOWN`/`UP` on unified accounts."""
    stop_price_type: str = ""
    leverage: str = ""
    margin_mode: str = ""
    size_unit: str = ""
    close_order: bool = False
    reduced: Decimal = ZERO
    """Size taken off by the caller while the order rested."""


def tag_of(order: EngineOrder) -> Tag:
    return order.tag if isinstance(order.tag, Tag) else Tag()


def conditional_type(side: Side, *, rising: bool, limit: bool) -> OrderType:
    """The engine's type of an order that waits for a rise (or a fall) to its stop price."""
    stop = rising is (side is Side.BUY)
    if stop:
        return OrderType.STOP_LIMIT if limit else OrderType.STOP_MARKET
    return OrderType.TAKE_PROFIT_LIMIT if limit else OrderType.TAKE_PROFIT_MARKET


def time_in_force(params: Params, now_ms: int) -> tuple[TimeInForce, int, int | None]:
    """(time in force, `cancelAfter` in seconds, expiry in ms)."""
    meant = params.choice("timeInForce", TIMES_IN_FORCE, "GTC")
    after = params.integer("cancelAfter") or 0
    if meant is not TimeInForce.GTD:
        return meant, 0, None
    if after <= 0:
        raise params.bad("cancelAfter is required with GTT")
    return meant, after, now_ms + after * 1000


class OrderDesk:
    """Places, finds and ends orders for all APIs."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, now_ms: Callable[[], int]) -> None:
        self.engine = engine
        self.catalogue = catalogue
        self._now_ms = now_ms
        self._client_ids: dict[tuple[str, str, str], int] = {}
        self._ghosts: dict[str, dict[int, EngineOrder]] = {}
        self._next_ghost = _FIRST_GHOST
        self.told: Callable[[OrderEvent], None] = lambda event: None
        """Hears of what happens to orders that the engine never had."""

    # --- placing ---

    def place(self, account: Account, listing: Listing, new: NewOrder, *, again: bool = False) -> EngineOrder:
        """Raises `Refusal`. `again`: the order takes over the client id of one that it replaces.

        A client id is good once for an account in each product. A post-only order that would take is accepted, and
        cancelled at once by the matching engine.
        """
        key = (account.name, listing.product, new.client_order_id or "")
        if new.client_order_id is not None and not again and key in self._client_ids:
            raise refusal_of(Reject("duplicate-client-order-id"), listing.product)
        try:
            order = self.engine.place(account, new)
        except Reject as reject:
            if reject.rule != "post-only":
                funds = f"{plain(listing.market.min_notional)} {listing.quote}"
                raise refusal_of(reject, listing.product, funds) from None
            order = self._ghost(account, new)
        if new.client_order_id is not None:
            self._client_ids[key] = order.id
            if len(self._client_ids) > _MOST_CLIENT_IDS:
                del self._client_ids[next(iter(self._client_ids))]
        return order

    def _ghost(self, account: Account, new: NewOrder) -> EngineOrder:
        now_ms = self._now_ms()
        order = EngineOrder(
            id=self._next_ghost,
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
            reduce_only=new.reduce_only,
            position_side=new.position_side,
            client_order_id=new.client_order_id,
            created=now_ms,
            updated=now_ms,
            tag=new.tag,
        )
        self._next_ghost += 1
        kept = self._ghosts.setdefault(account.name, {})
        kept[order.id] = order
        if len(kept) > _MOST_GHOSTS:
            del kept[next(iter(kept))]
        self.told(OrderEvent("NEW", order, now_ms))
        order.status, order.reason = OrderStatus.CANCELED, "post-only"
        self.told(OrderEvent("CANCELED", order, now_ms))
        return order

    def replace(
        self, account: Account, listing: Listing, order: EngineOrder, price: Decimal | None, size: Decimal | None
    ) -> EngineOrder:
        """Cancel and place anew under the same client id: `size` is the total, what is filled counts towards it. With
        nothing left to place the order is only cancelled. One that was triggered is an ordinary one by now."""
        market = listing.market
        left = (size if size is not None else order.quantity) - order.filled
        new_price = price if price is not None else order.price
        for value, step, rule in ((new_price, market.tick_size, "tick-size"), (left, market.lot_size, "lot-size")):
            if value is not None and step and value > 0 and value % step:
                raise refusal_of(Reject(rule), listing.product)
        self.cancel(account, listing, order)
        if left <= 0:
            return order
        new = NewOrder(
            market=order.market,
            side=order.side,
            type=OrderType.LIMIT if order.type.has_price else OrderType.MARKET,
            quantity=left,
            price=new_price,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            position_side=order.position_side,
            client_order_id=order.client_order_id,
            expire_time=order.expire_time,
            tag=order.tag,
        )
        return self.place(account, listing, new, again=True)

    def reduce(self, account: Account, listing: Listing, order: EngineOrder, size: Decimal) -> None:
        """Take `size` off an open order."""
        tag = tag_of(order)
        tag.reduced += size  # before the engine tells, for the frame counts it as cancelled
        try:
            self.engine.amend(account, order.id, price=None, quantity=order.quantity - size)
        except Reject as reject:
            tag.reduced -= size
            raise refusal_of(reject, listing.product) from None

    # --- finding ---

    def by_id(self, account: Account, product: str, native: str, listing: Listing | None = None) -> EngineOrder:
        """Raises the product's refusal when the account has no such order (in the market)."""
        number = self.catalogue.engine_id(native)
        if number is not None:
            order = self._ghosts.get(account.name, {}).get(number)
            if order is None:
                order = self._by_number(account, number)
            if order is not None and self._fits(order, product, listing) and self.native_id(account, order) == native:
                return order
        raise no_such_order(product)

    def by_client_id(
        self, account: Account, product: str, client_id: str, listing: Listing | None = None
    ) -> EngineOrder:
        """The newest order with the client id."""
        number = self._client_ids.get((account.name, product, client_id))
        order = None
        if number is not None:
            order = self._ghosts.get(account.name, {}).get(number) or self._by_number(account, number)
        else:
            order = self._placed_elsewhere(account, client_id, listing)
        if order is None or not self._fits(order, product, listing):
            raise no_such_order(product)
        return order

    def _placed_elsewhere(self, account: Account, client_id: str, listing: Listing | None) -> EngineOrder | None:
        """An order that did not come through this protocol (a test's own)."""
        try:
            return self.engine.order(
                account, client_order_id=client_id, market=None if listing is None else listing.symbol
            )
        except Reject:
            return None

    def native_id(self, account: Account, order: EngineOrder) -> str:
        return self.catalogue.order_id(order, unified=mode_of(account) == UNIFIED)

    def _by_number(self, account: Account, number: int) -> EngineOrder | None:
        try:
            return self.engine.order(account, order_id=number)
        except Reject:
            return None

    def _fits(self, order: EngineOrder, product: str, listing: Listing | None) -> bool:
        if listing is not None:
            return order.market == listing.symbol
        return self.engine.markets[order.market].product == product

    def orders(self, account: Account, product: str, listing: Listing | None = None) -> list[EngineOrder]:
        """All orders that are or were active, newest first; conditional ones once they are triggered."""
        known: Sequence[EngineOrder] = self.engine.orders(account, None if listing is None else listing.symbol)
        found = [order for order in known if self._fits(order, product, listing) and not is_stop(order)]
        ghosts = self._ghosts.get(account.name)
        if ghosts:
            found += [order for order in ghosts.values() if self._fits(order, product, listing)]
            found.sort(key=lambda order: order.created)
        found.reverse()
        return found

    def open_orders(self, account: Account, product: str, listing: Listing | None = None) -> list[EngineOrder]:
        """What rests in the books, newest first."""
        known = self.engine.open_orders(account, None if listing is None else listing.symbol)
        return [order for order in reversed(known) if self._fits(order, product, listing) and not waits(order)]

    def stops(self, account: Account, product: str, listing: Listing | None = None) -> list[EngineOrder]:
        """The conditional orders that wait, newest first."""
        known = self.engine.open_orders(account, None if listing is None else listing.symbol)
        return [order for order in reversed(known) if self._fits(order, product, listing) and waits(order)]

    def ended_stops(self, account: Account, product: str, listing: Listing | None = None) -> list[EngineOrder]:
        """The conditional orders that were triggered or cancelled, newest first."""
        known = self.engine.orders(account, None if listing is None else listing.symbol)
        found = [order for order in known if self._fits(order, product, listing) and order.type.is_conditional]
        return [order for order in reversed(found) if order.triggered or not order.status.is_open]

    def fills(self, account: Account, product: str, listing: Listing | None = None) -> list[EngineFill]:
        """Newest first."""
        known: Sequence[EngineFill] = self.engine.fills(account, None if listing is None else listing.symbol)
        return [fill for fill in reversed(known) if self.engine.markets[fill.market].product == product]

    # --- ending ---

    def cancel(self, account: Account, listing: Listing, order: EngineOrder) -> EngineOrder:
        """Raises the product's refusal when the order is done."""
        if not order.status.is_open:
            raise not_cancelable(listing.product)
        try:
            return self.engine.cancel(account, order.id)
        except Reject:
            raise not_cancelable(listing.product) from None

    def cancel_found(self, account: Account, product: str, find: Callable[[], EngineOrder]) -> EngineOrder:
        """Cancel what `find` gives; one that is not found is refused as one that cannot be cancelled."""
        try:
            order = find()
        except Refusal:
            raise not_cancelable(product) from None
        return self.cancel(account, self.catalogue.of_symbol(order.market), order)


def is_stop(order: EngineOrder) -> bool:
    """Is it a conditional order that was never triggered?"""
    return order.type.is_conditional and not order.triggered


def page(rows: list[EngineOrder], number: int, size: int) -> tuple[list[EngineOrder], int]:
    """(the rows of a page counted from 1, how many pages there are)."""
    return rows[(number - 1) * size : number * size], -(-len(rows) // size)
