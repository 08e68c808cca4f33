"""aiomultiprocess: coroutine functions in worker processes, so the tasks are wrapped into such."""

from __future__ import annotations

import asyncio
import time

import aiomultiprocess

from benchmarks import tasks
from benchmarks.contestants.asynchronous import AsyncContestant


async def add_one(i: int) -> int:
    return tasks.add_one(i)


async def hundred_ints(record: dict[str, object]) -> list[int]:
    return tasks.hundred_ints(record)


async def burn(iterations: int) -> None:
    tasks.burn(iterations)


class Aiomultiprocess(AsyncContestant):
    """A Pool with its default settings."""

    async def open(self) -> None:
        self.pool = aiomultiprocess.Pool(processes=self.workers)

    def version(self) -> str:
        return aiomultiprocess.__version__

    async def close(self) -> None:
        self.pool.terminate()
        await self.pool.join()

    async def batch(self, count: int) -> float:
        start = time.perf_counter()
        values = await self.pool.map(add_one, range(count))
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    async def payload(self, count: int) -> float:
        record = tasks.record_of_1kb()
        start = time.perf_counter()
        await self.pool.map(hundred_ints, [record] * count)
        return time.perf_counter() - start

    async def round_trips(self, count: int) -> list[float]:
        taken = []
        for i in range(count):
            start = time.perf_counter()
            await self.pool.apply(add_one, (i,))
            taken.append(time.perf_counter() - start)
        return taken

    async def burns(self, count: int, iterations: int) -> float:
        start = time.perf_counter()
        await asyncio.gather(*[self.pool.apply(burn, (iterations,)) for _ in range(count)])
        return time.perf_counter() - start
