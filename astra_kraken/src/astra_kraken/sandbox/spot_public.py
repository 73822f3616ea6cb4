"""Spot: `/0/public`, for everybody."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.trades import Side
from astra.sandbox import Exchange, PublicTrade
from astra_kraken.sandbox.calls import Call, Endpoint, SpotRoutes, names
from astra_kraken.sandbox.catalogue import Catalogue, SpotListing, Statistics, altname_of, asset_key, asset_row
from astra_kraken.sandbox.wire import Params, SpotRefusal, at_least, rfc1123, whole_seconds

_MOST_LEVELS = 500
_MOST_TRADES = 1000
_SECONDS_BELOW = 100_000_000_000
"""A smaller `since` is in seconds, not nanoseconds."""


def listing_of(catalogue: Catalogue, params: Params, name: str = "pair") -> SpotListing:
    """The one pair a call asks for, by any of its spellings."""
    text = params.text(name)
    if text is None:
        raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
    listing = catalogue.spot_pair(text)
    if listing is None:
        raise SpotRefusal("EQuery:Unknown asset pair")
    return catalogue.now(listing)


def taker_type(trade: PublicTrade) -> str:
    """Of whom the engine's crowd is made, nobody knows: half of its takers are said to have sent limit orders."""
    return "market" if trade.taker_order_id % 2 else "limit"


