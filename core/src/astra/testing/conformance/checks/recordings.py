"""8xx: recorded frames through the venue's feed, without sockets. One finding for each recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from astra.errors import VenueError
from astra.models.orderbook import BookState, Integrity, OrderbookUpdate, UpdateKind
from astra.models.trades import Trade
from astra.streams.feed import BookRules, Channel, DataType, Feed
from astra.streams.sync import QUIET_S, BookSync
from astra.testing.conformance.catalogue import (
    Finding,
    Level,
    Mismatch,
    NotApplicable,
    Outcome,
    check,
    close,
    expect,
    expect_equal,
    fail,
)
from astra.testing.conformance.segments import compare_side
from astra.testing.conformance.subjects import Recording, Subject

MUST = Level.MUST
NOW_MS = 1_700_000_000_000


class Replay:
    """One connection, played from a recording: the session's outlet and the book's engine in one."""

    def __init__(self, feed: Feed, recording: Recording) -> None:
        self.recording = recording
        market = recording.market
        self.channel = Channel(recording.data_type, market.product, market)
        self.market = market.symbol
        self.rules: BookRules | None = None
        self.sync: BookSync | None = None
        self.updates: list[OrderbookUpdate] = []
        self.collected: list[Trade] = []
        self.refusals: list[str] = []
        self.doubts: list[tuple[int, str]] = []
        """(index of the frame, why) of everything that made the book doubtful."""
        self.published: list[int] = []
        """Indexes of the frames that led to an UPDATE."""
        self._at = -1
        if recording.data_type is DataType.ORDERBOOK:
            self.rules = feed.book_rules(self.channel)
            self.sync = BookSync(market.symbol, self.rules, self, self._publish)
        endpoint = feed.endpoint(self.channel)
        self.session = feed.session(endpoint, self, None)

    def play(self, *, without: int | None = None) -> Replay:
        """Feed all frames, but for one."""
        recording = self.recording
        list(self.session.opened(NOW_MS))
        list(self.session.subscribe([self.channel], NOW_MS))
        if self.sync is not None:
            self.sync.opened()
            self.sync.acknowledged()
        for index, frame in enumerate(recording.frames):
            self._at = index
            if index == recording.seed_at:
                self._seed()
            if index != without:
                self.session.received(frame, (NOW_MS + index) * 1_000_000)
        if recording.seed_at >= len(recording.frames):
            self._seed()
        if self.sync is not None:
            self.sync.tick(0.0)
            self.sync.tick(QUIET_S + 0.1)  # a snapshot that no change followed counts now
        return self

    def _seed(self) -> None:
        if self.sync is not None and self.recording.seed is not None:
            self.sync.seed(self.recording.seed, NOW_MS * 1_000_000, 0.0)

    def _publish(self, update: OrderbookUpdate) -> None:
        self.updates.append(update)
        if update.kind is UpdateKind.STALE:
            self.doubts.append((self._at, update.reason or "STALE"))
        elif update.kind is UpdateKind.UPDATE:
            self.published.append(self._at)

    # -- the connection's side of the session ---------------------------------------------------------------------

    def send(self, frame: str | bytes, *, urgent: bool = False) -> None:
        """Nobody is there."""

    def book(self, channel: Channel) -> BookSync:
        assert self.sync is not None
        return self.sync

    def account(self, channel: Channel) -> Any:
        raise NotApplicable("recordings of private streams are not played")

    def acknowledged(self, channels: Iterable[Channel]) -> None:
        """Subscriptions are acknowledged from the start here."""

    def refused(self, channel: Channel, reason: str | VenueError, *, final: bool = True) -> None:
        self.refusals.append(str(reason))

    def reconnect(self, reason: str, *, overlap: bool = False) -> None:
        self.doubts.append((self._at, reason))

    def void(self, reason: str) -> None:
        if self.sync is not None:
            self.sync.broken(reason)

    def trades(self, given: Any) -> Any:
        """As the outlet: the channel's input, which is this. As that input: trades."""
        if isinstance(given, Channel):
            return self
        self.collected.extend(given)
        return None

    # -- what the book asks of the engine -------------------------------------------------------------------------

    def seed_wanted(self) -> None:
        """The recording has its seed, or none."""

    def check_wanted(self) -> None:
        """Nobody to ask."""

    def resubscribe(self, reason: str) -> None:
        self.doubts.append((self._at, reason))


