"""Public REST: what can be traded, the time, the venue's state."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.markets import MarketStatus
from astra_htx.sandbox.calls import Call, Endpoint, Routes, names
from astra_htx.sandbox.catalogue import Catalogue, Listing
from astra_htx.sandbox.limits import Counter
from astra_htx.sandbox.wire import Envelope, Family, Refusal, Whole, double

SPOT, DERIVATIVES = "spot_rest", "derivatives_rest"
_EIGHT_HOURS = 8 * 3600 * 1000
_SPOT_STATES = {MarketStatus.ACTIVE: "online", MarketStatus.PENDING: "pre-online", MarketStatus.EXPIRED: "offline"}
_CONTRACT_STATES = {MarketStatus.ACTIVE: 1, MarketStatus.PENDING: 2, MarketStatus.EXPIRED: 8}
LISTED_BELOW_LOT = {"powreth": Decimal("0.1")}
"""Markets whose listed minimum is below one lot (the real minimum is the lot)."""


class MarketLists:
    """The handlers."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def routes(self) -> Routes:
        routes: dict[tuple[str, str, str], Endpoint] = {}

        def spot(path: str, handler: Any, accepts: str = "", envelope: Envelope = Envelope.SPOT) -> None:
            routes[SPOT, "GET", path] = Endpoint(handler, envelope, Counter.SPOT_MARKET, names(accepts))

        def public(path: str, handler: Any, accepts: str = "") -> None:
            routes[DERIVATIVES, "GET", path] = Endpoint(
                handler, Envelope.DERIVATIVES, Counter.CONTRACT_PUBLIC, names(accepts)
            )

        spot("/v1/common/timestamp", lambda call: call.now_ms)
        spot("/v1/common/symbols", self._spot_symbols)
        spot("/v1/settings/common/market-symbols", self._spot_market_symbols, "symbols ts")
        spot("/v2/settings/common/symbols", self._spot_display_symbols, "ts")
        spot("/v2/market-status", self._spot_status, envelope=Envelope.SPOT_V2)
        spot("/v2/reference/currencies", self._currencies, "currency authorizedUser", Envelope.SPOT_V2)
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
        return routes

    def _spot_symbols(self, call: Call) -> Any:
        return [self._spot_symbol(listing) for listing in self._catalogue.all(Family.SPOT)]

    def _spot_symbol(self, listing: Listing) -> dict[str, Any]:
        market = listing.market
        least, most = _least(listing), number_of(market.max_quantity)
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
            "min-order-value": number_of(market.min_notional),
            "limit-order-min-order-amt": least,
            "limit-order-max-order-amt": most,
            "limit-order-max-buy-amt": most,
            "limit-order-max-sell-amt": most,
            "sell-market-min-order-amt": _least(listing),
            "sell-market-max-order-amt": number_of(market.market_max_quantity),
            "buy-market-max-order-value": number_of(market.market_max_quantity),
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
        least, most = _least(listing), number_of(market.max_quantity)
        at_market = number_of(market.market_max_quantity)
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
            "minov": number_of(market.min_notional),
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
        return rows_of(rows, code)

    def _coin_swap_info(self, call: Call) -> Any:
        code = call.params.text("contract_code")
        rows = []
        for listing in self._catalogue.all(Family.COIN_SWAP):
            if code in (None, listing.native):
                row = self._contract_row(listing, call.now_ms)
                row.pop("delivery_date")
                rows.append(row)
        return rows_of(rows, code)

    def _coin_futures_info(self, call: Call) -> Any:
        code, base = call.params.text("contract_code"), call.params.text("symbol")
        rows = []
        for listing in self._catalogue.all(Family.COIN_FUTURES):
            if code in (None, listing.native) and base in (None, listing.base):
                row = self._contract_row(listing, call.now_ms) | {"contract_type": listing.contract_type}
                row["settlement_time"] = row.pop("settlement_date")
                rows.append(row)
        return rows_of(rows, code or base)

    def _contract_row(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        expiry = listing.market.expiry
        return {
            "symbol": listing.base,
            "contract_code": listing.native,
            "contract_size": double(listing.size),
            "price_tick": number_of(listing.market.tick_size),
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
        return rows_of(rows, code)


def number_of(value: Decimal | None) -> Any:
    """JSON numbers as the listings have them: `1.0E-6`, `0.1`, `5`."""
    if value is None:
        return None
    return int(value) if value == int(value) else double(value)


def _least(listing: Listing) -> Any:
    return number_of(LISTED_BELOW_LOT.get(listing.native, listing.market.min_quantity))


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


def rows_of(rows: list[dict[str, Any]], asked: str | None) -> list[dict[str, Any]]:
    if asked is not None and not rows:
        raise Refusal(1014, "This contract doesnt exist.")
    return rows
