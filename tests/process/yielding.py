"""Generator functions and coroutines that run in workers; `jobs` says how they talk to tests."""

from __future__ import annotations

import asyncio
import os

import aioray

from . import jobs


def count(n):
    yield from range(n)


def arrays(n, size):
    for number in range(n):
        yield jobs.numbers(size, number)


def noted(notes, n):
    for number in range(n):
        jobs.note(notes, number)
        yield number


def fail_after(n):
    yield from range(n)
    raise ValueError("after", n)


def fail_at_gate(gate, n):
    yield from range(n)
    jobs.listen(gate)
    raise ValueError("after", n)


def fail_after_arrays(n, size):
    yield from arrays(n, size)
    raise ValueError("after", n)


class Failing:
    def after(self, n):
        yield from range(n)
        raise ValueError("after", n)


class FailingOnLoop(Failing):
    async def wait(self):
        pass


def yield_lock(n):
    yield from range(n)
    yield jobs.return_lock


def yield_unpicklable():
    import threading

    yield 1
    yield threading.Lock()


def die_at(notes, n, times):
    """Says which attempt each item is of, and dies in the middle of the first ones."""
    attempt = aioray.get_runtime_context().get_attempt_number()
    for number in range(n):
        if number == n // 2 and len(jobs.notes(notes)) < times:
            jobs.note(notes, "died")
            os._exit(3)
        yield number, attempt


def fewer_each_time(notes, n):
    jobs.note(notes, "run")
    runs = len(jobs.notes(notes))
    yield from range(n - runs)
    if runs == 1:
        os._exit(3)


def hold_after(started, gate, n):
    yield from range(n)
    jobs.say(started, os.getpid())
    yield jobs.listen(gate)


def arrays_and_hold(started, gate, size):
    """The first time it holds between two items."""
    yield jobs.numbers(size, 0)
    if aioray.get_runtime_context().get_attempt_number() == 0:
        jobs.say(started, "here")
        jobs.listen(gate)
    yield jobs.numbers(size, 1)


def clean_up_after(started, notes, n):
    try:
        yield from range(n)
        jobs.say(started, "here")
        jobs.listen(started + "-never")
    finally:
        jobs.note(notes, "cleaned up")


def pause_and_clean_up(started, notes):
    try:
        number = 0
        while True:
            jobs.note(notes, number)
            yield number
            number += 1
    finally:
        jobs.note(notes, "cleaned up")
        jobs.say(started, "over")


def read_in_task(n):
    refs = list(aioray.remote(count).remote(n))
    generator = aioray.remote(fail_after).remote(1)
    found = [aioray.get(ref) for ref in refs]
    try:
        aioray.get(list(generator))
    except ValueError as error:
        found.append(error.args[0].args)
    return found, aioray.get(generator.completed())


def await_in_task(n):
    async def main():
        return [await ref async for ref in aioray.remote(count).remote(n)]

    return asyncio.run(main())


def read_one_and_leave(started, notes):
    generator = aioray.remote(_generator_backpressure_num_objects=1)(pause_and_clean_up).remote(
        started, notes
    )
    value = aioray.get(next(generator))
    aioray.cancel(generator).result(100)
    return value


def relay(n):
    """A stream of what another task yields."""
    for ref in aioray.remote(count).remote(n):
        yield aioray.get(ref) * 10


def pass_to_others(n):
    add = aioray.remote(jobs.add)
    return aioray.get([add.remote(ref, 1) for ref in aioray.remote(count).remote(n)])


async def after(value, others=()):
    await asyncio.sleep(0)
    return [value, *[await other for other in others]]


async def gather_children(n):
    child = aioray.remote(after)
    return await asyncio.gather(*[child.remote(number) for number in range(n)])


async def fail_async():
    await asyncio.sleep(0)
    raise ValueError("async")


async def wait_for_cancel(started, notes):
    jobs.say(started, os.getpid())
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        jobs.note(notes, "CancelledError")
        raise


async def refuse_cancel(started):
    jobs.say(started, os.getpid())
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "what there was"


async def raise_cancelled():
    raise asyncio.CancelledError


async def leave_running(notes):
    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            jobs.note(notes, "ended")

    task = asyncio.create_task(background())
    await asyncio.sleep(0)
    return task.done()


async def count_async(n):
    for number in range(n):
        await asyncio.sleep(0)
        yield number


async def fail_async_after(n):
    for number in range(n):
        yield number
    raise ValueError("async", n)


async def hold_child_async(started, gate):
    return await aioray.remote(jobs.hold).remote(started, gate)
