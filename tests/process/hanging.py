"""Functions and actors that take too long, each in its own way; importable, so that workers can."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time

import aioray

from .jobs import FOREVER, note, say
from .jobs import notes as lines


def sleeps(path=None):
    if path is not None:
        say(path)
    time.sleep(FOREVER)


def spins():
    while True:
        pass


def holds_the_gil():
    """Runs in C without an end, and lets no signal handler of Python run."""
    sum(itertools.repeat(1))


def is_deaf():
    while True:
        try:
            time.sleep(FOREVER)
        except KeyboardInterrupt:
            continue


async def awaits():
    await asyncio.sleep(FOREVER)


def waits_for_another(leaf):
    return aioray.get(leaf.remote())


def yields_and_hangs():
    yield 1
    time.sleep(FOREVER)


def yields(count, pause):
    for number in range(count):
        yield number
        time.sleep(pause)


def beats_and_hangs(count):
    for _ in range(count):
        time.sleep(0.1)
        aioray.heartbeat()
    time.sleep(FOREVER)


def beats_in_a_thread(count):
    """Gets on for longer than its limit; the main thread says nothing."""

    def beat():
        for _ in range(count):
            time.sleep(0.1)
            aioray.heartbeat()

    thread = threading.Thread(target=beat)
    thread.start()
    thread.join()
    return "done"


def catches_and_returns():
    try:
        time.sleep(FOREVER)
    except KeyboardInterrupt:
        return "a value"


def catches_and_raises():
    try:
        time.sleep(FOREVER)
    except KeyboardInterrupt:
        raise ValueError("on the way out") from None


def hangs_once(notes):
    """Hangs at its first attempt."""
    before = len(lines(notes))
    note(notes, os.getpid())
    if not before:
        time.sleep(FOREVER)
    return before


def same(value):
    return value


def dies():
    os._exit(3)


class Ordered:
    def __init__(self):
        self.count = 0

    @aioray.method(timeout=0.5)
    def hangs(self):
        time.sleep(FOREVER)

    @aioray.method(timeout=0.5)
    def is_deaf(self):
        is_deaf()

    def add(self):
        self.count += 1
        return self.count


class Asynchronous:
    @aioray.method(timeout=0.5)
    async def hangs(self):
        await asyncio.sleep(FOREVER)

    @aioray.method(timeout=0.5)
    async def is_deaf(self):
        is_deaf()

    @aioray.method(stall_timeout=5.0)
    async def beats(self, count):
        for _ in range(count):
            await asyncio.sleep(0.1)
            aioray.heartbeat()
        return "done"

    @aioray.method(stall_timeout=5.0)
    async def stalls(self):
        await asyncio.sleep(FOREVER)

    async def same(self, value):
        return value


class Threaded:
    @aioray.method(timeout=0.5)
    def hangs(self):
        while not aioray.get_runtime_context().is_canceled():
            time.sleep(0.01)
        return "noticed"

    @aioray.method(timeout=0.5)
    def is_deaf(self):
        time.sleep(FOREVER)

    @aioray.method(stall_timeout=5.0)
    def beats(self, count):
        for _ in range(count):
            time.sleep(0.1)
            aioray.heartbeat()
        return "done"

    def same(self, value):
        return value


class Making:
    def __init__(self, notes, hangs):
        note(notes, os.getpid())
        if len(lines(notes)) <= hangs:
            time.sleep(FOREVER)

    def pid(self):
        return os.getpid()


class AsyncMaking:
    def __init__(self):
        time.sleep(FOREVER)

    async def pid(self):
        return os.getpid()
