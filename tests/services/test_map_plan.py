"""What a map decides, in virtual time: sizes, window, order, retries, who pays for a crash."""

from __future__ import annotations

import itertools
import random

import pytest

from aioray.core.retries import RetryPolicy
from aioray.services.map_plan import (
    CHUNK_BYTES,
    CHUNK_SECONDS,
    GROWTH,
    LEAD_SHARE,
    LEAST_WINDOW,
    ChunkEnd,
    ChunkSizes,
    FailedItem,
    MapCounts,
    MapPlan,
    RetryRules,
)
from aioray.shared.chunks import GIVEN_BACK, RAISED, RAN, STOPPED
from aioray.shared.wire import Status

CRASH = ChunkEnd(crashed=True, splits=True, detail="crash")
RAISES = Status.RAISED
RETRYABLE = Status.RAISED_RETRYABLE


class World:
    """A plan, an input of numbers, and workers whose chunks a test ends by hand."""

    def __init__(self, items=1000, retries=3, policy=None, deadline=None, **given):
        rules = RetryRules(retries, policy, random.Random(1), deadline)
        given = {"slots": 1, "ordered": True} | given
        self.plan = MapPlan(rules, **given)
        self.items = iter(range(items))
        self.now = 0.0
        self.flights = {}
        self.keys = iter(range(1_000_000))

    def fill(self):
        """Do what the shell does; return the chunks that are sent, by key."""
        sent = {}
        while True:
            piece = self.plan.next_piece(self.now)
            if piece is not None:
                key = next(self.keys)
                self.plan.sent(key, piece, self.now)
                sent[key] = self.flights[key] = piece
                continue
            count = self.plan.room()
            if not count:
                return sent
            taken = list(itertools.islice(self.items, count))
            if taken:
                self.plan.take(taken)
            if len(taken) < count:
                self.plan.exhausted = True

    def run(self, key, seconds=0.0):
        """Let a chunk run to its end; the value of an item is ten times the item."""
        piece = self.flights.pop(key)
        values = [10 * item for item in piece.items]
        self.plan.told(key, (RAN, 0, values, seconds * len(values)), self.now)
        self.plan.ended(key, None, self.now)

    def tell(self, key, *news):
        self.plan.told(key, news, self.now)

    def end(self, key, end=CRASH):
        self.flights.pop(key)
        self.plan.ended(key, end, self.now)

    def read(self):
        found = []
        while self.plan.out:
            batch = self.plan.out.popleft()
            found += [batch] if type(batch) is FailedItem else batch
        self.plan.read(len(found))
        return found

    def numbers(self, sent):
        return [(piece.start, len(piece.items)) for piece in sent.values()]


def sized(count, **given):
    """A world whose chunks have so many items."""
    world = World(**given)
    world.plan.sizes.size = count
    return world


# ------------------------------------------------------------ sizes


def test_chunks_grow_to_the_number_of_items_that_take_the_time_of_a_chunk():
    sizes = ChunkSizes(100_000)
    seen = [sizes.size]
    for _ in range(3):
        sizes.ran(sizes.size, sizes.size * CHUNK_SECONDS / 100)
        seen.append(sizes.size)
    assert seen == [1, GROWTH, GROWTH**2, 100]


def test_slow_items_go_alone_and_quick_ones_after_them_together_again():
    sizes = ChunkSizes(1000)
    sizes.ran(1, 1e-6)
    sizes.ran(GROWTH, 10.0)
    assert sizes.size == 1
    for _ in range(40):
        sizes.ran(sizes.size, 1e-6 * sizes.size)
    assert sizes.size == 1000


def test_a_map_over_a_function_that_was_mapped_before_begins_with_its_size():
    sizes = ChunkSizes(1000, CHUNK_SECONDS / 100)
    assert (sizes.size, sizes.seconds) == (100, CHUNK_SECONDS / 100)
    assert ChunkSizes(10, 1e-9).size == 10


