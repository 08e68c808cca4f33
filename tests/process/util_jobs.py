"""The functions that the tools of `aioray.util` run in workers; see `jobs` for how they talk."""

from __future__ import annotations

import collections
import os
import re
import signal
import sys
import time

import aioray
from aioray.experimental import tqdm_ray

from . import jobs

settings = {}
calls = 0


def double(value):
    return 2 * value


def count_calls():
    global calls
    calls += 1
    return calls


def join(*parts, end=""):
    return "".join(parts) + end


def fail_at(bad, value):
    if value == bad:
        raise jobs.CustomError(value, "was asked to")
    return value


def set_up(path, name):
    settings["name"] = name
    jobs.note(path, os.getpid())


def name_and_pid(_item):
    return settings["name"], os.getpid()


def break_up():
    raise jobs.CustomError(1, "no database")


class NotPicklable:
    def __reduce__(self):
        raise jobs.CustomError(7, "no")


def pid(_item):
    return os.getpid()


def say_and_hold(started, gate, item):
    """Say the item and the pid, wait for the test, return the item."""
    jobs.say(started, f"{item} {os.getpid()}")
    jobs.listen(gate)
    return item


def note_begin_and_end(path, item):
    """Note when this begins and ends, some time later, and return the item."""
    jobs.note(path, "begin")
    time.sleep(0.02)  # so that two of them would overlap
    jobs.note(path, "end")
    return item


def fill(array):
    """Fill an array with ones; return whether it could be written to, and the array."""
    writable = array.flags.writeable
    array[:] = 1
    return writable, array


def die_once(path, item):
    """Kill this process the first time that anybody gets this item."""
    if str(item) not in jobs.notes(path):
        jobs.note(path, item)
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die(_item):
    os._exit(42)


def note_and_return(path, item):
    jobs.note(path, item)
    return item


def count_words(path):
    with open(path, encoding="utf-8") as file:
        return collections.Counter(re.findall(r"\w+", file.read().lower()))


def sample_pi(samples, seed):
    """How many of so many random points lie in the circle, with a progress bar."""
    import random

    rng = random.Random(seed)
    inside = 0
    for _ in tqdm_ray.tqdm(range(samples), desc=f"sampling {seed}"):
        inside += rng.random() ** 2 + rng.random() ** 2 <= 1
    return inside


def count_quietly(steps, *, close_stdout=False):
    if close_stdout:
        sys.stdout.close()
    return sum(1 for _ in tqdm_ray.tqdm(range(steps)))


def hold_with_bar(started, gate):
    """Show a bar while the test does something else."""
    with tqdm_ray.tqdm(desc="held", total=1) as bar:
        jobs.say(started)
        jobs.listen(gate)
        bar.update(1)


def draw(steps, *, close=True, die=False):
    """Draw a bar of so many steps between two halves of a line."""
    bar = tqdm_ray.tqdm(desc="work", total=steps, flush_interval_s=0)
    for step in range(steps):
        print(f"<{step}", end="", flush=True)
        bar.update(1)
        print(">", flush=True)
    if die:
        os._exit(42)
    if close:
        bar.close()


def watch(count):
    """The sum of what tasks return, which this task waits for with a bar."""
    refs = [aioray.remote(jobs.same).options(num_cpus=0).remote(each) for each in range(count)]
    return sum(aioray.progress(refs))


class Watcher:
    """Does the same on an event loop."""

    async def watch(self, count):
        refs = [aioray.remote(jobs.same).options(num_cpus=0).remote(each) for each in range(count)]
        return await aioray.progress(refs)
