"""The venue's view of the engine's markets: native names, book sequences, id spaces."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from astra.models.markets import Market, MarketStatus
from astra.models.orders import OrderType
from astra.sandbox import BookChange, EngineOrder, Exchange
from astra.symbols import Symbol
from astra_kucoin.sandbox.wire import FUTURES, SPOT, Refusal

_EPOCH_MS = 1_600_000_000_000
_BEHIND_MS = 42_000_000_000
_REMEMBERED = 4096


class Change(msgspec.Struct, frozen=True):
    """A book change in the venue's numbering: each level has a number of its own."""

    first: int
    last: int
    time: int
    levels: tuple[tuple[str, Decimal, Decimal, int], ...]
    """(side, price, total, sequence); price 0 moves the counter and is no level."""


class Sequences:
    """The book counter of one market: one number a level, so that a change of the engine takes as many as it has
    levels. Classic sockets, unified sockets and REST count alike."""

    def __init__(self, base: int, *, bumps: bool) -> None:
        self.last = base
        self._base = base
        self._bumps = bumps
        self._ends: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def number(self, change: BookChange) -> Change:
        """Number the levels of a change: those that vanish first, so that no state in between is crossed."""
        levels = [("asks", amount.price, amount.quantity) for amount in change.asks]
        levels += [("bids", amount.price, amount.quantity) for amount in change.bids]
        levels.sort(key=lambda level: bool(level[2]))
        if (self._bumps and change.id % 3 == 0) or not levels:
            levels.insert(0, ("asks", Decimal(0), Decimal(0)))
        first = self.last + 1
        self.last += len(levels)
        self._ends.append((change.id, self.last))
        numbered = tuple((*level, first + index) for index, level in enumerate(levels))
        return Change(first, self.last, change.time, numbered)

    def of_change(self, change_id: int) -> int:
        """The number that a change of the engine ends with."""
        for known, end in reversed(self._ends):
            if known <= change_id:
                return end
        return self._base

    def change_of(self, sequence: int) -> int:
        """The engine's change that the number belongs to."""
        found = 0
        for known, end in reversed(self._ends):
            if end < sequence:
                break
            found = known
        return found


class Listing:
    """One market as the venue lists it."""

    def __init__(self, market: Market, index: int, started_ms: int) -> None:
        self.market = market
        self.product = market.product
        self.symbol = market.symbol
        self.native = market.native_symbol
        parsed = Symbol.parse(market.symbol)
        self.base, self.quote = parsed.base, parsed.quote
        spot = market.product == SPOT
        age_ms = max(1, started_ms - _EPOCH_MS)
        # Of futures they have as many digits as milliseconds, and are behind these.
        self.sequences = Sequences(age_ms if spot else started_ms - _BEHIND_MS, bumps=spot)
        # Spot counts trades beyond 2^53 and over all markets; each contract counts its own.
        self._trade_base = 11_000_000_000_000_000 + index * 10**12 + age_ms if spot else started_ms
        self.fill_base = 19_000_000_000_000 + age_ms

    @property
    def trading(self) -> bool:
        return self.market.status is MarketStatus.ACTIVE

    @property
    def settle(self) -> str:
        """The wire code of the settlement asset: futures call Bitcoin XBT."""
        return futures_code(self.market.margin_asset or self.quote)

    @property
    def multiplier(self) -> Decimal:
        return Decimal(1) if self.product == SPOT else self.market.contract_size or Decimal(1)

    def trade_id(self, engine_id: int) -> int:
        return self._trade_base + engine_id

    def value(self, price: Decimal, quantity: Decimal) -> Decimal:
        """Worth in the settlement asset."""
        if self.market.is_inverse:
            return quantity * self.multiplier / price
        return quantity * self.multiplier * price


def futures_code(asset: str) -> str:
    return "XBT" if asset == "BTC" else asset


def asset_of(code: str) -> str:
    return "BTC" if code == "XBT" else code


