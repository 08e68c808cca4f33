"""What a task raises is an error to its callers, also where Python would take it for no error."""

from __future__ import annotations

import asyncio

import pytest

import aioray
from aioray.exceptions import RayTaskError, TaskCancelledError
from aioray.util import ActorPool, as_completed, map_unordered
from aioray.util.executor import Executor
from aioray.util.multiprocessing import Pool

from . import steering
from .support import everywhere

KINDS = sorted(steering.KINDS)
every_kind = pytest.mark.parametrize("kind", KINDS)
fail = aioray.remote(max_retries=0)(steering.fail)


def is_told(error, kind):
    """Whether it is an error, and nothing else, and has the user's own inside."""
    return type(error) is RayTaskError and type(error.cause) is steering.KINDS[kind]


async def outcome(awaitable):
    """What an asyncio task sees that awaits it."""
    task = asyncio.ensure_future(_wait_for(awaitable))
    await asyncio.wait([task])
    assert not task.cancelled()
    return task.exception()


async def _wait_for(awaitable):
    return await awaitable


@every_kind
@everywhere
async def test_awaiter_sees_an_error(kind):
    actor = aioray.remote(steering.Failing).remote()
    coroutines = aioray.remote(steering.FailingAsync).remote()
    refs = [fail.remote(kind), actor.fail.remote(kind)]
    if kind not in steering.RAISED_OTHERWISE:
        refs += [aioray.remote(steering.fail_async).remote(kind), coroutines.fail.remote(kind)]
    for ref in refs:
        assert is_told(await outcome(ref), kind)
        assert is_told(await outcome(asyncio.wrap_future(ref.future())), kind)
        assert is_told(await outcome(ref.as_future()), kind)
        (gathered,) = await asyncio.gather(ref, return_exceptions=True)
        assert is_told(gathered, kind)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(_wait_for(refs[0]))
    assert is_told(caught.value.exceptions[0], kind)
    below = aioray.remote(steering.same).remote(refs[0])
    assert is_told(await outcome(below), kind)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in steering.RAISED_OTHERWISE])
@everywhere
async def test_stream_ends_with_an_error(kind):
    actor = aioray.remote(steering.Failing).remote()
    coroutines = aioray.remote(steering.FailingAsync).remote()
    for items in (
        aioray.remote(max_retries=0)(steering.stream).remote(kind),
        actor.stream.remote(kind),
        coroutines.stream.remote(kind),
    ):
        refs = [ref async for ref in items]
        assert await refs[0] == 1
        assert is_told(await outcome(refs[1]), kind)
        assert len(refs) == 2


@every_kind
def test_iteration_over_results_does_not_end_early(kind, session):
    def is_in_its_place(results):
        assert next(results) == "first"
        with pytest.raises(RayTaskError) as caught:
            next(results)
        assert is_told(caught.value, kind)

    words = ["first", kind]
    either = aioray.remote(max_retries=0)(steering.fail_or_return)
    is_in_its_place(map(aioray.get, [either.remote(word) for word in words]))
    is_in_its_place(aioray.get(ref) for ref in [either.remote(word) for word in words])
    is_in_its_place(as_completed([either.remote("first"), either.remote(kind)][:2], chunk_size=2))
    is_in_its_place(map_unordered(either, words, backpressure_size=1, chunk_size=1))
    with Executor(max_retries=0) as executor:
        is_in_its_place(executor.map(steering.fail_or_return, words))
    actors = ActorPool([aioray.remote(steering.Failing).remote()])
    is_in_its_place(actors.map(lambda actor, word: actor.fail_or_return.remote(word), words))
    with Pool(1, ray_remote_args={"max_retries": 0}) as pool:
        is_in_its_place(pool.imap(steering.fail_or_return, words))
        with pytest.raises(RayTaskError) as caught:
            pool.map(steering.fail_or_return, words)
        assert is_told(caught.value, kind)


@every_kind
def test_task_sees_an_error_of_another(kind, session):
    assert aioray.get(aioray.remote(steering.ask).remote(kind)) == ("RayTaskError", kind)


@pytest.mark.parametrize("where", ["__setstate__", "__reduce__"])
@everywhere
async def test_error_while_values_travel_is_told(where):
    if where == "__setstate__":
        ref = aioray.remote(max_retries=0)(steering.count).remote(
            1, aioray.put(steering.Unpicklable()), 3
        )
    else:
        ref = aioray.remote(max_retries=0)(steering.make_unpicklable).remote()
    error = await outcome(ref)
    assert type(error) is RayTaskError
    assert type(error.cause) is StopIteration
    assert len(error.attempts) == 1


@everywhere
async def test_cancel_of_an_asynchronous_call_is_none_of_its_own(started):
    actor = aioray.remote(steering.FailingAsync).remote()
    running = actor.wait.remote(started.path)
    await started.heard()
    await aioray.cancel(running)
    assert isinstance(await outcome(running), TaskCancelledError)
    task = aioray.remote(steering.wait).remote(started.path)
    await started.heard()
    await aioray.cancel(task)
    assert isinstance(await outcome(task), TaskCancelledError)


@everywhere
async def test_cancelled_error_of_its_own_is_retried_as_others_are(notes):
    task = aioray.remote(max_retries=1, retry_exceptions=True)
    assert await task(steering.cancelled_once).remote(notes) == "done"
