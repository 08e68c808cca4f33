"""aioray, in its own loop or from a plain script."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aioray
from aioray.exceptions import RayError, WorkerCrashedError
from benchmarks import tasks
from benchmarks.contestants.asynchronous import AsyncContestant, file_appears
from benchmarks.contestants.base import Contestant, wait_for_file

add_one = aioray.remote(tasks.add_one)
burn_and_return = aioray.remote(tasks.burn_and_return)
die = aioray.remote(max_retries=0)(tasks.die)
die_once = aioray.remote(max_retries=1)(tasks.die_once)
hold = aioray.remote(tasks.hold)
hundred_ints = aioray.remote(tasks.hundred_ints)
mark_and_loop = aioray.remote(tasks.mark_and_loop)
mark_and_sleep = aioray.remote(tasks.mark_and_sleep)

SETTLE_SECONDS = 0.5  # for submissions to get from the caller's hands into the engine


class AsyncAioray(AsyncContestant):
    """The engine lives in the driver's loop."""

    def __init__(
        self,
        workers: int,
        directory: str,
        *,
        as_futures: bool = True,
        use_uvloop: bool = True,
    ) -> None:
        super().__init__(workers, directory)
        if use_uvloop:
            import uvloop

            self.loop_factory = uvloop.new_event_loop
        self.as_futures = as_futures

    async def open(self) -> None:
        aioray.init(num_cpus=self.workers, log_to_driver=False)

    def version(self) -> str:
        return aioray.__version__

    async def close(self) -> None:
        await aioray.shutdown()

    async def _all(self, refs: list[Any]) -> list[Any]:
        if self.as_futures:
            return await asyncio.gather(*[ref.as_future() for ref in refs])
        return await asyncio.gather(*refs)

    async def batch(self, count: int) -> float:
        start = time.perf_counter()
        values = await self._all([add_one.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    async def payload(self, count: int) -> float:
        record = tasks.record_of_1kb()
        start = time.perf_counter()
        values = await self._all([hundred_ints.remote(record) for _ in range(count)])
        seconds = time.perf_counter() - start
        assert len(values[-1]) == 100
        return seconds

    async def round_trips(self, count: int) -> list[float]:
        taken = []
        clock = time.perf_counter
        for i in range(count):
            start = clock()
            await add_one.remote(i)
            taken.append(clock() - start)
        return taken

    async def burns(self, count: int, iterations: int) -> float:
        start = time.perf_counter()
        await self._all([burn_and_return.remote(iterations, i) for i in range(count)])
        return time.perf_counter() - start

    async def chain(self, length: int) -> float:
        start = time.perf_counter()
        ref = add_one.remote(0)
        for _ in range(length - 1):
            ref = add_one.remote(ref)
        assert await ref == length
        return time.perf_counter() - start

    async def new_workers(self, count: int) -> float:
        """Seconds for tasks that no living worker may run: their environment is new."""
        variants = [
            add_one.options(runtime_env={"env_vars": {"BENCHMARK": self.fresh_path()}})
            for _ in range(count)
        ]
        start = time.perf_counter()
        await self._all([variant.remote(i) for i, variant in enumerate(variants)])
        return time.perf_counter() - start

    async def crash(self) -> dict[str, float]:
        path = self.fresh_path()
        try:
            await die.remote(path)
        except WorkerCrashedError:
            noticed = time.monotonic() - tasks.time_of_death(path)
        await add_one.remote(1)
        died = await die_once.remote(self.fresh_path())
        return {"noticed": noticed, "retried": time.monotonic() - died}

    async def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        path = self.fresh_path()
        ref = (mark_and_loop if loops else mark_and_sleep).remote(path)
        following = add_one.remote(1)
        await file_appears(path)
        start = time.perf_counter()
        aioray.cancel(ref, force=force)
        try:
            await ref
        except RayError:
            seen = time.perf_counter() - start
        await following
        return {"seen": seen, "next": time.perf_counter() - start}

    async def enqueue(self, count: int) -> None:
        path = self.fresh_path()
        self.kept += [hold.remote(path) for _ in range(self.workers)]
        self.kept += [add_one.remote(i) for i in range(count)]
        await asyncio.sleep(SETTLE_SECONDS)


class SyncAioray(Contestant):
    """The engine has a thread of its own; the driver blocks in `get`."""

    def open(self) -> None:
        aioray.init(num_cpus=self.workers, log_to_driver=False)

    def version(self) -> str:
        return aioray.__version__

    def close(self) -> None:
        aioray.shutdown()

    def batch(self, count: int) -> float:
        start = time.perf_counter()
        values = aioray.get([add_one.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    def payload(self, count: int) -> float:
        record = tasks.record_of_1kb()
        start = time.perf_counter()
        aioray.get([hundred_ints.remote(record) for _ in range(count)])
        return time.perf_counter() - start

    def round_trips(self, count: int) -> list[float]:
        taken = []
        clock = time.perf_counter
        for i in range(count):
            start = clock()
            aioray.get(add_one.remote(i))
            taken.append(clock() - start)
        return taken

    def burns(self, count: int, iterations: int) -> float:
        start = time.perf_counter()
        aioray.get([burn_and_return.remote(iterations, i) for i in range(count)])
        return time.perf_counter() - start

    def chain(self, length: int) -> float:
        start = time.perf_counter()
        ref = add_one.remote(0)
        for _ in range(length - 1):
            ref = add_one.remote(ref)
        assert aioray.get(ref) == length
        return time.perf_counter() - start

    def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        path = self.fresh_path()
        ref = (mark_and_loop if loops else mark_and_sleep).remote(path)
        following = add_one.remote(1)
        wait_for_file(path)
        start = time.perf_counter()
        aioray.cancel(ref, force=force)
        try:
            aioray.get(ref)
        except RayError:
            seen = time.perf_counter() - start
        aioray.get(following)
        return {"seen": seen, "next": time.perf_counter() - start}
