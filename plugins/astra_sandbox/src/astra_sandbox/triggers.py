"""Conditional orders of one market, waiting for the last trade price to reach their stop price."""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Decimal

from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import EngineOrder

_STOPS = (OrderType.STOP_LIMIT, OrderType.STOP_MARKET)


def waits_for_rise(order_type: OrderType, side: Side) -> bool:
    """A stop buys on a rise and sells on a fall; a take-profit does the reverse."""
    return (order_type in _STOPS) == (side is Side.BUY)


class Triggers:
    """Waiting orders by stop price: those that wait for a rise, those that wait for a fall."""

    __slots__ = ("_falling", "_orders", "_rising")

    def __init__(self) -> None:
        self._rising: list[tuple[Decimal, int]] = []
        self._falling: list[tuple[Decimal, int]] = []
        self._orders: dict[int, EngineOrder] = {}

    def add(self, order: EngineOrder) -> None:
        insort(self._list_of(order), self._key(order))
        self._orders[order.id] = order

    def remove(self, order: EngineOrder) -> None:
        entries = self._list_of(order)
        del entries[bisect_left(entries, self._key(order))]
        del self._orders[order.id]

    def holds(self, order: EngineOrder) -> bool:
        return order.id in self._orders

    def pop_due(self, low: Decimal, high: Decimal) -> EngineOrder | None:
        """Take out the next order that trades between `low` and `high` trigger: first those that wait for a rise,
        then those that wait for a fall, nearest stop price first, older first at the same one."""
        for entries, reached in ((self._rising, high), (self._falling, -low)):
            if entries and entries[0][0] <= reached:
                return self._orders.pop(entries.pop(0)[1])
        return None

    def _list_of(self, order: EngineOrder) -> list[tuple[Decimal, int]]:
        return self._rising if waits_for_rise(order.type, order.side) else self._falling

    def _key(self, order: EngineOrder) -> tuple[Decimal, int]:
        assert order.stop_price is not None
        stop = order.stop_price if waits_for_rise(order.type, order.side) else -order.stop_price
        return (stop, order.id)
