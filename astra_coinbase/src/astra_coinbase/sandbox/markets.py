"""The markets that the sandbox lists: a handful of every product, or any number of synthetic ones for load tests."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from astra.models.markets import ContractType, Market, MarketStatus, TickBand
from astra.sandbox.toolkit import listing
from astra.symbols import AssetType, OptionType, expiry_ms

SPOT = "spot"
US_FUTURES = "us_futures"
INTERNATIONAL = "international"

ALIASES = {f"COINBASE-SPOT-{base}-USDC": f"COINBASE-SPOT-{base}-USD" for base in ("BTC", "ETH")}
"""Products in USDC that are further names of those in USD: one book, other wallets."""

_QUARTERLY = "270625"
"""Fixed dates: a listing must not depend on the day it is made."""


def native_date(date: str) -> str:
    """270625 as the venue writes it in names: 25JUN27."""
    day = datetime.datetime.strptime(date, "%y%m%d").replace(tzinfo=datetime.UTC)
    return f"{day.day}{day:%b%y}".upper()


def _spot(
    base: str,
    quote: str,
    tick: str,
    lot: str,
    *,
    asset: str | None = None,
    notional: str = "1",
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    """`asset`: the abstract name where the venue's own is another."""
    return Market(
        symbol=f"COINBASE-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=asset or base,
        quote_asset=quote,
        native_symbol=f"{base}-{quote}",
        product=SPOT,
        status=status,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(lot),
        max_quantity=Decimal(lot) * 340_000_000_000,
        min_notional=Decimal(notional),
        max_notional=Decimal(150_000_000),
    )


def _us_future(base: str, code: str, date: str, size: str, tick: str, *, perpetual: bool = False) -> Market:
    """Contracts of the US exchange. Those in perpetual style have an expiry too: years ahead."""
    dated = "" if perpetual else f"-{date}"
    return Market(
        symbol=f"COINBASE-{'PERP' if perpetual else 'FUT'}-{base}-USD{dated}-{code}",
        asset_type=AssetType.PERP if perpetual else AssetType.FUT,
        base_asset=base,
        quote_asset="USD",
        margin_asset="USD",
        native_symbol=f"{code}-{native_date(date)}-CDE",
        product=US_FUTURES,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        max_quantity=Decimal(5000),
        contract_size=Decimal(size),
        contract_type=ContractType.LINEAR,
        expiry=None if perpetual else us_expiry(f"{code}-{native_date(date)}-CDE"),
    )


def us_expiry(native: str) -> int:
    """When a contract of the US exchange expires, by its name; those in perpetual style do, too. (At 16:00 in London,
    which is 15:00 UTC in summer.)"""
    moment = datetime.datetime.strptime(native.split("-")[1], "%d%b%y").replace(tzinfo=datetime.UTC)
    return expiry_ms(f"{moment:%y%m%d}", 15 if 4 <= moment.month <= 9 else 16)


def _perpetual(base: str, size: str, tick: str, *, inverse: bool = False) -> Market:
    return Market(
        symbol=f"COINBASE-PERP-{base}-{'USD-COINM' if inverse else 'USDC'}",
        asset_type=AssetType.PERP,
        base_asset=base,
        quote_asset="USD" if inverse else "USDC",
        margin_asset=base if inverse else "USDC",
        native_symbol=f"{base}-PERPETUAL" if inverse else f"{base}_USDC-PERPETUAL",
        product=INTERNATIONAL,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        contract_size=Decimal(size),
        contract_type=ContractType.INVERSE if inverse else ContractType.LINEAR,
    )


def _inverse_future(base: str, date: str, size: str, tick: str) -> Market:
    return Market(
        symbol=f"COINBASE-FUT-{base}-USD-{date}-COINM",
        asset_type=AssetType.FUT,
        base_asset=base,
        quote_asset="USD",
        margin_asset=base,
        native_symbol=f"{base}-{native_date(date)}",
        product=INTERNATIONAL,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        contract_size=Decimal(size),
        contract_type=ContractType.INVERSE,
        expiry=expiry_ms(date, 8),
    )


