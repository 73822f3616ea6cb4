"""Products, books and trades of Advanced Trade as REST answers print them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from astra.models.markets import MarketStatus
from astra.models.trades import Side
from astra.sandbox import Amount, Exchange, PublicTrade
from astra.sandbox.toolkit import plain
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.wire import iso_ms

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_NAMES = {"BTC": "Bitcoin", "ETH": "Ethereum", "USD": "US Dollar", "EUR": "Euro", "CGLD": "Celo"}
ZERO = Decimal(0)


def maker_side(trade: PublicTrade) -> str:
    """Advanced Trade prints the side of the maker."""
    return "BUY" if trade.side is Side.SELL else "SELL"


class ProductRows:
    """The rows of products, aliases included, and of what is asked about one of them."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def row(self, name: str, listing: Listing, now_ms: int) -> dict[str, Any]:
        """The product under one of its names."""
        market, spot = listing.market, listing.spot
        trades = self._engine.trades(listing.symbol, limit=1000)
        volume = sum((trade.quantity for trade in trades), ZERO)
        last = trades[-1].price if trades else self._engine.mark_price(listing.symbol)
        quote = listing.quote
        halted = market.status is not MarketStatus.ACTIVE
        prices = [trade.price for trade in trades] or [last]
        row: dict[str, Any] = {
            "product_id": name,
            "price": plain(last),
            "price_percentage_change_24h": plain(((last / prices[0] - 1) * 100).quantize(Decimal("1E-8"))),
            "volume_24h": plain(volume),
            "volume_percentage_change_24h": "0",
            "base_increment": plain(market.lot_size),
            "quote_increment": "0.01",
            "quote_min_size": plain(market.min_notional),
            "quote_max_size": plain(market.max_notional or Decimal(100_000_000)),
            "base_min_size": plain(market.min_quantity),
            "base_max_size": plain(market.max_quantity),
            "base_name": _NAMES.get(listing.base, listing.base) if spot else "",
            "quote_name": _NAMES.get(quote, quote),
            "watched": False,
            "is_disabled": False,
            "new": False,
            "status": "online" if spot else "",
            "cancel_only": market.status is MarketStatus.CANCEL_ONLY,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": halted and market.status is not MarketStatus.CANCEL_ONLY,
            "auction_mode": False,
            "product_type": "SPOT" if spot else "FUTURE",
            "quote_currency_id": quote,
            "base_currency_id": listing.base if spot else "",
            "fcm_trading_session_details": None if spot else _session(now_ms, is_open=not halted),
            "mid_market_price": "" if spot else plain(self._engine.mark_price(listing.symbol)),
            "alias": "" if listing.origin is listing else listing.origin.native,
            "alias_to": [listing.alias.native] if listing.alias else [],
            "base_display_symbol": listing.base if spot else "",
            "quote_display_symbol": quote if listing.origin is listing else listing.origin.quote,
            "view_only": False,
            "price_increment": plain(market.tick_size),
            "display_name": name if spot else _display_name(listing),
            "product_venue": "CBE" if spot else "FCM",
            "approximate_quote_24h_volume": plain((volume * last * listing.size).quantize(Decimal("0.01"))),
            "new_at": "2023-01-01T00:00:00Z" if spot else None,
        }
        row |= dict.fromkeys(
            ("market_cap", "base_cbrn", "quote_cbrn", "product_cbrn", "icon_color", "icon_url"), ""
        ) | {"display_name_overwrite": "", "is_alpha_testing": False, "about_description": ""}
        row |= {"best_bid_price": "", "best_ask_price": ""}
        if spot:
            return row | {
                "high_24h": plain(max(prices)),
                "low_24h": plain(min(prices)),
                "hidden_from_discovery": False,
            }
        return row | {"future_product_details": self._future_details(listing, now_ms)}

    def _future_details(self, listing: Listing, now_ms: int) -> dict[str, Any]:
        code = listing.native.partition("-")[0]
        expiry = listing.expiry
        month = iso_ms(expiry)[:7]
        mark = self._engine.mark_price(listing.symbol)
        perpetual = listing.is_perpetual
        return {
            "venue": "cde",
            "contract_code": code,
            "contract_expiry": iso_ms(expiry),
            "contract_size": plain(listing.size),
            "contract_root_unit": listing.base,
            "group_description": f"{listing.base} {'Perp ' if perpetual else ''}Futures",
            "contract_expiry_timezone": "Europe/London",
            "group_short_description": f"{listing.base}{' Perp' if perpetual else ''}",
            "risk_managed_by": "MANAGED_BY_FCM",
            "contract_expiry_type": "EXPIRING",
            "perpetual_details": {
                "open_interest": "183283",
                "funding_rate": "",
                "funding_time": None,
                "max_leverage": "",
                "base_asset_uuid": "",
                "underlying_type": "",
            },
            "contract_display_name": _display_name(listing),
            "time_to_expiry_ms": str(expiry - now_ms),
            "non_crypto": False,
            "contract_expiry_name": month,
            "twenty_four_by_seven": True,
            "funding_interval": "3600s" if perpetual else None,
            "open_interest": "183283",
            "funding_rate": "0.000013" if perpetual else "",
            "funding_time": iso_ms(now_ms // _HOUR_MS * _HOUR_MS) if perpetual else None,
            "display_name": f"{listing.base} {'Perpetual' if perpetual else f'Futures ({month})'}",
            "region_enabled": {},
            "intraday_margin_rate": {"long_margin_rate": "0.1000185", "short_margin_rate": "0.1000008"},
            "overnight_margin_rate": {"long_margin_rate": "0.245625", "short_margin_rate": "0.306375"},
            "settlement_price": plain(mark),
            "futures_asset_type": "FUTURES_ASSET_TYPE_CRYPTO",
            "index_price": plain(mark) if perpetual else "",
            "contract_code_display_name": "",
            "product_group_cbrn": "",
        }

    def book(self, name: str, listing: Listing, limit: int, now_ms: int) -> dict[str, Any]:
        """`pricebook`: the best levels of both sides."""
        _, bids, asks = self._engine.depth(listing.symbol, limit)
        return {"product_id": name, "bids": _levels(bids), "asks": _levels(asks), "time": iso_ms(now_ms)}

    def book_answer(self, name: str, listing: Listing, limit: int, now_ms: int) -> dict[str, Any]:
        """The book with what the venue works out of it."""
        book = self.book(name, listing, limit, now_ms)
        if not book["bids"] or not book["asks"]:
            return {"pricebook": book, "last": "", "mid_market": "", "spread_bps": "", "spread_absolute": ""}
        bid, ask = Decimal(book["bids"][0]["price"]), Decimal(book["asks"][0]["price"])
        middle = (bid + ask) / 2
        return {
            "pricebook": book,
            "last": plain(middle),
            "mid_market": plain(middle),
            "spread_bps": plain(((ask - bid) / middle * 10_000).quantize(Decimal("1E-12"))),
            "spread_absolute": plain(ask - bid),
        }

    def trades_answer(self, name: str, listing: Listing, limit: int, span_ms: tuple[int, int]) -> dict[str, Any]:
        """Trades, newest first, with the best prices."""
        _, bids, asks = self._engine.depth(listing.symbol, 1)
        trades = [
            trade
            for trade in reversed(self._engine.trades(listing.symbol, limit=1000))
            if span_ms[0] <= trade.time < span_ms[1]
        ]
        more = {"bid": "", "ask": "", "exchange": "coinbase"}
        return {
            "trades": [trade_row(name, listing, trade) | more for trade in trades[:limit]],
            "best_bid": plain(bids[0].price) if bids else "",
            "best_ask": plain(asks[0].price) if asks else "",
        }


def trade_row(name: str, listing: Listing, trade: PublicTrade) -> dict[str, Any]:
    """A trade as stream and REST print it alike."""
    return {
        "product_id": name,
        "trade_id": listing.trade_id(trade.id),
        "price": plain(trade.price),
        "size": plain(trade.quantity),
        "time": iso_ms(trade.time),
        "side": maker_side(trade),
    }


def _levels(amounts: tuple[Amount, ...] | Any) -> list[dict[str, str]]:
    return [{"price": plain(level.price), "size": plain(level.quantity)} for level in amounts]


def _display_name(listing: Listing) -> str:
    if listing.is_perpetual:
        return f"{listing.base} PERP"
    moment = datetime.datetime.fromtimestamp(listing.expiry / 1000, datetime.UTC)
    return f"{listing.base} {moment.day} {moment:%b %y}".upper()


def _session(now_ms: int, *, is_open: bool) -> dict[str, Any]:
    opened = now_ms // _DAY_MS * _DAY_MS
    return {
        "is_session_open": is_open,
        "open_time": iso_ms(opened),
        "close_time": iso_ms(opened + _DAY_MS),
        "session_state": f"FCM_TRADING_SESSION_STATE_{'OPEN' if is_open else 'CLOSED'}",
        "after_hours_order_entry_disabled": False,
        "closed_reason": "FCM_TRADING_SESSION_CLOSED_REASON_EXCHANGE_MAINTENANCE",
        "maintenance": {
            "start_time": iso_ms(opened + 5 * _DAY_MS + 14 * _HOUR_MS),
            "end_time": iso_ms(opened + 5 * _DAY_MS + 17 * _HOUR_MS),
        },
    }
