"""Orders between the venue's words and the engine: ids, tags, look-ups, placing and cancelling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineEvent, EngineOrder, Exchange, NewOrder, OrderEvent, Reject
from astra_binance.sandbox.catalogue import Listing
from astra_binance.sandbox.refusals import no_such_order, refusal_of, unknown_order
from astra_binance.sandbox.wire import Family, Params, Refusal, missing

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ALGO_MARK = "algo#"
"""Algo orders have a client id space of their own; no order's client id can hold a `#`."""
_ALIASES_KEPT = 10_000

_ENDS_ON_THE_BOOK = ("ioc", "fok", "no-liquidity", "self-trade", "expired")
"""Why orders expire that the book had taken."""

Row = TypeVar("Row")

_SPOT_TYPES = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP_MARKET: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}
FUTURES_TYPES = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP_MARKET: "STOP_MARKET",
    OrderType.STOP_LIMIT: "STOP",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT_MARKET",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT",
}


class Tag(msgspec.Struct, eq=False):
    """What the venue remembers of an order and the engine does not."""

    client_id: str
    type: str
    time_in_force: str | None = None
    """As it was sent (GTX), None where none was."""
    cancel_id: str | None = None
    """Spot: the client id of the request that cancelled the order."""
    former_id: str | None = None
    """Spot: the client id before the order was amended."""
    stp: str = "NONE"
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    good_till: int = 0
    algo: bool = False
    modify_id: int | None = None
    trigger_time: int = 0
    rejected: str | None = None
    """An algo order that was triggered and then not taken: why."""
    mmp: bool = False


def tag_of(order: EngineOrder) -> Tag:
    """The order's tag; one made up for orders that did not come through the protocol."""
    if isinstance(order.tag, Tag):
        return order.tag
    client_id = order.client_order_id or f"sandbox-{order.id}"
    native = _SPOT_TYPES[order.type]
    if order.post_only and native == "LIMIT":
        native = "LIMIT_MAKER"
    return Tag(client_id, native)


def shown_time_in_force(order: EngineOrder) -> str:
    tag = tag_of(order)
    if tag.time_in_force is not None:
        return tag.time_in_force
    if order.post_only:
        return "GTX"
    return order.time_in_force.value


def futures_type(order: EngineOrder) -> str:
    """The type shown: a triggered conditional order has become LIMIT or MARKET."""
    if order.type.is_conditional and order.triggered:
        return "LIMIT" if order.type.has_price else "MARKET"
    return FUTURES_TYPES[order.type]


def waits(order: EngineOrder) -> bool:
    """A conditional order that was not triggered (yet)."""
    return order.type.is_conditional and not order.triggered


def in_algo_service(order: EngineOrder) -> bool:
    """An algo order that has not become an order of the book: it waits, or ended waiting, or was not taken."""
    tag = tag_of(order)
    return tag.algo and (waits(order) or tag.rejected is not None)


def status_text(order: EngineOrder, family: Family) -> str:
    if family is Family.OPTIONS and order.status is OrderStatus.EXPIRED:
        return "CANCELLED"  # the family knows no EXPIRED, and spells CANCELED in two ways
    if order.status is OrderStatus.EXPIRED and order.reason == "self-trade":
        return "EXPIRED_IN_MATCH"
    return order.status.value


def expiry_reason(order: EngineOrder) -> str | None:
    if order.status is not OrderStatus.EXPIRED:
        return None
    return "INSUFFICIENT_LIQUIDITY" if order.reason in ("ioc", "fok", "no-liquidity") else "EXECUTION_RULE"


def native_id(listing: Listing, order: EngineOrder) -> int:
    return listing.ids.order_base + order.id


def check_precision(listing: Listing, params: Params, names: Iterable[str]) -> None:
    """More decimals than the market's precision: -1111, before any filter is looked at."""
    for name in names:
        text = params.values.get(name, "")
        digits = text.partition(".")[2].rstrip("0")
        most = listing.quantity_scale if "uantity" in name else listing.price_scale
        if len(digits) > most:
            spot = listing.family is Family.SPOT
            raise Refusal(
                -1111,
                f"Parameter '{name}' has too much precision."
                if spot
                else "Precision is over the maximum defined for this asset.",
            )


