"""The markets that the sandbox lists: a handful of every product, or any number of synthetic ones for load tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from astra.models.markets import ContractType, Market, MarketStatus
from astra.sandbox.toolkit import listing
from astra.symbols import AssetType, OptionType, expiry_ms
from astra_binance.sandbox.wire import Family

# Fixed dates: a listing must not depend on the day it is made. Quarterlies and the options expire at 08:00 UTC.
_QUARTERLY = "270326"
_YEAR_END = "271231"


def _spot(
    base: str,
    quote: str,
    tick: str,
    lot: str,
    most: str,
    *,
    notional: str = "5.00000000",
    max_notional: str | None = "9000000.00000000",
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    return Market(
        symbol=f"BINANCE-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=base + quote,
        product=Family.SPOT,
        status=status,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(lot),
        max_quantity=Decimal(most),
        market_max_quantity=Decimal(most) / 50,
        min_price=Decimal(tick),
        max_price=Decimal(tick) * 100_000_000,
        min_notional=Decimal(notional),
        max_notional=None if max_notional is None else Decimal(max_notional),
    )


def _usdm(
    base: str, tick: str, lot: str, most: str, *, quote: str = "USDT", expiry: str | None = None, notional: str = "5"
) -> Market:
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"BINANCE-{'PERP' if expiry is None else 'FUT'}-{base}-{quote}{dated}",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset=quote,
        margin_asset=quote,
        native_symbol=base + quote + ("" if expiry is None else f"_{expiry}"),
        product=Family.USDM,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(lot),
        max_quantity=Decimal(most),
        market_lot_size=Decimal(lot),
        market_min_quantity=Decimal(lot),
        market_max_quantity=Decimal(most) / 5,
        min_price=Decimal(tick),
        max_price=Decimal(tick) * 45_000_000,
        min_notional=Decimal(notional),
        contract_type=ContractType.LINEAR,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def _coinm(base: str, size: int, tick: str, *, expiry: str | None = None) -> Market:
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"BINANCE-{'PERP' if expiry is None else 'FUT'}-{base}-USD{dated}-COINM",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset="USD",
        margin_asset=base,
        native_symbol=f"{base}USD_{'PERP' if expiry is None else expiry}",
        product=Family.COINM,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        max_quantity=Decimal(1_000_000),
        market_lot_size=Decimal(1),
        market_min_quantity=Decimal(1),
        market_max_quantity=Decimal(60_000),
        min_price=Decimal(tick),
        max_price=Decimal(tick) * 45_000_000,
        contract_size=Decimal(size),
        contract_type=ContractType.INVERSE,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def _option(base: str, expiry: str, strike: str, right: OptionType, tick: str) -> Market:
    return Market(
        symbol=f"BINANCE-OPT-{base}-USDT-{expiry}-{strike}-{right}",
        asset_type=AssetType.OPT,
        base_asset=base,
        quote_asset="USDT",
        margin_asset="USDT",
        native_symbol=f"{base}-{expiry}-{strike}-{right}",
        product=Family.OPTIONS,
        tick_size=Decimal(tick),
        lot_size=Decimal("0.01"),
        min_quantity=Decimal("0.01"),
        max_quantity=Decimal(1001),
        min_price=Decimal(tick),
        max_price=Decimal(80_000),
        contract_size=Decimal(1),
        contract_type=ContractType.LINEAR,
        expiry=expiry_ms(expiry, 8),
        strike=Decimal(strike),
        option_type=right,
    )


def default_spot() -> list[Market]:
    """Among them a symbol outside ASCII, a low-priced one, one with the older notional filter, and one in BREAK."""
    return [
        _spot("BTC", "USDT", "0.01000000", "0.00001000", "9000.00000000"),
        _spot("ETH", "USDT", "0.01000000", "0.00010000", "9000.00000000"),
        _spot("SOL", "USDT", "0.01000000", "0.00100000", "90000.00000000"),
        _spot("BNB", "BTC", "0.00000100", "0.00100000", "100000.00000000", notional="0.00010000", max_notional=None),
        _spot("SHIB", "USDT", "0.00000001", "1.00000000", "92141578.00000000", notional="1.00000000"),
        _spot("币安人生", "USDT", "0.00010000", "0.10000000", "9222449.00000000"),
        _spot("BCC", "BTC", "0.00000100", "0.00100000", "100000.00000000", status=MarketStatus.HALTED),
    ]


def default_usdm() -> list[Market]:
    return [
        _usdm("BTC", "0.10", "0.001", "1000", notional="50"),
        _usdm("ETH", "0.01", "0.001", "10000", notional="20"),
        _usdm("SOL", "0.0100", "0.01", "1000000"),
        _usdm("1000SHIB", "0.000001", "1", "50000000"),
        _usdm("BTC", "0.1", "0.001", "1000", quote="USDC", notional="50"),
        _usdm("BTC", "0.1", "0.001", "500", expiry=_QUARTERLY),
    ]


def default_coinm() -> list[Market]:
    return [
        _coinm("BTC", 100, "0.1"),
        _coinm("ETH", 10, "0.01"),
        _coinm("BTC", 100, "0.1", expiry=_QUARTERLY),
    ]


def default_options() -> list[Market]:
    return [
        _option("BTC", _QUARTERLY, "90000", OptionType.CALL, "5"),
        _option("BTC", _QUARTERLY, "90000", OptionType.PUT, "5"),
        _option("BTC", _YEAR_END, "120000", OptionType.CALL, "5"),
        _option("ETH", _QUARTERLY, "3000", OptionType.CALL, "0.2"),
        _option("ETH", _QUARTERLY, "3000", OptionType.PUT, "0.2"),
        _option("XRP", _QUARTERLY, "2.5", OptionType.CALL, "0.0010"),
    ]


def _many_spot() -> Iterator[Market]:
    return (_spot(f"TOK{n}", "USDT", "0.00010000", "0.10000000", "900000.00000000") for n in count(1))


def _many_usdm() -> Iterator[Market]:
    return (_usdm(f"TOK{n}", "0.0010", "0.1", "1000000") for n in count(1))


def _many_coinm() -> Iterator[Market]:
    return (_coinm(f"TOK{n}", 10, "0.001") for n in count(1))


def _many_options() -> Iterator[Market]:
    for n in count(1):
        for right in (OptionType.CALL, OptionType.PUT):
            yield _option("BTC", _YEAR_END, str(50_000 + 250 * n), right, "5")


def default_markets(wanted: int | None) -> list[Market]:
    """The default listing; with `wanted`, that many markets, taken from the products in turn."""
    products = [default_spot(), default_usdm(), default_coinm(), default_options()]
    return listing(products, [_many_spot(), _many_usdm(), _many_coinm(), _many_options()], wanted)
