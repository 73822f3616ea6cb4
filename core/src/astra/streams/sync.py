"""Book synchronisation: from a venue's snapshots and deltas to a book that is never silently wrong.

`BookSync` keeps one native book by the rules that the venue's feed names (`BookRules`). It is pure: frames, snapshots
and the time come in by method calls; updates and wishes (fetch a snapshot, resubscribe) go out to `SyncEffects`.

The steps, for a book seeded by REST or in band:

1. Subscribed: deltas are buffered, a snapshot is asked for.
2. A snapshot older than what was already published, or that the buffered deltas do not join, is useless: the deltas
   from the break on are kept and another snapshot is asked for.
3. Otherwise deltas that end at or before the snapshot's id are dropped, the rest must join and are applied. Only when
   a delta has joined (or the market stayed quiet for `QUIET_S`) is the book LIVE and a SNAPSHOT published.
4. From then on each delta must continue the book: with L the book's last id, `first <= L + 1` where ids are
   contiguous, `prev <= L` where they are chained. (Equality is the usual case; a delta that starts earlier repeats
   changes that the book has, its quantities being absolute, which happens where two connections overlap. Where deltas
   are differences between states, `BookRules.differences`, or never repeat, only equality will do.)
5. A delta that ends at or before the book's last id repeats what the book has: such come in a burst, behind a snapshot
   that was ahead of them or where two connections overlap. Where they go on coming for `REPEATS_S` and nothing
   continues the book, the venue has begun to number anew. Where it repeats nothing (`BookRules.exact`), the first is
   enough.
6. A delta that does not continue the book, a checksum that fails, a crossed book where the venue forbids it, an audit
   that finds a difference, ids that went back: STALE is published, the book is dropped, back to 1 for this book alone.

A book seeded by the stream takes the stream's snapshot in place of 1 to 3, and resubscribes in place of asking.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

import msgspec

from astra.models.orderbook import BookState, Level, OrderbookUpdate, UpdateKind
from astra.streams.book import BEYOND, CROSSED, Book, TextBook
from astra.streams.feed import BookRules, BookSeed, Checksum, Continuity, Crossed, Seed

logger = logging.getLogger("astra.streams")

QUIET_S = 1.5
"""A freshly seeded book whose market sends no delta for so long is taken to be quiet, and LIVE."""
AUDIT_PATIENCE_S = 5.0
"""An audit snapshot that runs ahead of the stream waits so long for the stream to catch up."""
REPEATS_S = 5.0
"""Deltas from before the book's last id are repeats for so long; then they are news under new numbers."""
LOW_AUDITS = 2
"""So many snapshots in a row from before the id where a book stands still, and the venue has begun to number anew."""
LONGEST_SILENCE_S = 3600.0
"""A quiet market whose books cannot be compared with snapshots is subscribed anew at least so often."""
MAX_BUFFERED = 20_000
"""Deltas held back while a snapshot is awaited; beyond that the oldest go, and a newer snapshot is needed."""


class _Phase(Enum):
    CLOSED = auto()
    WAITING = auto()
    SEEDED = auto()
    LIVE = auto()


# Looking a member up in its enumeration costs as much as applying a level.
_LIVE = _Phase.LIVE
_UPDATE = UpdateKind.UPDATE


class _Delta(msgspec.Struct, gc=False):
    first: int
    last: int
    prev: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    time: int | None
    received: int


class SyncEffects(Protocol):
    """What a `BookSync` asks of the engine."""

    def seed_wanted(self) -> None:
        """Get a snapshot (REST or in band) and hand it to `seed`; asked again after a useless one."""
        ...

    def check_wanted(self) -> None:
        """Get a snapshot by REST and hand it to `audit`."""
        ...

    def resubscribe(self, reason: str) -> None:
        """End this market's subscription and make a new one."""
        ...


class SyncStats(msgspec.Struct):
    """Counters of one book."""

    updates: int = 0
    snapshots: int = 0
    resyncs: int = 0
    useless_seeds: int = 0
    audits_passed: int = 0
    audits_failed: int = 0


