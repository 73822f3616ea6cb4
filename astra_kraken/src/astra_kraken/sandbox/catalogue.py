"""The markets under their native names: what is quoted how, and found under which of its spellings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from astra.models.markets import Market, MarketStatus
from astra.sandbox import Exchange
from astra.sandbox.toolkit import fixed, plain, scale_of
from astra.symbols import AssetType
from astra_kraken.sandbox.markets import DERIVATIVES, NATIVE_ASSETS, SPOT
from astra_kraken.sandbox.wire import millis, raw, scientific

_OLD_ASSETS = {"XBT", "ETH", "XDG", "LTC", "XRP", "XLM", "XMR", "ZEC", "ETC", "MLN", "REP"}
_OLD_MONEY = {"USD", "EUR", "GBP", "CAD", "JPY", "AUD"}
_NEW_KEYS = {"XDGUSD"}
"""Pairs listed after the old asset codes were given up: their REST id is the altname."""
_FEES_TAKER = [[0, 0.4], [10000, 0.35], [50000, 0.24], [100000, 0.22], [250000, 0.2], [500000, 0.18]]
_FEES_MAKER = [[0, 0.25], [10000, 0.2], [50000, 0.14], [100000, 0.12], [250000, 0.1], [500000, 0.08]]
_LEVERAGE = [2, 3, 4, 5, 6, 7, 8, 9, 10]
SCIENTIFIC_BELOW = Decimal("0.0001")
_TINY_TICK = Decimal("0.00000001")


def altname_of(asset: str) -> str:
    """BTC -> XBT, DOGE -> XDG."""
    return NATIVE_ASSETS.get(asset, asset)


def asset_key(asset: str) -> str:
    """The name of an asset in Spot's REST answers: XXBT, ZUSD, SOL."""
    name = altname_of(asset)
    if name in _OLD_ASSETS:
        return "X" + name
    return "Z" + name if name in _OLD_MONEY else name


def is_tokenized(asset: str) -> bool:
    """Tokenised stocks end in a small x."""
    return len(asset) > 1 and asset[-1] == "x" and asset[:-1].isupper()


def asset_scale(asset: str) -> int:
    """Decimals that balances of the asset have."""
    return 4 if asset in _OLD_MONEY else 10 if altname_of(asset) in _OLD_ASSETS else 8


class SpotListing(msgspec.Struct, frozen=True, eq=False):
    """A pair of Spot. `key` is its REST id, `symbol` its name in the v2 stream."""

    market: Market
    key: str
    altname: str
    wsname: str
    symbol: str
    price_scale: int
    qty_scale: int
    writes_scientific: bool
    """Prices so small that the stream prints them with an exponent."""

    @property
    def id(self) -> str:
        """The Astra symbol."""
        return self.market.symbol

    @property
    def tokenized(self) -> bool:
        return is_tokenized(self.market.base_asset)

    def price(self, value: Decimal | None) -> str:
        """As the records of orders have it."""
        return fixed(value, self.price_scale)

    def padded_price(self, value: Decimal | None) -> str:
        """As market data of REST has it: at least five decimals."""
        return fixed(value, max(5, self.price_scale))

    def volume(self, value: Decimal | None) -> str:
        return fixed(value, self.qty_scale)

    def price_number(self, value: Decimal) -> msgspec.Raw:
        """As the stream has it, with every decimal of the pair's precision (or with an exponent)."""
        return raw(scientific(value) if self.writes_scientific else self.price(value))

    def qty_number(self, value: Decimal) -> msgspec.Raw:
        return raw(self.volume(value))

    def status(self) -> str:
        """Online, or why not. Read from the market as it is listed now."""
        active = self.market.status is MarketStatus.ACTIVE
        return "online" if active else "cancel_only" if self.market.status is MarketStatus.CANCEL_ONLY else "delisted"

    def row(self, *, modern: bool = False) -> dict[str, Any]:
        """The entry of `AssetPairs`; `modern`: with the asset names of the stream."""
        market = self.market
        name = str if modern else asset_key
        margin = [] if self.tokenized or self.writes_scientific else _LEVERAGE
        return {
            "altname": self.altname,
            "wsname": self.wsname,
            "aclass_base": "tokenized_asset" if self.tokenized else "currency",
            "base": name(market.base_asset),
            "aclass_quote": "currency",
            "quote": name(market.quote_asset),
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": self.price_scale,
            "lot_decimals": self.qty_scale,
            "lot_multiplier": 1,
            "leverage_buy": margin,
            "leverage_sell": margin,
            "fees": _FEES_TAKER,
            "fees_maker": _FEES_MAKER,
            "fee_volume_currency": "USD" if modern else "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": plain(market.min_quantity),
            "costmin": plain(market.min_notional),
            "tick_size": plain(market.tick_size),
            "status": self.status(),
            "execution_venue": "international",
            "long_position_limit": 80,
            "short_position_limit": 80,
        }

    def stream_row(self) -> dict[str, Any]:
        """The entry of the `instrument` channel."""
        market = self.market
        tick, lot = market.tick_size or Decimal(0), market.lot_size or Decimal(0)
        return {
            "symbol": self.symbol,
            "base": market.base_asset,
            "quote": market.quote_asset,
            "status": self.status(),
            "qty_precision": self.qty_scale,
            "qty_increment": raw(scientific(lot)),
            "price_precision": self.price_scale,
            "cost_precision": 5,
            "marginable": not self.tokenized,
            "has_index": True,
            "cost_min": raw(scientific(market.min_notional or Decimal(0))),
            "margin_initial": 0.2,
            "position_limit_long": 80,
            "position_limit_short": 80,
            "tick_size": raw(scientific(tick)),
            "price_increment": raw(scientific(tick)),
            "qty_min": raw(scientific(market.min_quantity or Decimal(0))),
        }


