"""`max_pending` and `submit`: calls over a limit are refused, or wait for room."""

from __future__ import annotations

import asyncio
import threading

import pytest

import aioray
from aioray.client.admission import WaitingCall
from aioray.exceptions import GetTimeoutError, PendingCallsLimitExceeded, WorkerCrashedError

from . import jobs, util_jobs
from .support import GUARD, everywhere

script = pytest.mark.usefixtures("session")


def holding(**options):
    return aioray.remote(**options)(util_jobs.say_and_hold)


@aioray.remote(max_pending_calls=1)
class Holder:
    def hold(self, started, gate, item):
        return util_jobs.say_and_hold(started, gate, item)

    def stream(self, count):
        yield from range(count)


@aioray.remote(num_cpus=0)
def submit_nested(started, gate):
    hold = holding(max_pending=1)
    first = hold.remote(started, gate, 1)
    with pytest.raises(PendingCallsLimitExceeded):
        hold.remote(started, gate, 2)
    jobs.say(started, "refused")
    second = hold.submit(started, gate, 2).result(GUARD)
    return aioray.get([first, second])


@everywhere
async def test_call_over_the_limit_is_refused_or_waits(started, gate):
    hold = holding(max_pending=1)
    first = await hold.submit(started.path, gate.path, 1)
    with pytest.raises(PendingCallsLimitExceeded, match=r"say_and_hold has max_pending=1, and"):
        hold.remote(started.path, gate.path, 2)
    waits = asyncio.ensure_future(hold.submit(started.path, gate.path, 3))
    await started.heard()
    assert not waits.done()
    gate.tell()
    assert await first == 1
    third = await waits
    gate.tell()
    assert await third == 3
    assert await aioray.remote(max_pending=1)(jobs.add).remote(1) == 1


@everywhere
async def test_those_who_wait_are_served_in_order_and_may_leave(started, gate):
    hold = holding(max_pending=1, num_cpus=0)
    first = hold.remote(started.path, gate.path, 0)
    waits = [asyncio.ensure_future(hold.submit(started.path, gate.path, n)) for n in range(1, 4)]
    await started.heard()
    assert not any(each.done() for each in waits)
    waits[0].cancel()
    gate.tell()
    assert await first == 0
    second = await waits[1]
    assert (await started.heard()).startswith("2 ")
    assert not waits[2].done()
    # What was granted to one who is cancelled before he knows goes to the next.
    aioray.cancel(second)
    third = await waits[2]
    gate.tell()
    assert await third == 3
    assert waits[0].cancelled()


@everywhere
async def test_room_of_what_fails_comes_back():
    die = aioray.remote(max_pending=1, max_retries=0)(jobs.die)
    for _ in range(2):
        with pytest.raises(WorkerCrashedError):
            await (await die.submit("_exit 42"))
    with pytest.raises(TypeError, match="serialize"):
        await aioray.remote(max_pending=1)(jobs.same).submit(threading.Lock())
    with pytest.raises(TypeError, match="missing"):
        die.submit()


@script
def test_scripts_and_threads_wait_too(started, gate):
    hold = holding(max_pending=1)
    first = hold.submit(started.path, gate.path, 1).result(GUARD)
    with pytest.raises(GetTimeoutError, match="no room in time"):
        hold.submit(started.path, gate.path, 2).result(0.01)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(hold.submit(started.path, gate.path, 3).result(GUARD))
    )
    thread.start()
    started.hear()
    gate.tell()
    thread.join(GUARD)
    gate.tell()
    assert aioray.get([first, *found], timeout=GUARD) == [1, 3]
    done = aioray.remote(max_pending=1)(jobs.add)
    for value in range(100):  # what is done is seen to be at once
        assert aioray.get(done.remote(value), timeout=GUARD) == value


@script
def test_tasks_count_their_own_calls(started, gate):
    nested = submit_nested.remote(started.path, gate.path)
    assert {started.hear().split()[0] for _ in range(2)} == {"1", "refused"}
    gate.tell()
    assert started.hear().startswith("2 ")
    gate.tell()
    assert aioray.get(nested, timeout=GUARD) == [1, 2]


@everywhere
async def test_methods_wait_for_room_under_max_pending_calls(started, gate):
    holder = Holder.remote()
    first = await holder.hold.submit(started.path, gate.path, 1)
    with pytest.raises(PendingCallsLimitExceeded):
        holder.hold.remote(started.path, gate.path, 2)
    waits = asyncio.ensure_future(holder.hold.options(name="x").submit(started.path, gate.path, 3))
    await started.heard()
    assert not waits.done()
    gate.tell()
    assert await first == 1
    third = await waits
    gate.tell()
    assert await third == 3
    stream = await holder.stream.submit(3)
    assert [await ref async for ref in stream] == [0, 1, 2]


async def test_session_limits_all_calls_of_the_driver(started, gate):
    async with aioray.Engine(num_cpus=2, max_pending=2):
        hold, add = holding(num_cpus=1), aioray.remote(jobs.add)
        holder = Holder.remote()
        first = hold.remote(started.path, gate.path, 1)
        second = await holder.hold.submit(started.path, gate.path, 2)
        with pytest.raises(PendingCallsLimitExceeded, match="The session has max_pending=2"):
            add.remote(1)
        with pytest.raises(PendingCallsLimitExceeded):
            holder.stream.remote(1)
        waits = asyncio.ensure_future(add.submit(3))
        await started.heard()
        await started.heard()
        gate.tell()
        gate.tell()
        assert [await first, await second, await (await waits)] == [1, 2, 3]


def test_what_was_never_awaited_says_so():
    waiting = WaitingCall([], None, lambda: None)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del waiting


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_pending": 0}, ValueError, "max_pending must be"),
        ({"max_pending": 1, "num_returns": 0}, ValueError, "needs a ref"),
    ],
)
def test_limits_are_checked(options, error, text):
    with pytest.raises(error, match=text):
        holding(**options)
    with pytest.raises(RuntimeError, match="submitted already"):
        waiting = WaitingCall([], None, lambda: 1)
        waiting._take()
        waiting._take()
