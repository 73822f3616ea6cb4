"""Public data over REST: single book snapshots, and the trades that a stream missed."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence

import msgspec

from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.models.protocols import Clock
from astra.models.trades import Side, Trade
from astra.rest import Params
from astra.streams.feed import BookSeed, Channel, Units
from astra_coinbase.markets import epoch_ms, known_ms
from astra_coinbase.rest import AdvancedRest, InternationalRest, Result
from astra_coinbase.settings import INTERNATIONAL

logger = logging.getLogger(__name__)

PAGE = 1000
MAX_PAGES = 10
"""A gap of more trades than these pages hold is not filled."""
DEPTHS = (1, 5, 10, 20, 50, 100, 1000, 10000)
"""What the gateway's books may be asked for."""


_TAKERS: Mapping[str, Side] = {"BUY": Side.SELL, "SELL": Side.BUY}
"""The maker's side, as Advanced Trade prints it -> the taker's."""


class PriceSize(msgspec.Struct, gc=False):
    price: float
    size: float


class PriceBook(msgspec.Struct):
    bids: list[PriceSize]
    asks: list[PriceSize]
    time: datetime.datetime | None = None


class BookAnswer(msgspec.Struct):
    """`GET /market/product_book`."""

    pricebook: PriceBook


class AdvancedTrade(msgspec.Struct, gc=False):
    """A trade of Advanced Trade, in history and streams; `side` is the maker's."""

    product_id: str
    trade_id: str
    price: float
    size: float
    time: datetime.datetime
    side: str

    def trade(self, symbol: str, units: Units | None, received: int) -> Trade:
        quantity = self.size if units is None else units.quantity(self.size, self.price)
        return Trade(symbol, self.price, quantity, _TAKERS.get(self.side), epoch_ms(self.time), self.trade_id, received)


class TradesAnswer(msgspec.Struct):
    """`GET /market/products/{id}/ticker`: newest first."""

    trades: list[AdvancedTrade]


class GatewayTrade(msgspec.Struct):
    """A trade of the gateway, in history and streams; `direction` is the taker's, `amount` in base units (of inverse
    futures USD)."""

    trade_id: str
    trade_seq: int
    timestamp: int
    price: float
    amount: float
    direction: str

    def trade(self, symbol: str, units: Units | None, received: int) -> Trade:
        quantity = self.amount if units is None else units.quantity(self.amount, self.price)
        side = Side(self.direction.upper())
        return Trade(symbol, self.price, quantity, side, self.timestamp, self.trade_id, received)


class GatewayTrades(msgspec.Struct):
    trades: list[GatewayTrade]


class GatewayBook(msgspec.Struct):
    """`public/get_order_book`."""

    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    timestamp: int
    change_id: int = 0


decode_book = msgspec.json.Decoder(BookAnswer, strict=False).decode
decode_trades = msgspec.json.Decoder(TradesAnswer, strict=False).decode
decode_gateway_book = msgspec.json.Decoder(Result[GatewayBook]).decode
decode_gateway_trades = msgspec.json.Decoder(Result[GatewayTrades]).decode


def amount_units(market: Market | None) -> Units | None:
    """How the gateway's amounts become base units: they are, but for inverse futures, which count in USD."""
    return Units(1.0, True) if market is not None and market.is_inverse else None


class History:
    """The history source of the streams (`HistorySource`), and single snapshots."""

    def __init__(self, advanced: AdvancedRest, international: InternationalRest, clock: Clock) -> None:
        self._advanced = advanced
        self._international = international
        self._clock = clock

    async def book_seed(self, channel: Channel) -> BookSeed:
        """Streams begin with their own snapshots: this is for comparison."""
        assert channel.market is not None
        return await self._snapshot(channel.market, PAGE)

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side. Books of Advanced Trade have no ids: theirs is 0."""
        seed = await self._snapshot(market, max(depth, 1))
        return Orderbook(
            market=market.symbol,
            update_id=seed.last,
            bids=seed.bids[:depth],
            asks=seed.asks[:depth],
            time=seed.time,
            received=self._clock.wall_ns(),
        )

    async def _snapshot(self, market: Market, depth: int) -> BookSeed:
        if market.product == INTERNATIONAL:
            return await self._gateway_snapshot(market, depth)
        params: Params = [("product_id", market.native_symbol), ("limit", depth)]
        book = (await self._advanced.public(decode_book, "market/product_book", params)).pricebook
        units = Units.of(market)
        sides = ([(level.price, level.size) for level in side] for side in (book.bids, book.asks))
        bids, asks = (side if units is None else units.levels(side) for side in sides)
        return BookSeed(last=0, bids=bids, asks=asks, time=known_ms(book.time))

    async def _gateway_snapshot(self, market: Market, depth: int) -> BookSeed:
        wanted = next((known for known in DEPTHS if known >= depth), DEPTHS[-1])
        params: Params = [("instrument_name", market.native_symbol), ("depth", wanted)]
        book = (await self._international.public(decode_gateway_book, "public/get_order_book", params)).result
        units = amount_units(market)
        bids, asks = (side if units is None else units.levels(side) for side in (book.bids, book.asks))
        return BookSeed(last=book.change_id, bids=bids, asks=asks, time=book.timestamp)

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`, page by page, newest first at the venue."""
        assert channel.market is not None
        fetch = self._gateway_after if channel.product == INTERNATIONAL else self._advanced_after
        found = await fetch(channel.market, after_id, market)
        if found is None:
            logger.warning("%s: the trades missed do not reach back to %s: the gap stays", market, after_id)
        return found

    async def _advanced_after(self, market: Market, after_id: str, symbol: str) -> Sequence[Trade] | None:
        """Ids grow by one from trade to trade; a page ends in the midst of a second, which is asked for again."""
        path, last = f"market/products/{market.native_symbol}/ticker", int(after_id)
        units, now = Units.of(market), self._clock.wall_ns()
        found: dict[int, Trade] = {}
        end: int | None = None
        for _ in range(MAX_PAGES):
            answer = await self._advanced.public(decode_trades, path, [("limit", PAGE), ("end", end)])
            rows = {int(row.trade_id): row for row in answer.trades}
            fresh = {ident: row for ident, row in rows.items() if ident > last and ident not in found}
            found |= {ident: row.trade(symbol, units, now) for ident, row in fresh.items()}
            if any(ident <= last for ident in rows) or not rows:
                return [found[ident] for ident in sorted(found)]
            oldest = epoch_ms(rows[min(rows)].time) // 1000 + 1
            if not fresh or oldest == end:
                return None
            end = oldest
        return None

    async def _gateway_after(self, market: Market, after_id: str, symbol: str) -> Sequence[Trade] | None:
        """Ids need not be numbers that grow: the last one delivered is looked for."""
        units, now = amount_units(market), self._clock.wall_ns()
        found: list[Trade] = []
        until: int | None = None
        for _ in range(MAX_PAGES):
            params: Params = [
                ("instrument_name", market.native_symbol),
                ("end_seq", until),
                ("count", PAGE),
                ("sorting", "desc"),
            ]
            answer = await self._international.public(
                decode_gateway_trades, "public/get_last_trades_by_instrument", params
            )
            for row in sorted(answer.result.trades, key=lambda row: row.trade_seq, reverse=True):
                if row.trade_id == after_id:
                    return found[::-1]
                found.append(row.trade(symbol, units, now))
                until = row.trade_seq - 1
            if len(answer.result.trades) < PAGE:
                return None
        return None
