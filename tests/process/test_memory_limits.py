"""memory_limit: who exceeds it is killed, and said to have done so; who does not is left alone."""

from __future__ import annotations

import asyncio
import logging
import os

import numpy as np
import psutil
import pytest

import aioray
from aioray.engine.processes.cgroups import MemoryCgroups
from aioray.exceptions import ActorDiedError, OutOfMemoryError

from . import hungry, jobs
from .hungry import MB
from .support import GUARD, everywhere

LIMIT = 150 * MB


def limited(function, **options):
    return aioray.remote(**{"memory_limit": LIMIT, "max_retries": 0, **options})(function)


async def error_of(ref):
    with pytest.raises(OutOfMemoryError) as info:
        await asyncio.wait_for(ref, GUARD)
    return info.value


@everywhere(num_cpus=1)
async def test_a_task_that_takes_too_much_is_killed_and_its_error_says_all():
    use = limited(hungry.keep)
    pid = await use.remote(1)
    error = await error_of(use.remote(300))
    assert LIMIT < error.peak < 310 * MB
    assert (error.limit, error.pid, error.attempt) == (LIMIT, pid, 0)
    assert error.task_name == "keep"
    text = str(error)
    assert f"used {error.peak / MB:.1f} MB" in text
    assert "memory_limit of 150.0 MB" in text
    assert f"pid {pid}" in text
    assert "Raise memory_limit" in text
    (attempt,) = error.attempts
    assert attempt.error_type == "OUT_OF_MEMORY"
    assert "memory_limit" in attempt.ended
    assert await use.remote(1) != pid


@everywhere(num_cpus=1)
async def test_a_task_within_its_limit_is_left_alone():
    use = limited(hungry.use, memory_limit=400 * MB)
    first = await use.remote(300)
    assert [await use.remote(300) for _ in range(3)] == [first] * 3


@everywhere(num_cpus=1)
async def test_what_is_taken_and_kept_at_once_is_seen_at_the_end():
    error = await error_of(limited(hungry.keep).remote(300))
    assert error.peak > LIMIT


@everywhere(num_cpus=1)
async def test_what_others_have_left_in_the_worker_does_not_count():
    keep = aioray.remote(max_retries=0)(hungry.keep)
    pid = await keep.remote(200)
    assert await limited(hungry.use).remote(100) == pid
    assert await limited(hungry.keep).remote(100) == pid
    assert await limited(hungry.keep).remote(100) == pid


@everywhere(num_cpus=1)
async def test_a_task_that_grows_little_by_little_is_stopped_near_its_limit():
    error = await error_of(limited(hungry.grow).remote(1000))
    assert LIMIT < error.peak < 900 * MB  # near it on an idle machine, and long before all


@everywhere(num_cpus=1)
async def test_processes_below_the_worker_count_whatever_group_they_are_in(started):
    ref = limited(hungry.hold_in_a_child).remote(300, started.path)
    child = psutil.Process(int(await started.heard()))
    error = await error_of(ref)
    assert error.peak >= LIMIT
    await asyncio.to_thread(child.wait, GUARD)


@everywhere(num_cpus=1)
async def test_pages_that_a_fork_shares_count_once():
    size = await limited(hungry.fork_and_touch, memory_limit=150 * MB).remote(100)
    assert size == 100 * MB


