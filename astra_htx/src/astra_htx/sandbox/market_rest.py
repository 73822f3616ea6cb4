"""Public REST: markets, time, status, books, trades, tickers, funding."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from astra.models.markets import MarketStatus
from astra.sandbox import Exchange
from astra_htx.sandbox import tape
from astra_htx.sandbox.calls import Call, Endpoint, Routes, names
from astra_htx.sandbox.catalogue import Catalogue, Listing
from astra_htx.sandbox.feeds import depth_tick
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.wire import Envelope, Family, Params, Refusal, Whole, bare, double, missing, wrong

SPOT, DERIVATIVES = "spot_rest", "derivatives_rest"
_EIGHT_HOURS = 8 * 3600 * 1000
_SPOT_STATES = {MarketStatus.ACTIVE: "online", MarketStatus.PENDING: "pre-online", MarketStatus.EXPIRED: "offline"}
_CONTRACT_STATES = {MarketStatus.ACTIVE: 1, MarketStatus.PENDING: 2, MarketStatus.EXPIRED: 8}
LISTED_BELOW_LOT = {"powreth": Decimal("0.1")}
"""Markets whose listed minimum is below one lot (the real minimum is the lot)."""


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

        spot("/v1/common/timestamp", lambda call: call.now_ms)
        spot("/v1/common/symbols", self._spot_symbols)
        spot("/v1/settings/common/market-symbols", self._spot_market_symbols, "symbols ts")
        spot("/v2/settings/common/symbols", self._spot_display_symbols, "ts")
        spot("/v2/market-status", self._spot_status, envelope=Envelope.SPOT_V2)
        spot("/v2/reference/currencies", self._currencies, "currency authorizedUser", Envelope.SPOT_V2)
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
            routes[DERIVATIVES, "GET", f"/v2{prefix}/detail/batch_merged"] = Endpoint(
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

        public("/api/v1/timestamp", lambda call: Whole({"status": "ok", "ts": call.now_ms}))
        public("/heartbeat/", self._heartbeat)
        public(
            "/linear-swap-api/v1/swap_contract_info",
            self._linear_info,
            "contract_code support_margin_mode pair contract_type business_type",
        )
        public("/linear-swap-api/v1/swap_query_elements", self._linear_elements, "contract_code")
        public("/swap-api/v1/swap_contract_info", self._coin_swap_info, "contract_code")
        public("/api/v1/contract_contract_info", self._coin_futures_info, "symbol contract_type contract_code")
        public("/v5/market/funding_rate", self._linear_funding, "contract_code", Envelope.V5)
        public("/v5/market/open_interest", self._open_interest, "contract_code", Envelope.V5)
        public("/swap-api/v1/swap_funding_rate", self._coin_funding, "contract_code")
        public("/linear-swap-api/v1/swap_index", self._index, "contract_code")
        return routes

    # --- markets ---

    def _spot_symbols(self, call: Call) -> Any:
        return [self._spot_symbol(listing) for listing in self._catalogue.all(Family.SPOT)]

    def _spot_symbol(self, listing: Listing) -> dict[str, Any]:
        market = listing.market
        least, most = _least(listing), _number(market.max_quantity)
        row: dict[str, Any] = {
            "base-currency": listing.base.lower(),
            "quote-currency": listing.quote.lower(),
            "price-precision": listing.price_digits,
            "amount-precision": listing.lot_digits,
            "symbol-partition": "main",
            "symbol": listing.native,
            "state": _SPOT_STATES.get(market.status, "suspend"),
            "value-precision": 8,
            "min-order-amt": least,
            "max-order-amt": most,
            "min-order-value": _number(market.min_notional),
            "limit-order-min-order-amt": least,
            "limit-order-max-order-amt": most,
            "limit-order-max-buy-amt": most,
            "limit-order-max-sell-amt": most,
            "sell-market-min-order-amt": _least(listing),
            "sell-market-max-order-amt": _number(market.market_max_quantity),
            "buy-market-max-order-value": _number(market.market_max_quantity),
            "api-trading": "enabled",
            "tags": "etp,nav,holdinglimit" if _leveraged(listing) else "",
        }
        if _leveraged(listing):
            row |= {"underlying": f"{listing.base[:-2].lower()}usdt", "mgmt-fee-rate": 0.035}
        return row

    def _spot_market_symbols(self, call: Call) -> Any:
        wanted = set(call.params.items("symbols"))
        rows = [
            self._spot_market_symbol(listing)
            for listing in self._catalogue.all(Family.SPOT)
            if not wanted or listing.native in wanted
        ]
        return Whole({"status": "ok", "data": rows, "ts": str(call.now_ms), "full": 1})

    def _spot_market_symbol(self, listing: Listing) -> dict[str, Any]:
        market = listing.market
        least, most = _least(listing), _number(market.max_quantity)
        at_market = _number(market.market_max_quantity)
        row: dict[str, Any] = {
            "symbol": listing.native,
            "state": _SPOT_STATES.get(market.status, "suspend"),
            "bc": listing.base.lower(),
            "qc": listing.quote.lower(),
            "pp": listing.price_digits,
            "ap": listing.lot_digits,
            "sp": "main",
            "vp": 8,
            "minoa": least,
            "maxoa": most,
            "minov": _number(market.min_notional),
            "lominoa": least,
            "lomaxoa": most,
            "lomaxba": most,
            "lomaxsa": most,
            "smminoa": least,
            "blmlt": 1.1,
            "slmgt": 0.9,
            "smmaxoa": at_market,
            "bmmaxov": at_market,
            "msormlt": 0.1,
            "mbormlt": 0.1,
            "maxov": 100000000,
            "at": "enabled",
            "tags": "",
        }
        if _leveraged(listing):
            row |= {"u": f"{listing.base[:-2].lower()}usdt", "tags": "etp,nav,holdinglimit", "mfr": 0.035}
        return row

    def _spot_display_symbols(self, call: Call) -> Any:
        rows = [
            {
                "tags": "",
                "state": _SPOT_STATES.get(listing.market.status, "suspend"),
                "sc": listing.native,
                "bcdn": listing.base,
                "qcdn": listing.quote,
                "tpp": listing.price_digits,
                "tap": listing.lot_digits,
                "te": listing.market.status is MarketStatus.ACTIVE,
                "sp": "main",
                "bc": listing.base.lower(),
                "qc": listing.quote.lower(),
                "ttp": 8,
                "dn": f"{listing.base}/{listing.quote}",
            }
            for listing in self._catalogue.all(Family.SPOT)
        ]
        return Whole({"status": "ok", "data": rows, "ts": str(call.now_ms), "full": 1})

    def _spot_status(self, call: Call) -> Any:
        return Whole({"code": 200, "message": "success", "data": {"marketStatus": 1}})

    def _currencies(self, call: Call) -> Any:
        found = {asset for one in self._catalogue.all(Family.SPOT) for asset in (one.base, one.quote)}
        rows = [{"currency": asset.lower(), "instStatus": "normal", "chains": []} for asset in sorted(found)]
        return Whole({"code": 200, "data": rows})

    def _heartbeat(self, call: Call) -> Any:
        kinds = ("", "swap_", "option_", "linear_swap_")
        data: dict[str, Any] = {}
        for kind in kinds:
            data |= {f"{kind}heartbeat": 1, f"{kind}estimated_recovery_time": None}
        return data

    def _linear_info(self, call: Call) -> Any:
        """Without `business_type` only perpetuals are listed."""
        wanted = call.params.one_of("business_type", ("swap", "futures", "all"), "swap")
        code = call.params.text("contract_code")
        rows = []
        for listing in self._catalogue.all(Family.LINEAR):
            kind = "swap" if listing.market.expiry is None else "futures"
            if wanted in (kind, "all") and code in (None, listing.native):
                rows.append(self._contract_row(listing, call.now_ms) | _linear_keys(listing, kind))
        return _rows_of(rows, code)

    def _coin_swap_info(self, call: Call) -> Any:
        code = call.params.text("contract_code")
        rows = []
        for listing in self._catalogue.all(Family.COIN_SWAP):
            if code in (None, listing.native):
                row = self._contract_row(listing, call.now_ms)
                row.pop("delivery_date")
                rows.append(row)
        return _rows_of(rows, code)

    def _coin_futures_info(self, call: Call) -> Any:
        code, base = call.params.text("contract_code"), call.params.text("symbol")
        rows = []
        for listing in self._catalogue.all(Family.COIN_FUTURES):
            if code in (None, listing.native) and base in (None, listing.base):
                row = self._contract_row(listing, call.now_ms) | {"contract_type": listing.contract_type}
                row["settlement_time"] = row.pop("settlement_date")
                rows.append(row)
        return _rows_of(rows, code or base)

    def _contract_row(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        expiry = listing.market.expiry
        return {
            "symbol": listing.base,
            "contract_code": listing.native,
            "contract_size": double(listing.size),
            "price_tick": _number(listing.market.tick_size),
            "delivery_date": "" if expiry is None else f"20{listing.symbol.split('-')[4]}",
            "delivery_time": "" if expiry is None else str(expiry),
            "create_date": "20201021",
            "contract_status": _CONTRACT_STATES.get(listing.market.status, 3),
            "settlement_date": str((now_ms // _EIGHT_HOURS + 1) * _EIGHT_HOURS),
        }

    def _linear_elements(self, call: Call) -> Any:
        code = call.params.text("contract_code")
        rows: list[dict[str, Any]] = []
        for listing in self._catalogue.all(Family.LINEAR):
            if listing.market.expiry is not None or code not in (None, listing.native):
                continue
            tick, size = f"{listing.market.tick_size or 0:.18f}", f"{listing.size:.18f}"
            limits = [
                {"instrument_type": kind, "open": "999999.990000000000000000", "close": "999999.990000000000000000"}
                for kind in (0, 1, 2)
            ]
            rows.append(
                {
                    "contract_code": listing.native,
                    "funding_rate_cap": "0.003750000000000000",
                    "funding_rate_floor": "-0.003750000000000000",
                    "mode_type": 2,
                    "swap_delivery_type": 3,
                    "settle_period": 8,
                    "instrument_index_code": listing.native,
                    "price_ticks": [{"business_type": kind, "price": tick} for kind in (1, 2)],
                    "instrument_values": [{"business_type": kind, "price": size} for kind in (1, 2)],
                    "min_level": "1",
                    "max_level": "200",
                    "normal_limits": limits,
                    "open_limits": limits,
                }
            )
        return _rows_of(rows, code)

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
            tick |= {"ts": call.now_ms, "symbol": listing.base, "contract_code": listing.native}
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


def _number(value: Decimal | None) -> Any:
    """JSON numbers as the listings have them: `1.0E-6`, `0.1`, `5`."""
    if value is None:
        return None
    return int(value) if value == int(value) else double(value)


def _least(listing: Listing) -> Any:
    return _number(LISTED_BELOW_LOT.get(listing.native, listing.market.min_quantity))


def _leveraged(listing: Listing) -> bool:
    return listing.base[-2:] in ("3S", "3L")


def _linear_keys(listing: Listing, kind: str) -> dict[str, Any]:
    return {
        "support_margin_mode": "all" if kind == "swap" else "cross",
        "business_type": kind,
        "pair": listing.pair,
        "contract_type": listing.contract_type,
        "trade_partition": listing.quote,
    }


def _rows_of(rows: list[dict[str, Any]], asked: str | None) -> list[dict[str, Any]]:
    if asked is not None and not rows:
        raise Refusal(1014, "This contract doesnt exist.")
    return rows
