"""Orders between the protocol and the engine: what was asked for, ids, client ids, cancelling, countdowns."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from astra.models.orders import OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import (
    Account,
    EngineEvent,
    EngineFill,
    EngineOrder,
    EnginePosition,
    Exchange,
    NewOrder,
    OrderEvent,
    PublicTrade,
    Reject,
)
from astra_htx.sandbox.catalogue import ORDER_BASE, Catalogue, Listing
from astra_htx.sandbox.wire import Family

_KEPT = 200_000
COIN_CLIENT_ID_MS = 24 * 3600 * 1000
"""How long a client id of coin-margined products stays taken."""
NAMED_MS = 8 * 3600 * 1000
"""How long after its placement an order answers to its client id."""


class Ticket(msgspec.Struct, frozen=True):
    """What an order says in the venue's words, kept on the engine's order (`tag`)."""

    kind: str
    """Spot: `buy-limit`, ...; derivatives: `limit`, `post_only`, `ioc`, ..."""
    client_id: str | None = None
    price: Decimal | None = None
    """The price asked for, where the engine was given another (see `OrderDesk.place`)."""
    refused: bool = False
    """A post-only order that would have taken: accepted, and cancelled at once."""
    source: str = "api"
    margin_mode: str = "cross"
    leverage: int | None = None
    time_in_force: str = "gtc"
    price_match: str | None = None
    operator: str | None = None
    self_match: str = "cancel_taker"


def ticket_of(order: EngineOrder, family: Family) -> Ticket:
    """The order's ticket; one made up of its fields if it was placed past the protocol."""
    if isinstance(order.tag, Ticket):
        return order.tag
    if order.type is OrderType.MARKET:
        kind = "market"
    elif order.type.is_conditional:
        kind = "stop-limit"
    elif order.post_only:
        kind = "limit-maker" if family is Family.SPOT else "post_only"
    else:
        fok = "limit-fok" if family is Family.SPOT else "fok"
        kind = {TimeInForce.IOC: "ioc", TimeInForce.FOK: fok}.get(order.time_in_force, "limit")
    if family is Family.SPOT:
        return Ticket(f"{order.side.lower()}-{kind}", order.client_order_id, source="spot-api")
    return Ticket(kind, order.client_order_id, time_in_force=order.time_in_force.lower())


def asked_price(order: EngineOrder, ticket: Ticket) -> Decimal | None:
    return ticket.price or order.price


def is_waiting(order: EngineOrder) -> bool:
    """A conditional order that was not triggered yet."""
    return order.type.is_conditional and not order.triggered


def ended(order: EngineOrder) -> bool:
    return order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED)


class FillNumbers:
    """Numbers of own fills: a running one, and that of the match, which all fills of a taker order share."""

    def __init__(self) -> None:
        self._next = 1
        self._numbers: dict[tuple[str, str, int], int] = {}
        self._matches: dict[tuple[str, int], int] = {}
        self._last: dict[str, PublicTrade] = {}

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, PublicTrade):
            last = self._last.get(event.market)
            first = event.id
            if last is not None and last.taker_order_id == event.taker_order_id:
                first = self._matches.get((last.market, last.id), last.id)
            self._last[event.market] = event
            if first != event.id:
                _keep(self._matches, (event.market, event.id), first)
        elif isinstance(event, OrderEvent) and event.fill is not None:
            fill = event.fill
            _keep(self._numbers, (fill.account, fill.market, fill.trade_id), self._next)
            self._next += 1

    def number(self, fill: EngineFill) -> int:
        """Grows from fill to fill."""
        return self._numbers[fill.account, fill.market, fill.trade_id]

    def match(self, fill: EngineFill) -> int:
        """The first trade of the taker order that the fill belongs to."""
        return self._matches.get((fill.market, fill.trade_id), fill.trade_id)


def _keep(table: dict[tuple[str, str, int], int] | dict[tuple[str, int], int], key: object, value: int) -> None:
    table[key] = value  # type: ignore[index] # one of the two kinds of keys
    if len(table) > _KEPT:
        del table[next(iter(table))]  # type: ignore[arg-type]


