"""Seeded order flow: the crowd that makes books and trades in every market, through the same matching as everybody.

The crowd trades as the engine's house account. Assets drift slowly round what they were worth at the start, each
market's orders gather round the price that follows (`astra_sandbox.prices.fair_price`), so that markets of one asset
move together. With the same seed and the same calls, the same orders follow; each market draws from a generator of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from random import Random

from astra.models.markets import MarketStatus
from astra.models.protocols import Clock
from astra.models.trades import Side
from astra.sandbox import EngineOrder
from astra.symbols import AssetType
from astra_sandbox.accounts import Kind, Terms
from astra_sandbox.books import BookSide
from astra_sandbox.engine import HOUSE, MatchingEngine
from astra_sandbox.prices import AssetValues, fair_price

BUSIEST = 20.0
"""Orders a second in each market, while the markets are few."""
TOTAL = 3500.0
"""Orders a second in all markets together, once they are many."""
DRIFT_EVERY_S = 0.5
DRIFT_PPM = 80
"""An asset moves by up to so many millionths at a time."""
TETHER = Decimal("0.03")
"""How far an asset strays from its starting value before it is driven back."""
ORDER_WORTH_USD = 4000
FEWEST, MOST = 50, 200
"""Levels a side, at the least and at the most."""
_RECENTRE = {AssetType.OPT: 25}
"""A market's fair price is worked out anew every so many orders (5 if not said otherwise)."""


def orders_per_second(markets: int, pace: float) -> float:
    """How many orders a second the crowd sends to each of so many markets."""
    return pace * min(BUSIEST, TOTAL / max(1, markets))


