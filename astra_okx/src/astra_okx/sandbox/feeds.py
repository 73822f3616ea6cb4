"""The market channels: one feed a channel and instrument, whose frames are written once for all who subscribed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from astra.sandbox import Amount, BookChange, Exchange, PublicTrade
from astra.sandbox.toolkit import plain, text_of
from astra_okx.sandbox.catalogue import Catalogue, Listing
from astra_okx.sandbox.limits import SandboxLimits

ZERO = Decimal(0)
BOOK_DEPTH = 400


class Subscriber(Protocol):
    """A connection that takes frames."""

    def deliver(self, frame: str) -> None: ...


class Feed:
    """A channel with its argument. Subclasses say which events concern it and when it sends."""

    interval_ms = 0
    """Frames are held back to multiples of this; 0: sent as the event happens."""
    rank = 9
    """Feeds that are due together send in this order."""

    def __init__(self, arg: Mapping[str, str]) -> None:
        self.arg = text_of(arg)
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, data: str, *, action: str | None = None) -> None:
        frame = self.frame(data, action=action)
        for subscriber in list(self.subscribers):
            subscriber.deliver(frame)

    def frame(self, data: str, *, action: str | None = None) -> str:
        """A push: `data` is the JSON of its one element."""
        acted = "" if action is None else f'"action":"{action}",'
        return f'{{"arg":{self.arg},{acted}"data":[{data}]}}'

    def joined(self, subscriber: Subscriber, now_ms: int) -> None:
        """Somebody subscribed, and was told so: send what he begins with. Before, the feed was flushed: he begins
        where the others are."""

    def book(self, change: BookChange) -> bool:
        """The book changed. True: there is now something to flush."""
        return False

    def trade(self, trade: PublicTrade) -> None:
        """A trade happened."""

    def flush(self, now_ms: int) -> None:
        """Send what was held back."""

    def beat(self, now_ms: int) -> None:
        """Called every few ticks: what is due by the clock."""


def level(price: Decimal, quantity: Decimal, *, rpi: bool = False) -> str:
    """A level; the venue's number of orders is not known here: 1 (0 where nothing is left)."""
    size = plain(quantity)
    count = "0" if size == "0" else "1"
    return f'["{plain(price)}","{size}","{size if rpi else "0"}","{count}"]'


def levels(amounts: Iterable[Amount], *, rpi: bool = False) -> str:
    return ",".join([level(amount.price, amount.quantity, rpi=rpi) for amount in amounts])


