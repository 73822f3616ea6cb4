"""Classic market data of both products, and the tokens of the classic sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from astra.sandbox import Amount, Exchange
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import Call, Endpoint, Routes, names
from astra_kucoin.sandbox.catalogue import Catalogue, Listing
from astra_kucoin.sandbox.keys import Tokens
from astra_kucoin.sandbox.rows import FUNDING_MS, contract_row, spot_row
from astra_kucoin.sandbox.wire import FUTURES, SPOT, Refusal, double, whole

ZERO = Decimal(0)
ALL_LEVELS = 1_000_000
_FUTURES_LEVELS = 1000
_PING = {"encrypt": True, "protocol": "websocket", "pingInterval": 18000, "pingTimeout": 10000}
_REAL_ENDPOINTS = {
    "spot_stream": "wss://ws-api-spot.kucoin.com",
    "futures_stream": "wss://ws-api-futures.kucoin.com",
    "unified_private_stream": "wss://wsapi-push.kucoin.com",
}


def pairs(amounts: Sequence[Amount]) -> list[list[str]]:
    """Levels as spot and the unified API write them."""
    return [[plain(amount.price), plain(amount.quantity)] for amount in amounts]


def number_pairs(amounts: Sequence[Amount]) -> list[list[Any]]:
    """Levels as futures REST writes them: JSON numbers, sizes in lots."""
    return [[double(amount.price), whole(amount.quantity)] for amount in amounts]


class MarketData:
    """What anybody may ask, without a key but for the whole spot book."""

    def __init__(
        self, engine: Exchange, catalogue: Catalogue, tokens: Tokens, addresses: Callable[[], Mapping[str, str]]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._tokens = tokens
        self._addresses = addresses

    def routes(self) -> Routes:
        def free(handler: Any, accepts: str = "", weight: int = 2) -> Endpoint:
            return Endpoint(handler, names(accepts), weight=weight)

        def signed(handler: Any, accepts: str = "", weight: int = 10, pool: str = "SPOT", **more: Any) -> Endpoint:
            return Endpoint(handler, names(accepts), pool, weight, "General", **more)

        spot = {
            ("GET", "/api/v1/timestamp"): Endpoint(self._time, pool=None),
            ("GET", "/api/v1/status"): free(self._status, weight=3),
            ("GET", "/api/v2/symbols"): free(self._symbols, "market", 4),
            ("GET", "/api/v2/symbols/{symbol}"): free(self._symbol, "", 4),
            ("GET", "/api/v1/market/orderbook/level1"): free(self._level1, "symbol"),
            ("GET", "/api/v1/market/orderbook/level2_20"): free(self._spot_book(20), "symbol"),
            ("GET", "/api/v1/market/orderbook/level2_100"): free(self._spot_book(100), "symbol", 4),
            ("GET", "/api/v3/market/orderbook/level2"): signed(self._spot_book(ALL_LEVELS), "symbol", 3),
            ("GET", "/api/v1/market/histories"): free(self._spot_trades, "symbol", 3),
            ("GET", "/api/v1/market/allTickers"): free(self._tickers, weight=15),
            ("GET", "/api/v1/market/stats"): free(self._stats, "symbol", 15),
            ("POST", "/api/v1/bullet-public"): free(self._token("spot_stream"), weight=10),
            ("POST", "/api/v1/bullet-private"): signed(self._token("spot_stream"), in_body=True),
            ("POST", "/api/v2/bullet-private"): signed(self._token("unified_private_stream"), in_body=True),
        }
        futures = {
            ("GET", "/api/v1/timestamp"): Endpoint(self._time, pool=None),
            ("GET", "/api/v1/status"): free(self._status, weight=4),
            ("GET", "/api/v1/contracts/active"): free(self._contracts, weight=3),
            ("GET", "/api/v1/contracts/{symbol}"): free(self._contract, "", 3),
            ("GET", "/api/v1/level2/snapshot"): free(self._futures_book(_FUTURES_LEVELS), "symbol", 3),
            ("GET", "/api/v1/level2/depth20"): free(self._futures_book(20), "symbol", 5),
            ("GET", "/api/v1/level2/depth100"): free(self._futures_book(100), "symbol", 10),
            ("GET", "/api/v1/trade/history"): free(self._futures_trades, "symbol", 5),
            ("GET", "/api/v1/ticker"): free(self._futures_ticker, "symbol"),
            ("GET", "/api/v1/allTickers"): free(self._futures_tickers, weight=5),
            ("GET", "/api/v1/mark-price/{symbol}/current"): free(self._mark, "", 3),
            ("GET", "/api/v1/funding-rate/{symbol}/current"): free(self._funding),
            ("POST", "/api/v1/bullet-public"): free(self._token("futures_stream"), weight=10),
            ("POST", "/api/v1/bullet-private"): signed(self._token("futures_stream"), pool="FUTURES", in_body=True),
        }
        routes: dict[tuple[str, str, str], Endpoint] = {}
        for host, table in (("spot_rest", spot), ("futures_rest", futures)):
            routes |= {(host, method, path): endpoint for (method, path), endpoint in table.items()}
        return routes

    def _time(self, call: Call) -> int:
        return call.now_ms

    def _status(self, call: Call) -> dict[str, str]:
        return {"status": "open", "msg": ""}

    def _token(self, host: str) -> Callable[[Call], dict[str, Any]]:
        def issue(call: Call) -> dict[str, Any]:
            endpoint = self._addresses().get(host, _REAL_ENDPOINTS[host])
            token = self._tokens.issue(host, call.caller, call.now_ms)
            server = {"endpoint": f"{endpoint.rstrip('/')}/", **_PING, "encrypt": endpoint.startswith("wss:")}
            return {"token": token, "instanceServers": [server]}

        return issue

    # --- spot ---

    def _symbols(self, call: Call) -> list[dict[str, Any]]:
        wanted = call.params.text("market")
        rows = (spot_row(listing) for listing in self._catalogue.all(SPOT))
        return [row for row in rows if wanted in (None, row["market"])]

    def _symbol(self, call: Call) -> dict[str, Any]:
        return spot_row(self._catalogue.need(SPOT, call.path["symbol"]))

    def _spot_book(self, levels: int) -> Callable[[Call], dict[str, Any]]:
        def book(call: Call) -> dict[str, Any]:
            listing = self._catalogue.need(SPOT, call.params.need("symbol"))
            _, bids, asks = self._engine.depth(listing.symbol, levels)
            sequence = str(listing.sequences.last)
            return {"time": call.now_ms, "sequence": sequence, "bids": pairs(bids), "asks": pairs(asks)}

        return book

    def _best(self, listing: Listing) -> tuple[Amount, Amount, Any]:
        """(best bid, best ask, last trade or None); zeros on an empty side."""
        _, bids, asks = self._engine.depth(listing.symbol, 1)
        nothing = Amount(ZERO, ZERO)
        trades = self._engine.trades(listing.symbol, limit=1)
        return bids[0] if bids else nothing, asks[0] if asks else nothing, trades[-1] if trades else None

    def _level1(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        bid, ask, last = self._best(listing)
        return {
            "time": call.now_ms,
            "sequence": str(listing.sequences.last),
            "price": plain(last.price if last else ZERO),
            "size": plain(last.quantity if last else ZERO),
            "bestBid": plain(bid.price),
            "bestBidSize": plain(bid.quantity),
            "bestAsk": plain(ask.price),
            "bestAskSize": plain(ask.quantity),
        }

    def _spot_trades(self, call: Call) -> list[dict[str, Any]]:
        """Oldest first; `sequence` is the trade id, time in nanoseconds."""
        listing = self._catalogue.need(SPOT, call.params.need("symbol"))
        return [
            {
                "sequence": str(listing.trade_id(trade.id)),
                "price": plain(trade.price),
                "size": plain(trade.quantity),
                "side": trade.side.lower(),
                "time": trade.time * 1_000_000,
            }
            for trade in self._engine.trades(listing.symbol, limit=100)
        ]

    def _ticker_row(self, listing: Listing) -> dict[str, Any]:
        bid, ask, last = self._best(listing)
        maker, taker = self._engine.fee_rates(listing.symbol)
        price = plain(last.price) if last else None
        return {
            "symbol": listing.native,
            "symbolName": f"{listing.base}-{listing.quote}",
            "buy": plain(bid.price),
            "bestBidSize": plain(bid.quantity),
            "sell": plain(ask.price),
            "bestAskSize": plain(ask.quantity),
            "changeRate": "0",
            "changePrice": "0",
            "high": price,
            "low": price,
            "vol": "0",
            "volValue": "0",
            "last": price,
            "averagePrice": price,
            "takerFeeRate": plain(taker),
            "makerFeeRate": plain(maker),
            "takerCoefficient": "1",
            "makerCoefficient": "1",
        }

    def _tickers(self, call: Call) -> dict[str, Any]:
        return {"time": call.now_ms, "ticker": [self._ticker_row(listing) for listing in self._catalogue.all(SPOT)]}

    def _stats(self, call: Call) -> dict[str, Any]:
        row = self._ticker_row(self._catalogue.need(SPOT, call.params.need("symbol")))
        left_out = ("symbolName", "bestBidSize", "bestAskSize")
        return {"time": call.now_ms} | {name: value for name, value in row.items() if name not in left_out}

    # --- futures ---

    def _contracts(self, call: Call) -> list[dict[str, Any]]:
        return [contract_row(listing, self._engine, call.now_ms) for listing in self._catalogue.all(FUTURES)]

    def _contract(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.find(FUTURES, call.path["symbol"])
        if listing is None:
            raise Refusal("404000", "The contract information you requested does not exist.")
        return contract_row(listing, self._engine, call.now_ms)

    def _futures_book(self, levels: int) -> Callable[[Call], dict[str, Any]]:
        def book(call: Call) -> dict[str, Any]:
            listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
            _, bids, asks = self._engine.depth(listing.symbol, levels)
            return {
                "sequence": listing.sequences.last,
                "symbol": listing.native,
                "bids": number_pairs(bids),
                "asks": number_pairs(asks),
                "ts": call.now_ms * 1_000_000,
            }

        return book

    def _futures_trades(self, call: Call) -> list[dict[str, Any]]:
        """Newest first."""
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        catalogue, market = self._catalogue, listing.market
        return [
            {
                "sequence": listing.trade_id(trade.id),
                "tradeId": str(listing.trade_id(trade.id)),
                "takerOrderId": catalogue.public_order_id(trade.taker_order_id, market.product, trade.time),
                "makerOrderId": catalogue.public_order_id(trade.maker_order_id, market.product, trade.time),
                "price": plain(trade.price),
                "size": whole(trade.quantity),
                "side": trade.side.lower(),
                "ts": trade.time * 1_000_000,
            }
            for trade in reversed(self._engine.trades(listing.symbol, limit=100))
        ]

    def _futures_ticker_row(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        bid, ask, last = self._best(listing)
        return {
            "sequence": listing.sequences.last,
            "symbol": listing.native,
            "side": last.side.lower() if last else "buy",
            "size": whole(last.quantity if last else ZERO),
            "tradeId": str(listing.trade_id(last.id if last else 0)),
            "price": plain(last.price if last else ZERO),
            "bestBidPrice": plain(bid.price),
            "bestBidSize": whole(bid.quantity),
            "bestAskPrice": plain(ask.price),
            "bestAskSize": whole(ask.quantity),
            "ts": now_ms * 1_000_000,
        }

    def _futures_ticker(self, call: Call) -> dict[str, Any]:
        return self._futures_ticker_row(self._catalogue.need(FUTURES, call.params.need("symbol")), call.now_ms)

    def _futures_tickers(self, call: Call) -> list[dict[str, Any]]:
        return [self._futures_ticker_row(listing, call.now_ms) for listing in self._catalogue.all(FUTURES)]

    def _mark(self, call: Call) -> dict[str, Any]:
        listing = self._contract_of(call)
        mark = self._engine.mark_price(listing.symbol)
        return {
            "symbol": listing.native,
            "granularity": 1000,
            "timePoint": call.now_ms // 1000 * 1000,
            "value": double(mark),
            "indexPrice": double(mark),
        }

    def _funding(self, call: Call) -> dict[str, Any]:
        listing = self._contract_of(call)
        start = call.now_ms // FUNDING_MS * FUNDING_MS
        return {
            "symbol": f".{listing.native}FPI8H",
            "granularity": FUNDING_MS,
            "timePoint": start,
            "value": double(Decimal("0.000061")),
            "predictedValue": double(Decimal("0.000109")),
            "fundingRateCap": double(Decimal("0.003")),
            "fundingRateFloor": double(Decimal("-0.003")),
            "period": 0,
            "fundingTime": start + FUNDING_MS,
        }

    def _contract_of(self, call: Call) -> Listing:
        listing = self._catalogue.find(FUTURES, call.path["symbol"])
        if listing is None:
            raise Refusal("415000", "The symbol does not exist.")
        return listing
