"""Tasks that use tasks: what they submit, wait for, put, cancel and leave behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref

import numpy as np
import pytest

import aioray
from aioray import CancelOutcome
from aioray.exceptions import (
    GetTimeoutError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from . import jobs, nested
from .support import GUARD, everywhere, on_both_loops
from .test_errors import error_of
from .test_objects import COUNT, PAGES, settled, used

MIB = 1024 * 1024


@everywhere(num_cpus=1)
async def test_task_gets_what_it_has_submitted_on_a_single_cpu():
    assert await aioray.remote(nested.add_up).remote(100) == sum(range(100))
    assert await nested.fib.remote(6) == 8
    assert await aioray.remote(nested.chain).remote(20) == 20
    assert aioray.available_resources()["CPU"] == 1.0


@everywhere(num_cpus=1)
async def test_recursion_of_depth_fifty_finishes_on_one_cpu():
    assert await nested.dive.remote(50) == 50


@everywhere
async def test_many_parents_do_not_pile_up_before_their_children():
    refs = [aioray.remote(nested.add_up).remote(3) for _ in range(60)]
    assert [await ref for ref in refs] == [3] * 60


@on_both_loops
async def test_parents_that_wait_need_few_processes():
    async with aioray.Engine(num_cpus=2) as engine:
        refs = [aioray.remote(nested.add_up).remote(3) for _ in range(60)]
        most = 0
        for ref in refs:
            await ref
            most = max(most, len(engine.pids()))
    # The template, two parents, two children, two on their way, two that are about to leave.
    assert most <= 1 + 2 + 2 + 2 + 2


@everywhere
async def test_wait_in_a_task(pipes):
    gates = [pipe.path for pipe in pipes(2)]
    found = await aioray.remote(nested.wait_for_some).remote(gates)
    assert found == (["quick"], 2, [0, 2], 3)


@everywhere
async def test_value_made_of_a_childs_ref_goes_with_its_last_ref_without_the_collector():
    parent = aioray.remote(nested.child_ref).remote("inner")
    child = await parent
    assert await child == "inner"
    gone = [weakref.ref(each.entry) for each in (parent, child)]
    gc.disable()
    try:
        del parent, child
        async with asyncio.timeout(GUARD):
            while any(each() is not None for each in gone):  # the child is told of to its worker
                await nested.same.remote(None)
    finally:
        gc.enable()


@everywhere
async def test_refs_that_a_task_returns_outlive_it():
    ref = await aioray.remote(nested.child_ref).remote("inner")
    assert await ref == "inner"
    refs = (await aioray.remote(nested.child_refs).remote(["a", np.arange(COUNT)]))["refs"]
    first, second = [await ref for ref in refs]
    assert first == "a"
    assert np.array_equal(second, np.arange(COUNT))
    puts = await aioray.remote(nested.put_and_return).remote("put")
    assert [await ref for ref in puts] == ["put", "put"]
    assert puts[0] != puts[1]


@everywhere
async def test_refs_inside_arguments_can_be_used():
    refs = [aioray.put(1), nested.same.remote(np.arange(COUNT)), nested.add.remote(1, 1)]
    one, array, two = await aioray.remote(nested.get_inside).remote(refs)
    assert (one, two) == (1, 2)
    assert np.array_equal(array, np.arange(COUNT))
    inside = aioray.put([aioray.put("deep")])
    (ref,) = await aioray.remote(nested.get_inside).remote([inside])
    assert await ref[0] == "deep"
    for value in (5, np.arange(COUNT)):
        once, twice = await aioray.remote(nested.double_get).remote([aioray.put(value)])
        assert np.array_equal([once, once], twice)


@everywhere
async def test_ids_of_children_are_those_they_are_told_and_the_same_in_every_run():
    first = await aioray.remote(nested.child_ids).remote(3)
    refs, told, put = first
    assert refs == told
    assert len(set(refs)) == 3
    assert int.from_bytes(bytes.fromhex(put)[24:], "little") == 100_000_001
    assert put[48 - 8 : 48] == refs[0][48 - 8 : 48] == "01000000"


def test_ids_follow_from_the_program_alone():
    def run():
        aioray.init(num_cpus=1)
        try:
            return aioray.get(aioray.remote(nested.child_ids).remote(3))
        finally:
            aioray.shutdown()

    assert run() == run()


@everywhere
async def test_each_attempt_has_ids_of_its_own_for_what_it_submits(notes):
    await aioray.remote(nested.ids_and_crash).remote(notes, 2)
    lines = jobs.notes(notes)
    assert len(lines) == len({word for line in lines for word in line.split()}) / 2 == 3


@everywhere
async def test_errors_of_children_are_ordinary_exceptions_in_the_parent():
    found = await aioray.remote(nested.errors_of_children).remote()
    assert found == [(True, "mine"), 7, True]


@everywhere
async def test_error_of_a_child_that_escapes_is_the_parents_and_can_be_retried(notes):
    escape = aioray.remote(nested.let_escape)
    error = await error_of(escape.remote(notes))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert len(jobs.notes(notes)) == 1
    for runs, kind in enumerate((ValueError, RayTaskError), 1):  # its type, or that of any
        retried = escape.options(max_retries=2, retry_exceptions=[kind])
        assert isinstance(await error_of(retried.remote(notes)), ValueError)
        assert len(jobs.notes(notes)) == 1 + 3 * runs


@everywhere
async def test_get_in_a_task_gives_up_in_time(started, gate):
    found, ref = await aioray.remote(nested.too_late).remote(started.path, gate.path)
    assert found == ["Get timed out: some object(s) not ready."] * 2
    await started.heard()
    gate.tell("late")
    assert await ref == "late"


@everywhere
async def test_parent_that_waits_is_interrupted_at_once_and_its_child_is_not(started, gate):
    parent = aioray.remote(nested.hold_child).remote(started.path, gate.path)
    worker = int(await started.heard())
    assert await aioray.cancel(parent, recursive=False) is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(parent), TaskCancelledError)
    os.kill(worker, 0)
    gate.tell("unharmed")
    assert await nested.same.remote(1) == 1


@everywhere
async def test_recursive_cancel_ends_the_whole_family(started, gate):
    """The grandchild is interrupted while it listens; nobody ever tells it to go on."""
    parent = aioray.remote(nested.hold_child_twice).remote(started.path, gate.path)
    await started.heard()
    assert await aioray.cancel(parent) is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(parent), TaskCancelledError)
    # Both CPUs are free again.
    await asyncio.gather(nested.same.remote(1), nested.same.remote(2))
    while aioray.available_resources().get("CPU") != 2.0:
        await nested.same.remote(None)


async def raised_by(how):
    """A ref whose error is the TaskCancelledError of a task that it has waited for."""
    if how == "task":
        return aioray.remote(nested.get_what_is_cancelled).remote()
    if how == "coroutine":
        return aioray.remote(nested.await_what_is_cancelled).remote()
    if how == "generator":
        items = aioray.remote(nested.yield_and_get_what_is_cancelled).remote()
        await anext(items)
        return await anext(items)
    asynchronous = how == "asynchronous method"
    of = nested.AwaitsWhatIsCancelled if asynchronous else nested.GetsWhatIsCancelled
    return aioray.remote(of).options(num_cpus=0).remote().get.remote()


@pytest.mark.parametrize("how", ["task", "coroutine", "generator", "method", "asynchronous method"])
@everywhere(num_cpus=1)
async def test_who_cancels_what_has_failed_by_another_cancel_is_told_that_it_is_cancelled(how):
    ref = await raised_by(how)
    assert isinstance(await error_of(ref), TaskCancelledError)
    assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED


@everywhere(num_cpus=1)
async def test_cancelled_parent_that_raises_the_cancel_of_its_child_was_interrupted(started, gate):
    """Bug: it was told FINISHED_FIRST, although the ref raises TaskCancelledError."""
    parent = aioray.remote(nested.raise_another_cancel_when_interrupted).remote(
        started.path, gate.path
    )
    await started.heard()
    assert await aioray.cancel(parent) is CancelOutcome.INTERRUPTED
    error = await error_of(parent)
    assert isinstance(error, TaskCancelledError)
    assert [attempt.error_type for attempt in error.attempts] == ["TASK_CANCELLED"]
    assert await aioray.cancel(parent) is CancelOutcome.INTERRUPTED


@everywhere
async def test_what_a_cancelled_task_submits_never_runs(started, gate, notes):
    submit = aioray.remote(nested.submit_when_interrupted)
    parent = submit.remote(started.path, gate.path, notes)
    await started.heard()
    assert await aioray.cancel(parent) is CancelOutcome.FINISHED_FIRST
    assert await parent == "cancelled before it ran"
    assert jobs.notes(notes) == []


@everywhere
async def test_crash_of_a_parent_ends_children_that_nobody_else_wants(started, pipes, watch):
    gate, when = pipes(2)
    crash = aioray.remote(max_retries=0)(nested.crash_with_child)
    parent = crash.remote(started.path, gate.path, when.path)
    child = watch(int(await started.heard()))
    when.tell("now")
    assert (await error_of(parent)).exit_code == 5
    assert child.survivors() == []


@everywhere
async def test_crash_of_a_parent_leaves_children_alone_that_others_want(
    started, gate, pipes, tmp_path
):
    other = pipes()
    crash = aioray.remote(max_retries=0)(nested.crash_after_handing_on)
    parent = crash.remote(started.path, gate.path, other.path)
    await started.heard()
    other.tell("go")
    assert isinstance(await error_of(parent), WorkerCrashedError)
    (line,) = jobs.notes(gate.path + "-ref")
    waiting = aioray.cloudpickle.loads(bytes.fromhex(line))
    gate.tell("wanted")
    assert await waiting == ["wanted"]


@everywhere
async def test_parent_killed_while_it_waits_is_retried(started, gate):
    parent = aioray.remote(nested.hold_child_twice).remote(started.path, gate.path)
    worker = int(await started.heard())
    os.kill(worker, signal.SIGKILL)  # the grandchild: it is run again, and nobody else is harmed
    await started.heard()
    gate.tell("second")
    assert await parent == "second"


@everywhere(num_cpus=1)
async def test_cpu_of_a_parent_that_waits_is_free_for_others(started, gate):
    parent = aioray.remote(nested.hold_child).remote(started.path, gate.path)
    await started.heard()
    assert "CPU" not in aioray.available_resources()  # the child has it, the parent has none
    gate.tell("done")
    assert await parent == "done"
    while aioray.available_resources().get("CPU") != 1.0:
        await nested.same.remote(None)


@everywhere
async def test_what_a_task_puts_is_freed_with_its_last_ref_while_the_task_runs(started, gate):
    ref = aioray.remote(nested.put_large).remote(started.path, gate.path, COUNT)
    assert float(await started.heard()) == jobs.total(jobs.numbers(COUNT))
    assert used() == PAGES
    gate.tell("drop it")
    assert await started.heard() == "dropped"
    assert await settled() == 0
    gate.tell("end")
    assert await ref == "done"


@everywhere(object_store_memory=20 * MIB)
async def test_task_can_pass_through_far_more_than_the_store_holds():
    expected = sum(2 * jobs.total(jobs.numbers(125_000, number)) for number in range(50))
    assert await aioray.remote(nested.many_large).remote(50, 125_000) == expected
    assert await aioray.remote(nested.large_loop).remote(50, 125_000) == list(range(50))
    assert await settled() == 0


@everywhere
async def test_threads_of_a_task_can_ask_at_the_same_time():
    assert await aioray.remote(nested.in_threads).remote(20) == list(range(1, 21))


@everywhere
async def test_refs_can_be_awaited_in_a_task():
    found = await aioray.remote(nested.in_a_loop).remote(20)
    total = jobs.total(jobs.numbers(50_000))
    assert found == ([*range(1, 21)], [*range(1, 21)], [1, 2], "awaited", total, "future")


@everywhere
async def test_one_that_gives_up_awaiting_in_a_task_does_not_harm_the_child(started, gate):
    (ref,) = await aioray.remote(nested.give_up_waiting).remote(started.path, gate.path)
    await started.heard()
    gate.tell("value")
    assert await ref == "value"


@pytest.mark.parametrize("how", ["result", "await"])
@everywhere
async def test_task_can_cancel_its_child(how, started, pipes):
    gate, when = pipes(2)
    cancel = aioray.remote(nested.cancel_child)
    parent = cancel.remote(started.path, gate.path, when.path, how)
    await started.heard()
    when.tell("now")
    assert await parent == ("INTERRUPTED", "RayTaskError(TaskCancelledError)")


@everywhere
async def test_process_that_a_task_forks_lets_go_of_nothing():
    total = await aioray.remote(nested.fork_while_holding).remote(COUNT)
    assert total == jobs.total(jobs.numbers(COUNT))
    assert await settled() == 0


@everywhere
async def test_task_is_in_the_session_of_its_driver():
    found = await aioray.remote(nested.about_the_session).remote()
    assert found[0] is True
    assert "init twice" in found[1]
    assert found[2:] == (2.0, True, True, "still here")


@everywhere
async def test_lost_result_of_a_child_is_computed_again():
    assert await aioray.remote(nested.lose_and_get).remote(COUNT) is True


@everywhere
async def test_functions_made_in_a_task_carry_refs_and_can_change():
    values = [1, "two"]
    found, before, after = await aioray.remote(nested.closures).remote(values)
    assert (found, before, after) == (values, "before", "after")


@everywhere(num_cpus=1)
async def test_ref_that_a_worker_keeps_keeps_the_value():
    ref = aioray.put(np.arange(COUNT))
    await aioray.remote(nested.keep_ref).remote([ref])
    del ref
    gc.collect()
    assert used() > 0
    assert np.array_equal(await aioray.remote(nested.use_kept).remote(), np.arange(COUNT))
    assert await settled() == 0


@everywhere
async def test_code_of_a_function_is_loaded_once_in_each_worker(notes):
    assert await aioray.remote(nested.call_often).remote(notes, 50)
    pids = jobs.notes(notes)
    assert len(pids) == len(set(pids))


@everywhere
async def test_ref_tells_in_a_task_whether_it_is_ready(started, gate):
    found = await aioray.remote(nested.report_readiness).remote(started.path, gate.path)
    assert found == (False, True, True, 1)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("arguments", "TypeError: add.remote(): missing a required argument: 'a'"),
        ("unpicklable", "TypeError: Could not serialize the arguments of same.remote():"),
        ("put", "TypeError: Could not serialize the value given to put():"),
        ("get", "ValueError: Invalid type of object refs: int."),
        ("function", "TypeError: Could not serialize the function '<lambda>':"),
    ],
)
def test_wrong_calls_in_a_task_are_refused_there(session, how, says):
    text = aioray.get(aioray.remote(nested.call_wrongly).remote(how))
    assert text.startswith(says), text


def test_get_from_a_plain_script_times_out_while_a_tree_of_tasks_runs(session, started, gate):
    ref = aioray.remote(nested.hold_child_twice).remote(started.path, gate.path)
    started.hear()
    with pytest.raises(GetTimeoutError):
        aioray.get(ref, timeout=0.01)
    gate.tell("x")
    assert aioray.get(ref) == "x"


@everywhere
async def test_children_inherit_the_environment_of_their_parent_and_add_to_it():
    outer = aioray.remote(runtime_env={"env_vars": {"OUTER": "1"}})(nested.environment_of_child)
    assert await outer.remote() == ["1", None]
    assert await outer.remote(runtime_env={"env_vars": {"INNER": "2"}}) == ["1", "2"]


@everywhere(num_cpus=1)
async def test_views_that_a_forked_process_drops_stay_with_their_task():
    ref = aioray.put(np.arange(COUNT))
    assert await aioray.remote(nested.fork_and_forget).remote(ref) == 0
    del ref
    assert await settled(PAGES) == PAGES
    assert await aioray.remote(jobs.kept).remote("slice") == np.arange(COUNT)[10:].sum()
    await aioray.remote(jobs.drop).remote("slice")
    await aioray.remote(jobs.drop).remote("forked")
    assert await settled() == 0


@everywhere
async def test_process_that_a_task_forks_is_told_that_it_cannot_ask():
    text = await aioray.remote(nested.ask_in_a_fork).remote()
    assert text.startswith("A process that a task has forked cannot use aioray")


@on_both_loops
async def test_drain_lets_parents_finish_with_their_children(started, gate):
    async with aioray.Engine(num_cpus=1) as engine:
        ref = aioray.remote(nested.submit_when_told).remote(started.path, gate.path)
        await started.heard()
        end = asyncio.create_task(engine.shutdown(drain=30.0))
        await asyncio.sleep(0)  # the drain has begun
        with pytest.raises(aioray.exceptions.EngineShutdownError):
            await nested.same.remote("too late")
        gate.tell("now")
        assert await ref == "in time"
        await end


@everywhere
async def test_function_whose_first_call_was_refused_can_be_called_again():
    assert await aioray.remote(nested.submit_after_failing_to).remote() == "second"
