"""The market streams: one feed a stream name, whose frames are serialised once for all who subscribed."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from astra.models.trades import Side
from astra.sandbox import Amount, BookChange, Exchange, PublicTrade
from astra.sandbox.toolkit import text_of
from astra_binance.sandbox.catalogue import Listing
from astra_binance.sandbox.tape import Aggregate
from astra_binance.sandbox.wire import Family

ZERO = Decimal(0)


class Subscriber(Protocol):
    """A connection that takes frames: bare payloads, or wrapped in `{"stream", "data"}`."""

    @property
    def combined(self) -> bool: ...

    def deliver(self, frame: str) -> None: ...


class Feed:
    """A stream by name. Subclasses say which engine events concern it and when it sends."""

    interval_ms = 0
    """Frames are held back to multiples of this; 0: sent as the event happens."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.markets: tuple[str, ...] = ()
        """Symbols of the markets whose events it hears."""
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, payload: str) -> None:
        """Send the payload (JSON text) to everybody who subscribed."""
        wrapped = f'{{"stream":"{self.name}","data":{payload}}}'
        for subscriber in list(self.subscribers):
            subscriber.deliver(wrapped if subscriber.combined else payload)

    def book(self, change: BookChange, now_ms: int) -> bool:
        """The book changed. True: there is now something to flush."""
        return False

    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        """A trade happened."""

    def aggregate(self, aggregate: Aggregate, now_ms: int) -> None:
        """An aggregate trade is complete."""

    def flush(self, now_ms: int) -> None:
        """Send what was held back."""


def _levels(listing: Listing, amounts: Iterable[tuple[Decimal, Decimal]]) -> str:
    return ",".join(f'["{listing.price(price)}","{listing.quantity(quantity)}"]' for price, quantity in amounts)


def _pairs(amounts: Iterable[Amount]) -> Iterable[tuple[Decimal, Decimal]]:
    return ((amount.price, amount.quantity) for amount in amounts)


def _kind_keys(listing: Listing) -> str:
    """The keys that tell the futures families apart since their back ends were merged."""
    if listing.family is Family.USDM:
        return f',"ps":"{listing.pair}","st":1'
    if listing.family is Family.COINM:
        return f',"ps":"{listing.pair}","st":2'
    return ""


def depth_frame(
    listing: Listing, *, first: int, last: int, before: int, bids: str, asks: str, now_ms: int, time: int
) -> str:
    """A `depthUpdate` from levels already written."""
    if listing.family is Family.SPOT:
        return (
            f'{{"e":"depthUpdate","E":{now_ms},"s":"{listing.native}",'
            f'"U":{first},"u":{last},"b":[{bids}],"a":[{asks}]}}'
        )
    return (
        f'{{"e":"depthUpdate","E":{now_ms},"T":{time},"s":"{listing.native}",'
        f'"U":{first},"u":{last},"pu":{before},"b":[{bids}],"a":[{asks}]{_kind_keys(listing)}}}'
    )


class DiffFeed(Feed):
    """`<symbol>@depth[@<interval>]`: the levels that changed within the interval, with their new totals.

    `U` and `u` are the ids of the first and last change in the frame. `pu`, the `u` of the frame before, is the id of
    the change before the first, for every change is in some frame.
    """

    def __init__(self, name: str, listing: Listing, interval_ms: int) -> None:
        super().__init__(name)
        self.listing = listing
        self.interval_ms = interval_ms
        self._clear()

    def _clear(self) -> None:
        self._first: int | None = None
        self._last = 0
        self._time = 0
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}

    def book(self, change: BookChange, now_ms: int) -> bool:
        if self._first is None:
            self._first = change.id
        self._last = change.id
        self._time = change.time
        for amount in change.bids:
            self._bids[amount.price] = amount.quantity
        for amount in change.asks:
            self._asks[amount.price] = amount.quantity
        return True

    def flush(self, now_ms: int) -> None:
        if self._first is None:
            return
        listing, ids = self.listing, self.listing.ids
        frame = depth_frame(
            listing,
            first=ids.update_id(self._first),
            last=ids.update_id(self._last),
            before=ids.update_id(self._first - 1),
            bids=_levels(listing, sorted(self._bids.items(), reverse=listing.family is Family.SPOT)),
            asks=_levels(listing, sorted(self._asks.items())),
            now_ms=now_ms,
            time=self._time,
        )
        self._clear()
        self.publish(frame)


class PartialFeed(Feed):
    """`<symbol>@depth<levels>[@<interval>]`: the best levels, whenever the book changed within the interval."""

    def __init__(self, name: str, listing: Listing, engine: Exchange, levels: int, interval_ms: int) -> None:
        super().__init__(name)
        self.listing = listing
        self.interval_ms = interval_ms
        self._engine = engine
        self._levels = levels
        self._before: int | None = None
        self._time = 0

    def book(self, change: BookChange, now_ms: int) -> bool:
        if self._before is None:
            self._before = change.id - 1
        self._time = change.time
        return True

    def flush(self, now_ms: int) -> None:
        listing, ids = self.listing, self.listing.ids
        change_id, bids, asks = self._engine.depth(listing.symbol, self._levels)
        written = _levels(listing, _pairs(bids)), _levels(listing, _pairs(asks))
        if listing.family is Family.SPOT:
            frame = f'{{"lastUpdateId":{ids.update_id(change_id)},"bids":[{written[0]}],"asks":[{written[1]}]}}'
        else:
            before = change_id - 1 if self._before is None else self._before
            frame = depth_frame(
                listing,
                first=ids.update_id(before + 1),
                last=ids.update_id(change_id),
                before=ids.update_id(before),
                bids=written[0],
                asks=written[1],
                now_ms=now_ms,
                time=self._time,
            )
        self._before = change_id
        self.publish(frame)


