"""The trading of one API family: what a venue writes for it, and what all of them share."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, TypeVar

from astra.errors import (
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    UnsupportedOperation,
    VenueError,
)
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    MarginMode,
    Order,
    OrderChange,
    OrderOptions,
    OrderRef,
    OrderRequest,
    OrderType,
    TimeInForce,
)
from astra.net.http import AnswerLost
from astra.rest import Placement, RestApi
from astra.venue import MarketTable

logger = logging.getLogger("astra.venue")

Row = TypeVar("Row")

RESOLVE_MARGIN_MS = 2000
"""After a command can no longer be accepted, so long until "not found" is believed."""
SKEW_MS = 5000
"""How far the venue's creation time and our time stamp of the same order may be apart."""
REUSE_MS = 60_000
"""Without the time stamp: an order that is this much older than the placement asked for is not that placement."""
PAGE = 1000
MOST_TOLD = 3
"""So many failures are told beside the one that is raised."""

HOOKS: Mapping[str, str] = {
    "place_order": "place",
    "place_orders": "place_batch",
    "get_order": "get",
    "cancel_order": "cancel",
    "cancel_orders": "cancel_batch",
    "amend_order": "amend",
    "cancel_all_orders": "cancel_all",
    "list_orders": "open_orders",
    "list_fills": "fills",
    "get_balances": "balances",
    "get_positions": "positions",
    "get_fees": "fees",
    "set_leverage": "set_leverage",
    "set_margin_mode": "set_margin_mode",
    "set_position_mode": "set_position_mode",
    "keep_alive_orders": "keep_alive_orders",
    "resolve_order": "place",
}
"""Hook -> the method of a family that serves it. A family offers what it overrides; who places can resolve."""


