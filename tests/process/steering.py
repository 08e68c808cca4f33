"""Functions that raise what means something else than an error to Python."""

from __future__ import annotations

import asyncio

import aioray

from .jobs import note, notes, say


class ExhaustedError(StopIteration):
    pass


class WithdrawnError(asyncio.CancelledError):
    pass


KINDS = {
    kind.__name__: kind
    for kind in (
        StopIteration,
        ExhaustedError,
        StopAsyncIteration,
        GeneratorExit,
        asyncio.CancelledError,
        WithdrawnError,
    )
}
RAISED_OTHERWISE = ("StopIteration", "ExhaustedError", "StopAsyncIteration")
"""By coroutines and generators: Python makes RuntimeError of some of these."""


def fail(kind):
    raise KINDS[kind]("no")


async def fail_async(kind):
    await asyncio.sleep(0)
    raise KINDS[kind]("no")


def stream(kind):
    yield 1
    raise KINDS[kind]("no")


def fail_or_return(word):
    return fail(word) if word in KINDS else word


def same(value):
    return value


def ask(kind):
    """What another task's error is in a task: its class, and that of its cause."""
    try:
        aioray.get(aioray.remote(max_retries=0)(fail).remote(kind))
    except BaseException as error:  # noqa: BLE001 - its class is the subject
        return type(error).__name__, type(getattr(error, "cause", None)).__name__
    return None


def count(*values):
    return len(values)


class Unpicklable:
    def __getstate__(self):
        return {"nothing": "much"}

    def __setstate__(self, state):
        raise StopIteration


class Refusing:
    def __reduce__(self):
        raise StopIteration


def make_unpicklable():
    return Refusing()


async def wait(started):
    say(started)
    await asyncio.Event().wait()


async def cancelled_once(path):
    note(path, "tried")
    if len(notes(path)) == 1:
        raise asyncio.CancelledError
    return "done"


class Failing:
    def fail(self, kind):
        fail(kind)

    def stream(self, kind):
        yield from stream(kind)

    def fail_or_return(self, word):
        return fail_or_return(word)


class FailingAsync:
    async def fail(self, kind):
        await fail_async(kind)

    async def stream(self, kind):
        yield 1
        await fail_async(kind)

    async def wait(self, started):
        await wait(started)
