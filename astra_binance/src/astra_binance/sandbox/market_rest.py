"""Public REST: ping, time, exchangeInfo, depth, trades, aggregate trades, tickers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from astra.models.trades import Side
from astra.sandbox import Amount, Exchange, PublicTrade
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import (
    Catalogue,
    Listing,
    futures_symbols,
    option_contracts,
    option_symbols,
    spot_symbols,
)
from astra_binance.sandbox.feeds import aggregate_row, next_funding
from astra_binance.sandbox.limits import Meter
from astra_binance.sandbox.tape import Tape
from astra_binance.sandbox.wire import Family, Params, Refusal

PREFIX = {
    Family.SPOT: "/api/v3",
    Family.USDM: "/fapi/v1",
    Family.COINM: "/dapi/v1",
    Family.OPTIONS: "/eapi/v1",
}
_DEPTH_LIMITS = {
    Family.USDM: (5, 10, 20, 50, 100, 500, 1000),
    Family.COINM: (5, 10, 20, 50, 100, 500, 1000),
    Family.OPTIONS: (10, 20, 50, 100, 500, 1000),
}
_DEPTH_DEFAULT = {Family.SPOT: 100, Family.USDM: 500, Family.COINM: 500, Family.OPTIONS: 100}
# (limit up to which, weight), from the cheapest on.
_DEPTH_WEIGHTS = {
    Family.SPOT: ((100, 5), (500, 25), (1000, 50), (5000, 250)),
    Family.USDM: ((50, 2), (100, 5), (500, 10), (1000, 20)),
    Family.COINM: ((50, 2), (100, 5), (500, 10), (1000, 20)),
    Family.OPTIONS: ((50, 1), (100, 5), (500, 10), (1000, 20)),
}


def _limit_or(params: Params, default: int) -> int:
    """`limit` for the weight alone; what is wrong with it is said by the endpoint."""
    text = params.values.get("limit", "")
    return int(text) if text.isascii() and text.isdigit() else default


class MarketData:
    """The endpoints that need no account."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, tape: Tape, meter: Meter) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._tape = tape
        self._meter = meter

    def routes(self) -> Routes:
        routes: dict[tuple[Family, str, str], Endpoint] = {}
        for family, prefix in PREFIX.items():
            for path, endpoint in self._common(family).items():
                routes[family, "GET", f"{prefix}/{path}"] = endpoint
        routes[Family.SPOT, "GET", "/api/v3/avgPrice"] = Endpoint(self._average_price, names("symbol"), weight=2)
        routes[Family.USDM, "GET", "/fapi/v2/ticker/price"] = Endpoint(self._prices, names("symbol"))
        return routes

    def _common(self, family: Family) -> dict[str, Endpoint]:
        spot, options = family is Family.SPOT, family is Family.OPTIONS
        info = names("symbol symbols permissions showPermissionSets symbolStatus") if spot else frozenset()
        found = {
            "ping": Endpoint(lambda call: {}),
            "time": Endpoint(lambda call: {"serverTime": call.now_ms}),
            "exchangeInfo": Endpoint(self._exchange_info, info, weight=20 if spot else 1),
            "depth": Endpoint(
                self._depth,
                names("symbol limit symbolStatus") if spot else names("symbol limit"),
                weight=self._depth_weight(family),
            ),
            "trades": Endpoint(self._trades, names("symbol limit"), weight=25 if spot else 5),
        }
        if options:
            return found | {"mark": Endpoint(self._marks, names("symbol"), weight=5)}
        found |= {
            "aggTrades": Endpoint(
                self._aggregate_trades, names("symbol fromId startTime endTime limit"), weight=4 if spot else 20
            ),
            "historicalTrades": Endpoint(
                self._historical_trades,
                names("symbol limit fromId"),
                weight=25 if spot else 20,
                security=Security.NONE if spot else Security.KEY,
            ),
            "ticker/price": Endpoint(self._prices, names("symbol"), weight=2 if spot else 1),
            "ticker/bookTicker": Endpoint(self._book_tickers, names("symbol"), weight=2),
        }
        if family.is_futures:
            found["premiumIndex"] = Endpoint(self._premium_index, names("symbol pair"))
        return found

    # --- exchangeInfo, depth ---

    def _exchange_info(self, call: Call) -> dict[str, Any]:
        family = call.family
        body: dict[str, Any] = {"timezone": "UTC", "serverTime": call.now_ms, "rateLimits": self._meter.listing(family)}
        if family is Family.OPTIONS:
            return body | {
                "optionContracts": option_contracts(self._catalogue),
                "optionAssets": [{"name": "USDT"}],
                "optionSymbols": option_symbols(self._catalogue),
            }
        body["exchangeFilters"] = []
        if family is Family.SPOT:
            return body | {"symbols": spot_symbols(self._catalogue, call.params)}
        if family is Family.USDM:
            assets = {listing.market.margin_asset: None for listing in self._catalogue.all(family)}
            body |= {
                "futuresType": "U_MARGINED",
                "assets": [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "0"} for asset in assets],
            }
        return body | {"symbols": futures_symbols(self._catalogue, family)}

    @staticmethod
    def _depth_weight(family: Family) -> Callable[[Params], int]:
        def weight(params: Params) -> int:
            limit = _limit_or(params, _DEPTH_DEFAULT[family])
            steps = _DEPTH_WEIGHTS[family]
            return next((cost for most, cost in steps if limit <= most), steps[-1][1])

        return weight

    def _depth(self, call: Call) -> dict[str, Any]:
        family, params = call.family, call.params
        listing = self._catalogue.wanted(family, params)
        limit = params.integer("limit", _DEPTH_DEFAULT[family])
        assert limit is not None
        allowed = _DEPTH_LIMITS.get(family)
        if allowed is None:
            limit = params.limit(100, 5000)
        elif limit not in allowed:
            raise Refusal(-4021, f"{limit} is not valid depth limit; valid limits are {list(allowed)}.")
        change_id, bids, asks = self._engine.depth(listing.symbol, limit)
        update = {"lastUpdateId": listing.ids.update_id(change_id)}
        sides = {"bids": _rows(listing, bids), "asks": _rows(listing, asks)}
        if family is Family.SPOT:
            return update | sides
        if family is Family.OPTIONS:
            return sides | {"T": call.now_ms} | update
        times = {"E": call.now_ms, "T": call.now_ms}
        if family is Family.USDM:
            return update | times | sides
        return update | times | {"symbol": listing.native, "pair": listing.pair} | sides

    # --- trades ---

    def _trades(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.wanted(call.family, call.params)
        limit = call.params.limit(100 if call.family is Family.OPTIONS else 500, 1000)
        return [_trade_row(listing, trade) for trade in self._engine.trades(listing.symbol, limit=limit)]

    def _historical_trades(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.wanted(call.family, call.params)
        limit = call.params.limit(500 if call.family is Family.SPOT else 100, 1000)
        first = call.params.integer("fromId")
        after = None if first is None else first - listing.ids.trade_base - 1
        return [
            _trade_row(listing, trade) for trade in self._engine.trades(listing.symbol, after_id=after, limit=limit)
        ]

    def _aggregate_trades(self, call: Call) -> list[dict[str, Any]]:
        params = call.params
        listing = self._catalogue.wanted(call.family, params)
        limit = params.limit(500, 1000)
        first, start, end = params.integer("fromId"), params.integer("startTime"), params.integer("endTime")
        if call.family.is_futures:
            if first is not None and (start is not None or end is not None):
                raise Refusal(-1128, "Combination of optional parameters invalid.")
            if start is not None and end is not None and end - start >= 3_600_000:
                raise Refusal(-4166, "Search window is restricted to recent 1 hour only.")
        self._tape.settle(call.now_ms)
        rows = [
            row
            for row in self._tape.recent(listing)
            if (first is None or row.id >= first)
            and (start is None or row.time >= start)
            and (end is None or row.time <= end)
        ]
        chosen = rows[-limit:] if first is None and start is None else rows[:limit]
        extra = {"M": True} if call.family is Family.SPOT else {}
        return [aggregate_row(listing, row) | extra for row in chosen]

    # --- tickers ---

    def _listings(self, call: Call) -> tuple[bool, list[Listing]]:
        """(one was asked for, those meant)."""
        wanted = self._catalogue.maybe_wanted(call.family, call.params)
        if wanted is not None:
            return True, [wanted]
        return False, [listing for listing in self._catalogue.all(call.family) if listing.trading]

    def _book_tickers(self, call: Call) -> Any:
        single, listings = self._listings(call)
        rows = [self._book_ticker(listing, call) for listing in listings]
        return rows[0] if single and call.family is not Family.COINM else rows

    def _book_ticker(self, listing: Listing, call: Call) -> dict[str, Any]:
        change_id, bids, asks = self._engine.depth(listing.symbol, 1)
        bid, ask = (side[0] if side else Amount(Decimal(0), Decimal(0)) for side in (bids, asks))
        row: dict[str, Any] = {
            "symbol": listing.native,
            "bidPrice": listing.price(bid.price),
            "bidQty": listing.quantity(bid.quantity),
            "askPrice": listing.price(ask.price),
            "askQty": listing.quantity(ask.quantity),
        }
        if listing.family is Family.SPOT:
            return row
        row |= {"lastUpdateId": listing.ids.update_id(change_id), "time": call.now_ms}
        return row | ({"pair": listing.pair} if listing.family is Family.COINM else {})

    def _last_price(self, listing: Listing) -> Decimal:
        last = self._engine.trades(listing.symbol, limit=1)
        return last[-1].price if last else self._engine.mark_price(listing.symbol)

    def _prices(self, call: Call) -> Any:
        single, listings = self._listings(call)
        rows = [
            {"symbol": listing.native, "price": listing.price(self._last_price(listing))}
            | ({} if call.family is Family.SPOT else {"time": call.now_ms})
            for listing in listings
        ]
        return rows[0] if single and call.family is not Family.COINM else rows

    def _average_price(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        return {"mins": 5, "price": listing.price(self._last_price(listing)), "closeTime": call.now_ms}

    def _premium_index(self, call: Call) -> Any:
        single, listings = self._listings(call)
        rows = []
        for listing in listings:
            mark = f"{self._engine.mark_price(listing.symbol):.8f}"
            rows.append(
                {
                    "symbol": listing.native,
                    "pair": listing.pair,
                    "markPrice": mark,
                    "indexPrice": mark,
                    "estimatedSettlePrice": mark,
                    "lastFundingRate": "0.00010000",
                    "interestRate": "0.00010000",
                    "nextFundingTime": next_funding(call.now_ms),
                    "time": call.now_ms,
                }
            )
        return rows[0] if single and call.family is Family.USDM else rows

    def _marks(self, call: Call) -> list[dict[str, Any]]:
        _, listings = self._listings(call)
        return [
            {"symbol": listing.native, "markPrice": listing.price(self._engine.mark_price(listing.symbol))}
            for listing in listings
        ]


def _rows(listing: Listing, amounts: Sequence[Amount]) -> list[tuple[str, str]]:
    return [(listing.price(amount.price), listing.quantity(amount.quantity)) for amount in amounts]


def _trade_row(listing: Listing, trade: PublicTrade) -> dict[str, Any]:
    number = listing.ids.trade_base + trade.id
    quote = listing.quote_value(trade.price, trade.quantity)
    row: dict[str, Any] = {
        "id": number,
        "price": listing.price(trade.price),
        "qty": listing.quantity(trade.quantity),
    }
    if listing.family is Family.OPTIONS:
        return {
            # An id of its own beside the small one of the symbol, which is the stream's.
            "id": 2_323_857_420_768_529_000 + trade.id,
            "tradeId": number,
            "symbol": listing.native,
            "price": row["price"],
            "qty": row["qty"],
            "quoteQty": listing.price(quote),
            "side": 1 if trade.side is Side.BUY else -1,
            "time": trade.time,
        }
    if listing.family is Family.COINM:
        row["baseQty"] = f"{listing.base_value(trade.price, trade.quantity):.8f}"
    else:
        row["quoteQty"] = f"{quote:.8f}" if listing.family is Family.SPOT else f"{quote:.2f}"
    row |= {"time": trade.time, "isBuyerMaker": trade.side is Side.SELL}
    if listing.family is Family.SPOT:
        return row | {"isBestMatch": True}
    return row | ({"isRPITrade": False} if listing.family is Family.USDM else {})
