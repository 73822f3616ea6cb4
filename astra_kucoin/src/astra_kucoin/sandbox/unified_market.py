"""Market data of the unified API: one path for both products, `tradeType` tells them apart. v1 and v2 read alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.sandbox import Exchange
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import Call, Endpoint, Routes, mode_of, names
from astra_kucoin.sandbox.catalogue import Catalogue, Listing
from astra_kucoin.sandbox.market_rest import ALL_LEVELS, pairs
from astra_kucoin.sandbox.rows import FUNDING_MS, instrument_row
from astra_kucoin.sandbox.wire import FUTURES, SPOT, Params, double

TRADE_TYPES = {"SPOT": SPOT, "FUTURES": FUTURES}
TRADE_TYPE_OF = {SPOT: "SPOT", FUTURES: "FUTURES"}
_LIMITS = {"20": 20, "50": 50, "100": 100, "FULL": ALL_LEVELS}


def both_versions(table: dict[tuple[str, str], Endpoint]) -> Routes:
    """Under `/api/ua/v1` and `/api/ua/v2`."""
    return {
        ("spot_rest", method, f"/api/ua/{version}{path}"): endpoint
        for version in ("v1", "v2")
        for (method, path), endpoint in table.items()
    }


def named_listing(catalogue: Catalogue, params: Params) -> Listing:
    product = params.choice("tradeType", TRADE_TYPES)
    listing = catalogue.find(product, params.need("symbol"))
    if listing is None:
        raise params.bad("Unsupported trading pair")
    return listing


class UnifiedMarketData:
    """Public but for the book, which asks for a key."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def routes(self) -> Routes:
        def free(handler: Any, accepts: str, weight: int = 4) -> Endpoint:
            return Endpoint(handler, names(accepts), weight=weight)

        return both_versions(
            {
                ("GET", "/market/instrument"): free(self._instruments, "tradeType symbol"),
                ("GET", "/market/ticker"): free(self._tickers, "tradeType symbol", 15),
                ("GET", "/market/trade"): free(self._trades, "tradeType symbol"),
                ("GET", "/market/funding-rate"): free(self._funding, "symbol"),
                ("GET", "/server/status"): free(self._status, "tradeType"),
                ("GET", "/market/orderbook"): Endpoint(
                    self._book, names("tradeType symbol limit rpiFilter"), "UNIFIED", 3, "General"
                ),
                ("GET", "/account/mode"): Endpoint(self._mode, frozenset(), "UNIFIED", 2, "General"),
            }
        )

    def _instruments(self, call: Call) -> dict[str, Any]:
        trade_type = call.params.need("tradeType")
        product = call.params.choice("tradeType", TRADE_TYPES)
        if call.params.text("symbol") is None:
            listings = list(self._catalogue.all(product))
        else:
            listings = [named_listing(self._catalogue, call.params)]
        return {"tradeType": trade_type, "list": [instrument_row(listing, self._engine) for listing in listings]}

    def _tickers(self, call: Call) -> dict[str, Any]:
        product = call.params.choice("tradeType", TRADE_TYPES)
        if call.params.text("symbol") is None:
            listings = list(self._catalogue.all(product))
        else:
            listings = [named_listing(self._catalogue, call.params)]
        rows = [self._ticker(listing) for listing in listings]
        return {"tradeType": call.params.need("tradeType"), "ts": call.now_ms, "list": rows}

    def _ticker(self, listing: Listing) -> dict[str, Any]:
        _, bids, asks = self._engine.depth(listing.symbol, 1)
        trades = self._engine.trades(listing.symbol, limit=1)
        last = plain(trades[-1].price) if trades else "0"
        return {
            "symbol": listing.native,
            "name": f"{listing.base}-{listing.quote}",
            "bestBidSize": plain(bids[0].quantity) if bids else "0",
            "bestBidPrice": plain(bids[0].price) if bids else "0",
            "bestAskSize": plain(asks[0].quantity) if asks else "0",
            "bestAskPrice": plain(asks[0].price) if asks else "0",
            "lastPrice": last,
            "size": plain(trades[-1].quantity) if trades else "0",
            "open": last,
            "high": last,
            "low": last,
            "baseVolume": "0",
            "quoteVolume": "0",
        }

    def _trades(self, call: Call) -> dict[str, Any]:
        listing = named_listing(self._catalogue, call.params)
        return {
            "tradeType": TRADE_TYPE_OF[listing.product],
            "list": [
                {
                    "sequence": str(listing.trade_id(trade.id)),
                    "tradeId": str(listing.trade_id(trade.id)),
                    "price": plain(trade.price),
                    "size": plain(trade.quantity),
                    "side": trade.side.lower(),
                    "ts": trade.time * 1_000_000,
                }
                for trade in self._engine.trades(listing.symbol, limit=100)
            ],
        }

    def _funding(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.find(FUTURES, call.params.need("symbol"))
        if listing is None:
            raise call.params.bad("Unsupported trading pair")
        return {
            "symbol": f".{listing.native}FPI8H",
            "nextFundingRate": double(Decimal("0.00003")),
            "fundingTime": (call.now_ms // FUNDING_MS + 1) * FUNDING_MS,
            "fundingRateCap": double(Decimal("0.003")),
            "fundingRateFloor": double(Decimal("-0.003")),
        }

    def _status(self, call: Call) -> dict[str, str]:
        call.params.choice("tradeType", TRADE_TYPES)
        return {"tradeType": call.params.need("tradeType"), "serverStatus": "open", "msg": ""}

    def _book(self, call: Call) -> dict[str, Any]:
        """Whole prices are spelt with one decimal here, unlike in the pushes."""
        listing = named_listing(self._catalogue, call.params)
        levels = call.params.choice("limit", _LIMITS, "20")
        _, bids, asks = self._engine.depth(listing.symbol, levels)
        spelt = [
            [[price if "." in price else f"{price}.0", size] for price, size in pairs(side)] for side in (bids, asks)
        ]
        return {
            "tradeType": TRADE_TYPE_OF[listing.product],
            "symbol": listing.native,
            "sequence": listing.sequences.last,
            "bids": spelt[0],
            "asks": spelt[1],
            "ts": call.now_ms * 1_000_000,
        }

    def _mode(self, call: Call) -> dict[str, Any]:
        return {"selfAccountMode": mode_of(call.account), "unifiedSubAccount": [], "classicSubAccount": []}
