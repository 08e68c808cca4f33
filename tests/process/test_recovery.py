"""Values that are lost are computed again, by the rules of retries, and put ones are an error."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal

import numpy as np
import pytest

import aioray
from aioray.exceptions import (
    EngineShutdownError,
    ObjectReconstructionFailedError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from aioray.testing import lose

from . import jobs
from .support import GUARD, everywhere, on_both_loops
from .test_errors import error_of
from .test_objects import COUNT, PAGES, settled, spill_folder, used

__all__ = ["spill_folder"]  # the fixture, used by all tests here

same = aioray.remote(jobs.same)
numbers = aioray.remote(jobs.numbers)
noted_numbers = aioray.remote(jobs.noted_numbers)
noted_sum = aioray.remote(jobs.noted_sum)
numbers_then = aioray.remote(jobs.numbers_then)
total = aioray.remote(jobs.total)
hold = aioray.remote(jobs.hold)

VALUE = jobs.numbers(COUNT)


def runs(path, what="ran"):
    return jobs.notes(path).count(what)


def is_value(array, start=0, times=1):
    return np.array_equal(array, times * jobs.numbers(COUNT, start))


async def made(ref):
    """The ref, as soon as its value is there."""
    await asyncio.wait([ref])
    return ref


async def lost(ref):
    """The ref, with its value made and lost."""
    lose(await made(ref))
    return ref


async def reason_of(ref):
    """Why it cannot be had."""
    error = await error_of(ref)
    assert isinstance(error, ObjectReconstructionFailedError), error
    assert error.reason in str(error)
    return error.reason.removeprefix("OBJECT_UNRECONSTRUCTABLE_")


# ---------------------------------------------------------------- who asks

ASK = {
    "await": lambda ref: ref,
    "wait_for": lambda ref: asyncio.wait_for(ref, GUARD),
    "gather": lambda ref: asyncio.gather(ref, ref),
    "as_future": lambda ref: ref.as_future(),
    "future": lambda ref: asyncio.wrap_future(ref.future()),
    "get": lambda ref: asyncio.to_thread(aioray.get, ref, timeout=GUARD),
    "get of a list": lambda ref: asyncio.to_thread(aioray.get, [ref, ref], timeout=GUARD),
    "wait": lambda ref: asyncio.to_thread(aioray.wait, [ref], timeout=GUARD),
    "asyncio.wait": lambda ref: asyncio.wait([ref], timeout=GUARD),
    "argument": same.remote,
    "argument by name": lambda ref: same.remote(value=ref),
}


@everywhere
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
async def test_whoever_asks_has_it_computed_again_once(ask, notes):
    ref = await lost(noted_numbers.remote(notes, COUNT))
    assert used() == 0
    assert runs(notes) == 1  # not before somebody asks
    found = await ask(ref)
    if ask is ASK["wait"]:
        assert found == ([ref], [])
    elif ask is ASK["asyncio.wait"]:
        assert found == ({ref}, set())
    else:
        assert all(map(is_value, found if isinstance(found, list | tuple) else [found]))
    assert runs(notes) == 2
    assert is_value(await ref)
    assert is_value(await ref)
    assert runs(notes) == 2


@everywhere
async def test_everybody_who_waits_is_served_by_one_run(notes):
    ref = await lost(noted_numbers.remote(notes, COUNT))
    waiting = [asyncio.ensure_future(asyncio.wait_for(ref, GUARD)) for _ in range(10)]
    tasks = [total.remote(ref) for _ in range(10)]
    blocked = [asyncio.to_thread(aioray.get, ref, timeout=GUARD) for _ in range(4)]
    assert all(map(is_value, await asyncio.gather(*waiting, *blocked)))
    assert await asyncio.gather(*tasks) == [jobs.total(VALUE)] * 10
    assert runs(notes) == 2


@everywhere
async def test_lost_value_is_not_ready(notes):
    ref = await lost(noted_numbers.remote(notes, COUNT))
    assert ref.done() is False
    with pytest.raises(asyncio.InvalidStateError):
        ref.result()
    assert await asyncio.to_thread(aioray.wait, [ref], timeout=0) == ([], [ref])
    assert is_value(await ref)


@everywhere
async def test_value_that_nobody_asks_for_is_not_computed_again(notes):
    ref = await lost(noted_numbers.remote(notes, COUNT))
    await asyncio.gather(*[same.remote(number) for number in range(50)])
    assert runs(notes) == 1
    del ref
    assert await settled() == 0
    assert runs(notes) == 1


@everywhere
async def test_array_that_is_looked_at_survives_the_loss(notes):
    ref = await made(noted_numbers.remote(notes, COUNT, 3))
    array = await ref
    lose(ref)
    assert is_value(array, 3)
    again = await ref
    assert is_value(again, 3)
    assert not np.shares_memory(array, again)
    assert is_value(array, 3)
    assert await settled(2 * PAGES) == 2 * PAGES
    del array, again, ref
    assert await settled() == 0


@everywhere
async def test_the_run_after_a_loss_is_another_attempt_of_the_same_task(tmp_path):
    @aioray.remote
    def who():
        context = jobs.context()
        return jobs.numbers(COUNT), context["task"], context["attempt"]

    ref = who.remote()
    _, task, attempt = await ref
    assert attempt == 0
    for number in (1, 2, 3):
        lose(ref)
        assert (await ref)[1:] == (task, number)
    assert ref.task_id() == task


# ---------------------------------------------------------------- graphs


@everywhere
async def test_chain_of_a_thousand_that_are_lost(notes):
    ref = numbers.remote(20_000)
    chain = [ref]
    for _ in range(1_000):
        ref = aioray.remote(jobs.noted_sum).remote(notes, ref, plus=1)
        chain.append(ref)
    await asyncio.wait(chain)
    for ref in chain:
        lose(ref)
    assert await settled() == 0
    assert np.array_equal(await chain[-1], jobs.numbers(20_000, 1_000))
    assert runs(notes, "sum") == 2_000
    assert np.array_equal(await chain[500], jobs.numbers(20_000, 500))
    assert runs(notes, "sum") == 2_000


@everywhere
async def test_chain_of_which_the_links_were_freed_long_ago(notes):
    ref = noted_numbers.remote(notes, COUNT)
    for _ in range(20):
        ref = noted_sum.remote(notes, ref, plus=1)
    await made(ref)
    assert await settled(PAGES) == PAGES  # the links hold no memory
    lose(ref)
    assert is_value(await ref, 20)
    assert (runs(notes), runs(notes, "sum")) == (2, 40)
    assert await settled(PAGES) == PAGES
    lose(ref)
    assert is_value(await ref, 20)
    assert (runs(notes), runs(notes, "sum")) == (3, 60)
    del ref
    assert await settled() == 0


@everywhere
async def test_diamond_has_its_tip_computed_once(notes):
    tip = noted_numbers.remote(notes, COUNT)
    left, right = noted_sum.remote(notes, tip, plus=1), noted_sum.remote(notes, tip, plus=2)
    bottom = noted_sum.remote(notes, left, right)
    await asyncio.wait([tip, left, right, bottom])
    refs = [tip, left, right, bottom]
    for ref in refs:
        lose(ref)
    assert np.array_equal(await bottom, 2 * VALUE + 3)
    assert (runs(notes), runs(notes, "sum")) == (2, 6)
    lose(bottom)
    del tip, left, right, refs, ref
    assert await settled() == 0
    assert np.array_equal(await bottom, 2 * VALUE + 3)
    assert (runs(notes), runs(notes, "sum")) == (3, 9)


@everywhere
async def test_only_what_is_lost_is_computed_again(notes):
    one = noted_numbers.remote(notes, COUNT)
    two = noted_sum.remote(notes, one, plus=1)
    three = await lost(noted_sum.remote(notes, two, plus=1))
    lose(one)
    assert is_value(await three, 2)
    assert (runs(notes), runs(notes, "sum")) == (1, 3)
    assert is_value(await one)
    assert (runs(notes), runs(notes, "sum")) == (2, 3)


@everywhere
async def test_one_of_two_results_is_lost(notes):
    task = aioray.remote(num_returns=3)(jobs.three_numbers)
    one, two, three = task.remote(notes, COUNT)
    await asyncio.wait([one, two, three])
    kept = await one
    lose(two)
    assert is_value(await one)
    assert runs(notes) == 1
    assert is_value(await two, 1)
    assert runs(notes) == 2
    assert np.shares_memory(await one, kept)  # what was not lost is as it was
    del three
    lose(one)
    lose(two)
    assert is_value(await two, 1)
    assert is_value(await one)
    assert runs(notes) == 3
    del one, two, kept
    assert await settled() == 0


@everywhere
async def test_large_one_of_two_results_is_lost(notes):
    large, small = aioray.remote(num_returns=2)(jobs.large_and_small).remote(notes, COUNT)
    await asyncio.wait([large, small])
    lose(large)
    assert await small == "small"
    assert runs(notes) == 1
    with pytest.raises(ValueError, match="100 KB"):
        lose(small)
    assert is_value(await large)
    assert runs(notes) == 2


@everywhere
async def test_results_may_be_smaller_the_next_time(notes):
    """1. Both results are large, and one is lost. 2. It comes again as a small one, and cannot be
    lost. 3. The other, still the first run's, is lost too.
    """

    @aioray.remote(num_returns=2)
    def shrinking(path):
        jobs.note(path, "ran")
        count = COUNT if len(jobs.notes(path)) == 1 else 3
        return jobs.numbers(count), jobs.numbers(count)

    first, second = shrinking.remote(notes)
    await asyncio.wait([first, second])
    lose(first)
    assert (await first).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="100 KB"):
        lose(first)
    assert is_value(await second)
    lose(second)
    assert (await second).tolist() == [0, 1, 2]
    assert runs(notes) == 3


@everywhere
async def test_arguments_of_every_kind_are_there_again(notes):
    """Small and large, direct, from `put` and from tasks, by position, by name and nested."""

    @aioray.remote
    def task(path, number, array, small, put, *, result, nested):
        jobs.note(path, "ran")
        assert isinstance(nested["ref"], aioray.ObjectRef)
        return array + number + small + put + result

    refs = (aioray.put(2), aioray.put(jobs.numbers(COUNT)), numbers.remote(COUNT))
    nested = {"ref": aioray.put("nested")}
    ref = task.remote(notes, 1, VALUE, *refs[:2], result=refs[2], nested=nested)
    await made(ref)
    for _ in range(2):
        lose(ref)
        assert np.array_equal(await ref, 3 * VALUE + 3)
    assert runs(notes) == 3


@everywhere
async def test_small_argument_of_put_is_there_again_though_its_ref_is_gone(notes):
    ref = noted_numbers.remote(notes, aioray.put(COUNT), same.remote(7))
    await made(ref)
    gc.collect()
    lose(ref)
    assert is_value(await ref, 7)


@everywhere
async def test_large_argument_of_put_must_still_be_there(notes):
    given = aioray.put(VALUE)
    ref = await lost(noted_sum.remote(notes, given, plus=1))
    assert is_value(await ref, 1)
    del given
    assert await settled(PAGES) == PAGES
    lose(ref)
    assert await reason_of(ref) == "PUT"
    assert await reason_of(total.remote(ref)) == "PUT"
    assert runs(notes, "sum") == 2


@everywhere
async def test_refs_inside_arguments_are_there_again(notes):
    @aioray.remote
    def task(path, refs):
        jobs.note(path, "ran")
        return refs, jobs.numbers(COUNT)

    inner = numbers.remote(COUNT, 3)
    ref = await lost(task.remote(notes, [inner]))
    ((found,), array) = await ref
    assert found == inner
    assert is_value(array)
    assert is_value(await found, 3)
    del found, array
    lose(ref)
    del inner
    (found,), _ = await ref
    assert is_value(await found, 3)
    assert runs(notes) == 3


# ---------------------------------------------------------------- the budget


@everywhere
@pytest.mark.parametrize(
    ("max_retries", "times", "reason"),
    [(0, 0, "RETRIES_DISABLED"), (1, 1, "MAX_ATTEMPTS_EXCEEDED"), (3, 3, "MAX_ATTEMPTS_EXCEEDED")],
)
async def test_losses_use_up_max_retries(max_retries, times, reason, notes):
    ref = await made(noted_numbers.options(max_retries=max_retries).remote(notes, COUNT))
    for _ in range(times):
        lose(ref)
        assert is_value(await ref)
    assert runs(notes) == 1 + times
    lose(ref)
    assert await reason_of(ref) == reason
    assert await reason_of(total.remote(ref)) == reason
    assert await reason_of(asyncio.to_thread(aioray.get, ref, timeout=GUARD)) == reason
    assert runs(notes) == 1 + times


@everywhere
async def test_unlimited_retries_never_run_out(notes):
    ref = await made(noted_numbers.options(max_retries=-1).remote(notes, COUNT))
    for _ in range(10):
        lose(ref)
        assert is_value(await ref)
    assert runs(notes) == 11


@everywhere
async def test_crashes_and_losses_share_one_budget(notes):
    """Two crashes of the first run, of three retries: one loss is forgiven, the next is not."""

    @aioray.remote(max_retries=3)
    def task(path):
        jobs.note(path, "ran")
        if len(jobs.notes(path)) <= 2:
            os._exit(42)
        return jobs.numbers(COUNT)

    ref = await lost(task.remote(notes))
    assert is_value(await ref)
    lose(ref)
    error = await error_of(ref)
    assert error.reason == "OBJECT_UNRECONSTRUCTABLE_MAX_ATTEMPTS_EXCEEDED"
    assert runs(notes) == 4


@everywhere
async def test_failure_of_one_lost_link_reaches_all_behind_it(notes):
    one = noted_numbers.options(max_retries=0).remote(notes, COUNT)
    two = noted_sum.remote(notes, one, plus=1)
    three = await lost(noted_sum.remote(notes, two, plus=1))
    lose(two)
    lose(one)
    assert await reason_of(three) == "RETRIES_DISABLED"
    assert await reason_of(two) == "RETRIES_DISABLED"
    assert await reason_of(one) == "RETRIES_DISABLED"
    assert (runs(notes), runs(notes, "sum")) == (1, 2)
    assert await settled() == 0


@everywhere
async def test_put_value_that_is_lost_is_an_error_for_everybody():
    ref = aioray.put(VALUE)
    dependent = total.remote(same.remote(ref))
    assert await dependent == jobs.total(VALUE)
    lose(ref)
    for ask in (lambda ref: ref, total.remote, lambda ref: total.remote(same.remote(ref))):
        assert await reason_of(ask(ref)) == "PUT"
    assert await reason_of(asyncio.to_thread(aioray.get, ref, timeout=GUARD)) == "PUT"
    assert await asyncio.to_thread(aioray.wait, [ref], timeout=0) == ([ref], [])
    assert used() == 0


# ---------------------------------------------------------------- the run after a loss


@everywhere
async def test_crash_in_the_run_after_a_loss_is_retried(notes):
    ref = await lost(numbers_then.remote(notes, COUNT, "crash once"))
    assert is_value(await ref)
    assert runs(notes) == 3


@everywhere
async def test_crashes_in_the_runs_after_a_loss_use_up_the_budget(notes):
    ref = await lost(numbers_then.options(max_retries=2).remote(notes, COUNT, "crash"))
    error = await error_of(ref)
    assert isinstance(error, WorkerCrashedError)
    assert runs(notes) == 3
    assert isinstance(await error_of(total.remote(ref)), WorkerCrashedError)


@everywhere
async def test_exception_in_the_run_after_a_loss_is_the_tasks_failure(notes):
    ref = await lost(numbers_then.remote(notes, COUNT, "raise"))
    for ask in (ref, total.remote(ref), ref):
        error = await error_of(ask)
        assert isinstance(error, ValueError)
        assert isinstance(error, RayTaskError)
        assert "not again" in str(error)
    assert runs(notes) == 2


@everywhere
async def test_exception_in_the_run_after_a_loss_is_retried_if_wanted(notes):
    task = numbers_then.options(retry_exceptions=[ValueError], max_retries=2)
    ref = await lost(task.remote(notes, COUNT, "raise once"))
    assert is_value(await ref)
    assert runs(notes) == 3
    lose(ref)
    assert await reason_of(ref) == "MAX_ATTEMPTS_EXCEEDED"


@everywhere
async def test_worker_killed_in_the_run_after_a_loss(notes, started, gate):
    ref = await lost(numbers_then.remote(notes, COUNT, "wait", started.path, gate.path))
    waiting = asyncio.ensure_future(asyncio.wait_for(ref, GUARD))
    os.kill(int(await started.heard()), signal.SIGKILL)
    await started.heard()
    gate.tell()
    assert is_value(await waiting)
    assert runs(notes) == 3


@everywhere
async def test_cancel_of_the_run_after_a_loss(notes, started):
    ref = await lost(numbers_then.remote(notes, COUNT, "sleep", started.path))
    dependent = total.remote(ref)
    await started.heard()
    outcome = await aioray.cancel(ref)
    assert outcome is aioray.CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(ref), TaskCancelledError)
    assert isinstance(await error_of(dependent), TaskCancelledError)
    assert runs(notes) == 2
    assert await settled() == 0


@everywhere
async def test_cancelled_task_is_not_run_again(notes, started, gate):
    """1. Cancel a task that finishes nevertheless; 2. lose its value; 3. ask for it."""

    @aioray.remote
    def stubborn(path, say):
        jobs.note(path, "ran")
        with contextlib.suppress(KeyboardInterrupt):
            jobs.say(say)
            jobs.time.sleep(jobs.FOREVER)
        return jobs.numbers(COUNT)

    ref = stubborn.remote(notes, started.path)
    await started.heard()
    assert await aioray.cancel(ref) is aioray.CancelOutcome.FINISHED_FIRST
    assert is_value(await ref)
    lose(ref)
    assert await reason_of(ref) == "TASK_CANCELLED"
    assert runs(notes) == 1


@everywhere
async def test_last_ref_dropped_during_the_run_after_a_loss(notes, started, gate):
    ref = await lost(numbers_then.remote(notes, COUNT, "wait", started.path, gate.path))
    waiting = asyncio.ensure_future(asyncio.wait_for(ref, GUARD))
    await started.heard()
    waiting.cancel()
    await asyncio.wait([waiting])
    del ref, waiting
    gate.tell()
    assert await settled() == 0
    assert await same.remote(1) == 1


@everywhere
async def test_loss_again_while_it_is_computed_again_is_refused(notes, started, gate):
    ref = await lost(numbers_then.remote(notes, COUNT, "wait", started.path, gate.path))
    with pytest.raises(ValueError, match="lost already"):
        lose(ref)
    waiting = asyncio.ensure_future(asyncio.wait_for(ref, GUARD))
    await started.heard()
    with pytest.raises(ValueError, match="lost"):
        lose(ref)
    gate.tell()
    assert is_value(await waiting)


@everywhere(num_cpus=1)
async def test_waiter_that_gives_up_before_the_run_harms_nobody(notes, started, gate):
    ref = await lost(noted_numbers.remote(notes, COUNT))
    running = hold.remote(started.path, gate.path)
    await started.heard()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ref, 0.001)
    with pytest.raises(aioray.exceptions.GetTimeoutError):
        await asyncio.to_thread(aioray.get, ref, timeout=0)
    gate.tell()
    await running
    assert is_value(await ref)
    assert runs(notes) == 2


@on_both_loops
async def test_shutdown_in_the_run_after_a_loss_fails_its_waiters(notes, started, gate):
    async with aioray.Engine(num_cpus=1):
        ref = await lost(numbers_then.remote(notes, COUNT, "wait", started.path, gate.path))
        waiting = ref.as_future()
        await started.heard()
    with pytest.raises(EngineShutdownError):
        await waiting
    with pytest.raises(EngineShutdownError):
        await ref


# ---------------------------------------------------------------- losses at odd moments


@everywhere(num_cpus=1)
async def test_argument_lost_while_its_task_is_queued(notes, started, gate):
    ref = await made(noted_numbers.remote(notes, COUNT))
    running = hold.remote(started.path, gate.path)
    await started.heard()
    tasks = [total.remote(ref) for _ in range(5)]
    lose(ref)
    gate.tell()
    await running
    assert await asyncio.gather(*tasks) == [jobs.total(VALUE)] * 5
    assert runs(notes) == 2


@everywhere(num_cpus=1)
async def test_put_argument_lost_while_its_task_is_queued(started, gate):
    """Each task either has the value in hand already or fails; nobody waits for ever."""
    ref = aioray.put(VALUE)
    running = hold.remote(started.path, gate.path)
    await started.heard()
    tasks = [total.remote(ref) for _ in range(20)]
    lose(ref)
    late = total.remote(ref)
    gate.tell()
    await running
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result == jobs.total(VALUE) or result.reason == "OBJECT_UNRECONSTRUCTABLE_PUT"
    assert await reason_of(late) == "PUT"


@everywhere
async def test_argument_lost_while_its_task_runs(notes, started, gate):
    ref = await made(noted_numbers.remote(notes, COUNT))
    task = aioray.remote(jobs.hold_argument).remote(started.path, gate.path, ref)
    await started.heard()
    lose(ref)
    others = [aioray.put(jobs.numbers(COUNT, 1_000 + number)) for number in range(20)]
    gate.tell()
    assert await task == jobs.total(VALUE)
    assert runs(notes) == 1
    assert is_value(await ref)
    assert runs(notes) == 2
    assert len(others) == 20


@everywhere
async def test_retry_of_a_task_whose_argument_was_lost_meanwhile(notes, started, gate):
    """1. A task runs with an argument; 2. that is lost; 3. its worker dies; 4. both run again."""
    ref = await made(noted_numbers.remote(notes, COUNT))
    task = aioray.remote(max_retries=1)(jobs.hold_argument).remote(started.path, gate.path, ref)
    pid = int(await started.heard())
    lose(ref)
    os.kill(pid, signal.SIGKILL)
    await started.heard()
    gate.tell()
    assert await task == jobs.total(VALUE)
    assert runs(notes) == 2


@everywhere
async def test_retry_of_a_task_whose_put_argument_was_lost_meanwhile(started, gate):
    ref = aioray.put(VALUE)
    task = aioray.remote(max_retries=1)(jobs.hold_argument).remote(started.path, gate.path, ref)
    pid = int(await started.heard())
    lose(ref)
    os.kill(pid, signal.SIGKILL)
    assert await reason_of(task) == "PUT"


@everywhere
async def test_what_cannot_be_lost_says_why(started, gate):
    pending = hold.remote(started.path, gate.path)
    await started.heard()
    with pytest.raises(ValueError, match="no value"):
        lose(pending)
    gate.tell()
    await pending
    small = numbers.remote(3)
    await small
    for ref in (small, aioray.put(1), pending):
        with pytest.raises(ValueError, match="100 KB"):
            lose(ref)
    failed = aioray.remote(jobs.fail).remote()
    await error_of(failed)
    with pytest.raises(ValueError, match="failed"):
        lose(failed)
    ref = aioray.put(VALUE)
    lose(ref)
    with pytest.raises(ValueError, match="cannot be lost"):
        lose(ref)
    for other in ("ref", None, [ref]):
        with pytest.raises(TypeError, match="ObjectRef"):
            lose(other)


# ---------------------------------------------------------------- lineage


@pytest.fixture
def little_lineage(monkeypatch):
    monkeypatch.setenv("RAY_max_lineage_bytes", "20000")


@everywhere(num_cpus=1)
async def test_oldest_lineage_is_given_up_when_it_is_too_much(little_lineage, notes):
    refs = [noted_numbers.remote(notes, 20_000, number) for number in range(40)]
    await asyncio.wait(refs)
    for ref in refs:
        lose(ref)
    assert await reason_of(refs[0]) == "LINEAGE_EVICTED"
    assert await reason_of(total.remote(refs[0])) == "LINEAGE_EVICTED"
    assert np.array_equal(await refs[-1], jobs.numbers(20_000, 39))
    kept = [ref for ref in refs if isinstance(await outcome_of(ref), np.ndarray)]
    assert 5 <= len(kept) <= 20
    assert kept == refs[-len(kept) :]  # the newest


async def outcome_of(ref):
    try:
        return await ref
    except ObjectReconstructionFailedError as error:
        return error


@everywhere
async def test_lineage_that_ends_with_its_refs_makes_room_for_other(little_lineage, notes):
    for _ in range(5):
        refs = [numbers.remote(20_000, number) for number in range(8)]
        await asyncio.wait(refs)
        del refs
        await settled()
    refs = [noted_numbers.remote(notes, 20_000, number) for number in range(8)]
    await asyncio.wait(refs)
    for ref in refs:
        lose(ref)
    for number, ref in enumerate(refs):
        assert np.array_equal(await ref, jobs.numbers(20_000, number))


@everywhere(object_store_memory=2 * 1024 * 1024)
async def test_large_arguments_kept_for_recovery_are_dropped_when_memory_is_short(notes):
    """They are only of use if the result is lost, so they neither block nor go to disk."""
    ref = await made(noted_sum.remote(notes, VALUE, plus=1))
    assert await settled(2 * PAGES) == 2 * PAGES  # the result, and the argument for another run
    lose(ref)
    assert is_value(await ref, 1)
    lose(ref)
    others = [aioray.put(jobs.numbers(COUNT, number)) for number in range(8)]
    assert await reason_of(ref) == "LINEAGE_EVICTED"
    assert len(others) == 8
