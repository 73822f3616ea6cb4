"""The markets that the sandbox lists: a handful of every product, or any number of synthetic ones for load tests."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count

from astra.models.markets import ContractType, Market, MarketStatus
from astra.sandbox.toolkit import listing
from astra.symbols import AssetType, expiry_ms
from astra_htx.sandbox.wire import Family

# Fixed dates: a listing must not depend on the day it is made. Contracts are delivered on Fridays at 08:00 UTC.
_QUARTER = "270326"
_NEXT_QUARTER = "270625"


def _spot(
    base: str,
    quote: str,
    price_digits: int,
    lot_digits: int,
    most: str,
    *,
    least: str | None = None,
    notional: str = "5",
    status: MarketStatus = MarketStatus.ACTIVE,
) -> Market:
    lot = Decimal(1).scaleb(-lot_digits)
    return Market(
        symbol=f"HUOBI-SPOT-{base}-{quote}",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=(base + quote).lower(),
        product=Family.SPOT,
        status=status,
        tick_size=Decimal(1).scaleb(-price_digits),
        lot_size=lot,
        min_quantity=Decimal(least) if least else lot,
        max_quantity=Decimal(most),
        market_min_quantity=Decimal(least) if least else lot,
        market_max_quantity=Decimal(most) / 10,
        min_notional=Decimal(notional),
    )


def _linear(base: str, size: str, tick: str, *, expiry: str | None = None) -> Market:
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"HUOBI-{'PERP' if expiry is None else 'FUT'}-{base}-USDT{dated}",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset="USDT",
        margin_asset="USDT",
        native_symbol=f"{base}-USDT{dated}",
        product=Family.LINEAR,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        contract_size=Decimal(size),
        contract_type=ContractType.LINEAR,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def _coin(base: str, size: str, tick: str, *, expiry: str | None = None) -> Market:
    dated = "" if expiry is None else f"-{expiry}"
    return Market(
        symbol=f"HUOBI-{'PERP' if expiry is None else 'FUT'}-{base}-USD{dated}-COINM",
        asset_type=AssetType.PERP if expiry is None else AssetType.FUT,
        base_asset=base,
        quote_asset="USD",
        margin_asset=base,
        native_symbol=f"{base}-USD" if expiry is None else base + expiry,
        product=Family.COIN_SWAP if expiry is None else Family.COIN_FUTURES,
        tick_size=Decimal(tick),
        lot_size=Decimal(1),
        min_quantity=Decimal(1),
        contract_size=Decimal(size),
        contract_type=ContractType.INVERSE,
        expiry=None if expiry is None else expiry_ms(expiry, 8),
    )


def _listed() -> list[list[Market]]:
    """The usual markets, product by product."""
    return [
        [
            _spot("BTC", "USDT", 2, 6, "1000", least="0.00001"),
            _spot("ETH", "USDT", 2, 4, "10000", least="0.001"),
            _spot("ETH", "BTC", 6, 4, "10000", least="0.001", notional="0.0001"),
            _spot("SHIB", "USDT", 10, 2, "500000000000", least="1"),
            _spot("1INCH", "USDT", 4, 4, "5000000", least="0.1"),
            _spot("FIL3S", "USDT", 4, 4, "500000", least="0.01"),
            _spot("POWR", "ETH", 8, 0, "5000000", least="1", notional="0.001"),
            _spot("HT", "USDT", 4, 2, "100000", least="0.1", status=MarketStatus.HALTED),
        ],
        [
            _linear("BTC", "0.001", "0.1"),
            _linear("ETH", "0.01", "0.01"),
            _linear("SHIB", "1000", "0.000000001"),
            _linear("DOGE", "100", "0.000001"),
            _linear("BTC", "0.001", "0.1", expiry=_QUARTER),
            _linear("ETH", "0.01", "0.01", expiry=_QUARTER),
        ],
        [_coin("BTC", "100", "0.1"), _coin("ETH", "10", "0.01"), _coin("ATOM", "10", "0.0001")],
        [
            _coin("BTC", "100", "0.01", expiry=_QUARTER),
            _coin("BTC", "100", "0.01", expiry=_NEXT_QUARTER),
            _coin("ETH", "10", "0.001", expiry=_QUARTER),
        ],
    ]


def _synthetic() -> list[Iterator[Market]]:
    """Ever more markets, product by product."""
    return [
        (_spot(f"T{number}", "USDT", 4, 4, "1000000", least="0.01") for number in count(1)),
        (_linear(f"T{number}", "1", "0.0001") for number in count(1)),
        (_coin(f"T{number}", "10", "0.0001") for number in count(1)),
        (_coin(f"T{number}", "10", "0.0001", expiry=_QUARTER) for number in count(1)),
    ]


def default_markets(wanted: int | None) -> list[Market]:
    """The default listing; with `wanted`, that many markets, taken from the products in turn."""
    return listing(_listed(), _synthetic(), wanted)
