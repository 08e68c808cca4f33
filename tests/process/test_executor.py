"""`aioray.util.Executor`: tasks for code that takes a `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import cloudpickle
import pytest

import aioray
from aioray.client.protocol import registry
from aioray.exceptions import WorkerCrashedError
from aioray.util import Executor
from aioray.util._executor_session import ENDING
from aioray.util.state import list_tasks

from . import jobs, util_jobs
from .support import GUARD, everywhere

script = pytest.mark.usefixtures("session")


def until(condition):
    """Wait for what happens in a thread that nobody can join."""
    end = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


def no_thread_ends_it():
    return all(thread.name != ENDING for thread in threading.enumerate())


class Adder:
    __hash__ = None  # type: ignore[assignment]  # as Python itself does it

    def __init__(self, by=1):
        self.by = by

    def __call__(self, value):
        return value + self.by


@script
@pytest.mark.parametrize(
    ("call", "value"),
    [
        ((jobs.add, 1, 2), 3),
        ((pow, 2, 3), 8),
        ((functools.partial(jobs.add, 1), 5), 6),
        ((Adder(), 1), 2),
        ((Adder().__call__, 1), 2),
        ((dict, [(1, 2)]), {1: 2}),
        ((lambda: "by value",), "by value"),
    ],
)
def test_any_callable_is_run_as_a_task(call, value):
    with Executor() as executor:
        assert executor.submit(*call).result(GUARD) == value
        assert executor.submit(os.getpid).result(GUARD) != os.getpid()
        assert executor.submit(jobs.add, a=1, b=2).result(GUARD) == 3
        assert executor.submit(jobs.add, aioray.put(4)).result(GUARD) == 4
        assert list(executor.map(jobs.add, range(3), range(3))) == [0, 2, 4]


@script
def test_object_is_called_as_it_is_at_each_submission():
    adder = Adder()
    with Executor() as executor:
        assert executor.submit(adder, 1).result(GUARD) == 2
        adder.by = 5
        assert executor.submit(adder, 1).result(GUARD) == 6


@script
def test_errors_of_the_task_are_the_futures():
    with Executor(max_retries=0) as executor:
        with pytest.raises(jobs.CustomError):
            executor.submit(jobs.fail_custom).result(GUARD)
        assert isinstance(executor.submit(jobs.fail).exception(GUARD), ValueError)
        with pytest.raises(WorkerCrashedError):
            executor.submit(jobs.die, "_exit 42").result(GUARD)


@script
@pytest.mark.parametrize("runs", [True, False])
def test_cancelling_the_future_cancels_the_task(started, gate, notes, runs):
    with Executor(num_cpus=2) as executor:
        first = executor.submit(jobs.clean_up, started.path, notes)
        started.hear()
        second = executor.submit(jobs.return_note, notes, 1)
        future = first if runs else second
        assert future.cancel()
        assert future.cancel()
        assert future.cancelled()
        assert concurrent.futures.wait([future], GUARD).done == {future}
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
        if not runs:
            first.cancel()
        # The task has let go of its CPUs: the interrupt has reached it.
        assert executor.submit(jobs.add, 1).result(GUARD) == 1
    assert ("ran" in jobs.notes(notes)) is runs
    assert "cleaned up" in jobs.notes(notes)


@script
def test_finished_future_is_not_cancelled():
    with Executor() as executor:
        future = executor.submit(jobs.add, 1)
        assert future.result(GUARD) == 1
        assert not future.cancel()


@script
def test_shutdown_waits_and_refuses_more(started, gate):
    executor = Executor()
    future = executor.submit(util_jobs.say_and_hold, started.path, gate.path, 1)
    started.hear()
    executor.shutdown(wait=False)
    assert not future.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(jobs.add, 1)
    gate.tell()
    executor.shutdown()
    assert future.result(0) == 1
    assert aioray.is_initialized()  # it was there before the executor


@script
def test_shutdown_can_cancel_what_has_not_begun(started, gate, notes):
    executor = Executor(num_cpus=2)
    runs = executor.submit(util_jobs.say_and_hold, started.path, gate.path, 1)
    waits = executor.submit(jobs.return_note, notes, 1)
    started.hear()
    assert runs.running()
    assert not waits.running()
    executor.shutdown(wait=False, cancel_futures=True)
    assert waits.cancelled()
    while [task.state for task in list_tasks(filters=[("name", "=", "return_note")])] != ["FAILED"]:
        pass  # it may lie before a worker, until that has been told
    gate.tell()
    executor.shutdown()
    assert runs.result(0) == 1
    assert jobs.notes(notes) == []


@script
@pytest.mark.parametrize("end", [Executor.terminate_workers, Executor.kill_workers])
def test_workers_are_ended_with_what_runs(started, notes, end, monkeypatch):
    monkeypatch.setattr("aioray.util.executor.TERMINATE_SECONDS", GUARD)  # it listens
    executor = Executor(num_cpus=2)
    runs = executor.submit(jobs.clean_up, started.path, notes)
    waits = executor.submit(jobs.return_note, notes, 1)
    started.hear()
    end(executor)
    with pytest.raises(BrokenProcessPool, match=rf"ended by {end.__name__}\(\)"):
        runs.result(0)
    assert waits.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(jobs.add, 1)
    with Executor(num_cpus=2) as another:  # the CPUs are free again
        assert another.submit(jobs.add, 1).result(GUARD) == 1
    cleaned_up = end is Executor.terminate_workers
    assert jobs.notes(notes) == (["cleaned up"] if cleaned_up else [])


@script
def test_options_and_name_reach_the_task():
    with Executor(num_cpus=0.5) as executor:
        context = executor.submit(jobs.context).result(GUARD)
        assert (context["name"], context["resources"]) == ("context", {"CPU": 0.5})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_returns": 2}, ValueError, "num_returns"),
        ({"nosuch": 1}, ValueError, "nosuch"),
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"mp_context": multiprocessing.get_context("fork")}, ValueError, "clean processes"),
        ({"initializer": 1}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": "1"}, TypeError, "max_tasks_per_child must be an integer"),
        ({"max_tasks_per_child": 1, "max_calls": 1}, TypeError, "either"),
        ({"thread_name_prefix": "a"}, TypeError, "thread_name_prefix"),
    ],
)
def test_wrong_options_are_refused_at_once(options, error, text):
    with pytest.raises(error, match=text):
        Executor(**options)
    Executor(mp_context=multiprocessing.get_context("spawn"))


@script
def test_arguments_that_cannot_be_pickled_fail_the_future():
    with Executor() as executor:
        with pytest.raises(TypeError, match="Could not serialize"):
            executor.submit(jobs.same, threading.Lock()).result(0)
        with pytest.raises(jobs.CustomError) as caught:
            executor.submit(jobs.same, util_jobs.NotPicklable()).result(0)
        # From Python 3.14 on pickle adds notes too, and says first where the object was.
        assert any("Could not serialize" in note for note in caught.value.__notes__)


@script
def test_no_more_calls_run_at_once_than_it_has_workers(started, gate, notes):
    with Executor(1) as executor, Executor(1) as another:
        runs = executor.submit(util_jobs.say_and_hold, started.path, gate.path, 1)
        waits = executor.submit(jobs.return_note, notes, 2)
        started.hear()
        assert another.submit(jobs.add, 3).result(GUARD) == 3
        assert jobs.notes(notes) == []
        gate.tell()
        assert (runs.result(GUARD), waits.result(GUARD)) == (1, 2)


@script
def test_initializer_runs_once_in_each_worker_before_the_first_call(notes):
    with Executor(initializer=jobs.return_note, initargs=(notes, "ready")) as executor:
        pids = set(executor.map(util_jobs.pid, range(20)))
    assert jobs.notes(notes) == ["ran"] * len(pids)


@script
def test_function_of_a_module_goes_to_a_worker_once_and_stays_there(notes):
    cloudpickle.register_pickle_by_value(util_jobs)  # as with what stands in a script
    try:
        with Executor(num_cpus=2, initializer=jobs.return_note, initargs=(notes, 1)) as executor:
            counts = [executor.submit(util_jobs.count_calls).result(GUARD) for _ in range(3)]
            assert counts == [1, 2, 3]
            argument = functools.partial(util_jobs.count_calls)  # goes with each call
            assert [executor.submit(argument).result(GUARD) for _ in range(2)] == [1, 1]
            assert list(executor.map(util_jobs.double, [1, 2], chunksize=2)) == [2, 4]
        assert jobs.notes(notes) == ["ran"]
    finally:
        cloudpickle.unregister_pickle_by_value(util_jobs)


@script
def test_failing_initializer_breaks_the_executor(started, caplog):
    with Executor(initializer=jobs.fail_custom, max_retries=0) as executor:
        with pytest.raises(BrokenProcessPool, match="initializer failed") as caught:
            executor.submit(jobs.add, 1).result(GUARD)
        assert "CustomError" in str(caught.value.__cause__)
        with pytest.raises(BrokenProcessPool, match="initializer failed"):
            executor.submit(jobs.add, 1)
    assert "Exception in initializer" in caplog.text
    with Executor() as another:
        assert another.submit(jobs.add, 1).result(GUARD) == 1


@script
def test_worker_is_replaced_after_its_last_call():
    with Executor(max_tasks_per_child=2, num_cpus=2) as executor:
        pids = [executor.submit(os.getpid).result(GUARD) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


@script
def test_crash_fails_one_call_and_no_other():
    with Executor(max_retries=0) as executor:
        before, crash, after = (
            executor.submit(jobs.add, 1),
            executor.submit(jobs.die, "_exit 42"),
            executor.submit(jobs.add, 2),
        )
        with pytest.raises(BrokenProcessPool) as caught:
            crash.result(GUARD)
        assert isinstance(caught.value, WorkerCrashedError)
        assert caught.value.exit_code == 42
        assert (before.result(GUARD), after.result(GUARD)) == (1, 2)
        assert executor.submit(jobs.add, 3).result(GUARD) == 3


@script
def test_error_is_the_functions_own_and_tells_its_place():
    with Executor() as executor:
        error = executor.submit(jobs.fail_custom).exception(GUARD)
    assert type(error) is jobs.CustomError
    assert "in fail_custom" in error.__cause__.tb


@script
def test_exit_of_a_call_is_its_error_and_ends_no_worker():
    with Executor(num_cpus=2) as executor:
        pid = executor.submit(os.getpid).result(GUARD)
        assert executor.submit(sys.exit, 3).exception(GUARD).code == 3
        assert executor.submit(os.getpid).result(GUARD) == pid


@script
def test_map_reads_no_further_ahead_than_its_buffer():
    items = itertools.count()
    with Executor() as executor:
        values = executor.map(jobs.add, items, buffersize=3)
        assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert next(items) == 3 + 5
        chunks = executor.map(jobs.add, items, buffersize=2, chunksize=4)
        assert next(chunks) == 9
        assert next(items) == 9 + 3 * 4
        values.close()
        chunks.close()


@script
def test_map_gives_the_values_before_an_error_of_the_same_chunk():
    with Executor() as executor:
        values = executor.map(divmod, [4, 5, 6], [1, 0, 2], chunksize=3)
        assert next(values) == (4, 0)
        with pytest.raises(ZeroDivisionError):
            next(values)
        with pytest.raises(StopIteration):
            next(values)


@script
@pytest.mark.parametrize(
    ("sizes", "error", "text"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_sizes_of_map_are_checked(sizes, error, text):
    with Executor() as executor, pytest.raises(error, match=text):
        executor.map(jobs.add, [1], **sizes)


@pytest.mark.parametrize("wait", [True, False])
def test_session_that_executors_started_ends_with_the_last(wait):
    first, second = Executor(1), Executor(2)
    future = first.submit(jobs.add, 1)
    assert second.submit(jobs.add, 2).result(GUARD) == 2
    assert aioray.cluster_resources()["CPU"] == 1
    client = registry.current()
    first.shutdown(wait)
    assert future.result(GUARD) == 1
    assert aioray.is_initialized()
    second.shutdown(wait)
    until(lambda: client.closed and no_thread_ends_it())
    with pytest.raises(RuntimeError, match="after shutdown"):
        first.submit(jobs.add, 1)


def test_session_ends_with_an_executor_that_nobody_has_any_more():
    assert Executor(1).submit(jobs.add, 1).result(GUARD) == 1
    gc.collect()
    until(lambda: not aioray.is_initialized() and no_thread_ends_it())


@script
def test_executor_knows_when_its_session_has_ended():
    executor = Executor()
    assert executor.submit(jobs.add, 1).result(GUARD) == 1
    aioray.shutdown()
    with pytest.raises(RuntimeError, match="the session of this Executor has ended"):
        executor.submit(jobs.add, 1)


async def test_blocking_end_in_a_coroutine_is_possible_where_the_session_is_the_executors():
    with Executor(1) as executor:
        future = asyncio.get_running_loop().run_in_executor(executor, jobs.add, 1)
        assert await future == 1
    assert not aioray.is_initialized()


@everywhere
async def test_asyncio_runs_functions_in_it_and_cancels_them(started):
    loop = asyncio.get_running_loop()
    executor = Executor()
    assert await loop.run_in_executor(executor, jobs.add, 1, 2) == 3
    waiting = loop.run_in_executor(executor, jobs.sleep, started.path)
    await started.heard()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.gather(*(loop.run_in_executor(executor, jobs.add, 1) for _ in range(4)))
    executor.shutdown()


async def test_waiting_for_the_end_on_the_engines_loop_is_refused(started):
    async with aioray.Engine(num_cpus=1):
        executor = Executor()
        future = executor.submit(jobs.sleep, started.path)
        await started.heard()
        with pytest.raises(RuntimeError, match="would block the event loop"):
            executor.shutdown()
        future.cancel()
        executor.shutdown()
