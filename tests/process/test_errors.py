"""What a task raises, as its callers and its dependents see it."""

from __future__ import annotations

import asyncio
import pickle

import pytest

import aioray
from aioray.exceptions import (
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from . import jobs
from .support import everywhere

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)


async def error_of(ref):
    try:
        await ref
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the subject
        return error
    raise AssertionError("there was no error")


@everywhere
async def test_error_has_its_own_type_and_tells_where_it_was_raised():
    error = await error_of(fail.remote("the real error"))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert type(error).__name__ == "RayTaskError(ValueError)"
    assert type(error.cause) is ValueError
    assert error.args == (error.cause,)
    text = str(error)
    assert text.startswith("ray::fail() (pid=")
    assert "raise ValueError(message)" in text
    assert text.endswith("ValueError: the real error")
    assert "serve.py" not in text
    assert "Traceback (most recent call last)" not in text


@everywhere
async def test_attributes_of_the_cause_are_found_on_the_error():
    error = await error_of(aioray.remote(jobs.fail_custom).remote())
    assert isinstance(error, jobs.CustomError)
    assert error.code == 42


@everywhere
async def test_each_await_raises_a_fresh_instance():
    ref = fail.remote()
    assert await error_of(ref) is not await error_of(ref)


@everywhere
async def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(await error_of(fail.remote())))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert len(error.attempts) == 1


@everywhere
async def test_chained_causes_and_groups_are_told():
    text = str(await error_of(aioray.remote(jobs.fail_chained).remote()))
    assert "KeyError: 'inner'" in text
    assert text.endswith("ValueError: outer")
    caught = []
    try:
        await aioray.remote(jobs.fail_group).remote()
    except* TypeError as group:
        caught.extend(group.exceptions)
    except* ValueError:
        pass
    assert [str(error) for error in caught] == ["two"]


@everywhere
async def test_base_exceptions_are_errors_like_others():
    error = await error_of(aioray.remote(jobs.fail_base).remote())
    assert isinstance(error, RayTaskError)
    assert isinstance(error.cause, GeneratorExit)
    assert await same.remote(1) == 1


@everywhere
async def test_stop_iteration_does_not_end_the_coroutine_silently():
    error = await error_of(aioray.remote(jobs.stop).remote())
    assert "StopIteration" in repr(error) + str(error)


@everywhere
async def test_cause_that_cannot_be_pickled_comes_without_what_is_to_blame():
    error = await error_of(aioray.remote(jobs.fail_with_lock).remote())
    assert isinstance(error, jobs.HoldsLockError)
    assert error.cause.args == ("locked",)
    assert not hasattr(error, "lock")
    assert "locked" in str(error)
    assert "fail_with_lock" in str(error)
    assert "could not be sent: lock (TypeError" in str(error)


@everywhere
async def test_cause_that_cannot_be_unpickled_comes_by_its_parts():
    error = await error_of(aioray.remote(jobs.fail_two_arguments).remote())
    assert isinstance(error, RayTaskError)
    assert isinstance(error, jobs.TwoArgumentsError)
    assert str(error.cause) == "left and right"


@everywhere
async def test_cause_that_fails_in_every_method_harms_nobody():
    error = await error_of(aioray.remote(jobs.fail_hostile).remote())
    assert isinstance(error, RayTaskError)
    assert "HostileError" in str(error)
    assert await same.remote(1) == 1


@everywhere
async def test_error_of_an_argument_reaches_every_level_with_its_type():
    level = fail.remote("the origin")
    for name in ("f", "g", "h"):
        level = same.options(name=name).remote(level)
    error = await error_of(level)
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert type(error.cause) is ValueError
    text = str(error)
    assert text.count("At least one of the input arguments for this task could not be") == 3
    order = [text.index(f"ray::{name}()") for name in ("h", "g", "f", "fail")]
    assert order == sorted(order)
    assert text.endswith("ValueError: the origin")


@everywhere
async def test_dependents_submitted_after_the_failure_fail_too():
    ref = fail.remote("early")
    await error_of(ref)
    assert isinstance(await error_of(same.remote(ref)), ValueError)


@everywhere
async def test_dependent_of_a_failed_task_never_runs_and_is_never_retried(notes):
    note = aioray.remote(max_retries=3, retry_exceptions=True)(jobs.note_argument)
    assert isinstance(await error_of(note.remote(notes, fail.remote())), ValueError)
    await same.remote(None)
    assert jobs.notes(notes) == []


@everywhere
async def test_crash_upstream_is_a_crash_downstream():
    crash = aioray.remote(max_retries=0)(jobs.die).remote("_exit 42")
    for ref in (crash, same.remote(crash), same.remote(same.remote(crash))):
        error = await error_of(ref)
        assert isinstance(error, WorkerCrashedError)
        assert isinstance(error, RayTaskError) == (ref is not crash)
    assert type(error).__name__ == "RayTaskError(WorkerCrashedError)"
    assert error.cause.exit_code == 42


@everywhere
async def test_cancel_upstream_is_a_cancel_downstream(started):
    running = aioray.remote(jobs.sleep).remote(started.path)
    below = same.remote(same.remote(running))
    await started.heard()
    await aioray.cancel(running)
    error = await error_of(below)
    assert isinstance(error, TaskCancelledError)
    assert type(error).__name__ == "RayTaskError(TaskCancelledError)"


@everywhere
async def test_own_keyboard_interrupt_means_cancelled_and_is_not_retried():
    ctrl_c = aioray.remote(max_retries=3, retry_exceptions=True)(jobs.press_ctrl_c)
    error = await error_of(ctrl_c.remote())
    assert isinstance(error, TaskCancelledError)
    assert isinstance(error, RayTaskError)
    assert len(error.attempts) == 1
    assert await same.remote(1) == 1


def test_get_of_a_list_raises_the_first_error_known_without_waiting(session, started, gate):
    waiting = aioray.remote(jobs.hold).remote(started.path, gate.path)
    started.hear()
    with pytest.raises(ValueError, match="quick"):
        aioray.get([waiting, fail.remote("quick")])
    gate.tell("done")
    assert aioray.get(waiting) == "done"


@everywhere
async def test_one_failure_in_gather_leaves_the_others_alone(started, gate):
    waiting = aioray.remote(jobs.hold).remote(started.path, gate.path)
    await started.heard()
    still = asyncio.ensure_future(waiting)  # gather would make this task and keep it to itself
    with pytest.raises(ValueError, match="bad"):
        await asyncio.gather(still, fail.remote())
    gate.tell("done")
    assert await still == "done"
    assert await waiting == "done"
