"""`aioray.gather` and `aioray.as_completed`: as asyncio's, with no asyncio task for each ref."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest

import aioray

from . import jobs
from .support import GUARD, everywhere, on_both_loops

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)
hold = aioray.remote(jobs.hold)
sleep = aioray.remote(jobs.sleep)


@everywhere
async def test_gather_gives_the_values_in_order():
    assert await aioray.gather() == []
    refs = [same.remote(number) for number in range(200)]
    assert await aioray.gather(*refs) == list(range(200))
    assert await aioray.gather(*refs, *refs[:2]) == [*range(200), 0, 1]
    large = np.arange(1_000_000)
    assert [each.sum() for each in await aioray.gather(same.remote(large), aioray.put(large))] == [
        large.sum()
    ] * 2


@everywhere
async def test_gather_raises_the_first_failure_and_the_others_go_on(started, gate):
    held = hold.remote(started.path, gate.path)
    await started.heard()
    with pytest.raises(ValueError, match="bad"):
        await aioray.gather(held, fail.remote())
    with pytest.raises(ValueError, match="bad"):
        failed = fail.remote()
        await asyncio.wait([failed])
        await aioray.gather(held, failed)
    assert not held.done()
    gate.tell("value")
    assert await held == "value"


@everywhere
async def test_gather_returns_exceptions_if_asked():
    failed, one = await aioray.gather(fail.remote(), same.remote(1), return_exceptions=True)
    assert isinstance(failed, ValueError)
    assert one == 1


@everywhere
async def test_cancelled_gather_leaves_the_tasks_alone(started, gate):
    held = hold.remote(started.path, gate.path)
    await started.heard()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await aioray.gather(held, same.remote(1))
    gate.tell("value")
    assert await held == "value"


@everywhere
async def test_as_completed_gives_refs_as_they_become_ready(started, gate):
    held = hold.remote(started.path, gate.path)
    failed = fail.remote()
    quick = [same.remote(number) for number in range(20)]
    seen = []
    async for ref in aioray.as_completed([held, *quick, failed]):
        assert ref.done()
        seen.append(ref)
        if len(seen) == 21:
            gate.tell("value")
    assert seen[-1] is held
    assert set(seen) == {held, failed, *quick}


@everywhere
async def test_as_completed_gives_a_ref_once_and_nothing_for_nothing():
    ref = same.remote(1)
    assert [each async for each in aioray.as_completed([ref, ref])] == [ref]
    assert [each async for each in aioray.as_completed(iter(()))] == []


@everywhere
async def test_as_completed_stops_when_its_time_is_over(started, gate):
    held = hold.remote(started.path, gate.path)
    done = aioray.put(1)
    seen = []
    with pytest.raises(TimeoutError, match=r"1 refs were not ready after 0\.01 seconds"):
        async for ref in aioray.as_completed([held, done], timeout=0.01):
            seen.append(ref)  # noqa: PERF401 - it is left by an error
    assert seen == [done]
    await started.heard()
    gate.tell("value")
    assert await held == "value"


@everywhere
async def test_iteration_that_is_left_forgets_the_rest(started, gate):
    held = hold.remote(started.path, gate.path)

    async def leave():
        async for _ in aioray.as_completed([held, same.remote(1)]):
            break

    await leave()
    gc.collect()
    gate.tell("value")
    assert await held == "value"


def test_for_blocks_in_plain_scripts(started, gate):
    aioray.init(num_cpus=2)
    try:
        held = hold.remote(started.path, gate.path)
        quick = [same.remote(number) for number in range(50)]
        seen = []
        for ref in aioray.as_completed([held, *quick]):
            seen.append(aioray.get(ref))
            if len(seen) == 50:
                gate.tell("value")
        assert seen[-1] == "value"
        assert sorted(seen[:-1]) == list(range(50))
        held = hold.remote(started.path, gate.path)
        with pytest.raises(TimeoutError, match="not ready after"):
            list(aioray.as_completed([held], timeout=0.01))
        gate.tell("value")
        aioray.get(held)
    finally:
        aioray.shutdown()


@on_both_loops
async def test_for_would_block_the_loop_and_says_so():
    async with aioray.Engine(num_cpus=1):
        with pytest.raises(RuntimeError, match="would block the event loop"):
            list(aioray.as_completed([aioray.remote(jobs.sleep).remote("/dev/null")]))


@everywhere
async def test_only_refs_are_taken():
    ref = same.remote(1)
    for wrong in ([ref], ref.bound, 1):
        with pytest.raises(TypeError, match=r"gather\(\*refs\)"):
            aioray.gather(wrong)  # type: ignore[unused-coroutine]
    with pytest.raises(TypeError, match=r"\[ref\]"):
        aioray.as_completed(ref)
    with pytest.raises(TypeError, match="one of those given is an object of type int"):
        aioray.as_completed([ref, 1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="timeout"):
        aioray.as_completed([ref], timeout=-1)


@on_both_loops
async def test_no_asyncio_task_is_made_for_a_ref(started, gate):
    async with aioray.Engine(num_cpus=1):
        held = hold.remote(started.path, gate.path)
        refs = [held, *(same.remote(number) for number in range(100))]
        before = len(asyncio.all_tasks())
        waiting = asyncio.create_task(aioray.gather(*refs))
        await started.heard()
        assert len(asyncio.all_tasks()) == before + 1
        gate.tell("value")
        async with asyncio.timeout(GUARD):
            assert await waiting == ["value", *range(100)]
