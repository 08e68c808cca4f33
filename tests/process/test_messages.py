"""Messages between driver and workers: of any size, and what happens when one cannot be sent."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

import aioray
from aioray.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError

from . import jobs, mischief
from .support import everywhere
from .test_errors import error_of

MANY = 20_000
LONG_NAME = "n" * 300_000

count = aioray.remote(mischief.count_arguments)
same = aioray.remote(jobs.same)


@everywhere
async def test_call_may_have_any_number_of_refs_as_arguments():
    refs = [aioray.put(number) for number in range(MANY)]
    assert await count.remote(*refs) == (MANY, 0)
    named = {f"name{number}": ref for number, ref in enumerate(refs)}
    assert await count.remote(**named) == (0, MANY)
    actor = aioray.remote(mischief.Counter).remote()
    assert await actor.arguments.remote(*refs) == (MANY, 0)
    assert await actor.arguments.remote(**named) == (0, MANY)
    made = aioray.remote(mischief.Counter).remote(*refs)
    assert await made.given.remote() == MANY


@everywhere
async def test_call_may_depend_on_any_number_of_tasks():
    refs = [same.remote(number) for number in range(MANY)]
    assert await count.remote(*refs) == (MANY, 0)


@everywhere
async def test_name_of_a_task_may_be_of_any_length():
    named = [same.options(name=f"{number}{LONG_NAME}").remote(number) for number in range(10)]
    assert await asyncio.gather(*named) == list(range(10))
    error = await error_of(
        aioray.remote(max_retries=0)(jobs.die).options(name=LONG_NAME).remote("exit 3")
    )
    assert error.task_name == LONG_NAME


@everywhere
async def test_function_may_capture_any_number_of_refs():
    refs = [aioray.put(number) for number in range(MANY)]

    def captured():
        return len(refs)

    assert await aioray.remote(captured).remote() == MANY


@everywhere
async def test_task_may_submit_wait_for_and_return_any_number():
    nested = aioray.remote(mischief.many_from_within)
    assert await nested.remote(MANY, LONG_NAME) == [(MANY, 0), (0, MANY), MANY, MANY, MANY]
    refs = aioray.remote(num_returns=MANY)(mischief.numbers_up_to).remote(MANY)
    assert await refs[-1] == MANY - 1


@everywhere
async def test_arguments_of_any_size_together_arrive_as_they_are():
    """Some of these lie in the store, some in a memory file, some in the packet."""
    sizes = [0, 1, 4095, 4096, 60_000, 99_000, 200_000] * 20
    refs = [aioray.put(bytes(size)) for size in sizes]
    values = [bytes(size) for size in sizes]
    lengths = aioray.remote(mischief.lengths)
    assert await lengths.remote(*refs) == sizes
    assert await lengths.remote(*values) == sizes
    both = await lengths.remote(*refs, *values, name=LONG_NAME)
    assert both == [*sizes, *sizes, len(LONG_NAME)]


@everywhere
async def test_environment_of_any_size_reaches_its_workers():
    env = {"A": "x" * 300_000, **{f"B{number}": "y" * 100_000 for number in range(3)}}
    found = aioray.remote(runtime_env={"env_vars": env})(mischief.environment).remote("A", "B2")
    assert await found == ["x" * 300_000, "y" * 100_000]


@everywhere(runtime_env={"env_vars": {"A": "x" * 300_000, "B": "b"}})
async def test_environment_of_all_workers_may_have_any_size():
    assert await aioray.remote(mischief.environment).remote("A", "B") == ["x" * 300_000, "b"]


@everywhere
async def test_more_calls_than_the_claims_pipe_holds_run_side_by_side():
    actor = aioray.remote(max_concurrency=20_000)(mischief.Counter).remote()
    refs = [actor.arguments.remote() for _ in range(20_000)]
    assert set(await asyncio.gather(*refs)) == {(0, 0)}


def refusing(monkeypatch, number, times):
    """Let the memory file of the next messages be refused so many times."""
    left = iter(range(times))
    make = os.memfd_create

    def memfd_create(name, *flags):
        if name == "aioray-message" and next(left, None) is not None:
            raise OSError(number, os.strerror(number))
        return make(name, *flags)

    monkeypatch.setattr(os, "memfd_create", memfd_create)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC])
@everywhere
async def test_message_waits_for_a_system_that_has_no_room(monkeypatch, number):
    assert await same.remote(1) == 1
    refusing(monkeypatch, number, 3)
    assert await same.options(max_retries=0).remote(b"x" * 90_000) == b"x" * 90_000


@everywhere
async def test_attempt_that_cannot_be_sent_fails_alone_and_says_why(monkeypatch):
    actor = aioray.remote(mischief.Counter).remote()
    assert await same.remote(1) == 1
    await actor.given.remote()
    refusing(monkeypatch, errno.EMFILE, 1_000_000)
    for ref in (
        same.options(name="large").remote(b"x" * 90_000),
        actor.arguments.options(name="large").remote(b"x" * 90_000),
    ):
        error = await error_of(ref)
        assert isinstance(error, RayTaskError)
        assert "Task large could not be sent to its worker" in str(error)
        assert "Too many open files" in str(error)
    assert await actor.given.remote() == 0
    assert await same.remote(1) == 1


@everywhere
async def test_worker_that_is_owed_a_reply_without_room_is_discarded(monkeypatch):
    nested = aioray.remote(max_retries=0)(mischief.get_many)
    refs = [aioray.put(b"x" * 50_000) for _ in range(10)]
    assert await nested.remote(refs) == 500_000
    refusing(monkeypatch, errno.ENOMEM, 1_000_000)
    error = await error_of(nested.remote(refs))
    assert type(error) is WorkerCrashedError
    assert "the system has no room for a message to it" in str(error)
    assert await same.remote(1) == 1


@everywhere
async def test_worker_without_descriptors_for_a_large_message_says_so():
    use_up = aioray.remote(max_retries=0)(mischief.use_up_descriptors)
    refs = [aioray.put(b"x" * 50_000) for _ in range(10)]
    error = await error_of(use_up.remote(refs))
    assert type(error) is WorkerCrashedError
    assert "aioray: a message to this worker is lost" in error.stderr_tail
    assert "ulimit -n" in error.stderr_tail


@everywhere
async def test_worker_that_closes_its_socket_is_discarded_when_it_is_sent_something(started, gate):
    actor = aioray.remote(max_concurrency=2)(mischief.Deaf).remote()
    closed = actor.close_bundles.remote(started.path, gate.path)
    await started.heard()
    refs = [closed, actor.same.remote(1)]
    for ref in refs:
        assert type(await error_of(ref)) is ActorDiedError
    assert await same.remote(1) == 1