class DerivativesListing(msgspec.Struct, frozen=True, eq=False):
    """A contract. `index` numbers it, for ids that must differ between contracts."""

    market: Market
    index: int

    @property
    def id(self) -> str:
        """The Astra symbol."""
        return self.market.symbol

    @property
    def native(self) -> str:
        return self.market.native_symbol

    @property
    def wallet_asset(self) -> str:
        """The asset that fees and profits are in: BTC, not XBT."""
        return self.market.margin_asset or self.market.quote_asset

    @property
    def tag(self) -> str:
        return "perpetual" if self.market.asset_type is AssetType.PERP else "quarter"

    @property
    def base(self) -> str:
        """The base as the symbol spells it."""
        return self.native.split("_")[1].removesuffix("USD")

    @property
    def pair(self) -> str:
        return f"{self.base}:USD"

    def row(self) -> dict[str, Any]:
        """The entry of `instruments`."""
        market = self.market
        lot = market.lot_size or Decimal(1)
        base = self.base
        options = market.asset_type is AssetType.OPT
        kind = "futures_inverse" if market.is_inverse else "options" if options else "flexible_futures"
        levels = "contracts" if market.is_inverse else "numNonContractUnits"
        row: dict[str, Any] = {
            "symbol": self.native,
            "type": kind,
            "tickSize": raw(scientific(market.tick_size or Decimal(0))),
            "contractSize": 1,
            "tradeable": market.status is MarketStatus.ACTIVE,
            "impactMidSize": 1.0,
            "maxPositionSize": 75000000.0,
            "openingDate": "2022-03-22T13:18:45Z",
            "marginLevels": [
                {levels: 0, "initialMargin": 0.02, "maintenanceMargin": 0.01},
                {levels: 500000, "initialMargin": 0.04, "maintenanceMargin": 0.02},
            ],
            "isin": "GB00J62YGL67",
            "contractValueTradePrecision": scale_of(lot) if lot < 1 else 1 - len(plain(lot)),
            "postOnly": False,
            "mtf": True,
            "base": base,
            "quote": "USD",
            "pair": self.pair,
            "category": "",
            "tags": [],
            "tradfi": is_tokenized(market.base_asset),
        }
        if market.is_inverse:
            row["underlying"] = f"rr_{base.lower()}usd"
        if market.asset_type is AssetType.PERP:
            row |= {"fundingRateCoefficient": 24, "maxRelativeFundingRate": 0.0025}
        if market.expiry is not None:
            row["lastTradingTime"] = millis(market.expiry)
        return row


def _quoted(market: Market, key: str, altname: str, wsname: str, symbol: str) -> SpotListing:
    return SpotListing(
        market=market,
        key=key,
        altname=altname,
        wsname=wsname,
        symbol=symbol,
        price_scale=scale_of(market.tick_size),
        qty_scale=scale_of(market.lot_size),
        writes_scientific=(market.tick_size or SCIENTIFIC_BELOW) < _TINY_TICK,
    )


