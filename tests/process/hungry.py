"""Functions that take memory, and keep it or not, for the tests of its limits."""

from __future__ import annotations

import os
import sys
import time

from . import jobs

MB = 1024 * 1024

_kept = []


def take(megabytes):
    """So much memory, every page of it in use."""
    return b"x" * (megabytes * MB)


def keep(megabytes=0):
    """Keep so much for as long as the process lives; its pid."""
    if megabytes:
        _kept.append(take(megabytes))
    return os.getpid()


def use(megabytes, started=None, gate=None):
    """Have so much, and let go of it; the pid."""
    held = take(megabytes)
    if started is not None:
        jobs.say(started, os.getpid())
        jobs.listen(gate)
    del held
    return os.getpid()


class Keeper:
    """An actor that takes memory."""

    def keep(self, megabytes=0):
        return keep(megabytes)

    def hold(self, megabytes):
        held = take(megabytes)
        time.sleep(jobs.FOREVER)
        return len(held)


def hold_in_a_child(megabytes, started=None):
    """Let a process below this one have so much, until it is killed."""
    import subprocess

    code = f"import time; held = b'x' * ({megabytes} << 20); time.sleep({jobs.FOREVER})"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as child:
        if started is not None:
            jobs.say(started, child.pid)
        child.wait()


def fork_and_touch(megabytes, gate=None):
    """Have so much, and a forked process beside that has the same, and no more."""
    held = take(megabytes)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent lets go
        os._exit(0)
    time.sleep(0.6)  # it is looked at meanwhile, more than once
    os.close(writer)
    os.waitpid(pid, 0)
    return len(held)


def take_once(path, megabytes):
    """Take so much in the first attempt, and little in those after it."""
    jobs.note(path, os.getpid())
    if len(jobs.notes(path)) == 1:
        held = take(megabytes)
        time.sleep(jobs.FOREVER)
        return len(held)
    return len(jobs.notes(path))


def grow(megabytes, step=10):
    """Take more and more, to that size; from 200 MB on slowly, so that who looks is in time."""
    held = []
    while len(held) * step < megabytes:
        held.append(take(step))
        time.sleep(0.01 if len(held) * step < 200 else 0.2)
    time.sleep(jobs.FOREVER)


def items(megabytes):
    """Yield one value, and take so much before the second."""
    yield 1
    held = take(megabytes)
    time.sleep(jobs.FOREVER)
    yield len(held)


class BornHungry:
    """An actor that takes memory when it is made."""

    def __init__(self, megabytes):
        self.held = take(megabytes)
        time.sleep(jobs.FOREVER if megabytes > 1 else 0)

    def ping(self):
        return len(self.held)


class Async:
    """An actor that runs many calls at once."""

    async def ping(self):
        return 1

    async def hold(self, megabytes):
        import asyncio

        held = take(megabytes)
        await asyncio.sleep(jobs.FOREVER)
        return len(held)
