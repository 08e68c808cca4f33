"""Random programs with more values than memory, against a model that just remembers them.

Each step puts, submits, nests, reads, looks, drops, loses, or kills a worker. Values are arrays of
consecutive numbers, so length and start say all. The model also knows which results may be lost
without an error: those that do not depend on large values of `put` or on large direct arguments,
which nobody promises to keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import aioray
from aioray.testing import lose

from . import jobs
from .support import GUARD, everywhere
from .test_objects import MIB, settled, spill_folder, spilled, used

__all__ = ["spill_folder"]  # the fixture, used by the test here

LARGE = 100 * 1024 // 8  # numbers, from which on they lie in the store
STEPS = 150
derive = aioray.remote(max_retries=-1)(jobs.derive)
pid = aioray.remote(max_retries=-1)(jobs.pid)


@dataclass
class Known:
    """A ref, and what its value has to be."""

    ref: Any
    count: int = 0
    start: int = 0
    inner: list[Known] = field(default_factory=list)  # if it is a list of refs
    may_be_lost: bool = False

    @property
    def is_large(self):
        return self.count >= LARGE

    @property
    def is_safe(self):
        """Whether a task that needs it can be run again at any time."""
        return self.may_be_lost or not self.is_large

    def check(self, value):
        if self.inner:
            assert value == [known.ref for known in self.inner]
        else:
            assert np.array_equal(value, jobs.numbers(self.count, self.start))
            assert value.flags.writeable is False


class Program:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.known: list[Known] = []
        self.held: list[tuple[Known, Any]] = []
        self.done: dict[str, int] = {}

    def count(self):
        if self.random.random() < 0.3:
            return self.random.randint(1, 200)
        return self.random.randint(LARGE, 6 * LARGE)

    def arrays(self, most):
        arrays = [known for known in self.known if not known.inner]
        return self.random.sample(arrays, min(len(arrays), self.random.randint(0, most)))

    def put(self):
        count, start = self.count(), self.random.randrange(1_000)
        self.known.append(Known(aioray.put(jobs.numbers(count, start)), count, start))

    def submit(self):
        given = self.arrays(3)
        count, start = self.count(), self.random.randrange(1_000)
        direct = []
        if self.random.random() < 0.2:
            direct = [Known(None, self.count(), self.random.randrange(1_000))]
        arguments = [known.ref for known in given]
        arguments += [jobs.numbers(known.count, known.start) for known in direct]
        ref = derive.remote(count, start, *arguments)
        sources = [*given, *direct]
        start = jobs.derived(start, [(one.start, one.start + one.count - 1) for one in sources])
        known = Known(ref, count, int(start))
        known.may_be_lost = known.is_large and all(source.is_safe for source in sources)
        self.known.append(known)

    def nest(self):
        inner = self.arrays(3)
        if inner:
            self.known.append(Known(aioray.put([known.ref for known in inner]), inner=inner))

    def pick(self, wanted=lambda _: True):
        found = [known for known in self.known if wanted(known)]
        return self.random.choice(found) if found else None

    async def read(self):
        known = self.pick()
        if known is not None:
            if self.random.random() < 0.5:
                known.check(await asyncio.wait_for(known.ref, GUARD))
            else:
                known.check(await asyncio.to_thread(aioray.get, known.ref, timeout=GUARD))

    async def read_inside(self):
        known = self.pick(lambda known: known.inner)
        if known is not None:
            for inner, ref in zip(known.inner, await known.ref, strict=True):
                inner.check(await asyncio.wait_for(ref, GUARD))

    async def look(self):
        known = self.pick(lambda known: not known.inner)
        if known is not None:
            self.held.append((known, await asyncio.wait_for(known.ref, GUARD)))
        if len(self.held) > 3:
            self.held.pop(self.random.randrange(len(self.held)))

    def drop(self):
        while len(self.known) > self.random.randint(5, 25):
            self.known.pop(self.random.randrange(len(self.known)))

    async def lose(self):
        known = self.pick(lambda known: known.may_be_lost)
        if known is not None:
            if self.random.random() < 0.5:
                await asyncio.wait([known.ref])
            with contextlib.suppress(ValueError):  # it has no value yet, or none any more
                lose(known.ref)

    async def kill(self):
        if self.random.random() < 0.3:
            with contextlib.suppress(ProcessLookupError):
                os.kill(await pid.remote(), signal.SIGKILL)

    async def run(self):
        steps = [self.put, self.nest, self.read_inside, self.look, self.kill]
        steps += 3 * [self.submit] + 2 * [self.read, self.drop, self.lose]
        for _ in range(STEPS):
            step = self.random.choice(steps)
            done = step()
            if done is not None:
                await done
            assert used() <= 4 * MIB
            for known, array in self.held:
                known.check(array)
        for known in self.known:
            known.check(await asyncio.wait_for(known.ref, GUARD))


@everywhere(object_store_memory=4 * MIB)
@pytest.mark.parametrize("seed", range(4))
async def test_every_value_is_what_the_model_says_and_nothing_is_left(seed, spill_folder):
    program = Program(seed)
    await program.run()
    assert spilled(spill_folder)  # else this was no test of that
    del program
    gc.collect()
    assert await settled() == 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GUARD / 2):
            while spilled(spill_folder):
                await pid.remote()
    assert spilled(spill_folder) == []
