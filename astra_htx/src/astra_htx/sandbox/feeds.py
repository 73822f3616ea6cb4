"""The public channels: one feed a topic, whose frames are written and zipped once for all who subscribed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Protocol

from astra.sandbox import BookChange, Exchange, PublicTrade
from astra.sandbox.toolkit import plain
from astra_htx.sandbox.catalogue import Listing
from astra_htx.sandbox.tape import DayTable, by_taker, detail_tick, trade_tick
from astra_htx.sandbox.window import Levels, Window, grouped
from astra_htx.sandbox.wire import Family, double_text, zipped

QUIET_MS = 1000
"""A channel that also speaks when nothing happens does so after this time."""


class Subscriber(Protocol):
    """A connection that takes frames."""

    def deliver(self, frame: bytes) -> None: ...


class Feed:
    """A topic. Subclasses say which engine events concern it and when it sends."""

    def __init__(self, topic: str, listing: Listing) -> None:
        self.topic = topic
        self.listing = listing
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, frame: bytes) -> None:
        for subscriber in list(self.subscribers):
            subscriber.deliver(frame)

    def greeting(self, now_ms: int) -> bytes | None:
        """What a new subscriber is sent at once."""
        return None

    def book(self, change: BookChange, now_ms: int) -> None:
        """The book changed: the last event of a command."""

    def trade(self, trade: PublicTrade) -> None:
        """A trade happened."""

    def tick(self, now_ms: int) -> None:
        """Send what is due."""


def spot_levels(levels: Iterable[tuple[Decimal, Decimal]]) -> str:
    return ",".join(f"[{double_text(price)},{double_text(size)}]" for price, size in levels)


def contract_levels(levels: Iterable[tuple[Decimal, Decimal]]) -> str:
    return ",".join(f"[{plain(price)},{plain(size)}]" for price, size in levels)


class MbpFeed(Feed):
    """`market.$symbol.mbp.$levels` on `/feed`: increments, each continuing the frame before by `prevSeqNum`.

    5 and 20 levels are sent with every change of their window, with the changed side alone; 150 and 400 each 100 ms,
    with an empty array for a side that did not change, and with two after a quiet second.
    """

    def __init__(self, topic: str, listing: Listing, engine: Exchange, levels: int, lag: int) -> None:
        super().__init__(topic, listing)
        self._window = Window(engine, listing.symbol, levels)
        self._at_once = levels <= 20
        self._sequence = listing.update_id(self._window.change_id)
        self._due = 0
        self._last_sent = 0
        self._lagging: deque[str] | None = deque([self._state()], maxlen=lag + 1) if lag else None

    def _state(self) -> str:
        bids, asks = self._window.levels()
        return f'"seqNum":{self._sequence},"bids":[{spot_levels(bids)}],"asks":[{spot_levels(asks)}]'

    def snapshot(self) -> str:
        """The body of a `req`'s answer: the state after the last frame (or, in a lagging sandbox, an earlier one)."""
        return f"{{{self._lagging[0] if self._lagging else self._state()}}}"

    def book(self, change: BookChange, now_ms: int) -> None:
        self._window.apply(change)
        if self._at_once:
            self._send(now_ms, quiet=False)

    def tick(self, now_ms: int) -> None:
        if self._at_once or now_ms < self._due:
            return
        self._due = (now_ms // 100 + 1) * 100
        moved = self.listing.update_id(self._window.change_id) != self._sequence
        if moved or now_ms - self._last_sent >= QUIET_MS:
            self._send(now_ms, quiet=True)

    def _send(self, now_ms: int, *, quiet: bool) -> None:
        bids, asks = self._window.turn()
        if not (bids or asks or quiet):
            return
        before, self._sequence = self._sequence, self.listing.update_id(self._window.change_id)
        self._last_sent = now_ms
        sides = ""
        if asks or quiet:
            sides += f',"asks":[{spot_levels(asks)}]'
        if bids or quiet:
            sides += f',"bids":[{spot_levels(bids)}]'
        if self._lagging is not None:
            self._lagging.append(self._state())
        self.publish(
            zipped(
                f'{{"ch":"{self.topic}","ts":{now_ms},"tick":{{"seqNum":{self._sequence},'
                f'"prevSeqNum":{before}{sides}}}}}'
            )
        )


class HighFreqFeed(Feed):
    """`market.$code.depth.size_{20|150}.high_freq`: a snapshot first, then (`incremental`) updates or whole books.

    `version` rises by one a frame; it begins anew with the feed and says nothing across connections.
    """

    def __init__(
        self, topic: str, listing: Listing, engine: Exchange, size: int, *, incremental: bool, version: int
    ) -> None:
        super().__init__(topic, listing)
        self._window = Window(engine, listing.symbol, size)
        self._incremental = incremental
        self._version = version
        self._changed = False
        self._shown = self._window.change_id
        """The change that the window as last sent stands for."""

    def greeting(self, now_ms: int) -> bytes:
        return self._frame("snapshot", *self._window.levels(), now_ms)

    def book(self, change: BookChange, now_ms: int) -> None:
        self._window.apply(change)
        self._changed = True

    def tick(self, now_ms: int) -> None:
        if not self._changed:
            return
        self._changed = False
        bids, asks = self._window.turn()
        self._shown = self._window.change_id
        if not (bids or asks):
            return
        self._version += 1
        if self._incremental:
            self.publish(self._frame("update", bids, asks, now_ms))
        else:
            self.publish(self._frame("snapshot", *self._window.levels(), now_ms))

    def _frame(self, event: str, bids: Levels, asks: Levels, now_ms: int) -> bytes:
        """A snapshot leaves an empty side out, an update writes an empty array."""
        mrid = self.listing.update_id(self._shown)
        sides = "".join(
            f'"{name}":[{contract_levels(levels)}],'
            for name, levels in (("asks", asks), ("bids", bids))
            if levels or event == "update"
        )
        return zipped(
            f'{{"ch":"{self.topic}","tick":{{{sides}"ch":"{self.topic}","event":"{event}","id":{mrid},"mrid":{mrid},'
            f'"ts":{now_ms},"version":{self._version}}},"ts":{now_ms}}}'
        )


class DepthFeed(Feed):
    """Whole books: `depth.step*` (Spot once a second, derivatives each 100 ms on change and at least each second) and
    Spot's `mbp.refresh.*` (each 100 ms on change)."""

    def __init__(
        self, topic: str, listing: Listing, engine: Exchange, levels: int, interval_ms: int, *, step: int | None = None
    ) -> None:
        super().__init__(topic, listing)
        self._engine = engine
        self._levels = levels
        self._step = step
        self._interval_ms = interval_ms
        self._sent: int | None = None
        self._last_sent = 0
        self._due = 0

    def greeting(self, now_ms: int) -> bytes | None:
        self._sent = None
        return None

    def tick(self, now_ms: int) -> None:
        if now_ms < self._due:
            return
        self._due = (now_ms // self._interval_ms + 1) * self._interval_ms
        change_id, _, _ = self._engine.depth(self.listing.symbol, 0)
        refresh = self._step is None
        if change_id == self._sent and (refresh or now_ms - self._last_sent < QUIET_MS):
            return
        self._sent, self._last_sent = change_id, now_ms
        tick = depth_tick(self.listing, self._engine, self._levels, self._step or 0, now_ms, topic=self.topic)
        if refresh:
            _, bids, asks = self._engine.depth(self.listing.symbol, self._levels)
            written = [spot_levels((a.price, a.quantity) for a in side) for side in (bids, asks)]
            tick = f'{{"seqNum":{self.listing.update_id(change_id)},"bids":[{written[0]}],"asks":[{written[1]}]}}'
        self.publish(zipped(f'{{"ch":"{self.topic}","ts":{now_ms},"tick":{tick}}}'))


def depth_tick(listing: Listing, engine: Exchange, levels: int, step: int, now_ms: int, *, topic: str) -> str:
    """`tick` of a whole book, merged to 10^`step` ticks where `step` is not 0. A contract's empty side is null."""
    wide = 100_000 if step else levels
    change_id, bids, asks = engine.depth(listing.symbol, wide)
    sides: list[Levels]
    if step:
        unit = (listing.market.tick_size or Decimal(1)).scaleb(step)
        sides = [grouped(bids, unit, up=False, most=levels), grouped(asks, unit, up=True, most=levels)]
    else:
        sides = [[(a.price, a.quantity) for a in side] for side in (bids, asks)]
    number = listing.update_id(change_id)
    if listing.family is Family.SPOT:
        return f'{{"bids":[{spot_levels(sides[0])}],"asks":[{spot_levels(sides[1])}],"version":{number},"ts":{now_ms}}}'
    seconds = now_ms // 1000
    written = [f"[{contract_levels(levels)}]" if levels else "null" for levels in sides]
    return (
        f'{{"mrid":{number},"id":{seconds},"bids":{written[0]},"asks":{written[1]},'
        f'"ts":{now_ms},"version":{seconds},"ch":"{topic}"}}'
    )


class BboFeed(Feed):
    """`market.$symbol.bbo`: best bid and ask as they change."""

    def __init__(self, topic: str, listing: Listing, engine: Exchange) -> None:
        super().__init__(topic, listing)
        self._engine = engine
        self._top: object = None

    def greeting(self, now_ms: int) -> bytes | None:
        return self._frame(now_ms)

    def book(self, change: BookChange, now_ms: int) -> None:
        _, bids, asks = self._engine.depth(self.listing.symbol, 1)
        top = (bids[0] if bids else None, asks[0] if asks else None)
        if top != self._top:
            self._top = top
            frame = self._frame(now_ms)
            if frame is not None:
                self.publish(frame)

    def _frame(self, now_ms: int) -> bytes | None:
        change_id, bids, asks = self._engine.depth(self.listing.symbol, 1)
        if not bids or not asks:
            return None
        number, bid, ask = self.listing.update_id(change_id), bids[0], asks[0]
        if self.listing.family is Family.SPOT:
            tick = (
                f'{{"seqId":{number},"ask":{double_text(ask.price)},"askSize":{double_text(ask.quantity)},'
                f'"bid":{double_text(bid.price)},"bidSize":{double_text(bid.quantity)},"quoteTime":{now_ms},'
                f'"symbol":"{self.listing.native}"}}'
            )
        else:
            tick = (
                f'{{"mrid":{number},"id":{now_ms // 1000},"bid":[{plain(bid.price)},{plain(bid.quantity)}],'
                f'"ask":[{plain(ask.price)},{plain(ask.quantity)}],"ts":{now_ms},"version":{number},'
                f'"ch":"{self.topic}"}}'
            )
        return zipped(f'{{"ch":"{self.topic}","ts":{now_ms},"tick":{tick}}}')


class TradeFeed(Feed):
    """`market.$symbol.trade.detail`: the fills of a taker order in one frame. A subscription begins with the frame of
    the last past trade, as it was sent then."""

    def __init__(self, topic: str, listing: Listing, engine: Exchange) -> None:
        super().__init__(topic, listing)
        self._engine = engine
        self._waiting: list[PublicTrade] = []

    def greeting(self, now_ms: int) -> bytes | None:
        last = by_taker(self._engine.trades(self.listing.symbol, limit=50))
        return self._frame(last[-1], last[-1][-1].time) if last else None

    def trade(self, trade: PublicTrade) -> None:
        self._waiting.append(trade)

    def book(self, change: BookChange, now_ms: int) -> None:
        waiting, self._waiting = self._waiting, []
        for group in by_taker(waiting):
            self.publish(self._frame(group, now_ms))

    def _frame(self, group: list[PublicTrade], now_ms: int) -> bytes:
        return zipped({"ch": self.topic, "ts": now_ms, "tick": trade_tick(self.listing, group)})


class DetailFeed(Feed):
    """`market.$symbol.detail` and Spot's `.ticker`: the day's figures, once a second."""

    def __init__(self, topic: str, listing: Listing, engine: Exchange, days: DayTable) -> None:
        super().__init__(topic, listing)
        self._engine = engine
        self._days = days
        self._due = 0

    def greeting(self, now_ms: int) -> bytes:
        tick: dict[str, Any] = detail_tick(self.listing, self._days.of(self.listing.symbol), self._engine, now_ms)
        if self.topic.endswith(".ticker"):
            tick = self._ticker(tick)
        return zipped({"ch": self.topic, "ts": now_ms, "tick": tick})

    def _ticker(self, tick: dict[str, Any]) -> dict[str, Any]:
        """`.ticker` has the best prices and the last one beside the day's figures."""
        _, bids, asks = self._engine.depth(self.listing.symbol, 1)
        for name, side in (("bid", bids), ("ask", asks)):
            tick[name] = side[0].price if side else None
            tick[f"{name}Size"] = side[0].quantity if side else None
        tick["lastPrice"] = tick["close"]
        for name in ("id", "version"):
            del tick[name]
        return tick

    def tick(self, now_ms: int) -> None:
        if now_ms >= self._due:
            self._due = (now_ms // 1000 + 1) * 1000
            self.publish(self.greeting(now_ms))
