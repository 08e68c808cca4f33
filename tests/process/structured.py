"""A task that uses scopes and bound waits itself."""

from __future__ import annotations

import asyncio

import aioray

from . import jobs


async def leave_a_scope(started):
    """Use scopes and bound waits in a worker, and say what came of it."""
    sleep = aioray.remote(num_cpus=0)(jobs.sleep)
    same = aioray.remote(num_cpus=0)(jobs.same)
    found = []
    async with aioray.scope() as scope:
        ref = scope.submit(sleep, started)
    try:
        await ref
    except aioray.exceptions.TaskCancelledError as error:
        found.append(type(error).__name__)
    try:
        async with aioray.scope() as scope:
            scope.submit(sleep, started)
            scope.submit(aioray.remote(num_cpus=0)(jobs.fail))
            await asyncio.sleep(jobs.FOREVER)
    except* ValueError as group:
        found.append(type(group).__name__)
    ref = sleep.remote(started)
    try:
        await asyncio.wait_for(ref.bound(), 0.05)
    except TimeoutError as error:
        found.append(type(error).__name__)
        assert ref.done()
    found.append(await aioray.gather(same.remote(1), same.remote(2)))
    return found