def _option(base: str, date: str, strike: str, right: OptionType, tick: str, *, size: str | None = None) -> Market:
    """Coin-margined, quoted in coins; with `size` margined and quoted in USDC. A point in a strike is written `d`."""
    inverse = size is None
    above = Decimal("0.005"), Decimal("0.0005")
    bands = (
        TickBand(from_price=Decimal(0), tick_size=Decimal(tick)),
        TickBand(from_price=above[0], tick_size=above[1]),
    )
    written = strike.replace(".", "d")
    pair = f"{base}-USD" if inverse else f"{base}-USDC"
    return Market(
        symbol=f"COINBASE-OPT-{pair}-{date}-{strike}-{right}{'-COINM' if inverse else ''}",
        asset_type=AssetType.OPT,
        base_asset=base,
        quote_asset="USD" if inverse else "USDC",
        margin_asset=base if inverse else "USDC",
        native_symbol=f"{base}{'' if inverse else '_USDC'}-{native_date(date)}-{written}-{right}",
        product=INTERNATIONAL,
        tick_size=Decimal(tick),
        tick_bands=bands if inverse else None,
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        contract_size=Decimal(size or 1),
        contract_type=ContractType.INVERSE if inverse else ContractType.LINEAR,
        expiry=expiry_ms(date, 8),
        strike=Decimal(strike),
        option_type=right,
    )


def default_spot() -> list[Market]:
    """Among them an asset whose name begins with a digit, one the venue calls by an older name, and a halted one."""
    return [
        _spot("BTC", "USD", "0.01", "0.00000001"),
        _spot("BTC", "USDC", "0.01", "0.00000001"),
        _spot("ETH", "USD", "0.01", "0.00000001"),
        _spot("ETH", "USDC", "0.01", "0.00000001"),
        _spot("SOL", "USD", "0.01", "0.00000001"),
        _spot("1INCH", "EUR", "0.001", "0.01"),
        _spot("CGLD", "USD", "0.0001", "0.01", asset="CELO"),
        _spot("USDT", "USDC", "0.00001", "0.01"),
        _spot("BSV", "USD", "0.01", "0.00000001", status=MarketStatus.HALTED),
    ]


def default_us_futures() -> list[Market]:
    """Two contracts of one base and expiry that differ in size only among them."""
    return [
        _us_future("BTC", "BIP", "301220", "0.01", "5", perpetual=True),
        _us_future("BTC", "BIT", _QUARTERLY, "0.01", "5"),
        _us_future("BTC", "BTI", _QUARTERLY, "1", "5"),
        _us_future("ETH", "ETP", "301220", "0.1", "0.5", perpetual=True),
    ]


def default_international() -> list[Market]:
    return [
        _perpetual("BTC", "0.0001", "0.5"),
        _perpetual("AAVE", "0.01", "0.01"),
        _perpetual("BTC", "10", "0.5", inverse=True),
        _perpetual("ETH", "1", "0.05", inverse=True),
        _inverse_future("BTC", _QUARTERLY, "10", "2.5"),
        _option("BTC", _QUARTERLY, "90000", OptionType.CALL, "0.0001"),
        _option("BTC", _QUARTERLY, "90000", OptionType.PUT, "0.0001"),
        _option("ETH", _QUARTERLY, "3000", OptionType.PUT, "0.0001"),
        _option("XRP", _QUARTERLY, "2.25", OptionType.CALL, "0.0001", size="1000"),
    ]


def _many_spot() -> Iterator[Market]:
    return (_spot(f"TOK{n}", "USD", "0.0001", "0.1") for n in count(1))


def _many_us_futures() -> Iterator[Market]:
    return (_us_future(f"TOK{n}", f"T{n}", "301220", "10", "0.001", perpetual=True) for n in count(1))


def _many_international() -> Iterator[Market]:
    return (_perpetual(f"TOK{n}", "0.1", "0.0001") for n in count(1))


def default_markets(wanted: int | None) -> list[Market]:
    """The default listing; with `wanted`, that many markets, taken from the products in turn."""
    products = [default_spot(), default_us_futures(), default_international()]
    return listing(products, [_many_spot(), _many_us_futures(), _many_international()], wanted)
