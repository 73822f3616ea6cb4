"""The local book equals a naive model of it, whatever happens to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from astra.streams.book import BEYOND, CROSSED, Book, TextBook

prices = st.integers(1, 40).map(float)
quantities = st.sampled_from([0.0, 0.0, 1.0, 2.5, 7.0])
sides = st.lists(st.tuples(prices, quantities), max_size=8)


class NaiveBook:
    """Two dictionaries, sorted whenever somebody asks."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def apply(self, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> None:
        for levels, changes in ((self.bids, bids), (self.asks, asks)):
            for price, quantity in changes:
                levels[price] = quantity
                if not quantity:
                    del levels[price]


@given(st.lists(st.tuples(sides, sides), max_size=30), sides, sides)
def test_any_book_after_any_deltas_equals_a_naive_model(deltas, seed_bids, seed_asks) -> None:
    book, naive = Book(), NaiveBook()
    book.load(seed_bids, seed_asks)
    naive.apply(list(dict(seed_bids).items()), list(dict(seed_asks).items()))
    for bids, asks in deltas:
        flags = book.apply(bids, asks)
        naive.apply(bids, asks)
        assert book.bids() == sorted(naive.bids.items(), reverse=True)
        assert book.asks() == sorted(naive.asks.items())
        assert book.best_bid == (max(naive.bids.items()) if naive.bids else None)
        assert book.best_ask == (min(naive.asks.items()) if naive.asks else None)
        crossed = bool(naive.bids and naive.asks) and max(naive.bids) >= min(naive.asks)
        assert bool(flags & CROSSED) == crossed == book.is_crossed
        assert book.counts == (len(naive.bids), len(naive.asks))


def test_views_are_best_first_and_as_deep_as_asked() -> None:
    book = Book()
    book.load([(1.0, 1.0), (3.0, 3.0), (2.0, 2.0)], [(6.0, 6.0), (4.0, 4.0), (5.0, 5.0)])
    assert book.bids(2) == [(3.0, 3.0), (2.0, 2.0)]
    assert book.asks(2) == [(4.0, 4.0), (5.0, 5.0)]
    assert book.bids(0) == []
    assert book.asks(99) == [(4.0, 4.0), (5.0, 5.0), (6.0, 6.0)]


def test_levels_beyond_the_edges_of_a_cut_off_snapshot_are_not_taken_in() -> None:
    book = Book()
    book.load([(9.0, 1.0), (8.0, 1.0)], [(11.0, 1.0), (12.0, 1.0)], full_at=2)
    assert book.is_cut_off
    assert book.apply([(7.0, 5.0), (8.5, 1.0)], [(13.0, 5.0)]) == BEYOND
    assert book.bids() == [(9.0, 1.0), (8.5, 1.0), (8.0, 1.0)]
    assert book.asks() == [(11.0, 1.0), (12.0, 1.0)]
    assert book.inside([(7.0, 5.0), (8.5, 1.0)], [(13.0, 5.0)]) == ([(8.5, 1.0)], [])


def test_a_snapshot_shorter_than_its_limit_has_no_edges() -> None:
    book = Book()
    book.load([(9.0, 1.0)], [(11.0, 1.0)], full_at=2)
    assert not book.is_cut_off
    assert book.apply([(1.0, 5.0)], []) == 0


def test_the_difference_of_two_books_is_named_within_both_their_edges() -> None:
    mine, theirs = Book(), Book()
    mine.load([(9.0, 1.0), (5.0, 1.0)], [(11.0, 1.0)])
    theirs.load([(9.0, 1.0), (8.0, 2.0)], [(11.0, 1.0)], full_at=2)
    assert mine.difference(theirs) == "bid 8.0: 0.0 here, 2.0 there"
    theirs.apply([(8.0, 0.0)], [])
    assert mine.difference(theirs) is None, "5.0 lies beyond the other book's edge"


def test_a_text_book_keeps_the_venues_own_spelling() -> None:
    book = TextBook()
    book.load(*book.note([("9.10", "1.00"), ("9.0", "2")], [("9.20", "0.50")]))
    book.apply(*book.note([("9.10", "0"), ("8.90", "3.000")], []))
    assert book.texts("bids", 5) == [("9.0", "2"), ("8.90", "3.000")]
    assert book.texts("asks", 5) == [("9.20", "0.50")]
    assert book.truncate(1) == ([(8.9, 0.0)], [])
    assert book.texts("bids", 5) == [("9.0", "2")]