def check_filters(engine: Exchange, listing: Listing, new: NewOrder) -> None:
    """The market's rules, for orders that are only tested (`order/test`). Raises the engine's `Reject`."""
    market = listing.market
    if not listing.trading:
        raise Reject("market-closed")
    for price in (new.price, new.stop_price):
        tick = None if price is None else market.tick_at(price)
        if price is not None and tick and price % tick:
            raise Reject("tick-size")
    if new.quantity is None:
        return
    if market.lot_size and new.quantity % market.lot_size:
        raise Reject("lot-size")
    if market.min_quantity and new.quantity < market.min_quantity:
        raise Reject("min-quantity")
    if market.max_quantity and new.quantity > market.max_quantity:
        raise Reject("max-quantity")
    worth = listing.quote_value(new.price or engine.mark_price(listing.symbol), new.quantity)
    if market.min_notional and worth < market.min_notional and not new.reduce_only:
        raise Reject("min-notional")


class OrderDesk:
    """Places, finds and cancels orders for every family."""

    def __init__(self, engine: Exchange) -> None:
        self.engine = engine
        self._made_ids = 0
        self._aliases: dict[tuple[str, str, str], int] = {}
        self._triggered: EngineOrder | None = None

    def heard(self, event: EngineEvent) -> None:
        """Note when algo orders are triggered, and which of them are then not taken (the very next event says so)."""
        triggered, self._triggered = self._triggered, None
        if not isinstance(event, OrderEvent) or not isinstance(event.order.tag, Tag) or not event.order.tag.algo:
            return
        tag = event.order.tag
        if event.kind == "TRIGGERED":
            tag.trigger_time = event.time
            self._triggered = event.order
            return
        refused = event.kind == "EXPIRED" and event.order.reason not in _ENDS_ON_THE_BOOK
        if refused and triggered is not None and triggered.id == event.order.id:
            tag.rejected = event.order.reason

    def make_client_id(self, prefix: str = "") -> str:
        """A client id for who gave none."""
        self._made_ids += 1
        number = int.from_bytes(hashlib.sha256(f"client id {self._made_ids}".encode()).digest()[:16])
        letters: list[str] = []
        while len(letters) < 22:
            number, letter = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[letter])
        return prefix + "".join(letters)

    def place(self, account: Account, listing: Listing, new: NewOrder) -> EngineOrder:
        """Raises `Refusal` in the family's words."""
        try:
            return self.engine.place(account, new)
        except Reject as reject:
            raise refusal_of(reject, listing.family, new.type) from None

    def check_fillable(self, account: Account, listing: Listing, new: NewOrder) -> None:
        """USD-M and COIN-M refuse (-5021) a FOK order that cannot be filled; Spot lets it expire."""
        _, bids, asks = self.engine.depth(listing.symbol, 5000)
        left = new.quantity or Decimal(0)
        for level in asks if new.side is Side.BUY else bids:
            reaches = new.price is None or (
                level.price <= new.price if new.side is Side.BUY else level.price >= new.price
            )
            if left <= 0 or not reaches:
                break
            left -= level.quantity
        if left > 0:
            raise refusal_of(Reject("fok"), listing.family)

    def cancel(self, account: Account, order: EngineOrder, cancel_id: str | None = None) -> EngineOrder:
        """-2011 unless the order is open."""
        tag = order.tag
        if isinstance(tag, Tag) and order.status.is_open:
            tag.cancel_id = cancel_id
        try:
            return self.engine.cancel(account, order.id)
        except Reject:
            raise unknown_order() from None

    def rename(self, account: Account, order: EngineOrder, client_id: str) -> None:
        """Spot amendments give the order a new client id."""
        tag = order.tag
        if not isinstance(tag, Tag):
            return
        tag.former_id, tag.client_id = tag.client_id, client_id
        self._aliases[account.name, order.market, client_id] = order.id
        if len(self._aliases) > _ALIASES_KEPT:
            del self._aliases[next(iter(self._aliases))]

    def find(
        self, account: Account, listing: Listing, *, number: int | None = None, client_id: str | None = None
    ) -> EngineOrder:
        """An order (not an algo order that still waits) by native id or client id. -2013 if there is none."""
        try:
            if number is not None:
                order = self.engine.order(account, order_id=number - listing.ids.order_base, market=listing.symbol)
            else:
                order = self._by_client_id(account, listing, client_id or "")
        except Reject:
            raise no_such_order() from None
        if in_algo_service(order):
            raise no_such_order()
        if client_id is not None and tag_of(order).client_id != client_id:
            raise Refusal(-2039, "Client order ID is not correct for this order ID.") if number else no_such_order()
        return order

    def _by_client_id(self, account: Account, listing: Listing, client_id: str) -> EngineOrder:
        renamed = self._aliases.get((account.name, listing.symbol, client_id))
        if renamed is not None:
            return self.engine.order(account, order_id=renamed, market=listing.symbol)
        try:
            return self.engine.order(account, client_order_id=client_id, market=listing.symbol)
        except Reject:
            return self.engine.order(account, client_order_id=_ALGO_MARK + client_id, market=listing.symbol)

    def find_asked_for(self, account: Account, listing: Listing, params: Params, client_name: str) -> EngineOrder:
        """By `orderId` or the client id parameter; at least one is mandatory, both must agree."""
        number, client_id = params.integer("orderId"), params.text(client_name)
        if number is None and client_id is None:
            raise missing(f"{client_name}' or 'orderId")
        return self.find(account, listing, number=number, client_id=client_id)

    def find_algo(
        self, account: Account, listings: Iterable[Listing], *, number: int | None, client_id: str | None
    ) -> EngineOrder:
        """A conditional order by algo id or client algo id."""
        for listing in listings:
            try:
                if number is not None:
                    order = self.engine.order(account, order_id=number - algo_base(listing), market=listing.symbol)
                else:
                    order = self.engine.order(
                        account, client_order_id=_ALGO_MARK + (client_id or ""), market=listing.symbol
                    )
            except Reject:
                continue
            if tag_of(order).algo:
                return order
        raise no_such_order()

    def open_orders(self, account: Account, listing: Listing | None, family: Family) -> list[EngineOrder]:
        """Open orders of the family; those that wait in the algo service are not among them."""
        found = self.engine.open_orders(account, None if listing is None else listing.symbol)
        return [
            order
            for order in found
            if (listing is not None or self.engine.markets[order.market].product == family)
            and not in_algo_service(order)
        ]

    def orders(self, account: Account, listing: Listing | None, family: Family) -> list[EngineOrder]:
        """All orders of the family, oldest first, without what waits or ended in the algo service."""
        found = self.engine.orders(account, None if listing is None else listing.symbol)
        return [
            order
            for order in found
            if (listing is not None or self.engine.markets[order.market].product == family)
            and not in_algo_service(order)
        ]

    def algo_orders(self, account: Account, listing: Listing | None, family: Family) -> list[EngineOrder]:
        found: Sequence[EngineOrder] = self.engine.orders(account, None if listing is None else listing.symbol)
        return [
            order
            for order in found
            if (listing is not None or self.engine.markets[order.market].product == family) and tag_of(order).algo
        ]