class BookFeed(Feed):
    """`books` and its kin: a snapshot, then what changed, chained by `prevSeqId`.

    A level that falls out of the depth is deleted, one that rises into it is sent. What came and went between two
    frames is deleted without ever having been sent. A book at rest sends an empty frame now and then, whose two ids
    are equal. After maintenance (`Numbering.reset`) the next frame still names the old id before it, and a smaller one
    as its own.
    """

    def __init__(
        self,
        arg: Mapping[str, str],
        listing: Listing,
        engine: Exchange,
        *,
        limits: SandboxLimits,
        depth: int = BOOK_DEPTH,
        interval_ms: int = 100,
        rank: int = 3,
        rpi: bool = False,
    ) -> None:
        super().__init__(arg)
        self.interval_ms = interval_ms
        self.rank = rank
        self._listing = listing
        self._engine = engine
        self._depth = depth
        self._rpi = rpi
        self._limits = limits
        self._sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
        self._changed: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
        self._whole = False
        self._last_seq = -1
        self._change_id = self._time = self._sent_ms = 0

    def joined(self, subscriber: Subscriber, now_ms: int) -> None:
        change_id, bids, asks = self._engine.depth(self._listing.symbol, self._depth)
        if len(self.subscribers) == 1 or self._last_seq < 0:
            self._take_view(change_id, bids, asks)
            self._sent_ms = now_ms
        if not self._limits.snapshots:
            return
        data = (
            f'{{"asks":[{levels(asks, rpi=self._rpi)}],"bids":[{levels(bids, rpi=self._rpi)}],'
            f'"ts":"{now_ms}","checksum":0,"seqId":{self._last_seq},"prevSeqId":-1}}'
        )
        subscriber.deliver(self.frame(data, action="snapshot"))

    def _take_view(self, change_id: int, bids: Iterable[Amount], asks: Iterable[Amount]) -> None:
        self._sides = ({a.price: a.quantity for a in bids}, {a.price: a.quantity for a in asks})
        self._changed = ({}, {})
        self._whole = all(len(side) < self._depth for side in self._sides)
        self._last_seq = self._listing.numbering.seq_id(change_id)

    def book(self, change: BookChange) -> bool:
        for changed, amounts in zip(self._changed, (change.bids, change.asks), strict=True):
            for amount in amounts:
                changed[amount.price] = amount.quantity
        self._change_id, self._time = change.id, change.time
        return True

    def flush(self, now_ms: int) -> None:
        if not any(self._changed):
            return
        changed, before = self._changed, self._last_seq
        if self._whole:
            for side, news in zip(self._sides, changed, strict=True):
                for price, quantity in news.items():
                    if quantity:
                        side[price] = quantity
                    else:
                        side.pop(price, None)
            self._changed = ({}, {})
            self._whole = all(len(side) <= self._depth for side in self._sides)
        if not self._whole:
            changed = self._against_depth(changed)
        self._last_seq = self._listing.numbering.seq_id(self._change_id)
        self._send(changed, before, self._time, now_ms)

    def _against_depth(
        self, changed: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]
    ) -> tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]:
        """What leads from the last view to the book's best levels now, deletions of unseen levels included."""
        old = self._sides
        for side, news in zip(old, changed, strict=True):  # a whole view has taken the news in already
            for price in news:
                side.setdefault(price, ZERO)
        change_id, bids, asks = self._engine.depth(self._listing.symbol, self._depth)
        self._change_id = change_id
        self._take_view(change_id, bids, asks)
        result: list[dict[Decimal, Decimal]] = []
        for side, new, news in zip(old, self._sides, changed, strict=True):
            differs = {
                price: new.get(price, ZERO)
                for price, quantity in side.items()
                if new.get(price, ZERO) != quantity or price in news
            }
            differs |= {price: quantity for price, quantity in new.items() if price not in side}
            result.append(differs)
        return result[0], result[1]

    def _send(
        self, changed: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]], before: int, time: int, now_ms: int
    ) -> None:
        bids, asks = changed
        written_bids = ",".join([level(*pair, rpi=self._rpi) for pair in sorted(bids.items(), reverse=True)])
        written_asks = ",".join([level(*pair, rpi=self._rpi) for pair in sorted(asks.items())])
        self._sent_ms = now_ms
        self.publish(
            f'{{"asks":[{written_asks}],"bids":[{written_bids}],"ts":"{time}","checksum":0,'
            f'"seqId":{self._last_seq},"prevSeqId":{before}}}',
            action="update",
        )

    def beat(self, now_ms: int) -> None:
        if self.subscribers and now_ms - self._sent_ms >= self._limits.keep_alive_ms:
            self.flush(now_ms)
            if now_ms - self._sent_ms >= self._limits.keep_alive_ms:
                self._send(({}, {}), self._last_seq, now_ms, now_ms)


class TopFeed(Feed):
    """`bbo-tbt` and `books5`: the best levels whole, whenever they changed."""

    def __init__(
        self, arg: Mapping[str, str], listing: Listing, engine: Exchange, *, depth: int, interval_ms: int, rank: int
    ) -> None:
        super().__init__(arg)
        self.interval_ms = interval_ms
        self.rank = rank
        self._listing = listing
        self._engine = engine
        self._depth = depth
        self._named = f'"instId":"{listing.native}",' if depth > 1 else ""
        self._shown = ""
        self._time = 0

    def _levels(self) -> tuple[int, str]:
        change_id, bids, asks = self._engine.depth(self._listing.symbol, self._depth)
        return change_id, f'"asks":[{levels(asks)}],"bids":[{levels(bids)}]'

    def _data(self, change_id: int, shown: str, time: int) -> str:
        seq = self._listing.numbering.seq_id(change_id)
        return f'{{{shown},{self._named}"ts":"{time}","seqId":{seq}}}'

    def joined(self, subscriber: Subscriber, now_ms: int) -> None:
        change_id, shown = self._levels()
        subscriber.deliver(self.frame(self._data(change_id, shown, now_ms)))

    def book(self, change: BookChange) -> bool:
        self._time = change.time
        if self.interval_ms == 0:
            self.flush(change.time)
        return self.interval_ms > 0

    def flush(self, now_ms: int) -> None:
        change_id, shown = self._levels()
        if shown != self._shown:
            self._shown = shown
            self.publish(self._data(change_id, shown, self._time))


