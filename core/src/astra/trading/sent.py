"""The orders that this process has sent: when each left, and whether it may be alive."""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from astra.errors import DuplicateClientOrderId
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order, OrderRef, OrderRequest
from astra.trading.outcome import CLOCKS_APART_MS, may_be

REMEMBERED = 10_000
EARLIER = 100
"""Earlier orders under an id that is used again and again are known by the venue's ids of the latest."""


class SentOrder(msgspec.Struct):
    """A placement. The request left between `earliest` and `latest` (ms by this machine's clock)."""

    market: str
    earliest: int
    latest: int
    where: Market
    request: OrderRequest
    alive: bool = True
    """May the order exist and not be done? Nobody has said otherwise."""
    in_flight: bool = False
    """Has the call that places it not ended yet? The request may still wait to be sent: `latest` is not known."""
    id: str | None = None
    """The venue's id of the order, once it is known."""
    others: deque[str] = msgspec.field(default_factory=lambda: deque(maxlen=EARLIER))
    """The venue's ids of earlier orders under the client order id, and those that this one had before amendments."""

    def may_be(self, order: Order) -> bool:
        """May an order that the venue tells of under the client order id be this placement?

        Once the venue's id is known it is that order and no other; only a conditional order goes on under another id
        when it is triggered. Before, it is what was asked for, and neither older than the placement nor an order that
        was known under the id before.
        """
        if order.market != self.market:
            return False
        if self.id is not None and order.id == self.id:
            return True
        if order.id in self.others or (self.id is not None and not self.request.type.is_conditional):
            return False
        changed = order.updated_time
        return may_be(self.request, order, self.earliest) and (
            changed is None or changed > self.earliest - CLOCKS_APART_MS
        )

    def became(self, order: Order) -> None:
        """The venue says what it has made of this placement, or of an amendment of it."""
        if order.id is not None and order.id != self.id:
            if self.id is not None:
                self.others.append(self.id)
            self.id = order.id
        if order.status.is_final:
            self.alive = False


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

    def begin(
        self, market: Market, order: OrderRequest, account: Credentials, now_ms: int, known: Order | None = None
    ) -> SentOrder:
        """A placement is about to leave; `known` is the order that is known under its id by now. Raises
        `DuplicateClientOrderId` while an earlier one under the id may be alive."""
        assert order.client_order_id is not None, "the order was not prepared"
        key = (account, order.client_order_id)
        earlier = self._orders.pop(key, None)
        if earlier is not None and earlier.alive:
            self._orders[key] = earlier
            raise DuplicateClientOrderId(
                f"client order id {order.client_order_id} was used before, in {earlier.market}, and nothing says that "
                "the order is done: take another id, or ask what became of it first (get_order, resolve_order). "
                "Nothing was sent",
                exchange=market.exchange,
            )
        sent = self._orders[key] = SentOrder(market.symbol, now_ms, now_ms, market, order)
        if earlier is not None:
            sent.others.extend(earlier.others)
        for one in (earlier, known):
            if one is not None and one.id is not None and one.id not in sent.others:
                sent.others.append(one.id)
        if len(self._orders) > REMEMBERED:
            self._orders.popitem(last=False)
        return sent

    def told(self, account: Credentials, order: Order) -> None:
        """The venue told of an order: one that is done frees its id, where it is the order that was placed last."""
        if order.client_order_id is None or not order.status.is_final:
            return
        sent = self.find(account, order.client_order_id)
        if sent is not None and sent.may_be(order):
            sent.became(order)

    def amended(self, account: Credentials, ref: OrderRef, order: Order) -> None:
        """The venue told what became of an amendment of an order, which may go on under another id and has another
        price or size."""
        name = ref.client_order_id or order.client_order_id
        sent = None if name is None else self.find(account, name)
        if sent is None or sent.market != order.market or order.id in sent.others:
            return
        if ref.client_order_id is not None or ref.id == sent.id:
            sent.became(order)
