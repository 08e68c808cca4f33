"""Coroutines and asynchronous generators as tasks."""

from __future__ import annotations

import asyncio

import pytest

import aioray
from aioray import CancelOutcome
from aioray.exceptions import RayTaskError, TaskCancelledError

from . import jobs, yielding
from .support import everywhere
from .test_errors import error_of
from .test_generators import items

after = aioray.remote(yielding.after)


@everywhere(num_cpus=1)
async def test_coroutine_runs_on_a_loop_in_its_worker():
    assert await after.remote(1) == [1]
    assert await after.remote(1, [after.remote(2)]) == [1, [2]]
    found = await aioray.remote(yielding.gather_children).remote(5)
    assert found == [[number] for number in range(5)]


@everywhere
async def test_error_of_a_coroutine_is_the_users():
    error = await error_of(aioray.remote(yielding.fail_async).remote())
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert "base_events" not in str(error)
    assert "fail_async" in str(error)


@everywhere
async def test_cancel_arrives_as_cancelled_error(started, notes):
    ref = aioray.remote(yielding.wait_for_cancel).remote(started.path, notes)
    pid = await started.heard()
    assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(ref), TaskCancelledError)
    assert jobs.notes(notes) == ["CancelledError"]
    assert int(pid) in [await aioray.remote(jobs.pid).remote() for _ in range(20)]


@everywhere
async def test_value_of_a_coroutine_that_refuses_stands(started):
    ref = aioray.remote(yielding.refuse_cancel).remote(started.path)
    await started.heard()
    assert await aioray.cancel(ref) is CancelOutcome.FINISHED_FIRST
    assert await ref == "what there was"


@everywhere
async def test_cancelled_error_of_its_own_is_an_error_and_cancels_no_awaiter():
    ref = aioray.remote(yielding.raise_cancelled).remote()
    error = await error_of(ref)
    assert type(error) is RayTaskError
    assert type(error.cause) is asyncio.CancelledError


@everywhere
async def test_what_a_coroutine_leaves_running_ends_with_it(notes):
    assert await aioray.remote(yielding.leave_running).remote(notes) is False
    assert jobs.notes(notes) == ["ended"]


@everywhere
async def test_asynchronous_generator_streams():
    assert await items(aioray.remote(yielding.count_async).remote(5)) == list(range(5))
    refs = [ref async for ref in aioray.remote(yielding.fail_async_after).remote(2)]
    assert [await ref for ref in refs[:2]] == [0, 1]
    assert isinstance(await error_of(refs[2]), ValueError)


@everywhere(num_cpus=1)
async def test_coroutine_that_awaits_gives_its_cpu_back(started, gate):
    ref = aioray.remote(yielding.hold_child_async).remote(started.path, gate.path)
    await started.heard()
    gate.tell("child")
    assert await ref == "child"


@pytest.mark.parametrize("recursive", [True, False])
@everywhere
async def test_awaiting_parent_can_be_cancelled(recursive, started, gate):
    ref = aioray.remote(yielding.hold_child_async).remote(started.path, gate.path)
    await started.heard()
    assert await aioray.cancel(ref, recursive=recursive) is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(ref), TaskCancelledError)
    if not recursive:
        gate.tell("go on")
    assert await after.remote(1) == [1]