class Crowd:
    """The crowd in one market."""

    def __init__(self, engine: MatchingEngine, symbol: str, values: AssetValues, seed: int, levels: int) -> None:
        self.symbol = symbol
        self._engine = engine
        self._values = values
        self._book = engine.book(symbol)
        self._random = Random(f"{seed}:flow:{symbol}")
        self._target = levels
        self._terms: Terms = engine.terms(symbol)
        self._until_recentre = 0
        self._tick = self._lot = Decimal(0)
        self._fair_ticks = self._reach = self._usual_lots = 1

    def fill(self, now_ms: int) -> None:
        """Fill both sides of an empty book."""
        self._recentre(now_ms)
        for _ in range(self._target * 3 // 2):
            for side in (Side.BUY, Side.SELL):
                self._rest(side)

    def act(self, now_ms: int) -> None:
        """Send one order, or cancel one (a few more where the book has become thin)."""
        if self._until_recentre <= 0:
            self._recentre(now_ms)
        self._until_recentre -= 1
        if self._terms.market.status is not MarketStatus.ACTIVE:
            return
        random = self._random
        side = Side.BUY if random.getrandbits(1) else Side.SELL
        mine = self._book.side(side)
        count = len(mine.prices)
        if count < FEWEST // 2:
            for _ in range(5):
                self._rest(side)
        elif random.randrange(100) < 14 and self._book.opposite(side).prices:
            self._engine.house_place(self.symbol, side, self._quantity(2), None)
        elif count > MOST or (count > self._target and random.randrange(3) == 0):
            self._cancel_farthest(mine)
        elif random.randrange(100) < (72 if count < self._target else 40) or not self._cancel_any(mine):
            self._rest(side)

    def _recentre(self, now_ms: int) -> None:
        """Work out where the market is, and in which steps and sizes the crowd thinks."""
        terms = self._terms = self._engine.terms(self.symbol)
        market = terms.market
        self._until_recentre = _RECENTRE.get(market.asset_type, 5)
        fair = fair_price(market, self._values, now_ms)
        self._tick = market.tick_at(fair) or Decimal("0.01")
        self._lot = market.lot_size or Decimal("0.0001")
        self._fair_ticks = int(fair / self._tick)
        # Orders lie within about half a per cent of the price, or as near as the tick size and the levels permit.
        self._reach = min(max(self._fair_ticks // 200, self._target * 2), max(self._fair_ticks - 1, 1))
        if terms.kind is Kind.OPTION:
            lot_worth = terms.value(self._lot, fair) * self._values[terms.settle]
        else:
            lot_worth = terms.notional(self._lot, fair) * self._values[market.quote_asset]
        self._usual_lots = max(1, int(ORDER_WORTH_USD / lot_worth))

    def _rest(self, side: Side) -> None:
        """A limit order, more likely near the price than far from it; now and then it crosses the spread."""
        random = self._random
        reach = self._reach
        distance = random.randrange(reach) * random.randrange(reach) * random.randrange(reach) // reach**2
        ticks = self._fair_ticks - distance if side is Side.BUY else self._fair_ticks + 1 + distance
        price = self._tick * max(ticks, 1)
        if self._terms.market.tick_bands:
            price = self._terms.market.floor_price(price)
        self._engine.house_place(self.symbol, side, self._quantity(1), price)

    def _quantity(self, part: int) -> Decimal:
        """A quantity in whole lots, round the usual one divided by `part`."""
        lots = max(1, self._usual_lots * self._random.randrange(5, 400) // (200 * part))
        quantity = self._lot * lots
        return max(quantity, self._terms.market.min_quantity or quantity)

    def _cancel_any(self, side: BookSide) -> bool:
        price = self._random.choice(side.prices)
        return self._cancel(side, price)

    def _cancel_farthest(self, side: BookSide) -> bool:
        return self._cancel(side, side.prices[0] if side.is_bid else side.prices[-1])

    def _cancel(self, side: BookSide, price: Decimal) -> bool:
        """Cancel an order of the crowd at the price; False if there is none."""
        found = next(self._own(side, price), None)
        if found is not None:
            self._engine.house_cancel(found)
        return found is not None

    @staticmethod
    def _own(side: BookSide, price: Decimal) -> Iterator[EngineOrder]:
        return (order for order in side.levels[price].orders.values() if order.account == HOUSE)


class OrderFlow:
    """The crowds of all markets of an engine, and the values that drive them. A market that is listed later gets its
    crowd, one that is not active rests."""

    def __init__(self, engine: MatchingEngine, clock: Clock, *, seed: int, pace: float = 1.0) -> None:
        self._engine = engine
        self._clock = clock
        self._seed = seed
        self.pace = pace
        """Scales the flow; may be changed while it runs (0: the crowds stand still)."""
        self._values = AssetValues(seed)
        self._random = Random(f"{seed}:flow")
        self._crowds: dict[str, Crowd] = {}
        self._drifting: dict[str, Decimal] = {}
        self._due = 0.0
        self._until_drift = DRIFT_EVERY_S
        self._turn: list[Crowd] = []

    def fill(self) -> None:
        """Fill the books of markets that have no crowd yet."""
        now_ms = self._clock.wall_ns() // 1_000_000
        markets = self._engine.markets
        levels = 110 if len(markets) <= 100 else 70
        for symbol, market in markets.items():
            if self._engine.shares_a_book(symbol):
                continue  # the crowd of the market it is an alias of is there already
            if symbol not in self._crowds and market.status is MarketStatus.ACTIVE:
                crowd = self._crowds[symbol] = Crowd(self._engine, symbol, self._values, self._seed, levels)
                crowd.fill(now_ms)
                for asset in (market.base_asset, market.quote_asset):
                    if self._values[asset] != 1:  # dollars stand still
                        self._drifting.setdefault(asset, self._values[asset])

    def advance(self, elapsed_s: float) -> int:
        """Let the crowds do what they do in `elapsed_s`; returns the number of orders and cancels."""
        if len(self._crowds) < len(self._engine.markets):
            self.fill()
        self._until_drift -= elapsed_s
        if self._until_drift <= 0:
            self._until_drift += DRIFT_EVERY_S
            self._drift()
        self._due += elapsed_s * orders_per_second(len(self._crowds), self.pace) * len(self._crowds)
        count = int(self._due)
        self._due -= count
        now_ms = self._clock.wall_ns() // 1_000_000
        for _ in range(count):
            if not self._turn:  # every market has its turn before any has its next
                self._turn = self._random.sample(list(self._crowds.values()), len(self._crowds))
            self._turn.pop().act(now_ms)
        return count

    def _drift(self) -> None:
        for asset, start in self._drifting.items():
            step = self._random.randint(-DRIFT_PPM, DRIFT_PPM)
            value = self._values[asset]
            if value > start * (1 + TETHER):
                step = -abs(step)
            elif value < start * (1 - TETHER):
                step = abs(step)
            self._values[asset] = (value * (1_000_000 + step) / 1_000_000).quantize(start.scaleb(-8))
