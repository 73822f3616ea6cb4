"""The venue's view of the engine's markets: native names, number formats, id spaces, exchangeInfo."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from astra.models.markets import Market, MarketStatus
from astra.sandbox import Exchange
from astra.sandbox.toolkit import fixed, plain, scale_of
from astra.symbols import AssetType
from astra_binance.sandbox.refusals import invalid_symbol
from astra_binance.sandbox.wire import Family, Params, Refusal, illegal

PERPETUAL_DELIVERY = 4_133_404_800_000
"""`deliveryDate` of contracts without one: 2100-12-25."""
_EPOCH_MS = 1_600_000_000_000

_SPOT_ORDER_TYPES = [
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
]
_FUTURES_ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"]
_STP_MODES = ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"]


class Ids(msgspec.Struct, frozen=True):
    """How a family numbers. All ids grow, across restarts too: they start from the time the sandbox was made.

    Book updates of Spot are contiguous per market. Those of futures and options are not (other markets take numbers in
    between): whoever expects `U == u + 1` there must fail.
    """

    update_base: int
    update_stride: int
    trade_base: int
    order_base: int

    @classmethod
    def of(cls, family: Family, started_ms: int) -> Ids:
        age = max(0, started_ms - _EPOCH_MS)
        stride = {Family.SPOT: 1, Family.USDM: 97, Family.COINM: 89, Family.OPTIONS: 7}[family]
        order_base = {
            Family.SPOT: 10_000_000_000,
            Family.USDM: 100_000_000_000,
            Family.COINM: 100_000_000_000,
            # Beyond 2^53: a client that reads ids as floats loses digits here, as it would at the venue.
            Family.OPTIONS: 4_611_875_134_427_365_377,
        }[family]
        return cls(age * max(1, stride), stride, age // 10, order_base + age)

    def update_id(self, change_id: int) -> int:
        """The native id of the engine's book change."""
        if self.update_stride == 1:
            return self.update_base + change_id
        jitter = (change_id * 2_654_435_761 >> 9) % self.update_stride
        return self.update_base + change_id * self.update_stride + jitter

    def change_id(self, update_id: int) -> int:
        """The engine's change with this native id, or the last one before it."""
        change = (update_id - self.update_base) // self.update_stride
        return change if self.update_id(change) <= update_id else change - 1


class Listing(msgspec.Struct, eq=False):
    """One market as a family of the venue sees it."""

    market: Market
    family: Family
    ids: Ids
    price_scale: int
    quantity_scale: int

    @property
    def native(self) -> str:
        return self.market.native_symbol

    @property
    def symbol(self) -> str:
        return self.market.symbol

    @property
    def pair(self) -> str:
        """`BTCUSDT` of BTCUSDT_270326, `BTCUSD` of BTCUSD_PERP."""
        return self.native.partition("_")[0]

    @property
    def underlying(self) -> str:
        """Of an option: the index it follows."""
        return self.market.base_asset + self.market.quote_asset

    @property
    def trading(self) -> bool:
        return self.market.status is MarketStatus.ACTIVE

    def price(self, value: Decimal | None) -> str:
        return fixed(value, self.price_scale)

    def quantity(self, value: Decimal | None) -> str:
        return fixed(value, self.quantity_scale)

    def quote_value(self, price: Decimal, quantity: Decimal) -> Decimal:
        """What a quantity is worth in quote units (inverse: contracts times size)."""
        if self.market.is_inverse:
            return quantity * (self.market.contract_size or Decimal(1))
        return price * quantity

    def base_value(self, price: Decimal, quantity: Decimal) -> Decimal:
        """A quantity in units of the base asset."""
        if not self.market.is_inverse:
            return quantity
        return quantity * (self.market.contract_size or Decimal(1)) / price if price else Decimal(0)


