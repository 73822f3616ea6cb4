"""Advanced Trade: products, books, trades and time, for everybody and (never cached) for those who log in."""

from __future__ import annotations

from typing import Any

from astra.models.markets import MarketStatus
from astra.sandbox import Exchange
from astra_coinbase.sandbox.calls import Call, Endpoint, names
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.products import ProductRows
from astra_coinbase.sandbox.wire import bad_argument, iso_ms, no_product, not_found

_PRODUCT_PARAMETERS = names(
    "limit offset product_type product_ids contract_expiry_type expiring_contract_status get_tradability_status"
    " get_all_products products_sort_order user_native_currency futures_underlying_type cursor"
)
_MOST_LEVELS = 10_000
_FOREVER_MS = 2**62


class MarketData:
    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.rows = ProductRows(engine, catalogue)

    def routes(self) -> dict[str, Endpoint]:
        book = names("product_id limit aggregation_price_increment")
        routes: dict[str, Endpoint] = {
            "GET /time": Endpoint(self._time, private=False),
            "GET /best_bid_ask": Endpoint(self._best_bid_ask, names("product_ids")),
        }
        for prefix, private in (("/market", False), ("", True)):
            for path, handler, accepted in (
                ("/products", self._products, _PRODUCT_PARAMETERS),
                ("/product_book", self._book, book),
                ("/products/{product_id}", self._product, names("get_tradability_status")),
                ("/products/{product_id}/ticker", self._ticker, names("limit start end")),
            ):
                routes[f"GET {prefix}{path}"] = Endpoint(handler, accepted, private=private, cached=not private)
        return routes

    def _time(self, call: Call) -> dict[str, Any]:
        seconds = call.now_ms // 1000
        return {"iso": iso_ms(seconds * 1000), "epochSeconds": str(seconds), "epochMillis": str(call.now_ms)}

    def find(self, product_id: str) -> Listing:
        listing = self._catalogue.product(product_id)
        if listing is None:
            raise no_product()
        return listing

    def _products(self, call: Call) -> dict[str, Any]:
        wanted, kind = call.params.all("product_ids"), call.params.text("product_type")
        if kind not in (None, "UNKNOWN_PRODUCT_TYPE", "SPOT", "FUTURE"):
            raise bad_argument("product_type is SPOT or FUTURE")
        expiry = call.params.text("contract_expiry_type")
        if expiry not in (None, "UNKNOWN_CONTRACT_EXPIRY_TYPE", "EXPIRING", "PERPETUAL"):
            raise bad_argument("contract_expiry_type is EXPIRING or PERPETUAL")
        found = [
            (name, listing)
            for name, listing in self._catalogue.products()
            if (not wanted or name in wanted)
            and kind in (None, "UNKNOWN_PRODUCT_TYPE", "SPOT" if listing.spot else "FUTURE")
            and not (expiry == "PERPETUAL" and not listing.spot)  # those in perpetual style are EXPIRING to the venue
            and listing.market.status is not MarketStatus.EXPIRED
        ]
        start = call.params.integer("offset", 0)
        limit = call.params.integer("limit", len(found)) or len(found)
        chosen = found[start : start + limit]
        rows = [self.rows.row(name, listing, call.now_ms) for name, listing in chosen]
        return {"products": rows, "num_products": len(rows), "pagination": None}

    def _product(self, call: Call) -> dict[str, Any]:
        name = call.path["product_id"]
        return self.rows.row(name, self.find(name), call.now_ms)

    def _book(self, call: Call) -> dict[str, Any]:
        name = call.params.need("product_id")
        limit = call.params.integer("limit", 250, _MOST_LEVELS) or 250
        if call.params.text("aggregation_price_increment") is not None:
            raise not_found("aggregation is not served by the sandbox")
        return self.rows.book_answer(name, self.find(name), limit, call.now_ms)

    def _best_bid_ask(self, call: Call) -> dict[str, Any]:
        wanted = call.params.all("product_ids") or [name for name, _ in self._catalogue.products()]
        return {"pricebooks": [self.rows.book(name, self.find(name), 1, call.now_ms) for name in wanted]}

    def _ticker(self, call: Call) -> dict[str, Any]:
        name = call.path["product_id"]
        limit = call.params.integer("limit", 100, 1000)
        span = call.params.integer("start", 0) * 1000, call.params.integer("end", _FOREVER_MS) * 1000
        return self.rows.trades_answer(name, self.find(name), limit, span)
