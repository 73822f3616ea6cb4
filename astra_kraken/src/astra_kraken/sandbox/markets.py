"""The markets that the sandbox lists: a handful of every product, or any number of synthetic ones for load tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from astra.models.markets import ContractType, Market, MarketStatus
from astra.sandbox.toolkit import listing
from astra.symbols import AssetType, OptionType, expiry_ms

SPOT, DERIVATIVES = "spot", "derivatives"
NATIVE_ASSETS = {"BTC": "XBT", "DOGE": "XDG"}
"""Abstract name -> the venue's older one, where they differ: REST of Spot has both, derivatives only XBT."""

# Fixed dates: a listing must not depend on the day it is made.
_QUARTERLY = "270326"
_YEAR_END = "271231"


def _spot(
    base: str,
    quote: str,
    tick: str,
    least: str,
    *,
    lot: str = "0.00000001",
    cost: str = "0.5",
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    return Market(
        symbol=f"KRAKEN-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=f"{base}/{quote}",
        product=SPOT,
        status=status,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(least),
        min_notional=Decimal(cost),
    )


def _linear(base: str, tick: str, lot: str, expiry: str | None = None) -> Market:
    """PF_ and FF_: multi-collateral, profits in USD, quantities in units of the base."""
    native = base if base != "BTC" else "XBT"
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"KRAKEN-{'PERP' if expiry is None else 'FUT'}-{native}-USD{dated}",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset="USD",
        margin_asset="USD",
        native_symbol=f"PF_{native}USD" if expiry is None else f"FF_{native}USD_{expiry}",
        product=DERIVATIVES,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(lot),
        contract_size=Decimal(1),
        contract_type=ContractType.LINEAR,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def _inverse(base: str, tick: str, expiry: str | None = None) -> Market:
    """PI_ and FI_: margin and profits in the coin, a contract is worth 1 USD. FI_ ends at 16:00 in London."""
    native = base if base != "BTC" else "XBT"
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"KRAKEN-{'PERP' if expiry is None else 'FUT'}-{native}-USD{dated}-COINM",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset="USD",
        margin_asset=base,
        native_symbol=f"PI_{native}USD" if expiry is None else f"FI_{native}USD_{expiry}",
        product=DERIVATIVES,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        contract_size=Decimal(1),
        contract_type=ContractType.INVERSE,
        expiry=None if expiry is None else expiry_ms(expiry, 16),
    )


def _option(base: str, expiry: str, strike: str, right: OptionType, tick: str, lot: str) -> Market:
    native = base if base != "BTC" else "XBT"
    return Market(
        symbol=f"KRAKEN-OPT-{native}-USD-{expiry}-{strike}-{right}",
        asset_type=AssetType.OPT,
        base_asset=base,
        quote_asset="USD",
        margin_asset="USD",
        native_symbol=f"OF_{native}USD_{expiry}_{strike}_{right}",
        product=DERIVATIVES,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(lot),
        contract_size=Decimal(1),
        contract_type=ContractType.LINEAR,
        expiry=expiry_ms(expiry, 8),
        strike=Decimal(strike),
        option_type=right,
    )


def default_spot() -> list[Market]:
    """Among them odd spellings (XBT, XDG, a tokenised stock), a tick that is no power of ten, prices far below a cent,
    and a pair that takes no orders."""
    return [
        _spot("BTC", "USD", "0.1", "0.00005"),
        _spot("ETH", "USD", "0.01", "0.001"),
        _spot("ETH", "BTC", "0.00001", "0.001", cost="0.00002"),
        _spot("BTC", "USDT", "0.1", "0.00005"),
        _spot("DOGE", "USD", "0.0000001", "13"),
        _spot("SOL", "USD", "0.05", "0.02"),
        _spot("PEPE", "USD", "0.000000001", "100000", lot="0.00001"),
        _spot("EUR", "USD", "0.00001", "0.5"),
        _spot("AAPLx", "USD", "0.01", "0.00000001"),
        _spot("XLM", "EUR", "0.000001", "20", status=MarketStatus.CANCEL_ONLY),
    ]


def default_derivatives() -> list[Market]:
    """Linear and inverse perpetuals and futures, options; lots of 1000 where the precision is negative."""
    return [
        _linear("BTC", "1", "0.0001"),
        _inverse("BTC", "0.5"),
        _linear("BTC", "1", "0.0001", _QUARTERLY),
        _option("BTC", _QUARTERLY, "90000", OptionType.CALL, "1", "0.01"),
        _linear("ETH", "0.1", "0.001"),
        _inverse("ETH", "0.05"),
        _inverse("BTC", "0.5", _QUARTERLY),
        _linear("PEPE", "0.0000000001", "1000"),
        _linear("SOL", "0.01", "0.01"),
        _linear("AAPLx", "0.01", "0.01"),
        _option("BTC", _QUARTERLY, "90000", OptionType.PUT, "1", "0.01"),
        _option("ETH", _YEAR_END, "3000", OptionType.CALL, "0.1", "0.1"),
        _option("ETH", _YEAR_END, "3000", OptionType.PUT, "0.1", "0.1"),
    ]


def _many_spot() -> Iterator[Market]:
    return (_spot(f"TOK{n}", "USD", "0.0001", "0.1") for n in count(1))


def _many_derivatives() -> Iterator[Market]:
    return (_linear(f"TOK{n}", "0.001", "0.1") for n in count(1))


def default_markets(wanted: int | None) -> list[Market]:
    """The default listing; with `wanted`, that many markets, taken from the products in turn."""
    products = [default_spot(), default_derivatives()]
    return listing(products, [_many_spot(), _many_derivatives()], wanted)


def wallet_of(market: Market) -> str:
    """`spot`; `flex` for linear contracts; the single-collateral account of the coin for inverse ones."""
    if market.product == SPOT:
        return SPOT
    if not market.is_inverse:
        return "flex"
    return f"fi_{NATIVE_ASSETS.get(market.base_asset, market.base_asset).lower()}usd"
