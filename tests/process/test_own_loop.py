"""What waits for the engine is refused on the event loop that the engine itself runs on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import joblib
import pytest

import aioray
from aioray.util import (
    ActorPool,
    Executor,
    as_completed,
    map_unordered,
    placement_group,
)
from aioray.util.joblib import register_ray
from aioray.util.multiprocessing import Pool
from aioray.util.queue import Queue
from aioray.util.state import get_log

from . import jobs, util_jobs
from .support import GUARD, on_both_loops

hold = aioray.remote(jobs.hold)
same = aioray.remote(jobs.same)
REFUSED = "would block the event loop that the engine itself runs on"


@aioray.remote
def numbers():
    yield from range(3)


@aioray.remote
class Echo:
    def say(self, value):
        return value


def in_joblib(**settings):
    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2):
        calls = (joblib.delayed(abs)(number) for number in range(3))
        return list(joblib.Parallel(**settings)(calls))


def in_executor(call):
    executor = Executor()
    future = executor.submit(jobs.same, 1)
    try:
        return call(executor, future)
    finally:
        future.cancel()


def with_executor():
    with Executor() as executor:
        future = executor.submit(jobs.same, 1)
        executor.shutdown(wait=False)
        try:
            return executor.__exit__(None, None, None)
        finally:
            future.cancel()


def in_pool(call):
    with Pool(1) as pool:
        return call(pool)


def join_pool(pool):
    pool.apply_async(util_jobs.double, (1,))
    pool.close()
    pool.join()


def in_actor_pool(call):
    pool = ActorPool([Echo.remote()])
    pool.submit(lambda actor, value: actor.say.remote(value), 1)
    return call(pool)


def echo(actor, value):
    return actor.say.remote(value)


WAITS = {
    "get": aioray.get,
    "get of a list": lambda ref: aioray.get([ref], timeout=GUARD),
    "wait": lambda ref: aioray.wait([ref]),
    "wait with a time-out": lambda ref: aioray.wait([ref], timeout=GUARD),
    "next of a generator": lambda ref: next(numbers.remote()),
    "for over a generator": lambda ref: list(numbers.remote()),
    "wait for a generator": lambda ref: aioray.wait([numbers.remote()]),
    "outcome of a cancel": lambda ref: aioray.cancel(ref).result(),
    "future.result": lambda ref: ref.future().result(),
    "future.result with a time-out": lambda ref: ref.future().result(GUARD),
    "future.exception": lambda ref: ref.future().exception(),
    "futures.wait": lambda ref: concurrent.futures.wait([ref.future(), ref.future()]),
    "futures.wait with a time-out": lambda ref: concurrent.futures.wait([ref.future()], GUARD),
    "futures.wait with others": lambda ref: concurrent.futures.wait(
        [concurrent.futures.Future(), ref.future()]
    ),
    "futures.as_completed": lambda ref: list(concurrent.futures.as_completed([ref.future()])),
    "Executor, result": lambda ref: in_executor(lambda executor, future: future.result()),
    "Executor, exception": lambda ref: in_executor(lambda executor, future: future.exception()),
    "Executor.map": lambda ref: list(Executor().map(jobs.same, [1, 2])),
    "Executor.shutdown": lambda ref: in_executor(lambda executor, future: executor.shutdown()),
    "with Executor": lambda ref: with_executor(),
    "joblib.Parallel": lambda ref: in_joblib(),
    "joblib.Parallel, a generator": lambda ref: in_joblib(return_as="generator"),
    "joblib.Parallel, unordered": lambda ref: in_joblib(return_as="generator_unordered"),
    "Pool.apply": lambda ref: in_pool(lambda pool: pool.apply(util_jobs.double, (1,))),
    "Pool.map": lambda ref: in_pool(lambda pool: pool.map(util_jobs.double, [1])),
    "Pool.starmap": lambda ref: in_pool(lambda pool: pool.starmap(util_jobs.double, [(1,)])),
    "Pool.imap": lambda ref: in_pool(lambda pool: next(pool.imap(util_jobs.double, [1]))),
    "Pool.imap_unordered": lambda ref: in_pool(
        lambda pool: pool.imap_unordered(util_jobs.double, [1]).next(GUARD)
    ),
    "AsyncResult.wait": lambda ref: in_pool(
        lambda pool: pool.map_async(util_jobs.double, [1]).wait(GUARD)
    ),
    "Pool.join": lambda ref: in_pool(join_pool),
    "ActorPool.map": lambda ref: list(ActorPool([Echo.remote()]).map(echo, [1])),
    "ActorPool.map_unordered": lambda ref: list(
        ActorPool([Echo.remote()]).map_unordered(echo, [1])
    ),
    "ActorPool.get_next": lambda ref: in_actor_pool(lambda pool: pool.get_next()),
    "ActorPool.get_next_unordered": lambda ref: in_actor_pool(
        lambda pool: pool.get_next_unordered(timeout=GUARD)
    ),
    "Queue.put": lambda ref: Queue().put(1),
    "Queue.get": lambda ref: Queue().get(),
    "Queue.size": lambda ref: len(Queue()),
    "Queue.shutdown": lambda ref: Queue().shutdown(),
    "PlacementGroup.wait": lambda ref: placement_group([{"CPU": 1}]).wait(),
    "as_completed": lambda ref: next(as_completed([ref])),
    "map_unordered": lambda ref: next(map_unordered(same, [1])),
    "progress": lambda ref: list(aioray.progress([ref], disable=True)),
    "progress of a generator": lambda ref: list(aioray.progress(numbers.remote(), disable=True)),
    "get_log": lambda ref: list(get_log(task_id=ref.task_id(), follow=True)),
}


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.timeout(3 * GUARD)  # what is not refused hangs
@on_both_loops
async def test_what_waits_for_the_engine_is_refused_on_its_loop(name, started, gate):
    async with aioray.Engine(num_cpus=2):
        holding = [hold.remote(started.path, gate.path) for _ in range(2)]
        for _ in holding:
            await started.heard()
        pending = same.remote(1)
        with pytest.raises(RuntimeError, match=REFUSED):
            WAITS[name](pending)
        for _ in holding:
            gate.tell()
        await asyncio.wait_for(asyncio.gather(*holding), GUARD)
        if name != "outcome of a cancel":
            assert await asyncio.wait_for(pending, GUARD) == 1


@pytest.mark.parametrize("name", ["get", "future.result", "futures.wait", "Executor, result"])
def test_what_waits_is_refused_in_the_thread_of_a_scripts_engine(name, session):
    """Callbacks of a future run there."""
    refusals = concurrent.futures.Future()

    def callback(future):
        pending = Echo.remote().say.remote(1)
        try:
            refusals.set_result(WAITS[name](pending))
        except RuntimeError as error:
            refusals.set_exception(error)

    same.remote(1).future().add_done_callback(callback)
    with pytest.raises(RuntimeError, match=REFUSED):
        refusals.result(GUARD)


@on_both_loops
async def test_what_does_not_wait_works_on_the_engines_loop(started, gate):
    async with aioray.Engine(num_cpus=1):
        holding = hold.remote(started.path, gate.path)
        await started.heard()
        future = holding.future()
        with pytest.raises(TimeoutError):
            future.result(timeout=0)
        assert concurrent.futures.wait([future], timeout=0) == (set(), {future})
        with pytest.raises(TimeoutError):
            list(concurrent.futures.as_completed([future], timeout=0))
        gate.tell()
        value = await asyncio.wait_for(asyncio.wrap_future(future), GUARD)
        assert future.result() == value
        assert future.exception() is None
        assert concurrent.futures.wait([future]) == ({future}, set())
        assert list(concurrent.futures.as_completed([future])) == [future]
        outcome = aioray.cancel(holding)
        assert await outcome is outcome.result()


@on_both_loops
async def test_other_threads_wait_while_the_engines_loop_goes_on(started, gate):
    async with aioray.Engine(num_cpus=1):
        ref = hold.remote(started.path, gate.path)
        await started.heard()
        futures = [ref.future(), ref.future()]
        waits = [
            asyncio.to_thread(concurrent.futures.wait, futures),
            asyncio.to_thread(list, concurrent.futures.as_completed(futures)),
            asyncio.to_thread(futures[0].result),
            asyncio.to_thread(futures[0].exception),
            asyncio.to_thread(aioray.get, ref),
        ]
        all_of_them = asyncio.gather(*waits)
        gate.tell()
        done, completed, value, error, got = await asyncio.wait_for(all_of_them, GUARD)
        assert done == (set(futures), set())
        assert set(completed) == set(futures)
        assert (value, error) == (got, None)


async def test_a_loop_beside_the_engines_may_be_blocked(session):
    """As in scripts that call `init` first and run a loop of their own later."""
    assert threading.current_thread() is threading.main_thread()
    assert same.remote(1).future().result(GUARD) == 1
    with Executor() as executor:
        assert list(executor.map(jobs.same, [1, 2])) == [1, 2]
    assert in_joblib() == [0, 1, 2]
