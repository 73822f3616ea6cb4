"""The derivatives API for everybody: instruments, books, tickers, trades."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.markets import MarketStatus
from astra.models.trades import Side
from astra.sandbox import Exchange, PublicTrade
from astra.symbols import AssetType
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.calls import Call, DerivativesRoutes, Endpoint, names
from astra_kraken.sandbox.catalogue import Catalogue, DerivativesListing, Statistics
from astra_kraken.sandbox.wire import DerivativesRefusal, millis, number, parse_number, parse_time, raw, rounded

PREFIX = "/derivatives/api/v3"
HISTORY = "/api/history/v3"
WHOLE_BOOK = 1_000_000
"""Deeper than any book."""
_TRADES = 100
_FUNDING = Decimal("0.00001")
"""The relative funding rate of every perpetual, per hour."""
HOUR_MS = 3_600_000


def trade_uid(listing: DerivativesListing, trade: PublicTrade) -> str:
    return ids.uuid_of(ids.TRADE, listing.index << 50 | trade.id)


def funding_rate(listing: DerivativesListing, mark: Decimal) -> Decimal:
    """The absolute rate per contract: in dollars per unit of the base, or in coins per dollar."""
    return _FUNDING / mark if listing.market.is_inverse else _FUNDING * mark


def listing_of(catalogue: Catalogue, call: Call, name: str = "symbol") -> DerivativesListing:
    """The contract that a call names. Raises `DerivativesRefusal`."""
    symbol = call.tail or call.params.text(name)
    if symbol is None:
        raise DerivativesRefusal(f"requiredArgumentMissing: {name}")
    listing = catalogue.contract(symbol)
    if listing is None:
        raise DerivativesRefusal("contractNotFound")
    return catalogue.contract_now(listing)


class DerivativesPublic:
    def __init__(self, engine: Exchange, catalogue: Catalogue, statistics: Statistics) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._statistics = statistics

    def routes(self) -> DerivativesRoutes:
        def free(handler: Any, accepts: str = "", *, bare: bool = False) -> Endpoint:
            return Endpoint(handler, names(accepts), 0, private=False, bare=bare)

        return {
            ("GET", f"{PREFIX}/instruments"): free(self._instruments, "contractType"),
            ("GET", f"{PREFIX}/instruments/status"): free(self._statuses),
            ("GET", f"{PREFIX}/orderbook"): free(self._book, "symbol"),
            ("GET", f"{PREFIX}/tickers"): free(self._tickers, "symbol contractType"),
            ("GET", f"{PREFIX}/tickers/*"): free(self._ticker_of),
            ("GET", f"{PREFIX}/history"): free(self._history, "symbol lastTime"),
            ("GET", "/derivatives/api/v4/historicalfundingrates"): free(self._funding, "symbol"),
            ("GET", "/api/history/v3/market/*/executions"): free(
                self._executions, "since before sort count continuationToken", bare=True
            ),
        }

    def _instruments(self, call: Call) -> dict[str, Any]:
        """Index rows are listed too; they cannot be traded."""
        rows: list[dict[str, Any]] = [
            self._catalogue.contract_now(listing).row() for listing in self._catalogue.derivatives.values()
        ]
        bases = dict.fromkeys(listing.base.lower() for listing in self._catalogue.derivatives.values())
        rows += [{"symbol": f"in_{base}usd", "type": "spot index", "tradeable": False} for base in list(bases)[:2]]
        return {"instruments": rows}

    def _statuses(self, call: Call) -> dict[str, Any]:
        return {
            "instrumentStatus": [
                {
                    "tradeable": listing.native,
                    "experiencingDislocation": False,
                    "priceDislocationDirection": None,
                    "experiencingExtremeVolatility": False,
                    "extremeVolatilityInitialMarginMultiplier": 1,
                }
                for listing in self._catalogue.derivatives.values()
            ]
        }

    def _book(self, call: Call) -> dict[str, Any]:
        _, bids, asks = self._engine.depth(listing_of(self._catalogue, call).id, WHOLE_BOOK)
        return {
            "orderBook": {
                side: [[number(amount.price), number(amount.quantity)] for amount in amounts]
                for side, amounts in (("bids", bids), ("asks", asks))
            }
        }

    def ticker_row(self, listing: DerivativesListing) -> dict[str, Any]:
        """The entry of `tickers`."""
        _, bids, asks = self._engine.depth(listing.id, 1)
        stats, mark = self._statistics.of(listing.id), self._engine.mark_price(listing.id)
        row: dict[str, Any] = {"symbol": listing.native}
        if stats.count:
            row |= {"last": number(stats.last), "lastTime": millis(stats.last_time)}
            row["lastSize"] = number(stats.last_quantity)
        row |= {"tag": listing.tag, "pair": listing.pair, "markPrice": number(mark)}
        for name, side in (("bid", bids), ("ask", asks)):
            if side:
                row |= {name: number(side[0].price), f"{name}Size": number(side[0].quantity)}
        row |= {
            "vol24h": number(stats.volume),
            "volumeQuote": number(stats.volume if listing.market.is_inverse else stats.worth),
            "openInterest": 0.0,
            "open24h": number(stats.open),
            "high24h": number(stats.high),
            "low24h": number(stats.low),
            "suspended": listing.market.status is not MarketStatus.ACTIVE,
            "indexPrice": number(mark),
            "postOnly": False,
            "change24h": number(rounded((stats.last / stats.open - 1) * 100 if stats.open else None, 2)),
        }
        if listing.market.asset_type is AssetType.PERP:
            rate = raw(str(funding_rate(listing, mark)).replace("E", "e"))
            row |= {"fundingRate": rate, "fundingRatePrediction": rate}
        return row

    def _tickers(self, call: Call) -> dict[str, Any]:
        if "symbol" in call.params:
            listings = [listing_of(self._catalogue, call)]
        else:
            listings = [self._catalogue.contract_now(one) for one in self._catalogue.derivatives.values()]
        return {"tickers": [self.ticker_row(listing) for listing in listings]}

    def _ticker_of(self, call: Call) -> dict[str, Any]:
        return {"ticker": self.ticker_row(listing_of(self._catalogue, call))}

    def _history(self, call: Call) -> dict[str, Any]:
        """The last 100 trades (before `lastTime`), newest first; `trade_id` counts within the answer."""
        listing = listing_of(self._catalogue, call)
        before = call.params.text("lastTime")
        limit_ms = None if before is None else parse_time(before)
        if before is not None and limit_ms is None:
            raise DerivativesRefusal("invalidArgument: lastTime")
        trades = self._engine.trades(listing.id, limit=1000)
        kept = [trade for trade in trades if limit_ms is None or trade.time < limit_ms][-_TRADES:]
        rows = [
            {
                "time": millis(trade.time),
                "trade_id": place,
                "price": number(trade.price),
                "size": number(trade.quantity),
                "side": "buy" if trade.side is Side.BUY else "sell",
                "type": "fill",
                "uid": trade_uid(listing, trade),
            }
            for place, trade in enumerate(kept, 1)
        ]
        return {"history": rows[::-1]}

    def _funding(self, call: Call) -> dict[str, Any]:
        listing = listing_of(self._catalogue, call)
        rate = raw(str(funding_rate(listing, self._engine.mark_price(listing.id))).replace("E", "e"))
        hour = call.now_ms - call.now_ms % HOUR_MS
        return {
            "rates": [
                {"timestamp": millis(hour - back * HOUR_MS), "fundingRate": rate, "relativeFundingRate": 0.00001}
                for back in (2, 1, 0)
            ]
        }

    def _executions(self, call: Call) -> dict[str, Any]:
        """Newest first; numbers are texts. The taker's side is `takerOrder.direction`."""
        listing = listing_of(self._catalogue, call)
        since, before = (parse_number(call.params.get(name)) for name in ("since", "before"))
        trades = [
            trade
            for trade in self._engine.trades(listing.id, limit=1000)
            if (since is None or trade.time >= since) and (before is None or trade.time < before)
        ]
        if call.params.text("sort") != "asc":
            trades.reverse()
        count = int(parse_number(call.params.get("count")) or 1000)
        elements = [self._element(listing, trade) for trade in trades[:count]]
        return {"elements": elements, "len": len(elements)}

    @staticmethod
    def _element(listing: DerivativesListing, trade: PublicTrade) -> dict[str, Any]:
        def order(number_: int, side: Side, kind: str) -> dict[str, Any]:
            return {
                "uid": ids.uuid_of(ids.ORDER, number_),
                "tradeable": listing.native,
                "direction": "Buy" if side is Side.BUY else "Sell",
                "quantity": f"{trade.quantity:f}",
                "timestamp": trade.time,
                "limitPrice": f"{trade.price:f}",
                "orderType": kind,
                "reduceOnly": False,
                "lastUpdateTimestamp": trade.time,
            }

        maker = Side.SELL if trade.side is Side.BUY else Side.BUY
        uid = trade_uid(listing, trade)
        execution = {
            "uid": uid,
            "makerOrder": order(trade.maker_order_id, maker, "Post"),
            "takerOrder": order(trade.taker_order_id, trade.side, "Limit"),
            "timestamp": trade.time,
            "quantity": f"{trade.quantity:f}",
            "price": f"{trade.price:f}",
            "markPrice": f"{trade.price:f}",
            "limitFilled": True,
            "usdValue": f"{trade.quantity if listing.market.is_inverse else trade.quantity * trade.price:.2f}",
        }
        event = {"Execution": {"execution": execution, "takerReducedQuantity": ""}}
        return {"uid": ids.uuid_of(ids.EVENT, listing.index << 50 | trade.id), "timestamp": trade.time, "event": event}
