"""Every way to wait for a ref, on the engine's loop and on others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

import aioray
from aioray.client.protocol import registry
from aioray.engine.waiting import MANY_ENTRIES
from aioray.exceptions import GetTimeoutError

from . import jobs
from .support import GUARD, LOOPS, everywhere, on_both_loops

same = aioray.remote(jobs.same)
hold = aioray.remote(jobs.hold)
fail = aioray.remote(jobs.fail)


@everywhere
async def test_asyncio_functions_take_refs():
    assert await asyncio.gather(same.remote(1), same.remote(2)) == [1, 2]
    assert await asyncio.wait_for(same.remote(3), GUARD) == 3
    done, pending = await asyncio.wait([same.remote(4), same.remote(5)], timeout=GUARD)
    assert {await ref for ref in done} == {4, 5}
    assert not pending
    found = [await each for each in asyncio.as_completed([same.remote(6), same.remote(7)])]
    assert sorted(found) == [6, 7]
    async with asyncio.timeout(GUARD):
        assert await same.remote(8) == 8
    outcomes = await asyncio.gather(same.remote(9), fail.remote(), return_exceptions=True)
    assert outcomes[0] == 9
    assert isinstance(outcomes[1], ValueError)


@everywhere
async def test_wait_for_the_first_of_several(started, gate):
    slow = hold.remote(started.path, gate.path)
    await started.heard()
    quick = same.remote(1)
    done, pending = await asyncio.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})
    gate.tell("slow")
    assert await slow == "slow"


@everywhere
async def test_task_group():
    async def fetch(value):
        return await same.remote(value)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(number)) for number in range(10)]
    assert [task.result() for task in tasks] == list(range(10))
    with pytest.raises(ExceptionGroup) as info:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(1))

            async def fails():
                await fail.remote("in a group")

            group.create_task(fails())
    assert info.group_contains(ValueError, match="in a group")


@pytest.mark.parametrize("way", ["wait_for", "timeout", "wait", "as_future", "cancel"])
@everywhere
async def test_one_awaiter_that_gives_up_affects_neither_the_task_nor_the_others(
    way, started, gate
):
    ref = hold.remote(started.path, gate.path)
    await started.heard()

    async def wait():
        return await ref

    other = asyncio.create_task(wait())
    future = ref.as_future()
    if way == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref, 0.01)
    elif way == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ref
    elif way == "wait":
        assert await asyncio.wait([ref], timeout=0.01) == (set(), {ref})
    elif way == "as_future":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref.as_future(), 0.01)
    else:
        third = asyncio.create_task(wait())
        await asyncio.sleep(0)
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
    assert not ref.done()
    gate.tell("value")
    assert await other == await future == await ref == "value"


@everywhere
async def test_many_coroutines_await_one_ref(started, gate):
    ref = hold.remote(started.path, gate.path)

    async def wait():
        return await ref

    waiting = [asyncio.create_task(wait()) for _ in range(50)]
    await started.heard()
    gate.tell("value")
    assert await asyncio.gather(*waiting) == ["value"] * 50


@everywhere
async def test_future_for_threads(started, gate):
    ref = hold.remote(started.path, gate.path)
    await started.heard()
    future, dropped = ref.future(), ref.future()
    assert dropped.cancel()
    gate.tell("value")
    assert await asyncio.to_thread(future.result, GUARD) == "value"
    error = await asyncio.to_thread(fail.remote().future().exception, GUARD)
    assert isinstance(error, ValueError)
    assert await ref == "value"


@everywhere
async def test_as_future_gives_value_and_error():
    assert await same.remote(1).as_future() == 1
    with pytest.raises(ValueError, match="bad"):
        await fail.remote().as_future()


@pytest.mark.parametrize("loop_name", LOOPS)
def test_as_future_without_a_running_loop_is_for_the_one_that_is_set(session, loop_name):
    loop = LOOPS[loop_name]()
    asyncio.set_event_loop(loop)
    try:
        futures = [same.remote(number).as_future() for number in range(3)]
        assert loop.run_until_complete(asyncio.gather(*futures)) == [0, 1, 2]
        with pytest.raises(ValueError, match="bad"):
            loop.run_until_complete(fail.remote().as_future())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_as_future_without_any_loop_says_what_to_do(session):
    ref = same.remote(1)
    errors = []

    def ask():  # in a thread of which asyncio knows nothing
        try:
            ref.as_future()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert "asyncio.set_event_loop" in errors[0]
    assert aioray.get(ref) == 1


@on_both_loops
async def test_ref_is_awaited_and_got_in_another_thread(started, gate):
    async with aioray.Engine(num_cpus=2):
        ref = hold.remote(started.path, gate.path)

        async def elsewhere():
            return await ref, await asyncio.gather(ref, ref), await ref.as_future()

        results = {}
        threads = [
            threading.Thread(target=lambda: results.update(loop=asyncio.run(elsewhere()))),
            threading.Thread(target=lambda: results.update(get=aioray.get(ref))),
        ]
        for thread in threads:
            thread.start()
        await started.heard()
        gate.tell("far")
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert results == {"loop": ("far", ["far", "far"], "far"), "get": "far"}


@on_both_loops
async def test_get_and_wait_on_the_engines_loop_are_refused_with_advice():
    async with aioray.Engine(num_cpus=1):
        ref = same.remote(1)
        with pytest.raises(RuntimeError, match="await"):
            aioray.get(ref)
        with pytest.raises(RuntimeError, match="await"):
            aioray.wait([ref])
        assert await ref == 1


def test_get_with_timeout(session, started, gate):
    ref = hold.remote(started.path, gate.path)
    started.hear()
    for timeout in (0, 0.01):
        with pytest.raises(GetTimeoutError):
            aioray.get(ref, timeout=timeout)
    with pytest.raises(TimeoutError):
        aioray.get([ref, same.remote(1)], timeout=0.01)
    gate.tell("value")
    assert aioray.get(ref, timeout=-1) == "value"
    assert aioray.get(ref, timeout=0) == "value"


def test_wait_splits_refs_in_order(session, started, gate):
    slow = hold.remote(started.path, gate.path)
    started.hear()
    quick = [same.remote(number) for number in range(3)]
    failed = fail.remote()
    assert aioray.wait([slow, *quick, failed], num_returns=4, timeout=GUARD) == (
        [*quick, failed],
        [slow],
    )
    assert aioray.wait([slow, *quick], num_returns=1, timeout=GUARD) == (
        quick[:1],
        [slow, *quick[1:]],
    )
    assert aioray.wait([slow], timeout=0) == ([], [slow])
    gate.tell()
    assert aioray.wait([slow]) == ([slow], [])
    with pytest.raises(ValueError, match="bad"):
        aioray.get(failed)


MANY = 60  # refs, of which most go on being watched between two waits


def test_refs_are_watched_once_by_a_thread_that_waits_for_them_again_and_again(
    session, started, gate
):
    """One by one costs little for each that goes on waiting: nothing is taken back or put twice."""
    refs = [hold.remote(started.path, gate.path) for _ in range(MANY)]
    for _ in range(3):
        assert aioray.wait(refs, timeout=0.01) == ([], refs)
    on_engine_thread(lambda: None)
    assert {len(ref.entry.waiters) for ref in refs} == {1}
    left = list(refs)
    seen = []
    for number in range(MANY):
        gate.tell(str(number))
        ready, left = aioray.wait(left)
        seen += ready
        if len(left) >= MANY_ENTRIES:
            assert on_engine_thread(lambda: max(len(ref.entry.waiters or ()) for ref in refs)) == 1
    assert sorted(seen, key=refs.index) == refs
    aioray.get(refs)


def test_several_of_many_refs_are_waited_for(session, started, gate):
    quick = [same.remote(number) for number in range(MANY)]
    slow = [hold.remote(started.path, gate.path) for _ in range(MANY)]
    refs = [ref for pair in zip(slow, quick, strict=True) for ref in pair]
    for count in (1, 7, MANY):
        ready, left = aioray.wait(refs, num_returns=count, timeout=GUARD)
        assert len(ready) == count
        assert set(ready) <= set(quick)
        assert sorted(ready + left, key=refs.index) == refs
        assert ready == [ref for ref in refs if ref in set(ready)]
    assert aioray.wait(refs, num_returns=MANY + 1, timeout=0.01) == (quick, slow)
    for number in range(MANY):
        gate.tell(str(number))
    assert aioray.wait(refs, num_returns=2 * MANY, timeout=GUARD) == (refs, [])


def test_threads_that_wait_for_the_same_refs_are_all_woken(session, started, gate):
    refs = [hold.remote(started.path, gate.path) for _ in range(MANY)]
    found = {}

    def collect(name):
        left, order = refs, []
        while left:
            ready, left = aioray.wait(left)
            order += ready
        found[name] = order

    threads = [threading.Thread(target=collect, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for _ in refs:
        gate.tell()
    for thread in threads:
        thread.join(GUARD)
    assert [sorted(order, key=refs.index) for order in found.values()] == [refs] * 3


def test_watches_of_threads_that_have_ended_do_not_pile_up(session, started, gate):
    refs = [hold.remote(started.path, gate.path) for _ in range(MANY)]
    for _ in range(30):
        thread = threading.Thread(target=aioray.wait, args=(refs,), kwargs={"timeout": 0.001})
        thread.start()
        thread.join()
    assert on_engine_thread(lambda: max(len(ref.entry.waiters) for ref in refs)) <= 10
    for _ in refs:
        gate.tell()
    aioray.get(refs)


def on_engine_thread(look):
    """What `look` returns there, when all that was asked of the engine before has been done."""
    engine = registry.current()
    answer = concurrent.futures.Future()
    engine._mailbox.post(lambda: answer.set_result(look()))
    return answer.result(GUARD)