class Catalogue:
    """Native names -> listings, for both APIs."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self.spot: dict[str, SpotListing] = {}
        """By Astra symbol, in the order of listing."""
        self.derivatives: dict[str, DerivativesListing] = {}
        self.unified: dict[str, SpotListing] = {}
        """Contracts as the Unified WebSocket quotes them, in the frames of Spot's stream; by native symbol."""
        self._rest_names: dict[str, SpotListing] = {}
        self._stream_names: dict[str, SpotListing] = {}
        self._contracts: dict[str, DerivativesListing] = {}
        for index, market in enumerate(engine.markets.values()):
            if market.product == SPOT:
                self._add_spot(market)
            elif market.product == DERIVATIVES:
                listing = self.derivatives[market.symbol] = DerivativesListing(market, index)
                self._contracts[listing.native.lower()] = listing
                self.unified[listing.native] = _quoted(market, *[listing.native] * 4)

    def _add_spot(self, market: Market) -> None:
        base, quote = altname_of(market.base_asset), altname_of(market.quote_asset)
        old = base in _OLD_ASSETS | _OLD_MONEY and quote in _OLD_ASSETS | _OLD_MONEY
        altname = base + quote
        key = altname
        if old and altname not in _NEW_KEYS:
            key = asset_key(market.base_asset) + asset_key(market.quote_asset)
        listing = _quoted(market, key, altname, f"{base}/{quote}", f"{market.base_asset}/{market.quote_asset}")
        self.spot[market.symbol] = listing
        for name in (listing.symbol, listing.wsname, altname, key):
            self._rest_names[name] = listing
        self._stream_names[listing.symbol] = listing

    def spot_pair(self, name: str) -> SpotListing | None:
        """By any spelling that REST takes."""
        return self._rest_names.get(name)

    def stream_pair(self, symbol: str) -> SpotListing | None:
        """By the name of the v2 stream, and by that alone: `XBT/USD` is none."""
        return self._stream_names.get(symbol)

    def contract(self, symbol: str) -> DerivativesListing | None:
        """By the native symbol, in any case."""
        return self._contracts.get(symbol.lower())

    def spot_assets(self) -> list[str]:
        """Every asset of Spot, by its abstract name."""
        found: dict[str, None] = {}
        for listing in self.spot.values():
            found[listing.market.base_asset] = found[listing.market.quote_asset] = None
        return list(found)

    def now(self, listing: SpotListing) -> SpotListing:
        """The listing with the market as the engine has it now (its status may have changed)."""
        market = self._engine.markets[listing.id]
        return listing if market is listing.market else msgspec.structs.replace(listing, market=market)

    def contract_now(self, listing: DerivativesListing) -> DerivativesListing:
        market = self._engine.markets[listing.id]
        return listing if market is listing.market else msgspec.structs.replace(listing, market=market)


def asset_row(asset: str) -> dict[str, Any]:
    """The entry of `Assets`."""
    return {
        "aclass": "tokenized_asset" if is_tokenized(asset) else "currency",
        "altname": altname_of(asset),
        "decimals": asset_scale(asset),
        "display_decimals": 2 if asset in _OLD_MONEY else 5,
        "collateral_value": 1.0,
        "status": "enabled",
        "margin_rate": 0.02,
    }


def stream_asset_row(asset: str) -> dict[str, Any]:
    """The entry of the `instrument` channel."""
    return {
        "id": asset,
        "status": "enabled",
        "precision": asset_scale(asset),
        "precision_display": 2 if asset in _OLD_MONEY else 5,
        "borrowable": True,
        "collateral_value": 1.0,
        "margin_rate": 0.02,
    }


class DayStats(msgspec.Struct, eq=False):
    """Open, high, low and volumes of the trades that are still known."""

    open: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    low: Decimal = Decimal(0)
    last: Decimal = Decimal(0)
    last_quantity: Decimal = Decimal(0)
    last_time: int = 0
    volume: Decimal = Decimal(0)
    worth: Decimal = Decimal(0)
    count: int = 0
    last_id: int = -1

    def add(self, price: Decimal, quantity: Decimal, time: int) -> None:
        if not self.count:
            self.open = self.high = self.low = price
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.last, self.last_quantity, self.last_time = price, quantity, time
        self.volume += quantity
        self.worth += price * quantity
        self.count += 1

    @property
    def average(self) -> Decimal:
        return self.worth / self.volume if self.volume else self.last


class Statistics:
    """The statistics of markets, begun when somebody first asks."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self._stats: dict[str, DayStats] = {}

    def of(self, symbol: str) -> DayStats:
        """Up to date with the engine's trades of the market (an Astra symbol)."""
        stats = self._stats.setdefault(symbol, DayStats())
        fresh = self._engine.trades(symbol, after_id=None if stats.last_id < 0 else stats.last_id, limit=1000)
        for trade in fresh:
            stats.add(trade.price, trade.quantity, trade.time)
            stats.last_id = trade.id
        return stats