def algo_base(listing: Listing) -> int:
    """Algo ids are a space of their own."""
    return listing.ids.order_base // 50


def algo_client_id(client_id: str) -> str:
    """The client id under which the engine keeps an algo order."""
    return _ALGO_MARK + client_id


def within(time: int, params: Params, *, longest_ms: int | None = None) -> bool:
    """Is the time between `startTime` and `endTime`? A span beyond `longest_ms` is refused (-1127, -4166)."""
    start, end = params.integer("startTime"), params.integer("endTime")
    if longest_ms is not None and start is not None and end is not None and end - start > longest_ms:
        raise Refusal(-1127, f"More than {longest_ms // 3_600_000} hours between startTime and endTime.")
    return (start is None or time >= start) and (end is None or time <= end)


def page(found: list[Row], params: Params, limit: int, *, from_first: bool) -> list[Row]:
    """What fits: from the first on where the caller named one (an id, a start time), else the most recent."""
    return found[:limit] if from_first or "startTime" in params else found[-limit:]


def price_text(listing: Listing, value: Decimal | None) -> str:
    """A price as orders print it: with the market's decimals, a bare "0" for none in the futures families."""
    if value is None and listing.family is not Family.SPOT:
        return "0"
    return listing.price(value)


TIME_IN_FORCE = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK, "GTD": TimeInForce.GTD}
