"""Scopes: no task outlives its block, and no worker is at one when the block has been left."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

import anyio
import pytest

import aioray
from aioray.exceptions import ActorDiedError, TaskCancelledError

from . import jobs, structured, troupe, yielding
from .cancelling import WAYS, cancelled_by
from .support import GUARD, ROOT, Watch, everywhere, on_both_loops

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)
sleep = aioray.remote(jobs.sleep)
clean_up = aioray.remote(jobs.clean_up)
swallow = aioray.remote(jobs.swallow_everything)
wait_for_child = aioray.remote(jobs.wait_for_child)
Player = aioray.remote(troupe.Player)
Chorus = aioray.remote(troupe.Chorus)


async def outcome_of(ref):
    try:
        return await ref
    except TaskCancelledError:
        return TaskCancelledError
    except ActorDiedError:
        return ActorDiedError


@everywhere
async def test_results_are_those_of_remote_whatever_is_submitted():
    pair = aioray.remote(num_returns=2)(jobs.several)
    async with aioray.scope() as scope:
        assert await scope.submit(same, 1) == 1
        assert await scope.submit(same, value=2) == 2
        assert await scope.submit(same.options(name="named"), scope.submit(same, 3)) == 3
        first, second = scope.submit(pair, 2)
        assert (await first, await second) == (0, 1)
        actor = scope.submit(Player)
        assert await scope.submit(actor.hear, "word") == ["word"]
        assert await scope.submit(actor.hear.options(name="named"), "more") == ["word", "more"]
        numbers = scope.submit(aioray.remote(yielding.count_async), 3)
        assert [await ref async for ref in numbers] == [0, 1, 2]


@everywhere
async def test_leaving_cancels_what_is_left_and_waits_for_it(started, notes):
    async with aioray.scope() as scope:
        ref = scope.submit(clean_up, started.path, notes)
        queued = scope.submit(same.options(num_cpus=2), 1)
        await started.heard()
    assert ref.done()
    assert queued.done()
    assert jobs.notes(notes) == ["cleaned up"]
    assert [await outcome_of(each) for each in (ref, queued)] == [TaskCancelledError] * 2


@everywhere
async def test_refs_that_are_ready_outlive_the_block():
    async with aioray.scope() as scope:
        ref = scope.submit(same, 1)
        await ref
    assert await ref == 1


@everywhere
async def test_scope_that_waits_has_every_result_when_it_is_left(started, gate):
    async with aioray.scope(on_exit="wait") as scope:
        held = scope.submit(aioray.remote(jobs.hold), started.path, gate.path)
        refs = [scope.submit(same, held) for _ in range(5)]
        gate.tell("value")
    assert all(ref.done() for ref in refs)
    assert await aioray.gather(*refs) == ["value"] * 5


@everywhere
async def test_join_waits_for_what_is_submitted_meanwhile():
    async with aioray.scope() as scope:
        refs = [scope.submit(same, 0)]

        async def submit_more():
            for number in range(1, 4):
                refs.append(scope.submit(same, number))
                await refs[-1]

        more = asyncio.create_task(submit_more())
        await scope.join()
        await more
        await scope.join()
    assert await aioray.gather(*refs) == [0, 1, 2, 3]


@everywhere
async def test_first_failure_cancels_the_siblings_and_comes_out_in_a_group(started, notes):
    with pytest.raises(ExceptionGroup) as info:
        async with aioray.scope() as scope:
            sibling = scope.submit(clean_up, started.path, notes)
            await started.heard()
            scope.submit(fail, "the first")
            await asyncio.sleep(GUARD)
    (error,) = info.value.exceptions
    assert isinstance(error, ValueError)
    assert "the first" in str(error)
    assert jobs.notes(notes) == ["cleaned up"]
    assert await outcome_of(sibling) is TaskCancelledError


@everywhere
async def test_failure_that_the_block_awaits_is_in_the_group_once():
    with pytest.raises(ExceptionGroup) as info:
        async with aioray.scope() as scope:
            await scope.submit(fail)
    assert len(info.value.exceptions) == 1
    with pytest.raises(ExceptionGroup) as info:
        async with aioray.scope(on_exit="wait") as scope:
            scope.submit(same, scope.submit(fail))  # it fails as its argument does
    assert len(info.value.exceptions) == 1


@everywhere
async def test_failure_of_the_block_cancels_the_tasks(started):
    with pytest.raises(ExceptionGroup) as info:
        async with aioray.scope() as scope:
            ref = scope.submit(sleep, started.path)
            await started.heard()
            raise LookupError("the block's own")
    (error,) = info.value.exceptions
    assert type(error) is LookupError
    assert await outcome_of(ref) is TaskCancelledError


@everywhere
async def test_failures_may_be_left_to_those_who_await():
    async with aioray.scope(on_exit="wait", cancel_on_failure=False) as scope:
        failed, well = scope.submit(fail), scope.submit(same, 1)
    assert await well == 1
    with pytest.raises(ValueError, match="bad"):
        await failed


@everywhere
async def test_cancelled_task_is_no_failure(started):
    async with aioray.scope() as scope:
        ref = scope.submit(sleep, started.path)
        await started.heard()
        await aioray.cancel(ref)
        assert await scope.submit(same, 1) == 1


@everywhere
async def test_scope_can_be_cancelled_by_its_block(started):
    reached = False
    async with aioray.scope() as scope:
        ref = scope.submit(sleep, started.path)
        await started.heard()
        scope.cancel()
        late = scope.submit(same, 1)
        await asyncio.sleep(GUARD)
        reached = True
    assert not reached
    assert asyncio.current_task().cancelling() == 0
    assert await outcome_of(ref) is TaskCancelledError
    assert await outcome_of(late) is TaskCancelledError


@everywhere
async def test_scopes_nest(started, pipes):
    other = pipes()
    with pytest.raises(ExceptionGroup) as info:
        async with aioray.scope() as outer:
            above = outer.submit(sleep, started.path)
            await started.heard()
            async with aioray.scope() as inner:
                below = inner.submit(sleep, other.path)
                await other.heard()
                outer.submit(fail.options(num_cpus=0))
                await below
    assert info.group_contains(ValueError, match="bad", depth=1)
    assert [await outcome_of(each) for each in (above, below)] == [TaskCancelledError] * 2


@pytest.mark.parametrize("how", WAYS)
@everywhere
async def test_surroundings_that_are_cancelled_take_the_tasks_along(how, started, pipes):
    child = pipes()

    async def work(began):
        async with aioray.scope() as scope:
            refs.append(scope.submit(wait_for_child, started.path, child.path))
            await started.heard()
            began.set()
            await asyncio.sleep(GUARD)

    refs = []
    await cancelled_by(how, work)
    assert await outcome_of(refs[0]) is TaskCancelledError
    assert asyncio.current_task().cancelling() == 0


@on_both_loops
async def test_task_that_does_not_listen_is_killed_when_its_grace_is_over(started):
    async with aioray.Engine(num_cpus=1):
        with anyio.move_on_after(GUARD) as surroundings:
            async with aioray.scope(grace=0.05) as scope:
                ref = scope.submit(swallow, started.path)
                pid = int(await started.heard())
                watch = Watch([pid])
                surroundings.cancel()
                await ref
        assert not watch.survivors()
        watch.close()


@on_both_loops
async def test_cancelled_again_while_it_waits_a_scope_waits_on(started, pipes):
    """1 cancelled: the task is interrupted. 2 cancelled again. 3 the grace is over: killed."""
    swallowed = pipes()

    async def work():
        async with aioray.scope(grace=0.5) as scope:
            refs.append(scope.submit(aioray.remote(jobs.swallow), started.path, swallowed.path))
            await asyncio.sleep(GUARD)

    refs = []
    async with aioray.Engine(num_cpus=1):
        task = asyncio.create_task(work())
        await started.heard()
        task.cancel()
        await swallowed.heard()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert refs[0].done()


@on_both_loops
async def test_cancelled_while_it_is_left_a_scope_says_so(started, pipes):
    swallowed = pipes()

    async def work():
        async with aioray.scope(grace=0.5) as scope:
            scope.submit(aioray.remote(jobs.swallow), started.path, swallowed.path)
            await started.heard()

    async with aioray.Engine(num_cpus=1):
        task = asyncio.create_task(work())
        await swallowed.heard()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@on_both_loops
async def test_actor_of_a_scope_is_gone_when_that_is_left(started):
    async with aioray.Engine(num_cpus=1) as engine:
        async with aioray.scope() as scope:
            actor = scope.submit(Player.options(max_restarts=-1))
            call = scope.submit(actor.spin, started.path)
            await started.heard()
            pids = set(engine.pids())
        assert len(pids - set(engine.pids())) == 1
        assert await outcome_of(call) in (TaskCancelledError, ActorDiedError)
        assert await outcome_of(actor.hear.remote("word")) is ActorDiedError


@on_both_loops
async def test_call_that_does_not_listen_is_given_up_with_a_warning(
    started, gate, caplog, monkeypatch
):
    monkeypatch.setattr("aioray.client.stopping.KILL_SECONDS", 0.0)
    async with aioray.Engine(num_cpus=1):
        actor = Player.remote()
        with caplog.at_level(logging.WARNING, "aioray"):
            async with aioray.scope(grace=0.05) as scope:
                scope.submit(actor.hold, started.path, gate.path)
                await started.heard()
        assert "an actor is not killed for one call" in caplog.text
        aioray.kill(actor)


@everywhere
async def test_scope_inside_a_task_ends_what_the_task_has_submitted(started):
    assert await aioray.remote(structured.leave_a_scope).remote(started.path) == [
        "TaskCancelledError",
        "ExceptionGroup",
        "TimeoutError",
        [1, 2],
    ]


@everywhere
async def test_what_could_not_end_with_a_scope_is_refused():
    scope = aioray.scope()
    with pytest.raises(RuntimeError, match="has not begun"):
        scope.submit(same, 1)
    async with scope:
        with pytest.raises(TypeError, match=r"aioray.remote\(same\)"):
            scope.submit(jobs.same, 1)
        with pytest.raises(TypeError, match=r"handle\.method"):
            scope.submit(scope.submit(Player))
        with pytest.raises(ValueError, match="num_returns=0"):
            scope.submit(same.options(num_returns=0), 1)
        with pytest.raises(ValueError, match="detached"):
            scope.submit(Player.options(name="x", lifetime="detached"))
        with pytest.raises(ValueError, match="get_if_exists"):
            scope.submit(Player.options(name="x", get_if_exists=True))
        with pytest.raises(TypeError):
            scope.submit(same)
    with pytest.raises(RuntimeError, match="was left"):
        scope.submit(same, 1)
    with pytest.raises(RuntimeError, match="one `async with` block"):
        async with scope:
            pass
    with pytest.raises(ValueError, match="on_exit"):
        aioray.scope(on_exit="stay")
    for grace in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="grace"):
            aioray.scope(grace=grace)
    with pytest.raises(TypeError, match="grace"):
        aioray.scope(grace="5")


@on_both_loops
async def test_shutdown_in_the_block_comes_out_as_a_failure(started):
    with pytest.raises(ExceptionGroup) as info:
        async with aioray.Engine(num_cpus=1) as engine, aioray.scope() as scope:
            scope.submit(sleep, started.path)
            await started.heard()
            await engine.shutdown()
            await asyncio.sleep(GUARD)
    assert info.group_contains(aioray.exceptions.EngineShutdownError)


def test_scopes_work_in_local_mode_too():
    async def main():
        async with aioray.scope() as scope:
            actor = scope.submit(Player)
            assert await scope.submit(actor.hear, "word") == ["word"]
        assert await outcome_of(actor.hear.remote("word")) is ActorDiedError
        async with aioray.scope() as scope:
            scope.submit(fail)
            await asyncio.sleep(GUARD)

    aioray.init(local_mode=True)
    try:
        with pytest.raises(ExceptionGroup) as info:
            asyncio.run(main())
        assert info.group_contains(ValueError, match="bad")
    finally:
        aioray.shutdown()


def test_anyio_is_loaded_where_a_scope_is_used_only():
    code = "import sys, aioray; aioray.init; assert 'anyio' not in sys.modules; aioray.scope()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_anyios_own_pytest_plugin_drives_structured_parts():
    """In a process of its own: in this one the plugin of asyncio takes every coroutine."""
    options = ["-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-c", os.devnull]
    program = ROOT / "tests" / "process" / "under_anyio.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(ROOT), str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
