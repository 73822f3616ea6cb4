"""Rows of the market lists, with all the keys that the venue prints."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.markets import MarketStatus
from astra.sandbox import Exchange
from astra.sandbox.toolkit import plain
from astra.symbols import AssetType
from astra_kucoin.sandbox.catalogue import Listing
from astra_kucoin.sandbox.markets import LEAVING, STOCKS
from astra_kucoin.sandbox.wire import SPOT, double, whole

FUNDING_MS = 28_800_000
LISTED_MS = 1_585_555_200_000
_DELISTING_MS = 1_830_297_600_000
_STATUS = {
    MarketStatus.ACTIVE: "Open",
    MarketStatus.CANCEL_ONLY: "CancelOnly",
    MarketStatus.HALTED: "Paused",
    MarketStatus.PENDING: "Init",
    MarketStatus.EXPIRED: "Settled",
}
_UNIFIED_STATUS = {MarketStatus.ACTIVE: "1", MarketStatus.PENDING: "0", MarketStatus.EXPIRED: "3"}


def spot_row(listing: Listing) -> dict[str, Any]:
    """`GET /api/v2/symbols`."""
    market = listing.market
    minimum = plain(market.min_notional)
    return {
        "symbol": listing.native,
        "name": f"{listing.base}-{listing.quote}",
        "baseCurrency": listing.base,
        "quoteCurrency": listing.quote,
        "feeCurrency": listing.quote,
        "market": "USDS" if listing.quote == "USDT" else listing.quote,
        "baseMinSize": plain(market.min_quantity),
        "quoteMinSize": minimum,
        "baseMaxSize": plain(market.max_quantity),
        "quoteMaxSize": "99999999",
        "baseIncrement": plain(market.lot_size),
        "quoteIncrement": "0.000001" if listing.quote == "USDT" else "0.00000001",
        "priceIncrement": plain(market.tick_size),
        "priceLimitRate": "0.1",
        "minFunds": minimum,
        "isMarginEnabled": True,
        "enableTrading": listing.trading,
        "feeCategory": 1,
        "makerFeeCoefficient": "1.00",
        "takerFeeCoefficient": "1.00",
        "st": False,
        "callauctionIsEnabled": False,
        "callauctionPriceFloor": None,
        "callauctionPriceCeiling": None,
        "callauctionFirstStageStartTime": None,
        "callauctionSecondStageStartTime": None,
        "callauctionThirdStageStartTime": None,
        "tradingStartTime": None,
    }


def _funding(listing: Listing, now_ms: int, *, dated: bool) -> dict[str, Any]:
    """What a contract row says of funding; all null where there is none. `nextFundingRateTime` is a countdown."""
    next_funding = (now_ms // FUNDING_MS + 1) * FUNDING_MS
    row = {
        "fairMethod": "FundingRate",
        "fundingBaseSymbol": f".{listing.base}INT8H",
        "fundingQuoteSymbol": f".{listing.quote}INT8H",
        "fundingRateSymbol": f".{listing.native}FPI8H",
        "fundingFeeRate": double(Decimal("0.000081")),
        "dailyInterestRate": double(Decimal("0.0003")),
        "fundingRateGranularity": FUNDING_MS,
        "fundingRateCap": double(Decimal("0.003")),
        "fundingRateFloor": double(Decimal("-0.003")),
        "period": 1,
        "effectiveFundingRateCycleStartTime": 1_750_147_200_000,
        "currentFundingRateGranularity": FUNDING_MS,
        "nextFundingRateTime": next_funding - now_ms,
        "nextFundingRateDateTime": next_funding,
        "fundingBaseSymbol1M": f".{listing.base}INT",
        "fundingQuoteSymbol1M": f".{listing.quote}INT",
        "lastTimeFundingRate": double(Decimal("0.000034")),
    }
    return dict.fromkeys(row) if dated else row


def contract_row(listing: Listing, engine: Exchange, now_ms: int) -> dict[str, Any]:
    """`GET /api/v1/contracts/active`. `isQuanto` means nothing; a perpetual on its way out has an `expireDate`."""
    market = listing.market
    inverse, dated = market.is_inverse, market.asset_type is AssetType.FUT
    trades = engine.trades(listing.symbol, limit=1)
    maker, taker = engine.fee_rates(listing.symbol)
    mark = engine.mark_price(listing.symbol)
    stock = listing.base in STOCKS
    expiry = _DELISTING_MS if listing.base == LEAVING else market.expiry
    leverage = Decimal(20 if dated or stock else 125)
    maintenance = Decimal(1) / leverage / 2
    index = f".B{listing.base}" if inverse else f".K{listing.base}{listing.quote}"

    return _funding(listing, now_ms, dated=dated) | {
        "symbol": listing.native,
        "displaySymbol": listing.native,
        "rootSymbol": listing.settle,
        "type": "FFICSX" if dated else "FFWCSX",
        "firstOpenDate": LISTED_MS,
        "expireDate": expiry,
        "settleDate": expiry,
        "baseCurrency": listing.base,
        "displayBaseCurrency": listing.base,
        "quoteCurrency": listing.quote,
        "settleCurrency": listing.settle,
        "maxOrderQty": whole(market.max_quantity or Decimal(0)),
        "marketMaxOrderQty": whole(market.market_max_quantity or Decimal(0)),
        "maxPrice": double(market.max_price or Decimal(0)),
        "lotSize": whole(market.lot_size or Decimal(1)),
        "tickSize": double(market.tick_size or Decimal(0)),
        "indexPriceTickSize": double(market.tick_size or Decimal(0)),
        "multiplier": double(Decimal(-1) if inverse else listing.multiplier),
        "initialMargin": double(Decimal(1) / leverage),
        "maintainMargin": double(maintenance),
        "maxRiskLimit": 250000,
        "minRiskLimit": 250000,
        "riskStep": 125000,
        "makerFeeRate": double(maker),
        "takerFeeRate": double(taker),
        "takerFixFee": double(Decimal(0)),
        "makerFixFee": double(Decimal(0)),
        "settlementFee": None,
        "isDeleverage": True,
        "isQuanto": not inverse and not stock,
        "isInverse": inverse,
        "markMethod": "FairPrice",
        "indexSymbol": index,
        "settlementSymbol": f"{index}30M" if dated else None if inverse else "",
        "status": _STATUS[market.status],
        "predictedFundingFeeRate": None,
        "openInterest": "9622772",
        "turnoverOf24h": double(Decimal(0)),
        "volumeOf24h": double(Decimal(0)),
        "markPrice": double(mark),
        "indexPrice": double(mark),
        "lastTradePrice": double(trades[-1].price) if trades else None,
        "maxLeverage": int(leverage),
        "sourceExchanges": ["okex", "binance", "kucoin", "bybit", "gateio"],
        "premiumsSymbol1M": f".{listing.native}PI",
        "premiumsSymbol8H": f".{listing.native}PI8H",
        "lowPrice": double(mark),
        "highPrice": double(mark),
        "priceChgPct": double(Decimal(0)),
        "priceChg": double(Decimal(0)),
        "k": double(Decimal(490)),
        "m": double(Decimal(300)),
        "f": double(Decimal("1.3")),
        "mmrLimit": double(Decimal("0.3")),
        "mmrLevConstant": double(leverage),
        "supportCross": True,
        "buyLimit": double(mark * Decimal("1.05")),
        "sellLimit": double(mark * Decimal("0.95")),
        "adjustK": None,
        "adjustM": None,
        "adjustMmrLevConstant": None,
        "adjustActiveTime": None,
        "crossRiskLimit": double(Decimal(1_500_000_000)),
        "marketStage": "NORMAL",
        "preMarketToPerpDate": None,
        "orderPriceRange": double(Decimal("0.05")),
        "marketType": "NASDAQ" if stock else "CRYPTO",
        "assetClass": "STOCK" if stock else "CRYPTO",
        "subMarketType": "US.STOCK" if stock else None,
    }


def instrument_row(listing: Listing, engine: Exchange) -> dict[str, Any]:
    """`GET /api/ua/v2/market/instrument`: strings for spot, JSON numbers for futures."""
    return _spot_instrument(listing) if listing.product == SPOT else _futures_instrument(listing, engine)


def _spot_instrument(listing: Listing) -> dict[str, Any]:
    market = listing.market
    return {
        "symbol": listing.native,
        "name": f"{listing.base}-{listing.quote}",
        "baseCurrency": listing.base,
        "quoteCurrency": listing.quote,
        "market": "USDS" if listing.quote == "USDT" else listing.quote,
        "minBaseOrderSize": plain(market.min_quantity),
        "minQuoteOrderSize": plain(market.min_notional),
        "maxBaseOrderSize": plain(market.max_quantity),
        "maxQuoteOrderSize": "99999999",
        "baseOrderStep": plain(market.lot_size),
        "quoteOrderStep": "0.000001" if listing.quote == "USDT" else "0.00000001",
        "tickSize": plain(market.tick_size),
        "feeCurrency": listing.quote,
        "tradingStatus": _UNIFIED_STATUS.get(market.status, "4"),
        "marginMode": "1",
        "priceLimitRatio": "0.1",
        "feeCategory": 1,
        "makerFeeCoefficient": "1.00",
        "takerFeeCoefficient": "1.00",
        "st": False,
    }


def _futures_instrument(listing: Listing, engine: Exchange) -> dict[str, Any]:
    market = listing.market
    maker, taker = engine.fee_rates(listing.symbol)
    dated = market.asset_type is AssetType.FUT
    leverage = 20 if dated or listing.base in STOCKS else 125
    expiry = _DELISTING_MS if listing.base == LEAVING else market.expiry
    return {
        "symbol": listing.native,
        "baseCurrency": listing.base,
        "quoteCurrency": listing.quote,
        "maxBaseOrderSize": whole(market.max_quantity or Decimal(0)),
        "tickSize": double(market.tick_size or Decimal(0)),
        "tradingStatus": _UNIFIED_STATUS.get(market.status, "4"),
        "settlementCurrency": listing.settle,
        "contractType": "1" if dated else "0",
        "isInverse": market.is_inverse,
        "launchTime": LISTED_MS,
        "expiryTime": expiry,
        "settlementTime": expiry,
        "maxPrice": double(market.max_price or Decimal(0)),
        "lotSize": whole(market.lot_size or Decimal(1)),
        "unitSize": double(Decimal(-1) if market.is_inverse else listing.multiplier),
        "makerFeeRate": double(maker),
        "takerFeeRate": double(taker),
        "settlementFeeRate": None,
        "maxLeverage": leverage,
        "indexSourceExchanges": ["okex", "binance", "kucoin", "bybit", "bitmart", "gateio"],
        "k": double(Decimal(490)),
        "m": double(Decimal(300)),
        "f": double(Decimal("1.3")),
        "mmrLimit": double(Decimal("0.3")),
        "mmrLevConstant": double(Decimal(leverage)),
    }