def test_large_items_make_small_chunks():
    sizes = ChunkSizes(1000)
    sizes.ran(1, 1e-9)
    assert sizes.size == GROWTH
    sizes.measured(2, 2 * CHUNK_BYTES // 3)
    assert sizes.size == 3
    sizes.measured(1, 100 * CHUNK_BYTES)
    assert sizes.size == 1


def test_a_window_limits_the_size_so_that_every_slot_has_its_share():
    world = World(window=12, slots=2)
    world.plan.sizes.ran(1, 1e-9)
    assert world.plan.sizes.size == 2


def test_chunks_have_the_least_unless_their_items_are_large():
    sizes = ChunkSizes(1000, least=5)
    sizes.ran(5, 50.0)
    assert sizes.size == 5
    sizes.measured(1, CHUNK_BYTES)
    assert (sizes.size, sizes.are_large) == (1, True)


# ------------------------------------------------------------ window and order


def bounded(**given):
    return World(items=100_000, slots=2, least=2, ahead=4, is_bounded=True, **given)


def test_a_bounded_lead_grows_with_what_was_read():
    world = bounded()
    world.fill()
    assert world.plan.unread == 16  # four chunks for each slot
    leads = []
    while world.plan.counts.taken < 50_000:
        for key in tuple(world.flights):
            world.run(key, 1e-6)
        world.read()
        read = world.plan.counts.taken
        world.fill()
        leads.append(world.plan.unread)
        assert leads[-1] <= max(16, read // LEAD_SHARE)
    assert leads[:6] == [16] * 6
    assert len(leads) < 200


@pytest.mark.parametrize("kind", ["slow", "large"])
def test_a_bounded_lead_stays_where_more_would_be_of_no_use(kind):
    world = bounded()
    world.fill()
    for _ in range(200):
        if kind == "large":
            world.plan.sizes.measured(1, CHUNK_BYTES)
        for key in tuple(world.flights):
            world.run(key, 1e-6 if kind == "large" else 1.0)
        world.read()
        world.fill()
    assert world.plan.unread <= (16 if kind == "large" else LEAST_WINDOW)


def test_all_items_can_be_taken_though_nobody_reads():
    world = bounded()
    world.plan.take_all()
    while not world.plan.is_idle:
        world.fill()
        for key in tuple(world.flights):
            world.run(key, 1e-6)
    assert world.plan.unread == 100_000
    assert world.read() == [10 * item for item in range(100_000)]
    assert world.plan.finished


def test_no_more_items_are_taken_than_fit_between_the_input_and_the_reader():
    world = sized(1, window=2, slots=4)
    first = world.fill()
    assert world.numbers(first) == [(0, 1), (1, 1)]
    assert world.fill() == {}
    for key in first:
        world.run(key)
    assert world.fill() == {}
    assert world.read() == [0, 10]
    assert world.numbers(world.fill()) == [(2, 1), (3, 1)]


def test_values_come_in_the_order_of_the_items():
    world = sized(2, slots=1)
    first, second, third = world.fill()
    world.run(third)
    world.run(second)
    assert world.read() == []
    world.run(first)
    assert world.read() == [0, 10, 20, 30, 40, 50]


def test_unordered_values_come_as_they_are_finished():
    world = sized(2, ordered=False)
    first, second, _ = world.fill()
    world.run(second)
    assert world.read() == [20, 30]
    world.run(first)
    assert world.read() == [0, 10]


def test_values_come_before_their_chunk_has_ended():
    world = sized(3)
    key, *_ = world.fill()
    world.tell(key, RAN, 0, ["a"], 0.0)
    assert world.read() == ["a"]
    assert world.plan.counts == MapCounts(9, 1, 0, 8, 0)


def test_it_is_finished_when_every_item_was_read():
    world = sized(2, items=3)
    for key in world.fill():
        world.run(key)
    assert not world.plan.finished
    assert world.read() == [0, 10, 20]
    assert world.plan.finished


def test_no_items_no_values():
    world = World(items=0)
    assert world.fill() == {}
    assert world.plan.finished


# ------------------------------------------------------------ what fails


def test_an_error_that_may_not_be_retried_stands_in_the_place_of_the_value():
    world = sized(3, items=3)
    (key,) = world.fill()
    world.tell(key, RAN, 0, [0], 0.0)
    world.tell(key, RAISED, 1, RAISES, b"why", 0.0, 5.0, 0.5)
    world.tell(key, RAN, 2, [20], 0.0)
    world.end(key, None)
    first, failed, last = world.read()
    assert (first, last) == (0, 20)
    assert failed.number == 1
    assert [failure[:2] for failure in failed.failures] == [(0, (RAISES, b"why"))]
    assert world.plan.counts == MapCounts(3, 2, 1, 0, 0)


def test_an_item_that_may_be_retried_goes_alone_at_once_and_the_others_are_not_repeated():
    world = sized(3, items=3)
    (key,) = world.fill()
    world.tell(key, RAN, 0, [0], 0.0)
    world.tell(key, RAISED, 1, RETRYABLE, b"why", 0.0, 5.0, 0.5)
    again = world.fill()
    assert world.numbers(again) == [(1, 1)]
    world.tell(key, RAN, 2, [20], 0.0)
    world.end(key, None)
    assert world.read() == [0]
    for each in again:
        world.run(each)
    assert world.read() == [10, 20]
    (retried,) = world.plan.retried
    assert (retried.number, retried.retries_left, retried.delay) == (1, 3, 0.0)
    assert world.plan.counts.retries == 1


def test_retries_end_with_the_number_that_is_allowed():
    world = sized(1, items=1, retries=2)
    sent = world.fill()
    for _ in range(3):
        (key,) = sent
        world.tell(key, RAISED, 0, RETRYABLE, b"why", 0.0, 0.0, 0.1)
        world.end(key, None)
        sent = world.fill()
    (failed,) = world.read()
    assert [failure.number for failure in failed.failures] == [0, 1, 2]


def test_a_policy_delays_retries_and_its_budget_of_time_ends_them():
    policy = RetryPolicy(initial_delay=10.0, factor=1.0, jitter=False, time_budget=25.0)
    world = sized(1, items=1, retries=-1, policy=policy)
    (key,) = world.fill()
    for due in (10.0, 20.0):
        world.tell(key, RAISED, 0, RETRYABLE, b"why", 0.0, world.now, 0.1)
        world.end(key, None)
        assert world.fill() == {}
        assert world.plan.due() == due
        world.now = due
        (key,) = world.fill()
        assert world.plan.due() is None
    world.tell(key, RAISED, 0, RETRYABLE, b"why", 0.0, world.now, 0.1)
    (failed,) = world.read()
    assert len(failed.failures) == 3


def test_an_error_that_asks_for_a_delay_gets_it():
    world = sized(1, items=1)
    (key,) = world.fill()
    world.tell(key, RAISED, 0, Status.ASKED_FOR_RETRY, b"why", 7.0, 0.0, 0.1)
    assert world.plan.due() == 7.0


def test_a_deadline_counts_from_the_first_attempt_over_delays_and_retries():
    policy = RetryPolicy(initial_delay=4.0, factor=1.0, jitter=False)
    world = sized(1, items=1, retries=-1, policy=policy, deadline=10.0)
    world.now = 100.0
    (key,) = world.fill()
    lefts = []
    for due in (105.0, 110.0):
        world.now += 1.0
        world.tell(key, RAISED, 0, RETRYABLE, b"why", 0.0, world.now, 0.1)
        world.end(key, None)
        world.fill()
        assert world.plan.due() == due  # not when the delay is over, if that would be too late
        world.now = due
        ((key, piece),) = world.fill().items()
        lefts.append(world.plan.time_left(piece, due))
    assert lefts == [5.0, 0.0]


def test_items_that_go_again_at_no_cost_keep_their_deadline():
    world = sized(4, items=4, deadline=10.0)
    ((key, piece),) = world.fill().items()
    assert world.plan.time_left(piece, 0.0) == 10.0
    world.now = 3.0
    world.tell(key, GIVEN_BACK, 2)
    world.end(key)
    assert [world.plan.time_left(piece, 3.0) for piece in world.fill().values()] == [7.0] * 3
    assert sized(1, items=1).plan.time_left(piece, 3.0) is None


# ------------------------------------------------------------ crashes


def test_a_crash_costs_the_running_item_an_attempt_and_repeats_the_unanswered_ones():
    world = sized(6, items=6)
    (key,) = world.fill()
    world.tell(key, RAN, 0, [0, 10], 0.0)
    world.tell(key, STOPPED, 3)
    world.end(key)
    again = world.fill()
    assert sorted(world.numbers(again)) == [(2, 1), (3, 1), (4, 2)]
    charged = [piece.start for piece in again.values() if piece.retries]
    assert charged == [3]
    for each in again:
        world.run(each)
    assert world.read() == [0, 10, 20, 30, 40, 50]
    assert world.plan.counts == MapCounts(6, 6, 0, 0, 1)


def test_an_item_that_kills_its_worker_each_time_fails_alone():
    world = sized(3, items=3, retries=1)
    (key,) = world.fill()
    world.tell(key, STOPPED, 1)
    world.end(key)
    again = world.fill()
    poison = next(key for key, piece in again.items() if piece.start == 1)
    world.tell(poison, STOPPED, 0)
    world.end(poison)
    for each in [each for each in again if each != poison]:
        world.run(each)
    first, failed, last = world.read()
    assert (first, last) == (0, 20)
    assert [failure.detail for failure in failed.failures] == ["crash", "crash"]


@pytest.mark.parametrize("told", [None, 0])
def test_if_nobody_knows_who_was_running_each_goes_alone_at_no_cost(told):
    world = sized(4, items=4, slots=2)
    (key,) = world.fill()
    world.tell(key, RAN, 0, [0], 0.0)
    if told is not None:
        world.tell(key, STOPPED, told)  # it was answered before the worker died
    world.end(key)
    again = world.fill()
    assert world.numbers(again) == [(1, 1), (2, 1), (3, 1)]
    assert not any(piece.retries for piece in again.values())
    alone = next(iter(again))
    world.end(alone)  # now there is only one that it can have been
    (charged,) = world.fill().values()
    assert (charged.start, charged.retries) == (1, 1)


def test_a_crash_after_the_last_answer_repeats_nothing():
    world = sized(2, items=2)
    (key,) = world.fill()
    world.tell(key, RAN, 0, [0, 10], 0.0)
    world.end(key)
    assert world.fill() == {}
    assert world.read() == [0, 10]


def test_second_crash_of_an_item_waits_longer():
    world = sized(1, items=1)
    (key,) = world.fill()
    world.end(key)
    (key,) = world.fill()
    world.end(key)
    assert world.fill() == {}
    assert world.plan.due() == pytest.approx(0.05)


def test_what_a_worker_gives_back_goes_again_at_no_cost():
    world = sized(5, items=5)
    (key,) = world.fill()
    world.tell(key, RAN, 0, [0], 0.0)
    world.tell(key, GIVEN_BACK, 3)
    again = world.fill()
    assert world.numbers(again) == [(2, 3)]
    for each in again:
        world.run(each)
    assert world.read() == [0]
    world.tell(key, RAN, 1, [10], 0.0)
    world.end(key, None)
    assert world.read() == [10, 20, 30, 40]


# ------------------------------------------------------------ chunks that fail as a whole


def test_a_chunk_that_fails_as_a_whole_is_split_and_the_culprit_fails_alone():
    error = ChunkEnd(crashed=False, splits=True, detail="bad")
    world = sized(2, items=2)
    (key,) = world.fill()
    world.end(key, error)
    first, second = world.fill()
    world.end(first, error)
    world.run(second)
    failed, value = world.read()
    assert (failed.number, failed.failures[0].detail, value) == (0, "bad", 10)


def test_what_no_splitting_can_change_fails_all_its_items():
    world = sized(2, items=2)
    (key,) = world.fill()
    world.end(key, ChunkEnd(crashed=False, splits=False, detail="no environment"))
    assert [failed.number for failed in world.read()] == [0, 1]
    assert world.fill() == {}


def test_an_item_that_was_interrupted_by_others_fails_and_the_rest_goes_on():
    world = sized(3, items=3)
    (key,) = world.fill()
    world.tell(key, STOPPED, 1)
    world.end(key, ChunkEnd(crashed=False, splits=True, detail="cancelled"))
    for each in world.fill():
        world.run(each)
    first, failed, last = world.read()
    assert (first, failed.failures[0].detail, last) == (0, "cancelled", 20)


def test_what_cannot_be_sent_together_is_sent_alone():
    world = sized(2, items=2)
    world.plan.take([0, 1])
    world.plan.refused(world.plan.next_piece(0.0), None)
    first = world.plan.next_piece(0.0)
    world.plan.refused(first, "not serializable")
    assert world.plan.next_piece(0.0).items == [1]
    (failed,) = world.read()
    assert failed.failures[0].detail == "not serializable"


def test_after_the_end_nothing_is_left():
    world = sized(2)
    world.fill()
    world.plan.forget()
    assert world.plan.room() == 0
    assert world.plan.next_piece(0.0) is None
    assert world.plan.due() is None


# ------------------------------------------------------------ all together


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("ordered", [True, False])
def test_every_item_has_one_outcome_whatever_happens(seed, ordered):
    rng = random.Random(seed)
    world = World(items=200, retries=2, slots=3, ordered=ordered, window=rng.choice([None, 5, 50]))
    poison = set(rng.sample(range(200), 5))
    runs = dict.fromkeys(range(200), 0)
    found = []
    for _ in range(100_000):
        found += world.read()
        world.fill()
        if world.plan.finished:
            break
        if not world.flights:
            due = world.plan.due()
            assert due is not None
            world.now = due
            continue
        key = rng.choice(list(world.flights))
        piece = world.flights[key]
        at, size, end = 0, len(piece.items), None
        while at < size:
            item = piece.items[at]
            runs[item] += 1
            if item in poison:
                world.tell(key, STOPPED, at)
                end = CRASH
                break
            world.tell(key, RAN, at, [10 * item], rng.choice([1e-6, 1e-3]))
            at += 1
            if at < size and rng.random() < 0.05:
                world.tell(key, GIVEN_BACK, size - at)
                break
        world.end(key, end)
    numbers = [each.number if type(each) is FailedItem else each // 10 for each in found]
    assert sorted(numbers) == list(range(200))
    if ordered:
        assert numbers == list(range(200))
    assert {each.number for each in found if type(each) is FailedItem} == poison
    assert {item: count for item, count in runs.items() if count != 1} == dict.fromkeys(poison, 3)