class FamilyTrading:
    """The trading hooks of one API family. What a family does not override is `UnsupportedOperation` by name.

    Class attributes: `title`, the family as errors call it; `options_model`, the venue's order options;
    `fills_by_market`, `fees_by_market`, `timer_by_market`: the venue has these for single markets only.
    `products` are the products whose markets the family trades.
    """

    title: ClassVar[str]
    options_model: ClassVar[type[OrderOptions] | None] = None
    fills_by_market: ClassVar[bool] = False
    fees_by_market: ClassVar[bool] = False
    timer_by_market: ClassVar[bool] = False
    lacks: ClassVar[Mapping[str, Collection[str]]] = {}
    """Product -> methods that the family has, but not for its markets."""
    finds_done_conditionals: ClassVar[bool] = True
    """Can a conditional order still be looked up when it is no longer open?"""

    def __init__(self, rest: RestApi, markets: MarketTable, products: Sequence[str] = ()) -> None:
        self.rest = rest
        self.markets = markets
        self.exchange = rest.exchange
        self.product = rest.product
        self.products = tuple(products) or (rest.product,)

    def unsupported(self, what: str) -> UnsupportedOperation:
        """An error that says what the family does not offer."""
        return UnsupportedOperation(f"{self.title}: no {what}", exchange=self.exchange)

    @property
    def command_window_ms(self) -> int | None:
        """For how long after its time stamp a command may be accepted: the receive window or expiry that every command
        carries. None where the venue has nothing of the kind: then only the venue's order history proves that an order
        was not placed."""
        return None

    def command_window_of(self, operation: str) -> int | None:
        """The same of one operation (the hook's name: "cancel_all_orders", ...), where not all commands carry it."""
        return self.command_window_ms

    def placement_window_ms(self, placement: Placement | None) -> int | None:
        """The same for a placement (None: not one of this process), where that depends on how it was sent."""
        return self.command_window_ms

    # -- orders -------------------------------------------------------------------------------------------------

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        """`order` has a client order id."""
        raise self.unsupported("orders")

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        """Raise `UnsupportedOperation` unless these orders can be placed in batches."""
        if not offers(type(self), "place_batch"):
            raise self.unsupported("batches of orders")

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Each position holds its order or the error that refused it."""
        raise self.unsupported("batches of orders")

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        raise self.unsupported("look-up of single orders")

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        raise self.unsupported("cancels")

    def check_cancel_batch(self) -> None:
        """Raise `UnsupportedOperation` unless the family takes cancels in batches."""
        if not offers(type(self), "cancel_batch"):
            raise self.unsupported("cancels in batches")

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Cancels of one market; each position holds the order or the error that refused its cancel."""
        raise self.unsupported("cancels in batches")

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        raise self.unsupported("cancelling of all orders")

    async def cancel_everywhere(self, credentials: Credentials) -> Sequence[Order]:
        """Cancel all open orders of the family: here, market by market, as `each` does."""

        async def of(symbol: str) -> Sequence[Order]:
            return await self.cancel_all(await self.markets.get(symbol), credentials)

        symbols = dict.fromkeys(order.market for order in await self.open_orders(None, credentials))
        return await self.each(partial(of, symbol) for symbol in symbols)

    async def cancel_listed(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """What `cancel_all` is where the venue has no such call: what is open is canceled in batches. Conditional
        orders go first, and then the list is asked for again: one that was triggered meanwhile is another order now. An
        order that was done meanwhile is none of the canceled; the gravest other failure is raised at the end."""

        async def cancel(orders: Sequence[Order]) -> Sequence[Order | Exception]:
            refs = [OrderRef(id=order.id) for order in orders]
            return await self.cancel_batch(market, refs, credentials) if refs else ()

        ordinary = await self.open_orders(market, credentials)
        answers: list[Order | Exception] = []
        if waiting := [order for order in ordinary if order.type.is_conditional]:
            answers += await cancel(waiting)
            try:
                ordinary = await self.open_orders(market, credentials)
            except VenueError as error:
                answers.append(error)
            asked = {order.id for order in waiting}
            ordinary = [order for order in ordinary if order.id not in asked]
        answers += await cancel(ordinary)
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        raise_gravest(failure for failure in failures if not isinstance(failure, OrderNotFound))
        return [answer for answer in answers if isinstance(answer, Order)]

    async def each(self, steps: Iterable[Callable[[], Awaitable[Sequence[Order]]]]) -> Sequence[Order]:
        """The steps of one command, one after the other: one that fails does not stop those after it. Gives the orders
        that they name; raises the gravest failure at the end (`raise_gravest`)."""
        done: list[Order] = []
        failures: list[VenueError] = []
        for step in steps:
            try:
                done += await step()
            except VenueError as error:
                failures.append(error)
        raise_gravest(failures)
        return done

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        raise self.unsupported("amendment of orders; cancel and place anew")

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """Conditional orders included."""
        raise self.unsupported("list of open orders")

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Oldest first. `market` is None only where not `fills_by_market`."""
        raise self.unsupported("list of fills")

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        raise self.unsupported("balances")

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        """A family without positions has none."""
        return ()

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        """`market` is None only where not `fees_by_market`."""
        raise self.unsupported("fee rates")

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        raise self.unsupported("leverage to set")

    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        raise self.unsupported("margin mode to set")

    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        raise self.unsupported("position mode to set")

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """`market` is None only where not `timer_by_market`."""
        raise self.unsupported("dead-man timer")

    # -- resolving ----------------------------------------------------------------------------------------------

    async def resolve(self, market: Market, client_order_id: str, since: int, credentials: Credentials) -> Order | bool:
        """What became of a placement (see the hook): looked up by client order id.

        "Not found" is believed once the venue could no longer accept the request when it was asked: that is the
        command window after the request's time stamp, by the venue's clock. The stamp of a placement of this process
        is remembered, because it is set after the rate limiter and may be much later than `since`. A venue without
        such a window overrides this.
        """
        await self.rest.clock.refresh()
        asked_ms = self.rest.clock.now_ms()
        since += round(self.rest.clock.offset_ms)
        placement = self.rest.placement(credentials, client_order_id)
        stamped = max(since, placement.stamped) if placement else since
        # Ids may be used again once their order is done: an old order under this id is not the one meant.
        oldest = placement.stamped - SKEW_MS if placement else since - REUSE_MS
        try:
            order = await self.placed(market, client_order_id, credentials, placement)
        except OrderNotFound:
            order = None
        if order is not None and (order.created_time is None or order.created_time >= oldest):
            return order
        window_ms = self.placement_window_ms(placement)
        if window_ms is None or asked_ms - stamped <= window_ms + RESOLVE_MARGIN_MS:
            return True
        return placement is not None and placement.conditional and not self.finds_done_conditionals

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        """The order of a placement, looked up where it was sent to (None: that is not known)."""
        return await self.get(market, OrderRef(client_order_id=client_order_id), credentials)

    # -- tools --------------------------------------------------------------------------------------------------

    def unknown(
        self, operation: str, market: Market, ref: OrderRef, lost: AnswerLost | VenueError
    ) -> OrderOutcomeUnknown:
        """That it is not known what became of one order, for the same reason as `lost`."""
        return OrderOutcomeUnknown(
            lost.message,
            exchange=self.exchange,
            market=market.symbol,
            operation=operation,
            client_order_id=ref.client_order_id,
            order_id=ref.id,
            code=lost.code,
        )

    async def after(self, operation: str, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The order as it stands after a command that was accepted, where the answer does not say. Raises
        `OrderOutcomeUnknown` when it cannot be asked for."""
        try:
            return await self.get(market, ref, credentials)
        except VenueError as error:
            lost = AnswerLost(f"accepted, but the order could not be asked for: {error.message}", code=error.code)
            raise self.unknown(operation, market, ref, lost) from error

    def options(self, order: OrderRequest, **allowed: bool) -> Any:
        """The order's own options as `options_model`; those that are not `allowed` here must not be set."""
        assert self.options_model is not None
        given = order.options
        options = given if isinstance(given, self.options_model) else self.options_model.model_validate(given or {})
        for name in options.model_fields_set:
            if not allowed.get(name, False) and getattr(options, name):
                raise self.unsupported(f"order option {name} for {order.type} orders")
        return options

    def resting_time_in_force(self, order: OrderRequest, *, gtd: bool = False) -> TimeInForce:
        """The time in force of an order that may rest; GTC unless it says otherwise."""
        if order.time_in_force is TimeInForce.GTD and not gtd:
            raise self.unsupported("time in force GTD")
        return order.time_in_force or TimeInForce.GTC

    def check_market_time_in_force(self, order: OrderRequest) -> None:
        """Market orders take no time in force: what cannot be filled expires, which IOC (and GTC) agree with."""
        if order.time_in_force in (TimeInForce.FOK, TimeInForce.GTD):
            raise self.unsupported(f"time in force {order.time_in_force} for {order.type} orders")

    def check_type(self, order: OrderRequest, types: Iterable[OrderType]) -> None:
        if order.type not in types:
            raise self.unsupported(f"{order.type} orders")

    async def market_of(self, native_symbol: str) -> Market | None:
        """The market of a row; None, and a warning, where the venue's own market list does not have it."""
        for product in self.products[:-1]:
            await self.markets.all()
            found = self.markets.peek_native(product, native_symbol)
            if found is not None:
                return found
        try:
            return await self.markets.native(self.products[-1], native_symbol)
        except MarketNotFound:
            logger.warning(
                "%s %s: a row of the unknown market %s is left out", self.exchange, self.product, native_symbol
            )
            return None

    async def with_markets(
        self, rows: Iterable[Row], market: Market | None, native_symbol: Callable[[Row], str]
    ) -> list[tuple[Market, Row]]:
        """Rows with their markets."""
        found = []
        for row in rows:
            native = native_symbol(row)
            known = market if market is not None and market.native_symbol == native else await self.market_of(native)
            if known is not None:
                found.append((known, row))
        return found

    async def windowed(
        self,
        fetch: Callable[[int | None, int | None, int], Awaitable[tuple[Sequence[Fill], int | None]]],
        since: int | None,
        limit: int | None,
        window_ms: int,
        page: int = PAGE,
    ) -> Sequence[Fill]:
        """Fills from `fetch(start, end, size)`, which takes at most `window_ms` and `page` rows at a time and gives
        the oldest of the window first; oldest first.

        `fetch` gives the fills, and the time of the page's last row where the window may have more of them (else
        None): a page that was full is full whatever is left out of it, like rows of markets that are not listed.

        Without `since` the newest `limit`; with it the oldest `limit` from there on. Raises `VenueError` where a page
        cannot hold what happened in one millisecond: what is behind it cannot be asked for.
        """
        if since is None:
            newest, _ = await fetch(None, None, min(limit or page, page))
            return in_order(newest)[-(limit or page) :]
        now = self.rest.clock.now_ms()
        found: dict[tuple[str, str], Fill] = {}
        start = since
        while start <= now and (limit is None or len(found) < limit):
            end = start + window_ms - 1
            fills, last = await fetch(start, end, page)
            found.update(((fill.market, fill.id), fill) for fill in fills)
            if last is None:
                start = end + 1
            elif last > start:
                start = last  # again, because more rows may share that millisecond
            else:
                raise VenueError(
                    f"more than {page} fills in one millisecond, {start}: not all can be told", exchange=self.exchange
                )
        return in_order(found.values())[:limit]


def offers(family: type[FamilyTrading], method: str) -> bool:
    """Does the family override the method of `FamilyTrading`?"""
    return getattr(family, method) is not getattr(FamilyTrading, method)


def raise_gravest(failures: Iterable[Exception]) -> None:
    """Raise what a command that went on after failures ends with, if there were any: an unknown outcome before anything
    else, or the first. Its message tells of the others."""
    several = list({id(failure): failure for failure in failures}.values())
    if not several:
        return
    gravest = next((failure for failure in several if isinstance(failure, OrderOutcomeUnknown)), several[0])
    others = [f"{type(failure).__name__}: {failure}" for failure in several if failure is not gravest]
    if others and isinstance(gravest, VenueError):
        more = f", and {len(others) - MOST_TOLD} more" if len(others) > MOST_TOLD else ""
        named(gravest, f"{gravest.message} (beside it: {'; '.join(others[:MOST_TOLD])}{more})")
    raise gravest


def named(error: VenueError, message: str) -> VenueError:
    """The same error in other words."""
    error.args = (message,)
    error.message = message
    return error


def in_order(fills: Iterable[Fill]) -> list[Fill]:
    """Fills by time, those of one millisecond by their ids (as numbers where they are)."""
    return sorted(fills, key=lambda fill: (fill.time, len(fill.id), fill.id))
