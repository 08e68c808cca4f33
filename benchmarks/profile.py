"""Where the processor time of a no-op task goes: microseconds by step, in the driver and a worker.

One worker, and a driver on asyncio's own loop, whose Python frames can be seen; tasks queued, many
at once, and round trips, one after the other. `sampling` does the measuring.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aioray

from . import tasks
from .report import markdown_table
from .sampling import (
    COLLECTOR,
    DRIVER,
    OTHER_THREADS,
    UNASSIGNED,
    Sampler,
    start_in_worker,
    stop_in_worker,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AT_ONCE = 10_000
TRIPS_AT_ONCE = 200
AIM_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one process under one load."""

    load: str
    process: str
    tasks: int
    seconds: float  # of processor time
    steps: dict[str, float]  # seconds of it
    samples: int

    @property
    def accounted(self) -> float:
        """The share of the processor time that is known to belong to a step."""
        named = sum(seconds for step, seconds in self.steps.items() if step != UNASSIGNED)
        return named / self.seconds if self.seconds else 0.0

    def microseconds(self, step: str) -> float:
        """Of each task."""
        return 1e6 * self.steps.get(step, 0.0) / self.tasks


def measure(seconds: float) -> list[Profile]:
    """Profiles of driver and worker; each load takes the driver so many seconds of processor."""
    return asyncio.run(_measure(seconds))


async def _measure(seconds: float) -> list[Profile]:
    aioray.init(num_cpus=1, log_to_driver=False)
    try:
        add_one = aioray.remote(tasks.add_one)

        async def queued() -> int:
            await asyncio.gather(*[add_one.remote(i).as_future() for i in range(AT_ONCE)])
            return AT_ONCE

        async def trips() -> int:
            for i in range(TRIPS_AT_ONCE):
                await add_one.remote(i)
            return TRIPS_AT_ONCE

        profiles = []
        for load, work in (("queued", queued), ("round trip", trips)):
            profiles += await _of_load(load, work, seconds)
        return profiles
    finally:
        await aioray.shutdown()


async def _of_load(load: str, work: Callable[[], Awaitable[int]], seconds: float) -> list[Profile]:
    await work()  # all is loaded and warm
    count = 0
    await aioray.remote(start_in_worker).remote()
    sampler = Sampler(DRIVER)
    sampler.start()
    deadline = time.process_time() + seconds
    while time.process_time() < deadline:
        count += await work()
    of_driver = sampler.stop()
    of_worker: dict[str, Any] = await aioray.remote(stop_in_worker).remote()
    return [
        Profile(load, process, count, found["seconds"], found["steps"], found["samples"])
        for process, found in (("driver", of_driver), ("worker", of_worker))
    ]


def lines(profiles: list[Profile]) -> list[str]:
    """Markdown: a table of each process, with a column for each load, and what is not known."""
    written: list[str] = []
    for process in dict.fromkeys(profile.process for profile in profiles):
        columns = [profile for profile in profiles if profile.process == process]
        last = (COLLECTOR, OTHER_THREADS, UNASSIGNED)
        steps = {step for profile in columns for step in profile.steps} - {*last}
        order = sorted(steps, key=lambda step: -columns[0].microseconds(step))
        grid = [[f"{process}, µs of processor time a task", *(p.load for p in columns)]]
        for step in (*order, *last):
            figures = [profile.microseconds(step) for profile in columns]
            if any(abs(figure) >= 0.005 for figure in figures):
                grid.append([step, *(f"{figure:.2f}" for figure in figures)])
        whole = [1e6 * p.seconds / p.tasks for p in columns]
        grid.append(["all", *(f"{figure:.2f}" for figure in whole)])
        grid.append(["samples", *(str(p.samples) for p in columns)])
        grid.append(["accounted for", *(f"{100 * p.accounted:.0f} %" for p in columns)])
        written += ["", *markdown_table(grid)] if written else markdown_table(grid)
    return written
