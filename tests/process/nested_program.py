"""A random program of tasks that submit tasks; its steps run in the driver and in workers alike.

Every ref travels as a `Known`, with what its value has to be, so that whoever finds one can check
it: a model in pieces. A task's steps follow from its seed alone, so another attempt does the same.
What goes wrong in a task (a wrong value, an error that nobody expected) is an error of the task,
and so reaches the driver in the end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import aioray
from aioray.exceptions import RayError, TaskCancelledError, WorkerCrashedError
from aioray.testing import lose

from . import jobs

LARGE = 100 * 1024 // 8  # numbers, from which on they lie in the store
GUARD = 100.0  # seconds; a get that lasts longer hangs
DEPTH = 3


@dataclass(frozen=True)
class Known:
    """A ref, and what it has to give."""

    ref: Any
    seed: int
    kind: str = "array"  # or "bag", an array and more of these; "fails"; "dies"
    may_be_cancelled: bool = False
    may_be_lost: bool = False  # and comes back

    def check(self) -> list[Known]:
        """Get it. What there was in it besides."""
        try:
            value = aioray.get(self.ref, timeout=GUARD)
        except RayError as error:
            if not self._expects(error):
                raise
            return []
        assert self.kind in ("array", "bag"), f"{self} has a value"
        inner = []
        if self.kind == "bag":
            value, inner = value
        assert np.array_equal(value, array(self.seed)), f"{self} has another value"
        return inner

    def _expects(self, error: RayError) -> bool:
        if self.may_be_cancelled and isinstance(error, TaskCancelledError):
            return True
        if self.kind == "fails":
            return isinstance(error, ZeroDivisionError)
        return self.kind == "dies" and isinstance(error, WorkerCrashedError)


@dataclass(frozen=True)
class Order:
    """What one task is to do."""

    seed: int
    depth: int
    ending: str = "bag"  # a Known's kind
    crashes: int = 0  # attempts that die on the way
    may_be_cancelled: bool = False
    cancels: bool = True  # whether it cancels others, and so do its children


def array(seed: int) -> Any:
    """Small or large, both by the seed."""
    count = seed % 200 + 1 if seed % 3 == 0 else LARGE + seed % LARGE
    return jobs.numbers(count, seed % 1000)


class Program:
    """The steps of one task, or of the driver."""

    def __init__(self, order: Order, known: list[Known]) -> None:
        self.order = order
        self.random = random.Random(order.seed)
        self.known = known

    def seed(self) -> int:
        return self.random.randrange(1 << 30)

    def add(self, known: Known) -> None:
        if self.order.may_be_cancelled:
            known = replace(known, may_be_cancelled=True)
        self.known.append(known)

    def some(self, most: int) -> list[Known]:
        return self.random.sample(self.known, min(len(self.known), self.random.randint(0, most)))

    def put(self) -> None:
        seed = self.seed()
        if self.random.random() < 0.5:
            self.add(Known(aioray.put(array(seed)), seed))
        else:
            self.add(Known(aioray.put((array(seed), self.some(2))), seed, "bag"))

    def submit(self) -> None:
        if self.order.depth <= 0:
            self.submit_leaf()
            return
        crashes = self.random.choice([0, 0, 0, 0, 0, 1])
        order = Order(
            self.seed(), self.order.depth - 1, "bag", crashes, self.is_doomed, self.order.cancels
        )
        self.add(Known(run.remote(order, self.some(3)), order.seed, "bag"))

    def submit_leaf(self) -> None:
        seed = self.seed()
        if self.random.random() < 0.15:
            kind = self.random.choice(["fails", "dies"])
            function = {"fails": fail, "dies": die}[kind]
            self.add(Known(function.remote(), seed, kind))
            return
        self.add(Known(leaf.remote(seed), seed, may_be_lost=len(array(seed)) >= LARGE))

    def submit_behind(self) -> None:
        """A task that has the value of another one as an argument, by its ref alone."""
        arrays = [each for each in self.known if each.kind != "bag"]
        if arrays:
            source = self.random.choice(arrays)
            seed = self.seed()
            kind = source.kind if source.kind in ("fails", "dies") else "array"
            ref = after.remote(seed, source.seed, source.ref)
            self.known.append(Known(ref, seed, kind, source.may_be_cancelled or self.is_doomed))

    def stream(self) -> None:
        """Read some items of a generator; the rest is dropped with it."""
        count = self.random.randint(0, 5)
        reads = self.random.randint(0, 6)
        function = self.random.choice([items, items.options(_generator_backpressure_num_objects=2)])
        seed = self.seed()
        generator = function.remote(seed, count)
        for number in range(reads):
            try:
                ref = next(generator)
            except StopIteration:
                assert number == count or self.is_doomed, f"{number} items of {count}"
                return
            assert number < count or self.is_doomed, f"more than {count} items"
            self.add(Known(ref, seed + number, may_be_lost=len(array(seed + number)) >= LARGE))

    def read(self) -> None:
        if self.known:
            found = self.random.choice(self.known).check()
            self.known += found[: self.random.randint(0, 2)]

    def wait(self) -> None:
        refs = list({known.ref: None for known in self.some(4)})
        if refs:
            count = self.random.randint(1, len(refs))
            timeout = self.random.choice([0, 0.001, None])
            ready, pending = aioray.wait(refs, num_returns=count, timeout=timeout)
            assert {*ready, *pending} == {*refs}
            assert timeout is not None or len(ready) == count

    def drop(self) -> None:
        while len(self.known) > 6:
            self.known.pop(self.random.randrange(len(self.known)))

    def lose(self) -> None:
        found = [known for known in self.known if known.may_be_lost]
        if found:
            with contextlib.suppress(ValueError):  # it has no value yet, or none any more
                lose(self.random.choice(found).ref)

    def cancel(self) -> None:
        order = Order(self.seed(), self.order.depth - 1, may_be_cancelled=True)
        if order.depth >= 0:
            known = Known(run.remote(order, self.some(2)), order.seed, "bag", True)
            if self.random.random() < 0.5:
                aioray.wait([known.ref], timeout=self.random.choice([0.001, 0.02]))
            aioray.cancel(known.ref, recursive=self.random.random() < 0.7)
            self.known.append(known)

    @property
    def is_doomed(self) -> bool:
        return self.order.may_be_cancelled

    def keep(self) -> None:
        """Beyond the end of the task."""
        jobs.remembered.extend(self.some(1))

    def find(self) -> None:
        """What an earlier task in this process has kept, or forget it."""
        kept = jobs.remembered
        if kept:
            found = kept.pop(self.random.randrange(len(kept)))
            if self.random.random() < 0.5:
                self.known.append(found)

    def step(self) -> None:
        steps = [self.put, self.submit_behind, self.stream, self.wait, self.lose]
        if self.order.cancels:
            steps.append(self.cancel)
        steps += [self.keep, self.find] + 2 * [self.submit, self.submit_leaf] + 3 * [self.read]
        self.random.choice(steps)()
        self.drop()


@aioray.remote(max_retries=-1)
def run(order: Order, given: list[Known]) -> Any:
    """One task: some steps, and then its ending."""
    program = Program(order, given)
    attempt = aioray.get_runtime_context().get_attempt_number()
    steps = program.random.randint(1, 5)
    dies_at = program.random.randint(0, steps)
    for number in range(steps + 1):
        if number == dies_at and attempt < order.crashes:
            os._exit(3)
        if number < steps:
            program.step()
    return array(order.seed), program.some(2)


@aioray.remote(max_retries=-1)
def leaf(seed: int) -> Any:
    return array(seed)


@aioray.remote(max_retries=-1)
def after(seed: int, source_seed: int, source: Any) -> Any:
    assert np.array_equal(source, array(source_seed))
    return array(seed)


@aioray.remote(max_retries=-1)
def items(seed: int, count: int) -> Any:
    for number in range(count):
        yield array(seed + number)


@aioray.remote
def fail() -> Any:
    return 1 / 0


@aioray.remote(max_retries=0)
def die() -> Any:
    os._exit(4)


@aioray.remote(num_cpus=0)
def forget(workers: int) -> int:
    """Let go of what tasks have kept, here and in so many more workers: each waits for the next."""
    jobs.remembered.clear()
    gc.collect()
    return 1 + aioray.get(forget.remote(workers - 1)) if workers else 0