def each_recording(subject: Subject, segments: dict[str, Finding], judge: Callable[[Feed, Recording], str]) -> Finding:
    """Judge every recording on its own."""
    assert subject.feed is not None
    for recording in subject.recordings:
        try:
            segments[recording.name] = Finding(Outcome.PASSED, judge(subject.feed(), recording))
        except NotApplicable as error:
            segments[recording.name] = Finding(Outcome.NOT_APPLICABLE, str(error))
        except Mismatch as error:
            segments[recording.name] = Finding(Outcome.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a stranger's feed raises is how the check ended
            segments[recording.name] = Finding(Outcome.FAILED, f"{type(error).__name__}: {error}")
    return Finding(Outcome.PASSED)


def named(number: int, title: str, rule: str) -> Callable[[Callable[[Feed, Recording], str]], Any]:
    """A check that judges recording by recording."""

    def made(judge: Callable[[Feed, Recording], str]) -> Any:
        def run(subject: Subject, segments: dict[str, Finding]) -> Finding:
            return each_recording(subject, segments, judge)

        run.__name__ = judge.__name__
        return check(number, MUST, title, rule, bench=False, recordings=True)(run)

    return made


@named(
    801,
    "Recorded frames are understood",
    "Every frame of each recording goes through the feed's session without an exception and without a refusal.",
)
def understood(feed: Feed, recording: Recording) -> str:
    replay = Replay(feed, recording).play()
    expect(not replay.refusals, f"expected no refusal, seen {replay.refusals[:3]}")
    return f"{len(recording.frames)} frames"


@named(
    802,
    "Books from recordings are the expected ones",
    """The engine's book synchronisation over the feed's events ends LIVE, never in doubt on the way, with the
    expected best levels in base units (and updateId, where given).""",
)
def book(feed: Feed, recording: Recording) -> str:
    if recording.data_type is not DataType.ORDERBOOK or recording.book is None:
        raise NotApplicable("no expected book is given")
    if recording.gap_at is not None:
        raise NotApplicable("the recording has a gap: see 804")
    replay = Replay(feed, recording).play()
    sync = replay.sync
    assert sync is not None
    expect(not replay.doubts, f"expected no doubt, seen at frame {replay.doubts[:1]}")
    expect_equal("state", sync.state, BookState.LIVE)
    for side, seen, expected in (
        ("bids", sync.book.bids(), recording.book.bids),
        ("asks", sync.book.asks(), recording.book.asks),
    ):
        compare_side(f"{side}", seen[: len(expected)], list(expected), at_least=len(expected))
    if recording.book.update_id is not None:
        expect_equal("updateId", sync.last_id, recording.book.update_id)
    return f"{len(replay.updates)} updates"


@named(
    803,
    "Trades from recordings are the expected ones",
    "Price, quantity in base units, taker's side, id and time of each trade, in order, equal what is expected.",
)
def trades(feed: Feed, recording: Recording) -> str:
    if recording.data_type is not DataType.TRADE or recording.trades is None:
        raise NotApplicable("no expected trades are given")
    seen: Sequence[Trade] = Replay(feed, recording).play().collected
    expect_equal("how many trades", len(seen), len(recording.trades))
    for number, (trade, expected) in enumerate(zip(seen, recording.trades, strict=True)):
        what = f"trade {number}"
        expect_equal(f"{what}: market", trade.market, recording.market.symbol)
        expect(close(trade.price, expected.price), f"{what}: expected price {expected.price}, seen {trade.price}")
        expect(
            close(trade.quantity, expected.quantity),
            f"{what}: expected quantity {expected.quantity} (base units), seen {trade.quantity}",
        )
        expect_equal(f"{what}: side", trade.side, expected.side)
        for name in ("id", "time"):
            if getattr(expected, name) is not None:
                expect_equal(f"{what}: {name}", getattr(trade, name), getattr(expected, name))
    return f"{len(seen)} trades"


@named(
    804,
    "A missing frame is noticed",
    """A recording with a gap makes the book doubtful at the frame that shows it; of one without, a frame is
    removed, and the book is in doubt afterwards. Concerns feeds with sequence numbers or checksums.""",
)
def missing(feed: Feed, recording: Recording) -> str:
    if recording.data_type is not DataType.ORDERBOOK:
        raise NotApplicable("trades have no integrity to check")
    whole = Replay(feed, recording).play()
    assert whole.rules is not None
    if recording.gap_at is not None:
        expect(whole.doubts, f"expected the gap noticed at frame {recording.gap_at}, seen no doubt")
        expect_equal("the frame at which the gap is noticed", whole.doubts[0][0], recording.gap_at)
        return f"noticed: {whole.doubts[0][1]}"
    if whole.rules.integrity is Integrity.NONE:
        raise NotApplicable("the feed's books have integrity NONE")
    changes = sorted(set(whole.published))
    if len(changes) < 3:
        raise NotApplicable("fewer than three changes are recorded")
    removed = changes[len(changes) // 2]
    replay = Replay(feed, recording).play(without=removed)
    if not replay.doubts:
        fail(f"frame {removed} was removed: expected STALE at one of the frames after it, seen none")
    return f"frame {removed} removed, noticed at frame {replay.doubts[0][0]}"
