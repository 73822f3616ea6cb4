"""The market streams: one feed a topic and market, whose frames are serialised once for all who subscribed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from astra.sandbox import Amount, Exchange, PublicTrade
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.catalogue import Catalogue, Change, Listing
from astra_kucoin.sandbox.market_rest import pairs
from astra_kucoin.sandbox.wire import SPOT, double, whole

_WINDOW = 500
"""Levels a side that a unified incremental book holds."""
ZERO = Decimal(0)


class Subscriber(Protocol):
    def deliver(self, frame: bytes) -> None: ...


class Feed:
    """A stream of one market. Subclasses say which events concern it and when it sends."""

    interval_ms = 0
    """Frames are held back to multiples of this; 0: sent as the event happens."""

    def __init__(self, topic: str, listing: Listing, engine: Exchange, catalogue: Catalogue) -> None:
        self.topic = topic
        self.listing = listing
        self.engine = engine
        self.catalogue = catalogue
        self.subscribers: dict[Subscriber, None] = {}

    def publish(self, frame: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(frame)
        for subscriber in list(self.subscribers):
            subscriber.deliver(encoded)

    def join(self, subscriber: Subscriber, now_ms: int) -> None:
        self.subscribers[subscriber] = None

    def book(self, change: Change, now_ms: int) -> bool:
        """The book changed. True: there is now something to flush."""
        return False

    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        """A trade happened."""

    def flush(self, now_ms: int) -> None:
        """Send what was held back."""

    @property
    def restless(self) -> bool:
        """Is it to be flushed at each of its intervals, whether or not anything happened?"""
        return False

    def leave(self, subscriber: Subscriber) -> None:
        self.subscribers.pop(subscriber, None)

    def depth(self, levels: int) -> tuple[Sequence[Amount], Sequence[Amount]]:
        _, bids, asks = self.engine.depth(self.listing.symbol, levels)
        return bids, asks


# --- classic ---


def message(topic: str, subject: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"topic": topic, "type": "message", "subject": subject, **more, "data": data}


class SpotLevel2(Feed):
    """Every change, the whole book. Most frames hold one level; some span a whole change, its levels unsorted."""

    def book(self, change: Change, now_ms: int) -> bool:
        if change.first % 2:
            self._send(change.levels[::-1], change)
        else:
            for level in change.levels:
                self._send((level,), change)
        return False

    def _send(self, levels: Sequence[tuple[str, Decimal, Decimal, int]], change: Change) -> None:
        changes: dict[str, list[list[str]]] = {"asks": [], "bids": []}
        for side, price, total, sequence in levels:
            changes[side].append([plain(price), plain(total), str(sequence)])
        numbers = [level[3] for level in levels]
        data = {
            "changes": changes,
            "sequenceEnd": max(numbers),
            "sequenceStart": min(numbers),
            "symbol": self.listing.native,
            "time": change.time,
        }
        self.publish(message(self.topic, "trade.l2update", data))


class FuturesLevel2(Feed):
    """Every change, one level a frame."""

    def book(self, change: Change, now_ms: int) -> bool:
        for side, price, total, sequence in change.levels:
            text = f"{plain(price)},{'buy' if side == 'bids' else 'sell'},{plain(total)}"
            data = {"sequence": sequence, "change": text, "timestamp": change.time}
            self.publish(message(self.topic, "level2", data, sn=sequence))
        return False


class ClassicDepth(Feed):
    """The best levels every 100 ms in which the book changed."""

    interval_ms = 100

    def __init__(self, topic: str, listing: Listing, engine: Exchange, catalogue: Catalogue, levels: int) -> None:
        super().__init__(topic, listing, engine, catalogue)
        self._levels = levels

    def book(self, change: Change, now_ms: int) -> bool:
        return True

    def flush(self, now_ms: int) -> None:
        bids, asks = self.depth(self._levels)
        if self.listing.product == SPOT:
            data: dict[str, Any] = {"asks": pairs(asks), "bids": pairs(bids), "timestamp": now_ms}
            self.publish(message(self.topic, "level2", data))
            return
        lots = [[[plain(amount.price), whole(amount.quantity)] for amount in side] for side in (bids, asks)]
        data = {
            "bids": lots[0],
            "sequence": self.listing.sequences.last,
            "timestamp": now_ms,
            "ts": now_ms,
            "asks": lots[1],
        }
        self.publish(message(self.topic, "level2", data, sn=now_ms))


class ClassicLevel1(Feed):
    """The best bid and ask of a spot market, as one flat pair each."""

    interval_ms = 10

    def book(self, change: Change, now_ms: int) -> bool:
        return True

    def flush(self, now_ms: int) -> None:
        bids, asks = self.depth(1)
        data = {
            "asks": pairs(asks)[0] if asks else [],
            "bids": pairs(bids)[0] if bids else [],
            "timestamp": now_ms,
        }
        self.publish(message(self.topic, "level1", data))


class SpotMatch(Feed):
    """One frame a fill; time is nanoseconds in a string."""

    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        trade_id, name = str(self.listing.trade_id(trade.id)), self.catalogue.public_order_id
        data = {
            "makerOrderId": name(trade.maker_order_id, SPOT, trade.time),
            "price": plain(trade.price),
            "sequence": trade_id,
            "side": trade.side.lower(),
            "size": plain(trade.quantity),
            "symbol": self.listing.native,
            "takerOrderId": name(trade.taker_order_id, SPOT, trade.time),
            "time": str(trade.time * 1_000_000),
            "tradeId": trade_id,
            "type": "match",
        }
        self.publish(message(self.topic, "trade.l3match", data))


class FuturesMatch(Feed):
    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        trade_id, product = self.listing.trade_id(trade.id), self.listing.product
        data = {
            "symbol": self.listing.native,
            "sequence": trade_id,
            "side": trade.side.lower(),
            "size": whole(trade.quantity),
            "price": plain(trade.price),
            "takerOrderId": self.catalogue.public_order_id(trade.taker_order_id, product, trade.time),
            "makerOrderId": self.catalogue.public_order_id(trade.maker_order_id, product, trade.time),
            "tradeId": str(trade_id),
            "ts": trade.time * 1_000_000,
        }
        self.publish(message(self.topic, "match", data, sn=trade_id))


class ClassicTicker(Feed):
    """Spot every 100 ms, `tickerV2` of futures with the change. The sequence is the book's."""

    def __init__(self, topic: str, listing: Listing, engine: Exchange, catalogue: Catalogue) -> None:
        super().__init__(topic, listing, engine, catalogue)
        self.interval_ms = 100 if listing.product == SPOT else 0
        self._last: tuple[Any, ...] = ()

    def book(self, change: Change, now_ms: int) -> bool:
        if self.interval_ms:
            return True
        self.flush(now_ms)
        return False

    def flush(self, now_ms: int) -> None:
        bids, asks = self.depth(1)
        if (tuple(bids), tuple(asks)) == self._last or not bids or not asks:
            return
        self._last = (tuple(bids), tuple(asks))
        bid, ask, sequence = bids[0], asks[0], self.listing.sequences.last
        if self.listing.product == SPOT:
            trades = self.engine.trades(self.listing.symbol, limit=1)
            data: dict[str, Any] = {
                "bestAsk": plain(ask.price),
                "bestAskSize": plain(ask.quantity),
                "bestBid": plain(bid.price),
                "bestBidSize": plain(bid.quantity),
                "price": plain(trades[-1].price if trades else ZERO),
                "sequence": str(sequence),
                "size": plain(trades[-1].quantity if trades else ZERO),
                "time": now_ms,
            }
            self.publish(message(self.topic, "trade.ticker", data))
            return
        data = {
            "symbol": self.listing.native,
            "sequence": sequence,
            "bestBidSize": whole(bid.quantity),
            "bestBidPrice": plain(bid.price),
            "bestAskPrice": plain(ask.price),
            "bestAskSize": whole(ask.quantity),
            "ts": now_ms * 1_000_000,
        }
        self.publish(message(self.topic, "tickerV2", data, sn=sequence))


