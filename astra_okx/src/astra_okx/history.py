"""Public data over REST: book snapshots, and the trades that a stream missed (docs-v5, "Get order book", "Get trades
history")."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.models.protocols import Clock
from astra.models.trades import Side, Trade
from astra.rest import Params
from astra.streams.feed import BookSeed, Channel, Units
from astra_okx.rest import Answer, OkxRest

logger = logging.getLogger(__name__)

DEPTH = 400
"""Levels a side: the most that books have, by REST and in streams."""
PAGE = 100
MAX_PAGES = 50
"""A gap of more trades than these pages hold is not filled."""

NativeLevel = tuple[float, float, str, str]
"""Price, size, "0", number of orders."""


class Snapshot(msgspec.Struct, rename={"last": "seqId", "time": "ts"}):
    """`GET market/books`."""

    asks: list[NativeLevel]
    bids: list[NativeLevel]
    time: int
    last: int = 0


class TradeRow(msgspec.Struct, rename={"id": "tradeId", "price": "px", "size": "sz", "time": "ts"}):
    """A trade, in history and in the `trades` stream; `side` is the taker's."""

    id: str
    price: float
    size: float
    side: str
    time: int

    def trade(self, symbol: str, units: Units | None, received: int) -> Trade:
        quantity = self.size if units is None else units.quantity(self.size, self.price)
        return Trade(symbol, self.price, quantity, Side(self.side.upper()), self.time, self.id, received)


decode_snapshots = msgspec.json.Decoder(Answer[list[Snapshot]], strict=False).decode
_decode_trades = msgspec.json.Decoder(Answer[list[TradeRow]], strict=False).decode


def levels_of(levels: Sequence[NativeLevel], units: Units | None) -> list[tuple[float, float]]:
    """Levels in base units."""
    found = [(level[0], level[1]) for level in levels]
    return found if units is None else units.levels(found)


class History:
    """The history source of the streams (`HistorySource`), and single snapshots."""

    def __init__(self, rest: OkxRest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock

    async def book_seed(self, channel: Channel) -> BookSeed:
        assert channel.market is not None
        return await self._snapshot(channel.market, DEPTH)

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side, 400 at most."""
        seed = await self._snapshot(market, min(max(depth, 1), DEPTH))
        return Orderbook(
            market=market.symbol,
            update_id=seed.last,
            bids=seed.bids,
            asks=seed.asks,
            time=seed.time,
            received=self._clock.wall_ns(),
        )

    async def _snapshot(self, market: Market, depth: int) -> BookSeed:
        params: Params = [("instId", market.native_symbol), ("sz", depth)]
        answer = await self._rest.public(decode_snapshots, "market/books", params, cost="books")
        snapshot, units = answer.data[0], Units.of(market)
        # The stream's book is cut off at the same depth: what is beyond it is in neither.
        return BookSeed(
            last=snapshot.last,
            bids=levels_of(snapshot.bids, units),
            asks=levels_of(snapshot.asks, units),
            time=snapshot.time,
            complete=depth == DEPTH,
        )

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`, page by page, newest first at the venue. (The stream joins the matches of one taker
        order; history has them singly: quantities agree, rows may be more.)"""
        assert channel.market is not None
        units, last = Units.of(channel.market), int(after_id)
        found: list[Trade] = []
        older_than: str | None = None
        for _ in range(MAX_PAGES):
            params: Params = [("instId", channel.native_symbol), ("after", older_than), ("limit", PAGE)]
            answer = await self._rest.public(_decode_trades, "market/history-trades", params, cost="trades")
            fresh = [row for row in answer.data if int(row.id) > last]
            found += [row.trade(market, units, self._clock.wall_ns()) for row in fresh]
            if len(fresh) < PAGE:
                return found[::-1]
            older_than = fresh[-1].id
        logger.warning("%s: more than %d trades were missed: the gap stays", market, MAX_PAGES * PAGE)
        return None
