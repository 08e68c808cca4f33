"""What fuzzers of frames run in workers."""

from __future__ import annotations

import fcntl
import os

import aioray


def wait_at(lock, started):
    """Say who runs, and wait until nobody holds the lock."""
    fd = os.open(started, os.O_WRONLY)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.close(fd)
    fd = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)
    return "right"


def yield_at(lock, started):
    yield "first"
    yield wait_at(lock, started)


def one_and_two():
    yield 1
    yield 2


def ask_all():
    """Ask nearly all that a task can ask."""
    double = aioray.remote(lambda value: 2 * value)
    count = aioray.remote(one_and_two)
    actor = aioray.remote(Counter).options(name="counter").remote()
    refs = [aioray.put(1), double.remote(1), actor.add.remote(aioray.put(2))]
    aioray.wait(refs)
    aioray.get([*refs, *count.remote()])
    aioray.cancel(double.remote(aioray.put(3)))
    aioray.available_resources()
    aioray.get(aioray.get_actor("counter").add.remote(1))
    group = aioray.util.placement_group([{"CPU": 0.1}])
    aioray.get(group.ready())
    aioray.util.remove_placement_group(group)
    aioray.kill(actor)


class Counter:
    def __init__(self):
        self.total = 0

    def add(self, number):
        self.total += number
        return self.total