class OrderDesk:
    """What the endpoints and sockets of all families ask of the engine."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self.engine = engine
        self.catalogue = catalogue
        self.numbers = FillNumbers()
        self._by_client_id: dict[tuple[str, Family, str], int] = {}
        self._taken: dict[tuple[str, Family, str], int] = {}
        self._countdowns: dict[tuple[str, Family], tuple[Account, int]] = {}

    def heard(self, event: EngineEvent) -> None:
        self.numbers.heard(event)
        if isinstance(event, OrderEvent) and event.kind == "NEW":
            listing = self.catalogue.of_symbol(event.order.market)
            client_id = ticket_of(event.order, listing.family).client_id
            if client_id is not None:
                key = (event.order.account, listing.family, client_id)
                self._by_client_id.pop(key, None)
                self._by_client_id[key] = event.order.id
                if len(self._by_client_id) > _KEPT:
                    del self._by_client_id[next(iter(self._by_client_id))]

    # --- placing ---

    def place(self, account: Account, new: NewOrder, ticket: Ticket, *, hedged: bool) -> EngineOrder:
        """Place an order that the ticket describes. Raises the engine's `Reject`.

        The venue accepts a post-only order that would take, and cancels it at once: it becomes an order at the
        nearest price that does not take and may not rest. `hedged`: coin-margined positions are always two-sided,
        whatever the mode of the account's linear ones.
        """
        new = msgspec.structs.replace(new, tag=ticket, client_order_id=ticket.client_id)
        mode, account.hedge_mode = account.hedge_mode, hedged
        try:
            return self._place(account, new)
        except Reject as reject:
            if reject.rule != "post-only":
                raise
            return self._place(account, self._harmless(new, ticket))
        finally:
            account.hedge_mode = mode

    def _place(self, account: Account, new: NewOrder) -> EngineOrder:
        try:
            return self.engine.place(account, new)
        except Reject as reject:
            # Spot does not check client ids any more: the second order with one is an order like any other.
            spot = self.catalogue.of_symbol(new.market).family is Family.SPOT
            if reject.rule != "duplicate-client-order-id" or not spot:
                raise
            return self.engine.place(account, msgspec.structs.replace(new, client_order_id=None))

    def _harmless(self, new: NewOrder, ticket: Ticket) -> NewOrder:
        market = self.engine.markets[new.market]
        _, bids, asks = self.engine.depth(new.market, 1)
        tick = market.tick_size or Decimal(0)
        price = asks[0].price - tick if new.side is Side.BUY else bids[0].price + tick
        marked = msgspec.structs.replace(ticket, price=new.price, refused=True)
        return msgspec.structs.replace(new, price=price, post_only=False, time_in_force=TimeInForce.IOC, tag=marked)

    def take_client_id(self, account: Account, family: Family, client_id: str, now_ms: int) -> None:
        """Coin-margined client ids serve once in 24 h. Raises `Reject`."""
        key = (account.name, family, client_id)
        taken = self._taken.get(key)
        if taken is not None and now_ms - taken < COIN_CLIENT_ID_MS:
            raise Reject("duplicate-client-order-id")
        self._taken[key] = now_ms
        if len(self._taken) > _KEPT:
            del self._taken[next(iter(self._taken))]

    def release_client_id(self, account: Account, family: Family, client_id: str) -> None:
        """The order with it was refused."""
        self._taken.pop((account.name, family, client_id), None)

    def is_open(self, account: Account, family: Family, client_id: str) -> bool:
        found = self.by_client_id(account, family, client_id)
        return found is not None and found.status.is_open

    # --- finding ---

    def by_client_id(self, account: Account, family: Family, client_id: str) -> EngineOrder | None:
        """The newest order with the client id."""
        order_id = self._by_client_id.get((account.name, family, client_id))
        return None if order_id is None else self._by_engine_id(account, order_id)

    def named(self, account: Account, family: Family, client_id: str, now_ms: int) -> EngineOrder | None:
        """The newest order with the client id, as long as it answers to it."""
        found = self.by_client_id(account, family, client_id)
        return found if found is not None and now_ms - found.created <= NAMED_MS else None

    def by_id(self, account: Account, family: Family, native: str) -> EngineOrder | None:
        """By the venue's id."""
        if not (native.isascii() and native.isdigit()):
            return None
        found = self._by_engine_id(account, int(native) - ORDER_BASE[family])
        return found if found is not None and self.listing(found).family is family else None

    def _by_engine_id(self, account: Account, order_id: int) -> EngineOrder | None:
        try:
            return self.engine.order(account, order_id=order_id)
        except Reject:
            return None

    def listing(self, order: EngineOrder | EngineFill | EnginePosition) -> Listing:
        return self.catalogue.of_symbol(order.market)

    def native_id(self, order: EngineOrder) -> int:
        return self.listing(order).order_id(order)

    def orders(self, account: Account, family: Family) -> list[EngineOrder]:
        """All orders of the family, oldest first."""
        return [order for order in self.engine.orders(account) if self.listing(order).family is family]

    def open_orders(self, account: Account, family: Family) -> list[EngineOrder]:
        return [order for order in self.engine.open_orders(account) if self.listing(order).family is family]

    def fills(self, account: Account, family: Family) -> list[EngineFill]:
        return [fill for fill in self.engine.fills(account) if self.listing(fill).family is family]

    def positions(self, account: Account, family: Family) -> list[EnginePosition]:
        found = self.engine.positions(account)
        return [one for one in found if self.listing(one).family is family and one.quantity]

    def order_of(self, fill: EngineFill, account: Account) -> EngineOrder | None:
        return self._by_engine_id(account, fill.order_id)

    # --- leverage, closing ---

    def leverage(self, account: Account, listing: Listing) -> int:
        table = account.settings.get("leverage") or {}
        return int(table.get(listing.symbol, 20))

    def set_leverage(self, account: Account, listing: Listing, leverage: int) -> None:
        account.settings.setdefault("leverage", {})[listing.symbol] = leverage

    def closable(self, account: Account, listing: Listing, side: PositionSide) -> Decimal:
        """What of a position no open order closes already."""
        held = sum(
            (
                abs(one.quantity)
                for one in self.engine.positions(account)
                if one.market == listing.symbol and one.side is side
            ),
            Decimal(0),
        )
        closing = Side.SELL if side is PositionSide.LONG else Side.BUY
        for order in self.engine.open_orders(account, listing.symbol):
            if order.position_side is side and order.side is closing:
                held -= order.remaining
        return held

    # --- cancelling ---

    def cancel(self, order: EngineOrder, account: Account) -> EngineOrder:
        return self.engine.cancel(account, order.id)

    def cancel_all(self, account: Account, orders: Iterable[EngineOrder]) -> list[EngineOrder]:
        return [self.engine.cancel(account, order.id) for order in list(orders)]

    def set_countdown(self, account: Account, family: Family, due_ms: int | None) -> None:
        """Cancel all orders of the family then, unless told otherwise before (None: never)."""
        if due_ms is None:
            self._countdowns.pop((account.name, family), None)
        else:
            self._countdowns[account.name, family] = (account, due_ms)

    def run_countdowns(self, now_ms: int) -> None:
        for (name, family), (account, due) in list(self._countdowns.items()):
            if now_ms >= due:
                del self._countdowns[name, family]
                self.cancel_all(account, self.open_orders(account, family))