class TickerFeed(Feed):
    """`tickers`: at most every 100 ms, when the top of the book or the last trade changed."""

    interval_ms = 100

    def __init__(
        self, arg: Mapping[str, str], listing: Listing, row: Callable[[Listing, int], Mapping[str, Any]]
    ) -> None:
        super().__init__(arg)
        self._listing = listing
        self._row = row
        self._shown: Mapping[str, Any] = {}

    def joined(self, subscriber: Subscriber, now_ms: int) -> None:
        subscriber.deliver(self.frame(text_of(self._row(self._listing, now_ms))))

    def book(self, change: BookChange) -> bool:
        return True

    def flush(self, now_ms: int) -> None:
        row = self._row(self._listing, now_ms)
        if {**row, "ts": ""} != {**self._shown, "ts": ""}:
            self._shown = row
            self.publish(text_of(row))


class TradeFeed(Feed):
    """`trades`: the fills of one taker at one price, as one trade with the number of makers and the last id."""

    def __init__(self, arg: Mapping[str, str], listing: Listing) -> None:
        super().__init__(arg)
        self._listing = listing
        self._run: list[PublicTrade] = []
        self._waiting: list[tuple[PublicTrade, Decimal, int]] = []

    def trade(self, trade: PublicTrade) -> None:
        last = self._run[-1] if self._run else None
        if last is not None and (last.taker_order_id, last.price) != (trade.taker_order_id, trade.price):
            self._close_run()
        self._run.append(trade)

    def _close_run(self) -> None:
        if self._run:
            self._waiting.append((self._run[-1], sum((t.quantity for t in self._run), ZERO), len(self._run)))
            self._run = []

    def book(self, change: BookChange) -> bool:
        """The change that the trades made ends them, and gives them its number."""
        self._close_run()
        waiting, self._waiting = self._waiting, []
        seq = self._listing.numbering.seq_id(change.id)
        for trade, quantity, count in waiting:
            self.publish(
                f'{{"instId":"{self._listing.native}","tradeId":"{trade.id}","px":"{plain(trade.price)}",'
                f'"sz":"{plain(quantity)}","side":"{trade.side.lower()}","ts":"{trade.time}",'
                f'"count":"{count}","source":"0","seqId":{seq}}}'
            )
        return False


class SingleTradeFeed(Feed):
    """`trades-all`: every match."""

    def trade(self, trade: PublicTrade) -> None:
        native = self.native
        self.publish(
            f'{{"instId":"{native}","tradeId":"{trade.id}","px":"{plain(trade.price)}","sz":"{plain(trade.quantity)}",'
            f'"side":"{trade.side.lower()}","source":"0","ts":"{trade.time}"}}'
        )

    def __init__(self, arg: Mapping[str, str], listing: Listing) -> None:
        super().__init__(arg)
        self.native = listing.native


class TimedFeed(Feed):
    """A row of an instrument that is sent at subscription and then every `every_ms`, when it differs."""

    def __init__(
        self,
        arg: Mapping[str, str],
        listing: Listing,
        row: Callable[[Listing, int], Mapping[str, Any]],
        every_ms: int,
    ) -> None:
        super().__init__(arg)
        self._listing = listing
        self._row = row
        self._every_ms = every_ms
        self._turn = 0
        self._shown: Mapping[str, Any] = {}

    def joined(self, subscriber: Subscriber, now_ms: int) -> None:
        row = self._row(self._listing, now_ms)
        if len(self.subscribers) == 1:
            self._shown = row
        subscriber.deliver(self.frame(text_of(row)))

    def beat(self, now_ms: int) -> None:
        if now_ms // self._every_ms == self._turn:
            return
        self._turn = now_ms // self._every_ms
        row = self._row(self._listing, now_ms)
        if {**row, "ts": ""} != {**self._shown, "ts": ""}:
            self._shown = row
            self.publish(text_of(row))


def ticker_row(engine: Exchange, catalogue: Catalogue, listing: Listing, now_ms: int) -> dict[str, str]:
    """A ticker, as REST and stream show it alike."""
    _, bids, asks = engine.depth(listing.symbol, 1)
    traded = catalogue.traded(listing)
    return {
        "instType": listing.type.value,
        "instId": listing.native,
        "last": plain(traded.last),
        "lastSz": plain(traded.last_size),
        "askPx": plain(asks[0].price) if asks else "",
        "askSz": plain(asks[0].quantity) if asks else "",
        "bidPx": plain(bids[0].price) if bids else "",
        "bidSz": plain(bids[0].quantity) if bids else "",
        "open24h": plain(traded.open),
        "high24h": plain(traded.high),
        "low24h": plain(traded.low),
        "sodUtc0": plain(traded.open),
        "sodUtc8": plain(traded.open),
        "volCcy24h": plain(round(traded.coin_volume, 8)),
        "vol24h": plain(traded.volume),
        "ts": str(now_ms),
    }
