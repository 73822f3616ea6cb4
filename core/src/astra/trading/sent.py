"""The orders that this process has sent: when each left, and whether it may be alive."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from astra.errors import DuplicateClientOrderId
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order

REMEMBERED = 10_000


class SentOrder(msgspec.Struct):
    """A placement. The request left between `earliest` and `latest` (ms by this machine's clock)."""

    market: str
    earliest: int
    latest: int
    where: Market
    alive: bool = True
    """May the order exist and not be done? Nobody has said otherwise."""


class SentOrders:
    """The latest placements at one venue by account and client order id (at most `REMEMBERED`).

    Venues that do not keep client order ids unique, or only among open orders, would take a second order under the id
    of one that is alive; from then on neither could be told from the other. Here the second one is refused.
    """

    def __init__(self) -> None:
        self._orders: OrderedDict[tuple[Credentials, str], SentOrder] = OrderedDict()

    def find(self, account: Credentials, client_order_id: str) -> SentOrder | None:
        return self._orders.get((account, client_order_id))

    def alive(self, account: Credentials, market: str | None, until_ms: int) -> list[tuple[str, SentOrder]]:
        """(client order id, order) of the account's orders (None: in all markets) that were sent by then and may be
        there and not done, the latest last."""
        return [
            (name, sent)
            for (owner, name), sent in self._orders.items()
            if sent.alive and sent.earliest <= until_ms and owner == account and market in (None, sent.market)
        ]

    def begin(self, market: Market, client_order_id: str, account: Credentials, now_ms: int) -> SentOrder:
        """A placement is about to leave. Raises `DuplicateClientOrderId` while an earlier one under the id may be
        alive."""
        key = (account, client_order_id)
        earlier = self._orders.pop(key, None)
        if earlier is not None and earlier.alive:
            self._orders[key] = earlier
            raise DuplicateClientOrderId(
                f"client order id {client_order_id} was used before, in {earlier.market}, and nothing says that the "
                "order is done: take another id, or ask what became of it first (get_order, resolve_order). "
                "Nothing was sent",
                exchange=market.exchange,
            )
        sent = self._orders[key] = SentOrder(market.symbol, now_ms, now_ms, market)
        if len(self._orders) > REMEMBERED:
            self._orders.popitem(last=False)
        return sent

    def told(self, account: Credentials, order: Order) -> None:
        """The venue told of an order: one that is done frees its id."""
        if order.client_order_id is None or not order.status.is_final:
            return
        sent = self._orders.get((account, order.client_order_id))
        if sent is not None and sent.market == order.market:
            sent.alive = False
