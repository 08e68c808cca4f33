"""`aioray.util.Executor`: tasks for code that takes a `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading

import pytest

import aioray
from aioray.exceptions import WorkerCrashedError
from aioray.util import Executor

from . import jobs, util_jobs
from .support import GUARD, everywhere

script = pytest.mark.usefixtures("session")


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
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(jobs.add, 1)
    gate.tell()
    executor.shutdown()
    assert future.result(0) == 1


@script
def test_shutdown_can_cancel_what_is_left(started):
    executor = Executor()
    future = executor.submit(jobs.sleep, started.path)
    started.hear()
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()


@script
def test_options_and_name_reach_the_task():
    with Executor(num_cpus=0.5) as executor:
        context = executor.submit(jobs.context).result(GUARD)
        assert (context["name"], context["resources"]) == ("context", {"CPU": 0.5})


@pytest.mark.parametrize(
    ("options", "text"), [({"num_returns": 2}, "num_returns"), ({"nosuch": 1}, "nosuch")]
)
def test_wrong_options_are_refused_at_once(options, text):
    with pytest.raises(ValueError, match=text):
        Executor(**options)


@script
def test_arguments_that_cannot_be_pickled_are_refused_at_the_call():
    with Executor() as executor, pytest.raises(TypeError, match="Could not serialize"):
        executor.submit(jobs.same, threading.Lock())


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