class Catalogue:
    """Finds listings by native name. Follows the engine's markets when they change."""

    def __init__(self, engine: Exchange, started_ms: int) -> None:
        self._engine = engine
        self.ids = {family: Ids.of(family, started_ms) for family in Family}
        self._by_symbol: dict[str, Listing] = {}
        self._by_native: dict[tuple[Family, str], Listing] = {}
        self._by_stream: dict[tuple[Family, str], Listing] = {}
        self._refresh()

    def _refresh(self) -> None:
        for symbol, market in self._engine.markets.items():
            known = self._by_symbol.get(symbol)
            if known is not None:
                known.market = market
                continue
            family = Family(market.product)
            spot = family is Family.SPOT
            listing = Listing(
                market,
                family,
                self.ids[family],
                8 if spot else scale_of(market.tick_size),
                8 if spot else scale_of(market.lot_size),
            )
            self._by_symbol[symbol] = listing
            self._by_native[family, listing.native] = listing
            self._by_stream[family, listing.native.lower()] = listing

    def of_symbol(self, symbol: str) -> Listing:
        """The listing of an Astra symbol."""
        listing = self._by_symbol.get(symbol)
        market = self._engine.markets[symbol]
        if listing is None or listing.market is not market:
            self._refresh()
            listing = self._by_symbol[symbol]
        return listing

    def of_native(self, family: Family, native: str) -> Listing:
        """Raises -1121 for a symbol that the family does not list."""
        listing = self._by_native.get((family, native))
        if listing is None:
            self._refresh()
            listing = self._by_native.get((family, native))
        if listing is None:
            raise invalid_symbol()
        return self.of_symbol(listing.symbol)

    def of_stream(self, family: Family, name: str) -> Listing | None:
        """By the symbol part of a stream name (lowercase only)."""
        if (family, name) not in self._by_stream:
            self._refresh()
        return self._by_stream.get((family, name))

    def all(self, family: Family) -> Iterator[Listing]:
        self._refresh()
        return (listing for listing in self._by_symbol.values() if listing.family is family)

    def wanted(self, family: Family, params: Params) -> Listing:
        """The listing of the mandatory parameter `symbol`."""
        return self.of_native(family, params.need("symbol"))

    def maybe_wanted(self, family: Family, params: Params) -> Listing | None:
        """The listing of the optional parameter `symbol`."""
        return self.of_native(family, params.need("symbol")) if "symbol" in params else None


# --- exchangeInfo -----------------------------------------------------------------------------------------------------

_SPOT_STATUS = {
    MarketStatus.ACTIVE: "TRADING",
    MarketStatus.CANCEL_ONLY: "CANCEL_ONLY",
    MarketStatus.HALTED: "BREAK",
    MarketStatus.PENDING: "BREAK",
    MarketStatus.EXPIRED: "BREAK",
}
_CONTRACT_STATUS = {
    MarketStatus.ACTIVE: "TRADING",
    MarketStatus.CANCEL_ONLY: "PRE_SETTLE",
    MarketStatus.HALTED: "CLOSE",
    MarketStatus.PENDING: "PENDING_TRADING",
    MarketStatus.EXPIRED: "SETTLING",
}


def _symbols_asked_for(catalogue: Catalogue, params: Params) -> list[Listing]:
    if "symbol" in params and "symbols" in params:
        raise Refusal(-1101, "Too many parameters; expected one of 'symbol', 'symbols'.")
    if "symbol" in params:
        return [catalogue.wanted(Family.SPOT, params)]
    if "symbols" in params:
        try:
            names = msgspec.json.decode(params.need("symbols").encode(), type=list[str])
        except msgspec.DecodeError:
            raise illegal("symbols", "a JSON array of symbols") from None
        return [catalogue.of_native(Family.SPOT, name) for name in names]
    rows = list(catalogue.all(Family.SPOT))
    wanted = params.text("symbolStatus")
    return rows if wanted is None else [row for row in rows if _SPOT_STATUS[row.market.status] == wanted]


def spot_symbols(catalogue: Catalogue, params: Params) -> list[dict[str, Any]]:
    sets = params.boolean("showPermissionSets", default=True)
    return [_spot_row(listing, sets=sets) for listing in _symbols_asked_for(catalogue, params)]


def _spot_row(listing: Listing, *, sets: bool) -> dict[str, Any]:
    market = listing.market
    return {
        "symbol": listing.native,
        "status": _SPOT_STATUS[market.status],
        "baseAsset": market.base_asset,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote_asset,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": _SPOT_ORDER_TYPES,
        "icebergAllowed": True,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "isSpotTradingAllowed": listing.trading,
        "isMarginTradingAllowed": False,
        "filters": _spot_filters(market),
        "permissions": [],
        "permissionSets": [["SPOT"]] if sets else [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": _STP_MODES,
    }


def _spot_filters(market: Market) -> list[dict[str, Any]]:
    def text(value: Decimal | None) -> str:
        return fixed(value, 8)

    notional: dict[str, Any] = {
        "filterType": "NOTIONAL",
        "minNotional": text(market.min_notional),
        "applyMinToMarket": True,
        "maxNotional": text(market.max_notional),
        "applyMaxToMarket": False,
        "avgPriceMins": 5,
    }
    if market.max_notional is None:
        notional = {
            "filterType": "MIN_NOTIONAL",
            "minNotional": text(market.min_notional),
            "applyToMarket": True,
            "avgPriceMins": 5,
        }
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": text(market.min_price),
            "maxPrice": text(market.max_price),
            "tickSize": text(market.tick_size),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": text(market.min_quantity),
            "maxQty": text(market.max_quantity),
            "stepSize": text(market.lot_size),
        },
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": text(market.market_min_quantity),
            "maxQty": text(market.market_max_quantity),
            "stepSize": text(market.market_lot_size),
        },
        notional,
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
    ]


