"""Functions that tests map over items; `jobs` says how they talk to tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import aioray

from . import jobs


def double(x):
    return 2 * x


def add(x, y):
    return x + y


async def double_later(x):
    import asyncio

    await asyncio.sleep(0)
    return 2 * x


def noted(job):
    """Note that the item runs."""
    path, x = job
    jobs.note(path, x)
    return x


def die_once(job):
    """Kill the worker at the first run of one item, in the given way."""
    path, how, culprit, x = job
    runs = jobs.notes(path).count(str(x)) if x == culprit else 0
    jobs.note(path, x)
    if x == culprit and not runs:
        die(how)
    return x


def as_kind(kind, x):
    """Return a value of that kind."""
    if kind == "None":
        return None
    if kind == "big":
        return x << 60
    if kind == "mixed":
        return as_kind(("int", "float", "bool", "None", "str", "big", "tuple")[x // 5 % 7], x)
    return {"int": int, "float": float, "bool": bool, "str": str, "tuple": lambda x: (x, [x])}[
        kind
    ](x)


def as_kind_with_deaths(kind, path, culprit, x):
    """Return a value of that kind; kill the worker whenever it comes to one item."""
    if x == culprit:
        jobs.note(path, x)
        die("kill")
    elif x > culprit - 50:
        jobs.note(path, x)
    return as_kind(kind, x)


def die_always(job):
    path, culprit, x = job
    jobs.note(path, x)
    if x == culprit:
        die("kill")
    return x


def die(how):
    if how == "exit":
        os._exit(3)
    if how == "sys.exit":
        sys.exit(4)
    os.kill(os.getpid(), signal.SIGKILL)


def fail_at_first(job):
    """Raise ValueError at the first runs of some items."""
    path, times, culprits, x = job
    if x in culprits:
        jobs.note(path, x)
        if jobs.notes(path).count(str(x)) <= times:
            raise ValueError(x)
    return x


def fail_at(job):
    culprit, x = job
    if x == culprit:
        raise LookupError(x)
    return x


def wait_at(job):
    """Say that one item runs, and wait there for the test."""
    started, gate, culprit, x = job
    if x == culprit:
        jobs.say(started, "begun")
        jobs.listen(gate)
    return x


def hang_at(job):
    """Run for ever at one item, but say so before, and when it is interrupted."""
    started, culprit, x = job
    if x == culprit:
        try:
            jobs.say(started, "begun")
            time.sleep(jobs.FOREVER)
        except KeyboardInterrupt:
            jobs.say(started, "interrupted")
            raise
    return x


def same_list(x, _kept=[]):  # noqa: B006 - it is kept on purpose
    """Return a list that the next item changes."""
    _kept[:] = [x]
    return _kept


def array(x):
    import numpy as np

    return np.full(50_000, x)


def ref_to(x):
    return [aioray.put(x)]


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not me")


def unpicklable_at(job):
    culprit, x = job
    return Unpicklable() if x == culprit else x


class Bomb:
    """An item that cannot be unpickled in a worker."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise RuntimeError("boom")


def size_of(item):
    return item.nbytes


def nested(n):
    return sum(aioray.map(double, range(n)))


def nested_on_loop(n):
    import asyncio

    async def total():
        return sum([value async for value in aioray.map(double, range(n))])

    return asyncio.run(total())


def nested_break(started):
    for _ in aioray.map(hang_at, [(started, 1, x) for x in range(2)], max_chunk_size=1):
        break
    jobs.say(started, "broke")
    return "broke"


def pid(_x):
    return os.getpid()


def printing(x):
    print(f"item {x}")
    return x


def live_objects():
    gc.collect()
    return len(gc.get_objects())
