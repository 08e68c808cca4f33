"""anyio.to_process on asyncio, at most as many processes as there are workers."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from anyio import BrokenWorkerProcess, CapacityLimiter, to_process

from benchmarks import tasks
from benchmarks.contestants.asynchronous import AsyncContestant, file_appears

if TYPE_CHECKING:
    from collections.abc import Callable


class Anyio(AsyncContestant):
    """One `run_sync` per task."""

    async def open(self) -> None:
        self.limiter = CapacityLimiter(self.workers)

    async def close(self) -> None:
        """The end of the loop is the end of its processes."""

    def version(self) -> str:
        return version("anyio")

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await to_process.run_sync(function, *args, cancellable=True, limiter=self.limiter)

    async def crash(self) -> dict[str, float]:
        path = self.fresh_path()
        try:
            await self.call(tasks.die, path)
        except BrokenWorkerProcess:
            noticed = time.monotonic() - tasks.time_of_death(path)
        await self.call(tasks.add_one, 1)
        path = self.fresh_path()
        try:
            await self.call(tasks.die_once, path)
        except BrokenWorkerProcess:
            died = await self.call(tasks.die_once, path)
        return {"noticed": noticed, "retried": time.monotonic() - died}

    async def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        del loops, force  # a kill is the only way it has
        path = self.fresh_path()
        sleeping = asyncio.create_task(self.call(tasks.mark_and_sleep, path))
        following = asyncio.create_task(self.call(tasks.add_one, 1))
        await file_appears(path)
        start = time.perf_counter()
        sleeping.cancel()
        try:
            await sleeping
        except asyncio.CancelledError:
            seen = time.perf_counter() - start
        await following
        return {"seen": seen, "next": time.perf_counter() - start}
