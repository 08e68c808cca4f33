"""The books of shared memory: what is given out, what stays warm, what is given back and when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioray.engine.objects.allocator import PAGE, Allocator, Range


class Books(Allocator):
    """Extents in pages, with a check after every step."""

    def __init__(self, limit, space):
        super().__init__(limit * PAGE, space * PAGE)
        self.check()

    def want(self, pages):
        """The page where it begins and what is returned before, in pages; None: not to be had."""
        taken = self.allocate(pages * PAGE)
        self.check()
        if taken is None:
            return None
        offset, returned, _warm = taken
        return offset // PAGE, in_pages(returned)

    def release(self, page, pages):
        self.free(page * PAGE, pages * PAGE)
        self.check()

    def cool(self, pages):
        returned = self.trim(pages * PAGE)
        self.check()
        return in_pages(returned)


def in_pages(ranges):
    return [(offset // PAGE, size // PAGE) for offset, size in ranges]


@pytest.mark.parametrize(
    ("size", "pages"), [(0, 1), (1, 1), (PAGE, 1), (PAGE + 1, 2), (10 * PAGE - 1, 10)]
)
def test_sizes_are_rounded_up_to_whole_pages_and_nothing_takes_one(size, pages):
    assert Allocator.rounded(size) == pages * PAGE
    books = Allocator(10 * PAGE, 20 * PAGE)
    assert books.allocate(size) == (0, [], False)
    assert books.used == pages * PAGE
    books.free(0, size)
    assert (books.used, books.warm) == (0, pages * PAGE)
    books.check()


def test_what_is_given_out_lies_side_by_side():
    books = Books(10, 20)
    assert [books.want(n) for n in (1, 3, 2)] == [(0, []), (1, []), (4, [])]


def test_no_more_is_given_out_than_the_limit():
    books = Books(4, 20)
    assert books.want(5) is None
    assert books.want(3) == (0, [])
    assert books.want(2) is None
    assert books.want(1) == (3, [])
    assert books.want(1) is None
    assert books.used == books.limit


def test_no_more_is_given_out_than_the_space():
    books = Books(10, 4)
    assert books.want(5) is None
    assert books.want(4) == (0, [])
    assert books.want(1) is None


def test_refusal_for_the_limit_makes_nothing_cold():
    books = Books(4, 20)
    books.want(2)
    books.want(2)
    books.release(0, 2)
    assert books.want(3) is None
    assert books.warm == 2 * PAGE


def test_warm_memory_is_used_first():
    books = Books(10, 20)
    books.want(2)
    books.want(1)
    books.release(0, 2)
    assert books.want(2) == (0, [])
    assert books.warm == 0


def test_smallest_warm_piece_that_is_large_enough_is_used_and_the_rest_stays_warm():
    books = Books(20, 40)
    for pages in (4, 1, 2, 1, 3, 1):
        books.want(pages)
    books.release(0, 4)
    books.release(5, 2)
    books.release(8, 3)
    assert books.want(2) == (5, [])
    assert books.want(2) == (8, [])
    assert books.want(1) == (10, [])
    assert books.warm == 4 * PAGE


def test_of_warm_pieces_that_fit_alike_the_first_is_used():
    books = Books(20, 40)
    for _ in range(5):
        books.want(1)
    for page in (3, 1):
        books.release(page, 1)
    assert books.want(1) == (1, [])


def test_warm_neighbours_become_one_piece():
    books = Books(20, 40)
    for pages in (1, 2, 3, 1):
        books.want(pages)
    books.release(0, 1)
    books.release(3, 3)
    books.release(1, 2)  # touches both
    assert books.want(6) == (0, [])


def test_new_pages_are_used_while_they_are_within_the_limit():
    books = Books(10, 20)
    books.want(2)
    books.want(1)
    books.release(0, 2)
    assert books.want(3) == (3, [])
    assert books.warm == 2 * PAGE


def test_warm_memory_that_fits_nothing_is_returned_only_as_far_as_the_limit_asks():
    """Of 10 pages 5 are warm in two pieces, 4 more are wanted: 4 + 4 + 5 is 3 too many."""
    books = Books(10, 40)
    for pages in (3, 1, 2, 3):
        books.want(pages)
    books.release(0, 3)
    books.release(4, 2)
    assert books.want(4) == (9, [(0, 3)])
    assert (books.used, books.warm) == (8 * PAGE, 2 * PAGE)


def test_what_is_returned_comes_from_the_largest_piece():
    books = Books(10, 40)
    for pages in (1, 1, 4, 1, 3):
        books.want(pages)
    books.release(0, 1)
    books.release(2, 4)
    assert books.want(5) == (10, [(2, 4), (0, 1)])


def test_everything_warm_is_returned_if_only_that_makes_one_piece():
    """The limit asks for nothing, but the space is small: a warm and a cold hole side by side."""
    books = Books(12, 6)
    for pages in (2, 2, 2):
        books.want(pages)
    books.release(0, 2)
    assert books.cool(2) == [(0, 2)]
    books.release(2, 2)
    assert books.want(3) == (0, [(2, 2)])
    assert books.warm == 0


def test_what_a_refusal_made_cold_is_told_when_something_is_given_out():
    """Two holes of two pages, and three are wanted: they are cold now, and nobody knows it yet."""
    books = Books(12, 6)
    for pages in (2, 1, 2, 1):
        books.want(pages)
    books.release(0, 2)
    books.release(3, 2)
    assert books.want(3) is None
    assert (books.used, books.warm) == (2 * PAGE, 0)
    page, returned = books.want(1)
    assert page == 0
    assert sorted(returned) == [(0, 2), (3, 2)]
    assert books.want(1) == (1, [])


def test_what_a_refusal_made_cold_is_told_also_to_one_who_gets_warm_memory():
    books = Books(14, 7)
    for pages in (2, 1, 2, 1, 1):
        books.want(pages)
    books.release(0, 2)
    books.release(3, 2)
    assert books.want(3) is None
    books.release(6, 1)
    page, returned = books.want(1)
    assert page == 6
    assert sorted(returned) == [(0, 2), (3, 2)]


def test_two_refusals_are_told_together_and_once():
    books = Books(8, 8)
    for _ in range(8):
        books.want(1)
    books.release(1, 1)
    books.release(3, 1)
    assert books.want(2) is None
    books.release(5, 1)
    assert books.want(2) is None
    page, returned = books.want(1)
    assert page == 1
    assert sorted(returned) == [(1, 1), (3, 1), (5, 1)]
    books.release(1, 1)
    assert books.want(1) == (1, [])


def test_trim_returns_as_much_as_asked_for_from_the_largest_piece():
    books = Books(10, 20)
    for pages in (2, 1, 4):
        books.want(pages)
    books.release(0, 2)
    books.release(3, 4)
    assert books.cool(3) == [(3, 3)]
    assert books.cool(100) == [(0, 2), (6, 1)]
    assert books.cool(1) == []


@pytest.mark.parametrize("most", [0, -PAGE])
def test_trim_of_nothing_returns_nothing(most):
    books = Books(10, 20)
    books.want(2)
    books.release(0, 2)
    assert books.trim(most) == []
    assert books.warm == 2 * PAGE


def test_trim_rounds_up_to_whole_pages():
    books = Books(10, 20)
    books.want(2)
    books.release(0, 2)
    assert books.trim(1) == [Range(0, PAGE)]
    books.check()


def test_limit_need_not_be_whole_pages():
    books = Allocator(3 * PAGE + 1, 20 * PAGE)
    assert books.allocate(2 * PAGE) == (0, [], False)
    assert books.allocate(2 * PAGE) is None
    books.free(0, 2 * PAGE)
    assert books.allocate(3 * PAGE) == (0, [Range(0, 2 * PAGE)], False)
    books.check()


@pytest.mark.parametrize("spoil", ["overlap", "leak", "too much"])
def test_check_finds_books_that_do_not_add_up(spoil):
    books = Books(4, 8)
    books.want(2)
    if spoil == "overlap":
        books._warm.add(3 * PAGE, PAGE)
    elif spoil == "leak":
        books.used -= PAGE
    else:
        books.limit = PAGE
    with pytest.raises(AssertionError):
        books.check()


# ---------------------------------------------------------------- properties

SIZES = st.integers(0, 9 * PAGE)


class Arena(RuleBasedStateMachine):
    """A witness that knows of each page whether it is in memory and whose it is."""

    @initialize(limit=st.integers(1, 24 * PAGE), space=st.integers(1, 40))
    def begin(self, limit, space):
        self.books = Allocator(limit, space * PAGE)
        self.held = {}  # size by offset
        self.resident = set()  # pages that the system has in memory
        self.owed = set()  # of these: cold, to be told before the next gets anything

    def pages(self, offset, size):
        return set(range(offset // PAGE, (offset + Allocator.rounded(size)) // PAGE))

    def used(self):
        return {page for held in self.held.items() for page in self.pages(*held)}

    def returned(self, ranges):
        """Give these back to the system: each was in memory, and nobody's."""
        used = self.used()
        for extent in ranges:
            pages = self.pages(*extent)
            assert pages <= self.resident
            assert not pages & used
            self.resident -= pages
            self.owed -= pages

    @rule(size=SIZES)
    def take(self, size):
        books = self.books
        need = Allocator.rounded(size)
        used, warm = books.used, {*map(tuple, books._warm.ranges())}
        fitting = [free for free in warm if free[1] >= need]
        taken = books.allocate(size)
        if taken is None:
            assert books.used == used
            cold = {page for extent in books._cold.ranges() for page in self.pages(*extent)}
            self.owed = self.resident & cold
            if used + need <= books.limit:  # then there is no such piece at all
                assert not fitting
                assert books.warm == 0
                assert all(extent.size < need for extent in books._cold.ranges())
            return
        offset, returned, is_warm = taken
        assert is_warm == bool(fitting)
        assert 0 <= offset <= books.space - need
        assert offset % PAGE == 0
        pages = self.pages(offset, size)
        assert not pages & self.used()
        if fitting:  # the best fit, and nothing becomes cold for it
            assert offset == min(fitting, key=lambda free: (free[1], free[0]))[0]
            assert {page for extent in returned for page in self.pages(*extent)} == self.owed
            assert pages <= self.resident
        self.returned(returned)
        assert not self.owed
        self.held[offset] = size
        self.resident |= pages
        assert books.used == used + need

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 40))
    def give(self, pick):
        offset = sorted(self.held)[pick % len(self.held)]
        warm = self.books.warm
        size = self.held.pop(offset)
        self.books.free(offset, size)
        assert self.books.warm == warm + Allocator.rounded(size)

    @rule(most=st.integers(-1, 12 * PAGE))
    def trim(self, most):
        warm = self.books.warm
        owed = set(self.owed)
        returned = self.books.trim(most)
        self.returned(returned)
        amount = sum(extent.size for extent in returned)
        assert amount == (min(Allocator.rounded(most), warm) if most > 0 else 0)
        assert self.books.warm == warm - amount
        assert self.owed == owed  # these are told to the next who gets something

    @rule()
    def free_everything(self):
        """Then one piece as large as all can be had."""
        for offset, size in self.held.items():
            self.books.free(offset, size)
        self.held.clear()
        whole = min(self.books.limit, self.books.space) // PAGE * PAGE
        if whole:
            assert self.books.used == 0
            self.take(whole)
            assert len(self.held) == 1

    @invariant()
    def books_add_up(self):
        books = self.books
        books.check()
        assert books.used == len(self.used()) * PAGE
        assert books.used + books.warm <= books.limit
        warm = {page for extent in books._warm.ranges() for page in self.pages(*extent)}
        # What is in memory is in use, or warm, or to be told before anybody gets anything.
        assert self.resident == self.used() | warm | self.owed
        assert not self.owed & warm
        assert not self.used() & (warm | self.owed)


TestArena = Arena.TestCase
TestArena.settings = settings(max_examples=150, stateful_step_count=50)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_everything_freed_in_any_order_is_one_warm_piece(sizes, order):
    """What was given out side by side can be had again at once, and nothing is returned for it."""
    total = sum(sizes)
    books = Books(total, 2 * total)
    held = [(books.want(pages)[0], pages) for pages in sizes]
    order.shuffle(held)
    for page, pages in held:
        books.release(page, pages)
    assert books.want(total) == (0, [])
