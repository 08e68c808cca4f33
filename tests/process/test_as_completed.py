"""Results in the order in which they come: `as_completed` and `map_unordered`."""

from __future__ import annotations

import itertools
import logging

import pytest

import aioray
from aioray.util import as_completed, map_unordered

from . import jobs, util_jobs

pytestmark = pytest.mark.usefixtures("session")

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)
hold = aioray.remote(util_jobs.say_and_hold)


@pytest.fixture
def holds(started, pipes):
    """Two tasks that run, and the gates that let them return 0 and 1."""
    gates = pipes(2)
    refs = [hold.remote(started.path, gate.path, item) for item, gate in enumerate(gates)]
    for _ in refs:
        started.hear()
    yield refs, gates
    for gate in gates:
        gate.tell()


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 200])
@pytest.mark.parametrize("chunk_size", [1, 10, 1000])
def test_every_value_comes_once(count, chunk_size):
    refs = [same.remote(number) for number in range(count)]
    assert sorted(as_completed(refs, chunk_size=chunk_size)) == list(range(count))
    found = list(map_unordered(same, range(count), chunk_size=chunk_size, backpressure_size=3))
    assert sorted(found) == list(range(count))


def test_chunks_of_one_come_as_soon_as_they_are_there(holds):
    refs, gates = holds
    values = as_completed(refs, chunk_size=1)
    gates[1].tell()
    assert next(values) == 1
    gates[0].tell()
    assert list(values) == [0]


def test_timeout_is_content_with_less_than_a_chunk_and_never_raises(holds):
    refs, gates = holds
    values = as_completed(refs, timeout=0.05)
    gates[1].tell()
    assert next(values) == 1
    gates[0].tell()
    assert list(values) == [0]


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_timeout_without_any_result_waits_for_the_first(holds, timeout, monkeypatch):
    refs, gates = holds

    def wait(refs, **options):
        if "timeout" not in options:
            gates[1].tell()
        return aioray.wait(refs, **options)

    monkeypatch.setattr("aioray.util._helpers.wait", wait)
    values = as_completed(refs, timeout=timeout)
    assert next(values) == 1
    gates[0].tell()
    assert list(values) == [0]


@pytest.mark.parametrize("chunk_size", [1, 10])
def test_error_is_raised_at_its_place_and_ends_the_iteration(chunk_size):
    refs = [same.remote(1), fail.remote(), same.remote(2)]
    aioray.wait(refs, num_returns=3)
    values = as_completed(refs, chunk_size=chunk_size)
    assert next(values) == 1
    with pytest.raises(ValueError, match="bad"):
        next(values)
    assert list(values) == []


def test_refs_are_yielded_also_those_that_failed():
    refs = [same.remote(1), fail.remote()]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)
    with pytest.raises(ValueError, match="bad"):
        aioray.get(refs[1])
    (ref,) = map_unordered(same, [3], yield_obj_refs=True)
    assert aioray.get(ref) == 3


@pytest.mark.parametrize(
    ("refs", "options", "error", "text"),
    [
        ([], {"chunk_size": 0}, ValueError, "chunk_size"),
        ([], {"num_returns": 1}, ValueError, "chunk_size"),
        ([1], {}, TypeError, r"list of ray\.ObjectRef"),
        ((1,), {}, TypeError, r"list of ray\.ObjectRef"),
        ([1], {"nosuch": 1}, TypeError, "nosuch"),
    ],
)
def test_wrong_arguments_are_refused_at_the_first_value(refs, options, error, text):
    values = as_completed(refs, **options)
    with pytest.raises(error, match=text):
        next(values)


def test_single_ref_and_duplicates_are_refused():
    ref = same.remote(1)
    with pytest.raises(TypeError):
        list(as_completed(ref))
    with pytest.raises(ValueError, match="unique"):
        list(as_completed([ref, ref]))


@pytest.mark.parametrize(
    "options", [{"backpressure_size": 0}, {"chunk_size": 0}, {"num_returns": 2}]
)
def test_wrong_options_of_map_unordered_are_refused_before_anything_is_submitted(options):
    taken = []
    with pytest.raises(ValueError, match=r"chunk_size|backpressure_size"):
        next(map_unordered(same, (taken.append(item) for item in range(3)), **options))
    assert taken == []


def test_backpressure_bounds_how_far_the_items_are_read():
    taken = []

    def endless():
        for item in itertools.count():
            taken.append(item)
            yield item

    values = map_unordered(same, endless(), backpressure_size=5, chunk_size=2)
    for count in range(1, 50):
        next(values)
        assert len(taken) <= count + 2 * 5


def test_without_backpressure_all_are_submitted_at_once():
    taken = []

    def items():
        for item in range(300):
            taken.append(item)
            yield item

    values = map_unordered(same, items(), backpressure_size=None)
    next(values)
    assert len(taken) == 300
    assert len(list(values)) == 299


def test_options_of_the_function_are_kept(caplog):
    context = aioray.remote(lambda _item: aioray.get_runtime_context().get_task_name())
    assert list(map_unordered(context.options(name="mine"), [1])) == ["mine"]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
