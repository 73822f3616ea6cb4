"""Public REST: books, trades, tickers, funding."""

from __future__ import annotations

from typing import Any

import msgspec

from astra.sandbox import Exchange
from astra_htx.sandbox import tape
from astra_htx.sandbox.calls import Call, Endpoint, Routes, names
from astra_htx.sandbox.catalogue import Catalogue, Listing
from astra_htx.sandbox.feeds import depth_tick
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.listings_rest import DERIVATIVES, SPOT, rows_of
from astra_htx.sandbox.wire import Envelope, Family, Params, Refusal, Whole, bare, double, missing, wrong

_EIGHT_HOURS = 8 * 3600 * 1000


class MarketData:
    """The handlers, and the tables they read."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, days: tape.DayTable) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._days = days

    def routes(self) -> Routes:
        routes: dict[tuple[str, str, str], Endpoint] = {}

        def spot(path: str, handler: Any, accepts: str = "", envelope: Envelope = Envelope.SPOT) -> None:
            routes[SPOT, "GET", path] = Endpoint(handler, envelope, Counter.SPOT_MARKET, names(accepts))

        for path, handler, accepts in (
            ("/market/depth", self._depth, "symbol type depth"),
            ("/market/fullMbp", self._full_mbp, "symbol"),
            ("/market/trade", self._last_trade, "symbol"),
            ("/market/history/trade", self._trades, "symbol size"),
            ("/market/detail/merged", self._merged, "symbol"),
            ("/market/detail", self._detail, "symbol"),
            ("/market/tickers", self._tickers, ""),
        ):
            spot(path, _of(Family.SPOT, handler), accepts, Envelope.SPOT_MARKET)
        for family, prefix, key in (
            (Family.LINEAR, "/linear-swap-ex/market", "contract_code"),
            (Family.COIN_SWAP, "/swap-ex/market", "contract_code"),
            (Family.COIN_FUTURES, "/market", "symbol"),
        ):
            for path, handler, accepts in (
                ("depth", self._depth, "type"),
                ("trade", self._last_trade, "business_type"),
                ("history/trade", self._trades, "size"),
                ("detail/merged", self._merged, ""),
                ("bbo", self._bbo, "business_type"),
            ):
                routes[DERIVATIVES, "GET", f"{prefix}/{path}"] = Endpoint(
                    _of(family, handler), Envelope.DERIVATIVES, Counter.CONTRACT_MARKET, names(f"{key} {accepts}")
                )
            for version in ("", "/v2"):
                routes[DERIVATIVES, "GET", f"{version}{prefix}/detail/batch_merged"] = Endpoint(
                    _of(family, self._batch_merged),
                    Envelope.DERIVATIVES,
                    Counter.CONTRACT_MARKET,
                    names(f"{key} business_type"),
                )
        return {**routes, **self._contract_routes()}

    def _contract_routes(self) -> Routes:
        routes: dict[tuple[str, str, str], Endpoint] = {}

        def public(path: str, handler: Any, accepts: str = "", envelope: Envelope = Envelope.DERIVATIVES) -> None:
            routes[DERIVATIVES, "GET", path] = Endpoint(handler, envelope, Counter.CONTRACT_PUBLIC, names(accepts))

        public("/v5/market/funding_rate", self._linear_funding, "contract_code", Envelope.V5)
        public("/v5/market/open_interest", self._open_interest, "contract_code", Envelope.V5)
        for family, path in (
            (Family.LINEAR, "/linear-swap-api/v1/swap_open_interest"),
            (Family.COIN_SWAP, "/swap-api/v1/swap_open_interest"),
            (Family.COIN_FUTURES, "/api/v1/contract_open_interest"),
        ):
            public(path, _of(family, self._open_interests), "contract_code symbol contract_type business_type pair")
        public("/swap-api/v1/swap_funding_rate", self._coin_funding, "contract_code")
        public("/linear-swap-api/v1/swap_index", self._index, "contract_code")
        return routes

    # --- market data ---

    def _listing(self, family: Family, params: Params) -> Listing:
        key = "symbol" if family in (Family.SPOT, Family.COIN_FUTURES) else "contract_code"
        native = params.text(key)
        if native is None:
            raise missing(params.envelope, key)
        listing = self._catalogue.find(family, native)
        if listing is None:
            if family is Family.SPOT:
                raise Refusal("invalid-parameter", "invalid symbol")
            raise Refusal(1013, "This contract symbol doesnt exist.")
        return listing

    def _depth(self, family: Family, call: Call) -> Any:
        listing = self._listing(family, call.params)
        kind = call.params.required("type")
        allowed = ("step0", "step1", "step2", "step3", "step4", "step5")
        step = 0
        if family is Family.SPOT:
            step = allowed.index(call.params.one_of("type", allowed))
            levels = call.params.integer("depth", 20 if step else 150)
            if levels not in (5, 10, 20, 150):
                raise wrong(call.params.envelope, "depth")
        elif kind in ("step0", "step6"):
            levels = 150 if kind == "step0" else 20
        else:
            raise wrong(call.params.envelope, "type", "the sandbox merges no contract levels")
        topic = f"market.{call.params.required('symbol' if 'symbol' in call.params.values else 'contract_code')}"
        topic += f".depth.{kind}"
        tick = depth_tick(listing, self._engine, levels or 150, step, call.now_ms, topic=topic)
        return self._ticked(topic, msgspec.Raw(tick.encode()), call.now_ms)

    def _full_mbp(self, family: Family, call: Call) -> Any:
        listing = self._listing(family, call.params)
        tick = depth_tick(listing, self._engine, 5000, 0, call.now_ms, topic="")
        return self._ticked(f"market.{listing.native}.depth.full", msgspec.Raw(tick.encode()), call.now_ms)

    @staticmethod
    def _ticked(channel: str, tick: Any, now_ms: int) -> Whole:
        return Whole({"ch": channel, "status": "ok", "ts": now_ms, "tick": tick})

    def _trades(self, family: Family, call: Call) -> Any:
        listing = self._listing(family, call.params)
        size = call.params.integer("size", 1) or 0
        if not 1 <= size <= 2000:
            raise wrong(call.params.envelope, "size")
        rows = [
            tape.trade_tick(listing, group, texts=family is not Family.SPOT)
            for group in tape.recent(self._engine, listing, size)
        ]
        if family is Family.SPOT:
            for row in rows:
                for trade in row["data"]:
                    trade["trade-id"] = trade.pop("tradeId")
        channel = f"market.{listing.native}.trade.detail"
        return Whole({"ch": channel, "status": "ok", "ts": call.now_ms, "data": rows})

    def _last_trade(self, family: Family, call: Call) -> Any:
        listing = self._listing(family, call.params)
        groups = tape.recent(self._engine, listing, 1)
        tick = tape.trade_tick(listing, groups[0], texts=family is not Family.SPOT) if groups else None
        return self._ticked(f"market.{listing.native}.trade.detail", tick, call.now_ms)

    def _tick_of(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        return tape.detail_tick(listing, self._days.of(listing.symbol), self._engine, now_ms)

    def _detail(self, family: Family, call: Call) -> Any:
        listing = self._listing(family, call.params)
        return self._ticked(f"market.{listing.native}.detail", self._tick_of(listing, call.now_ms), call.now_ms)

    def _merged(self, family: Family, call: Call) -> Any:
        listing = self._listing(family, call.params)
        tick = self._tick_of(listing, call.now_ms)
        if family is Family.SPOT:
            _, bids, asks = self._engine.depth(listing.symbol, 1)
            for name, best in (("ask", asks), ("bid", bids)):
                tick[name] = [double(best[0].price), double(best[0].quantity)] if best else None
        return self._ticked(f"market.{listing.native}.detail.merged", tick, call.now_ms)

    def _tickers(self, family: Family, call: Call) -> Any:
        rows = []
        for listing in self._catalogue.all(family):
            _, bids, asks = self._engine.depth(listing.symbol, 1)
            row = self._tick_of(listing, call.now_ms) | {"symbol": listing.native}
            for name in ("id", "version"):
                row.pop(name)
            for name, best in (("bid", bids), ("ask", asks)):
                row[name] = double(best[0].price) if best else 0
                row[f"{name}Size"] = double(best[0].quantity) if best else 0
            rows.append(row)
        return Whole({"status": "ok", "ts": call.now_ms, "data": rows})

    def _chosen(self, family: Family, call: Call) -> list[Listing]:
        key = "symbol" if family is Family.COIN_FUTURES else "contract_code"
        if call.params.text(key) is not None:
            return [self._listing(family, call.params)]
        return self._catalogue.all(family)

    def _bbo(self, family: Family, call: Call) -> Any:
        ticks = []
        for listing in self._chosen(family, call):
            change_id, bids, asks = self._engine.depth(listing.symbol, 1)
            best = {
                name: [bare(side[0].price), bare(side[0].quantity)] if side else None
                for name, side in (("bid", bids), ("ask", asks))
            }
            named = {"contract_code": listing.native, "mrid": listing.update_id(change_id), "ts": call.now_ms}
            ticks.append(named | best)
        return Whole({"status": "ok", "ticks": ticks, "ts": call.now_ms})

    def _batch_merged(self, family: Family, call: Call) -> Any:
        ticks = []
        for listing in self._chosen(family, call):
            tick = self._tick_of(listing, call.now_ms)
            tick.pop("mrid")
            tick |= {"ts": call.now_ms} | _rolling_name(listing)
            for name in ("open", "close", "low", "high", "amount", "vol", "trade_turnover"):
                if name in tick:
                    tick[name] = bytes(tick[name]).decode()
            ticks.append(tick)
        return Whole({"status": "ok", "ticks": ticks, "ts": call.now_ms})

    # --- funding and index ---

    def _linear_funding(self, call: Call) -> Any:
        settles = call.now_ms // _EIGHT_HOURS * _EIGHT_HOURS
        return [
            {
                "contract_code": listing.native,
                "funding_rate": "0.000100000000000000",
                "funding_time": str(settles),
                "next_funding_time": str(settles + _EIGHT_HOURS),
                "min_funding_rate": "-0.003750000000000000",
                "max_funding_rate": "0.003750000000000000",
            }
            for listing in self._chosen(Family.LINEAR, call)
            if listing.market.expiry is None
        ]

    def _coin_funding(self, call: Call) -> Any:
        listing = self._listing(Family.COIN_SWAP, call.params)
        return {
            "estimated_rate": None,
            "funding_rate": "0.000100000000000000",
            "contract_code": listing.native,
            "symbol": listing.base,
            "fee_asset": listing.settle,
            "funding_time": str((call.now_ms // _EIGHT_HOURS + 1) * _EIGHT_HOURS),
            "next_funding_time": None,
        }

    def _open_interest(self, call: Call) -> Any:
        listing = self._listing(Family.LINEAR, call.params)
        zero = dict.fromkeys(("amount", "volume", "value", "trade_amount", "trade_volume", "trade_turnover"), "0")
        return zero | {"contract_code": listing.native}

    def _open_interests(self, family: Family, call: Call) -> Any:
        """The sandbox does not count open contracts: all figures are 0."""
        code, base = call.params.text("contract_code"), call.params.text("symbol")
        rows: list[dict[str, Any]] = []
        for listing in self._catalogue.all(family):
            if code not in (None, listing.native) or (base or listing.base).upper() != listing.base:
                continue
            row: dict[str, Any] = dict.fromkeys(
                ("volume", "amount", "trade_amount", "trade_volume", "trade_turnover"), 0
            )
            row |= {"symbol": listing.base, "contract_code": listing.native}
            if family is not Family.COIN_SWAP:
                row["contract_type"] = listing.contract_type
            if family is Family.LINEAR:
                kind = "swap" if listing.market.expiry is None else "futures"
                row |= {"value": 0, "business_type": kind, "pair": listing.pair, "trade_partition": listing.quote}
            rows.append(row)
        return rows_of(rows, code or base)

    def _index(self, call: Call) -> Any:
        return [
            {
                "contract_code": listing.native,
                "index_price": bare(self._engine.mark_price(listing.symbol)),
                "index_ts": call.now_ms,
            }
            for listing in self._chosen(Family.LINEAR, call)
            if listing.market.expiry is None
        ]


def _of(family: Family, handler: Any) -> Any:
    return lambda call: handler(family, call)


def _rolling_name(listing: Listing) -> dict[str, str]:
    """Tickers name dated contracts by their rolling names; coin-margined ones as `symbol`."""
    if listing.family is Family.COIN_FUTURES:
        return {"symbol": Catalogue.alias(listing)}
    dated = listing.market.expiry is not None
    return {"contract_code": Catalogue.alias(listing) if dated else listing.native}
