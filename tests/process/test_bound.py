"""`ref.bound()`: who is cancelled takes the task along, and goes on when its worker is free."""

from __future__ import annotations

import asyncio

import anyio
import pytest

import aioray
from aioray.exceptions import RayTaskError, TaskCancelledError

from . import jobs, troupe
from .cancelling import WAYS, cancelled_by
from .support import GUARD, Watch, everywhere, on_both_loops

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)
sleep = aioray.remote(jobs.sleep)
clean_up = aioray.remote(jobs.clean_up)
wait_for_child = aioray.remote(jobs.wait_for_child)


@everywhere
async def test_value_and_error_are_those_of_the_task():
    assert await same.remote(1).bound() == 1
    with pytest.raises(ValueError, match="bad"):
        await fail.remote().bound()
    assert await aioray.put(2).bound() == 2
    assert await asyncio.create_task(same.remote(3).bound()) == 3
    with pytest.raises(RayTaskError, match="mine"):  # the task's, and no cancellation here
        await aioray.remote(jobs.raise_cancelled).remote().bound()


@pytest.mark.parametrize("how", WAYS)
@everywhere
async def test_whoever_is_cancelled_takes_the_task_along_with_its_children(how, started, pipes):
    ref = wait_for_child.remote(started.path, pipes().path)

    async def work(began):
        async def watch():
            await started.heard()
            began.set()

        watching = asyncio.create_task(watch())
        try:
            await ref.bound()
        finally:
            assert ref.done()
            await watching

    await cancelled_by(how, work)
    with pytest.raises(TaskCancelledError):
        await ref
    assert asyncio.current_task().cancelling() == 0


@everywhere
async def test_task_has_cleaned_up_when_the_time_out_is_raised(started, notes):
    ref = clean_up.remote(started.path, notes)
    await started.heard()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ref.bound()
    assert jobs.notes(notes) == ["cleaned up"]


@everywhere
async def test_task_that_waits_never_begins(started, gate, notes):
    busy = [aioray.remote(jobs.hold).remote(started.path, gate.path) for _ in range(2)]
    waiting = asyncio.create_task(clean_up.remote(started.path, notes).bound())
    await started.heard()
    await started.heard()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.tell()
    gate.tell()
    await asyncio.gather(*busy)
    assert jobs.notes(notes) == []


@everywhere
async def test_other_awaiters_learn_that_the_task_was_cancelled(started):
    ref = sleep.remote(started.path)
    others = [asyncio.create_task(ref.bound()), asyncio.ensure_future(ref)]
    waiting = asyncio.create_task(ref.bound())
    await started.heard()
    waiting.cancel()
    outcomes = await asyncio.gather(*others, waiting, return_exceptions=True)
    assert all(isinstance(outcome, TaskCancelledError) for outcome in outcomes[:2])
    assert type(outcomes[2]) is asyncio.CancelledError


@on_both_loops
async def test_what_does_not_listen_is_killed_when_its_grace_is_over(started):
    async with aioray.Engine(num_cpus=1):
        ref = aioray.remote(jobs.swallow_everything).remote(started.path)
        watch = Watch([int(await started.heard())])
        with anyio.move_on_after(0):
            await ref.bound(grace=0.05)
        assert not watch.survivors()
        watch.close()
        assert await same.remote(1) == 1


@everywhere
async def test_async_actor_is_asked_to_end_the_call_and_lives_on(started, notes):
    actor = aioray.remote(troupe.Chorus).remote()
    waiting = asyncio.create_task(actor.wait_for_cancel.remote(started.path, notes).bound())
    pid = int(await started.heard())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert jobs.notes(notes) == ["cancelled"]
    assert await actor.pid.remote() == pid


@everywhere
async def test_wait_that_is_over_when_it_is_cancelled_cancels_nothing():
    ref = same.remote(1)
    await ref
    waiting = asyncio.create_task(ref.bound())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await ref == 1


@everywhere
async def test_grace_is_checked_at_the_call():
    for grace, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="grace"):
            same.remote(1).bound(grace=grace)


@everywhere
async def test_shielded_wait_does_not_spin(started, pipes, monkeypatch):
    """anyio raises a cancellation at every turn of the loop, unless something shields from it."""
    swallowed = pipes()
    ref = aioray.remote(jobs.swallow).remote(started.path, swallowed.path)
    await started.heard()
    waits = []
    wait = asyncio.wait

    async def counted(*args, **kwargs):
        waits.append(args)
        return await wait(*args, **kwargs)

    monkeypatch.setattr(asyncio, "wait", counted)
    with anyio.move_on_after(0):
        await ref.bound(grace=0.2)
    assert len(waits) < 5


@everywhere
async def test_bound_waits_in_groups_of_both_kinds(started):
    with pytest.raises(ExceptionGroup) as info:
        async with asyncio.TaskGroup() as group:
            first = sleep.remote(started.path)
            group.create_task(first.bound())
            await started.heard()
            group.create_task(fail.remote().bound())
            await asyncio.sleep(GUARD)
    assert info.group_contains(ValueError, match="bad")
    assert first.done()
    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as nursery:
            second = sleep.remote(started.path)
            nursery.start_soon(second.bound)
            await started.heard()
            nursery.start_soon(fail.remote().bound)
            await asyncio.sleep(GUARD)
    assert second.done()