class SpotPublic:
    def __init__(self, engine: Exchange, catalogue: Catalogue, statistics: Statistics) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._statistics = statistics

    def routes(self) -> SpotRoutes:
        listed = {
            "Time": (self._time, ""),
            "SystemStatus": (self._status, ""),
            "Assets": (self._assets, "asset aclass assetVersion"),
            "AssetPairs": (
                self._pairs,
                "pair info country_code aclass_base execution_venue assetVersion",
            ),
            "Depth": (self._depth, "pair count asset_class assetVersion"),
            "Trades": (self._trades, "pair since count asset_class assetVersion"),
            "Ticker": (self._ticker, "pair asset_class assetVersion"),
        }
        return {name: Endpoint(handler, names(accepts), private=False) for name, (handler, accepts) in listed.items()}

    def _time(self, call: Call) -> dict[str, Any]:
        return {"unixtime": call.now_ms // 1000, "rfc1123": rfc1123(call.now_ms)}

    def _status(self, call: Call) -> dict[str, Any]:
        return {"status": "online", "timestamp": whole_seconds(call.now_ms)}

    def _assets(self, call: Call) -> dict[str, Any]:
        modern = call.params.text("assetVersion") == "1"
        rows = {asset: asset_row(asset) for asset in self._catalogue.spot_assets()}
        wanted = call.params.texts("asset")
        if not wanted:
            aclass = call.params.text("aclass") or "currency"
            chosen = [asset for asset, row in rows.items() if row["aclass"] == aclass]
        else:
            by_name = {name: asset for asset in rows for name in (asset, altname_of(asset), asset_key(asset))}
            if any(name not in by_name for name in wanted):
                raise SpotRefusal("EQuery:Unknown asset")
            chosen = [by_name[name] for name in wanted]
        return {asset if modern else asset_key(asset): rows[asset] for asset in chosen}

    def _pairs(self, call: Call) -> dict[str, Any]:
        """Tokenised stocks are listed only when they are asked for."""
        params, modern = call.params, call.params.text("assetVersion") == "1"
        wanted = params.texts("pair")
        if wanted:
            found = [self._catalogue.spot_pair(name) for name in wanted]
            listings = [listing for listing in found if listing is not None]
            if len(listings) < len(found):
                raise SpotRefusal("EQuery:Unknown asset pair")
        else:
            tokenized = params.text("aclass_base") == "tokenized_asset"
            listings = [one for one in self._catalogue.spot.values() if one.tokenized is tokenized]
        if params.text("execution_venue") not in (None, "international"):
            listings = []
        rows = {one.symbol if modern else one.key: self._catalogue.now(one).row(modern=modern) for one in listings}
        return self._part(rows, params.text("info") or "info")

    @staticmethod
    def _part(rows: dict[str, dict[str, Any]], info: str) -> dict[str, Any]:
        parts = {
            "leverage": ("leverage_buy", "leverage_sell"),
            "fees": ("fees", "fees_maker", "fee_volume_currency"),
            "margin": ("margin_call", "margin_stop"),
        }
        if info == "info":
            return rows
        if info not in parts:
            raise SpotRefusal("EGeneral:Invalid arguments:info")
        return {key: {name: row[name] for name in parts[info]} for key, row in rows.items()}

    def _depth(self, call: Call) -> dict[str, Any]:
        listing = listing_of(self._catalogue, call.params)
        count = call.params.number("count") if "count" in call.params else Decimal(100)
        if count is None or not 1 <= count <= _MOST_LEVELS:
            raise SpotRefusal("EGeneral:Invalid arguments:count")
        _, bids, asks = self._engine.depth(listing.id, int(count))
        seconds = call.now_ms // 1000
        return {
            listing.key: {
                side: [[listing.padded_price(a.price), at_least(a.quantity, 3), seconds] for a in amounts]
                for side, amounts in (("asks", asks), ("bids", bids))
            }
        }

    def _trades(self, call: Call) -> dict[str, Any]:
        """`since` is a cursor: nanoseconds, the trades after it, oldest first. `last` is the cursor to go on from."""
        listing = listing_of(self._catalogue, call.params)
        count = call.params.number("count") if "count" in call.params else Decimal(_MOST_TRADES)
        if count is None or not 1 <= count <= _MOST_TRADES:
            raise SpotRefusal("EGeneral:Invalid arguments:count")
        since = call.params.number("since") if "since" in call.params else Decimal(-1)
        if since is None:
            raise SpotRefusal("EGeneral:Invalid arguments:since")
        if since < _SECONDS_BELOW:
            since *= 1_000_000_000
        trades = [one for one in self._engine.trades(listing.id, limit=_MOST_TRADES) if cursor_of(one) > since]
        trades = trades[: int(count)] if "since" in call.params else trades[-int(count) :]
        last = cursor_of(trades[-1]) if trades else int(max(since, Decimal(0)))
        return {listing.key: [trade_row(listing, trade) for trade in trades], "last": str(last)}

    def _ticker(self, call: Call) -> dict[str, Any]:
        wanted = call.params.texts("pair")
        found = [self._catalogue.spot_pair(name) for name in wanted] if wanted else list(self._catalogue.spot.values())
        listings = [listing for listing in found if listing is not None]
        if len(listings) < len(found):
            raise SpotRefusal("EQuery:Unknown asset pair")
        return {listing.key: self._ticker_row(listing) for listing in listings}

    def _ticker_row(self, listing: SpotListing) -> dict[str, Any]:
        _, bids, asks = self._engine.depth(listing.id, 1)
        stats = self._statistics.of(listing.id)
        price, volume = listing.padded_price, listing.volume

        def best(side: Any) -> list[str]:
            if not side:
                return [price(None), "0", "0.000"]
            return [price(side[0].price), str(int(side[0].quantity)), at_least(side[0].quantity, 3)]

        return {
            "a": best(asks),
            "b": best(bids),
            "c": [price(stats.last), volume(stats.last_quantity)],
            "v": [volume(stats.volume), volume(stats.volume)],
            "p": [price(stats.average), price(stats.average)],
            "t": [stats.count, stats.count],
            "l": [price(stats.low), price(stats.low)],
            "h": [price(stats.high), price(stats.high)],
            "o": price(stats.open),
        }


def cursor_of(trade: PublicTrade) -> int:
    """Nanoseconds that tell the trades of one millisecond apart."""
    return trade.time * 1_000_000 + trade.id % 1_000_000


def trade_row(listing: SpotListing, trade: PublicTrade) -> list[Any]:
    """Price, volume, seconds, the taker's side and type, nothing, id."""
    return [
        listing.padded_price(trade.price),
        listing.volume(trade.quantity),
        cursor_of(trade) / 1e9,
        "b" if trade.side is Side.BUY else "s",
        taker_type(trade)[0],
        "",
        trade.id,
    ]
