"""The markets as the venue names and numbers them."""

from __future__ import annotations

import zlib
from decimal import Decimal

from astra.models.markets import Market
from astra.sandbox import EngineOrder, Exchange, PublicTrade
from astra.sandbox.toolkit import scale_of
from astra_htx.sandbox.wire import Family

ORDER_BASE = {
    Family.SPOT: 1_314_500_000_000_000,
    Family.LINEAR: 1_519_705_000_000_000_000,
    Family.COIN_SWAP: 1_172_923_000_000_000_000,
    Family.COIN_FUTURES: 1_093_135_000_000_000_000,
}
"""Order ids: beyond 2^53 but for Spot."""
ALIASES = {"this_week": "CW", "next_week": "NW", "quarter": "CQ", "next_quarter": "NQ"}
_STEPS = 8
"""Book numbers rise by this much a change."""


class Listing:
    """A market with the names and numbers the venue gives it."""

    def __init__(self, engine: Exchange, market: Market) -> None:
        self._engine = engine
        self.family = Family(market.product)
        self.symbol = market.symbol
        self.native = market.native_symbol
        self.base = market.base_asset
        self.quote = market.quote_asset
        self.pair = f"{self.base}-{self.quote}"
        self.size = market.contract_size or Decimal(1)
        self.settle = market.margin_asset or market.quote_asset
        self.contract_type = "swap"
        """swap, this_week, ..., next_quarter (set by the catalogue)."""
        spread = zlib.crc32(self.symbol.encode()) % 1000
        self.book_base = 100_000_000_000 + spread * 50_000_000
        self.trade_base = 100_021_000_000 + spread * 50_000_000

    @property
    def market(self) -> Market:
        """As it is listed now: status, tick and lot may change."""
        return self._engine.markets[self.symbol]

    @property
    def price_digits(self) -> int:
        return scale_of(self.market.tick_size)

    @property
    def lot_digits(self) -> int:
        return scale_of(self.market.lot_size)

    @property
    def order_base(self) -> int:
        return ORDER_BASE[self.family]

    def update_id(self, change_id: int) -> int:
        return self.book_base + change_id * _STEPS

    def change_id(self, update_id: int) -> int:
        return (update_id - self.book_base) // _STEPS

    def order_id(self, order: EngineOrder) -> int:
        return self.order_base + order.id

    def trade_id(self, trade: PublicTrade) -> int:
        return self.trade_base + trade.id

    @property
    def contract_key(self) -> str:
        """What names the contract in topics of private streams: `btc-usd`, `btc`."""
        return self.base.lower() if self.family is Family.COIN_FUTURES else self.native.lower()

    def worth_base(self, contracts: Decimal, price: Decimal) -> Decimal:
        """Contracts in units of the base asset."""
        return contracts * self.size / price if self.market.is_inverse else contracts * self.size

    def turnover(self, contracts: Decimal, price: Decimal) -> Decimal:
        """Contracts in units of the quote asset."""
        return contracts * self.size if self.market.is_inverse else contracts * self.size * price


class Catalogue:
    """Listings by symbol and by native name; follows what the engine lists later."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self._by_symbol: dict[str, Listing] = {}
        self._by_native: dict[tuple[Family, str], Listing] = {}
        self._by_family: dict[Family, list[Listing]] = {}

    def _refresh(self) -> None:
        markets = self._engine.markets
        if len(markets) == len(self._by_symbol):
            return
        for symbol, market in markets.items():
            if symbol not in self._by_symbol:
                listing = self._by_symbol[symbol] = Listing(self._engine, market)
                self._by_native[(listing.family, listing.native.upper())] = listing
                self._by_family.setdefault(listing.family, []).append(listing)
        self._name_terms()

    def _name_terms(self) -> None:
        """Dated contracts by nearness of delivery: quarter, next_quarter (the sandbox lists no weekly ones)."""
        dated: dict[tuple[Family, str], list[Listing]] = {}
        for listing in self._by_symbol.values():
            if listing.market.expiry is not None:
                dated.setdefault((listing.family, listing.pair), []).append(listing)
        for group in dated.values():
            for name, listing in zip(
                ("quarter", "next_quarter"), sorted(group, key=lambda one: one.market.expiry or 0), strict=False
            ):
                listing.contract_type = name
                self._by_native[(listing.family, self.alias(listing))] = listing

    @staticmethod
    def alias(listing: Listing) -> str:
        """The rolling name of a dated contract: `BTC_CQ`, `BTC-USDT-CQ`."""
        term = ALIASES[listing.contract_type]
        return f"{listing.base}_{term}" if listing.family is Family.COIN_FUTURES else f"{listing.pair}-{term}"

    def all(self, family: Family) -> list[Listing]:
        self._refresh()
        return list(self._by_family.get(family, ()))

    def find(self, family: Family, native: str) -> Listing | None:
        """By native name; Spot is written in lower case, the others in any."""
        key = native.upper()
        if family is Family.SPOT and native != native.lower():
            return None
        found = self._by_native.get((family, key))
        if found is None:
            self._refresh()
            found = self._by_native.get((family, key))
        return found

    def of_symbol(self, symbol: str) -> Listing:
        found = self._by_symbol.get(symbol)
        if found is None:
            self._refresh()
            found = self._by_symbol[symbol]
        return found
