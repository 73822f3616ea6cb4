"""Public REST: instruments, books, trades, tickers, and what the venue publishes about its contracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from astra.sandbox import Amount, Exchange, PublicTrade
from astra.sandbox.toolkit import plain
from astra_okx.sandbox.calls import Call, Endpoint, Routes, names
from astra_okx.sandbox.catalogue import Catalogue, Listing
from astra_okx.sandbox.feeds import ticker_row
from astra_okx.sandbox.limits import Budget, Scope
from astra_okx.sandbox.wire import InstType, Params, empty, no_instrument, success, wrong

_SELECTION = names("instType instId instFamily uly")
_EIGHT_HOURS_MS = 8 * 3600 * 1000


def _public(limit: int, *, by: str | None = None, window_ms: int = 2000) -> Budget:
    return Budget(limit, Scope.ADDRESS, window_ms, by)


def _levels(amounts: list[Amount] | Any) -> list[list[str]]:
    return [[plain(amount.price), plain(amount.quantity), "0", "1"] for amount in amounts]


class MarketData:
    """Everything that needs no key."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self.rows_by_channel: Mapping[str, Callable[[Listing, int], Mapping[str, Any]]] = {
            "mark-price": self.mark_row,
            "funding-rate": self.funding_row,
            "open-interest": self.interest_row,
            "price-limit": self.limit_row,
        }

    def routes(self) -> Routes:
        def read(handler: Callable[[Call], Any], accepts: frozenset[str], budget: Budget) -> Endpoint:
            return Endpoint(handler, accepts, budget, signed=False)

        by_id, of_type = names("instId"), names("instType instId instFamily uly seriesId")
        return {
            ("GET", "/public/time"): read(lambda call: success([{"ts": str(call.now_ms)}]), frozenset(), _public(10)),
            ("GET", "/public/instruments"): read(self._instruments, of_type, _public(20, by="instType")),
            ("GET", "/account/instruments"): Endpoint(self._instruments, of_type, Budget(20, by="instType")),
            ("GET", "/public/underlying"): read(self._underlying, names("instType"), _public(20)),
            ("GET", "/public/instrument-tick-bands"): read(self._bands, names("instType instFamily"), _public(5)),
            ("GET", "/public/funding-rate"): read(self._funding, by_id, _public(10, by="instId")),
            ("GET", "/public/mark-price"): read(self._mark, _SELECTION, _public(10, by="instId")),
            ("GET", "/public/price-limit"): read(self._price_limit, by_id, _public(20)),
            ("GET", "/public/open-interest"): read(self._interest, _SELECTION, _public(20, by="instId")),
            ("GET", "/market/books"): read(self._books, names("instId sz"), _public(40)),
            ("GET", "/market/books-full"): read(self._books_full, names("instId sz"), _public(10)),
            ("GET", "/market/ticker"): read(self._ticker, by_id, _public(20)),
            ("GET", "/market/tickers"): read(self._tickers, _SELECTION, _public(20)),
            ("GET", "/market/trades"): read(self._trades, names("instId limit"), _public(100)),
            ("GET", "/market/history-trades"): read(
                self._history_trades, names("instId type after before limit"), _public(10)
            ),
            ("GET", "/public/option-trades"): read(
                self._option_trades, names("instId instFamily optType"), _public(20)
            ),
            ("GET", "/system/status"): read(lambda call: success([]), names("state"), _public(1, window_ms=5000)),
        }

    # --- instruments ---

    def _instruments(self, call: Call) -> dict[str, Any]:
        params = call.params
        if params.text("instType") == "EVENTS":
            return success([])
        kind = self._catalogue.inst_type(params)
        if kind is InstType.OPTION and params.text("instFamily") is None and params.text("uly") is None:
            raise empty("instFamily")
        rows = [listing.row() for listing in self._catalogue.selected(params)]
        if params.text("instType") == "MARGIN":
            rows = []  # nothing is lent here
        return success(rows)

    def _underlying(self, call: Call) -> dict[str, Any]:
        kind = self._catalogue.inst_type(call.params)
        if kind is InstType.SPOT:
            raise wrong("instType")
        return success([list(dict.fromkeys(listing.underlying for listing in self._catalogue.all(kind)))])

    def _bands(self, call: Call) -> dict[str, Any]:
        if call.params.need("instType") != "OPTION":
            raise wrong("instType")
        wanted = call.params.text("instFamily")
        rows = {}
        for listing in self._catalogue.all(InstType.OPTION):
            bands = listing.market.tick_bands
            if bands is None or listing.family in rows or wanted not in (None, listing.family):
                continue
            ends = [*(band.from_price for band in bands[1:]), Decimal(10_000_000)]
            rows[listing.family] = {
                "instFamily": listing.family,
                "instType": "OPTION",
                "tickBand": [
                    {"maxPx": plain(end), "minPx": plain(band.from_price), "tickSz": plain(band.tick_size)}
                    for band, end in zip(bands, ends, strict=True)
                ],
            }
        return success(list(rows.values()))

    # --- what contracts are subject to ---

    def mark_row(self, listing: Listing, now_ms: int) -> dict[str, str]:
        mark = plain(round(self._engine.mark_price(listing.symbol), 12))
        return {"instType": listing.type.value, "instId": listing.native, "markPx": mark, "ts": str(now_ms)}

    def _mark(self, call: Call) -> dict[str, Any]:
        return success([self.mark_row(one, call.now_ms) for one in self._catalogue.selected(call.params)])

    def funding_row(self, listing: Listing, now_ms: int) -> dict[str, str]:
        due = (now_ms // _EIGHT_HOURS_MS + 1) * _EIGHT_HOURS_MS
        return {
            "formulaType": "withRate",
            "fundingRate": "0.0001000000000000",
            "fundingTime": str(due),
            "impactValue": "20000.0000000000000000",
            "instId": listing.native,
            "instType": listing.type.value,
            "interestRate": "0.0001000000000000",
            "maxFundingRate": "0.00375",
            "method": "current_period",
            "minFundingRate": "-0.00375",
            "nextFundingRate": "",
            "nextFundingTime": str(due + _EIGHT_HOURS_MS),
            "premium": "0.0000000000000000",
            "prevFundingTime": str(due - _EIGHT_HOURS_MS),
            "settFundingRate": "0.0001000000000000",
            "settState": "settled",
            "ts": str(now_ms),
        }

    def _funding(self, call: Call) -> dict[str, Any]:
        if call.params.need("instId") == "ANY":
            funded = [one for one in self._catalogue.all() if one.type is InstType.SWAP or one.rule == "xperp"]
        else:
            funded = [self._catalogue.wanted(call.params)]
            if funded[0].type is not InstType.SWAP and funded[0].rule != "xperp":
                raise no_instrument()
        return success([self.funding_row(listing, call.now_ms) for listing in funded])

    def limit_row(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        """The sandbox takes any price; the band is shown all the same."""
        mark, tick = self._engine.mark_price(listing.symbol), listing.market.tick_size or Decimal(1)
        return {
            "instType": listing.type.value,
            "instId": listing.native,
            "buyLmt": plain(mark * Decimal("1.5") // tick * tick),
            "sellLmt": plain(mark / 2 // tick * tick),
            "ts": str(now_ms),
            "enabled": True,
        }

    def _price_limit(self, call: Call) -> dict[str, Any]:
        return success([self.limit_row(self._catalogue.wanted(call.params), call.now_ms)])

    def interest_row(self, listing: Listing, now_ms: int) -> dict[str, str]:
        traded, mark = self._catalogue.traded(listing), self._engine.mark_price(listing.symbol)
        return {
            "instId": listing.native,
            "instType": listing.type.value,
            "oi": plain(traded.volume),
            "oiCcy": plain(round(traded.coin_volume, 12)),
            "oiUsd": plain(round(listing.worth(traded.volume, mark), 12)),
            "ts": str(now_ms),
        }

    def _interest(self, call: Call) -> dict[str, Any]:
        return success([self.interest_row(one, call.now_ms) for one in self._catalogue.selected(call.params)])

    # --- books ---

    def _books(self, call: Call) -> dict[str, Any]:
        listing, wanted = self._catalogue.wanted(call.params), call.params.integer("sz")
        if wanted is not None and not 1 <= wanted <= 400:
            raise wrong("sz")
        change_id, bids, asks = self._engine.depth(listing.symbol, wanted or 1)
        seq = listing.numbering.seq_id(change_id)
        row = {"asks": _levels(asks), "bids": _levels(bids), "ts": str(call.now_ms), "seqId": seq}
        return success([row])

    def _books_full(self, call: Call) -> dict[str, Any]:
        listing, wanted = self._catalogue.wanted(call.params), call.params.integer("sz")
        if wanted is not None and not 1 <= wanted <= 5000:
            raise wrong("sz")
        _, bids, asks = self._engine.depth(listing.symbol, wanted or 1)
        row: dict[str, Any] = {
            side: [[plain(amount.price), plain(amount.quantity), "1"] for amount in amounts]
            for side, amounts in (("asks", asks), ("bids", bids))
        }
        return success([row | {"ts": str(call.now_ms)}])

    # --- tickers and trades ---

    def _ticker(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.params)
        return success([ticker_row(self._engine, self._catalogue, listing, call.now_ms)])

    def _tickers(self, call: Call) -> dict[str, Any]:
        chosen = self._catalogue.selected(call.params)
        return success([ticker_row(self._engine, self._catalogue, one, call.now_ms) for one in chosen])

    @staticmethod
    def _trade_row(listing: Listing, trade: PublicTrade) -> dict[str, str]:
        return {
            "instId": listing.native,
            "side": trade.side.lower(),
            "sz": plain(trade.quantity),
            "px": plain(trade.price),
            "source": "0",
            "tradeId": str(trade.id),
            "ts": str(trade.time),
        }

    def _trades(self, call: Call) -> dict[str, Any]:
        """The newest first."""
        listing = self._catalogue.wanted(call.params)
        found = self._engine.trades(listing.symbol, limit=call.params.limit(100, 500))
        return success([self._trade_row(listing, trade) for trade in reversed(found)])

    def _history_trades(self, call: Call) -> dict[str, Any]:
        """The newest first; `after` an id or time means: older ones, `before` one: newer ones."""
        listing, params = self._catalogue.wanted(call.params), call.params
        by_time = params.choice("type", ("1", "2"), "1") == "2"
        after, before, limit = params.integer("after"), params.integer("before"), params.limit(100, 100)

        def place(trade: PublicTrade) -> int:
            return trade.time if by_time else trade.id

        found = [
            trade
            for trade in reversed(self._engine.trades(listing.symbol, limit=1000))
            if (after is None or place(trade) < after) and (before is None or place(trade) > before)
        ]
        return success([self._trade_row(listing, trade) for trade in found[:limit]])

    def _option_trades(self, call: Call) -> dict[str, Any]:
        """Of one option or of a family; the newest first, a hundred at most."""
        params = call.params
        if params.text("instId") is None:
            params.need("instFamily")
        wanted, right = {**params.values, "instType": "OPTION"}, params.choice("optType", ("C", "P"))
        found = [
            (listing, trade)
            for listing in self._catalogue.selected(Params(wanted))
            if right in (None, listing.market.option_type)
            for trade in self._engine.trades(listing.symbol, limit=100)
        ]
        found.sort(key=lambda pair: (pair[1].time, pair[1].id), reverse=True)
        return success([self._option_trade_row(listing, trade) for listing, trade in found[:100]])

    def _option_trade_row(self, listing: Listing, trade: PublicTrade) -> dict[str, str]:
        """Underlying prices and volatility are not known here."""
        row = self._trade_row(listing, trade)
        del row["source"]
        return row | {
            "fillVol": "",
            "fwdPx": "",
            "idxPx": "",
            "instFamily": listing.family,
            "markPx": plain(self._engine.mark_price(listing.symbol)),
            "optType": str(listing.market.option_type or ""),
        }