class BookTickerFeed(Feed):
    """`<symbol>@bookTicker`: best bid and ask as they change. `u` is in the id space of the depth streams."""

    def __init__(self, name: str, listing: Listing, engine: Exchange) -> None:
        super().__init__(name)
        self.listing = listing
        self._engine = engine
        self._top: tuple[Amount | None, Amount | None] = (None, None)

    def book(self, change: BookChange, now_ms: int) -> bool:
        change_id, bids, asks = self._engine.depth(self.listing.symbol, 1)
        top = (bids[0] if bids else None, asks[0] if asks else None)
        if top != self._top and top != (None, None):
            self._top = top
            self.publish(self._frame(change_id, top, change.time, now_ms))
        return False

    def _frame(self, change_id: int, top: tuple[Amount | None, Amount | None], time: int, now_ms: int) -> str:
        listing = self.listing
        sides = ",".join(
            f'"{price}":"{listing.price(amount.price if amount else None)}",'
            f'"{size}":"{listing.quantity(amount.quantity if amount else None)}"'
            for (price, size), amount in zip((("b", "B"), ("a", "A")), top, strict=True)
        )
        update = listing.ids.update_id(change_id)
        if listing.family is Family.SPOT:
            return f'{{"u":{update},"s":"{listing.native}",{sides}}}'
        return (
            f'{{"e":"bookTicker","u":{update},"s":"{listing.native}",{sides},'
            f'"T":{time},"E":{now_ms}{_kind_keys(listing)}}}'
        )


class TradeFeed(Feed):
    """`<symbol>@trade` and, for options, `<symbol or underlying>@optionTrade`: every single fill."""

    def __init__(self, name: str, listings: Iterable[Listing]) -> None:
        super().__init__(name)
        self.listings = {listing.symbol: listing for listing in listings}

    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        self.publish(text_of(trade_event(self.listings[trade.market], trade, now_ms)))


def trade_event(listing: Listing, trade: PublicTrade, now_ms: int) -> dict[str, object]:
    """`m`: the buyer was the maker, so the taker sold."""
    sold = trade.side is Side.SELL
    event: dict[str, object] = {"e": "trade", "E": now_ms}
    identity = {
        "s": listing.native,
        "t": listing.ids.trade_base + trade.id,
        "p": listing.price(trade.price),
        "q": listing.quantity(trade.quantity),
    }
    if listing.family is Family.SPOT:
        return event | identity | {"T": trade.time, "m": sold, "M": True}
    event |= {"T": trade.time} | identity | {"X": "MARKET"}
    return event | ({"S": trade.side.value} if listing.family is Family.OPTIONS else {}) | {"m": sold}


class AggregateFeed(Feed):
    """`<symbol>@aggTrade`."""

    def __init__(self, name: str, listing: Listing) -> None:
        super().__init__(name)
        self.listing = listing

    def aggregate(self, aggregate: Aggregate, now_ms: int) -> None:
        listing = self.listing
        event: dict[str, object] = {"e": "aggTrade", "E": now_ms, "s": listing.native}
        row = aggregate_row(listing, aggregate)
        if listing.family is Family.SPOT:
            row["M"] = True
        elif listing.family is Family.USDM:
            row |= {"nq": row["q"], "st": 1}
        else:
            row["st"] = 2
        self.publish(text_of(event | row))


def aggregate_row(listing: Listing, aggregate: Aggregate) -> dict[str, object]:
    """What REST and stream say alike of an aggregate."""
    base = listing.ids.trade_base
    return {
        "a": aggregate.id,
        "p": listing.price(aggregate.price),
        "q": listing.quantity(aggregate.quantity),
        "f": base + aggregate.first,
        "l": base + aggregate.last,
        "T": aggregate.time,
        "m": aggregate.side is Side.SELL,
    }


class MarkPriceFeed(Feed):
    """`<symbol>@markPrice[@1s]`: sent every interval, change or not."""

    def __init__(self, name: str, listing: Listing, engine: Exchange, interval_ms: int) -> None:
        super().__init__(name)
        self.listing = listing
        self.interval_ms = interval_ms
        self._engine = engine

    def flush(self, now_ms: int) -> None:
        mark = self._engine.mark_price(self.listing.symbol)
        written = f"{mark:.8f}"
        self.publish(
            text_of(
                {
                    "e": "markPriceUpdate",
                    "E": now_ms,
                    "s": self.listing.native,
                    "p": written,
                    "i": written,
                    "P": written,
                    "r": "0.00010000",
                    "ap": written,
                    "T": next_funding(now_ms),
                    "st": 1 if self.listing.family is Family.USDM else 2,
                }
            )
        )


def next_funding(now_ms: int) -> int:
    """Funding is due at 00:00, 08:00 and 16:00 UTC."""
    eight_hours = 8 * 3600 * 1000
    return (now_ms // eight_hours + 1) * eight_hours
