"""What markets are worth before anybody trades: one value per asset, so that prices agree across markets.

The figures are round numbers of the right size, not quotations. Assets that are not listed here get a value drawn
from the seed and their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from random import Random

from astra.models.markets import Market
from astra.symbols import AssetType, OptionType

USD_VALUES: Mapping[str, str] = {
    "USD": "1", "USDT": "1", "USDC": "1", "FDUSD": "1", "TUSD": "1", "BUSD": "1", "DAI": "1", "USDS": "1",
    "EUR": "1.1", "GBP": "1.3", "AUD": "0.65", "CAD": "0.72", "CHF": "1.15", "JPY": "0.0066", "TRY": "0.03",
    "BRL": "0.18", "MXN": "0.055", "PLN": "0.27", "ZAR": "0.055",
    "BTC": "90000", "XBT": "90000", "WBTC": "90000", "ETH": "3100", "BNB": "900", "SOL": "140", "XRP": "2.2",
    "ADA": "0.48", "DOGE": "0.16", "TRX": "0.28", "DOT": "2.8", "LTC": "95", "BCH": "520", "LINK": "14",
    "AVAX": "15", "UNI": "7.5", "ATOM": "3", "ETC": "15", "XLM": "0.26", "FIL": "1.7", "NEAR": "2.3", "APT": "3.2",
    "SUI": "1.7", "ARB": "0.24", "OP": "0.4", "TON": "2", "SHIB": "0.0000092", "PEPE": "0.0000049", "XMR": "390",
}  # fmt: skip
_MULTIPLIED = re.compile(r"(1(?:0{3,}|M))([A-Z].*)\Z")
_PERP_PREMIUM = Decimal("1.0001")
_YEARLY_BASIS = Decimal("0.05")
_VOLATILITY = Decimal("0.6")
_YEAR_MS = Decimal(365 * 86_400_000)
_LEAST_TICKS = {AssetType.OPT: 40}
"""A price is at least so many ticks (500 if not said otherwise): below that there is no room for a book."""


class AssetValues:
    """Asset -> worth in USD. Values may be moved; unknown assets get one when they are first asked for."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._values: dict[str, Decimal] = {}

    def __getitem__(self, asset: str) -> Decimal:
        value = self._values.get(asset)
        if value is None:
            value = self._values[asset] = self._start(asset)
        return value

    def __setitem__(self, asset: str, value: Decimal) -> None:
        self._values[asset] = value

    def _start(self, asset: str) -> Decimal:
        known = USD_VALUES.get(asset)
        if known is not None:
            return Decimal(known)
        multiplied = _MULTIPLIED.match(asset)
        if multiplied:  # 1000SHIB, 1MBABYDOGE: so many of the coin in one
            times = multiplied[1].replace("M", "000000")
            return self[multiplied[2]] * int(times)
        random = Random(f"{self._seed}:value:{asset}")
        return Decimal(random.randrange(1000, 10_000)).scaleb(random.randrange(-5, 0))


def fair_price(market: Market, values: AssetValues, now_ms: int) -> Decimal:
    """What the market is worth by its assets' values, on the tick grid and inside the market's price range."""
    underlying = values[market.base_asset] / values[market.quote_asset]
    if market.asset_type is AssetType.OPT:
        price = _option_price(market, underlying, now_ms)
    elif market.asset_type is AssetType.FUT:
        price = underlying * (1 + _YEARLY_BASIS * _years(market, now_ms))
    elif market.asset_type is AssetType.PERP:
        price = underlying * _PERP_PREMIUM
    else:
        price = underlying
    return _in_range(market, price)


def reference_prices(markets: Iterable[Market], seed: int, now_ms: int) -> dict[str, Decimal]:
    """Symbol -> fair price by the seed."""
    values = AssetValues(seed)
    return {market.symbol: fair_price(market, values, now_ms) for market in markets}


def _years(market: Market, now_ms: int) -> Decimal:
    left = max((market.expiry or now_ms) - now_ms, 3_600_000)
    return left / _YEAR_MS


def _option_price(market: Market, underlying: Decimal, now_ms: int) -> Decimal:
    """Intrinsic value plus a time value that falls off with the distance from the strike (a look-alike of
    Black-Scholes: right at the money, roughly right away from it)."""
    strike = market.strike or underlying
    distance = underlying - strike if market.option_type is OptionType.CALL else strike - underlying
    deviation = _VOLATILITY * _years(market, now_ms).sqrt() * underlying
    time_value = Decimal("0.4") * deviation * (-abs(distance) / deviation).exp()
    worth = max(distance, Decimal(0)) + time_value
    return worth / underlying if market.is_coin_margined else worth  # coin-margined options are quoted in coins


def _in_range(market: Market, price: Decimal) -> Decimal:
    tick = market.tick_size or Decimal("0.01")
    room = _LEAST_TICKS.get(market.asset_type, 500) * tick
    price = max(price, room, (market.min_price or Decimal(0)) + room)
    if market.max_price:
        price = min(price, market.max_price - room)
    return market.floor_price(price) if market.tick_size else (price / tick).to_integral_value() * tick
