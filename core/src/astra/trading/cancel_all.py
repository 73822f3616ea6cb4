"""What became of a "cancel all" whose answer is lost: asked of the orders, which are open or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio

from astra.errors import OrderOutcomeUnknown, VenueError
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order, OrderRef, OrderStatus
from astra.models.protocols import Clock
from astra.trading.outcome import CLOCKS_APART_MS, Evidence, find_out
from astra.trading.sent import SentOrder, SentOrders

MOST_LOOKED_UP = 200
"""Orders that were sent before, the latest, of which is asked what became of them."""
AT_ONCE = 8
NAMED = 10
"""Open orders that an error names."""


class LostCancelAll:
    """A "cancel all" of a market (None: of the venue) that left between `earliest` and `latest` (ms), unanswered.

    It was carried out if nothing that was there before is open any more, and either an order that was sent before is
    canceled or the request can no longer arrive: one that still could, would cancel what is placed meanwhile. What is
    still open when it can no longer arrive (`lifetime_s` after it left; None: the venue names no such time) was not
    canceled by it. That nothing was open before it left proves nothing either: it may arrive all the same.
    """

    def __init__(
        self,
        hooks: Mapping[str, Callable[..., Awaitable[Any]]],
        clock: Clock,
        sent: SentOrders,
        market: Market | None,
        account: Credentials,
        *,
        earliest: int,
        latest: int,
        lifetime_s: float | None,
    ) -> None:
        self._list = hooks.get("list_orders")
        self._get = hooks.get("get_order")
        self._clock = clock
        self._sent = sent
        self._market = market
        self._account = account
        self._earliest = earliest
        self._latest = latest
        self._lifetime_s = lifetime_s
        self._dead_at = None if lifetime_s is None else clock.monotonic() + lifetime_s
        before = sent.alive(account, None if market is None else market.symbol, earliest)
        self._before: dict[str, SentOrder] = dict(before[-MOST_LOOKED_UP:])
        self._canceled: dict[str, Order] = {}
        self._open: Sequence[Order] | None = None
        self._dead = False
        self._carried_out = False

    async def outcome(self, lost: OrderOutcomeUnknown, timeout_s: float) -> Sequence[Order]:
        """The orders that are canceled, as far as they were sent from here. Raises `OrderOutcomeUnknown`, which says
        what is still open, when that could not be found out in time or the request got lost on the way."""
        if self._list is None:
            raise lost
        finding = await find_out(self._look, Evidence(lambda _: False), self._clock, timeout_s, self._lifetime_s)
        if self._carried_out:
            return list(self._canceled.values())
        if self._open is None:
            said = f"Which orders are open could not be asked ({finding.error})."
        elif not self._open:
            said = "No order from before is open, but the request may still arrive and cancel what is placed now."
        else:
            names = [f"{order.client_order_id or order.id} in {order.market}" for order in self._open]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            said = f"Still open: {', '.join(names[:NAMED])}{more}."
            said += " The request can no longer arrive: cancel again." if self._dead else " It may still arrive."
        error = OrderOutcomeUnknown(
            f"{lost.message} {said}",
            exchange=lost.exchange,
            market=lost.market,
            operation="cancel_all_orders",
            code=lost.code,
        )
        error.__cause__ = finding.error or lost.__cause__
        raise error

    async def _look(self) -> bool:
        """False once there is nothing more to learn."""
        assert self._list is not None
        dead = self._dead_at is not None and self._clock.monotonic() >= self._dead_at
        listed: Sequence[Order] = await self._list(self._market, self._account)
        self._open = [order for order in listed if self._was_there(order)]
        self._dead = dead
        if self._open:
            return not dead
        await self._look_up()
        self._carried_out = dead or bool(self._canceled)
        return not self._carried_out and (self._dead_at is not None or bool(self._before))

    def _was_there(self, order: Order) -> bool:
        """May the order have been there when the request left? (A clock may be wrong, our memory is not.)"""
        if order.status.is_final or (self._market is not None and order.market != self._market.symbol):
            return False
        ours = order.client_order_id and self._sent.find(self._account, order.client_order_id)
        if ours and ours.market == order.market:
            return ours.earliest <= self._latest
        return order.created_time is None or order.created_time <= self._latest + CLOCKS_APART_MS

    async def _look_up(self) -> None:
        """What became of the orders that were sent before."""
        if self._get is None:
            return
        get = self._get
        slots = anyio.CapacityLimiter(AT_ONCE)

        async def ask(client_order_id: str, sent: SentOrder) -> None:
            async with slots:
                try:
                    order: Order = await get(sent.where, OrderRef(client_order_id=client_order_id), self._account)
                except VenueError:
                    return  # not known yet, or not any more
            if not sent.may_be(order):
                return  # an earlier order under the id
            if order.status.is_final:
                self._before.pop(client_order_id, None)
                self._sent.told(self._account, order)
            if order.status is OrderStatus.CANCELED:
                self._canceled[client_order_id] = order

        async with anyio.create_task_group() as tasks:
            for client_order_id, sent in list(self._before.items()):
                tasks.start_soon(ask, client_order_id, sent)


def unknown(exchange: str, market: Market | None, error: Exception) -> OrderOutcomeUnknown:
    """A bug on our side of the wire says nothing about the other."""
    where = exchange if market is None else market.symbol
    found = OrderOutcomeUnknown(
        f"cancel_all_orders in {where} failed in the plugin ({type(error).__name__}): its outcome is not known.",
        exchange=exchange,
        market=where,
        operation="cancel_all_orders",
    )
    found.__cause__ = error
    return found
