"""The listed markets under the names of both protocols, and the numbers the venue gives their trades and books."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal

from astra.models.markets import Market, MarketStatus
from astra.sandbox import Exchange
from astra.symbols import AssetType
from astra_coinbase.sandbox.markets import ALIASES, INTERNATIONAL, SPOT, US_FUTURES, us_expiry

_CHANGE_STEP = 3
"""Book ids of the gateway jump."""


class Listing:
    """A market as the venue knows it."""

    def __init__(self, engine: Exchange, market: Market) -> None:
        self._engine = engine
        self.symbol = market.symbol
        self.native = market.native_symbol
        self.product = market.product
        self.spot = market.product == SPOT
        self.base = market.parsed_symbol.base
        """The venue's own name of the base asset."""
        self.quote = market.parsed_symbol.quote
        self.origin = self
        """The listing whose book this one shares; itself for all but aliases."""
        self.alias: Listing | None = None
        """Its other name."""
        self.size = market.contract_size or Decimal(1)
        """What the venue's unit of quantity is multiplied with: contract size, 1 for spot."""
        seed = int.from_bytes(hashlib.sha256(market.symbol.encode()).digest()[:4])
        self.trade_base = 10**9 + seed % 10**8
        self._change_base = 10**10 + seed
        self.is_option = market.asset_type is AssetType.OPT
        self.is_perpetual = market.asset_type is AssetType.PERP
        self.is_inverse = market.is_coin_margined
        self.expiry = us_expiry(self.native) if self.product == US_FUTURES else market.expiry or 0
        """When the contract expires; those of the US exchange all do."""
        self.settlement = market.margin_asset or market.quote_asset
        """Gateway: the currency of margin and fees."""
        self._prefix = "USDC-" if not self.is_inverse else "" if self.base == "BTC" else f"{self.base}-"

    @property
    def market(self) -> Market:
        """As it is listed now."""
        return self._engine.markets[self.symbol]

    @property
    def trading(self) -> bool:
        return self.market.status is MarketStatus.ACTIVE

    def trade_id(self, number: int) -> str:
        """The public id of the engine's trade."""
        return str(self.origin.trade_base + number)

    # --- the gateway's numbers ---

    def update_id(self, change_id: int) -> int:
        return self._change_base + change_id * _CHANGE_STEP

    def change_id(self, update_id: int) -> int:
        return (update_id - self._change_base) // _CHANGE_STEP

    def amount(self, contracts: Decimal) -> Decimal:
        """The engine's quantity in the gateway's unit: coins, for inverse futures USD."""
        return contracts * self.size

    def order_id(self, number: int) -> str:
        return f"{self._prefix}{number}"

    def trigger_id(self, number: int) -> str:
        """The id that a conditional order has until it is triggered."""
        return f"{self._prefix}SLTS-{number}"


class Catalogue:
    """All listings; markets that are listed later appear when they are first looked for."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self._listings: dict[str, Listing] = {}
        self._products: dict[str, Listing] = {}
        self._instruments: dict[str, Listing] = {}

    def _refresh(self) -> None:
        markets = self._engine.markets
        if len(markets) == len(self._listings):
            return
        for symbol, market in markets.items():
            if symbol in self._listings:
                continue
            listing = self._listings[symbol] = Listing(self._engine, market)
            if market.product == INTERNATIONAL:
                self._instruments[listing.native] = listing
            else:
                self._products[listing.native] = listing
            origin = self._listings.get(ALIASES.get(symbol, ""))
            if origin is not None:
                listing.origin, origin.alias = origin, listing

    def of_symbol(self, symbol: str) -> Listing:
        self._refresh()
        return self._listings[symbol]

    def product(self, product_id: str) -> Listing | None:
        """Of Advanced Trade."""
        self._refresh()
        return self._products.get(product_id)

    def instrument(self, name: str) -> Listing | None:
        """Of the gateway."""
        self._refresh()
        return self._instruments.get(name)

    def products(self) -> Iterator[tuple[str, Listing]]:
        """(product id, listing) of Advanced Trade."""
        self._refresh()
        return iter(self._products.items())

    def instruments(self) -> Iterator[Listing]:
        self._refresh()
        return iter(self._instruments.values())

    def of_product(self, product: str) -> Iterator[Listing]:
        self._refresh()
        return (listing for listing in self._listings.values() if listing.product == product)

    def asset_names(self) -> dict[str, str]:
        """Abstract asset name -> the venue's, where they differ (CELO: CGLD)."""
        self._refresh()
        found = ((listing.market.base_asset, listing.base) for listing in self._listings.values())
        return {asset: name for asset, name in found if asset != name}