class BookSync:
    """One native book: its levels, its state, and the checks that keep it true. `publish` gets every update."""

    __slots__ = (
        "_audit_seed",
        "_audit_until",
        "_buffer",
        "_chained",
        "_differences",
        "_effects",
        "_exact",
        "_forbid_crossed",
        "_ids_fall",
        "_kept_depth",
        "_looked_into",
        "_low_audits",
        "_low_seeds",
        "_moved_at",
        "_next_check_at",
        "_numbered",
        "_own_ids",
        "_phase",
        "_phase_since",
        "_quiet_s",
        "_record",
        "_record_from",
        "_repeats",
        "_seen_id",
        "_silent_for",
        "book",
        "last_id",
        "publish",
        "published_id",
        "reason",
        "received",
        "rules",
        "state",
        "stats",
        "symbol",
        "time",
    )

    def __init__(
        self,
        symbol: str,
        rules: BookRules,
        effects: SyncEffects,
        publish: Callable[[OrderbookUpdate], None],
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.symbol = symbol
        self.rules = rules
        self.book: Book = TextBook() if rules.keep_text else Book()
        self.state = BookState.SYNCING
        self.reason: str | None = None
        self.last_id = 0
        self.published_id = 0
        self.time: int | None = None
        self.received = 0
        self.stats = SyncStats()
        self._effects = effects
        self.publish = publish
        """Where updates go; may be replaced."""
        self._quiet_s = quiet_s
        self._phase = _Phase.CLOSED
        self._chained = rules.continuity is Continuity.CHAINED
        self._numbered = rules.continuity is not Continuity.NONE
        self._own_ids = not self._numbered or rules.engine_ids
        self._ids_fall = rules.ids_may_fall
        self._differences = rules.differences
        self._exact = rules.exact or rules.ids_may_fall
        self._kept_depth = rules.kept_depth
        self._forbid_crossed = rules.crossed is Crossed.FORBIDDEN
        self._buffer: deque[_Delta] = deque(maxlen=MAX_BUFFERED)
        self._record: list[_Delta] | None = None
        self._record_from = 0
        self._audit_seed: BookSeed | None = None
        self._audit_until = 0.0
        self._phase_since: float | None = None
        self._seen_id = -1
        self._moved_at = 0.0
        self._next_check_at: float | None = None
        self._silent_for = rules.silence_s
        self._looked_into = False
        """Was the book dropped only because its market is quiet? (The snapshot that follows breaks no silence.)"""
        self._low_seeds = 0
        self._low_audits = 0
        self._repeats: tuple[int, int] | None = None
        """(where the book stood, when) the first of the deltas came that ended at or before its last id."""

    # -- the subscription ---------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The market was subscribed on a new connection (or anew): an empty book, deltas are buffered."""
        self._restart(None)

    def acknowledged(self) -> None:
        """The subscription stands: from here on a snapshot can be joined."""
        if self._phase is _Phase.WAITING and self.rules.seed is not Seed.STREAM:
            self._effects.seed_wanted()

    def closed(self, reason: str) -> None:
        """The connection, or the subscription, is gone."""
        self._restart(reason)
        self._phase = _Phase.CLOSED

    @property
    def wants_seed(self) -> bool:
        """Is a snapshot still awaited?"""
        return self._phase is _Phase.WAITING

    # -- frames -------------------------------------------------------------------------------------------------

    def delta(
        self,
        first: int,
        last: int,
        prev: int,
        bids: Sequence[Level],
        asks: Sequence[Level],
        time: int | None,
        received: int,
    ) -> None:
        """A change of the book (see `BookInput.delta`)."""
        if self._phase is not _LIVE:
            self._early(_Delta(first, last, prev, bids, asks, time, received))
            return
        if self._numbered:
            known = self.last_id
            if last <= known:
                if not self._ids_fall or prev != known or last == known:
                    self._repeated(_Delta(first, last, prev, bids, asks, time, received))
                    return
            elif (
                prev > known or (prev != known and (self._differences or self._exact))
                if self._chained
                else first > known + 1 or (first <= known and self._exact)
            ):
                self._gap(_Delta(first, last, prev, bids, asks, time, received))
                return
            self.last_id = last
        flags = self.book.apply(bids, asks)
        if flags:
            if flags & CROSSED and self._forbid_crossed:
                self._resync(f"crossed book: bid {self.book.best_bid} at or above ask {self.book.best_ask}")
                return
            if flags & BEYOND:
                bids, asks = self.book.inside(bids, asks)
        if self._record is not None:
            self._record.append(_Delta(first, last, prev, bids, asks, time, received))
        if self._kept_depth is not None:
            fallen = self.book.cut(self._kept_depth)
            if fallen[0] or fallen[1]:
                bids, asks = [*bids, *fallen[0]], [*asks, *fallen[1]]
        if self._own_ids:
            last = self._own_id(received)
        self.published_id = last
        self.time = time
        self.received = received
        self.publish(OrderbookUpdate(self.symbol, last, bids, asks, _UPDATE, time, received))

    def checked_delta(
        self,
        first: int,
        last: int,
        prev: int,
        bids: Sequence[tuple[str, str]],
        asks: Sequence[tuple[str, str]],
        time: int | None,
        received: int,
        checksum: Checksum | None,
    ) -> None:
        """A change as wire text (see `BookInput.checked_delta`); only for streams that seed themselves."""
        if self._phase is not _Phase.LIVE:
            return
        if self._numbered and (last <= self.last_id or (prev if self._chained else first - 1) > self.last_id):
            if last > self.last_id:
                self._resync(f"gap: expected the change after {self.last_id}, got {first}..{last}")
            return
        book = self.book
        assert isinstance(book, TextBook)
        levels = book.note(bids, asks)
        flags = book.apply(*levels)
        if self.rules.seed_depth is not None:
            fallen = book.truncate(self.rules.seed_depth)
            levels = (levels[0] + fallen[0], levels[1] + fallen[1])
        if checksum is not None and not checksum(book):
            self._resync("the book does not have the venue's checksum")
            return
        if flags & CROSSED and self._forbid_crossed and book.is_crossed:
            self._resync(f"crossed book: bid {book.best_bid} at or above ask {book.best_ask}")
            return
        self.last_id = max(last, self.last_id)
        self._emit(UpdateKind.UPDATE, *levels, time, received)

    def snapshot(
        self, last: int, bids: Sequence[Level], asks: Sequence[Level], time: int | None, received: int
    ) -> None:
        """A full book from the stream: seeds or replaces it."""
        if self._phase is _Phase.CLOSED:
            return
        if self.rules.seed is Seed.IN_BAND:
            seed = BookSeed(last, bids, asks, time)
            if self._record is not None and self._audit_seed is None:
                self._audit_seed = seed  # judged at the next tick
            else:
                self.seed(seed, received)
            return
        self.book.load(bids, asks)
        self._seeded_by_stream(last, time, received)

    def checked_snapshot(
        self,
        last: int,
        bids: Sequence[tuple[str, str]],
        asks: Sequence[tuple[str, str]],
        time: int | None,
        received: int,
        checksum: Checksum | None,
    ) -> None:
        """A full book from the stream as wire text."""
        if self._phase is _Phase.CLOSED:
            return
        book = self.book
        assert isinstance(book, TextBook)
        book.forget()
        book.load(*book.note(bids, asks))
        if checksum is not None and not checksum(book):
            self._resync("the snapshot does not have the venue's checksum")
            return
        self._seeded_by_stream(last, time, received)

    def broken(self, reason: str) -> None:
        """The book is wrong by a rule that only the venue's session can check."""
        if self._phase is not _Phase.CLOSED:
            self._resync(reason)

    def connects(self, first: int, last: int, prev: int) -> bool:
        """Would this delta continue the live book? (Deltas of a second connection are tried before it takes over.)"""
        if self._phase is not _Phase.LIVE or last <= self.last_id:
            return False
        return self._follows(first, prev, self.last_id)

    # -- snapshots fetched --------------------------------------------------------------------------------------

    def seed(self, seed: BookSeed, received: int, now: float | None = None) -> None:
        """The snapshot that was asked for."""
        if self._phase is not _Phase.WAITING:
            return
        if self._numbered and not self._own_ids and seed.last < self.published_id:
            # Older than what consumers have seen: a cache that lags, or a venue that restarted its numbers.
            self._low_seeds += 1
            if self._low_seeds < 5:
                self._useless_seed()
                return
            logger.warning("%s: the venue's update ids went back; numbering updates here from now on", self.symbol)
            self._own_ids = True
        self._low_seeds = 0
        self.book.load(seed.bids, seed.asks, full_at=None if seed.complete else self.rules.seed_depth)
        self.last_id = seed.last
        self.time = seed.time
        self.received = received
        joined = False
        while self._buffer:
            frame = self._buffer[0]
            if self._numbered:
                if frame.last <= self.last_id:
                    self._buffer.popleft()
                    continue
                if not self._continues(frame):
                    self._useless_seed()
                    return
                self.last_id = frame.last
            self._buffer.popleft()
            self.book.apply(frame.bids, frame.asks)
            self.time, self.received = frame.time, frame.received
            joined = True
        if joined or not self._numbered:
            self._go_live()
        else:
            self._phase = _Phase.SEEDED
            self._phase_since = now

    def seed_failed(self) -> None:
        """The snapshot could not be had; the engine tries again while `wants_seed`."""
        self.stats.useless_seeds += 1

    # -- audits -------------------------------------------------------------------------------------------------

    def begin_audit(self) -> bool:
        """Record deltas from here on, so that a snapshot fetched after this call can be compared."""
        if self._phase is not _Phase.LIVE or not self._numbered:
            return False
        self._record = []
        self._record_from = self.last_id
        self._audit_seed = None
        return True

    def audit(self, seed: BookSeed, now: float) -> None:
        """Compare the running book with a snapshot fetched after `begin_audit`."""
        if self._phase is _Phase.LIVE and self._record is not None:
            self._audit_seed = seed
            self._audit_until = now + AUDIT_PATIENCE_S
            self._judge(now)

    def end_audit(self) -> None:
        """Give the audit up (no snapshot could be had)."""
        self._record = None
        self._audit_seed = None

    def _judge(self, now: float) -> None:
        seed, record = self._audit_seed, self._record
        assert seed is not None
        assert record is not None
        if seed.last < self._record_from:
            # Older than the recording: proves nothing either way, but for a book that stands still.
            self._low_audits = 0 if record else self._low_audits + 1
            self.end_audit()
            if self._low_audits >= LOW_AUDITS:
                self._low_audits = 0
                self._resync(f"the venue's book is at {seed.last}, before {self.last_id}", resubscribe=True)
            return
        self._low_audits = 0
        shadow = Book()
        shadow.load(seed.bids, seed.asks, full_at=None if seed.complete else self.rules.seed_depth)
        at = seed.last
        for frame in record:
            if frame.last <= at:
                continue
            if not self._follows(frame.first, frame.prev, at):
                self.end_audit()
                return
            shadow.apply(frame.bids, frame.asks)
            at = frame.last
            if self._kept_depth is not None:
                shadow.cut(self._kept_depth)
        ahead = at > self.last_id
        if ahead and now < self._audit_until:
            return  # the snapshot is ahead of the stream: judged again at the next tick
        self.end_audit()
        difference = self.book.difference(shadow)
        if difference is not None:
            self.stats.audits_failed += 1
            if ahead:
                # The venue's book moved on and the stream said nothing of it: seeding anew would not mend that.
                self._resync(f"the stream is silent while the book changes ({difference})", resubscribe=True)
            else:
                self._resync(f"an audit found a different book ({difference})")
            return
        self.stats.audits_passed += 1
        if self._is_thin():
            self.book = shadow
            self._emit(UpdateKind.SNAPSHOT, shadow.bids(), shadow.asks(), self.time, self.received)

    # -- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Called a few times a second: everything that depends on time passing."""
        if self._phase_since is None:
            self._phase_since = now
        if self._phase is _Phase.SEEDED and now - self._phase_since >= self._quiet_s:
            self._go_live()
        elif self._phase is _Phase.WAITING and self.rules.seed is Seed.STREAM:
            if now - self._phase_since >= self.rules.first_snapshot_s:
                self._resync(f"no snapshot within {self.rules.first_snapshot_s:g} s of subscribing")
        elif self._phase is _Phase.LIVE:
            self._tick_live(now)

    def _tick_live(self, now: float) -> None:
        if self.published_id != self._seen_id:
            self._seen_id = self.published_id
            self._moved_at = now
            if not self._looked_into:
                self._silent_for = self.rules.silence_s
            self._looked_into = False
        if self._record is not None:
            if self._audit_seed is not None:
                self._judge(now)
            elif self.rules.seed is Seed.IN_BAND and now >= self._audit_until:
                self._resync(f"no answer to a snapshot request in {self.rules.first_snapshot_s:g} s", resubscribe=True)
            return
        if self._next_check_at is None:
            every = self.rules.audit_every_s
            self._next_check_at = float("inf") if every is None else now + every
        silent = self._silent_for is not None and now - self._moved_at >= self._silent_for
        if silent and self.rules.seed is Seed.STREAM and not (self._numbered and self.rules.rest_joins):
            # No snapshot can be compared with the book: it is had anew, ever less often while the market is quiet.
            assert self._silent_for is not None
            reason = f"no update for {self._silent_for:g} s: the last one may have been lost"
            self._silent_for = min(self._silent_for * 2, max(LONGEST_SILENCE_S, self._silent_for))
            self._looked_into = True
            self._resync(reason)
        elif silent or now >= self._next_check_at or (self._is_thin() and now - self._moved_at < 1.0):
            every = self.rules.audit_every_s
            self._next_check_at = float("inf") if every is None else now + every
            if silent and self._silent_for is not None:
                # A quiet market is checked ever less often; the next update brings the usual pace back.
                self._moved_at = now
                self._silent_for = min(self._silent_for * 2, max(every or 600.0, self._silent_for))
            if self.begin_audit():
                self._audit_until = now + self.rules.first_snapshot_s
                self._effects.check_wanted()

    # -- inside -------------------------------------------------------------------------------------------------

    def _continues(self, frame: _Delta) -> bool:
        return self._follows(frame.first, frame.prev, self.last_id)

    def _follows(self, first: int, prev: int, last: int) -> bool:
        """Does a delta that ends after `last` continue a book that stands there? (A snapshot by REST may stand between
        two deltas of a stream that repeats nothing.)"""
        if not self._chained:
            return first <= last + 1
        return prev == last or (prev < last and not self._differences)

    def _early(self, frame: _Delta) -> None:
        """A delta before the book is live."""
        if self._phase is _Phase.WAITING:
            if self.rules.seed is not Seed.STREAM:
                self._buffer.append(frame)
        elif self._phase is _Phase.SEEDED:
            if self._numbered and frame.last <= self.last_id:
                return
            if not self._continues(frame):
                self._buffer.append(frame)
                self._phase = _Phase.WAITING
                self._useless_seed()
                return
            self.last_id = frame.last
            self.book.apply(frame.bids, frame.asks)
            self.time, self.received = frame.time, frame.received
            self._go_live()

    def _useless_seed(self) -> None:
        self.stats.useless_seeds += 1
        self._phase = _Phase.WAITING
        self.book.clear()
        self._effects.seed_wanted()

    def _go_live(self) -> None:
        if self._kept_depth is not None:
            self.book.cut(self._kept_depth)
        if self.book.is_crossed and self._forbid_crossed:
            self._resync(f"crossed book: bid {self.book.best_bid} at or above ask {self.book.best_ask}")
            return
        self._phase = _Phase.LIVE
        self.state = BookState.LIVE
        self.reason = None
        self._seen_id = -1
        self._next_check_at = None
        self._emit(UpdateKind.SNAPSHOT, self.book.bids(), self.book.asks(), self.time, self.received)

    def _seeded_by_stream(self, last: int, time: int | None, received: int) -> None:
        if self._numbered and last < self.published_id:
            self._own_ids = True
        self.last_id = last
        self.time = time
        self.received = received
        self._go_live()

    def _own_id(self, received: int) -> int:
        """A number made here: microseconds since the epoch, made to grow; below 2^53 until the year 2255."""
        return max(self.published_id + 1, received // 1000)

    def _emit(
        self, kind: UpdateKind, bids: Sequence[Level], asks: Sequence[Level], time: int | None, received: int
    ) -> None:
        self.published_id = self._own_id(received) if self._own_ids else self.last_id
        self.time = time
        self.received = received
        if kind is UpdateKind.SNAPSHOT:
            self.stats.snapshots += 1
        self.publish(OrderbookUpdate(self.symbol, self.published_id, bids, asks, kind, time, received))

    def _repeated(self, frame: _Delta) -> None:
        """A delta that ends at or before the id where the live book stands."""
        if self._exact:
            # (In a chain: the state stays as it is.)
            if not (self._chained and frame.prev == frame.last == self.last_id):
                self._gap(frame)
        elif self._repeats is None or self._repeats[0] != self.last_id:
            self._repeats = (self.last_id, frame.received)
        elif frame.received - self._repeats[1] >= REPEATS_S * 1e9:
            self._resync(f"changes up to {frame.last} go on coming, before {self.last_id} where the book stands", frame)

    def _gap(self, frame: _Delta) -> None:
        begin = frame.prev if self._chained else frame.first - 1
        if begin < self.last_id or frame.last <= self.last_id:
            reason = f"a change from {begin} to {frame.last} does not begin at {self.last_id}, where the book stands"
        else:
            after = f"before change {frame.prev}" if self._chained else f"up to change {frame.first - 1}"
            reason = f"gap: changes from {self.last_id + 1} {after} are missing"
        self._resync(reason, frame)

    def _resync(self, reason: str, frame: _Delta | None = None, *, resubscribe: bool = False) -> None:
        """The book cannot be trusted: say so, start over for this book alone (with its subscription, if need be)."""
        self.stats.resyncs += 1
        self._restart(reason)
        if frame is not None:
            self._buffer.append(frame)
        if resubscribe or self.rules.seed is Seed.STREAM:
            self._effects.resubscribe(reason)
        else:
            self._effects.seed_wanted()

    def _restart(self, reason: str | None) -> None:
        was_live = self.state is BookState.LIVE
        self._phase = _Phase.WAITING
        self._phase_since = None
        self._buffer.clear()
        self.book.clear()
        self.end_audit()
        self._repeats = None
        self._low_audits = 0
        self.reason = reason or self.reason
        if was_live:
            self.state = BookState.STALE
            logger.info("%s: book is stale: %s", self.symbol, reason)
            self.publish(
                OrderbookUpdate(
                    self.symbol, self.published_id, (), (), UpdateKind.STALE, self.time, self.received, self.reason
                )
            )

    def _is_thin(self) -> bool:
        """Has a cut-off book lost so many levels to price moves that it should be reseeded?"""
        return self.book.is_cut_off and min(self.book.counts) < self.rules.reseed_below


class BookLane:
    """One connection's input to a book. While two connections overlap there are two.

    The lane of the first connection feeds the book. A successor's lane *probes*: it holds its deltas back until one
    continues the live book, then takes over (`joined`); the old lane is then closed. Call `delta` as an attribute of
    the lane every time: it changes with the lane's role.
    """

    __slots__ = ("_held", "_joined", "_sync", "broken", "checked_delta", "checked_snapshot", "delta", "snapshot")

    def __init__(self, sync: BookSync, joined: Callable[[BookLane], None] | None = None) -> None:
        self._sync = sync
        self._joined = joined
        self._held: deque[tuple[int, int, int, Sequence[Level], Sequence[Level], int | None, int]] = deque(maxlen=2000)
        self.delta: Callable[..., None]
        self.snapshot: Callable[..., None]
        self.checked_delta: Callable[..., None]
        self.checked_snapshot: Callable[..., None]
        self.broken: Callable[[str], None]
        if joined is None:
            self.feed()
        else:
            self.delta = self._probe
            self.checked_delta = _ignore
            self.snapshot = self._probe_snapshot
            self.checked_snapshot = self._probe_checked_snapshot
            self.broken = _ignore

    def feed(self) -> None:
        """This lane feeds the book."""
        sync = self._sync
        self._joined = None
        self.delta = sync.delta
        self.snapshot = sync.snapshot
        self.checked_delta = sync.checked_delta
        self.checked_snapshot = sync.checked_snapshot
        self.broken = sync.broken
        held, self._held = self._held, deque(maxlen=0)
        for frame in held:
            sync.delta(*frame)

    def close(self) -> None:
        """Nothing of this lane reaches the book any more."""
        self._held = deque(maxlen=0)
        self.delta = self.snapshot = self.checked_delta = self.checked_snapshot = self.broken = _ignore

    def _probe(self, *frame: object) -> None:
        self._held.append(frame)  # type: ignore[arg-type]
        while self._held:
            first, last, prev = self._held[0][:3]
            if last <= self._sync.last_id:
                self._held.popleft()
            elif self._sync.connects(first, last, prev):
                self._take_over()
                return
            else:
                return

    def _probe_snapshot(
        self, last: int, bids: Sequence[Level], asks: Sequence[Level], time: int | None, received: int
    ) -> None:
        if self._sync.rules.seed is Seed.STREAM:
            self._take_over()
            self._sync.snapshot(last, bids, asks, time, received)

    def _probe_checked_snapshot(self, *snapshot: object) -> None:
        self._take_over()
        self._sync.checked_snapshot(*snapshot)  # type: ignore[arg-type]

    def _take_over(self) -> None:
        joined = self._joined
        self.feed()
        if joined is not None:
            joined(self)


def _ignore(*_: object) -> None:
    """A closed lane's input."""