class Instrument(Feed):
    """The mark price of a contract, every second."""

    interval_ms = 1000

    @property
    def restless(self) -> bool:
        return True

    def flush(self, now_ms: int) -> None:
        mark = double(self.engine.mark_price(self.listing.symbol))
        data = {"markPrice": mark, "indexPrice": mark, "granularity": 1000, "timestamp": now_ms // 1000 * 1000}
        self.publish(message(self.topic, "mark.index.price", data))


# --- unified ---


class UnifiedFeed(Feed):
    def push(self, now_ms: int, data: dict[str, Any], **more: Any) -> None:
        self.publish(self.frame(now_ms, data, **more))

    def frame(self, now_ms: int, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"T": self.topic, **more, "P": now_ms * 1_000_000 + 869_446, "d": data}


class UnifiedTrade(UnifiedFeed):
    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        trade_id = self.listing.trade_id(trade.id)
        data: dict[str, Any] = {
            "E": trade_id,
            "M": trade.time * 1_000_000,
            "S": trade.side.lower() if trade.id % 2 else trade.side.value,  # its case varies
            "p": plain(trade.price),
            "q": plain(trade.quantity),
            "s": self.listing.native,
            "ti": str(trade_id),
        }
        if self.listing.product != SPOT:
            data["rpi"] = False
        self.push(now_ms, data)


class UnifiedTicker(UnifiedFeed):
    """Sent on a trade."""

    def trade(self, trade: PublicTrade, now_ms: int) -> None:
        bids, asks = self.depth(1)
        spot = self.listing.product == SPOT
        data = {
            "A": plain(asks[0].quantity) if asks else "0",
            "B": plain(bids[0].quantity) if bids else "0",
            "E": self.listing.sequences.last if spot else self.listing.trade_id(trade.id),
            "M": trade.time * 1_000_000,
            "S": trade.side.value if spot else trade.side.lower(),
            "a": plain(asks[0].price) if asks else "0",
            "b": plain(bids[0].price) if bids else "0",
            "l": plain(trade.price),
            "q": plain(trade.quantity),
            "s": self.listing.native,
        }
        self.push(now_ms, data)


class UnifiedDepth(UnifiedFeed):
    """The best 5 or 50 levels each 100 ms, even if nothing changed; or the best one with each change."""

    def __init__(self, topic: str, listing: Listing, engine: Exchange, catalogue: Catalogue, levels: int) -> None:
        super().__init__(topic, listing, engine, catalogue)
        self._levels = levels
        self.interval_ms = 0 if levels == 1 else 100
        self._last: tuple[Any, ...] = ()

    @property
    def restless(self) -> bool:
        return self._levels > 1

    def book(self, change: Change, now_ms: int) -> bool:
        if self._levels == 1:
            best = tuple(tuple(side) for side in self.depth(1))
            if best != self._last:
                self._last = best
                self.flush(now_ms)
        return False

    def flush(self, now_ms: int) -> None:
        bids, asks = self.depth(self._levels)
        last = self.listing.sequences.last
        data = {
            "C": last,
            "M": now_ms * 1_000_000,
            "O": last,
            "a": pairs(asks),
            "b": pairs(bids),
            "s": self.listing.native,
        }
        self.push(now_ms, data, dp=str(self._levels), t="snapshot")


class UnifiedRaw(UnifiedFeed):
    """`increment`: every change as it happens, the whole book, no snapshot."""

    def book(self, change: Change, now_ms: int) -> bool:
        sides: dict[str, list[list[str]]] = {"asks": [], "bids": []}
        for side, price, total, _ in change.levels:
            if price:
                sides[side].append([plain(price), plain(total)])
        data = {
            "C": change.last,
            "M": change.time * 1_000_000,
            "O": change.first,
            "a": sides["asks"],
            "b": sides["bids"],
            "s": self.listing.native,
        }
        self.push(now_ms, data, dp="increment", t="delta")
        return False


class UnifiedIncrement(UnifiedFeed):
    """`increment@10ms`: a snapshot a while after the acknowledgement, then the levels that changed, always within the
    best 500 a side. A level that falls out of those is sent as 0, and one that comes in with its total.

    Deltas reach a new subscriber before its snapshot does: it has to drop them.
    """

    interval_ms = 10

    def __init__(self, topic: str, listing: Listing, engine: Exchange, catalogue: Catalogue, delay_ms: int) -> None:
        super().__init__(topic, listing, engine, catalogue)
        self._delay_ms = delay_ms
        self._waiting: dict[Subscriber, int] = {}
        self._next = listing.sequences.last + 1
        self._changed: dict[str, dict[Decimal, Decimal]] = {"bids": {}, "asks": {}}
        self._shown = self._best()
        self._cut = self._is_cut()

    def _best(self) -> dict[str, dict[Decimal, Decimal]]:
        bids, asks = self.depth(_WINDOW)
        return {
            "bids": {amount.price: amount.quantity for amount in bids},
            "asks": {amount.price: amount.quantity for amount in asks},
        }

    def _is_cut(self) -> bool:
        """There may be levels beyond the window."""
        return any(len(side) >= _WINDOW for side in self._shown.values())

    def join(self, subscriber: Subscriber, now_ms: int) -> None:
        super().join(subscriber, now_ms)
        self._waiting[subscriber] = now_ms + self._delay_ms

    def leave(self, subscriber: Subscriber) -> None:
        super().leave(subscriber)
        self._waiting.pop(subscriber, None)

    def book(self, change: Change, now_ms: int) -> bool:
        for side, price, total, _ in change.levels:
            if price:
                self._changed[side][price] = total
        return True

    def _differences(self) -> dict[str, dict[Decimal, Decimal]]:
        """What subscribers have to be told; their books as they are then are remembered."""
        changed, self._changed = self._changed, {"bids": {}, "asks": {}}
        if self._cut:
            told = {}
            before, self._shown = self._shown, self._best()
            for side, now in self._shown.items():
                told[side] = {price: ZERO for price in before[side] if price not in now}
                told[side] |= {price: total for price, total in now.items() if before[side].get(price) != total}
            self._cut = self._is_cut()
            return told
        for side, levels in changed.items():
            for price, total in levels.items():
                if total:
                    self._shown[side][price] = total
                else:
                    self._shown[side].pop(price, None)
        if any(len(side) > _WINDOW for side in self._shown.values()):
            best = self._best()
            for side, shown in self._shown.items():
                changed[side] |= {price: ZERO for price in shown if price not in best[side]}
            self._shown = best
        self._cut = self._is_cut()
        return changed

    def flush(self, now_ms: int) -> None:
        last = self.listing.sequences.last
        if last >= self._next:
            told = self._differences()
            data = {
                "a": [[plain(price), plain(total)] for price, total in told["asks"].items()],
                "b": [[plain(price), plain(total)] for price, total in told["bids"].items()],
                "C": last,
                "s": self.listing.native,
                "M": now_ms * 1_000_000,
                "O": self._next,
            }
            self._next = last + 1
            self.push(now_ms, data, dp="increment@10ms", t="delta")
        for subscriber, due in list(self._waiting.items()):
            if now_ms >= due:
                del self._waiting[subscriber]
                subscriber.deliver(msgspec.json.encode(self._snapshot(now_ms)))

    def _snapshot(self, now_ms: int) -> dict[str, Any]:
        last = self._next - 1
        data = {
            "a": [[plain(price), plain(total)] for price, total in sorted(self._shown["asks"].items())],
            "b": [[plain(price), plain(total)] for price, total in sorted(self._shown["bids"].items(), reverse=True)],
            "C": last,
            "s": self.listing.native,
            "M": now_ms * 1_000_000,
            "O": last,
        }
        return self.frame(now_ms, data, dp="increment@10ms", t="snapshot")

    @property
    def restless(self) -> bool:
        return bool(self._waiting)
