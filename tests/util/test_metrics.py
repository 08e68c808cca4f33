"""The classes of `aioray.util.metrics`, without a session; errors and texts are those of Ray."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aioray.shared.meters import COUNTER, GAUGE, HISTOGRAM, WORKER_TAG, Board, Distribution
from aioray.util.metrics import Counter, Gauge, Histogram, collect

pytestmark = pytest.mark.usefixtures("clean_board")

NUMBERED: Any = {"k": 1}  # tags are texts


@pytest.fixture
def clean_board():
    from aioray.shared.meters import board

    board.clear()
    yield
    board.clear()


def values(name):
    return next(reading.values for reading in collect() if reading.name == name)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Counter(""), ValueError, "Empty name is not allowed. Please provide a metric"),
        (lambda: Counter("a", tag_keys=["x"]), TypeError, "tag_keys should be a tuple type, got:"),
        (lambda: Counter("a", tag_keys=(1,)), TypeError, "Tag keys must be str, got <class 'int'>"),
        (lambda: Histogram("a"), ValueError, "boundaries argument should be provided when using"),
        (lambda: Histogram("a", boundaries=[]), ValueError, "boundaries argument should be"),
        (
            lambda: Histogram("a", boundaries=[1, 0]),
            ValueError,
            "Invalid `boundaries` argument at index 1, [1, 0]. Use positive values",
        ),
        (lambda: Counter("a").inc(0), ValueError, "value must be >0, got 0"),
        (lambda: Counter("a").inc("1"), TypeError, "value must be int or float, got <class 'str'>"),
        (lambda: Gauge("a").set("1"), TypeError, "value must be int or float"),
        (lambda: Histogram("a", boundaries=[1]).observe("1"), TypeError, "value must be int or"),
        (
            lambda: Counter("a", tag_keys=("k", "l")).inc(),
            ValueError,
            "Missing value for tag key(s): k,l.",
        ),
        (
            lambda: Counter("a", tag_keys=("k",)).inc(1, NUMBERED),
            TypeError,
            "Tag values must be str, got <class 'int'>.",
        ),
        (
            lambda: Counter("a").set_default_tags({"q": "1"}),
            ValueError,
            "Unrecognized tag key q.",
        ),
        (
            lambda: Counter("a", tag_keys=("k",)).set_default_tags(NUMBERED),
            TypeError,
            "Tag values must be str",
        ),
    ],
)
def test_wrong_use_is_refused_as_in_ray(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(text)
    assert collect() == []


def test_invalid_name_is_warned_of_and_counts_nothing():
    with pytest.warns(UserWarning, match="Invalid metric name: a b. Metric will be discarded"):
        counter = Counter("a b")
    counter.inc()
    assert collect() == []


def test_colon_in_a_name_is_warned_of_and_counts():
    with pytest.warns(FutureWarning, match="contains a : character"):
        counter = Counter("a:b")
    counter.inc()
    assert values("a:b") == {(): 1.0}


def test_counters_of_one_name_add_up_by_tags_and_ignore_other_tags():
    first = Counter("tickets", "Tickets.", tag_keys=("kind", "host"))
    first.set_default_tags({"host": "h"})
    second = Counter("tickets", tag_keys=("kind", "host"))
    first.inc(tags={"kind": "a"})
    first.inc(2.5, tags={"kind": "a", "host": "i", "other": "x"})
    second.inc(2, tags={"host": "h", "kind": "a"})
    assert values("tickets") == {
        (("host", "h"), ("kind", "a")): 3.0,
        (("host", "i"), ("kind", "a")): 2.5,
    }


def test_gauge_keeps_the_last_value_and_none_does_nothing():
    gauge = Gauge("depth")
    gauge.set(3)
    gauge.set(-1)
    gauge.set(None)
    assert values("depth") == {(): -1.0}


def test_value_at_a_boundary_belongs_to_the_bucket_that_ends_there():
    histogram = Histogram("seconds", boundaries=[1, 2])
    for value in (0, 1, 1.5, 2, 2.5, 100):
        histogram.observe(value)
    assert values("seconds") == {(): Distribution((1.0, 2.0), (2, 2, 2), 107.0)}
    assert values("seconds")[()].seen == 6


def test_info_and_pickling_are_those_of_ray():
    histogram = Histogram("h", "d", boundaries=[1], tag_keys=("k",)).set_default_tags({"k": "v"})
    assert histogram.info == {
        "name": "h",
        "description": "d",
        "tag_keys": ("k",),
        "default_tags": {"k": "v"},
        "boundaries": [1],
    }
    copy = pickle.loads(pickle.dumps(histogram))
    assert copy.info == {**histogram.info, "default_tags": {}}
    copy.observe(1, {"k": "w"})
    assert list(values("h")) == [(("k", "w"),)]


def test_many_samples_are_folded_before_anybody_looks():
    board = Board()
    meter = board.meter("n", COUNTER)
    for _ in range(5_000):
        board.record(meter, (), 1.0)
    assert len(board._samples) < 2_000
    assert board.read()[0].values == {(): 5_000.0}


def test_what_is_taken_from_one_board_can_be_merged_into_another():
    worker, driver = Board(), Board()
    boundaries = (1.0, 2.0)
    for at in (0.5, 1.5, 9.0):
        worker.record(worker.meter("h", HISTOGRAM, "seconds", boundaries), (), at)
        worker.record(worker.meter("c", COUNTER), (("k", "v"),), at)
        worker.record(worker.meter("g", GAUGE), (), at)
    taken = worker.drain()
    driver.merge(taken, "aa")
    driver.merge(taken, "bb")
    assert worker.read() == []
    assert {reading.name: reading.values for reading in driver.read()} == {
        "h": {(): Distribution(boundaries, (2, 2, 2), 22.0)},
        "c": {(("k", "v"),): 22.0},
        "g": {((WORKER_TAG, "aa"),): 9.0, ((WORKER_TAG, "bb"),): 9.0},
    }
    driver.drop("aa")
    assert driver.read()[2].values == {((WORKER_TAG, "bb"),): 9.0}


def test_other_boundaries_of_a_worker_go_to_the_buckets_that_hold_them():
    worker, driver = Board(), Board()
    driver.meter("h", HISTOGRAM, "", (1.0, 10.0))
    for at in (0.5, 4.0, 50.0):
        worker.record(worker.meter("h", HISTOGRAM, "", (0.6, 5.0)), (), at)
    driver.merge(worker.drain(), "aa")
    assert driver.read()[0].values == {(): Distribution((1.0, 10.0), (1, 1, 1), 54.5)}


def test_board_is_not_waited_for_where_its_own_thread_is_at_work():
    """A finalizer may send while the thread that it has interrupted reads."""
    board = Board()
    board.record(board.meter("c", COUNTER), (), 1.0)
    with board._lock:
        assert board.drain() is None
    assert board.drain() is not None


def test_change_is_told_of_once_until_it_was_taken():
    board, told = Board(), []
    board.on_change = lambda: told.append(len(board._samples))
    meter = board.meter("c", COUNTER)
    board.record(meter, (), 1.0)
    board.record(meter, (), 1.0)
    assert told == [1]
    board.drain()
    board.record(meter, (), 1.0)
    assert told == [1, 1]
