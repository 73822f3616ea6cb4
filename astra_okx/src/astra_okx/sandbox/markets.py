"""The markets that the sandbox lists: a handful of every product, or any number of synthetic ones for load tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from astra.models.markets import ContractType, Market, MarketStatus, TickBand
from astra.sandbox.toolkit import listing
from astra.symbols import AssetType, OptionType, expiry_ms

# Fixed dates: a listing must not depend on the day it is made. Contracts are delivered at 08:00 UTC.
_QUARTERLY = "270326"
_YEAR_END = "271231"
_FIVE_YEARS = "310404"


def _spot(
    base: str,
    quote: str,
    tick: str,
    lot: str,
    least: str,
    most: str = "999999999999",
    *,
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    return Market(
        symbol=f"OKX-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=f"{base}-{quote}",
        product="spot",
        status=status,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(least),
        max_quantity=Decimal(most),
    )


def _contract(
    base: str, quote: str, size: str, tick: str, lot: str, most: str, *, kind: str = "linear", expiry: str | None = None
) -> Market:
    """A swap, or (with `expiry`) a future. `kind`: linear, unified (settled in "USD"), xperp or inverse."""
    inverse = kind == "inverse"
    family = f"{base}-{quote}" + {"unified": "_UM", "xperp": "_UM_XPERP"}.get(kind, "")
    marks = {"inverse": "-COINM", "xperp": "-XPERP"}.get(kind, "")
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"OKX-{'PERP' if expiry is None else 'FUT'}-{base}-{quote}{dated}{marks}",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset=quote,
        margin_asset=base if inverse else quote,
        native_symbol=f"{family}-{'SWAP' if expiry is None else expiry}",
        product="swap" if expiry is None else "futures",
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(lot),
        max_quantity=Decimal(most),
        market_max_quantity=Decimal(most) / 100,
        contract_size=Decimal(size),
        contract_type=ContractType.INVERSE if inverse else ContractType.LINEAR,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def _option(base: str, expiry: str, strike: str, right: OptionType, *, size: str = "0.01", coin: bool) -> Market:
    """Coin-margined (priced in the coin, per coin of the underlying) or settled in "USD"; ticks come in bands."""
    if coin:
        bands = (TickBand(from_price=0, tick_size="0.0001"), TickBand(from_price="0.005", tick_size="0.0005"))
    else:
        bands = (TickBand(from_price=0, tick_size=1), TickBand(from_price=5, tick_size=5))
    return Market(
        symbol=f"OKX-OPT-{base}-USD-{expiry}-{strike}-{right}{'-COINM' if coin else ''}",
        asset_type=AssetType.OPT,
        base_asset=base,
        quote_asset="USD",
        margin_asset=base if coin else "USD",
        native_symbol=f"{base}-USD{'' if coin else '_UM'}-{expiry}-{strike}-{right}",
        product="option",
        tick_size=bands[0].tick_size,
        tick_bands=bands,
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        max_quantity=Decimal(1_000_000),
        contract_size=Decimal(size),
        contract_type=ContractType.INVERSE if coin else ContractType.LINEAR,
        expiry=expiry_ms(expiry, 8),
        strike=Decimal(strike),
        option_type=right,
    )


def default_spot() -> list[Market]:
    """Among them a name that begins with a digit, a dollar market, one priced in coin, and a suspended one."""
    return [
        _spot("BTC", "USDT", "0.1", "0.00000001", "0.00001", "9999999999"),
        _spot("ETH", "USDT", "0.01", "0.000001", "0.0001", "99999999999"),
        _spot("SOL", "USDT", "0.01", "0.000001", "0.001"),
        _spot("ETH", "BTC", "0.00001", "0.000001", "0.0001"),
        _spot("BTC", "USD", "0.1", "0.00000001", "0.00001"),
        _spot("1INCH", "USDC", "0.0001", "0.000001", "1"),
        _spot("PEPE", "USDT", "0.000000001", "1", "100000"),
        _spot("TUSD", "USDT", "0.0001", "0.0001", "1", status=MarketStatus.HALTED),
    ]


def default_swaps() -> list[Market]:
    """Contract sizes from a ten-thousandth of a coin to ten million coins."""
    return [
        _contract("BTC", "USDT", "0.01", "0.1", "0.01", "100000000"),
        _contract("BTC", "USD", "100", "0.1", "0.1", "100000000", kind="inverse"),
        _contract("ETH", "USDT", "0.1", "0.01", "0.01", "100000000"),
        _contract("PEPE", "USDT", "10000000", "0.000000001", "0.1", "100000000"),
        _contract("BTC", "USD", "0.0001", "0.1", "1", "100000000", kind="unified"),
        _contract("ETH", "USD", "10", "0.01", "1", "100000000", kind="inverse"),
    ]


def default_futures() -> list[Market]:
    """The same date in three ways of settlement, and one that is a perpetual but for its date."""
    return [
        _contract("BTC", "USDT", "0.01", "0.1", "0.01", "1000000", expiry=_QUARTERLY),
        _contract("BTC", "USD", "100", "0.1", "0.1", "1000000", kind="inverse", expiry=_QUARTERLY),
        _contract("BTC", "USD", "0.0001", "0.1", "1", "1000000", kind="unified", expiry=_QUARTERLY),
        _contract("BTC", "USD", "0.0001", "0.1", "1", "100000000", kind="xperp", expiry=_FIVE_YEARS),
    ]


def default_options() -> list[Market]:
    return [
        _option("BTC", _QUARTERLY, "90000", OptionType.CALL, coin=True),
        _option("BTC", _QUARTERLY, "90000", OptionType.CALL, coin=False),
        _option("BTC", _QUARTERLY, "90000", OptionType.PUT, coin=True),
        _option("BTC", _YEAR_END, "120000", OptionType.CALL, coin=False),
        _option("ETH", _QUARTERLY, "3000", OptionType.PUT, size="0.1", coin=True),
    ]


def _many_spot() -> Iterator[Market]:
    return (_spot(f"TOK{n}", "USDT", "0.0001", "0.0001", "0.1") for n in count(1))


def _many_swaps() -> Iterator[Market]:
    return (_contract(f"TOK{n}", "USDT", "10", "0.001", "0.1", "100000000") for n in count(1))


def _many_futures() -> Iterator[Market]:
    return (
        _contract(f"TOK{n}", "USD", "10", "0.001", "1", "1000000", kind="inverse", expiry=_YEAR_END) for n in count(1)
    )


def _many_options() -> Iterator[Market]:
    for n in count(1):
        for right in (OptionType.CALL, OptionType.PUT):
            yield _option("BTC", _YEAR_END, str(50_000 + 250 * n), right, coin=True)


def default_markets(wanted: int | None) -> list[Market]:
    """The default listing; with `wanted`, that many markets, taken from the products in turn."""
    products = [default_spot(), default_swaps(), default_futures(), default_options()]
    return listing(products, [_many_spot(), _many_swaps(), _many_futures(), _many_options()], wanted)