class Catalogue:
    """All listings, by symbol and by product and native name."""

    def __init__(self, engine: Exchange, started_ms: int) -> None:
        self._engine = engine
        self._started_ms = started_ms
        self._by_symbol: dict[str, Listing] = {}
        self._by_native: dict[tuple[str, str], Listing] = {}
        self.started_ms = started_ms
        age_ms = max(1, started_ms - _EPOCH_MS)
        self._order_base = age_ms << 22
        for symbol in engine.markets:
            self.of_symbol(symbol)

    def of_symbol(self, symbol: str) -> Listing:
        market = self._engine.markets[symbol]
        found = self._by_symbol.get(symbol)
        if found is None:
            found = Listing(market, len(self._by_symbol), self._started_ms)
            self._by_symbol[symbol] = found
            self._by_native[market.key] = found
        found.market = market
        return found

    def find(self, product: str, native: str | None) -> Listing | None:
        if native is None:
            return None
        found = self._by_native.get((product, native))
        if found is None and len(self._by_symbol) < len(self._engine.markets):
            for symbol in self._engine.markets:
                self.of_symbol(symbol)
            found = self._by_native.get((product, native))
        return None if found is None else self.of_symbol(found.symbol)

    def need(self, product: str, native: str) -> Listing:
        """Raises the product's refusal of an unknown symbol."""
        found = self.find(product, native)
        if found is None:
            raise unknown_symbol(product)
        return found

    def all(self, product: str) -> Iterator[Listing]:
        for symbol, market in self._engine.markets.items():
            if market.product == product:
                yield self.of_symbol(symbol)

    # --- order ids ---

    def order_id(self, order: EngineOrder, *, unified: bool = False) -> str:
        """The venue's id: 24 hexadecimal digits on classic spot, 18 decimal ones elsewhere.

        A stop order of classic spot and a conditional order of a unified account become a new order, with a new id,
        when they are triggered. Those of classic futures keep theirs.
        """
        spot = self._engine.markets[order.market].product == SPOT
        if spot and not unified:
            if waits(order):
                return f"vs{order.id:022x}"
            return f"{order.created // 1000:08x}{order.id:016x}"
        child = unified and order.type.is_conditional and order.triggered
        return str(self._order_base + order.id + (_CHILD if child else 0))

    def stop_id(self, order: EngineOrder) -> str:
        """The id of a stop order of a classic account as it waits, whatever became of it."""
        spot = self._engine.markets[order.market].product == SPOT
        return f"vs{order.id:022x}" if spot else str(self._order_base + order.id)

    def public_order_id(self, number: int, product: str, time: int) -> str:
        """How the public sees an order of the engine (of whatever account) in a trade."""
        return f"{time // 1000:08x}{number:016x}" if product == SPOT else str(self._order_base + number)

    def parent_id(self, order: EngineOrder) -> str:
        """The id of the conditional order that a unified order came of; empty: of none."""
        came_of_one = order.type.is_conditional and order.triggered
        return str(self._order_base + order.id) if came_of_one else ""

    def engine_id(self, native: str) -> int | None:
        """The engine's number in a native order id; None: it cannot be one. The order found must be compared."""
        if native.startswith("vs") and len(native) == 24:
            digits = native[2:]
        elif len(native) == 24:
            digits = native[8:]
        elif native.isascii() and native.isdigit() and len(native) <= 19:
            number = int(native) - self._order_base
            return number - _CHILD if number >= _CHILD else number
        else:
            return None
        try:
            return int(digits, 16)
        except ValueError:
            return None


_CHILD = 1 << 42


def waits(order: EngineOrder) -> bool:
    """Is it a conditional order that has not been triggered?"""
    return order.type not in (OrderType.LIMIT, OrderType.MARKET) and not order.triggered


def unknown_symbol(product: str) -> Refusal:
    if product == FUTURES:
        return Refusal("200003", "Invalid symbol.")
    return Refusal("900001", "symbol not exists")
