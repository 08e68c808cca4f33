"""Orphans that come to a worker are reaped there; what user code has started is left to it."""

from __future__ import annotations

import asyncio
import errno

import psutil
import pytest

import aioray

from . import parents
from .support import GUARD, everywhere

WAYS = ["fork", "shell", "system"]
KINDS = {
    "sync": (parents.Parent, {}),
    "threaded": (parents.Parent, {"max_concurrency": 3}),
    "async": (parents.AsyncParent, {}),
}


async def children_but(pid, kept=()):
    """Those that a process still has after a bounded wait until it has no others than `kept`."""
    rest = {-1}
    async with asyncio.timeout(GUARD):
        while rest:
            await asyncio.sleep(0.01)
            rest = {child.pid for child in psutil.Process(pid).children()} - {*kept}
    return rest


@pytest.mark.parametrize("way", WAYS)
@everywhere(num_cpus=1)
async def test_orphans_of_tasks_are_reaped(way):
    daemonize = aioray.remote(parents.daemonize)
    pids = await asyncio.gather(*[daemonize.remote(way) for _ in range(20)])
    assert len(set(pids)) == 1
    assert await children_but(pids[0]) == set()


@pytest.mark.parametrize("kind", KINDS)
@everywhere
async def test_exit_statuses_stay_those_of_the_user(kind):
    """1. Children end that nobody has asked for. 2. Orphans of each way come, end and are reaped.
    3. Only now user code asks for the statuses."""
    cls, options = KINDS[kind]
    parent = aioray.remote(cls).options(**options).remote()
    kept = await parent.keep.remote()
    pid = await parent.pid.remote()
    for way in WAYS:
        await parent.daemonize.remote(way)
        await children_but(pid, kept)
    assert {child.status() for child in psutil.Process(pid).children()} == {psutil.STATUS_ZOMBIE}
    assert await parent.statuses.remote() == [7] * 4
    assert await children_but(pid) == set()


@everywhere
async def test_waiting_for_any_child_does_not_see_orphans():
    found = await aioray.remote(parents.wait_in_all_ways).remote()
    assert found == [errno.ECHILD] * 6 + [(0, 0), (0, 0), None, True]
