"""max_worker_rss and max_worker_age: who is replaced, by whom, and what nobody notices of it."""

from __future__ import annotations

import asyncio

import psutil
import pytest

import aioray

from . import hungry, jobs
from .hungry import MB
from .support import GUARD, everywhere

LIMIT = 150 * MB

keep = aioray.remote(max_retries=0)(hungry.keep)
pid = aioray.remote(max_retries=0)(jobs.pid)


async def until_another_than(old):
    """The pid of the next worker that runs a task."""
    async with asyncio.timeout(GUARD):
        while (new := await pid.remote()) == old:
            pass
    return new


async def until_gone(process):
    await asyncio.to_thread(process.wait, GUARD)


@everywhere(num_cpus=1, max_worker_rss=LIMIT)
async def test_a_worker_that_keeps_too_much_is_replaced_and_its_successor_is_there_first():
    first = await keep.remote(1)
    process = psutil.Process(first)
    assert await keep.remote(200) == first
    now = await until_another_than(first)
    await until_gone(process)
    assert await keep.remote() == now


@everywhere(num_cpus=1, max_worker_rss=LIMIT)
async def test_what_an_attempt_has_had_while_it_ran_does_not_count():
    use = aioray.remote(max_retries=0)(hungry.use)
    first = await use.remote(200)  # it is looked at for the first time
    for _ in range(30):  # long enough for a successor
        assert await pid.remote() == first
        await asyncio.sleep(0.01)


@everywhere(num_cpus=1, max_worker_rss=LIMIT)
async def test_an_actor_is_not_replaced():
    keeper = aioray.remote(hungry.Keeper).remote()
    first = await keeper.keep.remote(200)
    for _ in range(30):
        assert await keeper.keep.remote() == first
        await asyncio.sleep(0.01)


@everywhere(num_cpus=1, max_worker_age=0.3)
async def test_a_worker_is_replaced_when_it_is_old(started, gate):
    hold = aioray.remote(max_retries=0)(hungry.use)
    running = hold.remote(1, started.path, gate.path)
    first = int(await started.heard())
    process = psutil.Process(first)  # which lives as long as it has work, however old it is
    gate.tell()
    assert await running == first
    await until_another_than(first)
    await until_gone(process)


@everywhere(num_cpus=1, max_worker_age=0.2)
async def test_a_worker_that_is_old_finishes_what_it_runs(started, gate):
    hold = aioray.remote(max_retries=0)(hungry.use)
    running = hold.remote(1, started.path, gate.path)
    first = int(await started.heard())
    process = psutil.Process(first)
    # Needs no CPU, so it runs in the successor.
    aside = aioray.remote(num_cpus=0, max_retries=0)(jobs.pid)
    second = await aside.remote()
    assert second != first
    async with asyncio.timeout(GUARD):
        while await aside.remote() == second:
            pass  # until that is old too
    gate.tell()
    assert await running == first
    await until_gone(process)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"max_worker_rss": 0}, ValueError, "max_worker_rss must be a number of bytes >= 1"),
        ({"max_worker_rss": "1GB"}, TypeError, "max_worker_rss must be a number of bytes"),
        ({"max_worker_age": 0}, ValueError, "max_worker_age must be a finite number of seconds"),
    ],
)
def test_what_is_no_limit_is_refused_before_anything_starts(settings, error, text):
    with pytest.raises(error, match=text):
        aioray.init(**settings)