def futures_symbols(catalogue: Catalogue, family: Family) -> list[dict[str, Any]]:
    return [_futures_row(listing, listing.market) for listing in catalogue.all(family)]


def _futures_row(listing: Listing, market: Market) -> dict[str, Any]:
    usdm = listing.family is Family.USDM
    perpetual = market.asset_type is AssetType.PERP
    status = _CONTRACT_STATUS[market.status]
    row: dict[str, Any] = {
        "symbol": listing.native,
        "pair": listing.pair,
        "contractType": "PERPETUAL" if perpetual else "CURRENT_QUARTER",
        "deliveryDate": PERPETUAL_DELIVERY if perpetual else market.expiry,
        "onboardDate": 1_569_398_400_000,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": market.base_asset,
        "quoteAsset": market.quote_asset,
        "marginAsset": market.margin_asset,
        # Finer than the tick on purpose (as the venue's are): whoever takes it for the tick sends bad prices.
        "pricePrecision": listing.price_scale,
        "quantityPrecision": listing.quantity_scale,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": _futures_filters(market, usdm=usdm),
        "orderTypes": _FUTURES_ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }
    if usdm:
        return row | {"status": status, "settlePlan": 0, "maxMoveOrderLimit": 10_000}
    size = int(market.contract_size or 1)
    return row | {"contractStatus": status, "contractSize": size, "equalQtyPrecision": 4}


def _futures_filters(market: Market, *, usdm: bool) -> list[dict[str, Any]]:
    def text(value: Decimal | None) -> str:
        return "0" if value is None else format(value, "f")

    filters: list[dict[str, Any]] = [
        {
            "minPrice": text(market.min_price),
            "maxPrice": plain(market.max_price),
            "filterType": "PRICE_FILTER",
            "tickSize": text(market.tick_size),
        },
        {
            "stepSize": text(market.lot_size),
            "filterType": "LOT_SIZE",
            "maxQty": plain(market.max_quantity),
            "minQty": text(market.min_quantity),
        },
        {
            "stepSize": text(market.market_lot_size),
            "filterType": "MARKET_LOT_SIZE",
            "maxQty": plain(market.market_max_quantity),
            "minQty": text(market.market_min_quantity),
        },
        {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
        {"limit": 200, "filterType": "MAX_NUM_ALGO_ORDERS"},
    ]
    if usdm:
        filters.append({"notional": plain(market.min_notional), "filterType": "MIN_NOTIONAL"})
    return filters


def option_contracts(catalogue: Catalogue) -> list[dict[str, Any]]:
    """`optionContracts`: one row an underlying."""
    rows = {
        listing.underlying: {
            "baseAsset": listing.market.base_asset,
            "quoteAsset": listing.market.quote_asset,
            "underlying": listing.underlying,
            "settleAsset": listing.market.margin_asset,
        }
        for listing in catalogue.all(Family.OPTIONS)
    }
    return list(rows.values())


def option_symbols(catalogue: Catalogue) -> list[dict[str, Any]]:
    return [_option_row(listing, listing.market) for listing in catalogue.all(Family.OPTIONS)]


def _option_row(listing: Listing, market: Market) -> dict[str, Any]:
    return {
        "expiryDate": market.expiry,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": plain(market.min_price),
                "maxPrice": plain(market.max_price),
                "tickSize": plain(market.tick_size),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": plain(market.min_quantity),
                "maxQty": plain(market.max_quantity),
                "stepSize": plain(market.lot_size),
            },
        ],
        "symbol": listing.native,
        "side": option_side(market),
        "strikePrice": fixed(market.strike, 8),
        "underlying": listing.underlying,
        "unit": int(market.contract_size or 1),
        "liquidationFeeRate": "0.0019000",
        "minQty": plain(market.min_quantity),
        "maxQty": plain(market.max_quantity),
        "initialMargin": "0.15",
        "maintenanceMargin": "0.075",
        "minInitialMargin": "0.1",
        "minMaintenanceMargin": "0.05",
        "priceScale": listing.price_scale,
        "quantityScale": listing.quantity_scale,
        "quoteAsset": market.quote_asset,
        "contractType": "CRYPTO_OPTIONS",
        "underlyingType": "CRYPTO",
        "nakedSell": False,
        "status": _CONTRACT_STATUS[market.status],
    }


def option_side(market: Market) -> str:
    return "CALL" if market.option_type == "C" else "PUT"
