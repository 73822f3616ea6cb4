"""Public data over REST: book snapshots, and the trades that a stream missed."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence

import msgspec

from astra.models.markets import Market
from astra.models.orderbook import Level, Orderbook
from astra.models.protocols import Clock
from astra.models.trades import Side, Trade
from astra.rest import Params, Value
from astra.streams.feed import BookSeed, Channel, Units
from astra_kraken.feed.derivatives import OFF_BOOK
from astra_kraken.feed.spot import milliseconds
from astra_kraken.markets import TOKENIZED, SpotPairs
from astra_kraken.rest import Rest
from astra_kraken.settings import SPOT

logger = logging.getLogger(__name__)

MAX_LEVELS = 500
PAGE = 1000
MAX_PAGES = 20
"""A gap of more trades than these pages hold is not filled: it would eat the requests of half a minute."""
DERIVATIVES_PAGE = 100


class _SpotBook(msgspec.Struct):
    """Levels are price, quantity, seconds of the last change."""

    bids: list[tuple[float, float, float]]
    asks: list[tuple[float, float, float]]


class _SpotTrades(msgspec.Struct):
    """Trades, oldest first, under the pair's key; `last` is where the next page begins."""

    rows: list[tuple[float, float, float, str, str, str, int]]
    last: str


class DerivativesBook(msgspec.Struct, rename="camel"):
    bids: list[Level]
    asks: list[Level]


class DerivativesBookAnswer(msgspec.Struct, rename="camel"):
    order_book: DerivativesBook
    server_time: datetime.datetime | None = None


class TradeRow(msgspec.Struct):
    """A row of `history`. Its `trade_id` counts within the answer: `uid` is what the stream has, too."""

    time: datetime.datetime
    price: float
    size: float
    side: str
    uid: str
    type: str = "fill"


class HistoryAnswer(msgspec.Struct):
    history: list[TradeRow]


_decode_spot_book = msgspec.json.Decoder(dict[str, _SpotBook], strict=False).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[tuple[float, float, float, str, str, str, int]], strict=False).decode
decode_derivatives_book = msgspec.json.Decoder(DerivativesBookAnswer, strict=False).decode
decode_history = msgspec.json.Decoder(HistoryAnswer, strict=False).decode


def decode_spot_book(result: bytes) -> _SpotBook:
    """The one book of a `Depth` answer: its key is the pair's REST id, whatever name was asked for."""
    for book in _decode_spot_book(result).values():
        return book
    raise msgspec.ValidationError("no book in the answer")


def decode_spot_trades(result: bytes) -> _SpotTrades:
    """The trades of a `Trades` answer, in which the pair's key is the only one beside `last`."""
    found = _decode_object(result)
    last = found.pop("last", None)
    for rows in found.values():
        return _SpotTrades(_decode_rows(rows), "" if last is None else str(msgspec.json.decode(last)))
    raise msgspec.ValidationError("no trades in the answer")


def spot_trades(
    rows: Sequence[tuple[float, float, float, str, str, str, int]], symbol: str, received: int
) -> list[Trade]:
    return [
        Trade(
            symbol, row[0], row[1], Side.BUY if row[3] == "b" else Side.SELL, int(row[2] * 1000), str(row[6]), received
        )
        for row in rows
    ]


def derivatives_trades(rows: Sequence[TradeRow], market: Market, symbol: str, received: int) -> list[Trade]:
    """History rows, newest first, as trades in base units, oldest first; as in the stream, blocks are left out."""
    units = Units.of(market)
    return [
        Trade(
            symbol,
            row.price,
            row.size if units is None else units.quantity(row.size, row.price),
            Side.BUY if row.side == "buy" else Side.SELL,
            milliseconds(row.time),
            row.uid,
            received,
        )
        for row in reversed(rows)
        if row.price and row.size and row.type not in OFF_BOOK
    ]


