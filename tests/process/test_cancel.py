"""Cancelling: what a request does to a task in every stage of its life, and to nobody else."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

import aioray
from aioray import CancelOutcome
from aioray.exceptions import RayTaskError, TaskCancelledError

from . import jobs
from .support import GUARD, everywhere, on_both_loops
from .test_errors import error_of

same = aioray.remote(jobs.same)
sleep = aioray.remote(jobs.sleep)
hold = aioray.remote(jobs.hold)


@everywhere(num_cpus=1)
async def test_queued_task_never_runs(started, gate, notes):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    queued = aioray.remote(jobs.return_note).remote(notes, 1)
    assert await aioray.cancel(queued) is CancelOutcome.NOT_STARTED
    error = await error_of(queued)
    assert type(error) is TaskCancelledError
    assert str(error) == ""
    gate.tell("unharmed")
    assert await running == "unharmed"
    await same.remote(None)
    assert jobs.notes(notes) == []


@everywhere
async def test_task_that_waits_for_arguments_never_runs(started, gate, notes):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    waiting = aioray.remote(jobs.return_note).remote(notes, running)
    assert await aioray.cancel(waiting) is CancelOutcome.NOT_STARTED
    gate.tell()
    await running
    assert type(await error_of(waiting)) is TaskCancelledError
    assert jobs.notes(notes) == []


@pytest.mark.parametrize("job", [jobs.sleep, jobs.spin])
@everywhere
async def test_running_task_is_interrupted(job, started):
    ref = aioray.remote(job).remote(started.path)
    pid = int(await started.heard())
    assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
    error = await error_of(ref)
    assert isinstance(error, TaskCancelledError)
    assert isinstance(error, RayTaskError)
    assert f"ray::{job.__name__}()" in str(error)
    assert "was cancelled" in str(error)
    pids = await asyncio.gather(*[aioray.remote(jobs.pid).remote() for _ in range(20)])
    assert pid in pids, "the worker lives on"


@everywhere
async def test_interrupted_task_cleans_up(started, notes):
    ref = aioray.remote(jobs.clean_up).remote(started.path, notes)
    await started.heard()
    assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
    assert jobs.notes(notes) == ["cleaned up"]


@everywhere
async def test_value_that_an_interrupted_task_returns_is_its_result(started):
    ref = aioray.remote(jobs.partial_result).remote(started.path)
    await started.heard()
    assert await aioray.cancel(ref) is CancelOutcome.FINISHED_FIRST
    assert await ref == "partial"


@everywhere
async def test_error_that_an_interrupted_task_raises_is_its_error_and_not_retried(started):
    ref = aioray.remote(retry_exceptions=True)(jobs.fail_on_interrupt).remote(started.path)
    await started.heard()
    await aioray.cancel(ref)
    error = await error_of(ref)
    assert isinstance(error, ValueError)
    assert len(error.attempts) == 1


@everywhere
async def test_task_that_swallows_the_interrupt_is_killed_after_the_grace(started, pipes):
    swallowed = pipes()
    ref = aioray.remote(jobs.swallow).remote(started.path, swallowed.path)
    await started.heard()
    request = aioray.cancel(ref, grace=0.3)
    await swallowed.heard()
    assert await request is CancelOutcome.KILLED
    assert isinstance(await error_of(ref), TaskCancelledError)
    assert await same.remote(1) == 1


@everywhere
async def test_task_that_swallows_the_interrupt_goes_on_without_grace(started, pipes):
    """1. Cancel: it is interrupted once. 2. It goes on. 3. Force ends it, and the first request."""
    swallowed = pipes()
    ref = aioray.remote(jobs.swallow).remote(started.path, swallowed.path)
    await started.heard()
    patient = aioray.cancel(ref)
    await swallowed.heard()
    assert not ref.done()
    assert await aioray.cancel(ref, force=True) is CancelOutcome.KILLED
    assert await patient is CancelOutcome.KILLED
    assert type(await error_of(ref)) is TaskCancelledError


@pytest.mark.parametrize("job", [jobs.sleep, jobs.hold_the_gil, jobs.backtrack])
@everywhere
async def test_force_ends_whatever_the_task_does_and_is_no_crash(job, started):
    ref = aioray.remote(max_retries=3)(job).remote(started.path)
    await started.heard()
    assert await aioray.cancel(ref, force=True) is CancelOutcome.KILLED
    error = await error_of(ref)
    assert type(error) is TaskCancelledError
    assert len(error.attempts) == 1
    assert await same.remote(1) == 1


@everywhere
async def test_several_cancels_are_harmless(started):
    ref = sleep.remote(started.path)
    await started.heard()
    requests = [aioray.cancel(ref) for _ in range(10)]
    assert {await request for request in requests} == {CancelOutcome.INTERRUPTED}
    assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
    assert await same.remote(1) == 1


@everywhere
async def test_what_is_finished_cannot_be_cancelled():
    done, failed, put = same.remote("value"), aioray.remote(jobs.fail).remote(), aioray.put("put")
    await done
    await error_of(failed)
    for ref in (done, failed, put):
        assert await aioray.cancel(ref) is CancelOutcome.FINISHED_FIRST
        assert await aioray.cancel(ref, force=True) is CancelOutcome.FINISHED_FIRST
    assert (await done, await put) == ("value", "put")
    assert isinstance(await error_of(failed), ValueError)


@everywhere
async def test_only_refs_can_be_cancelled():
    for wrong in ([same.remote(1)], 1, None, same):
        with pytest.raises(TypeError, match="only supports object refs"):
            aioray.cancel(wrong)


@everywhere
async def test_interrupt_that_is_lost_in_a_finalizer_is_sent_again(started):
    ref = aioray.remote(jobs.lose_interrupt_in_del).remote(started.path)
    await started.heard()  # inside __del__
    request = aioray.cancel(ref)
    await started.heard()  # behind it: the first interrupt is gone
    assert await request is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(ref), TaskCancelledError)


@everywhere
async def test_cancel_while_arguments_are_loaded_is_kept_until_then(started, gate, notes):
    """1. The argument loads. 2. Cancel. 3. It goes on loading. 4. The body never runs."""
    argument = jobs.BlocksWhileLoading(started.path, gate.path)
    ref = aioray.remote(jobs.note_argument).remote(notes, argument)
    await started.heard()
    request = aioray.cancel(ref)
    assert await same.remote(1) == 1  # the engine has taken the request in
    gate.tell()
    assert await request is CancelOutcome.NOT_STARTED
    assert isinstance(await error_of(ref), TaskCancelledError)
    assert jobs.notes(notes) == []


@everywhere
async def test_coroutine_run_by_a_task_is_cancelled(started, notes):
    ref = aioray.remote(jobs.run_coroutine).remote(started.path, notes)
    await started.heard()
    assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(ref), TaskCancelledError)
    assert jobs.notes(notes) == ["cleaned up"]
    assert await same.remote(1) == 1


@everywhere(num_cpus=1)
async def test_cancel_harms_neither_the_task_before_nor_the_one_after(started, gate):
    refs = [same.remote(number) for number in range(100)]
    victim = sleep.remote(started.path)
    refs += [same.remote(number) for number in range(100, 200)]
    await started.heard()
    await aioray.cancel(victim)
    assert await asyncio.gather(*refs) == list(range(200))


def test_plain_script_cancels(session, started):
    ref = sleep.remote(started.path)
    started.hear()
    assert aioray.cancel(ref, grace=GUARD).result(GUARD) is CancelOutcome.INTERRUPTED
    with pytest.raises(TaskCancelledError):
        aioray.get(ref)


@pytest.mark.parametrize("seed", [1, 2])
@on_both_loops
async def test_storm_of_cancels_hits_only_those_that_were_meant(seed, notes):
    """Short tasks and cancels at random moments: no wrong hit, nothing lost, no worker dies."""
    rng = random.Random(seed)
    quick = aioray.remote(max_retries=0)(jobs.quick)
    async with aioray.Engine(num_cpus=2) as engine:
        await asyncio.gather(*[quick.remote(os.devnull, number) for number in range(40)])
        pids = engine.pids()
        refs, requests = {}, {}
        number = 0
        while number < 2_000:
            burst = [(number + i, quick.remote(notes, number + i)) for i in range(20)]
            number += 20
            refs.update(burst)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            rng.shuffle(burst)
            for one, ref in burst[: rng.randrange(1, 20)]:
                requests[one] = aioray.cancel(ref)
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
            if rng.random() < 0.5:
                await asyncio.wait([ref for _, ref in burst])
        assert len(requests) > 500
        outcomes = {one: await request for one, request in requests.items()}
        for one, ref in refs.items():
            outcome = outcomes.get(one, CancelOutcome.FINISHED_FIRST)
            if outcome is CancelOutcome.FINISHED_FIRST:
                assert await ref == one
            else:
                assert isinstance(await error_of(ref), TaskCancelledError)
        assert CancelOutcome.KILLED not in outcomes.values()
        assert engine.pids() == pids
    done = [int(line) for line in jobs.notes(notes)]
    assert len(done) == len(set(done)), "a task ran twice"
    never = {one for one, outcome in outcomes.items() if outcome is CancelOutcome.NOT_STARTED}
    assert not never & set(done), "a task ran that was reported as not started"


@on_both_loops
async def test_cancelled_bundles_do_not_fill_the_socket_for_good():
    """1. The worker stops. 2. So many bundles are sent and reclaimed that no more goes into its
    socket. 3. It goes on, with nothing to claim: it has to make room for what comes next."""
    same = aioray.remote(max_retries=0)(jobs.same)
    async with aioray.Engine(num_cpus=1) as engine:
        assert await same.remote(1) == 1
        template, worker = engine.pids()
        os.kill(worker, signal.SIGSTOP)
        try:
            for _ in range(10):
                ref = same.remote(os.urandom(50_000))
                assert await aioray.cancel(ref) is CancelOutcome.NOT_STARTED
            last = same.remote(2)
            await asyncio.sleep(0)  # it is submitted now, and has to wait for the socket
        finally:
            os.kill(worker, signal.SIGCONT)
        assert await last == 2
        assert engine.pids() == [template, worker]
