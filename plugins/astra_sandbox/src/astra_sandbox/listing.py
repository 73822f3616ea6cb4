"""A listed market as the engine keeps it: terms, book, waiting conditional orders, trades."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from random import Random

from astra.models.markets import Market
from astra.models.orders import PositionSide
from astra.sandbox import EngineOrder, PublicTrade
from astra_sandbox.accounts import MONEY, ZERO, Terms, only_closes
from astra_sandbox.books import Book
from astra_sandbox.triggers import Triggers

Closable = Callable[[EngineOrder], Decimal]
"""How much of its account's position an order may still reduce."""


class Listing:
    """Everything the engine keeps of one market."""

    __slots__ = ("book", "market", "next_trade_id", "origin", "reference", "terms", "trades", "triggers")

    def __init__(self, terms: Terms, reference: Decimal, history: int, random: Random) -> None:
        self.terms = terms
        self.market: Market = terms.market
        self.reference = reference
        """What the market is worth by the seed, before anybody trades."""
        self.book = Book(update_id=random.randrange(10**6, 10**9))
        self.triggers = Triggers()
        self.next_trade_id = random.randrange(10**5, 10**8)
        self.trades: deque[PublicTrade] = deque(maxlen=history)
        self.origin = self
        """The market whose book this one shares; itself for all others."""

    def share(self, origin: Listing) -> None:
        """Trade in the book of `origin` from now on, settled in the market's own assets."""
        self.origin, self.reference = origin, origin.reference
        self.book, self.triggers, self.trades = origin.book, origin.triggers, origin.trades

    def mark_price(self) -> Decimal:
        """The middle of the book, else the last price, else the reference."""
        return self.book.mid() or self.book.last_price or self.reference

    def sweep(
        self,
        order: EngineOrder,
        closable: Closable,
        *,
        limit: Decimal | None,
        quantity: Decimal | None,
        quote: Decimal | None,
    ) -> tuple[Decimal, Decimal]:
        """What the order would get now: (quantity, sum of price x quantity), for a quantity or an amount of quote.

        Stops before an order of the same account; counts of orders that may only close no more than they can.
        """
        lot = self.market.market_lot_size or self.market.lot_size or MONEY
        side = self.book.opposite(order.side)
        got, worth = ZERO, ZERO
        left: dict[tuple[str, PositionSide | None], Decimal] = {}
        for price in side.best_first():
            if limit is not None and (price < limit if side.is_bid else price > limit):
                break
            for maker in side.levels[price].orders.values():
                if maker.account == order.account:
                    return got, worth
                offered = maker.remaining
                if only_closes(maker):
                    key = (maker.account, maker.position_side)
                    offered = min(offered, left.get(key, closable(maker)))
                    left[key] = left.get(key, closable(maker)) - offered
                if quantity is not None:
                    part = min(offered, quantity - got)
                else:
                    assert quote is not None
                    part = min(offered, (quote - worth) / price // lot * lot)
                got += part
                worth += part * price
                if part < offered:
                    return got, worth
        return got, worth
