"""Public data over REST: book snapshots, and the trades that a stream missed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from astra.models.markets import Market
from astra.models.orderbook import Level, Orderbook
from astra.models.protocols import Clock
from astra.models.trades import Side, Trade
from astra.streams.feed import BookSeed, Channel, Units
from astra_binance.rest import Rest
from astra_binance.settings import OPTIONS, SPOT, BinanceSettings

logger = logging.getLogger(__name__)

PAGE = 1000
MAX_PAGES = 40
"""A gap of more trades than these pages hold is not filled: it would eat the request weight of minutes."""


class Snapshot(msgspec.Struct, rename={"last": "lastUpdateId", "sent": "E", "time": "T", "option_last": "u"}):
    """`GET depth`. Spot has no time; options wrote the id as `u` before 2026."""

    bids: list[Level]
    asks: list[Level]
    last: int = 0
    option_last: int = 0
    sent: int | None = None
    time: int | None = None


class SpotTradeRow(msgspec.Struct, rename={"quantity": "qty", "buyer_is_maker": "isBuyerMaker"}):
    """A row of `historicalTrades`: a single fill, with the ids of the `trade` stream."""

    id: int
    price: float
    quantity: float
    time: int
    buyer_is_maker: bool


class AggregatedRow(
    msgspec.Struct, rename={"id": "a", "price": "p", "quantity": "q", "time": "T", "buyer_is_maker": "m"}
):
    """A row of `aggTrades`, with the ids of the `aggTrade` stream."""

    id: int
    price: float
    quantity: float
    time: int
    buyer_is_maker: bool


decode_snapshot = msgspec.json.Decoder(Snapshot, strict=False).decode
_decode_spot_trades = msgspec.json.Decoder(list[SpotTradeRow], strict=False).decode
_decode_aggregated = msgspec.json.Decoder(list[AggregatedRow], strict=False).decode


def seed_of(snapshot: Snapshot, market: Market, depth: int) -> BookSeed:
    """A `depth` answer in base units. It is the whole book when both sides have fewer levels than were asked for."""
    bids, asks = snapshot.bids, snapshot.asks
    complete = len(bids) < depth and len(asks) < depth
    units = Units.of(market)
    if units is not None:
        bids, asks = units.levels(bids), units.levels(asks)
    last = snapshot.last or snapshot.option_last
    return BookSeed(last=last, bids=bids, asks=asks, time=snapshot.time or snapshot.sent, complete=complete)


def trades_of(rows: Sequence[SpotTradeRow | AggregatedRow], market: Market, symbol: str, received: int) -> list[Trade]:
    """History rows as trades in base units; prints of nothing are left out, as in the streams."""
    units = Units.of(market)
    trades = []
    for row in rows:
        if not row.price or not row.quantity:
            continue
        quantity = row.quantity if units is None else units.quantity(row.quantity, row.price)
        side = Side.SELL if row.buyer_is_maker else Side.BUY
        trades.append(Trade(symbol, row.price, quantity, side, row.time, str(row.id), received))
    return trades


class History:
    """The history source of the streams (`HistorySource`), and single snapshots."""

    def __init__(self, rest: Rest, settings: BinanceSettings, clock: Clock) -> None:
        self._rest = rest
        self._settings = settings
        self._clock = clock

    async def book_seed(self, channel: Channel) -> BookSeed:
        assert channel.market is not None
        return await self._snapshot(channel.market, self._settings.book_depth(channel.product), seed=True)

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side, or as many as the venue gives."""
        seed = await self._snapshot(market, depth, seed=False)
        return Orderbook(
            market=market.symbol,
            update_id=seed.last,
            bids=seed.bids[:depth],
            asks=seed.asks[:depth],
            time=seed.time,
            received=self._clock.wall_ns(),
        )

    async def _snapshot(self, market: Market, depth: int, *, seed: bool) -> BookSeed:
        family = self._rest[market.product]
        steps = family.family.depth_weights
        levels, weight = next((step for step in steps if step[0] >= depth), steps[-1])
        params: list[tuple[str, Any]] = [("symbol", market.native_symbol), ("limit", levels)]
        snapshot = await family.public(decode_snapshot, "depth", params, weight=weight, background=seed)
        return seed_of(snapshot, market, levels)

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`. Spot by single trade, futures by aggregated trade, as their streams have them;
        options have no history with ids."""
        if channel.product == OPTIONS:
            return None
        assert channel.market is not None
        spot = channel.product == SPOT
        family = self._rest[channel.product]
        found: list[Trade] = []
        next_id = int(after_id) + 1
        for _ in range(MAX_PAGES):
            params: list[tuple[str, Any]] = [
                ("symbol", channel.native_symbol),
                ("fromId", next_id),
                ("limit", PAGE),
            ]
            rows: Sequence[SpotTradeRow | AggregatedRow]
            if spot:
                rows = await family.public(_decode_spot_trades, "historicalTrades", params, weight=25, background=True)
            else:
                rows = await family.public(_decode_aggregated, "aggTrades", params, weight=20, background=True)
            found += trades_of(rows, channel.market, market, self._clock.wall_ns())
            if len(rows) < PAGE:
                return found
            next_id = rows[-1].id + 1
        logger.warning("%s: more than %d trades were missed: the gap stays", market, MAX_PAGES * PAGE)
        return None