@everywhere(num_cpus=1)
async def test_values_in_the_object_store_do_not_count():
    array = np.ones(300 * MB // 8)
    assert await limited(jobs.total).remote(aioray.put(array)) == len(array)


@everywhere(num_cpus=1)
async def test_it_is_tried_again_within_a_budget_of_its_own(notes, caplog):
    again = limited(hungry.take_once, max_retries=1)
    with caplog.at_level(logging.WARNING, "aioray"):
        assert await asyncio.wait_for(again.remote(notes, 300), GUARD) == 2
    pids = jobs.notes(notes)
    assert pids[0] != pids[1]
    killed, retried = [each.getMessage() for each in caplog.records][:2]
    assert killed.startswith(f"The worker with pid {pids[0]}, which runs take_once, is killed: ")
    assert "There are 1 retries remaining" in retried


@everywhere(num_cpus=1, _system_config={"task_oom_retries": 1})
async def test_the_budget_can_be_set_and_leaves_max_retries_alone():
    error = await error_of(limited(hungry.keep, max_retries=3).remote(300))
    assert [each.error_type for each in error.attempts] == ["OUT_OF_MEMORY"] * 2


@everywhere(num_cpus=1)
async def test_those_that_wait_lose_nothing(notes):
    ref = limited(hungry.grow).remote(1000)
    noted = aioray.remote(max_retries=0)(jobs.return_note)
    others = [noted.remote(notes, number) for number in range(20)]
    await error_of(ref)
    assert await asyncio.gather(*others) == list(range(20))
    assert len(jobs.notes(notes)) == 20


@everywhere(num_cpus=1)
async def test_a_generator_is_stopped_too_and_what_it_has_given_stands():
    refs = aiter(limited(hungry.items).remote(300))
    assert await (await anext(refs)) == 1
    await error_of(await anext(refs))


# ---------------------------------------------------------------- actors


@everywhere(num_cpus=1)
async def test_a_method_that_takes_too_much_is_killed_with_its_actor():
    keeper = aioray.remote(max_restarts=1)(hungry.Keeper).remote()
    first = await keeper.keep.remote(200)  # no limit
    assert await keeper.keep.options(memory_limit=LIMIT).remote(100) == first
    error = await error_of(keeper.keep.options(memory_limit=LIMIT).remote(300))
    assert error.task_name == "Keeper.keep"
    assert error.pid == first
    assert await keeper.keep.remote(1) != first


@everywhere(num_cpus=1)
async def test_the_limit_of_an_actor_holds_as_long_as_it_lives():
    keeper = aioray.remote(memory_limit=LIMIT)(hungry.Keeper).remote()
    await keeper.keep.remote(100)
    held, waiting = keeper.hold.remote(100), keeper.keep.remote()
    await error_of(held)
    with pytest.raises(ActorDiedError, match=r"memory_limit of 150\.0 MB"):
        await waiting


@everywhere(num_cpus=1)
async def test_a_constructor_has_the_limit_too():
    with pytest.raises(ActorDiedError, match=r"memory_limit of 150\.0 MB"):
        await aioray.remote(memory_limit=LIMIT)(hungry.BornHungry).remote(300).ping.remote()


@everywhere(num_cpus=1)
async def test_asynchronous_methods_have_it(started):
    actor = aioray.remote(memory_limit=LIMIT)(hungry.Async).remote()
    assert await actor.ping.remote() == 1
    await error_of(actor.hold.remote(300))


# ---------------------------------------------------------------- what is told


@everywhere(num_cpus=1)
async def test_the_state_api_tells_of_it():
    from aioray.util.state import list_cluster_events, list_tasks, list_workers

    error = await error_of(limited(hungry.keep).remote(300))
    rows = await asyncio.to_thread(list_tasks, detail=True)
    (row,) = [row for row in rows if row.name == "keep"]
    assert row.error_type == "OUT_OF_MEMORY"
    assert "memory_limit of 150.0 MB" in row.error_message
    workers = await asyncio.to_thread(list_workers, detail=True)
    (worker,) = [each for each in workers if each.pid == error.pid]
    assert worker.exit_type == "NODE_OUT_OF_MEMORY"
    assert "memory_limit of 150.0 MB" in worker.exit_detail
    events = await asyncio.to_thread(list_cluster_events)
    assert any(f"Worker {error.pid}: worker was killed" in each["message"] for each in events)


@everywhere(num_cpus=1)
async def test_a_kill_by_the_kernel_for_the_limit_is_told_as_such(monkeypatch):
    monkeypatch.setattr(MemoryCgroups, "has_killed", lambda _self, _worker_id: True)
    error = await error_of(limited(jobs.die).remote("SIGKILL"))
    assert error.limit == LIMIT < error.peak


def test_no_thread_is_started_where_nothing_is_measured(monkeypatch):
    import threading

    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    aioray.init(num_cpus=1)
    try:
        assert aioray.get(aioray.remote(os.getpid).remote())
        assert "aioray-memory" not in [each.name for each in threading.enumerate()]
        aioray.get(limited(hungry.use).remote(1))
        assert "aioray-memory" in [each.name for each in threading.enumerate()]
    finally:
        aioray.shutdown()