class History:
    """The history source of the streams (`HistorySource`), and single snapshots."""

    def __init__(self, rest: Rest, pairs: SpotPairs, clock: Clock, *, uids: bool = True) -> None:
        """`uids`: trades of derivatives come with the ids of the history (those of the Unified WebSocket do not)."""
        self._rest = rest
        self._uids = uids
        self._pairs = pairs
        self._clock = clock

    async def book_seed(self, channel: Channel) -> BookSeed:
        """A snapshot of the channel's book. No id joins it to the stream."""
        assert channel.market is not None
        return await self._snapshot(channel.market, MAX_LEVELS)

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side, or as many as the venue gives (500 on Spot). The id is made here."""
        seed = await self._snapshot(market, depth)
        received = self._clock.wall_ns()
        return Orderbook(
            market=market.symbol,
            update_id=received // 1000,
            bids=seed.bids[:depth],
            asks=seed.asks[:depth],
            time=seed.time,
            received=received,
        )

    async def _snapshot(self, market: Market, depth: int) -> BookSeed:
        if market.product != SPOT:
            answer = await self._rest.derivatives.public(
                decode_derivatives_book, "orderbook", [("symbol", market.native_symbol)]
            )
            bids, asks = answer.order_book.bids, answer.order_book.asks
            units = Units.of(market)
            if units is not None:
                bids, asks = units.levels(bids), units.levels(asks)
            time = None if answer.server_time is None else milliseconds(answer.server_time)
            return BookSeed(0, bids, asks, time, complete=True)
        levels = max(1, min(depth, MAX_LEVELS))
        params: list[tuple[str, Value]] = [*self._pair(market), ("count", levels)]
        book = await self._rest.spot.public(decode_spot_book, "Depth", params)
        return BookSeed(
            0,
            [(price, quantity) for price, quantity, _ in book.bids],
            [(price, quantity) for price, quantity, _ in book.asks],
            None,
            complete=len(book.bids) < levels and len(book.asks) < levels,
        )

    def _pair(self, market: Market) -> list[tuple[str, str]]:
        pair = self._pairs[market.native_symbol]
        return [("pair", pair.altname), *([("asset_class", TOKENIZED)] if pair.tokenized else [])]

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`: Spot's ids count a pair's trades, derivatives are joined by `uid`."""
        assert channel.market is not None
        if channel.product != SPOT and not self._uids:
            return None
        found = (
            await self._spot_after(channel.market, int(after_id), market)
            if channel.product == SPOT
            else await self._derivatives_after(channel.market, after_id, market)
        )
        if found is None:
            logger.warning("%s: the trades after %s are further back than is looked: the gap stays", market, after_id)
        return found

    async def _spot_after(self, market: Market, after: int, symbol: str) -> Sequence[Trade] | None:
        """History is asked for from a time on, and of the last trade only the id is known: first step back from the
        newest trades until a page begins at or before it, then go on page by page."""
        params: Params = self._pair(market)
        page = await self._rest.spot.public(decode_spot_trades, "Trades", params)
        asked, step_s = 1, 60.0
        while page.rows and page.rows[0][6] > after + 1 and asked < MAX_PAGES:
            step_s = max(step_s * 2, page.rows[-1][2] - page.rows[0][2])
            since = max(0, int((page.rows[0][2] - step_s) * 1e9))
            page = await self._rest.spot.public(decode_spot_trades, "Trades", [*params, ("since", str(since))])
            asked += 1
            if not since:
                break
        if page.rows and page.rows[0][6] > after + 1:
            return None
        found: list[Trade] = []
        while asked < MAX_PAGES:
            newer = [row for row in page.rows if row[6] > after]
            found += spot_trades(newer, symbol, self._clock.wall_ns())
            if len(page.rows) < PAGE:
                return found
            after = page.rows[-1][6]
            page = await self._rest.spot.public(decode_spot_trades, "Trades", [*params, ("since", page.last)])
            asked += 1
        return None

    async def _derivatives_after(self, market: Market, after: str, symbol: str) -> Sequence[Trade] | None:
        rows: list[TradeRow] = []
        known: set[str] = set()
        params: list[tuple[str, str]] = [("symbol", market.native_symbol)]
        for _ in range(MAX_PAGES):
            answer = await self._rest.derivatives.public(decode_history, "history", params)
            fresh = [row for row in answer.history if row.uid not in known]
            for place, row in enumerate(fresh):
                if row.uid == after:
                    return derivatives_trades([*rows, *fresh[:place]], market, symbol, self._clock.wall_ns())
            if not fresh:
                return None
            rows += fresh
            known.update(row.uid for row in fresh)
            oldest = fresh[-1].time.astimezone(datetime.UTC)
            params = [params[0], ("lastTime", f"{oldest:%Y-%m-%dT%H:%M:%S}.{oldest.microsecond // 1000:03d}Z")]
        return None
