"""Public data over REST: book snapshots, and the trades that a stream missed (docs-new, "Get Part OrderBook", "Get
Trade History")."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.models.protocols import Clock
from astra.models.trades import Side, Trade
from astra.rest import Params
from astra.streams.feed import BookSeed, Channel, Units
from astra_kucoin.rest import Answer, Rest
from astra_kucoin.settings import SPOT

logger = logging.getLogger(__name__)

SEED_DEPTH: Final = 100
"""Levels a side that books are compared in: what spot tells without a key."""
_NS: Final = 1_000_000

NativeLevel = tuple[float, float]
"""Price and size: texts on spot, JSON numbers on futures."""


class Snapshot(msgspec.Struct, rename={"last": "sequence"}):
    """A book. Spot's time is in ms, that of futures (`ts`) in ns."""

    last: int
    bids: list[NativeLevel]
    asks: list[NativeLevel]
    time: int = 0
    ts: int = 0

    @property
    def time_ms(self) -> int:
        return self.time or self.ts // _NS


class TradeRow(msgspec.Struct, rename={"trade_id": "tradeId"}):
    """A trade; `side` is the taker's, times are in ns. Spot has the trade's id in `sequence`."""

    price: float
    size: float
    side: str
    sequence: int
    trade_id: str = ""
    time: int = 0
    ts: int = 0

    @property
    def id(self) -> str:
        return self.trade_id or str(self.sequence)

    def trade(self, symbol: str, units: Units | None, received: int) -> Trade:
        quantity = self.size if units is None else units.quantity(self.size, self.price)
        time = (self.time or self.ts) // _NS
        return Trade(symbol, self.price, quantity, Side(self.side.upper()), time, self.id, received)


decode_snapshot = msgspec.json.Decoder(Answer[Snapshot], strict=False).decode
decode_trades = msgspec.json.Decoder(Answer[list[TradeRow]], strict=False).decode


class History:
    """The history source of the streams (`HistorySource`), and single snapshots."""

    def __init__(self, rest: Rest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock

    async def book_seed(self, channel: Channel) -> BookSeed:
        """The best 100 levels a side. The sequence of futures is that of the streams; spot's is not known to be."""
        assert channel.market is not None
        return await self._snapshot(channel.market, SEED_DEPTH)

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side: 100 at most on spot, 1000 on futures."""
        seed = await self._snapshot(market, max(depth, 1))
        return Orderbook(
            market=market.symbol,
            update_id=seed.last,
            bids=seed.bids,
            asks=seed.asks,
            time=seed.time,
            received=self._clock.wall_ns(),
        )

    async def _snapshot(self, market: Market, depth: int) -> BookSeed:
        if market.product == SPOT:
            small = depth <= 20
            path = f"/api/v1/market/orderbook/level2_{20 if small else 100}"
            weight = 2 if small else 4
        elif depth <= 20:
            path, weight = "/api/v1/level2/depth20", 5
        else:
            # The whole book costs less than its best 100 levels.
            path, weight = "/api/v1/level2/snapshot", 3
        params: Params = [("symbol", market.native_symbol)]
        book = (await self._rest[market.product].public(decode_snapshot, path, params, weight=weight)).data
        units = Units.of(market)
        bids = sorted(book.bids, reverse=True)[:depth]
        asks = sorted(book.asks)[:depth]
        return BookSeed(
            last=book.last,
            bids=bids if units is None else units.levels(bids),
            asks=asks if units is None else units.levels(asks),
            time=book.time_ms,
        )

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`, out of the last 100 that the venue tells; None where those do not reach back so
        far."""
        assert channel.market is not None
        path = "/api/v1/market/histories" if channel.product == SPOT else "/api/v1/trade/history"
        weight = 3 if channel.product == SPOT else 5
        params: Params = [("symbol", channel.native_symbol)]
        answer = await self._rest[channel.product].public(decode_trades, path, params, weight=weight)
        rows = sorted(answer.data, key=lambda row: int(row.id))
        last = int(after_id)
        fresh = [row for row in rows if int(row.id) > last]
        if len(fresh) == len(rows) and rows:
            logger.warning("%s: more trades were missed than the venue tells: the gap stays", market)
            return None
        units, received = Units.of(channel.market), self._clock.wall_ns()
        return [row.trade(market, units, received) for row in fresh]
