"""Books and trades of derivatives on the Unified WebSocket, the successor of the derivatives' stream (v1 ends on
2027-03-01). UNVERIFIED: written from what the documentation confirms, without a recording.

The frames are those of Spot's stream; every market request names the asset class. Contracts become base units after the
checksum was made over the wire's text, so that text is kept here. Not confirmed by the documents: with which precisions
a contract's checksum is made (taken from its steps, or as the wire has it, whichever fits).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from astra.models.trades import Trade
from astra.streams.book import TextBook
from astra.streams.feed import Channel, DataType, Frame, Units
from astra_kraken.feed.spot import BookRow, SpotSession, TradeRow, milliseconds, texts


class UnifiedSession(SpotSession):
    """Market streams of derivatives on one connection."""

    asset_class = "derivatives"

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            symbol = channel.native_symbol
            if channel.data_type is DataType.ORDERBOOK:
                self._texts.pop(symbol, None)  # what comes before the snapshot is of no use
            units = Units.of(channel.market)
            if units is not None:
                self._units[symbol] = units
        return super().subscribe(channels, now_ms)

    def _book(self, row: BookRow, snapshot: bool, received_ns: int) -> None:
        known = self._books.get(row.symbol)
        text = TextBook() if snapshot else self._texts.get(row.symbol)
        if known is None or text is None:
            return
        book, checks = known
        self._texts[row.symbol] = text
        bids, asks = text.note(texts(row.bids), texts(row.asks))
        if snapshot:
            text.load(bids, asks)
        else:
            text.apply(bids, asks)
            gone = text.truncate(self._depth)
            bids, asks = bids + gone[0], asks + gone[1]
        if row.checksum is not None and not checks.holds(text, row.checksum, snapshot=snapshot):
            del self._texts[row.symbol]
            book.broken("the book does not have the venue's checksum")
            return
        units = self._units.get(row.symbol)
        if units is not None:
            bids, asks = units.levels(bids), units.levels(asks)
        time = None if row.timestamp is None else milliseconds(row.timestamp)
        if snapshot:
            book.snapshot(0, bids, asks, time, received_ns)
        else:
            book.delta(0, 0, 0, bids, asks, time, received_ns)

    def _trade(self, row: TradeRow, market: str, received_ns: int) -> Trade:
        trade = super()._trade(row, market, received_ns)
        units = self._units.get(row.symbol)
        if units is None:
            return trade
        return msgspec.structs.replace(trade, quantity=units.quantity(trade.quantity, trade.price))
