"""`engine.health()`: a plain dict, at once, whatever the engine is at."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

import aioray

from . import jobs, troupe
from .support import GUARD, everywhere, on_both_loops

same = aioray.remote(jobs.same)
hold = aioray.remote(jobs.hold)


async def until(condition):
    """Ask until the answer is as wanted, as a health check does; the answer."""
    async with asyncio.timeout(GUARD):
        while True:
            told = aioray.health()
            assert json.loads(json.dumps(told)) == told
            if condition(told):
                return told
            await asyncio.sleep(0.01)


@everywhere
async def test_engine_without_work_becomes_ready_and_starts_one_worker():
    told = await until(lambda told: told["ready"])
    assert told["status"] == "ready"
    assert told["workers"]["idle"] == 1
    assert sum(told["workers"].values()) == 1
    assert await same.remote(1) == 1


@everywhere
async def test_workers_and_tasks_are_counted(started, gate):
    actor = aioray.remote(troupe.Player).remote()
    await actor.pid.remote()
    refs = [hold.remote(started.path, gate.path) for _ in range(5)]
    await started.heard()
    await started.heard()
    told = await until(lambda told: told["workers"]["idle"] == 0)
    assert told["workers"]["busy"] == 2
    assert told["workers"]["actors"] == 1
    assert told["tasks"] == {"unfinished": 5, "waiting": 3, "on_workers": 2, "infeasible": 0}
    for _ in refs:
        gate.tell()
    await aioray.gather(*refs)
    told = await until(lambda told: told["workers"]["busy"] == 0)
    assert told["tasks"]["unfinished"] == 0


@everywhere
async def test_what_is_starved_or_fits_nowhere_is_told(started, gate):
    refs = [hold.options(num_cpus=0.5).remote(started.path, gate.path) for _ in range(3)]
    for _ in refs:
        await started.heard()
    big = same.options(num_cpus=2, name="big").remote(1)
    huge = same.options(num_cpus=64).remote(1)
    told = await until(lambda told: told["starved"] and told["tasks"]["infeasible"])
    assert [(each["task"], each["tasks"]) for each in told["starved"]] == [("big", 1)]
    assert told["tasks"]["infeasible"] == 1
    assert told["ready"]
    aioray.cancel(huge)
    for _ in refs:
        gate.tell()
    assert await big == 1


@everywhere
async def test_worker_that_was_lost_before_anybody_asked_makes_nobody_less_ready():
    with pytest.raises(aioray.exceptions.WorkerCrashedError):
        await aioray.remote(max_retries=0)(jobs.complain_and_die).remote()
    assert aioray.health()["ready"]


@on_both_loops
async def test_status_follows_the_life_of_the_engine(started, gate):
    assert aioray.health()["status"] == "not started"
    engine = aioray.Engine(num_cpus=1)
    assert engine.health()["status"] == "not started"
    async with engine:
        assert engine.health()["status"] == "starting"
        ref = hold.remote(started.path, gate.path)
        await started.heard()
        assert engine.health()["status"] == "ready"
        ending = asyncio.create_task(engine.shutdown(drain=GUARD))
        await asyncio.sleep(0)
        told = engine.health()
        assert (told["status"], told["ready"]) == ("shutting down", False)
        gate.tell("value")
        await ending
        assert await ref == "value"
    assert (engine.health()["status"], engine.health()["ready"]) == ("ended", False)
    assert aioray.health() == {**engine.health(), "status": "not started", "session": None}


@on_both_loops
async def test_lag_of_the_loop_is_told_to_other_threads_while_it_is_blocked():
    async with aioray.Engine(num_cpus=1) as engine:
        await until(lambda told: told["loop_lag"] is not None)
        seen = threading.Event()

        def ask():
            while (engine.health()["loop_lag"] or 0.0) < 0.05:
                time.sleep(0.001)
            seen.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert seen.wait(GUARD)  # the loop is blocked by this
        thread.join()


def test_local_mode_is_ready():
    aioray.init(local_mode=True)
    try:
        assert aioray.health()["ready"]
    finally:
        aioray.shutdown()


@everywhere
async def test_tasks_are_told_that_the_driver_knows():
    with pytest.raises(RuntimeError, match="driver"):
        await aioray.remote(aioray.health).remote()
