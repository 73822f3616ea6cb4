"""The markets that the sandbox lists: a handful of every product, or any number of synthetic ones for load tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from astra.models.markets import ContractType, Market, MarketStatus
from astra.sandbox.toolkit import listing
from astra.symbols import AssetType, expiry_ms
from astra_kucoin.sandbox.wire import FUTURES, SPOT

_MONTH_CODES = {"03": "H", "06": "M", "09": "U", "12": "Z"}
_DATED = "270326"
"""A fixed date: a listing must not depend on the day it is made."""
LEAVING = "PROMPT"
"""Base of a perpetual that is about to be delisted: it carries an expiry date all the same."""
STOCKS = frozenset({"AAPL"})


def _abstract(code: str) -> str:
    return "BTC" if code == "XBT" else code


def _spot(
    base: str,
    quote: str,
    tick: str,
    lot: str,
    least: str,
    *,
    native: str | None = None,
    funds: str = "0.1",
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    """`native`: the base of the id where the asset was renamed since."""
    return Market(
        symbol=f"KUCOIN-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=f"{native or base}-{quote}",
        product=SPOT,
        status=status,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        min_quantity=Decimal(least),
        max_quantity=Decimal(10_000_000_000),
        min_notional=Decimal(funds),
    )


def _contract(
    base: str,
    quote: str,
    tick: str,
    *,
    size: str | None = None,
    most: int = 1_000_000,
    expiry: str | None = None,
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    """`size`: base units in a lot of a linear contract; None: an inverse one, a lot of which is one dollar."""
    dated = "" if expiry is None else f"-{expiry}"
    coin = "-COINM" if size is None else ""
    perpetual = f"{base}{quote}M"
    return Market(
        symbol=f"KUCOIN-{'PERP' if expiry is None else 'FUT'}-{base}-{quote}{dated}{coin}",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=_abstract(base),
        quote_asset=quote,
        margin_asset=_abstract(base) if size is None else quote,
        native_symbol=perpetual if expiry is None else f"{base}M{_MONTH_CODES[expiry[2:4]]}{expiry[:2]}",
        product=FUTURES,
        status=status,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        max_quantity=Decimal(most),
        market_max_quantity=Decimal(most),
        max_price=Decimal(1_000_000),
        contract_size=Decimal(1) if size is None else Decimal(size),
        contract_type=ContractType.INVERSE if size is None else ContractType.LINEAR,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def default_spot() -> list[Market]:
    """Among them two whose asset was renamed (the id keeps the old name) and one that is not tradable."""
    return [
        _spot("BTC", "USDT", "0.1", "0.00000001", "0.00001"),
        _spot("ETH", "USDT", "0.01", "0.0000001", "0.0001"),
        _spot("BSV", "USDT", "0.01", "0.0001", "0.001", native="BCHSV"),
        _spot("WAXP", "BTC", "0.00000001", "0.0001", "10", native="WAX", funds="0.000001"),
        _spot("SOL", "USDT", "0.001", "0.0001", "0.01"),
        _spot("KCS", "BTC", "0.0000001", "0.0001", "0.01", funds="0.000001"),
        _spot("OXEN", "USDT", "0.00001", "0.0001", "1", native="LOKI", status=MarketStatus.HALTED),
    ]


def default_futures() -> list[Market]:
    """Linear in USDT and USDC, inverse, dated, a stock, a multiplied base, and one that is being delisted."""
    return [
        _contract("XBT", "USDT", "0.1", size="0.001"),
        _contract("XBT", "USD", "0.1"),
        _contract("ETH", "USDT", "0.01", size="0.01"),
        _contract("XBT", "USD", "0.1", expiry=_DATED, most=100_000),
        _contract("XBT", "USDC", "0.1", size="0.0001"),
        _contract("ETH", "USD", "0.01"),
        _contract("1000BONK", "USDT", "0.000001", size="100"),
        _contract("AIXBT", "USDT", "0.00001", size="10"),
        _contract("AAPL", "USDT", "0.01", size="0.01", most=10_000),
        _contract(LEAVING, "USDT", "0.0001", size="1", status=MarketStatus.CANCEL_ONLY),
    ]


def _many_spot() -> Iterator[Market]:
    return (_spot(f"TOK{n}", "USDT", "0.0001", "0.0001", "0.01") for n in count(1))


def _many_futures() -> Iterator[Market]:
    return (_contract(f"TOK{n}", "USDT", "0.0001", size="0.1") for n in count(1))


def default_markets(wanted: int | None) -> list[Market]:
    """The default listing; with `wanted`, that many markets, taken from the products in turn."""
    products = [default_spot(), default_futures()]
    return listing(products, [_many_spot(), _many_futures()], wanted)
