"""`aioray.Limiter`: shared by name, by driver, tasks and actors. What it decides: tests/core."""

from __future__ import annotations

import pytest

import aioray
from aioray import Limiter
from aioray.exceptions import TaskCancelledError, TaskUnschedulableError, WorkerCrashedError

from . import jobs, util_jobs
from .support import GUARD, everywhere

script = pytest.mark.usefixtures("session")
ONE = Limiter("one", concurrency=1)

hold = aioray.remote(limiter=ONE)(util_jobs.say_and_hold)
free = aioray.remote(jobs.add)


@aioray.remote(num_cpus=0)
def pass_on(started, gate):
    return aioray.get(hold.remote(started, gate, "nested"))


@aioray.remote(num_cpus=0)
def name_with_other_figures():
    aioray.get(free.options(limiter=Limiter("one", concurrency=2)).remote(1))


@aioray.remote(num_cpus=0)
def call_with_other_figures(actor):
    aioray.get(actor.add.options(limiter=Limiter("one", concurrency=2)).remote(1))


@aioray.remote
class Caller:
    @aioray.method(limiter=ONE)
    def add(self, value):
        return value

    def free(self):
        return "free"


@aioray.remote(max_concurrency=4)
class Threads:
    @aioray.method(limiter=ONE)
    def add(self, value):
        return value

    def free(self):
        return "free"


@script
def test_driver_tasks_and_actors_share_it(started, gate):
    threads = Threads.remote()
    first = hold.remote(started.path, gate.path, "first")
    assert started.hear().startswith("first ")
    second = pass_on.remote(started.path, gate.path)
    third = threads.add.remote(3)
    assert aioray.get(threads.free.remote(), timeout=GUARD) == "free"
    assert aioray.get(free.remote(1), timeout=GUARD) == 1
    assert aioray.wait([first, second, third], timeout=0)[0] == []
    gate.tell()
    gate.tell()
    assert aioray.get([first, second, third], timeout=GUARD) == ["first", "nested", 3]


@script
def test_what_waits_for_a_permit_is_cancelled_at_once(started, gate):
    first = hold.remote(started.path, gate.path, 1)
    started.hear()
    second = hold.remote(started.path, gate.path, 2)
    aioray.cancel(second)
    with pytest.raises(TaskCancelledError):
        aioray.get(second, timeout=GUARD)
    gate.tell()
    assert aioray.get(first, timeout=GUARD) == 1


@script
def test_permit_of_a_crashed_worker_comes_back():
    die = aioray.remote(limiter=ONE, max_retries=0)(jobs.die)
    with pytest.raises(WorkerCrashedError):
        aioray.get(die.remote("_exit 42"), timeout=GUARD)
    actor = Caller.remote()
    assert aioray.get(actor.add.remote(1), timeout=GUARD) == 1


@script
def test_other_figures_are_refused_where_they_are_given():
    actor = Caller.remote()
    assert aioray.get(actor.add.remote(1), timeout=GUARD) == 1
    text = "'one' has concurrency=1 in this session, and was now given as one with concurrency=2"
    other = Limiter("one", concurrency=2)
    with pytest.raises(ValueError, match=text):
        free.options(limiter=other).remote(1)
    with pytest.raises(ValueError, match=text):
        actor.add.options(limiter=other).remote(1)
    with pytest.raises(TaskUnschedulableError, match=text):
        aioray.get(name_with_other_figures.remote(), timeout=GUARD)
    with pytest.raises(TaskUnschedulableError, match=text):
        aioray.get(call_with_other_figures.remote(actor), timeout=GUARD)


@everywhere
async def test_window_lets_no_more_start():
    limited = free.options(limiter=Limiter("window", rate=2, per=3600))
    refs = [limited.remote(value) for value in range(4)]
    assert [await ref for ref in refs[:2]] == [0, 1]
    assert await free.remote(7) == 7
    assert [ref.done() for ref in refs] == [True, True, False, False]
