"""Tasks of many generations that stay alive for tests of what ends them; see `jobs`."""

from __future__ import annotations

import os
import time

import aioray

from . import jobs


def tree(started, depth):
    """A task with two children, and so on; those of the last generation wait for ever."""
    if depth == 0:
        jobs.say(started, os.getpid())
        time.sleep(3600)
    children = [aioray.remote(num_cpus=0)(tree).remote(started, depth - 1) for _ in range(2)]
    jobs.say(started, os.getpid())
    return aioray.get(children)


def _endless(started):
    jobs.say(started, os.getpid())
    while True:
        yield bytes(1000)


held_stream = aioray.remote(num_cpus=0, _generator_backpressure_num_objects=1)(_endless)


def read_stream(started):
    """Reads for ever what another task yields."""
    jobs.say(started, os.getpid())
    for ref in held_stream.remote(started):
        aioray.get(ref)
