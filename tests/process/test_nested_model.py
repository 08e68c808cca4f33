"""Random programs of tasks that submit tasks, against a model: see `nested_program`."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

import aioray

from . import jobs
from .nested_program import DEPTH, Order, Program, forget
from .support import GUARD
from .test_objects import MIB, spill_folder, spilled, used

__all__ = ["spill_folder"]  # the fixture, used by the test here

STEPS = 40
CPUS = 2
WORKERS = 14  # that `forget` visits at once: more than there are


def settled() -> dict[str, float]:
    """What is in use and free, after bounded waiting for everything, here and in workers."""

    async def wait() -> None:
        async with asyncio.timeout(GUARD):
            jobs.remembered.clear()
            while used() or free("CPU") != CPUS:
                await forget.remote(WORKERS)
                gc.collect()

    with contextlib.suppress(TimeoutError):
        asyncio.run(wait())
    return {"memory": used(), "CPU": free("CPU")}


def free(name: str) -> float:
    return aioray.available_resources().get(name, 0.0)


def run(order: Order) -> None:
    program = Program(order, [])
    for _ in range(STEPS):
        program.step()
    while program.known:
        program.known.pop().check()


@pytest.mark.parametrize("seed", range(12))
def test_tasks_get_what_the_model_says_and_nothing_is_left(seed, spill_folder):
    aioray.init(num_cpus=CPUS, object_store_memory=6 * MIB)
    try:
        run(Order(seed, DEPTH, cancels=False))
        assert settled() == {"memory": 0, "CPU": CPUS}
        assert spilled(spill_folder) == []
    finally:
        aioray.shutdown()


@pytest.mark.parametrize("seed", range(12))
def test_tasks_that_cancel_others_get_what_the_model_says(seed, spill_folder):
    aioray.init(num_cpus=CPUS, object_store_memory=6 * MIB)
    try:
        run(Order(seed, DEPTH))
        assert settled()["CPU"] == CPUS
    finally:
        aioray.shutdown()
