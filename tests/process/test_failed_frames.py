"""Nothing of a failed attempt outlives its answer, in whatever way it has failed."""

from __future__ import annotations

import pytest

import aioray
from aioray.exceptions import TaskCancelledError

from . import failing

STORE = 100_000_000  # bytes


@pytest.fixture(autouse=True)
def one_worker():
    """All tasks run in one process, one after the other."""
    aioray.init(num_cpus=1, object_store_memory=STORE)
    yield
    aioray.shutdown()


def is_free():
    """Whether nothing is left in the store."""
    return aioray.available_resources()["object_store_memory"] == STORE


def fails(ref):
    """Wait for a failure, and keep nothing of it."""
    try:
        aioray.get(ref)
    except aioray.exceptions.RayError:
        return
    raise AssertionError("there was no error")


def stream_fails(items):
    """Read a stream of which the first item is a value, and the second and last an error."""
    assert aioray.get(next(items)) == 1
    fails(next(items))
    with pytest.raises(StopIteration):
        next(items)


by_name = {"ids": lambda fail: getattr(fail, "__name__", None)}


@pytest.mark.parametrize("fail", [*failing.PLAIN, *failing.COROUTINES], **by_name)
def test_task_leaves_nothing(fail):
    fails(aioray.remote(max_retries=0)(fail).remote())
    assert aioray.get(aioray.remote(failing.burdens).remote()) == 0
    assert is_free()


@pytest.mark.parametrize("fail", [*failing.GENERATORS, *failing.ASYNCHRONOUS_GENERATORS], **by_name)
def test_stream_leaves_nothing(fail):
    stream_fails(aioray.remote(max_retries=0)(fail).remote())
    assert aioray.get(aioray.remote(failing.burdens).remote()) == 0
    assert is_free()


@pytest.mark.parametrize("fail", failing.GENERATORS, **by_name)
def test_generator_for_several_results_leaves_nothing(fail):
    refs = aioray.remote(max_retries=0, num_returns=2)(fail).remote()
    fails(refs[-1])  # what was yielded before stands
    del refs
    assert aioray.get(aioray.remote(failing.burdens).remote()) == 0
    assert is_free()


def test_attempt_leaves_nothing_to_the_next_one(notes):
    task = aioray.remote(max_retries=2, retry_exceptions=True)(failing.first_burdens)
    assert aioray.get(task.remote(notes, failing.with_a_group)) == 0
    assert is_free()


@pytest.mark.parametrize("run", [failing.until_interrupted, failing.until_cancelled], **by_name)
def test_cancelled_task_leaves_nothing(run, started):
    ref = aioray.remote(max_retries=0)(run).remote(started.path)
    started.hear()
    aioray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aioray.get(ref)
    assert aioray.get(aioray.remote(failing.burdens).remote()) == 0
    assert is_free()


@pytest.mark.parametrize("threads", [1, 2], ids=["one at a time", "threads"])
@pytest.mark.parametrize("fail", [*failing.PLAIN, *failing.NESTED], **by_name)
def test_method_leaves_nothing(fail, threads):
    actor = aioray.remote(max_concurrency=threads)(failing.Failing).remote()
    fails(actor.plain.remote(fail))
    assert aioray.get(actor.burdens.remote()) == 0
    assert is_free()


@pytest.mark.parametrize("threads", [1, 2], ids=["one at a time", "threads"])
@pytest.mark.parametrize("fail", failing.GENERATORS, **by_name)
def test_stream_of_a_method_leaves_nothing(fail, threads):
    actor = aioray.remote(max_concurrency=threads)(failing.Failing).remote()
    stream_fails(actor.stream.remote(fail))
    assert aioray.get(actor.burdens.remote()) == 0
    assert is_free()


@pytest.mark.parametrize("fail", [*failing.PLAIN, *failing.COROUTINES], **by_name)
def test_coroutine_of_an_actor_leaves_nothing(fail):
    actor = aioray.remote(failing.FailingAsync).remote()
    fails(actor.plain.remote(fail))
    assert aioray.get(actor.burdens.remote()) == 0
    assert is_free()


def test_streams_of_an_asynchronous_actor_leave_nothing():
    actor = aioray.remote(failing.FailingAsync).remote()
    stream_fails(actor.stream.remote(failing.in_an_asynchronous_generator))
    assert is_free()
    stream_fails(actor.mixed.remote(failing.in_a_generator))
    assert aioray.get(actor.burdens.remote()) == 0
    assert is_free()


def test_cancelled_coroutine_of_an_actor_leaves_nothing(started):
    actor = aioray.remote(failing.FailingAsync).remote()
    ref = actor.until_cancelled.remote(started.path)
    started.hear()
    aioray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        aioray.get(ref)
    assert aioray.get(actor.burdens.remote()) == 0
    assert is_free()


def test_coroutine_that_has_handled_an_error_before_goes_on():
    actor = aioray.remote(failing.Pump).remote()
    aioray.get(actor.start.remote())
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            aioray.get(actor.fail.remote())
    assert aioray.get(actor.finish.remote()) == "pumped"


def test_error_that_somebody_keeps_keeps_no_value_of_the_same_get():
    import numpy as np

    errors = []
    fail = aioray.remote(failing.raise_elsewhere)
    for refs in (
        lambda value: [value, fail.remote()],
        lambda value: [fail.remote(), value],
        lambda value: [fail.remote(value)],
    ):
        try:
            aioray.get(refs(aioray.put(np.zeros(1_000_000, np.uint8))))
        except (TypeError, ValueError) as error:
            errors.append(error)
        assert is_free()
    assert len(errors) == 3
