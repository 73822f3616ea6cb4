"""Markets: what can be traded, in which steps, and what a contract of it is worth."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

from pydantic import Field

from astra.models.base import Model, PlainDecimal
from astra.symbols import AssetType, OptionType, Symbol


class MarketStatus(StrEnum):
    """May orders be placed in the market now?"""

    ACTIVE = "ACTIVE"
    CANCEL_ONLY = "CANCEL_ONLY"
    HALTED = "HALTED"
    PENDING = "PENDING"
    EXPIRED = "EXPIRED"


class ContractType(StrEnum):
    """How a derivative's value follows the price."""

    LINEAR = "LINEAR"
    INVERSE = "INVERSE"
    QUANTO = "QUANTO"


class TickBand(Model):
    """From this price on (inclusive), prices are multiples of `tick_size`."""

    from_price: PlainDecimal
    tick_size: PlainDecimal


class Market(Model):
    """A tradable market with its metadata.

    Prices are in units of `quote_asset`, quantities in units of `base_asset`. `base_asset` and `quote_asset` are
    abstract names (BTC for a venue's XBT); the symbol keeps the venue's own. For contract markets `contract_size` is
    the size of one contract: in units of the base asset (LINEAR, and all options), in units of the quote asset
    (INVERSE). Prices of coin-margined options are in units of the base asset. The lot,
    minimum and maximum quantities are in contracts when `contract_size` is given, else in units of the base asset.
    A field is None where the venue says nothing.
    """

    symbol: str
    asset_type: AssetType
    base_asset: str
    quote_asset: str
    margin_asset: str | None = None
    native_symbol: str
    product: str = Field(exclude=True)
    """The venue's own name of the API family that serves the market; (product, native_symbol) is unique per venue."""
    status: MarketStatus = MarketStatus.ACTIVE
    tick_size: PlainDecimal | None = None
    tick_bands: tuple[TickBand, ...] | None = None
    """Where the tick depends on the price: bands by rising `from_price`; `tick_size` is then the finest."""
    lot_size: PlainDecimal | None = None
    min_quantity: PlainDecimal | None = None
    max_quantity: PlainDecimal | None = None
    market_lot_size: PlainDecimal | None = None
    market_min_quantity: PlainDecimal | None = None
    market_max_quantity: PlainDecimal | None = None
    min_price: PlainDecimal | None = None
    max_price: PlainDecimal | None = None
    min_notional: PlainDecimal | None = None
    max_notional: PlainDecimal | None = None
    contract_size: PlainDecimal | None = None
    contract_type: ContractType | None = None
    expiry: int | None = None
    """Expiry in ms since the epoch."""
    strike: PlainDecimal | None = None
    option_type: OptionType | None = None

    @property
    def exchange(self) -> str:
        """The exchange code, the first part of the symbol."""
        return self.symbol.partition("-")[0]

    @property
    def parsed_symbol(self) -> Symbol:
        return Symbol.parse(self.symbol)

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the native market within its venue: (product, native symbol)."""
        return (self.product, self.native_symbol)

    @property
    def is_coin_margined(self) -> bool:
        """Is the contract margined and settled in the base asset? (An option's price is then in it, too.)"""
        return self.contract_type is ContractType.INVERSE

    @property
    def is_inverse(self) -> bool:
        """Is a contract worth a fixed amount of the quote asset, so that a quantity in base units depends on the price?
        Not so for coin-margined options: their contracts are sized in the base asset."""
        return self.contract_type is ContractType.INVERSE and self.asset_type is not AssetType.OPT

    def tick_at(self, price: Decimal) -> Decimal | None:
        """The tick size that holds at `price`."""
        tick = self.tick_size
        for band in self.tick_bands or ():
            if price >= band.from_price:
                tick = band.tick_size
        return tick

    def base_quantity(self, contracts: Decimal, price: Decimal | None) -> Decimal | None:
        """Contracts in units of the base asset: `contracts x size`, for inverse contracts `contracts x size / price`.

        None for an inverse contract without a price. Without a `contract_size` the quantity is in base units already.
        """
        if self.contract_size is None:
            return contracts
        if not self.is_inverse:
            return contracts * self.contract_size
        if not price:
            return None
        return contracts * self.contract_size / price

    def contracts_of(self, quantity: Decimal) -> Decimal:
        """A base quantity in contracts (exact, possibly not whole); linear contracts only."""
        if self.contract_size is None or self.is_inverse:
            raise ValueError(f"{self.symbol} does not convert quantities to contracts by size alone")
        return quantity / self.contract_size

    def floor_price(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid at or below `price`."""
        tick = self.tick_at(price)
        return price if not tick else (price / tick).to_integral_value(ROUND_FLOOR) * tick
