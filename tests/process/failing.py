"""Functions that fail in every way that may leave something behind in their worker.

Each has a `Burden` in a local variable, so that whoever keeps its frame keeps that. `burdens` tells
how many there are; the cyclic collector is off, so that nobody else takes them away.
"""

# ruff: noqa: F841 - variables that nobody reads are what this is about

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import sys
import time
import weakref

import aioray

from .jobs import FOREVER, say

_burdens = weakref.WeakSet()


class Burden:
    """What must not live on, along with a value in the store."""

    def __init__(self):
        gc.disable()
        _burdens.add(self)
        import numpy as np

        self.ref = aioray.put(np.zeros(1_000_000, np.uint8))


class KeptError(Exception):
    """Its only instance is raised again and again."""


KEPT = KeptError("again")


def burdens():
    """How many there are in this process."""
    return len(_burdens)


def with_its_error():
    burden = Burden()
    error = ValueError("no")
    raise error


def with_its_traceback():
    burden = Burden()
    try:
        raise ValueError("no")
    except ValueError:
        held = sys.exc_info()
        raise


def with_its_frame():
    burden = Burden()
    frame = sys._getframe()
    raise ValueError("no")


def with_a_cause():
    burden = Burden()
    try:
        with_its_traceback()
    except ValueError as error:
        cause = error
        raise KeyError("outer") from error


def with_a_context_that_is_hidden():
    burden = Burden()
    try:
        with_its_error()
    except ValueError as error:
        context = error
        raise KeyError("outer") from None


def with_an_error_that_it_has_handled():
    burden = Burden()
    try:
        raise_elsewhere()
    except ValueError as error:
        handled = error
    raise KeyError("another")


def with_a_group():
    burden = Burden()
    errors = []
    for fail in (with_its_traceback, with_its_error, with_a_cause):
        try:
            fail()
        except Exception as error:  # noqa: BLE001 - of whatever class
            errors.append(error)
    raise ExceptionGroup("all", [errors[0], ExceptionGroup("some", errors[1:])])


def with_the_error_of_a_thread():
    burden = Burden()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        future = executor.submit(with_its_traceback)
        return future.result()


def with_the_error_of_another_task():
    burden = Burden()
    try:
        aioray.get(aioray.remote(num_cpus=0)(raise_elsewhere).remote())
    except ValueError as caught:
        error = caught
        raise


def raise_elsewhere(*_given):
    raise ValueError("no")


def with_an_error_that_is_kept():
    burden = Burden()
    raise KEPT


def with_a_result_that_cannot_be_pickled():
    burden = Burden()
    return [burden, Refusing()]


class Refusing:
    def __reduce__(self):
        burden = Burden()
        raise TypeError("no")


def with_a_base_exception():
    burden = Burden()
    error = GeneratorExit("no")
    raise error


def with_an_interrupt_of_its_own():
    burden = Burden()
    error = KeyboardInterrupt()
    raise error


def in_a_generator():
    burden = Burden()
    yield 1
    error = ValueError("no")
    raise error


def in_a_generator_inside_another():
    burden = Burden()
    inner = in_a_generator()
    yield from inner


async def in_a_coroutine():
    burden = Burden()
    error = ValueError("no")
    await asyncio.sleep(0)
    raise error


async def in_tasks_of_asyncio():
    burden = Burden()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_a_coroutine()) for _ in range(2)]


async def with_a_cancel_of_its_own():
    burden = Burden()
    task = asyncio.ensure_future(asyncio.sleep(100))
    task.cancel()
    await task


async def in_an_asynchronous_generator():
    burden = Burden()
    yield 1
    error = ValueError("no")
    await asyncio.sleep(0)
    raise error


PLAIN = (
    with_its_error,
    with_its_traceback,
    with_its_frame,
    with_a_cause,
    with_a_context_that_is_hidden,
    with_an_error_that_it_has_handled,
    with_a_group,
    with_the_error_of_a_thread,
    with_an_error_that_is_kept,
    with_a_result_that_cannot_be_pickled,
    with_a_base_exception,
    with_an_interrupt_of_its_own,
)
NESTED = (with_the_error_of_another_task,)
COROUTINES = (in_a_coroutine, in_tasks_of_asyncio, with_a_cancel_of_its_own)
GENERATORS = (in_a_generator, in_a_generator_inside_another)
ASYNCHRONOUS_GENERATORS = (in_an_asynchronous_generator,)


def first_burdens(path, fail):
    """Fail in the first attempts; what a later one finds of them."""
    with open(path, "a+", encoding="utf-8") as file:
        file.write("x")
        file.seek(0)
        if len(file.read()) <= 2:
            fail()
    return burdens()


def until_interrupted(started):
    """Run until a cancel."""
    burden = Burden()
    say(started)
    try:
        time.sleep(FOREVER)
    except KeyboardInterrupt as caught:
        error = caught
        raise


async def until_cancelled(started):
    """Wait until a cancel."""
    burden = Burden()
    say(started)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as caught:
        error = caught
        raise


class Failing:
    """Its methods fail as they are told."""

    def plain(self, fail):
        return fail()

    def stream(self, fail):
        yield from fail()

    def burdens(self):
        return burdens()


class FailingAsync:
    """Its coroutines fail as they are told."""

    async def plain(self, fail):
        value = fail()
        return await value if asyncio.iscoroutine(value) else value

    async def stream(self, fail):
        async for item in fail():
            yield item

    def mixed(self, fail):
        yield from fail()

    async def burdens(self):
        return burdens()

    async def until_cancelled(self, started):
        await until_cancelled(started)


class Pump:
    """Has a coroutine that goes on after it has handled an error, which a call raises later."""

    async def start(self):
        self.pumping = asyncio.ensure_future(self.pump())
        await asyncio.sleep(0)

    async def pump(self):
        try:
            raise ValueError("no")
        except ValueError as error:
            self.error = error
        self.go_on = asyncio.Event()
        await self.go_on.wait()
        return "pumped"

    async def fail(self):
        raise self.error

    async def finish(self):
        self.go_on.set()
        return await self.pumping
