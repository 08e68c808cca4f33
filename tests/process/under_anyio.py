"""Structured parts, driven by anyio's own pytest plugin, on asyncio's loop and on uvloop.

Run by a test in a pytest without the plugin of asyncio.
"""

from __future__ import annotations

import anyio
import pytest

import aioray
from aioray.exceptions import TaskCancelledError

from . import jobs
from .support import GUARD

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)
sleep = aioray.remote(jobs.sleep)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def engine(anyio_backend):
    engine = aioray.Engine(num_cpus=2)
    engine.start()
    yield engine
    await engine.shutdown()


async def test_task_group_that_is_cancelled_takes_scopes_and_bound_waits_along(engine, started):
    refs = [sleep.remote(started.path)]

    async def in_scope():
        async with aioray.scope() as scope:
            refs.append(scope.submit(sleep, started.path))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(refs[0].bound)
        group.start_soon(in_scope)
        await started.heard()
        await started.heard()
        group.cancel_scope.cancel()
    for ref in refs:
        assert ref.done()
        with pytest.raises(TaskCancelledError):
            await ref


async def test_failure_comes_out_of_nested_groups_with_the_type_of_the_user(engine, started):
    seen = []
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(sleep.remote(started.path).bound)
            await started.heard()
            async with aioray.scope() as scope:
                scope.submit(fail)
                await anyio.sleep(GUARD)
    except* ValueError as found:
        seen.append(found)
    assert len(seen) == 1


async def test_gather_and_as_completed_below_a_deadline(engine):
    with anyio.fail_after(GUARD):
        refs = [same.remote(number) for number in range(10)]
        assert await aioray.gather(*refs) == list(range(10))
        assert {await ref async for ref in aioray.as_completed(refs)} == {*range(10)}
