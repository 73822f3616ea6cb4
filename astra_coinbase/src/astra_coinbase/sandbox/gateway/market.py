"""The gateway's public methods: instruments, books, tickers, trades, time."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

from astra.models.markets import MarketStatus
from astra.sandbox import Exchange, PublicTrade
from astra.symbols import OptionType
from astra_coinbase.sandbox.calls import names
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.gateway.calls import Method, RpcCall, invalid, no_instrument, number

_FOREVER_MS = 32_503_708_800_000
_CREATED_MS = 1_786_804_445_000
KINDS = ("future", "option", "spot", "future_combo", "option_combo", "any", "combo")
_KEPT = 1000
ZERO = Decimal(0)

ROUTED_SPOT: dict[str, Any] = {
    "instrument_name": "BTC_USDC",
    "kind": "spot",
    "instrument_type": "linear",
    "instrument_id": 41_001,
    "index_id": 34_000_001,
    "base_currency": "BTC",
    "quote_currency": "USDC",
    "counter_currency": "USDC",
    "price_index": "btc_usdc",
    "creation_timestamp": _CREATED_MS,
    "expiration_timestamp": _FOREVER_MS,
    "state": "open",
    "is_active": True,
    "is_cbe_routed": True,
    "is_csr": True,
    "tick_size": 1.0,
    "tick_size_steps": [],
    "min_trade_amount": 0.0001,
    "contract_size": 0.0001,
    "lot_size": 1,
    "maker_commission": 0.0,
    "taker_commission": 0.0,
    "underlying_type": "crypto",
    "product_group": "BTC",
}
"""Listed among the instruments, traded elsewhere: the gateway routes it to the spot book of Advanced Trade."""


def kind_of(listing: Listing) -> str:
    return "option" if listing.is_option else "future"


class GatewayMarket:
    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def methods(self) -> dict[str, Method]:
        span = names("start_seq end_seq count sorting start_timestamp end_timestamp")
        trades = Method(self._trades, span | names("instrument_name"))
        return {
            "public/get_instruments": Method(self._instruments, names("currency kind expired")),
            "public/get_instrument": Method(self._instrument, names("instrument_name")),
            "public/get_order_book": Method(self._book, names("instrument_name depth")),
            "public/ticker": Method(self._ticker, names("instrument_name")),
            "public/get_last_trades_by_instrument": trades,
            "public/get_last_trades_by_instrument_and_time": trades,
            "public/get_time": Method(lambda call: call.now_ms),
            "public/get_currencies": Method(self._currencies),
            "public/status": Method(lambda call: {"locked": "false", "locked_indices": []}),
        }

    def find(self, name: str) -> Listing:
        listing = self._catalogue.instrument(name)
        if listing is None:
            raise no_instrument()
        return listing

    # --- instruments ---

    def _instruments(self, call: RpcCall) -> list[dict[str, Any]]:
        currency, kind = call.params.text("currency") or "any", call.params.choice("kind", KINDS, "any")
        rows = (
            [] if call.params.boolean("expired") else [self.row(listing) for listing in self._catalogue.instruments()]
        )
        rows = [*rows, ROUTED_SPOT] if rows else rows
        return [
            row
            for row in rows
            if kind in ("any", row["kind"])
            and currency in ("any", row.get("settlement_currency", row["counter_currency"]), row["base_currency"])
        ]

    def _instrument(self, call: RpcCall) -> dict[str, Any]:
        return self.row(self.find(call.params.need("instrument_name")))

    def row(self, listing: Listing) -> dict[str, Any]:
        """An instrument."""
        market = listing.market
        maker, taker = self._engine.fee_rates(listing.symbol)
        inverse_option = listing.is_option and listing.is_inverse
        active = market.status is MarketStatus.ACTIVE
        ident = int.from_bytes(hashlib.sha256(listing.native.encode()).digest()[:3])
        row: dict[str, Any] = {
            "instrument_name": listing.native,
            "kind": kind_of(listing),
            "instrument_type": "reversed" if listing.is_inverse else "linear",
            "instrument_id": ident,
            "index_id": 2_000_000 + ident % 100,
            "base_currency": listing.base,
            "counter_currency": listing.quote,
            "quote_currency": listing.base if inverse_option else listing.quote,
            "settlement_currency": listing.settlement,
            "base_currency_uuid": _uuid(listing.base),
            "quote_currency_uuid": _uuid(listing.base if inverse_option else listing.quote),
            "settlement_period": "perpetual" if listing.is_perpetual else "month",
            "price_index": f"{listing.base}_{listing.quote}".lower(),
            "creation_timestamp": _CREATED_MS,
            "expiration_timestamp": market.expiry or _FOREVER_MS,
            "state": "open" if active else "locked",
            "is_active": active,
            "contract_size": number(listing.size),
            "min_trade_amount": number(listing.size * (market.min_quantity or 1)),
            "lot_size": 100 if listing.size < 1 else 10,
            "tick_size": number(market.tick_size),
            "tick_size_steps": [
                {"above_price": number(band.from_price), "tick_size": number(band.tick_size)}
                for band in (market.tick_bands or ())[1:]
            ],
            "maker_commission": number(maker),
            "taker_commission": number(taker),
            "block_trade_commission": number(taker),
            "block_trade_min_trade_amount": 200000 if not listing.is_option else 250,
            "block_trade_tick_size": number(market.tick_size),
            "underlying_type": "crypto",
            "product_group": listing.base,
        }
        if listing.is_option:
            kind = "call" if market.option_type is OptionType.CALL else "put"
            return row | {"strike": number(market.strike), "option_type": kind}
        return row | {
            "future_type": row["instrument_type"],
            "max_leverage": 50,
            "max_non_default_leverage": 5.0,
            "max_liquidation_commission": 0.01,
        }

    def _currencies(self, call: RpcCall) -> list[dict[str, Any]]:
        found = sorted({listing.settlement for listing in self._catalogue.instruments()})
        return [
            {"currency": name, "currency_long": name, "coin_type": name, "min_confirmations": 1, "fee_precision": 4}
            for name in found
        ]

    # --- books and trades ---

    def _book(self, call: RpcCall) -> dict[str, Any]:
        listing = self.find(call.params.need("instrument_name"))
        depth = call.params.integer("depth", 5, 10_000)
        if depth < 1:
            raise invalid("depth", "must be positive")
        change_id, bids, asks = self._engine.depth(listing.symbol, depth)
        return self.ticker(listing, call.now_ms) | {
            "change_id": listing.update_id(change_id),
            "bids": [[number(level.price), number(listing.amount(level.quantity))] for level in bids],
            "asks": [[number(level.price), number(listing.amount(level.quantity))] for level in asks],
        }

    def _ticker(self, call: RpcCall) -> dict[str, Any]:
        return self.ticker(self.find(call.params.need("instrument_name")), call.now_ms)

    def index_price(self, listing: Listing) -> Decimal:
        """Of the underlying: the price of its own perpetual, where one is listed."""
        if not listing.is_option:
            return self._engine.mark_price(listing.symbol)
        for other in self._catalogue.instruments():
            if other.is_perpetual and other.base == listing.base:
                return self._engine.mark_price(other.symbol)
        return listing.market.strike or ZERO

    def best(self, listing: Listing) -> dict[str, float]:
        """Best prices and their amounts; 0 where a side is empty."""
        _, bids, asks = self._engine.depth(listing.symbol, 1)
        return {
            "best_ask_price": number(asks[0].price) if asks else 0.0,
            "best_bid_price": number(bids[0].price) if bids else 0.0,
            "best_ask_amount": number(listing.amount(asks[0].quantity)) if asks else 0.0,
            "best_bid_amount": number(listing.amount(bids[0].quantity)) if bids else 0.0,
        }

    def ticker(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        trades = self._engine.trades(listing.symbol, limit=_KEPT)
        mark = number(self._engine.mark_price(listing.symbol))
        prices = [trade.price for trade in trades]
        volume = sum((listing.amount(trade.quantity) for trade in trades), ZERO)
        row: dict[str, Any] = {
            "timestamp": now_ms,
            "state": "open" if listing.trading else "closed",
            "stats": {
                "high": number(max(prices)) if prices else None,
                "low": number(min(prices)) if prices else None,
                "price_change": round(float((prices[-1] / prices[0] - 1) * 100), 4) if prices else None,
                "volume": number(volume),
                "volume_usd": round(number(volume) * (1.0 if listing.is_inverse else mark), 2),
                "volume_notional": round(number(volume) * (1.0 if listing.is_inverse else mark), 4),
            },
            "index_price": number(self.index_price(listing)),
            "instrument_name": listing.native,
            "last_price": number(prices[-1]) if prices else None,
            "min_price": mark * 0.98,
            "max_price": mark * 1.02,
            "mark_price": mark,
            **self.best(listing),
            "settlement_price": mark,
            "open_interest": 1000.0,
            "estimated_delivery_price": number(self.index_price(listing)),
        }
        if listing.is_perpetual:
            row |= {"current_funding": 0.0, "funding_8h": 0.00001742, "interest_value": 0.0}
        if listing.is_option:
            greeks = dict.fromkeys(("delta", "gamma", "rho", "theta", "vega"), 0.0)
            row |= {"underlying_price": row["index_price"], "underlying_index": "index_price", "greeks": greeks}
            row |= {"mark_iv": 60.0, "bid_iv": 59.0, "ask_iv": 61.0, "interest_rate": 0.0}
        return row

    def trade_row(self, listing: Listing, trade: PublicTrade) -> dict[str, Any]:
        """A public trade; `direction` is the taker's."""
        row = {
            "trade_seq": trade.id,
            "trade_id": listing.trade_id(trade.id),
            "timestamp": trade.time,
            "tick_direction": 0,
            "price": number(trade.price),
            "mark_price": number(self._engine.mark_price(listing.symbol)),
            "instrument_name": listing.native,
            "index_price": number(self.index_price(listing)),
            "direction": trade.side.value.lower(),
            "contracts": number(trade.quantity),
            "amount": number(listing.amount(trade.quantity)),
        }
        return row | ({"iv": 60.0} if listing.is_option else {})

    def _trades(self, call: RpcCall) -> dict[str, Any]:
        params = call.params
        listing = self.find(params.need("instrument_name"))
        first, last = params.integer("start_seq", 0), params.integer("end_seq", 2**63)
        begin, end = params.integer("start_timestamp", 0), params.integer("end_timestamp", 2**63)
        count = params.integer("count", 10, 1000)
        ascending = params.choice("sorting", ("asc", "desc", "default"), "default") == "asc"
        found = [
            trade
            for trade in self._engine.trades(listing.symbol, limit=_KEPT)
            if first <= trade.id <= last and begin <= trade.time <= end
        ]
        from_first = ascending or ("start_seq" in params.values and "sorting" not in params.values)
        chosen = found[:count] if from_first else found[::-1][:count]
        rows = [self.trade_row(listing, trade) for trade in chosen]
        return {"trades": rows, "has_more": len(found) > count}


def _uuid(name: str) -> str:
    text = hashlib.sha256(name.encode()).hexdigest()
    return "-".join((text[:8], text[8:12], "5" + text[13:16], "a" + text[17:20], text[20:32]))
