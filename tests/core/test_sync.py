"""Synchronisation: whatever happens to the frames, a LIVE book is the venue's book at that id."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra.models.orderbook import BookState, Integrity, OrderbookUpdate, UpdateKind
from astra.streams.feed import BookRules, BookSeed, Continuity, Crossed, Seed
from astra.streams.sync import BookLane, BookSync

NS = 1_700_000_000_000_000_000


class Wishes:
    """Records what a book asks of the engine."""

    def __init__(self) -> None:
        self.seeds = 0
        self.checks = 0
        self.resubscriptions: list[str] = []

    def seed_wanted(self) -> None:
        self.seeds += 1

    def check_wanted(self) -> None:
        self.checks += 1

    def resubscribe(self, reason: str) -> None:
        self.resubscriptions.append(reason)


class Frame(tuple):
    """first, last, prev, bids, asks"""


class ToyVenue:
    """The truth: a book that changes, and the frames a venue would send about it."""

    def __init__(self, chance: random.Random, chained: bool) -> None:
        self.chance = chance
        self.chained = chained
        self.id = 100
        self.last_frame = 100
        self.bids: dict[float, float] = {90.0 + i: 1.0 for i in range(5)}
        self.asks: dict[float, float] = {101.0 + i: 1.0 for i in range(5)}
        self.history: dict[int, tuple[dict[float, float], dict[float, float]]] = {}
        self.remember()

    def remember(self) -> None:
        self.history[self.id] = (dict(self.bids), dict(self.asks))

    def frame(self) -> Frame:
        """Some changes, sent as one frame."""
        first = self.id + 1
        changed_bids, changed_asks = set(), set()
        for _ in range(self.chance.randint(1, 3)):
            self.id += self.chance.randint(1, 5) if self.chained else 1
            if self.chance.random() < 0.5:
                price = float(self.chance.randint(80, 99))
                changed_bids.add(price)
                levels = self.bids
            else:
                price = float(self.chance.randint(101, 120))
                changed_asks.add(price)
                levels = self.asks
            quantity = float(self.chance.randint(0, 5))
            if quantity:
                levels[price] = quantity
            else:
                levels.pop(price, None)
            self.remember()
        prev, self.last_frame = self.last_frame, self.id
        bids = [(price, self.bids.get(price, 0.0)) for price in changed_bids]
        asks = [(price, self.asks.get(price, 0.0)) for price in changed_asks]
        return Frame((first, self.id, prev, bids, asks))

    def seed(self, lag: int = 0) -> BookSeed:
        """A snapshot, possibly an old one."""
        ids = sorted(self.history)
        at = ids[max(0, len(ids) - 1 - lag)]
        bids, asks = self.history[at]
        return BookSeed(at, list(bids.items()), list(asks.items()), None)


class Consumer:
    """Rebuilds books from updates as a user would, and holds each LIVE one against the truth."""

    def __init__(self, venue: ToyVenue) -> None:
        self.venue = venue
        self.updates: list[OrderbookUpdate] = []
        self.live = False
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def __call__(self, update: OrderbookUpdate) -> None:
        last = self.updates[-1] if self.updates else None
        self.updates.append(update)
        if update.kind is UpdateKind.STALE:
            assert self.live
            self.live = False
            return
        if update.kind is UpdateKind.SNAPSHOT:
            self.bids, self.asks = dict(update.bids), dict(update.asks)
            assert last is None or update.update_id >= last.update_id
        else:
            assert self.live, "an UPDATE before a SNAPSHOT"
            assert last is not None
            assert update.update_id > last.update_id or last.kind is UpdateKind.STALE
            for mine, changes in ((self.bids, update.bids), (self.asks, update.asks)):
                for price, quantity in changes:
                    mine[price] = quantity
                    if not quantity:
                        del mine[price]
        self.live = True
        assert (self.bids, self.asks) == self.venue.history[update.update_id], "a LIVE book that is not the venue's"


def rules(continuity: Continuity, **more: object) -> BookRules:
    return BookRules(seed=Seed.REST, continuity=continuity, integrity=Integrity.SEQUENCE, **more)  # type: ignore[arg-type]


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.booleans(), st.lists(st.sampled_from("ssssssssdrxS"), min_size=5, max_size=80))
def test_under_drops_repeats_and_reorders_a_live_book_is_never_wrong(
    seed: int, chained: bool, script: list[str]
) -> None:
    """s: send, d: drop, r: repeat an old frame, x: swap with the next, S: the snapshot asked for arrives."""
    chance = random.Random(seed)
    venue = ToyVenue(chance, chained)
    consumer = Consumer(venue)
    wishes = Wishes()
    sync = BookSync("TOY-SPOT-A-B", rules(Continuity.CHAINED if chained else Continuity.CONTIGUOUS), wishes, consumer)
    sync.opened()
    sync.acknowledged()
    sent: list[Frame] = []
    held: Frame | None = None
    now = 0.0
    for step in script:
        now += 0.1
        frame: Frame | None = None
        if step in "sd":
            frame = venue.frame()
        elif step == "r" and sent:
            frame = chance.choice(sent)
        elif step == "x":
            held = held or venue.frame()
            continue
        if step == "S" and sync.wants_seed:
            sync.seed(venue.seed(chance.choice([0, 0, 1, 3, 8])), NS, now)
        if frame is not None and step != "d":
            sync.delta(*frame, None, NS)
            sent.append(frame)
            if held is not None:
                sync.delta(*held, None, NS)
                sent.append(held)
                held = None
        sync.tick(now)
    # However it went, with an undisturbed venue the book comes back, and is the venue's.
    for _ in range(12):
        now += 0.1
        if sync.wants_seed:
            sync.seed(venue.seed(), NS, now)
        sync.delta(*venue.frame(), None, NS)
        sync.tick(now)
    assert sync.state is BookState.LIVE
    assert dict(sync.book.bids()) == venue.bids
    assert dict(sync.book.asks()) == venue.asks


def make(
    continuity: Continuity = Continuity.CONTIGUOUS, **more: object
) -> tuple[BookSync, Wishes, list[OrderbookUpdate]]:
    updates: list[OrderbookUpdate] = []
    wishes = Wishes()
    sync = BookSync("TOY-SPOT-A-B", rules(continuity, **more), wishes, updates.append)
    sync.opened()
    sync.acknowledged()
    return sync, wishes, updates


BIDS, ASKS = [(9.0, 1.0)], [(11.0, 1.0)]


def test_nothing_is_published_before_a_delta_has_joined_the_snapshot() -> None:
    sync, _, updates = make()
    sync.seed(BookSeed(10, BIDS, ASKS, None), NS, 0.0)
    assert sync.state is BookState.SYNCING
    sync.delta(11, 11, 0, [(9.5, 2.0)], [], 5, NS)
    assert [update.kind for update in updates] == [UpdateKind.SNAPSHOT]
    assert updates[0].bids == [(9.5, 2.0), (9.0, 1.0)]
    assert updates[0].update_id == 11


def test_a_quiet_market_goes_live_after_a_while() -> None:
    sync, _, updates = make()
    sync.seed(BookSeed(10, BIDS, ASKS, None), NS, 0.0)
    sync.tick(1.0)
    assert not updates
    sync.tick(1.6)
    assert [update.kind for update in updates] == [UpdateKind.SNAPSHOT]


def test_a_snapshot_older_than_the_first_buffered_delta_is_fetched_again() -> None:
    sync, wishes, updates = make()
    sync.delta(20, 22, 0, BIDS, ASKS, None, NS)
    sync.seed(BookSeed(15, BIDS, ASKS, None), NS, 0.0)
    assert wishes.seeds == 2
    assert not updates
    sync.seed(BookSeed(21, BIDS, ASKS, None), NS, 0.0)
    assert sync.state is BookState.LIVE


@pytest.mark.parametrize(
    ("continuity", "frame", "joins"),
    [
        (Continuity.CONTIGUOUS, (11, 12, 0), True),
        (Continuity.CONTIGUOUS, (9, 12, 0), True),
        (Continuity.CONTIGUOUS, (12, 13, 0), False),
        (Continuity.CHAINED, (40, 45, 10), True),
        (Continuity.CHAINED, (8, 45, 7), True),
        (Continuity.CHAINED, (40, 45, 39), False),
    ],
)
def test_the_first_delta_must_join_the_snapshot(
    continuity: Continuity, frame: tuple[int, int, int], joins: bool
) -> None:
    sync, wishes, _ = make(continuity)
    sync.seed(BookSeed(10, BIDS, ASKS, None), NS, 0.0)
    sync.delta(*frame, [], [], None, NS)
    assert (sync.state is BookState.LIVE) is joins
    assert wishes.seeds == (1 if joins else 2)


def live(
    continuity: Continuity = Continuity.CONTIGUOUS, **more: object
) -> tuple[BookSync, Wishes, list[OrderbookUpdate]]:
    sync, wishes, updates = make(continuity, **more)
    sync.seed(BookSeed(10, BIDS, ASKS, None), NS, 0.0)
    sync.delta(11, 11, 10, [], [], None, NS)
    assert sync.state is BookState.LIVE
    return sync, wishes, updates


def test_a_gap_is_said_at_once_and_yields_a_fresh_snapshot() -> None:
    sync, wishes, updates = live()
    sync.delta(13, 13, 0, [(9.1, 1.0)], [], None, NS)
    assert updates[-1].kind is UpdateKind.STALE
    assert "12" in (updates[-1].reason or "")
    assert sync.state is BookState.STALE
    assert not sync.book.bids()
    assert wishes.seeds == 2
    sync.seed(BookSeed(13, [(9.1, 1.0)], ASKS, None), NS, 1.0)
    sync.delta(14, 14, 0, [], [], None, NS)
    assert updates[-1].kind is UpdateKind.SNAPSHOT
    assert updates[-1].bids == [(9.1, 1.0)]


def test_frames_that_end_at_or_before_the_last_id_are_dropped() -> None:
    sync, _, updates = live()
    sync.delta(11, 11, 10, [(9.9, 1.0)], [], None, NS)
    sync.delta(5, 7, 4, [(9.9, 1.0)], [], None, NS)
    assert len(updates) == 1
    assert sync.book.bids() == BIDS


def test_a_crossed_book_is_a_wrong_book_where_the_venue_forbids_it() -> None:
    sync, wishes, updates = live()
    sync.delta(12, 12, 11, [(11.0, 1.0)], [], None, NS)
    assert updates[-1].kind is UpdateKind.STALE
    assert "crossed" in (updates[-1].reason or "")
    assert wishes.seeds == 2


def test_a_crossed_book_is_lawful_where_the_venue_says_so() -> None:
    sync, _, updates = live(crossed=Crossed.ALLOWED)
    sync.delta(12, 12, 11, [(11.5, 1.0)], [], None, NS)
    assert updates[-1].kind is UpdateKind.UPDATE
    assert sync.state is BookState.LIVE


def test_a_lost_connection_is_stale_and_starts_from_an_empty_book() -> None:
    sync, wishes, updates = live()
    sync.closed("connection reset")
    assert (updates[-1].kind, updates[-1].reason) == (UpdateKind.STALE, "connection reset")
    sync.delta(12, 12, 11, [(9.9, 1.0)], [], None, NS)
    assert len(updates) == 2, "a closed subscription takes nothing in"
    sync.opened()
    sync.acknowledged()
    assert wishes.seeds == 2
    assert sync.book.counts == (0, 0)


def test_update_ids_never_go_back_even_when_the_venues_do(caplog: pytest.LogCaptureFixture) -> None:
    sync, _, updates = live()
    sync.closed("restart")
    sync.opened()
    sync.acknowledged()
    for _ in range(5):
        sync.seed(BookSeed(3, BIDS, ASKS, None), NS, 0.0)
    sync.delta(4, 4, 3, [], [], None, NS)
    assert updates[-1].kind is UpdateKind.SNAPSHOT
    assert updates[-1].update_id > 11
    sync.delta(5, 5, 4, [(9.5, 1.0)], [], None, NS)
    assert updates[-1].update_id > updates[-2].update_id
    assert updates[-1].update_id < 2**53


def test_levels_beyond_the_seeds_edges_are_not_published() -> None:
    sync, _, updates = make(seed_depth=2, reseed_below=0)
    sync.seed(BookSeed(10, [(9.0, 1.0), (8.0, 1.0)], [(11.0, 1.0), (12.0, 1.0)], None), NS, 0.0)
    sync.delta(11, 11, 0, [], [], None, NS)
    sync.delta(12, 12, 0, [(7.0, 1.0), (8.5, 1.0)], [(13.0, 1.0)], None, NS)
    assert (updates[-1].bids, updates[-1].asks) == ([(8.5, 1.0)], [])


def test_a_difference_between_states_is_applied_only_where_it_begins() -> None:
    """A level that changed and changed back between two states is in no difference that spans both."""
    sync, wishes, updates = make(Continuity.CHAINED, differences=True)
    sync.seed(BookSeed(10, BIDS, ASKS, None), NS, 0.0)
    sync.delta(0, 45, 8, [(9.5, 1.0)], [], None, NS)
    assert (wishes.seeds, updates) == (2, [])
    sync.seed(BookSeed(45, BIDS, ASKS, None), NS, 1.0)
    sync.delta(0, 50, 45, [], [], None, NS)
    assert sync.state is BookState.LIVE
    sync.delta(0, 60, 47, [], [], None, NS)
    assert updates[-1].kind is UpdateKind.STALE
    assert "does not begin at 50" in (updates[-1].reason or "")


def test_levels_that_fall_out_of_the_streams_depth_are_published_as_deleted() -> None:
    sync, _, updates = make(Continuity.CHAINED, kept_depth=2)
    sync.seed(BookSeed(10, [(9.0, 1.0), (8.0, 1.0), (7.0, 1.0)], ASKS, None), NS, 0.0)
    sync.delta(0, 11, 10, [], [(12.0, 1.0)], None, NS)
    assert updates[-1].bids == [(9.0, 1.0), (8.0, 1.0)]
    sync.delta(0, 12, 11, [(9.5, 2.0)], [(10.5, 3.0)], None, NS)
    assert updates[-1].bids == [(9.5, 2.0), (8.0, 0.0)]
    assert updates[-1].asks == [(10.5, 3.0), (12.0, 0.0)]
    assert (sync.book.bids(), sync.book.asks()) == ([(9.5, 2.0), (9.0, 1.0)], [(10.5, 3.0), (11.0, 1.0)])


def in_band(**more: object) -> tuple[BookSync, Wishes, list[OrderbookUpdate]]:
    """A live book at 11 whose snapshots come in band, with an audit begun at 700 s."""
    updates: list[OrderbookUpdate] = []
    wishes = Wishes()
    known = BookRules(
        seed=Seed.IN_BAND, continuity=Continuity.CHAINED, integrity=Integrity.SEQUENCE, audit_every_s=600.0
    )
    sync = BookSync("TOY-SPOT-A-B", known, wishes, updates.append)
    sync.opened()
    sync.acknowledged()
    sync.snapshot(10, BIDS, ASKS, None, NS)
    sync.delta(0, 11, 10, [], [], None, NS)
    audited(sync, 0.0)
    assert wishes.checks == 1
    return sync, wishes, updates


def test_an_in_band_snapshot_audits_a_running_book() -> None:
    sync, wishes, updates = in_band()
    sync.delta(0, 12, 11, [(9.5, 1.0)], [], None, NS)
    sync.snapshot(11, BIDS, ASKS, None, NS)
    sync.tick(700.1)
    assert sync.stats.audits_passed == 1
    assert updates[-1].kind is UpdateKind.UPDATE
    sync.tick(1400.0)
    assert wishes.checks == 2
    sync.snapshot(12, BIDS, ASKS, None, NS)
    sync.tick(1400.1)
    assert (sync.stats.audits_failed, updates[-1].kind) == (1, UpdateKind.STALE)


def test_a_book_whose_in_band_audit_is_not_answered_is_subscribed_anew() -> None:
    sync, wishes, updates = in_band()
    sync.tick(714.0)
    assert sync.state is BookState.LIVE
    sync.tick(716.0)
    assert updates[-1].kind is UpdateKind.STALE
    assert len(wishes.resubscriptions) == 1


def audited(sync: BookSync, now: float) -> None:
    sync.tick(now)
    sync.tick(now + 700.0)


def test_an_audit_that_agrees_changes_nothing() -> None:
    sync, wishes, updates = live(audit_every_s=600.0)
    audited(sync, 0.0)
    assert wishes.checks == 1
    sync.delta(12, 12, 11, [(9.5, 1.0)], [], None, NS)
    sync.audit(BookSeed(11, BIDS, ASKS, None), 700.0)
    assert sync.stats.audits_passed == 1
    assert sync.state is BookState.LIVE
    assert [update.kind for update in updates] == [UpdateKind.SNAPSHOT, UpdateKind.UPDATE]


def test_an_audit_that_finds_a_difference_resynchronises() -> None:
    sync, wishes, updates = live(audit_every_s=600.0)
    audited(sync, 0.0)
    sync.audit(BookSeed(11, [(9.0, 3.0)], ASKS, None), 700.0)
    assert sync.stats.audits_failed == 1
    assert updates[-1].kind is UpdateKind.STALE
    assert "9.0" in (updates[-1].reason or "")
    assert wishes.seeds == 2


def test_an_audit_waits_for_a_stream_that_is_behind_the_snapshot() -> None:
    sync, _, _ = live(audit_every_s=600.0)
    audited(sync, 0.0)
    sync.audit(BookSeed(12, [(9.0, 3.0)], ASKS, None), 700.0)
    assert sync.state is BookState.LIVE, "not judged yet"
    sync.delta(12, 12, 11, [(9.0, 3.0)], [], None, NS)
    sync.tick(700.3)
    assert sync.stats.audits_passed == 1


def test_a_stream_that_never_catches_up_with_the_audit_is_found_silent_and_resubscribed() -> None:
    sync, wishes, updates = live(audit_every_s=600.0)
    audited(sync, 0.0)
    sync.audit(BookSeed(12, [(9.0, 3.0)], ASKS, None), 700.0)
    sync.tick(706.0)
    assert updates[-1].kind is UpdateKind.STALE
    assert "silent" in wishes.resubscriptions[0]


def test_a_silent_market_is_checked_ever_less_often() -> None:
    sync, wishes, _ = live(silence_s=30.0, audit_every_s=600.0)
    sync.tick(0.0)
    times = []
    for now in range(1, 300):
        before = wishes.checks
        sync.tick(float(now))
        if wishes.checks > before:
            times.append(now)
            sync.audit(BookSeed(11, BIDS, ASKS, None), float(now))
    assert times == [30, 90, 210]


def test_a_thin_cut_off_book_is_reseeded_without_going_stale() -> None:
    sync, wishes, updates = make(seed_depth=2, reseed_below=2)
    sync.seed(BookSeed(10, [(9.0, 1.0), (8.0, 1.0)], [(11.0, 1.0), (12.0, 1.0)], None), NS, 0.0)
    sync.delta(11, 11, 0, [(9.0, 0.0)], [], None, NS)
    sync.tick(0.0)
    sync.tick(0.25)
    assert wishes.checks == 1
    sync.audit(BookSeed(11, [(8.0, 1.0), (7.0, 4.0)], [(11.0, 1.0), (12.0, 1.0)], None), 0.5)
    assert updates[-1].kind is UpdateKind.SNAPSHOT
    assert updates[-1].bids == [(8.0, 1.0), (7.0, 4.0)]
    assert sync.stats.resyncs == 0


def test_a_stream_seeded_book_is_resubscribed_when_its_snapshot_does_not_come() -> None:
    updates: list[OrderbookUpdate] = []
    wishes = Wishes()
    stream = BookRules(seed=Seed.STREAM, continuity=Continuity.NONE, integrity=Integrity.NONE, first_snapshot_s=5.0)
    sync = BookSync("TOY-SPOT-A-B", stream, wishes, updates.append)
    sync.opened()
    sync.tick(0.0)
    sync.tick(5.1)
    assert wishes.resubscriptions
    sync.snapshot(0, BIDS, ASKS, None, NS)
    assert updates[-1].kind is UpdateKind.SNAPSHOT
    sync.delta(0, 0, 0, [(9.5, 1.0)], [], None, NS + 1000)
    assert updates[-1].update_id > updates[-2].update_id


def test_a_failed_checksum_resynchronises() -> None:
    updates: list[OrderbookUpdate] = []
    wishes = Wishes()
    text = BookRules(seed=Seed.STREAM, continuity=Continuity.NONE, integrity=Integrity.CHECKSUM, keep_text=True)
    sync = BookSync("TOY-SPOT-A-B", text, wishes, updates.append)
    sync.opened()
    sync.checked_snapshot(0, [("9.0", "1.0")], [("11.0", "1")], None, NS, lambda book: True)
    sync.checked_delta(0, 0, 0, [("9.50", "1")], [], None, NS, lambda book: book.texts("bids", 1) == [("9.50", "1")])
    assert updates[-1].kind is UpdateKind.UPDATE
    sync.checked_delta(0, 0, 0, [("9.60", "1")], [], None, NS, lambda book: False)
    assert updates[-1].kind is UpdateKind.STALE
    assert len(wishes.resubscriptions) == 1


def test_a_successors_lane_takes_over_only_when_it_continues_the_book() -> None:
    sync, _, updates = live()
    old = BookLane(sync)
    joined: list[BookLane] = []
    new = BookLane(sync, joined.append)
    new.delta(13, 14, 0, [(9.3, 1.0)], [], None, NS)
    assert not joined, "12 is still on its way on the old connection"
    assert sync.state is BookState.LIVE
    old.delta(12, 12, 0, [(9.2, 1.0)], [], None, NS)
    new.delta(15, 15, 0, [(9.5, 1.0)], [], None, NS)
    assert joined == [new]
    old.close()
    old.delta(99, 99, 0, [], [], None, NS)
    assert sync.last_id == 15
    assert [price for price, _ in sync.book.bids()] == [9.5, 9.3, 9.2, 9.0]
    assert all(update.kind is UpdateKind.UPDATE for update in updates[1:])


MAY_FALL = BookRules(
    seed=Seed.STREAM, continuity=Continuity.CHAINED, integrity=Integrity.SEQUENCE, engine_ids=True, ids_may_fall=True
)


def test_a_venue_may_number_anew_within_a_chain() -> None:
    wishes, seen = Wishes(), []
    sync = BookSync("TOY-SPOT-A-B", MAY_FALL, wishes, seen.append)
    sync.opened()
    sync.snapshot(10, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    for last, prev, quantity in [(15, 10, 2.0), (15, 15, 0.0), (3, 15, 3.0), (5, 3, 4.0)]:
        levels = [(9.0, quantity)] if last != prev else []
        sync.delta(0, last, prev, levels, [], None, NS)
    assert [update.bids for update in seen[1:]] == [[(9.0, 2.0)], [(9.0, 3.0)], [(9.0, 4.0)]]
    assert sync.state is BookState.LIVE
    assert [update.update_id for update in seen] == sorted({update.update_id for update in seen})
    sync.delta(0, 5, 5, [], [], None, NS)
    assert sync.state is BookState.LIVE, "the state stays as it is"
    sync.delta(0, 30, 20, [(9.0, 9.0)], [], None, NS)
    assert sync.state is BookState.STALE


@pytest.mark.parametrize(("last", "prev"), [(3, 15), (5, 3), (4, 4), (30, 3)])
def test_a_chain_that_may_fall_breaks_at_any_other_step(last: int, prev: int) -> None:
    """The change that bridged the numbers was lost (or there was none): what comes after it is no repeat."""
    wishes, seen = Wishes(), []
    sync = BookSync("TOY-SPOT-A-B", MAY_FALL, wishes, seen.append)
    sync.opened()
    sync.snapshot(5, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    sync.delta(0, last, prev, [(9.0, 9.0)], [], None, NS)
    assert sync.state is BookState.STALE
    assert len(wishes.resubscriptions) == 1


@pytest.mark.parametrize(("first", "last"), [(5, 5), (10, 10), (10, 11), (12, 12)])
def test_a_stream_that_repeats_nothing_breaks_at_any_other_step(first: int, last: int) -> None:
    wishes, seen = Wishes(), []
    rules = BookRules(seed=Seed.STREAM, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE, exact=True)
    sync = BookSync("TOY-SPOT-A-B", rules, wishes, seen.append)
    sync.opened()
    sync.snapshot(10, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    sync.delta(first, last, 0, [(9.0, 9.0)], [], None, NS)
    assert sync.state is BookState.STALE
    assert len(wishes.resubscriptions) == 1


def test_repeats_are_dropped_but_not_for_ever() -> None:
    """Changes from before the book's id are repeats while they come in a burst; then the venue numbers anew."""
    wishes, seen = Wishes(), []
    rules = BookRules(seed=Seed.STREAM, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE)
    sync = BookSync("TOY-SPOT-A-B", rules, wishes, seen.append)
    sync.opened()
    sync.snapshot(1000, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    second = 1_000_000_000
    for step in range(5):
        sync.delta(996 + step, 996 + step, 0, [(9.0, 5.0)], [], None, NS + step * second // 10)
    for hour in range(3):
        at = NS + hour * 3600 * second
        sync.delta(1001 + hour, 1001 + hour, 0, [(9.0, 2.0 + hour)], [], None, at)
        sync.delta(900, 900, 0, [(9.0, 5.0)], [], None, at + second)
    assert sync.state is BookState.LIVE
    assert sync.book.best_bid == (9.0, 4.0)
    for step in range(8):
        sync.delta(step, step, 0, [(9.0, 7.0)], [], None, NS + 7300 * second + step * second)
    assert sync.state is BookState.STALE
    assert "go on coming" in (seen[-1].reason or "")
    assert len(wishes.resubscriptions) == 1


def test_snapshots_from_before_a_book_that_stands_still_show_that_it_is_numbered_anew() -> None:
    wishes, seen = Wishes(), []
    rules = BookRules(
        seed=Seed.STREAM,
        continuity=Continuity.CONTIGUOUS,
        integrity=Integrity.SEQUENCE,
        silence_s=10.0,
        rest_joins=True,
    )
    sync = BookSync("TOY-SPOT-A-B", rules, wishes, seen.append)
    sync.opened()
    sync.snapshot(1000, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    low = BookSeed(7, [(8.0, 1.0)], [(11.0, 1.0)], None)
    assert sync.begin_audit()
    sync.audit(low, 1.0)
    assert sync.begin_audit()
    sync.delta(1001, 1001, 0, [(9.0, 2.0)], [], None, NS)
    sync.audit(low, 2.0)
    assert sync.begin_audit()
    sync.audit(low, 3.0)
    assert sync.state is BookState.LIVE, "a cache that lags behind a book that moves says nothing"
    assert sync.begin_audit()
    sync.audit(low, 4.0)
    assert sync.state is BookState.STALE
    assert len(wishes.resubscriptions) == 1


def test_a_quiet_book_that_nothing_can_be_compared_with_is_had_anew_ever_less_often() -> None:
    wishes, seen = Wishes(), []
    rules = BookRules(seed=Seed.STREAM, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE, silence_s=10.0)
    sync = BookSync("TOY-SPOT-A-B", rules, wishes, seen.append)
    sync.opened()
    sync.snapshot(10, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    at = []
    for second in range(100):
        sync.tick(float(second))
        if len(wishes.resubscriptions) > len(at):
            at.append(second)
            sync.opened()
            sync.snapshot(10, [(9.0, 1.0)], [(11.0, 1.0)], None, NS)
    assert at == [10, 31, 72]
    sync.delta(11, 11, 0, [(9.0, 2.0)], [], None, NS)
    for second in range(100, 112):
        sync.tick(float(second))
    assert len(wishes.resubscriptions) == 4, "an update brings the usual pace back"
