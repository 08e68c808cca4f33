"""`Stream` alone: items, signals and readers in every order, and runs that replay."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest

from aioray.client.entry import PlainEntry, StoredFailure
from aioray.engine.objects.streams import END, ITEM, Stream
from aioray.exceptions import StreamingGeneratorReplayInconsistentError


class Client:
    """What a stream needs of the engine."""

    closed = False

    def __init__(self):
        self.exported = []

    def export_entry(self, entry):
        self.exported.append(entry.index)

    def fetch(self, entry):
        """Nothing: the test stores values itself."""


class Task(SimpleNamespace):
    """Can be referred to weakly."""


@pytest.fixture
def task():
    return Task(task_key=7)


def new_stream(task, backpressure=0, *, dynamic=False):
    return Stream(Client(), task, backpressure, dynamic=dynamic)


def give(value):
    def store(entry):
        if entry.outcome is None:
            entry.outcome = value
            entry.missing = False

    return store


def add(stream, *numbers):
    for number in numbers:
        stream.add(number, give(b"%d" % number))


def end(stream, count):
    """An attempt has yielded so many."""
    stream.last_count = count
    return stream.finish()


def signal(stream, number):
    entry = PlainEntry(stream._client, 0, number)
    stream.signal(number, entry)
    return entry


def test_reader_that_says_to_have_read_more_than_there_is_has_read_all(task):
    stream = new_stream(task)
    stream.consume(1 << 62)
    assert stream.consumed == stream.produced


def test_signal_is_answered_when_its_item_or_the_end_comes(task):
    stream = new_stream(task)
    first, second = signal(stream, 0), signal(stream, 1)
    assert (first.outcome, second.outcome) == (None, None)
    add(stream, 0)
    assert (first.outcome, second.outcome) == (ITEM, None)
    assert end(stream, 1) is None
    assert second.outcome == END
    assert (signal(stream, 0).outcome, signal(stream, 1).outcome) == (ITEM, END)


def test_unread_items_are_held_until_they_are_consumed_or_abandoned(task):
    stream = new_stream(task)
    add(stream, 0, 1, 2)
    assert sorted(stream.items) == [0, 1, 2]
    stream.consume(1)
    gc.collect()
    assert sorted(stream.items) == [1, 2]
    stream.abandon()
    add(stream, 3)
    gc.collect()
    assert (sorted(stream.items), stream.produced) == ([], 4)


def test_failure_is_the_last_item(task):
    stream = new_stream(task)
    late = signal(stream, 2)
    add(stream, 0)
    failure = StoredFailure(lambda: ValueError("it"))
    stream.fail(failure)
    assert stream.items[1].outcome is failure
    assert late.outcome == END
    stream.fail(failure)
    assert stream.produced == 2


def test_failure_of_a_dynamic_generator_is_no_item(task):
    stream = new_stream(task, dynamic=True)
    add(stream, 0)
    stream.fail(StoredFailure(lambda: ValueError("it")))
    assert (stream.produced, stream.ended) == (1, True)


def test_replay_fills_what_was_lost_and_keeps_the_rest(task):
    stream = new_stream(task)
    add(stream, 0, 1)
    kept, lost = stream.items[0], stream.items[1]
    lost.outcome, lost.missing = None, True
    for number in (0, 1, 2):
        stream.add(number, give(b"again"))
    assert (kept.outcome, lost.outcome, stream.items[2].outcome) == (b"0", b"again", b"again")
    assert end(stream, 3) is None


def test_replay_with_fewer_items_ends_in_an_error(task):
    stream = new_stream(task)
    add(stream, 0, 1, 2)
    failure = end(stream, 2)
    assert isinstance(failure.exception(), StreamingGeneratorReplayInconsistentError)
    assert stream.items[3].outcome is failure
    assert stream.ended


def test_replay_after_the_end_with_fewer_items_fails_those_that_are_lost(task):
    stream = new_stream(task)
    add(stream, 0, 1, 2)
    assert end(stream, 3) is None
    woken = []
    lost = stream.items[2]
    lost.outcome, lost.missing = None, True
    lost.add_waiter(lambda: woken.append("woken"))
    assert end(stream, 2) is None
    assert isinstance(lost.outcome.exception(), StreamingGeneratorReplayInconsistentError)
    assert (lost.missing, woken, stream.items[1].outcome) == (False, ["woken"], b"1")


def test_replay_with_more_items_after_the_end_adds_none(task):
    stream = new_stream(task)
    add(stream, 0)
    end(stream, 1)
    add(stream, 0, 1)
    assert end(stream, 2) is None
    assert stream.produced == 1


def test_producer_pauses_until_enough_is_read(task):
    stream = new_stream(task, 2)
    add(stream, 0, 1)
    assert [stream.may_yield(count) for count in (1, 2)] == [True, False]
    went_on = []
    stream.pause(2, lambda: went_on.append("on"))
    stream.consume(0)
    assert went_on == []
    stream.consume(1)
    stream.consume(2)
    assert went_on == ["on"]


def test_abandoned_and_dynamic_streams_never_pause(task):
    stream = new_stream(task, 1)
    add(stream, 0)
    went_on = []
    stream.pause(1, lambda: went_on.append("on"))
    stream.abandon()
    assert went_on == ["on"]
    assert new_stream(task, 1, dynamic=True).may_yield(100)


def test_replay_does_not_pause_for_what_was_yielded_before(task):
    stream = new_stream(task, 1)
    add(stream, 0, 1, 2)
    assert [stream.may_yield(count) for count in (1, 2, 3)] == [True, True, False]
